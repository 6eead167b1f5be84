#!/usr/bin/env bash
# Check xpnn on one NVIDIA GPU and measure it, in less than ten minutes, in a clone of the repository:
#
#     pip install 'cupy-cuda13x[ctk]>=14'    # or cupy-cuda12x[ctk], to match the driver
#     bash ci/gpu.sh
#
# Nothing comes from the network.  Parts run one after the other, each in a process of its own, and one that fails stops
# no other.  The last lines are a table of goals, with what was reached.
# Exit status: 0 all checks passed; 1 kernels, graphs, gradients, parity or tests failed or did not finish; 3 nothing to
# check with.
#
#   PYTHON            the interpreter; by default .venv/bin/python if it is there, else python3
#   OUT               folder for the results; by default benchmarks/results/gpu
#   XPNN_WHEELS       a folder of wheels, from which missing packages are taken
#   XPNN_DATA         a folder with MNIST: accuracy over time is measured too
#   XPNN_GPU_BACKEND  a backend in CuPy's place; numpy tries this script where there is no GPU
#   XPNN_GPU_QUICK    1: a short look at every part, for machines that only try the script: each part takes seconds, but
#                     its limits are wide, for there others may be at work too
#   XPNN_GPU_SECONDS  time for all parts together; by default 560, of a short look 2800
set -uo pipefail
cd "$(dirname "$0")/.." || exit 3

python=${PYTHON:-}
if [[ -z $python ]]; then
  python=python3
  [[ -x .venv/bin/python ]] && python=$PWD/.venv/bin/python
fi
out=${OUT:-benchmarks/results/gpu}
backend=${XPNN_GPU_BACKEND:-cupy}
quick=${XPNN_GPU_QUICK:-0}
all=${XPNN_GPU_SECONDS:-$([[ $quick == 1 ]] && echo 2800 || echo 560)}
deadline=$((SECONDS + all))
mkdir -p "$out" || exit 3
work=$(mktemp -d) || exit 3
trap 'rm -rf "$work"' EXIT
export PYTHONPATH=$PWD:$work/site${PYTHONPATH:+:$PYTHONPATH}
export XPNN_GPU_QUICK=$quick XPNN_GPU_RUNNING=1 # the suite does not start this script again

has() { # whether Python finds a module, without importing it
  "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)' "$1" 2>/dev/null
}

# -- what is needed ---------------------------------------------------------------------------------------------
# Beside NumPy and CuPy, all of it; those from array-api-strict on serve the tests alone.
wheels=(array-api-compat safetensors tabulate tqdm pooch platformdirs array-api-strict
  pytest iniconfig pluggy pygments packaging hypothesis sortedcontainers)
for package in "${wheels[@]}"; do
  if [[ -n ${XPNN_WHEELS:-} ]] && ! has "${package//-/_}"; then
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --find-links "$XPNN_WHEELS" \
      --target "$work/site" "$package" 2>>"$work/pip.err" || echo "no wheel of $package in $XPNN_WHEELS" >&2
  fi
done
if [[ $backend == cupy* ]] && ! has cupy; then
  echo "ci/gpu.sh: CuPy is not installed: $python -m pip install 'cupy-cuda13x[ctk]>=14'" \
    "(cupy-cuda12x[ctk] for a driver of CUDA 12)" >&2
  exit 3
fi
if ! "$python" - "$backend" <<'PY'; then
import sys

try:
    import xpnn

    xpnn.get_backend(sys.argv[1])
except ModuleNotFoundError as error:
    need = "numpy array-api-compat safetensors tabulate tqdm pooch"
    sys.exit(f"ci/gpu.sh: {error}: {sys.executable} -m pip install {need}, or set XPNN_WHEELS")
except xpnn.XpnnError as error:
    sys.exit(f"ci/gpu.sh: {error}")
PY
  exit 3
fi

# -- parts ------------------------------------------------------------------------------------------------------
part() { # NAME SECONDS COMMAND...: run it for so long of 560 at most, and keep what it prints
  local name=$1 limit=$(($2 * all / 560)) began=$SECONDS status=124
  shift 2
  if ((limit > deadline - SECONDS)); then limit=$((deadline - SECONDS)); fi
  echo "== $name: $*"
  if ((limit > 0)); then
    timeout --signal=INT --kill-after=10 "$limit" "$@" >"$work/$name.out" 2>"$work/$name.err"
    status=$?
  fi
  printf '%s\t%s\t%s\n' "$name" "$status" "$((SECONDS - began))" >>"$work/parts"
  tail -n 3 "$work/$name.err" 2>/dev/null
  summarize >/dev/null # what is known so far, should the machine be taken away
}

summarize() { # write the results of all parts and print the most telling lines
  "$python" ci/gpu_summary.py "$work" "$out" "$backend"
}

one=()
[[ $quick == 1 ]] && one=(--network mlp-relu)
with=numpy,$backend,torch
[[ $backend == numpy ]] && with=numpy,strict,torch

# The most telling first, each in a process of its own: an illegal address spoils all that follows in its process.  The
# limits of all together are the time that there is, so that none takes it from another.
probe() { # SECONDS PART...
  local limit=$1 name
  shift
  for name in "$@"; do
    part "probe ${name}" "$limit" "$python" ci/gpu_probe.py --backend "$backend" --out "$work/probe.json" --part "$name"
  done
}
probe 35 kernels graphs fits persistent 'persistent fits'
probe 25 'product table'
[[ $quick == 1 ]] && options=(--quick) || options=(--seconds 6)
bench=("$python" ci/gpu_bench.py --backend "$backend" --out "$work/bench.json" "${options[@]}")
for name in xpnn 'xpnn CUDA graph' 'xpnn persistent' 'torch eager' 'torch CUDA graph' 'torch max-autotune' 'jax scan' 'jax jit' MNIST; do
  part "bench ${name}" 20 "${bench[@]}" --only "$name"
done
probe 10 epilogues 'with epilogues and without' products repeatable 'graph costs' 'host costs'
part parity 25 "$python" -m xpnn parity --backends "$with" --json "${one[@]}"
part gradcheck 25 "$python" -m xpnn gradcheck --backend "$backend" --json "${one[@]}"
if has pytest && has hypothesis; then
  tests=(tests)
  names=${backend%%:*}
  [[ $names == cupy ]] && names='cupy or on_a_gpu or reach_a_gpu' # graphs, and data from disk
  [[ $quick == 1 ]] && tests=(tests/test_params.py)
  # Doctests have no backend; a warning of CuPy's own is reported, not an error.
  part tests $(((deadline - SECONDS) * 560 / all - 20)) "$python" -m pytest "${tests[@]}" -o addopts= -q -rfE --tb=short -W default -p no:cacheprovider \
    --continue-on-collection-errors -k "$names" --junitxml "$work/tests.xml"
else
  printf 'tests\t127\t0\n' >>"$work/parts"
fi
part doctor 20 "$python" -m xpnn doctor --json # last: it imports PyTorch

echo
echo "results in $out"
summarize
exit $?
