"""Worst error, in units in the last place (ULP), of what every loss gives: value, derivatives, and what rows offer.

The inputs are fixed and the exact results committed (see `benchmarks.references`), so that the figures are the same in
every run: a change is a change of the code. The contract bounds them by each loss's ``ulp`` on the compiled backend and
by 4 on the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import lossfast as lf

from . import common, references


def results(loss: Any, given: references.Reference) -> dict[str, np.ndarray]:
    """What the library makes of the inputs, with the entries that the reference has."""
    x, v = given["x"], given.get("v")
    if loss.kind in ("function", "row_function"):
        made = {"value": loss(x)}
        if "vjp" in given:
            made["vjp"] = loss.vjp(x, v if made["value"].shape == x.shape else v[:, 0])
    else:
        operands = x, given["target"]
        value, grad = loss.value_and_grad(*operands, reduction="none")
        made = {"value": value, "grad": grad}
        if "hess" in given:
            made["hess"] = loss.grad_and_hess(*operands, reduction="none")[1]
        if "hvp" in given:
            made["hvp"] = loss.hvp(*operands, v, reduction="none")
        if rows := [name for name in ("proba", "log_proba", "entropy") if name in given]:
            made |= loss.evaluate(*operands, want=rows, reduction="none")._asdict()
    if loss.kind not in common.POINTWISE_KINDS:
        columns = references.kept(given["x"].shape[1])
        made = {name: array[:, columns] if array.ndim == 2 else array for name, array in made.items()}
    return {name: np.ravel(array) for name, array in made.items()}


def worst_ulp(result: np.ndarray, given: references.Reference, output: str, bound: float) -> float:
    """The largest error, in units in the last place that the result's dtype has at the exact value.

    Where the exact value is a difference of terms, an epsilon of their sizes is the bound and counts so. A result that
    is NaN where the exact one is not, or infinite where it can be held, is infinitely wrong.
    """
    limits = _limits(result.dtype)
    head, tail = given[output], given.get(f"{output}_tail", np.float64(0))
    wide = result.astype(np.float64)
    exponent = np.where(head == 0, int(limits.minexp), np.maximum(np.frexp(head)[1] - 1, int(limits.minexp)))
    unit = np.ldexp(1.0, exponent - int(limits.nmant))
    unit = np.maximum(unit, float(limits.eps) * given.get(f"{output}_terms", 0.0) / bound)
    with np.errstate(invalid="ignore"):
        errors = np.abs((wide - head) - tail) / unit  # the first difference is exact where the result is near
    beyond = np.abs(head) > float(limits.max)  # what the dtype cannot hold is infinite, as it should be
    errors[beyond & (wide == np.copysign(np.inf, head))] = 0
    return float(np.max(np.where(np.isnan(errors), np.inf, errors), initial=0))


def _limits(dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "f":
        return np.finfo(dtype)
    import ml_dtypes

    return ml_dtypes.finfo(dtype)


def measure(
    names: Sequence[str], dtypes: Sequence[str], variants: Sequence[str] = tuple(common.VARIANTS)
) -> common.Table:
    """The worst error of each loss, output, dtype and variant."""
    table: common.Table = {}
    for name in names:
        loss = lf.get_loss(name)
        for dtype in dtypes:
            if common.dtype_of(dtype) is None:
                continue
            sets = references.of(name, dtype)
            for variant in filter(common.available, variants):
                for output in references.OUTPUTS:
                    if output in sets[0]:
                        key = (output, name, dtype, variant)
                        common.attempt(table, key, _worst, loss, sets, output, variant)
    return table


def _worst(loss: Any, sets: list[references.Reference], output: str, variant: str) -> float:
    with common.using(variant):
        return max(worst_ulp(results(loss, given)[output], given, output, loss.ulp) for given in sets)


class Ulp:
    params = (list(references.OUTPUTS), common.names(), list(common.DTYPES), common.VARIANTS)
    param_names = ("output", "loss", "dtype", "variant")
    version = "2"
    unit = "ULP"

    def setup_cache(self) -> common.Table:
        return measure(common.names(), common.DTYPES)

    setup_cache.timeout = 300

    def setup(self, table: common.Table, *key: str) -> None:
        common.require(table, *key)

    def track_worst_ulp(self, table: common.Table, *key: str) -> float:
        return common.look_up(table, *key)
