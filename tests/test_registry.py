"""Everything in the registry, through the public interface, on every backend and instruction set.

Values and derivatives against arbitrary precision; every combination of reduction, weights, masks, axis, layout and
dtype; and no bit that depends on threads, batches, layouts or what else is wanted. A new loss is covered as soon as it
is declared.
"""

import functools
import hashlib
import itertools
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from exact import (
    exact,
    exact_entries,
    exact_pointwise,
    exact_row,
    mp,
    off_by,
    slope,
    terms_pointwise,
    twin_entry,
    twin_pointwise,
    twin_row,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from parameters import SINGLE, extras_of, is_inside, other_values_of, predictions_of, targets_of, within
from variants import COMPILED, VARIANTS, Variant

import lossfast as lf
from lossfast._jobs import RowwiseJob
from lossfast._loss import inside, looped
from lossfast._parts import profile_parts, violation_parts
from lossfast.selftest import fitting

REGISTRY = looped()

OBJECTS = list(SINGLE.values())
POINTWISE = [loss for loss in OBJECTS if loss.kind in ("pointwise", "function")]
ROWS = [loss for loss in OBJECTS if loss.kind in ("rowwise", "row_function")]
LOSSES = [loss for loss in OBJECTS if loss.kind in ("pointwise", "rowwise")]
DTYPES = [np.float32, np.float64]

each_loss = pytest.mark.parametrize("loss", OBJECTS, ids=lambda loss: loss.name)
each_pointwise = pytest.mark.parametrize("loss", POINTWISE, ids=lambda loss: loss.name)
each_row = pytest.mark.parametrize("loss", ROWS, ids=lambda loss: loss.name)
each_reducing = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])


def settings_of(loss):
    """The loss's defaults, and one parameter after the other at another value."""
    yield {}
    for name, parameter in loss.parameters.items():
        for value in other_values_of(parameter):
            yield {name: value}


# ------------------------------------------------------------------------------------------- pointwise, exactly


def pointwise_inputs(loss, dtype):
    """Magnitudes from the smallest to the largest, of both signs, against targets of every kind."""
    tiny, huge = (1e-44, 1e30) if dtype == np.float32 else (1e-320, 1e200)
    size = np.array([0, tiny, 1e-30, 1e-3, 0.3, 0.5, 0.7, 1, 1.7, 2, 3, 8, 17.5, 36.5, 88, 120, 700, 744, 1e20, huge])
    x = predictions_of(loss, np.concatenate((size, -size[1:])).astype(dtype))
    return tuple(a.ravel() for a in np.meshgrid(x, np.array(targets_of(loss), dtype)))


def exactly(loss, x, t, q, parameters, dtype):
    """(value, gradient, Hessian) of one element by the twin in arbitrary precision, each checked to be the one before's
    slope by finite differences; None for a Hessian that jumps so near that the rounding of x - t decides."""
    twin = functools.partial(twin_pointwise, loss, t=t, q=q, parameters=parameters)
    results = list(twin(x))
    between = is_inside(loss, "pred", x - mp.eps) and is_inside(loss, "pred", x + mp.eps)
    for order, name in enumerate(("gradient", "Hessian") if dtype == np.float64 and between else ()):  # once is enough
        found = slope(lambda u, order=order: twin(u)[order], x)
        if found is None or mp.isnan(found[0]) or not all(map(mp.isfinite, results)):
            break
        expected = results[order + 1]
        error = abs(found[0] - expected)
        assert error <= mp.ldexp(abs(expected), -60) + found[1], f"the twin's {name} is wrong at {x}, {t}"
    step = (abs(x) + abs(t)) * float(np.finfo(dtype).eps)
    beside = [twin(u)[2] for u in (x - step, x + step) if is_inside(loss, "pred", u)]
    if len(beside) == 2 and abs(beside[0] - beside[1]) > max(map(abs, beside)) / 2 > np.finfo(dtype).tiny:
        results[2] = None
    return results


def possible(x):
    """Zeros, where logarithms have no slopes, as a very small number; what it is multiplied by is to stay normal."""
    return np.where(x == 0, np.finfo(x.dtype).tiny * 2.0**70, x).astype(x.dtype) if (x >= 0).all() else x


@functools.cache
def pointwise_truth(loss, dtype):
    """For every setting: options, inputs, and of every element the three results and their scales."""
    found = []
    x, t = pointwise_inputs(loss, dtype)
    if loss.takes:
        x = possible(*fitting(loss, x))
        t = np.zeros_like(x)
    for options in settings_of(loss):
        parameters = loss.own_numbers(options)
        for q in extras_of(loss):
            numbers = [tuple(map(exact, (*pair, q))) for pair in zip(x, t, strict=True)]
            true = [exactly(loss, *three, parameters, dtype) for three in numbers]
            extra = {loss.extra: q} if loss.extra else {}
            sizes = [terms_pointwise(loss, *three, parameters) for three in numbers]
            found.append(({**options, **extra}, x, t, true, sizes))
    return found


KNOWN_ROWS = {
    *("cross_entropy", "quadratic_softmax_loss", "kl_div_from_logits", "softmax", "log_softmax", "logsumexp"),
    *("focal_loss", "poly_loss", "generalized_cross_entropy", "multiclass_hinge_loss"),
}


class Misses:
    """What is off by more than the bound; everything is looked at before any of it is reported."""

    def __init__(self, bound, dtype):
        self.bound, self.dtype, self.found = bound, dtype, {}

    def look(self, name, got, true, scale, where):
        for at, (g, u, k) in enumerate(zip(np.atleast_1d(got).ravel(), true, scale, strict=True)):
            error = 0 if u is None else off_by(g, u, k, self.dtype)
            if error > max(self.bound, self.found.get(name, (0,))[0]):
                self.found[name] = error, f"{name}[{at}] is {error:.3g} ULP off: {g!r}, {where(at)}"

    def report(self):
        assert not self.found, "\n".join(text for _, text in self.found.values())


@each_dtype
@each_pointwise
def test_pointwise_values_and_derivatives(variant, loss, dtype):
    misses = Misses(variant.ulp(loss), dtype)
    with variant.chosen():
        for options, x, t, true, sizes in pointwise_truth(loss, dtype):
            if loss.kind == "function":
                got = {"value": loss(x, **options), "grad": loss.vjp(x, np.ones_like(x), **options)}
            else:
                value, grad = loss.value_and_grad(x, t, reduction="none", **options)
                got = {"value": value, "grad": grad}
                if "hess" in loss.outputs:
                    got["hess"] = loss.grad_and_hess(x, t, reduction="none", **options)[1]
            for number, (name, result) in enumerate(got.items()):
                columns = ([row[number] for row in rows] for rows in (true, sizes))
                misses.look(name, result, *columns, lambda at: (x[at], t[at], options))  # noqa: B023
    misses.report()


@each_pointwise
def test_pointwise_formulas(loss):
    """The twins are the published formulas, written down independently, in exact arithmetic; so are their terms."""
    q = extras_of(loss)[-1]
    for x, t in zip(*pointwise_inputs(loss, np.float64), strict=True):
        for options in settings_of(loss):
            parameters = loss.own_numbers(options)
            ours = twin_pointwise(loss, *map(exact, (x, t, q)), parameters)
            try:
                theirs, sizes = exact_pointwise(loss.name, x, t, q, parameters)
            except NotImplementedError as error:
                pytest.skip(str(error))
            terms = terms_pointwise(loss, *map(exact, (x, t, q)), parameters)
            for name, u, v in zip(("value", "grad", "hess"), ours, theirs, strict=True):
                same = u == v or (mp.isnan(u) and mp.isnan(v))
                assert same or abs(u - v) <= mp.ldexp(abs(v), -100), (name, x, t, options)
            for name, u, v in zip(("value", "grad", "hess"), terms, sizes, strict=True):
                assert abs(u - v) <= mp.ldexp(abs(v), -100), (f"terms of {name}", x, t, options)


# ------------------------------------------------------------------------------------------------ rows, exactly


def rows_of(C, dtype):
    """Unsure, sure, very sure, far from 0, nearly tied, huge, and as log-probabilities."""
    random = np.random.default_rng(C)
    x = random.normal(size=(8, C))
    x[1] *= 10
    x[2] *= 250
    x[3] = np.where(np.arange(C) == random.integers(C), 20, 0)
    x[4] += np.where(np.arange(C) == 0, 100, 0)
    x[5] += 1e4
    x[6] = 1 + 1e-6 * x[6]
    x[7] = -abs(x[7] * 4) - np.log(C)
    labels = random.integers(C, size=8)
    labels[:5] = x[:5].argmax(1)
    labels[2] = random.integers(C)
    return x.astype(dtype), labels


def others_of(x):
    """Logits to compare with: near and far, shifted, more or less sure, and nearly the same."""
    random = np.random.default_rng(x.size)
    y = x.astype(np.float64) + random.normal(size=x.shape) * np.array([1, 10, 250, 1, 1, 1e-2, 1e-5, 1e-4])[:, None]
    y[3] -= 1e3
    y[4] /= 30
    return y.astype(x.dtype)


def fitting_others(loss, x, options):
    """What to compare with, near it and far from it."""
    random = np.random.default_rng(x.size)
    apart = random.normal(size=x.shape) * np.array([1, 10, 250, 1, 1, 1e-2, 1e-5, 1e-9])[:, None]
    others = possible(fitting(loss, x, (x * np.exp(np.minimum(apart, 0))).astype(x.dtype))[1])
    if loss.takes[1] == loss.takes[0]:
        others = np.where(abs(apart) > 1, others, x * (1 + apart / 2)).astype(x.dtype)
    return np.log(np.maximum(others, 1e-30)) if options.get("log_target") else others


@functools.cache
def row_truth(loss, dtype):
    """For every setting: options, logits, targets, and for each row exact results and their scales."""
    found = []
    for C, options in itertools.product((1, 2, 4), settings_of(loss)):
        x, labels = rows_of(C, dtype)
        if loss.takes:
            x = possible(*fitting(loss, x))
        if loss.kind == "row_function":
            found.append((options, x, None, [function_row(loss, x, row, options) for row in range(len(x))]))
            continue
        weight = np.linspace(0.5, 2, C)
        if not loss.labelled:
            others = others_of(x)
            if loss.takes:
                others = fitting_others(loss, x, options)
            found.append((options, x, others, [loss_row(loss, x, others, row, options) for row in range(len(x))]))
            continue
        if "class_weight" in loss.shared and not loss.labelled:
            options, others = {**options, "class_weight": weight}, fitting_others(loss, x, options)
            found.append((options, x, others, [loss_row(loss, x, others, row, options) for row in range(len(x))]))
            continue
        given = [(labels, {}), (labels, {"class_weight": weight})]
        if loss.soft:
            soft = np.random.default_rng(7).dirichlet(np.ones(C), len(x)).astype(dtype)
            given.append((soft, {"class_weight": weight}))
        for targets, weights in given:
            every = {**options, **weights}
            found.append((every, x, targets, [loss_row(loss, x, targets, row, every) for row in range(len(x))]))
    return found


def slopes_of_row(value, x):
    """The gradients and the Hessians' diagonals of a function of a row, by finite differences."""
    first, bends, h = [], [], mp.ldexp(1, -180)
    for c, at in enumerate(x):
        below, here, above = (value([*x[:c], at + s * h, *x[c + 1 :]]) for s in (-1, 0, 1))
        first.append([(b - a) / (2 * h) for a, b in zip(below, above, strict=True)])
        bends.append([(a - 2 * m + b) / h**2 for a, m, b in zip(below, here, above, strict=True)])
    return first, bends


def loss_row(loss, x, targets, row, options):
    """{"value": ..., "grad": ..., "hess": ...}, each a list with its scales."""
    parameters = {name: value for name, value in options.items() if name in loss.parameters}
    t = int(targets[row]) if targets.ndim == 1 else [exact(u) for u in targets[row]]
    given = [exact(u) for u in x[row]]
    if loss.entrywise:
        return exact_entries(loss, given, t, options)

    def value(z):
        return twin_row(loss, z, t, parameters, options.get("class_weight"))

    first, bends = slopes_of_row(value, given)
    results = {"value": value(given), "grad": [g[0] for g in first], "hess": [b[0] for b in bends]}
    scales = known_scales(loss, x, row, results, {"loss": "value"}, targets, options)
    return {name: (found, scales[name]) for name, found in results.items()}


def known_scales(loss, x, row, results, names, targets=None, options=None, v=None):
    """The sizes of terms that cancel, by the formulas written down for some losses, which must give the same."""
    scales = {name: [0] * len(found) for name, found in results.items()}
    if loss.name not in KNOWN_ROWS:
        return scales
    targets = np.empty(0) if targets is None else targets
    hard = targets.dtype.kind == "i"
    name = "labels" if hard else "target" if loss.kind == "row_function" or loss.labelled else "logits_q"
    given = {name: targets if targets.size else None}
    fields = {name: value for name, value in (options or {}).items() if name not in loss.own}
    job = RowwiseJob(loss.name, x.dtype, x, v=v, params=loss.own_numbers(options), **given, **fields)
    for name, (expected, scale) in exact_row(job, row).items():
        ours = names.get(name, name)
        if ours not in results:
            continue
        expected = expected if isinstance(expected, list) else [expected]
        for u, w in zip(results[ours], expected, strict=True):
            assert abs(u - w) <= mp.ldexp(abs(w), -40) + mp.ldexp(1, -1100), f"two formulas for {name} differ"
        scales[ours] = scale if isinstance(scale, list) else [scale]
    return scales


def function_row(loss, x, row, options):
    """{"value": ..., "vjp": ...} of a function, for a fixed direction, each a list with its scales."""
    given = [exact(u) for u in x[row]]
    if loss.entrywise:
        found, v = exact_entries(loss, given, None, options), direction(1)[0]
        slopes = [[exact(v) * u for u in column] for column in found["grad"]]
        return {"value": found["value"], "vjp": (slopes[0], [abs(u) for u in slopes[1]])}
    value = functools.partial(twin_row, loss, parameters=options)
    first, _ = slopes_of_row(value, given)
    out = value(given)
    v = direction(len(out))
    results = {"value": out, "vjp": [mp.fsum(exact(a) * b for a, b in zip(v, g, strict=True)) for g in first]}
    all_v = np.full(len(x), v[0]) if loss.outputs[0] == "lse" else np.broadcast_to(v, x.shape)
    scales = known_scales(loss, x, row, results, {loss.outputs[0]: "value"}, options=options, v=all_v)
    return {name: (found, scales[name]) for name, found in results.items()}


def direction(n):
    return (np.arange(n) * 7 % 5 - 1.5).astype(np.float32)


@each_dtype
@each_row
def test_row_values_and_derivatives(variant, loss, dtype):
    misses = Misses(variant.ulp(loss), dtype)
    with variant.chosen():
        for options, x, targets, true in row_truth(loss, dtype):
            if targets is None:
                got = {"value": loss(x, **options)}
                if "vjp" in loss.outputs:
                    v = direction(x.shape[1]) if got["value"].ndim == 2 else direction(1)[0]
                    got["vjp"] = loss.vjp(x, np.broadcast_to(v, got["value"].shape), **options)
            else:
                value, grad = loss.value_and_grad(x, targets, reduction="none", **options)
                got = {"value": value, "grad": grad}
                if "hess" in loss.outputs:
                    got["hess"] = loss.grad_and_hess(x, targets, reduction="none", **options)[1]
                if loss.entrywise and "grad_target" in loss.outputs:
                    [got["grad_target"]] = loss.evaluate(x, targets, reduction="none", want="grad_target", **options)
            for name, result in got.items():
                misses.bound = variant.ulp(loss, name)
                for row in range(len(x)):
                    given = (x[row], None if targets is None else targets[row], options)
                    misses.look(name, result[row], *true[row][name], lambda at: given)  # noqa: B023
    misses.report()


@pytest.mark.parametrize(
    "loss", [loss for loss in ROWS if loss.entrywise and loss.of == "classes"], ids=lambda loss: loss.name
)
def test_entries_by_twin_and_formula(loss):
    """The twins are the published formulas, written down independently, in exact arithmetic."""
    for options in settings_of(loss):
        x = possible(*fitting(loss, rows_of(4, np.float64)[0])).ravel()
        targets = fitting_others(loss, x.reshape(8, 4), options).ravel() if len(loss.operands) > 1 else [None] * len(x)
        for a, b in zip(x, targets, strict=True):
            a, b = exact(a), mp.mpf(0) if b is None else exact(b)
            ours = twin_entry(loss, a, b, options)
            theirs = exact_entries(loss, [a], [b], options)
            for u, (v, size) in zip(ours, theirs.values(), strict=True):
                assert abs(u - v[0]) <= mp.ldexp(max(abs(v[0]), size[0]), -52 if options.get("base") else -56), (
                    a,
                    b,
                    options,
                )


# ---------------------------------------------------------------------------------------------------- hypothesis


def any_floats(dtype, most):
    width = np.dtype(dtype).itemsize * 8
    return st.floats(-most, most, width=width, allow_subnormal=True)


def check_random_points(dtype, variants, data):
    loss = data.draw(st.sampled_from(POINTWISE))
    x = data.draw(hnp.arrays(dtype, st.integers(1, 40), elements=any_floats(dtype, 2.0**20)))
    x = possible(*fitting(loss, x))
    t = data.draw(hnp.arrays(dtype, x.shape, elements=st.sampled_from([0, 1, 0.5]) | any_floats(dtype, 1)))
    x, t = inside(loss, "pred", x), inside(loss, "target", t)
    parameters = loss.own_numbers()
    numbers = [(exact(a), exact(b), mp.mpf(1)) for a, b in zip(x, t, strict=True)]
    true = [twin_pointwise(loss, *three, parameters) for three in numbers]
    sizes = [terms_pointwise(loss, *three, parameters) for three in numbers]
    for variant in variants:
        misses = Misses(variant.ulp(loss), dtype)
        with variant.chosen():
            if loss.kind == "function":
                got = loss(x), loss.vjp(x, np.ones_like(x))
            else:
                got = loss.value_and_grad(x, t, reduction="none")
        for number, name in enumerate(("value", "grad")):
            columns = ([row[number] for row in rows] for rows in (true, sizes))
            misses.look(f"{loss.name} {name} on {variant}", got[number], *columns, lambda at: (x[at], t[at]))
        misses.report()


def check_random_rows(dtype, variants, data):
    loss = data.draw(st.sampled_from([loss for loss in ROWS if loss.name in KNOWN_ROWS]))
    C = data.draw(st.integers(1, 20))
    spread = data.draw(st.sampled_from([1e-3, 1.0, 30.0, 800.0, 1e5]))
    x = data.draw(hnp.arrays(dtype, (1, C), elements=any_floats(dtype, 1))) * dtype(spread)
    x += dtype(data.draw(st.sampled_from([0, 0, 100, -5000])))
    y = np.array([data.draw(st.integers(0, C - 1))])
    names = {"value": "loss", "grad": "grad"} if loss.kind == "rowwise" else {"value": loss.outputs[0]}
    if loss.kind == "rowwise" and not loss.labelled:
        apart = data.draw(st.sampled_from([1e-6, 1e-2, 1.0, 100.0]))
        y = x + data.draw(hnp.arrays(dtype, (1, C), elements=any_floats(dtype, 1))) * dtype(apart)
    given = {"labels" if loss.labelled else "logits_q": y} if loss.kind == "rowwise" else {}
    job = RowwiseJob(loss.name, x.dtype, x, params=loss.own_numbers(), **given)
    known = exact_row(job, 0)
    for variant in variants:
        misses = Misses(variant.ulp(loss), dtype)
        with variant.chosen():
            got = loss.value_and_grad(x, y, reduction="none") if loss.kind == "rowwise" else (loss(x),)
        for result, (ours, theirs) in zip(got, names.items(), strict=True):
            true, scale = known[theirs]
            true, scale = (list(u) if isinstance(u, list) else [u] for u in (true, scale))
            misses.look(f"{loss.name} {ours} on {variant}", result, true, scale, lambda at: (x, y))
        misses.report()


CHECKS = pytest.mark.parametrize("check", [check_random_points, check_random_rows], ids=["points", "rows"])


def search(check, dtype, examples):
    """The same examples every time, and the smallest that fails."""

    @settings(max_examples=examples, derandomize=True, deadline=None, database=None)
    @given(st.data())
    def run(data):
        check(dtype, VARIANTS, data)

    run()


@each_dtype
@CHECKS
def test_random_inputs(check, dtype):
    search(check, dtype, 40)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@each_dtype
@CHECKS
def test_many_random_inputs(check, dtype):
    search(check, dtype, 5000)


@pytest.mark.parametrize("loss", [loss for loss in POINTWISE if loss.kind == "pointwise"], ids=lambda loss: loss.name)
def test_targets_are_converted_to_the_dtype_of_pred(variant, loss):
    """So that a difference of nearly equal numbers is the same on every backend."""
    target = np.random.default_rng(3).random(50)
    pred = (target + 1e-5 * np.random.default_rng(4).normal(size=50)).astype(np.float32)
    pred, target = within(loss, pred, target)
    with variant.chosen():
        converted = loss.value_and_grad(pred, target.astype(np.float32), reduction="none")
        for given, expected in zip(loss.value_and_grad(pred, target, reduction="none"), converted, strict=True):
            assert np.array_equal(given, expected)


# --------------------------------------------------------------- every combination: logic, not accuracy, is judged


REDUCTIONS = ("mean", "sum", "none", "batchmean")
WEIGHTS = {"rowwise": ("none", "sample", "class", "both"), "pointwise": ("none", "rows", "elements", "pos")}


def combinations(loss):
    """(reduction, weight, masked, class axis), all of them."""
    axes = (-1, 0, 1) if loss.kind == "rowwise" else (None,)
    weights = WEIGHTS[loss.kind]
    if loss.kind == "rowwise" and "class_weight" not in loss.shared:
        weights = weights[:2]
    elif loss.kind == "pointwise" and not loss.extra:
        weights = weights[:3]
    return list(itertools.product(REDUCTIONS, weights, (False, True), axes))


def example(loss, weight, masked, axis, soft=False, dtype=np.float64):
    """Operands and options of a small call; every array has the values of float32, so that no dtype rounds them."""
    random = np.random.default_rng(99)
    shape = (3, 5, 4)
    x = (3 * random.normal(size=shape)).astype(np.float32).astype(dtype)
    options = {}
    if masked:
        options["where"] = random.random(shape) < 0.75
    if loss.kind == "pointwise":
        x, target = within(loss, x, random.random(shape).astype(np.float32).astype(dtype))
        sample = {"rows": shape[:1], "elements": shape}.get(weight)
        if weight == "pos":
            options[loss.extra] = inside(loss, loss.extra, np.array([0.5, 1, 2, 3], dtype))
    else:
        last = [n for a, n in enumerate(shape) if a != axis % 3]
        C = shape[axis]
        if not loss.labelled:
            soft = True
            target = (2 * random.normal(size=shape)).astype(np.float32).astype(dtype)
        elif soft:
            target = random.dirichlet(np.ones(C), last).astype(np.float32).astype(dtype)
            target = np.moveaxis(target, -1, axis)
        else:
            target = random.integers(C, size=last)
            target.ravel()[3::7] = -100
        if masked:  # the true class, and a row without classes
            where = np.moveaxis(options["where"], axis, -1)
            where[..., 0] = True
            if not soft:
                np.put_along_axis(where, np.maximum(target, 0)[..., None], True, -1)
            where.reshape(-1, C)[1] = False
            options["where"] = np.ascontiguousarray(np.moveaxis(where.reshape(*last, C), -1, axis))
            if soft:
                target = np.where(options["where"], target, 0)
        sample = tuple(last) if weight in ("sample", "both") else None
        if weight in ("class", "both"):
            options["class_weight"] = np.linspace(0.5, 2, C)
        options["axis"] = axis
    if loss.takes:
        x, target = (
            a.astype(np.float32).astype(a.dtype) if a.dtype.kind == "f" else a for a in fitting(loss, x, target)
        )
        if masked and soft:
            target = np.where(options["where"], target, 0)
    if sample is not None:
        options["sample_weight"] = random.uniform(0.5, 2, sample).astype(np.float32).astype(dtype)
        options["sample_weight"].ravel()[0] = 0
    return x, target, options


def expected(loss, x, target, options, reduction):
    """The value and the gradient in long double, by plain NumPy."""
    x = x.astype(np.longdouble)
    one = np.longdouble(1)
    sample, where = options.get("sample_weight"), options.get("where")
    if loss.kind == "pointwise":
        q = options.get(loss.extra, one) if loss.extra else one
        parameters = list(map(np.longdouble, loss.own_numbers()))
        value, grad, _ = loss.twin(x, target.astype(np.longdouble), q * np.ones_like(x), *parameters)
        w = np.ones_like(x) if where is None else where.astype(np.longdouble)
        if sample is not None:
            w = w * (sample if sample.shape == x.shape else sample.reshape(-1, 1, 1))
        value, grad, weight, rows = value * w, grad * w, w.sum(), len(x)
    else:
        value, grad, weight, rows = expected_rows(loss, x, target, options, sample, where)
    denominator = {"mean": weight, "batchmean": rows}.get(reduction, 1)
    return (value if reduction == "none" else value.sum() / denominator), grad / denominator


def expected_rows(loss, x, target, options, sample, where):
    axis = options["axis"]
    z = np.moveaxis(x, axis, -1)
    here = np.ones(z.shape, bool) if where is None else np.moveaxis(where, axis, -1)
    if loss.entrywise:
        return expected_entries(loss, z, target, options, sample, here)
    z = np.where(here, z, -np.inf)
    C = z.shape[-1]
    gone = ~here.any(-1) if target.ndim == z.ndim else ~here.any(-1) | (target == -100)
    z = np.where(gone[..., None], 0, z)
    here = here | gone[..., None]
    t = np.moveaxis(target, axis, -1) if target.ndim == z.ndim else np.arange(C) == target[..., None]
    t = t.astype(np.longdouble)
    if not loss.labelled:
        e = np.exp(np.where(here, t, -np.inf))
        t = e / e.sum(-1, keepdims=True)
    e = np.exp(z - z.max(-1, keepdims=True))
    p = e / e.sum(-1, keepdims=True)
    q = (e @ (1 - np.eye(C, dtype=z.dtype))) / e.sum(-1, keepdims=True)
    a = -np.log(p, where=here, out=np.full(z.shape, -np.inf, z.dtype)) if "proba" in loss.outputs else -z
    own = loss.own_numbers()
    w = t * options.get("class_weight", np.ones(C))
    total = w.sum(-1, keepdims=True)
    misses = p - t, 2 * p - t
    if not loss.labelled:
        a = np.log(p / t, where=here, out=np.zeros(z.shape, z.dtype))
        misses = a, a
    d, u = (m - (p * m).sum(-1, keepdims=True) for m in misses)
    zero = np.longdouble(0)
    if loss.of == "truth":
        value, grad, _ = profile_parts(loss, own, a, p, q, w)
    elif loss.of == "violations":
        value, grad, _ = violation_parts(loss, own, z, t, w, here)
    else:
        value, grad, _ = loss.twin(p, q, t, w, total, a, zero, zero, d, u)
    each = np.where(gone, 0, 1) * (1 if sample is None else sample)
    counted = np.where(gone, 0, total[..., 0]) if "class_weight" in options else np.where(gone, 0, 1)
    weight = (counted * (1 if sample is None else sample)).sum()
    value, grad = np.where(here, value, 0).sum(-1) * each, grad * each[..., None]
    return value, np.moveaxis(grad, -1, axis), weight, each.size


def expected_entries(loss, z, target, options, sample, here):
    axis, C = options["axis"], z.shape[-1]
    hard = target.ndim < z.ndim
    gone = ~here.any(-1) | (target == -100 if hard else False)
    t = (np.arange(C) == target[..., None]) if hard else np.moveaxis(target, axis, -1)
    t = t.astype(np.longdouble)
    if loss.of == "pairs":
        z, t = np.where(here, z, -np.inf), np.where(here, t, 0)
    parameters = list(map(np.longdouble, loss.own_numbers()))
    value, grad = loss.twin(z, t, *parameters)[:2]
    cw = options.get("class_weight", np.ones(C)) / (here.sum(-1, keepdims=True) if loss.average else 1)
    value, grad = (np.where(here & ~gone[..., None], cw * u, 0) for u in (value, grad))
    counted = (t * cw).sum(-1) if "class_weight" in options and loss.labelled else np.ones(gone.shape)
    each = 1 if sample is None else sample
    grad = np.moveaxis(grad * np.broadcast_to(each, gone.shape)[..., None], -1, axis)
    return value.sum(-1) * each, grad, (np.where(gone, 0, counted) * each).sum(), gone.size


def agree(got, true, dtype, where):
    """Within some dozens of ULP of the largest entry."""
    got, true = np.asarray(got, np.longdouble), np.asarray(true)
    room = 64 * float(np.finfo(dtype).eps) * np.abs(true).max(initial=1e-6)
    assert got.shape == true.shape and np.abs(got - true).max(initial=0) <= room, where


@each_reducing
def test_every_combination(variant, loss):
    """Reduction x weights x mask x axis x kind of target x dtype."""
    with variant.chosen(), np.errstate(all="ignore"):
        for (reduction, weight, masked, axis), soft, dtype in itertools.product(
            combinations(loss), (False, True) if loss.soft else (False,), DTYPES
        ):
            x, target, options = example(loss, weight, masked, axis, soft, dtype)
            where = (reduction, weight, masked, axis, soft, np.dtype(dtype).name)
            value, grad = loss.value_and_grad(x, target, reduction=reduction, **options)
            true, true_grad = expected(loss, x, target, options, reduction)
            agree(value, true, dtype, where)
            agree(grad, true_grad, dtype, where)
            if reduction == "none":
                continue
            merged = loss.reduce(x, target, **options)
            agree(merged.sum, expected(loss, x, target, options, "sum")[0], dtype, where)
            if reduction == "mean":
                assert merged.mean == value, where


def laid_out(tmp_path_factory):
    """{name: what gives an array of the same values in that layout}."""
    path = tmp_path_factory.mktemp("arrays")

    def strided(a):
        wide = np.zeros([2 * n for n in a.shape], a.dtype)
        wide[tuple(slice(1, None, 2) for _ in a.shape)] = a
        return wide[tuple(slice(1, None, 2) for _ in a.shape)]

    def negative(a):
        back = tuple(slice(None, None, -1) for _ in a.shape)
        return a[back].copy()[back]

    def misaligned(a):
        field = np.zeros(a.shape, [("pad", "u1"), ("a", a.dtype)])["a"]
        field[...] = a
        return field

    def read_only(a):
        a = a.copy()
        a.flags.writeable = False
        return a

    def memory_mapped(a):
        number = len(list(path.iterdir()))
        mapped = np.memmap(path / str(number), a.dtype, "w+", shape=a.shape)
        mapped[...] = a
        return mapped

    def transposed(a):
        return np.ascontiguousarray(a.T).T

    def swapped(a):
        return a if a.dtype.name == "bfloat16" else a.astype(a.dtype.newbyteorder())

    layouts = [np.asfortranarray, strided, negative, misaligned, swapped, read_only, memory_mapped, transposed]
    return {layout.__name__: layout for layout in layouts}


BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
INPUT_DTYPES = [*map(np.dtype, ("f2", "f4", "f8", "i1", "u2", "i8", "?")), BFLOAT16]


def bits(result):
    """What tells results apart to the bit, and is short enough to be shown."""
    result = np.asarray(result)
    return result.shape, result.dtype, hashlib.sha256(np.ascontiguousarray(result)).hexdigest()


@pytest.mark.parametrize("dtype", INPUT_DTYPES, ids=str)
@each_reducing
def test_every_layout_and_dtype_gives_the_same_bits(variant, loss, dtype, tmp_path_factory):
    """On the best instruction set with everything else varied too; on the others with a part of it."""
    layouts = laid_out(tmp_path_factory)
    cases = combinations(loss)
    cases = cases if variant == VARIANTS[0] else cases[:: 7 if variant.backend == "compiled" else 13]
    names = list(layouts)
    with variant.chosen(), np.errstate(all="ignore"):
        for number, (reduction, weight, masked, axis) in enumerate(cases):
            x, target, options = example(loss, weight, masked, axis, soft=number % 3 == 0 and loss.soft)
            x = fitting(loss, x.astype(dtype))[0]
            plain = loss.value_and_grad(x, target, reduction=reduction, **options)
            if dtype.kind in "iub":
                lists = loss.value_and_grad(x.tolist(), target, reduction=reduction, **options)
                assert list(map(bits, lists)) == list(map(bits, plain))
            for name in names if variant == VARIANTS[0] else names[number % 3 :: 3]:
                change = layouts[name]
                others = {key: change(a) if np.ndim(a) > 0 and a.dtype != bool else a for key, a in options.items()}
                others.update({"where": change(options["where"])} if "where" in options and name != "swapped" else {})
                other = loss.value_and_grad(change(x), change(target), reduction=reduction, **others)
                assert list(map(bits, other)) == list(map(bits, plain)), (reduction, weight, masked, axis, name)


@each_dtype
@each_reducing
def test_zero_strides_give_the_same_bits(variant, loss, dtype):
    row = np.linspace(-2, 3, 7).astype(dtype)
    with variant.chosen():
        for shape in ((5, 7), (5, 3, 7)):
            x = np.broadcast_to(fitting(loss, row)[0], shape)
            target = np.broadcast_to(np.int64(2), shape[:-1]) if loss.labelled else np.broadcast_to(dtype(0.5), shape)
            if loss.kind == "pointwise":
                x = np.broadcast_to(inside(loss, "pred", row), shape)
                target = np.broadcast_to(inside(loss, "target", dtype(0.5)), shape)
            weight = np.broadcast_to(dtype(0.7), shape[:-1] if loss.kind == "rowwise" else shape)
            for reduction in REDUCTIONS:
                one = loss.value_and_grad(x, target, reduction=reduction, sample_weight=weight)
                two = loss.value_and_grad(x.copy(), target.copy(), reduction=reduction, sample_weight=weight.copy())
                assert list(map(bits, one)) == list(map(bits, two))


def same_but_for_rounding(buffer, plain):
    """What is in the buffer may have more digits than the plain result has, or fewer."""
    ours, theirs = (ml_dtypes.finfo(a.dtype) for a in (buffer, plain))
    if ours.nmant >= theirs.nmant and BFLOAT16 not in (buffer.dtype, plain.dtype):
        assert np.array_equal(buffer.astype(plain.dtype), plain)
    else:
        wide = plain.astype(np.float64)
        least = max(ours.smallest_subnormal, theirs.smallest_subnormal, key=float)
        room = float(max(ours.eps, theirs.eps)) * np.abs(wide) + float(least)
        assert (np.abs(buffer.astype(np.float64) - wide) <= room).all()


@each_reducing
def test_every_buffer(variant, loss):
    """Other dtypes, other layouts, over the logits: the same bits, rounded once to the buffer's dtype."""
    with variant.chosen(), np.errstate(all="ignore"):
        for weight, masked, axis in sorted({case[1:] for case in combinations(loss)}, key=str):
            for dtype in (*DTYPES, np.float16):
                x, target, options = example(loss, weight, masked, axis)
                x = x.astype(dtype)
                call = functools.partial(
                    lambda x, target=target, options=options, **buffers: loss.value_and_grad(
                        x, target, reduction="none", **options, **buffers
                    )
                )
                value, grad = call(x)
                for other in map(np.dtype, (np.float64, np.float32, np.float16, BFLOAT16, ">f8", ">f4")):
                    out, grad_out = np.zeros(value.shape, other, order="F"), np.zeros(x.shape, other, order="F")
                    results = call(x, out=out, grad_out=grad_out)
                    assert results[0] is out and results[1] is grad_out
                    same_but_for_rounding(out, value)
                    same_but_for_rounding(grad_out, grad)
                over = x.copy(order="F")
                assert call(over, grad_out=over)[1] is over and bits(over) == bits(grad)


# ------------------------------------------------------------------------------------------------- the same bits


def large(loss, shape, dtype):
    """Operands big enough for threads, with everything optional given."""
    random = np.random.default_rng(5)
    x = (4 * random.normal(size=shape)).astype(dtype)
    if loss.labelled:
        target = random.integers(shape[-1], size=shape[:-1])
        options = {"class_weight": random.uniform(0.5, 2, shape[-1])}
    elif loss.kind in ("pointwise", "rowwise"):
        (x, target), options = within(loss, x, random.random(shape).astype(dtype)), {}
    else:
        return fitting(loss, x), {}
    options["sample_weight"] = random.uniform(0.5, 2, shape[0])
    return fitting(loss, x, target), options


#: Rows across the lanes, along them, and in more than one chunk; of each more than one slice.
SHAPES = [(100_003, 7), (1_501, 301), (5, 90_001)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")


def everything(loss, operands, options, **more):
    """All that the public interface makes of them, as bits."""
    if loss.kind in ("function", "row_function"):
        results = [loss(*operands, **options, **more)]
        results.append(loss.vjp(*operands, np.ones_like(results[0]), **options, **more))
        return results
    results = [*loss.value_and_grad(*operands, **options, **more)]
    if "hess" in loss.outputs:
        results.append(loss.grad_and_hess(*operands, **options, **more)[1])
    return results


@each_shape
@each_loss
def test_no_bit_depends_on_the_number_of_threads(variant, loss, shape):
    if variant.backend != "compiled":
        shape = (shape[0] // 8 + 1, shape[1])
    operands, options = large(loss, shape, np.float32)
    with variant.chosen():
        first = everything(loss, operands, options, n_threads=1)
        for n_threads in (2, 3, 7):
            again = everything(loss, operands, options, n_threads=n_threads)
            assert list(map(bits, again)) == list(map(bits, first)), n_threads


@each_dtype
@pytest.mark.parametrize("shape", [(203, 7), (37, 192), (37, 193), (5, 301)], ids=str)
@each_loss
def test_no_bit_depends_on_the_batch_or_on_what_else_is_wanted(variant, loss, shape, dtype):
    operands, options = large(loss, shape, dtype)
    reducing = loss.kind in ("pointwise", "rowwise")
    more = {"reduction": "none"} if reducing else {}
    with variant.chosen():
        whole = everything(loss, operands, options, **more)
        for size in (1, 2, 16, 17):
            parts = []
            for start in range(0, shape[0], size):
                rows = slice(start, start + size)
                some = {**options, **({"sample_weight": options["sample_weight"][rows]} if reducing else {})}
                parts.append(everything(loss, [a[rows] for a in operands], some, **more))
            joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
            assert list(map(bits, joined)) == list(map(bits, whole)), size
        if reducing:
            assert bits(loss(*operands, **options, **more)) == bits(whole[0])
            assert bits(loss.grad(*operands, **options, **more)) == bits(whole[1])
            value, grad = loss.value_and_grad(*operands, **options)
            assert value == loss(*operands, **options) == loss.reduce(*operands, **options).mean
            assert bits(grad) == bits(loss.grad(*operands, **options))


@each_dtype
@each_shape
@each_loss
def test_instruction_sets_with_fma_give_the_same_bits(loss, shape, dtype):
    found = [variant for variant in COMPILED if variant.isa != "baseline"]
    if len(found) < 2:
        pytest.skip("there is only one here")
    operands, options = large(loss, shape, dtype)
    results = []
    for variant in found:
        with variant.chosen():
            every = everything(loss, operands, options)
            if loss.kind == "rowwise" and loss.soft:
                soft = np.random.default_rng(1).dirichlet(np.ones(shape[1]), shape[0]).astype(dtype)
                every += loss.value_and_grad(operands[0], soft, **options)
            if "hvp" in loss.outputs:
                every.append(loss.hvp(*operands, operands[0][::-1], **options))
            if "newton_step" in loss.outputs:
                every.append(loss.newton_step(*operands, ridge=1e-3, **options))
            results.append(list(map(bits, every)))
    assert results[0] == results[1]


@pytest.mark.parametrize("shape", [(19, 5), (19, 200), (3, 40_000)], ids=str)
@each_row
def test_one_hot_targets_and_wide_rows_in_any_layout(variant, loss, shape, tmp_path_factory):
    (x, *labels), options = large(loss, shape, np.float32)
    layouts = laid_out(tmp_path_factory)
    with variant.chosen():
        plain = everything(loss, (x, *labels), options)
        for name, change in layouts.items():
            again = everything(loss, (change(x), *map(change, labels)), options)
            assert list(map(bits, again)) == list(map(bits, plain)), name
        if loss.kind == "rowwise" and loss.soft and variant.backend == "compiled":
            one_hot = (np.arange(shape[1]) == labels[0][:, None]).astype(np.float32)
            assert list(map(bits, everything(loss, (x, one_hot), options))) == list(map(bits, plain))


def test_the_first_of_equal_classes_is_predicted(variant):
    for C in (4, 192, 193, 300):
        x = np.zeros((C - 1, C), np.float32)
        rows = np.arange(C - 1)
        x[rows, rows] = x[rows, C - 1] = 1
        result = []
        with variant.chosen():
            for targets in (rows, np.eye(C, dtype=np.float32)[rows]):
                result.append(lf.cross_entropy.evaluate(x, targets, want=("pred", "correct", "rank", "margin")))
        for found in result:
            assert np.array_equal(found.pred, rows) and found.correct.all()
            assert not found.rank.any() and not found.margin.any()


SPECIAL = np.array([0, -0.0, 1, -1, 5, 100, -100, np.inf, -np.inf, np.nan, 3e38, -3e38])


def special_rows(loss, seed):
    """A few rows with special values among ordinary ones, and any options."""
    random = np.random.default_rng(seed)
    shape = (3, int(random.choice([1, 2, 3, 5, 200])))
    x = np.where(random.random(shape) < 0.3, random.choice(SPECIAL, shape), 5 * random.normal(size=shape))
    options = {"where": random.random(shape) < 0.7} if random.random() < 0.3 else {}
    for name, parameter in loss.parameters.items():
        if random.random() < 0.3:
            options[name] = random.choice(other_values_of(parameter))
    (x,) = fitting(loss, x)
    if loss.kind == "row_function":
        if "b" in loss.shared and random.random() < 0.5:
            options["b"] = random.choice([0.0, 1, 2], shape)
        return (x,), options
    if random.random() < 0.3 and loss.labelled:
        options["class_weight"] = random.choice([0, 1, 2, 0.5], shape[1])
    if random.random() < 0.3:
        options["sample_weight"] = random.choice([0, 1, 2], 3)
    if not loss.labelled:
        same = random.random(shape) < 0.7
        return (x, fitting(loss, x, np.where(same, x, random.choice(SPECIAL, shape)))[1]), options
    if loss.soft and random.random() < 0.4:
        return (x, random.dirichlet(np.ones(shape[1]), 3) * (random.random(shape) < 0.6)), options
    return (x, np.where(random.random(3) < 0.15, -100, random.integers(shape[1], size=3))), options


def every_result(loss, operands, options):
    v = np.cos(np.arange(operands[0].size)).reshape(operands[0].shape)
    if loss.kind == "rowwise":
        results = loss.evaluate(*operands, reduction="none", **options)._asdict()
        if "hvp" in loss.outputs:
            results["hvp"] = loss.hvp(*operands, v, reduction="none", **options)
        return {**results, "sum": loss(*operands, reduction="sum", **options), "mean": loss(*operands, **options)}
    results = {"value": loss(*operands, **options), "jvp": loss.jvp(*operands, v, **options)}
    results["vjp"] = loss.vjp(*operands, np.ones_like(results["value"]), **options)
    if "sign" in loss.outputs:
        results["sign"] = loss.with_sign(*operands, **options)[1]
    return results


@each_row
def test_special_values_are_the_same_everywhere(loss):
    """Whatever the options: finite, infinite or NaN alike, and where finite about the same."""
    reference, *others = reversed(VARIANTS)
    for seed in range(150):
        operands, options = special_rows(loss, seed)
        with reference.chosen():
            expected = every_result(loss, operands, options)
        for variant in others:
            with variant.chosen():
                got = every_result(loss, operands, options)
            for name, right in expected.items():
                where = f"{name} on {variant}, of special_rows({loss.name}, {seed})"
                np.testing.assert_allclose(got[name], right, rtol=1e-11, atol=1e-11, err_msg=where)


# ---------------------------------------------------------------------------------------------- the registry itself


def test_every_kernel_has_a_twin_and_every_twin_a_kernel():
    pytest.importorskip("lossfast.kernels.pointwise", exc_type=ImportError)
    from lossfast.kernels import pointwise

    assert sorted(pointwise.names()) == sorted(
        [name for name in lf.losses() if lf.get_loss(name).kind.startswith(("pointwise", "function"))]
    )
    for loss in ROWS:  # a missing program is an error of the compiled backend
        operands, _ = large(loss, (3, 4), np.float64)
        with Variant("compiled", lf.get_isa()).chosen():
            if loss.kind == "rowwise":
                results = loss.evaluate(*operands)
                assert set(results._fields) <= {"loss", "grad", *loss.outputs}
            everything(loss, operands, {})


def test_every_output_is_offered_by_every_backend(variant):
    with variant.chosen():
        for loss in OBJECTS:
            operands, _ = large(loss, (3, 4), np.float64)
            v = operands[0][::-1]
            for name in loss.outputs:
                if name in ("hvp", "jvp"):
                    result = getattr(loss, name)(*operands, v)
                elif name == "row_jvp":
                    result = loss.jvp(*operands, v)
                elif name == "vjp":
                    result = loss.vjp(*operands, np.ones_like(loss(*operands)))
                elif name == "sign":
                    result = loss.with_sign(*operands)[1]
                elif name == "newton_step":
                    result = loss.newton_step(*operands, ridge=0.5)
                elif loss.kind in ("pointwise", "rowwise"):
                    [result] = loss.evaluate(*operands, want=(name,))
                else:
                    continue
                assert np.all(np.isfinite(result)), (loss.name, name)


def test_the_version_is_the_same_everywhere():
    root = Path(lf.__file__).parents[1]
    if not (root / "pyproject.toml").exists():
        pytest.skip("not in the source tree")
    for name, pattern in (("pyproject.toml", r'^version = "(.+)"$'), ("CITATION.cff", r'^version: "?([^"\n]+)"?$')):
        found = re.search(pattern, (root / name).read_text(), re.MULTILINE)
        assert found is not None and found[1] == lf.__version__, name
