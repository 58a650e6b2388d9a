"""Linear models with the losses of `lossfast`, and the calibration of classifiers by a temperature.

They are scikit-learn estimators. None copies its data, which may be a memory-mapped file of any size: see
`lossfast.sklearn._objective`.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    MetaEstimatorMixin,
    RegressorMixin,
    TransformerMixin,
    clone,
)
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils import check_array, check_consistent_length, column_or_1d, compute_class_weight, get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, has_fit_parameter, validate_data

import lossfast as lf

from .._loss import Loss, Parameter
from .._threads import check_n_threads
from ._objective import (
    SOLVERS,
    LinearObjective,
    PointwiseTerms,
    RoundedTerms,
    RowTerms,
    Solution,
    class_totals,
    is_kinked,
    link_of,
    minimise,
    raw_predictions,
)

#: Probabilities of classes are kept away from 0 and 1 by this much where a fit begins.
_SHARE = 1e-6
#: Rows of logits that are taken in another precision at a time.
_CHUNK = 1 << 12


def _weights(sample_weight: Any, X: Any) -> np.ndarray | None:
    if sample_weight is None:
        return None
    weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if not weights.any():
        raise ValueError("all entries of sample_weight are 0: there is nothing to fit")
    return weights


def _probabilities(of_rows: Any, of_two: Any, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities of all classes, or their logarithms: float64, in which what is missing to 1 can be seen."""
    if logits.ndim == 2:
        if logits.dtype == np.float64:
            return of_rows(logits, temperature=temperature)
        found = np.empty(logits.shape)
        for start in range(0, len(logits), _CHUNK):
            rows = slice(start, start + _CHUNK)
            of_rows(logits[rows].astype(float), temperature=temperature, out=found[rows])
        return found
    both = np.empty((len(logits), 2))
    np.divide(logits, temperature, out=both[:, 1])
    np.negative(both[:, 1], out=both[:, 0])
    return of_two(both)


def _is_soft(y: Any) -> bool:
    """Whether y holds soft labels: floating numbers, a column for each of several classes."""
    array = y if hasattr(y, "ndim") else np.asarray(y)
    if array.ndim != 2 or array.shape[1] < 2:
        return False
    dtypes = array.dtypes if hasattr(array, "dtypes") else [array.dtype]
    if all(getattr(dtype, "kind", "O") == "f" for dtype in dtypes):
        return True
    raise ValueError(
        f"y has shape {array.shape}: labels are one for each row, and soft labels must be of a floating dtype"
    )


class _LinearModel(BaseEstimator):
    """What both linear models have: checked parameters, the search for weights, and streams."""

    coef_: Any
    intercept_: Any

    def _check_parameters(self, **domains: str) -> int:
        """The number of threads, once all parameters have been checked."""
        for name, domain in {**domains, "tol": "finite and >= 0"}.items():
            Parameter(0.0, domain).check(name, getattr(self, name))
        if not isinstance(self.solver, str) or self.solver not in SOLVERS:
            raise ValueError(f"solver must be one of {', '.join(map(repr, SOLVERS))}, got {self.solver!r}")
        if isinstance(self.max_iter, bool) or not isinstance(self.max_iter, (int, np.integer)) or self.max_iter < 1:
            raise ValueError(f"max_iter must be an integer, 1 at least, got {self.max_iter!r}")
        return lf.get_num_threads() if self.n_threads is None else check_n_threads("n_threads", self.n_threads)

    def _data(self, X: Any, y: Any, reset: bool, **options: Any) -> Any:
        return validate_data(self, X, y, accept_sparse="csr", dtype="numeric", reset=reset, **options)

    def _inputs(self, X: Any) -> Any:
        check_is_fitted(self)
        return validate_data(self, X, accept_sparse="csr", dtype="numeric", reset=False)

    def _minimise(self, objective: LinearObjective, start: np.ndarray, enough: float = 0.0) -> Solution:
        solution = minimise(
            objective,
            start,
            solver=self.solver,
            max_iter=int(self.max_iter),
            tol=float(self.tol),
            enough=enough,
            verbose=self.verbose,
            what=type(self).__name__,
        )
        if solution.reason:
            warnings.warn(
                f"{type(self).__name__} has not converged: after {solution.iterations} steps of {self.solver!r} the "
                f"largest derivative is {solution.steepest:.3g}, above tol={self.tol:g}; {solution.reason}. Increase "
                "max_iter or tol, or scale the data.",
                ConvergenceWarning,
                stacklevel=4,
            )
        return solution

    def _keep(self, objective: LinearObjective, solution: Solution) -> None:
        """Write the results down as scikit-learn's linear models do."""
        weights, dtype = solution.weights, objective.blocks.dtype
        self.coef_ = weights[:, : objective.features].astype(dtype)
        intercept = weights[:, -1] if objective.fit_intercept else np.zeros(len(weights))
        self.intercept_ = intercept.astype(dtype)
        self.n_iter_ = max(1, solution.iterations)
        self.loss_ = solution.value

    def _stream(
        self,
        X: Any,
        terms: RowTerms,
        start: np.ndarray,
        total: float,
        prior: np.ndarray,
        threads: int,
    ) -> tuple[LinearObjective, Solution]:
        """Fit more rows, with what was learned of earlier ones as a quadratic around ``start``, where they led.

        ``prior`` is what the penalty adds to the precision with these rows.
        """
        known = getattr(self, "precision_", np.zeros(start.shape))
        precision = known + prior
        pulled = np.divide(known * start, precision, out=np.zeros(start.shape), where=precision > 0)
        objective = LinearObjective(
            X,
            terms,
            outputs=len(start),
            total=total,
            fit_intercept=self.fit_intercept,
            precision=precision / total,
            center=pulled,
            n_threads=threads,
        )
        solution = self._minimise(objective, start)
        self.precision_ = precision + objective.curvature(solution.weights)
        self.n_samples_seen_ = getattr(self, "n_samples_seen_", 0) + X.shape[0]
        return objective, solution

    def _current(self) -> np.ndarray:
        """The weights as they are: a row for each output, intercepts last."""
        coef, intercept = np.atleast_2d(self.coef_), np.atleast_1d(self.intercept_)
        return (np.column_stack([coef, intercept]) if self.fit_intercept else coef).astype(float)

    def _forget(self) -> None:
        for name in ("precision_", "n_samples_seen_"):
            self.__dict__.pop(name, None)

    def _raw(self, X: Any) -> np.ndarray:
        """Raw predictions of all rows."""
        out: Any = None
        for rows, raw in raw_predictions(X, self.coef_, self.intercept_):
            if out is None:
                out = np.empty((X.shape[0], *raw.shape[1:]), raw.dtype)
            out[rows] = raw
        return out

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class SoftmaxClassifier(ClassifierMixin, _LinearModel):
    r"""Logistic regression, of two classes or several, on integer, string or soft labels.

    It minimises what `sklearn.linear_model.LogisticRegression` does,

    .. math:: C \sum_i s_i\,\ell(z_i, y_i) + \tfrac{1}{2} \sum_{kj} W_{kj}^2, \qquad z_i = W x_i + b,

    with :math:`\ell` the cross-entropy of the softmax (of two classes: the sigmoid, with one row of coefficients),
    :math:`s` the sample weights times the class weights, and no penalty on the intercepts. The optimum is the same; it
    is reached in fewer passes over the data, because the solver works in coordinates where the objective is round, and
    a pass is quicker. The matrix of logits never exists, and the data are not copied, whatever their size: they may be
    memory-mapped.

    Parameters
    ----------
    C : float, default 1.0
        Inverse strength of the penalty, above 0; ``numpy.inf`` is none.
    fit_intercept : bool, default True
        Whether there is an intercept for each class.
    class_weight : dict or "balanced", optional
        Weights of the classes, by label; ``"balanced"`` gives all classes the same total weight.
    solver : {"lbfgs", "newton-cg", "trust-ncg"}, default "lbfgs"
        SciPy's method. The last two take products with the exact Hessian.
    max_iter : int, default 200
        Steps of the solver at the most.
    tol : float, default 1e-4
        The solver stops where no derivative of the objective, divided by C times the sum of the weights, is larger.
    warm_start : bool, default False
        Begin where the last fit ended.
    n_threads : int, optional
        How many threads work on a pass; `lossfast.get_num_threads` says how many otherwise. No bit of the result
        depends on it.
    verbose : int, default 0
        Above 0, progress is shown on standard error (a bar, if tqdm is installed).

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, in order; for soft labels the columns' names, or 0, 1, ...
    coef_ : ndarray of shape (n_classes, n_features) or (1, n_features)
    intercept_ : ndarray of shape (n_classes,) or (1,)
    n_iter_ : int
        Steps of the solver.
    loss_ : float
        The objective divided by C times the sum of the weights.
    precision_ : ndarray
        After `partial_fit`: how sure the rows seen so far make each coefficient (intercepts last).
    n_samples_seen_ : int
        After `partial_fit`: how many rows that were.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        If the data have column names.

    See Also
    --------
    LossRegressor, TemperatureScaler

    Notes
    -----
    `partial_fit` keeps of earlier rows the coefficients and the diagonal of their Hessian there [2]_: one call on all
    rows is the same as `fit`, many calls come close to it.

    References
    ----------
    .. [1] D. Böhning, "Multinomial logistic regression algorithm", *Ann. Inst. Statist. Math.* 44 (1992) 197-200.
    .. [2] O. Chapelle and L. Li, "An empirical evaluation of Thompson sampling", NeurIPS 2011 (algorithm 3).

    Examples
    --------
    >>> import numpy as np
    >>> from lossfast.sklearn import SoftmaxClassifier
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> model = SoftmaxClassifier().fit(X, ["no", "no", "yes", "yes"])
    >>> model.predict([[0.2], [2.9]])
    array(['no', 'yes'], dtype='<U3')

    Soft labels are a matrix of probabilities, one column for each class:

    >>> soft = SoftmaxClassifier().fit(X, np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]]))
    >>> soft.predict_proba([[1.5]]).round(2)
    array([[0.53, 0.47]])
    """

    classes_: np.ndarray

    def __init__(
        self,
        C: float = 1.0,
        *,
        fit_intercept: bool = True,
        class_weight: Any = None,
        solver: str = "lbfgs",
        max_iter: int = 200,
        tol: float = 1e-4,
        warm_start: bool = False,
        n_threads: int | None = None,
        verbose: Any = 0,
    ) -> None:
        self.C = C
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start
        self.n_threads = n_threads
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> SoftmaxClassifier:
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Float32 and float64 arrays (and CSR matrices) are read where they are; other dtypes are converted a block
            at a time.
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            Labels; or soft labels, floating: the probability of each class.
        sample_weight : array-like of shape (n_samples,), optional
            A weight for each row.

        Returns
        -------
        SoftmaxClassifier
            The estimator itself.
        """
        threads = self._check_parameters(C="> 0")
        X, target, classes, weight = self._targets(X, y, sample_weight, reset=True)
        terms, total, shares = self._terms(target, len(classes), weight, classes)
        outputs = len(classes) if len(classes) > 2 else 1
        start = self._start(X.shape[1], shares)
        if self.warm_start and hasattr(self, "coef_"):
            if self.coef_.shape != (outputs, X.shape[1]) or not np.array_equal(self.classes_, classes):
                raise ValueError(
                    f"warm_start=True needs the classes and features of the last fit: {len(self.classes_)} classes and "
                    f"{self.coef_.shape[1]} features; got {len(classes)} classes and {X.shape[1]} features"
                )
            start = self._current()
        self._forget()
        objective = LinearObjective(
            X,
            terms,
            outputs=outputs,
            total=total,
            fit_intercept=self.fit_intercept,
            precision=self._prior(X.shape[1]) / total,
            n_threads=threads,
        )
        solution = self._minimise(objective, start)
        self.classes_ = classes
        self._keep(objective, solution)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> SoftmaxClassifier:
        """Fit some more rows, and keep what was learned of earlier ones by this method; after `fit` it begins anew.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            Labels or soft labels.
        classes : array-like of shape (n_classes,), optional
            All labels that will ever come: needed in the first call, unless labels are soft.
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        SoftmaxClassifier
            The estimator itself.
        """
        threads = self._check_parameters(C="> 0")
        if isinstance(self.class_weight, str):
            raise ValueError(
                "class_weight='balanced' needs all rows at once; partial_fit takes a dict of weights by label"
            )
        first = not hasattr(self, "precision_")
        known = getattr(self, "classes_", None)
        if first and classes is not None:
            known = None
        if classes is not None:
            given = np.unique(classes)
            if known is not None and not np.array_equal(given, known):
                raise ValueError(f"classes must be those of the first call, {known.tolist()}, got {given.tolist()}")
            known = given
        if known is None and not _is_soft(y):
            raise ValueError("classes must be given in the first call of partial_fit: later rows may have other labels")
        X, target, known, weight = self._targets(X, y, sample_weight, reset=first, classes=known)
        terms, total, shares = self._terms(target, len(known), weight, known)
        prior = self._prior(X.shape[1]) if first else np.zeros(1)
        start = self._start(X.shape[1], shares) if first else self._current()
        objective, solution = self._stream(X, terms, start, total, prior, threads)
        self.classes_ = known
        self._keep(objective, solution)
        return self

    # ----------------------------------------------------------------------------------------------- what is fitted

    def _targets(
        self, X: Any, y: Any, sample_weight: Any, reset: bool, classes: np.ndarray | None = None
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray | None]:
        """The data, labels as numbers of classes (or soft labels), the classes and the weights."""
        if y is not None and _is_soft(y):
            names = getattr(y, "columns", None)
            X = self._data(X, "no_validation", reset)
            y = check_array(y, dtype=[np.float64, np.float32], input_name="y")
            check_consistent_length(X, y)
            columns = np.arange(y.shape[1]) if names is None else np.asarray(names)
            if classes is not None and len(classes) != len(columns):
                raise ValueError(f"y has {len(columns)} columns, but there are {len(classes)} classes")
            lf.cross_entropy.weigh(np.broadcast_to(0.0, y.shape), y, check="distribution")
            return X, y, columns if classes is None else classes, _weights(sample_weight, X)
        X, y = self._data(X, y, reset)
        check_classification_targets(y)
        found, codes = np.unique(y, return_inverse=True)
        if classes is None:
            classes = found
        elif not np.array_equal(found, classes):
            places = np.searchsorted(classes, found)
            strange = found[classes[np.minimum(places, len(classes) - 1)] != found]
            if len(strange):
                raise ValueError(f"y has labels that are not among the classes {classes.tolist()}: {strange.tolist()}")
            codes = places[codes]
        if len(classes) < 2:
            raise ValueError(
                f"{type(self).__name__} needs rows of at least 2 classes, but the data have one class: {classes[0]!r}"
            )
        return X, codes, classes, _weights(sample_weight, X)

    def _terms(
        self, target: np.ndarray, n_classes: int, weight: np.ndarray | None, classes: np.ndarray
    ) -> tuple[RowTerms, float, np.ndarray]:
        """The rows' losses, the sum of their weights, and each class's share of it."""
        soft = target.ndim == 2
        totals = class_totals(target, weight, n_classes)
        by_class = self._class_weights(classes, totals)
        options: dict[str, Any] = {}
        if by_class is not None:
            totals = totals * by_class
            if not totals.sum() > 0:
                raise ValueError("every row has weight 0: the classes present have class_weight 0")
            if not soft:
                weight = by_class[target] if weight is None else weight * by_class[target]
            elif n_classes > 2:
                options["class_weight"] = by_class
            else:  # a loss of weighted soft labels is one of other soft labels, with a weight for the row
                scaled = target * by_class
                both = scaled.sum(1)
                target = np.divide(scaled, both[:, None], out=np.zeros_like(scaled), where=both[:, None] > 0)
                weight = both if weight is None else weight * both
        total = float(totals.sum())
        shares = totals / total
        if n_classes > 2:
            return RowTerms(lf.cross_entropy, target, weight, **options), total, shares
        positive = target[:, 1] if soft else target.astype(float)
        loss = lf.binary_cross_entropy_with_logits
        return PointwiseTerms(loss, positive, weight, link_of(loss)), total, shares

    def _class_weights(self, classes: np.ndarray, totals: np.ndarray) -> np.ndarray | None:
        if self.class_weight is None:
            return None
        if isinstance(self.class_weight, str):
            if self.class_weight != "balanced":
                raise ValueError(f"class_weight must be a dict, 'balanced' or None, got {self.class_weight!r}")
            present = totals > 0
            return np.divide(totals.sum(), present.sum() * totals, out=np.zeros_like(totals), where=present)
        return np.asarray(compute_class_weight(self.class_weight, classes=classes, y=classes), float)

    def _prior(self, features: int) -> np.ndarray:
        """The precision that the penalty gives each weight of a class."""
        prior = np.full(features + bool(self.fit_intercept), 1 / self.C)
        if self.fit_intercept:
            prior[-1] = 0
        return prior

    def _start(self, features: int, shares: np.ndarray) -> np.ndarray:
        outputs = len(shares) if len(shares) > 2 else 1
        start = np.zeros((outputs, features + bool(self.fit_intercept)))
        if self.fit_intercept:
            logs = np.log(np.clip(shares, _SHARE, 1))
            start[:, -1] = logs - logs.mean() if outputs > 1 else logs[1] - logs[0]
        return start

    # -------------------------------------------------------------------------------------------------- predictions

    def decision_function(self, X: Any) -> np.ndarray:
        """The logits: of shape (n_samples, n_classes), or for two classes (n_samples,), the second's log-odds."""
        return self._raw(self._inputs(X))

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each row. The matrix of logits is not made."""
        X = self._inputs(X)
        best = np.empty(X.shape[0], np.intp)
        for rows, raw in raw_predictions(X, self.coef_, self.intercept_):
            best[rows] = raw > 0 if raw.ndim == 1 else raw.argmax(1)
        return self.classes_[best]

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, of shape (n_samples, n_classes)."""
        return _probabilities(lf.softmax, lf.sigmoid, self.decision_function(X))

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The logarithm of each class's probability, with all digits where that is near 1 or next to nothing."""
        return _probabilities(lf.log_softmax, lf.log_sigmoid, self.decision_function(X))


def differentiable_losses() -> tuple[str, ...]:
    """The names that `LossRegressor` takes: the pointwise losses with a gradient that is not 0 everywhere.

    Examples
    --------
    >>> from lossfast.sklearn.estimators import differentiable_losses
    >>> "pinball_loss" in differentiable_losses()
    True
    """
    return tuple(name for name in lf.losses() if lf.get_loss(name).kind == "pointwise" and name != "zero_one_loss")


class LossRegressor(RegressorMixin, _LinearModel):
    r"""Linear regression with any pointwise loss: smooth-L1, Huber, pinball, Poisson, Tukey, ...

    It minimises

    .. math:: \frac{1}{\sum_i s_i} \sum_i s_i\,\ell(h(z_i), y_i) + \tfrac{\alpha}{2} \sum_j w_j^2,
        \qquad z_i = w \cdot x_i + b,

    with :math:`s` the sample weights and no penalty on the intercept, as scikit-learn's generalised linear models do.

    Parameters
    ----------
    loss : str or Loss, default "huber_loss"
        Name of a pointwise loss in `lossfast.losses`, or one of these objects, parameters bound.
    loss_params : dict, optional
        The loss's own parameters: ``{"delta": 0.5}``.
    link : {"auto", "identity", "log", "logit"}, default "auto"
        How the linear prediction :math:`z` becomes a prediction: :math:`z`, :math:`e^z` or the sigmoid. Losses that
        take logarithms or log-odds (``poisson_nll_loss``, ``half_gamma_deviance``, ``half_tweedie_deviance``;
        ``binary_cross_entropy_with_logits``) are given :math:`z` itself, and `predict` gives the mean. Losses whose
        predictions are positive, or probabilities, are given the mean (``log`` or ``logit`` by ``"auto"``).
    alpha : float, default 1e-4
        Strength of the penalty, at least 0.
    fit_intercept : bool, default True
        Whether there is an intercept.
    solver : {"lbfgs", "newton-cg", "trust-ncg"}, default "lbfgs"
        SciPy's method. The last two take products with the exact Hessian.
    max_iter : int, default 200
        Steps of the solver at the most.
    tol : float, default 1e-4
        The solver stops where no derivative of the objective is larger.
    warm_start : bool, default False
        Begin where the last fit ended.
    n_threads : int, optional
        How many threads work on a pass; no bit of the result depends on it.
    verbose : int, default 0
        Above 0, progress is shown on standard error (a bar, if tqdm is installed).

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
    intercept_ : float
    n_iter_ : int
        Steps of the solver.
    loss_ : float
        The objective.
    precision_ : ndarray
        After `partial_fit`: how sure the rows seen so far make each coefficient (the intercept last).
    n_samples_seen_ : int
        After `partial_fit`: how many rows that were.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        If the data have column names.

    See Also
    --------
    SoftmaxClassifier

    Notes
    -----
    Losses with a kink (``l1_loss``, ``pinball_loss``, ``epsilon_insensitive_loss``, ``hinge_loss``, ``mape``) have no
    derivative that goes to 0 at the optimum. They are fitted in stages, each with the kinks of the last rounded off
    less, by averaging the loss over a small interval; the end is close to the optimum, not at it. Losses that are not
    convex (``tukey_loss``, ``cauchy_loss``, ``msle``, ``sigmoid_focal_loss``) lead to a minimum near where the fit
    begins: the constant that fits best.

    Examples
    --------
    >>> import numpy as np
    >>> from lossfast.sklearn import LossRegressor
    >>> X = np.arange(6.0)[:, None]
    >>> y = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 500.0])
    >>> LossRegressor(loss="huber_loss", loss_params={"delta": 0.1}, tol=1e-8).fit(X, y).predict([[2.0]]).round(1)
    array([2.])
    """

    def __init__(
        self,
        loss: Any = "huber_loss",
        *,
        loss_params: dict[str, Any] | None = None,
        link: str = "auto",
        alpha: float = 1e-4,
        fit_intercept: bool = True,
        solver: str = "lbfgs",
        max_iter: int = 200,
        tol: float = 1e-4,
        warm_start: bool = False,
        n_threads: int | None = None,
        verbose: Any = 0,
    ) -> None:
        self.loss = loss
        self.loss_params = loss_params
        self.link = link
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start
        self.n_threads = n_threads
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LossRegressor:
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Float32 and float64 arrays (and CSR matrices) are read where they are; other dtypes are converted a block
            at a time.
        y : array-like of shape (n_samples,)
            Targets, in the loss's domain.
        sample_weight : array-like of shape (n_samples,), optional
            A weight for each row.

        Returns
        -------
        LossRegressor
            The estimator itself.
        """
        threads = self._check_parameters(alpha="finite and >= 0")
        X, y, weight, loss, link = self._rows(X, y, sample_weight, reset=True)
        total = float(len(y) if weight is None else weight.sum())
        if self.warm_start and hasattr(self, "coef_"):
            if self.coef_.shape != (X.shape[1],):
                raise ValueError(
                    f"warm_start=True needs the features of the last fit, {len(self.coef_)}; got {X.shape[1]}"
                )
            start = self._current()
        else:
            start = self._start(X.shape[1], y, weight, link)
        self._forget()

        def objective(terms: RowTerms) -> LinearObjective:
            return LinearObjective(
                X,
                terms,
                outputs=1,
                total=total,
                fit_intercept=self.fit_intercept,
                precision=self._prior(X.shape[1]),
                n_threads=threads,
            )

        whole = objective(PointwiseTerms(loss, y, weight, link))
        radii = self._radii(loss, link, y, weight)
        if radii:
            steps = 0
            for radius in radii:
                rounded = objective(RoundedTerms(loss, y, weight, radius))
                last = radius == radii[-1]
                solution = self._minimise(rounded, start, _ENOUGH) if last else self._quietly(rounded, start)
                start, steps = solution.weights, steps + solution.iterations
            solution = solution._replace(value=whole.value(start), iterations=steps)
        else:
            solution = self._minimise(whole, start)
        self._write(whole, solution, loss, link)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> LossRegressor:
        """Fit some more rows, and keep what was learned of earlier ones: see `SoftmaxClassifier`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        LossRegressor
            The estimator itself.
        """
        threads = self._check_parameters(alpha="finite and >= 0")
        first = not hasattr(self, "precision_")
        X, y, weight, loss, link = self._rows(X, y, sample_weight, reset=first)
        radii = self._radii(loss, link, y, weight)
        terms: RowTerms = RoundedTerms(loss, y, weight, radii[1]) if radii else PointwiseTerms(loss, y, weight, link)
        total = float(len(y) if weight is None else weight.sum())
        start = self._start(X.shape[1], y, weight, link) if first else self._current()
        objective, solution = self._stream(X, terms, start, total, total * self._prior(X.shape[1]), threads)
        self._write(objective, solution, loss, link)
        return self

    # ----------------------------------------------------------------------------------------------- what is fitted

    def _rows(self, X: Any, y: Any, sample_weight: Any, reset: bool) -> tuple[Any, np.ndarray, Any, Any, Any]:
        loss = self._bound()
        link = link_of(loss, self._checked_link())
        X, y = self._data(X, y, reset, y_numeric=True)
        y = y.astype(np.float32 if y.dtype == np.float32 else np.float64, copy=False)
        weight = _weights(sample_weight, X)
        loss.weigh(np.broadcast_to(0.5, y.shape), y, sample_weight=weight)  # targets out of their domain are found
        return X, y, weight, loss, link

    def _checked_link(self) -> str:
        if not isinstance(self.link, str) or self.link not in _LINKS:
            raise ValueError(f"link must be one of {', '.join(map(repr, _LINKS))}, got {self.link!r}")
        return self.link

    def _bound(self) -> Any:
        """The loss, its parameters bound."""
        loss = self.loss if isinstance(self.loss, Loss) else lf.get_loss(self.loss)
        if loss.name not in differentiable_losses():
            raise ValueError(
                f"loss must be a pointwise loss with a gradient, one of {', '.join(differentiable_losses())}; "
                f"got {self.loss!r}"
            )
        params = dict(self.loss_params or {})
        own = [*loss.parameters, *([loss.extra] if loss.extra else [])]
        strange = [name for name in params if name not in own]
        if strange:
            raise ValueError(f"{loss!r} has no parameter {strange[0]!r}; its parameters are {', '.join(own) or 'none'}")
        return loss.bind(**params)

    def _prior(self, features: int) -> np.ndarray:
        prior = np.full(features + bool(self.fit_intercept), float(self.alpha))
        if self.fit_intercept:
            prior[-1] = 0
        return prior

    def _start(self, features: int, y: np.ndarray, weight: np.ndarray | None, link: Any) -> np.ndarray:
        """No coefficients, and the intercept that gives the mean target (the median, of an unbounded loss)."""
        start = np.zeros((1, features + bool(self.fit_intercept)))
        if self.fit_intercept:
            middle = float(np.average(y, weights=weight)) if link.name != "identity" else _median(y, weight)
            bounds = {"log": (np.finfo(np.float32).tiny, math.inf), "logit": (_SHARE, 1 - _SHARE)}
            start[0, -1] = link.forward(np.clip(middle, *bounds.get(link.name, (-math.inf, math.inf))))
        return start

    def _radii(self, loss: Any, link: Any, y: np.ndarray, weight: np.ndarray | None) -> list[float]:
        """How far kinks are rounded off, stage by stage; empty where there are none."""
        if link.composed or not is_kinked(loss):
            return []
        middle = _median(y, weight)
        spread = float(np.average(np.abs(y - middle), weights=weight)) or 1.0
        most = loss._defaults.get("epsilon") or math.inf
        return [min(share * spread, most) for share in _ROUNDED]

    def _quietly(self, objective: LinearObjective, start: np.ndarray) -> Solution:
        """A stage on the way, which need not end where the next one begins."""
        return minimise(
            objective,
            start,
            solver=self.solver,
            max_iter=int(self.max_iter),
            tol=max(1e-3, float(self.tol)),
            enough=_ENOUGH,
            verbose=self.verbose,
            what=f"{type(self).__name__}, rounded",
        )

    def _write(self, objective: LinearObjective, solution: Solution, loss: Any, link: Any) -> None:
        self._keep(objective, solution)
        self.coef_, self.intercept_ = self.coef_[0], self.intercept_[0]
        self._link = link

    # -------------------------------------------------------------------------------------------------- predictions

    def predict(self, X: Any) -> np.ndarray:
        """The prediction for each row: the linear one, or the mean that the link makes of it."""
        X = self._inputs(X)
        out = np.empty(X.shape[0], self.coef_.dtype)
        for rows, raw in raw_predictions(X, self.coef_[None], np.array([self.intercept_])):
            out[rows] = self._link.inverse(raw)
        return out

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        try:
            domain = self._bound().domains.get("target", "")
        except (TypeError, ValueError):  # a loss that there is not: fit says so
            domain = ""
        tags.target_tags.positive_only = domain in ("> 0", ">= 0")
        return tags


_LINKS = ("auto", "identity", "log", "logit")
#: Shares of the targets' spread by which kinks are rounded off, stage by stage.
_ROUNDED = (0.3, 0.03, 0.003, 0.0003)
#: And the share of the objective that more steps are to take off it.
_ENOUGH = 1e-5


def _median(y: np.ndarray, weight: np.ndarray | None) -> float:
    """The (weighted) median: the lower of two in the middle."""
    order = np.argsort(y, kind="stable")
    sums = np.cumsum(np.ones(len(y)) if weight is None else weight[order])
    return float(y[order[np.searchsorted(sums, 0.5 * sums[-1])]])


# --------------------------------------------------------------------------------------------------- calibration

#: Inverse temperatures are looked for between these.
_COLDEST, _HOTTEST = math.exp(10), math.exp(-10)


#: After so many steps it is seen whether there is a minimum at all.
_PATIENCE = 20


def _method_of(estimator: Any) -> str:
    for name in ("decision_function", "predict_log_proba", "predict_proba"):
        if hasattr(estimator, name):
            return name
    raise TypeError(f"the estimator must have decision_function or predict_proba, which {estimator!r} has not")


def _as_logits(found: np.ndarray, method: str) -> np.ndarray:
    """What an estimator's method gives, as logits: probabilities are their exponentials."""
    if method == "predict_proba":
        with np.errstate(divide="ignore"):
            return np.log(found)
    return found


def _logits_of(estimator: Any, X: Any) -> np.ndarray:
    method = _method_of(estimator)
    return _as_logits(getattr(estimator, method)(X), method)


def _classes_of(y: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """The labels of the columns of logits."""
    columns = 2 if logits.ndim == 1 else logits.shape[1]
    found = np.unique(y)
    if len(found) == columns:
        return found
    if found.dtype.kind in "iub" and found.min() >= 0 and found.max() < columns:
        return np.arange(columns)
    raise ValueError(
        f"there are logits of {columns} classes, but y has {len(found)} different labels, which are not numbers of "
        f"columns: {found[:10].tolist()}"
    )


class TemperatureScaler(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClassifierMixin, MetaEstimatorMixin, BaseEstimator
):
    r"""Calibration of a classifier by one number: its logits are divided by the temperature that fits best.

    The temperature minimises the cross-entropy of held-out labels, which is convex in :math:`1 / T`; a few of Newton's
    steps on the exact derivatives find it. Which class is likeliest does not change.

    Parameters
    ----------
    estimator : classifier, optional
        What is calibrated. Without one, `fit` and the other methods take logits: an array of shape (n_samples,
        n_classes), or for two classes (n_samples,), the second's log-odds.
    cv : int, cross-validation generator, iterable, "prefit" or "train", optional
        Where the held-out logits come from. ``"prefit"``: the estimator has been fitted already, to other rows than
        those given now (so has a `sklearn.frozen.FrozenEstimator`, whatever ``cv``). Otherwise they are predicted by
        cross-validation, of 5 folds unless it is said otherwise, and the estimator is then fitted to all rows.
        ``"train"``: the logits of the very rows that the estimator is fitted to, which are too sure of themselves,
        unless the model is much simpler than its data.
    tol : float, default 1e-10
        The search stops where the inverse temperature changes by less than this share of it.
    max_iter : int, default 100
        Steps at the most.
    n_threads : int, optional
        How many threads work on a pass over the logits; no bit of the result depends on it.

    Attributes
    ----------
    temperature_ : float
        What logits are divided by.
    estimator_ : classifier
        The fitted classifier, if there is one.
    classes_ : ndarray of shape (n_classes,)
    n_iter_ : int
        Steps taken.
    loss_ : float
        The cross-entropy at the temperature found.
    n_features_in_ : int

    See Also
    --------
    SoftmaxClassifier, lossfast.sklearn.calibration_error

    Notes
    -----
    ``sklearn.calibration.CalibratedClassifierCV(method="temperature", ensemble=False)`` finds the same without
    derivatives.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration of modern neural networks", ICML 2017.

    Examples
    --------
    >>> from lossfast.sklearn import TemperatureScaler
    >>> logits = [[2.0, 0.0], [0.0, 1.5], [1.0, 0.5], [0.5, 2.5]]
    >>> scaler = TemperatureScaler().fit(logits, [0, 1, 0, 0])
    >>> round(scaler.temperature_, 12)
    2.50904129264
    >>> scaler.predict_proba([[5.0, 0.0]]).round(3)
    array([[0.88, 0.12]])
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        cv: Any = None,
        tol: float = 1e-10,
        max_iter: int = 100,
        n_threads: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.cv = cv
        self.tol = tol
        self.max_iter = max_iter
        self.n_threads = n_threads

    def fit(self, X: Any, y: Any, sample_weight: Any = None, **params: Any) -> TemperatureScaler:
        """Find the temperature.

        Parameters
        ----------
        X : array-like
            Logits; or with an estimator, the data that it takes.
        y : array-like of shape (n_samples,)
            Labels. Without an estimator their sorted values are those of the columns; integers may leave some out.
        sample_weight : array-like of shape (n_samples,), optional
            A weight for each row, in the search for the temperature. The estimator gets it too if it takes one and
            metadata routing is off, or requests it.
        **params : dict
            What else the estimator's ``fit`` is to be given, by metadata routing.

        Returns
        -------
        TemperatureScaler
            The estimator itself.
        """
        Parameter(0.0, "finite and > 0").check("tol", self.tol)
        if isinstance(self.max_iter, bool) or not isinstance(self.max_iter, (int, np.integer)) or self.max_iter < 1:
            raise ValueError(f"max_iter must be an integer, 1 at least, got {self.max_iter!r}")
        if self.n_threads is not None:
            check_n_threads("n_threads", self.n_threads)
        if self.estimator is None:
            if params:
                raise TypeError(f"without an estimator, fit takes no {next(iter(params))!r}")
            logits = self._logits(X, reset=True)
            y = self._checked_labels(y, logits)
            self.classes_ = _classes_of(y, logits)
        else:
            logits, y = self._held_out(X, y, sample_weight, params)
            self.classes_ = self.estimator_.classes_
        self._columns = 1 if logits.ndim == 1 else logits.shape[1]
        codes = np.searchsorted(self.classes_, y)
        weight = _weights(sample_weight, logits)
        inverse, self.loss_, self.n_iter_ = self._search(logits, codes, weight)
        self.temperature_ = 1 / inverse
        return self

    def _held_out(self, X: Any, y: Any, sample_weight: Any, params: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Logits of rows that the classifier they come from has not seen, and the labels."""
        from sklearn.frozen import FrozenEstimator
        from sklearn.model_selection import cross_val_predict

        if y is None:
            raise ValueError("TemperatureScaler requires y to be passed, but the target y is None")
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if isinstance(self.cv, str) and self.cv not in ("prefit", "train"):
            raise ValueError(f"cv must be an integer, folds, 'prefit', 'train' or None, got {self.cv!r}")
        given = self._for_the_estimator(sample_weight, params)
        if self.cv == "prefit" or isinstance(self.estimator, FrozenEstimator):
            try:
                check_is_fitted(self.estimator)
            except NotFittedError as error:
                raise NotFittedError(f"cv='prefit' needs a fitted estimator, got {self.estimator!r}") from error
            self.estimator_ = self.estimator
            logits = _logits_of(self.estimator_, X)
        else:
            self.estimator_ = clone(self.estimator).fit(X, y, **given)
            if self.cv == "train":
                logits = _logits_of(self.estimator_, X)
            else:
                method = _method_of(self.estimator_)
                found = cross_val_predict(clone(self.estimator), X, y, cv=self.cv, method=method, params=given)
                logits = _as_logits(found, method)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.estimator_, name):
                setattr(self, name, getattr(self.estimator_, name))
        check_consistent_length(logits, y)
        strange = np.setdiff1d(y, self.estimator_.classes_)
        if len(strange):
            raise ValueError(f"y has labels that the estimator does not know: {strange.tolist()}")
        return logits, y

    def _for_the_estimator(self, sample_weight: Any, params: dict[str, Any]) -> dict[str, Any]:
        """What the estimator's ``fit`` is to be given."""
        if get_config()["enable_metadata_routing"]:
            weight = {} if sample_weight is None else {"sample_weight": sample_weight}
            return dict(process_routing(self, "fit", **weight, **params).estimator.fit)
        if sample_weight is not None and has_fit_parameter(self.estimator, "sample_weight"):
            return {**params, "sample_weight": sample_weight}
        return params

    def get_metadata_routing(self) -> MetadataRouter:
        """What metadata goes where: to this estimator's ``fit``, and to that of the classifier.

        Returns
        -------
        sklearn.utils.metadata_routing.MetadataRouter
        """
        router = MetadataRouter(owner=type(self).__name__).add_self_request(self)
        if self.estimator is None:
            return router
        return router.add(estimator=self.estimator, method_mapping=MethodMapping().add(caller="fit", callee="fit"))

    def _search(self, logits: np.ndarray, codes: np.ndarray, weight: np.ndarray | None) -> tuple[float, float, int]:
        """The best inverse temperature, the loss there, and how many steps that took."""
        low, high = 0.0, math.inf  # the loss falls at the one and rises at the other
        inverse, value = 0.1, math.nan
        for step in range(1, int(self.max_iter) + 1):
            value, slope, bend = self._derivatives(logits, codes, weight, inverse)
            if not math.isfinite(value):
                raise ValueError(
                    f"the cross-entropy of the logits is {value}: a label has probability 0, or there are NaN"
                )
            if slope == 0 and bend == 0 and step == 1:
                return 1.0, value, step  # any temperature is as good
            low, high = (inverse, high) if slope <= 0 else (low, inverse)
            newton = inverse - slope / bend if bend > 0 else math.inf
            if not low <= newton <= high:
                newton = 10 * inverse if high == math.inf else 0.1 * inverse if low == 0 else math.sqrt(low * high)
            if step == _PATIENCE and high == math.inf:
                newton = _COLDEST
            newton = min(max(newton, _HOTTEST), _COLDEST)
            if abs(newton - inverse) <= self.tol * inverse:
                if newton == _HOTTEST or high == math.inf and value == 0:
                    towards = "infinity" if newton == _HOTTEST else "0"
                    warnings.warn(
                        f"the cross-entropy falls on and on towards a temperature of {towards}: {1 / newton:.3g} is "
                        "taken",
                        ConvergenceWarning,
                        stacklevel=3,
                    )
                return newton, value, step
            inverse = newton
        warnings.warn(
            f"the temperature has not converged in max_iter={self.max_iter} steps", ConvergenceWarning, stacklevel=3
        )
        return inverse, value, int(self.max_iter)

    def _derivatives(
        self, logits: np.ndarray, codes: np.ndarray, weight: np.ndarray | None, inverse: float
    ) -> tuple[float, float, float]:
        """The mean cross-entropy, and its first and second derivative in the inverse temperature."""
        if logits.ndim == 2:
            T = 1 / inverse
            value, first, second = lf.cross_entropy.evaluate(
                logits,
                codes,
                want=("loss", "grad_temperature", "hess_temperature"),
                temperature=T,
                sample_weight=weight,
                n_threads=self.n_threads,
            )
            return value, -(T**2) * first, T**4 * second + 2 * T**3 * first
        total = float(len(codes) if weight is None else weight.sum())
        found = np.zeros(3)
        loss = lf.binary_cross_entropy_with_logits.bind(denominator=total, n_threads=self.n_threads)
        for start in range(0, len(logits), _CHUNK):
            rows = slice(start, start + _CHUNK)
            z, w = logits[rows].astype(float), None if weight is None else weight[rows]
            value, grad, hess = loss.evaluate(z * inverse, codes[rows], want=("loss", "grad", "hess"), sample_weight=w)
            found += value, grad @ z, hess @ (z * z)
        return float(found[0]), float(found[1]), float(found[2])

    # -------------------------------------------------------------------------------------------------- predictions

    def _checked_labels(self, y: Any, logits: np.ndarray) -> np.ndarray:
        if y is None:
            raise ValueError("TemperatureScaler requires y to be passed, but the target y is None")
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        check_consistent_length(logits, y)
        return y

    def _logits(self, X: Any, reset: bool = False) -> np.ndarray:
        """Logits, of shape (n_samples, n_classes) or for two classes (n_samples,)."""
        if not reset:
            check_is_fitted(self)
            if self.estimator is not None:
                return _logits_of(self.estimator_, X)
        if np.ndim(X) != 1:
            X = validate_data(self, X, dtype="numeric", reset=reset)
            return X[:, 0] if X.shape[1] == 1 else X
        X = check_array(X, dtype="numeric", ensure_2d=False)
        if reset:
            self.n_features_in_ = 1
        elif self.n_features_in_ != 1:
            raise ValueError(
                f"X has shape {X.shape}, but logits of {len(self.classes_)} classes have a column for each"
            )
        return X

    def decision_function(self, X: Any) -> np.ndarray:
        """The logits divided by the temperature: (n_samples, n_classes), or for two classes perhaps (n_samples,)."""
        logits = self._logits(X)
        return logits / logits.dtype.type(self.temperature_) if logits.dtype.kind == "f" else logits / self.temperature_

    def transform(self, X: Any) -> np.ndarray:
        """The same, always with two axes.

        Returns
        -------
        ndarray of shape (n_samples, n_classes) or (n_samples, 1)
        """
        logits = self.decision_function(X)
        return logits[:, None] if logits.ndim == 1 else logits

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each row."""
        logits = self._logits(X)
        best = (logits > 0).astype(np.intp) if logits.ndim == 1 else logits.argmax(1)
        return self.classes_[best]

    def predict_proba(self, X: Any) -> np.ndarray:
        """The calibrated probability of each class, of shape (n_samples, n_classes)."""
        return _probabilities(lf.softmax, lf.sigmoid, self._logits(X), self.temperature_)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The logarithm of each class's calibrated probability."""
        return _probabilities(lf.log_softmax, lf.log_sigmoid, self._logits(X), self.temperature_)

    @property
    def _n_features_out(self) -> int:
        return self._columns

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        if self.estimator is None:
            # Logits have a column for each class, which no general data have.
            tags.input_tags.two_d_array = False
            tags.input_tags.one_d_array = True
        else:
            tags.input_tags.sparse = get_tags(self.estimator).input_tags.sparse
        return tags
