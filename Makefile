# Each target makes its own virtual environment first, so each works alone from a clone.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
MARKS ?= not slow

.PHONY: test slow demo lint bench clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test,bench]'
	touch $@

test: $(VENV)/installed
	$(BIN)/python -m pytest -m "$(MARKS)" $(ARGS)

slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow --timeout 600 $(ARGS)

demo: $(VENV)/installed
	$(BIN)/handout demo

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/installed
	$(BIN)/python -m benchmarks.imports
	$(BIN)/python -m benchmarks.transfer
	$(BIN)/python -m benchmarks.overhead

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
