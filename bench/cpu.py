"""CPU time of trees of processes, those that have ended included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psutil

Roots = Mapping[str, Sequence[int | None]]  # process ids by part; None is a process that we cannot see


def read_cpu(roots: Roots) -> dict[str, float]:
    """User and system seconds so far of trees of processes; a process that has ended is in its parent's account."""
    return {
        name: sum(_tree(pid) for pid in pids if pid is not None)
        for name, pids in roots.items()
        if any(pid is not None for pid in pids)
    }


def read_busy() -> float:
    """Seconds that all processors together have not been idle since boot."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def _tree(pid: int) -> float:
    root = psutil.Process(pid)
    return sum(_seconds(process) for process in (root, *root.children(recursive=True)))


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:  # ended since the look-up: its parent has the time from now on
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)
