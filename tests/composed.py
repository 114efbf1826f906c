"""What compose.yaml says, with its variables filled in: for tests that run its parts without a container engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PLACE = "/run/secrets"  # of the secrets in a container
TEXT = (ROOT / "compose.yaml").read_text()
SCRIPT = ROOT / "secrets.sh"
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)

PLAIN = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}  # what a container has besides


def values() -> dict[str, str]:
    """A value for each of its variables: passwords that differ, and the handlers of the tests."""
    secrets = {name: f"{name.lower().replace('_', '')}-0123456789abcdef" for name in required()}
    return {
        **secrets,
        "FLOWER_BASIC_AUTH": "operator:a-password-for-this-test",
        "CELERIAC_IMPORTS": "tests.sample_handlers,tests.api.handlers",
    }


def required() -> set[str]:
    """The variables that compose.yaml and secrets.sh want of .env."""
    return {name for text in (TEXT, SCRIPT.read_text()) for name in re.findall(r"\$\{(\w+):\?", text)}


def written(directory: Path, values: Mapping[str, str]) -> Path:
    """The directory of the files that secrets.sh makes of these values, beside a copy of it in `directory`."""
    shutil.copy(SCRIPT, directory)
    (directory / ".env").write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    subprocess.run(["sh", directory / SCRIPT.name], check=True, timeout=60)
    return directory / "secrets"


def opened(environment: Mapping[str, str], secrets: Path) -> dict[str, str]:
    """An environment with what is in the files that it names, instead of their names."""
    return {
        name.removesuffix("_FILE"): (secrets / Path(value).name).read_text() if name.endswith("_FILE") else value
        for name, value in environment.items()
    }


def filled(text: str, values: Mapping[str, str]) -> str:
    """A text as Compose hands it on: `values` for its variables, each of which must have one, and `$` for `$$`."""
    return re.sub(r"\$(?:\$|\{(\w+)[^}]*\})", lambda found: values[found[1]] if found[1] else "$", text)


def environment(service: str, values: Mapping[str, str]) -> dict[str, str]:
    """The environment of a service."""
    return {name: filled(value, values) for name, value in COMPOSE["services"][service]["environment"].items()}


def content(config: str, values: Mapping[str, str]) -> str:
    """The text of one of its configurations."""
    return filled(COMPOSE["configs"][config]["content"], values)
