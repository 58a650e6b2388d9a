"""The losses between embeddings: their values and gradients, policies, memory, threads and errors.

References are dense: NumPy's with the whole matrix of similarities, and mpmath's, whose gradients are differences of
values to 120 digits.
"""

import copy
import inspect
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import tracemalloc

import ml_dtypes
import mpmath
import numpy as np
import pytest

import lossfast as lf
from lossfast import _loss, _similarities

mp = mpmath.mp.clone()
mp.dps = 120

RANDOM = np.random.default_rng(7)
BATCH = (lf.supcon_loss, lf.info_nce_loss)
ROWS = (lf.triplet_margin_loss, lf.cosine_embedding_loss, lf.contrastive_loss)
EVERY = BATCH + ROWS
FORMS = ("nt_xent", "clip", "cpc")
each = pytest.mark.parametrize("loss", EVERY, ids=lambda loss: loss.name)
each_of_rows = pytest.mark.parametrize("loss", ROWS, ids=lambda loss: loss.name)
each_of_batches = pytest.mark.parametrize("loss", BATCH, ids=lambda loss: loss.name)


def operands(loss, n=12, d=5, dtype=np.float64, random=None):
    """Ordinary arguments."""
    random = random or np.random.default_rng(3)
    vectors = [random.normal(size=(n, d)).astype(dtype) for _ in loss.differentiable]
    if loss is lf.supcon_loss:
        return vectors[0], random.integers(0, 3, n)
    if loss is lf.cosine_embedding_loss:
        return *vectors, random.choice([-1, 1], n)
    if loss is lf.contrastive_loss:
        return *vectors, random.integers(0, 2, n)
    return tuple(vectors)


def parts(gradient):
    """The arrays of a gradient, whether of one argument or of several."""
    return gradient if isinstance(gradient, tuple) else (gradient,)


def bits(results):
    value, gradient = results
    return np.asarray(value).tobytes(), *(part.tobytes() for part in parts(gradient))


# -------------------------------------------------------------------------------------------------------- references


def exact_rows(array):
    return [[mp.mpf(float(x)) for x in row] for row in array]


def dot(u, v):
    return mp.fsum(a * b for a, b in zip(u, v, strict=True))


def exact_unit(v):
    length = mp.sqrt(dot(v, v))
    return [x / length for x in v] if length else v


def exact_distance(u, v, p=2, eps=0):
    d = [abs(a - b + mp.mpf(eps)) for a, b in zip(u, v, strict=True)]
    if p == np.inf:
        return max(d)
    return mp.fsum(x**p for x in d) ** (1 / mp.mpf(p))


def exact_triplet(a, p, n, margin=1.0, pw=2.0, eps=1e-6, swap=False):
    far = exact_distance(a, n, pw, eps)
    if swap:
        far = min(far, exact_distance(p, n, pw, eps))
    return max(mp.mpf(0), exact_distance(a, p, pw, eps) - far + mp.mpf(margin))


def exact_cosine(x, y, target, margin=0.0):
    cosine = dot(exact_unit(x), exact_unit(y))
    return 1 - cosine if target == 1 else max(mp.mpf(0), cosine - mp.mpf(margin))


def exact_contrastive(x, y, target, margin=1.0):
    d = exact_distance(x, y)
    return max(mp.mpf(0), mp.mpf(margin) - d) ** 2 / 2 if target else d**2 / 2


def exact_supcon(z, labels, temperature=0.1, normalize=True):
    """The losses; 0 without a positive."""
    z = [exact_unit(v) for v in z] if normalize else z
    n, tau = len(z), mp.mpf(temperature)
    losses = []
    for i in range(n):
        s = {j: dot(z[i], z[j]) / tau for j in range(n) if j != i}
        positives = [j for j in s if labels[j] == labels[i]]
        total = mp.fsum(mp.exp(x) for x in s.values())
        losses.append(mp.fsum(mp.log(total) - s[j] for j in positives) / max(1, len(positives)))
    return losses


def exact_info_nce(z1, z2, temperature=0.1, form="nt_xent", normalize=True):
    n = len(z1)
    if form == "nt_xent":
        losses = exact_supcon([*z1, *z2], [*range(n), *range(n)], temperature, normalize)
        return [(a + b) / 2 for a, b in zip(losses[:n], losses[n:], strict=True)]
    if normalize:
        z1, z2 = ([exact_unit(v) for v in z] for z in (z1, z2))
    s = [[dot(u, v) / mp.mpf(temperature) for v in z2] for u in z1]

    def of(matrix):
        return [mp.log(mp.fsum(mp.exp(x) for x in row)) - row[i] for i, row in enumerate(matrix)]

    rows, columns = of(s), of([list(column) for column in zip(*s, strict=True)])
    return rows if form == "cpc" else [(a + b) / 2 for a, b in zip(rows, columns, strict=True)]


def exact_gradient(value, arrays):
    """The gradient of a function of lists of rows, by central differences."""
    step = mp.mpf(10) ** -35
    gradients = []
    for array in arrays:
        gradient = np.empty((len(array), len(array[0])), object)
        for row, at in itertools.product(range(len(array)), range(len(array[0]))):
            kept, sides = array[row][at], []
            for side in (step, -step):
                array[row][at] = kept + side
                sides.append(value(*arrays))
            array[row][at] = kept
            gradient[row, at] = (sides[0] - sides[1]) / (2 * step)
        gradients.append(gradient)
    return gradients


def worst(got, exact, terms):
    """The largest error, in epsilons of got's dtype relative to the terms."""
    eps = float(np.finfo(np.asarray(got).dtype).eps)
    errors = [abs(mp.mpf(float(a)) - b) for a, b in zip(np.ravel(got), np.ravel(exact), strict=True)]
    return max(
        float(error / terms) / eps for error, terms in zip(errors, np.broadcast_to(terms, len(errors)), strict=True)
    )


def dense(z, positive, temperature, normalize=True, other=None, weight=None):
    """Losses, and the gradient of their weighted sum, with the whole matrix; ``positive``: a boolean matrix."""

    def unit(a):
        length = np.sqrt((a * a).sum(1, keepdims=True))
        return (a / length, length) if normalize else (a, np.ones_like(length))

    a, length_a = unit(z.astype(float))
    b, length_b = (a, length_a) if other is None else unit(other.astype(float))
    s = a @ b.T / temperature
    if other is None:
        np.fill_diagonal(s, -np.inf)
    top = np.maximum(s.max(1, keepdims=True), -1e300)
    e = np.exp(s - top)
    p = e / np.maximum(e.sum(1, keepdims=True), 1e-300)
    count = positive.sum(1)
    lse = (top + np.log(np.maximum(e.sum(1, keepdims=True), 1e-300)))[:, 0]
    mean = np.where(positive, s, 0.0).sum(1) / np.maximum(count, 1)
    losses = np.where(count > 0, lse - mean, 0.0)
    u = np.where(count > 0, 1.0 if weight is None else weight, 0.0)[:, None]
    slope = u * (p - positive / np.maximum(count, 1)[:, None]) / temperature

    def through(g, unit_, length):
        return (g - (g * unit_).sum(1, keepdims=True) * unit_) / length if normalize else g

    if other is None:
        return losses, through((slope + slope.T) @ a, a, length_a)
    return losses, through(slope @ b, a, length_a), through(slope.T @ a, b, length_b)


def dense_supcon(z, labels, temperature, normalize=True, weight=None):
    positive = (labels[:, None] == labels) & ~np.eye(len(z), dtype=bool)
    return dense(z, positive, temperature, normalize, weight=weight)


def dense_info_nce(z1, z2, temperature, form, normalize=True, weight=None):
    n = len(z1)
    weight = np.ones(n) if weight is None else weight
    if form == "nt_xent":
        losses, g = dense_supcon(
            np.concatenate((z1, z2)), np.tile(np.arange(n), 2), temperature, normalize, np.tile(weight / 2, 2)
        )
        return (losses[:n] + losses[n:]) / 2, g[:n], g[n:]
    positive = np.eye(n, dtype=bool)
    if form == "cpc":
        return dense(z1, positive, temperature, normalize, z2, weight)
    one, two = (
        dense(*pair, weight / 2)
        for pair in ((z1, positive, temperature, normalize, z2), (z2, positive, temperature, normalize, z1))
    )
    return (one[0] + two[0]) / 2, one[1] + two[2], one[2] + two[1]


# ----------------------------------------------------------------------------------------------------------- objects


@each
def test_objects_are_found_described_and_pickled_by_name(loss):
    assert loss.name in lf.losses() and lf.get_loss(loss.name) is loss and getattr(lf, loss.name) is loss
    assert loss.name in lf.__all__ and repr(loss) == f"lossfast.{loss.name}"
    assert loss.kind == "embedding" and loss.group == "embeddings"
    for copied in (pickle.loads(pickle.dumps(loss)), copy.copy(loss), copy.deepcopy(loss)):
        assert copied is loss
    assert pickle.loads(pickle.dumps(loss.grad)).__self__ is loss
    bound = loss.bind(reduction="sum")
    assert repr(pickle.loads(pickle.dumps(bound))) == f"lossfast.{loss.name}.bind(reduction='sum')"
    given = operands(loss)
    assert bound(*given) == loss(*given, reduction="sum") == bound.reduce(*given).sum


@each
def test_signatures_show_the_real_arguments(loss):
    for name in ("__call__", "grad", "value_and_grad", "reduce"):
        signature = inspect.signature(loss if name == "__call__" else getattr(loss, name))
        names = list(signature.parameters)
        assert tuple(names[: len(loss.operands)]) == loss.operands
        assert {p.kind for p in signature.parameters.values()} == {
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.KEYWORD_ONLY,
        }
        for parameter, declared in loss.parameters.items():
            assert signature.parameters[parameter].default == declared.default
        assert ("reduction" in names) == (name != "reduce")
    assert not hasattr(loss, "hvp") and not hasattr(loss, "grad_and_hess")


def test_what_goes_through_kernels_leaves_them_out():
    others = {name for name in lf.losses() if lf.get_loss(name).kind == "pointwise_of_two"}
    assert set(lf.losses()) - set(_loss.looped()) == {loss.name for loss in EVERY} | others


@each
def test_gradients_are_named_tuples_in_the_order_of_the_arguments(loss):
    given = operands(loss)
    value, gradient = loss.value_and_grad(*given)
    assert isinstance(value, float) and value == loss(*given)
    if len(loss.differentiable) == 1:
        assert type(gradient) is np.ndarray
        return
    assert gradient._fields == loss.differentiable == loss.operands[: len(gradient)]
    again = pickle.loads(pickle.dumps(gradient))
    assert type(again) is type(gradient)
    for kept, part, x in zip(again, gradient, given, strict=False):
        assert part.shape == x.shape and part.dtype == x.dtype and np.array_equal(kept, part)
    assert bits((value, loss.grad(*given))) == bits((value, gradient))


# ---------------------------------------------------------------------------------------------------------- accuracy

#: Of a loss of each row: options, and the function of one row.
CASES = {
    lf.triplet_margin_loss: [
        {"p": p, "swap": swap, "margin": 1.5, **eps}
        for p in (1.0, 2.0, 3.0, 1.5, np.inf)
        for swap in (False, True)
        for eps in ({}, {"eps": 0.0})
    ],
    lf.cosine_embedding_loss: [{"margin": margin} for margin in (0.0, 0.3, -0.5)],
    lf.contrastive_loss: [{"margin": margin} for margin in (1.0, 4.0)],
}


def exact_row(loss, options):
    if loss is lf.triplet_margin_loss:
        renamed = {"pw" if name == "p" else name: value for name, value in options.items()}
        return lambda a, p, n: exact_triplet(a, p, n, **renamed)
    of = exact_cosine if loss is lf.cosine_embedding_loss else exact_contrastive
    return lambda x, y, target: of(x, y, target, **options)


@each_of_rows
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_losses_of_rows_against_exact_arithmetic(loss, dtype):
    """Within the published bound of the terms: distances and the margin, or a cosine; a unit vector for a gradient."""
    random = np.random.default_rng(11)
    largest = 0.0
    for options, d in itertools.product(CASES[loss], (1, 3, 16)):
        given = operands(loss, 4, d, dtype, random)
        count = len(loss.differentiable)
        rows, others = [exact_rows(a) for a in given[:count]], [a.tolist() for a in given[count:]]
        of = exact_row(loss, options)

        values, gradients = [], [[] for _ in rows]
        for *vectors, rest in zip(*rows, zip(*others, strict=True) if others else itertools.repeat(()), strict=False):
            values.append(of(*vectors, *rest))
            slopes = exact_gradient(lambda *a, of=of, rest=rest: of(*(x for [x] in a), *rest), [[v] for v in vectors])
            for gradient, slope in zip(gradients, slopes, strict=True):
                gradient.append(slope[0])
        losses, found = loss.value_and_grad(*given, reduction="none", **options)
        lengths = [np.sqrt((a.astype(float) ** 2).sum(1)) for a in given[:count]]
        if loss is lf.cosine_embedding_loss:
            terms, slopes = 1.0, [np.repeat(1 / length, d) for length in lengths]
        else:
            distance = np.maximum(sum(lengths), options["margin"])
            terms = distance ** (2 if loss is lf.contrastive_loss else 1)
            slopes = [1.0 if loss is lf.triplet_margin_loss else np.repeat(distance, d)] * count
        assert losses.dtype == (np.float64 if dtype is np.float64 else np.float32)
        largest = max(largest, worst(losses, values, terms))
        for got, exact, slope in zip(found, gradients, slopes, strict=True):
            assert got.dtype == dtype
            largest = max(largest, worst(got, exact, slope))
    print(f"{loss.name} {np.dtype(dtype)}: {largest:.2f}")
    assert largest <= (loss.ulp if dtype is np.float64 else 1.0)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_losses_of_batches_against_exact_arithmetic(dtype, normalize, temperature):
    random = np.random.default_rng(5)
    largest = 0.0
    for n, d in ((2, 3), (5, 2), (7, 4)):
        labels = random.integers(0, 3, n)
        z1, z2 = (random.normal(size=(n, d)).astype(dtype) for _ in range(2))
        if not normalize:
            z1, z2 = z1 / 2, z2 / 2
        cases = [(lf.supcon_loss, (z1,), {}, lambda z, labels=labels: exact_supcon(z, labels, temperature, normalize))]
        cases += [
            (
                lf.info_nce_loss,
                (z1, z2),
                {"form": form},
                lambda *z, form=form: exact_info_nce(*z, temperature, form, normalize),
            )
            for form in FORMS
        ]
        for loss, vectors, options, of in cases:
            options = {**options, "temperature": temperature, "normalize": normalize, "reduction": "none"}
            rows = [exact_rows(z) for z in vectors]
            exact, gradients = of(*rows), exact_gradient(lambda *z, of=of: mp.fsum(of(*z)), rows)
            given = (*vectors, labels) if loss is lf.supcon_loss else vectors
            losses, found = loss.value_and_grad(*given, **options)
            lengths = [np.sqrt((z.astype(float) ** 2).sum(1)) for z in vectors]
            longest = 1.0 if normalize else max(length.max() for length in lengths)
            largest = max(largest, worst(losses, exact, 1 + longest**2 / temperature))
            for got, right, length in zip(parts(found), gradients, lengths, strict=True):
                slope = longest / temperature / np.repeat(length if normalize else 1.0, d if normalize else n * d)
                largest = max(largest, worst(got, right, 2 * slope))
    print(f"{np.dtype(dtype)} normalize={normalize} temperature={temperature}: {largest:.2f}")
    assert largest <= lf.supcon_loss.ulp == lf.info_nce_loss.ulp


def test_small_losses_keep_their_digits():
    """As cross-entropy's do: from the others' sum, not from a difference of logarithms near each other."""
    z1 = np.eye(4)[:, :3] + 0.0
    z1[3] = -1.0
    z2 = z1 + 1e-3
    for form, temperature in itertools.product(FORMS, (0.05, 0.01)):
        of = [exact_rows(z1), exact_rows(z2)]
        exact = exact_info_nce(*of, temperature, form)
        losses = lf.info_nce_loss(z1, z2, form=form, temperature=temperature, reduction="none")
        gradients = exact_gradient(lambda *z: mp.fsum(exact_info_nce(*z, temperature, form)), of)  # noqa: B023
        found = lf.info_nce_loss.grad(z1, z2, form=form, temperature=temperature, reduction="none")
        for a, b in zip(losses, exact, strict=True):
            assert 0 < b < 1e-7 and abs(mp.mpf(float(a)) - b) <= 1e-12 * b
        for a, b in zip(found, gradients, strict=True):
            scale = max(abs(x) for x in b.ravel())
            assert all(abs(mp.mpf(float(x)) - y) <= 1e-12 * scale for x, y in zip(a.ravel(), b.ravel(), strict=True))
    labels = np.array([0, 1, 2, 3, 0, 1, 2, 3])
    both = np.concatenate((z1, z2))
    exact = exact_supcon(exact_rows(both), labels, 0.01)
    losses = lf.supcon_loss(both, labels, temperature=0.01, reduction="none")
    assert all(0 < b < 1e-30 and abs(mp.mpf(float(a)) - b) <= 1e-12 * b for a, b in zip(losses, exact, strict=True))


def test_rows_that_are_nearly_parallel_keep_their_digits():
    random = np.random.default_rng(0)
    x = random.normal(size=(20, 6)).astype(np.float32)
    y = (x * (1 + 1e-5 * random.normal(size=x.shape))).astype(np.float32)
    losses, grad = lf.cosine_embedding_loss.value_and_grad(x, y, 1, reduction="none")
    of = [exact_rows(x), exact_rows(y)]
    exact = [exact_cosine(a, b, 1) for a, b in zip(*of, strict=True)]
    assert max(exact) < 1e-8
    assert worst(losses, exact, exact) <= 1
    right = exact_gradient(lambda a, b: mp.fsum(exact_cosine(*row, 1) for row in zip(a, b, strict=True)), of)
    for a, b in zip(grad, right, strict=True):
        assert worst(a, b, [max(abs(x) for x in b[row]) for row in range(len(b)) for _ in b[row]]) <= 1


@pytest.mark.parametrize("n", [1, 2, 3, 7, 1300])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_batches_of_several_tiles_against_the_whole_matrix(n, dtype):
    """With maxima (low temperatures) and without, with few classes, with pairs and with lonely labels."""
    random = np.random.default_rng(n)
    tolerance = 1e-12 if dtype is np.float64 else 3e-5
    z, other = (random.normal(size=(n, 16)).astype(dtype) for _ in range(2))
    weight = random.random(n)
    for temperature, normalize in itertools.product((0.07, 0.01), (True, False)):
        options = {"temperature": temperature, "normalize": normalize, "sample_weight": weight}
        a, b = (z, other) if normalize else (z / 4, other / 4)
        for classes in (3, max(2, n // 2)):
            labels = random.integers(0, classes, n)
            losses, right = dense_supcon(a, labels, temperature, normalize, weight)
            found, gradient = lf.supcon_loss.value_and_grad(a, labels, reduction="none", **options)
            np.testing.assert_allclose(found, weight * losses, rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(gradient, right, rtol=0, atol=tolerance * max(abs(right).max(), 1e-300))
            if dtype is np.float32 and normalize and temperature == 0.07:
                length = np.linalg.norm(a.astype(float), axis=1, keepdims=True)
                bound = lf.supcon_loss.ulp * float(np.finfo(dtype).eps)
                assert (abs(found - weight * losses) <= bound * (1 + 1 / temperature)).all()
                assert (abs(gradient - right) * length <= bound * 2 / temperature).all()
        for form in FORMS:
            losses, *rights = dense_info_nce(a, b, temperature, form, normalize, weight)
            found, gradients = lf.info_nce_loss.value_and_grad(a, b, form=form, reduction="none", **options)
            np.testing.assert_allclose(found, weight * losses, rtol=tolerance, atol=tolerance * 100)
            for gradient, right in zip(gradients, rights, strict=True):
                atol = tolerance * max(abs(right).max(), 1e-6 / temperature)
                np.testing.assert_allclose(gradient, right, rtol=0, atol=atol)


@pytest.mark.parametrize("n", range(1, 12))
def test_tiles_of_any_number(monkeypatch, n):
    monkeypatch.setattr(_similarities, "TILE", 2)
    random = np.random.default_rng(n)
    z, other, labels = random.normal(size=(n, 3)), random.normal(size=(n, 3)), random.integers(0, 3, n)
    for temperature in (0.5, 1e-3):
        losses, right = dense_supcon(z, labels, temperature)
        found, gradient = lf.supcon_loss.value_and_grad(z, labels, temperature=temperature, reduction="none")
        np.testing.assert_allclose(found, losses, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(gradient, right, rtol=0, atol=1e-10 / temperature)
        for form in FORMS:
            losses, *rights = dense_info_nce(z, other, temperature, form)
            found, gradients = lf.info_nce_loss.value_and_grad(
                z, other, form=form, temperature=temperature, reduction="none"
            )
            np.testing.assert_allclose(found, losses, rtol=1e-10, atol=1e-10)
            for gradient, right in zip(gradients, rights, strict=True):
                np.testing.assert_allclose(gradient, right, rtol=0, atol=1e-10 / temperature)


@pytest.mark.parametrize("n", range(10))
def test_every_pair_of_blocks_meets_once_and_none_twice_in_a_round(n):
    for own in (True, False):
        met = []
        for pairs in _similarities.rounds(n, own):
            met += pairs
            if own:
                blocks = [block for i, j in pairs for block in {i, j}]
                assert len(blocks) == len(set(blocks))
            else:
                assert all(len(set(side)) == len(pairs) for side in zip(*pairs, strict=True))
        everyone = (
            itertools.combinations_with_replacement(range(n), 2) if own else itertools.product(range(n), repeat=2)
        )
        assert sorted(met) == list(everyone)


def test_torch_agrees():
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    random = np.random.default_rng(0)

    def compare(loss, given, other, tolerance, **options):
        tensors = [torch.tensor(x, requires_grad=x.dtype == float) for x in given]
        for reduction in ("mean", "sum"):
            for tensor in tensors:
                tensor.grad = None
            right = other(*tensors, reduction=reduction, **options)
            right.backward()
            value, gradient = loss.value_and_grad(*given, reduction=reduction, **options)
            assert value == pytest.approx(right.item(), rel=tolerance)
            for part, tensor in zip(gradient, tensors, strict=False):
                np.testing.assert_allclose(part, tensor.grad.numpy(), rtol=0, atol=tolerance * abs(part).max())

    given = [random.normal(size=(60, 9)) for _ in range(3)]
    given[1][:5] = given[0][:5]  # distances of 0, to which torch adds eps
    for p, swap, margin in itertools.product((1.0, 2.0, 3.5, np.inf), (False, True), (0.5, 2.0)):
        compare(lf.triplet_margin_loss, given, F.triplet_margin_loss, 1e-13, p=p, swap=swap, margin=margin)
    target = random.choice([-1, 1], 60)
    for margin in (0.0, 0.25):
        compare(lf.cosine_embedding_loss, (*given[:2], target), F.cosine_embedding_loss, 1e-11, margin=margin)


def test_known_forms_of_info_nce():
    z1, z2 = (RANDOM.normal(size=(9, 4)) for _ in range(2))
    u, v = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (z1, z2))
    scores, labels = u @ v.T / 0.2, np.arange(9)
    rows, columns = lf.cross_entropy(scores, labels), lf.cross_entropy(scores.T, labels)
    assert lf.info_nce_loss(z1, z2, temperature=0.2, form="cpc") == pytest.approx(rows, rel=1e-13)
    assert lf.info_nce_loss(z1, z2, temperature=0.2, form="clip") == pytest.approx((rows + columns) / 2, rel=1e-13)
    both = lf.supcon_loss(np.concatenate((z1, z2)), np.tile(labels, 2), temperature=0.2)
    assert lf.info_nce_loss(z1, z2, temperature=0.2) == pytest.approx(both, rel=1e-13)
    assert lf.info_nce_loss(u, v, normalize=False) == pytest.approx(lf.info_nce_loss(z1, z2), rel=1e-13)


# -------------------------------------------------------------------------------------------- policies and reductions


def test_embeddings_without_a_positive():
    z, labels = RANDOM.normal(size=(6, 3)), np.array([5, 5, -2, 7, 7, 7])
    losses, right = dense_supcon(z, labels, 0.1)
    for policy, count in (("skip", 5), ("zero", 6)):
        value, grad = lf.supcon_loss.value_and_grad(z, labels, no_positive=policy)
        assert value == pytest.approx(losses.sum() / count, rel=1e-13)
        np.testing.assert_allclose(grad, right / count, atol=1e-12)
        assert grad[2].any(), "the others are compared with it"
        assert lf.supcon_loss(z, labels, no_positive=policy, reduction="none")[2] == 0
        assert lf.supcon_loss.reduce(z, labels, no_positive=policy).count == count
    out = np.full_like(z, 3.0)
    with pytest.raises(ValueError, match=r"label -2 at 2 has no positive: .* \(1 such labels"):
        lf.supcon_loss.grad(z, labels, no_positive="raise", out=out)
    assert (out == 3).all()
    lf.supcon_loss(z[:2], labels[:2], no_positive="raise")
    with pytest.raises(ValueError, match="no_positive must be one of 'skip', 'zero', 'raise', got 'drop'"):
        lf.supcon_loss(z, labels, no_positive="drop")


@pytest.mark.parametrize("labels", [[0, 1, 2], [0], []])
def test_nothing_that_counts(labels):
    z = RANDOM.normal(size=(len(labels), 4))
    value, grad = lf.supcon_loss.value_and_grad(z, labels)
    assert np.isnan(value) and grad.shape == z.shape and not grad.any()
    assert lf.supcon_loss(z, labels, empty="zero") == 0 == lf.supcon_loss(z, labels, reduction="sum")
    assert not lf.supcon_loss(z, labels, reduction="none").any()
    with pytest.raises(ValueError, match="the denominator is 0"):
        lf.supcon_loss(z, labels, empty="raise")


@each
def test_batches_of_nothing(loss):
    given = operands(loss, 0)
    assert np.isnan(loss(*given)) and loss(*given, empty="zero") == 0 == loss(*given, reduction="sum")
    losses, gradient = loss.value_and_grad(*given, reduction="none")
    assert losses.shape == (0,) and all(part.shape == (0, 5) for part in parts(gradient))


@each
def test_reductions_weights_and_merging(loss):
    given = operands(loss)
    options = {"no_positive": "zero"} if loss is lf.supcon_loss else {}
    weight = np.linspace(-0.5, 2, 12)
    losses = loss(*given, reduction="none", **options)
    weighted = loss(*given, reduction="none", sample_weight=weight, **options)
    np.testing.assert_allclose(weighted, weight * losses, rtol=1e-13, atol=1e-300)
    total, slope = loss.value_and_grad(*given, reduction="sum", sample_weight=weight, **options)
    assert total == pytest.approx(weighted.sum(), rel=1e-12)
    for reduction, by in (("mean", weight.sum()), ("batchmean", 12), ("none", 1)):
        value, gradient = loss.value_and_grad(*given, reduction=reduction, sample_weight=weight, **options)
        if reduction != "none":
            assert value == pytest.approx(total / by, rel=1e-12)
        for a, b in zip(parts(gradient), parts(slope), strict=True):
            np.testing.assert_allclose(a, b / by, rtol=1e-12, atol=1e-15)
    assert loss(*given, denominator=4.0, **options) == pytest.approx(losses.sum() / 4, rel=1e-12)
    part = loss.reduce(*given, sample_weight=weight, **options)
    assert (part.sum, part.weight) == (pytest.approx(total), pytest.approx(weight.sum())) and part.count == 12
    whole = part + loss.reduce(*given, **options)
    assert whole.mean == pytest.approx((total + losses.sum()) / (weight.sum() + 12), rel=1e-12)
    with pytest.raises(TypeError, match="reduce.. takes no reduction"):
        loss.reduce(*given, reduction="sum")


@each_of_rows
def test_rows_may_have_any_axes_before_the_last(loss):
    given = operands(loss)
    value, gradient = loss.value_and_grad(*given, reduction="none")
    shaped = [a.reshape(3, 4, *a.shape[1:]) for a in given]
    again, gradients = loss.value_and_grad(*shaped, reduction="none")
    assert np.array_equal(again, value.reshape(3, 4))
    assert all(np.array_equal(a, b.reshape(3, 4, 5)) for a, b in zip(gradients, gradient, strict=True))
    one, slope = loss.value_and_grad(*(a[0] for a in given), reduction="none")
    assert isinstance(one, np.floating) and one == value[0]
    assert loss(*(a[0] for a in given)) == value[0] and all(
        np.array_equal(a, b[0]) for a, b in zip(slope, gradient, strict=True)
    )
    if len(given) > len(loss.differentiable):
        assert loss(*given[:-1], 1) == loss(*given[:-1], np.ones(12))


# ---------------------------------------------------------------------------------------- dtypes, layouts and buffers


@each
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_dtypes_and_layouts(loss, dtype):
    given = operands(loss, 40, 6, dtype)
    count = len(loss.differentiable)
    expected = loss.value_and_grad(*given, reduction="none")
    assert expected[0].dtype == (np.float64 if dtype is np.float64 else np.float32)
    assert all(part.dtype == dtype for part in parts(expected[1]))
    if np.dtype(dtype).itemsize == 2:
        wide = loss.value_and_grad(*(a.astype(np.float32) for a in given[:count]), *given[count:], reduction="none")
        assert np.array_equal(wide[0], expected[0])
        for a, b in zip(parts(wide[1]), parts(expected[1]), strict=True):
            error = abs(a - b.astype(np.float32))
            assert (error <= float(ml_dtypes.finfo(dtype).eps) * (abs(a) + float(ml_dtypes.finfo(dtype).tiny))).all()
    layouts = {
        "fortran": np.asfortranarray,
        "reversed": lambda a: np.ascontiguousarray(a[::-1])[::-1],
        "every other": lambda a: np.repeat(a, 2, axis=0)[::2],
        "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
        "misaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
    }
    if dtype is not ml_dtypes.bfloat16:
        layouts["swapped"] = lambda a: a.astype(a.dtype.newbyteorder())
    for name, lay in layouts.items():
        results = loss.value_and_grad(*map(lay, given), reduction="none")
        assert bits(results) == bits(expected), name
        assert all(part.dtype.isnative for part in parts(results[1]))


@each
def test_lists_and_integers(loss):
    given = operands(loss)
    rounded = [np.rint(2 * a).astype(int) if a.dtype.kind == "f" else a for a in given]
    expected = loss.value_and_grad(*(a.astype(float) if a.ndim == 2 else a for a in rounded))
    assert bits(loss.value_and_grad(*rounded)) == bits(expected)
    assert bits(loss.value_and_grad(*(a.tolist() for a in rounded))) == bits(expected)


@pytest.mark.parametrize("dtype", ["i1", "u8", ">i4", "bool", "i8"])
def test_labels_of_any_integer_dtype(dtype):
    z, labels = RANDOM.normal(size=(8, 3)), np.array([0, 1, 1, 0, 0, 1, 1, 1])
    given = labels.astype(dtype)
    assert lf.supcon_loss(z, given) == lf.supcon_loss(z, labels)
    if dtype == "u8":
        assert lf.supcon_loss(z, given + np.uint64(2**64 - 2)) == lf.supcon_loss(z, labels)
    elif dtype != "bool":
        assert lf.supcon_loss(z, given - np.array(7, dtype)) == lf.supcon_loss(z, labels)


@each
def test_buffers(loss):
    given = operands(loss, 12, 5, np.float32)
    count = len(loss.differentiable)
    losses, gradient = loss.value_and_grad(*given, reduction="none")
    out = np.empty(12)
    outs = [np.empty((5, 12), np.float64).T for _ in range(count)]
    grad_out = tuple(outs) if count > 1 else outs[0]
    found, slopes = loss.value_and_grad(*given, reduction="none", out=out, grad_out=grad_out)
    assert found is out and all(a is b for a, b in zip(parts(slopes), outs, strict=True))
    np.testing.assert_allclose(out, losses, rtol=1e-6)
    for a, b in zip(outs, parts(gradient), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    assert loss.grad(*given, out=grad_out) is grad_out or count > 1
    own = [a.copy() for a in given[:count]]
    slopes = loss.grad(*own, *given[count:], reduction="none", out=tuple(own) if count > 1 else own[0])
    assert all(a is b and np.array_equal(a, c) for a, b, c in zip(parts(slopes), own, parts(gradient), strict=True))
    if count > 1:
        some = loss.grad(*given, reduction="none", out=(None,) * (count - 1) + (outs[-1],))
        assert some[-1] is outs[-1] and np.array_equal(some[0], gradient[0])


@each
def test_buffers_that_do_not_fit(loss):
    given = operands(loss)
    count = len(loss.differentiable)
    many = count > 1

    def all_but_first(buffer):
        return (buffer,) + tuple(np.zeros((12, 5)) for _ in range(count - 1)) if many else buffer

    fixed = np.zeros((12, 5))
    fixed.flags.writeable = False
    label = r"out\[0\]" if many else "out"
    wrong = [
        (ValueError, f"{label} has shape .5, 12.", {"out": all_but_first(np.zeros((5, 12)))}),
        (TypeError, f"{label} has dtype int64", {"out": all_but_first(np.zeros((12, 5), int))}),
        (ValueError, f"{label} is read-only", {"out": all_but_first(fixed)}),
        (
            ValueError,
            f"{label} overlaps itself",
            {"out": all_but_first(np.lib.stride_tricks.as_strided(np.zeros(40), (12, 5), (8, 8)))},
        ),
        (TypeError, f"{label} must be a NumPy array", {"out": all_but_first([0.0])}),
    ]
    if many:
        wrong += [
            (TypeError, f"out must be a tuple .* got {count - 1} of them", {"out": (None,) * (count - 1)}),
            (TypeError, "out must be a tuple .* got ndarray", {"out": np.zeros((12, 5))}),
            (ValueError, r"out\[0\] overlaps " + loss.operands[1], {"out": all_but_first(given[1])}),
            (
                ValueError,
                r"out\[1\] overlaps out\[0\]",
                {"out": (fixed_ := np.zeros((12, 5)), fixed_) + (None,) * (count - 2)},
            ),
        ]
    for error, message, options in wrong:
        with pytest.raises(error, match=message):
            loss.grad(*given, **options)
    with pytest.raises(TypeError, match="out= takes the losses of reduction='none'"):
        loss(*given, out=np.zeros(12))
    shifted = np.zeros((13, 5))
    moved = (shifted[1:], *given[1:])
    with pytest.raises(ValueError, match=f"overlaps {loss.operands[0]} in memory; it may be {loss.operands[0]} itself"):
        loss.grad(*moved, out=all_but_first(shifted[:-1]))


@each
def test_arguments_that_do_not_fit(loss):
    given = list(operands(loss))
    count = len(loss.differentiable)
    outs = [np.full((12, 5), 3.0) for _ in range(count)]
    grad_out = tuple(outs) if count > 1 else outs[0]

    def refuse(error, message, *arguments, **options):
        with pytest.raises(error, match=message):
            loss.value_and_grad(*arguments, grad_out=grad_out, **options)
        assert all((out == 3).all() for out in outs)

    refuse(TypeError, f"takes {len(given)} positional arguments .{loss.operands[0]}, .* got 1", given[0])
    refuse(TypeError, "has no option 'delta'", *given, delta=1.0)
    refuse(TypeError, f"{loss.operands[0]} has dtype complex128", given[0] + 1j, *given[1:])
    refuse(TypeError, f"{loss.operands[0]} is None", None, *given[1:])
    refuse(ValueError, rf"{loss.operands[0]} has shape \(\), but embeddings", 1.0, *given[1:])
    refuse(
        ValueError,
        rf"{loss.operands[0]} has shape \(12, 0\)",
        *(np.zeros((12, 0)) if a.ndim == 2 else a for a in given),
    )
    refuse(ValueError, r"sample_weight has shape \(5,\)", *given, sample_weight=np.ones(5))
    refuse(ValueError, "reduction must be one of", *given, reduction="average")
    if count > 1:
        refuse(
            ValueError,
            rf"{loss.operands[1]} has shape \(12, 4\), and {loss.operands[0]} shape \(12, 5\)",
            given[0],
            given[1][:, :4],
            *given[2:],
        )
    if len(given) > count:
        refuse(ValueError, rf"{loss.operands[-1]} has shape \(11,\)", *given[:-1], given[-1][:-1])
    for name, parameter in loss.parameters.items():
        refuse(ValueError, f"{name} must be .*, got -3", *given, **{name: -3})
        if isinstance(parameter, _loss.Parameter):
            refuse(ValueError, f"{name} must be .*, got nan", *given, **{name: np.nan})


def test_targets_and_labels_that_do_not_fit():
    x, y = RANDOM.normal(size=(2, 4, 3))
    with pytest.raises(
        ValueError, match=r"target must be -1 or 1, got 0 at 1 \(2 such elements\); labels 0 and 1 become"
    ):
        lf.cosine_embedding_loss(x, y, [1, 0, -1, 0])
    with pytest.raises(ValueError, match="target must be 0 or 1, got -1 at 2"):
        lf.contrastive_loss(x, y, [1, 0, -1, 0])
    weight = [1, 0, 1, 0]  # what weighs nothing is not looked at
    assert lf.cosine_embedding_loss(x, y, [1, 0, -1, 0], sample_weight=weight) == lf.cosine_embedding_loss(
        x[::2], y[::2], [1, -1]
    )
    assert lf.cosine_embedding_loss(x, y, 0, check=False) == 0
    half = lf.contrastive_loss(x, y, 0.5, check=False)
    assert half == pytest.approx((lf.contrastive_loss(x, y, 0) + lf.contrastive_loss(x, y, 1)) / 2)
    with pytest.raises(TypeError, match=r"labels of shape \(4,\) must be of an integer dtype, got float64"):
        lf.supcon_loss(x, np.zeros(4))
    with pytest.raises(
        ValueError, match=r"features has shape \(2, 4, 3\), but embeddings of a batch need shape \(N, D\)"
    ):
        lf.supcon_loss(np.stack([x, y]), np.zeros(4, int))


# ----------------------------------------------------------------------------------------------------- special values


@each_of_rows
def test_nan_stays_in_its_row_and_behind_weights(loss):
    given = operands(loss)
    plain, slopes = loss.value_and_grad(*given, reduction="none")
    weight = np.ones(12)
    weight[3] = 0
    for number in range(len(loss.differentiable)):
        wrong = [a.copy() for a in given]
        wrong[number][3, 1] = np.nan
        losses, gradient = loss.value_and_grad(*wrong, reduction="none")
        assert np.isnan(losses[3]) and np.array_equal(np.delete(losses, 3), np.delete(plain, 3))
        for part, slope in zip(gradient, slopes, strict=True):
            assert np.isnan(part[3]).any() and np.array_equal(np.delete(part, 3, 0), np.delete(slope, 3, 0))
        value, gradient = loss.value_and_grad(*wrong, sample_weight=weight)
        assert value == loss(*(np.delete(a, 3, 0) for a in given))
        assert all(np.isfinite(part).all() and not part[3].any() for part in gradient)


def test_rows_that_coincide_and_rows_of_zeros():
    x = np.array([[1.0, 2.0], [0.0, 0.0], [3.0, 0.0]])
    for p in (1.0, 2.0, 3.0, np.inf):
        value, gradient = lf.triplet_margin_loss.value_and_grad(x, x, x, p=p, eps=0.0, reduction="none")
        assert (value == 1).all() and not any(part.any() for part in gradient)
        value, gradient = lf.triplet_margin_loss.value_and_grad(x, x, x + 1, p=p, reduction="none", margin=3.0)
        assert all(np.isfinite(part).all() for part in gradient) and gradient.positive.any(), "eps, as in torch"
    for target in (0, 1):
        value, gradient = lf.contrastive_loss.value_and_grad(x, x, target, reduction="none", margin=2.0)
        assert (value == 2 * target).all() and not any(part.any() for part in gradient)
    for target, expected in ((1, 1.0), (-1, 0.25)):
        value, gradient = lf.cosine_embedding_loss.value_and_grad(x, 0 * x, target, margin=-0.25, reduction="none")
        assert (value == expected).all() and not any(part.any() for part in gradient)
    value, gradient = lf.cosine_embedding_loss.value_and_grad(x[::2], 3 * x[::2], 1, reduction="none")
    np.testing.assert_allclose(value, 0, atol=1e-30)
    features = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    value, grad = lf.supcon_loss.value_and_grad(features, [0, 0, 1, 1])
    assert np.isfinite(value) and np.isfinite(grad).all() and not grad[1].any()


@pytest.mark.parametrize("size", [1e-310, 1e-200, 1e160, 1.5e308])
def test_embeddings_near_the_ends_of_the_range(size):
    unit = np.array([[0.6, 0.8], [0.6, -0.8], [-1.0, 0.0], [0.0, 1.0]])
    x = unit * size
    near = 1e-12 if size > 1e-300 else 1e-10  # subnormal numbers have fewer digits
    expected = lf.cosine_embedding_loss(unit, unit[::-1], 1, reduction="none")
    np.testing.assert_allclose(lf.cosine_embedding_loss(x, x[::-1], 1, reduction="none"), expected, rtol=near)
    z = np.concatenate((unit, unit[::-1] + 0.1))
    labels = np.array([0, 0, 1, 1, 2, 2, 2, 1])
    value, grad = lf.supcon_loss.value_and_grad(z * (size / 4), labels)
    right, slope = lf.supcon_loss.value_and_grad(z, labels)
    assert value == pytest.approx(right, rel=near)
    if 1e-300 < size < 1e300:
        np.testing.assert_allclose(grad * size / 4, slope, rtol=1e-9, atol=1e-14)
    far = lf.triplet_margin_loss(x / 2, 0 * x, 0 * x, reduction="none", margin=0.0, eps=0.0)
    assert not far.any()
    d = lf.triplet_margin_loss(x / 2, 0 * x, x / 2, reduction="none", margin=0.0, eps=0.0)
    np.testing.assert_allclose(d, np.full(4, size / 2), rtol=near)


def test_infinite_entries_give_the_limit():
    a, p, n = (np.array([row]) for row in ([np.inf, 1.0], [0.0, 0.0], [1.0, 1.0]))
    loss = lf.triplet_margin_loss
    value, gradient = loss.value_and_grad(p, a, n)
    assert value == np.inf and gradient.positive.tolist() == [[1.0, 0.0]]
    value, gradient = loss.value_and_grad(p, n, a)
    assert value == 0 and not any(part.any() for part in gradient)
    assert np.isnan(loss(a, p, n))
    assert lf.cosine_embedding_loss(a, [[2.0, 0.0]], 1) == 0
    assert lf.contrastive_loss(a, p, 1) == 0 and lf.contrastive_loss(a, p, 0) == np.inf


@each_of_batches
def test_nan_in_one_embedding_reaches_those_compared_with_it(loss):
    given = [a.copy() for a in operands(loss)]
    given[0][4, 2] = np.nan
    assert np.isnan(loss(*given, reduction="none")).all()
    assert all(np.isnan(part).any() for part in parts(loss.grad(*given)))


# ------------------------------------------------------------------------------------- threads, memory and interrupts


@each
def test_no_bit_depends_on_threads_or_backend(loss):
    given = operands(loss, 1400, 6, np.float32)
    results = {bits(loss.value_and_grad(*given, n_threads=n_threads)) for n_threads in (1, 2, 5)}
    for name in ("numpy", "numba"):
        try:
            with lf.use_backend(name):
                results.add(bits(loss.value_and_grad(*given)))
        except ImportError:
            continue
    assert len(results) == 1
    assert loss(*given) == loss.value_and_grad(*given)[0]


def test_threads_of_blas_are_put_back():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    given = operands(lf.supcon_loss, 1400, 6)

    def blas():
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]

    found = []
    threads = [threading.Thread(target=lambda: found.append(lf.supcon_loss(*given))) for _ in range(5)]
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = blas()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert blas() == before and len(set(found)) == 1 and len(found) == 5
        with _similarities.one_blas_thread():
            assert set(blas()) <= {1}
            with _similarities.one_blas_thread():
                pass
            assert set(blas()) <= {1}
        assert blas() == before


def test_without_threadpoolctl_blas_has_its_own_threads(monkeypatch):
    given = operands(lf.supcon_loss, 1400, 6)
    value, grad = lf.supcon_loss.value_and_grad(*given)
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    _similarities._blas.cache_clear()
    try:
        again, slope = lf.supcon_loss.value_and_grad(*given)
        assert _similarities._blas() is None
    finally:
        _similarities._blas.cache_clear()
    assert again == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(slope, grad, rtol=0, atol=1e-12 * abs(grad).max())


def peak(call):
    call()  # what is kept from now on
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@each_of_batches
def test_memory_of_batches_grows_with_their_length_alone(loss):
    n, d = 6000, 8
    given = operands(loss, n, d, np.float32)
    used = peak(lambda: loss.value_and_grad(*given, n_threads=1))
    tiles = 3 * _similarities.TILE**2 * 4
    views = len(loss.differentiable)
    assert used < 40 * n * views * (d + 8) + 2 * tiles < n * n  # in bytes: a quarter of a matrix of float32


@each_of_rows
def test_memory_of_rows_is_that_of_a_block(loss):
    given = operands(loss, 20_000, 16, np.float32)
    outs = tuple(np.empty((20_000, 16), np.float32) for _ in loss.differentiable)
    losses = np.empty(20_000, np.float32)
    options = {"n_threads": 1, "reduction": "none", "sample_weight": np.ones(20_000)}
    assert peak(lambda: loss.value_and_grad(*given, out=losses, grad_out=outs, **options)) < 1.25 * 2**20


INTERRUPTED = """
import signal, numpy as np, lossfast as lf
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored in the background
z = np.broadcast_to(np.float32(1), (200_000, 64))
labels = np.arange(200_000) % 10
expected = lf.supcon_loss(z[:1000], labels[:1000])
print("begun", flush=True)
try:
    lf.supcon_loss(z, labels, n_threads={n_threads})
except KeyboardInterrupt:
    print(lf.supcon_loss(z[:1000], labels[:1000]) == expected, flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize("n_threads", [1, 2])
def test_ctrl_c(n_threads):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED.format(n_threads=n_threads)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begun\n"
    time.sleep(1)
    sent = time.perf_counter()
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "True\n"
    assert time.perf_counter() - sent < 1
    process.communicate(timeout=30)
