# Source this to create .venv, install the requirements files given as arguments into it, and activate it.
# The machine needs python3 (3.11 or newer) with its venv module; PYTHON=... selects another interpreter.
# PYTHON_ENV=system installs nothing and uses that Python's own packages, for machines that have torch but cannot
# reach a package index. It prints how they differ from the pinned versions; every run.json records them.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="${PYTHON:-python3}"
export TOKENIZERS_PARALLELISM=false # silences its warning about forks; nothing here needs its threads
case "${PYTHON_ENV:-}" in
"") ;;
system)
    python_folder="$("$python" -c 'import os, sys; print(os.path.dirname(sys.executable))')"
    export PATH="$python_folder:$PATH"
    python scripts/installed_versions.py "$@" >&2
    return
    ;;
*)
    echo "error: PYTHON_ENV must be system or unset, not $PYTHON_ENV" >&2
    exit 2
    ;;
esac
"$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    echo "error: $python is not Python 3.11 or newer with venv; set PYTHON=... to an interpreter that is" >&2
    exit 1
}
if [ ! -x .venv/bin/pip ]; then
    "$python" -m venv .venv
fi
for requirements in "$@"; do
    stamp=".venv/$requirements.installed" # a copy of the installed file, so that a changed pin is installed
    if ! cmp -s "$requirements" "$stamp"; then
        echo "installing $requirements into .venv" >&2
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$requirements" >&2
        cp "$requirements" "$stamp"
    fi
done
export PATH="$PWD/.venv/bin:$PATH"
