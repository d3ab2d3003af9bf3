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
OPENAI := tests/openai_sdk
# npm's is left out where there is no npm: its tests are then skipped.
OTHER_CLIENTS := langchain litellm llm $(if $(shell command -v npm),node)
OPENAI_STAMP := $(VENV)-openai/.setup-$(shell cat $(OPENAI)/requirements.txt | cksum | cut -d' ' -f1)

# Each of the test processes would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup lock run test test-heavy simulate fleet lint format fuzz fuzz-schemas fuzz-requests check-terraform scan \
	check-all check-config bench bench-ledger bench-parallel bench-waiting recording bundle bad-input new-endpoint setup-openai openai-sdk \
	openai-sdk-heavy lock-openai setup-browser browser

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(SETUP_STAMP) ## install everything into .venv (PYTHON=python3.11 selects an interpreter)

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

lock: $(SETUP_STAMP) ## write both requirements files from pyproject.toml; ARGS=--upgrade updates the versions
	$(COMPILE) --extra server --extra parallel --group tests --output-file tests/requirements.txt $(ARGS)
	$(COMPILE) --extra server --group build --constraint tests/requirements.txt --output-file requirements.txt $(ARGS)

run: $(RUN_STAMP) ## serve every function on http://127.0.0.1:5004 (offline Gemini without a key; reads .env)
	$(BIN)/python -m functions.serve --allow-anonymous generate,generate_text,sessions,openai_api

# In three parts (tests/conftest.py says which folder is in which): most tests share the cores; those that measure real time
# follow, one by one. ARGS may choose tests of one part only: pytest's status
# 5 says that a part has none.
test: $(SETUP_STAMP) ## run all tests but the heavy ones; ARGS="-k chat" selects tests, WORKERS=2 sets the number of processes
	@result=5; \
	for part in parallel system attacks; do \
		case $$part in parallel) processes=$(WORKERS);; *) processes=0;; esac; \
		status=0; \
		$(BIN)/python -m pytest --part $$part -m "not heavy" -n $$processes --dist loadfile --no-loadscope-reorder $(ARGS) || status=$$?; \
		test $$status -ne 5 || continue; \
		test $$status -eq 0 || exit $$status; \
		result=0; \
	done; \
	exit $$result

test-heavy: $(SETUP_STAMP) ## run the tests marked heavy, which take long; ARGS selects tests
	$(BIN)/python -m pytest -m heavy $(ARGS)
	$(if $(ARGS),,$(MAKE) openai-sdk-heavy)

# OpenAI's SDK has an environment of its own, without this project's packages, as its users have it.
setup-openai: $(OPENAI_STAMP) ## install OpenAI's SDK into .venv-openai

$(OPENAI_STAMP): $(SETUP_STAMP)
	test -x $(VENV)-openai/bin/python || $(PYTHON) -m venv $(VENV)-openai
	VIRTUAL_ENV=$(VENV)-openai $(BIN)/uv pip install --quiet --require-hashes -r $(OPENAI)/requirements.txt \
		|| $(VENV)-openai/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(OPENAI)/requirements.txt
	rm -f $(VENV)-openai/.setup-*
	touch $@

openai-sdk: $(OPENAI_STAMP) ## call the gateway through openai-python, in an environment of its own; ARGS selects tests
	$(VENV)-openai/bin/python -m pytest -c $(OPENAI)/pytest.ini -m "not heavy" $(or $(ARGS),$(OPENAI))

openai-sdk-heavy: $(OPENAI_STAMP) $(OTHER_CLIENTS:%=$(VENV)-openai-%/.setup) ## the same with other clients, and under load
	$(VENV)-openai/bin/python -m pytest -c $(OPENAI)/pytest.ini -m heavy $(or $(ARGS),$(OPENAI))

# Each client has an environment of its own: they disagree about versions.
$(VENV)-openai-%/.setup: $(OPENAI)/clients/%.txt $(SETUP_STAMP)
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	VIRTUAL_ENV=$(@D) $(BIN)/uv pip install --quiet --require-hashes -r $< \
		|| $(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	touch $@

$(VENV)-openai-node/.setup: $(OPENAI)/clients/package-lock.json
	mkdir -p $(@D)
	cp $(OPENAI)/clients/package.json $< $(@D)
	npm ci --silent --prefix $(@D)
	touch $@

setup-browser: ## install Debian's Chromium for the tests in a browser, where apt-get can
	.ci/chromium

browser: $(SETUP_STAMP) setup-browser ## use the page at /try, and EventSource, in a headless Chromium; screenshots in dist/try
	$(BIN)/python -m pytest --part browser tests/browser -n 2 --dist loadfile $(ARGS)

lock-openai: $(SETUP_STAMP) ## write the requirements of OpenAI's clients; ARGS=--upgrade updates the versions
	for file in $(OPENAI)/requirements $(patsubst %.in,%,$(wildcard $(OPENAI)/clients/*.in)); do \
		$(BIN)/uv pip compile $$file.in --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
			--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock-openai" \
			--output-file $$file.txt $(ARGS) || exit 1; \
	done

simulate: $(SETUP_STAMP) ## run 10,000 simulated deployments; SEEDS sets their number, FIRST the first seed
	$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),10000) --first $(or $(FIRST),0)

fleet: $(SETUP_STAMP) ## simulate what a fleet's ledger costs and serves, by number of instances; ONLY=20-300,40- selects rows
	$(BIN)/python -m tests.simulation.fleet $(if $(ONLY),--only $(ONLY))

check-terraform: $(SETUP_STAMP) ## test the deployment offline; TERRAFORM_OFFLINE names the folder with the stand-in provider
	$(BIN)/python -m pytest tests/terraform -n 2 --dist loadfile $(ARGS)

check-all: lint test test-heavy scan ## check style and types, run all tests, scan the deployment

# Checkov has many requirements, so it gets its own environment.
scan: $(SETUP_STAMP) ## scan the deployment's plan for weaknesses
	test -x $(VENV)-checkov/bin/checkov || $(PYTHON) -m venv $(VENV)-checkov
	$(VENV)-checkov/bin/python -m pip install --quiet --disable-pip-version-check $(CHECKOV)
	rm -f dist/plan.json
	$(BIN)/python -m tests.terraform.plan_json dist/plan.json
	test ! -e dist/plan.json || $(VENV)-checkov/bin/checkov --config-file terraform/.checkov.yaml -f dist/plan.json

lint: $(SETUP_STAMP) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(SETUP_STAMP) ## format the sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

fuzz: fuzz-schemas fuzz-requests ## send random requests and check random schemas, SECONDS=60 each; ARGS="--seed 1" repeats a run

# Each uses about one core: `make --jobs=2 fuzz` runs both at once.
fuzz-schemas: $(SETUP_STAMP)
	$(BIN)/python -m tests.fuzz.schemas --seconds $(SECONDS) $(ARGS)

fuzz-requests: $(SETUP_STAMP)
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(ARGS)

check-config: $(SETUP_STAMP) ## list everything that is wrong with a configuration (FILE=.env or terraform/terraform.tfvars)
	$(BIN)/python -m functions.check_config $(FILE)

bench: $(SETUP_STAMP) ## measure the cost of a request; ARGS are options of tests.benchmarks
	$(BIN)/python -m tests.benchmarks $(ARGS)

bench-ledger: $(SETUP_STAMP) ## run the exactness board in the background (ONLY=300-saturated: one cell, here; FORCE=1, DURATION=60, WINDOW=6)
	$(BIN)/python -m tests.benchmarks.board $(if $(ONLY),--only $(ONLY)) $(if $(FORCE),--force) \
		$(if $(DURATION),--duration $(DURATION)) $(if $(WINDOW),--window $(WINDOW))

bench-parallel: $(SETUP_STAMP) ## measure the batch library: at a limit, bound by tokens, beside gateways (ARGS=--quick)
	$(BIN)/python -m tests.benchmarks.parallel $(ARGS)

recording: $(SETUP_STAMP) ## record a run of gemini-parallel as an SVG, for its README
	$(BIN)/python -m tests.benchmarks.parallel.recording

bench-waiting: $(SETUP_STAMP) ## measure the memory of waiting requests, and how fast others are answered meanwhile
	$(BIN)/python -m tests.benchmarks.waiting

bundle: $(SETUP_STAMP) ## build dist/bundle.zip, which every function is deployed from
	$(BIN)/python -m functions.bundle

bad-input: $(SETUP_STAMP) ## write functions/BAD_INPUT.md from the responses to the tests' requests
	$(BIN)/python -m tests.bad_input

new-endpoint: $(SETUP_STAMP) ## create a working endpoint: make new-endpoint NAME=translation
	@$(BIN)/python -m functions.scaffold "$(NAME)"
