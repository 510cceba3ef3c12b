# `make demo` and `make test` do everything, `make docs` builds the documentation, `make dist` the sdist and the wheel. Each
# sets up .venv if it is not there.

PYTHON ?= python3
BIN := .venv/bin
MINUTES ?= 10
SEED ?= 0

.PHONY: demo test lint types unit docs bench soak dist clean

demo: .venv/ready
	@$(BIN)/betavae demo
	@echo "Next: $(BIN)/betavae explore runs/demo    opens the report in the browser"
	@echo "      $(BIN)/betavae zoo                  lists models that are trained already"
	@echo "      $(BIN)/betavae train --help         trains with settings of your own"

test: lint types unit

lint: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-cache

types: .venv/ready
	$(BIN)/mypy

unit: .venv/ready
	$(BIN)/pytest

docs: .venv/docs
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

bench: .venv/ready
	$(BIN)/python benchmarks/training.py --quick
	$(BIN)/python benchmarks/colour.py --quick
	$(BIN)/python benchmarks/roofline.py
	$(BIN)/python benchmarks/metrics.py --quick

soak: .venv/ready
	$(BIN)/python benchmarks/soak.py --minutes $(MINUTES) --seed $(SEED)

dist: .venv/dist
	rm -rf build dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "betavae needs Python 3.11 or later; name one with: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Setting up .venv: PyTorch and what belongs to it, some minutes the first time"
	@$(PYTHON) -m venv .venv \
	  || { echo "Python's venv module is missing; install it (Debian: apt-get install python3-venv)"; exit 1; }
	@{ $(BIN)/pip install --quiet --constraint constraints.txt torch \
	  && $(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'; } \
	  || { echo "Installing failed, for the reason above. Usual ones: no package index can be reached (see 'pip config list'),"; \
	       echo "or the disk is full: PyTorch wants up to 6 GB (its CPU build 1 GB: see README.md), here are $$(df -h . | awk 'NR == 2 {print $$4}') free."; exit 1; }
	@$(BIN)/python benchmarks/compile.py
	@touch $@

.venv/docs: .venv/ready
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]' \
	  || { echo "Installing what builds the documentation failed, for the reason above; is a package index reachable?"; exit 1; }
	@touch $@

.venv/dist: .venv/ready
	@$(BIN)/pip install --quiet build twine
	@touch $@

clean:
	rm -rf .venv docs/_build docs/gallery build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
