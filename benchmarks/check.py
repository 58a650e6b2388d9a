"""Has anything become slower, larger or less accurate than the committed baseline says?

Three kinds of figures. The worst error of every output, on fixed inputs: exact, and the same on every machine. The
bytes that a call takes beyond its buffers, as Python's and NumPy's allocators see it: exact for one Python and NumPy.
And the time of a few calls as a multiple of NumPy's copy (or subtraction) of the same arrays, taken in turns with it:
judged by a band around the baseline of the same kind of processor, and only told of others.

With ``--commits`` each commit is built in a tree of its own and measured by this code, and the table says which of them
moved what.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import lossfast as lf

from . import accuracy, common, memory

BASELINE = Path(__file__).with_name("baseline.json")
KINDS = ("accuracy", "bytes", "time")
UNITS = {"accuracy": "ULP", "bytes": "bytes", "time": "× NumPy's copy or subtraction"}
DTYPES = ("float32", "float64")
#: Times are measured again, so often at the most, before they count as worse.
ATTEMPTS = 3
#: By how much a time may differ, unless the baseline says otherwise.
BAND = 1.25

#: What is timed: the loops along rows and across them, both kinds of pointwise arithmetic, and a small call.
TIMED = (
    ("cross_entropy", "value_and_grad", "float32", "32x10"),
    ("cross_entropy", "value_and_grad", "float32", "1000x10"),
    ("cross_entropy", "value_and_grad", "float32", "100000x10"),
    ("cross_entropy", "value_and_grad", "float32", "200000x3"),
    ("cross_entropy", "value_and_grad", "float32", "4096x1000"),
    ("cross_entropy", "value", "float32", "4096x1000"),
    ("cross_entropy", "value_and_grad", "float64", "1000x1000"),
    ("softmax", "value", "float32", "4096x1000"),
    ("logsumexp", "value", "float32", "100000x10"),
    ("binary_cross_entropy_with_logits", "value_and_grad", "float32", "100000"),
    ("binary_cross_entropy_with_logits", "value_and_grad", "float64", "100000"),
    ("smooth_l1_loss", "value_and_grad", "float32", "100000"),
    ("mse_loss", "value_and_grad", "float32", "3000000"),
    ("sigmoid", "value", "float32", "100000"),
)
#: What bytes are counted of: every loss, few classes and many.
SIZED = {"pointwise": ("100000",), "function": ("100000",), "rowwise": ("10000x10", "10x10000")}
SIZED["row_function"] = SIZED["rowwise"]

#: By kind, then by what was measured.
Figures = dict[str, dict[str, float]]


# ---------------------------------------------------------------------------------------------------- measuring


def compiled() -> list[str]:
    return [name for name in common.VARIANTS if name.startswith("compiled") and common.available(name)]


def accuracies(names: Sequence[str], dtypes: Sequence[str] = DTYPES) -> dict[str, float]:
    """The worst errors of the compiled backend: the others take their exponentials from the machine's libraries."""
    table = accuracy.measure(names, dtypes, compiled())
    return {
        f"{name} {output}, {dtype}, {variant.removeprefix('compiled ')}": float(common.look_up(table, *key))
        for key in table
        for output, name, dtype, variant in [key]
    }


def sizes(names: Sequence[str]) -> dict[str, float]:
    found = {}
    with lf.set_num_threads(1):
        for name in names:
            loss = lf.get_loss(name)
            for shape in SIZED[loss.kind]:
                arguments = common.operands(loss, np.dtype(np.float32), common.shape_of(shape))
                for method in common.methods(loss.kind):
                    call = common.call_of(loss, method, arguments, n_threads=None)
                    if call is not None:
                        # Now and then Python itself takes some meanwhile, which is not the call's.
                        least = min(memory.traced_bytes(call) for _ in range(3))
                        found[f"{name} {method} {shape}"] = float(least)
    return found


def case_name(name: str, method: str, dtype: str, shape: str) -> str:
    return f"{name} {method}, {dtype}, {shape}"


def ratio_of(name: str, method: str, dtype: str, shape: str, seconds: float) -> float:
    """A multiple of NumPy's copy or subtraction: of the shortest times, to which others on the machine add nothing."""
    loss = lf.get_loss(name)
    arguments = common.operands(loss, np.dtype(dtype), common.shape_of(shape))
    with lf.set_num_threads(1):
        call = common.call_of(loss, method, arguments, n_threads=None, buffers=arguments[0].size > 1000)
        assert call is not None
        own, floor = common.interleaved([call, common.floor_of(loss, arguments)], seconds, 10, statistic=min)
    return own / floor


def times(seconds: float, only: Iterable[str] | None = None) -> dict[str, float]:
    """All, or only these."""
    chosen = [case for case in TIMED if only is None or case_name(*case) in set(only)]
    return {case_name(*case): ratio_of(*case, seconds) for case in chosen}


def measure(kinds: Sequence[str] = KINDS, seconds: float = 0.2, names: Sequence[str] = ()) -> Figures:
    """Of these losses, or of all; the times are of those that `TIMED` names."""
    names = names or common.names()
    found: Figures = {}
    if "accuracy" in kinds:
        found["accuracy"] = common.rounded(accuracies(names), 6)
    if "bytes" in kinds:
        found["bytes"] = sizes(names)
    if "time" in kinds:
        found["time"] = common.rounded(times(seconds))
    return found


# ------------------------------------------------------------------------------------------------------ judging


def host() -> dict[str, str]:
    """What the baselines of bytes and of times are for: they have one for each kind that they were updated on."""
    python, numpy = (".".join(version.split(".")[:2]) for version in (sys.version.split()[0], np.__version__))
    isa = f", {lf.get_isa()}" if lf.get_backend() == "compiled" else ""
    return {"accuracy": "", "bytes": f"Python {python}, NumPy {numpy}", "time": f"{common.cpu()}{isa}"}


def baseline_of(baseline: dict[str, Any], kind: str) -> dict[str, float] | None:
    """What this machine is compared with; None where there is nothing."""
    return baseline.get(kind, {}).get(host()[kind])


class Change(NamedTuple):
    kind: str
    what: str
    before: float | None
    after: float | None

    def verdict(self, band: float) -> str:
        """worse, better, new, gone or the same."""
        if self.before is None or self.after is None:
            return "new" if self.before is None else "gone"
        margin = band if self.kind == "time" else 1.0
        if self.after > self.before * margin:
            return "worse"
        return "better" if self.after * margin < self.before else "the same"


def changes(kind: str, before: dict[str, float], after: dict[str, float]) -> Iterator[Change]:
    """An instruction set that this machine lacks, or that the baseline's lacked, is no news."""
    if kind == "accuracy":
        shared = {key.rpartition(", ")[2] for key in before} & {key.rpartition(", ")[2] for key in after}
        before, after = (
            {key: value for key, value in found.items() if key.rpartition(", ")[2] in shared}
            for found in (before, after)
        )
    for what in dict.fromkeys([*before, *after]):
        yield Change(kind, what, before.get(what), after.get(what))


def judge(figures: Figures, baseline: dict[str, Any], band: float, seconds: float) -> tuple[list[Change], list[str]]:
    """What changed, and what could not be judged here. Times that look worse are taken again first."""
    found, untold = [], []
    for kind, after in figures.items():
        before = baseline_of(baseline, kind)
        if before is None:
            untold.append(f"{kind}: the baseline has nothing for {host()[kind] or 'it'}: told, not judged")
            continue
        if kind == "time":
            for _ in range(ATTEMPTS - 1):
                slow = [c.what for c in changes(kind, before, after) if c.verdict(band) == "worse"]
                again = common.rounded(times(seconds, slow)) if slow else {}
                after = {**after, **{what: min(after[what], ratio) for what, ratio in again.items()}}
        found += changes(kind, before, after)
    return found, untold


def updated(baseline: dict[str, Any], figures: Figures) -> dict[str, Any]:
    """The baseline with these figures in place of this machine's."""
    made = {"band": baseline.get("band", BAND), **{kind: dict(baseline.get(kind, {})) for kind in KINDS}}
    for kind, found in figures.items():
        kept = {}
        if kind == "accuracy":  # of instruction sets that are not to be had here
            there = {key.rpartition(", ")[2] for key in found}
            old = made[kind].get(host()[kind], {})
            kept = {key: value for key, value in old.items() if key.rpartition(", ")[2] not in there}
        made[kind][host()[kind]] = {**kept, **found}
    return made


# ------------------------------------------------------------------------------------------------------ commits


def git(*arguments: str) -> str:
    run = subprocess.run(["git", *arguments], cwd=common.ROOT, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"git {' '.join(arguments)}: {run.stderr.strip()}")
    return run.stdout.strip()


def commits(revisions: Sequence[str]) -> list[str]:
    """Of A..B, A and every commit from there to B; of anything else, itself."""
    found: list[str] = []
    for revision in revisions:
        first, dots, _ = revision.partition("..")
        if dots:
            found += [git("rev-parse", first), *git("rev-list", "--reverse", "--first-parent", revision).split()]
        else:
            found.append(git("rev-parse", f"{revision}^{{commit}}"))
    return list(dict.fromkeys(found))


def build(tree: Path) -> None:
    """Raise a RuntimeError with the end of what the compiler said."""
    run = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"], cwd=tree, capture_output=True, text=True
    )
    if run.returncode:
        raise RuntimeError("\n".join(["it does not build:", *run.stderr.strip().splitlines()[-5:]]))


#: This directory's benchmarks with that tree's lossfast.
IN_TREE = """
import json, sys
root, tree, file, kinds, seconds, *names = sys.argv[1:]
sys.path[:0] = [root]
import benchmarks
sys.path[:0] = [tree]
from benchmarks import check
from pathlib import Path
import lossfast
if Path(tree).resolve() not in Path(lossfast.__file__).resolve().parents:
    raise SystemExit(f"measured {lossfast.__file__}, not {tree}")
if lossfast.get_backend() != "compiled":
    raise SystemExit("the compiled backend is not there")
Path(file).write_text(json.dumps(check.measure(kinds.split(","), float(seconds), names)))
"""


def measure_in(tree: Path, kinds: Sequence[str], seconds: float, names: Sequence[str] = ()) -> Figures:
    """The figures of the lossfast in that tree."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "figures.json"
        given = [common.ROOT, tree, file, ",".join(kinds), seconds, *names]
        run = subprocess.run(
            [sys.executable, "-c", IN_TREE, *map(str, given)],
            cwd=directory,
            capture_output=True,
            text=True,
        )
        if run.returncode:
            raise RuntimeError("\n".join(["it cannot be measured:", *run.stderr.strip().splitlines()[-5:]]))
        return json.loads(file.read_text())


def measure_commit(commit: str, kinds: Sequence[str], seconds: float) -> Figures:
    with tempfile.TemporaryDirectory(prefix="lossfast-") as directory:
        tree = Path(directory) / "tree"
        git("worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            build(tree)
            return measure_in(tree, kinds, seconds)
        finally:
            git("worktree", "remove", "--force", str(tree))


def moves(history: Sequence[tuple[str, Figures]], band: float) -> Iterator[tuple[str, Change]]:
    """Which commit moved what: of times, against the last that moved it, so that small steps add up."""
    last: Figures = {}
    for commit, figures in history:
        for kind, after in figures.items():
            before = last.setdefault(kind, dict(after))
            for change in changes(kind, before, after):
                if change.verdict(band) == "the same":
                    continue
                yield commit, change
                if change.after is None:
                    del before[change.what]
                else:
                    before[change.what] = change.after


# ---------------------------------------------------------------------------------------------------- reporting


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def table(found: Sequence[Change], band: float) -> str:
    head = ["", "", "baseline", "now", "now / baseline", ""]
    rows = [
        [
            change.kind,
            change.what,
            _figure(change.before),
            _figure(change.after),
            f"{change.after / change.before:.2f}" if change.before and change.after is not None else "",
            change.verdict(band).upper() if change.verdict(band) == "worse" else change.verdict(band),
        ]
        for change in found
    ]
    return common.columns([head, *rows], left=2)


def _check(options: argparse.Namespace, kinds: Sequence[str]) -> int:
    file: Path = options.baseline
    baseline = json.loads(file.read_text()) if file.exists() else {}
    band = options.band or baseline.get("band", BAND)
    figures = measure(kinds, options.seconds)
    if options.update:
        if broken := [what for found in figures.values() for what, value in found.items() if not math.isfinite(value)]:
            raise SystemExit(f"not to be made a baseline, since it is infinitely wrong: {'; '.join(broken)}")
        made = {**updated(baseline, figures), "band": band}
        file.write_text(json.dumps(made, indent=1, allow_nan=False) + "\n")
        print(f"{file}: {sum(map(len, figures.values()))} figures of {common.cpu()}")
        return 0
    found, untold = judge(figures, baseline, band, options.seconds)
    shown = [c for c in found if options.all or c.kind == "time" or c.verdict(band) != "the same"]
    if shown:
        print(table(shown, band))
    for kind in figures:
        if baseline_of(baseline, kind) is None:
            print(common.columns([[kind, what, _figure(value)] for what, value in figures[kind].items()], left=2))
    print(*untold, sep="\n", end="\n" if untold else "")
    counts = {verdict: sum(c.verdict(band) == verdict for c in found) for verdict in ("worse", "better", "new", "gone")}
    print(f"{len(found)} figures judged: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    if not counts["worse"] and (counts["better"] or counts["new"] or counts["gone"]):
        print("python -m benchmarks.check --update makes that the baseline")
    return 1 if counts["worse"] else 0


def _history(options: argparse.Namespace, kinds: Sequence[str]) -> int:
    band, history, failed = options.band or BAND, [], 0
    for commit in common.progress(commits(options.commits), "commits", lambda commit: commit[:12]):
        try:
            history.append((commit, measure_commit(commit, kinds, options.seconds)))
        except RuntimeError as error:
            failed += 1
            print(f"{commit[:12]}: {error}", file=sys.stderr)
    rows, worse = [["commit", "", "", "", "before", "after", ""]], 0
    for commit, change in moves(history, band):
        verdict = change.verdict(band)
        worse += verdict == "worse"
        subject = git("log", "-1", "--format=%s", commit)[:60]
        figures = _figure(change.before), _figure(change.after)
        rows.append([commit[:12], subject, change.kind, change.what, *figures, verdict])
    print(common.columns(rows, left=4) if len(rows) > 1 else f"nothing moved in {len(history)} commits")
    return 1 if worse or failed else 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.check",
        description="Compare accuracy, bytes and times (as multiples of NumPy's copy) with the committed baseline, and "
        "exit with 1 if any is worse.",
        epilog="examples:\n"
        "  python -m benchmarks.check\n"
        "  python -m benchmarks.check --kind accuracy --kind bytes\n"
        "  python -m benchmarks.check --update            what is measured becomes the baseline of this machine\n"
        "  python -m benchmarks.check --commits main~5..main\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kind", action="append", choices=KINDS, help="only this one")
    parser.add_argument("--update", action="store_true", help="write the baseline")
    parser.add_argument("--all", action="store_true", help="show what is the same too")
    parser.add_argument("--baseline", type=Path, default=BASELINE, metavar="FILE", help=f"default: {BASELINE.name}")
    parser.add_argument("--band", type=float, help=f"what a time may differ by (default: the baseline's, or {BAND})")
    parser.add_argument("--seconds", type=float, default=0.2, help="for each time (default 0.2)")
    parser.add_argument(
        "--commits", nargs="+", metavar="REVISION", help="build and measure these, or A..B, and say which moved what"
    )
    options = parser.parse_args(arguments)
    if options.commits and options.update:
        parser.error("--update is for the working tree")
    if lf.get_backend() != "compiled" and not options.commits:
        parser.error("the compiled backend is not there, and the baseline is its")
    kinds = options.kind or KINDS
    return _history(options, kinds) if options.commits else _check(options, kinds)


if __name__ == "__main__":
    sys.exit(main())
