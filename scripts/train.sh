#!/usr/bin/env bash
# Train a model (SFT or RFT) on the GPUs of this machine, or on several machines with the same command on each.
#   bash scripts/train.sh MODEL DATA SAVE_PATH EPOCHS [options of train.py]
# MODEL is the name of a file in configs/train/ (llama2_7b), or a folder or hub id, trained with the defaults.
# The number of processes is the file's world_size (default 8), NPROC_PER_NODE on each of NNODES machines. Set
# either to change it; any number trains the same model. With several machines, set NODE_RANK and MASTER_ADDR on
# each, and MASTER_PORT if 29500 is taken; slurm/train.sbatch sets them. If it is interrupted, run it again to
# continue from the last checkpoint. LAUNCHER=echo prints the command instead of running it.
set -euo pipefail
fail() { echo "error: $*" >&2 && exit 2; }
if [[ "${1:--}" == -* || "${2:--}" == -* || "${3:--}" == -* || "${4:-}" == "" ]]; then
    echo "usage: bash $0 MODEL DATA SAVE_PATH EPOCHS [options of train.py]" >&2
    exit 2
fi
[[ "$4" =~ ^([0-9]+\.?[0-9]*|\.[0-9]+)$ ]] || fail "EPOCHS must be a number, not $4"

root="$(cd "$(dirname "$0")/.." && pwd)"
[ ! -d "$root/.venv" ] || PATH="$root/.venv/bin:$PATH"
yaml="$root/configs/train/$1.yaml"
if [[ "$1" != */* && -f "$yaml" ]]; then
    recipe=(--config "$yaml")
    world_size="$(sed -n 's/^world_size: *\([0-9]*\).*/\1/p' "$yaml")"
else
    recipe=(--model_name_or_path "$1")
    world_size=""
fi
: "${world_size:=8}"
per_node="${NPROC_PER_NODE:-$((world_size < 8 ? world_size : 8))}"
[[ "$per_node" =~ ^[1-9][0-9]*$ ]] || fail "NPROC_PER_NODE must be a positive whole number, not $per_node"
nodes="${NNODES:-$(((world_size + per_node - 1) / per_node))}"
[[ "$nodes" =~ ^[1-9][0-9]*$ ]] || fail "NNODES must be a positive whole number, not $nodes"

if ((nodes * per_node == 1)); then
    start=(python)
elif [[ "$nodes" == 1 && "${MASTER_ADDR:-}" == "" ]]; then
    start=(torchrun --standalone --nproc_per_node "$per_node")
else
    rank="${NODE_RANK:-}"
    [ "$nodes" != 1 ] || rank=0
    [[ "${MASTER_ADDR:-}" != "" && "$rank" =~ ^(0|[1-9][0-9]*)$ && "$rank" -lt "$nodes" ]] ||
        fail "$1 on $nodes machines: set NODE_RANK (0 to $((nodes - 1)), different on each) and MASTER_ADDR" \
            "(the address of machine 0) on every machine, or NNODES=1 to train on this machine only"
    start=(torchrun --nnodes "$nodes" --nproc_per_node "$per_node" --node_rank "$rank"
        --master_addr "$MASTER_ADDR" --master_port "${MASTER_PORT:-29500}")
fi
# torchrun would give each process one thread, too few for an optimizer on the CPU (zero3_offload).
cores="$(nproc)"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((cores > per_node ? cores / per_node : 1))}"
# torchrun ends its processes so many seconds after a signal (30 if unset), too few for a step and a checkpoint.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT="${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-600}"
exec ${LAUNCHER:-} "${start[@]}" "$root/train.py" "${recipe[@]}" \
    --data_path "$2" --output_dir "$3" --num_train_epochs "$4" "${@:5}"
