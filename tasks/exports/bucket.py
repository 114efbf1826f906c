"""A bucket of an S3-compatible storage, as a store of files."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from tasks.exports.stores import DRAFTS, Stored, StoreRefused, directory_name, private_directory, private_file
from tracking.settings import Settings

CONNECT_PATIENCE = timedelta(seconds=5)
PATIENCE = timedelta(minutes=5)  # for one request, of which a part of a large file is one
RETRIES = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}
JOB = 36  # characters of a job's id, with which the name of an export begins


class Bucket:
    """The objects of one organization below `kind` in the bucket of CELERIAC_EXPORTS_URL.

    With `per_job`, what one job has made lies together: a name begins with the id of its job.
    """

    def __init__(self, settings: Settings, kind: str, organization: str, *, per_job: bool) -> None:
        place = urlsplit(settings.exports_url)
        self._per_job = per_job
        self._drafts = settings.exports / DRAFTS
        prefix = "/".join(filter(None, (place.path.strip("/"), kind, directory_name(organization))))
        self._bucket = _bucket(place.netloc, prefix, settings.exports_endpoint)

    @property
    def drafts(self) -> Path:
        return private_directory(self.drafts_place)

    @property
    def drafts_place(self) -> Path:
        return self._drafts

    def keep(self, source: Path, name: str, media_type: str) -> None:
        named = {"Content-Disposition": f'attachment; filename="{name}"', "Content-Type": media_type}
        with _reached():
            try:
                obstore.put(self._bucket, self._key(name), source, attributes=named)
            except FileNotFoundError:
                raise StoreRefused("there is no such bucket as CELERIAC_EXPORTS_URL names") from None
        source.unlink()

    def find(self, name: str) -> Stored | None:
        with _reached():
            try:
                return _stored(obstore.head(self._bucket, self._key(name)))
            except FileNotFoundError:
                return None

    def every(self, beginning: str = "") -> Iterator[Stored]:
        job = beginning[:JOB] if self._per_job and len(beginning) >= JOB else None
        with _reached():
            listed = [_stored(each) for each in obstore.list(self._bucket, prefix=job).collect()]
        return iter(sorted((s for s in listed if s.name.startswith(beginning)), key=lambda stored: stored.name))

    def remove(self, name: str) -> None:
        with _reached():
            obstore.delete(self._bucket, self._key(name))

    @contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        directory = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=self.drafts))
        try:
            with _reached(), private_file(directory / name) as file:
                for chunk in obstore.get(self._bucket, self._key(name)):
                    file.write(chunk)
            yield directory / name
        finally:
            shutil.rmtree(directory, ignore_errors=True)  # a cleanup job removes what is left

    def link(self, name: str, seconds: int) -> str | None:
        with _reached():
            return obstore.sign(self._bucket, "GET", self._key(name), timedelta(seconds=seconds))

    def _key(self, name: str) -> str:
        return f"{name[:JOB]}/{name}" if self._per_job else name


def _stored(found: Any) -> Stored:
    return Stored(found["path"].rpartition("/")[2], found["size"], found["last_modified"].timestamp())


def _bucket(name: str, prefix: str, endpoint: str) -> S3Store:
    """The credentials are those of the environment or the machine, as Amazon's own programs find them."""
    own: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
    options = {"connect_timeout": CONNECT_PATIENCE, "timeout": PATIENCE, "allow_http": endpoint.startswith("http://")}
    return S3Store(name, prefix=prefix, client_options=options, retry_config=RETRIES, **own)  # type: ignore[arg-type]


@contextmanager
def _reached() -> Iterator[None]:
    """Errors without the address and the answer of the storage: they are shown to people."""
    try:
        yield
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise StoreRefused("the bucket of CELERIAC_EXPORTS_URL refuses our credentials") from error
    except BaseError as error:
        raise ConnectionError("the bucket of CELERIAC_EXPORTS_URL cannot be used now") from error
