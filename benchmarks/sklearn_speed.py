"""Times of losses and of whole fits, side by side in one process: scikit-learn as it is, and with lossfast inside.

``python -m benchmarks.sklearn_speed`` prints both tables; ``--json`` writes them. Calls and fits are taken in turns, so
that a busy machine troubles both alike. Of calls the quickest is told, which nothing interrupted; of fits the median of
the processor's time in all their threads. The load average that was found is told too.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from sklearn._loss import loss as theirs
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.linear_model import GammaRegressor, LogisticRegression, PoissonRegressor, TweedieRegressor

from lossfast.sklearn import patch
from lossfast.sklearn._closs import stand_in

from .common import columns, dumps, duration, interleaved, machine, progress, provenance, rounded

EXAMPLES = """\
examples:
  python -m benchmarks.sklearn_speed --rows 30000 --json speed.json
  python -m benchmarks.sklearn_speed --only methods --rows 300 --rows 100000
"""

#: Who calls what in which layout: (consumer, method, order of the raw predictions, dtype of them and of the results).
CONSUMERS = (
    ("logistic, lbfgs", "loss_gradient", "C", np.float64, np.float64),
    ("logistic, line search", "loss", "C", np.float64, np.float64),
    ("logistic, newton-cg", "gradient_proba", "C", np.float64, np.float64),
    ("gradient boosting", "gradient", "C", np.float64, np.float64),
    ("hist boosting", "gradient_hessian", "F", np.float64, np.float32),
    ("hist boosting, weighted", "gradient_hessian", "F", np.float64, np.float32),
    ("hist boosting, early stopping", "loss", "F", np.float64, np.float64),
)


def method_calls(rows: int, classes: int, threads: int) -> Iterator[tuple[dict[str, Any], list[Callable[[], Any]]]]:
    """For every consumer, the same call of scikit-learn's own object and of one with lossfast inside."""
    random = np.random.default_rng(0)
    multiclass = classes > 2
    kind = theirs.HalfMultinomialLoss if multiclass else theirs.HalfBinomialLoss
    target, weight = random.integers(0, classes, rows).astype(np.float64), random.random(rows)
    values = 3 * random.normal(size=(rows, classes) if multiclass else rows)
    for consumer, method, order, dtype, out in CONSUMERS:
        pair = [kind(n_classes=classes) if multiclass else kind() for _ in range(2)]
        if not hasattr(pair[0], method):
            continue
        pair[1].closs = stand_in(pair[1].closs)
        raw = np.asarray(values, dtype=dtype, order=order)
        entries = {name: np.empty_like(raw, dtype=out) for name in ("gradient_out", "hessian_out", "proba_out")}
        buffers = {**entries, "loss_out": np.empty(rows, out)}
        taken = {
            "loss": ("loss_out",),
            "gradient": ("gradient_out",),
            "loss_gradient": ("loss_out", "gradient_out"),
            "gradient_hessian": ("gradient_out", "hessian_out"),
            "gradient_proba": ("gradient_out", "proba_out"),
        }[method]
        given = {"y_true": target, "raw_prediction": raw, "n_threads": threads} | {
            name: buffers[name] for name in taken
        }
        if "weighted" in consumer:
            given["sample_weight"] = weight
        about = {"loss": kind.__name__, "classes": classes, "rows": rows, "method": method, "consumer": consumer}
        calls = [partial(getattr(loss, method), **given) for loss in pair]
        yield about, calls


def measure_methods(rows: Sequence[int], threads: int, seconds: float) -> list[dict[str, Any]]:
    cells = [(n, classes) for n in rows for classes in (2, 3, 10, 100) if n * classes <= 10_000_000]
    found = []
    for n, classes in progress(cells, "methods"):
        for about, calls in method_calls(n, classes, threads):
            own, ours = interleaved(calls, seconds, least=9, statistic=min)
            found.append({**about, "scikit-learn": own, "lossfast": ours, "ratio": own / ours})
    return found


def fits(rows: int) -> list[tuple[str, Any, np.ndarray, np.ndarray]]:
    """Estimators and their data."""
    random = np.random.default_rng(1)
    X = random.normal(size=(rows, 20))
    score = X[:, :5] @ random.normal(size=5) + random.normal(size=rows)

    def labels(classes: int) -> np.ndarray:
        return np.digitize(score, np.quantile(score, np.arange(1, classes) / classes))

    positive = np.exp(0.3 * score)
    trees: dict[str, Any] = {"max_iter": 20, "early_stopping": False}
    few = slice(0, max(500, rows // 20))
    return [
        ("LogisticRegression, 2 classes", LogisticRegression(), X, labels(2)),
        ("LogisticRegression, 10 classes", LogisticRegression(max_iter=50), X, labels(10)),
        ("LogisticRegression newton-cg, 10 classes", LogisticRegression(solver="newton-cg", max_iter=5), X, labels(10)),
        ("PoissonRegressor", PoissonRegressor(), X, positive),
        ("GammaRegressor", GammaRegressor(), X, positive),
        ("TweedieRegressor(power=1.5)", TweedieRegressor(power=1.5), X, positive),
        ("HistGradientBoostingClassifier, 2 classes", HistGradientBoostingClassifier(**trees), X, labels(2)),
        ("HistGradientBoostingClassifier, 10 classes", HistGradientBoostingClassifier(**trees), X, labels(10)),
        ("HistGradientBoostingRegressor", HistGradientBoostingRegressor(**trees), X, score),
        (
            "HistGradientBoostingRegressor, absolute_error",
            HistGradientBoostingRegressor("absolute_error", **trees),
            X,
            score,
        ),
        ("GradientBoostingClassifier, 3 classes", GradientBoostingClassifier(n_estimators=5), X[few], labels(3)[few]),
        (
            "GradientBoostingRegressor, huber",
            GradientBoostingRegressor(loss="huber", n_estimators=5),
            X[few],
            score[few],
        ),
    ]


def measure_fits(rows: int, turns: int) -> list[dict[str, Any]]:
    import warnings

    found = []
    for name, model, X, y in progress(fits(rows), "fits", lambda cell: cell[0]):
        times: dict[bool, list[float]] = {False: [], True: []}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X, y)
            for _ in range(turns):
                for patched in times:
                    if patched:
                        with patch():
                            times[patched].append(timed(model, X, y))
                    else:
                        times[patched].append(timed(model, X, y))
        own, ours = median(times[False]), median(times[True])
        found.append({"estimator": name, "rows": len(y), "scikit-learn": own, "patched": ours, "ratio": own / ours})
    return found


def timed(model: Any, X: np.ndarray, y: np.ndarray) -> float:
    """Seconds of processor time of one fit, in all threads: other programs' turns are no part of it."""
    start = time.process_time()
    model.fit(X, y)
    return time.process_time() - start


def table(found: Sequence[dict[str, Any]]) -> str:
    times = ("scikit-learn", "lossfast", "patched")
    rows = [
        [
            duration(value) if key in times else f"{value:.2f}" if key == "ratio" else str(value)
            for key, value in row.items()
        ]
        for row in found
    ]
    return columns([list(found[0]), *rows])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sklearn_speed",
        description=__doc__.partition("\n")[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, action="append", help="of the losses (may be repeated; default 30, 30000)")
    parser.add_argument("--fit-rows", type=int, default=20_000, help="of the fits (default: %(default)s)")
    parser.add_argument(
        "--turns", type=int, default=3, help="fits of each estimator, either way (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=0.05, help="for each call of a loss (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="n_threads of the losses (default: %(default)s)")
    parser.add_argument("--only", choices=("methods", "fits"), help="one of the two tables")
    parser.add_argument("--json", type=Path, help="where to write both")
    args = parser.parse_args(argv)
    found: dict[str, Any] = {}
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    if args.only != "fits":
        found["methods"] = measure_methods(args.rows or [30, 30_000], args.threads, args.seconds)
    if args.only != "methods":
        found["fits"] = measure_fits(args.fit_rows, args.turns)
    for rows in found.values():
        print(table(rows), end="\n\n")
    print(f"load average at the start: {load}")
    if args.json:
        about = {**provenance(), "load": load, "machine": machine(("lossfast", "numpy", "sklearn"))}
        args.json.write_text(dumps(rounded({**about, **found})))
    return 0


if __name__ == "__main__":
    sys.exit(main())
