#!/usr/bin/env bash
# Check xpnn on one NVIDIA GPU and measure it, in less than ten minutes, in a clone of the repository:
#
#     pip install 'cupy-cuda13x[ctk]>=14'    # or cupy-cuda12x[ctk], to match the driver
#     bash ci/gpu.sh
#
# Nothing comes from the network.  Parts run one after the other, and one that fails stops no other.
# Exit status: 0 all checks passed; 1 kernels, graphs, gradients, parity or tests failed or did not finish; 3 nothing to
# check with.
#
#   PYTHON            the interpreter; by default .venv/bin/python if it is there, else python3
#   OUT               folder for the results; by default benchmarks/results/gpu
#   XPNN_WHEELS       a folder of wheels, from which missing packages are taken
#   XPNN_DATA         a folder with MNIST: accuracy over time is measured too
#   XPNN_GPU_BACKEND  a backend in CuPy's place; numpy tries this script where there is no GPU
#   XPNN_GPU_QUICK    1: a short look at every part
#   XPNN_GPU_SECONDS  time for all parts together; by default 560
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
deadline=$((SECONDS + ${XPNN_GPU_SECONDS:-560}))
mkdir -p "$out" || exit 3
work=$(mktemp -d) || exit 3
trap 'rm -rf "$work"' EXIT
export PYTHONPATH=$PWD:$work/site${PYTHONPATH:+:$PYTHONPATH}
export XPNN_GPU_RUNNING=1 # the suite does not start this script again

has() { # whether Python finds a module, without importing it
  "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)' "$1" 2>/dev/null
}

# -- what is needed ---------------------------------------------------------------------------------------------
# Those from array-api-strict on serve the tests alone.
for package in array-api-compat safetensors tabulate tqdm pooch platformdirs array-api-strict \
  pytest iniconfig pluggy pygments packaging hypothesis sortedcontainers; do
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
part() { # NAME SECONDS COMMAND...: run it for so long at most, and keep what it prints
  local name=$1 limit=$2 began=$SECONDS status=124
  shift 2
  if ((limit > deadline - SECONDS)); then limit=$((deadline - SECONDS)); fi
  echo "== $name: $*"
  if ((limit > 0)); then
    timeout --signal=INT --kill-after=10 "$limit" "$@" >"$work/$name.out" 2>"$work/$name.err"
    status=$?
  fi
  echo "$name $status $((SECONDS - began))" >>"$work/parts"
  tail -n 3 "$work/$name.err" 2>/dev/null
  summarize >/dev/null # what is known so far, should the machine be taken away
}

summarize() { # write the results of all parts and print the most telling lines
  "$python" - "$work" "$out" "$backend" <<'PY'
import json, os, re, sys
import xml.etree.ElementTree as tree
from pathlib import Path

work, out, backend = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
other = "strict" if backend == "numpy" else backend  # what NumPy is compared with


def write(name, value):
    text = value if isinstance(value, str) else json.dumps(value, indent=1) + "\n"
    (out / f".{name}").write_text(text)
    os.replace(out / f".{name}", out / name)


def parity(found):
    if other in found["skipped"]:
        return False, f"{other} was skipped: {found['skipped'][other]}"
    rows = [row for net in found["networks"] for row in net["parameters"] if row["backend"] == other]
    worst = max(max(row["grad_max_rel"], row["value_max_rel"]) for row in rows)
    skipped = f"; skipped: {', '.join(found['skipped'])}" if found["skipped"] else ""
    text = f"{len(found['networks'])} networks, {found['steps']} steps: largest relative difference {worst:.1e}"
    return found["ok"], text + skipped


def gradcheck(found):
    text = f"{len(found['networks'])} networks: largest relative error {found['max_rel_error']:.1e}, {found['verdict']}"
    return found["verdict"] in ("excellent", "good") and found["backend"].startswith(backend), text


def bench(found):
    lines = [found["device"]]
    for problem in found["problems"]:
        times = [f"{name} {row['us']} µs" for name, row in problem["steps"].items()]
        lines.append(f"{problem['problem']}: " + ", ".join(times))
        lines += [f"  {name}: {why}" for name, why in problem["missing"].items()]
    if isinstance(found["mnist"], str):
        lines.append(f"MNIST: {found['mnist']}")
    else:
        for run in found["mnist"]:
            accuracy = run["test_accuracy"][-1]
            lines.append(f"MNIST, batch {run['batch_size']}, seed {run['seed']}: {accuracy} in {run['fit_seconds']} s")
    return True, "\n    ".join(lines)


def tests(found):
    return found["passed"] > 0 and not found["failed"], ", ".join(f"{found[k]} {k}" for k in ("passed", "failed", "skipped"))


def probe(found):
    verdicts = {True: "ok", False: "FAILED", None: "not here"}
    lines = [f"{name}: {verdicts[row['ok']]}: {row['text']}" for name, row in found["parts"].items()]
    return found["ok"] and found["backend"].startswith(backend), "\n    ".join(lines)


def doctor(found):
    return found["backends"][backend.partition(":")[0]] == "ok", str(found["versions"])


def junit(path):
    cases = list(tree.parse(path).iter("testcase"))
    failures, reasons = [], {}
    for case in cases:
        for child in case:
            why = child.get("message", "")
            # a file that needs an optional package which is not here cannot even be read
            missing = re.search(r"No module named '[\w.]+'", child.text or "") if why == "collection failure" else None
            if child.tag == "skipped" or missing:
                why = f"{case.get('name')}: {missing[0]}" if missing else why
                reasons[why] = reasons.get(why, 0) + 1
            elif child.tag in ("failure", "error"):
                failures.append({"test": f"{case.get('classname')}::{case.get('name')}", "message": why[:500]})
    bad, skipped = len(failures), sum(reasons.values())
    passed = len(cases) - bad - skipped
    return {"passed": passed, "failed": bad, "skipped": skipped, "failures": failures, "reasons": reasons}


parts = {}
for line in (work / "parts").read_text().splitlines():
    name, status, seconds = line.split()
    parts[name] = int(status), int(seconds)
summary, log = {"ok": True, "backend": backend, "parts": {}}, []
for name, judge in (("probe", probe), ("parity", parity), ("gradcheck", gradcheck), ("tests", tests), ("bench", bench), ("doctor", doctor)):
    if name not in parts:
        continue
    status, seconds = parts[name]
    texts = {end: work / f"{name}.{end}" for end in ("out", "err")}
    texts = {end: path.read_text(errors="replace") if path.is_file() else "" for end, path in texts.items()}
    log += [f"== {name}: exit status {status} after {seconds} s\n", *texts.values(), "\n"]
    found = None
    try:
        if name == "tests":
            found = junit(work / "tests.xml")
        elif name in ("bench", "probe"):
            found = json.loads((work / f"{name}.json").read_text())
        else:
            found = json.loads(texts["out"])
        ok, text = judge(found)
    except Exception as error:
        last = (texts["err"].strip().splitlines() or [""])[-1]
        ok, text = False, last or f"no results ({type(error).__name__}: {error})"
    if status:
        ok, text = False, ("out of time; " if status in (124, 137) else f"exit status {status}; ") + text
    if name == "tests" and status == 127:
        ok, text = None, "pytest and hypothesis are not installed"
    if found is not None:
        write(f"{name}.json", found)
    summary["parts"][name] = {"ok": ok, "seconds": seconds, "text": text}
    if ok is False and name in ("probe", "parity", "gradcheck", "tests"):
        summary["ok"] = False
    print(f"{'not run' if ok is None else 'ok' if ok else 'FAILED':<8}{name} ({seconds} s)\n    {text}")
write("summary.json", summary)
write("log.txt", "\n".join(log))
sys.exit(0 if summary["ok"] else 1)
PY
}

one=()
seconds=120
if [[ $quick == 1 ]]; then
  one=(--network mlp-relu)
  seconds=1
fi
with=numpy,$backend,torch
[[ $backend == numpy ]] && with=numpy,strict,torch

part doctor 60 "$python" -m xpnn doctor --json
part probe 120 "$python" ci/gpu_probe.py --backend "$backend" --out "$work/probe.json"
part parity 150 "$python" -m xpnn parity --backends "$with" --json "${one[@]}"
part gradcheck 180 "$python" -m xpnn gradcheck --backend "$backend" --json "${one[@]}"
bench=("$python" ci/gpu_bench.py --backend "$backend" --out "$work/bench.json" --seconds "$seconds")
[[ $quick == 1 ]] && bench+=(--quick)
part bench 240 "${bench[@]}"
if has pytest && has hypothesis; then
  tests=(tests)
  names=${backend%%:*}
  [[ $names == cupy ]] && names='cupy or on_a_gpu or reach_a_gpu' # graphs, and data from disk
  [[ $quick == 1 ]] && tests=(tests/test_params.py)
  # Doctests have no backend; a warning of CuPy's own is reported, not an error.
  part tests 560 "$python" -m pytest "${tests[@]}" -o addopts= -q -rfE --tb=short -W default -p no:cacheprovider \
    --continue-on-collection-errors -k "$names" --junitxml "$work/tests.xml"
else
  echo "tests 127 0" >>"$work/parts"
fi

echo
summarize
status=$?
echo "results in $out"
exit $status
