"""The handlers that come with Celeriac, and their payloads, for those who send such jobs from Python."""

from __future__ import annotations

from tasks.handlers.cleanup import CleanUp, cleanup
from tasks.handlers.data_processing import ProcessData, data_processing
from tasks.handlers.export_report import ExportReport, export_report
from tasks.handlers.notification import SendNotification, notification
from tasks.handlers.sync import SyncExports, sync

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
