#!/usr/bin/env bash
# The same for a base model, with 8 solved problems in front of each question ("ICL, 8-shot").
#   bash scripts/icl_test.sh MODEL_DIR [options of sample.py]
# Then: python eval.py MODEL_DIR/icl.
exec bash "$(dirname "$0")/greedy_test.sh" "${1:-}" --prompt icl --output_dir "${1:-}/icl" "${@:2}"
