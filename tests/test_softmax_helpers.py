"""What second-order methods and calibration take of the softmax family: Jacobians, products, and the temperature."""

import numpy as np
import pytest
from exact import exact, mp, off_by
from scipy import optimize

import lossfast as lf

LOGITS = np.random.default_rng(5).normal(size=(6, 4)) * np.array([0.3, 1, 3, 10, 40, 300])[:, None]
LABELS = np.array([0, 3, 1, 2, 0, 1])


def exact_jacobian(row, temperature):
    z = [exact(u) / exact(temperature) for u in row]
    e = [mp.exp(u - max(z)) for u in z]
    total, n = mp.fsum(e), range(len(z))
    others = [mp.fsum(e[:c] + e[c + 1 :]) for c in n]
    unit = total**2 * exact(temperature)
    return [[(e[i] * others[i] if i == j else -e[i] * e[j]) / unit for j in n] for i in n]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_jacobian_is_exact(variant, dtype, temperature):
    x = np.concatenate((LOGITS, LOGITS[:, ::-1] + 100)).astype(dtype)
    with variant.chosen():
        got = lf.softmax.jacobian(x, temperature=temperature)
    assert got.dtype == dtype and got.shape == (12, 4, 4)
    for row, result in zip(x, got, strict=True):
        for true, entries in zip(exact_jacobian(row, temperature), result, strict=True):
            assert max(off_by(g, u, 0, dtype) for g, u in zip(entries, true, strict=True)) <= 2


def test_jacobian_is_the_same_everywhere(variant):
    with variant.chosen():
        got = lf.softmax.jacobian(LOGITS, temperature=0.9)
    with lf.use_backend("numpy"):
        assert np.array_equal(got, lf.softmax.jacobian(LOGITS, temperature=0.9, n_threads=4))


def test_jacobian_of_certain_and_impossible_classes():
    certain = lf.softmax.jacobian([60.0, 0.0])
    assert np.all(abs(certain / [[1, -1], [-1, 1]] / np.exp(-60) - 1) < 1e-15)
    inside = lf.softmax.jacobian([[0.0, 1.0]])
    outside = lf.softmax.jacobian([[-np.inf, 0.0, 1.0]])
    assert np.array_equal(outside[:, 1:, 1:], inside) and not outside[:, 0].any() and not outside[..., 0].any()
    masked = lf.softmax.jacobian([[np.nan, 0.0, 1.0]], where=[False, True, True])
    assert np.array_equal(masked, outside)
    assert not np.signbit(outside[:, 0]).any()
    assert not lf.softmax.jacobian([1.0, np.inf, 3.0]).any()
    assert np.isnan(lf.softmax.jacobian([1.0, np.nan])).all()
    assert not lf.softmax.jacobian([1.0, 2.0], where=[False, False]).any()
    assert lf.softmax.jacobian(np.zeros((2, 0))).shape == (2, 0, 0)
    assert lf.softmax.jacobian(np.zeros((0, 3))).shape == (0, 3, 3)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_jacobian_of_any_axis_and_of_wide_rows(axis, monkeypatch):
    x = np.random.default_rng(3).normal(size=(3, 5, 4))
    rows = np.moveaxis(x, axis, -1)
    plain = np.array([lf.softmax.jacobian(row) for row in rows.reshape(-1, rows.shape[-1])])
    plain = plain.reshape(*rows.shape, rows.shape[-1])
    assert np.array_equal(lf.softmax.jacobian(x, axis=axis), plain)
    out = np.full((*rows.shape, rows.shape[-1]), 7, np.float32)
    assert lf.softmax.jacobian(x, axis=axis, out=out) is out
    assert np.array_equal(out, plain.astype(np.float32))
    numpy = pytest.importorskip("lossfast.backends.numpy")
    monkeypatch.setattr(numpy, "BLOCK", 3)  # every row goes by in pieces
    np.testing.assert_allclose(lf.softmax.jacobian(x, axis=axis), plain, rtol=1e-15)


def test_jacobian_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"out has shape \(2, 2\), but its result has shape \(1, 2, 2\)"):
        lf.softmax.jacobian([[0.0, 1.0]], out=np.empty((2, 2)))
    square = np.zeros((2, 2, 2))
    with pytest.raises(ValueError, match="overlaps x"):
        lf.softmax.jacobian(square[0], out=square)
    with pytest.raises(ValueError, match="temperature must be finite and > 0, got 0"):
        lf.softmax.jacobian([0.0, 1.0], temperature=0)
    with pytest.raises(ValueError, match="axis 2 is out of range"):
        lf.softmax.jacobian([0.0, 1.0], axis=2)
    assert not hasattr(lf.log_softmax, "jacobian")


def test_products_agree_with_the_jacobian(variant):
    x, v = LOGITS[:4], np.random.default_rng(9).normal(size=(4, 4))
    with variant.chosen():
        J = lf.softmax.jacobian(x, temperature=1.3)
        expected = np.einsum("nij,nj->ni", J, v)
        np.testing.assert_allclose(lf.softmax.jvp(x, v, temperature=1.3), expected, atol=1e-15)
        np.testing.assert_allclose(lf.softmax.vjp(x, v, temperature=1.3), expected, atol=1e-15)
        logs = np.eye(4) / 1.3 - lf.softmax(x, temperature=1.3)[:, None, :] / 1.3
        np.testing.assert_allclose(
            lf.log_softmax.jvp(x, v, temperature=1.3), np.einsum("nij,nj->ni", logs, v), atol=1e-14
        )
        np.testing.assert_allclose(
            lf.log_softmax.vjp(x, v, temperature=1.3), np.einsum("nij,ni->nj", logs, v), atol=1e-14
        )
        p = lf.softmax(x)
        np.testing.assert_allclose(lf.logsumexp.vjp(x, v[:, 0]), p * v[:, :1], atol=1e-15)
        np.testing.assert_allclose(lf.logsumexp.jvp(x, v), (p * v).sum(1), atol=1e-14)


def test_newton_step_and_products_solve_with_the_hessian(variant):
    """Cross-entropy's Hessian is the softmax Jacobian."""
    x, y, v = LOGITS[:3], LABELS[:3], np.random.default_rng(9).normal(size=(3, 4))
    with variant.chosen():
        H, g = lf.softmax.jacobian(x), lf.cross_entropy.grad(x, y, reduction="sum")
        np.testing.assert_allclose(
            lf.cross_entropy.hvp(x, y, v, reduction="sum"), np.einsum("nij,nj->ni", H, v), atol=1e-15
        )
        step = lf.cross_entropy.newton_step(x, y, ridge=0.1, reduction="sum")
    np.testing.assert_allclose(step, -np.linalg.solve(H + 0.1 * np.eye(4), g[..., None])[..., 0], rtol=1e-12)


# ------------------------------------------------------------------------------------------------- the temperature

SETTINGS = {
    "labels": {},
    "soft": {"soft": True},
    "smoothed": {"label_smoothing": 0.1},
    "weighted": {"class_weight": np.array([0.5, 1, 2, 3]), "sample_weight": np.array([1, 2, 0, 1, 1, 0.5])},
    "z_loss": {"z_loss": 0.01},
    "masked": {"where": np.array([True, True, True, False]), "soft": True},
}


def given(setting):
    options = dict(SETTINGS[setting])
    targets = LABELS
    if options.pop("soft", False):
        targets = np.random.default_rng(1).dirichlet(np.ones(4), 6)
        if "where" in options:
            targets[:, ~options["where"]] = 0
    return targets, options


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_derivatives_in_the_temperature(variant, setting, reduction):
    targets, options = given(setting)
    x, T, h = LOGITS[:, :4] / 10, 1.4, 1e-4

    def loss(temperature):
        return lf.cross_entropy(x, targets, temperature=temperature, reduction=reduction, **options)

    with variant.chosen():
        want = ("hess_temperature", "grad_temperature")
        bend, slope = lf.cross_entropy.evaluate(x, targets, temperature=T, want=want, reduction=reduction, **options)
        below, here, above = map(loss, (T - h, T, T + h))
    assert np.shape(bend) == np.shape(here) and isinstance(bend, float) == (reduction != "none")
    np.testing.assert_allclose(slope, (above - below) / (2 * h), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(bend, (above - 2 * here + below) / h**2, rtol=1e-5, atol=1e-6)


def test_second_derivative_in_the_temperature_has_a_buffer_and_is_empty_where_nothing_counts():
    out = np.empty(6, np.float32)
    got = lf.cross_entropy.evaluate(LOGITS, LABELS, want="hess_temperature", reduction="none", hess_temperature_out=out)
    assert got.hess_temperature is out
    ignored = np.full(6, -100)
    assert lf.cross_entropy.evaluate(LOGITS, ignored, want="hess_temperature", empty="zero").hess_temperature == 0
    with pytest.raises(TypeError, match="it needs reduction='none'"):
        lf.cross_entropy.evaluate(LOGITS, LABELS, want="hess_temperature", hess_temperature_out=out)


def fitted(logits, labels, most=20):
    """The temperature with the least cross-entropy by Newton's method in its inverse, and how many steps it took."""
    inverse, steps = 1 / abs(logits).max(), 0
    while steps < most:
        T = 1 / inverse
        want = ("grad_temperature", "hess_temperature")
        first, second = lf.cross_entropy.evaluate(logits, labels, temperature=T, want=want)
        change = T**2 * first / (T**4 * second + 2 * T**3 * first)
        if abs(change) <= 1e-13 * inverse:
            break
        inverse += change
        steps += 1
    return 1 / inverse, steps


@pytest.mark.parametrize("true", [0.5, 2.0, 5.0])
def test_a_temperature_is_fitted_in_a_few_steps(variant, true):
    """As it is used: a held-out set of logits that are too sure by a factor, or not sure enough."""
    random = np.random.default_rng(11)
    honest = random.normal(size=(2000, 10)) * 2
    labels = (honest + random.gumbel(size=honest.shape)).argmax(1)
    logits = honest * true

    def slope(temperature):
        want = "grad_temperature"
        return lf.cross_entropy.evaluate(logits, labels, temperature=temperature, want=want).grad_temperature

    with variant.chosen():
        T, steps = fitted(logits, labels)
        root = optimize.brentq(slope, 0.1, 20, xtol=1e-14, rtol=1e-14)
        least = optimize.minimize_scalar(
            lambda T: lf.cross_entropy(logits, labels, temperature=T), bounds=(0.1, 20), method="bounded"
        )
    assert steps <= 9
    assert T == pytest.approx(root, rel=1e-10) and T == pytest.approx(true, rel=0.1)
    assert lf.cross_entropy(logits, labels, temperature=T) <= least.fun * (1 + 1e-10)


# --------------------------------------------------------------------------------------------------- the targets


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (lf.cross_entropy, {}),
        (lf.cross_entropy, {"label_smoothing": 0.2, "temperature": 1.5, "class_weight": np.array([0.5, 1, 2, 3])}),
        (lf.cross_entropy, {"z_loss": 0.1, "sample_weight": np.array([1, 2, 0, 1, 1, 0.5])}),
        (lf.kl_div_from_logits, {}),
        (lf.kl_div_from_logits, {"temperature": 1.5, "sample_weight": np.array([1, 2, 0, 1, 1, 0.5])}),
    ],
    ids=["cross_entropy", "all options", "z_loss", "divergence", "divergence, weighted"],
)
def test_derivatives_in_the_targets(variant, loss, options):
    x, step = LOGITS / 20, 1e-5
    targets = np.random.default_rng(2).dirichlet(np.ones(4), 6)
    with variant.chosen():
        got = loss.evaluate(x, targets, want="grad_target", reduction="sum", **options).grad_target
        numeric = np.empty_like(targets)
        for index in np.ndindex(targets.shape):
            ends = []
            for sign in (-1, 1):
                moved = targets.copy()
                moved[index] += sign * step
                ends.append(loss(x, moved, reduction="sum", **options))
            numeric[index] = (ends[1] - ends[0]) / (2 * step)
    np.testing.assert_allclose(got, numeric, rtol=1e-6, atol=1e-8)
