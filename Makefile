# Two commands do everything on a fresh machine with Python 3.11+:
#   make hunt   environment, then a certified puzzle and what to do next
#   make test   environment, then the tests, ruff and mypy
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder
TYPING := build/typing/halfhour
FOLDERS := generator mutators puzzles solutions
WHEEL_TESTS := $(addprefix tests/cli/test_,authors.py check.py cli.py diagnosis.py doctor.py grade.py history.py hunt.py new.py pack.py) \
  tests/judge/test_session.py tests/judge/confine/test_roots.py tests/pack/test_layout.py tests/pack/test_table.py \
  tests/test_end_to_end.py::test_a_hunt_from_the_first_check_to_the_lesson \
  $(addprefix tests/test_,catalogue.py imports.py library.py render.py store.py)

# What is compiled is kept, whatever the shell says: the tests start hundreds of processes.
export PYTHONDONTWRITEBYTECODE :=
# pip compiles one file after the other, most of them of libraries that are imported in part. These
# are left to be compiled when they are imported, the others are compiled on all processors.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
IN_PART := /(dask|distributed|networkx|pip|sqlalchemy|sympy|torch/testing/_internal|transformers)/
COMPILE := $(BIN)/python -m compileall -qq -j 0 -x '$(IN_PART)' $(VENV)/lib || true

.PHONY: hunt test suite thorough dev lint style types wheel-test starter catalogue messages screens certify clean

hunt: $(VENV)/.play
	@$(BIN)/halfhour new --resume

# mypy beside the tests; either that fails, fails it.
test: style
	@$(MAKE) --no-print-directory --jobs=2 types suite

suite: dev
	@$(BIN)/python -m compileall -q generator mutators
	$(PYTEST)

# More seeds, more subjects, more rungs: what repeats, for who has the time.
thorough: dev
	$(PYTEST) --thorough

lint: style types

style: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: dev
	$(BIN)/mypy

dev: $(VENV)/.dev $(TYPING)

# What depends on what is installed, once more, against the built wheel instead of the checkout.
wheel-test: dev
	rm -rf build/wheel && mkdir -p build/wheel
	$(BIN)/python -m build --wheel --no-isolation --outdir build/wheel . >build/wheel/log 2>&1 || { cat build/wheel/log; exit 1; }
	$(BIN)/python tests/wheel_environment.py build/wheel
	$(patsubst $(BIN)/%,build/wheel/venv/bin/%,$(PYTEST)) $(WHEEL_TESTS)

starter: dev
	$(BIN)/python tests/helpers/starter.py

# The page of all bugs in mutators/: CATALOGUE.md and catalogue.html.
catalogue: $(VENV)/.play
	$(BIN)/halfhour mutators page

# The pictures in the README.
screens: dev
	$(BIN)/python tests/helpers/screens.py

# All that a candidate reads, for translators: generator/locale/halfhour.pot.
messages: dev
	$(BIN)/python tests/helpers/pot.py

# Proves every mutant, and writes the table that packs are drawn from.
certify: $(VENV)/.play
	$(BIN)/halfhour certify --jobs 2 --table mutators/certified.json

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "halfhour needs Python 3.11 or newer; say which with: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.play: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) -e .
	@$(COMPILE)
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) -e '.[dev]'
	@$(COMPILE)
	@touch $@ $(VENV)/.play

# Type checkers do not follow an editable install: show them the folders under the import name.
$(TYPING): Makefile
	@mkdir -p $@
	@for folder in $(FOLDERS); do ln -sfn ../../../$$folder $@/$$folder; done
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
