"""500 products of a real Tryton, kept in step with a local table by a job of a few lines."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

from sync_defs import Database, FetchError, SyncResults, run_sync, table_sync
from sync_defs.connectors.tryton import TrytonClient
from sync_defs.testing.tryton_server import TrytonProduct, TrytonServer, sample_products
from tests.tryton import COUNT

pytestmark = [pytest.mark.e2e, pytest.mark.tryton, pytest.mark.slow, pytest.mark.timeout(300)]


products = sa.Table(
    "products",
    sa.MetaData(),
    sa.Column("code", sa.String(40), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("price", sa.Numeric(16, 4), nullable=False),
    sa.Column("quantity", sa.Numeric(16, 2), nullable=False),
    sa.Column("active", sa.Boolean, nullable=False),
)


def product_by_code(erp: TrytonClient, external_ids: Sequence[str]) -> list[dict[str, object]]:
    return erp.products_by_code(external_ids)


@table_sync(
    target=products,
    key="code",
    fields={"name": "name", "price": "list_price", "quantity": "quantity", "active": "active"},
    fetch_items=product_by_code,
    create_table=True,
)
def tryton_products(erp: TrytonClient) -> Iterable[list[dict[str, object]]]:
    """Every product of Tryton, with its price and stock."""
    return erp.products()


@pytest.fixture
def server(tryton_template: Path, tmp_path: Path) -> Iterator[TrytonServer]:
    """A running Tryton of this test's own."""
    with TrytonServer(tmp_path / "erp", template=tryton_template) as running:
        yield running


@pytest.fixture
def target_url(database_url: str) -> str:
    """An empty database with the bookkeeping tables."""
    with Database(database_url) as database:
        database.upgrade()
    return database_url


def client_of(server: TrytonServer, *, password: str | None = None) -> TrytonClient:
    return TrytonClient(
        server.url,
        database=server.database,
        username=server.username,
        password=password or server.password,
        page_size=200,
    )


def sync(server: TrytonServer, database_url: str, **options) -> SyncResults:
    return run_sync(tryton_products, database=database_url, resources={"erp": client_of(server)}, **options)


def stored(database_url: str) -> dict[str, TrytonProduct]:
    """Read the table with a plain query."""
    engine = sa.create_engine(database_url)
    with engine.connect() as connection:
        rows = connection.execute(sa.select(products)).all()
    engine.dispose()
    return {
        row.code: TrytonProduct(
            code=row.code, name=row.name, list_price=row.price, quantity=row.quantity, active=row.active
        )
        for row in rows
    }


def counts(results: SyncResults) -> dict[str, int]:
    """Return what is not 0, outcomes and deletes."""
    named = {**results.outcomes, "fetched": results.fetched, "missing": results.missing}
    return {str(name): count for name, count in named.items() if count}


def change_twenty(server: TrytonServer) -> dict[str, TrytonProduct]:
    """Change the stock of 10 products, the price of 5, the name of 3, and take 2 out of use."""
    changed = {product.code: product for product in sample_products(20)}
    for number, product in enumerate(changed.values()):
        if number < 10:
            new = replace(product, quantity=product.quantity + 1)
            server.set_stock(product.code, new.quantity)
        elif number < 15:
            new = replace(product, list_price=product.list_price + Decimal("0.0001"))
            server.set_price(product.code, new.list_price)
        elif number < 18:
            new = replace(product, name=f"{product.name}, new")
            server.set_name(product.code, new.name)
        else:
            new = replace(product, quantity=Decimal(0), active=False)
            server.deactivate(product.code)
        changed[product.code] = new
    return changed


def test_a_table_follows_tryton(server: TrytonServer, target_url: str) -> None:
    """First everything is created, then exactly what changed is updated, then nothing."""
    assert counts(sync(server, target_url)) == {"fetched": COUNT, "created": COUNT}
    assert stored(target_url) == server.products()

    changed = change_twenty(server)
    assert counts(sync(server, target_url)) == {"fetched": COUNT, "updated": 20, "unchanged": COUNT - 20}
    after = stored(target_url)
    assert after == server.products()
    assert after == {product.code: product for product in sample_products(COUNT)} | changed

    assert counts(sync(server, target_url)) == {"fetched": COUNT, "unchanged": COUNT}


def test_one_product_is_synced_alone(server: TrytonServer, target_url: str) -> None:
    """The other change waits for the next full sync."""
    sync(server, target_url)
    server.set_stock("TRY-00001", 1001)
    server.set_stock("TRY-00002", 1002)
    assert counts(sync(server, target_url, external_ids=["TRY-00001"])) == {"fetched": 1, "updated": 1}
    rows = stored(target_url)
    assert (rows["TRY-00001"].quantity, len(rows)) == (1001, COUNT)
    assert rows["TRY-00002"] == sample_products(1, first=2)[0]


def test_a_refused_log_in_changes_nothing(server: TrytonServer, target_url: str) -> None:
    """G12: a failed fetch never deletes."""
    sync(server, target_url)
    before = stored(target_url)
    with pytest.raises(FetchError, match="check the username and the password"):
        run_sync(
            tryton_products,
            database=target_url,
            resources={"erp": client_of(server, password="not-the-password")},
        )
    assert stored(target_url) == before
