"""The client's requests about tokens that are taken no more, which operators set."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from celeriac.client.answers import Answer
from celeriac.client.calling import Steps, call, picked
from celeriac.client.transport import Requests, given
from tracking.values import Instant


class Denial(Answer):
    """One token by its `jti`, or those of a user. `organization` None: in any; `issued_before` None: later ones too.

    `expires_at` None: until somebody takes it back.
    """

    id: UUID
    token: str | None
    user: str | None
    organization: str | None
    issued_before: Instant | None
    expires_at: Instant | None
    reason: str | None
    denied_by: str
    denied_at: Instant


class Denials(Answer):
    """All that hold."""

    denials: tuple[Denial, ...]


class DenialRequests(Requests):
    """Taking tokens no more; "permission_missing" without jobs.manage_platform."""

    @call
    def denied_tokens(self) -> Steps[tuple[Denial, ...]]:
        """All that hold, the newest first."""
        return picked(self._get(Denials, "/v1/denied-tokens"), lambda answer: answer.denials)

    @call
    def deny_tokens(
        self,
        *,
        token: str | None = None,
        user: str | None = None,
        organization: str | None = None,
        issued_before: datetime | None = None,
        reason: str | None = None,
    ) -> Steps[Denial]:
        """Take the token of this `jti` no more, or those of a user, within five seconds."""
        said = given({"token": token, "user": user, "organization": organization, "reason": reason})
        if issued_before is not None:
            said["issuedBefore"] = issued_before.isoformat()
        return self._ask(Denial, "PUT", "/v1/denied-tokens", json=said)

    @call
    def allow_tokens(self, denial_id: UUID) -> Steps[Denial]:
        """Take them again; the answer is what it was. "denial_not_found" when there is none."""
        return self._ask(Denial, "DELETE", f"/v1/denied-tokens/{denial_id}")
