#!/usr/bin/env bash
# Every experiment of the paper on generated problems and models trained here, from nothing, and what came of it:
# results/miniature.md and its figures. Started again, it goes on where it was stopped. JOBS=4: processes at once.
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
