#!/usr/bin/env bash
# Builds build/peers-venv with the peers of bench_mpc.py that need packages of their own; says plainly when that is impossible.
set -euo pipefail

python=${1:-python3.11}
venv=build/peers-venv
spu=0.9.5

if [ -x "$venv/bin/python" ] && "$venv/bin/python" -c 'import spu' 2>/dev/null; then
    echo "$venv is there already."
    exit 0
fi
rm -rf "$venv"
"$python" -m venv "$venv"
if ! "$venv/bin/pip" install --quiet "spu==$spu"; then
    rm -rf "$venv"
    echo "SPU $spu cannot be installed with $python here; bench-mpc leaves it out." >&2
    exit 1
fi
if ! "$venv/bin/python" -c 'import spu'; then
    rm -rf "$venv"
    echo "SPU $spu is installed but does not load on this machine; bench-mpc leaves it out." >&2
    exit 1
fi
echo "SPU $spu is ready: make bench-mpc includes it."
