# `make` lists what there is. Everything runs from the project's own .venv; nothing needs to be on the PATH but Python 3.11.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# The first of these that exists makes the environment; it must be Python 3.11.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.synced

TRACER := tracer/dist/tracer.js

.PHONY: help setup up down browser test check docs format bench clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  \033[1mmake %-8s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) $(TRACER) ## Install what the locks pin and build the tracer (does nothing when nothing changed)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No python3.11 and no python3 found: install Python 3.11, or name it: make setup PYTHON=…" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "$(PYTHON) is $$("$(PYTHON)" --version), but Python 3.11 is needed: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)

# uv lives in the environment that it manages, hence --inexact: a sync must not remove it.
# Bytecode is compiled once here; without it every process of the platform, each run's too, starts twice as slowly.
$(STAMP): uv.lock pyproject.toml | $(BIN)/python
	@$(BIN)/python -m uv --version >/dev/null 2>&1 || { \
	  $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip --default-pip; \
	  $(BIN)/python -m pip install --progress-bar on 'uv>=0.9'; }
	UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/python -m uv sync --frozen --inexact --compile-bytecode --python $(BIN)/python
	@touch $@

$(TRACER): tracer/package-lock.json $(wildcard tracer/src/*.ts tracer/scripts/*.mjs)
	@command -v npm >/dev/null || { echo "No npm found: install Node.js 20 or newer, which builds the tracer" >&2; exit 1; }
	cd tracer && npm ci --no-audit --no-fund && npm run build
	@touch $@

browser: ## Install Chromium and Firefox, which tests of pages drive, where they are missing
	@missing=; for name in chromium firefox-esr; do command -v $$name >/dev/null || missing="$$missing $$name"; done; \
	[ -z "$$missing" ] || { \
	  install="apt-get install -y --no-install-recommends $$missing"; \
	  if [ "$$(id -u)" = 0 ]; then apt-get update && $$install; \
	  elif sudo -n true 2>/dev/null; then sudo apt-get update && sudo $$install; \
	  else echo "No$$missing found, and no right to install: the tests that need them will be skipped" >&2; fi; }

# exec: Ctrl-C and kill reach the platform itself and not a shell in between, which would leave it behind.
up: setup ## Start everything: Kafka, Dagster, live traffic (Ctrl-C stops all of it)
	@exec $(BIN)/chart-platform up

down: setup ## Stop what `make up` started in another terminal
	@exec $(BIN)/chart-platform down

# Two workers, a file to each in the order of the root's conftest. The tracer's own tests come after, not beside: they drive
# browsers and measure nothing but would wait long.
test: setup browser ## Run all tests, and check that the event contract keeps its promises
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
	cd tracer && npm run check && npm test
	$(BIN)/chart-platform schemas check

check: setup ## Format, lint, types, import rules, the fast tests, the tracer's size
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not kafka"
	cd tracer && npm run check

docs: setup ## Write dbt's documentation of every table to dist/dbt/static_index.html
	$(BIN)/dbt docs generate --static --empty-catalog --quiet --project-dir dbt_project --profiles-dir dbt_project \
	  --target-path ../dist/dbt --log-path dist/dbt
	@echo "dist/dbt/static_index.html"

format: setup ## Format the code and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## Measure against the rivals, side by side in one run
	UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/python -m uv sync --frozen --inexact --group bench --python $(BIN)/python
	$(BIN)/python -m bench

clean: ## Remove caches and build output; keeps .venv and the data in .chart
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist dbt_project/target dbt_project/logs
	find . -path ./$(VENV) -prune -o -path ./.chart -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf
