"""What makes recorded steps, the question whether they may be recorded, and how the answer is given."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any, NamedTuple, Protocol, runtime_checkable

from ... import recordable
from ...layers.base import walk
from ...recordable import RecordingMode, is_own
from ..epoch import Epoch
from ..feed import Indices
from ..step import StepTable, Training

__all__ = ["STAGE_ELEMENTS", "Plan", "ReadyRunner", "Runner", "SlowWay", "objection", "report"]

#: Elements of the inputs of one stage of steps.
STAGE_ELEMENTS = 1 << 24

_LOG = logging.getLogger("xpnn")


class Runner(Protocol):
    """Makes steps as they were recorded, or finds that it cannot."""

    def end(self) -> Runner | None:
        """Let go of what belongs to one fit; return what may serve the next."""

    def run(self, epoch: Epoch) -> int:
        """Make the steps of an epoch from the first on, and return how many; the rest are to be made one by one."""


@runtime_checkable
class ReadyRunner(Runner, Protocol):
    """One that can bring the first rows and numbers of an epoch while a device works on the epoch before."""

    def make_ready(self, epoch: Epoch, order: Indices | None, table: StepTable) -> None:
        """Make ready for what comes after an `epoch`; it counts if the next has this very `table`."""


class Plan(NamedTuple):
    """A fit that is about to begin."""

    epochs: int
    batch_size: int
    n: int  #: rows
    width: int  #: of a row
    weighted: bool  #: whether rows have weights
    requested: bool  #: whether `graph=True` requests recording: to warn where it cannot be done, and not only to log


class SlowWay(NamedTuple):
    """What happens to steps that are not recorded, in words, and how loudly to log it."""

    text: str
    level: int


def objection(training: Training, mode: RecordingMode) -> str | None:
    """Return why steps cannot be recorded, as the first part says that has something against it."""
    net = training.net
    parts: list[Any] = [*training.callbacks, training, training.regularizer, *walk(net.layers), net]
    parts += [training.loss, training.optimizer, *training.metrics]
    return recordable.objection(parts, mode)


def report(slow: SlowWay, why: str, *, loud: bool) -> None:
    """Warn, in the name of the line outside xpnn that trains, or log why steps are not recorded."""
    if not loud:
        _LOG.log(slow.level, "fit: %s: %s", slow.text, why)
        return
    depth, frame = 1, sys._getframe()
    while frame.f_back is not None and is_own(frame.f_globals.get("__name__")):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(f"fit: {slow.text}: {why}.", RuntimeWarning, stacklevel=depth)
