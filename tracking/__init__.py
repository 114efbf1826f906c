"""The truth about jobs: knows PostgreSQL, and nothing of Celery or HTTP."""

from tracking.ownership import acting_as

__all__ = ["acting_as"]
