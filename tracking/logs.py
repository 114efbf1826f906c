"""One shape for every log line, ours and the libraries'; nothing of a job's payload, result or error text in it."""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import ClassVar, TextIO

import structlog

from tracking.prints import unlogged
from tracking.settings import Settings

# At DEBUG they print whole messages, statements or URLs.
TALKATIVE = ("celery", "kombu", "amqp", "asyncio")
# And these at INFO too; the two of Celery's say of each job what our own lines say, without the job's id.
MORE_TALKATIVE = (
    "sqlalchemy",
    "httpx2",
    "httpcore2",
    "alembic.runtime.plugins",
    "celery.worker.strategy",
    "celery.app.trace",
)

# Loggers of Celery's and kombu's that quote jobs: whole messages after these words, and in these arguments.
QUOTING = ("celery.app.trace", "celery.worker", "kombu.transport.redis")
MESSAGE_FOLLOWS = ("message body", "Could not restore message", "Cannot process event")
QUOTES = frozenset({"return_value", "exc", "traceback", "args", "kwargs"})

CONTROL = {number: f"\\x{number:02x}" for number in (*range(32), 127)} | {10: "\\n"}
PLAIN = re.compile(r"""[^\s="'\x00-\x1f\x7f]+""").fullmatch  # what needs no quotes


def keep_off_stdout() -> None:
    """Write to stderr unless somebody has configured structlog: the output of a program that sends jobs is its own."""
    if not structlog.is_configured():
        structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))


def configure_logging(settings: Settings) -> None:
    """Send structlog's and the standard library's lines to stderr, as text or JSON, from `log_level` on."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering = _rendering(settings)
    structlog.configure(
        processors=[*shared, *rendering],
        logger_factory=_Lines,
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        cache_logger_on_first_use=True,
    )
    _Lines.stream = unlogged(sys.stderr)
    handler = logging.StreamHandler(unlogged(sys.stderr))
    handler.addFilter(keep_jobs_private)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    logging.basicConfig(handlers=[handler], level=settings.log_level, force=True)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel("INFO" if settings.log_level == "DEBUG" else settings.log_level)
    for name in MORE_TALKATIVE:
        logging.getLogger(name).setLevel("WARNING")
    logging.captureWarnings(capture=True)


@contextmanager
def written_together() -> Iterator[None]:
    """Within: the lines of this thread are written at the end, all of them in one write.

    Each write lets go of the interpreter, and a thread beside a busy one has to wait until it gets that back.
    """
    gathered.lines = lines = list[str]()
    try:
        yield
    finally:
        gathered.lines = None
        _write("".join(lines))


def keep_jobs_private(record: logging.LogRecord) -> bool:
    """A filter that lets every record pass, but takes from Celery's what a job was given, returned or said.

    An exception's text may quote the payload, so its type alone stays. The row has all of it, for its owner.
    """
    if record.name.startswith(QUOTING):
        if any(words in str(record.msg) for words in MESSAGE_FOLLOWS):
            record.msg, record.args = str(record.msg).partition("%")[0].strip(" :\n"), ()
            record.exc_info = record.exc_text = None
        elif isinstance(record.args, dict):
            record.args = {key: _hidden(key, value) for key, value in record.args.items()}
            record.exc_info = record.exc_text = None
    return True


def _hidden(key: str, value: object) -> object:
    if key not in QUOTES:
        return value
    return str(value).partition("(")[0] if key == "exc" else "(see the job)"


def _rendering(settings: Settings) -> list[structlog.typing.Processor]:
    if settings.log_format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    if not sys.stderr.isatty():
        return [structlog.processors.format_exc_info, _keep_on_one_line, _render_plainly]
    # Plain: the default shows the local variables of every frame.
    colored = structlog.dev.ConsoleRenderer(pad_event_to=0, exception_formatter=structlog.dev.plain_traceback)
    return [_keep_on_one_line, colored]


def _keep_on_one_line(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Escape line breaks: text from a client must not look like a log line of its own."""
    text = str(event["event"])
    event["event"] = text if text.isprintable() else text.translate(CONTROL)
    return event


def _render_plainly(_logger: object, _method: str, event: structlog.typing.EventDict) -> str:
    """The form of structlog's ConsoleRenderer, which takes three times as long to find that nothing is coloured."""
    exception = event.pop("exception", None)
    head = f"{event.pop('timestamp')} [{event.pop('level'):<9}] {event.pop('event')} [{event.pop('logger')}]"
    line = " ".join([head, *(f"{key}={_shown(event[key])}" for key in sorted(event))])
    return line if exception is None else f"{line}\n{exception}"


def _shown(value: object) -> str:
    return value if isinstance(value, str) and PLAIN(value) else repr(value)


class _Gathered(threading.local):
    """The lines of a thread that are about to be written together; None: each by itself."""

    lines: list[str] | None = None


gathered = _Gathered()


def _write(text: str) -> None:
    """What cannot be written is lost, as in the standard library: no job may fail for its log."""
    with suppress(OSError, ValueError):
        _Lines.stream.write(text)
        _Lines.stream.flush()


class _Lines:
    """What structlog writes to: through the standard library's logging a line takes twice the time.

    Without a lock: a child that is forked while another thread writes would wait for it forever. A line is one write.
    """

    stream: ClassVar[TextIO] = sys.stderr  # that of `configure_logging`

    def __init__(self, name: str = "") -> None:
        self.name = name

    def msg(self, line: str) -> None:
        """Write one line, now or with those after it."""
        lines = gathered.lines
        if lines is None:
            _write(f"{line}\n")
        else:
            lines.append(f"{line}\n")

    debug = info = warning = error = critical = exception = msg
