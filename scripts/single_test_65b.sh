#!/usr/bin/env bash
# The published command line: bash single_test_65b.sh MODEL_DIR [GPUS [DATA]] (two GPUs per model)
[[ "${2:--}" != -* ]] || set -- "${1:-}" 0,1 "" "${@:2}"
CUDA_VISIBLE_DEVICES="$2" exec bash "$(dirname "$0")/greedy_test.sh" "$1" --tensor_parallel_size 2 ${3:+--data_path "$3"} "${@:4}"
