# Every target sets up what it needs: a .venv with the exact versions of constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: chaos demo demo-kube test test-slow test-unified test-kube test-faults contract bench bench-kube check docs clean

demo: $(READY)  ## serve, run real tasks on real files, show and check what came out
	@$(BIN)/tesk demo

test: $(READY)  ## every test that this machine can run; the rest is skipped with a reason
	@$(BIN)/pytest $(PYTEST_ARGS)

test-slow: $(READY)  ## the tests that take long: thousands of tasks, fifty at once, more histories
	@$(BIN)/pytest -m 'slow and not kube' -n 2 $(PYTEST_ARGS)

test-unified: $(READY)  ## limits where control groups are of version 2, on a kernel of their own; needs no rights
	@$(BIN)/python -m tests.unified $(UNIFIED_ARGS)

test-kube: $(READY)  ## the tests on a real cluster: that of KUBECONFIG, or the one that ../shared/kube starts
	@$(BIN)/python -m tests.kube
	@$(BIN)/pytest -m 'kube and not crowd' -n 2 --dist loadfile $(PYTEST_ARGS)
	@$(BIN)/pytest -m 'kube and crowd' -n 0 $(PYTEST_ARGS)

test-faults: $(READY)  ## everything that can be taken from a running task, at each step; FAULTS_ARGS='--seed 7'
	@$(BIN)/python -m tests.kube
	@$(BIN)/pytest -m faults -n 0 -s $(FAULTS_ARGS) tests/kube/faults

chaos: $(READY)  ## a server killed again and again, full disks, hostile tasks; CHAOS_ARGS='--seed 7'
	@$(BIN)/pytest -m chaos -n 0 $(CHAOS_ARGS) tests/chaos

demo-kube: $(READY)  ## the demo's workflow on that cluster in both layouts, with its files in S3, in namespaces that go afterwards
	@$(BIN)/python -m tests.kube.demo

bench-kube: $(READY)  ## tasks on that cluster beside bare Jobs and pods, and build/bench.json
	@$(BIN)/python -m bench kube $(BENCH_ARGS)

contract: $(READY)  ## the server against the official document, by schemathesis in an environment of its own
	@$(BIN)/python -m tests.contract $(CONTRACT_ARGS)

bench: $(READY)  ## a table of figures beside their goals, and build/bench.json
	@$(BIN)/python -m bench $(BENCH_ARGS)

check: $(READY)  ## lint, format, types, floors, docs
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python docs/check.py

$(READY): pyproject.toml constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "TESK needs Python 3.11 or newer; say which: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || \
	  { echo "python3 cannot make a virtual environment; install its venv module (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt hatchling editables setuptools
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

docs: $(READY)  ## write the pages that are made from the code
	@$(BIN)/python docs/check.py --write

clean:
	rm -rf $(VENV) build
