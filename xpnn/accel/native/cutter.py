"""What `cutting.py` is compiled to, kept as machine code, so that a process that reads a file need not load numba.

To load numba and what it compiled takes half a second, in which a hundred megabytes are read.  So the first process
that reads a large file has numba compile, and writes the object code to a file; the next ones hand it to llvmlite's
linker, which takes some hundredths of a second.  The file's name tells what it was made from: source, versions and
processor; its first bytes are the hash of what follows.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import logging
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..._typing import Array
from ...errors import XpnnError
from ...files import atomic_path
from .support import compiled_by_environment, is_tested_numba, numba_objection

__all__ = ["EXACT", "FIVES", "TENS", "Cutter", "address", "cutter_for", "load_cutter"]

#: Bytes of a file from which it pays to load compiled code, and to compile it for the first time.
LOAD_FROM, COMPILE_FROM = 8 << 20, 64 << 20

#: What numbers are multiplied with: whole powers of ten, those that float64 holds exactly, and of 5 to the powers 0,
#: -1, ..., scaled and rounded up, 128 bits: their upper and their lower half.
TENS = np.array([10**k for k in range(20)], np.uint64)
EXACT = 10.0 ** np.arange(23)
_FIVES = [(1 << 127) if k == 0 else (1 << ((5**k - 1).bit_length() + 127)) // 5**k + 1 for k in range(23)]
FIVES = np.array([half for five in _FIVES for half in (five >> 64, five & (2**64 - 1))], np.uint64)

_LOG = logging.getLogger("xpnn")
_HASH = hashlib.sha256().digest_size
# Of each function the types of its arguments: a number, or where numbers of a dtype lie.
_NUMBER = "int64"
_BYTES, _WORDS, _PLACES, _FLOATS = "uint8*", "uint64*", "int64*", "float64*"
_ARGUMENTS = {
    "last_end": (_BYTES, _NUMBER, _NUMBER),
    "cut": (_BYTES, *[_NUMBER] * 5, _PLACES, _FLOATS, _BYTES, _WORDS, *[_PLACES] * 6, _WORDS, _FLOATS, _WORDS),
    "gather_words": (_BYTES, _PLACES, _PLACES, _PLACES, _NUMBER, _BYTES, _NUMBER),
    "number_words": (_BYTES, _PLACES, _PLACES, _NUMBER, _PLACES, _PLACES, _WORDS, _PLACES, _NUMBER),
}


class Cutter(NamedTuple):
    """Functions of `cutting.py`, which let go of Python's lock; arrays are given by their addresses."""

    last_end: Any
    cut: Any
    number_words: Any
    gather_words: Any
    engine: Any  # that owns their code


def address(array: Array) -> int:
    """Return where an array begins."""
    found: int = array.ctypes.data
    return found


def cutter_for(size: int) -> Cutter | None:
    """Return compiled functions if it pays to load them for a file of so many bytes, and they can be had."""
    wanted = compiled_by_environment()
    if wanted is False or (wanted == "auto" and size < LOAD_FROM):
        return None
    return load_cutter(compiling=wanted is True or size >= COMPILE_FROM)


@functools.cache
def load_cutter(*, compiling: bool) -> Cutter | None:
    """Return compiled functions, or None where there are none: from their file, or else by `compiling` them."""
    try:
        if not _is_supported():
            return None
        found = _kept() or (_compiled() if compiling else None)
        return None if found is None else _linked(found)
    except Exception as error:  # whatever is wrong with a compiler must not keep a file from being read
        _LOG.info("files are read without compiled code: %s", " ".join(str(error).split())[:200])
        return None


def _is_supported() -> bool:
    """Whether numba is there, in a version that compiles what was tested, on a machine that the code knows."""
    if importlib.util.find_spec("numba") is None or sys.byteorder != "little" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    return is_tested_numba(importlib.metadata.version("numba"))


# -- the file -----------------------------------------------------------------------------------------------------
@functools.cache
def _name() -> str:
    """Return the name of the file of object code for this source, these versions and this processor."""
    binding = importlib.import_module("llvmlite.binding")
    folder = Path(__file__).parent
    parts = [(folder / name).read_bytes() for name in ("bits.py", "cutting.py", "cutter.py")]
    parts += [importlib.metadata.version(name).encode() for name in ("numba", "llvmlite", "numpy")]
    parts += [platform.platform().encode(), sys.version.encode()]
    parts += [binding.get_host_cpu_name().encode(), binding.get_host_cpu_features().flatten().encode()]
    return f"cutting.{hashlib.sha256(b'|'.join(parts)).hexdigest()[:16]}.object"


def _folders() -> Iterator[Path]:
    """Yield where code may be kept: where numba keeps its own."""
    if own := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(own)
    yield Path(__file__).parent / "__pycache__"


def _kept() -> bytes | None:
    """Return object code that an earlier process wrote, if it is whole."""
    for folder in _folders():
        with contextlib.suppress(OSError):
            content = (folder / _name()).read_bytes()
            if hashlib.sha256(content[_HASH:]).digest() == content[:_HASH]:
                return content[_HASH:]
    return None


def _keep(code: bytes) -> None:
    """Write object code for later processes, where that is allowed."""
    for folder in _folders():
        with contextlib.suppress(OSError, XpnnError):
            if os.access(folder if folder.is_dir() else folder.parent, os.W_OK):
                with atomic_path(folder / _name()) as file:
                    file.write_bytes(hashlib.sha256(code).digest() + code)
                return


# -- code ---------------------------------------------------------------------------------------------------------
def _compiled() -> bytes | None:
    """Have numba compile all functions; return their object code, which is kept, too."""
    if numba_objection() is not None:
        return None
    binding = importlib.import_module("llvmlite.binding")
    cutting, types = importlib.import_module(".cutting", __package__), importlib.import_module("numba").types
    whole = None
    for name, arguments in _ARGUMENTS.items():
        kinds = [
            types.CPointer(getattr(types, kind[:-1])) if kind.endswith("*") else getattr(types, kind)
            for kind in arguments
        ]
        function = getattr(cutting, name)
        function.compile(types.int64(*kinds))
        module = binding.parse_assembly(function.inspect_llvm(tuple(kinds)))
        inner = function.overloads[tuple(kinds)].fndesc.llvm_func_name
        module.link_in(binding.parse_assembly(_entry(name, inner, arguments)))
        for each in module.functions:
            if not each.is_declaration and each.name != f"xpnn_{name}":
                each.linkage = "internal"
        if whole is None:
            whole = module
        else:
            whole.link_in(module)
    machine = _machine(binding)
    builder = binding.create_pass_builder(machine, binding.PipelineTuningOptions(speed_level=3))
    builder.getModulePassManager().run(whole, builder)
    code: bytes = machine.emit_object(whole)
    _keep(code)
    return code


def _entry(name: str, inner: str, arguments: tuple[str, ...]) -> str:
    """Return a function that calls one of numba's as C does; it raises nothing."""
    ir = importlib.import_module("llvmlite.ir")
    kinds = {_NUMBER: ir.IntType(64), _BYTES: ir.IntType(8).as_pointer(), _FLOATS: ir.DoubleType().as_pointer()}
    kinds[_WORDS] = kinds[_PLACES] = ir.IntType(64).as_pointer()
    own, error = [kinds[kind] for kind in arguments], ir.IntType(8).as_pointer()
    module = ir.Module(name)
    target = ir.Function(
        module,
        ir.FunctionType(ir.IntType(32), [ir.IntType(64).as_pointer(), error.as_pointer(), *own]),
        name=inner,
    )
    entry = ir.Function(module, ir.FunctionType(ir.IntType(64), own), name=f"xpnn_{name}")
    builder = ir.IRBuilder(entry.append_basic_block())
    answer, why = builder.alloca(ir.IntType(64)), builder.alloca(error)
    builder.call(target, [answer, why, *entry.args])
    builder.ret(builder.load(answer))
    return str(module)


def _machine(binding: Any) -> Any:
    """Return the processor as the compiler knows it."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    target = binding.Target.from_default_triple()
    features = binding.get_host_cpu_features().flatten()
    return target.create_target_machine(
        cpu=binding.get_host_cpu_name(), features=features, opt=3, reloc="pic", codemodel="jitdefault"
    )


def _linked(code: bytes) -> Cutter:
    """Return the functions of object code."""
    binding = importlib.import_module("llvmlite.binding")
    machine = _machine(binding)
    engine = binding.create_mcjit_compiler(binding.parse_assembly(f'target triple = "{machine.triple}"'), machine)
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    found = {}
    for name, arguments in _ARGUMENTS.items():
        kinds = [ctypes.c_void_p if kind.endswith("*") else ctypes.c_int64 for kind in arguments]
        at = engine.get_function_address(f"xpnn_{name}")
        if not at:
            raise RuntimeError(f"there is no {name} in the compiled code")
        found[name] = ctypes.CFUNCTYPE(ctypes.c_int64, *kinds)(at)
    return Cutter(**found, engine=engine)
