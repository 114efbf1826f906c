"""Settings come from the environment, secrets are strong and private, logs keep what jobs were given to themselves."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import httpcore2
import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st
from kombu import Connection
from pydantic import SecretStr
from sqlalchemy import make_url

from api.secrets import signing_secret
from tracking.errors import ConfigurationError
from tracking.logs import configure_logging, keep_jobs_private
from tracking.settings import SERVERS_FILE, Settings, settings
from tracking.urls import check_broker, check_database, check_web

STRONG = "kY7uR2vQ9xW4zT1nB6mC3sD8fG5hJ0lP"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """No setting but a data directory that does not exist yet."""
    for name in ("DATABASE_URL", "BROKER_URL", "CELERIAC_JWT_SECRET", "CELERIAC_JWKS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CELERIAC_DATA_DIR", str(tmp_path / "data"))
    settings.cache_clear()
    yield tmp_path / "data"
    settings.cache_clear()


def publish(directory: Path, **servers: str) -> None:
    """What a running `up` leaves in its data directory."""
    directory.mkdir(exist_ok=True)
    (directory / SERVERS_FILE).write_text(json.dumps(servers))


def test_database_url_names_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain postgresql:// URL becomes one that names psycopg."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://u@h/d")
    assert settings().database == "postgresql+psycopg://u@h/d"


def test_embedded_servers_are_found_in_the_data_directory(environment: Path) -> None:
    """Without URLs the settings find the servers of a running `up`."""
    publish(environment, database_url="postgresql://celeriac@/celeriac?host=%2Frun", broker_url="redis://:p@h:1/0")
    assert (settings().database, settings().broker) == (
        "postgresql+psycopg://celeriac@/celeriac?host=%2Frun",
        "redis://:p@h:1/0",
    )


def test_url_goes_before_the_embedded_server(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL in the environment goes before the embedded server."""
    publish(environment, broker_url="redis://embedded")
    monkeypatch.setenv("BROKER_URL", "amqp://guest@h//")
    assert settings().broker == "amqp://guest@h//"


def test_no_server_is_one_line_that_says_what_to_do() -> None:
    """Without a URL and a running `up` the error names the variable and the command."""
    with pytest.raises(ConfigurationError, match=r"^DATABASE_URL is not set .*`celeriac up`$"):
        _ = settings().database


def test_server_that_up_does_not_embed_is_not_set(environment: Path) -> None:
    """A server that `up` was given by a URL is not found in its data directory."""
    publish(environment, broker_url="redis://h")
    with pytest.raises(ConfigurationError, match=r"^DATABASE_URL is not set"):
        _ = settings().database


def test_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that is out of range is one line that names its variable."""
    monkeypatch.setenv("CELERIAC_POOL_SIZE", "0")
    with pytest.raises(ConfigurationError, match=r"\ACELERIAC_POOL_SIZE: [^\n]*\Z"):
        settings()


SECRET = "hunter2"


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("DATABASE_URL", f"mysql://root:{SECRET}@h/d", "mysql:// is not supported; supported: postgresql://, "),
        ("DATABASE_URL", f"postgresql+asyncpg://u:{SECRET}@h/d", "postgresql+asyncpg:// is not supported"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@h:0/d", "its port is not a number from 1 to 65535"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@h:65536/d", "its port is not a number from 1 to 65535"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@h:5432,i:x/d", "of several servers each is a name and a port"),
        ("DATABASE_URL", f"postgresql://u:p@{SECRET}@h/d", "its host contains an @: must special characters"),
        ("DATABASE_URL", f"postgresql:/u:{SECRET}@h/d", "it is not like postgresql://user:password@host:5432/name"),
        ("DATABASE_URL", f"host=h user=u password={SECRET}", "it contains a space"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@h/d\n", "it contains a space, a line break"),
        ("CELERIAC_REPORTS_URL", "sqlite://", "sqlite:// is not supported"),
        ("BROKER_URL", f"kafka://u:{SECRET}@h", "kafka:// is not supported; supported: amqp://, amqps://, redis://"),
        ("BROKER_URL", f"pyamqp://u:{SECRET}@h", "pyamqp:// is not supported"),
        ("BROKER_URL", f"amqp://u:{SECRET}@h:99999//", "cannot be read: is its port a number from 1 to 65535"),
        ("BROKER_URL", f"amqp://u:{SECRET}#@h//", "cannot be read: is its port a number from 1 to 65535, and must"),
        ("BROKER_URL", f"redis://:{SECRET}@h/zero", "comes the number of a database"),
        ("BROKER_URL", f"amqp://u:{SECRET}@h//;sqs://u:{SECRET}@h", "sqs:// is not supported"),
        ("BROKER_URL", "localhost:5672", "it is not like amqp://user:password@host:5672//"),
        ("CELERIAC_JWKS_URL", f"ftp://u:{SECRET}@h/keys", "ftp:// is not supported; supported: https://, http://"),
        ("CELERIAC_JWKS_URL", f"keys.example/?key={SECRET}", "it is not like https://host/path"),
        ("CELERIAC_JWKS_URL", f"https:///{SECRET}", "it names no host"),
        ("CELERIAC_JWKS_URL", f"https://u:{SECRET}@[h/keys", "it cannot be read: is its port a number"),
        ("CELERIAC_JWKS_URL", f"https://u:{SECRET}\u2100@h/keys", "it cannot be read: is its port a number"),
        ("CELERIAC_HEARTBEAT", "inf", "Input should be less than or equal to 3600"),
        ("CELERIAC_HEARTBEAT", "nan", "Input should be "),
        ("CELERIAC_HEARTBEAT", "11", "more than half of CELERIAC_LEASE_TIMEOUT, which is 20"),
        ("CELERIAC_LEASE_TIMEOUT", "1e999", "Input should be less than or equal to 86400"),
        ("CELERIAC_LOG_FORMAT", "xml", "Input should be 'text' or 'json'"),
    ],
)
def test_a_wrong_value_is_one_line_without_its_secret(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, reason: str
) -> None:
    """A wrong setting is one line with its variable and what is allowed, and without a secret."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as refused:
        settings()
    assert str(refused.value).startswith(f"{variable}: ")
    assert reason in str(refused.value)
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "postgres://u:p%40ss@[::1]:5433/d?sslmode=require"),
        ("DATABASE_URL", "postgresql+psycopg://u@/d?host=%2Frun&port=5432"),
        ("DATABASE_URL", "postgresql://u:p/w@h/d"),
        ("BROKER_URL", "amqp://u:p@a:5672/v;amqp://u:p@b:5672/v"),
        ("BROKER_URL", "amqps://h"),
        ("BROKER_URL", "rediss://u:p%23@h:6380/15?ssl_cert_reqs=required"),
        ("BROKER_URL", "redis+socket:///run/redis.sock"),
        ("CELERIAC_JWKS_URL", "https://u:p@keys.example:8443/.well-known/jwks.json?key=1"),
        ("celeriac_pool_size", "3"),
        ("CELERIAC_CRASH_AT", "claim.granted:0.02"),
        ("CELERIAC_SERVICE_HOST", "10.0.0.1"),
        ("CELERIAC_SERVICE_PORT_HTTP", "8000"),
        ("CELERIAC_PORT", "tcp://10.0.0.1:8000"),
        ("CELERIAC_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ("CELERIAC_API_PORT", "tcp://10.0.0.1:8000"),
    ],
)
def test_what_is_allowed_is_taken(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """Every kind of address that the settings allow is accepted."""
    monkeypatch.setenv(variable, value)
    settings()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CELERIAC_POOL_SIZ", "CELERIAC_POOL_SIZE"),
        ("CELERIAC_POOLSIZE", "CELERIAC_POOL_SIZE"),
        ("celeriac_hartbeat", "CELERIAC_HEARTBEAT"),
        ("CELERIAC_DATABASE_URL", "DATABASE_URL"),
        ("CELERIAC_BROKER_URL", "BROKER_URL"),
        ("CELERIAC_JWT_KEY_SECRET", "CELERIAC_JWT_SECRET"),
    ],
)
def test_a_slip_in_the_name_of_a_setting_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, meant: str) -> None:
    """A misspelt CELERIAC_ variable is refused with what was meant."""
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigurationError, match=rf"^{name} is not a setting: did you mean {meant}\?$"):
        settings()


@pytest.mark.parametrize("name", ["CELERIAC_", "CELERIAC_XYZZY", "CELERIAC_API_PORT", "CELERIAC_PORT"])
def test_a_variable_that_nothing_reads_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """An unknown CELERIAC_ variable is refused, also when nothing like it exists."""
    monkeypatch.setenv(name, "8000")
    with pytest.raises(ConfigurationError, match=rf"^{name} is not a setting: "):
        settings()


def test_a_damaged_list_of_servers_is_one_line(environment: Path) -> None:
    """A damaged servers.json is one line."""
    environment.mkdir()
    (environment / SERVERS_FILE).write_text('{"database_url": "postgr')
    with pytest.raises(ConfigurationError, match=r"servers\.json is damaged: [^\n]*$"):
        _ = settings().database


URLS = st.one_of(
    st.text(max_size=40),
    st.builds(
        "{}://{}:hunter2{}@{}:{}/{}".format,
        st.sampled_from(
            ["postgresql", "postgres", "postgresql+psycopg", "amqp", "redis", "rediss", "https", "mysql", ""]
        ),
        st.text(max_size=5),
        st.text(max_size=5),
        st.text(max_size=8),
        st.one_of(st.integers(-1, 10**6), st.text(max_size=3)),
        st.text(max_size=8),
    ),
)


@given(url=URLS)
@example(url="HTTP://\xa1")
def test_a_url_is_taken_whole_or_refused_in_one_line(url: str) -> None:
    """A wrong URL is refused in one line that shows nothing of it but its scheme."""
    for check, read in ((check_database, make_url), (check_broker, Connection), (check_web, httpcore2.URL)):
        refusal = _refusal(check, url)
        if refusal is None:
            read(check(url))
        else:
            assert "\n" not in refusal
            assert "hunter2" not in refusal


def _refusal(check: Callable[[str], str], url: str) -> str | None:
    try:
        check(url)
    except ValueError as error:
        return str(error)
    return None


def test_urls_are_not_shown() -> None:
    """The representation of the settings holds no password."""
    urls = SecretStr("postgresql://u:hunter2@h/d"), SecretStr("https://u:hunter2@h/keys")
    assert "hunter2" not in repr(Settings(database_url=urls[0], jwks_url=urls[1]))


def test_secret_is_made_once(environment: Path) -> None:
    """Without a secret the embedded default makes one, and finds it again."""
    assert signing_secret(settings()) == signing_secret(settings()) == (environment / "jwt_secret").read_text()


def test_secret_file_is_private(environment: Path) -> None:
    """Only its owner can read the file of the secret, and enter its directory."""
    signing_secret(settings())
    assert [oct(path.stat().st_mode)[-3:] for path in (environment, *environment.iterdir())] == ["700", "600"]


def test_secret_file_that_others_can_read_is_refused(environment: Path) -> None:
    """A secret whose file others can read is refused."""
    signing_secret(settings())
    (environment / "jwt_secret").chmod(0o644)
    with pytest.raises(ConfigurationError, match="can be read by others"):
        signing_secret(settings())


def test_secret_file_that_is_no_text_is_refused(environment: Path) -> None:
    """A secret whose file is damaged is refused in words that say how to mend it."""
    signing_secret(settings())
    (environment / "jwt_secret").write_bytes(b"\xff\x00" * 30)
    with pytest.raises(ConfigurationError, match="is no UTF-8: delete it"):
        signing_secret(settings())


def test_secret_is_required_in_production() -> None:
    """With DATABASE_URL no secret is made."""
    with pytest.raises(ConfigurationError, match=r"CELERIAC_JWT_SECRET .* is needed"):
        signing_secret(Settings(database_url=SecretStr("postgresql://h/d")))


def test_strong_secret_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret of 32 random characters is accepted."""
    monkeypatch.setenv("CELERIAC_JWT_SECRET", STRONG)
    assert signing_secret(settings()) == STRONG


@pytest.mark.parametrize(
    "weak",
    [
        STRONG[:31],
        "a" * 64,
        "A-String-Secret-At-Least-256-Bits-Long",
        "please-change-me-please-change-me-now",
        "your-secret-key-goes-right-here-1234567",
    ],
)
def test_weak_secret_is_refused(monkeypatch: pytest.MonkeyPatch, weak: str) -> None:
    """Short, monotonous and published secrets stop the start, and the message does not repeat them."""
    monkeypatch.setenv("CELERIAC_JWT_SECRET", weak)
    with pytest.raises(ConfigurationError, match=r"^CELERIAC_JWT_SECRET: ") as refusal:
        signing_secret(settings())
    assert weak not in str(refusal.value)


@pytest.fixture
def logs() -> Iterator[None]:
    """Logging as it was, afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level = handlers, level


@pytest.mark.usefixtures("logs")
def test_library_lines_are_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    """A line of the standard library's logging is one JSON object with level, logger and time."""
    configure_logging(Settings(log_format="json"))
    logging.getLogger("uvicorn.error").warning("port %d", 80)
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["level"], line["logger"], line["timestamp"][-1]) == (
        "port 80",
        "warning",
        "uvicorn.error",
        "Z",
    )


@pytest.mark.usefixtures("logs")
def test_client_cannot_forge_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A line break within a log message does not begin a line of its own."""
    configure_logging(Settings())
    logging.getLogger("any").error("name\nFORGED \x1b[31m")
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.usefixtures("logs")
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_our_lines_look_like_the_libraries(
    capsys: pytest.CaptureFixture[str], log_format: Literal["text", "json"]
) -> None:
    """Log lines of structlog and of the standard library have one form."""
    configure_logging(Settings(log_format=log_format))
    structlog.get_logger("any").warning("name\nFORGED", value=1)
    with structlog.contextvars.bound_contextvars(value=1):
        logging.getLogger("any").warning("name\nFORGED")
    ours, theirs = (re.sub(r"[-0-9]+T[0-9:.]+Z", "", line) for line in capsys.readouterr().err.splitlines())
    assert sorted(ours) == sorted(theirs)


@pytest.mark.usefixtures("logs")
def test_a_broken_log_does_not_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log line that cannot be written is lost and raises nothing."""
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    configure_logging(Settings())
    stream.close()
    structlog.get_logger("any").warning("lost")


@pytest.mark.usefixtures("logs")
def test_debug_does_not_open_the_brokers_frames(capsys: pytest.CaptureFixture[str]) -> None:
    """At DEBUG whole messages of the broker's libraries do not appear."""
    configure_logging(Settings(log_level="DEBUG"))
    logging.getLogger("amqp").debug("canary")
    logging.getLogger("tasks").debug("ours")
    assert "ours" in (shown := capsys.readouterr().err)
    assert "canary" not in shown


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("Task %(name)s succeeded: %(return_value)s", {"name": "t", "return_value": "'canary'"}),
        ("Task %(name)s raised unexpected: %(exc)s", {"name": "t", "exc": "ValueError('canary')", "args": "canary"}),
        ("Received invalid task message: %s\n\nThe full contents of the message body was:\n%s", ("canary", "canary")),
    ],
)
def test_celery_lines_hold_nothing_of_the_job(message: str, arguments: object) -> None:
    """Celery's log lines hold no result, no exception's text and no message body."""
    with pytest.raises(ValueError, match="canary") as raised:
        int("canary")
    information = (raised.type, raised.value, raised.tb)
    record = logging.LogRecord("celery.app.trace", logging.ERROR, "", 0, message, (arguments,), information)
    if isinstance(arguments, tuple):
        record.args = arguments
    keep_jobs_private(record)
    assert "canary" not in logging.Formatter().format(record)


def test_celery_lines_keep_the_type_of_an_error() -> None:
    """Celery's log lines keep the type of an exception."""
    arguments = {"exc": "ValueError('canary')"}
    record = logging.LogRecord("celery.app.trace", logging.ERROR, "", 0, "raised %(exc)s", (arguments,), None)
    keep_jobs_private(record)
    assert record.getMessage() == "raised ValueError"
