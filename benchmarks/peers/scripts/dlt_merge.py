"""Merges the rows with dlt: pages of dicts by its default loader, or Arrow batches from Parquet."""

import sys
from pathlib import Path

import dlt
from dlt.common import json
from dlt.destinations import postgres

source, address, folder = sys.argv[1:]
is_parquet = source.endswith(".parquet")


def parts():
    if is_parquet:
        import pyarrow.parquet as pq

        yield from pq.ParquetFile(source).iter_batches(batch_size=100_000)
        return
    with Path(source).open("rb") as lines:
        yield from map(json.loadb, lines)


dlt.pipeline("product", destination=postgres(address), dataset_name="public", pipelines_dir=folder).run(
    dlt.resource(parts(), name="product", write_disposition="merge", primary_key="sku"),
    loader_file_format="parquet" if is_parquet else None,
)
