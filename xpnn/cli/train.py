"""``xpnn train``: its options; `run` does the work."""

from __future__ import annotations

from typing import Any

from ..search.configuration import OPTIMIZERS
from ..tabular import PRESETS
from ..tabular.network import LOSSES, SCHEDULES
from .options import (
    above_zero,
    add_backend,
    add_columns,
    add_json,
    add_network,
    add_number,
    add_resume,
    add_table,
    add_target,
    add_task,
    at_least_zero,
    bins,
    several,
    share,
    whole,
)
from .ranks import add_processes
from .recipe import VALIDATION, default_of
from .run import run_train
from .sources import BUILTIN

__all__ = ["add_commands", "add_course", "add_data", "add_keep", "add_rule"]


def add_commands(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "train",
        usage="xpnn train SOURCE [--target COLUMN] [options]\n       xpnn train --resume RUN",
        help="train a network on a data set or a file and save it",
        description="Train on a built-in data set or on a file, print the score on held-out rows, and write model, "
        "history and pictures to a folder. Where an option is left out, the data decide; an option that would do "
        "nothing is an error.",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a table (.csv and its like, also compressed; .parquet, .arrow, .feather, .xlsx; - for stdin), an .npz or "
        f".npy file, or one of {', '.join(BUILTIN)}",
    )
    text = (
        "what to predict: a column of a table, by name or position (-1 is the last); given again, several columns of "
        "numbers at once; the array in an .npz file, default y; the file y.npy that goes with X.npy"
    )
    add_target(parser, text)
    parser.add_argument("--out", metavar="DIR", help="folder to write to; default runs/NAME")
    parser.add_argument(
        "--report", action="store_true", help="also write report.html to the folder, as xpnn report does; default: no"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    add_json(parser)
    add_resume(parser)
    _add_preset(parser.add_argument_group("tables"))
    add_data(parser.add_argument_group("data"))
    add_table(parser)
    add_keep(parser)
    text = "bins of the piecewise-linear encoding of each number, 0 for none; default auto, by the number of rows"
    add_number(add_columns(parser, "columns to leave out"), "--bins", bins, text)
    add_network(parser, default_of("hidden"), default_of("activation"), default_of("dropout"))
    group = parser.add_argument_group("training")
    add_rule(group)
    add_course(group)
    add_backend(group)
    add_processes(group)
    # --resume reads the options with which a run began.
    parser.set_defaults(one_split=False, run=run_train, parse=lambda argv, known=None: parser.parse_args(argv, known))


def _add_preset(group: Any) -> None:
    """Add the options of the recipe for tables, and of what it is judged by."""
    group.add_argument(
        "--preset",
        choices=[*PRESETS, "none"],
        help="of a table the recipe of xpnn.tabular, for as long as the preset says; other options change entries of "
        "it; none: a plain network; default good, for arrays in an .npz file none",
    )
    text = "with a preset, seconds for all networks: fewer epochs or networks then, and the best so far; default none"
    add_number(group, "--time-limit", above_zero, text, metavar="S")
    add_number(group, "--ensemble", whole, "with a preset, number of networks to average; default as the preset says")
    group.add_argument(
        "--metric",
        metavar="NAME",
        help="with a preset, what answers are judged by: accuracy, balanced_accuracy, f1, mcc, auc, ap, logloss, "
        "brier; mae, rmse, r2; of two classes it also sets the threshold, on validation rows; default: none",
    )
    text = "with a preset, cross-validate in so many folds, too, and write predictions of unseen rows; default none"
    add_number(group, "--cv", several, text)


def add_keep(parser: Any) -> None:
    """Add --keep and --drop-missing-target."""
    group = parser.add_argument_group("rows of a table")
    text = "columns not to learn from, but to write beside predictions, such as an id; default none"
    group.add_argument("--keep", metavar="COLUMNS", help=text)
    group.add_argument(
        "--drop-missing-target",
        action="store_true",
        help="leave rows without a target out, which is an error by default",
    )


def add_data(
    group: Any, *, builtin: bool = True, command: str = "train", chooses: str = "chooses the best epoch"
) -> None:
    """Add the options of what is tested on and what chooses the epoch, and of the target."""
    add_number(group, "--test-size", share, "share of rows held out for the final score; default 0.2")
    group.add_argument("--test-file", metavar="FILE", help="take all rows of this file for the final score instead")
    group.add_argument(
        "--test-target", metavar="FILE", help="the y.npy that goes with --test-file X.npy; in an .npz file its array"
    )
    default = (
        f"{VALIDATION[command]:g}" if command == "search" else f"a fold for each network, else {VALIDATION[command]:g}"
    )
    text = f"share of the other rows that {chooses}, the same rows for all networks; default {default}"
    add_number(group, "--validation-size", share, text)
    if builtin:
        text = "folder with the MNIST files; default $XPNN_DATA, else a cache"
        group.add_argument("--data-dir", metavar="DIR", help=text)
        group.add_argument("--no-download", action="store_true", help="never fetch MNIST from its public mirrors")
    add_task(group)
    group.add_argument(
        "--class-weight",
        choices=["none", "balanced"],
        default="none",
        help="balanced: rare classes weigh more; default none",
    )


def add_rule(group: Any) -> None:
    """Add the options of loss, optimizer, learning rate and batch."""
    group.add_argument(
        "--loss", choices=["auto", *LOSSES], default="auto", help="for numbers; default auto: mse, of the scaled target"
    )
    text = f"{', '.join(OPTIMIZERS)}; default adamw"
    group.add_argument("--optimizer", metavar="NAME", choices=OPTIMIZERS, default="adamw", help=text)
    text = f"learning rate; default {default_of('lr')}; with sgd and momentum 100 times that, with adagrad 10 times, "
    add_number(group, "--lr", above_zero, text + "with lion a tenth")
    group.add_argument(
        "--schedule",
        metavar="NAME",
        choices=SCHEDULES,
        help=f"of the learning rate: {', '.join(SCHEDULES)}; default cosine",
    )
    text = "epochs of linear warm-up; default 5%% of all for files, else 0"
    add_number(group, "--warmup", at_least_zero, text, metavar="EPOCHS")
    rows = default_of("batch_size").replace("0;", "32 to 256, by the number of rows;")
    add_number(group, "--batch-size", whole, f"rows of a step; default {rows}")


def add_course(group: Any) -> None:
    """Add the options of how long training goes on, and of what holds the weights in check."""
    add_number(group, "--epochs", whole, f"passes over the data, at most; default {default_of('epochs')}")
    text = f"epochs without improvement before stopping; default {default_of('patience')}"
    add_number(group, "--patience", whole, text)
    text = f"strength of the decay of weights; default {default_of('weight_decay')}"
    add_number(group, "--weight-decay", at_least_zero, f"{text}; with rules other than adamw and lion 0")
    add_number(group, "--label-smoothing", share, "share of each label spread over all; default 0")
    add_number(group, "--clip-norm", above_zero, "largest norm of all gradients; default none")
    add_number(group, "--clip-value", above_zero, "largest absolute gradient; default none")
    text = "keep an average of the weights with this decay a step, such as 0.99; default 0: none"
    add_number(group, "--ema", share, text, metavar="D")
    text = "stop at the end of the epoch after so long; default never"
    add_number(group, "--max-seconds", above_zero, text, metavar="S")
    add_number(group, "--seed", int, "of splits, weights, shuffles and dropout; default 0", default=0)
