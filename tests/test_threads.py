"""The pool, the number of threads, and what happens to them in forks, errors and interrupts."""

import math
import multiprocessing
import operator
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest

import lossfast as lf
from lossfast import _threads


def spans(size, slice_size, n_threads):
    return listed(lambda start, stop: (start, stop), size, slice_size, n_threads)


def listed(work, size, slice_size, n_threads):
    """The results of all slices."""
    return _threads.run(lambda start, stop: [work(start, stop)], size, slice_size, n_threads, operator.iadd)


@pytest.mark.parametrize("n_threads", [-1, 0, 1, 2, 3, 7, 10**9])
@pytest.mark.parametrize(("size", "slice_size"), [(0, 5), (1, 5), (5, 5), (6, 5), (1000, 7)])
def test_results_come_in_slice_order_whatever_the_threads(size, slice_size, n_threads):
    expected = [(start, min(start + slice_size, size)) for start in range(0, max(1, size), slice_size)]
    assert spans(size, slice_size, n_threads) == expected


def test_slices_run_at_the_same_time():
    both = threading.Barrier(2, timeout=20)
    assert len(set(listed(lambda start, stop: (both.wait(), threading.get_ident())[1], 2, 1, 2))) == 2


def test_a_nested_call_is_serial():
    def work(start, stop):
        inner = listed(lambda start, stop: threading.get_ident(), 20, 1, 8)
        return set(inner) == {threading.get_ident()}

    assert all(listed(work, 20, 1, 4))


@pytest.mark.parametrize("n_threads", [1, 4])
def test_an_error_stops_the_call_and_leaves_the_pool_usable(n_threads):
    begun = []

    def work(start, stop):
        begun.append(start)
        if start == 3:
            raise MemoryError("enough")
        time.sleep(0.001)

    with pytest.raises(MemoryError, match="enough"):
        listed(work, 1000, 1, n_threads)
    count = len(begun)
    assert count < 100
    time.sleep(0.02)
    assert len(begun) == count  # nobody is still at work
    assert len(spans(100, 1, n_threads)) == 100


def test_a_slow_slice_holds_up_the_others_before_their_results_take_much_memory():
    begun, first = [], threading.Event()

    def work(start, stop):
        begun.append(start)
        if start == 0:
            first.wait(0.5)
            assert len(begun) <= _threads.AHEAD
        return start

    size = 10 * _threads.AHEAD
    assert listed(work, size, 1, 3) == list(range(size))


@pytest.mark.parametrize("n_threads", [1, 3])
def test_an_error_also_ends_those_who_wait_for_a_slow_slice(n_threads):
    def work(start, stop):
        if start == 0:
            time.sleep(0.3)
            raise MemoryError("enough")

    with pytest.raises(MemoryError, match="enough"):
        listed(work, 10 * _threads.AHEAD, 1, n_threads)
    assert len(spans(100, 1, n_threads)) == 100


def test_an_error_in_adding_up_is_raised():
    def plus(total, more):
        raise OverflowError("too much")

    for n_threads in (1, 3):
        with pytest.raises(OverflowError, match="too much"):
            _threads.run(lambda start, stop: start, 100, 1, n_threads, plus)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("what", ["pointwise", "rowwise", "weights", "weights of rows"])
def test_memory_does_not_grow_with_the_number_of_slices(what, n_threads, monkeypatch):
    compiled = pytest.importorskip("lossfast.backends.compiled")
    monkeypatch.setattr(compiled, "SLICE", 256)
    if what in ("pointwise", "weights"):
        x, weight, loss = np.broadcast_to(np.float32(1), (8_000_000,)), np.broadcast_to(2.0, (8_000_000,)), lf.l1_loss
        target = x
    else:
        x, weight = np.broadcast_to(np.float32(1), (4_000_000, 2)), np.broadcast_to(2.0, (4_000_000,))
        target, loss = np.broadcast_to(np.int8(1), weight.shape), lf.cross_entropy
    loss = loss.bind()  # which has its own idea of what is quick
    slices, work = [], _threads.run

    def counted(do, size, slice_size, *rest):
        slices.append(-(-size // slice_size))
        return work(do, size, slice_size, *rest)

    monkeypatch.setattr(_threads, "run", counted)

    def call():
        if "weights" in what:
            loss.weigh(x, target, sample_weight=weight, n_threads=n_threads)
        else:
            loss(x, target, n_threads=n_threads)

    with lf.use_backend("compiled"):
        call()
        tracemalloc.start()
        try:
            call()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert max(slices) > 3000
    assert peak < 150_000  # a hundred bytes a slice would be more


def test_threads_that_cannot_start_are_done_without(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_threads, "_pool", _threads._Pool())
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert len(spans(100, 1, 8)) == 100


def test_calls_from_many_threads_at_once():
    results = [None] * 8

    def call(index):
        results[index] = [spans(50 + index, 3, 3) for _ in range(20)]

    threads = [threading.Thread(target=call, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for index, result in enumerate(results):
        assert result == [spans(50 + index, 3, 1)] * 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_makes_its_own_pool():
    spans(100, 1, 3)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(spans_of_a_child).get(30) == spans(100, 1, 1)


def spans_of_a_child():
    return spans(100, 1, 3)


INTERRUPTED = """
import operator, os, signal, sys, threading, time
from lossfast import _threads
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored in the background
def work(start, stop):
    if start == 10:
        print("begun", flush=True)
    time.sleep(0.01)
    return 1
try:
    _threads.run(work, 100_000, 1, {n_threads}, operator.add)
except KeyboardInterrupt:
    print(_threads.run(work, 100, 10, 2, operator.add), flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("n_threads", [1, 3])
def test_ctrl_c_acts_within_a_second(n_threads):
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED.format(n_threads=n_threads)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "begun\n"
    begun = time.perf_counter()
    child.send_signal(signal.SIGINT)
    output, _ = child.communicate(timeout=30)
    assert output.endswith("10\n")
    assert time.perf_counter() - begun < 1 + 0.2  # and a little for the interpreter to end


# ---------------------------------------------------------------------------------------------------- how many


def test_the_number_can_be_set_and_restored():
    before = lf.get_num_threads()
    with lf.set_num_threads(3):
        assert lf.get_num_threads() == 3
        with lf.set_num_threads(5):
            assert lf.get_num_threads() == 5
        assert lf.get_num_threads() == 3
        lf.set_num_threads(0)
        assert lf.get_num_threads() == 1
        lf.set_num_threads(None)
        assert lf.get_num_threads() == _threads.default_num_threads()
    assert lf.get_num_threads() == before
    with pytest.raises(TypeError, match="two"):
        lf.set_num_threads("two")


def num_threads_of_a_child(code="pass", **environment):
    names = ("LOSSFAST_NUM_THREADS", "OMP_NUM_THREADS")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    code = f"import lossfast as lf; {code}; print(lf.get_num_threads())"
    return subprocess.run(
        [sys.executable, "-c", code], env={**kept, **environment}, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"LOSSFAST_NUM_THREADS": "3"}, 3),
        ({"LOSSFAST_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, 3),
        ({"OMP_NUM_THREADS": "5,2"}, 5),
        ({"OMP_NUM_THREADS": "many"}, _threads.usable_cpus()),
        ({}, _threads.usable_cpus()),
    ],
)
def test_the_default_comes_from_the_environment(environment, expected):
    assert num_threads_of_a_child(**environment).stdout == f"{expected}\n"


def test_a_number_that_is_none_is_an_error():
    child = num_threads_of_a_child(LOSSFAST_NUM_THREADS="many")
    assert child.stderr.endswith("ValueError: LOSSFAST_NUM_THREADS must be an integer, got 'many'\n")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_the_default_is_at_most_the_affinity():
    child = num_threads_of_a_child("import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])")
    assert child.stdout == "1\n"


@pytest.mark.parametrize(
    ("membership", "files", "cpus"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"cpu.max": "max 100000\n", "a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000\n"}, 2.0),
        ("0::/not/there\n", {"cpu.max": "300000 100000\n"}, 3.0),
        ("3:cpu,cpuacct:/a\n1:memory:/a\n", {"cpu,cpuacct/a/cpu.cfs_quota_us": "50000\n"}, 0.5),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n"}, math.inf),
        ("1:memory:/a\n", {"memory/a/cpu.cfs_quota_us": "50000\n"}, math.inf),
        ("", {}, math.inf),
    ],
)
def test_control_groups_limit_the_cpus(tmp_path, membership, files, cpus):
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if name.endswith("quota_us"):
            path.with_name("cpu.cfs_period_us").write_text("100000\n")
    assert _threads.quota_cpus(str(tmp_path / "root"), str(tmp_path / "membership")) == cpus


@pytest.mark.parametrize("first", ["lossfast", "threadpoolctl"])
def test_threadpoolctl_limits_the_default(first):
    pytest.importorskip("threadpoolctl")
    second = {"lossfast": "threadpoolctl", "threadpoolctl": "lossfast"}[first]
    code = f"""
import importlib.util, sys
import {first}
importlib.util.find_spec("threadpoolctl")
import {second}
from threadpoolctl import threadpool_info, threadpool_limits
before = lossfast.get_num_threads()
with threadpool_limits(3):
    assert lossfast.get_num_threads() == 3
assert lossfast.get_num_threads() == before
with threadpool_limits(3, user_api="blas"):
    assert lossfast.get_num_threads() == before
with threadpool_limits({{"lossfast": 5}}):
    assert lossfast.get_num_threads() == 5
[ours] = [entry for entry in threadpool_info() if entry["user_api"] == "lossfast"]
assert ours["num_threads"] == before and ours["version"] == lossfast.__version__
assert threadpoolctl.__spec__.loader is threadpoolctl.__loader__
assert "lossfast" not in type(threadpoolctl.__loader__).__module__
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_importing_lossfast_imports_neither_numba_nor_threadpoolctl():
    code = "import sys, lossfast; print([name for name in ('numba', 'threadpoolctl', 'scipy') if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60) == "[]\n"


# ------------------------------------------------------------------------------------------------------- calls


@pytest.mark.parametrize("name", ["cross_entropy", "smooth_l1_loss"])
def test_no_bit_depends_on_the_number_of_threads(name):
    random = np.random.default_rng(3)
    x = random.normal(size=(30_011, 10)).astype(np.float32)
    target = random.integers(10, size=len(x)) if name == "cross_entropy" else x[::-1].copy()
    loss = lf.get_loss(name)
    value, grad = loss.value_and_grad(x, target, n_threads=1)
    for n_threads in (0, 2, 3, 7, 10**6):
        other_value, other_grad = loss.value_and_grad(x, target, n_threads=n_threads)
        assert other_value == value
        assert np.array_equal(other_grad.view(np.uint32), grad.view(np.uint32))
