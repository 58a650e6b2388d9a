"""What it costs to call at all: a 32 x 10 call through the public interface, and the import."""

from __future__ import annotations

import functools
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import lossfast as lf

from . import common

ROWS, CLASSES = 32, 10
SECONDS = 0.005 if common.QUICK else 0.03
IMPORTS = 3 if common.QUICK else 9
METHODS = ("value", "value_and_grad", "vjp")


def measure(
    names: Sequence[str], seconds: float = SECONDS, variants: Sequence[str] = tuple(common.VARIANTS)
) -> common.Table:
    """Seconds of a call as most people write it, in float32: the gradient allocated, threads left alone."""
    table: common.Table = {}
    for variant in filter(common.available, variants):
        with common.using(variant):
            for name in names:
                loss, dtype = lf.get_loss(name), common.dtype_of("float32")
                assert dtype is not None
                shape = (ROWS * CLASSES,) if loss.kind in common.POINTWISE_KINDS else (ROWS, CLASSES)
                arguments = common.operands(loss, dtype, shape)
                for method in METHODS:
                    call = common.call_of(loss, method, arguments, n_threads=None, buffers=False)
                    if call is None:
                        continue
                    floor = common.floor_of(loss, arguments)
                    common.attempt(table, (name, method, variant), common.interleaved, [call, floor], seconds)
    return table


class Calls:
    params = (common.names(), list(METHODS), common.VARIANTS)
    param_names = ("loss", "method", "variant")
    version = "1"

    def setup_cache(self) -> common.Table:
        return measure(common.names())

    setup_cache.timeout = 120

    def setup(self, table: common.Table, *key: str) -> None:
        common.require(table, *key)

    def track_us_per_call(self, table: common.Table, *key: str) -> float:
        return common.look_up(table, *key)[0] * 1e6

    def track_ratio_to_floor(self, table: common.Table, *key: str) -> float:
        call, floor = common.look_up(table, *key)
        return call / floor

    track_us_per_call.unit = "us"
    track_ratio_to_floor.unit = "times NumPy's copy or subtraction"


#: Objects whose calls are measured with options and buffers too.
STYLED = ("cross_entropy", "binary_cross_entropy_with_logits", "softmax")


def styles(loss: Any) -> Iterator[tuple[str, common.Call]]:
    """Ways to call an object, each of which has something of its own to be looked at."""
    dtype = np.dtype(np.float32)
    pointwise = loss.kind in common.POINTWISE_KINDS
    operands = common.operands(loss, dtype, (ROWS * CLASSES,) if pointwise else (ROWS, CLASSES))
    x, *targets = operands
    out = np.empty_like(x)
    turned = np.asfortranarray(x)
    lists = [operand.tolist() for operand in operands]
    strided = np.empty((*x.shape[:-1], 2 * x.shape[-1]), dtype)[..., ::2]
    mask = np.ones(x.shape, bool)
    if loss.kind not in common.LOSS_KINDS:
        yield "plain", lambda: loss(x)
        yield "into a buffer", lambda: loss(x, out=out)
        yield "into a strided buffer", lambda: loss(x, out=strided)
        yield "Fortran order", lambda: loss(turned)
        yield "another axis", lambda: loss(x, axis=0)
        yield "a mask", lambda: loss(x, where=mask)
        yield "lists", lambda: loss(*lists)
        return
    call, rows = loss.value_and_grad, x.shape[:1]
    weight, losses = np.ones(rows, dtype), np.empty(rows, dtype)
    bound = loss.bind(sample_weight=weight, reduction="sum")
    yield "plain", lambda: call(*operands)
    yield "value alone", lambda: loss(*operands)
    yield "into a buffer", lambda: call(*operands, grad_out=out)
    yield "into a strided buffer", lambda: call(*operands, grad_out=strided)
    yield "each loss, into buffers", lambda: call(*operands, reduction="none", out=losses, grad_out=out)
    yield "Fortran order", lambda: call(turned, *targets)
    yield "weights", lambda: call(*operands, sample_weight=weight)
    yield "bound", lambda: bound.value_and_grad(*operands)
    yield "a mask", lambda: call(*operands, where=mask)
    yield "number of threads", lambda: call(*operands, n_threads=1)
    yield "reduce", lambda: loss.reduce(*operands)
    yield "evaluate", lambda: loss.evaluate(*operands, want=("loss", "grad"))
    yield "lists", lambda: call(*lists)


def measure_styles(seconds: float = SECONDS) -> common.Table:
    table: common.Table = {}
    with common.using(common.DEFAULT):
        for name in STYLED:
            for style, call in styles(lf.get_loss(name)):
                common.attempt(table, (name, style), lambda call: common.interleaved([call], seconds)[0], call)
    return table


class Styles:
    """The same call with its options and buffers, in the fastest variant."""

    params = (list(STYLED), list(dict.fromkeys(style for name in STYLED for style, _ in styles(lf.get_loss(name)))))
    param_names = ("loss", "style")
    version = "1"

    def setup_cache(self) -> common.Table:
        return measure_styles()

    setup_cache.timeout = 120

    def setup(self, table: common.Table, *key: str) -> None:
        common.require(table, *key)

    def track_us_per_call(self, table: common.Table, *key: str) -> float:
        return common.look_up(table, *key) * 1e6

    track_us_per_call.unit = "us"


def import_seconds(runs: int) -> list[float]:
    """What ``import lossfast`` takes in processes that have imported NumPy; compiled modules are kept in a folder."""
    code = "import time, numpy; start = time.perf_counter(); import lossfast; print(time.perf_counter() - start)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as environment["PYTHONPYCACHEPREFIX"]:
        command = functools.partial(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True)
        command(check=True, env=environment)  # the first one compiles
        return [float(command(check=True, env=environment).stdout) for _ in range(runs)]


class Import:
    version = "2"

    def track_import_ms(self) -> float:
        return 1000 * statistics.median(import_seconds(IMPORTS))

    track_import_ms.unit = "ms beyond NumPy's"
