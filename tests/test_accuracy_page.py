"""The documentation's page on accuracy: its figures come from a measurement, its bounds from the registry of today.

And the measurement can be trusted: its references agree with definitions written independently, its units are the
contract's, and a wrong result is found.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from exact import exact_entries, exact_pointwise, exact_row, mp

import lossfast as lf
from lossfast import _loss
from lossfast._jobs import RowwiseJob

ROOT = Path(__file__).resolve().parent.parent
if not ((ROOT / "benchmarks").is_dir() and (ROOT / "docs").is_dir()):
    pytest.skip("neither benchmarks nor documentation are part of an installation", allow_module_level=True)
sys.path.append(str(ROOT))

from benchmarks import common, contract, equivalents, longdouble  # noqa: E402

needs_long_double = pytest.mark.skipif(not longdouble.WIDE, reason="long double is no wider than double here")
FLOAT64 = np.dtype(np.float64)


@pytest.fixture(scope="module")
def page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("accuracy_page", ROOT / "docs" / "_ext" / "accuracy_page.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def report(page: ModuleType) -> dict[str, Any]:
    return page.load(ROOT / "docs")


@pytest.fixture
def throwaway(monkeypatch: pytest.MonkeyPatch) -> str:
    """A loss that somebody has just added."""
    monkeypatch.setattr(_loss, "REGISTRY", dict(_loss.REGISTRY))

    @_loss.pointwise_loss(ulp=3)
    def throwaway_loss(x, t, q):
        """Three times the square."""
        return 3.0 * (x - t) * (x - t), 6.0 * (x - t), 6.0 + 0.0 * x

    return "throwaway_loss"


# --------------------------------------------------------------------------------------------------------- the page


def test_every_registered_function_is_on_the_page_or_said_to_be_missing(page: ModuleType, report: dict) -> None:
    named = {row[0].text for dtype in page.WIDE for row in page.bounds_table(report, dtype).rows}
    assert named | set(page.missing(report)) == set(_loss.looped())
    text = page.summary(report)
    assert all(name in text for name in page.missing(report))
    assert len(page.missing(report)) < len(lf.losses()) / 4, "measure again: python -m benchmarks.contract"


def test_a_loss_that_was_not_measured_is_listed(page: ModuleType, report: dict, throwaway: str) -> None:
    assert throwaway in page.missing(report) and throwaway in page.summary(report)


def test_bounds_are_the_registry_s_not_the_file_s(
    page: ModuleType, report: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lf.softmax, "ulp", 0.25)
    rows = [row for row in page.bounds_table(report, "float32").rows if row[0].text == "softmax"]
    assert rows and all(row[2].text.startswith(("0.25", "1.25")) for row in rows)
    compiled = [name for name in report["variants"] if name.startswith("compiled")]
    assert not compiled or any(cell.beyond for row in rows for cell in row)
    assert "softmax" in page.outdated(report) and "softmax" in page.summary(report)


def test_what_is_beyond_its_bound_is_marked_counted_and_listed(page: ModuleType, report: dict) -> None:
    changed = copy.deepcopy(report)
    for entry in changed["entries"]:
        for result in entry["results"].values():
            result["ulp"] = 0.25
    assert page.short_table(changed).rows == [] and "none is beyond" in page.summary(changed)
    entry = next(
        e for e in changed["entries"] if (e["function"], e["output"], e["dtype"]) == ("softmax", "value", "float32")
    )
    who = changed["variants"][0]
    for ulp, text in (("inf", "∞"), (2.5e6, "2.5·10⁶"), (98.76, "98.8")):
        entry["results"][who]["ulp"] = ulp
        (row,) = page.short_table(changed).rows
        assert [cell.text for cell in row if cell.beyond] == [text]
        (marked,) = (row for row in page.bounds_table(changed, "float32").rows if any(cell.beyond for cell in row))
        assert (marked[0].text, marked[1].text) == ("softmax", "value")
        assert "1 are beyond" in page.summary(changed)


def test_instruction_sets_share_a_column_only_while_all_figures_agree(page: ModuleType, report: dict) -> None:
    changed = copy.deepcopy(report)
    compiled = [name for name in changed["variants"] if name.startswith("compiled")]
    if len(compiled) < 2:
        pytest.skip("measured on one instruction set")
    for entry in changed["entries"]:
        for name in compiled:
            entry["results"][name] = dict(entry["results"][compiled[0]])
    assert [variants for _, variants in page.alike(changed)][0] == compiled
    changed["entries"][-1]["results"][compiled[-1]]["ulp"] = 0.125
    assert [variants for _, variants in page.alike(changed)][:2] == [compiled[:-1], compiled[-1:]]


def test_every_part_of_the_page_can_be_made(page: ModuleType, report: dict) -> None:
    source = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    asked = [line.partition("} ")[2] for line in source.splitlines() if line.startswith("```{accuracy}")]
    assert sorted(asked) == sorted([*page.TABLES, *page.TEXTS, "plot"])
    for name, make in page.TABLES.items():
        table = make(report)
        assert table.rows or name == "short"
        assert all(len(row) == len(table.head) for row in table.rows)
    for make in page.TEXTS.values():
        assert make(report)


def test_the_file_says_where_it_comes_from_and_how_to_get_there_again(report: dict) -> None:
    assert report["machine"]["cpu"] and report["date"] and report["command"] == "python -m benchmarks.contract"
    assert {"lossfast", "numpy"} < set(report["machine"]["versions"])
    assert report["reference_ulp"] < 0.05, "figures of 2 ULP are read to the second decimal"
    for entry in report["entries"]:
        for result in entry["results"].values():
            assert {"family", "exact", "got"} <= set(result["at"])


def test_plot(page: ModuleType, report: dict, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for mode in page.STYLES:
        page.draw(report, mode, tmp_path / "gap.svg")
        text = (tmp_path / "gap.svg").read_text()
        drawn = [page.OURS, *report["libraries"]]
        assert all(colour in text for _, colour in zip(drawn, page.STYLES[mode]["lines"], strict=False))


# -------------------------------------------------------------------------------------------------- the measurement


def agree(name: str, exact: longdouble.Exact, row: int, true: Any) -> None:
    """Within a hundredth of an ULP of float64."""
    values, _ = (list(part) if isinstance(part, list) else [part] for part in true)
    unit = np.atleast_1d(longdouble.Judged(exact, FLOAT64, 2).unit[row])
    for got, right, one in zip(np.atleast_1d(exact.value[row]), values, unit, strict=True):
        if np.isfinite(got):
            head, tail, exponent = longdouble.parts(got)
            error = abs(mp.ldexp(mp.mpf(head) + tail, exponent) - right)
            assert error <= mp.mpf(one) / 100, f"{name}: {got}, not {float(right)}"
        else:
            assert float(got) == float(right), name


@needs_long_double
@pytest.mark.parametrize(
    "name", [name for name in common.names("rowwise") if name not in ("nll_loss", "kl_div_from_logits")]
)
def test_row_references_are_the_formulas_written_elsewhere(name: str) -> None:
    renamed = {"value": "loss"}
    loss = lf.get_loss(name)
    for case in contract.cases(loss):
        (given, _), *_ = contract.batches(case, "float64", contract.SMALL)
        true = contract.exact(case, given)
        seen = np.isfinite(given.x).all(1) & (np.abs(given.x).max(1) < 2000)  # what 1,500 bits reach across
        hard = given.target.ndim == 1
        if loss.entrywise:
            for row in np.flatnonzero((abs(given.x) > 1e-100).all(1) & np.isfinite(given.x).all(1))[::3]:
                t = int(given.target[row]) if hard else [mp.mpf(float(u)) for u in given.target[row]]
                if not hard and 0 in t:
                    continue  # where logarithms have their limits
                found = exact_entries(loss, [mp.mpf(float(u)) for u in given.x[row]], t, given.options)
                assert {"value", "grad", "hess"} <= set(true) & set(found)
                for output in set(true) & set(found):
                    agree(f"{case.name} {output}", true[output], row, found[output])
            continue
        params = loss.own_numbers(given.options)
        options = {key: value for key, value in given.options.items() if key not in loss.own}
        job = RowwiseJob(name, FLOAT64, given.x, v=given.v, ridge=contract.RIDGE, params=params, **options)
        job.labels, job.target = (given.target, None) if hard else (None, given.target)
        for row in np.flatnonzero(seen)[::3]:
            found = exact_row(job, row)
            compared = [output for output in true if renamed.get(output, output) in found]
            assert {"value", "grad", "hess"} <= set(compared)
            for output in compared:
                if output != "margin" or hard:
                    agree(f"{case.name} {output}", true[output], row, found[renamed.get(output, output)])


@needs_long_double
@pytest.mark.parametrize("name", common.names("row_function"))
def test_function_references_are_the_formulas_written_elsewhere(name: str) -> None:
    loss = lf.get_loss(name)
    if loss.entrywise:
        pytest.skip("the formulas of sums over entries are compared with their twins in test_registry.py")
    lse = loss.outputs[0] == "lse"
    renamed = {"value": loss.outputs[0], "grad": "proba", "jvp": "row_jvp" if lse else "jvp"}
    for case in contract.cases(loss):
        (given, _), *_ = contract.batches(case, "float64", contract.SMALL)
        true = contract.exact(case, given)
        b = None if "b" not in given.options else np.broadcast_to(given.options["b"], given.x.shape)
        for row in np.flatnonzero(np.isfinite(given.x).all(1) & (np.abs(given.x).max(1) < 2000))[::3]:
            for output, exact in true.items():
                v = given.v[:, 0] if lse and output == "vjp" else given.v
                job = RowwiseJob(name, FLOAT64, given.x, v=v, b=b)
                job.temperature = given.options.get("temperature", job.temperature)
                found = exact_row(job, row)
                agree(f"{case.name} {output}", exact, row, found[renamed.get(output, output)])


@needs_long_double
@pytest.mark.parametrize("name", common.names("pointwise", "function"))
def test_pointwise_references_are_the_formulas_written_elsewhere(name: str) -> None:
    loss = lf.get_loss(name)
    for case in contract.cases(loss):
        ((given, _),) = contract.batches(case, "float64", contract.SMALL)
        true = contract.exact(case, given)
        target = np.zeros_like(given.x) if given.target is None else given.target
        near = np.flatnonzero(np.maximum(np.abs(given.x), np.abs(target)) < 700)
        parameters = loss.own_numbers(given.options)
        for at in near[::23]:
            try:
                formulas, _ = exact_pointwise(
                    name, given.x[at], target[at], given.options.get(loss.extra, 1), parameters
                )
            except NotImplementedError:
                pytest.skip("no second formula is written down for it")
            for output, right in zip(("value", "grad", "hess"), formulas, strict=True):
                if output in true and not np.isnan(true[output].value[at]):
                    agree(f"{case.name} {output} at {given.x[at]}, {target[at]}", true[output], at, (right, 0))


@needs_long_double
def test_differences_that_long_double_cannot_hold_are_exact() -> None:
    x = np.array([[700.1, 0.00123, -1e-7]])
    state = longdouble.State(x)
    e = [mp.exp(mp.mpf(z) - mp.mpf(700.1)) for z in x[0].tolist()]
    agree("p", longdouble.Exact(state.p), 0, ([u / mp.fsum(e) for u in e], 0))
    warm = [u ** (1 / mp.mpf(0.7)) for u in e]
    agree("p", longdouble.Exact(longdouble.State(x, 0.7).p), 0, ([u / mp.fsum(warm) for u in warm], 0))


@needs_long_double
def test_errors_are_counted_in_the_units_of_the_contract() -> None:
    right = longdouble.Exact(np.array([1.0, 0.0, 3e-310, 1e308, 2.0**-60], np.longdouble))
    judged = longdouble.Judged(right, FLOAT64, 2)
    got = right.value.astype(np.float64)
    assert not judged.errors(got).any()
    got[:3] = np.nextafter(1, 2), 5e-324, got[2] + 5e-324
    assert judged.errors(got)[:3].tolist() == [1, 1, 1]  # an exact 0 has the smallest unit
    got[0], got[3] = math.nan, math.inf
    assert judged.errors(got)[0] == math.inf and judged.errors(got)[3] > 1e10
    beyond = longdouble.Judged(
        longdouble.Exact(np.array([2.0**128, -(2.0**130)], np.longdouble)), np.dtype(np.float32), 2
    )
    assert beyond.errors(np.array([np.inf, -np.inf], np.float32)).tolist() == [0, 0]
    assert beyond.errors(np.array([-np.inf, np.nan], np.float32)).min() == math.inf
    terms = longdouble.Judged(longdouble.Exact(np.array([2.0**-40], np.longdouble), terms=8.0), FLOAT64, 2)
    assert terms.errors(np.array([2.0**-40 + 8 * 2.0**-52])) == 2  # the bound, at an epsilon of the terms
    half = longdouble.Judged(
        longdouble.Exact(np.array([1 + 2.0**-11], np.longdouble)), np.dtype(np.float16), 2, np.dtype("f4")
    )
    assert half.errors(np.array([1], np.float16)) == 0.5


@needs_long_double
def test_a_new_loss_is_measured_with_nothing_typed_by_hand(throwaway: str) -> None:
    entries, failed = contract.measure([throwaway], ("float32", "float64"), ["numpy"], contract.SMALL, lambda _: None)
    assert {(entry["output"], entry["dtype"]) for entry in entries} == {
        (output, dtype) for output in ("value", "grad", "hess", "hvp") for dtype in contract.WIDE_DTYPES
    }
    assert not failed and all(entry["results"]["numpy"]["holds"] for entry in entries if entry["output"] == "grad")


@needs_long_double
def test_what_others_get_wrong_here_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss as log-sum-exp less a logit, and the true class's gradient as p - 1."""

    def naive(case: Any, given: Any, outputs: Any) -> dict[str, np.ndarray]:
        x, rows = given.x, np.arange(len(given.x))
        with np.errstate(all="ignore"):
            e = np.exp(x - x.max(1, keepdims=True))
            grad = e / e.sum(1, keepdims=True)
            value = np.log(e.sum(1)) + x.max(1) - x[rows, given.target]
        grad[rows, given.target] -= 1
        return {"value": value, "grad": grad}

    monkeypatch.setattr(contract, "ours", naive)
    monkeypatch.setattr(equivalents, "of", lambda name: {})
    found, failed = contract.measure_case(contract.Case(lf.cross_entropy), "float32", contract.SMALL, ["numpy"])
    assert not failed and {entry.output for entry in found} == {"value", "grad"}
    for entry in found:
        result = entry.report()["results"]["numpy"]
        assert not result["holds"] and result["families"][list(contract.ROW_FAMILIES).index("sure")] > 1e6


#: On ordinary inputs every equivalent is near the exact result, so that none is another function.
OTHERS = """
import numpy as np
import lossfast as lf
from benchmarks import contract, equivalents

for name in set(equivalents.EQUIVALENTS) & set(lf.losses()):
    for case in contract.cases(lf.get_loss(name)):
        given = next(contract.batches(case, "float64", contract.SMALL))[0]
        true = contract.exact(case, given)
        ordinary = slice(0, len(given.x) // len(given.families))
        for library, call in equivalents.of(name).items():
            for output, result in (call(given.x, given.target, given.v, given.options) or {}).items():
                right = true[output].value
                where = f"{name} {case.name} {output} by {library}"
                pair = (np.reshape(result, right.shape)[ordinary], right[ordinary].astype(np.float64))
                np.testing.assert_allclose(*pair, rtol=1e-6, atol=1e-9, err_msg=where)
"""


@pytest.mark.slow
@needs_long_double
def test_others_are_measured_on_the_same_functions() -> None:
    """In a process of its own: after these libraries' threads, this one could not fork."""
    done = subprocess.run([sys.executable, "-c", OTHERS], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@needs_long_double
def test_the_quick_run_writes_what_the_page_reads(
    page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(
        common,
        "names",
        lambda *kinds: [n for n in ("huber_loss", "softmax") if not kinds or lf.get_loss(n).kind in kinds],
    )
    monkeypatch.setattr(common, "VARIANTS", ["numpy"])
    monkeypatch.setattr(contract, "failures", lambda scope: [])
    monkeypatch.setattr(contract, "CURVES", {"softmax": contract.CURVES["softmax"]})
    monkeypatch.setattr(equivalents, "installed", dict)  # which are not to be imported here
    path = tmp_path / "accuracy.json"
    contract.main(["--quick", "--output", str(path)])
    again = json.loads(path.read_text(encoding="utf-8"))
    assert "bytes" in capsys.readouterr().out
    assert {entry["function"] for entry in again["entries"]} == {"huber_loss", "softmax"}
    assert set(page.missing(again)) == set(_loss.looped()) - {"huber_loss", "softmax"}
    for make in page.TABLES.values():
        make(again)
    assert "Not measured yet" in page.summary(again)
