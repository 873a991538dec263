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

# A file of tests stays in one process, as its tests share what was trained.
SEVERAL := --numprocesses auto --maxprocesses 4 --dist loadfile

test: .venv/dev .venv/sharded check
	$(BIN)/python -m pytest $(SEVERAL) $(PYTEST)

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

.PHONY: docs

.venv/docs: .venv/demo pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	touch $@

# The documentation as a site that works offline: open build/site/index.html
docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

.PHONY: coverage lowest audit

# All tests, and which lines and branches they reach: fails below the share that pyproject.toml asks for.
coverage:
	$(MAKE) test PYTEST="--cov --cov-report=term:skip-covered"

# The quick tests on the lowest versions that pyproject.toml allows. torch is left out: the low ones are
# gigabytes of CUDA, so pip's choice stays. The newest versions are those of every fresh `make test`.
LOWEST := build/lowest
lowest:
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet uv "$$(grep -o 'torch>=[^"]*' pyproject.toml)"
	$(LOWEST)/bin/python -W ignore -c "import torch; print('torch==' + torch.__version__)" > $(LOWEST)/torch.txt
	$(LOWEST)/bin/uv pip install --python $(LOWEST)/bin/python --resolution lowest-direct \
		--constraint $(LOWEST)/torch.txt --editable ".[dev]"
	NUMBA_CACHE_DIR=$(LOWEST)/numba $(LOWEST)/bin/python -m pytest $(SEVERAL) -m "not slow"

# Known holes in the installed packages; without a network it says so and passes.
audit: .venv/dev
	.ci/audit

.PHONY: distributed-cpu

# Sharded tables on a CPU: torchrec's own requirements would bring a CUDA build of fbgemm.
distributed-cpu: .venv/demo
	$(SHARDED)

SHARDED = $(BIN)/python -m pip install --quiet --no-deps torchrec==1.8.0 && \
	$(BIN)/python -m pip install --quiet "fbgemm-gpu-cpu==1.8.0" "torchmetrics==1.0.3" \
		tensordict pyre-extensions tqdm

# For the tests; where there is no such build, those of sharded tables are skipped.
.venv/sharded: .venv/dev
	$(SHARDED) || echo "no TorchRec for this machine: sharded tables are not tested"
	touch $@
