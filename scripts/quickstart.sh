#!/usr/bin/env bash
# Run the paper in miniature on a laptop (base -> SFT -> k samples -> filter -> RFT -> scores) and print one table.
#   bash scripts/quickstart.sh [--seeds 3] [--full]
# --full adds a smaller RFT set, the control of random samples, and votes, and takes about twice as long.
# Every stage is a normal command of the project. If it is interrupted, run it again to continue.
set -euo pipefail
n_seeds=1 full=
usage() {
    echo "usage: bash scripts/quickstart.sh [--seeds N] [--full]" >&2
    exit 2
}
while [ $# != 0 ]; do
    case "$1" in
    --seeds)
        [[ "${2:-}" =~ ^[1-9][0-9]*$ ]] || usage
        n_seeds=$2
        shift 2
        ;;
    --full)
        full=yes
        shift
        ;;
    *) usage ;;
    esac
done
source "$(dirname "$0")/environment.sh" requirements.txt

runs=runs/quickstart
train_data=data/mini/train.jsonl
test_data=data/mini/test.jsonl
epochs=3  # for SFT and RFT, as in the paper
few=4   # k of the smaller RFT set
many=16 # k of the larger one; samples drawn per training problem
votes=8 # samples drawn per test problem for maj1@8
# One thread for each process: two such processes train more together than one with two threads, another program
# that keeps a core busy slows them less, and the numbers do not depend on the number of cores.
export OMP_NUM_THREADS=1
n_steps=0 n_seconds=0 # of the whole quickstart, as counted by "step"
started_at=$(date +%s)

train() { # DATA MODEL EPOCHS SEED: fine-tune the base model
    python train.py --config configs/train/mini.yaml --data_path "$1" --output_dir "$2" \
        --num_train_epochs "$3" --seed "$4"
}

train_longer() { # DATA MODEL LONGER SEED: train on DATA for as many steps as RFT on LONGER
    train "$1" "$2" "$(awk "BEGIN { print $epochs * $(wc -l <"$3") / $(wc -l <"$1") }")" "$4"
}

sample() { # MODEL DATA STORE [options]: sample from a model
    python sample.py --config configs/sample/mini.yaml --model_name_or_path "$1" \
        --data_path "$2" --output_dir "$3" "${@:4}"
}

collect() { # STORE OUTPUT K [options]: keep the correct, distinct paths among the first K samples
    python collect_rejection_sampling.py --data_path "$train_data" --samples "$1" --output_path "$2" \
        --k "$3" "${@:4}"
}

step() { # SECONDS NAME COMMAND...: run one step, which takes about SECONDS where nothing else runs; or count it
    if [ -n "$counting" ]; then
        n_steps=$((n_steps + 1)) n_seconds=$((n_seconds + $1))
        return
    fi
    local since number=1
    until mkdir "$runs/.steps/$number" 2>/dev/null; do number=$((number + 1)); done # not the same number twice
    echo "== step $number of $n_steps, $(time_left): $3 $2" >&2
    since=$(date +%s)
    if [ -n "$at_once" ]; then # whole lines that say whose they are
        "${@:3}" 2>&1 | while IFS= read -r line; do echo "$2: $line"; done >&2
    else
        "${@:3}"
    fi
    # what an earlier run had finished takes no time and does not count
    [ $(($(date +%s) - since)) -lt $(($1 / 5)) ] || echo "$1" >>"$runs/.steps/measured"
    echo "$1" >>"$runs/.steps/done"
}

time_left() { # scale what the remaining steps take by how long those so far have taken
    awk -v total="$n_seconds" -v elapsed="$(($(date +%s) - started_at))" '
        FILENAME ~ /measured$/ { measured += $1 }
        FILENAME ~ /done$/ { ended += $1 }
        END {
            left = (total - ended) * (measured ? elapsed / measured : 1)
            printf "about %d min left", left / 60 + 0.99
        }' "$runs/.steps/measured" "$runs/.steps/done"
}

score() { # SEED MODEL: train a model, unless it is base or sft, and sample what its scores need
    local seed=$1 model=$2 run=$runs/seed$1
    local rft=$run/rft_k$many.jsonl
    case $model in
    base) run=$runs ;;
    sft) ;;
    sft_matched) step 58 "$model" train_longer "$train_data" "$run/$model" "$rft" "$seed" ;;
    rft_k$few) step 40 "$model" train "$run/$model.jsonl" "$run/$model" "$epochs" "$seed" ;;
    *) step 58 "$model" train "$run/$model.jsonl" "$run/$model" "$epochs" "$seed" ;;
    esac
    local path=$run/$model
    [ "$model" != base ] || path=data/mini/model
    step 6 "$model" sample "$path" "$test_data" "$run/$model/greedy" --greedy --seed 0
    case $full$model in
    yessft | "yesrft_k$many") # maj1@8
        step 28 "$model" sample "$path" "$test_data" "$run/$model/votes" --seed "$seed" --n_samples "$votes" ;;
    esac
}

score_at_once() { # SEED MODEL...: score models, as many at a time as there are cores
    local seed=$1 model
    shift
    if [ -n "$counting" ]; then
        for model in "$@"; do score "$seed" "$model"; done
        return
    fi
    # 255 stops xargs; its own message would hide the error
    printf '%s\n' "$@" | at_once=yes xargs -n 1 -P "$(getconf _NPROCESSORS_ONLN)" bash -c \
        "set -euo pipefail; trap '[ \$? = 0 ] || exit 255' EXIT; score $seed \"\$1\" 2>&3" _ 3>&2 2>/dev/null || {
        echo "error: a step has failed; its error is above. Run the same command again to continue" >&2
        exit 1
    }
}

run_seed() { # SEED
    local seed=$1 run=$runs/seed$1
    step 36 sft train "$train_data" "$run/sft" "$epochs" "$seed"
    step 56 "$many times per problem from sft" sample "$run/sft" "$train_data" "$run/sft/samples" \
        --seed "$seed" --n_samples "$many" --n_workers 2
    step 2 "rft_k$many" collect "$run/sft/samples" "$run/rft_k$many.jsonl" "$many"
    # sft_matched is a control: SFT data for as many steps as the larger RFT run
    local models="rft_k$many sft_matched"
    if [ -n "$full" ]; then
        step 2 "rft_k$few" collect "$run/sft/samples" "$run/rft_k$few.jsonl" "$few"
        # another control: random correct samples, as many per problem as in the larger RFT set
        step 2 "rft_k${many}_random" collect "$run/sft/samples" "$run/rft_k${many}_random.jsonl" "$many" \
            --control rows --seed "$seed"
        models+=" rft_k${many}_random rft_k$few"
    fi
    [ "$seed" != 0 ] || models+=" base"
    # shellcheck disable=SC2086
    score_at_once "$seed" $models sft
}

run_all() {
    for ((seed = 0; seed < n_seeds; seed++)); do run_seed "$seed"; done
}

at_once=
counting=yes run_all
rm -rf "$runs/.steps"
mkdir -p "$runs/.steps"
touch "$runs/.steps/measured" "$runs/.steps/done"
export runs train_data test_data epochs few many votes full n_steps n_seconds started_at counting=
export -f train train_longer sample step time_left score
run_all
python scripts/quickstart_table.py "$runs" "$n_seeds"
