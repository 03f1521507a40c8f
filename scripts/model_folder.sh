# Source this with the arguments of a launcher to check that the first is a checkpoint folder. Sets `root` and
# activates .venv if it exists. With LAUNCHER=..., which runs in front of the command, the folder need not exist.
if [[ "${1:-}" == "" || "$1" == -* ]]; then
    echo "usage: bash $0 MODEL_DIR [options of sample.py]" >&2
    exit 2
fi
if [ -z "${LAUNCHER:-}" ] && [ ! -f "$1/config.json" ]; then
    echo "error: $1: has no config.json; give the folder of a checkpoint" >&2
    exit 1
fi
root="$(cd "$(dirname "$0")/.." && pwd)"
[ ! -d "$root/.venv" ] || PATH="$root/.venv/bin:$PATH"
