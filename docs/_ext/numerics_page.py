"""The pictures of ``numerics.md``: formulas as they are usually written, beside this library.

Each picture runs its formulas in NumPy, in float32, and compares them with the same quantity in float64 from a form
that loses nothing there. What other libraries do on the same inputs is measured elsewhere (``accuracy.md``).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from accuracy_page import STYLES as COLOURS
from accuracy_page import picture_nodes
from performance_page import LINES, Canvas

import lossfast as lf

PICTURES = Path("_build") / "numerics"
DASHES = ("-", "--", "-.", ":")
#: Where an error of 0 is drawn, and one of no correct digit.
LEAST, MOST = 1e-9, 1.0

Curves = dict[str, np.ndarray]


class Picture(NamedTuple):
    """What is drawn, and what a figure of it says to whom cannot see it."""

    told: str
    label: str
    unit: str
    make: Callable[[], tuple[np.ndarray, Curves]]
    logarithmic_x: bool = False


def relative(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """How far off, as a fraction of what is right; 1 where no digit is right."""
    with np.errstate(all="ignore"):
        error = abs(np.asarray(found, float) - exact) / abs(exact)
    return np.clip(np.where(np.isfinite(error), error, MOST), LEAST, MOST)


# ------------------------------------------------------------------------------------------------------ the formulas


def naive_softmax(logits: np.ndarray) -> np.ndarray:
    """As it is in textbooks, with the largest logit subtracted first."""
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def naive_logsumexp(logits: np.ndarray) -> np.ndarray:
    largest = logits.max(-1)
    return largest + np.log(np.exp(logits - largest[..., None]).sum(-1))


def ahead(gap: np.ndarray) -> np.ndarray:
    """Rows of ten logits, the first of which is ahead of the others by that much."""
    logits = np.zeros((len(gap), 10), np.float32)
    logits[:, 0] = gap
    return logits


# ------------------------------------------------------------------------------------------------------ the pictures


def small_losses() -> tuple[np.ndarray, Curves]:
    gap = np.linspace(0, 40, 161, dtype=np.float32)
    logits, labels = ahead(gap), np.zeros(len(gap), int)
    with np.errstate(divide="ignore"):
        of_probability = -np.log(naive_softmax(logits)[:, 0])
        clipped = -np.log(np.clip(naive_softmax(logits)[:, 0], 1e-7, 1 - 1e-7))
    return gap, {
        "lossfast": lf.cross_entropy(logits, labels, reduction="none"),
        "logsumexp(z) - z[y]": naive_logsumexp(logits) - logits[:, 0],
        "-log(softmax(z)[y])": of_probability,
        "the same, clipped at 1e-7": clipped,
    }


def true_gradients() -> tuple[np.ndarray, Curves]:
    gap = np.linspace(0, 40, 161, dtype=np.float32)
    logits, labels = ahead(gap), np.zeros(len(gap), int)
    return gap, {
        "lossfast": -lf.cross_entropy.grad(logits, labels, reduction="none")[:, 0],
        "1 - softmax(z)[y]": 1 - naive_softmax(logits)[:, 0],
    }


def offsets() -> tuple[np.ndarray, Curves]:
    offset = np.geomspace(1, 1e6, 61).astype(np.float32)
    # What float32 holds of logits that far out; the differences of those are exact, and so is their float64 loss.
    logits = (np.array([2.0, 0.0, -1.0], np.float32) + offset[:, None]).astype(np.float32)
    wide = logits.astype(float) - logits[:, :1]
    exact = np.log1p(np.exp(wide[:, 1:]).sum(-1))
    labels = np.zeros(len(offset), int)
    with np.errstate(over="ignore", invalid="ignore"):
        plain = np.log(np.exp(logits).sum(-1)) - logits[:, 0]
    return offset, {
        "lossfast": relative(lf.cross_entropy(logits, labels, reduction="none"), exact),
        "logsumexp(z) - z[y]": relative(naive_logsumexp(logits) - logits[:, 0], exact),
        "log(sum(exp(z))) - z[y]": relative(plain, exact),
    }


def divergences() -> tuple[np.ndarray, Curves]:
    apart = np.geomspace(1e-5, 1, 61)
    base, direction = np.array([1.0, 0.3, -0.5, 0.2]), np.array([0.3, -1.0, 0.4, 0.8])
    p = np.tile(base, (len(apart), 1)).astype(np.float32)
    q = (base + apart[:, None] * direction).astype(np.float32)
    # KL is the sum of p (e^t - 1 - t), with t the difference of the logarithms: a sum of terms of one sign.
    wide_p, wide_q = p.astype(float), q.astype(float)
    d = wide_q - wide_p
    weights = naive_softmax(wide_p)
    t = d - np.log1p((weights * np.expm1(d)).sum(-1, keepdims=True))
    series = t**2 / 2 * (1 + t / 3 * (1 + t / 4 * (1 + t / 5)))
    exact = (weights * np.where(abs(t) < 1e-3, series, np.expm1(t) - t)).sum(-1)
    of_p, of_q = (x - naive_logsumexp(x)[:, None] for x in (p, q))
    return apart, {
        "lossfast": relative(lf.kl_div_from_logits(p, q, reduction="none"), exact),
        "sum(p * (log(p) - log(q)))": relative((np.exp(of_p) * (of_p - of_q)).sum(-1), exact),
    }


def sums() -> tuple[np.ndarray, Curves]:
    """The mean of many squared errors."""
    random = np.random.default_rng(0)
    errors = random.random(1 << 22, dtype=np.float32)
    counts = 1 << np.arange(4, 23, 2)
    squares = errors * errors
    running = np.cumsum(squares, dtype=np.float32)[counts - 1] / counts
    exact = np.cumsum(errors.astype(float) ** 2)[counts - 1] / counts
    return counts, {
        "lossfast": relative(np.array([lf.mse_loss(errors[:n], 0.0) for n in counts]), exact),
        "a running sum in float32": relative(running, exact),
        "np.mean": relative(np.array([squares[:n].mean() for n in counts]), exact),
    }


PLOTS = {
    "small-losses": Picture(
        "The loss against how far the right logit is ahead: only that of lossfast goes on shrinking",
        "logit of the right class less the others",
        "loss, float32",
        small_losses,
    ),
    "true-gradients": Picture(
        "The size of the right class's gradient against how far its logit is ahead: 1 - p is 0 from a point on",
        "logit of the right class less the others",
        "size of the gradient, float32",
        true_gradients,
    ),
    "offsets": Picture(
        "Relative error of a loss against what all logits have in common: it grows but for lossfast",
        "what all logits have in common",
        "relative error",
        offsets,
        True,
    ),
    "divergences": Picture(
        "Relative error of a Kullback-Leibler divergence against how far apart the logits are",
        "how far apart the logits are",
        "relative error",
        divergences,
        True,
    ),
    "sums": Picture(
        "Relative error of a mean against how many numbers it is of: a running sum gets worse",
        "how many losses the mean is of",
        "relative error",
        sums,
        True,
    ),
}


def draw(name: str, mode: str, file: Path) -> None:
    from matplotlib import rc_context

    picture = PLOTS[name]
    x, curves = picture.make()
    with rc_context({"svg.hashsalt": f"numerics {name} {mode}", "font.size": 10, "svg.fonttype": "path"}):
        canvas = Canvas(mode, 7.2, 3.4)
        axes = canvas.panel(canvas.figure.subplots(), "", picture.label, picture.unit)
        bottom = min(curve[curve > 0].min() for curve in curves.values()) / 10
        for number, (text, curve) in enumerate(curves.items()):
            drawn = np.array(curve, float)
            if np.any(drawn == 0):  # it falls out of the picture there
                first = int(np.argmax(drawn == 0))
                drawn[first:] = np.nan
                drawn[first] = bottom
                axes.text(
                    *(float(x[first]), bottom * 30, "  0 from here on  "),
                    color=LINES[mode][number],
                    fontsize=9,
                    ha="right" if number == 1 else "left",
                )
            width, opacity = (5, 0.55) if number == 0 else (1.7, 1)
            axes.plot(x, drawn, DASHES[number], color=LINES[mode][number], linewidth=width, alpha=opacity, label=text)
        axes.set_yscale("log")
        axes.set_ylim(bottom=bottom)
        if picture.logarithmic_x:
            axes.set_xscale("log")
        canvas.legend(axes)
        kept = {"Date": None} if file.suffix == ".svg" else {}
        canvas.figure.savefig(file, transparent=True, metadata=kept)


def write_pictures(app: Any) -> None:
    directory = Path(app.srcdir) / PICTURES
    directory.mkdir(parents=True, exist_ok=True)
    for name in PLOTS:
        for mode in COLOURS:
            draw(name, mode, directory / f"{name}-{mode}.svg")


def setup(app: Any) -> dict[str, Any]:
    from sphinx.util.docutils import SphinxDirective

    class Numerics(SphinxDirective):
        """A picture, by name."""

        required_arguments = 1

        def run(self) -> list[Any]:
            name = self.arguments[0]
            if name not in PLOTS:
                raise self.error(f"there is no picture {name!r}")
            return picture_nodes(f"{PICTURES.as_posix()}/{name}", PLOTS[name].told)

    app.add_directive("numerics", Numerics)
    app.connect("builder-inited", write_pictures)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
