"""Compares whole processes: sync_defs and other tools on the same rows, each in an environment of its own.

`catalogue` lists the tools, `scripts` holds what each of them runs, `launch` starts and measures one process,
`environments` installs them, `contest` measures.
"""
