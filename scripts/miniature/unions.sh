#!/usr/bin/env bash
# Train weak and strong base models on the pooled samples of several models. Then sample the test problems with each
# of their models and with exemplars, for maj1@100 and the number of distinct correct paths.
set -euo pipefail
source "$(dirname "$0")/common.sh"

stores() { for base in "$@"; do printf '%s/%s/samples ' "$RUNS" "$base"; done; }
{
    echo "collect $RUNS/unions/u_small --samples $(stores $SMALL)"
    echo "collect $RUNS/unions/u_all --samples $(stores $LADDER)"
} | in_parallel
for base in $UNIONS_FOR; do
    for union in u_all u_small; do
        for seed in $SEEDS; do
            echo "fine_tune $base $union $RUNS/unions/$union.jsonl $epochs $seed"
        done
    done
done | in_parallel

for base in $UNIONS_FOR; do
    for setting in sft "k$many" u_small u_all; do
        model=$RUNS/$base/$setting/seed0
        echo "draw $model $vote_data $model/votes --n_samples $many"
    done
    echo "draw $RUNS/$base/base $vote_data $RUNS/$base/icl/seed0/votes --n_samples $many" \
        "--prompt icl --n_shots $N_SHOTS --shots_path $train_data --shots_seed 0"
done | in_parallel
