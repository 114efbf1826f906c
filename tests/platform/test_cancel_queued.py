"""Cancel while nobody works."""

from __future__ import annotations

from pathlib import Path

from tests.live import LivePlatform
from tests.platform.test_cancel import cancel_row


def test_a_job_cancelled_while_no_worker_was_up_never_runs(platform: LivePlatform, tmp_path: Path) -> None:
    """A job that was cancelled before any worker was up never starts."""
    witness = tmp_path / "witness"
    job_id = platform.submit("nap", payload={"seconds": 0, "witness": str(witness)})
    cancel_row(platform, job_id)
    platform.start_worker(concurrency=1)
    last = platform.submit("count_words", payload={"words": ["later"], "witness": str(witness)})
    platform.wait_for(last)
    assert witness.read_text() == "later\n"
    assert platform.job(job_id).status == "cancelled"
    assert platform.events(job_id) == ["created", "cancelled", "duplicate_refused"]
