"""What Alembic says of a migrated database. The partitions of the history are no tables of the schema."""

from __future__ import annotations

import re
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from tracking.db import MIGRATIONS
from tracking.schema import metadata

PARTITION = re.compile(r"history_(default|past|\d{8})(?![a-z])")


def differences(connection: Connection, **options: bool) -> list[Any]:
    """What the schema describes and the database has not, or the other way round."""

    def is_of_the_schema(_object: Any, name: str | None, kind: str, *_: Any) -> bool:
        return kind != "table" or not PARTITION.match(name or "")

    options_of_alembic = {**options, "include_object": is_of_the_schema}
    found = compare_metadata(MigrationContext.configure(connection, opts=options_of_alembic), metadata)
    return list(found)


def configuration() -> Config:
    """Alembic's, as `migrate` makes it."""
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    return config
