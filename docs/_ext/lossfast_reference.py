"""The reference, written from the registry: a page for each loss, and the command line's from its own parser.

The pages go to ``reference/generated`` before Sphinx reads anything. At the end every public name (`lossfast.__all__`
and the registry) must have an entry in the reference, or the build fails.
"""

from __future__ import annotations

import argparse
import inspect
import os
import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

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
    alternative = f"{', '.join(panels(loss, 11)[0].curves)} of {loss.name}"
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
            # Each is a line of its own: emphasis that is broken across lines would have to be indented alike.
            entries = re.split(r"^\.\. ", "\n".join(self["References"]), flags=re.MULTILINE)[1:]
            lines = [re.sub(r"^\[(\w+)\] ", r"\1. \\", " ".join(entry.split())) for entry in entries]
            return [*self._str_header("References"), *lines, ""]

    return str(Docstring(text))


def indented(text: str) -> str:
    return "".join(f"   {line}".rstrip() + "\n" for line in text.splitlines())


# ------------------------------------------------------------------------------------------------------------ plots

STYLES = {
    "light": {"ink": "#33373d", "grid": "#d5d8dc", "curves": ("#1f5fa8", "#b3530a", "#1d7a4f")},
    "dark": {"ink": "#ced6dd", "grid": "#3c434b", "curves": ("#7db5f5", "#f0a35e", "#63cf9c")},
}
DASHES = ("-", "--", ":")
POINTS = 1201
#: Points at either end of a curve that are not looked at for jumps.
EDGE = 12
#: Fractions, of which the ends are left out: logarithms are taken of them.
FRACTIONS = (0.002, 0.998)
#: Where the other embeddings of a picture are, while the first goes round the circle, and which belong together.
PLACES: dict[str, Any] = {
    **dict.fromkeys(("x2", "positive", "z2"), [[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]),
    "negative": [[0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]],
    "labels": [0, 0, 1, 1],
}
#: What else is in a batch whose embeddings are all compared: after the first, which moves.
COMPANY = {1: [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], 2: [[0.0, 1.0], [0.0, -1.0]]}


class Panel(NamedTuple):
    """Curves over one variable, everything else being fixed."""

    title: str  #: what is fixed
    label: str  #: what varies
    x: np.ndarray
    curves: dict[str, np.ndarray]


def panels(loss: Any, points: int = POINTS, span: tuple[float, float] | None = None) -> list[Panel]:
    """The pictures of a loss or function: value, gradient and Hessian against one entry of its first argument.

    There is a panel for each target that makes a difference. ``span`` is what the variable covers, where nothing
    bounds it.
    """
    make = {
        "function": _function_panels,
        "pointwise": _pointwise_panels,
        "pointwise_of_two": _panels_of_two,
        "rowwise": _row_panels,
        "row_function": _row_function_panels,
        "embedding": _embedding_panels,
    }
    return make[loss.kind](loss, points, span)


def _named(loss: Any, outputs: dict[str, Any]) -> dict[str, np.ndarray]:
    names = {"loss": "value", "grad": "gradient", "hess": "Hessian"}
    return {names[output]: np.asarray(outputs[output], float) for output in names if output in outputs}


def _wanted(loss: Any) -> tuple[str, ...]:
    return tuple(output for output in ("loss", "grad", "hess") if output in ("loss", *loss.outputs))


def _function_panels(loss: Any, points: int, span: Any) -> list[Panel]:
    ends = FRACTIONS if "probabilities" in loss.takes or loss.group == "information" else span or (-6, 6)
    x = np.linspace(*ends, points)
    return [Panel("", loss.operands[0], x, {"value": loss(x), "derivative": loss.vjp(x, np.ones_like(x))})]


def _pointwise_panels(loss: Any, points: int, span: Any) -> list[Panel]:
    classes = loss.group == "classification"
    wanted = (0, 1) if classes else (1,) if "target" in loss.domains else (0,)
    targets = np.unique(_loss.inside(loss, "target", wanted)).tolist()
    ends = FRACTIONS if loss.domains.get("pred") == "in [0, 1]" else span or ((-4, 4) if classes else (-3, 3))
    x = np.linspace(*ends, points)
    x = x[_loss.inside(loss, "pred", x) == x]
    found = []
    for target in targets:
        given = loss.evaluate(x, np.full_like(x, target), want=_wanted(loss), reduction="none")
        found.append(Panel(f"target = {target:g}", "pred", x, _named(loss, given._asdict())))
    return found


def _panels_of_two(loss: Any, points: int, span: Any) -> list[Panel]:
    """Over the first of three arguments; the second is 0."""
    first, _, third = loss.operands
    x = np.linspace(*(span or (-3, 3)), points)
    found = []
    for value in (-1, 1) if loss.domains.get(third) == "-1 or 1" else (0.5, 2):
        arguments = x, np.zeros_like(x), np.full_like(x, value)
        grad, hess = loss.grad_and_hess(*arguments, reduction="none")
        outputs = {"loss": loss(*arguments, reduction="none"), "grad": grad[0], "hess": hess[0]}
        found.append(Panel(f"{third} = {value:g}", first, x, _named(loss, outputs)))
    return found


def _rows(takes: str, points: int, span: Any) -> tuple[np.ndarray, np.ndarray, str]:
    """Rows whose first entry varies, that entry, and what to call it."""
    if takes == "probabilities":
        x = np.linspace(*FRACTIONS, points)
        return np.stack([x, (1 - x) / 2, (1 - x) / 2], -1), x, "probability of the first class"
    if takes == "log-probabilities":
        x = np.linspace(-6, -0.01, points)
        others = np.log(-np.expm1(x) / 2)
        return np.stack([x, others, others], -1), x, "log-probability of the first class"
    x = np.linspace(*(span or (-6, 6)), points)
    return np.stack([x, np.zeros_like(x), np.zeros_like(x)], -1), x, "logit of the first class; the others are 0"


def _row_panels(loss: Any, points: int, span: Any) -> list[Panel]:
    takes = (*loss.takes, "logits", "logits")[:2]
    rows, x, label = _rows(takes[0], points, span)
    found = []
    if loss.labelled and takes[1] != "0 or 1":
        truths = np.zeros(points, int)
        targets = {"the first class is right": truths, "another class is right": truths + 1}
    else:
        fixed = {"0 or 1": [1.0, 0.0, 0.0], "logits": [1.0, 0.0, -1.0]}.get(takes[1], [0.6, 0.3, 0.1])
        targets = {f"{loss.operands[1]} = ({', '.join(f'{v:g}' for v in fixed)})": np.tile(fixed, (points, 1))}
    for title, target in targets.items():
        given = loss.evaluate(rows, target, want=_wanted(loss), reduction="none")._asdict()
        entries = {name: array if name == "loss" else array[:, 0] for name, array in given.items()}
        found.append(Panel(title, label, x, _named(loss, entries)))
    return found


def _row_function_panels(loss: Any, points: int, span: Any) -> list[Panel]:
    rows, x, label = _rows((*loss.takes, "logits")[0], points, span)
    value = loss(rows)
    direction = np.zeros_like(value)
    direction[..., 0] = 1
    slope = loss.vjp(rows, direction if value.ndim > 1 else np.ones_like(value))[:, 0]
    return [Panel("", label, x, {"value": value[:, 0] if value.ndim > 1 else value, "derivative": slope})]


def _embedding_panels(loss: Any, points: int, span: Any) -> list[Panel]:
    """Over the angle of the first embedding, which goes round the unit circle; the derivative is that in the angle."""
    angles = np.linspace(-np.pi, np.pi, min(points, 241))
    *others, last = loss.operands[1:] or ("",)
    domain = loss.domains.get(last)
    signs = {"-1 or 1": (1, -1), "0 or 1": (1, 0)}.get(domain or "", (None,))
    company = COMPANY[len(loss.differentiable)] if not domain and len(loss.differentiable) < 3 else []
    found = []
    for sign in signs:
        value, slope = [], []
        for angle in angles:
            first = [[np.cos(angle), np.sin(angle)], *company]
            names = (*others, last) if sign is None else others
            fixed = [PLACES[name][: len(first)] for name in names] + ([] if sign is None else [[sign]])
            loss_, grad = loss.value_and_grad(first, *fixed, reduction="mean")
            moved = (grad if len(loss.differentiable) == 1 else grad[0])[0]
            value.append(loss_)
            slope.append(moved @ [-np.sin(angle), np.cos(angle)])
        title = "" if sign is None else f"{last} = {sign}"
        curves = {"value": np.array(value), "derivative": np.array(slope)}
        found.append(Panel(title, "angle of the first embedding", angles, curves))
    return found


def jumps(curve: np.ndarray) -> np.ndarray:
    """Which steps stand out from those two points away (at a kink, the point between may be half-way).

    Near the ends none does: at the end of a domain a curve may be as steep as it likes.
    """
    steps = abs(np.diff(curve))
    padded = np.pad(steps, 2)
    beside = np.maximum(padded[4:], padded[:-4])
    beside[:EDGE] = beside[-EDGE:] = np.inf
    return (steps > 0.02 * np.ptp(curve)) & (steps > 4 * beside)


def _limits(panel: Panel) -> tuple[float, float]:
    """What of the vertical axis is drawn: all, unless something shoots up so that nothing else can be seen."""
    value = abs(panel.curves["value"])
    high = 1.1 * min(value.max(), 5 * value.mean())
    curves = np.concatenate(list(panel.curves.values()))
    low, most = curves.min(), curves.max()
    if max(-low, most) <= 2.5 * high:
        return low - 0.05 * (most - low), most + 0.05 * (most - low)
    return -high if low < -0.1 * high else -0.05 * high, high


def draw(loss: Any, mode: str, file: Path, small: bool = False) -> None:
    """Value, gradient and Hessian, as a picture on a transparent ground; the small one has no words."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style = STYLES[mode]
    found = panels(loss, 301 if small else POINTS)
    if small:
        found = found[:1] if loss.kind != "pointwise" else found[-1:]
    with rc_context({"svg.hashsalt": loss.name, "font.size": 8 if small else 10, "svg.fonttype": "path"}):
        if small:
            figure = Figure(figsize=(2.4, 1.5))
            axes = [figure.add_axes((0.1, 0.13, 0.88, 0.84))]
        else:
            figure = Figure(figsize=(7.2, 3.0) if len(found) > 1 else (5.6, 3.2), layout="constrained")
            axes = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        lows, highs = zip(*map(_limits, found), strict=True)
        for panel, axis in zip(found, axes, strict=True):
            axis.set_ylim(min(lows), max(highs))
            for (name, y), colour, dash in zip(panel.curves.items(), style["curves"], DASHES, strict=False):
                y = np.array(y)
                y[1:][jumps(y)] = np.nan  # a gap, not a line
                axis.plot(panel.x, y, dash, color=colour, label=name, linewidth=1.4 if small else 1.8)
            axis.grid(color=style["grid"], linewidth=0.6)
            axis.tick_params(colors=style["ink"], length=0 if small else 3, pad=1 if small else 3)
            axis.set_axisbelow(True)
            axis.patch.set_alpha(0)
            for spine in axis.spines.values():
                spine.set_color(style["grid"])
            if small:
                axis.locator_params(nbins=4)
                continue
            axis.set_xlabel(panel.label, color=style["ink"])
            fixed = [
                f"{name} = {rule.default if isinstance(rule, _loss.Choice) else f'{rule.default:g}'}"
                for name, rule in loss.parameters.items()
                if rule.default is not None
            ]
            title = ", ".join([panel.title] * bool(panel.title) + fixed)
            axis.set_title("\n".join(textwrap.wrap(title, 46)), color=style["ink"], fontsize=10)
        if not small:
            axes[0].legend(frameon=False, labelcolor=style["ink"])
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
    for loss in map(lf.get_loss, lf.losses()):
        for mode in STYLES:
            for small in (False, True):
                kept.add(file := directory / f"{loss.name}{'-small' * small}-{mode}.svg")
                draw(loss, mode, file, small)
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
