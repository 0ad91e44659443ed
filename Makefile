# Two commands do it all on a fresh machine: `make reproduce` and `make test`.
SHELL := /bin/bash
PYTHON ?= python3
EXPERIMENT ?= demo
DATA ?=
TABLE ?=
PROFILE ?=
CORES ?= $(shell nproc 2>/dev/null || echo 2)
BIN := .venv/bin
READY := .venv/.ready
DISK_GB := 9
DOCTORED = results/doctor/$(notdir $(abspath $(DATA)))

.DEFAULT_GOAL := help
.PHONY: help setup reproduce plan doctor site test test-all test-lab lab bench clean

help:
	@echo "make reproduce   set up, and bring the demo up to date (EXPERIMENT=NAME DATA=DIR CORES=N PROFILE=DIR)"
	@echo "make plan        what reproduce would run, and why"
	@echo "make doctor      what is wrong with your own images and their labels (DATA=DIR TABLE=FILE)"
	@echo "make test        the tests, about eight minutes on two cores (TESTS=FILES); make test-all: the slow ones too"
	@echo "make lab         JupyterLab; make site: all results as pages; make bench: speed on this machine"
	@echo "make setup       the environment alone; make clean: remove environment, runs and caches"

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "No $(PYTHON) was found: install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$($(PYTHON) --version) is too old: install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3."; exit 1; }
	@[ -x $(BIN)/python ] || [ $$(df -Pk . | awk 'NR==2 {print int($$4 / 1048576)}') -ge $(DISK_GB) ] || { echo "The environment needs $(DISK_GB) GB and this disk has less free: free some, or clone the project to a larger disk."; exit 1; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv || { rm -rf .venv; echo "$(PYTHON) cannot make a virtual environment: install its venv module (Debian: apt install python3-venv)."; exit 1; }
	@echo "Installing the packages of requirements.lock into .venv (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock && echo "$(CURDIR)" > "$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')/mlclib.pth" || { echo "The packages could not be installed, the reason stands above: mend it (a network? disk space?) and run the same command again."; exit 1; }
	@touch $@

# mlclib/runs/plan.py knows what is out of date; Snakemake runs it in order and in parallel; papermill executes notebooks.
# Interrupted, it has said so (130), and make ends by the same signal without a line of its own.
reproduce: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m mlclib reproduce "$(EXPERIMENT)" --cores $(CORES) $(if $(DATA),--data "$(DATA)") $(if $(PROFILE),--profile "$(PROFILE)") || [ $$? = 130 ]

# What reproduce would run, and why.
plan: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m mlclib status "$(EXPERIMENT)" --cores $(CORES) $(if $(DATA),--data "$(DATA)")

# What is wrong with one's own images and their labels.
doctor: $(READY)
	@[ -d "$(DATA)" ] || { echo "There is no folder '$(DATA)': make doctor DATA=my/images needs that of your images (and TABLE=labels.csv where it holds several tables)."; exit 1; }
	@echo "Opening every picture of $(DATA) (half a minute for 600 of them), then the tables, the figures and the page"
	@$(BIN)/python -m mlclib execute notebooks/08_doctor.ipynb "$(DOCTORED)/08_doctor.ipynb" --set "data=$(DATA)" --set "table=$(TABLE)"
	@echo "What to do is in $(DOCTORED)/README.md; the notebook is $(DOCTORED)/08_doctor.ipynb"

# All results on this disk as pages to read in a browser, offline.
site: $(READY)
	@$(BIN)/python -m mlclib site

test: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest $(TESTS)

# With the tests that take long and rarely break: kills, several processes.
test-all: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m "not lab" $(TESTS)

test-lab: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n 0 -m lab tests/lab

# Freed memory is kept (glibc): else a step of seconds times how fast the system hands out a gigabyte anew.
bench: export MALLOC_MMAP_MAX_ = 0
bench: export MALLOC_TRIM_THRESHOLD_ = 64000000000
bench: $(READY)
	@$(BIN)/python -m benchmarks.scores && $(BIN)/python -m benchmarks.models && $(BIN)/python -m benchmarks.heads && $(BIN)/python -m benchmarks.input scenes data/scenes && $(BIN)/python -m benchmarks.explorer

lab: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/jupyter lab --notebook-dir=. notebooks/01_data.ipynb

clean:
	rm -rf .venv .snakemake results/runs results/features results/*/notebooks results/*/stages results/*/plan results/*/logs results/*/times results/*/jobs.json site results/.*.lock results/.*.owner results/.*.claim mlclib.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
