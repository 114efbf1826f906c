"""The `celeriac` command as a program: whatever goes wrong is one line on stderr and an exit status."""

from __future__ import annotations

import sys
import traceback
from typing import Any, NoReturn

import click

from tracking.errors import ConfigurationError
from tracking.exits import Exit, Fault, fault_of, one_line
from tracking.settings import settings

INTERRUPTED = 130  # 128 + SIGINT, as a shell says it

STATUSES = {
    Exit.FINE: "all is well",
    Exit.FAILED: "a promise is broken, a job failed, or Celeriac itself is at fault",
    Exit.MISUSED: "wrong use or a wrong setting",
    Exit.AWAY: "a server is away: try again later",
}


class Program(click.Group):
    """A group of commands that return None or their exit status."""

    def main(self, *arguments: Any, **options: Any) -> NoReturn:
        """Run one, and leave with its status."""
        try:
            status = super().main(*arguments, **{**options, "standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            status = Exit.MISUSED
        except click.Abort:
            status = INTERRUPTED
        except Exception as error:  # noqa: BLE001 - the last one who can say what it was
            fault = _judged(error)
            click.echo(f"celeriac: {fault.line}", err=True)
            if _is_debugging():
                traceback.print_exception(error)
            status = fault.status
        sys.exit(status)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What the exit statuses mean."""
        super().format_epilog(ctx, formatter)
        _write_statuses(formatter)


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


Program.command_class = Command
Program.group_class = Commands


def _write_statuses(formatter: click.HelpFormatter) -> None:
    with formatter.section("Exit status"):
        formatter.write_dl([(str(int(status)), meaning) for status, meaning in STATUSES.items()])


def _judged(error: Exception) -> Fault:
    if isinstance(error, click.ClickException):
        return Fault(Exit.MISUSED, _usage(error))
    return fault_of(error) or Fault(
        Exit.FAILED, f"a fault of its own, {type(error).__name__}: CELERIAC_DEBUG=true shows where"
    )


def _usage(error: click.ClickException) -> str:
    said = one_line(error.format_message())
    context = getattr(error, "ctx", None)
    return f"{said} See `{context.command_path} --help`." if context else said


def _is_debugging() -> bool:
    try:
        return settings().debug
    except ConfigurationError:  # then that is the error, and its line says all
        return False
