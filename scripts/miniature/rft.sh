#!/usr/bin/env bash
# Sample from every SFT model of the ladder and train on its RFT data with the largest k. For one of them, also train
# with every k and with three controls: no deduplication, and random correct samples with as many rows or tokens per
# problem as the distinct paths.
set -euo pipefail
source "$(dirname "$0")/common.sh"

for base in $LADDER; do
    echo "draw $RUNS/$base/sft/seed0 $train_data $RUNS/$base/samples --n_samples $many"
done | in_parallel

rft_data() { # BASE SETTING [options]
    echo "collect $RUNS/$1/$2/data --samples $RUNS/$1/samples ${*:3}"
}
{
    for base in $LADDER; do rft_data "$base" "k$many" --k "$many"; done
    for k in $KS; do
        rft_data "$RFT_OF" "k$k" --k "$k"
        rft_data "$RFT_OF" "k$k-no_dedup" --k "$k" --no_dedup
        [ "$k" -gt 1 ] || continue # with one sample, the controls would draw the same
        rft_data "$RFT_OF" "k$k-rows" --k "$k" --control rows
        rft_data "$RFT_OF" "k$k-tokens" --k "$k" --control tokens
    done
} | awk '!seen[$0]++' | in_parallel

rft() { # BASE SETTING [SEEDS]: train with every seed
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
    # the last control: solutions only, for as many steps as RFT
    for base in $(printf '%s\n' $RFT_OF $UNIONS_FOR | sort -u); do
        rows=$(wc -l <"$RUNS/$base/k$many/data.jsonl")
        for seed in $SEEDS; do
            echo "fine_tune $base sft_matched $train_data $(awk "BEGIN { print $epochs * $rows / $N_TRAIN }") $seed"
        done
    done
} | in_parallel
