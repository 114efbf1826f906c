"""The URL of a broker that Redis Sentinel watches, and what kombu makes of it."""

from __future__ import annotations

import pytest
from kombu import Connection

from tracking import sentinels
from tracking.urls import check_broker

TWO = "sentinel://:hunter2@a:26379/1?master_name=jobs&sentinel_password=secret;sentinel://:hunter2@b:26380/1"


def test_a_url_names_sentinels_their_master_and_both_passwords() -> None:
    """Kombu gets the sentinels of a URL, the account and database of the servers, the master and the sentinels' own."""
    connection = Connection(sentinels.place_of(check_broker(TWO)), transport_options=sentinels.options_of(TWO))
    assert connection.alt == ["sentinel://:hunter2@a:26379/1", "sentinel://:hunter2@b:26380/1"]
    assert (connection.password, connection.virtual_host) == ("hunter2", "1")
    assert connection.transport_options == {"master_name": "jobs", "sentinel_kwargs": {"password": "secret"}}


@pytest.mark.parametrize(
    "url", ["redis://:hunter2@h/0?ssl_cert_reqs=none", "amqp://u:hunter2@h//", "redis://a;redis://b"]
)
def test_other_brokers_are_left_as_they_are(url: str) -> None:
    """The URL of a broker without sentinels goes to kombu as it is, without options."""
    assert (sentinels.place_of(url), sentinels.options_of(url)) == (url, {})


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("sentinel://:hunter2@h:26379", "does not name the master"),
        ("sentinel://:hunter2@h?master_name=jobs&socket_timeout=3", "alone"),
        ("sentinel://:hunter2@h?master_name=jobs;redis://h", "cannot be mixed"),
        ("redis://h;sentinel://:hunter2@h?master_name=jobs", "cannot be mixed"),
        ("sentinel://:hunter2@a/0?master_name=jobs;sentinel://b/0", "same account and database"),
        ("sentinel://:hunter2@a/x?master_name=jobs", "number of a database"),
    ],
)
def test_a_url_of_sentinels_that_says_too_little_or_too_much_is_refused(url: str, why: str) -> None:
    """A wrong URL of sentinels is refused in one line without the password."""
    with pytest.raises(ValueError, match=why) as refusal:
        check_broker(url)
    assert "hunter2" not in str(refusal.value)
    assert "\n" not in str(refusal.value)
