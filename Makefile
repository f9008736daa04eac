# `make` alone lists the targets. Everything happens inside .venv; nothing else is touched.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
CODE   := agentkit tests $(wildcard examples benchmarks)
TEMPLATES := .github/ISSUE_TEMPLATE
ARGS   ?=
WORKERS ?= auto

# The programs that tests start would compile the package again and again.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test matrix ray check lint format format-check types docs wheel bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed-cli,fleet  ## play an outage on this machine, without a key or a network; ARGS=--fleet: with eight processes
	@$(BIN)/python -m agentkit demo $(ARGS)

test: $(VENV)/.installed-dev  ## run the tests; ARGS="-k breaker -x" goes to pytest
	@echo "==> pytest -n $(WORKERS) $(ARGS)"
	@.ci/pytest $(BIN)/python -n $(WORKERS) --dist worksteal $(ARGS)

matrix: $(VENV)/.installed-dev  ## test with the oldest, a middle and the newest dependencies; ARGS=oldest for one
	@echo "==> .ci/matrix $(ARGS)"
	@BIN=$(BIN) WORKERS=$(WORKERS) .ci/matrix $(ARGS)

ray: $(VENV)/.installed-dev  ## test batches on Ray, in an environment of its own
	@echo "==> .ci/ray $(ARGS)"
	@BIN=$(BIN) .ci/ray $(ARGS)

check: lint format-check types docs wheel  ## everything but the tests: lint, format, types, docs, wheel

lint: $(VENV)/.installed-dev  ## ruff check, and the schemas of .github/
	@echo "==> ruff check"
	@$(BIN)/ruff check .
	@echo "==> check-jsonschema .github"
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-config $(TEMPLATES)/config.yml
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms \
	  $(filter-out %/config.yml,$(wildcard $(TEMPLATES)/*.yml))

format: $(VENV)/.installed-dev  ## rewrite the code in its format
	@echo "==> ruff format"
	@$(BIN)/ruff format .

format-check: $(VENV)/.installed-dev  ## ruff format --check
	@echo "==> ruff format --check"
	@$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev  ## mypy, strict
	@echo "==> mypy --strict $(CODE)"
	@$(BIN)/mypy --strict $(CODE)

docs: $(VENV)/.installed-dev  ## build the documentation into site/; a dead link is an error
	@echo "==> mkdocs build --strict"
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir "$(or $(SITE),site)"

wheel: $(VENV)/.installed-dev  ## build wheel and sdist and use them as a newcomer would
	@echo "==> wheel and sdist, installed and used outside the tree"
	@.ci/smoke $(BIN)/python

bench: $(VENV)/.installed-bench  ## run the benchmarks
	@echo "==> benchmarks"
	@$(BIN)/python -m benchmarks $(ARGS)

clean:  ## remove the environment and everything built
	rm -rf $(VENV) .matrix dist build site .pytest_cache .mypy_cache .ruff_cache .hypothesis

# One stamp an extra: installed again only when the dependencies change.
$(VENV)/.installed-%: $(VENV)/pyvenv.cfg pyproject.toml
	@echo "==> installing agentkit with its '$*' extra into $(VENV)"
	@$(PIP) --editable '.[$*]'
	@touch $@

# A failed creation leaves nothing behind, else the next run would take it for finished.
$(VENV)/pyvenv.cfg:
	@for python in $(PYTHON) python3.14 python3.13 python3.12 python3.11; do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "==> creating $(VENV) with $$("$$python" --version)"; \
	    "$$python" -m venv $(VENV) && exit 0; \
	    rm -rf $(VENV); \
	    echo "$$python cannot create an environment; on Debian: apt-get install python3-venv" >&2; \
	    exit 1; \
	  fi; \
	done; \
	echo "agentkit needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1 || true)." >&2; \
	echo "Install one, or name it: make PYTHON=/path/to/python3.12 test" >&2; \
	exit 1
