"""Logistic regression beside scikit-learn's, to the same value of the same objective: time and memory.

What counts as the same value is what scikit-learn's default solver reaches at its default tolerance. Every other solver
is given the loosest tolerance of a few with which it comes to that value or below, and is timed with it. All fits of a
problem are timed in turns, in one process; ratios are those of processor time, which a busy machine does not change
much. The memory is what a fit takes beyond its data, in a process of its own.

    python -m benchmarks.estimators                # a table
    python -m benchmarks.estimators --json         # the same for programs
    python -m benchmarks.estimators --quick        # small problems, to see that it works
    python -m benchmarks.estimators --threads 2 --problems digits 100000x50x10
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import threadpoolctl

import lossfast as lf

from . import common, memory

#: Tolerances, loosest first.
TOLERANCES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 1e-6, 1e-7)
#: The solver whose default tolerance says what is to be reached.
REFERENCE = "scikit-learn lbfgs"


class Solver(NamedTuple):
    """A way to the optimum."""

    library: str
    solver: str
    most: float = float("inf")  # unknowns times features above which it takes too long or too much memory

    def __str__(self) -> str:
        return f"{self.library} {self.solver}"

    def estimator(self, threads: int, **options: Any) -> Any:
        if self.library == "lossfast":
            from lossfast.sklearn import SoftmaxClassifier

            return SoftmaxClassifier(solver=self.solver, n_threads=threads, max_iter=5000, **options)
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(solver=self.solver, max_iter=5000, **options)


SOLVERS = (
    Solver("scikit-learn", "lbfgs"),
    Solver("scikit-learn", "newton-cg"),
    Solver("scikit-learn", "newton-cholesky", most=50_000),
    Solver("lossfast", "lbfgs"),
    Solver("lossfast", "newton-cg"),
)

_NAMES = ", ".join(repr(str(solver)) for solver in SOLVERS)


# ------------------------------------------------------------------------------------------------------- problems


def digits(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The 8 x 8 handwritten digits that scikit-learn carries, as they are."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return X[:rows], y[:rows]


def gaussian(rows: int, features: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Correlated features of different scales; labels drawn from a softmax model of them."""
    random = np.random.default_rng(1)
    X = random.standard_normal((rows, features)) @ (np.eye(features) + 0.1 * random.standard_normal((features,) * 2))
    logits = 0.3 * X @ random.standard_normal((features, classes))
    y = (logits + random.gumbel(size=logits.shape)).argmax(1)
    X *= np.exp(random.uniform(-1, 1, features))
    return X, y


def images(rows: int, side: int = 28) -> tuple[np.ndarray, np.ndarray]:
    """The digits enlarged to 24 x 24, shifted by up to two pixels each way, with noise, in [0, 1]."""
    random = np.random.default_rng(2)
    small, labels = digits(1797)
    chosen = random.integers(0, len(small), rows)
    X = np.zeros((rows, side, side))
    size = side - 4
    large = np.kron(small.reshape(-1, 8, 8)[chosen], np.ones((size // 8, size // 8))) / 16
    for row, (down, right) in enumerate(random.integers(0, 5, (rows, 2))):
        X[row, down : down + size, right : right + size] = large[row]
    X += 0.1 * random.random(X.shape) * (X > 0)
    return X.reshape(rows, -1), labels[chosen]


PROBLEMS: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "digits": lambda: digits(1797),
    "100000x50x10": lambda: gaussian(100_000, 50, 10),
    "20000x784x10": lambda: images(20_000),
}
QUICK: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "digits": lambda: digits(400),
    "2000x20x5": lambda: gaussian(2_000, 20, 5),
}


def objective(model: Any, X: np.ndarray, y: np.ndarray) -> float:
    """What both libraries minimise, divided by the number of rows: mean loss plus penalty at C = 1."""
    logits = X @ model.coef_.T + model.intercept_
    return lf.cross_entropy(logits, y) + 0.5 * float((model.coef_**2).sum()) / len(X)


# ------------------------------------------------------------------------------------------------------ measuring


@contextlib.contextmanager
def quietly(threads: int) -> Iterator[None]:
    """So many threads for everybody; no warnings of tolerances that cannot be met."""
    with warnings.catch_warnings(), threadpoolctl.threadpool_limits(threads):
        warnings.simplefilter("ignore")
        yield


def extra_bytes(problem: str, quick: bool, solver: Solver, threads: int) -> int:
    """What a fit takes beyond the data: of a few steps, since more take no more. To be run in a fresh process."""
    X, y = (QUICK if quick else PROBLEMS)[problem]()

    def call() -> None:
        solver.estimator(threads).set_params(max_iter=3).fit(X, y)

    with quietly(threads):
        try:
            return memory.resident_bytes(call)
        except NotImplementedError:
            return memory.traced_bytes(call)


def measure(problem: str, threads: int, quick: bool, solvers: Sequence[Solver], repeats: int) -> dict[str, Any]:
    """A problem's figures for each solver."""
    with quietly(threads):
        return _measure(problem, threads, quick, solvers, repeats)


def _measure(problem: str, threads: int, quick: bool, solvers: Sequence[Solver], repeats: int) -> dict[str, Any]:
    def fit(solver: Solver, **options: Any) -> Any:
        return solver.estimator(threads, **options).fit(X, y)

    X, y = (QUICK if quick else PROBLEMS)[problem]()
    classes = int(y.max()) + 1
    solvers = [solver for solver in solvers if (X.shape[1] + 1) * classes * X.shape[1] <= solver.most]
    best = objective(fit(Solver("lossfast", "newton-cg"), tol=1e-6), X, y)
    reference = next(solver for solver in SOLVERS if str(solver) == REFERENCE)
    target = objective(fit(reference), X, y)
    chosen: dict[Solver, float | None] = {}
    for solver in solvers:
        chosen[solver] = None
        for tol in TOLERANCES:
            if solver == reference:
                chosen[solver] = 1e-4
                break
            if objective(fit(solver, tol=tol), X, y) <= target:
                chosen[solver] = tol
                break
    seconds: dict[Solver, list[float]] = {solver: [] for solver in solvers}
    processor: dict[Solver, list[float]] = {solver: [] for solver in solvers}
    models: dict[Solver, Any] = {}
    for _ in range(repeats):
        for solver in solvers:
            if chosen[solver] is not None:
                start, before = time.perf_counter(), time.process_time()
                models[solver] = fit(solver, tol=chosen[solver])
                seconds[solver].append(time.perf_counter() - start)
                processor[solver].append(time.process_time() - before)
    rows = []
    for solver in solvers:
        row: dict[str, Any] = {"problem": problem, "solver": str(solver), "tol": chosen[solver]}
        if solver in models:
            row["seconds"] = min(seconds[solver])
            row["processor_seconds"] = min(processor[solver])
            row["steps"] = int(np.max(models[solver].n_iter_))
            row["above_optimum"] = objective(models[solver], X, y) - best
            row["ratio"] = min(processor[solver]) / min(processor[reference])
        row["extra_bytes"] = common.in_child(extra_bytes, problem, quick, solver, threads)
        rows.append(row)
    return {
        "problem": problem,
        "shape": [*X.shape, classes],
        "data_bytes": X.nbytes,
        "optimum": best,
        "target_above_optimum": target - best,
        "threads": threads,
        "solvers": rows,
    }


# --------------------------------------------------------------------------------------------------------- report


def text(report: dict[str, Any]) -> str:
    """The report as tables."""
    parts = [
        f"{report['machine']['cpu']}, {report['threads']} thread(s); seconds to the same objective value, best of "
        f"{report['repeats']}"
    ]
    for found in report["problems"]:
        heading = (
            f"\n{found['problem']}: data of {found['data_bytes'] / 1e6:.3g} MB, value "
            f"{found['target_above_optimum']:.2g} above the optimum of {found['optimum']:.6g}"
        )
        table = [["solver", "tol", "time", "processor time", "ratio", "steps", "above optimum", "extra memory"]]
        for row in found["solvers"]:
            if "seconds" in row:
                cells = [common.duration(row["seconds"]), common.duration(row["processor_seconds"])]
                cells += [f"{row['ratio']:.2f}", str(row["steps"])]
                cells.append(f"{row['above_optimum']:.1e}")
            else:
                cells = ["never reached", "", "", "", ""]
            tol = "" if row["tol"] is None else f"{row['tol']:g}"
            table.append([row["solver"], tol, *cells, f"{row['extra_bytes'] / 1e6:.3g} MB"])
        parts += [heading, common.columns(table)]
    return "\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    summary, _, examples = (__doc__ or "").partition("    python -m")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.estimators",
        description=summary,
        epilog=f"examples:\n    python -m{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="JSON on standard output instead of tables")
    parser.add_argument("--quick", action="store_true", help="small problems, once each")
    parser.add_argument("--threads", type=int, default=1, help="threads of lossfast, BLAS and OpenMP alike (1)")
    parser.add_argument("--repeats", type=int, default=3, help="fits of each solver, of which the best counts (3)")
    parser.add_argument("--solvers", nargs="+", metavar="NAME", help=f"besides {REFERENCE!r}, some of {_NAMES}")
    parser.add_argument("--problems", nargs="+", metavar="NAME", help=f"some of {', '.join(PROBLEMS)}")
    options = parser.parse_args(arguments)
    known = QUICK if options.quick else PROBLEMS
    wanted = options.problems or list(known)
    strange = [name for name in wanted if name not in known]
    if strange:
        parser.error(f"there is no problem {strange[0]!r}; there are {', '.join(known)}")
    if options.threads < 1 or options.repeats < 1:
        parser.error("--threads and --repeats must be at least 1")
    solvers = [solver for solver in SOLVERS if str(solver) in (REFERENCE, *(options.solvers or map(str, SOLVERS)))]
    unknown = set(options.solvers or ()) - set(map(str, SOLVERS))
    if unknown:
        parser.error(f"there is no solver {min(unknown)!r}; there are {_NAMES}")
    repeats = 1 if options.quick else options.repeats
    report: dict[str, Any] = {
        **common.provenance(),
        "machine": common.machine(("lossfast", "numpy", "scipy", "sklearn")),
        "threads": options.threads,
        "repeats": repeats,
        "problems": [
            measure(name, options.threads, options.quick, solvers, repeats)
            for name in common.progress(wanted, "problem")
        ],
    }
    print(common.dumps(common.rounded(report)) if options.json else text(report), end="" if options.json else "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
