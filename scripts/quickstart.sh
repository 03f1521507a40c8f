#!/usr/bin/env bash
# Run the paper in miniature on a laptop (base -> SFT -> k samples -> filter -> RFT -> scores) and print one table.
#   bash scripts/quickstart.sh [--seeds 3]
# Every stage is a normal command of the project. If it is interrupted, run it again to continue.
set -euo pipefail
n_seeds=1
if [ "${1:-}" = --seeds ] && [[ "${2:-}" =~ ^[1-9][0-9]*$ ]] && [ $# = 2 ]; then
    n_seeds=$2
elif [ $# != 0 ]; then
    echo "usage: bash scripts/quickstart.sh [--seeds N]" >&2
    exit 2
fi
source "$(dirname "$0")/environment.sh" requirements.txt

runs=runs/quickstart
train_data=data/mini/train.jsonl
test_data=data/mini/test.jsonl
epochs=3  # for SFT and RFT, as in the paper
few=4   # k of the smaller RFT set
many=16 # k of the larger one; samples drawn per training problem
votes=8 # samples drawn per test problem for maj1@8

train() { # DATA MODEL EPOCHS SEED: fine-tune the base model
    echo "== train $2"
    python train.py --config configs/train/mini.yaml --data_path "$1" --output_dir "$2" \
        --num_train_epochs "$3" --seed "$4"
}

draw() { # MODEL DATA STORE SEED [options]: sample from a model
    local model=$1 data=$2 store=$3 seed=$4
    shift 4
    echo "== sample $store"
    python sample.py --config configs/sample/mini.yaml --model_name_or_path "$model" \
        --data_path "$data" --output_dir "$store" --seed "$seed" "$@"
}

collect() { # K STORE OUTPUT [options]: keep the correct, distinct paths among the first K samples
    local k=$1 store=$2 output=$3
    shift 3
    echo "== collect $output"
    python collect_rejection_sampling.py --data_path "$train_data" --samples "$store" --k "$k" \
        --output_path "$output" "$@"
}

draw data/mini/model "$test_data" "$runs/base/greedy" 0 --greedy
for ((seed = 0; seed < n_seeds; seed++)); do
    run=$runs/seed$seed
    train "$train_data" "$run/sft" "$epochs" "$seed"
    draw "$run/sft" "$train_data" "$run/sft/samples" "$seed" --n_samples "$many"
    for k in $few $many; do
        collect "$k" "$run/sft/samples" "$run/rft_k$k.jsonl"
        train "$run/rft_k$k.jsonl" "$run/rft_k$k" "$epochs" "$seed"
    done
    # a control: random correct samples, as many per problem as in the larger RFT set
    collect "$many" "$run/sft/samples" "$run/rft_k${many}_random.jsonl" --control rows --seed "$seed"
    train "$run/rft_k${many}_random.jsonl" "$run/rft_k${many}_random" "$epochs" "$seed"
    # another control: SFT data for as many steps as the larger RFT run
    rows=$(wc -l <"$run/rft_k$many.jsonl")
    more=$(awk "BEGIN { print $epochs * $rows / $(wc -l <"$train_data") }")
    train "$train_data" "$run/sft_matched" "$more" "$seed"
    for model in sft sft_matched "rft_k$few" "rft_k${many}_random" "rft_k$many"; do
        draw "$run/$model" "$test_data" "$run/$model/greedy" 0 --greedy
    done
    for model in sft "rft_k$many"; do
        draw "$run/$model" "$test_data" "$run/$model/votes" "$seed" --n_samples "$votes"
    done
done
python scripts/quickstart_table.py "$runs" "$n_seeds"
