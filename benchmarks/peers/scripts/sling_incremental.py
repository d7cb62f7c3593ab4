"""Merges a file of JSON lines with Sling, whose package holds its program."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

source, address, folder = sys.argv[1:]
package = find_spec("sling_linux_amd64")
assert package is not None
assert package.origin is not None
program = Path(package.origin).parent / "bin" / "sling-linux-amd64"
os.environ |= {"TARGET": f"{address}?sslmode=disable", "HOME": folder, "SLING_LOADED_AT_COLUMN": "false"}
arguments = {
    "--src-stream": f"file://{source}",
    "--src-options": '{"flatten": true}',
    "--tgt-conn": "TARGET",
    "--tgt-object": "public.product",
    "--mode": "incremental",
    "--primary-key": "sku",
}
os.execv(program, ["sling", "run", *(part for pair in arguments.items() for part in pair)])  # noqa: S606 - no shell is wanted
