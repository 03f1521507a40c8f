#!/usr/bin/env bash
# As published: bash group_sample_7b_13b.sh MODEL_DIR
exec bash "$(dirname "$0")/group_sample.sh" "$@"
