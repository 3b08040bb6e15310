#!/usr/bin/env bash
# Builds the sdist, the wheel from the sdist, installs the wheel where no source is near, and tries it.
#   tests/smoke/run.sh PYTHON     PYTHON has the package `build`; a new environment is made with it
set -euo pipefail
python=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m build --outdir "$work/dist" "$root" >"$work/log" 2>&1 || { tail -n 40 "$work/log" >&2; exit 1; }
wheel=("$work"/dist/konv-*.whl)
sdist=("$work"/dist/konv-*.tar.gz)
[ -f "${wheel[0]}" ] && [ -f "${sdist[0]}" ]

"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet "${wheel[0]}[cli]"
cp "$root/tests/smoke/smoke.py" "$work/"
cd "$work"
"$work/venv/bin/python" -I smoke.py "$root"
"$work/venv/bin/konv" info
"$work/venv/bin/konv" train --epochs 1 --output "$work/cnn.safetensors"
echo "smoke test passed: $(basename "${wheel[0]}")"
