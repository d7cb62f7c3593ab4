"""Alembic migrations of the bookkeeping tables; a released file is never edited."""
