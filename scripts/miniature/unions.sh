#!/usr/bin/env bash
# RFT on the pooled samples of several models, for a weak, a middling and a strong base model; and the votes:
# the same number of samples of test problems by SFT and RFT models, for maj1@100 and the number of distinct paths.
set -euo pipefail
source "$(dirname "$0")/common.sh"

stores() { for base in "$@"; do printf '%s/samples/%s ' "$RUNS" "$base"; done; }
{
    echo "collect $RUNS/unions/u_small --samples $(stores $SMALL)"
    echo "collect $RUNS/unions/u_all --samples $(stores $LADDER)"
} | side_by_side
for base in $UNIONS_FOR; do
    for union in u_small u_all; do
        for seed in $SEEDS; do
            echo "fine_tune $base $RUNS/unions/$union.jsonl $RUNS/rft/$base/$union/seed$seed $epochs $seed"
        done
    done
done | side_by_side

{
    for base in $LADDER; do
        echo "$RUNS/sft/$base/seed0"
        echo "$RUNS/rft/$base/k$many/seed0"
    done
    for base in $UNIONS_FOR; do
        echo "$RUNS/rft/$base/u_small/seed0"
        echo "$RUNS/rft/$base/u_all/seed0"
    done
} | while read -r model; do
    echo "draw $model $vote_data $model/votes --n_samples $many"
done | side_by_side
