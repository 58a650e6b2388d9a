"""Sums kept beyond a double's precision and range, and what ``loss.reduce(...)`` makes of them."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any, NamedTuple

#: What the parts of a sum are scaled down by, as a power of 2, once it leaves the range of a double.
AWAY = 100
#: Cuts a double into two halves of 26 bits.
_SPLIT = 2.0**27 + 1


class Sum(NamedTuple):
    """A sum as ``(head + tail) * 2**exponent``, to about 32 digits; ``head`` is what it rounds to.

    The exponent is 0, or `AWAY` where the sum is beyond the range of a double though its terms are not.
    """

    head: float
    tail: float = 0.0
    exponent: int = 0

    def plus(self, other: Sum) -> Sum:
        """The sum of both."""
        exponent = max(self.exponent, other.exponent)
        a, b = self._at(exponent), other._at(exponent)
        head, error = _two_sum(a.head, b.head)
        if math.isfinite(head):
            tail, rest = _two_sum(a.tail, b.tail)
            head, error = _two_sum(head, error + tail)
            head, error = _two_sum(head, error + rest)
        if math.isfinite(head):
            return Sum(head, error, exponent)
        if exponent == 0 and math.isfinite(a.head) and math.isfinite(b.head):
            return a._at(AWAY).plus(b._at(AWAY))
        return Sum(a.head + b.head)

    def over(self, divisor: Sum) -> float:
        """The quotient, rounded once; infinite where that is beyond its range."""
        quotient = self.head / divisor.head
        if self.tail or divisor.tail:
            product, error = _two_product(quotient, divisor.head)
            left = ((self.head - product) - error) + (self.tail - quotient * divisor.tail)
            if left - left == 0:
                quotient += left / divisor.head
        return _double(quotient, self.exponent - divisor.exponent)

    def inverse(self) -> float:
        """1 divided by the sum."""
        return _double(1.0 / self.head, -self.exponent)

    def __float__(self) -> float:
        return _double(self.head, self.exponent)

    def _at(self, exponent: int) -> Sum:
        """The same with another exponent, at least its own; what is lost is far below the whole's precision."""
        down = math.ldexp(1.0, self.exponent - exponent)
        return Sum(self.head * down, self.tail * down, exponent)


def _two_sum(a: float, b: float) -> tuple[float, float]:
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


def _two_product(a: float, b: float) -> tuple[float, float]:
    product = a * b
    high_a, high_b = _SPLIT * a, _SPLIT * b
    high_a, high_b = high_a - (high_a - a), high_b - (high_b - b)
    low_a, low_b = a - high_a, b - high_b
    return product, ((high_a * high_b - product) + high_a * low_b + low_a * high_b) + low_a * low_b


def _double(value: float, exponent: int) -> float:
    if value != value:
        return math.nan  # whatever its bits were
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.copysign(math.inf, value)


@dataclass(frozen=True, slots=True)
class Reduction:
    """The weighted sum of some losses, with what a mean of them divides by.

    The results of shards, micro-batches or workers merge (`merge`, ``+``, or Python's ``sum``) to that of the whole:
    sums are kept to about 32 digits, and beyond the range of a double. Objects are immutable and picklable.

    Attributes
    ----------
    total, weights : Sum
        The weighted sum of the losses, and what ``reduction="mean"`` divides it by, both unrounded.
    count : int
        How many rows (for a pointwise loss, elements) were neither ignored nor masked out.
    denominator : float or None
        Divides instead of the weight if given; the same in all that are merged.
    empty : {"nan", "zero", "raise"}
        What `mean` does when it would divide by 0.

    Examples
    --------
    >>> import lossfast as lf
    >>> parts = [lf.mse_loss.reduce([1.0, 2.0], [0.0, 0.0]), lf.mse_loss.reduce([4.0], [0.0])]
    >>> whole = parts[0] + parts[1]
    >>> whole.sum, whole.weight, whole.count, whole.mean
    (21.0, 3.0, 3, 7.0)
    """

    total: Sum = Sum(0.0)
    weights: Sum = Sum(0.0)
    count: int = 0
    denominator: float | None = None
    empty: str = "nan"

    @property
    def sum(self) -> float:
        """The weighted sum, rounded to a double."""
        return float(self.total)

    @property
    def weight(self) -> float:
        """The sum of the weights, rounded to a double."""
        return float(self.weights)

    @property
    def mean(self) -> float:
        """The sum divided by the weight (or by ``denominator``); right also where the sum itself is beyond a double."""
        divisor = self.weights if self.denominator is None else Sum(self.denominator)
        if divisor.head != 0:
            return self.total.over(divisor)
        if self.empty == "raise":
            raise ValueError(EMPTY)
        return math.nan if self.empty == "nan" else 0.0

    @property
    def perplexity(self) -> float:
        """e to the power of the mean; infinite where that is beyond a double."""
        mean = self.mean
        return math.exp(mean) if not mean > _MOST else math.inf

    def __repr__(self) -> str:
        given = "" if self.denominator is None else f", denominator={self.denominator!r}"
        return f"Reduction(sum={self.sum!r}, weight={self.weight!r}, count={self.count}{given})"

    def merge(self, *others: Reduction) -> Reduction:
        """The reduction of all the losses together.

        Raises
        ------
        TypeError
            Something else than a `Reduction` is given.
        ValueError
            ``denominator`` or ``empty`` differ: there is no one mean of the whole.
        """
        merged = self
        for other in others:
            if not isinstance(other, Reduction):
                raise TypeError(f"only a Reduction can be merged, got {type(other).__name__}")
            for name in ("denominator", "empty"):
                ours, theirs = getattr(merged, name), getattr(other, name)
                if ours != theirs:
                    raise ValueError(f"reductions with different {name} cannot be merged: {ours!r} and {theirs!r}")
            merged = Reduction(
                merged.total.plus(other.total),
                merged.weights.plus(other.weights),
                merged.count + other.count,
                merged.denominator,
                merged.empty,
            )
        return merged

    def __add__(self, other: Any) -> Reduction:
        return self.merge(other) if isinstance(other, Reduction) else NotImplemented

    def __radd__(self, other: Any) -> Reduction:
        return self if isinstance(other, int) and other == 0 else NotImplemented  # sum() begins with 0


#: The logarithm of the largest double.
_MOST = math.log(sys.float_info.max)

#: What is said where a mean would divide by 0 and ``empty="raise"``.
EMPTY = "the denominator is 0: there is nothing to take the mean of (empty='nan' or empty='zero' allow it)"
