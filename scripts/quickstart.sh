#!/usr/bin/env bash
# Run the paper in miniature on a laptop (base -> SFT -> k samples -> filter -> RFT -> scores) and print one table.
#   bash scripts/quickstart.sh [--seeds 3] [--full]
# --full adds a smaller RFT set, the control of random samples, and votes, and takes about twice as long.
# If it is interrupted, run it again to continue.
set -euo pipefail
source "$(dirname "$0")/environment.sh" requirements.txt
python scripts/quickstart.py "$@"
