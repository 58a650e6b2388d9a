"""Digests of all that the compiled backend computes, the same wherever there is fused multiply-add (`hashes.json`).

    python tests/hashes.py            compare every instruction set of this machine with the file
    python tests/hashes.py --write    rewrite the file
    python tests/hashes.py --cases    print the digest of every single case, to be compared with another machine's

For every object of the registry: each output x dtype x shape x kind of input x option. Inputs are made of integers and
of arithmetic that is exact or rounded once, never by libm, so that they have the same bits everywhere. What is hashed
are the results' bytes, the signs and payloads of NaN among them.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import json
import platform
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import lossfast as lf
from lossfast._loss import DOMAINS, REGISTRY, Choice, inside
from lossfast.selftest import fitting

#: All that has kernels.
KERNELS = {name: loss for name, loss in REGISTRY.items() if loss.kind != "embedding"}

FILE = Path(__file__).with_suffix(".json")
DTYPES = tuple(map(np.dtype, (np.float64, np.float32, np.float16, ml_dtypes.bfloat16)))

# ------------------------------------------------------------------------------------------------------- inputs


@functools.cache
def bits(shape: tuple[int, ...], *key: Any) -> np.ndarray:
    """Random integers of 64 bits."""
    seed = zlib.crc32(repr((shape, key)).encode())
    return np.random.PCG64(seed).random_raw(int(np.prod(shape))).reshape(shape)


def uniform(shape: tuple[int, ...], *key: Any) -> np.ndarray:
    """In [0, 1)."""
    return (bits(shape, *key) >> 11) * 2.0**-53


def bell(shape: tuple[int, ...], *key: Any) -> np.ndarray:
    """About normal, in [-2, 2)."""
    a, b, c, d = (uniform(shape, number, *key) for number in range(4))
    return (a + b) + (c + d) - 2


@functools.cache
def eighths(shape: tuple[int, ...], *key: Any) -> np.ndarray:
    """Weights, exact in every dtype."""
    return (bits(shape, "weight", *key) % 16).astype(np.float64) / 8


def special_values(dtype: np.dtype) -> np.ndarray:
    """Zeros, infinities, NaN of several kinds, and both ends of the normal and of the subnormal numbers."""
    width, mantissa = 8 * dtype.itemsize, ml_dtypes.finfo(dtype).nmant
    infinity = ((1 << (width - 1 - mantissa)) - 1) << mantissa
    normal, quiet = 1 << mantissa, infinity | 1 << (mantissa - 1)
    sizes = [0, 1, normal - 1, normal, infinity - 1, infinity, infinity, quiet, quiet | 1, infinity | 1]
    signed = [size | sign << (width - 1) for size in sizes for sign in (0, 1)]
    return np.array(signed, f"u{dtype.itemsize}").view(dtype)


def special(shape: tuple[int, int], dtype: np.dtype, *key: Any) -> np.ndarray:
    """Ordinary rows in which about two entries are replaced, by at most two different values."""
    values, (rows, _) = special_values(dtype), shape
    chosen = values[bits((rows, 2), "chosen", *key) % len(values)]
    replaced, number = uniform(shape, "replaced", *key) < 2 / (shape[1] + 4), bits(shape, "number", *key) % 2
    x = (6 * bell(shape, *key)).astype(dtype)
    return np.where(replaced, np.where(number == 0, chosen[:, :1], chosen[:, 1:]), x)


#: What a number of a family is made of: standard bell-shaped z, uniform u and the dtype's limits.
FAMILIES: dict[str, Any] = {
    "ordinary": lambda z, u, limits: 6 * z,
    "confident": lambda z, u, limits: 6 * z + np.where(u < 0.1, 30, 0),
    "wide": lambda z, u, limits: 500 * z,
    "offset": lambda z, u, limits: 6 * z + 1e4,
    "near": lambda z, u, limits: 0.5 + 8 * float(limits.eps) * z,
    "tiny": lambda z, u, limits: 4 * float(limits.smallest_normal) * z,
    "huge": lambda z, u, limits: float(limits.max) / 2 * z,
}
EVERY_FAMILY = (*FAMILIES, "special", "mixed")


@functools.cache
def numbers(family: str, shape: tuple[int, int], dtype: np.dtype, *key: Any) -> np.ndarray:
    """Rows of one family; "mixed" rows are of all of them in turn."""
    with np.errstate(all="ignore"):
        if family == "special":
            x = special(shape, dtype, *key)
        elif family == "mixed":
            x, families = np.empty(shape, dtype), EVERY_FAMILY[:-1]
            for number, each in enumerate(families):
                part = x[number :: len(families)]
                part[...] = numbers(each, part.shape, dtype, number, *key)
        else:
            z, u = bell(shape, family, *key), uniform(shape, family, *key)
            x = FAMILIES[family](z, u, ml_dtypes.finfo(dtype)).astype(dtype)
    x.flags.writeable = False
    return x


# -------------------------------------------------------------------------------------------------------- cases


@dataclass
class Case:
    """A call: what it is of, what is given, and a direction for derivatives along one."""

    name: str
    operands: tuple[np.ndarray, ...]
    options: dict[str, Any]
    v: np.ndarray
    whole: bool


SOME = ("ordinary", "mixed")
ODD = ("special", "mixed")
ONE_MORE_THAN_A_CHUNK = 31_745
#: Of pointwise objects and of those over a class axis: shapes, families, options (None: every one), and whether
#: they are large, so that only what depends on the whole is looked at.
PLANS: dict[bool, tuple[tuple[Any, ...], ...]] = {
    False: (
        ([(1, n) for n in range(1, 41)], ("mixed",), ("plain",), False),
        ([(1, 2047), (1, 2048), (1, 2049), (0, 3)], SOME, ("plain",), False),
        ([(9, 7)], EVERY_FAMILY, ("plain",), False),
        ([(9, 7)], ODD, None, False),
        ([(3, 90_001)], ("mixed",), ("plain", "everything"), True),
    ),
    True: (
        ([(19, C) for C in (1, 2, 3, 64, 192, 193)] + [(9, 1000), (0, 3)], SOME, ("plain",), False),
        ([(19, 10), (9, 200)], EVERY_FAMILY, ("plain",), False),
        ([(19, 10), (9, 200)], ODD, None, False),
        ([(9, ONE_MORE_THAN_A_CHUNK)], ("mixed",), ("plain",), True),
        ([(27_001, 10), (1_351, 200)], ("mixed",), ("everything",), True),
    ),
}

#: What options get; the others change nothing but the form or are in every case (`reduction`).
GIVEN: dict[str, Any] = {
    "class_weight": lambda rows, C: eighths((C,), "class"),
    "sample_weight": lambda rows, C: eighths((rows,), "sample"),
    "where": lambda rows, C: bits((rows, C), "mask") % 4 != 0,
    "b": lambda rows, C: eighths((rows, C), "b") - 0.5,
}
OTHERWISE = {"ignore_index", "axis", "reduction", "denominator", "empty", "check", "n_threads", "keepdims"}


def parameters_of(loss: Any) -> Iterator[dict[str, float]]:
    """Each parameter at values of its domain, the others at their defaults."""
    for name, parameter in loss.parameters.items():
        for value in parameter.choices if isinstance(parameter, Choice) else (-0.5, 0.0, 0.3, 1.0, 2.5):
            if value != parameter.default and (isinstance(parameter, Choice) or DOMAINS[parameter.domain](value)):
                yield {name: value}


def one_by_one(loss: Any, shape: tuple[int, int]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, options): none, each by itself, all at once."""
    yield "plain", {}
    found = list(parameters_of(loss))
    found += [{name: make(*shape)} for name, make in GIVEN.items() if name in loss.shared]
    if loss.extra:
        found.append({loss.extra: float(inside(loss, loss.extra, 2.5))})
        found.append({loss.extra: inside(loss, loss.extra, eighths(shape[1:], "extra"))})
    for options in found:
        [(name, value)] = options.items()
        yield name if np.ndim(value) else f"{name}={value}", options
    yield "everything", {name: value for options in found for name, value in options.items()}


def calls_of(loss: Any, x: np.ndarray, family: str) -> Iterator[tuple[str, tuple[np.ndarray, ...], dict[str, Any]]]:
    """(name, operands, options) of every call with these numbers."""
    (rows, C), dtype = x.shape, x.dtype
    settings = list(one_by_one(loss, x.shape))
    if loss.differentiable:
        others = [numbers(family, (x.size, 1), dtype, name).reshape(x.shape) for name in loss.operands[1:]]
        operands = tuple(inside(loss, *pair) for pair in zip(loss.operands, (x, *others), strict=True))
        yield from ((name, operands, options) for name, options in settings)
        return
    targets: dict[str, np.ndarray] = {}
    (x,) = fitting(loss, x)
    if loss.kind == "pointwise":
        x = inside(loss, "pred", x)
        ends, u = bits(x.shape, "target") % 4, uniform(x.shape, "target")
        wide = np.where(ends < 2, ends, u)
        if family == "near":
            wide = x.astype(np.float64) + float(ml_dtypes.finfo(dtype).eps) * ends
        wide = inside(loss, "target", wide)
        targets = {"": inside(loss, "target", wide.astype(dtype)), "float64": wide}
    elif loss.kind == "rowwise" and not loss.labelled:
        wide = x.astype(np.float64) + eighths((rows, C), "other") * np.where(bits((rows, 1), "near") % 2, 1, 2.0**-20)
        if loss.takes:
            near = eighths((rows, C), "other") * np.where(bits((rows, 1), "near") % 2, 0.5, 2.0**-20)
            same = loss.takes[0] == loss.takes[1]
            wide = np.abs(x.astype(np.float64) * (1 + near)) if same else fitting(loss, x, wide)[1]
        targets = {"": wide.astype(dtype), "float64": wide}
    elif loss.kind == "rowwise":
        labels = (bits((rows,), "label") % C).astype(np.int64)
        targets = {"": labels, "ignored": np.where(bits((rows,), "ignored") % 4 == 0, -100, labels)}
        if loss.soft:
            one_hot = (np.arange(C) == labels[:, None]).astype(dtype)
            soft = (eighths((rows, C), "soft") * (bits((rows, C), "zero") % 2)).astype(dtype)
            soft = np.where(bits((rows, 1), "hard") % 4 == 0, one_hot, soft)
            targets.update({"one-hot": one_hot, "soft": soft, "soft in float64": soft.astype(np.float64)})
    for name, options in settings:
        yield name, (x, targets[""]) if targets else (x,), options
    for name, target in targets.items():
        if name:
            yield name, (x, target), {}
            yield f"{name}, everything", (x, target), settings[-1][1]
    if "axis" in loss.shared:
        turned = [np.ascontiguousarray(array.T) for array in (x, *([targets[""]] if targets else []))]  # labels stay
        yield "axis=0", tuple(turned), {"axis": 0}


def cases(loss: Any, dtype: np.dtype) -> Iterator[Case]:
    over_rows = loss.kind.startswith("row")
    for shapes, families, settings, whole in PLANS[over_rows]:
        for shape, family in itertools.product(shapes, families):
            one_number_a_row = shape if over_rows else (shape[0] * shape[1], 1)
            x, v = (numbers(family, one_number_a_row, dtype, name).reshape(shape) for name in "xv")
            for name, operands, options in calls_of(loss, x, family):
                if settings is None or name in settings:
                    yield Case(f"{shape[0]}x{shape[1]} {family} {name}", operands, options, v, whole)


# ------------------------------------------------------------------------------------------------------ results


def results(loss: Any, case: Case) -> Iterator[tuple[str, Any]]:
    """(output, result) of every method; what several methods give comes as often."""
    of = function if "function" in loss.kind else reducing
    for name, result in of(loss, case.operands, case.options, case.v, case.whole):
        yield from ((name, part) for part in (result if isinstance(result, tuple) else (result,)))


def reducing(
    loss: Any, operands: tuple[np.ndarray, ...], options: dict[str, Any], v: np.ndarray, whole: bool
) -> Iterator[tuple[str, Any]]:
    x = operands[0]
    merged = loss.reduce(*operands, **options)
    yield from (("sum", merged.sum), ("mean", merged.mean), ("weight", merged.weight), ("weight", merged.count))
    for reduction in ("mean",) if whole else ("mean", "none"):
        every = loss.evaluate(*operands, reduction=reduction, **options)._asdict()
        yield ("loss" if reduction == "none" else reduction), every.pop("loss")
        yield from every.items()
    if whole:
        return
    for reduction in ("mean", "none"):
        if "hvp" in loss.outputs:
            yield "hvp", loss.hvp(*operands, np.resize(v, x.shape), reduction=reduction, **options)
        if "newton_step" in loss.outputs:
            yield "newton_step", loss.newton_step(*operands, ridge=0.125, reduction=reduction, **options)
    weighed = loss.weigh(*operands, **options)
    yield from (("weight", weighed.weight), ("weight", weighed.count))
    yield from ((reduction, loss(*operands, reduction=reduction, **options)) for reduction in ("sum", "batchmean"))
    yield "mean", loss(*operands, denominator=2.5, **options)
    given = {**options, "reduction": "none"}
    rows = loss(*operands, **given)
    yield "loss", rows
    yield "grad", loss.grad(*operands, **given)
    yield from zip(("loss", "grad"), loss.value_and_grad(*operands, **given), strict=True)
    if "hess" in loss.outputs:
        yield from zip(("grad", "hess"), loss.grad_and_hess(*operands, **given), strict=True)
    for dtype in () if options else DTYPES:
        grad_out = [np.zeros(x.shape, dtype) for _ in loss.differentiable or "x"]
        buffers = {"out": np.zeros(rows.shape, dtype), "grad_out": grad_out if loss.differentiable else grad_out[0]}
        yield from zip(("loss", "grad"), loss.value_and_grad(*operands, **given, **buffers), strict=True)


def function(
    loss: Any, operands: tuple[np.ndarray, ...], options: dict[str, Any], v: np.ndarray, whole: bool
) -> Iterator[tuple[str, Any]]:
    [x] = operands
    result = loss(x, **options)
    yield "value", result
    for dtype in () if options else DTYPES:
        yield "value", loss(x, out=np.zeros(result.shape, dtype), **options)
    yield "vjp", loss.vjp(x, np.resize(v, result.shape), **options)
    yield "jvp", loss.jvp(x, np.resize(v, x.shape), **options)
    if hasattr(loss, "jacobian") and x.shape[-1] <= 100:
        yield "jacobian", loss.jacobian(x, **options)
    if "sign" in loss.outputs:
        yield from zip(("value", "sign"), loss.with_sign(x, **options), strict=True)
    if "sign" in loss.outputs or "grad" in loss.outputs:
        yield "grad", loss.grad(x, **options)


#: The methods in the two functions above.
METHODS = {
    True: {
        *("evaluate", "grad", "value_and_grad", "grad_and_hess"),
        *("hvp", "newton_step", "reduce", "weigh"),
    },
    False: {"vjp", "jvp", "jacobian", "with_sign", "grad"},
}

# ------------------------------------------------------------------------------------------------------ digests


def digest(*results: Any) -> str:
    """Of dtypes, shapes and bytes; integers of any width alike, bytes in little-endian order."""
    found = hashlib.sha256()
    for result in results:
        a = np.ascontiguousarray(result)
        if a.dtype.kind in "iub":
            a = a.astype(np.int64)
        found.update(f"{a.dtype.name}{np.shape(result)}".encode())
        found.update((a if sys.byteorder == "little" else a.byteswap()).tobytes())
    return found.hexdigest()[:12]


Digests = dict[str, dict[str, str]]


def by_case(loss: Any, dtype: np.dtype) -> Digests:
    """{output: {case: digest}}, on the instruction set in use."""
    found: Digests = {}
    with np.errstate(all="ignore"):
        for case in cases(loss, dtype):
            given = [a for a in case.options.values() if isinstance(a, np.ndarray)]
            outputs: dict[str, list[Any]] = {"inputs": [*case.operands, case.v, *given]}
            for name, result in results(loss, case):
                outputs.setdefault(name, []).append(result)
            for name, several in outputs.items():
                found.setdefault(name, {})[case.name] = digest(*several)
    return found


def summary(found: Digests) -> dict[str, str]:
    """{output: digest} of all cases."""
    return {name: hashlib.sha256("".join(all_.values()).encode()).hexdigest()[:12] for name, all_ in found.items()}


def digests(isa: str) -> Digests:
    """{"function.output": {dtype: digest}}"""
    found: Digests = {}
    with lf.use_backend("compiled"), lf.use_isa(isa):
        for loss in KERNELS.values():
            for dtype in DTYPES:
                for output, short in summary(by_case(loss, dtype)).items():
                    found.setdefault(f"{loss.name}.{output}", {})[dtype.name] = short
    return found


def family_of(isa: str) -> str:
    """Which part of the file an instruction set is compared with."""
    return f"{isa} {platform.machine().lower().replace('amd64', 'x86_64')}" if isa == "baseline" else "fma"


def stored() -> dict[str, Digests]:
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def differences(isa: str, expected: dict[str, Digests], found: Digests) -> list[str]:
    """A line for each digest that is not the file's."""
    family = family_of(isa)
    before = expected.get(family, {})
    lines = []
    for name in sorted({*before, *found}):
        old, new = before.get(name, {}), found.get(name, {})
        for dtype in sorted({*old, *new}):
            if old.get(dtype) != new.get(dtype):
                was, is_ = old.get(dtype, "nothing"), new.get(dtype, "nothing")
                lines.append(f"{name} in {dtype} on {isa}: {is_}, in the file {was}")
    return lines


def cases_that_differ(first: str, second: str, losses: Iterable[Any] | None = None) -> list[str]:
    """A line for each case in which two instruction sets differ, with the first entry that does."""
    lines = []
    for loss in KERNELS.values() if losses is None else losses:
        for dtype in DTYPES:
            for case in cases(loss, dtype):
                found = []
                for isa in (first, second):
                    with lf.use_backend("compiled"), lf.use_isa(isa), np.errstate(all="ignore"):
                        found.append(list(results(loss, case)))
                seen = set()
                for (name, a), (_, b) in zip(*found, strict=True):
                    if digest(a) != digest(b) and name not in seen:
                        seen.add(name)
                        lines.append(f"{loss.name}.{name} in {dtype.name}, {case.name}: {first_difference(a, b)}")
    return lines


def first_difference(a: Any, b: Any) -> str:
    """Where two results of one shape differ first, and the bits there."""
    pairs = [np.ascontiguousarray(side).ravel() for side in (a, b)]
    raw = [side.view(f"u{side.dtype.itemsize}") for side in pairs]
    at = int(np.flatnonzero(raw[0] != raw[1])[0])
    values = " and ".join(
        f"{side[at]} ({int(word[at]):#0{2 + 2 * side.dtype.itemsize}x})" for side, word in zip(pairs, raw, strict=True)
    )
    place = tuple(map(int, np.unravel_index(at, np.shape(a)))) if np.ndim(a) else ()
    return f"at {place} {values}"


def dumped(found: dict[str, Digests]) -> str:
    """JSON with one line for each function and output."""
    parts = []
    for family, all_ in sorted(found.items()):
        lines = [f"  {json.dumps(name)}: {json.dumps(row, sort_keys=True)}" for name, row in sorted(all_.items())]
        parts.append(f" {json.dumps(family)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="rewrite the file")
    parser.add_argument("--cases", action="store_true", help="print each case's digest, on the instruction set in use")
    options = parser.parse_args()
    if options.cases:
        with lf.use_backend("compiled"):
            for loss in KERNELS.values():
                for dtype in DTYPES:
                    for output, all_ in by_case(loss, dtype).items():
                        for case, short in all_.items():
                            print(f"{loss.name}.{output} in {dtype.name}, {case}: {short}")
        return 0
    found = {isa: digests(isa) for isa in reversed(lf.isas())}
    fused = [isa for isa in found if family_of(isa) == "fma"]
    wrong = [line for isa in fused[1:] for line in differences(isa, {"fma": found[fused[0]]}, found[isa])]
    if wrong:
        names = {line.partition(".")[0] for line in wrong}
        for isa in fused[1:]:
            for line in cases_that_differ(fused[0], isa, [KERNELS[name] for name in sorted(names)])[:40]:
                print(f"{fused[0]} and {isa} differ: {line}")
    if options.write and not wrong:
        FILE.write_text(dumped({**stored(), **{family_of(isa): all_ for isa, all_ in reversed(found.items())}}))
        print(f"wrote {FILE.name}")
        return 0
    for isa, all_ in found.items():
        lines = differences(isa, stored(), all_)
        print("\n".join(lines) if lines else f"{isa}: {sum(map(len, all_.values()))} digests as in the file")
        wrong += lines
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
