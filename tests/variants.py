"""Every backend and instruction set that is there; LOSSFAST_BACKEND and LOSSFAST_ISA narrow the choice."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lossfast as lf
from lossfast import backends

#: The bound of the backends that compute in float64 and round; the compiled one's is each loss's own.
OTHERS_ULP = 4


@dataclass(frozen=True)
class Variant:
    """A backend, of the compiled one with an instruction set."""

    backend: str
    isa: str | None = None

    def __str__(self) -> str:
        return self.backend if self.isa is None else f"{self.backend}-{self.isa}"

    @contextlib.contextmanager
    def chosen(self) -> Iterator[Any]:
        """Everything within runs on it; gives the backend's module."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(lf.use_backend(self.backend))
            if self.isa is not None:
                stack.enter_context(lf.use_isa(self.isa))
            yield backends.load(self.backend)

    @property
    def environment(self) -> dict[str, str]:
        """What makes a child process use it."""
        return {"LOSSFAST_BACKEND": self.backend, **({} if self.isa is None else {"LOSSFAST_ISA": self.isa})}

    def ulp(self, loss: Any, output: str = "grad") -> float:
        """The published bound of an output of a loss."""
        return loss.bound(output) if self.backend == "compiled" else max(loss.bound(output), OTHERS_ULP)


def _found() -> Iterator[Variant]:
    asked, asked_isa = os.environ.get("LOSSFAST_BACKEND"), os.environ.get("LOSSFAST_ISA")
    for name in [asked] if asked else backends.NAMES:
        try:
            backends.load(name)
        except ImportError:
            continue
        if name == "compiled":
            yield from (Variant(name, isa) for isa in reversed(lf.isas()) if asked_isa in (None, "", isa))
        else:
            yield Variant(name)


#: All there are; the best comes first.
EVERY = tuple(_found())
COMPILED = tuple(variant for variant in EVERY if variant.isa is not None)


def _alike(variant: Variant) -> bool:
    """Whether a better instruction set gives the same bits; `test_hashes` holds both to the same digests."""
    return variant.isa == "avx2" and variant != EVERY[0] and not os.environ.get("LOSSFAST_TEST_EVERY")


#: What most tests run on: with LOSSFAST_TEST_EVERY all there are, else one of those whose bits are the same.
VARIANTS = tuple(variant for variant in EVERY if not _alike(variant))

#: What arguments are tried on, of which instruction sets know nothing: with LOSSFAST_TEST_EVERY all there are, else the
#: best of each backend.
BACKENDS = EVERY if os.environ.get("LOSSFAST_TEST_EVERY") else tuple({v.backend: v for v in reversed(EVERY)}.values())
