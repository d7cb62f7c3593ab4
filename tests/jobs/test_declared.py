"""Jobs in YAML: the same as those that `table_sync` makes, and errors with file and line."""

from datetime import timedelta

import pytest

from sync_defs import Checks, ConfigurationError, Retries, Webhook, mark
from sync_defs.declared import SyncJobAttributes, read_jobs
from sync_defs.jobs import load_jobs

WHOLE = """
type: sync_defs.SyncJobComponent
attributes:
  name: prices
  source: sync_defs.jobs.erp_prices.source.fetch_prices
  target: sync_defs.jobs.erp_prices.tables.prices
  key: sku
  fields:
    price: {source: price.net, default: 0, mask: true}
    updated_at: updated_at
  version: updated_at
  on_missing: {mark: {column: price, value: 0}}
  max_delete_rows: 5
  max_rejected_fraction: 0.2
  schedule: 30 4 * * *
  timezone: Europe/Berlin
  inbox: {scheme: github, secret_env: ERP_SECRET}
  checks: {rejected: 0.2, fetched: null, freshness: 3h, inbox_lag: 90m}
  retries: {times: 5}
  group: erp
  owners: [team:shop]
  tags: {domain: shop}
"""


@pytest.fixture
def read(tmp_path):
    def write_and_read(text):
        path = tmp_path / "defs.yaml"
        path.write_text(text, encoding="utf-8")
        return read_jobs(path)

    return write_and_read


def test_every_attribute_becomes_the_option_of_its_name(read):
    [job] = read(WHOLE)
    job.validate()
    assert (job.name, job.cron, job.timezone, job.key_column, job.version) == (
        "prices",
        "30 4 * * *",
        "Europe/Berlin",
        "sku",
        "updated_at",
    )
    price = job.fields["price"]
    assert (price.source, price.default, price.mask) == ("price.net", 0, True)
    assert job.missing_policy == mark(price=0)
    assert (job.max_delete_rows, job.max_rejected_fraction) == (5, 0.2)
    assert job.webhook == Webhook(scheme="github", secret_env="ERP_SECRET")
    assert job.checks == Checks(
        rejected=0.2, fetched=None, freshness=timedelta(hours=3), inbox_lag=timedelta(minutes=90)
    )
    assert job.retries == Retries(times=5)
    assert (job.group, job.owners, job.tags) == ("erp", ["team:shop"], {"domain": "shop"})
    assert job.description.startswith("The price of every variant")
    assert job.is_incremental


def test_the_defaults_are_those_of_table_sync():
    """Two places that say the same: the options of a job, and the schema of its YAML."""
    plain = {"source": "a.b", "target": "a.b", "key": "k", "fields": {}, "name": "n"}
    attributes = SyncJobAttributes.model_validate(plain)
    job = load_jobs()["erp_inventory"]
    for name in ("max_delete_fraction", "max_delete_rows", "max_rejected_fraction", "timezone"):
        assert getattr(attributes, name) == getattr(type(job), name)
    assert Retries(**attributes.retries.model_dump()) == Retries()
    assert attributes.checks.model_dump() == {
        "outcomes": True,
        "rejected": Checks().rejected,
        "withheld": True,
        "fetched": Checks().fetched,
        "freshness": "schedule",
        "dead_messages": True,
        "inbox_lag": "5m",
    }


def test_a_json_api_is_a_source_without_python(read, monkeypatch):
    [job] = read(
        WHOLE.replace(
            "source: sync_defs.jobs.erp_prices.source.fetch_prices",
            "source: {rest: {base_url: 'https://erp.example.com', path: /prices, token_env: T, since_param: since}}",
        )
    )
    assert (job.is_incremental, job.resource_names, job.source_kind) == (True, frozenset(), "rest")


@pytest.mark.parametrize(
    ("old", "new", "place", "sentence"),
    [
        ("  key: sku\n", "", 4, "key: Field required"),
        ("group: erp", "grup: erp", 20, "grup: Extra inputs are not permitted"),
        ("rejected: 0.2,", "rejected: 2,", 18, "checks.rejected: Input should be less than or equal to 1"),
        ("times: 5", "times: many", 19, "retries.times: Input should be a valid integer"),
        (
            "max_delete_rows: 5",
            "max_delete_rows: -1",
            13,
            "max_delete_rows: Input should be greater than or equal to 0",
        ),
        (".source.fetch_prices", ".source.nothing", 4, "module 'sync_defs.jobs.erp_prices.source' has no 'nothing'"),
        ("sync_defs.jobs.erp_prices.tables.", "no.such.tables.", 4, "there is no module 'no'"),
        ("schedule: 30 4 * * *", "schedule: 7h", 4, "use minutes that divide an hour"),
        ("key: sku", "key: nope", 4, "has no column 'nope'"),
    ],
)
def test_a_mistake_is_told_with_file_and_line(read, tmp_path, old, new, place, sentence):
    assert old in WHOLE
    with pytest.raises(ConfigurationError) as caught:
        read(WHOLE.replace(old, new))
    assert str(caught.value).startswith(f"{tmp_path / 'defs.yaml'}:{place}: ")
    assert sentence in str(caught.value)


def test_what_is_no_yaml_is_told_with_its_line(read):
    with pytest.raises(ConfigurationError, match=r"defs\.yaml:4: the file is no YAML: "):
        read("type: sync_defs.SyncJobComponent\nattributes:\n  name: [a\n")


def test_yaml_is_data_and_never_code(read, tmp_path):
    with pytest.raises(ConfigurationError, match=r"defs\.yaml:20: the file is no YAML: could not determine"):
        read(WHOLE.replace("group: erp", "group: !!python/object/apply:os.system ['true']"))


def test_documents_of_other_components_are_left_out(read):
    [job] = read(f"type: dagster.FunctionComponent\nattributes: {{}}\n---\n{WHOLE}")
    assert job.name == "prices"


def test_every_attribute_is_described():
    schema = SyncJobAttributes.model_json_schema()
    models = [schema, *schema["$defs"].values()]
    assert all(field.get("description") for model in models for field in model.get("properties", {}).values())
