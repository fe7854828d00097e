# One command per step, the same on a laptop and in CI.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
STAMP   = $(VENV)/.installed
BENCH_STAMP = $(VENV)/.bench-installed

# Without compiled modules each of the hundreds of processes that the tests start would compile them anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo run env test worlds browser screenshots soak torture lint audit sbom format bench lock clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-11s %s\n", $$1, $$2}'

$(STAMP): requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v[:2] <= (3, 13) else "panel-sync needs Python 3.11, 3.12 or 3.13; %s is %d.%d (choose another: make PYTHON=python3.13)" % (sys.executable, v[0], v[1]))'
	@$(PYTHON) -m venv $(VENV) || { echo "Could not make a virtual environment. On Debian or Ubuntu: apt install python3-venv make git"; exit 1; }
	@echo "Installing the pinned dependencies into $(VENV) (once; about a minute)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP) ## The whole story on real components (ONCE=1: end by itself)
	@$(BIN)/panel-sync demo $(if $(ONCE),--once)

run: $(STAMP) ## Start the panel; embeds PostgreSQL and Redis where no URL is set
	@$(BIN)/panel-sync run

env: ## Write .env with random secrets for docker compose (DEMO=1: for its simulators)
	@if [ -e .env ]; then echo ".env exists and is left as it is"; else umask 077; $(PYTHON) runtime/make_env.py $(if $(DEMO),--demo) > .env && echo "wrote .env"; fi

test: $(STAMP) ## The tests but the long ones, on real PostgreSQL, Redis and worker processes
	@$(BIN)/python -m pytest $(ARGS)

worlds: $(STAMP) ## 10,000 seeded worlds through the reconciler's core, and 300 through PostgreSQL
	@$(BIN)/python -m pytest -m "worlds or not worlds" --timeout=900 tests/convergence/test_*_worlds_*.py $(ARGS)

browser: $(STAMP) ## Both panels in a real Chromium, which must be installed
	@$(BIN)/python -m pytest -n0 -m browser tests/browser $(ARGS)

screenshots: $(STAMP) ## The pictures of the pages in docs/images, by the same Chromium
	@SCREENSHOTS_TO=$(CURDIR)/docs/images $(BIN)/python -m pytest -n0 -m browser tests/browser/test_browser_pictures.py

soak: $(STAMP) ## What takes longer than CI has time for (with Caddy, nginx and HAProxy, which must be installed)
	@FUZZ_S=$${FUZZ_S:-600} $(BIN)/python -m pytest -m "soak or fuzz or proxies" --timeout=900 tests $(ARGS)

torture: $(STAMP) ## 80 calls a second while every part of the panel fails (MINUTES=30 SEED=1)
	@$(BIN)/panel-sync chaos --torture --minutes $(or $(MINUTES),30) --seed $(or $(SEED),1)

lint: $(STAMP) ## Ruff, strict types, import contracts, migrations equal to the tables
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m tools.check_migrations

audit: $(STAMP) ## Known vulnerabilities of the pinned packages (STRICT=1: not being able to check fails, too)
	@$(BIN)/python -m tools.supply_chain audit $(if $(STRICT),--strict)

sbom: $(STAMP) ## sbom.json: every production package with version, hashes and licence (CycloneDX)
	@$(BIN)/python -m tools.supply_chain sbom

format: $(STAMP) ## Reformat and mend what Ruff can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

$(BENCH_STAMP): $(STAMP) requirements/bench.lock
	@echo "Installing what the benchmarks compare with (once; about a minute)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/bench.lock
	@touch $@

bench: $(BENCH_STAMP) ## Figures against yardsticks of others, in 45 minutes (QUICK=1: in 5)
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(ARGS)

lock: $(STAMP) ## Renew the lock files (needs uv on PATH)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate pyproject.toml -o requirements/production.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --extra embedded --extra dev pyproject.toml -o requirements/dev.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --extra embedded pyproject.toml -o requirements/demo.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --constraint requirements/dev.lock --extra embedded --extra dev --extra bench pyproject.toml -o requirements/bench.lock
	printf 'cyclonedx-bom>=7.5\npip-audit>=2.10\n' | uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate - -o requirements/audit.lock
	printf 'hatchling>=1.27\neditables>=0.5\n' | uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate - -o requirements/build.lock

clean: ## Remove the environment and the embedded servers' data
	rm -rf $(VENV) .venv-audit sbom.json .data .mypy_cache .ruff_cache .pytest_cache .hypothesis
