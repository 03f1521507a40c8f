#!/usr/bin/env bash
# The published command line: bash group_sample_30b.sh MODEL_DIR [TEMPERATURE]
[[ "${2:--}" != -* ]] || set -- "${1:-}" 0.7 "${@:2}"
exec bash "$(dirname "$0")/group_sample.sh" "$1" --temperature "$2" "${@:3}"
