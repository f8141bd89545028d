# make run    the whole stand-in loop, from nothing to report.html
# make test   lint, types and the default tests      make check   lint and types alone
# make ui     the Dagster UI over the same runs, on 127.0.0.1:3000

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export ALIGNGUARD_ROOT ?= $(CURDIR)/data
export ALIGNGUARD_PROFILE ?= standin
export DAGSTER_HOME ?= $(ALIGNGUARD_ROOT)/.dagster
export DO_NOT_TRACK = 1

.PHONY: run ui test test-slow check bench standin-base clean-env

run: $(VENV)/.installed
	@$(BIN)/alignguard run

ui: $(VENV)/.installed
	@$(BIN)/alignguard ui

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --level error

test: check
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow

bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks

standin-base: $(VENV)/.installed
	$(BIN)/python -m alignguard_data.standin.backends.train_base
	$(BIN)/python -m alignguard_data.standin.scoring.train

clean-env:
	rm -rf $(VENV)

# --no-compile: Python compiles what it imports, pip would compile everything.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e ".[dev]"
	@touch $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
