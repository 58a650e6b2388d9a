"""What follows from the twins of losses over a class axis that are a function of the true class or of margins.

Value, gradient and Hessian of whole rows in plain NumPy, in any floating dtype: what self-test, benchmarks and tests
compare the backends with. ``own`` are the loss's own parameters, ``w`` the weights of the classes (targets times class
weights), of the logits' shape.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Parts = tuple[np.ndarray, np.ndarray, np.ndarray]


def profile_parts(loss: Any, own: tuple[float, ...], a: Any, p: Any, q: Any, w: Any) -> Parts:
    """Each class's part in the value, and the gradient and the Hessian's diagonal, of a loss of the true class.

    ``p``, ``q = 1 - p`` and ``a = -log p`` of every class.
    """
    with np.errstate(all="ignore"):
        value, slope, bend = _profile(loss, own, a, p, q, w)
        first = w * slope
        second = np.where(q == 0, 0, first * bend / q)
        grad = p * _of_others(first) - q * first
        hess = p * q * _of_others(first) + q * first * (p + bend) + p * p * _of_others(second)
    return w * value, grad, hess


def profile_sizes(loss: Any, own: tuple[float, ...], a: Any, p: Any, q: Any, w: Any) -> tuple[np.ndarray, np.ndarray]:
    """The sizes of the terms of gradient and Hessian, which cancel: those of the former with several classes only."""
    with np.errstate(all="ignore"):
        _, slope, bend = _profile(loss, own, a, p, q, w)
        first, size = np.abs(w * slope), np.abs(bend)
        if loss.name == "focal_loss":  # whose F'' itself is a difference
            gamma, s = own[0], np.where(q == 0, 1, p * a / q)
            size = gamma * np.where(p == 0, 0, p * (2 + a + abs(gamma - 1) * s)) / (1 + gamma * s)
        second = np.where((q == 0) | (w == 0), 0, first * size / q)
        bends = p * q * _of_others(first) + np.where(w == 0, 0, q * first * (p + size)) + p * p * _of_others(second)
        return p * first.sum(-1, keepdims=True) + first, bends


def _profile(loss: Any, own: tuple[float, ...], a: Any, p: Any, q: Any, w: Any) -> list[np.ndarray]:
    one = p.dtype.type(1)
    return [np.where(w == 0, 0, y) for y in loss.twin(a, one - one, p, q, one - one, one, *own)]


def _of_others(y: np.ndarray) -> np.ndarray:
    """Of every entry the sum of the others, the largest left out before anything is summed."""
    most = np.arange(y.shape[-1]) == np.abs(y).argmax(-1)[..., None]
    rest = np.where(most, 0, y).sum(-1, keepdims=True)
    largest = np.where(most, y, 0).sum(-1, keepdims=True)
    return np.where(most, rest, (rest - y) + largest)


def violation_parts(loss: Any, own: tuple[float, ...], x: Any, t: Any, w: Any, here: Any) -> Parts:
    """The same of a loss of margins between logits ``x``; ``t`` is one-hot, ``here`` says which classes there are."""
    label = t.argmax(-1)[..., None]
    weight = np.take_along_axis(w, label, -1)
    with np.errstate(all="ignore"):
        true = np.take_along_axis(x, label, -1)
        gap = x - true
        back = gap - x
        low = (x - (gap - back)) - (true + back)
        low = np.where(np.isfinite(low), low, 0)
        others = here & (np.arange(x.shape[-1]) != label)
        if own[0] == 0:  # the worst alone
            most = np.where(others, x, -np.inf)
            others = others & (np.arange(x.shape[-1]) == most.argmax(-1)[..., None])
        else:
            weight = weight / here.sum(-1, keepdims=True)
        value, grad, hess = (weight * np.where(others, y, 0) for y in loss.twin(gap, low, *own))
    for sign, y in ((-1, grad), (1, hess)):
        np.put_along_axis(y, label, sign * y.sum(-1, keepdims=True), -1)
    return value, grad, hess
