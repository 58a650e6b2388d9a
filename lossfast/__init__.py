"""Loss functions and their analytic derivatives on the CPU, over NumPy arrays: fast, accurate and safe.

>>> import lossfast as lf
>>> lf.cross_entropy([[20.0, 0.0]], [0])
2.061153620314381e-09

Every loss is a callable object. Called, it gives the loss; ``value_and_grad``, ``grad``, ``grad_and_hess``, ``hvp``,
``evaluate`` and ``reduce`` are its methods. `losses` lists them all.
"""

from typing import TYPE_CHECKING, Any

from . import embeddings, entrywise, pointwise, rowwise  # noqa: F401 (fill the registry)
from ._loss import ALIASES, REGISTRY, get_loss, losses
from ._reduction import Reduction
from ._sparse import TopK
from ._threads import get_num_threads, set_num_threads
from .backends import get_backend, get_isa, isas, use_backend, use_isa
from .entrywise import perplexity

__version__ = "0.1.0"
__all__ = [
    "Reduction",
    "TopK",
    "__version__",
    "get_backend",
    "get_isa",
    "get_loss",
    "get_num_threads",
    "isas",
    "losses",
    "perplexity",
    "set_num_threads",
    "use_backend",
    "use_isa",
    *losses(),
]

globals().update({**ALIASES, **REGISTRY})

#: Where doctest finds the examples of the losses, which are objects and not functions.
__test__ = {name: loss.__doc__ for name, loss in REGISTRY.items()}

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...  # the losses, which the registry adds
