#!/usr/bin/env bash
# Models in and out against the real libraries: what `make test` skips for want of packages (Keras, JAX, PyTorch, FastAPI,
# Dask, Ray, Spark, MLflow, skops, pandas), and the pages that show them.
#
#     bash ci/interop.sh [options of pytest]
#
# The environment is .venv, into which they are installed where one is missing; PYTHON names another one that has
# `xpnn[test-interop]`.  Without Java the recipe for Spark is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
"$python" -c '
from importlib.util import find_spec
packages = "dask fastapi httpx jax keras mlflow onnxruntime pandas pyspark ray skops torch uvicorn".split()
raise SystemExit(any(find_spec(name) is None for name in packages))' ||
  "$python" -m pip install --quiet 'torch==2.13.0' --editable '.[test-interop]' # this torch has a CPU build
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 KERAS_BACKEND=${KERAS_BACKEND:-torch}
exec "$python" -m pytest -n 2 -q -rs -p no:cacheprovider tests/interop/test_{keras,onnx,python_cells,serving,sklearn,skops,torch}.py \
  tests/docs/test_docs.py -k 'not test_docs or test_python_blocks_that_need_more_run' "$@"
