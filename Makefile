# Needs Python 3.11 or newer, make and access to Python packages; nothing else.
PYTHON ?= python3.11
PY := .venv/bin/python
STAMP := .venv/.installed

.PHONY: hanford test test-all test-cluster lint bench clean
.DEFAULT_GOAL := hanford

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

hanford: $(STAMP)  ## the main job at standard size, on the published data if they can be had
	$(PY) -m workflows.hanford --fetch-data

test: $(STAMP)  ## the fast tests, six and a half minutes on two cores
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n 2 --dist loadfile -m 'not slow and not cluster'

test-all: $(STAMP)
	$(PY) -m pytest -q

test-cluster: $(STAMP)  ## on a Slurm of virtual nodes; where root and apt-get are, installs it
	.ci/test-cluster $(PY)

lint: $(STAMP)
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	.venv/bin/lint-imports

bench: $(STAMP)  ## writes benchmarks/RESULTS.md
	$(PY) -m benchmarks.run_all

clean:
	rm -rf .venv runs runinfo dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
