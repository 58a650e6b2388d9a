"""Soft targets of which a row names a few classes only: SciPy's sparse matrices, and the top classes of a teacher.

They are never made dense: a backend writes a stretch of a row's targets into the block it works in, and from there on
nothing tells them from dense ones.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

INT64, FLOAT64 = np.dtype(np.int64), np.dtype(np.float64)
#: What becomes of the probability that a teacher's top classes leave over.
RESTS = ("uniform", "drop")


class TopK:
    """Soft targets by the classes that a teacher finds likeliest, for the losses that take soft labels.

    Parameters
    ----------
    indices : array_like of int, shape (..., K)
        Of each row the classes that are named, in any order and each once.
    probs : array_like of float, shape (..., K)
        Their targets. They are taken as weights, like all soft labels, and not normalised.
    rest : {"uniform", "drop"}, default "uniform"
        What becomes of the mass that a row leaves over, ``1 - probs.sum()``: ``"uniform"`` spreads it evenly over the
        other classes (those that are not masked; no mass is left where the targets sum to more than 1), ``"drop"``
        leaves it out, so that the targets of a row sum to less than 1.

    Notes
    -----
    The numbers are those of the dense soft labels that `dense` gives, to the last bit; but the memory is that of the
    entries. A mean divides by the number of rows, whatever their targets sum to.

    Examples
    --------
    >>> import lossfast as lf
    >>> teacher = lf.TopK([[2, 0]], [[0.7, 0.2]])
    >>> teacher.dense(4)
    array([[0.2 , 0.05, 0.7 , 0.05]])
    >>> logits = [[1.0, 0.0, 2.0, 0.0]]
    >>> lf.cross_entropy(logits, teacher) == lf.cross_entropy(logits, teacher.dense(4))
    True
    """

    __slots__ = ("indices", "probs", "rest")

    def __init__(self, indices: Any, probs: Any, *, rest: str = "uniform") -> None:
        from ._arguments import as_array

        self.indices, self.probs = as_array("indices", indices), as_array("probs", probs)
        if self.indices.dtype.kind not in "iu":
            raise TypeError(f"indices must be of an integer dtype, got {self.indices.dtype}")
        if self.probs.dtype.kind in "iub":
            raise TypeError(f"probs must be floating, got {self.probs.dtype}")
        if self.indices.shape != self.probs.shape:
            raise ValueError(
                f"indices have shape {self.indices.shape} and probs shape {self.probs.shape}: they must agree"
            )
        if self.indices.ndim == 0:
            raise ValueError("indices and probs need an axis for the classes that are named, got scalars")
        if not isinstance(rest, str) or rest not in RESTS:
            raise ValueError(f"rest must be one of {', '.join(map(repr, RESTS))}, got {rest!r}")
        self.rest = rest

    def __repr__(self) -> str:
        return f"lossfast.TopK(indices of shape {self.indices.shape}, probs of {self.probs.dtype}, rest={self.rest!r})"

    def dense(self, classes: int) -> np.ndarray:
        """The targets of that many classes as an array, float64."""
        rows = self.indices.shape[:-1]
        made = of_top_k(self, rows, classes, None)
        return made.load_rows(0, math.prod(rows), np.empty((math.prod(rows), classes))).reshape(*rows, classes)


class SparseTargets:
    """Targets as backends take them: each row's entries by ascending class, and what its other classes have."""

    __slots__ = ("classes", "rest", "shape", "starts", "targets", "where")

    def __init__(
        self,
        shape: tuple[int, ...],
        starts: np.ndarray,
        classes: np.ndarray,
        targets: np.ndarray,
        rest: np.ndarray | None = None,
        where: np.ndarray | None = None,
    ) -> None:
        self.shape = shape  #: of the logits, the class axis last
        self.starts, self.classes, self.targets = starts, classes, targets  #: contiguous: int64, int64, float64
        self.rest = rest  #: None for 0, or float64, contiguous, of each row in C order
        self.where = where  #: the mask, where there is a rest: it goes to no masked class

    def load(self, where: Any, out: np.ndarray, columns: slice | None = None) -> np.ndarray:
        """Rows at some spots (see `lossfast.backends.numpy.spots`), of some classes, into ``out``."""
        rows = self.shape[:-1]
        steps = [math.prod(rows[axis + 1 :]) for axis in range(len(rows))]
        for index, offset, count in where:
            first = sum(
                (part.start if isinstance(part, slice) else part) * step
                for part, step in zip((part for part in index if part is not Ellipsis), steps, strict=False)
            )
            self.load_rows(first, first + count, out[offset : offset + count], columns)
        return out

    def load_rows(self, start: int, stop: int, out: np.ndarray, columns: slice | None = None) -> np.ndarray:
        """Rows ``start`` to ``stop``, counted in C order."""
        first, end = (0, self.shape[-1]) if columns is None else (columns.start, columns.stop)
        out[...] = 0.0 if self.rest is None else self.rest[start:stop, None]
        if self.rest is not None and self.where is not None:
            for row in range(start, stop):
                out[row - start][~self.where[np.unravel_index(row, self.where.shape[:-1])][first:end]] = 0.0
        entries = slice(self.starts[start], self.starts[stop])
        rows = np.repeat(np.arange(stop - start), np.diff(self.starts[start : stop + 1]))
        column, values = self.classes[entries], self.targets[entries]
        if columns is not None:
            here = (column >= first) & (column < end)
            rows, column, values = rows[here], column[here] - first, values[here]
        out[rows, column] = values
        return out

    def place(self, row: int) -> Any:
        """A row's index, as messages name it."""
        return _place(row, self.shape[:-1])

    def row_sums(self) -> np.ndarray:
        """The sum of each row's targets over the classes that are not masked."""
        row, live = self.live()
        sums = np.bincount(row, np.where(live, self.targets, 0.0), minlength=len(self.starts) - 1)
        return sums if self.rest is None else sums + self.rest * self.others()

    def live(self) -> tuple[np.ndarray, Any]:
        """Of each entry the row, and whether its class is not masked."""
        row = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        if self.where is None:
            return row, True
        index = (*np.unravel_index(row, self.where.shape[:-1]), self.classes)
        return row, self.where[index]

    def others(self) -> np.ndarray:
        """How many classes of each row are neither named nor masked."""
        size = len(self.starts) - 1
        if self.where is None:
            return self.shape[-1] - np.diff(self.starts)
        row, live = self.live()
        return np.count_nonzero(self.where, axis=-1).reshape(size) - np.bincount(row[live], minlength=size)


def is_sparse(targets: Any) -> bool:
    """Whether these are targets of this module, or a sparse matrix of SciPy's."""
    return isinstance(targets, TopK) or hasattr(targets, "tocsr") or is_csr(targets)


def is_csr(targets: Any) -> bool:
    """By what it has, not by its class, so that SciPy need not be there."""
    return all(hasattr(targets, name) for name in ("indptr", "indices", "data", "shape"))


def of_targets(name: str, targets: Any, rows: tuple[int, ...], classes: int, where: np.ndarray | None) -> SparseTargets:
    """What backends take, checked; ``rows`` are the logits' shape without the class axis."""
    if where is not None and not rows:
        where = where[None]
    if isinstance(targets, TopK):
        return of_top_k(targets, rows, classes, where)
    return of_csr(name, targets, rows, classes, where)


def of_top_k(targets: TopK, rows: tuple[int, ...], classes: int, where: np.ndarray | None) -> SparseTargets:
    indices = targets.indices
    if indices.shape[:-1] != rows:
        raise ValueError(
            f"indices have shape {indices.shape}, but logits with rows of shape {rows} need {(*rows, 'K')}"
        )
    size, named = math.prod(rows), indices.shape[-1]
    indices = indices.reshape(size, named)
    _refuse_beyond(indices.ravel(), classes, lambda at: divmod(at, named)[0], rows)
    order = np.argsort(indices, axis=-1, kind="stable")
    column = np.take_along_axis(indices, order, -1).astype(INT64, copy=False)
    twice = column[:, 1:] == column[:, :-1]
    if twice.any():
        at = np.unravel_index(int(twice.argmax()), twice.shape)
        raise ValueError(f"indices name class {int(column[at])} twice in row {_place(int(at[0]), rows)}")
    values = np.take_along_axis(targets.probs.reshape(size, named).astype(FLOAT64), order, -1)
    starts = np.arange(size + 1, dtype=INT64) * named
    made = SparseTargets((*rows, classes), starts, column.ravel(), values.ravel(), where=where)
    if targets.rest == "uniform":
        others, total = made.others(), values.sum(-1)
        left = np.where(total < 1.0, 1.0 - total, np.where(total != total, total, 0.0))
        made.rest = np.where(others > 0, left / np.maximum(others, 1), 0.0)
    return made


def of_csr(name: str, targets: Any, rows: tuple[int, ...], classes: int, where: np.ndarray | None) -> SparseTargets:
    size, kind = math.prod(rows), type(targets).__name__
    if len(targets.shape) != 2 or tuple(targets.shape) != (size, classes):
        raise ValueError(
            f"{name} are sparse, of shape {tuple(targets.shape)}, but logits with {size} rows of {classes} classes "
            f"need shape {(size, classes)}: a row for each row of logits, whatever the class axis"
        )
    if hasattr(targets, "tocsr"):
        targets = targets.tocsr()
    starts, column, values = (np.asarray(getattr(targets, part)) for part in ("indptr", "indices", "data"))
    for part, array in (("indptr", starts), ("indices", column)):
        if array.dtype.kind not in "iu":
            raise TypeError(f"{name}.{part} must be of an integer dtype, got {array.dtype}")
    if values.dtype.kind not in "fiub" and values.dtype.name != "bfloat16":
        raise TypeError(f"{name} hold {values.dtype}, which is not supported: they must be real numbers")
    if starts.shape != (size + 1,) or column.ndim != 1 or values.shape != column.shape:
        raise ValueError(
            f"{name} is no CSR matrix of {size} rows: indptr, indices and data have shapes {starts.shape}, "
            f"{column.shape} and {values.shape}"
        )
    starts = starts.astype(INT64)  # a copy: what it says is relied upon
    if starts[0] != 0 or starts[-1] > len(column) or (starts[1:] < starts[:-1]).any():
        raise ValueError(f"{name}.indptr must begin with 0, not descend, and end within the {len(column)} entries")
    column, values = column[: starts[-1]], values[: starts[-1]]
    _refuse_beyond(column, classes, lambda at: int(np.searchsorted(starts, at, "right")) - 1, rows)
    if not _ascends(starts, column):
        if not hasattr(targets, "sum_duplicates"):
            raise ValueError(f"{name} ({kind}) must have the classes of a row ascending, and each once")
        targets = targets.copy()
        targets.sum_duplicates()  # which sorts them too
        starts, column, values = targets.indptr.astype(INT64), targets.indices, targets.data
    column, values = (np.ascontiguousarray(array, dtype) for array, dtype in ((column, INT64), (values, FLOAT64)))
    return SparseTargets((*rows, classes), starts, column, values, where=where)


def _ascends(starts: np.ndarray, column: np.ndarray) -> bool:
    """Whether each row's classes do, strictly."""
    falls = column[1:] <= column[:-1]
    first = starts[1:-1]
    first = first[(first > 0) & (first < len(column))]
    falls[first - 1] = False  # where one row ends and the next begins
    return not falls.any()


def _refuse_beyond(column: np.ndarray, classes: int, row_of: Any, rows: tuple[int, ...]) -> None:
    bad = (column < 0) | (column >= classes)
    if bad.any():
        at = int(bad.argmax())
        count = int(np.count_nonzero(bad))
        raise IndexError(
            f"class {int(column[at])} at row {_place(row_of(at), rows)} is out of bounds for {classes} classes "
            f"({count} such {'entry' if count == 1 else 'entries'})"
        )


def _place(row: int, rows: tuple[int, ...]) -> Any:
    index = tuple(map(int, np.unravel_index(row, rows)))
    return index[0] if len(index) == 1 else index
