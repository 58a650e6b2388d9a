"""The functions without the GIL that other code may call: from Cython by ``cimport``, elsewhere by ``__pyx_capi__``."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from parameters import within
from variants import COMPILED, Variant

import lossfast as lf

pytestmark = pytest.mark.skipif(not COMPILED, reason="the compiled backend is not here")

ROWS, SHAPES = 37, (2, 10, 192, 200)

#: Someone else's module, and what it has once for each dtype.
IMPORTS = """\
# cython: language_level=3
from libc.stdint cimport int64_t
from lossfast.kernels cimport pointwise, rowwise
"""
FUNCTIONS = """

def logsumexp_{bits}({real}[::1] x):
    cdef double y
    with nogil:
        y = rowwise.logsumexp_float{bits}(&x[0], x.shape[0])
    return y


def cross_entropy_{bits}({real}[:, ::1] logits, int64_t[::1] labels, double scale,
                         {real}[::1] loss, {real}[:, ::1] grad):
    cdef double total
    cdef {real} *losses = NULL if loss is None else &loss[0]
    cdef {real} *gradient = NULL if grad is None else &grad[0, 0]
    with nogil:
        total = rowwise.cross_entropy_float{bits}(
            &logits[0, 0], &labels[0], logits.shape[0], logits.shape[1], scale, losses, gradient)
    return total


def pointwise_{bits}(str name, {real}[::1] x, {real}[::1] t, double[::1] w, double[::1] params, double scale,
                     {real}[::1] value, {real}[::1] grad, {real}[::1] hess):
    cdef double total
    cdef int which = pointwise.find(name)
    cdef double *weights = NULL if w is None else &w[0]
    with nogil:
        total = pointwise.pointwise_loss_float{bits}(
            which, &x[0], &t[0], weights, &value[0], &grad[0], &hess[0], &params[0], scale, x.shape[0])
    return total
"""


def guide() -> list[str]:
    """The examples in Cython of the guide, where the documentation is beside the tests."""
    page = Path(__file__).resolve().parent.parent / "docs" / "native.md"
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    return re.findall(r"^```cython\n((?s:.*?))^```$", text, re.MULTILINE)


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> types.ModuleType:
    """An extension module of someone else's, built as its author would."""
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "")
    if not compiler or shutil.which(compiler[0]) is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("user")
    texts = [IMPORTS, *(FUNCTIONS.format(real=real, bits=bits) for real, bits in (("double", 64), ("float", 32)))]
    (folder / "user_of_lossfast.pyx").write_text("\n\n".join([*texts, *guide()]))
    (folder / "setup.py").write_text(
        "from setuptools import setup\n"
        "from Cython.Build import cythonize\n"
        # Only an editable installation, which is not on sys.path, needs to be pointed out to Cython.
        f"setup(ext_modules=cythonize('user_of_lossfast.pyx', include_path=[{str(Path(lf.__file__).parents[1])!r}]))\n"
    )
    built = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=folder,
        env={**os.environ, "CFLAGS": "-O0"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (file,) = folder.glob("user_of_lossfast*" + sysconfig.get_config_var("EXT_SUFFIX"))
    spec = importlib.util.spec_from_file_location("user_of_lossfast", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def chosen(compiled: Variant) -> Iterator[None]:
    with compiled.chosen():
        yield


DTYPES = pytest.mark.parametrize("dtype", (np.float64, np.float32), ids=("float64", "float32"))


def bits(dtype: type) -> int:
    return 8 * np.dtype(dtype).itemsize


def rows(classes: int, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(classes)
    return (random.normal(size=(ROWS, classes)) * 5).astype(dtype), random.integers(0, classes, ROWS)


@DTYPES
@pytest.mark.parametrize("classes", SHAPES)
def test_rows_from_cython(user, chosen, classes, dtype):
    logits, labels = rows(classes, dtype)
    logsumexp, cross_entropy = (getattr(user, f"{name}_{bits(dtype)}") for name in ("logsumexp", "cross_entropy"))
    expected = lf.logsumexp(logits)
    np.testing.assert_array_equal(np.array([logsumexp(row) for row in logits]).astype(dtype), expected)

    loss, grad = np.empty(ROWS, dtype), np.empty_like(logits)
    value = cross_entropy(logits, labels, 1 / ROWS, loss, grad)
    mean, expected = lf.cross_entropy.value_and_grad(logits, labels)
    assert value == pytest.approx(mean, rel=1e-15)
    np.testing.assert_array_equal(loss, lf.cross_entropy(logits, labels, reduction="none"))
    np.testing.assert_array_equal(grad, expected)
    assert cross_entropy(logits, labels, 1 / ROWS, None, None) == value


@DTYPES
def test_a_label_out_of_range_gives_nan(user, chosen, dtype):
    logits, labels = rows(10, dtype)
    labels[3], labels[7] = 10, -(2**62)
    loss, grad = np.empty(ROWS, dtype), np.empty_like(logits)
    assert np.isnan(getattr(user, f"cross_entropy_{bits(dtype)}")(logits, labels, 1.0, loss, grad))
    bad = np.isin(np.arange(ROWS), (3, 7))
    np.testing.assert_array_equal(np.isnan(loss), bad)
    np.testing.assert_array_equal(np.isnan(grad), np.repeat(bad[:, None], 10, axis=1))


@DTYPES
@pytest.mark.parametrize("name", [name for name in lf.losses() if lf.get_loss(name).kind == "pointwise"])
@pytest.mark.parametrize("weighted", (False, True), ids=("plain", "weighted"))
def test_pointwise_losses_from_cython(user, chosen, name, weighted, dtype):
    loss, n = lf.get_loss(name), 5001  # more than two blocks
    random = np.random.default_rng(1)
    x, t = within(loss, (random.normal(size=n) * 2).astype(dtype), random.random(n).astype(dtype))
    w = random.random(n) if weighted else None
    params = np.zeros(4)
    params[: len(loss.parameters)] = loss.own_numbers()
    value, grad, hess = (np.empty(n, dtype) for _ in range(3))
    total = getattr(user, f"pointwise_{bits(dtype)}")(name, x, t, w, params, 0.25, value, grad, hess)
    options = {"sample_weight": w, "denominator": 4.0}
    assert total / 4 == pytest.approx(loss(x, t, **options), rel=1e-15)
    np.testing.assert_array_equal(value, loss(x, t, sample_weight=w, reduction="none"))
    for found, expected in zip((grad, hess), loss.grad_and_hess(x, t, **options), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.skipif(not guide(), reason="the documentation is not beside the tests")
def test_the_guides_example(user):
    assert user.normaliser(np.zeros(2)) == lf.logsumexp([0.0, 0.0])
    pred, target = np.array([0.5, 3.0, -1.0]), np.zeros(3)
    assert user.huber_sum(pred, target, 2.0) == lf.huber_loss(pred, target, delta=2.0, reduction="sum")


def test_a_loss_without_a_kernel_is_named(user):
    empty = np.zeros(1)
    with pytest.raises(NotImplementedError, match="hubris has no compiled kernel"):
        user.pointwise_64("hubris", *(empty,) * 4, 1.0, *(empty,) * 3)


def exported(module: str, name: str) -> tuple[int, str]:
    """The address of a function in ``__pyx_capi__``, and its signature in C."""
    capsule = importlib.import_module(module).__pyx_capi__[name]
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    signature = api.PyCapsule_GetName(capsule)
    return api.PyCapsule_GetPointer(capsule, signature), signature.decode()


def test_what_is_exported():
    """The names and signatures that others have compiled against."""
    promised = {
        "lossfast.kernels.rowwise": {
            "logsumexp_float64": "double (double const *, ptrdiff_t)",
            "logsumexp_float32": "double (float const *, ptrdiff_t)",
            "cross_entropy_float64": "double (double const *, int64_t const *, ptrdiff_t, ptrdiff_t, double, double *, "
            "double *)",
            "cross_entropy_float32": "double (float const *, int64_t const *, ptrdiff_t, ptrdiff_t, double, float *, "
            "float *)",
        },
        "lossfast.kernels.pointwise": {
            "pointwise_loss_float64": "double (int, double const *, double const *, double const *, double *, "
            "double *, double *, double const *, double, ptrdiff_t)",
            "pointwise_loss_float32": "double (int, float const *, float const *, double const *, float *, "
            "float *, float *, double const *, double, ptrdiff_t)",
        },
    }
    for module, functions in promised.items():
        for name, signature in functions.items():
            assert exported(module, name)[1] == signature, name


def test_by_ctypes(chosen):
    logits, labels = rows(10, np.float64)
    address, _ = exported("lossfast.kernels.rowwise", "cross_entropy_float64")
    pointer, size, real = ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_double
    cross_entropy = ctypes.CFUNCTYPE(real, pointer, pointer, size, size, real, pointer, pointer)(address)
    grad = np.empty_like(logits)
    total = cross_entropy(logits.ctypes.data, labels.ctypes.data, *logits.shape, 1.0, None, grad.ctypes.data)
    value, expected = lf.cross_entropy.value_and_grad(logits, labels, reduction="sum")
    assert total == pytest.approx(value, rel=1e-15)
    np.testing.assert_array_equal(grad, expected)


def test_from_numba(chosen):
    numba = pytest.importorskip("numba")
    address = numba.extending.get_cython_function_address("lossfast.kernels.rowwise", "logsumexp_float64")
    logsumexp = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_void_p, ctypes.c_ssize_t)(address)

    @numba.njit
    def every(x, out):
        for i in range(len(x)):
            out[i] = logsumexp(x[i].ctypes, x.shape[1])

    logits, _ = rows(64, np.float64)
    out = np.empty(ROWS)
    every(logits, out)
    np.testing.assert_array_equal(out, lf.logsumexp(logits))


def test_from_scipy():
    scipy = pytest.importorskip("scipy")
    module = importlib.import_module("lossfast.kernels.rowwise")
    function = scipy.LowLevelCallable.from_cython(module, "logsumexp_float64")
    assert function.signature == "double (double const *, ptrdiff_t)"


def test_alone_in_a_process():
    """The modules of kernels work whether or not anything else of lossfast has been imported or called before."""
    program = (
        "import ctypes; from numba.extending import get_cython_function_address as address\n"
        "f = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_void_p, ctypes.c_ssize_t)(\n"
        "    address('lossfast.kernels.rowwise', 'logsumexp_float64'))\n"
        "x = (ctypes.c_double * 2)(0.0, 0.0)\n"
        "print(f(ctypes.addressof(x), 2))\n"
    )
    pytest.importorskip("numba")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "0.6931471805599453\n"), done.stderr
