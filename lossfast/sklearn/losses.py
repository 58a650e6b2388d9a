"""Loss objects with the interface that scikit-learn's estimators use, for data of any kind.

They are scikit-learn's private loss classes with lossfast inside: the same names, parameters, methods, links and
intervals. They are instances of its ``BaseLoss``, so that ``HistGradientBoostingRegressor(loss=...)`` takes them.
Beyond that they accept labels of any dtype, half floats, strided and read-only arrays and lists, and they check
labels: one out of range is an error, and never a read beyond the end. `PointwiseLoss` makes such an object of any
other pointwise loss.

``constant_hessian`` is always False: where it is True, histogram gradient boosting passes sample weights by, and
whoever builds such an object cannot know whether there will be any.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn._loss import link as links
from sklearn._loss import loss as theirs
from sklearn.utils.metaestimators import available_if

import lossfast as lf
from lossfast._loss import Loss, inside

from . import _closs


class _LossObject(theirs.BaseLoss):
    """What the objects have beyond scikit-learn's: lossfast inside, and a welcome for data of any kind."""

    _parameters: ClassVar[tuple[str, ...]] = ()
    closs: Any

    def __init__(self, sample_weight: Any = None, **parameters: Any) -> None:
        super().__init__(sample_weight=sample_weight, **parameters)
        self._settle()

    def _settle(self) -> None:
        self.closs = _closs.stand_in(self.closs)
        self.constant_hessian = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._settle()

    def __repr__(self) -> str:
        values = [(name, getattr(self if hasattr(self, name) else self.closs, name)) for name in self._parameters]
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in values)})"

    @property
    def need_update_leaves_values(self) -> bool:
        """The opposite of ``differentiable``, by the name that it once had."""
        return not self.differentiable

    # ---- scikit-learn's methods, whose arguments become arrays first, and which make no buffers of integers

    def in_y_true_range(self, y: Any) -> bool:
        return bool(super().in_y_true_range(np.asarray(y)))

    def in_y_pred_range(self, y: Any) -> bool:
        return bool(super().in_y_pred_range(np.asarray(y)))

    def loss(
        self, y_true: Any, raw_prediction: Any, sample_weight: Any = None, loss_out: Any = None, n_threads: int = 1
    ) -> Any:
        y, raw, weight = _arrays(y_true, raw_prediction, sample_weight)
        if loss_out is None:
            loss_out = _losses_like(raw)
        return super().loss(y, raw, weight, loss_out, n_threads)

    def loss_gradient(
        self,
        y_true: Any,
        raw_prediction: Any,
        sample_weight: Any = None,
        loss_out: Any = None,
        gradient_out: Any = None,
        n_threads: int = 1,
    ) -> Any:
        y, raw, weight = _arrays(y_true, raw_prediction, sample_weight)
        if loss_out is None:
            loss_out = _losses_like(raw if gradient_out is None else gradient_out)
            if gradient_out is None:
                gradient_out = np.empty_like(raw)
        return super().loss_gradient(y, raw, weight, loss_out, gradient_out, n_threads)

    def gradient(
        self, y_true: Any, raw_prediction: Any, sample_weight: Any = None, gradient_out: Any = None, n_threads: int = 1
    ) -> Any:
        return super().gradient(*_arrays(y_true, raw_prediction, sample_weight), gradient_out, n_threads)

    def gradient_hessian(
        self,
        y_true: Any,
        raw_prediction: Any,
        sample_weight: Any = None,
        gradient_out: Any = None,
        hessian_out: Any = None,
        n_threads: int = 1,
    ) -> Any:
        arrays = _arrays(y_true, raw_prediction, sample_weight)
        return super().gradient_hessian(*arrays, gradient_out, hessian_out, n_threads)

    def fit_intercept_only(self, y_true: Any, sample_weight: Any = None) -> Any:
        return super().fit_intercept_only(_reals(y_true), None if sample_weight is None else np.asarray(sample_weight))

    def constant_to_optimal_zero(self, y_true: Any, sample_weight: Any = None) -> Any:
        return super().constant_to_optimal_zero(_reals(y_true), sample_weight)


def _arrays(y_true: Any, raw_prediction: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
    """The same as arrays: predictions of floats, the others as they are."""
    raw = np.asarray(raw_prediction)
    if raw.dtype.kind in "iub":
        raw = raw.astype(np.float64)
    return np.asarray(y_true), raw, None if sample_weight is None else np.asarray(sample_weight)


def _reals(values: Any) -> np.ndarray:
    """What statistics are made of: singles and doubles stay what they are."""
    array = np.asarray(values)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


def _losses_like(array: np.ndarray) -> np.ndarray:
    """Where the losses of these rows go: those of halves are singles."""
    return np.empty(array.shape[:1], np.promote_types(array.dtype, np.float32))


def _two_probabilities(raw_prediction: Any, scale: float) -> np.ndarray:
    """Those of "no" and "yes", each with all its digits, from the logit divided by that scale."""
    raw = np.asarray(raw_prediction)
    logits = scale * (raw[:, 0] if raw.ndim == 2 and raw.shape[1] == 1 else raw)
    proba = np.empty((*logits.shape, 2), logits.dtype)
    lf.sigmoid(-logits, out=proba[:, 0])
    lf.sigmoid(logits, out=proba[:, 1])
    return proba


class HalfSquaredError(_LossObject, theirs.HalfSquaredError):
    """Half the squared error, for regression.

    Parameters
    ----------
    sample_weight : optional
        For scikit-learn's sake; without effect here.

    Examples
    --------
    >>> from lossfast.sklearn import HalfSquaredError
    >>> HalfSquaredError().loss_gradient([1, 1], [1.0, 3.0])
    (array([0., 2.]), array([0., 2.]))
    """


class AbsoluteError(_LossObject, theirs.AbsoluteError):
    """The absolute error, for regression. 1 stands for its Hessian, and -1 for its gradient at 0.

    Parameters
    ----------
    sample_weight : optional
        For scikit-learn's sake; without effect here.

    Examples
    --------
    >>> from lossfast.sklearn import AbsoluteError
    >>> AbsoluteError().gradient_hessian([1, 1], [0.0, 3.0])
    (array([-1.,  1.]), array([1., 1.]))
    """


class PinballLoss(_LossObject, theirs.PinballLoss):
    """The loss of a quantile, for regression. 1 stands for its Hessian, and ``-quantile`` for its gradient at 0.

    Parameters
    ----------
    sample_weight : optional
        For scikit-learn's sake; without effect here.
    quantile : float, default 0.5
        In (0, 1).

    Examples
    --------
    >>> from lossfast.sklearn import PinballLoss
    >>> PinballLoss(quantile=0.75).loss([1, 1], [0.0, 3.0])
    array([0.75, 0.5 ])
    """

    _parameters = ("quantile",)

    def __init__(self, sample_weight: Any = None, quantile: float = 0.5) -> None:
        super().__init__(sample_weight, quantile=quantile)


class HuberLoss(_LossObject, theirs.HuberLoss):
    """Squares of small errors, lines through the others, for regression.

    Parameters
    ----------
    sample_weight : optional
        For scikit-learn's sake; without effect here.
    quantile : float, default 0.9
        What ``GradientBoostingRegressor`` makes delta of; without effect elsewhere. In (0, 1).
    delta : float, default 0.5
        Where the lines begin: ``closs.delta``, which may be set.

    Examples
    --------
    >>> from lossfast.sklearn import HuberLoss
    >>> loss = HuberLoss(delta=1.0)
    >>> loss
    HuberLoss(quantile=0.9, delta=1.0)
    >>> loss.loss([0, 0], [0.5, 3.0])
    array([0.125, 2.5  ])
    """

    _parameters = ("quantile", "delta")

    def __init__(self, sample_weight: Any = None, quantile: float = 0.9, delta: float = 0.5) -> None:
        super().__init__(sample_weight, quantile=quantile, delta=delta)


class HalfPoissonLoss(_LossObject, theirs.HalfPoissonLoss):
    """Half the Poisson deviance of the logarithm of the mean, without the terms that do not depend on it.

    Parameters
    ----------
    sample_weight : optional
        For scikit-learn's sake; without effect here.

    Examples
    --------
    >>> from lossfast.sklearn import HalfPoissonLoss
    >>> HalfPoissonLoss().gradient([3, 0], [0.0, 0.0])
    array([-2.,  1.])
    """


class HalfGammaLoss(_LossObject, theirs.HalfGammaLoss):
    """Half the gamma deviance of the logarithm of the mean, without the terms that do not depend on it.

    Parameters
    ----------
    sample_weight : optional
        For scikit-learn's sake; without effect here.

    Examples
    --------
    >>> from lossfast.sklearn import HalfGammaLoss
    >>> HalfGammaLoss().gradient([3, 1], [0.0, 0.0])
    array([-2.,  0.])
    """


class HalfTweedieLoss(_LossObject, theirs.HalfTweedieLoss):
    """Half a Tweedie deviance of the logarithm of the mean, without the terms that do not depend on it.

    Parameters
    ----------
    sample_weight : optional
        For scikit-learn's sake; without effect here.
    power : float, default 1.5
        The exponent of the mean in the variance.

    Examples
    --------
    >>> from lossfast.sklearn import HalfTweedieLoss
    >>> HalfTweedieLoss(power=1.5).loss([1, 0], [0.0, 0.0])
    array([4., 2.])
    """

    _parameters = ("power",)

    def __init__(self, sample_weight: Any = None, power: float = 1.5) -> None:
        super().__init__(sample_weight, power=power)


class HalfTweedieLossIdentity(_LossObject, theirs.HalfTweedieLossIdentity):
    """Half a Tweedie deviance of the mean itself: 0 for a perfect prediction.

    Parameters
    ----------
    sample_weight : optional
        For scikit-learn's sake; without effect here.
    power : float, default 1.5
        The exponent of the mean in the variance.

    Examples
    --------
    >>> from lossfast.sklearn import HalfTweedieLossIdentity
    >>> HalfTweedieLossIdentity(power=1.5).loss([1, 0], [1.0, 4.0])
    array([0., 4.])
    """

    _parameters = ("power",)

    def __init__(self, sample_weight: Any = None, power: float = 1.5) -> None:
        super().__init__(sample_weight, power=power)


class HalfBinomialLoss(_LossObject, theirs.HalfBinomialLoss):
    """Binary cross-entropy of logits; the answers may be probabilities.

    Parameters
    ----------
    sample_weight : optional
        For scikit-learn's sake; without effect here.

    Examples
    --------
    >>> from lossfast.sklearn import HalfBinomialLoss
    >>> loss = HalfBinomialLoss()
    >>> loss.gradient([True, False], [0.0, 0.0])
    array([-0.5,  0.5])
    >>> loss.predict_proba([40.0])
    array([[4.24835426e-18, 1.00000000e+00]])
    """

    def predict_proba(self, raw_prediction: Any) -> np.ndarray:
        """The probabilities of both answers, of shape (n_samples, 2)."""
        return _two_probabilities(raw_prediction, 1)


class HalfMultinomialLoss(_LossObject, theirs.HalfMultinomialLoss):
    """Cross-entropy of the softmax of logits, with labels from 0 to C-1, of integers or whole floats.

    Parameters
    ----------
    sample_weight : optional
        For scikit-learn's sake; without effect here.
    n_classes : int, default 3
        C, the length of a row of logits.

    Examples
    --------
    >>> from lossfast.sklearn import HalfMultinomialLoss
    >>> loss = HalfMultinomialLoss(n_classes=2)
    >>> loss.gradient([0, 1], [[0.0, 0.0], [0.0, 0.0]])
    array([[-0.5,  0.5],
           [ 0.5, -0.5]])
    >>> loss.gradient([0, 2], [[0.0, 0.0], [0.0, 0.0]])
    Traceback (most recent call last):
    IndexError: target 2 at row 1 is out of bounds for 2 classes (1 such row)
    """

    _parameters = ("n_classes",)

    def __init__(self, sample_weight: Any = None, n_classes: int = 3) -> None:
        super().__init__(sample_weight, n_classes=n_classes)

    def fit_intercept_only(self, y_true: Any, sample_weight: Any = None) -> np.ndarray:
        """Logits of the shares of the classes, which sum to 0."""
        y = np.asarray(y_true)
        labels, real = _closs.as_labels(y), _reals(y).dtype
        wrong = (labels < 0) | (labels >= self.n_classes)
        if wrong.any():
            row = int(wrong.argmax())
            raise IndexError(f"target {labels[row]} at row {row} is out of bounds for {self.n_classes} classes")
        counts = np.bincount(labels.astype(np.intp, copy=False), weights=sample_weight, minlength=self.n_classes)
        eps = np.finfo(real).eps
        shares = np.clip((counts / counts.sum()).astype(real), eps, 1 - eps)
        return np.asarray(self.link.link(shares[None, :])[0])

    def gradient_proba(
        self,
        y_true: Any,
        raw_prediction: Any,
        sample_weight: Any = None,
        gradient_out: Any = None,
        proba_out: Any = None,
        n_threads: int = 1,
    ) -> Any:
        """The gradient, and the softmax, both of the shape of the logits."""
        arrays = _arrays(y_true, raw_prediction, sample_weight)
        return super().gradient_proba(*arrays, gradient_out, proba_out, n_threads)

    def predict_proba(self, raw_prediction: Any) -> np.ndarray:
        """The softmax of every row."""
        return np.asarray(lf.softmax(raw_prediction))


class ExponentialLoss(_LossObject, theirs.ExponentialLoss):
    """The loss that AdaBoost minimises, of half the logit; the answers may be probabilities.

    Parameters
    ----------
    sample_weight : optional
        For scikit-learn's sake; without effect here.

    Examples
    --------
    >>> from lossfast.sklearn import ExponentialLoss
    >>> ExponentialLoss().gradient([1, 0], [0.0, 0.0])
    array([-1.,  1.])
    """

    def predict_proba(self, raw_prediction: Any) -> np.ndarray:
        """The probabilities of both answers, of shape (n_samples, 2)."""
        return _two_probabilities(raw_prediction, 2)


# ------------------------------------------------------------------------------------------ all the other losses

#: What domains of elements are as intervals: low, high, and whether those belong to it.
_INTERVALS = {
    "-1 or 1": (0, 1, True, True),  # as labels 0 and 1
    "0 or 1": (0, 1, True, True),
    "in [0, 1]": (0, 1, True, True),
    ">= 0": (0, math.inf, True, False),
    "> 0": (0, math.inf, False, False),
    "> -1": (-1, math.inf, False, False),
}
#: Beyond this ratio of its largest to its least value, a Hessian makes Newton steps of any length.
_MOST_BENT = 1e3
#: Further out no constant score is looked for.
_FAR = 10.0


def _is_proba(loss: PointwiseLoss) -> bool:
    return isinstance(loss.link, (links.LogitLink, links.HalfLogitLink))


class PointwiseLoss(_LossObject):
    """Any pointwise loss of the library, as an object for scikit-learn's histogram gradient boosting.

    Parameters
    ----------
    loss : str or loss object
        A name in `lossfast.losses`, or an object with one target, such as ``lf.cauchy_loss``.
    hessian : {"auto", "exact", "unit"}, default "auto"
        What stands for the second derivative. ``"unit"`` is 1, as in scikit-learn for losses that have no other: trees
        then fit the gradient, and if the loss is a function of ``pred - target`` their leaves are moved to its minimum.
        ``"auto"`` is ``"exact"`` where the Hessian is positive and no obstacle to Newton steps, otherwise ``"unit"``.
    link : {"auto", "identity", "log", "logit", "half_logit"}, default "auto"
        What a raw prediction is of the predicted mean. ``"auto"`` is the one at whose means the loss is least, and
        ``"identity"`` if there is none.
    **parameters
        Those of the loss.

    Notes
    -----
    Losses of two answers take labels 0 and 1, also where the loss itself takes -1 and 1; with a logit for a link they
    have ``predict_proba``. A gradient at a kink is lossfast's. Elements out of the loss's domain are an error.

    Examples
    --------
    >>> from lossfast.sklearn import PointwiseLoss
    >>> loss = PointwiseLoss("log_cosh_loss")
    >>> loss
    PointwiseLoss(lossfast.log_cosh_loss)
    >>> loss.gradient([0, 0], [0.0, 40.0])
    array([0., 1.])
    >>> round(float(loss.fit_intercept_only([0.0, 0.0, 9.0])), 4)
    0.5493

    >>> from sklearn.ensemble import HistGradientBoostingRegressor
    >>> model = HistGradientBoostingRegressor(loss=PointwiseLoss("cauchy_loss", c=2.0))
    """

    def __init__(self, loss: Any, *, hessian: str = "auto", link: str = "auto", **parameters: Any) -> None:
        found: Any = lf.get_loss(loss) if isinstance(loss, str) else loss
        if not isinstance(found, Loss) or found.kind != "pointwise":
            raise ValueError(f"loss must be a pointwise loss with one target, or its name; got {loss!r}")
        if set(found._fixed) - set(found.parameters) - {found.extra}:
            raise ValueError(f"loss must have nothing bound but parameters, got {loss!r}")
        if hessian not in ("auto", "exact", "unit"):
            raise ValueError(f"hessian must be one of 'auto', 'exact', 'unit', got {hessian!r}")
        given = {"auto": None, **links._LINKS}
        del given["multinomial_logit"]
        if link not in given:
            raise ValueError(f"link must be one of {', '.join(map(repr, given))}, got {link!r}")
        if hessian == "exact" and "hess" not in found.outputs:
            raise ValueError(f"{found!r} has no Hessian")
        bound = found.bind(**parameters) if parameters else found
        self.hessian = hessian
        shape = _Shape(bound)
        unit = hessian == "unit" or (hessian == "auto" and not shape.bends())
        theirs.BaseLoss.__init__(
            self,
            closs=_closs.PointwiseLoss(bound, unit),
            link=shape.link() if given[link] is None else given[link](),
            n_classes=2 if shape.binary else None,
        )
        self.approx_hessian = unit
        self.differentiable = not (unit and shape.shifts())
        self.lossfast_loss: Any = bound
        self.interval_y_true = _interval(bound.domains.get("target", "in [0, 1]" if shape.binary else ""))
        if isinstance(self.link, links.IdentityLink):
            self.interval_y_pred = _interval(bound.domains.get("pred", ""))

    def __repr__(self) -> str:
        more = "" if self.hessian == "auto" else f", hessian={self.hessian!r}"
        return f"{type(self).__name__}({self.lossfast_loss!r}{more})"

    def in_y_true_range(self, y: Any) -> bool:
        """Whether all targets are what the loss takes."""
        y = np.asarray(y)
        domain = self.lossfast_loss.domains.get("target")
        if domain == "not 0" and not np.all(y != 0):
            return False
        if domain == "-1 or 1" and not np.all((y == 0) | (y == 1)):
            return False
        return super().in_y_true_range(y)

    def fit_intercept_only(self, y_true: Any, sample_weight: Any = None) -> Any:
        """The constant raw prediction of least loss: the link of the mean, or what a search finds."""
        y = _reals(y_true)
        if not isinstance(self.link, links.IdentityLink):
            return super().fit_intercept_only(y, sample_weight)
        targets = self.closs._targets(y)
        low, high = float(targets.min()), float(targets.max())
        if low == high:
            return y.dtype.type(low)
        if self.n_classes and "pred" not in self.lossfast_loss.domains:  # scores, which are not of the targets' range
            low, high = -_FAR, _FAR
        found = minimize_scalar(
            lambda raw: self.lossfast_loss(np.full(y.shape, raw), targets, sample_weight=sample_weight),
            bounds=(low, high),
            method="bounded",
            options={"xatol": 1e-9 * (high - low)},
        )
        return y.dtype.type(found.x)

    @available_if(_is_proba)
    def predict_proba(self, raw_prediction: Any) -> np.ndarray:
        """The probabilities of both answers, of shape (n_samples, 2)."""
        return _two_probabilities(raw_prediction, 2 if isinstance(self.link, links.HalfLogitLink) else 1)


def _interval(domain: str) -> Any:
    return links.Interval(*_INTERVALS.get(domain, (-math.inf, math.inf, False, False)))


class _Shape:
    """What a loss is like, as it shows by itself."""

    def __init__(self, loss: Any) -> None:
        self.loss = loss.bind(reduction="none")
        self.binary = loss.group == "classification"
        #: Two targets, as the loss takes them.
        self.targets = inside(loss, "target", np.array([0.0, 1.0] if self.binary else [1.0, 2.0]))

    def shifts(self) -> bool:
        """Whether it is a function of ``pred - target`` alone."""
        errors = np.array([-3.0, -0.5, 0.0, 0.25, 2.0])
        if self.binary or "pred" in self.loss.domains:
            return False
        one, other = (self.loss(errors + target, np.full(errors.shape, target)) for target in (1.0, 4.0))
        return bool(np.array_equal(one, other))

    def bends(self) -> bool:
        """Whether its Hessian is positive, and if all depends on the error nowhere far smaller than elsewhere."""
        if "hess" not in self.loss.outputs:
            return False
        raw = inside(self.loss, "pred", np.linspace(-30.0, 30.0, 121))
        with np.errstate(all="ignore"):
            bend = np.concatenate(
                [self.loss.grad_and_hess(raw, np.full(raw.shape, target))[1] for target in self.targets]
            )
        bend = bend[~np.isnan(bend)]
        return bool(bend.min() > 0 and (not self.shifts() or bend.max() < _MOST_BENT * bend.min()))

    def link(self) -> Any:
        """The link by which the gradients of two targets, each with its share, cancel at their mean."""
        if "pred" in self.loss.domains:
            return links.IdentityLink()
        for name in ("logit", "half_logit") if self.binary else ("log",):
            link = links._LINKS[name]()
            if all(self._cancel(link, share) for share in (0.75, 0.4)):
                return link
        return links.IdentityLink()

    def _cancel(self, link: Any, share: float) -> bool:
        mean = share if self.binary else float(self.targets @ [1 - share, share])
        raw = float(link.link(np.float64(mean)))
        with np.errstate(all="ignore"):
            no, yes = self.loss.grad(np.array([raw, raw]), self.targets) * [1 - share, share]
        return bool(abs(no + yes) < 1e-9 * abs(yes))
