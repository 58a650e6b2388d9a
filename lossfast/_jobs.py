"""The one form in which work reaches a backend.

A public object checks its arguments and writes them down as a job; a backend does the job. Nothing else passes between
the two, so a backend never sees an option that the checks have not settled, and the checks never see a block.

Every input is a view that the backend may only read: any strides (0 and negative ones too), any alignment, either byte
order, of any dtype that `_arguments.as_array` lets through. What broadcasts has been broadcast already, by strides.
Outputs have been checked: right shape, writeable, a floating dtype (or the one the output's name implies), no overlap
but the one allowed (``grad`` over the first input, element for element).

Rows are the logits' shape without the class axis, taken in C order; the class axis has been moved last.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ._reduction import Sum

#: Outputs of a row job with one entry a row, and those with one entry a row and class.
ROW_OUTPUTS = (
    *("loss", "lse", "sign", "pred", "correct", "entropy", "margin", "rank"),
    *("grad_temperature", "hess_temperature", "row_jvp"),
)
ENTRY_OUTPUTS = ("grad", "hess", "proba", "log_proba", "grad_target", "hvp", "newton_step", "vjp", "jvp")


@dataclass(slots=True)
class PointwiseJob:
    """Value, gradient and Hessian of one pointwise loss over arrays of one shape.

    With ``w`` the weight (1 where there is none): ``value = w * v``, ``grad = scale * w * g`` and
    ``hess = scale * w * h``, each exactly 0 where ``w == 0`` or the mask is False, whatever the inputs hold there.
    """

    loss: str  #: the loss's name in the registry
    compute: np.dtype  #: float32 or float64: the dtype of the arithmetic
    x: np.ndarray  #: the first argument; its shape is the job's
    target: np.ndarray | None = None
    extra: np.ndarray | None = (
        None  #: the loss's element-wise parameter (``pos_weight``) or third argument, if it has one
    )
    params: tuple[float, ...] = ()  #: the scalar parameters, in the order declared
    weight: np.ndarray | None = None
    where: np.ndarray | None = None  #: bool
    v: np.ndarray | None = None  #: a direction: multiplies gradient and Hessian as the weight does
    scale: float = 1.0
    value: np.ndarray | None = None
    grad: np.ndarray | None = None
    hess: np.ndarray | None = None
    grad_second: np.ndarray | None = None  #: the same for the second of two differentiable arguments
    hess_second: np.ndarray | None = None
    totals: tuple[str, ...] = ()  #: () or ("loss",)
    n_threads: int = 1


@dataclass(slots=True)
class RowwiseJob:
    """One loss or function over a class axis, for every row, and whatever is wanted of it.

    Exactly one of ``labels``, ``target`` and ``logits_q`` is given for a loss, none for a function (``softmax``,
    ``log_softmax``, ``logsumexp``, ``entropy``). Losses that are sums over their entries (``entrywise``) have their
    first argument in ``logits``, whatever it is, and what they compare it with in ``target``. ``outputs`` maps names
    from `ROW_OUTPUTS` (arrays of the rows' shape) and `ENTRY_OUTPUTS` (arrays of the logits' shape) to the arrays to
    fill. ``scale`` multiplies ``grad``, ``hess``, ``hvp``, ``grad_temperature``, ``hess_temperature`` and
    ``grad_target`` (and, as part of g and H, enters ``newton_step``); never ``loss``.
    """

    loss: str
    compute: np.dtype
    logits: np.ndarray
    labels: np.ndarray | None = None  #: integer or bool, of the rows' shape
    target: Any = None  #: soft labels: an array of the logits' shape, or a `SparseTargets`
    logits_q: np.ndarray | None = (
        None  #: other logits, of their shape, whose softmax that of the logits is compared with
    )
    class_weight: np.ndarray | None = None  #: contiguous float64, shape (C,)
    sample_weight: np.ndarray | None = None
    where: np.ndarray | None = None  #: bool, of the logits' shape; a class masked out is as a logit of -inf
    ignore_index: int | None = None
    label_smoothing: float = 0.0
    temperature: float = 1.0
    z_loss: float = 0.0
    ridge: float = 0.0
    params: tuple[float, ...] = ()  #: the loss's own scalar parameters, in the order declared
    entry_weight: np.ndarray | None = None  #: as ``class_weight``, where a mean does not divide by it
    v: np.ndarray | None = None  #: the direction of hvp, vjp and jvp; of the rows' shape for ``logsumexp``'s vjp
    b: np.ndarray | None = None  #: ``logsumexp``'s factors, of the logits' shape
    scale: float = 1.0
    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    totals: tuple[str, ...] = ()  #: any of "loss", "grad_temperature", "hess_temperature"
    n_threads: int = 1


class Weights(NamedTuple):
    """What a job's denominator is made of, and the labels that are out of range (found in the same pass)."""

    total: Sum  #: what a mean divides by
    count: int  # type: ignore[assignment]  #: how many rows (elements) are neither ignored nor masked out whole
    bad_count: int = 0  #: labels that are neither a class nor ``ignore_index``
    bad_row: int = -1  #: the first such row, counted in C order

    @property
    def weight(self) -> float:
        """The total, rounded."""
        return float(self.total)

    def plus(self, later: Weights) -> Weights:
        """Those of both, where the rows of the other come later."""
        return Weights(
            self.total.plus(later.total),
            self.count + later.count,
            self.bad_count + later.bad_count,
            self.bad_row if self.bad_row >= 0 else later.bad_row,
        )
