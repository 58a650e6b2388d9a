"""The losses that are a function of the true class's probability, and those of margins: what they are in other words.

Their accuracy is proved with that of all others in the registry (test_registry.py, test_families.py).
"""

import math

import numpy as np
import pytest
from exact import exact, mp, ulp

import lossfast as lf

INF = math.inf
HINGE = lf.multiclass_hinge_loss
#: Each with the parameters at which it is cross-entropy.
AT_CROSS_ENTROPY = (
    (lf.focal_loss, {"gamma": 0}),
    (lf.poly_loss, {"epsilon": 0}),
    (lf.generalized_cross_entropy, {"q": 0}),
)
each_profile = pytest.mark.parametrize("loss", [loss for loss, _ in AT_CROSS_ENTROPY], ids=lambda loss: loss.name)


@pytest.fixture(autouse=True)
def chosen(variant):
    with variant.chosen():
        yield


def rows(C=7, n=40, dtype=np.float64):
    random = np.random.default_rng(C)
    x = (random.normal(size=(n, C)) * random.choice([1, 10, 100], (n, 1))).astype(dtype)
    return x, random.integers(C, size=n), random.dirichlet(np.ones(C), n).astype(dtype)


@pytest.mark.parametrize(("loss", "at"), AT_CROSS_ENTROPY, ids=lambda value: getattr(value, "name", ""))
@pytest.mark.parametrize("C", [1, 2, 7, 200])
def test_they_are_cross_entropy_at_one_end(variant, loss, at, C):
    x, labels, soft = rows(C)
    options = {"class_weight": np.linspace(0.5, 2, C), "temperature": 0.7, "reduction": "none"}
    for targets in (labels, soft):
        got = loss.evaluate(x, targets, want=("loss", "grad", "hess"), **at, **options)
        true = lf.cross_entropy.evaluate(x, targets, want=("loss", "grad", "hess"), **options)
        for a, b in zip(got, true, strict=True):
            np.testing.assert_allclose(a, b, rtol=4e-15, atol=1e-15 if targets is soft else 1e-322)


def test_generalized_cross_entropy_is_half_the_absolute_error_at_the_other_end(variant):
    x, labels, _ = rows()
    absolute = (lf.softmax(x) * (1 - np.eye(7)[labels])).sum(1)  # as much as the true class is short of
    np.testing.assert_allclose(lf.generalized_cross_entropy(x, labels, q=1, reduction="none"), absolute, rtol=4e-15)


def test_the_outputs_of_the_softmax_are_those_of_cross_entropy(variant):
    x, labels, soft = rows()
    want = ("proba", "log_proba", "lse", "pred", "correct", "entropy", "margin", "rank")
    for loss, _ in AT_CROSS_ENTROPY:
        for targets in (labels, soft):
            got, true = (each.evaluate(x, targets, want=want, reduction="none") for each in (loss, lf.cross_entropy))
            for a, b in zip(got, true, strict=True):
                np.testing.assert_allclose(a, b, rtol=4e-15)


@pytest.mark.parametrize("gap", [1e-3, 1.0, 40.0, 300.0, 700.0])
@pytest.mark.parametrize("gamma", [0.25, 1.0, 2.0, 5.0, 7.5])
def test_powers_keep_their_digits(variant, gamma, gap):
    """Also where the model is all but right, and where it is all but wrong."""
    if gamma > 5 and variant.backend != "compiled":
        pytest.skip("of so high a power the bound is the compiled backend's alone")
    e = mp.exp(-exact(gap))
    for label, p, u in ((0, 1 / (1 + e), e / (1 + e)), (1, e / (1 + e), 1 / (1 + e))):
        a = -mp.log(p)
        slope = u ** exact(gamma) * (1 + exact(gamma) * p * a / u)
        value, grad = lf.focal_loss.value_and_grad([[gap, 0.0]], [label], gamma=gamma)
        for got, true in (
            (value, u ** exact(gamma) * a),
            (grad[0, 1 - label], slope * u),
            (grad[0, label], -slope * u),
        ):
            assert abs(exact(got) - true) <= variant.ulp(lf.focal_loss) * ulp(true, np.float64)


@each_profile
def test_a_true_class_that_cannot_be(variant, loss):
    bounded = loss is lf.generalized_cross_entropy
    x = np.array([[1.0, -INF, 1.0], [1.0, -INF, INF], [1.0, 2.0, INF]])
    value, grad = loss.value_and_grad(x, [1, 1, 2], reduction="none")
    hess = loss.grad_and_hess(x, [1, 1, 2], reduction="none")[1]
    assert np.array_equal(value, [1 / 0.7, 1 / 0.7, 0] if bounded else [INF, INF, 0])
    assert np.array_equal(grad, [[0, 0, 0]] * 3 if bounded else [[0.5, -1, 0.5], [0, -1, 1], [0, 0, 0]])
    assert np.array_equal(hess, [[0, 0, 0]] * 3 if bounded else [[0.25, 0, 0.25], [0, 0, 0], [0, 0, 0]])


@each_profile
def test_a_class_of_no_weight_that_cannot_be(variant, loss):
    soft = loss.evaluate([[1.0, -INF, 1.0]], np.array([[0.5, 0, 0.5]]), want=("loss", "grad", "hess"))
    apart = loss.evaluate([[1.0, 1.0]], np.array([[0.5, 0.5]]), want=("loss", "grad", "hess"))
    assert soft.loss == apart.loss
    assert np.array_equal(soft.grad[:, ::2], apart.grad) and np.array_equal(soft.hess[:, ::2], apart.hess)
    assert soft.grad[0, 1] == soft.hess[0, 1] == 0


@pytest.mark.parametrize("loss", [lf.focal_loss, lf.poly_loss], ids=lambda loss: loss.name)
def test_a_gap_beyond_the_range_may_have_a_product_within_it(variant, loss):
    x, weight = np.array([[1.5e308, -1.5e308]]), [0.25]
    for targets in (np.array([1]), np.array([[0.25, 0.75]])):
        true = 0.75e308 if targets.ndim == 1 else 0.75 * 0.75e308
        assert math.isclose(loss(x, targets, sample_weight=weight, reduction="sum"), true, rel_tol=1e-14)
    assert loss(x, [1], reduction="sum") == INF


def test_alpha_multiplies_and_is_no_weight(variant):
    x, labels, _ = rows()
    both = lf.focal_loss.value_and_grad(x, labels), lf.focal_loss.value_and_grad(x, labels, alpha=0.25)
    for plain, scaled in zip(*both, strict=True):
        np.testing.assert_allclose(scaled, 0.25 * plain, rtol=1e-15)
    assert lf.focal_loss.weigh(x, labels, alpha=0.25).weight == 40


# ------------------------------------------------------------------------------------------------------- margins


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("margin", [1.0, 0.3, -0.2])
def test_margins_are_the_formula(variant, p, margin):
    x, labels, _ = rows()
    own = x[np.arange(40), labels][:, None]
    h = np.maximum(0, margin - own + x)
    h[np.arange(40), labels] = 0
    for variant_name, true in (("crammer_singer", h.max(1) ** p), ("weston_watkins", (h**p).sum(1) / 7)):
        got = HINGE(x, labels, variant=variant_name, p=p, margin=margin, reduction="none")
        np.testing.assert_allclose(got, true, rtol=1e-13)


def test_margins_are_those_of_other_libraries(variant):
    torch, metrics = pytest.importorskip("torch"), pytest.importorskip("sklearn.metrics")
    x, labels, _ = rows()
    weight = np.linspace(0.5, 2, 7)
    for p in (1, 2):
        for reduction in ("mean", "sum", "none"):
            theirs = torch.nn.functional.multi_margin_loss(
                torch.tensor(x), torch.tensor(labels), p=p, margin=0.7, weight=torch.tensor(weight), reduction=reduction
            )
            ours = HINGE(
                *(x, labels),
                variant="weston_watkins",
                p=p,
                margin=0.7,
                class_weight=weight,
                reduction="batchmean" if reduction == "mean" else reduction,
            )
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-13)
    assert math.isclose(HINGE(x, labels), metrics.hinge_loss(labels, x, labels=np.arange(7)), rel_tol=1e-14)


def test_kinks_and_ties(variant):
    """No violation at the kink itself; of several largest classes the first."""
    x = np.array([[2.0, 1.0, 1.0], [1.0, 1.0, 1.0], [0.0, 3.0, 3.0]])
    want = {"want": ("loss", "grad", "hess"), "reduction": "none"}
    value, grad, hess = HINGE.evaluate(x, [0, 1, 0], **want)
    assert np.array_equal(value, [0, 1, 4]) and not hess.any()
    assert np.array_equal(grad, [[0, 0, 0], [1, -1, 0], [-1, 1, 0]])
    value, grad, hess = HINGE.evaluate(x, [0, 1, 0], p=2, **want)
    assert np.array_equal(value, [0, 1, 16])
    assert np.array_equal(grad, [[0, 0, 0], [2, -2, 0], [-8, 8, 0]])
    assert np.array_equal(hess, [[0, 0, 0], [2, 2, 0], [2, 2, 0]])
    value, grad, hess = HINGE.evaluate(4 * x, [0, 1, 0], p=2, margin=4, variant="weston_watkins", **want)
    np.testing.assert_allclose(value, [0, 32 / 3, 512 / 3], rtol=1e-15)
    np.testing.assert_allclose(grad, [[0, 0, 0], [8 / 3, -16 / 3, 8 / 3], [-64 / 3, 32 / 3, 32 / 3]], rtol=1e-15)
    np.testing.assert_allclose(hess, [[0, 0, 0], [2 / 3, 4 / 3, 2 / 3], [4 / 3, 2 / 3, 2 / 3]], rtol=1e-15)


@pytest.mark.parametrize("C", [4, 192, 193, 300, 40_000])
def test_the_first_of_equal_rivals(variant, C):
    x = np.zeros((3, C))
    x[:, [C // 3, C - 2]] = 1
    grad = HINGE.grad(x, [0, C // 3, C - 1], reduction="sum")
    expected = np.zeros((3, C))
    expected[np.arange(3), [0, C // 3, C - 1]] = -1
    expected[np.arange(3), [C // 3, C - 2, C // 3]] = 1
    assert np.array_equal(grad, expected)


def test_a_margin_that_all_but_cancels(variant):
    x = np.array([[1.0, 1e-17]])
    assert HINGE(x, [0]) == 1e-17 and math.isclose(HINGE(x, [0], p=2), 1e-34, rel_tol=4e-16)


def test_margins_with_infinities(variant):
    nan = math.nan
    x = np.array(
        [[1.0, -INF, 0.5], [-INF, 1.0, 0.0], [INF, 1.0, 2.0], [1.0, INF, 2.0], [INF, INF, 0.0], [0.0, nan, 0.0]]
    )
    for options in ({}, {"variant": "weston_watkins"}):
        value, grad = HINGE.value_and_grad(x, np.zeros(6, int), reduction="none", **options)
        n = 3 if options else 1
        assert np.array_equal(value, [0.5 / n, INF, 0, INF, nan, nan], equal_nan=True)
        first = [[-1, 0, 1], [-1, 1, 0], [0, 0, 0], [-1, 1, 0]]
        all_ = [[-1, 0, 1], [-2, 1, 1], [0, 0, 0], [-2, 1, 1]]
        np.testing.assert_array_equal(grad[:4], np.array(all_ if options else first) / n)
        assert np.isnan(grad[4:]).all()
    assert HINGE([[-INF, -INF]], [0]) == 0
    masked = HINGE.value_and_grad(x[5:], [0], where=[[True, False, True]])
    assert masked[0] == 1 and np.array_equal(masked[1], [[-1, 0, 1]])


def test_violations_beyond_the_range_on_the_way(variant):
    x = np.array([[-1.5e308, 1.5e308, 0.0]])
    assert HINGE(x, [0]) == INF
    assert math.isclose(HINGE(x, [0], sample_weight=[0.25], reduction="sum"), 0.75e308, rel_tol=1e-15)
    assert math.isclose(HINGE(x, [0], variant="weston_watkins"), 1.5e308, rel_tol=1e-15)
    options = {"p": 2, "sample_weight": [1e-300], "reduction": "sum"}
    x = np.array([[-1e250, 1e250, 0.0]])
    assert math.isclose(HINGE(x, [0], **options), 4e200, rel_tol=1e-14)
    assert math.isclose(HINGE(x, [0], variant="weston_watkins", **options), 5e200 / 3, rel_tol=1e-14)
    assert HINGE(np.array([[-3e38, 3e38]], np.float32), [0], reduction="none") == INF
