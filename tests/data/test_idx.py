"""IDX files keep arrays to the bit, and damaged ones are refused with the numbers."""

from __future__ import annotations

import gzip
import os
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xpnn.data.idx import parse_idx, read_idx, write_idx
from xpnn.errors import DataError, DTypeError, FileFormatError
from xpnn.files import atomic_path, data_home, existing_file

TYPES = ["uint8", "int8", "int16", "int32", "float32", "float64"]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("suffix", ["", ".gz"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_round_trip_is_exact(tmp_path, dtype, suffix, data):
    shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
    array = data.draw(hnp.arrays(dtype, shapes))
    path = tmp_path / f"array{suffix}"
    write_idx(path, array)
    back = read_idx(path)
    assert back.dtype == np.dtype(dtype)
    assert back.dtype.isnative
    assert back.flags.writeable
    np.testing.assert_array_equal(back, array)


def test_the_bytes_are_those_of_the_format(tmp_path):
    write_idx(tmp_path / "a", np.array([[1, 2, 3], [4, 5, -6]], dtype=np.int16))
    expected = "00000b02 00000002 00000003 0001 0002 0003 0004 0005 fffa"
    assert (tmp_path / "a").read_bytes() == bytes.fromhex(expected)


def test_foreign_byte_order_and_slices_are_written_right(tmp_path):
    array = np.arange(24, dtype=">i4").reshape(4, 6)[::2, ::-1]
    write_idx(tmp_path / "a", array)
    np.testing.assert_array_equal(read_idx(tmp_path / "a"), array)


def test_equal_arrays_make_equal_gzip_files(tmp_path):
    for name in ("a.gz", "b.gz"):
        write_idx(tmp_path / name, np.arange(9, dtype=np.uint8))
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_gzip_is_told_by_content_not_by_name(tmp_path):
    write_idx(tmp_path / "a.gz", np.arange(9, dtype=np.uint8))
    (tmp_path / "a.gz").rename(tmp_path / "a")
    np.testing.assert_array_equal(read_idx(tmp_path / "a"), np.arange(9))


@pytest.mark.parametrize("dtype", ["bool", "int64", "uint16", "complex64", "U3"])
def test_other_types_are_refused(tmp_path, dtype):
    words = "write_idx: expected one of uint8, int8, int16, int32, float32, float64, got .*Convert with"
    with pytest.raises(DTypeError, match=words):
        write_idx(tmp_path / "a", np.zeros(3, dtype=dtype))
    assert list(tmp_path.iterdir()) == []


WHOLE = bytes.fromhex("00000802 00000002 00000003 010203040506")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "expected NAME to begin with bytes 00 00.*got no bytes. This is not an IDX file"),
        (b"\x00\x00", "expected NAME to begin with.*got 00 00. This"),
        (b"PNG....", "got 50 4e 47 2e. This is not an IDX file"),
        (b"\0\0\x0a\x01\0\0\0\0", r"a type \(one of 08 09 0b 0c 0d 0e\).*got 00 00 0a 01"),
        (WHOLE[:7], r"expected 12 bytes in NAME \(a header of 2 dimensions\), got 7. The file is truncated"),
        (WHOLE[:-1], r"expected 18 bytes in NAME \(uint8 of shape \(2, 3\)\), got 17. The file is truncated"),
        (
            WHOLE + b"\0",
            r"expected 18 bytes in NAME \(uint8 of shape \(2, 3\)\), got 19. The file is too long",
        ),
        (
            bytes.fromhex("00000e03" + "ffffffff" * 3),
            r"expected \d{30} bytes .* got 16. The file is truncated",
        ),
        (bytes([0, 0, 8, 70]) + bytes(4 * 70), "expected at most 64 dimensions in NAME, got a header of 70"),
    ],
)
def test_damaged_files_are_named_with_expected_and_got(tmp_path, content, words):
    path = tmp_path / "digits-idx"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=words.replace("NAME", re.escape(str(path)))):
        read_idx(path)


@given(st.builds(bytes.__add__, st.sampled_from([b"", b"\0\0\x08\1", b"\0\0\x08\2\0\0\0"]), st.binary(max_size=30)))
def test_any_bytes_are_an_array_or_a_clear_error(content):
    try:
        array = parse_idx(content, "noise")
    except FileFormatError:
        return
    assert len(content) == 4 + 4 * array.ndim + array.nbytes


@settings(deadline=None)
@given(st.integers(3, 60))
def test_a_truncated_gzip_is_refused(tmp_path_factory, kept):
    packed = gzip.compress(WHOLE + os.urandom(64))
    path = tmp_path_factory.mktemp("idx") / "cut.gz"
    path.write_bytes(packed[:kept])
    with pytest.raises(FileFormatError, match=f"expected a whole gzip file, got {kept} bytes of .*cut.gz"):
        read_idx(path)


def test_no_more_is_unpacked_than_the_header_promises(tmp_path, monkeypatch):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(WHOLE + bytes(64 << 20), compresslevel=9))
    unpacked = []
    read = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, n=-1: (unpacked.append(n), read(self, n))[1])
    with pytest.raises(
        FileFormatError, match=r"expected 18 bytes in .+bomb\.gz \(uint8 of shape \(2, 3\)\), got \d+\. The"
    ):
        read_idx(path)
    assert sum(unpacked) < 1 << 20
    assert min(unpacked) > 0


def test_a_header_that_promises_more_than_there_is_takes_no_memory(tmp_path):
    tracemalloc = pytest.importorskip("tracemalloc")
    for name, content in (
        ("a", WHOLE[:4] + b"\xff" * 8 + WHOLE),
        ("a.gz", gzip.compress(WHOLE[:4] + b"\xff" * 8 + WHOLE)),
    ):
        (tmp_path / name).write_bytes(content)
        tracemalloc.start()
        try:
            with pytest.raises(FileFormatError, match=r"expected \d{20} bytes"):
                read_idx(tmp_path / name)
            assert tracemalloc.get_traced_memory()[1] < 4 << 20
        finally:
            tracemalloc.stop()


def test_a_missing_file_suggests_its_neighbour(tmp_path):
    (tmp_path / "train-labels-idx1-ubyte").touch()
    with pytest.raises(DataError, match=r"but it is not there. Did you mean train-labels-idx1-ubyte?"):
        read_idx(tmp_path / "train-label-idx1-ubyte")
    with pytest.raises(DataError, match=r"but it is not there. Check the name"):
        read_idx(tmp_path / "zzz")
    with pytest.raises(DataError, match=r"but the folder .*nowhere is not there"):
        read_idx(tmp_path / "nowhere" / "a")
    with pytest.raises(DataError, match=r"read_idx: expected a file, got the folder"):
        read_idx(tmp_path)


def test_existing_file_expands_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "a.csv").touch()
    assert existing_file("~/a.csv", "test") == tmp_path / "a.csv"


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def refuse(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(DataError, match=r"writing .*: .* got: disk full\.") as caught, atomic_path(path) as temporary:
        temporary.write_bytes(b"new")
    assert isinstance(caught.value.__cause__, OSError)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_data_home_is_the_environment_variable_else_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XPNN_DATA", str(tmp_path))
    assert data_home() == tmp_path
    monkeypatch.delenv("XPNN_DATA")
    assert data_home().name == "xpnn"
