"""Backends as values: getting them, what each way to fail says, and arrays of any library in any other."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from broken_cupy import CUDARuntimeError, install_fake_cupy
from places import backend_or_skip

import xpnn
from xpnn.backend import Backend, available_backends, backend_of, get_backend, like, namespace, ops_of, to_numpy
from xpnn.errors import BackendUnavailableError, DTypeError, OptionError

SPECS = ["numpy", "strict", "torch", "cupy"]


def made_of(name, a):
    """An array of one library, made without xpnn."""
    backend = backend_or_skip(name)
    if name == "torch":
        import torch

        return torch.asarray(np.ascontiguousarray(a))
    if name == "strict":
        return backend.xp.asarray(a, device=backend.device)
    return backend.xp.asarray(a)


def short_dtype(x):
    return str(x.dtype).rpartition(".")[2]


# -- getting one ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("spec", "name", "device", "same_as"),
    [
        ("numpy", "numpy", "cpu", "numpy"),
        ("numpy:cpu", "numpy", "cpu", "numpy"),
        ("torch", "torch", "cpu", "torch:cpu"),
        ("torch:cpu", "torch", "cpu", "torch:cpu"),
        ("torch:cuda", "torch", "cuda:0", "torch:cuda:0"),
        ("torch:cuda:0", "torch", "cuda:0", "torch:cuda:0"),
        ("strict", "strict", "device1", "strict:device1"),
        ("strict:CPU_DEVICE", "strict", "CPU_DEVICE", "strict:CPU_DEVICE"),
        ("strict:no_float64", "strict", "no_float64", "strict:no_float64"),
        ("cupy", "cupy", "0", "cupy:0"),
        ("cupy:0", "cupy", "0", "cupy:0"),
    ],
)
def test_every_spec_gives_an_equal_value_each_time(spec, name, device, same_as):
    backend = backend_or_skip(spec)
    assert backend.name == name
    assert device in str(backend.device)
    assert backend.spec == same_as
    again = get_backend(backend.spec)
    assert again == backend
    assert hash(again) == hash(backend)
    assert (again.ops is backend.ops) == (name != "numpy"), "what a fit finds out is for its own networks"
    assert get_backend(backend) is backend
    assert repr(backend).startswith(f"Backend({name!r}, device=")
    assert backend.dtype_name == "float32"
    assert backend.dtype == backend.xp.float32
    with pytest.raises(dataclasses.FrozenInstanceError):
        backend.name = "other"


@pytest.mark.parametrize("spec", SPECS)
def test_dtypes_are_float32_unless_asked(spec):
    single, double = backend_or_skip(spec), backend_or_skip(spec, "float64")
    assert (single.dtype_name, double.dtype_name) == ("float32", "float64")
    assert double.dtype == double.xp.float64
    assert single != double
    assert single.with_dtype("float64") == double == get_backend(single, "float64")
    assert get_backend(double) is double, "a given backend keeps its dtype"
    assert double.zeros(3).dtype == double.xp.float64
    assert double.zeros((2, 3), dtype=double.index_dtype).dtype == double.index_dtype


def test_backends_are_keys_of_dictionaries():
    table = {get_backend("numpy"): 1, get_backend("strict"): 2, get_backend("numpy", "float64"): 3}
    assert table[get_backend("numpy", "float32")] == 1
    assert len({*table, get_backend("strict:device1")}) == 3


def test_auto_is_numpy_without_a_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert get_backend("auto") == get_backend("numpy") == get_backend()


# -- what is refused -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("spec", "dtype", "kind", "message"),
    [
        (
            "jax",
            None,
            OptionError,
            "get_backend: expected one of numpy, cupy, torch, strict or auto, got 'jax'. "
            "`xpnn doctor` tells what each needs.",
        ),
        (
            "",
            None,
            OptionError,
            "get_backend: expected one of numpy, cupy, torch, strict or auto, got ''. "
            "`xpnn doctor` tells what each needs.",
        ),
        (3, None, OptionError, "get_backend: expected a name or a Backend, got int. Pass a name such as 'numpy'."),
        (np, None, OptionError, "get_backend: expected a name or a Backend, got module. Pass a name such as 'numpy'."),
        (
            "strict",
            "float16",
            OptionError,
            "get_backend: array-api-strict has no float16. Use numpy, torch or cupy, or dtype='float32'.",
        ),
        (
            "numpy",
            "double",
            OptionError,
            "get_backend: expected dtype float32, float64, bfloat16 or float16, got 'double'. "
            "Pass one of these names as text.",
        ),
        (
            "numpy",
            np.dtype("float32"),
            OptionError,
            "get_backend: expected dtype float32, float64, bfloat16 or float16, got dtype('float32'). "
            "Pass one of these names as text.",
        ),
        (
            "numpy:1",
            None,
            BackendUnavailableError,
            "get_backend('numpy:1'): NumPy has no device '1'; use 'numpy'.",
        ),
        (
            "strict:nowhere",
            None,
            BackendUnavailableError,
            "get_backend('strict:nowhere'): array-api-strict has no device 'nowhere'; "
            "use 'strict' or 'strict:CPU_DEVICE'.",
        ),
    ],
)
def test_what_cannot_be_had_is_refused_with_its_mend(spec, dtype, kind, message):
    with pytest.raises(kind) as caught:
        get_backend(spec, dtype)
    assert str(caught.value) == message


def test_the_dtype_of_a_given_backend_is_checked_too():
    with pytest.raises(OptionError, match="expected dtype float32, float64, bfloat16 or float16, got 'float8'"):
        get_backend("numpy").with_dtype("float8")
    with pytest.raises(OptionError, match="expected dtype float32, float64, bfloat16 or float16, got 'int32'"):
        get_backend(get_backend("numpy"), "int32")


def test_torch_without_a_gpu_says_so():
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(
        BackendUnavailableError,
        match=r"^get_backend\('torch:cuda'\): PyTorch cannot use the device 'cuda' \(.+\): check nvidia-smi and "
        r"install a CUDA build of torch, or use 'torch'\.$",
    ):
        get_backend("torch:cuda")
    assert available_backends()["torch:cuda"].startswith("PyTorch cannot use the device 'cuda'")


def test_torch_has_no_device_of_that_name():
    pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    with pytest.raises(BackendUnavailableError, match=r"PyTorch cannot use the device 'banana'"):
        get_backend("torch:banana")


def test_all_backends_are_told():
    told = available_backends()
    assert list(told) == ["numpy", "cupy", "torch", "strict", "torch:cuda"]
    assert told["numpy"] == "ok"
    for name, state in told.items():
        if state == "ok":
            assert get_backend(name).name == name.partition(":")[0]
        else:
            with pytest.raises(BackendUnavailableError) as caught:
                get_backend(name)
            assert str(caught.value) == f"get_backend({name!r}): {state}"


# -- the stages of probing, with libraries made up -------------------------------------------------------------


STAGES = {
    "driver missing": (
        "cupy",
        {"no_driver": CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")},
        "CuPy is installed but finds no GPU (cudaErrorNoDevice: no CUDA-capable device is detected): run nvidia-smi; "
        "the driver may be missing or too old.",
    ),
    "device no number": ("cupy:first", {}, "a CuPy device is a number, got 'first'; use 'cupy:0'."),
    "no such device": ("cupy:2", {"count": 2}, "GPU 2 asked for, 2 found; use 'cupy:0'."),
    "no negative device": ("cupy:-1", {"count": 2}, "GPU -1 asked for, 2 found; use 'cupy:0'."),
    "NVRTC missing": (
        "cupy",
        {"no_nvrtc": RuntimeError("libnvrtc.so.13: cannot open shared object file")},
        "CuPy cannot compile a kernel (libnvrtc.so.13: cannot open shared object file): "
        "pip install 'cupy-cuda13x[ctk]' brings the compiler.",
    ),
    "headers missing": (
        "cupy",
        {"no_nvrtc": ImportError("cuda_fp16.h")},
        "CuPy cannot compile a kernel (cuda_fp16.h): pip install 'cupy-cuda13x[ctk]' brings the compiler.",
    ),
    "cuBLAS missing": (
        "cupy",
        {"no_cublas": ImportError("libcublas.so.13: cannot open shared object file")},
        "CuPy cannot multiply matrices (libcublas.so.13: cannot open shared object file): "
        "pip install 'cupy-cuda13x[ctk]' brings cuBLAS.",
    ),
}


@pytest.mark.parametrize(("spec", "faults", "message"), STAGES.values(), ids=STAGES)
def test_each_stage_of_cupy_fails_with_its_own_sentence(monkeypatch, spec, faults, message):
    install_fake_cupy(monkeypatch, **faults)
    with pytest.raises(BackendUnavailableError) as caught:
        get_backend(spec)
    assert str(caught.value) == f"get_backend({spec!r}): {message}"
    if spec == "cupy":
        assert available_backends()["cupy"] == message
        assert get_backend("auto").name == "numpy"


def test_a_cupy_that_works_is_ok(monkeypatch):
    install_fake_cupy(monkeypatch)
    assert available_backends()["cupy"] == "ok"


MISSING = {
    "cupy": "not installed: pip install 'xpnn[cuda13]' (or [cuda12], to match the driver)",
    "torch": "not installed: pip install torch",
    "array_api_strict": "not installed: pip install array-api-strict",
}


@pytest.mark.parametrize(("module", "message"), MISSING.items())
def test_libraries_that_are_not_installed_name_the_command(monkeypatch, module, message):
    monkeypatch.setitem(sys.modules, module, None)
    name = "strict" if module == "array_api_strict" else module
    assert available_backends()[name] == message
    with pytest.raises(BackendUnavailableError) as caught:
        get_backend(name)
    assert str(caught.value) == f"get_backend({name!r}): {message}"
    assert get_backend("numpy").name == "numpy"


@pytest.mark.parametrize(
    ("module", "error", "mend"),
    [
        ("cupy", "ImportError", "pip install --force-reinstall 'xpnn[cuda13]'"),
        ("torch", "OSError", "pip install --force-reinstall torch"),
    ],
)
def test_libraries_whose_import_fails_say_why(monkeypatch, tmp_path, module, error, mend):
    tmp_path.joinpath(f"{module}.py").write_text(f"raise {error}('libcuda.so.1: no such file')\n")
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    message = f"installed, but its import fails (libcuda.so.1: no such file): {mend}"
    assert available_backends()[module] == message
    with pytest.raises(BackendUnavailableError) as caught:
        get_backend(module)
    assert str(caught.value) == f"get_backend({module!r}): {message}"


# -- arrays of any library in any other ------------------------------------------------------------------------
DTYPES = ["bool", "int8", "uint8", "int32", "int64", "float16", "float32", "float64"]


@pytest.mark.parametrize("target", SPECS)
@pytest.mark.parametrize(
    ("source", "dtype"), [(s, d) for s in SPECS for d in DTYPES if (s, d) != ("strict", "float16")]
)
def test_arrays_come_from_each_library_to_each(source, target, dtype):
    host = (np.arange(6).reshape(2, 3) % 2 if dtype == "bool" else np.arange(6).reshape(2, 3)).astype(dtype)
    given, backend = made_of(source, host), backend_or_skip(target)
    for wanted in (None, backend.xp.float64, backend.index_dtype, backend.xp.bool):
        got = backend.asarray(given, dtype=wanted)
        assert backend.owns(got)
        assert got.dtype == (backend.dtype if wanted is None else wanted)
        assert got.device == backend.device
        expected = host.astype(bool) if wanted == backend.xp.bool else host
        np.testing.assert_array_equal(backend.to_numpy(got), expected)
    np.testing.assert_array_equal(to_numpy(given), host, err_msg="what was given is untouched")
    assert short_dtype(given) == dtype


@pytest.mark.parametrize("source", SPECS)
def test_copies_share_no_memory(source, backend):
    given = made_of(source, np.ones((2, 2), np.float32))
    copy = backend.copy(given)
    copy[...] = 5.0
    assert (to_numpy(given) == 1).all()
    assert (backend.to_numpy(copy) == 5).all()


def test_what_is_here_already_is_not_copied(backend):
    x = backend.zeros((2, 3))
    assert backend.asarray(x) is x
    labels = backend.zeros(4, dtype=backend.index_dtype)
    assert backend.asarray(labels, dtype=backend.index_dtype) is labels


NUMBERS = {
    "list": [[1, 2], [3, 4]],
    "tuple of floats": ((1.0, 2.0), (3.0, 4.0)),
    "rows": [np.asarray([1, 2]), np.asarray([3, 4])],
    "big-endian": np.asarray([[1, 2], [3, 4]], ">f8"),
    "unsigned": np.asarray([[1, 2], [3, 4]], np.uint64),
    "Fortran order": np.asfortranarray([[1.0, 2.0], [3.0, 4.0]]),
    "negative strides": np.asarray([[4.0, 3.0], [2.0, 1.0]])[::-1, ::-1],
    "negative strides, float32": np.asarray([[4, 3], [2, 1]], np.float32)[::-1, ::-1],
    "every other": np.asarray([[1, 0, 2], [0, 0, 0], [3, 0, 4]], np.float32)[::2, ::2],
    "broadcast": np.broadcast_to(np.asarray([[1.0], [3.0]], np.float32), (2, 2)) + np.asarray([0, 1], np.float32),
}


@pytest.mark.parametrize("numbers", NUMBERS.values(), ids=NUMBERS)
def test_numbers_in_any_form(backend, numbers):
    got = backend.asarray(numbers)
    assert got.dtype == backend.dtype
    np.testing.assert_array_equal(backend.to_numpy(got), [[1, 2], [3, 4]])


def test_scalars_and_empty_arrays(backend):
    assert tuple(backend.asarray(3).shape) == ()
    assert float(backend.to_numpy(backend.asarray(np.float64(2.5)))) == 2.5
    assert tuple(backend.asarray([]).shape) == (0,)
    assert tuple(backend.asarray(np.empty((0, 4))).shape) == (0, 4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_read_only_arrays_are_taken_without_a_warning_and_stay_as_they_are(backend, dtype):
    host = np.arange(4).astype(dtype)
    host.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = backend.asarray(host)
        spread = backend.asarray(np.broadcast_to(np.asarray(2.0, dtype), (3, 2)))
    np.testing.assert_array_equal(backend.to_numpy(got), [0, 1, 2, 3])
    np.testing.assert_array_equal(backend.to_numpy(spread), np.full((3, 2), 2))
    if backend.name == "torch":
        got[...] = 0.0  # torch knows no read-only memory, so this must be memory of its own
    np.testing.assert_array_equal(host, [0, 1, 2, 3])


def test_a_memory_map_is_read(backend, tmp_path):
    np.save(tmp_path / "a.npy", np.arange(6.0).reshape(3, 2))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    np.testing.assert_array_equal(backend.to_numpy(backend.asarray(mapped)), np.arange(6).reshape(3, 2))


REFUSED = {
    "text": (np.asarray(["a", "b"]), "str32", "Encode text with xpnn.data.TableEncoder"),
    "a list of text": (["a", "b"], "str32", "Encode text with xpnn.data.TableEncoder"),
    "bytes": (np.asarray([b"a"]), "bytes8", "Encode text with xpnn.data.TableEncoder"),
    "objects": (np.asarray([1, None], object), "object", "Encode text with xpnn.data.TableEncoder"),
    "None": (None, "object", "Encode text with xpnn.data.TableEncoder"),
    "complex": (np.asarray([1j]), "complex128", "Split real and imaginary parts"),
    "dates": (np.asarray(["2020-01-01"], "M8[D]"), "datetime64[D]", "Count time from a date of your choice"),
}


@pytest.mark.parametrize(("given", "dtype", "hint"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_real_number_is_refused(backend, given, dtype, hint):
    with pytest.raises(DTypeError) as caught:
        backend.asarray(given)
    assert str(caught.value) == (
        f"asarray: expected real numbers, got dtype {dtype}. {hint} or convert with numpy.asarray(a, float)."
    )


@pytest.mark.parametrize("target", SPECS)
@pytest.mark.parametrize("source", SPECS)
def test_complex_arrays_of_any_library_are_refused(source, target):
    given, backend = made_of(source, np.asarray([1 + 2j], np.complex64)), backend_or_skip(target)
    with pytest.raises(DTypeError, match=r"got dtype complex64\. Split real and imaginary parts"):
        backend.asarray(given)


# -- torch's own ways ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("target", ["numpy", "strict", "torch"])
def test_tensors_that_require_gradients_are_detached(target):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    backend = backend_or_skip(target)
    for given in (
        torch.ones(3, requires_grad=True),
        torch.nn.Parameter(torch.ones(3)),
        torch.ones(3, requires_grad=True) * 1.0,
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            got = backend.asarray(given)
        assert backend.owns(got)
        assert not getattr(got, "requires_grad", False)
        np.testing.assert_array_equal(to_numpy(given), [1, 1, 1])


def test_training_on_tensors_that_require_gradients_records_nothing():
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    net = xpnn.mlp([2, 3, 1], backend="torch")
    x = torch.ones((4, 2), requires_grad=True)
    y, caches = net.forward(x, train=True)
    net.backward(torch.ones((4, 1), requires_grad=True), caches)
    assert not y.requires_grad
    assert not any(g.requires_grad for g in net.grads.values())
    assert x.grad is None
    assert not net.predict(x).requires_grad


def test_bfloat16_tensors_reach_the_host():
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    given = torch.asarray([1.5, 2.0], dtype=torch.bfloat16)
    assert to_numpy(given).tolist() == [1.5, 2.0]
    assert get_backend("numpy").asarray(given).tolist() == [1.5, 2.0]
    assert get_backend("torch").asarray(given).dtype == torch.float32


# -- which library, and back again -----------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("source", SPECS)
def test_backend_of_an_array(source, dtype):
    x = made_of(source, np.zeros(2, dtype))
    backend = backend_of(x)
    assert backend == backend_or_skip(source, dtype if dtype != "int64" else None)
    assert namespace(x) is backend.xp or source == "cupy"
    assert ops_of(x) is get_backend(backend, ops="portable").ops


def test_backend_of_what_is_no_array():
    assert backend_of([1.0, 2.0]) == get_backend("numpy")
    assert backend_of(None, "strict") == get_backend("strict")
    with pytest.raises(
        DTypeError,
        match=r"^expected an array of NumPy, CuPy, PyTorch or array-api-strict, got list\. "
        r"Convert it with numpy\.asarray\.$",
    ):
        namespace([1.0])


def test_backend_of_subclasses_and_other_devices():
    strict = pytest.importorskip("array_api_strict", reason="needs array-api-strict: pip install array-api-strict")
    x = strict.zeros(2, device=strict.Device("CPU_DEVICE"))
    assert backend_of(x) == get_backend("strict:CPU_DEVICE", "float64")
    matrix = np.zeros((2, 2)).view(type("Sub", (np.ndarray,), {}))
    assert backend_of(matrix) == get_backend("numpy", "float64")


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
@pytest.mark.parametrize("target", SPECS)
@pytest.mark.parametrize("source", SPECS)
def test_like_brings_results_to_where_the_input_came_from(source, target, dtype):
    host = np.asarray([[0, 1], [1, 0]]).astype(dtype)
    result, given = made_of(source, host), made_of(target, np.zeros(3))
    got = like(result, given)
    assert type(got) is type(given)
    assert getattr(got, "device", None) == getattr(given, "device", None)
    assert short_dtype(got) == dtype, "the dtype is the result's"
    np.testing.assert_array_equal(to_numpy(got), host)
    if source == target:
        assert got is result


@pytest.mark.parametrize("given", [[[1.0]], ((1,),), 3, None], ids=repr)
def test_like_gives_numpy_for_what_is_no_array(backend, given):
    got = like(backend.zeros((2, 2)), given)
    assert type(got) is np.ndarray
    assert got.shape == (2, 2)


def test_like_between_devices_of_one_library():
    strict = pytest.importorskip("array_api_strict", reason="needs array-api-strict: pip install array-api-strict")
    given = strict.zeros(1, device=strict.Device("CPU_DEVICE"))
    result = get_backend("strict").asarray([1.0, 2.0])
    got = like(result, given)
    assert got.device == given.device != result.device
    assert got.dtype == strict.float32
    back = get_backend("strict").asarray(got)
    assert back.device == result.device


@pytest.mark.parametrize("source", SPECS)
def test_arrays_come_to_the_host(source):
    host = np.arange(6, dtype=np.float32).reshape(2, 3)
    got = to_numpy(made_of(source, host))
    assert type(got) is np.ndarray
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, host)


def test_anything_else_is_what_numpy_makes_of_it():
    class Column:
        def __array__(self, dtype=None, copy=None):
            return np.asarray([1.0, 2.0], dtype)

    assert to_numpy(Column()).tolist() == [1.0, 2.0]
    assert to_numpy(3).shape == ()
    assert xpnn.to_numpy is to_numpy
    assert xpnn.to_numpy([True]).dtype == bool


def test_networks_answer_in_the_library_of_their_input(backend):
    net = xpnn.mlp([3, 4, 2], backend=backend)
    reference = xpnn.mlp([3, 4, 2]).predict(np.ones((5, 3)))
    for source in SPECS[:3]:
        x = made_of(source, np.ones((5, 3)))
        y = net.predict(x)
        assert type(y) is type(x)
        assert getattr(y, "device", None) == getattr(x, "device", None)
        np.testing.assert_allclose(to_numpy(y), reference, rtol=1e-5)
    assert type(net.predict([[1, 1, 1]])) is np.ndarray


def test_synchronize_returns_on_every_library(backend):
    assert backend.synchronize() is None
    with backend.active():
        assert tuple(backend.zeros(3).shape) == (3,)


def test_owning_is_by_library():
    arrays = {name: made_of(name, np.zeros(1)) for name in ("numpy", "strict")}
    for name, x in arrays.items():
        for other in arrays:
            assert get_backend(other).owns(x) == (name == other)
    assert not get_backend("numpy").owns([1.0])


def test_a_backend_of_ones_own_is_a_value_too():
    mine = dataclasses.replace(get_backend("numpy"), dtype_name="float32")
    assert isinstance(mine, Backend)
    assert mine == get_backend("numpy")


# -- native code ------------------------------------------------------------------------------------------------
SETTINGS = pytest.mark.parametrize("compiled", ["auto", True, False])


def numpy_or_skip(compiled, dtype="float32"):
    if compiled is True:
        pytest.importorskip("numba", reason="needs numba: pip install 'xpnn[fast]'")
    return get_backend("numpy", dtype, compiled=compiled)


@SETTINGS
def test_what_was_chosen_goes_where_the_backend_goes(monkeypatch, compiled):
    monkeypatch.delenv("XPNN_COMPILED", raising=False)
    backend = numpy_or_skip(compiled)
    halves = backend.with_dtype("float16")
    assert type(halves.ops) is not type(backend.ops)
    for other in (
        backend.with_dtype("float64"),
        halves,
        get_backend(backend, "float64"),
        get_backend(backend, ops="fast"),
        copy.copy(backend),
        copy.deepcopy(backend),
        pickle.loads(pickle.dumps(backend)),
        pickle.loads(pickle.dumps(halves)),
        xpnn.mlp([2, 2], backend=backend).backend,
        xpnn.mlp([2, 2]).to(backend).backend,
        copy.deepcopy(xpnn.mlp([2, 2], backend=backend)).backend,
        pickle.loads(pickle.dumps(xpnn.mlp([2, 2], backend=backend))).backend,
    ):
        assert other.ops.setting == compiled
        assert other.ops.compiled is (compiled is True)


def test_a_copy_is_the_backend_itself():
    """A value, of whose networks one fit finds out how to be fast."""
    backend = get_backend("numpy")
    assert copy.copy(backend) is copy.deepcopy([backend])[0] is backend


@SETTINGS
def test_a_backend_changes_what_was_chosen(compiled):
    given = get_backend("numpy", "float64", compiled=False)
    made = numpy_or_skip(compiled, "float64") if compiled is True else get_backend(given, compiled=compiled)
    assert made == given
    assert get_backend(given, compiled=compiled).ops.setting == compiled
    assert given.ops.setting is False
    assert get_backend(made, ops="portable").ops.name == "portable"


def test_a_pickle_from_before_the_backend_was_a_package():
    pickled = b"cxpnn.backend\n_again\n(Vnumpy\nVfloat64\nVportable\nI00\ntR."
    backend = pickle.loads(pickled)
    assert backend == get_backend("numpy", "float64")
    assert backend.ops.name == "portable"


def test_a_pickle_asks_the_environment_anew(monkeypatch):
    pickled = {compiled: pickle.dumps(get_backend("numpy", compiled=compiled)) for compiled in ("auto", False)}
    monkeypatch.setenv("XPNN_COMPILED", "0")
    assert pickle.loads(pickled["auto"]).ops.setting is False
    monkeypatch.setenv("XPNN_COMPILED", "auto")
    assert pickle.loads(pickled[False]).ops.setting is False


@pytest.mark.parametrize("value", ["yes", 2, 0, 1, None.__class__, "True"])
def test_compiled_is_one_of_three(value):
    with pytest.raises(OptionError, match=r"^get_backend: expected compiled to be 'auto', True or False, got "):
        get_backend("numpy", compiled=value)


@pytest.mark.parametrize(
    ("spec", "options", "got"),
    [("numpy", {"ops": "portable"}, "numpy and portable"), ("strict", {}, "strict and fast")],
)
def test_what_has_no_compiled_loops_says_so(spec, options, got):
    message = f"compiled=True takes loops compiled for NumPy: expected numpy and fast operations, got {got} ones"
    with pytest.raises(OptionError, match=message):
        get_backend(spec, compiled=True, **options)
    with pytest.raises(OptionError, match=message.replace("strict and fast", "strict and portable")):
        get_backend(get_backend(spec, **options), compiled=True)
    for other in (False, "auto"):
        assert get_backend(spec, compiled=other, **options).name == spec


# -- importing -------------------------------------------------------------------------------------------------
def test_importing_xpnn_imports_nothing_heavy_and_writes_nothing(tmp_path):
    heavy = [
        "cupy",
        "torch",
        "jax",
        "sklearn",
        "scipy",
        "pandas",
        "matplotlib",
        "pooch",
        "tqdm",
        "tabulate",
        "safetensors",
        "array_api_strict",
    ]
    code = f"import sys, xpnn, xpnn.data, xpnn.plots; print([m for m in {heavy} if m in sys.modules])"
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join([str(Path(xpnn.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    environment.pop("COVERAGE_PROCESS_START", None)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []
