# One door for everything: `make help`. What is missing is installed into this directory, nothing is installed twice.

UV_VERSION := 0.13.9
UV := .tools/uv/bin/uv
VENV := .venv
PYTHON := $(VENV)/bin/python
LOCAL := $(PYTHON) -m gjeldsbro_local.main

# A Python 3.13 of this machine that works, or the version for uv to fetch.
PYTHON_313 = $(shell for python in python3.13 "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.13*/bin/python3.13; do \
	"$$python" -c 'import ssl, venv' 2>/dev/null && { command -v "$$python"; exit; }; done; echo 3.13)
SYNC := $(UV) pip sync --quiet --require-hashes --compile-bytecode --python
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.13 --generate-hashes --no-header

.DEFAULT_GOAL := help
.PHONY: help demo test soak bench build docs up down setup sshd lint format lock clean
.DELETE_ON_ERROR:

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## Run the main job on this machine from nothing, check its result and leave nothing running
	@$(PYTHON) -m gjeldsbro_local.demo

test: setup ## All checks and tests
	@$(MAKE) --no-print-directory lint
	@$(PYTHON) -m pytest -n 2 --dist loadgroup

soak: setup ## The tests that take minutes each, with their figures
	@$(PYTHON) -m pytest tests/soak -o python_files='soak_*.py' -o timeout=3600 -s
	@POINTS=1 $(PYTHON) -m pytest -n 2 -o timeout=7200 tests/integration/test_our_faults.py tests/integration/test_stored_forms.py

bench: $(VENV)/.project .tools/sam/.installed ## The benchmarks, or PARTS="pages cold push" of them, with their references; RECORD=1 notes the rows
	@$(PYTHON) -m tests.bench.run $(PARTS) $(if $(RECORD),--record)

docs: $(VENV)/.project ## The API's description, docs/openapi.json and docs/api/index.html, from the handlers
	@$(PYTHON) -m gjeldsbro_openapi.main

up: setup ## Start the local stack: .local/stack.json says where it is
	@$(LOCAL) up

down: ## Stop the local stack
	@if [ -x $(PYTHON) ]; then $(LOCAL) down; else echo "No local stack runs."; fi

build: $(VENV)/.project .tools/sam/.installed ## Build what `sam deploy` deploys, with bytecode, which `sam build` leaves out
	@PATH="$(CURDIR)/.tools/sam/bin:$$PATH" sam build
	@$(PYTHON) -m compileall -q -j 0 --invalidation-mode unchecked-hash .aws-sam/build

setup: sshd $(VENV)/.project .tools/sam/.installed .tools/ministack/.installed ## Install what is missing

lint: $(VENV)/.project ## ruff and mypy
	@$(VENV)/bin/ruff check --quiet
	@$(VENV)/bin/ruff format --quiet --check
	@$(VENV)/bin/mypy --no-error-summary

format: $(VENV)/.project ## Format the code
	@$(VENV)/bin/ruff check --quiet --fix
	@$(VENV)/bin/ruff format --quiet

lock: | $(UV) ## Lock the dependencies anew, the layers first
	@for layer in gjeldsbro certificates https reports sftp; do \
		$(COMPILE) requirements/layer-$$layer.in -o layers/$$layer/requirements.txt || exit; done
	@$(COMPILE) requirements/dev.in -o requirements/dev.txt $(patsubst %,-c %,$(wildcard layers/*/requirements.txt))
	@for tool in sam ministack; do $(COMPILE) requirements/$$tool.in -o requirements/$$tool.txt || exit; done

clean: down ## Remove what was installed and built here
	@rm -rf $(VENV) .tools .aws-sam .local .pytest_cache .mypy_cache .ruff_cache .hypothesis

# --- environments --------------------------------------------------------------------------------------------------

$(UV):
	@echo "  uv $(UV_VERSION)"
	@python3 -m venv .tools/uv || { \
		echo "Python cannot make environments here: install python3-venv, or uv $(UV_VERSION) as $(UV)"; exit 1; }
	@.tools/uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(VENV)/.synced: requirements/dev.txt | $(UV)
	@echo "  $(VENV): the project's tools and tests"
	@[ -x $(PYTHON) ] || $(UV) venv --quiet --clear --python $(PYTHON_313) $(VENV)
	@$(SYNC) $(PYTHON) $<
	@touch $@

# --no-build-isolation: the build backend is one of the locked packages.
$(VENV)/.project: pyproject.toml $(VENV)/.synced
	@$(UV) pip install --quiet --python $(PYTHON) --no-deps --no-build-isolation --editable .
	@touch $@

.tools/%/.installed: requirements/%.txt | $(UV)
	@echo "  .tools/$*"
	@[ -x .tools/$*/bin/python ] || $(UV) venv --quiet --clear --python $(PYTHON_313) .tools/$*
	@$(SYNC) .tools/$*/bin/python $<
	@touch $@

sshd:
	@sh tools/gjeldsbro_local/install_sshd.sh
