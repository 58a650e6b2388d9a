"""``lossfast check``: the worst error of every loss on this machine, by backend and instruction set, against its bound.

The reference is the losses' own Python twins in long double, so the check finds what a compiler, a maths library or a
processor gets wrong, not a formula that is wrong on paper (the test suite compares those with independent arithmetic).
How good the reference is, is measured too: against decimal arithmetic with 60 digits.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import lossfast as lf

from ._loss import inside, looped
from ._parts import profile_parts, violation_parts
from .rowwise import spread

#: The bound of the backends that compute in float64 and round; the compiled one's is each loss's own.
OTHERS_ULP = 4
ROWS, CLASSES = 400, 10
#: What is measured of a loss with derivatives in two arguments, in its twin's order.
OUTPUTS_OF_TWO = ("value", "grad", "hess", "grad_second", "hess_second")
#: What results should be, and for those that are differences of larger terms, the sum of the terms' sizes.
Exact = dict[str, tuple[np.ndarray, Any]]


def check(backends: Sequence[str] | None = None, as_json: bool = False) -> int:
    """Measure, print, and return 1 if a bound does not hold, else 0."""
    from .cli import to_json

    wide = np.finfo(np.longdouble).nmant > np.finfo(np.float64).nmant
    dtypes = [np.dtype(np.float32)] + ([np.dtype(np.float64)] if wide else [])
    variants = list(_variants(backends))
    results: list[dict[str, Any]] = []
    failures: list[str] = []
    if not as_json:
        names = [name for name, _ in variants]
        print(f"worst error in ULP, {'float32 / float64' if wide else 'float32'}; * is beyond the bound")
        print(f"{'loss':<33} {'output':<6} {'bound':>6}  " + " ".join(f"{name:>17}" for name in names))
    for _, loss in sorted(looped().items()):
        worst: dict[tuple[str, str], list[float]] = {}
        for dtype in dtypes:
            arguments = _arguments(loss, dtype)
            exact = _reference(loss, *(argument.astype(np.longdouble) for argument in arguments[:1]), *arguments[1:])
            for variant, choose in variants:
                try:
                    with choose():
                        found = _results(loss, arguments)
                except Exception as error:  # this is the place to hear of it, beside what does work
                    failures.append(
                        f"{loss.name} on {variant}, {dtype}: {type(error).__name__}: {error}".partition("\n")[0]
                    )
                    found = {}
                for output in exact:
                    ulp = worst_ulp(found[output], *exact[output]) if found else math.inf
                    worst.setdefault((output, variant), []).append(ulp)
        for output in dict.fromkeys(output for output, _ in worst):
            promised = loss.bound(output)
            bounds = [promised if name.startswith("compiled") else max(promised, OTHERS_ULP) for name, _ in variants]
            row = [worst[output, name] for name, _ in variants]
            results += [
                {
                    "loss": loss.name,
                    "output": output,
                    "variant": name,
                    "bound": bound,
                    "ulp": ulps,
                    "ok": max(ulps) <= bound,
                }
                for (name, _), bound, ulps in zip(variants, bounds, row, strict=True)
            ]
            if not as_json:
                cells = [
                    " / ".join(f"{ulp:.2f}" if ulp < 1000 else f"{ulp:.0e}" for ulp in ulps)
                    + (" " if max(ulps) <= bound else "*")
                    for bound, ulps in zip(bounds, row, strict=True)
                ]
                print(
                    f"{loss.name:<33} {output:<6} {promised:>6}  " + " ".join(f"{cell:>17}" for cell in cells),
                    flush=True,
                )
    broken = sum(not result["ok"] for result in results)
    own = reference_error()
    if as_json:
        report = {
            "dtypes": list(map(str, dtypes)),
            "reference_ulp": own,
            "broken": broken,
            "failures": failures,
            "results": results,
        }
        print(to_json(report))
    else:
        print("\n" + "".join(f"failed: {failure}\n" for failure in failures), end="")
        print(f"the reference's own error, of cross-entropy against 60-digit decimals: {own:.4f} ULP of float64")
        if not wide:
            print("float64 was not checked: long double is no wider than double on this machine")
        print(f"bound of the numba and numpy backends: {OTHERS_ULP} ULP")
        print(f"{broken} of {len(results)} bounds broken" if broken else f"all {len(results)} bounds hold")
    return 1 if broken else 0


def _variants(backends: Sequence[str] | None) -> Iterator[tuple[str, Any]]:
    """Name, and what to enter, of each backend that is there, and of each instruction set of the compiled one."""
    for backend in backends or lf.backends.NAMES:
        try:
            lf.backends.load(backend)
        except ImportError:
            if backends:
                raise
            continue
        if backend == "compiled":
            for isa in lf.isas():
                yield f"compiled {isa}", lambda isa=isa: _compiled(isa)
        else:
            yield backend, lambda backend=backend: lf.use_backend(backend)


def _compiled(isa: str) -> Any:
    import contextlib

    stack = contextlib.ExitStack()
    stack.enter_context(lf.use_backend("compiled"))
    stack.enter_context(lf.use_isa(isa))
    return stack


#: That a row is given of several.
MOST_LABELS = 16


def fitting(loss: Any, *arguments: np.ndarray) -> tuple[np.ndarray, ...]:
    """Any numbers, brought to where the loss is meant for; labels stay."""
    takes = dict(enumerate(loss.takes))
    found = tuple(
        _fitting(takes.get(place, ""), inside(loss, ("pred", "target")[place], a)) if a.ndim == arguments[0].ndim else a
        for place, a in enumerate(arguments)
    )
    if loss.of == "pairs":  # which are as many as a row's labels times its other classes: of many classes it has few
        found = (found[0], *((t * (np.cumsum(t != 0, -1) <= MOST_LABELS)).astype(t.dtype) for t in found[1:]))
    return found


def _fitting(takes: str, a: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        if takes == "0 or 1":
            return np.where(a == a, a > 0, a).astype(a.dtype)
        if takes == "log-probabilities":
            return -np.abs(a) if a.dtype.kind != "b" else a
        if takes == "probabilities":
            return (
                np.abs(a) % 2 if a.dtype.kind in "iu" else 1 / (1 + np.minimum(1e280, np.abs(a.astype(float))))
            ).astype(a.dtype)
    return a


def _arguments(loss: Any, dtype: np.dtype[Any]) -> tuple[np.ndarray, ...]:
    """Inputs of many magnitudes; of logits, rows that are unsure, sure and right, sure and wrong, and far from 0."""
    random = np.random.default_rng(1)
    if loss.kind in ("pointwise", "pointwise_of_two", "function"):
        size = ROWS * CLASSES
        magnitude = 10.0 ** random.uniform(-6, 2, size)
        x = (np.where(random.random(size) < 0.5, -1, 1) * magnitude).astype(dtype)
        x, target = inside(loss, "pred", x), random.integers(0, 2, size).astype(dtype)
        if loss.differentiable:
            others = (x[::-1] + target, 10.0 ** random.uniform(-3, 3, size).astype(dtype))
            return (x, *(inside(loss, *pair) for pair in zip(loss.operands[1:], others, strict=True)))
        return fitting(loss, *((x,) if loss.kind == "function" else (x, target)))
    spreads = 10.0 ** random.uniform(-1, 1.5, (ROWS, 1))
    logits = random.normal(size=(ROWS, CLASSES)) * spreads
    # The largest is at least 1: near 0 a log-sum-exp is the difference of larger numbers, and bounded otherwise.
    logits += np.maximum(0, 1 - logits.max(1, keepdims=True)) + random.choice([0, 100], (ROWS, 1))
    if loss.kind == "rowwise" and "proba" not in loss.outputs:  # it takes log-probabilities
        logits = -np.abs(logits)
    logits = logits.astype(dtype)
    if loss.kind == "row_function":
        return fitting(loss, logits)
    if not loss.labelled:
        return fitting(loss, logits, (logits + random.normal(size=logits.shape)).astype(dtype))
    return *fitting(loss, logits), np.where(
        random.random(ROWS) < 0.7, logits.argmax(1), random.integers(0, CLASSES, ROWS)
    )


def _results(loss: Any, arguments: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    if loss.kind in ("function", "row_function"):
        return {"value": loss(*arguments)}
    if loss.differentiable:
        value, grad, hess = loss.evaluate(*arguments, reduction="none")
        return dict(zip(OUTPUTS_OF_TWO, (value, grad[0], hess[0], grad[1], hess[1]), strict=True))
    value, grad = loss.value_and_grad(*arguments, reduction="none")
    results = {"value": value, "grad": grad}
    if loss.kind == "pointwise" and "hess" in loss.outputs:
        results["hess"] = loss.grad_and_hess(*arguments, reduction="none")[1]
    return results


def _reference(loss: Any, x: np.ndarray, target: np.ndarray | None = None, third: Any = 1) -> Exact:
    """The same in long double, the dtype of ``x``."""
    with np.errstate(all="ignore"):
        if loss.kind in ("pointwise", "pointwise_of_two", "function"):
            t = x.dtype.type(0) if target is None else target.astype(x.dtype)
            given = (x, t, np.asarray(third, x.dtype), *loss.own_numbers())
            results, terms = loss.twin(*given), loss.terms(*given) if loss.terms else (0,) * 5
            names = ["value"] + [name for name in ("grad", "hess") if name in loss.outputs]
            if loss.differentiable:
                names = list(OUTPUTS_OF_TWO)
            return dict(zip(names, zip(results, terms, strict=False), strict=False))
        return (_entry_reference if loss.entrywise else _row_reference)(loss, x, target)


def _entry_reference(loss: Any, x: np.ndarray, target: np.ndarray | None) -> Exact:
    t = np.zeros_like(x)
    if target is not None:
        t = target if target.ndim == x.ndim else np.arange(x.shape[1]) == target[:, None]
    parameters = [x.dtype.type(parameter.number(parameter.default)) for parameter in loss.parameters.values()]
    value, grad, *_ = loss.twin(x, t.astype(x.dtype), *parameters)
    share = 1 / x.dtype.type(x.shape[1]) if loss.average else 1
    sizes = loss.terms(x, t.astype(x.dtype), *parameters) if loss.terms else (0, 0)
    found: Exact = {"value": (value.sum(1) * share, np.maximum(abs(value), sizes[0]).sum(1) * share)}
    if target is not None:
        found["grad"] = (grad * share, sizes[1] * share)
    return found


def _softmax(z: np.ndarray) -> tuple[np.ndarray, ...]:
    """p, 1 - p, and the two terms of -log p: from the normaliser down to the largest logit, from that to each."""
    rows, others = np.arange(len(z)), 1 - np.eye(z.shape[1], dtype=z.dtype)
    largest = z.argmax(1)
    below = z[rows, largest][:, None] - z
    e = np.exp(-below)
    rest = e @ others  # of each class, the sum of all others: 1 - p without cancellation
    total = e.sum(1, keepdims=True)
    return e / total, rest / total, np.log1p(rest[rows, largest])[:, None], below


def _row_reference(loss: Any, z: np.ndarray, target: np.ndarray | None) -> Exact:
    p, q, log_total, below = _softmax(z)
    a = log_total + below
    if target is None:
        top = z.max(1, keepdims=True)
        return {"value": ((top + log_total)[:, 0] if loss.outputs[0] == "lse" else loss.twin(p, a), 0)}
    if loss.of != "classes":
        own = loss.own_numbers()
        t = (np.arange(z.shape[1]) == target[:, None]).astype(z.dtype)
        if loss.of == "truth":
            value, grad, _ = profile_parts(loss, own, a, p, q, t)
        else:
            value, grad, _ = violation_parts(loss, own, z, t, t, np.ones(z.shape, bool))
        return {"value": (value.sum(1), 0), "grad": (grad, 0)}
    if "proba" not in loss.outputs:
        a = -z
    if loss.labelled:
        t = (np.arange(z.shape[1]) == target[:, None]).astype(z.dtype)
        spreads = spread(p, q, t)
    else:
        t, _, other_total, other_below = _softmax(target.astype(z.dtype))
        a = (other_below - below) + (other_total - log_total)
        spreads = a, a

    def twin(deviations: Any) -> Any:
        one, zero = z.dtype.type(1), z.dtype.type(0)
        return loss.twin(p, q, t, t, one, a, zero, zero, *deviations)

    # from the mean under p, difference by difference; and the sizes of what such a deviation is the difference of
    value, grad, _ = twin(((x[:, :, None] - x[:, None, :]) * p[:, None, :]).sum(-1) for x in spreads)
    sizes = (abs(x) + (p * abs(x)).sum(1, keepdims=True) for x in spreads)
    return {"value": (value.sum(1), 0), "grad": (grad, abs(twin(sizes)[1]))}


def worst_ulp(result: np.ndarray, exact: np.ndarray, terms: Any) -> float:
    """The largest error of ``result``, in units in the last place that its dtype has at the exact value.

    Where the result is a difference of ``terms``, an epsilon of their sizes counts as 2. An infinity stands for the
    first number beyond the range: it is right wherever what is exact is not below that. NaN is right for NaN alone.
    """
    limits = np.finfo(result.dtype)
    exact = np.broadcast_to(exact, result.shape).astype(np.longdouble)
    exponent = np.where(exact == 0, limits.minexp, np.frexp(exact)[1] - 1)
    exponent = np.clip(exponent, limits.minexp, limits.maxexp - 1)
    unit = np.maximum(np.ldexp(np.longdouble(1), exponent - limits.nmant), limits.eps * terms / 2)
    beyond, wide = np.ldexp(np.longdouble(1), limits.maxexp), result.astype(np.longdouble)
    error = np.abs(np.clip(wide, -beyond, beyond) - np.where(np.isinf(wide), np.clip(exact, -beyond, beyond), exact))
    off = np.where(np.isnan(wide) & np.isnan(exact), 0, error / unit)
    return float(np.max(np.where(np.isnan(off), np.inf, off), initial=0))


def reference_error() -> float:
    """The error of the long double reference itself, in ULP of float64: cross-entropy of some rows in decimals."""
    logits, labels = (argument[:40] for argument in _arguments(lf.get_loss("cross_entropy"), np.dtype(np.float64)))
    reference = _reference(lf.get_loss("cross_entropy"), logits.astype(np.longdouble), labels)["value"][0]
    worst = 0.0
    with decimal.localcontext() as context:
        context.prec = 60
        for row, label, value in zip(logits.tolist(), labels, reference, strict=True):
            terms = [(decimal.Decimal(z) - decimal.Decimal(row[label])).exp() for z in row]
            exact = sum(terms, decimal.Decimal(0)).ln()
            head = float(value)  # a long double as two doubles, which are exact as decimals
            error = abs(decimal.Decimal(head) + decimal.Decimal(float(value - head)) - exact)
            worst = max(worst, float(error) / float(np.spacing(float(exact))))
    return worst
