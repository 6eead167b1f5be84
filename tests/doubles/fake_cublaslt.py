"""cuBLASLt in Python, called through C, for tests: it reads the descriptors that it is given, as the real one would.

It is strict: attributes have one size each, what describes a product must be what the algorithm was found for, and
addresses must be aligned as they were said to be.
"""

from __future__ import annotations

import ctypes
import struct

import numpy as np
import pytest
from fake_cupy import by_columns, noting

from xpnn.accel.cuda import gemm_lt

HANDLE = 0xB1A5
#: Attributes by number: name, and how the bytes are read.
OPERATION = {
    3: ("op_a", "i"),
    4: ("op_b", "i"),
    7: ("epilogue", "I"),
    8: ("bias", "P"),
    11: ("aux", "P"),
    12: ("aux_ld", "q"),
}
PREFERENCE = {1: ("workspace", "Q"), 3: ("reductions", "I"), 5: ("a", "I"), 6: ("b", "I"), 7: ("c", "I"), 8: ("d", "I")}
TYPES = {0: np.float32, 2: np.float16, 14: "bfloat16"}


class CublasLt:
    """The functions, as attributes of a `fake_cupy.Cublas`, whose workspaces and handle they share.

    Attributes
    ----------
    queries, products : list of dict
        What the heuristic and each product were given.
    offered : set of int
        The epilogues for which there is an algorithm.
    keeps_nan : bool
        Whether the ReLU keeps what is no number.
    needs : int
        Bytes of workspace that an algorithm wants.
    unknown : set of int
        Attributes that an old library does not know.
    refuses : int
        What each product returns, 0 for success.
    """

    def __init__(self, blas):
        self.queries, self.products, self.calls = [], [], []
        self.offered, self.keeps_nan, self.needs, self.refuses = {4, 6, 256}, True, 1 << 20, 0
        self.unknown = set()
        self._made = {}
        self._algorithms = {}
        for name, arguments in gemm_lt.FUNCTIONS.items():
            method = getattr(self, f"_{name.removeprefix('cublasLt').lower()}")
            setattr(blas, name, ctypes.CFUNCTYPE(ctypes.c_int, *arguments)(noting(self.calls, blas, name, method)))
        blas.lt = self

    @staticmethod
    def row_sum(a):
        return a.sum(axis=1)

    def _make(self, place, **product):
        number = 0x1000 + 64 * len(self._made)
        self._made[number] = product
        ctypes.cast(place, ctypes.POINTER(ctypes.c_void_p))[0] = number
        return 0

    def _set(self, known, which, attribute, place, size):
        if attribute not in known or attribute in self.unknown or struct.calcsize(known[attribute][1]) != size:
            return 7
        name, letter = known[attribute]
        (self._made[which][name],) = struct.unpack(letter, ctypes.string_at(place, size))
        return 0

    def _matmuldesccreate(self, place, compute, scale):
        return self._make(
            place, compute=compute, scale=scale, op_a=0, op_b=0, epilogue=1, bias=None, aux=None, aux_ld=0
        )

    def _matmuldescsetattribute(self, which, attribute, place, size):
        return self._set(OPERATION, which, attribute, place, size)

    def _matrixlayoutcreate(self, place, kind, rows, cols, ld):
        return self._make(place, kind=kind, rows=rows, cols=cols, ld=ld)

    def _matmulpreferencecreate(self, place):
        return self._make(place, workspace=0, reductions=7, a=256, b=256, c=256, d=256)

    def _matmulpreferencesetattribute(self, which, attribute, place, size):
        return self._set(PREFERENCE, which, attribute, place, size)

    def _product(self, operation, a, b, c, d):
        """A product but for addresses, or None where the descriptors contradict each other."""
        operation, a, b, c, d = (dict(self._made[number]) for number in (operation, a, b, c, d))
        operation.pop("bias")
        operation.pop("aux")
        shapes = [(x["rows"], x["cols"]) for x in (a, b)]
        (m, k), (inner, n) = (s[::-1] if operation[op] else s for s, op in zip(shapes, ("op_a", "op_b"), strict=True))
        good = c == d and k == inner and (m, n) == (d["rows"], d["cols"])
        good &= all(x["ld"] >= x["rows"] >= 1 for x in (a, b, d)) and a["kind"] == b["kind"] and operation["scale"] == 0
        good &= d["kind"] == 0 and (operation["compute"] == 68 or (operation["compute"] == 77 and a["kind"] == 0))
        return {**operation, "m": m, "n": n, "k": k, "a": a, "b": b, "d": d} if good else None

    def _matmulalgogetheuristic(self, handle, operation, a, b, c, d, preference, wanted, results, count):
        product, limits = self._product(operation, a, b, c, d), self._made[preference]
        pointer = self._made[operation]["bias"]
        if handle != HANDLE or product is None or wanted != 1 or not pointer:
            return 7
        self.queries.append(product | {"limits": dict(limits)})
        fits = product["epilogue"] in self.offered and self.needs <= limits["workspace"]
        ctypes.cast(count, ctypes.POINTER(ctypes.c_int))[0] = int(fits)
        if not fits:
            return 15
        aligned = {name: limits[name] for name in "abcd"} | {"bias": pointer & -pointer}
        number = 77 + len(self._algorithms)
        self._algorithms[number] = product, aligned
        ctypes.memmove(results, struct.pack("=8QQif4i", number, *[0] * 7, self.needs, 0, 1.0, 0, 0, 0, 0), 96)
        return 0

    def _matmul(self, handle, operation, alpha, a, of_a, b, of_b, beta, c, of_c, d, of_d, algorithm, workspace, size,
                stream):  # fmt: skip
        product, bias = self._product(operation, of_a, of_b, of_c, of_d), self._made[operation]["bias"]
        (number,) = struct.unpack("Q", ctypes.string_at(algorithm, 8))
        found, aligned = self._algorithms[number]
        places = {"a": a, "b": b, "c": c, "d": d, "bias": bias}
        if handle != HANDLE or product != found or c != d or not workspace or size < self.needs:
            return 7
        if any(places[name] % step for name, step in aligned.items()):
            return 13  # as from a kernel that loads what lies across
        self.products.append(product | {"workspace": workspace, "stream": stream or 0})
        if self.refuses:
            return self.refuses
        one, zero = (ctypes.c_float.from_address(p).value for p in (alpha, beta))
        assert (one, zero) == (1.0, 0.0)
        A, B, D = (
            by_columns(p, TYPES[x["kind"]], 1, (x["rows"], x["cols"]), x["ld"], 0)[0]
            for p, x in ((a, product["a"]), (b, product["b"]), (d, product["d"]))
        )
        A, B = (A.T if product["op_a"] else A).astype(np.float32), (B.T if product["op_b"] else B).astype(np.float32)
        y = A @ B
        row = np.frombuffer((ctypes.c_char * (4 * product["m"])).from_address(bias), np.float32)
        if product["epilogue"] & 128:
            mask = self._mask(self._made[operation]["aux"], product["aux_ld"], product["n"])
        if product["epilogue"] == 256:
            row[:] = self.row_sum(A)
        elif product["epilogue"] == 152:
            y *= np.unpackbits(mask, axis=1, bitorder="little")[:, : product["m"]].T
            row[:] = self.row_sum(y)
        else:
            y += row[:, None]
            if product["epilogue"] == 134:
                bits = np.zeros((product["n"], product["aux_ld"]), np.uint8)
                bits[:, : product["m"]] = (y > 0).T
                mask[...] = np.packbits(bits, axis=1, bitorder="little")
            if product["epilogue"] in (6, 134):
                y = np.maximum(y, 0.0) if self.keeps_nan else np.fmax(y, 0.0)
        D[...] = y
        return 0

    @staticmethod
    def _mask(pointer, ld, n):
        """The bits of a mask, one row for each column of the result."""
        assert ld % 128 == 0
        assert pointer % 16 == 0
        return np.frombuffer((ctypes.c_char * (ld // 8 * n)).from_address(pointer), np.uint8).reshape(n, ld // 8)


@pytest.fixture(name="lt")
def fixture_lt(cupy):
    """A cuBLASLt beside the cuBLAS of the module in CuPy's place."""
    made = CublasLt(cupy.blas)
    yield made
    assert not hasattr(cupy.blas, "error")
