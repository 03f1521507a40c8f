#!/usr/bin/env bash
# The whole test suite: formatting, lint, types, tests. Installs what it needs into .venv.
#   bash scripts/test.sh [arguments of pytest]
set -euo pipefail
source "$(dirname "$0")/environment.sh" requirements.txt requirements-dev.txt
ruff check .
ruff format --check .
mypy
export OMP_NUM_THREADS=1 # the models are tiny, and pytest runs one process per core
# loadgroup: tests that share a cluster or an engine run one after another
exec pytest -n auto --dist loadgroup "$@"
