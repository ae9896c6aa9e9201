# Everything runs in .venv, which the first target that needs it makes. ARGS goes to the command: make demo ARGS='--streams 5'
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=
# several hundred processes start in a test run; without bytecode, each would compile the whole exporter
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help venv tools demo test test-fast fuzz lint format generate docs bench attacks soak lock image-test release-check screenshots clean
.DEFAULT_GOAL := help

help: ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(READY) ## .venv with the package editable and its tools; made again when pyproject.toml changed

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or later is needed. PYTHON=python3.12 make … names another one than $(PYTHON)." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) can't make virtual environments: install python3-venv (apt-get install python3-venv)." >&2; exit 1; }
	@$(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[dev]'
	@touch $@

tools: $(READY) ## the real servers of the tests: found in PATH, or fetched into .cache (no root needed)
	@$(BIN)/python tools/provide.py

demo: $(READY) ## the exporter with simulated platforms
	@$(BIN)/stream-exporter demo $(ARGS)

test: $(READY) ## all tests, with real servers, and branch coverage
	-@$(BIN)/python tools/provide.py
	@$(BIN)/python -m pytest -n 4 --dist worksteal -m 'not soak' --cov --cov-report=term:skip-covered $(ARGS)

test-fast: $(READY) ## the tests that need no download, no server and little time
	@$(BIN)/python -m pytest -n 3 --dist worksteal -m 'not soak and not real and not system and not slow' --hypothesis-profile=quick $(ARGS)

fuzz: $(READY) ## the tests that make their own input, with input that no run had before
	@$(BIN)/python -m pytest -n 3 --dist worksteal -m 'not soak and not system' --hypothesis-profile=searching $(ARGS)

lint: $(READY) ## ruff, mypy --strict, the import contracts and the workflow files
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/check-jsonschema --quiet --builtin-schema custom.github-workflows-require-timeout .github/workflows/*.yml
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/feature.yml
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml

format: $(READY) ## ruff's formatting and its safe fixes
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

generate: $(READY) ## the pages that are made from the code
	@$(BIN)/python -m tools.generate
	@$(BIN)/stream-exporter dashboards --output-dir dashboards
	@$(BIN)/stream-exporter rules --output-dir alerts
	@$(BIN)/python -m tests.alerting.rule_cases alerts/tests
	@$(BIN)/python -m tests.interface.listed
	@$(BIN)/python -m tests.reports.test_reports_page

docs: $(READY) ## the documentation site, in site/; fails at broken links
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(READY) ## performance figures beside other programs' in about ten minutes; ARGS=PART for one of them
	-@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[bench]'
	-@$(BIN)/python tools/provide.py
	@$(BIN)/python -m bench $(ARGS)

attacks: $(READY) ## the attacks on a process within the limits of the manifests, and their table in docs/reliability.md
	@rm -rf .cache/attacks
	@ATTACK_RESULTS=.cache/attacks $(BIN)/python -m pytest -q tests/attacks --ignore=tests/attacks/test_attack_table.py $(ARGS)
	@$(BIN)/python -m tests.attacks.attack_table .cache/attacks

soak: $(READY) ## the long runs, PART=flat, outages, healthy, delivery, attacks, scenarios, platforms or playback for one of them; SOAK_SECONDS, SOAK_STREAMS, SOAK_FAULTS=1, SOAK_SEED
	@$(BIN)/python -m pytest -m soak -s $(if $(PART),-k $(PART)) $(ARGS)

lock: $(READY) ## the pins with hashes of what the image installs and is built with
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[release]'
	@$(BIN)/python tools/lock.py

image-test: $(READY) ## builds the container image and runs it, without a Docker engine; needs root, buildah, podman
	@$(BIN)/python -m tools.image_test

release-check: $(READY) ## sdist, wheel, licences, bill of materials, known vulnerabilities; needs the network
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[release]'
	@$(BIN)/python -m tools.release_check

screenshots: $(READY) ## the pictures of the documents, on the demo's data; needs the npm registry, and minutes
	-@$(BIN)/python tools/provide.py
	@$(BIN)/python -m tools.screenshots.draw $(ARGS)
	@$(BIN)/python -m tools.screenshots.page

clean: ## all that the other targets made, the fetched servers too
	@rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .coverage.* htmlcov dist build site
