"""What two runs of the same have in common: everything but ids and times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

OF_A_RUN = {"rootId", "parentId", "dependsOn", "duration", "dueAt", "after"}  # in the details of a history


def anonymous(value: Any, ids: Mapping[UUID, int]) -> Any:
    """A value with the numbers of its jobs instead of their `ids`, and without times."""
    if is_dataclass(value):
        return {each.name: anonymous(getattr(value, each.name), ids) for each in fields(value)}
    if isinstance(value, dict):
        return {name: each for name, each in value.items() if name not in OF_A_RUN}
    if isinstance(value, list | tuple):
        return [anonymous(each, ids) for each in value]
    if isinstance(value, UUID):
        return ids.get(value, "an id")
    return "a time" if isinstance(value, datetime) else value
