"""The estimators: scikit-learn's own checks, derivatives, the optima of its models, memory, threads, streams."""

import pickle
import sys
import tracemalloc
import warnings
from importlib.util import find_spec

import numpy as np
import pytest

import lossfast as lf

pytest.importorskip("sklearn", minversion="1.6")
import scipy.sparse
import sklearn
from sklearn import linear_model
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from lossfast import sklearn as ours
from lossfast.sklearn import LossRegressor, SoftmaxClassifier, TemperatureScaler
from lossfast.sklearn._objective import (
    SOLVERS,
    Blocks,
    LinearObjective,
    Link,
    PointwiseTerms,
    RoundedTerms,
    RowTerms,
    is_kinked,
    link_of,
    minimise,
)
from lossfast.sklearn.estimators import differentiable_losses

TIGHT = 3e-8


def classification(rows=240, features=6, classes=3, dtype=np.float64, seed=0):
    random = np.random.default_rng(seed)
    X = random.standard_normal((rows, features)) * np.linspace(0.5, 3, features) + np.linspace(-1, 1, features)
    logits = X @ random.standard_normal((features, classes))
    return X.astype(dtype), (logits + 2 * random.gumbel(size=logits.shape)).argmax(1)


def regression(loss, rows=300, seed=0):
    """Data with targets in the loss's domain."""
    random = np.random.default_rng(seed)
    X = random.standard_normal((rows, 4))
    z = X @ [1.0, -0.5, 0.25, 0.0]
    domain = loss.domains.get("target", "")
    if domain in (">= 0", "> 0", "> -1"):
        y = random.poisson(np.exp(0.5 * z)) + float(domain != ">= 0")
    elif domain == "-1 or 1":
        y = np.where(z + random.standard_normal(rows) > 0, 1.0, -1.0)
    elif loss.group == "classification":
        y = (z + random.standard_normal(rows) > 0) * 1.0
    else:
        y = 10 + z + 0.5 * random.standard_normal(rows)
    return X, y


# --------------------------------------------------------------------------------------------- scikit-learn's checks

CHECKED = [
    SoftmaxClassifier(),
    SoftmaxClassifier(solver="trust-ncg"),
    LossRegressor(),
    LossRegressor("poisson_nll_loss"),
    LossRegressor("pinball_loss", loss_params={"quantile": 0.4}),
    TemperatureScaler(SoftmaxClassifier(), cv="train"),
    pytest.param(TemperatureScaler(SoftmaxClassifier()), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("estimator", CHECKED, ids=str)
def test_scikit_learns_checks_pass_with_no_exceptions(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator, on_skip=None, on_fail=None)
    failed = [result["check_name"] for result in results if result["status"] not in ("passed", "skipped")]
    assert not failed
    assert sum(result["status"] == "passed" for result in results) > 55
    skipped = {result["check_name"] for result in results if result["status"] == "skipped"}
    left_out = {"check_array_api_input"}  # which scikit-learn itself skips unless it is asked for
    if find_spec("pandas") is None:
        left_out |= {name for name in skipped if name.endswith(("pandas_series", "data_not_an_array"))}
    assert skipped <= left_out


def test_every_estimator_is_among_the_checked():
    checked = {type(getattr(case, "values", [case])[0]).__name__ for case in CHECKED}
    assert checked == set(ours._WHERE["estimators"])


# --------------------------------------------------------------------------------------------------- the objective

LAYOUTS = {
    "C": lambda X: X,
    "F": np.asfortranarray,
    "strided": lambda X: np.repeat(np.repeat(X, 2, 0), 2, 1)[::2, ::2],
    "CSR": scipy.sparse.csr_array,
    "CSR matrix": scipy.sparse.csr_matrix,
    "swapped": lambda X: X.astype(X.dtype.newbyteorder()),
}


def objective_of(kind, X, intercept=True, n_threads=1, weight=None):
    rows, features = X.shape
    random = np.random.default_rng(3)
    precision = np.append(random.random(features), 0.0) if intercept else random.random(features)
    options = {"total": 7.0, "fit_intercept": intercept, "precision": precision, "n_threads": n_threads}
    if kind == "softmax":
        terms = RowTerms(lf.cross_entropy, random.integers(0, 3, rows), weight)
        return LinearObjective(X, terms, outputs=3, **options)
    y = random.random(rows) + 0.2
    if kind == "rounded":
        terms = RoundedTerms(lf.pinball_loss.bind(quantile=0.3), y, weight, 0.2)
    else:
        loss, link = {
            "binomial": (lf.binary_cross_entropy_with_logits, Link("logit", composed=False)),
            "log": (lf.half_tweedie_deviance.bind(link="identity"), Link("log", composed=True)),
            "logit": (lf.half_squared_error, Link("logit", composed=True)),
        }[kind]
        terms = PointwiseTerms(loss, y, weight, link)
    return LinearObjective(X, terms, outputs=1, **options)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["softmax", "binomial", "log", "logit", "rounded"])
@pytest.mark.parametrize("weighted", [False, True])
def test_derivatives_are_those_of_the_value(kind, layout, weighted):
    X = LAYOUTS[layout](classification(90, 4)[0] / 3)
    random = np.random.default_rng(5)
    weight = random.integers(0, 3, 90).astype(float) if weighted else None
    objective = objective_of(kind, X, weight=weight)
    objective.blocks.rows, objective.blocks.slice = 16, 48  # several blocks in several slices, with a rest
    W, V = 0.3 * random.standard_normal((2, *objective.shape))
    value, gradient = objective.value_and_grad(W)
    step = 1e-6
    assert value == pytest.approx(objective.value(W), rel=1e-13)
    slope = (objective.value(W + step * V) - objective.value(W - step * V)) / (2 * step)
    assert np.vdot(gradient, V) == pytest.approx(slope, rel=1e-6, abs=1e-8)
    bend = (objective.value_and_grad(W + step * V)[1] - objective.value_and_grad(W - step * V)[1]) / (2 * step)
    # A parabola that ends between the two points bends less.
    np.testing.assert_allclose(objective.hvp(W, V), bend, rtol=1e-5, atol=2e-2 if kind == "rounded" else 1e-7)
    if kind in ("softmax", "binomial"):
        for place in [(0, 0), (-1, 2), (-1, -1)]:
            unit = np.zeros(objective.shape)
            unit[place] = 1
            diagonal = (objective.hvp(W, unit) - objective.precision * unit)[place] * objective.total
            assert objective.curvature(W)[place] == pytest.approx(diagonal, rel=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "bool"])
def test_other_dtypes_are_converted_block_by_block(dtype):
    X = (classification(90, 4)[0] * 2).astype(dtype)
    W = 0.1 * np.random.default_rng(0).standard_normal((3, 5))
    value, gradient = objective_of("softmax", X).value_and_grad(W)
    exact_value, exact = objective_of("softmax", X.astype(float)).value_and_grad(W)
    digits = 1e-5 if Blocks(X, 3).dtype == np.float32 else 1e-14
    assert value == pytest.approx(exact_value, rel=digits)
    np.testing.assert_allclose(gradient, exact, rtol=digits, atol=10 * digits)


def test_no_bit_depends_on_the_number_of_threads():
    X, y = classification(30_000, 40, 4)
    assert Blocks(X, 4).slice * 2 < len(X)
    fits = [SoftmaxClassifier(n_threads=threads).fit(X, y) for threads in (1, 2, 5)]
    for other in fits[1:]:
        np.testing.assert_array_equal(other.coef_, fits[0].coef_)
        assert other.loss_ == fits[0].loss_
    with lf.set_num_threads(3):
        np.testing.assert_array_equal(SoftmaxClassifier().fit(X, y).coef_, fits[0].coef_)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int8"])
def test_memory_mapped_data_are_not_copied_and_logits_do_not_exist(tmp_path, dtype):
    rows, features, classes = 60_000, 20, 8
    X, y = classification(rows, features, classes)
    path = tmp_path / "X.npy"
    np.save(path, (10 * X).clip(-100, 100).astype(dtype))
    mapped = np.load(path, mmap_mode="r")
    y = y.astype(np.int8)
    model = SoftmaxClassifier(max_iter=3, n_threads=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(mapped[:500], y[:500])
        tracemalloc.start()
        try:
            model.fit(mapped, y)
            taken = tracemalloc.get_traced_memory()[1]
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            model.predict(mapped)
            predicting = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
    labels = 4 * 8 * rows  # encoding them takes a few integers each
    assert taken < min(labels + 3e6, 0.6 * rows * features * 8)
    assert predicting < 3 * 8 * rows + 1e6


# ------------------------------------------------------------------------------------------------ logistic regression

SAME = {
    "multinomial": ({}, {}),
    "two classes": ({"classes": 2}, {}),
    "no intercept": ({}, {"fit_intercept": False}),
    "two classes, no intercept": ({"classes": 2}, {"fit_intercept": False}),
    "weak penalty": ({}, {"C": 50.0}),
    "no penalty": ({}, {"C": np.inf}),
    "balanced": ({}, {"class_weight": "balanced"}),
    "weights of classes": ({}, {"class_weight": {0: 1.0, 1: 3.0, 2: 0.5}}),
    "weights of two classes": ({"classes": 2}, {"class_weight": {0: 1.0, 1: 3.0}}),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", SAME)
def test_the_optimum_is_that_of_scikit_learn(case, weighted):
    data, options = SAME[case]
    X, y = classification(**data)
    weight = np.random.default_rng(1).random(len(y)) if weighted else None
    theirs = linear_model.LogisticRegression(solver="newton-cg", tol=1e-10, max_iter=1000, **options)
    theirs.fit(X, y, sample_weight=weight)
    model = SoftmaxClassifier(tol=TIGHT, max_iter=1000, **options).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(model.coef_, theirs.coef_, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.intercept_, theirs.intercept_, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.predict_proba(X), theirs.predict_proba(X), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(model.decision_function(X), theirs.decision_function(X), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(model.predict(X), theirs.predict(X))
    assert model.score(X, y) == theirs.score(X, y)


@pytest.mark.parametrize("classes", [2, 3])
def test_scales_and_correlations_cost_few_steps(classes):
    X, y = classification(classes=classes)
    skewed = X.copy()
    skewed[:, 0] += 30 * skewed[:, 5]
    skewed *= 10.0 ** np.arange(-2, 4)
    best = SoftmaxClassifier(C=1e8, tol=1e-7).fit(X, y).loss_
    for solver, steps in (("lbfgs", 30), ("newton-cg", 10), ("trust-ncg", 10)):
        model = SoftmaxClassifier(solver=solver, C=1e8, tol=1e-3, max_iter=steps).fit(skewed, y)
        assert model.loss_ <= best + 1e-5


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_solvers_and_layouts_agree(solver, layout):
    X, y = classification()
    expected = SoftmaxClassifier(tol=1e-8).fit(X, y)
    model = SoftmaxClassifier(solver=solver, tol=1e-8).fit(LAYOUTS[layout](X), y)
    np.testing.assert_allclose(model.coef_, expected.coef_, atol=1e-5)
    np.testing.assert_allclose(model.predict_log_proba(LAYOUTS[layout](X)), expected.predict_log_proba(X), atol=1e-4)


@pytest.mark.parametrize("classes", [2, 3])
def test_precisions_and_kinds_of_labels(classes):
    X, y = classification(classes=classes)
    names = np.array(["ham", "spam", "tuna"])[y]
    expected = SoftmaxClassifier(tol=1e-6).fit(X, y)
    for labels in (names, names.astype(object), y.astype(np.uint8), y.astype(float), (10 * y).tolist()):
        model = SoftmaxClassifier(tol=1e-6).fit(X, labels)
        np.testing.assert_array_equal(model.coef_, expected.coef_)
        np.testing.assert_array_equal(model.predict(X), np.unique(labels)[expected.predict(X)])
    single = SoftmaxClassifier(tol=1e-5).fit(X.astype(np.float32), names)
    assert single.coef_.dtype == single.decision_function(X.astype(np.float32)).dtype == np.float32
    np.testing.assert_allclose(single.coef_, expected.coef_, atol=1e-4)


def test_probabilities_keep_their_digits():
    model = SoftmaxClassifier(C=1e6).fit([[-1.0], [1.0]], [0, 1])
    certain = model.predict_log_proba([[60.0 / model.coef_[0, 0]]])
    assert certain[0, 1] == pytest.approx(-np.exp(-60.0), rel=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("class_weight", [None, {0: 2.0, 1: 0.5, 2: 1.0}, "balanced"])
def test_soft_labels_are_rows_of_every_class_with_weights(classes, class_weight):
    X, _ = classification(classes=classes)
    random = np.random.default_rng(2)
    soft, weight = random.dirichlet(np.full(classes, 0.5), len(X)), random.random(len(X))
    if isinstance(class_weight, dict):
        class_weight = {label: class_weight[label] for label in range(classes)}
    options = {"tol": TIGHT, "class_weight": class_weight, "max_iter": 500}
    model = SoftmaxClassifier(**options).fit(X, soft, sample_weight=weight)
    hard = SoftmaxClassifier(**options).fit(
        np.repeat(X, classes, 0), np.tile(np.arange(classes), len(X)), sample_weight=(soft * weight[:, None]).ravel()
    )
    np.testing.assert_allclose(model.coef_, hard.coef_, atol=1e-6)
    np.testing.assert_allclose(model.intercept_, hard.intercept_, atol=1e-6)
    assert model.loss_ == pytest.approx(hard.loss_, rel=1e-10)


def test_soft_labels_that_are_none():
    X, y = classification()
    soft = np.eye(3)[y]
    pandas = pytest.importorskip("pandas")
    named = SoftmaxClassifier().fit(X, pandas.DataFrame(soft, columns=["c", "a", "b"]))
    assert named.classes_.tolist() == ["c", "a", "b"]
    np.testing.assert_array_equal(SoftmaxClassifier().fit(X, soft).predict(X), SoftmaxClassifier().fit(X, y).predict(X))
    for wrong, message in [
        (2 * soft, "not a distribution"),
        (soft - 0.5, "not a distribution: the row holds -0.5"),
        (np.full_like(soft, np.nan), "NaN"),
        (soft[:-1], "inconsistent"),
        (soft.astype(int), "soft labels must be of a floating dtype"),
    ]:
        with pytest.raises(ValueError, match=message):
            SoftmaxClassifier().fit(X, wrong)


def test_warm_start_begins_where_the_last_fit_ended():
    X, y = classification()
    model = SoftmaxClassifier(warm_start=True, tol=1e-6).fit(X, y)
    steps, coef = model.n_iter_, model.coef_
    model.fit(X, y)
    assert model.n_iter_ == 1 < steps
    np.testing.assert_array_equal(model.coef_, coef)
    with pytest.raises(ValueError, match="warm_start=True needs the classes and features of the last fit"):
        model.fit(X, y % 2)


def test_streams():
    X, y = classification(3000, seed=4)
    whole = SoftmaxClassifier(tol=1e-7).fit(X, y)
    once = SoftmaxClassifier(tol=1e-7).partial_fit(X, y, classes=[0, 1, 2])
    np.testing.assert_allclose(once.coef_, whole.coef_, atol=1e-6)
    stream = SoftmaxClassifier(tol=1e-7)
    for start in range(0, 3000, 300):
        rows = slice(start, start + 300)
        stream.partial_fit(X[rows], y[rows], classes=[0, 1, 2] if start == 0 else None)
    assert stream.n_samples_seen_ == 3000
    last = SoftmaxClassifier(tol=1e-7).fit(X[2700:], y[2700:])
    assert np.abs(stream.coef_ - whole.coef_).max() < 0.5 * np.abs(last.coef_ - whole.coef_).max()
    assert lf.cross_entropy(stream.decision_function(X), y) < lf.cross_entropy(whole.decision_function(X), y) + 0.005
    stream.fit(X, y)
    np.testing.assert_allclose(stream.coef_, whole.coef_, atol=1e-7)
    assert not hasattr(stream, "precision_")


def test_streams_of_one_class_at_a_time_and_their_errors():
    X, y = classification(300)
    order = np.argsort(y, kind="stable")
    model = SoftmaxClassifier()
    with pytest.raises(ValueError, match="classes must be given in the first call"):
        model.partial_fit(X, y)
    for rows in np.array_split(order, 5):
        model.partial_fit(X[rows], y[rows], classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"not among the classes \[0, 1, 2\]: \[7\]"):
        model.partial_fit(X[:1], [7])
    with pytest.raises(ValueError, match="classes must be those of the first call"):
        model.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="features"):
        model.partial_fit(X[:, :2], y)
    with pytest.raises(ValueError, match="balanced"):
        SoftmaxClassifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])


WRONG = [
    (SoftmaxClassifier(C=0), "C must be > 0, got 0"),
    (SoftmaxClassifier(C=np.nan), "C must be > 0, got nan"),
    (SoftmaxClassifier(tol=-1), "tol must be finite and >= 0, got -1"),
    (SoftmaxClassifier(solver="sag"), "solver must be one of 'lbfgs', 'newton-cg', 'trust-ncg', got 'sag'"),
    (SoftmaxClassifier(max_iter=0), "max_iter must be an integer, 1 at least, got 0"),
    (SoftmaxClassifier(max_iter=1.5), "max_iter must be an integer, 1 at least, got 1.5"),
    (SoftmaxClassifier(class_weight="even"), "class_weight must be a dict, 'balanced' or None, got 'even'"),
    (LossRegressor(alpha=-1), "alpha must be finite and >= 0, got -1"),
    (LossRegressor("zero_one_loss"), "loss must be a pointwise loss with a gradient"),
    (LossRegressor("cross_entropy"), "loss must be a pointwise loss with a gradient"),
    (LossRegressor("hubris"), "there is no loss 'hubris'"),
    (LossRegressor(loss_params={"beta": 1}), "has no parameter 'beta'; its parameters are delta"),
    (LossRegressor(loss_params={"reduction": "sum"}), "has no parameter 'reduction'"),
    (LossRegressor(loss_params={"delta": -1}), "delta must be > 0, got -1"),
    (LossRegressor(link="probit"), "link must be one of 'auto', 'identity', 'log', 'logit', got 'probit'"),
    (LossRegressor("poisson_nll_loss", link="identity"), "takes predictions on the log scale already"),
    (LossRegressor("poisson_nll_loss"), "target must be >= 0, got -1 at 0"),
    (TemperatureScaler(tol=0), "tol must be finite and > 0, got 0"),
    (TemperatureScaler(max_iter=0), "max_iter must be an integer, 1 at least, got 0"),
    (TemperatureScaler(SoftmaxClassifier(), cv="loo"), "cv must be an integer, folds, 'prefit', 'train' or None"),
    (TemperatureScaler(), "there are logits of 3 classes, but y has 2 different labels"),
]


@pytest.mark.parametrize(("estimator", "message"), WRONG, ids=[str(wrong) for wrong, _ in WRONG])
def test_errors_say_what_was_given_and_expected(estimator, message):
    X = np.random.default_rng(0).standard_normal((20, 3))
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        estimator.fit(X, np.where(np.arange(20) % 3, 1, -1))


def test_data_that_cannot_be_fitted():
    X, y = classification()
    for bad, message in [
        (np.where(X > 2, np.nan, X), "NaN"),
        (np.where(X > 2, np.inf, X), "infinity"),
        (1e200 * X, "scale them"),
    ]:
        with pytest.raises(ValueError, match=message):
            SoftmaxClassifier().fit(bad, y)
    with pytest.raises(ValueError, match="all entries of sample_weight are 0|at least one non-zero"):
        LossRegressor().fit(X, y, sample_weight=np.zeros(len(y)))
    with pytest.raises(ValueError, match="[Nn]egative"):
        SoftmaxClassifier().fit(X, y, sample_weight=-np.ones(len(y)))
    with pytest.raises(TypeError, match="n_threads must be an integer"):
        SoftmaxClassifier(n_threads=1.5).fit(X, y)
    with pytest.warns(ConvergenceWarning, match="has not converged: after 2 steps of 'lbfgs'"):
        SoftmaxClassifier(max_iter=2).fit(X, y)


def test_progress(capsys, monkeypatch):
    X, y = classification()
    SoftmaxClassifier().fit(X, y)
    assert capsys.readouterr() == ("", "")
    SoftmaxClassifier(verbose=1).fit(X, y)
    bar = capsys.readouterr()
    assert bar.out == "" and "SoftmaxClassifier" in bar.err and "largest derivative" in bar.err
    monkeypatch.setitem(sys.modules, "tqdm", None)
    model = SoftmaxClassifier(verbose=1).fit(X, y)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == model.n_iter_
    assert lines[0].startswith("SoftmaxClassifier step 1: objective ")


# -------------------------------------------------------------------------------------------------------- regression


def test_what_losses_are_kinked():
    kinked = {name for name in differentiable_losses() if is_kinked(lf.get_loss(name))}
    lines = {"l1_loss", "pinball_loss", "epsilon_insensitive_loss", "hinge_loss", "hinge_embedding_loss", "mape"}
    assert kinked == lines
    assert is_kinked(lf.smooth_l1_loss.bind(beta=0))


LINKS = [
    (lf.huber_loss, "identity", False),
    (lf.hinge_loss, "identity", False),
    (lf.logistic_loss, "identity", False),
    (lf.poisson_nll_loss, "log", False),
    (lf.poisson_nll_loss.bind(log_input=False), "log", True),
    (lf.half_gamma_deviance, "log", False),
    (lf.half_gamma_deviance.bind(link="identity"), "log", True),
    (lf.half_tweedie_deviance, "log", False),
    (lf.half_tweedie_deviance.bind(link="identity"), "log", True),
    (lf.half_tweedie_deviance.bind(link="identity", power=0), "identity", False),
    (lf.msle, "log", True),
    (lf.binary_cross_entropy_with_logits, "logit", False),
    (lf.sigmoid_focal_loss, "logit", False),
    (lf.quadratic_sigmoid_loss, "logit", False),
    (lf.binary_cross_entropy, "logit", True),
]


@pytest.mark.parametrize(("loss", "name", "composed"), LINKS, ids=[str(loss) for loss, *_ in LINKS])
def test_links(loss, name, composed):
    link = link_of(loss)
    assert (link.name, link.composed) == (name, composed)
    means = np.array([0.1, 0.5, 0.9])
    np.testing.assert_allclose(link.inverse(link.forward(means)), means, rtol=1e-14)


def test_a_loss_of_distances_has_no_least_value_for_other_numbers():
    with pytest.warns(ConvergenceWarning):
        LossRegressor("hinge_embedding_loss").fit(*regression(lf.hinge_embedding_loss))


@pytest.mark.parametrize("name", [name for name in differentiable_losses() if name != "hinge_embedding_loss"])
def test_every_loss_is_fitted(name):
    loss = lf.get_loss(name)
    X, y = regression(loss)
    model = LossRegressor(name, tol=1e-6, alpha=1e-2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, y)
    predictions = model.predict(X)
    assert np.isfinite(predictions).all()
    link = link_of(loss)

    def objective(weights):
        raw = X @ weights[:-1] + weights[-1]
        taken = link.inverse(raw) if link.composed else raw
        return loss(taken, y) + 0.005 * float(weights[:-1] @ weights[:-1])

    found = np.append(model.coef_, model.intercept_)
    np.testing.assert_allclose(predictions, link.inverse(X @ found[:-1] + found[-1]), rtol=1e-10)
    least = objective(found)
    assert model.loss_ == pytest.approx(least, rel=1e-12)
    random = np.random.default_rng(0)
    slack = 1e-4 * abs(least) if is_kinked(loss) else 1e-9 * abs(least)
    for size in (1e-1, 1e-2, 1e-3):
        for direction in random.standard_normal((20, 5)):
            assert objective(found + size * direction) >= least - slack


GLMS = [
    ("half_squared_error", {}, linear_model.Ridge(alpha=30.0, tol=1e-12), 0.1),
    ("poisson_nll_loss", {}, linear_model.PoissonRegressor(alpha=0.1, tol=1e-10, max_iter=1000), 0.1),
    ("half_gamma_deviance", {}, linear_model.GammaRegressor(alpha=0.1, tol=1e-10, max_iter=1000), 0.1),
    (
        "half_tweedie_deviance",
        {"power": 1.3},
        linear_model.TweedieRegressor(power=1.3, link="log", alpha=0.1, tol=1e-10, max_iter=1000),
        0.1,
    ),
]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("name", "params", "theirs", "alpha"), GLMS, ids=[case[0] for case in GLMS])
def test_the_optimum_is_that_of_scikit_learns_regressors(name, params, theirs, alpha, weighted):
    X, y = regression(lf.get_loss(name))
    weight = np.random.default_rng(1).random(len(y)) if weighted else None
    if name == "half_squared_error" and weighted:
        theirs = clone(theirs).set_params(alpha=alpha * weight.sum())
    expected = clone(theirs).fit(X, y, sample_weight=weight)
    for solver in SOLVERS:
        model = LossRegressor(name, loss_params=params, alpha=alpha, tol=TIGHT, solver=solver)
        model.fit(X, y, sample_weight=weight)
        np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(model.predict(X), expected.predict(X), rtol=1e-5)


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
def test_quantiles_come_close_to_linear_programming(quantile):
    X, y = regression(lf.pinball_loss)
    exact = linear_model.QuantileRegressor(quantile=quantile, alpha=0).fit(X, y)
    model = LossRegressor("pinball_loss", loss_params={"quantile": quantile}, alpha=0).fit(X, y)
    loss = lf.pinball_loss.bind(quantile=quantile)
    assert loss(model.predict(X), y) <= loss(exact.predict(X), y) * (1 + 2e-3)
    assert np.mean(y <= model.predict(X)) == pytest.approx(quantile, abs=0.02)


def test_regressors_take_loss_objects_streams_and_warm_starts():
    X, y = regression(lf.huber_loss, 1200)
    whole = LossRegressor(lf.huber_loss.bind(delta=0.3), tol=1e-8).fit(X, y)
    named = LossRegressor("huber_loss", loss_params={"delta": 0.3}, tol=1e-8).fit(X, y)
    np.testing.assert_array_equal(whole.coef_, named.coef_)
    assert clone(whole).fit(X, y).loss_ == whole.loss_
    once = clone(named).partial_fit(X, y)
    np.testing.assert_allclose(once.coef_, whole.coef_, atol=1e-6)
    stream = clone(named)
    for start in range(0, 1200, 200):
        stream.partial_fit(X[start : start + 200], y[start : start + 200])
    last = clone(named).fit(X[-200:], y[-200:])
    assert np.abs(stream.coef_ - whole.coef_).max() < 0.5 * np.abs(last.coef_ - whole.coef_).max()
    warm = clone(named).set_params(warm_start=True).fit(X, y)
    assert warm.fit(X, y).n_iter_ == 1 < named.n_iter_
    median = LossRegressor("l1_loss")
    for start in range(0, 1200, 300):
        median.partial_fit(X[start : start + 300], y[start : start + 300])
    assert lf.l1_loss(median.predict(X), y) < 1.02 * lf.l1_loss(LossRegressor("l1_loss").fit(X, y).predict(X), y)


def test_the_solver_stops_with_a_reason():
    objective = objective_of("softmax", classification(90, 4)[0])
    found = minimise(objective, np.zeros(objective.shape), tol=0.0, max_iter=1000)
    assert found.reason.startswith("the solver can get no lower") and found.steepest < 1e-6
    assert minimise(objective, np.zeros(objective.shape), tol=1e9).iterations == 0


# -------------------------------------------------------------------------------------------------------- calibration


def logits_and_labels(classes=4, rows=500, sharper=3.0):
    random = np.random.default_rng(7)
    logits = random.standard_normal((rows, classes))
    labels = (logits + random.gumbel(size=logits.shape)).argmax(1)
    return sharper * logits, labels


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_temperature_is_where_the_derivative_vanishes(dtype, weighted):
    logits, labels = logits_and_labels()
    logits = logits.astype(dtype)
    weight = np.random.default_rng(0).random(len(labels)) if weighted else None
    scaler = TemperatureScaler().fit(logits, labels, sample_weight=weight)
    assert 2 < scaler.temperature_ < 4 and scaler.n_iter_ < 12
    slope = lf.cross_entropy.evaluate(
        logits, labels, want="grad_temperature", temperature=scaler.temperature_, sample_weight=weight
    ).grad_temperature
    assert abs(slope) < 1e-9
    assert scaler.loss_ == pytest.approx(
        lf.cross_entropy(logits / scaler.temperature_, labels, sample_weight=weight), rel=1e-5
    )
    np.testing.assert_allclose(scaler.transform(logits), logits / scaler.temperature_, rtol=1e-6)
    np.testing.assert_allclose(
        scaler.predict_proba(logits), lf.softmax(scaler.transform(logits).astype(float)), rtol=1e-5
    )
    np.testing.assert_allclose(np.exp(scaler.predict_log_proba(logits)), scaler.predict_proba(logits), rtol=1e-12)
    np.testing.assert_array_equal(scaler.predict(logits), logits.argmax(1))


def test_logits_of_two_classes_may_have_one_column():
    logits, labels = logits_and_labels(2)
    names = np.array(["no", "yes"])[labels]
    both = TemperatureScaler().fit(logits, names)
    odds = logits[:, 1] - logits[:, 0]
    for one in (odds, odds[:, None]):
        single = TemperatureScaler().fit(one, names)
        assert single.temperature_ == pytest.approx(both.temperature_, rel=1e-9)
        np.testing.assert_allclose(single.predict_proba(one), both.predict_proba(logits), rtol=1e-8)
        np.testing.assert_array_equal(single.predict(one), both.predict(logits))
        assert single.transform(one).shape == (len(odds), 1)
        assert single.get_feature_names_out().tolist() == ["temperaturescaler0"]


def test_labels_that_not_all_columns_have():
    logits, labels = logits_and_labels(4)
    some = labels < 3
    assert TemperatureScaler().fit(logits[some], labels[some]).classes_.tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="not numbers of columns"):
        TemperatureScaler().fit(logits[some], np.array(["a", "b", "c", "d"])[labels[some]])


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("columns", [1, 2])
def test_temperatures_without_end(sign, columns):
    odds = sign * np.array([-1.0, 2.0, -3.0, 1.5])
    logits = odds if columns == 1 else np.stack([0 * odds, odds], 1)
    towards = "0" if sign > 0 else "infinity"
    with pytest.warns(ConvergenceWarning, match=f"towards a temperature of {towards}"):
        scaler = TemperatureScaler().fit(logits, [0, 1, 0, 1])
    assert scaler.temperature_ < 1e-3 if sign > 0 else scaler.temperature_ > 1e3


def test_a_fitted_classifier_is_calibrated_as_scikit_learn_does():
    X, y = classification(900, seed=3)
    fitted = SoftmaxClassifier(C=1e3).fit(X[:100], y[:100])
    held_out = slice(100, 600)
    scaler = TemperatureScaler(fitted, cv="prefit").fit(X[held_out], y[held_out])
    frozen = TemperatureScaler(FrozenEstimator(fitted)).fit(X[held_out], y[held_out])
    assert scaler.temperature_ == frozen.temperature_
    assert scaler.estimator_ is fitted and scaler.n_features_in_ == X.shape[1]
    theirs = CalibratedClassifierCV(FrozenEstimator(fitted), method="temperature", ensemble=False)
    theirs.fit(X[held_out], y[held_out])
    np.testing.assert_allclose(scaler.predict_proba(X[600:]), theirs.predict_proba(X[600:]), atol=1e-6)
    plain, calibrated = fitted.predict_log_proba(X[600:]), scaler.predict_log_proba(X[600:])
    assert lf.nll_loss(calibrated, y[600:]) < lf.nll_loss(plain, y[600:])
    np.testing.assert_array_equal(scaler.predict(X), fitted.predict(X))
    with pytest.raises(NotFittedError, match="cv='prefit' needs a fitted estimator"):
        TemperatureScaler(SoftmaxClassifier(), cv="prefit").fit(X, y)
    with pytest.raises(ValueError, match=r"labels that the estimator does not know: \[9\]"):
        TemperatureScaler(fitted, cv="prefit").fit(X[:2], [1, 9])


def test_other_classifiers_are_calibrated_on_rows_that_they_have_not_seen():
    from sklearn.naive_bayes import GaussianNB

    X, y = classification(300, seed=3)
    scaler = TemperatureScaler(GaussianNB(), cv=3).fit(X, y)
    log_proba = cross_val_predict(GaussianNB(), X, y, cv=3, method="predict_log_proba")
    assert scaler.temperature_ == pytest.approx(TemperatureScaler().fit(log_proba, y).temperature_, rel=1e-9)
    np.testing.assert_array_equal(scaler.predict(X), GaussianNB().fit(X, y).predict(X))
    same = TemperatureScaler(GaussianNB(), cv="train").fit(X, y)
    assert same.temperature_ < scaler.temperature_


# ------------------------------------------------------------------------------------------------------ living together


@pytest.mark.parametrize(
    "estimator", [SoftmaxClassifier(C=2.0), LossRegressor("log_cosh_loss"), TemperatureScaler()], ids=str
)
def test_pickles_clones_and_reprs(estimator):
    X, y = logits_and_labels(3)
    fitted = clone(estimator).fit(X, y)
    for copy in (pickle.loads(pickle.dumps(fitted)), clone(fitted).fit(X, y)):
        np.testing.assert_array_equal(copy.predict(X), fitted.predict(X))
    assert repr(clone(fitted)) == repr(estimator)


def test_pipelines_and_grid_search():
    X, y = classification()
    model = make_pipeline(StandardScaler(), SoftmaxClassifier())
    search = GridSearchCV(model, {"softmaxclassifier__C": [1e-3, 1.0]}, cv=3, scoring="neg_log_loss").fit(X, y)
    assert search.best_params_ == {"softmaxclassifier__C": 1.0}
    calibrated = make_pipeline(StandardScaler(), TemperatureScaler(SoftmaxClassifier(), cv=3)).fit(X, y)
    assert calibrated.score(X, y) > 0.5
    regressor = GridSearchCV(LossRegressor(), {"loss": ["l1_loss", "mse_loss"], "alpha": [0.0, 100.0]}, cv=3)
    assert regressor.fit(*regression(lf.huber_loss)).best_params_["alpha"] == 0.0


def test_feature_names_and_set_output():
    pandas = pytest.importorskip("pandas")
    X, y = classification()
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    model = SoftmaxClassifier().fit(frame, y)
    assert model.feature_names_in_.tolist() == list("abcdef")
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[list("bacdef")])
    scaler = TemperatureScaler(SoftmaxClassifier(), cv=3).set_output(transform="pandas").fit(frame, y)
    assert scaler.transform(frame).columns.tolist() == [f"temperaturescaler{column}" for column in range(3)]
    assert scaler.feature_names_in_.tolist() == list("abcdef")


@pytest.mark.parametrize("make", [SoftmaxClassifier, LossRegressor])
def test_metadata_is_routed(make):
    X, y = classification()
    weight = np.random.default_rng(0).random(len(y))
    with sklearn.config_context(enable_metadata_routing=True):
        wanting = make().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipe = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), wanting)
        routed = pipe.fit(X, y, sample_weight=weight)[-1]
        expected = make().fit(StandardScaler().fit_transform(X), y, sample_weight=weight)
        np.testing.assert_array_equal(routed.coef_, expected.coef_)
        found = cross_validate(wanting, X, y, cv=3, params={"sample_weight": weight}, return_estimator=True)
        assert len(found["estimator"]) == 3
        with pytest.raises(ValueError, match="sample_weight"):
            cross_validate(make(), X, y, cv=3, params={"sample_weight": weight})


def test_metadata_is_routed_through_calibration():
    X, y = classification()
    weight = np.random.default_rng(0).random(len(y))
    plain = TemperatureScaler(SoftmaxClassifier(), cv=3).fit(X, y, sample_weight=weight)
    with sklearn.config_context(enable_metadata_routing=True):
        inner = SoftmaxClassifier().set_fit_request(sample_weight=True)
        routed = TemperatureScaler(inner, cv=3).fit(X, y, sample_weight=weight)
        np.testing.assert_array_equal(routed.estimator_.coef_, plain.estimator_.coef_)
        assert routed.temperature_ == pytest.approx(plain.temperature_, rel=1e-9)
        inner = SoftmaxClassifier().set_fit_request(sample_weight=False)
        unweighted = TemperatureScaler(inner, cv=3).fit(X, y, sample_weight=weight)
        np.testing.assert_array_equal(unweighted.estimator_.coef_, SoftmaxClassifier().fit(X, y).coef_)
