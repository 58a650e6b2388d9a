"""Scores: against scikit-learn's where there are the same, digits where it clips, bins by hand, memory, scorers."""

import math
import tracemalloc

import numpy as np
import pytest

import lossfast as lf

pytest.importorskip("sklearn", minversion="1.6")
import sklearn
from sklearn import metrics as theirs
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate

from lossfast.sklearn import (
    LossRegressor,
    SoftmaxClassifier,
    brier_score,
    calibration_error,
    d2_brier,
    d2_log_loss,
    d2_score,
    log_loss,
    reliability,
    scorer,
)
from lossfast.sklearn.metrics import _SCORES

ROWS = 120


def scores_of(classes, rows=ROWS, seed=0):
    """Logits (of one class: log-odds), probabilities, and labels that they mostly favour."""
    random = np.random.default_rng(seed)
    logits = 2 * random.standard_normal((rows, max(classes, 2)))
    labels = (logits + random.gumbel(size=logits.shape)).argmax(1)
    if classes == 1:
        odds = logits[:, 1] - logits[:, 0]
        return odds, lf.sigmoid(odds), labels
    return logits, lf.softmax(logits), labels


WEIGHTS = {"plain": None, "weighted": np.random.default_rng(9).random(ROWS), "few": (np.arange(ROWS) % 5 == 0) * 2.0}
NAMES = np.array(["cat", "dog", "pig", "yak", "zebu"])


@pytest.mark.parametrize("weight", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("classes", [1, 2, 3, 5])
class TestAgainstScikitLearn:
    def test_log_loss(self, classes, weight):
        logits, proba, labels = scores_of(classes)
        for y in (labels, NAMES[labels], labels.astype(float), labels.astype(np.uint8), NAMES[labels].tolist()):
            for normalize in (True, False):
                options = {"sample_weight": weight, "normalize": normalize}
                assert log_loss(y, logits, **options) == pytest.approx(theirs.log_loss(y, proba, **options), rel=1e-12)

    @pytest.mark.skipif(not hasattr(theirs, "d2_brier_score"), reason="scikit-learn has it since 1.8")
    def test_shares_of_the_brier_score(self, classes, weight):
        logits, proba, labels = scores_of(classes)
        expected = theirs.d2_brier_score(labels, proba, sample_weight=weight)
        assert d2_brier(labels, logits, sample_weight=weight) == pytest.approx(expected, rel=1e-11)
        assert d2_brier(NAMES[labels], proba, sample_weight=weight, from_logits=False) == pytest.approx(
            expected, rel=1e-11
        )

    def test_shares_of_the_log_loss(self, classes, weight):
        logits, proba, labels = scores_of(classes)
        expected = theirs.d2_log_loss_score(labels, proba, sample_weight=weight)
        assert d2_log_loss(NAMES[labels], logits, sample_weight=weight) == pytest.approx(expected, rel=1e-11)

    def test_brier_score(self, classes, weight):
        logits, proba, labels = scores_of(classes)
        if classes == 1:
            expected = theirs.brier_score_loss(labels, proba, sample_weight=weight)
        else:  # scikit-learn 1.6 takes one column only
            distance = ((proba - np.eye(proba.shape[1])[labels]) ** 2).sum(1)
            expected = np.average(distance, weights=weight) * (0.5 if classes == 2 else 1)
        double = expected * (2 if classes <= 2 else 1)
        for y in (labels, NAMES[labels]):
            assert brier_score(y, logits, sample_weight=weight) == pytest.approx(expected, rel=1e-12)
            given = {"sample_weight": weight, "from_logits": False}
            assert brier_score(y, proba, **given) == pytest.approx(expected, rel=1e-12)
            assert brier_score(y, proba, scale_by_half=False, **given) == pytest.approx(double, rel=1e-12)
            assert brier_score(y, logits, sample_weight=weight, scale_by_half=True) == pytest.approx(
                double / 2, rel=1e-12
            )


@pytest.mark.parametrize("function", [log_loss, brier_score, d2_log_loss, d2_brier])
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_soft_labels_are_labels_with_weights(function, classes):
    logits, _, labels = scores_of(classes)
    count = max(classes, 2)
    assert function(np.eye(count)[labels], logits) == pytest.approx(function(labels, logits), rel=1e-12)
    if function in (log_loss, d2_log_loss):
        soft = np.random.default_rng(1).dirichlet(np.ones(count), ROWS)
        repeated = function(np.tile(np.arange(count), ROWS), np.repeat(logits, count, 0), sample_weight=soft.ravel())
        assert function(soft, logits) == pytest.approx(repeated, rel=1e-12)


def test_nothing_is_clipped():
    assert log_loss([0, 1], [[800.0, 0.0], [800.0, 0.0]]) == 400.0
    assert log_loss([0], [[30.0, 0.0]]) == pytest.approx(math.exp(-30), rel=1e-12)
    assert log_loss([1, 0], [40.0, -745.0]) == pytest.approx(math.exp(-40) / 2, rel=1e-12)
    assert brier_score([1, 0], [40.0, -40.0]) == pytest.approx(math.exp(-80), rel=1e-12)
    assert log_loss([0], [[-np.inf, 0.0]]) == math.inf


def test_the_columns_may_have_any_labels_in_any_order():
    logits, proba, labels = scores_of(3)
    order = ["pig", "cat", "dog"]
    y = np.array(order)[labels]
    assert log_loss(y, logits, labels=order) == log_loss(labels, logits)
    some = labels != 1
    for function in (log_loss, brier_score, d2_log_loss, d2_brier, calibration_error):
        named = function(y[some], logits[some], labels=order)
        assert named == function(labels[some], logits[some], labels=[0, 1, 2]) == function(labels[some], logits[some])
    assert theirs.log_loss(labels[some], proba[some], labels=[0, 1, 2]) == pytest.approx(
        log_loss(y[some], logits[some], labels=order)
    )


WRONG = [
    (["a", "b"], [[0.0, 1.0, 2.0]] * 2, {}, "y_true has 2 different labels, but the scores are of 3 classes"),
    ([0, 3], [[0.0, 1.0, 2.0]] * 2, {}, "y_true has 2 different labels"),
    ([-1, 2], [[0.0, 1.0, 2.0]] * 2, {}, "y_true has 2 different labels"),
    (["a", "x"], [0.0, 1.0], {"labels": ["a", "b"]}, r"y_true has the label 'x' at row 1 \(1 such rows\)"),
    (["a", "b"], [0.0, 1.0], {"labels": ["a", "a"]}, "labels must be 2 different ones"),
    (["a", "b"], [0.0, 1.0], {"labels": ["a"]}, "labels must be 2 different ones"),
    ([0, 1, 1], [0.0, 1.0], {}, "y_true has 3 rows, but there are scores of 2"),
    ([], [], {}, "there are no rows to score"),
    ([0, 1], [0.0, 1.0], {"sample_weight": [1.0]}, r"sample_weight has shape \(1,\), but the rows need shape \(2,\)"),
    ([0, 1], ["x", "y"], {}, "scores must be numbers"),
    ([0, 1], np.zeros((2, 2, 2)), {}, "scores must be numbers of shape"),
    ([[1, 0], [0, 1]], [[0.0, 1.0]] * 2, {}, "soft labels must be floating"),
    ([[0.5, 0.5, 0.0]] * 2, [[0.0, 1.0]] * 2, {}, "soft labels must be floating, a column for each of 2 classes"),
]


@pytest.mark.parametrize(("y", "scores", "options", "message"), WRONG)
@pytest.mark.parametrize("function", [log_loss, brier_score, d2_log_loss, calibration_error])
def test_errors_say_what_was_given(function, y, scores, options, message):
    with pytest.raises(ValueError, match=message):
        function(y, scores, **options)


@pytest.mark.parametrize("function", [brier_score, d2_brier, reliability])
def test_logits_are_no_probabilities(function):
    for scores in ([-1.0, 2.0], [[0.5, 1.5], [0.0, 1.0]], [np.nan, 0.5]):
        with pytest.raises(ValueError, match=r"probabilities must be in \[0, 1\]"):
            function([0, 1], scores, from_logits=False)


@pytest.mark.parametrize(
    "function", [log_loss, brier_score, d2_log_loss, calibration_error, lambda *a: brier_score(*a, from_logits=False)]
)
def test_no_copy_of_the_matrix(function):
    logits = np.random.default_rng(0).random((4000, 400))
    labels = np.random.default_rng(1).integers(0, 400, 4000)
    labels[:400] = np.arange(400)
    function(labels[:400], logits[:400])
    tracemalloc.start()
    try:
        function(labels, logits)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken < logits.nbytes / 10


# -------------------------------------------------------------------------------------------------------- calibration


def by_hand(confidence, right, weight, edges, norm):
    gaps, shares = [], []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        inside = (confidence > low) & (confidence <= high) if low > 0 else confidence <= high
        if weight[inside].sum() > 0:
            share = weight[inside].sum()
            gaps.append(abs(np.dot(weight[inside], confidence[inside]) - np.dot(weight[inside], right[inside])) / share)
            shares.append(share / weight.sum())
    gaps, shares = np.array(gaps), np.array(shares)
    return {"l1": shares @ gaps, "l2": math.sqrt(shares @ gaps**2), "max": gaps.max()}[norm]


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
@pytest.mark.parametrize("weight", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("classes", [1, 2, 4])
def test_calibration_error(classes, weight, norm):
    logits, proba, labels = scores_of(classes)
    confidence = proba if classes == 1 else proba.max(1)
    right = labels == 1 if classes == 1 else proba.argmax(1) == labels
    ones = np.ones(ROWS) if weight is None else weight
    expected = by_hand(confidence, right, ones, np.linspace(0, 1, 11), norm)
    options = {"n_bins": 10, "norm": norm, "sample_weight": weight}
    assert calibration_error(labels, logits, **options) == pytest.approx(expected, rel=1e-9)
    assert calibration_error(labels, proba, from_logits=False, **options) == pytest.approx(expected, rel=1e-9)


def test_bins_of_the_same_weight():
    logits, proba, labels = scores_of(1)
    found = reliability(labels, logits, n_bins=8, strategy="quantile")
    np.testing.assert_allclose(found.weight, 1 / 8, rtol=1e-12)
    ordered = np.argsort(proba).reshape(8, -1)
    np.testing.assert_allclose(found.confidence, proba[ordered].mean(1), rtol=1e-12)
    np.testing.assert_allclose(found.accuracy, labels[ordered].mean(1), rtol=1e-12)
    from sklearn.calibration import calibration_curve

    accuracy, confidence = calibration_curve(labels, proba, n_bins=8)
    found = reliability(labels, logits, n_bins=8)
    np.testing.assert_allclose(found.accuracy, accuracy, rtol=1e-12)
    np.testing.assert_allclose(found.confidence, confidence, rtol=1e-12)
    weight = np.random.default_rng(3).integers(0, 4, ROWS)
    repeated = reliability(np.repeat(labels, weight), np.repeat(logits, weight), n_bins=5, strategy="quantile")
    weighted = reliability(labels, logits, sample_weight=weight, n_bins=5, strategy="quantile")
    for one, other in zip(repeated, weighted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_a_calibrated_model_has_no_error_and_a_sure_one_has():
    random = np.random.default_rng(0)
    proba = random.random(50_000)
    labels = (random.random(50_000) < proba).astype(int)
    assert calibration_error(labels, proba, from_logits=False) < 0.01
    assert calibration_error(labels, 10 * (proba - 0.5)) > 0.05
    assert calibration_error([1, 0], [1.0, 0.0], from_logits=False) == 0.0
    assert calibration_error([0, 1], [1.0, 0.0], from_logits=False) == 1.0


@pytest.mark.parametrize("option", [{"n_bins": 0}, {"n_bins": 2.5}, {"strategy": "even"}, {"norm": "l3"}])
def test_options_of_calibration(option):
    [(name, value)] = option.items()
    with pytest.raises(ValueError, match=f"{name} must be .*{value!r}"):
        calibration_error([0, 1], [0.0, 1.0], **option)
    with pytest.raises(ValueError, match="calibration needs labels"):
        calibration_error([[0.5, 0.5]], [[0.0, 1.0]])
    with pytest.raises(ValueError, match="scale_by_half must be"):
        brier_score([0, 1], [0.0, 1.0], scale_by_half="half")


# ---------------------------------------------------------------------------------------------------------- regression


def positive():
    random = np.random.default_rng(5)
    y = random.gamma(2.0, size=90)
    return y, y * np.exp(0.3 * random.standard_normal(90)), random.random(90)


D2 = [
    ("mse_loss", {}, lambda y, p, w: theirs.r2_score(y, p, sample_weight=w)),
    ("half_squared_error", {}, lambda y, p, w: theirs.r2_score(y, p, sample_weight=w)),
    ("l1_loss", {}, lambda y, p, w: theirs.d2_absolute_error_score(y, p, sample_weight=w)),
    ("pinball_loss", {"quantile": 0.7}, lambda y, p, w: theirs.d2_pinball_score(y, p, sample_weight=w, alpha=0.7)),
    (
        "poisson_nll_loss",
        {"log_input": False, "eps": 0},
        lambda y, p, w: theirs.d2_tweedie_score(y, p, sample_weight=w, power=1),
    ),
    (
        "half_gamma_deviance",
        {"link": "identity"},
        lambda y, p, w: theirs.d2_tweedie_score(y, p, sample_weight=w, power=2),
    ),
    (
        "half_tweedie_deviance",
        {"power": 1.5, "link": "identity"},
        lambda y, p, w: theirs.d2_tweedie_score(y, p, sample_weight=w, power=1.5),
    ),
]


@pytest.mark.parametrize(("name", "params", "expected"), D2, ids=[case[0] for case in D2])
@pytest.mark.parametrize("weighted", [False, True])
def test_shares_of_pointwise_losses(name, params, expected, weighted):
    y, prediction, weight = positive()
    weight = weight if weighted else None
    found = d2_score(name, y, prediction, sample_weight=weight, **params)
    assert found == pytest.approx(expected(y, prediction, weight), rel=1e-7)
    assert d2_score(name, y, y, sample_weight=weight, **params) == pytest.approx(1, abs=1e-12)


def test_shares_of_losses_that_take_logarithms_and_log_odds():
    y, prediction, _ = positive()
    for name in ("half_gamma_deviance", "half_tweedie_deviance"):
        assert d2_score(name, y, np.log(prediction)) == pytest.approx(
            d2_score(name, y, prediction, link="identity"), rel=1e-9
        )
    logits, _, labels = scores_of(1)
    assert d2_score(lf.binary_cross_entropy_with_logits, labels, logits) == pytest.approx(
        d2_log_loss(labels, logits), rel=1e-9
    )
    counts = np.array([0.0, 0.0, 3.0, 1.0])
    assert d2_score("poisson_nll_loss", counts, np.log([0.2, 0.1, 2.5, 1.2])) == pytest.approx(
        theirs.d2_tweedie_score(counts, [0.2, 0.1, 2.5, 1.2], power=1), rel=1e-9
    )


def test_the_best_constant_of_a_loss_with_several_minima():
    y = np.concatenate([np.zeros(40), np.full(60, 100.0)])
    assert d2_score("tukey_loss", y, np.full(100, 100.0)) == pytest.approx(0, abs=1e-12)
    assert d2_score("tukey_loss", y, np.zeros(100)) < 0
    with pytest.raises(ValueError, match="must be a pointwise loss"):
        d2_score("cross_entropy", y, y)
    assert d2_score("mse_loss", [2.0, 2.0], [2.0, 2.0]) == 1.0
    assert d2_score("mse_loss", [2.0, 2.0], [2.0, 3.0]) == -math.inf


# ------------------------------------------------------------------------------------------------------------- scorers


@pytest.mark.parametrize("name", _SCORES)
def test_scorers(name):
    logits, _, labels = scores_of(3)
    model = SoftmaxClassifier().fit(logits, NAMES[labels])
    function, greater = _SCORES[name]
    expected = function(NAMES[labels], model.decision_function(logits)) * (1 if greater else -1)
    assert scorer(name)(model, logits, NAMES[labels]) == pytest.approx(expected, rel=1e-12)
    assert np.isfinite(cross_val_score(model, logits, NAMES[labels], scoring=scorer(name), cv=3)).all()


def test_scorers_are_those_of_scikit_learn_where_there_are_the_same():
    logits, _, labels = scores_of(3)
    for y in (labels, (labels > 0).astype(int)):
        ours = cross_val_score(LogisticRegression(), logits, y, scoring=scorer("neg_log_loss"), cv=4)
        same = cross_val_score(LogisticRegression(), logits, y, scoring="neg_log_loss", cv=4)
        np.testing.assert_allclose(ours, same, rtol=1e-12)
    search = GridSearchCV(SoftmaxClassifier(), {"C": [1e-4, 1.0]}, scoring=scorer("d2_log_loss"), cv=3)
    assert search.fit(logits, labels).best_params_ == {"C": 1.0}


def test_scorers_take_options_and_metadata():
    logits, _, labels = scores_of(3)
    weight = WEIGHTS["weighted"]
    model = SoftmaxClassifier().fit(logits, NAMES[labels])
    some = labels < 2
    given = scorer("neg_log_loss", labels=NAMES[:3])(model, logits[some], NAMES[labels][some])
    assert given == -log_loss(labels[some], model.decision_function(logits[some]))
    with pytest.raises(ValueError, match="give the labels of the columns with labels="):
        scorer("neg_log_loss")(model, logits[some], NAMES[labels][some])
    coarse, fine = (scorer("neg_calibration_error", n_bins=bins)(model, logits, NAMES[labels]) for bins in (1, 30))
    assert coarse > fine
    with pytest.raises(ValueError, match="there is no score 'log_loss'; there are neg_log_loss"):
        scorer("log_loss")
    with sklearn.config_context(enable_metadata_routing=True):
        found = cross_validate(
            SoftmaxClassifier().set_fit_request(sample_weight=True),
            logits,
            labels,
            scoring=scorer("neg_log_loss").set_score_request(sample_weight=True),
            params={"sample_weight": weight},
            cv=[(np.arange(ROWS), np.arange(ROWS))],
        )
    fitted = SoftmaxClassifier().fit(logits, labels, sample_weight=weight)
    assert found["test_score"][0] == pytest.approx(
        -log_loss(labels, fitted.decision_function(logits), sample_weight=weight)
    )


def test_regressors_are_scored_by_their_loss():
    y, _, _ = positive()
    X = np.log(y)[:, None] + 0.1
    model = LossRegressor("half_gamma_deviance").fit(X, y)
    made = theirs.make_scorer(lambda t, p: d2_score("half_gamma_deviance", t, p, link="identity"))
    assert 0.5 < made(model, X, y) <= 1
