"""The types of jobs: what their handlers want, and what keeps their jobs from starting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import Field

from api.schemas.answers import Answered
from api.schemas.organization import Pause
from tasks.attempt.job import Job as Handler
from tasks.external import External
from tracking.admission import circuits
from tracking.admission.pauses import Pause as PauseRecord
from tracking.values import Instant


class KeyCircuit(Answered):
    """A circuit that holds only the jobs that depend on one thing, such as the host of a receiver."""

    key: str
    state: Literal["open", "half_open"]
    open_until: Instant


class Circuit(Answered):
    """The circuit breaker of a type of jobs, as it is for the caller's organization."""

    state: Literal["closed", "open", "half_open"] = Field(description="half_open: one job tries, the others wait.")
    everywhere: bool = Field(description="It is open for all organizations, because those of several are.")
    failures: int = Field(description="Failed attempts in a row that open it; 0: it never opens.")
    pause_seconds: float = Field(description="From its opening until one job tries.")
    open_until: Instant | None
    keys: list[KeyCircuit] = Field(description="The organization's own that hold a part of its jobs of the type.")

    @classmethod
    def of(cls, handler: Handler | External, opened: Sequence[circuits.Circuit]) -> Self:
        """The circuits of this handler that are not closed, as one answer."""
        of_type = sorted((each for each in opened if not each.key), key=lambda each: not each.everywhere)
        # A key for all of them may be what only others have named.
        of_keys = sorted((each for each in opened if each.key and not each.everywhere), key=lambda each: each.key)
        first = of_type[0] if of_type else None
        return cls(
            state=first.state if first else "closed",
            everywhere=first is not None and first.everywhere,
            failures=handler.circuit_failures,
            pause_seconds=handler.circuit_pause,
            open_until=first.probe_at if first else None,
            keys=[KeyCircuit(key=each.key, state=each.state, open_until=each.probe_at) for each in of_keys],
        )


class JobType(Answered):
    """A type of jobs, and what its handler wants."""

    job_type: str
    payload_schema: dict[str, Any]
    permission: str | None = Field(description="Needed besides jobs.create_jobs or jobs.retry_jobs.")
    steps: list[str]
    retry_policy: dict[str, Any]
    circuit: Circuit
    pauses: list[Pause] = Field(description="Those that hold its jobs in the caller's organization.")
    external: bool = Field(description="The work of its jobs is done elsewhere: no worker runs them.")

    @classmethod
    def of(cls, handler: Handler | External, opened: Sequence[circuits.Circuit], held: Sequence[PauseRecord]) -> Self:
        """What clients can know of a handler."""
        return cls(
            job_type=handler.name,
            payload_schema=handler.payload_schema(),
            permission=handler.permission,
            steps=list(handler.steps),
            retry_policy=handler.retry_policy(),
            circuit=Circuit.of(handler, opened),
            pauses=[Pause.model_validate(pause) for pause in held],
            external=handler.external,
        )


class JobTypes(Answered):
    """All types of jobs that can be created here."""

    job_types: list[JobType]

    @classmethod
    def of(
        cls, handlers: Mapping[str, Handler | External], opened: Sequence[circuits.Circuit], held: Sequence[PauseRecord]
    ) -> Self:
        """The types of these handlers, with the circuits that are not closed and an organization's pauses."""
        return cls(
            job_types=[
                JobType.of(
                    handler,
                    [circuit for circuit in opened if circuit.job_type == name],
                    [pause for pause in held if pause.job_type in (name, None)],
                )
                for name, handler in handlers.items()
            ]
        )
