"""The patch of scikit-learn: its estimators run on lossfast, give the same, and are given back as they were."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
from sklearn._loss import _loss as own  # noqa: E402
from sklearn._loss import loss as module  # noqa: E402
from sklearn.calibration import CalibratedClassifierCV  # noqa: E402
from sklearn.ensemble import (  # noqa: E402
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.linear_model import (  # noqa: E402
    GammaRegressor,
    LogisticRegression,
    PoissonRegressor,
    SGDClassifier,
    TweedieRegressor,
)

from lossfast.sklearn import PatchError, _closs, is_patched, patch, patching, unpatch  # noqa: E402
from lossfast.sklearn.__main__ import main  # noqa: E402

NAMES = sorted(name for name in vars(module) if name.startswith("Cy"))
METHODS = ("loss", "gradient", "loss_gradient", "gradient_hessian", "gradient_proba")
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _given_back() -> Any:
    yield
    unpatch()
    assert all(getattr(module, name) is getattr(own, name) for name in NAMES)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The stand-ins that have been called."""
    found: set[str] = set()

    def watch(function: Any) -> Any:
        def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
            found.add(type(self).__name__)
            return function(self, *args, **kwargs)

        return watched

    for kind in vars(_closs).values():
        if isinstance(kind, type) and issubclass(kind, _closs.Closs):
            for method in METHODS:
                if method in vars(kind):
                    monkeypatch.setattr(kind, method, watch(vars(kind)[method]))
    return found


def test_names_are_bound_and_given_back() -> None:
    before = dict(vars(module))
    assert not is_patched()
    patch()
    assert is_patched()
    changed = {name for name, value in vars(module).items() if value is not before[name]}
    assert changed == set(NAMES) == set(_closs.STAND_INS)
    patch()  # once more: nothing is forgotten
    unpatch()
    assert not is_patched() and {**vars(module)} == before
    unpatch()
    assert not is_patched()


def test_in_with_what_there_was_before_comes_back() -> None:
    with patch():
        assert is_patched()
        with patch():
            assert is_patched()
        assert is_patched()
    assert not is_patched()
    patch()
    with pytest.raises(ZeroDivisionError), patch():
        raise ZeroDivisionError
    assert is_patched()


def test_other_versions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sklearn.__version__", "1.7.0")
    with pytest.raises(PatchError, match="1.7.0 is not among the versions"):
        patch()
    assert not is_patched()


def test_a_private_interface_that_has_changed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(why: str) -> None:
        before = dict(vars(module))
        with pytest.raises(PatchError, match=why):
            patch()
        assert not is_patched() and {**vars(module)} == before

    with monkeypatch.context() as context:
        context.delattr(module, "CyHuberLoss")
        refused("CyHuberLoss")
    with monkeypatch.context() as context:
        context.setattr(module, "CyNewLoss", own.CyHuberLoss, raising=False)
        refused("CyNewLoss")
    with monkeypatch.context() as context:
        context.setattr(module, "CyHuberLoss", own.CyPinballLoss)
        refused("replaced")
    with monkeypatch.context() as context:
        context.setattr(module.BaseLoss, "gradient", lambda self, **given: given["raw_prediction"])
        patch()  # what is the same for both says nothing
        unpatch()
        context.setattr(module.BaseLoss, "gradient", lambda self, **given: self.closs.gone(**given))
        refused("AttributeError.*gone")
    with monkeypatch.context() as context:
        context.setitem(_closs.STAND_INS, "CyHalfSquaredError", _closs.AbsoluteError)
        refused("HalfSquaredError.*something else")
    with monkeypatch.context() as context:

        class Elsewhere(module.HalfSquaredError):
            def __init__(self) -> None:
                super().__init__()

        context.setattr(module, "HalfSquaredError", Elsewhere)
        refused("Elsewhere is not built")


def data(kind: str) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    X = random.normal(size=(120, 4))
    score = X @ [1.0, -0.5, 0.25, 0.0] + 0.3 * random.normal(size=120)
    if kind == "positive":
        return X, np.exp(0.5 * score)
    return X, np.digitize(
        score, np.quantile(score, [0.5] if kind == "binary" else [0.3, 0.7])
    ) if kind != "real" else score


STUMPS: dict[str, Any] = {"n_estimators": 3, "max_depth": 2, "random_state": 0}
#: Estimators, data, and the loss that each is to compute with lossfast.
ESTIMATORS = [
    (LogisticRegression(), "binary", "HalfBinomialLoss"),
    (LogisticRegression(), "several", "HalfMultinomialLoss"),
    (LogisticRegression(solver="newton-cg"), "several", "HalfMultinomialLoss"),
    (LogisticRegression(solver="newton-cholesky"), "binary", "HalfBinomialLoss"),
    (LogisticRegression(solver="newton-cholesky"), "several", "HalfMultinomialLoss"),
    (PoissonRegressor(), "positive", "HalfPoissonLoss"),
    (GammaRegressor(solver="newton-cholesky"), "positive", "HalfGammaLoss"),
    (GammaRegressor(), "positive", "HalfGammaLoss"),
    (TweedieRegressor(power=1.5), "positive", "HalfTweedieLoss"),
    (TweedieRegressor(power=-1.5, link="log", alpha=10.0), "real", "HalfTweedieLoss"),
    (TweedieRegressor(power=0, link="identity"), "real", "HalfTweedieLossIdentity"),
    (HistGradientBoostingClassifier(max_iter=3), "binary", "HalfBinomialLoss"),
    (HistGradientBoostingClassifier(max_iter=3), "several", "HalfMultinomialLoss"),
    (HistGradientBoostingRegressor(max_iter=3), "real", "HalfSquaredError"),
    (HistGradientBoostingRegressor(loss="absolute_error", max_iter=3), "real", "AbsoluteError"),
    (HistGradientBoostingRegressor(loss="quantile", quantile=0.2, max_iter=3), "real", "PinballLoss"),
    (HistGradientBoostingRegressor(loss="poisson", max_iter=3), "positive", "HalfPoissonLoss"),
    (HistGradientBoostingRegressor(loss="gamma", max_iter=3), "positive", "HalfGammaLoss"),
    (GradientBoostingClassifier(**STUMPS), "binary", "HalfBinomialLoss"),
    (GradientBoostingClassifier(**STUMPS), "several", "HalfMultinomialLoss"),
    (GradientBoostingClassifier(loss="exponential", **STUMPS), "binary", "ExponentialLoss"),
    (GradientBoostingRegressor(**STUMPS), "real", "HalfSquaredError"),
    (GradientBoostingRegressor(loss="huber", **STUMPS), "real", "HuberLoss"),
    (GradientBoostingRegressor(loss="quantile", **STUMPS), "real", "PinballLoss"),
    (CalibratedClassifierCV(LogisticRegression(), method="temperature", cv=2), "several", "HalfMultinomialLoss"),
    (CalibratedClassifierCV(LogisticRegression(), method="sigmoid", cv=2), "binary", "HalfBinomialLoss"),
]


def predictions(model: Any, X: np.ndarray) -> np.ndarray:
    return np.asarray(model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X))


@pytest.mark.parametrize(("model", "kind", "loss"), ESTIMATORS, ids=[f"{m}-{k}" for m, k, _ in ESTIMATORS])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_estimators_run_on_lossfast_and_give_the_same(model: Any, kind: str, loss: str, used: set[str]) -> None:
    X, y = data(kind)
    weight = np.random.default_rng(0).integers(1, 4, len(y)) * 0.5
    expected = predictions(model.fit(X, y, sample_weight=weight), X)
    assert not used
    with patch():
        used.clear()  # what has been looked at before anything was bound
        found = model.fit(X, y, sample_weight=weight)
        assert loss in used
        np.testing.assert_allclose(predictions(found, X), expected, rtol=2e-4, atol=1e-6)
        assert b"lossfast" not in pickle.dumps(found)
    # What was fitted there goes on here: predicting, pickled, and (boosting) with more trees.
    np.testing.assert_allclose(predictions(pickle.loads(pickle.dumps(found)), X), expected, rtol=2e-4, atol=1e-6)
    for name in ("max_iter", "n_estimators"):
        if "Boosting" in type(model).__name__ and hasattr(found, name):
            found.set_params(warm_start=True, **{name: 4}).fit(X, y, sample_weight=weight)
            found.set_params(warm_start=False, **{name: 3})


def test_solvers_with_losses_of_their_own_are_left_alone(used: set[str]) -> None:
    X, y = data("binary")
    with patch():
        used.clear()
        for model in (LogisticRegression(solver="liblinear"), LogisticRegression(solver="saga", max_iter=500)):
            assert model.fit(X, y).score(X, y) > 0.8
        assert SGDClassifier(loss="log_loss").fit(X, y).score(X, y) > 0.8
    assert not used


def test_patching_and_fitting_in_several_threads() -> None:
    X, y = data("several")
    expected = predictions(LogisticRegression().fit(X, y), X)
    errors: list[BaseException] = []

    def work(which: int) -> None:
        try:
            for _ in range(5):
                if which:
                    patch()
                    unpatch()
                else:
                    np.testing.assert_allclose(
                        predictions(LogisticRegression().fit(X, y), X), expected, rtol=1e-4, atol=1e-6
                    )
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=work, args=(which,)) for which in (0, 0, 1, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


# ------------------------------------------------------------------------------------ python -m lossfast.sklearn


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script that says what it has been given, and a module beside it that it imports."""
    (tmp_path / "helper.py").write_text("VALUE = 42\n")
    script = tmp_path / "program.py"
    script.write_text(
        "import sys, helper, lossfast.sklearn\n"
        "print(__name__, helper.VALUE, lossfast.sklearn.is_patched(), sys.argv[1:])\n"
        "sys.exit(int(sys.argv[1]))\n"
    )
    monkeypatch.setattr(sys, "argv", ["before"])
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    monkeypatch.delitem(sys.modules, "helper", raising=False)
    return script


def test_a_script_runs_patched(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([str(program), "3", "--flag", "-m", "x"])
    assert stopped.value.code == 3
    assert capsys.readouterr().out == "__main__ 42 True ['3', '--flag', '-m', 'x']\n"


def test_a_module_runs_patched(program: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "lossfast.sklearn", "-m", "program", "0", "--help"]
    done = subprocess.run(command, cwd=program.parent, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "__main__ 42 True ['0', '--help']\n"), done.stderr


def test_nothing_runs_where_it_cannot_be_patched(
    program: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patching, "TESTED", ("0.1",))
    assert main([str(program), "3"]) == 2
    captured = capsys.readouterr()
    assert not captured.out and captured.err.startswith("lossfast.sklearn: error: scikit-learn ")


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "examples:\n  python -m lossfast.sklearn train.py" in capsys.readouterr().out


@pytest.mark.slow
def test_workers_are_patched_if_they_are_told_to() -> None:
    import joblib

    with patch():
        with joblib.parallel_config("loky", n_jobs=2):
            assert joblib.Parallel()(joblib.delayed(is_patched)() for _ in range(2)) == [False, False]
        with joblib.parallel_config("loky", n_jobs=2, initializer=patch):
            assert joblib.Parallel()(joblib.delayed(is_patched)() for _ in range(2)) == [True, True]
