"""Measures sync_defs against what its work costs at least, and against other tools.

In reading order: `workload` and `faults` make the rows, `schema` the tables, `databases` the places to measure in;
`sources`, `references` and `product` are what is measured, `child` measures one of them in a fresh process by
`measure` and `servers`; `cases` says what is compared, `rounds` does it; `results` keeps the figures, `goals`, `chart`
and `report` show them. `peers` compares with other tools, and `receiver` the webhook receiver with a bare handler. Only
the public API of sync_defs is used.
"""
