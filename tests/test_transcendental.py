"""Losses of which a logarithm or an exponential is a term: other libraries, limits and special values."""

import math

import numpy as np
import pytest

import lossfast as lf

INF, NAN = math.inf, math.nan
RANDOM = np.random.default_rng(3)
X, T, P = RANDOM.normal(size=60) * 2, np.exp(RANDOM.normal(size=60)), RANDOM.uniform(0.01, 0.99, 60)
SIGNS, SHARES, COUNTS = RANDOM.choice([-1.0, 1.0], 60), RANDOM.random(60), RANDOM.poisson(3, 60).astype(float)


def peers():
    """(ours, torch's function of tensors, operands)"""
    torch = pytest.importorskip("torch")
    functional, tensor = torch.nn.functional, torch.tensor
    clipped = lf.binary_cross_entropy.bind(eps=0.2)

    def focal(x, t, alpha=0.25, gamma=2):
        """What torchvision.ops.sigmoid_focal_loss computes."""
        p, c = torch.sigmoid(x), functional.binary_cross_entropy_with_logits(x, t, reduction="none")
        return ((alpha * t + (1 - alpha) * (1 - t)) * c * (1 - (p * t + (1 - p) * (1 - t))) ** gamma).mean()

    yield lf.binary_cross_entropy, functional.binary_cross_entropy, (P, SHARES)
    yield clipped, lambda p, t: functional.binary_cross_entropy(p.clamp(0.2, 0.8), t), (P, SHARES)
    yield lf.soft_margin_loss, functional.soft_margin_loss, (X, SIGNS)
    yield lf.exponential_loss, lambda x, t: torch.exp(-x * t).mean(), (X, SIGNS)
    yield lf.log_cosh_loss, lambda x, t: torch.log(torch.cosh(x - t)).mean(), (X, T)
    yield lf.cauchy_loss.bind(c=0.7), lambda x, t: (0.245 * torch.log1p(((x - t) / 0.7) ** 2)).mean(), (X, T)
    yield lf.msle, lambda x, t: ((torch.log1p(x) - torch.log1p(t)) ** 2).mean(), (np.abs(X), T)
    yield lf.sigmoid_focal_loss.bind(alpha=0.25), focal, (X, SHARES)
    yield lf.sigmoid_focal_loss.bind(alpha=0.5, gamma=0.7), lambda x, t: focal(x, t, 0.5, 0.7), (X, np.round(SHARES))
    for ours, theirs, x in [
        ({}, {}, X),
        ({"log_input": False, "eps": 1e-3}, {"log_input": False, "eps": 1e-3}, np.abs(X)),
        ({"full": "stirling"}, {"full": True}, X),
    ]:
        yield (
            lf.poisson_nll_loss.bind(**ours),
            lambda x, t, theirs=theirs: functional.poisson_nll_loss(x, t, **theirs),
            (x, COUNTS),
        )
    exact = torch.distributions.Poisson
    yield lf.poisson_nll_loss.bind(full=True), lambda x, t: -exact(torch.exp(x)).log_prob(t).mean(), (X, COUNTS)
    assert tensor is not None


def test_torch_agrees(variant):
    torch = pytest.importorskip("torch")
    with variant.chosen():
        for ours, theirs, (x, t) in peers():
            tensor = torch.tensor(x, requires_grad=True)
            value = theirs(tensor, torch.tensor(t))
            value.backward()
            got, grad = ours.value_and_grad(x, t)
            np.testing.assert_allclose(got, value.item(), rtol=1e-11, err_msg=repr(ours))
            np.testing.assert_allclose(grad, tensor.grad.numpy(), rtol=1e-10, atol=1e-15, err_msg=repr(ours))


def test_deviances_are_half_of_scikit_learns(variant):
    metrics = pytest.importorskip("sklearn.metrics")
    with variant.chosen():
        for power in (-0.5, 0, 1, 1.3, 1.9, 2, 2.5, 3):
            expected = metrics.mean_tweedie_deviance(T, np.exp(X), power=power) / 2
            for pred, link in ((X, "log"), (np.exp(X), "identity")):
                got = lf.half_tweedie_deviance(pred, T, power=power, link=link)
                np.testing.assert_allclose(got, expected, rtol=1e-11, err_msg=f"{power} {link}")
        expected = metrics.mean_gamma_deviance(T, np.exp(X)) / 2
        np.testing.assert_allclose(lf.half_gamma_deviance(X, T), expected, rtol=1e-12)
        np.testing.assert_allclose(lf.half_gamma_deviance(np.exp(X), T, link="identity"), expected, rtol=1e-12)


def test_derivatives_are_those_of_scikit_learns_losses(variant):
    module = pytest.importorskip("sklearn._loss.loss")
    with variant.chosen():
        for theirs, ours in [
            (module.HalfGammaLoss(), lf.half_gamma_deviance),
            (module.HalfPoissonLoss(), lf.poisson_nll_loss),
            (module.HalfTweedieLoss(power=1.7), lf.half_tweedie_deviance.bind(power=1.7)),
        ]:
            grad, hess = ours.grad_and_hess(X, T, reduction="none")
            for got, expected in zip((grad, hess), theirs.gradient_hessian(T, X), strict=True):
                np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-14)
        identity = module.HalfTweedieLossIdentity(power=1.7)
        grad = lf.half_tweedie_deviance.grad(T[::-1], T, power=1.7, link="identity", reduction="none")
        np.testing.assert_allclose(grad, identity.gradient(T, np.ascontiguousarray(T[::-1])), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_deviances_near_a_perfect_prediction_keep_their_digits(variant, dtype):
    """Half the squared relative difference, which what they are the difference of has not a digit of."""
    step = dtype(2.0**-20 if dtype == np.float32 else 2.0**-40)
    target, mean = np.array([1, 1], dtype), np.array([1 + step, 1 - step], dtype)
    with variant.chosen():
        for loss in (
            lf.half_gamma_deviance,
            lf.half_tweedie_deviance.bind(power=1.5),
            lf.half_tweedie_deviance.bind(power=1),
        ):
            got = loss(mean, target, link="identity", reduction="none")
            np.testing.assert_allclose(got, 0.5 * float(step) ** 2, rtol=4 * float(step))
            got = loss(np.array([step, -step]), target, reduction="none")
            np.testing.assert_allclose(got, 0.5 * float(step) ** 2, rtol=4 * float(step))


def test_powers_are_continuous_and_have_their_limits(variant):
    with variant.chosen():
        for power, other in ((1.0, 1.0 + 1e-9), (2.0, 2.0 - 1e-9), (2.0, 2.0 + 1e-9), (1.0, 1.0 - 1e-9), (0.0, 1e-9)):
            for link, x in (("log", X), ("identity", np.exp(X))):
                here, there = (
                    lf.half_tweedie_deviance.evaluate(x, T, power=p, link=link, reduction="none")
                    for p in (power, other)
                )
                for a, b in zip(here, there, strict=True):
                    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
        gamma = lf.half_gamma_deviance.evaluate(X, T, reduction="none")
        for a, b in zip(gamma, lf.half_tweedie_deviance.evaluate(X, T, power=2, reduction="none"), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)
        poisson = lf.poisson_nll_loss(X, T, reduction="none") - lf.poisson_nll_loss(np.log(T), T, reduction="none")
        np.testing.assert_allclose(
            lf.half_tweedie_deviance(X, T, power=1, reduction="none"), poisson, rtol=1e-9, atol=1e-13
        )
        for power, value in ((0.5, 1 / 1.5), (1, 1), (1.5, 2), (2, INF), (3, INF)):
            assert lf.half_tweedie_deviance([0.0], [0.0], power=power) == pytest.approx(value)
        assert lf.half_tweedie_deviance([0.0], [0.0], power=1, link="identity") == 0
        assert lf.half_tweedie_deviance([-3.0], [1.0], power=0, link="identity") == 8
        assert math.isnan(lf.half_tweedie_deviance([-3.0], [1.0], link="identity"))
        assert math.isnan(lf.half_gamma_deviance([-3.0], [1.0], link="identity"))


def evaluated(loss, x, t, **options):
    return tuple(float(a[0]) for a in loss.evaluate([x], [t], reduction="none", **options))


def test_limits(variant):
    with variant.chosen():
        entropy = lf.binary_cross_entropy
        assert evaluated(entropy, 0.0, 0.0) == (0, 1, 1) and evaluated(entropy, 1.0, 1.0) == (0, -1, 1)
        assert evaluated(entropy, 0.0, 1.0) == (INF, -INF, INF) and evaluated(entropy, 1.0, 0.0) == (INF, INF, INF)
        assert evaluated(entropy, -0.0, 0.5) == (INF, -INF, INF) and evaluated(entropy, 1.0, 0.5) == (INF, INF, INF)
        assert evaluated(entropy, 0.0, 1.0, eps=0.25) == (pytest.approx(math.log(4)), 0, 0)
        assert evaluated(lf.logistic_loss, INF, 1.0) == (0, 0, 0) and evaluated(lf.logistic_loss, INF, -1.0) == (
            INF,
            1,
            0,
        )
        assert evaluated(lf.exponential_loss, INF, 1.0) == (0, 0, 0)
        assert evaluated(lf.exponential_loss, -INF, 1.0) == (INF, -INF, INF)
        assert evaluated(lf.log_cosh_loss, -INF, 1.0) == (INF, -1, 0) and evaluated(lf.cauchy_loss, INF, 1.0) == (
            INF,
            0,
            0,
        )
        assert evaluated(lf.sigmoid_focal_loss, INF, 1.0) == (0, 0, 0)
        assert evaluated(lf.sigmoid_focal_loss, INF, 0.0) == (INF, 1, 0)
        assert evaluated(lf.poisson_nll_loss, -INF, 0.0) == (0, 0, 0)
        assert evaluated(lf.poisson_nll_loss, -INF, 2.0) == (INF, -2, 0)
        assert evaluated(lf.poisson_nll_loss, INF, 2.0) == (INF, INF, INF)
        assert evaluated(lf.poisson_nll_loss, 0.0, 0.0, log_input=False, eps=0.0) == (0, 1, 0)
        assert evaluated(lf.half_gamma_deviance, INF, 2.0) == (INF, 1, 0)
        assert evaluated(lf.half_gamma_deviance, -INF, 2.0) == (INF, -INF, INF)
        assert evaluated(lf.msle, INF, 0.0) == (INF, 0, 0)
        big = 1.5e308  # whose differences overflow
        assert evaluated(lf.log_cosh_loss, big, -big) == (INF, 1, 0)
        value, grad, hess = evaluated(lf.cauchy_loss, big, -big)
        assert value == pytest.approx(math.log(big) + math.log(2), rel=1e-14) and 0 < grad < 1e-308 and hess == 0


@pytest.mark.parametrize(
    "name", ["log_cosh_loss", "cauchy_loss", "half_gamma_deviance", "half_tweedie_deviance", "msle"]
)
def test_nan_in_is_nan_out(variant, name):
    loss = lf.get_loss(name)
    with variant.chosen():
        for x, t in ((NAN, 1.0), (0.5, NAN), (NAN, NAN)):
            assert all(math.isnan(u) for u in evaluated(loss, x, t)), (x, t)


def test_another_name():
    assert lf.soft_margin_loss is lf.logistic_loss is lf.get_loss("soft_margin_loss")
    assert "soft_margin_loss" not in lf.losses()
