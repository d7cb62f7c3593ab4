# The checks of this repository, in the order in which they fail fastest. CI runs the same targets.

PYTHON ?= .venv/bin/python
PYTEST_ARGS ?=

.PHONY: check format lint types contracts test fix lock

check: format lint types contracts test

format:
	$(PYTHON) -m ruff format --check .

lint:
	$(PYTHON) -m ruff check .

types:
	$(PYTHON) -m pyright --pythonpath $(PYTHON)

contracts:
	$(PYTHON) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()' --no-logo

test:
	$(PYTHON) -m pytest -n auto --cov --cov-report=term $(PYTEST_ARGS)

# Not a check: rewrites the files.
fix:
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

# Keeps the pins that still fit. `make lock LOCK_ARGS=--upgrade` takes the newest of everything.
lock:
	$(PYTHON) -m uv pip compile pyproject.toml --output-file requirements.lock --quiet \
		--universal --python-version 3.11 --all-extras --no-header --no-annotate --no-emit-index-url $(LOCK_ARGS)
