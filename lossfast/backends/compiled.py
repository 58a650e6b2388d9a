"""The compiled backend: Cython drivers over C kernels, for the best instruction set that this CPU has."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

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

Result = TypeVar("Result")

#: A slice has about this many elements (some 50 to 300 microseconds of work), and a job of fewer than GRAIN elements
#: never leaves the calling thread.
SLICE = 1 << 17
GRAIN = 1 << 18
#: A job is never cut into more slices than this, so that adding up their sums takes no time to speak of.
MOST_SLICES = 1 << 13


def _run(
    work: Callable[[int, int], Result],
    size: int,
    elements: int,
    unit: int,
    n_threads: int,
    plus: Callable[[Result, Result], Result],
) -> Result:
    """``work`` over range(size), in slices that depend on the job's shape alone, each a multiple of ``unit`` long."""
    if elements <= SLICE:
        return work(0, size)
    length = max(size * SLICE // elements, -(-size // MOST_SLICES), 1)
    length = -(-length // unit) * unit
    if size <= length:
        return work(0, size)
    return _threads.run(work, size, length, n_threads if elements >= GRAIN else 1, plus)


#: Where `Rowwise` has the total of an output.
_TOTALS = {"loss": 0, "grad_temperature": 1, "hess_temperature": 2}


def quick(loss: Any) -> Any:
    """What takes the plain calls of a loss or function, of a single slice: see `lossfast.kernels.quick`."""
    return entry(loss, SLICE)


def pointwise(job: PointwiseJob) -> dict[str, Sum]:
    work = Pointwise(job)

    def do(start: int, stop: int) -> Sum:
        return Sum(*work(start, stop))

    total = _run(do, work.size, work.size, 2048, job.n_threads, Sum.plus)
    return {"loss": total} if job.totals else {}


def rowwise(job: RowwiseJob) -> dict[str, Sum]:
    work = Rowwise(job)

    def do(start: int, stop: int) -> dict[str, Sum]:
        both = work(start, stop)
        return {name: Sum(*both[_TOTALS[name]]) for name in job.totals}

    def plus(totals: dict[str, Sum], more: dict[str, Sum]) -> dict[str, Sum]:
        return {name: total.plus(more[name]) for name, total in totals.items()}

    return _run(do, work.size, job.logits.size, work.group, job.n_threads, plus)


def weigh_pointwise(job: PointwiseJob) -> Weights:
    if job.weight is None and job.where is None:
        return Weights(Sum(float(job.x.size)), job.x.size)
    work = PointwiseWeights(job)

    def do(start: int, stop: int) -> Weights:
        total, count = work(start, stop)
        return Weights(Sum(*total), count)

    return _run(do, work.size, work.size, 1024, job.n_threads, Weights.plus)


def weigh_rows(job: RowwiseJob) -> Weights:
    work = RowWeights(job)
    elements = work.size if job.target is None and job.where is None else job.logits.size

    def do(start: int, stop: int) -> Weights:
        total, *counts = work(start, stop)
        return Weights(Sum(*total), *counts)

    return _run(do, work.size, elements, 512, job.n_threads, Weights.plus)


if os.environ.get("LOSSFAST_ISA"):
    try:
        use_isa(os.environ["LOSSFAST_ISA"])
    except ValueError as error:
        raise SettingError(f"LOSSFAST_ISA: {error}") from None
