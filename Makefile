# `make` lists what there is. Everything runs in .venv, which is made again when the requirements change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CHECKOV := checkov==3.3.30
NEEDED := requirements.txt tests/requirements.txt pyproject.toml
SECONDS ?= 60
STAMP := $(VENV)/.setup-$(shell cat $(NEEDED) | cksum | cut -d' ' -f1)

.DEFAULT_GOAL := help
.PHONY: help setup run test test-heavy simulate lint format fuzz check-terraform scan check-all check-config bench bench-ledger bundle \
	bad-input new-endpoint

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## install everything into .venv (PYTHON=python3.11 chooses an interpreter)

# pyproject.toml is among what the stamp is made from: the editable install reads it.
$(STAMP): $(NEEDED)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; set PYTHON.")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-r requirements.txt -r tests/requirements.txt --editable .
	rm -f $(VENV)/.setup-*
	touch $@

run: $(STAMP) ## serve every function on http://127.0.0.1:5004 (offline Gemini without a key; reads .env)
	$(BIN)/python -m functions.serve --allow-anonymous generate,generate_text,sessions,openai_api

test: $(STAMP) ## run the tests (but not the heavy ones); ARGS="-k chat" chooses
	$(BIN)/python -m pytest -m "not heavy" $(ARGS)

test-heavy: $(STAMP) ## run the slow tests, those marked heavy
	$(BIN)/python -m pytest -m heavy $(ARGS)

simulate: $(STAMP) ## go through 10,000 simulated deployments; SEEDS= and FIRST= choose
	$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),10000) --first $(or $(FIRST),0)

check-terraform: $(STAMP) ## check the deployment offline; TERRAFORM_OFFLINE names the stand-in provider's folder
	$(BIN)/python -m pytest tests/terraform $(ARGS)

check-all: lint test test-heavy scan ## check style and types, run all tests, scan the deployment

# In an environment of its own: its many requirements are not ours.
scan: $(STAMP) ## look for weaknesses in the deployment's plan
	test -x $(VENV)-checkov/bin/checkov || $(PYTHON) -m venv $(VENV)-checkov
	$(VENV)-checkov/bin/python -m pip install --quiet --disable-pip-version-check $(CHECKOV)
	rm -f dist/plan.json
	$(BIN)/python -m tests.terraform.plan_json dist/plan.json
	test ! -e dist/plan.json || $(VENV)-checkov/bin/checkov --config-file terraform/.checkov.yaml -f dist/plan.json

lint: $(STAMP) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## put the sources into the agreed format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

fuzz: $(STAMP) ## ask what the specification allows and what it does not, and check random schemas, SECONDS=60 each; ARGS="--seed 1" repeats
	$(BIN)/python -m tests.fuzz.schemas --seconds $(SECONDS) $(ARGS)
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(ARGS)

check-config: $(STAMP) ## name everything that is wrong with a configuration (FILE=.env, or terraform/terraform.tfvars)
	$(BIN)/python -m shared.ops.check_config $(FILE)

bench: $(STAMP) ## measure what a request costs; ARGS chooses
	$(BIN)/python -m tests.benchmarks $(ARGS)

bench-ledger: $(STAMP) ## measure the exactness board, detached (ONLY=300-saturated: here; FORCE=1, DURATION=60, WINDOW=6)
	$(BIN)/python -m tests.benchmarks.board $(if $(ONLY),--only $(ONLY)) $(if $(FORCE),--force) \
		$(if $(DURATION),--duration $(DURATION)) $(if $(WINDOW),--window $(WINDOW))

bundle: $(STAMP) ## build dist/bundle.zip, which every function is deployed from
	$(BIN)/python -m functions.bundle

bad-input: $(STAMP) ## write functions/BAD_INPUT.md from what the tests see
	$(BIN)/python -m tests.bad_input

new-endpoint: $(STAMP) ## add an endpoint that works at once: make new-endpoint NAME=translation
	@$(BIN)/python -m functions.scaffold "$(NAME)"
