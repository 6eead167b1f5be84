"""Arrays from npz and npy files, and from the devices of every library to the host."""

from __future__ import annotations

import zipfile

import array_api_strict as strict
import numpy as np
import pytest

from xpnn.backend import to_numpy
from xpnn.data.arrays import load_arrays, open_memmap, take_rows
from xpnn.errors import DataError, FileFormatError, ShapeError

try:
    import torch
except ImportError:
    torch = None
needs_torch = pytest.mark.skipif(torch is None, reason="needs torch: pip install torch")

X, Y = np.arange(12.0).reshape(4, 3), np.array([0, 1, 1, 0])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_round_trip(tmp_path, save):
    save(tmp_path / "a.npz", X=X, y=Y, other=np.ones(2))
    x, y = load_arrays(tmp_path / "a.npz")
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    x, y = load_arrays(tmp_path / "a.npz", x_key="other", y_key=None)
    np.testing.assert_array_equal(x, np.ones(2))
    assert y is None


def test_text_labels_are_fine(tmp_path):
    np.savez(tmp_path / "a.npz", X=X, y=np.array(["a", "b", "a", "b"]))
    assert load_arrays(tmp_path / "a.npz")[1].tolist() == ["a", "b", "a", "b"]


def test_npz_missing_keys(tmp_path):
    np.savez(tmp_path / "a.npz", X=X, labels=Y)
    with pytest.raises(DataError, match=r"expected arrays X and y in .*a\.npz, got X, labels\. Pass x_key"):
        load_arrays(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "empty.npz", "w"):
        pass
    with pytest.raises(DataError, match=r"got none\. Pass x_key"):
        load_arrays(tmp_path / "empty.npz")


def test_npz_of_different_lengths(tmp_path):
    np.savez(tmp_path / "a.npz", X=X, y=Y[:3])
    words = r"load_arrays: expected X and y with equally many rows, got shapes \(4, 3\) and \(3,\)"
    with pytest.raises(ShapeError, match=words):
        load_arrays(tmp_path / "a.npz")


def test_npz_with_python_objects_is_refused_unread(tmp_path):
    np.savez(tmp_path / "a.npz", X=X, y=np.array([{}, 1, 2, 3], dtype=object))
    with pytest.raises(FileFormatError, match=r"arrays that cannot be read .*If it holds Python objects"):
        load_arrays(tmp_path / "a.npz")


def test_npz_truncated_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", X=X, y=Y)
    content = (tmp_path / "a.npz").read_bytes()
    for kept in (0, 10, len(content) // 2, len(content) - 30):
        (tmp_path / "cut.npz").write_bytes(content[:kept])
        with pytest.raises(FileFormatError, match=f"expected a whole .npz file, got {kept} bytes of .*no zip"):
            load_arrays(tmp_path / "cut.npz")


def test_npz_with_changed_bytes_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", X=X, y=Y)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[content.index(X[2].tobytes())] ^= 255
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"cannot be read .*CRC.*else the file is damaged"):
        load_arrays(tmp_path / "a.npz")


def test_a_zip_of_other_things_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("X", "text")
        archive.writestr("y", "text")
    with pytest.raises(FileFormatError, match=r"load_arrays: expected arrays in .*, got members of another kind"):
        load_arrays(tmp_path / "a.npz")


def zipped(path, name, content, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(name, content)


def header(text):
    return b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 9)}"),
            "says 7199999999928 bytes, there are",
        ),
        (header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}") + bytes(16), "says 8 bytes, there are 16"),
        (header(b"{'descr': '<U0', 'fortran_order': False, 'shape': (10000000000,)}"), "has no bytes"),
        (header(b"{'descr': '|V0', 'fortran_order': False, 'shape': (10000000000,)}"), "has no bytes"),
        (header(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}") + b"cos\nsystem\n.", "Object arrays cannot"),
        (header(b"(" * 9_000), "arrays that cannot be read"),
        (header(b"{'descr': [('a', " * 900), "arrays that cannot be read"),
        (header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}"), "arrays that cannot be read"),
        (header(b"{'descr': '<f8', 'fortran_order': False, 'shape': ('a',)}"), "arrays that cannot be read"),
        (b"\x93NUMPY\x09\x09", "arrays that cannot be read"),
        (b"\x93NUM", "members of another kind"),
    ],
)
def test_headers_of_arrays_are_compared_with_what_is_there(tmp_path, content, message):
    zipped(tmp_path / "a.npz", "X.npy", content)
    with pytest.raises(FileFormatError, match=message):
        load_arrays(tmp_path / "a.npz", y_key=None)
    (tmp_path / "a.npy").write_bytes(content)
    if b"'shape': (1,)}" not in content or b"|O" in content:  # more than is needed can be mapped
        with pytest.raises(FileFormatError, match=r"expected a whole \.npy file of numbers"):
            open_memmap(tmp_path / "a.npy", tmp_path / "a.npy")


def test_an_archive_cannot_hold_more_than_its_method_makes(tmp_path):
    whole = header(b"{'descr': '|u1', 'fortran_order': False, 'shape': (3000000,)}") + bytes(3_000_000)
    zipped(tmp_path / "a.npz", "X.npy", whole, zipfile.ZIP_BZIP2)
    with pytest.raises(FileFormatError, match=r"bytes of the archive cannot hold X of \d+"):
        load_arrays(tmp_path / "a.npz", y_key=None)
    zipped(tmp_path / "a.npz", "X.npy", whole)
    assert load_arrays(tmp_path / "a.npz", y_key=None)[0].shape == (3_000_000,)


def test_npy_is_pointed_to_open_memmap(tmp_path):
    np.save(tmp_path / "a.npy", X)
    with pytest.raises(FileFormatError, match=r"for \.npy files use open_memmap"):
        load_arrays(tmp_path / "a.npy")
    with pytest.raises(DataError, match=r"load_arrays: expected the file .*Did you mean a\.npy"):
        load_arrays(tmp_path / "a.npz")


@pytest.fixture
def pair(tmp_path):
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", Y)
    return tmp_path / "X.npy", tmp_path / "y.npy"


def test_memmaps_are_lazy_and_read_only(pair):
    x, y = open_memmap(*pair)
    assert isinstance(x, np.memmap)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    with pytest.raises(ValueError, match=r"read-only"):
        x[0, 0] = 1.0


def test_memmaps_refuse(pair, tmp_path):
    x_path, y_path = pair
    np.save(tmp_path / "short.npy", Y[:2])
    with pytest.raises(ShapeError, match=r"open_memmap: expected X and y with equally many rows.*\(2,\)"):
        open_memmap(x_path, tmp_path / "short.npy")
    np.save(tmp_path / "objects.npy", np.array([None] * 4, dtype=object))
    with pytest.raises(FileFormatError, match=r"cannot be mapped .*objects.*Write it with numpy\.save"):
        open_memmap(x_path, tmp_path / "objects.npy")
    size = x_path.stat().st_size
    x_path.write_bytes(x_path.read_bytes()[:-8])
    with pytest.raises(FileFormatError, match=f"expected a whole .npy file of numbers, got {size - 8} bytes"):
        open_memmap(x_path, y_path)
    x_path.write_bytes(b"")
    with pytest.raises(FileFormatError, match=r"got 0 bytes"):
        open_memmap(x_path, y_path)
    with pytest.raises(DataError, match=r"open_memmap: expected the file"):
        open_memmap(tmp_path / "none.npy", y_path)


@pytest.mark.parametrize(
    "a",
    [
        X,
        X.tolist(),
        pytest.param(torch and torch.asarray(X, requires_grad=True), marks=needs_torch),
        strict.asarray(X),
        strict.asarray(X, device=strict.Device("device1")),
    ],
    ids=["numpy", "list", "torch", "strict", "strict-device1"],
)
def test_to_numpy(a):
    host = to_numpy(a)
    assert type(host) is np.ndarray
    np.testing.assert_array_equal(host, X)


def test_take_rows_of_whatever_holds_rows():
    index = np.asarray([2, 0])
    for rows in (X, strict.asarray(X), *([] if torch is None else [torch.asarray(X)])):
        taken = take_rows(rows, index)
        assert type(taken) is type(rows)
        np.testing.assert_array_equal(to_numpy(taken), X[index])
    scipy_sparse = pytest.importorskip("scipy.sparse")
    np.testing.assert_array_equal(take_rows(scipy_sparse.csr_matrix(X), index).toarray(), X[index])
    table = {"a": X[:, 0], "b": list("xyzw"[: len(X)])}
    taken = take_rows(table, index)
    np.testing.assert_array_equal(taken["a"], X[index, 0])
    assert taken["b"].tolist() == ["z", "x"]
