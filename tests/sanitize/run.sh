#!/usr/bin/env bash
# Builds konv with AddressSanitizer and UndefinedBehaviorSanitizer in an environment of its own, and runs the tests that
# reach the core: tests/sanitize/run.sh PYTHON [TEST...]
# BEST_ONLY=1: with the best instruction set alone, which takes half the time.
set -euo pipefail
python=$1
shift
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$root"
tests=("$@")
[ ${#tests[@]} -gt 0 ] || tests=(tests/recorded tests/kernels)

# The instruction sets that this machine can run; the others would only be compiled. Those of pairs come with theirs.
isas=$("$python" -c 'import konv; print(";".join(n for n in konv.backends.available() if not n.endswith("_bf16")))')
if [ -n "${BEST_ONLY:-}" ]; then isas=${isas%%;*}; fi

"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --config-settings=cmake.define.KONV_SANITIZE=ON \
  --config-settings=cmake.define.KONV_ONLY="$isas" \
  --config-settings=build-dir=build/sanitize '.[test]'

compiler=${CXX:-c++}
# Python itself is not built with the sanitizers, so their runtime must come first; it also never frees all it has.
export LD_PRELOAD="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libubsan.so)"
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
"$work/venv/bin/python" -m pytest -q -n "${WORKERS:-2}" -p no:cacheprovider -m 'not torch' "${tests[@]}"
