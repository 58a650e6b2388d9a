"""The tables of ``equivalents.md``, from `benchmarks.calls`, whose rows the test suite runs.

The table is shown as far as the registry goes; a loss without a row says so.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import lossfast as lf
from benchmarks import calls
from lossfast._loss import GROUPS

HEAD = ("library", "there", "here", "differs")


def groups() -> dict[str, dict[str, list[calls.Call]]]:
    """The rows of every loss, by the title of its group."""
    rows = calls.active()
    found: dict[str, dict[str, list[calls.Call]]] = {title: {} for title in GROUPS.values()}
    for name in lf.losses():
        found[GROUPS[lf.get_loss(name).group]][name] = [row for row in rows if row.loss == name]
    return {title: losses for title, losses in found.items() if losses}


def setup(app: Any) -> dict[str, Any]:
    from docutils import nodes
    from sphinx.util.docutils import SphinxDirective

    def text(note: str) -> Any:
        pieces = enumerate(note.split("`"))
        return nodes.paragraph("", "", *(nodes.literal(text=t) if i % 2 else nodes.Text(t) for i, t in pieces if t))

    def table(rows: list[calls.Call]) -> Any:
        group = nodes.tgroup(cols=len(HEAD))
        group += [nodes.colspec(colwidth=width) for width in (10, 38, 32, 20)]
        head = nodes.row("", *(nodes.entry("", nodes.paragraph(text=name)) for name in HEAD))
        body = nodes.tbody()
        for row in rows:
            codes = (nodes.paragraph("", "", nodes.literal(text=code)) for code in (row.theirs, row.ours))
            cells = (nodes.paragraph(text=row.library), *codes, text(row.note))
            body += nodes.row("", *(nodes.entry("", cell) for cell in cells))
        group += [nodes.thead("", head), body]
        return nodes.table("", group, classes=["equivalents"])

    class Equivalents(SphinxDirective):
        """All losses, by group."""

        def run(self) -> list[Any]:
            self.env.note_dependency(calls.__file__)
            self.env.note_reread()  # the registry is nothing that Sphinx watches
            found: list[Any] = []
            for title, losses in groups().items():
                section = nodes.section(ids=[nodes.make_id(f"equivalents {title}")])
                section += nodes.title(text=title)
                without = []
                for name, rows in losses.items():
                    if not rows:
                        without.append(name)
                        continue
                    part = nodes.section(ids=[nodes.make_id(f"equivalents of {name}")])
                    part += [nodes.title("", "", nodes.literal(text=name)), table(rows)]
                    section += part
                if without:
                    section += text("No equivalent is known of " + ", ".join(f"`{name}`" for name in without) + ".")
                found.append(section)
            return found

    app.add_directive("equivalents", Equivalents)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
