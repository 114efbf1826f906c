"""The page of one job: where the time of its last attempt went, and what it was given and gave."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from uuid import uuid4

import httpx2
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import expect
from sqlalchemy import text

from api.dashboard.folding import Fold, folded
from api.dashboard.wording import pretty
from tests.api.calling import EVERYTHING, LEASE, PLAIN, Caller
from tests.api.conftest import serving
from tests.api.dashboard.conftest import PHONE, SignIn, Window, link
from tests.live import eventually
from tracking import jobs
from tracking.models import Claim, Failure, JobRecord, Outcome

SAME = {"Sec-Fetch-Site": "same-origin"}
RAN = "UPDATE jobs SET started_at = created_at, completed_at = created_at + make_interval(secs => %s) WHERE id = %s"
LATER = "UPDATE history SET at = at + make_interval(secs => %s) WHERE job_id = %s AND event = %s"
HAPPENED = """
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status, attempt, dispatch,
                         actor, detail, at)
    SELECT id, organization_id, user_id, job_type, %s, 'queued', 'queued', 0, 1, 'admission', CAST(%s AS jsonb),
           created_at + make_interval(secs => %s)
    FROM jobs WHERE id = %s"""
# The page has the job by then, and waits for the lock on what has happened to it.
READS_HISTORY = text(
    """
    SELECT count(*) > 0 FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%history.job_id = %'"""
)
UNSUCCESSFUL = ["Attempts", "Facts", "Payload", "Result"]
SENT = "UPDATE jobs SET dispatched_at = created_at + make_interval(secs => %s) WHERE id = %s"


def spent(client: httpx2.Client, job: JobRecord) -> str:
    """What the page says of the time of a job's last attempt, as text."""
    page = client.get(f"/jobs/{job.id}").text
    [section] = re.findall(r'<section class="card pad spent".*?</section>', page, re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", section)).split())


def change(caller: Caller, statement: str, *values: object) -> None:
    """Put a time of a job elsewhere."""
    with caller.api.database.autocommit() as connection:
        connection.exec_driver_sql(statement, values)


def test_the_time_of_an_attempt_is_shown_beside_that_of_its_type(caller: Caller, reading: SignIn) -> None:
    """A job that ran has its wait, its time in the broker and its run, beside the runs of others that succeeded."""
    client, job = reading(caller), caller.job("succeeded")
    change(caller, LATER, 30, job.id, "started")
    change(caller, LATER, 40, job.id, "completed")
    change(caller, SENT, 10, job.id)
    assert re.search(r"attempt 1 went waiting 10\.\d s in the broker 20\.\d s ran 10\.\d s", spent(client, job))
    assert "of its type" not in spent(client, job), "nothing is known of it"
    change(caller, "UPDATE jobs SET scheduled_at = created_at + interval '8 seconds' WHERE id = %s", job.id)
    assert re.search(r"For (8\.0|7\.9) s of the wait it was not due yet\.", spent(client, job))
    for seconds in (2, 4):
        change(caller, RAN, seconds, caller.job("succeeded").id)
    change(caller, RAN, 99, caller.job("failed").id)
    change(caller, RAN, 99, caller.but(organization=f"{caller.organization}-other").job("succeeded").id)
    assert "longer than 95 of 100 . Of the 2 others of its type" in spent(client, job)
    assert "half ran 3.0 s at most (p50), 95 of 100 3.9 s at most (p95)" in spent(client, job)
    alone = reading(caller.but(user="u2"))
    assert "of its type" not in spent(alone, caller.but(user="u2").job("succeeded")), "the others are of somebody else"


def test_a_page_is_of_one_moment(caller: Caller, reading: SignIn) -> None:
    """A job that is claimed while its page is read is queued in all places of it: no attempt has begun."""
    client, job = reading(caller), caller.job()
    with ThreadPoolExecutor(1) as beside, caller.api.database.autocommit() as looking:
        with caller.api.database.begin() as connection:
            connection.execute(text("LOCK TABLE history IN ACCESS EXCLUSIVE MODE"))
            page = beside.submit(client.get, f"/jobs/{job.id}")
            eventually(lambda: looking.execute(READS_HISTORY).scalar(), within=5, what="the page's next read")
            jobs.claim(connection, [Claim(job.fence, uuid4(), "worker-1", LEASE)])
        then = page.result().text
    assert '<span class="badge queued"' in then
    assert "Attempt 1" not in then
    assert "Attempt 1" in client.get(f"/jobs/{job.id}").text


def test_an_attempt_that_has_not_run_is_shown_as_such(caller: Caller, reading: SignIn) -> None:
    """What is held, was cancelled before it ran, or runs, is said to; a run of a moment has no time in the broker."""
    client = reading(caller)
    assert re.search(r"attempt 1 went held .* so far$", spent(client, caller.job(delay=timedelta(hours=3))))
    assert re.search(r"attempt 1 went waiting .* so far$", spent(client, caller.job()))
    assert spent(client, caller.job("cancelled")).endswith("It never ran.")
    begun = caller.job("running")
    change(caller, "UPDATE jobs SET dispatched_at = started_at WHERE id = %s", begun.id)
    running = spent(client, begun)
    assert re.search(r"attempt 1 went waiting and in the broker \d+ ms running .* so far$", running)
    sent = caller.job()
    change(caller, "UPDATE jobs SET dispatched_at = clock_timestamp() WHERE id = %s", sent.id)
    assert re.search(r"waiting \d+ ms in the broker .* so far$", spent(client, sent))


def test_what_held_a_job_is_no_time_in_the_broker(caller: Caller, reading: SignIn) -> None:
    """A job that a circuit, a line or another job held says for how long, apart from its way to a worker."""
    client, begun = reading(caller), caller.job("running")
    change(caller, LATER, 40, begun.id, "started")
    for seconds, event, detail in (
        (10, "due", '{"hold": "dependency", "next": "circuit"}'),
        (20, "held", '{"hold": "circuit"}'),
        (30, "due", '{"hold": "circuit"}'),
    ):
        change(caller, HAPPENED, event, detail, seconds, begun.id)
    assert re.search(r"attempt 1 went held (30\.0|29\.9) s on its way (10\.\d|9\.9) s running", spent(client, begun))
    change(caller, HAPPENED, "held", '{"hold": "paused"}', 35, begun.id)
    assert re.search(r"attempt 1 went waiting and in the broker 40\.\d s running", spent(client, begun))


def test_a_result_comes_first_and_once(caller: Caller, reading: SignIn) -> None:
    """Whoever opens a job that succeeded finds its result before all else, and of another job where it would be."""
    client = reading(caller)
    for state, order in (("succeeded", ["Result", "Attempts", "Facts", "Payload"]), ("failed", UNSUCCESSFUL)):
        page = client.get(f"/jobs/{caller.job(state).id}").text
        assert [title for title in re.findall(r"<h2>(\w+)</h2>", page) if title in {*UNSUCCESSFUL}] == order


def test_of_several_attempts_the_last_is_shown(caller: Caller, reading: SignIn) -> None:
    """While a job waits for its second attempt that wait is shown, not the first run; and then the second run."""
    job, client = caller.job("retrying"), reading(caller)
    assert re.search(r"attempt 2 went held .* so far$", spent(client, job))
    with caller.api.database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE jobs SET hold = NULL, due_at = NULL WHERE id = %s", (job.id,))
        jobs.claim(connection, [Claim(caller.find(job.id).fence, uuid4(), "worker-1", None)])
        broken = Outcome(caller.find(job.id).fence, "failed", "worker-1", failure=Failure("ValueError", "no", ""))
        jobs.settle(connection, [broken])
    assert re.search(r"attempt 2 went waiting .* ran ", spent(client, job))
    assert spent(client, job).count("ran ") == 1


class Folded(HTMLParser):
    """The text of an element, as a script would read it, and which of its folds are open."""

    def __init__(self, page: str, id_: str) -> None:
        super().__init__()
        self.text, self.folds, self._id, self._depth = "", dict[str, bool](), id_, 0
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        said = dict(attributes)
        self._depth += self._depth > 0 or said.get("id") == self._id
        if tag == "details" and self._depth:
            self.folds[said["id"] or ""] = "open" in said

    def handle_endtag(self, tag: str) -> None:
        self._depth -= self._depth > 0 and bool(tag)

    def handle_data(self, data: str) -> None:
        self.text += data if self._depth else ""


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.text('ab\n<&"', min_size=150),
    lambda inner: st.lists(inner, max_size=50) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=60,
)


def written(parts: Sequence[Fold | str]) -> str:
    """The text of the parts."""
    return "".join(
        part if isinstance(part, str) else part.head + ("" if part.is_long else "\n") + written(part.inner)
        for part in parts
    )


@given(VALUES)
def test_folded_json_is_the_json_to_the_letter(value: object) -> None:
    """Whatever is folded, its parts one after another are the value's text, which is not changed."""
    assert written(folded(value, "x")) == f"{pretty(value)}\n"


def test_what_is_deep_or_large_is_folded_and_copied_whole(caller: Caller, reading: SignIn) -> None:
    """Of payload and result the first levels are open, the rest is folded; what a button copies is all of it."""
    payload = {
        "id": 12345678901234567890,
        "deep": {"in": {"it": [1.5, 1e300]}},
        "many": list(range(90)),
        "long": "<" * 500,
    }
    job = caller.job("succeeded", payload=payload, result=list(range(6000)))
    page = reading(caller).get(f"/jobs/{job.id}").text
    found = Folded(page, "payload-text")
    assert found.text == f"{pretty(job.payload)}\n"
    assert "12345678901234567890" in found.text
    assert list(found.folds.values()) == [True, True, False, False, False, False]
    result = Folded(page, "result-text")
    assert (json.loads(result.text), list(result.folds.values())) == (list(range(6000)), [False])
    for name in ("payload", "result"):
        assert re.search(rf'<button [^>]*data-copy="{name}-text" aria-label="Copy the {name}" hidden>', page)


def test_folds_open_by_keyboard_and_the_whole_is_copied(window: Window, caller: Caller) -> None:
    """A fold opens by its key and stays open when the page is renewed; the copy is the text, folded or not."""
    payload = {"id": 12345678901234567890, "rows": [{"tags": ["a"], "deep": {"x": [1]}}], "text": "a long text " * 60}
    job = caller.job("running", payload=payload, project_id="p")
    for seconds in (1, 2, 60):
        change(caller, RAN, seconds, caller.job("succeeded").id)
    page = window.sign_in(caller)
    window.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{caller.api.url}/jobs/{job.id}")
    expect(page.locator("#live")).to_be_visible()
    long = page.locator("#payload-text details.long")
    long.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(long).to_have_attribute("open", "")
    with caller.api.database.autocommit() as connection:
        jobs.settle(connection, [Outcome(job.fence, "succeeded", "worker-1", result={"n": 1})])
    expect(page.locator("#result-text")).to_contain_text('"n": 1')
    expect(long).to_have_attribute("open", "")
    page.get_by_role("button", name="Copy the payload").press("Enter")
    expect(page.locator("#notices")).to_contain_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == f"{pretty(job.payload)}\n"
    window.picture("job-folded")
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]


def test_operators_are_led_to_flower(api_database_url: str, api_broker_url: str, tmp_path: Path) -> None:
    """Where the settings say where Flower is, the page of a job leads operators to its task there, and nobody else."""
    with serving(
        api_database_url, api_broker_url, tmp_path, CELERIAC_FLOWER_URL="https://flower.example.com/f/"
    ) as api:
        operator = api.caller()
        job, address = operator.job(), "https://flower.example.com/f/task/"
        for caller, is_led in ((operator, True), (operator.but(permissions=("jobs.view_jobs",)), False)):
            with httpx2.Client(verify=PLAIN, base_url=api.url, timeout=30, headers={"Accept": "text/html"}) as client:
                ticket = link(caller).partition("ticket=")[2]
                client.post("/sign-in", data={"ticket": ticket}, headers=SAME)
                assert (f'href="{address}{job.id}"' in client.get(f"/jobs/{job.id}").text) is is_led


def test_many_reports_in_a_row_are_folded(caller: Caller, reading: SignIn) -> None:
    """Of many reports in a row the newest are shown and the others folded; of a few, all are shown."""
    client, few, many = reading(caller), caller.job("running"), caller.job("running")
    for percent in range(1, 10):
        caller.report(many, percent=percent)
        if percent <= 6:
            caller.report(few, percent=percent)
    page = client.get(f"/jobs/{many.id}").text
    shown, _, folded = page.partition('<li class="earlier">')
    assert "6 earlier reports" in folded
    assert [f"{percent} %" in shown.partition("Timeline")[2] for percent in (9, 8, 7, 6)] == [True, True, True, False]
    assert "earlier reports" not in client.get(f"/jobs/{few.id}").text


def test_a_job_that_has_ended_leads_to_its_removal(caller: Caller, reading: SignIn) -> None:
    """Who may delete jobs finds a way to it at a job that has ended, which shows what would go; nobody else does."""
    ended, waiting = caller.job("succeeded"), caller.job()
    allowed = reading(caller.but(permissions=(*EVERYTHING, "jobs.delete_jobs")))
    address = f"/bulk/new?action=delete&amp;id={ended.id}"
    assert address in allowed.get(f"/jobs/{ended.id}").text
    assert "action=delete" not in allowed.get(f"/jobs/{waiting.id}").text
    assert "action=delete" not in reading(caller).get(f"/jobs/{ended.id}").text
    assert "Delete 1 job" in allowed.get(html.unescape(address)).text


def test_what_a_job_says_at_length_stands_once_in_full(caller: Caller, reading: SignIn) -> None:
    """A long error is told by its beginning and its end, and whole in the traceback alone."""
    long = f"begin {'x' * 5000} the end"
    job = caller.job("running")
    failure = Failure("ValueError", long, f"Traceback (most recent call last):\nValueError: {long}")
    with caller.api.database.autocommit() as connection:
        jobs.settle(connection, [Outcome(job.fence, "failed", "worker-1", failure=failure)])
    page = reading(caller).get(f"/jobs/{job.id}").text
    assert page.count("x" * 5000) == 1
    assert re.search(r'class="why-box failed"[^\n]*begin x+ … x+ the end; reported by worker-1 at ', page)
    assert len(reading(caller).get("/").text) < 5000 + len(reading(caller.but(user="u9")).get("/").text)


def test_a_payload_turns_no_words_of_a_page(caller: Caller, reading: SignIn) -> None:
    """An override of the direction of writing in a payload is shown as its escape, and so in forms."""
    text = "\u202egnp.exe\u2066"
    job = caller.job("failed", payload={text: text, "مرحبا": "سلام"}, result=None)
    reader = reading(caller)
    for path in (f"/jobs/{job.id}", f"/jobs/{job.id}/retry-with", "/audit"):
        page = reader.get(path).text
        assert not {"\u202e", "\u2066"} & set(page), path
    form = html.unescape(reader.get(f"/jobs/{job.id}/retry-with").text)
    sent = re.search(r"<textarea[^>]*>\n?(\{.*?\})\s*</textarea>", form, re.DOTALL)
    assert sent is not None
    assert json.loads(sent[1]) == {text: text, "مرحبا": "سلام"}


def test_nothing_that_a_job_says_turns_the_words_of_a_page(caller: Caller, reading: SignIn) -> None:
    """An override of the direction of writing is shown as its escape, and does not turn the words behind it."""
    job = caller.job("running")
    caller.report(job, percent=5, message="\u202egnp.exe")
    running = reading(caller).get(f"/jobs/{job.id}").text + reading(caller).get("/").text
    failure = Failure("ValueError", "\u202eevil", "Traceback (most recent call last):\nValueError: \u202eevil")
    with caller.api.database.autocommit() as connection:
        jobs.settle(connection, [Outcome(job.fence, "failed", "worker-1", failure=failure)])
    for page in (running, *(reading(caller).get(path).text for path in ("/", f"/jobs/{job.id}", "/errors"))):
        assert "\u202e" not in page
        assert "\\u202e" in page


def test_a_page_is_printed_on_white(window: Window, caller: Caller) -> None:
    """Whoever has chosen the dark prints dark words on light paper, without what only a screen has a use for."""
    job = caller.job("failed")
    page = window.sign_in(caller)
    page.keyboard.press("t")
    page.keyboard.press("t")
    page.goto(f"{caller.api.url}/jobs/{job.id}")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.emulate_media(media="print", color_scheme="dark")
    assert (dark, page.evaluate(ground)) == ("rgb(20, 19, 17)", "rgb(251, 250, 248)")
    for each in ("#live", "nav", "button[disabled]"):
        expect(page.locator(each).first).to_be_hidden()
    expect(page.get_by_text("ValueError").first).to_be_visible()
