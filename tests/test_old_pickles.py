"""Names by which older pickles know what has moved since."""

from __future__ import annotations

import importlib
import pickle

import pytest

MOVED = {
    "xpnn.data.tabular": ("TableEncoder", "ClassTarget", "NumberTarget", "InferredTask", "_Number", "_Category"),
    "xpnn.data.encoder": ("_Number", "_Category"),
    "xpnn.estimators._optimizers": ("SklearnAdam", "SklearnSGD"),
}
#: Those that have another name now.
RENAMED = {"_Number": "NumberColumn", "_Category": "CategoryColumn"}


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in MOVED.items() for name in names])
def test_moved_classes_are_found_under_their_old_names(module, name):
    if module.startswith("xpnn.estimators"):
        pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'xpnn[sklearn]'")
    found = pickle.loads(f"c{module}\n{name}\n.".encode())
    assert found.__name__ == RENAMED.get(name, name)
    assert found.__module__ != module


@pytest.mark.parametrize("module", MOVED)
def test_other_names_are_as_unknown_as_ever(module):
    if module.startswith("xpnn.estimators"):
        pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'xpnn[sklearn]'")
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'Nothing'"):
        importlib.import_module(module).Nothing  # noqa: B018
