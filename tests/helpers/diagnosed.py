"""Run a script, and write what `xpnn.diagnose` finds in each of its trainings into a file, a line each.

Run: python tests/helpers/diagnosed.py FILE SCRIPT [OPTIONS]
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np

import xpnn


def main() -> None:
    """Put a diagnosis behind `Trainer.fit`, then be the script."""
    target, script = Path(sys.argv[1]).resolve(), sys.argv[2]
    fit = xpnn.Trainer.fit

    def fit_and_diagnose(trainer: xpnn.Trainer, X: Any, *args: Any, **options: Any) -> xpnn.History:
        history = fit(trainer, X, *args, **options)
        found = xpnn.diagnose(history, trainer.net, X[:300] if isinstance(X, np.ndarray) else None)
        with target.open("a", encoding="utf-8") as file:
            file.write(json.dumps([len(history), {finding.name: finding.evidence for finding in found}]) + "\n")
        return history

    xpnn.Trainer.fit = fit_and_diagnose  # type: ignore[method-assign]
    sys.argv = sys.argv[2:]
    sys.path[0] = str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
