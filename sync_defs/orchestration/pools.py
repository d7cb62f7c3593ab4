"""Concurrency pools: two runs of one sync wait in Dagster's queue, not in a process.

What keeps them apart is the lease in the target's database; the pool saves the process that would wait for it.
"""

from collections.abc import Iterable

import dagster as dg


def register_pools(instance: dg.DagsterInstance, pools: Iterable[str]) -> None:
    """Make pools known to Dagster, with the instance's default limit; those that are known keep theirs.

    In the first pass over its queue in which Dagster 1.13 meets a pool, it does not apply the limit yet, so that two
    runs that wait when it starts would both be started.
    """
    storage = instance.event_log_storage
    if storage.supports_global_concurrency_limits:
        for pool in sorted(set(pools) - {known.name for known in storage.get_pool_limits()}):
            storage.initialize_concurrency_limit_to_default(pool)
