"""Mean cross-entropy and its gradient, by lossfast and by others, side by side in one process on one thread.

``python -m benchmarks.peers`` prints a table; ``--json`` writes the same with the machine and the versions. Every time
is a median, in turns with all others and with `numpy.copyto` of the logits, which reads and writes what a fused kernel
has to. Peers that are not installed are left out.
"""

from __future__ import annotations

import os

if __name__ == "__main__":  # before NumPy, torch and scikit-learn start theirs
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"

import argparse
import contextlib
import importlib
import json
import math
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import lossfast as lf

from . import common

SHAPES = ("32x10", "1000x10", "100000x10", "1000000x3", "4096x1000", "32768x1000")
QUICK_SHAPES = ("32x10", "1000x10", "10000x10")

#: From logits and labels to a call that gives loss and gradient.
Peer = Callable[[np.ndarray, np.ndarray], Callable[[], tuple[Any, Any]]]


# -------------------------------------------------------------------------------------------------------- peers


def by_lossfast(logits: np.ndarray, labels: np.ndarray) -> Callable[[], tuple[Any, Any]]:
    if len(logits) <= 32:  # a small call as people write it
        return lambda: lf.cross_entropy.value_and_grad(logits, labels, n_threads=1)
    buffer = np.empty_like(logits)
    return lambda: lf.cross_entropy.value_and_grad(logits, labels, grad_out=buffer, n_threads=1)


def by_numpy(logits: np.ndarray, labels: np.ndarray) -> Callable[[], tuple[Any, Any]]:
    rows = np.arange(len(logits))

    def call() -> tuple[Any, Any]:
        shifted = logits - logits.max(axis=1, keepdims=True)
        grad = np.exp(shifted)
        total = grad.sum(axis=1, keepdims=True)
        value = (np.log(total[:, 0]) - shifted[rows, labels]).mean()
        grad /= total
        grad[rows, labels] -= 1
        grad /= len(logits)
        return value, grad

    return call


def by_scipy(logits: np.ndarray, labels: np.ndarray) -> Callable[[], tuple[Any, Any]]:
    from scipy.special import log_softmax

    rows = np.arange(len(logits))

    def call() -> tuple[Any, Any]:
        log_proba = log_softmax(logits, axis=1)
        value = -log_proba[rows, labels].mean()
        grad = np.exp(log_proba, out=log_proba)
        grad[rows, labels] -= 1
        grad /= len(logits)
        return value, grad

    return call


def by_sklearn(logits: np.ndarray, labels: np.ndarray) -> Callable[[], tuple[Any, Any]]:
    from sklearn._loss import HalfMultinomialLoss

    loss = HalfMultinomialLoss(n_classes=logits.shape[1])
    labels, losses, buffer = labels.astype(logits.dtype), np.empty(len(logits), logits.dtype), np.empty_like(logits)

    def call() -> tuple[Any, Any]:
        loss.loss_gradient(labels, logits, loss_out=losses, gradient_out=buffer, n_threads=1)
        return losses.mean(), np.divide(buffer, len(logits), out=buffer)

    return call


def by_torch(logits: np.ndarray, labels: np.ndarray) -> Callable[[], tuple[Any, Any]]:
    import torch

    leaf = torch.from_numpy(logits).requires_grad_()
    target = torch.from_numpy(labels.astype(np.int64))

    def call() -> tuple[Any, Any]:
        leaf.grad = None
        loss = torch.nn.functional.cross_entropy(leaf, target)
        loss.backward()
        return loss.detach(), leaf.grad

    return call


#: By name: the package it needs, and how it is called.
PEERS: dict[str, tuple[str, Peer]] = {
    "lossfast": ("lossfast", by_lossfast),
    "numpy": ("numpy", by_numpy),
    "scipy": ("scipy", by_scipy),
    "sklearn": ("sklearn", by_sklearn),
    "torch": ("torch", by_torch),
}


def installed() -> dict[str, Peer]:
    found = {}
    for name, (package, peer) in PEERS.items():
        with contextlib.suppress(ImportError):
            importlib.import_module(package)
            found[name] = peer
    return found


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Within, torch takes one thread; the others are told in their calls or have none."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    try:
        if torch:
            torch.set_num_threads(1)
        yield
    finally:
        if torch:
            torch.set_num_threads(before)


# ---------------------------------------------------------------------------------------------------- measuring


def logits_of(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    logits, labels = common.operands(lf.get_loss("cross_entropy"), np.dtype(np.float32), shape)
    return logits, labels


def measure(shape: tuple[int, int], peers: dict[str, Peer], seconds: float) -> dict[str, float]:
    """Seconds per call of each peer and of ``copyto``. They must agree, or there would be nothing to compare."""
    logits, labels = logits_of(shape)
    calls = {name: peer(logits, labels) for name, peer in peers.items()}
    with np.errstate(all="ignore"):
        value, grad = (np.array(result, dtype=np.float64) for result in by_numpy(logits.astype(np.float64), labels)())
    for name, call in calls.items():
        found, slope = call()
        if not math.isclose(float(found), value, rel_tol=1e-4) or not np.allclose(slope, grad, rtol=1e-3, atol=1e-6):
            raise AssertionError(f"{name} gives another loss or gradient at {shape}: {float(found)}, not {value}")
    del grad
    out = np.zeros_like(logits)
    calls["copyto"] = lambda: np.copyto(out, logits)  # type: ignore[assignment,return-value]
    with one_thread():
        times = common.interleaved(list(calls.values()), seconds)
    return dict(zip(calls, times, strict=True))


def machine(peers: dict[str, Peer]) -> dict[str, Any]:
    """What the figures depend on."""
    cpu = platform.processor() or platform.machine()
    flags: set[str] = set()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                cpu = value.strip()
            elif key.strip() in ("flags", "Features"):
                flags = set(value.split())
    told = ("sse4_2", "avx", "f16c", "fma", "avx2", "avx512f", "avx512bw", "avx512vl", "avx512_bf16", "asimd", "sve")
    versions = {"python": platform.python_version()}
    for name in peers:
        versions[name] = importlib.import_module(PEERS[name][0]).__version__
    return {
        "cpu": cpu,
        "cpus": os.cpu_count(),
        "instruction sets": [name for name in told if name in flags],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "lossfast backend": lf.get_backend(),
        "lossfast instruction set": lf.get_isa() if lf.get_backend() == "compiled" else None,
        "versions": versions,
    }


# ---------------------------------------------------------------------------------------------------- reporting


def table(results: dict[str, dict[str, float]], markdown: bool) -> str:
    """Ratios to copyto (whose time is given), and how many times as long as lossfast the best peer takes."""
    names = list(next(iter(results.values())))
    peers = [name for name in names if name != "copyto"]
    rows = [["rows x classes", "copyto", *peers, "best peer / lossfast", "lossfast"]]
    for shape, times in results.items():
        others = [times[name] for name in peers if name != "lossfast"]
        cells = [f"{times[name] / times['copyto']:.3g}" for name in peers]
        best = f"{min(others) / times['lossfast']:.2f}" if others else "-"
        rows.append([shape.replace("x", " x "), _time(times["copyto"]), *cells, best, _time(times["lossfast"])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [[cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    if not markdown:
        return "\n".join("  ".join(line) for line in lines)
    lines.insert(1, ["-" * (width - 1) + ":" for width in widths])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _time(seconds: float) -> str:
    for factor, unit in ((1e6, "us"), (1e3, "ms")):
        if seconds * factor < 1000:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description="Mean cross-entropy with its gradient, float32, one thread: lossfast beside other libraries, in "
        "units of numpy.copyto of the logits.",
        epilog="examples:\n"
        "  python -m benchmarks.peers --quick\n"
        "  python -m benchmarks.peers --json peers.json --markdown\n"
        "  python -m benchmarks.peers --shape 100000x10 --shape 2048x32000 --peer torch --isa avx2\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--shape", action="append", metavar="NxC", help=f"default: {', '.join(SHAPES)}")
    parser.add_argument("--peer", action="append", choices=[name for name in PEERS if name != "lossfast"], help="all")
    parser.add_argument("--backend", choices=lf.backends.NAMES, help="lossfast's backend")
    parser.add_argument("--isa", help="the instruction set of lossfast's compiled backend")
    parser.add_argument("--seconds", type=float, help="for each peer and shape, at least (default 1; quick: 0.05)")
    parser.add_argument("--quick", action="store_true", help="small shapes, few turns")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write times, in seconds, and the machine")
    options = parser.parse_args(arguments)

    peers = installed()
    for name in options.peer or ():
        if name not in peers:
            parser.error(f"{name} is not installed")
    if options.peer:
        peers = {name: peer for name, peer in peers.items() if name in ("lossfast", *options.peer)}
    shapes = options.shape or (QUICK_SHAPES if options.quick else SHAPES)
    seconds = options.seconds or (0.05 if options.quick else 1.0)
    with contextlib.ExitStack() as stack:
        if options.backend:
            stack.enter_context(lf.use_backend(options.backend))
        if options.isa:
            stack.enter_context(lf.use_isa(options.isa))
        about = machine(peers)
        results = {}
        for shape in shapes:
            print(f"{shape} ...", file=sys.stderr, flush=True)
            rows, classes = common.shape_of(shape)
            results[shape] = measure((rows, classes), peers, seconds)
    print(table(results, options.markdown))
    print()
    for key, value in about.items():
        shown = value
        if isinstance(value, dict):
            shown = ", ".join(f"{name} {version}" for name, version in value.items())
        elif isinstance(value, list):
            shown = " ".join(value)
        print(f"{key}: {shown}")
    if options.json:
        report = {"unit": "seconds", "dtype": "float32", "threads": 1, "machine": about, "times": results}
        options.json.write_text(json.dumps(report, indent=1) + "\n")


# ---------------------------------------------------------------------------------------------------------- asv


class CrossEntropy:
    """The smaller shapes of the table, so that a release of a peer or of lossfast shows."""

    params = (list(PEERS), [shape for shape in SHAPES if math.prod(common.shape_of(shape)) <= 1_000_000])
    param_names = ("library", "shape")
    version = "1"
    unit = "times NumPy's copy"

    def setup_cache(self) -> common.Table:
        peers, found = installed(), {}
        for shape in self.params[1]:
            rows, classes = common.shape_of(shape)
            times = measure((rows, classes), peers, 0.01 if common.QUICK else 0.2)
            found.update({(name, shape): times[name] / times["copyto"] for name in peers})
        return found

    setup_cache.timeout = 120

    def setup(self, found: common.Table, *key: str) -> None:
        common.require(found, *key)

    def track_ratio_to_copyto(self, found: common.Table, *key: str) -> float:
        return common.look_up(found, *key)


if __name__ == "__main__":
    main()
