"""A mail server on this machine, and what it was handed."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session

USER, PASSWORD = b"jobs", b"p@ss/w:rd"


class Mailbox:
    """Takes mail for everybody whom `answers` does not name."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.after_data = "250 OK"
        self.received: list[tuple[list[str], EmailMessage, bool]] = []
        self.port = 0

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's
        self,
        server: Any,  # noqa: ARG002 - as above
        session: Session,  # noqa: ARG002
        envelope: Envelope,
        address: str,
        options: list[str],  # noqa: ARG002
    ) -> str:
        """Whether it takes mail for somebody."""
        answer = self.answers.get(address, "250 OK")
        if answer.startswith("2"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:  # noqa: N802, ARG002 - as above
        if self.after_data.startswith("2"):
            content = envelope.original_content or b""
            message = message_from_bytes(content, _class=EmailMessage, policy=policy.SMTP)
            self.received.append((list(envelope.rcpt_tos), message, session.ssl is not None))
        return self.after_data


def _let_in(server: Any, session: Any, envelope: Any, mechanism: str, given: Any) -> AuthResult:
    is_right = isinstance(given, LoginPassword) and (given.login, given.password) == (USER, PASSWORD)
    return AuthResult(success=is_right, handled=False)


@contextmanager
def mail_server(context: ssl.SSLContext | None = None, *, login: bool = False) -> Iterator[Mailbox]:
    """A server that offers STARTTLS when it has a certificate, and may want a log-in."""
    box = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        box.port = free.getsockname()[1]
    options: dict[str, Any] = {"authenticator": _let_in, "auth_required": True} if login else {}
    controller = Controller(
        box, hostname="127.0.0.1", port=box.port, tls_context=context, require_starttls=context is not None, **options
    )
    controller.start()
    try:
        yield box
    finally:
        controller.stop()
