"""Every setting of the platform, read once from the environment."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from email.utils import formataddr, parseaddr
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tracking.errors import ConfigurationError
from tracking.urls import check_broker, check_database, check_mail, check_web

PREFIX = "CELERIAC_"
# Variables that are no settings: tracking/crashpoints.py reads the first, tests mark their processes with the other.
READ_ELSEWHERE = frozenset({"CELERIAC_CRASH_AT", "CELERIAC_TESTS"})
# What Kubernetes and Docker's links set beside a service that is called celeriac, or celeriac-something.
OF_A_SERVICE = re.compile(
    r"CELERIAC_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
ADDRESS_OF_A_SERVICE = re.compile(r"(tcp|udp|sctp)://")  # the value of CELERIAC_PORT, which is no port number then

SERVERS_FILE = "servers.json"
QUEUES = ("default", "maintenance", "webhooks")  # that workers take jobs from unless they are told others
MOST_WAITING = 1_000_000
MOST_AT_ONCE = 100_000  # jobs of an organization, as a limit; 0 is any number
UNITS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


class Settings(BaseSettings):
    """`DATABASE_URL`, `BROKER_URL` and `CELERIAC_*`; see docs/configuration.md for each."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)

    database_url: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("DATABASE_URL", "database_url"),
        description="PostgreSQL 15 or newer. Empty: the embedded server of the data directory.",
    )
    direct_url: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("DATABASE_DIRECT_URL", "direct_url"),
        description="PostgreSQL itself, where DATABASE_URL is a pooler of transactions. Empty: there is no pooler.",
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
    jwks_url: SecretStr = Field(
        default=SecretStr(""), description="Where RS256/ES256 public keys are, instead of CELERIAC_JWT_SECRET."
    )
    jwt_issuer: str = Field(default="celeriac", description="The `iss` that tokens must carry.")
    jwt_audience: str = Field(default="celeriac", description="The `aud` that tokens must carry.")

    reports_url: SecretStr = Field(
        default=SecretStr(""), description="Database that reports read. Empty: the tracking database."
    )
    reports_dir: Path | None = Field(default=None, description="A directory with report files (*.sql) of your own.")
    reports_timeout: int = Field(
        default=300, ge=1, le=86400, description="Seconds that a report may wait for its first or its next rows."
    )
    exports_dir: Path | None = Field(
        default=None, description="Directory of exports. Empty: `exports` in the data directory."
    )
    sync_dir: Path | None = Field(default=None, description="Where sync jobs copy exports to. Unset: they are refused.")
    webhooks_private: bool = Field(
        default=False, description="Let notifications go to private, loopback and link-local addresses too."
    )
    smtp_url: SecretStr = Field(
        default=SecretStr(""),
        description="Server that takes mail: smtp://user:password@host:587 (STARTTLS) or smtps://. Empty: no mail.",
    )
    smtp_ca: Path | None = Field(
        default=None, description="File with certificates to trust for the mail server. Empty: those of the system."
    )
    smtp_from: str = Field(
        default="", validate_default=True, description="Sender of mail: jobs@example.org, or Jobs <jobs@example.org>."
    )
    smtp_domains: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Domains that mail may go to, comma-separated. Empty: any."
    )
    messages_dir: Path | None = Field(
        default=None, description="A directory with templates of messages (*.txt, *.html) of your own."
    )

    pool_size: int = Field(default=10, ge=1, le=200, description="Database connections a process keeps.")
    connect_timeout: int = Field(default=4, ge=1, le=60, description="Seconds to wait for a database connection.")
    statement_timeout: int = Field(default=4, ge=1, le=600, description="Seconds a statement of ours may take.")
    read_timeout: int = Field(default=1, ge=1, le=600, description="Seconds a list, search or count may take.")
    api_connections: int = Field(
        default=500,
        ge=1,
        le=100_000,
        description="Connections of an API process; one more ends an idle one, or gets 503.",
    )
    metrics_token: SecretStr = Field(
        default=SecretStr(""),
        description="Bearer token that /metrics asks for; then it shows organizations too. Empty: anybody may ask.",
    )
    dashboard: bool = Field(default=True, description="Serve the dashboard at the root of the API.")
    start_patience: float = Field(
        default=60, ge=0, le=86400, description="Seconds a starting worker waits for the database and the broker."
    )
    claim_patience: float = Field(
        default=60,
        ge=0,
        le=86400,
        description="Seconds a worker tries to reach the database for a claim before it requeues.",
    )
    look_ahead: int = Field(
        default=64,
        ge=1,
        le=1000,
        description="Messages a worker has for each process or thread, at most, while bodies are short. 1: none ahead.",
    )
    lease_timeout: float = Field(
        default=20,
        ge=2,
        le=86400,
        description="Seconds without a heartbeat after which a worker is dead; at least twice the heartbeat.",
    )
    heartbeat: float = Field(default=5, ge=0.1, le=3600, description="Seconds between a worker's heartbeats.")
    sweep_interval: float = Field(default=0.5, ge=0.05, le=60, description="Seconds between two looks for due jobs.")
    shutdown_grace: float = Field(
        default=25, ge=0, le=86400, description="Seconds after which a stopping worker hands back what it still runs."
    )
    cancel_grace: float = Field(
        default=10, ge=0, le=86400, description="Seconds after which a cancelled body that will not stop is killed."
    )
    resend_after: float = Field(
        default=10, ge=1, le=86400, description="Seconds after which a message that the broker has lost is sent again."
    )
    organization_limit: int = Field(
        default=5,
        ge=0,
        le=MOST_AT_ONCE,
        description="Jobs of an organization that may execute at once, unless it has its own limit. 0: any number.",
    )
    waiting_limit: int = Field(
        default=0,
        ge=0,
        le=MOST_WAITING,
        description="Jobs of an organization that may wait at once before a create is answered with 429, unless it has"
        " its own limit. 0: any number.",
    )
    max_losses: int = Field(
        default=3, ge=1, le=1000, description="Workers that one job may take down before it is failed."
    )
    tracked_timeout: float = Field(
        default=3600,
        ge=1,
        le=31_536_000,
        description="Seconds without a report after which a job whose work is done elsewhere is failed.",
    )
    retention_succeeded_days: int = Field(
        default=30, ge=1, le=36500, description="Days that a succeeded job is kept after its end."
    )
    retention_failed_days: int = Field(
        default=90, ge=1, le=36500, description="Days that a failed job is kept after its end."
    )
    retention_cancelled_days: int = Field(
        default=90, ge=1, le=36500, description="Days that a cancelled job is kept after its end."
    )
    retention_audit_days: int = Field(
        default=365, ge=1, le=36500, description="Days that an entry of the audit is kept."
    )
    retention_bulk_days: int = Field(
        default=30, ge=1, le=36500, description="Days that a bulk operation is kept after its end."
    )
    bulk_at_once: int = Field(
        default=3, ge=1, le=1000, description="Bulk operations of an organization that may be under way at once."
    )
    bulk_canary_timeout: float = Field(
        default=3600,
        ge=1,
        le=31_536_000,
        description="Seconds in which the jobs that a bulk operation retries first must end; else it stops.",
    )
    retention: Annotated[tuple[tuple[str, timedelta], ...], NoDecode] = Field(
        default=(),
        description="Job types that are kept for another time, however they end: `export_report=7d,sync=12h`.",
    )
    log_format: Literal["text", "json"] = Field(default="text", description="How log lines look.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="The least severe log lines that are written."
    )
    debug: bool = Field(default=False, description="Show the traceback of the error that ends a command.")

    @field_validator("database_url", "direct_url", "reports_url")
    @classmethod
    def check_databases(cls, value: SecretStr) -> SecretStr:
        """Empty, or the URL of a PostgreSQL."""
        return _checked(value, check_database)

    @field_validator("broker_url")
    @classmethod
    def check_broker(cls, value: SecretStr) -> SecretStr:
        """Empty, or the URL of a broker that priorities and acknowledgement are made for."""
        return _checked(value, check_broker)

    @field_validator("jwks_url")
    @classmethod
    def check_web(cls, value: SecretStr) -> SecretStr:
        """Empty, or an address on the web."""
        return _checked(value, check_web)

    @field_validator("smtp_url")
    @classmethod
    def check_mail(cls, value: SecretStr) -> SecretStr:
        """Empty, or a server that takes mail."""
        return _checked(value, check_mail)

    @field_validator("smtp_from")
    @classmethod
    def check_sender(cls, value: str, info: ValidationInfo) -> str:
        """One address, which mail needs, with or without a name."""
        name, address = parseaddr(value)
        if value and (address.count("@") != 1 or not value.isprintable() or address.startswith("@")):
            raise ValueError("it is not like jobs@example.org, or Jobs <jobs@example.org>")
        if not value and info.data.get("smtp_url") and info.data["smtp_url"].get_secret_value():
            raise ValueError("mail needs a sender; it is not set")
        return formataddr((name, address)) if value else value

    @field_validator("heartbeat")
    @classmethod
    def let_a_heartbeat_be_late(cls, value: float, info: ValidationInfo) -> float:
        """A worker whose lease runs out between two heartbeats would be taken for dead."""
        lease = info.data.get("lease_timeout")
        if lease is not None and 2 * value > lease:
            raise ValueError(f"more than half of CELERIAC_LEASE_TIMEOUT, which is {lease:g}")
        return value

    @field_validator("imports", "smtp_domains", mode="before")
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
        return check_database(self.database_url.get_secret_value() or self._embedded("database_url"))

    @property
    def direct(self) -> str:
        """The same for what needs a session: a lock that outlives a transaction, or one's own settings."""
        own = self.direct_url.get_secret_value()
        return check_database(own) if own else self.database

    @property
    def is_pooled(self) -> bool:
        """Whether `database` is a pooler of transactions."""
        return self.direct != self.database

    @property
    def broker(self) -> str:
        return self.broker_url.get_secret_value() or self._embedded("broker_url")

    @property
    def reports(self) -> str:
        """The SQLAlchemy URL of the database that reports read."""
        own = self.reports_url.get_secret_value()
        return check_database(own) if own else self.database

    @property
    def exports(self) -> Path:
        """The directory of export files."""
        return self.exports_dir or self.data_dir / "exports"

    def _embedded(self, key: str) -> str:
        path = self.data_dir / SERVERS_FILE
        try:
            return str(json.loads(path.read_text())[key])
        except (FileNotFoundError, NotADirectoryError, KeyError):  # no `up` runs, or one that was given this URL
            raise ConfigurationError(
                f"{key.upper()} is not set and no embedded server runs under {self.data_dir}: "
                f"set it, or start one with `celeriac up`"
            ) from None
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
        except (ValueError, TypeError):
            raise ConfigurationError(f"{path} is damaged: stop `celeriac up`, remove it and start again") from None


@cache
def settings() -> Settings:
    """The settings of this process. Raises ConfigurationError with one line that names the wrong one."""
    refuse_unknown(os.environ)
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        reason = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"{_variable(str(first['loc'][0]))}: {reason}") from None


def refuse_unknown(environment: Mapping[str, str]) -> None:
    """Raise ConfigurationError for a variable with our prefix that no setting reads: it would be ignored in silence."""
    known = {_variable(field) for field in Settings.model_fields} | READ_ELSEWHERE
    for name, value in sorted(environment.items()):
        if name.upper().startswith(PREFIX) and name.upper() not in known and not _is_of_a_service(name, value):
            raise ConfigurationError(f"{name} is not a setting{_suggestion(name.upper(), known)}")


def _suggestion(name: str, known: Iterable[str]) -> str:
    by_end = {
        variable.removeprefix(PREFIX): variable for variable in known
    }  # compared without the prefix, which all have in common
    close = difflib.get_close_matches(name.removeprefix(PREFIX), by_end, n=1)
    return f": did you mean {by_end[close[0]]}?" if close else ": docs/configuration.md lists them"


def _is_of_a_service(name: str, value: str) -> bool:
    if name.endswith("_PORT") and ADDRESS_OF_A_SERVICE.match(value):
        return True
    return OF_A_SERVICE.fullmatch(name) is not None


def _variable(field: str) -> str:
    return field.upper() if field.upper() in ("DATABASE_URL", "BROKER_URL") else f"{PREFIX}{field.upper()}"


def _checked(value: SecretStr, check: Callable[[str], str]) -> SecretStr:
    if value.get_secret_value():
        check(value.get_secret_value())
    return value


def span_of(text: str) -> timedelta | None:
    """The time that a text like 30m, 1h or 7d means; None for every other text, and for no time at all."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    return int(match[1]) * UNITS[match[2]] or None if match else None


def _time_of_type(part: str) -> tuple[str, timedelta]:
    match = re.fullmatch(r"([^=\s]+)\s*=\s*([0-9]{1,5}[smhd])", part)
    span = span_of(match[2]) if match else None
    if match is None or span is None:
        raise ValueError(f"{part!r} is not like export_report=7d, with s, m, h or d")
    return match[1], span
