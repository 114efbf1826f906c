"""The client's requests about uploaded files."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from celeriac.client.answers import Answer
from celeriac.client.calling import Flow, Give, Steps, call, listing
from celeriac.client.transport import Requests
from tracking.values import Instant

PIECE = 1024 * 1024  # bytes that are sent at once


class File(Answer):
    """An uploaded file: `size` in bytes, `sha256` in hexadecimal; `organization_id` None: an older server's."""

    id: UUID
    organization_id: str | None = None
    name: str
    user_id: str
    size: int
    sha256: str
    created_at: Instant
    expires_at: Instant


class Files(Answer):
    """The files that the caller sees, newest first."""

    files: tuple[File, ...]


class FileRequests(Requests):
    """Requests about the files that jobs read."""

    @call
    def upload(self, path: Path, name: str | None = None) -> Steps[File]:
        """Keep a file for jobs to read, under the name that it has here unless another is given. Not repeated.

        "body_too_large" beyond the server's bound, "too_many_files" when the organization has as many as it may.
        """
        with path.open("rb") as file:
            pieces = iter(lambda: file.read(PIECE), b"")
            return (yield from self._ask(File, "POST", "/v1/files", params={"name": name or path.name}, content=pieces))

    @listing
    def files(self) -> Flow[File]:
        """The files that have not expired, newest first."""
        for file in (yield from self._get(Files, "/v1/files")).files:
            yield Give(file)

    @call
    def file(self, file_id: UUID) -> Steps[File]:
        return self._get(File, f"/v1/files/{file_id}")

    @call
    def remove_file(self, file_id: UUID) -> Steps[None]:
        """Forget a file; a job that reads it meanwhile goes on."""
        return self._tell("DELETE", f"/v1/files/{file_id}")
