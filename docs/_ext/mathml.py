"""Formulas as MathML, which browsers draw by themselves: no script has to be loaded.

docutils translates the LaTeX. What it does not know is an error, and so stops the build.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

logger = logging.getLogger(__name__)


TIGHT_BARS = ('<mo stretchy="false">|</mo>', '<mo stretchy="false" lspace="0" rspace="0">|</mo>')


def _mathml(node: nodes.math | nodes.math_block, block: bool) -> str:
    try:
        # Bars are only ever written around something, and not between two things.
        return tex2mathml(node.astext(), as_block=block).replace(*TIGHT_BARS)
    except MathError as error:
        logger.warning("%s in the formula %s", error, node.astext(), location=node, type="mathml")
        return f"<code>{nodes.unescape(node.astext())}</code>"


def visit_math(self: Any, node: nodes.math) -> None:
    self.body.append(f'<span class="formula">{_mathml(node, block=False)}</span>')
    raise nodes.SkipNode


def visit_math_block(self: Any, node: nodes.math_block) -> None:
    self.body.append(f'<div class="formula">{_mathml(node, block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
