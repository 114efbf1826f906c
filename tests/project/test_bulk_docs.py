"""docs/bulk.md: its requests are those that the API takes, and its answers those that it gives."""

from __future__ import annotations

import json

from api.schemas.bulk import CreatedJobs, NewJobs
from api.schemas.operations import BulkRequest, Operation
from tests.project.test_handler_docs import blocks


def test_the_examples_are_a_request_and_its_answer() -> None:
    """The request of docs/bulk.md is valid, and its answer has an entry for each job, with the fields that are told."""
    request, answer = (json.loads(block) for block in blocks("bulk.md", "json")[:2])
    assert NewJobs.model_validate_json(json.dumps(request)).mode == "each"
    assert len(answer["jobs"]) == len(request["jobs"]) == answer["accepted"] + answer["refused"]
    names = CreatedJobs.model_json_schema(mode="serialization")["$defs"]["BulkAnswer"]["properties"].keys()
    assert {name for each in answer["jobs"] for name in each} == set(names)


def test_the_example_of_an_operation_is_one() -> None:
    """The request of an operation in docs/bulk.md is valid, and its answer has the fields that are answered."""
    request, answer = blocks("bulk.md", "json")[2:4]
    asked, shown = BulkRequest.model_validate_json(request), json.loads(answer)
    assert (asked.asked["filter"], asked.action) == (shown["filter"], shown["action"])
    properties = Operation.model_json_schema(mode="serialization")["properties"]
    assert shown.keys() == properties.keys()
