"""What a run breaks: the servers, the proxies before them, and the platform's processes behind those."""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import jwt
from sqlalchemy import func, make_url, select

from api.permissions import CANCEL_JOBS, CREATE_JOBS, RETRY_JOBS, VIEW_ALL, VIEW_JOBS
from bench.chaos import rabbitmq, variables
from bench.chaos.ledger import Ledger
from bench.chaos.members import Member, Watch
from bench.chaos.proxy import Proxy, Upstream, to_port, to_socket
from bench.launch import NO_STEPS, PATIENCE, clean_environment
from bench.servers import make_database
from celeriac.embedded import postgres, valkey
from celeriac.embedded.processes import own_directory, spawn, wait_until
from celeriac.embedded.supervisor import Part, always
from celeriac.preconditions import listen
from tracking.admission import line
from tracking.crashpoints import CLAIMED, FINISHED, GIVEN, HANDED_OVER, PUBLISHED, SETTLED, SUBMITTED, VARIABLE
from tracking.db import Database, migrate
from tracking.schema import workers
from tracking.settings import Settings

ORGANIZATIONS = ("acme", "globex", "initech")
UNLIMITED = "hooli"  # of which any number may execute: its bursts make the workers' batches large
WORKERS = 2
LIMIT: int = Settings.model_fields["organization_limit"].default
LEASE: float = Settings.model_fields["lease_timeout"].default
CONCURRENCY = 3  # processes of each worker: together more than one organization's limit
LIFETIME = 7200  # seconds that a caller's token is good for
PERMISSIONS = (CREATE_JOBS, VIEW_JOBS, CANCEL_JOBS, RETRY_JOBS, VIEW_ALL)

# How often each point kills, in the processes that are armed: those of the first worker, the API and the producer.
WORKER_CRASHES = f"{CLAIMED}:0.01,{FINISHED}:0.01,{HANDED_OVER}:0.01,{SETTLED}:0.01,{GIVEN}:0.01"
SENDER_CRASHES = f"{SUBMITTED}:0.02,{PUBLISHED}:0.02"


@dataclass
class World:
    """A platform on private servers. `broker` is "redis" or "rabbitmq"."""

    broker: str
    directory: Path
    ledger: Ledger
    database_url: str
    broker_url: str  # past the proxy
    database: Database  # past the proxy
    database_proxy: Proxy
    broker_proxy: Proxy
    postgres: Member
    broker_server: Member
    broker_home: Path
    canaries: Mapping[str, str]
    secret: str
    api_url: str = ""
    api: Member = field(init=False)
    producer: Member = field(init=False)
    workers: list[Member] = field(default_factory=list)

    @property
    def witness(self) -> Path:
        """The file of the bodies."""
        return self.directory / "witness.jsonl"

    @property
    def journal(self) -> Path:
        """The file of the producer."""
        return self.directory / "producer.jsonl"

    @property
    def logs(self) -> list[Path]:
        """What all processes have written."""
        return sorted(self.directory.glob("*.log"))

    def token(self, organization: str) -> str:
        """Who may do everything in one organization."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "sub": "chaos",
            "org": organization,
            "permissions": list(PERMISSIONS),
            "iat": now,
            "exp": now + LIFETIME,
            "iss": "celeriac",
            "aud": "celeriac",
        }
        return jwt.encode(claims, self.secret, algorithm="HS256")

    def is_ready(self) -> bool:
        """Whether the API says that it, its database and its broker are."""
        try:
            checks = httpx2.get(f"{self.api_url}/readyz", timeout=10).json()["checks"]
            return bool(checks["database"] == checks["broker"] == "ok")
        except httpx2.TransportError:
            return False


@contextmanager
def open_world(broker: str, ledger: Ledger, *, imports: str = "", crashes: bool = True) -> Iterator[World]:
    """Everything runs and is ready; it ends, and its files go, with the block. Raises AssertionError or StartError."""
    with ExitStack() as stack:
        directory = own_directory(Path(tempfile.mkdtemp(prefix="celeriac-chaos-")))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        world = _servers(broker, directory, ledger, stack)
        environment = _environment(world, imports)
        listener = stack.enter_context(listen("127.0.0.1", 0))
        world.api_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        armed = {VARIABLE: WORKER_CRASHES} if crashes else {}
        world.workers = [
            _worker(world, number, {**environment, **(armed if number == 0 else {})}) for number in range(WORKERS)
        ]
        for worker in world.workers:
            stack.callback(worker.stop)
            worker.start()
        command = ["-m", "celeriac", "api", "--fd", str(listener.fileno())]
        sender = {**environment, **({VARIABLE: SENDER_CRASHES} if crashes else {})}
        world.api = _program(world, "api", command, sender, keep=(listener.fileno(),))
        world.producer = _program(world, "producer", ["-m", "bench.chaos.producer"], sender, ready=_minds_sigterm)
        stack.callback(world.api.stop)
        stack.callback(world.producer.stop)
        world.api.start()
        ready = wait_until(lambda: world.is_ready() and _registered(world) == WORKERS, PATIENCE)
        assert ready, f"the platform is not ready after {PATIENCE:.0f} s"
        stack.enter_context(Watch([*world.workers, world.api, world.producer]))
        yield world


def _servers(broker: str, directory: Path, ledger: Ledger, stack: ExitStack) -> World:
    stack.callback(postgres.discard, directory)
    cluster = postgres.open_cluster(directory)
    database = _server(postgres.part(cluster), directory, ledger, stack)
    server, home, url, upstream = _broker(broker, directory, ledger, stack)
    direct = make_database(make_url(cluster.url).set(drivername="postgresql+psycopg"), "tracked")
    migrate(direct)
    database_proxy = stack.enter_context(Proxy(to_socket(str(cluster.sockets / postgres.SOCKET))))
    broker_proxy = stack.enter_context(Proxy(upstream))
    pool = Database(direct, Settings())
    stack.callback(pool.close)
    with pool.begin() as connection:
        line.set_limit(connection, UNLIMITED, 0, actor="chaos")
    return World(
        broker=broker,
        directory=directory,
        ledger=ledger,
        database_url=f"postgresql+psycopg://{postgres.ROLE}@127.0.0.1:{database_proxy.port}/tracked?sslmode=disable",
        broker_url=url,
        database=pool,
        database_proxy=database_proxy,
        broker_proxy=broker_proxy,
        postgres=database,
        broker_server=server,
        broker_home=home,
        canaries={name: f"canary-{name}-{secrets.token_hex(8)}" for name in (*ORGANIZATIONS, UNLIMITED)},
        secret=secrets.token_urlsafe(48),
    )


def _broker(broker: str, directory: Path, ledger: Ledger, stack: ExitStack) -> tuple[Member, Path, str, Upstream]:
    if broker == "redis":
        server = valkey.open_broker(directory)
        member = _server(valkey.part(server), directory, ledger, stack)
        return member, server.home, server.url, to_port(server.port)
    program = rabbitmq.find_program()
    assert program is not None, "there is no rabbitmq-server on this machine"
    node = rabbitmq.open_node(directory, program)
    member = _server(rabbitmq.part(node), directory, ledger, stack)
    return member, node.home, node.url, to_port(node.port)


def _server(part: Part, directory: Path, ledger: Ledger, stack: ExitStack) -> Member:
    member = Member(part, directory / f"{part.name}.log", ledger.surprise, family=True)
    stack.callback(part.tidy)
    stack.callback(member.stop)
    member.start()
    return member


def _registered(world: World) -> int:
    with world.database.autocommit() as connection:
        return connection.execute(select(func.count()).select_from(workers)).scalar_one()


def _environment(world: World, imports: str) -> dict[str, str]:
    for path in (world.witness, world.journal):
        path.touch()
    proxied = make_url(world.broker_url).set(port=world.broker_proxy.port)
    return {
        "DATABASE_URL": world.database_url,
        "BROKER_URL": proxied.render_as_string(hide_password=False),
        "CELERIAC_IMPORTS": ",".join(name for name in ("bench.chaos.handlers", imports) if name),
        "CELERIAC_DATA_DIR": str(world.directory),
        "CELERIAC_JWT_SECRET": world.secret,
        variables.WITNESS: str(world.witness),
        variables.JOURNAL: str(world.journal),
        variables.CANARIES: json.dumps(dict(world.canaries)),
    }


def _worker(world: World, number: int, environment: Mapping[str, str]) -> Member:
    name = f"chaos{number}-{world.directory.name}"
    command = ["-m", "celeriac", "worker", "--concurrency", str(CONCURRENCY), "--name", name]
    return _program(world, f"worker{number}", command, environment, node=name)


def _minds_sigterm(pid: int) -> bool:
    """Whether a process has its own handler for SIGTERM: before that it would die of it."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def _program(
    world: World,
    name: str,
    command: list[str],
    environment: Mapping[str, str],
    *,
    keep: tuple[int, ...] = (),
    ready: Callable[[int], bool] = always,
    node: str = "",
) -> Member:
    surroundings = {**clean_environment(), **environment}

    def launch() -> Any:
        line = [sys.executable, *command]
        return spawn(line, death_signal=signal.SIGKILL, environment=surroundings, keep=keep)

    part = Part(name=name, launch=launch, steps=NO_STEPS, ready=ready, patience=PATIENCE)
    return Member(part, world.directory / f"{name}.log", world.ledger.surprise, node=node)
