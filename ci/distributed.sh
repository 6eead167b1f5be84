#!/usr/bin/env bash
# Training on real processes: MPI (MPICH), gloo, and what else is asked of `xpnn.distributed`, each against one process.
#
#     bash ci/distributed.sh [options of pytest]
#
# The environment is build/distributed, made once; PYTHON names another one that has `xpnn[test-distributed]`.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-build/distributed/bin/python}
if [[ -z ${PYTHON:-} && ! build/distributed/ok -nt pyproject.toml ]]; then
  python3 -m venv build/distributed
  "$python" -m pip install --quiet 'torch==2.13.0' # a version that has a CPU build
  "$python" -m pip install --quiet --editable '.[test-distributed]'
  touch build/distributed/ok
fi
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 XPNN_ENGINES=1
exec "$python" -m pytest tests/distributed -q -p no:cacheprovider "$@"
