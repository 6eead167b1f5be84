"""Time of a training step on one device, beside PyTorch and JAX, and MNIST accuracy over time.

    python ci/gpu_bench.py --backend cupy --out bench.json

All train one network from the same weights on the same batches, which lie on the device: softmax cross-entropy, Adam,
float32 with full-precision products.  Losses after some steps are compared before anything is timed.  Rounds of all
competitors are interleaved, and each wait for the device is within the time.  A competitor that is not installed, or
fails, is named with the reason; the file is written anew after each part.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import xpnn
from xpnn.accel.cuda.capture import find_capturer
from xpnn.accel.cuda.persistent import Epoch
from xpnn.backend import Backend
from xpnn.training.recorded.persistent import describe
from xpnn.training.step import StepTable

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import gpu_probe
import harness
import peers
from harness import MissingError

PROBLEMS = [([784, 256, 128, 10], 128), ([784, 256, 128, 10], 1024), ([784, 2048, 2048, 10], 1024)]
MNIST = [(128, 3e-3, 4), (1024, 8e-3, 8)]  # batch size, peak learning rate, epochs
N_BATCHES = 8
STEPS_COMPARED = 5
SCANNED = 32  # steps of one lax.scan
ROWS_OF_NUMBERS = 20_000  # beyond, Adam's corrections are 1 to the last bit


@dataclass
class Problem:
    """A network, its first weights, and batches on the host."""

    sizes: list[int]
    batch_size: int
    weights: peers.Weights
    batches: list[tuple[np.ndarray, np.ndarray]]

    def __str__(self) -> str:
        return f"{'-'.join(map(str, self.sizes))}, batch {self.batch_size}"


@dataclass
class Competitor:
    """What makes a step, what waits for the device, and the loss of the last step."""

    step: Callable[[int], None]
    wait: Callable[[], None]
    loss: Callable[[], float]


def make_problem(sizes: list[int], batch_size: int) -> Problem:
    rng = np.random.default_rng(0)
    weights = peers.first_weights(xpnn.mlp(sizes, seed=0))
    batches = [
        (rng.random((batch_size, sizes[0]), dtype=np.float32), rng.integers(0, sizes[-1], batch_size))
        for _ in range(N_BATCHES)
    ]
    return Problem(sizes, batch_size, weights, batches)


# -- competitors ------------------------------------------------------------------------------------------------
def with_xpnn(problem: Problem, backend: Backend) -> Competitor:
    net = xpnn.mlp(problem.sizes, backend=backend, seed=0)
    loss, rule = xpnn.CrossEntropy().using(backend.ops), xpnn.Adam(peers.LR, peers.BETA1, peers.BETA2, eps=peers.EPS)
    batches = [(backend.asarray(x), backend.asarray(y, dtype=backend.index_dtype)) for x, y in problem.batches]
    last: list[Any] = [None]

    def step(t: int) -> None:
        x, y = batches[t % N_BATCHES]
        pred, caches = net.forward(x, train=True, step=t)
        last[0], d_pred = loss.value_and_grad(pred, y)
        net.backward(d_pred, caches)
        rule.step(net.store)

    return Competitor(step, backend.synchronize, lambda: float(backend.to_numpy(last[0])))


def with_xpnn_graph(problem: Problem, backend: Backend) -> Competitor:
    """The step as one CUDA graph; batch and numbers are copied to where it reads them."""
    capturer = find_capturer(backend.name, backend.ops)
    if isinstance(capturer, str):
        raise MissingError(capturer)
    whole_step = gpu_probe.WholeStep(backend, problem.sizes, problem.batch_size)
    batches = [(backend.asarray(x), backend.asarray(y, dtype=backend.index_dtype)) for x, y in problem.batches]
    rule = xpnn.Adam(peers.LR, peers.BETA1, peers.BETA2, eps=peers.EPS)
    numbers = backend.asarray(np.asarray([rule.numbers(t) for t in range(1, ROWS_OF_NUMBERS + 1)]))
    last: list[Any] = [None]
    with capturer.active():
        whole_step()  # compiles, and gives cuBLAS its workspace
        backend.synchronize()

        def run() -> None:
            last[0] = whole_step()

        recording = capturer.record(run)
        whole_step.reset()

    def step(t: int) -> None:
        with capturer.active():
            whole_step.x[...], whole_step.labels[...] = batches[t % N_BATCHES]
            whole_step.numbers[...] = numbers[min(t, ROWS_OF_NUMBERS - 1), ...]
            recording.launch()

    return Competitor(step, backend.synchronize, lambda: float(backend.to_numpy(last[0]).mean()))


def with_xpnn_persistent(problem: Problem, backend: Backend) -> Competitor:
    """Many steps as one kernel, rows gathered within it; what is timed is a step of it."""
    if backend.name != "cupy":
        raise MissingError(f"the persistent kernel is for CuPy, and the backend is {backend.name}")
    chosen = xpnn.get_backend(backend, persistent=True)
    rule = xpnn.Adam(peers.LR, peers.BETA1, peers.BETA2, eps=peers.EPS)
    trainer = xpnn.Trainer(xpnn.mlp(problem.sizes, backend=chosen, seed=0), xpnn.CrossEntropy(), rule)
    rule.bind(trainer.net.store)
    program = describe(trainer, problem.batch_size)
    if isinstance(program, str):
        raise MissingError(program)
    store, n = trainer.net.store, problem.batch_size
    steps: Any = chosen.ops.persistent_steps(  # type: ignore[attr-defined]
        program, [store.values, store.grads, *rule.state.values(), store.lr_factors, store.decay_factors]
    )
    x, y = (np.concatenate(columns) for columns in zip(*problem.batches, strict=True))
    order = np.arange(SCANNED * n) % len(x)
    numbers = [rule.numbers(t) for t in range(1, SCANNED + 1)]
    table = StepTable(0, n, np.full(SCANNED, float(n)), numbers).lay_out(trainer.net, 0, SCANNED)
    losses, hits = chosen.zeros(SCANNED), chosen.zeros((SCANNED, 2))
    rows = Epoch(
        *(chosen.asarray(x), chosen.asarray(order, dtype=chosen.index_dtype)),
        *(chosen.asarray(y, dtype=chosen.index_dtype), None, None, table.numbers, table.keys, losses, hits),
    )
    last = [0]

    def step(t: int) -> None:
        if t < STEPS_COMPARED:  # one by one, so that the losses can be compared
            steps.launch(rows, t, 1)
            last[0] = t
        elif t % SCANNED == 0:
            steps.launch(rows, 0, SCANNED)
            last[0] = SCANNED - 1

    return Competitor(step, chosen.synchronize, lambda: float(chosen.to_numpy(losses)[last[0]]))


def torch_parts(problem: Problem, device: str) -> tuple[Any, Any, Any, list[tuple[Any, Any]]]:
    torch = peers.module("torch")
    if device == "cuda" and not torch.cuda.is_available():
        raise MissingError("this PyTorch finds no GPU")
    torch.set_float32_matmul_precision("highest")
    net = peers.torch_net(torch, problem.weights, device)
    options = {"fused": True, "capturable": True} if device == "cuda" else {}
    rule = torch.optim.Adam(net.parameters(), **peers.ADAM, **options)
    batches = [(torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)) for x, y in problem.batches]
    return torch, net, rule, batches


def with_torch(problem: Problem, device: str) -> Competitor:
    torch, net, rule, batches = torch_parts(problem, device)
    last: list[Any] = [None]

    def step(t: int) -> None:
        x, y = batches[t % N_BATCHES]
        rule.zero_grad(set_to_none=True)
        last[0] = torch.nn.functional.cross_entropy(net(x), y)
        last[0].backward()
        rule.step()

    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    return Competitor(step, wait, lambda: float(last[0].detach()))


def with_torch_graph(problem: Problem, device: str) -> Competitor:
    if device != "cuda":
        raise MissingError("CUDA graphs need a GPU")
    torch, net, rule, batches = torch_parts(problem, device)
    x, y = batches[0][0].clone(), batches[0][1].clone()
    first = [p.detach().clone() for p in net.parameters()]

    def whole_step() -> Any:
        rule.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        rule.step()
        return loss

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            whole_step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = whole_step()
    with torch.no_grad():  # the warm-up moved the weights
        for p, start in zip(net.parameters(), first, strict=True):
            p.copy_(start)
        for state in rule.state.values():
            for value in state.values():
                value.zero_()

    def step(t: int) -> None:
        new_x, new_y = batches[t % N_BATCHES]
        x.copy_(new_x)
        y.copy_(new_y)
        graph.replay()

    return Competitor(step, torch.cuda.synchronize, lambda: float(loss.detach()))


def with_torch_compiled(problem: Problem, device: str) -> Competitor:
    if device != "cuda":
        raise MissingError("max-autotune is for GPUs")
    torch, net, rule, batches = torch_parts(problem, device)
    last: list[Any] = [None]

    @torch.compile(mode="max-autotune", fullgraph=True)  # type: ignore[untyped-decorator]
    def loss_of(x: Any, y: Any) -> Any:
        return torch.nn.functional.cross_entropy(net(x), y)

    def step(t: int) -> None:
        x, y = batches[t % N_BATCHES]
        rule.zero_grad(set_to_none=True)
        torch.compiler.cudagraph_mark_step_begin()
        last[0] = loss_of(x, y)
        last[0].backward()
        rule.step()

    return Competitor(step, torch.cuda.synchronize, lambda: float(last[0].detach()))


def with_jax_scan(problem: Problem, device: str) -> Competitor:
    """Many steps as one call, as xpnn's graphs make them; what is timed is a step of it."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if device == "cpu":
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    jax, jnp = peers.jax_modules()
    if device == "cuda" and jax.default_backend() not in ("gpu", "cuda"):
        raise MissingError(f"this JAX finds no GPU, only {jax.default_backend()}")
    one = peers.jax_step(jax, jnp)
    xs = jnp.asarray(np.stack([x for x, _ in problem.batches] * (SCANNED // N_BATCHES)))
    ys = jnp.asarray(np.stack([y.astype(np.int32) for _, y in problem.batches] * (SCANNED // N_BATCHES)))
    many = jax.jit(lambda state: jax.lax.scan(lambda s, batch: one(s, *batch), state, (xs, ys)), donate_argnums=0)
    single = jax.jit(one, donate_argnums=0)
    state: list[Any] = [peers.jax_state(jax, jnp, problem.weights), None]

    def step(t: int) -> None:
        if t < STEPS_COMPARED:  # one by one, so that the losses can be compared
            state[:] = single(state[0], xs[t % N_BATCHES], ys[t % N_BATCHES])
        elif t % SCANNED == 0:
            state[0], losses = many(state[0])
            state[1] = losses[-1]

    return Competitor(step, lambda: jax.block_until_ready(state), lambda: float(state[1]))


def with_jax(problem: Problem, device: str) -> Competitor:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the others need memory too
    if device == "cpu":
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    jax, jnp = peers.jax_modules()
    if device == "cuda" and jax.default_backend() not in ("gpu", "cuda"):
        raise MissingError(f"this JAX finds no GPU, only {jax.default_backend()}")
    compiled = jax.jit(peers.jax_step(jax, jnp), donate_argnums=0)
    state: list[Any] = [peers.jax_state(jax, jnp, problem.weights), None]
    batches = [(jnp.asarray(x), jnp.asarray(y.astype(np.int32))) for x, y in problem.batches]

    def step(t: int) -> None:
        state[:] = compiled(state[0], *batches[t % N_BATCHES])

    return Competitor(step, lambda: jax.block_until_ready(state), lambda: float(state[1]))


# -- measuring --------------------------------------------------------------------------------------------------
def makers(problem: Problem, backend: Backend) -> dict[str, Callable[[], Competitor]]:
    """Return how to make each competitor."""
    device = "cpu" if str(backend.device).startswith("cpu") or backend.name in ("numpy", "strict") else "cuda"
    return {
        "xpnn": lambda: with_xpnn(problem, backend),
        "xpnn CUDA graph": lambda: with_xpnn_graph(problem, backend),
        "xpnn persistent": lambda: with_xpnn_persistent(problem, backend),
        "torch eager": lambda: with_torch(problem, device),
        "torch CUDA graph": lambda: with_torch_graph(problem, device),
        "torch max-autotune": lambda: with_torch_compiled(problem, device),
        "jax jit": lambda: with_jax(problem, device),
        "jax scan": lambda: with_jax_scan(problem, device),
    }


def measure(
    problem: Problem, backend: Backend, only: list[str], before: dict[str, Any], seconds: float, round_seconds: float
) -> dict[str, Any]:
    """Add competitors to what was found `before`: compare their losses, then time interleaved rounds of them."""
    out: dict[str, Any] = {"problem": str(problem), "steps": {}, "missing": {}} | before
    running: dict[str, tuple[Competitor, int]] = {}
    for name, make in makers(problem, backend).items():
        if name not in only:
            continue
        try:
            competitor = make()
            for t in range(STEPS_COMPARED):
                competitor.step(t)
            loss = competitor.loss()
            reference = out.setdefault("loss", loss)  # of whoever came first: xpnn
            off = abs(loss - reference) / abs(reference)
            if not off < 1e-3:
                raise RuntimeError(f"loss {loss:.6f} after {STEPS_COMPARED} steps, expected {reference:.6f}")
            n = harness.calls_per_round(competitor.step, round_seconds, wait=competitor.wait)
            running[name] = competitor, -(-n // SCANNED) * SCANNED
            out["steps"][name] = {"loss_off": off}
        except Exception as error:  # whatever one cannot do must not keep the others from their turn
            out["missing"][name] = harness.reason(error)
    turns = {name: turn_of(competitor, n) for name, (competitor, n) in running.items()}
    times = harness.interleave(turns, seconds)
    for name, (_, n) in running.items():
        issued, spent = zip(*times[name], strict=True)
        out["steps"][name] |= {
            "us": round(statistics.median(spent), 2),
            "us_min": round(min(spent), 2),
            "us_max": round(max(spent), 2),
            "us_host": round(statistics.median(issued), 2),  # until the last step is handed over
            "rounds": len(spent),
            "steps_per_round": n,
        }
    return out


def turn_of(competitor: Competitor, n: int) -> Callable[[], tuple[float, float]]:
    """Return what makes `n` steps and returns µs a step: until all are handed over, and until all are done."""

    def turn() -> tuple[float, float]:
        began = time.perf_counter()
        for t in range(n):
            competitor.step(t)
        issued = time.perf_counter() - began
        competitor.wait()
        return issued / n * 1e6, (time.perf_counter() - began) / n * 1e6

    return turn


def mnist(backend: Backend, folder: str, seeds: int, epochs: int | None) -> list[dict[str, Any]]:
    """Train on MNIST that lies on the device; test accuracy after each epoch, over time."""
    data = xpnn.data.load_mnist(folder, download=False)
    X, X_test = backend.asarray(data.X_train), backend.asarray(data.X_test)
    runs = []
    for batch_size, lr, planned in MNIST:
        for seed in range(seeds):
            net = xpnn.mlp([784, 256, 128, 10], backend=backend, seed=seed)
            schedule = xpnn.OneCycle(warmup=0.2)
            trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr), schedule=schedule, seed=seed)
            began = time.perf_counter()
            history = trainer.fit(
                X, data.y_train, epochs=epochs or planned, batch_size=batch_size, X_val=X_test, y_val=data.y_test
            )
            runs.append(
                {
                    "batch_size": batch_size,
                    "lr": lr,
                    "seed": seed,
                    "test_accuracy": history["val_accuracy"],
                    "seconds": np.cumsum(history["seconds"]).round(4).tolist(),
                    "fit_seconds": round(time.perf_counter() - began, 4),
                }
            )
    return runs


# -- where ------------------------------------------------------------------------------------------------------
def device_name(backend: Backend) -> str:
    if backend.name == "cupy":
        properties = importlib.import_module("cupy").cuda.runtime.getDeviceProperties(backend.device.id)
        return str(properties["name"].decode())
    if backend.name == "torch" and backend.device.type == "cuda":
        return str(importlib.import_module("torch").cuda.get_device_name(backend.device))
    return f"no GPU: {harness.cpu_name()}, {os.cpu_count()} cores"


def versions(backend: Backend) -> dict[str, str]:
    found = harness.versions(("numpy", "array-api-compat", "cupy-cuda13x", "cupy-cuda12x", "torch", "jax"))
    if backend.name == "cupy":
        runtime = importlib.import_module("cupy").cuda.runtime
        found |= {"CUDA driver": str(runtime.driverGetVersion()), "CUDA runtime": str(runtime.runtimeGetVersion())}
    return found


def show(result: dict[str, Any]) -> None:
    print(f"\n{result['problem']}\n  {'':<20}{'µs/step':>10}{'min':>10}{'max':>10}{'host':>10}")
    for name, row in result["steps"].items():
        print(f"  {name:<20}" + "".join(f"{row[key]:>10.1f}" for key in ("us", "us_min", "us_max", "us_host")))
    for name, why in result["missing"].items():
        print(f"  {name:<20} {why}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="cupy")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to add to")
    parser.add_argument("--seconds", type=float, default=120.0, help="time for the rounds of all problems")
    parser.add_argument("--quick", action="store_true", help="the first problem in seconds, MNIST for one epoch")
    parser.add_argument("--only", action="append", help="this competitor, or MNIST; may be repeated; else all")
    args = parser.parse_args()
    backend = xpnn.get_backend(args.backend)
    problems = PROBLEMS[:1] if args.quick else PROBLEMS
    results: dict[str, Any] = {
        "device": device_name(backend),
        "backend": backend.spec,
        "precision": "float32, full-precision products",
        "problems": [],
        "mnist": "XPNN_DATA is not set",
        "versions": versions(backend),
    }
    if args.out.is_file():
        results |= json.loads(args.out.read_text(encoding="utf-8"))
    print(results["device"], results["versions"])
    failed = []
    only = args.only or [*makers(make_problem([1, 1], 1), backend), "MNIST"]
    for place, (sizes, batch_size) in enumerate(problems if only != ["MNIST"] else []):
        before = results["problems"][place] if place < len(results["problems"]) else {}
        seconds, round_seconds = (1.0, 0.05) if args.quick else (args.seconds / len(problems), 0.2)
        result = measure(make_problem(sizes, batch_size), backend, only, before, seconds, round_seconds)
        results["problems"][place : place + 1] = [result]
        missing = {name: why for name, why in result["missing"].items() if name in only}
        failed += [why for name, why in missing.items() if name.startswith("xpnn") and " for CuPy, and" not in why]
        harness.write(args.out, results)
        show(result)
    folder = os.environ.get("XPNN_DATA")
    if folder and "MNIST" in only:
        try:
            results["mnist"] = mnist(backend, folder, 1 if args.quick else 3, 1 if args.quick else None)
            for run in results["mnist"]:
                print(f"MNIST batch {run['batch_size']}: {run['test_accuracy'][-1]:.4f} in {run['fit_seconds']} s")
        except Exception as error:
            results["mnist"] = f"{type(error).__name__}: {error}"
            failed.append(results["mnist"])
    harness.write(args.out, results)
    for why in failed:
        print(f"failed: {why}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
