#!/usr/bin/env bash
# Pre-train base models of several sizes and budgets, and score each with SFT and with exemplars in the prompt.
set -euo pipefail
source "$(dirname "$0")/common.sh"

for base in $LADDER; do echo "pretrain $base"; done | in_parallel
for base in $LADDER; do
    for seed in $SEEDS; do
        echo "fine_tune $base sft $train_data $epochs $seed"
        echo "draw $RUNS/$base/base $test_data $RUNS/$base/icl/seed$seed/greedy --greedy" \
            "--prompt icl --n_shots $N_SHOTS --shots_path $train_data --shots_seed $seed"
    done
done | in_parallel
