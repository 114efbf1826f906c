"""docs/bulk.md: its request is one that the API takes, and its answer one that it gives."""

from __future__ import annotations

import json

from api.schemas.bulk import CreatedJobs, NewJobs
from tests.project.test_handler_docs import blocks


def test_the_examples_are_a_request_and_its_answer() -> None:
    """The request of docs/bulk.md is valid, and its answer has an entry for each job, with the fields that are told."""
    request, answer = (json.loads(block) for block in blocks("bulk.md", "json"))
    assert NewJobs.model_validate_json(json.dumps(request)).mode == "each"
    assert len(answer["jobs"]) == len(request["jobs"]) == answer["accepted"] + answer["refused"]
    names = CreatedJobs.model_json_schema(mode="serialization")["$defs"]["BulkAnswer"]["properties"].keys()
    assert {name for each in answer["jobs"] for name in each} == set(names)
