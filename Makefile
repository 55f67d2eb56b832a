# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
# The whole contributor interface. Everything it installs goes into $(VENV), but for Debian's programs.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

# Another interpreter goes with another folder: make test PYTHON=python3.12 VENV=.venv312
PYTHON ?=
VENV ?= .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check --no-input
UV_VERSION := 0.13.8
UV := .venv-lock/bin/uv

# The budgets of the agent assume that bytecode is present.
unexport PYTHONDONTWRITEBYTECODE

# The wire contract as last released: what `make lint` holds the present one against.
RELEASED_WIRE := proto/released.binpb

# The stages whose every branch has a test ; no number is chased elsewhere.
COVERED := */wire/*,*/agent/model.py,*/resident/fold.py,*/derive/*,*/account/*,*/fleet/*,*/closed_years/re*.py,*/closed_years/merge_strata.py,*/indicators/*

# What `make proto docs dashboards` writes and `make check` compares.
GENERATED := proto docs/metrics.md docs/config.md docs/promises.md docs/alerts.md docs/fr/alertes.md grafana/dashboards grafana/rules deploy/zabbix

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Until the launcher has its handlers, Ctrl-C waits: Python would show a traceback. Older programs env cannot block.
BLOCK_INTERRUPT = $(shell env --block-signal=INT true 2>/dev/null && echo env --block-signal=INT)

# --- the two commands ------------------------------------------------------------------------------------

.PHONY: run
run: $(VENV)/.run ## collector + this machine's agent, live view; SECONDS=n stops by itself
	@$(BLOCK_INTERRUPT) $(PY) deploy/local/run.py $(if $(SECONDS),--seconds $(SECONDS))

.PHONY: test
test: $(VENV)/.dev peers ## everything that can be tested here; ARGS='-k name' for pytest
	@deploy/ci/test.sh $(PY) $(ARGS)

.PHONY: quick
quick: $(VENV)/.dev ## in 90 s, after every edit: check, the unit tests that what changed touches, and a smoke
	@$(PY) -m tests.quick

.PHONY: test-long
test-long: $(VENV)/.dev peers ## every promise at its full size; ONLY=R16 for one, RESUME=1 to go on after a break
	@$(if $(filter-out install,$(ONLY)),,deploy/ci/peers.sh --install)
	@$(PY) -m pytest -m 'long or promise' --promises $(if $(ONLY),--only $(ONLY)) $(if $(RESUME),--resume) $(ARGS); \
	  code=$$?; $(PY) docs/generate.py; $(if $(ONLY),,$(PY) -m tests.dates || code=1;) exit $$code

.PHONY: test-dates
test-dates: $(VENV)/.dev peers ## the tests that read the clock on 14 days when dates go wrong (part of test-long)
	@$(PY) -m tests.dates $(ARGS)

.PHONY: cover
cover: $(VENV)/.dev peers ## branch coverage of the unit tests, and of the stages where it must be whole
	@$(BIN)/coverage run -m pytest -q tests/unit $(ARGS)
	@$(BIN)/coverage report --fail-under=100 --include='$(COVERED)'

# --- packages --------------------------------------------------------------------------------------------

.PHONY: packages
packages: ## the Debian packages, for the release that this machine runs, in dist/
	@deploy/debian/build.sh dist

.PHONY: apt-repository
apt-repository: ## what is in dist/ added to a signed apt repository; KEY=… of gpg; APT=dist/apt is its folder
	@deploy/debian/repository.sh "$(KEY)" "$(or $(APT),dist/apt)" dist/*.deb

.PHONY: msi
msi: $(VENV)/.run $(UV) ## the Windows package of the agent; PYTHON_EMBED_ZIP=python-3.x.y-embed-amd64.zip, SIGN='…': deploy/windows/README.md
	@$(PY) deploy/windows/build.py "$(PYTHON_EMBED_ZIP)" --uv $(UV) --sign="$(SIGN)" $(if $(VERSION),--version $(VERSION))

# --- environments ----------------------------------------------------------------------------------------

.PHONY: setup
setup: $(VENV)/.dev peers ## everything a contributor needs, in .venv

.PHONY: peers
peers: # the Debian programs that the tests talk to
	@deploy/ci/peers.sh

$(VENV)/.made:
	@echo "veilleuse: making $(VENV)"
	@deploy/ci/venv.sh $(VENV) $(PYTHON)
	@touch $@

# What runs: the collector's locked set, then the project itself, built by a locked backend.
$(VENV)/.run: $(VENV)/.made pyproject.toml requirements/build.txt requirements/collector.txt
	@echo "veilleuse: installing the collector and the agent into $(VENV)"
	@$(INSTALL) --require-hashes -r requirements/build.txt -r requirements/collector.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@$(PY) -m compileall -q $(wildcard agent collector proto)
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	@echo "veilleuse: installing the tools of development into $(VENV)"
	@$(INSTALL) --require-hashes --no-deps -r requirements/dev.txt
	@touch $@

.PHONY: lock
lock: $(UV) ## refresh requirements/*.txt: newest allowed versions, with hashes, without addresses
	@UV=$(UV) deploy/ci/lock.sh

$(UV): Makefile
	@deploy/ci/venv.sh .venv-lock $(PYTHON)
	@.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

.PHONY: clean
clean: ## remove environments, caches and built files; ./var stays
	@rm -rf .venv* dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage* uv.lock
	@find agent collector proto deploy grafana tests -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# --- checks ----------------------------------------------------------------------------------------------

.PHONY: check
check: lint type arch generated ## all that needs no test: format, lint, types, layers, wire, generated files

.PHONY: fmt
fmt: $(VENV)/.dev ## format, and mend what the linter can mend
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

.PHONY: lint
lint: $(VENV)/.dev ## format and lint, changing nothing; the wire contract too
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/buf lint proto
	@test ! -e $(RELEASED_WIRE) || $(BIN)/buf breaking proto --against $(RELEASED_WIRE)

.PHONY: type
type: $(VENV)/.dev ## mypy, strict on veilleuse.*
	@$(BIN)/mypy

.PHONY: arch
arch: $(VENV)/.dev ## who may import whom
	@$(BIN)/lint-imports --no-logo

.PHONY: generated
generated: $(VENV)/.dev # what is generated is what would be generated now
	@before=$$(git diff -- $(GENERATED)); $(MAKE) --no-print-directory proto docs dashboards; \
	  [ "$$before" = "$$(git diff -- $(GENERATED))" ] || { git diff -- $(GENERATED); \
	  echo "veilleuse: generated files were stale; they are fresh now: read the diff, then 'git add' them" >&2; exit 1; }

# --- generated files -------------------------------------------------------------------------------------

.PHONY: proto
proto: $(VENV)/.dev ## regenerate the stubs beside telemetry.proto
	@$(PY) proto/generate.py

.PHONY: wire-release
wire-release: $(VENV)/.dev ## at a release only: what the wire says now becomes what must not break
	@$(BIN)/buf build proto --exclude-source-info -o $(RELEASED_WIRE)

.PHONY: docs
docs: $(VENV)/.dev ## regenerate docs/metrics.md, config.md and promises.md, and tables of methodology.md and of the alerts
	@$(PY) docs/generate.py

.PHONY: dashboards
dashboards: $(VENV)/.dev ## regenerate grafana/dashboards/*.json, grafana/rules/veilleuse.yml and deploy/zabbix/*.yaml
	@$(PY) grafana/build.py
	@$(PY) grafana/alerts.py
	@$(PY) deploy/zabbix/build.py

.PHONY: golden
golden: $(VENV)/.dev ## rewrite the golden files; the diff is reviewed, never waved through
	@$(PY) -m pytest --golden $(ARGS)

# --- releases --------------------------------------------------------------------------------------------

.PHONY: release
release: $(VENV)/.dev $(VENV)-release/.made ## VERSION=0.3.0: commit and tag, then all of dist/; PYTHON_EMBED_ZIP, OSV_COPY, KEY
	@$(PY) -m deploy.release.prepare "$(VERSION)"
	@rm -rf dist
	@$(MAKE) --no-print-directory packages $(if $(PYTHON_EMBED_ZIP),msi)
	@$(VENV)-release/bin/python -m deploy.release.artifacts "$(VERSION)"

.PHONY: audit
audit: $(VENV)-release/.made ## known vulnerabilities of requirements/*.txt; OSV_COPY=FILE is a copy of the OSV database
	@$(VENV)-release/bin/python -m deploy.release.audit

$(VENV)-release/.made: $(VENV)/.made requirements/release.txt
	@echo "veilleuse: installing the tools of a release into $(VENV)-release"
	@deploy/ci/venv.sh $(VENV)-release $(PYTHON)
	@$(VENV)-release/bin/python -m pip install --quiet --disable-pip-version-check --no-input \
	  --require-hashes -r requirements/release.txt
	@touch $@

# --- benches ---------------------------------------------------------------------------------------------

.PHONY: bench-agent
bench-agent: $(VENV)/.dev peers ## memory and processor time of the resident and the sender, beside node_exporter
	@$(PY) -m tests.bench agent

.PHONY: bench-ingest
bench-ingest: $(VENV)/.dev ## durable pushes and records per second, on the disk of the temporary folder
	@$(PY) -m tests.bench ingest

.PHONY: bench-faults
bench-faults: $(VENV)/.dev ## each file of the store, each fault, under load; ARGS=--write puts the table into docs/operations.md
	@$(PY) -m tests.promises.support.lost $(ARGS)

.PHONY: bench-metrics
bench-metrics: $(VENV)/.dev ## milliseconds of one scrape
	@$(PY) -m tests.bench metrics

.PHONY: bench-alerts
bench-alerts: $(VENV)/.dev peers ## alert, injected fault, seconds until Alertmanager notifies, with real programs, as root; ARGS=--silence waits 30 minutes more
	@$(PY) -m tests.bench alerts $(ARGS)

.PHONY: bench-look
bench-look: $(VENV)/.dev ## milliseconds of a look, seconds of yearly reports, at 1,000 to 100,000 machines; ARGS=--small stops at 10,000
	@$(PY) -m tests.bench look $(ARGS)

.PHONY: screenshots
screenshots: $(VENV)/.dev peers ## pictures of every page, report and `top` into docs/images; ARGS="--data DIR" takes a filled directory
	@$(PY) -m tests.support.screenshots $(ARGS)

.PHONY: bench-months
bench-months: $(VENV)/.dev ## size and reading of a year of months of 10,000 machines
	@$(PY) -m tests.bench months

.PHONY: bench-report
bench-report: $(VENV)/.dev ## seconds and memory of a year's emissions report over 10,000 hosts
	@$(PY) -m tests.bench report

.PHONY: bench-closing
bench-closing: $(VENV)/.dev ## seconds, sizes and memory of closing a year of 10,000 machines, and of verifying it
	@$(PY) -m tests.bench closing

.PHONY: bench-formats
bench-formats: $(VENV)/.dev ## seconds and memory of a large report in each format
	@$(PY) -m tests.bench formats

.PHONY: bench-simulate
bench-simulate: $(VENV)/.dev ## seconds and memory of a simulated year, and whether its report holds the truth
	@$(PY) -m tests.bench simulate

.PHONY: bench-metropole
bench-metropole: $(VENV)/.dev ## seconds, size and memory of `veilleuse simulate --preset metropole`
	@$(PY) -m tests.bench simulate --preset metropole

.PHONY: bench-backup
bench-backup: $(VENV)/.dev ## how long agents wait for acknowledgements while a backup is being made
	@$(PY) -m tests.bench backup

.PHONY: bench-calibration
bench-calibration: $(VENV)/.dev ## how often a calibration's 95 % interval holds the truth, and its error before and after
	@$(PY) -m tests.bench calibration

.PHONY: bench-uncertainty
bench-uncertainty: $(VENV)/.dev ## a fleet's 95 % interval without counters, with them, calibrated, metered
	@$(PY) -m tests.bench uncertainty

.PHONY: bench-figures
bench-figures: $(VENV)/.dev ## figures that once were wrong: case, before, after, truth
	@$(PY) -m tests.bench figures

.PHONY: bench-attacks
bench-attacks: $(VENV)/.dev peers ## attacks that once succeeded: case, before, after; ARGS='--only WORD' for some
	@$(PY) -m tests.bench attacks $(ARGS)

.PHONY: bench-released-year
bench-released-year: $(VENV)/.dev ## a year as the sum of its released months, beside its own estimate and the true energy
	@$(PY) -m tests.bench released_year --simulated 12

.PHONY: bench-one-figure
bench-one-figure: $(VENV)/.dev peers ## each figure of a simulated fleet from every outlet, in var/one_table.txt, and how many differ
	@mkdir -p var
	@$(PY) -m tests.bench one_figure -o var/one_table.txt

.PHONY: bench-estimator
bench-estimator: $(VENV)/.dev ## how often the fleet's 95 % interval holds the truth, shape by shape; seconds of a total over 10,000 machines
	@$(PY) -m tests.bench estimator
