# make demo   sets up, trains on the handwritten digits that ship inside scikit-learn, shows the result
# make test   sets up and passes the tests; make test COVERAGE=1 says which lines they ran, and takes a third longer
# make docs   builds the documentation site, with its search, in build/site
# make clean  removes everything that was made here
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# One thread for each test process: two BLAS threads beside two processes would only wait for each other.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

COVERAGE ?=

.PHONY: help demo test lint docs clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

$(VENV)/ok: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("xpnn needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

demo: $(VENV)/ok
	$(BIN)/xpnn train digits --out runs/digits

lint: $(VENV)/ok
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	$(if $(COVERAGE),$(BIN)/python -m coverage erase)
	$(BIN)/python -m pytest -n 2 $(if $(COVERAGE),--cov --cov-report=term)

docs: $(VENV)/ok
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --config-file docs/site/mkdocs.yml
	@echo 'To read it: python3 -m http.server --directory build/site'

clean:
	rm -rf $(VENV) build runs .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis
