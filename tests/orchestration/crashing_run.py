"""A Dagster run in a process of its own that is killed in the upsert, or, given its id, is started again.

The database is `SYNC_DATABASE_URL`; each fetch adds a line to the file `FETCHES`.
"""

import os
import signal
import sys
from pathlib import Path

import dagster as dg
from sqlalchemy import Column, Integer, MetaData, String, Table

from sync_defs import TableSync
from sync_defs.orchestration import build_sync_definitions
from sync_defs.store.table_writer import TableWriter

stock = Table("stock", MetaData(), Column("sku", String(40), primary_key=True), Column("quantity", Integer))


def fetch():
    with Path(os.environ["FETCHES"]).open("a", encoding="utf-8") as file:
        file.write("fetched\n")
    return [{"sku": "A", "quantity": 1}, {"sku": "B", "quantity": 2}]


def sync_stock():
    """Return the Dagster job, as each process that executes it makes it for itself."""
    job = TableSync(
        fetch, name="stock", target=stock, key="sku", fields={"quantity": "quantity"}, create_table=True, webhook=None
    )
    defs = build_sync_definitions({"stock": job}, database_url=os.environ["SYNC_DATABASE_URL"])
    return defs.resolve_job_def("sync_stock")


def die(self, progress, judge=None):
    os.kill(os.getpid(), signal.SIGKILL)


def main(crashed=None):
    """Execute the job, and die; or execute the rest of a run that was killed, and print the steps that ran."""
    with dg.DagsterInstance.get() as instance:
        if crashed is None:
            TableWriter.write = die
            dg.execute_job(dg.reconstructable(sync_stock), instance=instance)
            return
        rest = dg.ReexecutionOptions.from_failure(crashed, instance)
        result = dg.execute_job(dg.reconstructable(sync_stock), instance=instance, reexecution_options=rest)
        print(*[event.step_key for event in result.all_events if event.is_step_success])


if __name__ == "__main__":
    main(*sys.argv[1:])
