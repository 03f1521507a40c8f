#!/usr/bin/env bash
# Write the greedy completion of every test problem to MODEL_DIR/greedy, using all GPUs of this machine.
#   bash scripts/greedy_test.sh MODEL_DIR [options of sample.py]
# Then run: python eval.py MODEL_DIR/greedy. LAUNCHER=echo prints the command instead of running it.
set -euo pipefail
source "$(dirname "$0")/model_folder.sh"
exec ${LAUNCHER:-} python "$root/sample.py" --greedy \
    --model_name_or_path "$1" --data_path "$root/data/test_use.jsonl" --output_dir "$1/greedy" "${@:2}"
