"""Plain rows: what their own kernels make of them has the bits of the stages that serve every other call.

A mask without a masked class changes nothing but the way that a call takes.
"""

import numpy as np
import pytest

import lossfast as lf

#: Around what a vector, a tile and a quad of columns hold; around the crossover; longer than a stretch of one sum, than
#: the memory for a row that is brought, and than that for a row's exponentials.
FEW = (1, 2, 3, 4, 5, 7, 8, 9, 10, 16, 17, 33, 64, 130, 192)
MANY = (193, 208, 255, 260, 1003, 15873, 31745, 40000, 131000)
DTYPES = (np.dtype(np.float32), np.dtype(np.float64))

each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
each_size = pytest.mark.parametrize("classes", FEW + MANY)


def rows_of(classes):
    return (1, 5, 16, 33, 200) if classes <= 260 else (19,) if classes < 2000 else (3,)


def logits(rows, classes, spread, dtype, special=False):
    """Rows within reach of no maximum, or beyond, or both in turn; some with -inf, some with NaN and +inf."""
    rng = np.random.default_rng([rows, classes, int(spread), dtype.itemsize])
    x = rng.standard_normal((rows, classes)) * spread
    if spread == 0:
        x = rng.standard_normal((rows, classes)) * np.where(np.arange(rows) // 20 % 2, 1, 300)[:, None]
    if classes > 3:
        x[0, 1] = -np.inf
        if special:
            x[rows // 3, 2], x[rows // 2, 1], x[rows // 2, 3], x[-1, :] = np.nan, np.inf, -np.inf, -np.inf
    return x.astype(dtype), rng.integers(0, classes, rows)


def bits(a):
    a = np.ascontiguousarray(a)
    return np.where(a == a, a.view(f"u{a.itemsize}"), 0) if a.dtype.kind == "f" else a


def same(a, b):
    return type(a) is type(b) and np.shape(a) == np.shape(b) and np.array_equal(bits(a), bits(b))


def layouts(x):
    """The same logits, as they may lie."""
    yield "C", x
    yield "F", np.asfortranarray(x)
    yield "every second class", np.repeat(x, 2, axis=1)[:, ::2]
    yield "every second row", np.repeat(x, 2, axis=0)[::2]
    yield "reversed", x[::-1, ::-1].copy()[::-1, ::-1]
    yield "big-endian", x.astype(x.dtype.newbyteorder(">"))
    if len(x) % 2 == 0:
        yield "in planes", x.reshape(2, -1, x.shape[1]).transpose(0, 2, 1).copy().transpose(0, 2, 1).reshape(x.shape)


@each_size
@each_dtype
def test_cross_entropy_has_the_bits_of_the_stages(compiled, dtype, classes):
    with compiled.chosen(), np.errstate(all="ignore"):
        for rows in rows_of(classes):
            for spread in (3, 30, 0) if classes < 2000 else (3, 0):
                x, y = logits(rows, classes, spread, dtype, special=spread == 30)
                y[rows // 2] = -100
                w = np.random.default_rng(rows).random(rows)
                w[0], w[-1] = 1e-30, 0
                where, by_class = np.ones(x.shape, bool), np.random.default_rng(classes).random(classes) + 0.25
                by_class[-1] = 0
                for options in (
                    {},
                    {"sample_weight": w},
                    {"class_weight": by_class},
                    {"class_weight": by_class, "sample_weight": w, "reduction": "sum"},
                    {"denominator": 2.0**40 if rows > 5 else 1e-20},
                ):
                    value, grad = lf.cross_entropy.value_and_grad(x, y, where=where, **options)
                    own = {**options, "reduction": "none"}
                    own.pop("denominator", None)
                    losses = lf.cross_entropy(x, y, where=where, **own)
                    for name, given in layouts(x):
                        what = f"{rows} rows, spread {spread}, {options}, {name}"
                        got = lf.cross_entropy.value_and_grad(given, y, **options)
                        assert same(got[0], value) and same(got[1], grad), what
                        assert same(lf.cross_entropy(given, y, **options), value), what
                        assert same(lf.cross_entropy.grad(given, y, **options), grad), what
                        assert same(lf.cross_entropy(given, y, **own), losses), what


@each_size
@each_dtype
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_functions_have_the_bits_of_the_stages(compiled, dtype, classes, name):
    function = getattr(lf, name)
    with compiled.chosen(), np.errstate(all="ignore"):
        for rows in rows_of(classes):
            for spread in (3, 30, 0) if classes < 2000 else (3, 0):
                x, _ = logits(rows, classes, spread, dtype, special=spread == 30)
                expected = function(x, where=np.ones(x.shape, bool))
                for how, given in layouts(x):
                    assert same(function(given), expected), f"{rows} rows, spread {spread}, {how}"
                buffer = np.empty_like(expected, order="F")
                assert same(function(x, out=buffer), expected) and same(buffer, expected)


@each_dtype
@pytest.mark.parametrize("classes", [3, 10, 200, 1003, 40000, 140000])
def test_over_the_logits_and_in_other_dtypes(compiled, dtype, classes):
    with compiled.chosen(), np.errstate(all="ignore"):
        for rows in rows_of(classes):
            x, y = logits(rows, classes, 0, dtype, special=True)
            value, grad = lf.cross_entropy.value_and_grad(x, y)
            for order in "CF":
                given = x.copy(order)
                got = lf.cross_entropy.value_and_grad(given, y, grad_out=given)
                assert got[1] is given and same(got[0], value) and same(got[1], grad)
            for other in (np.float16, np.float32, np.float64):
                buffer = np.empty((rows, classes), other)
                lf.cross_entropy.grad(x, y, out=buffer)
                assert same(buffer, grad.astype(other))


def test_axes_of_many_classes(compiled):
    """Rows that lie across are turned, 16 at a time."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 300, 5, 7)).astype(np.float32)
    y = rng.integers(0, 300, (3, 5, 7))
    with compiled.chosen():
        value, grad = lf.cross_entropy.value_and_grad(x, y, axis=1)
        last = lf.cross_entropy.value_and_grad(np.moveaxis(x, 1, -1).copy(), y)
        assert value == last[0] and np.array_equal(np.moveaxis(grad, 1, -1), last[1])
        assert np.array_equal(
            lf.log_softmax(x, axis=1), np.moveaxis(lf.log_softmax(np.moveaxis(x, 1, -1).copy()), -1, 1)
        )


def test_weights_and_denominators_at_the_ends_of_the_range(compiled):
    """Factors of a gradient that would leave the range on their way to it."""
    x, y = logits(40, 10, 3, DTYPES[0])
    exact = lf.cross_entropy.grad(x.astype(np.float64), y, reduction="sum")
    with compiled.chosen(), np.errstate(all="ignore"):
        for scale in (2.0**-140, 2.0**-125, 2.0**-60, 2.0**-31, 2.0**59, 2.0**61, 2.0**100):
            grad = lf.cross_entropy.grad(x, y, reduction="sum", sample_weight=np.full(40, scale))
            assert same(
                grad,
                lf.cross_entropy.grad(
                    x, y, reduction="sum", sample_weight=np.full(40, scale), where=np.ones(x.shape, bool)
                ),
            )
            error = np.abs(grad - exact * scale) / np.spacing(np.abs(exact * scale).astype(np.float32)).astype(
                np.float64
            )
            assert error.max() < 2


@each_dtype
@pytest.mark.parametrize("classes", [1, 2, 3, 5, 10])
def test_nothing_is_written_beyond_the_last_row(compiled, dtype, classes):
    """Short rows are written a quad at a time, each over the end of the one before."""
    with compiled.chosen():
        for rows in (16, 32, 40):
            x, y = logits(rows, classes, 3, dtype)
            buffer = np.full((rows + 1, classes), 7, dtype)
            lf.cross_entropy.grad(x, y, out=buffer[:rows])
            assert np.array_equal(buffer[:rows], lf.cross_entropy.grad(x, y)) and (buffer[rows] == 7).all()
