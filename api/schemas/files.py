"""Uploaded files, as they are asked for and answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self
from uuid import UUID

from pydantic import Field

from api.schemas.answers import Answered
from api.schemas.fields import Limit, Name
from api.schemas.requests import Asked, Elsewhere
from tracking.uploads import File as FileRecord
from tracking.values import Instant


class NewFileQuery(Asked):
    """What a new file is called."""

    name: Name = Field(default="file", description="What it is called; queries tell its format by the end of it.")


class File(Answered):
    """An uploaded file."""

    id: UUID
    organization_id: str
    name: str
    user_id: str
    size: int = Field(description="Bytes.")
    sha256: str = Field(description="Of its content, in hexadecimal.")
    created_at: Instant
    expires_at: Instant = Field(description="It can be used until then.")

    @classmethod
    def of(cls, file: FileRecord) -> Self:
        """The file as it is shown."""
        return cls(
            id=file.id,
            organization_id=file.organization_id,
            name=file.name,
            user_id=file.user_id,
            size=file.size,
            sha256=file.sha256,
            created_at=file.created_at,
            expires_at=file.expires_at,
        )


class FilesQuery(Elsewhere):
    """Which files: of all organizations so many on a page, of one all of them."""

    limit: Limit = 50
    cursor: UUID | None = Field(default=None, description="Of all organizations: those that follow this nextCursor.")


class Files(Answered):
    """The files that the caller sees, newest first; those of all organizations in pages."""

    files: list[File]
    next_cursor: UUID | None = Field(description="Where the next page begins; null: there is none.")

    @classmethod
    def of(cls, found: Sequence[FileRecord], size: int) -> Self:
        """At most `size` of those that were found, and where the others begin."""
        shown = [File.of(each) for each in found[:size]]
        return cls(files=shown, next_cursor=shown[-1].id if len(found) > size else None)


class RemovedFile(Answered):
    """A file is gone."""

    message: str
