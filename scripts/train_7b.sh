#!/usr/bin/env bash
# The published command line: bash train_7b.sh DATA SAVE_PATH EPOCHS (MODEL=llama2_7b for LLaMA-2)
exec bash "$(dirname "$0")/train.sh" "${MODEL:-llama_7b}" "$@"
