#!/usr/bin/env bash
# The published command line: bash train_30b.sh DATA SAVE_PATH EPOCHS (two machines with 8 GPUs each)
exec bash "$(dirname "$0")/train.sh" "${MODEL:-llama_33b}" "$@"
