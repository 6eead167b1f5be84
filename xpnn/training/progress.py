"""Progress where a person reads it: a bar in a terminal, a widget in a notebook, lines in a log file."""

from __future__ import annotations

import inspect
import os
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any, TextIO

from ..arguments import suggest
from ..errors import OptionError
from ..optional import needs
from .callbacks import Callback

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["ProgressBar", "open_bar"]

# A log file gets about so many lines of a fit, and more of a long one: one at least every so many seconds.
_LINES, _EVERY = 10, 30.0
_NO_METRICS = ("epoch", "lr", "grad_norm", "seconds")


class ProgressBar(Callback):
    """Show epochs, loss and metrics as they come.

    In a terminal a bar rewrites its own line; in a notebook it is a widget, or the same bar as text without
    ipywidgets; in a file or a pipe, where nothing can be rewritten, there are whole lines: the first epoch, each
    tenth of the epochs planned, the last, and one more where 30 seconds have passed.  All but the widget goes to
    stderr.  A fit within a fit has a bar of its own, below the other.

    Parameters
    ----------
    **options
        For ``tqdm.tqdm``, such as ``file``, ``desc`` (a name before the bar), ``leave=False``, or ``mininterval``
        (least seconds between two looks).  Lines heed these but ``leave``, also ``maxinterval``, the seconds
        after which there is one in any case, and ``disable``, where None means: no lines.

    Raises
    ------
    OptionError
        At the beginning of a fit, if tqdm has no such option.

    Examples
    --------
    >>> import sys, xpnn
    >>> trainer = xpnn.Trainer(xpnn.mlp([2, 2]), xpnn.CrossEntropy(), xpnn.SGD(0.0), metrics=())
    >>> trainer.callbacks.append(ProgressBar(file=sys.stdout, desc="moons"))
    >>> _ = trainer.fit(*xpnn.data.make_moons(100, seed=0), epochs=2)  # doctest: +ELLIPSIS
    moons: epoch 1/2: loss=0.6623 [...<...]
    moons: epoch 2/2: loss=0.6623 [...<...]
    """

    on_every_rank = False

    def __init__(self, **options: Any) -> None:
        self.options = options
        self._bar: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_bar": None}  # of a terminal

    def on_fit_begin(self, trainer: Trainer) -> None:
        self._bar = open_bar(self.options, trainer.epochs_planned, trainer.epoch)

    def on_epoch_end(self, trainer: Trainer) -> None:
        row = trainer.history.rows[-1]
        values = {
            name: f"{value:.4g}" for name, value in row.items() if name not in _NO_METRICS and isinstance(value, float)
        }
        self._bar.set_postfix(values, refresh=False)
        self._bar.update(1)

    def on_fit_end(self, trainer: Trainer) -> None:
        bar = self._bar
        shown = not bar.disable  # close() sets it
        if trainer.stop_reason and hasattr(bar, "container"):
            bar.total = bar.n  # a widget that ends early turns red, as after an error
        bar.close()
        if shown and trainer.stop_reason:
            bar.write(f"Stopped after epoch {trainer.epoch}: {trainer.stop_reason}.", file=bar.fp)


def open_bar(options: dict[str, Any], total: int, initial: int) -> Any:
    """Return the bar, the widget or the lines that suit the place they are to appear in."""
    with needs("tqdm", "ProgressBar"):
        from tqdm.std import TqdmWarning, tqdm

    known = [name for name in inspect.signature(tqdm.__init__).parameters if name not in ("self", "kwargs")]
    for name in options:
        if name not in known:
            raise OptionError(f"ProgressBar: expected options of tqdm, got {name!r}. {suggest(name, known)}")
    stream = options.get("file") or sys.stderr
    if stream is sys.stderr and _in_notebook():
        with warnings.catch_warnings():
            # Without ipywidgets tqdm takes the text bar, which does here; nobody needs a warning of it.
            warnings.simplefilter("ignore", TqdmWarning)
            from tqdm.auto import tqdm
    elif not stream.isatty():
        return _Lines(stream, options, total, initial)
    width: dict[str, Any] = {"ncols": 80} if _has_no_width(stream) else {"dynamic_ncols": True}
    return tqdm(total=total, initial=initial, **{"unit": "epoch", **width, **options})


def _has_no_width(stream: TextIO) -> bool:
    """Whether a terminal says that it has no columns, as some of containers do: tqdm would show nothing."""
    try:
        return os.get_terminal_size(stream.fileno()).columns == 0
    except (OSError, AttributeError, ValueError):  # no file of the system behind it
        return False


def _in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this: not so in a terminal's IPython."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in getattr(shell, "config", {})


class _Lines:
    """The methods of tqdm that `ProgressBar` calls, for a stream on which nothing can be rewritten."""

    def __init__(self, stream: TextIO, options: dict[str, Any], total: int, initial: int) -> None:
        self.fp, self.total, self.n = stream, total, initial
        self.disable: bool = options.get("disable", False) in (True, None)
        self._name = f"{options['desc']}: " if options.get("desc") else ""
        self._least, self._most = options.get("mininterval", 0.0), options.get("maxinterval", _EVERY)
        self._initial = self._shown = initial
        self._stride = max((total - initial) // _LINES, 1)
        self._began = self._shown_at = time.monotonic()
        self._values = ""

    def set_postfix(self, values: dict[str, str], *, refresh: bool) -> None:
        """Note what the next line tells."""
        self._values = ", ".join(f"{name}={value}" for name, value in values.items())

    def update(self, n: int) -> None:
        """Count epochs, and write a line if it is time."""
        self.n += n
        done, waited = self.n - self._initial, time.monotonic() - self._shown_at
        due = done == n or done % self._stride == 0 or waited >= self._most
        if due and (waited >= self._least or done == n):
            self._line()

    def close(self) -> None:
        """Write the last epoch, if it was not."""
        if self.n > self._shown:
            self._line()
        self.disable = True

    def _line(self) -> None:
        from tqdm.std import tqdm

        now = time.monotonic()
        took = now - self._began
        left = took / (self.n - self._initial) * (self.total - self.n)
        clock = f"{tqdm.format_interval(took)}<{tqdm.format_interval(left)}"
        if not self.disable:
            self.write(f"{self._name}epoch {self.n}/{self.total}: {self._values} [{clock}]", file=self.fp)
        self._shown, self._shown_at = self.n, now

    def write(self, text: str, *, file: TextIO) -> None:
        """Write a whole line at once, and flush: a log is read while it grows."""
        file.write(text + "\n")
        file.flush()
