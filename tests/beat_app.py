"""A Celery app with a beat_schedule of all kinds, to be taken over."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from celery import Celery
from celery.schedules import crontab, schedule, solar

tokyo = Celery("tokyo", set_as_current=False)
tokyo.conf.update(timezone="Asia/Tokyo")

WORDS: dict[str, Any] = {"task": "count_words", "args": ({"words": ["a"]},)}
TAKEN: dict[str, Any] = {
    "every morning": {**WORDS, "schedule": crontab(hour=7, minute=30, day_of_week="mon-fri")},
    "in tokyo": {**WORDS, "schedule": crontab(minute="*/15", hour="8-9", app=tokyo)},
    "first of a quarter": {**WORDS, "schedule": crontab(0, 0, day_of_month="1", month_of_year="*/3")},
    "each half hour": {**WORDS, "schedule": timedelta(minutes=30), "options": {"priority": 7}},
    "each ten seconds": {**WORDS, "schedule": 10.0},
    "each minute": {"task": "count_words", "kwargs": {"payload": {}}, "schedule": schedule(60)},
}
# Of solar without its library, which astronomers have.
REFUSED: dict[str, Any] = {
    "at sunset": {**WORDS, "schedule": solar.__new__(solar)},
    "half a second": {**WORDS, "schedule": 0.5},
    "both days": {**WORDS, "schedule": crontab(0, 0, day_of_month="13", day_of_week="fri")},
    "unknown": {"task": "forgotten", "schedule": 60},
    "unfit": {"task": "count_words", "args": ({"words": 7},), "schedule": 60},
    "elsewhere": {**WORDS, "schedule": 60, "options": {"queue": "elsewhere"}},
}

shop = Celery("shop", set_as_current=False)
shop.conf.update(timezone="Europe/Berlin", beat_schedule=TAKEN)
all_kinds = Celery("all_kinds", set_as_current=False)
all_kinds.conf.update(beat_schedule={**REFUSED, "each minute": TAKEN["each minute"]})
