"""A real platform for tests: PostgreSQL, Valkey, a worker and the API, in a temporary directory, for one session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from celeriac import packages

packages.claim(*packages.NEEDED)

from celeriac.client import Client  # noqa: E402 - now that the packages below are ours
from celeriac.client.answers import Job  # noqa: E402 - as above
from celeriac.demo.sandbox import Sandbox  # noqa: E402 - as above
from celeriac.embedded.supervisor import Supervisor  # noqa: E402 - as above

ORGANIZATION, USER = "tests", "tester"
WITHIN = 60.0  # seconds for a job to end


@dataclass(frozen=True)
class RealPlatform:
    """A platform that runs; `client` may do everything in the organization of the tests."""

    url: str
    client: Client

    def run(
        self, handler: Any, payload: Mapping[str, Any] | None = None, *, within: float = WITHIN, **said: Any
    ) -> Job:
        """Have a job made of a handler, or of a type by its name, and return it at its end: look at its status.

        Raises ApiError "too_late" after `within` seconds. `said`: what `Client.create` takes besides.
        """
        job_type = handler if isinstance(handler, str) else handler.name
        created = self.client.create(job_type, payload, **said)
        return self.client.wait(created.job_id, within=within)


@contextmanager
def real_platform(imports: Sequence[str], *, concurrency: int = 2, path: Sequence[str] = ()) -> Iterator[RealPlatform]:
    """Start a platform whose workers know the handlers of these modules, found by `path`; it is gone afterwards.

    Raises StartError or ConfigurationError with one line, when it does not start.
    """
    sandbox = Sandbox(concurrency, imports=imports, path=path)
    with Supervisor(sandbox.hear) as supervisor:
        supervisor.start(sandbox.part(lambda: None))
        token = sandbox.make_admin_token(ORGANIZATION, USER)
        with Client(sandbox.address, token) as client:
            yield RealPlatform(sandbox.address, client)
