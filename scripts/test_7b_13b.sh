#!/usr/bin/env bash
# The published command line: bash test_7b_13b.sh MODEL_DIR
exec bash "$(dirname "$0")/greedy_test.sh" "$@"
