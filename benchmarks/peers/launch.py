"""Starts a command and prints what it cost, as JSON: `python launch.py COMMAND...`.

This process is as small as can be, since Linux counts the memory of whoever starts a process as that process's.
"""

import json
import os
import sys
import time

devnull = os.open(os.devnull, os.O_RDWR)
start = time.perf_counter()
pid = os.posix_spawn(
    sys.argv[1],
    sys.argv[1:],
    dict(os.environ),
    file_actions=[(os.POSIX_SPAWN_DUP2, devnull, 0), (os.POSIX_SPAWN_DUP2, 2, 1)],
)
_, status, usage = os.wait4(pid, 0)
wall_s = time.perf_counter() - start
unit = 1 if sys.platform == "darwin" else 1024
figures = {
    "wall_s": round(wall_s, 3),
    "client_cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
    "peak_mb": round(usage.ru_maxrss * unit / 1_000_000, 1),
}
print(json.dumps({"exit": os.waitstatus_to_exitcode(status), "figures": figures}))
