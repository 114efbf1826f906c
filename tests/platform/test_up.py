"""`celeriac up`: one command starts everything, keeps it alive, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import queue
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import httpx2
import jwt
import psutil
import pytest
from click.testing import CliRunner

from api.secrets import signing_secret
from celeriac.commands.cli import command
from celeriac.embedded import postgres
from celeriac.embedded.processes import hold, wait_until
from tests.commands import Ended, run_in
from tests.live import eventually, is_alive
from tracking.settings import Settings

ROOT = Path(__file__).parents[2]
CLEARED = ("DATABASE_URL", "BROKER_URL", "CELERIAC_JWT_SECRET", "CELERIAC_DATA_DIR", "CELERIAC_IMPORTS")
START = 120  # seconds that a start may take on a busy machine


# the command


class Up:
    """A running `celeriac up`, its address and its processes."""

    def __init__(self, directory: Path, *options: str, prefix: Sequence[str] = (), **environment: str) -> None:
        self.directory = directory
        self.environment = {name: value for name, value in os.environ.items() if name not in CLEARED}
        self.environment |= {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environment}
        self.process = self._popen(*prefix, *celeriac("up", "--port", "0", *options))
        self.printed: list[str] = []
        self._address: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def data_dir(self) -> Path:
        return self.directory / ".celeriac"

    def wait(self) -> str:
        """Wait until it is ready; returns its address."""
        try:
            return self._address.get(timeout=START)
        except queue.Empty:
            raise AssertionError("\n".join(self.printed)) from None

    def family(self) -> list[psutil.Process]:
        """It and all that it started."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def part(self, text: str) -> int | None:
        """The number of its own child with `text` in its command line; None while there is none."""
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.NoSuchProcess):
                if text in " ".join(child.cmdline()):
                    return child.pid
        return None

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait; returns the exit code."""
        self.process.send_signal(number)
        return self.join()

    def join(self) -> int:
        """Wait for its end; returns the exit code."""
        code = self.process.wait(60)
        self._reader.join(10)
        return code

    def run(self, *arguments: str) -> Ended:
        """Run `celeriac` in the same directory."""
        return run_in(self.directory, self.environment, "-m", "celeriac", *arguments, within=START)

    def _popen(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _read(self) -> None:
        with self.process.stdout as output:  # type: ignore[union-attr]
            for line in output:
                self.printed.append(line.rstrip())
                if line.startswith("Celeriac is ready: "):
                    self._address.put(line.split()[-1])
        self._address.put("it ended")


def celeriac(*arguments: str) -> list[str]:
    """The command, from the source tree."""
    return [sys.executable, "-m", "celeriac", *arguments]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory of mode 700 to run in; what the servers keep elsewhere is removed."""
    directory = tmp_path_factory.mktemp("home")
    directory.chmod(0o700)
    yield directory
    postgres.discard(directory / ".celeriac")


@pytest.fixture(scope="module")
def up(home: Path) -> Iterator[Up]:
    """One platform for the tests that do not end it."""
    running = Up(home, "--verbose")
    running.wait()
    yield running
    running.end(signal.SIGTERM)


def is_ready(address: str) -> bool:
    try:
        return httpx2.get(f"{address}/readyz", trust_env=False, timeout=5).status_code == 200
    except httpx2.TransportError:
        return False


def address_of(up: Up) -> str:
    """The address that it printed."""
    return next(line.split()[-1] for line in up.printed if line.startswith("Celeriac is ready: "))


def test_up_is_ready_when_it_says_so(up: Up) -> None:
    """When `up` prints its address, /readyz answers 200 there."""
    assert is_ready(address_of(up))


def test_the_link_that_it_prints_opens_the_dashboard_once(up: Up) -> None:
    """`up` prints a link with which a browser signs in once, as whoever operates the platform."""
    link = eventually(lambda: next((line.split()[-1] for line in up.printed if "/sign-in?ticket=" in line), None))
    address, _, ticket = link.partition("/sign-in?ticket=")
    same = {"Sec-Fetch-Site": "same-origin", "Accept": "text/html"}
    with httpx2.Client(base_url=address, headers=same, trust_env=False) as client:
        assert client.post("/sign-in", data={"ticket": ticket}).headers["location"] == "/"
        assert "There are no jobs yet." in client.get("/").text
        assert client.get("/workers").status_code == 200
        assert client.post("/sign-in", data={"ticket": ticket}).status_code == 401


def test_up_shows_no_password(up: Up) -> None:
    """Nothing that `up` or its parts print holds the broker's password."""
    password = json.loads((up.data_dir / "valkey" / "access.json").read_text())[1]
    assert not [line for line in up.printed if password in line]


def test_lines_of_parts_bear_their_names(up: Up) -> None:
    """Each line of a part's output bears the part's name."""
    assert {line.split("|")[0].strip() for line in up.printed if "|" in line} >= {
        "postgres",
        "migrate",
        "api",
        "worker",
    }


def test_the_worker_consumes_from_the_broker_of_the_data_directory(up: Up) -> None:
    """The worker of `up` consumes from the broker of its data directory."""
    port = json.loads((up.data_dir / "valkey" / "access.json").read_text())[0]
    connected = "Connected to redis://"
    eventually(lambda: [line for line in up.printed if connected in line], what="the worker's connection")
    [line] = [line for line in up.printed if connected in line]
    assert f"@127.0.0.1:{port}/" in line


def test_token_opens_the_api(up: Up) -> None:
    """`celeriac token` prints a token and nothing else, and the running API accepts it."""
    printed = up.run("token", "--organization", "acme", "--user", "u1", "--permission", "jobs.view_jobs")
    assert (printed.err, len(printed.out.splitlines())) == ("", 1)
    answer = httpx2.get(f"{address_of(up)}/v1/jobs", headers={"Authorization": f"Bearer {printed.out.strip()}"})
    assert answer.status_code == 200


def test_other_commands_find_the_servers(up: Up) -> None:
    """A command in the directory of a running `up` uses its servers."""
    assert up.run("migrate").status == 0


def test_second_up_is_one_line(up: Up) -> None:
    """A second `up` on the same data directory exits 2 with one line."""
    second = up.run("up", "--port", "0")
    assert (second.status, second.out) == (2, "")
    assert second.err == f"celeriac: {up.data_dir} is in use by another `celeriac up`\n"


@pytest.mark.parametrize("part", ["celeriac api", "celeriac worker", "valkey-server", "postgres -D"])
def test_killed_part_comes_back(up: Up, part: str) -> None:
    """After kill -9 of any part `up` starts it again, at the same address."""
    killed = up.part(part)
    assert killed
    os.kill(killed, signal.SIGKILL)
    assert wait_until(lambda: up.part(part) not in (None, killed) and is_ready(address_of(up)), START)


def test_kill_leaves_nothing_and_the_next_up_has_the_data(tmp_path: Path) -> None:
    """Kill -9 of `up` takes every process along, and the next `up` has the data and the secret."""
    first = Up(tmp_path)
    try:
        first.wait()
        secret = (first.data_dir / "jwt_secret").read_text()
        family = first.family()
        first.end(signal.SIGKILL)
        assert wait_until(lambda: not any(is_alive(process.pid) for process in family), 30)
        second = Up(tmp_path)
        assert is_ready(second.wait())
        family = second.family()
        assert second.end(signal.SIGTERM) == 0
        assert not [process for process in family if is_alive(process.pid)]
        assert not (second.data_dir / "servers.json").exists()
        assert (second.data_dir / "jwt_secret").read_text() == secret
        with hold(second.data_dir):
            pass
    finally:
        postgres.discard(tmp_path / ".celeriac")


HANDLERS = """
import os, time
from celeriac import BaseModel, Job, app

class Witness(BaseModel):
    path: str

@app.task(bind=True, pydantic=True, name="long_at_first", public=True)
def long_at_first(self: Job, payload: Witness) -> None:
    try:
        with open(payload.path, "x") as witness:
            witness.write(str(os.getpid()))
    except FileExistsError:
        return
    time.sleep(600)
"""


def test_up_takes_back_at_once_what_a_killed_one_ran(tmp_path: Path) -> None:
    """After kill -9 of `up` in the middle of a job the next one runs it again at once, however long its lease."""
    (tmp_path / "long_handlers.py").write_text(HANDLERS)
    witness, within = tmp_path / "body", ("--organization", "acme", "--json")
    settings = {"CELERIAC_IMPORTS": "long_handlers", "CELERIAC_LEASE_TIMEOUT": "3600"}
    first = Up(tmp_path, **settings)
    try:
        first.wait()
        told = first.run("submit", "long_at_first", "--payload", json.dumps({"path": str(witness)}), *within)
        assert told.status == 0, told.err
        body = int(eventually(lambda: witness.exists() and witness.read_text(), within=START, what="the body"))
        first.end(signal.SIGKILL)
        second = Up(tmp_path, **settings)
        second.wait()
        waited = second.run("watch", json.loads(told.out)["jobId"], "--within", "60s", *within)
        assert not is_alive(body), "the first body ended before another one began"
        assert second.end(signal.SIGTERM) == 0
        assert waited.status == 0, (waited, second.printed)
    finally:
        postgres.discard(tmp_path / ".celeriac")


def test_up_without_root(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An ordinary user's `up` is ready, keeps its data in its directory, and ends by Ctrl-C."""
    directory = tmp_path_factory.mktemp("ordinary")
    prefix: tuple[str, ...] = ()
    if os.geteuid() == 0:
        if not (setpriv := shutil.which("setpriv")):
            pytest.skip("setpriv is not installed")
        # The interpreter may lie under root's home: this user may read everything, and own nothing but its directory.
        readable = [f"--{kind}-caps=+dac_read_search" for kind in ("inh", "ambient")]
        prefix = (setpriv, "--reuid=nobody", "--regid=nogroup", "--clear-groups", *readable)
        os.chown(directory, 65534, 65534)
    directory.chmod(0o700)
    up = Up(directory, prefix=prefix)
    assert is_ready(up.wait())
    family = up.family()
    assert {process.uids().real for process in family} == {directory.stat().st_uid}
    assert up.end(signal.SIGINT) == 0
    assert not [process for process in family if is_alive(process.pid)]
    assert (up.data_dir / "postgres" / "data" / "PG_VERSION").exists()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_the_command_for_a_token_finds_the_secret(tmp_path: Path) -> None:
    """The command that `up` prints makes a token that its API takes, also with data in a directory of another name."""
    up = Up(tmp_path, "--data-dir", "data of mine")
    address = up.wait()
    told = eventually(  # it comes after the line for which `wait` waits
        lambda: next((each for each in up.printed if each.strip().startswith("token ")), None),
        within=10,
        what="the line of the token",
    )
    line = told.partition("token")[2]
    shell = ["sh", "-c", line.replace("celeriac token", shlex.join(celeriac("token")))]
    token = subprocess.run(shell, cwd=tmp_path, env=up.environment, capture_output=True, text=True, check=True).stdout
    answer = httpx2.get(f"{address}/v1/jobs", headers={"Authorization": f"Bearer {token.strip()}"})
    assert answer.status_code == 200
    assert up.end(signal.SIGTERM) == 0
    postgres.discard(tmp_path / "data of mine")


def test_urls_replace_both_servers(tmp_path: Path, database_url: str, servers: object) -> None:
    """With both URLs `up` starts no server, and announces none."""
    secret = os.environ["CELERIAC_JWT_SECRET"]
    broker_url = os.environ["BROKER_URL"]
    up = Up(tmp_path, CELERIAC_JWT_SECRET=secret, DATABASE_URL=database_url, BROKER_URL=broker_url)
    assert is_ready(up.wait())
    assert not [process for process in up.family() if process.name() in ("postgres", "valkey-server")]
    assert json.loads((up.data_dir / "servers.json").read_text()) == {}
    assert up.end(signal.SIGTERM) == 0


def test_up_with_a_database_that_is_down_is_one_line_more(tmp_path: Path) -> None:
    """`up` with a database that is down exits 3 with the reason, and leaves nothing."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"postgresql://postgres@127.0.0.1:{closed.getsockname()[1]}/x"
        up = Up(tmp_path, DATABASE_URL=url, CELERIAC_JWT_SECRET=os.environ["CELERIAC_JWT_SECRET"])
        assert up.join() == 3
    assert up.printed[-1].startswith("celeriac: migrate ended (exit status 3): celeriac: the database is away: ")


# the other commands


@pytest.fixture
def alone(tmp_path: Path) -> Up:
    """A directory in which nothing runs; only `run` is of use."""
    up = Up.__new__(Up)
    up.directory = tmp_path
    up.environment = {name: value for name, value in os.environ.items() if name not in CLEARED}
    up.environment["PYTHONPATH"] = str(ROOT)
    return up


def test_token_carries_what_was_asked_for(alone: Up) -> None:
    """A token has the subject, organization, permissions and lifetime of the options."""
    secret = signing_secret(Settings(data_dir=alone.data_dir, database_url="", jwt_secret=""))  # type: ignore[arg-type]
    options = ("--organization", "acme", "--user", "u1", "--permission", "b", "--permission", "a", "--expires", "90s")
    token = alone.run("token", *options).out
    claims = jwt.decode(token.strip(), secret, ["HS256"], audience="celeriac", issuer="celeriac")
    assert (claims["sub"], claims["org"], claims["permissions"]) == ("u1", "acme", ["a", "b"])
    assert claims["exp"] - claims["iat"] == 90


def test_admin_has_the_handlers_permissions(alone: Up) -> None:
    """`celeriac token --admin` has every permission in the organization, without a server."""
    signing_secret(Settings(data_dir=alone.data_dir, database_url="", jwt_secret=""))  # type: ignore[arg-type]
    token = alone.run("token", "--organization", "acme", "--user", "u1", "--admin").out
    claims = jwt.decode(token.strip(), options={"verify_signature": False})
    assert {"jobs.create_jobs", "jobs.view_all", "reports.export_reports"} <= set(claims["permissions"])
    assert "jobs.manage_jobs" in claims["permissions"]
    assert "jobs.manage_platform" not in claims["permissions"]


@pytest.mark.parametrize("lifetime", ["1", "h", "0s", "-1h", "1.5h", "\uff11h", "99999999999d"])
def test_lifetime_is_checked(lifetime: str) -> None:
    """The lifetime of a token must be a positive whole number with a unit."""
    asked = CliRunner().invoke(command, ["token", "--organization=acme", "--user=u1", f"--expires={lifetime}"])
    assert (asked.exit_code, "is not like 30m, 1h or 7d" in asked.output) == (2, True)


@pytest.mark.parametrize("part", ["api", "worker", "migrate"])
def test_part_without_servers_is_one_line(alone: Up, part: str) -> None:
    """A part without URLs and without a running `up` says in one line what is missing."""
    ended = alone.run(part, *(("--port", "0") if part == "api" else ()))
    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert ended.err.startswith("celeriac: DATABASE_URL is not set")


def test_wrong_setting_is_one_line(alone: Up) -> None:
    """A wrong setting stops `up` with one line that names it."""
    alone.environment["CELERIAC_HEARTBEAT"] = "often"
    ended = alone.run("up")
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert ended.err.startswith("celeriac: CELERIAC_HEARTBEAT: ")
