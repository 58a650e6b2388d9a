"""What every test may count on: figures are never shown, and no choice of a backend or of threads outlives a test."""

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture(autouse=True)
def choices() -> Iterator[None]:
    """Put back the backend and the number of threads that a test has changed."""
    import lossfast as lf
    from lossfast import backends

    backend = backends.current
    with lf.set_num_threads(lf.get_num_threads()):
        yield
    backends.current = backend
