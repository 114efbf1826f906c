"""GET /v1/exports/{name}: the files of the caller's own exports, and nothing else."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tests.api.calling import Caller, problem


def exported(caller: Caller, *, suffix: str = "csv", attempt: int = 1, content: bytes = b"a,b\r\n") -> str:
    """The name of an export that a job of this caller has made."""
    job_id = uuid4()
    name = f"{job_id}-{attempt}.{suffix}"
    caller.job("succeeded", id=job_id, job_type="guarded", result={"downloadUrl": f"/v1/exports/{name}"})
    write(caller, name, content)
    return name


def write(caller: Caller, name: str, content: bytes = b"x") -> Path:
    """A file in the directory of exports."""
    caller.api.exports.mkdir(parents=True, exist_ok=True)
    path = caller.api.exports / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("suffix", "media_type"),
    [
        ("csv", "text/csv; charset=utf-8"),
        ("json", "application/json"),
        ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ],
)
def test_an_export_is_downloaded_as_a_file_of_its_kind(caller: Caller, suffix: str, media_type: str) -> None:
    """A download is an attachment with its file name and media type."""
    name = exported(caller, suffix=suffix, content=b"\x00\xff" * 100_000)
    response = caller.get(f"/v1/exports/{name}")
    assert (response.status_code, response.content) == (200, b"\x00\xff" * 100_000)
    assert response.headers["content-type"] == media_type
    assert response.headers["content-disposition"] == f'attachment; filename="{name}"'
    assert response.headers["x-content-type-options"] == "nosniff"


def test_the_result_of_a_job_leads_to_its_file(caller: Caller) -> None:
    """The downloadUrl of a job's result is the address of its file."""
    name = exported(caller)
    url = caller.get(f"/v1/jobs/{UUID(name[:36])}").json()["result"]["downloadUrl"]
    assert caller.get(url).content == b"a,b\r\n"


def test_what_is_not_there_not_theirs_or_not_a_result_looks_the_same(caller: Caller) -> None:
    """Missing, foreign and overtaken exports are all the same 404."""
    gone = exported(caller)
    (caller.api.exports / gone).unlink()
    overtaken = write(caller, exported(caller).replace("-1.csv", "-2.csv")).name
    running = write(caller, f"{caller.job('running', job_type='guarded').id}-1.csv").name
    orphan = write(caller, f"{uuid4()}-1.csv").name
    others = [exported(caller.but(user="u2")), exported(caller.but(organization=f"{caller.organization}-2"))]
    bodies = [
        problem(caller.get(f"/v1/exports/{name}"), 404, "export_not_found")
        for name in (f"{uuid4()}-1.csv", gone, overtaken, running, orphan, *others)
    ]
    assert all(body == bodies[0] for body in bodies)


@pytest.mark.parametrize(
    "name",
    ["x.csv", ".drafts", "passwd", "{}-1.exe", "{}-1.csv.bak", "{}-\N{ARABIC-INDIC DIGIT ONE}.csv", "{}-1.csv%0a"],
)
def test_only_names_that_the_server_makes_lead_to_files(caller: Caller, name: str) -> None:
    """A name that the server does not make is 404, even if such a file exists."""
    name = name.format(exported(caller)[:36])
    if "%" not in name and name != ".drafts":
        write(caller, name)
    problem(caller.get(f"/v1/exports/{name}"), 404, "export_not_found")


def test_a_link_is_not_followed(caller: Caller, tmp_path: Path) -> None:
    """A symbolic link in the directory of exports is not followed, wherever it leads."""
    name = exported(caller)
    path = caller.api.exports / name
    path.unlink()
    (tmp_path / "secret").write_text("secret")
    path.symlink_to(tmp_path / "secret")
    problem(caller.get(f"/v1/exports/{name}"), 404, "export_not_found")
