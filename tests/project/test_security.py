"""docs/security.md and the bill of materials: what they name is there."""

from __future__ import annotations

import re

from bench.sbom import LOCK, bill
from tests.project.test_locks import PROJECT, ROOT, requirements

PAGE = (ROOT / "docs" / "security.md").read_text()
ROW = re.compile(r"^\| (API\d+|3\.\d+|Rows|Accounts|Dependencies) [^|]*\| [^|]+\| ([^|]+) \|$", re.MULTILINE)
BELOW = ["Rows", "Accounts", "Dependencies"]
HELD = re.compile(r"\[`(test_\w+)`\]\(\.\./(tests/[\w/]+\.py)\)")


def test_each_line_is_held_by_tests_that_are_there() -> None:
    """Each risk of OWASP's, practice of RFC 8725 and layer below has its row, whose tests are where it says."""
    rows = dict(ROW.findall(PAGE))
    assert [*rows] == [
        *(f"API{number}" for number in range(1, 11)),
        *(f"3.{number}" for number in range(1, 13)),
        *BELOW,
    ]
    for said in rows.values():
        named = HELD.findall(said)
        assert named
        for name, path in named:
            assert f"def {name}(" in (ROOT / path).read_text(), (name, path)


def test_the_bill_has_what_the_lock_has() -> None:
    """Each pinned package is in the bill of materials once, with its version and hashes, and with what needs it."""
    lock = LOCK.read_text()
    found = bill(lock)
    pins = dict(re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==([^ \\]+)", lock, re.MULTILINE))
    assert {each["name"]: each["version"] for each in found["components"]} == pins
    hashes = [of["content"] for each in found["components"] for of in each["externalReferences"][0]["hashes"]]
    assert sorted(hashes) == sorted(re.findall(r"--hash=sha256:(\w{64})", lock))
    references = {each["bom-ref"] for each in found["components"]} | {"celeriac"}
    needs = {each["ref"]: each["dependsOn"] for each in found["dependencies"]}
    assert needs.keys() == references
    assert {each for needed in needs.values() for each in needed} == references - {"celeriac"}
    named = {reference.removeprefix("pkg:pypi/").partition("@")[0] for reference in needs["celeriac"]}
    assert {each.name for each in requirements(production=True) if each.name in pins} <= named
    assert found["metadata"]["component"]["version"] == PROJECT["project"]["version"]
