# Source this for the settings and functions that the scripts of this folder share. Every step is one command of
# the project. Steps whose run.json exists are skipped, so a script that is run again continues where it stopped.
# Models trained from a base model lie in RUNS/BASE/SETTING/seedN, samples for their scores in greedy and votes.
source "$(dirname "${BASH_SOURCE[0]}")/../environment.sh" requirements.txt

: "${RUNS:=runs/miniature}" "${RESULT:=results/miniature.md}"
# base models as WIDTHxDEPTH-BUDGET, pre-trained from scratch on BUDGET million tokens. Here and below the slowest
# come first, so that no process ends long after the others.
: "${LADDER:=128x3-18M 96x3-18M 64x3-18M 128x3-9M 96x3-9M 64x3-9M}"
: "${FRACTIONS_OF:=96x3-9M 128x3-9M 96x3-18M 128x3-18M}" # base models for the experiment on the amount of data
: "${RFT_OF:=96x3-9M}"                          # base model for the experiment on k
: "${UNIONS_FOR:=64x3-9M 64x3-18M 96x3-9M 128x3-18M}" # base models trained on unions, weakest to strongest
: "${SMALL:=64x3-9M 64x3-18M 96x3-9M 128x3-9M}" # whose samples are pooled in u_small; u_all pools all
: "${N_TRAIN:=512}"                             # training problems; 1/32 of them is two batches
: "${BATCH:=8}"                                 # examples per step: SFT takes 192 steps, about 175 in the paper
: "${N_TEST:=500}"                              # test problems
: "${N_VOTE:=100}"                              # test problems for maj1@100
: "${KS:=100 50 25 12 6 3 1}"
: "${PARTS:=2 4 8 16 32}" # amounts of data: 1/2, 1/4, ...
: "${SEEDS:=0 1 2}"        # seeds of training
: "${SEEDS_OF_ALL:=0}"     # seeds of training on all correct samples, by far the slowest
: "${N_SHOTS:=4}"          # ICL exemplars; 8 do not fit into 1,024 tokens
many=${KS%% *}      # samples per problem
epochs=3

test_data=$RUNS/data/test_$N_TEST.jsonl
train_data=$RUNS/data/train_$N_TRAIN.jsonl
vote_data=$RUNS/data/vote_$N_VOTE.jsonl

# One process per core, with one thread each: models this small cannot use more.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
: "${JOBS:=$(python -c 'import os; print(len(os.sched_getaffinity(0)))' 2>/dev/null || echo 2)}"
export RUNS BATCH test_data train_data vote_data many epochs

in_parallel() { # run every line of stdin as a command, JOBS at a time; fail at the end if one failed
    tr '\n' '\0' | xargs -0 -n 1 -P "$JOBS" bash -euo pipefail -c
}

once() { # OUTPUT COMMAND...: run it unless OUTPUT is finished; its output goes to OUTPUT.log
    local output=$1
    shift
    [ ! -e "$output/run.json" ] || return 0
    mkdir -p "$(dirname "$output")"
    if ! "$@" >"$output.log" 2>&1; then
        echo "error: $output: failed: $(tail -n 1 "$output.log"); see $output.log" >&2
        return 1
    fi
    echo "$(date +%H:%M:%S) $output"
}

pretrain() { # BASE, named as in LADDER
    local shape=${1%-*} budget=${1#*-}
    once "$RUNS/$1/base" python data/mini/pretrain.py --output_dir "$RUNS/$1/base" --hidden_size "${shape%x*}" \
        --num_hidden_layers "${shape#*x}" --steps "$(awk "BEGIN { print int(${budget%M} * 1000000 / 4096) }")"
}

draw() { # MODEL DATA STORE [options]: sample from a model
    once "$3" python sample.py --config configs/sample/mini.yaml --model_name_or_path "$1" --data_path "$2" \
        --output_dir "$3" "${@:4}"
}

fine_tune() { # BASE SETTING DATA EPOCHS SEED: train, and answer the test problems greedily
    local model=$RUNS/$1/$2/seed$5
    once "$model" python train.py --config configs/train/mini.yaml --model_name_or_path "$RUNS/$1/base" \
        --data_path "$3" --output_dir "$model" --num_train_epochs "$4" --seed "$5" --global_batch_size "$BATCH"
    draw "$model" "$test_data" "$model/greedy" --greedy
}

collect() { # OUTPUT [options]: write the RFT data OUTPUT.jsonl
    [ ! -e "$1.run.json" ] || return 0
    mkdir -p "$(dirname "$1")"
    python collect_rejection_sampling.py --data_path "$train_data" --output_path "$1.jsonl" "${@:2}" >"$1.log" 2>&1 || {
        echo "error: $1: failed: $(tail -n 1 "$1.log"); see $1.log" >&2
        return 1
    }
    echo "$(date +%H:%M:%S) $1"
}
export -f once pretrain draw fine_tune collect
