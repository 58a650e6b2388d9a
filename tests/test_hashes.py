"""One answer everywhere: the digests of `hashes.json`, and what none of their cases may depend on."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import hashes
import numpy as np
import pytest
from hashes import Case, digest
from parameters import SINGLE
from test_registry import laid_out
from variants import COMPILED

from lossfast._loss import looped

REGISTRY = looped()

OBJECTS = list(SINGLE.values())
DTYPES = [np.dtype(np.float32), np.dtype(np.float16)]

each_object = pytest.mark.parametrize("loss", OBJECTS, ids=lambda loss: loss.name)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def test_digests(every_isa):
    """The file's; and where not, in which cases it differs from another instruction set."""
    expected = hashes.stored()
    family = hashes.family_of(every_isa.isa)
    if family not in expected:
        pytest.skip(f"no digests are kept of {family}")
    wrong = hashes.differences(every_isa.isa, expected, hashes.digests(every_isa.isa))
    if wrong:
        losses = [REGISTRY[name] for name in sorted({line.partition(".")[0] for line in wrong}) if name in REGISTRY]
        others = [other.isa for other in COMPILED if other != every_isa and hashes.family_of(other.isa) == family]
        wrong += [line for other in others for line in hashes.cases_that_differ(every_isa.isa, other, losses)[:40]]
    assert not wrong, "\n".join(wrong)


def test_every_method_and_option_is_in_the_digests():
    for loss in OBJECTS:
        public = {name for kind in type(loss).__mro__ for name in vars(kind) if not name.startswith("_")}
        methods = {name for name in public if callable(getattr(loss, name, None))} - {"bind", "bound", "own_numbers"}
        assert methods <= hashes.METHODS[loss.kind in ("pointwise", "rowwise")], loss.name
        assert set(loss.shared) <= {*hashes.GIVEN, *hashes.OTHERWISE}, loss.name


def test_the_digests_notice_one_bit():
    x = np.array([[1.0, np.nan]], np.float32)
    negative = x.copy()
    negative.view(np.uint32)[0, 1] |= 1 << 31
    bits_of_x = {digest(a) for a in (x, negative, -x, x.T, x.ravel(), x.astype(np.float64), np.nextafter(x, 2))}
    assert len(bits_of_x) == 7
    assert digest(np.int32(3)) == digest(np.int64(3)) != digest(np.float64(3))


# ------------------------------------------------------------------------------------------- what must not matter


def small(variant, loss, dtype):
    """The cases with every option, of rows of every family; some of them on other instruction sets than the best."""
    over_rows = loss.kind.startswith("row")
    names = ("19x10 mixed", "9x100 mixed") if over_rows else ("9x7 mixed",)
    found = [case for case in hashes.cases(loss, dtype) if case.name.startswith(names)]
    return found if variant == COMPILED[0] else found[::4]


def check(loss, case, others):
    """The same digests from the same call in other forms: (form, case)."""
    expected = [(name, digest(result)) for name, result in hashes.results(loss, case)]
    for form, other in others:
        found = [(name, digest(result)) for name, result in hashes.results(loss, other)]
        wrong = {name for (name, a), (_, b) in zip(expected, found, strict=True) if a != b}
        assert not wrong, f"{loss.name}, {case.name}: {', '.join(sorted(wrong))} differ with {form}"


def changed(case, change):
    """All arrays of a case in another form."""
    options = {name: change(a) if np.ndim(a) else a for name, a in case.options.items()}
    return Case(case.name, tuple(map(change, case.operands)), options, change(case.v), case.whole)


def with_options(case, **options):
    return Case(case.name, case.operands, {**case.options, **options}, case.v, case.whole)


@each_object
def test_threads(compiled, loss):
    with compiled.chosen(), np.errstate(all="ignore"):
        for case in hashes.cases(loss, DTYPES[0]):
            if case.whole:
                given = [(f"{n} threads", with_options(case, n_threads=n)) for n in (2, 3, 7)]
                check(loss, with_options(case, n_threads=1), given)


@each_dtype
@each_object
def test_layouts(compiled, loss, dtype, tmp_path_factory):
    layouts = list(laid_out(tmp_path_factory).items())
    with compiled.chosen(), np.errstate(all="ignore"):
        for number, case in enumerate(small(compiled, loss, dtype)):
            check(loss, case, [(name, changed(case, change)) for name, change in layouts[number % 4 :: 4]])


SIGNED = ("i1", "i2", ">i2", "i4", "i8", ">i8")
UNSIGNED = ("u1", "u2", "u4", ">u4", "u8")


@pytest.mark.parametrize("loss", [loss for loss in OBJECTS if loss.kind == "rowwise"], ids=lambda loss: loss.name)
def test_dtypes_of_labels(compiled, loss):
    with compiled.chosen(), np.errstate(all="ignore"):
        for number, case in enumerate(small(compiled, loss, DTYPES[0])):
            x, labels = case.operands
            if labels.dtype.kind == "i":
                codes = SIGNED if labels.min() < 0 else (*SIGNED, *UNSIGNED)
                forms = [
                    (code, Case(case.name, (x, labels.astype(code)), case.options, case.v, False)) for code in codes
                ]
                check(loss, case, forms[number % 3 :: 3])


def each_row(loss, case):
    """{output: result} of what has an entry for each row."""
    x, v = case.operands[0], case.v
    if loss.kind in ("pointwise", "rowwise"):
        found = loss.evaluate(*case.operands, reduction="none", **case.options)._asdict()
        if "hvp" in loss.outputs:
            found["hvp"] = loss.hvp(*case.operands, v, reduction="none", **case.options)
        if "newton_step" in loss.outputs:
            found["newton_step"] = loss.newton_step(*case.operands, ridge=0.125, reduction="none", **case.options)
        return found
    result = loss(x, **case.options)
    along = v if result.ndim == 2 else v[:, 0]
    return {"value": result, "vjp": loss.vjp(x, along, **case.options), "jvp": loss.jvp(x, v, **case.options)}


@each_dtype
@each_object
def test_batches(compiled, loss, dtype):
    with compiled.chosen(), np.errstate(all="ignore"):
        for case, size in itertools.product(small(compiled, loss, dtype), (1, 7)):
            if "axis" in case.options:
                continue
            rows = len(case.operands[0])
            parts = []
            for start in range(0, rows, size):
                some = slice(start, start + size)
                options = {
                    name: a[some] if name in ("sample_weight", "where", "b") else a for name, a in case.options.items()
                }
                part = Case(case.name, tuple(a[some] for a in case.operands), options, case.v[some], False)
                parts.append(each_row(loss, part))
            for name, whole in each_row(loss, case).items():
                joined = np.concatenate([part[name] for part in parts])
                assert digest(joined) == digest(whole), f"{loss.name}.{name}, {case.name}, {size} rows at a time"


@each_dtype
@pytest.mark.parametrize(
    "loss", [loss for loss in OBJECTS if loss.kind in ("pointwise", "rowwise")], ids=lambda loss: loss.name
)
def test_what_else_is_wanted_and_where_it_goes(compiled, loss, dtype):
    """Each output alone, all at once, and all at once into buffers, of which the gradient's is the first argument."""
    with compiled.chosen(), np.errstate(all="ignore"):
        for case, reduction in itertools.product(small(compiled, loss, dtype), ("none", "mean")):
            options = {**case.options, "reduction": reduction}
            every = loss.evaluate(*case.operands, **options)._asdict()
            x, *targets = case.operands
            over = x.copy()
            buffers = {f"{name}_out": np.zeros_like(a) for name, a in every.items() if np.ndim(a)}
            buffers.update({"grad_out": over, "out": buffers.pop("loss_out", None)})
            if "hess" in every:
                buffers["hess_out"] = np.zeros_like(every["hess"])
            given = loss.evaluate(over, *targets, **options, **buffers)._asdict()
            assert given["grad"] is over
            for name, result in every.items():
                where = f"{loss.name}.{name}, {case.name}, {reduction}"
                assert digest(given[name]) == digest(result), f"{where}: differs in a buffer"
                [alone] = loss.evaluate(*case.operands, want=(name,), **options)
                assert digest(alone) == digest(result), f"{where}: differs if nothing else is wanted"


# -------------------------------------------------------------------------------------------------------- AArch64


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_digests_on_aarch64():
    script = Path(__file__).with_name("aarch64.sh")
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run([script], capture_output=True, text=True, env=environment)
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
