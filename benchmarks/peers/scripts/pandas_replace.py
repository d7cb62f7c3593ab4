"""Replaces the table with pandas: the usual `to_sql`."""

import json
import sys
from pathlib import Path

import pandas as pd
import sqlalchemy as sa

source, address, _ = sys.argv[1:]
with Path(source).open("rb") as lines:
    frame = pd.DataFrame([record for line in lines for record in json.loads(line)])
frame["price"] = pd.to_numeric(frame["price"])
frame["updated_at"] = pd.to_datetime(frame["updated_at"], utc=True)
engine = sa.create_engine(address.replace("postgresql:", "postgresql+psycopg:"))
with engine.begin() as connection:
    frame.to_sql("product", connection, if_exists="replace", index=False, chunksize=10_000)
