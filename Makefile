# `make` lists what there is to do. Each target sets up .venv by itself, once.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test lint repro peers clean

PYTHON := .venv/bin/python
PYTEST_FLAGS ?= -n auto --maxprocesses=4 --dist=loadfile --durations=10

# grain has no wheels for later versions. python3 comes first: pyenv lets .python-version choose it.
PYTHON_NAMES := python3 python3.14 python3.13 python3.12
PYTHON_CHECK := import sys, venv, ensurepip; sys.exit(not (3, 12) <= sys.version_info[:2] <= (3, 14))

PEER_NAMES := python3.11 python3
PEER_CHECK := import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))
PEER_PACKAGES := torch==2.13.0 pytorch-metric-learning scikit-learn opencv-python-headless onnxruntime

# Sets $found to the first interpreter on PATH that passes the check. Every candidate is run,
# because a version manager's shim may stand on PATH and refuse to run.
define find_python
set -f; IFS=:; found=; \
for name in $(1); do for dir in $$PATH; do \
  candidate="$${dir:-.}/$$name"; \
  [ -x "$$candidate" ] || continue; \
  if "$$candidate" -c '$(2)' >/dev/null 2>&1; then found=$$candidate; break 2; fi; \
done; done; \
unset IFS; set +f
endef

define HELP
make install   the environment .venv, with all that the other targets need
make demo      a small margin sweep on built-in data and its report, in runs/demo
make test      every test, the slow ones too
make lint      ruff and pyright
make repro     every head with every margin; the paper's sweeps on Omniglot and LFW, in runs/
make peers     .venv-peers: PyTorch and others, to compare with in tests and benchmarks
make clean     removes environments, caches and builds; keeps runs/
endef

help:
	@: $(info $(HELP))

install: .venv/installed

.venv/bin/python:
	@if command -v uv >/dev/null && uv venv --quiet --clear --python '>=3.12,<3.15' .venv; \
	then exit; fi; \
	$(call find_python,$(PYTHON_NAMES),$(PYTHON_CHECK)); \
	if [ -z "$$found" ]; then \
	  echo 'No Python 3.12, 3.13 or 3.14 that can make environments was found on PATH.'; \
	  echo 'Install one of these, then run make again:'; \
	  echo '  uv                       https://docs.astral.sh/uv (brings Python along)'; \
	  echo '  Debian, Ubuntu           apt install python3 python3-venv'; \
	  echo '  Fedora                   dnf install python3.12'; \
	  echo '  macOS                    brew install python@3.12'; \
	  echo '  pyenv                    pyenv install 3.12'; \
	  exit 2; \
	fi >&2; \
	echo "making .venv with $$found"; \
	"$$found" -m venv --clear .venv

.venv/installed: setup.cfg pyproject.toml .venv/bin/python
	@: $(info installing into .venv; the first time takes minutes)
	@if $(PYTHON) -c 'import pip' 2>/dev/null; \
	then $(PYTHON) -m pip install --quiet -e '.[test,report,jpeg,export]'; \
	else uv pip install --quiet --python $(PYTHON) -e '.[test,report,jpeg,export]'; \
	fi
	@: > $@

demo: install
	$(PYTHON) -m experiments.sweep --config=experiments/configs/demo.py --workdir=runs/demo
	$(PYTHON) -m experiments.report --workdir=runs/demo

test: install
	$(PYTHON) -m pytest $(PYTEST_FLAGS)

lint: install
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m pyright

REPRO := omniglot_margins lfw_margins

repro: install
	$(PYTHON) -m pytest tests/heads/test_every_head.py --whole-cross -n auto --timeout=1800
	@set -e; for name in $(REPRO); do \
	  $(PYTHON) -m experiments.sweep --config=experiments/configs/$$name.py --workdir=runs/$$name; \
	  $(PYTHON) -m experiments.report --workdir=runs/$$name; \
	done

peers: .venv-peers/installed

.venv-peers/bin/python:
	@$(call find_python,$(PEER_NAMES),$(PEER_CHECK)); \
	if [ -n "$$found" ]; then \
	  echo "making .venv-peers with $$found"; \
	  "$$found" -m venv --clear .venv-peers; \
	elif ! { command -v uv >/dev/null && uv venv --quiet --seed --clear --python 3.11 .venv-peers; }; \
	then \
	  echo 'No Python 3.11 that can make environments was found on PATH.'; \
	  echo 'Install it (uv python install 3.11, or pyenv install 3.11) and run make peers again,'; \
	  echo 'or let ARCFACE_PEERS_PYTHON name an interpreter that has these:'; \
	  echo '  $(PEER_PACKAGES)'; \
	  exit 2; \
	fi >&2

# torch is named with the others: pip then keeps a build that is there, and nothing replaces it.
.venv-peers/installed: Makefile .venv-peers/bin/python
	@: $(info installing PyTorch and other peers into .venv-peers; the first time takes minutes)
	@.venv-peers/bin/python -m pip install --quiet $(PEER_PACKAGES) && \
	.venv-peers/bin/python -c 'import torch, pytorch_metric_learning, sklearn, cv2, onnxruntime' || { \
	  echo 'The peers could not be installed, or do not import. The usual reason is a build of'; \
	  echo 'PyTorch for CUDA, which is what many package indexes serve. Install a CPU build from'; \
	  echo "PyTorch's own index into .venv-peers (see https://pytorch.org/get-started), then run"; \
	  echo 'make peers again: it keeps a torch 2.13.0 that is there.'; \
	  exit 2; \
	} >&2
	@: > $@

clean:
	rm -rf .venv .venv-peers .pytest_cache .ruff_cache build dist *.egg-info
	find arcface_jax experiments tests -name __pycache__ -type d -prune -exec rm -rf {} +
