"""Native code, tried in a process of its own: there a crash is an answer.

`check_native` starts that process, in which `main` tries one part after the other and tells of each on a line.
"""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
from typing import Any

import numpy as np

from ...errors import BackendUnavailableError, OptionError
from .openblas import NO_POOL, openblas_version
from .support import (
    VARIABLE,
    compiled_by_environment,
    find_pool,
    load_loops,
    numba_objection,
    numpy_objection,
    openblas_objection,
)
from .trace import Trace

__all__ = ["PARTS", "PROGRAM", "TIMEOUT", "check_native", "main"]

#: What is tried, in this order.
PARTS = ("compiled loops", "threads", "traces")
#: What the child runs.
PROGRAM = "from xpnn.accel.native.check import main; main()"
#: Seconds: without a cache numba takes up to half a minute to compile.
TIMEOUT = 180.0


def check_native() -> dict[str, str]:
    """Try native code in a child process; return what came of each part, or of the child where it came to an end.

    Examples
    --------
    >>> list(check_native())[0] in ("compiled loops", "native code")
    True
    """
    try:
        if compiled_by_environment() is False:
            return {"native code": f"switched off by {VARIABLE}=0"}
    except OptionError as error:
        return {"native code": str(error)}
    path = f"import sys; sys.path[:] = {sys.path!r}; "  # the very modules of this process
    try:
        child = subprocess.run([sys.executable, "-c", path + PROGRAM], capture_output=True, timeout=TIMEOUT)
        out, end = child.stdout, _end(child.returncode, child.stderr.decode(errors="replace"))
    except subprocess.TimeoutExpired as late:
        out, end = late.stdout or b"", f"no answer within {TIMEOUT:g} seconds"
    found = [json.loads(line) for line in out.decode().splitlines()]
    states = {part: state for part, state in found if state != "begun"}
    if end:
        at = found[-1][0] if found else "its start"
        states["native code"] = f"{end}, at {at}: set {VARIABLE}=0, and report it with {_versions()}"
    return states


def _end(code: int, errors: str) -> str:
    """Return how a child ended, or nothing where it ended well."""
    if code == 0:
        return ""
    if code < 0:
        return f"crashed with {signal.Signals(-code).name}"
    last = errors.strip().splitlines()[-1:]
    return f"crashed with exit code {code}" + (f" ({last[0][:200]})" if last else "")


def _versions() -> str:
    return f"NumPy {np.__version__}, OpenBLAS {openblas_version()}, Python {sys.version.split()[0]} on {sys.platform}"


# -- in the child -----------------------------------------------------------------------------------------------
def main() -> None:
    """Try all parts, and print of each, as JSON, its name with ``"begun"``, then its name with how it went."""
    for part, run in zip(PARTS, (_loops, _threads, _traces), strict=True):
        _print(part, "begun")
        _print(part, run())


def _print(part: str, state: str) -> None:
    sys.stdout.write(json.dumps([part, state]) + "\n")
    sys.stdout.flush()  # what comes next may be a crash


def _loops() -> str:
    objection = numba_objection()
    if objection is not None:
        return objection
    try:
        loops = load_loops(required=True)
    except BackendUnavailableError as error:
        return str(error)
    x = np.linspace(-1, 1, 1000, dtype=np.float32)
    y = np.empty_like(x)
    loops.relu(x, y)
    return _judged(np.array_equal(y, np.maximum(x, 0)), f"numba {importlib.import_module('numba').__version__}")


def _threads() -> str:
    objection = openblas_objection()
    if objection is not None:
        return f"not used: {objection}"
    loops, pool = load_loops(), find_pool()
    if loops is None or pool == NO_POOL:
        return "not used: there are none"
    results = []
    for own in (NO_POOL, pool):
        arrays = [np.linspace(0.1, 1, 1 << 17, dtype=np.float32) for _ in range(4)]
        for _ in range(20):
            loops.adam(own, *arrays, 0.9, 0.999, 1e-8, 1e-3)
        results.append(arrays[0].tobytes())
    return _judged(results[0] == results[1], f"OpenBLAS {openblas_version()}")


def _traces() -> str:
    loops, objection = load_loops(), numpy_objection()
    if loops is None or objection is not None:
        return f"not used: {objection or 'there are no compiled loops'}"
    trace = Trace(loops, find_pool, np.dtype(np.float32))
    x, w, total = (np.linspace(-1, 1, n, dtype=np.float32).reshape(-1, 4) for n in (96, 16, 4))
    expected = total.copy()

    def step(x: Any, w: Any, total: Any) -> None:
        total += np.sum(np.tanh(x @ w), axis=0)

    for _ in range(5):
        step(x, w, expected)
    step(trace.moving(x), trace.fixed(w), trace.fixed(total))
    trace.finish()
    trace.play(4, [(x.ctypes.data, 0)])
    return _judged(total.tobytes() == expected.tobytes(), f"NumPy {np.__version__}")


def _judged(right: bool, version: str) -> str:
    return f"ok, {version}" if right else f"wrong results with {version}: set {VARIABLE}=0, and report it"
