"""Where the other library is not installed, whoever asks for it is told how to get it; nobody else notices."""

from __future__ import annotations

import subprocess
import sys

import pytest

import xpnn
from xpnn.errors import MissingPackageError

WAYS = {
    "to_torch": ("torch", "needs PyTorch. Run: pip install torch", lambda: xpnn.mlp([2, 1]).to_torch()),
    "from_torch": ("torch", "needs PyTorch. Run: pip install torch", lambda: xpnn.from_torch(None)),
    "to_keras": ("keras", "needs Keras. Run: pip install keras", lambda: xpnn.mlp([2, 1]).to_keras()),
    "from_keras": ("keras", "needs Keras. Run: pip install keras", lambda: xpnn.from_keras(None)),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_missing_library_is_named_with_its_command(name, monkeypatch):
    package, message, call = WAYS[name]
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=f"{name}: {message}"):
        call()


def test_importing_xpnn_imports_none_of_them():
    code = "import sys, xpnn; print(sorted({'jax', 'keras', 'onnx', 'sklearn', 'torch'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "[]\n"
