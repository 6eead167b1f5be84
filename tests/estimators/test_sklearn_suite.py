"""scikit-learn's own tests of its perceptrons, run with our classes in their place.

The installed file is read, its import is exchanged, and its tests become this module's.  What does not pass has a
reason here, and stands with it in ``docs/scikit-learn.md``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

sklearn = pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'xpnn[sklearn]'")

EXCEPTIONS = {
    "test_gradient": "calls the private _loss_grad_lbfgs; xpnn.testing.check_gradients is the public way here",
}
_IMPORT = "from sklearn.neural_network import MLPClassifier, MLPRegressor"
_FILE = Path(sklearn.__file__).parent / "neural_network" / "tests" / "test_mlp.py"

if not _FILE.exists():
    pytest.skip("this build of scikit-learn has no test files", allow_module_level=True)
_source = _FILE.read_text()
if _IMPORT not in _source:
    raise AssertionError("scikit-learn's test file no longer imports its classes the way it did")
exec(compile(_source.replace(_IMPORT, "from xpnn.estimators import MLPClassifier, MLPRegressor"), str(_FILE), "exec"))

for _name, _reason in EXCEPTIONS.items():
    globals()[_name] = pytest.mark.skip(reason=_reason)(globals()[_name])

# scikit-learn's suite does not turn warnings into errors, ours does.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def global_random_seed():
    """scikit-learn's fixture, with its default."""
    return 42
