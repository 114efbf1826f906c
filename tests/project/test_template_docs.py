"""docs/templates.md: its examples are a template, a use of it and a schedule, and its tables are those of the API."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from uuid import uuid4

from api.routes.templates import router
from api.schemas.schedules import NewSchedule
from api.schemas.templates import NewTemplate, TemplateJob
from tasks.handlers.export_report import ExportReport
from tasks.templating import payload_of
from tests.project.test_handler_docs import DOCS, blocks
from tracking.templates import Template

TEXT = (DOCS / "templates.md").read_text()


def test_the_examples_fit_together() -> None:
    """The template of docs/templates.md and its use are a payload of its handler, and its schedule has its times."""
    shown, scheduled = blocks("templates.md", "json")
    new = NewTemplate.model_validate_json(shown)
    now = datetime.now(UTC)
    template = Template(uuid4(), "acme", new.name, new.job_type, 1, 1, new.content, "u1", now, now)
    command = re.search(r"-d '(.*?)'", TEXT, re.DOTALL)
    assert command is not None
    payload = payload_of(template, TemplateJob.model_validate_json(command[1]).payload)
    assert payload["filters"] == {"status": "failed", "projectId": "p1"}
    assert ExportReport.model_validate(payload).format == "xlsx"
    assert NewSchedule.model_validate_json(scheduled).plan(template).timezone == "Europe/Berlin"


def test_every_field_and_every_route_is_told() -> None:
    """Every field of a template and every address of the API for templates stands in docs/templates.md."""
    fields = {str(field.alias) for field in NewTemplate.model_fields.values()}
    assert {field for field in fields if f"`{field}`" not in TEXT} == set()
    paths = {getattr(route, "path", "") for route in router.routes}
    assert {path for path in paths if path not in TEXT} == set()
    assert json.loads(blocks("templates.md", "json")[0])["name"] in TEXT
