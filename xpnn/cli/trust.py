"""``xpnn gradcheck`` and ``xpnn parity``: are gradients right, and do backends agree?"""

from __future__ import annotations

import argparse
import contextlib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import losses, testing
from ..backend import Backend, get_backend
from ..checkpoint import build, read
from ..config import from_config, known_classes, reading
from ..differences import verdict
from ..errors import BackendUnavailableError, FileFormatError, OptionError
from ..layers import (
    Columns,
    Dropout,
    Embedding,
    Layer,
    Linear,
    MemberHead,
    MemberLinear,
    MemberScale,
    NumericalEmbedding,
    ParametricActivation,
    PReLU,
    Residual,
    Scale,
    get_activation,
)
from ..losses import Loss
from ..model import Sequential, mlp
from ..optim import SGD
from ..predictor import model_file, network_tensors
from ..random import stream
from .options import above_zero, add_json, add_number, print_json, whole

__all__ = ["add_commands"]

Make = Callable[[Backend], Sequential]


class _Case(NamedTuple):
    """A network, a loss, and rows to check them on."""

    name: str
    make: Make
    loss: Loss
    x: np.ndarray
    y: np.ndarray


def add_commands(commands: Any) -> None:
    """Add the two commands."""
    gradcheck = commands.add_parser(
        "gradcheck",
        usage="xpnn gradcheck [options]",
        help="compare hand-derived gradients with central differences",
        description="Compare the gradient of every parameter with central differences, in float64. Exit status 1 if "
        "one is suspicious or wrong.",
    )
    add_number(gradcheck, "--eps", above_zero, "distance of the differences; default 1e-5", default=1e-5)
    gradcheck.add_argument(
        "--backend", default="numpy", metavar="NAME", help="where to compute: numpy (default), cupy, torch, strict"
    )
    gradcheck.set_defaults(run=run_gradcheck)

    parity = commands.add_parser(
        "parity",
        usage="xpnn parity [options]",
        help="train on several backends and compare gradients and weights",
        description="Train on several backends from one seed and compare gradients and weights. Exit status 1 if they "
        "differ by more than rounding, 2 if there is nothing to compare.",
    )
    parity.add_argument(
        "--backends",
        default="numpy,cupy,torch,strict",
        metavar="NAMES",
        help="with commas; the first is the reference, those not usable here are skipped; default %(default)s",
    )
    add_number(parity, "--steps", whole, "training steps; default 10", default=10)
    parity.add_argument("--dtype", default="float32", metavar="NAME", help="float32 (default) or float64")
    parity.set_defaults(run=run_parity)

    for command in (gradcheck, parity):
        names = ", ".join(_BUILTIN)
        command.add_argument("--model", metavar="FILE", help="a network saved by xpnn.save or xpnn train")
        command.add_argument("--network", metavar="NAME", help=f"one built-in network instead of all: {names}")
        add_number(command, "--batch-size", whole, "rows; default 8", default=8)
        add_number(command, "--seed", int, "of weights and rows; default 0", default=0)
        add_json(command)


_ACTIVATIONS = ("relu", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "softplus", "sigmoid", "tanh")

# name: (maker of the network, from backend= and seed=; loss)
_BUILTIN: dict[str, tuple[Callable[..., Sequential], Loss]] = {
    "mlp-relu": (lambda **options: mlp([6, 16, 8, 3], "relu", **options), losses.CrossEntropy()),
    "mlp-tanh": (lambda **options: mlp([6, 16, 1], "tanh", **options), losses.MeanSquaredError()),
    "batch-norm": (
        lambda **options: mlp([6, 12, 12, 3], "gelu", norm="batch", **options),
        losses.CrossEntropy(label_smoothing=0.1),
    ),
    "layer-norm": (lambda **options: mlp([6, 12, 12, 2], "silu", norm="layer", **options), losses.BinaryCrossEntropy()),
    "rms-norm": (lambda **options: mlp([6, 12, 12, 3], "mish", norm="rms", **options), losses.Focal()),
    "dropout": (lambda **options: mlp([6, 16, 16, 1], "elu", dropout=0.3, **options), losses.Huber()),
    "residual": (
        lambda **options: mlp([6, 10, 10, 10, 3], "selu", residual=True, dropout=0.1, **options),
        losses.Pinball(),
    ),
    "prelu": (
        lambda **options: Sequential(Linear(8), PReLU(), Linear(8), PReLU(per_unit=True), Linear(2), n_in=6, **options),
        losses.PoissonNLL(),
    ),
    "embedding": (
        lambda **options: Sequential(
            Embedding(5, 3), Dropout(0.2), Linear(8), get_activation("tanh"), Linear(4), n_in=2, **options
        ),
        losses.Hinge(),
    ),
    "table": (
        lambda **options: Sequential(
            Columns((3, NumericalEmbedding(n_frequencies=4)), (1, Embedding(5, 3))),
            Scale(),
            Linear(8),
            ParametricActivation("mish"),
            Linear(3),
            n_in=6,
            **options,
        ),
        losses.CrossEntropy(label_smoothing=0.1),
    ),
    "members": (
        lambda **options: Sequential(
            MemberScale(3), MemberLinear(8, 3), get_activation("silu"), MemberHead(2, 3), n_in=6, **options
        ),
        losses.MemberMean(losses.CrossEntropy(), 3),
    ),
    "activations": (
        lambda **options: Sequential(
            *(Residual(Linear(6), get_activation(name)) for name in _ACTIVATIONS), Linear(3), n_in=6, **options
        ),
        losses.CrossEntropy(),
    ),
}


def _cases(args: argparse.Namespace) -> list[_Case]:
    if args.model and args.network:
        raise OptionError("--network: expected no --model beside it, got both. Leave one out.")
    if args.model:
        tensors, meta = read(model_file(args.model))
        if "network" not in meta:
            raise FileFormatError(f"{args.model} holds no network. Write it with xpnn.save or xpnn train.")
        with reading(args.command, "what xpnn.save writes", got=f"a bad entry in {args.model}"):
            config = meta["network"]
            saved = meta.get("extra", {}).get("predictor", {}).get("loss")
            several = config["layers"][-1].get("n_out", 1) > 1
            loss: Loss = losses.CrossEntropy() if several else losses.MeanSquaredError()
            if saved is not None:
                loss = from_config(saved, known_classes((losses, Loss)))
        return [_case(args.model, lambda backend: build(config, network_tensors(tensors), backend=backend), loss, args)]
    names = [args.network] if args.network else list(_BUILTIN)
    if names[0] not in _BUILTIN:
        raise OptionError(f"--network: expected one of {', '.join(_BUILTIN)}, got {names[0]!r}. Check the name.")

    def built_in(name: str) -> _Case:
        make, loss = _BUILTIN[name]
        return _case(name, lambda backend: make(backend=backend, seed=args.seed), loss, args)

    return [built_in(name) for name in names]


def _case(name: str, make: Make, loss: Loss, args: argparse.Namespace) -> _Case:
    """Draw rows and targets that fit the network and the loss."""
    net = make(get_backend("numpy"))
    rng = stream(args.seed, "check")
    rows, n_out = args.batch_size, loss.n_outputs(net.n_out)
    x = _inputs(net.layers[0], rows, net.n_in, rng)
    if isinstance(loss, losses.BinaryCrossEntropy):
        y: np.ndarray = rng.integers(0, 2, (rows, n_out)).astype(np.float64)
        y[0] = 1.0  # never one-hot
    elif loss.takes_labels and n_out > 1:
        y = rng.integers(0, n_out, rows)
    elif isinstance(loss, losses.Hinge):
        y = rng.integers(0, 2, (rows, n_out)) * 2.0 - 1.0
    elif isinstance(loss, losses.PoissonNLL):
        y = rng.poisson(2.0, (rows, n_out)).astype(np.float64)
    elif isinstance(loss, losses.Pinball):
        y = rng.standard_normal((rows, n_out // len(loss.quantiles)))
    else:
        y = rng.standard_normal((rows, n_out))
    return _Case(name, make, loss, x, y)


def _inputs(layer: Layer, rows: int, n_in: int, rng: np.random.Generator) -> np.ndarray:
    """Draw rows for a first layer: category numbers where it takes some."""
    if isinstance(layer, Embedding):
        return rng.integers(0, layer.n_categories, (rows, n_in))
    x = rng.standard_normal((rows, n_in))
    start = 0
    for n, own in layer.groups if isinstance(layer, Columns) else ():
        x[:, start : start + n] = _inputs(own, rows, n, rng)
        start += n
    return x


def _checked(args: argparse.Namespace, check: Callable[[_Case], Any]) -> list[tuple[_Case, Any]]:
    """Check each case, and print what comes out as it comes."""
    results = []
    for case in _cases(args):
        report = check(case)
        results.append((case, report))
        if not args.json:
            print(f"{case.name}: {case.loss}\n{report}\n")
    return results


def run_gradcheck(args: argparse.Namespace) -> int:
    """Check gradients and print a table for each network."""
    backend = get_backend(args.backend, "float64")

    def check(case: _Case) -> Any:
        net = case.make(backend)
        return testing.check_gradients(
            net, case.loss, case.x, case.y, eps=args.eps, check_input=not net.takes_integers, seed=args.seed
        )

    results = _checked(args, check)
    worst = max(report.max_rel_error for _, report in results)
    if args.json:
        print_json(
            {
                "backend": backend.spec,
                "verdict": verdict(worst),
                "max_rel_error": worst,
                "networks": [
                    {
                        "name": c.name,
                        "loss": str(c.loss),
                        "verdict": r.verdict,
                        "faulty": r.faulty,
                        "parameters": r.rows(),
                    }
                    for c, r in results
                ],
            }
        )
    else:
        print(f"{_count(results)} on {backend.spec}, largest relative error {worst:.1e}: {verdict(worst)}")
    return 1 if verdict(worst) in ("bug", "suspicious") else 0


def run_parity(args: argparse.Namespace) -> int:
    """Compare backends and print a table for each network."""
    names = _usable(args)
    options = {"backends": names, "steps": args.steps, "dtype": args.dtype}
    rule = functools.partial(SGD, lr=0.05, momentum=0.9)
    results = _checked(
        args, lambda case: testing.compare_backends(case.make, case.loss, rule, case.x, case.y, **options)
    )
    ok = all(report.ok for _, report in results)
    if args.json:
        print_json(
            {
                "ok": ok,
                "steps": args.steps,
                "dtype": args.dtype,
                "skipped": results[0][1].skipped,
                "networks": [
                    {"name": c.name, "loss": str(c.loss), "ok": r.ok, "parameters": r.rows, "losses": r.losses}
                    for c, r in results
                ],
            }
        )
    else:
        print(f"{_count(results)}: {'all backends agree' if ok else 'BACKENDS DIFFER'}")
    return 0 if ok else 1


def _usable(args: argparse.Namespace) -> tuple[str, ...]:
    """Return the backends to compare; refuse unknown ones, and a comparison of one backend with nothing."""
    names = tuple(dict.fromkeys(name.strip() for name in args.backends.split(",") if name.strip()))
    usable = []
    for name in names:
        with contextlib.suppress(BackendUnavailableError):
            get_backend(name, args.dtype)
            usable.append(name)
    if names[:1] != tuple(usable[:1]) or len(usable) < 2:
        raise OptionError(
            f"--backends: expected a reference and one more that can be used here, got {args.backends}, of which "
            f"{', '.join(usable) or 'none'} can. `xpnn doctor` tells what the others need."
        )
    return names


def _count(results: list[Any]) -> str:
    return "1 network" if len(results) == 1 else f"{len(results)} networks"
