"""The tables and plots of ``accuracy.md``, from ``accuracy.json``, which ``python -m benchmarks.contract`` writes.

Bounds are the registry's at the time of the build, and what is beyond them is marked by these, so that the page cannot
show a bound that is no longer promised. What the file says nothing of (a loss added since) is listed as not measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lossfast as lf
from lossfast import selftest
from lossfast._loss import looped

FILE = "accuracy.json"
#: Where pictures are written, below the source directory.
PICTURES = Path("_build") / "accuracy"
WIDE = ("float32", "float64")
HALVES = ("float16", "bfloat16")
OURS = "lossfast"
#: Families of inputs on which nobody expects trouble.
ORDINARY = ("unsure", "trained", "near ties", "ordinary", "near the target")
#: What other libraries are compared in.
COMPARED = ("value", "grad", "vjp")

Report = dict[str, Any]


class Cell(NamedTuple):
    """The text of a cell, and whether it is to stand out."""

    text: str
    beyond: bool = False
    code: bool = False


class Table(NamedTuple):
    head: list[str]
    rows: list[list[Cell]]


# ------------------------------------------------------------------------------------------------------- figures


def load(directory: Path) -> Report:
    return json.loads((directory / FILE).read_text(encoding="utf-8"))


def number(value: Any) -> float:
    """A figure of the file, which has infinity by name."""
    return math.inf if value in ("inf", "nan") else float(value)


def shown(value: float) -> str:
    """A figure as it is printed."""
    if math.isinf(value):
        return "∞"
    if value < 1000:
        return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}·10{''.join('⁰¹²³⁴⁵⁶⁷⁸⁹'[int(digit)] for digit in str(int(exponent)))}"


def bound(entry: Report, who: str) -> float:
    """What the registry promises now; of what is rounded once more, what was measured with."""
    loss = lf.get_loss(entry["function"])
    own = loss.bound(entry["output"])
    promised = own if who.startswith("compiled") else max(own, selftest.OTHERS_ULP)
    recorded = entry["results"][who].get("bound", promised)
    return recorded if recorded < 1 else promised


def is_beyond(entry: Report, who: str) -> bool:
    return number(entry["results"][who]["ulp"]) > bound(entry, who)


def measured(report: Report, dtypes: Sequence[str] = WIDE, plain: bool = True) -> Iterator[Report]:
    """The entries of what the registry has, in the registry's order."""
    for name in lf.losses():
        for entry in report["entries"]:
            if entry["function"] == name and entry["dtype"] in dtypes and plain == (not entry["case"]):
                yield entry


def missing(report: Report) -> list[str]:
    """The registered functions that the file has no figure for."""
    there = {entry["function"] for entry in report["entries"]}
    return sorted(looped().keys() - there)


def outdated(report: Report) -> list[str]:
    """The functions whose bound was another when they were measured."""
    return sorted(
        {
            entry["function"]
            for entry in report["entries"]
            if entry["function"] in lf.losses()
            for who, result in entry["results"].items()
            if result.get("bound", 1) >= 1 and who in report["variants"] and result["bound"] != bound(entry, who)
        }
    )


def alike(report: Report) -> list[tuple[str, list[str]]]:
    """The variants by name of a column: instruction sets with the same figures throughout share one."""
    columns: list[tuple[list[Any], list[str]]] = []
    for variant in report["variants"]:
        figures = [entry["results"][variant]["ulp"] for entry in report["entries"] if variant in entry["results"]]
        of_compiled = variant.startswith("compiled")
        for other, variants in columns:
            if of_compiled and variants[0].startswith("compiled") and other == figures:
                variants.append(variant)
                break
        else:
            columns.append((figures, [variant]))
    return [(", ".join(name.removeprefix("compiled ") for name in variants), variants) for _, variants in columns]


def family_worst(entry: Report, who: str, families: Iterable[str]) -> float:
    chosen = set(families)
    pairs = zip(entry["families"], entry["results"][who]["families"], strict=True)
    return max((number(figure) for family, figure in pairs if family in chosen), default=0.0)


def best_variant(report: Report) -> str:
    """The variant that this library is compared with others by: the one that users of that machine get."""
    compiled = [name for name in report["variants"] if name.startswith("compiled")]
    return compiled[-1] if compiled else report["variants"][0]


# -------------------------------------------------------------------------------------------------------- tables


def _key(entry: Report) -> tuple[str, str, str]:
    return entry["function"], entry["case"], entry["output"]


def bounds_table(report: Report, dtype: str) -> Table:
    """Function × output: the bound, and the worst error of each variant."""
    columns = alike(report)
    rows = []
    for entry in measured(report, (dtype,)):
        results = entry["results"]
        promised = dict.fromkeys(f"{bound(entry, who):g}" for who in report["variants"] if who in results)
        row = [Cell(entry["function"], code=True), Cell(entry["output"], code=True)]
        row += [Cell(" / ".join(promised)), Cell(entry["rule"])]
        for _, variants in columns:
            row.append(Cell(shown(number(results[variants[0]]["ulp"])), is_beyond(entry, variants[0])))
        rows.append(row)
    return Table(["function", "output", "bound", "rule", *(name for name, _ in columns)], rows)


def options_table(report: Report) -> Table:
    """The worst over all outputs, by function and option: compiled, and the backends in Python."""
    worst: dict[tuple[str, str], dict[str, tuple[float, bool]]] = {}
    for entry in measured(report, plain=False):
        cells = worst.setdefault((entry["function"], entry["case"]), {})
        for kind, variants in kinds(report).items():
            for who in variants:
                key = f"{entry['dtype']} {kind}"
                before, marked = cells.get(key, (0.0, False))
                cells[key] = max(before, number(entry["results"][who]["ulp"])), marked or is_beyond(entry, who)
    head = [f"{dtype} {kind}" for dtype in WIDE for kind in kinds(report)]
    rows = [
        [Cell(name, code=True), Cell(case), *(Cell(shown(cells[key][0]), cells[key][1]) for key in head)]
        for (name, case), cells in worst.items()
    ]
    return Table(["function", "with", *head], rows)


def halves_table(report: Report) -> Table:
    """The half types: the worst of the outputs that are rounded to them."""
    worst: dict[str, dict[str, tuple[float, bool]]] = {}
    for entry in measured(report, HALVES):
        for who, result in entry["results"].items():
            if result.get("bound", 1) >= 1:  # a loss, which is a float32
                continue
            cells = worst.setdefault(entry["function"], {})
            before, marked = cells.get(entry["dtype"], (0.0, False))
            cells[entry["dtype"]] = max(before, number(result["ulp"])), marked or is_beyond(entry, who)
    rows = [
        [Cell(name, code=True), *(Cell(f"{cells[d][0]:.3f}", cells[d][1]) if d in cells else Cell("") for d in HALVES)]
        for name, cells in worst.items()
    ]
    return Table(["function", *HALVES], rows)


def kinds(report: Report) -> dict[str, list[str]]:
    """The variants of the compiled backend, and those of the others, which share a bound."""
    found: dict[str, list[str]] = {}
    for name in report["variants"]:
        found.setdefault("compiled" if name.startswith("compiled") else "in Python", []).append(name)
    return found


def short_table(report: Report) -> Table:
    """Everything that is beyond its bound, by the worst variant."""
    rows = []
    for plain in (True, False):
        for entry in measured(report, WIDE + HALVES, plain):
            for kind, variants in kinds(report).items():
                over = [who for who in variants if who in entry["results"] and is_beyond(entry, who)]
                if not over:
                    continue
                worst, who = max((number(entry["results"][name]["ulp"]), name) for name in over)
                at = entry["results"][who]["at"]
                size = f", {at['classes']:,} classes" if "classes" in at else ""
                on = kind if over == variants else ", ".join(name.removeprefix("compiled ") for name in over)
                rows.append(
                    [
                        Cell(entry["function"], code=True),
                        Cell(entry["output"], code=True),
                        *(Cell(text) for text in (entry["case"], entry["dtype"], on, f"{bound(entry, who):.3g}")),
                        Cell(shown(worst), True),
                        Cell(at["family"] + size),
                    ]
                )
    rows.sort(key=lambda row: row[0].text)  # stays in order otherwise
    return Table(["function", "output", "with", "dtype", "on", "bound", "worst", "inputs"], rows)


def others_table(report: Report, ordinary: bool) -> Table:
    """This library and the others, on the same inputs: the worst of ordinary families or of all."""
    ours, libraries = best_variant(report), report["libraries"]
    figures: dict[tuple[str, str, str], dict[str, dict[str, float]]] = {}
    for plain in (True, False):
        for entry in measured(report, plain=plain):
            if entry["output"] in COMPARED and any(name in entry["results"] for name in libraries):
                families = [name for name in entry["families"] if not ordinary or name in ORDINARY]
                by_dtype = figures.setdefault(_key(entry), {})
                by_dtype[entry["dtype"]] = {
                    name: family_worst(entry, name, families) for name in (ours, *libraries) if name in entry["results"]
                }
    rows = []
    for (name, case, output), by_dtype in figures.items():
        row = [Cell(name, code=True), Cell(f"{output}, {case}" if case else output)]
        for who in (ours, *libraries):
            found = [by_dtype.get(dtype, {}).get(who) for dtype in WIDE]
            text = " / ".join("–" if figure is None else shown(figure) for figure in found)
            row.append(Cell("" if found == [None, None] else text))
        rows.append(row)
    return Table(["function", "output", OURS, *libraries], rows)


def families_table(report: Report, function: str, output: str, dtype: str) -> Table:
    """One function, by family of inputs."""
    for entry in measured(report, (dtype,)):
        if (entry["function"], entry["output"]) == (function, output):
            over_rows = lf.get_loss(function).kind in ("rowwise", "row_function")
            known = report["row_families" if over_rows else "element_families"]
            who = [best_variant(report), *(name for name in report["libraries"] if name in entry["results"])]
            rows = [
                [Cell(family), Cell(known[family]), *(Cell(shown(family_worst(entry, name, [family]))) for name in who)]
                for family in entry["families"]
            ]
            return Table(["inputs", "which are", OURS, *who[1:]], rows)
    return Table([], [])


def sums_table(report: Report) -> Table:
    """How far sums of many losses are off, relative to the sum."""
    ours = best_variant(report)
    rows = []
    for name in lf.losses():
        found = {entry["dtype"]: entry for entry in report["sums"] if entry["function"] == name}
        if found:
            row = [Cell(name, code=True), Cell(f"{next(iter(found.values()))['count']:,}")]
            for dtype in WIDE:
                result = found[dtype]["results"][ours]
                row.append(Cell(f"{result['relative']:.1e}", not result["holds"]))
            rows.append(row)
    return Table(["function", "how many", *WIDE], rows)


def failures_table(report: Report) -> Table:
    """Ordinary questions, what is right, and what each library answers."""
    who = [OURS, *report["libraries"]]

    def text(value: Any, unit: str) -> str:
        value = f"{value:.3g}".replace("-0", "0") if isinstance(value, float) and value == 0 else value
        shown_ = f"{value:.3g}" if isinstance(value, float) else str(value)
        return f"{shown_} {unit}".rstrip()

    rows = [
        [
            Cell(row["text"]),
            Cell(text(row["right"], row["unit"])),
            *(Cell(text(row["results"][name], row["unit"]) if name in row["results"] else "") for name in who),
        ]
        for row in report["failures"]
    ]
    return Table(["question", "right", *who], rows)


TABLES: dict[str, Callable[..., Table]] = {
    "bounds-float32": lambda report: bounds_table(report, "float32"),
    "bounds-float64": lambda report: bounds_table(report, "float64"),
    "options": options_table,
    "halves": halves_table,
    "short": short_table,
    "others-ordinary": lambda report: others_table(report, True),
    "others-all": lambda report: others_table(report, False),
    "families-softmax": lambda report: families_table(report, "softmax", "value", "float32"),
    "families-cross-entropy": lambda report: families_table(report, "cross_entropy", "value", "float32"),
    "families-gradient": lambda report: families_table(report, "cross_entropy", "grad", "float32"),
    "sums": sums_table,
    "failures": failures_table,
}


# ---------------------------------------------------------------------------------------------------------- text


def machine(report: Report) -> str:
    """Where the figures come from."""
    about = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (
        f"Measured on {report['date']} on {about['cpu']} ({', '.join(about['instruction sets'])}), {about['system']}, "
        f"with {versions}, by {report['command']}. The references' own error was at most "
        f"{report['reference_ulp']:g} ULP of float64."
    )


def summary(report: Report) -> str:
    """How many figures there are, and how many are beyond their bound; and what there are none for."""
    figures = beyond = 0
    for plain in (True, False):
        for entry in measured(report, WIDE + HALVES, plain):
            there = [who for who in report["variants"] if who in entry["results"]]
            figures += len(there)
            beyond += sum(is_beyond(entry, who) for who in there)
    text = f"Of {figures:,} worst errors of this library, {f'{beyond:,} are' if beyond else 'none is'} beyond the bound"
    text += " (marked, and listed below)." if beyond else "."
    if missing(report):
        text += f" Not measured yet: {', '.join(missing(report))}."
    if outdated(report):
        text += f" The bound has changed since it was measured: {', '.join(outdated(report))}."
    if report["failed"]:
        text += f" Calls that failed: {'; '.join(report['failed'])}."
    return text


def classes(report: Report) -> str:
    """Which class counts rows were measured with."""
    shared, between = report["shared_classes"], report["between_classes"]
    listed = ", ".join(f"{count:,}" for count in shared)
    if not between:
        return f"Class counts: {listed}."
    larger = ", ".join(f"{count:,}" for count in shared if count > max(between) + 1)
    every = f"every one from {min(shared)} to {max(count for count in shared if count <= max(between) + 1)}"
    return f"Class counts: {every}, and {larger}; the other libraries with {listed}."


TEXTS: dict[str, Callable[[Report], str]] = {"machine": machine, "summary": summary, "classes": classes}

# ---------------------------------------------------------------------------------------------------------- plots

STYLES = {
    "light": {"ink": "#33373d", "grid": "#d5d8dc", "lines": ("#1f5fa8", "#b3530a", "#1d7a4f", "#8a3ea8", "#6b6f76")},
    "dark": {"ink": "#ced6dd", "grid": "#3c434b", "lines": ("#7db5f5", "#f0a35e", "#63cf9c", "#d59cf0", "#a5abb3")},
}
DASHES = ("-", "--", "-.", ":", (0, (1, 3)))


def draw(report: Report, mode: str, file: Path) -> None:
    """Worst ULP against the gap between the right class's logit and the others."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style, found = STYLES[mode], report["curves"]
    who = [OURS, *report["libraries"]]
    with rc_context({"svg.hashsalt": f"accuracy {mode}", "font.size": 10, "svg.fonttype": "path"}):
        figure = Figure(figsize=(8.4, 6.4), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True, sharey=True).ravel()
        lines = {}
        for panel, curve in zip(panels, found["curves"].values(), strict=True):
            for number_, name in reversed(list(enumerate(who))):
                if name in curve["lines"]:
                    y = [min(max(number(figure), 0.1), 1e9) for figure in curve["lines"][name]]
                    wide = 2.6 if name == OURS else 1.7
                    (lines[name],) = panel.plot(
                        found["gap"], y, linestyle=DASHES[number_], color=style["lines"][number_], linewidth=wide
                    )
            panel.set_yscale("log")
            panel.set_title(curve["title"], color=style["ink"], fontsize=10)
            panel.grid(color=style["grid"], linewidth=0.6)
            panel.tick_params(colors=style["ink"], which="both")
            panel.set_axisbelow(True)
            panel.patch.set_alpha(0)
            for spine in panel.spines.values():
                spine.set_color(style["grid"])
        for panel in panels[2:]:
            panel.set_xlabel("logit of the right class less the largest other", color=style["ink"])
        for panel in panels[::2]:
            panel.set_ylabel(f"worst error, ULP of {found['dtype']}", color=style["ink"])
        names = [name for name in who if name in lines]
        figure.legend(
            [lines[name] for name in names],
            names,
            loc="outside upper center",
            ncols=len(names),
            frameon=False,
            labelcolor=style["ink"],
        )
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})


def write_pictures(app: Any) -> None:
    directory = Path(app.srcdir) / PICTURES
    directory.mkdir(parents=True, exist_ok=True)
    for mode in STYLES:
        draw(load(Path(app.srcdir)), mode, directory / f"gap-{mode}.svg")


# --------------------------------------------------------------------------------------------------------- Sphinx


def picture_nodes(path: str, alternative: str) -> list[Any]:
    """The picture at that path but for its mode, as it is on light pages and on dark ones."""
    from docutils import nodes

    return [
        nodes.image(uri=f"/{path}-{mode}.svg", alt=alternative, classes=["plot", f"only-{mode}"]) for mode in STYLES
    ]


def table_node(table: Table) -> Any:
    from docutils import nodes

    def entry(cell: Cell) -> Any:
        text = nodes.literal(text=cell.text) if cell.code else nodes.Text(cell.text + (" ✗" if cell.beyond else ""))
        content = nodes.strong("", "", text) if cell.beyond else text
        found = nodes.entry("", nodes.paragraph("", "", content))
        found["classes"] += ["beyond"] if cell.beyond else []
        return found

    # Functions with several rows each are headings of those, which leaves the width to figures.
    grouped = table.head[0] == "function" and len({row[0] for row in table.rows}) < len(table.rows)
    first = 1 if grouped else 0
    group = nodes.tgroup(cols=len(table.head) - first)
    group += [nodes.colspec(colwidth=1) for _ in table.head[first:]]
    head = nodes.row("", *(nodes.entry("", nodes.paragraph(text=text)) for text in table.head[first:]))
    group += nodes.thead("", head)
    body = nodes.tbody()
    for number_, row in enumerate(table.rows):
        if grouped and (not number_ or table.rows[number_ - 1][0] != row[0]):
            heading = entry(row[0])
            heading["morecols"] = len(table.head) - 2
            heading["classes"] += ["of"]
            body += nodes.row("", heading)
        body += nodes.row("", *map(entry, row[first:]))
    group += body
    return nodes.table("", group, classes=["figures"])


def setup(app: Any) -> dict[str, Any]:
    from docutils import nodes
    from sphinx.util.docutils import SphinxDirective

    class Accuracy(SphinxDirective):
        """A table, a paragraph or the plot, by name."""

        required_arguments = 1

        def run(self) -> list[Any]:
            source = Path(self.env.srcdir)
            self.env.note_dependency(str(source / FILE))
            self.env.note_reread()  # bounds are the registry's, which Sphinx does not watch
            report, name = load(source), self.arguments[0]
            if name in TEXTS:
                return [nodes.paragraph(text=TEXTS[name](report))]
            if name in TABLES:
                table = TABLES[name](report)
                return [table_node(table)] if table.rows else [nodes.paragraph(text="Nothing.")]
            if name != "plot":
                raise self.error(f"accuracy.json makes no {name!r}")
            titles = [curve["title"] for curve in report["curves"]["curves"].values()]
            alternative = f"Worst error against the gap between logits: {'; '.join(titles)}"
            return picture_nodes(f"{PICTURES.as_posix()}/gap", alternative)

    app.add_directive("accuracy", Accuracy)
    app.connect("builder-inited", write_pictures)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
