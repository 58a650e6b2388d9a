"""Rows of float64 logits at both ends of the range: exponentials that are subnormal, terms that overflow on the way."""

import numpy as np
import pytest
from exact import mp

import lossfast as lf

mpf = mp.mpf


def units(got, true):
    """The error in units in the last place of a double."""
    true = mpf(true)
    unit = mpf(2) ** (max(int(mp.floor(mp.log(abs(true), 2))), -1022) - 52) if true else mpf(2) ** -1074
    return float(abs(mpf(float(got)) - true) / unit)


BIG = 1.5e308


@pytest.mark.parametrize("C", [3, 200, 5000])
@pytest.mark.parametrize("gap", [700.0, 715.3, 730.9, 741.2])
def test_what_subnormal_exponentials_add_up_to(variant, C, gap):
    """Each is rounded once in what comes of it, not before it is added or multiplied."""
    x = np.zeros((1, C))
    x[0, 1] = gap
    others = (C - 1) * mp.exp(-mpf(gap))
    p = [others / (C - 1)] * (C - 1)
    with variant.chosen():
        log_p = lf.log_softmax(x)[0, 1]
        every = lf.cross_entropy.evaluate(x, [1], want=("entropy", "grad_temperature"), reduction="sum")
    assert units(log_p, -others) <= 4
    assert units(every.entropy[0], others + sum(p) * mpf(gap)) <= 4
    assert units(every.grad_temperature, sum(p) * mpf(gap)) <= 4


@pytest.mark.parametrize("C", [3, 200])
def test_differences_that_overflow_on_the_way(variant, C):
    """Twice the largest logit, but weighed so that the sum can be had."""
    x, t = np.full((1, C), -BIG), np.zeros((1, C))
    x[0, 0], t[0, :2] = BIG, (1, 1e-20)
    gap = mpf(BIG) * 2
    with variant.chosen():
        value = lf.cross_entropy(x, t, reduction="none")[0]
        slope = lf.cross_entropy.evaluate(x, t, want=("grad_temperature",), reduction="sum").grad_temperature
        weights = {"class_weight": [0.25] * C, "reduction": "sum"}
        of_target = lf.cross_entropy.evaluate(x, t, want=("grad_target",), **weights).grad_target[0]
    assert units(value, gap * mpf(1e-20)) <= 4
    assert units(slope, -gap * mpf(1e-20)) <= 4
    assert of_target[0] == 0
    assert units(of_target[1], gap / 4) <= 4


@pytest.mark.parametrize("C", [3, 200])
def test_a_difference_that_overflows_before_its_class_is_weighed(variant, C):
    x = np.full((1, C), -BIG)
    x[0, 0] = BIG
    with variant.chosen():
        weighed = lf.cross_entropy(x, [1], class_weight=[1, 1e-3] + [1] * (C - 2), reduction="none")[0]
        beyond = lf.cross_entropy(x, [1], reduction="none")[0]
    assert units(weighed, mpf(BIG) * 2 * mpf(1e-3)) <= 4
    assert beyond == np.inf


@pytest.mark.parametrize("loss", [lf.cross_entropy, lf.quadratic_softmax_loss, lf.nll_loss], ids=lambda f: f.name)
def test_a_row_of_no_weight_may_have_any_label(variant, loss):
    with variant.chosen():
        value, grad = loss.value_and_grad(
            np.zeros((2, 2)), [-1, 0], check=False, sample_weight=[0.0, 1.0], reduction="none"
        )
    assert value[0] == 0
    assert (grad[0] == 0).all()
    assert np.isfinite(grad[1]).all()


@pytest.mark.parametrize("C", [3, 60])
@pytest.mark.parametrize("loss", [lf.cross_entropy, lf.quadratic_softmax_loss], ids=lambda f: f.name)
def test_a_nan_among_the_targets_is_one_in_the_whole_row(variant, loss, C):
    x, t = np.zeros((2, C)), np.full((2, C), 1 / C)
    x[:, 1], t[0, 0], t[:, 1] = -np.inf, np.nan, 0.2
    with variant.chosen():
        grad = loss.grad(x, t, reduction="none")
    assert np.isnan(grad[0]).all()
    assert np.isfinite(grad[1]).all()


# What random calls found: the same on every backend.
INF, NAN = np.inf, np.nan
EVERY = ("proba", "log_proba", "lse", "entropy", "margin", "loss", "grad", "hess")
CALLS = {
    "a label that is none, unchecked": (
        lambda: lf.cross_entropy.evaluate([[1.0, 2, 3]], [7], want=EVERY, check=False, reduction="none"),
        [[[NAN] * 3]] * 2 + [[NAN]] * 4 + [[[NAN] * 3]] * 2,
    ),
    "its rank": (
        lambda: lf.cross_entropy.evaluate([[1.0, 2, 3]], [7], want=["rank", "correct"], check=False),
        [[0], [False]],
    ),
    "NaN among the targets is no largest one": (
        lambda: lf.cross_entropy.evaluate(
            [[1.0, 2, 3]] * 2, [[NAN, 0.5, 0], [NAN] * 3], want=["margin", "rank"], reduction="none"
        ),
        [[-1, -2], [1, 2]],
    ),
    "the derivative of a sum of nothing": (
        lambda: [lf.logsumexp.jvp(np.empty((2, 0), dtype), np.empty((2, 0))) for dtype in (np.float32, np.float64)],
        [[0, 0]] * 2,
    ),
    "labels beyond 2^63": (
        lambda: [
            lf.nll_loss(np.zeros((2, 3)) - 1, np.array([label, 1], np.uint64), ignore_index=2**63, reduction="none")
            for label in (2**63, 0)
        ],
        [[0, 1], [1, 1]],
    ),
    "a NaN weight of a class that cannot be": (
        lambda: lf.cross_entropy.hvp([[1, 2, -INF]], [[0.5, 0.5, 0]], [[1.0, 2, 3]], class_weight=[1, 1, NAN]),
        [[NAN] * 3],
    ),
    "infinite gaps of smoothed targets": (
        lambda: [
            lf.cross_entropy([[-INF, 2, 1, 0]], [[-1, 0.5, 0.5, 0.25]], label_smoothing=smoothing, reduction="sum")
            for smoothing in (0, 0.5, 1)
        ],
        [-INF, -INF, INF],
    ),
    "a curvature beyond the range times nothing": (
        lambda: [
            lf.cross_entropy.grad_and_hess(np.array([[-1, 2, 1]], dtype), [1], temperature=1e-30, z_loss=z)[1]
            for dtype in (np.float32, np.float64)
            for z in (0, 0.0)
        ],
        [[[0, 0, 0]]] * 4,
    ),
    "a class without curvature, and no ridge": (
        lambda: lf.cross_entropy.newton_step([[-9e3, 0, 0], [1, 2, 2]], [0, 1], where=[True, True, False]),
        [[0, 0, 0], [-1, 1, 0]],
    ),
    "a zero of the other sign": (
        lambda: lf.half_gamma_deviance.value_and_grad([-0.0], [1.0], link="identity"),
        [INF, [-INF]],
    ),
    "two infinite terms": (
        lambda: lf.half_tweedie_deviance.grad([650.0, 710.0], [1e300, 1e300], power=0.5, reduction="none"),
        [-INF, INF],
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_random_calls_found(variant, name):
    call, expected = CALLS[name]
    with variant.chosen():
        for got, right in zip(call(), expected, strict=True):
            np.testing.assert_allclose(got, right, rtol=0.5)


def test_a_label_beyond_2_to_the_63_that_is_not_ignored(variant):
    labels = np.array([2**64 - 100, 1], np.uint64)
    with variant.chosen():
        for options in ({}, {"where": [True, True, True]}, {"ignore_index": 2**63}):
            with pytest.raises(IndexError, match="target 18446744073709551516 at row 0"):
                lf.nll_loss(np.zeros((2, 3)), labels, **options)
