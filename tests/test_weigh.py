"""Weights without losses: `weigh` gives what `reduce` gives, and does not look at the first argument's values."""

import math

import numpy as np
import pytest

import lossfast as lf

ROWS, CLASSES = 300, 7
RANDOM = np.random.default_rng(3)
LABELS = RANDOM.integers(0, CLASSES, ROWS)
LABELS[::9] = -100
SOFT = RANDOM.dirichlet(np.ones(CLASSES), ROWS)
ROW_WEIGHT, CLASS_WEIGHT = RANDOM.random(ROWS), RANDOM.random(CLASSES)
MASK = RANDOM.random((ROWS, CLASSES)) < 0.6
MASK[4] = False

CASES = (
    ("cross_entropy", LABELS, {}),
    ("cross_entropy", LABELS, {"ignore_index": None, "check": False}),
    ("cross_entropy", LABELS, {"sample_weight": ROW_WEIGHT, "class_weight": CLASS_WEIGHT, "where": MASK}),
    ("cross_entropy", SOFT, {"sample_weight": ROW_WEIGHT, "class_weight": CLASS_WEIGHT, "where": MASK}),
    ("cross_entropy", SOFT, {"label_smoothing": 0.1, "denominator": 12.0, "empty": "zero"}),
    ("cross_entropy", SOFT.T, {"axis": 0, "sample_weight": ROW_WEIGHT}),
    ("nll_loss", LABELS, {"class_weight": CLASS_WEIGHT}),
    ("quadratic_softmax_loss", LABELS, {"sample_weight": ROW_WEIGHT}),
    ("kl_div_from_logits", SOFT, {"sample_weight": ROW_WEIGHT, "where": MASK}),
    ("binary_cross_entropy_with_logits", SOFT, {"pos_weight": 3.0}),
    ("mse_loss", SOFT, {"where": MASK}),
    ("huber_loss", SOFT, {"where": MASK, "sample_weight": ROW_WEIGHT, "delta": 0.5}),
)


@pytest.fixture(autouse=True)
def _chosen(variant):
    with variant.chosen():
        yield


@pytest.mark.parametrize(("name", "targets", "options"), CASES)
def test_weighs_what_reduce_does(name, targets, options):
    loss = lf.get_loss(name)
    shape = targets.shape if targets.ndim == 2 else (ROWS, CLASSES)
    weighed = loss.weigh(np.broadcast_to(np.float32("nan"), shape), targets, **options)
    reduced = loss.reduce(np.zeros(shape, np.float32), targets, **options)
    for field in ("weight", "weights", "count", "denominator", "empty"):
        assert getattr(weighed, field) == getattr(reduced, field), field
    assert math.isnan(weighed.sum) and math.isnan(weighed.mean)
    bound = loss.bind(reduction="sum", **{name: value for name, value in options.items() if name != "denominator"})
    assert bound.weigh(np.zeros(shape), targets).weight == reduced.weight


def test_shards_have_the_gradient_of_the_whole():
    logits = RANDOM.normal(size=(ROWS, CLASSES))
    shards = [slice(0, 11), slice(11, 11), slice(11, 200), slice(200, ROWS)]
    options = [{"sample_weight": ROW_WEIGHT[rows], "class_weight": CLASS_WEIGHT, "empty": "raise"} for rows in shards]
    weight = sum(
        lf.cross_entropy.weigh(logits[rows], LABELS[rows], **given) for rows, given in zip(shards, options, strict=True)
    ).weight
    whole = lf.cross_entropy.grad(logits, LABELS, sample_weight=ROW_WEIGHT, class_weight=CLASS_WEIGHT)
    parts = [
        lf.cross_entropy.grad(logits[rows], LABELS[rows], denominator=weight, **given)
        for rows, given in zip(shards, options, strict=True)
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-14)


def test_checks_as_the_other_methods_do():
    logits = np.zeros((3, 2))
    with pytest.raises(IndexError, match=r"target 2 at row 1 is out of bounds for 2 classes \(2 such rows\)"):
        lf.cross_entropy.weigh(logits, [0, 2, 5])
    with pytest.raises(ValueError, match="labels have shape"):
        lf.cross_entropy.weigh(logits, [0, 1])
    with pytest.raises(TypeError, match=r"weigh\(\) takes no reduction"):
        lf.cross_entropy.weigh(logits, [0, 1, 0], reduction="sum")
    with pytest.raises(AttributeError, match="weigh"):
        lf.softmax.weigh(logits)


@pytest.mark.parametrize("classes", [7, 16, 17, 300])
def test_weights_are_the_sums_that_they_should_be(classes):
    """Beyond the blocks that are summed at a time, and with labels, weights and masks that do not lie in a row."""
    shape = (3, 401, classes)
    labels = RANDOM.integers(0, classes, shape[1::-1]).T
    labels[1, 5::7] = -100
    weight, class_weight = RANDOM.random((3, 802))[:, ::2], RANDOM.random(classes)
    soft, mask = RANDOM.dirichlet(np.ones(classes), shape[:2]), np.zeros(shape, bool)
    mask[0, :, -1] = mask[1, :, 0] = True  # and the rest not at all
    live = (labels != -100) & mask.any(-1)
    x, options = np.zeros(shape), {"sample_weight": weight, "class_weight": class_weight, "where": mask}
    weighed = lf.cross_entropy.weigh(x, labels, **options)
    assert weighed.count == live.sum()
    assert weighed.weight == math.fsum(weight[live] * class_weight[labels[live]])
    weighed = lf.cross_entropy.weigh(x, soft, **options)
    assert weighed.count == mask.any(-1).sum()
    np.testing.assert_allclose(weighed.weight, (weight * (soft @ class_weight))[:2].sum(), rtol=1e-14)
    target = np.zeros(shape)
    weighed = lf.mse_loss.weigh(target, target, sample_weight=soft, where=mask)
    assert weighed.count == mask.sum() and weighed.weight == math.fsum(soft[mask])
