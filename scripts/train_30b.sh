#!/usr/bin/env bash
# As published: bash train_30b.sh DATA SAVE_PATH EPOCHS (two machines of 8 GPUs)
exec bash "$(dirname "$0")/train.sh" "${MODEL:-llama_33b}" "$@"
