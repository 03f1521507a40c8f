#!/usr/bin/env bash
# Run the whole pipeline with a real model on all of GSM8K, on one GPU: SmolLM2-135M -> SFT -> K samples per
# training problem -> filter -> RFT, with greedy and majority-vote scores on all test problems. Repeats this for
# SEEDS seeds and writes a report after each. If it is interrupted, run it again to continue.
#   bash scripts/real_gpu.sh [--limit_minutes N]
# --limit_minutes N stops after N minutes with exit status 75, for a GPU that is available for only minutes at a time.
# Environment variables override the settings below, as in SEEDS=1.
set -euo pipefail
limit=1000000000 # seconds; none
if [[ $# == 2 && $1 == --limit_minutes && $2 =~ ^[0-9]+(\.[0-9]+)?$ ]]; then
    limit=$(awk "BEGIN { print int(60 * $2) }")
elif [ $# != 0 ]; then
    echo "usage: bash scripts/real_gpu.sh [--limit_minutes N]" >&2
    exit 2
fi
source "$(dirname "$0")/environment.sh" requirements.txt

: "${MODEL:=models/smollm2-135m}" "${RUNS:=runs/real_gpu}" "${RESULT:=results/smollm2_gsm8k.md}"
: "${TRAIN_DATA:=data/train_use.jsonl}" "${N_TRAIN:=7473}" "${TEST_DATA:=data/test_use.jsonl}" "${N_TEST:=1319}"
: "${SEEDS:=3}" "${K:=8}" "${VOTES:=8}" # samples per training problem, and per test problem for the vote
# the published recipe, except for the learning rate: 2e-5 is for models of 7B and more
: "${TRAIN:=--num_train_epochs 3 --global_batch_size 128 --learning_rate 3e-4 --micro_batch_tokens 16384}"
: "${SAMPLE:=--batch_size 2048}"

step() { # COMMAND...: run it until the time is up (--default-signal: commands of a background shell ignore SIGINT)
    printf '\n== %s\n' "$*"
    local left=$((limit - SECONDS))
    if ((left <= 0)) || ! timeout --foreground -s INT -k 30 "$left" env --default-signal=INT "$@"; then
        ((SECONDS >= limit)) || exit 1
        echo "time is up: run the same command again to continue" >&2
        exit 75
    fi
}
train() { # DATA MODEL SEED
    step python train.py --config configs/train/smollm2_135m.yaml --model_name_or_path "$MODEL" \
        --data_path "$1" --output_dir "$2" --seed "$3" $TRAIN
}
draw() { # MODEL DATA STORE [options]
    step python sample.py --model_name_or_path "$1" --data_path "$2" --output_dir "$3" $SAMPLE "${@:4}"
}
mkdir -p "$RUNS"
[ -f "$TEST_DATA" ] || step python data/prepare.py gsm8k
[ -f "$MODEL/config.json" ] || step python data/get_model.py smollm2-135m --output_dir "$MODEL"
head -n "$N_TRAIN" "$TRAIN_DATA" >"$RUNS/train.jsonl"
head -n "$N_TEST" "$TEST_DATA" >"$RUNS/test.jsonl"
draw "$MODEL" "$RUNS/test.jsonl" "$RUNS/base/greedy" --greedy --prompt alpaca
for ((seed = 0; seed < SEEDS; seed++)); do
    run=$RUNS/seed$seed
    train "$RUNS/train.jsonl" "$run/sft" "$seed"
    draw "$run/sft" "$RUNS/train.jsonl" "$run/sft/samples" --n_samples "$K" --seed "$seed"
    step python collect_rejection_sampling.py --data_path "$RUNS/train.jsonl" --samples "$run/sft/samples" \
        --output_path "$run/kept.jsonl"
    train "$run/kept.jsonl" "$run/rft" "$seed"
    for model in sft rft; do
        draw "$run/$model" "$RUNS/test.jsonl" "$run/$model/greedy" --greedy
        draw "$run/$model" "$RUNS/test.jsonl" "$run/$model/votes" --n_samples "$VOTES" --seed "$seed"
    done
    step python scripts/real_gpu_report.py "$RUNS" "$RESULT"
done
