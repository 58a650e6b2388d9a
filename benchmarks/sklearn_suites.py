"""scikit-learn's own tests, as they are installed, with and without `lossfast.sklearn.patch`.

``python -m benchmarks.sklearn_suites`` runs every file twice, each time in a fresh process, and compares test by test.
It prints a table and whatever came out differently; ``--out`` writes the same as JSON. Exit code 1: something fails
with the patch that passes without it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .common import columns, dumps, duration, machine, progress, provenance

#: What is compared, by name: modules, or packages with all the test modules in them.
SUITES = {
    "losses": "sklearn._loss.tests.test_loss",
    "linear loss": "sklearn.linear_model.tests.test_linear_loss",
    "logistic": "sklearn.linear_model.tests.test_logistic",
    "glm": "sklearn.linear_model._glm.tests.test_glm",
    "hist boosting": "sklearn.ensemble._hist_gradient_boosting.tests",
    "boosting": "sklearn.ensemble.tests.test_gradient_boosting",
    "calibration": "sklearn.tests.test_calibration",
    "sag": "sklearn.linear_model.tests.test_sag",
}
WAYS = ("unpatched", "patched")
BAD = ("failed", "error")

EXAMPLES = """\
examples:
  python -m benchmarks.sklearn_suites --out suites.json
  python -m benchmarks.sklearn_suites --only losses --only glm
"""


class Outcomes:
    """A plugin of pytest that keeps what became of every test."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self.details: dict[str, str] = {}

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._keep(report, "error")

    def pytest_runtest_logreport(self, report: Any) -> None:
        if hasattr(report, "wasxfail"):
            self._keep(report, "xfailed" if report.skipped else "xpassed")
        elif report.failed:
            self._keep(report, "failed" if report.when == "call" else "error")
        elif report.skipped or report.when == "call":
            self._keep(report, report.outcome)

    def _keep(self, report: Any, outcome: str) -> None:
        if self.found.get(report.nodeid) not in BAD:
            self.found[report.nodeid] = outcome
        if outcome in BAD:
            self.details[report.nodeid] = report.longreprtext.strip().splitlines()[-1]


def child(way: str, module: str, out: str) -> None:
    """Run one suite in this process, and write what came of it."""
    import time

    import pytest
    import sklearn

    if way == "patched":
        from lossfast.sklearn import patch

        patch()
    outcomes = Outcomes()
    site = Path(sklearn.__file__).parent.parent
    start = time.perf_counter()
    pytest.main(
        ["--pyargs", module, "-q", "-c", os.devnull, "--rootdir", str(site), "-p", "no:cacheprovider"],
        plugins=[outcomes],
    )
    seconds = time.perf_counter() - start
    from sklearn._loss import HalfBinomialLoss

    used = type(HalfBinomialLoss().closs).__module__
    if used.startswith("lossfast.") != (way == "patched"):
        raise RuntimeError(f"the {way} run ended with losses of {used}")
    result = {"outcomes": outcomes.found, "details": outcomes.details, "seconds": seconds}
    Path(out).write_text(json.dumps(result))


def run(way: str, module: str) -> dict[str, Any]:
    """The same in a process of its own, away from this project's settings for pytest."""
    root = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "outcomes.json"
        command = [sys.executable, "-m", "benchmarks.sklearn_suites", "--child", way, module, str(out)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode or not out.exists():
            raise RuntimeError(f"{way} {module} did not come to its end:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        return dict(json.loads(out.read_text()))


def compared(name: str, runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One suite's counts, and the tests whose outcomes differ."""
    before, after = (runs[way]["outcomes"] for way in WAYS)
    tests = sorted({*before, *after})
    return {
        "suite": name,
        "module": SUITES[name],
        **{way: dict(sorted(Counter(runs[way]["outcomes"].values()).items())) for way in WAYS},
        "seconds": {way: round(runs[way]["seconds"], 1) for way in WAYS},
        "new failures": [
            {"test": test, "why": runs["patched"]["details"].get(test, "")}
            for test in tests
            if after.get(test, "missing") in (*BAD, "missing") and before.get(test) not in BAD
        ],
        "other differences": [
            {"test": test, **{way: runs[way]["outcomes"].get(test, "missing") for way in WAYS}}
            for test in tests
            if before.get(test) != after.get(test) and after.get(test) not in (*BAD, None)
        ],
        "failures without the patch": sorted(test for test in tests if before.get(test) in BAD),
    }


def table(found: Sequence[dict[str, Any]]) -> str:
    """What a reader wants to know of all suites."""

    def counts(of: dict[str, int]) -> list[str]:
        passed, failed = of.get("passed", 0), sum(of.get(name, 0) for name in BAD)
        return [str(passed), str(failed), str(sum(of.values()) - passed - failed)]

    head = [
        "suite",
        *(f"{way} {what}" for way in WAYS for what in ("passed", "failed", "other")),
        "time",
        "time patched",
    ]
    rows = [
        [suite["suite"], *counts(suite["unpatched"]), *counts(suite["patched"])]
        + [duration(suite["seconds"][way]) for way in WAYS]
        for suite in found
    ]
    lines = [columns([head, *rows])]
    for suite in found:
        lines += [f"new failure: {each['test']}: {each['why']}" for each in suite["new failures"]]
        lines += [
            f"difference: {each['test']}: {each['unpatched']}, patched {each['patched']}"
            for each in suite["other differences"]
        ]
        lines += [f"fails without the patch: {test}" for test in suite["failures without the patch"]]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    if argv is None and sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sklearn_suites",
        description=__doc__.partition("\n")[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", choices=SUITES, help="this suite alone (may be repeated)")
    parser.add_argument("--out", type=Path, help="where to write the comparison as JSON")
    args = parser.parse_args(argv)
    if importlib.util.find_spec("sklearn") is None:
        parser.error("scikit-learn is not installed")
    found = []
    for name in progress(args.only or list(SUITES), "suites"):
        found.append(compared(name, {way: run(way, SUITES[name]) for way in WAYS}))
        if args.out:  # what there is so far, should the rest be cut short
            about = {**provenance(), "machine": machine(("lossfast", "numpy", "scipy", "sklearn", "pytest"))}
            args.out.write_text(dumps({**about, "suites": found}))
    print(table(found))
    return int(any(suite["new failures"] for suite in found))


if __name__ == "__main__":
    sys.exit(main())
