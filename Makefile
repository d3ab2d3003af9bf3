# `make` lists the commands. Everything runs in .venv, which is updated when the requirements change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CHECKOV := checkov==3.3.30
SECONDS ?= 60
# Twice the cores of a small machine: most tests wait.
WORKERS ?= 4
# Resolves for every Python from 3.11 and every platform, and writes no address of a package index.
COMPILE = $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
SETUP_STAMP := $(VENV)/.setup-$(shell cat requirements.txt tests/requirements.txt pyproject.toml | cksum | cut -d' ' -f1)
RUN_STAMP := $(VENV)/.run-$(shell cat requirements.txt pyproject.toml | cksum | cut -d' ' -f1)

.DEFAULT_GOAL := help
.PHONY: help setup lock run test test-heavy simulate fleet lint format fuzz check-terraform scan check-all check-config bench \
	bench-ledger bundle bad-input new-endpoint

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(SETUP_STAMP) ## install everything into .venv (PYTHON=python3.11 chooses an interpreter)

# uv installs what a requirements file lists (with hashes, which it checks), then the checkout itself, editable. uv does not
# read pip's configuration: where an index is configured for pip alone, pip installs the same, more slowly.
define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; set PYTHON.")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@sed -n '/^uv==/,/[^\\]$$/p' tests/requirements.txt >$(VENV)/uv.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --require-hashes -r $(1) \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
endef

$(SETUP_STAMP):
	$(call install,tests/requirements.txt)
	rm -f $(VENV)/.setup-* $(VENV)/.run-*
	touch $@

# Installs only what the server needs, so a first run is ready in seconds. A complete environment has it already.
$(RUN_STAMP):
	$(if $(wildcard $(SETUP_STAMP)),,$(call install,requirements.txt))
	rm -f $(VENV)/.run-*
	touch $@

lock: $(SETUP_STAMP) ## write both requirements files from pyproject.toml; ARGS=--upgrade takes new versions
	$(COMPILE) --extra server --extra parallel --group tests --output-file tests/requirements.txt $(ARGS)
	$(COMPILE) --extra server --group build --constraint tests/requirements.txt --output-file requirements.txt $(ARGS)

run: $(RUN_STAMP) ## serve every function on http://127.0.0.1:5004 (offline Gemini without a key; reads .env)
	$(BIN)/python -m functions.serve --allow-anonymous generate,generate_text

# Tests marked alone measure real time: they run one at a time, after the others. ARGS may choose tests of one part only;
# pytest's status 5 says that a part has none.
test: $(SETUP_STAMP) ## run the tests (but not the heavy ones); ARGS="-k chat" chooses, WORKERS=2 sets the processes
	@first=0; second=0; \
	$(BIN)/python -m pytest -m "not heavy and not alone" -n $(WORKERS) --dist loadfile $(ARGS) || first=$$?; \
	test $$first -eq 0 -o $$first -eq 5 || exit $$first; \
	$(BIN)/python -m pytest -m "not heavy and alone" $(ARGS) || second=$$?; \
	test $$second -ne 5 || exit $$first; \
	exit $$second

test-heavy: $(SETUP_STAMP) ## run the slow tests, those marked heavy
	$(BIN)/python -m pytest -m heavy $(ARGS)

simulate: $(SETUP_STAMP) ## run 10,000 simulated deployments; SEEDS= and FIRST= choose
	$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),10000) --first $(or $(FIRST),0)

fleet: $(SETUP_STAMP) ## simulate what a fleet's ledger costs and yields, by the number of instances; ONLY=20-300,40- chooses rows
	$(BIN)/python -m tests.simulation.fleet $(if $(ONLY),--only $(ONLY))

check-terraform: $(SETUP_STAMP) ## check the deployment offline; TERRAFORM_OFFLINE names the stand-in provider's folder
	$(BIN)/python -m pytest tests/terraform -n 2 --dist loadfile $(ARGS)

check-all: lint test test-heavy scan ## check style and types, run all tests, scan the deployment

# Checkov has many requirements, so it gets its own environment.
scan: $(SETUP_STAMP) ## look for weaknesses in the deployment's plan
	test -x $(VENV)-checkov/bin/checkov || $(PYTHON) -m venv $(VENV)-checkov
	$(VENV)-checkov/bin/python -m pip install --quiet --disable-pip-version-check $(CHECKOV)
	rm -f dist/plan.json
	$(BIN)/python -m tests.terraform.plan_json dist/plan.json
	test ! -e dist/plan.json || $(VENV)-checkov/bin/checkov --config-file terraform/.checkov.yaml -f dist/plan.json

lint: $(SETUP_STAMP) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(SETUP_STAMP) ## put the sources into the agreed format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

fuzz: $(SETUP_STAMP) ## send requests that the specification allows and others, and check random schemas, SECONDS=60 each; ARGS="--seed 1" repeats
	$(BIN)/python -m tests.fuzz.schemas --seconds $(SECONDS) $(ARGS)
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(ARGS)

check-config: $(SETUP_STAMP) ## name everything that is wrong with a configuration (FILE=.env, or terraform/terraform.tfvars)
	$(BIN)/python -m functions.check_config $(FILE)

bench: $(SETUP_STAMP) ## measure what a request costs; ARGS chooses
	$(BIN)/python -m tests.benchmarks $(ARGS)

bench-ledger: $(SETUP_STAMP) ## measure the exactness board, detached (ONLY=300-saturated: here; FORCE=1, DURATION=60, WINDOW=6)
	$(BIN)/python -m tests.benchmarks.board $(if $(ONLY),--only $(ONLY)) $(if $(FORCE),--force) \
		$(if $(DURATION),--duration $(DURATION)) $(if $(WINDOW),--window $(WINDOW))

bundle: $(SETUP_STAMP) ## build dist/bundle.zip, which every function is deployed from
	$(BIN)/python -m functions.bundle

bad-input: $(SETUP_STAMP) ## write functions/BAD_INPUT.md from what the tests see
	$(BIN)/python -m tests.bad_input

new-endpoint: $(SETUP_STAMP) ## add an endpoint that works at once: make new-endpoint NAME=translation
	@$(BIN)/python -m functions.scaffold "$(NAME)"
