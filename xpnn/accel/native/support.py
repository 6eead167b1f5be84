"""Where native code may run: the versions that it was tested with, and what is said elsewhere.

Three things go past what NumPy, OpenBLAS and numba promise: traces call NumPy's inner loops by their addresses,
threads of xpnn's own (`pool.py`) make several products of OpenBLAS's at once without Python, and `threads.py` and
`atomics.py` write machine code with numba's inner parts.  A wrong guess there is a crash, not an error, and no trial
within the process catches it.  So each runs only with versions that passed the tests of `tests/accel/native` and
`tests/training/recorded`; with others work is done the plain way, which is said once, to the logger ``xpnn``.

To add a version, write it here and run these tests with it; ``xpnn doctor`` tries it in a process of its own.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import os
from typing import Any, Literal

import numpy as np

from ...errors import BackendUnavailableError, OptionError
from ..cores import core_count, kept_to, threads_by_environment
from .openblas import NO_POOL, Pool, openblas_version
from .turns import allowed_threads

__all__ = [
    "NUMBA",
    "NUMPY",
    "OPENBLAS",
    "VARIABLE",
    "Compiled",
    "compiled_by_environment",
    "find_pool",
    "is_loaded",
    "is_tested_numba",
    "keep_pool",
    "load_loops",
    "loops_at_hand",
    "numba_objection",
    "numpy_objection",
    "openblas_objection",
]

#: Feature releases of NumPy in which traces may call inner loops.
NUMPY = ("2.1", "2.2", "2.3", "2.4")
#: Versions of OpenBLAS, as they call themselves, beside which threads of compiled loops were tested.
OPENBLAS = ("0.3.27", "0.3.28", "0.3.29", "0.3.30", "0.3.31.188.0", "0.3.31.dev")
#: The first and the last feature release of numba that may compile loops.
NUMBA = ("0.61", "0.68")

#: The environment variable that chooses where nobody else does.
VARIABLE = "XPNN_COMPILED"
#: Whether to use native code: in fits long enough to repay its loading, always, or never.
Compiled = Literal["auto", True, False]

_LOG = logging.getLogger("xpnn")


def compiled_by_environment() -> Compiled:
    """Return what ``XPNN_COMPILED`` says: 0, 1 or auto, which it is where the variable is not set."""
    value = os.environ.get(VARIABLE) or "auto"
    choices: dict[str, Compiled] = {"0": False, "1": True, "auto": "auto"}
    if value not in choices:
        raise OptionError(
            f"{VARIABLE}: expected 0, 1 or auto in the environment, got {value!r}. Set it to one of them."
        )
    return choices[value]


# -- versions -------------------------------------------------------------------------------------------------
def _feature(version: str) -> str:
    return ".".join(version.split(".")[:2])


def numpy_objection() -> str | None:
    """Why no steps are traced with this NumPy, or None."""
    if _feature(np.__version__) in NUMPY:
        return None
    return f"NumPy {np.__version__} is none that traces were tested with ({', '.join(NUMPY)})"


def openblas_objection() -> str | None:
    """Why compiled loops run on one thread, or None."""
    version = openblas_version()
    if version in OPENBLAS:
        return None
    if version is None:
        return "NumPy's matrix products are not OpenBLAS's"
    return f"OpenBLAS {version} is none beside which threads were tested ({', '.join(OPENBLAS)})"


def is_tested_numba(version: str) -> bool:
    """Whether loops were tested with this version of numba, or with an older and a newer one."""
    first, found, last = (tuple(map(int, _feature(v).split("."))) for v in (NUMBA[0], version, NUMBA[1]))
    return first <= found <= last


def numba_objection() -> str | None:
    """Why no loops are compiled here, or None."""
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed: pip install 'xpnn[fast]'"
    numba = importlib.import_module("numba")
    if not is_tested_numba(numba.__version__):
        return (
            f"numba {numba.__version__} is none that loops were tested with: pip install 'numba=={NUMBA[1]}.*' "
            f"({NUMBA[0]} is the oldest)"
        )
    if numba.config.DISABLE_JIT:
        return "numba does not compile: unset NUMBA_DISABLE_JIT"
    return None


@functools.cache
def _say(level: int, text: str) -> None:
    """Log a sentence, once."""
    _LOG.log(level, text)


# -- what is used -----------------------------------------------------------------------------------------------
@functools.cache
def _loaded() -> tuple[Any, str]:
    """Return the compiled loops, or None and why not: a fact of the process, found out once."""
    try:
        objection = numba_objection()
        if objection is not None:
            return None, objection
        loops = importlib.import_module(".loops", __package__)
        _try(loops)
        return loops, ""
    except Exception as error:  # whatever a numba to come does must not keep a fit from its work
        return None, " ".join(str(error).split())[:200]


def _try(loops: Any) -> None:
    """Compile, or load, loops in which is what of numba's is particular: then all others will be compiled, too."""
    arrays = [np.ones(64, np.float32) for _ in range(4)]
    loops.adam(NO_POOL, *arrays, 0.9, 0.999, 1e-8, 1e-3)
    loops.relu(arrays[0], arrays[1])
    rows = arrays[2].view(np.uint8).reshape(2, -1)
    loops.take_rows(NO_POOL, np.empty_like(rows), rows, np.arange(2), len(rows))


def is_loaded() -> bool:
    """Whether it has been found out already if loops can be compiled, so that to use them costs nothing more."""
    return _loaded.cache_info().currsize > 0


def loops_at_hand() -> Any:
    """Return the module of compiled loops where the process has loaded them, and may use them; else None."""
    return _loaded()[0] if is_loaded() and compiled_by_environment() is not False else None


def load_loops(*, required: bool = False) -> Any:
    """Return the module of compiled loops, or None; BackendUnavailableError if they are required and cannot be had."""
    loops, why = _loaded()
    if loops is None and required:
        raise BackendUnavailableError(f"get_backend: compiled=True cannot be had: {why}, or leave compiled away.")
    if loops is None and importlib.util.find_spec("numba") is not None:
        _say(logging.WARNING, f"compiled loops are left aside: {why}")
    objection = None if loops is None else numpy_objection()
    if objection is not None:
        _say(logging.WARNING, f"steps are not traced: {objection}")
    return loops


def find_pool() -> Pool:
    """Return the threads on which loops may run, or `NO_POOL`; as many as the user lets products have now."""
    objection = openblas_objection()
    if objection is None:
        most = min(core_count(), allowed_threads(), threads_by_environment() or allowed_threads())
        pool: Pool = importlib.import_module(".pool", __package__).make_pool(most)
        return pool
    _say(logging.INFO, f"compiled loops run on one thread: {objection}")
    return NO_POOL


def keep_pool(pool: Pool) -> Pool:
    """Return a pool with as many threads as the work of this thread is kept to."""
    most = kept_to()
    if most is None or pool == NO_POOL:
        return pool
    if most == 1:
        return NO_POOL
    own: Pool = importlib.import_module(".pool", __package__).limited(most)
    return own
