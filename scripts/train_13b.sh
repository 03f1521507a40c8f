#!/usr/bin/env bash
# The published command line: bash train_13b.sh DATA SAVE_PATH EPOCHS (MODEL=llama2_13b for LLaMA-2)
exec bash "$(dirname "$0")/train.sh" "${MODEL:-llama_13b}" "$@"
