"""Arguments that a shell completes with what there is: types of jobs, which the API knows, and profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celeriac.commands.names import Name

if TYPE_CHECKING:
    from collections.abc import Iterable

    import click
    from click.shell_completion import CompletionItem

# ruff: noqa: PLC0415  the help of a command does without what completes it

PATIENCE = 2.0  # seconds that somebody waits who has pressed Tab


class JobType(Name):
    """The type of a job, of those that the API of the profile has."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click's signature
        """Those that begin so; none when the API is not asked, does not answer or says no."""
        from celeriac.client import ApiError, Client
        from celeriac.commands.profiles import chosen
        from tracking.errors import ConfigurationError

        if ctx.params.get("operator") or ctx.params.get("organization"):
            return []
        try:
            profile = chosen(ctx.params.get("profile"))
            with Client(profile.url, profile.token, patience=0, timeout=PATIENCE) as client:
                return _items(incomplete, (each.job_type for each in client.job_types()))
        except (ApiError, ConfigurationError, ValueError):  # nothing may be printed into somebody's line
            return []


class ProfileName(Name):
    """The name of a profile of `celeriac login`."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - as above
        """Those that begin so."""
        from celeriac.commands.profiles import read
        from tracking.errors import ConfigurationError

        try:
            return _items(incomplete, read())
        except ConfigurationError:
            return []


def _items(incomplete: str, names: Iterable[str]) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]
