"""Time per element of every loss, method, dtype, backend and instruction set, on one thread with buffers given.

Every time is a median, taken in turns with NumPy's copying (or subtracting) of as much, and tracked as its ratio to
that too: the ratio is what can be compared between machines and busy hours. A whole class is measured in one process,
by ``setup_cache``; its benchmarks look the results up.
"""

from __future__ import annotations

from typing import Any

import lossfast as lf

from . import common

SECONDS = 0.005 if common.QUICK else 0.02
SIZES = ["10000"] if common.QUICK else ["10000", "3000000"]
SHAPES = ["1000x10"] if common.QUICK else ["1000x10", "100000x3", "1000x1000"]


def measure(kind: str, sizes: list[str], seconds: float = SECONDS) -> common.Table:
    table: common.Table = {}
    for variant in filter(common.available, common.VARIANTS):
        with common.using(variant):
            for name in common.names(kind):
                loss = lf.get_loss(name)
                for dtype in common.DTYPES:
                    actual = common.dtype_of(dtype)
                    if actual is None or not common.tells_something(variant, dtype):
                        continue
                    for size in sizes:
                        arguments = common.operands(loss, actual, common.shape_of(size))
                        for method in common.methods(kind):
                            key = (name, method, dtype, size, variant)
                            common.attempt(table, key, _times, loss, method, arguments, seconds)
                            if table[key] is None:
                                del table[key]
    return table


def _times(loss: Any, method: str, arguments: tuple[Any, ...], seconds: float) -> tuple[float, float] | None:
    call = common.call_of(loss, method, arguments)
    if call is None:
        return None
    found, floor = common.interleaved([call, common.floor_of(loss, arguments)], seconds)
    return found * 1e9 / arguments[0].size, found / floor


class _Throughput:
    param_names = ("loss", "method", "dtype", "shape", "variant")
    version = "1"

    def setup(self, table: common.Table, *key: str) -> None:
        common.require(table, *key)

    def track_ns_per_element(self, table: common.Table, *key: str) -> float:
        return common.look_up(table, *key)[0]

    def track_ratio_to_floor(self, table: common.Table, *key: str) -> float:
        return common.look_up(table, *key)[1]

    track_ns_per_element.unit = "ns/element"
    track_ratio_to_floor.unit = "times NumPy's copy or subtraction"


def _params(kind: str, sizes: list[str]) -> tuple[list[str], ...]:
    return common.names(kind), list(common.methods(kind)), list(common.DTYPES), sizes, common.VARIANTS


class PointwiseLosses(_Throughput):
    params = _params("pointwise", SIZES)

    def setup_cache(self) -> common.Table:
        return measure("pointwise", SIZES)

    setup_cache.timeout = 600


class PointwiseFunctions(_Throughput):
    params = _params("function", SIZES)

    def setup_cache(self) -> common.Table:
        return measure("function", SIZES)

    setup_cache.timeout = 600


class RowLosses(_Throughput):
    params = _params("rowwise", SHAPES)

    def setup_cache(self) -> common.Table:
        return measure("rowwise", SHAPES)

    setup_cache.timeout = 600


class RowFunctions(_Throughput):
    params = _params("row_function", SHAPES)

    def setup_cache(self) -> common.Table:
        return measure("row_function", SHAPES)

    setup_cache.timeout = 600
