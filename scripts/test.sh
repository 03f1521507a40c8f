#!/usr/bin/env bash
# Check formatting, lint, and types, and run every test. Installs what it needs into .venv.
#   bash scripts/test.sh [arguments of pytest]
#   bash scripts/test.sh -m "not slow"    # skip the tests that take more than 5 seconds
set -euo pipefail
source "$(dirname "$0")/environment.sh" requirements.txt requirements-dev.txt
ruff check .
ruff format --check .
mypy
export OMP_NUM_THREADS=1 # the models are tiny, and pytest runs one process per core
# loadgroup: tests that share a cluster or an engine run in the same process
exec pytest -n auto --dist loadgroup "$@"
