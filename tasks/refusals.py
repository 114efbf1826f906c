"""Writes that the database refuses for good: the reason, without the statement and the values that it quotes."""

from __future__ import annotations

from dataclasses import replace

from tracking.db import cause_of, said_by
from tracking.models import Failure, Outcome
from tracking.values import MESSAGE_BYTES, storable_text


def reason_of(error: BaseException) -> Failure:
    """Type and message of an error, storable; of the database's the message alone, as its details quote values."""
    cause = cause_of(error)
    return Failure(type(cause).__name__, storable_text(said_by(cause) or cause, MESSAGE_BYTES) or type(cause).__name__)


def instead_of(outcome: Outcome, error: BaseException) -> Outcome:
    """What can be written in place of an outcome that was refused: failed, for its own reason if it had failed."""
    refusal = reason_of(error)
    failure = outcome.failure if outcome.kind == "failed" and outcome.failure else None
    if failure is None:
        message = f"its outcome {outcome.kind!r} could not be written: {refusal.message}"
        failure = Failure(refusal.type, storable_text(message, MESSAGE_BYTES))
    plain = Failure(storable_text(failure.type, MESSAGE_BYTES), storable_text(failure.message, MESSAGE_BYTES))
    return replace(Outcome(outcome.fence, "failed", outcome.actor, outcome.attempt), failure=plain)
