"""The gallery's scripts run, their checks can fail, and MNIST's files are read right or refused."""

from __future__ import annotations

import ast
import gzip
import itertools
import math
import re
import runpy
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import lossfast as lf
from lossfast.io import FileError

GALLERY = Path(__file__).resolve().parent.parent / "docs" / "gallery"
SCRIPTS = {path.name[5:7]: path for path in sorted(GALLERY.glob("plot_*.py"))}

pytestmark = [
    pytest.mark.skipif(not GALLERY.is_dir(), reason="the documentation is not beside the tests"),
    pytest.mark.timeout(600),  # seconds of work, but minutes on a machine with other work to do
]
every_script = pytest.mark.parametrize("number", SCRIPTS)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], dict[str, Any]]]:
    """Runs a script, and gives the names it leaves; nothing is drawn, as no figure is ever shown or saved."""
    pytest.importorskip("sklearn")
    plt = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.setattr(plt, "show", lambda: None)
    monkeypatch.delenv("LOSSFAST_MNIST", raising=False)
    monkeypatch.syspath_prepend(GALLERY)
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def run(path: Path) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", [str(path)])
        with threadpoolctl.threadpool_limits(1):  # threads are slower at products as small, and others test beside us
            return runpy.run_path(str(path))

    yield run
    plt.close("all")


NUMBERS = itertools.count(1)


def moved(value: np.ndarray) -> np.ndarray:
    return 1.5 * value + 0.3 * next(NUMBERS) + np.arange(value.size).reshape(value.shape)  # no two numbers alike


def negated(value: np.ndarray) -> np.ndarray:
    return ~value if value.dtype == bool else -value - next(NUMBERS)


def turned_round(value: np.ndarray) -> np.ndarray:
    return value[::-1] if value.ndim else value


def disturbed(value: Any, change: Callable[[np.ndarray], np.ndarray]) -> Any:
    """A result with other numbers in it."""
    if type(value) is dict:
        return {key: disturbed(item, change) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(disturbed(item, change) for item in value)
    if isinstance(value, bool | int | float | np.generic | np.ndarray) and np.asarray(value).dtype.kind in "biuf":
        new = change(np.asarray(value))
        return new if isinstance(value, np.ndarray) else new[()]
    return value


def can_fail(check: ast.stmt, names: dict[str, Any]) -> bool:
    """Whether a check fails once some result that it reads has other numbers in it."""
    code = compile(ast.Module([check], []), "<check>", "exec")
    exec(code, dict(names))
    read = {node.id for node in ast.walk(check) if isinstance(node, ast.Name)} & names.keys()
    for name in sorted(read):
        for change in (moved, negated, turned_round):
            try:
                exec(code, {**names, name: disturbed(names[name], change)})
            except AssertionError:
                return True
            except (LookupError, TypeError, ValueError):
                continue  # not a result, but a size or an index
    return False


@every_script
def test_script(number: str, run: Callable[[Path], dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    """It runs, its checks hold, and each of them fails for other results."""
    names = run(SCRIPTS[number])
    assert re.search(r"\d\.\d", capsys.readouterr().out), "prints no numbers"
    body = ast.parse(SCRIPTS[number].read_text(encoding="utf-8")).body
    checks = [node for node in body if any(isinstance(inner, ast.Assert) for inner in ast.walk(node))]
    if number == "05":  # the last is of MNIST, and tested below
        checks.pop()
    assert len(checks) >= 3
    for check in checks:
        assert can_fail(check, names), f"{SCRIPTS[number].name}:{check.lineno} cannot fail"


#: What somebody might get wrong in each script, or in the library.
MISTAKES = {
    "01": ("lf.binary_cross_entropy_with_logits}", "lf.quadratic_sigmoid_loss}"),
    "02": ("lf.binary_cross_entropy_with_logits}", "lf.quadratic_sigmoid_loss}"),
    "03": ("lf.categorical_cross_entropy(p, truth)", "lf.cross_entropy(p, truth)"),
    "04": ("label_smoothing=0.03)", "label_smoothing=0.02)"),
    "05": ("(2 / CLASSES)", "2"),
    "06": ("output_error @ w2.T)", "output_error @ w2.T / 2)"),
    "07": ("bind(beta=1.0)", "bind(beta=0.001)"),
    "08": ("WORD = ", "WORD = 'O ' + "),
    "09": ("text[1:])", "text[:-1])"),
    "10": ("searchsorted(edges, values", "searchsorted(edges, np.sort(values)"),
    "11": ("lf.half_squared_error}", "lf.logistic_loss}"),
    "12": ("found[-1], y[rows], temp", "found[-1], y[rows[::-1]], temp"),
}


@pytest.mark.parametrize(
    "number", [pytest.param(number, marks=[pytest.mark.slow] * (number == "12")) for number in SCRIPTS]
)
def test_mistakes_are_found(number: str, run: Callable[[Path], dict[str, Any]], tmp_path: Path) -> None:
    right, wrong = MISTAKES[number]
    text = SCRIPTS[number].read_text(encoding="utf-8")
    assert text.count(right) == 1
    for beside in GALLERY.glob("*.txt"):
        (tmp_path / beside.name).write_bytes(beside.read_bytes())
    mistaken = tmp_path / SCRIPTS[number].name
    mistaken.write_text(text.replace(right, wrong), encoding="utf-8")
    with pytest.raises(AssertionError):
        run(mistaken)


def test_all_twelve_are_there() -> None:
    assert list(SCRIPTS) == [f"{number:02d}" for number in range(1, 13)]


@every_script
def test_form(number: str) -> None:
    """A title with the number and a question; checks at the end; of the library, the public names alone."""
    text = SCRIPTS[number].read_text(encoding="utf-8")
    tree = ast.parse(text)
    title, line, rest = str(ast.get_docstring(tree)).split("\n", 2)
    assert title.startswith(f"{int(number)}. ") and line == "=" * len(title)
    assert re.match(r"\n\*\*[^*]+\?\*\*\n\n", rest), "begins with no question"
    head, checks = text.split("# %%\n# Checks\n# ------\n")
    assert "assert " not in head and "plt.show()" in head and "assert " in checks
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "lf"
    }
    assert used and used <= set(lf.__all__)
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    others = {"lossfast", "matplotlib.pyplot", "mnist", "numpy", "sklearn.datasets"}
    assert modules <= others | set(sys.stdlib_module_names)


# --------------------------------------------------------------------------------------------------- MNIST's files


@pytest.fixture
def mnist(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(GALLERY)
    import mnist

    return mnist


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape) + array.tobytes()


def write(folder: Path, rows: int = 30, joint: str = "-", packed: bool = False, **other: np.ndarray) -> dict[str, Any]:
    """MNIST's four files, small."""
    random = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", rows), ("t10k", rows // 2)):
        arrays[f"{part}-images{joint}idx3-ubyte"] = random.integers(0, 256, (count, 4, 3), np.uint8)
        arrays[f"{part}-labels{joint}idx1-ubyte"] = random.integers(0, 10, count).astype(np.uint8)
    for name, array in arrays.items():
        array = other.get(name.replace(joint, "-").split("-idx")[0].replace("-", "_"), array)
        data = idx(array)
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(data) if packed else data)
    return arrays


@pytest.mark.parametrize("joint", ["-", "."])
@pytest.mark.parametrize("packed", [False, True])
def test_mnist_is_read(mnist: ModuleType, tmp_path: Path, joint: str, packed: bool) -> None:
    arrays = list(write(tmp_path, joint=joint, packed=packed).values())
    found = mnist.load(tmp_path)
    for images, labels, was_images, was_labels in ((*found[:2], *arrays[:2]), (*found[2:], *arrays[2:])):
        assert images.dtype == np.float32 and images.shape == (len(was_images), 12)
        assert np.array_equal(images * 255, was_images.reshape(len(was_images), 12).astype(np.float32))
        assert np.array_equal(labels, was_labels)


@pytest.mark.parametrize("shape", [(0,), (5,), (2, 3), (2, 0, 4), (2, 3, 4, 5), ()])
def test_idx_shapes(mnist: ModuleType, tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.arange(math.prod(shape), dtype=np.uint8).reshape(shape)
    (tmp_path / "x").write_bytes(idx(array))
    found = mnist.read_idx(tmp_path / "x")
    assert found.shape == shape and np.array_equal(found, array)


ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
BAD = {
    "empty": (b"", "not an IDX file"),
    "text": (b"P5\n28 28\n", "not an IDX file"),
    "floats": (idx(ARRAY, 0x0D), "type 0x0d"),
    "header": (idx(ARRAY)[:9], "within its header of 16 bytes"),
    "short": (idx(ARRAY)[:-1], r"holds 23 bytes, but shape \(2, 3, 4\) has 24"),
    "long": (idx(ARRAY) + b"\0", "holds 25 bytes"),
    "huge": (struct.pack(">BBBB4I", 0, 0, 8, 4, *[2**32 - 1] * 4), "holds 0 bytes"),
    "cut gzip": (gzip.compress(idx(ARRAY))[:-9], "end-of-stream"),
    "broken gzip": (b"\x1f\x8b" + b"\7" * 20, "x: "),
}


@pytest.mark.parametrize("data, message", BAD.values(), ids=BAD)
def test_idx_is_refused(mnist: ModuleType, tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(FileError, match=message) as found:
        mnist.read_idx(path)
    assert str(found.value).startswith(f"{path}: ") and "\n" not in str(found.value)


def test_missing_idx_is_refused(mnist: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="x: No such file"):
        mnist.read_idx(tmp_path / "x")
    with pytest.raises(FileError, match=r"has none of train-images-idx3-ubyte, train-images-idx3-ubyte\.gz"):
        mnist.load(tmp_path)


@pytest.mark.parametrize(
    "other, message",
    [
        ({"train_labels": np.zeros(29, np.uint8)}, r"train images are of shape \(30, 4, 3\), the labels of \(29,\)"),
        ({"t10k_images": np.zeros((15, 12), np.uint8)}, r"t10k images are of shape \(15, 12\)"),
        ({"train_labels": np.array([3] * 29 + [10], np.uint8)}, "train label at row 29 is 10"),
    ],
)
def test_mnist_is_refused(mnist: ModuleType, tmp_path: Path, other: dict[str, np.ndarray], message: str) -> None:
    write(tmp_path, **other)
    with pytest.raises(FileError, match=message):
        mnist.load(tmp_path)


@pytest.mark.parametrize("how", ["argument", "variable"])
def test_experiment_on_a_folder(
    how: str,
    run: Callable[[Path], dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It runs on the folder's files and compares itself with what was published: noise is not MNIST, and fails."""
    write(tmp_path, rows=300)
    arguments = [str(SCRIPTS["05"])]
    if how == "argument":
        arguments.append(str(tmp_path))
    else:
        monkeypatch.setenv("LOSSFAST_MNIST", str(tmp_path))
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(AssertionError):
        runpy.run_path(arguments[0])
    printed = capsys.readouterr().out
    assert "300 images of 12 pixels to learn from, 150 to be tested on" in printed
    assert "0.829 0.914 epoch 7" in printed


def test_published_numbers_are_checked(run: Callable[[Path], dict[str, Any]]) -> None:
    """The check of experiment 5 that only MNIST reaches: it holds for the published numbers, and fails for others."""
    tree = ast.parse(SCRIPTS["05"].read_text(encoding="utf-8"))
    names: dict[str, Any] = {"folder": "MNIST"}
    for node in tree.body:  # the constants
        if isinstance(node, ast.Assign) and "PUBLISHED" in ast.unparse(node.targets[0]):
            exec(compile(ast.Module([node], []), "<script>", "exec"), names)
    names["accuracy"] = {name: np.array([first, 0.9, last]) for name, (first, last, _) in names["PUBLISHED"].items()}
    names["reached"] = {name: epoch for name, (_, _, epoch) in names["PUBLISHED"].items()}
    assert can_fail(tree.body[-1], names)
    names["reached"]["softmax twice, as published"] = 4
    with pytest.raises(AssertionError):
        exec(compile(ast.Module([tree.body[-1]], []), "<script>", "exec"), names)
