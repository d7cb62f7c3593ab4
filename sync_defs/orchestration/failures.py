"""From errors to what a person reads on the run page: one sentence and the next step."""

import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

import sync_defs
from sync_defs.errors import SyncError
from sync_defs.orchestration.retries import Attempts, is_passing, told

_OURS = Path(sync_defs.__file__).parent
_MACHINERY = tuple(str(_OURS / part) for part in ("engine", "store", "inbox", "orchestration"))


@contextmanager
def told_plainly(
    job_name: str, attempts: Attempts | None = None, *, on_wait: Callable[[float], None] | None = None
) -> Generator[None]:
    """Turn whatever the block raises into a `dg.Failure` with one sentence.

    Errors of ours are told in full. Of any other exception only the kind and the place are: its text may hold values
    of records, and the event log is no place for them.

    Args:
        job_name: whose error it is.
        attempts: what is known of the op's attempts; without them there is no other one.
        on_wait: told of the seconds before the next attempt.

    Raises:
        Failure: not to be retried by anybody else where `attempts` have been counted.
        RetryRequested: the op is to be tried again, after a wait.
    """
    try:
        yield
    except (dg.Failure, dg.RetryRequested):
        raise
    except Exception as error:  # noqa: BLE001 - the boundary to Dagster: whatever the job's own code raised
        failure = _failure(job_name, told(error), attempts)
        wait_s = None if attempts is None else attempts.wait_s(error)
        if attempts is None or wait_s is None:
            raise failure from None
        if on_wait is not None:
            on_wait(wait_s)
        raise dg.RetryRequested(max_retries=attempts.policy.times, seconds_to_wait=wait_s) from failure


def _failure(job_name: str, error: BaseException, attempts: Attempts | None) -> dg.Failure:
    again = f"; {attempts.failed + 1} attempts failed" if attempts is not None and attempts.failed else ""
    if isinstance(error, SyncError):
        return dg.Failure(
            description=error.message + again,
            metadata={"sync_defs/code": error.code},
            allow_retries=attempts is None and is_passing(error),
        )
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return dg.Failure(
        description=f"{job_name}: {name} at {_place(error)}; its text may hold values of records and is not kept, "
        f"`sync-defs --debug run {job_name}` shows it{again}",
        metadata={"sync_defs/code": "unexpected", "sync_defs/frames": dg.MetadataValue.text(_frames(error))},
        allow_retries=attempts is None,
    )


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    of_the_user = [f for f in frames if not f.filename.startswith(_MACHINERY) and "site-packages" not in f.filename]
    frame = (of_the_user or list(frames))[-1]
    return f"{Path(frame.filename).parent.name}/{Path(frame.filename).name}, line {frame.lineno}, in {frame.name}"


def _frames(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return "\n".join(f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
