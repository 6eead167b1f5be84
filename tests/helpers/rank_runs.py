"""Trainings of `rank_work` on real processes: how they are started, and what they come to.

python rank_runs.py tries N SEED    kill a rank of several at N random moments, go on with fewer, compare
python rank_runs.py each P WORDS…   start P processes that meet by RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORK = Path(__file__).with_name("rank_work.py")
WATCHDOG = 90.0  # seconds: what takes longer hangs
WITHIN = 30.0  # seconds from the beginning of processes, one of which fails, to the end of all; mostly their imports


def mpiexec():
    found = Path(sys.executable).with_name("mpiexec")
    return str(found) if found.exists() else shutil.which("mpiexec")


def missing(engine):
    """What an engine needs that is not here."""
    if engine == "mpi" and (importlib.util.find_spec("mpi4py") is None or mpiexec() is None):
        return "needs mpi4py and mpiexec: pip install 'xpnn[mpi]'"
    if engine == "torch" and importlib.util.find_spec("torch") is None:
        return "needs PyTorch: pip install torch"
    return None


def launcher(engine, size, *options, guarded=True):
    """The command that starts processes; `guarded` as the docs say it, by `python -m mpi4py`."""
    return {
        "alone": [sys.executable],
        "mpi": [mpiexec(), "-n", str(size), sys.executable, *(["-m", "mpi4py"] if guarded else [])],
        "torch": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)],
        "sockets": [sys.executable, __file__, "each", str(size), sys.executable],
    }[engine] + list(options)


def start(engine, size, scenario, folder, *options, guarded=True):
    """Start processes, and wait for their end; return it, and the seconds."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [*launcher(engine, size, *options, guarded=guarded), str(WORK), engine, scenario, str(folder)]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=WATCHDOG)
    return done, time.monotonic() - began


def results(engine, size, scenario, folder):
    """What all ranks have come to; the same on each."""
    done, _ = start(engine, size, scenario, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    text = done.stdout.replace("}{", "}\n{")
    found = {one["rank"]: one for one in map(json.loads, text.splitlines())}
    assert sorted(found) == list(range(size))
    for rank, one in found.items():
        assert one["size"] == size
        other = [name for name, value in one["done"].items() if value != found[0]["done"][name]]
        assert not other, f"rank {rank} differs in {other}"
    return found[0]["done"]


def killed(tries, seed, whole, *, longest=0.25):
    """Kill a random rank at a random moment, and let fewer go on; `whole` is what nobody killed comes to.

    Returns how many tries there were, how many were cut off, and how many came to the same.
    """
    cut_off = equal = 0
    for k in range(tries):
        draw = random.Random(1000 * seed + k)
        engine, size = draw.choice(["mpi", "sockets"]), draw.choice([2, 3, 4])
        rank, seconds = draw.randrange(size), draw.uniform(0.0, longest)
        with tempfile.TemporaryDirectory() as folder:
            done, took = start(engine, size, f"kill:{rank}:{seconds}", folder)
            assert took < WITHIN, f"{engine}, rank {rank} of {size}, {took:.0f} s: {done.stderr}"
            if done.returncode:
                cut_off += 1
            rest = draw.randrange(1, size)
            found = results(engine if rest > 1 else "alone", rest, "goes on", folder)
        if found == {"whole": whole}:
            equal += 1
        else:
            sys.stderr.write(
                f"try {k}: {engine}, rank {rank} of {size} after {seconds:.3f} s, on with {rest}: differs\n"
            )
    return tries, cut_off, equal


def each(size, words):
    """Be a launcher that only starts processes; return the first bad status."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    common = os.environ | {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [subprocess.Popen(words, env=common | {"RANK": str(rank)}) for rank in range(size)]
    return next((status for status in [process.wait() for process in started] if status), 0)


def main():
    kind, number, *rest = sys.argv[1:]
    if kind == "each":
        return 1 if each(int(number), rest) else 0
    with tempfile.TemporaryDirectory() as folder:
        whole = results("alone", 1, "whole", folder)["whole"]
    sys.stdout.write(" ".join(map(str, killed(int(number), int(rest[0]), whole))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
