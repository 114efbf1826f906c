"""`python -m bench.sbom`: what the image holds, from its lock, as a CycloneDX bill of materials."""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parents[1] / "requirements" / "production.lock"
ROOT = "celeriac"
PIN = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==([^\s;\\]+)(?: *; *([^\\]+?))? *\\?$")
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
VIA = re.compile(r"^    #(?: via| {2}) +([\w.-]+)")


def bill(lock: str) -> dict[str, Any]:
    """The bill of a lock with hashes, the same each time; licences are those of what is installed here."""
    components: dict[str, dict[str, Any]] = {}
    needed: defaultdict[str, set[str]] = defaultdict(set)
    name = ""
    for line in lock.splitlines():
        if pin := PIN.match(line):
            name = pin[1]
            components[name] = _component(name, pin[2], pin[3])
        elif (found := HASH.search(line)) and name:
            components[name]["externalReferences"][0]["hashes"].append({"alg": "SHA-256", "content": found[1]})
        elif (via := VIA.match(line)) and name:
            needed[via[1]].add(name)
    own = {"type": "application", "name": ROOT, "version": version(ROOT), "bom-ref": ROOT}
    references = {ROOT: ROOT, **{each: component["bom-ref"] for each, component in components.items()}}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": own},
        "components": list(components.values()),
        "dependencies": [
            {"ref": reference, "dependsOn": sorted(references[other] for other in needed[each])}
            for each, reference in references.items()
        ],
    }


def _component(name: str, pinned: str, condition: str | None) -> dict[str, Any]:
    reference = f"pkg:pypi/{name}@{pinned}"
    licence = _licence(name)
    return {
        "type": "library",
        "name": name,
        "version": pinned,
        "bom-ref": reference,
        "purl": reference,
        "scope": "optional" if condition else "required",  # which depends on the platform
        **({"licenses": [{"expression": licence}]} if licence else {}),
        # A hash for each file of this version: sources, and wheels for several platforms.
        "externalReferences": [{"type": "distribution", "url": reference, "hashes": []}],
    }


def _licence(name: str) -> str | None:
    try:
        said = metadata(name).json
    except PackageNotFoundError:
        return None
    return str(said["license_expression"]) if "license_expression" in said else None


if __name__ == "__main__":
    json.dump(bill(LOCK.read_text(encoding="utf-8")), sys.stdout, indent=1)
    sys.stdout.write("\n")
