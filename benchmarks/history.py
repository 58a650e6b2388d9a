"""The recorded history of speed, accuracy and memory, as one page that loads nothing (``make bench-site``).

There are two records. What asv measured is in its results (``.asv/results``, of this machine: times of different
machines are no history, and a run is some megabytes, so that it is not committed; ``--results`` takes another folder).
And each version of the committed figures, ``benchmarks/baseline.json`` and ``docs/performance.json``, is in git, so
that every clone has a history. Both become series: a benchmark has parameters, and a value at each commit for each
combination of them. What moved is judged by the rules of `benchmarks.check`.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import html
import json
import math
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import check, common

RESULTS = common.ROOT / ".asv" / "results"
OUTPUT = common.ROOT / "docs" / "_build" / "html" / "benchmarks" / "index.html"
TEMPLATE = Path(__file__).with_name("history.html")
#: The files whose versions in git are a record.
BASELINE = "benchmarks/baseline.json"
PERFORMANCE = "docs/performance.json"
#: Where values are drawn that are infinite: as far up as there is.
INFINITE = 1e300
#: What the list of what moved is cut to.
SHOWN = 300
#: Units of values that are exact, so that any change is one; everything else is time, which has a band.
EXACT = {"ulp": "accuracy", "bytes": "bytes"}


@dataclass(frozen=True, order=True)
class Commit:
    """When something was measured; ``date`` in seconds, ``place`` how many commits there are up to it."""

    date: int
    place: int
    name: str
    subject: str = ""


@dataclass
class Benchmark:
    """One quantity on one machine: a value for each combination of parameters, at each commit."""

    name: str
    unit: str
    kind: str  #: of `check.KINDS`
    machine: str
    parameters: tuple[str, ...]
    values: dict[Commit, dict[tuple[str, ...], float]] = field(default_factory=dict)

    def commits(self) -> list[Commit]:
        return sorted(self.values)

    def keys(self) -> list[tuple[str, ...]]:
        return list(dict.fromkeys(key for commit in self.commits() for key in self.values[commit]))

    def moves(self, band: float = check.BAND) -> Iterator[tuple[Commit, tuple[str, ...], float, float, str]]:
        """The commit, the parameters, the values before and after, and ``"worse"`` or ``"better"``."""
        named = {", ".join(key): key for key in self.keys()}
        history = []
        for commit in self.commits():
            figures = {", ".join(key): value for key, value in self.values[commit].items() if value == value}
            history.append((commit, {self.kind: figures}))
        for commit, change in check.moves(history, band):  # type: ignore[arg-type]
            verdict = change.verdict(band)
            if verdict in ("worse", "better") and change.before is not None and change.after is not None:
                yield commit, named[change.what], change.before, change.after, verdict

    def trend(self) -> list[float]:
        """At each commit the geometric mean over what was measured at the one before too, 1 at the first."""
        found, level, before = [], 1.0, None
        for commit in self.commits():
            here = {key: value for key, value in self.values[commit].items() if 0 < value < math.inf}
            if before is not None:
                shared = here.keys() & before.keys()
                if shared:
                    level *= math.exp(sum(math.log(here[key] / before[key]) for key in shared) / len(shared))
            before = {**(before or {}), **here}
            found.append(level)
        return found


# ------------------------------------------------------------------------------------------------------------- git


@functools.cache
def _git(*arguments: str) -> str | None:
    """What git says; None where it is not there, or this is no clone."""
    try:
        run = subprocess.run(["git", *arguments], cwd=common.ROOT, capture_output=True, text=True)
    except OSError:
        return None
    return run.stdout if run.returncode == 0 else None


def versions(path: str) -> Iterator[tuple[Commit, Any]]:
    """Every committed version of a file, oldest first, and the file as it is, if that is another."""
    last = None
    for line in (_git("log", "--reverse", "--format=%H%x09%ct%x09%s", "--", path) or "").splitlines():
        commit, date, subject = line.split("\t", 2)
        text = _git("show", f"{commit}:{path}")
        if text:
            last = text
            yield Commit(int(date), _place(commit), commit[:12], subject), json.loads(text)
    file = common.ROOT / path
    if file.exists() and file.read_text(encoding="utf-8") != last:
        name = "uncommitted" if last else "as released"
        yield Commit(int(file.stat().st_mtime), sys.maxsize, name), json.loads(file.read_text(encoding="utf-8"))


def _place(commit: str) -> int:
    return int(_git("rev-list", "--count", commit, "--") or 0)


def _subject(commit: str) -> str:
    return (_git("log", "-1", "--format=%s", commit, "--") or "").strip()


# --------------------------------------------------------------------------------------------------------- records


#: What the names of the baseline's figures consist of.
_NAMED = {
    "accuracy": ("function", "output", "dtype", "instruction set"),
    "bytes": ("function", "method", "shape"),
    "time": ("function", "method", "dtype", "shape"),
}
_TITLES = {"accuracy": "worst error", "bytes": "bytes beyond the buffers", "time": "time of a call"}


def of_baseline(found: Iterable[tuple[Commit, Any]]) -> list[Benchmark]:
    """The figures of the regression gate."""
    benchmarks: dict[tuple[str, str], Benchmark] = {}
    for commit, baseline in found:
        for kind, names in _NAMED.items():
            for machine, figures in baseline.get(kind, {}).items():
                key = kind, machine
                if key not in benchmarks:
                    title = f"gate: {_TITLES[kind]}"
                    benchmarks[key] = Benchmark(title, check.UNITS[kind], kind, machine or "every machine", names)
                values = {_parts(text, names): float(value) for text, value in figures.items()}
                benchmarks[key].values[commit] = values
    return list(benchmarks.values())


def _parts(text: str, names: Sequence[str]) -> tuple[str, ...]:
    """What a name of the baseline consists of."""
    parts = tuple(text.replace(",", "").split())
    if len(parts) != len(names):
        raise ValueError(f"{BASELINE}: {text!r} does not consist of {', '.join(names)}")
    return parts


def of_performance(found: Iterable[tuple[Commit, Any]]) -> list[Benchmark]:
    """The times of the performance page, as multiples of what NumPy takes to copy, subtract or read."""
    benchmarks: dict[str, Benchmark] = {}
    for commit, report in found:
        peers = report.get("peers")
        if not peers:
            continue
        machine = peers["machine"]["cpu"]
        if machine not in benchmarks:
            names = ("function", "dtype", "shape", "instruction set")
            title = "performance: time of a call"
            benchmarks[machine] = Benchmark(title, check.UNITS["time"], "time", machine, names)
        benchmarks[machine].values[commit] = {
            (
                cell["op"] + " with gradient" * cell["grad"],
                cell["dtype"],
                cell["shape"],
                library.partition(" ")[2] or "best",
            ): time / cell["limits"][cell["limit"]]
            for cell in peers["cells"]
            for library, time in cell["times"].items()
            if library.startswith("lossfast")  # the others' ups and downs are no history of this library
        }
    return list(benchmarks.values())


def of_asv(directory: Path) -> list[Benchmark]:
    """What asv recorded there, of every machine; nothing where it has recorded nothing."""
    listed = directory / "benchmarks.json"
    if not listed.exists():
        return []
    from asv.results import iter_results

    about = json.loads(listed.read_text(encoding="utf-8"))
    benchmarks: dict[tuple[str, str], Benchmark] = {}
    for results in iter_results(str(directory)):
        full = results.commit_hash
        commit = Commit(results.date // 1000, _place(full), full[:12], _subject(full))
        for name in results.get_all_result_keys():
            info = about.get(name)
            if not isinstance(info, dict) or results.benchmark_version.get(name) not in (None, info.get("version")):
                continue  # it measured something else then
            machine = _machine(directory, results.params["machine"])
            if (name, machine) not in benchmarks:
                unit, kind = info["unit"], EXACT.get(info["unit"].lower(), "time")
                benchmarks[name, machine] = Benchmark(name, unit, kind, machine, tuple(info["param_names"]))
            combinations = _product(results.get_result_params(name))
            found = results.get_result_value(name, results.get_result_params(name)) or []
            benchmarks[name, machine].values.setdefault(commit, {}).update(
                {key: float(value) for key, value in zip(combinations, found, strict=True) if value is not None}
            )
    kept = []
    for benchmark in benchmarks.values():
        for figures in benchmark.values.values():
            for key in [key for key, value in figures.items() if value != value]:
                del figures[key]  # there is no such combination
        if any(benchmark.values.values()):
            kept.append(benchmark)
    return sorted(kept, key=lambda benchmark: (benchmark.name, benchmark.machine))


def _product(params: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Combinations in asv's order; what asv has as a repr is text here."""
    found: list[tuple[str, ...]] = [()]
    for values in params:
        found = [(*key, str(value).strip("'\"")) for key in found for value in values]
    return found


def _machine(directory: Path, name: str) -> str:
    file = directory / name / "machine.json"
    about = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return f"{name} ({about['cpu']})" if about.get("cpu") else name


def collect(results: Path = RESULTS) -> list[Benchmark]:
    """Everything that has been recorded."""
    return [
        *of_baseline(versions(BASELINE)),
        *of_performance(versions(PERFORMANCE)),
        *of_asv(results),
    ]


# ------------------------------------------------------------------------------------------------------------ page


def short(value: float) -> str:
    """A figure with the digits that mean something."""
    if not math.isfinite(value) or value >= INFINITE:
        return "∞"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def day(commit: Commit) -> str:
    return datetime.datetime.fromtimestamp(commit.date, datetime.timezone.utc).strftime("%Y-%m-%d")


def moved(benchmarks: Sequence[Benchmark]) -> list[tuple[int, Commit, tuple[str, ...], float, float, str]]:
    """What became worse or better, the newest first: with the number of its benchmark."""
    found = [(number, *move) for number, benchmark in enumerate(benchmarks) for move in benchmark.moves()]
    found.sort(key=lambda move: (move[5] != "worse", -_factor(move[3], move[4])))
    return sorted(found, key=lambda move: move[1], reverse=True)


def _factor(before: float, after: float) -> float:
    """By how much, either way."""
    if before <= 0 or after <= 0:
        return math.inf
    return max(before, after) / min(before, after)


def data(benchmarks: Sequence[Benchmark]) -> dict[str, Any]:
    """What the page's script reads: parameters and commits by number, values without needless digits."""
    commits = sorted({commit for benchmark in benchmarks for commit in benchmark.values})
    place = {commit: number for number, commit in enumerate(commits)}
    listed = []
    for benchmark in benchmarks:
        keys, here = benchmark.keys(), benchmark.commits()
        choices = [list(dict.fromkeys(key[i] for key in keys)) for i in range(len(benchmark.parameters))]
        numbered = [{value: number for number, value in enumerate(values)} for values in choices]
        listed.append(
            {
                "name": benchmark.name,
                "unit": benchmark.unit,
                "machine": benchmark.machine,
                "parameters": list(zip(benchmark.parameters, choices, strict=True)),
                "commits": [place[commit] for commit in here],
                "series": [
                    [
                        [numbered[i][value] for i, value in enumerate(key)],
                        [_number(benchmark.values[commit].get(key)) for commit in here],
                    ]
                    for key in keys
                ],
                "moves": [
                    [place[commit], [numbered[i][value] for i, value in enumerate(key)], int(verdict == "worse")]
                    for commit, key, _, _, verdict in benchmark.moves()
                ],
            }
        )
    return {"commits": [[commit.name, day(commit), commit.subject] for commit in commits], "benchmarks": listed}


def _number(value: float | None) -> float | None:
    if value is None or value != value:
        return None
    return INFINITE if math.isinf(value) else float(f"{value:.4g}")


def sparkline(values: Sequence[float], width: int = 160, height: int = 32) -> str:
    """A line without axes; the level of its beginning is dotted."""
    if len(values) < 2:
        return ""
    low, high = min(*values, 1 / 1.02), max(*values, 1.02)
    x = [4 + (width - 8) * number / (len(values) - 1) for number in range(len(values))]

    def y(value: float) -> float:
        return height - 4 - (height - 8) * math.log(value / low) / math.log(high / low)

    points = " ".join(f"{a:.1f},{y(value):.1f}" for a, value in zip(x, values, strict=True))
    return (
        f'<svg class="trend" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="from 1 to {values[-1]:.3g}"><line x1="4" x2="{width - 4}" y1="{y(1):.1f}" y2="{y(1):.1f}"/>'
        f'<polyline points="{points}"/><circle cx="{x[-1]:.1f}" cy="{y(values[-1]):.1f}" r="2.5"/></svg>'
    )


def overview(benchmarks: Sequence[Benchmark]) -> str:
    """A row for each benchmark, by group: what is before the first dot or colon of its name."""
    groups: dict[str, list[tuple[int, Benchmark]]] = {}
    for number, benchmark in enumerate(benchmarks):
        group = benchmark.name.partition(":")[0] if ":" in benchmark.name else benchmark.name.partition(".")[0]
        groups.setdefault(group, []).append((number, benchmark))
    parts = []
    for group, members in groups.items():
        rows = []
        for number, benchmark in members:
            trend = benchmark.trend()
            verdicts = [move[4] for move in benchmark.moves()]
            rows.append(
                f'<tr id="b{number}"><td><a href="#b{number}">{html.escape(benchmark.name)}</a>'
                f"<small>{html.escape(benchmark.machine)}</small></td><td>{sparkline(trend)}</td>"
                f"<td>{trend[-1]:.3g}</td><td>{len(benchmark.keys()):,}</td><td>{len(trend)}</td>"
                f"<td>{verdicts.count('worse') or ''}</td><td>{verdicts.count('better') or ''}</td></tr>"
            )
        parts.append(
            f'<h3>{html.escape(group)}</h3><div class="wide"><table class="overview"><thead><tr><th>benchmark</th>'
            "<th>mean of all, over time</th><th>now / first</th><th>figures</th><th>commits</th><th>worse</th>"
            f"<th>better</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        )
    return "".join(parts)


def moved_table(benchmarks: Sequence[Benchmark]) -> str:
    found = moved(benchmarks)
    if not found:
        return "<p>Nothing has become worse or better yet.</p>"
    rows = []
    for number, commit, key, before, after, verdict in found[:SHOWN]:
        rows.append(
            f'<tr class="{verdict}"><td>{day(commit)}</td><td title="{html.escape(commit.subject)}"><code>'
            f'{html.escape(commit.name)}</code></td><td><a href="#b{number}" data-key="{html.escape(json.dumps(key))}">'
            f"{html.escape(benchmarks[number].name)}</a>: {html.escape(', '.join(key))}</td>"
            f"<td>{short(before)}</td><td>{short(after)}</td><td>{html.escape(benchmarks[number].unit)}</td>"
            f"<td>{'▲' if verdict == 'worse' else '▼'} {_times(before, after)}</td></tr>"
        )
    rest = f"<p>{len(found) - SHOWN:,} older ones are left out.</p>" if len(found) > SHOWN else ""
    return (
        '<div class="wide"><table class="moved"><thead><tr><th>day</th><th>commit</th><th>what</th><th>before</th>'
        f"<th>after</th><th>unit</th><th></th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>{rest}"
    )


def _times(before: float, after: float) -> str:
    factor = _factor(before, after)
    return "∞" if math.isinf(factor) else f"{factor:.2f} times"


def summary(benchmarks: Sequence[Benchmark]) -> str:
    """How much has been recorded, in a sentence or two."""
    commits = {commit for benchmark in benchmarks for commit in benchmark.values}
    if not commits:
        return "Nothing has been recorded yet: make bench, or python -m benchmarks.check --update."
    figures = sum(len(benchmark.keys()) for benchmark in benchmarks)
    days = sorted(map(day, commits))
    verdicts = [move[5] for move in moved(benchmarks)]
    return (
        f"{figures:,} figures of {len(benchmarks)} benchmarks at {len(commits)} commits, from {days[0]} to {days[-1]}. "
        f"{verdicts.count('worse'):,} times one became worse, {verdicts.count('better'):,} times better."
    )


def page(benchmarks: Sequence[Benchmark], home: str = "") -> str:
    """The whole page; ``home`` is where the documentation is, relative to it."""
    embedded = json.dumps(data(benchmarks), separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    link = f'<a href="{html.escape(home)}">documentation</a>' if home else ""
    parts = {
        "home": link,
        "summary": html.escape(summary(benchmarks)),
        "overview": overview(benchmarks),
        "moved": moved_table(benchmarks) if benchmarks else "",
        "data": embedded,
    }
    text = TEMPLATE.read_text(encoding="utf-8")
    for name, content in parts.items():
        before, mark, after = text.partition(f"<!-- {name} -->")
        assert mark, f"{TEMPLATE} has no place for {name}"
        text = before + content + after
    return text


def write(output: Path, results: Path = RESULTS) -> list[Benchmark]:
    """Write the page; what it is of is returned."""
    benchmarks = collect(results)
    home = "../history.html" if (output.parent.parent / "history.html").exists() else ""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page(benchmarks, home), encoding="utf-8")
    return benchmarks


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.history",
        description="Write the recorded history of speed, accuracy and memory as one HTML file that needs no network: "
        "the committed figures of every commit, and what asv recorded on this machine.",
        epilog="examples:\n"
        "  python -m benchmarks.history\n"
        "  python -m benchmarks.history --results ~/lossfast-results --output history.html\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="asv's (default: .asv/results)")
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, metavar="FILE", help=f"default: {OUTPUT.name} of the docs"
    )
    options = parser.parse_args(arguments)
    benchmarks = write(options.output, options.results)
    print(f"{options.output}: {options.output.stat().st_size:,} bytes. {summary(benchmarks)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
