"""Exports in a bucket: written, found, read, cleaned up, and never another organization's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from tasks import app
from tasks.exports.files import ExportNotFound, drafting, export_of
from tasks.exports.keeping import export_store, synced_bucket
from tasks.exports.stores import DRAFTS, StoreRefused
from tasks.handlers.cleanup import CleanUp, cleanup
from tasks.handlers.data_processing import ProcessData, data_processing
from tasks.handlers.sync import SyncExports, sync
from tests.bucket import Storage, storage
from tests.exporting import NUMBERS, everything_in, export
from tests.handling import add_job, call, workplace
from tests.paging import Told, source
from tracking.db import Database
from tracking.settings import Settings


@pytest.fixture(scope="module")
def running() -> Iterator[Storage]:
    """A storage for all tests of this file."""
    with storage() as server:
        yield server


@pytest.fixture
def place(database_url: str, running: Storage, tmp_path: Path) -> Iterator[Path]:
    """Where drafts are; finished files are in the bucket."""
    (tmp_path / "mirror").mkdir()
    (tmp_path / "numbers.sql").write_text(NUMBERS)
    own = {"CELERIAC_SYNC_DIR": str(tmp_path / "mirror"), "CELERIAC_REPORTS_DIR": str(tmp_path)}
    own |= {"CELERIAC_SYNC_PRIVATE": "true"}
    with workplace(database_url, tmp_path, **own, **running.environment) as exports:
        yield exports


def kept(database: Database, organization: str, content: bytes = b"id\r\n1\r\n") -> str:
    """The name of an export that a job of this organization has in the bucket."""
    job_id = add_job(database, organization)
    store = export_store(app.platform.settings, organization)
    with drafting(store, job_id, 1, "csv") as draft:
        draft.file.write(content)
        draft.finish()
        draft.publish()
    return draft.export.name


def test_an_export_is_an_object_of_its_organization(place: Path, running: Storage) -> None:
    """An export is one object below its organization's and job's name, and nothing stays on the worker."""
    result = export("numbers", rows=3)
    name = result["downloadUrl"].rpartition("/")[2]
    assert f"of/tests/exports/acme/{name[:36]}/{name}" in running.objects()
    assert everything_in(place) == []


def test_a_link_gives_the_file_with_its_name_to_anybody_for_a_minute(place: Path) -> None:
    """A signed link gives the very file, with its name and media type; it says that it ends after 60 seconds."""
    result = export("numbers", rows=3, compression="gzip")
    name = result["downloadUrl"].rpartition("/")[2]
    link = export_store(app.platform.settings, "acme").link(name, 60)
    assert link is not None
    assert httpx2.URL(link).params["X-Amz-Expires"] == "60"
    answer = httpx2.get(link, trust_env=False)
    assert len(answer.content) == result["fileSize"]
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    assert answer.headers["content-type"] == "application/gzip"


def test_a_large_file_goes_in_parts(place: Path, database: Database) -> None:
    """A file of 40 MB is sent in parts, and comes back whole."""
    content = b"0123456789abcdef" * 2_500_000
    name = kept(database, "acme", content)
    with export_store(app.platform.settings, "acme").reading(name) as path:
        assert path.read_bytes() == content
    assert everything_in(place) == []


def test_a_later_attempt_removes_the_object_of_an_earlier_one(place: Path) -> None:
    """An attempt removes what earlier attempts of its job have in the bucket, and not what others have."""
    job_id, other = uuid4(), uuid4()
    store = export_store(app.platform.settings, "acme")
    for each, attempt in ((other, 1), (job_id, 1), (job_id, 2)):
        with drafting(store, each, attempt, "csv") as draft:
            draft.publish()
    names = [stored.name for stored in store.every()]
    assert f"{job_id}-1.csv" not in names
    assert {f"{job_id}-2.csv", f"{other}-1.csv"} <= set(names)


def test_an_organization_does_not_find_anothers_object(place: Path, database: Database) -> None:
    """An organization that names another's export in the bucket does not find it, whatever it is called."""
    name = kept(database, "globex")
    for organization in ("acme", "glob", "globex/..", "..", "%2E%2E", "globex/"):
        store = export_store(app.platform.settings, organization)
        assert name not in [stored.name for stored in store.every()]
        with pytest.raises(ExportNotFound):
            export_of(database, store, organization, name)


def test_the_other_handlers_take_exports_from_the_bucket(place: Path, database: Database, tmp_path: Path) -> None:
    """data_processing reads an export of the bucket by its downloadUrl, sync copies it, cleanup sees it."""
    name = kept(database, "umbrella", b"id,city\r\n1,Bonn\r\n1,Bonn\r\n")
    payload = ProcessData(export=f"/v1/exports/{name}", unique=("id",), format="json")
    result = call(data_processing, payload, "umbrella")
    assert (result["source"], result["recordCount"], result["duplicateCount"]) == (name, 1, 1)
    made = result["downloadUrl"].rpartition("/")[2]
    with export_store(app.platform.settings, "umbrella").reading(made) as path:
        assert json.loads(path.read_text()) == [{"id": "1", "city": "Bonn"}]
    assert call(sync, SyncExports(exports=(name,)), "umbrella")["copied"] == 1
    assert everything_in(tmp_path / "mirror") == [f"umbrella/{name}"]
    assert call(cleanup, CleanUp(), "umbrella")["keptExports"] == 1  # that of data_processing has no job here
    assert list((place / DRAFTS).iterdir()) == []


@pytest.mark.parametrize("organization", ["acme", "globex/..", "Ümläut & Co"])
def test_sync_pushes_a_collection_to_the_bucket(organization: str, place: Path, running: Storage) -> None:
    """A push writes a collection to one object of its organization, in place of the one before, and leaves no draft."""
    told = [Told(json.dumps([{"id": 1, "name": "Köln"}])), Told(json.dumps([{"id": 1, "name": "Bonn"}]))]
    before = set(running.objects())
    with source(lambda _: told.pop(0)) as server:
        pull = {"collection": "cities", "url": server.url, "key": ["id"]}
        for name in ("Köln", "Bonn"):
            payload = {"pull": pull, "push": {"to": "bucket", "format": "csv"}}
            pushed = call(sync, SyncExports.model_validate(payload), organization)["pushed"]
            content = f'"id","name"\r\n"1","{name}"\r\n'.encode()
            (key,) = set(running.objects()) - before
            with synced_bucket(app.platform.settings, organization).reading("cities.csv") as path:
                assert path.read_bytes() == content
            assert (pushed["to"], pushed["name"], pushed["size"]) == ("bucket", "cities.csv", len(content))
            assert pushed["sha256"] == hashlib.sha256(content).hexdigest()
    assert key.startswith("of/tests/synced/")
    assert key.endswith("/cities.csv")
    assert everything_in(place) == []


def test_a_push_to_a_bucket_that_is_away_is_tried_again(
    place: Path, running: Storage, database_url: str, tmp_path: Path
) -> None:
    """A push to a storage that does not answer is an outage, and leaves no draft; what was pulled is kept."""
    away = {**running.environment, "CELERIAC_EXPORTS_ENDPOINT": "http://127.0.0.1:1", "CELERIAC_SYNC_PRIVATE": "true"}
    with source(lambda _: Told('[{"id": 1}]')) as server, workplace(database_url, tmp_path, **away) as exports:
        pull = {"collection": "cities", "url": server.url, "key": ["id"]}
        with pytest.raises(ConnectionError, match="cannot be used now"):
            call(sync, SyncExports.model_validate({"pull": pull, "push": {"to": "bucket"}}), "initech")
        assert everything_in(exports) == []
    assert call(sync, SyncExports.model_validate({"push": {"to": "bucket", "collection": "cities"}}), "initech")


def test_a_bucket_that_is_away_is_an_outage(place: Path) -> None:
    """A storage that does not answer is an outage, which is tried again; no address is told."""
    away = Settings(exports_url="s3://somewhere", exports_endpoint="http://127.0.0.1:1", exports_dir=place)
    with pytest.raises(ConnectionError, match="cannot be used now") as told:
        export_store(away, "acme").find("x")
    assert "127.0.0.1" not in str(told.value)


def test_a_bucket_that_is_not_there_is_no_outage(place: Path, running: Storage) -> None:
    """A bucket that does not exist is told as what it is, and not tried again."""
    endpoint = f"http://127.0.0.1:{running.port}"
    wrong = Settings(exports_url="s3://no-such-bucket", exports_endpoint=endpoint, exports_dir=place)
    with (
        pytest.raises(StoreRefused, match="no such bucket"),
        drafting(export_store(wrong, "a"), uuid4(), 1, "csv") as draft,
    ):
        draft.publish()


@pytest.mark.parametrize(
    "url", ["s3:/x", "gs://bucket", "s3://", "s3://a", "s3://UPPER/x", "s3://bucket/../x", "s3://b b"]
)
def test_a_wrong_bucket_stops_the_start(url: str) -> None:
    """A wrong CELERIAC_EXPORTS_URL is refused when the settings are read."""
    with pytest.raises(ValueError, match="exports_url"):
        Settings(exports_url=url)
