"""The speed that was promised, beside what is measured, on every instruction set that there is.

A target is a line of `SPEEDS`, or one of the few that are no ratio to a copy: what AVX2 may cost beside AVX-512, what
two threads must gain, memory, import and the peers. Ratios to a copy were set for one thread of a machine with AVX-512,
and are judged there alone; the other instruction sets are shown beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import lossfast as lf

from . import common, memory, overhead

#: The instruction set that ratios to a copy were set for.
JUDGED = "avx512"
#: Added to logits that are to be beyond the range in which a row needs no maximum.
BEYOND = 100
#: Work is bound by memory below so many times a copy.
BANDWIDTH = 4.0
#: Numbers that `--quick` still measures.
QUICK = 5_000_000


class Speed(NamedTuple):
    """At most so many times what NumPy takes to copy (or to subtract) as much, for the worst of the shapes."""

    loss: str
    method: str
    dtype: str
    shapes: tuple[str, ...]
    bound: float
    beyond: bool = False
    buffers: bool = True
    stretch: float | None = None

    @property
    def grad(self) -> bool:
        return self.method == "value_and_grad"

    @property
    def work(self) -> str:
        text = f"{self.loss}{' with gradient' if self.grad else ''}, {self.dtype}, "
        text += " / ".join(_spaced(shape) for shape in self.shapes)
        text += ", logits beyond ±40" if self.beyond else ""
        return text + ("" if self.buffers else ", gradient allocated")


def _spaced(shape: str) -> str:
    return " × ".join(f"{length:,}" for length in common.shape_of(shape))


def _pairs(method: str, dtype: str, shapes: tuple[str, ...], bound: float, beyond: float) -> tuple[Speed, Speed]:
    """Rows within ±40, and others."""
    one = Speed("cross_entropy", method, dtype, shapes, bound)
    return one, one._replace(bound=beyond, beyond=True)


_LARGE = ("20000", "100000", "1000000", "10000000")

SPEEDS = (
    *_pairs("value_and_grad", "float32", ("2048x32000",), 1.3, 2.0),
    *_pairs("value_and_grad", "float32", ("32768x1000",), 1.5, 2.1),
    *_pairs("value_and_grad", "float32", ("4096x1000",), 2.5, 3.6),
    Speed("cross_entropy", "value", "float32", ("2048x32000",), 0.9),
    Speed("cross_entropy", "value", "float32", ("32768x1000",), 1.1),
    Speed("cross_entropy", "value_and_grad", "float32", ("100000x10",), 7, stretch=6),
    Speed("cross_entropy", "value_and_grad", "float32", ("1000000x3",), 8.5),
    Speed("cross_entropy", "value_and_grad", "float32", ("1000x10",), 14),
    Speed("cross_entropy", "value_and_grad", "float32", ("32x10",), 6, buffers=False),
    *_pairs("value_and_grad", "float64", ("8192x1000", "2048x32000"), 2.2, 2.8),
    *(
        Speed(loss, "value_and_grad", dtype, _LARGE, 1.2)
        for loss in ("smooth_l1_loss", "mse_loss", "l1_loss")
        for dtype in ("float32", "float64")
    ),
    Speed("binary_cross_entropy_with_logits", "value_and_grad", "float32", ("100000",), 6.5),
    Speed("binary_cross_entropy_with_logits", "value_and_grad", "float32", ("10000000",), 2.4),
)

#: With gradient, and value alone: AVX2 over AVX-512.
AVX2 = {True: 1.7, False: 2.0}
#: What two threads are to gain, and on what; of it counts what takes 5 ms and is not bound by memory.
THREADS, THREADED_SECONDS = 1.8, 5e-3
THREADED = (
    ("cross_entropy", "float32", "1000000x10"),
    ("cross_entropy", "float32", "1000000x3"),
    ("cross_entropy", "float64", "1000000x10"),
    ("kl_div_from_logits", "float32", "200000x10"),
    ("binary_cross_entropy_with_logits", "float64", "10000000"),
)
#: Bytes a thread, with buffers given.
BYTES = 1 << 20
MEASURED_BYTES = (
    ("cross_entropy", "value_and_grad", "100000x10"),
    ("cross_entropy", "value_and_grad", "10x100000"),
    ("cross_entropy", "value", "100000x10"),
    ("cross_entropy", "value", "100000000x10"),
    ("binary_cross_entropy_with_logits", "value", "1000000000"),
    ("softmax", "value", "1000x1000"),
    ("smooth_l1_loss", "value_and_grad", "1000000"),
    ("binary_cross_entropy_with_logits", "value_and_grad", "1000000"),
)
IMPORT_MS = 30.0
#: The best peer over lossfast: in every cell, and their geometric mean.
PEERS, PEERS_MEAN = 1.0, 8.0


class Result(NamedTuple):
    """A line of the table: the worst figure for each instruction set, and where it was found."""

    work: str
    unit: str
    bound: float
    measured: dict[str, float]
    #: Which of the instruction sets the bound is for.
    judged: tuple[str, ...]
    at: dict[str, str] = {}  # noqa: RUF012 (never changed)
    least: bool = False
    stretch: float | None = None

    def holds(self, isa: str) -> bool | None:
        """None where nothing was promised, or measured."""
        if isa not in self.judged or isa not in self.measured:
            return None
        return self.measured[isa] >= self.bound if self.least else self.measured[isa] <= self.bound

    def report(self) -> dict[str, Any]:
        return {**self._asdict(), "holds": {isa: self.holds(isa) for isa in self.measured}}


# ---------------------------------------------------------------------------------------------------- measuring


def operands(speed: Speed, shape: str) -> tuple[np.ndarray, ...]:
    found = common.operands(lf.get_loss(speed.loss), np.dtype(speed.dtype), common.shape_of(shape))
    if speed.beyond:
        np.add(found[0], BEYOND, out=found[0])
    return found


def ratios(speed: Speed, shape: str, isas: Sequence[str], seconds: float) -> dict[str, float]:
    """By instruction set: the call's time over that of NumPy's copy or subtraction."""
    loss, arguments = lf.get_loss(speed.loss), operands(speed, shape)
    with lf.set_num_threads(1):
        call = common.call_of(loss, speed.method, arguments, n_threads=None, buffers=speed.buffers)
        assert call is not None
        floor, found = common.floor_of(loss, arguments), {}
        for isa in isas:
            with common.using(f"compiled {isa}"):
                own, unit = common.interleaved([call, floor], seconds)
            found[isa] = own / unit
    return found


def speeds(isas: Sequence[str], seconds: float, most: float = math.inf) -> tuple[list[Result], list[Result]]:
    """The ratios to a copy, and what they say about AVX2; of shapes with at most so many numbers."""
    tasks = [(s, shape) for s in SPEEDS for shape in s.shapes if math.prod(common.shape_of(shape)) <= most]
    tasks.sort(key=lambda task: (task[1], task[0].dtype))  # inputs are drawn once for each shape
    found: dict[Speed, dict[str, dict[str, float]]] = {}
    for speed, shape in common.progress(tasks, "targets", lambda task: f"{task[0].loss} {task[1]}"):
        found.setdefault(speed, {})[shape] = ratios(speed, shape, isas, seconds)
    results = []
    for speed in SPEEDS:
        by_shape = found.get(speed, {})
        worst = {isa: max((ratio[isa], shape) for shape, ratio in by_shape.items()) for isa in isas if by_shape}
        limit = "np.subtract" if lf.get_loss(speed.loss).kind == "pointwise" else "np.copyto"
        results.append(
            Result(
                speed.work,
                f"× {limit}",
                speed.bound,
                {isa: ratio for isa, (ratio, _) in worst.items()},
                (JUDGED,),
                {isa: shape for isa, (_, shape) in worst.items()} if len(speed.shapes) > 1 else {},
                stretch=speed.stretch,
            )
        )
    return results, [*_avx2(found)] if {"avx2", "avx512"} <= set(isas) else []


def _avx2(found: dict[Speed, dict[str, dict[str, float]]]) -> Iterator[Result]:
    for grad, bound in AVX2.items():
        there = [
            (ratio["avx2"] / ratio["avx512"], f"{speed.loss} {speed.dtype} {shape}")
            for speed, by_shape in found.items()
            for shape, ratio in by_shape.items()
            if speed.grad == grad
        ]
        if there:
            ratio, where = max(there)
            work = f"AVX2, {'with gradient' if grad else 'value alone'}: the worst of the above"
            yield Result(work, "× AVX-512", bound, {"avx2": ratio}, ("avx2",), {"avx2": where})


def threads(seconds: float, scale: int = 1) -> Iterator[Result]:
    """How many times as fast two threads are, on what takes long enough and is not bound by memory."""
    if common.cpus() < 2:
        return
    found = {}
    for name, dtype, shape in THREADED:
        loss = lf.get_loss(name)
        n, *classes = common.shape_of(shape)
        arguments = common.operands(loss, np.dtype(dtype), (n // scale, *classes))
        calls = [common.call_of(loss, "value_and_grad", arguments, n_threads) for n_threads in (1, 2)]
        one, two, floor = common.interleaved([*filter(None, calls), common.floor_of(loss, arguments)], seconds)
        if one >= THREADED_SECONDS / scale and one / floor >= BANDWIDTH:
            found[f"{name} {dtype} {shape}"] = one / two
    if found:
        where = min(found, key=found.__getitem__)
        work = f"two threads, the worst of {len(found)} that take 5 ms and are not bound by memory"
        isa = lf.get_isa()
        yield Result(work, "× one thread", THREADS, {isa: found[where]}, (isa,), {isa: where}, least=True)


def bytes_a_thread(most: float = math.inf) -> Result:
    counts = sorted({1, min(2, common.cpus())})
    found = {
        f"{name} {method} {shape}, n_threads={count}": common.in_child(memory.extra_bytes, name, method, shape, count)
        / count
        for name, method, shape in MEASURED_BYTES
        if math.prod(common.shape_of(shape)) <= most
        for count in counts
    }
    where, isa = max(found, key=found.__getitem__), lf.get_isa()
    work = "extra memory with buffers given, the worst"
    return Result(work, "KiB a thread", BYTES / 1024, {isa: found[where] / 1024}, (isa,), {isa: where})


def importing(runs: int) -> Result:
    milliseconds = 1000 * statistics.median(overhead.import_seconds(runs))
    isa = lf.get_isa()
    return Result("import lossfast, beyond NumPy's own", "ms", IMPORT_MS, {isa: milliseconds}, (isa,))


def against_peers(peers: dict[str, Any]) -> Iterator[Result]:
    """From the report of `benchmarks.peers`."""
    isa = peers["machine"]["lossfast instruction set"]
    of = {name.removeprefix("lossfast").strip() or isa: found for name, found in peers["summary"].items()}
    cells = next(iter(of.values()))["cells"]
    worst = {name: found["worst"]["ahead"] for name, found in of.items()}
    where = {
        name: " ".join(str(found["worst"][key]) for key in ("op", "dtype", "shape", "best"))
        for name, found in of.items()
    }
    unit = "× lossfast's time"
    yield Result(f"the best peer, the worst of {cells} cells", unit, PEERS, worst, (isa,), where, least=True)
    means = {name: found["mean"] for name, found in of.items()}
    yield Result(f"the best peer, geometric mean of {cells} cells", unit, PEERS_MEAN, means, (isa,), least=True)


def measure_all(quick: bool = False, peers: dict[str, Any] | None = None) -> dict[str, Any]:
    seconds = 0.01 if quick else 0.3
    isas = [isa for isa in reversed(lf.isas()) if common.available(f"compiled {isa}")]
    most = QUICK if quick else math.inf
    found, avx2 = speeds(isas, seconds, most)
    results = [*found, *avx2, *threads(seconds, 10 if quick else 1), bytes_a_thread(most), importing(3 if quick else 9)]
    if peers is not None:
        results += against_peers(peers)
    return {
        **common.provenance(),
        "machine": common.machine(),
        "isas": isas,
        "judged": JUDGED,
        "targets": [result.report() for result in results],
    }


# ---------------------------------------------------------------------------------------------------- reporting


def verdict(target: dict[str, Any]) -> str:
    """How it went where it is judged, and by how much it fell short."""
    judged = {isa: holds for isa, holds in target["holds"].items() if holds is not None}
    if not judged:
        return "not measured" if not target["measured"] else "not judged here"
    short = [isa for isa, holds in judged.items() if not holds]
    if not short:
        return "holds"
    ratio = max(
        target["bound"] / target["measured"][isa] if target["least"] else target["measured"][isa] / target["bound"]
        for isa in short
    )
    return f"falls short by {ratio:.2f}"


def shown_bound(target: dict[str, Any]) -> str:
    stretch = f" (stretch {target['stretch']:g})" if target["stretch"] else ""
    return f"{'≥' if target['least'] else '≤'} {target['bound']:g}{stretch} {target['unit']}"


def table(report: dict[str, Any]) -> str:
    rows = [["work", "target", *report["isas"], "", "where"]]
    for target in report["targets"]:
        figures = [f"{target['measured'][isa]:.2f}" if isa in target["measured"] else "" for isa in report["isas"]]
        judged = next((isa for isa, holds in target["holds"].items() if holds is not None), "")
        rows.append([target["work"], shown_bound(target), *figures, verdict(target), target["at"].get(judged, "")])
    return common.columns(rows, left=2)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.targets",
        description="The speed that was promised beside what is measured, on every instruction set that is there. "
        "Exits with 1 if something falls short.",
        epilog="examples:\n"
        "  python -m benchmarks.targets --quick\n"
        "  python -m benchmarks.peers --isa all --json peers.json\n"
        "  python -m benchmarks.targets --peers peers.json --json targets.json\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="the smaller shapes, few turns")
    parser.add_argument("--peers", type=Path, metavar="FILE", help="what benchmarks.peers wrote, to judge it too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table")
    options = parser.parse_args(arguments)
    if lf.get_backend() != "compiled":
        parser.error("the compiled backend is not there, and nothing was promised of the others")
    report = measure_all(options.quick, json.loads(options.peers.read_text()) if options.peers else None)
    print(table(report))
    if options.json:
        options.json.write_text(json.dumps(common.rounded(report), indent=1, allow_nan=False) + "\n")
    return 1 if any(False in target["holds"].values() for target in report["targets"]) else 0


if __name__ == "__main__":
    sys.exit(main())
