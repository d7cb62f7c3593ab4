"""A small ERP over HTTP: inventory, customers, signed webhooks and faults on demand.

A test double for users of the library and the source of the example jobs. ``DemoErp`` runs it inside a
test, ``python -m sync_defs.testing.demo_erp`` as a process of its own. It may import the standard library,
httpx, starlette, uvicorn and standardwebhooks.

In reading order: ``records`` (what an item looks like), ``seed`` (the first items), ``database`` (the SQLite
file), ``outbox`` (webhooks to send), ``state`` (reads and writes), ``simulate`` (random changes), ``faults``
(switches), ``webhooks`` (delivery), ``listing`` (pages), ``app`` (the HTTP service), ``server`` (starting
and stopping it).
"""

from sync_defs.testing.demo_erp.app import create_app
from sync_defs.testing.demo_erp.faults import Faults, FaultSwitches
from sync_defs.testing.demo_erp.records import InvalidRecordError, Kind
from sync_defs.testing.demo_erp.server import DemoErp
from sync_defs.testing.demo_erp.simulate import Simulated
from sync_defs.testing.demo_erp.state import ErpState
from sync_defs.testing.demo_erp.webhooks import Webhooks

__all__ = [
    "DemoErp",
    "ErpState",
    "FaultSwitches",
    "Faults",
    "InvalidRecordError",
    "Kind",
    "Simulated",
    "Webhooks",
    "create_app",
]
