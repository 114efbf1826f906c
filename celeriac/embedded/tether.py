"""Run as a file: gives up root if told to, ties this process's life to its parent's, and becomes another program.

It is a program of its own because the order matters (the kernel forgets the tie when the user changes) and because
code between fork and exec is unsafe in a parent with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, prctl(2)


def main(parent: int, death_signal: int, user: int, group: int, command: list[str]) -> None:
    """Become `command`, an absolute path and its arguments.

    `user` -1 keeps the user; `death_signal` comes when `parent`, which must be ours, dies.
    """
    if user >= 0:
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, death_signal)
    if os.getppid() != parent:  # it died before the tie was made
        sys.exit(1)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    # No search along PATH: it would import modules that the new user may not be able to read.
    os.execv(command[0], command)  # noqa: S606  no shell is the point


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])
