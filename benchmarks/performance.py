"""The performance page's figures, and the README's: everything that is measured about speed, by one command.

Three programs, each in a process of its own: `benchmarks.peers`, `benchmarks.targets`, `benchmarks.growth`. What they
find goes to ``docs/performance.json``, as soon as each is done; ``--only`` measures one of them again and leaves the
others' figures as they are. The README gets a text of the same figures, between its markers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

from . import ONE_THREAD, common

FILE = common.ROOT / "docs" / "performance.json"
README = common.ROOT / "README.md"
BEGIN = "<!-- performance: written by python -m benchmarks.performance -->"
END = "<!-- end of performance -->"
WIDTH = 120
PARTS = ("peers", "targets", "growth")
#: What the README shows.
SHOWN = {"op": "cross_entropy", "grad": True, "dtype": "float32"}

Report = dict[str, Any]


# ---------------------------------------------------------------------------------------------------- measuring


def run(part: str, quick: bool, report: Report) -> Report | None:
    """What that program reports; None, and what it said, if it wrote nothing."""
    with tempfile.TemporaryDirectory() as directory:
        file, peers = Path(directory) / "report.json", Path(directory) / "peers.json"
        command = [sys.executable, "-m", f"benchmarks.{part}", "--json", str(file)]
        if quick:
            command.append("--quick")
        if part == "peers":
            command += ["--isa", "all"]
        if part == "targets" and "peers" in report:
            peers.write_text(json.dumps(report["peers"]))
            command += ["--peers", str(peers)]
        alone = {} if part == "growth" else ONE_THREAD
        print(*command[1:4], file=sys.stderr, flush=True)
        done = subprocess.run(command, cwd=common.ROOT, env={**os.environ, **alone})
        if not file.exists():
            print(f"{part} failed with status {done.returncode}: its figures stay as they are", file=sys.stderr)
            return None
        return json.loads(file.read_text())


# ------------------------------------------------------------------------------------------------------- README


def times(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def readme_text(report: Report) -> str:
    """What the README says about speed, in Markdown."""
    peers = report["peers"]
    found, machine = peers["summary"]["lossfast"], peers["machine"]
    worst = found["worst"]
    cells = [cell for cell in peers["cells"] if all(cell[key] == value for key, value in SHOWN.items())]
    names = [name for name in ("lossfast", *peers["peers"]) if any(name in cell["times"] for cell in cells)]
    head = (
        f"One thread of {machine['cpu']}, {peers['date']}, in units of what `np.copyto` takes to copy the logits: mean "
        "cross-entropy with its gradient, float32."
    )
    lines = [
        *textwrap.wrap(head, WIDTH, break_on_hyphens=False),
        "",
        f"| rows × classes | {' | '.join(names)} | best of the others / lossfast |",
        "|---:|" + "---:|" * (len(names) + 1),
    ]
    for cell in cells:
        unit = cell["limits"]["copyto"]
        figures = (times(cell["times"][name] / unit) if name in cell["times"] else "–" for name in names)
        shape = " × ".join(f"{length:,}" for length in common.shape_of(cell["shape"]))
        ahead = f"{cell['ahead']['lossfast']:.2f}" if cell["ahead"] else "–"
        lines.append(f"| {shape} | {' | '.join(figures)} | {ahead} |")
    size = " × ".join(f"{length:,}" for length in common.shape_of(worst["shape"]))
    what = worst["op"] + (" with gradient" if worst["grad"] else "")
    tail = (
        f"Over all {found['cells']} combinations of function, shape and dtype that were measured, the best of the "
        f"others takes {found['mean']:.1f} times as long (geometric mean); at worst {worst['ahead']:.2f} times "
        f"({worst['best']}: `{what}`, {worst['dtype']}, {size}). `docs/performance.md` has the rest."
    )
    return "\n".join([*lines, "", *textwrap.wrap(tail, WIDTH, break_on_hyphens=False)])


def with_text(readme: str, text: str) -> str:
    """The README with that between its markers."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{README.name} lacks its markers: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def update_readme(report: Report) -> None:
    README.write_text(with_text(README.read_text(encoding="utf-8"), readme_text(report)), encoding="utf-8")


# --------------------------------------------------------------------------------------------------------- all


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.performance",
        description="Measure speed beside other libraries, beside its targets, and as it grows (twenty minutes); "
        f"write docs/{FILE.name} and the README's part. Exits with 1 if a program failed.",
        epilog="examples:\n"
        "  python -m benchmarks.performance\n"
        "  python -m benchmarks.performance --quick --output /tmp/performance.json    about a minute\n"
        "  python -m benchmarks.performance --only growth\n"
        "  python -m benchmarks.performance --readme     measures nothing: the README's part from the file\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="few shapes and turns; needs --output")
    parser.add_argument("--only", action="append", choices=PARTS, help="measure this one again")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there, and leave the README alone")
    parser.add_argument("--readme", action="store_true", help="only write the README's part")
    options = parser.parse_args(arguments)
    if options.quick and not options.output:
        parser.error("--quick is for trying out: say where to with --output")
    file: Path = options.output or FILE
    report: Report = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    failed = []
    if not options.readme:
        report["command"] = "python -m benchmarks.performance" + (" --quick" if options.quick else "")
        for part in options.only or PARTS:
            found = run(part, options.quick, report)
            if found is None:
                failed.append(part)
                continue
            report[part] = found
            ordered = {key: report[key] for key in ("command", *PARTS) if key in report}
            file.write_text(common.dumps(ordered, 3), encoding="utf-8")
            print(f"{file}: {file.stat().st_size:,} bytes", file=sys.stderr)
    if not options.output:
        if "peers" not in report:
            parser.error(f"{file} has nothing for the README yet")
        update_readme(report)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
