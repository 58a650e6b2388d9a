"""Objectives and metrics for XGBoost, LightGBM and CatBoost, from the losses of the registry.

>>> import lossfast as lf
>>> from lossfast.boosting import xgboost_objective
>>> xgboost_objective(lf.huber_loss.bind(delta=2.0))
lossfast.boosting.xgboost_objective(lossfast.huber_loss.bind(delta=2.0), hessian='xgboost', floor=1e-16)

An objective goes where the library takes one, in its own interface and in the one for scikit-learn::

    xgboost.train({"objective": "multi:softprob", "num_class": 3}, data, obj=xgboost_objective("cross_entropy"))
    xgboost.XGBClassifier(objective=xgboost_objective("cross_entropy"))
    lightgbm.train({"objective": lightgbm_objective("cross_entropy"), "num_class": 3}, data)
    lightgbm.LGBMClassifier(objective=lightgbm_objective("cross_entropy"))
    catboost.CatBoostRegressor(loss_function=catboost_objective("huber_loss"), eval_metric=catboost_metric("l1_loss"))
    catboost.CatBoost(
        {"loss_function": catboost_objective("cross_entropy"), "eval_metric": "MultiClass", "classes_count": 3}
    )

Any pointwise loss and any loss over a class axis that takes raw scores will do. The objects are immutable, picklable
and survive ``sklearn.base.clone``, so that models with them can be searched over and saved.

**Weights.** With an objective of one's own none of the three libraries multiplies by the sample weights; these objects
do, once. What the libraries build into their own objectives is ignored then: ``scale_pos_weight`` and ``is_unbalance``
(bind ``pos_weight`` or ``class_weight`` to the loss). LightGBM's ``class_weight`` arrives as sample weights.

**Labels.** Class labels come as floats, and are checked to be whole and in range. A target of as many columns as there
are scores (XGBoost and CatBoost take one) is soft labels. Losses for targets of -1 and 1 take a 0 for -1, since the
libraries' classifiers number the classes from 0.

**Where boosting starts.** Most built-in objectives start from the best constant. With one's own, XGBoost starts from
its ``base_score`` of 0.5, sent through the link of the objective that its parameters name; LightGBM and CatBoost start
from 0. `initial_score` computes the best constant, to be passed as ``base_margin`` (XGBoost: to training and to
prediction), ``init_score`` (LightGBM) or ``baseline`` (CatBoost). LightGBM and CatBoost do not add it to predictions:
that is left to the caller. The built-in objectives start there too, with these exceptions: XGBoost takes one Newton
step from 0 for pseudo-Huber; LightGBM takes the mean for Huber, and interpolates percentiles for L1 and quantiles;
CatBoost starts all but RMSE, MAE, quantiles and MAPE from 0.

**Predictions.** They are raw scores. XGBoost applies the link of the objective that its parameters name, whatever
computes the gradients: keep ``"objective": "count:poisson"`` beside ``obj=``. Its refit of leaves for
``reg:absoluteerror`` and ``reg:quantileerror`` is kept likewise; LightGBM's and CatBoost's are not.

**Hessians.** Trees need one number for each score, and for softmax there are several conventions; `HESSIANS` names
them, and `built_in_hessian` tells which one a version of a library uses. `EQUIVALENTS` lists the built-in objectives
that a loss reproduces, tree for tree where it says so: ``python -m benchmarks.boosting``, in a checkout, compares them.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from ._loss import get_loss, inside

__all__ = [
    "EQUIVALENTS",
    "HESSIANS",
    "Equivalent",
    "built_in_hessian",
    "catboost_metric",
    "catboost_objective",
    "initial_score",
    "lightgbm_metric",
    "lightgbm_objective",
    "xgboost_metric",
    "xgboost_objective",
]

#: The conventions for the second derivative, by name. All are multiplied by the sample weight.
HESSIANS = {
    "exact_diag": "the diagonal of the loss's Hessian; for softmax p (1 - p)",
    "xgboost": "that, twice it over a class axis (2 p (1 - p)), exp(0.7) times it for Poisson, 1 where it is always 0",
    "lightgbm": "that, K / (K - 1) times it over K classes, exp(0.7) times it for Poisson, 1 for Huber and where it is "
    "always 0",
    "abs_residual": "the size of the gradient; for softmax |p - t|",
    "constant": "1",
    "exact": "the whole matrix of a row, which CatBoost alone takes; the diagonal where a loss has no matrix",
}

#: XGBoost and LightGBM damp Poisson's steps by the exponential of their ``max_delta_step``, which is this by default.
POISSON_DELTA = 0.7

#: What each library's built-in softmax does, by the first version that does it.
_SOFTMAX = {
    "xgboost": (((0, 0), "xgboost"), ((3, 5), "abs_residual")),
    "lightgbm": (((0, 0), "xgboost"), ((3, 0), "lightgbm")),
    "catboost": (((0, 0), "exact"),),
}
#: The least second derivative. XGBoost's objectives have one; LightGBM adds its own to the sums in every leaf, whatever
#: computes the gradients, and CatBoost adds ``l2_leaf_reg``, so that there only negative ones are cut.
_FLOORS = {"xgboost": 1e-16, "lightgbm": 0.0, "catboost": 0.0}


class Equivalent(NamedTuple):
    """A built-in objective, and the loss that reproduces it."""

    library: str
    objective: str  #: the library's name for it
    loss: str  #: the registry's
    parameters: dict[str, Any]  #: the loss's
    settings: dict[str, Any]  #: the library's, that mean the same
    trees: str  #: "equal": the same splits and the same leaves but for rounding; "refit" or "other": see `why`
    why: str = ""


_REFIT = "leaves are refitted to quantiles of the residuals, which is done for built-in objectives alone"
EQUIVALENTS: tuple[Equivalent, ...] = (
    Equivalent("xgboost", "reg:squarederror", "half_squared_error", {}, {}, "equal"),
    Equivalent("xgboost", "binary:logistic", "binary_cross_entropy_with_logits", {}, {}, "equal"),
    Equivalent("xgboost", "multi:softprob", "cross_entropy", {}, {}, "equal"),
    Equivalent("xgboost", "count:poisson", "poisson_nll_loss", {}, {}, "equal"),
    Equivalent("xgboost", "reg:gamma", "half_gamma_deviance", {}, {}, "equal"),
    Equivalent(
        *("xgboost", "reg:tweedie", "half_tweedie_deviance"), {"power": 1.5}, {"tweedie_variance_power": 1.5}, "equal"
    ),
    Equivalent("xgboost", "reg:pseudohubererror", "pseudo_huber_loss", {"delta": 2.0}, {"huber_slope": 2.0}, "equal"),
    Equivalent("xgboost", "reg:absoluteerror", "l1_loss", {}, {}, "equal"),
    Equivalent(
        *("xgboost", "reg:quantileerror", "pinball_loss", {"quantile": 0.8}, {"quantile_alpha": 0.8}, "equal"),
    ),
    Equivalent(
        *("xgboost", "reg:squaredlogerror", "msle", {}, {}, "other"),
        "the built-in one is half of it, and holds predictions above -1 by clipping them",
    ),
    Equivalent("lightgbm", "regression", "half_squared_error", {}, {}, "equal"),
    Equivalent("lightgbm", "huber", "huber_loss", {"delta": 0.9}, {"alpha": 0.9}, "equal"),
    Equivalent("lightgbm", "poisson", "poisson_nll_loss", {}, {}, "equal"),
    Equivalent("lightgbm", "gamma", "half_gamma_deviance", {}, {}, "equal"),
    Equivalent(
        *("lightgbm", "tweedie", "half_tweedie_deviance"), {"power": 1.5}, {"tweedie_variance_power": 1.5}, "equal"
    ),
    Equivalent("lightgbm", "binary", "binary_cross_entropy_with_logits", {}, {}, "equal"),
    Equivalent("lightgbm", "cross_entropy", "binary_cross_entropy_with_logits", {}, {}, "equal"),
    Equivalent("lightgbm", "multiclass", "cross_entropy", {}, {}, "equal"),
    Equivalent("lightgbm", "regression_l1", "l1_loss", {}, {}, "refit", _REFIT),
    Equivalent("lightgbm", "quantile", "pinball_loss", {"quantile": 0.8}, {"alpha": 0.8}, "refit", _REFIT),
    Equivalent("catboost", "RMSE", "half_squared_error", {}, {}, "equal"),
    Equivalent("catboost", "Logloss", "binary_cross_entropy_with_logits", {}, {}, "equal"),
    Equivalent("catboost", "CrossEntropy", "binary_cross_entropy_with_logits", {}, {}, "equal"),
    Equivalent("catboost", "MultiClass", "cross_entropy", {}, {}, "equal"),
    Equivalent("catboost", "Poisson", "poisson_nll_loss", {}, {}, "equal"),
    Equivalent("catboost", "Huber:delta=0.9", "huber_loss", {"delta": 0.9}, {}, "equal"),
    Equivalent("catboost", "LogCosh", "log_cosh_loss", {}, {}, "equal"),
    Equivalent("catboost", "Expectile:alpha=0.8", "expectile_loss", {"expectile": 0.8}, {}, "equal"),
    Equivalent("catboost", "Tweedie:variance_power=1.5", "half_tweedie_deviance", {"power": 1.5}, {}, "equal"),
    Equivalent("catboost", "MAE", "l1_loss", {}, {}, "refit", _REFIT),
    Equivalent("catboost", "Quantile:alpha=0.8", "pinball_loss", {"quantile": 0.8}, {}, "refit", _REFIT),
)


def built_in_hessian(library: str, version: str | None = None) -> str:
    """Which of `HESSIANS` a library's built-in softmax objective uses.

    Parameters
    ----------
    library : {"xgboost", "lightgbm", "catboost"}
    version : str, optional
        The one installed, if not given; the newest known one if none is.

    Returns
    -------
    str

    Notes
    -----
    ======== ================= ==================
    library  version           convention
    ======== ================= ==================
    XGBoost  up to 3.4         ``"xgboost"``
    XGBoost  from 3.5          ``"abs_residual"``
    LightGBM up to 2.3         ``"xgboost"``
    LightGBM from 3.0          ``"lightgbm"``
    CatBoost all               ``"exact"``
    ======== ================= ==================

    XGBoost 3.2.0, LightGBM 4.7.0 and CatBoost 1.2.10 are tested; the rest is read from their sources and, for XGBoost
    3.5, from the change that was accepted for it (dmlc/xgboost#12537).

    Examples
    --------
    >>> from lossfast.boosting import built_in_hessian
    >>> built_in_hessian("lightgbm", "4.7.0"), built_in_hessian("lightgbm", "2.3.1")
    ('lightgbm', 'xgboost')
    """
    if library not in _SOFTMAX:
        raise ValueError(f"library must be one of {', '.join(map(repr, _SOFTMAX))}, got {library!r}")
    rows = _SOFTMAX[library]
    if version is None:
        try:
            version = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            return rows[-1][1]
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None:
        raise ValueError(f"version must begin with two numbers, as in '3.2.0', got {version!r}")
    found = (int(numbers[1]), int(numbers[2]))
    return [name for since, name in rows if since <= found][-1]


# ---------------------------------------------------------------------------------------------------- what is asked


def _fitting(loss: Any) -> Any:
    """The loss of that name, or the object, if its scores may be any numbers, as those of boosted trees are."""
    loss = get_loss(loss) if isinstance(loss, str) else loss
    if getattr(loss, "kind", None) not in ("pointwise", "rowwise"):
        raise TypeError(f"loss must be a loss of one array of scores, or its name, got {loss!r}")
    first = loss.operands[0]
    if loss.domains.get(first) == "in [0, 1]" or loss.takes[:1] in (("probabilities",), ("log-probabilities",)):
        raise ValueError(f"{loss!r} takes probabilities, but boosted trees give scores that may be any numbers")
    if "hess" not in loss.outputs:
        raise ValueError(f"{loss!r} has no Hessian, which boosting needs")
    if loss._defaults["sample_weight"] is not None:
        raise ValueError(f"{loss!r} has sample weights bound to it; give them to the library with the data")
    return loss


def _slopes(loss: Any) -> tuple[bool, bool]:
    """Whether gradient and second derivative are anything but 0 somewhere, as seen at a few scores."""
    # With its parameters, but without weights or masks, whose shapes are the data's.
    loss = get_loss(loss.name).bind(**{name: loss._defaults[name] for name in loss.parameters})
    scores = np.linspace(-0.9, 6.0, 32)
    if loss.kind == "rowwise":
        scores = np.stack([scores, -scores, np.zeros_like(scores)], 1)
        target: Any = np.zeros(len(scores), int) if loss.labelled else np.eye(3)[np.zeros(len(scores), int)]
    else:
        target = np.ones_like(scores)
    grad, hess = loss.grad_and_hess(scores, target, reduction="none", n_threads=1)
    return bool(np.any(grad)), bool(np.any(hess))


@dataclass(frozen=True)
class _Rule:
    """How the second derivative is made, times a factor."""

    of: str = "hess"  #: of the loss's ("hess"), of 1 ("one") or of the gradient's size ("grad")
    factor: Callable[[int], float] | None = None


def _rule(loss: Any, hessian: str) -> _Rule:
    """The rule of a convention for a loss. A whole matrix has none; without one, its rule is that of the diagonal."""
    library = hessian in ("xgboost", "lightgbm")
    if hessian == "constant" or (hessian, loss.name) == ("lightgbm", "huber_loss"):
        return _Rule("one")
    if hessian == "abs_residual":
        return _Rule("grad")
    if not _slopes(loss)[1]:
        if library:  # as they do for absolute error and quantiles
            return _Rule("one")
        raise ValueError(
            f"the second derivative of {loss!r} is 0 wherever it exists, and no tree would grow; use hessian='constant'"
        )
    if library and loss.kind == "rowwise":
        return _Rule(factor=_twice if hessian == "xgboost" else _redundant)
    if library and loss.name == "poisson_nll_loss" and loss._defaults["log_input"]:
        return _Rule(factor=_damped)
    return _Rule()


def _twice(classes: int) -> float:
    return 2.0


def _redundant(classes: int) -> float:
    return classes / (classes - 1) if classes > 1 else 1.0


def _damped(classes: int) -> float:
    return math.exp(POISSON_DELTA)


def _built_in(library: str, loss: Any) -> bool:
    """Whether the library has it; a whole matrix may be other than positive where it has not, and diagonals are cut."""
    return any((pair.library, pair.loss) == (library, loss.name) for pair in EQUIVALENTS)


def _convention(library: str, loss: Any, hessian: str | None) -> str:
    """The name of the convention, which is the built-in objectives' if none is given."""
    if hessian is None:
        if not _slopes(loss)[1]:
            return "constant"
        if loss.kind == "rowwise":
            found = built_in_hessian(library)
            return "exact_diag" if found == "exact" and not _built_in(library, loss) else found
        return "exact_diag" if library == "catboost" else library
    known = [name for name in HESSIANS if name != "exact" or library == "catboost"]
    if hessian not in known:
        raise ValueError(f"hessian must be one of {', '.join(map(repr, known))}, got {hessian!r}")
    return hessian


def _checked_floor(library: str, floor: float | None) -> float:
    if floor is None:
        return _FLOORS[library]
    if not 0 <= floor < math.inf:
        raise ValueError(f"floor must be finite and at least 0, got {floor!r}")
    return float(floor)


# ------------------------------------------------------------------------------------------------ arrays of libraries


def _targets(loss: Any, labels: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Labels as libraries hand them over, which is in floats, as the loss takes them for scores of that shape."""
    labels = np.asarray(labels)
    classes = loss.kind == "rowwise"
    if classes and loss.labelled and labels.size == shape[0] and len(shape) == 2 and labels.shape != shape:
        labels = labels.reshape(-1)
        if labels.dtype.kind in "iub":
            return labels
        with np.errstate(invalid="ignore"):
            whole = labels.astype(np.intp)
        wrong = whole != labels
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(f"label {labels[row]} at row {row} is no class: {loss!r} needs whole numbers from 0")
        return whole
    if labels.shape != shape:
        if labels.size != math.prod(shape):
            need = f"{shape[0]} class labels, or labels of shape {shape}" if classes else f"labels of shape {shape}"
            raise ValueError(f"labels have shape {labels.shape}, but for scores of shape {shape} {loss!r} needs {need}")
        labels = labels.reshape(shape)
    if loss.domains.get("target") == "-1 or 1":
        return np.where(labels == 0, -1, labels)
    return labels


def _scores(library: str, loss: Any, preds: Any, rows: int) -> np.ndarray:
    """The scores, a row for each row of the data; LightGBM before 4.0 gave those of all classes one after another."""
    preds = np.asarray(preds)
    if preds.ndim == 1 and preds.size != rows and rows and preds.size % rows == 0:
        preds = preds.reshape((rows, -1), order="F" if library == "lightgbm" else "C")
    if loss.kind == "rowwise" and preds.ndim != 2:
        raise ValueError(
            f"scores have shape {preds.shape}, but {loss!r} needs one for each class: set {_CLASSES[library]} (for two "
            "classes a loss of one score, such as binary_cross_entropy_with_logits, may be what is wanted)"
        )
    return preds


#: What tells each library how many scores a row has.
_CLASSES = {"xgboost": "num_class", "lightgbm": "num_class", "catboost": "classes_count and eval_metric='MultiClass'"}


def _given(weights: Any) -> np.ndarray | None:
    """Weights, or None where there are none, which XGBoost says by an empty array."""
    if weights is None:
        return None
    weights = np.asarray(weights)
    return weights if weights.size else None


@dataclass(frozen=True, repr=False)
class _Adapter:
    """What objectives and metrics have in common: they do not change, so that a copy is the object itself.

    CatBoost copies its parameters when asked for them, and ``sklearn.base.clone`` insists on getting those it gave.
    """

    loss: Any

    def __copy__(self) -> _Adapter:
        return self

    def __deepcopy__(self, memo: Any) -> _Adapter:
        return self

    def _unpacked(self, library: str, first: Any, second: Any, weights: Any) -> tuple[np.ndarray, np.ndarray, Any]:
        """Scores, targets and weights, of a call ``(scores, data)`` or ``(labels, scores, weights)``."""
        if hasattr(second, "get_label"):
            first, second, weights = second.get_label(), first, second.get_weight()
        labels = np.asarray(first)
        pred = _scores(library, self.loss, second, len(labels))
        return pred, _targets(self.loss, labels, pred.shape), _given(weights)


@dataclass(frozen=True, repr=False)
class _Objective(_Adapter):
    """Gradients and second derivatives as a library wants them."""

    hessian: str
    floor: float
    library: ClassVar[str] = ""
    function: ClassVar[str] = ""

    def __repr__(self) -> str:
        return f"lossfast.boosting.{self.function}({self.loss!r}, hessian={self.hessian!r}, floor={self.floor!r})"

    @functools.cached_property
    def _plan(self) -> tuple[Any, _Rule]:
        return self.loss.bind(reduction="none"), _rule(self.loss, self.hessian)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_plan"}

    def derivatives(
        self, pred: Any, target: Any, sample_weight: Any = None, *, grad_out: Any = None, hess_out: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Gradient and second derivative of every score, weighted, in the order of the scores and in float32."""
        loss, rule = self._plan
        grad = np.empty_like(pred, dtype=np.float32) if grad_out is None else grad_out
        hess = np.empty_like(pred, dtype=np.float32) if hess_out is None else hess_out
        if rule.of == "hess":
            # A factor comes before the only rounding, as it does in the libraries.
            exact = hess if rule.factor is None else np.empty_like(hess, dtype=np.float64)
            loss.grad_and_hess(pred, target, sample_weight=sample_weight, grad_out=grad, hess_out=exact)
            if rule.factor is not None:
                np.multiply(exact, rule.factor(pred.shape[-1]), out=hess, casting="same_kind")
        else:
            loss.grad(pred, target, sample_weight=sample_weight, out=grad)
            if rule.of == "grad":
                np.abs(grad, out=hess)
            elif sample_weight is None:
                hess[...] = 1
            else:
                hess[...] = np.reshape(sample_weight, (-1,) + (1,) * (hess.ndim - 1))
        if rule.of != "one":
            np.maximum(hess, self.floor, out=hess)
        return grad, hess


class _Gradients(_Objective):
    """An objective that is called with scores, and returns gradients and second derivatives."""

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """Gradient and second derivative: float32, of the scores' shape and order.

        Parameters
        ----------
        y_true, y_pred : array_like
            Labels and raw scores; or, as the libraries' own interfaces call it, the scores and the ``DMatrix`` or
            ``Dataset``.
        sample_weight : array_like, optional
            One for each row.
        """
        pred, target, weights = self._unpacked(self.library, y_true, y_pred, sample_weight)
        grad, hess = self.derivatives(pred, target, weights)
        if np.ndim(y_true if hasattr(y_pred, "get_label") else y_pred) < pred.ndim:
            order: Literal["F", "C"] = "F" if self.library == "lightgbm" else "C"
            return grad.ravel(order), hess.ravel(order)
        return grad, hess


class _XGBoostObjective(_Gradients):
    library = "xgboost"
    function = "xgboost_objective"


class _LightGBMObjective(_Gradients):
    library = "lightgbm"
    function = "lightgbm_objective"


class _CatBoostObjective(_Objective):
    """What CatBoost calls: the derivatives of what it maximises, which is minus the loss."""

    library = "catboost"
    function = "catboost_objective"
    no_jit = True  # CatBoost compiles methods with Numba unless there is such an attribute

    def calc_ders_range(self, approxes: Any, targets: Any, weights: Any) -> np.ndarray:
        """Minus the derivatives of the loss of many objects with one score each, a pair to a row."""
        pred = _scores("catboost", self.loss, approxes, len(targets))
        if pred.ndim != 1:
            raise ValueError(f"scores have shape {pred.shape}, but {self!r} was asked for those of one score an object")
        both = np.empty((2, len(pred)))
        target = _targets(self.loss, targets, pred.shape)
        self.derivatives(pred, target, _given(weights), grad_out=both[0], hess_out=both[1])
        return np.negative(both, out=both).T

    def calc_ders_multi(self, approxes: Any, targets: Any, weight: Any) -> tuple[list[float], list[list[float]]]:
        """Minus the gradient and the Hessian of the loss of one object with several scores.

        ``targets`` is its class, or as many numbers as there are scores.
        """
        pred = np.asarray(approxes, np.float64).reshape(1, -1)
        if self.loss.labelled and isinstance(targets, float) and targets.is_integer():
            target = np.array([int(targets)])  # this is called for every object
        else:
            target = _targets(self.loss, np.reshape(targets, (1, -1)), pred.shape)
        loss, _ = self._plan
        if self.hessian == "exact" and self.loss.kind == "rowwise" and "hvp" in loss.outputs:
            grad = loss.grad(pred, target)
            classes = pred.shape[1]
            matrix = loss.hvp(pred.repeat(classes, 0), target.repeat(classes, 0), np.eye(classes))
        else:
            grad, hess = self.derivatives(pred, target, grad_out=np.empty(pred.shape), hess_out=np.empty(pred.shape))
            matrix = np.diag(hess[0])
        return (grad[0] * -weight).tolist(), (matrix * -weight).tolist()


@dataclass(frozen=True, repr=False)
class _Metric(_Adapter):
    """The mean loss of raw scores, under a name; less is better."""

    name: str
    library: ClassVar[str] = ""
    function: ClassVar[str] = ""

    def __repr__(self) -> str:
        return f"lossfast.boosting.{self.function}({self.loss!r}, name={self.name!r})"

    @property
    def __name__(self) -> str:
        return self.name

    def _mean(self, first: Any, second: Any, weights: Any) -> float:
        pred, target, weights = self._unpacked(self.library, first, second, weights)
        return float(self.loss(pred, target, sample_weight=weights, reduction="mean"))


class _XGBoostMetric(_Metric):
    library = "xgboost"
    function = "xgboost_metric"

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> float | tuple[str, float]:
        """The mean loss; as `xgboost.train` calls it, with its name."""
        value = self._mean(y_true, y_pred, sample_weight)
        return (self.name, value) if hasattr(y_pred, "get_label") else value


class _LightGBMMetric(_Metric):
    library = "lightgbm"
    function = "lightgbm_metric"

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[str, float, bool]:
        """Name, mean loss, and that more of it is not better."""
        return self.name, self._mean(y_true, y_pred, sample_weight), False


class _CatBoostMetric(_Metric):
    library = "catboost"
    function = "catboost_metric"
    no_jit = True

    def is_max_optimal(self) -> bool:
        """That more of it is not better."""
        return False

    def evaluate(self, approxes: Sequence[Any], target: Any, weight: Any) -> tuple[float, float]:
        """The sum of the losses and their weight. There is an array of scores for each dimension."""
        columns = np.stack([np.asarray(column) for column in approxes], axis=-1)
        labels = np.stack([np.asarray(column) for column in target], axis=-1) if isinstance(target, tuple) else target
        pred = columns[:, 0] if self.loss.kind == "pointwise" and columns.shape[1] == 1 else columns
        found = self.loss.reduce(pred, _targets(self.loss, labels, pred.shape), sample_weight=_given(weight))
        return float(found.sum), float(found.weight)

    def get_final_error(self, error: float, weight: float) -> float:
        """The mean."""
        return error / weight if weight else math.nan


# ----------------------------------------------------------------------------------------------------------- public


def xgboost_objective(loss: Any, *, hessian: str | None = None, floor: float | None = None) -> Any:
    """A loss as an objective of XGBoost: for ``train(obj=)``, ``XGBRegressor(objective=)`` and ``XGBClassifier``.

    Parameters
    ----------
    loss : Loss or str
        A pointwise loss, or one over a class axis; with its parameters bound, if it is to have other than the defaults.
    hessian : str, optional
        Which of `HESSIANS` the second derivatives are. If not given, what the built-in objectives of the XGBoost that
        is installed use; the name is part of what is pickled.
    floor : float, optional
        The least second derivative, but for constant ones; 1e-16 if not given, as XGBoost's own objectives have it.

    Returns
    -------
    callable
        ``(y_true, y_pred, sample_weight=None) -> (grad, hess)``; called with ``(y_pred, dtrain)``, it takes labels and
        weights from there.

    Raises
    ------
    ValueError
        The loss takes no scores (but probabilities), or a name or number is not known.
    TypeError
        It is no loss.

    Notes
    -----
    Keep the name of a built-in objective of the same link in the parameters of ``train``: it transforms predictions,
    refits leaves for ``reg:absoluteerror`` and ``reg:quantileerror``, and a saved model says it. Scores and gradients
    are float32, in which XGBoost's own exponentials are less exact than these: gradients agree within its rounding.

    Examples
    --------
    >>> from lossfast.boosting import xgboost_objective
    >>> objective = xgboost_objective("cross_entropy", hessian="exact_diag")
    >>> grad, hess = objective([1.0], [[0.0, 0.0]])
    >>> grad, hess
    (array([[ 0.5, -0.5]], dtype=float32), array([[0.25, 0.25]], dtype=float32))
    """
    return _made(_XGBoostObjective, loss, hessian, floor)


def lightgbm_objective(loss: Any, *, hessian: str | None = None, floor: float | None = None) -> Any:
    """A loss as an objective of LightGBM: for ``train({"objective": ...})`` and ``LGBMModel(objective=)``.

    Parameters
    ----------
    loss : Loss or str
        A pointwise loss, or one over a class axis; with its parameters bound, if it is to have other than the defaults.
    hessian : str, optional
        Which of `HESSIANS` the second derivatives are. If not given, what the built-in objectives of the LightGBM that
        is installed use; the name is part of what is pickled.
    floor : float, optional
        The least second derivative, but for constant ones; 0 if not given: LightGBM adds 1e-15 to the sum of every
        leaf itself.

    Returns
    -------
    callable
        ``(y_true, y_pred, sample_weight=None) -> (grad, hess)``; called with ``(y_pred, dataset)``, it takes labels and
        weights from there. Several scores a row are in Fortran order, as LightGBM keeps them, and so are the results.

    Raises
    ------
    ValueError
        The loss takes no scores (but probabilities), or a name or number is not known.
    TypeError
        It is no loss.

    Examples
    --------
    >>> from lossfast.boosting import lightgbm_objective
    >>> lightgbm_objective("cross_entropy", hessian="lightgbm")([1.0], [[0.0, 0.0]])[1]
    array([[0.5, 0.5]], dtype=float32)
    """
    return _made(_LightGBMObjective, loss, hessian, floor)


def catboost_objective(
    loss: Any, *, hessian: str | None = None, floor: float | None = None, multi_target: bool = False
) -> Any:
    """A loss as an objective of CatBoost: for ``CatBoost(loss_function=)``.

    Parameters
    ----------
    loss : Loss or str
        A pointwise loss, or one over a class axis; with its parameters bound, if it is to have other than the defaults.
    hessian : str, optional
        Which of `HESSIANS` the second derivatives are. If not given, ``"exact"`` for cross-entropy, as the built-in
        objective has it; ``"constant"`` for losses whose second derivative is 0; ``"exact_diag"`` for the others.
    floor : float, optional
        The least second derivative, but for constant ones and for the whole matrix of ``"exact"``; 0 if not given.
    multi_target : bool, default False
        Whether there are several targets, a column each: then the result is a ``MultiTargetCustomObjective``, for
        several regressions or soft labels. CatBoost must be installed for it.

    Returns
    -------
    object
        With ``calc_ders_range`` for one score an object, and ``calc_ders_multi`` for several.

    Raises
    ------
    ValueError
        The loss takes no scores (but probabilities), or a name or number is not known.
    TypeError
        It is no loss.

    Notes
    -----
    CatBoost maximises, so that derivatives change their sign. It asks for those of one score in blocks, but with
    several scores object by object, in Python, which no loss can make fast. With several classes it needs
    ``classes_count`` and ``eval_metric="MultiClass"``, from which it knows how many scores there are, and its
    ``predict`` gives scores with ``prediction_type="RawFormulaVal"`` alone. To have the trees of a built-in objective,
    set its ``leaf_estimation_method`` and ``leaf_estimation_iterations``, whose defaults depend on the objective.

    Examples
    --------
    >>> import numpy as np
    >>> from lossfast.boosting import catboost_objective
    >>> catboost_objective("half_squared_error").calc_ders_range(np.array([3.0]), np.array([1.0]), None)
    array([[-2., -1.]])
    """
    kind = _multi_target_kinds()[0] if multi_target else _CatBoostObjective
    return _made(kind, loss, hessian, floor)


def _made(kind: type[_Objective], loss: Any, hessian: str | None, floor: float | None) -> _Objective:
    loss = _fitting(loss)
    if not _slopes(loss)[0]:
        raise ValueError(f"the gradient of {loss!r} is 0 wherever it exists, and nothing could be learnt from it")
    made = kind(loss, _convention(kind.library, loss, hessian), _checked_floor(kind.library, floor))
    made._plan  # noqa: B018 (errors come now, not in the middle of training)
    return made


def xgboost_metric(loss: Any, *, name: str | None = None) -> Any:
    """The mean of a loss as a metric of XGBoost: for ``train(custom_metric=)`` and ``XGBModel(eval_metric=)``.

    It takes raw scores, which is what XGBoost passes beside an objective of one's own. Less is better.

    Parameters
    ----------
    loss : Loss or str
    name : str, optional
        What to call it; the loss's name, if not given.

    Examples
    --------
    >>> from lossfast.boosting import xgboost_metric
    >>> xgboost_metric("l1_loss")([1.0, 2.0], [0.0, 0.0], sample_weight=[3.0, 1.0])
    1.25
    """
    return _XGBoostMetric(_fitting(loss), _named(loss, name))


def lightgbm_metric(loss: Any, *, name: str | None = None) -> Any:
    """The mean of a loss as a metric of LightGBM: for ``train(feval=)`` and ``fit(eval_metric=)``.

    It takes raw scores, which is what LightGBM passes beside an objective of one's own. Less is better.

    Parameters
    ----------
    loss : Loss or str
    name : str, optional
        What to call it; the loss's name, if not given.

    Examples
    --------
    >>> from lossfast.boosting import lightgbm_metric
    >>> lightgbm_metric("l1_loss")([1.0, 2.0], [0.0, 0.0])
    ('l1_loss', 1.5, False)
    """
    return _LightGBMMetric(_fitting(loss), _named(loss, name))


def catboost_metric(loss: Any, *, name: str | None = None, multi_target: bool = False) -> Any:
    """The mean of a loss as a metric of CatBoost: for ``CatBoost(eval_metric=)``.

    It takes raw scores. CatBoost calls it by the name of its class; ``name`` is for the ``repr``. Less is better.

    Parameters
    ----------
    loss : Loss or str
    name : str, optional
        What to call it; the loss's name, if not given.
    multi_target : bool, default False
        Whether there are several targets: then the result is a ``MultiTargetCustomMetric``. CatBoost must be installed
        for it.

    Examples
    --------
    >>> import numpy as np
    >>> from lossfast.boosting import catboost_metric
    >>> metric = catboost_metric("l1_loss")
    >>> metric.get_final_error(*metric.evaluate((np.zeros(2),), np.array([1.0, 2.0]), None))
    1.5
    """
    kind = _multi_target_kinds()[1] if multi_target else _CatBoostMetric
    return kind(_fitting(loss), _named(loss, name))


def _named(loss: Any, name: str | None) -> str:
    if name is None:
        return _fitting(loss).name
    if not isinstance(name, str) or not name:
        raise TypeError(f"name must be a text, got {name!r}")
    return name


@functools.cache
def _multi_target_kinds() -> tuple[type[_CatBoostObjective], type[_CatBoostMetric]]:
    """The kinds that CatBoost tells by their base class, which are made once it is there."""
    catboost = importlib.import_module("catboost")

    class MultiTargetObjective(_CatBoostObjective, catboost.MultiTargetCustomObjective):  # type: ignore[name-defined]
        def __repr__(self) -> str:
            return f"{super().__repr__()[:-1]}, multi_target=True)"

        def __reduce__(self) -> Any:
            again = functools.partial(catboost_objective, multi_target=True)
            return functools.partial(again, hessian=self.hessian, floor=self.floor), (self.loss,)

    class MultiTargetMetric(_CatBoostMetric, catboost.MultiTargetCustomMetric):  # type: ignore[name-defined]
        def __repr__(self) -> str:
            return f"{super().__repr__()[:-1]}, multi_target=True)"

        def __reduce__(self) -> Any:
            return functools.partial(catboost_metric, name=self.name, multi_target=True), (self.loss,)

    return MultiTargetObjective, MultiTargetMetric


def initial_score(loss: Any, y: Any, *, sample_weight: Any = None, n_classes: int | None = None) -> Any:
    """The best constant score: what boosting should start from.

    Parameters
    ----------
    loss : Loss, str or objective
    y : array_like
        Labels, as a library would pass them; for losses over a class axis class labels, or soft labels of shape (N, K);
        for others of shape (N, K) where there are K targets.
    sample_weight : array_like of shape (N,), optional
    n_classes : int, optional
        The number of classes, if class labels do not tell.

    Returns
    -------
    float or ndarray of shape (K,)
        Where the gradient of the loss is 0; one for each class, or for each of several targets. Where a constant may be
        added to the scores of all classes, their mean is 0.

    Raises
    ------
    ValueError
        There is none: all labels are of one class, or a class has no rows.
    ImportError
        SciPy, which finds it, is not installed.

    Examples
    --------
    >>> from lossfast.boosting import initial_score
    >>> initial_score("half_squared_error", [1.0, 2.0, 6.0])
    3.0
    >>> initial_score("cross_entropy", [0, 1, 1, 0])
    array([0., 0.])
    """
    loss = _fitting(loss.loss if isinstance(loss, _Adapter) else loss).bind(reduction="sum")
    y = np.asarray(y)
    weights = None if sample_weight is None else np.asarray(sample_weight, np.float64)
    if y.size == 0:
        raise ValueError("y is empty")
    if loss.kind == "rowwise":
        return _best_row(loss, y, weights, n_classes)
    if n_classes is not None:
        raise ValueError(f"n_classes is for losses over a class axis, which {loss!r} is not")
    if y.ndim > 1:
        return np.array([initial_score(loss, column, sample_weight=sample_weight) for column in y.T])
    optimize = importlib.import_module("scipy.optimize")
    target = _targets(loss, y, y.shape).astype(np.float64)

    def slope(score: float) -> float:
        return float(np.sum(loss.grad(np.full(y.shape, score), target, sample_weight=weights)))

    middle = float(np.median(target))
    for start in (0.0, middle):  # scores may have to be above 0, or near the targets to be seen from there
        found = _best_point(optimize.brentq, slope, start, lambda score: float(inside(loss, loss.operands[0], score)))
        if found is not None:
            return found
    raise ValueError(f"no constant is best for {loss!r}: from 0 and {middle:.3g} there is none. Are all labels alike?")


def _best_point(
    root: Callable[..., float], slope: Callable[[float], float], start: float, clip: Callable[[float], float]
) -> float | None:
    """Where the slope turns from negative to positive, or None. Where scores may not lie, it is not finite."""
    point, here, reach = start, slope(start), max(1.0, abs(start))
    if not math.isfinite(here):
        return None
    for _ in range(64):
        if here == 0:
            break
        other = clip(point + math.copysign(reach, -here))
        there = slope(other)
        if not math.isfinite(there):
            reach /= 4
        elif there != 0 and (there > 0) != (here > 0):
            return float(root(slope, point, other, xtol=1e-13, rtol=1e-14))
        else:
            point, here, reach = other, there, 2 * reach
    if here == 0:  # which may also be a slope that has vanished
        for width in (1e-3, 1.0, 1e3):
            left, right = (slope(clip(point + side * width * max(1.0, abs(point)))) for side in (-1, 1))
            if not left >= 0 and not right <= 0:
                return point
    return None


def _best_row(loss: Any, y: np.ndarray, weights: np.ndarray | None, n_classes: int | None) -> np.ndarray:
    """The best constant scores over a class axis. Rows of one class are taken together."""
    optimize = importlib.import_module("scipy.optimize")
    if loss.labelled and y.ndim == 1:
        target = _targets(loss, y, (len(y), 2))
        target, place = np.unique(target, return_inverse=True)
        weights = np.bincount(place, weights)
        seen, classes = target[weights > 0], max(n_classes or 0, int(target[-1]) + 1)
        missing = sorted(set(range(classes)) - set(seen.tolist()))
        if missing:
            raise ValueError(f"no scores are the best: class {missing[0]} of {classes} has no rows")
    elif y.ndim == 2 and n_classes in (None, y.shape[1]):
        target, classes = y.astype(np.float64), y.shape[1]
    else:
        given = "" if n_classes is None else f" and n_classes={n_classes}"
        raise ValueError(f"y must be N class labels or of shape (N, K) for {loss!r}, got shape {y.shape}{given}")
    shape = (len(target), classes)

    def value_and_slope(scores: np.ndarray) -> tuple[float, np.ndarray]:
        value, grad = loss.value_and_grad(np.broadcast_to(scores, shape), target, sample_weight=weights)
        return value / total, grad.sum(0) / total

    def product(scores: np.ndarray, direction: np.ndarray) -> np.ndarray:
        rows = (np.broadcast_to(scores, shape), target, np.broadcast_to(direction, shape))
        return np.asarray(loss.hvp(*rows, sample_weight=weights).sum(0) / total)

    total = float(shape[0] if weights is None else weights.sum())
    zeros = np.zeros(classes)  # whose mean stays 0 where gradients' sum is
    if "hvp" in loss.outputs:
        options = {"method": "Newton-CG", "hessp": product, "options": {"xtol": 1e-13}}
    else:
        options = {"method": "BFGS", "options": {"gtol": 1e-10}}
    found = optimize.minimize(value_and_slope, zeros, jac=True, **options)
    scores = found.x
    if np.abs(found.jac).max() > 1e-6:
        raise ValueError(f"no constant scores were found to be the best for {loss!r}: {found.message}")
    if "hvp" in loss.outputs:  # one more step, since values hardly tell any more; the matrix may be singular
        linear = importlib.import_module("scipy.sparse.linalg")
        hessian = linear.LinearOperator((classes, classes), matvec=functools.partial(product, scores))
        scores = scores - linear.minres(hessian, value_and_slope(scores)[1], rtol=1e-6)[0]
    return np.asarray(scores)
