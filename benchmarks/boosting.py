"""Built-in objectives of XGBoost, LightGBM and CatBoost beside the same losses of lossfast: trees, predictions, time.

Every pair is trained on the same data, from the same start, without anything random. What is compared is the splits and
leaves of all trees and the raw predictions; time is that of the whole training, and within it of the objective.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import importlib.util
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import lossfast as lf
from lossfast import boosting
from lossfast.boosting import EQUIVALENTS, Equivalent

from . import common

LIBRARIES = tuple(dict.fromkeys(pair.library for pair in EQUIVALENTS))
CLASSES = 5
SEED = 1


class Size(NamedTuple):
    """How much is trained."""

    rows: int
    features: int
    rounds: int
    repeats: int


FULL = Size(100_000, 20, 50, 3)
SMALL = Size(2_000, 8, 5, 1)
#: CatBoost asks for the derivatives of several scores row by row in Python: so many fewer rows, and rounds.
FEWER_ROWS, FEWER_ROUNDS = 50, 5


class Data(NamedTuple):
    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None
    start: Any  #: the constant that both start from


class Model(NamedTuple):
    """What a training has made, in a form to be compared."""

    splits: list[list[tuple[Any, ...]]]  #: of each tree, in the order in which nodes were split
    gains: list[list[float]]  #: of them, where the library tells
    leaves: np.ndarray
    scores: np.ndarray
    seconds: float
    inside: float  #: of them in the objective, for ours


def available(library: str) -> bool:
    return importlib.util.find_spec(library) is not None


def loss_of(pair: Equivalent) -> Any:
    return lf.get_loss(pair.loss).bind(**pair.parameters)


def size_of(pair: Equivalent, size: Size) -> Size:
    if pair.library == "catboost" and loss_of(pair).kind == "rowwise":
        return size._replace(rows=max(200, size.rows // FEWER_ROWS), rounds=max(2, size.rounds // FEWER_ROUNDS))
    return size


def data_for(pair: Equivalent, size: Size, weighted: bool = False) -> Data:
    """Features, and what the loss may take for their answer."""
    random = np.random.default_rng(SEED)
    loss = loss_of(pair)
    x = random.normal(size=(size.rows, size.features))
    signal = x[:, 0] + 0.5 * x[:, 1] ** 2 - np.abs(x[:, 2]) + 0.5 * x[:, 3] * x[:, 0] + random.normal(size=size.rows)
    if loss.kind == "rowwise":
        y = np.digitize(signal, np.quantile(signal, np.linspace(0, 1, CLASSES + 1)[1:-1]))
    elif loss.name == "binary_cross_entropy_with_logits":
        y = signal > 0.3
    elif loss.domains.get("target") == ">= 0":
        y = random.poisson(np.exp(0.5 * signal))
    elif loss.domains.get("target") in ("> 0", "> -1"):
        y = np.exp(0.5 * signal)
    else:
        y = 3 + signal
    y = y.astype(np.float32).astype(np.float64)  # as all three keep labels
    weight = random.integers(1, 5, size.rows).astype(np.float64) / 2 if weighted else None
    # Between numbers that float32 holds, or the libraries would round them in ways of their own.
    start = np.asarray(boosting.initial_score(loss, y, sample_weight=weight)).astype(np.float16).astype(np.float64)
    return Data(x, y, weight, start)


class Timed:
    """An objective that says how long it was at work."""

    no_jit = True

    def __init__(self, objective: Any) -> None:
        self.objective, self.seconds = objective, 0.0

    def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        begin = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            self.seconds += time.perf_counter() - begin

    def __call__(self, scores: Any, data: Any) -> Any:
        return self._run(self.objective, scores, data)

    def calc_ders_range(self, *arguments: Any) -> Any:
        return self._run(self.objective.calc_ders_range, *arguments)

    def calc_ders_multi(self, *arguments: Any) -> Any:
        return self._run(self.objective.calc_ders_multi, *arguments)

    def __deepcopy__(self, memo: Any) -> Timed:
        return self


# -------------------------------------------------------------------------------------------------- one training


def _xgboost(pair: Equivalent, data: Data, size: Size, threads: int, ours: Timed | None) -> Model:
    xgboost = importlib.import_module("xgboost")
    parameters = {"objective": pair.objective, "max_depth": 6, "eta": 0.1, "nthread": threads, **pair.settings}
    shape: tuple[int, ...] = (size.rows,)
    if loss_of(pair).kind == "rowwise":
        parameters["num_class"], shape = CLASSES, (size.rows, CLASSES)
    margin = np.broadcast_to(data.start, shape)
    matrix = xgboost.QuantileDMatrix(
        data.x, label=data.y, weight=data.weight, base_margin=np.ascontiguousarray(margin), nthread=threads
    )
    begin = time.perf_counter()
    model = xgboost.train(parameters, matrix, size.rounds, obj=ours)
    seconds = time.perf_counter() - begin
    trees = json.loads(bytes(model.save_raw("json")))["learner"]["gradient_booster"]["model"]["trees"]
    splits, gains, leaves = [], [], []
    for tree in trees:
        nodes = list(zip(*(tree[f"{side}_children"] for side in ("left", "right")), tree["split_indices"], strict=True))
        values = tree["split_conditions"]
        inner = [number for number, (left, *_) in enumerate(nodes) if left >= 0]
        splits.append([(number, *nodes[number], values[number]) for number in inner])
        gains.append([tree["loss_changes"][number] for number in inner])
        leaves += [value for value, (left, *_) in zip(values, nodes, strict=True) if left < 0]
    return Model(splits, gains, np.array(leaves), model.predict(matrix, output_margin=True), seconds, 0.0)


def _lightgbm(pair: Equivalent, data: Data, size: Size, threads: int, ours: Timed | None) -> Model:
    lightgbm = importlib.import_module("lightgbm")
    parameters = {
        "objective": pair.objective if ours is None else ours,
        "verbosity": -1,
        "num_threads": threads,
        "deterministic": True,
        "force_col_wise": True,
        **pair.settings,
    }
    shape: tuple[int, ...] = (size.rows,)
    if loss_of(pair).kind == "rowwise":
        parameters["num_class"], shape = CLASSES, (size.rows, CLASSES)
    start = np.asfortranarray(np.broadcast_to(data.start, shape))
    table = lightgbm.Dataset(
        data.x, data.y, weight=data.weight, init_score=start, params={"verbosity": -1, "num_threads": threads}
    ).construct()
    begin = time.perf_counter()
    model = lightgbm.train(parameters, table, size.rounds)
    seconds = time.perf_counter() - begin
    splits: list[list[tuple[Any, ...]]] = []
    gains: list[list[float]] = []
    leaves: list[float] = []
    for tree in model.dump_model()["tree_info"]:
        nodes: list[dict[str, Any]] = []
        waiting = [tree["tree_structure"]]
        while waiting:
            node = waiting.pop()
            if "leaf_value" in node:
                leaves.append(node["leaf_value"])
            else:
                nodes.append(node)
                waiting += [node["right_child"], node["left_child"]]
        nodes.sort(key=lambda node: int(node["split_index"]))
        splits.append([(node["split_index"], node["split_feature"], node["threshold"]) for node in nodes])
        gains.append([node["split_gain"] for node in nodes])
    return Model(splits, gains, np.array(leaves), model.predict(data.x, raw_score=True), seconds, 0.0)


def _catboost(pair: Equivalent, data: Data, size: Size, threads: int, ours: Timed | None) -> Model:
    catboost = importlib.import_module("catboost")
    rows = loss_of(pair).kind == "rowwise"
    parameters: dict[str, Any] = {
        "loss_function": pair.objective if ours is None else ours,
        "iterations": size.rounds,
        "depth": 6,
        "learning_rate": 0.1,
        "thread_count": threads,
        "random_seed": SEED,
        "bootstrap_type": "No",
        "random_strength": 0,
        "boosting_type": "Plain",
        "logging_level": "Silent",
        "allow_writing_files": False,
        "leaf_estimation_method": "Newton",
        "leaf_estimation_iterations": 1,
        **pair.settings,
    }
    if pair.trees == "refit" and ours is None:
        parameters["leaf_estimation_method"] = "Exact"
    if rows:
        parameters["classes_count"] = CLASSES
    if ours is not None:  # which has no metric of its own
        parameters["eval_metric"] = pair.objective
    baseline = np.ascontiguousarray(np.broadcast_to(data.start, (size.rows, CLASSES) if rows else (size.rows,)))
    label = data.y.astype(int) if rows or pair.objective == "Logloss" else data.y
    pool = catboost.Pool(data.x, label, weight=data.weight, baseline=baseline, thread_count=threads)
    pool.quantize()
    model = catboost.CatBoost(parameters)
    begin = time.perf_counter()
    model.fit(pool)
    seconds = time.perf_counter() - begin
    plain = catboost.Pool(data.x)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.json"
        model.save_model(str(file), format="json")
        trees = json.loads(file.read_text())["oblivious_trees"]
    splits = [[(split["float_feature_index"], split["border"]) for split in tree["splits"] or ()] for tree in trees]
    leaves = np.concatenate([tree["leaf_values"] for tree in trees])
    return Model(splits, [], leaves, model.predict(plain, prediction_type="RawFormulaVal"), seconds, 0.0)


_TRAININGS: dict[str, Callable[..., Model]] = {"xgboost": _xgboost, "lightgbm": _lightgbm, "catboost": _catboost}


def train(pair: Equivalent, data: Data, size: Size, threads: int, ours: bool) -> Model:
    """The model of the built-in objective, or of ours."""
    training = _TRAININGS[pair.library]
    if not ours:
        return training(pair, data, size, threads, None)
    timed = Timed(getattr(boosting, f"{pair.library}_objective")(loss_of(pair)))
    with lf.set_num_threads(threads):
        model = training(pair, data, size, threads, timed)
    return model._replace(inside=timed.seconds)


# ------------------------------------------------------------------------------------------------------ comparison


#: Splits whose gains are closer than this, relative to the gain, are a tie that rounding decides.
TIE = 1e-4


def gap(one: Model, other: Model) -> float | None:
    """How far apart the gains of the first split that differs are, relative to them; None if none does or has one."""
    for number, (theirs, own) in enumerate(zip(one.splits, other.splits, strict=True)):
        if theirs != own:
            if not one.gains:
                return None
            first = [a == b for a, b in zip(theirs, own, strict=False)]
            place = first.index(False) if False in first else len(first)
            gains = [model.gains[number][place] if place < len(model.gains[number]) else 0.0 for model in (one, other)]
            return abs(gains[0] - gains[1]) / max(map(abs, gains))
    return None


def compare(pair: Equivalent, size: Size, threads: int = 1, weighted: bool = False) -> dict[str, Any]:
    """Both models of a pair, trained in turns."""
    size = size_of(pair, size)
    data = data_for(pair, size, weighted)
    models: dict[bool, list[Model]] = {False: [], True: []}
    for _ in range(size.repeats):
        for ours in (False, True):
            models[ours].append(train(pair, data, size, threads, ours))
    theirs, own = models[False][0], models[True][0]
    same = sum(a == b for a, b in zip(theirs.splits, own.splits, strict=False))
    alike = theirs.splits == own.splits
    quickest = {ours: min(found, key=lambda model: model.seconds) for ours, found in models.items()}
    spread = float(np.ptp(theirs.scores)) or 1.0
    return {
        "library": pair.library,
        "objective": pair.objective,
        "loss": repr(loss_of(pair)),
        "weighted": weighted,
        "hessian": getattr(boosting, f"{pair.library}_objective")(loss_of(pair)).hessian,
        "expected": pair.trees,
        "why": pair.why,
        "rows": size.rows,
        "features": size.features,
        "rounds": size.rounds,
        "threads": threads,
        "trees": len(theirs.splits),
        "trees with the same splits": same,
        "gain gap": gap(theirs, own),
        "leaf difference": float(np.abs(theirs.leaves - own.leaves).max()) if alike else None,
        "score difference": float(np.abs(theirs.scores - own.scores).max()) / spread,
        "built-in seconds": quickest[False].seconds,
        "lossfast seconds": quickest[True].seconds,
        "objective seconds": quickest[True].inside,
        "time ratio": quickest[True].seconds / quickest[False].seconds,
    }


def equal(found: dict[str, Any]) -> bool:
    """Whether the splits of all trees are the same, up to one between splits that are equally good."""
    same = found["trees with the same splits"] == found["trees"]
    return same or (found["gain gap"] is not None and found["gain gap"] < TIE)


def text(results: list[dict[str, Any]]) -> str:
    head = ["library", "objective", "weights", "rows x rounds", "same splits", "gain gap", "leaves", "scores"]
    rows = [[*head, "built-in", "lossfast", "ratio", "objective"]]
    for found in results:
        leaves, apart = found["leaf difference"], found["gain gap"]
        rows.append(
            [
                *(found["library"], found["objective"], "yes" if found["weighted"] else "no"),
                f"{found['rows']} x {found['rounds']}",
                f"{found['trees with the same splits']}/{found['trees']}",
                "-" if apart is None else f"{apart:.1e}",
                *("-" if leaves is None else f"{leaves:.1e}", f"{found['score difference']:.1e}"),
                *(common.duration(found["built-in seconds"]), common.duration(found["lossfast seconds"])),
                *(f"{found['time ratio']:.2f}", common.duration(found["objective seconds"])),
            ]
        )
    return common.columns(rows, 2)


def small(value: float | None) -> str:
    return "–" if value is None else f"{value:.0e}" if value else "0"


def markdown(report: dict[str, Any]) -> str:
    """The figures as a page of the documentation."""
    results, machine = report["results"], report["machine"]
    size = results[0]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    threads = "one thread" if size["threads"] == 1 else f"{size['threads']} threads"
    lines = [
        "# Boosting: the same trees, and their time\n",
        "Built-in objectives of XGBoost, LightGBM and CatBoost, and the same losses of `lossfast.boosting`, on the",
        "same data, from the same start. *Same trees* counts those with the same splits. Where some differ, *tie* is",
        "how far apart the gains of the first other split are, relative to them: rounding decides between equally good",
        "splits. *Leaves* and *scores* are the largest differences, those of scores relative to their range. Seconds",
        "are those of the whole training; *inside* is the part of it that lossfast and its adapter take.\n",
        f"Written by `{report['command']}`:",
        f"{size['features']} features, {threads}, the best of {report['repeats']} trainings of each, in turns;",
        f"{machine['cpu']}; {versions};",
        f"{report['date']}, commit {report['commit']}. {report['note']}\n",
    ]
    for library in dict.fromkeys(found["library"] for found in results):
        head = ("objective", "loss", "rows × rounds", "same trees", "tie", "leaves", "scores", "built-in", "lossfast")
        lines += [
            f"## {library}\n",
            f"| {' | '.join((*head, 'ratio', 'inside'))} |",
            "|---|---|" + "---:|" * len(head),
        ]
        mine = [found for found in results if found["library"] == library]
        for found in mine:
            cells = (
                f"`{found['objective']}`" + ("\\*" if found["why"] else ""),
                f"`{found['loss'].removeprefix('lossfast.')}`",
                f"{found['rows']:,} × {found['rounds']}",
                f"{found['trees with the same splits']} of {found['trees']}",
                *map(small, (found["gain gap"], found["leaf difference"], found["score difference"])),
                *(f"{found[f'{name} seconds']:.2f} s" for name in ("built-in", "lossfast")),
                f"{found['time ratio']:.2f}",
                f"{found['objective seconds']:.2f} s",
            )
            lines.append(f"| {' | '.join(cells)} |")
        lines += ["", *(f"\\* `{found['objective']}`: {found['why']}.\n" for found in mine if found["why"])]
    return "\n".join(lines)


def pairs(libraries: list[str] | None, objectives: list[str] | None) -> Iterator[Equivalent]:
    for pair in EQUIVALENTS:
        if (not libraries or pair.library in libraries) and (not objectives or pair.objective in objectives):
            yield pair


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.boosting",
        description="Train XGBoost, LightGBM and CatBoost with their own objectives and with lossfast's; compare "
        "trees, predictions and time. Exits with 1 if trees differ that should not. Libraries that are not installed "
        "are left out.",
        epilog="examples:\n"
        "  python -m benchmarks.boosting                                some minutes\n"
        "  python -m benchmarks.boosting --quick                        half a minute\n"
        "  python -m benchmarks.boosting --threads 1 --rows 50000 --markdown docs/boosting-trees.md\n"
        "  python -m benchmarks.boosting --library lightgbm --objective multiclass --json result.json\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="little data, once")
    parser.add_argument("--library", action="append", choices=LIBRARIES, help="this one alone; may be repeated")
    parser.add_argument("--objective", action="append", metavar="NAME", help="this one alone; may be repeated")
    parser.add_argument("--weighted", action="store_true", help="with sample weights")
    parser.add_argument("--threads", type=int, default=common.cpus(), help="of the library and of lossfast (all CPUs)")
    for name in ("rows", "features", "rounds", "repeats"):
        parser.add_argument(f"--{name}", type=int, metavar="N", help=f"instead of {getattr(FULL, name)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too; - is stdout")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a page of documentation there")
    parser.add_argument("--note", default="", metavar="TEXT", help="what should be known of this measurement")
    options = parser.parse_args(arguments)
    given = {name: getattr(options, name) for name in Size._fields if getattr(options, name) is not None}
    size = (SMALL if options.quick else FULL)._replace(**given)
    found = list(pairs(options.library, options.objective))
    if not found:
        parser.error("no such objective; there are " + ", ".join(pair.objective for pair in EQUIVALENTS))
    chosen = [pair for pair in found if available(pair.library)]
    if not chosen:
        parser.error("none of the libraries is installed: " + ", ".join({pair.library: 0 for pair in found}))
    compared = functools.partial(compare, size=size, threads=options.threads, weighted=options.weighted)
    label = "{0.library} {0.objective}".format
    results = [compared(pair) for pair in common.progress(chosen, "objectives", label)]
    libraries = list(dict.fromkeys(pair.library for pair in chosen))
    report = {
        "command": "python -m benchmarks.boosting " + shlex.join(sys.argv[1:] if arguments is None else arguments),
        "note": options.note,
        "repeats": size.repeats,
        **common.provenance(),
        "machine": common.machine(("lossfast", "numpy", *libraries)),
        "results": common.rounded(results),
    }
    if options.json == Path("-"):
        print(common.dumps(report, 2), end="")
    else:
        print(text(results))
        if options.json:
            options.json.write_text(common.dumps(report, 2), encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(markdown(report), encoding="utf-8")
    return 1 if any(one["expected"] == "equal" and not equal(one) for one in results) else 0


if __name__ == "__main__":
    raise SystemExit(main())
