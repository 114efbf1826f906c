"""The slots of an organization, counted under its lock in the statement that submits a job."""

from __future__ import annotations

from alembic import op

from tracking.admission import FREE_SLOTS

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute(FREE_SLOTS)


def downgrade() -> None:
    """Undo."""
    op.execute("DROP FUNCTION free_slots(text, int, interval)")
