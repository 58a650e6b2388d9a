"""How the gallery's figures look: sphinx-gallery calls `apply` before each script.

Inks are dark on no ground at all. On dark pages the style sheet turns their lightness round and leaves their hues
alone, so that each figure is drawn once.
"""

from __future__ import annotations

from typing import Any

INK, GRID = "#33373d", "#dcdfe3"
#: Told apart with any colour vision, as they differ in blue and in lightness; the scripts call them C0 to C4.
COLOURS = ("#0064a8", "#c24f00", "#00805d", "#a8527f", "#8a6d00")

STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#8b9098",
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "figure.facecolor": "none",
    "figure.figsize": (8.6, 3.5),
    "font.size": 9.5,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "hatch.color": "#aab0b8",
    "hatch.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def apply(gallery_conf: Any = None, script: str | None = None) -> None:
    """Set the style; sphinx-gallery has put back matplotlib's own before.

    Products of matrices get one thread: those of the scripts are so small that, where the processor is busy, threads
    wait for each other a hundred times longer than they work.
    """
    import matplotlib
    import threadpoolctl

    threadpoolctl.threadpool_limits(1)
    matplotlib.rcParams.update(STYLE, **{"axes.prop_cycle": matplotlib.cycler(color=COLOURS)})
