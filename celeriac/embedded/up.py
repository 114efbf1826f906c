"""`celeriac up`: the whole platform on one machine, as the children of one process."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import click

from celeriac import garbage
from celeriac.embedded import directories, flower, postgres, predecessors, valkey
from celeriac.embedded.changes import Changes
from celeriac.embedded.failures import Failures
from celeriac.embedded.processes import Steps, hold, own_directory, spawn, write_private
from celeriac.embedded.programs import Program
from celeriac.embedded.supervisor import Part, Supervisor, nothing, show_line
from celeriac.preconditions import listen, require_secret
from tracking import tickets
from tracking.db import Database
from tracking.settings import IMPORTS, QUEUES, SERVERS_FILE, Settings
from tracking.tickets import Purpose, Rights

# Informations of ours, of PostgreSQL, and of Valkey, whose sign for a notice or less stands behind the time; advice for
# servers that others reach; and what Celery says of a body that raised, which is shown with its frames.
ROUTINE = re.compile(
    r" \[(info|debug) *\] |(^| )(LOG|HINT|STATEMENT|DETAIL): |^\d+:[A-Z] [^*.#-]*[*.-] "
    # Redis, unlike Valkey, calls these warnings.
    r"|Redis is starting|Redis version=|Configuration loaded|Server initialized|Received SIGTERM"
    r"|User requested shutdown|(Redis|Valkey) is now ready to exit"
    # PostgreSQL, of a connection that is open when it is stopped.
    r"|FATAL:  terminating connection due to administrator command"
    r"|Memory overcommit|SecurityWarning|Warm shutdown|\[celery\.app\.trace\]"
)
READY_WITHIN = 120.0  # seconds
LINK_LIFETIME = timedelta(minutes=15)
DASHBOARD_USER = "you"  # as in the command that is shown for a token

# Warm shutdown lets running jobs end; cold shutdown, after that, hands them back.
WORKER_STEPS: Steps = ((signal.SIGTERM, 30.0), (signal.SIGQUIT, 10.0))
API_STEPS: Steps = ((signal.SIGTERM, 10.0),)


@dataclass(frozen=True, slots=True)
class Wanted:
    """How `celeriac up` was asked to run. `queues` None: those that jobs go to by themselves.

    `reload`: a Python file that changes below the current directory starts worker and API again. `verbose`: what its
    parts print is shown even when nothing is wrong. `flower`: that dashboard of Celery's runs as well.
    """

    host: str
    port: int
    concurrency: int
    queues: tuple[str, ...] | None = None
    reload: bool = False
    verbose: bool = False
    flower: bool = False
    flower_port: int = 5555


def run_platform(settings: Settings, wanted: Wanted, *, permissions: Callable[[], Iterable[str]]) -> None:
    """Start everything, say where it is, keep it alive until SIGINT or SIGTERM, and stop it.

    `permissions`: of whoever signs in at the dashboard by the link that is shown.

    Raises ConfigurationError or StartError with one line; what was started by then is stopped.
    """
    data_dir = own_directory(settings.data_dir)
    require_secret(settings, wanted.host)
    show = show_line if wanted.verbose else show_trouble
    with (
        hold(data_dir),
        listen(wanted.host, wanted.port) as listener,
        ExitStack() as stack,
        Supervisor(show) as supervisor,
    ):
        supervisor.obey_signals()
        _note(data_dir)
        servers = _start_servers(settings, data_dir, supervisor, stack)
        supervisor.finish(_child("migrate", ["migrate"], API_STEPS))
        supervisor.start(_worker(data_dir, wanted))
        if wanted.flower:  # the page of a job leads there
            os.environ.setdefault("CELERIAC_FLOWER_URL", f"http://{wanted.host}:{wanted.flower_port}")
        supervisor.start(_api(listener))
        _wait_until_ready(supervisor, listener)
        if wanted.flower:
            supervisor.start(flower.part(data_dir, wanted.host, wanted.flower_port))
        whose = settings.default_organization or "default"
        _announce(_address(listener), data_dir, servers, whose, settings.imports)
        if wanted.flower:
            click.echo(f"  flower    http://{wanted.host}:{wanted.flower_port}")
            click.echo(f"            as {flower.USER}, by the password in {data_dir / flower.PASSWORD_FILE}")
        if settings.dashboard:
            _show_link(_address(listener), settings, whose, permissions())
        failures = Failures(settings, show_line)
        stack.callback(failures.close)
        garbage.look_from_now_on()
        supervisor.watch(_turn(supervisor, failures, Changes(Path.cwd()) if wanted.reload else None))


def _turn(supervisor: Supervisor, failures: Failures, changes: Changes | None) -> Callable[[], None]:
    """What is done again and again while all of it runs."""

    def turn() -> None:
        failures.look()
        changed = changes.look() if changes is not None else []
        if changed:
            for name in ("worker", "api"):
                supervisor.restart(name, f"changed: {', '.join(changed[:3])}")

    return turn


def show_trouble(name: str, line: str) -> None:
    """Print what a part says unless it is routine: an information of ours, a LOG of PostgreSQL, a notice of Valkey."""
    if not ROUTINE.search(line):
        show_line(name, line)


def _start_servers(settings: Settings, data_dir: Path, supervisor: Supervisor, stack: ExitStack) -> dict[str, str]:
    """Start the servers that no URL replaces; returns their URLs by the names of servers.json."""
    servers = {}
    if not settings.database_url.get_secret_value():
        cluster = postgres.open_cluster(data_dir)
        stack.enter_context(hold(cluster.home))  # a copied data directory leads to the same home
        _say_whose("postgres", cluster.program)
        supervisor.start(postgres.part(cluster))
        postgres.make_roles(cluster)
        servers["database_url"] = cluster.url
    if not settings.broker_url.get_secret_value():
        broker = valkey.open_broker(data_dir)
        _say_whose("valkey", broker.program)
        supervisor.start(valkey.part(broker))
        servers["broker_url"] = broker.url
    handlers = {IMPORTS: ",".join(settings.imports)} if settings.imports else {}  # for an operator's commands
    stack.enter_context(_published(data_dir / SERVERS_FILE, servers | handlers))
    return servers


def _note(data_dir: Path) -> None:
    try:
        directories.note(data_dir)
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home
        show_line("up", f"`celeriac data list` will not show {data_dir}: {error}")


def _say_whose(name: str, program: Program) -> None:
    if program.instead:
        show_line(name, f"is {program}")


@contextmanager
def _published(path: Path, servers: dict[str, str]) -> Iterator[None]:
    write_private(path, json.dumps(servers))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _api(listener: socket.socket) -> Part:
    descriptor = listener.fileno()
    # Closed once the API has stopped: no client shall wait for an answer while the worker finishes its jobs.
    return _child("api", ["api", "--fd", str(descriptor)], API_STEPS, keep=[descriptor], tidy=listener.close)


def _worker(data_dir: Path, wanted: Wanted) -> Part:
    queues = ",".join(wanted.queues or QUEUES)
    arguments = ["worker", "--queues", queues, "--concurrency", str(wanted.concurrency)]
    return _child("worker", arguments, WORKER_STEPS, more=lambda: predecessors.options(data_dir))


def _child(
    name: str,
    arguments: Sequence[str],
    steps: Steps,
    *,
    more: Callable[[], Sequence[str]] = tuple,
    keep: Sequence[int] = (),
    tidy: Callable[[], None] = nothing,
) -> Part:
    """A command of ours; `more`: arguments that are new at each start."""
    # -P: a `tasks.py` in the current directory, common among Celery's users, must not take the place of our package.
    command = [sys.executable, "-P", "-m", "celeriac", *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return Part(
        name=name,
        # The servers die with us, so there is nothing to say goodbye to; the rows know how to go on after a crash.
        launch=lambda: spawn([*command, *more()], death_signal=signal.SIGKILL, environment=environment, keep=keep),
        steps=steps,
        is_ours=True,
        tidy=tidy,
    )


def _wait_until_ready(supervisor: Supervisor, listener: socket.socket) -> None:
    supervisor.wait_for(lambda: _is_ready(listener), READY_WITHIN, "the platform", every=0.25)


def _is_ready(listener: socket.socket) -> bool:
    connection = http.client.HTTPConnection(*_reachable(listener), timeout=5)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status == HTTPStatus.OK and set(json.load(answer)["checks"].values()) == {"ok"}
    except (OSError, http.client.HTTPException):  # not yet serving
        return False
    finally:
        connection.close()


def _address(listener: socket.socket) -> str:
    host, port = _reachable(listener)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _reachable(listener: socket.socket) -> tuple[str, int]:
    host, port = listener.getsockname()[:2]
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port  # noqa: S104  a look-up, not a bind


def _announce(address: str, data_dir: Path, servers: dict[str, str], whose: str, imports: Iterable[str]) -> None:
    click.echo(f"Celeriac is ready: {address}")
    click.echo(f"  database  {servers.get('database_url', 'DATABASE_URL')}")
    click.echo(f"  broker    {_without_password(servers.get('broker_url', 'BROKER_URL'))}")
    click.echo(f"  data      {data_dir}")
    # --admin grants the permissions of the handlers that it knows of.
    known = f"CELERIAC_IMPORTS={','.join(imports)} " if imports else ""
    if data_dir != Path(Settings.model_fields["data_dir"].default).absolute():  # there the secret is looked for
        known += f"CELERIAC_DATA_DIR={shlex.quote(str(data_dir))} "
    click.echo(f"  token     {known}celeriac token --organization {whose} --user {DASHBOARD_USER} --admin")


def _show_link(address: str, settings: Settings, whose: str, permissions: Iterable[str]) -> None:
    """A link that signs in once: to print a token would be to keep one in every terminal's history."""
    rights = Rights(whose, DASHBOARD_USER, frozenset(permissions), None)
    database = Database(settings.database, settings, pool_size=1)
    with closing(database), database.autocommit() as connection:
        ticket = tickets.issue(connection, Purpose.SIGN_IN, rights, LINK_LIFETIME)
    minutes = int(LINK_LIFETIME.total_seconds() // 60)
    click.echo(f"  dashboard {address}/sign-in?ticket={ticket.secret}")
    click.echo(f"            signs in once, within {minutes} minutes, as {rights.user_id} of {rights.organization_id}")


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
