#!/usr/bin/env bash
# The published command line: bash group_sample_7b_13b.sh MODEL_DIR
exec bash "$(dirname "$0")/group_sample.sh" "$@"
