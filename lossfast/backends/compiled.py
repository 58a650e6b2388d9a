"""The compiled backend: Cython drivers over C kernels, for the best instruction set that this CPU has."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from typing import Any

from .. import _threads
from .._jobs import PointwiseJob, RowwiseJob, Weights
from .._reduction import Sum
from ..kernels.buffers import enter_arithmetic, get_isa, isas, leave_arithmetic
from ..kernels.buffers import set_isa as use_isa
from ..kernels.pointwise import Pointwise, PointwiseWeights
from ..kernels.quick import entry
from ..kernels.rowwise import RowWeights, Rowwise
from . import SettingError

__all__ = [
    "enter_arithmetic",
    "get_isa",
    "isas",
    "leave_arithmetic",
    "pointwise",
    "quick",
    "rowwise",
    "use_isa",
    "weigh_pointwise",
    "weigh_rows",
]

#: A slice has about this many elements (some 50 to 300 microseconds of work), and a job of fewer than GRAIN elements
#: never leaves the calling thread.
SLICE = 1 << 17
GRAIN = 1 << 18
#: A job is never cut into more slices than this, so that their sums take no memory to speak of.
MOST_SLICES = 1 << 13


def _run(work: Callable[[int, int], Any], size: int, elements: int, unit: int, n_threads: int) -> list[Any]:
    """``work`` over range(size) in slices that depend on the job's shape alone, each a multiple of ``unit`` long."""
    if elements <= SLICE:
        return [work(0, size)]
    length = max(size * SLICE // elements, -(-size // MOST_SLICES), 1)
    length = -(-length // unit) * unit
    if size <= length:
        return [work(0, size)]
    return _threads.run(work, size, length, n_threads if elements >= GRAIN else 1)


def _total(parts: Iterable[tuple[Any, ...]]) -> Sum:
    """The slices' sums, in order."""
    return functools.reduce(Sum.plus, [Sum(*part) for part in parts])


#: Where `Rowwise` has the total of an output.
_TOTALS = {"loss": 0, "grad_temperature": 1}


def quick(loss: Any) -> Any:
    """What takes the plain calls of a loss or function, of a single slice: see `lossfast.kernels.quick`."""
    return entry(loss, SLICE)


def pointwise(job: PointwiseJob) -> dict[str, Sum]:
    work = Pointwise(job)
    sums = _run(work, work.size, work.size, 2048, job.n_threads)
    return {"loss": _total(sums)} if job.totals else {}


def rowwise(job: RowwiseJob) -> dict[str, Sum]:
    work = Rowwise(job)
    sums = _run(work, work.size, job.logits.size, work.group, job.n_threads)
    return {name: _total([both[_TOTALS[name]] for both in sums]) for name in job.totals}


def weigh_pointwise(job: PointwiseJob) -> Weights:
    if job.weight is None and job.where is None:
        return Weights(Sum(float(job.x.size)), job.x.size)
    work = PointwiseWeights(job)
    totals, counts = zip(*_run(work, work.size, work.size, 1024, job.n_threads), strict=True)
    return Weights(_total(totals), sum(counts))


def weigh_rows(job: RowwiseJob) -> Weights:
    work = RowWeights(job)
    elements = work.size if job.target is None and job.where is None else job.logits.size
    parts = _run(work, work.size, elements, 512, job.n_threads)
    totals, counts, bad_counts, bad_rows = zip(*parts, strict=True)
    return Weights(_total(totals), sum(counts), sum(bad_counts), next((row for row in bad_rows if row >= 0), -1))


if os.environ.get("LOSSFAST_ISA"):
    try:
        use_isa(os.environ["LOSSFAST_ISA"])
    except ValueError as error:
        raise SettingError(f"LOSSFAST_ISA: {error}") from None
