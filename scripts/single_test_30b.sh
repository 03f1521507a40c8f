#!/usr/bin/env bash
# As published: bash single_test_30b.sh MODEL_DIR [GPUS [DATA]] (all of DATA, not a shard of it)
[[ "${2:--}" != -* ]] || set -- "${1:-}" 0 "" "${@:2}"
CUDA_VISIBLE_DEVICES="$2" exec bash "$(dirname "$0")/greedy_test.sh" "$1" ${3:+--data_path "$3"} "${@:4}"
