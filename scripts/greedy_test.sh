#!/usr/bin/env bash
# The greedy completion of every test problem, on all GPUs of this machine.
#   bash scripts/greedy_test.sh MODEL_DIR [options of sample.py]
# Then: python eval.py MODEL_DIR/greedy. LAUNCHER=echo shows the command and does nothing.
set -euo pipefail
if [[ "${1:-}" == "" || "$1" == -* ]]; then
    echo "usage: bash $0 MODEL_DIR [options of sample.py]" >&2
    exit 2
fi
if [ -z "${LAUNCHER:-}" ] && [ ! -f "$1/config.json" ]; then
    echo "error: $1: no config.json there; give the folder of a checkpoint" >&2
    exit 1
fi
root="$(cd "$(dirname "$0")/.." && pwd)"
[ ! -d "$root/.venv" ] || PATH="$root/.venv/bin:$PATH"
exec ${LAUNCHER:-} python "$root/sample.py" --greedy \
    --model_name_or_path "$1" --data_path "$root/data/test_use.jsonl" --output_dir "$1/greedy" "${@:2}"
