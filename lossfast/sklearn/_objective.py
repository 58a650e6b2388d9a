"""The objective of linear models: a mean of losses of ``X @ coef.T + intercept``, with a quadratic penalty.

Values, gradients, products with the Hessian and the Hessian's diagonal are computed in blocks of rows that stay in the
cache, by NumPy's BLAS and one loss: of all the raw predictions only a block's ever exist, and the data are read where
they lie. Blocks belong to slices, whose results are added up in their order, so that no bit depends on the number of
threads.
"""

from __future__ import annotations

import contextlib
import functools
import math
import sys
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import _threads

#: The bytes of a block, and the multiplications in its product, below which OpenBLAS takes a kernel twice as quick.
BLOCK_BYTES, BLOCK_PRODUCT = 1 << 18, 1_000_000
#: Few rows make BLAS slow, many make the last block of a thread a long wait.
LEAST_ROWS, MOST_ROWS = 16, 8192
#: So many slices at the most, each with a gradient of its own; and at least so many multiplications for each.
SLICES, SLICE_PRODUCT = 32, 2_000_000
#: Multiplications for products of pairs of features that nobody notices.
WHITENING_PRODUCT = 50_000_000
#: More unknowns than this for each output are scaled one by one: the products of all pairs would cost too much.
MOST_WHITENED = 1200


@functools.cache
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()


_lock = threading.Lock()
_serial: list[Any] = []  # what restores BLAS's threads, once for each that wants it serial


@contextlib.contextmanager
def serial_blas() -> Iterator[None]:
    """Within, BLAS works on the calling thread: blocks are what is handed to threads.

    Fits at the same time share one limit, which the last of them lifts.
    """
    with _lock:
        _serial.append(_serial[0] if _serial else _blas().limit(limits=1, user_api="blas"))
    try:
        yield
    finally:
        with _lock:
            limit = _serial.pop()
            if not _serial:
                limit.restore_original_limits()


# --------------------------------------------------------------------------------------------------------- links


class Link:
    """From a linear prediction to what a loss compares with its target, and on to what a model predicts.

    ``inverse`` gives the mean of a linear prediction, ``forward`` the linear prediction of a mean. ``composed`` says
    that the loss takes the mean rather than the linear prediction, so that the chain rule is applied here.
    """

    def __init__(self, name: str, composed: bool) -> None:
        self.name = name
        self.composed = composed and name != "identity"

    def __repr__(self) -> str:
        return f"Link({self.name!r}, composed={self.composed})"

    def inverse(self, raw: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The means."""
        import lossfast as lf

        if self.name == "identity":
            return raw
        with np.errstate(over="ignore", under="ignore"):
            return np.exp(raw, out=out) if self.name == "log" else lf.sigmoid(raw, out=out)

    def forward(self, mean: Any) -> np.ndarray:
        """The linear predictions of means; infinite at the ends of their range."""
        mean = np.asarray(mean, float)
        if self.name == "identity":
            return mean
        with np.errstate(divide="ignore"):
            return np.log(mean) if self.name == "log" else np.log(mean) - np.log1p(-mean)

    def slopes(self, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First and second derivative of the mean in the linear prediction."""
        if self.name == "log":
            return mean, mean
        first = mean * (1 - mean)
        return first, first * (1 - 2 * mean)


def link_of(loss: Any, name: str = "auto") -> Link:
    """The link of that name for a pointwise loss, or the one that its arguments call for."""
    options = loss._defaults
    if options.get("log_input") is True or options.get("link") == "log":
        own = "log"
    elif "log_input" in options or "link" in options:
        own = "identity"
    elif loss.group == "classification" and not {"pred", "target"} & {
        argument for argument, domain in loss.domains.items() if argument == "pred" or domain == "-1 or 1"
    }:
        own = "logit"
    else:
        own = "identity"
    if name == own or name == "auto" and own != "identity":
        return Link(own, composed=False)
    if own != "identity":
        raise ValueError(
            f"{loss!r} takes predictions on the {own} scale already, so that link must be 'auto' or {own!r}, "
            f"got {name!r}"
        )
    if name == "auto":
        positive = "log_input" in options or options.get("power", 0) > 0 or loss.name == "half_gamma_deviance"
        domain = loss.domains.get("pred")
        name = "log" if positive or domain in ("> 0", ">= 0", "> -1") else "logit" if domain else "identity"
    return Link(name, composed=True)


# ---------------------------------------------------------------------------------------------------------- terms


def class_totals(target: np.ndarray, weight: np.ndarray | None, classes: int) -> np.ndarray:
    """The weight of each class: of numbers of classes, or of soft labels."""
    if target.ndim == 1:
        return np.bincount(target, weight, classes).astype(float)
    return target.sum(0, dtype=float) if weight is None else weight @ target


class RowTerms:
    """What the rows of a block add to the objective, for a loss over a class axis."""

    def __init__(self, loss: Any, target: Any, weight: np.ndarray | None, **options: Any) -> None:
        self.loss = loss.bind(reduction="sum", n_threads=1, check=False, **options)
        self.target = target
        self.weight = weight

    def at(self, rows: slice) -> tuple[Any, np.ndarray | None]:
        return self.target[rows], None if self.weight is None else self.weight[rows]

    def value(self, raw: np.ndarray, rows: slice) -> float:
        target, weight = self.at(rows)
        return self.loss(raw, target, sample_weight=weight)

    def value_and_grad(self, raw: np.ndarray, rows: slice) -> float:
        """The sum of the losses; their gradients are written over the raw predictions."""
        target, weight = self.at(rows)
        return self.loss.value_and_grad(raw, target, sample_weight=weight, grad_out=raw)[0]

    def hvp(self, raw: np.ndarray, v: np.ndarray, rows: slice) -> np.ndarray:
        target, weight = self.at(rows)
        return self.loss.hvp(raw, target, v, sample_weight=weight)

    def diagonal(self, raw: np.ndarray, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Gradient and the Hessian's diagonal, with respect to the raw predictions."""
        target, weight = self.at(rows)
        return self.loss.grad_and_hess(raw, target, sample_weight=weight)


class PointwiseTerms(RowTerms):
    """The same for a pointwise loss, and a link that it does not have itself."""

    def __init__(self, loss: Any, target: np.ndarray, weight: np.ndarray | None, link: Link) -> None:
        self.loss = loss.bind(reduction="sum", n_threads=1, **({"check": False} if loss.domains else {}))
        self.target = target
        self.weight = weight
        self.link = link

    def value(self, raw: np.ndarray, rows: slice) -> float:
        return super().value(self.link.inverse(raw) if self.link.composed else raw, rows)

    def value_and_grad(self, raw: np.ndarray, rows: slice) -> float:
        if not self.link.composed:
            return super().value_and_grad(raw, rows)
        mean = self.link.inverse(raw)
        first, _ = self.link.slopes(mean)
        raw[...] = mean
        value = super().value_and_grad(raw, rows)
        raw *= first
        return value

    def hvp(self, raw: np.ndarray, v: np.ndarray, rows: slice) -> np.ndarray:
        if not self.link.composed:
            return super().hvp(raw, v, rows)
        return self.diagonal(raw, rows)[1] * v

    def diagonal(self, raw: np.ndarray, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        if not self.link.composed:
            return super().diagonal(raw, rows)
        mean = self.link.inverse(raw)
        first, second = self.link.slopes(mean)
        grad, hess = super().diagonal(mean, rows)
        return grad * first, hess * first * first + grad * second


class RoundedTerms(PointwiseTerms):
    """The same for a loss of straight lines, averaged over an interval around each prediction.

    That makes it a parabola around a kink and leaves it alone elsewhere. Where the interval has one kink, two lines
    meet there that values and slopes at its ends determine: so the average is exact.
    """

    def __init__(self, loss: Any, target: np.ndarray, weight: np.ndarray | None, radius: float) -> None:
        super().__init__(loss, target, weight, Link("identity", composed=False))
        self.single = self.loss.bind(reduction="none")
        self.radius = radius

    def _averaged(self, raw: np.ndarray, rows: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        target, weight = self.at(rows)
        h = self.radius
        low, low_slope = self.single.value_and_grad(raw - h, target, sample_weight=weight)
        high, high_slope = self.single.value_and_grad(raw + h, target, sample_weight=weight)
        bend = high_slope - low_slope
        slope = (high - low) / (2 * h)
        bent = np.abs(bend) > 1e-6 * (np.abs(high_slope) + np.abs(low_slope))
        share = np.divide(2 * h * high_slope - (high - low), bend, out=np.zeros_like(bend), where=bent)
        below = np.clip(share, 0, 2 * h) * (slope - low_slope)
        value = 0.5 * (low + high) - np.where(bent, 0.5 * below, 0)
        return value, np.where(bent, slope, 0.5 * (low_slope + high_slope)), np.where(bent, bend / (2 * h), 0)

    def value(self, raw: np.ndarray, rows: slice) -> float:
        return float(self._averaged(raw, rows)[0].sum(dtype=float))

    def value_and_grad(self, raw: np.ndarray, rows: slice) -> float:
        value, raw[...], _ = self._averaged(raw, rows)
        return float(value.sum(dtype=float))

    def hvp(self, raw: np.ndarray, v: np.ndarray, rows: slice) -> np.ndarray:
        return self._averaged(raw, rows)[2] * v

    def diagonal(self, raw: np.ndarray, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        return self._averaged(raw, rows)[1:]


def is_kinked(loss: Any) -> bool:
    """Whether a pointwise loss is made of straight lines."""
    pred = np.linspace(-3, 3, 62)
    options = {"check": False} if loss.domains else {}
    kinks = False
    for target in (1.0, -1.0):
        if target < 0 and loss.domains.get("target") != "-1 or 1":
            continue
        grad, hess = loss.grad_and_hess(pred, np.full_like(pred, target), reduction="none", **options)
        if hess.any():
            return False
        kinks |= bool(np.ptp(grad) > 0)
    return kinks


# ----------------------------------------------------------------------------------------------------------- rows


class Blocks:
    """The rows of dense or CSR data, a block at a time, in a dtype that BLAS takes."""

    def __init__(self, X: Any, outputs: int) -> None:
        self.X = X
        self.shape = X.shape
        self.outputs = outputs
        self.is_sparse = not isinstance(X, np.ndarray)
        small = X.dtype.kind == "f" and X.dtype.itemsize <= 4
        self.dtype = np.dtype(np.float32 if small else np.float64)
        width = max(1, X.nnz // max(1, X.shape[0]) if self.is_sparse else X.shape[1])
        rows = BLOCK_BYTES // (self.dtype.itemsize * max(width, outputs))
        rows = min(rows, BLOCK_PRODUCT // (width * outputs))
        self.rows = min(max(rows, LEAST_ROWS), MOST_ROWS)
        per_slice = max(1, SLICE_PRODUCT // (self.rows * width * outputs), -(-X.shape[0] // (self.rows * SLICES)))
        self.slice = per_slice * self.rows

    def within(self, start: int, stop: int) -> Iterator[tuple[slice, Any]]:
        """The blocks of a slice."""
        for first in range(start, stop, self.rows):
            last = min(first + self.rows, stop)
            yield slice(first, last), self.block(first, last)

    def block(self, first: int, last: int) -> Any:
        """These rows; views, but where the dtype is to change."""
        if not self.is_sparse:
            return self.X[first:last].astype(self.dtype, copy=False)
        X = self.X
        begin, end = X.indptr[first], X.indptr[last]
        data = X.data[begin:end].astype(self.dtype, copy=False)
        block = type(X)((last - first, X.shape[1]), dtype=self.dtype)
        block.data, block.indices, block.indptr = data, X.indices[begin:end], X.indptr[first : last + 1] - begin
        return block

    def coefficients(self, coef: np.ndarray) -> np.ndarray:
        """Coefficients as `times` wants them: (d, K), or (d,) for one output."""
        coef = coef.astype(self.dtype, copy=False)
        return np.ascontiguousarray(coef.T) if self.outputs > 1 else coef[0]

    def times(self, block: Any, transposed: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The block's raw predictions without intercepts."""
        return block @ transposed if self.is_sparse else np.matmul(block, transposed, out=out)


def raw_predictions(X: Any, coef: np.ndarray, intercept: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Raw predictions of a block of rows after another: ``X @ coef.T + intercept``, in X's precision."""
    blocks = Blocks(X, coef.shape[0])
    transposed, intercept = blocks.coefficients(coef), intercept.astype(blocks.dtype, copy=False)
    if blocks.outputs == 1:
        intercept = intercept[0]
    for rows, block in blocks.within(0, X.shape[0]):
        yield rows, blocks.times(block, transposed) + intercept


# ------------------------------------------------------------------------------------------------------ objective


def _both(a: Any, b: Any) -> Any:
    value, gradient = a
    gradient += b[1]
    return value + b[0], gradient


def _sum(a: Any, b: Any) -> Any:
    a += b
    return a


class LinearObjective:
    """``sum(losses) / total + sum(precision * (W - center)**2) / 2`` as a function of ``W``.

    ``W`` is float64 of shape (outputs, features), with the intercepts as a last column where there are any.

    Parameters
    ----------
    X : ndarray or CSR of shape (rows, features)
    terms : RowTerms
        The losses of the rows.
    outputs : int
    total : float
        What the losses' sum is divided by.
    fit_intercept : bool
    precision : ndarray that broadcasts to W
        Of the penalty: 0 where there is none.
    center : ndarray of W's shape, optional
        Where the penalty is 0; the origin unless given.
    n_threads : int
    """

    def __init__(
        self,
        X: Any,
        terms: RowTerms,
        *,
        outputs: int,
        total: float,
        fit_intercept: bool,
        precision: np.ndarray,
        center: np.ndarray | None = None,
        n_threads: int = 1,
    ) -> None:
        self.blocks = Blocks(X, outputs)
        self.terms = terms
        self.total = total
        self.fit_intercept = fit_intercept
        self.features = X.shape[1]
        self.shape = (outputs, self.features + fit_intercept)
        self.precision = np.broadcast_to(precision, self.shape)
        self.center = center
        self.n_threads = n_threads

    # -------------------------------------------------------------------------------------------------- one block

    def _parts(self, W: np.ndarray) -> tuple[np.ndarray, Any]:
        """Coefficients as products want them, and the intercepts of as many rows as a block has."""
        blocks = self.blocks
        coefficients = blocks.coefficients(W[:, : self.features])
        if not self.fit_intercept:
            return coefficients, None
        intercepts = W[:, -1].astype(blocks.dtype)
        return coefficients, intercepts[0] if blocks.outputs == 1 else np.tile(intercepts, blocks.rows)

    def _raw(self, block: Any, parts: tuple[np.ndarray, Any], out: np.ndarray) -> np.ndarray:
        coefficients, intercepts = parts
        raw = self.blocks.times(block, coefficients, out[: block.shape[0]])
        if intercepts is not None:  # all in one stretch: a loop over few classes at a time is slow
            flat = raw.reshape(-1)
            flat += intercepts[: flat.size] if np.ndim(intercepts) else intercepts
        return raw

    def _add_product(self, g: np.ndarray, block: Any, to: np.ndarray, scratch: np.ndarray) -> None:
        """Add what the block's derivatives in the raw predictions are as derivatives in W."""
        coef = to[:, : self.features]
        if self.blocks.is_sparse:
            coef += (block.T @ g).T
        else:
            coef += np.matmul(g.T, block, out=scratch[0] if g.ndim == 1 else scratch)
        if self.fit_intercept:
            to[:, -1] += g.sum() if g.ndim == 1 else np.ones(len(g), g.dtype) @ g

    def _buffers(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        blocks = self.blocks
        lengths = (blocks.rows,) if blocks.outputs == 1 else (blocks.rows, blocks.outputs)
        scratch = np.empty((0 if blocks.is_sparse else blocks.outputs, self.features), blocks.dtype)
        return np.empty(lengths, blocks.dtype), np.zeros(self.shape), scratch

    def _run(self, work: Any, plus: Any) -> Any:
        def quietly(start: int, stop: int) -> Any:
            with np.errstate(over="ignore", invalid="ignore"):  # a line search may try far too much
                return work(start, stop)

        with serial_blas():
            return _threads.run(quietly, self.blocks.shape[0], self.blocks.slice, self.n_threads, plus)

    # ---------------------------------------------------------------------------------------------------- the whole

    def _penalty(self, W: np.ndarray) -> tuple[float, np.ndarray]:
        away = W if self.center is None else W - self.center
        pull = self.precision * away
        return 0.5 * float(np.vdot(pull, away)), pull

    def value(self, W: np.ndarray) -> float:
        """The objective."""
        parts = self._parts(W)

        def work(start: int, stop: int) -> float:
            buffer, _, _ = self._buffers()
            return sum(
                self.terms.value(self._raw(block, parts, buffer), rows)
                for rows, block in self.blocks.within(start, stop)
            )

        return self._run(work, float.__add__) / self.total + self._penalty(W)[0]

    def value_and_grad(self, W: np.ndarray) -> tuple[float, np.ndarray]:
        """The objective and its gradient, in one pass over the rows."""
        parts = self._parts(W)

        def work(start: int, stop: int) -> tuple[float, np.ndarray]:
            value = 0.0
            buffer, gradient, scratch = self._buffers()
            for rows, block in self.blocks.within(start, stop):
                raw = self._raw(block, parts, buffer)
                value += self.terms.value_and_grad(raw, rows)
                self._add_product(raw, block, gradient, scratch)
            return value, gradient

        value, gradient = self._run(work, _both)
        penalty, pull = self._penalty(W)
        gradient /= self.total
        gradient += pull
        return value / self.total + penalty, gradient

    def hvp(self, W: np.ndarray, V: np.ndarray) -> np.ndarray:
        """The Hessian at W times V: exact."""
        parts = self._parts(W)
        along = self._parts(V)

        def work(start: int, stop: int) -> np.ndarray:
            buffer, product, scratch = self._buffers()
            direction = np.empty_like(buffer)
            for rows, block in self.blocks.within(start, stop):
                raw, v = self._raw(block, parts, buffer), self._raw(block, along, direction)
                self._add_product(self.terms.hvp(raw, v, rows), block, product, scratch)
            return product

        return self._run(work, _sum) / self.total + self.precision * V

    def curvature(self, W: np.ndarray) -> np.ndarray:
        """The diagonal of the Hessian of the losses' sum, or of its estimate by squared gradients if that is 0.

        Neither is divided by the total, and the penalty is not in it.
        """
        parts = self._parts(W)

        def work(start: int, stop: int) -> np.ndarray:
            buffer, _, scratch = self._buffers()
            found = np.zeros((2, *self.shape))
            for rows, block in self.blocks.within(start, stop):
                grad, hess = self.terms.diagonal(self._raw(block, parts, buffer), rows)
                squared = block.multiply(block).tocsr() if self.blocks.is_sparse else block * block
                _, weight = self.terms.at(rows)
                if weight is not None:  # a squared gradient has its weight twice
                    with np.errstate(divide="ignore", invalid="ignore"):
                        root = np.where(weight > 0, 1 / np.sqrt(weight), 0).astype(grad.dtype)
                    grad = grad * (root if grad.ndim == 1 else root[:, None])
                for number, each in enumerate((np.maximum(hess, 0), grad * grad)):
                    self._add_product(each, squared, found[number], scratch)
            return found

        hessian, squares = self._run(work, _sum)
        return hessian if hessian.any() else squares

    # ------------------------------------------------------------------------------------------------- coordinates

    def whitening(self, W: np.ndarray) -> Whitening:
        """Coordinates in which the objective's Hessian is near the identity; from some of the rows, if they are many.

        The Hessian of a softmax model is below that of least squares with weights that are the same for all classes
        (Boehning 1992); so one square root serves all outputs.
        """
        blocks, (outputs, unknowns) = self.blocks, self.shape
        count = blocks.shape[0]
        if blocks.is_sparse or unknowns > MOST_WHITENED:
            moments = self.curvature(W).mean(0) / self.total
            return Whitening(self.shape, scale=_inverse_roots(moments + self.precision.mean(0)))
        # What about an evaluation costs; but four rows for each unknown, and all rows where that costs next to nothing.
        wanted = max(4 * unknowns, 2 * outputs * count // unknowns, WHITENING_PRODUCT // unknowns**2)
        step = max(1, count // max(wanted, 1))
        parts = self._parts(W)
        gram, used = np.zeros((unknowns, unknowns)), 0.0
        buffer, _, _ = self._buffers()
        taken = -(-count // step)
        for first in range(0, taken, blocks.rows):
            last = min(first + blocks.rows, taken)
            rows = slice(first * step, (last - 1) * step + 1, step)
            block = self.blocks.X[rows].astype(blocks.dtype, copy=False)
            grad, hess = self.terms.diagonal(self._raw(block, parts, buffer), rows)
            hess = np.maximum(hess if hess.ndim == 1 else hess.mean(1), 0)
            _, weight = self.terms.at(rows)
            plain = np.ones(len(block)) if weight is None else weight
            used += float(plain.sum())
            root = np.sqrt(hess if hess.any() else plain).astype(blocks.dtype)
            scaled = np.empty((len(block), unknowns), blocks.dtype)
            np.multiply(block, root[:, None], out=scaled[:, : self.features])
            if self.fit_intercept:
                scaled[:, -1] = root
            with np.errstate(over="ignore", invalid="ignore"):
                gram += scaled.T @ scaled
        gram *= 1 / used if used > 0 else 0.0
        if not np.isfinite(gram).all():
            raise ValueError("the data are so large that their squares overflow: scale them")
        diagonal = np.diagonal(gram).copy()
        # What the rows taken do not show, others may.
        slack = max(1e4 * float(np.finfo(blocks.dtype).eps), 1e-3 * (step > 1)) * diagonal
        if step > 1:
            slack[diagonal == 0] = 1e-3 * diagonal.mean()
        gram[np.diag_indices(unknowns)] += self.precision.mean(0) + slack
        return Whitening(self.shape, gram=gram)


def _inverse_roots(curvature: np.ndarray) -> np.ndarray:
    good = np.isfinite(curvature) & (curvature > 0)
    return np.where(good, 1 / np.sqrt(np.where(good, curvature, 1)), 1.0)


class Whitening:
    """A linear change of coordinates: ``W = V @ P``, with P a triangular or a diagonal matrix."""

    def __init__(self, shape: tuple[int, int], gram: np.ndarray | None = None, scale: np.ndarray | None = None) -> None:
        self.shape = shape
        self.matrix = None
        if gram is not None:
            from scipy.linalg import cholesky, solve_triangular

            unit = _inverse_roots(np.diagonal(gram))
            try:
                root = cholesky(gram * unit * unit[:, None], lower=True, check_finite=False)
                # gram = L L', so that with W = V inv(L) the Hessian in V is the identity.
                inverse = solve_triangular(root, np.eye(len(gram)), lower=True, check_finite=False)
                self.matrix = np.ascontiguousarray(inverse * unit)
            except np.linalg.LinAlgError:
                scale = unit
        self.scale = scale

    def to_weights(self, V: np.ndarray) -> np.ndarray:
        """The weights with these coordinates."""
        return V @ self.matrix if self.matrix is not None else V * self.scale

    def gradient(self, g: np.ndarray) -> np.ndarray:
        """A gradient in the weights as one in the coordinates."""
        return g @ self.matrix.T if self.matrix is not None else g * self.scale


# -------------------------------------------------------------------------------------------------------- solving

#: SciPy's names of the methods, by those that scikit-learn's users know.
SOLVERS = {"lbfgs": "L-BFGS-B", "newton-cg": "Newton-CG", "trust-ncg": "trust-ncg"}
#: Steps between one choice of coordinates and the next.
REFRESH = {"lbfgs": 25, "newton-cg": 3, "trust-ncg": 3}


class Solution(NamedTuple):
    """What `minimise` has found."""

    weights: np.ndarray
    value: float
    steepest: float  #: the largest entry of the gradient
    iterations: int
    reason: str  #: "" if the tolerance is met; otherwise why it is not


class _Progress:
    """A bar on standard error, or lines where tqdm is missing; nothing unless ``verbose``."""

    def __init__(self, verbose: Any, total: int, what: str) -> None:
        self.what = what
        self.bar: Any = None
        self.off = not verbose
        if verbose:
            with contextlib.suppress(ImportError):
                from tqdm import tqdm

                self.bar = tqdm(total=total, desc=what, unit="step", file=sys.stderr)

    def step(self, number: int, value: float, steepest: float) -> None:
        text = f"objective {value:.9g}, largest derivative {steepest:.3g}"
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update()
        elif not self.off:
            print(f"{self.what} step {number}: {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def minimise(
    objective: LinearObjective,
    start: np.ndarray,
    *,
    solver: str = "lbfgs",
    max_iter: int = 100,
    tol: float = 1e-4,
    enough: float = 0.0,
    verbose: Any = 0,
    what: str = "fit",
) -> Solution:
    """The weights where no entry of the objective's gradient is above ``tol``, or the last ones before an end.

    It is an end in order if the steps between two choices of coordinates lower the objective by no more than the share
    ``enough``.

    The method works in coordinates that make the objective round; L-BFGS gets new ones every few steps, because the
    rows that matter change on the way.
    """
    with serial_blas():
        value, gradient = objective.value_and_grad(start)
        search = _Search(objective, start, value, gradient, tol, _Progress(verbose, max_iter, what))
        if not np.isfinite(value) or not np.isfinite(search.steepest):
            raise ValueError(
                f"the objective is {value} and its largest derivative {search.steepest} at the start: the data or the "
                "weights are too large for this loss; scale them"
            )
        message, settled = "", False
        try:
            while search.steepest > tol and search.steps < max_iter:
                before = search.value
                message, ended = search.descend(solver, min(REFRESH[solver], max_iter - search.steps))
                settled = enough > 0 and before - search.value <= enough * abs(before)
                # New coordinates may help where the old ones led nowhere, but not for ever.
                if settled or ended and before - search.value <= 1e-12 * abs(before):
                    break
        finally:
            search.progress.close()
    reason = ""
    if search.steepest > tol and not settled:
        reason = "max_iter is too small" if search.steps >= max_iter else f"the solver can get no lower ({message})"
    return Solution(search.W, search.value, search.steepest, search.steps, reason)


class _Search:
    """Where the search for a minimum is, in weights; and the functions that SciPy calls, in other coordinates."""

    def __init__(
        self,
        objective: LinearObjective,
        start: np.ndarray,
        value: float,
        gradient: np.ndarray,
        tol: float,
        progress: _Progress,
    ) -> None:
        self.objective = objective
        self.tol = tol
        self.progress = progress
        self.steps = 0
        self.W, self.value, self.gradient = start, value, gradient
        self.steepest = float(np.abs(gradient).max(initial=0))
        self.last = self.W, self.value, self.gradient  # the last evaluation, which a line search need not take

    def descend(self, solver: str, steps: int) -> tuple[str, bool]:
        """So many steps at the most; the solver's message, and whether it ended by itself."""
        from scipy.optimize import minimize

        self.base = self.W
        self.coordinates = self.objective.whitening(self.base)
        self.at_base = self.value, self.gradient
        self.unit = 1.0
        if solver == "lbfgs":  # it begins with a step of length 1: in these units that is Newton's
            self.unit = float(np.linalg.norm(self.coordinates.gradient(self.gradient))) or 1.0
        options: dict[str, Any] = {"maxiter": steps}
        options.update(
            {
                "lbfgs": {"maxcor": 20, "maxls": 50, "gtol": 0.0, "ftol": 8e-16, "maxfun": 100 * steps + 100},
                "newton-cg": {"xtol": 0.0},
                "trust-ncg": {"gtol": 0.0, "initial_trust_radius": 10.0, "max_trust_radius": 1e6},
            }[solver]
        )
        result = minimize(
            self._value_and_grad,
            np.zeros(self.base.size),
            jac=True,
            method=SOLVERS[solver],
            callback=self._took,
            options=options,
            **({} if solver == "lbfgs" else {"hessp": self._hvp}),
        )
        return str(result.message), self.steepest > self.tol and result.nit < steps

    def _weights(self, v: np.ndarray) -> np.ndarray:
        return self.base + self.coordinates.to_weights(self.unit * v.reshape(self.objective.shape))

    def _evaluate(self, v: np.ndarray) -> None:
        if v.any():
            W = self._weights(v)
            self.last = (W, *self.objective.value_and_grad(W))
        else:
            self.last = (self.base, *self.at_base)

    def _value_and_grad(self, v: np.ndarray) -> tuple[float, np.ndarray]:
        self._evaluate(v)
        _, value, gradient = self.last
        return value if value == value else math.inf, self.unit * self.coordinates.gradient(gradient).ravel()

    def _hvp(self, v: np.ndarray, p: np.ndarray) -> np.ndarray:
        direction = self.coordinates.to_weights(self.unit * p.reshape(self.objective.shape))
        return self.unit * self.coordinates.gradient(self.objective.hvp(self._weights(v), direction)).ravel()

    def _took(self, intermediate_result: Any) -> None:
        """The solver's callback: a step has been taken."""
        self.steps += 1
        if intermediate_result.fun != self.last[1]:
            self._evaluate(intermediate_result.x)
        self.W, self.value, self.gradient = self.last
        self.steepest = float(np.abs(self.gradient).max())
        self.progress.step(self.steps, self.value, self.steepest)
        if self.steepest <= self.tol:
            raise StopIteration
