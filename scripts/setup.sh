#!/usr/bin/env bash
# Builds .venv with everything that Confide needs, and checks it. Safe to run at any time:
#   - nothing to do: returns at once (a stamp holds the digest of what the environment was built from);
#   - pyproject.toml, constraints.txt or this script changed: installs what changed;
#   - an earlier run was interrupted (no stamp): builds the environment again from nothing.
# Which index or proxy pip uses is pip's own configuration; nothing here names one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VENV=".venv"
readonly STAMP="$VENV/confide-setup.sha256"
readonly INPUTS=(pyproject.toml constraints.txt scripts/setup.sh scripts/check_setup.py)

fail() {
    echo "setup: $1" >&2
    exit 1
}

find_python() {
    local candidate
    for candidate in "${PYTHON:-python3.11}" python3.11 python3 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11 is missing: install it (for example the packages python3.11 and python3.11-venv), or name it with PYTHON=/path/to/python3.11."
}

# The environment holds absolute paths, so a moved or copied one is as good as none.
digest_of_inputs() {
    { cat "${INPUTS[@]}"; pwd; } | "$1" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'
}

python="$(find_python)"
wanted="$(digest_of_inputs "$python")"
if [[ -x "$VENV/bin/python" && -f "$STAMP" && "$(cat "$STAMP")" == "$wanted" ]]; then
    exit 0
fi

"$python" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "the venv module of $python is missing: install it (for example the package python3.11-venv)."

if [[ -f "$STAMP" ]] && "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
    echo "setup: bringing $VENV up to date"
else
    echo "setup: building $VENV (some minutes: torch is large)"
    "$python" -m venv --clear "$VENV"
fi
rm -f "$STAMP"

pip_install() {
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "$@" ||
        fail "pip could not install: $*. Its message is above; check the network and pip's index configuration, then run this again."
}
pip_install setuptools
pip_install --no-build-isolation --editable '.[dev,text]'
# CrypTen's metadata names a retired distribution that cannot be built: never let pip read its dependency list.
pip_install --no-deps crypten

"$VENV/bin/python" scripts/check_setup.py || fail "the environment is not complete; run this again, or delete $VENV first."
printf '%s\n' "$wanted" >"$STAMP"
echo "setup: $VENV is ready"
