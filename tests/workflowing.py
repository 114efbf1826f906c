"""Workflows on a database of the tests' own: made, moved by the verbs, and looked after as the leader does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

from tests.tracked import ACME, Tracked, new_job
from tracking import jobs
from tracking.admission import holds
from tracking.admission.rule import UNLIMITED
from tracking.db import Connection, Database
from tracking.models import Changes, JobRecord, NewJob, Owner, Scope
from tracking.origins import By
from tracking.states import When
from tracking.workflows import concluding, filling, keeping, reads
from tracking.workflows.graph import in_order
from tracking.workflows.references import Reference, filled, references
from tracking.workflows.values import After, Begun, NewWorkflow, Node, NodeState, Workflow

# A key, and what it waits for: "a" is after a has succeeded, "a?" after it has ended, "a!" after it has failed.
MARKS = {"?": When.FINISHED, "!": When.FAILED}
U1 = By("u1")


def node(key: str, *after: str, **said: Any) -> Node:
    """A job with this key that is after these."""
    return Node(key, "count_words", after=[_after(each) for each in after], **said)


def _after(word: str) -> After:
    when = MARKS.get(word[-1], When.SUCCEEDED)
    return After(word.rstrip("".join(MARKS)), when)


@dataclass(frozen=True)
class Flow:
    """A workflow of acme's u1."""

    pool: Database
    tracked: Tracked
    id: UUID

    @property
    def now(self) -> Workflow:
        return reads.get(self.tracked.connection, self.id, ACME)

    @property
    def nodes(self) -> dict[str, NodeState]:
        """Its jobs as they are now, by their keys."""
        return {each.node.key: each for each in reads.jobs_of(self.tracked.connection, self.id)}

    @property
    def states(self) -> dict[str, str]:
        """Where each of them is."""
        return {key: each.status for key, each in self.nodes.items()}

    def job(self, key: str) -> JobRecord:
        """The job of this key."""
        return self.tracked.get(self.nodes[key].job_id)

    def run(self, key: str, kind: Any = "succeeded", **details: Any) -> JobRecord:
        """Run one attempt of a job that waits for nothing, end it, and let happen what follows."""
        ended = self.tracked.end(self.tracked.start(self.job(key)), kind, **details)
        self.follow()
        return ended

    def follow(self) -> None:
        """Let happen what follows from the ends of jobs, as upkeep does."""
        connection = self.tracked.connection
        while True:
            moved: list[object] = [fill(connection, each) for each in filling.unfilled(connection, 100)]
            moved += holds.cancel_dependents(connection, 100)
            moved += holds.lift_dependents(connection, UNLIMITED, 100)
            if not moved:
                return

    def cancel(self, reason: str | None = None, **options: Any) -> Workflow:
        with self.pool.begin() as connection:
            by, scope = options.get("by", U1), options.get("scope", ACME)
            return keeping.cancel(connection, self.id, scope, reason=reason, by=by)[0]

    def retry(self, *, whole: bool = False, scope: Scope = ACME) -> Begun:
        """Run it again, or what has failed and follows that."""
        with self.pool.begin() as connection:
            known = keeping.to_retry(connection, self.id, scope, whole=whole)
            part = keeping.chosen(known, whole=whole)
            ids = {each.node.key: each.job_id for each in known if each.node.key not in part}
            new = {
                each.key: job for each, job in made(self.id, [k.node for k in known if k.node.key in part], known=ids)
            }
            return keeping.retry(connection, self.id, scope, new, UNLIMITED, by=U1)

    def conclude(self) -> Sequence[UUID]:
        """Keep the ends of all that are over."""
        with self.pool.begin() as connection:
            return concluding.conclude(connection, 100)


def fill(connection: Any, waiting: filling.Unfilled) -> bool:
    """Fill a payload in, as it comes."""
    keys = {each.key for each in references(waiting.payload) if isinstance(each, Reference)}
    told = filling.told(connection, waiting.workflow_id, keys)
    return filling.fill(connection, waiting, Changes(payload=filled(waiting.payload, told)))


def made(workflow_id: UUID, nodes: Sequence[Node], known: Mapping[str, UUID]) -> list[tuple[Node, NewJob]]:
    """The jobs of these, in order; `known`: those that are there."""
    ids = {**known, **{each.key: uuid4() for each in nodes}}
    return [
        (
            each,
            new_job(
                id=ids[each.key],
                root_id=workflow_id,
                job_type=each.job_type,
                payload=each.payload,
                actor="u1",
                max_retries=100,
                depends_on=[ids[after.key] for after in each.after],
                depends_when=[after.when for after in each.after] or None,
                unresolved=any(references(each.payload)),
            ),
        )
        for each in nodes
    ]


def create(pool: Database, tracked: Tracked, *nodes: Node, **said: Any) -> Flow:
    """A workflow with these jobs that is accepted."""
    return Flow(pool, tracked, begin(pool, *nodes, **said).id)


def begin(pool: Database, *nodes: Node, **said: Any) -> Begun:
    """What becomes of the wish for such a workflow."""
    with pool.begin() as connection:
        return begin_on(connection, *nodes, **said)


def begin_on(connection: Connection, *nodes: Node, by: By = U1, **said: Any) -> Begun:
    """The same on this connection."""
    workflow_id = said.pop("id", None) or uuid4()
    new = NewWorkflow(workflow_id, Owner("acme", "u1"), "nightly", made(workflow_id, in_order(nodes), {}))
    owner = said.get("owner", new.owner)
    new = replace(new, **said, jobs=[(each, replace(job, owner=owner)) for each, job in new.jobs])
    return keeping.create(connection, new, UNLIMITED, by=by)


def cancel_job(flow: Flow, key: str) -> JobRecord:
    """Cancel one of its jobs, and let happen what follows."""
    cancelled = jobs.cancel(flow.tracked.connection, flow.job(key).id, ACME, actor="u1").job
    flow.follow()
    return cancelled
