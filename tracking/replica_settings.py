"""The settings of a replica that lists are read from: a part of those of settings.py."""

from __future__ import annotations

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

from tracking.urls import check_database


class ReplicaSettings(BaseSettings):
    """`DATABASE_REPLICA_URL` and `CELERIAC_REPLICA_LAG`."""

    replica_url: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("DATABASE_REPLICA_URL", "replica_url"),
        description="A standby that lists, searches and counts of the API read. Empty: they read DATABASE_URL.",
    )
    replica_lag: float = Field(
        default=5, ge=2, le=600, description="Seconds that it may be behind before they read DATABASE_URL instead."
    )

    @field_validator("replica_url")
    @classmethod
    def check_replica(cls, value: SecretStr) -> SecretStr:
        """Empty, or the URL of a PostgreSQL."""
        if value.get_secret_value():
            check_database(value.get_secret_value())
        return value

    @property
    def replica(self) -> str | None:
        """The SQLAlchemy URL of the replica; None: there is none."""
        own = self.replica_url.get_secret_value()
        return check_database(own) if own else None
