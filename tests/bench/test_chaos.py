"""The chaos run fails on a broken platform and breaks what it says it breaks; that it passes, CI shows by itself."""

from __future__ import annotations

import gc
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner
from sqlalchemy import NullPool, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from bench.chaos.__main__ import main
from bench.chaos.checks import State, over_limit
from bench.chaos.faults import FAULTS, Deaths, Deck, Fault
from bench.chaos.proxy import Mode, Proxy, to_port, to_socket
from bench.chaos.run import Blow, recovery
from bench.chaos.witness import Line, open_bodies
from celeriac.embedded.postgres import SOCKET
from tests.commands import python, run_in
from tests.live import LivePlatform, eventually
from tracking import states
from tracking.crashpoints import CLAIMED, FINISHED, PUBLISHED, SETTLED, SUBMITTED, VARIABLE, parse
from tracking.errors import ConfigurationError

PATIENCE = 300  # seconds that a short run may take on a busy machine; on a quiet one it takes 20
ANSWER = b"b" * 1000
SEND = "from tasks import app; app.send_task('noop'); app.platform.dispatcher.close()"


def test_a_run_on_a_broken_platform_fails_and_names_the_promise() -> None:
    """A chaos run fails and names the promise when a late success of a cancelled job is accepted."""
    settings = {
        "CHAOS_MINUTES": "0.15",
        "CHAOS_BROKER": "redis",
        "CHAOS_SEED": "7",
        "CHAOS_IMPORTS": "tests.broken_fence",
    }
    faults = ("--faults", "malformed messages")
    done = python("-m", "bench.chaos", *faults, within=PATIENCE, **settings, COLUMNS="200")
    assert done.status == 1, done.out + done.err
    assert "BROKEN legal_moves" in done.out, done.out
    assert "CHAOS_SEED=7" in done.out


def test_an_unknown_fault_is_refused() -> None:
    """An unknown fault is refused with the names of all known ones."""
    done = CliRunner().invoke(main, ["--faults", "an earthquake"])
    assert done.exit_code == 2
    assert "'an earthquake' is none of" in done.stderr


@contextmanager
def serving() -> Iterator[int]:
    """A server that answers whatever it gets with ANSWER; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_answer_all, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]


def _answer_all(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # the test is over
            return
        threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    with connection:
        try:
            while connection.recv(100):
                connection.sendall(ANSWER)
        except OSError:  # as the test wanted
            return


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy before such a server."""
    with serving() as port, Proxy(to_port(port)) as running:
        yield running


def _ask(connection: socket.socket) -> bytes:
    connection.sendall(b"a")
    received = b""
    while len(received) < len(ANSWER) and (more := connection.recv(4096)):
        received += more
    return received


def _connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def test_a_proxy_passes_on_what_both_sides_say(proxy: Proxy) -> None:
    """An open proxy passes on question and answer."""
    with _connect(proxy) as connection:
        assert _ask(connection) == ANSWER


def test_a_black_hole_takes_connections_and_delivers_later(proxy: Proxy) -> None:
    """A black-holed proxy delivers nothing, on old or new connections, until it is open again."""
    with _connect(proxy) as old:
        assert _ask(old) == ANSWER
        proxy.switch(Mode.BLACK_HOLE)
        with _connect(proxy) as new:
            for connection in (old, new):
                connection.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    _ask(connection)
            proxy.switch(Mode.OPEN)
            for connection in (old, new):
                connection.settimeout(5)
                assert connection.recv(1)


def test_a_refusing_proxy_ends_connections_and_takes_none(proxy: Proxy) -> None:
    """A refusing proxy closes its connections and takes none, until it is open again on the same port."""
    with _connect(proxy) as connection:
        assert _ask(connection) == ANSWER
        proxy.switch(Mode.REFUSE)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with pytest.raises(ConnectionRefusedError):
        _connect(proxy)
    proxy.switch(Mode.OPEN)
    with _connect(proxy) as connection:
        assert _ask(connection) == ANSWER


def test_a_reset_ends_the_connections_that_there_are(proxy: Proxy) -> None:
    """A reset of the proxy ends its connections, and the next one passes."""
    with _connect(proxy) as connection:
        assert _ask(connection) == ANSWER
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with _connect(proxy) as connection:
        assert _ask(connection) == ANSWER


def test_a_cut_ends_a_connection_in_the_midst_of_an_answer(proxy: Proxy) -> None:
    """A cut of the proxy delivers half of an answer, and then the end."""
    with _connect(proxy) as connection:
        assert _ask(connection) == ANSWER
        proxy.cut()
        assert 0 < len(_ask(connection)) < len(ANSWER)


@pytest.mark.parametrize("mode", ["autocommit", "transaction"])
def test_a_commit_can_happen_without_its_reply(database_url: str, mode: str) -> None:
    """When the proxy drops the reply of a COMMIT, the client sees a broken connection, and the row is there."""
    url = make_url(database_url)
    sockets = str(url.query["host"])
    direct = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with Proxy(to_socket(f"{sockets}/{SOCKET}")) as proxy, direct.connect() as connection:
        connection.execute(text("CREATE TABLE found (how text)"))
        proxied = url.set(host="127.0.0.1", port=proxy.port, query={"sslmode": "disable"})
        isolation = "AUTOCOMMIT" if mode == "autocommit" else "READ COMMITTED"
        engine = create_engine(proxied, poolclass=NullPool, isolation_level=isolation)
        with engine.connect() as unlucky:
            unlucky.execute(text("SELECT 1"))
            proxy.drop_replies()
            with pytest.raises(OperationalError):
                _insert(unlucky, mode)
        assert connection.execute(text("SELECT how FROM found")).scalars().all() == [mode]
        assert proxy.dropped == 1


def _insert(connection: Any, mode: str) -> None:
    connection.execute(text("INSERT INTO found VALUES (:how)"), {"how": mode})
    connection.commit()


def _nothing(_world: Any, _rng: Random) -> None:
    """A fault that breaks nothing."""


def test_the_same_seed_draws_the_same_faults() -> None:
    """The same seed draws the same faults, each once before any comes again."""
    decks = [Deck(FAULTS, Random(3)) for _ in range(2)]
    first, second = ([deck.draw(set()) for _ in FAULTS] for deck in decks)
    assert first == second
    assert {fault.name for fault in first if fault} == {fault.name for fault in FAULTS}


def test_no_fault_is_drawn_for_what_is_broken_already() -> None:
    """A fault for a part that is broken already waits in the deck."""
    deck = Deck([Fault("one", "api", _nothing), Fault("two", "broker", _nothing)], Random(0))
    assert deck.draw({"api", "broker"}) is None
    drawn = deck.draw({"api"})
    assert drawn is not None
    assert drawn.name == "two"
    assert deck.draw({"broker", "worker"}) is not None


def _line(what: str, attempt: int, at: float, job: Any) -> Line:
    return Line(what, job, job, attempt, "acme", at, at, 1, 0)


def test_recovery_from_a_death_is_the_next_start_of_its_job() -> None:
    """Recovery from a death is measured to the next start of the same job."""
    job = uuid4()
    lines = [_line("start", 1, 5.0, job), _line("start", 1, 11.0, uuid4()), _line("start", 2, 30.5, job)]
    blow = Blow(FAULTS[0], 9.0, 10.0, Deaths(10.0, ((job, 1),)))
    assert recovery(blow, State([], [], lines)) == 20.5
    assert open_bodies(lines)[job, 2].at == 30.5


def test_recovery_from_anything_else_is_the_next_outcome() -> None:
    """Recovery from any other fault is measured from its end to the next outcome of a job."""
    ends = [SimpleNamespace(event="completed", at=datetime.fromtimestamp(at, UTC)) for at in (9.0, 12.5, 14.0)]
    assert recovery(Blow(FAULTS[0], 8.0, 10.0), State([], ends, [])) == 2.5


def test_a_proxy_that_closes_while_connections_come_leaves_none_open() -> None:
    """A proxy left in the midst of new connections closes each of them; one left open fails as a warning."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as upstream:
        for _ in range(50):
            with Proxy(to_port(upstream.getsockname()[1])) as proxy:
                clients = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(8)]
            for client in clients:
                client.close()
    gc.collect()


def test_an_organization_over_its_limit_is_found() -> None:
    """The chaos check finds two overlapping executions above the limit, and none in succession."""
    began = datetime.now(UTC)

    def entry(event: str, seconds: float, source: str, target: str) -> Any:
        at = began + timedelta(seconds=seconds)
        return SimpleNamespace(
            event=event, at=at, from_status=source, to_status=target, organization_id="acme", job_id=1
        )

    first = [entry("started", 0, "queued", "running"), entry("completed", 2, "running", "succeeded")]
    apart = [entry("started", 2, "queued", "running"), entry("failed", 3, "running", "failed")]
    overlapping = [entry("started", 1, "queued", "running"), entry("cancelled", 3, "running", "cancelled")]
    assert list(over_limit([*first, *apart], 1)) == []
    assert "2 jobs of acme" in str(next(over_limit([*first, *overlapping], 1)))


def test_crash_points_are_read_with_their_probabilities() -> None:
    """A crash point without a probability is certain, and an unknown one is refused."""
    assert parse(f"{CLAIMED}:0.25, {SETTLED}") == {CLAIMED: 0.25, SETTLED: 1.0}
    for wrong in ("nowhere:1", f"{CLAIMED}:often"):
        with pytest.raises(ConfigurationError, match=VARIABLE):
            parse(wrong)


def test_a_job_survives_whatever_crash_point_kills_its_sender(platform: LivePlatform) -> None:
    """A job whose sender dies at any crash point after the commit is sent by upkeep and runs once."""
    for point in (SUBMITTED, PUBLISHED):
        sender = run_in(None, {**platform.environment, VARIABLE: point}, "-c", SEND)
        assert sender.status == -signal.SIGKILL, sender.err
        assert f"crash point {point}" in sender.err
    platform.start_worker()
    jobs = [platform.wait_for(job.id) for job in platform.jobs()]
    assert [(job.status, job.attempt) for job in jobs] == [("succeeded", 1)] * 2


def test_a_job_survives_whatever_crash_point_kills_its_process(platform: LivePlatform) -> None:
    """A job whose process, or that one's worker, dies at any crash point around its body ends once."""
    points = (CLAIMED, FINISHED, SETTLED)
    platform.environment |= {"CELERIAC_LEASE_TIMEOUT": "2", "CELERIAC_HEARTBEAT": "0.5"}
    platform.environment[VARIABLE] = ",".join(f"{point}:0.3" for point in points)
    workers = [platform.start_worker()]
    jobs = platform.submit_all([("noop", [], {}, {}) for _ in range(10)])

    def have_ended() -> bool:
        if workers[-1].poll() is not None:
            workers.append(platform.start_worker())
        return all(platform.job(job).status in states.FINISHED for job in jobs)

    eventually(have_ended, within=90, what="the end of all")
    assert {platform.job(job).error_type for job in jobs} <= {None, "WorkerLost"}
    assert any("crash point" in platform.log(f"worker{number}.log") for number in range(1, len(workers) + 1))
    for job in jobs:
        assert platform.events(job).count("completed") <= 1
