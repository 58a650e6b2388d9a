"""The vocabulary in which Python twins are written.

Each word is one expression that means the same on NumPy arrays and on the scalars of Numba's nopython mode. Only
`where` differs between the two; ``lossfast.backends.numba`` gives it its scalar form there and makes the others,
listed in `WORDS`, known to the compiler. A twin built from these words alone therefore serves both backends.
"""

from __future__ import annotations

import math

import numpy as np


def where(condition, a, b):
    """``a`` where the condition holds, else ``b``. Both are evaluated: neither may depend on being left out."""
    return np.where(condition, a, b)


def mul0(a, b):
    """``a * b``, but 0 wherever ``a`` is 0: nothing times infinity or NaN is nothing."""
    return where(a == 0.0, 0.0, a * b)


def keep_nan(a, x):
    """``a``, but NaN wherever ``x`` is NaN: for what would otherwise be a constant."""
    return where(x == x, a, x)


def sign(x):
    """-1, 0 or 1, and NaN for NaN; never -0."""
    return where(x > 0.0, 1.0, where(x < 0.0, -1.0, keep_nan(0.0, x)))


def difference(a, b):
    """``a - b`` with one zero only, so that the sign of a zero that came in does not come out."""
    return a - b + 0.0


def sigmoid(x):
    """``1 / (1 + exp(-x))``, with full relative accuracy on both sides, down to subnormals."""
    e = np.exp(-np.abs(x))
    return where(x < 0.0, e, 1.0) / (1.0 + e)


def sigmoid_slope(x):
    """``sigmoid(x) * sigmoid(-x)``, the derivative of `sigmoid`."""
    e = np.exp(-np.abs(x))
    return e / ((1.0 + e) * (1.0 + e))


def softplus(x):
    """``log(1 + exp(x))`` without overflow, with full relative accuracy where it is tiny."""
    return where(x > 0.0, x, 0.0) + np.log1p(np.exp(-np.abs(x)))


#: The reciprocals of 3!, 4! ...: as many as a t up to 1 needs for 80 bits, which is more than any float has.
_FACTORIALS = tuple(1.0 / math.factorial(n) for n in range(3, 26))


def growth(t):
    """``exp(t) - 1 - t``, with full relative accuracy, from its series where it is small."""
    near = np.abs(t) < 1.0
    r = where(near, t, 0.0)
    series = 0.0 * r
    for factor in _FACTORIALS[::-1]:
        series = series * r + factor
    return where(near, r * r * (0.5 + r * series), np.expm1(t) - t)


#: Every word but `where`: compositions that a compiler can take as they stand.
WORDS = (mul0, keep_nan, sign, difference, sigmoid, sigmoid_slope, softplus, growth)
