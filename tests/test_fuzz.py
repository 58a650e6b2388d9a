"""Any call whatever, on every backend and instruction set: refused with a reason, or right; nothing else is touched.

What is drawn is in `calls`; `judge` says what has to be true of a call:

- one that is right succeeds, one that is wrong fails with a `TypeError`, `ValueError` or `IndexError` that has a
  message, the same on every variant; nothing is written then;
- inputs never change, nor does a byte beside the buffers; there are no warnings;
- results have the shape and the dtype that the method promises, and a buffer that is given is the result;
- NaN, infinities and finite numbers are at the same places on every variant, and the values agree: see `agree`;
- AVX2, AVX-512 and NEON give the same bits; so do one thread and three, also where a call is cut into many slices.

``python tests/fuzz.py`` goes on for as long as one likes, guided by coverage.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from calls import Array, Call, Draw, draw_call
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from variants import OTHERS_ULP, VARIANTS, Variant

import lossfast as lf
from lossfast import backends
from lossfast._loss import Parameter

#: More bytes than a call is drawn from, but for the largest.
LENGTH = 300
#: How many times what a rounding of the operands may change is allowed where results are ill-conditioned.
ROUNDINGS = 8
#: Results this near to the end of the range of their dtype may be infinite on one variant, finite on another.
EDGE = 0.99


class Finding(AssertionError):
    """Something that must not be; ``what`` is the same for findings that likely have one cause."""

    def __init__(self, what: str, call: Call, details: str) -> None:
        super().__init__(f"{what}: {details}\n{call}")
        self.what = f"{what} [{call.loss.name}.{call.method}]"


# ------------------------------------------------------------------------------------------------------ outcomes


def parts_of(call: Call, returned: Any) -> dict[str, Any]:
    """What came back, by the names of the results; of a `Reduction` its fields."""
    if isinstance(returned, lf.Reduction):
        with contextlib.suppress(ValueError):  # empty="raise"
            return {name: getattr(returned, name) for name in ("count", "weight", "sum", "mean")}
        return {name: getattr(returned, name) for name in ("count", "weight", "sum")}
    names = [result.name for result in call.results]
    if len(names) == 1 and call.method != "evaluate":
        return {names[0]: returned}
    assert len(names) == len(returned)
    return dict(zip(names, returned, strict=True))


def bits(value: Any) -> bytes:
    return struct.pack("d", value) if isinstance(value, float) else np.ascontiguousarray(value).tobytes()


class Outcome:
    """What a call does on one variant: results by name, or an error."""

    def __init__(self, call: Call, variant: Variant, **more: Any) -> None:
        self.variant = variant
        self.error: Exception | None = None
        self.results: dict[str, Any] = {}
        arranged = call.arrange()
        try:
            with variant.chosen():
                returned = arranged.run(**more)
        except (TypeError, ValueError, IndexError) as error:
            self.error = error
        except Exception as error:
            raise Finding(f"{type(error).__name__} on {variant}", call, str(error)) from error
        touched = arranged.touched(self.error is None)
        if touched is not None:
            raise Finding(f"memory changed on {variant}", call, f"{touched} ({self})")
        if self.error is not None:
            if not str(self.error):
                raise Finding(f"an error without a message on {variant}", call, repr(self.error))
            return
        try:
            self.results = parts_of(call, returned)
        except (AssertionError, TypeError) as error:
            raise Finding(f"another number of results on {variant}", call, repr(returned)) from error
        for result in call.results:
            value = self.results[result.name]
            buffer = call.given.get(result.keyword) if result.keyword else None
            if isinstance(buffer, Array) and value is not arranged.real(buffer):
                raise Finding(f"not the buffer on {variant}", call, result.name)
            if result.shape is None:
                right = type(value) is float
            else:
                dtype = buffer.dtype if isinstance(buffer, Array) else result.dtype
                right = isinstance(value, (np.ndarray, np.generic)) and (value.shape, value.dtype) == (
                    result.shape,
                    dtype,
                )
            if not right:
                got = type(value) if result.shape is None else (value.shape, value.dtype)
                raise Finding(f"shape or dtype on {variant}", call, f"{result.name}: {got}, expected {result}")

    def __str__(self) -> str:
        return repr(self.error) if self.error is not None else "success"


# ----------------------------------------------------------------------------------------------------- agreement


def computing(call: Call) -> Any:
    x = call.operands[0]
    return np.float64 if x.as_list or x.dtype.kind in "iub" or x.dtype.itemsize == 8 else np.float32


def units(call: Call, values: np.ndarray, dtype: Any) -> tuple[np.ndarray, float]:
    """The spacing of numbers at the values, in the coarser of the dtypes computed in and given back; and its end."""
    infos = [ml_dtypes.finfo(computing(call)), ml_dtypes.finfo(dtype)]
    eps, tiny = (max(float(getattr(info, key)) for info in infos) for key in ("eps", "smallest_subnormal"))
    return np.maximum(np.abs(values) * eps, tiny), min(float(info.max) for info in infos)


def wide(value: Any) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(value).astype(np.float64)


def agree(call: Call, got: Outcome, reference: Outcome, spread: Callable[[], dict[str, Any]]) -> None:
    """Integers and truths are equal, numbers within the published bounds of both variants.

    Where results are ill-conditioned (differences of terms of one sign, a log-sum-exp near 0, a kink) those bounds are
    not ULP of the result. There an entry may be off by what `ROUNDINGS` roundings of the operands, each of its own
    sign, make of it in the reference (``spread``), which is of the size of the sum of the terms' absolute values. It is
    only looked at where the bound in ULP is not kept.
    """
    for name, value in got.results.items():
        other = reference.results[name]
        a, b = np.asarray(value), np.asarray(other)
        if a.dtype.kind in "iub":
            if not np.array_equal(a, b):
                raise Finding(
                    f"{name} differs on {got.variant}", call, f"{a.tolist()}, {b.tolist()} on {reference.variant}"
                )
            continue
        dtype, (a, b) = a.dtype, (wide(a), wide(b))
        unit, end = units(call, np.fmax(np.abs(a), np.abs(b)), dtype)
        bound = sum(max(variant.ulp(call.loss, name), OTHERS_ULP) for variant in (got.variant, reference.variant)) + 1
        with np.errstate(all="ignore"):
            same = (a == b) | np.isnan(a) & np.isnan(b)
            edge = (np.sign(a) == np.sign(b)) & (np.minimum(np.abs(a), np.abs(b)) > EDGE * end)
            finite = np.isfinite(a) & np.isfinite(b)
            if not (same | edge | finite).all():
                at = np.unravel_index(int((same | edge | finite).argmin()), a.shape)
                where = f"{name}{list(map(int, at))} is {a[at]}, on {reference.variant} {b[at]}"
                raise Finding(f"another kind of {name} on {got.variant}", call, where)
            far = ~same & finite & (np.abs(a - b) > bound * unit)
            if far.any():
                room = np.nan_to_num(np.asarray(spread()[name]), nan=math.inf, posinf=math.inf)
                far &= np.abs(a - b) > bound * unit + 1.01 * room  # at a kink it is the whole step, itself rounded
            if far.any():
                at = np.unravel_index(int(far.argmax()), a.shape)
                room = np.broadcast_to(room, a.shape)
                where = (
                    f"{name}{list(map(int, at))} is {a[at]}, on {reference.variant} {b[at]}, {float(room[at])} of room"
                )
                raise Finding(f"{name} is wrong on {got.variant}", call, where)


def plain(call: Call) -> tuple[list[Any], dict[str, Any]]:
    """Operands and options as arrays of the computing dtype, integers and what is no array as they are."""

    def real(value: Any, keep: bool = False) -> Any:
        array = value.view(call.blocks) if isinstance(value, Array) else value
        return array if keep or not isinstance(array, np.ndarray) else wide(array)

    x, *others = call.operands
    labels = call.loss.kind == "rowwise" and others[0].dtype.kind in "iub"
    operands = [real(x).astype(computing(call), copy=False), *(real(other, keep=labels) for other in others)]
    options = {name: real(value, keep=name == "where") for name, value in call.options.items()}
    return operands, {**options, "check": False} if "check" in call.loss.shared else options


def perturbed(
    call: Call, operands: list[Any], options: dict[str, Any], signs: Callable[[np.ndarray, int], np.ndarray]
) -> tuple[list[Any], dict[str, Any]]:
    """With `ROUNDINGS` rounding errors in each number, of these signs, which depend on an array's place."""
    eps = ROUNDINGS * float(np.finfo(computing(call)).eps)
    places = itertools.count()

    def change(value: Any) -> Any:
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            return value
        return np.asarray(value * (1 + eps * signs(value, next(places)))).astype(value.dtype)

    changed: dict[str, Any] = {}
    for name, value in options.items():
        changed[name] = change(value)
        if name in call.loss.parameters and type(value) is float and value != 1:
            changed[name] = value * (1 - eps)  # no domain ends there
    x = operands[0]
    ones: dict[str, tuple[int, ...]] = {"b": x.shape, "sample_weight": x.shape, call.loss.extra or "": x.shape[-1:]}
    if call.loss.kind == "rowwise":
        axis = options.get("axis", -1)
        ones = {"class_weight": (x.shape[axis],), "sample_weight": tuple(np.delete(x.shape, axis))}
    for name in ones.keys() & call.loss._defaults.keys() - options.keys():  # their absence is the same as ones
        changed[name] = change(np.ones(ones[name]))
    return [change(operand) for operand in operands], changed


#: Signs of rounding errors: away from 0 and towards it, one array so and the next the other way, up, and at random.
SIGNS: tuple[Callable[[np.ndarray, int], np.ndarray], ...] = (
    lambda value, place: np.ones_like(value),
    lambda value, place: -np.ones_like(value),
    lambda value, place: np.full_like(value, (-1.0) ** place),
    lambda value, place: np.sign(value),
    *(
        lambda value, place, seed=seed: np.random.default_rng((seed, place)).choice((-1.0, 1.0), value.shape)
        for seed in range(10)
    ),
)


#: What is a difference of terms that may cancel in a row, whatever the targets.
SECOND = {"hess", "hvp", "newton_step", "vjp", "jvp"}


def cancels(call: Call) -> bool:
    """Whether a row's gradient is, by the contract, a difference of terms that may cancel."""
    soft = call.operands[1].dtype.kind not in "iub"
    return soft or not call.options.keys().isdisjoint(call.loss.parameters)


def doubled(call: Call, operands: list[Any], options: dict[str, Any], sign: int) -> tuple[list[Any], dict[str, Any]]:
    """Every class twice, without targets in the second half: what cancels in a row does not cancel there.

    A direction becomes the row's largest entry, in the second half times ``sign``.
    """
    x, *others = operands
    axis = options.get("axis", -1)

    def twice(value: Any, factor: float = 1) -> Any:
        return np.concatenate((value, value if factor == 1 else factor * value), axis)

    def operand(position: int, value: Any) -> Any:
        if np.shape(value) != x.shape:  # labels
            return value
        if position == 0 and call.loss.kind == "rowwise":
            return twice(value, 0 if call.loss.labelled else 1)
        largest = np.abs(wide(value)).max(axis, keepdims=True, initial=0)
        return twice(np.broadcast_to(largest, x.shape), sign)

    options = dict(options)
    if options.get("where") is not None:
        options["where"] = twice(np.broadcast_to(options["where"], x.shape))
    if options.get("class_weight") is not None:
        options["class_weight"] = np.concatenate([options["class_weight"]] * 2)
    return [twice(x), *(operand(position, value) for position, value in enumerate(others))], options


def spread_of(call: Call, reference: Variant) -> dict[str, Any]:
    """How far rounding errors of the operands move each result, in the reference."""
    given = {name: value for name, value in call.given.items() if name in ("want", "ridge")}

    def run(operands: list[Any], options: dict[str, Any]) -> dict[str, Any]:
        found = parts_of(call, getattr(call.loss, call.method)(*operands, **options, **given))
        return {name: wide(value) for name, value in found.items()}

    info = np.finfo(computing(call))
    eps, tiny = ROUNDINGS * float(info.eps), ROUNDINGS * float(info.smallest_subnormal)
    with reference.chosen(), np.errstate(all="ignore"):
        operands, options = plain(call)
        middle = run(operands, options)
        around = [run(*perturbed(call, operands, options, signs)) for signs in SIGNS]
        spread = {name: np.max([np.abs(a[name] - value) for a in around], axis=0) for name, value in middle.items()}
        if call.loss.kind in ("rowwise", "row_function") and "keepdims" not in call.loss.shared:
            axis = options.get("axis", -1)
            for sign in (1, -1):
                for name, value in run(*doubled(call, operands, options, sign)).items():
                    if name in SECOND or name == "grad" and cancels(call):
                        size = 8 * np.abs(np.split(value, 2, axis)[0])  # p is half of what it was, p ** 2 a quarter
                        spread[name] = np.maximum(spread[name], eps * size)
        if call.loss.of == "truth" and "hess" in spread:  # its terms are about those of cross-entropy
            shared = {name: value for name, value in options.items() if name not in call.loss.own}
            size = np.abs(wide(lf.cross_entropy.grad_and_hess(*operands, **shared)[1]))
            spread["hess"] = np.maximum(spread["hess"], eps * 64 * size)
        # A factor may have lost digits to underflow before it meets large ones.
        factors = [operands[-1] if len(operands) > 2 or call.method in ("vjp", "jvp") else np.ones(1)]
        least = tiny
        if call.loss.kind == "rowwise" and not call.loss.labelled:
            sizes = [np.where(np.isfinite(operand), operand, 0) for operand in operands[:2]]
            factors += sizes
            if max(np.abs(size).max(initial=0) for size in sizes) > 1e5:  # log p - log q loses what is far below it
                least = eps
        factors += [options[name] for name in ("sample_weight", "class_weight", "b") if options.get(name) is not None]
        large = math.prod(max(1.0, float(np.nanmax(np.abs(factor), initial=0))) for factor in factors)
        large *= max(1.0, 1 / abs(options.get("denominator") or 1.0))
        rules = call.loss.parameters.items()
        for value in (abs(options.get(name) or 1.0) for name, rule in rules if isinstance(rule, Parameter)):
            large *= max(value, 1 / value) ** 2
        return {name: value + least * large for name, value in spread.items()}


# -------------------------------------------------------------------------------------------------------- judging

#: What is cut into slices, and how small the slices are made, so that small calls are threaded too.
SLICES = {"compiled": {"GRAIN": 0, "SLICE": 64, "quick": None}, "numpy": {"SLICE": 64}}


@contextlib.contextmanager
def many_slices(variant: Variant) -> Iterator[None]:
    module: Any = backends.load(variant.backend)
    changes = SLICES.get(variant.backend, {})
    old = {name: getattr(module, name) for name in changes}
    try:
        for name, value in changes.items():
            setattr(module, name, value)
        yield
    finally:
        for name, value in old.items():
            setattr(module, name, value)


def same_bits(call: Call, what: str, one: Outcome, two: Outcome) -> None:
    if str(one) != str(two):
        raise Finding(f"another outcome {what}", call, f"{one}, {two}")
    for name, value in one.results.items():
        if bits(value) != bits(two.results[name]):
            raise Finding(f"other bits of {name} {what}", call, f"{value!r}, {two.results[name]!r}")


def judge(call: Call, variants: tuple[Variant, ...] = VARIANTS) -> None:
    """Raise a `Finding` if anything is not as it has to be."""
    outcomes = [Outcome(call, variant) for variant in variants]
    first = outcomes[0]
    if first.error is None and call.wrong:
        raise Finding("not refused", call, ", ".join(call.wrong))
    if first.error is not None:
        allowed = [error for errors in (*call.wrong.values(), *call.doubtful.values()) for error in errors]
        if not isinstance(first.error, tuple(allowed)):
            raise Finding("refused", call, repr(first.error))
    for outcome in outcomes[1:]:
        if str(outcome) != str(first):
            raise Finding(f"another outcome on {outcome.variant}", call, f"{outcome}; {first} on {first.variant}")
    if first.error is not None:
        return
    *others, reference = outcomes
    spread = functools.cache(lambda: spread_of(call, reference.variant))
    for outcome in others:
        agree(call, outcome, reference, spread)
    fused = [outcome for outcome in others if outcome.variant.isa not in (None, "baseline")]
    for outcome in fused[1:]:
        same_bits(call, f"on {outcome.variant}", fused[0], outcome)
    if "n_threads" in call.loss.shared and math.prod(call.operands[0].shape) > 64:
        variant = variants[call.turn % len(variants)]
        with many_slices(variant):
            serial, threaded = (Outcome(call, variant, n_threads=n) for n in (1, 3))
        same_bits(call, f"with 3 threads on {variant}", serial, threaded)
        agree(call, serial, outcomes[call.turn % len(variants)], spread)


# ---------------------------------------------------------------------------------------------------------- tests


@pytest.fixture(scope="module", autouse=True)
def whole():
    """The variants are compared with each other: one alone would say nothing."""
    if len(VARIANTS) < 2:
        pytest.skip("there is nothing to compare with")


@settings(
    max_examples=2500,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)
@given(st.binary(max_size=LENGTH), st.integers(0, 2**64 - 1))
def test_any_call(data, seed):
    """Of bytes that hypothesis chooses, then of such that are all equally likely (or, as the simplest, 0)."""
    judge(draw_call(Draw(data + (random.Random(seed).randbytes(LENGTH) if seed else b""))))
