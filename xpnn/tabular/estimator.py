"""What classifier and regressor of tables share: fit, predictions, importance, cross-validation and files."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..backend import Backend
from ..config import reading
from ..data.csv import Table
from ..data.targets import ClassTarget, NumberTargets
from ..distributed import Group
from ..errors import DataError, FileFormatError, OptionError, ShapeError
from ..exports import Exports
from ..files import PathLike
from ..frames import listed
from ..inspection import Importance, permutation_importance
from ..jobs import over_jobs, read_jobs
from ..metrics import get_score
from ..predictor import MODEL, Predictor, load_predictor
from ..schema import ANY, expect
from ..training import History
from .fit import Learned, Request, Validation, learn
from .inputs import check_sizes, read_groups, read_targets, read_weights, seed_of, without_target
from .params import RECIPE, Parameters, not_fitted
from .recipe import Recipe
from .rows import Rows, TrainingRows, read_rows, read_training_rows
from .validation import CrossValidation, FoldFiles, Indices, Judged, divided, gathered, of_all_classes, selected

__all__ = ["TabularModel"]


class TabularModel(Exports, Parameters):
    """One object for a table: it encodes, trains, calibrates, predicts, explains and saves."""

    # Arguments of each class's ``__init__``.
    preset: Any
    time_limit: float | None
    ensemble: int | None
    metric: str | None
    dayfirst: bool | None
    decimal: Any
    random_state: Any
    backend: Any
    dtype: str
    callbacks: Any
    n_jobs: Any = None  # older pickles have none
    _kept_in: Path | None = None  # of a fold that may be cut off: where its networks are kept
    # What `fit` learns.
    predictor_: Predictor
    recipe_: Recipe
    history_: History

    # -- fit --------------------------------------------------------------------------------------------------------
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        eval_set: Any = None,
        *,
        shards: int | None = None,
        group: Group | None = None,
    ) -> Self:
        """Learn from a table.

        Parameters
        ----------
        X : frame, mapping of columns, table from `load_csv`, or array of shape (n_samples, n_features)
            Numbers, text, categories, booleans, dates, durations and missing cells as they are.  A frame or an array
            of Dask is brought into memory; `xpnn.distributed.dask` has what works on a cluster.
        y : array of shape (n_samples,), or name of a column of `X`
            The target; of several quantities of shape (n_samples, n_targets), a frame of them, or a list of names.
        sample_weight : array of shape (n_samples,), optional
            Weights of the rows; those of weight 0 are left out.  Those of held-out rows count in the validation loss,
            which chooses the epoch, in calibration, threshold and metric.
        eval_set : (X, y) or (X, y, sample_weight), optional
            Rows of your own to hold out: they choose the best epoch and calibrate, instead of a share of `X`.
        shards, group : int, Group, optional
            As in `Trainer.fit`: each training is shared by the processes of a group, which all have the whole table and
            call this alike; all come to the same model, whose bits depend on `shards` alone.

        Returns
        -------
        self

        Raises
        ------
        DataError, LabelError, ShapeError, DTypeError
            If the table or the target cannot be learnt from; the message says which column or row.
        OptionError
            If a parameter is out of its range, or the fit needs more memory than there is.
        """
        where = type(self).__name__
        X, y, target_name = self._apart(X, y, where)
        said = {name: self._listed(name) for name in ("categorical", "numeric")}
        rows = read_training_rows(X, where, decimal=self.decimal, **said)
        targets = self._targets(y, where)
        check_sizes(rows.size, targets, where)
        weight = read_weights(sample_weight, rows.size, where)
        kept = rows
        if weight is not None and not (weight > 0).all():
            there = np.flatnonzero(weight > 0)
            kept = rows._replace(columns={name: column[there] for name, column in rows.columns.items()})
            targets, weight = targets[there], weight[there]
        validation = None
        if eval_set is not None:
            validation = self._validation(eval_set, where)
        sharing = {name: value for name, value in (("shards", shards), ("group", group)) if value is not None}
        called = target_name if isinstance(target_name, list) else ()
        request = replace(self._request(), sharing=sharing, targets=called)
        learned = learn(request, kept, targets, where=where, weight=weight, validation=validation)
        self.adopt(learned, rows, targets, target_name)
        return self

    def _apart(self, X: Any, y: Any, where: str) -> tuple[Any, Any, str | list[str] | None]:
        """Return what to learn from, the target, and what it is called; names of columns stand for these."""
        return without_target(X, y, where, several=self._kind == "regressor")

    def _listed(self, name: str) -> tuple[str, ...]:
        value = getattr(self, name)
        return (value,) if isinstance(value, str) else tuple(map(str, value))

    def _request(self) -> Request:
        return Request(
            "classification" if self._kind == "classifier" else "regression",
            preset=self.preset,
            overrides=self._overrides(),
            metric=self.metric,
            ensemble=self.ensemble,
            time_limit=self.time_limit,
            class_weight=getattr(self, "class_weight", None),
            numeric=self._listed("numeric"),
            dayfirst=self.dayfirst,
            seed=seed_of(self.random_state, type(self).__name__),
            backend=self.backend,
            dtype=self.dtype,
            callbacks=() if self.callbacks is None else self.callbacks,
            n_jobs=self.n_jobs,
            keep=self._kept_in,
        )

    def _given(self) -> dict[str, Any]:
        """Return the parameters that are of the model: without entries of the recipe that were left to it."""
        left = {*RECIPE, "n_jobs"}
        return {name: value for name, value in self.get_params().items() if name not in left} | self._overrides()

    def _targets(self, y: Any, where: str) -> npt.NDArray[Any]:
        """Return the targets on the host, of shape (n,) or (n, k), gaps refused."""
        return read_targets(y, where)

    def _validation(self, eval_set: Any, where: str) -> Validation:
        if isinstance(eval_set, list) and len(eval_set) == 1:
            eval_set = eval_set[0]
        if not isinstance(eval_set, tuple) or len(eval_set) not in (2, 3):
            raise OptionError(f"{where}: expected eval_set=(X, y), got {type(eval_set).__name__}. Pass a pair.")
        X, y, weight = eval_set if len(eval_set) == 3 else (*eval_set, None)
        X, y, _ = self._apart(X, y, where)
        columns, targets = read_rows(X, where).columns, self._targets(y, where)
        check_sizes(len(next(iter(columns.values()))), targets, where)
        return Validation(columns, targets, read_weights(weight, len(targets), f"{where}: eval_set"))

    def adopt(
        self, learned: Learned, rows: TrainingRows, targets: npt.NDArray[Any], target_name: str | list[str] | None
    ) -> None:
        """Set the fitted attributes, as `fit` does, from what `learn` returned for these rows."""
        fitted = learned.fitted
        self.predictor_, self.recipe_, self.history_ = learned.predictor, learned.recipe, fitted.history
        self.n_features_in_ = len(rows.columns)
        vars(self).pop("feature_names_in_", None)
        if rows.named:
            self.feature_names_in_ = np.asarray(list(rows.columns), dtype=object)
        self.n_iter_, self.best_epoch_ = len(fitted.history), fitted.epoch
        self.stopped_, self.seconds_ = fitted.stopped, round(learned.seconds, 3)
        self.validation_scores_, self.notes_ = learned.scores, list(learned.notes)
        self._learn_labels(targets.dtype)
        self.predictor_.info.update(
            {
                "target": target_name,
                "features": list(rows.columns),
                "by_position": not rows.named,
                "rows": rows.size,
                "epochs": self.n_iter_,
                "best_epoch": self.best_epoch_,
                "stopped": self.stopped_,
                "seconds": self.seconds_,
                "validation": self.validation_scores_,
                "notes": self.notes_,
                "recipe": self.recipe_.to_dict(),
                "estimator": {"class": type(self).__name__, "params": _plain(self._given())},
            }
        )
        decided = {name: getattr(self.predictor_, name) for name in ("temperature", "threshold")}
        self.predictor_.info.update({name: value for name, value in decided.items() if value is not None})
        said = ("time limit: ", "target: ")
        doubts = [note for note in self.notes_ if note.startswith(said) or ": taken as text. " in note]
        for sentence in (*rows.doubts, *doubts):
            warnings.warn(f"{type(self).__name__}: {sentence}", UserWarning, stacklevel=3)

    def _learn_labels(self, dtype: np.dtype[Any]) -> None:
        """Set what the predictions of a classifier are made of."""

    @property
    def validation_score_(self) -> float | None:
        """Score of held-out rows: by the metric that was asked for, else accuracy or R²; None without such rows."""
        self._fitted("validation_score_")
        scores = self.validation_scores_ or {}
        usual = "accuracy" if self._kind == "classifier" else "r2"
        asked = usual if self.metric is None else get_score(self.metric).name
        found = scores.get(asked, scores.get(usual))
        return None if found is None else float(found)

    # -- predictions ------------------------------------------------------------------------------------------------
    def _fitted(self, method: str) -> Predictor:
        if "predictor_" not in vars(self):
            raise not_fitted(self, method)
        return self.predictor_

    def _columns(self, X: Any, method: str) -> Any:
        """Return rows for the predictor, after a look whether they are like those of the training."""
        self._fitted(method)
        if isinstance(X, Table):
            return X
        where = f"{type(self).__name__}.{method}"
        rows = read_rows(X, where)
        if rows.named == hasattr(self, "feature_names_in_"):
            return self._known(rows, where) if rows.named else self._counted(rows, where)
        if rows.named:
            warnings.warn(
                f"{where}: X has feature names, but {type(self).__name__} was fitted without feature names. They are "
                "taken in their order.",
                UserWarning,
                stacklevel=4,
            )
        else:
            warnings.warn(
                f"{where}: X does not have valid feature names, but {type(self).__name__} was fitted with feature "
                "names. Its columns are taken in the order of the training.",
                UserWarning,
                stacklevel=4,
            )
        return self._counted(rows, where)

    def _counted(self, rows: Rows, where: str) -> dict[str, Any]:
        """Return columns in the order of the training by its names."""
        if len(rows.columns) != self.n_features_in_:
            raise ShapeError(
                f"{where}: X has {len(rows.columns)} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input. Pass the columns of the training."
            )
        return dict(zip(self.predictor_.info["features"], rows.columns.values(), strict=True))

    def _known(self, rows: Rows, where: str) -> dict[str, Any]:
        """Return the columns by name; new ones are not used, which is said, and none may be absent."""
        features, needed = self.predictor_.info["features"], getattr(self.predictor_.encoder, "feature_names_in", ())
        absent = [name for name in needed if name not in rows.columns]
        if absent:
            raise DataError(
                f"{where}: expected the training columns, got none named {listed(absent)}. There are "
                f"{listed(list(rows.columns))}. Name them as in training, or train without the missing ones."
            )
        known = {*features, *self.predictor_.target_names}
        new = [name for name in rows.columns if name not in known]
        if new:
            shown = ", ".join(map(repr, new[:5])) + (", …" if len(new) > 5 else "")
            warnings.warn(
                f"{where}: columns that training did not have are not used: {shown}.", UserWarning, stacklevel=5
            )
        return rows.columns

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return labels, or values in the target's own units, for rows.

        Parameters
        ----------
        X : frame, mapping of columns, table, or array of shape (n_samples, n_features)
            Rows with the columns of the training, which are found by name; others are not used.

        Returns
        -------
        array of shape (n_samples,), of several targets (n_samples, n_targets)
        """
        return self._fitted("predict").decode(self._outputs(X, "predict"))

    def _outputs(self, X: Any, method: str) -> npt.NDArray[Any]:
        """Return what the predictor's `predict_proba` does, for rows as people hold them."""
        predictor = self._fitted(method)
        few = predictor.few_rows(X)
        return predictor.predict_proba(self._columns(X, method)) if few is None else predictor.linked(few)

    def remarks(self, X: Any) -> list[str]:
        """Say in sentences what predictions make of missing values and unknown categories in rows.

        Parameters
        ----------
        X : frame, mapping of columns, table, or array of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        list of str
            Empty where every value is present and known.
        """
        encoder: Any = self._fitted("remarks").encoder
        found: list[str] = encoder.remarks(self._columns(X, "remarks"))
        return found

    # -- what is behind them ----------------------------------------------------------------------------------------
    def feature_importance(
        self, X: Any, y: Any, *, metric: Any = None, n_repeats: int = 5, max_rows: int | None = None
    ) -> Importance:
        """Return by how much a metric gets worse where a column's values are shuffled, with its spread.

        Parameters
        ----------
        X : frame, mapping of columns, table, or array of shape (n_samples, n_features)
            Rows, best such as were not trained on.
        y : array of shape (n_samples,), or name of a column of `X`
            Their target.
        metric : str or callable, optional
            As for the estimator, whose own is the default; without one ``"cross_entropy"`` or ``"rmse"``.  A function
            is as in `xpnn.inspection.permutation_importance`.
        n_repeats : int, default=5
            Orders that each column is shuffled into.
        max_rows : int, optional
            Of more rows so many are drawn.

        Returns
        -------
        Importance
            Of the columns that are used, the most important first: ``names``, ``mean``, ``std``, ``values``.
        """
        predictor = self._fitted("feature_importance")
        X, y, _ = self._apart(X, y, type(self).__name__)
        columns, targets = self._columns(X, "feature_importance"), self._targets(y, type(self).__name__)
        options: dict[str, Any] = {
            "n_repeats": n_repeats,
            "max_rows": max_rows,
            "seed": seed_of(self.random_state, type(self).__name__),
        }
        asked = self.metric if metric is None else metric
        return permutation_importance(predictor, columns, targets, self._measure(asked), **options)

    def _measure(self, metric: Any) -> Any:
        """Return a metric as `permutation_importance` takes it: by a name of its own, or as a function."""
        if not isinstance(metric, str) or metric in ("cross_entropy", "accuracy", "rmse", "mae", "r2"):
            return metric
        predictor = self.predictor_
        score = get_score(metric, "classes" if self._kind == "classifier" else "numbers")

        def measured(truth: npt.NDArray[Any], out: npt.NDArray[Any]) -> float:
            if score.takes == "labels":
                out = predictor.codes(out)
            elif score.takes == "probabilities" and out.shape[-1] == 2:
                out = out[:, 1]
            return score.gain(truth, out)

        measured.__name__ = score.name
        return measured

    def cross_validate(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        cv: Any = 5,
        groups: Any = None,
        n_jobs: int | None = None,
        checkpoint: PathLike | None = None,
    ) -> CrossValidation:
        """Fit a copy for each fold on the other rows, and score the fold's.

        The model itself is not changed, fitted or not.

        Parameters
        ----------
        X : frame, mapping of columns, table, or array of shape (n_samples, n_features)
            Rows.
        y : array of shape (n_samples,), or name of a column of `X`
            Their target.
        sample_weight : array of shape (n_samples,), optional
            Weights of the rows in training.
        cv : int, splitter or iterable of pairs, default=5
            Number of folds, of each class alike; or a splitter of scikit-learn's kind; or pairs of row numbers to train
            on and to hold out.
        groups : array of shape (n_samples,), or name of a column of `X`, optional
            What belongs together, such as a patient's visits: rows of one group are held out together, so that the
            score is that of new groups.  A column that is named is not learned from.
        n_jobs : int, optional
            Processes to fit in, a fold at a time, as in `xpnn.search.run`; the results are those of one.
        checkpoint : path, optional
            A folder to keep folds in that are done, and the networks of the one in training: called again with the same
            arguments after it was cut off, it goes on where it was (with `time_limit` or `n_jobs` of the model at the
            beginning of the fold), and comes to the same bits.

        Returns
        -------
        CrossValidation
            Scores of the folds, their mean and spread, and predictions of all rows by networks that have not seen them.
        """
        where = f"{type(self).__name__}.cross_validate"
        X, y, _ = self._apart(X, y, where)
        if isinstance(groups, str):
            X, groups, _ = without_target(X, groups, where, called="groups")
        columns, targets = read_rows(X, where), self._targets(y, where)
        check_sizes(columns.size, targets, where)
        target = ClassTarget().fit(targets) if self._kind == "classifier" else None
        labels = None if target is None else target.encode(targets)
        weight = read_weights(sample_weight, columns.size, where)
        table = columns.columns if columns.named else np.stack(list(columns.columns.values()), axis=1)
        seed, together = seed_of(self.random_state, type(self).__name__), read_groups(groups, columns.size, where)
        parts = divided(cv, columns.size, targets, labels, seed, groups=together, where=where)
        settings = repr({name: value for name, value in self._given().items() if name != "callbacks"})
        files = None if checkpoint is None else FoldFiles(checkpoint, table, targets, weight, settings)
        found = self._folds(table, targets, weight, parts, files, read_jobs(n_jobs, where))
        fold = np.full(columns.size, -1, dtype=np.int64)
        answers = []
        for k, (train, test) in enumerate(parts):
            said, out = found[k][1:]
            if target is not None and labels is not None:
                counted = train if weight is None else train[weight[train] > 0]
                out = of_all_classes(out, np.unique(labels[counted]), len(target.classes))
            answers.append((test, said, out))
            fold[test] = k
        return gathered([scores for scores, *_ in found], answers, fold, probable=self._kind == "classifier")

    def _folds(
        self,
        table: Any,
        targets: npt.NDArray[Any],
        weight: npt.NDArray[Any] | None,
        parts: list[tuple[Indices, Indices]],
        files: FoldFiles | None,
        jobs: int,
    ) -> list[Judged]:
        """Return what comes of each fold; those that `files` hold are not made again."""
        where = f"{type(self).__name__}.cross_validate"
        done = {} if files is None else {k: files.found(k, *part) for k, part in enumerate(parts)}
        found = {k: judged for k, judged in done.items() if judged is not None}
        tasks, places = [], []
        for k, (train, test) in enumerate(parts):
            given = self.get_params()
            if hasattr(self.random_state, "bit_generator") or hasattr(self.random_state, "randint"):
                given["random_state"] = seed_of(self.random_state, where)  # each process would have a copy of it
            if k not in found:
                copy = type(self)(**given)
                if files is not None and read_jobs(self.n_jobs, where) == 1:
                    copy._kept_in = files.networks(k, train, test)
                tasks.append((copy, table, targets, weight, train, test))
                places.append(k)
        for place, judged in over_jobs(type(self).judged, tasks, jobs, where):
            found[places[place]] = judged
            if files is not None:
                files.keep(places[place], *parts[places[place]], judged)
        return [found[k] for k in range(len(parts))]

    def judged(
        self, table: Any, targets: npt.NDArray[Any], weight: npt.NDArray[Any] | None, train: Indices, test: Indices
    ) -> Judged:
        """Fit on some rows; return scores, answers and outputs of others, as `cross_validate` does with each fold.

        Parameters
        ----------
        table : dict of str to column, or array
            All rows.
        targets : array of shape (n, ...)
            Their targets, as `fit` takes them.
        weight : array of shape (n,), or None
            Their weights.
        train, test : array of int
            Numbers of the rows to fit on, and to judge by.
        """
        parts = [selected(table, part) if isinstance(table, dict) else table[part] for part in (train, test)]
        self.fit(parts[0], targets[train], None if weight is None else weight[train])
        out = self._outputs(parts[1], "predict")
        return self.predictor_.score_outputs(out, targets[test]), self._answers(out), out

    def _answers(self, out: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return labels or values from what the predictor's `predict_proba` returned."""
        return self.predictor_.decode(out)

    # -- files ------------------------------------------------------------------------------------------------------
    def save(self, path: PathLike) -> None:
        """Write the fitted model to a file, or into a folder as ``model.safetensors``.

        The file holds encoding, network, labels, intervals and the recipe, the latter as JSON that can be read; no
        pickle.  `xpnn.load_predictor` and ``xpnn predict`` read it too.

        Parameters
        ----------
        path : path
            A file; what is a folder, or has no ending, becomes a folder with the file in it.
        """
        predictor, target = self._fitted("save"), Path(path).expanduser()
        if target.is_dir() or not target.suffix:
            target = target / MODEL
        target.parent.mkdir(parents=True, exist_ok=True)
        predictor.save(target)

    @classmethod
    def load(cls, path: PathLike, *, backend: str | Backend = "numpy") -> Self:
        """Read a model that `save` wrote.

        Parameters
        ----------
        path : path
            The file, or its folder.
        backend : str or Backend, default="numpy"
            Where its networks shall live.

        Raises
        ------
        DataError, FileFormatError
            If the file is absent, broken, or holds something else.
        """
        predictor = load_predictor(path, backend=backend)
        info = predictor.info
        known = info.get("estimator")
        kind = known.get("class") if isinstance(known, dict) else None
        if kind != cls.__name__:
            got = f"a model of {kind}" if kind else "a model of no estimator"
            raise FileFormatError(
                f"{cls.__name__}.load: expected what {cls.__name__}.save writes, got {got} in {path}. "
                f"Use {f'{kind}.load' if kind else 'xpnn.load_predictor'}."
            )
        with reading(f"{cls.__name__}.load", f"what {cls.__name__}.save writes", got=f"a bad entry in {path}"):
            expect(info, {"features": [str], "by_position": bool, "epochs": int, "best_epoch": int, "notes": [str]})
            expect(info["estimator"], {"params": {str: ANY}})
            params = info["estimator"]["params"].items()
            model = cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in params})
            model._restore(predictor, info)
        return model

    def _restore(self, predictor: Predictor, info: Mapping[str, Any]) -> None:
        """Set the fitted attributes from a file."""
        self.predictor_, self.recipe_ = predictor, Recipe.from_dict(info["recipe"])
        self.n_features_in_ = len(info["features"])
        if not info["by_position"]:
            self.feature_names_in_ = np.asarray(info["features"], dtype=object)
        self.n_iter_, self.best_epoch_ = info["epochs"], info["best_epoch"]
        self.stopped_, self.seconds_ = info["stopped"], info["seconds"]
        self.validation_scores_, self.notes_ = info["validation"], info["notes"]
        target = predictor.target
        if isinstance(target, ClassTarget) != (self._kind == "classifier"):
            raise ValueError(f"a target of {target.task}")
        self._learn_labels(np.asarray(target.classes).dtype if isinstance(target, ClassTarget) else np.dtype(float))

    # -- words ------------------------------------------------------------------------------------------------------
    def summary(self) -> str:
        """Say in some lines what was learnt, from what, how, and how well."""
        predictor = self._fitted("summary")
        net, info, recipe = predictor.net, predictor.info, self.recipe_
        target = predictor.target
        if isinstance(target, ClassTarget):
            asked = f"{len(target.classes)} classes"
        else:
            asked = f"{len(target.targets)} quantities" if isinstance(target, NumberTargets) else "a quantity"
            asked += f" ({', '.join(target.names)})" if isinstance(target, NumberTargets) and target.names else ""
        width = f"{net.n_in:,} inputs of {self.n_features_in_} columns"
        several = f", {recipe.members} networks averaged" if net.store.replicas else ""
        lines = [
            f"{type(self).__name__} (preset {recipe.preset!r}): {asked}, from {info['rows']:,} rows",
            f"network: {width}, hidden layers {list(recipe.hidden)}, {net.n_params:,} weights{several}",
            f"training: {self.n_iter_} epochs in {self.seconds_:.1f} s, best {self.best_epoch_}"
            + (f"; ended early: {self.stopped_}" if self.stopped_ else ""),
            f"held-out rows: {_scores_text(self.validation_scores_)}",
        ]
        if predictor.temperature is not None:
            lines.append(f"probabilities: calibrated with temperature {predictor.temperature:.3g}")
        if predictor.threshold is not None:
            lines.append(f"threshold: {predictor.threshold:.3g}")
        if predictor.intervals is not None:
            lines.append(f"intervals: {len(predictor.intervals.scores):,} rows vouch for their coverage")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes_)])


def _scores_text(scores: Mapping[str, Any] | None) -> str:
    if scores is None:
        return "none"
    named = [f"{name} {value:.4g}" for name, value in scores.items() if isinstance(value, float)]
    return f"{', '.join(named)} on {scores['rows']:,} rows"


def _plain(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that JSON can hold; the others are of the fit alone, such as callbacks."""

    def kept(value: Any) -> bool:
        if isinstance(value, list | tuple):
            return all(map(kept, value))
        if isinstance(value, dict):
            return all(isinstance(key, str) for key in value) and all(map(kept, value.values()))
        return value is None or isinstance(value, bool | int | float | str)

    return {name: value for name, value in params.items() if kept(value)}
