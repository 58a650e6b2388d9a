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


def lost(a, b):
    """What rounding takes from ``a - b``; 0 where that is not finite."""
    d = a - b
    back = d - a
    return where(np.abs(d) < np.inf, (a - (d - back)) - (b + back), 0.0)


def lost_in_product(a, b):
    """What rounding takes from ``a * b``; 0 where a part of that is not finite."""
    p, a_up, b_up = a * b, 134217729.0 * a, 134217729.0 * b
    a_hi, b_hi = a_up - (a_up - a), b_up - (b_up - b)
    a_lo, b_lo = a - a_hi, b - b_hi
    rest = a_lo * b_lo - (((p - a_hi * b_hi) - a_lo * b_hi) - a_hi * b_lo)
    return where(np.abs(rest) < np.inf, rest, 0.0)


def lost_in_ratio(y, a, a_lo, b, b_lo):
    """What ``y``, which is ``a / b`` rounded, lacks to ``(a + a_lo) / (b + b_lo)``; 0 where that is not finite."""
    rest = (((a - y * b) - lost_in_product(y, b)) + (a_lo - y * b_lo)) / b
    return where(np.abs(rest) < np.inf, rest, 0.0)


def excess(x, t, epsilon):
    """``|x - t| - epsilon``, with full relative accuracy however near the two are."""
    d = x - t
    a, rest = np.abs(d), lost(x, t)
    near = (a - epsilon) + (lost(a, epsilon) + where(d < 0.0, -rest, rest))
    return where(a < np.inf, near, 2.0 * (np.abs(0.5 * x - 0.5 * t) - 0.5 * epsilon))


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


#: What is divided by, one after the other, to have 1/3!, 1/4! ...: as many as a t up to 1 needs for 80 bits, which is
#: more than any float has. (Reciprocals would be rounded to float64 in longer types too.)
_FACTORS = tuple(map(float, range(3, 26)))


def growth(t):
    """``exp(t) - 1 - t``, with full relative accuracy, from its series where it is small."""
    near = np.abs(t) < 1.0
    r = where(near, t, 0.0)
    series = 1.0 + 0.0 * r
    for factor in _FACTORS[::-1]:
        series = 1.0 + r * series / factor
    return where(near, 0.5 * r * r * series, np.expm1(t) - t)


#: 3 * 4, 5 * 6 ...: the same for the series of cosh(d) - 1, up to 2.
_PAIRS = tuple(float(n * (n + 1)) for n in range(3, 31, 2))


def log_cosh(d):
    """``log(cosh(d))`` without overflow, with full relative accuracy near 0."""
    a = np.abs(d)
    r = where(a < 2.0, a, 0.0)
    square = r * r
    series = 1.0 + 0.0 * r
    for factor in _PAIRS[::-1]:
        series = 1.0 + square * series / factor
    return where(a < 2.0, np.log1p(0.5 * r * r * series), a + np.log(0.5 + 0.5 * np.exp(-2.0 * a)))


_LN2_HEAD, _LN2_TAIL = float.fromhex("0x1.62e42fefa38p-1"), float.fromhex("0x1.ef35793c7673p-45")


def exp_in_parts(t):
    """``exp(t)`` for t <= 0, and what it lacks as a share of it: the error of both together is half of that of one."""
    r = where(t < -1e5, -1e5, t)
    k = np.rint(r / 0.6931471805599453)
    w = np.expm1((r - k * _LN2_HEAD) - k * _LN2_TAIL)
    near = 1.0 + w
    return np.exp2(k) * near, lost(1.0, -w) / near


def small(share, whole):
    """``share / whole``; 0 where that is not small: where there is nothing, or nothing left but subnormals."""
    ratio = share / whole
    return where(np.abs(ratio) < 1e-10, ratio, 0.0)


def exp_product(a, x):
    """``exp(a * x)`` with the exact product: what rounding takes from it counts where it is large."""
    p = a * x
    return np.exp(where(x == x, where(a == 0.0, a, p), x)) * (1.0 + lost_in_product(a, x))


def log_ratio(x, y):
    """``log(x / y)`` with full relative accuracy where the two are close, without overflow where they are far apart."""
    gap, ratio = (x - y) / y, x / y
    near = np.abs(gap) < 0.5
    far = where(1e-300 < ratio, where(ratio < 1e300, np.log(ratio), np.log(x) - np.log(y)), np.log(x) - np.log(y))
    return where(near, np.log1p(gap), far)


#: The polynomials of `log_factorial`, those of the kernels in float64 (``kernels/coefficients.h``).
LOG_FACTORIAL = (
    float.fromhex("0x1.2788cfc6fb619p-1"),
    float.fromhex("-0x1.f6465978d4791p-3"),
    float.fromhex("0x1.3e5452048863cp-3"),
    float.fromhex("-0x1.d7a3e6ac1c60fp-4"),
    float.fromhex("0x1.79cf9cb587092p-4"),
    float.fromhex("-0x1.3cb202337ff37p-4"),
    float.fromhex("0x1.1155bc08e0ae5p-4"),
    float.fromhex("-0x1.e18ae051c656cp-5"),
    float.fromhex("0x1.aec7989053681p-5"),
    float.fromhex("-0x1.86c02d7951c7ap-5"),
    float.fromhex("0x1.68e5929ec48f5p-5"),
    float.fromhex("-0x1.5832eb82e9583p-5"),
    float.fromhex("0x1.59f155c1c6474p-5"),
    float.fromhex("-0x1.6f3bbb75813f3p-5"),
    float.fromhex("0x1.8ad643500355ap-5"),
    float.fromhex("-0x1.8f6151e5fef87p-5"),
    float.fromhex("0x1.6186acbddf39cp-5"),
    float.fromhex("-0x1.02b0dd47c6a30p-5"),
    float.fromhex("0x1.2a8e6bcd96c82p-6"),
    float.fromhex("-0x1.02ab67c4ecfc6p-7"),
    float.fromhex("0x1.3a926cc0e3d5dp-9"),
    float.fromhex("-0x1.dd4fe788b43a9p-12"),
    float.fromhex("0x1.5354d09f99fe3p-15"),
)
STIRLING = (
    float.fromhex("0x1.5555555555555p-4"),
    float.fromhex("-0x1.6c16c16c09cf3p-9"),
    float.fromhex("0x1.a01a00fc4d134p-11"),
    float.fromhex("-0x1.3812c05bdf452p-11"),
    float.fromhex("0x1.b8e7282922c04p-11"),
    float.fromhex("-0x1.e7c81fbbdf0f0p-10"),
    float.fromhex("0x1.221d411b7946dp-8"),
)
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


def stirling(t):
    """``t log t - t + log(2 pi t)/2``, the first terms of Stirling's series for ``log(t!)``."""
    return t * np.log(t) - t + (_HALF_LOG_2PI + 0.5 * np.log(t))


def log_factorial(t):
    """``log(t!)``, the logarithm of ``Gamma(t + 1)``, for t >= 0, relatively accurate at its zeros 0 and 1 too."""
    u = where(t < 8.0, t, 0.0)
    product = keep_nan(1.0, t)
    for _ in range(7):
        product, u = where(u >= 1.0, product * u, product), where(u >= 1.0, u - 1.0, u)
    near = 0.0 * u
    for factor in LOG_FACTORIAL[::-1]:
        near = near * u + factor
    inverse = 1.0 / where(t < 8.0, 8.0, t)
    rest = 0.0 * u
    for factor in STIRLING[::-1]:
        rest = rest * (inverse * inverse) + factor
    large = where(t < np.inf, stirling(where(t < 8.0, 8.0, t)) + inverse * rest, t)
    return where(t < 8.0, where(t < 0.0, np.nan, u * (u - 1.0) * near + np.log(product)), large)


def exp_times(c, a, low):
    """``exp(c * (a + low))``, without the error that rounding ``c * a`` to one number would make where it is large."""
    rest = lost_in_product(c, a) + c * low
    return np.exp(c * a) * (1.0 + where(np.abs(rest) < 1.0, rest, 0.0))


#: Every word but `where`: compositions that a compiler can take as they stand. Some use words above them.
WORDS = (
    *(
        mul0,
        keep_nan,
        sign,
        difference,
        lost,
        lost_in_product,
        lost_in_ratio,
        excess,
        sigmoid,
        sigmoid_slope,
        softplus,
        growth,
    ),
    *(log_cosh, exp_in_parts, small, exp_product, log_ratio, stirling, log_factorial, exp_times),
)
