"""Cut training off at random moments, go on with it, and compare to the bit: python ci/kills.py --n 500.

Each try trains a small network with dropout, batch norm, a penalty, a schedule, early stopping and, in half of them, an
average of the weights.  It is cut off by SIGINT, by SIGTERM, by an interrupt in a random line of xpnn's own code, by an
error in a callback, or killed; then the trainer, a copy, a pickle or a file of it goes on to the last epoch.  Weights,
optimizer, history (but the seconds) and the best epoch must be those of the fit that was not cut off.

With --search it is `xpnn.search.run` that is cut off, on a single rung and on several, with replicas and with trainers
of one's own, and called again with its checkpoint: every history, score and status must be equal.

With --command it is ``xpnn train`` (with --command search ``xpnn search``) that is killed, terminated and interrupted
at any moment from its beginning to its exit, and ``xpnn train --resume`` that goes on; the folder must hold an older
run, the new one, or one to go on with.

With --ranks it is a random one of two, three or four processes (over MPI, or over plain connections) that is killed
at a random moment of a training; the others must end within seconds, and fewer go on from the checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # before NumPy: a forked child has no threads
    os.environ[name] = "1"
ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

import cut_search  # noqa: E402
import cutoff  # noqa: E402
import rank_runs  # noqa: E402


def printed(script: str | Path, *args: object) -> str:
    """Run a script in a process of its own, whose children are killed; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    line = [sys.executable, str(script), *map(str, args)]
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=True).stdout


def kill(tries: int, *, compiled: bool, seed: int) -> cutoff.Tries:
    """Kill children of a process of its own."""
    return cutoff.Tries(*map(int, printed(cutoff.__file__, int(compiled), tries, seed).split()))


def command(kind: str, tries: int, *, seed: int, name: str) -> cutoff.Tries:
    """Cut the command off, as `killed_runs` does it."""
    script = Path(cutoff.__file__).with_name("killed_runs.py")
    found = json.loads(printed(script, kind, tries, "--seed", seed, "--command", name))
    for wrong in found["wrong"]:
        print(wrong, file=sys.stderr)
    left = found["left"]
    return cutoff.Tries(
        found["tries"], left.get("unfinished", 0) + left.get("a part", 0), found["tries"] - len(found["wrong"])
    )


def searches(tries: int, *, seed: int) -> int:
    """Cut searches off in every way; print a table, and return how many were not equal."""
    failed = 0
    for kind in (*cut_search.WAYS, "kill -9"):
        if kind == "kill -9":
            found = cutoff.Tries(*map(int, printed(cut_search.__file__, tries, seed).split()))
        else:
            found = cut_search.cut_off(cut_search.WAYS[kind], tries, seed=seed)
        failed += found.made - found.equal
        print(f"{kind:<10} {'search':<7} {found.made:>6} {found.cut_off:>8} {found.equal:>6}", flush=True)
    return failed


def main() -> int:
    """Print a table; return 1 if any bit differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--n", type=int, default=500, help="tries of each kind")
    parser.add_argument("--seed", type=int, default=0)
    text = "cut off xpnn train, or xpnn search, not a fit in Python"
    parser.add_argument("--command", nargs="?", const="train", choices=["train", "search"], help=text)
    parser.add_argument("--search", action="store_true", help="cut off xpnn.search.run, not a fit")
    parser.add_argument("--ranks", action="store_true", help="kill one of several processes that train together")
    args = parser.parse_args()
    print(f"{'kind':<10} {'steps':<7} {'tries':>6} {'cut off':>8} {'equal':>6}")
    failed = 0
    if args.search:
        return int(searches(args.n, seed=args.seed) > 0)
    if args.ranks:
        found = cutoff.Tries(*map(int, printed(rank_runs.__file__, "tries", args.n, args.seed).split()))
        print(f"{'kill -9':<10} {'ranks':<7} {found.made:>6} {found.cut_off:>8} {found.equal:>6}", flush=True)
        return int(found.equal < found.made)
    if args.command:
        for kind in ("kill", "terminate", "interrupt", "call"):
            found = command(kind, args.n, seed=args.seed, name=args.command)
            failed += found.made - found.equal
            print(f"{kind:<10} {args.command:<7} {found.made:>6} {found.cut_off:>8} {found.equal:>6}", flush=True)
        return int(failed > 0)
    for kind in (*cutoff.WAYS, "kill -9"):
        for compiled in (False, True):
            if kind == "kill -9":
                found = kill(args.n, compiled=compiled, seed=args.seed)
            else:
                found = cutoff.cut_off(kind, args.n, compiled=compiled, seed=args.seed)
            failed += found.made - found.equal
            steps = "traces" if compiled else "eager"
            print(f"{kind:<10} {steps:<7} {found.made:>6} {found.cut_off:>8} {found.equal:>6}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
