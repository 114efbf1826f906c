"""Alembic's entry: runs the migrations on the connection that `tracking.db.migrate` holds."""

from __future__ import annotations

from alembic import context

from tracking.schema import metadata

# A transaction for each: what builds an index CONCURRENTLY ends the one that it is in.
context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, transaction_per_migration=True
)
with context.begin_transaction():
    context.run_migrations()
