# Two commands do everything: `make demo` and `make test`. Each sets up .venv first if it is not there.

PYTHON ?= python3
BIN := .venv/bin
MINUTES ?= 10
SEED ?= 0

.PHONY: demo test lint types unit bench soak clean

demo: .venv/ready
	@$(BIN)/betavae demo

test: lint types unit

lint: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-cache

types: .venv/ready
	$(BIN)/mypy

unit: .venv/ready
	$(BIN)/pytest

bench: .venv/ready
	$(BIN)/python benchmarks/training.py --quick
	$(BIN)/python benchmarks/colour.py --quick
	$(BIN)/python benchmarks/roofline.py
	$(BIN)/python benchmarks/metrics.py --quick

soak: .venv/ready
	$(BIN)/python benchmarks/soak.py --minutes $(MINUTES) --seed $(SEED)

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "betavae needs Python 3.11 or later; name one with: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Setting up .venv: PyTorch and what belongs to it, some minutes the first time"
	@$(PYTHON) -m venv .venv \
	  || { echo "Python's venv module is missing; install it (Debian: apt-get install python3-venv)"; exit 1; }
	@{ $(BIN)/pip install --quiet --constraint constraints.txt torch \
	  && $(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'; } \
	  || { echo "Installing failed, for the reason above. Usual ones: no package index can be reached (see 'pip config list'),"; \
	       echo "or the disk is full: PyTorch wants up to 6 GB, here are $$(df -h . | awk 'NR == 2 {print $$4}') free."; exit 1; }
	@touch $@

clean:
	rm -rf .venv build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
