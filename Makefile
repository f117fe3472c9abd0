# Everything a fresh checkout needs: `make demo` and `make test` install what they use into .venv.

PYTHON ?= python3
VENV ?= .venv
# Where the tools of `make lint` lie. Empty ("make lint BIN=") takes them from PATH.
BIN ?= $(VENV)/bin/
STORY ?= slow_storage

PIP = $(VENV)/bin/python -m pip --disable-pip-version-check install -qq --constraint constraints.txt

# Tests that do not mind others beside them. What the agent does in a training is tested alone.
BESIDE = tests/contract tests/gates tests/install $(addprefix tests/unit/,cli comparison experiments fixes probe reports rules source_edits traces)

.PHONY: help demo test lint ruff format types imports docs bench bench-tunes bench-traces zoo recovered clean

help:
	@echo "make demo   profile a sample training in a new environment, and say what to do about it"
	@echo "make test   install what the tests need; run the gates and the tests"
	@echo "make lint   the gates alone: ruff, formatting, types, import contracts, the pages of docs/"
	@echo "make docs   build the pages of docs/ as a site in build/site"
	@echo "make bench  measure what trainprof costs a training (takes several minutes)"
	@echo "make bench-traces TRACE=FILE  measure what the diagnosis of a trace costs, beside HTA (minutes)"
	@echo "make bench-tunes  try placebos and a planted gain in 20 whole tunes (half an hour)"
	@echo "make zoo   diagnose every case of the benchmark and write docs/zoo.md (up to an hour)"
	@echo "make recovered  measure how much of a repair by hand the fixes gain (half an hour)"
	@echo "make clean  remove the environment and everything that was built"

demo: $(VENV)/.demo-installed
	@echo
	@echo "\$$ trainprof run sample_runs/$(STORY)/train.py"
	@$(VENV)/bin/trainprof run sample_runs/$(STORY)/train.py
	@echo
	@echo "Try next, after '. $(VENV)/bin/activate':"
	@echo "  trainprof run sample_runs/$(STORY)/fixed.py   the same training, repaired"
	@echo "  trainprof run sample_runs/healthy_conv/train.py   one with nothing worth changing"
	@echo "  trainprof run YOUR-TRAINING.py                your own, unmodified"
	@echo "  trainprof runs                                the runs so far"

test: $(VENV)/.test-installed
	$(VENV)/bin/python -m pytest -m "not slow" -rfEs --durations=10 $(BESIDE) -n 2 --dist loadfile
	$(VENV)/bin/python -m pytest -m "not slow" -rfEs --durations=10 $(BESIDE:%=--ignore=%)

lint: $(VENV)/.test-installed ruff format types imports docs

# The gates. tests/gates runs these same targets on the repository, and on copies that break a rule.
# Ruff does not follow the links below trainprof/, so it runs on the real folders.
ruff:
	@$(BIN)ruff check .

format:
	@$(BIN)ruff format --check .

types:
	@$(BIN)mypy -p trainprof

imports:
	@$(BIN)lint-imports

# SITE is where to. A link or an anchor that leads nowhere is an error (not with --quiet: then mkdocs
# does not count its warnings).
SITE ?= build/site
docs:
	@NO_MKDOCS_2_WARNING=1 $(BIN)mkdocs build --strict --site-dir $(SITE)

# What the agent costs, and what it costs to watch it. With TRACE=FILE the diagnosis of a trace too.
bench: $(VENV)/.test-installed $(if $(TRACE),bench-traces)
	$(VENV)/bin/python benchmarks/overhead.py
	$(VENV)/bin/python benchmarks/watching.py --markdown docs/watching-cost.md

# Installs HolisticTraceAnalysis into an environment of its own, benchmarks/.venv-peer.
# RANKS="FILE FILE ..." measures 256 ranks made of these as well.
RANKS ?=
bench-traces: $(VENV)/.demo-installed
	@test -n "$(TRACE)" || { echo "name a trace: make bench-traces TRACE=FILE"; exit 1; }
	$(VENV)/bin/python benchmarks/traces.py $(TRACE) --ranks $(RANKS) --markdown docs/trace-benchmark.md

# Half an hour on a quiet machine of two cores; continued where RESULTS is there already.
RESULTS ?= live-tunes.json
CORES ?= 0,1
bench-tunes: $(VENV)/.test-installed
	$(VENV)/bin/python benchmarks/live_tunes.py $(RESULTS) --cores $(CORES) --markdown docs/live-tunes.md

# ZOO="--no-runs" or names of cases narrow it: make zoo ZOO=healthy/
zoo: $(VENV)/.test-installed
	PYTHONPATH=tests $(VENV)/bin/python -m zoo $(ZOO)

# RECOVERED="--rounds 2" or names of cases narrow it; what was measured before is kept.
recovered: $(VENV)/.test-installed
	PYTHONPATH=tests $(VENV)/bin/python benchmarks/recovered.py $(RECOVERED)

clean:
	rm -rf $(VENV) benchmarks/.venv-peer build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Installed again only when what is installed, or its versions, have changed.
$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "trainprof needs Python 3.10 or newer; name one: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "$(PYTHON) cannot make environments; install its venv module (Debian: python3-venv)"; exit 1; }
	@touch $@

$(VENV)/.demo-installed: $(VENV)/.python pyproject.toml constraints.txt
	@echo "Installing trainprof and torch into $(VENV) (a few minutes the first time) ..."
	@$(PIP) --editable '.[torch]'
	@touch $@

$(VENV)/.test-installed: $(VENV)/.python pyproject.toml constraints.txt
	@echo "Installing trainprof and what its tests need into $(VENV) (a few minutes the first time) ..."
	@$(PIP) --editable '.[torch,near-duplicates,test,loops,dev,docs]'
	@touch $@ $(VENV)/.demo-installed
