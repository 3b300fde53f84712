# `make train` and `make test` work on a fresh clone: each sets up .venv first, with what it needs.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
TRAINS := $(VENV)/.trains
READY := $(VENV)/.ready
JOBS ?= 3  # on two cores: some tests wait

.PHONY: setup train test test-slow test-gpu faults fuzz bench lint format clean

setup: $(READY)

$(TRAINS): pyproject.toml constraints.txt
	@echo "Setting up $(VENV) with what training needs: once, about 1 GB (several with CUDA). pip says what it does."
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(READY): $(TRAINS)
	@echo "Adding what the tests need: once, about 1 GB. pip says what it does."
	$(RUN) -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

train: $(TRAINS)
	$(RUN) train.py experiment=adder

test: $(READY)
	OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n $(JOBS) --dist worksteal -m 'not slow and not gpu'

test-slow: $(READY)
	OMP_NUM_THREADS=1 $(RUN) -m pytest -q -m slow

test-gpu: $(READY)
	$(RUN) -m pytest -q -m gpu

faults: $(READY)
	OMP_NUM_THREADS=1 $(RUN) tests/attacks/faults.py

fuzz: $(READY)
	OMP_NUM_THREADS=1 $(RUN) tests/attacks/fuzz.py

bench: $(READY)
	$(RUN) bench.py suite=standing

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/lint-imports --no-cache
	$(RUN) -m mypy

format: $(READY)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
