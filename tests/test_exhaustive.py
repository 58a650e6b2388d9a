"""Pointwise losses and functions on every input there is: all of float16, bfloat16 and (slow) float32.

The reference is the loss's Python twin in a longer type; how far that is from arbitrary precision is measured in the
last test. In the ordinary run float32 and float64 are sampled: every exponent,
where an algorithm changes its ways, and at random. A new loss or function is covered as soon as it is declared.
"""

import concurrent.futures
import itertools
import math
import multiprocessing
import os

import ml_dtypes
import numpy as np
import pytest
from exact import exact, twin_pointwise
from extended import IS_EXTENDED, Extended, as_extended, spacing, ulps
from parameters import predictions_of, targets_of
from variants import COMPILED

from lossfast._loss import inside, looped

REGISTRY = looped()

POINTWISE = [loss for loss in REGISTRY.values() if loss.kind in ("pointwise", "function")]

each_pointwise = pytest.mark.parametrize("loss", POINTWISE, ids=lambda loss: loss.name)
each_half = pytest.mark.parametrize("half", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
extended_only = pytest.mark.skipif(not IS_EXTENDED, reason="long double is not longer than double here")

# ---------------------------------------------------------------------------------------- what is right, and not


def wider(dtype):
    """The type of the reference."""
    return Extended if dtype == np.float64 else np.float64


def as_given(loss, x, target, dtype):
    """What the twin is given."""
    wide = wider(dtype)
    return x.astype(wide), wide(target), wide(1), *map(wide, loss.own_numbers())


def reference(loss, x, target, dtype):
    """{name: exact enough}: value, gradient, Hessian, of a function its value and derivative."""
    with np.errstate(all="ignore"):
        results = loss.twin(*as_given(loss, x, target, dtype))
    return dict(zip(names_of(loss), (np.broadcast_to(y, x.shape) for y in results), strict=False))


def names_of(loss):
    if loss.kind == "function":
        return ("value", "derivative")
    return ("value", "gradient", "Hessian") if "hess" in loss.outputs else ("value", "gradient")


def results_of(loss, x, target):
    """What the library makes of it, by the same names."""
    if loss.kind == "function":
        return dict(zip(names_of(loss), (loss(x), loss.vjp(x, np.ones_like(x))), strict=True))
    t = x.dtype.type(target)
    results = [*loss.value_and_grad(x, t, reduction="none", n_threads=1)]
    if "hess" in loss.outputs:
        results.append(loss.grad_and_hess(x, t, reduction="none", n_threads=1)[1])
    return dict(zip(names_of(loss), results, strict=True))


def slack_of(loss, x, target, name, dtype):
    """A14: the absolute error that is allowed where terms cancel."""
    if loss.terms is None:
        return 0
    with np.errstate(all="ignore"):
        terms = loss.terms(*as_given(loss, x, target, dtype))[names_of(loss).index(name)]
    return np.ldexp(terms, -52 if dtype == np.float64 else -23)


def allowed(loss, x, target, name, true, dtype):
    """What may be taken for exact: a Hessian may jump within the rounding of x - t."""
    yield true
    if name == "Hessian":
        with np.errstate(invalid="ignore"):
            wide = x.astype(wider(dtype))
            step = (np.abs(wide) + abs(target)) * np.finfo(dtype).eps
        for nearby in (-step, step):
            yield reference(loss, wide + nearby, target, dtype)[name]


def excess(loss, x, target, name, got, true, dtype):
    """The errors in ULP, but for what the contract allows."""
    slack = slack_of(loss, x, target, name, dtype)
    return np.min([ulps(got, right, dtype, slack) for right in allowed(loss, x, target, name, true, dtype)], 0)


class Worst:
    """The worst error of each output, and where it is."""

    def __init__(self):
        self.seen = {}

    def look(self, loss, x, target, name, got, true, dtype, bound, variant):
        """Quickly if all is well: a Hessian's jumps and what cancels are looked into only where the bound is broken."""
        with np.errstate(all="ignore"):
            off = np.abs(got - true)
            off /= unit(true, dtype)
            doubtful = ~(off <= bound)
        if doubtful.any():
            at = np.flatnonzero(doubtful)
            off[at] = excess(loss, x[at], target, name, got[at], true[at], dtype)
        worst = int(off.argmax())
        if off[worst] >= self.seen.get(name, (0,))[0]:
            found = f"{float(x[worst]).hex()} (target {target}) on {variant}: {got[worst]!r} for {true[worst]!r}"
            self.seen[name] = float(off[worst]), found

    def merge(self, other):
        for name, found in other.items():
            self.seen[name] = max(self.seen.get(name, found), found)

    def report(self, bound):
        broken = [f"{name} is {off:.4g} ULP off at {where}" for name, (off, where) in self.seen.items() if off > bound]
        assert not broken, "\n".join(broken)


def unit(true, dtype):
    """`spacing`, in fewer passes for float32."""
    if dtype == np.float64:
        return spacing(true, dtype)
    power = (np.ascontiguousarray(true).view(np.int64) & 0x7FF0000000000000).view(np.float64)
    return np.maximum(power, 2.0**-126) * 2.0**-23


# ------------------------------------------------------------------------------------------------ float32, float64


def sample(dtype):
    """Every exponent with several significands, the neighbours of every threshold, and many at random."""
    info, random = np.finfo(dtype), np.random.default_rng(1)
    integer = np.uint32 if dtype == np.float32 else np.uint64
    ends = np.array([0, 1, 2, (1 << info.nmant) // 2, (1 << info.nmant) - 2, (1 << info.nmant) - 1], integer)
    exponents = np.arange(2 << info.iexp, dtype=integer)[:, None] << integer(info.nmant)  # of both signs
    anything = random.integers(1 << info.nmant, size=(len(exponents), 6 if dtype == np.float32 else 1), dtype=integer)
    parts = [(exponents | ends).ravel().view(dtype), (exponents | anything).ravel().view(dtype)]
    most = 110 if dtype == np.float32 else 750
    edges = np.concatenate(
        (np.arange(-300, 301) * math.log(2) / 2, [0.5, 1, 2, 0.25, 0.75, 17, 18, 36, 37, 38, 87.33655])
    )
    edges = np.concatenate(
        (edges, [88.72284, 103.27893, 103.97208, 104, 708.39642, 709.78272, 744.44007, 745.13322, 746])
    )
    edges = np.concatenate((edges, -edges)).astype(dtype)
    near = [edges]
    for direction in (-np.inf, np.inf):
        step = edges
        for _ in range(2):
            step = np.nextafter(step, dtype(direction))
            near.append(step)
    parts += [*near, random.uniform(-most, most, 20_000), random.normal(size=10_000), random.uniform(-1.5, 2.5, 5_000)]
    return np.concatenate([part.astype(dtype) for part in parts])


@pytest.mark.parametrize(
    "dtype", [np.float32, pytest.param(np.float64, marks=extended_only)], ids=["float32", "float64"]
)
@each_pointwise
def test_a_sample_of_all_inputs(variant, loss, dtype):
    x, worst, bound = predictions_of(loss, sample(dtype)), Worst(), variant.ulp(loss)
    with variant.chosen():
        for target in targets_of(loss):
            true = reference(loss, x, target, dtype)
            for name, got in results_of(loss, x, target).items():
                worst.look(loss, x, target, name, got, true[name], dtype, bound, variant)
    worst.report(bound)


#: What is worked on at once, so that it stays in the cache, and what is handed to a process.
BLOCK, TASK = 1 << 15, 1 << 24


def examine(name, target, start):
    """The worst errors in one stretch of all bit patterns, on every instruction set; for another process."""
    loss, worst = REGISTRY[name], Worst()
    for first in range(start, start + TASK, BLOCK):
        x = inside(loss, "pred", np.arange(first, first + BLOCK, dtype=np.uint32).view(np.float32))
        true = reference(loss, x, target, np.float32)
        seen = {}
        for variant in COMPILED:
            with variant.chosen():
                results = results_of(loss, x, target)
            for output, got in results.items():
                if seen.get(output) != (bits := got.tobytes()):  # as it was on the instruction set before
                    worst.look(loss, x, target, output, got, true[output], np.float32, loss.ulp, variant)
                seen[output] = bits
    return worst.seen


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@pytest.mark.skipif(not COMPILED, reason="of the compiled backend")
@pytest.mark.parametrize(
    ("loss", "target"),
    [pytest.param(loss, target, id=f"{loss.name}-{target}") for loss in POINTWISE for target in targets_of(loss)],
)
def test_all_of_float32(loss, target):
    worst, workers = Worst(), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        tasks = itertools.repeat(loss.name), itertools.repeat(target), range(0, 1 << 32, TASK)
        for found in pool.map(examine, *tasks):
            worst.merge(found)
    print(f"{loss.name} at {target}:", *(f"{name} {off:.3f} ULP at {at};" for name, (off, at) in worst.seen.items()))
    worst.report(loss.ulp)


# ------------------------------------------------------------------------------------------------------ half types


def ends(true, room, half):
    """What float32 numbers that near to the exact one can be rounded to: the least and the largest."""
    with np.errstate(all="ignore"):
        low, high = true - room, true + room
        least, most = low.astype(np.float32), high.astype(np.float32)
        least = np.where(least < low, np.nextafter(least, np.float32(np.inf)), least)
        most = np.where(most > high, np.nextafter(most, np.float32(-np.inf)), most)
        return least.astype(half).astype(np.float64), most.astype(half).astype(np.float64)


def is_rounded_once(loss, x, target, name, got, true, bound):
    """Whether a float32 result within its bound is rounded to what we got, for each."""
    ours, fine = got.astype(np.float64), np.isnan(true) & np.isnan(got.astype(np.float64))
    slack = slack_of(loss, x, target, name, np.float32)
    for right in allowed(loss, x, target, name, true, np.float32):
        least, most = ends(right, np.maximum(bound * unit(right, np.float32), slack), got.dtype)
        fine |= (least <= ours) & (ours <= most) | (ours == right)
    return fine


@each_half
@each_pointwise
def test_all_of_the_half_types(variant, loss, half):
    """Rounded once: to what a float32 result within its bound is rounded to; compiled, to what float32's own is."""
    x = inside(loss, "pred", np.arange(1 << 16, dtype=np.uint16).view(half))
    bound, worst = variant.ulp(loss), Worst()
    wide = x.astype(np.float32)
    with variant.chosen(), np.errstate(all="ignore"):
        for target in targets_of(loss):
            true, single = reference(loss, wide, target, np.float32), results_of(loss, wide, target)
            for name, got in results_of(loss, x, target).items():
                assert got.dtype == (np.float32 if name == "value" and loss.kind == "pointwise" else half)
                if got.dtype == np.float32:
                    worst.look(loss, wide, target, name, got, true[name], np.float32, bound, variant)
                else:
                    fine = is_rounded_once(loss, wide, target, name, got, true[name], bound)
                    wrong = [(float(wide[i]).hex(), got[i], true[name][i]) for i in np.flatnonzero(~fine)]
                    assert not wrong, (name, target, len(wrong), wrong[:3])
                if variant in COMPILED:
                    expected = single[name].astype(got.dtype)
                    alike = np.isnan(expected.astype(np.float32)) & np.isnan(got.astype(np.float32))
                    integer = np.uint32 if got.dtype == np.float32 else np.uint16
                    assert (alike | (expected.view(integer) == got.view(integer))).all(), (name, target)
    worst.report(bound)


# ------------------------------------------------------------------------------------------------- the reference


@extended_only
@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 1e-6), (np.float64, 0.01)], ids=["float32", "float64"])
@each_pointwise
def test_the_reference(loss, dtype, limit):
    """How far it is from the twin in arbitrary precision, in ULP of the dtype it judges."""
    x = predictions_of(loss, sample(dtype))
    x = np.random.default_rng(0).permutation(x[np.isfinite(x)])[:150]
    parameters = loss.own_numbers()
    for target in targets_of(loss):
        columns = zip(*(twin_pointwise(loss, *map(exact, (u, target, 1)), parameters) for u in x), strict=True)
        found = reference(loss, x, target, dtype)
        for (name, near), column in zip(found.items(), columns, strict=False):
            right = np.array([as_extended(v) for v in column])
            # where terms cancel, the reference has lost what they have beyond its own digits
            slack = np.ldexp(Extended(1), -20 if dtype == np.float32 else -9) * slack_of(loss, x, target, name, dtype)
            each = [ulps(in_range(a, dtype), right, dtype, slack) for a in allowed(loss, x, target, name, near, dtype)]
            assert np.min(each, 0).max() < limit, (name, target)


def in_range(values, dtype):
    return np.where(np.abs(values) > np.finfo(dtype).max, np.copysign(np.inf, values), values)
