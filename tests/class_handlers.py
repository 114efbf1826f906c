"""Tasks whose classes know nothing of the platform, registered in every way that Celery has."""

from __future__ import annotations

from typing import Any

from celery import Task, shared_task

from tasks import app


class Greeting(Task):  # type: ignore[type-arg]  # of any signature
    """A task that is a class, as in Celery 1."""

    name = "classes.greeting"

    def run(self, name: str) -> str:
        return f"hello {name}"


class Loud(Greeting):
    """Has a hook of its own, without the one of the class above it."""

    name = "classes.loud"

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Nothing."""


class Registered(Greeting):
    """Is put into the registry itself."""

    name = "classes.registered"


class Counting(Task):  # type: ignore[type-arg]  # of any signature
    """A base with something of its own."""

    abstract = True
    acks_late = False
    step = 2

    def next(self, number: int) -> int:
        return number + self.step


class Retried(Task):  # type: ignore[type-arg]  # of any signature
    """Retried by itself, as its attributes say."""

    name = "classes.retried"
    autoretry_for = (LookupError,)
    max_retries = 1
    default_retry_delay = 0
    retry_backoff = False

    def run(self) -> int:
        if not self.request.retries:
            raise LookupError("not yet")
        return self.request.retries


app.register_task(Greeting)
app.register_task(Loud())
app.tasks.register(Registered())
app.register_task(Retried())


@app.task(base=Task, name="classes.plain", public=True)
def plain(x: int) -> int:
    """A function whose base is Celery's own."""
    return x + 1


@app.task(base=Counting, bind=True, name="classes.counting")
def counting(self: Any, x: int) -> int:
    """A function whose base is a class of its own."""
    return int(self.next(x))


@shared_task(base=Counting, name="classes.shared")
def shared(x: int) -> int:
    """A function of any app."""
    return x + 3
