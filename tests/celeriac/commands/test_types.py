"""What an operator does at a terminal with the types of jobs whose work is done elsewhere: `celeriac types`."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result

from celeriac.commands.cli import command
from tests.tracked import Tracked
from tracking import external_types
from tracking.exit_status import Exit
from tracking.external_types import BUILT_IN

pytestmark = pytest.mark.usefixtures("configured")


def celeriac(*arguments: str) -> Result:
    """The result of `celeriac types`."""
    return CliRunner().invoke(command, ["types", *arguments])


def test_the_types_are_listed_with_what_they_ask_for(tracked: Tracked) -> None:
    """`celeriac types external` lists the built-in types and those that were added, with permission and time."""
    assert celeriac("add", "ocr", "--permission", "documents.read", "--timeout", "5m").output == "ocr: added.\n"
    listed = {line.split()[0]: line for line in celeriac("external").output.splitlines()}
    assert listed.keys() == {*BUILT_IN, "ocr"}
    assert listed["ocr"].split() == ["ocr", "documents.read", "given", "up", "after", "0:05:00"]
    assert "no permission" in listed["generic"]
    assert listed["generic"].endswith("1:00:00")


def test_a_type_is_changed_and_removed(tracked: Tracked) -> None:
    """`celeriac types add` changes a type that is there, and `remove` takes it away, once."""
    assert celeriac("add", "ocr").output == "ocr: added.\n"
    assert celeriac("add", "ocr", "--permission", "p").output == "ocr: changed.\n"
    assert [each.permission for each in external_types.every(tracked.connection)] == ["p"]
    assert celeriac("remove", "ocr").output == "ocr: removed.\n"
    assert external_types.every(tracked.connection) == []
    again = celeriac("remove", "ocr")
    assert (again.exit_code, "no operator has added" in again.stderr) == (Exit.MISUSED, True)


def test_a_built_in_type_may_ask_for_more_and_be_as_it_was(tracked: Tracked) -> None:
    """A built-in type can be given a permission, and be put back to what it was."""
    assert celeriac("add", "llm_agent", "--permission", "agents.run").exit_code == Exit.FINE
    assert celeriac("remove", "llm_agent").output == "llm_agent: as it was built in.\n"
    assert "llm_agent" in celeriac("external").output


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("add", "export_report"), "a handler has the type 'export_report'"),
        (("add", "ocr", "--timeout", "soon"), "--timeout"),
        (("add", "ocr", "--timeout", "99999999d"), "the timeout is seconds, more than 0 and 31536000 at most"),
        (("add", ""), "must be text and not empty"),
    ],
)
def test_what_can_be_no_such_type_is_refused(arguments: tuple[str, ...], line: str) -> None:
    """The type of a handler, a time that is none or that nobody waits for, and an empty name get one line each."""
    result = celeriac(*arguments)
    assert (result.exit_code, line in result.stderr) == (Exit.MISUSED, True), result.stderr
