"""The worst error of every output of every loss, beside other libraries: what ``docs/accuracy.md`` shows.

Every loss and function in the registry, every output it has, every dtype, backend and instruction set, over families of
inputs that are made to find what goes wrong; and other libraries on the same inputs, where they have the same function.
The unit is the contract's (see `benchmarks.longdouble`): ULP of the exact result, or of the terms that it is the
difference of. ``python -m benchmarks.contract`` writes ``docs/accuracy.json``.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import math
import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import lossfast as lf
from lossfast._loss import Choice, inside, looped
from lossfast.selftest import fitting

from . import common, equivalents, longdouble

FILE = Path(__file__).parents[1] / "docs" / "accuracy.json"
DTYPES = ("float32", "float64", "float16", "bfloat16")
WIDE_DTYPES = ("float32", "float64")
OURS = "lossfast"
#: A value of a parameter beside its default, by its domain.
OTHER_VALUES = {
    "> 0": 0.5,
    ">= 0": 0.5,
    "finite": -0.5,
    "finite and > 0": 0.7,
    "finite and >= 0": 1e-3,
    "finite and >= -1": 2.0,
    "in [0, 1]": 0.1,
    "in (0, 1)": 0.25,
    "in (0, 0.5)": 0.1,
    "finite, > 0 and not 1": 2.0,
}
RIDGE = 0.1
#: Class counts: those around the widths of vectors, with every library; those between; and long rows.
SHARED = (2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17, 31, 32, 33, 64, 65, 100, 127, 128, 130, 1000, 1001, 50_000, 250_000)
BETWEEN = tuple(C for C in range(2, 131) if C not in SHARED)
FEW = (2, 3, 7, 10, 33, 128, 1000)
QUICK = (3, 10, 33)
#: Outputs that are measured on the longest rows; the others' errors are made of the same parts.
LONG = 10_000
LONG_OUTPUTS = ("value", "grad", "proba", "log_proba")


@dataclass(frozen=True)
class Scope:
    """How much is measured."""

    shared: tuple[int, ...] = SHARED
    between: tuple[int, ...] = BETWEEN
    few: tuple[int, ...] = FEW
    elements: int = 10_000
    sums: int = 1_000_000
    mean: int = 10_000_000
    rows: int = 20_000


FULL = Scope()
SMALL = Scope(QUICK, (), QUICK[:2], 300, 5_000, 100_000, 500)


# ------------------------------------------------------------------------------------------------------- inputs


def _random(*seed: Any) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(seed).encode()))


def _limits(dtype: str) -> Any:
    return longdouble.limits_of(common.dtype_of(dtype))


def reach(dtype: str) -> float:
    """The logit gap at which the smaller probability is 0 in the dtype."""
    return -math.log(float(_limits(dtype).smallest_subnormal)) * 1.02


#: What rows are, for the documentation.
ROW_FAMILIES = {
    "unsure": "logits between -1 and 1",
    "trained": "10 times standard normal",
    "sure": "one class ahead of the others by 0 up to the gap at which their probabilities vanish",
    "wide": "logits between -1000 and 1000",
    "near ties": "logits that differ in their last bits only",
    "masked": "some classes at minus infinity",
    "offset": "standard normal plus ±100 or ±10,000",
    "huge": "logits up to the dtype's largest number, of either sign",
    "log-probabilities": "a log-softmax, rounded",
}
#: And elements.
ELEMENT_FAMILIES = {
    "ordinary": "predictions 3 times standard normal; targets 0 and 1, or standard normal",
    "sure": "logits out to where probabilities vanish; targets 0 and 1",
    "all magnitudes": "predictions of every magnitude that the dtype has, and 0; targets 0 and 1",
    "near the target": "predictions whose difference from the target is down to its last bits",
    "thresholds": "differences on and beside the parameters at which the formula changes",
    "targets between": "targets between 0 and 1, or of every magnitude",
}


def rows_of(C: int, count: int, dtype: str, share: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    """Logits of all families one below the other, ``count`` rows each, and labels of which most are right.

    ``share``: of the largest number, what the huge ones reach.
    """
    random = _random("rows", C, dtype)
    limits, actual = _limits(dtype), common.dtype_of(dtype)
    eps, largest = float(limits.eps), float(limits.max)

    def normal(scale: float = 1) -> np.ndarray:
        return scale * random.standard_normal((count, C))

    ahead = random.integers(C, size=count)
    is_ahead = np.arange(C) == ahead[:, None]
    # an irrational step, so that every class count has other gaps
    gaps = reach(dtype) * ((np.arange(count) + C / 7) * 0.618033988749895 % 1)
    masked = normal(3)
    masked[(random.random((count, C)) < 0.3) & ~is_ahead] = -np.inf
    spread = normal(4).astype(np.longdouble)
    spread -= spread.max(1, keepdims=True)
    parts = {
        "unsure": random.uniform(-1, 1, (count, C)),
        "trained": normal(10),
        "sure": normal() + np.where(is_ahead, gaps[:, None], 0),
        "wide": random.uniform(-1000, 1000, (count, C)),
        "near ties": 1 + 8 * eps * normal(),
        "masked": masked,
        "offset": normal() + random.choice([-1e4, -100, 100, 1e4], (count, 1)),
        "huge": share * largest * random.uniform(-1, 1, (count, C)),
        "log-probabilities": (spread - np.log(np.exp(spread).sum(1, keepdims=True))).astype(np.float64),
    }
    assert list(parts) == list(ROW_FAMILIES)
    assert actual is not None
    x = np.concatenate(list(parts.values())).astype(actual)
    labels = np.where(random.random(len(x)) < 0.7, x.astype(np.float64).argmax(1), random.integers(C, size=len(x)))
    labels[np.isneginf(x[np.arange(len(x)), labels].astype(np.float64))] = 0
    hidden = np.isneginf(x[np.arange(len(x)), labels].astype(np.float64))  # class 0 is masked too: then the one ahead
    labels[hidden] = np.tile(ahead, len(parts))[hidden]
    return x, labels


def elements_of(loss: Any, count: int, dtype: str, parameters: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and targets of all families one after the other, ``count`` of each."""
    random = _random("elements", dtype, loss.group == "classification")
    limits, actual = _limits(dtype), common.dtype_of(dtype)
    assert actual is not None
    smallest, largest = float(limits.smallest_subnormal), float(limits.max)
    classifies = loss.group == "classification"

    def any_magnitude() -> np.ndarray:
        powers = random.uniform(math.log(smallest), math.log(largest) - 1e-3, count)
        return np.where(random.random(count) < 0.5, -1, 1) * np.exp(powers)

    bits = random.integers(0, 2, (6, count)).astype(float)
    magnitudes = any_magnitude()
    magnitudes[:2] = 0, -0.0
    targets = random.standard_normal(count).astype(actual).astype(float)
    eps = float(limits.eps)
    beside = targets * (1 + eps * random.integers(-9, 10, count)) + np.where(bits[5] > 0, 0, smallest)
    kinks = np.array([0.0, *(value for value in parameters.values() if value > 0)])
    kink = random.choice(kinks, count) * np.where(bits[4] > 0, -1, 1)
    edges = kink * (1 + eps * random.integers(-3, 4, count))
    steps = np.where(random.random(count) < 0.5, 0, random.standard_normal(count)).astype(actual).astype(float)
    pairs = {
        "ordinary": (3 * random.standard_normal(count), bits[0] if classifies else targets),
        "sure": (reach(dtype) * random.uniform(-1, 1, count), bits[1]),
        "all magnitudes": (magnitudes, bits[2]),
        "near the target": (beside, bits[3] if classifies else targets),
        "thresholds": (edges, bits[0]) if classifies else (edges + steps, steps),
        "targets between": (
            np.where(bits[1] > 0, reach(dtype), 3) * random.uniform(-1, 1, count) if classifies else any_magnitude(),
            random.random(count) if classifies else any_magnitude(),
        ),
    }
    assert list(pairs) == list(ELEMENT_FAMILIES)
    x, t = (np.concatenate([pair[i] for pair in pairs.values()]).astype(actual) for i in range(2))
    return inside(loss, "pred", x), inside(loss, "target", t)


# -------------------------------------------------------------------------------------------------------- cases


@dataclass(frozen=True)
class Case:
    """A loss and how it is called."""

    loss: Any
    name: str = ""  #: "" for nothing but operands
    options: Mapping[str, Any] = field(default_factory=dict)
    soft: bool = False

    @property
    def rows(self) -> bool:
        return self.loss.kind in ("rowwise", "row_function")

    def options_for(self, C: int) -> dict[str, Any]:
        """The options for so many classes."""
        random = _random("options", C)
        made = {"class_weight": lambda: random.uniform(0.5, 2, C), "b": lambda: random.uniform(-0.5, 2, C)}
        return {name: made[name]() if value is None else value for name, value in self.options.items()}


def cases(loss: Any) -> Iterator[Case]:
    """The plain call, soft labels, and one option after the other; ``None`` stands for one number for each class."""
    yield Case(loss)
    if loss.name in longdouble.BETWEEN_LOGITS:
        return
    if loss.kind == "rowwise" and loss.soft:
        yield Case(loss, "soft labels", soft=True)
    for name, rule in loss.parameters.items():
        choices = rule.choices if isinstance(rule, Choice) else (OTHER_VALUES[rule.domain],)
        for value in (choice for choice in choices if choice != rule.default):
            yield Case(loss, f"{name}={value}", {name: value})
    if loss.kind == "rowwise" and "class_weight" in loss.shared:
        yield Case(loss, "class_weight", {"class_weight": None})
    if loss.extra:
        value = float(inside(loss, loss.extra, 0.75))
        yield Case(loss, f"{loss.extra}={value}", {loss.extra: value})
    if loss.kind == "row_function" and loss.outputs[0] == "lse":
        yield Case(loss, "b", {"b": None})


@dataclass(frozen=True)
class Inputs:
    """One batch that a case is measured on: as many rows or elements of each family."""

    x: np.ndarray
    target: np.ndarray | None
    v: np.ndarray
    options: dict[str, Any]
    families: tuple[str, ...]
    first: int = 0  #: where the batch begins in what `rows_of` gives

    def family(self, row: int) -> str:
        return self.families[row * len(self.families) // len(self.x)]

    def one_by_one(self) -> Iterator[Inputs]:
        """A batch of each family, for less memory."""
        count = len(self.x) // len(self.families)
        for number, family in enumerate(self.families):
            part = slice(number * count, (number + 1) * count)
            target = None if self.target is None else self.target[part]
            yield Inputs(self.x[part], target, self.v[part], self.options, (family,), part.start)


def batches(case: Case, dtype: str, scope: Scope) -> Iterator[tuple[Inputs, bool]]:
    """What a case is measured on in a dtype; and whether other libraries are too."""
    loss, actual = case.loss, common.dtype_of(dtype)
    assert actual is not None
    if not case.rows:
        given = dict(zip(loss.parameters, loss.own_numbers(case.options), strict=True))
        x, target = elements_of(loss, scope.elements, dtype, given)
        x = fitting(loss, x)[0]
        v = _random("direction").standard_normal(x.shape).astype(actual)
        yield (
            Inputs(x, None if loss.kind == "function" else target, v, dict(case.options), tuple(ELEMENT_FAMILIES)),
            True,
        )
        return
    everywhere = not case.name and dtype in WIDE_DTYPES
    for C in sorted(scope.shared + scope.between) if everywhere else scope.few:
        if loss.of == "pairs" and C > 1001:  # the reference has every pair
            continue
        count = 8 if C <= 130 else 4 if C < LONG else 1
        # a difference of doubles that overflows is infinite, whatever it is multiplied by afterwards
        x, labels = rows_of(C, count, dtype, share=0.4 if case.name and dtype == "float64" else 0.9)
        random = _random("targets", C)
        takes_logits = "proba" in loss.outputs or loss.name in longdouble.BETWEEN_LOGITS or loss.entrywise
        if loss.kind == "rowwise" and not takes_logits:  # log-probabilities, rather
            x = np.where(np.isinf(x.astype(np.float64)), x, -np.abs(x)).astype(actual)
        target: np.ndarray | None = labels
        if loss.kind == "row_function":
            target = None
        elif loss.name in longdouble.BETWEEN_LOGITS:
            near = 10.0 ** random.uniform(-7, 1, (len(x), 1)) * random.standard_normal(x.shape)
            with np.errstate(over="ignore"):
                target = (x.astype(np.float64) + near).astype(actual)
        elif case.soft:
            weights = random.dirichlet(np.full(C, 0.5), len(x))
            weights[np.isneginf(x.astype(np.float64))] = 0
            target = weights.astype(actual)
        if loss.entrywise:
            x = fitting(loss, x)[0]
        if loss.entrywise and loss.kind == "rowwise" and not loss.labelled:
            near = 10.0 ** random.uniform(-7, 1, (len(x), 1)) * random.standard_normal(x.shape)
            same = loss.takes[0] == loss.takes[1]
            target = (np.abs(x * (1 + near)) if same else fitting(loss, x, near)[1]).astype(actual)
        v = random.standard_normal(x.shape).astype(actual)
        whole_batch = Inputs(x, target, v, case.options_for(C), tuple(ROW_FAMILIES))
        for batch in whole_batch.one_by_one() if C >= LONG else (whole_batch,):
            yield batch, C in scope.shared


def exact(case: Case, given: Inputs) -> dict[str, longdouble.Exact]:
    """What is right, by output."""
    loss, options = case.loss, given.options
    compute = np.dtype(np.float64 if given.x.dtype == np.float64 else np.float32)
    if loss.entrywise:
        return longdouble.entries(loss, given.x, given.target, options, given.v)
    if case.rows:
        if loss.kind == "row_function":
            return longdouble.row_function(loss, given.x, options, given.v, compute)
        assert given.target is not None
        if loss.name in longdouble.BETWEEN_LOGITS:
            pair = longdouble.BETWEEN_LOGITS[loss.name](given.x, given.target)
            return dict(zip(("value", "grad"), pair, strict=True))
        return longdouble.row_loss(loss, given.x, given.target, options, given.v, compute, RIDGE)
    extra = options.get(loss.extra, 1)
    parameters = {name: value for name, value in options.items() if name in loss.parameters}
    target = 0 if given.target is None else given.target
    found = longdouble.pointwise(loss, given.x, target, extra, parameters, given.v)
    if "hess" in found:
        jump = longdouble.at_a_jump(loss, given.x, target, extra, parameters)
        for name in ("hess", "hvp"):
            found[name] = replace(found[name], value=np.where(jump, np.nan, found[name].value))
    return found


def kinks(case: Case, given: Inputs) -> np.ndarray:
    """Where other libraries may have chosen another subgradient."""
    if case.loss.kind != "pointwise":
        return np.zeros(len(given.x), bool)
    parameters = {name: value for name, value in given.options.items() if name in case.loss.parameters}
    return longdouble.at_a_jump(case.loss, given.x, given.target, given.options.get(case.loss.extra, 1), parameters, 1)


def ours(case: Case, given: Inputs, outputs: tuple[str, ...]) -> dict[str, np.ndarray]:
    """What the library makes of it."""
    loss, x, v, options = case.loss, given.x, given.v, given.options
    found: dict[str, Any] = {}
    if given.target is None:
        found["value"] = loss.with_sign(x, **options)[0] if "b" in options else loss(x, **options)
        if "vjp" in outputs:
            found["vjp"] = loss.vjp(x, v[:, 0] if case.rows and found["value"].ndim == 1 else v, **options)
            found["jvp"] = loss.jvp(x, v, **options)
        if "grad" in outputs:
            found["grad"] = loss.grad(x, **options)
        return found
    options = {**options, "reduction": "none"}
    found["value"], found["grad"] = loss.value_and_grad(x, given.target, **options)
    names = {name for name in outputs if name in ("hess", *lf._loss.EVALUATED)} - {"value", "grad"}
    if names:
        found |= loss.evaluate(x, given.target, want=sorted(names), **options)._asdict()
    if "hvp" in outputs:
        found["hvp"] = loss.hvp(x, given.target, v, **options)
    if "newton_step" in outputs:
        found["newton_step"] = loss.newton_step(x, given.target, ridge=RIDGE, **options)
    return found


# ---------------------------------------------------------------------------------------------------- measuring


class Entry:
    """The worst errors of one output of one case in one dtype, by who computed and family of inputs."""

    def __init__(self, case: Case, output: str, dtype: str) -> None:
        self.case, self.output, self.dtype = case, output, dtype
        self.rule = ""
        self.bounds: dict[str, float] = {}
        self.worst: dict[str, dict[str, float]] = {}
        self.at: dict[str, dict[str, Any]] = {}

    def add(self, who: str, given: Inputs, exact: longdouble.Exact, errors: np.ndarray, result: np.ndarray) -> None:
        # by the result's own dtype: losses of half types are float32
        self.bounds[who] = longdouble.bound(self.case.loss, self.output, who, result.dtype.name)
        by_row = errors.reshape(len(errors), -1).max(1)
        worst = self.worst.setdefault(who, {})
        for family, error in zip(given.families, by_row.reshape(len(given.families), -1).max(1), strict=True):
            worst[family] = max(worst.get(family, 0.0), float(error))
        row = int(by_row.argmax())
        if who not in self.at or by_row[row] > self.at[who]["ulp"]:
            self.at[who] = self._at(given, row, errors, exact, result) | {"ulp": float(by_row[row])}

    def _at(
        self, given: Inputs, row: int, errors: np.ndarray, exact: longdouble.Exact, result: np.ndarray
    ) -> dict[str, Any]:
        found: dict[str, Any] = {"family": given.family(row)}
        entry = int(errors[row].argmax()) if errors.ndim == 2 else None
        where = row if entry is None else (row, entry)
        if given.x.ndim == 2:
            found |= {"classes": given.x.shape[1], "row": given.first + row}
            if entry is not None:
                found["entry"] = entry
        if given.x.ndim == 1 or given.x.shape[1] <= 5:
            found["x"] = given.x[row].astype(np.float64).tolist()
            if given.target is not None:
                found["target"] = given.target[row].astype(np.float64).tolist()
        elif given.target is not None and given.target.ndim == 1:
            found["target"] = int(given.target[row])
        found |= {"exact": float(exact.value[where]), "got": float(result[where])}
        return {key: _plain(value) for key, value in found.items()}

    def report(self) -> dict[str, Any]:
        results = {}
        for who, families in self.worst.items():
            ulp = max(families.values())
            results[who] = {"ulp": _short(ulp), "families": [_short(error) for error in families.values()]}
            if who in common.VARIANTS:
                results[who] |= {"bound": self.bounds[who], "holds": ulp <= self.bounds[who]}
            at = {**self.at[who]}
            del at["ulp"]
            results[who]["at"] = at
        return {
            "function": self.case.loss.name,
            "case": self.case.name,
            "output": self.output,
            "dtype": self.dtype,
            "rule": self.rule,
            "families": list(next(iter(self.worst.values()))),
            "results": results,
        }


def _plain(value: Any) -> Any:
    """What JSON has no number for, by name."""
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _short(number: float) -> Any:
    """Two decimals are enough, and three digits; what is infinite is said so, as JSON has no number for it."""
    if math.isinf(number) or math.isnan(number):
        return "inf"
    return round(number, 2) if number < 100 else float(f"{number:.3g}")


def measure_case(case: Case, dtype: str, scope: Scope, variants: list[str]) -> tuple[list[Entry], dict[str, str]]:
    """The entries of a case in a dtype, and what failed, by who."""
    entries: dict[str, Entry] = {}
    failures: dict[str, str] = {}
    for given, with_others in batches(case, dtype, scope):
        true = exact(case, given)
        if given.x.ndim == 2 and given.x.shape[1] >= LONG:
            true = {name: value for name, value in true.items() if name in LONG_OUTPUTS}
        judged: dict[Any, longdouble.Judged] = {}
        subgradients = kinks(case, given)

        def judge(who: str, results: Mapping[str, np.ndarray]) -> None:
            for output, right in true.items():  # noqa: B023
                if output not in results:
                    continue
                result = np.asarray(results[output])
                entry = entries.setdefault(output, Entry(case, output, dtype))
                entry.rule = right.rule
                half = dtype in ("float16", "bfloat16")
                bound = longdouble.bound(case.loss, output, who, "float32" if half else dtype)
                key = output, result.dtype, bound
                if key not in judged:  # noqa: B023
                    compute = np.dtype(np.float32) if half else result.dtype
                    judged[key] = longdouble.Judged(right, result.dtype, bound, compute)  # noqa: B023
                errors = judged[key].errors(result.reshape(right.value.shape))  # noqa: B023
                either = np.isnan(right.value)  # where a jump makes either side right
                if output == "grad" and who in equivalents.LIBRARIES and not case.rows:
                    either = either | subgradients  # noqa: B023
                errors = np.where(either, 0, errors)
                entry.add(who, given, right, errors, result)  # noqa: B023

        for variant in variants:
            if common.tells_something(variant, dtype):
                try:
                    with common.using(variant):
                        judge(variant, ours(case, given, tuple(true)))
                except Exception as error:  # one loss that fails must not hide what all others give
                    failures[variant] = f"{type(error).__name__}: {error}"
        if with_others and dtype in WIDE_DTYPES:
            for library, call in equivalents.of(case.loss.name).items():
                try:
                    results = call(given.x, given.target, given.v, given.options)
                except Exception as error:
                    failures[library] = f"{type(error).__name__}: {error}"
                    continue
                if results is not None:
                    judge(library, results)
    return list(entries.values()), failures


# --------------------------------------------------------------------------------------------------- one figure


def everyone(name: str, variant: str = common.DEFAULT) -> dict[str, Callable[..., Mapping[str, np.ndarray]]]:
    """The plain call of a loss by this library and the others: from x and target to results by output."""
    if name not in looped():
        return {}
    loss = lf.get_loss(name)

    def by_us(x: np.ndarray, target: Any = None) -> Mapping[str, np.ndarray]:
        with common.using(variant):
            if target is None:
                return {"value": loss(x)}
            return dict(zip(("value", "grad"), loss.value_and_grad(x, target, reduction="none"), strict=True))

    found: dict[str, Callable[..., Mapping[str, np.ndarray]]] = {OURS: by_us}
    for library, call in equivalents.of(name).items():

        def by_them(x: np.ndarray, target: Any = None, call: Any = call) -> Mapping[str, np.ndarray]:
            v = np.ones_like(x[..., :1] if name == "logsumexp" else x)
            return call(x, target, v, {})

        found[library] = by_them
    return found


#: Curves over the gap between logits: title, loss, output, and which entry.
CURVES = {
    "softmax": ("softmax, all classes", "softmax", "value"),
    "cross_entropy": ("cross-entropy, loss", "cross_entropy", "value"),
    "cross_entropy_grad": ("cross-entropy, gradient", "cross_entropy", "grad"),
    "binary_cross_entropy_grad": ("binary cross-entropy, gradient", "binary_cross_entropy_with_logits", "grad"),
}


def curves(scope: Scope, dtype: str = "float32") -> dict[str, Any]:
    """The worst error of some rows as the right class moves away from the others."""
    gaps = np.linspace(0, reach(dtype) * 0.98, 61 if scope is FULL else 5)
    actual = common.dtype_of(dtype)
    assert actual is not None
    found: dict[str, Any] = {}
    for key, (title, name, output) in CURVES.items():
        lines: dict[str, list[Any]] = {}
        for gap in gaps:
            random = _random("curve", key)
            if lf.get_loss(name).kind == "pointwise":
                x = (gap + random.uniform(0, gaps[1], 200)).astype(actual)
                target: Any = np.ones_like(x)
                true = longdouble.pointwise(lf.get_loss(name), x, target)[output]
            else:
                x = random.standard_normal((50, 10))
                x[:, 0] = x[:, 1:].max(1) + gap
                x, target = x.astype(actual), np.zeros(50, np.int64)
                v = np.ones_like(x)
                if lf.get_loss(name).kind == "row_function":
                    true, target = longdouble.row_function(lf.get_loss(name), x, {}, v, actual)[output], None
                else:
                    true = longdouble.row_loss(lf.get_loss(name), x, target, {}, v, actual)[output]
            judged = longdouble.Judged(true, actual, lf.get_loss(name).ulp)
            for who, call in everyone(name).items():
                results = call(x, target)
                if output in results:
                    lines.setdefault(who, []).append(_short(float(judged.errors(results[output]).max())))
        found[key] = {"title": title, "function": name, "lines": lines}
    return {"dtype": dtype, "gap": [round(float(gap), 3) for gap in gaps], "curves": found}


# --------------------------------------------------------------------------------------------------------- sums


def sums(scope: Scope, variants: list[str]) -> list[dict[str, Any]]:
    """Sums of many losses: how far they are off, relative to the sum of the exact losses' sizes."""
    found = []
    for name in common.names(*common.LOSS_KINDS):
        loss = lf.get_loss(name)
        for dtype in WIDE_DTYPES:
            actual = common.dtype_of(dtype)
            assert actual is not None
            shape = (scope.sums,) if loss.kind == "pointwise" else (scope.sums // 10, 10)
            x, target = common.operands(loss, actual, shape)
            if loss.kind == "pointwise":
                right = longdouble.pointwise(loss, x, target)["value"]
            elif loss.entrywise:
                right = longdouble.entries(loss, x, target, {}, np.ones_like(x))["value"]
            else:
                right = longdouble.row_loss(loss, x, target, {}, np.ones_like(x), actual)["value"]
            size = np.abs(right.value).sum()
            each = longdouble.Judged(right, actual, loss.ulp).unit.sum() / size
            allowed = 2.0**-40 if dtype == "float32" else 2.0**-52
            results = {}
            for variant in variants:
                with common.using(variant):
                    total = loss(x, target, reduction="sum")
                    error = float(abs(np.longdouble(total) - right.value.sum()) / size)
                    alone = loss(x, target, reduction="none")
                    added = float(abs(np.longdouble(total) - alone.astype(np.longdouble).sum()) / size)
                bound = longdouble.bound(loss, "value", variant, dtype) * float(each) + allowed
                results[variant] = {"relative": float(f"{error:.3g}"), "added": float(f"{added:.3g}")}
                results[variant]["holds"] = error <= bound
            found.append({"function": name, "dtype": dtype, "count": shape[0], "results": results})
    return found


# ------------------------------------------------------------------------------------------------ what goes wrong


def _row(key: str, text: str, right: Any, unit: str, results: Mapping[str, Any]) -> dict[str, Any]:
    shown = {who: value if isinstance(value, (int, str)) else _digits(value) for who, value in results.items()}
    return {"key": key, "text": text, "right": right, "unit": unit, "results": shown}


def _digits(value: float) -> Any:
    if math.isnan(value):
        return "nan"
    return "inf" if math.isinf(value) else float(f"{value:.3g}")


def failures(scope: Scope) -> list[dict[str, Any]]:
    """Some ordinary questions, and what each library answers."""
    return [*_lost_losses(scope), *_offsets(), *_binary(), *_small(), *_means(scope), *_bits(scope)]


def _lost_losses(scope: Scope) -> Iterator[dict[str, Any]]:
    calls = everyone("cross_entropy")
    random = _random("trained")
    logits = 10 * random.standard_normal((scope.rows, 10))
    labels = logits.argmax(1)
    many = f"{scope.rows:,} rows of 10 logits, 10·N(0, 1), the label the largest"
    for dtype in WIDE_DTYPES:
        x = logits.astype(dtype)
        made = {who: call(x, labels) for who, call in calls.items()}
        zeros = {who: 100 * float(np.mean(np.asarray(found["value"]) == 0)) for who, found in made.items()}
        yield _row(f"zero losses, {dtype}", f"{many}, {dtype}: losses that are exactly 0", 0, "%", zeros)
        if dtype == "float32":
            off = {}
            for who, found in made.items():
                grad = np.asarray(found["grad"]).astype(np.longdouble)
                lost = np.abs(grad.sum(1)) > 10 * np.finfo(dtype).eps * np.abs(grad).sum(1)
                off[who] = 100 * float(lost.mean())
            yield _row(
                "gradient rows", f"{many}, {dtype}: gradient rows that do not sum to 0 within rounding", 0, "%", off
            )
    for dtype, gap in (("float32", 20.0), ("float64", 40.0)):
        x, y = np.array([[gap, 0.0]], dtype), np.array([0])
        right = _digits(float(np.log1p(np.exp(-np.longdouble(gap)))))
        made = {who: call(x, y) for who, call in calls.items()}
        values = {who: float(np.asarray(found["value"])[0]) for who, found in made.items()}
        slopes = {who: -float(np.asarray(found["grad"])[0, 0]) for who, found in made.items()}
        yield _row(f"loss, {dtype}", f"logits [{gap:g}, 0], label 0, {dtype}: the loss", right, "", values)
        yield _row(f"slope, {dtype}", "and minus the true class's gradient", right, "", slopes)


def _offsets() -> Iterator[dict[str, Any]]:
    x = np.array([[1e4 + 8, 1e4, 1e4]], np.float32)
    right = float(np.log1p(2 * np.exp(np.longdouble(-8))))
    found = {
        who: 100 * abs(float(np.asarray(call(x, np.array([0]))["value"])[0]) / right - 1)
        for who, call in everyone("cross_entropy").items()
    }
    yield _row("offset", "logits [10008, 10000, 10000], label 0, float32: the loss is off by", 0, "%", found)


def _binary() -> Iterator[dict[str, Any]]:
    calls = everyone("binary_cross_entropy_with_logits")
    x = np.arange(0.0, 104.0).astype(np.float32)
    found = {}
    for who, call in calls.items():
        zero = np.flatnonzero(np.asarray(call(x, np.ones_like(x))["grad"]) == 0)
        found[who] = int(x[zero[0]]) if len(zero) else "never"
    last = f"the gradient is 0 (at 103 it is {math.exp(-103):.2g})"
    text = f"binary cross-entropy, answer right, float32: the logit from which on {last}"
    yield _row("binary slope", text, "never", "", found)
    ends = np.array([np.inf, -np.inf], np.float32), np.array([1, 0], np.float32)
    losses = {who: float(np.asarray(call(*ends)["value"]).sum()) for who, call in calls.items()}
    yield _row("binary ends", "binary cross-entropy of ±infinity, answer right", 0, "", losses)


def _small() -> Iterator[dict[str, Any]]:
    if "kl_div_from_logits" in equivalents.EQUIVALENTS:
        random = _random("kl")
        z = random.standard_normal((1, 10)).astype(np.float32)
        other = (z + 1e-3 * random.standard_normal((1, 10))).astype(np.float32)
        right = float(longdouble.divergence(z, other)[0].value[0])
        calls = everyone("kl_div_from_logits") or {
            library: (lambda x, t, call=call: call(x, t, np.ones_like(x), {}))
            for library, call in equivalents.of("kl_div_from_logits").items()
        }
        off = {}
        for who, call in calls.items():
            off[who] = 100 * abs(float(np.asarray(call(z, other)["value"])[0]) / right - 1)
        text = f"KL divergence of two softmaxes that is {right:.3g}, 10 classes, float32: off by"
        yield _row("divergence", text, 0, "%", off)
    d = np.array([1e-20], np.float32)
    slopes = {
        who: float(np.asarray(found["grad"])[0])
        for who, call in everyone("huber_loss").items()
        if "grad" in (found := call(d, np.zeros_like(d)))
    }
    yield _row("huber", "Huber loss, a difference of 1e-20, float32: the gradient", 1e-20, "", slopes)


def _means(scope: Scope) -> Iterator[dict[str, Any]]:
    x = np.abs(_random("mean").standard_normal(scope.mean, np.float32))
    right = x.astype(np.longdouble).mean()
    unit = float(np.spacing(np.float32(right)))
    loop = np.cumsum(x, dtype=np.float32)[-1] / np.float32(len(x))
    found = {OURS: lf.l1_loss(x, 0.0)}
    if "torch" in equivalents.installed():
        import torch

        tensor = torch.from_numpy(x)
        found["torch"] = float(torch.nn.functional.l1_loss(tensor, torch.zeros_like(tensor)))
    if "JAX, optax" in equivalents.installed():
        import jax

        found["JAX, optax"] = float(jax.jit(lambda u: jax.numpy.abs(u).mean())(x))
    off = {who: float(abs(value - right)) / unit for who, value in found.items()}
    text = (
        f"mean of {len(x):,} absolute errors, float32: off by (one float32 accumulator in a loop: "
        f"{float(abs(loop - right)) / unit:,.0f} ULP)"
    )
    yield _row("mean", text, 0, "ULP", off)


# --------------------------------------------------------------------------------------------------------- bits

#: For each library, what makes a process of its own use less of the processor.
LESSER = {
    OURS: {"LOSSFAST_ISA": "avx2"},
    "torch": {"ATEN_CPU_CAPABILITY": "avx2"},
    "JAX, optax": {"XLA_FLAGS": "--xla_cpu_max_isa=AVX2"},
    "SciPy": {"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR"},
    "scikit-learn": {
        "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR"
    },
}
#: Rows and classes of what bits are compared of.
SHAPES = tuple((rows, C) for rows in (33, 100) for C in (2, 3, 7, 10, 16, 33, 100, 129, 1000, 1001))


def _losses_of(calls: Mapping[str, Any], who: str, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    found = calls[who](x, y)
    return [np.asarray(found["value"]), np.asarray(found["grad"])]


def _batch(rows: int, C: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    random = _random("bits", rows, C)
    return (3 * random.standard_normal((rows, C))).astype(dtype), random.integers(C, size=rows)


def digests(who: str) -> list[str]:
    """A fingerprint of each batch's losses and gradients in this process."""
    calls = everyone("cross_entropy")
    found = []
    for rows, C in SHAPES:
        for dtype in WIDE_DTYPES:
            made = _losses_of(calls, who, *_batch(rows, C, dtype))
            found.append(hashlib.sha256(b"".join(array.tobytes() for array in made)).hexdigest())
    return found


def _elsewhere(who: str, environment: Mapping[str, str]) -> list[str]:
    command = [sys.executable, "-m", "benchmarks.contract", "--digests", who]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], env={**os.environ, **environment}, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{who} with {environment}: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _bits(scope: Scope) -> Iterator[dict[str, Any]]:
    """How many of some batches come out differently for no reason that a user could see."""
    calls = everyone("cross_entropy")
    cases_ = [(rows, C, dtype) for rows, C in SHAPES for dtype in WIDE_DTYPES]
    split, strided = {}, {}
    for who in calls:
        apart, moved = 0, 0
        for rows, C, dtype in cases_ if scope is FULL else cases_[:8]:
            x, y = _batch(rows, C, dtype)
            whole = _losses_of(calls, who, x, y)
            halves = [_losses_of(calls, who, x[part], y[part]) for part in (slice(0, 7), slice(7, None))]
            joined = [np.concatenate(pair) for pair in zip(*halves, strict=True)]
            apart += any(a.tobytes() != b.tobytes() for a, b in zip(whole, joined, strict=True))
            turned = _losses_of(calls, who, np.asfortranarray(x), y)
            moved += any(a.tobytes() != np.ascontiguousarray(b).tobytes() for a, b in zip(whole, turned, strict=True))
        total = len(cases_ if scope is FULL else cases_[:8])
        split[who], strided[who] = f"{apart} of {total}", f"{moved} of {total}"
    what = "cross-entropy and gradient, rows one by one"
    yield _row("split", f"{what}: batches whose bits change when cut in two", "none", "", split)
    yield _row("strides", f"{what}: batches whose bits change with the memory's order", "none", "", strided)
    if scope is FULL and {"avx2", "avx512"} <= set(lf.isas()):
        changed = {}
        for who in calls:
            pairs = zip(_elsewhere(who, {}), _elsewhere(who, LESSER[who]), strict=True)
            changed[who] = f"{sum(a != b for a, b in pairs)} of {len(cases_)}"
        yield _row("isa", f"{what}: batches whose bits change from AVX-512 to AVX2", "none", "", changed)
    yield _row("threads", "sums of losses whose bits change with the number of threads", "none", "", _threads(scope))


def _threads(scope: Scope) -> dict[str, str]:
    lengths = np.unique(np.geomspace(1_000, scope.sums, 126 if scope is FULL else 5).astype(int))
    x = _random("threads").standard_normal(int(lengths[-1]), np.float32)
    ours = [len({lf.l1_loss(x[:n], 0.0, reduction="sum", n_threads=count) for count in (1, 2, 3, 8)}) for n in lengths]
    found = {OURS: f"{sum(count > 1 for count in ours)} of {len(lengths)}"}
    if "torch" in equivalents.installed():
        import torch

        before, made = torch.get_num_threads(), []
        try:
            for count in (1, 2, 3, 8):
                torch.set_num_threads(count)
                tensor = torch.from_numpy(x)
                made.append(
                    [float(torch.nn.functional.l1_loss(tensor[:n], torch.zeros(n), reduction="sum")) for n in lengths]
                )
        finally:
            torch.set_num_threads(before)
        found["torch"] = f"{sum(len(set(column)) > 1 for column in zip(*made, strict=True))} of {len(lengths)}"
    return found


# ----------------------------------------------------------------------------------------------------- reporting


def reference_ulp(scope: Scope) -> float:
    """The references' own worst error on a sample of the inputs, in ULP of float64."""
    worst = 0.0
    for name in common.names():
        loss = lf.get_loss(name)
        samples = []
        if Case(loss).rows:
            for C in (5,) if scope is SMALL else (5, 500):
                x, labels = rows_of(C, 4 if C < 100 else 1, "float64")
                within = np.isfinite(x).all(1) & (np.abs(x).max(1) < 1e300)  # what 1,500 bits reach across
                pair = (x[within], labels[within] if loss.labelled else x[within][::-1])
                if loss.entrywise:
                    pair = fitting(loss, *pair[: len(loss.operands)])
                samples.append((pair[0], pair[1] if loss.kind == "rowwise" else None))
        else:
            parameters = dict(zip(loss.parameters, loss.own_numbers(), strict=True))
            x, target = elements_of(loss, 10 if scope is SMALL else 50, "float64", parameters)
            within = np.maximum(np.abs(x), np.abs(target)) < 1e100
            samples.append((x[within], None if loss.kind == "function" else target[within]))
        worst = max(worst, *(longdouble.own_error(loss, *sample) for sample in samples))
    return worst


def machine() -> dict[str, Any]:
    about = common.machine()
    for packages in equivalents.installed().values():
        about["versions"] |= packages
    return about


def measure(
    names: list[str], dtypes: tuple[str, ...], variants: list[str], scope: Scope, say: Callable[[str], None]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The entries of the losses, in the registry's order, and what failed."""
    entries, failed = [], []
    for name in names:
        for case in cases(lf.get_loss(name)):
            for dtype in dtypes:
                if common.dtype_of(dtype) is None or (case.name and dtype not in WIDE_DTYPES):
                    continue
                found, failures_ = measure_case(case, dtype, scope, variants)
                entries += [entry.report() for entry in found]
                failed += [f"{name} {case.name} {dtype} {who}: {text}" for who, text in failures_.items()]
            say(f"{name} {case.name}")
    return entries, failed


def _table(entries: list[dict[str, Any]], whole: bool) -> Iterator[str]:
    for entry in entries:
        head = f"{entry['function']} {entry['output']} {entry['dtype']} {entry['case']}".rstrip()
        for who, result in entry["results"].items():
            if whole or not result.get("holds", True):
                mark = "" if result.get("holds", True) else f"  beyond {result['bound']:g}"
                yield f"{head:<60} {who:<18} {result['ulp']:>10}{mark}  {json.dumps(result['at'])}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.contract",
        description="Measure the worst error of every loss, output, dtype, backend and instruction set, and of other "
        "libraries on the same inputs, in the units that the bounds are in. Exits 1 if a bound is broken.",
        epilog="examples:\n"
        "  python -m benchmarks.contract                      all, written to docs/accuracy.json\n"
        "  python -m benchmarks.contract --quick --output /tmp/accuracy.json\n"
        "  python -m benchmarks.contract --function cross_entropy --dtype float32 --variant 'compiled avx2'\n"
        "      prints the worst inputs of that function, and writes nothing\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--function", action="append", choices=common.names(), metavar="NAME", help="only this one")
    parser.add_argument("--dtype", action="append", choices=DTYPES, help="only this one")
    parser.add_argument("--variant", action="append", choices=common.VARIANTS, help="only this one")
    parser.add_argument("--quick", action="store_true", help="few inputs")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"where it goes (default: docs/{FILE.name})")
    parser.add_argument("--digests", help=argparse.SUPPRESS)  # for a process with other instructions
    options = parser.parse_args(arguments)
    if options.digests:
        print(json.dumps(digests(options.digests)))
        return 0
    scope = SMALL if options.quick else FULL
    variants = [name for name in options.variant or common.VARIANTS if common.available(name)]
    dtypes = tuple(options.dtype or DTYPES)
    if not longdouble.WIDE:
        parser.error("long double is no wider than double on this machine: there is nothing to compare with")
    partial = bool(options.function or options.dtype or options.variant)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    names = options.function or common.names()
    whole = not partial or options.output
    questions = failures(scope) if whole else []
    entries, failed = measure(names, dtypes, variants, scope, say)
    broken = sum(not result.get("holds", True) for entry in entries for result in entry["results"].values())
    print(*_table(entries, partial), *failed, sep="\n")
    if whole:
        report = {
            "command": "python -m benchmarks.contract" + (" --quick" if options.quick else ""),
            "date": datetime.date.today().isoformat(),
            "machine": machine(),
            "variants": variants,
            "libraries": list(equivalents.installed()),
            "reference_ulp": float(f"{reference_ulp(scope):.2g}"),
            "row_families": ROW_FAMILIES,
            "element_families": ELEMENT_FAMILIES,
            "shared_classes": scope.shared,
            "between_classes": scope.between,
            "entries": entries,
            "failed": failed,
            "sums": sums(scope, variants),
            "curves": curves(scope),
            "failures": questions,
        }
        path = options.output or FILE
        path.write_text(common.dumps(report), encoding="utf-8")
        print(f"{path}: {path.stat().st_size} bytes")
    print(f"{broken} bounds broken, {len(failed)} calls failed")
    return 1 if broken or failed else 0


if __name__ == "__main__":
    sys.exit(main())
