"""A page of a source: its records, each with its key, and where the next page is."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal
from urllib.parse import urljoin

import httpx2
from pydantic import AfterValidator, Field, HttpUrl, model_validator

from tasks.payloads import BaseModel
from tasks.syncing.pointers import NOTHING, parsed, pointed, written
from tasks.webhooks.fetching import Page

LARGEST_RECORD = 256 * 1024  # characters of its JSON
LISTED_RECORDS = 20  # of those that were left out
LONGEST_CURSOR = 4000  # characters
DELIMITERS = ",;\t|"
ACCEPT = {"json": "application/json", "csv": "text/csv"}
NEXT = re.compile(r"""<([^>]*)>[^,]*?;\s*rel\s*=\s*"?[^",;]*\bnext\b""", re.IGNORECASE)  # RFC 8288


class SourceUnusable(Exception):
    """The source does not answer as it was said to."""


def _pointer(value: str) -> str:
    if value and not value.startswith("/"):
        raise ValueError("a JSON Pointer is empty, or begins with /")
    return value


def _address(value: HttpUrl) -> HttpUrl:
    if value.username or value.password:
        raise ValueError("an address with a password in it would be kept with the job")
    return value


Pointer = Annotated[str, Field(max_length=500), AfterValidator(_pointer)]
Parameter = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\[\]$-]{1,100}$")]


class Pull(BaseModel):
    """A source on the web, read page by page into a collection; records with the same key replace each other."""

    collection: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$", description="Its name in the organization.")
    url: Annotated[HttpUrl, AfterValidator(_address)] = Field(description="Of the first page, in the public internet.")
    format: Literal["json", "csv"] = "json"
    records: Pointer = Field(default="", description="Where a JSON page has its array of objects.")
    key: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(
        min_length=1, max_length=10, description="Fields that tell a record from all others."
    )
    paging: Literal["none", "next_link", "cursor", "page"] = "none"
    next: Pointer | None = Field(
        default=None, description="Where a JSON page has the next link or cursor; without it, the Link header has it."
    )
    parameter: Parameter | None = Field(default=None, description="Of the query, for the cursor or the page's number.")
    first_page: int = Field(default=1, ge=0, le=1)
    page_size: int | None = Field(default=None, ge=1, le=100_000, description="A page with fewer records is the last.")
    size_parameter: Parameter | None = Field(default=None, description="Of the query, for `pageSize`.")
    most_pages: int = Field(default=10_000, ge=1, le=1_000_000, description="More of them fail the job.")
    keep_cursor: bool = Field(default=False, description="Begin where the last complete run has ended.")
    remove_missing: bool = Field(default=False, description="Remove records that a complete run has not seen.")

    @model_validator(mode="after")
    def check_paging(self) -> Pull:
        """What the way of paging needs."""
        if self.paging in ("cursor", "page") and self.parameter is None:
            raise ValueError(f"paging by {self.paging} needs the `parameter` of the query")
        if self.paging == "cursor" and (self.next is None or self.format == "csv"):
            raise ValueError("paging by cursor needs JSON, and `next` that says where the cursor is")
        if self.paging == "next_link" and self.format == "csv" and self.next is not None:
            raise ValueError("csv has its next link in the Link header")
        if self.keep_cursor and (self.paging != "cursor" or self.remove_missing):
            raise ValueError("a cursor is kept with paging by cursor, and without removeMissing")
        if (self.size_parameter is None) != (self.page_size is None) and self.size_parameter is not None:
            raise ValueError("sizeParameter needs pageSize")
        return self

    def address(self, position: Any) -> str:
        """Of the page at this position; None: the first."""
        url = httpx2.URL(str(self.url))
        if self.size_parameter is not None:
            url = url.copy_set_param(self.size_parameter, self.page_size)
        if self.paging == "page":
            number = self.first_page if position is None else position["page"]
            url = url.copy_set_param(str(self.parameter), number)
        if self.paging == "cursor" and position is not None:
            url = url.copy_set_param(str(self.parameter), position["cursor"])
        return str(position["url"]) if self.paging == "next_link" and position is not None else str(url)


@dataclass(slots=True)
class Parsed:
    """A page: its records as JSON by their keys, how many it has, and the position of the next; None: it is the last.

    `rejected` are the records that cannot be kept, with the reason.
    """

    records: dict[str, str] = field(default_factory=dict)
    read: int = 0
    next: Any = None
    rejected: list[dict[str, Any]] = field(default_factory=list)


def parse(pull: Pull, page: Page, position: Any) -> Parsed:
    """The records of a page that was answered with success. Raises SourceUnusable."""
    if page.is_cut:
        raise SourceUnusable("the page is larger than 16 MiB; ask for smaller ones")
    text = _text(page)
    if page.media_type == "text/html" or text.lstrip()[:1] == "<":
        raise SourceUnusable(f"the source answered {page.status} with an HTML page instead of {pull.format}")
    if pull.format == "csv":
        whole, found = None, Parsed()
        rows = _csv(text, pull.key, found)
    else:
        whole, found = _json(text), Parsed()
        rows = _array(whole, pull.records)
    for number, row in enumerate(rows, start=1):
        found.read += 1
        _take(pull, number, row, found)
    found.next = _next(pull, page, whole, position, found)
    return found


def _text(page: Page) -> str:
    declared = re.search(r"charset\s*=\s*\"?([\w.:-]+)", page.headers.get("content-type", ""), re.IGNORECASE)
    encoding = declared[1] if declared else "utf-8"
    try:
        encoding = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
        return page.content.decode(encoding)
    except LookupError:
        raise SourceUnusable(f"the source names an encoding {encoding!r} that there is not") from None
    except UnicodeDecodeError as error:
        raise SourceUnusable(f"byte {error.start + 1} of the page is not {encoding}") from None
    except UnicodeError:  # of the codecs that are made for something else, such as idna and undefined
        raise SourceUnusable(f"the page is not {encoding}, as the source says") from None


def _json(text: str) -> Any:
    try:
        return parsed(text)
    except ValueError as error:
        raise SourceUnusable(f"the page is no JSON: {str(error)[:200]}") from None


def _array(whole: Any, pointer: str) -> Sequence[Any]:
    found = pointed(whole, pointer)
    if not isinstance(found, list):
        raise SourceUnusable(f"the page has no array at {pointer or 'its root'!r}")
    return found


def _csv(text: str, key: Sequence[str], found: Parsed) -> Sequence[Any]:
    """The rows as objects; one of another length than the header is left out."""
    try:
        rows = [*_rows(text, _delimiter(text, key))]
    except csv.Error as error:
        raise SourceUnusable(f"the page is no csv: {error}") from None
    if not rows:
        return []
    header, *following = rows
    if len(set(header)) < len(header):
        raise SourceUnusable("two columns of the page have the same name")
    missing = [name for name in key if name not in header]
    if missing:
        raise SourceUnusable(f"the page has no column {missing[0]!r}; its header is {','.join(header)[:200]!r}")
    kept = []
    for number, row in enumerate(following, start=1):
        if len(row) == len(header):
            kept.append({name: cell or None for name, cell in zip(header, row, strict=True)})
        else:
            found.read += 1
            _reject(found, number, f"it has {len(row)} fields instead of {len(header)}")
    return kept


def _delimiter(text: str, key: Sequence[str]) -> str:
    """The first one with which the header has the columns of the key; a comma when none is such."""
    return next((each for each in DELIMITERS if {*key} <= {*next(_rows(text, each), ())}), DELIMITERS[0])


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    return (row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if row)


def _take(pull: Pull, number: int, row: Any, found: Parsed) -> None:
    if not isinstance(row, dict):
        _reject(found, number, "it is no object")
        return
    missing = [name for name in pull.key if row.get(name) is None]
    if missing:
        _reject(found, number, f"it has no {missing[0]!r}")
        return
    try:
        key, record = written([row[name] for name in pull.key]), written(row)
    except ValueError as error:
        _reject(found, number, str(error))
        return
    if len(record) > LARGEST_RECORD or len(key) > LARGEST_RECORD // 256:
        _reject(found, number, "it is too large")
        return
    found.records[key] = record  # of two with one key in a page the later one is newer


def _reject(found: Parsed, number: int, reason: str) -> None:
    found.rejected.append({"record": number, "reason": reason[:300]})


def _next(pull: Pull, page: Page, whole: Any, position: Any, found: Parsed) -> Any:
    match pull.paging:
        case "page":
            is_last = found.read == 0 or (pull.page_size is not None and found.read < pull.page_size)
            number = pull.first_page if position is None else position["page"]
            return None if is_last else {"page": number + 1}
        case "cursor":
            cursor = pointed(whole, str(pull.next))
            if cursor in (None, "", False) or cursor is NOTHING:
                return None
            if isinstance(cursor, bool) or not isinstance(cursor, str | int) or len(str(cursor)) > LONGEST_CURSOR:
                raise SourceUnusable(f"what the page has at {pull.next!r} is no cursor")
            return {"cursor": cursor}
        case "next_link":
            link = _link(page.headers) if pull.next is None else pointed(whole, pull.next)
            return None if link in (None, "") or link is NOTHING else {"url": _followed(pull, link, position)}
    return None


def _link(headers: Mapping[str, str]) -> str | None:
    found = NEXT.search(headers.get("link", ""))
    return found[1] if found else None


def _followed(pull: Pull, link: Any, position: Any) -> str:
    """The address of a link, which leads to the same server."""
    if not isinstance(link, str) or len(link) > LONGEST_CURSOR:
        raise SourceUnusable("what the page has for its next link is no address")
    try:
        url = httpx2.URL(urljoin(pull.address(position), link))
    except (httpx2.InvalidURL, ValueError):
        raise SourceUnusable("what the page has for its next link is no address") from None
    own = httpx2.URL(str(pull.url))
    if (url.scheme, url.host, url.port) != (own.scheme, own.host, own.port) or url.userinfo:
        raise SourceUnusable(f"the next link leads to another server: {url.host}")
    return str(url)
