"""Networks of any shape, for tests that write them in another format."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

#: Gives a test `sizes`, `activation`, `norm`, `residual` and `replicas` of `xpnn.mlp`.
any_network = given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    activation=st.sampled_from(["relu", "tanh", "gelu", "selu", "prelu", "mish"]),
    norm=st.sampled_from([None, "batch", "layer", "rms"]),
    residual=st.booleans(),
    replicas=st.sampled_from([None, 1, 3]),
)
