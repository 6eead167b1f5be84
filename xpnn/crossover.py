"""From what size on a GPU pays: measured on a machine by ``xpnn bench``, read by ``backend="auto"``.

The work of a training step is counted in multiply-adds of its matrix products, three for each parameter and row:
forward, gradient to the weights, gradient to the inputs.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite, log, sqrt
from pathlib import Path

from .errors import FileFormatError
from .files import PathLike, atomic_path, parse_json
from .optional import needs

__all__ = ["TYPICAL_BATCH", "Crossover", "best_threshold", "crossover_path", "mlp_params", "work_of"]

# Rows of a step where nobody has said yet how many there will be.
TYPICAL_BATCH = 128


def mlp_params(widths: Sequence[int]) -> int:
    """Return the number of weights and biases of a perceptron with `widths` from input to output.

    Examples
    --------
    >>> mlp_params([784, 256, 128, 10])
    235146
    """
    return sum((a + 1) * b for a, b in itertools.pairwise(widths))


def work_of(n_params: int, batch_size: int = TYPICAL_BATCH) -> float:
    """Return the multiply-adds of one training step; the parameters are those of all replicas together.

    Examples
    --------
    >>> work_of(235_146)
    90296064.0
    """
    return 3.0 * n_params * batch_size


def crossover_path() -> Path:
    """Return where the rule of this machine and user is kept."""
    with needs("pooch", "crossover"):
        import pooch

    return Path(pooch.os_cache("xpnn")) / "crossover.json"


@dataclass(frozen=True)
class Crossover:
    """A rule: steps of at least `work` multiply-adds go to the GPU."""

    work: float  # infinity where the processor won at every size
    device: str  # the GPU it was measured on
    measured: str  # when, such as "2026-11-21"

    def prefers_gpu(self, work: float) -> bool:
        """Whether a step of so much work goes to the GPU."""
        return work >= self.work

    def sentence(self, work: float) -> str:
        """Say in one line what was chosen, and why."""
        side = "the GPU" if self.prefers_gpu(work) else "the processor"
        pays = f"pays from {self.work:.2g} on" if isfinite(self.work) else "paid at no size"
        return f"{side}: a step has {work:.2g} multiply-adds, and {self.device} {pays} (xpnn bench, {self.measured})"

    def save(self, path: PathLike | None = None) -> Path:
        """Keep the rule for ``backend="auto"``; return the file."""
        file = crossover_path() if path is None else Path(path)
        with atomic_path(file) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        return file

    @classmethod
    def load(cls, path: PathLike | None = None) -> Crossover | None:
        """Return the rule that was kept, or None; raise FileFormatError if the file holds something else."""
        file = crossover_path() if path is None else Path(path)
        try:
            found = parse_json(file.read_text(encoding="utf-8"))
            return cls(float(found["work"]), str(found["device"]), str(found["measured"]))
        except FileNotFoundError:
            return None
        except (ArithmeticError, OSError, ValueError, KeyError, TypeError) as error:
            raise FileFormatError(
                f"backend 'auto': expected the rule of xpnn bench in {file}, got something else ({error!r}). "
                "Run `xpnn bench` again, or delete the file."
            ) from error


def best_threshold(work: Sequence[float], cpu: Sequence[float], gpu: Sequence[float]) -> float:
    """Return the amount of work from which the GPU should be taken, from the work of steps and their seconds on both.

    Of all thresholds it is the one that loses least: the sum of log(time taken / best time) over all that was
    measured.  Between two measured amounts it is their geometric mean; it is 0 where the GPU always wins, infinity
    where it never does.

    Examples
    --------
    >>> best_threshold([1.0, 100.0, 10000.0], [1, 2, 50], [10, 3, 5])
    1000.0
    """
    rows: list[tuple[float, float, float]] = sorted(zip(work, cpu, gpu, strict=True))
    places = [0.0] + [sqrt(a[0] * b[0]) for a, b in itertools.pairwise(rows)] + [float("inf")]

    def lost(threshold: float) -> float:
        return float(sum(log((g if w >= threshold else c) / min(c, g)) for w, c, g in rows))

    return min(places, key=lost)
