"""Variables of the environment: secrets that are files, and what looks like a setting and is none."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from tracking.errors import ConfigurationError

PREFIX = "CELERIAC_"
FILE = "_FILE"  # ends the name of a variable that says in which file the value of another one is
# Variables that are no settings: tracking/crashpoints.py reads the first, tests mark their processes with the second,
# and the others say to a command which API it is to ask (celeriac/commands/profiles.py).
READ_ELSEWHERE = frozenset(
    {"CELERIAC_CRASH_AT", "CELERIAC_TESTS", "CELERIAC_URL", "CELERIAC_TOKEN", "CELERIAC_PROFILE"}
)
# What Kubernetes and Docker's links set beside a service that is called celeriac, or celeriac-something.
OF_A_SERVICE = re.compile(
    r"CELERIAC_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
ADDRESS_OF_A_SERVICE = re.compile(r"(tcp|udp|sctp)://")  # the value of CELERIAC_PORT, which is no port number then


def from_files(environment: Mapping[str, str], secrets: Iterable[str]) -> dict[str, str]:
    """The values of those of these variables whose files the environment names, as Docker and Kubernetes mount them.

    Raises ConfigurationError for a file that cannot be read or is empty, and for a variable that is given both ways.
    """
    found = {}
    for name in secrets:
        path = environment.get(f"{name}{FILE}")
        if not path:
            continue
        if environment.get(name):
            raise ConfigurationError(f"{name} and {name}{FILE} are both set: take one of them")
        try:
            found[name] = Path(path).read_text(encoding="utf-8").strip()  # editors end a file with a line feed
        except OSError as error:
            raise ConfigurationError(f"{name}{FILE}: {path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"{name}{FILE}: {path} is no UTF-8") from None
        if not found[name]:
            raise ConfigurationError(f"{name}{FILE}: {path} is empty")
    return found


def refuse_unknown(environment: Mapping[str, str], settings: Iterable[str]) -> None:
    """Raise ConfigurationError for a variable with our prefix that no setting reads: it would be ignored in silence."""
    known = READ_ELSEWHERE.union(settings)
    for name, value in sorted(environment.items()):
        if name.upper().startswith(PREFIX) and name.upper() not in known and not _is_of_a_service(name, value):
            raise ConfigurationError(f"{name} is not a setting{_suggestion(name.upper(), known)}")


def _suggestion(name: str, known: Iterable[str]) -> str:
    by_end = {
        variable.removeprefix(PREFIX): variable for variable in known
    }  # compared without the prefix, which all have in common
    close = difflib.get_close_matches(name.removeprefix(PREFIX), by_end, n=1)
    return f": did you mean {by_end[close[0]]}?" if close else ": docs/configuration.md lists them"


def _is_of_a_service(name: str, value: str) -> bool:
    if name.endswith("_PORT") and ADDRESS_OF_A_SERVICE.match(value):
        return True
    return OF_A_SERVICE.fullmatch(name) is not None
