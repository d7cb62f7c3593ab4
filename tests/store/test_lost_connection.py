"""A connection that is cut under a callback is the run's trouble, whatever SQLAlchemy calls it, and no record's."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sync_defs import Database, SyncJob, run_sync
from sync_defs.store.rejects import open_rejects


class Base(DeclarativeBase):
    pass


class Part(Base):
    __tablename__ = "parts"
    sku: Mapped[str] = mapped_column(sa.String(20), primary_key=True)


def cut(session: Session) -> None:
    session.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))


class PartJob(SyncJob[dict[str, Any], Part]):
    name = "parts"
    create_tables = (Part,)

    def __init__(self, way: str) -> None:
        self.way = way
        super().__init__()

    def fetch_external(self) -> Any:
        return [{"sku": "A"}, {"sku": "B"}]

    def get_external_id(self, record: dict[str, Any]) -> object:
        return record["sku"]

    def find_local_many(self, session: Session, external_ids: Sequence[str]) -> dict[str, Part]:
        if self.way == "look-up":
            cut(session)
        found = session.scalars(sa.select(Part).where(Part.sku.in_(external_ids)))
        return {row.sku: row for row in found}

    def find_local(self, session: Session, external_id: str) -> Part | None:
        return session.get(Part, external_id)

    def create(self, session: Session, record: dict[str, Any]) -> None:
        if self.way == "create":
            cut(session)
        if self.way == "swallow":
            with suppress(DBAPIError):
                cut(session)
        session.add(Part(sku=record["sku"]))

    def update(self, session: Session, row: Part, record: dict[str, Any]) -> None:
        pass


@pytest.mark.parametrize("way", ["look-up", "create", "swallow"])
def test_a_connection_that_is_cut_under_a_callback_fails_the_run_by_its_own_error(
    migrated_postgresql_url: str, way: str
) -> None:
    with Database(migrated_postgresql_url) as database:
        with pytest.raises(SQLAlchemyError if way == "swallow" else DBAPIError):
            run_sync(PartJob(way), database=database)
        assert open_rejects(database) == []
        assert run_sync(PartJob("well"), database=database).created == 2
