"""The chart of the page of the jobs: what it counts, where it is drawn, and the time that is chosen on it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import httpx2
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import expect

from api.dashboard.drawing import BOTTOM, TOP, WIDTH, chart
from tests.api.calling import Caller
from tests.api.dashboard.conftest import PATIENCE, Window
from tracking.models import JobRecord, Scope
from tracking.reads import throughput
from tracking.reads.lists import EPOCH
from tracking.reads.throughput import Slice

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


def test_a_time_is_chosen_without_a_script(caller: Caller, reader: httpx2.Client) -> None:
    """A form, and each part in the table, narrow the search to what ended in a time, and leave the rest of it."""
    old, new = earlier(caller, caller.job("failed"), timedelta(hours=2)), caller.job("failed")
    until = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M")
    asked = {"q": "status:failed ended:2026-01-01..", "since": "", "until": until, "window": "day"}
    answer = reader.get("/", params=asked)
    assert answer.status_code == 303
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
