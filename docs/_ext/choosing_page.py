"""The table and the pictures of ``choosing.md``: every loss, what it takes, and how its gradient behaves.

Nothing is said of a loss here: what the columns say is its own first line, or is read off the curves that its page
shows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import lossfast_reference as reference
import numpy as np
from accuracy_page import picture_nodes

import lossfast as lf
from lossfast._loss import GROUPS

#: How a gradient far from the target compares with one half as far: the least ratio of each word.
FAR = ((1.3, "grows"), (0.9, "stays"), (0.3, "fades"), (-1.0, "is gone"))
#: What is looked at to tell: more than pictures show.
WIDE = (-10.0, 10.0)
HEAD = ("loss", "what it is", "targets", "convex", "smooth", "gradient far off")


class Facts(NamedTuple):
    """What is read off the curves of a loss; None where there is nothing to be read."""

    convex: bool | None
    smooth: bool | None
    far: str | None


def facts(loss: Any) -> Facts:
    """Whether the gradient never falls, whether it has jumps, and what becomes of it far from the target."""
    if "function" in loss.kind or loss.kind == "embedding":
        return Facts(None, None, None)
    panels = reference.panels(loss, span=WIDE)
    slopes = [np.diff(panel.curves["value"]) / np.diff(panel.x) for panel in panels]
    convex = all(np.all(np.diff(slope) >= -1e-8 * abs(slope).max()) for slope in slopes)
    smooth = not any(reference.jumps(panel.curves[name]).any() for panel in panels for name in ("value", "gradient"))
    return Facts(convex, smooth, _far(loss))


def _far(loss: Any) -> str | None:
    near, far = (_strongest(loss, distance) for distance in (100.0, 200.0))
    if near is None or far is None:
        return None
    ratio = far / near if near > 1e-30 else 0.0
    return next(word for least, word in FAR if ratio >= least)


def _strongest(loss: Any, distance: float) -> float | None:
    """The largest gradient at that distance on either side; None where the first argument is bounded."""
    found = []
    for panel in reference.panels(loss, 3, (-distance, distance)):
        found += abs(panel.curves["gradient"][abs(panel.x) == distance]).tolist()
    return min(max(found), np.finfo(float).max) if found else None


def targets(loss: Any) -> str:
    """What the loss is compared with, in a few words."""
    if loss.kind == "embedding":
        return ", ".join(loss.operands[1:])
    takes = dict(enumerate(loss.takes)).get(1)
    if getattr(loss, "labelled", False) and takes != "0 or 1":
        return "labels, soft labels" if loss.soft else "labels"
    return takes or ("logits" if loss.kind == "rowwise" else loss.domains.get("target", "any number"))


def groups() -> dict[str, list[Any]]:
    """The losses, without the functions, by the title of their group."""
    entries = (lf.get_loss(name) for name in lf.losses())
    found: dict[str, list[Any]] = {title: [] for title in GROUPS.values()}
    for loss in entries:
        if "function" not in loss.kind:
            found[GROUPS[loss.group]].append(loss)
    return found


def row(loss: Any) -> list[str]:
    """The cells of the table but for the name."""
    known = facts(loss)
    words = [{True: "yes", False: "no", None: "–"}[fact] for fact in (known.convex, known.smooth)]
    return [reference.summary(loss), targets(loss), *words, known.far or "–"]


def setup(app: Any) -> dict[str, Any]:
    from docutils import nodes
    from sphinx import addnodes
    from sphinx.util.docutils import SphinxDirective

    def link(loss: Any, document: str) -> Any:
        """To its page."""
        target = f"lossfast.{loss.name}"
        name = nodes.literal("", loss.name, classes=["xref", "py", "py-obj"])
        options = {"refdomain": "py", "reftype": "obj", "reftarget": target, "refdoc": document}
        return addnodes.pending_xref("", name, refexplicit=True, refwarn=True, **options)

    def text(words: str) -> Any:
        pieces = enumerate(words.split("`"))
        return nodes.paragraph("", "", *(nodes.literal(text=t) if i % 2 else nodes.Text(t) for i, t in pieces if t))

    def section(title: str, prefix: str, content: Any) -> Any:
        return nodes.section("", nodes.title(text=title), content, ids=[nodes.make_id(f"{prefix} {title}")])

    class ChoosingTable(SphinxDirective):
        """Every loss, by group."""

        def run(self) -> list[Any]:
            self.env.note_reread()  # the registry is nothing that Sphinx watches
            found = []
            for title, losses in groups().items():
                group = nodes.tgroup(cols=len(HEAD))
                group += [nodes.colspec(colwidth=width) for width in (29, 30, 12, 9, 9, 11)]
                head = nodes.row("", *(nodes.entry("", nodes.paragraph(text=name)) for name in HEAD))
                body = nodes.tbody()
                for loss in losses:
                    name = nodes.paragraph("", "", link(loss, self.env.docname))
                    body += nodes.row("", *(nodes.entry("", cell) for cell in (name, *map(text, row(loss)))))
                group += [nodes.thead("", head), body]
                table = nodes.table("", group, classes=["figures", "choosing", "colwidths-given"])
                found.append(section(title, "table", table))
            return found

    class ChoosingPictures(SphinxDirective):
        """The small pictures of every loss and function, by group."""

        def run(self) -> list[Any]:
            self.env.note_reread()
            found = []
            for title, losses in reference.groups().items():
                cards = nodes.container(classes=["cards"])
                for loss in losses:
                    name = nodes.paragraph("", "", link(loss, self.env.docname))
                    curves = ", ".join(reference.panels(loss, 3)[0].curves)
                    path = f"{reference.GENERATED.as_posix()}/{loss.name}-small"
                    images = picture_nodes(path, f"{curves} of {loss.name}")
                    cards += nodes.container("", name, *images, classes=["card-of-loss"])
                found.append(section(title, "pictures", cards))
            return found

    app.add_directive("choosing-table", ChoosingTable)
    app.add_directive("choosing-pictures", ChoosingPictures)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
