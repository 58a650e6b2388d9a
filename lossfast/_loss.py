"""The public objects: one per loss or function, each callable in the manner of a NumPy ufunc, and their registry."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

#: What a parameter's domain means, by the text that declares it (and that error messages print). NaN is in none.
DOMAINS: dict[str, Callable[[float], bool]] = {
    "> 0": lambda value: value > 0,
    ">= 0": lambda value: value >= 0,
    "finite": math.isfinite,
    "finite and > 0": lambda value: 0 < value < math.inf,
    "finite and >= 0": lambda value: 0 <= value < math.inf,
    "in [0, 1]": lambda value: 0 <= value <= 1,
    "in (0, 1)": lambda value: 0 < value < 1,
}


@dataclass(frozen=True)
class Parameter:
    """A scalar parameter of a loss: its default and its domain (a key of `DOMAINS`)."""

    default: float
    domain: str = "finite"

    def check(self, name: str, value: Any) -> float:
        """The value as a float, or a ValueError with the value in it (a TypeError if it is not a number)."""
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise TypeError(f"{name} must be a number {self.domain}, got {value!r}") from None
        if not DOMAINS[self.domain](number):
            raise ValueError(f"{name} must be {self.domain}, got {value!r}")
        return number


REGISTRY: dict[str, Loss] = {}


class Loss:
    """A loss or function, callable in the manner of a NumPy ufunc."""

    kind = ""

    def __init__(
        self,
        twin: Callable[..., Any],
        parameters: Mapping[str, Parameter],
        ulp: Any,
        extra: str | None = None,
        hess: bool = True,
        soft: bool = False,
        outputs: tuple[str, ...] = (),
    ) -> None:
        self.twin = twin
        self.name = self.__name__ = self.__qualname__ = twin.__name__
        self.__module__ = "lossfast"
        self.__doc__ = twin.__doc__
        self.parameters = dict(parameters)
        self.ulp = ulp
        self.extra = extra
        self.hess = hess
        self.soft = soft
        self.outputs = outputs


class PointwiseLoss(Loss):
    kind = "pointwise"


class PointwiseFunction(Loss):
    kind = "function"


class RowLoss(Loss):
    kind = "rowwise"


class RowFunction(Loss):
    kind = "row_function"


def _register(loss: Any) -> Any:
    REGISTRY[loss.name] = loss
    return loss


def pointwise_loss(
    *, parameters: Mapping[str, Parameter] | None = None, extra: str | None = None, ulp: Any, hess: bool = True
) -> Callable[[Callable[..., Any]], PointwiseLoss]:
    """Make the decorated Python twin ``f(x, t, q, *parameters) -> (value, grad, hess)`` a public pointwise loss.

    ``extra`` names the element-wise parameter handed over as ``q``; ``hess=False`` says that there is no Hessian.
    """
    return lambda twin: _register(PointwiseLoss(twin, parameters or {}, ulp, extra=extra, hess=hess))


def pointwise_function(
    *, parameters: Mapping[str, Parameter] | None = None, ulp: Any
) -> Callable[[Callable[..., Any]], PointwiseFunction]:
    """Make the decorated twin (of the same signature as a loss's; ``t`` and ``q`` unused) a function of one argument."""
    return lambda twin: _register(PointwiseFunction(twin, parameters or {}, ulp))


def row_loss(
    *,
    parameters: Mapping[str, Parameter] | None = None,
    ulp: Any,
    soft: bool = True,
    outputs: tuple[str, ...] = (),
) -> Callable[[Callable[..., Any]], RowLoss]:
    """Make the decorated twin a public loss over a class axis.

    ``parameters`` are those of `RowwiseJob`'s scalar fields that it takes (``temperature``, ``label_smoothing``,
    ``z_loss``); weights, masks, ``ignore_index``, ``axis`` and ``check`` every row loss has. ``soft`` says whether soft
    labels are accepted. ``outputs`` are the names a job for it may ask for besides ``loss`` and ``grad``.
    """
    return lambda twin: _register(RowLoss(twin, parameters or {}, ulp, soft=soft, outputs=outputs))


def row_function(
    *, parameters: Mapping[str, Parameter] | None = None, ulp: Any, outputs: tuple[str, ...]
) -> Callable[[Callable[..., Any]], RowFunction]:
    """Make the decorated twin a function over a class axis; the first of ``outputs`` is its result.

    ``softmax``: ``("proba", "vjp", "jvp")``; ``log_softmax``: ``("log_proba", "vjp", "jvp")``; ``logsumexp``:
    ``("lse", "sign", "proba", "vjp", "row_jvp")``.
    """
    return lambda twin: _register(RowFunction(twin, parameters or {}, ulp, outputs=outputs))
