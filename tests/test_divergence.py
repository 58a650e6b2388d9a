"""kl_div_from_logits: digits of tiny divergences, strict bounds, limits, and bits that depend on nothing else."""

import functools
import math

import ml_dtypes
import numpy as np
import pytest
from exact import exact_row, mp, ulp
from variants import COMPILED

import lossfast as lf
from lossfast._jobs import RowwiseJob

INF, NAN = math.inf, math.nan
KL = lf.kl_div_from_logits
SCALED = ("grad", "hess", "hvp", "grad_target", "grad_temperature")

each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


@pytest.fixture(autouse=True)
def every(variant):
    with variant.chosen():
        yield


def everything(x, y, v, **options):
    results = KL.evaluate(x, y, reduction="none", **options)._asdict()
    return {**results, "hvp": KL.hvp(x, y, v, reduction="none", **options)}


# -------------------------------------------------------------------------------------------------------- accuracy


def pairs(C, dtype):
    """Rows of logits, and others from 1e-20 apart (as far as the dtype lets them) to far away, shifted, more sure."""
    random = np.random.default_rng(C)
    x = (
        random.normal(size=(16, C))
        * np.array([1, 10, 250, 1, 3, 1, 1, 30, 1, 1, 1, 1, 1e-15, 1e-20, 40, 0.01])[:, None]
    )
    x[5] += 1e4
    apart = np.array([1, 1, 250, 10, 0.1, 1e-2, 1e-3, 1e-5, 1e-7, 1e-10, 1e-13, 0, 1e-15, 1e-20, 1e-9, 1e-12])
    y = x + random.normal(size=x.shape) * apart[:, None]
    y[8] += 100
    return x.astype(dtype), y.astype(dtype)


@functools.cache
def truths(C, dtype):
    """For both temperatures: the options, the inputs, and what is exactly right of every row."""
    x, y = pairs(C, dtype)
    v = np.random.default_rng(1).normal(size=x.shape).astype(dtype)
    found = []
    for options in ({}, {"temperature": 0.7}):
        job = RowwiseJob("kl_div_from_logits", x.dtype, x, logits_q=y, v=v, **options)
        found.append((options, (x, y, v), [exact_row(job, row) for row in range(len(x))]))
    return found


@each_dtype
@pytest.mark.parametrize("C", [1, 2, 3, 10, 193])
def test_strict_bounds(variant, C, dtype):
    """Values: float32 rounded once from double, float64 within 2 ULP however small (4 on the other backends).

    Derivatives: within the same, or 2^-50 (float64: 2^-52, without a compiled fma 2^-51) of the sum of their terms'
    sizes. On the other backends p is a double, which below 1e-308 has fewer digits than its product with a large one.
    """
    single = dtype == np.float32
    compiled = variant.backend == "compiled"
    bound = 0.502 if single else 2 if compiled else 4
    share = mp.ldexp(1, -50 if single else -52 if compiled and variant.isa != "baseline" else -51)
    least = 0 if compiled or single else mp.ldexp(2000, -1074)
    found = []
    for options, operands, rows in truths(C, dtype):
        got = everything(*operands, **options)
        for row, outputs in enumerate(rows):
            for name, (true, scale) in outputs.items():
                if name not in got:
                    continue
                values, true, scale = (list(np.atleast_1d(a)) for a in (got[name][row], true, scale))
                for g, u, k in zip(values, true, scale, strict=True):
                    unit = ulp(u, dtype)
                    room = max(bound * unit, least + unit / 2 + 2 * share * k if name in SCALED else 0)
                    if name in ("lse", "log_proba", "proba", "entropy"):  # tested with the other losses
                        room = max(4 * unit, mp.ldexp(4 * abs(k), -52))
                    if not abs(mp.mpf(float(g)) - u) <= room:
                        found.append((name, row, options, float(abs(mp.mpf(float(g)) - u) / unit), float(u), g))
    assert not found, found[:10]


@each_dtype
def test_tiny_divergences_keep_their_digits(dtype):
    """The divergence of softmax([0, 0]) from softmax([0, 2 h]) is log cosh h, down to what the type can hold."""
    for power in range(1, 22 if dtype == np.float32 else 150):
        h = dtype(10.0**-power)
        got = KL(np.zeros(2, dtype), np.array([0, 2 * h], dtype), reduction="none")
        true = mp.log(mp.cosh(mp.mpf(float(dtype(2 * h))) / 2))
        assert abs(mp.mpf(float(got)) - true) <= 2 * ulp(true, dtype), (power, got, float(true))
        assert float(KL(np.zeros(2, dtype), np.array([0, 2 * h], dtype))) == pytest.approx(
            float(true), rel=1e-15, abs=0
        )


@each_dtype
@pytest.mark.parametrize("C", [1, 2, 7, 192, 193, 250, 40_000])
def test_equal_arguments_are_exactly_0_apart(C, dtype):
    random = np.random.default_rng(C)
    x = (random.normal(size=(3, C)) * np.array([1, 30, 500])[:, None]).astype(dtype)
    for y in (x, x.astype(np.float64), np.asfortranarray(x)):
        for options in ({}, {"temperature": 0.3}):
            got = KL.evaluate(
                x, y, reduction="none", want=("loss", "grad", "grad_target", "grad_temperature"), **options
            )
            assert all(not array.any() for array in got)
            assert not np.signbit(got.loss).any()
    for y in (x, (x + random.normal(size=x.shape)).astype(dtype)):
        assert (KL(x, y, reduction="none") >= 0).all() and (KL(y, x, reduction="none") >= 0).all()


def test_confident_rows_keep_the_digits_of_their_gradients():
    """As p goes to one class, so does its entry: from the deviations of the others."""
    x, y = np.array([[60.0, 0, 1]]), np.array([[2.0, 0, -1]])
    job = RowwiseJob("kl_div_from_logits", x.dtype, x, logits_q=y)
    true = exact_row(job, 0)
    got = KL.evaluate(x, y, reduction="none", want=("grad",))
    for g, u in zip(got.grad[0], true["grad"][0], strict=True):
        assert abs(mp.mpf(g) - u) <= 4 * ulp(u, np.float64)
    assert abs(got.grad.sum()) <= 1e-15 * abs(got.grad).max()


def test_offsets_of_any_size_cancel():
    x, y = np.array([[0.0, 1, 2], [1, 1, 5]]), np.array([[1.0, 0, 2], [1, 2, 3]])
    plain = everything(x, y, x)
    for dx, dy in ((2.0**40, 0), (0, -(2.0**40)), (2.0**45, 2.0**30)):
        for name, value in everything(x + dx, y + dy, x).items():
            if name != "lse":
                np.testing.assert_allclose(value, plain[name], rtol=1e-13, atol=1e-15, err_msg=name)
    big = np.full((1, 3), 3e38, np.float32)
    assert KL(big, -big) == 0 == KL(big, np.zeros_like(big)) and not KL.grad(big, -big).any()


# ---------------------------------------------------------------------------------------------------------- limits

LOG2 = math.log(2)
#: z_p, z_q, divergence, gradient, derivative in z_q, Hessian's diagonal
LIMITS = {
    "p masked": ([0, -INF, 0], [0, 0, 0], math.log(1.5), [0, 0, 0], [-1 / 6, 1 / 3, -1 / 6], [0.25, 0, 0.25]),
    "both masked": ([0, -INF, 0], [0, -INF, 0], 0, [0, 0, 0], [0, 0, 0], [0.25, 0, 0.25]),
    "q masked": ([0, 0, 0], [0, -INF, 0], INF, [-INF, INF, -INF], [1 / 6, -1 / 3, 1 / 6], [NAN] * 3),
    "q masked, p too small to hold": ([0, -1e4, 0], [0, -INF, 0], INF, [-INF, INF, -INF], [0, 0, 0], [NAN] * 3),
    "q masked, p masked elsewhere": ([0, 0, -INF], [0, -INF, 0], INF, [-INF, INF, 0], [0, -0.5, 0.5], [NAN, NAN, 0]),
    "p infinite": ([0, INF, 1], [0, 0, 0], math.log(3), [0, 0, 0], [1 / 3, -2 / 3, 1 / 3], [0, 0, 0]),
    "q infinite": ([0, 0, -INF], [0, INF, 1], INF, [INF, -INF, 0], [-0.5, 0.5, 0], [NAN, NAN, 0]),
    "both infinite": ([0, INF, 1], [2, INF, 1], 0, [0, 0, 0], [0, 0, 0], [0, 0, 0]),
    "infinite apart": ([0, INF, 1], [INF, 0, 1], INF, [0, 0, 0], [1, -1, 0], [0, 0, 0]),
    "p infinite, masked there in q": ([0, INF, 1], [0, -INF, 0], INF, [0, 0, 0], [0.5, -1, 0.5], [0, 0, 0]),
    "q infinite where alone in p": ([-INF, 0, -INF], [1, INF, 2], 0, [0, 0, 0], [0, 0, 0], [0, 0, 0]),
    "apart by more than a type holds": (
        [3e38, -3e38, 0],
        [3e38, -3e38, 3e38],
        LOG2,
        [0, 0, 0],
        [-0.5, 0, 0.5],
        [0, 0, 0],
    ),
    "beyond float32 alone": (
        [0, 0, -INF],
        [3e38, -3e38, 0],
        3e38,
        [-1.5e38, 1.5e38, 0],
        [0.5, -0.5, 0],
        [0.25, 0.25, 0],
    ),
    "p NaN": ([0, NAN, 1], [0, 0, 0], NAN, [NAN] * 3, [NAN] * 3, [NAN] * 3),
    "q NaN": ([0, 0, 0], [0, NAN, 1], NAN, [NAN] * 3, [NAN] * 3, [NAN] * 3),
    "q NaN where p is 0": ([0, -INF, 0], [0, NAN, 1], NAN, [NAN] * 3, [NAN] * 3, [NAN] * 3),
    "p two infinite": ([INF, INF, 1], [0, 0, 1], NAN, [NAN] * 3, [NAN] * 3, [NAN] * 3),
    "q two infinite": ([0, 0, 1], [INF, INF, 1], NAN, [NAN] * 3, [NAN] * 3, [NAN] * 3),
    "nothing in p": ([-INF] * 3, [0, 0, 1], NAN, [NAN] * 3, [NAN] * 3, [NAN] * 3),
    "nothing in q": ([0, 0, 1], [-INF] * 3, NAN, [NAN] * 3, [NAN] * 3, [NAN] * 3),
}


def same(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-16, equal_nan=True)


@each_dtype
@pytest.mark.parametrize("width", [3, 70])
@pytest.mark.parametrize("case", LIMITS)
def test_limits(case, width, dtype):
    zp, zq, loss, grad, grad_target, hess = LIMITS[case]
    x, y = np.full((3, width), -INF, dtype), np.full((3, width), -INF, dtype)
    x[:, :3], y[:, :3] = [[0.5, 1, 2], zp, [0.5, 1, 2]], [[1, 0.5, 2], zq, [1, 0.5, 2]]
    want = ("loss", "grad", "grad_target", "hess", "grad_temperature")
    got = KL.evaluate(x, y, reduction="none", want=want)
    rest = NAN if math.isnan(loss) else 0
    same(got.loss[1], loss)
    expected = (grad, grad_target, hess)
    for name, right in zip(("grad", "grad_target", "hess"), expected, strict=True):
        if case == "beyond float32 alone" and name == "hess":
            continue  # (1 - 2 p) is 0 there, times what cannot be held to that many digits
        same(getattr(got, name)[1][:3], right)
        same(getattr(got, name)[1][3:], np.full(width - 3, rest))
    assert math.isnan(got.grad_temperature[1]) == (not math.isfinite(loss))
    for name, array in got._asdict().items():  # other rows know nothing of it
        assert np.array_equal(array[0], array[2]) and np.isfinite(array[0]).all(), name
    mean = KL(x, y)
    if math.isfinite(loss):
        assert math.isclose(mean, (float(np.float64(loss)) + 2 * float(got.loss[0])) / 3, rel_tol=1e-6)
    else:
        assert mean == loss or math.isnan(mean) and math.isnan(loss)


def test_differences_beyond_float32_are_held_by_the_mean():
    x, y = np.float32([[0, 0]]), np.float32([[3e38, -3e38]])
    y2 = np.vstack((y, -y)).astype(np.float32)
    assert KL(x, y, temperature=0.25, reduction="none") == INF
    assert math.isclose(KL(np.zeros((2, 2), np.float32), y2, temperature=0.25), 12e38, rel_tol=1e-6)


@each_dtype
def test_masked_classes_are_not_read(dtype):
    random = np.random.default_rng(0)
    x, y, v = (random.normal(size=(4, 6)).astype(dtype) for _ in range(3))
    where = np.ones(x.shape, bool)
    where[:, 2] = where[1, 4] = where[3] = False
    clean = everything(x, y, v, where=where)
    for nothing in (NAN, INF, -INF, 3e38):
        spoilt = (np.where(where, a, dtype(nothing)) for a in (x, y, v))
        for name, value in everything(*spoilt, where=where).items():
            assert np.array_equal(value, clean[name], equal_nan=True), (name, nothing)
    assert clean["loss"][3] == 0 and not clean["grad"][3].any() and not clean["grad"][:, 2].any()
    reduced = KL.reduce(x, y, where=where)
    assert (reduced.weight, reduced.count) == (3, 3)
    narrow = [a[:1][:, where[0]] for a in (x, y)]
    np.testing.assert_allclose(KL(*narrow), KL(x[:1], y[:1], where=where[:1]), rtol=1e-14)


# ------------------------------------------------------------------------------------------------------- interface


def test_definition_and_reductions():
    random = np.random.default_rng(0)
    x, y, w = random.normal(size=(5, 4)), random.normal(size=(5, 4)), random.random(5)
    p, q = lf.softmax(x), lf.softmax(y)
    rows = (p * np.log(p / q)).sum(-1)
    np.testing.assert_allclose(KL(x, y, reduction="none"), rows, rtol=1e-12)
    np.testing.assert_allclose(KL(x, y, sample_weight=w), (w * rows).sum() / w.sum(), rtol=1e-12)
    np.testing.assert_allclose(KL(x, y, sample_weight=w, reduction="batchmean"), (w * rows).sum() / 5, rtol=1e-12)
    soft = lf.cross_entropy(y, p, reduction="none") - lf.cross_entropy(x, p, reduction="none")
    np.testing.assert_allclose(KL(x, y, reduction="none"), soft, rtol=1e-12)
    grad = lf.cross_entropy.grad(y, p)  # a student's gradient is that of cross-entropy with the teacher's probabilities
    np.testing.assert_allclose(KL.evaluate(x, y, want="grad_target").grad_target, grad, rtol=1e-12, atol=1e-16)
    assert KL([0.0, 0.0], [0.0, 0.0]) == 0.0 == KL(np.int64([1, 2]), [1.0, 2.0])


@pytest.mark.parametrize(
    "pair", [("f4", "f8"), ("f8", "f4"), ("f2", "f4"), ("f8", "f2"), ("f4", "bfloat16"), (">f4", ">f8")]
)
def test_the_others_have_a_dtype_of_their_own(pair):
    dtypes = [np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name) for name in pair]
    random = np.random.default_rng(0)
    for C in (5, 200, 20_000):
        x = random.normal(size=(3, C)).astype(dtypes[0])
        y = (x.astype(np.float64) + 1e-3 * random.normal(size=x.shape)).astype(dtypes[1])
        value, grad = KL.value_and_grad(x, y, reduction="none")
        assert grad.dtype == dtypes[0].newbyteorder("=") and value.dtype.itemsize == max(4, dtypes[0].itemsize)
        wide, wide_grad = KL.value_and_grad(x.astype(np.float64), y.astype(np.float64), reduction="none")
        assert np.array_equal(value, wide.astype(value.dtype))  # nothing of either is rounded on the way
        assert np.array_equal(grad, wide_grad.astype(grad.dtype))


@pytest.mark.parametrize("shape", [(37, 5), (37, 192), (19, 193), (3, 40_000)], ids=str)
def test_no_bit_depends_on_layout_threads_batch_or_company(variant, shape):
    random = np.random.default_rng(0)
    x, y, v = (random.normal(size=shape).astype(np.float32) for _ in range(3))
    plain = everything(x, y, v)
    wide = np.zeros((shape[0], 2 * shape[1]), np.float64)[:, ::2]
    wide[...] = y
    for other in (wide, np.asfortranarray(y), y[::-1].copy()[::-1], y.astype(">f4")):
        for name, value in everything(np.asfortranarray(x), other, v, n_threads=3).items():
            assert value.tobytes() == plain[name].tobytes(), name
    for name in plain:
        if name != "hvp":
            [alone] = KL.evaluate(x, y, want=(name,), reduction="none")
            assert alone.tobytes() == plain[name].tobytes(), name
    rows = slice(2, 3)
    for name, value in everything(x[rows], y[rows], v[rows]).items():
        assert value.tobytes() == plain[name][rows].tobytes(), name
    if COMPILED and variant == COMPILED[0]:
        for other in COMPILED[1:]:
            if other.isa != "baseline":
                with other.chosen():
                    for name, value in everything(x, y, v).items():
                        assert value.tobytes() == plain[name].tobytes(), (name, other)
    over = x.copy()
    assert KL.grad(over, y, out=over, reduction="none") is over and np.array_equal(over, plain["grad"])


def test_the_others_cannot_be_written_over():
    x, y = np.zeros((3, 4)), np.ones((3, 4))
    with pytest.raises(ValueError, match="out overlaps z_q"):
        KL.grad(x, y, out=y)
    with pytest.raises(ValueError, match=r"v has shape \(4,\), but the elements of z_p need shape \(3, 4\)"):
        KL.hvp(x, y, np.ones(4))


def test_peers_agree():
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    x, y = random.normal(size=(5, 4)), random.normal(size=(5, 4))
    z = torch.from_numpy(x).requires_grad_()
    student = torch.from_numpy(y).requires_grad_()
    loss = torch.nn.functional.kl_div(
        torch.log_softmax(student / 2, -1), torch.log_softmax(z / 2, -1), log_target=True, reduction="batchmean"
    )
    loss.backward()
    got = KL.evaluate(x, y, temperature=2.0, want=("loss", "grad", "grad_target"))
    np.testing.assert_allclose(got.loss, loss.item(), rtol=1e-12)
    np.testing.assert_allclose(got.grad, z.grad.numpy(), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(got.grad_target, student.grad.numpy(), rtol=1e-10, atol=1e-14)
