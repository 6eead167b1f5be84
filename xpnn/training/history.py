"""What happened in each epoch."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import OptionError
from ..files import PathLike, atomic_path

__all__ = ["History", "missing_column", "will_miss"]


class History:
    """One row for each epoch, of plain Python numbers.

    Attributes
    ----------
    rows : list of dict
        ``epoch`` (from 1), ``loss``, the metrics, ``val_…`` of each where there are validation data, ``lr`` (at
        the epoch's last step), ``grad_norm`` (Euclidean norm of all gradients at the epoch's last step, before
        clipping), ``penalty`` (the regularizer's, at the last step), ``seconds``.  For replicas a value is the
        mean, and ``…_replicas`` holds the list.
    restored : bool
        Whether the weights of the best epoch came back after the last one, by `xpnn.EarlyStopping`.

    Examples
    --------
    >>> history = History()
    >>> history.append({"epoch": 1, "loss": 0.5})
    >>> history["loss"], len(history)
    ([0.5], 1)
    """

    restored: bool = False

    def __init__(self, rows: list[dict[str, Any]] | None = None) -> None:
        self.rows: list[dict[str, Any]] = rows if rows is not None else []

    def append(self, row: dict[str, Any]) -> None:
        """Add the row of one epoch."""
        self.rows.append(row)
        self.restored = False

    @property
    def names(self) -> list[str]:
        """The columns, in the order in which they first appeared."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def __getitem__(self, name: str) -> list[Any]:
        values = [row[name] for row in self.rows if name in row]
        if not values and self.rows:
            raise OptionError(
                f"History: expected one of {', '.join(self.names)}, got {name!r}. "
                "Choose one of these; columns of validation need validation data in fit."
            )
        return values

    def __contains__(self, name: object) -> bool:
        return any(name in row for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def to_csv(self, path: PathLike) -> None:
        """Write all rows as CSV, to a temporary name first."""
        with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=self.names, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)

    def to_json(self, path: PathLike) -> None:
        """Write all rows as a JSON list, to a temporary name first."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(self.rows, indent=1))

    def __repr__(self) -> str:
        if not self.rows:
            return "History(no epochs)"
        last = ", ".join(f"{k}={v:.4g}" for k, v in self.rows[-1].items() if isinstance(v, float) and k != "seconds")
        return f"History({len(self)} epochs; last: {last})"


def will_miss(name: str, columns: Iterable[str]) -> bool:
    """Whether a fit with these columns cannot bring `name`: only validation brings ``val_…``."""
    return name.startswith("val_") and name not in columns


def missing_column(asker: object, name: str, columns: Iterable[str]) -> OptionError:
    """Return the error of one who follows a column that is not there."""
    return OptionError(
        f"{type(asker).__name__}: expected a column {name!r}, got {', '.join(columns)}. "
        "Pass X_val and y_val (or validation_fraction) to fit, or choose monitor=."
    )
