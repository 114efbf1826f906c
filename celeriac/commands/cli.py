"""The commands of `celeriac`. Each returns its exit status, None standing for a good end; see docs/commands.md."""

from __future__ import annotations

import os

import click

from celeriac.commands.program import Later, Program

HERE = "celeriac.commands"

SECTIONS = {
    "Jobs": {
        "submit": Later(f"{HERE}.job_options", "submit", "Have a job made, and wait for it."),
        "jobs": Later(f"{HERE}.job_options", "jobs", "List jobs, newest first."),
        "job": Later(f"{HERE}.job_options", "job", "Show a job, its attempts and its timeline."),
        "watch": Later(f"{HERE}.watch_options", "watch", "Watch a job to its end, and end as it does."),
        "explain": Later(f"{HERE}.job_options", "explain", "Say why a job is where it is."),
        "cancel": Later(f"{HERE}.job_options", "cancel", "End jobs that are not finished."),
        "retry": Later(f"{HERE}.job_options", "retry", "Run failed or cancelled jobs again."),
        "history": Later(f"{HERE}.list_options", "history", "List finished jobs, newest first."),
        "stats": Later(f"{HERE}.list_options", "stats", "Count jobs by their status."),
        "events": Later(f"{HERE}.watch_options", "events", "Print what happens to jobs, as it happens."),
        "top": Later(f"{HERE}.watch_options", "top", "Watch all of it on a full screen."),
        "bulk": Later(f"{HERE}.bulk_options", "bulk", "Cancel, retry, delete or reprioritize all jobs that match."),
    },
    "Kept": {
        "schedules": Later(f"{HERE}.schedule_options", "schedules", "Jobs that are made at their times."),
        "workflows": Later(f"{HERE}.workflow_options", "workflows", "Jobs that wait for each other."),
        "templates": Later(f"{HERE}.template_options", "templates", "Jobs that are asked for again and again."),
        "views": Later(f"{HERE}.view_options", "views", "Searches of jobs, under names."),
        "webhooks": Later(f"{HERE}.webhook_options", "webhooks", "Web addresses that are told what happens."),
    },
    "Platform": {
        "types": Later(f"{HERE}.type_options", "types", "The types of jobs."),
        "queues": Later(f"{HERE}.list_options", "queues", "List queues, and what waits in them."),
        "workers": Later(f"{HERE}.list_options", "workers", "List workers, and what they run."),
        "limits": Later(f"{HERE}.limit_options", "limits", "How many jobs of a type execute at once, or in a time."),
        "pauses": Later(f"{HERE}.list_options", "pauses", "List what is paused, by whom and why."),
        "errors": Later(f"{HERE}.error_options", "errors", "What failed, in groups that are alike."),
        "circuits": Later(f"{HERE}.list_options", "circuits", "List circuits that keep jobs from starting."),
        "audit": Later(f"{HERE}.list_options", "audit", "List who did what, newest first."),
        "login": Later(f"{HERE}.login_options", "login", "Keep an address and a token as a profile."),
        "logout": Later(f"{HERE}.login_options", "logout", "Forget a profile."),
        "denied-tokens": Later(f"{HERE}.denial_options", "denied_tokens", "Which tokens are taken no more."),
        "token": Later(f"{HERE}.token_options", "token", "Print a token, signed with the secret of the API."),
    },
    "Operating, on the host": {
        "up": Later(f"{HERE}.part_options", "up", "Run everything here: PostgreSQL, Valkey, a worker and the API."),
        "data": Later(f"{HERE}.data_options", "data", "The data directories of `up`: list them, remove one."),
        "api": Later(f"{HERE}.part_options", "api", "Run the API alone."),
        "worker": Later(f"{HERE}.part_options", "worker", "Run a worker alone."),
        "migrate": Later(f"{HERE}.platform_options", "migrate", "Bring the database's schema to the newest version."),
        "roles": Later(f"{HERE}.platform_options", "roles", "Make the roles that keep organizations apart."),
        "doctor": Later(f"{HERE}.doctor_options", "doctor", "Prove that the platform works, and say what does not."),
        "verify": Later(f"{HERE}.platform_options", "verify", "Check what must always be true of jobs."),
        "prune": Later(f"{HERE}.platform_options", "prune", "Remove finished jobs that are old enough."),
        "restore-check": Later(f"{HERE}.restore_options", "restore_check", "After a restore, say what is newer."),
        "dead-letters": Later(f"{HERE}.platform_options", "dead_letters", "List messages that no worker could run."),
        "limit": Later(f"{HERE}.platform_options", "limit", "Show or set how many jobs execute or wait at once."),
        "pause": Later(f"{HERE}.platform_options", "pause", "Let no more jobs of a type, organization or queue start."),
        "resume": Later(f"{HERE}.platform_options", "resume", "End a pause."),
    },
    "Beginning": {
        "init": Later(f"{HERE}.init_options", "init", "Write a small project: a handler, a test of it, settings."),
        "demo": Later(f"{HERE}.part_options", "demo", "Run real jobs on a platform of its own, and check them."),
        "completion": Later(f"{HERE}.login_options", "completion", "Print what completes these commands in a shell."),
    },
}


@click.group(cls=Program, sections=SECTIONS)
@click.version_option(package_name="celeriac")
@click.option("--debug", is_flag=True, help="Show the traceback of an error; as CELERIAC_DEBUG=true does.")
def command(*, debug: bool) -> None:
    """A job platform on Celery."""
    if debug:
        os.environ["CELERIAC_DEBUG"] = "true"
        from tracking.settings import settings  # noqa: PLC0415 - the help of a command does without

        settings.cache_clear()
