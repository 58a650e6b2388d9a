"""What a mean divides by: here, in torch and in Keras, on the same few rows.

Each case is a call of each library, evaluated as it is shown. What it divides by is the weighted sum of the losses over
the value. Keras need not be installed: the formula that it documents stands in. The page of gradients and reductions
shows ``docs/denominators.json``, which this module writes; the tests evaluate it anew.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import lossfast as lf

from . import common

FILE = common.ROOT / "docs" / "denominators.json"
LIBRARIES = ("lossfast", "torch", "Keras")

#: What the calls are of.
NAMES: dict[str, Any] = {
    "logits": np.array([[2.0, 0.0, 1.0], [0.0, 1.0, -1.0], [1.0, 1.0, 0.0], [0.5, 0.0, 2.0]]),
    "labels": np.array([0, 1, 1, 2]),
    "ignoring": np.array([0, 1, -100, 2]),
    "one_hot": np.eye(3)[[0, 1, 1, 2]],
    "w": np.array([1.0, 3.0, 2.0]),
    "sw": np.array([1.0, 2.0, 0.0, 3.0]),
    "x": np.array([[0.5, -1.0], [2.0, 0.0], [-0.5, 1.0], [1.0, 3.0]]),
    "y": np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]),
}
#: What stands in for Keras: the losses of each row as it has them, before it weighs and divides them.
_NLL = "-np.log(softmax(logits)[np.arange(4), labels])"
_MSE = "np.mean((x - y) ** 2, -1)"


@dataclass(frozen=True)
class Case:
    """One row of the table: a question, the calls, and the weighted sum of the losses that each divides."""

    what: str
    lossfast: str
    torch: str
    keras: str = ""
    formula: str = ""  #: what the call of Keras comes to


CASES = (
    Case(
        "labels",
        "lf.cross_entropy(logits, labels)",
        "F.cross_entropy(logits, labels)",
        "SparseCategoricalCrossentropy(from_logits=True)(labels, logits)",
        f"np.sum({_NLL}) / 4",
    ),
    Case(
        "labels and class weights",
        "lf.cross_entropy(logits, labels, class_weight=w)",
        "F.cross_entropy(logits, labels, weight=w)",
        "SparseCategoricalCrossentropy(from_logits=True)(labels, logits, sample_weight=w[labels])",
        f"np.sum(w[labels] * {_NLL}) / 4",
    ),
    Case(
        "the same labels, one-hot",
        "lf.cross_entropy(logits, one_hot, class_weight=w)",
        "F.cross_entropy(logits, one_hot, weight=w)",
        "CategoricalCrossentropy(from_logits=True)(one_hot, logits, sample_weight=one_hot @ w)",
        f"np.sum(w[labels] * {_NLL}) / 4",
    ),
    Case(
        "a label that is ignored",
        "lf.cross_entropy(logits, ignoring)",
        "F.cross_entropy(logits, ignoring)",
    ),
    Case(
        "weights of rows",
        "lf.cross_entropy(logits, labels, sample_weight=sw)",
        '(sw * F.cross_entropy(logits, labels, reduction="none")).mean()',
        "SparseCategoricalCrossentropy(from_logits=True)(labels, logits, sample_weight=sw)",
        f"np.sum(sw * {_NLL}) / 4",
    ),
    Case(
        "numbers, four rows of two",
        "lf.mse_loss(x, y)",
        "F.mse_loss(x, y)",
        "MeanSquaredError()(y, x)",
        f"np.sum({_MSE}) / 4",
    ),
    Case(
        "numbers, weights of rows",
        "lf.mse_loss(x, y, sample_weight=sw)",
        '(sw[:, None] * F.mse_loss(x, y, reduction="none")).mean()',
        "MeanSquaredError()(y, x, sample_weight=sw)",
        f"np.sum(sw * {_MSE}) / 4",
    ),
    Case(
        "weights of positives",
        "lf.binary_cross_entropy_with_logits(x, y, pos_weight=3.0)",
        "F.binary_cross_entropy_with_logits(x, y, pos_weight=three)",
    ),
    Case(
        "divergence of rows",
        "lf.kl_div(lf.log_softmax(logits), lf.softmax(logits[::-1]))",
        "F.kl_div(F.log_softmax(logits, 1), F.softmax(logits.flip(0), 1))",
        "KLDivergence()(softmax(logits[::-1]), softmax(logits))",
        "np.sum(softmax(logits[::-1]) * np.log(softmax(logits[::-1]) / softmax(logits))) / 4",
    ),
)


def _softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits)
    return e / e.sum(-1, keepdims=True)


def total(case: Case) -> float:
    """The weighted sum of the losses: what all of them divide."""
    return float(eval(case.lossfast[:-1] + ', reduction="sum")', {"lf": lf}, dict(NAMES)))


def value(case: Case, library: str) -> float | None:
    """What that library's call gives; None if there is no call of it, or torch is not installed."""
    if library == "lossfast":
        return float(eval(case.lossfast, {"lf": lf}, dict(NAMES)))
    if library == "Keras":
        return float(eval(case.formula, {"np": np, "softmax": _softmax}, dict(NAMES))) if case.formula else None
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    given = {name: torch.from_numpy(np.array(array)) for name, array in NAMES.items()}
    given["three"] = torch.tensor(3.0, dtype=torch.float64)
    return float(eval(case.torch, {"F": torch.nn.functional}, given))


def measure() -> list[dict[str, Any]]:
    """For each case what every library gives, and what it divided by."""
    found = []
    for case in CASES:
        whole = total(case)
        row: dict[str, Any] = {"what": case.what, "sum": whole, "calls": {}, "values": {}, "divisors": {}}
        for library, call in zip(LIBRARIES, (case.lossfast, case.torch, case.keras), strict=True):
            result = value(case, library)
            if call and result is None:
                raise SystemExit(f"{library} is not installed, and the file needs its figures")
            if result is not None:
                row["calls"][library] = call
                row["values"][library] = result
                row["divisors"][library] = whole / result
        found.append(common.rounded(row, 12))
    return found


def shown(divisor: float) -> str:
    """A divisor without the rounding of two sums."""
    return f"{round(divisor):d}" if math.isclose(divisor, round(divisor), rel_tol=1e-9) else f"{divisor:.4g}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.denominators",
        description=f"Say what the means of lossfast, torch and Keras divide by; write docs/{FILE.name}.",
        epilog="examples:\n  python -m benchmarks.denominators\n  python -m benchmarks.denominators --print\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, default=FILE, metavar="FILE", help=f"default: docs/{FILE.name}")
    parser.add_argument("--print", action="store_true", help="print the table, and write nothing")
    options = parser.parse_args(arguments)
    found = measure()
    rows = [["", *LIBRARIES]]
    rows += [
        [row["what"], *(shown(row["divisors"][name]) if name in row["divisors"] else "" for name in LIBRARIES)]
        for row in found
    ]
    print(common.columns(rows))
    if not options.print:
        options.output.write_text(common.dumps({"command": parser.prog, "cases": found}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
