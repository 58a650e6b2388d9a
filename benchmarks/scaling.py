"""How the time per element of value and gradient changes with the number of elements, classes and threads.

float32, buffers given. The backends in Python are left out where there is too much for them.
"""

from __future__ import annotations

import math
from typing import Any

import lossfast as lf

from . import common

SECONDS = 0.005 if common.QUICK else 0.03
#: Of pointwise losses; of rows, as many elements in rows of ten.
LENGTHS = [100, 10_000] if common.QUICK else [100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000]
#: In a million elements.
CLASSES = [3, 1000] if common.QUICK else [2, 3, 5, 10, 17, 30, 100, 1000, 10_000, 100_000]
ELEMENTS = 100_000 if common.QUICK else 1_000_000
THREADS = [1, 2, 4, 8, 16, 32, 64]
#: Elements that the backends in Python are not asked to go beyond.
PATIENCE = 1_000_000
#: Work of some milliseconds, so that threads pay.
THREADED = {
    "pointwise": (4_000_000,),
    "function": (4_000_000,),
    "rowwise": (4_000, 1000),
    "row_function": (4_000, 1000),
}


def cost_of(
    variant: str, name: str, shape: tuple[int, ...], n_threads: int = 1, seconds: float = SECONDS
) -> tuple[float, float]:
    """Nanoseconds per element, and times those of NumPy's copy or subtraction."""
    with common.using(variant):
        loss, dtype = lf.get_loss(name), common.dtype_of("float32")
        assert dtype is not None
        arguments: tuple[Any, ...] = common.operands(loss, dtype, shape)
        method = "value_and_grad" if loss.kind in common.LOSS_KINDS else "vjp"
        call = common.call_of(loss, method, arguments, n_threads)
        assert call is not None
        found, floor = common.interleaved([call, common.floor_of(loss, arguments)], seconds)
    return found * 1e9 / arguments[0].size, found / floor


def measure(cases: dict[tuple[str, int], tuple[Any, ...]]) -> common.Table:
    table: common.Table = {}
    for variant in filter(common.available, common.VARIANTS):
        for key, case in cases.items():
            if variant.startswith("compiled") or math.prod(case[1]) <= PATIENCE:
                common.attempt(table, (*key, variant), cost_of, variant, *case)
    return table


def lengths() -> dict[tuple[str, int], tuple[Any, ...]]:
    return {
        (name, n): (name, (n,) if lf.get_loss(name).kind in common.POINTWISE_KINDS else (n // 10, 10))
        for n in LENGTHS
        for name in common.names()
    }


def classes() -> dict[tuple[str, int], tuple[Any, ...]]:
    names = common.names("rowwise", "row_function")
    return {(name, c): (name, (ELEMENTS // c, c)) for c in CLASSES for name in names}


def threads() -> dict[tuple[str, int], tuple[Any, ...]]:
    return {
        (name, n): (name, THREADED[lf.get_loss(name).kind], n)
        for n in THREADS
        if n <= common.cpus()
        for name in common.names()
    }


class _Scaling:
    version = "2"

    def setup(self, table: common.Table, *key: Any) -> None:
        common.require(table, *key)

    def track_ns_per_element(self, table: common.Table, *key: Any) -> float:
        return common.look_up(table, *key)[0]

    def track_ratio_to_floor(self, table: common.Table, *key: Any) -> float:
        return common.look_up(table, *key)[1]

    track_ns_per_element.unit = "ns/element"
    track_ratio_to_floor.unit = "times NumPy's copy or subtraction"


class Length(_Scaling):
    params = (common.names(), LENGTHS, common.VARIANTS)
    param_names = ("loss", "elements", "variant")

    def setup_cache(self) -> common.Table:
        return measure(lengths())

    setup_cache.timeout = 600


class Classes(_Scaling):
    params = (common.names("rowwise", "row_function"), CLASSES, common.VARIANTS)
    param_names = ("loss", "classes", "variant")

    def setup_cache(self) -> common.Table:
        return measure(classes())

    setup_cache.timeout = 600


class Threads(_Scaling):
    params = (common.names(), THREADS, common.VARIANTS)
    param_names = ("loss", "threads", "variant")

    def setup_cache(self) -> common.Table:
        return measure(threads())

    setup_cache.timeout = 600
