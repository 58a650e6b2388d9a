"""The README's picture, from the measured figures: how exact, and how fast, beside other libraries.

``docs/accuracy.json`` and ``docs/performance.json`` say what is drawn; the result, for light pages and for dark ones,
is in ``docs/_static``. It is written as text, so that the same figures make the same files everywhere.
"""

from __future__ import annotations

import argparse
import html
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import common

DIRECTORY = common.ROOT / "docs" / "_static"
ACCURACY = common.ROOT / "docs" / "accuracy.json"
PERFORMANCE = common.ROOT / "docs" / "performance.json"
OURS = "lossfast"
MODES = {
    "light": {"ink": "#24292f", "faint": "#656d76", "grid": "#d5d8dc", "ours": "#1f5fa8", "theirs": "#c2752e"},
    "dark": {"ink": "#e6edf3", "faint": "#9aa4af", "grid": "#3c434b", "ours": "#7db5f5", "theirs": "#e0a060"},
}
WIDTH, HEIGHT, TOP, BOTTOM = 700, 300, 62, 252
#: Errors are drawn between these, in ULP of float32; from the last on no digit is right.
LOW, HIGH, NOTHING = 0.1, 1e9, 2.0**24
#: The calls that times are of: those that the README's table shows.
CALLS = {"op": "cross_entropy", "grad": True, "dtype": "float32"}


def errors(report: dict[str, Any]) -> tuple[list[float], dict[str, list[float]]]:
    """The gaps between logits, and the worst errors of cross-entropy there, by library."""
    curves = report["curves"]
    lines = curves["curves"]["cross_entropy"]["lines"]
    return curves["gap"], {
        name: [math.inf if value in ("inf", "nan") else float(value) for value in values]
        for name, values in lines.items()
    }


def times(report: dict[str, Any]) -> dict[str, float]:
    """How many times as long as lossfast each library takes: the geometric mean over shapes."""
    peers = report["peers"]
    cells = [cell for cell in peers["cells"] if all(cell[key] == value for key, value in CALLS.items())]
    found = {}
    for name in (OURS, *peers["peers"]):
        ratios = [cell["times"][name] / cell["times"][OURS] for cell in cells if name in cell["times"]]
        if ratios:
            found[name] = math.exp(sum(map(math.log, ratios)) / len(ratios))
    return dict(sorted(found.items(), key=lambda entry: entry[1]))


def _text(x: float, y: float, words: str, colour: str, size: int = 13, anchor: str = "start", weight: int = 400) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" fill="{colour}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}">'
        f"{html.escape(words)}</text>"
    )


def _line(points: Sequence[tuple[float, float]], colour: str, width: float) -> str:
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="{width:g}" stroke-linejoin="round"/>'
    )


def _errors(report: dict[str, Any], colours: dict[str, str], left: float, right: float) -> list[str]:
    gap, lines = errors(report)

    def at(x: float, error: float) -> tuple[float, float]:
        share = math.log(min(max(error, LOW), HIGH) / LOW) / math.log(HIGH / LOW)
        return left + (right - left) * x / gap[-1], BOTTOM - (BOTTOM - TOP) * share

    parts = [_text(left - 40, 20, "A model gets surer: worst error of its loss", colours["ink"], 15, weight=600)]
    parts.append(_text(left - 40, 40, "cross-entropy, float32, in units of the last digit", colours["faint"]))
    for error, words in ((1, "1"), (1e3, "10³"), (1e6, "10⁶")):
        _, y = at(0, error)
        parts.append(f'<path d="M{left:g},{y:.1f}H{right:g}" stroke="{colours["grid"]}"/>')
        parts.append(_text(left - 6, y + 4, words, colours["faint"], 12, "end"))
    _, y = at(0, NOTHING)
    parts.append(f'<path d="M{left:g},{y:.1f}H{right:g}" stroke="{colours["faint"]}" stroke-dasharray="2 4"/>')
    parts.append(_text(left + 4, y - 6, "no digit is right", colours["faint"], 12))
    for name, values in lines.items():
        if name != OURS:
            parts.append(_line([at(*point) for point in zip(gap, values, strict=True)], colours["theirs"], 1.6))
    ours = [at(*point) for point in zip(gap, lines[OURS], strict=True)]
    parts.append(_line(ours, colours["ours"], 3.2))
    parts.append(_text(right - 4, ours[-1][1] - 8, OURS, colours["ours"], 14, "end", 600))
    others = ", ".join(name.replace("JAX, optax", "JAX/optax") for name in lines if name != OURS)
    parts.append(_text(right - 4, at(0, HIGH)[1] - 2, others, colours["theirs"], 12, "end"))
    parts.append(_text((left + right) / 2, BOTTOM + 34, "right logit less the others", colours["faint"], 12, "middle"))
    for tick in range(0, int(gap[-1]) + 1, 25):
        parts.append(_text(at(tick, 1)[0], BOTTOM + 16, str(tick), colours["faint"], 12, "middle"))
    return parts


def _times(report: dict[str, Any], colours: dict[str, str], left: float, right: float) -> list[str]:
    found = times(report)
    step = (BOTTOM + 14 - TOP) / len(found)
    label, most = left + 92, max(found.values())
    parts = [_text(left, 20, "Time of loss and gradient", colours["ink"], 15, weight=600)]
    parts.append(_text(left, 40, "one thread, times lossfast's, mean of shapes", colours["faint"]))
    for number, (name, ratio) in enumerate(found.items()):
        y, ours = TOP + number * step, name == OURS
        colour = colours["ours" if ours else "theirs"]
        width = (right - label - 44) * ratio / most
        parts.append(
            f'<rect x="{label:g}" y="{y:.1f}" width="{width:.1f}" height="{0.7 * step:.1f}" fill="{colour}" rx="2"/>'
        )
        middle = y + 0.35 * step + 4.5
        parts.append(_text(label - 6, round(middle, 1), name, colours["ink"], 13, "end", 600 if ours else 400))
        shown = f"{ratio:.0f}×" if ratio >= 10 else f"{ratio:.1f}×" if not ours else "1"
        parts.append(_text(round(label + width + 6, 1), round(middle, 1), shown, colours["ink"]))
    return parts


def picture(accuracy: dict[str, Any], performance: dict[str, Any], mode: str) -> str:
    """The SVG for light pages or for dark ones."""
    colours = MODES[mode]
    told = f"Worst errors and times of {OURS} beside other libraries"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{told}" '
        'font-family="-apple-system, Segoe UI, Helvetica, Arial, sans-serif">',
        *_errors(accuracy, colours, 46, 352),
        *_times(performance, colours, 400, WIDTH),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def write(directory: Path = DIRECTORY) -> list[Path]:
    """Write both files, and say which."""
    accuracy, performance = (json.loads(file.read_text(encoding="utf-8")) for file in (ACCURACY, PERFORMANCE))
    files = []
    for mode in MODES:
        files.append(directory / f"lossfast-{mode}.svg")
        files[-1].write_text(picture(accuracy, performance, mode), encoding="utf-8")
    return files


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.picture",
        description="Draw the README's picture anew, from docs/accuracy.json and docs/performance.json.",
        epilog="example:\n  python -m benchmarks.picture\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output-dir", type=Path, default=DIRECTORY, metavar="FOLDER", help="default: docs/_static")
    options = parser.parse_args(arguments)
    for file in write(options.output_dir):
        print(f"{file}: {file.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
