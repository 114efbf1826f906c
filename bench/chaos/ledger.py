"""What was asked of the platform and what it answered: the other half of the truth, beside the witness."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from uuid import UUID


@dataclass
class Ask:
    """One job that somebody wants, by its idempotency key; `job_id` None until a 2xx has said that it is accepted."""

    key: str
    organization: str
    kind: str
    job_id: UUID | None = None
    cancelled: bool = False


@dataclass
class Ledger:
    """Shared by all threads of the load. `unexpected` holds a line for each thing that must not happen.

    `times` are those of answers: when each was asked for, and the seconds that it took.
    """

    asks: dict[str, Ask] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    answers: dict[int, int] = field(default_factory=dict)
    unanswered: int = 0
    times: list[tuple[float, float]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, ask: Ask) -> None:
        """Note a job before it is asked for."""
        with self._lock:
            self.asks[ask.key] = ask

    def accept(self, ask: Ask, job_id: UUID) -> None:
        """Note that a 2xx gave this id; the same key must never give two."""
        with self._lock:
            if ask.job_id not in (None, job_id):
                self.unexpected.append(f"the key {ask.key} gave two jobs, {ask.job_id} and {job_id}")
            ask.job_id = job_id

    def count(self, status: int) -> None:
        """Note an answer of the API."""
        with self._lock:
            self.answers[status] = self.answers.get(status, 0) + 1

    def took(self, seconds: float) -> None:
        """Note how long an answer took of an API that ran all the while."""
        with self._lock:
            self.times.append((time.time() - seconds, seconds))

    def miss(self) -> None:
        """Note that no answer came: the API was killed."""
        with self._lock:
            self.unanswered += 1

    def surprise(self, line: str) -> None:
        """Note what must not happen."""
        with self._lock:
            if line not in self.unexpected:
                self.unexpected.append(line)

    def accepted(self) -> list[Ask]:
        """The asks that were answered with 2xx."""
        with self._lock:
            return [ask for ask in self.asks.values() if ask.job_id is not None]
