"""A page of memory that a process of the pool and the main process share: how far it is with its jobs.

Of a bundle the process answers once, at its end. What the main process must know before, it reads here, also of a
process that was killed: which of the jobs has begun, and what the process would have said of those before. And of a
process that has ended, whether it has left a job half-done.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from struct import Struct

SIZE = 64 * 1024  # bytes, of which the answers are all but a few
LEFT = SIZE - 1  # where the byte is that says so
HEAD = Struct("=qqQ")  # the job that has begun last, the last that was taken back, and the bytes of the answers
NONE = -1  # the first job is 0
PATIENCE = 0.01  # seconds for a process to leave the page: it takes a microsecond, but may have been stopped in it


class Board:
    """Of one process. Jobs are the pool's own numbers, which only rise.

    A lock of the kernel keeps the two apart, because one ends with the process that has it, however that dies.
    """

    def __init__(self) -> None:
        self._file = os.memfd_create("bundle")
        weakref.finalize(self, os.close, self._file)
        os.ftruncate(self._file, SIZE)
        self._page = mmap.mmap(self._file, SIZE)
        HEAD.pack_into(self._page, 0, NONE, NONE, 0)

    # In the process of the pool.

    def begin(self, job: int) -> bool:
        """A job of a bundle begins; False: the main process has taken it back."""
        with self._locked():
            _, taken_back, size = HEAD.unpack_from(self._page)
            if job <= taken_back:
                return False
            HEAD.pack_into(self._page, 0, job, taken_back, size)
            return True

    def keep(self, job: int, answer: bytes) -> bool:
        """Keep what is to be said of a job until its bundle is over; False: say it now."""
        with self._locked():
            begun, taken_back, size = HEAD.unpack_from(self._page)
            ends = HEAD.size + size + len(answer)
            if job <= taken_back or ends > LEFT:
                return False
            self._page[HEAD.size + size : ends] = answer
            HEAD.pack_into(self._page, 0, begun, taken_back, size + len(answer))
            return True

    def answers(self) -> bytes:
        """What is kept."""
        with self._locked():
            return self._answers()

    def forget(self) -> None:
        """It is said. Killed before this, the process has said it twice, of which the main process hears once."""
        with self._locked():
            self._forget()

    def leave(self) -> None:
        """The process ends, and has told the end of each job that it has begun."""
        self._page[LEFT] = 1

    # In the main process.

    @property
    def is_left(self) -> bool:
        """Whether the process has said so: what it was given besides, it has not begun."""
        return self._page[LEFT] == 1

    def take_back(self, last: int) -> tuple[int, bytes] | None:
        """Let none begin any more of a bundle whose last job is `last`.

        The job that has begun last, of whichever bundle, and what is kept. None: the process was stopped while it was
        here, and nobody knows.
        """
        if not self._lock_soon():
            return None
        try:
            begun, _, _ = HEAD.unpack_from(self._page)
            answers = self._answers()
            HEAD.pack_into(self._page, 0, begun, last, 0)
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
        return begun, answers

    def _answers(self) -> bytes:
        size = HEAD.unpack_from(self._page)[2]
        return self._page[HEAD.size : HEAD.size + size]

    def _forget(self) -> None:
        begun, taken_back, _ = HEAD.unpack_from(self._page)
        HEAD.pack_into(self._page, 0, begun, taken_back, 0)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _lock_soon(self) -> bool:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    return False
                time.sleep(PATIENCE / 20)
            else:
                return True
