"""Softmax over the similarities of all embeddings of a batch, tile by tile, in memory of O(N D + tile^2).

A tile of similarities is a product of matrices (NumPy's, which is its BLAS's). There are two passes over the tiles: one
sums the exponentials of every row (and, where columns are anchors as well, of every column), the other multiplies the
probabilities with the embeddings. Similarities of a set with itself are symmetric, so that each tile serves its rows
and its columns.

Tiles are taken in rounds. Within a round no two share a row or a column, so that threads can work on them at once; the
rounds' order is fixed, and so is that in which every sum is added up, whatever the number of threads.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from . import _arguments, _threads
from ._arguments import FLOAT64

#: Rows and columns of a tile.
TILE = 512
#: Entries of a block of embeddings that is brought to float64.
BLOCK = 1 << 15
#: Columns of a tile are summed so many rows at a time, in its dtype; these sums are added up in float64.
FEW = 64
#: Where no similarity is beyond this, exponentials need no maximum: with it, no factor of a softmax leaves the range.
FLAT = {np.dtype(np.float32): 20.0, FLOAT64: 300.0}


# ----------------------------------------------------------------------------------------------------- BLAS's threads


@functools.cache
def _blas() -> Any:
    """What sets the number of BLAS's threads, if threadpoolctl is installed."""
    try:
        from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]
    except ImportError:
        return None
    return ThreadpoolController().select(user_api="blas")


class _OneThread:
    """While somebody is within, BLAS has one thread: ours work on tiles beside each other, and tiles are small."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.limit: Any = None

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        blas = _blas()
        if blas is None:
            yield
            return
        with self.lock:  # only the first knows the number that the last has to put back
            if not self.inside:
                self.limit = blas.limit(limits=1)
            self.inside += 1
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if not self.inside:
                    self.limit.restore_original_limits()

    def after_fork(self) -> None:
        """The child has none of the threads that were within."""
        self.lock = threading.Lock()
        if self.inside:
            self.inside = 0
            self.limit.restore_original_limits()


one_blas_thread = _OneThread()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=one_blas_thread.after_fork)

# -------------------------------------------------------------------------------------------------------- arithmetic


def scaled(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows divided by powers of 2 near their largest entries, whose squares neither overflow nor vanish, and those.

    Of rows with infinite entries only these remain, as 1 and -1, and the divisor is infinite: the limit.
    """
    top = np.abs(v).max(axis=1)
    infinite = np.isinf(top)
    if infinite.any():
        v = np.where(infinite[:, None], np.where(np.isinf(v), np.copysign(1.0, v), 0.0), v)
    exponent = np.where(np.isfinite(top), np.frexp(top)[1], 0).clip(-1000, 1023)
    size = np.ldexp(1.0, exponent)
    return v * (1.0 / size)[:, None], np.where(infinite, np.inf, size)


def unit(v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows divided by their lengths (zeros remain zeros), and the lengths as a factor and a power of 2."""
    r, size = scaled(v)
    length = np.sqrt((r * r).sum(axis=1))
    return np.divide(r, length[:, None], out=np.zeros_like(r), where=length[:, None] != 0), length, size


def rounds(n: int, own: bool) -> Iterator[list[tuple[int, int]]]:
    """All pairs of n blocks (``own``: unordered ones), in rounds in which no block is twice on the same side."""
    if not own:
        for step in range(n):
            yield [(i, (i + step) % n) for i in range(n)]
        return
    yield [(i, i) for i in range(n)]
    m = n + n % 2 - 1  # a tournament: one stays, the others go around; with an odd n the one is nobody
    for step in range(m):
        pairs = [(step, m)] + [((step + k) % m, (step - k) % m) for k in range(1, (m + 1) // 2)]
        yield [(min(pair), max(pair)) for pair in pairs if max(pair) < n]


# ------------------------------------------------------------------------------------------------------------- tiles


class Tiles:
    """The exponentials of ``scale x_i . y_j``, of a set with itself (``y is x``) all but those with i = j.

    Row i leaves out column ``partner[i]``, too, unless that is negative. ``columns`` says whether columns are summed as
    rows are; of a set with itself they are the same.
    """

    def __init__(
        self, x: np.ndarray, y: np.ndarray, scale: float, partner: np.ndarray, columns: bool, n_threads: int
    ) -> None:
        self.x, self.y, self.scale, self.partner = x, y, np.float64(scale), partner
        self.own = y is x
        self.columns = columns
        self.n_threads = n_threads
        self.n = -(-len(x) // TILE)
        self.free: list[tuple[np.ndarray, ...]] = []
        limit = FLAT[x.dtype]
        self.flat = bool(scale * _largest_length(x) * _largest_length(y) <= limit)
        #: For rows and for columns, the maximum and the sum of exponentials below it.
        sides = [(np.full(len(a), 0.0 if self.flat else -np.inf), np.zeros(len(a))) for a in (x, y)]
        self.sides = [sides[0], sides[0] if self.own else sides[1]]

    def _each(self, work: Any) -> None:
        """``work(i, j, *scratch)`` for every tile."""
        with one_blas_thread() if self.n > 1 else contextlib.nullcontext():
            self._rounds(work)

    def _rounds(self, work: Any) -> None:
        for pairs in rounds(self.n, self.own):

            def some(start: int, stop: int, pairs: list[tuple[int, int]] = pairs) -> None:
                with np.errstate(all="ignore"):
                    for i, j in pairs[start:stop]:
                        try:
                            scratch = self.free.pop()
                        except IndexError:
                            side, dtype = min(TILE, len(self.x)), self.x.dtype
                            scratch = (*np.empty((2, side * side), dtype), np.empty((side, self.x.shape[1]), dtype))
                        work(i, j, *scratch)
                        self.free.append(scratch)

            if pairs:
                _threads.run(some, len(pairs), 1, self.n_threads, lambda total, more: None)

    def _tile(self, i: int, j: int, *buffers: np.ndarray) -> tuple[slice, slice, Any, list[np.ndarray]]:
        """Rows, columns, the entries that are left out, and the buffers in the tile's shape: the first has the tile."""
        N = len(self.x)
        rows, columns = (slice(k * TILE, min((k + 1) * TILE, N)) for k in (i, j))
        shape = rows.stop - rows.start, columns.stop - columns.start
        views = [buffer[: shape[0] * shape[1]].reshape(shape) for buffer in buffers]
        np.matmul((self.x[rows] * self.scale).astype(self.x.dtype), self.y[columns].T, out=views[0])
        partner = self.partner[rows] - columns.start
        at = np.flatnonzero((partner >= 0) & (partner < shape[1]))
        out = at, partner[at]
        if self.own and i == j:
            diagonal = np.arange(shape[0])
            out = np.concatenate((at, diagonal)), np.concatenate((partner[at], diagonal))
        return rows, columns, out, views

    def _both(self, i: int, j: int) -> bool:
        """Whether the tile's columns are anchors other than its rows."""
        return self.columns and not (self.own and i == j)

    # ------------------------------------------------------------------------------------------------------- sums

    def sum(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For rows and for columns, maxima m and sums s: the sum of the exponentials is ``s exp(m)``."""
        self._each(self._sum)
        return self.sides

    def _sum(self, i: int, j: int, first: np.ndarray, second: np.ndarray, _: np.ndarray) -> None:
        rows, columns, out, (s, e) = self._tile(i, j, first, second)
        (row_top, row_sum), (column_top, column_sum) = self.sides
        if self.flat:
            np.exp(s, out=s)
            s[out] = 0
            row_sum[rows] += s.sum(axis=1)
            if self._both(i, j):
                column_sum[columns] += _sum_of_rows(s)
            return
        s[out] = -np.inf
        base, lowered = _raised(row_top, row_sum, rows, s.max(axis=1))
        np.exp(np.subtract(s, base[:, None], out=e), out=e)
        row_sum[rows] = lowered + e.sum(axis=1)
        if self._both(i, j):
            base, lowered = _raised(column_top, column_sum, columns, s.max(axis=0))
            np.exp(np.subtract(s, base, out=e), out=e)
            column_sum[columns] = lowered + _sum_of_rows(e)

    # --------------------------------------------------------------------------------------------------- products

    def products(self, row_factor: np.ndarray, column_factor: np.ndarray | None) -> list[np.ndarray]:
        """``sum_j c_ij y_j`` for every row and ``sum_i c_ij x_i`` for every column; of a set with itself, their sum.

        ``c_ij`` is the exponential below the row's maximum times the row's factor, plus the same for the column.
        """
        totals = [np.zeros(self.x.shape)]
        if not self.own:
            totals.append(np.zeros(self.y.shape))
        factors = [row_factor, column_factor] if column_factor is not None else [row_factor]
        largest = max(float(np.abs(factor).max()) for factor in factors)
        if largest == 0:
            return totals
        dtype = self.x.dtype
        with np.errstate(all="ignore"):
            f = [(factor / largest).astype(dtype) for factor in factors]
            tops = [np.where(np.isneginf(top), 0.0, top).astype(dtype) for top, _ in self.sides]

        def work(i: int, j: int, first: np.ndarray, second: np.ndarray, third: np.ndarray) -> None:
            rows, columns, out, (s, c) = self._tile(i, j, first, second)
            if self.flat:
                np.exp(s, out=s)
                s[out] = 0
                if len(f) == 2:
                    np.add(f[0][rows, None], f[1][columns], out=c)
                    np.multiply(c, s, out=c)
                else:
                    np.multiply(f[0][rows, None], s, out=c)
            else:
                s[out] = -np.inf
                np.exp(np.subtract(s, tops[0][rows, None], out=c), out=c)
                c *= f[0][rows, None]
                if len(f) == 2:
                    np.exp(np.subtract(s, tops[1][columns], out=s), out=s)
                    s *= f[1][columns]
                    c += s
            totals[0][rows] += np.matmul(c, self.y[columns], out=third[: len(c)])
            if not (self.own and i == j):
                totals[-1][columns] += np.matmul(c.T, self.x[rows], out=third[: c.shape[1]])

        self._each(work)
        for total in totals:
            total *= largest
        return totals


def _raised(top: np.ndarray, total: np.ndarray, at: slice, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Raise maxima to those found; what to subtract (in the dtype of those), and the sums below the new maxima."""
    new = np.maximum(top[at], found)
    base = np.where(np.isneginf(new), 0.0, new)
    lowered = total[at] * np.exp(top[at] - base)
    top[at] = new
    return base.astype(found.dtype), lowered


def _sum_of_rows(e: np.ndarray) -> np.ndarray:
    total = np.zeros(e.shape[1])
    for start in range(0, len(e), FEW):
        total += e[start : start + FEW].sum(axis=0)
    return total


def _blocks(n: int, width: int) -> Iterator[slice]:
    length = max(1, BLOCK // width)
    for start in range(0, n, length):
        yield slice(start, min(start + length, n))


def _largest_length(x: np.ndarray) -> np.ndarray:
    largest = np.zeros(())
    for rows in _blocks(*x.shape):
        block = x[rows].astype(FLOAT64)
        largest = np.maximum(largest, (block * block).sum(axis=1).max())
    return np.sqrt(largest)


# ------------------------------------------------------------------------------------------------------ comparisons


class Comparison:
    """What a loss of a whole batch comes to: how the positives of each anchor stand out from what it is compared with.

    ``vectors`` are arrays of shape (N, D). They are one set, of which each is compared with all others, or (``cross``)
    two, whose members are compared with those of the other; then ``columns`` says whether the second's are anchors too.
    ``counts`` has which of the N losses count, or None for all.
    """

    def __init__(
        self,
        vectors: Sequence[np.ndarray],
        temperature: float,
        normalize: float,
        cross: bool = False,
        columns: bool = True,
        counts: np.ndarray | None = None,
    ) -> None:
        self.vectors = vectors
        self.N, self.D = vectors[0].shape
        self.scale = 1.0 / temperature
        self.normalize = bool(normalize)
        self.cross = cross
        self.columns = columns
        self.counts = counts
        self.x: np.ndarray
        self.y: np.ndarray
        #: How many anchors share a loss, which is their mean.
        self.shared = len(vectors) if columns else 1

    def _positives(self) -> np.ndarray:
        """The only positive of each anchor, or -1; called once the embeddings are there."""
        N = self.N
        return np.arange(N) if self.cross else np.concatenate((np.arange(N, 2 * N), np.arange(N)))

    # ------------------------------------------------------------------------------------------------------- values

    def losses(self, n_threads: int) -> np.ndarray:
        """The N losses."""
        dtype = _arguments._computes[self.vectors[0].dtype]
        z = np.empty((len(self.vectors) * self.N, self.D), dtype)
        with np.errstate(all="ignore"):
            for number, vector in enumerate(self.vectors):
                for rows in _blocks(self.N, self.D):
                    block = vector[rows].astype(FLOAT64)
                    z[number * self.N : (number + 1) * self.N][rows] = unit(block)[0] if self.normalize else block
            self.x, self.y = (z[: self.N], z[self.N :]) if self.cross else (z, z)
            self.partner = self._positives()
            self.tiles = Tiles(self.x, self.y, self.scale, self.partner, self.columns, n_threads)
            self.sums = self.tiles.sum()[: 2 if self.cross and self.columns else 1]
            similarity = self._similarity_of_partners()
            values, self.shares = [], []
            for top, total in self.sums:
                value, share = self._value(top + np.log(total), similarity)
                values.append(value)
                self.shares.append(share)
            anchors = np.concatenate(values)
        if self.shared == 1:
            return anchors
        return 0.5 * anchors[: self.N] + 0.5 * anchors[self.N :]

    def _value(self, logsumexp: np.ndarray, similarity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The loss of each anchor, and what of its probability is not its only positive's.

        With one positive s and the logarithm L of the sum over the others, the loss is log(1 + e^(L - s)), which keeps
        its digits where it is small, and so does its derivative, -1 / (1 + e^(s - L)).
        """
        t = logsumexp - similarity
        return np.logaddexp(0.0, t), 1.0 / (1.0 + np.exp(-t))

    def _similarity_of_partners(self) -> np.ndarray:
        similarity = np.zeros(len(self.partner))
        for rows in _blocks(len(self.partner), self.D):
            block, others = self.x[rows].astype(FLOAT64), self.y[self.partner[rows]]
            similarity[rows] = (block * others).sum(axis=1)
        return similarity * self.scale

    # ---------------------------------------------------------------------------------------------------- gradients

    def write_gradients(self, factor: np.ndarray, outs: Sequence[np.ndarray]) -> None:
        """The gradient of the sum of the losses times ``factor``, which is 0 where none is wanted; after `losses`."""
        anchors = factor / self.shared
        weights = [anchors] * len(self.sums) if self.cross else [np.tile(anchors, self.shared)]
        factors = [
            np.where((weight == 0) | (share == 0), 0.0, weight * share / total)
            for weight, share, (_, total) in zip(weights, self.shares, self.sums, strict=True)
        ]
        if not self.cross:
            factors *= 2
        totals = self.tiles.products(factors[0], factors[1] if self.columns else None)
        of_partners = [
            np.where(weight == 0, 0.0, weight * share) for weight, share in zip(weights, self.shares, strict=True)
        ]
        self._subtract_positives(totals, weights, of_partners)
        whole = totals if self.cross else np.split(totals[0], len(self.vectors))
        for vector, gradient, out in zip(self.vectors, whole, outs, strict=True):
            for rows in _blocks(self.N, self.D):
                g = gradient[rows] * self.scale
                if self.normalize:
                    u, length, size = unit(vector[rows].astype(FLOAT64))
                    g -= (g * u).sum(axis=1)[:, None] * u
                    g = np.divide(g, length[:, None], out=np.zeros_like(g), where=length[:, None] != 0)
                    g /= size[:, None]
                np.copyto(out[rows], g, casting="unsafe")

    def _subtract_positives(
        self, totals: list[np.ndarray], weights: list[np.ndarray], of_partners: list[np.ndarray]
    ) -> None:
        """Take off what the only positives of anchors get, of which each is the other's."""
        pull = of_partners[0] + (of_partners[1] if len(of_partners) == 2 else 0.0)
        for rows in _blocks(len(pull), self.D):
            partner = self.partner[rows]
            if self.cross:
                totals[0][rows] -= pull[rows, None] * self.y[rows]
                totals[1][rows] -= pull[rows, None] * self.x[rows]
            else:
                both = np.where(partner < 0, 0.0, pull[rows] + pull[partner])
                totals[0][rows] -= both[:, None] * self.x[partner]


class LabelComparison(Comparison):
    """The members of one set, whose positives are the others with their label."""

    def __init__(self, features: np.ndarray, labels: np.ndarray, temperature: float, normalize: float) -> None:
        super().__init__([features], temperature, normalize)
        _, self.group, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        self.size = sizes[self.group]
        order = np.argsort(self.group, kind="stable")
        pairs = order[self.size[order] == 2].reshape(-1, 2)
        self.partners = np.full(self.N, -1)
        self.partners[pairs] = pairs[:, ::-1]
        self.many = self.size > 2
        self.order = order[self.size[order] > 2]
        self.number = (np.cumsum(sizes > 2) - 1)[self.group]  # of a group among those of more than two
        self.numbers = int(np.count_nonzero(sizes > 2))

    def _positives(self) -> np.ndarray:
        return self.partners

    def _value(self, logsumexp: np.ndarray, similarity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, share = super()._value(logsumexp, similarity)
        self.sum_of_group = self._group_sums(None)
        positives = np.zeros(self.N)
        for rows in _blocks(self.N, self.D):
            z = self.x[rows].astype(FLOAT64)
            if self.numbers:
                positives[rows] = ((self.sum_of_group[self.number[rows]] - z) * z).sum(axis=1)
        many = logsumexp - self.scale * positives / np.maximum(self.size - 1, 1)
        alone = self.size == 1
        value = np.where(alone, 0.0, np.where(self.many, many, value))
        return value, np.where(alone, 0.0, np.where(self.many, 1.0, share))

    def _group_sums(self, weight: np.ndarray | None) -> np.ndarray:
        """The (weighted) sum of the embeddings of each group of more than two."""
        total = np.zeros((self.numbers, self.D))
        for some in _blocks(len(self.order), self.D):
            at = self.order[some]
            block = self.x[at].astype(FLOAT64)
            if weight is not None:
                block *= weight[at, None]
            number = self.number[at]
            starts = np.flatnonzero(np.diff(number, prepend=-1))
            total[number[starts]] += np.add.reduceat(block, starts, axis=0)
        return total

    def _subtract_positives(
        self, totals: list[np.ndarray], weights: list[np.ndarray], of_partners: list[np.ndarray]
    ) -> None:
        super()._subtract_positives(totals, weights, of_partners)
        if not self.numbers:
            return
        weight = weights[0]
        weighted = self._group_sums(weight)
        for rows in _blocks(self.N, self.D):
            z, number, w = self.x[rows].astype(FLOAT64), self.number[rows], weight[rows, None]
            pull = w * (self.sum_of_group[number] - z) + (weighted[number] - w * z)
            pull /= np.maximum(self.size[rows, None] - 1, 1)
            totals[0][rows] -= np.where(self.many[rows, None], pull, 0.0)
