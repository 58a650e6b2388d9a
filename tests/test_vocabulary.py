"""The kernels' elementary functions (functions.h): the error of each, measured, and the input where it is worst.

The table below is the one place of these bounds. Each error is what all float32 inputs (slow) and a sample of float64's
show, a few hundredths of it at the input given; the instruction sets with fused multiply-add share one column, and the
one without has its own.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from exact import mp
from extended import IS_EXTENDED, Extended, as_extended, ulps
from test_exhaustive import BLOCK, TASK, sample, unit
from variants import COMPILED

from lossfast import _words

pytest.importorskip("lossfast.kernels.pointwise", exc_type=ImportError)
from lossfast.kernels.pointwise import apply_word, words  # noqa: E402

pytestmark = pytest.mark.skipif(not COMPILED, reason="of the compiled backend")
extended_only = pytest.mark.skipif(not IS_EXTENDED, reason="long double is not longer than double here")


def phi(t):
    """e^t - 1 - t, by its series where that is near 0."""
    t = np.asarray(t)
    terms = 28 if t.dtype == Extended else 20
    near, clipped = t.dtype.type(1), np.clip(t, -1, 1)
    for n in range(terms, 2, -1):
        near = 1 + clipped / n * near
    far = np.where(t == np.inf, t, np.expm1(t) - t)
    return np.where(np.abs(t) < 0.75, t * t / 2 * near, far)


#: zeta(k) - 1, of which log(1 + u)! is a power series in u
ZETAS = [np.longdouble(mp.nstr(mp.zeta(k) - 1, 30)) for k in range(2, 46)]
EULER, HALF_LOG_2PI = (np.longdouble(mp.nstr(c, 30)) for c in (+mp.euler, mp.log(2 * mp.pi) / 2))
#: Stirling's series in 1/t
STIRLING = [np.longdouble(mp.nstr(mp.bernoulli(2 * k) / (2 * k * (2 * k - 1)), 30)) for k in range(1, 15)]


def log_factorial(t):
    """log(t!): by its series about 1, elsewhere with factors put in or taken out, and by Stirling's from 30 on."""
    t = np.asarray(t)
    rising, u, product = t >= 30, np.where(t < 30, t, 1).astype(t.dtype), np.ones_like(t)
    while (more := u >= 1.5).any():
        product, u = np.where(more, product * u, product), np.where(more, u - 1, u)
    low = u < 0.5
    u = np.where(low, u, u - 1)  # of log(u + 1)!, of which log(u + 1) is taken for a low one
    series = np.zeros_like(t)
    for k, zeta in reversed(list(enumerate(ZETAS, 2))):
        series = series * u + (zeta / k * (-1) ** k).astype(t.dtype)
    near = u * ((1 - EULER).astype(t.dtype) + u * series) - np.where(low, np.log1p(u), 0)
    r = 1 / np.where(rising & (t < np.inf), t, 30)
    rest = np.zeros_like(t)
    for c in STIRLING[::-1]:
        rest = rest * (r * r) + c.astype(t.dtype)
    log = np.log(np.where(rising, t, 30))
    far = np.where(t == np.inf, t, t * (log - 1) + (log / 2 + HALF_LOG_2PI.astype(t.dtype)) + r * rest)
    return np.where(t >= 0, np.where(rising, far, near + np.log(product)), np.nan)


@dataclass(frozen=True)
class Word:
    """What a word computes, within which limits, and of both dtypes (error, worst input), with and without fma."""

    functions: tuple[Callable, Callable]  # of arrays in a longer type, and in arbitrary precision
    limits: tuple[float, float]
    float32: dict[str, tuple[float, str]]
    float64: dict[str, tuple[float, str]]

    def function(self, x):
        with np.errstate(all="ignore"):
            return np.ascontiguousarray(self.functions[0](x))

    def within(self, x):
        """Those of the inputs that it is meant for, and NaN."""
        return x[~((x < self.limits[0]) | (x > self.limits[1]))]

    def worst(self, dtype, isa):
        return (self.float32 if dtype == np.float32 else self.float64)["plain" if isa == "baseline" else "fma"]


MOST = np.finfo(np.float64).max
WORDS = {
    "exp": Word(
        (np.exp, mp.exp),
        (-np.inf, np.inf),
        {"fma": (1.012, "-0x1.76da64p+2"), "plain": (0.989, "-0x1.769da2p+2")},
        {"fma": (0.977, "-0x1.1d609aaf04950p+2"), "plain": (0.947, "-0x1.1fc9a7e460188p+2")},
    ),
    "expm1": Word(
        (np.expm1, mp.expm1),
        (-np.inf, np.inf),
        {"fma": (1.466, "0x1.8996aap-2"), "plain": (1.581, "0x1.846412p-2")},
        {"fma": (1.821, "0x1.7a3d59f78b436p-2"), "plain": (1.959, "0x1.9e491ec86632dp-2")},
    ),
    "phi": Word(
        (phi, lambda t: mp.exp(t) - 1 - t),
        (-np.inf, np.inf),
        {"fma": (1.947, "0x1.0fba10p+4"), "plain": (1.991, "-0x1.9856d8p-1")},
        {"fma": (1.772, "-0x1.98be70033d517p-1"), "plain": (2.061, "-0x1.98d1f1cd236d7p-1")},
    ),
    "exp_negative": Word(
        (lambda a: np.exp(-a), lambda a: mp.exp(-a)),
        (0, np.inf),
        {"fma": (1.012, "0x1.76da64p+2"), "plain": (0.989, "0x1.769da2p+2")},
        {"fma": (0.979, "0x1.1d84b1215ab2fp+2"), "plain": (0.947, "0x1.1ebd6e776b431p+2")},
    ),
    "one_minus_exp_negative": Word(
        (lambda a: -np.expm1(-a), lambda a: -mp.expm1(-a)),
        (0, np.inf),
        {"fma": (0.942, "0x1.87f5dep-2"), "plain": (0.914, "0x1.909640p-2")},
        {"fma": (1.13, "0x1.6a21da2c935c3p-2"), "plain": (1.094, "0x1.73acad597b5acp-2")},
    ),
    "log": Word(
        (np.log, mp.log),
        (-np.inf, np.inf),
        {"fma": (0.84, "0x1.69cf3ep+0"), "plain": (0.84, "0x1.69cf3ep+0")},
        {"fma": (0.844, "0x1.69f518d348545p+0"), "plain": (0.861, "0x1.68c0a63b48997p-1")},
    ),
    "log1p": Word(
        (np.log1p, mp.log1p),
        (0, np.inf),
        {"fma": (0.84, "0x1.a73cf8p-2"), "plain": (0.866, "0x1.a1d53ap-2")},
        {"fma": (0.848, "0x1.a540082ac05ccp-2"), "plain": (0.855, "0x1.9d0bfc77c77cdp-2")},
    ),
    "log1p_unit": Word(
        (np.log1p, mp.log1p),
        (0, 1),
        {"fma": (0.92, "0x1.fbf1d8p-2"), "plain": (0.93, "0x1.e5bde8p-2")},
        {"fma": (0.905, "0x1.fe05f0bb2d64cp-2"), "plain": (0.905, "0x1.fa2a6b0fb50a4p-2")},
    ),
    "pow": Word(
        (lambda x: x ** type(x.flat[0])(2.5), lambda x: x ** mp.mpf(2.5)),
        (0, np.inf),
        {"fma": (1.166, "0x1.000094p+3"), "plain": (1.129, "0x1.00007ap+3")},
        {"fma": (1.138, "0x1.28424fd2a77fbp+2"), "plain": (1.098, "0x1.2a70fcf600f02p+2")},
    ),
    "log_factorial": Word(
        (log_factorial, lambda t: mp.loggamma(t + 1)),
        (0, np.inf),
        {"fma": (4.952, "0x1.091a18p+0"), "plain": (4.952, "0x1.091a18p+0")},
        {"fma": (4.903, "0x1.08896cd21181fp+0"), "plain": (4.903, "0x1.08896cd21181fp+0")},
    ),
    "quotient": Word(
        (lambda x: x / 3, lambda x: x / 3),
        (-MOST, MOST),
        {"fma": (0.667, "0x1p-125"), "plain": (0.334, "0x1.e00002p+1")},
        {"fma": (0.667, "0x1p-1021"), "plain": (1.0, "0x1.ffffffffffffep-1022")},
    ),
}


def errors(word, x, got, dtype):
    """In ULP, of each result."""
    with np.errstate(invalid="ignore"):
        wide = x.astype(Extended if dtype == np.float64 else np.float64)
    return ulps(got, WORDS[word].function(wide), dtype)


def inputs(word, dtype):
    """A sample of the word's interval, dense where its branches meet and about the worst inputs known."""
    parts = [sample(dtype)]
    random = np.random.default_rng(2)
    for worst in (*WORDS[word].float32.values(), *WORDS[word].float64.values()):
        at = dtype(float.fromhex(worst[1]))
        parts.append(at + np.spacing(at) * np.arange(-50, 51))
    parts += [random.uniform(-1, 1, 20_000), random.uniform(-3, 3, 20_000), random.uniform(0.5, 2, 20_000)]
    parts += [10.0 ** random.uniform(-6, 2, 20_000), np.arange(-1100, 1100) * (np.log(2) / 2)]
    x = np.concatenate([part.astype(dtype) for part in parts])
    return WORDS[word].within(np.concatenate((x, np.array([np.nan, np.inf, -np.inf], dtype))))


def test_every_word_is_in_the_table():
    assert sorted(words()) == sorted(WORDS)


@pytest.mark.parametrize(
    "dtype", [np.float32, pytest.param(np.float64, marks=extended_only)], ids=["float32", "float64"]
)
@pytest.mark.parametrize("word", WORDS)
def test_a_sample_is_within_the_error_stated(compiled, word, dtype):
    x = inputs(word, dtype)
    error, worst = WORDS[word].worst(dtype, compiled.isa)
    with compiled.chosen():
        found = errors(word, x, apply_word(word, x), dtype)
        at = np.array([float.fromhex(worst)], dtype)
        there = errors(word, at, apply_word(word, at), dtype)[0]
    top = int(found.argmax())
    assert found[top] <= error, f"{word} is {found[top]:.4f} ULP off at {float(x[top]).hex()}, not {error}"
    assert there > error - 0.011, f"{word} is {there:.4f} ULP off at {worst}, where {error} is stated"


def examine(word, start):
    """The worst error on each instruction set in one stretch of all bit patterns; for another process."""
    found = {}
    for first in range(start, start + TASK, BLOCK):
        x = np.arange(first, first + BLOCK, dtype=np.uint32).view(np.float32)
        x = WORDS[word].within(x)
        if not x.size:
            continue
        with np.errstate(invalid="ignore"):
            true = WORDS[word].function(x.astype(np.float64))
        seen = None
        for variant in COMPILED:
            with variant.chosen():
                got = apply_word(word, x)
            if (bits := got.tobytes()) == seen:
                continue
            seen = bits
            with np.errstate(all="ignore"):
                off = np.abs(got - true) / unit(true, np.float32)
                doubtful = ~(off <= 1)
            off[doubtful] = ulps(got[doubtful], true[doubtful], np.float32)
            top = int(off.argmax())
            found[variant.isa] = max(found.get(variant.isa, (0.0, "")), (float(off[top]), float(x[top]).hex()))
    return found


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("word", WORDS)
def test_all_of_float32(word):
    """Nothing is worse than what is stated."""
    worst: dict[str, tuple[float, str]] = {}
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        for found in pool.map(examine, *zip(*((word, start) for start in range(0, 1 << 32, TASK)), strict=True)):
            for isa, error in found.items():
                worst[isa] = max(worst.get(isa, (0.0, "")), error)
    print(word, worst)
    for isa, (error, at) in worst.items():
        stated = WORDS[word].worst(np.float32, isa)[0]
        assert error <= stated, f"{word} on {isa} is {error:.4f} ULP off at {at}, not {stated}"


@extended_only
@pytest.mark.parametrize("word", WORDS)
def test_the_reference(word):
    """It is right to a hundredth of a unit of float64."""
    x = inputs(word, np.float64)
    x = np.random.default_rng(1).permutation(x[np.isfinite(x)])[:300]
    found = WORDS[word].function(x.astype(Extended))
    x, found = x[~np.isnan(found) & (x != 0)], found[~np.isnan(found) & (x != 0)]
    found = np.where(np.abs(found) > np.finfo(np.float64).max, np.copysign(np.inf, found), found)
    with mp.workprec(2400):
        right = np.array([as_extended(WORDS[word].functions[1](mp.mpf(float(v)))) for v in x])
    assert ulps(found, right, np.float64).max() < 0.01


def test_twins_have_the_kernels_polynomials():
    """Those of the words that are written down twice, in C and in Python."""
    header = Path(_words.__file__).with_name("kernels") / "coefficients.h"
    wide = header.read_text().partition("LF_DTYPE == 64")[2]
    for name in ("LOG_FACTORIAL", "STIRLING"):
        [text] = re.findall(rf"#define LF_{name} {{(.+)}}", wide)
        assert getattr(_words, name) == tuple(map(float.fromhex, text.split(", "))), name
