"""notification: a message of the organization, to a web address, to people's mail or to the platform's own file."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from email_validator import validate_email
from pydantic import AfterValidator, Field, HttpUrl, JsonValue, model_validator

from tasks import BaseModel, Job, app
from tasks.exports.stores import private_directory
from tasks.handlers.identity import Identity, identity_of
from tasks.mail import wording
from tasks.mail.sending import MailServer, send
from tasks.mail.wording import UnusableTemplate, Words
from tasks.money import PayloadWithoutMoney
from tasks.webhooks.delivery import DeliveryDelayed, DeliveryRefused, Reach, deliver, receiver
from tracking.errors import ConfigurationError
from tracking.settings import Settings, settings
from tracking.values import in_milliseconds

LOG_FILE = "notifications.jsonl"
MOST_RECIPIENTS = 50


def _address(value: str) -> str:
    """One address, as mail servers write it. Raises ValueError."""
    found = validate_email(value, check_deliverability=False, allow_smtputf8=False)
    allowed = settings().smtp_domains
    if allowed and found.ascii_domain.lower() not in {domain.lower() for domain in allowed}:
        raise ValueError(f"mail goes to these domains only: {', '.join(allowed)}")
    return str(found.ascii_email)


def _template(name: str) -> str:
    known = wording.names(settings().messages_dir)
    if name not in known:
        raise ValueError(f"unknown template; known: {', '.join(known) or 'none'}")
    return name


def _each_once(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Nobody gets the same mail twice."""
    return tuple(dict.fromkeys(addresses))


Address = Annotated[str, Field(max_length=254), AfterValidator(_address)]


class SendNotification(PayloadWithoutMoney):
    """What to say, and where: `webhook` posts it to `url`, `email` sends it to each address of `to`.

    `log` appends it to notifications.jsonl on the server. With a `template` the operator's words are sent, filled in
    with `data`.
    """

    channel: Literal["webhook", "email", "log"] = "webhook"
    url: HttpUrl | None = Field(default=None, description="An http or https address in the public internet.")
    to: Annotated[tuple[Address, ...], AfterValidator(_each_once)] = Field(
        default=(), max_length=MOST_RECIPIENTS, description="Addresses of people; one that is there twice gets one."
    )
    template: Annotated[str, AfterValidator(_template)] | None = Field(default=None, max_length=100)
    subject: str | None = Field(default=None, min_length=1, max_length=200, description="Needed without a template.")
    message: str = Field(default="", max_length=10_000)
    data: dict[str, JsonValue] = Field(default_factory=dict, description="Ids for the receiver; no monetary values.")

    @model_validator(mode="after")
    def check_receiver(self) -> SendNotification:
        """A webhook has an address, mail has some, the log has none, and each says something."""
        if (self.channel == "webhook") != (self.url is not None):
            raise ValueError("a webhook needs a url, and nothing else takes one")
        if (self.channel == "email") != bool(self.to):
            raise ValueError("mail needs addresses in `to`, and nothing else takes them")
        if self.subject is None and self.template is None:
            raise ValueError("it needs a subject, or a template")
        if self.subject is not None and not self.subject.isprintable():
            raise ValueError("a subject has no line breaks or other control characters")
        return self


class SentNotification(BaseModel):
    """Where the message went. `status` is the receiver's HTTP status; None for mail and the log.

    `refused` are the addresses that the mail server will not take it for, with its words.
    """

    channel: Literal["webhook", "email", "log"]
    receiver: str
    status: int | None
    refused: dict[str, str] | None = None


def receiver_of(payload: dict[str, Any]) -> str | None:
    """Whose failures hold whose messages: each receiver's its own, and the mail server's all mail."""
    if payload.get("channel") == "email":
        return "email"
    url = payload.get("url")
    return None if url is None else receiver(url)


@app.task(
    bind=True,
    pydantic=True,
    name="notification",
    permission="notifications.send_notifications",
    steps=("Deliver",),
    autoretry_for=(ConnectionError,),
    retry_backoff=True,
    max_retries=5,
    soft_time_limit=60,
    time_limit=90,
    payload_errors=(DeliveryRefused, UnusableTemplate),  # the receiver is there, and will not have it
    circuit_key=receiver_of,
)
def notification(self: Job, payload: SendNotification) -> SentNotification:
    """Deliver a message. Every attempt carries the job's id as Idempotency-Key: the receiver can take it once."""
    who = identity_of(self)
    with self.step("Deliver", 1, of=1):
        words = _words(self.app.platform.settings, who, payload)
        if payload.channel == "email":
            return _mail(self, who, payload, words)
        if payload.url is None:
            path = self.app.platform.settings.data_dir
            return SentNotification(channel="log", receiver=_append(path, who, payload, words), status=None)
        return _post(self, who, payload, words)


def _words(settings: Settings, who: Identity, payload: SendNotification) -> Words:
    if payload.template is None:
        return Words(payload.subject or "", payload.message)
    if settings.messages_dir is None:
        raise UnusableTemplate("CELERIAC_MESSAGES_DIR is not set on this worker: it has no templates")
    about = _body(who, payload, Words(payload.subject or "", payload.message))
    return wording.worded(settings.messages_dir, payload.template, about, payload.subject)


def _post(job: Job, who: Identity, payload: SendNotification, words: Words) -> SentNotification:
    key, reach = str(who.job_id), Reach.of(job.app.platform.settings)
    try:
        status = deliver(str(payload.url), _body(who, payload, words), idempotency_key=key, reach=reach)
    except DeliveryDelayed as error:
        if error.retry_after is None:
            raise  # the back-off of the handler decides
        raise job.retry(exc=error, countdown=error.retry_after) from error
    return SentNotification(channel="webhook", receiver=(payload.url and payload.url.host) or "", status=status)


def _mail(job: Job, who: Identity, payload: SendNotification, words: Words) -> SentNotification:
    """The same Message-ID at every attempt: a mail program shows a message once that was handed over twice."""
    settings = job.app.platform.settings
    if not settings.smtp_url.get_secret_value():
        raise ConfigurationError("CELERIAC_SMTP_URL is not set: there is no server that takes mail")
    server = MailServer(settings.smtp_url.get_secret_value(), settings.smtp_ca)
    message = EmailMessage(policy=policy.SMTP)
    message["From"] = settings.smtp_from
    message["To"] = ", ".join(payload.to) if len(payload.to) == 1 else "undisclosed-recipients:;"
    message["Subject"] = words.subject
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = f"<{who.job_id}@{message['From'].addresses[0].domain}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: an absence notice does not answer it
    message.set_content(words.text)
    if words.html is not None:
        message.add_alternative(words.html, subtype="html")
    attempt = job.job
    is_last = attempt is None or attempt.retry_count >= attempt.max_retries
    refused = send(server, message, payload.to, is_last=is_last)
    return SentNotification(channel="email", receiver=server.host, status=None, refused=refused)


def _body(who: Identity, payload: SendNotification, words: Words) -> dict[str, Any]:
    return {
        "jobId": str(who.job_id),
        "organizationId": who.organization_id,
        "subject": words.subject,
        "message": words.text,
        "data": payload.data,
    }


def _append(directory: Path, who: Identity, payload: SendNotification, words: Words) -> str:
    """A file of its own: the words of an organization have no place in the log lines of the platform."""
    moment = in_milliseconds(datetime.now(UTC))
    line = json.dumps({"at": moment, **_body(who, payload, words)}, ensure_ascii=False) + "\n"
    path = private_directory(directory) / LOG_FILE
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        file.write(line.encode())  # in one write, so that lines of several workers do not mix
        os.fsync(file.fileno())
    return LOG_FILE
