"""What the parts of an app share in a process: its settings, its database, and those who send and write for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from tasks.broker.admitting import Admission
from tasks.broker.dispatcher import Dispatcher
from tasks.crowding import Crowding
from tasks.error_hook import ErrorHook
from tasks.group_commit import GroupCommit
from tasks.limiting import Limiting
from tasks.persistence import Recorder
from tasks.waiting import Waiting
from tracking import traces
from tracking.admission.rule import Limits
from tracking.db import BY_INDEX, Database
from tracking.settings import Settings

if TYPE_CHECKING:
    from tasks.app import JobApp

Made = TypeVar("Made")

LONGEST_SILENCE = 60.0  # seconds in the midst of a transaction, after which the database ends the session


class OfProcess(Generic[Made]):
    """What each process makes for itself at its first use: a forked child has neither the threads nor the connections.

    No lock: one that another thread holds while the process forks would stay locked in the child.
    """

    def __init__(self, make: Callable[[Any], Made]) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"{name} of"

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> Made: ...

    def __get__(self, instance: object | None, owner: type) -> Self | Made:
        """The one of this process."""
        if instance is None:
            return self
        made = self.made_for(instance)
        if made is None:
            made = self._make(instance)
            vars(instance)[self._name] = (os.getpid(), made)
        return made

    def made_for(self, instance: object) -> Made | None:
        """The one of this process, if it was used."""
        process, made = vars(instance).get(self._name, (0, None))
        return made if process == os.getpid() else None


@dataclass(frozen=True, eq=False)
class Platform:
    """What an app works with. Nothing is connected before it is used; several, each with its app, do not meet."""

    app: JobApp
    settings: Settings

    @cached_property
    def database(self) -> Database:
        """The tracking database. Raises ConfigurationError when the settings name none."""
        return Database(self.settings.database, self.settings, options=self._options)

    def single(self) -> Database:
        """A connection of its own to the same database, for a thread that waits for no other one's statements."""
        return Database(self.settings.database, self.settings, pool_size=1, options=self._options)

    @cached_property
    def direct(self) -> Database:
        """The same for the lock of the leader, which belongs to a session: behind a pooler, a connection past it."""
        if not self.settings.is_pooled:
            return self.database
        return Database(self.settings.direct, self.settings, pool_size=1, options=self._options)

    @property
    def _options(self) -> str:
        # A process that is frozen would keep what it has locked, and nobody could give the job to another worker. By
        # then its lease is over.
        silence = round(1000 * min(self.settings.lease_timeout, LONGEST_SILENCE))
        return f"{BY_INDEX} -c idle_in_transaction_session_timeout={silence}"

    @cached_property
    def limits(self) -> Limits:
        return Limits.configured(self.settings)

    @cached_property
    def crowding(self) -> Crowding:
        return Crowding(self.database, self.settings.waiting_limit)

    @cached_property
    def limiting(self) -> Limiting:
        return Limiting(self.database)

    @cached_property
    def admission(self) -> Admission:
        return Admission(self.database, self.limits, self.limiting)

    @OfProcess
    def dispatcher(self) -> Dispatcher:
        """Who sends what this process submits."""
        return Dispatcher(self)

    @OfProcess
    def commits(self) -> GroupCommit:
        """Who accepts jobs, together those that several threads submit at the same time."""
        return GroupCommit(self.database, self.limits)

    @OfProcess
    def waiting(self) -> Waiting:
        """Who waits for jobs in this process."""
        return Waiting(self)

    @OfProcess
    def error_hook(self) -> ErrorHook:
        """Who tells the user's function of attempts that failed. Raises ConfigurationError without such a function."""
        return ErrorHook(self.settings.error_hook)

    @OfProcess
    def recorder(self) -> Recorder:
        """Who writes for the event loop of a worker's main process."""
        return Recorder()

    def close(self, timeout: float) -> None:
        """Send what is left, for `timeout` seconds at most, and close the connections, as far as there are any."""
        dispatcher = type(self).dispatcher.made_for(self)
        if dispatcher is not None:
            dispatcher.close(timeout)
        for name in ("direct", "database"):
            if name in vars(self):
                vars(self)[name].close()

    def last_words(self, timeout: float) -> None:
        """Let the error hook and the spans' collector hear what is left, each for `timeout` seconds at most."""
        hook = type(self).error_hook.made_for(self)
        if hook is not None:
            hook.flush(timeout)
        traces.flush(timeout)
