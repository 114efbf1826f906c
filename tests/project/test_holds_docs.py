"""docs/holds.md: its table, its explanation and its example are what the platform does."""

from __future__ import annotations

import json
import re
from typing import Any, get_args
from uuid import UUID

from api.schemas.explanation import Explanation
from api.schemas.requests import RetryRequest
from tasks.handlers.export_report import ExportReport
from tests.holding import limited
from tests.live import LivePlatform
from tests.project.test_handler_docs import DOCS, blocks
from tests.tracked import Tracked
from tracking.admission import pauses
from tracking.db import Database
from tracking.models import Owner, Scope
from tracking.reads.explain import explain
from tracking.reads.reasons import Reason
from tracking.states import Hold

PAGE = "holds.md"


def test_the_example_of_an_explanation_is_what_the_api_answers(pool: Database, tracked: Tracked) -> None:
    """The example of an explanation in docs/holds.md is what the API answers, but for ids and times."""
    platform = limited(pool, tracked, 5)
    for _ in range(3):
        tracked.register_worker()
    platform.start(2)
    platform.start(3, owner=Owner("acme", "u2"))
    job = platform.submit_many(3)[-1]
    pauses.pause(tracked.connection, organization_id="acme", job_type=None, actor="u7", reason="stock-taking")
    explanation = Explanation.of(explain(tracked.connection, job.id, Scope("acme", "u1"), platform.limits))
    shown = json.loads(blocks(PAGE, "json")[0])
    assert _without_ids(explanation.model_dump(mode="json", by_alias=True)) == _without_ids(shown)


def test_the_example_of_a_retry_is_one_that_the_api_takes() -> None:
    """The payload in the example of a retry in docs/holds.md is one that its handler takes."""
    asked = RetryRequest.model_validate_json(blocks(PAGE, "json")[1])
    assert asked.payload == ExportReport.model_validate(asked.payload).model_dump(by_alias=True, exclude_unset=True)


def test_every_hold_and_every_kind_of_reason_is_told() -> None:
    """The two tables of docs/holds.md have every hold and every kind of reason."""
    told = re.findall(r"`([a-z_]+)`", "\n".join(re.findall(r"^\|([^|]*)\|", (DOCS / PAGE).read_text(), re.MULTILINE)))
    kinds = {reason.__dataclass_fields__["kind"].default for reason in get_args(Reason)}
    assert set(told) - {"hold", "kind"} == {*Hold, *kinds}


def test_the_python_example_submits_a_job_that_waits_for_another(platform: LivePlatform) -> None:
    """The Python example of docs/holds.md submits a job that waits for another one."""
    platform.run(blocks(PAGE, "python")[0])
    export, cleanup = platform.jobs()
    assert (export.hold, cleanup.hold, cleanup.depends_on) == (None, "dependency", [export.id])


def _without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_ids(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_ids(each) for each in value]
    return re.sub(r"\d{4}-\d\d-\d\d[T ][\d:.]+(Z| UTC)", "<time>", "<id>" if _is_id(value) else str(value))


def _is_id(value: Any) -> bool:
    try:
        return bool(UUID(value))
    except (ValueError, AttributeError, TypeError):
        return False
