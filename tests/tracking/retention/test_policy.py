"""How long jobs are kept is what the settings say."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.aged import DAY, MINUTE
from tracking.errors import ConfigurationError
from tracking.retention import Policy
from tracking.settings import Settings, settings
from tracking.states import Status


def test_the_policy_is_what_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings give the time of each status in days, and of a type in any unit."""
    monkeypatch.setenv("CELERIAC_RETENTION_FAILED_DAYS", "10")
    monkeypatch.setenv("CELERIAC_RETENTION", "export_report=7d, sync = 12h,ping=5m")
    policy = Policy.configured(Settings())
    kept = [policy.keep("other", status) for status in (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)]
    assert kept == [30 * DAY, 10 * DAY, 90 * DAY]
    assert [policy.keep(job_type, Status.FAILED) for job_type in ("export_report", "sync", "ping")] == [
        7 * DAY,
        timedelta(hours=12),
        5 * MINUTE,
    ]
    assert policy.longest == 90 * DAY


def test_jobs_that_are_only_tracked_go_after_five_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs whose work was done elsewhere are kept five minutes, unless the settings say otherwise of their type."""
    monkeypatch.delenv("CELERIAC_RETENTION", raising=False)
    assert Policy.configured(Settings()).keep("generic", Status.FAILED, external=True) == 5 * MINUTE
    assert Policy.configured(Settings()).keep("generic", Status.FAILED) == 90 * DAY
    monkeypatch.setenv("CELERIAC_RETENTION", "generic=1h")
    assert Policy.configured(Settings()).keep("generic", Status.SUCCEEDED, external=True) == timedelta(hours=1)


@pytest.mark.parametrize("wrong", ["export_report", "a=7", "a=0d", "a=-1d", "=7d", "a=7d b=8d", "a=7w", "a=7d,a=8d"])
def test_a_wrong_time_of_a_type_is_one_line(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    """A wrong time of a type is one line that names the setting."""
    monkeypatch.setenv("CELERIAC_RETENTION", wrong)
    settings.cache_clear()
    with pytest.raises(ConfigurationError, match=r"\ACELERIAC_RETENTION: [^\n]*\Z"):
        settings()
    monkeypatch.undo()
    settings.cache_clear()
