"""Loss objects with scikit-learn's interface: they agree with its own, take data of any kind, and check labels."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
from sklearn._loss import _loss as extension_types  # noqa: E402
from sklearn._loss import loss as theirs  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor  # noqa: E402

import lossfast as lf  # noqa: E402
import lossfast.sklearn as ours  # noqa: E402
from lossfast.sklearn import (  # noqa: E402
    PointwiseLoss,  # noqa: E402
    _closs,
    losses,
)

METHODS = ("loss", "gradient", "loss_gradient", "gradient_hessian", "gradient_proba")
ROWS = 41

#: Every loss class that scikit-learn has, and the parameters that its branches turn on.
KINDS = sorted({kind.__name__ for kind in (*theirs._LOSSES.values(), theirs.HalfTweedieLossIdentity)})
PARAMETERS: dict[str, list[dict[str, float]]] = {
    "PinballLoss": [{"quantile": 0.3}],
    "HuberLoss": [{"delta": 0.7}],
    "HalfTweedieLoss": [{"power": power} for power in (-1.5, 0, 1, 1.5, 2, 3)],
    "HalfTweedieLossIdentity": [{"power": power} for power in (-1.5, 0, 1, 1.5, 2, 3)],
    "HalfMultinomialLoss": [{"n_classes": n} for n in (2, 3, 70)],
}
CASES = [(name, parameters) for name in KINDS for parameters in PARAMETERS.get(name, [{}])]
CASE_IDS = [f"{name}{parameters or ''}" for name, parameters in CASES]
POINTWISE = [name for name in lf.losses() if lf.get_loss(name).kind == "pointwise"]


def pair(name: str, parameters: dict[str, float]) -> tuple[Any, Any]:
    """Ours and theirs."""
    return getattr(ours, name)(**parameters), getattr(theirs, name)(**parameters)


def data(loss: Any, rows: int = ROWS, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets and raw predictions in their ranges, and weights with a zero among them."""
    random = np.random.default_rng(seed)
    weight = random.random(rows)
    weight[1] = 0
    if loss.is_multiclass:
        return random.integers(0, loss.n_classes, rows) * 1.0, 3 * random.normal(size=(rows, loss.n_classes)), weight
    raw = random.normal(size=rows)
    if loss.interval_y_pred.low == 0 and isinstance(loss.link, losses.links.IdentityLink):
        raw = np.abs(raw) + 0.1
    interval = loss.interval_y_true
    target = random.normal(size=rows) if interval.low < 0 else random.random(rows) + 0.01
    if interval.high == 1:
        target = np.clip(target, 0, 1)
        target[::3] = np.round(target[::3])
    target[4] = raw[4] if interval.low < 0 else target[4]
    return target, raw, weight


def as_tuple(result: Any) -> tuple[np.ndarray, ...]:
    return result if isinstance(result, tuple) else (result,)


def test_every_loss_of_theirs_is_here() -> None:
    types = {name for name, kind in vars(extension_types).items() if name.startswith("Cy") and isinstance(kind, type)}
    assert set(_closs.STAND_INS) == types - {"CyLossFunction"}
    assert set(KINDS) < set(ours.__all__)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("name", "parameters"), CASES, ids=CASE_IDS)
def test_values_are_theirs(name: str, parameters: dict[str, float], weighted: bool) -> None:
    mine, other = pair(name, parameters)
    target, raw, weight = data(mine)
    given = weight if weighted else None
    for method in METHODS:
        if not hasattr(other, method):
            assert not hasattr(mine, method)
            continue
        for order in "CF":
            found = as_tuple(getattr(mine, method)(target, np.asarray(raw, order=order), given))
            expected = as_tuple(getattr(other, method)(target, np.asarray(raw, order=order), given))
            for one, another in zip(found, expected, strict=True):
                np.testing.assert_allclose(one, another, rtol=2e-11, atol=2e-13, err_msg=method)
                assert one.dtype == another.dtype and one.flags.f_contiguous == another.flags.f_contiguous
    assert mine(target, raw, given) == pytest.approx(other(target, raw, given), rel=1e-12)
    np.testing.assert_allclose(
        mine.fit_intercept_only(target, given), other.fit_intercept_only(target, given), rtol=1e-12, atol=1e-14
    )
    np.testing.assert_allclose(
        mine.constant_to_optimal_zero(target, given), other.constant_to_optimal_zero(target, given), rtol=1e-13
    )
    if hasattr(other, "predict_proba"):
        np.testing.assert_allclose(mine.predict_proba(raw), other.predict_proba(raw), rtol=1e-12)


@pytest.mark.parametrize(("name", "parameters"), CASES, ids=CASE_IDS)
def test_attributes_are_theirs(name: str, parameters: dict[str, float]) -> None:
    mine, other = pair(name, parameters)
    assert isinstance(mine, getattr(theirs, name))
    for attribute in ("n_classes", "is_multiclass", "differentiable", "approx_hessian", "interval_y_true"):
        assert getattr(mine, attribute) == getattr(other, attribute)
    assert mine.interval_y_pred == other.interval_y_pred and type(mine.link) is type(other.link)
    assert mine.need_update_leaves_values is not mine.differentiable
    for attribute in ("quantile", "power", "delta"):
        assert getattr(mine.closs, attribute, None) == getattr(other.closs, attribute, None)
    assert mine.constant_hessian is False
    gradient, hessian = mine.init_gradient_and_hessian(5, dtype=np.float32)
    assert gradient.shape == hessian.shape == ((5, mine.n_classes) if mine.is_multiclass else (5,))
    assert all(f"{key}={value!r}" in repr(mine) for key, value in parameters.items())


@pytest.mark.parametrize(("name", "parameters"), CASES, ids=CASE_IDS)
def test_buffers_are_returned_and_may_have_another_dtype(name: str, parameters: dict[str, float]) -> None:
    mine, other = pair(name, parameters)
    target, raw, weight = data(mine)
    raw = np.asfortranarray(raw)
    losses_out = np.full(ROWS, np.nan, np.float32)
    gradient, hessian = np.full_like(raw, np.nan, np.float32), np.full_like(raw, np.nan, np.float32)
    assert mine.loss(target, raw, weight, losses_out) is losses_out
    np.testing.assert_allclose(losses_out, other.loss(target, raw, weight), rtol=3e-7, atol=1e-7)
    found = mine.gradient_hessian(target, raw, weight, gradient, hessian, 2)
    assert found[0] is gradient and found[1] is hessian
    for one, another in zip(found, other.gradient_hessian(target, raw, weight), strict=True):
        np.testing.assert_allclose(one, another, rtol=5e-7, atol=1e-7)
    found = mine.loss_gradient(target, raw, None, gradient_out=gradient)
    assert found[0].dtype == np.float32 and found[1] is gradient
    np.testing.assert_allclose(gradient, other.gradient(target, raw), rtol=5e-7, atol=1e-7)


@pytest.mark.parametrize(("name", "parameters"), CASES, ids=CASE_IDS)
def test_data_of_any_kind(name: str, parameters: dict[str, float]) -> None:
    """Whole targets as integers of every kind, lists; predictions strided, read-only, swapped, half, single."""
    mine, _ = pair(name, parameters)
    target, raw, weight = data(mine)
    target = target if mine.is_multiclass else np.where(target > np.median(target), 1.0, 0.0)
    if not mine.in_y_true_range(target):
        target += 1
    expected = mine.loss_gradient(target, raw, weight)
    kinds = [
        "i1",
        "u1",
        "i2",
        "u2",
        "i4",
        "u4",
        "i8",
        "u8",
        ">i4",
        "f4",
        "f2",
        ">f8",
        *(["?"] if target.max() == 1 else []),
    ]
    strided, swapped, sealed = np.repeat(raw, 2, axis=0)[::2], raw.astype(">f8"), raw.copy()
    sealed.flags.writeable = False
    for case in (
        *((target.astype(kind), raw) for kind in kinds),
        *((target, given) for given in (strided, swapped, sealed)),
    ):
        for one, another in zip(mine.loss_gradient(*case, weight), expected, strict=True):
            np.testing.assert_allclose(one, another, rtol=1e-12, atol=1e-13)
    found = mine.loss_gradient(target.astype(int).tolist(), raw.tolist(), weight.tolist())
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(
        mine.fit_intercept_only(target.astype(int).tolist()), mine.fit_intercept_only(target), rtol=1e-12
    )
    mine.constant_to_optimal_zero(target.astype(int).tolist())
    for kind, rtol in (("f4", 2e-5), ("f2", 2e-2)):
        found = mine.loss_gradient(target, raw.astype(kind))
        assert found[0].dtype == np.float32 and found[1].dtype == np.dtype(kind)
        np.testing.assert_allclose(
            found[1], mine.gradient(target, raw.astype(kind).astype(float)), rtol=rtol, atol=rtol
        )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([0, 3, 1], IndexError, "target 3 at row 1"),
        ([0.0, 3.0, 1.0], IndexError, "target 3 at row 1"),
        ([-1, 0, 1], IndexError, "target -1 at row 0"),
        ([0, 1, -100], IndexError, "target -100 at row 2"),
        ([0.0, 0.5, 1.0], ValueError, "0.5 at row 1"),
        ([0.0, 1.0, math.inf], ValueError, "inf at row 2"),
        ([0.0, 1.0, 2.0**40], ValueError, "row 2"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_wrong_labels_are_errors(method: str, labels: list[float], error: type, message: str) -> None:
    loss = ours.HalfMultinomialLoss(n_classes=3)
    written = np.full((3, 3), 7.0)
    given = {} if method == "loss" else {"gradient_out": written}
    with pytest.raises(error, match=message):
        getattr(loss, method)(labels, np.zeros((3, 3)), **given)
    assert (written == 7).all()
    with pytest.raises(error):
        loss.fit_intercept_only(labels)


def test_slopes_at_a_kink_are_theirs() -> None:
    for name, parameters in (("AbsoluteError", {}), ("PinballLoss", {"quantile": 0.2})):
        mine, other = pair(name, parameters)
        for weight in (None, np.array([0.5, 2.0])):
            target, raw = np.array([1.0, 2.0]), np.array([1.0, 3.0])
            for method in ("gradient", "loss_gradient", "gradient_hessian"):
                np.testing.assert_array_equal(
                    getattr(mine, method)(target, raw, weight), getattr(other, method)(target, raw, weight)
                )


def test_delta_may_be_set_to_anything_from_0() -> None:
    mine, other = pair("HuberLoss", {})
    target, raw = np.zeros(3), np.array([0.0, 1.0, -2.0])
    for delta in (0.0, 0.5, 10.0):
        mine.closs.delta = other.closs.delta = delta
        assert mine.closs.delta == delta
        np.testing.assert_allclose(mine.gradient_hessian(target, raw), other.gradient_hessian(target, raw), atol=1e-300)
        np.testing.assert_allclose(mine.loss(target, raw), other.loss(target, raw), atol=1e-300)


def test_hessian_of_many_classes_is_that_of_cross_entropy() -> None:
    """Block by block, weighted or not, and exact to a few units where the model is right."""
    rows, classes = 3 * _closs.BLOCK // 7, 7
    labels, raw, weight = data(ours.HalfMultinomialLoss(n_classes=classes), rows)
    weight[::50] = 0
    raw[0], raw[weight == 0] = 0, np.nan
    raw[5, int(labels[5])] += 60
    weight[5] = 1.0
    loss = ours.HalfMultinomialLoss(n_classes=classes)
    found = loss.gradient_hessian(labels, raw, weight)
    expected = lf.cross_entropy.grad_and_hess(raw, labels.astype(int), sample_weight=weight, reduction="none")
    for one, another in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, another, rtol=1e-14, atol=2e-16)
    assert 0 < expected[1][5].max() < 1e-20
    np.testing.assert_allclose(found[1][5], expected[1][5], rtol=1e-15)


@pytest.mark.parametrize("wrong", ["y_true", "sample_weight", "gradient_out", "hessian_out"])
def test_shapes_must_agree(wrong: str) -> None:
    loss, rows = ours.HalfMultinomialLoss(n_classes=10), 400
    given = {"y_true": np.zeros(rows), "sample_weight": np.ones(rows)}
    given |= {name: np.full((rows, 10), 7.0) for name in ("gradient_out", "hessian_out")}
    buffers = [given["gradient_out"], given["hessian_out"]]
    for length in (rows - 1, rows + 1, 1):
        with pytest.raises(ValueError):
            array = np.resize(given[wrong], (length, *given[wrong].shape[1:]))
            loss.gradient_hessian(raw_prediction=np.zeros((rows, 10)), **{**given, wrong: array})
        assert all((buffer == 7).all() for buffer in buffers)


def test_probabilities_keep_their_digits() -> None:
    for loss, scale in ((ours.HalfBinomialLoss(), 1), (ours.ExponentialLoss(), 2)):
        proba = loss.predict_proba(np.array([[50.0 / scale]]))
        assert proba.shape == (1, 2) and proba[0, 0] == pytest.approx(math.exp(-50), rel=1e-15)
    assert ours.HalfMultinomialLoss().predict_proba([[0, 0, 90]])[0, 0] == pytest.approx(math.exp(-90), rel=1e-15)


@pytest.mark.parametrize(("name", "parameters"), CASES, ids=CASE_IDS)
def test_copies_have_lossfast_inside(name: str, parameters: dict[str, float]) -> None:
    loss = getattr(ours, name)(**parameters)
    if name == "HuberLoss":
        loss.closs.delta = 0.125
    target, raw, _ = data(loss)
    for same in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss), copy.copy(loss), clone(loss, safe=False)):
        assert type(same) is type(loss) and type(same.closs) is type(loss.closs) and same.constant_hessian is False
        assert repr(same) == repr(loss)
        np.testing.assert_array_equal(same.loss(target, raw), loss.loss(target, raw))


# ------------------------------------------------------------------------------------------- in histogram boosting


def regression(rows: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    X = random.normal(size=(rows, 4))
    return X, X[:, 0] ** 2 + random.normal(size=rows) * 0.1 + 1.5, random.integers(0, 3, rows) + 0.5


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["squared_error", "absolute_error", "quantile", "poisson", "gamma"])
def test_histogram_boosting_fits_the_same_trees(name: str, weighted: bool) -> None:
    X, y, weight = regression()
    y = np.abs(y) + 0.1
    kind = {"quantile": "PinballLoss", "poisson": "HalfPoissonLoss", "gamma": "HalfGammaLoss"}.get(name)
    kind = kind or {"squared_error": "HalfSquaredError", "absolute_error": "AbsoluteError"}[name]
    given = {"quantile": 0.3} if name == "quantile" else {}
    built_in = HistGradientBoostingRegressor(loss=name, max_iter=8, **given)
    with_object = HistGradientBoostingRegressor(loss=getattr(ours, kind)(**given), max_iter=8)
    one, other = (model.fit(X, y, weight if weighted else None).predict(X) for model in (built_in, with_object))
    np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("classes", [2, 4])
def test_histogram_boosting_classifies_the_same(classes: int) -> None:
    X, y, weight = regression()
    labels = np.digitize(y, np.quantile(y, np.arange(1, classes) / classes))
    loss = ours.HalfBinomialLoss() if classes == 2 else ours.HalfMultinomialLoss(n_classes=classes)
    models = [HistGradientBoostingClassifier(max_iter=5), HistGradientBoostingClassifier(loss=loss, max_iter=5)]
    one, other = (model.fit(X, labels, weight).predict_proba(X) for model in models)
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------------------------------- every other pointwise loss


@pytest.mark.parametrize("name", POINTWISE)
def test_any_pointwise_loss(name: str) -> None:
    """Its values are lossfast's, its constant is of least loss, its Hessian is positive, and it goes into a fit."""
    loss, plain = PointwiseLoss(name), lf.get_loss(name)
    random = np.random.default_rng(1)
    raw = random.random(60) * 0.8 + 0.1
    y = np.where(random.random(60) < 0.7, 1, 0) if loss.n_classes else random.random(60) * 0.8 + 0.1
    target = np.where(y == 1, 1, -1) if plain.domains.get("target") == "-1 or 1" else y
    assert loss.in_y_true_range(y)
    value, gradient = plain.value_and_grad(raw, target, reduction="none")
    np.testing.assert_array_equal(loss.loss(y, raw), value)
    np.testing.assert_array_equal(loss.gradient(y, raw), gradient)
    assert loss(y, raw) == pytest.approx(value.mean(), rel=1e-12)
    found, hessian = loss.gradient_hessian(y, raw)
    np.testing.assert_array_equal(found, gradient)
    assert (hessian > 0).all()
    if loss.approx_hessian:
        assert (hessian == 1).all()
    else:
        np.testing.assert_array_equal(hessian, plain.grad_and_hess(raw, target, reduction="none")[1])
    best = float(loss.fit_intercept_only(y))
    around = np.clip(np.linspace(best - 0.05, best + 0.05, 11), -10, 10)  # no further, where there is no least
    if "pred" in plain.domains:
        around = np.clip(around, 0.001, 0.999)
    costs = [plain(np.full(60, constant), target) for constant in around]
    assert plain(np.full(60, best), target) <= min(costs) + 1e-6
    assert type(pickle.loads(pickle.dumps(loss)).closs) is type(loss.closs)
    assert repr(copy.deepcopy(loss)) == repr(loss) == f"PointwiseLoss(lossfast.{name})"
    assert hasattr(loss, "predict_proba") == (type(loss.link).__name__ in ("LogitLink", "HalfLogitLink"))


def test_what_a_loss_is_like_is_found_out() -> None:
    links = {
        "binary_cross_entropy_with_logits": "LogitLink",
        "logistic_loss": "LogitLink",
        "exponential_loss": "HalfLogitLink",
    }
    links |= {"poisson_nll_loss": "LogLink", "half_gamma_deviance": "LogLink", "half_tweedie_deviance": "LogLink"}
    links |= {"quadratic_sigmoid_loss": "LogitLink"}
    for name in POINTWISE:
        assert type(PointwiseLoss(name).link).__name__ == links.get(name, "IdentityLink"), name
    assert type(PointwiseLoss("poisson_nll_loss", log_input=False).link).__name__ == "IdentityLink"
    exact = {name for name in POINTWISE if not PointwiseLoss(name).approx_hessian}
    assert {"mse_loss", "expectile_loss", "half_squared_error", *links} - exact == {"quadratic_sigmoid_loss"}
    assert not exact & {"l1_loss", "huber_loss", "cauchy_loss", "log_cosh_loss", "hinge_loss"}
    moved = {name for name in POINTWISE if not PointwiseLoss(name).differentiable}
    assert {"l1_loss", "huber_loss", "tukey_loss"} <= moved and not moved & {"hinge_loss", "mape", "msle", "mse_loss"}


def test_pointwise_losses_in_boosting() -> None:
    X, y, weight = regression()
    for name, parameters in (
        ("cauchy_loss", {"c": 2.0}),
        ("expectile_loss", {"expectile": 0.5}),
        ("log_cosh_loss", {}),
    ):
        model = HistGradientBoostingRegressor(loss=PointwiseLoss(name, **parameters), max_iter=30, learning_rate=0.3)
        assert model.fit(X, y, weight).score(X, y) > 0.8, name
    labels = np.where(y > np.median(y), "yes", "no")
    for name in ("squared_hinge_loss", "sigmoid_focal_loss", "quadratic_sigmoid_loss", "logistic_loss"):
        model = HistGradientBoostingClassifier(loss=PointwiseLoss(name), max_iter=20, learning_rate=0.3)
        assert model.fit(X, labels).score(X, labels) > 0.9, name
    proba = model.predict_proba(X)
    same = HistGradientBoostingClassifier(max_iter=20, learning_rate=0.3).fit(X, labels)
    np.testing.assert_allclose(proba, same.predict_proba(X), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        ("cross_entropy", {}, "pointwise"),
        (lf.gaussian_nll_loss, {}, "pointwise"),
        (3, {}, "pointwise"),
        ("no_such_loss", {}, "no loss"),
        (lf.huber_loss.bind(reduction="sum"), {}, "bound"),
        ("huber_loss", {"delta": -1}, "delta"),
        ("huber_loss", {"hessian": "none"}, "hessian"),
        ("huber_loss", {"link": "probit"}, "link"),
    ],
)
def test_what_is_no_pointwise_loss_is_refused(loss: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PointwiseLoss(loss, **options)


def test_signed_losses_take_labels_0_and_1_alone() -> None:
    loss = PointwiseLoss("hinge_loss")
    np.testing.assert_array_equal(loss.gradient(np.array([1, 0], np.uint8), [0.0, 0.0]), [-1, 1])
    assert not loss.in_y_true_range([0, 0.5]) and not loss.in_y_true_range([-1, 1])
    with pytest.raises(ValueError, match="-1.* at row 1"):
        loss.gradient([1, -1], [0.0, 0.0])
