"""The reference of the API at /docs: drawn from the description, by files of our own."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import httpx2
import pytest

from api.reference import assets
from tests.api.calling import PLAIN, Api, problem

# What the package swagger-ui-dist 5.35.0 holds, by SHA-512.
PUBLISHED = {
    "swagger-ui-bundle.js": (
        "6ab35ff2d3a346f47763ac646ab6e52e372e599ef1f968d5dcd9f26edda0f487"
        "8ec0d2d76026877b3ec163c0b8f08592b062441bcf17d6415496cda37ab07ccd"
    ),
    "swagger-ui.css": (
        "dff5928d7a2658981d041ceaf137110d57d8b20255e3733325edbc63d6c1a1d2"
        "0e3e35e801284b3bf201d0c1a439df03f073d806e0bf28a8221abbeba72a4ead"
    ),
}


@pytest.fixture
def stranger(api: Api) -> Any:
    with httpx2.Client(verify=PLAIN, base_url=api.url, timeout=30) as client:
        yield client


def test_every_file_of_the_reference_is_our_own(stranger: httpx2.Client) -> None:
    """The page names no other site, its policy allows none, and each file that it names is there, of its kind."""
    page = stranger.get("/docs")
    assert (page.status_code, "http" in page.text) == (200, False)
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    named = re.findall(r'(?:href|src)="(docs/[^"]+)"', page.text)
    assert len(named) == 4
    for address in named:
        answer = stranger.get(f"/{address}")
        kind = "text/javascript" if address.endswith(".js") else "text/css"
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, kind), address


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_what_is_not_ours_is_as_it_was_published(stranger: httpx2.Client, name: str) -> None:
    """Packed for those that can unpack it and plain for the others, a vendored file is the one of its package."""
    packed = stranger.get(f"/docs/{name}", headers={"Accept-Encoding": "gzip"})
    plain = stranger.get(f"/docs/{name}", headers={"Accept-Encoding": "identity"})
    assert (packed.headers["content-encoding"], "content-encoding" in plain.headers) == ("gzip", False)
    assert packed.content == plain.content
    assert hashlib.sha512(plain.content).hexdigest() == PUBLISHED[name]


def test_the_reference_has_no_other_files(stranger: httpx2.Client) -> None:
    """A file that the reference does not have is a problem like any other, and its licence is one that it has."""
    problem(stranger.get("/docs/other.js"), 404, "not_found")
    problem(stranger.get("/docs/..%2F__init__.py"), 404, "not_found")
    assert "Apache License" in stranger.get("/docs/swagger-ui.LICENSE").text
    assert set(assets()) == {*PUBLISHED, "reference.js", "reference.css", "swagger-ui.LICENSE"}
