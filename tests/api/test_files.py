"""/v1/files: what people upload for their jobs, bounded in size, number and life, and nobody else's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.api.calling import Api, Caller, problem
from tests.api.conftest import serving


@pytest.fixture(scope="module")
def api(api_database_url: str, api_broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A running API that takes three files of a megabyte from an organization."""
    bounds = {"CELERIAC_FILES_SIZE": "1", "CELERIAC_FILES_COUNT": "3", "CELERIAC_FILES_DAYS": "2"}
    with serving(api_database_url, api_broker_url, tmp_path_factory.mktemp("files"), **bounds) as running:
        yield running


def upload(caller: Caller, content: Any, name: str | None = "x.csv", **headers: str) -> httpx2.Response:
    """The answer to an upload."""
    query = {} if name is None else {"name": name}
    return caller.api.client.post("/v1/files", params=query, content=content, headers={**caller.headers, **headers})


def stored(caller: Caller) -> list[Path]:
    """All files in the store of the caller's organization."""
    root = caller.api.exports / ".uploads"
    return sorted(path for path in root.rglob("*") if path.is_file() and caller.organization in str(path))


def test_an_upload_is_kept_as_it_is(caller: Caller) -> None:
    """Any bytes are kept as they are, named by an id, with their size and checksum, until they expire."""
    content = bytes(range(256)) * 1000
    answer = upload(caller, content, "Größe/../x.csv", **{"Content-Type": "text/csv"})
    made = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (201, f"/v1/files/{made['id']}")
    assert (made["size"], made["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert (made["name"], made["userId"]) == ("Größe/../x.csv", caller.user)
    assert [path.name for path in stored(caller)] == [made["id"]]
    assert stored(caller)[0].read_bytes() == content
    assert stored(caller)[0].stat().st_mode & 0o777 == 0o600
    assert caller.get(f"/v1/files/{made['id']}").json() == made
    assert caller.get("/v1/files").json() == {"files": [made], "nextCursor": None}


@pytest.mark.parametrize("content", [b"", b"x" * 1024 * 1024])
def test_an_empty_file_and_the_largest_one_are_kept(caller: Caller, content: bytes) -> None:
    """A file may be empty, and as large as the bound."""
    assert upload(caller, content).json()["size"] == len(content)


def test_a_file_that_is_too_large_is_refused_and_leaves_nothing(caller: Caller) -> None:
    """One byte too many is 413, also without a length that was told before; nothing stays on the disk."""
    for content in (b"x" * (1024 * 1024 + 1), (b"x" * 65536 for _ in range(17))):
        problem(upload(caller, content), 413, "body_too_large")
    assert stored(caller) == []
    assert caller.get("/v1/files").json() == {"files": [], "nextCursor": None}


def test_a_form_is_not_kept_for_a_file(caller: Caller) -> None:
    """Whoever sends a form, as curl -F does, is told so: its boundaries would be read as rows of the file."""
    form = {"file": ("x.csv", b"a,b\n1,2\n", "text/csv")}
    refused = caller.api.client.post("/v1/files", params={"name": "x.csv"}, files=form, headers=caller.headers)
    assert "not a form" in problem(refused, 422, "invalid_request")["detail"]
    assert stored(caller) == []


def test_an_organization_has_so_many_files(caller: Caller) -> None:
    """One file too many is refused and leaves nothing, until one is removed."""
    ids = [upload(caller, b"x").json()["id"] for _ in range(3)]
    problem(upload(caller, b"y"), 409, "too_many_files")
    assert len(stored(caller)) == 3
    assert caller.delete(f"/v1/files/{ids[0]}").json() == {"message": "File removed successfully"}
    problem(caller.get(f"/v1/files/{ids[0]}"), 404, "file_not_found")
    assert upload(caller, b"z").status_code == 201
    assert len(stored(caller)) == 3


def test_nobody_else_sees_or_removes_a_file(caller: Caller) -> None:
    """A file is not there for another user or organization; jobs.view_all shows those of the organization."""
    made = upload(caller, b"x").json()["id"]
    for other in (caller.but(user="u2"), caller.but(organization=f"{caller.organization}-2")):
        problem(other.get(f"/v1/files/{made}"), 404, "file_not_found")
        problem(other.delete(f"/v1/files/{made}"), 404, "file_not_found")
        assert other.get("/v1/files").json() == {"files": [], "nextCursor": None}
    wide = caller.but(user="u2", permissions=(*caller.permissions, "jobs.view_all"))
    assert [each["id"] for each in wide.get("/v1/files").json()["files"]] == [made]


def test_without_the_permission_nothing_is_read(caller: Caller) -> None:
    """Who may not process data may not upload either."""
    poor = caller.but(permissions=("jobs.create_jobs", "jobs.view_jobs"))
    problem(upload(poor, b"x" * 1000), 403, "permission_missing")
    assert stored(caller) == []


def test_a_client_that_hangs_up_leaves_nothing(caller: Caller) -> None:
    """An upload that breaks off leaves neither a row nor a file."""

    def broken() -> Iterator[bytes]:
        yield b"x" * 1000
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        upload(caller, broken())
    assert caller.get("/v1/files").json() == {"files": [], "nextCursor": None}


def test_an_unknown_file_is_404(caller: Caller) -> None:
    """An id that was never given is 404, and what is no id 422."""
    problem(caller.get(f"/v1/files/{uuid4()}"), 404, "file_not_found")
    problem(caller.get("/v1/files/x"), 422, "invalid_request")
