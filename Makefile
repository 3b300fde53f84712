# `make train` and `make test` work on a fresh clone: each sets up .venv first, with what it needs.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
TRAINS := $(VENV)/.trains
READY := $(VENV)/.ready
JOBS ?= 3  # on two cores: some tests wait

.PHONY: setup train test test-slow test-gpu faults nodes fuzz bench docs pictures release lint format clean

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

nodes: $(READY)
	OMP_NUM_THREADS=1 $(RUN) tests/attacks/nodes.py

fuzz: $(READY)
	OMP_NUM_THREADS=1 $(RUN) tests/attacks/fuzz.py

bench: $(READY)
	$(RUN) bench.py suite=standing

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict
	@echo "The guide is build/site/index.html."

pictures: $(READY)
	$(RUN) docs/pictures.py

release: lint
	@test -z "$$(git status --porcelain)" || { echo "Commit first, or remove what git does not know."; exit 1; }
	rm -rf dist
	$(RUN) -m build --no-isolation
	$(RUN) -m twine check --strict dist/*
	CLEANGPT_WHEEL=$$(ls dist/*.whl) $(RUN) -m pytest -q tests/library/test_wheel.py
	@ls -l dist

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
