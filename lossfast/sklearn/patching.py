"""Make scikit-learn's own estimators use lossfast, without a change to the code that uses them.

All losses of its logistic regression, generalised linear models, gradient boosting and calibration are computed by the
object that one of the classes in ``sklearn._loss.loss`` holds as ``closs``. `patch` puts lossfast's into the names
from which those classes make that object, in the one module that has them. So no class of scikit-learn's is replaced:
whatever imported them has them still, ``isinstance`` means what it meant, and a model fitted while patched can be
loaded without lossfast. Objects made before keep what they have.

That interface is private to scikit-learn. So `patch` asks two things first: whether this version is one that the
library has been tested with, and whether every loss there gives the same with lossfast inside. If not, nothing is
changed.
"""

from __future__ import annotations

import importlib
import threading
from types import ModuleType
from typing import Any

import numpy as np

from lossfast._threads import Restore

#: Versions of scikit-learn whose own tests pass with the patch: see benchmarks/sklearn_suites.py.
TESTED = ("1.9.1",)

_lock = threading.RLock()
#: What the names had before, by name; empty while nothing is patched.
_originals: dict[str, Any] = {}


class PatchError(RuntimeError):
    """scikit-learn is not as it should be for `patch`, which has changed nothing."""


def patch() -> Restore:
    """Let scikit-learn's estimators compute their losses with lossfast, in the whole process, at once.

    Those are ``LogisticRegression``, ``LogisticRegressionCV``, ``PoissonRegressor``, ``GammaRegressor``,
    ``TweedieRegressor``, ``GradientBoostingClassifier`` and ``-Regressor``, ``HistGradientBoostingClassifier`` and
    ``-Regressor``, and ``CalibratedClassifierCV``. Solvers of theirs that have losses compiled in go on without:
    ``"liblinear"``, ``"sag"`` and ``"saga"``. A second call changes nothing.

    Returns
    -------
    context manager
        Used in ``with``, it brings back at the end what there was before.

    Raises
    ------
    PatchError
        This version of scikit-learn has not been tested, or its private interface is not what it was. Nothing has been
        changed.

    See Also
    --------
    unpatch, is_patched

    Notes
    -----
    It is the process that is patched. A forked child is too; a fresh one is not, and joblib's default workers are
    fresh: what runs there with ``n_jobs`` above 1 is scikit-learn as it is, with the same results but for rounding.
    Give them ``patch`` to start with: ``joblib.parallel_config("loky", initializer=lossfast.sklearn.patch)``.

    Estimators that were fitted while patched are pickled as if they had not been.

    Examples
    --------
    >>> from lossfast.sklearn import is_patched, patch
    >>> from sklearn.linear_model import LogisticRegression
    >>> with patch():
    ...     model = LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 1, 0, 1])
    >>> is_patched()
    False
    """
    with _lock:
        before = is_patched()
        if not before:
            module, stand_ins = _verified()
            _originals.update({name: getattr(module, name) for name in stand_ins})
            for name, stand_in in stand_ins.items():
                setattr(module, name, stand_in)
    return Restore(_put_back, before)


def unpatch() -> None:
    """Give scikit-learn's estimators their own losses back; without `patch` before, nothing happens.

    Examples
    --------
    >>> from lossfast.sklearn import is_patched, patch, unpatch
    >>> restore = patch()
    >>> is_patched()
    True
    >>> unpatch()
    >>> is_patched()
    False
    """
    with _lock:
        if _originals:
            module = importlib.import_module("sklearn._loss.loss")
            for name, original in _originals.items():
                setattr(module, name, original)
            _originals.clear()


def is_patched() -> bool:
    """Whether scikit-learn's estimators compute their losses with lossfast.

    Examples
    --------
    >>> from lossfast.sklearn import is_patched
    >>> is_patched()
    False
    """
    return bool(_originals)


def _put_back(before: bool) -> None:
    if not before:
        unpatch()


# ---------------------------------------------------------------------------------------------- what is asked first


def _verified() -> tuple[ModuleType, dict[str, Any]]:
    """The module that has the names, and what is to stand in for them; a `PatchError` if anything is not as it was."""
    import sklearn

    if sklearn.__version__ not in TESTED:
        raise PatchError(
            f"scikit-learn {sklearn.__version__} is not among the versions that lossfast.sklearn.patch has been tested "
            f"with ({', '.join(TESTED)}); nothing has been changed. The objects in lossfast.sklearn.losses can be used "
            "with it."
        )
    try:
        module = importlib.import_module("sklearn._loss.loss")
        own = importlib.import_module("sklearn._loss._loss")
        from ._closs import STAND_INS

        _check(module, own, STAND_INS)
    except PatchError:
        raise
    except Exception as error:  # whatever a changed interface raises
        raise PatchError(_refusal(f"{type(error).__name__}: {error}")) from error
    return module, STAND_INS


def _refusal(why: str) -> str:
    return (
        f"the private interface of this installation of scikit-learn is not the one that lossfast knows ({why}); "
        "nothing has been changed"
    )


def _check(module: Any, own: Any, stand_ins: dict[str, Any]) -> None:
    """Whether every loss class makes its ``closs`` of these names, and gives the same with a stand-in for it."""
    names = {name for name in vars(module) if name.startswith("Cy")}
    if names != set(stand_ins):
        raise PatchError(_refusal(f"sklearn._loss.loss has {sorted(names ^ set(stand_ins))} too many or too few"))
    for name in sorted(names):
        if getattr(module, name) is not getattr(own, name):
            raise PatchError(_refusal(f"sklearn._loss.loss.{name} has been replaced by something else"))
    seen = set()
    for kind in vars(module).values():
        if not isinstance(kind, type) or not issubclass(kind, module.BaseLoss) or kind is module.BaseLoss:
            continue
        if kind.__init__.__globals__ is not vars(module):  # type: ignore[misc]
            raise PatchError(_refusal(f"{kind.__name__} is not built in sklearn._loss.loss"))
        if not kind.__name__.endswith("ArrayAPI"):  # computed by other means
            seen.add(type(kind().closs).__name__)
            _compare(kind, stand_ins)
    if seen != names:
        raise PatchError(_refusal(f"no loss is made of {sorted(names - seen)}"))


def _compare(kind: Any, stand_ins: dict[str, Any]) -> None:
    """One loss with either ``closs``, by every method, on a few rows."""
    one, other = kind(), kind()
    own = one.closs
    stand_in = stand_ins[type(own).__name__]
    other.closs = stand_in(*[getattr(own, name) for name in stand_in.parameters])
    rows = 6
    raw = np.linspace(0.5, 1.5, rows)
    target = np.array([1.0, 0.5, 0.25, 1.0, 0.75, 0.5])
    if one.is_multiclass:
        raw, target = (
            np.linspace(-2.0, 3.0, rows * one.n_classes).reshape(rows, -1),
            np.arange(rows) % one.n_classes * 1.0,
        )
    for weight in (None, np.linspace(0.0, 2.0, rows)):
        for method in ("loss", "gradient", "loss_gradient", "gradient_hessian", "gradient_proba"):
            if not hasattr(one, method):
                continue
            arguments = {"y_true": target, "raw_prediction": raw, "sample_weight": weight, "n_threads": 1}
            expected, found = (getattr(loss, method)(**arguments) for loss in (one, other))
            if isinstance(expected, np.ndarray):
                expected, found = (expected,), (found,)
            if not all(map(_close, expected, found)):
                raise PatchError(_refusal(f"{kind.__name__}.{method} gives something else than lossfast"))


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and np.allclose(a, b, rtol=1e-12, atol=1e-12)
