"""A form whose fields nobody has touched changes nothing: what Chromium sends is the payload of before."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Browser
from pydantic import BaseModel

from api.dashboard.sheets import filled, typed
from api.dashboard.site import templates

FORM = """{% import "fields.html" as fields %}<form>{{ fields.payload(sheet, sheet.said, {}) }}</form>"""
# As a browser encodes a form (HTML, constructing the entry list, and application/x-www-form-urlencoded serializing).
SENT = """page => {
    document.body.innerHTML = "";
    document.body.append(...new DOMParser().parseFromString(page, "text/html").body.children);
    const encoded = value => value.replace(/\\r\\n|\\r|\\n/g, "\\r\\n");
    return [...new FormData(document.forms[0])].map(([name, value]) => [name, encoded(value)]);
}"""


class Inner(BaseModel):
    """An object in it."""

    street: str
    lines: list[str] = []


class Anything(BaseModel):
    """A payload with each kind of field."""

    text: str
    note: str | None = None
    whole: int = 1
    real: float = 0.5
    sure: bool | None = None
    at: datetime | None = None
    day: date | None = None
    names: list[str] = []
    numbers: list[float] = []
    inner: Inner | None = None
    either: str | int | None = None


# Texts as people and programs have them: of several lines, with spaces at their ends, and empty.
TEXTS = st.text(st.sampled_from("ab \n\r\t\u2028é\u202e<&\"'"), max_size=8)
WHOLE = st.integers(-(2**53), 2**53)
REAL = st.floats(-1e15, 1e15, allow_nan=False)
TIMES = st.sampled_from(
    ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.123456+05:30", "2026-01-31T12:00:00.5Z", "2026-01-31T12:00:00-01:00"]
)
PAYLOADS = st.fixed_dictionaries(
    {"text": TEXTS},
    optional={
        "note": TEXTS | st.none(),
        "whole": WHOLE,
        "real": REAL,
        "sure": st.booleans() | st.none(),
        "at": TIMES,
        "day": st.dates().map(str),
        "names": st.lists(TEXTS, max_size=3),
        "numbers": st.lists(REAL, max_size=3),
        "inner": st.fixed_dictionaries({"street": TEXTS}, optional={"lines": st.lists(TEXTS, max_size=2)}),
        "either": TEXTS | WHOLE,
    },
)


def taken(payload: Mapping[str, Any]) -> Any:
    """As its handler reads it."""
    return Anything.model_validate(payload).model_dump(mode="json")


@given(PAYLOADS)
def test_what_nobody_has_touched_is_as_it_was(browser: Browser, payload: dict[str, Any]) -> None:
    """Whatever a payload holds, its form in a browser sends the same one, in fields or, where they cannot, as JSON."""
    page = browser.contexts[0].pages[0] if browser.contexts else browser.new_context().new_page()
    schema = Anything.model_json_schema()
    sheet = filled(schema, payload, taken)
    shown = templates().from_string(FORM).render(sheet=sheet)
    sent = typed(schema, dict(page.evaluate(SENT, shown)))
    assert taken(sent.payload) == taken(payload)
