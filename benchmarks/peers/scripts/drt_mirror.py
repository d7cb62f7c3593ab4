"""Mirrors a SQLite table with drt."""

import os
import sys
from pathlib import Path

source, address, folder = sys.argv[1:]
home = Path(folder)
files = {
    ".drt/profiles.yml": f"pages:\n  type: sqlite\n  database: {source}\n",
    "drt_project.yml": 'name: product\nversion: "1.0"\nprofile: pages\n',
    "syncs/product.yml": (
        "name: product\nmodel: SELECT * FROM product\n"
        "destination:\n  type: postgres\n  connection_string_env: TARGET\n"
        "  table: public.product\n  upsert_key: [sku]\n"
        "sync:\n  mode: mirror\n  batch_size: 1000\n"
    ),
}
for name, text in files.items():
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
os.chdir(home)
os.environ |= {"TARGET": address, "HOME": folder}
program = Path(sys.executable).with_name("drt")
os.execv(program, ["drt", "run"])  # noqa: S606 - no shell is wanted
