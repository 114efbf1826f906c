"""The `celeriac` command as a program: whatever goes wrong is one line on stderr and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import click

from tracking.exit_status import MEANINGS, Exit

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from tracking.exits import Fault

# ruff: noqa: PLC0415  the help of a command, and what completes it, load nothing else


class Later(NamedTuple):
    """A command that is imported when it is called: where it is, and what the list of all says of it."""

    module: str
    name: str
    words: str


class Program(click.Group):
    """A group of commands that return None or their exit status. `sections`: the list of all, under its headings."""

    def __init__(self, *arguments: Any, sections: Mapping[str, Mapping[str, Later]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.sections = sections
        self.table = {name: later for section in sections.values() for name, later in section.items()}

    def main(self, *arguments: Any, **options: Any) -> NoReturn:
        """Run one, and leave with its status."""
        try:
            status = super().main(*arguments, **{**options, "standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            status = Exit.MISUSED
        except (click.Abort, KeyboardInterrupt):
            status = Exit.INTERRUPTED
        except _LeftAloneError:
            status = _left_alone()
        except Exception as error:  # noqa: BLE001 - the last one who can say what it was
            status = _told(error)
        sys.exit(status)

    def invoke(self, ctx: click.Context) -> Any:
        """Run it. A pipe that is closed is no fault; click would end with 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _LeftAloneError from error

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """All names, without importing what they are of."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """The command of a name; None: there is none."""
        return self.found(cmd_name) if cmd_name in self.table else None

    def found(self, name: str) -> click.Command:
        """The command of a name that there is."""
        later = self.table[name]
        command: click.Command = getattr(import_module(later.module), later.name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is called. Raises NoSuchCommand, which says what was meant."""
        if args[0] not in self.table and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise click.exceptions.NoSuchCommand(args[0], possibilities=self.table, ctx=ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The names that begin so."""
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=self.table[name].words) for name in self.table if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """All of them, under their headings."""
        for heading, section in self.sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name, later.words) for name, later in section.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What the exit statuses mean."""
        super().format_epilog(ctx, formatter)
        _write_statuses(formatter)


class _LeftAloneError(Exception):
    """Nobody reads the output any more."""


class Command(click.Command):
    """A command of the program, whose help ends with what its exit statuses mean."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What the exit statuses mean."""
        super().format_epilog(ctx, formatter)
        _write_statuses(formatter)


class Commands(click.Group):
    """Commands of one kind below the program's, whose help ends like that of the others."""

    command_class = Command

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What the exit statuses mean."""
        super().format_epilog(ctx, formatter)
        _write_statuses(formatter)


def _write_statuses(formatter: click.HelpFormatter) -> None:
    with formatter.section("Exit status"):
        formatter.write_dl([(str(int(status)), meaning) for status, meaning in MEANINGS.items()])


def _left_alone() -> Exit:
    """Whoever read the output has enough of it, as `head` has: that is no fault, and nothing more is written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at its end
    return Exit.FINE


def _told(error: Exception) -> int:
    fault = _judged(error)
    click.echo(f"celeriac: {fault.line}", err=True)
    if _is_debugging():
        import traceback

        traceback.print_exception(error)
    return fault.status


def _judged(error: Exception) -> Fault:
    from tracking.exits import Fault, fault_of, one_line

    if isinstance(error, click.ClickException):
        return Fault(Exit.MISUSED, _usage(error, one_line))
    if _is_of_the_client(error):
        from celeriac.commands.saying import fault_of_answer

        return fault_of_answer(error)
    if isinstance(error, OSError) and error.strerror:  # a full disk below the output, a file that may not be read
        return Fault(Exit.FAILED, f"{error.filename or 'the output, or what was read'}: {error.strerror}")
    return fault_of(error) or Fault(
        Exit.FAILED, f"a fault of its own, {type(error).__name__}: CELERIAC_DEBUG=true shows where"
    )


def _is_of_the_client(error: Exception) -> bool:
    transport = sys.modules.get("celeriac.client.transport")  # not imported: then it is not of the client
    return transport is not None and isinstance(error, transport.ApiError)


def _usage(error: click.ClickException, one_line: Any) -> str:
    said: str = one_line(error.format_message())
    said = said if said.endswith((".", "?", "!", "…")) else f"{said}."
    context = getattr(error, "ctx", None)
    return f"{said} See `{context.command_path} --help`." if context else said


def _is_debugging() -> bool:
    from tracking.errors import ConfigurationError
    from tracking.settings import settings

    try:
        return settings().debug
    except ConfigurationError:  # then that is the error, and its line says all
        return False
