"""Networks and names for the tests of what leaves xpnn."""

from __future__ import annotations

import numpy as np

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
