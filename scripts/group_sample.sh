#!/usr/bin/env bash
# 100 samples of every training problem, as published, on all GPUs of this machine.
#   bash scripts/group_sample.sh MODEL_DIR [options of sample.py]
# On several machines: --launcher ray --address auto, see slurm/sample.sbatch.
# Started again it goes on where it stopped. LAUNCHER=echo shows the command and does nothing.
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
exec ${LAUNCHER:-} python "$root/sample.py" --config "$root/configs/sample/paper.yaml" \
    --model_name_or_path "$1" --data_path "$root/data/train_use.jsonl" --output_dir "$1/samples" "${@:2}"
