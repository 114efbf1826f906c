"""Alembic's entry: runs the migrations on the connection that `tracking.db.migrate` holds, or prints them."""

from __future__ import annotations

from alembic import context

from tracking.schema import metadata

# A transaction for each: what builds an index CONCURRENTLY ends the one that it is in.
connection = context.config.attributes.get("connection")  # None: the statements are only printed
context.configure(
    connection=connection,
    dialect_name=None if connection else "postgresql",
    target_metadata=metadata,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
