"""A query reaches nothing but its tables, and ends at its limits, whatever it says."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tasks.progress import JobCancelled
from tasks.querying.running import Limits, QueryCrashed, QueryFailed, run
from tests.live import eventually

LIMITS = Limits(memory=256, disk=256, seconds=20)


def query(sql: str, directory: Path, limits: Limits = LIMITS, heard: Callable[[str, float], None] | None = None) -> str:
    """The rows of a query without files, as csv."""
    output = directory / "result"
    output.touch()
    run(sql, [], output, "csv", directory=directory, limits=limits, heard=heard or (lambda *_: None))
    return output.read_bytes().decode()


ESCAPES = [
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_parquet('/etc/passwd')",
    "SELECT * FROM read_json('/proc/self/environ')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM 'https://127.0.0.1:1/x.csv'",
    "SELECT * FROM read_csv('http://127.0.0.1:1/x.csv')",
    "SELECT * FROM read_parquet('s3://bucket/x.parquet')",
    "SELECT * FROM parquet_metadata('/etc/passwd')",
    "SELECT * FROM query('COPY (SELECT 1) TO ''/tmp/escaped''')",
    "COPY (SELECT 1) TO '/tmp/escaped'",
    "COPY (SELECT 1) TO 'escaped'",
    "ATTACH '/tmp/escaped.db'",
    "ATTACH '/tmp/escaped.db'; SELECT 1",
    "SELECT 1; COPY (SELECT 1) TO '/tmp/escaped'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '/tmp/x.duckdb_extension'",
    "EXPORT DATABASE '/tmp/escaped'",
    "IMPORT DATABASE '/tmp/escaped'",
    "CREATE TABLE t AS SELECT 1",
    "CREATE SECRET s (TYPE s3)",
    "CREATE MACRO m() AS 1",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "RESET memory_limit",
    "PRAGMA enable_profiling",
    "CALL pragma_version()",
    "EXPLAIN ANALYZE SELECT 1",
    "PREPARE p AS SELECT 1",
    "VACUUM",
    "CHECKPOINT",
    "INSERT INTO x VALUES (1)",
    "DELETE FROM duckdb_settings()",
    "SELECT getenv('PATH')",
    "SELECT * FROM request",
    "SELECT * FROM database",
    "",
    ";",
    "-- nothing",
]


def command_of(child: psutil.Process) -> list[str]:
    """Its command line; nothing of one that has ended."""
    try:
        return child.cmdline()
    except psutil.Error:
        return []


@pytest.mark.parametrize("sql", ESCAPES)
def test_a_query_reaches_nothing_outside(sql: str, tmp_path: Path) -> None:
    """Files, networks, extensions, settings and every statement that is no SELECT are refused."""
    before = set(Path("/tmp").glob("escaped*"))  # noqa: S108 - where it would be
    with pytest.raises(QueryFailed) as told:
        query(sql, tmp_path)
    assert "root:" not in str(told.value)
    assert set(Path("/tmp").glob("escaped*")) == before  # noqa: S108 - as above
    assert not list(tmp_path.rglob("escaped*"))


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        (
            "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
            "took longer|needs more",
        ),
        ("SELECT count(*) FROM range(10000000) a, range(10000000) b", "took longer than 3 s"),
        ("SELECT * FROM range(100000000000)", "took longer than 3 s|disk"),
        ("SELECT list(range) FROM range(10000000000)", "memory"),
        ("SELECT repeat('x', 2000000000)", "memory"),
        ("SELECT string_agg(repeat('x', 1000000), '') FROM range(100000)", "memory"),
        (
            "SELECT range, repeat(md5(range::text), 100) x FROM range(10000000) ORDER BY x DESC",
            "took longer|memory|disk",
        ),
    ],
)
def test_a_query_ends_at_its_limits(sql: str, reason: str, tmp_path: Path) -> None:
    """A query without an end, or a huge one, ends at its limit of time, memory or disk, and is told which."""
    began = time.monotonic()
    with pytest.raises(QueryFailed, match=reason):
        query(sql, tmp_path, Limits(memory=256, disk=128, seconds=3))
    assert time.monotonic() - began < 15
    assert not [child for child in psutil.Process().children(recursive=True) if "engine" in str(command_of(child))]


@pytest.mark.parametrize(
    ("how", "kind", "reason"),
    [
        (signal.SIGXCPU, QueryFailed, r"took longer than 20 s of each processor \(CELERIAC_QUERY_TIMEOUT\)"),
        (signal.SIGSEGV, QueryCrashed, "has crashed, by SIGSEGV: that is a fault of ours, or of DuckDB"),
        (signal.SIGKILL, QueryCrashed, "killed by the system: the machine may have no memory left"),
    ],
)
def test_a_crash_is_told_from_a_limit(how: signal.Signals, kind: type[Exception], reason: str, tmp_path: Path) -> None:
    """A process that ends without an answer has exceeded a limit only if its end says so; else it has crashed."""

    def strike(*_: object) -> None:
        for child in psutil.Process().children():
            if "-I" in command_of(child):
                child.send_signal(how)

    with pytest.raises(kind, match=reason):
        query("SELECT count(*) FROM range(10000000) a, range(10000000) b", tmp_path, heard=strike)


def test_the_process_knows_no_secret(tmp_path: Path) -> None:
    """The process of a query has no variable of the platform in its environment, and no setting of a database."""
    seen: list[dict[str, str]] = []

    def look(*_: object) -> None:
        seen.extend(child.environ() for child in psutil.Process().children() if "-I" in command_of(child))

    query("SELECT count(*) FROM range(300000000)", tmp_path, heard=look)
    assert seen
    assert all(not name.startswith(("CELERIAC", "DATABASE", "BROKER", "AWS")) for names in seen for name in names)


def test_a_cancel_ends_the_process(tmp_path: Path) -> None:
    """What is raised while a query is watched ends its process at once."""

    def cancel(*_: object) -> None:
        raise JobCancelled

    with pytest.raises(JobCancelled):
        query("SELECT count(*) FROM range(10000000) a, range(10000000) b", tmp_path, heard=cancel)
    assert not [child for child in psutil.Process().children() if "-I" in child.cmdline()]


PARENT = """
import sys
from pathlib import Path
from tasks.querying.running import Limits, run
output = Path(sys.argv[1]) / "result"
output.touch()
sql = "SELECT count(*) FROM range(10000000) a, range(10000000) b"
limits = Limits(256, 256, 60)
run(sql, [], output, "csv", directory=output.parent, limits=limits, heard=lambda *_: print("on", flush=True))
"""


def test_the_process_dies_with_its_parent(tmp_path: Path) -> None:
    """When the parent is killed, the process of its query ends as well."""
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        (child,) = psutil.Process(parent.pid).children()
        parent.kill()
        eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, within=5, what="its end")


def test_results_are_exact_and_named_once(tmp_path: Path) -> None:
    """Values of every type come out as they are in exports; two columns of one name are refused."""
    values = "9223372036854775807 AS big, 0.10::DECIMAL(5,2) AS d, NULL AS nothing, '=1' AS f, DATE '2026-01-02' AS day"
    sql = f"SELECT {values}"
    assert query(sql, tmp_path) == "big,d,nothing,f,day\r\n9223372036854775807,0.10,,'=1,2026-01-02\r\n"
    (tmp_path / "again").mkdir()
    with pytest.raises(QueryFailed, match="several columns named a"):
        query("SELECT 1 AS a, 2 AS a", tmp_path / "again")


def test_an_answer_is_json_whatever_the_libraries_print(tmp_path: Path) -> None:
    """A query of some seconds, at which the database would print its progress, is answered."""
    assert query("SELECT count(*) AS n FROM range(2000000000)", tmp_path).startswith("n\r\n2000000000")
