"""notification by mail: what a real mail server is handed, and what becomes of what it refuses."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email import policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from celery.exceptions import Retry
from pydantic import ValidationError

from tasks.handlers.notification import SendNotification, notification, receiver_of
from tasks.mail.sending import MailServer, send
from tasks.mail.wording import UnusableTemplate, names
from tasks.webhooks.delivery import DeliveryDelayed, DeliveryRefused
from tests.handling import call, workplace
from tests.mailing import PASSWORD, USER, Mailbox, mail_server
from tests.receiving import make_certificate
from tracking.errors import ConfigurationError
from tracking.settings import settings

ANN, BOB, CAT = "ann@example.org", "bob@example.org", "cat@example.com"
REPORT = "Subject: {{ data.report }} is ready\n\nFor {{ organizationId }}: {{ message }}\n"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """The certificate of a mail server on this machine."""
    return make_certificate(tmp_path, "localhost")


@pytest.fixture
def context(certificate: Path) -> ssl.SSLContext:
    """A server's side of TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


@contextmanager
def mailing(database_url: str, tmp_path: Path, url: str, **own: str) -> Iterator[None]:
    """The settings of somebody who sends mail."""
    environment = {"CELERIAC_SMTP_URL": url, "CELERIAC_SMTP_FROM": "Jobs <jobs@example.net>", **own}
    with workplace(database_url, tmp_path, **environment):
        yield


@pytest.fixture
def box(database_url: str, tmp_path: Path) -> Iterator[Mailbox]:
    """A mail server on this machine, without TLS, and the settings that name it."""
    with mail_server() as server, mailing(database_url, tmp_path, f"smtp://127.0.0.1:{server.port}"):
        yield server


def mail(*to: str, **more: Any) -> SendNotification:
    return SendNotification.model_validate({"channel": "email", "to": to or (ANN,), "subject": "Grüße", **more})


def test_it_arrives_as_it_was_sent(box: Mailbox) -> None:
    """A mail has the sender of the settings, its subject and text in any alphabet, and an id of the job."""
    told = call(notification, mail(message="Fertig: 報告\n.\nEnde"))
    assert told == {"channel": "email", "receiver": "127.0.0.1", "status": None, "refused": {}}
    [(recipients, message, _)] = box.received
    assert (recipients, message["To"], message["From"]) == ([ANN], ANN, "Jobs <jobs@example.net>")
    assert (message["Subject"], message["Auto-Submitted"]) == ("Grüße", "auto-generated")
    assert message.get_content().replace("\r\n", "\n") == "Fertig: 報告\n.\nEnde\n"
    assert message["Message-ID"].endswith("@example.net>")


def test_recipients_do_not_see_each_other(box: Mailbox) -> None:
    """A mail to several people names none of them."""
    call(notification, mail(ANN, CAT))
    [(recipients, message, _)] = box.received
    assert recipients == [ANN, CAT]
    assert not {ANN, CAT} & set(str(message).split())


def test_an_address_that_is_given_again_gets_one_mail(box: Mailbox) -> None:
    """An address that is there fifty times, its domain in any case, is handed over once, and the first order stays."""
    call(notification, mail(CAT, *[ANN, "ann@EXAMPLE.org"] * 24, CAT))
    call(notification, mail(*[ANN] * 50))
    assert [recipients for recipients, _, _ in box.received] == [[CAT, ANN], [ANN]]
    assert box.received[1][1]["To"] == ANN


@pytest.mark.filterwarnings("ignore:Session.login_data is deprecated:DeprecationWarning")  # aiosmtpd's own use of it
def test_it_goes_over_tls_with_a_log_in(
    database_url: str, tmp_path: Path, certificate: Path, context: ssl.SSLContext
) -> None:
    """STARTTLS comes before the password, which may have any characters."""
    with mail_server(context, login=True) as server:
        secret = f"{USER.decode()}:{quote(PASSWORD.decode(), safe='')}"
        url = f"smtp://{secret}@localhost:{server.port}"
        with mailing(database_url, tmp_path, url, CELERIAC_SMTP_CA=str(certificate)):
            call(notification, mail())
        assert [is_encrypted for _, _, is_encrypted in server.received] == [True]
        wrong = f"smtp://jobs:wrong@localhost:{server.port}"
        with (
            mailing(database_url, tmp_path, wrong, CELERIAC_SMTP_CA=str(certificate)),
            pytest.raises(ConfigurationError, match="does not let us in by CELERIAC_SMTP_URL: 535") as raised,
        ):
            call(notification, mail())
        assert "wrong" not in str(raised.value)


def test_a_server_that_nobody_vouches_for_gets_nothing(
    database_url: str, tmp_path: Path, context: ssl.SSLContext
) -> None:
    """A certificate that is not trusted ends the delivery before anything is said."""
    with (
        mail_server(context) as server,
        mailing(database_url, tmp_path, f"smtp://localhost:{server.port}"),
        pytest.raises(ConfigurationError, match="no certificate that is trusted"),
    ):
        call(notification, mail())
    assert server.received == []


def test_a_foreign_server_without_tls_gets_nothing(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a server on this machine may go without TLS."""
    monkeypatch.setattr("tasks.mail.sending.LOCAL", ())
    with (
        mail_server() as server,
        mailing(database_url, tmp_path, f"smtp://127.0.0.1:{server.port}"),
        pytest.raises(ConfigurationError, match="STARTTLS"),
    ):
        call(notification, mail())
    assert server.received == []


@pytest.mark.parametrize("answer", ["550 no such user", "551 gone away"])
def test_who_is_refused_is_named_and_the_others_get_it(box: Mailbox, answer: str) -> None:
    """A recipient whom the server refuses for good is in the result, with its words; if all are, the job fails."""
    box.answers = {BOB: answer}
    assert call(notification, mail(ANN, BOB))["refused"] == {BOB: answer}
    assert [recipients for recipients, _, _ in box.received] == [[ANN]]
    with pytest.raises(DeliveryRefused, match=answer):
        call(notification, mail(BOB))


def test_nobody_gets_it_twice_when_one_recipient_has_to_wait(box: Mailbox) -> None:
    """A recipient who cannot have it now keeps it from all until the next attempt, but not on the last one."""
    server, message = MailServer(f"smtp://127.0.0.1:{box.port}", None), EmailMessage(policy=policy.SMTP)
    message["From"] = "jobs@example.net"
    box.answers = {BOB: "450 greylisted"}
    with pytest.raises(DeliveryDelayed, match="450 greylisted"):
        send(server, message, [ANN, BOB], is_last=False)
    assert box.received == []
    assert send(server, message, [ANN, BOB], is_last=True) == {BOB: "450 greylisted"}
    box.answers = {}
    assert send(server, message, [ANN, BOB], is_last=False) == {}
    assert [recipients for recipients, _, _ in box.received] == [[ANN], [ANN, BOB]]


@pytest.mark.parametrize(
    ("answer", "error"), [("452 full", (DeliveryDelayed, Retry)), ("554 it looks like spam", DeliveryRefused)]
)
def test_a_message_may_be_refused(box: Mailbox, answer: str, error: Any) -> None:
    """What the server says of the message itself decides whether there is another attempt."""
    box.after_data = answer
    with pytest.raises(error, match=answer):
        call(notification, mail())


def test_a_server_that_is_not_there_is_tried_again(database_url: str, tmp_path: Path) -> None:
    """No connection is worth another attempt, and no server in the settings is not."""
    with (
        mailing(database_url, tmp_path, "smtp://127.0.0.1:1"),
        pytest.raises((DeliveryDelayed, Retry), match=r"127\.0\.0\.1 cannot be reached: ConnectionRefusedError"),
    ):
        call(notification, mail())
    with workplace(database_url, tmp_path), pytest.raises(ConfigurationError, match="CELERIAC_SMTP_URL is not set"):
        call(notification, mail())


@pytest.mark.parametrize(
    "payload",
    [
        {"to": []},
        {"to": ["ann"]},
        {"to": ["ann@example.org\r\nBcc: eve@example.org"]},
        {"to": ["Ann <ann@example.org>"]},
        {"to": [f"{number}@example.org" for number in range(51)]},
        {"subject": "a\r\nBcc: eve@example.org"},
        {"subject": None},
        {"template": "unknown"},
        {"template": "../../etc/passwd"},
        {"url": "https://example.org/"},
        {"channel": "log"},
        {"channel": "webhook", "url": "https://example.org/"},
    ],
    ids=str,
)
def test_a_wrong_mail_is_refused(payload: dict[str, Any]) -> None:
    """A mail to nobody, to no address, with a header smuggled in or without words is refused at its create."""
    with pytest.raises(ValidationError):
        mail(**{"to": [ANN], **payload})


def test_mail_may_be_kept_to_some_domains(database_url: str, tmp_path: Path) -> None:
    """An operator can say to which domains mail goes; another one is refused when the job is created."""
    with workplace(database_url, tmp_path, CELERIAC_SMTP_DOMAINS="example.org, EXAMPLE.net"):
        assert mail(ANN, "bob@Example.NET").to == (ANN, "bob@example.net")
        with pytest.raises(ValidationError, match=r"mail goes to these domains only: example\.org, EXAMPLE\.net"):
            mail(CAT)


def test_all_mail_shares_the_circuit_of_its_server() -> None:
    """A mail server that is away holds the mail of an organization, and none of its webhooks."""
    assert receiver_of({"channel": "email", "to": [ANN]}) == receiver_of({"channel": "email", "to": [BOB]}) == "email"
    assert receiver_of({"channel": "log"}) is None


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        ({"CELERIAC_SMTP_URL": "https://mail.example.org"}, "CELERIAC_SMTP_URL: https:// is not supported"),
        ({"CELERIAC_SMTP_URL": "smtp://mail.example.org/inbox"}, "CELERIAC_SMTP_URL: after its host and port"),
        ({"CELERIAC_SMTP_URL": "smtp://"}, "CELERIAC_SMTP_URL: it names no host"),
        ({"CELERIAC_SMTP_URL": "smtp://mail.example.org"}, "CELERIAC_SMTP_FROM: mail needs a sender"),
        ({"CELERIAC_SMTP_FROM": "jobs"}, "CELERIAC_SMTP_FROM: it is not like"),
        ({"CELERIAC_SMTP_FROM": "jobs@example.org\nBcc: x@example.org"}, "CELERIAC_SMTP_FROM: it is not like"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, own: dict[str, str], reason: str) -> None:
    """A wrong setting of mail stops the start with one line."""
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    with pytest.raises(ConfigurationError, match=reason):
        settings()
    monkeypatch.undo()
    settings.cache_clear()


def test_the_words_may_be_the_operators(database_url: str, tmp_path: Path) -> None:
    """A template gives a mail its subject, its text and the same as HTML, where what was sent is escaped."""
    directory = tmp_path / "messages"
    directory.mkdir()
    (directory / "report.txt").write_text(REPORT)
    (directory / "report.html").write_text("<p>{{ message }}</p>")
    with (
        mail_server() as server,
        mailing(database_url, tmp_path, f"smtp://127.0.0.1:{server.port}", CELERIAC_MESSAGES_DIR=str(directory)),
    ):
        sent = mail(template="report", subject=None, message="1 < 2", data={"report": "Weekly\nBcc: x"})
        call(notification, sent)
        call(notification, mail(template="report", data={"report": "Weekly"}))
        log = SendNotification(channel="log", template="report", data={"report": "Daily"})
        call(notification, log)
        [first, second] = [message for _, message, _ in server.received]
        assert "Daily is ready" in (settings().data_dir / "notifications.jsonl").read_text()
    assert (first["Subject"], second["Subject"]) == ("Weekly Bcc: x is ready", "Grüße")
    text, html = (part.get_content().strip() for part in first.iter_parts())
    assert (text, html) == ("For acme: 1 < 2", "<p>1 &lt; 2</p>")


@pytest.mark.parametrize(
    ("template", "data", "reason"),
    [
        ("{{ data.report }}", {}, "has no attribute 'report'"),
        ("{{ 1 + data.report }}", {"report": "a"}, "TypeError"),
        ("{{ ''.__class__.__mro__ }}", {}, "unsafe"),
        ("{% for x in range(999999999) %}{% endfor %}", {}, "Range too big"),
        ("{{ 'x' * 999999 }}", {}, "makes 999,999 characters"),
        ("{% if %}", {}, "Expected an expression"),
    ],
)
def test_a_template_that_cannot_be_filled_in_says_why(
    database_url: str, tmp_path: Path, template: str, data: dict[str, Any], reason: str
) -> None:
    """What a template lacks, or must not do, fails the job with a reason that names it."""
    (tmp_path / "it.txt").write_text(template)
    (tmp_path / "not a name.txt").write_text("")
    with workplace(database_url, tmp_path, CELERIAC_MESSAGES_DIR=str(tmp_path)):
        assert names(tmp_path) == ["it"]
        with pytest.raises(UnusableTemplate, match=f"the template it.txt: .*{reason}|{reason}"):
            call(notification, SendNotification(channel="log", template="it", data=data))
