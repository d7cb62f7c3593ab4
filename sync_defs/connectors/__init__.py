"""Ready sources that a job's fetch reads from. They import the standard library, httpx and ``errors`` only.

In reading order: ``http`` (JSON over HTTP: retries, limits, pages), ``erp`` (the demo ERP's API).
"""

from sync_defs.connectors.erp import ErpClient
from sync_defs.connectors.http import JsonClient

__all__ = ["ErpClient", "JsonClient"]
