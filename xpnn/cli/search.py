"""``xpnn search``: recipes for a table are tried, and the best of them is trained and saved."""

from __future__ import annotations

import argparse
import functools
import json
import math
from pathlib import Path
from typing import Any

from .. import search
from ..backend import Backend
from ..errors import OptionError
from ..files import atomic_path
from ..optional import needs
from ..predictor import Predictor
from ..search import Choice, Distribution, Halving, LogUniform, SearchResult, Trial
from ..staging import Staging
from ..tabular import PRESETS, Recipe
from ..tabular.network import make_network, make_trainer
from ..training import History, Trainer
from .course import Ending
from .interrupts import status_of, word_of
from .options import (
    add_backend,
    add_columns,
    add_json,
    add_network,
    add_number,
    add_resume,
    add_table,
    add_target,
    bins,
    finite,
    whole,
)
from .run import run_job
from .tables import Networks, TableProblem
from .train import add_course, add_data, add_keep, add_rule

__all__ = ["add_commands"]

#: Name of the search's file in the staging folder.
_FILE = "search.safetensors"
_ETA = 3.0
_SHOWN = 5
# Trials are ranked by it, so it chooses the epoch too.
_CHOSEN_BY = {"select_by": "loss"}


def add_commands(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "search",
        usage="xpnn search FILE --target COLUMN [options]\n       xpnn search --resume RUN",
        help="try many recipes for a table, and save the best model",
        description="Try recipes for a table: all of them for a few epochs, and only the best to the end. They are "
        "ranked by their loss on validation rows; the first is what xpnn train does. The best is trained, scored on "
        "test rows, and saved as by xpnn train, with all trials beside it. An option of network or training that is "
        "given is not searched over.",
    )
    parser.add_argument("source", metavar="FILE", help="a .csv file")
    text = "what to predict: a column, by name or position; given again, several columns of numbers at once"
    add_target(parser, text)
    parser.add_argument("--out", metavar="DIR", help="folder to write to; default runs/NAME-search")
    parser.add_argument("--report", action="store_true", help="also write report.html to the folder; default: no")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    add_json(parser)
    add_resume(parser)
    group = parser.add_argument_group("search")
    add_number(group, "--trials", whole, "how many recipes to try; default 24", default=24)
    text = "successive halving: after each rung the best one in so many goes on; none trains all to the end; default 3"
    group.add_argument("--halving", type=_eta, default=_ETA, metavar="X", help=text)
    text = "processes of this machine to train in, through joblib; the result is the same for any number; default 1"
    add_number(group, "--jobs", whole, text, default=1, metavar="N")
    group.add_argument("--preset", choices=PRESETS, default="quick", help="the recipe to vary; default quick")
    group.add_argument("--metric", metavar="NAME", help="what the best is judged by, as in xpnn train; default none")
    add_data(parser.add_argument_group("data"), builtin=False, command="search", chooses="ranks recipes")
    add_table(parser)
    add_keep(parser)
    text = "bins of the piecewise-linear encoding of each number, 0 for none; default as in the recipe"
    add_number(add_columns(parser, "columns to leave out"), "--bins", bins, text)
    add_network(parser, "searched", "searched", "searched")
    group = parser.add_argument_group("training")
    add_rule(group)
    add_course(group)
    add_backend(group)
    # While recipes are compared each is one network; the best is trained as its preset says.
    parser.set_defaults(time_limit=None, ensemble=None, cv=None, one_split=False)
    parser.set_defaults(entries={"folds": 0, "members": 1, **_CHOSEN_BY})
    parser.set_defaults(run=run_search, parse=lambda argv, known=None: parser.parse_args(argv, known))


def _eta(text: str) -> float | None:
    if text == "none":
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 1, or none, got {text!r}")
    return value


def run_search(args: argparse.Namespace) -> int:
    """Search, or go on with a search that was cut short."""
    return run_job(args, Search)


def space_of(recipe: Recipe, fixed: argparse.Namespace) -> dict[str, Distribution]:
    """Return what is varied around a recipe, but for options that were given: the space of RealMLP's authors [1]_.

    It leaves out what losses on validation rows do not compare: label smoothing, and the loss itself.

    References
    ----------
    .. [1] Holzmüller, Grinsztajn and Steinwart, "Better by default: strong pre-tuned MLPs and boosted trees on tabular
       data", NeurIPS 2024, appendix C: waves in front of numbers and their frequencies, learned factors, widths,
       learning rate, activation, dropout and decay; here with rates around the recipe's own, and with bins.
    """
    space: dict[str, Distribution] = {
        "hidden": Choice([(256, 256, 256), (64, 64, 64, 64, 64), (512,), (128, 128), (512, 256, 128)]),
        "lr": LogUniform(recipe.lr / 4, recipe.lr * 4),
        "dropout": Choice([0.0, 0.15, 0.3]),
        "weight_decay": Choice([0.0, 0.02]),
        "activation": Choice(["selu", "mish", "relu"]),
        "batch_size": Choice([max(recipe.batch_size // 2, 32), recipe.batch_size]),
    }
    if recipe.embedding != "none":  # there are numbers
        space |= {
            "bins": Choice(list(dict.fromkeys([recipe.bins, 0, 16, "auto"]))),
            "embedding": Choice(["pbld", "plr", "pl", "none"]),
            "sigma": LogUniform(0.05, 0.5),
            "scale": Choice([True, False]),
        }
    return {name: drawn for name, drawn in space.items() if getattr(fixed, name, None) is None}


class Search:
    """A search, and then the training of its best recipe."""

    def __init__(self, args: argparse.Namespace, given: TableProblem, backend: str | Backend) -> None:
        if given.prepared.held is None:
            raise OptionError("--validation-size: expected validation rows to rank trials by, got none. Raise it.")
        self.args, self.given = args, given
        self.prepared = given.prepared
        self._course = Networks(args, given, backend)  # of the recipe that is varied; its backend is that of all
        self.backend = self._course.backend
        self._staging: Staging | None = None
        self._result: SearchResult | None = None
        self._hopeless = False  # to go on would change nothing
        base = self.prepared.recipe
        self.space = space_of(base, args)
        if not self.space:
            raise OptionError("search: expected something to vary, got a value for every option. Leave some out.")
        own = {name: getattr(base, name) for name in self.space}
        drawn = search.random(self.space, args.trials - 1, seed=args.seed) if args.trials > 1 else []
        most = len(self.prepared.learning.X)  # rows of a step
        sizes = [min(config.get("batch_size", base.batch_size), most) for config in (own, *drawn)]
        self.configurations = [{**c, "batch_size": size} for c, size in zip((own, *drawn), sizes, strict=True)]
        self._encoded = {base.bins: self.prepared}  # the rows, by the bins of the numbers
        for config in self.configurations:
            bins = config.get("bins", base.bins)
            if bins not in self._encoded:
                entries = {**args.entries, "bins": bins}
                self._encoded[bins] = given.again(argparse.Namespace(**{**vars(args), "entries": entries})).prepared

    @property
    def summary(self) -> str:
        """What is trained on what, in a line."""
        epochs = self.prepared.recipe.epochs
        return f"{self._course.summary}; {len(self.configurations)} recipes of up to {epochs} epochs"

    @property
    def history(self) -> History:
        """The epochs so far."""
        return self._course.history

    def begin(self, staging: Staging) -> bool:
        """Be ready to train, or to go on; return whether there is something to go on from."""
        self._staging = staging
        self._course.begin(staging)
        return (staging.path / _FILE).is_file()

    def fit(self, plan: dict[str, Any]) -> Ending:
        """Train to the end, early or not."""
        try:
            self._result = result = self._search()
        except KeyboardInterrupt as error:
            return Ending(status_of(error), 0.0, word_of(error), None, resumable=True, at="within the search")
        more = {"not started", "out of time"} & {trial.status for trial in result.trials}
        self._hopeless = not result.ranking and not more
        best = result.best
        if not self.args.json:
            self._tell(result)
        args = argparse.Namespace(**{**vars(self.args), "max_seconds": None, "entries": best.config | _CHOSEN_BY})
        final = self.given.again(args)
        self._course = Networks(args, final, self.backend)
        if self._staging is not None:
            self._course.begin(self._staging)
        ending = self._course.fit(plan)
        return ending._replace(seconds=ending.seconds + result.seconds)

    def _search(self) -> SearchResult:
        args, prepared = self.args, self.prepared
        epochs, held = prepared.recipe.epochs, prepared.held
        if held is None or self._staging is None:
            raise RuntimeError("begin comes first")

        encoded = {bins: (of.learning.X, None if of.held is None else of.held.X) for bins, of in self._encoded.items()}
        sizes = {bins: X.shape[1] for bins, (X, _) in encoded.items()}, prepared.n_out
        options = {"n_values": prepared.encoder.n_values, "seed": args.seed, "backend": self.backend}
        return search.run(
            self.configurations,
            lambda config: encoded[config.get("bins", prepared.recipe.bins)][0],
            prepared.learning.codes,
            make=functools.partial(_trainer_of, prepared.recipe, sizes, options),
            epochs=epochs,
            halving=None if args.halving is None else Halving(max(round(epochs / args.halving**2), 1), args.halving),
            X_val=lambda config: encoded[config.get("bins", prepared.recipe.bins)][1],
            y_val=held.codes,
            class_weight=prepared.class_weight,
            max_seconds=args.max_seconds,
            checkpoint=self._staging.path / _FILE,
            checkpoint_seconds=args.checkpoint_seconds,
            n_jobs=args.jobs,
            verbose=not args.quiet,
        )

    def _tell(self, result: SearchResult) -> None:
        """Print the best trials, and where the recipe that was varied stands."""
        with needs("tabulate", "xpnn"):
            from tabulate import tabulate

        ranking = result.ranking
        shown = [*ranking[:_SHOWN], *(t for t in ranking[_SHOWN:] if t is result.trials[0])]
        rows = [_row(result, trial) for trial in shown]
        ended = {status: sum(t.status == status for t in result.trials) for status in ("eliminated", "diverged")}
        told = ", ".join(f"{n} {status}" for status, n in ended.items() if n)
        spent = f"{result.epochs:,} epochs in {result.seconds:.1f} s"
        print(f"\nBest of {len(result)} trials, {spent}" + (f" ({told})" if told else ""))
        print(tabulate(rows, headers="keys", floatfmt=".4g"))
        place = next((k for k, trial in enumerate(ranking, 1) if trial is result.trials[0]), None)
        if place is not None:
            print(f"trial 1, the recipe of preset {self.args.preset}, is number {place}", end="\n\n")

    def keep(self) -> None:
        """Write what going on needs."""
        self._course.keep()

    def worth_keeping(self) -> bool:
        """Whether there is more to go on with than the beginning."""
        there = self._staging is not None and (self._staging.path / _FILE).is_file()
        return not self._hopeless and (there or self._course.worth_keeping())

    def predictor(self, info: dict[str, Any]) -> Predictor:
        """Return what was learned."""
        info["search"] = self._facts(trials=False)
        return self._course.predictor(info)

    def chosen(self) -> dict[str, Any]:
        """Return the values of options that were left open, by name."""
        return self._course.chosen()

    def tell(self) -> None:
        """Print what else was found out."""

    def write_more(self, folder: Path, run: str) -> list[Path]:
        """Write all trials, as a table and as JSON."""
        if self._result is None:
            return []
        table, facts = folder / "trials.csv", folder / "search.json"
        history = History([_row(self._result, trial) for trial in self._result.trials])
        history.to_csv(table)
        with atomic_path(facts) as temporary:
            text = json.dumps(finite({"run": run, **self._facts(trials=True)}), indent=1, allow_nan=False)
            temporary.write_text(text, encoding="utf-8")
        return [table, facts]

    def _facts(self, *, trials: bool) -> dict[str, Any]:
        result = self._result
        if result is None:
            return {}
        best = result.best
        facts: dict[str, Any] = {
            "monitor": result.monitor,
            "space": {name: repr(drawn) for name, drawn in self.space.items()},
            "best": result.trials.index(best) + 1,
            "score": best.score,
            "entries": best.config,
            "epochs": result.epochs,
            "seconds": round(result.seconds, 3),
        }
        return facts | ({"trials": [_row(result, trial) for trial in result.trials]} if trials else {})


def _trainer_of(
    recipe: Recipe, sizes: tuple[dict[Any, int], int], options: dict[str, Any], config: dict[str, Any]
) -> Trainer:
    """Return the trainer of a recipe with some changes; stands by itself, so that other processes can call it.

    `sizes` are the inputs of the network, by bins, and its outputs.
    """
    own, (widths, n_out) = recipe.replace(**config), sizes
    return make_trainer(own, make_network(own, widths[own.bins], n_out, **options), seed=options["seed"])


def _row(result: SearchResult, trial: Trial) -> dict[str, Any]:
    """Return what is told of a trial."""
    shown = {name: ",".join(map(str, v)) if isinstance(v, tuple) else v for name, v in trial.config.items()}
    return {
        "trial": result.trials.index(trial) + 1,
        result.monitor: trial.score,
        "best_epoch": trial.best_epoch,
        "epochs": trial.epochs,
        "status": trial.status,
        **shown,
    }
