"""The benchmarks run, find everything in the registry by themselves, and compare with references that are right.

Their figures are not judged here: times depend on the machine, and bounds on accuracy are the other tests' business.
"""

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lossfast as lf

ROOT = Path(__file__).parents[1]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("the benchmarks are not part of an installation", allow_module_level=True)
sys.path.append(str(ROOT))

from benchmarks import accuracy, common, memory, overhead, peers, references, scaling, throughput  # noqa: E402

needs_asv = pytest.mark.skipif(importlib.util.find_spec("asv") is None, reason="asv is not installed")
MODULES = (accuracy, memory, overhead, peers, scaling, throughput)
CONFIG = str(ROOT / "benchmarks" / "asv.conf.json")


def run(*command, **options):
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=100, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_asv
def test_asv_finds_nothing_wrong_with_the_suite():
    assert "No problems found" in run("-m", "asv", "check", "--config", CONFIG, "-E", f"existing:{sys.executable}")


def classes():
    """The classes in which asv finds benchmarks."""
    for module in MODULES:
        for name, found in vars(module).items():
            if isinstance(found, type) and found.__module__ == module.__name__ and not name.startswith("_"):
                if tracked(found):
                    yield pytest.param(found, id=f"{module.__name__}.{name}")


def tracked(found):
    return [name for name in dir(found) if name.startswith("track_")]


@needs_asv
def test_asv_sees_the_benchmarks_that_are_tested_here():
    from asv_runner.discovery import disc_benchmarks

    ours = {f"{case.id}.{name}".partition(".")[2] for case in classes() for name in tracked(case.values[0])}
    assert {benchmark.name for benchmark in disc_benchmarks(str(ROOT / "benchmarks"))} == ours


@pytest.fixture
def tiny(monkeypatch):
    """The smallest of inputs, and one turn each."""
    interleaved = common.interleaved
    short = {"100000x10": "50x10", "1000000": "500", "10000": "50", "1000x10": "10x10", "10000x10": "10x10"}
    monkeypatch.setattr(common, "shape_of", lambda text: tuple(map(int, short.get(text, text).split("x"))))
    monkeypatch.setattr(scaling, "ELEMENTS", 10_000)
    monkeypatch.setattr(scaling, "THREADED", {kind: shape[:-1] + (20,) for kind, shape in scaling.THREADED.items()})
    monkeypatch.setattr(overhead, "IMPORTS", 1)
    monkeypatch.setattr(common, "interleaved", lambda calls, *_, **__: interleaved(calls, 0.0, 1))


@pytest.mark.parametrize("suite", list(classes()))
def test_every_benchmark_gives_a_number_for_each_combination_or_is_skipped(suite, tiny):
    benchmark = suite()
    cache = (benchmark.setup_cache(),) if hasattr(benchmark, "setup_cache") else ()
    if not hasattr(benchmark, "params"):
        assert all(getattr(benchmark, name)(*cache) > 0 for name in tracked(suite))
        return
    params = benchmark.params if isinstance(benchmark.params[0], (list, tuple)) else (benchmark.params,)
    found = []
    for key in np.ndindex(*map(len, params)):
        chosen = [values[i] for values, i in zip(params, key, strict=True)]
        if hasattr(benchmark, "setup"):
            try:
                benchmark.setup(*cache, *chosen)
            except NotImplementedError:
                continue
        found += [getattr(benchmark, name)(*cache, *chosen) for name in tracked(suite)]
    assert found
    assert all(isinstance(number, (int, float)) and (number >= 0 or math.isnan(number)) for number in found)
    assert any(number >= 0 for number in found)


def test_a_failure_is_raised_by_the_benchmark_that_asks_for_it_and_no_other():
    table = {}
    common.attempt(table, ("bad",), lambda: 1 / 0)
    common.attempt(table, ("good",), lambda: 2.5)
    with pytest.raises(RuntimeError, match="ZeroDivisionError: division by zero"):
        common.look_up(table, "bad")
    assert common.look_up(table, "good") == 2.5
    with pytest.raises(NotImplementedError):
        common.require(table, "absent")


NEW_LOSS = """
import lossfast as lf
from lossfast._loss import pointwise_loss
from lossfast._words import difference

@pointwise_loss(ulp=3)
def throwaway_loss(x, t, q):
    d = difference(x, t)
    return d * d * d * d, 4.0 * d * d * d, 12.0 * d * d

from benchmarks import accuracy, memory, overhead, scaling, throughput
for suite in (
    accuracy.Ulp, memory.PointwiseExtra, overhead.Calls, scaling.Length, scaling.Threads, throughput.PointwiseLosses
):
    assert "throwaway_loss" in suite.params[0], suite
found = accuracy.measure(["throwaway_loss"], ("float32", "float64"))
for dtype in ("float32", "float64"):
    for output in ("value", "grad", "hess"):
        assert found[output, "throwaway_loss", dtype, "numpy"] <= 4, (dtype, output, found)
"""


def test_a_new_loss_is_measured_with_nothing_typed_by_hand():
    run("-c", NEW_LOSS)


# --------------------------------------------------------------------------------------------------- references


def test_the_committed_references_are_small():
    assert references.FILE.stat().st_size < 300_000


@pytest.mark.parametrize("name", lf.losses())
def test_the_committed_references_are_what_is_computed_now(name):
    pytest.importorskip("mpmath")
    for dtype in ("float64", "float16"):
        arrays = references.inputs(lf.get_loss(name), dtype)[0]
        stored, computed = references.of(name, dtype)[0], references.compute(lf.get_loss(name), arrays)
        for key, value in stored.items():
            np.testing.assert_array_equal(value, computed[key], err_msg=f"{dtype} {key}", strict=True)


@pytest.mark.parametrize("name", common.names("pointwise", "function"))
def test_exact_derivatives_are_those_of_the_exact_value(name):
    mpmath = pytest.importorskip("mpmath")
    loss = lf.get_loss(name)
    twin, parameters = references.exactly(loss.twin), [p.default for p in loss.parameters.values()]
    with mpmath.workprec(1000):
        step = mpmath.mpf(10) ** -60
        for x in map(mpmath.mpf, (-30.25, -0.6, 0.3, 1.7, 80.0)):
            (below, slope_below, _), (above, slope_above, _) = (
                twin(at, mpmath.mpf(0), mpmath.mpf(1), *parameters) for at in (x - step, x + step)
            )
            _, slope, curvature = twin(x, mpmath.mpf(0), mpmath.mpf(1), *parameters)
            assert abs((above - below) / (2 * step) - slope) <= 1e-50 * abs(slope)
            assert abs((slope_above - slope_below) / (2 * step) - curvature) <= 1e-50 * abs(curvature)


def test_errors_are_counted_in_units_in_the_last_place():
    exact = np.array([1.0, 3.0, 1e-310, 1e300])
    given = {"value": exact, "value_tail": np.array([0.0, 2.0**-52, 0.0, 0.0])}
    result = exact.copy()
    assert accuracy.worst_ulp(result, given, "value", 2) == 0.5  # the tail of 3
    result[0] = np.nextafter(1.0, 2)
    assert accuracy.worst_ulp(result, given, "value", 2) == 1
    result[2] += 3 * 5e-324  # subnormal: units are those of the smallest
    assert accuracy.worst_ulp(result, given, "value", 2) == 3
    result[1] = math.nan
    assert accuracy.worst_ulp(result, given, "value", 2) == math.inf
    single = np.array([1.0, 3.0, 0.0, math.inf], dtype=np.float32)
    assert accuracy.worst_ulp(single, given, "value", 2) < 0.5
    single[3] = -math.inf
    assert accuracy.worst_ulp(single, given, "value", 2) == math.inf
    terms = {"value": np.array([1.0]), "value_terms": np.array([64.0])}
    assert accuracy.worst_ulp(np.array([1 + 64 * 2.0**-52]), terms, "value", 2) == 2  # the bound exactly


# -------------------------------------------------------------------------------------------------------- peers


def test_peers_are_compared(capsys, tmp_path):
    peers.main(["--shape", "6x3", "--seconds", "0.001", "--markdown", "--json", str(tmp_path / "peers.json")])
    report = json.loads((tmp_path / "peers.json").read_text())
    assert set(report["times"]["6x3"]) == {*peers.installed(), "copyto"}
    assert all(seconds > 0 for seconds in report["times"]["6x3"].values())
    assert report["machine"]["versions"]["lossfast"] == lf.__version__
    printed = capsys.readouterr().out
    assert printed.splitlines()[2].split("|")[1].strip() == "6 x 3"
    assert report["machine"]["cpu"] in printed


def test_peers_that_disagree_are_not_compared():
    def wrong(logits, labels):
        return lambda: (0.0, np.zeros_like(logits))

    with pytest.raises(AssertionError, match="wrong gives another loss or gradient"):
        peers.measure((5, 3), {"wrong": wrong}, 0.0)


def test_peers_explain_themselves():
    assert "examples:" in run("-m", "benchmarks.peers", "--help")
