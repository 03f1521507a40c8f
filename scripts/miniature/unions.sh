#!/usr/bin/env bash
# RFT on the pooled samples of several models, for a weak, a middling and a strong base model; and the votes:
# the same number of samples of test problems by SFT and RFT models, for maj1@100 and the number of distinct paths.
set -euo pipefail
source "$(dirname "$0")/common.sh"

stores() { for base in "$@"; do printf '%s/%s/samples ' "$RUNS" "$base"; done; }
{
    echo "collect $RUNS/unions/u_small --samples $(stores $SMALL)"
    echo "collect $RUNS/unions/u_all --samples $(stores $LADDER)"
} | side_by_side
for base in $UNIONS_FOR; do
    for union in u_all u_small; do
        for seed in $SEEDS; do
            echo "fine_tune $base $union $RUNS/unions/$union.jsonl $epochs $seed"
        done
    done
done | side_by_side

votes() { # BASE SETTING
    echo "draw $RUNS/$1/$2/seed0 $vote_data $RUNS/$1/$2/seed0/votes --n_samples $many"
}
{
    for base in $LADDER; do
        votes "$base" sft
        votes "$base" "k$many"
    done
    for base in $UNIONS_FOR; do
        votes "$base" u_small
        votes "$base" u_all
    done
} | side_by_side
