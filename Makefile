# Needs Python >= 3.11, git, make and gcc. The plain commands are in README.md.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: bench demo docs test lint

demo: $(VENV)/.installed
	$(BIN)/imasks demo

test: $(VENV)/.installed
	$(BIN)/pytest -n 2

# a quarter of an hour; --help of the script shows how to make it shorter
bench: $(VENV)/.installed
	$(BIN)/python bench/cpu.py

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# the variable silences a notice that Material for MkDocs is maintained until May 2027 only
docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]' --constraint constraints.txt
	touch $@
