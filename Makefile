# Two commands do everything on a fresh machine with Python 3.11+:
#   make hunt   environment, then a certified puzzle and what to do next
#   make test   environment, then the tests, ruff and mypy
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TYPING := build/typing/halfhour
FOLDERS := generator mutators puzzles solutions
WHEEL_TESTS := $(addprefix tests/cli/test_,authors.py check.py cli.py diagnosis.py doctor.py grade.py history.py hunt.py new.py) \
  tests/judge/test_session.py tests/judge/confine/test_roots.py \
  $(addprefix tests/test_,catalogue.py end_to_end.py imports.py library.py render.py starter_pack.py store.py)

.PHONY: hunt test thorough dev lint wheel-test starter catalogue certify clean

hunt: $(VENV)/.play
	@$(BIN)/halfhour new --resume

test: dev lint
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile

# More seeds, more subjects, more rungs: what repeats, for who has the time.
thorough: dev
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --thorough

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

dev: $(VENV)/.dev $(TYPING)

# What depends on what is installed, once more, against the built wheel instead of the checkout.
wheel-test: dev
	rm -rf build/wheel && mkdir -p build/wheel
	$(BIN)/python -m build --wheel --no-isolation --outdir build/wheel . >build/wheel/log 2>&1 || { cat build/wheel/log; exit 1; }
	$(BIN)/python tests/wheel_environment.py build/wheel
	build/wheel/venv/bin/python -m pytest --numprocesses=auto --dist=loadfile $(WHEEL_TESTS)

starter: dev
	$(BIN)/python tests/helpers/starter.py

# The page of all bugs in mutators/: CATALOGUE.md and catalogue.html.
catalogue: $(VENV)/.play
	$(BIN)/halfhour mutators page

certify: $(VENV)/.play
	$(BIN)/halfhour certify --jobs 2

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "halfhour needs Python 3.11 or newer; say which with: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.play: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.play

# Type checkers do not follow an editable install: show them the folders under the import name.
$(TYPING): Makefile
	@mkdir -p $@
	@for folder in $(FOLDERS); do ln -sfn ../../../$$folder $@/$$folder; done
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
