"""The same work by sync_defs, through its public API.

Each function prepares and returns the part that is measured: one `run_sync`.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from benchmarks.faults import Article
from benchmarks.references import set_attributes
from benchmarks.schema import Product, article, product
from benchmarks.sources import open_source
from benchmarks.tasks import Task, Work
from benchmarks.workload import COLUMNS, stored_row, wire_form
from sync_defs import Job, SyncJob, SyncResults, run_sync, table_sync

Fetch = Callable[[], Any]


def product_job(**options: Any) -> Job:
    """Return the job that keeps `product` in step with a source; a row whose record is gone is deleted."""

    @table_sync(
        target=product,
        key="sku",
        fields={column: column for column in COLUMNS[1:]},
        on_missing="delete",
        name="product",
        **options,
    )
    def fetch(source: Fetch):
        """All rows of the source, page by page."""
        yield from source()

    return fetch


def article_job(**options: Any) -> Job:
    """Return the job that keeps `article` in step with a source."""

    @table_sync(
        target=article, key="sku", fields={column: column for column in Article._fields[1:]}, name="article", **options
    )
    def fetch(source: Fetch):
        """All articles of the source, page by page."""
        yield from source()

    return fetch


class ProductCallbacks(SyncJob[dict[str, Any], Product]):
    """The job of callbacks, with one query for many rows."""

    name = "product_callbacks"

    def fetch_external(self, source: Fetch) -> Any:
        yield from source()

    def get_external_id(self, record: dict[str, Any]) -> object:
        return record["sku"]

    def find_local(self, session: Session, external_id: str) -> Product | None:
        return session.get(Product, external_id)

    def find_local_many(self, session: Session, external_ids: Sequence[str]) -> Mapping[str, Product]:
        rows = session.scalars(sa.select(Product).where(Product.sku.in_(external_ids)))
        return {row.sku: row for row in rows}

    def create(self, session: Session, record: dict[str, Any]) -> None:
        row = Product(sku=record["sku"])
        set_attributes(row, record)
        session.add(row)

    def update(self, session: Session, row: Product, record: dict[str, Any]) -> None:
        set_attributes(row, record)


class KnownProductCallbacks(ProductCallbacks):
    """The same, where known records are passed over."""

    depends_on_record_alone = True


def sync_product(task: Task) -> Work:
    """Sync `product` by a declarative job."""
    return _run(task, product_job(**task.options.get("job", {})))


def sync_article(task: Task) -> Work:
    """Sync `article` by a declarative job."""
    return _run(task, article_job(**task.options.get("job", {})))


def sync_callbacks(task: Task) -> Work:
    """Sync `product` by a job of callbacks."""
    return _run(task, ProductCallbacks())


def sync_known_callbacks(task: Task) -> Work:
    """Sync `product` by a job of callbacks that depend on the record alone."""
    return _run(task, KnownProductCallbacks())


def _run(task: Task, job: Job) -> Work:
    fetch = fetch_of(task)
    options = task.options.get("run", {})
    if task.warm_url:
        warm = job if task.table == product.name else product_job()
        warm_up(task.warm_url, lambda url, fetch: run_sync(warm, database=url, resources={"source": fetch}))

    def work() -> dict[str, Any]:
        return told_of(run_sync(job, database=task.url, resources={"source": fetch}, **options))

    return work


def fetch_of(task: Task) -> Fetch:
    """Return what reads the task's file."""
    return open_source(task.form, task.source)


def warm_up(url: str, sync: Callable[[str, Fetch], object]) -> None:
    """Create, update and leave a few rows elsewhere, so that everything is imported that the work will need."""
    first = os.getpid() * 10  # other rows than those of the process before
    for increase in (0, 1, 1):
        page = [wire_form(stored_row(0, number, increase)) for number in range(first, first + 10 - increase)]
        sync(url, lambda page=page: iter([page]))


def told_of(results: SyncResults) -> dict[str, Any]:
    """Return what a measured process tells of a run."""
    return {
        "outcomes": {str(outcome): count for outcome, count in results.outcomes.items() if count}
        | ({"deleted": results.deleted} if results.deleted else {}),
        "status": str(results.status),
        "errors": [error.external_id for error in results.errors],
    }
