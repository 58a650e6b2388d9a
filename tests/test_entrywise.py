"""The losses that are sums over their entries: special values, identities between them, what others call the same."""

import math

import numpy as np
import pytest
from exact import exact_entries, mp
from extended import IS_EXTENDED

import lossfast as lf
from lossfast._loss import REGISTRY, Base
from lossfast.selftest import fitting, worst_ulp

INF, NAN = math.inf, math.nan
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


@pytest.fixture(autouse=True)
def every(variant):
    with variant.chosen():
        yield


#: loss, first argument, second, options; value, gradient, derivative in the second
SPECIAL = [
    ("categorical_cross_entropy", [0, 1], [1, 0], {}, INF, [-INF, 0], [INF, 0]),
    ("categorical_cross_entropy", [0, 1], [0, 1], {}, 0, [0, -1], [INF, 0]),
    ("categorical_cross_entropy", [0, 1], [1, 0], {"eps": 0.25}, math.log(4), [0, 0], [math.log(4), 0]),
    ("categorical_cross_entropy", [NAN, 1], [0, 1], {}, 0, [0, -1], [NAN, 0]),
    ("categorical_cross_entropy", [-0.5, 1], [1, 1], {}, NAN, [NAN, -1], [NAN, 0]),
    ("kl_div", [-INF, 0], [0, 1], {}, 0, [0, -1], [0, 1]),
    ("kl_div", [-INF, 0], [0.5, 0.5], {}, INF, [-0.5, -0.5], [INF, 1 - math.log(2)]),
    ("kl_div", [-1, 0], [0, 1], {}, 0, [0, -1], [-INF, 1]),
    ("kl_div", [-INF, 0], [-INF, 0], {"log_target": True}, 0, [0, -1], [0, 1]),
    ("kl_div", [-INF, 0], [-800, 0], {"log_target": True}, INF, [0, -1], [INF, 1]),
    ("kl_div", [NAN, 0], [0, 1], {}, NAN, [NAN, -1], [NAN, 1]),
    ("kl_div", [0, 0], [-1, 1], {}, NAN, [NAN, -1], [NAN, 1]),
    ("js_div", [0, 1], [0, 1], {}, 0, [0, 0], [0, 0]),
    ("js_div", [0, 1], [1, 0], {}, math.log(2), [-INF, math.log(2) / 2], [math.log(2) / 2, -INF]),
    ("js_div", [0, 1], [1, 0], {"base": 2}, 1, [-INF, 0.5], [0.5, -INF]),
    ("js_div", [-0.5, 1], [1, 1], {}, NAN, [NAN, 0], [NAN, 0]),
    ("cross_entropy_between", [0, 1], [0, 1], {}, 0, [INF, 0], [0, -1]),
    ("cross_entropy_between", [1, 0], [0, 1], {}, INF, [INF, 0], [-INF, 0]),
    ("cross_entropy_between", [0, 1], [NAN, 1], {}, NAN, [NAN, 0], [NAN, -1]),
    ("relative_entropy", [0, 1], [0, 1], {}, 0, [0, 1], [0, -1]),
    ("relative_entropy", [0, 1], [0.5, 1], {}, 0, [-INF, 1], [0, -1]),
    ("relative_entropy", [1, 0], [0, 1], {}, INF, [INF, -INF], [-INF, 0]),
    ("relative_entropy", [-0.5, 1], [1, 1], {}, NAN, [NAN, 1], [NAN, -1]),
    ("multilabel_soft_margin_loss", [INF, -INF], [1, 0], {}, 0, [0, 0], [-INF, INF]),
    ("multilabel_soft_margin_loss", [INF, 0], [0, 1], {}, INF, [0.5, -0.25], [-INF, 0]),
]


@each_dtype
@pytest.mark.parametrize("width", [2, 300])
@pytest.mark.parametrize("row", SPECIAL, ids=lambda row: f"{row[0]}-{row[1]}-{row[2]}".replace(" ", ""))
def test_special_values(row, width, dtype):
    name, x, t, options, value, grad, slope = row
    loss = lf.get_loss(name)
    if width > 2 and loss.average:
        pytest.skip("other classes enter the mean")
    pad = np.zeros(width - 2)
    other = pad if name != "kl_div" or not options.get("log_target") else pad - INF
    x = np.array([[*x, *(pad - (INF if name == "kl_div" else 0))]], dtype)
    t = np.array([[*t, *other]], dtype)
    x, t = (np.repeat(a, 3, 0) for a in (x, t))
    got = loss.evaluate(x, t, want=("loss", "grad", "grad_target"), reduction="none", **options)
    for result, right in zip(got, ([value] * 3, [grad] * 3, [slope] * 3), strict=True):
        np.testing.assert_allclose(result.T[:2].T if result.ndim > 1 else result, right, rtol=1e-6, atol=1e-30)
        assert not np.signbit(result[result == 0]).any()


@pytest.mark.parametrize("loss", [loss for loss in REGISTRY.values() if loss.entrywise], ids=lambda loss: loss.name)
def test_the_sign_of_zero_does_not_matter(loss):
    zeros = [np.array([[sign, 0.5, 0.5], [0.5, sign, 0.5]]) for sign in (0.0, -0.0)]
    if loss.kind == "row_function":
        results = [(loss(x), loss.grad(x)) for x in zeros]
    else:
        results = [loss.evaluate(x, np.roll(x, 1, 1), reduction="none") for x in zeros]
    for plus, minus in zip(*results, strict=True):
        assert plus.tobytes() == minus.tobytes()


def test_identities():
    random = np.random.default_rng(0)
    p, q = random.dirichlet(np.ones(9), (2, 50))
    each = {"reduction": "none"}
    for base in (None, 2.0, 10.0):
        nats = 1 if base is None else math.log(base)
        h, d = lf.entropy(p, base=base), lf.relative_entropy(p, q, base=base, **each)
        np.testing.assert_allclose(lf.cross_entropy_between(p, q, base=base, **each), h + d, rtol=1e-13)
        np.testing.assert_allclose(lf.kl_div(np.log(q), p, **each) / nats, d, rtol=1e-13)
        np.testing.assert_allclose(lf.kl_div(np.log(q), np.log(p), log_target=True, **each) / nats, d, rtol=1e-12)
        m = (p + q) / 2
        two = [lf.relative_entropy(a, m, base=base, **each) for a in (p, q)]
        np.testing.assert_allclose(lf.js_div(p, q, base=base, **each), (two[0] + two[1]) / 2, rtol=1e-13)
        np.testing.assert_allclose((p * lf.self_information(p, base=base)).sum(1), h, rtol=1e-13)
    np.testing.assert_allclose(
        lf.categorical_cross_entropy(p, q, **each), lf.cross_entropy_between(q, p, **each), rtol=1e-13
    )
    one_class = lf.multilabel_soft_margin_loss(p[:, :1], q[:, :1])
    assert math.isclose(one_class, lf.binary_cross_entropy_with_logits(p[:, 0], q[:, 0]), rel_tol=1e-15)


@pytest.mark.parametrize("apart", [1e-3, 1e-6, 1e-9])
def test_near_each_other(apart):
    """Where p is near q the divergence has the digits that its terms leave; that of Jensen and Shannon has all."""
    random = np.random.default_rng(1)
    p = random.dirichlet(np.ones(20), 10)
    q = p * (1 + apart * random.normal(size=p.shape))
    kl, js = lf.relative_entropy(p, q, reduction="none"), lf.js_div(p, q, reduction="none")
    for row in range(len(p)):
        a, b = ([mp.mpf(float(u)) for u in x[row]] for x in (p, q))
        terms = [u * mp.log(u / v) for u, v in zip(a, b, strict=True)]
        assert abs(kl[row] - mp.fsum(terms)) <= mp.ldexp(mp.fsum(map(abs, terms)), -50)
        middle = [(u + v) / 2 for u, v in zip(a, b, strict=True)]
        true = mp.fsum((u * mp.log(u / m) + v * mp.log(v / m)) / 2 for u, v, m in zip(a, b, middle, strict=True))
        assert abs(js[row] - true) <= mp.ldexp(true, -50)


def test_bases_are_rounded_once():
    for base in (2, 10, 0.3, 1.0000001, 1e300, math.e):
        exact = 1 / mp.log(mp.mpf(float(base)))
        assert abs(Base().number(base) - exact) <= mp.mpf(float(np.spacing(abs(float(exact))))) / 2
    assert Base().number(None) == Base().number(math.e) == 1
    bound = lf.self_information.bind(base=2.0)
    # a base that is what another one's factor is
    assert [float(bound(0.25, base=b)) for b in (2.0, Base().number(2.0), 2.0)] == pytest.approx([2, 3.78, 2], rel=1e-2)


def test_check_distribution_looks_at_probabilities():
    p, off = np.array([[0.25, 0.75]]), np.array([[0.25, 0.8]])
    for loss in (lf.js_div, lf.relative_entropy, lf.cross_entropy_between):
        loss(p, p, check="distribution")
        with pytest.raises(ValueError, match="p at row 0 are not a distribution"):
            loss(off, p, check="distribution")
        with pytest.raises(ValueError, match="q at row 0 are not a distribution"):
            loss(p, off, check="distribution")
    with pytest.raises(ValueError, match="p at row 0 are not a distribution"):
        lf.categorical_cross_entropy(off, [0], check="distribution")
    with pytest.raises(ValueError, match="target at row 0 are not a distribution"):
        lf.kl_div(np.log(p), off, check="distribution")
    lf.kl_div(np.log(p), np.log(p), log_target=True, check="distribution")
    lf.multilabel_soft_margin_loss(p, [[1, 1]], check="distribution")


def test_class_weights_of_several_labels_divide_nothing():
    random = np.random.default_rng(2)
    x, t, w = random.normal(size=(6, 4)), random.integers(0, 2, (6, 4)), random.random(4)
    each = w * (np.log1p(np.exp(-x)) * t + np.log1p(np.exp(x)) * (1 - t))
    assert math.isclose(lf.multilabel_soft_margin_loss(x, t, class_weight=w), each.mean(), rel_tol=1e-14)
    reduced = lf.multilabel_soft_margin_loss.reduce(x, t, class_weight=w)
    assert reduced.weight == 6 and math.isclose(reduced.mean, each.mean(), rel_tol=1e-14)
    where = np.array([True, True, False, True])
    masked = lf.multilabel_soft_margin_loss(x, t, class_weight=w, where=where)
    assert math.isclose(masked, each[:, where].mean(), rel_tol=1e-14)


def test_perplexity():
    random = np.random.default_rng(3)
    x, y = random.normal(size=(30, 7)), random.integers(0, 7, 30)
    mean = lf.cross_entropy(x, y)
    assert lf.perplexity(x, y) == math.exp(mean) == lf.cross_entropy.reduce(x, y).perplexity
    parts = [lf.cross_entropy.reduce(x[rows], y[rows]) for rows in (slice(0, 11), slice(11, None))]
    assert math.isclose(sum(parts).perplexity, math.exp(mean), rel_tol=1e-15)
    logp = lf.log_softmax(x)
    assert math.isclose(lf.nll_loss.reduce(logp, y).perplexity, math.exp(mean), rel_tol=1e-14)
    assert math.isclose(lf.perplexity(np.zeros((3, 5)), [0, 1, -100]), 5, rel_tol=1e-15)
    assert lf.perplexity([[0.0, -INF]], [1]) == INF and lf.perplexity([[0.0, -800.0]], [1]) == INF
    assert math.isnan(lf.perplexity([[0.0, 1.0]], [-100])) and lf.perplexity([[0.0, 1.0]], [-100], empty="zero") == 1
    with pytest.raises(TypeError, match="takes no reduction"):
        lf.perplexity(x, y, reduction="sum")


def long_rows(loss, C, dtype, seed):
    """Arguments, and value, gradient and Hessian in long double with the sizes of the terms that cancel."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(18 if C < 1000 else 2, C)) * 10.0 ** random.uniform(-1, 1.5, (1, C))
    t = np.where(
        random.random(x.shape) < 0.3, x * (1 + 1e-3 * random.normal(size=x.shape)), random.normal(size=x.shape)
    )
    x, *targets = fitting(loss, x.astype(dtype), *([t.astype(dtype)] if len(loss.operands) > 1 else []))
    return x, targets


@each_dtype
@pytest.mark.parametrize("loss", [loss for loss in REGISTRY.values() if loss.entrywise], ids=lambda loss: loss.name)
@pytest.mark.skipif(not IS_EXTENDED, reason="long double is not longer than double here")
def test_any_number_of_classes_within_the_bounds(variant, loss, dtype):
    """Few classes, many, more than a block has; against the twin in long double."""
    bound = variant.ulp(loss)
    for C in (*range(1, 34, 3), 100, 191, 192, 193, 300, 1001, 15_872, 15_873, 40_001):
        if C > 1001 and (dtype == np.float32 or loss.of == "pairs"):  # of which there are C squared
            continue
        x, targets = long_rows(loss, C, dtype, C)
        wide = [a.astype(np.longdouble) for a in (x, *targets)]
        if not targets:
            wide.append(np.zeros_like(wide[0]))
        with np.errstate(all="ignore"):
            parameters = list(map(np.longdouble, loss.own_numbers()))
            value, grad, hess, _ = loss.twin(*wide, *parameters)
        share = np.longdouble(1) / C if loss.average else 1
        with np.errstate(all="ignore"):
            sizes = loss.terms(*wide, *parameters) if loss.terms else (0, 0)
        all_sizes = np.maximum(abs(value), sizes[0]).sum(1) * share
        true = [(value.sum(1) * share, all_sizes), (grad * share, sizes[1] * share), (hess * share, 0)]
        if targets:
            got = loss.evaluate(x, *targets, want=("loss", "grad", "hess"), reduction="none")
        else:
            got = loss(x), loss.grad(x)
        for name, result, (right, terms) in zip(("value", "grad", "hess"), got, true, strict=False):
            worst = worst_ulp(result, right, terms)
            assert worst <= bound + (name == "hess"), (name, C, worst)


@each_dtype
@pytest.mark.parametrize("C", [3, 200, 16_000])
def test_labels_are_soft_labels_with_one_class(variant, C, dtype):
    """On the compiled backend to the bit, and the entries beside the label's are of no account."""
    random = np.random.default_rng(C)
    p, labels = random.dirichlet(np.ones(C), 20).astype(dtype), random.integers(0, C, 20)
    soft = (np.arange(C) == labels[:, None]).astype(dtype)
    spoilt = np.where(soft == 1, p, NAN).astype(dtype)
    want = ("loss", "grad", "hess")
    for options in ({}, {"class_weight": random.random(C)}, {"eps": 1e-3}, {"sample_weight": random.random(20)}):
        for reduction in ("mean", "none"):
            given = {"want": want, "reduction": reduction, **options}
            hard = lf.categorical_cross_entropy.evaluate(p, labels, **given)
            for other in (
                lf.categorical_cross_entropy.evaluate(p, soft, **given),
                lf.categorical_cross_entropy.evaluate(spoilt, labels, **given),
            ):
                for a, b in zip(hard, other, strict=True):
                    if variant.backend == "compiled":
                        assert np.array_equal(a, b)
                    else:
                        np.testing.assert_allclose(a, b, rtol=1e-6 if dtype == np.float32 else 1e-14)


def test_a_mean_over_classes_whose_sum_overflows():
    x = np.array([[1.5e308, 1.6e308, 1.7e308, 0.5], [1.0, 2.0, 3.0, 4.0]])
    t = np.zeros_like(x)
    for width in (4, 300):
        wide, none = (np.pad(a, ((0, 0), (0, width - 4))) for a in (x, t))
        value = lf.multilabel_soft_margin_loss(wide, none, reduction="none")
        assert math.isclose(value[0], (1.5e308 / width + 1.6e308 / width + 1.7e308 / width), rel_tol=1e-14)
        assert math.isclose(value[1], np.log1p(np.exp(wide[1])).sum() / width, rel_tol=1e-14)
    assert lf.multilabel_soft_margin_loss([[INF, 0.0]], [[0, 0]]) == INF


@pytest.mark.parametrize("name", ["js_div", "relative_entropy", "cross_entropy_between", "entropy"])
def test_tiny_probabilities_keep_the_digits_that_there_are(variant, name):
    if variant.backend != "compiled":
        pytest.skip("the others sum numbers that are rounded already")
    loss, random = lf.get_loss(name), np.random.default_rng(4)
    p, q = 1e-311 * random.random((2, 8, 33))
    given = (p,) if name == "entropy" else (p, q)
    got = loss(*given) if name == "entropy" else loss(*given, reduction="none")
    for row in range(len(p)):
        x, t = ([mp.mpf(float(u)) for u in a[row]] for a in (p, q))
        true, size = (part[0] for part in exact_entries(loss, x, None if name == "entropy" else t)["value"])
        assert abs(mp.mpf(float(got[row])) - true) <= max(mp.mpf(2.0**-1074), mp.ldexp(size, -51))


@pytest.mark.parametrize("target", [INF, -INF, 1e30, -3.0, 0.3])
def test_the_second_derivative_of_soft_margins_knows_no_target(target):
    loss = lf.multilabel_soft_margin_loss
    hess = loss.evaluate([[1.0, 0.0]], [[target, 1.0]], want=["hess"]).hess
    np.testing.assert_allclose(hess, [[math.exp(1) / (1 + math.exp(1)) ** 2 / 2, 0.125]], rtol=1e-14)
    assert np.isnan(loss.evaluate([[1.0, 0.0]], [[NAN, 1.0]], want=["hess"]).hess[0, 0])


def test_directions_of_0_hear_nan():
    """As NaN logits do; a class that a mask takes out does not."""
    x, t = np.array([[NAN, 0.5, 0.5]]), np.array([[0.5, 0.5, 0.0]])
    for loss in (lf.relative_entropy, lf.js_div, lf.categorical_cross_entropy):
        assert np.isnan(loss.hvp(x, t, np.zeros((1, 3)))).tolist() == [[True, False, False]]
        assert not np.isnan(loss.hvp(x, t, np.zeros((1, 3)), where=[[False, True, True]])).any()


# ------------------------------------------------------------------------------------------------- pairs of classes

#: (logits, targets, loss, gradient) of `multilabel_margin_loss`
PAIRS = [
    ([0.25, 0.5, 1.0, 2.0], [1, 0, 0, 1], 0.75, [-0.5, 0.25, 0.25, 0]),
    ([1.0, 0.0, 5.0], [1, 0, 2], 0, [0, 0, 0]),  # at the kink, and far from it
    ([1.0, 2.0], [0, -0.0], 0, [0, 0]),
    ([1.0, 2.0], [1, -3], 0, [0, 0]),
    ([-INF, 0.0, 1.0], [0, 1, 1], 0, [0, 0, 0]),
    ([-INF, 0.0, -INF], [1, 0, 0], INF, [-1 / 3, 1 / 3, 0]),
    ([INF, 0.0, 1.0], [0, 1, 0], INF, [1 / 3, -2 / 3, 1 / 3]),
    ([INF, 0.0, 1.0], [1, 0, 0], 0, [0, 0, 0]),
    ([INF, INF, 1.0], [1, 0, 0], NAN, [NAN] * 3),
    ([INF, INF, 1.0], [1, 1, 0], 0, [0, 0, 0]),
    ([NAN, 0.0, 1.0], [0, 0, 0], NAN, [NAN] * 3),
    ([2.0, 0.0, 1.0], [0, NAN, 0], NAN, [NAN] * 3),
    ([-1.5e308, 1.5e308, 0.0], [1, 0, 0], 1.5e308, [-2 / 3, 1 / 3, 1 / 3]),
    ([1.7e308, 0.0, 0.0], [0, 1, 1], 1.7e308 / 1.5, [2 / 3, -1 / 3, -1 / 3]),
]


@pytest.mark.parametrize("width", [0, 300, 1200])
@pytest.mark.parametrize("row", PAIRS, ids=lambda row: f"{row[0]}-{row[1]}".replace(" ", ""))
def test_pairs(row, width):
    """A row beside others; and among as many classes more, none of which can be or is one of the row's."""
    x, t, value, grad = row
    size = len(x)
    share = size / (size + width)
    x, t = np.pad([x] * 3, ((0, 0), (0, width)), constant_values=-INF), np.pad([t] * 3, ((0, 0), (0, width)))
    t = t.astype(float)
    x[[0, 2]], t[[0, 2]] = np.arange(size + width) / 7, np.arange(size + width) % 3 == 0
    result = lf.multilabel_margin_loss.evaluate(x, t, reduction="none")
    np.testing.assert_allclose(result.loss[1], value * share, rtol=1e-15)
    beside = np.full(width, value if value != value else 0)
    np.testing.assert_allclose(result.grad[1], [*np.multiply(grad, share), *beside], rtol=1e-15)
    assert np.array_equal(result.hess, 0 * result.grad, equal_nan=True)
    masked = lf.multilabel_margin_loss.evaluate(x, t, reduction="none", where=np.arange(size + width) < size)
    np.testing.assert_allclose(masked.loss[1], value, rtol=1e-15)
    np.testing.assert_allclose(masked.grad[1, :size], grad, rtol=1e-15)
    assert np.isfinite(result.loss[[0, 2]]).all() and np.isfinite(result.grad[[0, 2]]).all()


@pytest.mark.parametrize(("C", "labels"), [(5, 2), (192, 5), (193, 5), (1100, 700), (3000, 3)])
def test_pairs_by_torch(C, labels):
    """Rows of any width, with few labels and with more than the kernels have room for; written over the logits too."""
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(C)
    x = random.normal(size=(4, C))
    listed = np.full((4, C), -1)
    for row in listed:
        row[:labels] = random.permutation(C)[:labels]
    given = torch.tensor(x, requires_grad=True)
    true = torch.nn.functional.multilabel_margin_loss(given, torch.tensor(listed))
    true.backward()
    valid = np.cumprod(listed >= 0, axis=-1, dtype=bool)
    targets = (np.arange(C) == np.where(valid, listed, -1)[..., None]).any(-2)
    value, grad = lf.multilabel_margin_loss.value_and_grad(x, targets, grad_out=x)
    assert grad is x
    assert math.isclose(value, true.item(), rel_tol=1e-13)
    np.testing.assert_allclose(grad, given.grad.numpy(), rtol=0, atol=1e-15 * C)
