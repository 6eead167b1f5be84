"""Networks to PyTorch and back: values, gradients and one step of an optimizer, against PyTorch itself."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from cases import LAYERS
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnn
from xpnn.errors import OptionError, ShapeError, XpnnError
from xpnn.interop.torch import param_groups, to_torch

torch = pytest.importorskip("torch", reason="needs torch: pip install torch")
nn = torch.nn

TOLERANCE = {"float64": 1e-10, "float32": 2e-5}
EPS = 1e-2  # of Adam: gradients that are rounding noise would move by their signs alone
OPTIMIZERS = {
    "SGD": (lambda: xpnn.SGD(0.1, weight_decay=0.01), lambda groups: torch.optim.SGD(groups)),
    "Adam": (lambda: xpnn.Adam(0.1, eps=EPS, weight_decay=0.01), lambda groups: torch.optim.Adam(groups, eps=EPS)),
    "AdamW": (lambda: xpnn.AdamW(0.1, eps=EPS, weight_decay=0.01), lambda groups: torch.optim.AdamW(groups, eps=EPS)),
}


def spread(net: xpnn.Sequential) -> xpnn.Sequential:
    """Move all values off those that they begin with, among them scales of 1 and shifts of 0."""
    rng = np.random.default_rng(7)
    for view in net.params.values():
        view += 0.2 * rng.normal(size=view.shape)
    for name, view in net.store.named_buffers.items():
        view[...] = rng.uniform(0.5, 2.0, view.shape) if name.endswith("var") else rng.normal(size=view.shape)
    return net


def as_ours(model, name: str, tensor) -> np.ndarray:
    """Return a value or gradient as xpnn has it."""
    array = tensor.detach().numpy()
    return array.T if isinstance(model.get_submodule(name.rpartition(".")[0]), nn.Linear) else array


def close(found, expected, tolerance):
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * max(1.0, np.abs(expected).max()))


ROWS = np.random.default_rng(0).normal(size=(6, 5))


def check_step(net, model, x, groups, optimizers, dtype):
    """Compare outputs in prediction, then outputs, gradients and moved values of one step."""
    tolerance, dtype_there = TOLERANCE[dtype], getattr(torch, dtype)
    there = torch.tensor(x) if net.takes_integers else torch.tensor(x, dtype=dtype_there)
    here = x if net.takes_integers else x.astype(dtype)
    with torch.no_grad():
        close(net.predict(here), model.eval()(there).numpy(), tolerance)
    dy = np.random.default_rng(1).normal(size=(len(x), net.n_out)).astype(dtype)
    model.train()
    y, caches = net.forward(here, train=True)
    out = model(there)
    close(y, out.detach().numpy(), tolerance)
    dx = net.backward(dy, caches, need_dx=not net.takes_integers)
    assert dx is None or dx.shape == x.shape
    if not net.params:
        return
    optimizer, theirs = optimizers[0](), optimizers[1](groups)
    theirs.zero_grad()
    out.backward(torch.tensor(dy))
    for name, grad in net.grads.items():
        parameter = model.get_parameter(name)
        if parameter.requires_grad:
            close(grad, as_ours(model, name, parameter.grad), 10 * tolerance)
    optimizer.step(net.store)
    theirs.step()
    after = dict(model.named_parameters()) | dict(model.named_buffers())
    for name, value in net.state_dict().items():
        close(value, as_ours(model, name, after[name]), 10 * tolerance)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_every_layer_goes_and_comes_back(case, dtype):
    net = spread(case.net(dtype=dtype))
    model = net.to_torch()
    assert type(model) is nn.Sequential
    assert not model.training
    back = xpnn.from_torch(copy.deepcopy(model), n_in=case.n_in, dtype=None if net.params else dtype)
    assert back.state_dict().keys() == net.state_dict().keys()
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(back.state_dict()[name], value)
    assert [type(layer) for layer in back.layers] == [type(layer) for layer in net.layers]
    np.testing.assert_array_equal(back.predict(case.x()), net.predict(case.x()))
    if getattr(net.layers[0], "rate", 0) == 0 and "Dropout(rate=0.4)" not in str(case):  # masks are PyTorch's own
        groups = param_groups(net, model, 0.1, weight_decay=0.01)
        check_step(net, model, case.x(), groups, OPTIMIZERS["AdamW"], dtype)


# -- generated networks ------------------------------------------------------------------------------------------------
ACTIVATIONS = st.sampled_from(
    [
        *(kind() for kind in (xpnn.Tanh, xpnn.SiLU, xpnn.Mish, xpnn.GELU, xpnn.ELU, xpnn.SELU, xpnn.Softplus)),
        *(xpnn.Sigmoid(), xpnn.LeakyReLU(0.2), xpnn.PReLU(), xpnn.PReLU(per_unit=True), xpnn.GELU("tanh")),
        *(xpnn.Softmax(2.0), xpnn.ParametricActivation("tanh"), xpnn.Scale(), xpnn.Identity(), xpnn.ReLU()),
    ]
).map(copy.deepcopy)


@st.composite
def networks(draw):
    """Chains of Linear, norm and activation, some with skips."""
    n_in = draw(st.integers(1, 5))
    layers, width = [], n_in
    for _ in range(draw(st.integers(1, 3))):
        n_out = draw(st.integers(2, 6))
        block = [xpnn.Linear(n_out, bias=draw(st.booleans()), lr_mult=draw(st.sampled_from([1.0, 0.5])))]
        norm = draw(st.sampled_from([None, xpnn.BatchNorm(1e-3, 0.3), xpnn.LayerNorm(), xpnn.RMSNorm(1e-3)]))
        if norm is not None:
            block.append(copy.deepcopy(norm))
        block.append(draw(ACTIVATIONS))
        layers += [xpnn.Residual(*block)] if width == n_out and draw(st.booleans()) else block
        width = n_out
    return xpnn.Sequential(*layers, n_in=n_in, dtype=draw(st.sampled_from(["float64", "float32"])), seed=3)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@settings(max_examples=12)
@given(net=networks())
def test_generated_networks_step_as_their_modules(optimizer, net):
    net = spread(net.copy())
    model = net.to_torch()
    groups = param_groups(net, model, 0.1, weight_decay=0.01)
    check_step(net, model, ROWS[:, : net.n_in], groups, OPTIMIZERS[optimizer], net.backend.dtype_name)


@st.composite
def modules(draw):
    """Sequentials of PyTorch's own classes, nested here and there."""
    torch.manual_seed(0)
    width = n_in = draw(st.integers(1, 5))
    blocks = []
    for _ in range(draw(st.integers(1, 3))):
        n_out = draw(st.integers(2, 6))
        norm = draw(
            st.sampled_from(
                [
                    lambda n: nn.Identity(),
                    lambda n: nn.BatchNorm1d(n, eps=1e-3, momentum=0.3),
                    lambda n: nn.LayerNorm(n, eps=1e-4),
                    nn.RMSNorm,
                ]
            )
        )
        activation = draw(
            st.sampled_from(
                [
                    *(nn.Tanh, nn.SiLU, nn.Mish, nn.GELU, nn.ELU, nn.SELU, nn.Sigmoid, nn.PReLU, nn.ReLU),
                    *(lambda: nn.LeakyReLU(0.3), lambda: nn.GELU("tanh"), lambda: nn.ELU(0.7), nn.Softplus),
                    *(lambda: nn.Softmax(-1), lambda: nn.Softmax(1), lambda: nn.Dropout(0.0)),
                ]
            )
        )
        block = [nn.Linear(width, n_out, bias=draw(st.booleans())), norm(n_out), activation()]
        blocks += [nn.Sequential(*block)] if draw(st.booleans()) else block
        width = n_out
    blocks.append(nn.PReLU(width, init=0.1))
    return n_in, nn.Sequential(*blocks).to(draw(st.sampled_from([torch.float32, torch.float64])))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@settings(max_examples=12)
@given(made=modules())
def test_generated_modules_step_as_their_networks(optimizer, made):
    n_in, model = made
    net = xpnn.from_torch(model)
    assert net.n_in == n_in
    flat = nn.Sequential(*(m for m in model.modules() if not isinstance(m, nn.Sequential)))  # the names of the network
    dtype = net.backend.dtype_name
    assert dtype == str(next(model.parameters()).dtype).rpartition(".")[2]
    groups = [
        {"params": [p for p in flat.parameters() if p.ndim > 1], "lr": 0.1, "weight_decay": 0.01},
        {"params": [p for p in flat.parameters() if p.ndim == 1], "lr": 0.1, "weight_decay": 0.0},
    ]
    # PyTorch's Softplus is the identity from 20 on, 2e-9 off
    check_step(net, flat, ROWS[:, :n_in], groups, OPTIMIZERS[optimizer], dtype)


# -- what belongs to a module ------------------------------------------------------------------------------------------
def network():
    return spread(
        xpnn.Sequential(
            xpnn.Columns((2, xpnn.NumericalEmbedding()), (1, xpnn.Embedding(4, 3))),
            xpnn.Linear(8),
            xpnn.BatchNorm(),
            xpnn.PReLU(),
            xpnn.Residual(xpnn.Linear(8), xpnn.LayerNorm(), xpnn.Dropout(0.5), xpnn.ParametricActivation("gelu")),
            xpnn.MemberScale(2),
            xpnn.MemberLinear(5, 2),
            xpnn.Softplus(),
            xpnn.MemberHead(2, 2),
            n_in=5,
        )
    )


def table(n):
    """Rows for it: two numbers, a category, two more numbers."""
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, 5)).astype("float32")
    x[:, 2] = rng.integers(0, 4, n)
    return x


def test_the_result_exports_for_any_number_of_rows():
    net = network()
    model, x, many = net.to_torch(), table(4), table(9)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(model, (torch.tensor(x),), dynamic_shapes=({0: batch},))
    close(program.module()(torch.tensor(many)).detach().numpy(), net.predict(many), 1e-5)


def test_a_module_pickles_and_prints_and_leaves_the_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    model = network().to_torch()
    assert torch.equal(torch.get_rng_state(), before)
    again, x = pickle.loads(pickle.dumps(model)), torch.tensor(table(6))
    assert torch.equal(again(x), model(x))
    for text in ("kind='pbld'", "members=2", "width=5"):
        assert text in repr(model)
    assert "temperature=0.5" in repr(xpnn.Sequential(xpnn.Softmax(0.5), n_in=2).to_torch())


def test_what_torch_cannot_hold_is_refused():
    class Twice(xpnn.Layer):
        def forward(self, x, *, train=False, key=None):
            return x + x, None

    with pytest.raises(OptionError, match=r"to_torch: expected layers of xpnn's own, got 1\.Twice"):
        xpnn.Sequential(xpnn.Linear(2), Twice(), n_in=3).to_torch()
    with pytest.raises(OptionError, match="to_torch: expected one network, got 2 replicas"):
        xpnn.mlp([2, 3], replicas=2).to_torch()
    with pytest.raises(OptionError, match="to_torch: expected a network, got str"):
        to_torch("net")
    held = xpnn.Predictor(xpnn.mlp([2, 1]), xpnn.MeanSquaredError(), target=None)
    with pytest.raises(OptionError, match=r"got Predictor. Its .net.to_torch\(\) has the network alone"):
        held.to_torch()


def test_tensors_stay_where_they_are():
    net = xpnn.mlp([3, 4, 2], backend="torch", dtype="float64", seed=1)
    model = net.to_torch()
    assert next(model.parameters()).dtype == torch.float64
    back = xpnn.from_torch(model, backend="torch")
    assert back.backend == net.backend
    x = torch.tensor(ROWS[:, :3])
    assert torch.equal(back.predict(x), net.predict(x))
    assert xpnn.from_torch(model, dtype="float32").backend.dtype_name == "float32"
    assert xpnn.from_torch(model, backend=xpnn.get_backend("numpy", "float32")).backend.dtype_name == "float32"


def test_half_precision_comes_in_exactly():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).to(torch.bfloat16)
    net = xpnn.from_torch(model)
    assert net.backend.dtype_name == "float32"
    np.testing.assert_array_equal(net.params["0.weight"], model[0].weight.detach().float().numpy().T)


def test_frozen_layers_stay_frozen():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    model[2].weight.requires_grad_(False)
    model[4].bias.requires_grad_(False)
    net = xpnn.from_torch(model)
    before = net.state_dict()
    trainer = xpnn.Trainer(net, xpnn.MeanSquaredError(), xpnn.AdamW(0.1, weight_decay=0.1))
    trainer.fit(ROWS[:, :3], ROWS[:, 3:], epochs=3)
    same = {name for name, value in net.state_dict().items() if np.array_equal(value, before[name])}
    assert same == {"0.weight", "0.bias", "2.weight", "4.bias"}
    frozen = {name for name, p in net.to_torch().named_parameters() if not p.requires_grad}
    assert frozen == same
    assert len(param_groups(net, model, 0.1, weight_decay=0.1)) == 2


def test_category_numbers_and_samples_of_more_axes_become_rows():
    model = nn.Sequential(nn.Embedding(7, 3), nn.Flatten(), nn.Linear(6, 2))
    codes = np.array([[0, 6], [3, 3]])
    net = xpnn.from_torch(model)
    close(net.predict(codes), model(torch.tensor(codes)).detach().numpy(), 1e-6)
    one = nn.Sequential(nn.Embedding(7, 3), nn.Linear(3, 2))
    close(xpnn.from_torch(one).predict(codes[:, :1]), one(torch.tensor(codes[:, 0])).detach().numpy(), 1e-6)
    assert xpnn.from_torch(nn.Sequential(nn.Embedding(7, 3))).n_in == 1
    assert xpnn.from_torch(nn.Sequential(nn.Embedding(7, 3), nn.Flatten()), n_in=4).n_out == 12
    pictures = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    x = np.random.default_rng(0).normal(size=(5, 3, 4)).astype("float32")
    theirs = pictures(torch.tensor(x)).detach().numpy()
    close(xpnn.from_torch(pictures).predict(x.reshape(5, 12)), theirs, 1e-6)


def test_a_module_that_only_predicts_may_lack_what_training_needs():
    model = nn.Sequential(
        nn.Linear(3, 4),
        nn.BatchNorm1d(4, momentum=None, affine=False),
        nn.LayerNorm(4, bias=False),
        nn.RMSNorm(4, elementwise_affine=False),
        nn.LayerNorm(4, elementwise_affine=False),
    )
    model(torch.tensor(ROWS[:, :3].astype("float32")))
    model.eval().requires_grad_(False)
    x = ROWS[:, :3].astype("float32")
    close(xpnn.from_torch(model).predict(x), model(torch.tensor(x)).numpy(), 1e-5)


# -- what cannot come in -----------------------------------------------------------------------------------------------
def hooked():
    model = nn.Linear(2, 2)
    model.register_forward_hook(lambda module, args, out: out + 1)
    return model


def tied():
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    return nn.Sequential(first, nn.Tanh(), second)


def partly_frozen():
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    model[1].requires_grad_(False)
    return model


def misshapen():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    model[1].weight = nn.Parameter(torch.zeros(1, 4))
    return model


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x):
        return self.layer(x) * 2


class OwnSequential(nn.Sequential):
    def forward(self, x):
        return super().forward(x) + 1


shared = nn.Linear(3, 3)
REFUSED = {
    "no layers": (lambda: nn.Sequential(), "expected a model with at least one layer, got an empty one"),
    "nested, no layers": (lambda: nn.Sequential(nn.Sequential()), "expected a model with at least one layer"),
    "convolution": (lambda: nn.Sequential(nn.Conv1d(1, 1, 1)), "0.Conv1d: xpnn has no such layer. Bring in the layers"),
    "recurrent": (lambda: nn.LSTM(2, 2), "LSTM: xpnn has no such layer. Bring in the layers"),
    "own forward": (Net, "Net: xpnn has no such layer. Write it as a torch.nn.Sequential"),
    "own Sequential": (lambda: OwnSequential(nn.ReLU()), "OwnSequential: xpnn has no such layer"),
    "list": (lambda: nn.ModuleList([nn.Linear(1, 1)]), "ModuleList: xpnn has no such layer"),
    "log-softmax": (lambda: nn.Sequential(nn.Linear(2, 2), nn.LogSoftmax(1)), "1.LogSoftmax: .* Leave it out: losses"),
    "alpha dropout": (lambda: nn.Sequential(nn.Linear(2, 2), nn.AlphaDropout()), "Put a torch.nn.Dropout in its place"),
    "softmax over rows": (lambda: nn.Softmax(0), "Softmax: expected dim=-1, the features, got 'dim=0'"),
    "softplus": (lambda: nn.Softplus(beta=2), "Softplus: expected beta=1, got 'beta=2'"),
    "softplus threshold": (lambda: nn.Softplus(threshold=5), "expected threshold >= 20"),
    "dropout of all": (lambda: nn.Sequential(nn.Linear(2, 2), nn.Dropout(1.0)), "Dropout: expected p < 1"),
    "flatten": (lambda: nn.Sequential(nn.Flatten(0), nn.Linear(2, 2)), "expected start_dim=1 and end_dim=-1"),
    "embedding inside": (
        lambda: nn.Sequential(nn.Linear(2, 2), nn.Embedding(2, 2)),
        "expected an Embedding as the fir",
    ),
    "embedding, no flatten": (lambda: nn.Sequential(nn.Embedding(5, 2), nn.Linear(6, 1)), "Put a Flatten between"),
    "embedding with max_norm": (lambda: nn.Embedding(5, 2, max_norm=1.0), "Embedding: expected max_norm=None, got 1.0"),
    "embedding with padding": (lambda: nn.Embedding(5, 2, padding_idx=0), "expected padding_idx=None, got 0"),
    "no moments": (lambda: nn.BatchNorm1d(3, track_running_stats=False), "expected running moments"),
    "momentum": (lambda: nn.BatchNorm1d(3, momentum=None), "expected 0 < momentum <= 1, got 'momentum=None'"),
    "momentum 0": (lambda: nn.BatchNorm1d(3, momentum=0.0), "expected 0 < momentum <= 1, got 'momentum=0.0'"),
    "no scale": (lambda: nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False)), "affine=True"),
    "no shift": (lambda: nn.LayerNorm(3, bias=False), "expected a bias, which is trained here, got None"),
    "norm of pictures": (lambda: nn.LayerNorm((3, 4)), "expected a norm over one axis"),
    "frozen norm": (partly_frozen, "1.LayerNorm: expected parameters that are trained, got 'frozen bias, weight'"),
    "meta": (lambda: nn.Linear(2, 2, device="meta"), "expected values, got weight on the meta device"),
    "lazy": (lambda: nn.LazyLinear(2), "expected sizes that are known, got weight"),
    "two dtypes": (lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()), "of one floating dtype"),
    "complex": (lambda: nn.Linear(2, 2, dtype=torch.complex64), "one floating dtype, got complex64"),
    "one layer twice": (lambda: nn.Sequential(shared, nn.Tanh(), shared), "the weight that 0.Linear has too"),
    "tied": (tied, "2.Linear: expected a layer of its own in each place, got the weight that 0.Linear has too"),
    "hook": (hooked, "Linear: expected a module without hooks"),
    "parametrized": (
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
        "ParametrizedLinear: .*remove_parametrizations",
    ),
    "activations alone": (nn.ReLU, "expected a layer that says how many features go in"),
    "parallel": (lambda: nn.DataParallel(nn.Linear(2, 2)), r"DataParallel: .* Pass its \.module"),
    "state": (lambda: nn.Linear(2, 2).state_dict(), "got OrderedDict. A state_dict has no layers"),
    "network": (lambda: xpnn.mlp([2, 2]), "That is xpnn's network already"),
    "text": (lambda: "model.pt", "expected a torch.nn.Module, got str. Pass a torch.nn.Sequential"),
}


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_come_in_is_refused_by_name(name):
    make, message = REFUSED[name]
    with pytest.raises(OptionError, match=f"from_torch: .*{message}"):
        xpnn.from_torch(make())


def test_wrong_shapes_are_told():
    with pytest.raises(ShapeError, match=r"expected 1.weight of shape \(3, 1\), got \(4, 1\)"):
        xpnn.from_torch(misshapen())
    with pytest.raises(OptionError, match="got n_in=5, but the model takes 2 features"):
        xpnn.from_torch(nn.Linear(2, 2), n_in=5)
    with pytest.raises(XpnnError):
        xpnn.from_torch(nn.Sequential(nn.Linear(2, 3), nn.Linear(4, 1)))


def test_one_activation_may_stand_in_many_places():
    relu = nn.ReLU()
    net = xpnn.from_torch(nn.Sequential(nn.Linear(2, 3), relu, nn.Linear(3, 3), relu))
    assert net.layers[1] is not net.layers[3]
