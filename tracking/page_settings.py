"""The settings of the pages for people: a part of those of settings.py."""

from __future__ import annotations

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from tracking.urls import check_web


class PageSettings(BaseSettings):
    """`CELERIAC_FLOWER_URL`: what the pages lead to."""

    flower_url: str = Field(
        default="",
        description="Where operators find Flower: the page of a job leads to its task. Empty: nowhere.",
    )

    @field_validator("flower_url")
    @classmethod
    def check_flower(cls, value: str) -> str:
        """Empty, or an address on the web, to which a path can be added."""
        return check_web(value).rstrip("/") if value else value
