"""The HTTP client with uploaded files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from api.schemas.files import File as Contract
from celeriac.client import ApiError
from celeriac.client.files import File
from tests.api.calling import Caller
from tests.celeriac.test_client import client_of


def test_a_file_has_the_fields_of_the_contract() -> None:
    """The client's file has the fields that the API answers."""
    assert set(File.model_fields) == set(Contract.model_fields)


def test_a_file_is_uploaded_read_and_removed(caller: Caller, tmp_path: Path) -> None:
    """The client uploads a file piece by piece, lists it, reads what is known of it, and removes it."""
    path = tmp_path / "orders.csv"
    path.write_bytes(b"id,n\n" + b"1,2\n" * 700_000)
    with client_of(caller) as calling:
        made = calling.upload(path)
        assert (made.name, made.size) == ("orders.csv", path.stat().st_size)
        assert made.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert list(calling.files()) == [calling.file(made.id)] == [made]
        assert calling.upload(path, "other.csv").name == "other.csv"
        calling.remove_file(made.id)
        with pytest.raises(ApiError, match="file_not_found"):
            calling.file(made.id)


def test_an_empty_file_is_uploaded(caller: Caller, tmp_path: Path) -> None:
    """The client uploads an empty file."""
    (tmp_path / "empty").touch()
    with client_of(caller) as calling:
        assert calling.upload(tmp_path / "empty").size == 0
