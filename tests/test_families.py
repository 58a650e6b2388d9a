"""Every kind of row of logits, with every number of classes, against the bounds of the numerics contract.

The reference works on whole arrays in extended precision (extended.py); how far it is itself from arbitrary precision
is measured in the last test. A new row loss or function is covered as soon as it is declared.
"""

import ctypes
import functools
import itertools
import os
import platform

import ml_dtypes
import numpy as np
import pytest
from exact import exact, mp
from extended import IS_EXTENDED, Extended, Rows, as_extended, soften, spacing, ulps
from parameters import SINGLE, other_values_of, within
from variants import VARIANTS

import lossfast as lf
from lossfast._loss import looped
from lossfast._parts import profile_sizes

REGISTRY = looped()

pytestmark = pytest.mark.skipif(not IS_EXTENDED, reason="long double is not longer than double here")

# Sums over entries have rows of their own kinds: test_entrywise.py.
LOSSES = [loss for loss in REGISTRY.values() if loss.kind == "rowwise" and loss.labelled and not loss.entrywise]
FUNCTIONS = [loss for loss in REGISTRY.values() if loss.kind == "row_function" and not loss.entrywise]
SOFTMAX_LOSSES = [loss for loss in LOSSES if "proba" in loss.outputs]

each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
each_row = pytest.mark.parametrize("loss", LOSSES + FUNCTIONS, ids=lambda loss: loss.name)

#: Across the lanes, along them, and (the last) in chunks.
CLASSES = (*range(1, 67), 100, 127, 130, *range(190, 195), *range(206, 210), 223, 224, 225, 257, 1000, 1001)
MANY = (50_000, 250_000)


# ------------------------------------------------------------------------------------------------------- families


def normal(random, C, dtype):
    return random.normal(size=C)


def equal(random, C, dtype):
    return np.full(C, random.normal() * 5)


def trained(random, C, dtype):
    return 10 * random.normal(size=C)


def within_50(random, C, dtype):
    return random.uniform(-50, 50, C)


def wide(random, C, dtype):
    return random.uniform(-1000, 1000, C)


def confident(random, C, dtype):
    """One class ahead of the others, which are nearly alike, by anything up to where they vanish."""
    x = random.normal(size=C) * 0.1
    x[random.integers(C)] += random.choice(
        [5, 12, 17, 20, 37, 60, 88, 95, 100, 103.5] + [350, 700, 740] * (dtype == np.float64)
    )
    return x


def two_ahead(random, C, dtype):
    x = random.normal(size=C)
    x[random.integers(C, size=2)] += 25
    return x


def near_ties(random, C, dtype):
    """Neighbouring numbers."""
    middle = dtype(random.choice([1, -3, 37.7, 0.001, 255.9, 300]))
    return middle + random.integers(-3, 4, C) * np.spacing(middle)


def ramp(random, C, dtype):
    """One exponential after another, each far below the last."""
    return -random.permutation(C) * random.choice([0.7, 3.0, 11.0])


def small(random, C, dtype):
    return random.normal(size=C) * 10.0 ** random.integers(-12, 0)


def log_probabilities(random, C, dtype):
    x = random.normal(size=C) * random.choice([0.1, 4])
    return x - np.logaddexp.reduce(x)


def offset_1e4(random, C, dtype):
    return random.choice([-1e4, 1e4]) + 8 * random.normal(size=C)


def at_the_shift(random, C, dtype):
    """The largest logit where a shift begins, and a little to either side."""
    edge = dtype(random.choice([256, 2048, 40, 88.72284, 709.782712893384]) * random.choice([-1, 1]))
    x = edge - np.abs(random.normal(size=C) * 6)
    x[random.integers(C)] = edge + random.integers(-2, 3) * np.spacing(edge)
    return x


def huge(random, C, dtype):
    return random.choice([-1, 1]) * (3e38 if dtype == np.float32 else 1.5e308) * random.uniform(0.2, 1, C)


def huge_ties(random, C, dtype):
    top = dtype((3e38 if dtype == np.float32 else 1.5e308) * random.choice([-1, 1]))
    return np.where(random.random(C) < 0.5, top, -np.abs(top))


def impossible(random, C, dtype):
    """Some classes that cannot be."""
    return np.where((random.random(C) < 0.4) & (np.arange(C) != C // 2), -np.inf, 3 * random.normal(size=C))


FAMILIES = (
    *(normal, equal, trained, within_50, wide, confident, confident, confident, two_ahead, near_ties, near_ties, ramp),
    *(small, log_probabilities, offset_1e4, at_the_shift, at_the_shift, huge, huge_ties, impossible),
)


def rows_of(C, dtype, seed=0, families=FAMILIES):
    """A row of each family."""
    each = enumerate(families)
    with np.errstate(over="ignore"):
        return np.array([family(np.random.default_rng([C, seed, n]), C, dtype) for n, family in each], dtype)


def masked(x, dtype):
    """A mask that leaves a class of finite logit in each row."""
    where = np.random.default_rng(x.shape[1]).random(x.shape) < 0.7
    where[np.arange(len(x)), np.argmax(np.isfinite(x), -1)] = True
    return where


def labels_of(x, where=None):
    """A class that is there: at random, the likeliest, or the least likely."""
    random = np.random.default_rng(x.shape[1])
    there = np.isfinite(x) if where is None else np.isfinite(x) & where
    picks = [np.where(there, random.random(x.shape), -1), np.where(there, x, -np.inf), np.where(there, -x, -np.inf)]
    return np.choose(np.arange(len(x)) % 3, [np.argmax(p, -1) for p in picks])


def soft_targets(x, dtype):
    """Weights of the classes, some 0, and 0 where the class cannot be."""
    random = np.random.default_rng(x.shape[1])
    t = random.dirichlet(np.full(x.shape[1], 0.3), len(x))
    t = np.where((random.random(x.shape) < 0.7) & np.isfinite(x), t, 0)
    t[::4] *= 3
    return t.astype(dtype)


# ---------------------------------------------------------------------------------------------------- references


def targets_of(loss, x, where, dtype):
    """(name, options, targets as given, and the same for every class, exactly)."""
    C, labels = x.shape[1], labels_of(x, where)
    yield "labels", {}, labels, soften(labels, C)
    if "temperature" in loss.parameters:
        yield "temperature", {"temperature": 0.7}, labels, soften(labels, C)
    for name in loss.own:
        for value in other_values_of(loss.parameters[name]):
            yield f"labels, {name}={value}", {name: value}, labels, soften(labels, C)
    if "label_smoothing" in loss.parameters:
        t = soften(labels, C, 0.1, where)
        if np.isfinite(x).all():
            yield "smoothed", {"label_smoothing": 0.1}, labels, t
    if loss.soft:
        t = soft_targets(np.where(where, x, -np.inf) if where is not None else x, dtype)
        yield "soft", {}, t, t


def slack_of(loss, rows, t, given, bound, dtype, options=None):
    """How far off value, gradient and Hessian may be where terms of them cancel."""
    if loss.of == "violations":
        return 0, 0, 0
    if loss.of == "truth":
        slopes, bends = profile_sizes(loss, loss.own_numbers(options), rows.a, rows.p, rows.q, t)
        grad = bound * spacing(slopes, dtype) if given == "soft" else 0
        return 0, grad, (bound + 1) * spacing(bends, dtype)
    if given in ("labels", "temperature") and loss.name != "quadratic_softmax_loss":
        return 0, 0, 0
    total = t.sum(-1, keepdims=True)
    if loss.name == "quadratic_softmax_loss":
        hard = given != "soft"
        miss = rows.p * (1 - t) - t * rows.q
        ones, twos = (np.abs(miss), np.abs(miss + rows.p)) if hard else (rows.p + t, 2 * rows.p + t)
        mean, mean_2 = ((rows.p * y).sum(-1, keepdims=True) for y in (ones, twos))
        grad = total * rows.p * (ones + mean)
        hess = total * rows.p * (rows.q * (ones + mean + rows.p) + rows.p * (twos + mean_2))
        value = total[..., 0] * (np.abs(miss) * (0 if hard else rows.p + t)).sum(-1)
        return tuple(bound * spacing(size, dtype) for size in (value, grad, hess))
    terms = rows.p * total, t
    widest = bound * spacing(np.maximum(*terms), dtype)  # A2
    cancelling = np.ldexp(sum(terms), -23 if dtype == np.float32 else -52)  # A14
    return 0, np.maximum(widest, cancelling), 0


@functools.cache
def cases(C, dtype):
    """The families' rows, all classes there and some masked, with their softmax state."""
    return with_a_mask(rows_of(C, dtype), dtype)


def with_a_mask(x, dtype):
    return Rows(x), Rows(x, masked(x, dtype))


class Worst:
    """The worst error of each output, and where it occurs; those beyond the bound are reported together."""

    def __init__(self, dtype):
        self.dtype, self.seen, self.broken = dtype, {}, {}

    def look(self, name, got, true, bound, rows, slack=0):
        off = ulps(got, true, self.dtype, slack)
        at = np.unravel_index(off.argmax(), off.shape)
        worst = float(off[at])
        self.seen[name] = max(self.seen.get(name, 0), worst)
        if worst > bound and worst > self.broken.get(name, (0,))[0]:
            x = rows.x[at[0]]
            shown = [float(v).hex() for v in x] if len(x) <= 8 else f"{len(x)} classes"
            text = f"{name}{[int(i) for i in at]} is {worst:.4g} ULP off (bound {bound}): {got[at]!r} for {true[at]!r};"
            self.broken[name] = worst, f"{text} row {shown}, masked: {rows.where is not None}"

    def report(self):
        assert not self.broken, "\n".join(text for _, text in self.broken.values())


def judge_loss(worst, variant, loss, each):
    """A loss's value, gradient and Hessian."""
    dtype, bound = worst.dtype, variant.ulp(loss)
    for rows in each:
        for given, options, targets, t in targets_of(loss, rows.x, rows.where, dtype):
            state = Rows(rows.x, rows.where, options["temperature"]) if "temperature" in options else rows
            true = state.loss(loss, t, options)
            T = Extended(options.get("temperature", 1))
            mask = {} if rows.where is None else {"where": rows.where}
            value, grad = loss.value_and_grad(rows.x, targets, reduction="none", **mask, **options)
            slack = slack_of(loss, state, t, given, bound, dtype, options)
            worst.look(f"{given} value", value, true[0], bound, rows, slack[0])
            worst.look(f"{given} grad", grad, true[1] / T, bound, rows, slack[1] / T)
            if "hess" in loss.outputs:
                hess = loss.grad_and_hess(rows.x, targets, reduction="none", **mask, **options)[1]
                worst.look(f"{given} hess", hess, true[2] / T**2, variant.ulp(loss, "hess"), rows, slack[2] / T**2)


def judge_function(worst, variant, function, each):
    dtype, bound = worst.dtype, variant.ulp(function)
    for rows in each:
        mask = {} if rows.where is None else {"where": rows.where}
        got, true, slack = function(rows.x, **mask), rows.function(function), 0
        if function.outputs[0] == "lse":  # A7
            size = np.abs(np.where(np.isfinite(rows.logits), rows.logits, 0)).max(-1)
            slack = 2.0**-22 if dtype == np.float32 else np.ldexp(np.maximum(1, size), -50)
        worst.look("value", got, true, bound, rows, slack)


def judge(worst, variant, loss, each):
    (judge_function if loss in FUNCTIONS else judge_loss)(worst, variant, loss, each)


def classes_for(variant, loss=lf.cross_entropy):
    """Every number of classes on the best variant, for what all share with cross-entropy; else a few of each kind."""
    every = loss in (lf.cross_entropy, *FUNCTIONS) or os.environ.get("LOSSFAST_TEST_EVERY")
    if variant == VARIANTS[0] and every:
        return CLASSES
    return (*CLASSES[:9], *CLASSES[11:-2:6], 191, 192, 193, 194, 1001)


@each_dtype
@each_row
def test_within_the_bounds(variant, loss, dtype):
    """A2, A3, A5, A7 and A14."""
    worst = Worst(dtype)
    with variant.chosen():
        for C in classes_for(variant, loss):
            judge(worst, variant, loss, cases(C, dtype))
    worst.report()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@each_dtype
@each_row
def test_many_rows_and_many_classes_within_the_bounds(variant, loss, dtype):
    worst = Worst(dtype)
    with variant.chosen():
        for C, seed in itertools.product(CLASSES, range(1, 6)):
            judge(worst, variant, loss, with_a_mask(rows_of(C, dtype, seed), dtype))
        for C, family in itertools.product(MANY, dict.fromkeys(FAMILIES)):
            judge(worst, variant, loss, with_a_mask(rows_of(C, dtype, families=[family]), dtype))
    worst.report()


@each_dtype
@pytest.mark.parametrize("C", [2, 3, 200])
@pytest.mark.parametrize("loss", SOFTMAX_LOSSES, ids=lambda loss: loss.name)
def test_losses_down_to_subnormals(variant, loss, C, dtype):
    """A3, on gaps from nothing to where the loss is 0, as right as they come and as wrong."""
    x = np.zeros((3001 if C < 10 else 601, C), dtype)
    x[:, C // 2] = np.linspace(0, 112 if dtype == np.float32 else 752, len(x))
    rows, worst = Rows(x), Worst(dtype)
    assert 0 < rows.loss(loss, soften(np.full(len(x), C // 2), C))[0].min() < np.finfo(dtype).smallest_subnormal
    with variant.chosen():
        for label in (C // 2, 0):
            labels, bound = np.full(len(x), label), variant.ulp(loss)
            t = soften(labels, C)
            true, slack = rows.loss(loss, t), slack_of(loss, rows, t, "labels", bound, dtype)
            value, grad = loss.value_and_grad(x, labels, reduction="none")
            worst.look(f"value at {label}", value, true[0], bound, rows, slack[0])
            worst.look(f"grad at {label}", grad, true[1], bound, rows, slack[1])
    worst.report()


# --------------------------------------------------------------------------------------------------- properties


def integer_labels(C, dtype):
    """(rows, options, labels) of both cases."""
    for rows in cases(C, dtype):
        yield rows, {} if rows.where is None else {"where": rows.where}, labels_of(rows.x, rows.where)


@each_dtype
def test_signs(variant, dtype):
    """A13: with integer labels nothing is on the wrong side of 0, and probabilities are such."""
    with variant.chosen():
        for C in classes_for(variant):
            for rows, options, labels in integer_labels(C, dtype):
                value, grad = lf.cross_entropy.value_and_grad(rows.x, labels, reduction="none", **options)
                true = np.arange(C) == labels[:, None]
                assert (value >= 0).all() and not np.signbit(value).any(), C
                assert (np.where(true, -grad, grad) >= 0).all(), C
                p = lf.softmax(rows.x, **options)
                assert ((p >= 0) & (p <= 1)).all(), (C, p.max())


@each_dtype
def test_gradient_rows_sum_to_0(variant, dtype):
    """A4: but for the rounding of their entries."""
    with variant.chosen():
        for C in classes_for(variant):
            for rows, options, labels in integer_labels(C, dtype):
                grad = lf.cross_entropy.grad(rows.x, labels, reduction="none", **options)
                room = variant.ulp(lf.cross_entropy) * spacing(grad, dtype).sum(-1)
                assert (np.abs(grad.astype(Extended).sum(-1)) <= room).all(), C


@each_dtype
@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss.soft], ids=lambda loss: loss.name)
def test_one_hot_targets_are_labels(compiled, loss, dtype):
    """A9: to the bit."""
    with compiled.chosen():
        for C in CLASSES:
            for rows, options, labels in integer_labels(C, dtype):
                one_hot = (np.arange(C) == labels[:, None]).astype(dtype)
                for settings in ({}, *({name: 0.3} for name in loss.parameters)):
                    every = {**options, **settings}
                    hard, soft = (every_result(loss, rows.x, targets, every) for targets in (labels, one_hot))
                    assert hard == soft, (C, every)


def every_result(loss, x, targets, options):
    """Value, gradient, Hessian and mean, as bytes."""
    value, grad = loss.value_and_grad(x, targets, reduction="none", **options)
    hess = loss.grad_and_hess(x, targets, reduction="none", **options)[1] if "hess" in loss.outputs else grad
    return [np.asarray(y).tobytes() for y in (value, grad, hess, loss(x, targets, **options))]


@pytest.mark.parametrize("half", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
@each_row
def test_half_types_are_rounded_once(compiled, loss, half):
    """Losses are those of float32, and entries those of float32 rounded."""
    with compiled.chosen(), np.errstate(over="ignore"):
        for C in (*CLASSES[:20], 192, 193, 1000):
            x = rows_of(C, np.float32).astype(half)
            x = x[np.isfinite(x.astype(np.float32).max(-1))]
            wide = x.astype(np.float32)
            if loss in FUNCTIONS:
                got, expected = [loss(x)], [loss(wide)]
                expected[0] = expected[0].astype(got[0].dtype)
                assert got[0].dtype == (np.float32 if loss.outputs[0] == "lse" else half)
            else:
                labels = labels_of(wide)
                got = [*loss.value_and_grad(x, labels, reduction="none")]
                value, grad = loss.value_and_grad(wide, labels, reduction="none")
                expected = [value, grad.astype(half)]
            for a, b in zip(got, expected, strict=True):
                assert a.dtype == b.dtype and a.tobytes() == b.tobytes(), C


# ------------------------------------------------------------------------------- the caller's floating-point state


class FloatingState:
    """The processor's control register, by way of the C library's fenv_t: where it stands there, and its settings."""

    REGISTERS = {
        "x86_64": (28, {"upward": 0x4000, "downward": 0x2000, "toward zero": 0x6000, "subnormals flushed": 0x8040}),
        "aarch64": (0, {"upward": 1 << 22, "downward": 2 << 22, "toward zero": 3 << 22, "subnormals flushed": 1 << 24}),
    }

    def __init__(self):
        self.library = ctypes.CDLL(None)
        self.offset, self.settings = self.REGISTERS[platform.machine()]
        self.mask = sum(set(self.settings.values()))

    def environment(self):
        kept = ctypes.create_string_buffer(256)
        assert self.library.fegetenv(kept) == 0
        return kept, ctypes.c_uint32.from_buffer(kept, self.offset)

    def get(self):
        return self.environment()[1].value & 0xFFC0 if self.offset else self.environment()[1].value

    def set(self, bits):
        kept, register = self.environment()
        register.value |= bits
        assert self.library.fesetenv(kept) == 0

    def restore(self, kept):
        assert self.library.fesetenv(kept) == 0


has_fenv = pytest.mark.skipif(
    platform.machine() not in FloatingState.REGISTERS or platform.libc_ver()[0] != "glibc",
    reason="the layout of fenv_t is not known here",
)


@functools.cache  # made in the ordinary state
def state_sample(loss, dtype):
    """Operands with subnormals among them, enough for threads, and inexact weights."""
    x = np.tile(rows_of(7, dtype)[:12], (2000, 1))
    x[::5] *= np.finfo(dtype).tiny
    weight = np.tile(np.linspace(0.1, 0.9, 24), len(x) // 24)
    if loss.kind in ("function", "row_function"):
        return (x,), {}
    labelled = loss.kind == "rowwise" and loss.labelled
    target = labels_of(x) if labelled else np.abs(x[:, ::-1])
    if loss.kind == "pointwise":
        x, target = within(loss, x, target)
    return (x, target), {"sample_weight": weight}


def state_run(loss, dtype, n_threads):
    """Every kind of result, by name, as bytes."""
    operands, options = state_sample(loss, dtype)
    if loss.kind in ("function", "row_function"):
        return {"result": loss(*operands, n_threads=n_threads).tobytes()}
    whole = loss.reduce(*operands, n_threads=n_threads, **options)
    results = {"sum": whole.sum, "weight": whole.weight}  # `mean` is a division of Python's, when it is asked for
    for reduction in ("none", "mean"):
        both = loss.value_and_grad(*operands, reduction=reduction, n_threads=n_threads, **options)
        results.update({f"value, {reduction}": both[0], f"gradient, {reduction}": both[1]})
    return {name: np.asarray(result).tobytes() for name, result in results.items()}


@has_fenv
@each_dtype
@pytest.mark.parametrize("setting", ["upward", "downward", "toward zero", "subnormals flushed"])
def test_the_callers_floating_point_state(compiled, dtype, setting):
    """A12: no bit depends on it, and it is left as it was found, whatever threads there are."""
    state, different = FloatingState(), []
    with compiled.chosen():
        usual = {name: state_run(loss, dtype, 1) for name, loss in SINGLE.items()}
        for loss, n_threads in itertools.product(SINGLE.values(), (1, 2)):
            expected = usual[loss.name]
            kept, _ = state.environment()
            state.set(state.settings[setting])
            before = state.get()
            try:
                got = state_run(loss, dtype, n_threads)
                after = state.get()
            finally:
                state.restore(kept)
            assert after == before != state.get()
            different += [f"{loss.name}: {name}" for name in expected if got[name] != expected[name]]
    assert not different


# ------------------------------------------------------------------------------------------------- the reference


def exact_state(rows, n, T):
    """p, 1 - p and -log p of a row in arbitrary precision."""
    x = [exact(v) / exact(T) for v in rows.x[n]]
    here = [c for c, v in enumerate(x) if v != -mp.inf and (rows.where is None or rows.where[n, c])]
    top = max(x[c] for c in here)
    e = [mp.exp(v - top) if c in here else mp.mpf(0) for c, v in enumerate(x)]
    S = mp.fsum(e)
    first = max(here, key=lambda c: x[c])
    rest = mp.fsum(v for c, v in enumerate(e) if c != first)
    q = [mp.fsum(v for j, v in enumerate(e) if j != c) / S for c in range(len(x))]
    a = [mp.log1p(rest) + (top - v) if c in here else mp.inf for c, v in enumerate(x)]
    return [v / S for v in e], q, a


@pytest.mark.parametrize("T", [1.0, 0.7])
def test_the_reference(T):
    """It is right to a few thousandths of a unit in float64's last place, on every family."""
    for C in (1, 2, 3, 7, 19):
        for plain in cases(C, np.float64):
            rows = Rows(plain.x, plain.where, T)
            states = [exact_state(rows, n, T) for n in range(len(rows.x))]
            for name, found, true in zip("pqa", (rows.p, rows.q, rows.a), zip(*states, strict=True), strict=True):
                right = np.array([[as_extended(v) for v in row] for row in true])
                found = np.where(found > np.finfo(np.float64).max, np.inf, found)
                assert ulps(found, right, np.float64).max() < 0.004, (name, C)
