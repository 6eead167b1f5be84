"""Estimators with scikit-learn's interface: change one import line, keep the rest.

Needs scikit-learn: ``pip install 'xpnn[sklearn]'``.
"""

from ..optional import needs

with needs("sklearn", "xpnn.estimators"):
    import sklearn  # noqa: F401, before SciPy, which comes with it and would be named instead

    from ._classifier import MLPClassifier, OneHotWarning
    from ._convert import from_sklearn, to_sklearn
    from ._perceptron import Perceptron
    from ._regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "OneHotWarning", "Perceptron", "from_sklearn", "to_sklearn"]
