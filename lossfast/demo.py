"""``lossfast demo``: two costs on handwritten digits, through the library and through its command line.

Softmax regression on scikit-learn's digits is trained by plain gradient descent, once with the gradients of
`cross_entropy` and once with those of `quadratic_softmax_loss`. The test set's logits are written to files, which
``lossfast eval`` then reads; what is printed and drawn is what it answered.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import lossfast as lf

COSTS = {"cross-entropy": lf.cross_entropy, "quadratic": lf.quadratic_softmax_loss}
TEST, EPOCHS, BATCH, RATE, SEED = 500, 21, 100, 0.2, 0
HARDEST = 10


def demo(output_dir: str, as_json: bool = False) -> int:
    """Run the demonstration; files go to ``output_dir``."""
    directory = Path(output_dir)
    directory.mkdir(parents=True, exist_ok=True)
    images, labels = _digits()
    train, test = slice(None, -TEST), slice(-TEST, None)
    np.save(directory / "labels.npy", labels[test])

    models = {}
    for name, loss in COSTS.items():
        started = time.perf_counter()
        weights, accuracies = _train(loss, images[train], labels[train], images[test], labels[test])
        seconds = time.perf_counter() - started
        logits = directory / f"{loss.name}-logits.npy"
        np.save(logits, logits_of(images[test], weights))
        models[name] = {
            "train_seconds": seconds,
            "accuracy_after_first_epoch": accuracies[0],
            "accuracy": accuracies[-1],
            "epochs_to_0.9": next((epoch for epoch, accuracy in enumerate(accuracies, 1) if accuracy >= 0.9), None),
            "test_loss": {
                cost: _evaluate(
                    other.name, logits, directory / "labels.npy", directory / f"{loss.name}-{other.name}.npy"
                )
                for cost, other in COSTS.items()
            },
        }

    logits = np.load(directory / "cross_entropy-logits.npy")
    losses = np.load(directory / "cross_entropy-cross_entropy.npy")
    predicted = lf.cross_entropy.evaluate(logits, labels[test], want="pred").pred
    hardest = np.argsort(losses)[::-1][:HARDEST]
    rows = [
        {"row": int(row), "label": int(labels[test][row]), "predicted": int(predicted[row]), "loss": float(losses[row])}
        for row in hardest
    ]
    picture = directory / "hardest.png"
    _draw(images[test][hardest], rows, picture)
    speed = _speed(logits, labels[test])
    report = {
        "rows": {"train": len(labels) - TEST, "test": TEST},
        "models": models,
        "hardest": rows,
        "picture": str(picture),
        "speed": speed,
        "backend": lf.get_backend(),
    }
    if as_json:
        from .cli import to_json

        print(to_json(report))
    else:
        _print(report)
    return 0


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """8 by 8 pixels between 0 and 1, in a fixed shuffled order, and the digits they show."""
    bunch = _need("sklearn.datasets").load_digits()
    order = np.random.default_rng(SEED).permutation(len(bunch.target))
    return (bunch.data[order] / 16).astype(np.float32), bunch.target[order]


def _need(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f"the demonstration needs {error.name}: pip install 'lossfast[sklearn,plot]'") from error


def logits_of(images: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The logits of a linear model whose last row of weights is the bias."""
    return images @ weights[:-1] + weights[-1]


def _train(loss: Any, x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> tuple[Any, list[float]]:
    """Weights after the last epoch, and the test accuracy after each."""
    random = np.random.default_rng(SEED)
    weights = np.zeros((x.shape[1] + 1, 10), np.float32)
    accuracies = []
    for _ in range(EPOCHS):
        order = random.permutation(len(x))
        for start in range(0, len(x), BATCH):
            batch = order[start : start + BATCH]
            grad = loss.grad(logits_of(x[batch], weights), y[batch])
            weights[:-1] -= RATE * (x[batch].T @ grad)
            weights[-1] -= RATE * grad.sum(0)
        correct = loss.evaluate(logits_of(x_test, weights), y_test, want="correct").correct
        accuracies.append(float(correct.mean()))
    return weights, accuracies


def _evaluate(loss: str, logits: Path, labels: Path, out: Path) -> float:
    """The mean loss, from the command line."""
    command = [sys.executable, "-m", "lossfast", "eval", loss, str(logits), str(labels), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed with {done.returncode}: {done.stderr.strip()}")
    return float(json.loads(done.stdout)["value"])


def _draw(images: np.ndarray, rows: list[dict[str, Any]], path: Path) -> None:
    figure_module = _need("matplotlib.figure")
    paper, ink, faint, accent = "#fbfaf7", "#22262b", "#8b8f94", "#b3392f"
    figure = figure_module.Figure(figsize=(10, 5.7), dpi=150, facecolor=paper)
    figure.text(0.04, 0.935, "The ten hardest digits", color=ink, fontsize=17, weight="bold", va="center")
    figure.text(
        *(
            0.04,
            0.868,
            f"of {TEST} that softmax regression had not seen: what each is, what it was taken for, and its loss",
        ),
        color=faint,
        fontsize=10.5,
        va="center",
    )
    across = HARDEST // 2
    most = rows[0]["loss"]
    for place, (image, row) in enumerate(zip(images, rows, strict=True)):
        left, bottom = 0.04 + 0.188 * (place % across), 0.53 - 0.415 * (place // across)
        axes = figure.add_axes((left, bottom, 0.168, 0.2947))
        axes.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_edgecolor("#dddad2")
        wrong = row["label"] != row["predicted"]
        words = f"{row['label']}, taken for {row['predicted']}" if wrong else f"{row['label']}, recognised"
        figure.text(left, bottom - 0.027, words, color=accent if wrong else ink, fontsize=10.5, va="center")
        figure.text(
            left + 0.168, bottom - 0.027, f"{row['loss']:.2f}", color=ink, fontsize=10.5, va="center", ha="right"
        )
        bar = figure.add_axes((left, bottom - 0.056, 0.168, 0.010))
        bar.barh(0, row["loss"], color=accent if wrong else faint)
        bar.set_xlim(0, most)
        bar.axis("off")
    figure.savefig(path, facecolor=paper)


def by_hand(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean cross-entropy and its gradient as one writes them in NumPy."""
    rows = np.arange(len(labels))
    shifted = logits - logits.max(1, keepdims=True)
    grad = np.exp(shifted)
    total = grad.sum(1, keepdims=True)
    loss = float(np.mean(np.log(total[:, 0]) - shifted[rows, labels]))
    grad /= total
    grad[rows, labels] -= 1
    grad /= len(labels)
    return loss, grad


def _speed(logits: np.ndarray, labels: np.ndarray, rows: int = 100_000) -> dict[str, Any]:
    """Rows per second of value and gradient, for the test set's logits repeated to many rows, on one thread."""
    logits = np.ascontiguousarray(np.resize(logits, (rows, logits.shape[1])))
    labels = np.resize(labels, rows)
    buffer = np.empty_like(logits)

    def library() -> None:
        lf.cross_entropy.value_and_grad(logits, labels, grad_out=buffer, n_threads=1)

    ours, theirs = _rate(library, rows), _rate(lambda: by_hand(logits, labels), rows)
    return {"rows": rows, "classes": logits.shape[1], "lossfast": ours, "numpy_by_hand": theirs, "ratio": ours / theirs}


def _rate(function: Callable[[], Any], rows: int, least: float = 0.5) -> float:
    """Rows per second: the best of several runs, after one that warms up."""
    function()
    best, started = float("inf"), time.perf_counter()
    while time.perf_counter() - started < least:
        before = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - before)
    return rows / best


def _print(report: dict[str, Any]) -> None:
    rows, models, speed = report["rows"], report["models"], report["speed"]
    print(
        f"Softmax regression on scikit-learn's digits: {rows['train']} to learn from, {rows['test']} to be tested on,"
    )
    print(f"{EPOCHS} epochs of plain gradient descent, batches of {BATCH}, rate {RATE}, from zeros.\n")
    print(f"{'trained with':<15} {'test accuracy':>13} {'after epoch 1':>14} {'0.9 reached in':>15} ", end="")
    print(f"{'cross-entropy':>14} {'quadratic':>10}")
    for name, model in models.items():
        reached = f"epoch {model['epochs_to_0.9']}" if model["epochs_to_0.9"] else "never"
        print(
            f"{name:<15} {model['accuracy']:>13.3f} {model['accuracy_after_first_epoch']:>14.3f} {reached:>15} "
            f"{model['test_loss']['cross-entropy']:>14.4f} {model['test_loss']['quadratic']:>10.4f}"
        )
    print("(the last two columns are the test set's mean losses, from `lossfast eval` on the files of logits)\n")
    print(f"The {HARDEST} hardest digits for the model trained with cross-entropy ({report['picture']}):")
    for entry in report["hardest"]:
        print(f"  row {entry['row']:>3}: {entry['label']} taken for {entry['predicted']}, loss {entry['loss']:.3f}")
    size = f"{speed['rows']:,} x {speed['classes']}"
    print(f"\nCross-entropy and its gradient, float32, {size}, one thread, in rows per second:")
    print(f"  lossfast ({report['backend']})".ljust(24) + f"{speed['lossfast']:>14,.0f}")
    print("  by hand in NumPy".ljust(24) + f"{speed['numpy_by_hand']:>14,.0f}")
    print("  ratio".ljust(24) + f"{speed['ratio']:>14.2f}")
