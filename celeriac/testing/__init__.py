"""For tests of handlers: run one inline, see what was enqueued, or run jobs on a real platform of the test session.

Its fixtures come with pytest by themselves; nothing is imported before one of them is used. See docs/testing.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celeriac.testing.inline import Enqueued, Ran, Step, collected, run_inline
    from celeriac.testing.platform import RealPlatform, real_platform

__all__ = ["Enqueued", "Ran", "RealPlatform", "Step", "collected", "real_platform", "run_inline"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        from importlib import import_module  # noqa: PLC0415 - at the first use, as all of it

        if name in __all__:
            place = "platform" if name in ("RealPlatform", "real_platform") else "inline"
            return getattr(import_module(f"celeriac.testing.{place}"), name)
        raise AttributeError(f"module 'celeriac.testing' has no attribute {name!r}")
