#!/usr/bin/env bash
# Run every experiment of the paper on generated problems, with models trained from scratch, and write
# results/miniature.md and its figures. If it is interrupted, run it again to continue. JOBS=4 runs 4 processes.
#   bash scripts/miniature/run.sh
set -euo pipefail
source "$(dirname "$0")/common.sh"

if [ ! -e "$vote_data" ]; then
    python data/mini/generate.py --output_dir "$RUNS/data"
    head -n "$N_TRAIN" "$RUNS/data/train.jsonl" >"$train_data"
    head -n "$N_TEST" "$RUNS/data/test.jsonl" >"$test_data"
    head -n "$N_VOTE" "$test_data" >"$vote_data"
fi
for experiment in ladder data_amount rft unions; do
    echo "== $experiment"
    bash "scripts/miniature/$experiment.sh"
done
python analyze.py miniature --runs "$RUNS" --output_path "$RESULT"
