"""What failures have in common: a number of the type of the job, the type of the error, and the shape of its message.

The shape is the message without what differs from job to job: numbers, ids, times, and words in quotes.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from tracking.error_tables import IS_FAILED

LONGEST_SHAPE = 200  # characters
DIGITS = 16  # hexadecimal, of a fingerprint
PATTERN = f"^[0-9a-f]{{{DIGITS}}}$"

# In this order. A word with a digit is an id, or as good as one. Only ASCII: it must not depend on a locale.
_REPLACED = (
    (r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}", "#"),
    (r"(?<![0-9A-Za-z])''[^''\n]*''(?![0-9A-Za-z])", "''#''"),
    (r'"[^"\n]*"', '"#"'),
    (r"`[^`\n]*`", "`#`"),
    ("[0-9A-Za-z_]*[0-9][0-9A-Za-z_]*", "#"),
    ("#(?:[-.:,/+]*#)+", "#"),
    (r"\s+", " "),
)


def _replacing(text_: str) -> str:
    for pattern, by in _REPLACED:
        text_ = f"regexp_replace({text_}, '{pattern}', '{by}', 'g')"
    return text_


# Of what is long only the beginning is looked at: five times what a shape holds.
SHAPE = f"""
CREATE OR REPLACE FUNCTION error_shape(message text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT left(btrim({_replacing(f"left(message, {5 * LONGEST_SHAPE})")}), {LONGEST_SHAPE})
$$"""

FINGERPRINT = f"""
CREATE OR REPLACE FUNCTION error_fingerprint(job_type text, error_type text, message text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT left(md5(job_type || chr(31) || coalesce(error_type, '') || chr(31) || coalesce(error_shape(message), '')),
                {DIGITS})
$$"""

FUNCTIONS = (SHAPE, FINGERPRINT)


def printed(error_type: str, message: str, *, when: str = "true") -> str:
    """SQL, of a SET: the fingerprint of a job that fails with this error, if it does so; none otherwise."""
    return f"fingerprint = CASE WHEN {when} THEN error_fingerprint(jobs.job_type, {error_type}, {message}) END"


def take(connection: Connection, limit: int) -> int:
    """Take fingerprints of jobs that failed without one, at most `limit`. Returns how many."""
    return connection.execute(TAKE, {"limit": limit}).rowcount


TAKE = text(
    f"""
    UPDATE jobs SET {printed("jobs.error_type", "jobs.error_message")}
    WHERE id IN (SELECT id FROM jobs WHERE {IS_FAILED} AND fingerprint IS NULL
                 LIMIT :limit FOR UPDATE SKIP LOCKED)"""
)
