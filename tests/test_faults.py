"""Special values and faults, one by one, through the public interface, on every backend and instruction set.

The number in a test's name is that of the fault in the numerics contract; faults.py has them all, clause by clause.
"""

import concurrent.futures
import ctypes
import math
import mmap
import multiprocessing
import operator
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
import zipfile

import faults
import ml_dtypes
import numpy as np
import pytest
from parameters import ELEMENTS_OUTSIDE, SINGLE, outside_of, within
from variants import COMPILED, VARIANTS

import lossfast as lf
from lossfast import _threads
from lossfast._loss import inside, looped
from lossfast.selftest import fitting

REGISTRY = looped()

INF, NAN = math.inf, math.nan
LOSSES = [loss for loss in REGISTRY.values() if loss.kind in ("pointwise", "rowwise")]
POINTWISE = [loss for loss in LOSSES if loss.kind == "pointwise"]
ROWWISE = [loss for loss in LOSSES if loss.kind == "rowwise"]
SOFTMAX = [loss for loss in ROWWISE if "proba" in loss.outputs]
LABELLED = [loss for loss in ROWWISE if loss.labelled]

each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
each_row_loss = pytest.mark.parametrize("loss", ROWWISE, ids=lambda loss: loss.name)
each_labelled = pytest.mark.parametrize("loss", LABELLED, ids=lambda loss: loss.name)
each_softmax = pytest.mark.parametrize(
    "loss",
    SOFTMAX + [loss for loss in REGISTRY.values() if loss.kind == "row_function" and not loss.entrywise],
    ids=lambda loss: loss.name,
)
each_soft = pytest.mark.parametrize("loss", [loss for loss in ROWWISE if loss.soft], ids=lambda loss: loss.name)
each_object = pytest.mark.parametrize("loss", list(SINGLE.values()), ids=lambda loss: loss.name)
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX alone has it")


@pytest.fixture(autouse=True)
def every(variant):
    with variant.chosen(), warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def same(got, expected, ulp=4):
    """Equal in kind (finite, infinite, NaN), and where finite within a few units in the last place."""
    got = np.asarray(got)
    with np.errstate(over="ignore"):
        expected = np.broadcast_to(np.asarray(expected, got.dtype), got.shape)
    for kind in (np.isnan, np.isposinf, np.isneginf):
        np.testing.assert_array_equal(kind(got), kind(expected))
    finite = np.isfinite(expected)
    np.testing.assert_array_max_ulp(got[finite], expected[finite], ulp)


# ------------------------------------------------------------------------------------------------------ values

#: (fault, logits, label, loss, gradient, softmax, log-sum-exp) of a row
ROWS = [
    (1, [0, NAN, 1], 0, NAN, [NAN] * 3, [NAN] * 3, NAN),
    (2, [0, -INF, 0], 0, math.log(2), [-0.5, 0, 0.5], [0.5, 0, 0.5], math.log(2)),
    (2, [0, -INF, 0], 1, INF, [0.5, -1, 0.5], [0.5, 0, 0.5], math.log(2)),
    (3, [-INF] * 3, 0, NAN, [NAN] * 3, [NAN] * 3, -INF),
    (4, [1, INF, 0], 1, 0, [0, 0, 0], [0, 1, 0], INF),
    (4, [1, INF, 0], 0, INF, [-1, 1, 0], [0, 1, 0], INF),
    (4, [-INF, INF, -INF], 1, 0, [0, 0, 0], [0, 1, 0], INF),
    (4, [INF, INF, 0], 0, NAN, [NAN] * 3, [NAN] * 3, NAN),
    (4, [INF, 0, NAN], 0, NAN, [NAN] * 3, [NAN] * 3, NAN),
    (5, [3e38, -3e38, 0], 0, 0, [0, 0, 0], [1, 0, 0], 3e38),
    (5, [3e38, -3e38, 0], 1, 6e38, [1, -1, 0], [1, 0, 0], 3e38),
    (6, [-3e38] * 3, 1, math.log(3), [1 / 3, -2 / 3, 1 / 3], [1 / 3] * 3, -3e38),
    (11, [0.0, -0.0, 0.0], 1, math.log(3), [1 / 3, -2 / 3, 1 / 3], [1 / 3] * 3, math.log(3)),
]
#: few classes; many; more than go into one chunk
WIDTHS = [3, 200, 130_000]


@each_dtype
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]:02}-{row[1]}-{row[2]}".replace(" ", ""))
def test_rows(row, width, dtype):
    _, logits, label, loss, grad, proba, lse = row
    if width > 1000 and dtype == np.float64:
        pytest.skip("the walk over chunks is the same for both")
    x = np.full((3, width), -INF, dtype)
    x[:, :3] = [[0.5, 1, 2], logits, [0.5, 1, 2]]
    grad, proba = ([NAN] * width if math.isnan(a[0]) else [*a, *[0] * (width - 3)] for a in (grad, proba))
    labels = np.array([2, label, 2])
    for targets in (labels, np.eye(width, dtype=dtype)[labels]) if width < 1000 else (labels,):
        value, slope = lf.cross_entropy.value_and_grad(x, targets, reduction="none")
        same(value[1], loss)
        same(slope[1], grad)
        hess = lf.cross_entropy.grad_and_hess(x, targets, reduction="none")[1]
        same(hess[1], np.array(proba) * (1 - np.array(proba)))
        for result in (value, slope, hess):  # other rows know nothing of it
            assert np.array_equal(result[0], result[2]) and np.isfinite(result[0]).all()
        mean = lf.cross_entropy(x, targets)
        if math.isfinite(loss):
            assert math.isclose(mean, (loss + 2 * float(value[0])) / 3, rel_tol=1e-6)
        else:
            assert mean == loss or math.isnan(mean) and math.isnan(loss)
    same(lf.softmax(x)[1], proba)
    same(lf.logsumexp(x)[1], lse)
    same(np.exp(lf.log_softmax(x)[1].astype(float)), proba, ulp=1 << 40 if dtype == np.float32 else 64)


def every_output(loss, x, targets, **options):
    """All that a row loss or function gives of each row, by name, but for what is not a number."""
    if loss.kind == "row_function":
        result = loss(x, **options)
        v = np.ones_like(result) if result.ndim == 1 else np.where(np.isneginf(x), 0, np.ones_like(x))
        return {"result": result, "vjp": loss.vjp(x, v, **options)}
    results = loss.evaluate(x, targets, reduction="none", **options)._asdict()
    return {name: result for name, result in results.items() if result.dtype.kind == "f"}


def assert_canonical(nans):
    """They have the bits of `numpy.nan`, as on every processor; those that NumPy itself makes may have a sign."""
    if lf.get_backend() == "compiled":
        nans = np.asarray(nans)
        assert nans.tobytes() == np.full(nans.shape, NAN, nans.dtype).tobytes()


@each_dtype
@pytest.mark.parametrize("width", [5, 70])
@each_softmax
def test_01_nan_makes_its_row_nan_and_no_other(loss, width, dtype):
    clean = np.random.default_rng(0).normal(size=(5, width)).astype(dtype)
    spoilt = clean.copy()
    spoilt[2, 3] = NAN
    others = [0, 1, 3, 4]
    labels = np.array([0, 1, 2, 3, 4])
    soft = np.random.default_rng(1).dirichlet(np.ones(width), 5).astype(dtype)
    if loss.kind == "rowwise" and not loss.labelled:
        labels = np.flip(clean, 1)
    for targets in (labels, soft) if getattr(loss, "soft", False) else (labels,):
        before, after = (every_output(loss, x, targets) for x in (clean, spoilt))
        for name, result in after.items():
            assert np.isnan(result[2]).all(), name
            assert_canonical(result[2])
            assert np.array_equal(result[others], before[name][others]), name
        if loss.kind == "rowwise":
            assert math.isnan(loss(spoilt, targets)) and math.isnan(loss.reduce(spoilt, targets).mean)


@each_dtype
@pytest.mark.parametrize("loss", [*POINTWISE, lf.sigmoid, lf.log_sigmoid], ids=lambda loss: loss.name)
def test_01_nan_makes_its_element_nan_and_no_other(loss, dtype):
    clean = np.random.default_rng(0).normal(size=40).astype(dtype)
    is_spoilt = np.isin(np.arange(40), [3, 39])
    if loss.kind == "function":
        pairs = [(np.where(is_spoilt, dtype(NAN), clean), None)]
    else:
        x, t = within(loss, clean, clean)
        pairs = [(np.where(is_spoilt, dtype(NAN), x), t), (x, np.where(is_spoilt, dtype(NAN), t))]
    for given in pairs:
        if loss.kind == "function":
            results = [(loss(x), loss.vjp(x, np.ones_like(x))) for x in (clean, given[0])]
        else:
            every = [(x, t), given]
            results = [loss.evaluate(*operands, reduction="none") for operands in every]
            assert math.isnan(loss(*given))
        for before, after in zip(*results, strict=True):
            assert np.array_equal(np.isnan(after), is_spoilt)
            assert_canonical(after[np.isnan(after)])
            assert np.array_equal(after[~is_spoilt], before[~is_spoilt])


@each_dtype
@pytest.mark.parametrize("width", [5, 70])
@each_softmax
def test_02_a_class_that_cannot_be_changes_no_other(loss, width, dtype):
    """The row is as one without that class."""
    x = np.random.default_rng(0).normal(size=(6, width)).astype(dtype)
    masked, labels = np.insert(x, 2, -INF, axis=1), np.array([0, 1, 3, 4, 0, 4])
    soft = np.random.default_rng(1).dirichlet(np.ones(width), 6).astype(dtype)
    pairs = [(labels, labels - (labels > 2))]
    if loss.kind == "rowwise" and not loss.labelled:
        other = np.flip(x, 1)
        pairs = [(np.insert(other, 2, -INF, axis=1), other)]
    if getattr(loss, "soft", False):
        pairs.append((np.insert(soft, 2, 0, axis=1), soft))
    for with_it, without in pairs:
        results, expected = every_output(loss, masked, with_it), every_output(loss, np.delete(masked, 2, 1), without)
        for name, right in expected.items():
            got = results[name]
            if got.ndim == 2 and got.shape[1] == width + 1:
                left_out = got[:, 2]
                if name in ("grad", "hess", "proba", "vjp"):
                    assert not left_out.any(), name
                got = np.delete(got, 2, 1)
            eps = np.finfo(dtype).eps
            np.testing.assert_allclose(got, right, rtol=64 * eps, atol=8 * eps, err_msg=name)


@each_dtype
@pytest.mark.parametrize("width", [3, 70])
def test_04_one_infinity_is_the_limit(width, dtype):
    x = np.zeros((1, width), dtype)
    x[0, 1] = INF
    same(lf.log_softmax(x), np.where(np.arange(width) == 1, 0, -INF)[None])
    for label in (0, 1):
        assert not lf.cross_entropy.grad_and_hess(x, [label])[1].any()
    several = x.copy()
    several[0, 2] = INF
    for function in (lf.softmax, lf.log_softmax):
        assert np.isnan(function(several)).all()
    assert np.isnan(lf.logsumexp(several)).all()


@each_dtype
def test_03_a_row_masked_out_whole_is_0(dtype):
    x = np.array([[NAN, INF, -INF], [1, 2, 3]], dtype)
    where = np.array([[False] * 3, [True] * 3])
    for loss in SOFTMAX:
        target = np.array([0, 0]) if loss.labelled else np.ones((2, 3), dtype)
        value, grad = loss.value_and_grad(x, target, where=where, reduction="none")
        assert value[0] == 0 and not grad[0].any() and loss(x, target, where=where) == float(loss(x[1:], target[1:]))
    assert not lf.softmax(x, where=where)[0].any() and lf.logsumexp(x, where=where)[0] == -INF


def test_05_a_float64_loss_that_overflows_is_infinite():
    value, grad = lf.cross_entropy.value_and_grad([[1.7e308, -1.7e308, 0]], [1])
    assert value == INF
    same(grad, [[1, -1, 0]])
    same(lf.softmax([1.7e308, -1.7e308, 1.7e308]), [0.5, 0, 0.5])


@each_dtype
def test_07_a_soft_label_of_0_is_0_at_a_logit_of_minus_infinity(dtype):
    x, t = np.array([[0, 0, -INF]], dtype), np.array([[0.5, 0.5, 0]], dtype)
    value, grad = lf.cross_entropy.value_and_grad(x, t)
    same([value], [math.log(2)])
    assert not grad.any()


@each_dtype
def test_07_divergences_where_a_probability_is_0(dtype):
    """A class without probability adds nothing; one that has some where the other has none makes it infinite."""
    divergence = lf.get_loss("kl_div_from_logits")
    p = np.array([[0, 0, -INF], [0, 0, 0], [0, 0, -INF], [0, -INF, 0]], dtype)
    q = np.array([[0, 0, 0], [0, -INF, 0], [0, 0, -INF], [0, 0, -INF]], dtype)
    same(divergence(p, q, reduction="none"), [math.log(1.5), INF, 0, INF])


#: (loss, options, x, t, value, gradient)
POINTS = [
    ("08", "binary_cross_entropy_with_logits", {}, INF, 1, 0, 0),
    ("08", "binary_cross_entropy_with_logits", {}, -INF, 0, 0, 0),
    ("08", "binary_cross_entropy_with_logits", {}, INF, 0, INF, 1),
    ("08", "binary_cross_entropy_with_logits", {}, -INF, 1, INF, -1),
    ("09", "mse_loss", {}, 1e200, 0, INF, 2e200),
    ("09", "smooth_l1_loss", {"beta": 1.0}, 1e300, 0, 1e300, 1),
    ("09", "smooth_l1_loss", {"beta": 1e300}, 1e200, 0, 5e99, 1e-100),
    ("09", "smooth_l1_loss", {"beta": 1.7e308}, 1e308, -1e308, 1.15e308, 1),
    ("09", "huber_loss", {"delta": 0.25}, 1.5e308, -1.5e308, 7.5e307, 0.25),
    ("09", "huber_loss", {"delta": 2.0}, -INF, 0, INF, -2),
    ("11", "l1_loss", {}, -0.0, 0, 0, 0),
]
#: of float32
POINTS_32 = [
    *(case for case in POINTS if case[0] != "09"),
    ("09", "mse_loss", {}, 1e20, 0, INF, 2e20),
    ("09", "smooth_l1_loss", {"beta": 1e30}, 1e20, 0, 5e9, 1e-10),
    ("09", "smooth_l1_loss", {"beta": 3.4e38}, 2e38, -2e38, 2.3e38, 1),
    ("09", "huber_loss", {"delta": 0.25}, 3e38, -3e38, 1.5e38, 0.25),
    ("09", "huber_loss", {"delta": 2.0}, -INF, 0, INF, -2),
]
CASES = [(np.float64, *case) for case in POINTS] + [(np.float32, *case) for case in POINTS_32]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[1]}-{case[2]}-{case[4]}-{case[5]}-{case[0].__name__}")
def test_points(case):
    dtype, fault, name, options, x, t, value, grad = case
    x, t = np.array([x], dtype), np.array([t], dtype)
    got = lf.get_loss(name).value_and_grad(x, t, reduction="none", **options)
    same(got[0], [value])
    same(got[1], [grad])
    if fault == "08":
        assert not lf.get_loss(name).grad_and_hess(x, t, reduction="none", **options)[1].any()


@each_dtype
@pytest.mark.parametrize("loss", POINTWISE, ids=lambda loss: loss.name)
def test_09_what_can_be_represented_is_right_though_parts_of_it_overflow(loss, dtype):
    """By the twin in a type of a wider range."""
    wide = np.float64 if dtype == np.float32 else np.longdouble
    if np.finfo(wide).maxexp == np.finfo(dtype).maxexp:
        pytest.skip("long double has no wider range here")
    most = np.finfo(dtype).max
    sizes = np.array([most, most / 2, most / 3, np.sqrt(most), 4 * np.sqrt(most), 1, np.finfo(dtype).tiny, 0], dtype)
    x, t = (a.ravel() for a in np.meshgrid(np.concatenate((sizes, -sizes)), np.concatenate((sizes, -sizes))))
    if loss in (lf.binary_cross_entropy_with_logits, lf.sigmoid_focal_loss):  # whose targets are probabilities
        t = np.where(np.abs(t) > 1, 1, np.abs(t)).astype(dtype)
    x, t = within(loss, x, t)
    parameters = list(map(wide, loss.own_numbers()))
    with np.errstate(all="ignore"):
        true = loss.twin(x.astype(wide), t.astype(wide), wide(1), *parameters)[:2]
        expected = [np.broadcast_to(result, x.shape).astype(dtype) for result in true]
    value, grad = loss.value_and_grad(x, t, reduction="none")
    same(value, expected[0])
    same(grad, expected[1])


@pytest.mark.parametrize("links", [{}, {"link": "identity"}], ids=["", "identity"])
@pytest.mark.parametrize("loss", POINTWISE, ids=lambda loss: loss.name)
def test_09_what_is_beyond_the_range_of_a_float_until_it_is_weighed_or_divided(loss, links):
    """A mean, a weighted loss and their derivatives are right if they can be represented, whatever one element is."""
    if not links.keys() <= loss.parameters.keys():
        pytest.skip("it has no link")
    sizes = np.array([3e38, 3e30, 2e19, 90, 60, 1, 1e-20, 1e-38, 1e-44], np.float32)
    x, t = (a.ravel() for a in np.meshgrid(np.concatenate((sizes, -sizes)), np.concatenate((sizes, -sizes))))
    if loss in (lf.binary_cross_entropy_with_logits, lf.sigmoid_focal_loss):  # whose targets are probabilities
        t = np.where(np.abs(t) > 1, 1, np.abs(t)).astype(np.float32)
    x, t = within(loss, x, t)
    if links:
        x = np.abs(x)
    with np.errstate(all="ignore"):
        true = loss.twin(x.astype(float), t.astype(float), 1.0, *map(np.float64, loss.own_numbers(links)))
        true = [np.broadcast_to(result, x.shape) for result in true][: 3 if "hess" in loss.outputs else 2]
    kept = np.abs(true).max(axis=0) < 1e100  # or NaN
    x, t, true = x[kept], t[kept], [result[kept] for result in true]
    down = 2.0**-40
    weighed = {"sample_weight": np.full(x.shape, down), "reduction": "none"}
    divided = {"denominator": 1 / down}
    with np.errstate(all="ignore"):
        expected = [(result * down).astype(np.float32) for result in true]
    beyond = np.abs(true) > float(np.finfo(np.float32).max)
    for options, first in ((weighed, 0), (divided, 1)):
        names = ["loss", "grad", "hess"][first : len(true)]
        for number, result in enumerate(loss.evaluate(x, t, want=names, **links, **options), first):
            same(np.where(beyond[number], result, 0), np.where(beyond[number], expected[number], 0))
            assert np.array_equal(np.isfinite(result), np.isfinite(expected[number]))
    room = 1e-6 * math.fsum(np.abs(true[0])) * down
    assert loss(x, t, **links, **divided) == pytest.approx(math.fsum(true[0]) * down, rel=0, abs=room)


@each_dtype
@each_loss
@pytest.mark.parametrize("nothing", [NAN, INF, -INF], ids=str)
def test_10_what_counts_for_nothing_is_not_read(loss, dtype, nothing):
    x = inside(loss, "pred", np.random.default_rng(0).normal(size=(5, 4)).astype(dtype))
    bad = x.copy()
    bad[1], bad[3, 2] = nothing, nothing
    weight, where = np.array([1.0, 0, 2, 1, 1]), np.ones(x.shape, bool)
    where[3, 2] = False
    x, compared = fitting(loss, x, np.abs(x))
    if loss.takes:
        bad = np.where(np.isfinite(bad), x, bad)
    targets = [np.array([0, 1, 2, 3, 0]) if loss.labelled else compared]
    if getattr(loss, "soft", False):
        targets.append(np.random.default_rng(1).dirichlet(np.ones(4), 5).astype(dtype))
        targets[-1][3, 2] = 0
    for target in targets:
        outcomes = []
        for values in (x, bad):
            options = {"sample_weight": weight, "where": where}
            value, grad = loss.value_and_grad(values, target, **options)
            each = loss(values, target, reduction="none", **options)
            rest = list(loss.grad_and_hess(values, target, **options)) if "hess" in loss.outputs else []
            outcomes.append([value, grad, each, *rest])
        for clean, spoilt in zip(*outcomes, strict=True):
            assert np.array_equal(clean, spoilt) and np.isfinite(clean).all()
        assert not outcomes[1][1][1].any() and outcomes[1][1][3, 2] == 0
    if loss.kind == "rowwise" and not loss.labelled:  # nor in the other logits
        options = {"sample_weight": weight, "where": where}
        other, wrong = (x, bad) if len(set(loss.takes)) < 2 else (compared, np.where(np.isfinite(bad), compared, bad))
        clean, spoilt = (loss.value_and_grad(x[::-1], values, **options) for values in (other, wrong))
        assert clean[0] == spoilt[0] and np.array_equal(clean[1], spoilt[1]) and np.isfinite(clean[1]).all()
    if loss.labelled:
        labels = np.array([0, -100, 2, 3, 0])
        clean, spoilt = (loss.value_and_grad(values, labels, where=where) for values in (x, bad))
        assert clean[0] == spoilt[0] and np.array_equal(clean[1], spoilt[1])


@each_dtype
@each_softmax
def test_10_weight_0_silences_an_infinite_loss(loss, dtype):
    x = np.array([[1, -INF, 0], [1, 0, 2]], dtype)
    if loss.kind == "row_function":
        where = np.array([[True, False, True]] * 2)
        for nothing in (NAN, INF, -INF):
            spoilt = np.where(where, x, dtype(nothing))
            assert loss(spoilt, where=where).tobytes() == loss(np.where(where, x, 0), where=where).tobytes()
        return
    if loss.labelled:
        labels, weights = np.array([1, 0]), ({"sample_weight": [0, 1]}, {"class_weight": [1, 0, 1]})
    else:  # infinitely far apart
        x[0], labels, weights = 0, np.array([[0, -INF, 0], [0, 1, 1]], dtype), ({"sample_weight": [0, 1]},)
        assert loss(x, labels) == INF
    expected = float(loss(x[1:], labels[1:]))
    for options in weights:
        value, grad = loss.value_and_grad(x, labels, reduction="none", **options)
        assert value[0] == 0 and not grad[0].any() and np.isfinite(value).all()
        assert loss(x, labels, **options) == loss.reduce(x, labels, **options).mean == pytest.approx(expected, rel=1e-7)


@each_dtype
@pytest.mark.parametrize("loss", [loss for loss in SINGLE.values() if loss not in LOSSES], ids=lambda loss: loss.name)
def test_11_zeros_of_both_signs_give_functions_the_same(loss, dtype):
    zeros = np.zeros((4, 4), dtype)
    assert loss(np.where(np.eye(4), -zeros, zeros)).tobytes() == loss(zeros).tobytes()


@each_dtype
@each_loss
def test_11_zeros_of_both_signs_give_the_same(loss, dtype):
    zeros = np.zeros((4, 4), dtype)
    zeros[::2, ::2] = -0.0
    target = np.zeros(4, int) if loss.labelled else np.where(np.eye(4), -0.0, 0.0).astype(dtype)
    positive = np.abs(target)
    if loss.kind == "pointwise":
        zeros, target, positive = (*within(loss, zeros, target), inside(loss, "target", positive))
    plain = loss.value_and_grad(np.abs(zeros), positive, reduction="none")
    signed = loss.value_and_grad(zeros, target, reduction="none")
    for a, b in zip(plain, signed, strict=True):
        assert a.tobytes() == b.tobytes()


# ------------------------------------------------------------------------------------------------------ labels


@each_labelled
@pytest.mark.parametrize("shape", [(1000, 4), (300, 100), (8, 2, 3, 4)], ids=str)
@pytest.mark.parametrize("dtype", ["i1", "i8", ">i4", "u8"])
def test_12_labels_out_of_range(loss, shape, dtype):
    C, n = shape[-1], math.prod(shape[:-1])
    labels = np.arange(n) % C
    bad = [n // 2, n // 2 + 1, n - 1]
    wrong = {"i1": -1, "i8": -(2**40), ">i4": 2**31 - 1, "u8": 2**63 + 7}[dtype]
    labels = labels.astype(dtype).reshape(shape[:-1])
    labels.ravel()[bad] = wrong
    [x] = fitting(loss, np.random.default_rng(2).normal(size=shape))
    out, grad_out = np.full(shape[:-1], 7.0), np.full(shape, 7.0)
    place = tuple(int(i) for i in np.unravel_index(bad[0], shape[:-1]))
    place = place if len(place) > 1 else place[0]
    for n_threads in (1, 3):
        with pytest.raises(IndexError) as caught:
            loss.value_and_grad(x, labels, reduction="none", out=out, grad_out=grad_out, n_threads=n_threads)
        assert str(caught.value) == f"target {wrong} at row {place} is out of bounds for {C} classes (3 such rows)"
        assert (out == 7).all() and (grad_out == 7).all()
    value, grad = loss.value_and_grad(x, labels, reduction="none", check=False)
    gone = np.isin(np.arange(n), bad).reshape(shape[:-1])
    assert np.array_equal(np.isnan(value), gone) and np.array_equal(np.isnan(grad).all(-1), gone)
    assert np.array_equal(np.isnan(grad).any(-1), gone)


CHANGING = """
import threading, time, numpy as np, lossfast as lf
from lossfast._loss import looped
x, labels = np.zeros((30_000, 8)), np.zeros(30_000, np.int64)
stop = False
def change():
    while not stop:
        for wrong in (2**62, -(2**62), 2**40, 8, -1, 0):
            labels[:] = wrong
thread = threading.Thread(target=change, daemon=True)
thread.start()
until, calls = time.monotonic() + 0.5, 0
while time.monotonic() < until:
    for loss in (loss for loss in looped().values() if loss.labelled):
        for check in (False, True):
            try:
                loss.value_and_grad(x, labels, check=check, class_weight=np.ones(8))
            except IndexError:
                pass
            calls += 1
stop = True
thread.join()
print("whole" if calls > 4 else calls)
"""


def test_12_labels_that_another_thread_changes_meanwhile(variant):
    """The check may pass, or not; what is read stays within the arrays."""
    done = child(CHANGING, variant, timeout=100)
    assert done.returncode == 0 and done.stdout == "whole\n", (done.returncode, done.stderr)


@each_labelled
def test_12_the_first_beyond_the_classes_is_out_of_range(loss):
    with pytest.raises(IndexError, match=r"target 4 at row 1 is out of bounds for 4 classes \(1 such row\)"):
        loss(np.ones((2, 4)), [3, 4])
    assert np.isnan(loss(np.ones((2, 4)), [3, 4], reduction="none", check=False)).tolist() == [False, True]


@each_labelled
def test_13_labels_of_any_integer_dtype(loss):
    [x] = fitting(loss, np.random.default_rng(2).normal(size=(6, 2)))
    expected = loss.value_and_grad(x, np.array([0, 1, 1, 0, 1, 0]))
    for code in ("?", *"bBhHiIlLqQ", ">u2", ">i8", "<i4"):
        value, grad = loss.value_and_grad(x, np.array([0, 1, 1, 0, 1, 0], code))
        assert value == expected[0] and np.array_equal(grad, expected[1]), code
    with pytest.raises(TypeError, match="integer dtype, got float64"):
        loss(x, np.array([0.0, 1, 1, 0, 1, 0]))


@each_loss
def test_14_nothing_to_take_the_mean_of(loss):
    x = np.ones((3, 4))
    target = np.zeros(3, int) if loss.labelled else np.ones((3, 4))
    empty = [((x[:0], target[:0]), {})]
    empty += [((x, target), options) for options in ({"sample_weight": np.zeros(3)}, {"where": np.zeros(4, bool)})]
    if loss.labelled:
        empty.append(((x, np.full(3, -100)), {}))
    for operands, options in empty:
        value, grad = loss.value_and_grad(*operands, **options)
        assert math.isnan(value) and not grad.any()
        assert loss(*operands, empty="zero", **options) == 0 == loss(*operands, reduction="sum", **options)
        each = loss(*operands, reduction="none", **options)
        assert not each.any() and len(each) == len(operands[0])
        with pytest.raises(ValueError, match="denominator is 0"):
            loss(*operands, empty="raise", **options)


@each_soft
def test_14_with_soft_labels_no_row_is_ignored(loss):
    x, t = np.ones((3, 4)), np.zeros((3, 4))
    t[0, 1] = 1
    whole = loss.reduce(x, t, ignore_index=0)
    assert whole.count == 3 == whole.weight
    assert loss(x, t) == pytest.approx(float(loss(x, t, reduction="sum")) / 3, rel=1e-15)


def test_15_soft_labels_are_not_normalised():
    x = np.random.default_rng(2).normal(size=(3, 4))
    t = np.random.default_rng(3).dirichlet(np.ones(4), 3)
    for factor in (2, -1):
        same(lf.cross_entropy(x, factor * t, reduction="none"), factor * lf.cross_entropy(x, t, reduction="none"), 16)


@each_dtype
@each_soft
def test_15_soft_labels_are_taken_as_they_stand(loss, dtype):
    x = np.random.default_rng(2).normal(size=(3, 4)).astype(dtype)
    t = np.random.default_rng(3).dirichlet(np.ones(4), 3).astype(dtype)
    if loss.takes:
        x = (np.abs(x) / np.abs(x).sum(1, keepdims=True)).astype(dtype)
    rest = loss(x, t, reduction="none")[[0, 2]]
    negative, spoilt = t.copy(), t.copy()
    negative[1, 2] *= -1
    spoilt[1, 2] = NAN
    assert np.isfinite(loss(x, negative, reduction="none")).all()
    value, grad = loss.value_and_grad(x, spoilt, reduction="none")
    assert np.array_equal(np.isnan(value), [False, True, False]) and np.isnan(grad[1]).any()
    assert np.array_equal(value[[0, 2]], rest) and np.isfinite(grad[[0, 2]]).all()
    loss(x, t, check="distribution")
    for wrong in (2 * t, negative, spoilt):
        with pytest.raises(ValueError, match="not a distribution"):
            loss(x, wrong, check="distribution")


# ------------------------------------------------------------------------------------------- shapes and memory


@each_row_loss
def test_16_lengths_of_0_and_1(loss):
    def targets(*shape):
        return np.zeros(shape[:-1], int) if loss.labelled else np.zeros(shape)

    assert loss(np.empty((0, 3)), targets(0, 3), reduction="none").shape == (0,)
    assert loss.grad(np.empty((2, 0, 3)), targets(2, 0, 3)).shape == (2, 0, 3)
    with pytest.raises(ValueError, match=r"\(3, 0\) have no classes"):
        loss(np.empty((3, 0)), targets(3, 0))
    if "proba" in loss.outputs:
        value, grad = loss.value_and_grad([[5.0], [-1e300]], targets(2, 1), reduction="none")
        assert not value.any() and not grad.any() and not np.signbit(value).any()


def test_16_functions_of_nothing():
    same(lf.logsumexp(np.empty((3, 0))), [-INF] * 3)
    for shape in ((0, 3), (3, 0), (0, 0), (2, 0, 4)):
        for function in (lf.softmax, lf.log_softmax, lf.sigmoid, lf.log_sigmoid):
            assert function(np.empty(shape, np.float32)).shape == shape


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_16_more_than_2_to_the_31_elements(variant):
    if variant.backend == "numpy":
        pytest.skip("minutes")
    n = 2**31 + 11
    x = np.broadcast_to(np.float32(0.5), n)
    assert lf.l1_loss(x, np.broadcast_to(np.float32(0.25), n)) == 0.25
    assert lf.l1_loss.reduce(x, np.float32(0.25)).sum == n / 4
    rows = np.broadcast_to(np.zeros(2, np.float32), (n // 2 + 1, 2))
    assert abs(lf.cross_entropy(rows, np.broadcast_to(np.int8(1), len(rows))) - math.log(2)) < 1e-15
    labels = np.broadcast_to(np.int8(0), len(rows))
    assert lf.cross_entropy.reduce(rows, labels).count == n // 2 + 1


def test_16_wide_rows_by_strides_of_0():
    C = 2**24
    x = np.broadcast_to(np.float32(3), (1, C))
    same(lf.logsumexp(x), [3 + math.log(C)])
    same([lf.cross_entropy(x, [C - 1])], [math.log(C)])


@each_loss
def test_17_wrong_operands_are_refused_before_anything_is_written(loss):
    x = np.ones((4, 3))
    target = np.zeros(4, int) if loss.labelled else np.ones((4, 3))
    frozen = np.ones((4, 3))
    frozen.flags.writeable = False
    grad_out = np.full((4, 3), 7.0)
    both = np.full((4, 3), 7.0)
    wrong = [
        (ValueError, (x, target[:3]), {}),
        (ValueError, (x, target), {"sample_weight": np.ones(3)}),
        (ValueError, (x, target), {"where": np.ones(2, bool)}),
        (ValueError, (x, target), {"grad_out": frozen}),
        (ValueError, (x, target), {"grad_out": np.empty((3, 4))}),
        (TypeError, (x, target), {"grad_out": np.empty((4, 3), int)}),
        (TypeError, (x, target), {"out": np.empty(4)}),
        (ValueError, (x, target), {"grad_out": x[:, ::-1]}),
        (ValueError, (both, target), {"grad_out": both[::-1]}),
    ]
    for error, operands, options in wrong:
        with pytest.raises(error):
            loss.value_and_grad(*operands, **{"grad_out": grad_out, **options})
        assert (grad_out == 7).all() and (x == 1).all() and (both == 7).all()
    shared = np.full((4, 4), 7.0)
    if "hess" in loss.outputs:
        with pytest.raises(ValueError, match="overlaps"):
            loss.grad_and_hess(x, target, grad_out=shared[:, :3], hess_out=shared[:, 1:])
        assert (shared == 7).all()


@each_loss
def test_17_wrong_options_are_refused_before_anything_is_written(loss):
    x, grad_out = np.ones((4, 3)), np.full((4, 3), 7.0)
    target = np.ones((4, 3)) if loss.kind == "pointwise" else np.zeros(4, int)
    wrong = [{"sample_weight": np.ones((4, 2))}, {"where": np.ones((4, 3))}, {"where": np.ones((5, 4, 3), bool)}]
    if loss.kind == "rowwise":
        wrong += [{"class_weight": np.ones(4)}, {"class_weight": np.ones((4, 3))}, {"sample_weight": np.ones((4, 3))}]
    elif loss.extra:
        wrong += [{loss.extra: np.ones(2)}, {loss.extra: np.ones((3, 3))}]
    for options in wrong:
        with pytest.raises((ValueError, TypeError)):
            loss.value_and_grad(x, target, grad_out=grad_out, **options)
        assert (grad_out == 7).all(), options
    if getattr(loss, "soft", False):
        for soft in (np.ones((4, 2)), np.ones((3, 3)), np.ones((4, 3, 1))):
            with pytest.raises(ValueError):
                loss.value_and_grad(x, soft, grad_out=grad_out)
            assert (grad_out == 7).all()


@pytest.mark.parametrize("loss", [loss for loss in SINGLE.values() if loss not in LOSSES], ids=lambda loss: loss.name)
def test_17_wrong_buffers_of_functions_are_refused(loss):
    x = np.ones((4, 3))
    frozen = loss(x)
    frozen.flags.writeable = False
    for error, out in ((ValueError, frozen), (ValueError, np.full((5, 5), 7.0)), (TypeError, np.full(frozen.shape, 7))):
        before = out.copy()
        with pytest.raises(error):
            loss(x, out=out)
        assert np.array_equal(out, before)


LIBC = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None


class Guarded:
    """Memory between two pages that must not be touched: reading or writing there ends the process."""

    def __init__(self, size):
        page = mmap.PAGESIZE
        self.room = -(-size // page) * page
        self.memory = mmap.mmap(-1, self.room + 2 * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        for guard in (start, start + page + self.room):
            if LIBC.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0):
                raise OSError(ctypes.get_errno(), "mprotect")

    def array(self, values, at_end):
        """The values at the very start or the very end of what may be touched."""
        values = np.ascontiguousarray(values)
        offset = mmap.PAGESIZE + (self.room - values.nbytes if at_end else 0)
        array = np.frombuffer(self.memory, values.dtype, values.size, offset).reshape(values.shape)
        array[...] = values
        return array


GUARDED = """
import numpy as np, lossfast as lf
from test_faults import Guarded
from lossfast._loss import inside, looped
from lossfast.selftest import fitting
boxes = [Guarded(4096 * 4) for _ in range(5)]
random = np.random.default_rng(0)
# some rows, and a tile of 16; tails of rows along the lanes
SHAPES = [(3, C) for C in range(66)] + [(16, C) for C in range(20)] + [(3, C) for C in range(192, 258)]
for dtype in (np.float32, np.float64, np.float16):
    for rows, C in SHAPES:
        for at_end in (True, False):
            numbers = random.normal(size=(rows, C)).astype(dtype)
            put = [lambda values, box=box: box.array(values, at_end) for box in boxes]
            grad, hess = put[1](numbers), put[2](numbers)
            w = put[3](np.ones(rows, dtype))
            for loss in looped().values():
                x = fitting(loss, numbers)[0]
                gx = put[0](x)
                if loss.kind == "function" or loss.kind == "row_function":
                    plain = loss(x)
                    result = loss(gx, out=put[4](np.zeros_like(plain)))
                    assert np.array_equal(result, plain, equal_nan=True)
                    continue
                if loss.kind == "rowwise" and C == 0:
                    continue
                labels = np.resize([0, C - 1, C // 2], rows)
                target = put[4](labels if loss.labelled else fitting(loss, x, np.abs(x))[1])
                value, slope = loss.value_and_grad(gx, target, sample_weight=w, grad_out=grad)
                plain = loss.value_and_grad(x, target.copy(), sample_weight=w.copy())
                assert np.array_equal(slope, plain[1]) and (value == plain[0] or C == 0)
                if "hess" in loss.outputs:
                    loss.grad_and_hess(gx, target, grad_out=grad, hess_out=hess)
                if loss.kind == "rowwise" and loss.soft:
                    soft = put[4](np.full(x.shape, 1 / C, dtype))
                    loss.value_and_grad(gx, soft, sample_weight=w, grad_out=grad)
print("whole")
"""


def child(code, variant, **options):
    """Run Python code in another process on that variant."""
    environment = {**os.environ, **variant.environment, "PYTHONPATH": os.path.dirname(__file__)}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, **options)


@posix
def test_18_nothing_is_touched_beyond_the_ends(variant):
    if variant not in COMPILED:
        pytest.skip("NumPy and Numba index within arrays")
    done = child(GUARDED, variant, timeout=100)
    assert done.returncode == 0 and done.stdout == "whole\n", (done.returncode, done.stderr)


@each_loss
@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (np.ma.ones((3, 4)), "masked array"),
        (np.ones((3, 4), complex), "complex"),
        (np.ones((3, 4), object), "object"),
        (np.ones((3, 4), "M8[s]"), "datetime"),
        (np.ones((3, 4)).view(np.matrix), "matrix"),
        (None, "None"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_19_arrays_that_are_none(loss, wrong, what):
    with pytest.raises(TypeError, match=what):
        loss(wrong, np.zeros(3, int))
    with pytest.raises(TypeError, match=what):
        loss(np.ones((3, 4)), wrong)


@each_object
def test_19_arrays_that_are_none_of_functions_and_options(loss):
    masked, complex_, dates = np.ma.ones((3, 4)), np.ones((3, 4), complex), np.ones((3, 4), "M8[s]")
    matrix = np.ones((3, 4)).view(np.matrix)
    if loss not in LOSSES:
        for wrong, what in (
            (masked, "masked"),
            (complex_, "complex"),
            (dates, "datetime"),
            (matrix, "matrix"),
            (None, "None"),
        ):
            with pytest.raises(TypeError, match=what):
                loss(wrong)
        return
    labelled = loss.kind == "rowwise" and loss.labelled
    target = np.zeros(3, int) if labelled else np.ones((3, 4))
    for wrong, what in ((np.ma.ones(3), "masked"), (np.ones(3, complex), "complex"), (np.ones(3, object), "object")):
        for option in ("sample_weight", "class_weight", loss.extra):
            if option in loss._checks:
                with pytest.raises(TypeError, match=what):
                    loss(np.ones((3, 4)), target, **{option: wrong})


@posix
def test_20_without_memory_nothing_is_left_half_done(variant):
    code = """
import resource, threading, numpy as np, lossfast as lf
resource.setrlimit(resource.RLIMIT_AS, (1 << 33, 1 << 33))
x, y = np.zeros((100_000, 10)), np.zeros(100_000, int)
lf.cross_entropy(x, y, n_threads=2)
before, value = threading.active_count(), lf.cross_entropy(x, y)
big = np.broadcast_to(np.float64(0), (1 << 33, 10))
labels = np.broadcast_to(np.int64(0), 1 << 33)
try:
    lf.cross_entropy.grad(big, labels, check=False)
except MemoryError:
    print(threading.active_count() == before, lf.cross_entropy(x, y, n_threads=2) == value)
"""
    done = child(code, variant, timeout=60)
    assert done.stdout == "True True\n", done.stderr


# ------------------------------------------------------------------------------------------ threads, processes


def a_call(n_threads=3):
    """A call that is threaded on every backend, and its result."""
    x = np.linspace(-3, 3, 1_200_000, dtype=np.float32).reshape(-1, 4)
    labels = np.arange(len(x)) % 4
    return lf.cross_entropy(x, labels, n_threads=n_threads)


def in_child(backend, isa):
    lf.use_backend(backend)
    if isa is not None:
        lf.use_isa(isa)
    return a_call()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_21_processes_after_a_threaded_call(variant, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("not here")
    if method != "fork" and variant not in (VARIANTS[0], VARIANTS[-1]):
        pytest.skip("a new process knows nothing of ours, so two variants are enough")
    expected = a_call()
    context = multiprocessing.get_context(method)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of what is tested: fork beside threads
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            assert pool.submit(in_child, variant.backend, variant.isa).result(60) == expected


def test_21_joblib_workers(variant):
    joblib = pytest.importorskip("joblib")
    if variant not in (VARIANTS[0], VARIANTS[-1]):
        pytest.skip("two variants are enough")
    expected = a_call()
    tasks = [joblib.delayed(in_child)(variant.backend, variant.isa)] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert joblib.Parallel(2)(tasks) == [expected] * 2


def test_21_many_threads_at_once():
    expected = a_call(1)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda _: a_call(), range(12))) == [expected] * 12


def test_21_a_nested_call_is_serial():
    expected = a_call(1)
    assert _threads.run(lambda start, stop: [a_call()], 4, 1, 2, operator.add) == [expected] * 4


@pytest.mark.parametrize("n_threads", [0, -5, 1000, 10**12])
def test_21_any_number_of_threads(n_threads):
    assert a_call(n_threads) == a_call(1)


def test_21_threads_that_cannot_start(monkeypatch):
    expected = a_call(1)

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_threads, "_pool", _threads._Pool())
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert a_call(4) == expected


INTERRUPTED = """
import signal, numpy as np, lossfast as lf
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored in the background
x = np.broadcast_to(np.float32(1), (1 << 30, 8))
labels = np.broadcast_to(np.int8(1), 1 << 30)
expected = lf.cross_entropy(x[:1000], labels[:1000])
print("begun", flush=True)
try:
    lf.{call}
except KeyboardInterrupt:
    print(lf.cross_entropy(x[:1000], labels[:1000], n_threads=2) == expected, flush=True)
"""


@posix
@pytest.mark.parametrize(
    "call", ["cross_entropy(x, labels, n_threads=1)", "cross_entropy(x, labels, n_threads=2)", "mse_loss(x, x)"]
)
def test_22_ctrl_c(variant, call):
    if variant in COMPILED[1:]:
        pytest.skip("one instruction set is enough")
    environment = {**os.environ, **variant.environment}
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED.format(call=call)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.4)
    sent = time.perf_counter()
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "True\n"
    assert time.perf_counter() - sent < 1
    process.communicate(timeout=30)


# ----------------------------------------------------------------------------------------------------- dispatch


def test_23_an_instruction_set_that_is_not_there(variant):
    if not COMPILED or variant != COMPILED[0]:
        pytest.skip("of the compiled backend")
    done = subprocess.run(
        [sys.executable, "-c", "import lossfast as lf; lf.mse_loss([1.0], [0.0])"],
        env={**os.environ, "LOSSFAST_BACKEND": "", "LOSSFAST_ISA": "avx1024"},
        capture_output=True,
        text=True,
    )
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and "LOSSFAST_ISA" in last and "avx1024" in last and "baseline" in last


KERNELS = os.path.join(os.path.dirname(lf.__file__), "kernels")


def test_23_fast_math_is_refused_at_compile_time(variant):
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if variant is not VARIANTS[0] or compiler is None or not os.path.exists(os.path.join(KERNELS, "kernels.c")):
        pytest.skip("there is nothing to compile, or it has been")
    command = [
        compiler,
        "-fsyntax-only",
        "-DLF_ISA=x",
        "-DLF_DTYPE=64",
        "-DLF_LANES=1",
        os.path.join(KERNELS, "kernels.c"),
    ]
    done = subprocess.run([*command, "-ffast-math"], capture_output=True, text=True)
    assert done.returncode != 0 and "must not be compiled with -ffast-math" in done.stderr
    assert subprocess.run(command, capture_output=True).returncode == 0


#: What the processor is said to be, and what is left then. Nehalem has SSE4.2 and nothing of AVX.
PROCESSORS = {"Nehalem": ("baseline",), "Haswell,-xsave": ("baseline",), "Haswell": ("baseline", "avx2")}
EMULATED = """
import numpy as np, lossfast as lf
from lossfast._loss import inside, looped
print(*lf.isas())
for dtype in (np.float32, np.float64, np.float16):
    for C in (3, 200):
        x = np.linspace(-3, 3, 40 * C).reshape(40, C).astype(dtype)
        for loss in looped().values():
            if loss.kind in ("function", "row_function"):
                assert np.isfinite(loss(x)).all()
            else:
                target = np.zeros(40, int) if loss.kind == "rowwise" else inside(loss, "target", np.abs(x))
                assert all(np.isfinite(y).all() for y in loss.evaluate(inside(loss, "pred", x), target)), loss
"""


@pytest.mark.slow
@pytest.mark.parametrize("processor", PROCESSORS)
def test_23_nothing_runs_that_the_processor_lacks(variant, processor):
    """On an emulated one: kernels of a lesser instruction set have nothing of a higher, and a higher one is refused."""
    emulator = shutil.which("qemu-x86_64")
    if variant is not VARIANTS[0] or not COMPILED or emulator is None or platform.machine() != "x86_64":
        pytest.skip("there is no emulator, or nothing to run on it")
    python = [emulator, "-cpu", processor, sys.executable, "-c"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LOSSFAST_")}
    environment["LOSSFAST_BACKEND"] = "compiled"
    for isa in PROCESSORS[processor]:
        done = subprocess.run(
            [*python, EMULATED], env={**environment, "LOSSFAST_ISA": isa}, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0 and tuple(done.stdout.split()) == PROCESSORS[processor], done.stderr
    done = subprocess.run(
        [*python, "import lossfast as lf; lf.mse_loss([1.0], [0.0])"],
        env={**environment, "LOSSFAST_ISA": "avx512"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1 and "LOSSFAST_ISA" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("trouble", ["absent", "broken", "cache"])
def test_24_numba_absent_broken_or_without_a_cache(variant, trouble, tmp_path):
    if variant is not VARIANTS[-1]:
        pytest.skip("it does not depend on the variant")
    if trouble == "cache":
        pytest.importorskip("numba")
    (tmp_path / "numba.py").write_text("raise OSError('no such library')\n")
    code = "import sys, warnings; sys.modules['lossfast.backends.compiled'] = None\n"
    code += "sys.modules['numba'] = None\n" if trouble == "absent" else ""
    code += f"sys.path.insert(0, {str(tmp_path)!r})\n" if trouble == "broken" else ""
    code += (
        "import lossfast as lf\nfor _ in range(2): value = lf.mse_loss([3.0], [1.0])\nprint(lf.get_backend(), value)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOSSFAST_")}
    if trouble == "cache":
        environment["NUMBA_CACHE_DIR"] = "/proc/nowhere"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100)
    backend = "numba" if trouble == "cache" and "numba 4.0" in done.stdout else "numpy"
    assert done.stdout == f"{backend} 4.0\n", done.stderr
    assert done.stderr.count("RuntimeWarning") == 1 and done.stderr.count("Traceback") == 0


# -------------------------------------------------------------------------------------------------------- files


def evaluate(logits, labels, *limits):
    """The command line on two files, in a process of its own with little memory."""
    code = "import resource, sys\nresource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))\n"
    code += "from lossfast.cli import main\nsys.exit(main(sys.argv[1:]))\n"
    command = [sys.executable, "-c", code, "eval", "cross_entropy", str(logits), str(labels), *limits]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@posix
def test_25_a_header_that_lies_costs_no_memory(variant, tmp_path):
    if variant is not VARIANTS[-1]:
        pytest.skip("it does not depend on the variant")
    np.save(tmp_path / "y.npy", np.zeros(4, int))
    x = np.zeros((4, 3))
    np.save(tmp_path / "x.npy", x)
    whole = (tmp_path / "x.npy").read_bytes()
    lie = whole.replace(b"(4, 3), }            ", b"(400000000000, 3), } ")
    assert len(lie) == len(whole) and lie != whole
    (tmp_path / "x.npy").write_bytes(lie)
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", lie)
    for name in ("x.npy", "x.npz:x"):
        done = evaluate(tmp_path / name, tmp_path / "y.npy", "--out", str(tmp_path / "o.npy"))
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        assert "truncated" in done.stderr and not (tmp_path / "o.npy").exists()


@posix
def test_25_a_path_that_cannot_be_read(variant, tmp_path):
    if variant is not VARIANTS[-1]:
        pytest.skip("it does not depend on the variant")
    np.save(tmp_path / "y.npy", np.zeros(4, int))
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "loop.npy").symlink_to(tmp_path / "loop.npy")
    (tmp_path / "closed.npy").write_bytes((tmp_path / "y.npy").read_bytes())
    (tmp_path / "closed.npy").chmod(0)
    names = ["folder.npy", "loop.npy", "y.npy/x.npy"] + ["closed.npy"] * (os.geteuid() != 0)  # root reads anything
    for name in names:
        done = evaluate(tmp_path / name, tmp_path / "y.npy", "--out", str(tmp_path / "o.npy"))
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), (name, done.stderr)
        assert not (tmp_path / "o.npy").exists()


# --------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize("loss", list(SINGLE.values()), ids=lambda loss: loss.name)
def test_26_parameters_outside_their_domain(loss):
    x = np.ones((3, 4))
    operands = (x, np.zeros(3, int)) if loss.labelled else (x, x)[: len(loss.operands)]
    wrong = [(name, value) for name, p in loss.parameters.items() for value in outside_of(p)]
    if len(operands) == 2:
        wrong += [("reduction", "average"), ("empty", "none"), ("denominator", NAN)]
    if "axis" in loss.shared:
        wrong += [("axis", 2), ("axis", -3)]
    for name, value in wrong:
        with pytest.raises(ValueError, match=str(value).replace("-", "[-]")):
            loss(*operands, **{name: value})


DOMAINS = [(loss, name) for loss in POINTWISE for name in loss.domains]
each_domain = pytest.mark.parametrize(("loss", "name"), DOMAINS, ids=lambda value: getattr(value, "name", value))


def with_elements(loss, name, dtype, wrong):
    """Operands and options of (5, 4) elements inside their domains; and with ``wrong`` at [1, 3] and [2, 0] of one."""
    random = np.random.default_rng(4)
    arrays = dict(zip(loss.operands, within(loss, *random.normal(size=(2, 5, 4)).astype(dtype)), strict=True))
    if loss.extra is not None:
        arrays[loss.extra] = inside(loss, loss.extra, random.random(4).astype(dtype))
    spoilt = {**arrays, name: arrays[name].copy()}
    if name == loss.extra:  # which lies along the last axis
        spoilt[name][3] = wrong
    else:
        spoilt[name][1, 3] = spoilt[name][2, 0] = wrong
    return [([each.pop(operand) for operand in loss.operands], each) for each in (arrays, spoilt)]


@each_dtype
@each_domain
def test_26_elements_outside_their_domain(loss, name, dtype):
    """Refused before anything is written, with value, place and how many; where they count, and are to be checked."""
    at = np.zeros((5, 4), bool)
    at[1, 3] = at[2, 0] = True
    first, count = ("3", 1) if name == loss.extra else (r"\(1, 3\)", 2)
    if name == loss.extra:
        at[:] = np.arange(4) == 3
    for wrong in ELEMENTS_OUTSIDE[loss.domains[name]]:
        (clean, options), (operands, others) = with_elements(loss, name, dtype, wrong)
        expected = loss.value_and_grad(*clean, **options, where=~at)
        message = (
            f"^{name} must be {re.escape(loss.domains[name])}, got {dtype(wrong):g} at {first} .{count} such elements."
        )
        buffers = [np.full((5, 4), 7, dtype) for _ in range(2)]
        for method, names in (("value_and_grad", ("out", "grad_out")), ("grad_and_hess", ("grad_out", "hess_out"))):
            if hasattr(loss, method):
                with pytest.raises(ValueError, match=message):
                    given = dict(zip(names, buffers, strict=True))
                    getattr(loss, method)(*operands, **others, **given, reduction="none")
                assert all((buffer == 7).all() for buffer in buffers)
        for method in ("__call__", "grad", "reduce", "weigh"):
            with pytest.raises(ValueError, match=message):
                getattr(loss, method)(*operands, **others)
        for silence in ({"where": ~at}, {"sample_weight": (~at).astype(dtype)}):
            value, grad = loss.value_and_grad(*operands, **others, **silence)
            assert value == expected[0] and np.array_equal(grad, expected[1])
        each = loss(*operands, **others, reduction="none", check=False)
        assert np.array_equal(each[~at], loss(*clean, **options, reduction="none")[~at])


@each_dtype
@each_domain
def test_26_an_element_that_is_nan_is_in_every_domain(loss, name, dtype):
    _, (operands, others) = with_elements(loss, name, dtype, NAN)
    value, grad = loss.value_and_grad(*operands, **others, reduction="none")
    bad = np.broadcast_to(np.isnan({**dict(zip(loss.operands, operands, strict=True)), **others}[name]), (5, 4))
    assert np.array_equal(np.isnan(value), bad) and np.array_equal(np.isnan(grad), bad)


def test_half_types_beyond_their_range():
    """The gradient of half types is rounded once: what they cannot hold is infinite, never wrong."""
    for dtype in (np.float16, ml_dtypes.bfloat16):
        x = np.array([60000, -60000, 1e-7], np.float32).astype(dtype)
        grad = lf.mse_loss.grad(x, np.zeros(3), reduction="sum")
        with np.errstate(over="ignore"):
            assert np.array_equal(grad, (2 * x.astype(np.float32)).astype(dtype))


def test_every_fault_has_its_tests(variant):
    if variant is not VARIANTS[-1]:
        pytest.skip("it does not depend on the variant")
    assert not faults.missing()
