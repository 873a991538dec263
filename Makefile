# Needs Python 3.11 or later and make; everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check clean

.venv/demo: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/dev: .venv/demo pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: .venv/demo
	$(BIN)/python -m ssmrec demo

test: .venv/dev check
	$(BIN)/python -m pytest

check: .venv/dev
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/pyright
	$(BIN)/lint-imports

clean:
	rm -rf .venv

.PHONY: bench

.venv/bench: .venv/demo pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[bench]"
	touch $@

# Hours on two cores; one of them: make bench BENCH=step. A quick look: make bench BENCH=--small
BENCH ?=
bench: .venv/bench
	$(BIN)/python -m benchmarks $(BENCH)
	$(if $(filter --small,$(BENCH)),,$(BIN)/python -m benchmarks.report)
