"""NVIDIA's compilers of kernels, which need no GPU: found, and called as CuPy calls them."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

FLUSH = "-ftz=true"  # CuPy adds it to the options of every kernel
ARCHITECTURES = ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"]


def find_nvrtc():
    """The NVRTC library of the nvidia-cuda-nvrtc wheel, of a toolkit, or of the system."""
    folders = []
    spec = importlib.util.find_spec("nvidia")
    for root in spec.submodule_search_locations or () if spec else ():
        folders += [*Path(root).glob("cu*/lib"), Path(root, "cuda_nvrtc", "lib")]
    for root in (os.environ.get("CUDA_PATH"), os.environ.get("CUDA_HOME"), "/usr/local/cuda"):
        folders += [Path(root, "lib64")] if root else []
    found = [path for folder in folders for path in sorted(folder.glob("libnvrtc.so*"))]
    for name in [*map(str, found), "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"]:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    pytest.skip("needs NVRTC: pip install 'xpnn[cuda-compile]', or a CUDA toolkit")


def nvrtc_compile(library, source, *options, result="CUBIN"):
    """Compile with NVRTC; return its status, its log and the machine code, or assembly (PTX)."""
    program = ctypes.c_void_p()
    assert library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None) == 0
    try:
        given = [option.encode() for option in options]
        status = library.nvrtcCompileProgram(program, len(given), (ctypes.c_char_p * len(given))(*given))

        def read(what):
            size = ctypes.c_size_t()
            assert getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)) == 0
            text = ctypes.create_string_buffer(size.value)
            assert getattr(library, f"nvrtcGet{what}")(program, text) == 0
            return text.raw

        return status, read("ProgramLog").rstrip(b"\0").decode().strip(), b"" if status else read(result)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def nvcc_resources(source, architecture, folder, options):
    """What nvcc says of each kernel: its name, bytes of stack, of spilled stores and loads, and registers."""
    nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if nvcc is None:
        pytest.skip("needs nvcc, of a CUDA toolkit: NVRTC tells nothing of registers")
    path = Path(folder, "kernels.cu")
    path.write_text(source, encoding="utf-8")
    command = [nvcc, f"-arch={architecture}", *options, FLUSH, "-Xptxas", "-v", "-cubin", "-o", str(path) + ".out"]
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=True)
    return re.findall(
        r"entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
        r".*?Used (\d+) registers",
        done.stderr,
        flags=re.DOTALL,
    )
