"""The reference, written from the registry: a page for each loss, and the command line's from its own parser.

The pages go to ``reference/generated`` before Sphinx reads anything. At the end every public name (`lossfast.__all__`
and the registry) must have an entry in the reference, or the build fails.
"""

from __future__ import annotations

import argparse
import inspect
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import lossfast as lf
from lossfast import _embeddings, _loss, selftest
from lossfast import cli as command_line

GENERATED = Path("reference") / "generated"

#: The methods that losses and functions may have, in the order in which pages list them.
METHODS = (
    *("value_and_grad", "grad", "grad_and_hess", "hvp", "newton_step", "evaluate", "reduce", "weigh"),
    *("vjp", "jvp", "jacobian", "with_sign", "bind"),
)
#: The classes whose methods ``reference/methods.md`` describes.
DESCRIBED = (
    *(_loss.Loss, _loss.RowLoss, _loss.PointwiseFunction, _loss.RowFunction, _loss.Softmax, _loss.LogSumExp),
    *(_loss.EntryFunction, _loss.PointwiseLossOfTwo, _embeddings.EmbeddingLoss),
)

# ---------------------------------------------------------------------------------------------------- what there is


def public_names() -> list[str]:
    """Everything that the reference has to have an entry for."""
    return sorted({*lf.__all__, *lf.losses()})


def missing(documented: Iterable[str]) -> list[str]:
    """The public names that are not among the documented ones."""
    there = set(documented)
    return [name for name in public_names() if f"lossfast.{name}" not in there]


def groups() -> dict[str, list[Any]]:
    """The losses and functions by the title of their group; losses first."""
    found: dict[str, list[Any]] = {title: [] for title in _loss.GROUPS.values()}
    entries = [lf.get_loss(name) for name in lf.losses()]
    for loss in sorted(entries, key=lambda loss: "function" in loss.kind):
        found[_loss.GROUPS[loss.group]].append(loss)
    return found


def summary(loss: Any) -> str:
    """The first line of its docstring."""
    return str(loss.__doc__).partition("\n")[0]


# ------------------------------------------------------------------------------------------------------------ pages


def heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n\n"


def table(rows: Iterable[Iterable[str]], columns: Iterable[str] = (), widths: str = "auto") -> str:
    lines = [".. list-table::", f"   :header-rows: {1 if columns else 0}", f"   :widths: {widths}", ""]
    for row in ([columns] if columns else []) + list(rows):
        lines += [f"   {'  -' if number else '* -'} {cell}" for number, cell in enumerate(row)]
    return "\n".join(lines) + "\n\n"


def index() -> str:
    """The list of all losses, by group."""
    text = heading("Losses and functions", "=") + ".. py:currentmodule:: lossfast\n\n"
    for title, losses in groups().items():
        text += heading(title, "-")
        text += table(([f":doc:`{loss.name}`", summary(loss)] for loss in losses), widths="42 58")
        text += ".. toctree::\n   :hidden:\n\n" + "".join(f"   {loss.name}\n" for loss in losses) + "\n"
    return text


def page(loss: Any) -> str:
    """The page of one loss."""
    text = heading(loss.name, "=") + ".. py:currentmodule:: lossfast\n\n"
    text += f".. py:function:: {loss.name}{loss.__signature__}\n\n"
    text += indented(docstring(loss.__doc__, pictures(loss))) + "\n"
    if loss.parameters:
        text += heading("Parameters and their domains", "-")
        rows = ([f"``{name}``", str(rule.default), rule.domain] for name, rule in loss.parameters.items())
        text += table(rows, ("name", "default", "domain"))
    if loss.domains:
        text += heading("Elements and their domains", "-")
        text += table(([f"``{name}``", domain] for name, domain in loss.domains.items()), ("name", "domain"))
    text += heading("Methods", "-")
    text += table([method_link(loss, name), said(loss, name)] for name in methods(loss))
    if loss.kind == "rowwise":
        offered = ", ".join(f"``{name}``" for name in _loss.EVALUATED if name in ("loss", "grad", *loss.outputs))
        text += f"``evaluate`` can give {offered}.\n\n"
    text += heading("Accuracy", "-") + accuracy(loss)
    return text


def accuracy(loss: Any) -> str:
    if loss.kind == "embedding":
        return (
            f"Results are within **{loss.ulp} ULP** (units in the last place) of the largest of the terms that they "
            "are sums of, float64 inputs in float64 and float32 inputs in float32; the notes above say which terms.\n"
        )
    others = max(loss.ulp, selftest.OTHERS_ULP)
    return (
        f"Results of the compiled backend are within **{loss.ulp} ULP** (units in the last place of the result) of "
        f"what exact arithmetic makes of the same input ({loss.bound('hess')} for Hessians and directions), "
        f"those of the other backends within {others}. :doc:`/accuracy` says what this covers and what was measured; "
        "``lossfast check`` measures it on your machine.\n"
    )


def methods(loss: Any) -> list[str]:
    return [name for name in METHODS if hasattr(loss, name)]


def method_link(loss: Any, name: str) -> str:
    """The method as it is called, linked to its description."""
    here = getattr(type(loss), name)
    described = next(kind for kind in DESCRIBED if getattr(kind, name, None) is here)  # the most general one
    keywords = ("KEYWORD_ONLY", "VAR_KEYWORD")
    operands = inspect.signature(getattr(loss, name)).parameters.values()
    arguments = [operand.name for operand in operands if operand.kind.name not in keywords]
    return f":py:meth:`{name}({', '.join([*arguments, '...'])}) <{described.__module__}.{described.__name__}.{name}>`"


def said(loss: Any, name: str) -> str:
    text = inspect.cleandoc(getattr(type(loss), name).__doc__).partition("\n\n")[0].replace("\n", " ")
    return re.sub(r"(?<!`)`(\w+)`(?!`)", r"``\1``", text)  # other methods of the object: not names to look up here


def pictures(loss: Any) -> list[str]:
    if not pictured(loss):
        return []
    alternative = f"{', '.join(curves(loss))} of {loss.name}"
    return [
        line
        for mode in STYLES
        for line in (
            f".. image:: {loss.name}-{mode}.svg",
            f"   :class: plot only-{mode}",
            f"   :alt: {alternative}",
            "",
        )
    ]


def docstring(text: str, pictures: list[str]) -> str:
    """A numpydoc docstring as reStructuredText, with pictures after the formulas and the references as a plain list."""
    from numpydoc.docscrape_sphinx import SphinxDocString

    class Docstring(SphinxDocString):
        def _str_extended_summary(self) -> list[str]:
            return [*super()._str_extended_summary(), *pictures]

        def _str_references(self) -> list[str]:
            if not self["References"]:
                return []
            # "P. J. Huber" would begin a list from P, were its first letter not escaped.
            lines = [re.sub(r"^\.\. \[(\w+)\] ", r"\1. \\", line) for line in self["References"]]
            return [*self._str_header("References"), *lines, ""]

    return str(Docstring(text))


def indented(text: str) -> str:
    return "".join(f"   {line}".rstrip() + "\n" for line in text.splitlines())


# ------------------------------------------------------------------------------------------------------------ plots

STYLES = {
    "light": {"ink": "#33373d", "grid": "#d5d8dc", "curves": ("#1f5fa8", "#b3530a", "#1d7a4f")},
    "dark": {"ink": "#ced6dd", "grid": "#3c434b", "curves": ("#7db5f5", "#f0a35e", "#63cf9c")},
}
NAMES = ("value", "gradient", "Hessian")
DASHES = ("-", "--", ":")


def pictured(loss: Any) -> bool:
    return loss.kind in ("pointwise", "function")


def curves(loss: Any) -> dict[str, Any]:
    """What is drawn: functions of an array ``x`` and a target."""
    if loss.kind == "function":
        return {"value": lambda x, t: loss(x), "derivative": lambda x, t: loss.vjp(x, np.ones_like(x))}

    def of(output: str) -> Any:
        return lambda x, t: getattr(loss.evaluate(x, np.full_like(x, t), want=output, reduction="none"), output)

    return {
        name: of(output)
        for name, output in zip(NAMES, ("loss", "grad", "hess"), strict=True)
        if output in ("loss", *loss.outputs)
    }


def draw(loss: Any, mode: str, file: Path) -> None:
    """Value, gradient and Hessian, as a picture on a transparent ground."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style = STYLES[mode]
    targets: tuple[Any, ...] = (None,)
    if loss.kind != "function":
        of_kind = (0, 1) if loss.group == "classification" else (0,)
        targets = tuple(np.unique(_loss.inside(loss, "target", of_kind)).tolist())
    low, high = (-6, 6) if loss.group == "classification" else (-3, 3)
    x = np.unique(_loss.inside(loss, "pred", np.linspace(low, high, 2401)))
    with rc_context({"svg.hashsalt": loss.name, "font.size": 10, "svg.fonttype": "path"}):
        figure = Figure(figsize=(7.2, 3.0) if len(targets) > 1 else (5.6, 3.2), layout="constrained")
        panels = figure.subplots(1, len(targets), sharey=True, squeeze=False)[0]
        for panel, target in zip(panels, targets, strict=True):
            for (name, curve), colour, dash in zip(curves(loss).items(), style["curves"], DASHES, strict=False):
                y = np.array(curve(x, target))
                y[1:][abs(np.diff(y)) > 0.25] = np.nan  # a jump is a gap, not a line
                panel.plot(x, y, dash, color=colour, label=name, linewidth=1.8)
            panel.set_xlabel(loss.operands[0] if loss.kind == "function" else "pred", color=style["ink"])
            fixed = [
                f"{name} = {rule.default if isinstance(rule, _loss.Choice) else f'{rule.default:g}'}"
                for name, rule in loss.parameters.items()
                if rule.default is not None
            ]
            title = ", ".join(([f"target = {target}"] if target is not None else []) + fixed)
            panel.set_title(title, color=style["ink"], fontsize=10)
            panel.grid(color=style["grid"], linewidth=0.6)
            panel.tick_params(colors=style["ink"])
            panel.set_axisbelow(True)
            panel.patch.set_alpha(0)
            for spine in panel.spines.values():
                spine.set_color(style["grid"])
        panels[0].legend(frameon=False, labelcolor=style["ink"])
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})


# ----------------------------------------------------------------------------------------------------- command line


def command_page() -> str:
    """The commands and their options in Markdown, from the parser that reads them."""
    width = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "88"  # what argparse breaks lines at
    try:
        return "\n".join(_commands(command_line._parser()))
    finally:
        if width is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = width


def _commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield f"## {parser.prog} {name}\n\n{command.description}\n"
                yield f"```{{program}} {command.prog}\n```\n\n```text\n{command.format_usage().strip()}\n```\n"
                for group in command._action_groups:
                    yield from _group(command, group)
                if command.epilog:
                    yield f"```text\n{command.epilog.strip()}\n```\n"


def _group(parser: argparse.ArgumentParser, group: Any) -> Iterator[str]:
    formatter = parser._get_formatter()
    options = [action for action in group._group_actions if "--help" not in action.option_strings]
    if not options:
        return
    yield f"**{group.title[0].upper()}{group.title[1:]}**\n"
    for action in options:
        text = re.sub(r"([\\*_\[\]{}<>#|$])", r"\\\1", formatter._expand_help(action) if action.help else "")
        yield f"```{{option}} {formatter._format_action_invocation(action)}\n{text}\n```\n"


# ------------------------------------------------------------------------------------------------------------ build


def write(directory: Path) -> None:
    """Write all pages and plots; a file that would not change is left alone, so that Sphinx need not read it again."""
    directory.mkdir(parents=True, exist_ok=True)
    texts = {"index.rst": index(), "command-line.md": command_page()}
    texts.update({f"{name}.rst": page(lf.get_loss(name)) for name in lf.losses()})
    kept = {directory / name for name in texts}
    for name, text in texts.items():
        file = directory / name
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
    for loss in filter(pictured, map(lf.get_loss, lf.losses())):
        for mode in STYLES:
            kept.add(file := directory / f"{loss.name}-{mode}.svg")
            draw(loss, mode, file)
    for file in directory.iterdir():
        if file not in kept:
            file.unlink()  # of a loss that is gone


def write_pages(app: Any) -> None:
    write(Path(app.srcdir) / GENERATED)


def check_names(app: Any, env: Any) -> None:
    from sphinx.errors import ExtensionError

    forgotten = missing(env.domains["py"].objects)
    if forgotten:
        raise ExtensionError(f"public names without an entry in the reference: {', '.join(forgotten)}")


def setup(app: Any) -> dict[str, Any]:
    app.connect("builder-inited", write_pages)
    app.connect("env-check-consistency", check_names)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
