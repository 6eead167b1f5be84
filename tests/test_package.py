"""The package as a whole: who imports whom, what is public, and that all of it is described."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import tomllib
from collections.abc import Iterator

import pytest
from source import FILES, ROOT, imports, inner_imports, tree

import xpnn

each_module = pytest.mark.parametrize("module", FILES)

# A module may import from lower levels, and from its own package; modules of one level do not know each other.
LEVELS = (
    {"_typing", "errors", "recordable"},
    {"frames"},
    {"arguments", "exports", "optional", "schema"},
    {"contract"},
    {"coding", "confidence", "config", "files", "initializers", "jobs", "metrics", "random", "special"},
    {"calibration", "crossover", "ops", "schedules", "staging"},
    {"accel"},
    {"backend"},
    {"params", "data"},
    {"distributed", "layers", "losses", "regularizers"},
    {"model"},
    {"checkpoint", "data_init", "differences", "optim"},
    {"plots"},
    {"intervals", "training"},
    {"bench", "engines", "predictor", "search", "testing"},
    {"baselines", "inspection", "lessons"},
    {"tabular"},
    {"estimators", "report"},
    {"interop"},
    {"cli"},
    {"__main__"},
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
HEAVY = {
    "array_api_strict",
    "cupy",
    "dask",
    "distributed",
    "jax",
    "jinja2",
    "joblib",
    "keras",
    "matplotlib",
    "mpi4py",
    "onnx",
    "onnxruntime",
    "openpyxl",
    "pandas",
    "pooch",
    "pyarrow",
    "safetensors",
    "scipy",
    "sklearn",
    "tabulate",
    "tensorboardX",
    "torch",
    "tqdm",
}


def part(module: str) -> str:
    """The file or folder of the package in which a module lies; "" for the package itself."""
    return module.partition(".")[2].partition(".")[0]


# -- directions ----------------------------------------------------------------------------------------------
def test_every_part_has_a_level():
    parts = {part(module) for module in FILES} - {""}
    assert parts <= LEVEL.keys(), "say in LEVELS where the new part belongs"


@each_module
def test_imports_point_one_way(module):
    """From the bottom up; imports inside functions and for types count too."""
    here = part(module)
    if not here:
        return  # the package itself gathers all
    for target, name in inner_imports(module):
        there = part(target)
        if not there:
            assert name == "__version__", f"{module} imports {name} from the package: name the module"
            continue
        assert there == here or LEVEL[there] < LEVEL[here], f"{module} must not import {target}"


def test_the_walk_sees_every_kind_of_import():
    """The checker itself: a function's import, one for types, one of a module, and one of the version."""
    assert ("xpnn", "__version__") not in inner_imports("xpnn.checkpoint", "imported")
    assert ("xpnn.training.trainer", "Trainer") in inner_imports("xpnn.training.callbacks")
    assert ("xpnn.random", "") in inner_imports("xpnn.ops", "imported")
    assert ("xpnn", "__version__") in inner_imports("xpnn.checkpoint")
    assert ("xpnn.layers.base", "Layer") in inner_imports("xpnn.layers", "imported")


def test_no_modules_import_each_other_in_a_circle():
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " imports ".join((*path[path.index(module) :], module))
        if module not in done:
            for target, _ in inner_imports(module, "imported"):
                if target not in ("xpnn", module):
                    visit(target, (*path, module))
            done.add(module)

    for module in FILES:
        visit(module, ())


@each_module
def test_nothing_heavy_is_imported_with_a_module(module):
    allowed = {"sklearn", "scipy"} if part(module) == "estimators" else set()  # its base classes are sklearn's
    allowed |= {"torch"} if module == "xpnn.interop.torch_modules" else set()  # likewise
    for node in imports(tree(module), "imported"):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom) and node.level:
            continue
        heavy = {name.partition(".")[0] for name in names} & HEAVY - allowed
        assert not heavy, f"line {node.lineno}: import {heavy} inside the function that needs it"


# -- what is public --------------------------------------------------------------------------------------------
def declared(module: str) -> list[str]:
    """The literal ``__all__``."""
    for node in tree(module).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and "__all__" in map(ast.unparse, assigned(node)):
            return ast.literal_eval(node.value)
    raise AssertionError(f"{module} has no literal __all__")


def order(name: str) -> tuple[int, str]:
    """CONSTANTS, then Classes, then the rest: the order that ruff keeps."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


needs_all = pytest.mark.parametrize("module", [m for m in FILES if not m.endswith("__main__")])


def skip_without_its_package(module: str) -> None:
    if part(module) == "estimators":
        pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'xpnn[sklearn]'")
    if module == "xpnn.interop.torch_modules":
        pytest.importorskip("torch", reason="needs torch: pip install torch")
    if module in ("xpnn.accel.native.bits", "xpnn.accel.native.cutting"):
        pytest.importorskip("numba", reason="needs numba: pip install 'xpnn[fast]'")


@needs_all
def test_all_is_sorted_and_true(module):
    names = declared(module)
    assert names == sorted(set(names), key=order)
    skip_without_its_package(module)
    loaded = importlib.import_module(module)
    assert [name for name in names if not hasattr(loaded, name)] == []


@needs_all
def test_all_is_what_a_module_defines(module):
    """A package exports what it imports; a module exports what it defines, and what it does not export is used."""
    names = set(declared(module))
    body = tree(module).body
    if FILES[module].name == "__init__.py":
        taken = {a.asname or a.name for n in statements(tree(module)) if isinstance(n, ast.ImportFrom) for a in n.names}
        public = {name for name in taken - {"annotations"} if not name.startswith("_")}
        defined = {n.name for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        assert names - {"__version__"} <= public | defined
        if module in ("xpnn", "xpnn.layers", "xpnn.optim", "xpnn.training", "xpnn.data"):
            assert names - {"__version__"} == public
        return
    defined = {n.name for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name[0] != "_"}
    used = {name for other in FILES for name in mentioned(other)}
    assert defined - names - used == set(), "neither exported nor used: export it, or take it away"
    top = list(statements(tree(module)))
    made = {n.name for n in top if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    made |= {ast.unparse(t) for n in top for t in assigned(n)}
    assert names <= made, "exported, but from elsewhere"


def statements(node: ast.AST) -> Iterator[ast.stmt]:
    """All statements that run when a module is imported, also under ``try`` and ``if``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield child
        if not isinstance(child, ast.FunctionDef | ast.ClassDef):
            yield from statements(child)


@functools.cache
def mentioned(module: str) -> frozenset[str]:
    """All names that a module reads."""
    nodes = list(ast.walk(tree(module)))
    plain = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    return frozenset(plain | {n.attr for n in nodes if isinstance(n, ast.Attribute)})


def assigned(node: ast.stmt) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []


PROMISED = {
    "xpnn": """
        Backend get_backend available_backends to_numpy XpnnError
        mlp Sequential init_from_data
        Layer Linear Identity ReLU LeakyReLU PReLU ELU SELU GELU SiLU Mish Softplus Sigmoid Tanh Softmax Step
        Dropout BatchNorm LayerNorm RMSNorm Residual Embedding Scale ParametricActivation NumericalEmbedding Columns
        MemberScale MemberLinear MemberHead
        Loss MeanSquaredError MeanAbsoluteError Huber Pinball PoissonNLL BinaryCrossEntropy CrossEntropy Focal Hinge
        MemberMean
        L1 L2 SpectralNorm
        ParamSpec Regularizer Schedule Metric
        Optimizer SGD Momentum RMSProp AdaGrad Adam AdamW NAdam Lion Muon
        Constant StepDecay ExponentialDecay InverseTimeDecay CosineDecay WarmRestarts OneCycle Warmup Plateau
        FlatCosine CosineLog
        Callback EarlyStopping Checkpoint ProgressBar CSVLogger TensorBoard TimeLimit EMA Diagnose LambdaCallback
        Trainer History save load find_lr LRFinderResult BoundaryRecorder
        data errors initializers metrics plots regularizers schedules testing __version__
    """,
    "xpnn.initializers": """
        Zeros Constant Normal Uniform XavierNormal XavierUniform HeNormal HeUniform LeCunNormal Orthogonal RandomSigns
    """,
    "xpnn.regularizers": "L1 L2 SpectralNorm",
    "xpnn.metrics": """
        accuracy_score balanced_accuracy_score f1_score roc_auc_score average_precision_score log_loss brier_score_loss
        matthews_corrcoef mean_absolute_error mean_squared_error root_mean_squared_error r2_score get_score
        best_threshold confusion_matrix
    """,
    "xpnn.calibration": "fit_temperature calibration_curve expected_calibration_error",
    "xpnn.schedules": """
        Constant StepDecay ExponentialDecay InverseTimeDecay CosineDecay WarmRestarts OneCycle Warmup Plateau
        FlatCosine CosineLog
    """,
    "xpnn.testing": "check_gradients compare_backends",
    "xpnn.data": """
        make_xor make_moons make_circles make_spirals make_checkerboard make_blobs
        load_digits load_mnist load_csv audit batches train_test_split one_hot Standardizer MinMax
    """,
    "xpnn.plots": """
        plot_history plot_decision_boundary plot_confusion_matrix plot_misclassified plot_activation plot_gradient_flow
        plot_weights plot_lr_finder plot_schedule plot_search animate_training
    """,
    "xpnn.errors": """
        XpnnError ShapeError DTypeError LabelError DataError OptionError FileFormatError BackendUnavailableError
        DivergenceError
    """,
}


@pytest.mark.parametrize(("module", "names"), [(m, n) for m, text in PROMISED.items() for n in text.split()])
def test_promised_names_are_there(module, names):
    loaded = importlib.import_module(module)
    assert hasattr(loaded, names)
    assert names in loaded.__all__


SIGNATURES = {
    "xpnn.get_backend": "spec dtype",
    "xpnn.mlp": "sizes activation norm dropout residual init backend dtype seed",
    "xpnn.Sequential": "layers n_in backend dtype seed",
    "xpnn.Sequential.forward": "x train step",
    "xpnn.Sequential.backward": "dy caches need_dx",
    "xpnn.Sequential.predict": "x batch_size",
    "xpnn.Sequential.summary": "",
    "xpnn.Sequential.state_dict": "",
    "xpnn.Sequential.load_state_dict": "state",
    "xpnn.Sequential.to": "backend",
    "xpnn.Sequential.check_shapes": "n_in",
    "xpnn.Softmax": "temperature",
    "xpnn.initializers.Normal": "std",
    "xpnn.Pinball": "quantiles",
    "xpnn.CrossEntropy": "label_smoothing",
    "xpnn.Loss.value_and_grad": "y sample_weight",
    "xpnn.Loss.link": "",
    "xpnn.L1": "lam",
    "xpnn.L2": "lam",
    "xpnn.SpectralNorm": "lam",
    "xpnn.SGD": "lr momentum nesterov",
    "xpnn.Momentum": "lr beta",
    "xpnn.Warmup": "then",
    "xpnn.Trainer": "net loss optimizer schedule regularizer clip_norm clip_value metrics callbacks seed",
    "xpnn.Trainer.fit": """X y epochs batch_size X_val y_val validation_fraction sample_weight class_weight
        shuffle""",
    "xpnn.Trainer.evaluate": "X y",
    "xpnn.Trainer.predict_proba": "X",
    "xpnn.History.to_csv": "path",
    "xpnn.save": "net path",
    "xpnn.load": "path",
    "xpnn.testing.check_gradients": "net loss x y eps",
    "xpnn.testing.compare_backends": "make_net loss optimizer X y backends steps",
    "xpnn.data.load_mnist": "data_dir download",
    "xpnn.data.load_csv": "path target",
    "xpnn.data.batches": "X y batch_size seed epoch",
    **{f"xpnn.data.make_{kind}": "n noise seed" for kind in ("xor", "moons", "circles", "spirals", "checkerboard")},
    "xpnn.data.make_blobs": "n seed",
}
DEFAULTS = {
    "xpnn.mlp": {"activation": "relu", "norm": None, "dropout": 0.0, "residual": False, "init": "auto", "seed": 0},
    "xpnn.LeakyReLU": {"slope": 0.01},
    "xpnn.ELU": {"alpha": 1.0},
    "xpnn.BatchNorm": {"eps": 1e-5, "momentum": 0.1},
    "xpnn.Huber": {"delta": 1.0},
    "xpnn.Adam": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "xpnn.Trainer": {"metrics": ("accuracy",), "callbacks": (), "seed": 0, "clip_norm": None},
    "xpnn.Trainer.fit": {"epochs": 10, "batch_size": 128, "validation_fraction": 0.0, "shuffle": True},
    "xpnn.testing.check_gradients": {"eps": 1e-5},
    "xpnn.testing.compare_backends": {"backends": ("numpy", "cupy", "torch", "strict"), "steps": 10},
}


def find(path: str) -> object:
    return functools.reduce(getattr, path.split(".")[1:], xpnn)


@pytest.mark.parametrize(("path", "names"), SIGNATURES.items(), ids=SIGNATURES)
def test_promised_arguments_are_there(path, names):
    parameters = inspect.signature(find(path)).parameters
    assert [name for name in names.split() if name not in parameters] == []


@pytest.mark.parametrize(("path", "defaults"), DEFAULTS.items(), ids=DEFAULTS)
def test_promised_defaults_hold(path, defaults):
    parameters = inspect.signature(find(path)).parameters
    assert {name: parameters[name].default for name in defaults} == defaults


def test_promised_attributes_are_there():
    backend, net = xpnn.get_backend("numpy"), xpnn.mlp([784, 256, 128, 10])
    for name in ("name", "xp", "device", "dtype", "asarray", "to_numpy", "synchronize"):
        assert hasattr(backend, name)
    assert net.n_params == 235146
    assert list(net.params) == list(net.grads) == [f"{i}.{p}" for i in (0, 2, 4) for p in ("weight", "bias")]
    assert net.params["0.weight"].shape == (784, 256)
    assert net.params["0.bias"].shape == (256,)
    history = xpnn.Trainer(xpnn.mlp([2, 2]), xpnn.CrossEntropy(), xpnn.SGD(0.1)).fit(
        *xpnn.data.make_moons(20), epochs=2, validation_fraction=0.2
    )
    for column in ("loss", "val_loss", "accuracy", "lr", "grad_norm", "seconds"):
        assert len(history[column]) == 2
    assert [type(row) for row in history.rows] == [dict, dict]


# -- descriptions ----------------------------------------------------------------------------------------------
def public_things(module: str) -> Iterator[tuple[str, object]]:
    """Public classes and functions that a module defines, and the methods that its classes define."""
    loaded = importlib.import_module(module)
    for name in declared(module):
        thing = getattr(loaded, name)
        if getattr(thing, "__module__", None) != module or not (inspect.isclass(thing) or callable(thing)):
            continue
        yield name, thing
        for attribute, value in vars(thing).items() if inspect.isclass(thing) else ():
            if attribute[0] != "_" and (inspect.isfunction(value) or isinstance(value, property | classmethod)):
                yield f"{name}.{attribute}", getattr(thing, attribute)


@needs_all
def test_everything_public_is_described_in_a_line(module):
    skip_without_its_package(module)
    doc = ast.get_docstring(tree(module))
    assert doc, "a module says what it is for"
    wanting = []
    for name, thing in public_things(module):
        lines = (inspect.getdoc(thing) or "").splitlines()
        summary = re.sub(r"\s*\[\d+\]_", "", lines[0]) if lines else ""
        if not summary.rstrip().endswith((".", "`")) or (len(lines) > 1 and lines[1]):
            wanting.append((name, summary))
    assert wanting == []


def test_types_are_shipped():
    assert ROOT.joinpath("py.typed").is_file()
    pyproject = ROOT.parent / "pyproject.toml"
    if pyproject.is_file():
        build = tomllib.loads(pyproject.read_text())["tool"]["hatch"]["build"]["targets"]
        assert build["wheel"]["packages"] == ["xpnn"], "the whole folder, with py.typed"


def test_one_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+", xpnn.__version__)
    pyproject = ROOT.parent / "pyproject.toml"
    if pyproject.is_file():
        read = tomllib.loads(pyproject.read_text())
        assert read["tool"]["hatch"]["version"] == {"path": "xpnn/__init__.py"}, "it stands there alone"


def test_every_folder_is_a_package():
    assert {path.parent for path in FILES.values()} == {path.parent for path in ROOT.rglob("__init__.py")}
