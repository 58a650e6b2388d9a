"""The Numba backend: loops over float64 blocks, compiled on first use and kept in Numba's cache.

Blocks come and go as in the NumPy backend, so that every kernel sees contiguous float64 arrays only and is compiled
once, whatever the dtypes and layouts of the operands. A kernel that needs a loss is bound to its twin (`_bind`).
Threads are lossfast's own: kernels release the GIL.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload, register_jitable

from lossfast import _words
from lossfast import rowwise as _rowwise
from lossfast._jobs import PointwiseJob, RowwiseJob
from lossfast._loss import get_loss
from lossfast._reduction import Sum
from lossfast.backends.numpy import (
    FAR,
    LIFT,
    UP,
    Rows,
    do_entries,
    do_profiled,
    enter_arithmetic,
    given,
    leave_arithmetic,
    load,
    pair_product,
    quick,
    run_pointwise,
    run_rows,
    split,
    store,
    sum_of,
    weigh_pointwise,
    weigh_rows,
)
from lossfast.backends.numpy import (
    rowwise as numpy_rowwise,
)
from lossfast.rowwise import ALONG, spread

__all__ = ["enter_arithmetic", "leave_arithmetic", "pointwise", "quick", "rowwise", "weigh_pointwise", "weigh_rows"]

#: Entries of one buffer: 40 KiB, of which some twenty are alive at the worst.
BLOCK = 5120


# ------------------------------------------------------------------------------------------------------ compiling


@overload(_words.where)
def _where(condition, a, b):
    return lambda condition, a, b: a if condition else b


_split, _pair_product = register_jitable(split), register_jitable(pair_product)
for _word in (*_words.WORDS, _rowwise._miss):
    register_jitable(_word)


def _compile(kernel: Callable[..., Any]) -> Any:
    """Compile without the GIL and keep the machine code; without keeping it where no directory can be written to."""
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(kernel)
    except RuntimeError:  # "no locator available": neither beside this file nor in the user's cache
        return numba.njit(**options)(kernel)


@functools.cache
def _bind(kernel: Callable[..., Any], twin: Callable[..., Any]) -> Any:
    """The kernel compiled with ``twin`` for the function that it calls by that name.

    Numba's cache looks at the kernel's file only, so the name carries a digest of what is compiled into it.
    """
    codes = [f.__code__ for f in (twin, *_words.WORDS, _rowwise._miss)]
    text = repr([(code.co_code, code.co_consts, code.co_names) for code in codes]).encode()
    name = f"{kernel.__name__}_{twin.__name__}_{hashlib.sha256(text).hexdigest()[:12]}"
    bound = FunctionType(kernel.__code__, {**kernel.__globals__, "twin": register_jitable(twin)}, name)
    bound.__qualname__ = name
    bound.__module__ = kernel.__module__
    return _compile(bound)


def twin(*arguments: Any) -> Any:
    """Stands for the twin that `_bind` puts here."""
    raise AssertionError("a kernel was called without its twin")


@intrinsic
def _bits(typing_context: Any, value: Any) -> Any:
    """The bits of a double, as an integer."""
    return types.int64(types.float64), lambda context, builder, signature, args: builder.bitcast(
        args[0], ir.IntType(64)
    )


@intrinsic
def _double(typing_context: Any, value: Any) -> Any:
    """The double that has these bits."""
    return types.float64(types.int64), lambda context, builder, signature, args: builder.bitcast(
        args[0], ir.DoubleType()
    )


@_compile
def _pair_sum(values):
    """The sum of a vector in two parts."""
    high = low = 0.0
    for value in values:
        total = high + value
        back = total - high
        lost = (high - (total - back)) + (value - back)
        low += lost if abs(lost) < np.inf else 0.0
        high = total
    total = high + low
    return total, low - (total - high) if abs(total) < np.inf else 0.0


def _sum_of(values: np.ndarray) -> Sum:
    pair = Sum(*_pair_sum(values))
    return pair if math.isfinite(pair.head) else sum_of(values)


# ----------------------------------------------------------------------------------------------- pointwise kernel


def _elements(x, t, q, w, scale, parameters, value, grad, hess):
    for i in range(len(x)):
        v, g, h = twin(x[i], t[i], q[i], *parameters)
        if w[i] == 0.0:
            v = g = h = 0.0
        else:
            v, g, h = w[i] * v, scale * w[i] * g, scale * w[i] * h
        value[i], grad[i], hess[i] = v, g, h


def _elements_of_two(x, t, q, w, scale, parameters, value, grad, hess, grad_second, hess_second):
    for i in range(len(x)):
        v, g, h, g2, h2 = twin(x[i], t[i], q[i], *parameters)
        if w[i] == 0.0:
            v = g = h = g2 = h2 = 0.0
        else:
            v, g, h, g2, h2 = w[i] * v, scale * w[i] * g, scale * w[i] * h, scale * w[i] * g2, scale * w[i] * h2
        value[i], grad[i], hess[i], grad_second[i], hess_second[i] = v, g, h, g2, h2


def _compute(job: PointwiseJob, x: np.ndarray, t: np.ndarray, q: np.ndarray, w: np.ndarray | None) -> Any:
    loss = get_loss(job.loss)
    results = [np.empty_like(x) for _ in range(5 if loss.differentiable else 3)]
    kernel = _bind(_elements_of_two if loss.differentiable else _elements, loss.twin)
    kernel(x, t, q, np.ones_like(x) if w is None else w, job.scale, job.params, *results)
    return results


def pointwise(job: PointwiseJob) -> dict[str, Sum]:
    """Fill the job's outputs; its total as a `Sum`."""
    return run_pointwise(job, BLOCK, _compute, _sum_of)


# --------------------------------------------------------------------------------------------------- row kernels

# What is kept of a row, in the columns of one array.
(
    LEAD,
    TOP,
    SHIFT,
    NAN,
    EMPTY,
    REST,
    REST_LOW,
    INVERSE,
    INVERSE_LOW,
    LOG_REST,
    OTHERS,
    OTHERS_UP,
    LSE,
    LEAD_P,
    SEEN,
    LIFTED,
    OTHERS_LOW,
) = range(17)
_STATE = 17

_LOG2E, _LN2_HIGH, _LN2_LOW = 1.4426950408889634, 0.6931471805598903, 5.497923018708371e-14
_DOWN = 1.0 / UP
_UP_BITS = 1023 + math.frexp(UP)[1] - 1  # what the exponent of UP is kept as
_ROUND = 6755399441055744.0  # adding and taking off 1.5 * 2^52 rounds to an integer


@register_jitable
def _lost_in_product(product, a, b):
    """What rounding ``a * b`` to ``product`` lost; 0 where splitting overflows."""
    a1, a2 = _split(a)
    b1, b2 = _split(b)
    lost = a2 * b2 - (((product - a1 * b1) - a2 * b1) - a1 * b2)
    return lost if abs(lost) < np.inf else 0.0


@register_jitable
def _exp(t):
    """``UP * exp(t)`` of t <= 0 in two parts, to 2^-55 relative: Taylor's series on |r| <= ln(2) / 2, to r^13."""
    within = t > -800.0
    t = t if within else -800.0
    shifted = t * _LOG2E + _ROUND
    k = shifted - _ROUND
    high = t - k * _LN2_HIGH  # exact: the constant has 41 bits
    r = high - k * _LN2_LOW
    low = (high - r) - k * _LN2_LOW
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    square = p * (r * r)
    w = r + square
    e = 1.0 + w
    low += (w - (e - 1.0)) + ((r - w) + square)
    scale = _double((_bits(shifted) - _bits(_ROUND) + _UP_BITS) << 52)
    scale = scale if within else 0.0
    return e * scale, low * scale


@_compile
def _states(x, masked, mask, bad, exact, temperature, t, tl, e, el, s):
    """From logits to the state of every row, ``t + tl = (x - max) / T`` and ``e + el`` its exponential times `UP`."""
    rows, classes = x.shape
    for i in range(rows):
        top, lead, seen, infinities, nan = -np.inf, 0, 0, 0, False
        for c in range(classes):
            if masked:
                if not mask[i, c]:
                    x[i, c] = -np.inf
                else:
                    seen += 1
            value = x[i, c]
            higher = value > top  # no branches: half the time they would be mispredicted
            top, lead = value if higher else top, c if higher else lead
            nan |= value != value
            infinities += 1 if value == np.inf else 0
        if not masked:
            seen = classes
        empty = seen == 0
        nan = nan or infinities > 1 or bad[i] or (top == -np.inf and not empty)
        shift = 0.0 if empty or nan else top
        s[i, LEAD], s[i, TOP], s[i, SHIFT], s[i, SEEN], s[i, LIFTED] = lead, top, shift, seen, 1.0
        s[i, NAN], s[i, EMPTY] = 1.0 if nan else 0.0, 1.0 if empty else 0.0
        if nan or shift == np.inf:
            for c in range(classes):
                t[i, c] = 0.0 if x[i, c] == shift or nan else -np.inf
                tl[i, c] = 0.0
        elif exact or temperature != 1.0:
            for c in range(classes):
                value = x[i, c]
                d = value - shift
                back = d - value
                low = (value - (d - back)) - (shift + back)
                if temperature != 1.0:
                    quotient = d / temperature
                    product = quotient * temperature
                    low = (((d - product) - _lost_in_product(product, quotient, temperature)) + low) / temperature
                    d = quotient
                t[i, c] = d
                tl[i, c] = low if abs(low) < np.inf else 0.0
        else:
            for c in range(classes):
                t[i, c] = x[i, c] - shift
                tl[i, c] = 0.0
    t1, tl1, e1, el1 = t.ravel(), tl.ravel(), e.ravel(), el.ravel()
    for j in range(rows * classes):
        high, low = _exp(t1[j])
        e1[j], el1[j] = high, low + high * tl1[j]
    for i in range(rows):
        if s[i, NAN] != 0.0:
            s[i, REST : LEAD_P + 1] = np.nan
            s[i, REST_LOW] = np.nan
            if s[i, TOP] == -np.inf and not bad[i]:
                all_low = True
                for c in range(classes):
                    if x[i, c] != -np.inf:
                        all_low = False
                if all_low:
                    s[i, LSE] = -np.inf
            for c in range(classes):
                t[i, c] = np.nan
            continue
        if s[i, EMPTY] != 0.0:
            s[i, REST : LEAD_P + 1] = 0.0
            s[i, LSE] = -np.inf
            continue
        lead = int(s[i, LEAD])
        rest = low = 0.0
        for c in range(classes):
            if c != lead:
                value = e[i, c]
                total = rest + value
                back = total - rest
                low += ((rest - (total - back)) + (value - back)) + el[i, c]
                rest = total
        total = rest + low
        low = low - (total - rest)
        rest_up, low_up = total, low
        rest, low = total * _DOWN, low * _DOWN
        whole = 1.0 + rest
        back = whole - 1.0
        whole_low = (1.0 - (whole - back)) + (rest - back) + low
        inverse = 1.0 / whole
        product = inverse * whole
        lost = _lost_in_product(product, inverse, whole)
        inverse_low = inverse * (((1.0 - product) - lost) - inverse * whole_low)
        log_rest = np.log1p(rest) + low / whole
        z = s[i, SHIFT] / temperature
        z_low = 0.0
        if temperature != 1.0:
            product = z * temperature
            z_low = ((s[i, SHIFT] - product) - _lost_in_product(product, z, temperature)) / temperature
        lse = z + log_rest
        back = lse - z
        lost = (z - (lse - back)) + (log_rest - back) + z_low
        s[i, REST], s[i, REST_LOW], s[i, INVERSE], s[i, INVERSE_LOW] = rest, low, inverse, inverse_low
        s[i, LOG_REST], s[i, LSE] = log_rest, lse + lost if abs(lost) < np.inf else lse
        others = rest_up * inverse
        lost = _lost_in_product(others, rest_up, inverse)
        low = lost + (rest_up * inverse_low + low_up * inverse)
        s[i, OTHERS_UP] = others + low
        s[i, OTHERS_LOW] = ((others - s[i, OTHERS_UP]) + low) * _DOWN
        s[i, OTHERS] = s[i, OTHERS_UP] * _DOWN
        s[i, LEAD_P] = inverse + inverse_low


@register_jitable
def _probability(e, el, inverse, inverse_low):
    """p, `UP` times as large."""
    return e * inverse + (e * inverse_low + el * inverse)


@_compile
def _probabilities(e, el, s, fine, up, p, q):
    """p, and ``1 - p`` with its digits; the former `UP` times as large too."""
    rows, classes = e.shape
    for i in range(rows):
        inverse, inverse_low = s[i, INVERSE], s[i, INVERSE_LOW]
        if fine:  # where p occurs squared: rounded but once
            inverse_high, more = _split(inverse)
            more += inverse_low
            for c in range(classes):
                high, low = _split(e[i, c])
                up[i, c] = high * inverse_high + (high * more + (low + el[i, c]) * inverse)
        else:
            for c in range(classes):
                up[i, c] = _probability(e[i, c], el[i, c], inverse, inverse_low)
        for c in range(classes):
            p[i, c] = up[i, c] * _DOWN
            q[i, c] = 1.0 - p[i, c]
        if classes:
            q[i, int(s[i, LEAD])] = s[i, OTHERS]


def _labelled(e, el, t, tl, s, label, dead, weight, total, factor, temperature, z_loss, want, loss, grad, hess):
    """Loss, gradient and Hessian with one label a row."""
    rows, classes = e.shape
    kk = 2.0 * z_loss
    for i in range(rows):
        y, all_w = label[i], total[i]
        if dead[i]:
            loss[i] = 0.0
            if want & 2:
                grad[i, :] = 0.0
            if want & 4:
                hess[i, :] = 0.0
            continue
        k = kk * s[i, LSE] if kk != 0.0 else 0.0
        inverse, inverse_low, lead, f = s[i, INVERSE], s[i, INVERSE_LOW], int(s[i, LEAD]), factor[i]
        p = _probability(e[i, y], el[i, y], inverse, inverse_low) * _DOWN
        q = s[i, OTHERS] if y == lead else 1.0 - p
        a = (s[i, LOG_REST] - t[i, y]) - tl[i, y]
        v, g, h = twin(p, q, 1.0, all_w, all_w, a, k, kk, 0.0, 0.0)
        if kk != 0.0:
            v += z_loss * (s[i, LSE] * s[i, LSE])
        loss[i] = weight[i] * v if s[i, NAN] == 0.0 else np.nan
        if want & 2:
            for c in range(classes):
                r = _probability(e[i, c], el[i, c], inverse, inverse_low) * _DOWN
                v1, g1, h1 = twin(r, 0.0, 0.0, 0.0, all_w, 0.0, k, kk, 0.0, 0.0)
                grad[i, c] = f * g1
            grad[i, y] = f * g
        if want & 4:
            f = f / temperature
            for c in range(classes):
                r = _probability(e[i, c], el[i, c], inverse, inverse_low) * _DOWN
                v1, g1, h1 = twin(r, 1.0 - r, 0.0, 0.0, all_w, 0.0, k, kk, 0.0, 0.0)
                hess[i, c] = f * h1
            r = _probability(e[i, lead], el[i, lead], inverse, inverse_low) * _DOWN
            v1, g1, h1 = twin(r, s[i, OTHERS], 0.0, 0.0, all_w, 0.0, k, kk, 0.0, 0.0)
            hess[i, lead] = f * h1


@register_jitable
def _times(a, b):
    return 0.0 if a == 0.0 else a * b


@register_jitable
def _minus_log(log_rest, t, tl):
    """``lse - z`` in two parts."""
    a = log_rest - t
    back = a - log_rest
    low = ((log_rest - (a - back)) + (-t - back)) - tl
    return a, low if abs(low) < np.inf else 0.0


@register_jitable
def _unit_times(high, low, y):
    """A factor in two parts, times a number."""
    product = high * y
    return product, _lost_in_product(product, high, y) + low * y


def _profile_of_labels(p, q, up, t, tl, s, label, dead, weight, total, units, parameters, want, loss, grad, hess):
    """Loss, gradient and Hessian, where the twin is of the true class, with one label a row."""
    rows, classes = p.shape
    for i in range(rows):
        y, lead = label[i], int(s[i, LEAD])
        if dead[i]:
            loss[i] = 0.0
            if want & 2:
                grad[i, :] = 0.0
            if want & 4:
                hess[i, :] = 0.0
            continue
        a, low = _minus_log(s[i, LOG_REST], t[i, y], tl[i, y])
        q_low = s[i, OTHERS_LOW] if y == lead else (1.0 - q[i, y]) - p[i, y]
        value, slope, bend = twin(a, low, up[i, y], q[i, y], q_low, UP, *parameters)
        loss[i] = weight[i] * _times(total[i], value) if s[i, NAN] == 0.0 else np.nan
        if want & 2:
            high, low = _unit_times(units[0, i], units[1, i], slope)
            for c in range(classes):
                grad[i, c] = _pair_product(p[i, c], high, low) if high != 0.0 else 0.0
            grad[i, y] = _pair_product(-q[i, y], high, low) if high != 0.0 else 0.0
        if want & 4:
            high, low = _unit_times(units[2, i], units[3, i], slope)
            q_up = s[i, OTHERS_UP] if y == lead else q[i, y] * UP
            for c in range(classes):
                ratio = up[i, c] / q_up if q_up != 0.0 else 0.0
                h = p[i, c] * (q[i, c] + bend * _DOWN * ratio)
                hess[i, c] = _pair_product(h, high, low) if high != 0.0 else 0.0
            h = q[i, y] * (up[i, y] + bend) * _DOWN
            hess[i, y] = _pair_product(h, high, low) if high != 0.0 else 0.0


def _profile_of_classes(
    p, q, up, t, tl, s, w, dead, weight, total, units, parameters, want, loss, grad, hess, values, slopes, bends
):
    """The same with a weight for every class."""
    rows, classes = p.shape
    for i in range(rows):
        if dead[i]:
            loss[i] = 0.0
            if want & 2:
                grad[i, :] = 0.0
            if want & 4:
                hess[i, :] = 0.0
            continue
        lead = int(s[i, LEAD])
        own = 0.0
        for c in range(classes):
            a, low = _minus_log(s[i, LOG_REST], t[i, c], tl[i, c])
            q_low = s[i, OTHERS_LOW] if c == lead else (1.0 - q[i, c]) - p[i, c]
            value, slope, bend = twin(a, low, up[i, c], q[i, c], q_low, UP, *parameters)
            values[c], slopes[c] = _times(w[i, c], value), _times(w[i, c], slope)
            if c == lead:
                own, bends[c] = slopes[c] * bend, 0.0
            else:
                bends[c] = slopes[c] * bend / q[i, c]
        loss[i] = weight[i] * _sum_of_vector(values) if s[i, NAN] == 0.0 else np.nan
        whole = _sum_of_vector(slopes)
        if want & 2:
            for c in range(classes):
                g = p[i, c] * whole - slopes[c]
                grad[i, c] = _pair_product(g, units[0, i], units[1, i]) if units[0, i] != 0.0 else 0.0
        if want & 4:
            all_bends = _sum_of_vector(bends) * _DOWN
            for c in range(classes):
                ratio = up[i, c] / s[i, OTHERS_UP] if s[i, OTHERS_UP] != 0.0 else 0.0
                h = up[i, c] * p[i, c] * (all_bends - bends[c] * _DOWN)
                if c == lead:
                    h += own * q[i, c]
                else:
                    h += bends[c] * q[i, c] * q[i, c] + p[i, c] * ratio * own
                h = p[i, c] * q[i, c] * whole + h * _DOWN
                hess[i, c] = _pair_product(h, units[2, i], units[3, i]) if units[2, i] != 0.0 else 0.0


@register_jitable
def _lift_row(p, q, up, s, lift, i):
    """p and 1 - p of a row, ``lift`` times as large."""
    lead = int(s[i, LEAD])
    for c in range(p.shape[1]):
        p[i, c] = up[i, c] * (lift * _DOWN)
        q[i, c] = lift - p[i, c]
    q[i, lead] = s[i, OTHERS_UP] * (lift * _DOWN)


@register_jitable
def _scale(a, i, high, low):
    for c in range(a.shape[1]):
        a[i, c] = _pair_product(a[i, c], high, low) if low != 0.0 else a[i, c] * high


@_compile
def _units(scale, weight, total, total_low, temperature, quadratic, share, units):
    """Factors of gradient and second derivatives, each in two parts; ``share`` is of the total what they lack."""
    for i in range(len(total)):
        high, low = scale * weight[i], 0.0
        share[i] = 1.0 if quadratic else total[i]
        if quadratic:
            low = _lost_in_product(high, scale, weight[i])
            product = high * total[i]
            low = _lost_in_product(product, high, total[i]) + (high * total_low[i] + low * total[i])
            high = product
        elif total[i] != total[i]:  # a NaN among the weights of a row's classes makes it NaN, whatever they meet
            high = np.nan
        for power in range(2):
            if temperature != 1.0:
                quotient = high / temperature
                product = quotient * temperature
                if quadratic:
                    low = (((high - product) - _lost_in_product(product, quotient, temperature)) + low) / temperature
                high = quotient
            units[2 * power, i], units[2 * power + 1, i] = high, low if abs(low) < np.inf else 0.0


def _softly(p, q, up, t, tl, s, soft, w, d, u, dead, weight, total, share, units, z_loss, want, loss, grad, hess):
    """Loss, gradient and Hessian with a weight for every class; ``share`` is of the total what the units have not."""
    rows, classes = p.shape
    kk = 2.0 * z_loss
    for i in range(rows):
        if dead[i]:
            loss[i] = 0.0
            if want & 2:
                grad[i, :] = 0.0
            if want & 4:
                hess[i, :] = 0.0
            continue
        k = kk * s[i, LSE] if kk != 0.0 else 0.0
        log_rest, all_w, lift = s[i, LOG_REST], share[i], s[i, LIFTED]
        high = low = 0.0
        if want & 1:
            if lift != 1.0:
                _lift_row(p, q, up, s, lift, i)
            for c in range(classes):
                a = (log_rest - t[i, c]) - tl[i, c]
                v, g, h = twin(p[i, c], q[i, c], soft[i, c], w[i, c], total[i], a, k, kk, 0.0, 0.0)
                sum_ = high + v
                back = sum_ - high
                lost = (high - (sum_ - back)) + (v - back)
                low += lost if abs(lost) < np.inf else 0.0
                high = sum_
            high += low
            if kk != 0.0:
                high += z_loss * (s[i, LSE] * s[i, LSE])
            loss[i] = weight[i] * high / lift / lift if s[i, NAN] == 0.0 else np.nan
            if lift != 1.0:
                _lift_row(p, q, up, s, 1.0, i)
        if want & 2:
            f_low = units[1, i] / lift
            f = units[0, i] / lift if f_low == 0.0 else 1.0
            for c in range(classes):
                v, g, h = twin(p[i, c], q[i, c], soft[i, c], w[i, c], all_w, 0.0, k, kk, d[i, c], u[i, c])
                grad[i, c] = f * g
            if f_low != 0.0:
                _scale(grad, i, units[0, i] / lift, f_low)
        if want & 4:
            f_low = units[3, i]
            f = units[2, i] if f_low == 0.0 else 1.0
            for c in range(classes):
                v, g, h = twin(p[i, c], q[i, c], soft[i, c], w[i, c], all_w, 0.0, k, kk, d[i, c] / lift, u[i, c] / lift)
                hess[i, c] = f * h
            if f_low != 0.0:
                _scale(hess, i, units[2, i], f_low)


@register_jitable
def _total_pair(a, i):
    """Sum of a row in two parts."""
    high = low = 0.0
    for c in range(a.shape[1]):
        sum_ = high + a[i, c]
        back = sum_ - high
        lost = (high - (sum_ - back)) + (a[i, c] - back)
        low += lost if abs(lost) < np.inf else 0.0
        high = sum_
    total = high + low
    return total, low - (total - high) if abs(total) < np.inf else 0.0


@register_jitable
def _total(a, i):
    return _total_pair(a, i)[0]


@register_jitable
def _sum_of_vector(a):
    high = low = 0.0
    for c in range(len(a)):
        sum_ = high + a[c]
        back = sum_ - high
        lost = (high - (sum_ - back)) + (a[c] - back)
        low += lost if abs(lost) < np.inf else 0.0
        high = sum_
    return high + low


@_compile
def _totals(a, out, lost):
    for i in range(len(a)):
        out[i], lost[i] = _total_pair(a, i)


def _spreads(p, q, up, s, soft, total, alone, d, u):
    """Deviations, `LIFTED` times as large: where they are tiny as the likeliest class has all the weight."""
    for i in range(p.shape[0]):
        lead = int(s[i, LEAD])
        if s[i, OTHERS] < 0.25 / LIFT and soft[i, lead] == 1.0 and total[i] == alone[lead]:
            s[i, LIFTED] = LIFT
            _lift_row(p, q, up, s, LIFT, i)
        for c in range(p.shape[1]):
            d[i, c], u[i, c] = twin(p[i, c], q[i, c], soft[i, c])
        if s[i, LIFTED] != 1.0:
            _lift_row(p, q, up, s, 1.0, i)


@register_jitable
def _mean(p, up, u, pivot, i, work):
    """``sum p (u - pivot)`` of row i, of the classes that are not out of reach."""
    for c in range(p.shape[1]):
        work[i, c] = up[i, c] * (u[i, c] - pivot) if p[i, c] != 0.0 else 0.0
    mean = _total(work, i) * _DOWN
    if not abs(mean) < np.inf:  # it may have been too much for what is scaled
        for c in range(p.shape[1]):
            work[i, c] = _times(p[i, c], u[i, c] - pivot)
        mean = _total(work, i)
    return mean


@_compile
def _centre(p, up, s, u, mean, work):
    """Take the mean under p off every row, relative to the value of a class that has most of the weight."""
    for i in range(p.shape[0]):
        pivot = u[i, int(s[i, LEAD])] if s[i, LEAD_P] > 0.5 else 0.0
        above = _mean(p, up, u, pivot, i, work)
        mean[i] = pivot + above
        back = mean[i] - pivot
        low = (pivot - (mean[i] - back)) + (above - back)
        for c in range(p.shape[1]):
            u[i, c] = (u[i, c] - mean[i]) - low


def _along(p, s, share, units, z_loss, v, pv, d, u, dead, work, out):
    """The Hessian times v, which has been centred."""
    kk = 2.0 * z_loss
    for i in range(p.shape[0]):
        k, lift = kk * s[i, LSE] if kk != 0.0 else 0.0, s[i, LIFTED]
        for c in range(p.shape[1]):
            work[i, c] = p[i, c] * v[i, c] * (u[i, c] / lift) if p[i, c] != 0.0 else 0.0
        uv = _total(work, i)
        for c in range(p.shape[1]):
            out[i, c] = twin(p[i, c], share[i], v[i, c], pv[i], k, kk, d[i, c] / lift, u[i, c] / lift, uv)
        _scale(out, i, units[2, i], units[3, i])
        if dead[i]:
            out[i, :] = 0.0


@register_jitable
def _ratio(a, b):
    return 0.0 if a == 0.0 or b == 0.0 else a / b


@_compile
def _newton(p, s, total, factor, temperature, z_loss, ridge, grad, dead, work, out):
    """``-(H + ridge I)^-1 grad``; without z_loss gradients sum to 0, which takes the ridge out of the quotient."""
    rows, classes = p.shape
    kk = 2.0 * z_loss
    for i in range(rows):
        k = kk * s[i, LSE] if kk != 0.0 else 0.0
        a = factor[i] / temperature * (total[i] + k)
        for c in range(classes):
            work[i, c] = _ratio(p[i, c], a * p[i, c] + ridge)
        inverse_p = _total(work, i)
        for c in range(classes):
            work[i, c] = _ratio(grad[i, c], a * p[i, c] + ridge)
        inverse_g = _total(work, i)
        if kk == 0.0:
            pull = _ratio(inverse_g, inverse_p)
        else:
            curve = factor[i] / temperature * kk
            for c in range(classes):
                work[i, c] = _ratio(p[i, c] * p[i, c], a * p[i, c] + ridge)
            square = _total(work, i)
            for c in range(classes):
                work[i, c] = _ratio(p[i, c] * grad[i, c], a * p[i, c] + ridge)
            inside = _total(work, i)
            if a > ridge:
                inside = (factor[i] * k - ridge * inverse_g) / a
            pull = (curve - a) * inside / (ridge * inverse_p + curve * square)
        for c in range(classes):
            step = grad[i, c] - (p[i, c] * pull if p[i, c] != 0.0 else 0.0)
            out[i, c] = 0.0 if dead[i] else 0.0 - _ratio(step, a * p[i, c] + ridge)


@_compile
def _temperature_slope(p, up, x, t, s, w, factor, temperature, z_loss, dead, gap, work, out):
    """The derivative in the temperature of cross-entropy."""
    for i in range(p.shape[0]):
        value = np.inf
        for far in (1.0, FAR):
            if abs(value) < np.inf or (far != 1.0 and s[i, SHIFT] == np.inf):
                break
            for c in range(p.shape[1]):
                gap[i, c] = -t[i, c] * temperature if far == 1.0 else s[i, SHIFT] * far - x[i, c] * far
            mean = _mean(p, up, gap, 0.0, i, work)
            for c in range(p.shape[1]):
                # of w (mean - gap) the sum: a class with all the weight loses nothing
                work[i, c] = _times(w[i, c], mean - gap[i, c])
            change = _total(work, i)
            if z_loss != 0.0:
                change -= 2.0 * z_loss * s[i, LSE] * (s[i, SHIFT] * far - mean)
            value = factor[i] / temperature * change / far
        out[i] = 0.0 if dead[i] else value if s[i, NAN] == 0.0 else np.nan


@_compile
def _temperature_bend(p, up, t, s, total, slope, factor, temperature, z_loss, dead, gap, work, out):
    """The second derivative, from the first: of z = x / T the variance and the squared mean."""
    kk = 2.0 * z_loss
    for i in range(p.shape[0]):
        for c in range(p.shape[1]):
            gap[i, c] = -t[i, c]
        mean = _mean(p, up, gap, 0.0, i, work)
        for c in range(p.shape[1]):
            gap[i, c] = (gap[i, c] - mean) * (gap[i, c] - mean)
        variance = _mean(p, up, gap, 0.0, i, work)
        k = kk * s[i, LSE] if kk != 0.0 else 0.0
        bend = _times(total[i] + k, variance)
        if kk != 0.0:
            bend += kk * (s[i, SHIFT] / temperature - mean) * (s[i, SHIFT] / temperature - mean)
        bend = factor[i] / temperature * bend - 2.0 / temperature * slope[i]
        out[i] = 0.0 if dead[i] else bend if s[i, NAN] == 0.0 else np.nan


@_compile
def _ranking(x, s, true, ignored, margin, rank):
    for i in range(x.shape[0]):
        y = true[i]
        most, above = -np.inf, 0
        for c in range(x.shape[1]):
            if c != y and x[i, c] > most:
                most = x[i, c]
            if x[i, c] > x[i, y]:
                above += 1
        margin[i] = np.nan if s[i, NAN] != 0.0 or ignored[i] else x[i, y] - most
        rank[i] = 0 if ignored[i] else above


@_compile
def _entropies(p, up, t, s, work, out):
    for i in range(p.shape[0]):
        out[i] = s[i, LOG_REST] - _mean(p, up, t, 0.0, i, work)


@_compile
def _far_losses(x, s, label, w, total, weight, temperature, z_loss, dead, work, loss):
    """Again the cross-entropies that are infinite: on the way only, perhaps."""
    for i in range(len(loss)):
        if abs(loss[i]) < np.inf or s[i, NAN] != 0.0 or s[i, SHIFT] == np.inf or dead[i]:
            continue
        shift, rest = s[i, SHIFT] * FAR, s[i, LOG_REST] * FAR
        if w.size:
            for c in range(x.shape[1]):
                work[i, c] = _times(w[i, c], (shift - x[i, c] * FAR) / temperature + rest)
            far = _total(work, i)
        else:
            far = _times(total[i], (shift - x[i, label[i]] * FAR) / temperature + rest)
        if z_loss != 0.0:
            far += z_loss * (FAR * s[i, LSE] * s[i, LSE])
        loss[i] = weight[i] * far / FAR


@_compile
def _logarithms(t, tl, s, out):
    """``lse - z``."""
    for i in range(t.shape[0]):
        for c in range(t.shape[1]):
            out[i, c] = (s[i, LOG_REST] - t[i, c]) - tl[i, c]
        if s[i, EMPTY] != 0.0:
            out[i, :] = np.inf


# ---------------------------------------------------------------------------------------------------------- rows


def _rows(job: RowwiseJob, rows: Rows) -> dict[str, np.ndarray]:
    """All of softmax, its logarithm and normaliser, and the losses on them, for some rows."""
    n, classes, at, out = rows.n, rows.classes, rows.at, job.outputs
    shape = (n, classes)
    wanted = {*out, *job.totals}
    T, totals = job.temperature, {}
    x = load(job.logits, at, np.empty(shape))
    mask = _NO_MASK if job.where is None else load(job.where, at, np.empty(shape, dtype=bool))
    t, tl, e, el, s = (*(np.empty(shape) for _ in range(4)), np.empty((n, _STATE)))
    _states(x, job.where is not None, mask, rows.bad, job.compute == np.float64, T, t, tl, e, el, s)
    empty, nan = s[:, EMPTY] != 0, s[:, NAN] != 0

    def give(name: str, values: np.ndarray) -> None:
        if name in out:
            store(out[name], at, values)
        if name in job.totals:
            totals[name] = values

    work: Any = None  # these four, and v and mean_v below, are arrays where something wanted needs them
    up: Any = None
    p: Any = None
    q: Any = None
    fine = job.loss == "quadratic_softmax_loss" or get_loss(job.loss).of == "truth"
    if wanted - _WITHOUT_P or job.target is not None or fine or job.label_smoothing > 0:
        work, up, p, q = np.empty(shape), np.empty(shape), np.empty(shape), np.empty(shape)
        _probabilities(e, el, s, fine, up, p, q)

    if "lse" in out:
        give("lse", s[:, LSE])
    if "sign" in out:
        give("sign", np.where(nan, np.where(s[:, LSE] == -np.inf, 0.0, np.nan), np.where(empty, 0.0, 1.0)))
    if "pred" in out:
        give("pred", s[:, LEAD])
    if "proba" in out:
        give("proba", p)
    if "entropy" in out:
        entropy = np.empty(n)
        _entropies(p, up, t, s, work, entropy)
        give("entropy", entropy)
    if "log_proba" in out:
        logs = np.empty(shape)
        _logarithms(t, tl, s, logs)
        give("log_proba", 0.0 - logs)

    v: Any = None
    mean_v: Any = None
    if not {"hvp", "vjp", "jvp", "row_jvp"}.isdisjoint(out):
        direction = given(job.v)
        v = load(direction, at, np.empty(shape[: direction.ndim - job.logits.ndim + 2]))
        if v.ndim == 2:
            if job.where is not None:
                np.copyto(v, 0.0, where=~mask)
            if "vjp" in out and job.loss == "log_softmax":
                _totals_of_v = np.empty(n)
                _totals(v, _totals_of_v, np.empty(n))
                give("vjp", (v - _mul0(p, _totals_of_v[:, None])) / T)
            mean_v = np.empty(n)
            if wanted - {"vjp"} or job.loss != "log_softmax":
                _centre(p, up, s, v, mean_v, work)
        if job.loss == "softmax":
            for name in ("vjp", "jvp"):
                if name in out:
                    give(name, _mul0(p, v) / T)
        elif "jvp" in out:
            give("jvp", np.where(empty[:, None], 0.0, v / T))
        elif "row_jvp" in out:
            give("row_jvp", np.where(empty, 0.0, mean_v))
        elif "vjp" in out and job.loss == "logsumexp":
            give("vjp", _mul0(p, v[:, None]))

    if rows.label is not None or job.target is not None:
        _losses(job, rows, wanted, give, (x, t, tl, e, el, s, up, p, q, v, mean_v, work, mask))
    return totals


def _losses(job: RowwiseJob, rows: Rows, wanted: set[str], give: Callable[[str, np.ndarray], None], state: Any) -> None:
    """What of the outputs has to do with targets."""
    x, t, tl, e, el, s, up, p, q, v, mean_v, work, mask = state
    if get_loss(job.loss).of == "truth":
        _profiled(job, rows, wanted, give, state)
        wanted = wanted - {"loss", "grad", "hess"}
    n, T, label = rows.n, job.temperature, rows.label
    shape, nan = x.shape, s[:, NAN] != 0
    dead = rows.ignored | (s[:, EMPTY] != 0) | (rows.weight == 0)
    quadratic = job.loss == "quadratic_softmax_loss"
    hard = label is not None and not quadratic and job.label_smoothing == 0
    every = np.arange(n)
    soft = w = None
    tempered = not {"grad_temperature", "hess_temperature"}.isdisjoint(wanted)
    if not hard or tempered:
        if label is None:
            soft = load(given(job.target), rows.at, np.empty(shape))
            if job.where is not None:
                np.copyto(soft, 0.0, where=(soft != soft) & ~mask)
        else:
            soft = np.zeros(shape)
            soft[every, label] = 1.0
        if not {"correct", "margin", "rank"}.isdisjoint(wanted) and label is None:
            number = soft == soft  # NaN is no row's largest target
            label = np.where(number if job.where is None else number & mask, soft, -np.inf).argmax(axis=1)
        if job.label_smoothing > 0:
            share = (job.label_smoothing / s[:, SEEN])[:, None]
            soft *= 1.0 - job.label_smoothing
            soft += share if job.where is None else np.where(mask, share, 0.0)
        w = soft if job.class_weight is None else soft * job.class_weight
    if rows.label is not None and job.label_smoothing == 0:
        total, total_low = np.ones(n) if job.class_weight is None else job.class_weight[label], np.zeros(n)
    else:
        total = np.empty(n)
        total_low = np.empty(n)
        _totals(w, total, total_low)
    share, units = np.empty(n), np.empty((4, n))
    _units(job.scale, rows.weight, total, total_low, T, quadratic, share, units)
    factor = units[0]

    loss = np.empty(n)
    grad = np.empty(shape) if not {"grad", "newton_step"}.isdisjoint(wanted) else _NONE
    hess = np.empty(shape) if "hess" in wanted else _NONE
    want = (1 if "loss" in wanted else 0) | (2 if grad is not _NONE else 0) | (4 if hess is not _NONE else 0)
    d = u = _NONE
    if hard:
        if want:
            kernel = _bind(_labelled, get_loss(job.loss).twin)
            kernel(e, el, t, tl, s, label, dead, rows.weight, total, factor, T, job.z_loss, want, loss, grad, hess)
    else:
        if quadratic:
            d, u, mean = np.empty(shape), np.empty(shape), np.empty(n)
            alone = np.ones(shape[1]) if job.class_weight is None else job.class_weight
            _bind(_spreads, spread)(p, q, up, s, soft, total, alone, d, u)
            _centre(p, up, s, d, mean, work)
            _centre(p, up, s, u, mean, work)
        else:
            d = u = p  # cross-entropy has no use for them
        if want:
            kernel = _bind(_softly, get_loss(job.loss).twin)
            targets = (soft, w, d, u, dead, rows.weight, total, share, units, job.z_loss)
            kernel(p, q, up, t, tl, s, *targets, want, loss, grad, hess)
    if "loss" in wanted:
        if not (quadratic or np.isfinite(loss).all()):
            some = _NONE if hard else w
            y, spare = every if label is None else label, np.empty(shape)
            _far_losses(x, s, y, some, total, rows.weight, T, job.z_loss, dead, spare, loss)
        give("loss", loss)
    if "grad" in wanted:
        give("grad", grad)
    if "hess" in wanted:
        give("hess", hess)

    if "correct" in wanted:
        give("correct", (s[:, LEAD] == label) & ~rows.ignored & ~nan & (s[:, EMPTY] == 0))
    if not {"margin", "rank"}.isdisjoint(wanted):
        margin, rank = np.empty(n), np.empty(n)
        _ranking(x, s, label, rows.ignored | rows.bad, margin, rank)
        for name, values in (("margin", margin), ("rank", rank)):
            if name in wanted:
                give(name, values)
    if "grad_target" in wanted:
        above = np.empty(shape)
        _logarithms(t, tl, s, above)
        scale = (job.scale * rows.weight)[:, None] * (1.0 - job.label_smoothing)
        if job.class_weight is not None:
            scale = scale * job.class_weight
        above = _mul0(scale, above)
        if not np.isfinite(above).all():
            shift = s[:, SHIFT, None]
            far = _mul0(scale, (shift * FAR - x * FAR) / T + s[:, LOG_REST, None] * FAR) / FAR
            above = np.where(np.isfinite(above) | (shift == np.inf), above, far)
        give("grad_target", np.where(dead[:, None], 0.0, np.where(nan[:, None], np.nan, above)))
    if "hvp" in wanted:
        result = np.empty(shape)
        if d is _NONE:
            d = u = p
        kernel = _bind(_along, ALONG[job.loss])
        kernel(p, s, share, units, job.z_loss, v, mean_v, d, u, dead, work, result)
        give("hvp", result)
    if "newton_step" in wanted:
        result = np.empty(shape)
        _newton(p, s, total, factor, T, job.z_loss, job.ridge, grad, dead, work, result)
        give("newton_step", result)
    if tempered:
        slope, gap = np.empty(n), np.empty(shape)
        _temperature_slope(p, up, x, t, s, w, factor, T, job.z_loss, dead, gap, work, slope)
        give("grad_temperature", slope)
        if "hess_temperature" in wanted:
            bend = np.empty(n)
            _temperature_bend(p, up, t, s, total, slope, factor, T, job.z_loss, dead, gap, work, bend)
            give("hess_temperature", bend)


def _profiled(
    job: RowwiseJob, rows: Rows, wanted: set[str], give: Callable[[str, np.ndarray], None], state: Any
) -> None:
    """Loss, gradient and Hessian of a loss of the true class."""
    _, t, tl, _, _, s, up, p, q, *_, mask = state
    n, shape, hard = rows.n, p.shape, rows.label is not None
    dead = rows.ignored | (s[:, EMPTY] != 0) | (rows.weight == 0)
    total, w = np.ones(n), _NONE
    if not hard:
        w = load(given(job.target), rows.at, np.empty(shape))
        if job.where is not None:
            np.copyto(w, 0.0, where=(w != w) & ~mask)
        if job.class_weight is not None:
            w = w * job.class_weight
    elif job.class_weight is not None:
        total = job.class_weight[rows.label]
    units = np.empty((4, n))
    _units(job.scale, rows.weight, total, np.zeros(n), job.temperature, True, np.empty(n), units)
    loss = np.empty(n)
    grad = np.empty(shape) if "grad" in wanted else _NONE
    hess = np.empty(shape) if "hess" in wanted else _NONE
    want = (1 if "loss" in wanted else 0) | (2 if "grad" in wanted else 0) | (4 if "hess" in wanted else 0)
    numbers = dead, rows.weight, total, units, job.params, want, loss, grad, hess
    if hard:
        _bind(_profile_of_labels, get_loss(job.loss).twin)(p, q, up, t, tl, s, rows.label, *numbers)
    elif want:
        work = [np.empty(shape[1]) for _ in range(3)]
        _bind(_profile_of_classes, get_loss(job.loss).twin)(p, q, up, t, tl, s, w, *numbers, *work)
    if "loss" in wanted:
        if not np.isfinite(loss).all():  # on the way only, perhaps
            far = do_profiled(dataclasses.replace(job, outputs={}, totals=("loss",)), rows)["loss"]
            loss = np.where(np.isfinite(loss), loss, far)
        give("loss", loss)
    if "grad" in wanted:
        give("grad", grad)
    if "hess" in wanted:
        give("hess", hess)


def _mul0(a: Any, b: Any) -> np.ndarray:
    return np.where(a == 0, 0.0, a * b)


#: What needs no array of probabilities, if the targets are labels.
_WITHOUT_P = {"loss", "lse", "pred", "log_proba", "grad", "hess", "grad_target", "sign"}
_NONE = np.empty((0, 0))
_NO_MASK = np.empty((0, 0), dtype=bool)


def _each_entry(x, t, parameters, value, grad, hess, slope):
    for i in range(x.shape[0]):
        for c in range(x.shape[1]):
            value[i, c], grad[i, c], hess[i, c], slope[i, c] = twin(x[i, c], t[i, c], *parameters)


def _every_entry(function: Callable[..., Any], x: np.ndarray, t: np.ndarray, parameters: tuple[float, ...]) -> Any:
    results = tuple(np.empty_like(x) for _ in range(4))
    _bind(_each_entry, function)(x, t, parameters, *results)
    return results


def _entries(job: RowwiseJob, rows: Rows) -> dict[str, np.ndarray]:
    """A sum over entries."""
    return do_entries(job, rows, _every_entry)


def rowwise(job: RowwiseJob) -> dict[str, Sum]:
    """Fill the job's outputs; its totals as `Sum`s."""
    if get_loss(job.loss).of == "pairs":
        return numpy_rowwise(job)
    if get_loss(job.loss).entrywise:
        return run_rows(job, BLOCK, _entries, _sum_of)
    # one class of a row, margins, factors of exponentials, two softmaxes and very wide rows are NumPy's
    of_margins = get_loss(job.loss).of == "violations"
    if job.loss == "nll_loss" or of_margins or job.b is not None or job.logits_q is not None:
        return numpy_rowwise(job)
    if not 0 < job.logits.shape[-1] <= BLOCK:
        return numpy_rowwise(job)
    return run_rows(job, BLOCK, _rows, _sum_of)
