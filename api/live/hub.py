"""Who hears what: streams by what they may see and want, each with a bounded buffer."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from api.auth import Principal
from api.live.messages import Message
from api.problems import Code, Problem
from tracking.models import Scope
from tracking.reads.tail import Narrowed

MOST_MESSAGES = 1000  # that a stream keeps for a client that is slow to read, beside those of one look
MOST_BYTES = 256 * 1024  # of them
EACH_USERS = 20  # streams of one user in a process
RETRY_AFTER = {"Retry-After": "15"}


@dataclass(frozen=True)
class Chunk:
    """Messages that several streams send at once, and share."""

    messages: Sequence[Message]

    @cached_property
    def sse(self) -> bytes:
        """All of them as server-sent events."""
        return b"".join(message.sse for message in self.messages)

    def after(self, last: int) -> Chunk | None:
        """Those behind an id; None when there are none."""
        if self.messages[0].id > last:
            return self
        rest = [message for message in self.messages if message.id > last]
        return Chunk(rest) if rest else None


@dataclass(frozen=True, slots=True)
class Interest:
    """Which jobs a stream is about: those in its scope, narrowed."""

    scope: Scope
    narrowed: Narrowed

    def wants(self, message: Message) -> bool:
        """Whether its streams get this message; their organization is known to be its own."""
        user = self.scope.user_id
        return (user is None or user == message.happening.user_id) and self.narrowed.wants(message.happening)


@dataclass(frozen=True, slots=True)
class Taken:
    """What a stream sends next. `resync`: some was left out before it."""

    chunks: Sequence[Chunk]
    resync: bool

    @property
    def sse(self) -> bytes:
        """The chunks as server-sent events."""
        return b"".join(chunk.sse for chunk in self.chunks)


class Stream:
    """The messages for one client, from where it joined; `user` counts against the limit of that user."""

    def __init__(self, interest: Interest, principal: Principal, position: int) -> None:
        self.interest = interest
        self.principal = principal
        self.user = (interest.scope.organization_id, principal.user)
        self._after = position  # what came before is not this stream's to tell
        self._chunks: deque[Chunk] = deque()
        self._messages = 0
        self._bytes = 0
        self._resync = False
        self._is_over = self.is_denied = False
        self._wake = asyncio.Event()

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be sent."""
        return self._is_over

    @property
    def after(self) -> int:
        """The stream tells what comes after this id."""
        return self._after

    def start_after(self, last: int) -> None:
        """Leave out what the client has had already, from another process that was ahead of this one."""
        self._after = max(self._after, last)

    def offer(self, chunk: Chunk) -> None:
        """Keep messages until they are sent; when there are too many, keep none, and say so once.

        Who has been sent all that there was before is not slow, however many come at once: one look of the reader's.
        """
        wanted = chunk.after(self._after)
        if wanted is None:
            return
        is_level = not self._chunks
        self._chunks.append(wanted)
        self._messages += len(wanted.messages)
        self._bytes += len(wanted.sse)
        if not is_level and (self._messages > MOST_MESSAGES or self._bytes > MOST_BYTES):
            self.fall_behind()
        self._wake.set()

    def fall_behind(self) -> None:
        """Forget what is kept: the client has to read the jobs anew."""
        self._forget()
        self._resync = True
        self._wake.set()

    def restart(self) -> None:
        """Begin again with whatever ids come next."""
        self._after = 0
        self.fall_behind()

    def end(self, *, is_denied: bool = False) -> None:
        """Send nothing more. `is_denied`: because it was taken from whom it is for."""
        self._is_over, self.is_denied = True, is_denied
        self._wake.set()

    async def take(self, patience: float) -> Taken:
        """All that is to be sent now; nothing after so many seconds, or when the stream is over."""
        if not self._wake.is_set():
            try:
                async with asyncio.timeout(patience):
                    await self._wake.wait()
            except TimeoutError:
                pass
        self._wake.clear()
        taken = Taken(tuple(self._chunks), self._resync)
        self._forget()
        self._resync = False
        return taken

    def _forget(self) -> None:
        self._chunks.clear()
        self._messages = self._bytes = 0


@dataclass
class Hub:
    """The streams of this process. Everything here runs in its event loop."""

    most: int
    position: int | None = None  # every row up to it was offered; None: the reader has not begun
    _streams: dict[str, dict[Interest, set[Stream]]] = field(default_factory=dict)
    _users: Counter[tuple[str, str]] = field(default_factory=Counter)
    _is_closed: bool = False

    def __len__(self) -> int:
        return self._users.total()

    def join(self, interest: Interest, principal: Principal) -> Stream:
        """A new stream, from now on. Raises the 429 or the 503 problem."""
        owner = (interest.scope.organization_id, principal.user)
        if self.position is None:
            raise Problem(Code.DATABASE_UNAVAILABLE, "The history cannot be read now.", headers=RETRY_AFTER)
        if self._is_closed or len(self) >= self.most:
            raise Problem(Code.OVERLOADED, "No further stream can be served now.", headers=RETRY_AFTER)
        if self._users[owner] >= EACH_USERS:
            detail = f"A user has at most {EACH_USERS} streams at a time; close one."
            raise Problem(Code.TOO_MANY_STREAMS, detail, headers=RETRY_AFTER)
        stream = Stream(interest, principal, self.position)
        self._users[owner] += 1
        self._streams.setdefault(owner[0], {}).setdefault(interest, set()).add(stream)
        return stream

    def reached(self, stream: Stream) -> int | None:
        """The id up to which a stream that has nothing left to send has told all; None: that is not known now."""
        return None if self.position is None else max(self.position, stream.after)

    def leave(self, stream: Stream) -> None:
        """Forget a stream; once is enough."""
        interests = self._streams.get(stream.user[0], {})
        streams = interests.get(stream.interest, set())
        if stream not in streams:
            return
        streams.remove(stream)
        self._users -= Counter([stream.user])
        if not streams:
            del interests[stream.interest]
        if not interests:
            del self._streams[stream.user[0]]

    def publish(self, messages: Sequence[Message], position: int) -> None:
        """Offer messages, in the order of their ids, to all streams that want them; `position`: there are no others."""
        by_organization: dict[str, list[Message]] = {}
        for message in messages:
            organization = message.happening.organization_id
            if organization in self._streams:
                by_organization.setdefault(organization, []).append(message)
        for organization, told in by_organization.items():
            for interest, streams in self._streams[organization].items():
                wanted = [message for message in told if interest.wants(message)]
                if wanted:
                    chunk = Chunk(wanted)
                    for stream in streams:
                        stream.offer(chunk)
        self.position = position

    def restart(self) -> None:
        """The database is another one than before: what was told does not count."""
        self.position = None
        for stream in self._all():
            stream.restart()

    @property
    def sessions(self) -> set[bytes]:
        """The digests of the sessions that streams are of."""
        return {each.principal.proof.session for each in self._all()} - {None}  # type: ignore[return-value]

    def end_those(self, over: Callable[[Principal], bool]) -> None:
        """End the streams of all those to whom this applies."""
        for stream in self._all():
            if over(stream.principal):
                stream.end(is_denied=True)

    def close(self) -> None:
        """End all streams, and take no new ones."""
        self._is_closed = True
        for stream in self._all():
            stream.end()

    def _all(self) -> list[Stream]:
        return [stream for interests in self._streams.values() for streams in interests.values() for stream in streams]
