# Every target works on a fresh clone: it makes .venv first where that is missing or older than pyproject.toml.
# A Python 3.12 or 3.13 is looked for; PYTHON=/path/to/python names one.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Qubx writes below the home folder, so whatever imports it gets a home of its own.
WITH_HOME := home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && HOME="$$home"
TESTS ?= tests

.PHONY: demo test style types cover bench build clean
.DEFAULT_GOAL := test

$(STAMP): pyproject.toml
	@if ! $(BIN)/python -c pass 2>/dev/null; then \
	    python=$$(scripts/find_python.sh) && echo "making $(VENV) with $$python" \
	    && rm -rf $(VENV) && "$$python" -m venv $(VENV); fi
	@echo "installing into $(VENV): a few minutes the first time"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(STAMP)  ## Trade on a local venue for 20 s and compare the accounts.
	@$(WITH_HOME) $(BIN)/python examples/demo.py

test: $(STAMP)
	@$(WITH_HOME) $(BIN)/python -m pytest -n 2 --dist loadfile $(TESTS)

style: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: $(STAMP)
	@$(BIN)/mypy

cover: $(STAMP)
	@$(BIN)/coverage erase
	@$(WITH_HOME) $(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term $(TESTS)

bench: $(STAMP)
	@for script in benchmarks/bench_*.py benchmarks/report.py; do echo "== $$script"; $(WITH_HOME) $(BIN)/python $$script || exit 1; done

build: $(STAMP)  ## Make wheel and sdist, install the wheel in a clean environment, run the demo from there.
	@rm -rf dist
	@$(BIN)/python -m build --outdir dist
	@$(BIN)/python scripts/check_wheel.py dist

clean:
	@rm -rf $(VENV) build dist .coverage .coverage.* .*_cache .hypothesis *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
