# Everything a person types. Each target sets up what it needs; nothing outside .venv is installed.

PYTHON ?= python3
JOB ?= contracts
DIR ?= sample_docs
BIN := .venv/bin
ENDPOINT_OPTION := $(if $(ENDPOINT),--endpoint '$(ENDPOINT)')

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# For the build of the package too, not only for what it depends on.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

.PHONY: help run-job retry-job plan-job status-job report-job check-job salvage-job test test-ray check torture corpus bench bench-ray sample-docs clean

help:
	@echo "make run-job JOB=contracts     read the job's folder and write its reports (ENDPOINT=yourouter: live)"
	@echo "make retry-job JOB=contracts   try failed chunks again"
	@echo "make plan-job JOB=contracts    what a run would do, and what it would cost"
	@echo "make status-job JOB=contracts  what is known, what failed and why"
	@echo "make test                      every test"
	@echo "make test-ray                  the tests that kill parts of a Ray cluster on this machine"
	@echo "make check                     lint, types and the floors of the architecture"
	@echo "make torture                   kills, faults, full disks and odd clocks; the books checked after each"
	@echo "make corpus DIR=sample_docs     open and cut every PDF of a folder: nothing lost, nothing changed"
	@echo "make bench                     the figures of docs/figures.md, measured here"
	@echo "make bench-ray                  the same run on a Ray cluster of this machine, beside the local engine"
	@echo "make sample-docs               write the sample documents again, the same bytes"

run-job retry-job plan-job status-job report-job check-job salvage-job: .venv/ready
	@$(BIN)/docpipe $(@:-job=) '$(JOB)' $(ENDPOINT_OPTION)

test: .venv/ready-to-develop
	@$(BIN)/pytest -n auto --maxprocesses 8 --dist worksteal

test-ray: .venv/ready-for-ray
	@$(BIN)/pytest -m ray tests/test_engines.py tests/test_ray_errors.py tests/test_ray_kills.py tests/test_scale.py

check: .venv/ready-to-develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

torture: .venv/ready-to-develop
	@$(BIN)/python -m tools.torture

corpus: .venv/ready-to-develop
	@$(BIN)/python -m tools.corpus '$(DIR)'

bench: .venv/ready-to-develop
	@$(BIN)/python -m tools.bench

bench-ray: .venv/ready-for-ray
	@$(BIN)/python -m tools.bench_ray

sample-docs: .venv/ready-to-develop
	@$(BIN)/python -m tools.sample_docs

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("docpipe needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; name one with PYTHON=... make" if sys.version_info < (3, 11) else 0)'
	@echo "setting up .venv (once)" >&2
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --editable .
	@touch $@

.venv/ready-to-develop: .venv/ready
	@echo "setting up the tools for tests and checks (once)" >&2
	@$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

.venv/ready-for-ray: .venv/ready-to-develop
	@echo "setting up ray (once)" >&2
	@$(BIN)/pip install --quiet --editable '.[dev,ray]'
	@touch $@
