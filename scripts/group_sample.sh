#!/usr/bin/env bash
# 100 samples of every training problem, as published, on all GPUs of this machine.
#   bash scripts/group_sample.sh MODEL_DIR [options of sample.py]
# On several machines: --launcher ray --address auto, see slurm/sample.sbatch.
# Started again it goes on where it stopped. LAUNCHER=echo shows the command and does nothing.
set -euo pipefail
source "$(dirname "$0")/model_folder.sh"
exec ${LAUNCHER:-} python "$root/sample.py" --config "$root/configs/sample/paper.yaml" \
    --model_name_or_path "$1" --data_path "$root/data/train_use.jsonl" --output_dir "$1/samples" "${@:2}"
