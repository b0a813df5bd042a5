# Everything a person or CI does with this tree. Each target sets up what it needs.
# Needs: Python 3.11 to 3.13 with venv, git, make. `make PYTHON=/path/to/python3.12 setup` chooses the Python.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input install
SUITABLE := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
COMPILE := $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-annotate --no-header \
	--no-emit-options --no-emit-index-url --no-emit-find-links --no-emit-trusted-host
# The generator knows only the Python it runs on; the lists are the same on 3.11, 3.12 and 3.13 (tests/rules compares the markers).
LOCKS := requirements/runtime.lock requirements/dev.lock requirements/clients.lock
PYTEST_ARGS ?=
# What measures the time of tasks is run by itself, after the rest, which takes as many processes as there are CPUs.
ALONE := tests/e2e/test_task_limits_e2e.py tests/node/test_task_limits.py

.PHONY: help setup demo test check bench docs lock clean

help:
	@echo 'make setup   install everything into $(VENV), from the locks, with hashes'
	@echo 'make demo    start the service and run a real workflow through boto3'
	@echo 'make test    run all tests (PYTEST_ARGS=… goes to pytest, which is then run once)'
	@echo 'make check   style, types, rules of the house, generated pages'
	@echo 'make bench   measure, side by side with bare engines'
	@echo 'make docs    write the generated pages again'
	@echo 'make lock    resolve the locks again (after a change of requirements)'

# pip is what a venv gets last: a venv that was begun and not finished is made again.
$(VENV)/bin/pip:
	@python='$(PYTHON)'; \
	for candidate in $${python:-python3.13 python3.12 python3.11 python3}; do \
		if "$$candidate" -c '$(SUITABLE)' 2>/dev/null; then python=$$candidate; found=1; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
		echo 'make: no Python 3.11, 3.12 or 3.13 with venv was found (Debian: apt-get install python3-venv); or say make PYTHON=/path/to/python' >&2; \
		exit 1; \
	fi; \
	echo "making $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv $(VENV)

$(VENV)/runtime.stamp: requirements/runtime.lock pyproject.toml | $(VENV)/bin/pip
	@echo 'installing what the service needs'
	@$(PIP) --require-hashes --no-deps --only-binary :all: -r requirements/runtime.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: requirements/dev.lock requirements/clients.lock $(VENV)/runtime.stamp
	@echo 'installing what tests and checks need'
	@$(PIP) --require-hashes --no-deps --only-binary :all: -r requirements/dev.lock
	@$(PIP) --require-hashes --no-deps --only-binary :all: -r requirements/clients.lock
	@touch $@

# Without maven or a JDK everything but Nextflow works; `runomics doctor` says how to get it.
$(VENV)/nextflow.stamp: $(wildcard nextflow/pom.xml nextflow/jars.sha256) $(shell find nextflow/src nextflow/plugins -type f) $(VENV)/runtime.stamp
	@if command -v mvn >/dev/null && command -v javac >/dev/null; then \
		echo 'installing Nextflow and its adapter'; \
		$(BIN)/runomics engines install nextflow --only-when-changed >/dev/null && touch $@ || \
			echo 'make: Nextflow is not installed; runomics engines install nextflow tries again' >&2; \
	else \
		echo 'make: no mvn or javac: Nextflow is left out' >&2; \
	fi

setup: $(VENV)/dev.stamp $(VENV)/nextflow.stamp
	@echo "ready: $(BIN)/runomics --help"

demo: $(VENV)/runtime.stamp
	@$(BIN)/python examples/demo/demo.py

test: $(VENV)/dev.stamp $(VENV)/nextflow.stamp
ifeq ($(strip $(PYTEST_ARGS)),)
	$(BIN)/python -m pytest -n auto --dist loadfile $(addprefix --ignore=,$(ALONE))
	$(BIN)/python -m pytest $(ALONE)
else
	$(BIN)/python -m pytest $(PYTEST_ARGS)
endif

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/rules tests/docs
	$(BIN)/python docs/generate.py --check
	$(BIN)/python docs/provenance.py

bench: $(VENV)/dev.stamp $(VENV)/nextflow.stamp
	$(BIN)/python benchmarks/run.py

docs: $(VENV)/dev.stamp
	$(BIN)/python docs/generate.py

lock: | $(VENV)/bin/pip-compile
	$(COMPILE) $(LOCK_ARGS) -o requirements/runtime.lock pyproject.toml requirements/build.in
	$(COMPILE) $(LOCK_ARGS) -o requirements/dev.lock requirements/dev.in
	$(COMPILE) $(LOCK_ARGS) -o requirements/clients.lock requirements/clients.in

$(VENV)/bin/pip-compile:
	@$(MAKE) --no-print-directory setup

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
