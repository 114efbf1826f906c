"""The shape of a canvas that was frozen: which tasks bear an id already, and what each of them waits for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from celery.utils.functional import maybe_list

from tracking.identifiers import job_id_of
from tracking.successors import PROVISIONAL

Signature = Mapping[str, Any]  # Celery's, or its JSON

# What a task waits for: a job, or all members of a group. None: a task without an id yet, for which nothing waits.
Before = UUID | str | None


class Rest(list[Any]):
    """What is left of a running task's chain.

    It was checked as a whole when it was sent, so that no link checks it again.
    """

    def __getitem__(self, place: Any) -> Any:
        """One link, or a slice, which is a Rest as well."""
        found = super().__getitem__(place)
        return Rest(found) if isinstance(place, slice) else found


@dataclass(frozen=True, slots=True)
class Step:
    """A task that will be called with the result of what is `before` it; `errbacks`: its own and its chain's.

    `group`: the id of the group that it is a member of, if it must be told from what stands around it.
    """

    signature: Signature
    before: UUID | str
    errbacks: Sequence[Any]
    group: str | None = None

    @property
    def options(self) -> Mapping[str, Any]:
        options: Mapping[str, Any] = self.signature["options"]
        return options


def after(job_id: UUID, chain: Sequence[Signature]) -> list[Step]:
    """What follows a job whose message names this chain, in Celery's order: the next task is the last one."""
    steps: list[Step] = []
    _sequence(reversed(chain), job_id, (), steps)
    return steps


def body(group_id: str, signature: Signature) -> list[Step]:
    """The body of a chord whose header has this id, and what follows it."""
    steps: list[Step] = []
    _one(signature, group_id, (), steps)
    return steps


def _sequence(signatures: Iterable[Signature], before: Before, errbacks: Sequence[Any], steps: list[Step]) -> Before:
    for signature in signatures:
        before = _one(signature, before, errbacks, steps)
    return before


def _one(signature: Signature, before: Before, errbacks: Sequence[Any], steps: list[Step]) -> Before:
    """Add the steps of a signature; returns what its own successors wait for."""
    options, kwargs = signature["options"], signature["kwargs"]
    errbacks = (*errbacks, *(maybe_list(options.get("link_error")) or ()))
    kind = signature.get("subtask_type")
    if kind == "chain":
        end = _sequence(kwargs["tasks"], before, errbacks, steps)
    elif kind == "group":
        end = _members(kwargs["tasks"], options.get("task_id"), before, errbacks, steps)
    elif kind == "chord":
        end = _chord(kwargs, options, before, errbacks, steps)
    elif before is None or options.get("task_id") is None:
        end = None
    else:
        steps.append(Step(signature, before, errbacks))
        end = job_id_of(str(options["task_id"]))
    return _sequence(reversed(options.get("chain") or ()), end, (), steps)


def _members(
    tasks: Iterable[Signature], group_id: str | None, before: Before, errbacks: Sequence[Any], steps: list[Step]
) -> Before:
    members: list[int] = []  # the places of those whose results count
    for task in tasks:
        length = len(steps)
        _one(task, before, errbacks, steps)
        members += [len(steps) - 1] if len(steps) > length else []
    if group_id is None and members:
        # Celery gives a group its id when the chord that it belongs to is sent. Until then it has a name of ours.
        group_id = f"{PROVISIONAL}{steps[members[0]].options['task_id']}"
    for place in members:
        steps[place] = replace(steps[place], group=group_id)
    return group_id


def _chord(
    kwargs: Mapping[str, Any], options: Mapping[str, Any], before: Before, errbacks: Sequence[Any], steps: list[Step]
) -> Before:
    header = kwargs["header"]
    named = options
    if isinstance(header, Mapping):  # a group, which Celery makes of the list when it freezes the chord
        named, header = header["options"], header["kwargs"]["tasks"]
    group_id = named.get("task_id") or options.get("task_id")
    _members(header, group_id, before, (), steps)
    return _one(kwargs["body"], group_id if header else before, errbacks, steps) if kwargs.get("body") else None
