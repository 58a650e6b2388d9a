"""Sparse targets: the numbers of the dense soft labels that they stand for, without their memory."""

import pickle
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse
from variants import VARIANTS

import lossfast as lf


def takes_sparse(loss):
    return loss.soft if loss.labelled else "probabilities" in getattr(loss, "takes", ())[1:]


SOFT = [loss for loss in map(lf.get_loss, lf.losses()) if loss.kind == "rowwise" and takes_sparse(loss)]
each_soft = pytest.mark.parametrize("loss", SOFT, ids=lambda loss: loss.name)
each_dtype = pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])


def example(rows=9, classes=7, dtype=np.float64, seed=0):
    """Logits, sure ones too, and targets of a few classes each: one-hot, empty, whole and unnormalised rows."""
    random = np.random.default_rng(seed)
    logits = (random.normal(size=(rows, classes)) * np.linspace(0.5, 20, rows)[:, None]).astype(dtype)
    dense = np.where(random.random((rows, classes)) < min(0.4, 40 / classes), random.random((rows, classes)), 0)
    dense[0] = 0
    dense[0, 2] = 1
    dense[1] = 0
    dense[2] = random.random(classes)
    return logits, dense.astype(dtype)


def as_it_takes(loss, logits):
    """Logits, or what a loss takes in their place."""
    first = next(iter(getattr(loss, "takes", ())), "logits")
    return {"probabilities": lf.softmax, "log-probabilities": lf.log_softmax}.get(first, np.array)(logits)


OPTIONS = {
    "plain": {},
    "class_weight": {"class_weight": True},
    "sample_weight": {"sample_weight": True},
    "both": {"class_weight": True, "sample_weight": True},
    "where": {"where": True},
    "where, weighted": {"where": True, "class_weight": True},
    "label_smoothing": {"label_smoothing": 0.1, "class_weight": True},
    "temperature": {"temperature": 1.7},
    "z_loss": {"z_loss": 0.1},
    "batchmean": {"reduction": "batchmean"},
    "none": {"reduction": "none"},
    "sum": {"reduction": "sum", "denominator": None},
    "denominator": {"denominator": 3.5},
}


def given(loss, options, rows, classes):
    random = np.random.default_rng(4)
    values = {
        "class_weight": random.random(classes) + 0.5,
        "sample_weight": np.where(np.arange(rows) == 3, 0, random.random(rows)),
        "where": random.random((rows, classes)) < 0.8,
    }
    made = {name: values[name] if value is True else value for name, value in options.items()}
    if not set(made) <= {*loss.parameters, *loss.shared}:
        pytest.skip(f"{loss.name} has no such option")
    return made


def same(a, b):
    for name, ours, theirs in zip(a._fields, a, b, strict=True):
        np.testing.assert_array_equal(ours, theirs, name)
        assert type(ours) is type(theirs)


@each_dtype
@each_soft
@pytest.mark.parametrize("name", OPTIONS)
def test_same_bits_as_dense(variant, loss, dtype, name):
    with variant.chosen():
        for classes in (3, 7, 300):
            logits, dense = example(classes=classes, dtype=dtype)
            logits = as_it_takes(loss, logits)
            options = given(loss, OPTIONS[name], *logits.shape)
            rows = sparse.csr_array(dense.astype(np.float64))
            same(loss.evaluate(logits, rows, **options), loss.evaluate(logits, dense, **options))
            for method in ("value_and_grad", "grad_and_hess"):
                if hasattr(loss, method):
                    ours, theirs = (getattr(loss, method)(logits, t, **options) for t in (rows, dense))
                    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(ours, theirs, strict=True))
            options.pop("reduction", None)
            assert repr(loss.reduce(logits, rows, **options)) == repr(loss.reduce(logits, dense, **options))
            if not {"where", "class_weight"} & set(options):  # what was NaN then is not compared
                assert loss.weigh(logits, rows, **options).weight == loss.weigh(logits, dense, **options).weight


@pytest.mark.parametrize("classes", [5, 300, 40_000])
@each_dtype
def test_top_k_is_its_dense_equivalent(variant, dtype, classes):
    random = np.random.default_rng(classes)
    logits = (random.normal(size=(6, classes)) * 4).astype(dtype)
    indices = np.array([random.permutation(classes)[:3] for _ in range(6)], np.int32)
    probs = random.dirichlet(np.ones(4), 6)[:, :3].astype(dtype)
    weight = random.random(classes)
    with variant.chosen():
        for rest in ("uniform", "drop"):
            teacher = lf.TopK(indices, probs, rest=rest)
            dense = teacher.dense(classes)
            assert np.array_equal(np.take_along_axis(dense, indices.astype(int), -1), probs.astype(np.float64))
            np.testing.assert_allclose(
                dense.sum(-1), 1 if rest == "uniform" else probs.astype(np.float64).sum(-1), 1e-12
            )
            for options in (
                {},
                {"class_weight": weight, "label_smoothing": 0.1},
                {"reduction": "none", "z_loss": 0.01},
            ):
                ours, theirs = (lf.cross_entropy.evaluate(logits, t, **options) for t in (teacher, dense))
                same(ours, theirs)


def test_the_rest_goes_to_classes_that_are_not_masked(variant):
    logits, where = np.arange(12.0).reshape(2, 6) % 5, np.array([[1, 1, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1]], bool)
    teacher = lf.TopK([[0, 3], [5, 1]], [[0.4, 0.2], [0.5, 0.1]])
    dense = np.array([[0.4, 0.4 / 3, 0.4 / 3, 0.2, 0.4 / 3, 0], [0.1, 0.1, 0.1, 0.1, 0.1, 0.5]])
    dense[1] = [0.1, 0.1, 0.1, 0.1, 0.1, 0.5]
    weight = np.arange(1.0, 7)
    dense[0, 3] = teacher.probs[0, 1]
    logits[0, 3] = 0
    with variant.chosen():
        for options in ({}, {"class_weight": weight}, {"sample_weight": np.array([2.0, 0.5])}):
            ours = lf.cross_entropy.evaluate(logits, teacher, where=where, reduction="none", **options)
            theirs = lf.cross_entropy.evaluate(logits, dense, where=where, reduction="none", **options)
            np.testing.assert_allclose(ours.grad, theirs.grad, rtol=1e-14, atol=1e-16)
            assert ours.loss[0] == np.inf == theirs.loss[0]  # a class that is masked and named
            assert ours.loss[1] == pytest.approx(theirs.loss[1], rel=1e-14)
            total = lf.cross_entropy.weigh(logits, teacher, where=where, **options)
            assert total.weight == pytest.approx(lf.cross_entropy.weigh(logits, dense, where=where, **options).weight)


@pytest.mark.parametrize(
    "form", ["csr_array", "csr_matrix", "csc_array", "coo_array", "csc_matrix", "lil_array", "bsr_array"]
)
def test_any_format(form):
    logits, dense = example(8, 6)
    expected = lf.cross_entropy.value_and_grad(logits, dense)
    value, grad = lf.cross_entropy.value_and_grad(logits, getattr(sparse, form)(dense))
    assert value == expected[0] and np.array_equal(grad, expected[1])


@pytest.mark.parametrize("dtype", ["f4", "f8", "i1", "i8", "?", ">f8"])
@pytest.mark.parametrize("index", ["i4", "i8"])
def test_any_dtype_and_what_only_looks_like_a_matrix(dtype, index):
    dense = (np.arange(12).reshape(3, 4) % 3).astype(dtype)
    rows = sparse.csr_array(dense.astype(np.dtype(dtype).newbyteorder("=")))
    logits = np.arange(12.0).reshape(3, 4) % 5
    plain = SimpleNamespace(
        indptr=rows.indptr.astype(index),
        indices=rows.indices.astype(index),
        data=rows.data.astype(dtype),
        shape=rows.shape,
    )
    expected = lf.cross_entropy(logits, dense.astype(float))
    assert lf.cross_entropy(logits, rows) == lf.cross_entropy(logits, plain) == expected


def test_unsorted_and_repeated_entries_are_summed_and_the_caller_keeps_them():
    rows = sparse.csr_array(([0.25, 0.5, 0.25, 1.0], [2, 0, 2, 1], [0, 3, 4]), shape=(2, 3))
    before = rows.indices.copy(), rows.data.copy()
    logits = [[1.0, 2.0, 0.0], [0.0, 3.0, 1.0]]
    assert lf.cross_entropy(logits, rows) == lf.cross_entropy(logits, [[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])
    assert np.array_equal(rows.indices, before[0]) and np.array_equal(rows.data, before[1])
    plain = SimpleNamespace(indptr=rows.indptr, indices=rows.indices, data=rows.data, shape=rows.shape)
    with pytest.raises(ValueError, match="must have the classes of a row ascending, and each once"):
        lf.cross_entropy(logits, plain)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_row_for_each_row_of_logits_whatever_the_axis(variant, axis):
    logits, dense = example(12, 5)
    rows = sparse.csr_array(dense)
    logits, dense = (np.moveaxis(a.reshape(3, 4, 5), -1, axis) for a in (logits, dense))
    with variant.chosen():
        same(lf.cross_entropy.evaluate(logits, rows, axis=axis), lf.cross_entropy.evaluate(logits, dense, axis=axis))
        shaped = lf.TopK(np.tile([0, 3], (3, 4, 1)), np.full((3, 4, 2), 0.25))
        got = lf.cross_entropy(logits, shaped, axis=axis)
        assert got == lf.cross_entropy(logits, np.moveaxis(shaped.dense(5), -1, axis), axis=axis)


def test_one_row_and_none():
    assert lf.cross_entropy([2.0, 0.0], sparse.csr_array([[0.5, 0.5]])) == lf.cross_entropy([2.0, 0.0], [0.5, 0.5])
    assert lf.cross_entropy([2.0, 0.0], lf.TopK([0], [0.75])) == lf.cross_entropy([2.0, 0.0], [0.75, 0.25])
    assert np.isnan(lf.cross_entropy(np.zeros((0, 3)), sparse.csr_array((0, 3))))
    none = lf.TopK(np.zeros((2, 0), int), np.zeros((2, 0)))
    assert lf.cross_entropy(np.zeros((2, 4)), none) == lf.cross_entropy(np.zeros((2, 4)), np.full((2, 4), 0.25))
    every = lf.TopK([[1, 0]], [[0.4, 0.4]])  # no class is left over
    assert lf.cross_entropy([[1.0, 2.0]], every) == lf.cross_entropy([[1.0, 2.0]], [[0.4, 0.4]])
    over = lf.TopK([[1, 0]], [[0.7, 0.4]])
    assert np.array_equal(over.dense(3), [[0.4, 0.7, 0.0]])


def test_confident_rows_keep_their_digits(variant):
    logits = np.array([[60.0, 0.0, 1.0]], np.float32)
    with variant.chosen():
        value, grad = lf.cross_entropy.value_and_grad(logits, sparse.csr_array([[1.0, 0.0, 0.0]]))
        expected = lf.cross_entropy.value_and_grad(logits, [0])
    assert value == expected[0] > 0
    assert np.array_equal(grad, expected[1])


def test_gradients_go_to_the_callers_buffer_and_over_the_logits(variant):
    logits, dense = example(9, 300, np.float32)
    rows = sparse.csr_array(dense)
    with variant.chosen():
        expected = lf.cross_entropy.grad(logits, dense)
        out = np.empty(logits.shape, np.float64)
        assert lf.cross_entropy.grad(logits, rows, out=out) is out
        np.testing.assert_allclose(out, expected, rtol=3e-7, atol=1e-10)
        own = logits.copy()
        assert lf.cross_entropy.grad(own, rows, out=own) is own
        assert np.array_equal(own, expected)


def test_no_bit_depends_on_threads(variant):
    logits, dense = example(600, 900)
    rows = sparse.csr_array(dense)
    with variant.chosen():
        one, four = (lf.cross_entropy.value_and_grad(logits, rows, n_threads=n) for n in (1, 4))
    assert one[0] == four[0] and np.array_equal(one[1], four[1])


# ------------------------------------------------------------------------------------------------------- refusals

ROWS = sparse.csr_array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])


def broken(**parts):
    whole = {name: getattr(ROWS, name) for name in ("indptr", "indices", "data", "shape")}
    return SimpleNamespace(**(whole | parts))


REFUSED = {
    "another shape": (
        ROWS[:1],
        ValueError,
        r"sparse, of shape \(1, 3\), but logits with 2 rows of 3 classes need shape",
    ),
    "a class out of bounds": (
        broken(indices=np.array([0, 3, -1])),
        IndexError,
        r"class 3 at row 0 is out of bounds for 3 classes \(2 such entries\)",
    ),
    "rows that overlap": (broken(indptr=np.array([0, 3, 2])), ValueError, "indptr must begin with 0, not descend"),
    "rows beyond the entries": (broken(indptr=np.array([0, 2, 9])), ValueError, "end within the 3 entries"),
    "too few rows": (broken(indptr=np.array([0, 3])), ValueError, "is no CSR matrix of 2 rows|are no|no CSR"),
    "floating indices": (broken(indices=np.array([0.0, 1.0, 2.0])), TypeError, "indices must be of an integer dtype"),
    "complex data": (broken(data=np.array([1j, 0, 0])), TypeError, "complex128, which is not supported"),
    "another top-k shape": (lf.TopK([[0]], [[1.0]]), ValueError, r"indices have shape \(1, 1\).*need \(2, 'K'\)"),
    "a top class out of bounds": (
        lf.TopK([[0, 1], [2, 3]], np.full((2, 2), 0.5)),
        IndexError,
        r"class 3 at row 1 is out of bounds for 3 classes \(1 such entry\)",
    ),
    "a class named twice": (lf.TopK([[0, 1], [2, 2]], np.full((2, 2), 0.5)), ValueError, "name class 2 twice in row 1"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("check", [True, False])
def test_refusals_before_anything_is_written(name, check):
    targets, error, message = REFUSED[name]
    out = np.full((2, 3), 7.0)
    with pytest.raises(error, match=message):
        lf.cross_entropy.grad(np.zeros((2, 3)), targets, out=out, check=check)
    assert np.all(out == 7)


def test_what_takes_no_sparse_targets_says_so():
    with pytest.raises(TypeError, match="nll_loss takes integer labels, one a row, got sparse ones"):
        lf.nll_loss(np.zeros((2, 3)), ROWS)
    with pytest.raises(TypeError, match="kl_div_from_logits compares with numbers that are not mostly 0: z_q must be"):
        lf.kl_div_from_logits(np.zeros((2, 3)), ROWS)
    with pytest.raises(TypeError, match="target"):
        lf.mse_loss(np.zeros((2, 3)), ROWS)


@pytest.mark.skipif("kl_div" not in lf.losses(), reason="it is not there")
def test_divergence_from_a_sparse_teacher(variant):
    logits, dense = example(6, 400)
    log_q, rows = lf.log_softmax(logits), sparse.csr_array(dense)
    teacher = lf.TopK(np.tile([5, 2], (6, 1)), np.full((6, 2), 0.4))
    with variant.chosen():
        assert lf.kl_div(log_q, rows) == lf.kl_div(log_q, dense)
        assert np.array_equal(lf.kl_div.grad(log_q, teacher), lf.kl_div.grad(log_q, teacher.dense(400)))
    with pytest.raises(ValueError, match="log_target must be False"):
        lf.kl_div(log_q, rows, log_target=True)


def test_constructor_checks():
    with pytest.raises(TypeError, match="indices must be of an integer dtype, got float64"):
        lf.TopK([[0.0]], [[1.0]])
    with pytest.raises(TypeError, match="probs must be floating, got int64"):
        lf.TopK([[0]], [[1]])
    with pytest.raises(ValueError, match=r"indices have shape \(1, 1\) and probs shape \(1, 2\)"):
        lf.TopK([[0]], [[1.0, 2.0]])
    with pytest.raises(ValueError, match="rest must be one of 'uniform', 'drop', got 'keep'"):
        lf.TopK([[0]], [[1.0]], rest="keep")
    again = pickle.loads(pickle.dumps(lf.TopK([[0]], [[1.0]], rest="drop")))
    assert (
        again.rest == "drop" and repr(again) == "lossfast.TopK(indices of shape (1, 1), probs of float64, rest='drop')"
    )


def test_distributions_are_checked_if_asked():
    logits = np.zeros((2, 3))
    for targets in (ROWS, lf.TopK([[0], [1]], [[0.5], [0.25]])):
        lf.cross_entropy(logits, targets, check="distribution")
    with pytest.raises(ValueError, match=r"targets at row 1 are not a distribution: the row sums to 0.25"):
        lf.cross_entropy(logits, lf.TopK([[0], [1]], [[1.0], [0.25]], rest="drop"), check="distribution")
    with pytest.raises(ValueError, match=r"targets at row 0 are not a distribution: the row holds -0.5"):
        lf.cross_entropy(logits, sparse.csr_array([[1.5, -0.5, 0.0], [0.0, 0.0, 1.0]]), check="distribution")
    where = np.array([[True, True, False], [False, True, True]])
    lf.cross_entropy(logits, ROWS, where=where, check="distribution")


def test_overlapping_buffers_are_refused():
    rows = sparse.csr_array(np.ones((2, 2)))
    with pytest.raises(ValueError, match="overlaps targets"):
        lf.cross_entropy.grad(np.zeros((2, 2)), rows, out=rows.data.reshape(2, 2))


# --------------------------------------------------------------------------------------------------------- memory


@pytest.mark.thread_unsafe(reason="counts the memory of the whole process")
@pytest.mark.parametrize("chosen", [VARIANTS[0], VARIANTS[-1]], ids=str)
def test_memory_is_that_of_the_entries(chosen):
    """With 50,000 classes a dense target would take as much as the logits do."""
    rows, classes, named = 64, 50_000, 10
    random = np.random.default_rng(0)
    logits = random.normal(size=(rows, classes)).astype(np.float32)
    indices = np.array([random.choice(classes, named, replace=False) for _ in range(rows)])
    probs = np.full((rows, named), 0.1)
    matrix = sparse.csr_array((probs.ravel(), indices.ravel(), np.arange(rows + 1) * named), shape=logits.shape)
    buffer = np.empty_like(logits)
    with chosen.chosen():
        for targets in (matrix, lf.TopK(indices, probs / 2)):
            lf.cross_entropy.value_and_grad(logits[:1], lf.TopK(indices[:1], probs[:1]), grad_out=buffer[:1])
            tracemalloc.start()
            try:
                lf.cross_entropy.value_and_grad(logits, targets, grad_out=buffer, n_threads=1)
                most = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert most < 2**20 + 200 * rows * named < logits.nbytes / 4
