#!/usr/bin/env bash
# The native code, and the fits that use it, on the oldest NumPy that xpnn supports; the suite itself runs on the newest.
#
#     bash ci/oldest_numpy.sh [options of pytest]
#
# `xpnn.accel.native` calls NumPy's loops and OpenBLAS's threads by address, so a version counts as supported only where
# these tests have run on it.  The environment is build/oldest-numpy, made once.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=build/oldest-numpy
oldest=$(sed -n 's/^ *"numpy>=\([0-9.]*\)",$/\1/p' pyproject.toml)
if [[ ! -f $venv/ok ]]; then
  "${PYTHON:-python3}" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet "numpy==$oldest.*" --editable '.[fast,sklearn,half]' \
    'array-api-strict>=2.6.1' 'hypothesis>=6.100' 'pytest>=8.3' 'pytest-xdist>=3.6' 'threadpoolctl>=3'
  touch "$venv/ok"
fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-1}
"$venv/bin/python" -c 'import numba, numpy; print(f"NumPy {numpy.__version__}, numba {numba.__version__}")'
"$venv/bin/python" -m pytest tests/accel tests/backend tests/training -n 2 -q -p no:cacheprovider "$@"
