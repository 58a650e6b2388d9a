"""Extra memory of a call with buffers given: at most 1 MiB a thread, whatever the size, says the contract.

Two figures, since neither sees all. What Python's and NumPy's allocators hand out is exact to the byte, but blind to
plain ``malloc`` in C. The kernel's own high-water mark of resident memory sees everything, in whole pages.
"""

from __future__ import annotations

import ctypes
import gc
import math
import re
import tracemalloc
from pathlib import Path

import numpy as np

import lossfast as lf

from . import common

#: An operand has four times the bytes that a call may take; few classes and many, for each of the row loops.
SHAPES = {"pointwise": ["1000000"], "rowwise": ["100000x10"] if common.QUICK else ["100000x10", "10x100000"]}
SHAPES["function"], SHAPES["row_function"] = SHAPES["pointwise"], SHAPES["rowwise"]
METHODS = ("value", "value_and_grad", "vjp")
#: Longer inputs are one row (or number) over and over, which takes no memory of its own: for values alone.
HELD = 100_000_000
#: glibc's mallopt: blocks of this many bytes and more are given back to the system when they are freed.
M_MMAP_THRESHOLD, THRESHOLD, USUAL_THRESHOLD = -3, 4096, 128 * 1024


def traced_bytes(call: common.Call) -> int:
    """The peak of what Python's and NumPy's allocators hand out during the call."""
    call()
    gc.collect()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def resident_bytes(call: common.Call) -> int:
    """By how much the process's resident memory rises at the most during the call (Linux)."""
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not reset.exists():
        raise NotImplementedError("no /proc")
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or not libc.mallopt(M_MMAP_THRESHOLD, THRESHOLD):
        raise NotImplementedError("not glibc: what is freed may stay resident, and be used again unseen")
    try:
        call()
        gc.collect()
        libc.malloc_trim(0)
        reset.write_text("5")  # the mark starts anew, at what is resident now
        before = _kibibytes(status, "VmRSS")
        call()
        return 1024 * max(0, _kibibytes(status, "VmHWM") - before)
    finally:
        libc.mallopt(M_MMAP_THRESHOLD, USUAL_THRESHOLD)


def _kibibytes(status: Path, field: str) -> int:
    found = re.search(rf"^{field}:\s*(\d+) kB$", status.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def extra_bytes(name: str, method: str, shape: str, n_threads: int) -> int:
    """What a call takes beyond its buffers, by the larger of the two accounts. To be run in a process of its own."""
    loss, lengths = lf.get_loss(name), common.shape_of(shape)
    held = math.prod(lengths) <= HELD
    arguments = common.operands(loss, np.dtype(np.float32), lengths if held else (1, *lengths[1:]))
    if not held:
        arguments = tuple(np.broadcast_to(array, (lengths[0], *array.shape[1:])) for array in arguments)
    call = common.call_of(loss, method, arguments, n_threads)
    assert call is not None
    try:
        return max(traced_bytes(call), resident_bytes(call))
    except NotImplementedError:
        return traced_bytes(call)


def measure(kinds: tuple[str, ...], shapes: dict[str, list[str]]) -> common.Table:
    table: common.Table = {}
    for variant in filter(common.available, common.VARIANTS):
        with common.using(variant):
            for kind in kinds:
                for shape in shapes[kind]:
                    for name in common.names(kind):
                        loss, dtype = lf.get_loss(name), common.dtype_of("float32")
                        assert dtype is not None
                        arguments = common.operands(loss, dtype, common.shape_of(shape))
                        for method in METHODS if kind in common.LOSS_KINDS else ("value", "vjp"):
                            call = common.call_of(loss, method, arguments)
                            if call is None:
                                continue
                            key = (name, method, shape, variant)
                            for what in (traced_bytes, resident_bytes):
                                try:
                                    table[(what.__name__, *key)] = what(call)
                                except NotImplementedError:
                                    continue
    return table


class _Extra:
    param_names = ("loss", "method", "shape", "variant")
    version = "1"
    unit = "bytes"

    def track_traced_bytes(self, table: common.Table, *key: str) -> float:
        return table.get(("traced_bytes", *key), float("nan"))

    def track_resident_bytes(self, table: common.Table, *key: str) -> float:
        return table.get(("resident_bytes", *key), float("nan"))


class PointwiseExtra(_Extra):
    params = (common.names(*common.POINTWISE_KINDS), list(METHODS), SHAPES["pointwise"], common.VARIANTS)

    def setup_cache(self) -> common.Table:
        return measure(common.POINTWISE_KINDS, SHAPES)

    setup_cache.timeout = 300


class RowExtra(_Extra):
    params = (common.names("rowwise", "row_function"), list(METHODS), SHAPES["rowwise"], common.VARIANTS)

    def setup_cache(self) -> common.Table:
        return measure(("rowwise", "row_function"), SHAPES)

    setup_cache.timeout = 300
