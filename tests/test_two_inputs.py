"""Losses with derivatives in two arguments, through the public interface, on every backend and instruction set."""

import itertools
import pickle

import numpy as np
import pytest
from exact import exact, mp, slope, terms_pointwise, twin_pointwise
from parameters import ELEMENTS_INSIDE, other_values_of
from test_registry import BFLOAT16, Misses, bits, laid_out
from variants import COMPILED, VARIANTS

import lossfast as lf
from lossfast._loss import REGISTRY, inside

LOSSES = [loss for loss in REGISTRY.values() if loss.kind == "pointwise_of_two"]
DTYPES = [np.float32, np.float64]

each_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])
pytestmark = pytest.mark.filterwarnings("error")


def settings_of(loss):
    yield {}
    for name, parameter in loss.parameters.items():
        for value in other_values_of(parameter):
            yield {name: value}


def elements(loss, dtype):
    """Three operands, of all magnitudes and near each other."""
    random = np.random.default_rng(len(loss.name))
    tiny, huge = (1e-44, 1e30) if dtype == np.float32 else (1e-320, 1e200)
    size = np.array([0, tiny, 1e-30, 1e-6, 1e-3, 0.3, 1, 1.7, 3, 17.5, 700, 1e20, huge])
    every = np.concatenate((size, -size))
    grid = [a.ravel() for a in np.meshgrid(every, [0.25, 1, -3], np.concatenate((size, -size[5:8])))]
    drawn = [np.exp(random.normal(size=200)) * random.choice([-1, 1], 200) for _ in range(3)]
    drawn[1][:80] = drawn[0][:80] * (1 + 1e-3 * random.normal(size=80))
    arrays = [np.concatenate(pair).astype(dtype) for pair in zip(grid, drawn, strict=True)]
    return tuple(inside(loss, name, a) for name, a in zip(loss.operands, arrays, strict=True))


def place_of(loss, which):
    """Where the argument stands that the derivative is taken in."""
    return loss.operands.index(loss.differentiable[which])


def flat(results):
    """Arrays in the twin's order."""
    value, grad, hess = results
    return [value, grad[0], hess[0], grad[1], hess[1]]


@each_dtype
@each_loss
def test_values_and_derivatives(variant, loss, dtype):
    operands = elements(loss, dtype)
    misses = Misses(variant.ulp(loss), dtype)
    with np.errstate(all="ignore"), variant.chosen():
        for options in settings_of(loss):
            numbers = [tuple(map(exact, three)) for three in zip(*operands, strict=True)]
            true = [twin_pointwise(loss, *three, loss.own_numbers(options)) for three in numbers]
            sizes = [terms_pointwise(loss, *three, loss.own_numbers(options)) for three in numbers]
            got = flat(loss.evaluate(*operands, reduction="none", **options))
            for number, result in enumerate(got):
                columns = ([row[number] for row in rows] for rows in (true, sizes))
                name = ("value", "grad", "hess", "second grad", "second hess")[number]
                misses.look(name, result, *columns, lambda at: (*(a[at] for a in operands), options))  # noqa: B023
    misses.report()


@each_loss
def test_the_twins_derivatives_are_slopes(loss):
    operands = [a[:: 37 if len(a) > 500 else 1] for a in elements(loss, np.float64)]
    for options in settings_of(loss):
        parameters = loss.own_numbers(options)
        for three in zip(*operands, strict=True):
            given = list(map(exact, three))
            for which in (0, 1):
                place = place_of(loss, which)

                def at(u, place=place, given=given, parameters=parameters):
                    return twin_pointwise(loss, *given[:place], u, *given[place + 1 :], parameters)

                here = at(given[place])
                for order, of in ((0, 0), (1, 1 + 2 * which)):
                    found = slope(lambda u, of=of, at=at: at(u)[of], given[place])
                    if found is None:
                        break
                    expected = here[1 + 2 * which + order]
                    assert abs(found[0] - expected) <= mp.ldexp(abs(expected), -60) + found[1], (three, options, which)


def test_formulas():
    """Written down independently."""
    for three in zip(*elements(lf.gaussian_nll_loss, np.float64), strict=True):
        x, t, v = map(exact, three)
        for full, eps in ((0.0, 1e-6), (1.0, 0.7)):
            V = max(v, exact(eps))
            value = (mp.log(V) + (x - t) ** 2 / V) / 2 + (mp.log(2 * mp.pi) / 2 if full else 0)
            ours = twin_pointwise(lf.gaussian_nll_loss, x, t, v, (full, eps))
            assert abs(ours[0] - value) <= mp.ldexp(1 + abs(value), -50)  # the constant is a double
    for three in zip(*elements(lf.margin_ranking_loss, np.float64), strict=True):
        x, t, y = map(exact, three)
        assert twin_pointwise(lf.margin_ranking_loss, x, t, y, (0.5,))[0] == max(mp.mpf(0), 0.5 - y * (x - t))


# ------------------------------------------------------------------------------------------------------- combinations


def example(loss, dtype, shape=(3, 5, 4)):
    random = np.random.default_rng(8)
    arrays = [(3 * random.normal(size=shape)).astype(np.float32).astype(dtype) for _ in range(3)]
    return tuple(inside(loss, name, a) for name, a in zip(loss.operands, arrays, strict=True))


@each_dtype
@each_loss
def test_every_combination(variant, loss, dtype):
    random, operands = np.random.default_rng(9), example(loss, dtype)
    where, shape = random.random(operands[0].shape) < 0.7, operands[0].shape
    wide = [a.astype(np.longdouble) for a in operands]
    parameters = list(map(np.longdouble, loss.own_numbers()))
    value, *derivatives = loss.twin(*wide, *parameters)
    sample = {"none": None, "rows": random.uniform(0, 2, shape[:1]), "elements": random.uniform(0, 2, shape)}
    with variant.chosen():
        for (name, weight), masked in itertools.product(sample.items(), (False, True)):
            w = (
                np.ones(shape)
                if weight is None
                else weight.reshape(*weight.shape, *[1] * (3 - weight.ndim)) * np.ones(shape)
            )
            w = (np.where(where, w, 0) if masked else w).astype(np.longdouble)
            options = {"sample_weight": weight, "where": where if masked else None}
            for reduction, by in {"mean": w.sum(), "sum": 1, "batchmean": shape[0], "none": 1}.items():
                result = loss.evaluate(*operands, reduction=reduction, **options)
                expected = value * w if reduction == "none" else (value * w).sum() / by
                pairs = [(result.loss, expected)]
                pairs += [(a, b * w / by) for a, b in zip(flat(result)[1:], derivatives, strict=True)]
                for got, right in pairs:
                    room = 64 * float(np.finfo(dtype).eps) * np.abs(right).max(initial=1e-6)
                    assert np.abs(got - right).max() <= room, (name, masked, reduction)
                if reduction == "mean":
                    assert loss.reduce(*operands, **options).mean == result.loss == loss(*operands, **options)
                    assert loss.weigh(*operands, **options).weight == loss.reduce(*operands, **options).weight


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, BFLOAT16], ids=str)
@each_loss
def test_layouts_batches_buffers_and_threads_change_no_bit(variant, loss, dtype, tmp_path_factory):
    operands = tuple(a.astype(dtype) for a in example(loss, np.float32, (7, 11)))
    with variant.chosen(), np.errstate(all="ignore"):
        plain = loss.evaluate(*operands, reduction="none")
        wanted = list(map(bits, flat(plain)))
        for change in laid_out(tmp_path_factory).values():
            assert list(map(bits, flat(loss.evaluate(*map(change, operands), reduction="none")))) == wanted
        rows = [loss.evaluate(*(a[i] for a in operands), reduction="none") for i in range(7)]
        assert list(map(bits, map(np.stack, zip(*map(flat, rows), strict=True)))) == wanted
        assert bits(loss(*operands, reduction="none")) == wanted[0]
        assert list(map(bits, loss.grad(*operands, reduction="none"))) == wanted[1::2]
        value, grad = loss.value_and_grad(*operands, reduction="none")
        assert [bits(value), *map(bits, grad)] == [wanted[0], *wanted[1::2]]
        grad, hess = loss.grad_and_hess(*operands, reduction="none")
        assert [*map(bits, grad), *map(bits, hess)] == [*wanted[1::2], *wanted[2::2]]
        for other in (np.float64, np.float32):
            out, pairs = np.zeros((7, 11), other), [tuple(np.zeros((7, 11), other, "F") for _ in "ab") for _ in "gh"]
            got = loss.evaluate(*operands, reduction="none", out=out, grad_out=pairs[0], hess_out=pairs[1])
            assert got.loss is out and all(a is b for a, b in zip((*got.grad, *got.hess), sum(pairs, ()), strict=True))
            room = 2.0**-7 if dtype == BFLOAT16 else max(float(np.finfo(dtype).eps), float(np.finfo(other).eps))
            for a, b in zip(flat(got), flat(plain), strict=True):
                a, b = a.astype(np.float64), b.astype(np.float64)
                fair = np.isfinite(b)
                assert np.all(np.abs(a - b)[fair] <= 2 * room * np.abs(b[fair]) + 1e-7), other
        over = operands[0].copy()
        grad = loss.grad(over, *operands[1:], reduction="none", out=(over, None))
        assert grad[0] is over and list(map(bits, grad)) == wanted[1::2]


@each_dtype
@each_loss
def test_threads_and_instruction_sets_change_no_bit(loss, dtype):
    operands = example(loss, dtype, (50_001, 11))
    for variant in VARIANTS:
        if variant.backend != "compiled":
            some = tuple(a[:7001] for a in operands)
            with variant.chosen():
                results = [flat(loss.evaluate(*some, n_threads=n)) for n in (1, 3)]
                assert list(map(bits, results[0])) == list(map(bits, results[1]))
    seen = []
    for variant in COMPILED:
        with variant.chosen():
            results = [list(map(bits, flat(loss.evaluate(*operands, n_threads=n)))) for n in (1, 2, 7)]
        assert results[0] == results[1] == results[2]
        if variant.isa != "baseline":
            seen.append(results[0])
    assert all(result == seen[0] for result in seen)


# ------------------------------------------------------------------------------------------------ values and refusals


@each_loss
def test_special_values(loss):
    """The same everywhere, whatever stands beside; a NaN in gives a NaN out."""
    every = np.array([0, -0.0, 1, -1, 5, 1e-6, np.inf, -np.inf, np.nan, 3e38, -3e38, 1e300, -1e300])
    x, t, q = (a.ravel() for a in np.meshgrid(every, every, every))
    q = inside(loss, loss.operands[2], q)
    results = {}
    for variant in VARIANTS:
        with variant.chosen():
            results[variant] = flat(loss.evaluate(x, t, q, reduction="none"))
    reference, *others = results.values()
    for got in reference:
        assert np.isnan(got[np.isnan(x) | np.isnan(t) | np.isnan(q)]).all()
    for other in others:
        for a, b in zip(other, reference, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


def test_limits_and_kinks(variant):
    inf = np.inf
    with variant.chosen():
        found = lf.gaussian_nll_loss.evaluate([inf, 1.0, 1.0], [0.0, 1.0, 0.0], [1.0, 1e-9, inf], reduction="none")
        assert np.array_equal(found.loss, [inf, 0.5 * np.log(1e-6), inf])
        assert np.array_equal(found.grad.pred, [inf, 0, 0]) and np.array_equal(found.grad.var, [-inf, 0, 0])
        assert np.array_equal(found.hess.pred[1:], [1 / 1e-6, 0]) and np.array_equal(found.hess.var, [inf, 0, 0])
        found = lf.margin_ranking_loss.evaluate([1.0, 1.0, 3e38], [1.0, 2.0, -3e38], [1, 1, -1], reduction="none")
        assert np.array_equal(found.loss, [0, 1, 6e38])
        assert np.array_equal(found.grad.input1, [0, -1, 1]) and np.array_equal(found.grad.input2, [0, 1, -1])


@each_loss
def test_what_is_refused(variant, loss):
    operands = example(loss, np.float64, (4, 3))
    x, second, third = operands
    with variant.chosen():
        for place in range(3):
            wrong = [*operands]
            wrong[place] = np.ones((4, 2))
            with pytest.raises(ValueError, match="must agree"):
                loss(*wrong)
        [free] = {1, 2} - {place_of(loss, 1)}
        scalar = [*operands]
        scalar[free] = operands[free][0, 0]
        loss(*scalar)
        scalar = [*operands]
        scalar[place_of(loss, 1)] = 1.0
        with pytest.raises(ValueError, match="must agree"):
            loss(*scalar)
        pair = np.zeros((4, 3)), np.zeros((4, 3))
        for buffers, error in [
            ({"grad_out": pair[0]}, TypeError),
            ({"grad_out": (pair[0],)}, TypeError),
            ({"grad_out": (pair[0], pair[0])}, ValueError),
            ({"grad_out": (pair[0], pair[1].T)}, ValueError),
            ({"grad_out": (pair[0], operands[place_of(loss, 1)])}, ValueError),
            ({"grad_out": (pair[0], pair[1].astype(int))}, TypeError),
            ({"out": pair[0]}, TypeError),
        ]:
            with pytest.raises(error):
                loss.value_and_grad(*operands, **buffers)
        for name, domain in loss.domains.items():
            wrong = [*operands]
            wrong[loss.operands.index(name)] = np.full((4, 3), -7.0)
            with pytest.raises(ValueError, match=f"{name} must be {domain}, got -7 at"):
                loss(*wrong)
            assert ELEMENTS_INSIDE[domain]
        with pytest.raises(TypeError):
            loss(x, second)
        with pytest.raises(TypeError, match="has no option"):
            loss(x, second, third, nonesuch=1)
    assert not hasattr(loss, "hvp")


@each_loss
def test_results_and_signatures_have_the_arguments_names(loss):
    operands = example(loss, np.float32, (2, 3))
    grad = loss.grad(*operands)
    assert grad._fields == loss.differentiable and pickle.loads(pickle.dumps(grad))._fields == grad._fields
    for name in ("__call__", "grad", "value_and_grad", "grad_and_hess", "evaluate", "reduce", "weigh"):
        of = loss if name == "__call__" else getattr(loss, name)
        shown = [p for p in of.__signature__.parameters if p != "self"]
        assert tuple(shown[:3]) == loss.operands, name
    bound = loss.bind(reduction="sum")
    assert pickle.loads(pickle.dumps(bound))(*operands) == loss(*operands, reduction="sum")
    none = loss.evaluate(*(a[:0] for a in operands), empty="zero")
    assert none.loss == 0 and none.grad[0].shape == none.hess[1].shape == (0, 3)
    masked = loss.grad(*operands, where=np.zeros((2, 3), bool))
    assert not masked[0].any() and not masked[1].any()
    mixed = loss.grad(operands[0], *(a.astype(np.float64) for a in operands[1:]))
    assert [a.dtype for a in mixed] == [np.float32, np.float64]


def test_torch_agrees():
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(1)
    x, t, v = random.normal(size=50), random.normal(size=50), random.uniform(0.1, 3, 50)
    y = random.choice([-1.0, 1.0], 50)
    functional = torch.nn.functional
    for ours, theirs, three in [
        (lf.gaussian_nll_loss, functional.gaussian_nll_loss, (x, t, v)),
        (lf.gaussian_nll_loss.bind(full=True, eps=0.5), lambda *a: functional.gaussian_nll_loss(*a, full=True, eps=0.5),
         (x, t, np.maximum(v, 0.5))),
        (lf.margin_ranking_loss.bind(margin=0.3), lambda *a: functional.margin_ranking_loss(*a, margin=0.3), (x, t, y)),
    ]:  # fmt: skip
        tensors = [torch.tensor(a, requires_grad=True) for a in three]
        value = theirs(*tensors)
        value.backward()
        got, grad = ours.value_and_grad(*three)
        np.testing.assert_allclose(got, value.item(), rtol=1e-12)
        for name, g in grad._asdict().items():
            np.testing.assert_allclose(g, tensors[ours.operands.index(name)].grad.numpy(), rtol=1e-12, atol=1e-15)
