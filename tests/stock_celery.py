"""Celery as it is installed, with a broker, results and not one other setting: what its defaults do."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery, Task

app = Celery("stock", broker=os.environ["STOCK_URL"], backend=os.environ["STOCK_URL"], set_as_current=False)


@app.task(name="stock.note", shared=False)
def note(path: str, text: str) -> str:
    """Add a line to a file."""
    with Path(path).open("a") as file:
        file.write(f"{text}\n")
    return text


@app.task(name="stock.linger", shared=False)
def linger(path: str) -> None:
    """Say that it has begun, and stay."""
    note.run(path, "begun")
    time.sleep(600)


@app.task(name="stock.fail_twice", shared=False, bind=True, max_retries=2)
def fail_twice(self: Task[Any, Any]) -> str:
    """Fail, with a different error in each attempt, and succeed in the third."""
    if self.request.retries < 2:
        raise self.retry(exc=ValueError(f"attempt {self.request.retries}"), countdown=0)
    return "in the end"
