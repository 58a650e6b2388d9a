"""What ``loss.reduce(...)`` returns: a sum that can be merged with others before anything is rounded or divided."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Reduction:
    """The weighted sum of some losses, with what a mean of them divides by.

    The results of shards, micro-batches or workers merge (`merge`, ``+``, or Python's ``sum``) to that of the whole:
    sums are kept as unevaluated double-doubles, about 32 digits. Objects are immutable and picklable.

    Attributes
    ----------
    sum : float
        The weighted sum of the losses; ``sum_tail`` is what its rounding to a double left over.
    weight : float
        What ``reduction="mean"`` divides by; ``weight_tail`` as above.
    count : int
        How many rows (for a pointwise loss, elements) were neither ignored nor masked out.
    denominator : float or None
        Divides instead of ``weight`` if given; the same in all that are merged.
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

    sum: float = 0.0
    weight: float = 0.0
    count: int = 0
    sum_tail: float = 0.0
    weight_tail: float = 0.0
    denominator: float | None = None
    empty: str = "nan"

    @property
    def mean(self) -> float:
        """The sum divided by the weight (or by ``denominator``)."""
        divisor = self.weight if self.denominator is None else self.denominator
        if divisor != 0:
            return self.sum / divisor
        if self.empty == "raise":
            raise ValueError(EMPTY)
        return math.nan if self.empty == "nan" else 0.0

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
                *_interleave(
                    add(merged.sum, merged.sum_tail, other.sum, other.sum_tail),
                    add(merged.weight, merged.weight_tail, other.weight, other.weight_tail),
                    merged.count + other.count,
                ),
                merged.denominator,
                merged.empty,
            )
        return merged

    def __add__(self, other: Any) -> Reduction:
        return self.merge(other) if isinstance(other, Reduction) else NotImplemented

    def __radd__(self, other: Any) -> Reduction:
        return self if isinstance(other, int) and other == 0 else NotImplemented  # sum() begins with 0


#: What is said where a mean would divide by 0 and ``empty="raise"``.
EMPTY = "the denominator is 0: there is nothing to take the mean of (empty='nan' or empty='zero' allow it)"


def _interleave(
    total: tuple[float, float], weight: tuple[float, float], count: int
) -> tuple[float, float, int, float, float]:
    return total[0], weight[0], count, total[1], weight[1]


def add(a: float, a_tail: float, b: float, b_tail: float) -> tuple[float, float]:
    """The sum of two double-doubles, as one whose head is the sum rounded to a double."""
    head, error = _two_sum(a, b)
    tail, rest = _two_sum(a_tail, b_tail)
    head, error = _two_sum(head, error + tail)
    head, error = _two_sum(head, error + rest)
    return (head, error) if math.isfinite(head) else (a + b, 0.0)


def _two_sum(a: float, b: float) -> tuple[float, float]:
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)
