# Everything this project can do, one word each. Needs Python 3.11 or newer with venv; a target that needs more says so.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
# Only what the lock files name, byte for byte; no package runs code of its own while it is installed.
LOCKED := $(PIP) --require-hashes --only-binary :all: -r
UV := uv==0.13.9
COMPILE := $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url \
--custom-compile-command "make lock" $(ARGS)
# Outside of the clone, for every clone of this machine; 250 MB.
PROVIDERS ?= $(HOME)/.cache/partium_auth
KEYCLOAK := 26.5.5
KEYCLOAK_HOME ?= $(PROVIDERS)/keycloak-$(KEYCLOAK)
OAUTH_TOOLKIT := 3.4.1
OAUTH_TOOLKIT_HOME ?= $(PROVIDERS)/django-oauth-toolkit-$(OAUTH_TOOLKIT)
SPRING := 1.5.3
SPRING_HOME ?= $(PROVIDERS)/spring-authorization-server-$(SPRING)
MVN := mvn --quiet --batch-mode
DEPENDENCY_PLUGIN := org.apache.maven.plugins:maven-dependency-plugin:3.8.1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo walkthrough bench chaos test services node providers browser screenshots conformance docs reference dist lint types layers check lock messages clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.installed ## start the site, an identity provider and a Partium sandbox; Ctrl-C stops them
	@$(BIN)/python -m example_project.demo

walkthrough: $(VENV)/.installed ## show on the terminal what the app does, step by step
	@$(BIN)/python -m example_project.walkthrough $(ARGS)

bench: $(VENV)/.installed-dev ## measure what the app costs (docs/benchmarks.md)
	@$(BIN)/python -m benchmarks $(ARGS)

chaos: $(VENV)/.installed-dev ## break things around a site and measure what its visitors notice (docs/reliability.md); needs Debian's postgresql
	@$(BIN)/python -m benchmarks.chaos $(ARGS)

test: $(VENV)/.installed-dev ## run the tests that need neither a browser nor Node.js; ARGS="-k name" for some of them
	@# Some of them wait for processes: three at a time keep two processors busy.
	@$(BIN)/python -m pytest -n 3 --dist worksteal -m "not browser and not node and not providers" $(ARGS)

services: ## start PostgreSQL, MariaDB and Redis for the tests and show how to use them; Ctrl-C stops them
	@.ci/services.py

node: $(VENV)/.installed-dev ## run the tests with npm packages (oidc-provider, Vite); needs Node.js and Debian's chromium
	@# Playwright's event loop stays in its thread: one process for each suite.
	@for suite in tests/node_provider tests/bundle; do \
	$(BIN)/python -m pytest -m node $(ARGS) $$suite || exit 1; done

providers: $(VENV)/.installed-dev $(KEYCLOAK_HOME)/bin/kc.sh $(OAUTH_TOOLKIT_HOME)/.installed $(SPRING_HOME)/.installed ## run the tests against real providers, downloaded once; needs a JDK of 17 and Maven
	@KEYCLOAK_HOME="$(KEYCLOAK_HOME)" OAUTH_TOOLKIT_HOME="$(OAUTH_TOOLKIT_HOME)" SPRING_HOME="$(SPRING_HOME)" \
	$(BIN)/python -m pytest -m providers $(ARGS) tests/real_providers

browser: $(VENV)/.installed-dev ## run the tests in a browser; needs Debian's chromium
	@# As for node.
	@for suite in tests/browser tests/admin tests/hosts; do \
	$(BIN)/python -m pytest -m browser $(ARGS) $$suite || exit 1; done

screenshots: $(VENV)/.installed-dev ## take the pictures of the documentation anew; needs Debian's chromium
	@SCREENSHOTS=1 $(MAKE) --no-print-directory browser

conformance: ## run the OpenID conformance suite; SUITE=its git directory; needs a JDK of 21 or newer, Maven and nginx
	@conformance/run.sh "$(SUITE)"

docs: $(VENV)-docs/.installed ## build the documentation as a site, in site/; BASE_URL=where it will be published
	@NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --strict --quiet
	@echo "Built site/. To read it: python3 -m http.server -d site"

reference: $(VENV)/.installed-dev ## write into docs/reference what is made from the code
	@DJANGO_SETTINGS_MODULE=tests.settings $(BIN)/python -m tests.docs.reference

dist: $(VENV)/.installed-dev ## build the committed state into dist/; BASE_URL=where the documentation is published
	@rm -rf dist && build=$$(mktemp -d) && trap 'rm -rf "$$build"' EXIT && git archive HEAD | tar -x -C "$$build" && \
	{ [ -z "$(BASE_URL)" ] || $(BIN)/python docs/_site/readme.py "$(BASE_URL)" >"$$build/README.md"; } && \
	$(BIN)/python -m build --no-isolation --outdir dist "$$build" >/dev/null && ls dist

lint: $(VENV)/.installed-dev ## check style and format (ruff)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo "Run: $(BIN)/ruff format ."; exit 1; }

types: $(VENV)/.installed-dev ## check types (mypy)
	@$(BIN)/mypy --no-error-summary

layers: $(VENV)/.installed-dev ## check which module may import which
	@$(BIN)/lint-imports --no-cache >$(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log; exit 1; }

check: lint types layers ## check style, types, layers and migrations
	@$(BIN)/python -m django makemigrations --settings tests.settings --check --dry-run --verbosity 1 >$(VENV)/makemigrations.log \
	|| { cat $(VENV)/makemigrations.log; echo "Run: $(BIN)/python -m django makemigrations --settings tests.settings"; exit 1; }
	@echo "All checks passed."

lock: $(BIN)/python ## resolve the requirements again, with hashes; ARGS=--upgrade takes the newest of what is not pinned
	@$(PIP) $(UV)
	@$(COMPILE) --universal requirements.in -o requirements.txt
	@$(COMPILE) --universal -c requirements.txt requirements.in requirements-dev.in -o requirements-dev.txt
	@$(COMPILE) --universal requirements-docs.in -o requirements-docs.txt
	@grep -E '^(setuptools|django-environ)=' requirements.in | \
	$(COMPILE) --resolution lowest-direct pyproject.toml requirements-dev.in - -o requirements-lowest.txt

messages: $(VENV)/.installed-dev ## extract the texts for translation, and compile what is translated; needs gettext
	@command -v msgfmt >/dev/null || { echo "gettext is missing (Debian: apt install gettext)."; exit 1; }
	@for app in partium_auth example_project; do (cd $$app && \
	$(abspath $(BIN))/django-admin makemessages --all --no-obsolete --add-location file --verbosity 0 && \
	$(abspath $(BIN))/django-admin compilemessages --verbosity 0) || exit 1; done
	@cd example_project && $(abspath $(BIN))/django-admin makemessages --domain djangojs --all --no-obsolete --add-location file --verbosity 0
	@cd example_project && $(abspath $(BIN))/django-admin compilemessages --verbosity 0
	@for catalog in */locale/*/LC_MESSAGES/*.po; do echo "$$catalog:"; msgfmt --check --statistics --output-file=- "$$catalog" >/dev/null; done

clean: ## remove what was built and the demo's data; .env and the virtual environment stay
	@rm -rf .demo build dist site *.egg-info htmlcov .coverage .coverage.* \
	.pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +

# One marker file for each set of requirements: older than what it depends on, it is made again.
$(VENV)/.installed: requirements.txt pyproject.toml | $(BIN)/python
	@echo "Installing what the demo needs into $(VENV) …"
	@$(LOCKED) requirements.txt
	@$(PIP) --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@echo "Installing what tests and checks need into $(VENV) …"
	@$(LOCKED) requirements-dev.txt
	@touch $@

# The tools of the documentation read the code; they need not run it.
$(VENV)-docs/.installed: requirements-docs.txt
	@[ -x $(@D)/bin/python ] || $(MAKE) --no-print-directory VENV=$(@D) $(@D)/bin/python
	@echo "Installing what the documentation is built with into $(@D) …"
	@$(@D)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes --only-binary :all: -r requirements-docs.txt
	@touch $@

# The tools of the tests, and of everything else the lowest version that pyproject.toml allows.
$(VENV)/.installed-lowest: requirements-lowest.txt pyproject.toml | $(BIN)/python
	@echo "Installing the lowest versions allowed into $(VENV) …"
	@$(LOCKED) requirements-lowest.txt
	@$(PIP) --no-build-isolation --no-deps --editable .
	@touch $@

$(KEYCLOAK_HOME)/bin/kc.sh: | jdk
	@echo "Downloading Keycloak $(KEYCLOAK) …"
	@new=$$(mktemp -d) && trap 'rm -rf "$$new"' EXIT && cd "$$new" && \
	$(MVN) $(DEPENDENCY_PLUGIN):unpack -Dartifact=org.keycloak:keycloak-quarkus-dist:$(KEYCLOAK):zip \
	-DoutputDirectory="$$new" -DmarkersDirectory="$$new" >log 2>&1 \
	|| { echo "Keycloak $(KEYCLOAK) could not be downloaded with Maven: $$(grep -m 1 ERROR log)"; exit 1; } && \
	mkdir -p "$(dir $(KEYCLOAK_HOME))" && mv keycloak-$(KEYCLOAK) "$(KEYCLOAK_HOME)"

$(OAUTH_TOOLKIT_HOME)/.installed:
	@echo "Installing django-oauth-toolkit $(OAUTH_TOOLKIT) …"
	@$(PYTHON) -m venv "$(@D)"
	@"$(@D)/bin/python" -m pip install -qq --disable-pip-version-check --only-binary :all: django-oauth-toolkit==$(OAUTH_TOOLKIT)
	@touch "$@"

$(SPRING_HOME)/.installed: | jdk
	@echo "Downloading Spring Authorization Server $(SPRING) …"
	@mkdir -p "$(@D)" && $(MVN) -f tests/real_providers/spring/pom.xml $(DEPENDENCY_PLUGIN):copy-dependencies -DoutputDirectory="$(@D)" >"$(@D)/log" 2>&1 \
	|| { echo "Spring Authorization Server could not be downloaded with Maven: $$(grep -m 1 ERROR "$(@D)/log")"; exit 1; }
	@touch "$@"

jdk:
	@command -v javac >/dev/null && command -v mvn >/dev/null \
	|| { echo "The JDK or Maven is missing (Debian: apt install openjdk-17-jdk-headless maven)."; exit 1; }

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	|| { echo "$(PYTHON) is not Python 3.11 or newer. Name another one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	|| { echo "$(PYTHON) cannot make a virtual environment (Debian: apt install python3-venv)."; exit 1; }
