"""What the guides show of every loss, of others' denominators and of digits lost is computed, and comes out so."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
if not ((ROOT / "benchmarks").is_dir() and (ROOT / "docs").is_dir()):
    pytest.skip("neither benchmarks nor documentation are part of an installation", allow_module_level=True)
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

import lossfast as lf  # noqa: E402
from benchmarks import denominators, picture  # noqa: E402


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    return importlib.import_module("lossfast_reference")


@pytest.fixture(scope="module")
def choosing() -> ModuleType:
    return importlib.import_module("choosing_page")


@pytest.fixture(scope="module")
def numerics() -> ModuleType:
    return importlib.import_module("numerics_page")


# ---------------------------------------------------------------------------------------------------- every loss


@pytest.mark.parametrize("name", lf.losses())
def test_curves_are_each_other_s_derivatives(reference: ModuleType, name: str) -> None:
    """The pictures' derivative is that of the pictures' value, away from kinks; the Hessian that of the gradient."""
    loss = lf.get_loss(name)
    for panel in reference.panels(loss, 2001):
        named = list(panel.curves)
        assert named[0] == "value" and panel.label and len(panel.x) > 50
        entry = (
            "probability" in panel.label
        )  # the others make room for it there, which a derivative in it does not know
        for below, above in zip(named, named[1:], strict=False):
            if entry and below == "value":
                continue
            y, slope = panel.curves[below], panel.curves[above]
            x = panel.x
            found = (y[2:] - y[:-2]) / (x[2:] - x[:-2])
            scale = np.maximum(1e-3 * np.ptp(y), abs(slope[1:-1]))
            near = abs(found - slope[1:-1]) <= 0.02 * scale
            assert near.mean() > (0.9 if loss.kind != "embedding" else 0.8), (name, panel.title, above)


def test_facts_of_losses_that_are_known(choosing: ModuleType) -> None:
    known = {
        "mse_loss": (True, True, "grows"),
        "l1_loss": (True, False, "stays"),
        "huber_loss": (True, True, "stays"),
        "cauchy_loss": (False, True, "fades"),
        "tukey_loss": (False, True, "is gone"),
        "hinge_loss": (True, False, "stays"),
        "squared_hinge_loss": (True, True, "grows"),
        "zero_one_loss": (False, False, "is gone"),
        "exponential_loss": (True, True, "grows"),
        "quadratic_sigmoid_loss": (False, True, "is gone"),
        "cross_entropy": (True, True, "stays"),
        "quadratic_softmax_loss": (False, True, "is gone"),
        "multiclass_hinge_loss": (True, False, "stays"),
        "msle": (False, True, "fades"),
        "binary_cross_entropy": (True, True, None),
        "softmax": (None, None, None),
        "supcon_loss": (None, None, None),
    }
    assert {name: tuple(choosing.facts(lf.get_loss(name))) for name in known} == known


def test_the_table_has_every_loss_and_what_it_is_compared_with(choosing: ModuleType) -> None:
    listed = {loss.name: choosing.row(loss) for losses in choosing.groups().values() for loss in losses}
    assert set(listed) == {name for name in lf.losses() if "function" not in lf.get_loss(name).kind}
    assert all(len(row) == len(choosing.HEAD) - 1 and all(row) for row in listed.values())
    told = {name: row[1] for name, row in listed.items()}
    assert told["cross_entropy"] == "labels, soft labels" and told["nll_loss"] == "labels"
    assert told["hinge_loss"] == "-1 or 1" and told["kl_div_from_logits"] == "logits"
    assert told["relative_entropy"] == "probabilities" and told["triplet_margin_loss"] == "positive, negative"


def test_small_pictures_have_no_words(reference: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    sizes = {}
    for small in (False, True):
        file = tmp_path / "picture.svg"
        reference.draw(lf.cross_entropy, "light", file, small)
        text = file.read_text(encoding="utf-8")
        assert all(colour in text for colour in reference.STYLES["light"]["curves"])
        sizes[small] = len(text)
    assert sizes[True] < sizes[False]


# ----------------------------------------------------------------------------------------------------- numerics


def test_pictures_show_what_the_text_says(numerics: ModuleType) -> None:
    curves = {name: plot.make() for name, plot in numerics.PLOTS.items()}
    for name in ("small-losses", "true-gradients"):
        _, found = curves[name]
        ours, *others = found.values()
        assert np.all(ours > 0) and np.all(np.diff(ours) < 0)
        assert any(np.any(other == 0) for other in others)
    for name, worst in (("offsets", 1e-7), ("divergences", 1e-7), ("sums", 1e-7)):
        _, found = curves[name]
        ours, other, *_ = found.values()
        assert ours.max() < worst and other.max() > 1000 * worst, name
    apart, found = curves["divergences"]
    usual = found["sum(p * (log(p) - log(q)))"]
    assert usual[apart <= 1e-4].min() == 1, "no digit is left there"
    offset, found = curves["offsets"]
    plain = found["log(sum(exp(z))) - z[y]"]
    assert offset[plain == 1].min() == pytest.approx(89, rel=0.15)


def test_every_picture_is_shown_and_drawn(numerics: ModuleType, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "numerics.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^```\{numerics\} (.+)$", text, re.MULTILINE)) == sorted(numerics.PLOTS)
    pytest.importorskip("matplotlib")
    numerics.draw("small-losses", "dark", tmp_path / "picture.svg")
    assert numerics.LINES["dark"][0] in (tmp_path / "picture.svg").read_text(encoding="utf-8")


# -------------------------------------------------------------------------------------------------- denominators


RECORDED = json.loads(denominators.FILE.read_text(encoding="utf-8"))["cases"]


@pytest.mark.parametrize("case", denominators.CASES, ids=lambda case: case.what)
def test_denominators(case: denominators.Case) -> None:
    """What the page shows is what the calls give, and divisors are what the text says."""
    (row,) = [row for row in RECORDED if row["what"] == case.what]
    assert row["calls"]["lossfast"] == case.lossfast and row["calls"]["torch"] == case.torch
    for library, shown in row["values"].items():
        if library == "torch" and importlib.util.find_spec("torch") is None:
            continue
        value = denominators.value(case, library)
        assert value == pytest.approx(shown, rel=1e-11), library
        assert row["divisors"][library] == pytest.approx(denominators.total(case) / value, rel=1e-10)
    assert ("Keras" in row["values"]) == bool(case.keras)


def test_the_command_measures_what_is_recorded() -> None:
    pytest.importorskip("torch")
    for found, recorded in zip(denominators.measure(), RECORDED, strict=True):
        assert found["calls"] == recorded["calls"]
        for what in ("values", "divisors"):
            assert found[what] == pytest.approx(recorded[what], rel=1e-10)


def test_every_case_is_recorded() -> None:
    assert [row["what"] for row in RECORDED] == [case.what for case in denominators.CASES]
    by_what = {row["what"]: row["divisors"] for row in RECORDED}
    one_hot, integer = by_what["the same labels, one-hot"], by_what["labels and class weights"]
    assert one_hot["lossfast"] == integer["lossfast"] and one_hot["torch"] != integer["torch"]


# ------------------------------------------------------------------------------------------------------- picture


@pytest.mark.parametrize("mode", picture.MODES)
def test_the_picture_is_that_of_the_committed_figures(mode: str) -> None:
    accuracy, performance = (json.loads(f.read_text(encoding="utf-8")) for f in (picture.ACCURACY, picture.PERFORMANCE))
    file = picture.DIRECTORY / f"lossfast-{mode}.svg"
    drawn = picture.picture(accuracy, performance, mode)
    assert drawn == file.read_text(encoding="utf-8"), "draw it again: python -m benchmarks.picture"
    assert file.stat().st_size < 20_000 and not re.search(r"<script|href=|url\(", drawn)
    assert all(f">{name}</text>" in drawn for name in performance["peers"]["peers"])


def test_the_picture_s_times_are_geometric_means() -> None:
    cells = [
        {**picture.CALLS, "times": {"lossfast": 1.0, "torch": 4.0}},
        {**picture.CALLS, "times": {"lossfast": 2.0, "torch": 18.0, "jax": 2.0}},
        {**picture.CALLS, "dtype": "float64", "times": {"lossfast": 1.0, "torch": 100.0}},
    ]
    found = picture.times({"peers": {"cells": cells, "peers": ["torch", "jax"]}})
    assert found == pytest.approx({"lossfast": 1.0, "jax": 1.0, "torch": 6.0}) and list(found)[-1] == "torch"


def test_the_readme_shows_the_picture_in_both_modes() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r'(?:srcset|src)="([^"]+)"', text)
    assert sorted(shown) == [f"docs/_static/lossfast-{mode}.svg" for mode in ("dark", "light")]
    for link in re.findall(r"\]\((\S+?)\)", text):
        assert (ROOT / link).exists() or link.startswith("http"), link


def test_infinite_errors_are_drawn() -> None:
    report = {"curves": {"gap": [0.0, 50.0], "curves": {"cross_entropy": {"lines": {}}}}}
    report["curves"]["curves"]["cross_entropy"]["lines"] = {"lossfast": [0.5, 0.5], "torch": [1.0, "inf"]}
    gap, lines = picture.errors(report)
    assert gap == [0.0, 50.0] and math.isinf(lines["torch"][1])
    assert "nan" not in "".join(picture._errors(report, picture.MODES["light"], 40, 300))
