"""Make docs/course/mistakes.md: usual mistakes in the exercises of the course, and what the check says of each.

Run: python ci/make_mistakes.py
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

from mistakes_of_lessons import COURSE, render

if __name__ == "__main__":
    (COURSE / "mistakes.md").write_text(render(), encoding="utf-8")
