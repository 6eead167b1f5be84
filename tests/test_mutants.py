"""A sample of what `ci/mutants.py` does: files of every format are damaged, and refused or as they were."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter

import pytest
from places import PROJECT

pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'xpnn[plots]'")
pytest.importorskip("jinja2", reason="needs Jinja2: pip install 'xpnn[report]'")
resource = pytest.importorskip("resource", reason="needs a POSIX system")

SPEC = importlib.util.spec_from_file_location("mutants", PROJECT / "ci" / "mutants.py")
mutants = sys.modules[SPEC.name] = importlib.util.module_from_spec(SPEC)  # results come back by its name
SPEC.loader.exec_module(mutants)


@pytest.mark.filterwarnings("ignore")
def test_a_sample_of_mutants_of_every_format():
    results = mutants.run(130, seed=0, workers=1)
    assert mutants.faults(results) == []
    counts = Counter(result.outcome for result in results)
    assert counts.total() == 130
    assert counts["refused"] > 80, counts


def test_faults_are_told(monkeypatch):
    """The checker itself: an exception of another kind, one line, time, memory, and what acts differently."""

    def use(path):
        return {b"a": "a", b"b": "b"}.get(path.read_bytes()) or exec(path.read_bytes().decode())

    monkeypatch.setattr(mutants, "SECONDS", 0.2)
    monkeypatch.setattr(mutants, "MEGABYTES", 60)
    file = PROJECT / "pyproject.toml"  # only its name
    given = mutants.Format(file, use, ())
    refuse = b"from xpnn.errors import DataError; raise DataError({!r})"
    for raw, outcome in (
        (b"a", "same"),
        (b"b", "different"),
        (b"1 / 0", "foreign"),
        (b"import time; t = time.process_time()\nwhile time.process_time() < t + 0.3: pass", "slow"),
        (b"x = bytearray(b'x' * (100 << 20))", "large"),
        (refuse.replace(b"{!r}", b"'no'"), "refused"),
        (refuse.replace(b"{!r}", b"'no\\n'"), "foreign"),
    ):
        assert mutants.attempt(given, raw, "a")[0] == outcome, raw
