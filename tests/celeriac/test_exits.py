"""Whatever goes wrong with a command is an exit status that a supervisor can trust, and one line."""

from __future__ import annotations

import logging
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from kombu import Connection
from sqlalchemy import create_engine, make_url, text

from celeriac.commands.cli import command
from celeriac.commands.program import STATUSES
from tests.commands import PROGRAM, Ended, python, run
from tests.live import Platform, eventually
from tests.servers import Servers, new_database
from tracking.exits import Exit
from tracking.settings import settings

SECRET = "hunter2"

COMMANDS = {
    "up": ("up", "--port", "0"),
    "api": ("api", "--port", "0"),
    "worker": ("worker", "--concurrency", "1"),
    "migrate": ("migrate",),
    "dead-letters": ("dead-letters",),
    "verify": ("verify",),
    "prune": ("prune",),
    "limit": ("limit", "acme", "5"),
    "pause": ("pause", "--job-type", "export_report"),
    "resume": ("resume", "--organization", "acme"),
    "token": ("token", "--organization", "acme", "--user", "u1"),
}
LASTING = ("api", "up", "worker")  # started as a process of its own
BRIEF = tuple(sorted(COMMANDS.keys() - LASTING - {"token"}))  # and with a database
WITHOUT_SETTINGS = {"demo"}  # it runs a platform of its own, whatever the caller's settings are

WRONG_SETTINGS = {
    "unknown": ("CELERIAC_POOL_SIZ", "3", "CELERIAC_POOL_SIZ is not a setting: did you mean CELERIAC_POOL_SIZE?"),
    "value": ("CELERIAC_HEARTBEAT", "often", "CELERIAC_HEARTBEAT: Input should be a valid number"),
    "dialect": ("DATABASE_URL", f"mysql://root:{SECRET}@127.0.0.1/d", "DATABASE_URL: mysql:// is not supported"),
    "driver": ("DATABASE_URL", f"postgresql+psycopg2://u:{SECRET}@h/d", "DATABASE_URL: postgresql+psycopg2:// is"),
    "port": ("DATABASE_URL", f"postgresql://u:{SECRET}@h:99999/d", "DATABASE_URL: its port is not a number"),
    "broker": ("BROKER_URL", f"kafka://u:{SECRET}@h", "BROKER_URL: kafka:// is not supported; supported: amqp://"),
}


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody waits for a server, nothing of this session is changed, and logging is as it was afterwards."""
    monkeypatch.setenv("CELERIAC_START_PATIENCE", "0")
    monkeypatch.setenv("CELERIAC_DATA_DIR", str(tmp_path / "data"))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    settings.cache_clear()
    yield
    settings.cache_clear()
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level = handlers, level


@pytest.fixture(scope="module")
def closed() -> Iterator[int]:
    """A port that nobody listens on."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield int(unused.getsockname()[1])


@pytest.fixture(scope="module")
def read_only(servers: Servers) -> Iterator[str]:
    """A database with the newest schema in which nothing can be changed."""
    with new_database(servers) as url:
        owner = make_url(url).set(username="postgres")
        engine = create_engine(owner, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"ALTER DATABASE {owner.database} SET default_transaction_read_only = on"))
        engine.dispose()
        yield url


def ended(name: str, *more: str) -> Ended:
    """How a command ends: in this process when it starts no other."""
    arguments = (*COMMANDS.get(name, (name,)), *more)
    if name in LASTING:
        return run(*arguments)
    return failing(*arguments)


def failing(*arguments: str) -> Ended:
    """How a command ends that starts nothing."""
    result = CliRunner().invoke(command, list(arguments))
    return Ended(result.exit_code, result.stdout, result.stderr)


def check(end: Ended, status: Exit, words: str) -> None:
    """It ended so: the one line is the last on stderr, and there is neither a traceback nor the secret."""
    faults = [line for line in end.err.splitlines() if line.startswith("celeriac: ") or "worker.failed" in line]
    assert (end.status, faults) == (status, [end.last]), end
    assert words in end.last
    assert "Traceback" not in end.out + end.err
    assert SECRET not in end.out + end.err


def test_every_command_is_in_the_table() -> None:
    """A new one has to say how it ends."""
    assert COMMANDS.keys() | WITHOUT_SETTINGS == command.commands.keys()


@pytest.mark.parametrize("fault", WRONG_SETTINGS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_setting_is_status_2(name: str, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one line that names the variable."""
    variable, value, line = WRONG_SETTINGS[fault]
    monkeypatch.setenv(variable, value)
    end = failing(*COMMANDS[name])
    check(end, Exit.MISUSED, line)
    assert end.err.count("\n") == 1


@pytest.mark.parametrize("wrong", [*WRONG_SETTINGS, "handlers"])
def test_celerys_own_command_tells_a_wrong_setting_alike(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line and status 2 from `celery -A tasks worker`, not the traceback of a fault."""
    handlers = ("CELERIAC_IMPORTS", "nowhere", "CELERIAC_IMPORTS: there is no module 'nowhere'")
    variable, value, line = {**WRONG_SETTINGS, "handlers": handlers}[wrong]
    monkeypatch.setenv(variable, value)
    end = python(str(Path(PROGRAM).with_name("celery")), "-A", "tasks", "worker")
    check(end, Exit.MISUSED, line)
    assert end.err.count("\n") == 1


@pytest.mark.parametrize("name", [*COMMANDS, *WITHOUT_SETTINGS])
def test_a_wrong_argument_is_status_2(name: str) -> None:
    """And one line that names the command's help."""
    end = failing(name, "--nonsense")
    check(end, Exit.MISUSED, "No such option")
    assert end.err.endswith(f"{name} --help`.\n")
    assert end.err.count("\n") == 1


@pytest.mark.parametrize("name", [*BRIEF, "worker", "up"])
def test_a_database_that_is_away_is_status_3(name: str, closed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API is not here: it starts, and answers 503 until the database is there."""
    monkeypatch.setenv("DATABASE_URL", f"postgresql://u:{SECRET}@127.0.0.1:{closed}/d")
    check(ended(name), Exit.AWAY, "the database is away: ")


@pytest.mark.parametrize("name", [*BRIEF, "worker", "api"])
def test_a_database_that_does_not_exist_is_status_2(
    name: str, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing comes back by waiting."""
    monkeypatch.setenv("CELERIAC_START_PATIENCE", "60")
    monkeypatch.setenv("DATABASE_URL", servers.database("nobody_made_it"))
    check(ended(name), Exit.MISUSED, 'database "nobody_made_it" does not exist')


@pytest.mark.parametrize("name", sorted({*BRIEF, "worker", "api"} - {"migrate"}))
def test_a_database_without_a_schema_is_status_2(name: str, servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that makes one."""
    monkeypatch.setenv("DATABASE_URL", servers.database("postgres"))
    check(ended(name), Exit.MISUSED, "run `celeriac migrate`")


def test_a_database_with_an_older_schema_is_status_2(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first statement that misses something."""
    engine = create_engine(database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0005'"))
    engine.dispose()
    monkeypatch.setenv("DATABASE_URL", database_url)
    check(ended("api"), Exit.MISUSED, "the schema is not the newest (0005, not 0")


@pytest.mark.parametrize("name", ["limit", "pause", "worker"])
def test_a_read_only_database_is_status_3_for_what_writes(
    name: str, read_only: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As during a fail-over."""
    monkeypatch.setenv("DATABASE_URL", read_only)
    check(ended(name), Exit.AWAY, "it takes no writes")


@pytest.mark.parametrize("arguments", [("verify",), ("dead-letters",), ("limit", "acme"), ("migrate",)])
def test_what_only_reads_is_content_with_a_read_only_database(
    arguments: tuple[str, ...], read_only: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-by can be asked."""
    monkeypatch.setenv("DATABASE_URL", read_only)
    assert failing(*arguments).status == Exit.FINE


@pytest.mark.parametrize("scheme", ["redis://:", "amqp://guest:"])
def test_a_broker_that_is_away_is_status_3(scheme: str, closed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a worker needs it: the rows of the others wait."""
    monkeypatch.setenv("BROKER_URL", f"{scheme}{SECRET}@127.0.0.1:{closed}/")
    check(ended("worker"), Exit.AWAY, "the broker is away: ")


def test_a_broker_that_refuses_us_is_status_2(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong password, at once."""
    wrong = make_url(broker_url).set(password=SECRET).render_as_string(hide_password=False)
    monkeypatch.setenv("CELERIAC_START_PATIENCE", "60")
    monkeypatch.setenv("BROKER_URL", wrong)
    check(ended("worker"), Exit.MISUSED, "BROKER_URL: the broker refuses it: ")


def test_no_directory_gets_a_secret_from_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`celeriac token` makes none: nobody would check tokens with it."""
    for name in ("DATABASE_URL", "BROKER_URL", "CELERIAC_JWT_SECRET"):
        monkeypatch.delenv(name)
    check(ended("token"), Exit.MISUSED, "there is no secret to sign with: set CELERIAC_JWT_SECRET")
    assert list(tmp_path.iterdir()) == []


def test_tokens_of_an_issuer_come_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API would refuse ours."""
    monkeypatch.setenv("CELERIAC_JWKS_URL", "https://keys.invalid/keys")
    check(ended("token"), Exit.MISUSED, "get a token from that issuer")


def test_a_permission_that_nothing_asks_for_is_warned_of() -> None:
    """The token is made all the same: another installation may ask for it."""
    end = ended("token", "--permission", "jobs.veiw_jobs", "--permission", "reports.export_reports")
    first, second = end.err.splitlines()
    assert (end.status, end.out.count(".")) == (Exit.FINE, 2)
    assert first == (
        "celeriac: warning: nothing asks for the permission 'jobs.veiw_jobs': did you mean 'jobs.view_jobs'?"
    )
    assert second.startswith("celeriac: known permissions: ")
    assert "reports.export_reports" in second


@pytest.mark.parametrize(
    "options", [("--expires", "367d"), ("--organization", ""), ("--user", "x" * 300), ("--expires", "-1h")]
)
def test_claims_that_make_no_sense_are_refused(options: tuple[str, str]) -> None:
    """The API would refuse them too, or believe them for a lifetime."""
    check(ended("token", *options), Exit.MISUSED, options[0])


BROKEN = {
    "missing": (None, "there is no module 'handlers_of_mine'"),
    "raising": ("x = 1\nraise ValueError('no such disk')\n", "ValueError: no such disk (handlers_of_mine.py, line 2)"),
    "misspelt": ("import jsn\n", "No module named 'jsn' (handlers_of_mine.py, line 1)"),
    "leaving": ("import sys\nsys.exit()\n", "SystemExit"),
    "syntax": ("def\n", "SyntaxError: invalid syntax (handlers_of_mine.py, line 1)"),
}


@pytest.fixture
def handlers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of a module with handlers, in the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CELERIAC_IMPORTS", "handlers_of_mine")
    return tmp_path / "handlers_of_mine.py"


@pytest.mark.parametrize(("name", "fault"), [*(("worker", fault) for fault in BROKEN), ("api", "raising")])
def test_handlers_that_cannot_be_imported_are_status_2(name: str, fault: str, handlers: Path) -> None:
    """The line names the module, and the place in it."""
    code, line = BROKEN[fault]
    if code is not None:
        handlers.write_text(code)
    check(ended(name), Exit.MISUSED, line)


def test_debug_shows_where_an_error_comes_from(handlers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For whoever wrote the handlers."""
    handlers.write_text("raise ValueError('no such disk')\n")
    monkeypatch.setenv("CELERIAC_DEBUG", "true")
    end = ended("worker")
    assert end.status == Exit.MISUSED
    assert "Traceback" in end.err


END_OF_CONSUMER = """
from celery import bootsteps
from tasks import app

class Broken(bootsteps.StartStopStep):
    requires = {"celery.worker.consumer.tasks:Tasks"}

    def start(self, parent):
        raise RuntimeError("its end")

app.steps["consumer"].add(Broken)
"""
DYING_POOL = """
import os
from celery.signals import worker_process_init
worker_process_init.connect(lambda **_: os._exit(3), weak=False)
"""
NO_FORK = """
import os
from celery.signals import worker_init

def no_fork():
    raise BlockingIOError(11, "Resource temporarily unavailable")

worker_init.connect(lambda **_: setattr(os, "fork", no_fork), weak=False)
"""
FATAL = {
    "consumer": (END_OF_CONSUMER, "RuntimeError: a fault of its own"),
    "pool": (DYING_POOL, "it cannot start its processes"),
    "fork": (NO_FORK, "Resource temporarily unavailable"),
}


@pytest.mark.parametrize("fault", FATAL)
def test_a_worker_that_cannot_go_on_is_status_1(
    fault: str, handlers: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisor that reads 0 leaves it at that."""
    code, line = FATAL[fault]
    handlers.write_text(code)
    monkeypatch.setenv("DATABASE_URL", database_url)
    end = ended("worker")
    assert end.status == Exit.FAILED, end
    assert [text for text in end.err.splitlines() if "worker.failed" in text and line in text], end.err


def test_a_queue_that_was_made_otherwise_is_status_2(
    rabbitmq_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a Celery without priorities, on the same virtual host."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("BROKER_URL", rabbitmq_url)
    with Connection(rabbitmq_url) as connection:
        channel: Any = connection.default_channel
        channel.queue_delete("maintenance")
        channel.queue_declare("maintenance", durable=True, auto_delete=False)
        try:
            end = ended("worker", "--queues", "maintenance")
        finally:
            channel.queue_delete("maintenance")
    check(end, Exit.MISUSED, "BROKER_URL: a queue was made otherwise")


def test_two_workers_of_one_name_live_side_by_side(platform: Platform) -> None:
    """The second one takes a name of its own, so that neither ends the other nor hears what is meant for it."""
    quick = ("--without-mingle", "--without-gossip", "-l", "INFO", "-c", "1")
    names = []
    for number, options in enumerate([(), ("-n", "mine@here"), ("-n", "mine@here")]):
        platform.start("celery", "-A", "tasks", "worker", *quick, *options, log=f"{number}.log")
        names.append(_name_of_ready_worker(platform, f"{number}.log"))
    assert [re.sub("-[0-9a-f]{6}@.*", "-*", name) for name in names] == ["celery-*", "mine@here", "mine-*"]
    asked = "from tasks import app; print(*sorted(name for reply in app.control.ping(timeout=2) for name in reply))"
    eventually(lambda: platform.run(asked).split() == sorted(names), what="an answer of all")


def _name_of_ready_worker(platform: Platform, log: str) -> str:
    found = eventually(lambda: re.search(r"(\S+@\S+) ready", platform.log(log)), within=40, what="a worker")
    return str(found[1])


@pytest.mark.parametrize(
    ("name", "number"), [("worker", signal.SIGINT), ("api", signal.SIGINT), ("api", signal.SIGTERM)]
)
def test_what_was_told_to_stop_is_status_0(
    name: str, number: signal.Signals, tmp_path: Path, database_url: str, servers: Servers
) -> None:
    """Whoever asked for it sees that it was done; SIGTERM of a worker is in test_shutdown.py."""
    ready = {"worker": " ready", "api": "Application startup complete"}[name]
    with Platform(database_url, servers.valkey_url, tmp_path) as platform:
        process = platform.start("celeriac", *COMMANDS[name], log="it.log")
        eventually(lambda: ready in platform.log("it.log"), within=40, what="its start")
        process.send_signal(number)
        assert process.wait(20) == Exit.FINE


@pytest.mark.parametrize("name", LASTING)
def test_what_is_told_to_stop_while_it_starts_is_status_0(
    name: str, tmp_path: Path, database_url: str, servers: Servers
) -> None:
    """From the first moment on that it can hear: its imports alone take a second."""
    with Platform(database_url, servers.valkey_url, tmp_path) as platform:
        process = platform.start("celeriac", *COMMANDS[name], log="it.log", warm=False)
        eventually(lambda: _catches(process.pid, signal.SIGTERM), what="its first line")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == Exit.FINE


def _catches(pid: int, number: signal.Signals) -> bool:
    found = re.search(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("name", command.commands)
def test_help_tells_the_exit_statuses(name: str) -> None:
    """Each command's own help does."""
    end = failing(name, "--help")
    assert end.status == Exit.FINE
    for status, meaning in STATUSES.items():
        assert re.search(rf"^ +{int(status)} +{re.escape(meaning)}$", end.out, re.MULTILINE)
