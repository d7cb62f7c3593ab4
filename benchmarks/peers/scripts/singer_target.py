"""Writes the pages as Singer messages into target-postgres, which upserts them."""

import json
import subprocess
import sys
from pathlib import Path

source, address, folder = sys.argv[1:]
config = Path(folder) / "config.json"
config.write_text(
    json.dumps(
        {
            "sqlalchemy_url": address.replace("postgresql:", "postgresql+psycopg:"),
            "default_target_schema": "public",
            "load_method": "upsert",
            "use_copy": True,
            "add_record_metadata": False,
            "activate_version": False,
        }
    ),
    encoding="utf-8",
)
text = {"type": ["string", "null"]}
properties = {
    "sku": {"type": "string"},
    "quantity": {"type": ["integer", "null"]},
    "price": text,
    "name": text,
    "active": {"type": ["boolean", "null"]},
    "updated_at": {"type": ["string", "null"], "format": "date-time"},
    "attributes": text,
}
schema = {
    "type": "SCHEMA",
    "stream": "product",
    "schema": {"properties": properties},
    "key_properties": ["sku"],
}
command = [Path(sys.executable).with_name("target-postgres"), "--config", config]
with Path(source).open("rb") as lines, subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as target:
    assert target.stdin is not None
    target.stdin.write(json.dumps(schema) + "\n")
    for line in lines:
        for record in json.loads(line):
            target.stdin.write(json.dumps({"type": "RECORD", "stream": "product", "record": record}) + "\n")
    target.stdin.write(json.dumps({"type": "STATE", "value": {}}) + "\n")
    target.stdin.close()
sys.exit(target.returncode)
