"""A whole platform in a temporary directory, as one child process that leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from celeriac.embedded import postgres
from celeriac.embedded.processes import Steps, reason_in, spawn
from celeriac.embedded.supervisor import Part
from tracking.errors import ConfigurationError
from tracking.exits import StartError

READY = "Celeriac is ready: "
READY_WITHIN = 150.0  # seconds; `up` itself gives up earlier, with a reason
TOKEN_WITHIN = 60.0
KEPT_LINES = 30
ROUTINE = "[info "  # as tracking.logs writes it: thousands of jobs would push everything else out of the log

# What `up` stops takes its time to; then it is killed, and its parts die with it.
STEPS: Steps = ((signal.SIGTERM, 90.0),)

# Ours, Celery's own and libpq's: the caller's servers and settings are none of the demo's business.
NAMES = ("DATABASE_URL", "BROKER_URL")
PREFIXES = ("CELERIAC_", "CELERY_", "PG")


class Sandbox:
    """`celeriac up` on a free port, with the defaults whatever the caller's environment says.

    `imports`: modules with handlers, found by `path`.

    `directory` is empty until it was launched, `address` until it is ready; `speakers` are the parts that have printed
    something, `log` is what they printed last and is not mere routine.
    """

    def __init__(self, concurrency: int, *, imports: Sequence[str] = (), path: Sequence[str] = ()) -> None:
        self.directory = Path()
        self.address = ""
        self.speakers: set[str] = set()
        self.log: deque[str] = deque(maxlen=KEPT_LINES)
        self._concurrency = concurrency
        self._imports, self._path = imports, path

    def hear(self, _name: str, line: str) -> None:
        """Take a line that the platform printed."""
        speaker, bar, _ = line.partition(" | ")
        if bar:
            self.speakers.add(speaker.strip())
        if line.startswith(READY):
            self.address = line.removeprefix(READY)
        if ROUTINE not in line:
            self.log.append(line)

    def part(self, watch: Callable[[], None]) -> Part:
        """The platform for a supervisor that lets us `hear`; `watch` is called while it starts."""

        def ready(_pid: int) -> bool:
            watch()
            return bool(self.address)

        return Part("platform", self._launch, STEPS, ready, READY_WITHIN, firm=True, is_ours=True, tidy=self._remove)

    def make_token(self, organization: str, user: str, permissions: Sequence[str]) -> str:
        """What `celeriac token` prints. Raises StartError."""
        return self._token(organization, user, *(f"--permission={permission}" for permission in permissions))

    def make_admin_token(self, organization: str, user: str) -> str:
        """The same with every permission in the organization."""
        return self._token(organization, user, "--admin")

    def _token(self, organization: str, user: str, *options: str) -> str:
        try:
            made = subprocess.run(
                _celeriac("token", "--organization", organization, "--user", user, *options),
                env=self._environment(),
                cwd=self.directory,
                capture_output=True,
                text=True,
                timeout=TOKEN_WITHIN,
                check=False,
                start_new_session=True,  # Ctrl-C is for us
            )
        except subprocess.TimeoutExpired:
            raise StartError(f"no token within {TOKEN_WITHIN:.0f} s") from None
        if made.returncode:
            raise StartError(f"no token: {reason_in(made.stderr.splitlines())}")
        return made.stdout.strip()

    def _launch(self) -> subprocess.Popen[bytes]:
        try:
            self.directory = Path(tempfile.mkdtemp(prefix="celeriac-")).resolve()
        except OSError as error:
            raise ConfigurationError(f"no temporary directory can be made: {error.strerror}") from None
        return spawn(
            _celeriac("up", "--port", "0", "--verbose", "--concurrency", str(self._concurrency)),
            death_signal=signal.SIGTERM,  # it stops its parts in order also when we are killed
            environment=self._environment(),
            directory=self.directory,  # nothing that lies about in the caller's can be imported
        )

    def _remove(self) -> None:
        if self.directory != Path():
            postgres.discard(self.directory / "data")
            shutil.rmtree(self.directory)

    def _environment(self) -> dict[str, str]:
        # TMPDIR: what a killed part leaves behind goes with the rest.
        own = {"CELERIAC_DATA_DIR": str(self.directory / "data"), "TMPDIR": str(self.directory)}
        if self._imports:
            own |= {"CELERIAC_IMPORTS": ",".join(self._imports), "PYTHONPATH": os.pathsep.join(self._path)}
        return {**clean(os.environ), **own}


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what could lead a platform to other servers or settings."""
    return {name: value for name, value in environment.items() if name not in NAMES and not name.startswith(PREFIXES)}


def _celeriac(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "celeriac", *arguments]
