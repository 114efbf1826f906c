"""The history becomes a table of weeks, so that old ones are dropped instead of being deleted row by row.

No row is copied, and no writer waits for more than a moment. The table as it was becomes the part of all that is older
than a Monday in the near future, which a constraint makes sure of: its check of what is there goes on beside writers.
A migration that was killed goes on where it was. It has to be done again within a week: on that Monday the constraint
refuses rows. What an earlier release writes meanwhile, before or after the change of tables, arrives.
"""

from __future__ import annotations

import time

from alembic import op
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from tracking.db import is_locked

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

PATIENCE = 600.0  # seconds for the locks: a report, or pg_dump, may read the history all that time
PAUSE = 0.5  # seconds between two tries, in which the writers that waited come through
LOCKING = "SET LOCAL lock_timeout = '300ms';"  # whoever asks after us waits as long as we do

IS_DONE = "SELECT relkind = 'p' FROM pg_class WHERE oid = CAST('history' AS regclass)"
IS_VALID = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('history_numbered')")

# Seven to fourteen days ahead. One that is left of a migration which was killed is renewed when its time comes near.
BOUND = (
    LOCKING
    + """
DO $$
DECLARE
    monday text := to_char(date_trunc('week', now() AT TIME ZONE 'UTC') + interval '14 days', 'YYYY-MM-DD');
    known text := (SELECT substring(pg_get_constraintdef(oid) FROM '\\d{4}-\\d\\d-\\d\\d') FROM pg_constraint
                   WHERE conrelid = CAST('history' AS regclass) AND conname = 'history_is_past');
BEGIN
    IF CAST(known AS date) > now() + interval '3 days' THEN
        RETURN;
    END IF;
    ALTER TABLE history DROP CONSTRAINT IF EXISTS history_is_past;
    EXECUTE format('ALTER TABLE history ADD CONSTRAINT history_is_past CHECK (at < timestamptz %L) NOT VALID',
                   monday || ' 00:00:00+00');
END $$"""
)

RENAMED = ("history_by_job", "history_by_organization", "history_of_attempts")

# Who may do what with the table and with its numbers, other than their owner.
GRANTED = """
        SELECT privilege_type, is_grantable,
               CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS who
        FROM pg_class, aclexplode(relacl) WHERE oid = CAST('{0}' AS regclass) AND grantee <> relowner"""

CHANGE = (
    LOCKING
    + f"""
DO $$
DECLARE
    last bigint;
    grants text[];
    one text;
    monday timestamptz;
BEGIN
    LOCK TABLE history IN ACCESS EXCLUSIVE MODE;
    SELECT CASE WHEN is_called THEN last_value + 1 ELSE last_value END INTO last FROM history_id_seq;
    SELECT array_agg(format('GRANT %s ON %s TO %s', privilege_type, what, who)
                     || CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
    INTO grants
    FROM (SELECT 'TABLE history' AS what, of_table.* FROM ({GRANTED.format("history")}) AS of_table
          UNION ALL
          SELECT 'SEQUENCE history_id_seq', of_numbers.* FROM ({GRANTED.format("history_id_seq")}) AS of_numbers
         ) AS granted;

    ALTER TABLE history RENAME TO history_past;
    ALTER TABLE history_past ALTER id DROP IDENTITY;
    ALTER TABLE history_past DROP CONSTRAINT history_pkey;
    ALTER INDEX history_numbered RENAME TO history_past_pkey;
    ALTER TABLE history_past ADD PRIMARY KEY USING INDEX history_past_pkey;
    {" ".join(f"ALTER INDEX {name} RENAME TO {name.replace('history', 'history_past')};" for name in RENAMED)}

    CREATE TABLE history (LIKE history_past INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS
                          INCLUDING STORAGE) PARTITION BY RANGE (at);
    ALTER TABLE history DROP CONSTRAINT history_is_past;
    ALTER TABLE history ADD PRIMARY KEY (id, at);
    ALTER TABLE history ALTER id ADD GENERATED ALWAYS AS IDENTITY;
    EXECUTE format('ALTER TABLE history ALTER id RESTART WITH %s', last);
    CREATE INDEX history_by_job ON history (job_id, id);
    CREATE INDEX history_by_organization ON history (organization_id, id);
    CREATE INDEX history_of_attempts ON history (job_type, organization_id, circuit_key, id)
        WHERE circuit_key IS NOT NULL;
    FOREACH one IN ARRAY coalesce(grants, '{{}}') LOOP
        EXECUTE one;
    END LOOP;

    CREATE TABLE history_default (LIKE history INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES);
    ALTER TABLE history ATTACH PARTITION history_default DEFAULT;
    IF EXISTS (SELECT FROM history_past) THEN
        SELECT CAST(substring(pg_get_constraintdef(oid) FROM '\\d{{4}}-\\d\\d-\\d\\d') || ' 00:00:00+00' AS timestamptz)
        INTO STRICT monday FROM pg_constraint
        WHERE conrelid = CAST('history_past' AS regclass) AND conname = 'history_is_past' AND convalidated;
        EXECUTE format('ALTER TABLE history ATTACH PARTITION history_past FOR VALUES FROM (MINVALUE) TO (%L)', monday);
        ALTER TABLE history_past DROP CONSTRAINT history_is_past;
    ELSE
        DROP TABLE history_past;
    END IF;
END $$"""
)


def upgrade() -> None:
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        if connection.exec_driver_sql(IS_DONE).scalar():
            return
        connection.exec_driver_sql("SET timezone = 'UTC'")  # in which the bound is written, and read again
        for step in STEPS:
            step(connection)
        connection.exec_driver_sql("RESET timezone")


def build_key(connection: Connection) -> None:
    """The key that the table will have as a part: with what the weeks are made by."""
    if connection.execute(IS_VALID).scalar() is not True:
        connection.exec_driver_sql("DROP INDEX CONCURRENTLY IF EXISTS history_numbered")
        connection.exec_driver_sql("CREATE UNIQUE INDEX CONCURRENTLY history_numbered ON history (id, at)")


def bound(connection: Connection) -> None:
    """Refuse rows of after that Monday."""
    _patiently(connection, BOUND)


def validate(connection: Connection) -> None:
    """Look at the rows that are there, while others write."""
    connection.exec_driver_sql("ALTER TABLE history VALIDATE CONSTRAINT history_is_past")


def change(connection: Connection) -> None:
    """Put the new table in the place of the old one, which becomes a part of it, or goes when it is empty."""
    _patiently(connection, CHANGE)


STEPS = (build_key, bound, validate, change)


def downgrade() -> None:
    op.execute(
        """
        DO $$
        DECLARE
            last bigint;
        BEGIN
            LOCK TABLE history IN ACCESS EXCLUSIVE MODE;
            SELECT CASE WHEN is_called THEN last_value + 1 ELSE last_value END INTO last FROM history_id_seq;
            CREATE TABLE history_whole (LIKE history INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS);
            INSERT INTO history_whole SELECT * FROM history;
            DROP TABLE history;
            ALTER TABLE history_whole RENAME TO history;
            ALTER TABLE history ADD PRIMARY KEY (id);
            ALTER TABLE history ALTER id ADD GENERATED ALWAYS AS IDENTITY;
            EXECUTE format('ALTER TABLE history ALTER id RESTART WITH %s', last);
        END $$"""
    )
    op.execute("CREATE INDEX history_by_job ON history (job_id, id)")
    op.execute("CREATE INDEX history_by_organization ON history (organization_id, id)")
    op.execute(
        "CREATE INDEX history_of_attempts ON history (job_type, organization_id, circuit_key, id)"
        " WHERE circuit_key IS NOT NULL"
    )


def _patiently(connection: Connection, sql: str) -> None:
    """Run what needs a lock that keeps everybody out, in a transaction of its own, until it gets it at once."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            # Without parameters the statements go to the server together, which makes one transaction of them.
            connection.exec_driver_sql(sql, execution_options={"no_parameters": True})
        except OperationalError as error:
            if not is_locked(error) or time.monotonic() > deadline:
                raise
            time.sleep(PAUSE)
        else:
            return
