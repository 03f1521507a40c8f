#!/usr/bin/env bash
# The published command line: bash group_sample_65b.sh MODEL_DIR (two GPUs per model)
exec bash "$(dirname "$0")/group_sample.sh" "${1:-}" --tensor_parallel_size 2 "${@:2}"
