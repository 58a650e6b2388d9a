"""How time and memory grow: with elements, classes and threads; what layouts, a call and the import cost.

All for value and gradient on one thread unless it says otherwise, with buffers given. Every time stands beside what
NumPy takes to copy (subtract, or only read) the same arrays, in turns with it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import lossfast as lf

from . import common, memory, overhead

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
#: Numbers that are drawn; longer inputs repeat them.
DRAWN = 1 << 20
CLASSES = (
    *(2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 17, 20, 24, 28, 32, 33, 40, 48, 56, 64, 65, 80, 100, 128, 129, 160, 200),
    *(256, 300, 400, 512, 700, 1000, 1024, 1500, 2000, 3000, 4096, 6000, 10_000, 16_000, 32_000, 50_000, 100_000),
    *(128_256, 200_000, 250_000),
)
QUICK_CLASSES = (2, 3, 10, 32, 100, 1000, 30_000)
#: Of the memory that is free, what arrays may take before the gradient is written over the logits, and at all.
ROOMY, ROOM = 0.45, 0.75


class Series(NamedTuple):
    """A line of a plot."""

    loss: str
    method: str = "value_and_grad"
    dtype: str = "float32"
    classes: int = 0  # 0 for pointwise losses

    def __str__(self) -> str:
        text = self.loss + (" with gradient" if self.method == "value_and_grad" else "")
        text += f", {self.classes:,} classes" if self.classes else ""
        return text + (f", {self.dtype}" if self.dtype != "float32" else "")


BY_ELEMENTS = (
    Series("cross_entropy", classes=10),
    Series("cross_entropy", classes=1000),
    Series("cross_entropy", "value", classes=1000),
    Series("binary_cross_entropy_with_logits"),
    Series("smooth_l1_loss"),
)
BY_CLASSES = (
    Series("cross_entropy"),
    Series("cross_entropy", dtype="float64"),
    Series("cross_entropy", "value"),
    Series("softmax", "value"),
)
BY_THREADS = (
    Series("cross_entropy", classes=10),
    Series("cross_entropy", classes=1000),
    Series("binary_cross_entropy_with_logits"),
    Series("smooth_l1_loss"),
)


# ----------------------------------------------------------------------------------------------------- elements


def free_bytes() -> int:
    """Memory that can be had without harm to others; a gigabyte where nobody tells."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 1 << 30
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))


def tiled(block: np.ndarray, length: int) -> np.ndarray:
    """The block, over and over."""
    out = np.empty((length, *block.shape[1:]), block.dtype)
    for start in range(0, length, len(block)):
        out[start : start + len(block)] = block[: length - start]
    return out


def operands(series: Series, elements: int) -> tuple[np.ndarray, ...]:
    """Ordinary inputs of about so many elements, drawn once in a while only."""
    shape: tuple[int, ...] = (elements,)
    if series.classes:
        shape = (max(1, elements // series.classes), series.classes)
    drawn = (min(shape[0], max(1, DRAWN // (series.classes or 1))), *shape[1:])
    found = common.operands(lf.get_loss(series.loss), np.dtype(series.dtype), drawn)
    return tuple(tiled(array, shape[0]) for array in found)


def point(series: Series, elements: int, seconds: float) -> dict[str, Any]:
    """Nanoseconds per element of the call and of NumPy's; or why not."""
    itemsize, grad = np.dtype(series.dtype).itemsize, series.method == "value_and_grad"
    inputs = elements * itemsize * (1 if series.classes else 2) + (
        8 * elements // series.classes if series.classes else 0
    )
    free = free_bytes()
    in_place = grad and inputs + elements * itemsize > ROOMY * free
    if inputs > ROOM * free:
        return {"elements": elements, "left out": f"{inputs / 1e9:.1f} GB of inputs, {free / 1e9:.1f} GB free"}
    arguments = operands(series, elements)
    x, loss = arguments[0], lf.get_loss(series.loss)
    out = x if in_place else np.zeros_like(x) if grad else None
    options = {} if out is None else {"grad_out": out}
    floor: common.Call
    if out is None:
        floor = lambda: np.max(x)  # noqa: E731
    elif not series.classes:
        floor = lambda: np.subtract(x, arguments[1], out=out)  # noqa: E731
    else:
        floor = (lambda: np.negative(x, out=x)) if in_place else (lambda: np.copyto(out, x))  # noqa: E731
    call = loss.value_and_grad if grad else loss
    found = common.interleaved(
        [lambda: call(*arguments, n_threads=1, **options), floor], seconds, 2 if elements > 10**8 else 3
    )
    own, unit = (1e9 * one / x.size for one in found)
    return {"elements": x.size, "ns": own, "floor": unit, "in place": in_place}


def by_elements(quick: bool) -> list[dict[str, Any]]:
    most, seconds = (12, 0.005) if quick else (18, 0.1)
    tasks = [(series, round(10 ** (half / 2))) for series in BY_ELEMENTS for half in range(6, most + 1)]
    found: dict[Series, list[dict[str, Any]]] = {series: [] for series in BY_ELEMENTS}
    for series, elements in common.progress(tasks, "elements", lambda task: f"{task[0]}: {task[1]:,}"):
        found[series].append(point(series, elements, seconds))
    return [{"name": str(series), "points": points} for series, points in found.items()]


# ------------------------------------------------------------------------------------------------------ classes


def by_classes(quick: bool) -> list[dict[str, Any]]:
    elements, seconds = (200_000, 0.005) if quick else (4_000_000, 0.06)
    tasks = [(classes, series) for classes in (QUICK_CLASSES if quick else CLASSES) for series in BY_CLASSES]
    found: dict[Series, list[dict[str, Any]]] = {series: [] for series in BY_CLASSES}
    for classes, series in common.progress(tasks, "classes", lambda task: f"{task[0]:,}: {task[1]}"):
        loss = lf.get_loss(series.loss)
        arguments = common.operands(loss, np.dtype(series.dtype), (max(1, elements // classes), classes))
        call = common.call_of(loss, series.method, arguments)
        assert call is not None
        own, floor = common.interleaved([call, common.floor_of(loss, arguments)], seconds)
        size = arguments[0].size
        found[series].append({"classes": classes, "ns": 1e9 * own / size, "floor": 1e9 * floor / size})
    return [{"name": str(series), "points": points} for series, points in found.items()]


# ------------------------------------------------------------------------------------------------------- memory


def by_memory(quick: bool) -> list[dict[str, Any]]:
    """Bytes beyond the buffers, each from a process of its own; beyond `memory.HELD` numbers of the value alone."""
    shapes = {
        "cross_entropy": ("{}x10", 10),
        "softmax": ("10x{}", 10),
        "binary_cross_entropy_with_logits": ("{}", 1),
    }
    sizes = [10**power for power in (range(4, 6) if quick else range(4, 10))]
    counts = sorted({1, common.cpus()})
    tasks = [(name, size, count) for name in shapes for size in sizes for count in counts]
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for name, size, count in common.progress(tasks, "memory", lambda task: f"{task[0]}: {task[1]:,}"):
        pattern, other = shapes[name]
        loss, held = lf.get_loss(name).kind in common.LOSS_KINDS, size <= memory.HELD
        if not loss and not held:
            continue  # its result is as large
        method = "value_and_grad" if loss and held else "value"
        taken = common.in_child(memory.extra_bytes, name, method, pattern.format(size // other), count)
        found.setdefault((name, count), []).append({"elements": size, "bytes": taken})
    return [
        {"name": name, "shape": shapes[name][0].format("n"), "threads": count, "points": points}
        for (name, count), points in found.items()
    ]


# ------------------------------------------------------------------------------------------------------ threads


def by_threads(quick: bool) -> list[dict[str, Any]]:
    """Seconds of a call by its number of threads."""
    counts = [count for count in (1, 2, 4, 8, 16, 32, 64) if count <= common.cpus()]
    most, seconds = (11, 0.005) if quick else (15, 0.1)
    tasks = [(series, round(10 ** (half / 2))) for series in BY_THREADS for half in range(6, most + 1)]
    found: dict[Series, list[dict[str, Any]]] = {series: [] for series in BY_THREADS}
    for series, elements in common.progress(tasks, "threads", lambda task: f"{task[0]}: {task[1]:,}"):
        arguments = operands(series, elements)
        calls = [common.call_of(lf.get_loss(series.loss), series.method, arguments, count) for count in counts]
        times = common.interleaved([*filter(None, calls)], seconds)
        found[series].append(
            {"elements": arguments[0].size, "seconds": dict(zip(map(str, counts), times, strict=True))}
        )
    return [{"name": str(series), "points": points} for series, points in found.items()]


def work_a_while(n_threads: int | None, seconds: float) -> tuple[int, int, float]:
    """For a worker: the threads that a call takes by itself, how many calls were made, in what time."""
    arguments = common.operands(lf.cross_entropy, FLOAT32, (100_000, 10))
    call = common.call_of(lf.cross_entropy, "value_and_grad", arguments, n_threads)
    assert call is not None
    call()
    start, calls = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds:
        call()
        calls += 1
    return lf.get_num_threads(), calls, spent


def in_workers(quick: bool) -> list[dict[str, Any]]:
    """joblib's workers, one for each CPU: calls a second with threads left alone, over those with one thread each."""
    try:
        import joblib
    except ImportError:
        return []
    seconds, workers, found = (0.05 if quick else 0.5), common.cpus(), []
    for backend in ("loky", "threading"):
        with joblib.Parallel(n_jobs=workers, backend=backend) as parallel:
            ratios, threads = [], 0
            for _ in range(2 if quick else 5):
                rates = []
                for n_threads in (None, 1):
                    task = joblib.delayed(work_a_while)(n_threads, seconds)
                    results = parallel([task] * workers)
                    threads = max(threads, *(count for count, _, _ in results))
                    rates.append(sum(calls / spent for _, calls, spent in results))
                ratios.append(rates[0] / rates[1])
        found.append({"backend": backend, "workers": workers, "threads": threads, "rate": statistics.median(ratios)})
    return found


# ------------------------------------------------------------------------------------------------------ layouts


class Layout(NamedTuple):
    """How arrays may lie: made of contiguous float32 or float64 ones, with the bytes that are moved for an element."""

    make: Callable[[np.ndarray], np.ndarray]
    bytes_moved: int
    of: np.dtype[Any] = FLOAT32
    axis: int = -1
    gradient: np.dtype[Any] | None = None


def _every_second(x: np.ndarray) -> np.ndarray:
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


def _misaligned(x: np.ndarray) -> np.ndarray:
    out = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    out[...] = x
    return out


def layouts() -> dict[str, Layout]:
    found = {
        "axis=0": Layout(lambda x: np.ascontiguousarray(x.T), 8, axis=0),
        "Fortran order": Layout(np.asfortranarray, 8),
        "every second number": Layout(_every_second, 16),
        "one byte off": Layout(_misaligned, 8),
        "the other byte order": Layout(lambda x: x.astype(x.dtype.newbyteorder()), 8),
        "float64, its gradient float32": Layout(lambda x: x, 12, FLOAT64, gradient=FLOAT32),
        "float16": Layout(lambda x: x.astype(np.float16), 4),
    }
    bfloat16 = common.dtype_of("bfloat16")
    if bfloat16 is not None:
        found["bfloat16"] = Layout(lambda x: x.astype(bfloat16), 4)
    return found


LAID_OUT = (("cross_entropy", "100000x10"), ("cross_entropy", "4096x1000"), ("huber_loss", "1000x1000"))


def by_layout(quick: bool) -> list[dict[str, Any]]:
    """Time for each byte that is moved, over that of the contiguous case (of the same dtype if it is wider)."""
    seconds, found = (0.005 if quick else 0.2), []
    tasks = [(case, name, layout) for case in LAID_OUT for name, layout in layouts().items()]
    for (loss_name, shape), name, layout in common.progress(tasks, "layouts", lambda task: f"{task[0][0]}: {task[1]}"):
        loss = lf.get_loss(loss_name)
        if loss.kind == "pointwise" and layout.axis == 0:
            continue
        length, *rest = common.shape_of(shape)
        plain = common.operands(loss, layout.of, (length // 10 if quick else length, *rest))
        made = [layout.make(array) if array.ndim == 2 else array for array in plain]
        buffer = np.zeros_like(made[0], dtype=layout.gradient or made[0].dtype.newbyteorder("="))
        if name in ("every second number", "one byte off"):
            buffer = layout.make(buffer)
        options = {"axis": 0} if layout.axis == 0 else {}

        def call(made: Any = made, loss: Any = loss, buffer: Any = buffer, options: Any = options) -> Any:
            return loss.value_and_grad(*made, grad_out=buffer, n_threads=1, **options)

        usual = common.call_of(loss, "value_and_grad", plain)
        assert usual is not None
        own, reference = common.interleaved([call, usual], seconds)
        ratio = own / layout.bytes_moved / (reference / (2 * layout.of.itemsize))
        found.append({"loss": loss_name, "shape": shape, "layout": name, "ratio": ratio, "time ratio": own / reference})
    return found


# --------------------------------------------------------------------------------------------- calls and imports


def by_call(quick: bool) -> list[dict[str, Any]]:
    """Microseconds of a small call as most people write it, and as a multiple of NumPy's copy or subtraction."""
    table = overhead.measure(common.names(), 0.005 if quick else 0.05, [common.DEFAULT])
    return [
        {"loss": name, "method": method, "us": 1e6 * found[0], "floor us": 1e6 * found[1]}
        for (name, method, _), found in ((key, common.look_up(table, *key)) for key in table)
    ]


def by_import(quick: bool) -> dict[str, float]:
    """Milliseconds: NumPy's in a new process, and lossfast's after it."""
    code = "import time; start = time.perf_counter(); import numpy; print(time.perf_counter() - start)"
    runs = 3 if quick else 9

    def numpy_seconds() -> float:
        return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)

    ours = overhead.import_seconds(runs)
    numpy = [numpy_seconds() for _ in range(runs)]
    return {"numpy": 1000 * statistics.median(numpy), "lossfast": 1000 * statistics.median(ours)}


# ---------------------------------------------------------------------------------------------------- reporting

PARTS: dict[str, Callable[[bool], Any]] = {
    "elements": by_elements,
    "classes": by_classes,
    "memory": by_memory,
    "threads": by_threads,
    "workers": in_workers,
    "layouts": by_layout,
    "calls": by_call,
    "import": by_import,
}


def measure_all(quick: bool = False, parts: Sequence[str] = tuple(PARTS)) -> dict[str, Any]:
    report: dict[str, Any] = {**common.provenance(), "machine": common.machine()}
    for name in parts:
        report[name] = PARTS[name](quick)
    return report


def steepest(points: Sequence[dict[str, Any]], key: str) -> tuple[float, int, int]:
    """The largest step up in time per element from one point to the next."""
    there = [point for point in points if "ns" in point]
    steps = [
        (after["ns"] / before["ns"], before[key], after[key]) for before, after in zip(there, there[1:], strict=False)
    ]
    return max(steps, default=(1.0, 0, 0))


def lines(report: dict[str, Any]) -> Iterator[str]:
    for part, key in (("elements", "elements"), ("classes", "classes")):
        for series in report.get(part, ()):
            step, before, after = steepest(series["points"], key)
            yield f"{series['name']}: largest step {step:.2f} from {before:,} to {after:,} {key}"
            for at in series["points"]:
                if "ns" in at:
                    note = " (gradient over the logits)" if at.get("in place") else ""
                    yield f"  {at[key]:>13,}  {at['ns']:8.3f} ns  {at['ns'] / at['floor']:6.2f} × NumPy's{note}"
                else:
                    yield f"  {at[key]:>13,}  left out: {at['left out']}"
    for series in report.get("memory", ()):
        yield f"extra memory: {series['name']} {series['shape']}, {series['threads']} threads: " + ", ".join(
            f"{at['bytes'] / 1024:,.0f} KiB of {at['elements']:,}" for at in series["points"]
        )
    for series in report.get("threads", ()):
        most = max(series["points"][0]["seconds"], key=int)
        yield f"{most} threads: {series['name']}: " + ", ".join(
            f"{at['seconds']['1'] / at['seconds'][most]:.2f} times as fast at {at['elements']:,}"
            for at in series["points"]
        )
    for found in report.get("workers", ()):
        yield (
            f"joblib, {found['backend']}, {found['workers']} workers: {found['threads']} threads each, "
            f"{found['rate']:.2f} times the calls of one thread each"
        )
    for found in report.get("layouts", ()):
        yield f"{found['loss']} {found['shape']}, {found['layout']}: {found['ratio']:.2f} × contiguous, byte for byte"
    for found in report.get("calls", ()):
        yield f"call: {found['loss']} {found['method']}: {found['us']:.2f} us"
    if "import" in report:
        yield "import: " + ", ".join(f"{name} {found:.1f} ms" for name, found in report["import"].items())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth",
        description="How time and memory grow with elements, classes and threads; what layouts, a call and the import "
        "cost. Up to a thousand million elements, as far as memory is free.",
        epilog="examples:\n"
        "  python -m benchmarks.growth --quick\n"
        "  python -m benchmarks.growth --part classes --part layouts --json growth.json\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--part", action="append", choices=list(PARTS), help="only this one")
    parser.add_argument("--quick", action="store_true", help="small sizes, few turns")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    options = parser.parse_args(arguments)
    report = measure_all(options.quick, options.part or tuple(PARTS))
    print(*lines(report), sep="\n")
    if options.json:
        options.json.write_text(json.dumps(common.rounded(report), indent=1, allow_nan=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
