"""A message handed to the mail server of CELERIAC_SMTP_URL, over TLS: to all of its recipients, or to none yet."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tasks.webhooks.delivery import DeliveryDelayed, DeliveryRefused
from tracking.errors import ConfigurationError
from tracking.urls import MAIL_PORTS

SECONDS = 15.0  # for each answer of the server
PERMANENT = range(500, 600)  # what a server will not take at a later time either (RFC 5321, 4.2.1)
DONE = range(200, 300)
LOCAL = ("localhost", "127.0.0.1", "::1")
WORDS = 200  # characters of a server's answer that are kept


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail is handed over. `ca`: a file with certificates to trust instead of the system's."""

    url: str = field(repr=False)
    ca: Path | None

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @contextmanager
    def session(self) -> Iterator[smtplib.SMTP]:
        """A conversation, encrypted and logged in. Only a server on this machine may go without TLS."""
        parts = urlsplit(self.url)
        context = ssl.create_default_context(cafile=str(self.ca) if self.ca else None)
        port = parts.port or MAIL_PORTS[parts.scheme]
        if parts.scheme == "smtps":
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(self.host, port, timeout=SECONDS, context=context)
        else:
            smtp = smtplib.SMTP(self.host, port, timeout=SECONDS)
        with smtp:
            smtp.ehlo_or_helo_if_needed()
            if parts.scheme == "smtp" and (smtp.has_extn("starttls") or self.host not in LOCAL):
                smtp.starttls(context=context)
                smtp.ehlo()
            if parts.username:
                smtp.login(unquote(parts.username), unquote(parts.password or ""))
            yield smtp


def send(server: MailServer, message: EmailMessage, recipients: Sequence[str], *, is_last: bool) -> dict[str, str]:
    """Hand the message over; returns the recipients that the server refuses for good, with its words.

    When it cannot take the message for one of them now, nobody gets it before the next attempt, or somebody would get
    it twice; on the last one, those get it for whom it is taken. Raises DeliveryDelayed, DeliveryRefused when nobody
    can get it, ConfigurationError when the server is not what its setting says.
    """
    try:
        with server.session() as smtp:
            return _handed_over(smtp, message, recipients, is_last=is_last)
    except smtplib.SMTPAuthenticationError as error:
        said = _text(error.smtp_code, error.smtp_error)
        raise ConfigurationError(f"{server.host} does not let us in by CELERIAC_SMTP_URL: {said}") from None
    except smtplib.SMTPNotSupportedError as error:
        raise ConfigurationError(f"{server.host} is no server for CELERIAC_SMTP_URL: {error}") from None
    except ssl.SSLCertVerificationError as error:
        raise ConfigurationError(f"{server.host} has no certificate that is trusted: {error.verify_message}") from None
    except smtplib.SMTPResponseException as error:
        raise _of(server.host, error.smtp_code, error.smtp_error) from error
    except (smtplib.SMTPException, OSError) as error:
        raise DeliveryDelayed(f"{server.host} cannot be reached: {type(error).__name__}") from error


def _handed_over(
    smtp: smtplib.SMTP, message: EmailMessage, recipients: Sequence[str], *, is_last: bool
) -> dict[str, str]:
    code, words = smtp.mail(message["From"].addresses[0].addr_spec)
    if code not in DONE:
        raise smtplib.SMTPResponseException(code, words)
    answers = {recipient: smtp.rcpt(recipient) for recipient in recipients}
    refused = {recipient: answer for recipient, answer in answers.items() if answer[0] not in DONE}
    delayed = [answer for answer in refused.values() if answer[0] not in PERMANENT]
    if len(refused) == len(recipients) or (delayed and not is_last):
        smtp.rset()
        raise smtplib.SMTPResponseException(*(delayed or list(refused.values()))[0])
    code, words = smtp.data(message.as_bytes())
    if code not in DONE:
        raise smtplib.SMTPResponseException(code, words)
    return {recipient: _text(code, words) for recipient, (code, words) in refused.items()}


def _of(host: str, code: int, words: bytes | str) -> Exception:
    return (DeliveryRefused if code in PERMANENT else DeliveryDelayed)(f"{host} answered {_text(code, words)}")


def _text(code: int, words: bytes | str) -> str:
    said = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    return f"{code} {' '.join(said.split())[:WORDS]}"
