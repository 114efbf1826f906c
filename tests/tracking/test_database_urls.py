"""The URL of a database: what it may be, and what the driver makes of it."""

from __future__ import annotations

import pytest
from sqlalchemy import make_url

from tracking.urls import check_database


@pytest.mark.parametrize(
    ("url", "hosts", "ports"),
    [
        (
            "postgresql://u:hunter2@a:5433,b.example.org:5434/d?target_session_attrs=read-write",
            "a,b.example.org",
            "5433,5434",
        ),
        ("postgresql://u@a,b:5434/d", "a,b", "5432,5434"),
        ("postgresql+psycopg://a,b", "a,b", "5432,5432"),
    ],
)
def test_a_database_may_be_several_servers(url: str, hosts: str, ports: str) -> None:
    """Several servers in the URL of a database, as libpq has them, are tried one after the other."""
    parsed = make_url(check_database(url))
    _, arguments = parsed.get_dialect()().create_connect_args(parsed)
    assert (arguments["host"], arguments["port"]) == (hosts, ports)
    assert arguments.get("target_session_attrs") == ("read-write" if "?" in url else None)


@pytest.mark.parametrize("hosts", ["a,", "a:x,b", "a,b:65536", "a,[::1]:5432", ":5432,b"])
def test_a_server_of_several_that_cannot_be_read_is_refused(hosts: str) -> None:
    """Of several servers in the URL of a database each is a name, with or without a port."""
    with pytest.raises(ValueError, match="each is a name and a port") as refusal:
        check_database(f"postgresql://u:hunter2@{hosts}/d")
    assert "hunter2" not in str(refusal.value)
