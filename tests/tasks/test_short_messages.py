"""What a message of ours leaves out, and what its worker need not decode: nobody is told anything else than before."""

from __future__ import annotations

from typing import Any

import pytest
from kombu.exceptions import ContentDisallowed
from kombu.message import Message
from kombu.serialization import dumps, loads

from tasks.broker.messages import DISPATCH_HEADER, decode, shortened
from tests.messages import task_headers

ARGUMENTS: Any = ((), {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None})


def message(body: Any, accept: Any = None) -> Any:
    """One with this content."""
    content_type, encoding, packed = dumps(body, serializer="json")
    return Message(packed, content_type=content_type, content_encoding=encoding, accept=accept)


def test_headers_of_options_that_are_not_set_are_left_out() -> None:
    """A message of ours has no header that says nothing; zero, false and an empty text say something."""
    said = {"task": "a", "id": "b", DISPATCH_HEADER: 1, "retries": 0, "ignore_result": False, "kwargsrepr": ""}
    assert shortened({**said, "eta": None, "timelimit": [None, None], "stamps": {}}) == said
    assert shortened({**said, "timelimit": [None, 5]}) == {**said, "timelimit": [None, 5]}


def test_other_messages_are_left_as_they_are() -> None:
    """What is no message of ours keeps its headers, or that it has none."""
    headers = task_headers("a", "b", eta=None)
    assert shortened(headers) is headers
    assert shortened(None) is None


def test_a_message_without_arguments_is_what_kombu_decodes() -> None:
    """The body of our messages, which is not decoded, has the value that kombu gives it, and each message its own."""
    one, other = message(ARGUMENTS), message(ARGUMENTS)
    told = loads(one.body, one.content_type, one.content_encoding)
    assert decode(one) == one.payload == told == decode(other)
    decode(one)[1]["a"] = 1
    assert decode(other) == told
    assert one.is_empty


def test_a_message_with_arguments_is_decoded() -> None:
    """Whatever else stands in a body is what the worker gets."""
    sent = message(((1,), {"a": 2}, ARGUMENTS[2]))
    assert decode(sent) == [[1], {"a": 2}, ARGUMENTS[2]]
    assert not hasattr(sent, "is_empty")


def test_a_message_whose_content_is_not_allowed_is_not_decoded() -> None:
    """A worker that takes signed messages alone takes no other one for being empty."""
    with pytest.raises(ContentDisallowed):
        decode(message(ARGUMENTS, accept={"application/data"}))
