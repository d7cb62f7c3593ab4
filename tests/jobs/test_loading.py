"""Finding jobs: module-level instances in the folders of a package."""

import sys
import textwrap

import pytest

from sync_defs import ConfigurationError, SyncJob, TableSync
from sync_defs.jobs import load_jobs

TABLE_JOB = """
    from sqlalchemy import Column, Integer, MetaData, String, Table
    from sync_defs import table_sync
    table = Table("t", MetaData(), Column("id", String(9), primary_key=True), Column("n", Integer))

    @table_sync(target=table, key="id", fields={{"n": "n"}}, name={name!r})
    def job():
        yield from ()
"""
CLASS = """
    from sync_defs import SyncJob

    class Orders(SyncJob):
        name = "orders"
        def fetch_external(self): return []
        def get_external_id(self, record): return record["id"]
        def find_local(self, session, external_id): return None
        def create(self, session, record): pass
        def update(self, session, row, record): pass
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write a package of jobs, a folder for each, and return its name."""
    monkeypatch.syspath_prepend(tmp_path)
    written = []

    def write(**folders):
        name = f"jobs_{tmp_path.name.replace('-', '_')}_{len(written)}"
        for folder, code in {"": "", **folders}.items():
            path = tmp_path / name / folder
            path.mkdir(parents=True, exist_ok=True)
            (path / "__init__.py").write_text(textwrap.dedent(code), encoding="utf-8")
        written.append(name)
        return name

    yield write
    for module in [m for m in sys.modules if m.partition(".")[0] in written]:
        del sys.modules[module]


def test_the_example_jobs_are_found():
    jobs = load_jobs()
    assert list(jobs) == ["erp_customers", "erp_inventory", "erp_prices"]
    assert isinstance(jobs["erp_customers"], SyncJob)
    assert isinstance(jobs["erp_inventory"], TableSync)


def test_jobs_come_sorted_by_name(package):
    name = package(one=TABLE_JOB.format(name="zebra"), two=TABLE_JOB.format(name="ant"))
    assert list(load_jobs(name)) == ["ant", "zebra"]


def test_two_jobs_of_one_name_are_refused(package):
    name = package(one=TABLE_JOB.format(name="same"), two=TABLE_JOB.format(name="same"))
    with pytest.raises(ConfigurationError, match=rf"two jobs are named 'same', in {name}.one and {name}.two"):
        load_jobs(name)


def test_one_job_in_two_folders_is_one_job(package):
    name = package(one=TABLE_JOB.format(name="shared"))
    other = package(one=f"from {name}.one import job", two=f"from {name}.one import job")
    assert list(load_jobs(other)) == ["shared"]


def test_a_class_without_an_instance_is_pointed_out(package):
    with pytest.raises(ConfigurationError, match=r"defines Orders, but no job is made of it; .* `job = Orders\(\)`"):
        load_jobs(package(orders=CLASS))


def test_a_class_with_an_instance_is_a_job(package):
    assert list(load_jobs(package(orders=CLASS + "\n    job = Orders()\n"))) == ["orders"]


def test_a_base_class_of_the_deployments_own_is_no_job(package):
    code = CLASS.replace("class Orders", "class Base") + "\n    class Orders(Base): pass\n    job = Orders()\n"
    assert list(load_jobs(package(orders=code))) == ["orders"]


def test_a_broken_folder_hides_nothing(package):
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        load_jobs(package(one="import no_such_module"))


def test_an_invalid_job_is_refused(package):
    with pytest.raises(ConfigurationError, match="a name must match"):
        load_jobs(package(orders=CLASS.replace('"orders"', '"My Orders"') + "\n    job = Orders()\n"))
