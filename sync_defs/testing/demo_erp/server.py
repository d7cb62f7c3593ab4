"""Starting and stopping the ERP: in a background thread for tests, or in the foreground as a process."""

import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import uvicorn
from starlette.applications import Starlette

from sync_defs.testing.demo_erp.app import create_app
from sync_defs.testing.demo_erp.faults import Faults, FaultSwitches
from sync_defs.testing.demo_erp.records import InvalidRecordError, Kind, Record
from sync_defs.testing.demo_erp.simulate import Simulated, simulate
from sync_defs.testing.demo_erp.state import ErpState
from sync_defs.testing.demo_erp.webhooks import Webhooks

_HOST = "127.0.0.1"
_STOP_WITHIN_S = 10.0


class DemoErp:
    """A running demo ERP on the loopback interface.

    The data stays in the file at ``path``, so that the next start goes on with it. Between ``start`` and
    ``stop`` the methods below change the same data as the HTTP API does, webhooks included.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder, DemoErp(path=Path(folder) / "erp.sqlite") as erp:
        ...     item = erp.change("SKU-0001", quantity=7, price="1.1")
        ...     item["quantity"], item["price"], len(erp.inventory())
        (7, '1.1', 999)
    """

    def __init__(
        self,
        *,
        path: Path | str,
        port: int = 0,
        api_token: str | None = None,
        webhook_url_for: Mapping[str, str] | None = None,
        webhook_secret: str | None = None,
        tick_s: float | None = None,
    ) -> None:
        """Keep the settings; nothing is opened before ``start``.

        Args:
            path: The SQLite file with the data; created and seeded if absent.
            port: The TCP port; 0 takes a free one at each start.
            api_token: What requests must carry as ``Authorization: Bearer``; None lets all in.
            webhook_url_for: The receiver of each kind, ``{"inventory": url, "customers": url}``.
            webhook_secret: The Standard Webhooks signing key (``whsec_...``); needed with receivers.
            tick_s: The seconds between small random changes; None makes none.

        Raises:
            ValueError: Receivers without a secret, or a kind that there is not.
        """
        self._path = path
        self._port = port
        self._api_token = api_token
        self._tick_s = tick_s
        self._webhooks = _webhooks(webhook_url_for or {}, webhook_secret)
        self._faults = Faults()
        self._running: _Running | None = None

    @property
    def url(self) -> str:
        """Return the base URL, without a slash at the end."""
        return f"http://{_HOST}:{self._open().port}"

    @property
    def faults(self) -> FaultSwitches:
        """Return the faults that are on."""
        return self._faults.switches

    def start(self) -> Self:
        """Open the data, bind the port and serve in a background thread.

        Raises:
            OSError: The port is taken, or the server did not come up.
            ValueError: It is already started.
        """
        running = self._bind()
        try:
            running.start()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Finish open requests, stop the thread and close the file; without effect if not started."""
        running, self._running = self._running, None
        if running is not None:
            running.stop()

    def serve(self) -> None:
        """Serve on this thread until the process gets SIGINT or SIGTERM; prints the URL first."""
        running = self._bind()
        print(f"demo ERP on {self.url}", flush=True)  # noqa: T201 - the process's only output
        try:
            running.serve()
        finally:
            self.stop()

    def __enter__(self) -> Self:
        """Start it."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    def inventory(self) -> list[Record]:
        """Return all items as they are, in the order of the listing, whatever faults are on."""
        return self._open().state.records(Kind.INVENTORY)

    def customers(self) -> list[Record]:
        """Return all customers as they are, in the order of the listing, whatever faults are on."""
        return self._open().state.records(Kind.CUSTOMERS)

    def change(self, sku: str, **fields: object) -> Record:
        """Change fields of an item (``quantity=7, price="1.10"``) and return it.

        Raises:
            ValueError: There is no such item, or a value is not acceptable.
        """
        return self._change(Kind.INVENTORY, sku, fields)

    def change_customer(self, number: str, **fields: object) -> Record:
        """Change fields of a customer and return it.

        Raises:
            ValueError: There is no such customer, or a value is not acceptable.
        """
        return self._change(Kind.CUSTOMERS, number, fields)

    def create(self, sku: str, **fields: object) -> Record:
        """Create an item, or replace the one with this SKU; fields not given are neutral."""
        return self._open().state.put(Kind.INVENTORY, sku, fields)[0]

    def create_customer(self, number: str, **fields: object) -> Record:
        """Create a customer, or replace the one with this number; fields not given are neutral."""
        return self._open().state.put(Kind.CUSTOMERS, number, fields)[0]

    def delete(self, sku: str) -> bool:
        """Delete an item and return whether there was one."""
        return self._open().state.delete(Kind.INVENTORY, sku)

    def delete_customer(self, number: str) -> bool:
        """Delete a customer and return whether there was one."""
        return self._open().state.delete(Kind.CUSTOMERS, number)

    def simulate(self, *, changes: int = 10, creates: int = 0, deletes: int = 0, seed: int | None = None) -> Simulated:
        """Make random changes to the inventory, the same ones for the same seed and data."""
        state = self._open().state
        return simulate(state, changes=changes, creates=creates, deletes=deletes, seed=seed)

    def inject(self, **switches: object) -> FaultSwitches:
        """Switch faults on (``malformed_items=3``); the names are those of ``FaultSwitches``.

        Raises:
            ValueError: A fault is unknown or its value is of no use.
        """
        return self._faults.inject(switches)

    def clear_faults(self) -> None:
        """Switch all faults off."""
        self._faults.clear()

    def pending_webhooks(self) -> int:
        """Return how many webhook messages no receiver has accepted yet."""
        return self._open().state.outbox.count()

    def _change(self, kind: Kind, record_id: str, fields: Mapping[str, object]) -> Record:
        record = self._open().state.change(kind, record_id, fields)
        if record is None:
            message = f"there is no {kind.id_field} {record_id!r}; create it first"
            raise InvalidRecordError(message)
        return record

    def _open(self) -> "_Running":
        if self._running is None:
            message = "the demo ERP is not running; call start() or use it in a with statement"
            raise ValueError(message)
        return self._running

    def _bind(self) -> "_Running":
        if self._running is not None:
            message = "the demo ERP is already running"
            raise ValueError(message)
        listener = _listen(self._port)
        try:
            announce = self._webhooks.url_for if self._webhooks is not None else ()
            state = ErpState(self._path, announce=announce)
        except BaseException:
            listener.close()
            raise
        app = create_app(
            state,
            faults=self._faults,
            api_token=self._api_token,
            webhooks=self._webhooks,
            tick_s=self._tick_s,
        )
        self._running = _Running(state, listener, app)
        return self._running


class _Running:
    def __init__(self, state: ErpState, listener: socket.socket, app: Starlette) -> None:
        self.state = state
        self.port: int = listener.getsockname()[1]
        self._listener = listener
        self._server = _Server(
            uvicorn.Config(
                app,
                loop="asyncio",
                http="h11",
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self.serve, name="demo-erp", daemon=True)
        self._thread.start()
        self._server.is_settled.wait()
        if not self._server.started:
            message = "the demo ERP did not start; its log says why"
            raise OSError(message)

    def serve(self) -> None:
        try:
            self._server.run(sockets=[self._listener])
        finally:
            self._server.is_settled.set()

    def stop(self) -> None:
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(_STOP_WITHIN_S)
        self._listener.close()
        self.state.close()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_settled = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_settled.set()


def _listen(port: int) -> socket.socket:
    # asyncio switches Nagle's algorithm off only where the protocol is named; else each answer takes 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_HOST, port))
        listener.listen(2048)
    except BaseException:
        listener.close()
        raise
    return listener


def _webhooks(url_for: Mapping[str, str], secret: str | None) -> Webhooks | None:
    if not url_for:
        return None
    if not secret:
        message = "webhook_url_for needs a webhook_secret (whsec_...)"
        raise ValueError(message)
    return Webhooks(url_for={Kind(name): url for name, url in url_for.items()}, secret=secret)
