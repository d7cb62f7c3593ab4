"""What importing the library costs: the heavy packages stay out until they are needed."""

import subprocess
import sys

import pytest

import sync_defs

LOADED = "import sys; import {module}; print({module}.__file__ is None, *sorted({heavy!r} & set(sys.modules)))"


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("sync_defs", {"alembic", "dagster", "httpx", "numpy", "pandas", "pydantic", "sqlalchemy"}),
        ("sync_defs.cli", {"alembic", "dagster", "numpy", "pandas"}),
        ("sync_defs.receiver", {"alembic", "dagster", "numpy", "pandas"}),
    ],
)
def test_import_stays_light(module, heavy):
    """A fresh interpreter that imports the module has loaded none of these packages."""
    command = [sys.executable, "-c", LOADED.format(module=module, heavy=heavy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")


def test_every_public_name_resolves():
    """Each name of `__all__` is found, although it is loaded late."""
    assert [name for name in sync_defs.__all__ if not hasattr(sync_defs, name)] == []
