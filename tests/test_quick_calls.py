"""The quick way of the compiled backend: taken where it should be, and never to be told from the general one.

`kernels/quick.pyx` takes plain calls whole and declines the others, which then go through `lossfast._arguments`. Here
both ways do the same calls, random ones of `calls` and those in tables; with ``compiled.quick`` None there is but the
general way.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import math
import pickle
import random
import threading
import types
from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import pytest
from calls import Draw, draw_call, methods_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parameters import ELEMENTS_OUTSIDE, SINGLE, other_values_of
from test_families import FloatingState, has_fenv
from test_fuzz import LENGTH, Outcome, bits
from variants import COMPILED

import lossfast as lf
from lossfast import _arguments, backends
from lossfast._loss import DOMAINS, Choice, inside
from lossfast.selftest import fitting

if not COMPILED:
    pytest.skip("the compiled backend is not there", allow_module_level=True)

RNG = np.random.default_rng(17)
#: Losses whose arguments have domains go the quick way where those are not checked.
REGISTRY = {name: loss.bind(check=False) if loss.domains else loss for name, loss in SINGLE.items()}
LOSSES = [name for name, loss in REGISTRY.items() if loss.kind in ("pointwise", "rowwise")]
FUNCTIONS = [name for name in REGISTRY if name not in LOSSES]


@contextlib.contextmanager
def generally() -> Iterator[None]:
    """All calls go the general way."""
    module = backends.load("compiled")
    with pytest.MonkeyPatch.context() as patch, lf.use_backend("compiled"):
        patch.setattr(module, "quick", None)
        yield


@contextlib.contextmanager
def quickly() -> Iterator[list[str]]:
    """Gives a list of the calls that have gone the general way."""
    gone: list[str] = []

    def noted(general):
        def call(self, backend):
            gone.append(self.job.loss)
            return general(self, backend)

        return call

    with pytest.MonkeyPatch.context() as patch, lf.use_backend("compiled"):
        for name in ("run", "reduce"):
            patch.setattr(_arguments.Call, name, noted(getattr(_arguments.Call, name)))
        yield gone


def identical(one, two):
    """Same types, dtypes, layouts and bits."""
    if isinstance(one, tuple):
        return type(one) is type(two) and len(one) == len(two) and all(map(identical, one, two))
    if isinstance(one, lf.Reduction):
        return identical(*(tuple(getattr(each, field.name) for field in fields(each)) for each in (one, two)))
    if one is None or isinstance(one, str):
        return one == two
    if not isinstance(one, np.ndarray):
        return type(one) is type(two) and bits(one) == bits(two)
    same = type(one) is type(two) and (one.shape, one.strides, one.dtype) == (two.shape, two.strides, two.dtype)
    return same and bits(one) == bits(two)


def outcome(call):
    """What a call gives, or the error that it raises."""
    try:
        return call()
    except Exception as error:
        return type(error), str(error)


def check(function, *args, taken=True, **options):
    """A call gives the same both ways, and goes the quick one if it should (None: if it likes)."""
    call = functools.partial(function, *args, **options)
    with quickly() as gone:
        quick = outcome(call)
    with generally():
        general = outcome(call)
    if isinstance(general, tuple) and general and isinstance(general[0], type):
        assert quick == general
        assert taken is not True, general
        return
    assert identical(quick, general), (quick, general)
    assert taken is None or (not gone) == taken, f"{'declined' if taken else 'taken'}: {general}"


def operands(loss, shape=(6, 5), dtype=np.float32):
    """Ordinary ones."""
    x = RNG.normal(size=shape).astype(dtype)
    if loss.kind in ("function", "row_function"):
        return list(fitting(loss, x))
    if loss.labelled:
        return list(fitting(loss, x, RNG.integers(0, shape[-1], shape[:-1])))
    return list(fitting(loss, x, RNG.random(shape).astype(dtype)))


def call_of(loss, method, shape=(6, 5), dtype=np.float32, **options):
    """A method of a loss with ordinary operands."""
    given = operands(loss, shape, dtype)
    if method in ("hvp", "vjp", "jvp"):
        rows = method == "vjp" and loss.name in ("logsumexp", "entropy")
        given.append(RNG.normal(size=shape[:-1] if rows else shape).astype(dtype))
    bound = getattr(loss, method)
    return lambda: bound(*given, **options)


# ---------------------------------------------------------------------------------------------------- any call


@settings(max_examples=1500, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**64 - 1))
def test_any_call(seed):
    """Whatever it is given, and however wrong that is."""
    call = draw_call(Draw(random.Random(seed).randbytes(LENGTH)))
    quick = Outcome(call, COMPILED[0])
    with generally():
        general = Outcome(call, COMPILED[0])
    assert str(quick) == str(general)
    assert quick.results.keys() == general.results.keys()
    for name, result in quick.results.items():
        assert identical(result, general.results[name]), (name, result, general.results[name])


def test_random_calls_go_both_ways():
    """So that `test_any_call` compares two ways, and not one with itself."""
    taken = right = 0
    for seed in range(400):
        call = draw_call(Draw(random.Random(seed).randbytes(LENGTH)))
        with quickly() as gone:
            result = Outcome(call, COMPILED[0])
        if result.error is None and call.method != "weigh":
            right, taken = right + 1, taken + (not gone)
    assert 0.25 * right < taken < 0.75 * right


# ------------------------------------------------------------------------------------------------ what is taken


@pytest.mark.parametrize("name", REGISTRY)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_every_method(name, dtype, compiled):
    loss = REGISTRY[name]
    with compiled.chosen():
        for method in methods_of(loss):
            if method == "weigh":
                continue
            for shape in ((6, 5), (2, 3, 70), (5,)):
                check(call_of(loss, method, shape, dtype))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("method", ["__call__", "value_and_grad", "grad_and_hess", "evaluate", "reduce"])
def test_options_of_losses(name, method):
    loss = REGISTRY[name]
    if method not in methods_of(loss):
        pytest.skip(f"{name} has no {method}")
    per_row = (6,) if loss.kind == "rowwise" else (6, 5)
    numbers = (0.5, 1, np.float64(0.25), np.float32(0.5))
    table = [
        {name: value}
        for name, rule in loss.parameters.items()
        for value in (other_values_of(rule) if isinstance(rule, Choice) else (*numbers, *other_values_of(rule)))
        if not isinstance(outcome(functools.partial(rule.check, name, value)), tuple)
    ]
    table += [{"reduction": reduction} for reduction in ("mean", "sum", "none", "batchmean")]
    table += [{"n_threads": n} for n in (None, 1, 2, -5, 10**30)] + [{"denominator": 3.0}, {"denominator": None}]
    table += [{"empty": empty} for empty in ("nan", "zero", "raise")]
    table += [
        {"sample_weight": (1 + 9 * RNG.random(per_row)).astype(dtype)}
        for dtype in ("f8", "f4", "f2", "i8", "u1", ">f8")
    ]
    table += [{"sample_weight": RNG.random((12, *per_row[1:]))[::-2]}]
    table += [{"sample_weight": np.ones(6)}, {"where": RNG.random((6, 5)) < 0.8}, {"where": np.arange(5) != 2}]
    table += [{"where": np.arange(6)[:, None] != 2, "sample_weight": RNG.random(per_row), "reduction": "sum"}]
    table += [{"denominator": 3.0, "sample_weight": RNG.random(per_row)}]
    if loss.kind == "rowwise":
        table += [{"axis": 1}, {"check": True}, {"check": False}]
    if loss.labelled:
        table += [{"class_weight": (1 + 9 * RNG.random(5)).astype(dtype)} for dtype in ("f8", "f4", ">f8", "i4")]
        table += [{"class_weight": RNG.random(10)[::2]}, {"ignore_index": None}, {"ignore_index": 2}]
    if loss.extra is not None:
        extras = (2.0, 3, RNG.random(5), np.array(0.5), RNG.random(5).astype("f4"))
        table += [{loss.extra: inside(loss, loss.extra, value) if loss.domains else value} for value in extras]
    for options in table:
        if "reduction" in options and method == "reduce":
            check(call_of(loss, method, **options), taken=None)
            continue
        check(call_of(loss, method, **options))
        check(call_of(loss.bind(**options), method))
        bound = loss.bind(reduction="sum")
        check(call_of(bound, method, **options), taken=None if options.get("denominator") else True)


def values_of(rule):
    """Of a parameter: choices, or numbers in its domain."""
    if isinstance(rule, Choice):
        return rule.choices
    return [value for value in (0.5, 1, np.float64(0.25), np.float32(0.5)) if DOMAINS[rule.domain](value)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_options_of_functions(name):
    loss = REGISTRY[name]
    table = [{"n_threads": 2}, {"where": RNG.random((6, 5)) < 0.8}, {"where": np.array(True)}]
    if loss.kind == "row_function":
        table += [{"axis": 1}, {"axis": 0}, {"axis": -2}]
    for options, method in itertools.product(table, methods_of(loss)):
        if method == "vjp" and name in ("logsumexp", "entropy") and options.get("axis") in (0, -2):
            continue  # a direction of another shape
        check(call_of(loss, method, **options))
    if name == "logsumexp":
        x = RNG.normal(size=(6, 5))
        check(loss, x, keepdims=True)
        check(loss, x, keepdims=True, axis=0)
        check(loss.vjp, x, np.ones((6, 1)))
        check(loss.vjp, x, np.ones((1, 5)), axis=0)
        check(loss, x, axis=(0, 1), taken=False)
        check(loss, x, b=np.ones(5), taken=False)


LAYOUTS = {
    "as it is": lambda a: a,
    "Fortran's": np.asfortranarray,
    "every second": lambda a: np.repeat(a, 2, -1)[..., ::2],
    "backwards": lambda a: a[::-1],
    "read-only": lambda a: np.broadcast_to(a, a.shape),
    "one row for all": lambda a: np.broadcast_to(a[:1], a.shape),
    "a part": lambda a: np.pad(a, 2)[(slice(2, -2),) * a.ndim],
    "not aligned": lambda a: np.frombuffer(b"\0" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", LOSSES)
def test_layouts(name, layout):
    loss, lay = REGISTRY[name], LAYOUTS[layout]
    for shape in ((6, 5), (2, 3, 5)):
        x, t = map(lay, operands(loss, shape))
        w = lay(RNG.random(shape if loss.kind == "pointwise" else shape[:-1]))
        check(loss.value_and_grad, x, t)
        check(loss.value_and_grad, x, t, sample_weight=w)
        if loss.kind == "rowwise":
            for axis in range(-len(shape), len(shape)):
                given = operands(loss, shape)
                if loss.labelled:
                    given[1] = RNG.integers(0, shape[axis], np.delete(shape, axis))
                x, t = map(lay, given)
                check(loss.value_and_grad, x, t, axis=axis)
                check(loss, x, t, axis=axis, reduction="none")


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", ">i4", "q", "Q", "l", "p"])
def test_labels(dtype):
    x = RNG.normal(size=(6, 5))
    for labels in ([0, 1, 0, 1, 1, 0], [1] * 6):
        y = np.array(labels).astype(dtype)
        check(lf.cross_entropy.value_and_grad, x, y)
        check(lf.cross_entropy.value_and_grad, x, y, ignore_index=1, class_weight=np.arange(5.0), taken=None)


@pytest.mark.parametrize("checked", [True, False])
def test_labels_that_do_not_count(checked):
    """Ignored ones enter neither sums nor weights; nor do, unchecked, those out of range."""
    x = RNG.normal(size=(6, 5))
    for label in (-100, 3) if checked else (-100, 3, 5, -1):
        y = np.array([0, label, 1, 3, label, 2])
        for options in ({}, {"ignore_index": 3}, {"ignore_index": None}, {"sample_weight": RNG.random(6)}):
            refused = checked and label == -100 and "ignore_index" in options
            for reduction in ("mean", "sum", "none", "batchmean"):
                every = {**options, "reduction": reduction, "check": checked}
                check(lf.cross_entropy.value_and_grad, x, y, **every, taken=None if refused else True)


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "u1", "?", ">f4"])
@pytest.mark.parametrize(
    "name", ["mse_loss", "binary_cross_entropy_with_logits", "kl_div_from_logits", "cross_entropy"]
)
def test_targets(name, dtype):
    loss, x = REGISTRY[name], RNG.normal(size=(6, 5)).astype("f4")
    t = RNG.random((6, 5)).astype(dtype)
    check(loss.value_and_grad, x, t, taken=None if loss.kind == "rowwise" else True)
    if loss.kind == "pointwise":
        for scalar in (0.0, -1.5, 1, -(2**53), np.array(0.25, "f4"), np.array(1)):
            check(loss.value_and_grad, x, scalar)
        check(loss.value_and_grad, x, 2**60 + 2**36 + 1)  # a double would round it first
        check(loss.value_and_grad, x, 10**400, taken=False)


@pytest.mark.parametrize("name", [name for name, loss in SINGLE.items() if loss.domains])
def test_elements_outside_their_domain_are_left_to_the_general_way(name):
    loss = SINGLE[name]
    for method in ("__call__", "value_and_grad", "reduce"):
        check(call_of(loss, method))
        check(call_of(loss, method, check=False))
    for place, argument in enumerate(loss.operands):
        if argument not in loss.domains:
            continue
        for dtype in ("f4", "f8", "i8"):
            good = [inside(loss, of, RNG.normal(size=(6, 5)).astype("f4")) for of in loss.operands]
            if place:  # the first one's dtype decides, and integers are not for the quick way
                good[place] = inside(loss, argument, RNG.integers(1, 3, (6, 5)).astype(dtype))
            check(loss.value_and_grad, *good)
            for wrong in ELEMENTS_OUTSIDE[loss.domains[argument]]:
                if dtype == "i8" and not float(wrong).is_integer():
                    continue
                bad = good.copy()
                bad[place] = good[place].copy()
                bad[place][4, 3] = wrong
                check(loss.value_and_grad, *bad, taken=False)
                check(loss.value_and_grad, *bad, where=bad[place] != wrong, taken=False)
            if place == 0 or dtype != "i8":
                good[place][2, 2] = np.nan
                check(loss.value_and_grad, *good)


def test_dtypes_with_particulars():
    """The gradient has the dtype of the first argument, whatever belongs to that."""
    dtype = np.dtype("f4", metadata={"unit": "nat"})
    x = np.ones((2, 3), dtype)
    for each in (lf.softmax(x), lf.mse_loss.grad(x, 0.0), lf.cross_entropy.grad(x, [0, 1])):
        assert each.dtype.metadata == dtype.metadata
    for order in "<>":
        check(lf.cross_entropy.value_and_grad, x.astype(f"{order}f4"), np.array([0, 1]), taken=None)


def test_other_kinds_of_arrays():
    """Lists, subclasses and scalars are converted first."""
    x, y = RNG.normal(size=(3, 4)), RNG.integers(0, 4, 3)
    for a, b in (
        (x.tolist(), y),
        (x, y.tolist()),
        (x.tolist(), y.tolist()),
        (x.view(type("Sub", (np.ndarray,), {})), y),
    ):
        check(lf.cross_entropy.value_and_grad, a, b)
        check(lf.softmax, a)
    check(lf.cross_entropy.value_and_grad, x.tolist(), y, reduction="no such", taken=None)
    check(lf.mse_loss, [1.0, 2.0], 0.5)
    check(lf.sigmoid, 1.5)


# ---------------------------------------------------------------------------------------------------- buffers


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", ">f8"])
def test_buffers(dtype):
    x, y = RNG.normal(size=(6, 5)).astype("f4"), RNG.integers(0, 5, 6)
    forms = {
        "C": lambda *shape: np.empty(shape, dtype),
        "F": lambda *shape: np.empty(shape, dtype, "F"),
        "a part": lambda *shape: np.empty([3 * n for n in shape], dtype)[tuple(slice(None, n) for n in shape)],
        "every second": lambda *shape: np.empty([2 * n for n in shape], dtype, "F")[
            tuple(slice(None, None, -2) for _ in shape)
        ],
    }
    for loss, target, rows in ((lf.cross_entropy, y, (6,)), (lf.huber_loss, x[::-1].copy(), (6, 5))):
        for form in forms.values():
            losses, grad, hess = form(*rows), form(6, 5), form(6, 5)
            with quickly() as gone:
                found = loss.value_and_grad(x, target, reduction="none", out=losses, grad_out=grad)
                assert found[0] is losses and found[1] is grad
                assert loss.grad(x, target, out=grad) is grad
                found = loss.grad_and_hess(x, target, hess_out=hess)
                assert found[1] is hess
                assert loss(x, target, reduction="none", out=losses) is losses
            assert not gone
            expected = losses.copy(), grad.copy(), hess.copy()
            with generally():
                loss.value_and_grad(x, target, reduction="none", out=losses)
                loss.grad(x, target, out=grad)
                loss.grad_and_hess(x, target, hess_out=hess)
            for one, two in zip(expected, (losses, grad, hess), strict=True):
                np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_gradient_over_the_first_argument(name, dtype):
    loss = REGISTRY[name]
    x, t = operands(loss, (7, 5), dtype)
    expected = loss.value_and_grad(x, t)
    for over in (x.copy(), np.asfortranarray(x)):
        with quickly() as gone:
            value, grad = loss.value_and_grad(over, t, grad_out=over)
        assert not gone and grad is over and value == expected[0]
        np.testing.assert_array_equal(over, expected[1])
    if loss.kind == "rowwise":  # everything else reads the logits before they are overwritten
        for shape in ((7, 5), (3, 70)):
            x, t = operands(loss, shape, dtype)
            names = ["grad", *(name for name in loss._evaluated if name != "grad")]
            over = x.copy()
            with quickly() as gone:
                found = loss.evaluate(over, t, want=names, grad_out=over)
            assert not gone
            for one, two in zip(found, loss.evaluate(x, t, want=names), strict=True):
                np.testing.assert_array_equal(one, two)


def test_buffers_that_are_refused():
    x, y = RNG.normal(size=(6, 5)), RNG.integers(0, 5, 6)
    block = np.zeros(80)
    inside = block[:30].reshape(6, 5)
    integers, mask = block[:6].view(np.int64), block.view(bool)[:30].reshape(6, 5)
    loss = lf.cross_entropy
    refused = {
        "shape": lambda: loss.grad(x, y, out=np.empty((5, 6))),
        "read-only": lambda: loss.grad(x, y, out=np.broadcast_to(0.0, (6, 5))),
        "integers": lambda: loss.grad(x, y, out=np.empty((6, 5), int)),
        "no array": lambda: loss.grad(x, y, out=[0.0]),
        "over itself": lambda: loss.grad(x, y, out=np.lib.stride_tricks.as_strided(block, (6, 5), (32, 8))),
        "over itself, turned": lambda: loss.grad(x, y, out=np.lib.stride_tricks.as_strided(block, (6, 5), (8, 40))),
        "all over itself": lambda: loss.grad(x, y, out=np.lib.stride_tricks.as_strided(block, (6, 5), (0, 8))),
        "reduced": lambda: loss(x, y, out=np.empty(6)),
        "over the logits, shifted": lambda: loss.grad(inside, y, out=block[1:31].reshape(6, 5)),
        "over the logits, turned": lambda: loss.grad(block[:25].reshape(5, 5), y[:5], out=block[:25].reshape(5, 5).T),
        "over the labels": lambda: loss.grad(x[:, :1].copy(), integers, out=block[:6, None]),
        "over the weights": lambda: loss.grad(x[:, 0:1].copy(), y * 0, sample_weight=block[:6], out=block[:6, None]),
        "losses over the logits": lambda: loss(inside, y, reduction="none", out=block[24:30]),
        "over each other": lambda: loss.value_and_grad(x, y, reduction="none", out=block[29:35], grad_out=inside),
        "softmax over itself": lambda: lf.softmax(inside, out=inside),
        "over the target": lambda: lf.mse_loss.grad(x, inside, out=inside),
        "the class weights": lambda: loss.grad(x, y, class_weight=block[29:34], out=inside),
        "the mask": lambda: lf.mse_loss.grad(x, x, where=mask, out=inside),
        "the direction": lambda: loss.hvp(x, y, inside, out=inside),
        "pred's dtype": lambda: loss.evaluate(x, y, want="pred", pred_out=np.empty(6, np.int32)),
    }
    for what, call in refused.items():
        before = block.copy()
        with quickly():
            error = outcome(call)
        assert isinstance(error, tuple) and error[0] in (TypeError, ValueError), what
        with generally():
            assert outcome(call) == error, what
        np.testing.assert_array_equal(block, before, what)


# ------------------------------------------------------------------------------------------- errors and edges


def test_errors():
    x, y = RNG.normal(size=(6, 5)), RNG.integers(0, 5, 6)
    bad = y.copy()
    bad[3], bad[4] = 5, -1
    loss = lf.cross_entropy
    grad = np.full((6, 5), 7.0)
    wrong = {
        "labels": lambda: loss.grad(x, bad, out=grad),
        "label's shape": lambda: loss.grad(x, y[:5], out=grad),
        "floating labels": lambda: loss.grad(x, y.astype(float), out=grad),
        "targets' shape": lambda: loss.grad(x, x[:, :4], out=grad),
        "distribution": lambda: loss.grad(x, x, check="distribution", out=grad),
        "axis": lambda: loss.grad(x, y, axis=2, out=grad),
        "no axis": lambda: loss.grad(x, y, axis=1.0, out=grad),
        "class_weight": lambda: loss.grad(x, y, class_weight=np.ones(4), out=grad),
        "sample_weight": lambda: loss.grad(x, y, sample_weight=np.ones((6, 5)), out=grad),
        "where": lambda: loss.grad(x, y, where=np.ones((6, 4), bool), out=grad),
        "no mask": lambda: loss.grad(x, y, where=np.ones((6, 5)), out=grad),
        "complex weights": lambda: loss.grad(x, y, sample_weight=np.ones(6, complex), out=grad),
        "complex logits": lambda: loss.grad(x + 0j, y, out=grad),
        "objects": lambda: loss.grad(x, y.astype(object), out=grad),
        "no option": lambda: loss.grad(x, y, beta=1.0, out=grad),
        "smoothing": lambda: loss.grad(x, y, label_smoothing=1.5, out=grad),
        "temperature": lambda: loss.grad(x, y, temperature=math.nan, out=grad),
        "text": lambda: loss.grad(x, y, temperature="warm", out=grad),
        "reduction": lambda: loss.grad(x, y, reduction="most", out=grad),
        "denominator": lambda: loss.grad(x, y, denominator=math.inf, out=grad),
        "denominator of a sum": lambda: loss.grad(x, y, denominator=2.0, reduction="sum", out=grad),
        "threads": lambda: loss.grad(x, y, n_threads=1.5, out=grad),
        "nothing": lambda: loss.grad(x, y, ignore_index=0, sample_weight=np.zeros(6), empty="raise", out=grad),
        "direction": lambda: loss.hvp(x, y, x[:5], out=grad),
        "no direction": lambda: loss.hvp(x, y, None, out=grad),
        "shapes": lambda: lf.mse_loss.grad(x, x[:5], out=grad),
        "weights of pred": lambda: lf.mse_loss.grad(x, x, sample_weight=np.ones(5), out=grad),
        "a number for weights": lambda: lf.mse_loss.grad(x, x, sample_weight=1.0, out=grad),
        "pos_weight": lambda: lf.binary_cross_entropy_with_logits.grad(x, x, pos_weight=np.ones(1), out=grad),
        "delta": lambda: lf.huber_loss.grad(x, x, delta=0.0, out=grad),
        "no direction of pred": lambda: lf.mse_loss.hvp(x, x, None, out=grad),
        "no direction of x": lambda: lf.sigmoid.vjp(x, None, out=grad),
        "no direction of rows": lambda: lf.softmax.vjp(x, None, out=grad),
    }
    for what, call in wrong.items():
        with quickly():
            error = outcome(call)
        assert isinstance(error, tuple) and issubclass(error[0], (TypeError, ValueError, IndexError)), what
        with generally():
            assert outcome(call) == error, what
        np.testing.assert_array_equal(grad, 7.0, what)


def test_a_parameter_is_checked_each_time():
    """The last one that was accepted is not asked about again; another is."""
    x = RNG.normal(size=4)
    for delta in (0.5, 0.5, 0.25):
        check(lf.huber_loss, x, 0.0, delta=delta)
    for delta in (-0.5, math.nan, 0.0, -0.0):
        with pytest.raises(ValueError, match="delta must be"):
            lf.huber_loss(x, 0.0, delta=delta)
    check(lf.huber_loss, x, 0.0, delta=0.25)


def test_empties():
    for shape in ((0, 3), (0,), (3, 0)):
        for name in REGISTRY:
            loss = REGISTRY[name]
            for method in methods_of(loss):
                if method != "weigh":
                    given = operands(loss, shape) if shape[-1] else [np.empty(shape), np.zeros(shape[:-1], int)]
                    check(getattr(loss, method), *given[: len(loss.operands)], taken=None)
    x, y = RNG.normal(size=(3, 4)), np.zeros(3, int)
    for empty in ("nan", "zero", "raise"):
        check(lf.cross_entropy.value_and_grad, x, y, ignore_index=0, empty=empty, taken=None)
        check(lf.mse_loss.value_and_grad, x, x, sample_weight=np.zeros(3), empty=empty, taken=None)
    check(lf.cross_entropy, x, y, denominator=0.0, taken=False)


SCALES = (
    0.0,
    5e-324,
    1e-310,
    1e-200,
    1e-100,
    1e-30,
    1.0,
    3.7,
    1e30,
    1e99,
    1e101,
    1e150,
    1e200,
    1e308,
    math.inf,
    math.nan,
)


def test_quotients():
    """The division of the sum, at every magnitude of sum and divisor."""
    for a, b in itertools.product(SCALES, SCALES):
        with np.errstate(all="ignore"):
            x, w = RNG.normal(size=9) * a, RNG.random(9) * b
        for loss in (lf.l1_loss, lf.mse_loss):
            check(loss, x, 0.0, sample_weight=w, taken=None)
            check(loss, x, 0.0, denominator=b, taken=None)
            check(loss.value_and_grad, x, x[::-1], sample_weight=w, taken=None)


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(st.integers(0, 2**64 - 1), st.sampled_from(["f8", "f4"]), st.integers(-40, 40))
def test_quotients_of_ordinary_sums(seed, dtype, scale):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 200))
    x, w = (rng.normal(size=n) * 10.0 ** (scale / 4)).astype(dtype), rng.random(n)
    for options in ({}, {"sample_weight": w}, {"denominator": float(rng.random())}):
        check(lf.mse_loss.value_and_grad, x, 0.0, **options)


def test_large_calls_are_declined():
    """What is worth several threads is cut into slices, whose sums are combined in order."""
    compiled = backends.load("compiled")
    for n, taken in ((compiled.SLICE, True), (compiled.SLICE + 1, False)):
        x = RNG.normal(size=n).astype("f4")
        check(lf.mse_loss, x, 0.0, taken=taken)
        check(lf.cross_entropy, x[None], np.zeros(1, int), taken=taken)


# -------------------------------------------------------------------------------------------------- the objects


def test_bound_objects():
    x, y = RNG.normal(size=(6, 5)).astype("f4"), RNG.integers(0, 5, 6)
    w = RNG.random(6)
    loss = lf.cross_entropy.bind(sample_weight=w, label_smoothing=0.1)
    for each in (loss, pickle.loads(pickle.dumps(loss)), copy.copy(loss), loss.bind(reduction="none")):
        check(each.value_and_grad, x, y)
    check(loss, x, y, sample_weight=None)
    before = loss(x, y)
    w *= RNG.random(6)  # the array itself is bound, not what it held
    assert loss(x, y) != before
    check(loss, x, y)
    check(lf.cross_entropy, x, y)
    check(lf.cross_entropy.bind(class_weight=[1.0, 2.0, 1.0, 1.0, 1.0]), x, y, taken=False)
    check(lf.logsumexp.bind(axis=None), x, taken=False)
    check(lf.softmax.bind(axis=0), x)


def test_evaluate():
    x, y = RNG.normal(size=(6, 5)), RNG.integers(0, 5, 6)
    check(lf.cross_entropy.evaluate, x, y)
    check(lf.cross_entropy.evaluate, x, y, reduction="none")
    check(lf.cross_entropy.evaluate, x, np.full((6, 5), 0.2))
    pred, correct = np.empty(6, np.intp), np.empty(6, bool)
    with quickly() as gone:
        found = lf.cross_entropy.evaluate(x, y, want=("pred", "correct", "loss"), pred_out=pred, correct_out=correct)
    assert found.pred is pred and found.correct is correct and not gone
    np.testing.assert_array_equal(pred, x.argmax(1))
    before = x.copy()
    with pytest.raises(ValueError, match="duplicate"):
        lf.cross_entropy.evaluate(x, y, want=("grad", "grad"), grad_out=x)
    np.testing.assert_array_equal(x, before)


def test_only_the_compiled_backend_has_it(monkeypatch):
    x, y = RNG.normal(size=(6, 5)), RNG.integers(0, 5, 6)
    with lf.use_backend("compiled"):
        lf.cross_entropy(x, y)
    assert lf.cross_entropy._quick is not None
    monkeypatch.setattr(lf.cross_entropy, "_quick", types.SimpleNamespace(run=lambda *args: 1 / 0))
    with lf.use_backend("numpy"):
        assert lf.cross_entropy(x, y) > 0
    with lf.use_backend("compiled"), pytest.raises(ZeroDivisionError):
        lf.cross_entropy(x, y)


def test_instruction_sets_and_threads(compiled):
    """Both are looked up anew in each call."""
    x, y = (RNG.normal(size=(50, 70)) * 20).astype("f4"), RNG.integers(0, 70, 50)
    expected = {}
    for isa in lf.isas():
        with lf.use_isa(isa), generally():
            expected[isa] = lf.softmax(x), lf.cross_entropy(x, y)
    for isa in lf.isas():
        with lf.use_isa(isa), quickly() as gone, lf.set_num_threads(3):
            assert identical((lf.softmax(x), lf.cross_entropy(x, y)), expected[isa])
        assert not gone


@has_fenv
@pytest.mark.parametrize("setting", ["upward", "downward", "toward zero", "subnormals flushed"])
def test_the_callers_floating_point_state(setting):
    """No bit of sums, weights and quotients depends on it either, and it is left as it was found."""
    state, names = FloatingState(), ("cross_entropy", "mse_loss", "l1_loss", "softmax")
    calls = [call_of(REGISTRY[name], "__call__", (7, 5), np.float64) for name in names]
    tiny = [RNG.random(7) * 1e-310, RNG.random(7)]
    calls += [lambda: lf.l1_loss.value_and_grad(tiny[0], 0.0, sample_weight=tiny[1])]
    calls += [lambda: lf.l1_loss.value_and_grad(tiny[1], 0.0, sample_weight=tiny[1], where=tiny[1] > 0.1)]
    expected = [call() for call in calls]
    kept, _ = state.environment()
    state.set(state.settings[setting])
    before = state.get()
    try:
        with quickly() as gone:
            found = [call() for call in calls]
        after = state.get()
    finally:
        state.restore(kept)
    assert after == before != state.get()
    assert not gone and all(map(identical, found, expected))


def test_many_python_threads():
    """Calls that let others have the interpreter meanwhile, and calls that do not."""
    problems = [(RNG.normal(size=n), RNG.normal(size=n)) for n in (10, 20_000, 60_000)] * 2
    rows = [(RNG.normal(size=(n, 10)), RNG.integers(0, 10, n)) for n in (3, 2_000, 6_000)] * 2
    expected = [lf.huber_loss.value_and_grad(*p) for p in problems], [lf.cross_entropy.value_and_grad(*p) for p in rows]
    wrong = []

    def work(number):
        for _ in range(60):
            if not identical(lf.huber_loss.value_and_grad(*problems[number]), expected[0][number]):
                wrong.append(("huber_loss", number))
            if not identical(lf.cross_entropy.value_and_grad(*rows[number]), expected[1][number]):
                wrong.append(("cross_entropy", number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    with quickly() as gone:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong and not gone
