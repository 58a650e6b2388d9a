"""Jobs, straight to each backend, against mpmath: every output within the published ULP, and every special value."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import itertools
import math
import warnings

import numpy as np
import pytest
from exact import exact, exact_pointwise, exact_row, mp, off_by

from lossfast import pointwise as _pointwise  # noqa: F401  (they register the losses)
from lossfast._jobs import ENTRY_OUTPUTS, PointwiseJob, RowwiseJob
from lossfast._reduction import Sum

BUDGET = 4.0
INTEGER = {"pred": np.int64, "rank": np.int64, "correct": np.bool_}


@pytest.fixture
def backend(variant):
    with variant.chosen() as module:
        yield module


# ------------------------------------------------------------------------------------------------ doing and measuring


def row_job(loss, logits, names, **options):
    logits = np.atleast_2d(logits)
    shapes = {name: logits.shape if name in ENTRY_OUTPUTS else logits.shape[:1] for name in names}
    outputs = {name: np.full(shapes[name], 7, dtype=INTEGER.get(name, logits.dtype)) for name in names}
    return RowwiseJob(loss, np.dtype(logits.dtype), logits, outputs=outputs, **options)


def worst_of_rows(backend, job, truths=None):
    """The largest error of each output, in ULP."""
    job = dataclasses.replace(job, outputs={name: np.full_like(out, 7) for name, out in job.outputs.items()})
    backend.rowwise(job)
    worst = dict.fromkeys(job.outputs, 0.0)
    for row, true in enumerate(truths or [exact_row(job, row) for row in range(len(job.logits))]):
        for name, got in job.outputs.items():
            value, scale = true[name]
            dtype = job.logits.dtype
            if name in ENTRY_OUTPUTS:
                error = max(off_by(g, u, k, dtype) for g, u, k in zip(got[row], value, scale, strict=True))
            elif name in INTEGER:
                error = 0.0 if int(got[row]) == value else math.inf
            else:
                error = off_by(got[row], value, scale, dtype)
            worst[name] = max(worst[name], error)
    return worst


def families(C, dtype, rng):
    """Rows of several kinds, as numerics of softmax go wrong."""
    x = rng.normal(size=(9, C))
    x[1] *= 10
    x[2] *= 300
    x[3] = np.where(np.arange(C) == rng.integers(C), 20, 0)
    x[4] = np.where(np.arange(C) == rng.integers(C), 100, x[4])
    x[5] += 1e4
    x[6] = 1 + 1e-6 * rng.normal(size=C)
    x[7] = x[7] * 3e37
    x[8] = -abs(x[8] * 4) - np.log(C)
    return x.astype(dtype)


LOSS_ROWS = ("loss", "lse", "pred", "correct", "entropy", "margin", "rank")
OF_TEMPERATURE = ("grad_temperature", "hess_temperature")
CE_OUTPUTS = (*LOSS_ROWS, "grad", "hess", "proba", "log_proba", *OF_TEMPERATURE, "grad_target", "hvp", "newton_step")
QUADRATIC_OUTPUTS = (*LOSS_ROWS, "grad", "hess", "hvp", "proba")
PROFILE_OUTPUTS = (*LOSS_ROWS, "grad", "hess", "proba", "log_proba")
KL_OUTPUTS = ("loss", "lse", "entropy", "grad", "hess", "proba", "log_proba", "grad_temperature", "grad_target", "hvp")
TASKS = {
    "labels": ("cross_entropy", CE_OUTPUTS, {}),
    "labels, weighted": ("cross_entropy", CE_OUTPUTS, {"cw": 1, "sw": 1, "scale": 0.37}),
    "labels, temperature": ("cross_entropy", CE_OUTPUTS, {"temperature": 0.7, "sw": 1}),
    "labels, smoothed": ("cross_entropy", CE_OUTPUTS, {"label_smoothing": 0.1}),
    "labels, z_loss": ("cross_entropy", CE_OUTPUTS, {"z_loss": 1e-3}),
    "soft": ("cross_entropy", CE_OUTPUTS, {"soft": 1, "cw": 1}),
    "soft, smoothed, temperature": (
        "cross_entropy",
        CE_OUTPUTS,
        {"soft": 1, "label_smoothing": 0.2, "temperature": 3.0},
    ),
    "quadratic": ("quadratic_softmax_loss", QUADRATIC_OUTPUTS, {"cw": 1, "temperature": 1.5}),
    "quadratic, soft": ("quadratic_softmax_loss", QUADRATIC_OUTPUTS, {"soft": 1}),
    "focal": ("focal_loss", PROFILE_OUTPUTS, {"params": (2.0, math.nan), "cw": 1, "sw": 1, "temperature": 0.7}),
    "focal, soft": ("focal_loss", PROFILE_OUTPUTS, {"params": (0.5, 0.25), "soft": 1, "cw": 1, "scale": 0.37}),
    "poly, soft": ("poly_loss", PROFILE_OUTPUTS, {"params": (-0.9,), "soft": 1, "sw": 1}),
    "generalized": ("generalized_cross_entropy", PROFILE_OUTPUTS, {"params": (0.7,), "soft": 1, "temperature": 1.5}),
    "margins": ("multiclass_hinge_loss", ("loss", "grad", "hess"), {"params": (0.0, 1.0, 1.0), "cw": 1, "sw": 1}),
    "margins, all": ("multiclass_hinge_loss", ("loss", "grad", "hess"), {"params": (1.0, 0.3, 0.0), "scale": 0.37}),
    "divergence": ("kl_div_from_logits", KL_OUTPUTS, {"others": 1, "sw": 1, "scale": 0.37}),
    "divergence, temperature": ("kl_div_from_logits", KL_OUTPUTS, {"others": 1, "temperature": 0.7}),
    "softmax": ("softmax", ("proba", "vjp", "jvp"), {"temperature": 0.9}),
    "log_softmax": ("log_softmax", ("log_proba", "vjp", "jvp"), {}),
    "logsumexp": ("logsumexp", ("lse", "sign", "proba", "row_jvp"), {}),
    "logsumexp, factors": ("logsumexp", ("lse", "sign", "proba", "row_jvp"), {"b": 1}),
    "logsumexp, vjp": ("logsumexp", ("vjp",), {"v": 1}),
}


def make(task, C, dtype, rng, masked=False):
    loss, names, options = TASKS[task]
    options = dict(options)
    logits = families(C, dtype, rng)
    n = len(logits)
    if masked and C > 1:
        options["where"] = rng.random(logits.shape) < 0.7
        options["where"][:, 0] = True
    if loss not in ("softmax", "log_softmax", "logsumexp"):
        if options.pop("others", 0):
            apart = 10.0 ** np.arange(-6, 3)[:, None]
            options["logits_q"] = (logits + apart * families(C, dtype, rng)[::-1][0] / 4).astype(dtype)
        elif options.pop("soft", 0):
            options["target"] = rng.dirichlet(np.ones(C), n).astype(dtype)
            if masked and C > 1:
                options["target"][~options["where"]] = 0
        else:
            options["labels"] = rng.integers(C, size=n)
            options["labels"][:5] = logits[:5].argmax(1)
            if masked and C > 1:
                options["labels"][:] = 0
    if options.pop("cw", 0):
        options["class_weight"] = rng.uniform(0.1, 2, C)
    if options.pop("sw", 0):
        options["sample_weight"] = rng.uniform(0.1, 2, n).astype(dtype)
    if options.pop("b", 0):
        options["b"] = rng.normal(size=logits.shape).astype(dtype)
    if {"hvp", "vjp", "jvp", "row_jvp"} & set(names):
        shape = n if options.pop("v", 0) else logits.shape
        options["v"] = rng.normal(size=shape).astype(dtype)
    if "newton_step" in names:
        options["ridge"] = 1e-3
    return row_job(loss, logits, names, **options)


@functools.cache
def jobs(task, dtype):
    """Jobs of a kind, with what is exactly right for each of their rows (which takes far longer than doing them)."""
    rng, made = np.random.default_rng(5), []
    if task in TASKS:
        for C, masked in ((1, False), (2, False), (3, True), (10, False), (17, True)):
            made.append(make(task, C, dtype, rng, masked))
    else:
        names = ("loss", "lse", "pred", "entropy", "margin", "rank", "grad", "hess")
        for C, rows in ((1000, (6,)), (5200, (1,))):
            x = families(C, dtype, rng)[list(rows)]
            made.append(row_job("cross_entropy", x, names, labels=rng.integers(C, size=len(rows))))
    return [(job, [exact_row(job, row) for row in range(len(job.logits))]) for job in made]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("task", [*TASKS, "wide"])
def test_rows_within_the_budget(backend, task, dtype):
    for job, truths in jobs(task, dtype):
        worst = worst_of_rows(backend, job, truths)
        assert all(error <= BUDGET for error in worst.values()), (job.logits.shape, worst)


@pytest.mark.parametrize("task", TASKS)
def test_each_output_alone(backend, task):
    """Nothing depends on what else is wanted; a total is the sum of the rows."""
    whole = make(task, 5, np.float64, np.random.default_rng(8))
    backend.rowwise(whole)
    for name, out in whole.outputs.items():
        totals = (name,) if name in ("loss", *OF_TEMPERATURE) else ()
        job = dataclasses.replace(whole, outputs={name: np.full_like(out, 7)}, totals=totals)
        sums = backend.rowwise(job)
        np.testing.assert_array_equal(job.outputs[name], out, name)
        if totals:
            assert sums[name] == backend.rowwise(dataclasses.replace(job, outputs={}))[name]
            assert float(mp.fsum(exact(part) for part in sums[name])) == math.fsum(out)


@pytest.mark.thread_unsafe(reason="changes a constant of the module")
@pytest.mark.parametrize("task", TASKS)
def test_rows_in_chunks(task, monkeypatch):
    """Rows wider than a block go by in chunks; with small blocks all of them do."""
    numpy = importlib.import_module("lossfast.backends.numpy")
    monkeypatch.setattr(numpy, "BLOCK", 4)
    for job, truths in jobs(task, np.float64):
        worst = worst_of_rows(numpy, job, truths)
        assert all(error <= BUDGET for error in worst.values()), (job.logits.shape, worst)


POINTS = np.array([0.0, 1e-320, 1e-30, 1e-3, 0.3, 0.5, 1.0, 1.7, 8.0, 36.5, 120.0, 744.0, 1e20, 1e200])
PARAMETERS = {"smooth_l1_loss": (0.5, 0.0, 2.0), "huber_loss": (0.5, 3.0)}
POINTWISE = (
    "l1_loss",
    "mse_loss",
    "smooth_l1_loss",
    "huber_loss",
    "binary_cross_entropy_with_logits",
    "sigmoid",
    "log_sigmoid",
)


def point_job(loss, x, t=None, q=None, parameters=(), totals=(), **options):
    x = np.asarray(x)
    out = {name: np.full(x.shape, 7, dtype=x.dtype) for name in ("value", "grad", "hess")}
    return PointwiseJob(loss, np.dtype(x.dtype), x, t, q, parameters, totals=totals, **out, **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", POINTWISE)
def test_points_within_the_budget(backend, loss, dtype):
    with np.errstate(over="ignore"):
        x = np.concatenate((POINTS, -POINTS)).astype(dtype)
    x = x[np.isfinite(x)]
    x, t = (a.ravel() for a in np.meshgrid(x, np.array([0.0, 1.0, 0.25], dtype=dtype)))
    q = np.full(x.shape, 0.8, dtype=dtype) if loss.startswith("binary") else None
    for parameter in PARAMETERS.get(loss, (None,)):
        job = point_job(loss, x, t, q, () if parameter is None else (parameter,))
        backend.pointwise(job)
        for i in range(len(x)):
            true, scale = exact_pointwise(loss, x[i], t[i], 1 if q is None else q[i], job.params)
            got = job.value[i], job.grad[i], job.hess[i]
            errors = [off_by(g, u, k, dtype) for g, u, k in zip(got, true, scale, strict=True)]
            assert max(errors) <= BUDGET, (x[i], t[i], parameter, got, errors)


# ---------------------------------------------------------------------------------------------------- special values

INF, NAN = math.inf, math.nan
#: logits, label, loss, gradient, probabilities, lse
SPECIAL_ROWS = {
    "NaN": ([0, NAN, 1], 0, NAN, [NAN] * 3, [NAN] * 3, NAN),
    "a class that cannot be": ([0, -INF, 0], 0, math.log(2), [-0.5, 0, 0.5], [0.5, 0, 0.5], math.log(2)),
    "the truth cannot be": ([0, -INF, 0], 1, INF, [0.5, -1, 0.5], [0.5, 0, 0.5], math.log(2)),
    "nothing can be": ([-INF] * 3, 0, NAN, [NAN] * 3, [NAN] * 3, -INF),
    "an infinity at the truth": ([1, INF, 0], 1, 0, [0, 0, 0], [0, 1, 0], INF),
    "an infinity elsewhere": ([1, INF, 0], 0, INF, [-1, 1, 0], [0, 1, 0], INF),
    "an infinity and a mask": ([-INF, INF, 0], 1, 0, [0, 0, 0], [0, 1, 0], INF),
    "two infinities": ([INF, INF, 0], 0, NAN, [NAN] * 3, [NAN] * 3, NAN),
    "an infinity and NaN": ([INF, NAN, 0], 0, NAN, [NAN] * 3, [NAN] * 3, NAN),
    "the largest numbers, alike": ([-3e38] * 3, 1, math.log(3), [1 / 3, -2 / 3, 1 / 3], [1 / 3] * 3, -3e38),
    "a difference that overflows": ([3e38, -3e38, 0], 0, 0, [0, 0, 0], [1, 0, 0], 3e38),
    "a loss that overflows": ([3e38, -3e38, 0], 1, 6e38, [1, -1, 0], [1, 0, 0], 3e38),
    "zeros of both signs": ([0.0, -0.0, 0.0], 1, math.log(3), [1 / 3, -2 / 3, 1 / 3], [1 / 3] * 3, math.log(3)),
    "tiny": (
        [100, 0, 0],
        0,
        7.440151952041672e-44,
        [-7.440151952041672e-44, 3.7200759760208356e-44, 3.7200759760208356e-44],
        [1, 3.7200759760208356e-44, 3.7200759760208356e-44],
        100,
    ),
}


def close(got, expected, dtype):
    with np.errstate(over="ignore"):
        expected = np.asarray(expected, dtype=dtype)
    np.testing.assert_array_almost_equal_nulp(
        np.nan_to_num(got, nan=0, posinf=0, neginf=0), np.nan_to_num(expected, nan=0, posinf=0, neginf=0), nulp=8
    )
    for kind in (np.isnan, np.isposinf, np.isneginf):
        np.testing.assert_array_equal(kind(got), kind(expected))


@pytest.mark.parametrize("targets", ["labels", "soft"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", SPECIAL_ROWS)
def test_special_rows(backend, case, dtype, targets):
    logits, label, loss, grad, proba, lse = SPECIAL_ROWS[case]
    x = np.array([[0.5, 1, 2], logits, [0.5, 1, 2]], dtype=dtype)
    labels = np.array([2, label, 2])
    given = {"labels": labels} if targets == "labels" else {"target": np.eye(3, dtype=dtype)[labels]}
    job = row_job("cross_entropy", x, ("loss", "grad", "hess", "proba", "lse"), totals=("loss",), **given)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        total = backend.rowwise(job)["loss"]
    out = job.outputs
    close(out["loss"][1], loss, dtype)
    close(out["grad"][1], grad, dtype)
    close(out["proba"][1], proba, dtype)
    close(out["lse"][1], lse, dtype)
    close(out["hess"][1], np.abs(grad) if case == "tiny" else [p * (1 - p) for p in proba], dtype)
    for name, array in out.items():  # the neighbours know nothing of it
        np.testing.assert_array_equal(array[0], array[2], name)
        assert np.isfinite(array[0]).all(), name
    if math.isfinite(loss):
        close(
            np.float64(total[0]), loss + 2 * np.float64(out["loss"][0]) if dtype == np.float64 else total[0], np.float64
        )
        assert math.isfinite(total[0])  # beyond float32, still a double
    else:
        assert total[0] == loss or (math.isnan(loss) and math.isnan(total[0]))


@pytest.mark.parametrize("soft", [False, True])
def test_what_is_left_out_is_not_read(backend, soft):
    x = np.array([[0.0, 1, NAN, 2], [NAN] * 4, [1, NAN, INF, 0], [1, 2, 3, 4], [1, 2, 3, 4]])
    where = np.ones(x.shape, dtype=bool)
    where[0, 2] = where[4, :] = False
    weight = np.array([1.0, 1, 0, 2, 1])
    labels = np.array([3, -100, 1, 0, 2])
    names = ("loss", "grad", "hess", "proba", "lse")
    if soft:
        target = np.eye(4)[np.maximum(labels, 0)]
        target[0, 2] = NAN
        weight[1] = 0
        job = row_job("cross_entropy", x, names, target=target, where=where, sample_weight=weight, totals=("loss",))
    else:
        job = row_job(
            "cross_entropy",
            x,
            names,
            labels=labels,
            where=where,
            sample_weight=weight,
            ignore_index=-100,
            totals=("loss",),
        )
    total = backend.rowwise(job)["loss"][0]
    out = job.outputs
    plain = row_job("cross_entropy", np.array([[0.0, 1, 2], [0, 1, 2]]), names, labels=np.array([2, 2]))
    backend.rowwise(plain)
    keep = [0, 1, 3]
    for name in ("grad", "hess", "proba"):
        close(out[name][0][keep], plain.outputs[name][0], np.float64)
        assert out[name][0, 2] == 0
    for row in (1, 2, 4):
        assert out["loss"][row] == 0 and not out["grad"][row].any() and not out["hess"][row].any()
    assert not out["proba"][4].any() and out["lse"][4] == -INF
    close(total, out["loss"].sum(), np.float64)
    weights = backend.weigh_rows(job)
    assert (weights.weight, weights.count) == ((3, 4) if soft else (3, 3))


def test_labels_of_every_kind(backend):
    x = np.arange(12.0).reshape(4, 3) % 5
    good = np.array([0, 2, 1, 1])
    expected = row_job("cross_entropy", x, ("loss", "grad"), labels=good)
    backend.rowwise(expected)
    for dtype in ("i1", "u1", "<i2", ">i2", "u2", ">i4", "u4", "i8", ">u8"):
        job = row_job("cross_entropy", x, ("loss", "grad"), labels=good.astype(dtype))
        backend.rowwise(job)
        for name in job.outputs:
            np.testing.assert_array_equal(job.outputs[name], expected.outputs[name])
    for bad in (np.array([0, 3, -1, 1]), np.array([0, 2**63 + 5, 2**64 - 100, 1], dtype=np.uint64)):
        job = row_job("cross_entropy", x, ("loss", "grad"), labels=bad, ignore_index=-100)
        backend.rowwise(job)
        assert np.isnan(job.outputs["loss"][1:3]).all() and np.isnan(job.outputs["grad"][1:3]).all()
        np.testing.assert_array_equal(job.outputs["grad"][[0, 3]], expected.outputs["grad"][[0, 3]])
        weights = backend.weigh_rows(job)
        assert (weights.bad_count, weights.bad_row) == (2, 1)


def test_layouts_give_the_same_bits(backend):
    rng = np.random.default_rng(3)
    for shape in ((7, 5, 6), (300, 40), (30, 200)):
        x = rng.normal(size=shape).astype(np.float32)
        labels = rng.integers(shape[-1], size=shape[:-1])
        plain = {"loss": np.empty(shape[:-1], np.float32), "grad": np.empty_like(x)}
        totals = backend.rowwise(
            RowwiseJob("cross_entropy", x.dtype, x, labels=labels, outputs=plain, totals=("loss",))
        )
        wide = np.zeros((*shape[:-1], 2 * shape[-1]), np.float32)[..., ::2]
        wide[...] = x
        field = np.zeros(shape, dtype=[("pad", "u1"), ("x", "<f4")])["x"]
        field[...] = x
        for other in (np.asfortranarray(x), wide, field, x.astype(">f4"), x.astype(np.float64), x[::-1].copy()[::-1]):
            for n_threads in (1, 3):
                out = {"loss": np.empty(shape[:-1], np.float32), "grad": np.empty(shape, np.float32, order="F")}
                again = backend.rowwise(
                    RowwiseJob(
                        "cross_entropy",
                        x.dtype,
                        other,
                        labels=labels,
                        outputs=out,
                        totals=("loss",),
                        n_threads=n_threads,
                    )
                )
                assert again == totals
                for name in out:
                    np.testing.assert_array_equal(out[name], plain[name])
        over = x.copy()
        backend.rowwise(RowwiseJob("cross_entropy", x.dtype, over, labels=labels, outputs={"grad": over}))
        np.testing.assert_array_equal(over, plain["grad"])


SPECIAL_POINTS = [
    # loss, parameters, x, t, value, gradient
    ("l1_loss", (), INF, 0, INF, 1),
    ("l1_loss", (), -0.0, 0, 0, 0),
    ("mse_loss", (), 1e200, 0, INF, 2e200),
    ("mse_loss", (), -INF, 0, INF, -INF),
    ("smooth_l1_loss", (1.0,), 1e300, 0, 1e300, 1),
    ("smooth_l1_loss", (0.0,), 0, 0, 0, 0),
    ("smooth_l1_loss", (0.0,), -3, 0, 3, -1),
    ("smooth_l1_loss", (1e300,), 1e200, 0, 5e99, 1e-100),
    ("smooth_l1_loss", (1.7e308,), 1e308, -1e308, 1.15e308, 1),
    ("huber_loss", (0.25,), 1.5e308, -1.5e308, 7.5e307, 0.25),
    ("huber_loss", (1e200,), 1e200, 0, INF, 1e200),
    ("huber_loss", (2.0,), -INF, 0, INF, -2),
    ("binary_cross_entropy_with_logits", (), INF, 1, 0, 0),
    ("binary_cross_entropy_with_logits", (), -INF, 0, 0, 0),
    ("binary_cross_entropy_with_logits", (), INF, 0, INF, 1),
    ("binary_cross_entropy_with_logits", (), -INF, 1, INF, -1),
    ("sigmoid", (), -INF, None, 0, 0),
    ("sigmoid", (), INF, None, 1, 0),
    ("log_sigmoid", (), -INF, None, -INF, 1),
    ("log_sigmoid", (), INF, None, 0, 0),
]


def test_special_points(backend):
    for loss, parameters, x, t, value, grad in SPECIAL_POINTS:
        job = point_job(
            loss, np.array([x], dtype=float), None if t is None else np.array([t], dtype=float), parameters=parameters
        )
        backend.pointwise(job)
        close(job.value, [value], float)
        close(job.grad, [grad], float)
    for loss in POINTWISE:
        job = point_job(
            loss,
            np.array([NAN, 0.5, NAN, NAN]),
            np.zeros(4),
            parameters=PARAMETERS.get(loss, ())[:1],
            totals=("loss",),
            weight=np.array([1.0, 2, 0, 1]),
            where=np.array([1, 1, 1, 0], dtype=bool),
            scale=0.5,
        )
        assert math.isnan(backend.pointwise(job)["loss"][0])
        alone = point_job(loss, np.array(0.5), np.array(0.0), parameters=job.params, totals=("loss",))
        total = backend.pointwise(alone)["loss"]
        assert total == Sum(alone.value)
        for out, single, factor in ((job.value, alone.value, 2), (job.grad, alone.grad, 1), (job.hess, alone.hess, 1)):
            assert math.isnan(out[0]) and out[2] == out[3] == 0, loss
            close(out[1], factor * single, float)
        weights = backend.weigh_pointwise(job)
        assert (weights.weight, weights.count) == (3, 3)


def test_nll_reads_one_class(backend):
    x = np.array([[-0.5, NAN, -2], [-1, -INF, -3], [NAN, -1, -4]])
    job = row_job(
        "nll_loss",
        x,
        ("loss", "grad"),
        labels=np.array([2, 1, -7]),
        ignore_index=-7,
        scale=0.5,
        class_weight=np.array([1.0, 2, 3]),
        sample_weight=np.array([1.0, 2, 1]),
    )
    backend.rowwise(job)
    close(job.outputs["loss"], [6, INF, 0], float)
    close(job.outputs["grad"], [[0, 0, -1.5], [0, -2, 0], [0, 0, 0]], float)


def test_empty_and_long(backend):
    for shape in ((0, 3), (0, 0)):
        job = row_job("logsumexp", np.empty(shape), ("lse", "proba"))
        assert backend.rowwise(job) == {}
    job = row_job("logsumexp", np.empty((2, 0)), ("lse", "sign"))
    backend.rowwise(job)
    assert (job.outputs["lse"] == -INF).all() and not job.outputs["sign"].any()
    assert backend.pointwise(point_job("mse_loss", np.empty(0), np.empty(0), totals=("loss",))) == {"loss": Sum(0.0)}
    x = np.float32(0.1) * np.ones(300_001, dtype=np.float32)
    parts = [
        backend.pointwise(point_job("l1_loss", x, np.zeros_like(x), totals=("loss",), n_threads=n))["loss"]
        for n in (1, 2, 7)
    ]
    assert parts[0] == parts[1] == parts[2]
    assert abs(exact(parts[0][0]) + exact(parts[0][1]) - 300_001 * exact(np.float32(0.1))) < 1e-20


def test_pairs_of_means(backend):
    """The sums over the whole are those over halves, far beyond a double."""
    x = np.random.default_rng(0).normal(size=(4001, 3))
    sums = []
    for rows in (slice(None), slice(None, 1500), slice(1500, None)):
        job = RowwiseJob("cross_entropy", x.dtype, x[rows], labels=np.zeros(len(x[rows]), int), totals=("loss",))
        sums.append(mp.fsum(exact(part) for part in backend.rowwise(job)["loss"]))
    assert abs(sums[0] - sums[1] - sums[2]) < 1e-25


def test_every_output_is_offered_somewhere():
    offered = set(itertools.chain.from_iterable(names for _, names, _ in TASKS.values()))
    assert offered >= set(ENTRY_OUTPUTS)
