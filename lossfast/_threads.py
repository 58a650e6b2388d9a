"""Threads: how many, and the one pool they live in.

The pool is a few daemon threads that wait for calls to help with; the caller always works too, so a call that finds no
helper free (or none that can be started) merely takes longer. Slices are claimed one at a time, and their results are
added up in slice order, so nothing depends on who did what.
"""

from __future__ import annotations

import functools
import math
import operator
import os
import queue
import sys
import threading
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeVar

Result = TypeVar("Result")

#: More threads than this are never started, whatever ``n_threads`` says.
MAX_THREADS = max(64, 2 * (os.cpu_count() or 1))
#: No slice is begun this many after the first that is not done, so that few results wait for it.
AHEAD = 4 * MAX_THREADS


class Restore:
    """What the process-wide setters return: used in ``with``, it puts the old choice back at the end."""

    def __init__(self, put_back: Callable[[Any], Any], old: Any) -> None:
        self._put_back = put_back
        self._old = old

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: object) -> None:
        self._put_back(self._old)


# ---------------------------------------------------------------------------------------------------- how many


def quota_cpus(root: str = "/sys/fs/cgroup", membership: str = "/proc/self/cgroup") -> float:
    """The CPUs that this process's control group may use (version 1 or 2); infinite where nothing limits it."""
    try:
        lines = _read(membership).splitlines()
    except OSError:
        return math.inf
    limit = math.inf
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for base in [root] if not controllers else [f"{root}/{controllers}", f"{root}/cpu"]:
            # A parent's quota binds its children. Inside a container the path may name nothing, but the root does.
            parts = path.strip("/").split("/")
            for depth in range(len(parts) + 1):
                folder = "/".join([base, *parts[:depth]])
                limit = min(limit, _folder_quota(folder, unified=not controllers))
    return limit


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _folder_quota(folder: str, unified: bool) -> float:
    try:
        if unified:
            quota, period = _read(f"{folder}/cpu.max").split()
        else:
            quota, period = (_read(f"{folder}/cpu.cfs_{part}_us").strip() for part in ("quota", "period"))
        return float(quota) / float(period) if quota not in ("max", "-1") else math.inf
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf  # no such file, or none of ours: no limit that we can know of


def usable_cpus() -> int:
    """The CPUs that this process may use: its affinity, and its control group's quota (rounded up)."""
    if hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    return max(1, min(cpus, math.ceil(min(quota_cpus(), cpus))))


@functools.cache
def default_num_threads() -> int:
    """``LOSSFAST_NUM_THREADS``, else ``OMP_NUM_THREADS`` (its first entry), else the usable CPUs; found once."""
    own = os.environ.get("LOSSFAST_NUM_THREADS")
    if own:
        try:
            return max(1, int(own))
        except ValueError:
            raise ValueError(f"LOSSFAST_NUM_THREADS must be an integer, got {own!r}") from None
    shared = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return max(1, int(shared)) if shared.isdecimal() else usable_cpus()


_chosen: int | None = None


def get_num_threads() -> int:
    """The number of threads that a call takes unless it is told otherwise.

    It is what `set_num_threads` (or ``threadpoolctl``) last said; at first, the environment variable
    ``LOSSFAST_NUM_THREADS``, else ``OMP_NUM_THREADS``, else the number of CPUs that this process may use.

    Examples
    --------
    >>> import lossfast as lf
    >>> with lf.set_num_threads(2):
    ...     lf.get_num_threads()
    2
    """
    return _chosen if _chosen is not None else default_num_threads()


def set_num_threads(n_threads: int | None) -> Restore:
    """Set the number of threads that a call takes unless it is told otherwise, for the whole process and at once.

    No bit of any result depends on it.

    Parameters
    ----------
    n_threads : int or None
        Numbers below 1 count as 1; None returns to the default.

    Returns
    -------
    context manager
        Used in ``with``, it restores the old number at the end.

    Examples
    --------
    >>> import lossfast as lf
    >>> with lf.set_num_threads(1):
    ...     loss = lf.cross_entropy([[1.0, 2.0]], [1])
    """
    global _chosen
    old = _chosen
    _chosen = None if n_threads is None else check_n_threads("n_threads", n_threads)
    return Restore(_put_back, old)


def _put_back(old: int | None) -> None:
    global _chosen
    _chosen = old


def check_n_threads(name: str, value: Any) -> int:
    """An integer, of which all below 1 mean 1."""
    try:
        return max(1, operator.index(value))
    except TypeError:
        raise TypeError(f"{name} must be an integer or None, got {value!r}") from None


# -------------------------------------------------------------------------------------------------------- pool


class _Call(threading.Condition):
    """One call of `run`: slices to claim, what their results add up to, and who is at work on it."""

    def __init__(
        self,
        work: Callable[[int, int], Any],
        size: int,
        slice_size: int,
        slices: int,
        plus: Callable[[Any, Any], Any],
    ) -> None:
        super().__init__(threading.Lock())
        self.work = work
        self.size = size
        self.slice_size = slice_size
        self.slices = slices
        self.plus = plus
        self.claimed = 0
        self.added = 0
        self.total: Any = None
        self.early: dict[int, Any] = {}  # results that wait for one before them
        self.helpers = 0
        self.error: BaseException | None = None

    def claim(self) -> int | None:
        with self:
            while not self.is_over() and self.claimed - self.added >= AHEAD:
                self.wait()
            if self.is_over():
                return None
            self.claimed += 1
            return self.claimed - 1

    def is_over(self) -> bool:
        """Whether there is nothing more to claim."""
        return self.error is not None or self.claimed == self.slices

    def add(self, index: int, result: Any) -> None:
        """Add a slice's result, and what has waited for it, as soon as all before it are."""
        with self:
            self.early[index] = result
            while self.added in self.early:
                result = self.early.pop(self.added)
                self.total = self.plus(self.total, result) if self.added else result
                self.added += 1
            self.notify_all()

    def take_part(self) -> None:
        nested, _local.inside = inside(), True
        try:
            while (index := self.claim()) is not None:
                start = index * self.slice_size
                self.add(index, self.work(start, min(start + self.slice_size, self.size)))
        except BaseException as error:  # handed to the calling thread, which raises it
            self.fail(error)
        finally:
            _local.inside = nested

    def fail(self, error: BaseException) -> None:
        with self:
            self.error = self.error or error
            self.notify_all()

    def help(self) -> None:
        """What a thread of the pool does with the call: nothing, if it comes too late."""
        with self:
            if self.is_over():
                return
            self.helpers += 1
        self.take_part()
        with self:
            self.helpers -= 1
            self.notify_all()

    def wait_for_helpers(self) -> None:
        """Return when nobody touches the call's arrays any more; an interrupt meanwhile only shortens the work."""
        while True:
            try:
                with self:
                    while self.helpers:
                        self.wait()
                return
            except KeyboardInterrupt as error:
                self.fail(error)


class _Pool:
    """Threads that help with calls; never fewer once started, and as many as the largest call has asked for."""

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.threads = 0

    def ask(self, call: _Call, helpers: int) -> None:
        with self.lock:
            while self.threads < helpers:
                thread = threading.Thread(target=self.serve, name=f"lossfast-{self.threads}", daemon=True)
                try:
                    thread.start()
                except (RuntimeError, MemoryError):  # no more threads to be had: those there are will do
                    break
                self.threads += 1
            helpers = min(helpers, self.threads)
        for _ in range(helpers):
            self.calls.put(call)

    def serve(self) -> None:
        while True:
            call = self.calls.get()
            call.help()
            del call  # or the last call's arrays would live until the next


_pool = _Pool()
_local = threading.local()


def inside() -> bool:
    """Whether this thread is at work on a slice, so that a nested call has to run serially."""
    return getattr(_local, "inside", False)


def _after_fork() -> None:
    global _pool, _local
    _pool = _Pool()
    _local = threading.local()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def run(
    work: Callable[[int, int], Result],
    size: int,
    slice_size: int,
    n_threads: int,
    plus: Callable[[Result, Result], Result],
) -> Result:
    """The results of ``work(start, stop)`` for the consecutive slices of ``range(size)``, added up in their order.

    The slices (one at least) depend on ``size`` and ``slice_size`` only, so that what the results add up to does not
    depend on the number of threads. Few results are kept at a time, however many slices there are. The calling thread
    takes part. When a slice raises, no other is begun, and the error is raised here once the slices under way have
    ended; Ctrl-C acts likewise between slices. A call from inside a slice is serial.
    """
    slices = max(1, -(-size // slice_size))
    helpers = min(n_threads, slices, MAX_THREADS) - 1
    if helpers < 1 or inside():
        starts = range(0, slices * slice_size, slice_size)
        return functools.reduce(plus, (work(start, min(start + slice_size, size)) for start in starts))
    call = _Call(work, size, slice_size, slices, plus)
    try:
        _pool.ask(call, helpers)
        call.take_part()
    except BaseException as error:
        call.fail(error)
    call.wait_for_helpers()
    if call.error is not None:
        try:
            raise call.error
        finally:
            del call  # error -> traceback -> this frame -> call -> error would be a cycle holding the arrays
    total: Result = call.total
    return total


# ----------------------------------------------------------------------------------------------- threadpoolctl


def _register(threadpoolctl: ModuleType) -> None:
    """Let ``threadpoolctl.threadpool_limits`` see and set the default number of threads."""

    class LossfastController(threadpoolctl.LibController):  # type: ignore[name-defined]
        user_api = internal_api = "lossfast"
        # A controller belongs to a shared library that is loaded. NumPy's is, whichever the backend.
        filename_prefixes = ("_multiarray_umath.",)

        def get_num_threads(self) -> int:
            return get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            set_num_threads(num_threads)

        def get_version(self) -> str:
            return str(sys.modules["lossfast"].__version__)

    threadpoolctl.register(LossfastController)


class _RegisterOnImport:
    """Registers when ``threadpoolctl`` is imported, so that we need not import it.

    A finder that finds the module as it would have been found, and a loader that loads it likewise and then registers.
    """

    loader: Any

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "threadpoolctl":
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            self.loader, spec.loader = spec.loader, self  # type: ignore[assignment]
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self.loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None
        spec.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)
        sys.meta_path.remove(self)
        _register(module)


if "threadpoolctl" in sys.modules:
    _register(sys.modules["threadpoolctl"])
else:
    sys.meta_path.insert(0, _RegisterOnImport())
