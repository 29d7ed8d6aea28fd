# The checkout's commands. Everything they install goes into .venv and nowhere else; `make help` lists them.
# A machine needs python3 (>= 3.11) with its venv module, and make.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# `make PYTHON=python3.13 setup` builds the environment with another interpreter.
PYTHON ?= python3
# Only `make lock` needs this program; the locks it writes are committed.
UV ?= uv

BIN := .venv/bin
STAMP := .venv/.installed
JOBS ?= 2

.PHONY: help
help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(STAMP) ## build .venv from the lock file and install the exchange into it

# Rebuilt when the lock, the project file or the version changes. A half-finished .venv has no stamp, so it is made anew.
$(STAMP): requirements-dev.lock pyproject.toml exchange/__init__.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is older than Python 3.11; use make PYTHON=python3.12 setup" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "$(PYTHON) has no venv module; on Debian: apt-get install python3-venv" >&2; exit 1; }
	rm -f $(STAMP)
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

