"""Headers of C compiled and run, to compare what they answer with what the model does."""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import OptionError
from ..files import atomic_path
from .c_header import CHeader
from .c_nodes import TYPES
from .graph import Graph

__all__ = ["Program", "compiler"]

HostArray = npt.NDArray[Any]
_TEXT = """
static char *text(void)
{
    int32_t length;
    char *held;
    if (fread(&length, sizeof length, 1, stdin) != 1 || (held = malloc((size_t)length + 1)) == NULL)
        exit(3);
    if (fread(held, 1, (size_t)length, stdin) != (size_t)length)
        exit(3);
    held[length] = '\\0';
    return held;
}
"""
_NUMBER = """
static void number(void *to, size_t size)
{
    if (fread(to, size, 1, stdin) != 1)
        exit(3);
}
"""


def compiler() -> list[str]:
    """Return the command of a C compiler, empty where there is none; the environment variable ``CC`` names another."""
    given = shlex.split(os.environ.get("CC", ""))
    commands = [given] if given else [["cc"], ["gcc"], ["clang"]]
    return next((command for command in commands if shutil.which(command[0])), [])


class Program:
    """Headers compiled into one program, which reads rows and writes answers; a context in which it exists.

    Parameters
    ----------
    headers : sequence of CHeader
        Of different names.
    flags : sequence of str, default=("-O1",)
        For the compiler, beside ``-std=c99``.

    Raises
    ------
    OptionError
        If there is no compiler, or it refuses them.
    """

    def __init__(self, headers: Sequence[CHeader], flags: Sequence[str] = ("-O1",)) -> None:
        self.headers, self.flags = list(headers), tuple(flags)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Program:
        cc = compiler()
        if not cc:
            raise OptionError(
                "to_c: expected a C compiler to check the file with, got none (cc, gcc, clang). Install one, set CC, "
                "or pass check=False (--no-check)."
            )
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="xpnn-c-")))
        self._file = folder / "predict"
        texts = {f"{header.prefix}.h": header.text for header in self.headers} | {"main.c": self.source()}
        for name, text in texts.items():
            with atomic_path(folder / name) as temporary:
                temporary.write_text(text, encoding="ascii")
        command = [*cc, "-std=c99", *self.flags, "main.c", "-o", self._file.name, "-lm"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            self._stack.close()
            raise OptionError(f"to_c: expected {cc[0]} to take the file, got: {done.stderr.strip()[:2000]}")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def source(self) -> str:
        """Return the program's text."""
        parts = [f'#include "{header.prefix}.h"' for header in self.headers]
        kinds = {each.kind for header in self.headers for each in header.graph.inputs}
        parts += ["#include <stdio.h>\n#include <stdlib.h>", _TEXT if "text" in kinds else ""]
        parts += [_NUMBER if kinds - {"text"} else "", *map(_reader, self.headers)]
        parts += ["int main(int count, char **given)\n{"]
        parts += ["    const int model = count > 1 ? atoi(given[1]) : 0, rows = count > 2 ? atoi(given[2]) : 0;"]
        parts += [f"    if (model == {k})\n        read_{h.prefix}(rows);" for k, h in enumerate(self.headers)]
        return "\n".join([*parts, "    return 0;\n}\n"])

    def run(self, model: int, columns: Mapping[str, npt.ArrayLike]) -> dict[str, HostArray]:
        """Return what a header answers for the inputs of its graph."""
        header = self.headers[model]
        given, n = _rows(header.graph, columns)
        command = [str(self._file), str(model), str(n)]
        done = subprocess.run(command, input=given, capture_output=True, check=False)
        if done.returncode:
            raise OptionError(f"to_c: expected answers, got code {done.returncode}: {done.stderr.decode()[:2000]}")
        record = np.dtype([("code", np.int32), ("out", np.float32, (header.n_outputs,))])
        return _answers(header, np.frombuffer(done.stdout, dtype=record))


def _reader(header: CHeader) -> str:
    """Return the function that reads rows and writes answers of one model."""
    name, lines = header.prefix, []
    if header.features:
        given = f"{TYPES[header.graph.inputs[0].dtype]} x[{math.prod(header.graph.inputs[0].shape)}]"
        lines += ["number(x, sizeof x);"]
    else:
        given = f"{name}_row row"
        for each in header.graph.inputs:
            to = f"row.{header.members[each.value]}"
            lines.append(f"{to} = text();" if each.kind == "text" else f"number(&{to}, sizeof {to});")
    call = f"{name}_predict({'x' if header.features else '&row'}, out);"
    lines.append(f"code = {call}" if header.label is not None else call)
    lines += [f"free((void *)row.{header.members[e.value]});" for e in header.graph.inputs if e.kind == "text"]
    lines += ["fwrite(&code, sizeof code, 1, stdout);", "fwrite(out, sizeof out, 1, stdout);"]
    head = [f"{given};", f"float out[{header.n_outputs}];", "int32_t code = 0;"]
    head += ["for (int r = 0; r < rows; r++) {", *(f"    {line}" for line in lines), "}"]
    return "\n".join([f"static void read_{name}(int rows)", "{", *(f"    {line}" for line in head), "}", ""])


def _rows(graph: Graph, columns: Mapping[str, npt.ArrayLike]) -> tuple[bytes, int]:
    """Return rows one behind the other, and how many they are."""
    arrays = [np.asarray(columns[e.name], dtype=object if e.dtype == "text" else e.dtype) for e in graph.inputs]
    n = len(arrays[0])
    parts: list[list[bytes]] = []
    for array in arrays:
        if array.dtype == object:
            encoded = [str(cell).encode("utf-8", "replace") for cell in array.ravel().tolist()]
            parts.append([np.int32(len(text)).tobytes() + text for text in encoded])
        else:
            parts.append([row.tobytes() for row in np.ascontiguousarray(array.reshape(n, -1))])
    return b"".join(cell for row in zip(*parts, strict=True) for cell in row), n


def _answers(header: CHeader, records: HostArray) -> dict[str, HostArray]:
    """Return answers by the names of the graph's outputs."""
    told: dict[str, HostArray] = {}
    for name, start, size in header.places:
        shape = header.graph.values[header.graph.outputs[name]].shape
        told[name] = records["out"][:, start : start + size].reshape(len(records), *shape)
    if header.label is not None:
        told["label"] = np.asarray(header.classes, dtype=object)[records["code"]]
    return told
