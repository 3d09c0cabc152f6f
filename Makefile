# Everything from a fresh machine with Python 3.11, 3.12 or 3.13: each target sets itself up in .venv first.
# PYTHON=/path/to/python chooses another interpreter, PIP_FLAGS adds options to pip (an index, a wheel folder).

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
PIP_FLAGS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=
WORKERS ?= 2
OUT ?= runs/base-agent

.DEFAULT_GOAL := help
.PHONY: help setup demo test bench base-agent lint format constraints clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## make .venv with the package and its development tools

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python 3.11, 3.12 or 3.13 found: install one, or give PYTHON=/path/to/python" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY) ## run the whole loop on the embedded benchmark (ARGS="--seed 1" and the like)
	$(BIN)/trace-agents demo $(ARGS)

test: $(READY) ## run the tests in WORKERS processes, default 2 (ARGS="-k routing" and the like)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

bench: $(READY) ## measure and print the figures that the project promises
	$(BIN)/python -m graphs.bench $(ARGS)

base-agent: $(READY) ## train the embedded base agent from scratch into OUT (default runs/base-agent)
	$(BIN)/python -m training.base_agent $(OUT) $(ARGS)

lint: $(READY) ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## rewrite files in the house's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

constraints: $(READY) ## write constraints.txt from what .venv holds
	$(BIN)/python -m pip freeze --exclude-editable | sed -E 's/\+[a-z0-9.]+$$//' \
		| grep -viE '^(nvidia-|cuda-|triton)' > constraints.txt.new
	mv constraints.txt.new constraints.txt
	@touch $(READY)

clean: ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +
