"""Every setting of the platform, read once from the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import timedelta
from email.utils import formataddr, parseaddr
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from tracking.environment import FILE, PREFIX, from_files, refuse_unknown
from tracking.errors import ConfigurationError
from tracking.oidc_settings import OidcSettings
from tracking.replica_settings import ReplicaSettings
from tracking.spans import time_of_type
from tracking.urls import check_broker, check_bucket, check_database, check_mail, check_network, check_origin, check_web

SERVERS_FILE, IMPORTS = "servers.json", "imports"  # what `up` runs, and with which handlers
QUEUES = ("default", "maintenance", "webhooks")  # that workers take jobs from unless they are told others
Port = Annotated[int, Field(ge=1, le=65535)]
SERVERS = {"broker_url": check_broker, "jwks_url": check_web, "smtp_url": check_mail}  # what checks their URLs
MOST_WAITING, MOST_AT_ONCE = 1_000_000, 100_000  # jobs of an organization, as limits; 0 is any number


class Settings(OidcSettings, ReplicaSettings):
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
        description="amqp(s)://: RabbitMQ; redis(s)://, sentinel://: Redis or Valkey. Empty: the embedded Valkey.",
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
    jwt_former_secret: SecretStr = Field(
        default=SecretStr(""),
        description="A second HS256 key that is taken, while one replaces another.",
    )
    jwks_url: SecretStr = Field(
        default=SecretStr(""), description="Where RS256/ES256 public keys are, instead of CELERIAC_JWT_SECRET."
    )
    jwt_issuer: str = Field(default="celeriac", description="The `iss` that tokens must carry.")
    jwt_audience: str = Field(default="celeriac", description="The `aud` that tokens must carry.")
    token_life: int = Field(
        default=86_400, ge=60, le=31_622_400, description="Seconds from `iat` to `exp` that a token may have."
    )

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
    exports_url: str = Field(
        default="", description="Bucket that keeps exports and uploads: s3://bucket/prefix. Empty: directories."
    )
    exports_endpoint: str = Field(
        default="", description="Address of an S3-compatible storage. Empty: Amazon's, or AWS_ENDPOINT_URL."
    )
    query_dir: Path | None = Field(
        default=None, description="Files that queries may read, each organization's in a directory of its own."
    )
    query_memory: int = Field(default=512, ge=128, le=1_000_000, description="MB of memory that a query may take.")
    query_disk: int = Field(default=4096, ge=64, le=10_000_000, description="MB of disk that a query may take.")
    query_timeout: int = Field(default=600, ge=1, le=86400, description="Seconds that a query may take.")
    files_size: int = Field(default=256, ge=1, le=100_000, description="MB that an uploaded file may have.")
    files_count: int = Field(
        default=100, ge=0, le=100_000, description="Uploaded files that an organization may have. 0: none."
    )
    files_days: int = Field(default=7, ge=1, le=3650, description="Days that an uploaded file is kept.")
    sync_dir: Path | None = Field(default=None, description="Where sync jobs copy exports to. Unset: they are refused.")
    sync_private: bool = Field(default=False, description="Let sync jobs pull from private and local addresses too.")
    webhooks_private: bool = Field(default=False, description="Let notifications go to private and local addresses.")
    webhooks_ports: Annotated[tuple[Port, ...], NoDecode] = Field(
        default=(443,), description="Ports of notifications, comma-separated; with CELERIAC_WEBHOOKS_PRIVATE any."
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
    api_address_connections: int = Field(
        default=100, ge=0, le=100_000, description="Connections of one address in an API process. 0: any number."
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        validation_alias=AliasChoices("CELERIAC_TRUSTED_PROXIES", "FORWARDED_ALLOW_IPS", "trusted_proxies"),
        description="Proxies before the API that say for whom they ask: addresses, networks. Empty: this machine.",
    )
    api_rate: float = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="Requests a second of an organization, by API process. 0: any number.",
    )
    api_user_rate: float = Field(
        default=0, ge=0, le=1_000_000, description="Requests a second of a user, by API process. 0: any number."
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Sites whose pages may call the API: https://app.example.org, ... Empty: none."
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
    traces: bool = Field(
        default=False, description="Send OpenTelemetry's spans to a collector; OTEL_EXPORTER_OTLP_ENDPOINT says where."
    )
    error_hook: str = Field(
        default="", description="A function that is called with each attempt that failed: package.module:function."
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

    @field_validator("broker_url", "jwks_url", "smtp_url")
    @classmethod
    def check_server(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        """Empty, or the URL of a server of its kind."""
        return _checked(value, SERVERS[str(info.field_name)])

    @field_validator("cors_origins", "trusted_proxies")
    @classmethod
    def check_each(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        """Each a site as a browser sends it, or an address or a network."""
        for each in value:
            (check_origin if info.field_name == "cors_origins" else check_network)(each)
        return value

    @field_validator("exports_url", "exports_endpoint")
    @classmethod
    def check_storage(cls, value: str, info: ValidationInfo) -> str:
        """Empty, or a bucket, or an address on the web."""
        check = check_bucket if info.field_name == "exports_url" else check_web
        return _checked(SecretStr(value), check).get_secret_value()

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

    @field_validator("imports", "smtp_domains", "webhooks_ports", "cors_origins", "trusted_proxies", mode="before")
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
        pairs = tuple(time_of_type(part.strip()) for part in value.split(",") if part.strip())
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

    @property
    def uploads(self) -> Path:
        """The directory of uploaded files: within that of exports, which API and workers share."""
        return self.exports / ".uploads"

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
    variables = {_variable(field): field for field in Settings.model_fields}
    secrets = [each for each, field in variables.items() if Settings.model_fields[field].annotation is SecretStr]
    refuse_unknown(os.environ, {*variables, *(f"{each}{FILE}" for each in secrets)})
    given: dict[str, Any] = {
        each if Settings.model_fields[variables[each]].validation_alias else variables[each]: value
        for each, value in from_files(os.environ, secrets).items()
    }
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        reason = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"{_variable(str(first['loc'][0]))}: {reason}") from None


def _variable(name: str) -> str:
    """What sets a field, by the name of the field or what Pydantic calls it in an error."""
    field = Settings.model_fields.get(name)
    if field is not None and isinstance(field.validation_alias, AliasChoices):
        return str(field.validation_alias.choices[0])
    return name if name.isupper() else f"{PREFIX}{name.upper()}"


def _checked(value: SecretStr, check: Callable[[str], str]) -> SecretStr:
    if value.get_secret_value():
        check(value.get_secret_value())
    return value
