#!/usr/bin/env bash
# As published: bash group_sample_65b.sh MODEL_DIR (two GPUs share a model)
exec bash "$(dirname "$0")/group_sample.sh" "${1:-}" --tensor_parallel_size 2 "${@:2}"
