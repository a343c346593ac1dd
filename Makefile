# Every target that needs the environment builds it first (scripts/setup.sh returns at once when nothing changed).
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
CODE := protocols privacy governance parties
ALL_PYTHON := $(CODE) tests scripts $(wildcard examples benchmarks)
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help setup demo test check lint types contracts drift format proto soak bench image-check clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 16

setup: ## build .venv; does nothing when it is up to date
	@bash scripts/setup.sh

demo: setup ## three institutions train together, a researcher queries: build/demo/summary.json
	@$(BIN)/python examples/three_institutions.py --out build/demo

test: setup check ## everything that must pass before a change lands
	$(BIN)/python -m pytest -q

check: lint types contracts drift ## lint, strict types, import contracts, drift of generated things

lint: setup
	$(BIN)/ruff format --check $(ALL_PYTHON)
	$(BIN)/ruff check $(ALL_PYTHON)
	$(BIN)/python scripts/check_tree.py

types: setup
	$(BIN)/mypy

contracts: setup
	$(BIN)/lint-imports

drift: setup
	$(BIN)/python scripts/generate_wire.py --check

format: setup ## format and repair what the linter can
	$(BIN)/ruff format $(ALL_PYTHON)
	$(BIN)/ruff check --fix $(ALL_PYTHON)

proto: setup ## generate parties/wire/generated from proto/
	$(BIN)/python scripts/generate_wire.py

soak: setup ## 10^9 truncations: no error above one unit in the last place (long)
	$(BIN)/python benchmarks/soak_truncation.py

bench: setup ## the engine beside CrypTen's own, same work, same run (long)
	$(BIN)/python benchmarks/bench_engine.py

image-check: setup ## run the image's steps outside Docker in clean Debian roots; IMAGE_CHECK="..." passes options (minutes)
	$(BIN)/python scripts/run_image_steps.py $(IMAGE_CHECK)

clean: ## remove what was built, except .venv
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	find $(ALL_PYTHON) -name __pycache__ -type d -prune -exec rm -rf {} +
