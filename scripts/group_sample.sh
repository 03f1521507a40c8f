#!/usr/bin/env bash
# Draw 100 samples per training problem, as published, into MODEL_DIR/samples, using all GPUs of this machine.
#   bash scripts/group_sample.sh MODEL_DIR [options of sample.py]
# On several machines: --launcher ray --address auto (see slurm/sample.sbatch). If it is interrupted, run it again
# to continue. LAUNCHER=echo prints the command instead of running it.
set -euo pipefail
source "$(dirname "$0")/model_folder.sh"
exec ${LAUNCHER:-} python "$root/sample.py" --config "$root/configs/sample/paper.yaml" \
    --model_name_or_path "$1" --data_path "$root/data/train_use.jsonl" --output_dir "$1/samples" "${@:2}"
