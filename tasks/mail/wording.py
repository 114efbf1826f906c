"""Messages in the words of an operator: templates in the directory of CELERIAC_MESSAGES_DIR.

`NAME.txt` is the text, whose first line may be `Subject: ...`; `NAME.html`, if there is one, the same for mail programs
that show it. They are Jinja's, in its sandbox: what a template is given comes from whoever sends the notification.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
SUBJECT = "subject:"
LARGEST = 256 * 1024  # characters of a text


class UnusableTemplate(Exception):
    """A template cannot be read, or what it needs was not sent with the notification."""


@dataclass(frozen=True, slots=True)
class Words:
    """What a message says; without `html` its text is all of it."""

    subject: str
    text: str
    html: str | None = None


def names(directory: Path | None) -> list[str]:
    """The templates that there are."""
    if directory is None:
        return []
    return sorted(path.stem for path in directory.glob("*.txt") if NAME.fullmatch(path.stem))


def worded(directory: Path, name: str, about: Mapping[str, Any], subject: str | None) -> Words:
    """The words of a template, filled in; `subject` takes the place of its own. Raises UnusableTemplate."""
    source = _source(directory / f"{name}.txt")
    first, _, rest = source.partition("\n")
    if first.lower().startswith(SUBJECT):
        source = rest.removeprefix("\n")
        subject = subject or _filled(directory, f"{name}.txt", first[len(SUBJECT) :], about)
    text = _filled(directory, f"{name}.txt", source, about)
    page = directory / f"{name}.html"
    html = _filled(directory, page.name, _source(page), about) if page.is_file() else None
    return Words(" ".join((subject or name).split()), text, html)


def _source(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnusableTemplate(f"the template {path.name}: {error}") from error


def _filled(directory: Path, file: str, source: str, about: Mapping[str, Any]) -> str:
    environment = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(directory),  # of what it includes
        undefined=StrictUndefined,
        autoescape=file.endswith(".html"),
    )
    try:
        text = environment.from_string(source).render(about)
    except TemplateError as error:
        raise UnusableTemplate(f"the template {file}: {error}") from error
    except Exception as error:  # what the values that were sent make of its expressions, such as 1 + "a"
        raise UnusableTemplate(f"the template {file}: {type(error).__name__}: {error}") from error
    if len(text) > LARGEST:
        raise UnusableTemplate(f"the template {file} makes {len(text):,} characters; {LARGEST:,} are the most")
    return text
