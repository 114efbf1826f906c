"""Which frames of a traceback are those of whoever writes handlers."""

from __future__ import annotations

import sysconfig

from celeriac.embedded.failures import own_frames
from celeriac.packages import HOME

LIBRARY = f'  File "{sysconfig.get_path("purelib")}/celery/app/trace.py", line 9, in trace\n    run()\n'
OURS = f'  File "{HOME}/tasks/attempt/job.py", line 5, in __call__\n    call()\n'
MINE = '  File "/home/me/shop/words.py", line 7, in say\n    spell(word)\n'
DEBIANS = '  File "/usr/lib/python3/dist-packages/celery/app/autoretry.py", line 38, in run\n    task()\n'
DEEP = '  File "/home/me/shop/spelling.py", line 3, in spell\n    raise LookupError\n'
HEAD, END = "Traceback (most recent call last):\n", "LookupError: no such word\n"


def test_frames_of_libraries_and_of_ours_are_left_out() -> None:
    """The frames of the user's files are shown, each with its line of code, the innermost last."""
    assert own_frames(HEAD + LIBRARY + OURS + DEBIANS + MINE + DEEP + END) == [
        "/home/me/shop/words.py:7 in say",
        "    spell(word)",
        "/home/me/shop/spelling.py:3 in spell",
        "    raise LookupError",
    ]


def test_without_an_own_frame_the_last_one_is_shown() -> None:
    """A failure within a library is shown by its innermost frame; one without a traceback by none."""
    assert own_frames(HEAD + OURS + LIBRARY + END)[0].endswith("celery/app/trace.py:9 in trace")
    assert own_frames("") == []
    assert own_frames("no traceback") == []
