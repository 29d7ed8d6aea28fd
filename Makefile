# The checkout's commands; `make help` lists them. What they install goes into .venv and nowhere else.
# A machine needs python3 (3.11 or newer) with its venv module, and make.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# make PYTHON=python3.13 setup: build the environment with another interpreter.
PYTHON ?= python3
# make JOBS=4 test: more tests at a time. More jobs than processors make tests with real processes slow, not fast.
JOBS ?= 2
# make test-some ARGS='tests/core -k wire': the words after `pytest`.
ARGS ?=
# Only `make lock` needs this program; its results are committed.
UV ?= uv

BIN := .venv/bin
LOCKED := .venv/.locked
INSTALLED := .venv/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST := $(BIN)/python -m pytest --numprocesses $(JOBS)
SOURCES := exchange tests
COMPILE := $(UV) pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
           --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

.PHONY: help
help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: $(INSTALLED) ## build .venv from the lock file and install the exchange into it (every command does so first)

# A stamp is written last: a setup that was interrupted has none and is made anew from the start.
$(LOCKED): requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is missing or older than 3.11; try: make PYTHON=python3.12 setup" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "$(PYTHON) has no venv module; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "setting up .venv (about half a minute)"
	@$(PYTHON) -m venv --clear .venv
	@$(PIP) install --require-hashes --requirement requirements-dev.lock
	@touch $@

$(INSTALLED): $(LOCKED) pyproject.toml exchange/__init__.py
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: demo
demo: $(INSTALLED) ## six nodes on this machine play a referral that crosses a border
	@$(BIN)/exchange demo

.PHONY: bench
bench: $(INSTALLED) ## messages a second between two nodes on this machine, beside what the machine could do
	@$(BIN)/exchange bench

.PHONY: check
check: $(INSTALLED) ## before every commit, about a minute: format, lint, types, layers, the fast tests
	$(BIN)/ruff format --check --quiet $(SOURCES)
	$(BIN)/ruff check --quiet $(SOURCES)
	$(BIN)/mypy --no-error-summary
	$(BIN)/lint-imports --no-logo --no-cache
	$(PYTEST) --quiet -m 'not slow and not long_simulation'

# The two limits are asked of one measurement. The long simulation repeats, with many seeds, what the short one has
# been measured with; unmeasured it is faster. Once tests/simulation has tests, finding none with its mark is a failure.
.PHONY: test
test: $(INSTALLED) ## everything: all tests, branch coverage 100 % of the core and 95 % overall
	$(BIN)/ruff format --check --quiet $(SOURCES)
	$(BIN)/ruff check --quiet $(SOURCES)
	$(BIN)/mypy --no-error-summary
	@rm -f .coverage .coverage.*
	$(PYTEST) --cov --cov-report= -m 'not long_simulation'
	$(BIN)/coverage report --include='exchange/core/*' --fail-under=100
	$(BIN)/coverage report --fail-under=95
ifneq ($(wildcard tests/simulation/test_*.py),)
	$(PYTEST) -m long_simulation tests/simulation
endif

.PHONY: test-some
test-some: $(INSTALLED) ## chosen tests: make test-some ARGS='tests/core -k wire'
	@$(BIN)/python -m pytest $(ARGS)

.PHONY: lint
lint: $(INSTALLED) ## what ruff, mypy and import-linter say
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

.PHONY: format
format: $(INSTALLED) ## put every file into the one format, and mend what can be mended safely
	$(BIN)/ruff check --fix-only --quiet $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

.PHONY: wheel
wheel: $(INSTALLED) ## build dist/*.whl with the schemas inside
	$(BIN)/python -m hatchling build -t wheel

.PHONY: lock
lock: ## write the lock files anew from pyproject.toml (needs uv; UPGRADE=--upgrade takes newer versions)
	$(COMPILE) $(UPGRADE) --output-file requirements.lock >/dev/null
	$(COMPILE) $(UPGRADE) --group dev --constraint requirements.lock --output-file requirements-dev.lock >/dev/null

.PHONY: clean
clean: ## remove everything these commands made, .venv too
	rm -rf .venv dist htmlcov .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
