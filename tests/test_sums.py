"""Sums and means (A6): what they add to the error of the single losses, and that nothing overflows on the way."""

import functools
import math

import numpy as np
import pytest
from extended import IS_EXTENDED, Extended, Rows, soften, spacing
from parameters import within

import lossfast as lf
from lossfast._loss import looped
from lossfast.selftest import fitting

REGISTRY = looped()

pytestmark = pytest.mark.skipif(not IS_EXTENDED, reason="long double is not longer than double here")

LOSSES = [loss for loss in REGISTRY.values() if loss.kind in ("pointwise", "rowwise")]
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])

MOST = np.finfo(np.float64).max
#: Sizes about the lanes, the blocks, and the slices that threads take.
SIZES = (1, 2, 15, 16, 17, 1000, 4096, 4097, 70_001)


def off_by(got, true):
    """The error in ULP of float64."""
    return float(abs(Extended(got) - true) / spacing(Extended(true), np.float64))


def judge(dtype, got, true):
    if np.isinf(true):
        assert got == true
    elif dtype == np.float32:
        assert abs(Extended(got) - true) <= np.ldexp(abs(true), -40), (got, true)
    else:
        assert off_by(got, true) <= 1, (got, true)


@functools.cache
def example(loss, n, dtype):
    """Losses of very different sizes, the same few hundred over and over: operands and weights."""
    random = np.random.default_rng(n)
    few = min(n, 300)
    x = random.normal(size=(few, 3)) * 10.0 ** random.integers(-3, 3, (few, 1))
    weight = random.random(few) * 10.0 ** random.integers(-6, 6, few)
    if loss.kind == "pointwise":
        x, target = within(loss, x[:, 0], random.integers(0, 2, few).astype(dtype))
    else:
        x = x if "proba" in loss.outputs else -abs(x)
        target = random.integers(0, 3, few) if loss.labelled else (x + random.normal(size=x.shape)).astype(dtype)
    x, target = fitting(loss, x.astype(dtype), target)
    return tuple(np.resize(a, (n, *a.shape[1:])) for a in (x, target, weight))


@each_dtype
@each_loss
def test_sums_add_nothing_that_shows(variant, loss, dtype):
    """To what the losses are one by one, those of rows of float32 unrounded; of float64, rounded with their weights."""
    with variant.chosen():
        for n in SIZES:
            x, target, weight = example(loss, n, dtype)
            few = min(n, 300)
            plain, weighted = (
                np.array([loss(x[[i]], target[[i]], reduction="sum", sample_weight=w) for i, w in enumerate(each)])
                for each in ([None] * few, weight[:few, None])
            )
            products = plain.astype(Extended) * weight[:few]
            if loss.kind == "rowwise" and dtype == np.float64:
                for once, product in zip(weighted, products, strict=True):
                    assert once == product or off_by(once, product) <= 1.5, (once, product)  # of two roundings
                products = weighted
            for options, w, values in (({}, np.ones(n), plain), ({"sample_weight": weight}, weight, products)):
                total, weights = np.resize(values, n).astype(Extended).sum(), w.astype(Extended).sum()
                judge(dtype, loss(x, target, reduction="sum", **options), total)
                mean = loss(x, target, **options)
                judge(dtype, mean, total / weights)
                whole = loss.reduce(x, target, **options)
                assert whole.mean == mean and off_by(whole.weight, weights) <= 1
                parts = np.array_split(np.arange(n), min(n, 7))
                some = [dict.fromkeys(options, w[part]) for part in parts]
                merged = sum(loss.reduce(x[part], target[part], **o) for part, o in zip(parts, some, strict=True))
                judge(dtype, merged.sum, total)
                judge(dtype, merged.mean, total / weights)


@pytest.mark.parametrize(
    "loss",
    [loss for loss in LOSSES if loss.kind == "rowwise" and loss.labelled and "proba" in loss.outputs],
    ids=lambda loss: loss.name,
)
def test_losses_of_rows_are_summed_unrounded(variant, loss):
    """A rounding to float32 would leave up to 2^-24."""
    x, target, _ = example(loss, 300, np.float32)
    true = Rows(x).loss(loss, soften(target, 3))[0]
    with variant.chosen():
        for i, exactly in enumerate(true):
            error = abs(loss(x[i : i + 1], target[i : i + 1]) - exactly)
            assert error <= np.ldexp(exactly, -25) + np.finfo(np.float32).smallest_subnormal, i


def test_a_mean_of_ten_million(variant):
    x = np.random.default_rng(0).random(10_000_000, np.float32)
    with variant.chosen():
        judge(np.float32, lf.l1_loss(x, np.float32(0)), x.sum(dtype=Extended) / len(x))
        wide = x.astype(np.float64)
        judge(np.float64, lf.l1_loss(wide, 0.0), wide.sum(dtype=Extended) / len(x))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16], ids=lambda dtype: np.dtype(dtype).name)
def test_as_many_as_2_to_the_32(variant, dtype):
    if variant.backend == "numpy":
        pytest.skip("minutes, and the sums are the same for any length")
    some = np.random.default_rng(0).random(65_537).astype(dtype)
    x = np.broadcast_to(some, (65_536, len(some)))
    rows = np.broadcast_to(some[:65_536, None] * np.array([1, 0], dtype), (32_768, 65_536, 2))
    kind = np.float64 if dtype == np.float64 else np.float32
    with variant.chosen():
        whole = lf.l1_loss.reduce(x, dtype(0))
        judge(kind, whole.sum, some.sum(dtype=Extended) * len(x))
        judge(kind, whole.mean, some.sum(dtype=Extended) / len(some))
        assert whole.weight == whole.count == x.size > 2**32
        labels = np.broadcast_to(np.int8(0), rows.shape[:2])
        one = lf.cross_entropy.reduce(rows[0], labels[0])
        whole = lf.cross_entropy.reduce(rows, labels)
        assert whole.count == 2**31 and off_by(whole.mean, Extended(one.mean)) <= 1


#: Losses near the end of float64's range: loss, operands of one element, the loss.
ENORMOUS = (
    ("l1_loss", 0.9 * MOST, 0.0, 0.9 * MOST),
    ("mse_loss", 1.3e154, 0.0, 1.3e154 * 1.3e154),
    ("smooth_l1_loss", -0.9 * MOST, 0.0, 0.9 * MOST),
    ("huber_loss", 0.9 * MOST, 0.0, 0.9 * MOST),
    ("binary_cross_entropy_with_logits", 0.9 * MOST, 0.0, 0.9 * MOST),
    ("cross_entropy", [0.9 * MOST, 0.0], 1, 0.9 * MOST),
    ("nll_loss", [-0.9 * MOST, 0.0], 0, 0.9 * MOST),
)


@pytest.mark.parametrize("n", [3, 17, 5000])
@pytest.mark.parametrize(("name", "x", "target", "value"), ENORMOUS, ids=[case[0] for case in ENORMOUS])
def test_a_total_beyond_the_range_has_a_mean_within(variant, name, x, target, value, n):
    loss = lf.get_loss(name)
    x, target = np.array([x] * n), np.array([target] * n)
    with variant.chosen():
        assert loss(x, target, reduction="sum") == math.inf
        for options in ({}, {"sample_weight": np.full(n, 0.75)}, {"reduction": "batchmean"}):
            got = loss(x, target, **options)
            assert math.isclose(got, value, rel_tol=2e-16 * 4), options
        value_and_grad = loss.value_and_grad(x, target)
        assert value_and_grad[0] == loss(x, target) and np.isfinite(value_and_grad[1]).all()
        parts = [loss.reduce(x[part], target[part]) for part in np.array_split(np.arange(n), 3)]
        merged, whole = sum(parts), loss.reduce(x, target)
        for reduction in (merged, whole, sum(parts[::-1])):
            assert reduction.sum == math.inf and reduction.weight == reduction.count == n
            assert math.isclose(reduction.mean, value, rel_tol=2e-16 * 4)


def test_totals_that_come_back_into_the_range(variant):
    """With weights of both signs a total may leave the range and return; an infinite loss stays infinite."""
    x = np.array([0.9 * MOST] * 40)
    weight = np.where(np.arange(40) % 4 < 2, 1.0, -1.0)
    weight[-1] = 0
    with variant.chosen():
        assert lf.l1_loss(x, np.zeros(40), sample_weight=weight, reduction="sum") == 0.9 * MOST
        assert lf.l1_loss(x, np.zeros(40), sample_weight=np.sort(weight), reduction="sum") == 0.9 * MOST
        assert lf.l1_loss.reduce(x, np.zeros(40), sample_weight=np.sort(weight)).sum == 0.9 * MOST
        x[20] = math.inf
        assert lf.l1_loss(x, np.zeros(40)) == lf.l1_loss.reduce(x, np.zeros(40)).mean == math.inf
        x[21] = math.nan
        assert math.isnan(lf.l1_loss(x, np.zeros(40)))
        assert math.isnan(lf.l1_loss(x, np.zeros(40), reduction="sum"))


@pytest.mark.parametrize("size", [1e307, 1e-300], ids=str)
def test_weights_near_the_ends_of_the_range(variant, size):
    """The mean and its gradient are those of equal weights, though their sum may leave the range."""
    x, weight = np.array([3.0] * 30), np.full(30, size)
    with variant.chosen():
        for loss, operands in ((lf.l1_loss, (x, 0.0)), (lf.cross_entropy, (np.zeros((30, 2)), np.zeros(30, int)))):
            expected, slope = loss.value_and_grad(*operands)
            value, grad = loss.value_and_grad(*operands, sample_weight=weight)
            np.testing.assert_allclose(value, expected, rtol=1e-15)
            np.testing.assert_allclose(grad, slope, rtol=1e-15)
            assert loss.reduce(*operands, sample_weight=weight).mean == value
