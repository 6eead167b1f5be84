"""Damage real files of every format in many ways: each is refused by an error of xpnn's own, or is as it was.

    python ci/mutants.py --n 2000 --seed 0

Each mutant is read, and used, in a worker process.  What comes of it:

- refused: an error of xpnn's own.
- same: what it gives is equal to the last bit (the damage hit nothing that matters).
- different: it gives something else.  Allowed only where a format has no digest: nobody can tell a digit from another.
- foreign: another exception; slow: more than 2 seconds of a processor; large: more than 200 MB.  These are faults.

Exit status 1 if there is a fault, or something different in spite of a digest.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import gzip
import io
import json
import multiprocessing
import random
import shutil
import signal
import struct
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import xpnn
from xpnn import checkpoint, cli
from xpnn.data.encoder import TableEncoder
from xpnn.data.targets import ClassTarget, NumberTarget, target_from_dict
from xpnn.errors import XpnnError
from xpnn.predictor import Predictor
from xpnn.report import read_run, write_comparison, write_report
from xpnn.search.group import Group
from xpnn.tabular import TabularRegressor

SECONDS, MEGABYTES = 2.0, 200
FAULTS = ("foreign", "slow", "large")
OUTCOMES = ("refused", "same", "different", *FAULTS)
Edit = Callable[[bytes, random.Random], bytes]


class Result(NamedTuple):
    """What came of one mutant."""

    format: str
    edit: str
    outcome: str
    said: str  # the error
    number: int


class Format(NamedTuple):
    """A file to be damaged, and what is done with it."""

    file: Path
    use: Callable[[Path], Any]  # returns what it gives
    edits: tuple[Edit, ...]
    digest: bool = False  # whether any change is to be noticed
    folder: Path | None = None  # what `use` is given instead of the file, a copy


# -- damage to bytes ---------------------------------------------------------------------------------------------
def flip(raw: bytes, rng: random.Random) -> bytes:
    """Change a few bits."""
    changed = bytearray(raw)
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        changed[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_head(raw: bytes, rng: random.Random) -> bytes:
    """Change a byte where headers are."""
    place = rng.randrange(min(len(raw), 160))
    return raw[:place] + bytes([rng.randrange(256)]) + raw[place + 1 :]


def truncate(raw: bytes, rng: random.Random) -> bytes:
    """Cut the end off."""
    return raw[: rng.randrange(len(raw))]


def insert(raw: bytes, rng: random.Random) -> bytes:
    """Put bytes between others."""
    place = rng.randrange(len(raw) + 1)
    return raw[:place] + rng.randbytes(rng.choice([1, 2, 8, 300])) + raw[place:]


def _block(raw: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(raw))
    return start, min(start + rng.choice([1, 4, 8, 64, 512]), len(raw))


def repeat(raw: bytes, rng: random.Random) -> bytes:
    """Write a block twice, or many times."""
    start, stop = _block(raw, rng)
    return raw[:stop] + raw[start:stop] * rng.choice([1, 1, 200]) + raw[stop:]


def remove(raw: bytes, rng: random.Random) -> bytes:
    """Leave a block out."""
    start, stop = _block(raw, rng)
    return raw[:start] + raw[stop:]


def blank(raw: bytes, rng: random.Random) -> bytes:
    """Lose a block, as a disk does."""
    start, stop = _block(raw, rng)
    return raw[:start] + bytes([rng.choice([0, 0, 255])]) * (stop - start) + raw[stop:]


BYTES: tuple[Edit, ...] = (flip, flip, flip_head, truncate, insert, repeat, remove, blank)


# -- damage to what JSON says ------------------------------------------------------------------------------------
def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


_VALUES: tuple[Any, ...] = (
    0,
    -1,
    1,
    2,
    3,
    0.5,
    1e308,
    50_000_000,
    2**40,
    2**70,
    10**30,
    True,
    False,
    None,
    "",
    "x",
    "3",
)
_VALUES += (
    float("nan"),
    float("inf"),
    [],
    {},
    [1],
    {"type": "Linear", "n_out": 3},
    {"type": "Nothing"},
    _deep(90),
    "é" * 999,
)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each list or object with each of its keys."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])


def edit_value(value: Any, rng: random.Random) -> Any:
    """Change one entry of plain data: its value, its name, its place, or whether it is there."""
    places = list(_places(value))
    if not places:
        return rng.choice(_VALUES)
    where, key = rng.choice(places)
    way = rng.randrange(8)
    old = where[key]
    if way == 0:
        del where[key]
    elif way == 1 and isinstance(where, dict):
        where[key + rng.choice(["", "_", "s", "2"])[:1]] = where.pop(key)
    elif way == 2 and isinstance(old, int | float) and not isinstance(old, bool):
        where[key] = rng.choice([old + 1, -old, old * 1000, float(old), str(old), bool(old), old - 1])
    elif way == 3 and isinstance(old, list):
        where[key] = rng.choice([old * 2, old[:-1], old[::-1], [*old, old], old * 3000])
    elif way == 4:
        other, place = rng.choice(places)
        where[key], other[place] = json.loads(json.dumps(other[place])), json.loads(json.dumps(old))
    else:
        where[key] = rng.choice(_VALUES)
    return value


def edit_json(raw: bytes, rng: random.Random) -> bytes:
    """Change an entry of a JSON file, which stays JSON; or its text, by what is no JSON or too much of it."""
    if rng.random() < 0.1:
        return rng.choice(
            [b"[" * 100_000, b'{"a":' * 5_000, b"9" * 9_000, b"null", b"NaN", b'{"a": 1, "a": 2}', b'"\xff"']
        )
    return json.dumps(edit_value(json.loads(raw), rng)).encode()


# -- damage to safetensors ---------------------------------------------------------------------------------------
def _split(raw: bytes) -> tuple[dict[str, Any], bytes]:
    size = struct.unpack("<Q", raw[:8])[0]
    return json.loads(raw[8 : 8 + size]), raw[8 + size :]


def _join(header: dict[str, Any], body: bytes) -> bytes:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def edit_header(raw: bytes, rng: random.Random) -> bytes:
    """Change what a safetensors header says of its tensors: dtype, shape, place, name."""
    header, body = _split(raw)
    names = [name for name in header if name != "__metadata__"]
    first, second = rng.choice(names), rng.choice(names)
    way = rng.randrange(7)
    if way == 0:
        header[first]["dtype"] = rng.choice(["I32", "F64", "F16", "BF16", "U8", "F8_E4M3", "X"])
    elif way == 1:
        header[first]["shape"] = rng.choice(
            [[], [2**40], header[first]["shape"][::-1], [*header[first]["shape"], 1], [0]]
        )
    elif way == 2:
        header[first], header[second] = header[second], header[first]
    elif way == 3:
        header[first + "x"] = header.pop(first)
    elif way == 4:
        del header[first]
    elif way == 5:
        header[first]["data_offsets"] = rng.choice([[0, 2**60], [4, 0], header[second]["data_offsets"], [0, 4]])
    else:
        header["extra"] = {"dtype": "F32", "shape": [0], "data_offsets": [len(body), len(body)]}
    return _join(header, body)


def edit_description(raw: bytes, rng: random.Random) -> bytes:
    """Change what the description in a safetensors header says."""
    header, body = _split(raw)
    described = edit_value(json.loads(header["__metadata__"]["xpnn"]), rng)
    header["__metadata__"]["xpnn"] = json.dumps(described)
    return _join(header, body)


def edit_number(raw: bytes, rng: random.Random) -> bytes:
    """Put a number that is none, or far off, into a tensor."""
    header, body = _split(raw)
    place = 4 * rng.randrange(len(body) // 4)
    value = rng.choice([b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f", rng.randbytes(4)])
    return _join(header, body[:place] + value + body[place + 4 :])


def forge(raw: bytes, rng: random.Random) -> bytes:
    """Change the description as one would who knows how a digest is made."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "forged")
        file.write_bytes(raw)
        tensors, meta = checkpoint.read(file)
        kept = {key: value for key, value in meta.items() if key not in ("version", "written_by")}
        for _ in range(rng.choice([1, 1, 2])):
            edit_value(kept, rng)
        if rng.random() < 0.2:
            name = rng.choice(list(tensors))
            other = rng.choice(list(tensors))
            tensors[name] = rng.choice(
                [tensors[other], tensors[name] * np.float32("nan"), tensors[name].view(np.int32)]
            )
        try:
            checkpoint.write(file, tensors, kept)
        except XpnnError:  # what cannot even be written
            return edit_description(raw, rng)
        return file.read_bytes()


TENSORS: tuple[Edit, ...] = (*BYTES, edit_header, edit_header, edit_description, edit_description, edit_number)


# -- damage to tables and arrays ---------------------------------------------------------------------------------
def edit_cell(raw: bytes, rng: random.Random) -> bytes:
    """Change a cell of a table, or its header."""
    rows = list(csv.reader(raw.decode().splitlines()))
    row = rng.choice(rows[:1] + rows)
    words = [
        "",
        "x",
        "1e999",
        "nan",
        "-1",
        "1_0",
        '"',
        "\0",
        "=1+1",
        "\x1b[31m",
        "9" * 400,
        "a,b",
        "\n",
        rows[0][0],
        "é",
    ]
    row[rng.randrange(len(row))] = rng.choice(words)
    if rng.random() < 0.2:
        rng.choice(rows).append("more")
    out = io.StringIO()
    csv.writer(out, lineterminator=rng.choice(["\n", "\r\n", "\r"])).writerows(rows)
    return out.getvalue().encode()


def edit_npy(raw: bytes, rng: random.Random) -> bytes:
    """Change words of an npy header, in a file or in a zip."""
    words = [b"<f8", b"<i8", b"False", b"(", b")", b"'shape'", b"descr", b",", b"{", b"0", b"4"]
    news = [
        b"|O",
        b"<f4",
        b">f8",
        b"|V8",
        b"<U9",
        b"<U0",
        b"<M8[s]",
        b"True",
        b"((",
        b"",
        b"99999999999",
        b"-",
        b"1e",
        b"[" * 99,
    ]
    return raw.replace(rng.choice(words), rng.choice(news), 1)


def bomb(raw: bytes, rng: random.Random) -> bytes:
    """Add to a gzip file what unpacks to very much."""
    return (
        raw + gzip.compress(bytes(rng.choice([1 << 20, 80 << 20])), compresslevel=1)
        if rng.random() < 0.3
        else flip(raw, rng)
    )


def zipped(edit: Edit) -> Edit:
    """Return the damage to what a gzip file holds."""

    def apply(raw: bytes, rng: random.Random) -> bytes:
        return gzip.compress(edit(gzip.decompress(raw), rng), compresslevel=1, mtime=0)

    return apply


# -- the files, and their use ------------------------------------------------------------------------------------
def _numbers(net: xpnn.Sequential) -> Any:
    state = {name: (array.shape, array.tobytes()) for name, array in net.state_dict().items()}
    x = np.linspace(-1, 1, 3 * net.n_in).reshape(3, net.n_in) if net.n_in < 10_000 else np.zeros((1, 1))
    return repr(net.config()), state, np.asarray(net.predict(x)).tobytes()


def use_network(file: Path) -> Any:
    """Load a network and predict."""
    return _numbers(xpnn.load(file))


def use_trainer(file: Path) -> Any:
    """Load a trainer and go on for an epoch."""
    X, y = xpnn.data.make_moons(40, seed=1)
    trainer = xpnn.Trainer.load(file)
    trainer.fit(X, y, epochs=1, batch_size=20)
    losses = repr([{k: v for k, v in row.items() if k != "seconds"} for row in trainer.history.rows])
    return losses, trainer.net.store.values.tobytes()


_SEARCH = xpnn.search.grid({"lr": [0.01, 0.1], "hidden": [(4,), (3,)], "batch_size": 20})


def _search(file: Path) -> xpnn.search.SearchResult:
    X, y = xpnn.data.make_moons(40, seed=1)
    return xpnn.search.run(
        _SEARCH, X, y, loss=xpnn.CrossEntropy(), epochs=3, halving=xpnn.search.Halving(1, 2), checkpoint=file
    )


def use_search(file: Path) -> Any:
    """Go on with a search; it writes to its file."""
    with tempfile.TemporaryDirectory() as folder:
        found = _search(Path(shutil.copy(file, folder)))
    return [(repr(t.score), t.best_epoch, t.status, repr(t.history.rows)) for t in found.trials]


def _cut_search(file: Path) -> None:
    """Write the file of a search that was cut off in its second rung."""

    def end(self: Any, trainer: xpnn.Trainer) -> None:
        if trainer.epoch == 2:
            raise KeyboardInterrupt
        whole(self, trainer)

    whole, Group.on_epoch_end = Group.on_epoch_end, end
    try:
        _search(file)
    except KeyboardInterrupt:
        return
    finally:
        Group.on_epoch_end = whole


def use_predictor(file: Path, raw: Any) -> Any:
    """Load a predictor and predict."""
    predictor = Predictor.load(file)
    return predictor.predict(raw).tolist(), predictor.predict_proba(raw).tobytes(), repr(predictor.info)


def use_run(folder: Path) -> Any:
    """Read a run and write its page, or its pages."""
    run = read_run(folder)
    write_report(run, folder / "page.html")
    if isinstance(run.predictor.target, NumberTarget):
        write_comparison([run, run], folder / "two.html")
    return (folder / "page.html").read_bytes()


def _array(array: Any) -> Any:
    return None if array is None else (array.dtype.str, array.shape, np.asarray(array).tobytes())


def use_table(file: Path) -> Any:
    """Read a table, fit an encoder to it, and tell the task."""
    table = xpnn.data.load_csv(file)
    return table.names, [column.tolist() for column in table.columns.values()], TableEncoder().fit(table.columns).notes


def use_states(file: Path) -> Any:
    """Make encoders and targets of their states."""
    try:
        states = json.loads(file.read_text(encoding="utf-8"))
        parts = states["encoder"], states["scaler"], states["classes"], states["number"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise XpnnError("not what this script wrote") from error
    encoder = TableEncoder.from_dict(parts[0])
    scaler = xpnn.data.Standardizer.from_dict(parts[1])
    classes, number = target_from_dict(parts[2]), target_from_dict(parts[3])
    codes = [np.asarray(target.decode(np.zeros(1, dtype=np.int64))).tolist() for target in (classes, number)]
    return encoder.transform(_TABLE).tobytes(), scaler.transform(np.ones((1, 2))).tobytes(), codes


def use_estimator(file: Path) -> Any:
    """Load an estimator of tables, predict with its intervals, and show it."""
    model = TabularRegressor.load(file)
    bounds = model.predict_interval(_TABLE | {"day": _DAYS}, 0.5)
    return bounds.tobytes(), repr(model), repr(model.predictor_.info), model.summary()


_DAYS = np.array(["2020-01-31", "2020-03-01", "2021-12-24", "2022-05-05"] * 20, dtype="datetime64[D]")
_TABLE = {
    "age": np.array([31.0, np.nan, 45.0, 38.0] * 20),
    "work": np.array(["office", "field", None, "home"] * 20, dtype=object),
}


def make(folder: Path) -> dict[str, Format]:
    """Write a file of each format."""
    X, y = xpnn.data.make_moons(80, seed=0)
    net = xpnn.mlp([2, 8, 2], norm="batch", dropout=0.1, residual=True, seed=0)
    trainer = xpnn.Trainer(
        net, xpnn.CrossEntropy(), xpnn.Adam(), schedule=xpnn.CosineDecay(), regularizer=xpnn.SpectralNorm(1e-3)
    )
    trainer.fit(X, y, epochs=2, batch_size=40)
    trainer.save(folder / "trainer")
    _cut_search(folder / "search")
    xpnn.save(net, folder / "network", extra={"about": "moons"})
    encoder = TableEncoder(bins=4).fit(_TABLE)
    labels, amounts = ["yes", "no", "no", "yes"] * 20, np.arange(80.0)
    target, amount = ClassTarget().fit(labels), NumberTarget().fit(amounts)
    table_net = xpnn.mlp([len(encoder.feature_names_out), 4, 2], seed=0)
    Predictor(table_net, xpnn.CrossEntropy(), target, encoder, {"target": "rich", "options": {"seed": 0}}).save(
        folder / "table"
    )
    scaler = xpnn.data.Standardizer().fit(X)
    Predictor(xpnn.mlp([2, 4, 1], seed=0), xpnn.Huber(), amount, scaler).save(folder / "numbers")
    Predictor(xpnn.mlp([64, 4, 2], seed=0), xpnn.CrossEntropy(), target, None).save(folder / "images")
    model = TabularRegressor(preset="quick", hidden=(4,), epochs=2, ensemble=2, metric="mae")
    model.fit(_TABLE | {"day": _DAYS}, np.arange(80.0) ** 2).save(folder / "estimator.safetensors")
    np.savez(folder / "arrays.npz", X=X, y=y)
    np.savez_compressed(folder / "packed.npz", X=X, y=np.array(labels))
    np.save(folder / "X.npy", X)
    xpnn.data.write_idx(folder / "images-idx3", np.arange(480, dtype=np.uint8).reshape(30, 4, 4))
    xpnn.data.write_idx(folder / "labels.gz", np.arange(60, dtype=np.int16))
    rows = [["age", "work", "rich"], *zip(_TABLE["age"], _TABLE["work"], labels, strict=True)]
    with (folder / "t.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    (folder / "t.csv.gz").write_bytes(gzip.compress((folder / "t.csv").read_bytes(), mtime=0))
    states = {
        "encoder": encoder.to_dict(),
        "scaler": scaler.to_dict(),
        "classes": target.to_dict(),
        "number": amount.to_dict(),
    }
    (folder / "states.json").write_text(json.dumps(states), encoding="utf-8")
    np.savez(folder / "amounts.npz", X=np.stack([amounts, amounts % 7], axis=1), y=amounts + 0.5)
    for name, source in (("digits", "digits"), ("regression", folder / "amounts.npz")):
        out = folder / name
        arguments = ["train", str(source), "--epochs", "2", "--hidden", "8", "--quiet", "--out", str(out)]
        with contextlib.redirect_stdout(io.StringIO()):
            if cli.main(arguments):
                raise RuntimeError(f"training on {source} failed")
    return _formats(folder, X)


def _formats(folder: Path, X: np.ndarray) -> dict[str, Format]:
    uses: dict[str, Callable[[Path], Any]] = {
        "network": use_network,
        "trainer": use_trainer,
        "search": use_search,
        "table": lambda file: use_predictor(file, _TABLE),
        "numbers": lambda file: use_predictor(file, X[:9]),
        "images": lambda file: use_predictor(file, np.ones((3, 8, 8))),
    }
    uses["estimator.safetensors"] = use_estimator
    found = {name: Format(folder / name, use, TENSORS, digest=True) for name, use in uses.items()}
    found |= {f"{name}, forged": Format(folder / name, use, (forge,)) for name, use in uses.items()}

    def arrays(file: Path) -> Any:
        return [_array(a) for a in xpnn.data.load_arrays(file)]

    def mapped(file: Path) -> Any:
        return _array(xpnn.data.open_memmap(file, file)[0])

    def idx(file: Path) -> Any:
        return _array(xpnn.data.read_idx(file))

    npy: tuple[Edit, ...] = (*BYTES, edit_npy, edit_npy)
    found["npz"] = Format(folder / "arrays.npz", arrays, npy)
    found["npz, compressed"] = Format(folder / "packed.npz", arrays, npy)
    found["npy"] = Format(folder / "X.npy", mapped, npy)
    found["IDX"] = Format(folder / "images-idx3", idx, BYTES)
    found["IDX.gz"] = Format(folder / "labels.gz", idx, (*BYTES, bomb, *map(zipped, BYTES)))
    table: tuple[Edit, ...] = (*BYTES, edit_cell, edit_cell, edit_cell)
    found["CSV"] = Format(folder / "t.csv", use_table, table)
    found["CSV.gz"] = Format(folder / "t.csv.gz", use_table, (*BYTES, bomb, *map(zipped, table)))
    found["states"] = Format(folder / "states.json", use_states, (edit_json,))
    for run in ("digits", "regression"):
        for name in ("scores.json", "evidence.json", "history.csv", "model.safetensors"):
            edits = {"json": (*BYTES, *[edit_json] * 8), "csv": (*BYTES, edit_cell, edit_cell)}.get(
                name.rpartition(".")[2], TENSORS
            )
            digest = name == "model.safetensors"
            found[f"{run}/{name}"] = Format(folder / run / name, use_run, edits, digest=digest, folder=folder / run)
    return found


# -- one mutant --------------------------------------------------------------------------------------------------
class _TooSlowError(BaseException):
    """Not an Exception: nobody on the way shall take it for one of theirs."""


def _ring(*_: object) -> None:
    raise _TooSlowError


def _memory(key: str) -> float:
    """Return a line of this process's status, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(key)), 0.0)


def attempt(given: Format, raw: bytes, expected: Any) -> tuple[str, str]:
    """Use a file with this content, and return what came of it, with the error."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "copy" if given.folder is None else given.folder.name)  # a page bears the folder's name
        if given.folder is None:
            place.mkdir()
            target = file = place / given.file.name
        else:
            shutil.copytree(given.folder, place)
            target, file = place, place / given.file.name
        file.write_bytes(raw)
        before, said = _memory("VmRSS"), ""
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the largest size is measured anew
        signal.setitimer(signal.ITIMER_REAL, 30 * SECONDS)  # for what waits; on a busy machine work may take long
        began = time.process_time()
        try:
            outcome = "same" if given.use(target) == expected else "different"
        except XpnnError as error:
            outcome, said = "refused", str(error)
            if "\n" in said or not said:
                outcome = "foreign"  # not one line
        except _TooSlowError:
            outcome = "slow"
        except MemoryError:
            outcome = "large"
        except BaseException:
            outcome, said = "foreign", traceback.format_exc()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if time.process_time() - began > SECONDS:
            outcome = "slow"
        grown = _memory("VmHWM") - before
        return ("large", f"{grown:.0f} MB") if grown > MEGABYTES else (outcome, said)


_FORMATS: dict[str, Format] = {}
_EXPECTED: dict[str, Any] = {}


def _start() -> None:
    """Prepare a worker: what it may take, and how long."""
    import resource

    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _ring)
    most = int((_memory("VmSize") + 4 * MEGABYTES) * 2**20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _one(task: tuple[str, int]) -> Result:
    name, seed = task
    given, rng = _FORMATS[name], random.Random(f"{name} {seed}")
    edit = rng.choice(given.edits)
    whole = given.file.read_bytes()
    raw = edit(whole, rng)
    outcome, said = attempt(given, raw, _EXPECTED[name]) if raw != whole else ("same", "")
    return Result(name, edit.__name__, outcome, said, seed)


def run(n: int, seed: int, workers: int = 2) -> list[Result]:
    """Make so many mutants, of all formats in turn."""
    with tempfile.TemporaryDirectory() as folder:
        _FORMATS.update(make(Path(folder)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = {given.folder or given.file: given for given in _FORMATS.values()}
            expected = {path: given.use(path) for path, given in whole.items()}
        _EXPECTED.update({name: expected[given.folder or given.file] for name, given in _FORMATS.items()})
        names = list(_FORMATS)
        tasks = [(names[k % len(names)], seed + k) for k in range(n)]
        with multiprocessing.get_context("fork").Pool(workers, _start) as pool:
            return list(pool.imap_unordered(_one, tasks, chunksize=8))


def faults(results: list[Result]) -> list[str]:
    """Return what must not be, a line each."""
    sealed = {name for name, given in _FORMATS.items() if given.digest}
    return [
        f"{r.format}, {r.edit}, mutant {r.number}: {r.outcome}\n{r.said}"
        for r in results
        if r.outcome in FAULTS or (r.outcome == "different" and r.format in sealed)
    ]


def main() -> int:
    """Run, and print a table by format."""
    from tabulate import tabulate

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2000, help="how many mutants; default 2000")
    parser.add_argument("--seed", type=int, default=0, help="number of the first mutant; default 0")
    parser.add_argument("--workers", type=int, default=2, help="processes; default 2")
    args = parser.parse_args()
    results = run(args.n, args.seed, args.workers)
    counts = Counter((result.format, result.outcome) for result in results)
    rows = [[name, *(counts[name, outcome] for outcome in OUTCOMES)] for name in _FORMATS]
    rows.append(["all", *(sum(row[i] for row in rows) for i in range(1, len(OUTCOMES) + 1))])
    print(tabulate(rows, headers=["format", *OUTCOMES]))
    wrong = faults(results)
    for line in wrong:
        print(f"\n{line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
