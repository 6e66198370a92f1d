# Two commands on a fresh machine: `make demo` and `make test`. Both stand on `make venv`.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DELETE_ON_ERROR:
.PHONY: help venv demo demo-plant test peer check conformance faults soak systemd fleet aarch64 wheelhouse lock audit bench clean

help:
	@echo "make demo    from labelled images to verdicts on MQTT, in a few minutes"
	@echo "make demo-plant  two stations, recorder and dashboard for a minute: a drift, an outage (SECONDS=)"
	@echo "make test    the tests"
	@echo "make peer    PaDiM's distances against anomalib's, fetched for it"
	@echo "make check   ruff, mypy, import-linter, prose, known vulnerabilities of pinned packages"
	@echo "make conformance  the TensorRT engine against NVIDIA's bindings and its compiler, fetched for it"
	@echo "make faults  kills and damages a whole station, and looks whether a verdict is missing or wrong"
	@echo "make soak    the same for hours: 1000 kills, 200000 verdicts, memory watched"
	@echo "make systemd  installs, upgrades, breaks and removes a station under a real systemd (root)"
	@echo "make fleet   three machines with systemd and sshd, brought out to by Ansible (root)"
	@echo "make aarch64  a station of aarch64 under qemu (root)"
	@echo "make audit   the packages' known vulnerabilities, strictly: none may be left unlooked-up"
	@echo "make wheelhouse  a folder that installs a station without a network (PYTHON_OF=, MACHINE_OF=)"
	@echo "make bench   figures side by side with peers, into docs/figures.md"
	@echo "make venv    .venv with both distributions, editable"

venv: $(READY)

$(READY): pyproject.toml export/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "edge-qc needs Python 3.10 or newer, $(PYTHON) is $$($(PYTHON) --version); name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make a virtual environment; on Debian or Ubuntu: sudo apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "Installing both distributions into .venv (torch is large: minutes, once)"
	$(BIN)/python -m pip install --quiet --progress-bar on -e '.[dev]' -e ./export
	@touch $@

demo: venv
	$(BIN)/python deploy/demo/demo.py demo

# Of the demo's bundle. A control chart needs four minutes: make demo-plant SECONDS=300
SECONDS ?= 60
demo-plant: venv
	$(BIN)/python deploy/demo/plant.py demo --seconds $(SECONDS)

# Two for each of two cores: most of the time a test waits, for a process or for a moment to come.
WORKERS ?= 4

# The played camera loses pictures where others take its processor: first, by itself. What was skipped
# stands at the end. Compiled modules are kept, whatever the environment says: hundreds of processes
# start, and each would compile edge-qc anew.
test: export PYTHONDONTWRITEBYTECODE =
test: venv
	@$(BIN)/python -m pytest -m aravis tests/edge_qc/camera/test_camera_aravis.py; alone=$$?; \
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup && exit $$alone

# The same distances as anomalib's, which stands beside .venv.
peer: .venv-bench/.ready
	.venv-bench/bin/python -m pytest -m peer tests/export

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python deploy/prose.py
	$(BIN)/python deploy/audit.py

conformance: venv
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m conformance tests/conformance tests/edge_qc tests/export

# Kills, a lying network, sick disks, stages that fail, seeded mistakes: five minutes on two cores.
faults: venv
	$(BIN)/python -m pytest -n 2 -m faults tests/faults

# The long form: SOAK="--kills 1000 --verdicts 200000 --quiet 100000 --minutes 120"
soak: venv
	$(BIN)/python -m tests.faults.soak $(SOAK)

systemd: venv
	$(BIN)/python -m pytest -m systemd tests/delivery

fleet: venv
	$(BIN)/python -m pytest -m fleet tests/delivery

aarch64: venv
	$(BIN)/python -m pytest -m aarch64 tests/delivery

# A release's: what could not be looked up fails too.
audit: venv
	$(BIN)/python deploy/audit.py --strict

# Of the station, not of this machine: make wheelhouse PYTHON_OF=3.10 MACHINE_OF=aarch64 WITH=--numpy1
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' edge_qc/__init__.py)
PYTHON_OF ?= 3.12
MACHINE_OF ?= aarch64
wheelhouse: venv
	$(BIN)/python deploy/wheelhouse.py build/edge-qc-$(VERSION)-py$(PYTHON_OF)-$(MACHINE_OF) \
	  --python $(PYTHON_OF) --machine $(MACHINE_OF) $(WITH)

# What a station is pinned to, with hashes: a release's, taken anew on purpose.
lock: venv
	$(BIN)/python deploy/lock.py

# The peers need another OpenCV than ours, so they live beside .venv and only see it.
.venv-bench/.ready: $(READY) bench/requirements.txt
	$(PYTHON) -m venv .venv-bench
	$(BIN)/python -c 'import site; print("import site; site.addsitedir(%r)" % site.getsitepackages()[0])' \
	  > "$$(.venv-bench/bin/python -c 'import site; print(site.getsitepackages()[0])')/beside.pth"
	.venv-bench/bin/python -m pip install --quiet --progress-bar on -r bench/requirements.txt
	@touch $@

bench: .venv-bench/.ready
	.venv-bench/bin/python bench/run.py

clean:
	rm -rf .venv .venv-bench demo runs build dist
