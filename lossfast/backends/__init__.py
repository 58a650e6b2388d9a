"""Which backend does the work: ``compiled``, ``numba`` or ``numpy``, the first that is there.

A backend is a module that offers ``pointwise(job)``, ``rowwise(job)``, ``weigh_pointwise(job)`` and ``weigh_rows(job)``
(see `lossfast._jobs`), and ``quick(loss)``, or None in its place: something whose ``run`` takes the loss's calls if it
understands them. None is imported before the first call that needs one.
"""

from __future__ import annotations

import importlib
import os
import threading
import warnings
from types import ModuleType
from typing import Any

from .._threads import Restore

#: In the order in which they are tried.
NAMES = ("compiled", "numba", "numpy")


class SettingError(ValueError):
    """Raised by a backend whose environment variable asks for what cannot be had: an error, no reason to fall back."""


#: The backend in use; None until the first call.
current: ModuleType | None = None
_fell_back = False
_lock = threading.RLock()


def get() -> Any:
    """The backend in use; the first call chooses it."""
    return current or _choose()


def _choose() -> ModuleType:
    global current, _fell_back
    with _lock:
        if current is not None:
            return current
        asked = os.environ.get("LOSSFAST_BACKEND")
        if asked:
            current = load(asked, "LOSSFAST_BACKEND")
            return current
        failures = []
        for name in NAMES:
            try:
                found = load(name)
            except ImportError as error:
                failures.append(str(error))
                continue
            if failures and not _fell_back:
                _fell_back = True
                warnings.warn(
                    f"lossfast falls back to its {name} backend, slower: {'; '.join(failures)}. Install it with "
                    f"a C compiler at hand, or set LOSSFAST_BACKEND={name} to choose it without this warning.",
                    RuntimeWarning,
                    stacklevel=5,  # get, a private method and a public one lie between this and the caller
                )
            current = found
            return found
        raise ImportError("; ".join(failures))


def load(name: str, source: str = "backend") -> ModuleType:
    """The backend of that name, or an ImportError that says why it cannot be had."""
    if name not in NAMES:
        raise ValueError(f"{source} must be one of {', '.join(NAMES)}, got {name!r}")
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except SettingError:
        raise
    except Exception as error:  # a broken Numba raises anything; whatever it is, the backend is not to be had
        raise ImportError(f"the {name} backend is not available ({type(error).__name__}: {error})") from error


def use_backend(name: str) -> Restore:
    """Choose the backend for the whole process, at once.

    Parameters
    ----------
    name : {"compiled", "numba", "numpy"}

    Returns
    -------
    context manager
        Used in ``with``, it restores the old choice at the end.

    Raises
    ------
    ValueError
        The name is unknown.
    ImportError
        The backend cannot be had here; the message says why.

    Examples
    --------
    >>> import lossfast as lf
    >>> with lf.use_backend("numpy"):
    ...     lf.get_backend()
    'numpy'
    """
    global current
    chosen = load(name)
    with _lock:
        old, current = current, chosen
    return Restore(_put_back, old)


def _put_back(old: ModuleType | None) -> None:
    global current
    with _lock:
        current = old


def get_backend() -> str:
    """The name of the backend in use.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.get_backend() in ("compiled", "numba", "numpy")
    True
    """
    return get().__name__.rpartition(".")[2]


def isas() -> tuple[str, ...]:
    """The instruction sets that were built and that this CPU runs, slowest first.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.isas()  # doctest: +SKIP
    ('baseline', 'avx2', 'avx512')
    """
    compiled: Any = load("compiled")
    return tuple(compiled.isas())


def get_isa() -> str:
    """The name of the instruction set that the compiled backend uses.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.get_isa()  # doctest: +SKIP
    'avx512'
    """
    compiled: Any = load("compiled")
    return str(compiled.get_isa())


def use_isa(name: str) -> Restore:
    """Choose the instruction set of the compiled backend for the whole process, at once.

    Parameters
    ----------
    name : str
        One of `isas`.

    Returns
    -------
    context manager
        Used in ``with``, it restores the old choice at the end.

    Raises
    ------
    ValueError
        The name is unknown, or this CPU does not run it.
    ImportError
        The compiled backend is not available.

    Examples
    --------
    >>> import lossfast as lf
    >>> with lf.use_isa("avx2"):  # doctest: +SKIP
    ...     lf.get_isa()
    'avx2'
    """
    compiled: Any = load("compiled")
    if name not in compiled.isas():
        raise ValueError(f"instruction set must be one of {', '.join(compiled.isas())}, got {name!r}")
    old = compiled.get_isa()
    compiled.use_isa(name)
    return Restore(compiled.use_isa, old)
