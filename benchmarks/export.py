"""One row in C, beside the bare products of its network, onnxruntime and `Predictor.predict_proba`.

    python benchmarks/export.py

Prints for each model the shortest time of a row.  The C programs are timed by themselves, compiled with -O2 and with
-O3 -march=native; the bare products are the model's own matrices, in the same loops, and nothing else.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from xpnn import load_predictor
from xpnn.interop.build import Builder
from xpnn.interop.c_check import compiler
from xpnn.interop.c_header import CHeader
from xpnn.interop.graph import Graph
from xpnn.interop.subject import Subject, subject_of
from xpnn.tabular import TabularClassifier, TabularRegressor

MAIN = """
#include <stdio.h>
#include <time.h>
#include "model.h"
#include "bare.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(void)
{
    static model_row rows[8] = {ROWS};
    static float x[WIDTH], out[4096];
    volatile float sum = 0;
    double best[2] = {1, 1};
    for (int round = 0; round < 300; round++) {
        double start = now();
        for (int k = 0; k < 64; k++) {
            model_predict(&rows[k % 8], out);
            sum += out[0];
        }
        start = (now() - start) / 64;
        best[0] = start < best[0] ? start : best[0];
        start = now();
        for (int k = 0; k < 64; k++) {
            x[k % WIDTH] += 0.01f;
            bare_predict(x, out);
            sum += out[0];
        }
        start = (now() - start) / 64;
        best[1] = start < best[1] ? start : best[1];
    }
    printf("%.9f %.9f\\n", best[0], best[1]);
    return 0;
}
"""


def bare(graph: Graph) -> Graph:
    """Return the products of a graph by themselves, each of the features that it is given there."""
    builder = Builder()
    products = [node for node in graph.nodes if node.op == "matmul"]
    width = sum(int(np.prod(graph.values[node.inputs[0]].shape)) for node in products)
    x, start, made = builder.input("features", "features", shape=(width,), dtype="float32"), 0, []
    for node in products:
        shape = graph.values[node.inputs[0]].shape
        size = int(np.prod(shape))
        given = builder.reshape(builder.op("slice", x, axis=-1, start=start, stop=start + size), shape)
        product = builder.op("matmul", given, builder.constant(graph.constants[node.inputs[1]]))
        made.append(builder.reshape(product, (int(np.prod(builder.shape(product))),)))
        start += size
    return builder.graph({"y": builder.op("concat", *made, axis=-1)})


def literal(header: CHeader, columns: Any) -> str:
    """Return eight rows as an initializer of C."""
    rows = []
    for row in range(8):
        cells = []
        for each in header.graph.inputs:
            cell = np.asarray(columns[each.name]).ravel()[row]
            cells.append(f'"{cell}"' if each.kind == "text" else "NAN" if cell != cell else repr(float(cell)))
        rows.append("{" + ", ".join(cells) + "}")
    return ", ".join(rows)


def in_c(subject: Subject, raw: Any, flags: list[str]) -> tuple[float, float]:
    """Return seconds for a row, and for its products."""
    model, products = CHeader(subject.graph, "model"), CHeader(bare(subject.graph), "bare")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.h").write_text(model.text)
        (folder / "bare.h").write_text(products.text)
        main = MAIN.replace("ROWS", literal(model, subject.columns(raw)))
        (folder / "main.c").write_text(main.replace("WIDTH", str(products.graph.inputs[0].shape[0])))
        command = [*compiler(), "-std=gnu99", *flags, "main.c", "-o", "main", "-lm"]
        subprocess.run(command, cwd=folder, check=True)
        told = subprocess.run([folder / "main"], capture_output=True, text=True, check=True).stdout.split()
    return float(told[0]), float(told[1])


def shortest(call: Callable[[], Any]) -> float:
    """Return the shortest time of a call, of seven times 100."""
    best = float("inf")
    for _ in range(7):
        start = time.perf_counter()
        for _ in range(100):
            call()
        best = min(best, (time.perf_counter() - start) / 100)
    return best


def in_onnxruntime(predictor: Any, subject: Subject, raw: Any, folder: Path) -> float:
    """Return seconds for a row."""
    import onnxruntime

    predictor.to_onnx(folder / "m.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / "m.onnx"), options, providers=["CPUExecutionProvider"])
    columns = subject.columns(raw)
    feeds = {each.name: np.asarray(columns[each.name])[:1].reshape(1, *each.shape) for each in subject.graph.inputs}
    return shortest(lambda: session.run(None, feeds))


def main() -> None:
    """Print the table."""
    rng = np.random.default_rng(0)
    table = {f"x{k}": rng.standard_normal(4000) for k in range(8)}
    table |= {f"kind{k}": rng.choice(np.array(list("abcdefgh"), dtype=object), 4000) for k in range(4)}
    y = table["x0"] + np.sin(table["x1"]) + (table["kind0"] == "a")
    print("| model | bare products | C | | onnxruntime | Predictor |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for kind, target in ((TabularRegressor, y), (TabularClassifier, np.where(y > 0, "p", "n"))):
            for preset in ("quick", "good"):
                kind(preset=preset, epochs=1, random_state=0).fit(table, target).save(Path(name, "m.safetensors"))
                predictor = load_predictor(Path(name, "m.safetensors"))
                subject = subject_of(predictor)
                raw = {column: cells[:8] for column, cells in table.items()}
                onnx = in_onnxruntime(predictor, subject, raw, Path(name))
                one = {column: cells[:1] for column, cells in table.items()}
                own = shortest(lambda p=predictor, row=one: p.predict_proba(row))
                for flags in (["-O2"], ["-O3", "-march=native"]):
                    row, products = in_c(subject, raw, flags)
                    print(
                        f"| {kind.__name__} {preset}, {' '.join(flags)} | {products * 1e6:.1f} µs | {row * 1e6:.1f} µs "
                        f"| {row / products:.2f} | {onnx * 1e6:.0f} µs | {own * 1e6:.0f} µs |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
