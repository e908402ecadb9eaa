# Each target makes its own virtual environment first, so each works alone from a clone.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
MARKS ?= not slow and not stress
# How many processes run the tests side by side; a file's tests stay together, and files
# come in the order of their names: the last ones take no time.
JOBS ?= 2
# Of `make chaos`: how many seeds, and the first of them.
SEEDS ?= 20
FIRST ?= 0

.PHONY: test slow stress chaos demo notebooks screenshots lint bench gpu clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test,bench]'
	touch $@

# Kernels first, or each process compiles them for itself, within the time of some test.
test: $(VENV)/installed
	$(BIN)/python -m handout_dask.allocators.warming
	$(BIN)/python -m pytest -m "$(MARKS)" -n $(JOBS) --dist loadfile \
		--no-loadscope-reorder $(ARGS)

slow: $(VENV)/installed
	$(BIN)/python -m pytest -m "slow and not stress" --timeout 600 $(ARGS)

stress: $(VENV)/installed
	$(BIN)/python -m pytest -m stress --timeout 600 $(ARGS)

chaos: $(VENV)/installed
	CHAOS_FIRST=$(FIRST) CHAOS_SEEDS=$(SEEDS) $(BIN)/python -m pytest \
		tests/reliability/test_chaos.py --timeout 300 $(ARGS)

demo: $(VENV)/installed
	$(BIN)/handout demo

# Executes the notebooks and stores them with their outputs; ARGS names some of them.
notebooks: $(VENV)/installed
	$(BIN)/python -m notebooks.execute $(ARGS)

# Pages, reprs and reports at three sizes, in screenshots/, to be looked at; needs
# Chromium. With ARGS=--docs those that the README shows.
screenshots: $(VENV)/installed
	$(BIN)/python -m benchmarks.screenshots $(ARGS)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/installed
	$(BIN)/python -m benchmarks.imports
	$(BIN)/python -m benchmarks.transfer
	$(BIN)/python -m benchmarks.overhead

# On a machine with an NVIDIA GPU; CUDA=cuda12 for older drivers.
CUDA ?= cuda13
gpu: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[test,$(CUDA)]'
	$(BIN)/python -m pytest tests/gpu -m gpu $(ARGS)
	$(BIN)/python -m benchmarks.gpu

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
