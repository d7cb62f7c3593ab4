"""From errors to what a person reads on the run page: one sentence and the next step."""

import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

import sync_defs
from sync_defs.errors import ConfigurationError, SyncError

_OURS = Path(sync_defs.__file__).parent
_MACHINERY = tuple(str(_OURS / part) for part in ("engine", "store", "inbox", "orchestration"))


@contextmanager
def told_plainly(job_name: str) -> Generator[None]:
    """Turn whatever the block raises into a `dg.Failure` with one sentence.

    Errors of ours are told in full. Of any other exception only the kind and the place are: its text may hold values
    of records, and the event log is no place for them.

    Raises:
        Failure: not to be retried where only a change of job, settings or config helps.
    """
    try:
        yield
    except SyncError as error:
        raise dg.Failure(
            description=error.message,
            metadata={"sync_defs/code": error.code},
            allow_retries=not isinstance(error, ConfigurationError),
        ) from None
    except dg.Failure:
        raise
    except Exception as error:  # noqa: BLE001 - the boundary to Dagster: whatever the job's own code raised
        kind = type(error)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        raise dg.Failure(
            description=f"{job_name}: {name} at {_place(error)}; its text may hold values of records and is not kept, "
            f"`sync-defs --debug run {job_name}` shows it",
            metadata={"sync_defs/code": "unexpected", "sync_defs/frames": dg.MetadataValue.text(_frames(error))},
        ) from None


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    of_the_user = [f for f in frames if not f.filename.startswith(_MACHINERY) and "site-packages" not in f.filename]
    frame = (of_the_user or list(frames))[-1]
    return f"{Path(frame.filename).parent.name}/{Path(frame.filename).name}, line {frame.lineno}, in {frame.name}"


def _frames(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return "\n".join(f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
