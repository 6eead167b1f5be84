"""What the parts of ci/gpu.sh found, as JSON files and as lines, and last a table of goals with what was reached.

    python ci/gpu_summary.py WORK OUT BACKEND

WORK holds what the parts printed and wrote, and their exit statuses; the results go to OUT.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

Verdict = tuple["bool | None", str]
Found = dict[str, Any]

# Parts that must be right; the others measure, or describe the machine.
CHECKS = ("probe", "parity", "gradcheck", "tests")
SLOWER = ("torch CUDA graph", "torch max-autotune", "jax scan")


def parity(found: Found, backend: str) -> Verdict:
    other = "strict" if backend == "numpy" else backend  # what NumPy is compared with
    if other in found["skipped"]:
        return False, f"{other} was skipped: {found['skipped'][other]}"
    rows = [row for net in found["networks"] for row in net["parameters"] if row["backend"] == other]
    worst = max(max(row["grad_max_rel"], row["value_max_rel"]) for row in rows)
    skipped = f"; skipped: {', '.join(found['skipped'])}" if found["skipped"] else ""
    text = f"{len(found['networks'])} networks, {found['steps']} steps: largest relative difference {worst:.1e}"
    return found["ok"], text + skipped


def gradcheck(found: Found, backend: str) -> Verdict:
    text = f"{len(found['networks'])} networks: largest relative error {found['max_rel_error']:.1e}, {found['verdict']}"
    return found["verdict"] in ("excellent", "good") and found["backend"].startswith(backend), text


def bench(found: Found, backend: str) -> Verdict:
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


def tests(found: Found, backend: str) -> Verdict:
    text = ", ".join(f"{found[k]} {k}" for k in ("passed", "failed", "skipped"))
    return found["passed"] > 0 and not found["failed"], text


def probe(found: Found, backend: str) -> Verdict:
    verdicts = {True: "ok", False: "FAILED", None: "not here"}
    lines = [f"{name}: {verdicts[row['ok']]}: {row['text']}" for name, row in found["parts"].items()]
    return found["ok"] and found["backend"].startswith(backend), "\n    ".join(lines)


def doctor(found: Found, backend: str) -> Verdict:
    return found["backends"][backend.partition(":")[0]] == "ok", str(found["versions"])


def junit(path: Path) -> Found:
    cases = list(ElementTree.parse(path).iter("testcase"))
    failures: list[dict[str, str]] = []
    reasons: dict[str, int] = {}
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


JUDGES: dict[str, Callable[[Found, str], Verdict]] = {
    "probe": probe,
    "bench": bench,
    "parity": parity,
    "gradcheck": gradcheck,
    "tests": tests,
    "doctor": doctor,
}


# -- goals --------------------------------------------------------------------------------------------------------
def goals(found: dict[str, Found]) -> list[tuple[str, str]]:
    """Return each goal of issue and docs, and what was reached; a dash where nothing was measured."""
    fits = found.get("probe", {}).get("parts", {}).get("fits", {}).get("rows", {}).get("128", {})
    problems = found.get("bench", {}).get("problems", [])
    steps = {name: row["us"] for name, row in problems[0]["steps"].items() if "us" in row} if problems else {}
    own, eager = fits.get("us"), steps.get("torch eager")
    kernel = found.get("probe", {}).get("parts", {}).get("persistent fits", {}).get("rows", {}).get("128", {}).get("us")
    rows = [
        ("a step of 784-256-128-10, batch 128, in Trainer.fit: 25 µs", f"{own} µs" if own else "-"),
        ("the same by the persistent kernel: 12 µs", f"{kernel} µs" if kernel else "-"),
        ("nodes of that step: 10", str(fits.get("nodes", "-"))),
        ("10 times as fast as torch, eager", f"{eager / own:.1f} times" if own and eager else "-"),
    ]
    for name in SLOWER:
        other = steps.get(name)
        rows.append((f"ahead of {name}", f"{own} µs, {other} µs" if own and other else "-"))
    rows.append(("98 % on MNIST, warm: 0.1 s", _mnist(found.get("bench", {}).get("mnist"))))
    rows.append(("2048-2048, batch 1024: 90 % of the rate of products alone", _wide(found)))
    return rows


def _mnist(runs: Any) -> str:
    if not isinstance(runs, list):
        return "-"
    warm = [run for run in runs if run["seed"]]  # the first of a batch size compiles and records
    reached = [s for r in warm for a, s in zip(r["test_accuracy"], r["seconds"], strict=True) if a >= 0.98]
    return f"{min(reached)} s" if reached else "not reached"


def _wide(found: dict[str, Found]) -> str:
    table = found.get("probe", {}).get("parts", {}).get("product table", {}).get("rows", {})
    rate = table.get("product (1024, 2048, 2048)", {}).get("tflops")
    wide = [p for p in found.get("bench", {}).get("problems", []) if p["problem"].startswith("784-2048")]
    us = next((p["steps"].get("xpnn CUDA graph", {}).get("us") for p in wide), None)
    if not rate or not us:
        return "-"
    flops = (
        2e-6 * 1024 * (2 * 784 * 2048 + 3 * (2048 * 2048 + 2048 * 10))
    )  # the first layer has no gradient to its input
    return f"{flops / us / rate:.0%}"


# -- all ----------------------------------------------------------------------------------------------------------
def main() -> int:
    work, out, backend = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    parts: dict[str, list[tuple[str, int, int]]] = {}  # a part may have run as several processes
    for line in (work / "parts").read_text(encoding="utf-8").splitlines():
        name, status, seconds = line.split("\t")
        parts.setdefault(name.split()[0], []).append((name, int(status), int(seconds)))
    summary: Found = {"ok": True, "backend": backend, "parts": {}}
    results: dict[str, Found] = {}
    log: list[str] = []
    for name, judge in JUDGES.items():
        if name not in parts:
            continue
        found, verdict = judged(name, judge, work, backend, parts[name], log)
        seconds = sum(spent for _, _, spent in parts[name])
        if found is not None:
            results[name] = found
            write(out, f"{name}.json", found)
        summary["parts"][name] = {"ok": verdict[0], "seconds": seconds, "text": verdict[1]}
        if verdict[0] is False and name in CHECKS:
            summary["ok"] = False
        word = "not run" if verdict[0] is None else "ok" if verdict[0] else "FAILED"
        print(f"{word:<8}{name} ({seconds} s)\n    {verdict[1]}")
    summary["goals"] = dict(goals(results))
    write(out, "summary.json", summary)
    write(out, "log.txt", "\n".join(log))
    print(f"\n{'goal':<62}reached")
    for goal, reached in summary["goals"].items():
        print(f"{goal:<62}{reached}")
    return 0 if summary["ok"] else 1


def judged(
    name: str,
    judge: Callable[[Found, str], Verdict],
    work: Path,
    backend: str,
    processes: list[tuple[str, int, int]],
    log: list[str],
) -> tuple[Found | None, Verdict]:
    """Return what a part found and the verdict on it; what its processes printed goes to the log."""
    texts: dict[str, dict[str, str]] = {}
    for process, status, seconds in processes:
        files = {end: work / f"{process}.{end}" for end in ("out", "err")}
        texts[process] = {e: f.read_text(errors="replace") if f.is_file() else "" for e, f in files.items()}
        log += [f"== {process}: exit status {status} after {seconds} s\n", *texts[process].values(), "\n"]
    failed = [(process, status) for process, status, _ in processes if status]
    found: Found | None = None
    try:
        if name == "tests":
            found = junit(work / "tests.xml")
        elif name in ("bench", "probe"):
            found = json.loads((work / f"{name}.json").read_text(encoding="utf-8"))
        else:
            found = json.loads(texts[name]["out"])
        verdict = judge(found, backend)
    except Exception as error:  # whatever a part has left
        verdict = (
            False,
            last_line(texts[failed[0][0] if failed else processes[0][0]])
            or (f"no results ({type(error).__name__}: {error})"),
        )
    if name == "tests" and failed and failed[0][1] == 127:
        return found, (None, "pytest and hypothesis are not installed")
    whys = []
    for process, status in failed:
        why = "out of time" if status in (124, 137) else f"exit status {status}"
        part = process.partition(" ")[2]
        whys.append(f"{part}: {why}" if part else why)
    return found, ((False, "; ".join([*whys, verdict[1]])) if whys else verdict)


def last_line(texts: dict[str, str]) -> str:
    return (texts["err"].strip().splitlines() or [""])[-1]


def write(out: Path, name: str, value: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value, indent=1) + "\n"
    (out / f".{name}").write_text(text, encoding="utf-8")
    os.replace(out / f".{name}", out / name)


if __name__ == "__main__":
    sys.exit(main())
