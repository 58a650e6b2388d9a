"""What it costs to call at all: a 32 x 10 call through the public interface, and the import."""

from __future__ import annotations

import statistics
import subprocess
import sys

import lossfast as lf

from . import common

ROWS, CLASSES = 32, 10
SECONDS = 0.005 if common.QUICK else 0.03
IMPORTS = 3 if common.QUICK else 9
METHODS = ("value", "value_and_grad", "vjp")


def measure(names: list[str], seconds: float = SECONDS) -> common.Table:
    """Seconds of a call as most people write it, in float32: the gradient allocated, threads left alone."""
    table: common.Table = {}
    for variant in filter(common.available, common.VARIANTS):
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


def import_seconds() -> float:
    """What ``import lossfast`` takes in a process that has imported NumPy."""
    code = "import time, numpy; start = time.perf_counter(); import lossfast; print(time.perf_counter() - start)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(run.stdout)


class Import:
    version = "1"

    def track_import_ms(self) -> float:
        import_seconds()  # the first one may have to write bytecode
        return 1000 * statistics.median(import_seconds() for _ in range(IMPORTS))

    track_import_ms.unit = "ms beyond NumPy's"
