"""What can be inconsistent after a restore: of each kind, what happens by itself, and what is left to people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Something that rows, messages and files do not agree about."""

    UNKNOWN_JOB = "unknown_job"
    LATER_DISPATCH = "later_dispatch"
    LATER_EXPORT = "later_export"
    UNKNOWN_EXPORT = "unknown_export"
    UNKNOWN_UPLOAD = "unknown_upload"
    MISSING_EXPORT = "missing_export"
    MISSING_UPLOAD = "missing_upload"
    OVERDUE_SCHEDULE = "overdue_schedule"
    RUNNING = "running"
    OPERATION = "operation"
    UNSENT = "unsent"
    SPENT_MESSAGE = "spent_message"
    FOREIGN_MESSAGE = "foreign_message"
    UNTOLD_EVENT = "untold_event"


@dataclass(frozen=True, slots=True)
class Meaning:
    """`is_newer`: it shows that more has happened than the rows know, or that something is gone."""

    what: str
    by_itself: str
    to_do: str
    is_newer: bool


NOTHING = "nothing"

MEANINGS: Mapping[Kind, Meaning] = {
    Kind.UNKNOWN_JOB: Meaning(
        "messages of jobs that have no row: they were accepted after the backup",
        "their messages do not run, and are kept as dead letters",
        "tell whoever submitted them: what they asked for is not in the message",
        is_newer=True,
    ),
    Kind.LATER_DISPATCH: Meaning(
        "jobs whose message is of a later dispatch than their row: they ran, and were sent again, after the backup",
        "the message is refused and the job runs from its row: once more",
        "cancel those whose effects must not come twice",
        is_newer=True,
    ),
    Kind.LATER_EXPORT: Meaning(
        "exports of an attempt that their job's row does not know: it ran after the backup",
        "the job runs once more, and its new export takes the place of this one",
        "cancel the job if this export is enough: copy the file first",
        is_newer=True,
    ),
    Kind.UNKNOWN_EXPORT: Meaning(
        "exports whose job has no row; those of another installation that shares the directory are among them",
        "nobody can download them; a cleanup job removes them when they are old",
        "copy those that somebody still needs",
        is_newer=True,
    ),
    Kind.UNKNOWN_UPLOAD: Meaning(
        "uploaded files that have no row",
        "a cleanup job removes them after an hour",
        "copy them now, and have them uploaded again",
        is_newer=True,
    ),
    Kind.MISSING_EXPORT: Meaning(
        "jobs that have succeeded with an export that is not in the store",
        "a download answers 404",
        "restore the files, or submit the jobs again; a cleanup job may have removed them before",
        is_newer=True,
    ),
    Kind.MISSING_UPLOAD: Meaning(
        "rows of uploaded files that are not in the store",
        "jobs that read them fail; a cleanup job removes the rows",
        "restore the files, or have them uploaded again",
        is_newer=True,
    ),
    Kind.OVERDUE_SCHEDULE: Meaning(
        "schedules with due times since the backup, whose jobs may have run already",
        "`skip` makes none of these, `once` the latest, `all` the latest hundred, as the schedule says",
        "pause those whose jobs must not come twice, before a worker starts",
        is_newer=True,
    ),
    Kind.RUNNING: Meaning(
        "jobs that ran at the backup, on workers that are gone",
        "their attempt counts as lost, and they run once more; after three losses a job fails",
        "cancel those whose effects must not come twice",
        is_newer=False,
    ),
    Kind.OPERATION: Meaning(
        "bulk operations that were not over at the backup",
        "they go on: what they have done since is done once more",
        "abort those that must not",
        is_newer=False,
    ),
    Kind.UNSENT: Meaning(
        "jobs that wait for a worker and have no message",
        "the leading worker sends them again, within CELERIAC_RESEND_AFTER",
        NOTHING,
        is_newer=False,
    ),
    Kind.SPENT_MESSAGE: Meaning(
        "messages of an earlier dispatch than the row's, or of a job that does not wait",
        "they are refused",
        NOTHING,
        is_newer=False,
    ),
    Kind.FOREIGN_MESSAGE: Meaning(
        "messages of no job of the platform",
        "they are adopted, or kept as dead letters, as ever",
        NOTHING,
        is_newer=False,
    ),
    Kind.UNTOLD_EVENT: Meaning(
        "events that webhooks may not have heard of at the backup",
        "they are told of them: some once more, by another `webhook-id`",
        NOTHING,
        is_newer=False,
    ),
}

# What neither rows nor messages nor files show.
UNSEEN = (
    "Jobs that were waiting at the backup and have run since left no trace but messages and files: they run again.",
    "Cancels, pauses, limits, permissions and webhooks are those of the backup: a job that was cancelled since runs.",
    "Tokens that were denied since, and sessions that were ended, are good again until they expire.",
    "Idempotency keys that were used since are forgotten: a repeated request makes a new job.",
    "Numbers of events are given again, and streams that resume may miss some: `celeriac restore-check --renumber`.",
)
