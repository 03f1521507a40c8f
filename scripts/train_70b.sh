#!/usr/bin/env bash
# As published: bash train_70b.sh DATA SAVE_PATH EPOCHS (four machines of 8 GPUs)
exec bash "$(dirname "$0")/train.sh" "${MODEL:-llama2_70b}" "$@"
