"""How a backend and an instruction set are chosen, and what happens when they are not there."""

import os
import subprocess
import sys
import warnings

import pytest
from variants import VARIANTS

import lossfast as lf
from lossfast import backends


def test_the_backend_can_be_chosen_and_restored():
    before = lf.get_backend()
    for variant in VARIANTS:
        with variant.chosen():
            assert lf.get_backend() == variant.backend
            with pytest.raises(ValueError, match="backend must be one of compiled, numba, numpy, got 'cuda'"):
                lf.use_backend("cuda")
            assert lf.get_backend() == variant.backend
    assert lf.get_backend() == before


def backend_of_a_child(code="pass", **environment):
    code = f"import lossfast as lf; {code}; lf.cross_entropy([[1.0, 2.0]], [0]); print(lf.get_backend())"
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True
    )


def test_the_environment_chooses_the_backend():
    child = backend_of_a_child(LOSSFAST_BACKEND="numpy")
    assert (child.stdout, child.stderr) == ("numpy\n", "")
    child = backend_of_a_child(LOSSFAST_BACKEND="cuda")
    assert child.stderr.endswith("ValueError: LOSSFAST_BACKEND must be one of compiled, numba, numpy, got 'cuda'\n")
    # None in sys.modules makes an import fail, as a module that was not built does.
    missing = "import sys; sys.modules['lossfast.backends.compiled'] = None"
    child = backend_of_a_child(missing, LOSSFAST_BACKEND="compiled")
    assert "ImportError: the compiled backend is not available" in child.stderr


def test_falling_back_warns_once(monkeypatch):
    def load(name, source=""):
        if name != "numpy":
            raise ImportError(f"the {name} backend is not available (here)")
        return sys.modules["lossfast.backends.numpy"]

    monkeypatch.delenv("LOSSFAST_BACKEND", raising=False)
    monkeypatch.setattr(backends, "load", load)
    monkeypatch.setattr(backends, "current", None)
    monkeypatch.setattr(backends, "_fell_back", False)
    with pytest.warns(RuntimeWarning, match="falls back to its numpy backend.*compiled.*numba.*C compiler") as caught:
        lf.mse_loss([1.0], [0.0])
    assert len(caught) == 1 and caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lf.mse_loss([1.0], [0.0])
        monkeypatch.setattr(backends, "current", None)  # as after a `with use_backend(...)` before the first call
        lf.mse_loss([1.0], [0.0])


def test_instruction_sets():
    try:
        backends.load("compiled")
    except ImportError:
        for call in (lf.isas, lf.get_isa, lambda: lf.use_isa("baseline")):
            with pytest.raises(ImportError, match="the compiled backend is not available"):
                call()
        return
    before = lf.get_isa()
    for isa in lf.isas():
        with lf.use_isa(isa):
            assert lf.get_isa() == isa
    assert lf.get_isa() == before
    with pytest.raises(ValueError, match="got 'sse9'"):
        lf.use_isa("sse9")
    child = backend_of_a_child(LOSSFAST_ISA="sse9", LOSSFAST_BACKEND="")
    assert "LOSSFAST_ISA" in child.stderr.splitlines()[-1] and "sse9" in child.stderr.splitlines()[-1]
