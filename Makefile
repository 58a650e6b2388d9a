# Everything runs in .venv, which the first target that needs it creates. Stamp files in it say what has been done, so
# that nothing is installed or built twice. `make PYTHON=python3.12 ...` chooses the interpreter of a new .venv.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip install --quiet
export PIP_DISABLE_PIP_VERSION_CHECK := 1

KERNELS   := lossfast/kernels
GENERATED := $(patsubst %.pyx,%.c,$(wildcard $(KERNELS)/*.pyx)) $(wildcard $(KERNELS)/*_api.h)
SOURCES   := setup.py pyproject.toml $(filter-out $(GENERATED),$(wildcard $(KERNELS)/*.pyx $(KERNELS)/*.pxd $(KERNELS)/*.h $(KERNELS)/*.c))

.PHONY: help run test test-all aarch64 sanitize fuzz bench bench-check bench-site performance accuracy docs lint clean always
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help:  ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.built $(VENV)/.demo  ## build, and run the demonstration on handwritten digits
	$(PY) -m lossfast demo --output-dir demo-output

test: $(VENV)/.built $(VENV)/.test  ## the ordinary tests
	$(PY) -m pytest -n auto --dist worksteal $(PYTEST)

test-all: $(VENV)/.built $(VENV)/.test  ## the slow, exhaustive tests too
	LOSSFAST_TEST_EVERY=1 $(PY) -m pytest -n auto --dist worksteal -m "" --timeout 3600 $(PYTEST)

aarch64: $(VENV)/.built $(VENV)/.test  ## the kernels for AArch64, under emulation: digests of every result
	PYTHON=$(abspath $(PY)) tests/aarch64.sh

sanitize: $(VENV)/.built $(VENV)/.test  ## the tests under AddressSanitizer, UBSan and ThreadSanitizer
	$(PY) tests/sanitize.py $(SANITIZE)

fuzz: $(VENV)/.built $(VENV)/.test  ## random calls, guided by coverage, for SECONDS (1800)
	@$(PIP) --group fuzz
	$(PY) tests/fuzz.py --seconds $(or $(SECONDS),1800)

accuracy: $(VENV)/.built $(VENV)/.bench  ## measure every function's worst error, for docs/accuracy.json
	$(PY) -m benchmarks.contract
	$(PY) -m benchmarks.picture

performance: $(VENV)/.built $(VENV)/.bench  ## measure speed beside other libraries, for docs/performance.json and the README
	$(PY) -m benchmarks.performance $(PERFORMANCE)
	$(PY) -m benchmarks.picture

bench-check: $(VENV)/.built $(VENV)/.bench  ## has anything become slower, larger or less accurate? (CHECK=--help)
	$(PY) -m benchmarks.check $(CHECK)

bench: $(VENV)/.built $(VENV)/.bench  ## benchmarks of the working tree (ASV=--quick: small ones)
	$(PY) -m asv machine --yes --config benchmarks/asv.conf.json
	LOSSFAST_BENCH_QUICK=$(if $(findstring --quick,$(ASV)),1) $(PY) -m asv run --config benchmarks/asv.conf.json \
	    -E existing:same --set-commit-hash "$$(git rev-parse HEAD)" $(ASV) $(if $(findstring --quick,$(ASV)),--dry-run)

bench-site: $(VENV)/.built $(VENV)/.bench  ## the recorded history as a page, in docs/_build/html/benchmarks (SITE=--help)
	$(PY) -m benchmarks.history $(SITE)

docs: $(VENV)/.built $(VENV)/.docs  ## the documentation, in docs/_build/html
	$(PY) -m sphinx -b html --fail-on-warning --keep-going docs docs/_build/html

lint: $(VENV)/.built $(VENV)/.lint  ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

clean:  ## remove .venv and everything built
	rm -rf $(VENV) build dist *.egg-info demo-output docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f $(KERNELS)/*.so $(GENERATED)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A .venv that failed half-way has no pip, and is made again.
$(VENV)/.base:
	@$(PY) -m pip --version >/dev/null 2>&1 || { echo "creating $(VENV)"; rm -rf $(VENV); $(PYTHON) -m venv $(VENV); } \
	    || { rm -rf $(VENV); echo "cannot create $(VENV): is Python's venv module installed?" >&2; exit 1; }
	@$(PIP) "pip>=25.1"
	@$(PIP) --group build
	@touch $@

# Changes only when the compiler asked for does, so that `CC=... make test` builds anew.
$(VENV)/.compiler: always $(VENV)/.base
	@echo "$$CC $$CFLAGS $$LOSSFAST_CFLAGS $$LOSSFAST_REQUIRE_EXT" | cmp -s - $@ || echo "$$CC $$CFLAGS $$LOSSFAST_CFLAGS $$LOSSFAST_REQUIRE_EXT" > $@

# What an earlier build left must not stand in for a build that fails.
$(VENV)/.built: $(VENV)/.compiler $(SOURCES)
	@echo "building lossfast"
	@rm -f $(KERNELS)/*.so
	@PYTHONWARNINGS=ignore $(PIP) --no-build-isolation --no-deps --editable .
	@touch $@

# The packages of a dependency group: .demo, .test, .bench, .docs, .lint
$(VENV)/.demo $(VENV)/.test $(VENV)/.bench $(VENV)/.docs $(VENV)/.lint: $(VENV)/.%: pyproject.toml | $(VENV)/.built
	@echo "installing what 'make $(patsubst demo,run,$*)' needs"
	@$(PIP) --group $*
	@touch $@
