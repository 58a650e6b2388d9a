"""The NumPy backend: the reference, in float64 whatever the input, block by block.

Operands are brought to small contiguous float64 buffers, whatever their strides, dtype and byte order, and results are
rounded once on their way out, so a thread never holds more than about a mebibyte. The Numba backend goes through the
same blocks (`run_pointwise`, `run_rows`) with its own arithmetic.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np

from lossfast import _threads
from lossfast import entrywise as _entrywise
from lossfast import pointwise as _pointwise
from lossfast import rowwise as _rowwise
from lossfast._jobs import PointwiseJob, RowwiseJob, Weights
from lossfast._loss import get_loss
from lossfast._reduction import AWAY, Sum
from lossfast._sparse import SparseTargets
from lossfast.rowwise import ALONG, spread

__all__ = [
    "enter_arithmetic",
    "jacobian",
    "leave_arithmetic",
    "pointwise",
    "quick",
    "rowwise",
    "weigh_pointwise",
    "weigh_rows",
]

assert _entrywise and _pointwise and _rowwise  # imported for what they register

#: No call is taken whole.
quick = None

#: Entries of one buffer. Some twenty are alive at once at the worst, 32 KiB each.
BLOCK = 4096
#: Entries of a slice, the unit of work of a thread.
SLICE = 1 << 16

#: Exponentials of float64 rows are kept this much larger, so that sums of the smallest ones keep their digits.
UP = 2.0**160
#: Deviations from the mean that are all tiny are kept this much larger, so that their squares keep theirs.
LIFT = 2.0**300
#: Sums that overflow on the way are taken this much smaller.
FAR = 2.0**-64

Spots = list[tuple[tuple[Any, ...], int, int]]


# ------------------------------------------------------------------------------------------------------- buffers


def spots(shape: tuple[int, ...], start: int, stop: int) -> Spots:
    """Where elements ``start`` to ``stop`` (in C order) of a shape are: boxes, as (index, offset, count)."""
    return list(_boxes(shape, start, stop, 0, ()))


def _boxes(shape: tuple[int, ...], start: int, stop: int, offset: int, at: tuple[Any, ...]) -> Iterator[Any]:
    if start >= stop:
        return
    inner = math.prod(shape[1:])
    if not shape or inner == 1:
        yield (*at, slice(start, stop), ...) if shape else (*at, ...), offset, stop - start
        return
    first, last = -(-start // inner), stop // inner  # the whole ones among the first axis
    if first > last:
        first -= 1
        yield from _boxes(shape[1:], start - first * inner, stop - first * inner, offset, (*at, first))
        return
    if head := first * inner - start:
        yield from _boxes(shape[1:], inner - head, inner, offset, (*at, first - 1))
    if first < last:
        yield (*at, slice(first, last), ...), offset + head, (last - first) * inner
    if tail := stop - last * inner:
        yield from _boxes(shape[1:], 0, tail, offset + stop - start - tail, (*at, last))


def given(array: np.ndarray | None) -> np.ndarray:
    """An array of a job, where it is known that the job has one."""
    assert array is not None
    return array


def load(array: Any, where: Spots, out: np.ndarray, columns: slice | None = None) -> np.ndarray:
    """Fill ``out`` (first axis: the elements or rows at the spots) from the array, converting."""
    if isinstance(array, SparseTargets):
        return array.load(where, out, columns)
    for index, offset, count in where:
        part = array[index] if columns is None else array[index + (columns,)]
        np.copyto(out[offset : offset + count].reshape(part.shape), part, casting="unsafe")
    return out


def store(array: np.ndarray, where: Spots, values: np.ndarray, columns: slice | None = None) -> None:
    """Write ``values`` to the spots of the array, rounding once to its dtype."""
    for index, offset, count in where:
        part = array[index] if columns is None else array[index + (columns,)]
        np.copyto(part, values[offset : offset + count].reshape(part.shape), casting="unsafe")


# ---------------------------------------------------------------------------------------- arithmetic in two parts


def enter_arithmetic() -> None:
    """NumPy computes in the caller's floating-point state."""


def leave_arithmetic(state: None) -> None:
    pass


def two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """``a + b`` rounded, and what the rounding lost (0 where there is no such number)."""
    s = a + b
    t = s - a
    lost = (a - (s - t)) + (b - t)
    return s, np.where(lost == lost, lost, 0.0)


def split(a: Any) -> tuple[Any, Any]:
    """Two halves, whose products are exact."""
    high = 134217729.0 * a
    high = high - (high - a)
    return high, a - high


def two_product(a: Any, b: Any) -> tuple[Any, Any]:
    """``a * b`` rounded, and what the rounding lost (0 where splitting overflows)."""
    product = a * b
    (a1, a2), (b1, b2) = split(a), split(b)
    lost = a2 * b2 - (((product - a1 * b1) - a2 * b1) - a1 * b2)
    return product, np.where(np.isfinite(lost), lost, 0.0)


#: ln 2 in two parts, of which the first has 41 bits; and what makes an exponent of UP's that of a double.
LN2_HIGH, LN2_LOW, UP_BITS = 0.6931471805598903, 5.497923018708371e-14, 1023 + math.frexp(UP)[1] - 1
#: Of Taylor's series of the exponential, from r^13 down to r^2.
TAYLOR = tuple(1.0 / math.factorial(n) for n in range(13, 1, -1))


def exp_pair(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``UP * exp(t)`` for t <= 0 in two parts, to 2^-55 relative."""
    within = ~(t <= -800.0)  # or NaN
    t = np.where(within, t, 0.0)
    k = np.rint(t * (1.0 / math.log(2.0)))
    high = t - k * LN2_HIGH
    low = k * LN2_LOW
    r = high - low
    low = (high - r) - low
    square = np.full_like(r, TAYLOR[0])
    for factor in TAYLOR[1:]:
        square *= r
        square += factor
    square *= r * r
    w = r + square
    e = 1.0 + w
    low += (w - (e - 1.0)) + ((r - w) + square)
    scale = ((k.astype(np.int64) + UP_BITS) << 52).view(np.float64)
    scale *= within
    e *= scale
    low *= scale
    return e, low


def pair_product(a: np.ndarray, high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """``a (high + low)``, rounded but once."""
    (a1, a2), (b1, b2) = split(a), split(high)
    return a1 * b1 + (a2 * b1 + a * (b2 + low))


def derivative_units(job: RowwiseJob, weight: np.ndarray, total: Any, total_low: Any, power: int) -> tuple[Any, Any]:
    """``scale weight total / T^power`` of every row in two parts: the factor of the quadratic cost's derivatives."""
    unit, low = two_product(job.scale, weight)
    whole, lost = two_product(unit, total)
    low = lost + (unit * total_low + low * total)
    T = np.full(1, job.temperature)
    for _ in range(power if job.temperature != 1 else 0):
        quotient = whole / T
        product, lost = two_product(quotient, T)
        whole, low = quotient, (((whole - product) - lost) + low) / T
    return whole, np.where(np.isfinite(low), low, 0.0)


def tree_sum(high: np.ndarray, low: np.ndarray | None = None, exact: bool = True) -> tuple[np.ndarray, Any]:
    """Sum over the first axis in two parts, by halving: its shape depends on the axis's length alone."""
    n = len(high)
    if n == 0:
        return np.zeros(high.shape[1:]), 0.0
    while n > 1:
        half = n // 2
        a, b = high[:half], high[half : 2 * half]
        s = a + b
        if exact:
            t = s - a
            lost = (a - (s - t)) + (b - t)
            if low is not None:
                lost += low[:half]
                lost += low[half : 2 * half]
        if n % 2:
            s = np.concatenate((s, high[n - 1 :]))
            if exact:
                last = low[n - 1 :] if low is not None else np.zeros_like(high[n - 1 :])
                lost = np.concatenate((lost, last))
        high, low, n = s, lost if exact else None, half + n % 2
    if low is None:
        return high[0].copy(), 0.0
    total, low = high[0], low[0]
    low = np.where(np.isfinite(low), low, 0.0)
    s = total + low
    return s, np.where(np.isfinite(s), low - (s - total), 0.0)


def exp_up(t: np.ndarray) -> np.ndarray:
    """``UP * exp(t)`` for t <= 0, with all its digits."""
    e = np.exp(t)
    e *= UP
    if np.any(t < -690.0):
        deep = (t < -690.0) & (t > -1024.0)
        e[deep] = np.exp(t[deep] + 652.0) * float.fromhex("0x1.4933f2d676e53p-781")  # UP exp(-652), exact to 2^-64
    return e


def sum_of(values: np.ndarray) -> Sum:
    """The sum of a vector, beyond a double's precision and range."""
    high, low = values, None
    while len(high) > 64:  # below, NumPy's calls cost more than the sums
        half = len(high) // 2
        a, b, odd = high[:half], high[half : 2 * half], high[2 * half :]
        s = a + b
        t = s - a
        lost = (a - (s - t)) + (b - t)
        if low is not None:
            lost += low[:half]
            lost += low[half : 2 * half]
            lost = np.concatenate((lost, low[2 * half :]))
        elif len(odd):
            lost = np.concatenate((lost, np.zeros(1)))
        high, low = np.concatenate((s, odd)) if len(odd) else s, lost
    parts = high.tolist() + ([] if low is None else low.tolist())
    if math.isfinite(sum(parts)):
        total = math.fsum(parts)
        return Sum(total, math.fsum([*parts, -total]))
    if not np.isfinite(values).all():
        return Sum(float(values.sum()))
    down = sum_of(values * 2.0**-AWAY)
    return Sum(down.head, down.tail, AWAY)


def run_blocks(size: int, block: int, n_threads: int, do: Callable[[int, int], dict[str, Sum]]) -> dict[str, Sum]:
    """``do(start, stop)`` for every block of ``range(size)``; the sums of what it returns, in a fixed order."""

    def work(start: int, stop: int) -> dict[str, Sum]:
        totals: dict[str, Sum] = {}
        with np.errstate(all="ignore"):
            for first in range(start, stop, block):
                for name, part in do(first, min(first + block, stop)).items():
                    totals[name] = totals[name].plus(part) if name in totals else part
        return totals

    def plus(totals: dict[str, Sum], more: dict[str, Sum]) -> dict[str, Sum]:
        return {name: total.plus(more[name]) for name, total in totals.items()}

    return _threads.run(work, size, block * max(1, SLICE // BLOCK), n_threads, plus)


# ----------------------------------------------------------------------------------------------------- pointwise

#: value, gradient and Hessian (and both of a second argument), all weighted and the derivatives scaled, of x, target,
#: extra and weight in float64
Elementwise = Callable[..., tuple[np.ndarray, ...]]


def run_pointwise(
    job: PointwiseJob, block: int, compute: Elementwise, total: Callable[[np.ndarray], Sum] = sum_of
) -> dict[str, Sum]:
    """Do the job with ``compute(job, x, t, q, w)``, where ``w`` is None or 0 where nothing counts."""
    shape = job.x.shape

    def do(start: int, stop: int) -> dict[str, Sum]:
        n, at = stop - start, spots(shape, start, stop)
        x, t, q = np.empty(n), np.zeros(n), np.ones(n)
        load(job.x, at, x)
        if job.target is not None:  # in the dtype of the arithmetic first, as the compiled backend has it
            t[...] = load(job.target, at, np.empty(n, job.compute))
        if job.extra is not None:
            q[...] = load(job.extra, at, np.empty(n, job.compute))
        w = None
        if job.weight is not None:
            w = load(job.weight, at, np.empty(n))
        if job.where is not None:
            mask = load(job.where, at, np.empty(n, dtype=bool))
            w = np.where(mask, 1.0 if w is None else w, 0.0)
        if job.v is not None:
            v = load(job.v, at, np.empty(n))
            w = v if w is None else np.where(w == 0, 0.0, w * v)
        results = compute(job, x, t, q, w)
        outs = (job.value, job.grad, job.hess, job.grad_second, job.hess_second)
        for out, result in zip(outs, results, strict=False):
            if out is not None:
                store(out, at, result)
        return {name: total(results[0]) for name in job.totals}

    totals = run_blocks(job.x.size, block, job.n_threads, do)
    return {name: totals.get(name, Sum(0.0)) for name in job.totals}


def _elementwise(job: PointwiseJob, x: np.ndarray, t: np.ndarray, q: np.ndarray, w: np.ndarray | None) -> Any:
    value, *derivatives = get_loss(job.loss).twin(
        x, t, q, *map(np.float64, job.params)
    )  # whose division by 0 is infinite
    if w is None:
        return value, *(job.scale * derivative for derivative in derivatives)
    dead, scale = w == 0, job.scale * w
    return np.where(dead, 0.0, w * value), *(np.where(dead, 0.0, scale * derivative) for derivative in derivatives)


def pointwise(job: PointwiseJob) -> dict[str, Sum]:
    """Fill the job's outputs; its total as a `Sum`."""
    return run_pointwise(job, BLOCK, _elementwise)


def weigh_pointwise(job: PointwiseJob) -> Weights:
    """The sum of the weights, and the number, of the elements that are not masked out."""
    size, shape = job.x.size, job.x.shape
    if job.weight is None and job.where is None:
        return Weights(Sum(float(size)), size)

    def do(start: int, stop: int) -> dict[str, Sum]:
        n, at = stop - start, spots(shape, start, stop)
        w = np.ones(n) if job.weight is None else load(job.weight, at, np.empty(n))
        count = n
        if job.where is not None:
            mask = load(job.where, at, np.empty(n, dtype=bool))
            w, count = np.where(mask, w, 0.0), int(np.count_nonzero(mask))
        return {"weight": sum_of(w), "count": Sum(float(count))}

    totals = run_blocks(size, BLOCK, job.n_threads, do)
    return Weights(totals["weight"], int(totals["count"].head)) if totals else Weights(Sum(0.0), 0)


# ------------------------------------------------------------------------------------------------------- rows


class Rows:
    """What is known of some rows of a job besides their classes: labels, weights, which of them count."""

    def __init__(self, job: RowwiseJob, start: int, stop: int) -> None:
        self.n = n = stop - start
        self.at = spots(job.logits.shape[:-1], start, stop)
        self.classes = job.logits.shape[-1]
        self.label: Any = None  # an array of int64 where the targets are labels
        self.ignored = np.zeros(n, dtype=bool)
        self.bad = np.zeros(n, dtype=bool)
        if job.labels is not None:
            raw = load(job.labels, self.at, np.empty(n, dtype=job.labels.dtype.newbyteorder("=")))
            if raw.dtype == bool:
                raw = raw.view(np.uint8)
            if job.ignore_index is not None:
                self.ignored = np.equal(raw, job.ignore_index)
            self.bad = ((raw < 0) | (raw >= self.classes)) & ~self.ignored
            self.label = np.where(self.ignored | self.bad, 0, raw).astype(np.int64)
        self.weight = np.ones(n) if job.sample_weight is None else load(job.sample_weight, self.at, np.empty(n))


def block_of(classes: int, entries: int) -> int:
    """Rows in a block: a function of the number of classes alone, so that a row's place changes nothing."""
    return max(1, entries // max(classes, 1))


def run_rows(
    job: RowwiseJob,
    entries: int,
    do: Callable[[RowwiseJob, Rows], dict[str, np.ndarray]],
    total: Callable[[np.ndarray], Sum] = sum_of,
) -> dict[str, Sum]:
    """Do the job block by block; ``do`` writes the outputs and returns the values of the totals, row by row."""

    def block(start: int, stop: int) -> dict[str, Sum]:
        return {name: total(values) for name, values in do(job, Rows(job, start, stop)).items()}

    size = math.prod(job.logits.shape[:-1])
    totals = run_blocks(size, block_of(job.logits.shape[-1], entries), job.n_threads, block)
    return {name: totals.get(name, Sum(0.0)) for name in job.totals}


def rowwise(job: RowwiseJob) -> dict[str, Sum]:
    """Fill the job's outputs; its totals as `Sum`s."""
    special = {"nll_loss": _likelihood, "kl_div_from_logits": _divergence}
    if get_loss(job.loss).entrywise:
        return run_rows(job, BLOCK, do_entries)
    kinds = {"truth": do_profiled, "violations": _margins}
    return run_rows(job, BLOCK, special.get(job.loss) or kinds.get(get_loss(job.loss).of, do_softmax))


def do_entries(job: RowwiseJob, rows: Rows, compute: Callable[..., Any] | None = None) -> dict[str, np.ndarray]:
    """A sum over entries; ``compute(twin, x, t, parameters)`` gives the twin's results, itself unless given."""
    loss, out, n = get_loss(job.loss), job.outputs, rows.n
    cw = job.class_weight if job.entry_weight is None else job.entry_weight
    whole = loss.of == "pairs"  # its twin looks at all of a row
    step = rows.classes if whole else BLOCK
    ranges = [slice(first, min(first + step, rows.classes)) for first in range(0, rows.classes, step)]

    def part_of(array: np.ndarray, columns: slice, dtype: Any = np.float64) -> np.ndarray:
        return load(array, rows.at, np.empty((n, columns.stop - columns.start), dtype), columns)

    seen = np.full(n, rows.classes)
    if job.where is not None:
        seen = sum((part_of(job.where, columns, bool).sum(axis=1) for columns in ranges), np.zeros(n, np.intp))
    empty = seen == 0
    weight = np.where(rows.bad, np.nan, rows.weight)
    dead = rows.ignored | empty | (weight == 0)
    divisor = seen if loss.average else np.ones(n)
    unit = job.scale * weight / divisor
    direction: Any = None
    row_v: Any = None
    if job.v is not None and job.v.ndim == job.logits.ndim:
        direction = job.v
    elif job.v is not None:
        row_v = load(job.v, rows.at, np.empty(n))
    values: Any = (np.zeros(n), np.zeros(n))
    along: Any = (np.zeros(n), np.zeros(n))
    lowered = np.zeros(n)

    def add(total: Any, parts: np.ndarray) -> Any:
        high, low = tree_sum(parts.T)
        high, lost = two_sum(total[0], high)
        return high, total[1] + (lost + low)

    for columns in ranges:
        x = part_of(job.logits, columns)
        t = np.zeros_like(x)
        mask = None if job.where is None else part_of(job.where, columns, bool)
        if rows.label is not None:
            t[np.arange(columns.start, columns.stop) == rows.label[:, None]] = 1.0
        elif job.target is not None:
            t = part_of(job.target, columns)
        if mask is not None:
            x = np.where(mask, x, -np.inf if loss.labelled or whole else 0.0)
            t = np.where(mask | (t == t if loss.labelled else False), t, 0.0)
        results = loss.twin(x, t, *job.params) if compute is None else compute(loss.twin, x, t, job.params)
        value, grad, hess, slope = (np.broadcast_to(result, x.shape) for result in results)
        if mask is not None and not loss.labelled:
            value, grad, hess, slope = (np.where(mask, result, 0.0) for result in (value, grad, hess, slope))
        by = unit[:, None]
        if cw is not None:
            value, by = _mul0(cw[columns], value), by * cw[columns]
        values = add(values, value)
        if loss.average:
            low_value = FAR * value
            if whole and np.isinf(value).any():  # what pairs differ by may be beyond the range too
                low_value = loss.twin(FAR * x, t, *(FAR * p for p in job.params))[0]
            lowered = lowered + low_value.sum(axis=1)
        v = None if direction is None else part_of(direction, columns)
        if "row_jvp" in out:
            along = add(along, _mul0(given(v), grad))
        made: dict[str, np.ndarray] = {}
        if "grad" in out:
            made["grad"] = _mul0(by, grad)
        if "hess" in out:
            made["hess"] = _mul0(by, hess)
        if "hvp" in out:
            bend = _mul0(by, hess)
            made["hvp"] = np.where((given(v) == 0) & (bend == bend), 0.0, v * bend)  # NaN is heard
        if "grad_target" in out:
            made["grad_target"] = _mul0(by, slope)
        if "vjp" in out:
            made["vjp"] = _mul0(given(row_v)[:, None], grad)
        gone = dead[:, None] if mask is None or loss.labelled else dead[:, None] | ~mask
        for name, entries in made.items():
            store(out[name], rows.at, np.where(gone, 0.0, entries + 0.0), columns)
    total = (values[0] + _finite(values[1])) / divisor
    if loss.average and np.isinf(total).any():
        total = np.where(np.isinf(total), lowered / divisor / FAR, total)
    total = np.where(dead, 0.0, _mul0(weight, total))
    if "row_jvp" in out:
        store(out["row_jvp"], rows.at, np.where(empty, 0.0, along[0] + _finite(along[1])))
    for name in ("loss", job.loss):
        if name in out:
            store(out[name], rows.at, total)
    return {"loss": total} if "loss" in job.totals else {}


def _finite(low: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(low), low, 0.0)


def _likelihood(job: RowwiseJob, rows: Rows) -> dict[str, np.ndarray]:
    """nll_loss: no softmax, one class a row."""
    n, label = rows.n, rows.label
    weight = np.ones(n) if job.class_weight is None else job.class_weight[label]
    x = np.empty(n)
    live: Any = np.ones(n, dtype=bool)
    for first in range(0, rows.classes, BLOCK):
        columns = slice(first, min(first + BLOCK, rows.classes))
        mine = np.nonzero((label >= columns.start) & (label < columns.stop))[0]
        part = load(job.logits, rows.at, np.empty((n, columns.stop - first)), columns)
        x[mine] = part[mine, label[mine] - first]
        if job.where is not None:
            mask = load(job.where, rows.at, np.empty(part.shape, dtype=bool), columns)
            x[mine] = np.where(mask[mine, label[mine] - first], x[mine], -np.inf)
            live = mask.any(axis=1) if first == 0 else live | mask.any(axis=1)
    x = np.where(rows.bad, np.nan, x) / job.temperature
    dead = rows.ignored | ~live | (rows.weight == 0)
    value, grad, _ = get_loss(job.loss).twin(0.0, 0.0, 1.0, weight, weight, -x + 0.0, 0.0, 0.0, 0.0, 0.0)
    loss = np.where(dead, 0.0, rows.weight * value)
    grad = np.where(dead, 0.0, job.scale * rows.weight / job.temperature * np.where(rows.bad, np.nan, grad))
    flat = np.where(dead, 0.0, np.where(rows.bad | (rows.weight != rows.weight), np.nan, 0.0))
    if "loss" in job.outputs:
        store(job.outputs["loss"], rows.at, loss)
    for first in range(0, rows.classes, BLOCK):
        columns = slice(first, min(first + BLOCK, rows.classes))
        mine = np.nonzero((label >= columns.start) & (label < columns.stop))[0]
        part = np.empty((n, columns.stop - first))
        for name in ("grad", "hess"):
            if name in job.outputs:
                part[...] = flat[:, None]
                part[mine, label[mine] - first] = (grad if name == "grad" else flat)[mine]
                store(job.outputs[name], rows.at, part, columns)
    return {"loss": loss} if "loss" in job.totals else {}


class _Chunk:
    """Some classes of some rows, class by row: what was loaded of them, and what has been made of it."""

    __slots__ = ("columns", "e", "el", "mask", "other", "p", "t", "tl", "v", "w", "x", "b", "s", "soft")

    columns: slice
    x: np.ndarray
    mask: np.ndarray | None
    # Arrays, each None until it is made; v, b, soft and w for good where the job has no use for them.
    v: Any
    b: Any
    t: Any
    tl: Any
    e: Any
    el: Any
    p: Any
    s: Any
    soft: Any
    w: Any
    other: Any  # the same classes of the other logits


class _Softmax:
    """The softmax state of some rows. Wide rows go by in chunks, over which each pass below carries its sums."""

    def __init__(self, job: RowwiseJob, rows: Rows, other: _Softmax | None = None) -> None:
        self.job, self.rows, self.n, self.classes = job, rows, rows.n, rows.classes
        self.other = other
        self.every = np.arange(rows.n)
        # float64 input leaves the error of x - max to show in the results, as a comparison does; float32 does not
        self.exact = job.compute == np.float64 or job.logits_q is not None
        self.up = UP if self.exact else 1.0
        self.profiled = get_loss(job.loss).of == "truth"
        # p occurs squared there, and in powers
        self.fine = self.exact and (job.loss == "quadratic_softmax_loss" or self.profiled)
        self.order: Literal["C", "F"] = "F" if rows.classes >= 256 else "C"
        self.ranges = [slice(c, min(c + BLOCK, rows.classes)) for c in range(0, rows.classes, BLOCK)]
        self.kept: _Chunk | None = None
        self.unmasked = np.full(rows.n, float(rows.classes))
        self.soft = job.target is not None or (job.labels is not None and job.label_smoothing > 0)
        self.ready = False
        self._largest()
        self.ready = True
        self._exponentials()

    # ---- chunks

    def chunks(self) -> Iterator[_Chunk]:
        others: Any = itertools.repeat(None) if self.other is None else self.other.chunks()
        for columns, other in zip(self.ranges, others, strict=False):
            chunk = self._open(columns)
            chunk.other = other
            if self.ready:
                self.shifted(chunk)
                if self.soft:
                    self._weigh(chunk)
            yield chunk

    def _array(self, source: np.ndarray, columns: slice, dtype: Any = np.float64) -> np.ndarray:
        out = np.empty((columns.stop - columns.start, self.n), dtype=dtype, order=self.order)
        load(source, self.rows.at, out.T, columns)
        return out

    def _open(self, columns: slice) -> _Chunk:
        if self.kept is not None:
            return self.kept
        job, chunk = self.job, _Chunk()
        chunk.columns = columns
        chunk.mask = chunk.b = chunk.v = chunk.t = chunk.e = chunk.p = chunk.s = chunk.w = chunk.soft = None
        chunk.x = self._array(job.logits, columns)
        if job.where is not None:
            chunk.mask = self._array(job.where, columns, bool)
        if job.b is not None:
            chunk.b = self._array(job.b, columns)
            there = chunk.b != 0
            chunk.mask = there if chunk.mask is None else chunk.mask & there
            np.copyto(chunk.b, 0.0, where=~chunk.mask)
        if chunk.mask is not None:
            np.copyto(chunk.x, -np.inf, where=~chunk.mask)
        if job.v is not None and job.v.ndim == job.logits.ndim:
            chunk.v = self._array(job.v, columns)
            if chunk.mask is not None:
                np.copyto(chunk.v, 0.0, where=~chunk.mask)
        if len(self.ranges) == 1:
            self.kept = chunk
        return chunk

    def _weigh(self, chunk: _Chunk) -> None:
        """The targets of soft rows as they count: ``soft`` after smoothing, ``w`` with the class weights."""
        if chunk.w is not None:
            return
        job, columns = self.job, chunk.columns
        if job.target is not None:
            soft = self._array(job.target, columns)
            if chunk.mask is not None:
                np.copyto(soft, 0.0, where=(soft != soft) & ~chunk.mask)
        else:
            soft = np.zeros_like(chunk.x)
            self.put(soft, chunk, self.rows.label, np.ones(self.n))
        if job.label_smoothing > 0:
            share = job.label_smoothing / self.unmasked
            soft *= 1.0 - job.label_smoothing
            soft += share if chunk.mask is None else np.where(chunk.mask, share, 0.0)
        chunk.soft = soft
        chunk.w = soft if job.class_weight is None else soft * job.class_weight[columns, None]

    def mine(self, chunk: _Chunk, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows whose class ``index`` is in the chunk, and its place there."""
        if len(self.ranges) == 1:
            return self.every, index
        at = self.every[(index >= chunk.columns.start) & (index < chunk.columns.stop)]
        return at, index[at] - chunk.columns.start

    def take(self, values: np.ndarray, chunk: _Chunk, index: np.ndarray, into: np.ndarray) -> None:
        at, place = self.mine(chunk, index)
        into[at] = values[place, at]

    def put(self, values: np.ndarray, chunk: _Chunk, index: np.ndarray, what: np.ndarray) -> None:
        at, place = self.mine(chunk, index)
        values[place, at] = what[at]

    # ---- the passes

    def _largest(self) -> None:
        """The largest logit, where it is first, and which rows are special."""
        job, rows, n = self.job, self.rows, self.n
        top, best, self.leader = np.full(n, -np.inf), np.full(n, -np.inf), np.zeros(n, dtype=np.int64)
        infinities = np.zeros(n)
        if job.where is not None or job.b is not None:
            self.unmasked = np.zeros(n)
        self.true = rows.label
        ranked = job.target is not None and not {"correct", "margin", "rank"}.isdisjoint(job.outputs)
        if ranked:
            self.true, most = np.zeros(n, dtype=np.int64), np.full(n, -np.inf)
        for chunk in self.chunks():
            here = chunk.x.max(axis=0)
            top = np.maximum(top, here)
            numbers = np.where(chunk.x == chunk.x, chunk.x, -np.inf) if np.isnan(here).any() else chunk.x
            most_here, first = numbers.max(axis=0), numbers.argmax(axis=0)  # NaN is no class's largest logit
            self.leader = np.where(most_here > best, first + chunk.columns.start, self.leader)
            best = np.maximum(best, most_here)
            if np.any(here == np.inf):
                infinities += np.count_nonzero(chunk.x == np.inf, axis=0)
            if chunk.mask is not None:
                self.unmasked += np.count_nonzero(chunk.mask, axis=0)
            if chunk.b is not None and np.abs(chunk.b).max() > 2.0**600:  # already as large as may be
                self.up = 1.0
            if ranked:
                soft = self._array(given(job.target), chunk.columns)
                if chunk.mask is not None:
                    np.copyto(soft, -np.inf, where=~chunk.mask)
                np.copyto(soft, -np.inf, where=soft != soft)  # nor its largest target
                here, first = soft.max(axis=0), soft.argmax(axis=0)
                self.true = np.where(here > most, first + chunk.columns.start, self.true)
                most = np.maximum(most, here)
        self.top = top
        self.empty = self.unmasked == 0
        self.limit = infinities == 1
        top = np.where(self.empty, 0.0, np.where((infinities > 1) | rows.bad, np.nan, top))
        self.shift_by = np.where(top == -np.inf, np.nan, top)
        self.nan = self.shift_by != self.shift_by

    def shifted(self, chunk: _Chunk) -> None:
        """``t + tl = (x - max) / T`` and ``e + el`` its exponential, ``up`` times as large."""
        if chunk.e is not None:
            return
        x, m, T = chunk.x, self.shift_by, self.job.temperature
        t = x - m
        tl = None
        if self.exact:
            back = t - x
            tl = (x - (t - back)) - (m + back)
            np.copyto(tl, 0.0, where=~np.isfinite(tl))
        if T != 1:
            d, t = t, t / T
            if self.exact:
                product, lost = two_product(t, np.full(1, T))
                tl = (((d - product) - lost) + tl) / T
                np.copyto(tl, 0.0, where=~np.isfinite(tl))
        if self.limit.any():
            np.copyto(t, np.where(x == np.inf, 0.0, -np.inf), where=self.limit & ~self.nan)
        chunk.t, chunk.tl = t, tl
        if self.fine:
            chunk.e, chunk.el = exp_pair(t)
            chunk.el += chunk.e * tl
            return
        chunk.e = np.exp(t) if self.up == 1 else exp_up(t)
        chunk.el = None if tl is None else chunk.e * tl

    def _exponentials(self) -> None:
        """The sum of the others in two parts, and what follows from it."""
        job, n = self.job, self.n
        rest, low = np.zeros(n), np.zeros(n)
        lead, lead_b = np.full(n, self.up), np.ones(n)
        self.total, total_low = np.zeros(n), np.zeros(n)
        self.second = np.full(n, -np.inf)
        self.true_x, self.true_t, self.true_tl = np.full(n, np.nan), np.full(n, np.nan), np.zeros(n)
        self.true_e, self.true_el = np.full(n, np.nan), np.zeros(n)
        self.lead_v, self.lead_soft, self.true_v = np.zeros(n), np.zeros(n), np.zeros(n)
        for chunk in self.chunks():
            e, el = chunk.e, chunk.el
            self.take(e, chunk, self.leader, lead)
            if self.true is not None:
                for source, into in ((chunk.x, self.true_x), (chunk.t, self.true_t), (e, self.true_e)):
                    self.take(source, chunk, self.true, into)
                if el is not None:
                    self.take(el, chunk, self.true, self.true_el)
                    self.take(chunk.tl, chunk, self.true, self.true_tl)
                if chunk.v is not None:
                    self.take(chunk.v, chunk, self.true, self.true_v)
            if chunk.v is not None:
                self.take(chunk.v, chunk, self.leader, self.lead_v)
            self.put(e, chunk, self.leader, np.zeros(n))
            if chunk.b is not None:
                self.take(chunk.b, chunk, self.leader, lead_b)
                be, bel = two_product(e, chunk.b)
                s, sl = tree_sum(be, bel if el is None else bel + el * chunk.b)
            else:
                s, sl = tree_sum(e, el, self.exact)
            self.put(e, chunk, self.leader, lead)
            rest, lost = two_sum(rest, s)
            low += lost + sl
            if "margin" in job.outputs:
                x = chunk.x.copy()
                self.put(x, chunk, self.leader, np.full(n, -np.inf))
                self.second = np.maximum(self.second, x.max(axis=0))
            if self.soft:
                self.take(chunk.soft, chunk, self.leader, self.lead_soft)
                s, sl = tree_sum(chunk.w)
                self.total, lost = two_sum(self.total, s)
                total_low += lost + sl
        self.total, self.total_low = two_sum(self.total, np.where(np.isfinite(total_low), total_low, 0.0))
        if job.labels is not None and not self.soft:
            self.total = np.ones(n) if job.class_weight is None else job.class_weight[self.rows.label]
            self.total_low = np.zeros(n)
        if job.b is not None:
            # rest + (b - 1), so that the logarithm of a sum near 1 keeps its digits
            above, lost = two_sum(lead_b, np.full(1, -1.0))
            low += self.up * lost
            rest, lost = two_sum(rest, self.up * above)
            low += lost
        rest, rest_low = two_sum(rest, low)
        self.rest, self.rest_low = rest / self.up, rest_low / self.up
        whole, lost = two_sum(np.where(self.empty, 0.0, 1.0), self.rest)
        self.whole, low = two_sum(whole, lost + self.rest_low)
        inverse = 1.0 / self.whole
        self.inverse = np.where(self.empty, 0.0, inverse)
        self.inverse_low: Any = 0.0
        if self.exact:
            product, lost = two_product(inverse, self.whole)
            self.inverse_low = np.where(self.empty, 0.0, inverse * (((1.0 - product) - lost) - inverse * low))
        if job.b is not None:
            near = np.log1p(np.where(self.rest > -0.5, self.rest, 0.0)) + self.rest_low / self.whole
            far = np.log(np.abs(self.whole)) + low / self.whole
            self.log_rest = np.where(
                (self.rest > -0.5) & (self.rest < 1.0), near, np.where(self.whole == 0, -np.inf, far)
            )
        else:
            self.log_rest = np.log1p(self.rest) + self.rest_low / (1.0 + self.rest)
        others, lost = two_product(rest, self.inverse) if self.fine else (rest * self.inverse, 0.0)
        low = lost + (rest * self.inverse_low + rest_low * self.inverse)
        self.others_up = others + low
        self.others = self.others_up / self.up
        self.others_low = ((others - self.others_up) + low) / self.up
        z = self.shift_by / job.temperature
        lse, low = two_sum(z, self.log_rest)
        if job.temperature != 1:
            product, lost = two_product(z, np.full(1, job.temperature))
            low += ((self.shift_by - product) - lost) / job.temperature
        lse = lse + np.where(np.isfinite(low), low, 0.0)
        lse = np.where(self.limit & ~self.nan, np.inf, lse)
        self.lse = np.where(self.empty | ((self.top == -np.inf) & ~self.rows.bad), -np.inf, lse)
        if self.true is not None and (job.loss in ALONG or self.profiled):
            self.true_p = self.probability(self.true_e, self.true_el if self.exact else None) / self.up
            self.true_q = np.where(self.true == self.leader, self.others, 1.0 - self.true_p)
            self.true_a = self.above(self.true_t, self.true_tl)
            # p and 1 - p, `up` times as large
            self.true_up = self.probability(self.true_e, self.true_el if self.exact else None)
            self.true_rest = np.where(self.true == self.leader, self.others_up, self.true_q * self.up)
        self.lead_p = self.probability(lead, None) / self.up
        self.lead_v = self.pivot(self.lead_v)

    def probability(self, e: np.ndarray, el: np.ndarray | None) -> np.ndarray:
        """p, ``up`` times as large."""
        if not self.exact:
            return e * self.inverse
        if self.fine:
            high, low = split(e)
            inverse, inverse_low = split(self.inverse)
            if el is not None:
                low += el
            low *= self.inverse
            low += high * (inverse_low + self.inverse_low)
            high *= inverse
            high += low
            return high
        low = e * self.inverse_low
        if el is not None:
            low += el * self.inverse
        low += e * self.inverse
        return low

    def above(self, t: np.ndarray, tl: np.ndarray | None) -> np.ndarray:
        """``lse - z``, a sum of two that are not negative."""
        a = self.log_rest - t
        return a if tl is None else a - tl

    def above_pair(self, t: np.ndarray, tl: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The same in two parts."""
        a, low = two_sum(self.log_rest, -t)
        return two_sum(a, low if tl is None else low - tl)

    def entries(self, chunk: _Chunk) -> np.ndarray:
        """p of every class."""
        if chunk.p is None:
            scaled = self.scaled(chunk)
            chunk.p = scaled if self.up == 1 else scaled * (1.0 / self.up)
        return chunk.p

    def scaled(self, chunk: _Chunk) -> np.ndarray:
        """p of every class, ``up`` times as large."""
        if chunk.s is None:
            chunk.s = self.probability(chunk.e, chunk.el)
            if chunk.b is not None:
                chunk.s *= chunk.b
        return chunk.s

    def complement(self, chunk: _Chunk) -> np.ndarray:
        """1 - p of every class: only at the largest can it be small, and there it is the share of the others."""
        q = 1.0 - self.entries(chunk)
        self.put(q, chunk, self.leader, self.others)
        return q

    def complement_pair(self, chunk: _Chunk) -> tuple[np.ndarray, np.ndarray]:
        """The same in two parts."""
        q = self.complement(chunk)
        low = (1.0 - q) - self.entries(chunk)
        self.put(low, chunk, self.leader, self.others_low)
        return q, low

    def pivot(self, lead: np.ndarray) -> np.ndarray:
        """What means under p are taken relative to: the value at a class with most of the weight, if there is one."""
        return np.where(self.lead_p > 0.5, lead, 0.0)

    def mean_of(self, make: Callable[[_Chunk], np.ndarray], lead: np.ndarray) -> np.ndarray:
        """``sum p (u - lead)``: what a mean under p lies above the pivot."""
        return self.weighted(lambda chunk: make(chunk) - lead)

    def weighted(self, make: Callable[[_Chunk], np.ndarray]) -> np.ndarray:
        """``sum p u``, of the classes that are not out of reach."""
        total = self.sum_of(lambda c: np.where(self.entries(c) == 0, 0.0, self.scaled(c) * make(c)))
        if self.up == 1:
            return total
        total /= self.up
        if not np.isfinite(total).all():  # it may have been too much for what is scaled
            total = np.where(np.isfinite(total), total, self.sum_of(lambda c: _mul0(self.entries(c), make(c))))
        return total

    def far_true(self) -> np.ndarray:
        far = np.zeros(self.n)
        if self.true is not None:
            for chunk in self.chunks():
                self.take(self.far(chunk), chunk, self.true, far)
        return far

    def far(self, chunk: _Chunk) -> np.ndarray:
        """``(max - x) / T``, `FAR` times as large."""
        gap = (self.shift_by * FAR - chunk.x * FAR) / self.job.temperature
        return np.where(self.limit, np.where(chunk.x == np.inf, 0.0, np.inf), gap) if self.limit.any() else gap

    def sum_of(self, make: Callable[[_Chunk], np.ndarray]) -> np.ndarray:
        high, low = np.zeros(self.n), np.zeros(self.n)
        for chunk in self.chunks():
            s, sl = tree_sum(make(chunk))
            high, lost = two_sum(high, s)
            low += lost + sl
        return high + low


#: What only both softmaxes together give, of those that are compared.
_COMPARED = ("loss", "grad", "hess", "hvp", "grad_target", "grad_temperature")


def _divergence(job: RowwiseJob, rows: Rows) -> dict[str, np.ndarray]:
    """kl_div_from_logits: p is the softmax of the logits, q that of the others, ``a = log p - log q``."""
    other = _Softmax(dataclasses.replace(job, logits=given(job.logits_q), v=None, outputs={}), rows)
    s, out, T = _Softmax(job, rows, other), job.outputs, job.temperature
    do_softmax(
        dataclasses.replace(
            job, totals=(), outputs={name: out[name] for name in out if name not in _COMPARED}, logits_q=None
        ),
        rows,
        s,
    )
    twin, factor = get_loss(job.loss).twin, job.scale * rows.weight / T
    dead, nan = s.empty | (rows.weight == 0), s.nan | other.nan
    between: Any = (other.log_rest - s.log_rest, 0.0)
    balanced = between
    wanted = {*out, *job.totals}
    totals: dict[str, np.ndarray] = {}

    def give(name: str, values: np.ndarray, columns: slice | None = None) -> None:
        values = np.where(dead, 0.0, np.where(nan, np.nan, values))
        if name in out:
            store(out[name], rows.at, values.T, columns)
        if name in job.totals:
            totals[name] = values

    def there(chunk: _Chunk, softmax: _Softmax) -> np.ndarray:
        """Which classes can be at all: in a row that has become its limit at an infinity, that class alone."""
        return np.where(softmax.limit, chunk.x == np.inf, chunk.x != -np.inf)

    def ratio(chunk: _Chunk, between: Any = between) -> np.ndarray:
        a, low = two_sum(chunk.t, -chunk.other.t)
        a, lost = two_sum(a, between[0])
        return a + ((lost + low) + ((chunk.tl - chunk.other.tl) + between[1]))

    def difference(chunk: _Chunk) -> np.ndarray:
        """q - p, with its digits where they are nearly equal."""
        p, q, a = s.entries(chunk), other.entries(chunk.other), ratio(chunk, balanced)
        far = (p == 0) | (a < -2)
        return np.where(far, q - p, p * np.expm1(-np.where(far, 0.0, a)))

    def parts(chunk: _Chunk, which: int, d: Any) -> np.ndarray:
        p, q = s.entries(chunk), other.entries(chunk.other)
        left = s.complement(chunk) if which == 2 else 0.0
        a = 0.0 if which else ratio(chunk, balanced)
        return twin(p, left, q, 1.0, 1.0, a, 0.0, 0.0, d, d)[which]

    if not wanted.isdisjoint(("loss", "grad_target", "grad_temperature")):
        # log p and log q have the errors of both normalisers, which the sum of q - p, 0 if it were exact, takes out
        balanced = two_sum(between[0], np.log1p(s.sum_of(difference)))
    if "loss" in wanted:
        lost = lambda c: there(c, s) & ~there(c.other, other)  # noqa: E731
        give("loss", rows.weight * s.sum_of(lambda c: np.where(lost(c), np.inf, parts(c, 0, 0.0))))
    if "grad_target" in wanted:
        for chunk in s.chunks():
            give("grad_target", factor * difference(chunk), chunk.columns)
    if wanted.isdisjoint(("grad", "hess", "hvp", "grad_temperature")):
        return totals

    lead = np.zeros(s.n)
    for chunk in s.chunks():
        s.take(ratio(chunk), chunk, s.leader, lead)
    lead = s.pivot(np.where(np.isfinite(lead), lead, 0.0))
    count = s.sum_of(lambda c: there(c, s).astype(np.float64))
    mean = s.sum_of(
        lambda c: np.where(there(c, s), np.where(ratio(c) == np.inf, np.inf, _mul0(s.entries(c), ratio(c) - lead)), 0.0)
    )
    infinite = mean == np.inf

    def deviation(chunk: _Chunk, wild: float) -> np.ndarray:
        """a from its mean; where that is infinite, ``wild`` where a is (0 in a class by itself), else ``-wild``."""
        a, w = ratio(chunk), np.where(count == 1, 0.0, wild)
        return np.where(infinite, np.where(a == np.inf, w, -w), (a - lead) - mean)

    def entries(chunk: _Chunk, d: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.where(there(chunk, s), np.where(infinite, d, values), 0.0)

    if "grad_temperature" in wanted:
        slope = s.sum_of(
            lambda c: (
                _mul0(np.where(there(c, s), s.entries(c) * deviation(c, np.nan), 0.0), -c.t * T)
                + _mul0(difference(c), -c.other.t * T)
            )
        )
        give("grad_temperature", factor / T * np.where(infinite, np.nan, slope))
    along: Any = 0.0
    if "hvp" in out:
        mean_v = s.mean_of(lambda c: c.v, s.lead_v)
        v = lambda c: (c.v - s.lead_v) - mean_v  # noqa: E731
        along = s.sum_of(lambda c: np.where(there(c, s), s.entries(c) * deviation(c, np.nan) * v(c), 0.0))
    for chunk in s.chunks():
        if "grad" in out:
            d = deviation(chunk, np.inf)
            give("grad", factor * entries(chunk, d, parts(chunk, 1, d)), chunk.columns)
        d = deviation(chunk, np.nan)
        if "hess" in out:
            give("hess", factor / T * entries(chunk, d, parts(chunk, 2, d)), chunk.columns)
        if "hvp" in out:
            made = ALONG[job.loss](s.entries(chunk), 1.0, v(chunk), mean_v, 0.0, 0.0, d, d, along)
            give("hvp", factor / T * entries(chunk, d, made), chunk.columns)
    return totals


def do_profiled(job: RowwiseJob, rows: Rows) -> dict[str, np.ndarray]:
    """The losses that are a function of the true class's probability, by their value F and its derivatives."""
    s, out = _Softmax(job, rows), job.outputs
    own = {name: out[name] for name in ("loss", "grad", "hess") if name in out}
    others = {name: out[name] for name in out if name not in own}
    if others:
        do_softmax(dataclasses.replace(job, totals=(), outputs=others), rows, s)
    hard = rows.label is not None
    dead = rows.ignored | s.empty | (rows.weight == 0)
    parameters = tuple(map(np.float64, job.params))
    twin = get_loss(job.loss).twin
    totals: dict[str, np.ndarray] = {}

    def finish(values: np.ndarray) -> np.ndarray:
        return np.where(dead, 0.0, np.where(s.nan, np.nan, values))

    def of_classes(chunk: _Chunk) -> Any:
        return twin(*s.above_pair(chunk.t, chunk.tl), s.scaled(chunk), *s.complement_pair(chunk), s.up, *parameters)

    true_low: Any = 0.0
    if hard:
        true_low = np.where(s.true == s.leader, s.others_low, (1.0 - s.true_q) - s.true_p)

    def of_truth() -> Any:
        return twin(*s.above_pair(s.true_t, s.true_tl), s.true_up, s.true_q, true_low, s.up, *parameters)

    def far(value: np.ndarray, gap: np.ndarray) -> np.ndarray:
        """The value `FAR` times as large, from a gap that is that small: where it is infinite it grows with the gap."""
        return np.where(
            np.isinf(value), twin(gap + FAR * s.log_rest, 0.0, 0.0, 1.0, 0.0, 1.0, *parameters)[0], FAR * value
        )

    if "loss" in out or "loss" in job.totals:
        if hard:
            value = of_truth()[0]
            loss = rows.weight * _mul0(s.total, value)
        else:
            loss = rows.weight * s.sum_of(lambda c: _mul0(c.w, of_classes(c)[0]))
        if not np.isfinite(loss).all():
            if hard:
                less = _mul0(s.total, far(value, s.far_true()))
            else:
                less = s.sum_of(lambda c: _mul0(c.w, far(of_classes(c)[0], s.far(c))))
            loss = np.where(np.isfinite(loss), loss, rows.weight * less / FAR)
        loss = finish(loss)
        if "loss" in out:
            store(out["loss"], rows.at, loss)
        if "loss" in job.totals:
            totals["loss"] = loss
    if "grad" not in out and "hess" not in out:
        return totals

    if hard:
        _, slope, bend = of_truth()
        whole = two_product(s.total, slope)
    else:
        whole = s.sum_of(lambda c: _mul0(c.w, of_classes(c)[1])), 0.0
        own_bend = np.zeros(rows.n)  # of the largest class, whose 1 - p may be nothing
        for chunk in s.chunks():
            _, slope, bend = of_classes(chunk)
            s.take(_mul0(chunk.w, slope) * bend, chunk, s.leader, own_bend)

        def bends(chunk: _Chunk) -> np.ndarray:
            """``w F''`` of the other classes, ``up`` times as large."""
            _, slope, bend = of_classes(chunk)
            y = _mul0(chunk.w, slope) * bend / s.complement(chunk)
            s.put(y, chunk, s.leader, np.zeros(rows.n))
            return y

        all_bends = s.sum_of(bends) / s.up if "hess" in out else 0.0

    def weigh(values: np.ndarray, power: int, slopes: Any) -> np.ndarray:
        high, low = derivative_units(job, rows.weight, slopes[0], slopes[1], power)
        return finish(np.where(high == 0, 0.0, pair_product(values, high, low)))

    alone: Any = (np.ones(rows.n), 0.0)
    for chunk in s.chunks():
        p, up = s.entries(chunk), s.scaled(chunk)
        if "grad" in out:
            if hard:
                values = p.copy()
                s.put(values, chunk, rows.label, 0.0 - s.true_q)
                values = weigh(values, 1, whole)
            else:
                values = weigh(p * whole[0] - _mul0(chunk.w, of_classes(chunk)[1]), 1, alone)
            store(out["grad"], rows.at, values.T, chunk.columns)
        if "hess" in out:
            q = s.complement(chunk)
            if hard:
                ratio = np.where(s.true_rest == 0, 0.0, up / s.true_rest)
                values = p * (q + bend / s.up * ratio)
                s.put(values, chunk, rows.label, s.true_q * (s.true_up + bend) / s.up)
                values = weigh(values, 2, whole)
            else:
                ratio = np.where(s.others_up == 0, 0.0, up / s.others_up)
                each = bends(chunk)
                values = up * p * (all_bends - each / s.up) + (each * q * q + p * ratio * own_bend)
                values = p * q * whole[0] + values / s.up
                at_lead = s.lead_p * s.lead_p * all_bends + own_bend / s.up * s.others
                s.put(values, chunk, s.leader, s.lead_p * (s.others * whole[0]) + at_lead)
                values = weigh(values, 2, alone)
            store(out["hess"], rows.at, values.T, chunk.columns)
    return totals


def _margins(job: RowwiseJob, rows: Rows) -> dict[str, np.ndarray]:
    """The losses of margins between the true class and the others."""
    n, label, out = rows.n, rows.label, job.outputs
    worst = job.params[0] == 0  # the worst of the others, or all of them
    twin, parameters = get_loss(job.loss).twin, tuple(map(np.float64, job.params))
    weight = np.ones(n) if job.class_weight is None else job.class_weight[label]
    ranges = [slice(first, min(first + BLOCK, rows.classes)) for first in range(0, rows.classes, BLOCK)]

    def bring(columns: slice) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Logits, which of their classes there are, and where the true ones are."""
        x = load(job.logits, rows.at, np.empty((n, columns.stop - columns.start)), columns)
        live = np.ones(x.shape, dtype=bool)
        if job.where is not None:
            load(job.where, rows.at, live, columns)
            np.copyto(x, -np.inf, where=~live)
        mine = np.nonzero((label >= columns.start) & (label < columns.stop))[0]
        return x, live, (mine, label[mine] - columns.start)

    true, best, rival, odd = np.full(n, np.nan), np.full(n, -np.inf), np.full(n, -1), rows.bad.copy()
    unmasked = np.zeros(n)
    for columns in ranges:
        x, live, mine = bring(columns)
        unmasked += np.count_nonzero(live, axis=1)
        true[mine[0]] = x[mine]
        odd |= np.isnan(x).any(axis=1)
        x[mine] = -np.inf
        np.copyto(x, -np.inf, where=np.isnan(x))
        here = x.max(axis=1)
        rival = np.where(here > best, x.argmax(axis=1) + columns.start, rival)
        best = np.maximum(best, here)
    odd |= np.isnan(true) | ((true == np.inf) & (best == np.inf))
    dead = rows.ignored | (unmasked == 0) | (rows.weight == 0)

    def violations(columns: slice, down: float = 1.0) -> list[np.ndarray]:
        """Value, first and second derivative of every class but the true one, of numbers `down` times as large."""
        x, _, mine = bring(columns)
        gap, low = two_sum(x * down, -(true * down)[:, None])
        counts = x != -np.inf
        counts[mine] = False
        if worst:
            counts &= np.arange(columns.start, columns.stop) == rival[:, None]
        results = twin(gap, low, parameters[0], parameters[1] * down, parameters[2])
        return [np.where(counts, y, 0.0) for y in results]

    def sum_over(which: int, down: float = 1.0) -> np.ndarray:
        high, low = np.zeros(n), np.zeros(n)
        for columns in ranges:
            s, sl = tree_sum(violations(columns, down)[which].T)
            high, lost = two_sum(high, s)
            low += lost + sl
        return high + low

    def finish(values: np.ndarray) -> np.ndarray:
        gone, nan = (dead, odd) if values.ndim == 1 else (dead[:, None], odd[:, None])
        return np.where(gone, 0.0, np.where(nan, np.nan, values))

    share = weight if worst else weight / unmasked
    unit = rows.weight * share
    totals: dict[str, np.ndarray] = {}
    if "loss" in out or "loss" in job.totals:
        loss = _mul0(unit, sum_over(0))
        if not np.isfinite(loss).all():
            down = 2.0**-540
            less = _mul0(unit, sum_over(0, down)) / down
            loss = np.where(np.isfinite(loss), loss, less / down if job.params[2] == 1 else less)
        loss = finish(loss)
        if "loss" in out:
            store(out["loss"], rows.at, loss)
        if "loss" in job.totals:
            totals["loss"] = loss
    offered = [(which, name) for which, name in ((1, "grad"), (2, "hess")) if name in out]
    at_true = {name: _mul0(job.scale * unit, sum_over(which)) for which, name in offered}
    for columns in ranges:  # all of a chunk before any of it is written, perhaps over the logits
        made, mine = violations(columns), bring(columns)[2]
        for which, name in offered:
            values = _mul0((job.scale * unit)[:, None], made[which])
            values[mine] = (0.0 - at_true[name] if which == 1 else at_true[name])[mine[0]]
            store(out[name], rows.at, finish(values), columns)
    return totals


def do_softmax(job: RowwiseJob, rows: Rows, state: _Softmax | None = None) -> dict[str, np.ndarray]:
    """All of softmax, its logarithm and normaliser, and the losses on them, for some rows."""
    s, out, T = state or _Softmax(job, rows), job.outputs, job.temperature
    n, hard = rows.n, rows.label is not None and not s.soft
    dead = rows.ignored | s.empty | (rows.weight == 0)
    # a NaN among the weights of a row's classes makes it NaN, whatever they meet
    factor = np.where(s.total == s.total, job.scale * rows.weight / T, np.nan)
    twin = get_loss(job.loss).twin
    kk = 2.0 * job.z_loss
    k = kk * s.lse if kk else 0.0
    quadratic = job.loss == "quadratic_softmax_loss"
    is_loss = job.loss in ALONG
    true_w = s.total if hard else 0.0
    share: Any = 1.0 if s.fine else s.total  # of the total in what the twin makes of a class
    totals: dict[str, np.ndarray] = {}

    def put_true(values: np.ndarray, chunk: _Chunk, what: np.ndarray) -> np.ndarray:
        s.put(values, chunk, rows.label, what)
        return values

    def finish(values: np.ndarray) -> np.ndarray:
        return np.where(dead, 0.0, values)

    def weigh(values: np.ndarray, power: int, down: Any = 1.0) -> np.ndarray:
        """Of derivatives; fine ones come without the row's total, so as to round it with the rest."""
        if not s.fine:
            return finish((factor if power == 1 else factor / T) / down * values)
        high, low = derivative_units(job, rows.weight, s.total, s.total_low, power)
        high, low = high / down, low / down
        return finish(pair_product(values, high, low) if low.any() else high * values)

    def give(name: str, values: np.ndarray) -> None:
        if name in out:
            store(out[name], rows.at, values)
        if name in job.totals:
            totals[name] = values

    # -- deviations from means under p, `lift` times as large
    lift: Any = 1.0
    if quadratic:
        sure = (rows.label == s.leader) if hard else (s.lead_soft == 1)
        if not hard:
            sure &= s.total == (1.0 if job.class_weight is None else job.class_weight[s.leader])
        sure &= s.others < 0.25 / LIFT
        if sure.any():
            lift = np.where(sure, LIFT, 1.0)

    def lifted(chunk: _Chunk) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(lift, float):
            return s.entries(chunk), s.complement(chunk)
        q = s.complement(chunk) * lift
        s.put(q, chunk, s.leader, s.others_up * (lift / s.up))
        return s.scaled(chunk) * (lift / s.up), q

    def lifted_true() -> tuple[np.ndarray, np.ndarray]:
        return s.true_p * lift, np.where(rows.label == s.leader, s.others_up * (lift / s.up), s.true_q)

    def spreads(chunk: _Chunk) -> tuple[np.ndarray, np.ndarray]:
        p, q = lifted(chunk)
        if not hard:
            return spread(p, q, chunk.soft)
        d, u = spread(p, q, 0.0)
        d1, u1 = spread(*lifted_true(), 1.0)
        return put_true(d, chunk, d1), put_true(u, chunk, u1)

    along = "hvp" in out

    def middle(values: np.ndarray, lead: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """Deviations from a mean that lies ``mean`` above ``lead``, rounded but once."""
        high, low = two_sum(lead, mean)
        return (values - high) - low

    mean_v: Any = None
    if job.v is not None and job.v.ndim == job.logits.ndim:
        mean_v = s.mean_of(lambda c: c.v, s.lead_v)
    mean_d: Any = 0.0
    mean_u: Any = 0.0
    uv: Any = 0.0
    if quadratic and ("grad" in out or "hess" in out or along):
        lead_t = np.where(rows.label == s.leader, 1.0, 0.0) if hard else s.lead_soft
        lead_d, lead_u = spread(s.lead_p * lift, s.others_up * (lift / s.up), lead_t)
        lead_d, lead_u = s.pivot(lead_d), s.pivot(lead_u)
        mean_d = s.mean_of(lambda c: spreads(c)[0], lead_d)
        mean_u = s.mean_of(lambda c: spreads(c)[1], lead_u)
        if along:
            uv = s.sum_of(
                lambda c: s.entries(c) * (middle(spreads(c)[1], lead_u, mean_u) / lift) * middle(c.v, s.lead_v, mean_v)
            )

    def parts(chunk: _Chunk, which: int) -> np.ndarray:
        """What the twin makes of every class: 0 its share in the loss, 1 the gradient, 2 the Hessian."""
        total = share if which else s.total
        p = s.entries(chunk)
        need_q = quadratic or not hard or which == 2
        q = s.complement(chunk) if need_q else 0.0
        squared = quadratic and which == 0
        if squared:
            p, q = lifted(chunk)
        d: Any = 0.0
        u: Any = 0.0
        if quadratic and which:
            d, u = spreads(chunk)
            d, u = middle(d, lead_d, mean_d), middle(u, lead_u, mean_u)
            if which == 2:
                d, u = d / lift, u / lift
        a = s.above(chunk.t, chunk.tl) if which == 0 and not quadratic else 0.0
        if not hard:
            return twin(p, q, chunk.soft, chunk.w, total, a, k, kk, d, u)[which]
        values = twin(p, q, 0.0, 0.0, total, a, k, kk, d, u)[which]
        true_d: Any = 0.0
        true_u: Any = 0.0
        if quadratic and which:
            at, place = s.mine(chunk, rows.label)
            true_d, true_u = np.zeros(n), np.zeros(n)
            true_d[at], true_u[at] = d[place, at], u[place, at]
        true_p, true_q = lifted_true() if squared else (s.true_p, s.true_q)
        true = twin(true_p, true_q, 1.0, true_w, total, s.true_a, k, kk, true_d, true_u)[which]
        return put_true(values, chunk, true)

    # -- one number a row
    if is_loss and ("loss" in out or "loss" in job.totals):
        if hard and not quadratic:
            loss = twin(s.true_p, s.true_q, 1.0, true_w, s.total, s.true_a, k, kk, 0.0, 0.0)[0]
        else:
            loss = s.sum_of(lambda c: parts(c, 0))
        if kk:
            loss = loss + job.z_loss * (s.lse * s.lse)
        # a NaN row whose weights are all 0 is NaN, a zero-weight class of infinite loss is not
        loss = rows.weight * np.where(s.nan, np.nan, loss) / lift / lift
        if not np.isfinite(loss).all() and not quadratic:
            if hard:
                far = _mul0(true_w, s.far_true() + FAR * s.log_rest)
            else:
                far = s.sum_of(lambda c: _mul0(c.w, s.far(c) + FAR * s.log_rest))
            far = rows.weight * (far + job.z_loss * (FAR * s.lse * s.lse if kk else 0.0)) / FAR
            loss = np.where(np.isfinite(loss) | s.nan, loss, far)
        give("loss", finish(loss))
    if "lse" in out:
        give("lse", s.lse)
    if "sign" in out:
        sign = np.where(s.empty | (s.top == -np.inf), 0.0, np.sign(s.whole))
        give("sign", np.where(s.lse == s.lse, sign, np.nan))
    if "pred" in out:
        give("pred", s.leader)
    if "correct" in out:
        give("correct", (s.leader == s.true) & ~rows.ignored & ~s.nan & ~s.empty)
    if "entropy" in out:
        spread_out = s.weighted(lambda c: -c.t)
        give("entropy", np.where(s.empty, 0.0, s.log_rest + spread_out))
    if "margin" in out:
        margin = s.true_x - np.where(s.true == s.leader, s.second, s.top)
        give("margin", np.where(s.nan | rows.ignored, np.nan, margin))
    if "rank" in out:
        rank = s.sum_of(lambda c: (c.x > s.true_x).astype(np.float64))
        give("rank", np.where(rows.ignored | rows.bad, 0.0, rank))
    if not {*out, *job.totals}.isdisjoint(("grad_temperature", "hess_temperature")):

        def cooling(below: Callable[[_Chunk], np.ndarray], at_true: np.ndarray, scale: float) -> np.ndarray:
            mean = s.weighted(below)
            if hard:
                change = _mul0(true_w, mean - at_true)
            else:
                change = _mul0(s.total, mean) - s.sum_of(lambda c: _mul0(c.w, below(c)))
            if kk:
                change = change - k * (s.shift_by * scale - mean)
            return factor / T * change / scale

        change = cooling(lambda c: -c.t * T, -s.true_t * T, 1.0)
        if not np.isfinite(change).all():
            far = cooling(lambda c: s.far(c) * T, s.far_true() * T, FAR)
            change = np.where(np.isfinite(change), change, far)
        give("grad_temperature", finish(np.where(s.nan, np.nan, change)))
        if not {*out, *job.totals}.isdisjoint(("hess_temperature",)):
            # of z = x / T the variance and the squared mean, and twice the first derivative over T
            below = s.weighted(lambda c: -c.t)
            variance = s.weighted(lambda c: np.square(-c.t - below))
            bend = _mul0(s.total + k, variance)
            if kk:
                bend = bend + kk * np.square(s.shift_by / T - below)
            bend = factor / T * bend - 2.0 / T * change
            give("hess_temperature", finish(np.where(s.nan, np.nan, bend)))
    if "row_jvp" in out:
        give("row_jvp", np.where(s.empty, 0.0, s.weighted(lambda c: c.v)))

    # -- one number a class
    if not any(
        name in out
        for name in ("grad", "hess", "proba", "log_proba", "grad_target", "hvp", "newton_step", "vjp", "jvp")
    ):
        return totals
    if "newton_step" in out:
        ridge = job.ridge
        curve = factor / T * (s.total + k)
        divisor = lambda c: curve * s.entries(c) + ridge  # noqa: E731
        slope = lambda c: factor * parts(c, 1)  # noqa: E731
        inverse_p = s.sum_of(lambda c: _ratio(s.entries(c), divisor(c)))
        if not kk:
            # gradients sum to 0, which takes the ridge out of the quotient: x = (g - p sum(g/D) / sum(p/D)) / D
            pull = _mul0(s.sum_of(lambda c: _ratio(slope(c), divisor(c))), 1.0 / inverse_p)
        else:
            curve_z = factor / T * kk
            # sum(p g / D), from the sum of g itself where the ridge is so small that p / D hardly varies
            inside = s.sum_of(lambda c: _ratio(s.entries(c) * slope(c), divisor(c)))
            rest = (factor * k - ridge * s.sum_of(lambda c: _ratio(slope(c), divisor(c)))) / curve
            inside = np.where(curve > ridge, rest, inside)
            square = s.sum_of(lambda c: _ratio(s.entries(c) * s.entries(c), divisor(c)))
            pull = (curve_z - curve) * inside / (ridge * inverse_p + curve_z * square)
    v_total = None
    if "vjp" in out and job.loss == "log_softmax":
        v_total = s.sum_of(lambda c: c.v)
    row_v = load(given(job.v), rows.at, np.empty(n)) if "vjp" in out and job.loss == "logsumexp" else None

    for chunk in s.chunks():
        p = s.entries(chunk)
        made: dict[str, np.ndarray] = {}
        if "grad" in out:
            made["grad"] = weigh(parts(chunk, 1), 1, lift)
        if "hess" in out:
            made["hess"] = weigh(parts(chunk, 2), 2)
        if "proba" in out:
            made["proba"] = p
        if "log_proba" in out:
            made["log_proba"] = np.where(s.empty, -np.inf, 0.0 - s.above(chunk.t, chunk.tl))
        if "grad_target" in out:
            cw = 1.0 if job.class_weight is None else job.class_weight[chunk.columns, None]
            unit = job.scale * rows.weight * cw * (1.0 - job.label_smoothing)
            slope_t = _mul0(unit, s.above(chunk.t, chunk.tl))
            if not np.isfinite(slope_t).all():
                far = _mul0(unit, s.far(chunk) + FAR * s.log_rest) / FAR
                slope_t = np.where(np.isfinite(slope_t), slope_t, far)
            made["grad_target"] = finish(np.where(s.nan, np.nan, slope_t))
        if along:
            v = middle(chunk.v, s.lead_v, mean_v)
            d: Any = 0.0
            u: Any = 0.0
            if quadratic:
                d, u = spreads(chunk)
                d, u = middle(d, lead_d, mean_d) / lift, middle(u, lead_u, mean_u) / lift
            made["hvp"] = weigh(ALONG[job.loss](p, share, v, s.lead_v + mean_v, k, kk, d, u, uv), 2)
        if "newton_step" in out:
            made["newton_step"] = finish(0.0 - _ratio(slope(chunk) - _mul0(p, pull), divisor(chunk)))
        for name in ("vjp", "jvp"):
            if name not in out:
                continue
            if row_v is not None:
                made[name] = _mul0(p, row_v)
            elif job.loss == "softmax":
                made[name] = _mul0(p, middle(chunk.v, s.lead_v, mean_v)) / T
            elif name == "vjp":
                made[name] = (chunk.v - _mul0(p, v_total)) / T
            else:
                made[name] = np.where(s.empty, 0.0, middle(chunk.v, s.lead_v, mean_v) / T)
        for name, values in made.items():
            store(out[name], rows.at, values.T, chunk.columns)
    return totals


def jacobian(logits: np.ndarray, where: np.ndarray | None, temperature: float, n_threads: int, out: np.ndarray) -> None:
    """The softmax Jacobians of all rows, for every backend: a row's takes far longer to write than its softmax."""
    job = RowwiseJob("quadratic_softmax_loss", np.dtype(np.float64), logits, where=where, temperature=temperature)
    classes = logits.shape[-1]
    down = 1.0 / temperature

    def do(start: int, stop: int) -> dict[str, Sum]:
        rows = Rows(job, start, stop)
        s = _Softmax(job, rows)
        p, low = np.empty((rows.n, classes)), np.empty((rows.n, classes))  # in two parts, UP times as large
        own = np.empty((rows.n, classes))  # p (1 - p), likewise
        for chunk in s.chunks():
            high, lost = two_product(chunk.e, s.inverse)
            lost += chunk.el * s.inverse + chunk.e * s.inverse_low
            q, q_low = two_sum(np.float64(1.0), high * (-1.0 / UP))
            q_low -= lost * (1.0 / UP)
            s.put(q, chunk, s.leader, s.others)
            s.put(q_low, chunk, s.leader, np.zeros(rows.n))
            p[:, chunk.columns], low[:, chunk.columns] = high.T, lost.T
            own[:, chunk.columns] = _scaled_product(high, lost, q, q_low).T
        lead, each = np.arange(rows.n), np.arange(classes)
        own[lead, s.leader] = _scaled_product(p[lead, s.leader], low[lead, s.leader], s.others_up, 0.0) / UP
        many = max(1, BLOCK // classes // rows.n)
        for first in range(0, classes, many):
            some = slice(first, min(first + many, classes))
            block = 0.0 - _scaled_product(p[:, some, None], low[:, some, None], p[:, None, :], low[:, None, :]) / UP
            block[:, each[some] - first, each[some]] = own[:, some]
            block *= down / UP
            for index, offset, count in rows.at:
                at: Any = (*index[:-1], ..., some, slice(None))
                part = out[at]
                np.copyto(part, block[offset : offset + count].reshape(part.shape), casting="unsafe")
        return {}

    if classes:
        run_blocks(math.prod(logits.shape[:-1]), block_of(classes, BLOCK), n_threads, do)


def _scaled_product(a: Any, a_low: Any, b: Any, b_low: Any) -> np.ndarray:
    """Of two numbers in two parts, rounded."""
    product, lost = two_product(a, b)
    return product + (lost + (a * b_low + a_low * b))


def _mul0(a: Any, b: Any) -> np.ndarray:
    return np.where(a == 0, 0.0, a * b)


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a / b``; where there is nothing to divide by, no curvature and no ridge, 0."""
    return np.where((a == 0) | (b == 0), 0.0, a / b)


def weigh_rows(job: RowwiseJob) -> Weights:
    """The denominator of a mean, the number of rows that count, and the labels out of range."""
    shape, classes = job.logits.shape[:-1], job.logits.shape[-1]
    size = math.prod(shape)
    bad: list[tuple[int, int]] = []

    def do(start: int, stop: int) -> dict[str, Sum]:
        rows = Rows(job, start, stop)
        if rows.bad.any():
            bad.append((start + int(rows.bad.argmax()), int(np.count_nonzero(rows.bad))))
        valid = ~rows.ignored & ~rows.bad
        share = np.ones(rows.n)
        if job.where is not None:
            seen = np.zeros(rows.n, dtype=bool)
            for first in range(0, classes, BLOCK):
                columns = slice(first, min(first + BLOCK, classes))
                seen |= load(job.where, rows.at, np.empty((rows.n, columns.stop - first), dtype=bool), columns).any(
                    axis=1
                )
            valid &= seen
        if job.class_weight is not None:
            if rows.label is not None:
                share = job.class_weight[rows.label]
            else:
                high, low = np.zeros(rows.n), np.zeros(rows.n)
                for first in range(0, classes, BLOCK):
                    columns = slice(first, min(first + BLOCK, classes))
                    part = load(given(job.target), rows.at, np.empty((rows.n, columns.stop - first)), columns)
                    if job.where is not None:
                        mask = load(job.where, rows.at, np.empty(part.shape, dtype=bool), columns)
                        np.copyto(part, 0.0, where=(part != part) & ~mask)
                    s, sl = tree_sum((part * job.class_weight[columns]).T)
                    high, lost = two_sum(high, s)
                    low = low + (lost + sl)
                share = high + low
        weight = np.where(valid, _mul0(rows.weight, share), 0.0)
        return {"weight": sum_of(weight), "count": Sum(float(np.count_nonzero(valid)))}

    entries = (
        BLOCK if job.where is not None or (job.class_weight is not None and job.target is not None) else BLOCK * classes
    )
    totals = run_blocks(size, block_of(classes, entries), job.n_threads, do)
    count, first = sum(n for _, n in bad), min((row for row, _ in bad), default=-1)
    if not totals:
        return Weights(Sum(0.0), 0)
    return Weights(totals["weight"], int(totals["count"].head), count, first)
