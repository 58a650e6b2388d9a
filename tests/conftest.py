"""What every test may count on: figures are never shown, and no choice of a backend or of threads outlives a test."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["LOSSFAST_BENCH_QUICK"] = "1"  # read when the benchmarks are imported, by whichever test is first

import lossfast as lf  # noqa: E402
from lossfast import backends  # noqa: E402


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`variant`, and of the compiled backend `compiled`: VARIANTS; `every_isa` and `each_backend` by their names."""
    from variants import BACKENDS, COMPILED, VARIANTS

    compiled = [variant for variant in VARIANTS if variant in COMPILED]
    chosen = {"variant": VARIANTS, "compiled": compiled, "every_isa": COMPILED, "each_backend": BACKENDS}
    for name, found in chosen.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, found, ids=str, scope="module")


@pytest.fixture(autouse=True)
def choices() -> Iterator[None]:
    """Put back the backend, the instruction set and the number of threads that a test has changed."""
    backend: Any = backends.current
    isa = backend.get_isa() if hasattr(backend, "get_isa") else None
    with lf.set_num_threads(lf.get_num_threads()):
        yield
    backends.current = backend
    if isa is not None:
        backend.use_isa(isa)
