"""The ERP's client as a Dagster resource; not loaded by the CLI."""

from collections.abc import Generator
from contextlib import contextmanager

import dagster as dg

from sync_defs.connectors import ErpClient
from sync_defs.jobs.resources import open_erp
from sync_defs.settings import Settings


class ErpResource(dg.ConfigurableResource):
    """The ERP's API, by `SYNC_ERP_URL` and `SYNC_ERP_TOKEN`; without an address a demo ERP runs during each run."""

    # No field on purpose: a field can be changed in the launchpad, and an address set there would be sent the token.

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Generator[ErpClient]:
        """Give the plain client to a job's fetch."""
        with open_erp(Settings()) as client:
            yield client
