#!/usr/bin/env bash
# The published command line: bash single_test_30b.sh MODEL_DIR [GPUS [DATA]] (DATA is the whole file, not a shard)
[[ "${2:--}" != -* ]] || set -- "${1:-}" 0 "" "${@:2}"
CUDA_VISIBLE_DEVICES="$2" exec bash "$(dirname "$0")/greedy_test.sh" "$1" ${3:+--data_path "$3"} "${@:4}"
