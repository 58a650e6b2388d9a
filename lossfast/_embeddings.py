"""Losses between embeddings: what their objects have in common, and how they are run.

There are two sorts. A loss of each row (`row_embedding_loss`: triplets, pairs) has a twin in NumPy, for blocks of rows
in float64. A loss of a whole batch (`batch_loss`: every embedding is compared with every other) has a twin that plans
the comparison, tile by tile (`lossfast._similarities`). Neither has kernels of its own: all backends share them.
"""

from __future__ import annotations

import functools
import math
from collections import namedtuple
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from . import _arguments
from ._arguments import FLOAT64, ONE, as_array, own_dtype
from ._jobs import PointwiseJob
from ._loss import _NO_BUFFERS, OPTION_TEXTS, Choice, Decorator, Loss, Parameter, _declare, method
from ._reduction import EMPTY, Reduction, Sum

#: Entries of one buffer of a loss of each row; some fifteen are alive at once.
BLOCK = 8192


class EmbeddingLoss(Loss):
    """A loss between rows that are embeddings: several of them are differentiable, and given by position.

    Attributes
    ----------
    differentiable : tuple of str
        The arguments that have a gradient, which are the first. Where they are several, a gradient is a named tuple of
        arrays, in their order.
    """

    kind = "embedding"
    shared = ("sample_weight", "reduction", "denominator", "empty", "n_threads")
    special: ClassVar = {"check": _arguments.YES_OR_NO}
    texts: ClassVar[Mapping[str, tuple[str, str]]] = {
        "sample_weight": (
            "array_like, optional",
            'A weight for each loss, of the shape of ``reduction="none"``\'s result. A loss that weighs 0 is 0, and so '
            "is its part of the gradient.",
        ),
        "check": (
            "bool, default True",
            "Whether a target out of its domain is an error; if not, the formula is taken as it stands.",
        ),
    }

    def __init__(
        self,
        twin: Callable[..., Any],
        parameters: Mapping[str, Parameter | Choice],
        ulp: Any,
        operands: tuple[str, ...],
        differentiable: int,
        domains: Mapping[str, str] | None = None,
    ) -> None:
        self.operands = operands
        self.differentiable = operands[:differentiable]
        super().__init__(twin, parameters, ulp, ("grad",), group="embeddings", domains=domains)

    # ------------------------------------------------------------------------------------------------------ methods

    def __call__(self, /, *operands: Any, out: Any = None, **options: Any) -> Any:
        """The loss: a float, or with ``reduction="none"`` an array."""
        return self._take(("loss",), operands, options, None if out is None else {"loss": out})[0]

    @method
    def value_and_grad(
        self, /, *operands: Any, out: Any = None, grad_out: Any = None, **options: Any
    ) -> tuple[Any, Any]:
        """The value, and the gradient of that value with respect to every embedding.

        Parameters
        ----------
        out : ndarray, optional
            With ``reduction="none"``, where the losses go.
        grad_out : ndarray or tuple of ndarray, optional
            Where the gradient goes: for each differentiable argument an array of its shape, of any floating dtype (or
            None). Each may be the argument itself.

        Returns
        -------
        value : float or ndarray
        grad : ndarray or named tuple of ndarray
            Of the differentiable arguments' shapes and dtypes, in their order; a named tuple where they are several.
            With ``reduction="none"``, that of the losses' sum: where each row has a loss of its own, its own gradient.

        Examples
        --------
        >>> import lossfast as lf
        >>> value, grad = lf.contrastive_loss.value_and_grad([[3.0, 4.0]], [[0.0, 0.0]], [0])
        >>> value, grad.x1, grad.x2
        (12.5, array([[3., 4.]]), array([[-3., -4.]]))
        """
        buffers = None if out is grad_out is None else {"loss": out, "grad": grad_out}
        return self._take(("loss", "grad"), operands, options, buffers)

    @method
    def grad(self, /, *operands: Any, out: Any = None, **options: Any) -> Any:
        """The gradient of the value with respect to every embedding.

        Parameters
        ----------
        out : ndarray or tuple of ndarray, optional
            Where it goes: for each differentiable argument an array of its shape, of any floating dtype (or None). Each
            may be the argument itself.

        Returns
        -------
        ndarray or named tuple of ndarray
            As `value_and_grad` gives it.

        Examples
        --------
        >>> import lossfast as lf
        >>> lf.contrastive_loss.grad([[3.0, 4.0]], [[0.0, 0.0]], [0]).x1
        array([[3., 4.]])
        """
        return self._take(("grad",), operands, options, None if out is None else {"grad": out})[0]

    @method(without=("reduction",))
    def reduce(self, /, *operands: Any, **options: Any) -> Reduction:
        """The losses' sum and weight, to be merged with those of other batches.

        A loss that compares all embeddings of a batch is not the same for its parts: merged are the losses that each
        batch has by itself.

        Returns
        -------
        Reduction
            With ``sum``, ``weight``, ``count``, ``mean``, ``merge`` and ``+``.

        Examples
        --------
        >>> import lossfast as lf
        >>> batches = [([[3.0, 4.0]], [[0.0, 0.0]], [0]), ([[1.0, 0.0]], [[0.0, 0.0]], [0])]
        >>> sum(lf.contrastive_loss.reduce(*batch) for batch in batches).mean
        6.5
        """
        if "reduction" in options:
            raise TypeError("reduce() takes no reduction: its result is the same for all of them")
        # The mean is what an object bound to another reduction is reduced to as well.
        run = self._prepared(("loss",), operands, {**options, "reduction": "mean"}, _NO_BUFFERS)
        total = run.compute(1.0)
        return Reduction(total, run.weight, run.count, run.options["denominator"], run.options["empty"])

    # -------------------------------------------------------------------------------------------------------- calls

    def _take(
        self, wanted: tuple[str, ...], operands: tuple[Any, ...], options: dict[str, Any], buffers: Any
    ) -> tuple[Any, ...]:
        run = self._prepared(wanted, operands, options, buffers or _NO_BUFFERS)
        results = run.finish()
        return tuple([results[name] for name in wanted])

    def _prepared(
        self, wanted: tuple[str, ...], operands: tuple[Any, ...], options: dict[str, Any], buffers: Mapping[str, Any]
    ) -> _Run:
        settled = self._settle(options) if options else self._defaults
        if len(operands) != len(self.operands):
            raise TypeError(
                f"{self!r} takes {len(self.operands)} positional arguments ({', '.join(self.operands)}), got "
                f"{len(operands)}"
            )
        arrays = dict(zip(self.operands, map(as_array, self.operands, operands), strict=True))
        return self._runs(self, wanted, arrays, settled, buffers)

    _runs: ClassVar[Callable[..., _Run]]


@functools.cache
def _gradient(names: tuple[str, ...]) -> Any:
    """The class of gradients with these names."""
    base = namedtuple("Gradient", names)  # type: ignore[misc]
    reduce = {
        "__slots__": (),
        "__doc__": "The gradient with respect to each differentiable argument.",
        "__reduce__": lambda self: (_restored, (names, tuple(self))),
    }
    return type("Gradient", (base,), reduce)


def _restored(names: tuple[str, ...], values: tuple[Any, ...]) -> Any:
    return _gradient(names)(*values)


# --------------------------------------------------------------------------------------------------------- checked


class _Run:
    """A call whose arguments have been checked, and how it is reduced. Nothing is written before `finish`."""

    rows: tuple[int, ...]  #: the shape of the losses

    def __init__(
        self,
        loss: EmbeddingLoss,
        wanted: tuple[str, ...],
        arrays: Mapping[str, np.ndarray],
        options: Mapping[str, Any],
        buffers: Mapping[str, Any],
    ) -> None:
        self.loss, self.arrays, self.options = loss, dict(arrays), options
        self.params = [parameter.number(options[name]) for name, parameter in loss.parameters.items()]
        self.vectors = [arrays[name] for name in loss.differentiable]
        self.shapes()
        self.size = math.prod(self.rows)
        self.sample_weight = None
        if options["sample_weight"] is not None:
            weight = as_array("sample_weight", options["sample_weight"])
            self.sample_weight = _arguments._expect_shape("sample_weight", weight, self.rows, f"the losses of {loss!r}")
        self.n_threads = _arguments._threads(options)
        self.none = options["reduction"] == "none"
        self.place(wanted, buffers)
        if loss.domains and options["check"]:
            for name, domain in loss.domains.items():
                target = self.arrays[name]
                job = PointwiseJob(loss.name, FLOAT64, target, weight=self.sample_weight)
                _arguments._check_elements(name, target, domain, job)

    def shapes(self) -> None:
        """Check the arguments' shapes, and set that of the losses."""
        raise NotImplementedError

    def place(self, wanted: tuple[str, ...], buffers: Mapping[str, Any]) -> None:
        """Check the buffers, and make those that are not given."""
        names = self.loss.differentiable
        self.losses: np.ndarray | None = None
        self.grads: list[np.ndarray] | None = None
        self.wanted = wanted
        self.given = buffers
        placed: list[tuple[str, str, np.ndarray]] = []
        if "loss" in wanted:
            if self.none:
                dtype = _arguments._computes[self.vectors[0].dtype]
                self.losses = _arguments._buffer("out", buffers.get("loss"), self.rows, dtype)
                placed.append(("out", "", self.losses))
            elif buffers.get("loss") is not None:
                raise TypeError("out= takes the losses of reduction='none'; a reduced value is returned as a float")
        if "grad" in wanted:
            label = "grad_out" if "loss" in wanted else "out"
            outs = buffers.get("grad")
            if len(names) == 1:
                labels, outs = [label], [outs]
            else:
                labels = [f"{label}[{number}]" for number in range(len(names))]
                if outs is None:
                    outs = [None] * len(names)
                elif not isinstance(outs, (tuple, list)) or len(outs) != len(names):
                    raise TypeError(
                        f"{label} must be a tuple with a buffer (or None) for each of {', '.join(names)}, got "
                        f"{f'{len(outs)} of them' if isinstance(outs, (tuple, list)) else type(outs).__name__}"
                    )
            self.grads = [
                _arguments._buffer(text, out, vector.shape, own_dtype(vector.dtype))
                for text, out, vector in zip(labels, outs, self.vectors, strict=True)
            ]
            placed += zip(labels, names, self.grads, strict=True)
        if buffers:
            self.refuse_overlap(placed)

    def refuse_overlap(self, placed: list[tuple[str, str, np.ndarray]]) -> None:
        """A buffer shares memory with nothing else; but a gradient's may be its own argument, entry for entry."""
        others = {name: array for name, array in self.arrays.items() if array is not None}
        if self.sample_weight is not None:
            others["sample_weight"] = self.sample_weight
        for label, own, buffer in placed:
            for name, array in others.items():
                if name == own and _arguments._same_memory(buffer, array):
                    continue
                if np.may_share_memory(buffer, array) and _arguments._overlap(buffer, array):
                    exception = f"; it may be {own} itself, or apart from it" if name == own else ""
                    raise ValueError(f"{label} overlaps {name} in memory{exception}")
            others[label] = buffer

    @property
    def count(self) -> int:
        """How many losses count."""
        return self.size

    @functools.cached_property
    def weight(self) -> Sum:
        """What a mean divides by."""
        raise NotImplementedError

    def compute(self, scale: float) -> Sum:
        """Fill the outputs, the gradients multiplied by ``scale``; the sum of the losses."""
        raise NotImplementedError

    def finish(self) -> dict[str, Any]:
        """The results by name."""
        reduction, given = self.options["reduction"], self.options["denominator"]
        denominator = ONE
        if reduction == "mean":
            denominator = self.weight if given is None else Sum(given)
        elif reduction == "batchmean":
            denominator = Sum(float(self.rows[0] if self.rows else 1))
        value: Any = None
        if denominator.head == 0:
            empty = self.options["empty"]
            if empty == "raise":
                raise ValueError(EMPTY)
            value = math.nan if empty == "nan" else 0.0
            for grad in self.grads or ():
                grad[...] = 0
        else:
            value = self.compute(denominator.inverse()).over(denominator)
        results: dict[str, Any] = {}
        if self.losses is not None:
            alone = self.losses.ndim == 0 and self.given.get("loss") is None
            results["loss"] = self.losses[()] if alone else self.losses
        else:
            results["loss"] = value
        if self.grads is not None:
            names = self.loss.differentiable
            results["grad"] = self.grads[0] if len(names) == 1 else _gradient(names)(*self.grads)
        return results


def _same_shapes(names: tuple[str, ...], vectors: list[np.ndarray]) -> None:
    first = vectors[0]
    for name, vector in zip(names, vectors, strict=True):
        if vector.shape != first.shape:
            raise ValueError(f"{name} has shape {vector.shape}, and {names[0]} shape {first.shape}: they must agree")


# ------------------------------------------------------------------------------------------------ losses of each row


class _RowsRun(_Run):
    """A loss of each row, block by block."""

    def shapes(self) -> None:
        names = self.loss.differentiable
        first = self.vectors[0]
        if first.ndim == 0 or first.shape[-1] == 0:
            raise ValueError(f"{names[0]} has shape {first.shape}, but embeddings need an axis of dimensions, the last")
        _same_shapes(names, self.vectors)
        self.rows = first.shape[:-1]
        for name in self.loss.operands[len(names) :]:
            target = self.arrays[name]
            if target.ndim == 0:
                target = np.broadcast_to(target, self.rows)
            _arguments._expect_shape(name, target, self.rows, f"{names[0]} of shape {first.shape}")
            self.arrays[name] = target

    @functools.cached_property
    def weight(self) -> Sum:
        if self.sample_weight is None:
            return Sum(float(self.size))
        from .backends.numpy import weigh_pointwise

        weight = self.sample_weight
        job = PointwiseJob(self.loss.name, FLOAT64, weight, weight=weight, n_threads=self.n_threads)
        return weigh_pointwise(job).total

    def compute(self, scale: float) -> Sum:
        from .backends.numpy import load, run_blocks, spots, store, sum_of

        rows, D = self.rows, self.vectors[0].shape[-1]
        targets = [self.arrays[name] for name in self.loss.operands[len(self.vectors) :]]

        def do(start: int, stop: int) -> dict[str, Sum]:
            n, at = stop - start, spots(rows, start, stop)
            blocks = [load(vector, at, np.empty((n, D))) for vector in self.vectors]
            beside = [load(target, at, np.empty(n)) for target in targets]
            value, gradients = self.loss.twin(*blocks, *beside, *self.params)
            factor: Any = scale
            dead = None
            if self.sample_weight is not None:
                w = load(self.sample_weight, at, np.empty(n))
                dead = w == 0
                value = np.where(dead, 0.0, w * value)
                factor = (scale * w)[:, None]
            if self.losses is not None:
                store(self.losses, at, value)
            if self.grads is not None:
                for out, gradient in zip(self.grads, gradients(), strict=True):
                    gradient = factor * gradient
                    if dead is not None:
                        gradient[dead] = 0.0
                    store(out, at, gradient)
            return {"loss": sum_of(value)}

        if not self.size:
            return Sum(0.0)
        return run_blocks(self.size, max(1, BLOCK // D), self.n_threads, do)["loss"]


class RowEmbeddingLoss(EmbeddingLoss):
    """A loss of each row of embeddings."""

    _runs = _RowsRun


# -------------------------------------------------------------------------------------------- losses of a whole batch


class _BatchRun(_Run):
    """A loss of every embedding against the others."""

    def shapes(self) -> None:
        names = self.loss.differentiable
        first = self.vectors[0]
        if first.ndim != 2 or first.shape[1] == 0:
            raise ValueError(f"{names[0]} has shape {first.shape}, but embeddings of a batch need shape (N, D), D > 0")
        _same_shapes(names, self.vectors)
        self.rows = first.shape[:1]
        for name in self.loss.operands[len(names) :]:
            labels = self.arrays[name]
            if labels.size == 0 == self.rows[0]:
                labels = self.arrays[name] = labels.astype(np.intp)  # an empty list, which NumPy takes for floats
            if labels.dtype.kind not in "iub":
                raise TypeError(f"{name} of shape {labels.shape} must be of an integer dtype, got {labels.dtype}")
            _arguments._expect_shape(name, labels, self.rows, f"{names[0]} of shape {first.shape}")
        others = [self.arrays[name] for name in self.loss.operands[len(names) :]]
        self.plan = self.loss.twin(*self.vectors, *others, *self.params)

    @property
    def count(self) -> int:
        return self.size if self.plan.counts is None else int(np.count_nonzero(self.plan.counts))

    @functools.cached_property
    def effective(self) -> np.ndarray:
        """The weight of every loss, 0 where it does not count."""
        weight = np.ones(self.rows) if self.sample_weight is None else self.sample_weight.astype(FLOAT64)
        return weight if self.plan.counts is None else np.where(self.plan.counts, weight, 0.0)

    @functools.cached_property
    def weight(self) -> Sum:
        from .backends.numpy import sum_of

        if self.sample_weight is None:
            return Sum(float(self.count))
        return sum_of(self.effective)

    def compute(self, scale: float) -> Sum:
        from .backends.numpy import sum_of

        if not self.size:
            return Sum(0.0)
        weight = self.effective
        values = self.plan.losses(self.n_threads)
        with np.errstate(all="ignore"):
            values = np.where(weight == 0, 0.0, weight * values)
            if self.losses is not None:
                self.losses[...] = values
            if self.grads is not None:
                self.plan.write_gradients(scale * weight, self.grads)
            return sum_of(values)


class BatchLoss(EmbeddingLoss):
    """A loss that compares every embedding of a batch with the others."""

    _runs = _BatchRun
    texts: ClassVar = {
        **EmbeddingLoss.texts,
        "sample_weight": (
            "array_like of shape (N,), optional",
            "A weight for each loss. What weighs 0 has no loss; but the others are still compared with it.",
        ),
        "reduction": OPTION_TEXTS["reduction"],
        "n_threads": (
            "int, optional",
            "How many threads may work on tiles; `get_num_threads` says how many otherwise. Results do not depend on "
            "it. Beyond one tile, BLAS's own threads are held to one meanwhile if threadpoolctl is installed.",
        ),
    }


# ----------------------------------------------------------------------------------------------------- registration


def row_embedding_loss(
    *,
    operands: tuple[str, ...],
    differentiable: int,
    ulp: Any,
    parameters: Mapping[str, Parameter | Choice] | None = None,
    domains: Mapping[str, str] | None = None,
) -> Decorator:
    """Make the decorated twin a public loss of each row.

    The twin is given blocks in float64: ``(n, D)`` of the differentiable operands, which come first, ``(n,)`` of the
    others, and the parameters. It returns the n values, and a function that gives the gradients.
    """
    traits = {"operands": operands, "differentiable": differentiable, "ulp": ulp, "domains": domains}
    return _declare(RowEmbeddingLoss, parameters, **traits)


def batch_loss(
    *,
    operands: tuple[str, ...],
    differentiable: int,
    ulp: Any,
    parameters: Mapping[str, Parameter | Choice] | None = None,
) -> Decorator:
    """Make the decorated twin a public loss of a whole batch.

    The twin is given the operands as they are, and the parameters. It returns a `lossfast._similarities.Comparison`.
    """
    traits = {"operands": operands, "differentiable": differentiable, "ulp": ulp}
    return _declare(BatchLoss, parameters, **traits)
