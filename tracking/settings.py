"""Every setting of the platform, read once from the environment."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tracking.errors import ConfigurationError

SERVERS_FILE = "servers.json"
UNITS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


class Settings(BaseSettings):
    """`DATABASE_URL`, `BROKER_URL` and `CELERIAC_*`; see docs/configuration.md for each."""

    model_config = SettingsConfigDict(env_prefix="CELERIAC_", frozen=True, extra="ignore")

    database_url: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("DATABASE_URL", "database_url"),
        description="PostgreSQL 15 or newer. Empty: the embedded server of the data directory.",
    )
    broker_url: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("BROKER_URL", "broker_url"),
        description="amqp:// (RabbitMQ), redis:// or rediss:// (Redis, Valkey). Empty: the embedded Valkey.",
    )
    data_dir: Path = Field(default=Path(".celeriac"), description="Embedded servers, their secrets, exports.")
    imports: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Modules with your own handlers, comma-separated, imported by workers and API."
    )
    default_organization: str = Field(
        default="default", description="Owner of jobs sent by code that names no organization. Empty: refuse them."
    )
    default_user: str = Field(default="system", description="User of jobs sent by code that names no user.")
    adopt: bool = Field(
        default=False,
        description="Make jobs of the default organization from the messages of programs that have Celery alone.",
    )

    jwt_secret: SecretStr = Field(default=SecretStr(""), description="HS256 key, at least 32 bytes.")
    jwks_url: str = Field(default="", description="Where RS256/ES256 public keys are; excludes jwt_secret.")
    jwt_issuer: str = Field(default="celeriac", description="The `iss` that tokens must carry.")
    jwt_audience: str = Field(default="celeriac", description="The `aud` that tokens must carry.")

    reports_url: SecretStr = Field(
        default=SecretStr(""), description="Database that reports read. Empty: the tracking database."
    )
    reports_dir: Path | None = Field(default=None, description="A directory with report files (*.sql) of your own.")
    reports_timeout: int = Field(
        default=300, ge=1, le=86400, description="Seconds that a report may wait for its first or its next rows."
    )
    exports_dir: Path | None = Field(default=None, description="Where exports are kept. Default: data_dir/exports.")
    sync_dir: Path | None = Field(default=None, description="Where sync jobs copy exports to. Unset: they are refused.")
    webhooks_private: bool = Field(
        default=False, description="Let notifications go to private, loopback and link-local addresses too."
    )

    pool_size: int = Field(default=10, ge=1, le=200, description="Database connections a process keeps.")
    connect_timeout: int = Field(default=4, ge=1, le=60, description="Seconds to wait for a database connection.")
    statement_timeout: int = Field(default=4, ge=1, le=600, description="Seconds a statement of ours may take.")
    api_connections: int = Field(
        default=500,
        ge=1,
        le=100_000,
        description="Connections of an API process; one more ends an idle one, or gets 503.",
    )
    claim_patience: float = Field(
        default=60, ge=0, description="Seconds a worker tries to reach the database for a claim before it requeues."
    )
    lease_timeout: float = Field(
        default=20, ge=2, description="Seconds without a heartbeat after which a worker is dead."
    )
    heartbeat: float = Field(default=5, ge=0.1, description="Seconds between a worker's heartbeats.")
    sweep_interval: float = Field(default=0.5, ge=0.05, description="Seconds between two looks for due jobs.")
    shutdown_grace: float = Field(
        default=25, ge=0, description="Seconds after which a stopping worker hands back what it still runs."
    )
    cancel_grace: float = Field(
        default=10, ge=0, description="Seconds after which a cancelled body that will not stop is killed."
    )
    resend_after: float = Field(
        default=10, ge=1, description="Seconds after which a message that the broker has lost is sent again."
    )
    organization_limit: int = Field(
        default=5,
        ge=0,
        le=100_000,
        description="Jobs of an organization that may execute at once, unless it has its own limit. 0: any number.",
    )
    max_losses: int = Field(default=3, ge=1, description="Workers that one job may take down before it is failed.")
    retention_succeeded_days: int = Field(
        default=30, ge=1, le=36500, description="Days that a succeeded job is kept after its end."
    )
    retention_failed_days: int = Field(
        default=90, ge=1, le=36500, description="Days that a failed job is kept after its end."
    )
    retention_cancelled_days: int = Field(
        default=90, ge=1, le=36500, description="Days that a cancelled job is kept after its end."
    )
    retention: Annotated[tuple[tuple[str, timedelta], ...], NoDecode] = Field(
        default=(),
        description="Job types that are kept for another time, however they end: `export_report=7d,sync=12h`.",
    )
    log_format: Literal["text", "json"] = Field(default="text", description="How log lines look.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="The least severe log lines that are written."
    )

    @field_validator("imports", mode="before")
    @classmethod
    def split_on_commas(cls, value: object) -> object:
        """`a.b, c.d` → ("a.b", "c.d")."""
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("retention", mode="before")
    @classmethod
    def split_into_times(cls, value: object) -> object:
        """`a=7d, b=12h` → (("a", 7 days), ("b", 12 hours))."""
        if not isinstance(value, str):
            return value
        pairs = tuple(_time_of_type(part.strip()) for part in value.split(",") if part.strip())
        if len({job_type for job_type, _ in pairs}) < len(pairs):
            raise ValueError("a job type is named twice")
        return pairs

    @property
    def database(self) -> str:
        """The SQLAlchemy URL of the tracking database, with the psycopg driver named."""
        return _with_driver(self.database_url.get_secret_value() or self._embedded("database_url"))

    @property
    def broker(self) -> str:
        """The broker's URL."""
        return self.broker_url.get_secret_value() or self._embedded("broker_url")

    @property
    def reports(self) -> str:
        """The SQLAlchemy URL of the database that reports read."""
        return (
            _with_driver(self.reports_url.get_secret_value()) if self.reports_url.get_secret_value() else self.database
        )

    @property
    def exports(self) -> Path:
        """The directory of export files."""
        return self.exports_dir or self.data_dir / "exports"

    def _embedded(self, key: str) -> str:
        path = self.data_dir / SERVERS_FILE
        try:
            return str(json.loads(path.read_text())[key])
        except (FileNotFoundError, KeyError):  # no `up` runs, or one that was given this URL and we were not
            raise ConfigurationError(
                f"{key.upper()} is not set and no embedded server runs under {self.data_dir}: "
                f"set it, or start one with `celeriac up`"
            ) from None
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None


@cache
def settings() -> Settings:
    """The settings of this process. Raises ConfigurationError with one line that names the wrong one."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise ConfigurationError(f"{_variable(str(first['loc'][0]))}: {first['msg']}") from None


def _variable(field: str) -> str:
    return field.upper() if field.upper() in ("DATABASE_URL", "BROKER_URL") else f"CELERIAC_{field.upper()}"


def _time_of_type(part: str) -> tuple[str, timedelta]:
    match = re.fullmatch(r"([^=\s]+)\s*=\s*([0-9]{1,5})([smhd])", part)
    if not match or int(match[2]) == 0:
        raise ValueError(f"{part!r} is not like export_report=7d, with s, m, h or d")
    return match[1], int(match[2]) * UNITS[match[3]]


def _with_driver(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg{separator}{rest}" if scheme in ("postgres", "postgresql") else url
