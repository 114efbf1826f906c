"""The handlers that come with Celeriac, and their payloads, for those who send such jobs from Python."""

from __future__ import annotations

from celeriac import packages

packages.claim(*packages.NEEDED)

from tasks.handlers.cleanup import CleanUp, cleanup  # noqa: E402 - now that they are ours
from tasks.handlers.data_processing import ProcessData, data_processing  # noqa: E402 - as above
from tasks.handlers.export_report import ExportReport, export_report  # noqa: E402 - as above
from tasks.handlers.notification import SendNotification, notification  # noqa: E402 - as above
from tasks.handlers.sync import SyncExports, sync  # noqa: E402 - as above

__all__ = [
    "CleanUp",
    "ExportReport",
    "ProcessData",
    "SendNotification",
    "SyncExports",
    "cleanup",
    "data_processing",
    "export_report",
    "notification",
    "sync",
]
