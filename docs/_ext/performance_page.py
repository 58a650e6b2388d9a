"""The tables and plots of ``performance.md``, from ``performance.json``, which `benchmarks.performance` writes.

No figure is typed by hand. A part that was not measured says so in its place; what failed meanwhile is named.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from accuracy_page import STYLES as COLOURS
from accuracy_page import Cell, Table, picture_nodes, table_node

FILE = "performance.json"
#: Where pictures are written, below the source directory.
PICTURES = Path("_build") / "performance"
OURS = "lossfast"
#: The unit of each limit: what NumPy is asked to do with the same arrays.
LIMITS = {"copyto": "np.copyto", "subtract": "np.subtract", "read": "np.max", "exp": "np.exp"}
MIB = 1 << 20

Report = dict[str, Any]


class NotMeasuredError(Exception):
    """The file has nothing for a part of the page."""


# ------------------------------------------------------------------------------------------------------- figures


def load(directory: Path) -> Report:
    path = directory / FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def part(report: Report, *path: str) -> Any:
    """What is there under these keys, if it is anything."""
    found: Any = report
    for key in path:
        found = found.get(key) if found else None
    if not found:
        raise NotMeasuredError(f"Not measured yet: {' '.join(path)}.")
    return found


def shown(value: float) -> str:
    """Three digits that mean something."""
    if value >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _held(text: str) -> str:
    """With no line break beside a sign."""
    for sign in "×≤≥":
        text = text.replace(f" {sign} ", f"\N{NO-BREAK SPACE}{sign}\N{NO-BREAK SPACE}").replace(
            f"{sign} ", f"{sign}\N{NO-BREAK SPACE}"
        )
    return text


def duration(seconds: float) -> str:
    for factor, unit in ((1e6, "µs"), (1e3, "ms")):
        if seconds * factor < 1000:
            return f"{seconds * factor:.3g}\N{NO-BREAK SPACE}{unit}"
    return f"{seconds:.3g}\N{NO-BREAK SPACE}s"


def spaced(shape: str) -> str:
    return "\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}".join(
        f"{int(length):,}" if length.isdigit() else length for length in shape.split("x")
    )


def op(cell: Report) -> str:
    return cell["op"] + (" with gradient" if cell["grad"] else "")


def numbers(cell: Report) -> int:
    return math.prod(int(length) for length in cell["shape"].split("x"))


def ours_of(report: Report) -> list[str]:
    """lossfast on what a user gets, then on other instruction sets."""
    names = dict.fromkeys(name for cell in part(report, "peers", "cells") for name in cell["times"])
    return [name for name in names if name.partition(" ")[0] == OURS]


# -------------------------------------------------------------------------------------------------------- tables


def peers_table(report: Report, dtype: str) -> Table:
    """Every function and shape: times as multiples of the limit's, and how far ahead of the best peer."""
    cells, names = part(report, "peers", "cells"), [OURS, *part(report, "peers", "peers")]
    rows = []
    for name in dict.fromkeys(map(op, cells)):
        for cell in cells:
            if op(cell) != name or cell["dtype"] != dtype:
                continue
            unit = cell["limits"][cell["limit"]]
            row = [Cell(f"{name}, in units of {LIMITS[cell['limit']]}"), Cell(spaced(cell["shape"]))]
            row.append(Cell(duration(unit)))
            for peer in names:
                time = cell["times"].get(peer)
                row.append(Cell("failed" if peer in cell["failed"] else "" if time is None else shown(time / unit)))
            ahead = cell["ahead"].get(OURS)
            row.append(Cell("") if ahead is None else Cell(shown(ahead), beyond=ahead <= 1))
            rows.append(row)
    return Table(["function", "shape", "the unit", *names, "best other / lossfast"], rows)


def summary_table(report: Report) -> Table:
    """lossfast on each instruction set: the mean over all cells, and the worst."""
    rows = []
    chosen = part(report, "peers", "machine")["lossfast instruction set"]
    for name, found in part(report, "peers", "summary").items():
        worst = found["worst"]
        where = f"{op(worst)}, {worst['dtype']}, {spaced(worst['shape'])}: {worst['best']}"
        isa = name.removeprefix(OURS).strip() or f"{chosen} (what one gets)"
        rows.append(
            [
                Cell(isa),
                Cell(shown(found["mean"])),
                Cell(shown(worst["ahead"]), beyond=worst["ahead"] <= 1),
                Cell(where),
                Cell(f"{found['cells'] - found['behind']} of {found['cells']}"),
            ]
        )
    return Table(["instruction set", "geometric mean", "worst", "which is", "ahead in"], rows)


def targets_table(report: Report) -> Table:
    isas = part(report, "targets", "isas")
    rows = []
    for target in part(report, "targets", "targets"):
        stretch = f" (stretch {target['stretch']:g})" if target["stretch"] else ""
        sign = "≥" if target["least"] else "≤"
        row = [Cell(_held(target["work"])), Cell(_held(f"{sign} {target['bound']:g}{stretch} {target['unit']}"))]
        for isa in isas:
            there = isa in target["measured"]
            row.append(Cell(shown(target["measured"][isa]) if there else "", target["holds"].get(isa) is False))
        judged = next((isa for isa, holds in target["holds"].items() if holds is not None), "")
        row.append(Cell(target["at"].get(judged, "") if judged else "" if target["measured"] else "not measured"))
        rows.append(row)
    return Table(["work", "target", *isas, "where it was worst"], rows)


def layouts_table(report: Report) -> Table:
    found = part(report, "growth", "layouts")
    cases = list(dict.fromkeys((entry["loss"], entry["shape"]) for entry in found))
    ratios = {(entry["loss"], entry["shape"], entry["layout"]): entry["ratio"] for entry in found}
    rows = []
    for layout in dict.fromkeys(entry["layout"] for entry in found):
        row = [Cell(layout)]
        for case in cases:
            ratio = ratios.get((*case, layout))
            row.append(Cell("") if ratio is None else Cell(shown(ratio), beyond=ratio > 2))
        rows.append(row)
    return Table(["layout", *(f"{loss}, {spaced(shape)}" for loss, shape in cases)], rows)


def calls_table(report: Report) -> Table:
    found = part(report, "growth", "calls")
    methods = list(dict.fromkeys(entry["method"] for entry in found))
    times = {(entry["loss"], entry["method"]): entry["us"] for entry in found}
    rows = []
    for loss in dict.fromkeys(entry["loss"] for entry in found):
        figures = (times.get((loss, method)) for method in methods)
        rows.append([Cell(loss, code=True), *(Cell("" if us is None else shown(us)) for us in figures)])
    return Table(["", *methods], rows)


def workers_table(report: Report) -> Table:
    rows = [
        [
            Cell(f"{found['backend']}, {found['workers']} workers"),
            Cell(str(found["threads"])),
            Cell(shown(found["rate"])),
        ]
        for found in part(report, "growth", "workers")
    ]
    return Table(["joblib", "threads that a call takes by itself", "calls a second, over one thread each"], rows)


TABLES: dict[str, Callable[[Report], Table]] = {
    "peers-summary": summary_table,
    "peers-float32": lambda report: peers_table(report, "float32"),
    "peers-float64": lambda report: peers_table(report, "float64"),
    "targets": targets_table,
    "layouts": layouts_table,
    "calls": calls_table,
    "workers": workers_table,
}


# ---------------------------------------------------------------------------------------------------------- text


def machine(report: Report) -> str:
    """Where the figures come from; parts that were measured at another time say so."""
    texts: dict[str, list[str]] = {}
    for name in ("peers", "targets", "growth"):
        if name in report:
            found = report[name]
            about = found["machine"]
            text = f"on {found['date']} on {about['cpu']}, {about['cpus']} CPUs, {about['system']}"
            text += f", lossfast on {about['lossfast instruction set'] or about['lossfast backend']}"
            text += f" (commit {found['commit']})" if found["commit"] else ""
            texts.setdefault(text, []).append(name)
    if not texts:
        raise NotMeasuredError("Not measured yet: `python -m benchmarks.performance`.")
    whole = " ".join(
        f"{'Measured' if len(texts) == 1 else ' and '.join(names).capitalize()} {text}."
        for text, names in texts.items()
    )
    versions = report.get("peers", next(iter(report[name] for name in ("targets", "growth") if name in report), {}))
    listed = ", ".join(f"{name} {version}" for name, version in versions["machine"]["versions"].items())
    return f"{whole} Versions: {listed}. Command: `{report['command']}`."


def summary(report: Report) -> str:
    found = part(report, "peers", "summary")[OURS]
    text = (
        f"In {found['cells']} combinations of function, shape and dtype the best of the others takes "
        f"{shown(found['mean'])} times as long as lossfast (geometric mean). "
    )
    if found["behind"]:
        return text + f"In {found['behind']} of them it is as fast or faster; those are marked."
    return text + f"It is slower in all of them, by {shown(found['worst']['ahead'])} at the least."


def failures(report: Report) -> str:
    """What is not in the tables, and why."""
    peers, texts = report.get("peers", {}), []
    if peers.get("left out"):
        texts.append(f"Left out: {', '.join(peers['left out'])}.")
    failed: dict[tuple[str, str], list[str]] = {}
    for cell in peers.get("cells", ()):
        for name, text in cell["failed"].items():
            failed.setdefault((name, text), []).append(f"{op(cell)} {cell['dtype']} {spaced(cell['shape'])}")
    texts += [f"{name} failed at {'; '.join(where)}: {text}." for (name, text), where in failed.items()]
    busy = [
        f"{op(cell)} {cell['dtype']} {spaced(cell['shape'])}" for cell in peers.get("cells", ()) if cell["busy"] > 1.2
    ]
    if busy:
        texts.append(f"Somebody took more than the one thread at {'; '.join(busy)}.")
    return " ".join(texts) or "Nothing was left out, and nobody failed or took more than one thread."


def targets_summary(report: Report) -> str:
    judged = [holds for target in part(report, "targets", "targets") for holds in target["holds"].values()]
    held, short = judged.count(True), judged.count(False)
    return f"{held} hold, {short} fall short{' (marked)' if short else ''}."


def cliffs(report: Report) -> str:
    """The largest step up in time per element between neighbouring points of the plots."""
    texts = []
    for name, key in (("elements", "elements"), ("classes", "classes")):
        worst = max(
            (after["ns"] / before["ns"], before[key], after[key], series["name"])
            for series in part(report, "growth", name)
            for before, after in _neighbours(series["points"])
        )
        texts.append(
            f"The largest step up from one number of {name} to the next is {shown(worst[0])} times, from "
            f"{worst[1]:,} to {worst[2]:,} ({worst[3]})."
        )
    return " ".join(texts)


def _neighbours(points: Sequence[Report]) -> Iterator[tuple[Report, Report]]:
    there = [point for point in points if "ns" in point]
    return zip(there, there[1:], strict=False)


def in_place(report: Report) -> str:
    texts = []
    for series in part(report, "growth", "elements"):
        over = [f"{point['elements']:,}" for point in series["points"] if point.get("in place")]
        out = [f"{point['elements']:,} ({point['left out']})" for point in series["points"] if "left out" in point]
        texts += [f"{series['name']}: the gradient was written over the logits at {', '.join(over)}."] if over else []
        texts += [f"{series['name']}: no room for {', '.join(out)}."] if out else []
    return " ".join(texts) or "There was room for all arrays at every size, and the gradient had a buffer of its own."


def threads_summary(report: Report) -> str:
    """What several threads gain at the best, and lose at the worst."""
    gains = [
        (point["seconds"]["1"] / seconds, f"{count} threads, {point['elements']:,} elements, {series['name']}")
        for series in part(report, "growth", "threads")
        for point in series["points"]
        for count, seconds in point["seconds"].items()
        if count != "1"
    ]
    if not gains:
        return "There was one CPU only."
    (best, at_best), (worst, at_worst) = max(gains), min(gains)
    return f"At best {shown(best)} times as fast ({at_best}), at worst {shown(worst)} times ({at_worst})."


def importing(report: Report) -> str:
    found = part(report, "growth", "import")
    ours, numpy = shown(found["lossfast"]), shown(found["numpy"])
    return f"`import lossfast` takes {ours} ms after NumPy, which takes {numpy} ms itself."


TEXTS: dict[str, Callable[[Report], str]] = {
    "machine": machine,
    "summary": summary,
    "failures": failures,
    "targets-summary": targets_summary,
    "cliffs": cliffs,
    "in-place": in_place,
    "threads-summary": threads_summary,
    "import": importing,
}

# ---------------------------------------------------------------------------------------------------------- plots

#: Enough for every library; lossfast comes first.
LINES = {
    "light": ("#1f5fa8", "#b3530a", "#1d7a4f", "#8a3ea8", "#6b6f76", "#b3123f", "#8a6d00", "#0d7f8c"),
    "dark": ("#7db5f5", "#f0a35e", "#63cf9c", "#d59cf0", "#a5abb3", "#ff8fa8", "#e0c64a", "#5fd3df"),
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


class Canvas:
    """A figure in the colours of one mode."""

    def __init__(self, mode: str, width: float, height: float) -> None:
        from matplotlib.figure import Figure

        self.ink, self.grid = COLOURS[mode]["ink"], COLOURS[mode]["grid"]
        self.lines = LINES[mode]
        self.mode = mode
        self.figure = Figure(figsize=(width, height), layout="constrained")

    def panel(self, axes: Any, title: str = "", x: str = "", y: str = "") -> Any:
        axes.set_title(title, color=self.ink, fontsize=10)
        axes.set_xlabel(x, color=self.ink)
        axes.set_ylabel(y, color=self.ink)
        axes.tick_params(colors=self.ink, which="both")
        axes.grid(color=self.grid, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.patch.set_alpha(0)
        for spine in axes.spines.values():
            spine.set_color(self.grid)
        return axes

    def legend(self, axes: Any, **options: Any) -> None:
        axes.legend(frameon=False, labelcolor=self.ink, fontsize=9, **options)

    def plain(self, axis: Any) -> None:
        """Ticks as people write numbers."""
        from matplotlib.ticker import FuncFormatter

        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))


def _groups(cells: Sequence[Report]) -> list[tuple[str, bool, bool]]:
    """What the roofline tells apart: over rows with a gradient, without, and element by element."""
    kinds = {(cell["grad"], "x" in cell["shape"]) for cell in cells}
    named = {
        (True, True): "cross-entropy with gradient",
        (False, True): "value alone, softmaxes",
        (True, False): "pointwise with gradient",
        (False, False): "sigmoids",
    }
    return [(text, *key) for key, text in named.items() if key in kinds]


def draw_roofline(report: Report, canvas: Canvas) -> None:
    """Bytes that a fused kernel has to move, a second, against how many there are."""
    cells = part(report, "peers", "cells")
    dtypes = list(dict.fromkeys(cell["dtype"] for cell in cells))
    panels = canvas.figure.subplots(1, len(dtypes), sharey=True, squeeze=False)[0]
    for axes, dtype in zip(panels, dtypes, strict=True):
        canvas.panel(axes, dtype, "bytes that have to be moved", "bytes a second" if axes is panels[0] else "")
        here = [cell for cell in cells if cell["dtype"] == dtype]
        itemsize = 4 if dtype == "float32" else 8
        for name, dash in (("copyto", "-"), ("exp", "--")):
            roof: dict[int, list[float]] = {}
            for cell in here:
                moved = 2 * itemsize * numbers(cell)
                roof.setdefault(round(10 * math.log10(moved)), []).append(moved / cell["limits"][name])
            xs = sorted(roof)
            ys = [sorted(roof[x])[len(roof[x]) // 2] for x in xs]
            axes.plot([10 ** (x / 10) for x in xs], ys, dash, color=canvas.ink, linewidth=1.4, label=LIMITS[name])
        for number, (text, grad, rows) in enumerate(_groups(cells)):
            chosen = [cell for cell in here if (cell["grad"], "x" in cell["shape"]) == (grad, rows)]
            passes = {"copyto": 2, "subtract": 3, "read": 1}
            for filled in (True, False):
                there = []
                for cell in chosen:
                    who = OURS if filled else cell["best"]
                    if who:
                        moved = passes[cell["limit"]] * itemsize * numbers(cell)
                        there.append((moved, moved / cell["times"][who]))
                colour = canvas.lines[number]
                axes.plot(
                    [moved for moved, _ in there],
                    [rate for _, rate in there],
                    MARKERS[number],
                    color=colour,
                    markerfacecolor=colour if filled else "none",
                    markersize=5.5,
                    linestyle="none",
                    label=text if filled else None,
                )
        axes.set_xscale("log")
        axes.set_yscale("log")
    handles, labels = panels[0].get_legend_handles_labels()
    canvas.figure.legend(
        handles, labels, loc="outside upper center", ncols=3, frameon=False, labelcolor=canvas.ink, fontsize=9
    )


def draw_heat(report: Report, canvas: Canvas) -> None:
    """The best peer over lossfast: functions by shapes."""
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm

    cells = [cell for cell in part(report, "peers", "cells") if OURS in cell["ahead"]]
    dtypes = list(dict.fromkeys(cell["dtype"] for cell in cells))
    kinds = [rows for rows in (True, False) if any(("x" in cell["shape"]) == rows for cell in cells)]
    shapes = {rows: list(dict.fromkeys(c["shape"] for c in cells if ("x" in c["shape"]) == rows)) for rows in kinds}
    ops = {rows: list(dict.fromkeys(op(c) for c in cells if ("x" in c["shape"]) == rows)) for rows in kinds}
    panels = canvas.figure.subplots(
        len(dtypes) * len(kinds), 1, squeeze=False, height_ratios=[len(ops[rows]) for rows in kinds] * len(dtypes)
    )[:, 0]
    dark = canvas.mode == "dark"
    middle, low, high = ("#22272d", "#c4455f", "#2f7fd1") if dark else ("#ffffff", "#d9536f", "#4f97dd")
    colours = LinearSegmentedColormap.from_list("ahead", [low, middle, high])
    for axes, (dtype, rows) in zip(panels, [(dtype, rows) for dtype in dtypes for rows in kinds], strict=True):
        canvas.panel(axes, f"{dtype}, {'rows × classes' if rows else 'numbers'}")
        axes.grid(False)
        found = {
            (op(c), c["shape"]): c["ahead"][OURS] for c in cells if c["dtype"] == dtype and ("x" in c["shape"]) == rows
        }
        grid = np.array([[found.get((name, shape), np.nan) for shape in shapes[rows]] for name in ops[rows]])
        axes.imshow(np.log2(grid), cmap=colours, norm=TwoSlopeNorm(0, -5, 5), aspect="auto")
        labels = [spaced(shape).replace("\N{NO-BREAK SPACE}×", "\n×") for shape in shapes[rows]]
        axes.set_xticks(range(len(labels)), labels, fontsize=8)
        axes.set_yticks(range(len(ops[rows])), [_in_two_lines(name) for name in ops[rows]], fontsize=8)
        axes.tick_params(length=0)
        for (row, column), ratio in np.ndenumerate(grid):
            if not np.isnan(ratio):
                axes.text(column, row, shown(ratio), ha="center", va="center", fontsize=8, color=_ink_on(ratio, dark))


def _in_two_lines(name: str) -> str:
    return name.replace(" with gradient", "\nwith gradient") if len(name) > 30 else name


def _ink_on(ratio: float, dark: bool) -> str:
    """What can be read on a cell of the heat map."""
    return "#ffffff" if dark or abs(math.log2(ratio)) > 4 else "#1b1f24"


def _growth(axes: Any, canvas: Canvas, found: Sequence[Report], key: str) -> None:
    for number, series in enumerate(found):
        there = [point for point in series["points"] if "ns" in point]
        xs, colour = [point[key] for point in there], canvas.lines[number]
        axes.plot(xs, [point["ns"] for point in there], marker=".", color=colour, linewidth=1.8, label=series["name"])
        axes.plot(xs, [point["floor"] for point in there], ":", color=colour, linewidth=1.1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    canvas.plain(axes.yaxis)


def draw_elements(report: Report, canvas: Canvas) -> None:
    axes = canvas.panel(canvas.figure.subplots(), "", "elements", "nanoseconds an element")
    _growth(axes, canvas, part(report, "growth", "elements"), "elements")
    canvas.legend(axes)


def draw_classes(report: Report, canvas: Canvas) -> None:
    axes = canvas.panel(canvas.figure.subplots(), "", "classes", "nanoseconds a logit")
    _growth(axes, canvas, part(report, "growth", "classes"), "classes")
    canvas.legend(axes)


def draw_threads(report: Report, canvas: Canvas) -> None:
    found = part(report, "growth", "threads")
    axes = canvas.panel(canvas.figure.subplots(), "", "elements", "times as fast as one thread")
    counts = [count for count in found[0]["points"][0]["seconds"] if count != "1"]
    for number, series in enumerate(found):
        for count, dash in zip(counts, ("-", "--", "-.", ":"), strict=False):
            axes.plot(
                [point["elements"] for point in series["points"]],
                [point["seconds"]["1"] / point["seconds"][count] for point in series["points"]],
                dash,
                marker=".",
                color=canvas.lines[number],
                linewidth=1.8,
                label=f"{series['name']}, {count} threads",
            )
    axes.axhline(1, color=canvas.ink, linewidth=0.8)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    canvas.legend(axes)


def draw_calls(report: Report, canvas: Canvas) -> None:
    """The smallest shape of every function: a dot for each library."""
    cells = part(report, "peers", "cells")
    rows = {}
    for cell in sorted((c for c in cells if c["dtype"] == "float32"), key=numbers):
        rows.setdefault(op(cell), cell)
    rows = {name: cell for name, cell in rows.items() if numbers(cell) <= 1000}
    if not rows:
        raise NotMeasuredError("Not measured yet: small calls.")
    axes = canvas.panel(canvas.figure.subplots(), "", "microseconds a call", "")
    names = [OURS, *part(report, "peers", "peers")]
    labels = [_in_two_lines(f"{name}, {spaced(cell['shape'])}") for name, cell in rows.items()]
    for number, name in reversed(list(enumerate(names))):
        there = [
            (index, cell["times"][name] * 1e6) for index, cell in enumerate(rows.values()) if name in cell["times"]
        ]
        axes.plot(
            [us for _, us in there],
            [index for index, _ in there],
            MARKERS[number % len(MARKERS)],
            linestyle="none",
            color=canvas.lines[number % len(canvas.lines)],
            markersize=8 if name == OURS else 5.5,
            label=name,
        )
    axes.set_xscale("log")
    canvas.plain(axes.xaxis)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.invert_yaxis()
    handles, texts = axes.get_legend_handles_labels()
    canvas.figure.legend(
        handles[::-1],
        texts[::-1],
        loc="outside upper center",
        ncols=8,
        frameon=False,
        labelcolor=canvas.ink,
        fontsize=9,
    )


def draw_memory(report: Report, canvas: Canvas) -> None:
    found = part(report, "growth", "memory")
    axes = canvas.panel(canvas.figure.subplots(), "", "elements", "bytes beyond the buffers")
    names = list(dict.fromkeys(series["name"] for series in found))
    for series in found:
        threads = series["threads"]
        axes.plot(
            [point["elements"] for point in series["points"]],
            [max(1024, point["bytes"]) for point in series["points"]],
            "-" if threads == 1 else "--",
            marker=".",
            color=canvas.lines[names.index(series["name"])],
            linewidth=1.8,
            label=f"{series['name']}, {spaced(series['shape'])}, {threads} thread{'s' * (threads > 1)}",
        )
    axes.axhline(MIB, color=canvas.ink, linewidth=1)
    axes.text(
        0.01, MIB * 1.06, "promised for each thread", color=canvas.ink, fontsize=8, transform=axes.get_yaxis_transform()
    )
    axes.set_xscale("log")
    axes.set_yscale("log", base=2)
    axes.set_ylim(512, 4 * MIB)
    from matplotlib.ticker import FuncFormatter

    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value / 1024:,.3g} KiB" if value < MIB else f"{value / MIB:g} MiB")
    )
    canvas.legend(axes)


class Plot:
    def __init__(self, make: Callable[[Report, Canvas], None], width: float, height: float, told: str) -> None:
        self.make, self.width, self.height, self.told = make, width, height, told


PLOTS = {
    "roofline": Plot(
        draw_roofline,
        8.4,
        4.6,
        "Bytes moved a second against how many there are: the rate of NumPy's copy and of its "
        "exponential as lines, lossfast as filled and the best other library as open marks",
    ),
    "heat": Plot(
        draw_heat, 8.4, 9.5, "How many times as long as lossfast the best other library takes, by function and shape"
    ),
    "elements": Plot(draw_elements, 8.4, 4.6, "Nanoseconds an element against the number of elements"),
    "classes": Plot(draw_classes, 8.4, 4.6, "Nanoseconds a logit against the number of classes"),
    "threads": Plot(
        draw_threads, 8.4, 4.0, "How many times as fast several threads are, against the number of elements"
    ),
    "call-costs": Plot(draw_calls, 8.4, 4.8, "Microseconds of a small call, by function and library"),
    "memory": Plot(draw_memory, 8.4, 4.0, "Bytes that a call takes beyond its buffers, against the number of elements"),
}


def draw(name: str, report: Report, mode: str, file: Path) -> None:
    """Write one plot, in the format that the file's name asks for."""
    from matplotlib import rc_context

    plot = PLOTS[name]
    with rc_context({"svg.hashsalt": f"performance {name} {mode}", "font.size": 10, "svg.fonttype": "path"}):
        canvas = Canvas(mode, plot.width, plot.height)
        plot.make(report, canvas)
        kept = {"Date": None} if file.suffix == ".svg" else {}
        canvas.figure.savefig(file, transparent=True, metadata=kept)


def write_pictures(app: Any) -> None:
    directory = Path(app.srcdir) / PICTURES
    directory.mkdir(parents=True, exist_ok=True)
    report = load(Path(app.srcdir))
    for name in PLOTS:
        for mode in COLOURS:
            try:
                draw(name, report, mode, directory / f"{name}-{mode}.svg")
            except NotMeasuredError:
                break


# --------------------------------------------------------------------------------------------------------- Sphinx


def setup(app: Any) -> dict[str, Any]:
    from docutils import nodes
    from sphinx.util.docutils import SphinxDirective

    def paragraph(text: str) -> Any:
        """With what is between backquotes as it is typed."""
        pieces = enumerate(text.split("`"))
        return nodes.paragraph("", "", *(nodes.literal(text=t) if i % 2 else nodes.Text(t) for i, t in pieces if t))

    class Performance(SphinxDirective):
        """A table, a paragraph or a plot, by name."""

        required_arguments = 1

        def run(self) -> list[Any]:
            source = Path(self.env.srcdir)
            self.env.note_dependency(str(source / FILE))
            report, name = load(source), self.arguments[0]
            try:
                if name in TEXTS:
                    return [paragraph(TEXTS[name](report))]
                if name in TABLES:
                    return [table_node(TABLES[name](report))]
                if name not in PLOTS:
                    raise self.error(f"performance.json makes no {name!r}")
                if not (source / PICTURES / f"{name}-light.svg").exists():
                    raise NotMeasuredError("Not measured yet.")
            except NotMeasuredError as missing:
                return [paragraph(str(missing))]
            return picture_nodes(f"{PICTURES.as_posix()}/{name}", PLOTS[name].told)

    app.add_directive("performance", Performance)
    app.connect("builder-inited", write_pictures)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
