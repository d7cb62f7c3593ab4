"""The demo ERP's API as a source: inventory and customers."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime

import httpx

from sync_defs.connectors.http import JsonClient


@dataclass(frozen=True, slots=True)
class ErpClient:
    """Read inventory and customers from the ERP; what ``JsonClient`` says of retries and errors holds here.

    Example:
        >>> pages = httpx.MockTransport(lambda _: httpx.Response(200, json={"items": [{"sku": "A"}]}))
        >>> erp = ErpClient("https://erp.example.com", token="t0p-secret", transport=pages)
        >>> list(erp.inventory(since="2026-01-05T08:00:00+02:00"))
        [[{'sku': 'A'}]]
        >>> erp
        ErpClient(base_url='https://erp.example.com', timeout_s=30.0, page_size=1000, max_pages=100000)
    """

    base_url: str
    """Scheme and host of the ERP, such as ``https://erp.example.com``."""
    _: KW_ONLY
    token: str | None = field(default=None, repr=False)
    """The API token, if the ERP asks for one."""
    timeout_s: float = 30.0
    """How long to wait for the connection, and for each part of an answer."""
    page_size: int = 1000
    """Records in a page, at most 1,000."""
    max_pages: int = 100_000
    """A listing with more pages is taken for an endless one."""
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False, compare=False)
    """Waits so many seconds between attempts."""
    transport: httpx.BaseTransport | None = field(default=None, repr=False, compare=False)
    """Replaces the network, in tests."""

    def __post_init__(self) -> None:
        """Check the settings, so that a mistake shows at once.

        Raises:
            ValueError: A setting is of no use.
        """
        if self.page_size < 1:
            message = "page_size must be positive"
            raise ValueError(message)
        self._client()

    def inventory(self, since: str | datetime | None = None) -> Iterator[list[dict[str, object]]]:
        """Yield pages of items by (updated_at, sku): all, or those changed at ``since`` or later.

        An item that changes during the fetch may come twice, the newer state last.

        Raises:
            FetchError: The fetch failed; the pages before it are not the whole listing.
            ValueError: ``since`` is a datetime without a time zone.
        """
        return self._listing("/api/inventory", since)

    def inventory_items(self, skus: Iterable[str]) -> list[dict[str, object]]:
        """Return the items with these SKUs, in no promised order; unknown SKUs give nothing.

        Raises:
            FetchError: The fetch failed.
        """
        return self._client().lookup("/api/inventory", name="sku", values=skus)

    def customers(self, since: str | datetime | None = None) -> Iterator[list[dict[str, object]]]:
        """Yield pages of customers by (updated_at, number): all, or those changed at ``since`` or later.

        A customer that changes during the fetch may come twice, the newer state last.

        Raises:
            FetchError: The fetch failed; the pages before it are not the whole listing.
            ValueError: ``since`` is a datetime without a time zone.
        """
        return self._listing("/api/customers", since)

    def customers_by_number(self, numbers: Iterable[str]) -> list[dict[str, object]]:
        """Return the customers with these numbers, in no promised order; unknown numbers give nothing.

        Raises:
            FetchError: The fetch failed.
        """
        return self._client().lookup("/api/customers", name="number", values=numbers)

    def _listing(self, path: str, since: str | datetime | None) -> Iterator[list[dict[str, object]]]:
        params: dict[str, str | int] = {"limit": self.page_size}
        if since is not None:
            params["since"] = _iso(since)
        return self._client().pages(path, params)

    def _client(self) -> JsonClient:
        return JsonClient(
            self.base_url,
            token=self.token,
            timeout_s=self.timeout_s,
            max_pages=self.max_pages,
            sleep=self.sleep,
            transport=self.transport,
        )


def _iso(since: str | datetime) -> str:
    if isinstance(since, str):
        return since
    if since.tzinfo is None:
        message = "since needs a time zone"
        raise ValueError(message)
    return since.isoformat()
