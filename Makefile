# Everything a person or a CI runs. Each target sets up what it needs; `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
PY := $(VENV)/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Builds are pinned too: older pips read the first name there, newer ones the second.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_BUILD_CONSTRAINT := $(CURDIR)/constraints.txt
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

DIGITS := build/digits
WORKSPACE := .keepstone
HOST := 127.0.0.1
PORT := 8443
# The bench's servers run in their peers' environments, whose packages ours lacks.
TYPED_BENCH := $(wildcard bench/*.py bench/planted/*.py bench/corpus/*.py bench/corpus/families/*.py)
LINTED := src tests tools bench examples docs

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- the environment -----------------------------------------------------------------------------

$(VENV)/bin/pip:
	@tools/venv.sh $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "Installing Keepstone and what the digits example needs" >&2
	@$(PY) -m pip install -qq --editable '.[digits]'
	@touch $@

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "Installing Keepstone and what the demonstration needs" >&2
	@$(PY) -m pip install -qq --editable '.[demo]'
	@touch $@ $(VENV)/.run

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "Installing Keepstone and its tools" >&2
	@$(PY) -m tools.extras | xargs $(PY) -m pip install -qq --editable
	@touch $@ $(VENV)/.run $(VENV)/.demo

.PHONY: dev
dev: $(VENV)/.dev ## Make the environment in .venv, with every tool

.PHONY: pins
pins: $(VENV)/.dev ## Write constraints.txt from what .venv holds
	@$(PY) -m tools.pins

# --- the main job --------------------------------------------------------------------------------

.PHONY: run
run: $(VENV)/.run ## Train a digits classifier, then serve it secured (Ctrl-C ends it)
	@$(PY) examples/digits/train.py --out $(DIGITS)
	@test -e $(WORKSPACE)/workspace.json || keepstone init --workspace $(WORKSPACE)
	@keepstone signers list --workspace $(WORKSPACE) | grep -q '^digits-training ' \
	  || keepstone signers add digits-training $(DIGITS)/publisher.pub.pem --role publisher \
	    --workspace $(WORKSPACE)
	@exec keepstone up $(DIGITS)/digits.onnx --workspace $(WORKSPACE) --host $(HOST) --port $(PORT)

.PHONY: demo
demo: $(VENV)/.demo ## Attack the endpoint in every way it promises to withstand; 0 if all held
	@$(PY) examples/demo/demo.py

# --- quality -------------------------------------------------------------------------------------

.PHONY: check
check: $(VENV)/.dev ## Format, lint, types, import rings, docs, README, help texts, a little fuzzing
	@ruff format --check $(LINTED)
	@ruff check $(LINTED)
	@mypy
	@MYPYPATH=src:examples/demo mypy --explicit-package-bases tools examples $(TYPED_BENCH)
	@$(PY) -m tools.rings
	@$(PY) -m tools.pins --check
	@$(PY) -m tools.docs_cli --check
	@$(PY) -m tools.docs_errors --check
	@$(PY) -m tools.docs_attacks --check
	@$(PY) -m tools.readme
	@$(PY) -m tools.fuzz 5
	@$(PY) -m sphinx -W --keep-going -q -b html docs build/docs

.PHONY: format
format: $(VENV)/.dev ## Format the code and mend what the linter can
	@ruff format $(LINTED)
	@ruff check --fix $(LINTED)

.PHONY: generate
generate: $(VENV)/.dev ## Rewrite the pages that are made from the code
	@$(PY) -m tools.docs_cli
	@$(PY) -m tools.docs_errors
	@$(PY) -m tools.docs_attacks

.PHONY: test
test: $(VENV)/.dev programs ## The fast tests
	@$(PY) -m pytest -m "not slow" $(if $(COVERAGE),--cov --cov-report=json:build/coverage.json) $(PYTEST)
	@$(if $(COVERAGE),$(PY) -m tools.floors build/coverage.json,true)

.PHONY: test-slow
test-slow: $(VENV)/.dev programs ## The slow tests: kills under load, interoperability, install size
	@$(PY) -m pytest -m slow --timeout 900 $(PYTEST)

.PHONY: coverage
coverage: ## The fast tests with branch coverage, held to its floors
	@$(MAKE) test COVERAGE=1

.PHONY: bench
bench: $(VENV)/.dev programs ## Measure against named peers; writes build/bench.json
	@$(PY) -m bench.run $(BENCH)

.PHONY: docs
docs: $(VENV)/.dev ## Build the documentation into build/docs
	@$(PY) -m sphinx -W --keep-going -q -b html docs build/docs
	@echo build/docs/index.html

.PHONY: programs
programs:
	@tools/programs.sh cc:gcc cc:libc6-dev wrk:wrk curl:curl softhsm2-util:softhsm2 \
	  umoci:umoci buildah:buildah skopeo:skopeo docker-registry:docker-registry \
	  chromium:chromium

.PHONY: clean
clean: ## Remove what was built; the environment and workspaces stay
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
