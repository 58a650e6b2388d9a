"""Losses, gradients and softmaxes by lossfast and by others, side by side in one process on one thread.

``python -m benchmarks.peers`` prints a table; ``--json`` writes the same with the machine and the versions. Every time
is a median, in turns with all others and with what NumPy takes to read, to copy or to subtract the same arrays, or for
an exponential of each number: the limits, which no fused kernel can be much below. Each peer is called as its users
call it, with buffers of its own where it takes some, and only timed if it gives the same results.
"""

from __future__ import annotations

import os

from . import ONE_THREAD

if __name__ == "__main__":  # before NumPy, torch and the others start their threads
    os.environ.update(ONE_THREAD)

import argparse
import concurrent.futures
import contextlib
import functools
import gc
import importlib
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import lossfast as lf

from . import common

ROW_SHAPES = ("32x10", "1000x10", "100000x10", "1000000x3", "4096x1000", "32768x1000", "2048x32000", "512x128256")
SIZES = ("32", "1000", "100000", "10000000")
DTYPES = ("float32", "float64")
QUICK_SHAPES = ("32x10", "1000x10", "4096x1000", "32", "100000")
#: A call of at most so many numbers is made as most people write it, without buffers of theirs.
SMALL = 320
#: How far from lossfast's result a peer may be before it counts as another function.
TOLERANCE = {"float32": 1e-3, "float64": 1e-6}


class Op(NamedTuple):
    """Something to compare: of a loss the mean, with its gradient or alone; of a function its result."""

    name: str
    grad: bool = False

    @property
    def rows(self) -> bool:
        return lf.get_loss(self.name).kind in ("rowwise", "row_function")

    @property
    def loss(self) -> bool:
        return lf.get_loss(self.name).kind in common.LOSS_KINDS

    @property
    def limit(self) -> str:
        """Which of the limits is a fused kernel's: the reads and writes that it cannot do without."""
        if self.grad:
            return "copyto" if self.rows else "subtract"
        return "read" if self.loss or self.name == "logsumexp" else "copyto"

    def __str__(self) -> str:
        return self.name + (" with gradient" if self.grad else "")


OPS = (
    *(Op("cross_entropy", True), Op("cross_entropy"), Op("softmax"), Op("log_softmax"), Op("logsumexp")),
    *(Op("binary_cross_entropy_with_logits", True), Op("smooth_l1_loss", True), Op("huber_loss", True)),
    *(Op("mse_loss", True), Op("l1_loss", True), Op("sigmoid"), Op("log_sigmoid")),
)


class Cell(NamedTuple):
    shape: str
    dtype: str
    op: Op

    def __str__(self) -> str:
        return f"{self.op}, {self.dtype}, {self.shape}"

    @property
    def words(self) -> set[str]:
        """What ``--only`` chooses by."""
        return {self.op.name, "grad" if self.op.grad else "value", self.dtype, self.shape}


#: From operands (logits and labels, predictions and targets, or the argument of a function) to a call.
Maker = Callable[[np.ndarray, Any], common.Call]


# -------------------------------------------------------------------------------------------------------- NumPy


def _numpy_cross_entropy(x: np.ndarray, t: np.ndarray) -> Any:
    z = x - x.max(axis=1, keepdims=True)
    return (np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(x)), t]).mean()


def _numpy_cross_entropy_grad(x: np.ndarray, t: np.ndarray) -> tuple[Any, np.ndarray]:
    rows = np.arange(len(x))
    z = x - x.max(axis=1, keepdims=True)
    grad = np.exp(z)
    total = grad.sum(axis=1, keepdims=True)
    value = (np.log(total[:, 0]) - z[rows, t]).mean()
    grad /= total
    grad[rows, t] -= 1
    grad /= len(x)
    return value, grad


def _numpy_softmax(x: np.ndarray, _: Any) -> np.ndarray:
    e = x - x.max(axis=1, keepdims=True)
    np.exp(e, out=e)
    e /= e.sum(axis=1, keepdims=True)
    return e


def _numpy_log_softmax(x: np.ndarray, _: Any) -> np.ndarray:
    z = x - x.max(axis=1, keepdims=True)
    z -= np.log(np.exp(z).sum(axis=1, keepdims=True))
    return z


def _numpy_logsumexp(x: np.ndarray, _: Any) -> np.ndarray:
    top = x.max(axis=1, keepdims=True)
    return np.log(np.exp(x - top).sum(axis=1)) + top[:, 0]


def _numpy_binary(x: np.ndarray, t: np.ndarray) -> tuple[Any, np.ndarray]:
    e = np.exp(-np.abs(x))
    value = (np.maximum(x, 0) - x * t + np.log1p(e)).mean()
    return value, (np.where(x < 0, e, 1) / (1 + e) - t) / x.size


def _numpy_smooth(x: np.ndarray, t: np.ndarray) -> tuple[Any, np.ndarray]:
    d = x - t
    size, slope = np.abs(d), np.clip(d, -1, 1)
    return np.where(size < 1, 0.5 * d * d, size - 0.5).mean(), slope / x.size


def _numpy_square(x: np.ndarray, t: np.ndarray) -> tuple[Any, np.ndarray]:
    d = x - t
    value = (d * d).mean()
    d *= 2 / x.size
    return value, d


def _numpy_absolute(x: np.ndarray, t: np.ndarray) -> tuple[Any, np.ndarray]:
    d = x - t
    return np.abs(d).mean(), np.sign(d) / x.size


def _numpy_log_sigmoid(x: np.ndarray, _: Any) -> np.ndarray:
    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))


def buffer_for(x: np.ndarray) -> np.ndarray | None:
    """Who takes buffers is given one, except for a small call."""
    return np.empty_like(x) if x.size > SMALL else None


def _direct(function: Callable[[np.ndarray, Any], Any]) -> Maker:
    return lambda x, t: functools.partial(function, x, t)


NUMPY: dict[Op, Maker] = {
    Op("cross_entropy", True): _direct(_numpy_cross_entropy_grad),
    Op("cross_entropy"): _direct(_numpy_cross_entropy),
    Op("softmax"): _direct(_numpy_softmax),
    Op("log_softmax"): _direct(_numpy_log_softmax),
    Op("logsumexp"): _direct(_numpy_logsumexp),
    Op("binary_cross_entropy_with_logits", True): _direct(_numpy_binary),
    Op("smooth_l1_loss", True): _direct(_numpy_smooth),
    Op("huber_loss", True): _direct(_numpy_smooth),
    Op("mse_loss", True): _direct(_numpy_square),
    Op("l1_loss", True): _direct(_numpy_absolute),
    Op("sigmoid"): _direct(lambda x, _: 1 / (1 + np.exp(-x))),
    Op("log_sigmoid"): _direct(_numpy_log_sigmoid),
}


# -------------------------------------------------------------------------------------------------------- SciPy


def _special() -> Any:
    return importlib.import_module("scipy.special")


def _scipy_cross_entropy(x: np.ndarray, t: np.ndarray) -> Any:
    return -_special().log_softmax(x, axis=1)[np.arange(len(x)), t].mean()


def _scipy_cross_entropy_grad(x: np.ndarray, t: np.ndarray) -> tuple[Any, np.ndarray]:
    rows, log_proba = np.arange(len(x)), _special().log_softmax(x, axis=1)
    value = -log_proba[rows, t].mean()
    grad = np.exp(log_proba, out=log_proba)
    grad[rows, t] -= 1
    grad /= len(x)
    return value, grad


def _scipy_binary(x: np.ndarray, t: np.ndarray) -> tuple[Any, np.ndarray]:
    special = _special()
    grad = special.expit(x)
    grad -= t
    grad /= x.size
    return ((1 - t) * x - special.log_expit(x)).mean(), grad


def _scipy_huber(x: np.ndarray, t: np.ndarray) -> tuple[Any, np.ndarray]:
    d = x - t
    return _special().huber(x.dtype.type(1), d).mean(), np.clip(d, -1, 1) / x.size


SCIPY: dict[Op, Maker] = {
    Op("cross_entropy", True): _direct(_scipy_cross_entropy_grad),
    Op("cross_entropy"): _direct(_scipy_cross_entropy),
    Op("softmax"): _direct(lambda x, _: _special().softmax(x, axis=1)),
    Op("log_softmax"): _direct(lambda x, _: _special().log_softmax(x, axis=1)),
    Op("logsumexp"): _direct(lambda x, _: _special().logsumexp(x, axis=1)),
    Op("binary_cross_entropy_with_logits", True): _direct(_scipy_binary),
    Op("smooth_l1_loss", True): _direct(_scipy_huber),
    Op("huber_loss", True): _direct(_scipy_huber),
    Op("sigmoid"): lambda x, _: functools.partial(_special().expit, x, out=buffer_for(x)),
    Op("log_sigmoid"): lambda x, _: functools.partial(_special().log_expit, x, out=buffer_for(x)),
}


# ------------------------------------------------------------------------------------------------- scikit-learn


def _sklearn(name: str, factor: float = 1, grad: bool = True, **options: float) -> Maker:
    """A loss of scikit-learn's own (private) module, with buffers; ``factor`` is what makes it the one that is meant.

    The mean and its gradient are made of it as its linear models do.
    """

    def make(x: np.ndarray, t: np.ndarray) -> common.Call:
        losses = importlib.import_module("sklearn._loss.loss")
        classes = {"n_classes": x.shape[1]} if x.ndim == 2 else {}
        loss = getattr(losses, name)(**options, **classes)
        t, slopes = t.astype(x.dtype), buffer_for(x)
        values = None if slopes is None else np.empty(len(x), x.dtype)

        def call() -> tuple[Any, np.ndarray]:
            value, grad = loss.loss_gradient(t, x, loss_out=values, gradient_out=slopes, n_threads=1)
            return value.mean() * factor, np.multiply(grad, factor / len(x), out=grad)

        if grad:
            return call
        return lambda: loss.loss(t, x, loss_out=values, n_threads=1).mean() * factor

    return make


SKLEARN: dict[Op, Maker] = {
    Op("cross_entropy", True): _sklearn("HalfMultinomialLoss"),
    Op("cross_entropy"): _sklearn("HalfMultinomialLoss", grad=False),
    Op("softmax"): _direct(lambda x, _: importlib.import_module("sklearn.utils.extmath").softmax(x)),
    Op("binary_cross_entropy_with_logits", True): _sklearn("HalfBinomialLoss"),
    Op("smooth_l1_loss", True): _sklearn("HuberLoss", delta=1.0),
    Op("huber_loss", True): _sklearn("HuberLoss", delta=1.0),
    Op("mse_loss", True): _sklearn("HalfSquaredError", factor=2),
    Op("l1_loss", True): _sklearn("AbsoluteError"),
}


# -------------------------------------------------------------------------------------------------------- torch

#: Of ``torch.nn.functional``, of the argument and the target.
TORCH_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "softmax": lambda F, x, t: F.softmax(x, -1),
    "log_softmax": lambda F, x, t: F.log_softmax(x, -1),
    "logsumexp": lambda F, x, t: x.logsumexp(-1),
    "sigmoid": lambda F, x, t: x.sigmoid(),
    "log_sigmoid": lambda F, x, t: F.logsigmoid(x),
    **{op.name: lambda F, x, t, name=op.name: getattr(F, name)(x, t) for op in OPS if op.loss},
}


def _torch(op: Op, compiled: bool) -> Maker:
    def make(x: np.ndarray, t: np.ndarray | None) -> common.Call:
        torch = importlib.import_module("torch")
        leaf = torch.from_numpy(x).requires_grad_(op.grad)
        target = None if t is None else torch.from_numpy(t)
        function = functools.partial(TORCH_FUNCTIONS[op.name], torch.nn.functional)
        if compiled:
            torch._dynamo.reset()  # or it would compile for shapes in general
            inner = function
            function = torch.compile(lambda x, t: inner(x, t), fullgraph=True)

        def with_grad() -> tuple[Any, Any]:
            leaf.grad = None
            value = function(leaf, target)
            value.backward()
            return value.detach(), leaf.grad

        def alone() -> Any:
            with torch.no_grad():
                return function(leaf, target)

        return with_grad if op.grad else alone

    return make


TORCH = {op: _torch(op, compiled=False) for op in OPS}
TORCH_COMPILED = {op: _torch(op, compiled=True) for op in OPS}


# -------------------------------------------------------------------------------------------------- JAX and optax


def _jax_cross_entropy(jax: Any, x: Any, t: Any) -> Any:
    return -jax.numpy.take_along_axis(jax.nn.log_softmax(x), t[:, None], 1).mean()


def _jax_binary(jax: Any, x: Any, t: Any) -> Any:
    return (jax.nn.softplus(x) - t * x).mean()


def _jax_smooth(jax: Any, x: Any, t: Any) -> Any:
    size = jax.numpy.abs(x - t)
    return jax.numpy.where(size < 1, 0.5 * size * size, size - 0.5).mean()


JAX_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "cross_entropy": _jax_cross_entropy,
    "softmax": lambda jax, x: jax.nn.softmax(x),
    "log_softmax": lambda jax, x: jax.nn.log_softmax(x),
    "logsumexp": lambda jax, x: jax.nn.logsumexp(x, axis=-1),
    "binary_cross_entropy_with_logits": _jax_binary,
    "smooth_l1_loss": _jax_smooth,
    "huber_loss": _jax_smooth,
    "mse_loss": lambda jax, x, t: jax.numpy.square(x - t).mean(),
    "l1_loss": lambda jax, x, t: jax.numpy.abs(x - t).mean(),
    "sigmoid": lambda jax, x: jax.nn.sigmoid(x),
    "log_sigmoid": lambda jax, x: jax.nn.log_sigmoid(x),
}


def _optax(name: str, **options: float) -> Callable[..., Any]:
    return lambda jax, x, t: getattr(importlib.import_module("optax"), name)(x, t, **options).mean()


OPTAX_FUNCTIONS = {
    "cross_entropy": _optax("softmax_cross_entropy_with_integer_labels"),
    "binary_cross_entropy_with_logits": _optax("sigmoid_binary_cross_entropy"),
    "smooth_l1_loss": _optax("huber_loss", delta=1.0),
    "huber_loss": _optax("huber_loss", delta=1.0),
    "mse_loss": _optax("squared_error"),
}


def _jitted(function: Callable[..., Any], grad: bool) -> Maker:
    def make(x: np.ndarray, t: np.ndarray | None) -> common.Call:
        jax = importlib.import_module("jax")
        jax.config.update("jax_enable_x64", True)  # float64 is to be float64; float32 stays what it is
        operands = [jax.numpy.asarray(array) for array in (x, t) if array is not None]

        def applied(*operands: Any) -> Any:
            return function(jax, *operands)

        compiled = jax.jit(jax.value_and_grad(applied) if grad else applied)
        return lambda: jax.block_until_ready(compiled(*operands))

    return make


JAX = {op: _jitted(JAX_FUNCTIONS[op.name], op.grad) for op in OPS}
OPTAX = {op: _jitted(OPTAX_FUNCTIONS[op.name], op.grad) for op in OPS if op.name in OPTAX_FUNCTIONS}


# ---------------------------------------------------------------------------------------------------- all peers


class Peer(NamedTuple):
    package: str
    makers: dict[Op, Maker]


PEERS = {
    "numpy": Peer("numpy", NUMPY),
    "scipy": Peer("scipy", SCIPY),
    "sklearn": Peer("sklearn", SKLEARN),
    "torch": Peer("torch", TORCH),
    "torch.compile": Peer("torch", TORCH_COMPILED),
    "jax": Peer("jax", JAX),
    "optax": Peer("optax", OPTAX),
}
#: It runs the compiler once for each cell: minutes for all.
SLOW_TO_START = ("torch.compile",)


def installed(names: Sequence[str] = tuple(PEERS)) -> list[str]:
    found = []
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(PEERS[name].package)
            found.append(name)
    return found


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Within, torch and lossfast take one thread; the others were told by `ONE_THREAD` or their calls, or have none."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    try:
        if torch:
            torch.set_num_threads(1)
        with lf.set_num_threads(1):
            yield
    finally:
        if torch:
            torch.set_num_threads(before)


# ---------------------------------------------------------------------------------------------------- measuring


def operands(op: Op, dtype: str, shape: str) -> tuple[np.ndarray, Any]:
    """Ordinary inputs; None stands for the target of what has none."""
    found = common.operands(lf.get_loss(op.name), np.dtype(dtype), common.shape_of(shape))
    return found[0], found[1] if len(found) > 1 else None


def by_lossfast(op: Op, x: np.ndarray, t: Any) -> common.Call:
    call = common.call_of(
        lf.get_loss(op.name),
        "value_and_grad" if op.grad else "value",
        (x,) if t is None else (x, t),
        n_threads=None,
        buffers=x.size > SMALL,
    )
    assert call is not None
    return call


def limits(op: Op, x: np.ndarray, t: Any) -> dict[str, common.Call]:
    """What NumPy takes for the reads and writes alone, and for an exponential of every number."""
    out = np.zeros_like(x)
    found: dict[str, common.Call] = {
        "copyto": lambda: np.copyto(out, x),
        "read": lambda: np.max(x),
        "exp": lambda: np.exp(x, out=out),
    }
    if op.limit == "subtract":
        found["subtract"] = lambda: np.subtract(x, t, out=out)
    return found


def compare(op: Op, dtype: str, expected: Any, found: Any) -> None:
    """Raise an AssertionError unless both are the same function; of large gradients, a sample of rows decides."""
    names = ("result", "gradient") if op.grad else ("result",)
    for what, *pair in zip(names, *((expected, found) if op.grad else ([expected], [found])), strict=True):
        right, got = (np.asarray(array.detach() if hasattr(array, "detach") else array) for array in pair)
        if right.shape != got.shape:
            raise AssertionError(f"another shape of the {what}: {got.shape}, not {right.shape}")
        if right.ndim:
            step = max(1, right.size // 1_000_000)
            right, got = right.reshape(len(right), -1)[::step], got.reshape(len(got), -1)[::step]
        scale = float(np.max(np.abs(right)))
        error = float(np.max(np.abs(right - got)))
        if not error <= TOLERANCE[dtype] * scale:
            raise AssertionError(f"another {what}: off by {error:.2g} of {scale:.2g}")


def measure(cell: Cell, peers: Sequence[str], isas: Sequence[str] = (), seconds: float = 0.15) -> dict[str, Any]:
    """Seconds per call of lossfast, of each peer that has it, and of the limits; and why peers failed that did.

    The times under other instruction sets are taken in turns with the limit alone, and scaled to its time among all.
    """
    op = cell.op
    x, t = operands(op, cell.dtype, cell.shape)
    failed: dict[str, str] = {}
    with one_thread(), np.errstate(all="ignore"):
        ours, floors = by_lossfast(op, x, t), limits(op, x, t)
        calls = {"lossfast": ours}
        expected = ours()
        for name in peers:
            if op not in PEERS[name].makers:
                continue
            try:
                call = PEERS[name].makers[op](x, t)
                compare(op, cell.dtype, expected, call())
            except Exception as error:
                lines = str(error).strip().splitlines() or [""]
                failed[name] = f"{type(error).__name__}: {lines[0][:200]}"
            else:
                calls[name] = call
        del expected
        start, start_cpu = time.perf_counter(), time.process_time()
        for floor in floors.values():
            floor()  # as all others have been called
        found = common.interleaved([*calls.values(), *floors.values()], seconds, warm=False, each=True)
        busy = (time.process_time() - start_cpu) / (time.perf_counter() - start)
        times = dict(zip(calls, found, strict=False))
        limit_times = dict(zip(floors, found[len(calls) :], strict=True))
        for isa in isas:
            with lf.use_isa(isa):
                own, floor = common.interleaved([ours, floors[op.limit]], seconds)
            times[f"lossfast {isa}"] = own / floor * limit_times[op.limit]
    return {
        "op": op.name,
        "grad": op.grad,
        "dtype": cell.dtype,
        "shape": cell.shape,
        "limit": op.limit,
        "times": times,
        "limits": limit_times,
        "failed": failed,
        "busy": busy,
    }


def cells(
    shapes: Sequence[str], dtypes: Sequence[str] = DTYPES, ops: Sequence[Op] = OPS, only: Sequence[str] = ()
) -> list[Cell]:
    """All that there are of these, shape by shape; of each of ``only``, one of the words between commas must fit."""
    found = [
        Cell(shape, dtype, op)
        for shape in shapes
        for dtype in dtypes
        for op in ops
        if op.rows == (len(common.shape_of(shape)) == 2)
    ]
    return [cell for cell in found if all(cell.words & set(words.split(",")) for words in only)]


def _warm(cell: Cell, peer: str) -> None:
    """Compile, so that what comes later finds it in the cache; failing is for the one that measures to tell."""
    with one_thread(), contextlib.suppress(Exception):
        PEERS[peer].makers[cell.op](*operands(cell.op, cell.dtype, cell.shape))()


def warm(chosen: Sequence[Cell], peers: Sequence[str]) -> None:
    """Let every CPU compile what torch.compile will need, which takes seconds for each cell."""
    tasks = [
        (cell, peer) for peer in peers if peer in SLOW_TO_START for cell in chosen if cell.op in PEERS[peer].makers
    ]
    if len(tasks) < 4 or common.cpus() < 2:
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(common.cpus(), mp_context=context) as pool:
        futures = [pool.submit(_warm, *task) for task in tasks]
        for future in common.progress(futures, "compiling for torch.compile", lambda _: ""):
            future.result()


# ---------------------------------------------------------------------------------------------------- reporting


def ours_of(found: dict[str, Any]) -> list[str]:
    return [name for name in found["times"] if name.partition(" ")[0] == "lossfast"]


def best_peer(found: dict[str, Any]) -> str | None:
    others = {name: time for name, time in found["times"].items() if name in PEERS}
    return min(others, key=others.__getitem__) if others else None


def judge(found: dict[str, Any]) -> dict[str, Any]:
    """Add the best peer, and how many times as long as lossfast it takes."""
    best = best_peer(found)
    ratios = {name: found["times"][best] / found["times"][name] for name in ours_of(found)} if best else {}
    return {**found, "best": best, "ahead": ratios}


def summary(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Over all cells with a peer, for lossfast and each instruction set: the geometric mean, and the worst cell."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for cell in results for name in cell["ahead"]):
        there = [cell for cell in results if name in cell["ahead"]]
        worst = min(there, key=lambda cell: cell["ahead"][name])
        found[name] = {
            "cells": len(there),
            "mean": math.exp(sum(math.log(cell["ahead"][name]) for cell in there) / len(there)),
            "behind": sum(cell["ahead"][name] <= 1 for cell in there),
            "worst": {
                **{key: worst[key] for key in ("op", "grad", "dtype", "shape", "best")},
                "ahead": worst["ahead"][name],
            },
        }
    return found


def _shown(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def table(results: Sequence[dict[str, Any]], markdown: bool = False) -> str:
    """By op and dtype: ratios to the limit (whose time is given), and how many times as long the best peer takes."""
    names = list(dict.fromkeys(name for cell in results for name in cell["times"]))
    names.sort(key=lambda name: name.partition(" ")[0] != "lossfast")  # stays in order otherwise
    rows = [["", "limit", "", *names, "best peer / lossfast"]]
    for cell in results:
        unit = cell["limits"][cell["limit"]]
        ratios = [
            _shown(cell["times"][name] / unit) if name in cell["times"] else "failed" if name in cell["failed"] else ""
            for name in names
        ]
        ahead = f"{cell['ahead']['lossfast']:.2f} ({cell['best']})" if cell["best"] else ""
        rows.append([label(cell), cell["limit"], common.duration(unit), *ratios, ahead])
    if not markdown:
        return common.columns(rows, left=2)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [[text.rjust(width) for text, width in zip(row, widths, strict=True)] for row in rows]
    lines.insert(1, ["-" * (width - 1) + ":" for width in widths])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def label(found: dict[str, Any]) -> str:
    return f"{Op(found['op'], found['grad'])}, {found['dtype']}, {found['shape']}"


def report_lines(report: dict[str, Any]) -> Iterator[str]:
    for name, found in report["summary"].items():
        worst = found["worst"]
        yield (
            f"{name}: the best peer takes {found['mean']:.1f} times as long (geometric mean of {found['cells']} "
            f"cells); at worst {worst['ahead']:.2f} times ({label(worst)}, {worst['best']}); not ahead in "
            f"{found['behind']} cells"
        )
    for cell in report["cells"]:
        for name, text in cell["failed"].items():
            yield f"failed: {name}, {label(cell)}: {text}"
        if cell["busy"] > 1.2:
            yield f"more than one thread ({cell['busy']:.1f} CPUs busy): {label(cell)}"
    if report["left out"]:
        yield f"left out: {', '.join(report['left out'])}"


def describe(about: dict[str, Any]) -> Iterator[str]:
    for key, value in about.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {version}" for name, version in value.items())
        yield f"{key}: {' '.join(value) if isinstance(value, list) else value}"


def measure_all(chosen: Sequence[Cell], peers: Sequence[str], isas: Sequence[str], seconds: float) -> dict[str, Any]:
    missing = [name for name in PEERS if name not in peers]
    there = installed(peers)
    warm(chosen, there)
    results = []
    for cell in common.progress(chosen, "peers"):
        results.append(judge(measure(cell, there, isas, seconds)))
        if math.prod(common.shape_of(cell.shape)) > 10_000_000:
            gc.collect()  # what compiled functions refer to in circles
    packages = dict.fromkeys(["lossfast", "numpy", *(PEERS[name].package for name in there)])
    return {
        **common.provenance(),
        "machine": common.machine(packages),
        "peers": there,
        "left out": [*missing, *(f"{name} (not installed)" for name in peers if name not in there)],
        "unit": "seconds",
        "threads": 1,
        "cells": results,
        "summary": summary(results),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description="Losses with their gradients, softmaxes and sigmoids by lossfast and by other libraries, in one "
        "process on one thread: times as multiples of what NumPy needs to move the same numbers, and how many times as "
        "long as lossfast the best of the others takes. Exits with 1 if a peer failed.",
        epilog="examples:\n"
        "  python -m benchmarks.peers --quick\n"
        "  python -m benchmarks.peers --json peers.json --isa all\n"
        "  python -m benchmarks.peers --only cross_entropy --only grad --only 100000x10,4096x1000\n"
        "  python -m benchmarks.peers --only softmax --shape 2000x77 --peer torch --peer jax --isa avx2\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        *("--only",),
        action="append",
        default=[],
        metavar="WORD[,WORD]",
        help="only cells with one of these: a loss, value, grad, a dtype or a shape; several --only must all fit",
    )
    parser.add_argument("--shape", action="append", metavar="NxC or N", help="instead of the usual shapes")
    parser.add_argument("--dtype", action="append", choices=DTYPES, help="default: both; quick: float32")
    parser.add_argument("--peer", action="append", choices=list(PEERS), help="default: all that are installed")
    parser.add_argument("--backend", choices=lf.backends.NAMES, help="lossfast's backend")
    parser.add_argument("--isa", action="append", default=[], help="lossfast under this instruction set too, or 'all'")
    parser.add_argument("--seconds", type=float, help="for each call of a cell (default 0.15; quick: 0.02)")
    parser.add_argument(
        "--quick", action="store_true", help="few shapes, float32, without torch.compile: less than a minute"
    )
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write times, in seconds, and the machine")
    options = parser.parse_args(arguments)

    peers = options.peer or [name for name in PEERS if not (options.quick and name in SLOW_TO_START)]
    shapes = options.shape or (QUICK_SHAPES if options.quick else (*ROW_SHAPES, *SIZES))
    dtypes = options.dtype or (DTYPES[:1] if options.quick else DTYPES)
    chosen = cells(shapes, dtypes, OPS, options.only)
    if not chosen:
        parser.error("no cell fits --only")
    if options.peer and len(installed(peers)) < len(peers):
        parser.error(f"not installed: {', '.join(set(peers) - set(installed(peers)))}")
    with contextlib.ExitStack() as stack:
        if options.backend:
            stack.enter_context(lf.use_backend(options.backend))
        isas: list[str] = []
        if options.isa and lf.get_backend() == "compiled":
            others = [isa for isa in reversed(lf.isas()) if isa != lf.get_isa()]
            isas = [isa for isa in others if "all" in options.isa or isa in options.isa]
        if unknown := set(options.isa) - {*isas, "all", lf.get_isa() if lf.get_backend() == "compiled" else "all"}:
            parser.error(f"not available: {', '.join(sorted(unknown))}")
        report = measure_all(chosen, peers, isas, options.seconds or (0.02 if options.quick else 0.15))
    print(table(report["cells"], options.markdown), "", *report_lines(report), sep="\n")
    print(*describe(report["machine"]), sep="\n")
    if options.json:
        options.json.write_text(json.dumps(common.rounded(report), indent=1, allow_nan=False) + "\n")
    return 1 if any(cell["failed"] for cell in report["cells"]) else 0


# ---------------------------------------------------------------------------------------------------------- asv


class CrossEntropy:
    """Some cells of the table, so that a release of a peer or of lossfast shows; without those slow to start."""

    params = (
        ["lossfast", *(name for name in PEERS if name not in SLOW_TO_START)],
        ["32x10", "1000x10"] if common.QUICK else ["32x10", "1000x10", "100000x10", "1000x1000"],
    )
    param_names = ("library", "shape")
    version = "2"
    unit = "times NumPy's copy"

    def setup_cache(self) -> common.Table:
        peers, found = installed(self.params[0][1:]), {}
        for shape in self.params[1]:
            cell = measure(Cell(shape, "float32", Op("cross_entropy", True)), peers, (), 0.01 if common.QUICK else 0.2)
            found.update({(name, shape): time / cell["limits"]["copyto"] for name, time in cell["times"].items()})
            found.update({(name, shape): common.Failure(text) for name, text in cell["failed"].items()})
        return found

    setup_cache.timeout = 120

    def setup(self, found: common.Table, *key: str) -> None:
        common.require(found, *key)

    def track_ratio_to_copyto(self, found: common.Table, *key: str) -> float:
        return common.look_up(found, *key)


if __name__ == "__main__":
    sys.exit(main())
