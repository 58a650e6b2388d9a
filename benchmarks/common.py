"""What the benchmark modules share: the variants of the library, the calls to be measured, and how time is taken."""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime
import functools
import gc
import importlib
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

import lossfast as lf
from lossfast import backends
from lossfast._loss import looped
from lossfast.selftest import fitting

#: Set by ``make bench ASV=--quick``: asv does not tell the suite that its results are to be quick rather than good.
QUICK = os.environ.get("LOSSFAST_BENCH_QUICK", "") not in ("", "0")

#: float16 and bfloat16 take a path of their own; ml_dtypes, which has bfloat16, is optional.
DTYPES = ("float32",) if QUICK else ("float32", "float64", "float16", "bfloat16")

#: What the methods of a loss and of a function are called with.
LOSS_METHODS = ("value", "value_and_grad", "grad_and_hess")
FUNCTION_METHODS = ("value", "vjp")

LOSS_KINDS = ("pointwise", "rowwise")
POINTWISE_KINDS = ("pointwise", "function")

Call = Callable[[], Any]
Item = TypeVar("Item")

ROOT = Path(__file__).resolve().parent.parent


def names(*kinds: str) -> list[str]:
    """The registered losses and functions of these kinds (of all that have kernels, if none is given)."""
    return sorted(name for name, loss in looped().items() if not kinds or loss.kind in kinds)


def methods(kind: str) -> tuple[str, ...]:
    return LOSS_METHODS if kind in LOSS_KINDS else FUNCTION_METHODS


# ----------------------------------------------------------------------------------------------------- variants


def _variants() -> list[str]:
    try:
        compiled = [f"compiled {isa}" for isa in lf.isas()]
    except ImportError:
        compiled = ["compiled"]
    return [*compiled, *(name for name in backends.NAMES if name != "compiled")]


#: Every backend, and of the compiled one every instruction set that this CPU runs, slowest first.
VARIANTS = _variants()


@contextlib.contextmanager
def using(variant: str) -> Iterator[None]:
    """Within, lossfast computes with that variant; an ImportError where it is not to be had."""
    backend, _, isa = variant.partition(" ")
    with contextlib.ExitStack() as stack:
        stack.enter_context(lf.use_backend(backend))
        if isa:
            stack.enter_context(lf.use_isa(isa))
        yield


def available(variant: str) -> bool:
    try:
        with using(variant):
            return True
    except ImportError:
        return False


#: The one that a user gets: the fastest that is there.
DEFAULT = next(
    filter(available, [*(name for name in reversed(VARIANTS) if name.startswith("compiled")), *backends.NAMES])
)


# ------------------------------------------------------------------------------------------------------- inputs


def tells_something(variant: str, dtype: str) -> bool:
    """The backends in Python bring everything to float64, so that half types show nothing about them."""
    return variant.startswith("compiled") or dtype in ("float32", "float64")


def dtype_of(name: str) -> np.dtype[Any] | None:
    """The dtype, or None where it needs a package that is not installed."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        return None
    return np.dtype(ml_dtypes.bfloat16)


def shape_of(text: str) -> tuple[int, ...]:
    """The shape that asv shows as ``"1000x10"``."""
    return tuple(int(length) for length in text.split("x"))


@functools.lru_cache(maxsize=4)
def _draws(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    return random.standard_normal(shape, dtype=np.float32), random.random(shape, dtype=np.float32)


def operands(loss: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Ordinary inputs: predictions around 0 with answers yes and no, or logits with labels that they mostly favour."""
    normal, uniform = _draws(shape)
    if loss.kind in POINTWISE_KINDS:
        pair = (2 * normal, uniform < 0.5)[: len(loss.operands)]
        return fitting(loss, *(operand.astype(dtype) for operand in pair))
    x = 3 * normal
    if loss.kind == "rowwise" and "proba" not in loss.outputs:  # it takes log-probabilities
        np.negative(np.abs(x, out=x), out=x)
    if loss.kind == "row_function":
        return fitting(loss, x.astype(dtype))
    if not loss.labelled:
        return fitting(loss, x.astype(dtype), (x + uniform).astype(dtype))
    labels = np.where(uniform[..., 0] < 0.7, x.argmax(-1), (uniform[..., -1] * shape[-1]).astype(np.intp))
    return fitting(loss, x.astype(dtype), labels)


def call_of(
    loss: Any, method: str, arguments: tuple[np.ndarray, ...], n_threads: int | None = 1, buffers: bool = True
) -> Call | None:
    """A call without arguments, into buffers that exist already unless told otherwise; None if the loss has none."""
    x = arguments[0]
    options: dict[str, Any] = {} if n_threads is None else {"n_threads": n_threads}
    if method == "value":
        if loss.kind not in LOSS_KINDS and buffers:
            options["out"] = loss(*arguments)
        return lambda: loss(*arguments, **options)
    if not hasattr(loss, method):
        return None
    function = getattr(loss, method)
    if method == "vjp":
        arguments = (x, np.ones_like(loss(x)))
        given = ("out",)
    else:
        given = ("grad_out",) if method == "value_and_grad" else ("grad_out", "hess_out")
    if buffers:
        options.update({name: np.zeros_like(x) for name in given})
    return lambda: function(*arguments, **options)


def floor_of(loss: Any, arguments: tuple[np.ndarray, ...]) -> Call:
    """What nothing that reads the operands once and writes a gradient once can beat by much.

    For two operands element by element that is `numpy.subtract`, otherwise `numpy.copyto` (and for half types, whose
    arithmetic NumPy does in software).
    """
    x, out = arguments[0], np.zeros_like(arguments[0])
    if loss.kind == "pointwise" and x.dtype.itemsize > 2:
        return lambda: np.subtract(x, arguments[1], out=out)
    return lambda: np.copyto(out, x)


# --------------------------------------------------------------------------------------------------------- time


#: A call of so many seconds is measured twice, which is enough for what is so far from everything else.
SLOW = 0.3


def interleaved(
    calls: Sequence[Call],
    seconds: float,
    least: int = 3,
    warm: bool = True,
    each: bool = False,
    statistic: Callable[[list[float]], float] = statistics.median,
) -> list[float]:
    """Median time of each call, in seconds, all taken in turns so that a busy moment of the machine meets all alike.

    A turn of a short call is a batch of them, after one that brings its data back to the caches. There are at least
    ``least`` turns, until all calls together have had ``seconds`` for each. With ``each`` every single one has its
    ``seconds``, and calls that have had twice as much sit out: a few slow ones leave turns to the others. With ``warm``
    each is called once first, for what happens once only.
    """
    batches, needed, samples, spent = [], [], [[] for _ in calls], [0.0] * len(calls)
    for index, call in enumerate(calls):
        if warm:
            call()
        once = _batch(call, 1)
        batches.append(max(1, min(1000, int(50e-6 / max(once, 1e-9)))))
        needed.append(min(least, 2) if once > SLOW else least)
        if batches[-1] == 1:
            samples[index].append(once)
            spent[index] = once
    collecting = gc.isenabled()
    gc.disable()
    try:
        while (
            any(len(found) < need for found, need in zip(samples, needed, strict=True))
            or (min(spent) < seconds if each else sum(spent) < seconds * len(calls))
        ) and max(map(len, samples)) < 1000:
            for index, (call, batch, found) in enumerate(zip(calls, batches, samples, strict=True)):
                if len(found) >= needed[index] and (each and spent[index] > 2 * seconds):
                    continue
                if not found or found[-1] < 0.02:
                    call()
                found.append(_batch(call, batch))
                spent[index] += found[-1] * batch
    finally:
        if collecting:
            gc.enable()
    return [statistic(found) for found in samples]


def _batch(call: Call, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


# ------------------------------------------------------------------------------------------------------ reports


def cpu() -> str:
    """The processor, with the numbers that tell it from its siblings: many machines call all of those the same."""
    fields: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name") or platform.processor() or platform.machine()
    if {"cpu family", "model"} <= fields.keys():
        name += f" (family {fields['cpu family']}, model {fields['model']})"
    return name


def cpus() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(packages: Iterable[str] = ("lossfast", "numpy")) -> dict[str, Any]:
    """What figures depend on: the processor, the system, and the versions of these packages."""
    flags: set[str] = set()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("flags", "Features"):
                flags = set(value.split())
    told = ("sse4_2", "avx", "f16c", "fma", "avx2", "avx512f", "avx512bw", "avx512vl", "avx512_bf16", "asimd", "sve")
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.import_module(name).__version__ for name in packages}
    return {
        "cpu": cpu(),
        "cpus": cpus(),
        "instruction sets": [name for name in told if name in flags],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "lossfast backend": lf.get_backend(),
        "lossfast instruction set": lf.get_isa() if lf.get_backend() == "compiled" else None,
        "versions": versions,
    }


def provenance() -> dict[str, str]:
    """The day, and the commit that was measured; ``+`` says that files had been changed since."""

    def git(*arguments: str) -> str:
        run = subprocess.run(["git", *arguments], cwd=Path(lf.__file__).parent, capture_output=True, text=True)
        return run.stdout.strip() if run.returncode == 0 else ""

    commit = git("rev-parse", "--short=12", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", "../setup.py")
    return {"date": datetime.date.today().isoformat(), "commit": commit + ("+" if commit and changed else "")}


def rounded(value: Any, digits: int = 4) -> Any:
    """Figures with the digits that mean something, in whatever holds them."""
    if isinstance(value, dict):
        return {key: rounded(entry, digits) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(entry, digits) for entry in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def dumps(value: Any, depth: int = 1, indent: str = "") -> str:
    """JSON with a line for each entry of its lists, so that a difference is short; objects open to that depth."""
    inner = indent + " "
    if depth and isinstance(value, dict) and value:
        parts = [f"{inner}{json.dumps(key)}: {dumps(entry, depth - 1, inner)}" for key, entry in value.items()]
        text = "{\n" + ",\n".join(parts) + f"\n{indent}}}"
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        text = "[\n" + ",\n".join(inner + json.dumps(entry, allow_nan=False) for entry in value) + f"\n{indent}]"
    else:
        text = json.dumps(value, allow_nan=False)
    return text if indent else text + "\n"


def progress(items: Sequence[Item], what: str, label: Callable[[Item], str] = str) -> Iterator[Item]:
    """The items, one by one, with a bar on stderr if that is a terminal and tqdm is there, otherwise lines."""
    with contextlib.ExitStack() as stack:
        bar: Any = None
        if sys.stderr.isatty():
            with contextlib.suppress(ImportError):
                from tqdm import tqdm

                bar = stack.enter_context(tqdm(total=len(items), desc=what, unit="cell", leave=False))
        for number, item in enumerate(items, 1):
            if bar is not None:
                bar.set_postfix_str(label(item))
            else:
                print(f"{what} {number}/{len(items)}: {label(item)}", file=sys.stderr, flush=True)
            yield item
            if bar is not None:
                bar.update()


def duration(seconds: float) -> str:
    for factor, unit in ((1e6, "us"), (1e3, "ms")):
        if seconds * factor < 1000:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def columns(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Rows of text as a table, the first ``left`` columns flush left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [str.ljust] * left + [str.rjust] * (len(widths) - left)
    lines = ("  ".join(align(cell, w) for align, cell, w in zip(aligned, row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's result from a fresh process, which has nothing but what it imports in its memory."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


# ------------------------------------------------------------------------------------------------------- tables

#: What a ``setup_cache`` hands to its benchmarks: a result for each combination that there is, or why it failed.
Table = dict[tuple[Any, ...], Any]


class Failure(str):
    """What went wrong with one combination, to be raised by the benchmark that asks for it and no other."""


def attempt(table: Table, key: tuple[Any, ...], measure: Callable[..., Any], *arguments: Any) -> None:
    try:
        table[key] = measure(*arguments)
    except Exception as error:
        table[key] = Failure(f"{type(error).__name__}: {error}")


def require(table: Table, *key: Any) -> None:
    """For ``setup``: what is not in the table is not available here, and skipped."""
    if key not in table:
        raise NotImplementedError("not available")


def look_up(table: Table, *key: Any) -> Any:
    found = table[key]
    if isinstance(found, Failure):
        raise RuntimeError(found)
    return found
