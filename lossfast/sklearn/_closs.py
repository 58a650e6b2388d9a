"""What scikit-learn's loss objects hold as ``closs``, made of lossfast's losses.

Its estimators reach every number of a loss through that attribute: links, intervals and starting values are Python
around it. The classes here stand in for the extension types ``Cy...`` of ``sklearn._loss._loss``, with their
constructors, their methods (``y_true`` comes first, results go into buffers) and their attributes. Where the
conventions of the two libraries differ, scikit-learn's hold: which subgradient there is where prediction and target
are equal, a Hessian of 1 where the true one is 0, terms without a prediction left out of a loss.
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar, Literal

import numpy as np
from sklearn._loss import _loss as theirs

import lossfast as lf

#: Elements of which arrays are worked on at a time, so that they stay in a cache.
BLOCK = 1 << 15
#: Fewer elements are done before blocks have been made.
FEW = 1000
#: With more threads than this, what all of them share is quicker than what one does alone.
SHARED = 3


def unchecked(loss: Any, **parameters: Any) -> Any:
    """The loss element by element, and its formula as it stands: a line search may step out of its domain."""
    return loss.bind(reduction="none", **{"check": False} if loss.domains else {}, **parameters)


def as_labels(y_true: np.ndarray) -> np.ndarray:
    """Labels as integers, which scikit-learn's estimators hand over as floats."""
    if y_true.dtype.kind in "iub":
        return y_true
    labels = y_true.astype(np.int32)
    if np.logical_or.reduce(labels != y_true):
        row = int((labels != y_true).argmax())
        raise ValueError(f"y_true must hold labels, whole numbers from 0; got {y_true[row].item()!r} at row {row}")
    return labels


class Closs:
    """A pointwise loss of lossfast behind the interface of scikit-learn's ``CyLossFunction``."""

    __slots__ = ("_loss",)
    parameters: ClassVar[tuple[str, ...]] = ()

    def __init__(self, loss: Any) -> None:
        self._loss = loss

    def loss(self, y_true: Any, raw_prediction: Any, sample_weight: Any, loss_out: Any, n_threads: int = 1) -> None:
        self._loss(raw_prediction, y_true, out=loss_out, sample_weight=sample_weight, n_threads=n_threads)

    def gradient(
        self, y_true: Any, raw_prediction: Any, sample_weight: Any, gradient_out: Any, n_threads: int = 1
    ) -> None:
        self._loss.grad(raw_prediction, y_true, out=gradient_out, sample_weight=sample_weight, n_threads=n_threads)

    def loss_gradient(
        self, y_true: Any, raw_prediction: Any, sample_weight: Any, loss_out: Any, gradient_out: Any, n_threads: int = 1
    ) -> None:
        self._loss.value_and_grad(
            *(raw_prediction, y_true),
            out=loss_out,
            grad_out=gradient_out,
            sample_weight=sample_weight,
            n_threads=n_threads,
        )

    def gradient_hessian(
        self,
        y_true: Any,
        raw_prediction: Any,
        sample_weight: Any,
        gradient_out: Any,
        hessian_out: Any,
        n_threads: int = 1,
    ) -> None:
        self._loss.grad_and_hess(
            *(raw_prediction, y_true),
            grad_out=gradient_out,
            hess_out=hessian_out,
            sample_weight=sample_weight,
            n_threads=n_threads,
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._loss!r}>"

    def _arguments(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self.parameters])

    def __reduce__(self) -> tuple[Any, ...]:
        # As scikit-learn's own: an estimator fitted while patched can be loaded where lossfast is not installed.
        return getattr(theirs, f"Cy{type(self).__name__}"), self._arguments()

    def __copy__(self) -> Any:
        return type(self)(*self._arguments())

    def __deepcopy__(self, memo: Any) -> Any:
        return self.__copy__()


class _Adapted(Closs):
    """A loss whose targets are not what scikit-learn hands over, or whose results are not quite what it expects."""

    __slots__ = ()

    def _targets(self, y_true: Any) -> Any:
        return y_true

    def _mend(
        self,
        y_true: Any,
        raw_prediction: Any,
        sample_weight: Any,
        losses: Any = None,
        gradient: Any = None,
        hessian: Any = None,
    ) -> None:
        """Put right what has been written into these buffers."""

    def loss(self, y_true: Any, raw_prediction: Any, sample_weight: Any, loss_out: Any, n_threads: int = 1) -> None:
        super().loss(self._targets(y_true), raw_prediction, sample_weight, loss_out, n_threads)
        self._mend(y_true, raw_prediction, sample_weight, loss_out)

    def gradient(
        self, y_true: Any, raw_prediction: Any, sample_weight: Any, gradient_out: Any, n_threads: int = 1
    ) -> None:
        super().gradient(self._targets(y_true), raw_prediction, sample_weight, gradient_out, n_threads)
        self._mend(y_true, raw_prediction, sample_weight, None, gradient_out)

    def loss_gradient(
        self, y_true: Any, raw_prediction: Any, sample_weight: Any, loss_out: Any, gradient_out: Any, n_threads: int = 1
    ) -> None:
        targets = self._targets(y_true)
        super().loss_gradient(targets, raw_prediction, sample_weight, loss_out, gradient_out, n_threads)
        self._mend(y_true, raw_prediction, sample_weight, loss_out, gradient_out)

    def gradient_hessian(
        self,
        y_true: Any,
        raw_prediction: Any,
        sample_weight: Any,
        gradient_out: Any,
        hessian_out: Any,
        n_threads: int = 1,
    ) -> None:
        targets = self._targets(y_true)
        super().gradient_hessian(targets, raw_prediction, sample_weight, gradient_out, hessian_out, n_threads)
        self._mend(y_true, raw_prediction, sample_weight, None, gradient_out, hessian_out)


class HalfSquaredError(Closs):
    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(unchecked(lf.half_squared_error))


class _UnitHessian(_Adapted):
    """A loss whose Hessian is 0, or no help: 1 stands for it."""

    __slots__ = ()

    def gradient_hessian(
        self,
        y_true: Any,
        raw_prediction: Any,
        sample_weight: Any,
        gradient_out: Any,
        hessian_out: Any,
        n_threads: int = 1,
    ) -> None:
        self.gradient(y_true, raw_prediction, sample_weight, gradient_out, n_threads)
        hessian_out[...] = 1 if sample_weight is None else sample_weight


class _Kinked(_UnitHessian):
    """One with scikit-learn's slope where prediction and target are equal: the one to the left."""

    __slots__ = ("_left",)
    _left: float

    def _mend(
        self,
        y_true: Any,
        raw_prediction: Any,
        sample_weight: Any,
        losses: Any = None,
        gradient: Any = None,
        hessian: Any = None,
    ) -> None:
        if gradient is None:
            return
        equal = raw_prediction == y_true
        if sample_weight is None:
            np.copyto(gradient, self._left, where=equal)
        else:
            np.multiply(sample_weight, self._left, out=gradient, where=equal, casting="same_kind")


class AbsoluteError(_Kinked):
    __slots__ = ()

    def __init__(self) -> None:
        self._left = -1.0
        super().__init__(unchecked(lf.l1_loss))


class PinballLoss(_Kinked):
    __slots__ = ("quantile",)
    parameters = ("quantile",)

    def __init__(self, quantile: float) -> None:
        self.quantile = float(quantile)
        self._left = -self.quantile
        super().__init__(unchecked(lf.pinball_loss, quantile=self.quantile))


class HuberLoss(Closs):
    """Its delta may be set, as gradient boosting does before every tree."""

    __slots__ = ("_delta",)
    parameters = ("delta",)

    def __init__(self, delta: float) -> None:
        self.delta = delta

    @property
    def delta(self) -> float:
        return self._delta

    @delta.setter
    def delta(self, delta: float) -> None:
        self._delta = float(delta)
        # A quantile of residuals is 0 where enough of them are; the least delta there is gives the same.
        self._loss = unchecked(lf.huber_loss, delta=self._delta or sys.float_info.min)


class HalfPoissonLoss(Closs):
    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(unchecked(lf.poisson_nll_loss, log_input=True))


class HalfTweedieLossIdentity(_Adapted):
    """Half a deviance, of the mean itself."""

    __slots__ = ("power",)
    parameters = ("power",)

    def __init__(self, power: float) -> None:
        self.power = float(power)
        super().__init__(unchecked(lf.half_tweedie_deviance, power=self.power, link="identity"))

    def _formula(self, y_true: Any, raw_prediction: Any) -> tuple[Any, Any, Any]:
        a, b, mean = 1 - self.power, 2 - self.power, raw_prediction
        slope = mean**-self.power
        return slope * mean * (mean / b - y_true / a), slope * (mean - y_true), slope * (a + self.power * y_true / mean)

    def _mend(
        self,
        y_true: Any,
        raw_prediction: Any,
        sample_weight: Any,
        losses: Any = None,
        gradient: Any = None,
        hessian: Any = None,
    ) -> None:
        if self.power < 0 and (negative := y_true < 0).any():  # there is no such deviance, but there is the formula
            with np.errstate(all="ignore"):
                raw = raw_prediction[negative]
                found = self._formula(y_true[negative].astype(raw.dtype, copy=False), raw)
                for buffer, values in zip((losses, gradient, hessian), found, strict=True):
                    if buffer is not None:
                        buffer[negative] = values if sample_weight is None else sample_weight[negative] * values


class HalfTweedieLoss(HalfTweedieLossIdentity):
    """The same of the logarithm of the mean, without the terms that this is not in (unless the power is 0).

    Where that is not a loss of lossfast, losses are computed by their formula: to take those terms from a deviance
    would cost digits.
    """

    __slots__ = ("_whole",)

    def __init__(self, power: float) -> None:
        super().__init__(power)
        self._whole = self.power in (0, 1)
        if self.power == 1:
            self._loss = unchecked(lf.poisson_nll_loss, log_input=True)
        elif self.power == 2:
            self._loss = unchecked(lf.half_gamma_deviance, link="log")
        else:
            self._loss = unchecked(lf.half_tweedie_deviance, power=self.power, link="log")

    def _losses(self, y_true: Any, raw_prediction: Any) -> Any:
        if self.power == 2:
            return raw_prediction + y_true * np.exp(-raw_prediction)
        a, b = 1 - self.power, 2 - self.power
        return np.exp(a * raw_prediction) * (np.exp(raw_prediction) / b - y_true / a)

    def _formula(self, y_true: Any, raw_prediction: Any) -> tuple[Any, Any, Any]:
        a, b, mean = 1 - self.power, 2 - self.power, np.exp(raw_prediction)
        factor = np.exp(a * raw_prediction)
        return self._losses(y_true, raw_prediction), factor * (mean - y_true), factor * (b * mean - a * y_true)

    def loss(self, y_true: Any, raw_prediction: Any, sample_weight: Any, loss_out: Any, n_threads: int = 1) -> None:
        if self._whole:
            super().loss(y_true, raw_prediction, sample_weight, loss_out, n_threads)
            return
        raw = raw_prediction.astype(np.promote_types(raw_prediction.dtype, np.float32), copy=False)
        with np.errstate(all="ignore"):
            losses = self._losses(y_true.astype(raw.dtype, copy=False), raw)
            np.multiply(losses, 1 if sample_weight is None else sample_weight, out=loss_out, casting="same_kind")

    def loss_gradient(
        self, y_true: Any, raw_prediction: Any, sample_weight: Any, loss_out: Any, gradient_out: Any, n_threads: int = 1
    ) -> None:
        if self._whole:
            super().loss_gradient(y_true, raw_prediction, sample_weight, loss_out, gradient_out, n_threads)
            return
        self.loss(
            y_true, raw_prediction, sample_weight, loss_out, n_threads
        )  # first: the gradient may replace the rest
        self.gradient(y_true, raw_prediction, sample_weight, gradient_out, n_threads)


class HalfGammaLoss(Closs):
    """That of a power of 2."""

    __slots__ = ("_same",)

    def __init__(self) -> None:
        self._same = HalfTweedieLoss(2.0)
        super().__init__(self._same._loss)

    def loss(self, y_true: Any, raw_prediction: Any, sample_weight: Any, loss_out: Any, n_threads: int = 1) -> None:
        self._same.loss(y_true, raw_prediction, sample_weight, loss_out, n_threads)

    def loss_gradient(
        self, y_true: Any, raw_prediction: Any, sample_weight: Any, loss_out: Any, gradient_out: Any, n_threads: int = 1
    ) -> None:
        self._same.loss_gradient(y_true, raw_prediction, sample_weight, loss_out, gradient_out, n_threads)


class HalfBinomialLoss(Closs):
    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(unchecked(lf.binary_cross_entropy_with_logits))


class ExponentialLoss(Closs):
    """Of two answers, each with its share: ``y_true`` may lie between 0 and 1."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(unchecked(lf.exponential_loss))

    @staticmethod
    def _shares(y_true: Any, sample_weight: Any) -> tuple[Any, Any]:
        yes, no = y_true, 1.0 - y_true
        return (yes, no) if sample_weight is None else (yes * sample_weight, no * sample_weight)

    def loss(self, y_true: Any, raw_prediction: Any, sample_weight: Any, loss_out: Any, n_threads: int = 1) -> None:
        yes, no = self._shares(y_true, sample_weight)
        super().loss(1.0, raw_prediction, yes, loss_out, n_threads)
        loss_out += self._loss(raw_prediction, -1.0, sample_weight=no, n_threads=n_threads)

    def gradient(
        self, y_true: Any, raw_prediction: Any, sample_weight: Any, gradient_out: Any, n_threads: int = 1
    ) -> None:
        yes, no = self._shares(y_true, sample_weight)
        super().gradient(1.0, raw_prediction, yes, gradient_out, n_threads)
        gradient_out += self._loss.grad(raw_prediction, -1.0, sample_weight=no, n_threads=n_threads)

    def loss_gradient(
        self, y_true: Any, raw_prediction: Any, sample_weight: Any, loss_out: Any, gradient_out: Any, n_threads: int = 1
    ) -> None:
        yes, no = self._shares(y_true, sample_weight)
        super().loss_gradient(1.0, raw_prediction, yes, loss_out, gradient_out, n_threads)
        loss, gradient = self._loss.value_and_grad(raw_prediction, -1.0, sample_weight=no, n_threads=n_threads)
        loss_out += loss
        gradient_out += gradient

    def gradient_hessian(
        self,
        y_true: Any,
        raw_prediction: Any,
        sample_weight: Any,
        gradient_out: Any,
        hessian_out: Any,
        n_threads: int = 1,
    ) -> None:
        yes, no = self._shares(y_true, sample_weight)
        super().gradient_hessian(1.0, raw_prediction, yes, gradient_out, hessian_out, n_threads)
        gradient, hessian = self._loss.grad_and_hess(raw_prediction, -1.0, sample_weight=no, n_threads=n_threads)
        gradient_out += gradient
        hessian_out += hessian


class HalfMultinomialLoss(_Adapted):
    """Of labels, which are checked in every call: nothing is read, or written, beyond the classes there are."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(lf.cross_entropy.bind(reduction="none", ignore_index=None))

    def _targets(self, y_true: Any) -> Any:
        return as_labels(y_true)

    def gradient_hessian(
        self,
        y_true: Any,
        raw_prediction: Any,
        sample_weight: Any,
        gradient_out: Any,
        hessian_out: Any,
        n_threads: int = 1,
    ) -> None:
        """The Hessian is made of the gradient, which is p, or 1 - p with a minus: |g| (1 - |g|) is p (1 - p) in both
        cases.

        So it has all digits where the model is right, and those of the gradient where it is wrong, for a third of the
        time that the library's own takes, which shares its work among threads instead. Results are rounded once, as
        scikit-learn's are: trees may hang on it.
        """
        labels, classes = as_labels(y_true), raw_prediction.shape[1]
        rows = (*(labels.shape, raw_prediction.shape[:1]), *(() if sample_weight is None else (sample_weight.shape,)))
        amiss = len(set(rows)) > 1 or not gradient_out.shape == hessian_out.shape == raw_prediction.shape
        few = raw_prediction.size < FEW
        if amiss or few or n_threads > SHARED or labels.min() < 0 or labels.max() >= classes:
            super().gradient_hessian(labels, raw_prediction, sample_weight, gradient_out, hessian_out, n_threads)
            return
        step = min(len(labels), max(1, BLOCK // classes))
        order: Literal["C", "F"] = "F" if raw_prediction.flags.f_contiguous else "C"
        whole = [np.empty((step, classes), order=order) for _ in range(3)]
        for start in range(0, len(labels), step):
            part = slice(start, start + step)
            gradient, hessian, rest = (array[: len(labels[part])] for array in whole)
            self._loss.grad(raw_prediction[part], labels[part], out=gradient, n_threads=1)
            np.abs(gradient, out=hessian)
            np.subtract(1.0, hessian, out=rest)
            hessian *= rest
            if sample_weight is not None:
                weight = sample_weight[part, None]
                gradient *= weight
                hessian *= weight
            gradient_out[part], hessian_out[part] = gradient, hessian
        if sample_weight is not None and (nothing := sample_weight == 0).any():  # whatever the row holds
            gradient_out[nothing] = hessian_out[nothing] = 0

    def gradient_proba(
        self,
        y_true: Any,
        raw_prediction: Any,
        sample_weight: Any,
        gradient_out: Any,
        proba_out: Any,
        n_threads: int = 1,
    ) -> None:
        self.gradient(y_true, raw_prediction, sample_weight, gradient_out, n_threads)
        lf.softmax(raw_prediction, out=proba_out, n_threads=n_threads)

    def _test_cy_gradient(self, y_true: Any, raw_prediction: Any, sample_weight: Any) -> np.ndarray:
        """What scikit-learn's tests call to get at the gradient of a single row, which only its SAG solver uses."""
        gradient = np.empty_like(raw_prediction)
        self.gradient(y_true, raw_prediction, sample_weight, gradient)
        return gradient


class PointwiseLoss(_UnitHessian):
    """Any pointwise loss of the registry, as it is there: with its own checks and conventions.

    Labels are 0 and 1, as scikit-learn's classifiers encode them, whatever the loss takes. ``unit`` says that 1 stands
    for the Hessian.
    """

    __slots__ = ("_signed", "_whole", "unit")
    parameters = ("_whole", "unit")

    def __init__(self, loss: Any, unit: bool) -> None:
        self._whole, self.unit = loss, unit
        self._signed = loss.domains.get("target") == "-1 or 1"
        super().__init__(unchecked(loss) if self._signed else loss.bind(reduction="none"))

    def _targets(self, y_true: Any) -> Any:
        if not self._signed:
            return y_true
        wrong = (y_true != 0) & (y_true != 1)
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(f"y_true must hold labels, 0 or 1; got {y_true[row].item()!r} at row {row}")
        return np.where(y_true == 1, 1.0, -1.0)

    def gradient_hessian(
        self,
        y_true: Any,
        raw_prediction: Any,
        sample_weight: Any,
        gradient_out: Any,
        hessian_out: Any,
        n_threads: int = 1,
    ) -> None:
        kind = _UnitHessian if self.unit else _Adapted
        kind.gradient_hessian(self, y_true, raw_prediction, sample_weight, gradient_out, hessian_out, n_threads)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments()


#: What stands in for each of scikit-learn's extension types, by the name of that.
STAND_INS: dict[str, type[Closs]] = {
    f"Cy{kind.__name__}": kind
    for kind in (
        *(HalfSquaredError, AbsoluteError, PinballLoss, HuberLoss, HalfPoissonLoss, HalfGammaLoss, HalfTweedieLoss),
        *(HalfTweedieLossIdentity, HalfBinomialLoss, HalfMultinomialLoss, ExponentialLoss),
    )
}


def stand_in(closs: Any) -> Any:
    """The same with lossfast inside; what has it already stays."""
    kind = STAND_INS.get(type(closs).__name__)
    return closs if kind is None else kind(*[getattr(closs, name) for name in kind.parameters])
