# gpubroker: `make up` starts everything; `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
export PYTHONDONTWRITEBYTECODE :=  # some images set it; every process would compile Django anew
PYTEST_ARGS ?= -n 2 --dist loadgroup --no-loadscope-reorder --durations=25 --durations-min=4

.PHONY: help up test prove lint screenshots clean tools
.DEFAULT_GOAL := help

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: $(VENV)/.installed ## Install what is missing and start the dashboard, the worker and, without keys, a simulator
	@exec $(RUN) manage.py up

test: $(VENV)/.installed-test tools ## Run all tests (PYTEST_ARGS= to change how)
	$(RUN) -m pytest $(PYTEST_ARGS)

prove: $(VENV)/.installed-test tools ## Prove the safety rules, a quarter of an hour or more; figures in var/prove.json (PROVE=full: hours)
	$(RUN) -m tests.prove $(PROVE_PARTS)

lint: $(VENV)/.installed-test ## Check style, Django's own checks and missing migrations
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(RUN) manage.py check --fail-level WARNING
	$(RUN) manage.py makemigrations --check --dry-run

screenshots: $(VENV)/.installed-test tools ## Make the pictures of the README again, with a simulator (3 minutes)
	$(RUN) -m bench.screenshots docs

clean: ## Remove the environment and caches; data in var/ stays
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@.ci/venv $(PYTHON) $(VENV)

# Stamps: nothing is installed again while pyproject.toml is unchanged. The application runs from
# this directory, so only what it depends on goes into the environment.
$(VENV)/.installed: pyproject.toml .ci/install | $(VENV)/bin/python
	@.ci/install $(RUN)
	@touch $@

$(VENV)/.installed-test: pyproject.toml .ci/install | $(VENV)/bin/python
	@.ci/install $(RUN) test
	@touch $@ $(VENV)/.installed

tools: $(VENV)/.installed-test
	@.ci/tools
