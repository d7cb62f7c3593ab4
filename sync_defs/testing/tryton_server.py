"""A real Tryton ERP for tests: its own process, its own SQLite file, filled and changed over XML-RPC.

The server is driven and questioned over XML-RPC on purpose: `sync_defs.connectors.tryton` speaks JSON-RPC, so
that what Tryton answers here is an oracle that shares no code with the connector.

Measured with Tryton 8.2 on two cores: a new database 20 s, a start from a template 2 s, 500 products with
stock 12 s, one change of stock 0.06 s.
"""

import base64
import contextlib
import os
import secrets
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from sync_defs.errors import ConfigurationError

MODULES = ("company", "product", "stock")
MAX_RECORDS_PER_CALL = 50

_READY_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrytonProduct:
    """A product as a person would read it off Tryton's screen."""

    code: str
    name: str
    list_price: Decimal
    """The variant's own price, or the product's where the variant has none."""
    quantity: Decimal
    """Stock in the storage zone today, in the product's unit."""
    active: bool


def sample_products(count: int, *, first: int = 0) -> list[TrytonProduct]:
    """Return what `TrytonServer.create_products` creates; the same for the same numbers.

    Codes are `TRY-00000` and up. Every fourth product is weighed in kilograms with two decimals, every ninth
    has no stock, and every tenth variant has a price of its own beside its product's.
    """
    return [_sample_product(number) for number in range(first, first + count)]


def make_template(folder: Path, *, products: int = 0) -> Path:
    """Return a folder in `folder` to start servers from, with so many products; made the first time only.

    Takes half a minute with 500 products. Not to be called by two processes at once.
    """
    template = folder / f"tryton-{products}"
    if not template.exists():
        unfinished = Path(tempfile.mkdtemp(dir=folder))
        with TrytonServer(unfinished) as server:
            server.create_products(products)
        unfinished.rename(template)
    return template


class TrytonServer:
    """Run Tryton for the length of a `with` block, on a free port of the loopback interface.

    `path` receives the configuration, the database, the password file and the log. `template` is the path of
    an earlier, stopped server: its database is copied, which saves the 20 s of a new one.

    >>> with TrytonServer(tmp_path) as erp:  # doctest: +SKIP
    ...     erp.create_products(500)
    ...     client = TrytonClient(erp.url, database=erp.database, username=erp.username, password=erp.password)
    """

    database = "demo"
    username = "admin"

    def __init__(self, path: Path, *, template: Path | None = None, python: str | None = None) -> None:
        """Keep the settings; nothing is written or started before `start`."""
        self._path = path
        self._template = template
        self._python = python or sys.executable
        self._process: subprocess.Popen[bytes] | None = None
        self._rpc: _XmlRpc | None = None
        self.url = ""

    @property
    def password(self) -> str:
        """The administrator's password, made up for this database."""
        return (self._path / "password").read_text(encoding="utf-8").strip()

    def __enter__(self) -> Self:
        """Start the server."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server, whatever happened."""
        self.stop()

    def start(self) -> None:
        """Make the database if there is none, start the server and wait until it answers.

        Raises:
            ConfigurationError: Tryton is not installed, or it did not come up; the message names its log.
        """
        self._path.mkdir(parents=True, exist_ok=True)
        if not self._database_file.exists():
            self._make_database()
        try:
            self._launch()
            self._rpc = _XmlRpc.login(self.url, self.database, self.username, self.password)
            if not self._rpc.search("company.company", []):
                self._make_company()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server process; the database stays and can be the template of another server."""
        process, self._process, self._rpc = self._process, None, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_TIMEOUT_S)

    def create_products(self, count: int, *, first: int = 0) -> list[TrytonProduct]:
        """Create the `sample_products` with their prices and stock, and return them."""
        units = self._units("u", "kg")
        wanted = sample_products(count, first=first)
        for numbers in _chunks(range(first, first + count)):
            chunk = [wanted[number - first] for number in numbers]
            self._call(
                "product.template",
                "create",
                [
                    _template_values(product, unit=units["u" if number % 4 else "kg"], own_price=number % 10 == 0)
                    for number, product in zip(numbers, chunk, strict=True)
                ],
            )
            self._count_stock({product.code: product.quantity for product in chunk})
        return wanted

    def set_stock(self, code: str, quantity: Decimal | int) -> None:
        """Count the storage zone anew, so that it holds this quantity of the product."""
        self._count_stock({code: Decimal(quantity)})

    def set_price(self, code: str, price: Decimal) -> None:
        """Give the variant this list price of its own."""
        self._call("product.product", "write", [self._product_id(code)], {"list_price": _decimal(price)})

    def set_name(self, code: str, name: str) -> None:
        """Rename the product."""
        self._call("product.template", "write", [self._template_id(code)], {"name": name})

    def deactivate(self, code: str) -> None:
        """Take the product out of use: its template becomes inactive, the variant's own flag stays as it is.

        The stock is emptied first, because Tryton warns about an inactive product with stock.
        """
        self.set_stock(code, 0)
        self._call("product.template", "write", [self._template_id(code)], {"active": False})

    def products(self) -> dict[str, TrytonProduct]:
        """Return every product that Tryton holds, by code, inactive ones included."""
        rpc = self._connected()
        storage = rpc.search("stock.location", [["code", "=", "STO"]])
        context = {**rpc.context, "locations": storage, "with_childs": True}
        ids = rpc.search("product.product", [["active", "in", [True, False]]])
        fields = ["code", "name", "list_price_used", "quantity", "active", "template.active"]
        found: dict[str, TrytonProduct] = {}
        for chunk in _chunks(ids, 250):
            for row in rpc.records("product.product", "read", chunk, fields, context=context):
                product = _read_product(row)
                found[product.code] = product
        return found

    @property
    def _database_file(self) -> Path:
        return self._path / f"{self.database}.sqlite"

    def _make_database(self) -> None:
        if self._template is not None:
            shutil.copy2(self._template / "password", self._path / "password")
            _copy_database(self._template / self._database_file.name, self._database_file)
            return
        password = self._path / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(18) + "\n", encoding="utf-8")
        # Tryton creates tables but never the SQLite file, and asks for an e-mail address if it is given none.
        new = self._path / "new" / self._database_file.name
        new.parent.mkdir(exist_ok=True)
        new.unlink(missing_ok=True)
        new.touch()
        self._write_configuration(port=0, folder=new.parent)
        command = ["trytond.cli.admin", "-d", self.database, "-u", *MODULES, "--activate-dependencies"]
        process = self._spawn(*command, "--email", "admin@example.org")
        if process.wait():
            raise ConfigurationError(f"Tryton could not make its database; see {self._log}")
        new.rename(self._database_file)
        new.parent.rmdir()

    def _launch(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = cast("int", probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{port}"
        self._write_configuration(port=port, folder=self._path)
        # -d loads the models before the first request; without it the first log-in may fail with a KeyError.
        self._process = self._spawn("trytond.cli", "-d", self.database)
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError, HTTPException, xmlrpc.client.Error):
                with xmlrpc.client.ServerProxy(f"{self.url}/rpc/") as proxy:
                    proxy.common.server.version()
                return
            time.sleep(0.05)
        raise ConfigurationError(f"Tryton did not start; see {self._log}")

    def _write_configuration(self, *, port: int, folder: Path) -> None:
        lines = (
            "[database]",
            "uri = sqlite://",
            f"path = {folder}",
            "[web]",
            f"listen = 127.0.0.1:{port}",
            "",
        )
        (self._path / "trytond.conf").write_text("\n".join(lines), encoding="utf-8")

    @property
    def _log(self) -> Path:
        return self._path / "trytond.log"

    def _spawn(self, module: str, *arguments: str) -> "subprocess.Popen[bytes]":
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TRYTON")}
        environment["TRYTONPASSFILE"] = str(self._path / "password")
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [self._python, "-m", module, "-c", str(self._path / "trytond.conf"), *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip

    def _make_company(self) -> None:
        [currency] = self._create(
            "currency.currency",
            {
                "name": "Euro",
                "code": "EUR",
                "symbol": "€",
                "rounding": _decimal(Decimal("0.01")),
                "digits": 2,
            },
        )
        since = {"__class__": "date", "year": 2000, "month": 1, "day": 1}
        self._create("currency.currency.rate", {"currency": currency, "rate": _decimal(Decimal(1)), "date": since})
        [party] = self._create("party.party", {"name": "Demo"})
        [company] = self._create("company.company", {"party": party, "currency": currency})
        rpc = self._connected()
        users = rpc.search("res.user", [["login", "=", self.username]])
        self._call("res.user", "write", users, {"companies": [["add", [company]]], "company": company})
        rpc.reload_context()

    def _count_stock(self, quantities: Mapping[str, Decimal]) -> None:
        rpc = self._connected()
        [storage] = rpc.search("stock.location", [["code", "=", "STO"]])
        ids = self._ids(*quantities)
        lines = [{"product": ids[code], "quantity": float(quantity)} for code, quantity in quantities.items()]
        counted = self._create("stock.inventory", {"location": storage, "lines": [["create", lines]]})
        self._call("stock.inventory", "confirm", counted)

    def _ids(self, *codes: str) -> dict[str, int]:
        domain = [["code", "in", list(codes)], ["active", "in", [True, False]]]
        rows = self._connected().records("product.product", "search_read", domain, 0, None, None, ["code"])
        return {cast("str", row["code"]): cast("int", row["id"]) for row in rows}

    def _product_id(self, code: str) -> int:
        return self._ids(code)[code]

    def _template_id(self, code: str) -> int:
        [row] = self._connected().records("product.product", "read", [self._product_id(code)], ["template"])
        return cast("int", row["template"])

    def _units(self, *symbols: str) -> dict[str, int]:
        domain = [["symbol", "in", list(symbols)]]
        rows = self._connected().records("product.uom", "search_read", domain, 0, None, None, ["symbol"])
        return {cast("str", row["symbol"]): cast("int", row["id"]) for row in rows}

    def _create(self, model: str, values: Mapping[str, object]) -> list[int]:
        return cast("list[int]", self._call(model, "create", [values]))

    def _call(self, model: str, method: str, *arguments: object) -> object:
        return self._connected().call(model, method, *arguments)

    def _connected(self) -> "_XmlRpc":
        if self._rpc is None:
            raise ConfigurationError("the Tryton server is not running; use it in a with block")
        return self._rpc


class _XmlRpc:
    """One logged-in user of one database, over XML-RPC."""

    def __init__(self, endpoint: str, authorization: str) -> None:
        self._endpoint = endpoint
        self._headers = [("Authorization", authorization)]
        self.context: dict[str, object] = {}

    @classmethod
    def login(cls, url: str, database: str, username: str, password: str) -> Self:
        endpoint = f"{url}/{database}/"
        with xmlrpc.client.ServerProxy(endpoint + "rpc/", allow_none=True) as proxy:
            user, token, *_ = cast("list[object]", proxy.common.db.login(username, {"password": password}))
        session = base64.b64encode(f"{username}:{user}:{token}".encode()).decode()
        rpc = cls(endpoint + "rpc/", f"Session {session}")
        rpc.reload_context()
        return rpc

    def reload_context(self) -> None:
        """Ask Tryton for the user's company and language, which every later call carries."""
        self.context = {}
        self.context = cast("dict[str, object]", self.call("res.user", "get_preferences", True))

    def call(self, model: str, method: str, *arguments: object, context: Mapping[str, object] | None = None) -> object:
        with xmlrpc.client.ServerProxy(
            self._endpoint, headers=self._headers, allow_none=True, use_builtin_types=True
        ) as proxy:
            remote = getattr(proxy, f"model.{model}.{method}")
            return remote(*arguments, dict(self.context if context is None else context))

    def search(self, model: str, domain: Sequence[object]) -> list[int]:
        return cast("list[int]", self.call(model, "search", domain, 0, None, [["id", "ASC"]]))

    def records(
        self, model: str, method: str, *arguments: object, context: Mapping[str, object] | None = None
    ) -> list[dict[str, object]]:
        return cast("list[dict[str, object]]", self.call(model, method, *arguments, context=context))


def _copy_database(source: Path, target: Path) -> None:
    """Copy through SQLite: a stopped Tryton leaves its last writes in the -wal file beside the database."""
    with (
        contextlib.closing(sqlite3.connect(source)) as read,
        contextlib.closing(sqlite3.connect(target)) as write,
    ):
        read.backup(write)


def _sample_product(number: int) -> TrytonProduct:
    price = Decimal(number * 7919 % 100_000) / 100
    hundredths = 0 if number % 9 == 0 else number * 104_729 % 50_000
    return TrytonProduct(
        code=f"TRY-{number:05d}",
        name=f"Größe {number % 7} — product {number}",
        list_price=price,
        quantity=Decimal(hundredths // 100) if number % 4 else Decimal(hundredths) / 100,
        active=True,
    )


def _template_values(product: TrytonProduct, *, unit: int, own_price: bool) -> dict[str, object]:
    price = _decimal(product.list_price)
    variant = {"list_price": price} if own_price else {}
    return {
        "name": product.name,
        "code": product.code,
        "type": "goods",
        "default_uom": unit,
        "list_price": _decimal(product.list_price + 1) if own_price else price,
        "products": [["create", [variant]]],
    }


def _read_product(row: Mapping[str, object]) -> TrytonProduct:
    template = cast("Mapping[str, object]", row["template."])
    return TrytonProduct(
        code=cast("str", row["code"]),
        name=cast("str", row["name"]),
        list_price=cast("Decimal", row["list_price_used"]),
        quantity=Decimal(str(row["quantity"])),
        active=bool(row["active"]) and bool(template["active"]),
    )


def _decimal(value: Decimal) -> dict[str, str]:
    """Wrap an amount as Tryton's XML-RPC reads it; the standard library sends no Decimal."""
    return {"__class__": "Decimal", "decimal": str(value)}


def _chunks(items: Sequence[int], size: int = MAX_RECORDS_PER_CALL) -> Iterator[list[int]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
