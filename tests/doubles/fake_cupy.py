"""CuPy on NumPy, for tests: arrays with device pointers, the kernels compiled by g++, and a cuBLAS in Python.

It is strict where a GPU would go wrong silently: arguments of a kernel are held against its signature, arrays of NumPy
do not mix with its own, and the emulated cuBLAS checks what the real one checks.
"""

from __future__ import annotations

import ctypes
import functools
import platform
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from xpnn.accel.cuda import cupy_ops, kernels, persistent
from xpnn.backend import interop, operations
from xpnn.backend import value as backends

SHIM = Path(__file__).with_name("cuda_shim.h")
SOURCE = Path(kernels.__file__).with_name("kernels.cu")
TOGETHER = "train_steps"  # whose blocks run at once
# No thread of these waits for another: they run without fibers, which is faster.
ALONE = {"gather_words", "add_bias", "keep_mask", "keep_mask_of_rows", "clip_norm", "adam", "descend"}
ORDERS = {"forward": 0, "reverse": 1, "mixed": 2}


# -- arrays -----------------------------------------------------------------------------------------------------
class Device:
    """Like CuPy's: it has a number, compares by it, and cannot be hashed."""

    __hash__ = None
    compute_capability = "90"
    attributes = {"MultiProcessorCount": 3, "CooperativeLaunch": 1}  # noqa: RUF012, of every device

    def __init__(self, number=0):
        self.id = number

    def __eq__(self, other):
        return isinstance(other, Device) and self.id == other.id

    def __repr__(self):
        return f"<CUDA Device {self.id}>"

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


class ndarray(np.ndarray):  # noqa: N801, as CuPy names it
    """An array on the device that is none."""

    device = Device()

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self.ctypes.data)

    def get(self):
        return np.array(self.view(np.ndarray))

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        if any(type(a) is np.ndarray for a in (*inputs, *(out or ()))):
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")  # as CuPy says
        if out is not None:
            options["out"] = tuple(a.view(np.ndarray) for a in out)
        result = getattr(ufunc, method)(*(bare(a) for a in inputs), **options)
        return result if out is None and result is None else (wrap(result) if out is None else out[0])


def bare(a):
    return a.view(np.ndarray) if isinstance(a, ndarray) else a


def wrap(a):
    """What NumPy returned, as CuPy would: numbers are arrays too."""
    return np.asarray(a).view(ndarray) if isinstance(a, np.ndarray | np.generic) else a


def guarded(a):
    """A copy between two walls of bytes: what a kernel reads there is no number, what it writes there is found."""
    a = np.ascontiguousarray(bare(a))
    wall = 256 // a.itemsize
    memory = np.full(a.size + 2 * wall, -1, np.int64).astype(f"i{a.itemsize}").view(a.dtype)
    array = memory[wall : wall + a.size].reshape(a.shape).view(ndarray)
    array[...] = wrap(a)
    array.walls = memory[:wall].view(np.uint8), memory[wall + a.size :].view(np.uint8)
    return array


def intact(a):
    """Whether nothing was written beside an array; views of one are not watched."""
    return all((wall == 255).all() for wall in getattr(a, "walls", ()))


class Namespace(types.ModuleType):
    """``array_api_compat.cupy`` in name and, as far as xpnn asks, in deed."""

    def __getattr__(self, name):
        if name == "__array_namespace_info__":
            return lambda: types.SimpleNamespace(default_dtypes=lambda device: {"indexing": np.int64})
        value = getattr(np, name)
        if isinstance(value, type | np.dtype) or not callable(value):
            return value

        def call(*args, device=None, **options):
            args = [tuple(bare(x) for x in a) if isinstance(a, tuple | list) else bare(a) for a in args]
            result = value(*args, **options)
            return tuple(wrap(a) for a in result) if isinstance(result, tuple) else wrap(result)

        return call

    @staticmethod
    def asarray(a, *, dtype=None, device=None, copy=None):
        if isinstance(a, ndarray) and not copy:
            return wrap(np.asarray(bare(a), dtype))
        return guarded(np.asarray(bare(a), dtype))

    @staticmethod
    def astype(a, dtype, *, copy=True, device=None):
        return wrap(bare(a).astype(dtype, copy=copy))


# -- the module -------------------------------------------------------------------------------------------------
def compiled(folder, names=kernels.KERNELS, source=SOURCE, *options):
    """Compile kernels for the host, and return the library; more options are the compiler's."""
    compiler = shutil.which("g++")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs g++ on Linux: apt-get install g++")
    table = "\n".join(f"KERNEL({name})" for name in names)
    code = f"""
    #include "{SHIM}"
    #include "{source}"
    extern "C" const char* run(const char* which, const char* given, const unsigned* grid, const unsigned* block,
                               void** args, int order, int alone) {{
      std::string letters;
      void (*thread)() = nullptr;
      {table}
      if (!thread) return "no such kernel";
      if (!given) return (shim::problem = letters).c_str();
      shim::direct = alone;
      shim::launch(thread, {{grid[0], grid[1], grid[2]}}, {{block[0], block[1], block[2]}}, args, order);
      return shim::problem.c_str();
    }}
    """
    path = Path(folder) / "kernels.cpp"
    path.write_text(code)
    library = path.with_suffix(".so")
    options = [*options, "-std=c++20", "-O1", "-fPIC", "-shared", "-ffp-contract=off", "-fno-strict-aliasing", "-w"]
    options += ["-U_FORTIFY_SOURCE"] + (["-fcf-protection=none"] if platform.machine() == "x86_64" else [])
    subprocess.run([compiler, *options, str(path), "-o", str(library)], check=True, capture_output=True, text=True)
    loaded = ctypes.CDLL(str(library))
    loaded.run.restype = ctypes.c_char_p
    return loaded


LETTERS = {"float32": "F", "int32": "I", "int64": "L", "uint8": "B"}


def run(library, name, grid, block, args, order="forward", *, alone=False):
    """Run a kernel on the host; return what was wrong, empty if nothing."""
    letters = library.run(name.encode(), None, None, None, None, 0, 0).decode()
    check(name, letters, args)
    values = [ctypes.c_void_p(a.data.ptr) if isinstance(a, ndarray) else number_of(a) for a in args]
    pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(v) for v in values))
    sizes = [(ctypes.c_uint * 3)(*(*dims, 1, 1)[:3]) for dims in (grid, block)]
    return library.run(name.encode(), letters.encode(), *sizes, pointers, ORDERS[order], int(alone)).decode()


class RawModule:
    """The module of kernels; each launch is checked, noted in `launched` and run in the order `order`."""

    compiled = None
    together = None  # returns the library of the kernel whose blocks run at once
    order = "forward"
    launched: list[str] = []  # noqa: RUF012, emptied by the fixture

    def __init__(self, *, code, options):
        assert code in (SOURCE.read_text(encoding="utf-8"), persistent.source())
        assert "--fmad=false" in options
        self.defined = [option for option in options if option.startswith("-D")]

    def get_function(self, name):
        def kernel(grid, block, args, *, enable_cooperative_groups=False):
            assert enable_cooperative_groups == (name == TOGETHER), f"{name}: blocks at once, or not"
            self.launched.append(name)
            library = self.together(*self.defined) if name == TOGETHER else self.compiled
            problem = run(library, name, grid, block, args, self.order, alone=name in ALONE)
            assert not problem, f"{name}: {problem}"
            assert all(intact(a) for a in args), f"{name} wrote beside an array"

        def launch(grid, block, args):
            kernel(grid, block, args)

        launch.kernel = kernel
        return launch


def number_of(a):
    kind = {"int32": ctypes.c_int, "int64": ctypes.c_longlong, "float32": ctypes.c_float, "uint64": ctypes.c_void_p}
    return kind[a.dtype.name](a.item())


def check(name, letters, args):
    """Hold arguments against a kernel's signature: CuPy would pack whatever it is given."""
    assert len(args) == len(letters), f"{name} takes {len(letters)} arguments, got {len(args)}"
    for place, (letter, a) in enumerate(zip(letters, args, strict=True)):
        where = f"{name}, argument {place} of kind {letter!r}: got {type(a).__name__}"
        if letter.isupper():
            null = isinstance(a, np.uintp) and a == 0
            words = name == "gather_words" and isinstance(a, ndarray) and a.itemsize % 4 == 0 and letter == "I"
            assert null or words or (isinstance(a, ndarray) and LETTERS.get(a.dtype.name) == letter), where
        else:
            assert isinstance(a, {"i": np.int32, "l": np.int64, "f": np.float32}[letter]), where


class Stream:
    def __init__(self, ptr=0):
        self.ptr = ptr

    def synchronize(self):
        """Work is done when it is given."""


class Memory:
    """A workspace: an address that nobody reads."""

    taken = 0x7000_0000_0000

    def __init__(self, n):
        self.ptr, Memory.taken = Memory.taken, Memory.taken + n


def make_cupy():
    cupy = types.ModuleType("cupy")
    cupy.ndarray = ndarray
    cupy.empty = lambda shape, dtype: guarded(np.full(shape, np.nan if np.dtype(dtype).kind == "f" else 7, dtype))
    cupy.asarray = guarded
    cupy.ascontiguousarray = lambda a: wrap(np.ascontiguousarray(bare(a)))
    cupy.RawModule = RawModule
    cupy.get_default_memory_pool = lambda: types.SimpleNamespace(used_bytes=lambda: 0)
    cupy.current = Stream()
    cupy.cuda = types.SimpleNamespace(
        Device=Device,
        alloc=Memory,
        get_current_stream=lambda: cupy.current,
        runtime=types.SimpleNamespace(runtimeGetVersion=lambda: 13000),
    )
    return cupy


# -- cuBLAS -----------------------------------------------------------------------------------------------------
def noting(calls, owner, name, method):
    """A callback that notes its name, and gives what it raises to its owner: out of C it would be lost."""

    def call(*args):
        calls.append(name)
        try:
            return method(*args)
        except Exception as error:
            owner.error = error
            return 14

    return call


class Cublas:
    """cuBLAS in Python, called through C: it reads matrices from the pointers that it is given.

    Attributes
    ----------
    calls : list of str
        Names of all functions called.
    products : list of dict
        What each product was told.
    status : int
        What the next call of a product returns, 0 for success.
    """

    TYPES = {0: np.float32, 1: np.float64, 2: np.float16, 14: "bfloat16"}  # noqa: RUF012

    def __init__(self):
        from xpnn.accel.cuda import cublas

        self.calls, self.products, self.status = [], [], 0
        self.stream, self.workspace = None, None
        for name, arguments in cublas.ARGUMENTS.items():
            method = getattr(self, f"_{name.removeprefix('cublas').removesuffix('_v2').lower()}")
            setattr(self, name, ctypes.CFUNCTYPE(ctypes.c_int, *arguments)(noting(self.calls, self, name, method)))

    def _create(self, handle):
        ctypes.cast(handle, ctypes.POINTER(ctypes.c_void_p))[0] = 0xB1A5
        return 0

    def _setstream(self, handle, stream):
        self.stream, self.workspace = stream or 0, None
        return 0 if handle == 0xB1A5 else 1

    def _setworkspace(self, handle, workspace, n):
        self.workspace = workspace, n
        return 0 if handle == 0xB1A5 else 1

    def _gemmstridedbatchedex(self, handle, op_a, op_b, m, n, k, alpha, a, type_a, ld_a, step_a, b, type_b, ld_b,
                              step_b, beta, c, type_c, ld_c, step_c, count, compute, algorithm):  # fmt: skip
        if self.status:
            return self.status
        scalar = ctypes.c_double if compute == 70 else ctypes.c_float
        alpha, beta = (scalar.from_address(p).value for p in (alpha, beta))
        shapes = ((k, m) if op_a else (m, k)), ((n, k) if op_b else (k, n)), (m, n)
        told = {"m": m, "n": n, "k": k, "ops": (op_a, op_b), "ld": (ld_a, ld_b, ld_c), "count": count}
        self.products.append(told | {"steps": (step_a, step_b, step_c), "compute": compute, "beta": beta})
        if handle != 0xB1A5 or min(m, n, k) < 0 or count < 0 or self.workspace is None:
            return 7
        for (rows, _), ld in zip(shapes, (ld_a, ld_b, ld_c), strict=True):
            if ld < max(1, rows):
                return 7
        if (type_a != type_b) or (compute == 70) != (type_a == 1) or (compute == 77 and type_a != 0):
            return 15
        A, B, C = (
            by_columns(p, self.TYPES[kind], count, shape, ld, step)
            for p, kind, shape, ld, step in zip(
                (a, b, c), (type_a, type_b, type_c), shapes, (ld_a, ld_b, ld_c), (step_a, step_b, step_c), strict=True
            )
        )
        A, B = (A.mT if op_a else A), (B.mT if op_b else B)
        wide = A.dtype if type_a in (0, 1) else np.float32  # sums of half precision are in float32
        product = alpha * np.matmul(A.astype(wide), B.astype(wide)).astype(C.dtype)
        C[...] = product + C.dtype.type(beta) * C if beta else product  # with beta 0, C is not read
        return 0


def by_columns(pointer, dtype, count, shape, ld, step):
    """The matrices of cuBLAS at a pointer, as an array of shape (count, rows, cols)."""
    size = np.dtype(dtype).itemsize
    extent = ((count - 1) * step + (shape[1] - 1) * ld + shape[0]) * size
    memory = (ctypes.c_char * extent).from_address(pointer)
    return np.ndarray((count, *shape), dtype, memory, strides=(step * size, size, ld * size))


# -- fixtures ---------------------------------------------------------------------------------------------------
@pytest.fixture(scope="session", name="host_kernels")
def fixture_host_kernels(tmp_path_factory):
    """The kernels, compiled for the host once."""
    return compiled(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="session", name="together")
def fixture_together(tmp_path_factory):
    """The kernel whose blocks run at once, compiled for the host when it is launched first."""

    @functools.cache
    def found(*options):
        folder = tmp_path_factory.mktemp("together")
        (folder / "together.cu").write_text(persistent.source(), encoding="utf-8")
        return compiled(folder, [TOGETHER], folder / "together.cu", "-DTOGETHER", "-pthread", *options)

    return found


@pytest.fixture(name="cupy")
def fixture_cupy(monkeypatch, host_kernels, together):
    """A module in CuPy's place; `cupy.blas` is its cuBLAS, `cupy.launched` the names of all kernels run."""
    module, xp, blas = make_cupy(), Namespace("array_api_compat.cupy"), Cublas()
    module.blas, module.xp, xp.cuda = blas, xp, module.cuda
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", xp)
    monkeypatch.setitem(interop.LIBRARIES, ndarray, "cupy")
    monkeypatch.setitem(interop.NAMESPACES, ndarray, xp)
    monkeypatch.setattr(operations, "CUDA_OPS", {})
    monkeypatch.setattr("xpnn.ops._MADE", {})
    monkeypatch.setattr(cupy_ops, "load_cublas", lambda cupy: blas)
    monkeypatch.setattr(RawModule, "compiled", host_kernels)
    monkeypatch.setattr(RawModule, "together", staticmethod(together))
    monkeypatch.setattr(RawModule, "launched", [])
    module.launched = RawModule.launched
    return module


@pytest.fixture(params=list(ORDERS), name="order")
def fixture_order(request, monkeypatch):
    """In which order the threads and blocks run: no result may depend on it."""
    monkeypatch.setattr(RawModule, "order", request.param)
    return request.param


@pytest.fixture(name="on_gpu")
def fixture_on_gpu(cupy):
    """A backend on that CuPy."""
    return backends.make("cupy", "0", "float32")


@pytest.fixture(name="ops")
def fixture_ops(on_gpu):
    """Its operations: `CupyOps`."""
    return on_gpu.ops
