"""What other libraries have that equals a loss or function of this one: values and gradients, for comparisons.

`EQUIVALENTS` is keyed by the names of the registry; a loss that is not in it is measured by itself. Where a library has
the loss only in parts (a log-softmax, say), they are put together as its users do.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

#: By name: the packages that it needs.
LIBRARIES = {
    "torch": ("torch",),
    "JAX, optax": ("jax", "optax"),
    "SciPy": ("scipy",),
    "scikit-learn": ("sklearn",),
}

Results = dict[str, np.ndarray]
#: From inputs, targets (None for functions), a direction and options to results by output; None if it lacks an option.
Equivalent = Callable[[np.ndarray, Any, np.ndarray, Mapping[str, Any]], Results | None]


@functools.cache
def installed() -> dict[str, dict[str, str]]:
    """The libraries that are there, with their packages' versions; JAX is told that float64 is to be float64."""
    found = {}
    for name, packages in LIBRARIES.items():
        with contextlib.suppress(ImportError):
            found[name] = {package: importlib.import_module(package).__version__ for package in packages}
    if "JAX, optax" in found:
        importlib.import_module("jax").config.update("jax_enable_x64", True)
    return found


# -------------------------------------------------------------------------------------------------------- torch


def _torch(function: Callable[..., Any], takes: tuple[str, ...] = (), vjp: bool = False) -> Equivalent:
    """``function(torch, x, target, **options)``, one result a row or element, differentiated by autograd."""

    def call(x: np.ndarray, target: Any, v: np.ndarray, options: Mapping[str, Any]) -> Results | None:
        import torch

        if not set(options) <= set(takes):
            return None
        leaf = torch.from_numpy(np.array(x)).requires_grad_()
        given = () if target is None else (torch.from_numpy(np.array(target)),)
        value = function(torch, leaf, *given, **options)
        direction = torch.from_numpy(np.array(v)).reshape(value.shape) if vjp else torch.ones_like(value)
        (grad,) = torch.autograd.grad(value, leaf, direction)
        return {"value": value.detach().numpy(), "vjp" if vjp else "grad": grad.numpy()}

    return call


def _torch_cross_entropy(torch: Any, x: Any, t: Any, label_smoothing: float = 0.0, class_weight: Any = None) -> Any:
    weight = None if class_weight is None else torch.from_numpy(class_weight.astype(x.detach().numpy().dtype))
    return torch.nn.functional.cross_entropy(x, t, weight, reduction="none", label_smoothing=label_smoothing)


def _torch_bce(torch: Any, x: Any, t: Any, pos_weight: float | None = None) -> Any:
    q = None if pos_weight is None else torch.tensor(pos_weight, dtype=x.dtype)
    return torch.nn.functional.binary_cross_entropy_with_logits(x, t, reduction="none", pos_weight=q)


def _torch_kl(torch: Any, x: Any, t: Any) -> Any:
    # the divergence of the target's distribution from that of the logits
    q, p = (torch.nn.functional.log_softmax(z, -1) for z in (x, t))
    return torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(-1)


def _torch_named(name: str) -> Callable[..., Any]:
    return lambda torch, x, t, **options: getattr(torch.nn.functional, name)(x, t, reduction="none", **options)


# ---------------------------------------------------------------------------------------------------------- JAX


def _jax(function: Callable[..., Any], takes: tuple[str, ...] = (), vjp: bool = False) -> Equivalent:
    """``function(jax, optax, x, target, **options)``, differentiated by JAX, each compiled."""

    @functools.cache
    def compiled(options: tuple[tuple[str, Any], ...]) -> tuple[Any, Any]:
        import jax
        import optax

        def value(x: Any, *target: Any) -> Any:
            return function(jax, optax, x, *target, **dict(options))

        if vjp:
            return jax.jit(value), jax.jit(lambda x, v: jax.vjp(value, x)[1](v)[0])
        return jax.jit(value), jax.jit(jax.grad(lambda *operands: value(*operands).sum()))

    def call(x: np.ndarray, target: Any, v: np.ndarray, options: Mapping[str, Any]) -> Results | None:
        if not set(options) <= set(takes):
            return None
        value, grad = compiled(tuple(options.items()))
        operands = (x,) if target is None else (x, target)
        made = np.asarray(value(*operands))
        slope = grad(x, np.reshape(v, made.shape)) if vjp else grad(*operands)
        return {"value": made, "vjp" if vjp else "grad": np.asarray(slope)}

    return call


def _jax_cross_entropy(jax: Any, optax: Any, x: Any, t: Any, label_smoothing: float = 0.0) -> Any:
    if t.ndim < x.ndim and not label_smoothing:
        return optax.softmax_cross_entropy_with_integer_labels(x, t)
    soft = jax.nn.one_hot(t, x.shape[-1], dtype=x.dtype) if t.ndim < x.ndim else t
    return optax.softmax_cross_entropy(x, optax.smooth_labels(soft, label_smoothing))


def _jax_kl(jax: Any, optax: Any, x: Any, t: Any) -> Any:
    return optax.losses.kl_divergence_with_log_targets(jax.nn.log_softmax(x), jax.nn.log_softmax(t))


# -------------------------------------------------------------------------------------------------------- SciPy


def _scipy(function: Callable[..., Results], takes: tuple[str, ...] = ()) -> Equivalent:
    def call(x: np.ndarray, target: Any, v: np.ndarray, options: Mapping[str, Any]) -> Results | None:
        import scipy.special

        if not set(options) <= set(takes):
            return None
        with np.errstate(all="ignore"):
            return function(scipy.special, x, *(() if target is None else (target,)), **options)

    return call


def _scipy_cross_entropy(special: Any, x: np.ndarray, t: np.ndarray) -> Results:
    log_proba = special.log_softmax(x, axis=1)
    if t.ndim == 2:
        return {"value": -(t * log_proba).sum(1), "grad": np.exp(log_proba) * t.sum(1, keepdims=True) - t}
    rows, grad = np.arange(len(x)), np.exp(log_proba)
    grad[rows, t] -= 1
    return {"value": -log_proba[rows, t], "grad": grad}


def _scipy_kl(special: Any, x: np.ndarray, t: np.ndarray) -> Results:
    q, p = (special.softmax(z, axis=1) for z in (x, t))
    return {"value": special.rel_entr(p, q).sum(1), "grad": q - p}


def _lse(special: Any, x: np.ndarray, b: np.ndarray | None) -> np.ndarray:
    return special.logsumexp(x, axis=1, b=b, return_sign=True)[0]


def _scipy_huber(special: Any, x: np.ndarray, t: np.ndarray, delta: float = 1.0) -> Results:
    return {"value": special.huber(x.dtype.type(delta), x - t)}


# ------------------------------------------------------------------------------------------------- scikit-learn


def _sklearn(name: str, factor: float = 1, **takes: float) -> Equivalent:
    """A loss of scikit-learn's own (private) module; ``factor`` is what makes it the one that is meant.

    ``takes``: its parameters, with our defaults.
    """

    def call(x: np.ndarray, target: Any, v: np.ndarray, options: Mapping[str, Any]) -> Results | None:
        from sklearn._loss import loss as losses

        if not set(options) <= set(takes) or target.ndim > 1:
            return None
        classes = {"n_classes": x.shape[1]} if x.ndim == 2 else {}
        made = getattr(losses, name)(**{**takes, **options}, **classes)
        target = np.ascontiguousarray(target, dtype=x.dtype)
        value, grad = np.empty_like(target), np.empty_like(x)
        made.loss_gradient(target, np.ascontiguousarray(x), loss_out=value, gradient_out=grad)
        return {"value": value * value.dtype.type(factor), "grad": grad * grad.dtype.type(factor)}

    return call


def _sklearn_softmax(x: np.ndarray, target: Any, v: np.ndarray, options: Mapping[str, Any]) -> Results | None:
    from sklearn.utils.extmath import softmax

    return None if options else {"value": softmax(x, copy=True)}


# --------------------------------------------------------------------------------------------------------- all

EQUIVALENTS: dict[str, dict[str, Equivalent]] = {
    "softmax": {
        "torch": _torch(lambda torch, x: torch.softmax(x, -1), vjp=True),
        "JAX, optax": _jax(lambda jax, optax, x: jax.nn.softmax(x), vjp=True),
        "SciPy": _scipy(lambda special, x: {"value": special.softmax(x, axis=1)}),
        "scikit-learn": _sklearn_softmax,
    },
    "log_softmax": {
        "torch": _torch(lambda torch, x: torch.log_softmax(x, -1), vjp=True),
        "JAX, optax": _jax(lambda jax, optax, x: jax.nn.log_softmax(x), vjp=True),
        "SciPy": _scipy(lambda special, x: {"value": special.log_softmax(x, axis=1)}),
    },
    "logsumexp": {
        "torch": _torch(lambda torch, x: torch.logsumexp(x, -1)),
        "JAX, optax": _jax(lambda jax, optax, x: jax.nn.logsumexp(x, -1)),
        "SciPy": _scipy(lambda special, x, b=None: {"value": _lse(special, x, b)}, ("b",)),
    },
    "cross_entropy": {
        "torch": _torch(_torch_cross_entropy, ("label_smoothing", "class_weight")),
        "JAX, optax": _jax(_jax_cross_entropy, ("label_smoothing",)),
        "SciPy": _scipy(_scipy_cross_entropy),
        "scikit-learn": _sklearn("HalfMultinomialLoss"),
    },
    "nll_loss": {"torch": _torch(_torch_named("nll_loss"))},
    "kl_div_from_logits": {
        "torch": _torch(_torch_kl),
        "JAX, optax": _jax(_jax_kl),
        "SciPy": _scipy(_scipy_kl),
    },
    "binary_cross_entropy_with_logits": {
        "torch": _torch(_torch_bce, ("pos_weight",)),
        "JAX, optax": _jax(lambda jax, optax, x, t: optax.sigmoid_binary_cross_entropy(x, t)),
        "scikit-learn": _sklearn("HalfBinomialLoss"),
    },
    "sigmoid": {
        "torch": _torch(lambda torch, x: torch.sigmoid(x), vjp=True),
        "JAX, optax": _jax(lambda jax, optax, x: jax.nn.sigmoid(x), vjp=True),
        "SciPy": _scipy(lambda special, x: {"value": special.expit(x)}),
    },
    "log_sigmoid": {
        "torch": _torch(lambda torch, x: torch.nn.functional.logsigmoid(x), vjp=True),
        "JAX, optax": _jax(lambda jax, optax, x: jax.nn.log_sigmoid(x), vjp=True),
        "SciPy": _scipy(lambda special, x: {"value": special.log_expit(x)}),
    },
    "huber_loss": {
        "torch": _torch(_torch_named("huber_loss"), ("delta",)),
        "JAX, optax": _jax(lambda jax, optax, x, t, **options: optax.huber_loss(x, t, **options), ("delta",)),
        "SciPy": _scipy(_scipy_huber, ("delta",)),
        "scikit-learn": _sklearn("HuberLoss", delta=1.0),
    },
    "smooth_l1_loss": {"torch": _torch(_torch_named("smooth_l1_loss"), ("beta",))},
    "mse_loss": {
        "torch": _torch(_torch_named("mse_loss")),
        "JAX, optax": _jax(lambda jax, optax, x, t: optax.squared_error(x, t)),
        "scikit-learn": _sklearn("HalfSquaredError", factor=2),
    },
    "l1_loss": {"torch": _torch(_torch_named("l1_loss")), "scikit-learn": _sklearn("AbsoluteError")},
}


def of(name: str) -> dict[str, Equivalent]:
    """The equivalents of a loss in the libraries that are installed."""
    return {library: call for library, call in EQUIVALENTS.get(name, {}).items() if library in installed()}
