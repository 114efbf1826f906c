"""GET /v1/exports/{name} when exports are in a bucket: a link after the checks, and only then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import httpx2
import pytest

from celeriac.client import Client
from tasks.exports.files import drafting
from tasks.exports.keeping import export_store
from tests.api.calling import Api, Caller, problem
from tests.api.conftest import serving
from tests.bucket import Storage, storage
from tracking.settings import Settings


@pytest.fixture(scope="module")
def bucket() -> Iterator[Storage]:
    with storage() as running:
        yield running


@pytest.fixture(scope="module")
def api(
    api_database_url: str, api_broker_url: str, bucket: Storage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    """A running API whose exports are in the bucket."""
    directory = tmp_path_factory.mktemp("bucket")
    with serving(api_database_url, api_broker_url, directory, **bucket.environment) as running:
        yield running


def exported(caller: Caller, bucket: Storage, directory: Path) -> str:
    """The name of an export that a job of this caller has made."""
    job_id = uuid4()
    own = {name.removeprefix("CELERIAC_").lower(): value for name, value in bucket.environment.items()}
    settings = Settings(exports_dir=directory, **{name: own[name] for name in ("exports_url", "exports_endpoint")})  # type: ignore[arg-type]
    with drafting(export_store(settings, caller.organization), job_id, 1, "csv") as draft:
        draft.file.write(b"a,b\r\n")
        draft.finish()
        draft.publish()
    caller.job("succeeded", id=job_id, job_type="guarded", result={"downloadUrl": draft.export.url})
    return draft.export.name


def test_who_may_have_a_file_gets_a_link_for_a_minute(caller: Caller, bucket: Storage, tmp_path: Path) -> None:
    """The answer leads to the bucket, where the file is given without a token."""
    name = exported(caller, bucket, tmp_path)
    answer = caller.get(f"/v1/exports/{name}")
    assert answer.status_code == 307
    assert httpx2.URL(answer.headers["location"]).params["X-Amz-Expires"] == "60"
    assert httpx2.get(answer.headers["location"], trust_env=False).content == b"a,b\r\n"


def test_who_may_not_have_it_gets_no_link(caller: Caller, bucket: Storage, tmp_path: Path) -> None:
    """Others, whoever lacks the permission, and names of files that are gone get no link."""
    name = exported(caller, bucket, tmp_path)
    poor = caller.but(permissions=("jobs.view_jobs",))
    problem(poor.get(f"/v1/exports/{name}"), 403, "permission_missing")
    for other in (caller.but(user="u2"), caller.but(organization=f"{caller.organization}-2")):
        problem(other.get(f"/v1/exports/{name}"), 404, "export_not_found")
    gone = f"{caller.job('succeeded', job_type='guarded').id}-1.csv"
    problem(caller.get(f"/v1/exports/{gone}"), 404, "export_not_found")


def test_the_client_follows_the_link_without_its_token(caller: Caller, bucket: Storage, tmp_path: Path) -> None:
    """The Python client downloads a file from the bucket as one from the API."""
    name = exported(caller, bucket, tmp_path)
    token = caller.headers["Authorization"].removeprefix("Bearer ")
    with Client(caller.api.url, token) as client:
        assert client.download(f"/v1/exports/{name}", tmp_path / "x.csv") == 5
    assert (tmp_path / "x.csv").read_bytes() == b"a,b\r\n"
    assert UUID(name[:36])


def test_a_storage_that_is_away_is_said_to_be(api_database_url: str, api_broker_url: str, tmp_path: Path) -> None:
    """While the storage does not answer, a download is 503 with Retry-After, and the rest of the API works."""
    away = {"CELERIAC_EXPORTS_URL": "s3://nowhere", "CELERIAC_EXPORTS_ENDPOINT": "http://127.0.0.1:1"}
    with serving(
        api_database_url, api_broker_url, tmp_path, AWS_ACCESS_KEY_ID="k", AWS_SECRET_ACCESS_KEY="s", **away
    ) as api:
        caller = api.caller()
        job_id = uuid4()
        caller.job("succeeded", id=job_id, job_type="guarded", result={"downloadUrl": f"/v1/exports/{job_id}-1.csv"})
        answer = caller.get(f"/v1/exports/{job_id}-1.csv")
        problem(answer, 503, "storage_unavailable")
        assert answer.headers["Retry-After"]
        assert caller.get(f"/v1/jobs/{job_id}").status_code == 200
