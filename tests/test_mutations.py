"""The tests notice a kernel that is wrong: each of these errors, put into a copy of the package, makes them fail.

That each error's place is still to be found in the kernels is tested in the ordinary run.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from variants import COMPILED

ROOT = Path(__file__).parents[1]
KERNELS = ROOT / "lossfast" / "kernels"
#: The quickest to notice come first.
TESTS = [
    f"tests/test_{name}.py"
    for name in ("families", "plain_rows", "sums", "exhaustive", "faults", "divergence", "registry")
]

pytestmark = pytest.mark.skipif(not COMPILED or not (ROOT / "setup.py").exists(), reason="nothing to build here")

#: what goes wrong: file, what stands there, what to put in its place
MUTATIONS = {
    "p - 1 for the true class": (
        "rowwise.h",
        "pair at_mark = minus(times(hard, exactly(V(pivot_rest))));",
        "pair at_mark = times(hard, exactly(V(pivot_e) * V(inverse) - K(1)));",
    ),
    "lse - x for the true class": (
        "rowwise.h",
        "where(far, eighth, V(pivot_nlp)), where(far, K(0), V(pivot_nlp_lo))",
        "where(far, eighth, V(lse) - V(x_pivot) / K(o->temperature)), K(0)",
    ),
    "plain rows that are not near": ("plain.h", "(LF_DTYPE == 32 ? 40.0 : 256.0)", "(LF_DTYPE == 32 ? 80.0 : 600.0)"),
    "the padding of a plain row counts": ("plain.h", "if (!far && !whole) {", "if (0 && !whole) {"),
    "the next row's numbers at the end of a short one": (
        "real.h",
        "b * LF_QUAD + i == LF_LANES - 1 ? n : LF_QUAD);",
        "b * LF_QUAD + i < LF_LANES ? LF_QUAD : n);",
    ),
    "plain rows' stretches where the stages have none": (
        "plain.h",
        "first += k->stretch) {",
        "first += k->stretch - 16) {",
    ),
    "a plain row's pivot without its second part": (
        "real.h",
        "d_store(hi + part * DLANES, r_double(x, part) + r_double(x_lo, part));",
        "d_store(hi + part * DLANES, r_double(x, part)), (void)x_lo;",
    ),
    "a shift by the maximum always": (
        "rowwise.h",
        "shift = where(lt(far, r_abs(m * inverse_t)), m, K(0));",
        "shift = r_fma(far, K(0), m);",
    ),
    "exponentials without their second part": (
        "rowwise.h",
        "return (pair){hi, r_fma(y.w, s, s - hi)};",
        "return (pair){hi, K(0)};",
    ),
    "a divergence from normalisers as they are": (
        "rowwise.h",
        "SET_PAIR(b, plus(PAIR(b), exactly(r_fma(K(0.5) * balance, balance, -balance))));",
        "(void)balance;",
    ),
    "a divergence without the series": (
        "rowwise.h",
        "const mask near = le(r_abs(t), K(1));",
        "const mask near = le(r_abs(t), K(0));",
    ),
    "a divergence's slope from no pivot": (
        "rowwise.h",
        "const mask leads = both(lt(K(0.5), p), lt(r_abs(t.hi), K(INFINITY)));",
        "const mask leads = lt(K(2), p);",
    ),
    "a divergence that is 0 where q is": (
        "rowstages.h",
        "where(both(not_(impossible), eq(zy, K(-INFINITY))), K(INFINITY),",
        "where(both(not_(impossible), eq(zy, K(-INFINITY))), K(0),",
    ),
    "no limit of the other logits": (
        "rowwise.pyx",
        "w.other_limit[lane] = o.limit[lane]",
        "w.other_limit[lane] = 0",
    ),
    "a row's sum in the dtype itself": (
        "real.h",
        "        a->s[part] += r_double(x, part);\n#endif\n    }\n#if LF_DTYPE == 32\n    a->c += lo;",
        "        (void)part;\n#endif\n    }\n#if LF_DTYPE == 32\n    a->c += x + lo;",
    ),
    "a NaN of any sign": ("real.h", "return where(eq(x, x), x, K(NAN));", "return x;"),
    "a total that overflows": (
        "doubledouble.h",
        "if (a->exponent || a->hi - a->hi == 0 || !(hi - hi == 0 && x - x == 0)) return;",
        "(void)hi, (void)lo; return;",
    ),
    "no tail of a pointwise block": (
        "pointwise.h",
        "if (n < k->n) k->odd |= !lf_run_rest(k, n, &sums, want, careful);",
        "(void)0;",
    ),
    "an odd block is not done again": ("pointwise.h", "return !any(negative(odd));", "return 1;"),
    "an infinite sum's block is not done again": (
        "pointwise.h",
        "fine &= !plain || sums.hi[0] - sums.hi[0] == 0;",
        "(void)0;",
    ),
    "no tail of a row": ("rowstages.h", "if (i_ < n) {", "if (0) {    "),
    "the last of equal classes": (
        "rowstages.h",
        "for (ptrdiff_t c_ = n - 1; c_ >= 0; c_--)\n            found",
        "for (ptrdiff_t c_ = 0; c_ < n; c_++)\n            found",
    ),
    "no weight in a row's loss": (
        "rowwise.h",
        "SET(result, rounded(times(exactly(V(weight)), l)) * where(far, K(8), K(1)));",
        "SET(result, rounded(l) * where(far, K(8), K(1)));",
    ),
    "no scale beside a weight": ("pointwise.h", "(d_load(w + part * DLANES) * KD(scale))", "d_load(w + part * DLANES)"),
    "labels below 0 go through": (
        "rowwise.pyx",
        "live[i] = <uint64_t>labels[i] < <uint64_t>g.classes",
        "live[i] = labels[i] < g.classes",
    ),
    "a sum that loses digits": (
        "pointwise.h",
        "else sum_add_one(&total[part], v);",
        "else sum_add_one(&total[part], v + K(1e4) - K(1e4));",
    ),
}


def run(folder, *command):
    environment = {**os.environ, "LOSSFAST_REQUIRE_EXT": "1", "LOSSFAST_CFLAGS": "-O1", "PYTHONPATH": str(folder)}
    environment.pop("LOSSFAST_BACKEND", None)
    return subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)


def build(folder):
    done = run(folder, "setup.py", "-q", "build_ext", "--inplace")
    assert done.returncode == 0, done.stderr[-3000:]


def failures(folder, *options):
    """The tests that fail, of those on the best instruction set."""
    command = [
        "-m",
        "pytest",
        "-q",
        "--tb=no",
        "-rf",
        "-p",
        "no:cacheprovider",
        "-k",
        str(COMPILED[0]),
        *TESTS,
        *options,
    ]
    done = run(folder, *command)
    assert done.returncode in (0, 1), done.stdout[-3000:] + done.stderr[-3000:]
    return re.findall(r"^FAILED (.+?)(?: - .*)?$", done.stdout, re.MULTILINE) or done.returncode * ["?"]


def mutated(name):
    """The file, its text, and what is wrong with it then."""
    file, right, wrong = MUTATIONS[name]
    text = (KERNELS / file).read_text()
    assert text.count(right) == 1, f"{right!r} is to be found once in {file}: adapt the mutation to the code"
    return file, text, text.replace(right, wrong)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy")
    leave = shutil.ignore_patterns("*.so", "__pycache__")
    for name in ("lossfast", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=leave)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    build(folder)
    assert not failures(folder), "the tests fail with nothing broken"
    return folder


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_place_is_there(name):
    mutated(name)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", MUTATIONS)
def test_the_tests_notice(copy, name):
    file, text, wrong = mutated(name)
    path = copy / "lossfast" / "kernels" / file
    path.write_text(wrong)
    try:
        build(copy)
        assert failures(copy, "-x"), f"nothing fails with {MUTATIONS[name][2]!r} in {file}"
    finally:
        path.write_text(text)
