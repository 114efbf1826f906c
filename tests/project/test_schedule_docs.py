"""docs/schedules.md: its example is a schedule, and its tables are those of the API."""

from __future__ import annotations

import json
import re

from api.routes.schedules import router
from api.schemas.schedules import NewSchedule
from tests.project.test_handler_docs import DOCS, blocks
from tracking.schedules.times import SHORTHANDS
from tracking.schedules.values import Became, CatchUp, Overlap, Why

TEXT = (DOCS / "schedules.md").read_text()


def test_the_examples_are_schedules() -> None:
    """Both schedules of docs/schedules.md, of the command and of the block, are valid."""
    command = re.search(r"-d '(.*?)'", TEXT, re.DOTALL)
    assert command is not None
    for example in (command[1], *blocks("schedules.md", "json")):
        assert NewSchedule.model_validate_json(json.dumps(json.loads(example))).cron == "30 2 * * *"


def test_every_field_and_every_word_is_told() -> None:
    """Every field of a schedule, and every word for catching up, overlap and outcomes, stands in docs/schedules.md."""
    fields = {field.alias for field in NewSchedule.model_fields.values()}
    words = {*CatchUp, *Overlap, *Became, *Why, *SHORTHANDS} - {"@midnight", "@annually"}
    assert {word for word in {*fields, *words} if f"`{word}`" not in TEXT} == set()


def test_every_route_is_told() -> None:
    """Every address of the API for schedules stands in docs/schedules.md."""
    ends = {getattr(route, "path", "").removeprefix("/v1/schedules").removeprefix("/{id}") for route in router.routes}
    assert {end for end in ends if end not in TEXT} == set()
