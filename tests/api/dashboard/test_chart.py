"""The chart of the page of the jobs: what it counts, where it is drawn, and the time that is chosen on it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import expect

from api.dashboard.drawing import BOTTOM, TOP, WIDTH, chart
from tests.api.calling import Caller
from tests.api.dashboard.conftest import PATIENCE, Window
from tracking.models import JobRecord, Scope
from tracking.reads import throughput
from tracking.reads.lists import EPOCH
from tracking.reads.throughput import By, Group, Grouped, Slice

expect.set_options(timeout=PATIENCE)

MINUTE = timedelta(minutes=1)
EARLIER = """
    UPDATE jobs SET created_at = created_at - CAST(%(back)s AS interval),
                    started_at = started_at - CAST(%(back)s AS interval),
                    completed_at = completed_at - CAST(%(back)s AS interval)
    WHERE id = %(id)s"""
BEHIND = "UPDATE jobs SET depends_on = ARRAY[id], created_at = created_at - interval '1 day' WHERE id = %s"
WAITED = "UPDATE jobs SET created_at = started_at - CAST(%s AS interval) WHERE id = %s"


def earlier(caller: Caller, job: JobRecord, back: timedelta) -> JobRecord:
    """The job as if all of it had been so long before."""
    with caller.api.database.autocommit() as connection:
        connection.exec_driver_sql(EARLIER, {"back": back, "id": job.id})
    return caller.find(job.id)


def test_a_chart_counts_the_ends_of_jobs(caller: Caller) -> None:
    """The chart counts how jobs ended, in parts of the window that lie beside each other up to now."""
    for state in ("succeeded", "succeeded", "failed", "cancelled", "queued"):
        caller.job(state)
    with caller.api.database.autocommit() as connection:
        scope = Scope(caller.organization, None)
        slices = throughput.finished(connection, scope, window=timedelta(hours=1), slices=60)
    assert len(slices) == 60
    assert {later.start - one.start for one, later in pairwise(slices)} == {timedelta(minutes=1)}
    found = [sum(getattr(each, name) for each in slices[-2:]) for name in ("succeeded", "failed", "cancelled")]
    assert found == [2, 1, 1]
    assert sum(each.total for each in slices) == 4


ENDS = st.tuples(*[st.integers(0, 10**6)] * 3)
WAITS = st.none() | st.timedeltas(timedelta(0), timedelta(days=30))


@given(st.lists(st.tuples(ENDS, WAITS), max_size=100))
def test_every_bar_and_line_lies_within_the_chart(counted: list[tuple[tuple[int, int, int], timedelta | None]]) -> None:
    """Whatever is counted, each bar and each wait lies within the lines, and what failed within what ended."""
    ends = [each for each, _ in counted]
    drawn = chart(
        [Slice(EPOCH + number * MINUTE, *each, wait, wait) for number, (each, wait) in enumerate(counted)], MINUTE
    )
    places = [tuple(map(float, place.split(","))) for line in drawn.waits for place in line.split()]
    assert all(0 <= x <= WIDTH and TOP - 0.1 <= y <= BOTTOM for x, y in places)
    assert len(places) >= sum(wait is not None for _, wait in counted)
    for bar in drawn.bars:
        assert TOP - 0.1 <= bar.good_y <= BOTTOM
        assert bar.bad_height <= max(bar.good_height + 0.1, 2)
    assert drawn.total == sum(map(sum, ends))


def test_a_chart_has_the_waits_of_what_could_run(caller: Caller) -> None:
    """The waits of a part are those before the start of jobs that needed one attempt, half of them and 95 of 100."""
    for seconds in (1, 1, 1, 9):
        job = caller.job("succeeded")
        with caller.api.database.autocommit() as connection:
            connection.exec_driver_sql(WAITED, (timedelta(seconds=seconds), job.id))
    behind = caller.job("succeeded")
    with caller.api.database.autocommit() as connection:
        connection.exec_driver_sql(BEHIND, (behind.id,))
        slices = throughput.finished(connection, Scope(caller.organization, None), window=timedelta(days=1), slices=1)
    assert len(slices) == 1
    median, slowest = slices[0].median, slices[0].slowest
    assert median is not None
    assert slowest is not None
    assert timedelta(seconds=1) <= median < timedelta(seconds=2)
    assert timedelta(seconds=7) < slowest < timedelta(seconds=10)


def test_ends_are_told_apart_by_type_queue_and_worker(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each group has what the parts of the window have of it, those with most first, and the rest are others."""
    monkeypatch.setattr(throughput, "MOST_GROUPS", 2)
    kinds = {"a": 3, "b": 2, "c": 1, "d": 1}
    for kind, number in kinds.items():
        for _ in range(number):
            caller.job("failed", job_type=kind, queue=f"queue-{kind}")
    caller.job("cancelled", job_type="a", queue="queue-a")
    caller.job("running", job_type="c")
    earlier(caller, caller.job("succeeded", job_type="d"), timedelta(hours=2))
    caller.but(user="u2").job("succeeded", job_type="c")
    mine = Scope(caller.organization, "u1")
    with caller.api.database.autocommit() as connection:

        def totals(by: By) -> list[tuple[str | None, int]]:
            found = throughput.grouped(connection, mine, by, window=timedelta(hours=1), slices=60)
            assert not found.is_partial
            return [(each.name, each.total) for each in found.groups]

        assert totals(By.TYPE) == [("a", 4), ("b", 2), (None, 2)]
        assert totals(By.QUEUE) == [("queue-a", 4), ("queue-b", 2), (None, 2)]
        assert totals(By.WORKER) == [("worker-1", 7), ("", 1)]
        monkeypatch.setattr(throughput, "MOST_GROUPED", 5)
        newest = throughput.grouped(connection, mine, By.TYPE, window=timedelta(hours=1), slices=60)
    assert (newest.is_partial, sum(each.total for each in newest.groups)) == (True, 5)


@given(st.lists(st.lists(st.integers(0, 10**5), min_size=3, max_size=3), max_size=60))
def test_blocks_fill_their_bar(counted: list[list[int]]) -> None:
    """The blocks of a bar lie on each other from the bottom line to the height of all that ended then.

    The last one stands for what was not told apart.
    """
    starts = [EPOCH + number * MINUTE for number in range(len(counted))]
    slices = [Slice(start, sum(numbers), 0, 0) for start, numbers in zip(starts, counted, strict=True)]
    columns = [*zip(*counted, strict=True)] or [()] * 3
    groups = [Group(str(name), dict(zip(starts, column, strict=True))) for name, column in enumerate(columns[:2])]
    drawn = chart(slices, MINUTE, grouped=Grouped(groups, is_partial=False))
    for bar, numbers in zip(drawn.bars, counted, strict=True):
        expected = [(place, number) for place, number in zip((0, 1, None), numbers, strict=True) if number]
        assert [(block.group, block.number) for block in bar.blocks] == expected
        below = float(BOTTOM)
        for block in bar.blocks:
            assert abs(block.y + block.height - below) < 0.2
            below = block.y
        assert abs(below - bar.good_y) < 0.2


def test_a_chart_is_told_apart_at_a_wish(caller: Caller, window: Window) -> None:
    """By its links a chart tells jobs apart by type, queue or worker, and each name leads to its jobs; live, too."""
    for kind, number in {"open": 4, "guarded": 2, "<b>odd</b>": 1}.items():
        for place in range(number):
            earlier(caller, caller.job("succeeded", job_type=kind), timedelta(minutes=5 + 7 * place))
    page = window.sign_in(caller)
    page.get_by_role("link", name="day", exact=True).click()
    page.get_by_role("link", name="type", exact=True).click()
    legend = page.get_by_role("list", name="Jobs that ended, by type")
    expect(legend.get_by_role("listitem")).to_have_text(["open 4", "guarded 2", "<b>odd</b> 1"])
    expect(page.get_by_role("link", name="day", exact=True)).to_have_attribute("aria-current", "true")
    window.picture("jobs-by-type")
    caller.job("succeeded", job_type="guarded")
    expect(legend.get_by_role("listitem").nth(1)).to_have_text("guarded 3")
    legend.get_by_role("link", name="guarded").click()
    expect(page.locator("#rows tr")).to_have_count(3)
    expect(legend).to_be_visible()
    page.get_by_role("link", name="worker", exact=True).click()
    expect(page.get_by_role("list", name="by worker").get_by_role("listitem")).to_have_text(["worker-1 8"])
    page.get_by_role("link", name="outcome", exact=True).click()
    expect(page.locator(".groups")).to_have_count(0)


def test_a_time_is_chosen_without_a_script(caller: Caller, reader: httpx2.Client) -> None:
    """A form, and each part in the table, narrow the search to what ended in a time, and leave the rest of it."""
    assert reader.get("/?by=nonsense").status_code == 200
    old, new = earlier(caller, caller.job("failed"), timedelta(hours=2)), caller.job("failed")
    until = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M")
    asked = {"q": "status:failed ended:2026-01-01..", "since": "", "until": until, "window": "day", "by": "queue"}
    answer = reader.get("/", params=asked)
    assert answer.status_code == 303
    assert answer.headers["location"].endswith("&window=day&by=queue")
    page = reader.get(answer.headers["location"]).text
    assert re.findall(r'id="job-([\w-]+)"', page) == [str(old.id)]
    assert f'value="status:failed ended:..{until}:00Z"' in page
    parts = re.findall(r'<th scope="row"><a href="([^"]+)"', reader.get("/?q=status:failed").text)
    assert len(parts) == 1
    narrowed = reader.get(parts[0].replace("&amp;", "&")).text
    assert re.findall(r'id="job-([\w-]+)"', narrowed) == [str(new.id)]
    cleared = reader.get("/", params={"q": "type:open ended:2026-01-01..", "since": "", "until": ""})
    assert "q=type%3Aopen" in cleared.headers["location"]


def test_a_range_is_dragged_on_the_chart(window: Window, caller: Caller) -> None:
    """What is dragged on the chart narrows the list to what ended then, is shown there, and can be taken away."""
    old, new = earlier(caller, caller.job("succeeded"), timedelta(minutes=40)), caller.job("failed")
    page = window.sign_in(caller)
    box = page.locator("#chart").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.2 * box["width"], middle)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], middle, steps=4)
    page.mouse.up()
    page.wait_for_url("**ended*")
    expect(page.locator(f"#job-{old.id}")).to_be_visible()
    expect(page.locator(f"#job-{new.id}")).to_have_count(0)
    shown = page.locator("#range").get_attribute("width")
    assert 0.3 * WIDTH < float(shown or 0) < 0.5 * WIDTH
    window.picture("jobs-in-a-time")
    page.get_by_role("link", name="all times").click()
    expect(page.locator(f"#job-{new.id}")).to_be_visible()
    page.get_by_text("Choose a time").click()
    page.locator("#chart-table tbody a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**ended*")
    expect(page.locator("#rows tr")).to_have_count(1)
