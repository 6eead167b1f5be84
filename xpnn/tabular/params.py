"""The parameters of an estimator as scikit-learn wants them, without needing scikit-learn."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from ..arguments import suggest
from ..errors import DataError, OptionError
from .recipe import Recipe

__all__ = ["AUTO", "RECIPE", "Parameters", "conversion_warning", "not_fitted"]

#: Entries of a recipe that the caller may set; the task is the class, and the preset an argument of its own.
RECIPE = tuple(name for name in Recipe.__dataclass_fields__ if name not in ("task", "preset"))
#: Leaves an entry to the recipe.
AUTO = "auto"


class Parameters:
    """Keeps the arguments of ``__init__`` by name, entries of a recipe among them, and shows and changes them.

    Clones, pipelines and searches of scikit-learn work with it; nothing of scikit-learn is imported before it asks.
    """

    _kind: ClassVar[str]

    def __init_subclass__(cls) -> None:
        """Show the entries of the recipe as arguments of ``__init__``, which takes them as ``**recipe``."""
        if "__init__" not in vars(cls):
            return
        signature = inspect.signature(cls.__init__)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        entries = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=AUTO) for name in RECIPE]
        vars(cls)["__init__"].__signature__ = signature.replace(parameters=[*own, *entries])

    def _keep(self, given: Mapping[str, Any], recipe: Mapping[str, Any]) -> None:
        """Keep the arguments of an ``__init__``, its ``locals()``, unchanged."""
        for name in recipe:
            if name not in RECIPE:
                raise OptionError(
                    f"{type(self).__name__}: expected parameters of its own or entries of a recipe, got {name!r}. "
                    f"{suggest(name, self._names())}"
                )
        own = {name: value for name, value in given.items() if name not in ("self", "recipe", "__class__")}
        for name, value in {**own, **dict.fromkeys(RECIPE, AUTO), **recipe}.items():
            setattr(self, name, value)

    @classmethod
    def _names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def _overrides(self) -> dict[str, Any]:
        """Return the entries of the recipe that were set."""
        set_here = {name: getattr(self, name, AUTO) for name in RECIPE}  # older pickles lack some
        return {name: value for name, value in set_here.items() if not (isinstance(value, str) and value == AUTO)}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name; entries of the recipe that were not set are ``"auto"``."""
        return {name: getattr(self, name, AUTO) for name in self._names()}

    def set_params(self, **params: Any) -> Self:
        """Change parameters, or set entries of the recipe, and return itself.

        Raises
        ------
        OptionError
            If a name is none of either.
        """
        known = self._names()
        for name in params:
            if name not in known:
                raise OptionError(
                    f"Invalid parameter {name!r} for estimator {self}. {suggest(name, known)} Valid parameters are: "
                    f"{', '.join(known)}."
                )
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = {p.name: p.default for p in inspect.signature(type(self).__init__).parameters.values()}
        params = self.get_params().items()
        changed = [f"{n}={v!r}" for n, v in params if n not in defaults or not _same(v, defaults[n])]
        return f"{type(self).__name__}({', '.join(changed)})"

    def __sklearn_is_fitted__(self) -> bool:
        return "predictor_" in vars(self)

    @property
    def _estimator_type(self) -> str:
        return self._kind

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags

        classes = self._kind == "classifier"
        return Tags(
            estimator_type=self._kind,
            target_tags=TargetTags(required=True, multi_output=not classes),
            transformer_tags=None,
            classifier_tags=ClassifierTags() if classes else None,
            regressor_tags=None if classes else RegressorTags(),
            input_tags=InputTags(sparse=False, allow_nan=True, string=True, categorical=True),
        )


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


def not_fitted(estimator: object, method: str) -> Exception:
    """Return the error for an estimator that was never fitted; for scikit-learn it is also its own."""
    name = type(estimator).__name__
    text = f"{name}.{method}: expected a fitted estimator, got one that is not fitted yet. Call fit first."
    if sys.modules.get("sklearn") is None:
        return DataError(text)
    from sklearn.exceptions import NotFittedError

    made: Exception = type("NotFittedError", (DataError, NotFittedError), {})(text)
    return made


def conversion_warning() -> type[Warning]:
    """Return the class of the warning for a column of targets where a row was due: scikit-learn's, if it is there."""
    if sys.modules.get("sklearn") is None:
        return UserWarning
    from sklearn.exceptions import DataConversionWarning

    found: type[Warning] = DataConversionWarning
    return found
