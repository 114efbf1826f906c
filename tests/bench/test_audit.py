"""The audit passes what is well, fails what is known to be broken, and says when it has not asked."""

from __future__ import annotations

import json

import pytest

from bench.audit import judged

GOOD = {"name": "celery", "version": "5.7.0", "vulns": []}
BAD = {"name": "amqp", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}
UNKNOWN = {"name": "kombu", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "passes", "said"),
    [
        ([GOOD], True, "audit: 1 packages without a known vulnerability"),
        ([GOOD, BAD], False, "audit: known vulnerabilities\namqp 1.0: PYSEC-1, mended in 1.1"),
        ([GOOD, UNKNOWN], True, "audit: 1 packages without a known vulnerability; not known there: kombu"),
        ([UNKNOWN, BAD], False, "audit: known vulnerabilities\namqp 1.0: PYSEC-1, mended in 1.1"),
    ],
)
def test_a_known_vulnerability_fails(packages: list[object], passes: object, said: str) -> None:
    """The audit fails for a known vulnerability alone, and names what it could not ask for."""
    assert judged(json.dumps({"dependencies": packages}), "") == (passes, said)


@pytest.mark.parametrize(
    ("out", "err", "passes"),
    [
        ("", "Traceback ...\nrequests.exceptions.ConnectionError: failed to resolve", True),
        (json.dumps({"dependencies": [UNKNOWN, UNKNOWN]}), "", True),
        ("", "error: no such file", False),
        ("", "", False),
    ],
)
def test_what_was_not_asked_is_skipped_with_the_reason(out: str, err: str, passes: object) -> None:
    """An audit that cannot reach its source passes and says so; one that failed by itself does not pass."""
    passed, said = judged(out, err)
    assert passed is passes
    assert ("skipped" in said) is passes
