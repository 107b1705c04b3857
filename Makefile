# What a fresh machine needs: Python 3.11 or newer and make. No root, no compiler (the `cpu` extra brings one), no GPU.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test lint bench clean

run: $(VENV)/.run
	@$(BIN)/mist-bench run

test: $(VENV)/.dev
	@echo "lint, types, tests, and the benchmarks once each, untimed"
	@DEV=CPU $(BIN)/python -m pytest tests benchmarks/bench_*.py --benchmark-disable --numprocesses auto --dist loadgroup \
	  --no-loadscope-reorder --durations 20 --durations-min 5

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: $(VENV)/.dev
	@$(BIN)/python -c 'import torch' 2>/dev/null || \
	  echo "without PyTorch to compare with; to have it: $(BIN)/python -m pip install --editable '.[cpu,dev,bench]'"
	@$(BIN)/mist-bench bench

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mist-bench needs Python 3.11 or newer; name one: make run PYTHON=python3.12" >&2; exit 2; }
	@echo "making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python pyproject.toml
	@echo "installing mist-bench and what it needs (about 1 GB on disk; once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cpu]'
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml
	@echo "installing mist-bench with what its tests need (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cpu,dev]'
	@touch $@ $(VENV)/.run

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
