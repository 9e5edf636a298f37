# `make demo` and `make test` work on a fresh machine: each builds .venv from pinned versions if it is missing.

PYTHON ?= python3
VENV   := .venv
COMPAT := .venv-compat
PAGES  := .venv-docs
BIN    := $(VENV)/bin
TINY   := runs/tiny
PYTEST := -m pytest -n 2 --dist loadgroup

.PHONY: help demo tiny nano test test-compat test-all lint types docs build wheel-check clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(VENV)/ready: constraints.txt pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install -qq -c constraints.txt -e '.[dev,train]'
	@touch $@

$(COMPAT)/ready: constraints-compat.txt pyproject.toml
	$(PYTHON) -m venv --clear $(COMPAT)
	$(COMPAT)/bin/python -m pip install -qq -c constraints-compat.txt -e '.[dev,train]'
	@touch $@

$(PAGES)/ready: constraints-docs.txt
	$(PYTHON) -m venv --clear $(PAGES)
	$(PAGES)/bin/python -m pip install -qq -r constraints-docs.txt
	@touch $@

demo: $(VENV)/ready  ## score and question a few photographs
	$(BIN)/python examples/demo.py

tiny: $(VENV)/ready  ## the training recipe from end to end, small (without FAST= at full size, some minutes)
	rm -rf $(TINY)
	$(BIN)/python -m train tiny -o $(TINY) $(if $(FAST),--fast)

nano: $(VENV)/ready  ## make q-sit-nano again, about three hours (FAST=1 checks the path only)
	$(BIN)/python -m train nano -o runs/nano$(if $(FAST),-fast --fast)

test: $(VENV)/ready  ## the default tests, with coverage (newest transformers 5.x and Pillow)
	$(BIN)/python $(PYTEST) --cov --cov-report=term

test-compat: $(COMPAT)/ready  ## the same tests on transformers 4.57 and Pillow 11
	$(COMPAT)/bin/python $(PYTEST)

test-all: $(VENV)/ready  ## slow tests too
	$(BIN)/python $(PYTEST) -m 'not gpu and not hub'

lint: $(VENV)/ready  ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/ready  ## mypy --strict
	$(BIN)/mypy

# Without --quiet, which would keep back the warnings that a strict build fails with.
docs: $(PAGES)/ready  ## the documentation site in site/; any broken link fails
	NO_MKDOCS_2_WARNING=1 $(PAGES)/bin/mkdocs build --strict

build: $(VENV)/ready  ## wheel and sdist in dist/
	rm -rf dist
	$(BIN)/python -m build -q

wheel-check: build  ## install the wheel into a clean environment and use it from there
	bash tests/wheel_check.sh $(PYTHON)

clean:  ## remove what was built
	rm -rf $(VENV) $(COMPAT) $(PAGES) site dist .coverage* .pytest_cache .mypy_cache .ruff_cache
