#!/usr/bin/env bash
# Print a Python 3.12 or 3.13 that really runs: $PYTHON, python3.12, python3.13, python3, pyenv's versions, in this order.
# A pyenv shim can stand in the path and still fail, so every candidate is executed before it is believed.
set -u

suits() {
    "$1" -c 'import sys, venv, ensurepip; raise SystemExit(sys.version_info[:2] not in ((3, 12), (3, 13)))' \
        >/dev/null 2>&1
}

if [ -n "${PYTHON:-}" ]; then
    if ! suits "$PYTHON"; then
        echo "PYTHON=$PYTHON is not a Python 3.12 or 3.13 that runs (with venv and ensurepip)" >&2
        exit 1
    fi
    command -v "$PYTHON"
    exit 0
fi

shopt -s nullglob
pyenv_root="${PYENV_ROOT:-$HOME/.pyenv}"
for candidate in python3.12 python3.13 python3 \
    "$pyenv_root"/versions/3.12*/bin/python "$pyenv_root"/versions/3.13*/bin/python; do
    path=$(command -v "$candidate") || continue
    if suits "$path"; then
        echo "$path"
        exit 0
    fi
done

echo "No Python 3.12 or 3.13 found. Looked for python3.12, python3.13, python3 in the path, and for pyenv's versions in" \
    "$pyenv_root/versions." >&2
echo "Install one (apt install python3.12-venv, brew install python@3.12, pyenv install 3.12) or name it:" \
    "make PYTHON=/path/to/python" >&2
exit 1
