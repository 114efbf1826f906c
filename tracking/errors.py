"""The few ways in which tracking says no. Each docstring is the message."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID


class TrackingError(Exception):
    """The tracking of jobs refused a request."""

    def __str__(self) -> str:
        return super().__str__() or str(self.__doc__)


class ConfigurationError(TrackingError):
    """A setting is missing or wrong."""


class InvalidValue(TrackingError):
    """A JSON value is outside the platform's limits."""


class UnknownDependency(InvalidValue):
    """A job depends on one that does not exist. `job_ids`: those that are not there, or not in sight."""

    def __init__(self, message: str = "", *, job_ids: Sequence[UUID] = ()) -> None:
        super().__init__(message)
        self.job_ids = tuple(job_ids)


class JobNotFound(TrackingError):
    """There is no such job."""


class IllegalMove(TrackingError):
    """The job's status does not allow this. `retry_after` is in seconds when waiting helps, else None."""

    def __init__(self, message: str = "", *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotExternal(TrackingError):
    """Workers run this job: only they say how far it is."""


class JobChanged(TrackingError):
    """The job has changed since it was read."""


class IdempotencyConflict(TrackingError):
    """This idempotency key was used for another request."""


class OperationNotFound(TrackingError):
    """There is no such bulk operation."""


class OperationEnded(TrackingError):
    """The bulk operation has ended already."""


class OperationsTaken(TrackingError):
    """The organization has as many bulk operations as it may. `retry_after` is in seconds."""

    def __init__(self, message: str = "", *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooManyWaiting(TrackingError):
    """As many jobs of the organization wait as may. `retry_after` is in seconds."""

    def __init__(self, message: str = "", *, retry_after: int = 5) -> None:  # with a default it can be pickled
        super().__init__(message)
        self.retry_after = retry_after


class OwnerMissing(TrackingError):
    """A job needs an organization: pass organization=, or use celeriac.acting_as()."""


class UnknownJobType(TrackingError):
    """No handler is registered for this job type."""


class ErrorNotFound(TrackingError):
    """No job of the organization has failed with this fingerprint."""


class FileMissing(TrackingError):
    """There is no such uploaded file."""


class TooManyFiles(TrackingError):
    """The organization has as many uploaded files as it may have."""


class QueueNotFound(TrackingError):
    """No living worker consumes such a queue, and no job that is not finished is in it."""


class LimitNotFound(TrackingError):
    """No limit has this id."""


class WebhookNotFound(TrackingError):
    """There is no such webhook."""


class TooManyWebhooks(TrackingError):
    """The organization has as many webhooks as it may have."""


class TooManySecrets(TrackingError):
    """As many former secrets of the webhook sign as may at once."""


class TooManySchedules(TrackingError):
    """The organization has as many schedules as it may have."""


class ScheduleNotFound(TrackingError):
    """There is no such schedule."""


class ScheduleExists(TrackingError):
    """Another schedule of the organization has this name."""


class ScheduleChanged(TrackingError):
    """The schedule has changed since it was read."""


class ScheduleUnfit(TrackingError):
    """The schedule can make no job as things are: its type, its payload or its permission does not fit any more."""


class ViewNotFound(TrackingError):
    """There is no such saved view."""


class ViewExists(TrackingError):
    """Another saved view of the user has this name."""


class TooManyViews(TrackingError):
    """The user has as many saved views as a user may have."""


class TemplateNotFound(TrackingError):
    """There is no such template."""


class TemplateExists(TrackingError):
    """Another template of the organization has this name."""


class TemplateChanged(TrackingError):
    """The template has changed since it was read."""


class WorkflowNotFound(TrackingError):
    """There is no such workflow."""


class IllegalWorkflowMove(TrackingError):
    """The workflow's status does not allow this. `retry_after` is in seconds when waiting helps, else None."""

    def __init__(self, message: str = "", *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DenialNotFound(TrackingError):
    """No tokens are denied under this id."""


class TooManyDenials(TrackingError):
    """As many denials are kept as may be."""
