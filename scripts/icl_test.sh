#!/usr/bin/env bash
# Like greedy_test.sh, for a base model: 8 solved problems precede each question (in-context learning, ICL).
#   bash scripts/icl_test.sh MODEL_DIR [options of sample.py]
# Then run: python eval.py MODEL_DIR/icl.
exec bash "$(dirname "$0")/greedy_test.sh" "${1:-}" --prompt icl --output_dir "${1:-}/icl" "${@:2}"
