#!/usr/bin/env bash
# SFT on parts of the data, for 3 epochs and for as many steps as all of it takes (the paper's two settings).
set -euo pipefail
source "$(dirname "$0")/common.sh"

for part in $PARTS; do
    for seed in $SEEDS; do # another seed draws other rows
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
done | side_by_side
