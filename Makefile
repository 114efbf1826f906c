# `make` lists the targets. Each of them first sets up what it needs: Python 3.11 or newer, its venv module and make
# are enough. Nothing is installed outside this directory (uv and pip keep their download caches where they always do).

PYTHON ?= python3
# Passed on to the command of the target: make test ARGS="-k priority"
ARGS ?=

# Live platforms, servers that are away, races, long tables, and whatever else takes seconds.
SLOW := tests/platform tests/bench tests/tracking/races $(patsubst %,tests/%.py, \
	$(addprefix api/test_,connections database_away health keys outages plans) $(addprefix api/dashboard/test_,browser bulk_browser) \
	$(addprefix celeriac/,commands/test_worker_exits test_face) $(addprefix tasks/,handlers/test_export_memory test_export_values) \
	$(addprefix tracking/test_,admission_plans rendered_plans batches_property holds_property online_migrations verbs_property))
# Quick tests: a process that has none left takes some of the others'. Slow ones wait for other processes much of the
# time; those that share a platform or a table stay together (tests/spreading.py), and the greatest of these groups begin.
QUICKLY := -n 3 --dist worksteal
SLOWLY := -n 5 --dist loadgroup
# pytest's exit status 5: what ARGS selects is in the other half.
NOTHING := test $$? -eq 5

UV := .tools/bin/uv
READY := .venv/.ready
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
.PHONY: help setup demo up test check format bench scale chaos sql lock clean

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
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo
	.venv/bin/sqlfluff lint --nocolor --disable-progress-bar tracking/rendered.sql

format: $(READY) ## Format the code and fix what can be fixed safely
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

bench: $(READY) ## Measure Celeriac against bare Celery
	.venv/bin/python -m bench $(ARGS)

scale: $(READY) ## Measure reads, tenants beside each other and the leader's duties on 300,000 jobs of 1,000 organizations
	.venv/bin/python -m bench.scale $(ARGS)

chaos: $(READY) ## Break servers and processes under load for 3 minutes (CHAOS_MINUTES), and check every promise
	.venv/bin/python -m bench.chaos $(ARGS)

sql: $(READY) ## Write tracking/rendered.sql anew, after a change of a statement
	.venv/bin/python -m tracking.rendered

lock: $(UV) ## Lock the dependencies anew (ARGS=--upgrade for the newest)
	$(COMPILE) $(ARGS) requirements/build.in -o requirements/build.lock
	$(COMPILE) $(ARGS) pyproject.toml --extra flower -o requirements/production.lock
	$(COMPILE) $(ARGS) pyproject.toml --all-extras --group dev -c requirements/production.lock -o requirements/everything.lock

clean: ## Remove what the other targets made here, except data (.celeriac)
	rm -rf .venv .tools dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
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
