"""The example jobs against the demo ERP, on each kind of database."""

from typing import cast

import pytest
from pydantic import SecretStr
from sqlalchemy import func, select

from sync_defs import Action, ConfigurationError, Database, FetchError, run_sync, sync_single_item
from sync_defs.connectors import ErpClient
from sync_defs.jobs import load_jobs, open_resources
from sync_defs.jobs.erp_customers.tables import Customer
from sync_defs.jobs.erp_inventory.tables import variants
from sync_defs.settings import Settings
from sync_defs.testing.demo_erp import DemoErp


@pytest.fixture
def erp(tmp_path):
    """A running demo ERP."""
    with DemoErp(path=tmp_path / "erp.sqlite") as demo:
        yield demo


@pytest.fixture
def sync(erp, database_url):
    """Run an example job and return its counts by name, zeros left out."""
    jobs = load_jobs()
    with Database(database_url) as database:
        database.upgrade()

        def run(name, **options):
            results = run_sync(jobs[name], database=database, resources={"erp": ErpClient(erp.url)}, **options)
            found = {str(outcome): count for outcome, count in results.outcomes.items() if count}
            return found | {k: getattr(results, k) for k in ("deleted", "marked", "withheld") if getattr(results, k)}

        run.database = database
        yield run


def test_inventory_is_created_once_and_then_followed(sync, erp):
    assert sync("erp_inventory") == {"created": 999}
    assert set(sync("erp_inventory")) == {"unchanged"}
    erp.change("SKU-0001", quantity=7, price="1.1")
    assert sync("erp_inventory")["updated"] == 1
    with sync.database.read() as connection:
        row = connection.execute(select(variants).where(variants.c.sku == "SKU-0001")).one()
    assert (row.stock, str(row.price)) == (7, "1.10")


def test_a_full_fetch_marks_what_the_erp_no_longer_has(sync, erp):
    sync("erp_inventory")
    erp.delete("SKU-0002")
    assert sync("erp_inventory", full=True) == {"unchanged": 998, "marked": 1}
    with sync.database.read() as connection:
        query = select(variants.c.active).where(variants.c.sku == "SKU-0002")
        assert connection.execute(query).scalar_one() is False


def test_chosen_items_are_asked_for_by_id(sync):
    assert sync("erp_inventory", external_ids=["SKU-0003", "SKU-0004"]) == {"created": 2}
    assert sync("erp_customers", external_ids=["C-0003"]) == {"created": 1}


def test_bad_items_of_the_erp_are_rejected_alone(sync, erp):
    erp.inject(malformed_items=3)
    assert sync("erp_inventory") == {"created": 996, "rejected": 3}
    assert sync("erp_customers") == {"created": 117, "rejected": 3}


def test_customers_are_created_updated_and_marked(sync, erp):
    assert sync("erp_customers") == {"created": 120}
    assert sync("erp_customers") == {"unchanged": 120}
    erp.change_customer("C-0001", name="Grace Hopper")
    erp.delete_customer("C-0002")
    assert sync("erp_customers") == {"updated": 1, "unchanged": 118, "marked": 1}
    assert sync("erp_customers") == {"unchanged": 119}
    erp.create_customer("C-0002", name="Back again")
    assert sync("erp_customers") == {"updated": 1, "unchanged": 119}
    with sync.database.read() as connection:
        assert connection.execute(select(func.count()).where(Customer.active)).scalar_one() == 120


def test_a_personal_value_is_in_no_sample(sync, erp):
    sync("erp_customers")
    erp.change_customer("C-0001", email="new@example.org", name="New Name")
    results = run_sync(load_jobs()["erp_customers"], database=sync.database, resources={"erp": ErpClient(erp.url)})
    [sample] = results.samples
    assert sample.changes["email"] == ("***", "***")
    assert sample.changes["name"][1] == "New Name"


def test_without_an_address_a_demo_erp_runs_for_the_block(tmp_path):
    settings = Settings(state_dir=tmp_path / "state")
    with open_resources(settings, ["erp"]) as first:
        assert len(cast("ErpClient", first["erp"]).inventory_items(["SKU-0001"])) == 1
    assert (tmp_path / "state" / "demo_erp.sqlite").exists()
    with open_resources(settings, ["erp"]) as second:
        assert cast("ErpClient", second["erp"]).base_url != ""
    with open_resources(settings, []) as nothing:
        assert nothing == {}


def test_with_an_address_no_demo_erp_is_started(tmp_path):
    settings = Settings(state_dir=tmp_path / "state", erp_url="https://erp.example.com", erp_token=SecretStr("t0p"))
    with open_resources(settings, ["erp"]) as opened:
        assert opened["erp"] == ErpClient("https://erp.example.com", token="t0p")
    assert not (tmp_path / "state").exists()


def test_an_unknown_resource_is_named(tmp_path):
    opened = open_resources(Settings(), ["erp", "crm"])
    with pytest.raises(ConfigurationError, match="there is no resource 'crm'; known resources: erp"), opened:
        pass


def test_a_message_has_the_erp_asked_for_the_item(sync, erp, monkeypatch):
    """With `refetch`, what the message says of the item is not used."""
    job = load_jobs()["erp_inventory"]
    monkeypatch.setattr(job, "refetch", True)
    sync("erp_inventory")
    erp.change("SKU-0001", quantity=7)
    given = {"database": sync.database, "resources": {"erp": ErpClient(erp.url, sleep=lambda _: None)}}
    payload = {"type": "inventory.updated", "data": {"sku": "SKU-0001", "quantity": 99}}
    assert sync_single_item(job, payload, **given).action is Action.UPDATED
    with sync.database.read() as connection:
        query = select(variants.c.stock).where(variants.c.sku == "SKU-0001")
        assert connection.execute(query).scalar_one() == 7
    gone = {"type": "inventory.deleted", "data": {"sku": "SKU-0001"}}
    assert sync_single_item(job, gone, **given).action is Action.UNCHANGED
    erp.delete("SKU-0001")
    erp.inject(server_errors=100)
    with pytest.raises(FetchError):
        sync_single_item(job, gone, **given)
    erp.clear_faults()
    assert sync_single_item(job, gone, **given).action is Action.MARKED
