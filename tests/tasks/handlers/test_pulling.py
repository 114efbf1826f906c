"""sync that pulls: every way of paging, every way in which a source fails, and going on where it was left."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError

from tasks import app
from tasks.handlers.pulling import CursorExpired, SourceAway
from tasks.handlers.pushing import CollectionNotFound
from tasks.handlers.sync import SyncExports, sync
from tasks.syncing.paging import SourceUnusable
from tasks.syncing.pointers import parsed, written
from tasks.webhooks.asking import Forbidden
from tests.handling import call, workplace
from tests.paging import Source, Told, source
from tests.tracked import Tracked
from tracking import collections
from tracking.collections import CollectionBusy, Puller, PullOvertaken
from tracking.db import Database

PEOPLE = [{"id": number, "name": f"N{number}"} for number in range(1, 8)]


@pytest.fixture
def place(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where is pushed to; a source on this machine may be asked, and no test waits long."""
    (tmp_path / "mirror").mkdir()
    monkeypatch.setattr("tasks.handlers.pulling.FIRST_WAIT", 0.01)
    own = {"CELERIAC_SYNC_DIR": str(tmp_path / "mirror"), "CELERIAC_SYNC_PRIVATE": "true"}
    with workplace(database_url, tmp_path, **own):
        yield tmp_path / "mirror"


def run(server: Source, organization: str = "acme", push: dict[str, Any] | None = None, **said: Any) -> dict[str, Any]:
    """What a pull of a source has done."""
    pull = {"collection": "people", "url": server.url, "key": ["id"], **said}
    payload = SyncExports.model_validate({"pull": pull, "push": push})
    return dict(call(sync, payload, organization)["pulled"])


def kept(database: Database, organization: str = "acme", collection: str = "people") -> list[Any]:
    """The records of a collection."""
    with database.autocommit() as connection:
        return [json.loads(text) for text, _ in collections.each(connection, organization, collection)]


def by_page(records: list[Any], size: int = 3) -> Callable[[dict[str, str]], Told]:
    """A source by numbers of pages, from 1."""

    def answers(query: dict[str, str]) -> Told:
        number = int(query.get("page", "1"))
        return Told(json.dumps(records[(number - 1) * size : number * size]))

    return answers


def by_cursor(records: list[Any], size: int = 3) -> Callable[[dict[str, str]], Told]:
    def answers(query: dict[str, str]) -> Told:
        at = int(query.get("cursor", "0"))
        following = at + size if at + size < len(records) else None
        return Told(json.dumps({"data": records[at : at + size], "meta": {"next": following}}))

    return answers


def by_link(records: list[Any], size: int = 3) -> Callable[[dict[str, str]], Told]:
    """A source by the Link header (RFC 8288)."""

    def answers(query: dict[str, str]) -> Told:
        at = int(query.get("at", "0"))
        more = {"Link": f'</x>; rel="prev", </records?at={at + size}>; rel="next"'} if at + size < len(records) else {}
        return Told(json.dumps(records[at : at + size]), headers=more)

    return answers


CURSOR: dict[str, Any] = {"paging": "cursor", "records": "/data", "next": "/meta/next", "parameter": "cursor"}
PAGE: dict[str, Any] = {"paging": "page", "parameter": "page"}


@pytest.mark.parametrize(
    ("answers", "said", "pages"),
    [
        (by_page, PAGE, 4),
        (by_page, {**PAGE, "pageSize": 3}, 3),
        (by_cursor, CURSOR, 3),
        (by_link, {"paging": "next_link"}, 3),
    ],
)
def test_every_way_of_paging_reads_every_record_once(
    answers: Any, said: dict[str, Any], pages: int, place: Path, database: Database
) -> None:
    """Page numbers, cursors and next links read all records, each once; a second run changes nothing."""
    with source(answers(PEOPLE)) as server:
        first, second = run(server, **said), run(server, **said)
    assert (first["pages"], first["read"], first["inserted"]) == (pages, 7, 7)
    assert (second["inserted"], second["updated"], second["unchanged"]) == (0, 0, 7)
    assert kept(database) == PEOPLE
    assert kept(database, "globex") == []


def test_a_next_link_may_be_in_the_page(place: Path, database: Database) -> None:
    """The next link of a page may be in its JSON, relative to its address."""

    def answers(query: dict[str, str]) -> Told:
        is_last = "at" in query
        page = {"items": PEOPLE[3:] if is_last else PEOPLE[:3], "next": None if is_last else "?at=3"}
        return Told(json.dumps(page))

    with source(answers) as server:
        assert run(server, paging="next_link", records="/items", next="/next")["read"] == 7


def test_csv_pages_are_read(place: Path, database: Database) -> None:
    """Pages of csv are rows by their header, whatever delimits it; ragged ones are told, an empty field is null."""

    def answers(query: dict[str, str]) -> Told:
        pages = {"1": "id,city\r\n1,Köln\r\n2,\r\n3\r\n", "2": 'city;id\n"a\n""b;,""";4\n', "3": "id|city\n"}
        return Told(pages[query["page"]].encode("latin-1"), kind="text/csv; charset=latin-1")

    with source(answers) as server:
        done = run(server, format="csv", **PAGE)
    assert (done["read"], done["inserted"], done["rejectedCount"]) == (4, 3, 1)
    assert done["rejected"] == [{"page": 1, "record": 3, "reason": "it has 1 fields instead of 2"}]
    expected = [{"id": "1", "city": "Köln"}, {"id": "2", "city": None}, {"id": "4", "city": 'a\n"b;,"'}]
    assert kept(database) == expected


def test_csv_without_the_columns_of_the_key_fails(place: Path) -> None:
    """A page without a column of the key is told so, and is not rejected row by row."""
    told = Told("number;city\r\n1;Bonn\r\n", kind="text/csv")
    reason = "no column 'id'; its header is 'number;city'"
    with source(lambda _: told) as server, pytest.raises(SourceUnusable, match=reason):
        run(server, format="csv", **PAGE)


def test_records_are_kept_exactly(place: Path, database: Database) -> None:
    """Numbers keep every digit; what no table can hold is left out with the reason, and the rest is kept."""
    page = (
        '[{"id":12345678901234567890,"n":0.10000000000000000001},{"id":2,"t":"a\\u0000"},{"id":3,"n":1e999999},'
        '{"id":4,"t":"\\ud800"},{"id":null},{"x":1},5,{"id":6,"n":{"deep":[1e3,-0.0,true,null]}},{"id":6,"n":"newer"}]'
    )
    with source(lambda _: Told(page)) as server:
        done = run(server)
    assert (done["read"], done["inserted"], done["rejectedCount"]) == (9, 2, 6)
    assert [each["record"] for each in done["rejected"]] == [2, 3, 4, 5, 6, 7]
    with database.autocommit() as connection:
        texts = [text for text, _ in collections.each(connection, "acme", "people")]
    assert texts == ['{"n": 0.10000000000000000001, "id": 12345678901234567890}', '{"n": "newer", "id": 6}']


def test_changing_and_repeated_pages_are_each_record_once(place: Path, database: Database) -> None:
    """Records that move between pages while they are read, or come again, are each kept once, as they were last."""
    pages = [PEOPLE[:3], [{"id": 3, "name": "newer"}, *PEOPLE[3:5]], PEOPLE[5:], PEOPLE[5:], PEOPLE[5:]]

    def answers(query: dict[str, str]) -> Told:
        return Told(json.dumps(pages[min(int(query["page"]), len(pages)) - 1]))

    with source(answers) as server:
        done = run(server, **PAGE)
    assert (done["inserted"], done["updated"], done["repeatedPages"]) == (7, 1, 1)
    assert kept(database)[2] == {"id": 3, "name": "newer"}
    assert len(server.asked) == 4, "the last page comes for ever"


def test_what_is_gone_is_removed_only_if_that_is_asked_for(place: Path, database: Database) -> None:
    """A complete run removes what it has not seen when it was asked to."""
    with source(by_page(PEOPLE)) as server:
        run(server, **PAGE)
        server.answers = by_page(PEOPLE[:4])
        assert run(server, **PAGE)["removed"] == 0
        assert run(server, **PAGE, removeMissing=True)["removed"] == 3
    assert kept(database) == PEOPLE[:4]


def test_a_kept_cursor_begins_where_the_last_run_ended(place: Path, database: Database) -> None:
    """With keepCursor a run begins at the last page of the one before."""
    records = list(PEOPLE)

    def growing(query: dict[str, str]) -> Told:
        return by_cursor(records)(query)

    with source(growing) as server:
        run(server, **CURSOR, keepCursor=True)
        records += [{"id": 8, "name": "N8"}, {"id": 9, "name": "N9"}, {"id": 10, "name": "N10"}]
        server.asked.clear()
        done = run(server, **CURSOR, keepCursor=True)
    assert server.asked == ["/records?cursor=6", "/records?cursor=9"]
    assert (done["read"], done["inserted"]) == (4, 3)
    assert len(kept(database)) == 10


def test_a_pull_that_was_killed_goes_on_where_it_was(place: Path, database: Database) -> None:
    """After an end in the midst, the next run asks for no page again that was kept."""
    healthy = by_cursor(PEOPLE)
    with source(lambda query: Told(status=500) if query.get("cursor") == "3" else healthy(query)) as server:
        with pytest.raises(SourceAway, match="has failed at page 2: it answered 500"):
            run(server, **CURSOR)
        assert kept(database) == PEOPLE[:3]
        server.answers = healthy
        server.asked.clear()
        done = run(server, **CURSOR)
        assert server.asked == ["/records?cursor=3", "/records?cursor=6"]
        assert (done["resumed"], done["read"]) == (True, 4)
        assert run(server, **CURSOR)["resumed"] is False
    assert kept(database) == PEOPLE


def test_another_source_begins_anew(place: Path, database: Database) -> None:
    """A position of one source means nothing to another one: with other words it begins at the first page."""
    with source(by_cursor(PEOPLE)) as server:
        run(server, **CURSOR)
        server.asked.clear()
        run(server, **{**CURSOR, "keepCursor": True, "pageSize": 3, "sizeParameter": "limit"})
    assert server.asked[0] == "/records?limit=3"


@pytest.mark.parametrize("status", [410, 400, 404, 422])
def test_an_expired_cursor_begins_anew_once(status: int, place: Path, database: Database) -> None:
    """A source that does not know its cursor any more is read from the beginning, once."""
    records, expired = list(PEOPLE), [True]

    def answers(query: dict[str, str]) -> Told:
        if query.get("cursor") == "6" and expired.pop():
            expired.append(False)
            return Told(status=status)
        return by_cursor(records)(query)

    with source(answers) as server:
        done = run(server, **CURSOR)
        assert (done["restarted"], done["pages"], len(kept(database))) == (True, 5, 7)
        server.answers = lambda query: Told(status=status) if "cursor" in query else by_cursor(records)(query)
        with pytest.raises(CursorExpired, match="does not know its own cursor"):
            run(server, **CURSOR)


PAGE_OF_HTML = "<!doctype html><title>Sign in</title>"


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (Told(PAGE_OF_HTML, kind="text/html"), "answered 200 with an HTML page instead of json"),
        (Told(PAGE_OF_HTML), "with an HTML page"),
        (Told('{"data": ['), "the page is no JSON"),
        (Told('[{"id": NaN}]'), "NaN is no JSON"),
        (Told("[" * 100_000), "no JSON: it is nested too deep"),
        (Told('{"data": 1}'), "no array at 'its root'"),
        (Told(b"\xff\xfe\xfd"), "byte 1 of the page is not utf-8"),
        (Told("[]", kind="application/json; charset=klingon"), "an encoding 'klingon' that there is not"),
        (Told("[]", kind="application/json; charset=undefined"), "the page is not undefined, as the source says"),
        (Told(b"x" * (17 * 1024 * 1024)), "larger than 16 MiB"),
        (Told(status=401), "answered 401: it lets nobody in"),
        (Told(status=404), "answered 404"),
        (Told(status=410), "the source is gone"),
        (Told(status=302, headers={"Location": "http://127.0.0.1:1/"}), "redirects are not followed"),
        (Told("", status=204), "the page is no JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.status}",
)
def test_a_source_that_answers_otherwise_is_told_apart(told: Told, reason: str, place: Path) -> None:
    """HTML, broken JSON, wrong places, refusals and redirects each fail with a reason of their own."""
    with source(lambda _: told) as server, pytest.raises(SourceUnusable, match=reason):
        run(server)


@pytest.mark.parametrize(("status", "kind"), [(429, "asks to wait"), (503, "asks to wait"), (500, "has failed")])
def test_a_source_that_cannot_now_is_asked_again(status: int, kind: str, place: Path, database: Database) -> None:
    """429, 503 and 500 are asked again after what Retry-After says; when that does not help the job is tried again."""
    failing = [Told(PAGE_OF_HTML, status, "text/html", {"Retry-After": "1"})]
    with source(lambda query: failing.pop() if failing else by_page(PEOPLE, 10)(query)) as server:
        began = time.monotonic()
        assert run(server, **PAGE)["inserted"] == 7
        assert time.monotonic() - began >= 1
        server.answers = lambda _: Told(status=status, headers={"Retry-After": "0"})
        with pytest.raises(SourceAway, match=f"{kind} at page 1: it answered {status}"):
            call(sync, SyncExports.model_validate({"pull": {"collection": "x", "url": server.url, "key": ["id"]}}))


def test_a_circle_of_links_is_noticed(place: Path) -> None:
    """A source whose next link leads back is told as such, and not read for ever."""
    with source(lambda _: Told("[]", headers={"Link": "</records?at=1>; rel=next"})) as server:
        with pytest.raises(SourceUnusable, match="leads in a circle"):
            run(server, paging="next_link")
        assert len(server.asked) == 2


def test_more_pages_than_allowed_fail(place: Path) -> None:
    """A source with more pages than mostPages fails with that reason."""
    endless = source(lambda query: Told(json.dumps([{"id": query["page"]}])))
    with endless as server, pytest.raises(SourceUnusable, match="more than 5 pages"):
        run(server, **PAGE, mostPages=5)


@pytest.mark.parametrize(
    "link", ["http://127.0.0.1:1/x", "https://example.org/", "//example.org/x", "file:///etc/passwd"]
)
def test_a_next_link_leads_to_the_same_server(link: str, place: Path) -> None:
    """A next link to another server is not followed."""
    elsewhere = source(lambda _: Told("[]", headers={"Link": f"<{link}>; rel=next"}))
    with elsewhere as server, pytest.raises(SourceUnusable, match="leads to another server"):
        run(server, paging="next_link")


def test_private_addresses_are_refused_unless_they_are_allowed(database_url: str, tmp_path: Path) -> None:
    """Loopback is not asked without the setting that allows it; no request arrives."""
    with workplace(database_url, tmp_path), source(lambda _: Told("[]")) as server:
        with pytest.raises(Forbidden, match="private network"):
            run(server)
        assert server.asked == []


def test_one_job_at_a_time_pulls_a_collection(place: Path, database: Database) -> None:
    """While a job that runs pulls a collection no other one does, and an overtaken attempt writes nothing."""
    with database.autocommit() as connection:
        running = Tracked(connection).start(Tracked(connection).submit())
    mine = Puller("acme", "people", running.id, 1)
    with database.begin() as connection:
        place_of_mine = collections.begin(connection, mine, "s", keeps_cursor=False)
    with source(by_page(PEOPLE)) as server, pytest.raises(CollectionBusy) as busy:
        run(server, **PAGE)
    task: Any = sync
    assert task.blames_payload(busy.value), "it says nothing of the source, and opens no circuit"
    assert isinstance(busy.value, task.autoretry_for)
    with database.begin() as connection:
        collections.begin(connection, Puller("acme", "people", running.id, 2), "s", keeps_cursor=False)
    with pytest.raises(PullOvertaken), database.begin() as connection:
        collections.write(connection, mine, place_of_mine.run, {"[1]": "{}"}, None, complete=True)
    assert kept(database) == []
    with pytest.raises(CollectionBusy), database.begin() as connection:
        collections.begin(connection, Puller("acme", "people", uuid4(), 1), "s", keeps_cursor=False)


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_collection_is_pushed_as_one_file(form: str, place: Path, database: Database) -> None:
    """A push writes all records to one file of the organization, in place of the one before."""
    records = [{"id": 1, "name": "=1+1", "n": 12345678901234567890}, {"id": 2, "name": None, "list": [1]}]
    with source(lambda _: Told(json.dumps(records))) as server:
        pull = {"collection": "people", "url": server.url, "key": ["id"]}
        for _ in range(2):
            result = call(sync, SyncExports.model_validate({"pull": pull, "push": {"format": form}}))
    pushed = result["pushed"]
    text = (place / "acme" / f"people.{form}").read_bytes().decode()
    assert (pushed["recordCount"], pushed["size"], pushed["name"]) == (2, len(text.encode()), f"people.{form}")
    assert [path.name for path in (place / "acme").iterdir()] == [f"people.{form}"]
    if form == "jsonl":
        assert [json.loads(line) for line in text.splitlines()] == records
    else:
        assert text == '"id","list","n","name"\r\n"1",,"12345678901234567890","\'=1+1"\r\n"2","[1]",,\r\n'


def test_an_unknown_collection_is_not_pushed(place: Path) -> None:
    """A push of a collection that the organization does not have fails and leaves no file."""
    with pytest.raises(CollectionNotFound, match="no collection 'nothing'"):
        call(sync, SyncExports.model_validate({"push": {"collection": "nothing"}}))
    assert list((place / "acme").iterdir()) == []


@pytest.mark.parametrize(
    "payload",
    [
        {"exports": ["x"], "push": {"collection": "a"}},
        {"push": {}},
        {"pull": {"collection": "../x", "url": "https://example.org", "key": ["id"]}},
        {"pull": {"collection": "x", "url": "ftp://example.org", "key": ["id"]}},
        {"pull": {"collection": "x", "url": "https://u:p@example.org", "key": ["id"]}},
        {"pull": {"collection": "x", "url": "https://example.org", "key": []}},
        {"pull": {"collection": "x", "url": "https://example.org", "key": ["id"], "paging": "page"}},
        {
            "pull": {
                "collection": "x",
                "url": "https://example.org",
                "key": ["id"],
                "paging": "cursor",
                "parameter": "c",
            }
        },
    ],
)
def test_what_cannot_be_pulled_is_refused_at_once(payload: dict[str, Any]) -> None:
    """A pull that cannot work is refused before the job is accepted."""
    with pytest.raises(ValidationError):
        SyncExports.model_validate(payload)


def test_json_comes_back_with_its_digits() -> None:
    """What is parsed and written again has the same digits."""
    text = '{"a":[1e3,-0.10,12345678901234567890.5,"ü\\n",true,null,{}]}'
    assert parsed(written(parsed(text))) == parsed(text)
    assert parsed(written(parsed("[0.10]"))) == [Decimal("0.10")]
    assert app.tasks["sync"].max_retries == 5
