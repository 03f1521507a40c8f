#!/usr/bin/env bash
# Run the whole pipeline with a real model on a CPU: SmolLM2-135M on a slice of GSM8K.
#   bash scripts/real_small.sh [--source DIR]    DIR contains GSM8K's train.jsonl and test.jsonl
# The slice is far too small to teach such a model to reason; it shows that every stage handles a real checkpoint,
# a real tokenizer, and real text. If it is interrupted, run it again to continue.
set -euo pipefail
source "$(dirname "$0")/environment.sh" requirements.txt

runs=runs/real_small
model=models/smollm2-135m
n_train=100
n_test=64
k=4

step() { printf '\n== %s\n' "$*"; "$@"; }

step python data/prepare.py gsm8k "$@"
step python data/get_model.py smollm2-135m
mkdir -p "$runs"
head -n "$n_train" data/train_use.jsonl >"$runs/train.jsonl"
head -n "$n_test" data/test_use.jsonl >"$runs/test.jsonl"

train() { # DATA OUTPUT
    step python train.py --config configs/train/smollm2_135m.yaml --data_path "$1" --output_dir "$2"
}
draw() { # MODEL DATA STORE [options]
    step python sample.py --model_name_or_path "$1" --data_path "$2" --output_dir "$3" "${@:4}"
}

draw "$model" "$runs/test.jsonl" "$runs/base_greedy" --greedy --prompt alpaca
train "$runs/train.jsonl" "$runs/sft"
draw "$runs/sft" "$runs/test.jsonl" "$runs/sft_greedy" --greedy
draw "$runs/sft" "$runs/train.jsonl" "$runs/sft_samples" --n_samples "$k"
step python collect_rejection_sampling.py --data_path "$runs/train.jsonl" \
    --samples "$runs/sft_samples" --output_path "$runs/rft.jsonl"
train "$runs/rft.jsonl" "$runs/rft"
draw "$runs/rft" "$runs/test.jsonl" "$runs/rft_greedy" --greedy
step python eval.py "$runs"/{base,sft,rft}_greedy "$runs/sft_samples" --output_path "$runs/metrics.json"
