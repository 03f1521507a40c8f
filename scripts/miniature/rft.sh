#!/usr/bin/env bash
# RFT: k samples of each training problem by every SFT model of the ladder; RFT data and training with the
# largest k for each, and for one of them with every k, beside three controls: no de-duplication, and random
# right samples, as many rows or tokens of each problem as there are distinct paths.
set -euo pipefail
source "$(dirname "$0")/common.sh"

for base in $LADDER; do
    echo "draw $RUNS/$base/sft/seed0 $train_data $RUNS/$base/samples --n_samples $many"
done | side_by_side

rft_data() { # BASE SETTING [options]
    echo "collect $RUNS/$1/$2/data --samples $RUNS/$1/samples ${*:3}"
}
{
    for base in $LADDER; do rft_data "$base" "k$many" --k "$many"; done
    for k in $KS; do
        rft_data "$RFT_OF" "k$k" --k "$k"
        rft_data "$RFT_OF" "k$k-no_dedup" --k "$k" --no_dedup
        [ "$k" -gt 1 ] || continue # of one sample the controls would draw the same
        rft_data "$RFT_OF" "k$k-rows" --k "$k" --control rows
        rft_data "$RFT_OF" "k$k-tokens" --k "$k" --control tokens
    done
} | awk '!seen[$0]++' | side_by_side

rft() { # BASE SETTING [SEEDS]: training with every seed
    for seed in ${3:-$SEEDS}; do
        echo "fine_tune $1 $2 $RUNS/$1/$2/data.jsonl $epochs $seed"
    done
}
{
    for k in $KS; do rft "$RFT_OF" "k$k-no_dedup" "$SEEDS_OF_ALL"; done
    for k in $KS; do
        rft "$RFT_OF" "k$k"
        [ "$k" -gt 1 ] || continue
        for control in rows tokens; do rft "$RFT_OF" "k$k-$control"; done
    done
    for base in $LADDER; do
        [ "$base" = "$RFT_OF" ] || rft "$base" "k$many"
    done
    # the last control: the solutions alone, for as many steps as RFT takes
    for base in $(printf '%s\n' $RFT_OF $UNIONS_FOR | sort -u); do
        rows=$(wc -l <"$RUNS/$base/k$many/data.jsonl")
        for seed in $SEEDS; do
            echo "fine_tune $base sft_matched $train_data $(awk "BEGIN { print $epochs * $rows / $N_TRAIN }") $seed"
        done
    done
} | side_by_side
