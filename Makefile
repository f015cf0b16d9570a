# Every target makes the virtual environment it needs. `make` alone lists them.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
OUT := out/quickstart
PYTEST = $(VENV)/bin/pytest -n auto --dist loadfile --no-loadscope-reorder --ignore=tests/deploy

# Images of Python set it: every process would compile every module that it imports again, torch's for 2 s.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-all campaign test-cluster test-kubernetes coverage image lint format ui compile clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.run ## A whole small study: expert games, 30 agents, played, fitted, forecast (4 to 10 minutes)
	$(VENV)/bin/playscale study run studies/quickstart.yaml --out $(OUT)

test: $(VENV)/.dev ## The tests of every change, in parallel (4 to 10 minutes on two cores)
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/.dev ## The rest: learning runs, long kills, storms of faults, exhaustive grids
	$(PYTEST) -m slow

test-all: test test-slow ## All tests of the library and the command line

campaign: $(VENV)/.dev ## Faults drawn from a seed: kills, damaged inputs, full disks (at most 60 minutes on two cores)
	$(VENV)/bin/python -m tests.campaign $(CAMPAIGN)

test-cluster: $(VENV)/.deploy ## The image, the chart and its services: .ci/containers first
	$(VENV)/bin/pytest -s tests/deploy

test-kubernetes: $(VENV)/.deploy ## The chart and studies on a real cluster, disturbed: docs/cluster.md, "The acceptance test"
	$(PLAYSCALE_INSIDE) $(VENV)/bin/python -m tests.acceptance $(STEPS)

coverage: $(VENV)/.dev ## Lines that `make test` covers, of those that `make test-all` covers
	COVERAGE_FILE=$(CURDIR)/out/coverage/test $(PYTEST) -m "not slow" --cov --cov-report=
	COVERAGE_FILE=$(CURDIR)/out/coverage/slow $(PYTEST) -m slow --cov --cov-report=
	$(VENV)/bin/python tests/support/coverage_share.py out/coverage/test out/coverage/slow

image: ## The container image, with podman and from Debian's packages alone
	.ci/containers

lint: $(VENV)/.dev ## Ruff, mypy and the import contracts
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: $(VENV)/.dev ## Format the code
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

ui: $(VENV)/.run ## MLflow's pages of the demo study, on http://127.0.0.1:5000/#/experiments?workflowType=machine_learning
	$(VENV)/bin/mlflow ui --backend-store-uri sqlite:///$(OUT)/mlflow.db

compile: $(VENV)/.run ## The pipelines as YAML for Kubeflow Pipelines
	$(VENV)/bin/playscale compile

clean: ## Remove the virtual environment and the demo's output
	rm -rf $(VENV) $(OUT)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv --upgrade-deps $(VENV)

# A new pip installs these packages in half the time of the one that a Python brings. Python compiles a module when it is
# first imported: compiling all of them takes a minute.
PIP_INSTALL = $(VENV)/bin/pip install -q --no-compile -c constraints.txt

$(VENV)/.run: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP_INSTALL) -e '.[all]'
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP_INSTALL) -e '.[all,dev]'
	touch $(VENV)/.run $@

$(VENV)/.deploy: $(VENV)/.dev
	$(PIP_INSTALL) -e '.[all,dev,deploy]'
	touch $@
