#!/usr/bin/env bash
# Train SFT models on parts of the data, for 3 epochs and for as many steps as with all data (the paper's settings).
set -euo pipefail
source "$(dirname "$0")/common.sh"

for part in $PARTS; do
    for seed in $SEEDS; do # each seed draws different rows
        subset=$RUNS/data/part$part-seed$seed.jsonl
        [ -e "$subset" ] || python data/subset.py --data_path "$train_data" --n_rows $((N_TRAIN / part)) \
            --seed "$seed" --output_path "$subset"
    done
done
for base in $FRACTIONS_OF; do
    for part in $PARTS; do
        for n_epochs in $epochs $((epochs * part)); do
            for seed in $SEEDS; do
                echo "fine_tune $base part$part-epochs$n_epochs $RUNS/data/part$part-seed$seed.jsonl $n_epochs $seed"
            done
        done
    done
done | in_parallel
