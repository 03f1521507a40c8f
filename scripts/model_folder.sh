# Source this with the arguments of a launcher: the first must be a checkpoint's folder. Sets `root`, and
# enters .venv where there is one. LAUNCHER=... is run instead of python, on a folder that need not be there.
if [[ "${1:-}" == "" || "$1" == -* ]]; then
    echo "usage: bash $0 MODEL_DIR [options of sample.py]" >&2
    exit 2
fi
if [ -z "${LAUNCHER:-}" ] && [ ! -f "$1/config.json" ]; then
    echo "error: $1: no config.json there; give the folder of a checkpoint" >&2
    exit 1
fi
root="$(cd "$(dirname "$0")/.." && pwd)"
[ ! -d "$root/.venv" ] || PATH="$root/.venv/bin:$PATH"
