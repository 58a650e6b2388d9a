"""The recorded history: a summary and what moved last on ``history.md``, and the page of all charts beside it.

`benchmarks.history` makes both from what has been recorded, and needs nothing to have been.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from accuracy_page import Cell, Table, table_node

from benchmarks import history

#: Where the charts are, in the built pages.
CHARTS = "benchmarks/index.html"
#: How much of what moved is shown.
SHOWN = 20


def trends(benchmarks: list[history.Benchmark]) -> Table:
    """Each benchmark: the mean of all of its figures over that of the first."""
    rows = []
    for benchmark in benchmarks:
        verdicts = [move[4] for move in benchmark.moves()]
        rows.append(
            [
                Cell(benchmark.name),
                Cell(benchmark.machine),
                Cell(f"{len(benchmark.keys()):,}"),
                Cell(str(len(benchmark.values))),
                Cell(history.short(benchmark.trend()[-1])),
                Cell(str(verdicts.count("worse"))),
                Cell(str(verdicts.count("better"))),
            ]
        )
    return Table(["benchmark", "machine", "figures", "commits", "now / first", "worse", "better"], rows)


def moves(benchmarks: list[history.Benchmark]) -> Table:
    """What became worse, the newest first."""
    worse = [move for move in history.moved(benchmarks) if move[5] == "worse"][:SHOWN]
    rows = [
        [
            Cell(history.day(commit)),
            Cell(commit.name, code=True),
            Cell(f"{benchmarks[number].name}: {', '.join(key)}"),
            Cell(f"{history.short(before)} → {history.short(after)}"),
            Cell(benchmarks[number].unit),
        ]
        for number, commit, key, before, after, _ in worse
    ]
    return Table(["day", "commit", "what", "before → after", "unit"], rows)


def write_charts(app: Any, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        history.write(Path(app.outdir) / CHARTS)


def setup(app: Any) -> dict[str, Any]:
    from docutils import nodes
    from sphinx.util.docutils import SphinxDirective

    class History(SphinxDirective):
        """A part of the page, by name."""

        required_arguments = 1

        def run(self) -> list[Any]:
            self.env.note_reread()  # what is recorded is nothing that Sphinx watches
            benchmarks, name = history.collect(), self.arguments[0]
            if name == "summary":
                return [nodes.paragraph(text=history.summary(benchmarks))]
            if name == "charts":
                link = nodes.reference("", "All charts", refuri=CHARTS)
                return [nodes.paragraph("", "", link, nodes.Text(", with every figure at every commit."))]
            made = {"trends": trends, "moves": moves}
            if name not in made:
                raise self.error(f"the history makes no {name!r}")
            table = made[name](benchmarks)
            return [table_node(table)] if table.rows else [nodes.paragraph(text="Nothing.")]

    app.add_directive("history", History)
    app.connect("build-finished", write_charts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
