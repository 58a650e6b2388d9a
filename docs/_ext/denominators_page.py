"""The table of ``gradients.md``, from ``denominators.json``, which ``python -m benchmarks.denominators`` writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from accuracy_page import Cell, Table, table_node

from benchmarks import denominators


def load() -> list[dict[str, Any]]:
    return json.loads(denominators.FILE.read_text(encoding="utf-8"))["cases"]


def table() -> Table:
    """A row for each question; what a library divides by otherwise than lossfast stands out."""
    rows = []
    for row in load():
        cells = [Cell(row["what"])]
        for name in denominators.LIBRARIES:
            divisor = row["divisors"].get(name)
            cells.append(Cell("–" if divisor is None else f"{row['values'][name]:.4f}"))
            cells.append(Cell("–" if divisor is None else denominators.shown(divisor)))
        rows.append(cells)
    head = [text for name in denominators.LIBRARIES for text in (name, "divides by")]
    return Table(["the mean of", *head], rows)


def calls() -> list[tuple[str, dict[str, str]]]:
    return [(row["what"], row["calls"]) for row in load()]


def setup(app: Any) -> dict[str, Any]:
    from docutils import nodes
    from sphinx.util.docutils import SphinxDirective

    class Denominators(SphinxDirective):
        """The table, or the calls that it is of."""

        required_arguments = 1

        def run(self) -> list[Any]:
            self.env.note_dependency(str(denominators.FILE))
            if self.arguments[0] == "table":
                return [table_node(table())]
            if self.arguments[0] != "calls":
                raise self.error(f"denominators.json makes no {self.arguments[0]!r}")
            items = nodes.definition_list()
            for what, found in calls():
                lines = nodes.bullet_list()
                for library, call in found.items():
                    text = nodes.paragraph("", "", nodes.Text(f"{library}: "), nodes.literal(text=call))
                    lines += nodes.list_item("", text)
                items += nodes.definition_list_item("", nodes.term(text=what), nodes.definition("", lines))
            return [items]

    app.add_directive("denominators", Denominators)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
