"""What tokens may permit: names alone, so that a worker that shows them to people loads nothing of HTTP."""

from __future__ import annotations

VIEW_JOBS = "jobs.view_jobs"
CREATE_JOBS = "jobs.create_jobs"
CANCEL_JOBS = "jobs.cancel_jobs"
RETRY_JOBS = "jobs.retry_jobs"
TRACK_JOBS = "jobs.track_jobs"  # to report on the jobs of others whose work is done elsewhere
VIEW_ALL = "jobs.view_all"
DELETE_JOBS = "jobs.delete_jobs"  # finished ones, by a bulk operation
MANAGE_JOBS = "jobs.manage_jobs"
PROCESS_DATA = "data.process_data"  # that of data_processing: who may ask for it may bring files for it
MANAGE_SCHEDULES = "jobs.manage_schedules"
MANAGE_TEMPLATES = "jobs.manage_templates"
MANAGE_WEBHOOKS = "jobs.manage_webhooks"
VIEW_AUDIT = "jobs.view_audit"
MANAGE_PLATFORM = "jobs.manage_platform"  # of operators: it reaches beyond the organization
