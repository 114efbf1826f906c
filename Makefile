# `make` lists the targets. Each of them first sets up what it needs: Python 3.11 or newer, its venv module and make
# are enough. Nothing is installed outside this directory (uv and pip keep their download caches where they always do).

PYTHON ?= python3
# Passed on to the command of the target: make test ARGS="-k priority"
ARGS ?=

SLOW := $(shell grep -v '^\#' tests/slow.txt)
# Quick tests: a process that has none left takes some of the others'. Slow ones wait for other processes much of the
# time; those that share a platform or a table stay together, and the longest begin (tests/spreading.py).
QUICKLY := -n 3 --dist worksteal
SLOWLY := -n 6 --dist loadgroup --no-loadscope-reorder
# pytest's exit status 5: what ARGS selects is in the other half.
NOTHING := test $$? -eq 5

UV := .tools/bin/uv
READY := .venv/.ready
SQL_CHECKED := .venv/.sql-checked
COMPILE := UV_CUSTOM_COMPILE_COMMAND="make lock" $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes

# Only the Python that is already here: uv must not fetch another one.
export UV_PYTHON_DOWNLOADS := never
# Dozens of processes start in a run; without bytecode each of them compiles every module first, which takes seconds.
unexport PYTHONDONTWRITEBYTECODE
# An account without a home has nowhere to cache downloads but here.
ifneq ($(shell test -w "$$HOME" && echo writable),writable)
export UV_CACHE_DIR ?= $(CURDIR)/.tools/cache
export PIP_NO_CACHE_DIR ?= 1
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo up test check check-style check-types check-imports format bench scale chaos soak docs sql pictures sbom audit lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## Install the locked dependencies and this project into .venv

demo: $(READY) ## Run hundreds of jobs and an export on a platform of its own, and check the result
	.venv/bin/python -m celeriac.demo $(ARGS)

up: $(READY) ## Start the whole platform here: database, broker, worker, API (Ctrl-C stops it)
	.venv/bin/celeriac up $(ARGS)

test: $(READY) ## Run the tests: first the quick ones, then the slow ones
	.venv/bin/pytest $(QUICKLY) $(SLOW:%=--ignore=%) $(ARGS) || $(NOTHING)
	.venv/bin/pytest $(SLOWLY) $(SLOW) $(ARGS) || $(NOTHING)

check: $(READY) ## Check style, format, types, the direction of imports and the SQL
	+@$(MAKE) --no-print-directory --jobs 2 --output-sync=target check-types $(SQL_CHECKED) check-style check-imports

check-style: $(READY)
	.venv/bin/ruff check
	.venv/bin/ruff format --check

check-types: $(READY)
	.venv/bin/mypy

check-imports: $(READY)
	.venv/bin/lint-imports --no-logo

# The longest of them, and seldom anything new: once for each version of the file. In parts: its parser has a limit of
# steps for a file.
$(SQL_CHECKED): $(READY) tracking/rendered.sql
	rm -rf .venv/sql && mkdir .venv/sql
	awk '/^-- .*\.py /{number++} {print > sprintf(".venv/sql/%02d.sql", number / 50)}' tracking/rendered.sql
	RUST_LOG=error .venv/bin/sqlfluff lint --nocolor --disable-progress-bar .venv/sql
	@touch $@

format: $(READY) ## Format the code and fix what can be fixed safely
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

bench: $(READY) ## Measure Celeriac against bare Celery
	.venv/bin/python -m bench $(ARGS)

scale: $(READY) ## Measure reads, tenants beside each other and the leader's duties on 300,000 jobs of 1,000 organizations
	.venv/bin/python -m bench.scale $(ARGS)

chaos: $(READY) ## Break servers and processes under load for 3 minutes (CHAOS_MINUTES), and check every promise
	.venv/bin/python -m bench.chaos $(ARGS)

soak: $(READY) ## Run the platform under load for an hour (SOAK_MINUTES), and see whether anything grows
	.venv/bin/python -m bench.soak $(ARGS)

docs: $(READY) ## Build the site of docs/ into site/, with the reference of the API anew
	CELERIAC_JWT_SECRET="$$($(PYTHON) -c 'import secrets; print(secrets.token_urlsafe(48))')" .venv/bin/python -m bench.reference
	.venv/bin/zensical build --strict --clean

sql: $(READY) ## Write tracking/rendered.sql anew, after a change of a statement
	.venv/bin/python -m tracking.rendered

pictures: $(READY) ## Make the pictures of the README anew, of a real run of some minutes; it needs Chromium
	.venv/bin/python -m bench.pictures $(ARGS)

sbom: $(READY) ## Write what the image holds as a CycloneDX bill of materials, dist/sbom.json
	@mkdir -p dist
	.venv/bin/python -m bench.sbom > dist/sbom.json

audit: $(READY) ## Ask whether what the image holds has known vulnerabilities
	.venv/bin/python -m bench.audit

lock: $(UV) ## Lock the dependencies anew (ARGS=--upgrade for the newest)
	$(COMPILE) $(ARGS) requirements/build.in -o requirements/build.lock
	$(COMPILE) $(ARGS) pyproject.toml --extra flower --extra parquet --extra s3 --extra sql --extra traces -o requirements/production.lock
	$(COMPILE) $(ARGS) pyproject.toml --all-extras --group dev -c requirements/production.lock -o requirements/everything.lock

clean: ## Remove what the other targets made here, except data (.celeriac)
	rm -rf .venv .tools dist site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(UV): requirements/build.lock
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo '$(PYTHON) is no Python 3.11 or newer with its venv module. Install one (on Debian: python3 and' \
	    'python3-venv) or name another: make PYTHON=python3.12' >&2; exit 1; }
	$(PYTHON) -m venv --clear .tools
	@echo '*' > .tools/.gitignore
	.tools/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/build.lock
	@touch $@

# .venv keeps its Python: `make clean` first to change it.
$(READY): requirements/everything.lock pyproject.toml $(UV)
	@test -x .venv/bin/python || $(UV) venv --quiet --clear --python .tools/bin/python .venv
	$(UV) pip sync --quiet --compile-bytecode --python .venv --require-hashes requirements/everything.lock
	$(UV) pip install --quiet --python .venv --no-deps --build-constraints requirements/build.lock --editable .
	@touch $@
