"""Scores of classifiers from logits, of probabilities and of regressors, with the losses of ``lossfast``.

Logits are what ``decision_function`` gives: an array of shape (n_samples, n_classes), or for two classes (n_samples,),
the log-odds of the second. They are neither copied nor clipped, so that a model that is sure and wrong is told so, and
one that is sure and right keeps its digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import make_scorer

import lossfast as lf

from .._loss import Loss
from ._objective import class_totals, link_of

#: Entries of a matrix that are looked at together, where a row cannot be had from a loss.
_CHUNK = 1 << 15


class _Rows(NamedTuple):
    """Checked arguments of a score: numbers of classes or soft labels, scores and weights."""

    target: np.ndarray
    scores: np.ndarray
    weight: np.ndarray | None
    classes: int

    @property
    def total(self) -> float:
        return float(len(self.target) if self.weight is None else self.weight.sum())

    def shares(self) -> np.ndarray:
        """Each class's share of the weight."""
        return class_totals(self.target, self.weight, self.classes) / self.total


def _rows(y_true: Any, scores: Any, sample_weight: Any, labels: Any) -> _Rows:
    scores = np.asarray(scores)
    if scores.ndim == 2 and scores.shape[1] == 1:
        scores = scores[:, 0]
    if scores.ndim not in (1, 2) or scores.dtype.kind not in "fiub" and scores.dtype.name != "bfloat16":
        raise ValueError(
            f"scores must be numbers of shape (n_samples, n_classes) or (n_samples,), got {scores.dtype} of shape "
            f"{scores.shape}"
        )
    y = np.asarray(y_true)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if len(y) != len(scores):
        raise ValueError(f"y_true has {len(y)} rows, but there are scores of {len(scores)}")
    if len(y) == 0:
        raise ValueError("there are no rows to score")
    weight = None
    if sample_weight is not None:
        weight = np.asarray(sample_weight, float)
        if weight.shape != y.shape[:1]:
            raise ValueError(f"sample_weight has shape {weight.shape}, but the rows need shape {y.shape[:1]}")
    classes = 2 if scores.ndim == 1 else scores.shape[1]
    if y.ndim == 2:
        if y.dtype.kind != "f" or y.shape[1] != classes:
            raise ValueError(
                f"soft labels must be floating, a column for each of {classes} classes, got {y.dtype} of shape "
                f"{y.shape}"
            )
        return _Rows(y, scores, weight, classes)
    return _Rows(_codes(y, classes, labels), scores, weight, classes)


def _codes(y: np.ndarray, classes: int, labels: Any) -> np.ndarray:
    """Labels as numbers of columns."""
    if labels is None:
        names, codes = np.unique(y, return_inverse=True)
        if len(names) == classes:
            return codes
        if names.dtype.kind in "iub" and names[0] >= 0 and names[-1] < classes:
            return y.astype(np.intp)
        raise ValueError(
            f"y_true has {len(names)} different labels, but the scores are of {classes} classes; "
            "give the labels of the columns with labels="
        )
    columns = np.asarray(labels)
    if columns.shape != (classes,) or len(np.unique(columns)) != classes:
        raise ValueError(f"labels must be {classes} different ones, one for each column, got {columns.tolist()}")
    order = np.argsort(columns, kind="stable")
    places = order[np.minimum(np.searchsorted(columns, y, sorter=order), classes - 1)]
    strange = np.flatnonzero(columns[places] != y)
    if len(strange):
        raise ValueError(
            f"y_true has the label {y[strange[0]].item()!r} at row {strange[0]} ({len(strange)} such rows), which is "
            f"not among labels={columns.tolist()}"
        )
    return places


def _positive(rows: _Rows) -> np.ndarray:
    """The target of log-odds: whether it is the second class."""
    return rows.target[:, 1] if rows.target.ndim == 2 else rows.target


# --------------------------------------------------------------------------------------------------- from logits


def log_loss(
    y_true: Any, y_logits: Any, *, normalize: bool = True, sample_weight: Any = None, labels: Any = None
) -> float:
    """Cross-entropy of labels under the softmax (for two classes, the sigmoid) of logits.

    Unlike `sklearn.metrics.log_loss` it takes logits instead of probabilities, so that nothing is clipped and no
    matrix copied.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_classes)
        Labels of any kind, or soft labels (floating).
    y_logits : array-like of shape (n_samples, n_classes) or (n_samples,)
        What ``decision_function`` gives.
    normalize : bool, default True
        The weighted mean over the rows; otherwise the sum.
    sample_weight : array-like of shape (n_samples,), optional
        A weight for each row.
    labels : array-like of shape (n_classes,), optional
        The label of each column, in their order. Unless given, the sorted labels in y_true; if not all classes are
        there, integers are taken as numbers of columns.

    Returns
    -------
    float

    Examples
    --------
    >>> from lossfast.sklearn import log_loss
    >>> log_loss(["ham", "spam"], [[20.0, 0.0], [0.0, 800.0]])
    1.0305768101571904e-09
    >>> log_loss(["ham", "spam"], [-3.0, -800.0])
    400.02429367578685
    """
    return _log_loss(_rows(y_true, y_logits, sample_weight, labels), "mean" if normalize else "sum")


def _log_loss(rows: _Rows, reduction: str) -> float:
    if rows.scores.ndim == 1:
        loss: Any = lf.binary_cross_entropy_with_logits
        return loss(rows.scores, _positive(rows), sample_weight=rows.weight, reduction=reduction)
    return lf.cross_entropy(rows.scores, rows.target, sample_weight=rows.weight, reduction=reduction)


def d2_log_loss(y_true: Any, y_logits: Any, *, sample_weight: Any = None, labels: Any = None) -> float:
    """The share of the log loss of the classes' frequencies that logits save: 1 is best, 0 is no better than those.

    Parameters
    ----------
    y_true, y_logits, sample_weight, labels : array-like
        As for `log_loss`.

    Returns
    -------
    float

    See Also
    --------
    sklearn.metrics.d2_log_loss_score : the same of probabilities.

    Examples
    --------
    >>> from lossfast.sklearn import d2_log_loss
    >>> round(d2_log_loss([0, 1, 1], [-1.0, 2.0, 1.0]), 4)
    0.605
    """
    rows = _rows(y_true, y_logits, sample_weight, labels)
    return _share(_log_loss(rows, "mean"), float(lf.entropy(rows.shares())))


def _share(value: float, null: float) -> float:
    if null > 0:
        return 1 - value / null
    return 1.0 if value == 0 else -math.inf if value > 0 else math.nan


# ------------------------------------------------------------------------------------------------------ the Brier


def brier_score(
    y_true: Any,
    y_scores: Any,
    *,
    from_logits: bool = True,
    sample_weight: Any = None,
    labels: Any = None,
    scale_by_half: bool | str = "auto",
) -> float:
    """The Brier score: the mean squared distance of probabilities from what came to pass.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_classes)
        Labels of any kind, or soft labels (floating).
    y_scores : array-like of shape (n_samples, n_classes) or (n_samples,)
        Logits; or with ``from_logits=False`` probabilities (of the second class, if there is one column).
    from_logits : bool, default True
        Which of the two they are. No matrix of probabilities is made of logits.
    sample_weight : array-like of shape (n_samples,), optional
        A weight for each row.
    labels : array-like of shape (n_classes,), optional
        The label of each column: see `log_loss`.
    scale_by_half : bool or "auto", default "auto"
        Halve the sum over the classes, so that the score is between 0 and 1: ``"auto"`` does so for two classes.

    Returns
    -------
    float

    See Also
    --------
    sklearn.metrics.brier_score_loss : the same of probabilities.

    Examples
    --------
    >>> from lossfast.sklearn import brier_score
    >>> brier_score([0, 1, 1, 0], [0.1, 0.9, 0.8, 0.3], from_logits=False)
    0.0375
    >>> brier_score([0, 1], [0.0, 0.0])
    0.25
    """
    if scale_by_half not in (True, False, "auto"):
        raise ValueError(f"scale_by_half must be True, False or 'auto', got {scale_by_half!r}")
    rows = _rows(y_true, y_scores, sample_weight, labels)
    value = _half_brier(rows, from_logits)
    halve = rows.classes == 2 if scale_by_half == "auto" else scale_by_half
    return value if halve else 2 * value


def _half_brier(rows: _Rows, from_logits: bool) -> float:
    """Half the mean over the rows of the squared distance over all classes."""
    scores, weight = rows.scores, rows.weight
    if scores.ndim == 1:  # both classes are as far off, so that half the sum is one of them
        loss: Any = lf.quadratic_sigmoid_loss if from_logits else lf.half_squared_error
        if not from_logits:
            _check_probabilities(scores)
        return 2 * loss(scores, _positive(rows), sample_weight=weight)
    if from_logits:
        return lf.quadratic_softmax_loss(scores, rows.target, sample_weight=weight)
    _check_probabilities(scores)
    total, step = lf.Reduction(), max(1, _CHUNK // rows.classes)
    for start in range(0, len(scores), step):
        at = slice(start, start + step)
        proba, target = scores[at].astype(float), rows.target[at]
        if target.ndim == 1:
            proba[np.arange(len(proba)), target] -= 1
        else:
            proba -= target
        distance = 0.5 * np.einsum("ij,ij->i", proba, proba)
        total += lf.l1_loss.reduce(distance, 0.0, sample_weight=None if weight is None else weight[at])
    return total.mean


def _check_probabilities(scores: np.ndarray) -> None:
    least, most = scores.min(), scores.max()
    if not (least >= 0 and most <= 1):
        raise ValueError(f"probabilities must be in [0, 1], got values from {least} to {most} (are they logits?)")


def d2_brier(
    y_true: Any, y_scores: Any, *, from_logits: bool = True, sample_weight: Any = None, labels: Any = None
) -> float:
    """The share of the Brier score of the classes' frequencies that scores save (the Brier skill score).

    Parameters
    ----------
    y_true, y_scores, from_logits, sample_weight, labels
        As for `brier_score`.

    Returns
    -------
    float

    Examples
    --------
    >>> from lossfast.sklearn import d2_brier
    >>> d2_brier([0, 1, 1, 0], [0.1, 0.9, 0.8, 0.3], from_logits=False)
    0.85
    """
    rows = _rows(y_true, y_scores, sample_weight, labels)
    shares = rows.shares()
    if rows.target.ndim == 1:
        null = 0.5 * float(shares @ (1 - shares))
    else:
        away = np.einsum("ij,ij->i", rows.target - shares, rows.target - shares)
        null = 0.5 * float(np.average(away, weights=rows.weight))
    return _share(_half_brier(rows, from_logits), null)


# ----------------------------------------------------------------------------------------------------- calibration


class Reliability(NamedTuple):
    """How often a classifier is right where it is so sure: a bin of confidences after another, empty ones left out."""

    confidence: np.ndarray  #: the mean confidence in each bin
    accuracy: np.ndarray  #: how often it was justified
    weight: np.ndarray  #: the bin's share of the weight


def reliability(
    y_true: Any,
    y_scores: Any,
    *,
    n_bins: int = 15,
    strategy: str = "uniform",
    from_logits: bool = True,
    sample_weight: Any = None,
    labels: Any = None,
) -> Reliability:
    """Confidence against accuracy, in bins: what a reliability diagram shows.

    The confidence is the probability of the likeliest class, which is right or wrong; with one column of scores it is
    that of the second class, which came to pass or did not.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels of any kind.
    y_scores : array-like of shape (n_samples, n_classes) or (n_samples,)
        Logits; or with ``from_logits=False`` probabilities.
    n_bins : int, default 15
        How many bins.
    strategy : {"uniform", "quantile"}, default "uniform"
        Bins of the same width in [0, 1], or of (about) the same weight.
    from_logits : bool, default True
        Whether the scores are logits. No matrix of probabilities is made of them.
    sample_weight : array-like of shape (n_samples,), optional
        A weight for each row.
    labels : array-like of shape (n_classes,), optional
        The label of each column: see `log_loss`.

    Returns
    -------
    Reliability
        A named tuple of ``confidence``, ``accuracy`` and ``weight``, an entry for each bin that is not empty.

    Examples
    --------
    >>> from lossfast.sklearn import reliability
    >>> found = reliability([0, 1, 1, 0], [0.1, 0.9, 0.8, 0.3], n_bins=2, from_logits=False)
    >>> found.confidence, found.accuracy
    (array([0.2 , 0.85]), array([0., 1.]))
    """
    if isinstance(n_bins, bool) or not isinstance(n_bins, (int, np.integer)) or n_bins < 1:
        raise ValueError(f"n_bins must be an integer, 1 at least, got {n_bins!r}")
    if strategy not in ("uniform", "quantile"):
        raise ValueError(f"strategy must be 'uniform' or 'quantile', got {strategy!r}")
    rows = _rows(y_true, y_scores, sample_weight, labels)
    if rows.target.ndim == 2:
        raise ValueError("soft labels are neither right nor wrong: calibration needs labels")
    confidence, right = _confidence(rows, from_logits)
    weight = np.ones(len(right)) if rows.weight is None else rows.weight
    if strategy == "uniform":
        inner = np.linspace(0, 1, n_bins + 1)[1:-1]
    else:
        order = np.argsort(confidence, kind="stable")
        sums = np.cumsum(weight[order])
        wanted = sums[-1] * np.arange(1, n_bins) / n_bins
        inner = confidence[order[np.minimum(np.searchsorted(sums, wanted), len(order) - 1)]]
    bins = np.searchsorted(inner, confidence, side="left")  # a bin has its upper end
    weights, sums, hits = (np.bincount(bins, each, n_bins) for each in (weight, weight * confidence, weight * right))
    full = weights > 0
    return Reliability(sums[full] / weights[full], hits[full] / weights[full], weights[full] / weights.sum())


def _confidence(rows: _Rows, from_logits: bool) -> tuple[np.ndarray, np.ndarray]:
    scores = rows.scores
    if scores.ndim == 1:
        if not from_logits:
            _check_probabilities(scores)
        return np.asarray(lf.sigmoid(scores) if from_logits else scores, float), rows.target == 1
    if from_logits:
        found = lf.cross_entropy.evaluate(scores, rows.target, want=("lse", "pred", "correct"), reduction="none")
        best = np.take_along_axis(scores, found.pred[:, None], 1)[:, 0].astype(float)
        return np.minimum(np.exp(best - found.lse), 1.0), found.correct
    _check_probabilities(scores)
    best = scores.argmax(1)
    return np.take_along_axis(scores, best[:, None], 1)[:, 0].astype(float), best == rows.target


def calibration_error(
    y_true: Any,
    y_scores: Any,
    *,
    n_bins: int = 15,
    strategy: str = "uniform",
    norm: str = "l1",
    from_logits: bool = True,
    sample_weight: Any = None,
    labels: Any = None,
) -> float:
    """The calibration error: how far confidence and accuracy lie apart, over the bins of `reliability`.

    Parameters
    ----------
    y_true, y_scores, n_bins, strategy, from_logits, sample_weight, labels
        As for `reliability`.
    norm : {"l1", "l2", "max"}, default "l1"
        The mean distance over the rows (the expected calibration error, ECE), the root of the mean square, or the
        largest of any bin.

    Returns
    -------
    float

    References
    ----------
    .. [1] M. P. Naeini, G. F. Cooper and M. Hauskrecht, "Obtaining well calibrated probabilities using Bayesian
       binning", AAAI 2015.

    Examples
    --------
    >>> from lossfast.sklearn import calibration_error
    >>> calibration_error([0, 1, 1, 0], [0.1, 0.9, 0.8, 0.3], n_bins=2, from_logits=False)
    0.175
    """
    if norm not in ("l1", "l2", "max"):
        raise ValueError(f"norm must be 'l1', 'l2' or 'max', got {norm!r}")
    found = reliability(
        y_true,
        y_scores,
        n_bins=n_bins,
        strategy=strategy,
        from_logits=from_logits,
        sample_weight=sample_weight,
        labels=labels,
    )
    gaps = np.abs(found.confidence - found.accuracy)
    if norm == "max":
        return float(gaps.max())
    return float(found.weight @ gaps) if norm == "l1" else math.sqrt(float(found.weight @ gaps**2))


# ------------------------------------------------------------------------------------------------------ regression


def d2_score(loss: Any, y_true: Any, y_pred: Any, *, sample_weight: Any = None, **loss_params: Any) -> float:
    """The share of the loss of the best constant that predictions save: 1 is best, 0 is no better than the constant.

    Of squared errors it is the R². What even the targets themselves would lose (under ``poisson_nll_loss``, say) is
    taken off both.

    Parameters
    ----------
    loss : str or Loss
        A pointwise loss of ``lossfast``, by name or the object.
    y_true : array-like
        Targets.
    y_pred : array-like
        Predictions, of y_true's shape, as the loss takes them: logarithms for ``poisson_nll_loss``, unless
        ``log_input=False``.
    sample_weight : array-like, optional
        Weights, of y_true's shape or one for each entry of its first axis.
    **loss_params
        The loss's own parameters.

    Returns
    -------
    float

    See Also
    --------
    sklearn.metrics.d2_tweedie_score, sklearn.metrics.d2_pinball_score

    Examples
    --------
    >>> from lossfast.sklearn import d2_score
    >>> d2_score("l1_loss", [1.0, 2.0, 3.0, 10.0], [1.0, 2.5, 3.0, 8.0])
    0.75
    """
    bound: Any = (loss if isinstance(loss, Loss) else lf.get_loss(loss)).bind(**loss_params)
    if bound.kind != "pointwise":
        raise ValueError(f"loss must be a pointwise loss, got {bound!r}")
    target = np.asarray(y_true, float)
    prediction = np.asarray(y_pred)
    options = {"sample_weight": None if sample_weight is None else np.asarray(sample_weight, float)}

    def mean(prediction: np.ndarray) -> float:
        return bound(prediction, target, reduction="mean", **options)

    value = mean(prediction)
    link = link_of(bound)

    def at(middle: Any) -> float:
        taken = np.asarray(middle, float) if link.composed else link.forward(middle)
        return mean(taken if taken.ndim else np.broadcast_to(taken, target.shape))

    saturated = at(target)
    return _share(value - saturated, _best_constant(at, target, options["sample_weight"]) - saturated)


def _best_constant(at: Callable[[Any], float], target: np.ndarray, weight: np.ndarray | None) -> float:
    """The least loss of any constant between the targets."""
    from scipy.optimize import minimize_scalar

    low, high = float(target.min()), float(target.max())
    by_row = target.reshape(len(target), -1).mean(1) if weight is not None and weight.ndim < target.ndim else target
    middle = float(np.average(by_row, weights=weight))
    # A grid first, for losses with several minima or with kinks at targets; then what lies around its best.
    grid = np.concatenate([np.linspace(low, high, 33), np.quantile(target, np.linspace(0, 1, 65)), [middle]])
    grid.sort()
    values = [at(constant) for constant in grid]
    best = int(np.argmin(values))
    left, right = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    if not right > left:
        return values[best]
    inner = minimize_scalar(at, bounds=(left, right), method="bounded", options={"xatol": 1e-12 * (high - low)})
    return min(values[best], float(inner.fun))


# --------------------------------------------------------------------------------------------------------- scorers

#: A score's name, its function, and whether more is better.
_SCORES: dict[str, tuple[Callable[..., float], bool]] = {
    "neg_log_loss": (log_loss, False),
    "neg_brier_score": (brier_score, False),
    "neg_calibration_error": (calibration_error, False),
    "d2_log_loss": (d2_log_loss, True),
    "d2_brier": (d2_brier, True),
}


def scorer(name: str, **options: Any) -> Any:
    """A scorer for ``scoring=`` in `sklearn.model_selection`, from what ``decision_function`` gives.

    Parameters
    ----------
    name : {"neg_log_loss", "neg_brier_score", "neg_calibration_error", "d2_log_loss", "d2_brier"}
        The score. Those that begin with ``neg_`` have their sign changed, so that more is always better.
    **options
        Arguments of the score: ``n_bins=10``; ``labels=``, which folds need that may lack a class.

    Returns
    -------
    callable
        As `sklearn.metrics.make_scorer` makes it.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_val_score
    >>> from lossfast.sklearn import SoftmaxClassifier, scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> cross_val_score(SoftmaxClassifier(), X, y, scoring=scorer("neg_log_loss"), cv=3).round(2)
    array([-0.14, -0.15, -0.16])
    """
    if name not in _SCORES:
        raise ValueError(f"there is no score {name!r}; there are {', '.join(_SCORES)}")
    function, greater = _SCORES[name]
    return make_scorer(function, response_method="decision_function", greater_is_better=greater, **options)
