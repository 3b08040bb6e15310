# Everything a newcomer or CI calls. `make` alone lists the targets.
#   make demo         install into .venv and train a digit recogniser (about a minute)
#   make test         install with the test extra and run everything that needs no PyTorch
#   make test-torch   add PyTorch 2.13 to .venv and run the live comparison
#   make test-page    the pages that konv writes, in a headless Chromium (Debian: apt-get install chromium)
#   make test-core    the kernels without Python, with the long vectors that this CPU may not have
#   make test-aarch64 the kernels for aarch64, cross-compiled and run under qemu
#   make check        lint, formatting, types, and the sdist and wheel installed and tried outside the tree
#   make bench        measure the layers of benchmarks/shapes against PyTorch, ONNX Runtime, OpenVINO and ncnn
#   make sanitize     build the core with AddressSanitizer and UBSan and run the tests that reach it
# Variables: PYTHON (the interpreter that makes the environment), VENV (where it is made), WORKERS, THREADS,
#   ISA (what test-core builds: wide, 64-byte vectors made of two; or any of CMakeLists.txt; all if empty).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
THREADS ?= 2
ISA ?= wide
BIN := $(abspath $(VENV))/bin
CXX_FOUND := $(firstword $(foreach name,$(CXX) c++ g++ clang++,$(shell command -v $(name) 2>/dev/null)))

# What an installed konv depends on. The install is editable: Python files are used where they stand.
CORE := pyproject.toml CMakeLists.txt $(shell find cpp -type f 2>/dev/null)

.PHONY: help demo test test-torch test-page test-core test-aarch64 check bench sanitize stub clean compiler

help:
	@grep -E '^#   make ' Makefile | cut -c5-

compiler:
	@if [ -z "$(CXX_FOUND)" ]; then
	  echo "konv needs a C++20 compiler and found none: install one, for example 'apt-get install g++ python3-dev'" \
	    "or 'dnf install gcc-c++ python3-devel'" >&2
	  exit 1
	fi

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "konv needs Python 3.11 or later, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV) || { echo "python3 cannot make environments: install it, for example 'apt-get install python3-venv'" >&2; exit 1; }

# One stamp for the compiled package, one for each extra on top of it.
$(VENV)/.installed: $(CORE) | compiler $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[cli]'
	touch $@

# konv is installed at this point, so pip only adds what the extra names.
$(VENV)/.extra-%: pyproject.toml $(VENV)/.installed
	$(BIN)/python -m pip install --quiet 'konv[$*]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/konv train

test: $(VENV)/.extra-test
	$(BIN)/python -m pytest -q -n $(WORKERS) -m 'not torch and not page' --pyargs konv tests README.md docs

test-torch: $(VENV)/.extra-test-torch
	$(BIN)/python -m pytest -q -n $(WORKERS) -m 'torch and not page' tests

test-page: $(VENV)/.extra-test-page
	$(BIN)/python -m pytest -q -m 'page and not torch' tests/page

check: $(VENV)/.extra-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	find cpp tests -name '*.cpp' -o -name '*.hpp' | xargs $(BIN)/clang-format --dry-run --Werror
	tests/smoke/run.sh $(BIN)/python

bench: $(VENV)/.extra-bench
	$(BIN)/python benchmarks/run.py --threads $(THREADS)

# The kernels without Python; those that this CPU has are tested from Python. Debian: cmake, ninja-build.
test-core:
	cmake -S . -B build/core -G Ninja -DKONV_TESTS=ON -DKONV_ONLY=$(ISA) -DCMAKE_BUILD_TYPE=Release
	cmake --build build/core
	build/core/konv_tests

# The same for another CPU under an emulator. Debian: g++-aarch64-linux-gnu, qemu-user, cmake, ninja.
test-aarch64:
	cmake -S . -B build/aarch64 -G Ninja -DKONV_TESTS=ON -DCMAKE_BUILD_TYPE=Release -DCMAKE_SYSTEM_NAME=Linux \
	  -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++
	cmake --build build/aarch64
	qemu-aarch64 -L /usr/aarch64-linux-gnu build/aarch64/konv_tests

sanitize: $(VENV)/.extra-test
	tests/sanitize/run.sh $(BIN)/python

# The types of the compiled core, as nanobind sees them; tests/test_stub.py compares.
stub: $(VENV)/.extra-lint
	$(BIN)/python -m nanobind.stubgen -q -m konv._core -p src/konv/_core.pat -o src/konv/_core.pyi
	$(BIN)/ruff format -q src/konv/_core.pyi

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
