# `make demo` and `make test` need Python 3.11 or later and make, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS := test,docs,dashboard,fast
# Options of `make bench`, trials of `make faults`.
BENCH :=
FAULTS := 144
# uv installs several times as fast; where it reaches no registry (it does not read pip's settings), pip does it.
install = $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt $(1) \
	|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(1)

.PHONY: demo test test-slow test-soak test-torch check docs bench faults clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(call install,--editable ".[$(EXTRAS)]")
	$(call install,--no-deps dask-kubernetes)  # its schemas alone
	PATH="$(abspath $(BIN)):$$PATH" npm install --silent --no-audit --no-fund --prefix $(VENV)/azurite azurite@3.37.0
	touch $@

demo: $(VENV)/installed  ## set up, and find the flipped labels of the digits
	$(BIN)/noisydask demo

test: $(VENV)/installed  ## set up, and run the fast tests
	$(BIN)/python -m pytest -n auto --dist loadgroup

test-slow: $(VENV)/installed  ## the slow tests
	$(BIN)/python -m pytest -m "slow and not soak" -n auto --dist loadgroup --durations 30

test-soak: $(VENV)/installed  ## hundreds of kills, and what else takes long
	$(BIN)/python -m pytest -m soak

test-torch: $(VENV)/installed  ## a training on two processes with PyTorch, whose wheels take 6 GB
	$(call install,--editable ".[test,torch]")
	$(BIN)/python -m pytest -m slow tests/jobs/test_torch.py

check: $(VENV)/installed  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/installed  ## the documentation as a site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/installed  ## measure; takes minutes and 15 GB of disk
	$(call install,--editable ".[bench]")
	$(BIN)/python -m benchmarks $(BENCH)

faults: $(VENV)/installed  ## disturb jobs on purpose, and say how often something did not hold
	PYTHONPATH=tests $(BIN)/python -m rig $(FAULTS)

clean:
	rm -rf $(VENV) demo bench-data site
