# `make demo` and `make test` work on a fresh machine: each builds .venv from pinned versions if it is missing.

PYTHON ?= python3
VENV   := .venv
COMPAT := .venv-compat
HOSTS  := .venv-hosts
PAGES  := .venv-docs
BIN    := $(VENV)/bin
TINY   := runs/tiny
NANO   := runs/nano$(if $(FAST),-fast)
PYTEST := -m pytest -n 2 --dist loadgroup --durations=25

.PHONY: help demo tiny nano test test-compat test-hosts test-all lint types docs build wheel-check clean

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

# Host packages lie beside .venv and come without what they depend on: that would bring torchvision and torch for CUDA, and
# much that no test needs. dill (of datasets) takes a module for an installed one by the name of that folder. basicsr is a source package; in an environment of its own its build would fetch torch anew.
$(HOSTS)/ready: $(VENV)/ready constraints-hosts.txt
	rm -rf $(HOSTS)
	$(BIN)/python -m pip install -qq --target $(HOSTS)/build setuptools==80.10.2 wheel cython
	PYTHONPATH=$(HOSTS)/build $(BIN)/python -m pip install -qq --target $(HOSTS)/site-packages --no-deps --no-build-isolation -r constraints-hosts.txt
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

nano: $(VENV)/ready  ## make q-sit-nano again, hours on a processor, minutes on a GPU (FAST=1 checks the path only; PHOTOS=FOLDER measures it)
	$(BIN)/python -m train nano -o $(NANO) $(if $(FAST),--fast)
	$(if $(PHOTOS),$(BIN)/python -m benchmarks.nano.trials $(NANO) --photos $(PHOTOS) -o $(NANO)/measured)
	$(if $(PHOTOS),$(BIN)/python -m benchmarks.nano $(NANO)/q-sit-nano --photos $(PHOTOS) -o $(NANO)/measured)

test: $(VENV)/ready  ## the default tests, with coverage (newest transformers 5.x and Pillow)
	$(BIN)/python $(PYTEST) --cov --cov-report=term

# What depends on the release of transformers or of Pillow; the rest is the same code in both environments.
COMPAT_TESTS := $(addprefix tests/test_,$(addsuffix .py,golden tokenizer template generation metric view likelihood gradient loss generic_backend loading \
	plugin_backend hardening pixels tiling resampling images decoding integrity hub cli map nano benchmarks_fig7 \
	evaluation_loop train_loss train_export train_scratch))

test-compat: $(COMPAT)/ready  ## the tests that it matters for on transformers 4.57 and Pillow 11
	$(COMPAT)/bin/python $(PYTEST) $(COMPAT_TESTS)

test-hosts: $(HOSTS)/ready  ## the integrations against the real host packages
	PYTHONPATH=$(HOSTS)/site-packages QSIT_REQUIRE_HOSTS=1 $(BIN)/python $(PYTEST) tests/hosts

test-all: $(VENV)/ready  ## slow tests too
	$(BIN)/python $(PYTEST) -m 'not gpu and not hub'

lint: $(VENV)/ready  ## style, and which way imports point
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

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
	rm -rf $(VENV) $(COMPAT) $(HOSTS) $(PAGES) site dist .coverage* .pytest_cache .mypy_cache .ruff_cache
