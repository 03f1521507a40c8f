#!/usr/bin/env bash
# RFT: k samples of each training problem by every SFT model of the ladder; RFT data and training with the
# largest k for each, and for one of them with every k, beside three controls: no de-duplication, and random
# right samples, as many rows or tokens of each problem as there are distinct paths.
set -euo pipefail
source "$(dirname "$0")/common.sh"

for base in $LADDER; do
    echo "draw $RUNS/sft/$base/seed0 $train_data $RUNS/samples/$base --n_samples $many"
done | side_by_side
for base in $LADDER; do
    echo "collect $RUNS/rft/$base/k$many/data --samples $RUNS/samples/$base"
done | side_by_side
for k in $KS; do
    made="--samples $RUNS/samples/$RFT_OF --k $k"
    echo "collect $RUNS/rft/$RFT_OF/k$k/data $made"
    echo "collect $RUNS/rft/$RFT_OF/k$k-no_dedup/data $made --no_dedup"
    echo "collect $RUNS/rft/$RFT_OF/k$k-rows/data $made --control rows"
    echo "collect $RUNS/rft/$RFT_OF/k$k-tokens/data $made --control tokens"
done | side_by_side

rft() { # BASE ARM: RFT training with every seed
    for seed in $SEEDS; do
        echo "fine_tune $1 $RUNS/rft/$1/$2/data.jsonl $RUNS/rft/$1/$2/seed$seed $epochs $seed"
    done
}
{
    for k in $KS; do
        for arm in -no_dedup "" -rows -tokens; do rft "$RFT_OF" "k$k$arm"; done
    done
    for base in $LADDER; do
        [ "$base" = "$RFT_OF" ] || rft "$base" "k$many"
    done
} | side_by_side

# the last control: the solutions alone, for as many steps as RFT takes
for base in $UNIONS_FOR $RFT_OF; do
    rows=$(wc -l <"$RUNS/rft/$base/k$many/data.jsonl")
    for seed in $SEEDS; do
        echo "fine_tune $base $train_data $RUNS/sft_matched/$base/seed$seed $(awk "BEGIN { print $epochs * $rows / $N_TRAIN }") $seed"
    done
done | side_by_side
