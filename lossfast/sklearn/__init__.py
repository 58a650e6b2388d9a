"""What scikit-learn and its users need of a loss: loss objects, a patch for its own estimators, estimators, metrics.

`losses` has objects with the interface of scikit-learn's private loss module; `patching` makes its estimators use them;
`estimators` are classifiers and regressors of our own; `metrics` are scores from logits.
"""

from importlib import import_module
from typing import Any

#: Public names, by the module that has them: each is imported when it is used.
_WHERE: dict[str, tuple[str, ...]] = {
    "losses": (
        *("AbsoluteError", "ExponentialLoss", "HalfBinomialLoss", "HalfGammaLoss", "HalfMultinomialLoss"),
        *("HalfPoissonLoss", "HalfSquaredError", "HalfTweedieLoss", "HalfTweedieLossIdentity", "HuberLoss"),
        *("PinballLoss", "PointwiseLoss"),
    ),
    "patching": ("PatchError", "is_patched", "patch", "unpatch"),
    "estimators": ("LossRegressor", "SoftmaxClassifier", "TemperatureScaler"),
    "metrics": (
        *("Reliability", "brier_score", "calibration_error", "d2_brier", "d2_log_loss", "d2_score", "log_loss"),
        *("reliability", "scorer"),
    ),
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
