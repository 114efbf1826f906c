"""The dashboard without a script: who gets in, what they see, and what a page may hold."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import timedelta
from html.parser import HTMLParser
from urllib.parse import quote
from uuid import uuid4

import httpx2
import pytest

from api.dashboard.site import assets
from tests.api.calling import Api, Caller, problem
from tests.api.dashboard.conftest import SignIn, link
from tests.api.listening import Listener
from tracking import jobs, sessions, tickets
from tracking.models import Failure, Outcome, Scope
from tracking.reads.types import TypeCounts, by_type
from tracking.tickets import Rights

# SHA-512 of dist/idiomorph.min.js of idiomorph 0.8.0, as `npm pack` gets it.
IDIOMORPH = "0LgpDAkfwUq/f5iuzcA6ECIT7aB3XhtCPtKj+HC3p2oiKPqStPMbqdtPHoPNOt75eNI9whmiXQP8BQ+zuHyDNQ=="
SAME = {"Sec-Fetch-Site": "same-origin"}
OVER = "UPDATE sessions SET expires_at = now() WHERE digest = %s"
UNUSED = "UPDATE sessions SET seen_at = now() - interval '61 minutes' WHERE digest = %s"
HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>'
LARGEST = 60 * 1024  # bytes of all scripts and styles


class Found(HTMLParser):
    """The tags of a page, and the attributes that a strict policy forbids."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.inline: list[str] = []
        self.outside: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.inline += [name for name, _ in attributes if name == "style" or name.startswith("on")]
        links = [value or "" for name, value in attributes if name in ("src", "href", "action")]
        self.outside += [value for value in links if not value.startswith(("/", "#")) or value.startswith("//")]


def test_nobody_gets_in_without_a_session(api: Api, caller: Caller, stranger: httpx2.Client) -> None:
    """Without a session a page leads to the sign-in and back, a button says so, and a script gets a problem."""
    job = caller.job()
    answer = stranger.get(f"/?q={quote('status:failed')}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=%2F%3Fq%3Dstatus%253Afailed")
    assert stranger.get(f"/jobs/{job.id}").headers["location"].startswith("/sign-in?next=%2Fjobs")
    assert stranger.post(f"/jobs/{job.id}/cancel", headers=SAME).status_code == 401
    problem(stranger.get("/", headers={"Accept": "text/x-part"}), 401, "token_missing")
    assert caller.find(job.id).status == "queued"


def test_a_link_signs_in_once_and_not_by_being_looked_at(api: Api, caller: Caller, stranger: httpx2.Client) -> None:
    """A preview of the link does not spend it; a button does, and then it is over."""
    address = link(caller).removeprefix(api.url)
    ticket = address.partition("ticket=")[2]
    stranger.headers.update(SAME)
    for _ in range(2):
        assert "This link signs you in once" in stranger.get(address).text
    assert stranger.post("/sign-in", data={"ticket": ticket}).status_code == 303
    assert "Jobs" in stranger.get("/").text
    again = httpx2.post(f"{api.url}/sign-in", data={"ticket": ticket}, headers=SAME)
    assert again.status_code == 401
    assert "The link has been used" in again.text


def test_a_token_signs_in_for_as_long_as_it_lasts(api: Api, caller: Caller, stranger: httpx2.Client) -> None:
    """A pasted token opens a session with its rights; what is no token opens none."""
    stranger.headers.update(SAME)
    token = caller.headers["Authorization"]
    answer = stranger.post("/sign-in", data={"token": f"  {token}\n", "next": "/?q=type:open"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/?q=type:open")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("celeriac=")
    assert {"HttpOnly", "Path=/", "SameSite=lax", "Max-Age=43200"} <= {each.strip() for each in cookie.split(";")}
    refused = stranger.post("/sign-in", data={"token": "nonsense"})
    assert refused.status_code == 401
    assert 'role="alert"' in refused.text


@pytest.mark.parametrize("address", ["//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nb", "x"])
def test_the_way_back_stays_on_this_server(api: Api, caller: Caller, address: str) -> None:
    """Whatever a link says of where to go after the sign-in, it leads to no other server."""
    form = {"token": caller.headers["Authorization"], "next": address}
    answer = httpx2.post(f"{api.url}/sign-in", data=form, headers=SAME)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_an_address_without_a_page_has_one_that_says_so(reader: httpx2.Client) -> None:
    """People get a page for an address where nothing is, with the way on; programs and the API have their problem."""
    lost = reader.get("/nowhere")
    assert (lost.status_code, lost.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "<code>not_found</code>" in lost.text
    nobodys = reader.get(f"/jobs/{uuid4()}")
    assert "<code>job_not_found</code>" in nobodys.text
    assert 'href="/schedules"' in nobodys.text, "who has signed in keeps the way to all pages"
    for path, accept in (("/nowhere", "*/*"), ("/v1/nowhere", "text/html"), (f"/v1/jobs/{uuid4()}", "text/html")):
        answer = reader.get(path, headers={"Accept": accept})
        assert answer.headers["content-type"] == "application/problem+json", path


def test_the_cookie_has_its_prefix_with_https_and_is_refused_without(api: Api, caller: Caller) -> None:
    """Behind TLS the cookie is secure and bound to the host; without, beyond this machine, nobody can sign in."""
    form, proxied = {"token": caller.headers["Authorization"]}, {**SAME, "X-Forwarded-Proto": "https"}
    named = {"Host": "jobs.example"}
    answer = httpx2.post(f"{api.url}/sign-in", data=form, headers={**proxied, **named})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-celeriac=")
    assert {"Secure", "HttpOnly", "Path=/"} <= {each.strip() for each in cookie.split(";")}
    refused = httpx2.post(f"{api.url}/sign-in", data=form, headers={**SAME, **named})
    assert refused.status_code == 403
    assert "takes https" in refused.text
    assert "set-cookie" not in refused.headers


def test_a_form_of_another_site_does_nothing(api: Api, caller: Caller, reading: SignIn) -> None:
    """A form that another site has sent with the visitor's cookie is refused, by either header that browsers send."""
    job = caller.job()
    client = reading(caller)
    sites = [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {}]
    for headers in (*sites, *({"Origin": origin} for origin in ("https://evil.example", "null", "http://[::1"))):
        for path in (f"/jobs/{job.id}/cancel", "/sign-out", "/sign-in"):
            assert client.post(path, headers=headers).status_code == 403
    assert caller.find(job.id).status == "queued"
    assert client.post(f"/jobs/{job.id}/cancel", headers={"Origin": api.url}).status_code == 303
    assert caller.find(job.id).status == "cancelled"


def test_who_signs_out_is_out_everywhere(caller: Caller, reading: SignIn) -> None:
    """After a sign-out the cookie opens nothing, also when somebody has kept it."""
    client = reading(caller)
    kept = dict(client.cookies)
    assert client.get("/").status_code == 200
    assert client.post("/sign-out", headers=SAME).headers["location"] == "/sign-in"
    assert client.get("/").status_code == 303
    assert client.get("/", headers={"Cookie": f"celeriac={kept['celeriac']}"}).status_code == 303


def test_a_session_ends_with_its_rights_and_when_nobody_uses_it(api: Api) -> None:
    """A session is over with the token it was opened with, after an hour without a request, and is then forgotten."""
    rights = Rights("acme", "u1", frozenset({"jobs.view_jobs"}), None)
    with api.database.autocommit() as connection:
        for change in (OVER, UNUSED):
            secret = sessions.begin(connection, rights)
            found = sessions.find(connection, secret)
            assert found is not None
            assert (found.organization_id, found.permissions) == ("acme", rights.permissions)
            digest = tickets.digest(secret)
            connection.exec_driver_sql(change, (digest,))
            assert sessions.find(connection, secret) is None
            sessions.begin(connection, rights)
            kept = connection.exec_driver_sql("SELECT digest FROM sessions").scalars().all()
            assert digest not in [bytes(each) for each in kept]


def test_a_session_has_the_rights_of_its_token_alone(caller: Caller, reading: SignIn) -> None:
    """Somebody without a permission has no button for it, and cannot do it without one; nor see what they may not."""
    job, failed = caller.job(), caller.job("failed")
    client = reading(caller.but(permissions=("jobs.view_jobs",)))
    page = client.get("/").text
    assert str(job.id) in page
    assert "/cancel" not in page
    assert "/retry" not in page
    assert "You have no permission for it." in client.get(f"/jobs/{job.id}").text
    for path in (f"/jobs/{job.id}/cancel", f"/jobs/{failed.id}/retry"):
        assert client.post(path, headers=SAME).status_code == 403
    blind = reading(caller.but(permissions=()))
    assert blind.get("/").status_code == 403


def test_somebody_elses_jobs_are_on_no_page(api: Api, caller: Caller, reading: SignIn) -> None:
    """Jobs of another user and of another organization are in no list, count, search or page, and cannot be changed."""
    others = [caller.but(user="u2").job("failed", job_type="secret-type"), api.caller().job(job_type="secret-type")]
    client = reading(caller)
    for other in others:
        for path in ("/", f"/?q=id:{other.id}", "/?q=secret-type", f"/?part=rows&ids={other.id}"):
            page = client.get(path).text
            assert f"job-{other.id}" not in page
            assert '<b class="type">secret-type' not in page
        assert client.get(f"/jobs/{other.id}").status_code == 404
        for verb in ("cancel", "retry"):
            assert client.post(f"/jobs/{other.id}/{verb}", headers=SAME).status_code == 404


def test_the_stream_of_a_page_is_the_visitors_own(caller: Caller, reading: SignIn) -> None:
    """The live events of a page come with its cookie, and are the visitor's own."""
    client = reading(caller)
    with client.stream("GET", "/v1/events", headers={"Accept": "text/event-stream"}) as response:
        listener = Listener(response)
        listener.begin()
        caller.but(user="u2").job()
        job = caller.job()
        assert [told.data["jobId"] for told in listener.take(1)] == [str(job.id)]
    problem(client.get("/v1/jobs"), 401, "token_missing")


def test_a_page_shows_what_a_job_says_as_text(caller: Caller, reading: SignIn) -> None:
    """Whatever stands in types, messages, errors, payloads and results, it is text on the page, never markup."""
    job = caller.job("running", job_type=HOSTILE, payload={HOSTILE: HOSTILE}, project_id=HOSTILE, message=HOSTILE)
    caller.report(job, percent=5, message=HOSTILE)
    with caller.api.database.autocommit() as connection:
        failure = Failure(HOSTILE, HOSTILE, HOSTILE)
        jobs.settle(connection, [Outcome(job.fence, "failed", "worker-1", failure=failure)])
    client = reading(caller)
    for path in ("/", f"/jobs/{job.id}", f"/?q={quote(HOSTILE)}", f"/sign-in?next={quote(HOSTILE)}&ticket=x"):
        page = client.get(path)
        assert page.status_code == 200
        found = Found(page.text)
        assert found.tags.count("script") == 3, "ours"
        assert "img" not in found.tags
        assert (found.inline, found.outside) == ([], [])


def test_every_page_has_a_strict_policy(caller: Caller, reading: SignIn) -> None:
    """Every page forbids all but the scripts, styles and requests of this server, and no cache keeps it."""
    client = reading(caller)
    for path in ("/", f"/jobs/{caller.job().id}", "/sign-in?ticket=x"):
        headers = client.get(path).headers
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert headers["x-frame-options"] == "DENY"


def test_static_files_are_kept_for_ever_under_their_hash(reader: httpx2.Client) -> None:
    """Scripts and styles may be kept for ever at an address with their hash; at an older address there is nothing."""
    address = re.search(r"/static/\w+/celeriac\.css", reader.get("/").text)
    assert address is not None
    answer = reader.get(address[0])
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"].startswith("text/css")
    problem(reader.get("/static/older/celeriac.css"), 404, "not_found")
    problem(reader.get(address[0].replace("celeriac.css", "../site.py")), 404, "not_found")


def test_scripts_and_styles_are_small_and_what_is_not_ours_is_as_it_was_published() -> None:
    """All scripts and styles together are less than 60 KB, and the vendored file is that of its package."""
    sizes = [len(content) for name, content in assets().items() if name.endswith((".js", ".css"))]
    assert sum(sizes) < LARGEST
    digest = base64.b64encode(hashlib.sha512(assets()["vendor/idiomorph.js"]).digest()).decode()
    assert digest == IDIOMORPH
    assert (
        b"BSD" in assets()["vendor/idiomorph.LICENSE"] or b"Permission to use" in assets()["vendor/idiomorph.LICENSE"]
    )


def test_the_pages_lead_through_all_jobs(caller: Caller, reading: SignIn) -> None:
    """From page to page every job is shown once, and a search keeps with it."""
    wanted = {str(caller.job(job_type="paged").id) for _ in range(60)}
    caller.job(job_type="other")
    client, seen, path = reading(caller), list[str](), "/?q=type:paged"
    while path:
        page = client.get(path).text
        seen += re.findall(r'id="job-([\w-]+)"', page)
        following = re.search(r'href="([^"]+)" rel="next"', page)
        path = following[1].replace("&amp;", "&") if following else ""
    assert sorted(seen) == sorted(wanted)


@pytest.mark.parametrize(
    "query", ["page=0", "page=x", f"page={'9' * 30}", "cursor=x", "window=year", "part=x", "ids=x"]
)
def test_an_address_that_somebody_has_changed_is_answered(reader: httpx2.Client, query: str) -> None:
    """A page number, cursor or part that makes no sense is answered with a page, or refused with a reason."""
    assert reader.get(f"/?{query}").status_code in (200, 422)
    assert reader.get(f"/?part=rows&{query}").status_code == 200


def test_what_is_done_at_a_page_is_audited(caller: Caller, reading: SignIn) -> None:
    """A cancel and a retry by the buttons, and one that is denied, are in the audit as the dashboard's."""
    job = caller.job()
    client, without = reading(caller), reading(caller.but(user="mallory", permissions=("jobs.view_jobs",)))
    assert client.post(f"/jobs/{job.id}/cancel", headers=SAME).status_code == 303
    assert client.post(f"/jobs/{job.id}/retry", headers=SAME).status_code == 303
    assert without.post(f"/jobs/{job.id}/cancel", headers=SAME).status_code == 403
    entries = caller.get("/v1/audit", target=str(job.id)).json()["entries"]
    assert [(each["action"], each["actor"], each["source"], each["outcome"]) for each in entries] == [
        ("job.cancel", "mallory", "dashboard", "denied"),
        ("job.retry", "u1", "dashboard", "done"),
        ("job.cancel", "u1", "dashboard", "done"),
    ]
    assert {each["address"] for each in entries} == {"127.0.0.1"}


def test_the_types_are_shown_with_their_jobs_and_can_be_paused(caller: Caller, reading: SignIn) -> None:
    """The page of the types has each type with its counts and its state, and pauses and resumes it as the API does."""
    caller.job("running", job_type="guarded")
    for state in ("succeeded", "succeeded", "succeeded", "failed"):
        caller.job(state, job_type="guarded")
    caller.but(user="u2").job(job_type="of.somebody.else")
    caller.job(job_type="with/a slash")
    client = reading(caller)
    page = client.get("/types").text
    assert re.search(r"guarded</b>.*?25\.0 %", page, re.DOTALL)
    assert "of.somebody.else" not in page
    assert "no handler here" in page
    for name in ("guarded", "with/a slash"):
        assert client.post(f"/types/{quote(name)}/pause", headers=SAME).headers["location"] == "/types?done=paused"
        assert caller.but(user="u2").job(job_type=name).status == "queued"
    page = client.get("/types?done=paused").text
    assert "paused by u1" in page
    assert "What waits of this type does not start." in page
    assert client.post("/types/guarded/resume", headers=SAME).status_code == 303
    assert "paused by u1" not in client.get("/types?part=body").text.split("guarded</b>")[1].split("</tr>")[0]
    assert client.post("/types/nothing/pause", headers=SAME).status_code == 422
    reader = reading(caller.but(permissions=("jobs.view_jobs",)))
    assert "/pause" not in reader.get("/types").text
    assert reader.post("/types/guarded/pause", headers=SAME).status_code == 403
    assert client.post("/types/guarded/pause", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_all_jobs_of_an_organization_are_paused_with_a_reason(caller: Caller, reading: SignIn) -> None:
    """The page of the types pauses all jobs with a reason, says so, and resumes them; the audit has both."""
    client = reading(caller)
    answer = client.post("/types-all/pause", data={"reason": "the lake moves"}, headers=SAME)
    assert answer.headers["location"] == "/types?done=all-paused"
    page = client.get("/types?done=all-paused").text
    assert "No job starts any more; what runs goes on." in page
    assert re.search(r"Paused by u1 since [^:]+:\d\d UTC: the lake moves\.", page)
    assert [each["reason"] for each in caller.get("/v1/organization").json()["pauses"]] == ["the lake moves"]
    assert client.post("/types-all/resume", headers=SAME).headers["location"] == "/types?done=all-resumed"
    assert caller.get("/v1/organization").json()["pauses"] == []
    wrong = client.post("/types-all/pause", data={"reason": "x" * 100_000}, headers=SAME)
    assert wrong.status_code == 422
    assert 'id="wrong-reason"' in wrong.text
    without = reading(caller.but(permissions=["jobs.view_jobs"]))
    assert without.post("/types-all/pause", headers=SAME).status_code == 403
    assert "Pause all jobs" not in without.get("/types").text
    entries = caller.get("/v1/audit", source="dashboard").json()["entries"]
    assert [each["action"] for each in entries if each["outcome"] == "done"] == ["jobs.resume", "jobs.pause"]


def test_the_durations_of_a_type_are_of_what_succeeded(caller: Caller) -> None:
    """Of a type the median and the 95th percentile are of the jobs that succeeded within the window."""
    for _ in range(3):
        caller.job("succeeded")
    caller.job("failed")
    with caller.api.database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE jobs SET started_at = created_at, completed_at = created_at + interval '2 seconds'"
            " WHERE organization_id = %s AND status = 'succeeded'",
            (caller.organization,),
        )
        counts = by_type(connection, Scope(caller.organization, None), window=timedelta(hours=1))["open"]
    assert (counts.succeeded, counts.failed, counts.failure_rate) == (3, 1, 0.25)
    assert (counts.median, counts.slowest) == (timedelta(seconds=2), timedelta(seconds=2))
    assert TypeCounts().failure_rate is None
