"""What the doctor has found, from this host or by the API, as a list for people."""

from __future__ import annotations

import click

from celeriac.client.looking import Examination, Finding
from celeriac.commands.screen import Screen, clean, lasted
from tracking.exit_status import Exit

SIGNS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "red"), "skipped": ("-", "bright_black")}


def examined(profile: str | None) -> Examination:
    """What is found, by the API of a profile; None: from this host, whatever is away."""
    if profile is not None:
        from celeriac.commands.reaching import connected  # noqa: PLC0415 - the other way does without

        with connected(profile, None, None, operator=False) as client:
            return client.examination()
    return _from_here()


def print_examination(found: Examination, *, as_json: bool) -> Exit:
    """Print it. Returns FAILED unless no check has."""
    screen = Screen(as_json=as_json)
    if as_json:
        screen.json(found)
    for finding in () if as_json else found.findings:
        _print(screen, finding)
    if screen.is_terminal:
        _print_sum(found)
    return Exit.FINE if found.healthy else Exit.FAILED


def _print(screen: Screen, finding: Finding) -> None:
    if not screen.is_terminal:
        parts = (finding.health, finding.check, finding.reason, finding.mend or "-", f"{finding.took_ms} ms")
        click.echo("\t".join(clean(part) for part in parts))
        return
    from rich.text import Text  # noqa: PLC0415 - a pipe does without

    sign, color = SIGNS[finding.health]
    line = Text(f"{sign} ", color)
    line.append(f"{clean(finding.check):<20} ", "bold")
    line.append(clean(finding.reason))
    line.append(f"  {lasted(finding.took_ms)}", "dim")
    if finding.mend and finding.health in ("warning", "failed"):
        line.append(f"\n{'':<23}→ {clean(finding.mend)}", color)
    screen.print(line)


def _print_sum(found: Examination) -> None:
    failed = sum(each.health == "failed" for each in found.findings)
    warnings = sum(each.health == "warning" for each in found.findings)
    words = "all is well" if not failed and not warnings else f"{failed} failed, {warnings} warnings"
    click.echo(f"\n{len(found.findings)} checks: {words}.")


def _from_here() -> Examination:
    from api.examining import findings  # noqa: PLC0415 - it loads Celery
    from api.schemas import doctor as answers  # noqa: PLC0415 - as above
    from celeriac.commands.operating import quiet  # noqa: PLC0415 - as above
    from celeriac.commands.published import import_published  # noqa: PLC0415 - as above
    from celeriac.preconditions import require_servers  # noqa: PLC0415 - as above
    from tasks.app import app, import_handlers  # noqa: PLC0415 - as above
    from tasks.platform import Platform  # noqa: PLC0415 - as above
    from tracking.settings import settings  # noqa: PLC0415 - as above

    require_servers(settings())
    with quiet():
        import_handlers(settings())
        import_published(settings())
        platform = Platform(app, settings())
        try:
            found = answers.Examination.of(findings(platform))
        finally:
            platform.close(timeout=0.0)
    return Examination.model_validate_json(found.model_dump_json(by_alias=True))
