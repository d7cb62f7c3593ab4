"""Where the ops of a sync run: in the process of their run, or on Celery's workers."""

from importlib.util import find_spec
from typing import Literal

import dagster as dg

from sync_defs.errors import ConfigurationError

Executor = Literal["in_process", "celery"]


def executor_for(executor: Executor, *, celery_broker_url: str | None = None) -> dg.ExecutorDefinition:
    """Return the executor that runs the ops of a deployment's syncs.

    Args:
        executor: `in_process`, all ops of a run in its process; `celery`, each op on any of Celery's workers.
        celery_broker_url: RabbitMQ, or Redis, which then keeps the results too; shown nowhere in Dagster.

    Raises:
        ConfigurationError: Celery has no broker, or the extra `celery` is not installed.
    """
    if executor == "in_process":
        return dg.in_process_executor
    if celery_broker_url is None:
        raise ConfigurationError("the executor is celery and has no broker; set SYNC_CELERY_BROKER_URL")
    if find_spec("dagster_celery") is None:
        raise ConfigurationError("the executor is celery and dagster-celery is not installed; add the extra `celery`")
    from dagster_celery import celery_executor

    # RabbitMQ's answers come back through RabbitMQ itself, Redis' by keys that both sides read.
    is_redis = celery_broker_url.startswith(("redis:", "rediss:"))
    backend = celery_broker_url if is_redis else "rpc://"
    return celery_executor.configured({"broker": celery_broker_url, "backend": backend}, name="celery")
