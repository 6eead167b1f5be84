"""Networks and names for the tests of what leaves xpnn."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

import xpnn
from xpnn.data import TableEncoder
from xpnn.data.targets import ClassTarget, NumberTarget

#: Names that would be code, if they left their quotes.
HOSTILE = [
    "int", "a b", "a-b", "A B", "*/ int x; /*", "//", "??/", 'say "hi"', "back\\", "line\nbreak #error", "日本", "NAN",
    "errno", "__x", "9 lives", "", "row", "out", "f", "v1", "i", "%s %n", "'); drop", "${x}", "size_m2", "size (m²)",
    "x" * 300,
]  # fmt: skip


def shaken(net, seed=0):
    """The network with other values everywhere, so that nothing is hidden by ones and zeros."""
    rng = np.random.default_rng(seed)
    state = {name: 0.5 * rng.standard_normal(array.shape) for name, array in net.state_dict().items()}
    net.load_state_dict({name: np.abs(array) + 0.1 if "var" in name else array for name, array in state.items()})
    return net


WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=6).filter(
    lambda text: text.strip() == text and text != "NaT"
)


@st.composite
def predictors(draw):
    """A predictor that was never trained on a table of columns of any kind, and the table."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    n, table = 40, {}
    kinds = st.sampled_from(["real", "few", "truth", "text", "code", "date"])
    for k, kind in enumerate(draw(st.lists(kinds, min_size=1, max_size=5))):
        name = draw(WORDS) + str(k)
        if kind == "real":
            numbers = rng.standard_normal(n) * 10.0 ** draw(st.integers(-6, 12)) + draw(st.integers(-1000, 1000))
            table[name] = np.where(rng.random(n) < draw(st.sampled_from([0.0, 0.2])), np.nan, numbers)
        elif kind == "few":
            table[name] = rng.integers(-2, 3, n)
        elif kind == "truth":
            table[name] = rng.random(n) < 0.5
        elif kind == "date":
            days = rng.integers(0, 10 ** draw(st.integers(2, 9)), n).astype("timedelta64[s]")
            table[name] = np.datetime64("1931-03-01") + days
        else:
            levels = WORDS if kind == "text" else st.integers(0, 99).map(str)
            words = draw(st.lists(levels, min_size=2, max_size=8, unique=True))
            table[name] = rng.choice(np.array([*words, None], dtype=object), n)
    table["always"] = np.arange(n) * 0.5
    text = [name for name, column in table.items() if column.dtype == object]
    encoder = TableEncoder(
        bins=draw(st.sampled_from([0, 2, "auto"])),
        clip=draw(st.sampled_from([None, 3.0])),
        min_count=draw(st.integers(1, 6)),
        max_categories=draw(st.integers(2, 6)),
        values_first=draw(st.booleans()),
        categorical=text,
    ).fit(table)
    labels = draw(st.lists(WORDS, min_size=2, max_size=4, unique=True))
    n_in = len(encoder.feature_names_out)
    if draw(st.booleans()):
        target, n_out, loss = ClassTarget().fit(labels * 10), len(labels), xpnn.CrossEntropy()
        more = {"temperature": draw(st.sampled_from([None, 0.5])), "threshold": draw(st.sampled_from([None, 0.3]))}
    else:
        target, n_out, loss, more = NumberTarget().fit(rng.standard_normal(n) * 1000.0), 1, xpnn.Huber(), {}
    net = shaken(xpnn.mlp([n_in, 5, n_out], draw(st.sampled_from(["relu", "silu", "selu"]))), seed)
    return xpnn.Predictor(net, loss, target, encoder, **more), table
