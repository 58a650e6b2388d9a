"""The benchmarks run, find everything in the registry by themselves, and compare with references that are right.

Their figures are not judged here: times depend on the machine, and bounds on accuracy are the other tests' business.
"""

import importlib.util
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from parameters import is_inside, targets_of

import lossfast as lf

ROOT = Path(__file__).parents[1]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("the benchmarks are not part of an installation", allow_module_level=True)
sys.path.append(str(ROOT))

from benchmarks import (  # noqa: E402
    accuracy,
    common,
    growth,
    memory,
    overhead,
    peers,
    references,
    scaling,
    targets,
    throughput,
)

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
    """The smallest of inputs, and one turn each; what is measured for all losses at once, of a few of each kind."""
    interleaved, names = common.interleaved, common.names
    monkeypatch.setattr(common, "names", lambda *kinds: names(*kinds)[::8])
    short = {"100000x10": "50x10", "1000000": "500", "10000": "50", "1000x10": "10x10", "10000x10": "10x10"}
    monkeypatch.setattr(common, "shape_of", lambda text: tuple(map(int, short.get(text, text).split("x"))))
    monkeypatch.setattr(scaling, "ELEMENTS", 10_000)
    monkeypatch.setattr(scaling, "THREADED", {kind: shape[:-1] + (20,) for kind, shape in scaling.THREADED.items()})
    monkeypatch.setattr(overhead, "IMPORTS", 1)
    # After the threads of the others, this process could not fork.
    monkeypatch.setattr(peers, "installed", lambda names: [name for name in names if name in ("numpy", "sklearn")])
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
    assert any("throwaway_loss" in params for params in suite.params), suite
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


@pytest.mark.parametrize("name", common.names())
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
    twin, parameters = references.exactly(loss.twin), loss.own_numbers()
    with mpmath.workprec(1000):
        step = mpmath.mpf(10) ** -60
        target = mpmath.mpf(targets_of(loss)[0])
        points = [
            x
            for x in ((0.004, 0.6, 1.0) if loss.takes else (-30.25, -0.6, 0.3, 1.7, 80.0))
            if is_inside(loss, "pred", x)
        ]
        assert points
        for x in map(mpmath.mpf, points):
            (below, slope_below, _), (above, slope_above, _) = (
                twin(at, target, mpmath.mpf(1), *parameters) for at in (x - step, x + step)
            )
            _, slope, curvature = twin(x, target, mpmath.mpf(1), *parameters)
            # series in twins, near 0, are good to 80 bits
            room = mpmath.mpf(2) ** -76 if name in ("half_gamma_deviance", "log_cosh_loss") else mpmath.mpf(10) ** -50
            assert abs((above - below) / (2 * step) - slope) <= room * abs(slope)
            assert abs((slope_above - slope_below) / (2 * step) - curvature) <= room * abs(curvature)


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


# --------------------------------------------------------------------------------------------------------- time


def test_a_slow_call_leaves_turns_to_the_others_and_a_very_slow_one_has_two():
    counts = [0, 0, 0]

    def call(index, seconds):
        def wait():
            counts[index] += 1
            time.sleep(seconds)

        return wait

    found = common.interleaved([call(0, 0.001), call(1, 0.05), call(2, common.SLOW + 0.01)], 0.05, each=True)
    assert counts[1:] == [1 + 3, 1 + 2]  # once to warm up
    assert counts[0] > 3 * counts[1]
    assert found[0] < found[1] < found[2]


def test_medians_are_of_what_each_call_took(monkeypatch):
    clock = iter([0.0, 5.0, 0.0, 1.0, 0.0, 2.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(common, "SLOW", 100)
    assert common.interleaved([lambda: None], 0.0, least=3, warm=False) == [2.0]


def test_memory_that_a_call_takes_is_seen():
    given = np.ones(1 << 20, np.float32)
    assert memory.traced_bytes(lambda: None) < 1000
    assert memory.traced_bytes(lambda: np.exp(given)) >= given.nbytes
    try:
        assert memory.resident_bytes(lambda: np.exp(given)) >= given.nbytes * 0.9
    except NotImplementedError:
        pytest.skip("this system does not tell")


def test_figures_are_rounded_in_whatever_holds_them():
    assert common.rounded({"a": [1.23456, {"b": (9.87654e-7, 12345, "c")}]}, 3) == {
        "a": [1.23, {"b": [9.88e-7, 12345, "c"]}]
    }


def test_json_has_a_line_for_each_entry():
    value = {"a": {"b": 1}, "c": [{"d": [1, 2]}, {"e": None}], "f": []}
    for depth in range(4):
        assert json.loads(common.dumps(value, depth)) == value
    assert common.dumps(value).splitlines()[1:5] == [' "a": {"b": 1},', ' "c": [', '  {"d": [1, 2]},', '  {"e": null}']
    with pytest.raises(ValueError):
        common.dumps({"a": math.nan})


# -------------------------------------------------------------------------------------------------------- peers


def test_peers_are_compared(capsys, tmp_path):
    chosen = ["--shape", "6x3", "--shape", "7", "--peer", "numpy", "--peer", "scipy", "--peer", "sklearn"]
    file = tmp_path / "peers.json"
    assert peers.main([*chosen, "--seconds", "0.001", "--isa", "all", "--markdown", "--json", str(file)]) == 0
    report = json.loads(file.read_text())
    assert {(cell["op"], cell["grad"]) for cell in report["cells"]} == set(peers.OPS)
    assert {(cell["shape"], cell["dtype"]) for cell in report["cells"]} == {
        (shape, dtype) for shape in ("6x3", "7") for dtype in peers.DTYPES
    }
    for cell in report["cells"]:
        there = {name for name in report["peers"] if peers.Op(cell["op"], cell["grad"]) in peers.PEERS[name].makers}
        assert there <= set(cell["times"]) and "numpy" in there and not cell["failed"]
        assert all(seconds > 0 for seconds in [*cell["times"].values(), *cell["limits"].values()])
        assert cell["limit"] in cell["limits"]
        best = min(cell["times"][name] for name in there)
        assert cell["times"][cell["best"]] == best
        assert math.isclose(cell["ahead"]["lossfast"], best / cell["times"]["lossfast"], rel_tol=1e-2)
    ours = {"lossfast"} | {f"lossfast {isa}" for isa in lf.isas() if isa != lf.get_isa()}
    assert set(report["summary"]) == ours
    worst = min(cell["ahead"]["lossfast"] for cell in report["cells"])
    assert report["summary"]["lossfast"]["worst"]["ahead"] == worst <= report["summary"]["lossfast"]["mean"]
    assert report["machine"]["versions"]["lossfast"] == lf.__version__
    assert "torch" in report["left out"]
    printed = capsys.readouterr().out
    assert "cross_entropy with gradient, float32, 6x3" in printed and report["machine"]["cpu"] in printed


def test_peers_have_all_but_what_they_lack():
    lacking = {name: {op.name for op in peers.OPS if op not in peer.makers} for name, peer in peers.PEERS.items()}
    assert {name: found for name, found in lacking.items() if found} == {
        "scipy": {"mse_loss", "l1_loss"},
        "sklearn": {"log_softmax", "logsumexp", "sigmoid", "log_sigmoid"},
        "optax": {"softmax", "log_softmax", "logsumexp", "l1_loss", "sigmoid", "log_sigmoid"},
    }


def test_libraries_that_compile_agree_with_this_one(tmp_path):
    """In a process of its own: after these libraries' threads, this one could not fork."""
    there = [name for name in ("torch", "jax", "optax") if importlib.util.find_spec(name)]
    if not there:
        pytest.skip("neither torch nor JAX is installed")
    file = tmp_path / "peers.json"
    chosen = [word for name in there for word in ("--peer", name)]
    run("-m", "benchmarks.peers", *chosen, "--shape", "6x3", "--shape", "7", "--seconds", "0", "--json", str(file))
    cells = json.loads(file.read_text())["cells"]
    assert all(set(there) - {"optax"} <= set(cell["times"]) for cell in cells)
    assert sum("optax" in cell["times"] for cell in cells) == 2 * len(peers.OPTAX) * ("optax" in there)


def cell_of(op, shape="5x3"):
    return peers.Cell(shape, "float32", op)


CROSS_ENTROPY = peers.Op("cross_entropy", True)


@pytest.mark.parametrize("wrong", ["value", "gradient", "shape"])
def test_peers_that_disagree_or_fail_are_told_and_not_timed(wrong, monkeypatch, capsys, tmp_path):
    def make(x, t):
        def call():
            value, grad = peers.NUMPY[CROSS_ENTROPY](x, t)()
            if wrong == "value":
                value *= 1.01
            if wrong == "gradient":
                grad[np.unravel_index(np.abs(grad).argmax(), grad.shape)] *= 1.01
            return value, grad[:-1] if wrong == "shape" else grad

        return call

    def break_(x, t):
        raise RuntimeError("no compiler\nhere")

    monkeypatch.setitem(peers.PEERS, "wrong", peers.Peer("numpy", {CROSS_ENTROPY: make}))
    monkeypatch.setitem(peers.PEERS, "broken", peers.Peer("numpy", {CROSS_ENTROPY: break_}))
    found = peers.judge(peers.measure(cell_of(CROSS_ENTROPY, "400x3"), ["numpy", "wrong", "broken"], seconds=0))
    assert set(found["times"]) == {"lossfast", "numpy"} and found["best"] == "numpy"
    assert found["failed"]["broken"] == "RuntimeError: no compiler"
    assert found["failed"]["wrong"].startswith("AssertionError: another")
    chosen = ["--only", "cross_entropy", "--only", "grad", "--shape", "5x3", "--dtype", "float32", "--seconds", "0"]
    assert peers.main([*chosen, "--peer", "numpy", "--peer", "broken"]) == 1
    assert (
        "failed: broken, cross_entropy with gradient, float32, 5x3: RuntimeError: no compiler"
        in capsys.readouterr().out
    )


def test_peers_are_left_out_only_if_they_are_said_to_be(monkeypatch):
    monkeypatch.setitem(peers.PEERS, "absent", peers.Peer("no_such_package", {}))
    report = peers.measure_all([cell_of(CROSS_ENTROPY)], ["numpy", "absent"], [], 0)
    assert report["peers"] == ["numpy"]
    assert set(report["left out"]) == {*peers.PEERS} - {"numpy", "absent"} | {"absent (not installed)"}
    with pytest.raises(SystemExit):
        peers.main(["--peer", "absent"])


def test_who_takes_more_than_one_thread_is_told():
    found = peers.judge(peers.measure(cell_of(CROSS_ENTROPY), ["numpy"], seconds=0))
    report = {"cells": [{**found, "busy": 1.9}], "summary": {}, "left out": []}
    assert "more than one thread (1.9 CPUs busy): cross_entropy with gradient, float32, 5x3" in peers.report_lines(
        report
    )
    report["cells"] = [{**found, "busy": 1.0}]
    assert not list(peers.report_lines(report))


def test_cells_are_chosen_by_words():
    every = peers.cells(("5x3", "9"))
    assert len(every) == 2 * len(peers.OPS)
    assert {cell.shape for cell in peers.cells(("5x3", "9"), only=["9"])} == {"9"}
    found = peers.cells(("5x3", "9"), only=["cross_entropy,softmax", "value", "float64"])
    assert [str(cell) for cell in found] == ["cross_entropy, float64, 5x3", "softmax, float64, 5x3"]


def test_the_summary_counts_cells_that_are_not_ahead():
    def cell(shape, ours, theirs):
        times = {"lossfast": ours, "numpy": theirs, "jax": 2 * theirs}
        return peers.judge({"op": "softmax", "grad": False, "dtype": "float32", "shape": shape, "times": times})

    found = peers.summary([cell("1x1", 1.0, 4.0), cell("2x2", 2.0, 2.0), cell("3x3", 1.0, 2.0)])["lossfast"]
    assert (found["cells"], found["behind"], found["mean"]) == (3, 1, pytest.approx(2))
    assert (found["worst"]["shape"], found["worst"]["ahead"], found["worst"]["best"]) == ("2x2", 1, "numpy")


@pytest.mark.parametrize("name", ["peers", "targets", "growth", "performance", "check"])
def test_programs_explain_themselves(name):
    assert "examples:" in run("-m", f"benchmarks.{name}", "--help")


# ------------------------------------------------------------------------------------------------------ targets


def test_targets_are_judged_where_they_were_set():
    target = targets.Result("work", "x", 2.0, {"avx512": 2.5, "avx2": 9.0}, ("avx512",))
    assert target.holds("avx512") is False and target.holds("avx2") is None and target.holds("neon") is None
    assert targets.verdict(target.report()) == "falls short by 1.25"
    assert targets.verdict(target._replace(bound=2.5).report()) == "holds"
    least = target._replace(least=True)
    assert least.holds("avx512") and targets.verdict(least._replace(bound=5.0).report()) == "falls short by 2.00"
    assert targets.verdict(target._replace(judged=("neon",)).report()) == "not judged here"
    assert targets.verdict(target._replace(measured={}).report()) == "not measured"


def test_avx2_is_compared_where_it_is_worst():
    first, second = targets.SPEEDS[0], targets.SPEEDS[6]
    assert first.grad and not second.grad
    found = {
        first: {"a": {"avx2": 3.0, "avx512": 2.0}, "b": {"avx2": 4.0, "avx512": 2.0}},
        second: {"a": {"avx2": 3.0, "avx512": 1.0}},
    }
    with_gradient, alone = targets._avx2(found)
    assert with_gradient.measured == {"avx2": 2.0} and with_gradient.at["avx2"].endswith(" b")
    assert with_gradient.holds("avx2") is False and alone.measured == {"avx2": 3.0}


def test_logits_beyond_the_range_are_beyond_it_all():
    inside, beyond = targets.SPEEDS[:2]
    assert (inside.beyond, beyond.beyond) == (False, True)
    assert abs(targets.operands(inside, "50x10")[0]).max() < 40 < targets.operands(beyond, "50x10")[0].min()


def test_the_table_of_targets(tmp_path, monkeypatch, capsys):
    some = (
        targets.Speed("cross_entropy", "value_and_grad", "float32", ("40x10", "8x5"), 1e9, stretch=5),
        targets.Speed("smooth_l1_loss", "value_and_grad", "float64", ("1000",), 1e-9),
        targets.Speed("mse_loss", "value", "float32", (str(2 * targets.QUICK),), 1),
    )
    monkeypatch.setattr(targets, "SPEEDS", some)
    monkeypatch.setattr(targets, "JUDGED", lf.get_isa() if lf.get_backend() == "compiled" else "")
    monkeypatch.setattr(targets, "THREADED", (("cross_entropy", "float32", "1000x10"),))
    monkeypatch.setattr(targets, "MEASURED_BYTES", targets.MEASURED_BYTES[:1])
    found = peers.judge(peers.measure(cell_of(CROSS_ENTROPY), ["numpy"], seconds=0))
    against = tmp_path / "peers.json"
    report = {"machine": common.machine(), "cells": [found], "summary": peers.summary([found])}
    against.write_text(json.dumps(report))
    file = tmp_path / "targets.json"
    if lf.get_backend() != "compiled":
        pytest.skip("nothing was promised of the other backends")
    assert targets.main(["--quick", "--peers", str(against), "--json", str(file)]) == 1
    made = json.loads(file.read_text())
    by_work = {target["work"]: target for target in made["targets"]}
    good, bad, unmeasured = made["targets"][:3]
    assert set(good["measured"]) == set(made["isas"]) == set(lf.isas())
    assert good["holds"][targets.JUDGED] is True and set(good["at"].values()) <= {"40x10", "8x5"}
    assert bad["holds"][targets.JUDGED] is False and unmeasured["measured"] == {}
    memory_ = by_work["extra memory with buffers given, the worst"]
    assert 0 < memory_["measured"][lf.get_isa()] and memory_["bound"] == 1024
    assert by_work["the best peer, the worst of 1 cells"]["measured"][lf.get_isa()] == pytest.approx(
        found["ahead"]["lossfast"], rel=1e-3
    )
    printed = capsys.readouterr().out
    assert "falls short by" in printed and "not measured" in printed and "(stretch 5)" in printed


def test_every_line_of_the_promise_is_a_target():
    """The figures that were set, so that nobody loosens one unseen."""
    bounds = {(s.loss, s.method, s.dtype, s.shapes[0], s.beyond): s.bound for s in targets.SPEEDS}
    assert bounds["cross_entropy", "value_and_grad", "float32", "2048x32000", False] == 1.3
    assert bounds["cross_entropy", "value_and_grad", "float32", "2048x32000", True] == 2.0
    assert bounds["cross_entropy", "value", "float32", "2048x32000", False] == 0.9
    assert bounds["cross_entropy", "value_and_grad", "float32", "32x10", False] == 6
    assert len(bounds) == len(targets.SPEEDS) == 22
    assert (targets.AVX2, targets.THREADS, targets.BYTES) == ({True: 1.7, False: 2.0}, 1.8, 2**20)
    assert (targets.IMPORT_MS, targets.PEERS, targets.PEERS_MEAN) == (30, 1, 8)


# ------------------------------------------------------------------------------------------------------- growth


def test_blocks_are_repeated():
    np.testing.assert_array_equal(growth.tiled(np.arange(6).reshape(3, 2), 7)[:, 0], [0, 2, 4, 0, 2, 4, 0])
    x, labels = growth.operands(growth.Series("cross_entropy", classes=10), 2 * growth.DRAWN)
    assert x.shape == (2 * growth.DRAWN // 10, 10) and labels.shape == x.shape[:1]


def test_arrays_that_do_not_fit_are_shared_or_left_out(monkeypatch):
    free = {"bytes": 0}
    monkeypatch.setattr(growth, "free_bytes", lambda: free["bytes"])
    for series in growth.BY_ELEMENTS:
        free["bytes"] = 1 << 40
        point = growth.point(series, 10_000, 0)
        assert point["in place"] is False and point["ns"] > 0 and point["floor"] > 0
        free["bytes"] = 140_000
        if series.method == "value_and_grad":
            assert growth.point(series, 10_000, 0)["in place"] is True
        free["bytes"] = 20_000
        assert "0.0 GB free" in growth.point(series, 10_000, 0)["left out"]


def test_the_steepest_step():
    points = [{"n": n, "ns": ns} for n, ns in ((1, 9.0), (2, 3.0), (3, 4.5), (5, 5.0))]
    assert growth.steepest([*points, {"n": 9, "left out": "no room"}], "n") == (1.5, 2, 3)
    assert growth.steepest(points[:1], "n") == (1.0, 0, 0)


def test_layouts_are_what_they_say():
    x = np.random.default_rng(1).standard_normal((6, 4)).astype(np.float32)
    found = {name: layout.make(x) for name, layout in growth.layouts().items()}
    np.testing.assert_array_equal(found["axis=0"], x.T)
    assert found["axis=0"].flags.c_contiguous and found["Fortran order"].flags.f_contiguous
    assert found["every second number"].strides == (32, 8) and not found["one byte off"].flags.aligned
    assert not found["the other byte order"].dtype.isnative and found["float16"].dtype == np.float16
    for name in ("Fortran order", "every second number", "one byte off", "the other byte order"):
        np.testing.assert_array_equal(found[name], x)


def test_growth_is_measured(monkeypatch, capsys, tmp_path):
    """All parts, tiny; in_workers and by_memory start processes, and so have their share of the time."""
    monkeypatch.setattr(common, "names", lambda *kinds: ["huber_loss", "softmax"])
    monkeypatch.setattr(growth, "QUICK_CLASSES", (2, 30))
    monkeypatch.setattr(growth, "LAID_OUT", (("cross_entropy", "100x10"), ("huber_loss", "100x10")))
    monkeypatch.setattr(growth, "BY_ELEMENTS", growth.BY_ELEMENTS[:1])
    monkeypatch.setattr(growth, "BY_THREADS", growth.BY_THREADS[:1])
    monkeypatch.setattr(overhead, "IMPORTS", 1)
    interleaved = common.interleaved
    monkeypatch.setattr(common, "interleaved", lambda calls, *_, **__: interleaved(calls, 0.0, 1))
    parts = [part for part in growth.PARTS if part != "memory"]
    file = tmp_path / "growth.json"
    assert growth.main(["--quick", "--json", str(file), *(word for part in parts for word in ("--part", part))]) == 0
    report = json.loads(file.read_text())
    assert set(parts) < set(report) and "memory" not in report
    assert [point["elements"] for point in report["elements"][0]["points"]][::2] == [10**n for n in range(3, 7)]
    assert [point["classes"] for point in report["classes"][0]["points"]] == [2, 30]
    assert all(set(point["seconds"]) >= {"1"} for point in report["threads"][0]["points"])
    assert {found["layout"] for found in report["layouts"]} == set(growth.layouts())
    assert {found["loss"] for found in report["calls"]} == {"huber_loss", "softmax"}
    assert report["import"]["numpy"] > 0 and report["import"]["lossfast"] > 0
    for found in report["workers"]:
        assert found["rate"] > 0 and found["threads"] == (1 if found["backend"] == "loky" else lf.get_num_threads())
    assert "largest step" in capsys.readouterr().out


def test_memory_is_measured_in_a_process_of_its_own():
    taken = common.in_child(memory.extra_bytes, "softmax", "value", "10x1000", 1)
    assert 0 < taken < 2**20


def test_inputs_that_are_too_long_take_no_memory(monkeypatch):
    monkeypatch.setattr(memory, "HELD", 1000)
    seen = []
    monkeypatch.setattr(memory, "traced_bytes", lambda call: seen.append(call.__closure__) or 1)
    monkeypatch.setattr(memory, "resident_bytes", lambda call: 2)
    assert memory.extra_bytes("cross_entropy", "value", "1000000000x3", 1) == 2
    (arguments,) = (cell.cell_contents for cell in seen[0] if isinstance(cell.cell_contents, tuple))
    assert [(array.shape, array.strides[0]) for array in arguments] == [((10**9, 3), 0), ((10**9,), 0)]
