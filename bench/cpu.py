"""CPU time of trees of processes, those that have ended included."""

from __future__ import annotations

from collections.abc import Mapping

import psutil


def read_cpu(roots: Mapping[str, int | None]) -> dict[str, float]:
    """User and system seconds so far of each tree; a process that has ended is in its parent's account."""
    return {name: _tree(pid) for name, pid in roots.items() if pid is not None}


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
