"""What is exactly right for whole arrays at once, in extended precision, and errors in units in the last place.

Differences are kept in two parts (`two_sum`), exponentials and logarithms are taken in long double. How far that is
from arbitrary precision (exact.py) is measured where it is used; it needs the 64 bits of x87's long double, or more.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from exact import mp

from lossfast._parts import profile_parts, violation_parts

Extended = np.longdouble
IS_EXTENDED = np.finfo(Extended).nmant >= 63

ONE = Extended(1)


def spacing(value, dtype):
    """The unit in the last place of the dtype at each number."""
    info = np.finfo(dtype)
    _, exponent = np.frexp(value)
    exponent = np.where(value == 0, info.minexp, np.maximum(exponent - 1, info.minexp))
    return np.ldexp(ONE, exponent - info.nmant)


def ulps(got, true, dtype, slack=0):
    """Each result's error in ULP of the dtype; ``slack`` is an absolute error that counts as nothing.

    Where not both are finite, the same infinity or NaN, the error is infinite.
    """
    info = np.finfo(dtype)
    with np.errstate(all="ignore"):
        true = np.asarray(true, Extended)
        limit = np.where(np.abs(true) > info.max, np.copysign(np.inf, true), true)
        wide = np.asarray(got).astype(Extended)
        error = np.abs(wide - limit)
        off = np.where(error <= slack, 0, error / spacing(limit, dtype))
        alike = (wide == limit) | (np.isnan(wide) & np.isnan(limit))
        finite = np.isfinite(wide) & np.isfinite(limit)
        return np.where(alike, 0, np.where(finite, off, np.inf)).astype(np.float64)


def as_extended(value):
    """An exact number in long double, rounded about once."""
    if not mp.isfinite(value):
        return Extended(float(value))
    fraction, exponent = mp.frexp(value)
    high = float(fraction)
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(Extended(high) + Extended(float(fraction - mp.mpf(high))), min(max(exponent, -20_000), 20_000))


def two_sum(a, b):
    """The sum, and exactly what rounding it lost."""
    s = a + b
    back = s - a
    return s, (a - (s - back)) + (b - back)


def two_product(a, b):
    """The product, and exactly what rounding it lost, by halves of 32 bits (Veltkamp, Dekker)."""
    p = a * b

    def halves(v):
        c = v * Extended(2**32 + 1)
        high = c - (c - v)
        return high, v - high

    (ah, al), (bh, bl) = halves(a), halves(b)
    return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl


@dataclass(frozen=True)
class Rows:
    """The softmax state of rows of logits: nothing in it is a difference of rounded numbers.

    ``a`` is minus the log-probability, ``q`` is 1 - p; a class that is masked (or a logit of -inf) has p = 0.
    """

    x: np.ndarray
    where: np.ndarray | None = None
    temperature: float = 1.0

    @cached_property
    def logits(self):
        x = self.x.astype(Extended)
        return x if self.where is None else np.where(self.where, x, -np.inf)

    @cached_property
    def largest(self):
        return self.logits.max(-1, keepdims=True)

    @cached_property
    def lead(self):
        """Which entry is the row's first largest."""
        return np.arange(self.x.shape[-1]) == self.logits.argmax(-1)[..., None]

    @cached_property
    def gap(self):
        """(max - x) / T in two parts."""
        with np.errstate(all="ignore"):
            high, low = two_sum(self.largest, -self.logits)
            T = Extended(self.temperature)
            quotient = high / T
            product, error = two_product(quotient, T)
            rest = (((high - product) - error) + low) / T
        seen = np.isfinite(high)
        return quotient, np.where(seen, rest, 0)

    @cached_property
    def e(self):
        with np.errstate(under="ignore"):
            high, low = self.gap
            return np.exp(-high) * (1 - low)

    @cached_property
    def rest(self):
        """The sum of all exponentials but the largest, which is 1."""
        return np.where(self.lead, 0, self.e).sum(-1, keepdims=True)

    @cached_property
    def sum(self):
        return 1 + self.rest

    @cached_property
    def top(self):
        """Minus the largest log-probability."""
        return np.log1p(self.rest)

    @cached_property
    def p(self):
        return self.e / self.sum

    @cached_property
    def q(self):
        return np.where(self.lead, self.rest, self.sum - self.e) / self.sum

    @cached_property
    def a(self):
        high, low = self.gap
        return high + (self.top + low)

    @cached_property
    def lse(self):
        m = self.largest / Extended(self.temperature)
        return (m + self.top)[..., 0]

    def deviation(self, y):
        """``y`` less its mean under p, by way of the likeliest class, so that nothing cancels as its p goes to 1."""
        own = np.where(self.lead, y, 0).sum(-1, keepdims=True)
        return (y - own) - (self.p * (y - own)).sum(-1, keepdims=True)

    def loss(self, loss, t, options=None):
        """(value, gradient, Hessian) of a row loss of the registry, for targets ``t`` of the logits' shape."""
        own = loss.own_numbers(options)
        if loss.of == "truth":
            value, grad, hess = profile_parts(loss, own, self.a, self.p, self.q, t.astype(Extended))
            return value.sum(-1), grad, hess
        if loss.of == "violations":
            here = np.ones(self.x.shape, bool) if self.where is None else self.where
            value, grad, hess = violation_parts(loss, own, self.logits, t, t.astype(Extended), here)
            return value.sum(-1), grad, hess
        t = t.astype(Extended)
        total, zero = t.sum(-1, keepdims=True), Extended(0)
        a = self.a if "proba" in loss.outputs else np.where(t == 0, 0, -self.logits)
        miss = self.p * (1 - t) - t * self.q
        d, u = self.deviation(miss), self.deviation(self.p + miss)
        with np.errstate(all="ignore"):
            value, grad, hess = loss.twin(self.p, self.q, t, t, total, a, zero, zero, d, u)
        return value.sum(-1), grad, hess

    def function(self, function):
        """The values of a row function of the registry."""
        return self.lse if function.outputs[0] == "lse" else function.twin(self.p, self.a)


def soften(labels, C, smoothing=0.0, where=None):
    """Integer labels as targets of every class, smoothed over the classes that are there; unrounded."""
    one_hot = (np.arange(C) == labels[:, None]).astype(Extended)
    live = np.ones_like(one_hot) if where is None else where.astype(Extended)
    return (1 - Extended(smoothing)) * one_hot + Extended(smoothing) * live / live.sum(-1, keepdims=True)
