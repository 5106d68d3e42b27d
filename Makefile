VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test check

$(VENV)/ready: pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/ready
	$(BIN)/transfer-risk demo --out demo

test: $(VENV)/ready
	$(BIN)/python -m pytest -q

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy analysis
	$(BIN)/mypy figures
	$(BIN)/python -m pytest -q tests/test_layers.py
