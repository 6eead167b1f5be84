"""From the names in a configuration to a trainer: of one network, or of several on the replica axis."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ..arguments import check_seed, constructor, count, is_count, number, suggest
from ..backend import Backend
from ..errors import OptionError
from ..losses import Loss
from ..metrics import Metric
from ..model import mlp
from ..optim import SGD, AdaGrad, Adam, AdamW, Lion, Momentum, Muon, NAdam, Optimizer, RMSProp
from ..regularizers import Regularizer
from ..schedules import Schedule
from ..training import Trainer

__all__ = ["BATCH_SIZE", "OPTIMIZERS", "Common", "Plan", "build", "read"]

#: By their names in small letters.
OPTIMIZERS: dict[str, type[Optimizer]] = {
    rule.__name__.lower(): rule for rule in (SGD, Momentum, RMSProp, AdaGrad, Adam, AdamW, NAdam, Lion, Muon)
}
_SHAPE = ("hidden", "width", "n_layers")
_NETWORK = ("activation", "norm", "residual", "init")
_TRAINING = ("schedule", "regularizer", "clip_norm", "clip_value")
_OTHER = ("dropout", "seed", "optimizer", "batch_size")
_HIDDEN = (64,)
BATCH_SIZE = 128  # that of Trainer.fit

T = TypeVar("T", bound=Trainer)


@dataclass(frozen=True)
class Common:
    """What all networks of a search share; `seed` is the trainers': order of the rows and validation split."""

    n_in: int
    n_out: int
    loss: Loss
    metrics: Sequence[str | Metric]
    seed: int
    backend: str | Backend
    dtype: str | None


@dataclass(frozen=True)
class Plan:
    """A configuration with every name understood and every default filled in.

    `hidden` and `rates` are the widths of the hidden layers and the dropout after each; `network`, `training` and
    `rule_options` are further options of `mlp`, `Trainer` and the optimizer.  `lr` and `weight_decay` are the two
    options of the optimizer that replicas may have one each.
    """

    hidden: tuple[int, ...]
    rates: tuple[float, ...]
    seed: int
    network: dict[str, Any]
    training: dict[str, Any]
    rule: type[Optimizer]
    lr: float
    weight_decay: float
    rule_options: dict[str, Any]
    batch_size: int

    @property
    def pattern(self) -> tuple[bool, ...]:
        """Which hidden layers are followed by dropout."""
        return tuple(rate > 0 for rate in self.rates)

    @property
    def alone(self) -> bool:
        """Whether it cannot share a trainer: its schedule or its penalty goes by what one network does."""
        schedule, penalty = self.training.get("schedule"), self.training.get("regularizer")
        watches = schedule is not None and schedule.watches is not None
        return watches or (penalty is not None and type(penalty).state is not Regularizer.state)

    @property
    def key(self) -> tuple[Any, ...]:
        """What must be equal in networks that are trained together."""
        options = {**self.network, **self.training, **self.rule_options}
        return (self.hidden, self.rule, self.batch_size, *((name, _sign(options[name])) for name in sorted(options)))


def _sign(value: Any) -> Any:
    """Return what equal options have in common: for objects of classes not xpnn's, whose text may not tell all, the id.

    The configurations live as long as the search, so no id comes twice.
    """
    if isinstance(value, list | tuple):
        return tuple(_sign(item) for item in value)
    own = value is None or isinstance(value, str | int | float) or type(value).__module__.startswith("xpnn.")
    return repr(value) if own else id(value)


def read(given: Mapping[str, Any]) -> Plan:
    """Understand a configuration, and try its options out; refuse what is not known before anything is trained."""
    rule = _rule(given.get("optimizer", "adam"))
    of_rule = list(constructor(rule))
    known = (*_SHAPE, *_NETWORK, *_OTHER, *_TRAINING, *of_rule)
    for name in given:
        if name not in known:
            hint = suggest(name, known)
            if name in {n for other in OPTIMIZERS.values() for n in constructor(other)}:
                hint = f"It is an option of other optimizers than {rule.__name__}."
            raise OptionError(f"search: expected names among {', '.join(known)}, got {name!r}. {hint}")
    hidden = _hidden(given)
    seed = check_seed(given.get("seed", 0), "search", "List several: 'seed': [0, 1, 2].")
    schedule, penalty = given.get("schedule"), given.get("regularizer")
    if schedule is not None and not isinstance(schedule, Schedule):
        raise OptionError(f"search: expected schedule to be an object, got {schedule!r}. Try xpnn.CosineDecay().")
    if penalty is not None and not isinstance(penalty, Regularizer):
        raise OptionError(f"search: expected regularizer to be an object, got {penalty!r}. Try xpnn.L2(1e-4).")
    plan = Plan(
        hidden,
        _rates(given.get("dropout", 0.0), len(hidden)),
        seed,
        {name: given[name] for name in _NETWORK if name in given},
        {name: given[name] for name in _TRAINING if name in given},
        rule,
        _number(given, "lr", rule),
        _number(given, "weight_decay", rule),
        {name: given[name] for name in of_rule if name in given and name not in ("lr", "weight_decay")},
        count(given.get("batch_size", BATCH_SIZE), "search", "batch_size"),
    )
    _optimizer([plan], replicated=False)
    return plan


def build(
    plans: Sequence[Plan],
    common: Common,
    *,
    replicated: bool,
    pattern: Sequence[bool] | None = None,
    kind: type[T],
    **training: Any,
) -> T:
    """Return a fresh trainer, of class `kind`, of networks of one key: a single one unless `replicated`.

    `pattern` says which hidden layers are followed by dropout, where another network of the group needs it; options of
    the trainer in `training` win over the plan's.
    """
    first = plans[0]
    dropout: list[Any] = []
    for i, dropped in enumerate(first.pattern if pattern is None else pattern):
        rates = [plan.rates[i] for plan in plans]
        dropout.append((rates if replicated else rates[0]) if dropped else 0.0)
    net = mlp(
        [common.n_in, *first.hidden, common.n_out],
        dropout=dropout,
        backend=common.backend,
        dtype=common.dtype,
        seed=[plan.seed for plan in plans] if replicated else first.seed,
        **first.network,
    )
    options = {**first.training, **training}
    if "regularizer" in options:  # it may keep vectors of its network: each trainer gets its own
        options["regularizer"] = copy.deepcopy(options["regularizer"])
    rule = _optimizer(plans, replicated=replicated)
    return kind(net, common.loss, rule, metrics=common.metrics, seed=common.seed, **options)


def _optimizer(plans: Sequence[Plan], *, replicated: bool) -> Optimizer:
    first = plans[0]
    options = dict(first.rule_options)
    for name in ("lr", "weight_decay"):
        values = [getattr(plan, name) for plan in plans]
        if name in constructor(first.rule):
            options[name] = values if replicated else values[0]
    return first.rule(**options)


def _rule(given: Any) -> type[Optimizer]:
    if isinstance(given, type) and issubclass(given, Optimizer):
        return given
    if not isinstance(given, str) or given not in OPTIMIZERS:
        raise OptionError(
            f"search: expected optimizer to be one of {', '.join(OPTIMIZERS)}, or a class, got {given!r}. "
            f"{suggest(given, OPTIMIZERS)}"
        )
    return OPTIMIZERS[given]


def _hidden(given: Mapping[str, Any]) -> tuple[int, ...]:
    if "hidden" in given and ("width" in given or "n_layers" in given):
        raise OptionError("search: expected hidden, or width and n_layers, got both. Leave one of the two out.")
    if "hidden" not in given:
        if "n_layers" in given and "width" not in given:
            raise OptionError("search: expected width beside n_layers, got n_layers alone. Try 'width': 64.")
        if "width" not in given:
            return _HIDDEN
        return (count(given["width"], "search", "width"),) * count(given.get("n_layers", 1), "search", "n_layers")
    widths = given["hidden"]
    widths = (widths,) if is_count(widths) else widths
    if not isinstance(widths, Sequence) or not all(map(is_count, widths)):
        raise OptionError(
            f"search: expected hidden to be the widths of the hidden layers, got {widths!r}. "
            "Try (64, 32), in a list of several such."
        )
    return tuple(int(width) for width in widths)


def _rates(given: Any, hidden: int) -> tuple[float, ...]:
    rates = tuple(given) if isinstance(given, list | tuple) else (given,) * hidden
    if len(rates) != hidden:
        raise OptionError(
            f"search: expected one dropout, or one for each of {hidden} hidden layers, got {given!r}. Pass one for all."
        )
    if not all(0 <= number(rate) < 1 for rate in rates):
        raise OptionError(
            f"search: expected 0 <= dropout < 1 (the share of units dropped), got {given!r}. "
            "List several in the space: 'dropout': [0.0, 0.2]."
        )
    return tuple(float(rate) for rate in rates)


def _number(given: Mapping[str, Any], name: str, rule: type[Optimizer]) -> float:
    options = inspect.signature(rule).parameters
    value = given.get(name, options[name].default if name in options else 0.0)
    if not 0 <= number(value) < float("inf"):
        raise OptionError(
            f"search: expected {name} >= 0 and finite, one number a configuration, got {value!r}. "
            f"List several in the space: '{name}': [...]."
        )
    return float(value)
