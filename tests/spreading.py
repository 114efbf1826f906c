"""Which tests run in one process: those that share a platform or a table, which is made once then. And in which order.

The marks of pytest-xdist would say it, but 3.8 writes them into an attribute that pytest 9.2 does not read any more.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # it has no py.typed

from tests.servers import MARK

GROUPS = "groups.json"
WORDS = frozenset({"broker_url"})  # shared, and made at no cost

# Those whose tests or groups take longest. Begun last, each would keep one process at work while the others idle.
LONGEST = (
    *("test_upgrade", "test_tutorial", "test_interleavings", "test_demo", "test_bench", "test_chaos", "test_up"),
    *("test_canvas", "test_browser", "test_authorization", "test_walk", "test_restore", "test_up_writing"),
    *("test_ends", "test_face", "test_memory", "test_faults", "test_wrong_clocks", "test_batches", "test_fail_over"),
    *("test_holds_live", "test_shutdown", "test_lost_messages", "test_wheel", "test_bundled", "test_described"),
)


def group_of(item: pytest.Item) -> str | None:
    """Those that share what the module makes once, for each of its parameters; None: this one shares nothing."""
    fixtures = getattr(item, "_fixtureinfo").name2fixturedefs  # noqa: B009 - which pytest names nowhere else
    shared = {name for name, found in fixtures.items() if found[-1].scope == "module"}
    if not shared - WORDS:
        return None
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    return "-".join([str(item.path), *(str(parameters[name]) for name in sorted(shared & set(parameters)))])


def tell(items: Iterable[pytest.Item]) -> None:
    """Tell the process that distributes the tests: it collects none itself. All that run them tell the same."""
    found = {item.nodeid: group for item in items if (group := group_of(item)) is not None}
    directory = Path(os.environ[MARK])
    own = directory / f"{GROUPS}.{os.getpid()}"
    own.write_text(json.dumps(found))
    own.replace(directory / GROUPS)


def in_order(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """The longest first, then the greatest groups; the others as they are."""
    items = list(items)
    groups = {item: group_of(item) or item.nodeid for item in items}
    sizes = Counter(groups.values())

    def rank(item: pytest.Item) -> tuple[int, int]:
        name = item.path.stem
        return (LONGEST.index(name) if name in LONGEST else len(LONGEST)), -sizes[groups[item]]

    return sorted(items, key=rank)


class Together(LoadScopeScheduling):  # type: ignore[misc]  # as above
    """Groups as a whole, and every other test by itself, in their order to whichever process has least to do."""

    @cached_property
    def _groups(self) -> dict[str, str]:
        return dict(json.loads((Path(os.environ[MARK]) / GROUPS).read_text()))

    def _split_scope(self, nodeid: str) -> str:
        return self._groups.get(nodeid, nodeid)
