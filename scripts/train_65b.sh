#!/usr/bin/env bash
# The published command line: bash train_65b.sh DATA SAVE_PATH EPOCHS (four machines with 8 GPUs each)
exec bash "$(dirname "$0")/train.sh" "${MODEL:-llama_65b}" "$@"
