# One door to everything a developer does here; plain `make` lists the doors.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-stamp
RUN_STAMP := $(VENV)/.run-stamp
DIST ?= dist
USERS ?= 64
TIME ?= 30s
EVERYWHERE := -n auto --dist loadfile
PACKAGES := ledger settlement gateway benchmarks
SOURCES := $(PACKAGES) tests

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

.PHONY: help setup demo up down clean distclean test test-long plain coverage check bench load curves peers faults docs wheel lock postgres

help: ## List the targets, each with one sentence.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## Create the virtual environment with every locked package; costs nothing when it is up to date.

# A stamp is younger than both lists exactly when the environment was built from them. What runs the demonstration comes
# first, so that a first look does not wait for what only developers need.
$(STAMP): $(RUN_STAMP)
	@echo "setup: installing what developers and load tests need"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,load,postgres]'
	@touch $(STAMP)

$(RUN_STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null || { \
	  echo "setup: '$(PYTHON)' is not Python 3.11 or 3.12; name one with: make setup PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "setup: '$(PYTHON)' has no venv module; install it (on Debian or Ubuntu the package python3-venv)" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	@echo "setup: installing packages, about 100 MB"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@echo "setup: compiling the kernels, about a minute" && $(BIN)/python -m settlement.warm
	@touch $(RUN_STAMP)

demo: $(RUN_STAMP) ## Run both nodes through a day of payments and show what happens.
	$(BIN)/hugang demo

up: $(RUN_STAMP) ## Start both nodes and the operator again, and leave them running; accounts come from `make demo`.
	$(BIN)/hugang up --detach

down: $(RUN_STAMP) ## Stop what `make up` started.
	$(BIN)/hugang down

# The kernel's compiled cache lies in __pycache__ and belongs to the environment, so only distclean removes it.
clean: ## End what runs, and remove the data of demonstrations, the reports and the builds; the environment stays.
	@if test -f demo/run.json && test -x $(BIN)/hugang; then $(BIN)/hugang down; fi
	rm -rf demo data audit*.db build dist htmlcov .coverage .coverage.* coverage.xml .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

distclean: clean ## Remove the virtual environment and the compiled caches too.
	rm -rf $(VENV) *.egg-info .hypothesis
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

test: setup ## Run the fast tests, a file at a time on each processor.
	$(BIN)/python -m pytest $(EVERYWHERE)

test-long: setup ## Run every test, the long ones and the faults too, with branch coverage of ledger and settlement.
	$(BIN)/python -m pytest -m '' --hypothesis-profile=long --cov --cov-report=term-missing:skip-covered

# The kernels as plain Python, because a compiled line is not seen; then everything else.
KERNEL_TESTS := $(addprefix tests/unit/test_,$(addsuffix .py,posting holds chains precedence hold_groups reversals balancing \
	meters limits asof packing sections columns state registry recall days windows answers store))

plain: setup ## Run the tests of the kernels with the kernels as plain Python.
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest $(EVERYWHERE) $(KERNEL_TESTS)

coverage: setup ## Run the fast tests with branch coverage of ledger and settlement, the kernels uncompiled.
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest $(EVERYWHERE) --cov --cov-report= $(KERNEL_TESTS)
	$(BIN)/python -m pytest $(EVERYWHERE) --cov --cov-append --cov-report=term-missing:skip-covered

check: setup ## Check format, lint, types, layers and the fast tests.
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy $(PACKAGES)
	$(BIN)/lint-imports
	$(BIN)/python -m pytest $(EVERYWHERE)

postgres: setup ## Find a PostgreSQL server for the tests that need one, or install it.
	@$(BIN)/python -m tests.postgresql_server

bench: setup ## Measure this machine and write the figures down.
	$(BIN)/python -m benchmarks

curves: setup ## Measure the curves of docs/performance.md and draw them.
	$(BIN)/python -m benchmarks.curves
	$(BIN)/python -m benchmarks.plots

load: setup ## Load the Shanghai node that make up has started, over HTTP; USERS=64 and TIME=30s say how much.
	$(BIN)/locust -f benchmarks/locustfile.py --headless --only-summary -u $(USERS) -r $(USERS) -t $(TIME)

peers: setup ## Measure other ledgers beside ours; TIGERBEETLE=PORT names a running server.
	$(BIN)/python -m benchmarks.peers $(if $(TIGERBEETLE),--tigerbeetle $(TIGERBEETLE))

faults: $(RUN_STAMP) ## Kill processes while they work; print what was tried, recovered and lost as JSON.
	@$(BIN)/python -m benchmarks.faults

docs: setup ## Regenerate the pages of docs/ that come from the code.
	$(BIN)/python -m gateway.docs

# A left-over build directory would put files into the wheel that are no longer in the packages.
wheel: setup ## Build the wheel into dist/.
	rm -rf build
	$(BIN)/python -m build --wheel --outdir $(DIST) .
	rm -rf build

lock: setup ## Write constraints.txt anew from the environment as it is installed.
	@{ echo "# Every package of the environment that make setup builds, pinned; make lock writes this file anew."; \
	   $(BIN)/python -m pip freeze --exclude-editable | grep -E '^[A-Za-z0-9._-]+==[^ ]+$$' | LC_ALL=C sort -f; } > constraints.txt
	@touch $(RUN_STAMP) $(STAMP)
