#!/usr/bin/env bash
# Every test of the `cupy` backend with CuPy's own wheel, unchanged, on an emulated CUDA device:
#
#     bash ci/emulated_cupy.sh [options of pytest]
#
# It shows that calls, arguments, shapes, orders and arithmetic are right.  Nothing that passes here has run on a GPU: how
# results round there, whether threads race and how long anything takes, `ci/gpu.sh` shows on one.
#
# CuPy and the emulation lie in a cache folder of their own (${XDG_CACHE_HOME:-~/.cache}/emulated_gpu); `.venv` is only
# read.  Exit status: 0 all passed, or there is no emulation here, which is said; 1 a test failed, or too few ran.
#
#   EMULATED_GPU  the folder of the emulation, whose `run` starts a command; by default ../shared/tools/emulated_gpu
#   PYTHON        the interpreter; by default .venv/bin/python
set -euo pipefail
cd "$(dirname "$0")/.."
tool=${EMULATED_GPU:-../shared/tools/emulated_gpu}
python=${PYTHON:-$PWD/.venv/bin/python}
# Fewer than these is no pass: where CuPy cannot be imported, all its tests skip.
least=700

skip() {
  echo "tests of the cupy backend on the emulated device: skipped, $1"
  exit 0
}
[[ -x $tool/run ]] || skip "there is no emulation in $tool"
[[ $(uname -sm) == 'Linux x86_64' ]] || skip 'it is for Linux on x86-64'
command -v g++ >/dev/null || skip 'it needs g++ 12 or newer'

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-1}
results=$(mktemp)
trap 'rm -f "$results"' EXIT
status=0
EMULATED_GPU_VENV=$(dirname "$(dirname "$python")") "$tool/run" "$python" -m pytest tests -k cupy -n 2 -q \
  -p no:cacheprovider --junit-xml="$results" "$@" || status=$?
"$python" - "$results" "$least" "$status" <<'PYTHON'
import sys
from xml.etree import ElementTree

results, least, status = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
suite = ElementTree.parse(results).getroot().find("testsuite")
total, failed, skipped = (int(suite.get(name)) for name in ("tests", "failures", "skipped"))
failed += int(suite.get("errors"))
passed = total - failed - skipped
print(f"tests of the cupy backend on the emulated device: {passed} passed, {failed} failed, {skipped} skipped")
if not failed and passed < least:
    sys.exit(f"expected at least {least} to pass, got {passed}: does CuPy start there?")
sys.exit(status)
PYTHON
