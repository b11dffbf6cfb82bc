# make demo   trains the demo and prints its result    make test   runs the tests
# make lint   ruff, mypy, import-linter, clang-format   make soak   the tests that take minutes
# make wheel  a wheel for this platform with the CPU kernels of all instruction sets in it, for the torch installed here

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CXX_SOURCES = $(shell git ls-files '*.cpp' '*.h' '*.cu' '*.cuh' ':!tests/data_0_1')

.PHONY: demo test lint soak wheel format sanitize clean

demo: $(VENV)/.package
	$(BIN)/lgn fit digits

# A file's tests stay together, as they share fixtures; child processes find what they import compiled.
test: $(VENV)/.dev
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not soak and not cuda" --durations=10

soak: $(VENV)/.dev
	$(BIN)/python -m pytest -q -m soak

wheel: $(VENV)/.dev
	rm -rf build/lib build/carried
	$(BIN)/lgn build --all-isa --into build/carried
	LGN_CARRIED_LIBRARIES=build/carried $(BIN)/python -m build --wheel --no-isolation

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy lgn_lightning
	$(BIN)/lint-imports
	$(if $(CXX_SOURCES),$(BIN)/clang-format --dry-run -Werror $(CXX_SOURCES))

# Runs every kernel under AddressSanitizer and UndefinedBehaviorSanitizer, without torch.
sanitize:
	tests/ext/sanitize.sh build/sanitize

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(if $(CXX_SOURCES),$(BIN)/clang-format -i $(CXX_SOURCES))

$(VENV)/.venv:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.package: $(VENV)/.venv pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.dev: $(VENV)/.venv pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ $(VENV)/.package

clean:
	rm -rf $(VENV) build dist *.egg-info
