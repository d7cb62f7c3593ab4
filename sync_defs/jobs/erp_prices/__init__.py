"""Prices from the ERP: a job in YAML, see `defs.yaml` beside this file."""
