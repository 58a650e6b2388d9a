"""Every row of the page of equivalents, run against the library that it names; and torch's own sample inputs."""

import collections
import importlib
import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks and the documentation's extensions are not installed
sys.path.insert(0, str(ROOT / "docs" / "_ext"))

import lossfast as lf  # noqa: E402
from benchmarks import calls, samples  # noqa: E402

#: What differs by no more than rounding, relative to the largest entry.
CLOSE = 1e-12


@pytest.mark.parametrize("row", calls.active(), ids=lambda row: f"{row.loss}, {row.library}: {row.ours}")
def test_rows_agree(row):
    try:
        apart = calls.compare(row)
    except calls.NotInstalledError as missing:
        pytest.skip(f"{missing} is not installed")
    assert set(apart) == ({"value", "gradient"} if row.grad else {"value"})
    assert max(apart.values()) <= CLOSE, (row.theirs, apart)


def test_rows_say_what_they_are_of():
    for row in calls.CALLS:
        assert row.library in calls.LIBRARIES
        assert re.search(rf"\blf\.{row.loss}[.(]", row.ours), row
        assert bool(row.formula) >= (not calls.LIBRARIES[row.library]), f"{row.theirs} can never be run"
    assert len({(row.loss, row.library, row.theirs) for row in calls.CALLS}) == len(calls.CALLS)


@pytest.mark.parametrize(
    "wrong", ["2 * F.mse_loss(pred, target)", "F.mse_loss(pred, target).detach() + 0 * pred.sum()"]
)
def test_a_row_that_is_wrong_is_noticed(wrong):
    pytest.importorskip("torch")
    apart = calls.compare(calls.Call("mse_loss", "torch", wrong, "lf.mse_loss(pred, target)"))
    assert max(apart.values()) > 0.1


def test_a_library_that_is_missing_is_said_to_be(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(calls.NotInstalledError, match="torch"):
        calls.compare(next(row for row in calls.CALLS if row.library == "torch"))


def test_the_page_has_every_loss():
    pytest.importorskip("docutils")
    page = importlib.import_module("equivalents_page")
    shown = {name: rows for losses in page.groups().values() for name, rows in losses.items()}
    assert set(shown) == set(lf.losses())
    assert sum(map(len, shown.values())) == len(calls.active())
    assert "{equivalents}" in (ROOT / "docs" / "equivalents.md").read_text(encoding="utf-8")


# ---------------------------------------------------------------------------------------------- torch's own samples


@pytest.fixture(scope="module")
def outcomes():
    pytest.importorskip("torch")
    return samples.run()


def test_every_sample_of_torch_agrees_or_says_why_not(outcomes):
    assert {found.what for found in outcomes} <= set(samples.WHAT)
    assert not [(found.sample.op, found.why) for found in outcomes if found.what == "differs"]
    for op in samples.OPS:
        there = [found.what for found in outcomes if samples.MODULES.get(found.sample.op, found.sample.op) == op]
        assert there, f"torch has no samples of {op} any more"
        assert "agrees" in there or "on purpose" in there or "no such loss" in there, op
    counts = collections.Counter(found.what for found in outcomes)
    assert counts["agrees"] >= 460
    assert counts["rounds"] <= 5


def test_what_is_left_out_has_a_reason(outcomes):
    for found in outcomes:
        assert bool(found.why) == (found.what != "agrees"), found
        assert found.why != "not known", f"{found.sample.op} is neither translated nor said to be left out"
    missing = {found.why for found in outcomes if found.what == "no such loss"}
    assert not missing & set(lf.losses())


def test_a_wrong_translation_is_noticed(monkeypatch):
    pytest.importorskip("torch")
    wrong = samples._elementwise("l1_loss")
    monkeypatch.setattr(samples, "OPS", {"nn.functional.mse_loss": wrong})
    monkeypatch.setattr(samples, "MODULES", {})
    found = [found for found in samples.run() if found.sample.op == "nn.functional.mse_loss"]
    assert found and all(found.what == "differs" for found in found if found.sample.arguments["input"].numel())
    assert "differs" in samples.table(found)
