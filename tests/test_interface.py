"""The rules of the public interface: what goes in, what comes out, and what is refused, in which words.

They are the same on every backend.
"""

import array
import copy
import inspect
import math
import pickle

import ml_dtypes
import numpy as np
import pytest

import lossfast as lf
from lossfast._loss import looped
from lossfast.selftest import fitting

REGISTRY = looped()

RANDOM = np.random.default_rng(11)
LOGITS = RANDOM.normal(size=(6, 4))
LABELS = np.array([0, 3, 1, 2, 2, 0])
SOFT = RANDOM.dirichlet(np.ones(4), size=6)
PRED, TARGET = RANDOM.normal(size=(6, 4)), RANDOM.random(size=(6, 4))

POINTWISE = [loss for loss in REGISTRY.values() if loss.kind == "pointwise"]
ROWWISE = [loss for loss in REGISTRY.values() if loss.kind == "rowwise"]
LOSSES = [pytest.param(loss, id=loss.name) for loss in POINTWISE + ROWWISE]
FUNCTIONS = [pytest.param(loss, id=loss.name) for loss in REGISTRY.values() if "function" in loss.kind]
OBJECTS = LOSSES + FUNCTIONS


@pytest.fixture(autouse=True)
def every(each_backend):
    with each_backend.chosen():
        yield


def operands(loss):
    """Arguments for any object."""
    if loss.kind in ("pointwise", "rowwise"):
        return fitting(loss, *((LOGITS, LABELS) if loss.labelled else (PRED, TARGET)))
    return fitting(loss, LOGITS)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-300)


# ------------------------------------------------------------------------------------------------------ objects


@pytest.mark.parametrize("loss", OBJECTS)
def test_objects_are_found_described_and_pickled_by_name(loss):
    assert loss.name in lf.losses() and lf.get_loss(loss.name) is loss and getattr(lf, loss.name) is loss
    assert loss.__name__ == loss.name and loss.name in lf.__all__
    assert repr(loss) == f"lossfast.{loss.name}" and len(loss.__doc__) > 100
    for copied in (pickle.loads(pickle.dumps(loss)), copy.copy(loss), copy.deepcopy(loss)):
        assert copied is loss
    assert pickle.loads(pickle.dumps(loss.vjp if "function" in loss.kind else loss.grad)).__self__ is loss


def test_unknown_losses_are_refused():
    with pytest.raises(ValueError, match="no loss 'hubris'; there are .*huber_loss"):
        lf.get_loss("hubris")


@pytest.mark.parametrize("loss", OBJECTS)
def test_signatures_show_the_real_keywords(loss):
    methods = ["__call__", "grad", "value_and_grad", "grad_and_hess", "hvp", "newton_step", "evaluate", "reduce", "vjp"]
    for name in methods:
        if not hasattr(loss, name):
            continue
        signature = inspect.signature(loss if name == "__call__" else getattr(loss, name))
        names = list(signature.parameters)
        assert not any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in signature.parameters.values())
        assert tuple(names[: len(loss.operands)]) == loss.operands
        for parameter, declared in loss.parameters.items():
            assert signature.parameters[parameter].default == declared.default
        assert ("reduction" in names) == (loss in POINTWISE + ROWWISE and name != "reduce")
        assert getattr(loss, name).__doc__


def test_signature_of_cross_entropy():
    assert str(inspect.signature(lf.cross_entropy.value_and_grad)) == (
        "(logits, targets, /, *, label_smoothing=0.0, temperature=1.0, z_loss=0.0, class_weight=None, "
        "sample_weight=None, ignore_index=-100, where=None, axis=-1, reduction='mean', denominator=None, empty='nan', "
        "check=True, n_threads=None, out=None, grad_out=None)"
    )


def test_bound_objects():
    bound = lf.huber_loss.bind(delta=0.5).bind(reduction="sum")
    assert repr(bound) == "lossfast.huber_loss.bind(delta=0.5, reduction='sum')"
    assert bound(PRED, TARGET) == lf.huber_loss(PRED, TARGET, delta=0.5, reduction="sum")
    assert bound(PRED, TARGET, delta=2.0) == lf.huber_loss(PRED, TARGET, delta=2.0, reduction="sum")
    assert inspect.signature(bound.grad).parameters["delta"].default == 0.5
    assert inspect.signature(lf.huber_loss.grad).parameters["delta"].default == 1.0
    for same in (pickle.loads(pickle.dumps(bound)), copy.deepcopy(bound)):
        assert repr(same) == repr(bound) and same(PRED, TARGET) == bound(PRED, TARGET)
    assert bound.reduce(PRED, TARGET).sum == bound(PRED, TARGET)
    weighted = pickle.loads(pickle.dumps(lf.cross_entropy.bind(class_weight=[1, 2, 3, 4])))
    assert weighted(LOGITS, LABELS) == lf.cross_entropy(LOGITS, LABELS, class_weight=[1, 2, 3, 4])
    with pytest.raises(ValueError, match="delta must be > 0, got -1"):
        lf.huber_loss.bind(delta=-1)
    with pytest.raises(TypeError, match="no option 'out'"):
        lf.huber_loss.bind(out=np.empty(3))


def test_absent_methods_are_absent():
    assert not hasattr(lf.nll_loss, "newton_step") and not hasattr(lf.softmax, "with_sign")
    with pytest.raises(AttributeError, match="lossfast.nll_loss has no attribute 'newton_step'"):
        _ = lf.nll_loss.newton_step


# --------------------------------------------------------------------------------------------------- reductions


@pytest.mark.parametrize("loss", LOSSES)
def test_reductions_of_value_and_gradient(loss):
    x, target = operands(loss)
    weight = RANDOM.random(len(x))
    each, grads = loss.value_and_grad(x, target, reduction="none", sample_weight=weight)
    total = math.fsum(each.ravel())
    size = weight.sum() * (x.shape[1] if loss.kind == "pointwise" else 1)
    for reduction, denominator in (("mean", size), ("sum", 1), ("batchmean", len(x))):
        value, grad = loss.value_and_grad(x, target, reduction=reduction, sample_weight=weight)
        assert type(value) is float and value == loss(x, target, reduction=reduction, sample_weight=weight)
        close(value, total / denominator)
        close(grad, grads / denominator)
        close(grad, loss.grad(x, target, reduction=reduction, sample_weight=weight))
    value, grad = loss.value_and_grad(x, target, denominator=32, sample_weight=weight)
    close(value, total / 32)
    close(grad, grads / 32)


def test_the_mean_divides_by_the_weights_of_the_targets_before_smoothing():
    w = np.array([1.0, 2.0, 3.0, 4.0])
    options = {"class_weight": w, "label_smoothing": 0.1}
    mean, total = (lf.cross_entropy(LOGITS, LABELS, reduction=r, **options) for r in ("mean", "sum"))
    close(mean, total / w[LABELS].sum())
    one_hot = np.eye(4)[LABELS]
    close(lf.cross_entropy(LOGITS, one_hot, **options), mean)
    mean, total = (lf.cross_entropy(LOGITS, SOFT, reduction=r, class_weight=w) for r in ("mean", "sum"))
    close(mean, total / (SOFT @ w).sum())
    mean, total = (lf.cross_entropy(LOGITS, 3 * SOFT, reduction=r) for r in ("mean", "sum"))
    close(mean, total / 6)  # without class weights a soft row counts 1


def test_ignored_rows():
    labels = np.where(LABELS == 2, -100, LABELS)
    kept = LABELS != 2
    value, grad = lf.cross_entropy.value_and_grad(LOGITS, labels)
    close(value, lf.cross_entropy(LOGITS[kept], LABELS[kept]))
    assert not grad[~kept].any()
    assert lf.cross_entropy(LOGITS, LABELS, ignore_index=2) == value
    assert lf.cross_entropy.reduce(LOGITS, labels).count == 4
    close(lf.cross_entropy(LOGITS, labels, reduction="batchmean"), value * 4 / 6)
    with pytest.raises(IndexError, match="target -100 at row 3 is out of bounds for 4 classes"):
        lf.cross_entropy(LOGITS, labels, ignore_index=None)


@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_to_take_the_mean_of(loss):
    x, target = operands(loss)
    for arguments, options in (
        ((np.full_like(x, np.nan), target), {"sample_weight": np.zeros(len(x))}),
        ((x[:0], target[:0]), {}),
        ((x, target), {"denominator": 0}),
    ):
        value, grad = loss.value_and_grad(*arguments, **options)
        assert math.isnan(value) and type(value) is float and not grad.any()
        assert loss(*arguments, empty="zero", **options) == 0
        buffer = np.full(arguments[0].shape, 7.0)
        with pytest.raises(ValueError, match="denominator is 0"):
            loss.grad(*arguments, empty="raise", out=buffer, **options)
        assert (buffer == 7).all()
        assert math.isnan(loss.reduce(*arguments, **options).mean)
    assert loss(x[:0], target[:0], reduction="sum", empty="raise") == 0
    assert loss(x[:0], target[:0], reduction="none").shape == (x[:0].shape if loss.kind == "pointwise" else (0,))


@pytest.mark.parametrize("loss", LOSSES)
def test_shards_merge_to_the_whole(loss):
    x, target = operands(loss)
    weight = RANDOM.random(len(x))
    whole = loss.reduce(x, target, sample_weight=weight)
    parts = [loss.reduce(x[rows], target[rows], sample_weight=weight[rows]) for rows in (slice(0, 1), slice(1, 6))]
    for merged in (sum(parts), parts[0].merge(parts[1]), parts[0] + pickle.loads(pickle.dumps(parts[1]))):
        close([merged.sum, merged.weight, merged.mean], [whole.sum, whole.weight, whole.mean])
        assert merged.count == whole.count == (x.size if loss.kind == "pointwise" else len(x))
    close(whole.mean, loss(x, target, sample_weight=weight))


def test_merging_keeps_what_a_double_loses():
    big, small = lf.l1_loss.reduce([2.0**60], [0.0]), lf.l1_loss.reduce([1.0], [0.0])
    total = sum([big, *[small] * 10, lf.l1_loss.reduce([2.0**60], [0.0], sample_weight=[-1.0])])
    assert (total.sum, total.count) == (10.0, 12)
    infinite = lf.l1_loss.reduce([np.inf], [0.0]) + small
    assert infinite.sum == infinite.mean == math.inf
    with pytest.raises(ValueError, match="different denominator"):
        small + lf.l1_loss.reduce([1.0], [0.0], denominator=8)
    halves = [lf.l1_loss.reduce([1.0], [0.0], denominator=8)] * 2
    assert sum(halves).mean == 0.25
    with pytest.raises(TypeError, match="unsupported operand"):
        small + 1.0


# --------------------------------------------------------------------------------------------- shapes and masks


@pytest.mark.parametrize("loss", [pytest.param(loss, id=loss.name) for loss in ROWWISE])
@pytest.mark.parametrize("axis", [0, 1, -2])
def test_any_class_axis(loss, axis):
    x, y = fitting(loss, *RANDOM.normal(size=(2, 2, 3, 4)))
    last = np.moveaxis(x, axis, -1)
    if not loss.labelled:
        grad = loss.grad(x, y, axis=axis)
        assert np.array_equal(grad, np.moveaxis(loss.grad(last, np.moveaxis(y, axis, -1)), -1, axis))
        return
    labels = RANDOM.integers(last.shape[-1], size=last.shape[:-1])
    where = RANDOM.random(x.shape) < 0.8
    for options in ({}, {"where": where}):
        moved = {name: np.moveaxis(mask, axis, -1) for name, mask in options.items()}
        value, grad = loss.value_and_grad(x, labels, axis=axis, **options)
        expected, expected_grad = loss.value_and_grad(np.ascontiguousarray(last), labels, **moved)
        assert value == expected or math.isinf(value)
        assert np.array_equal(grad, np.moveaxis(expected_grad, -1, axis), equal_nan=True)
    if "proba" in loss.outputs:
        soft = RANDOM.dirichlet(np.ones(last.shape[-1]), size=last.shape[:-1])
        grad = loss.grad(x, np.moveaxis(soft, -1, axis), axis=axis)
        assert np.array_equal(grad, np.moveaxis(loss.grad(last, soft), -1, axis))


def test_logsumexp_over_any_axes():
    x = RANDOM.normal(size=(2, 3, 4))
    b = RANDOM.normal(size=(3, 1))
    for axis in (-1, 0, (1,), (0, 2), (2, 0), (0, 1, 2), None):
        normal = tuple(range(3)) if axis is None else axis
        exact = np.log(np.exp(x).sum(axis=normal))
        close(lf.logsumexp(x, axis=axis), exact)
        kept = lf.logsumexp(x, axis=axis, keepdims=True)
        close(kept, np.log(np.exp(x).sum(axis=normal, keepdims=True)))
        out = np.empty_like(kept)
        assert lf.logsumexp(x, axis=axis, keepdims=True, out=out) is out and np.array_equal(out, kept)
        close(lf.logsumexp.grad(x, axis=axis), np.exp(x - kept))
        close(lf.logsumexp.vjp(x, kept, axis=axis), kept * np.exp(x - kept))
        close(lf.logsumexp.vjp(x, exact, axis=axis), kept * np.exp(x - kept))  # with or without keepdims
        close(lf.logsumexp.jvp(x, x, axis=axis), (x * np.exp(x - kept)).sum(axis=normal))
        value, sign = lf.logsumexp.with_sign(x, axis=axis, b=b)
        total = (b * np.exp(x)).sum(axis=normal)
        np.testing.assert_allclose(np.exp(value) * sign, total, rtol=1e-10)
        unsigned = lf.logsumexp(x, axis=axis, b=b)
        assert np.array_equal(np.isnan(unsigned), total < 0)
    assert lf.logsumexp(3.0, axis=None) == 3.0
    mask = np.array([True, False, True, True])
    close(lf.logsumexp(x, where=mask), lf.logsumexp(x[..., mask]))
    for axis in ((0, 0), (0, -3), 3, (0, 5)):
        with pytest.raises(ValueError, match="axis"):
            lf.logsumexp(x, axis=axis)


def test_masks_of_elements_and_classes():
    where = np.array([True, False, True, True])
    pred = np.where(where, PRED, np.nan)
    value, grad = lf.mse_loss.value_and_grad(pred, TARGET, where=where)
    close(value, lf.mse_loss(PRED[:, where], TARGET[:, where]))
    assert not grad[:, 1].any()
    labels = np.where(LABELS == 1, 0, LABELS)
    logits = np.where(where, LOGITS, np.nan)
    packed = np.array([0, -1, 1, 2])[labels]
    close(lf.cross_entropy(logits, labels, where=where), lf.cross_entropy(LOGITS[:, where], packed))
    options = {"label_smoothing": 0.3}
    close(
        lf.cross_entropy(logits, labels, where=where, **options),
        lf.cross_entropy(LOGITS[:, where], packed, **options),
    )
    assert not lf.softmax(logits, where=where)[:, 1].any()


def test_weights_of_pointwise_losses():
    rows = RANDOM.random(6)
    full = np.broadcast_to(rows[:, None], PRED.shape)
    assert lf.mse_loss(PRED, TARGET, sample_weight=rows) == lf.mse_loss(PRED, TARGET, sample_weight=full)
    bce = lf.binary_cross_entropy_with_logits
    assert bce(PRED, TARGET, pos_weight=3) == bce(PRED, TARGET, pos_weight=[3, 3, 3, 3])
    assert bce(PRED, 1.0, pos_weight=3, reduction="sum") == pytest.approx(3 * bce(PRED, 1.0, reduction="sum"))
    assert bce(PRED, 1.0, pos_weight=3) == pytest.approx(3 * bce(PRED, 1.0))  # no part of the denominator
    close(lf.mse_loss(PRED, 0.5), lf.mse_loss(PRED, np.full_like(PRED, 0.5)))
    v = np.where(rows[:, None] > 0.5, 2.0, np.nan) * np.ones_like(PRED)
    weight = np.where(rows > 0.5, rows, 0.0)
    product = lf.huber_loss.hvp(PRED, TARGET, v, sample_weight=weight)
    hess = lf.huber_loss.grad_and_hess(PRED, TARGET, sample_weight=weight)[1]
    close(product, np.where(hess != 0, 2 * hess, 0))


def test_rows_without_a_batch():
    value = lf.cross_entropy([1.0, 2.0, 3.0], 0)
    assert type(value) is float
    each = lf.cross_entropy([1.0, 2.0, 3.0], 0, reduction="none")
    assert type(each) is np.float64 and each == value
    assert type(lf.softmax(np.float32([1, 2]))) is np.ndarray and type(lf.sigmoid(1.0)) is np.float64
    out = np.empty(())
    assert lf.cross_entropy([1.0, 2.0, 3.0], 0, reduction="none", out=out) is out and out == value
    with pytest.raises(IndexError, match="^target 3 is out of bounds for 3 classes"):
        lf.cross_entropy([1.0, 2.0, 3.0], 3)


# -------------------------------------------------------------------------------------------------------- dtypes

HALVES = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", ["f8", "f4", ">f8", ">f4", "f2", ">f2", "bfloat16", "i4", ">u2", "?"])
def test_dtypes(loss, dtype):
    dtype = HALVES[1] if dtype == "bfloat16" else np.dtype(dtype)
    x, target = operands(loss)
    x = fitting(loss, x.astype(dtype))[0]
    if loss.kind == "pointwise":
        target = target.astype(np.float32)  # as it is where x is no wider
    each, grad = loss.value_and_grad(x, target, reduction="none")
    floating = dtype.kind == "f" or dtype in HALVES
    compute = np.float32 if dtype.itemsize <= 4 and floating else np.float64
    assert each.dtype == compute and each.dtype.isnative
    assert grad.dtype == (dtype.newbyteorder("=") if floating else np.float64) and grad.dtype.isnative
    wide = x.astype(np.float64)
    np.testing.assert_allclose(each, loss(wide, target, reduction="none"), rtol=1e-6)
    assert loss(x, target) == pytest.approx(loss(wide, target), rel=1e-6)
    buffer = np.empty(x.shape, np.float64)
    assert loss.grad(x, target, out=buffer) is buffer
    room = 1e-12 if getattr(loss, "terms", None) is None else 1e-8  # where terms cancel
    np.testing.assert_allclose(buffer, loss.grad(wide, target), rtol=2e-6, atol=room)


@pytest.mark.parametrize("dtype", [*"bBhHiIlLqQ?", ">i8", ">u4"])
def test_labels_of_any_integer_dtype(dtype):
    labels = (LABELS % 2).astype(dtype)
    assert lf.cross_entropy(LOGITS, labels) == lf.cross_entropy(LOGITS, LABELS % 2)


def test_lists_buffers_and_subclasses():
    expected = lf.cross_entropy([[1.0, 2.0]], [1])
    assert lf.cross_entropy([[1, 2]], array.array("B", [1])) == expected
    assert lf.cross_entropy(((True, 2.0),), memoryview(b"\1")) == expected
    record = np.rec.array(np.array([[1.0, 2.0]]))
    result = lf.softmax(record)
    assert type(result) is np.ndarray
    assert type(lf.cross_entropy.grad(np.float32([[1, 2]]), [np.int8(1)])) is np.ndarray


class OnDLPackAlone:
    """An array of another library that offers nothing but DLPack."""

    def __init__(self, values, device=(1, 0)):
        self.values, self.device = values, device

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.device


def test_other_arrays():
    expected = lf.cross_entropy(LOGITS, LABELS)
    assert lf.cross_entropy(OnDLPackAlone(LOGITS), OnDLPackAlone(LABELS)) == expected
    with pytest.raises(
        TypeError, match=r"logits \(.*OnDLPackAlone\) lives on a device \(DLPack device type 2, number 1"
    ):
        lf.cross_entropy(OnDLPackAlone(LOGITS, (2, 1)), LABELS)


def test_torch_tensors():
    torch = pytest.importorskip("torch")
    logits, labels = torch.from_numpy(LOGITS), torch.from_numpy(LABELS)
    assert lf.cross_entropy(logits, labels) == lf.cross_entropy(LOGITS, LABELS)
    assert lf.cross_entropy(logits.T.contiguous().T, labels) == lf.cross_entropy(LOGITS, LABELS)
    brief = LOGITS.astype(ml_dtypes.bfloat16)
    grad = lf.cross_entropy.grad(logits.bfloat16(), labels)
    assert grad.dtype == HALVES[1] and np.array_equal(grad, lf.cross_entropy.grad(brief, LABELS))
    for tensor in (logits.clone().requires_grad_(), logits.to("meta"), logits.to_sparse()):
        with pytest.raises(TypeError, match="logits"):
            lf.cross_entropy(tensor, labels)


# ------------------------------------------------------------------------------------------------------- buffers


@pytest.mark.parametrize("loss", LOSSES)
def test_the_buffer_given_is_the_object_returned(loss):
    x, target = operands(loss)
    each, grad = loss.value_and_grad(x, target, reduction="none")
    out, grad_out = np.empty(each.shape, np.float32), np.empty(x.shape, order="F")
    results = loss.value_and_grad(x, target, reduction="none", out=out, grad_out=grad_out)
    assert results[0] is out and results[1] is grad_out
    np.testing.assert_allclose(out, each, rtol=1e-6)
    assert np.array_equal(grad_out, grad)
    over = x.copy()
    assert loss.grad(over, target, out=over, reduction="none") is over and np.array_equal(over, grad)
    if "hess" in loss.outputs:
        hess_out = np.empty((2 * len(x), x.shape[1]))[::-2]
        results = loss.grad_and_hess(x, target, grad_out=grad_out, hess_out=hess_out)
        assert results[0] is grad_out and results[1] is hess_out
        assert np.array_equal(hess_out, loss.grad_and_hess(x, target)[1])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_take_buffers(function):
    [x] = operands(function)
    expected = function(x)
    out = np.empty(expected.shape, np.float32)
    assert function(x, out=out) is out
    np.testing.assert_allclose(out, expected, rtol=1e-6)
    v = np.ones(expected.shape)
    assert function.vjp(x, v, out=(out := np.empty(x.shape))) is out
    assert np.array_equal(out, function.vjp(x, v))
    with pytest.raises(ValueError, match=f"out overlaps {function.operands[0]}"):
        function.vjp(x, v, out=x[::-1])
    with pytest.raises(ValueError, match="v has shape"):
        function.vjp(x, np.ones(7))


def read_only():
    values = np.empty((6, 4))
    values.flags.writeable = False
    return values


SHARED = np.zeros((6, 8))
BAD_BUFFERS = [
    (lambda x: {"out": np.empty((6, 3))}, ValueError, r"out has shape \(6, 3\), but its result has shape \(6, 4\)"),
    (lambda x: {"out": np.empty((6, 4), int)}, TypeError, "out has dtype int64, but must be of a floating dtype"),
    (lambda x: {"out": np.empty((6, 4), complex)}, TypeError, "out has dtype complex128"),
    (lambda x: {"out": np.empty((6, 4), np.longdouble)}, TypeError, "out has dtype"),
    (lambda x: {"out": [[0.0] * 4] * 6}, TypeError, "out must be a NumPy array, got builtins.list"),
    (lambda x: {"out": np.ma.zeros((6, 4))}, TypeError, "out must be a NumPy array"),
    (lambda x: {"out": read_only()}, ValueError, "out is read-only"),
    (lambda x: {"out": x[::-1]}, ValueError, "out overlaps .* in memory; it may be .* itself"),
    (lambda x: {"out": x[:, ::-1]}, ValueError, "out overlaps"),
    (
        lambda x: {"out": np.lib.stride_tricks.as_strided(np.zeros(30), (6, 4), (16, 8))},
        ValueError,
        "out overlaps itself",
    ),
]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("make", "error", "message"), BAD_BUFFERS)
def test_bad_buffers_are_refused_and_nothing_is_written(loss, make, error, message):
    x, target = operands(loss)
    x = x.copy()
    before = x.copy()
    with pytest.raises(error, match=message):
        loss.grad(x, target, **make(x))
    assert np.array_equal(x, before)


def test_overlaps_among_buffers_and_operands():
    ce = lf.cross_entropy
    buffer = np.zeros((6, 8))
    with pytest.raises(ValueError, match="hess_out overlaps grad_out"):
        ce.grad_and_hess(LOGITS, LABELS, grad_out=buffer[:, :4], hess_out=buffer[:, 2:6])
    ce.grad_and_hess(LOGITS, LABELS, grad_out=buffer[:, ::2], hess_out=buffer[:, 1::2])  # interleaved, but apart
    x = LOGITS.copy()
    with pytest.raises(ValueError, match="hess_out overlaps logits"):
        ce.grad_and_hess(x, LABELS, hess_out=x)
    soft = SOFT.copy()
    with pytest.raises(ValueError, match="out overlaps targets"):
        ce.grad(LOGITS, soft, out=soft)
    weight = np.ones(6)
    with pytest.raises(ValueError, match="out overlaps sample_weight"):
        ce(LOGITS, LABELS, sample_weight=weight, out=weight, reduction="none")
    with pytest.raises(ValueError, match="out overlaps x"):
        lf.softmax(x, out=x)
    with pytest.raises(TypeError, match="needs reduction='none'"):
        ce(LOGITS, LABELS, out=np.empty(6))


# ------------------------------------------------------------------------------------------------------ evaluate


def test_evaluate_gives_what_is_wanted():
    ce = lf.cross_entropy
    result = ce.evaluate(LOGITS, LABELS, want=("pred", "loss", "grad"))
    assert result._fields == ("pred", "loss", "grad") and type(result.loss) is float
    assert result.loss == ce(LOGITS, LABELS) and np.array_equal(result.grad, ce.grad(LOGITS, LABELS))
    restored = pickle.loads(pickle.dumps(result))
    assert type(restored) is type(result) and restored.loss == result.loss
    every = ce.evaluate(LOGITS, LABELS, reduction="none", sample_weight=np.full(6, 2.0))
    assert np.array_equal(every.pred, LOGITS.argmax(-1)) and every.pred.dtype == np.intp
    assert np.array_equal(every.correct, LOGITS.argmax(-1) == LABELS) and every.correct.dtype == bool
    truth = LOGITS[np.arange(6), LABELS]
    assert np.array_equal(every.rank, (LOGITS > truth[:, None]).sum(-1))
    others = np.where(np.arange(4) == LABELS[:, None], -np.inf, LOGITS).max(-1)
    close(every.margin, truth - others)
    close(every.proba, lf.softmax(LOGITS))
    close(every.log_proba, lf.log_softmax(LOGITS))
    close(every.lse, lf.logsumexp(LOGITS))
    close(every.entropy, -(every.proba * every.log_proba).sum(-1))
    close(every.loss, -2 * every.log_proba[np.arange(6), LABELS])
    close(every.grad_target, -2 * every.log_proba)
    for reduction in ("mean", "sum"):
        step = 1e-6
        low, high = (ce(LOGITS, LABELS, temperature=1 + s, reduction=reduction) for s in (-step, step))
        result = ce.evaluate(LOGITS, LABELS, want=("grad_temperature",), reduction=reduction)
        assert type(result.grad_temperature) is float
        assert result.grad_temperature == pytest.approx((high - low) / (2 * step), rel=1e-8)
    assert lf.mse_loss.evaluate(PRED, TARGET)._fields == ("loss", "grad", "hess")


def test_evaluate_buffers_and_errors():
    ce = lf.cross_entropy
    buffers = {"out": np.empty(6), "grad_out": np.empty((6, 4)), "pred_out": np.empty(6, int)}
    result = ce.evaluate(LOGITS, LABELS, want=("loss", "grad", "pred"), reduction="none", **buffers)
    assert result.loss is buffers["out"] and result.grad is buffers["grad_out"] and result.pred is buffers["pred_out"]
    with pytest.raises(ValueError, match="can evaluate loss, grad, .*; got 'losss'"):
        ce.evaluate(LOGITS, LABELS, want=("losss",))
    with pytest.raises(TypeError, match="a buffer for 'hess' is given, which is not wanted"):
        ce.evaluate(LOGITS, LABELS, want=("loss",), hess_out=np.empty((6, 4)))
    with pytest.raises(TypeError, match="pred_out has dtype float64, but its result is of dtype int64"):
        ce.evaluate(LOGITS, LABELS, want=("pred",), pred_out=np.empty(6)[:])
    empty = ce.evaluate(LOGITS, np.full(6, -100), want=("loss", "grad", "lse", "grad_temperature"), empty="zero")
    assert empty.loss == empty.grad_temperature == 0 and not empty.grad.any()
    close(empty.lse, lf.logsumexp(LOGITS))


def test_second_order():
    ce, v = lf.cross_entropy, RANDOM.normal(size=(6, 4))
    step = 1e-5
    high, low = (ce.grad(LOGITS + s * v, LABELS) for s in (step, -step))
    np.testing.assert_allclose(ce.hvp(LOGITS, LABELS, v), (high - low) / (2 * step), rtol=1e-6, atol=1e-10)
    move = ce.newton_step(LOGITS, LABELS, ridge=0.1)
    np.testing.assert_allclose(-ce.hvp(LOGITS, LABELS, move) - 0.1 * move, ce.grad(LOGITS, LABELS), rtol=1e-9)
    with pytest.raises(ValueError, match="ridge must be finite and >= 0, got -1"):
        ce.newton_step(LOGITS, LABELS, ridge=-1)
    with pytest.raises(ValueError, match=r"v has shape \(6,\)"):
        ce.hvp(LOGITS, LABELS, np.ones(6))


# -------------------------------------------------------------------------------------------------------- errors

CE, KL = "cross_entropy", "kl_div_from_logits"
REFUSED = [
    (CE, (None, LABELS), {}, TypeError, "logits is None"),
    (CE, (LOGITS, None), {}, TypeError, "targets is None"),
    (CE, ([[1, None]], [0]), {}, TypeError, "logits has dtype object"),
    (CE, (LOGITS + 0j, LABELS), {}, TypeError, "logits has dtype complex128.*no order"),
    (CE, (LOGITS.astype("M8[s]"), LABELS), {}, TypeError, "logits has dtype datetime64.*dates are not numbers"),
    (CE, (LOGITS.astype("m8[s]"), LABELS), {}, TypeError, "logits has dtype timedelta64"),
    (CE, ([["a"]], [0]), {}, TypeError, "logits has dtype <U1"),
    (CE, (LOGITS.astype(np.longdouble), LABELS), {}, TypeError, "convert it to float64"),
    (CE, (LOGITS.astype(ml_dtypes.float8_e4m3fn), LABELS), {}, TypeError, "float8"),
    (CE, (np.ma.array(LOGITS), LABELS), {}, TypeError, "logits is a masked array"),
    (CE, (LOGITS, np.ma.array(LABELS)), {}, TypeError, "targets is a masked array"),
    (CE, (LOGITS.view(np.matrix), LABELS), {}, TypeError, "np.matrix"),
    (CE, ([[1, 2], [3]], [0, 0]), {}, ValueError, "logits cannot be read as an array.*inhomogeneous"),
    (CE, (LOGITS, LABELS[:5]), {}, ValueError, r"\(5,\).*\(6, 4\).*\(6,\)"),
    (CE, (LOGITS, LABELS.astype(float)), {}, TypeError, "must be of an integer dtype, got float64"),
    (CE, (LOGITS, SOFT[:, :3]), {}, ValueError, r"\(6, 3\).*\(6, 4\)"),
    (CE, (LOGITS, SOFT.astype(int)), {}, ValueError, "soft labels must be floating"),
    ("nll_loss", (LOGITS, SOFT), {}, TypeError, "nll_loss takes integer labels"),
    (CE, (LOGITS[:, :0], LABELS), {}, ValueError, r"logits of shape \(6, 0\) have no classes"),
    (CE, (1.0, 0), {}, ValueError, r"axis -1 is out of range for logits of shape \(\)"),
    (CE, (LOGITS, LABELS), {"axis": 2}, ValueError, r"axis 2 is out of range for logits of shape \(6, 4\)"),
    (CE, (LOGITS, LABELS), {"axis": 1.0}, TypeError, "axis must be an integer, got 1.0"),
    (CE, (LOGITS, LABELS), {"class_weight": [1, 2]}, ValueError, r"class_weight has shape \(2,\)"),
    (CE, (LOGITS, LABELS), {"sample_weight": np.ones((6, 4))}, ValueError, r"sample_weight has shape \(6, 4\)"),
    (CE, (LOGITS, LABELS), {"where": np.ones(4)}, TypeError, "where must be a mask of dtype bool, got float64"),
    (CE, (LOGITS, LABELS), {"where": np.ones(3, bool)}, ValueError, r"where has shape \(3,\).*\(6, 4\)"),
    (CE, (LOGITS, LABELS), {"temperature": 0}, ValueError, "temperature must be finite and > 0, got 0"),
    (CE, (LOGITS, LABELS), {"temperature": "hot"}, TypeError, "temperature must be a number .*got 'hot'"),
    (CE, (LOGITS, LABELS), {"label_smoothing": 1.5}, ValueError, r"label_smoothing must be in \[0, 1\], got 1.5"),
    (CE, (LOGITS, LABELS), {"label_smoothing": math.nan}, ValueError, "got nan"),
    (CE, (LOGITS, LABELS), {"reduction": "average"}, ValueError, "reduction must be one of .*got 'average'"),
    (CE, (LOGITS, LABELS), {"reduction": None}, ValueError, "got None"),
    (CE, (LOGITS, LABELS), {"empty": 0}, ValueError, "empty must be one of 'nan', 'zero', 'raise', got 0"),
    (CE, (LOGITS, LABELS), {"check": "all"}, ValueError, "check must be True, False or 'distribution', got 'all'"),
    (CE, (LOGITS, LABELS), {"ignore_index": 0.5}, TypeError, "ignore_index must be an integer, got 0.5"),
    (CE, (LOGITS, LABELS), {"n_threads": "all"}, TypeError, "n_threads must be an integer or None, got 'all'"),
    (CE, (LOGITS, LABELS), {"denominator": math.inf}, ValueError, "denominator must be finite, got inf"),
    (CE, (LOGITS, LABELS), {"denominator": 2, "reduction": "sum"}, ValueError, "belongs to reduction='mean'"),
    (CE, (LOGITS, LABELS), {"weight": [1]}, TypeError, "no option 'weight'; its options are .*class_weight"),
    (CE, (LOGITS, SOFT * 2), {"check": "distribution"}, ValueError, "row 0 are not a distribution: .* sums to 2"),
    (CE, (LOGITS, SOFT - np.eye(6, 4)), {"check": "distribution"}, ValueError, "not a distribution: the row holds -"),
    (KL, (LOGITS, LABELS), {}, TypeError, r"two arrays of logits: z_q must be floating, of z_p's shape \(6, 4\)"),
    (KL, (LOGITS, LABELS[:, None] == np.arange(4)), {}, TypeError, "two arrays of logits.*got bool"),
    (KL, (LOGITS, LOGITS[:5]), {}, ValueError, r"z_q has shape \(5, 4\) and z_p shape \(6, 4\)"),
    (KL, (LOGITS, LOGITS[:, 0]), {}, ValueError, r"z_q has shape \(6,\) and z_p shape \(6, 4\)"),
    (KL, (None, LOGITS), {}, TypeError, "z_p is None"),
    (KL, (LOGITS, None), {}, TypeError, "z_q is None"),
    (KL, (LOGITS[:, :0], LOGITS[:, :0]), {}, ValueError, r"z_p of shape \(6, 0\) have no classes"),
    (KL, (LOGITS, LOGITS), {"axis": 2}, ValueError, r"axis 2 is out of range for z_p of shape \(6, 4\)"),
    (KL, (LOGITS, LOGITS), {"temperature": -1}, ValueError, "temperature must be finite and > 0, got -1"),
    (KL, (LOGITS, LOGITS), {"class_weight": np.ones(4)}, TypeError, "no option 'class_weight'"),
    (KL, (LOGITS, LOGITS), {"ignore_index": 0}, TypeError, "no option 'ignore_index'"),
    ("huber_loss", (PRED, TARGET), {"delta": 0}, ValueError, "delta must be > 0, got 0"),
    ("huber_loss", (PRED, TARGET), {"delta": math.nan}, ValueError, "got nan"),
    ("smooth_l1_loss", (PRED, TARGET), {"beta": -0.5}, ValueError, "beta must be >= 0, got -0.5"),
    ("mse_loss", (PRED, TARGET[0]), {}, ValueError, r"target has shape \(4,\) and pred shape \(6, 4\)"),
    ("mse_loss", (PRED, TARGET), {"sample_weight": [1, 2]}, ValueError, r"sample_weight has shape \(2,\)"),
    ("mse_loss", (PRED, TARGET), {"sample_weight": 2.0}, ValueError, r"sample_weight has shape \(\)"),
    ("binary_cross_entropy_with_logits", (PRED, TARGET), {"pos_weight": [1, 2]}, ValueError, r"pos_weight.*\(2,\)"),
]


@pytest.mark.parametrize(("name", "arguments", "options", "error", "message"), REFUSED)
def test_what_is_refused(name, arguments, options, error, message):
    with pytest.raises(error, match=message):
        lf.get_loss(name)(*arguments, **options)


@pytest.mark.parametrize("loss", [pytest.param(loss, id=loss.name) for loss in ROWWISE if loss.labelled])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 3, 4, 1, 9, 2]), "target 4 at row 2 is out of bounds for 4 classes (2 such rows)"),
        (np.array([0, 3, -1, 1, 0, 2]), "target -1 at row 2 is out of bounds for 4 classes (1 such row)"),
        (
            np.array([0, 3, 1, 1, 0, 2**63 + 5], np.uint64),
            "target 9223372036854775813 at row 5 is out of bounds for 4 classes (1 such row)",
        ),
        (np.array([0, 3, 1, 99, 0, 2], ">i2"), "target 99 at row 3 is out of bounds for 4 classes (1 such row)"),
    ],
)
def test_labels_out_of_range(loss, labels, message):
    [x] = fitting(loss, LOGITS)
    for reduction in ("mean", "sum", "none", "batchmean"):
        buffer = np.full(LOGITS.shape, 7.0)
        with pytest.raises(IndexError) as caught:
            loss.grad(x, labels, out=buffer, reduction=reduction)
        assert str(caught.value) == message and (buffer == 7).all()
    with pytest.raises(IndexError):
        loss.reduce(x, labels)
    value, grad = loss.value_and_grad(x, labels, check=False, reduction="none")
    bad = (labels < 0) | (labels >= 4)
    assert np.isnan(value[bad]).all() and np.isnan(grad[bad]).all() and np.isfinite(value[~bad]).all()


def test_labels_out_of_range_over_several_axes():
    labels = np.zeros((2, 3), int)
    labels[1, 2] = 5
    with pytest.raises(IndexError, match=r"target 5 at row \(1, 2\) is out of bounds for 4 classes"):
        lf.cross_entropy(LOGITS.reshape(2, 3, 4), labels)


def test_distributions_pass_the_check():
    for soft in (SOFT, SOFT.astype(np.float32), SOFT.astype(np.float16), SOFT.astype(ml_dtypes.bfloat16)):
        lf.cross_entropy(LOGITS, soft, check="distribution")
        with pytest.raises(ValueError, match="row 2 are not a distribution: the row holds -"):
            lf.cross_entropy(LOGITS, soft - np.eye(6, 4, -2, soft.dtype), check="distribution")
    mask = np.array([True, True, False, True])
    masked = np.where(mask, SOFT, 0)
    masked /= masked.sum(-1, keepdims=True)
    lf.cross_entropy(LOGITS, np.where(mask, masked, -7), check="distribution", where=mask)
    with pytest.raises(ValueError, match="row 4 are not a distribution: the row sums to nan"):
        lf.cross_entropy(LOGITS, np.where(np.arange(6)[:, None] == 4, np.nan, SOFT), check="distribution")
