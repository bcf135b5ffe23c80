# Every target sets up what it needs in a private .venv, once; `uv` is fetched into it through pip.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin

.PHONY: help setup demo test test-slow lint docs reference screenshots
help:
	@echo "make demo | make test | make test-slow | make lint | make docs | make reference | make screenshots RUN=..."

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "trcgl needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.11 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[cluster,dicom,dicom-node,dev,export,generate,serve]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/trcgl demo

test: $(READY)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

test-slow: $(READY)
	$(BIN)/python -m pytest -q -m slow

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY)
	$(BIN)/python docs/generate_results.py

# Every help text on one page, build/commands.md.
reference: $(READY)
	$(BIN)/python docs/generate_commands.py

# Not part of docs: a picture depends on the browser and its fonts, and on a run that was trained on phantoms.
screenshots: $(READY)
	$(BIN)/python docs/page_screenshots.py $(RUN)
