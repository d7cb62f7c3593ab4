"""The lists in `pyproject.toml` and `requirements.lock` that must follow the code, and each other."""

import os
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")

# Checked as "standard": Dagster's own types leave unknowns there.
STANDARD = {"sync_defs/definitions.py", "sync_defs/jobs", "sync_defs/orchestration"}


def test_every_module_has_a_chosen_typing_level():
    """A new module is checked strictly, or is named here as an exception."""
    modules = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "sync_defs").iterdir()
        if path.suffix == ".py" or (path.is_dir() and any(path.rglob("*.py")))
    }
    assert modules - set(PROJECT["tool"]["pyright"]["strict"]) - STANDARD == set()


def test_lock_pins_every_dependency_within_its_range():
    """`make lock` was run after the last change of a dependency."""
    pins: dict[str, set[str]] = {}
    for pin in map(Requirement, LOCK.splitlines()):
        pins.setdefault(canonicalize_name(pin.name), set()).add(next(iter(pin.specifier)).version)
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = [*PROJECT["project"]["dependencies"], *(line for extra in extras for line in extra)]
    unmet = [
        requirement
        for requirement in map(Requirement, wanted)
        if not any(map(requirement.specifier.contains, pins.get(canonicalize_name(requirement.name), ())))
    ]
    assert unmet == []


def test_lock_is_usable_as_constraints_from_any_index():
    """Constraints with extras are refused by pip, and a pin that names a host works at one place only."""
    assert [line for line in LOCK.splitlines() if "://" in line or "[" in line or "--" in line] == []


def test_the_script_of_ci_may_be_run():
    script = ROOT / ".ci" / "run"
    if not script.exists():
        pytest.skip("not a clone of the repository: .ci is not shipped")
    assert os.access(script, os.X_OK)
