# `make` lists what there is. Everything runs in .venv, which is made again when the requirements change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NEEDED := requirements.txt tests/requirements.txt pyproject.toml
STAMP := $(VENV)/.setup-$(shell cat $(NEEDED) | cksum | cut -d' ' -f1)

.DEFAULT_GOAL := help
.PHONY: help setup run test test-heavy simulate lint format bench bundle new-endpoint

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

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

lint: $(STAMP) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## put the sources into the agreed format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## measure the promises; ARGS chooses
	$(BIN)/python -m tests.benchmarks $(ARGS)

bundle: $(STAMP) ## build dist/bundle.zip, which every function is deployed from
	$(BIN)/python -m functions.bundle

new-endpoint: $(STAMP) ## add an endpoint that works at once: make new-endpoint NAME=translation
	@$(BIN)/python -m functions.scaffold "$(NAME)"
