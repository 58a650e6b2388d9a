"""Objectives and metrics for XGBoost, LightGBM and CatBoost: what they are called with, what they give back, and trees.

Most of it needs none of the three: the calls are made as the libraries make them.
"""

import copy
import importlib.util
import inspect
import json
import pickle

import numpy as np
import pytest

import lossfast as lf
from benchmarks import boosting as benchmark
from lossfast import boosting
from lossfast.boosting import (
    EQUIVALENTS,
    HESSIANS,
    built_in_hessian,
    catboost_metric,
    catboost_objective,
    initial_score,
    lightgbm_metric,
    lightgbm_objective,
    xgboost_metric,
    xgboost_objective,
)

OBJECTIVES = {"xgboost": xgboost_objective, "lightgbm": lightgbm_objective, "catboost": catboost_objective}
METRICS = {"xgboost": xgboost_metric, "lightgbm": lightgbm_metric, "catboost": catboost_metric}
each_library = pytest.mark.parametrize("library", OBJECTIVES)
ROWS, CLASSES = 12, 4


def needs(library):
    return pytest.mark.skipif(importlib.util.find_spec(library) is None, reason=f"{library} is not installed")


class Table:
    """What a library's own interface hands over for its data."""

    def __init__(self, labels, weights=None, none=None):
        self.labels, self.weights = labels, none if weights is None else weights

    def get_label(self):
        return self.labels

    def get_weight(self):
        return self.weights


def fits(loss):
    try:
        boosting._made(boosting._LightGBMObjective, loss, None, None)
    except (TypeError, ValueError):
        return False
    return True


FITTING = [loss for loss in map(lf.get_loss, lf.losses()) if fits(loss)]
each_loss = pytest.mark.parametrize("loss", FITTING, ids=lambda loss: loss.name)


def example(loss, dtype=np.float64, seed=0):
    """Scores, labels as a library would hand them over, as the loss takes them, and weights."""
    random = np.random.default_rng(seed)
    wide = loss.kind == "rowwise"
    scores = random.normal(size=(ROWS, CLASSES) if wide else ROWS)
    if loss.labelled:
        labels = random.integers(0, CLASSES, ROWS)
        given = labels.astype(np.float32)
    else:
        given = (random.random(scores.shape) < 0.5).astype(np.float32)
        if loss.domains.get("target") in ("> 0", "not 0"):
            given += 0.5
        labels = np.where(given == 0, -1, given) if loss.domains.get("target") == "-1 or 1" else given
    if "pred" in loss.domains:
        scores = np.abs(scores)
    return scores.astype(dtype), given, labels, random.integers(0, 4, ROWS).astype(np.float32)


# ----------------------------------------------------------------------------------------------------------- calls


def test_most_of_the_registry_fits():
    names = {loss.name for loss in FITTING}
    takers = [loss for loss in map(lf.get_loss, lf.losses()) if loss.kind in ("pointwise", "rowwise")]
    refused = {loss.name for loss in takers} - names
    assert refused == {
        *("binary_cross_entropy", "categorical_cross_entropy", "cross_entropy_between", "js_div", "kl_div"),
        *("relative_entropy", "nll_loss", "zero_one_loss"),
    }


@each_loss
@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_are_the_losses_own_weighted_once(library, loss, weighted):
    dtype = np.float32 if library == "xgboost" else np.float64
    scores, given, labels, weights = example(loss, dtype)
    if library == "lightgbm":
        scores = np.asfortranarray(scores)
    objective = OBJECTIVES[library](loss)
    option = weights if weighted else None
    kept = scores.copy()
    grad, hess = objective(given, scores, option)
    exact = loss.grad(scores.astype(np.float64), labels, reduction="none", sample_weight=option)
    assert grad.dtype == hess.dtype == np.float32
    assert grad.shape == hess.shape == scores.shape
    assert grad.flags.f_contiguous == hess.flags.f_contiguous == scores.flags.f_contiguous
    assert np.array_equal(scores, kept)
    np.testing.assert_allclose(grad, exact, rtol=1e-5, atol=1e-6)
    assert (hess >= 0).all()
    table = Table(given, option, none=np.empty(0, np.float32) if library == "xgboost" else None)
    for one, other in zip(objective(scores, table), (grad, hess), strict=True):  # as `train` calls it
        assert np.array_equal(one, other)


@each_loss
def test_catboost_gets_minus_the_derivatives_a_pair_for_each_object(loss):
    scores, given, labels, weights = example(loss)
    objective = catboost_objective(loss, hessian=None if loss.kind == "rowwise" else "abs_residual")
    if loss.kind == "pointwise":
        pairs = objective.calc_ders_range(scores, given, weights)
        exact = loss.grad(scores, labels, reduction="none", sample_weight=weights)
        assert type(pairs) is np.ndarray and pairs.dtype == np.float64 and pairs.shape == (ROWS, 2)
        np.testing.assert_allclose(pairs[:, 0], -exact, rtol=1e-12)
        np.testing.assert_allclose(pairs[:, 1], -np.abs(exact), rtol=1e-12)
        np.testing.assert_allclose(
            objective.calc_ders_range(scores, given, None) * weights[:, None], pairs, rtol=1e-12, atol=1e-300
        )
        return
    for row in range(ROWS):
        target = float(given[row]) if loss.labelled else given[row]
        ders, matrix = objective.calc_ders_multi(scores[row], target, float(weights[row]))
        exact = loss.grad(scores[[row]], labels[[row]], reduction="none", sample_weight=weights[[row]])
        np.testing.assert_allclose(ders, -exact[0], rtol=1e-12, atol=1e-300)
        assert np.shape(matrix) == (CLASSES, CLASSES)
        np.testing.assert_allclose(matrix, np.transpose(matrix), atol=1e-12)


def test_catboost_gets_the_whole_matrix():
    z = np.array([0.3, -1.0, 2.0])
    p = np.exp(z) / np.exp(z).sum()
    ders, matrix = catboost_objective("cross_entropy").calc_ders_multi(z, 1.0, 2.0)
    np.testing.assert_allclose(ders, 2 * (np.eye(3)[1] - p), rtol=1e-14)
    np.testing.assert_allclose(matrix, -2 * (np.diag(p) - np.outer(p, p)), rtol=1e-13)
    assert type(ders[0]) is type(matrix[0][0]) is float  # over which CatBoost loops
    np.testing.assert_allclose(
        catboost_objective("cross_entropy", hessian="exact_diag").calc_ders_multi(z, 1.0, 2.0)[1],
        -2 * np.diag(p * (1 - p)),
        rtol=1e-6,
    )
    soft = np.array([0.2, 0.5, 0.3], np.float32)
    assert catboost_objective("cross_entropy").calc_ders_multi(z, soft, 1.0)[0] == pytest.approx(soft - p)
    four = catboost_objective(lf.cross_entropy.bind(class_weight=[1, 2, 3, 1]))
    np.testing.assert_allclose(four.calc_ders_multi([*z, -80], 1.0, 1.0)[0][:3], 2 * (np.eye(3)[1] - p), rtol=1e-14)
    several = catboost_objective("half_squared_error").calc_ders_multi(z, soft, 3.0)  # regressions
    np.testing.assert_allclose(several[0], 3 * (soft - z), rtol=1e-13)
    np.testing.assert_array_equal(several[1], -3 * np.eye(3))


FORMULAS = {
    "exact_diag": lambda p, t: p * (1 - p),
    "xgboost": lambda p, t: 2 * p * (1 - p),
    "lightgbm": lambda p, t: CLASSES / (CLASSES - 1) * p * (1 - p),
    "abs_residual": lambda p, t: np.abs(p - t),
    "constant": lambda p, t: np.ones_like(p),
}


@pytest.mark.parametrize("hessian", FORMULAS)
@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_conventions_of_softmax(library, hessian):
    scores, given, labels, weights = example(lf.cross_entropy)
    p = lf.softmax(scores)
    exact = FORMULAS[hessian](p, np.eye(CLASSES)[labels])
    objective = OBJECTIVES[library]("cross_entropy", hessian=hessian)
    np.testing.assert_allclose(objective(given, scores)[1], exact, rtol=3e-7)
    least = 0 if hessian == "constant" else objective.floor
    weighted = np.maximum(exact * weights[:, None], least)
    np.testing.assert_allclose(objective(given, scores, weights)[1], weighted, rtol=3e-7)


def test_what_catboost_gets_if_nothing_is_said():
    expected = {"cross_entropy": "exact", "quadratic_softmax_loss": "exact_diag", "huber_loss": "exact_diag"}
    expected |= {"l1_loss": "constant", "multiclass_hinge_loss": "constant"}
    assert {name: catboost_objective(name).hessian for name in expected} == expected


def test_every_convention_is_tried():
    assert {*FORMULAS, "exact"} == set(HESSIANS)


@pytest.mark.parametrize(
    ("library", "loss", "factor"),
    [
        ("xgboost", "poisson_nll_loss", np.exp(0.7)),
        ("lightgbm", "poisson_nll_loss", np.exp(0.7)),
        ("xgboost", lf.poisson_nll_loss.bind(log_input=False), 1),
        ("xgboost", "half_gamma_deviance", 1),
        ("lightgbm", "binary_cross_entropy_with_logits", 1),
    ],
)
def test_conventions_without_classes(library, loss, factor):
    loss = lf.get_loss(loss) if isinstance(loss, str) else loss
    scores, given, labels, _ = example(loss)
    scores = np.abs(scores)
    exact = loss.grad_and_hess(scores, labels, reduction="none")[1]
    np.testing.assert_allclose(OBJECTIVES[library](loss)(given, scores)[1], factor * exact, rtol=3e-7, atol=1e-15)


@pytest.mark.parametrize("loss", ["l1_loss", "pinball_loss", "hinge_loss", "huber_loss"])
def test_second_derivatives_that_are_0_are_1_as_in_the_libraries(loss):
    scores, given = np.array([-3.0, 0.1, 5.0]), np.array([1.0, 0.0, 1.0])
    assert lightgbm_objective(loss)(given, scores)[1].tolist() == [1, 1, 1]
    assert lightgbm_objective(loss)(given, scores, [2.0, 0.0, 3.0])[1].tolist() == [2, 0, 3]
    if loss == "huber_loss":  # 0 beyond delta, in XGBoost's convention too
        assert xgboost_objective(loss, floor=0.0)(given, scores)[1].tolist() == [0, 1, 0]
    else:
        assert xgboost_objective(loss)(given, scores)[1].tolist() == [1, 1, 1]
        assert catboost_objective(loss).calc_ders_range(scores, given, None)[:, 1].tolist() == [-1, -1, -1]


def test_the_floor_holds_negative_and_tiny_second_derivatives():
    loss, labels, scores = lf.cauchy_loss, np.zeros(3), np.array([0.5, 10.0, 1e30])
    exact = loss.grad_and_hess(scores, labels, reduction="none")[1]
    assert exact[0] > 0 > exact[1]
    for floor in (0.0, 1e-16, 0.25):
        found = xgboost_objective(loss, hessian="exact_diag", floor=floor)(labels, scores)[1]
        np.testing.assert_allclose(found, np.maximum(exact, np.float32(floor)), rtol=1e-6)
    sure = np.array([[1e3, 0.0]])
    assert xgboost_objective("cross_entropy")([0.0], sure)[1].tolist() == [[np.float32(1e-16)] * 2]
    assert lightgbm_objective("cross_entropy")([0.0], sure)[1].tolist() == [[0, 0]]
    with pytest.raises(ValueError, match=r"floor must be finite and at least 0, got -1"):
        xgboost_objective("mse_loss", floor=-1)


# ---------------------------------------------------------------------------------------------------------- labels


def test_scores_of_all_classes_one_after_another():
    """As LightGBM before 4.0 has them; XGBoost's are row by row."""
    scores, given, _, weights = example(lf.cross_entropy)
    for library, order in (("lightgbm", "F"), ("xgboost", "C")):
        objective = OBJECTIVES[library]("cross_entropy")
        expected = objective(given, scores, weights)
        flat = np.ravel(scores, order)
        for found, whole in zip(objective(given, flat, weights), expected, strict=True):
            assert found.shape == flat.shape
            assert np.array_equal(found, np.ravel(whole, order))
        table = Table(given, weights)
        assert np.array_equal(objective(flat, table)[1], np.ravel(expected[1], order))
        assert METRICS[library]("cross_entropy")(given, flat) == METRICS[library]("cross_entropy")(given, scores)


def test_soft_labels_and_several_targets():
    random = np.random.default_rng(0)
    scores, soft = random.normal(size=(5, 3)), random.dirichlet(np.ones(3), 5)
    grad, hess = xgboost_objective("cross_entropy")(soft, scores)
    np.testing.assert_allclose(grad, lf.softmax(scores) - soft, atol=1e-6)
    assert (hess > 0).all()
    np.testing.assert_allclose(
        xgboost_objective("half_squared_error")(soft, scores, np.arange(5.0))[0],
        (scores - soft) * np.arange(5)[:, None],
        atol=1e-6,
    )


def test_labels_of_0_and_1_serve_losses_of_minus_1_and_1():
    scores = np.array([0.5, -2.0, 3.0])
    expected = lf.logistic_loss.grad(scores, [1, -1, 1], reduction="none").astype(np.float32)
    for labels in ([1, 0, 1], [1, -1, 1]):
        assert np.array_equal(lightgbm_objective("logistic_loss")(np.array(labels, np.float32), scores)[0], expected)


@each_library
def test_labels_that_will_not_do_are_refused(library):
    def run(loss, labels, scores):
        objective = OBJECTIVES[library](loss)
        if library != "catboost":
            return objective(np.array(labels, np.float32), scores)
        if scores.ndim == 2:
            return [
                objective.calc_ders_multi(row, float(label), 1.0) for row, label in zip(scores, labels, strict=True)
            ]
        return objective.calc_ders_range(scores, np.array(labels, np.float32), None)

    scores = np.zeros((3, 4))
    with pytest.raises(IndexError, match=r"target 4 at row \d is out of bounds for 4 classes"):
        run("cross_entropy", [0, 4, 1], scores)
    for label in (1.5, np.nan, np.inf):
        with pytest.raises(ValueError, match=rf"label {label} at row \d is no class"):
            run("cross_entropy", [0, 1, label], scores)
    with pytest.raises(ValueError, match=r"pred has .*> -1|target"):
        run("poisson_nll_loss", [0, -1, 1], np.zeros(3))
    if library != "catboost":
        with pytest.raises(ValueError, match=r"one for each class: set num_class"):
            run("cross_entropy", [0, 1, 1], np.zeros(3))
        with pytest.raises(ValueError, match=r"labels have shape \(3,\), but for scores of shape \(3, 4\)"):
            run("huber_loss", [0, 1, 1], scores)
    else:
        with pytest.raises(ValueError, match=r"set classes_count and eval_metric='MultiClass'"):
            run("cross_entropy", [0, 1, 1], np.zeros(3))


@each_library
def test_losses_that_will_not_do_are_refused(library):
    make = OBJECTIVES[library]
    for loss, error, message in [
        ("binary_cross_entropy", ValueError, "takes probabilities"),
        ("kl_div", ValueError, "takes probabilities"),
        ("nll_loss", ValueError, "has no Hessian"),
        ("zero_one_loss", ValueError, "gradient of lossfast.zero_one_loss is 0"),
        ("softmax", TypeError, "must be a loss of one array of scores"),
        ("triplet_margin_loss", TypeError, "must be a loss of one array of scores"),
        (np.square, TypeError, "must be a loss of one array of scores"),
        ("huber", ValueError, "there is no loss 'huber'"),
        (lf.mse_loss.bind(sample_weight=[1.0]), ValueError, "has sample weights bound"),
    ]:
        with pytest.raises(error, match=message):
            make(loss)
        if loss != "zero_one_loss":
            with pytest.raises(error, match=message):
                METRICS[library](loss)
    with pytest.raises(ValueError, match=r"hessian must be one of 'exact_diag'.*got 'newton'"):
        make("mse_loss", hessian="newton")
    with pytest.raises(ValueError, match="use hessian='constant'"):
        make("l1_loss", hessian="exact_diag")
    if library != "catboost":
        with pytest.raises(ValueError, match=r"hessian must be one of .*got 'exact'"):
            make("mse_loss", hessian="exact")


# --------------------------------------------------------------------------------------------------------- objects


@each_library
def test_objects_are_copied_pickled_and_shown(library):
    loss = lf.cross_entropy.bind(label_smoothing=0.1)
    for made in (OBJECTIVES[library](loss, floor=0.5), METRICS[library](loss, name="smooth")):
        assert copy.deepcopy(made) is copy.copy(made) is made
        again = pickle.loads(pickle.dumps(made))
        assert repr(again) == repr(made) == repr(eval(repr(made), {"lossfast": lf}))
        assert "label_smoothing=0.1" in repr(made)
        with pytest.raises(AttributeError):
            made.loss = lf.mse_loss
    scores, given, _, _ = example(loss)
    made = OBJECTIVES[library](loss)
    again = pickle.loads(pickle.dumps(made))
    if library == "catboost":
        assert again.calc_ders_multi(scores[0], 1.0, 1.0) == made.calc_ders_multi(scores[0], 1.0, 1.0)
    else:
        assert np.array_equal(again(given, scores), made(given, scores))


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_signatures_ask_for_weights(library):
    """LightGBM counts the parameters (three: it passes weights), XGBoost looks for one of this name."""
    for make in (OBJECTIVES[library], METRICS[library]):
        parameters = inspect.signature(make("mse_loss")).parameters
        assert list(parameters) == ["y_true", "y_pred", "sample_weight"]


def test_catboost_compiles_nothing():
    assert catboost_objective("mse_loss").no_jit and catboost_metric("mse_loss").no_jit


@pytest.mark.parametrize("weighted", [False, True])
@each_loss
def test_metrics_are_the_mean_of_raw_scores(loss, weighted):
    scores, given, labels, weights = example(loss)
    option = weights if weighted else None
    expected = pytest.approx(loss(scores, labels, sample_weight=option))
    assert xgboost_metric(loss)(given, scores, sample_weight=option) == expected
    assert xgboost_metric(loss, name="m")(scores, Table(given, option, np.empty(0))) == ("m", expected)
    assert xgboost_metric(loss).__name__ == loss.name
    assert lightgbm_metric(loss)(given, scores, option) == (loss.name, expected, False)
    assert lightgbm_metric(loss, name="m")(scores, Table(given, option)) == ("m", expected, False)
    metric = catboost_metric(loss)
    columns = tuple(np.atleast_2d(scores.T))
    target = given if loss.labelled or loss.kind == "pointwise" else tuple(given.T)
    assert metric.get_final_error(*metric.evaluate(columns, target, option)) == expected
    assert not metric.is_max_optimal()


def test_catboost_adds_blocks_of_a_metric():
    scores, given, labels, weights = example(lf.huber_loss)
    metric = catboost_metric("huber_loss")
    parts = [metric.evaluate((scores[part],), given[part], weights[part]) for part in (slice(5), slice(5, None))]
    whole = metric.get_final_error(*np.sum(parts, 0))
    assert whole == pytest.approx(lf.huber_loss(scores, labels, sample_weight=weights))
    assert np.isnan(metric.get_final_error(0.0, 0.0))
    with pytest.raises(TypeError, match="name must be a text, got 3"):
        catboost_metric("huber_loss", name=3)


# ----------------------------------------------------------------------------------------------------------- start


@pytest.mark.parametrize(
    ("loss", "link"),
    [
        ("half_squared_error", lambda mean: mean),
        ("mse_loss", lambda mean: mean),
        ("binary_cross_entropy_with_logits", lambda mean: np.log(mean / (1 - mean))),
        ("poisson_nll_loss", np.log),
        ("half_gamma_deviance", np.log),
        ("half_tweedie_deviance", np.log),
        (lf.half_tweedie_deviance.bind(link="identity"), lambda mean: mean),
        (lf.poisson_nll_loss.bind(log_input=False), lambda mean: mean),
    ],
    ids=lambda given: str(given) if isinstance(given, str | lf._loss.Loss) else "",
)
def test_the_best_constant_is_the_mean_through_the_link(loss, link):
    random = np.random.default_rng(0)
    weights = random.integers(0, 4, 50)
    y = random.random(50) * (1 if loss == "binary_cross_entropy_with_logits" else 40)
    assert initial_score(loss, y) == pytest.approx(link(y.mean()), rel=1e-7, abs=1e-9)
    expected = link(np.average(y, weights=weights))
    assert initial_score(loss, y, sample_weight=weights) == pytest.approx(expected, rel=1e-7, abs=1e-9)


def test_the_best_constant_without_a_formula():
    y = np.array([-5.0, 1.0, 2.0, 3.0, 900.0])
    assert initial_score("l1_loss", y) == pytest.approx(2, abs=1e-9)
    assert initial_score(lf.pinball_loss.bind(quantile=0.7), y) == pytest.approx(3, abs=1e-9)
    for loss in (lf.huber_loss, lf.log_cosh_loss, lf.expectile_loss.bind(expectile=0.2), lf.msle):
        data = np.abs(y) if loss is lf.msle else y
        start = initial_score(xgboost_objective(loss), data)
        assert abs(loss.grad(np.full(5, start), data, reduction="none").sum()) < 1e-6
    np.testing.assert_allclose(initial_score("mse_loss", np.stack([y, -2 * y], 1)), [y.mean(), -2 * y.mean()])
    far = initial_score("tukey_loss", y + 500)  # whose slope is 0 at 0
    assert far == pytest.approx(initial_score("tukey_loss", y) + 500)
    assert initial_score("l1_loss", [1.0, 2.0]) == pytest.approx(1.5, abs=0.5)
    for label in (0, 1):
        with pytest.raises(ValueError, match=r"no constant is best for .*Are all labels alike"):
            initial_score("binary_cross_entropy_with_logits", np.full(4, label))
    with pytest.raises(ValueError, match="y is empty"):
        initial_score("mse_loss", [])
    with pytest.raises(ValueError, match="n_classes is for losses over a class axis"):
        initial_score("mse_loss", y, n_classes=3)


def test_the_best_constants_of_classes():
    random = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [50, 20, 3]).astype(np.float32)
    shares = np.log([50, 20, 3])
    np.testing.assert_allclose(initial_score("cross_entropy", y), shares - shares.mean(), atol=1e-11)
    weights = random.random(73)
    log = np.log(np.bincount(y.astype(int), weights))
    found = initial_score("cross_entropy", y, sample_weight=weights, n_classes=3)
    np.testing.assert_allclose(found, log - log.mean(), atol=1e-11)
    soft = random.dirichlet(np.ones(4), 30)
    log = np.log(soft.mean(0))
    np.testing.assert_allclose(initial_score("cross_entropy", soft), log - log.mean(), atol=1e-11)
    several = (soft > 0.2).astype(float)
    share = several.mean(0)
    found = initial_score("multilabel_soft_margin_loss", several)
    np.testing.assert_allclose(found, np.log(share / (1 - share)), atol=1e-11)
    pulled = initial_score(lf.cross_entropy.bind(z_loss=0.1), y)  # towards a log-sum-exp of 0
    assert float(lf.logsumexp(pulled)) == pytest.approx(0, abs=1e-9)
    focal = initial_score("focal_loss", y)
    sum_of_slopes = lf.focal_loss.grad(np.tile(focal, (73, 1)), y.astype(int), reduction="none").sum(0)
    assert np.abs(sum_of_slopes).max() < 1e-4
    with pytest.raises(ValueError, match="class 3 of 4 has no rows"):
        initial_score("cross_entropy", y, n_classes=4)
    with pytest.raises(ValueError, match=r"shape \(30, 4\) and n_classes=3"):
        initial_score("cross_entropy", soft, n_classes=3)


# -------------------------------------------------------------------------------------------------------- versions


@pytest.mark.parametrize(
    ("library", "version", "convention"),
    [
        ("xgboost", "1.7.6", "xgboost"),
        ("xgboost", "3.2.0", "xgboost"),
        ("xgboost", "3.4.1", "xgboost"),
        ("xgboost", "3.5.0", "abs_residual"),
        ("xgboost", "4.0", "abs_residual"),
        ("lightgbm", "2.3.1", "xgboost"),
        ("lightgbm", "3.0.0", "lightgbm"),
        ("lightgbm", "4.7.0.99", "lightgbm"),
        ("catboost", "1.2.10", "exact"),
    ],
)
def test_which_version_does_what(library, version, convention, monkeypatch):
    assert built_in_hessian(library, version) == convention
    monkeypatch.setattr(boosting.importlib.metadata, "version", lambda name: version)
    assert built_in_hessian(library) == OBJECTIVES[library]("cross_entropy").hessian == convention


def test_versions_that_are_not_there(monkeypatch):
    def missing(name):
        raise boosting.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(boosting.importlib.metadata, "version", missing)
    assert built_in_hessian("xgboost") == "abs_residual"
    with pytest.raises(ValueError, match="version must begin with two numbers"):
        built_in_hessian("xgboost", "new")
    with pytest.raises(ValueError, match="library must be one of 'xgboost', 'lightgbm', 'catboost', got 'sklearn'"):
        built_in_hessian("sklearn")


# ---------------------------------------------------------------------------------------------------- the libraries

SIZE = benchmark.SMALL._replace(rows=600, features=6, rounds=4)
each_pair = pytest.mark.parametrize(
    "pair",
    [pytest.param(pair, marks=needs(pair.library), id=f"{pair.library}-{pair.objective}") for pair in EQUIVALENTS],
)


@each_pair
@pytest.mark.parametrize("weighted", [False, True])
def test_trees_are_those_of_the_built_in_objective(pair, weighted):
    found = benchmark.compare(pair, SIZE, weighted=weighted)
    if pair.trees == "equal":
        assert benchmark.equal(found), found
        if found["trees with the same splits"] == found["trees"]:
            # LightGBM computes in double and rounds once, unless it rounds again for weights; XGBoost in float32.
            bound = {"xgboost": 2e-6, "lightgbm": 1e-7 if weighted else 1e-12, "catboost": 1e-7}[pair.library]
            assert max(found["score difference"], found["leaf difference"]) <= bound
    else:
        assert pair.why
        assert found["score difference"] > 1e-3  # or it should be said to be equal


def pair_of(library, objective):
    return next(pair for pair in EQUIVALENTS if (pair.library, pair.objective) == (library, objective))


@needs("xgboost")
@pytest.mark.parametrize(
    "objective", ["reg:squarederror", "binary:logistic", "count:poisson", "reg:gamma", "multi:softprob"]
)
def test_where_xgboost_starts(objective):
    import xgboost

    pair = pair_of("xgboost", objective)
    data = benchmark.data_for(pair, SIZE, weighted=True)
    classes = {"num_class": benchmark.CLASSES} if objective == "multi:softprob" else {}
    matrix = xgboost.DMatrix(data.x, label=data.y, weight=data.weight)
    model = xgboost.train({"objective": objective, "nthread": 1, **classes}, matrix, 1)
    base = json.loads(model.save_config())["learner"]["learner_model_param"]["base_score"]
    link = {"binary:logistic": lambda p: np.log(p / (1 - p)), "count:poisson": np.log, "reg:gamma": np.log}
    theirs = link.get(objective, np.asarray)(np.array(json.loads(base)))
    np.testing.assert_allclose(
        initial_score(pair.loss, data.y, sample_weight=data.weight), np.squeeze(theirs), atol=2e-5
    )


@needs("lightgbm")
@pytest.mark.parametrize("objective", ["regression", "binary", "poisson", "gamma", "tweedie", "multiclass"])
def test_where_lightgbm_starts(objective):
    import lightgbm

    pair = pair_of("lightgbm", objective)
    data = benchmark.data_for(pair, SIZE, weighted=True)
    classes = {"num_class": benchmark.CLASSES} if objective == "multiclass" else {}
    parameters = {"objective": objective, "verbosity": -1, "min_data_in_leaf": SIZE.rows, "num_threads": 1, **classes}
    model = lightgbm.train(parameters, lightgbm.Dataset(data.x, data.y, weight=data.weight), 1)
    theirs = model.predict(data.x[:1], raw_score=True)[0]
    found = initial_score(benchmark.loss_of(pair), data.y, sample_weight=data.weight)
    np.testing.assert_allclose(found, theirs - np.mean(theirs) if classes else theirs, atol=1e-6)


@needs("catboost")
@pytest.mark.parametrize(
    ("objective", "best"), [("RMSE", True), ("Logloss", False), ("Poisson", False), ("Huber:delta=0.9", False)]
)
def test_where_catboost_starts(objective, best):
    import catboost

    pair = pair_of("catboost", objective)
    data = benchmark.data_for(pair, SIZE)
    label = data.y.astype(int) if objective == "Logloss" else data.y
    parameters = {"loss_function": objective, "iterations": 1, "thread_count": 1, "learning_rate": 0.1}
    model = catboost.CatBoost(parameters | {"logging_level": "Silent", "allow_writing_files": False})
    bias = model.fit(data.x, label).get_scale_and_bias()[1]
    assert bias == pytest.approx(initial_score(pair.loss, data.y) if best else 0, abs=1e-6)


@needs("xgboost")
def test_xgboost_through_scikit_learn():
    import xgboost
    from sklearn.base import clone
    from sklearn.model_selection import GridSearchCV

    data = benchmark.data_for(pair_of("xgboost", "multi:softprob"), SIZE)
    weights = np.random.default_rng(0).integers(1, 4, SIZE.rows)
    settings = {"n_estimators": 4, "max_depth": 3, "n_jobs": 1, "base_score": [0.0] * benchmark.CLASSES}
    built_in = xgboost.XGBClassifier(**settings).fit(data.x, data.y.astype(int), sample_weight=weights)
    del settings["base_score"]
    own = xgboost.XGBClassifier(
        objective=xgboost_objective("cross_entropy"),
        eval_metric=xgboost_metric("cross_entropy"),
        early_stopping_rounds=2,
        **settings,
    )
    fitted = clone(own).fit(
        data.x, data.y.astype(int), sample_weight=weights, eval_set=[(data.x, data.y.astype(int))], verbose=False
    )
    expected = built_in.predict_proba(data.x)
    np.testing.assert_allclose(fitted.predict_proba(data.x), expected, atol=1e-5)
    margin = fitted.predict(data.x, output_margin=True)
    history = fitted.evals_result()["validation_0"]["cross_entropy"]
    assert history[-1] == pytest.approx(lf.cross_entropy(margin, data.y.astype(int)), rel=1e-5)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(data.x), fitted.predict(data.x))
    losses = [xgboost_objective("half_squared_error"), xgboost_objective("l1_loss")]
    search = GridSearchCV(xgboost.XGBRegressor(n_estimators=3, n_jobs=1), {"objective": losses}, cv=2)
    search.fit(data.x, data.y)
    assert search.best_params_["objective"] in losses


@needs("lightgbm")
def test_lightgbm_through_scikit_learn():
    import lightgbm
    from sklearn.base import clone
    from sklearn.model_selection import GridSearchCV

    data = benchmark.data_for(pair_of("lightgbm", "multiclass"), SIZE)
    weights = np.random.default_rng(0).integers(1, 4, SIZE.rows)
    settings = {"n_estimators": 4, "n_jobs": 1, "verbosity": -1}
    start = np.zeros((SIZE.rows, benchmark.CLASSES))
    built_in = lightgbm.LGBMClassifier(**settings).fit(data.x, data.y, sample_weight=weights, init_score=start)
    own = clone(lightgbm.LGBMClassifier(objective=lightgbm_objective("cross_entropy"), **settings))
    own.fit(
        *(data.x, data.y),
        sample_weight=weights,
        eval_X=data.x,
        eval_y=data.y,
        eval_metric=lightgbm_metric("cross_entropy"),
        init_score=start,
    )
    scores = own.predict(data.x, raw_score=True)
    np.testing.assert_allclose(scores, built_in.predict(data.x, raw_score=True), atol=1e-7)
    history = next(iter(own.evals_result_.values()))["cross_entropy"]
    assert history[-1] == pytest.approx(lf.cross_entropy(scores, data.y.astype(int)))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(own)).predict(data.x, raw_score=True), scores)
    losses = [lightgbm_objective("half_squared_error"), lightgbm_objective("l1_loss")]
    search = GridSearchCV(lightgbm.LGBMRegressor(**settings), {"objective": losses}, cv=2).fit(data.x, data.y)
    assert search.best_params_["objective"] in losses


@needs("catboost")
def test_catboost_through_scikit_learn():
    import catboost
    from sklearn.base import clone
    from sklearn.model_selection import GridSearchCV

    data = benchmark.data_for(pair_of("catboost", "RMSE"), SIZE)
    settings = {"iterations": 4, "thread_count": 1, "logging_level": "Silent", "allow_writing_files": False}
    settings["learning_rate"] = 0.1
    objective, metric = catboost_objective("log_cosh_loss"), catboost_metric("log_cosh_loss")
    own = clone(catboost.CatBoostRegressor(loss_function=objective, eval_metric=metric, **settings))
    own.fit(data.x, data.y, eval_set=(data.x, data.y))
    scores = own.predict(data.x)
    (history,) = own.evals_result_["validation"].values()
    assert history[-1] == pytest.approx(lf.log_cosh_loss(scores, data.y))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(own)).predict(data.x), scores)
    losses = [objective, catboost_objective("half_squared_error")]
    model = catboost.CatBoostRegressor(eval_metric="RMSE", **settings)
    search = GridSearchCV(model, {"loss_function": losses}, cv=2, scoring="r2").fit(data.x, data.y)
    assert search.best_params_["loss_function"] in losses


@needs("catboost")
def test_catboost_with_several_targets():
    import catboost

    random = np.random.default_rng(0)
    x, soft = random.normal(size=(80, 3)), random.dirichlet(np.ones(3), 80)
    settings = {"iterations": 3, "thread_count": 1, "logging_level": "Silent", "allow_writing_files": False}
    settings |= {"learning_rate": 0.5, "bootstrap_type": "No", "random_strength": 0, "leaf_estimation_iterations": 1}
    objective = catboost_objective("cross_entropy", multi_target=True)
    metric = catboost_metric("cross_entropy", multi_target=True)
    for made in (objective, metric):
        assert repr(pickle.loads(pickle.dumps(made))) == repr(made) == repr(eval(repr(made), {"lossfast": lf}))
    model = catboost.CatBoostRegressor(loss_function=objective, eval_metric=metric, **settings)
    scores = model.fit(x, soft).predict(x)
    (history,) = model.evals_result_["learn"].values()
    assert history[-1] == pytest.approx(lf.cross_entropy(scores, soft), rel=1e-6)
    assert history[-1] < history[0] < np.log(3)
    several = catboost_objective("half_squared_error", multi_target=True)
    own = catboost.CatBoostRegressor(loss_function=several, eval_metric="MultiRMSE", **settings).fit(x, soft)
    theirs = catboost.CatBoostRegressor(loss_function="MultiRMSE", boost_from_average=False, **settings).fit(x, soft)
    np.testing.assert_allclose(own.predict(x), theirs.predict(x), atol=1e-7)


# ------------------------------------------------------------------------------------------------------- benchmark


@needs("lightgbm")
def test_the_benchmark_reports(tmp_path, capsys):
    file = tmp_path / "boosting.json"
    arguments = ["--quick", "--rows", "300", "--rounds", "2", "--threads", "1", "--library", "lightgbm"]
    page = tmp_path / "page.md"
    arguments += ["--objective", "binary", "--json", str(file), "--markdown", str(page), "--note", "Quick."]
    assert benchmark.main(arguments) == 0
    assert "| `binary` | `binary_cross_entropy_with_logits` | 300 × 2 | 2 of 2 | – | 0 | 0 |" in page.read_text()
    assert json.loads(file.read_text())["note"] == "Quick." and " Quick.\n" in page.read_text()
    (found,) = json.loads(file.read_text())["results"]
    assert found["trees with the same splits"] == found["trees"] == 2
    assert (found["rows"], found["hessian"]) == (300, "lightgbm")
    head, row = capsys.readouterr().out.splitlines()
    assert row.split()[:3] == ["lightgbm", "binary", "no"] and "same splits" in head
    with pytest.raises(SystemExit):
        benchmark.main(["--objective", "none"])
    with pytest.raises(SystemExit):
        benchmark.main(["--help"])
    assert "examples:" in capsys.readouterr().out
