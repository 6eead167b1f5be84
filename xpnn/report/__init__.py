"""One HTML page of a run, to read and to send: complete in itself, from what ``xpnn train`` left in a folder.

`collect_evidence` takes from the scored rows, while they are there, what a page needs of them: the mistakes, a
sample of predictions, the diagnosis; baselines, calibration, importance of columns, and groups of rows. `read_run`
reads a folder, `write_report` makes a page of one run and `write_comparison` one of several, `write_card` a model card
in Markdown. No training data are needed any more.

Pages are made by Jinja2 and matplotlib, which are imported when the first page is.
"""

from .card import run_of_card, write_card
from .comparison import write_comparison
from .evidence import Trained, collect_evidence
from .page import check_requirements, write_report
from .quality import comparison_of, comparison_table
from .run import Run, read_run

__all__ = [
    "Run",
    "Trained",
    "check_requirements",
    "collect_evidence",
    "comparison_of",
    "comparison_table",
    "read_run",
    "run_of_card",
    "write_card",
    "write_comparison",
    "write_report",
]
