"""Exact results of large inputs, fast: every output of every loss in long double, and errors in ULP against it.

Eleven bits more than a double has are enough if nothing cancels that need not: differences of logits are kept in two
parts, and each class's ``1 - p`` comes from the sum of the others. What this leaves is measured against arithmetic of
1,500 bits (`own_error`). Losses, gradients and Hessians are the Python twins', so that a new loss needs nothing here;
what else rows offer is written down below. The test suite compares all of it with definitions written independently.

A result that is a difference of larger terms cannot have more digits than they; `Exact` says how large they are, and
`Judged` counts such an error in the units that the contract bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lossfast import selftest
from lossfast._parts import profile_parts, profile_sizes, violation_parts
from lossfast.rowwise import ALONG, spread

from . import references

LD = np.longdouble
#: Whether long double is wider than double here; without that there is nothing to judge float64 with.
WIDE = np.finfo(LD).nmant >= 63
#: "Rounded once": of half types, half a unit and what float32 results may be off.
HALF_BOUND = 0.5 + 2.0**-10


@dataclass(frozen=True)
class Exact:
    """An exact result. Its error is counted in ULP of itself or of ``scale``, whichever is larger.

    An epsilon of the dtype times ``terms`` (the sum of the sizes of what it is the difference of) is within the bound
    as well.
    """

    value: np.ndarray
    scale: Any = 0
    terms: Any = 0
    rule: str = ""  #: the promise that brings in ``scale`` or ``terms``


# ------------------------------------------------------------------------------------------------------- errors


def ulp(value: np.ndarray, limits: Any) -> np.ndarray:
    """The spacing of a dtype (given by its `limits`) at exact values; that of subnormals at 0."""
    exponent = np.where(value == 0, int(limits.minexp), np.frexp(value)[1] - 1)
    exponent = np.clip(exponent, int(limits.minexp), int(limits.maxexp) - 1)
    return np.ldexp(np.ones((), LD), exponent - int(limits.nmant))


class Judged:
    """An exact result made ready for many results in one dtype to be compared with it."""

    def __init__(self, exact: Exact, dtype: np.dtype[Any], bound: float, compute: np.dtype[Any] | None = None) -> None:
        """``bound`` is that of the dtype computed in (float32 for half types, whose results are rounded once more)."""
        self.exact = exact
        limits = limits_of(dtype)
        computed = np.finfo(compute or dtype)
        with np.errstate(all="ignore"):
            value = np.asarray(exact.value, LD)
            scaled = np.maximum(ulp(value, computed), np.where(exact.scale == 0, 0, ulp(np.abs(exact.scale), computed)))
            unit = np.maximum(scaled, float(computed.eps) * exact.terms / bound)
            if dtype.itemsize == 2:
                unit = np.maximum(ulp(value, limits), bound / (HALF_BOUND - 0.5) * unit)
            self.head = value.astype(np.float64)
            self.tail = np.where(np.isfinite(self.head), value - self.head, 0).astype(np.float64)
            # a power of two or nearly one: its reciprocal may be beyond a double's range where results are subnormal
            self.unit = np.broadcast_to(unit, value.shape).astype(np.float64)
        self.largest = float(limits.max)
        self.half_next = np.ldexp(1.0, int(limits.maxexp) - 1)  # infinity stands for what would follow the largest
        self.beyond = np.abs(value) > self.largest

    def errors(self, result: np.ndarray) -> np.ndarray:
        """The error of each entry, in units; infinite for NaN, and an infinity is what follows the largest number."""
        with np.errstate(all="ignore"):
            wide = result.astype(np.float64)
            errors = np.abs((wide - self.head) - self.tail) / self.unit
            infinite = np.isinf(wide)
            if infinite.any() or self.beyond.any():
                right = np.copysign(np.inf, self.head)
                near = np.abs(np.copysign(self.half_next, wide) - self.head / 2) / (self.unit / 2)
                near = np.where(wide == right, near, np.inf)
                errors = np.where(infinite, np.where(self.beyond & (wide == right), 0, near), errors)
        return np.where(np.isnan(errors), np.inf, errors)


def limits_of(dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "f":
        return np.finfo(dtype)
    import ml_dtypes

    return ml_dtypes.finfo(dtype)


# ---------------------------------------------------------------------------------------------------- pointwise


def pointwise(
    loss: Any,
    x: np.ndarray,
    target: Any = 0,
    extra: float = 1,
    parameters: Mapping[str, float] | None = None,
    v: Any = 1,
) -> dict[str, Exact]:
    """Every output of a pointwise loss or function; ``v`` is the direction of products with a derivative.

    Hessians that jump so near that the rounding of ``x - target`` decides are NaN: either side is right.
    """
    values = list(map(LD, loss.own_numbers(parameters)))
    x, t, q, v = (np.asarray(operand).astype(LD) for operand in (x, target, extra, v))

    def twin(at: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(np.broadcast_to(result, x.shape) for result in loss.twin(at, t, q, *values))

    with np.errstate(all="ignore"):
        value, grad, hess = twin(x)
        if loss.kind == "function":
            return {"value": Exact(value), "vjp": Exact(v * grad), "jvp": Exact(v * grad)}
        sizes = loss.terms(x, t, q, *values) if loss.terms else (0, 0, 0)

        def judged(result: np.ndarray, size: Any) -> Exact:
            return Exact(result, terms=size, rule="A14") if np.any(size) else Exact(result)

        found = {"value": judged(value, sizes[0]), "grad": judged(grad, sizes[1])}
        if "hess" in loss.outputs:
            found |= {"hess": judged(hess, sizes[2]), "hvp": judged(v * hess, np.abs(v) * sizes[2])}
        return found


def at_a_jump(
    loss: Any, x: np.ndarray, target: Any, extra: float, parameters: Mapping[str, float], order: int = 2
) -> np.ndarray:
    """Where a derivative of that order jumps within the rounding of ``x - target``: both sides are right there."""
    eps = float(np.finfo(x.dtype if x.dtype.kind == "f" and x.dtype.itemsize > 2 else np.float32).eps)
    values = list(map(LD, loss.own_numbers(parameters)))
    x, t, q = (np.asarray(operand).astype(LD) for operand in (x, target, extra))
    step = (np.abs(x) + np.abs(t)) * LD(eps)
    with np.errstate(all="ignore"):
        below, above = (np.broadcast_to(loss.twin(at, t, q, *values)[order], x.shape) for at in (x - step, x + step))
        return (x == t) & (order == 1) | (np.abs(below - above) > np.maximum(np.abs(below), np.abs(above)) / 2)


# --------------------------------------------------------------------------------------------------------- rows


class State:
    """What rows of logits are brought to: probabilities, their complements and minus log-probabilities."""

    def __init__(self, x: np.ndarray, temperature: float = 1, b: np.ndarray | None = None) -> None:
        z, T = x.astype(LD), LD(temperature)
        rows, self.largest = np.arange(len(z)), z.argmax(1)
        at_top = (rows, self.largest)
        top = z[at_top][:, None]
        with np.errstate(all="ignore"):
            head = z - top
            back = head - z  # what was lost: the difference of two logits takes more bits than long double has
            tail = np.where(np.isfinite(head), (z - (head - back)) - (top + back), 0)
            self.gap = head
            if T != 1:
                head, tail = quotient(head, tail, float(T))
            e = np.exp(head) * np.exp(tail)
            self.signed = b is not None
            if b is not None:
                e = np.where(b == 0, 0, e * b)
            others = e.copy()
            others[at_top] = 0
            rest = others.sum(1, keepdims=True)
            self.total = e[at_top][:, None] + rest
            beside = self.total - e  # at least 1 but for the largest, so that nothing is lost
            beside[at_top] = rest[:, 0]
            self.p, self.q = e / self.total, beside / self.total
            self.log_total = np.log1p(rest) if b is None else np.log(np.abs(self.total))
            self.top = top / T
            self.lse = self.top + self.log_total
            self.a = self.log_total - (head + tail)
        self.size = np.abs(e).sum(1, keepdims=True) / np.abs(self.total)

    def mean(self, x: np.ndarray) -> np.ndarray:
        """The mean of each row under its probabilities."""
        with np.errstate(invalid="ignore"):
            return np.where(self.p == 0, 0, self.p * x).sum(1, keepdims=True)

    def deviation(self, x: np.ndarray) -> np.ndarray:
        """What each entry is off that mean: as exact as the sizes of the two, which is what bounds are relative to."""
        return x - self.mean(x)


def quotient(head: np.ndarray, tail: np.ndarray, divisor: float) -> tuple[np.ndarray, np.ndarray]:
    """``head + tail`` over the divisor, in two parts: the first is short, so that its products are exact."""
    short = head / LD(divisor) * LD(2**32 + 1)
    short = short - (short - head / LD(divisor))
    large = LD(np.float32(divisor))
    rest = ((head - short * large) - short * (LD(divisor) - large)) + tail
    return np.where(np.isfinite(head), short, head), np.where(np.isfinite(head), rest / LD(divisor), 0)


def near_zero(state: State, x: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """The terms that a log-sum-exp near 0 is allowed (A7), and 0 elsewhere."""
    reach = np.where(np.isfinite(x), np.abs(x.astype(LD)), 0).max(1, keepdims=True)
    allowed = 4 * np.maximum(1, reach) if dtype == np.float64 else LD(2)
    if state.signed:
        return np.maximum(np.abs(state.top), np.maximum(1, state.size)) * np.ones_like(state.lse)
    return np.where(np.abs(state.lse) < 1, allowed, 0)


def entries(
    loss: Any, x: np.ndarray, target: np.ndarray | None, options: Mapping[str, Any], v: np.ndarray
) -> dict[str, Exact]:
    """Every output of a sum over entries, by its twin."""
    x, v, classes = x.astype(LD), v.astype(LD), x.shape[1]
    t = np.zeros_like(x)
    if target is not None:
        t = (target if target.ndim == 2 else np.arange(classes) == target[:, None]).astype(LD)
    values = list(map(LD, loss.own_numbers(options)))
    if base := options.get("base"):  # its logarithm is not to be rounded to a double
        values = [1 / np.log(LD(base))]
    with np.errstate(all="ignore"):
        results = [np.broadcast_to(result, x.shape) for result in loss.twin(x, t, *values)]
        sizes = loss.terms(x, t, *values) if loss.terms else (0, 0, 0, 0)
        sizes = [np.where(np.isfinite(size), size, 0) * np.ones_like(x) for size in sizes]
        w = np.asarray(options.get("class_weight", 1), LD) / (classes if loss.average else 1)
        value, grad, hess, slope = (np.where(w == 0, 0, w * result) for result in results)
        sizes = [np.abs(w) * size for size in sizes]
        size = np.maximum(np.where(np.isfinite(value), np.abs(value), 0), sizes[0]).sum(1)
        made = {
            "value": Exact(value.sum(1), terms=size, rule="A14"),
            "grad": Exact(grad, terms=sizes[1], rule="A14" if sizes[1].any() else ""),
        }
        if target is None:
            made["vjp"] = Exact(v[:, :1] * grad, terms=np.abs(v[:, :1]) * sizes[1], rule="A14")
            along = np.abs(grad * v) + sizes[1] * np.abs(v)
            made["jvp"] = Exact((grad * v).sum(1), terms=np.where(np.isfinite(along), along, 0).sum(1), rule="A14")
            return made
        made["hess"] = Exact(hess)
        if "hvp" in loss.outputs:
            made["hvp"] = Exact(np.where(v == 0, 0, v * hess))
        if "grad_target" in loss.outputs:
            made["grad_target"] = Exact(slope, terms=sizes[3], rule="A14" if sizes[3].any() else "")
    return made


def row_function(
    loss: Any, x: np.ndarray, options: Mapping[str, Any], v: np.ndarray, dtype: np.dtype[Any]
) -> dict[str, Exact]:
    """Every output of a function over rows, along the direction ``v``, of x's shape."""
    T = LD(options.get("temperature", 1))
    s = State(x, float(T), options.get("b"))
    v = v.astype(LD) / T
    p = Exact(s.p, terms=np.abs(s.p) * s.size if s.signed else 0, rule="A14" if s.signed else "")
    if loss.outputs[0] == "lse":
        w = v[:, :1]
        lse = Exact(s.lse[:, 0], terms=near_zero(s, x, dtype)[:, 0], rule="A7")
        found = {"value": lse, "grad": p, "vjp": Exact(w * s.p, terms=np.abs(w) * p.terms, rule=p.rule)}
        return found | {"jvp": Exact(s.mean(v)[:, 0], terms=_sum(np.abs(s.p * v)) * s.size[:, 0], rule="A14")}
    with np.errstate(all="ignore"):
        value = np.broadcast_to(loss.twin(s.p, s.a), s.p.shape)
    jvp = s.deviation(v), np.abs(v) + s.mean(np.abs(v))
    if loss.outputs[0] == "proba":
        both = Exact(s.p * jvp[0], terms=s.p * jvp[1], rule="A14")
        return {"value": Exact(value), "vjp": both, "jvp": both}
    every, sizes = v.sum(1, keepdims=True), np.abs(v).sum(1, keepdims=True)
    return {
        "value": Exact(value),
        "vjp": Exact(v - s.p * every, terms=np.abs(v) + s.p * sizes, rule="A14"),
        "jvp": Exact(jvp[0], terms=jvp[1], rule="A14"),
    }


def _sum(x: np.ndarray) -> np.ndarray:
    return x.sum(1)


def row_loss(
    loss: Any,
    x: np.ndarray,
    target: np.ndarray,
    options: Mapping[str, Any],
    v: np.ndarray,
    dtype: np.dtype[Any],
    ridge: float = 0,
) -> dict[str, Exact]:
    """Every output of a loss over rows: of the loss itself, of the softmax, and along the direction ``v``."""
    C, hard = x.shape[1], target.ndim == 1
    T, zl, eps = (LD(options.get(name, at)) for name, at in (("temperature", 1), ("z_loss", 0), ("label_smoothing", 0)))
    s = State(x, float(T))
    p, v = s.p, v.astype(LD)
    of_logits = "proba" in loss.outputs
    a = s.a if of_logits else -x.astype(LD)
    t = (np.arange(C) == target[:, None]).astype(LD) if hard else target.astype(LD)
    plain = hard and not eps  # at each class t is 0 or 1
    if eps:
        t = (1 - eps) * t + eps / C
    cw = np.asarray(options.get("class_weight", np.ones(C))).astype(LD)
    w = cw * t
    W = w.sum(1, keepdims=True)
    k, kk = 2 * zl * s.lse, 2 * zl
    f, f2 = 1 / T, 1 / T**2
    d = u = d_size = u_size = deviates = None
    if loss.of != "classes":
        found = _by_twin(loss, loss.own_numbers(options), s, x.astype(LD), t, w, f, plain)
    else:
        found, (d, u, d_size, u_size, deviates) = _by_classes(loss, s, a, t, w, W, k, kk, zl, f, plain)
    if not of_logits:
        return {name: found[name] for name in ("value", "grad", *loss.outputs) if name in found}
    found["proba"], found["log_proba"] = Exact(p), Exact(-s.a)
    found["lse"] = Exact(s.lse[:, 0], terms=near_zero(s, x / T, dtype)[:, 0], rule="A7")
    found["entropy"] = Exact(s.mean(s.a)[:, 0])
    pv, size_v, deviation = s.mean(v), np.abs(v) + s.mean(np.abs(v)), s.deviation(v)
    if loss.name in ALONG:
        uv = s.mean(deviation * u)
        hvp = f2 * ALONG[loss.name](p, W, deviation, pv, k, kk, d, u, uv)
        hvp_terms = np.abs(W + k) * p * size_v + kk * p * np.abs(pv)
        if deviates:
            hvp_terms = np.abs(W) * p * (size_v * (d_size + p) + s.mean(size_v * u_size))
        found["hvp"] = Exact(hvp, terms=f2 * hvp_terms, rule="A14")
    finite = np.isfinite(s.gap)
    pull = -W * p * np.where(finite, s.gap, 0) - (k * p * np.where(finite, x, 0) if zl else 0)
    with np.errstate(invalid="ignore"):
        of_temperature = np.concatenate((np.where(w == 0, 0, w * s.gap), pull), 1)
    found["grad_temperature"] = Exact(f2 * _sum(of_temperature), terms=f2 * _sum(np.abs(of_temperature)), rule="A14")
    z, slope = np.where(finite, s.gap, 0) / T, found["grad_temperature"]
    below = s.mean(z)
    variance, mean_z = s.mean((z - below) ** 2)[:, 0], x.astype(LD).max(1) / T + below[:, 0]
    bends = [f2 * (W + k)[:, 0] * variance, f2 * kk * mean_z**2, -2 / T * slope.value]
    sizes_of_bends = np.abs(bends[0]) + bends[1] + 2 / T * slope.terms
    found["hess_temperature"] = Exact(sum(bends), terms=sizes_of_bends, rule="A14")
    found["grad_target"] = Exact(cw * (1 - eps) * s.a)
    if hard:
        raised = np.where(t == t.max(1, keepdims=True), -np.inf, x.astype(LD))
        found["margin"] = Exact(x.astype(LD)[np.arange(len(x)), target] - raised.max(1))
    if "newton_step" in loss.outputs and ridge:
        found["newton_step"] = _newton_step(
            p, found["grad"].value, found["grad"].terms, f2 * (W + k), f2 * kk, LD(ridge)
        )
    return {name: found[name] for name in found if name in ("value", "grad", *loss.outputs)}


def _by_twin(
    loss: Any, own: tuple[float, ...], s: State, x: Any, t: Any, w: Any, f: Any, plain: bool
) -> dict[str, Exact]:
    """Value, gradient and Hessian of a loss of the true class, or of margins."""
    if loss.of == "violations":
        value, grad, hess = violation_parts(loss, own, x, t, w, np.ones(x.shape, bool))
        return {"value": Exact(value.sum(1)), "grad": Exact(grad), "hess": Exact(hess)}
    value, grad, hess = profile_parts(loss, own, s.a, s.p, s.q, w)
    slopes, bends = profile_sizes(loss, own, s.a, s.p, s.q, w)
    return {
        "value": Exact(value.sum(1)),
        "grad": Exact(f * grad) if plain else Exact(f * grad, terms=f * slopes, rule="A14"),
        "hess": Exact(f**2 * hess, terms=f**2 * bends, rule="A14"),
    }


def _by_classes(
    loss: Any, s: State, a: Any, t: Any, w: Any, W: Any, k: Any, kk: Any, zl: Any, f: Any, plain: bool
) -> tuple[dict[str, Exact], tuple[Any, ...]]:
    """The same by the twin of every class; and deviations from the means, and their sizes."""
    p, q, f2 = s.p, s.q, f**2
    zero = np.zeros_like(p)
    spreads = spread(p, q, t)
    d, u = map(s.deviation, spreads)
    sizes = [np.abs(y) for y in spreads] if plain else [p + np.abs(t), 2 * p + np.abs(t)]
    d_size, u_size = (size + s.mean(size) for size in sizes)

    def twin(d: np.ndarray, u: np.ndarray) -> list[np.ndarray]:
        parts = loss.twin(p, q, t, w, W, a, k, kk, d, u)
        return [np.broadcast_to(part, p.shape) for part in parts]

    with np.errstate(all="ignore"):
        value, grad, hess = twin(d, u)
        _, *alone = twin(zero, zero)
        along_d, along_u = twin(d_size, zero)[1:], twin(zero, u_size)[1:]
        used = [np.abs(y - n) + np.abs(z - n) for y, z, n in zip(along_d, along_u, alone, strict=True)]
    deviates = any(y.any() for y in used)
    terms = [np.abs(n) + y if deviates else np.zeros_like(y) for n, y in zip(alone, used, strict=True)]
    loss_value = value.sum(1) + (zl * s.lse[:, 0] ** 2 if zl else 0)
    value_terms = _sum(np.abs(spreads[0]) * sizes[0]) * W[:, 0] if deviates and not plain else LD(0)
    scale: Any = 0
    of_logits = "proba" in loss.outputs
    if not deviates and of_logits:  # cross-entropy: a difference with soft labels, and with the squared log-sum-exp
        if not plain or zl:
            terms[0] = p * np.abs(W) + np.abs(w) + np.abs(k) * p
            scale = np.maximum(p * np.abs(W), np.abs(w)) * f
        if zl:
            terms[1] = p * q * (np.abs(W) + np.abs(k)) + kk * p * p
    return {
        "value": Exact(loss_value, terms=value_terms, rule="A14" if np.any(value_terms) else ""),
        "grad": Exact(f * grad, scale, f * terms[0], rule="A14" if deviates else "A2, A14" if terms[0].any() else ""),
        "hess": Exact(f2 * hess, 0, f2 * terms[1], rule="A14" if terms[1].any() else ""),
    }, (d, u, d_size, u_size, deviates)


def _newton_step(p: np.ndarray, grad: np.ndarray, terms: np.ndarray, a2: np.ndarray, z2: Any, ridge: Any) -> Exact:
    """``-(H + ridge)^-1 g`` for H a diagonal less (or plus) one outer product."""
    D = a2 * p + ridge
    G = _sum(p * grad / D)[:, None]
    pull = (z2 - a2) * G / (ridge * _sum(p / D) + z2 * _sum(p * p / D))[:, None]
    sizes = (np.maximum(np.abs(grad), terms) + np.abs(pull * p)) / np.abs(D)
    return Exact(-(grad - pull * p) / D, terms=sizes.max(1, keepdims=True) * np.ones_like(p), rule="A14")


def _above_its_tangent(t: np.ndarray) -> np.ndarray:
    """``exp(t) - 1 - t``, by its series near 0."""
    series = np.ones_like(t)
    for n in range(24, 2, -1):
        series = 1 + t / n * series
    series = t * t / 2 * series
    with np.errstate(all="ignore"):
        return np.where(np.abs(t) < 0.5, series, np.expm1(t) - t)


def divergence(x: np.ndarray, target: np.ndarray) -> tuple[Exact, Exact]:
    """The Kullback-Leibler divergence of the softmax of ``x`` from that of ``target``, and its gradient in ``x``."""
    s = State(x)
    own, other = x.astype(LD), target.astype(LD)
    with np.errstate(all="ignore"):
        head = other - own
        back = head - other
        tail = (other - (head - back)) - (own + back)
        lead = np.arange(len(x)), np.argmax(s.p, 1)
        d = (head - head[lead][:, None]) + (tail - tail[lead][:, None])  # near which the mean is
        sizes = np.abs(d) + s.mean(np.abs(d))
        d = d - s.mean(d)
        value = np.log1p(s.mean(_above_its_tangent(d)))  # the mean of exp(d), less 1, as that of d is 0
        grad, terms = (np.where(s.p == 0, 0, s.p * y) for y in (-d, sizes))
    return Exact(value[:, 0]), Exact(grad, terms=terms, rule="A14")


#: Losses whose target is a distribution as logits: value and gradient.
BETWEEN_LOGITS = {"kl_div_from_logits": divergence}


# -------------------------------------------------------------------------------------------------- its own error


def parts(value: np.longdouble) -> tuple[float, float, int]:
    """A finite long double as two doubles, to be added, and a power of two, to be multiplied with."""
    fraction, exponent = np.frexp(value)
    head = float(fraction)
    return head, float(fraction - LD(head)), int(exponent)


def own_error(loss: Any, x: np.ndarray, target: np.ndarray | None) -> float:
    """The worst error of these references, in ULP of float64, against arithmetic of `references.BITS` bits."""
    import mpmath

    if loss.name in BETWEEN_LOGITS:
        return 0.0  # which has a definition of its own here
    double, v = np.dtype(np.float64), references._direction(x)["v"]
    arrays = {"x": x, "v": v} | ({} if target is None else {"target": target})
    if loss.kind in ("pointwise", "function"):
        mine, compute = pointwise(loss, x, 0 if target is None else target, v=v), references._pointwise
        if "hess" in mine:
            jump = at_a_jump(loss, x, target, 1, {})
            mine |= {
                name: replace(mine[name], value=np.where(jump, np.nan, mine[name].value)) for name in ("hess", "hvp")
            }
    elif loss.entrywise:
        mine, compute = entries(loss, x, target, {}, v), references._entries
    else:
        compute = references._softmax_rows
        mine = row_function(loss, x, {}, v, double) if target is None else row_loss(loss, x, target, {}, v, double)

    def off(value: np.longdouble, true: Any, unit: float) -> float:
        if not abs(value) <= np.finfo(double).max:
            return 0.0  # a jump, or beyond the range: results are infinite there
        head, tail, exponent = parts(value)
        return float(abs(mpmath.ldexp(mpmath.mpf(head) + tail, exponent) - true) / unit)

    worst = 0.0
    with mpmath.workprec(references.BITS):
        for name, true in compute(loss, arrays).items():
            if name in mine:
                value, unit = mine[name].value, Judged(mine[name], double, loss.ulp).unit
                if value.ndim == 2:
                    value, unit = (array[:, references.kept(x.shape[1])] for array in (value, unit))
                numbers = zip(value.ravel(), (result for result, _ in true), unit.ravel(), strict=True)
                worst = max(worst, *(off(*three) for three in numbers))
    return worst


def bound(loss: Any, output: str, variant: str, dtype: str) -> float:
    """The bound of a loss's output on a variant, from the registry."""
    own = loss.bound(output)
    single = own if variant.startswith("compiled") else max(own, selftest.OTHERS_ULP)
    return HALF_BOUND if dtype in ("float16", "bfloat16") else single
