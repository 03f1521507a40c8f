#!/usr/bin/env bash
# Base models of several sizes and budgets, their pre-training loss, and what SFT and 8 exemplars make of each.
set -euo pipefail
source "$(dirname "$0")/common.sh"

for base in $LADDER; do echo "pretrain $base"; done | side_by_side
for base in $LADDER; do
    for seed in $SEEDS; do
        echo "fine_tune $base $train_data $RUNS/sft/$base/seed$seed $epochs $seed"
    done
    echo "draw $RUNS/base/$base $test_data $RUNS/base/$base/greedy --greedy"
    echo "draw $RUNS/base/$base $test_data $RUNS/base/$base/icl --greedy --prompt icl --shots_path $train_data"
done | side_by_side
