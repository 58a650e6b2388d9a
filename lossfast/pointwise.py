"""The pointwise losses and functions, each once: its name, parameters, documentation, error budget and Python twin.

A twin gives value, gradient and Hessian of one element, in float64, written in the words of `lossfast._words`: on
arrays it is the NumPy backend, compiled on scalars the Numba one. Its compiled counterpart is a body in
``kernels/pointwise.h``. Squares are taken last and halves of large differences first, so that a result which the type
can hold does not overflow on the way.
"""

from __future__ import annotations

import numpy as np

from lossfast._loss import Base, Choice, Parameter, pointwise_function, pointwise_loss
from lossfast._words import (
    difference,
    excess,
    exp_in_parts,
    exp_product,
    growth,
    keep_nan,
    log_cosh,
    log_factorial,
    log_ratio,
    lost,
    lost_in_product,
    lost_in_ratio,
    mul0,
    sigmoid_slope,
    sign,
    small,
    softplus,
    stirling,
    where,
)
from lossfast._words import sigmoid as _sigmoid


@pointwise_loss(ulp=2)
def l1_loss(x, t, q):
    r"""Absolute error.

    .. math:: \ell = |x - t|, \qquad \frac{\partial\ell}{\partial x} = \operatorname{sign}(x - t), \qquad
        \frac{\partial^2\ell}{\partial x^2} = 0

    At :math:`x = t` the gradient is 0, the middle of the subdifferential.

    Parameters
    ----------
    pred : array_like of float
        Predictions, of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything else as
        float64.
    target : array_like
        What was to be predicted, of pred's shape (or a scalar).

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If the shapes differ or an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    mse_loss, smooth_l1_loss, huber_loss

    Notes
    -----
    ``torch.nn.functional.l1_loss``, ``sklearn.metrics.mean_absolute_error`` (for 2-d input the latter averages outputs
    after samples, with the same result) and ``keras.losses.mean_absolute_error`` (mean over the last axis only).

    References
    ----------
    .. [1] P. J. Huber and E. M. Ronchetti, *Robust Statistics*, 2nd edition, Wiley, 2009, chapter 7.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.l1_loss([1.0, 2.0, 4.0], [1.0, 1.0, 1.0], reduction="sum")
    4.0
    """
    d = difference(x, t)
    return np.abs(d), sign(d), keep_nan(0.0, d)


@pointwise_loss(ulp=3)
def mse_loss(x, t, q):
    r"""Squared error.

    .. math:: \ell = (x - t)^2, \qquad \frac{\partial\ell}{\partial x} = 2 (x - t), \qquad
        \frac{\partial^2\ell}{\partial x^2} = 2

    Parameters
    ----------
    pred : array_like of float
        Predictions, of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything else as
        float64.
    target : array_like
        What was to be predicted, of pred's shape (or a scalar).

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape. A square beyond the type's
        range is infinite.

    Raises
    ------
    ValueError
        If the shapes differ or an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    l1_loss, smooth_l1_loss, huber_loss

    Notes
    -----
    ``torch.nn.functional.mse_loss`` and ``sklearn.metrics.mean_squared_error``. ``optax.squared_error`` is the same
    without the mean; ``optax.l2_loss`` and scikit-learn's internal ``HalfSquaredError`` are half of it.

    References
    ----------
    .. [1] C. F. Gauss, *Theoria combinationis observationum erroribus minimis obnoxiae*, 1823.

    Examples
    --------
    >>> import lossfast as lf
    >>> loss, grad = lf.mse_loss.value_and_grad([1.0, 2.0, 4.0, 1.0], [1.0, 1.0, 1.0, 1.0])
    >>> loss
    2.5
    >>> grad
    array([0. , 0.5, 1.5, 0. ])
    """
    d = difference(x, t)
    return d * d, 2.0 * d, keep_nan(2.0, d)


@pointwise_loss(parameters={"beta": Parameter(1.0, ">= 0")}, ulp=3)
def smooth_l1_loss(x, t, q, beta):
    r"""Absolute error, rounded off to a parabola near 0.

    .. math:: \ell = \begin{cases} d^2 / (2\beta) & |d| < \beta \\ |d| - \beta/2 & \text{otherwise}\end{cases},
        \qquad d = x - t

    The gradient is :math:`d/\beta` inside and :math:`\operatorname{sign} d` outside, the Hessian :math:`1/\beta` and 0.
    With ``beta=0`` it is `l1_loss` exactly.

    Parameters
    ----------
    pred : array_like of float
        Predictions, of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything else as
        float64.
    target : array_like
        What was to be predicted, of pred's shape (or a scalar).
    beta : float, default 1.0
        The difference at which the parabola turns into the line; at least 0, in the units of pred.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If beta is negative or NaN, if the shapes differ, or if an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    huber_loss : beta times this loss, for ``delta=beta``.

    Notes
    -----
    ``torch.nn.functional.smooth_l1_loss``. Keras and optax offer only the Huber form, which differs by the factor beta
    (and whose limit at 0 is nothing rather than `l1_loss`).

    References
    ----------
    .. [1] R. Girshick, "Fast R-CNN", ICCV 2015.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.smooth_l1_loss([0.5, 3.0], [0.0, 0.0], beta=0.5, reduction="none")
    array([0.25, 2.75])
    """
    d = difference(x, t)
    a, ratio, half = np.abs(d), d / beta, np.abs(0.5 * x - 0.5 * t)
    inside = a < beta
    line = where(
        a < np.inf, a - 0.5 * beta, 2.0 * (half - 0.25 * beta)
    )  # the difference of two finite numbers may overflow
    value = where(inside, a * (0.5 * np.abs(ratio)), line)
    return value, where(inside, ratio, sign(d)), keep_nan(where(inside, 1.0 / beta, 0.0), d)


@pointwise_loss(parameters={"delta": Parameter(1.0, "> 0")}, ulp=3)
def huber_loss(x, t, q, delta):
    r"""Half the squared error near 0, and a line beyond.

    .. math:: \ell = \begin{cases} d^2 / 2 & |d| \le \delta \\ \delta (|d| - \delta/2) & \text{otherwise}\end{cases},
        \qquad d = x - t

    The gradient is :math:`d` cut off at :math:`\pm\delta`, the Hessian 1 inside and 0 outside.

    Parameters
    ----------
    pred : array_like of float
        Predictions, of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything else as
        float64.
    target : array_like
        What was to be predicted, of pred's shape (or a scalar).
    delta : float, default 1.0
        The difference at which the parabola turns into the line; above 0, in the units of pred. With an infinite delta
        the loss is half of `mse_loss`.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If delta is not above 0, if the shapes differ, or if an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    smooth_l1_loss : this loss divided by delta.

    Notes
    -----
    ``torch.nn.functional.huber_loss``, ``optax.huber_loss``, ``keras.losses.Huber``, ``scipy.special.huber(delta, d)``.
    scikit-learn's ``HuberRegressor`` minimises another function, which scales the residuals and does not halve the
    square.

    References
    ----------
    .. [1] P. J. Huber, "Robust estimation of a location parameter", *Ann. Math. Statist.* 35 (1964) 73-101.

    Examples
    --------
    >>> import lossfast as lf
    >>> grad, hess = lf.huber_loss.grad_and_hess([0.5, 3.0], [0.0, 0.0], reduction="sum")
    >>> grad, hess
    (array([0.5, 1. ]), array([1., 0.]))
    """
    d = difference(x, t)
    a, half = np.abs(d), np.abs(0.5 * x - 0.5 * t)
    inside = a <= delta
    line = where(a < np.inf, delta * (a - 0.5 * delta), 2.0 * (delta * (half - 0.25 * delta)))
    value = where(inside, 0.5 * a * a, line)
    return value, where(inside, d, delta * sign(d)), keep_nan(where(inside, 1.0, 0.0), d)


def _terms_of_binary_cross_entropy(x, t, q):
    no, yes = np.abs(1.0 - t) * _sigmoid(x), np.abs(q * t) * _sigmoid(-x)
    return 0.0, where((no == 0.0) | (yes == 0.0), 0.0, no + yes), 0.0


@pointwise_loss(extra="pos_weight", ulp=2, group="classification", terms=_terms_of_binary_cross_entropy)
def binary_cross_entropy_with_logits(x, t, q):
    r"""Cross-entropy of a yes-or-no answer given as a logit (the log of the odds).

    .. math:: \ell = (1 - t)\,\log(1 + e^x) + q\,t\,\log(1 + e^{-x})

    .. math:: \frac{\partial\ell}{\partial x} = (1 - t)\,\sigma(x) - q\,t\,\sigma(-x), \qquad
        \frac{\partial^2\ell}{\partial x^2} = (1 - t + q\,t)\,\sigma(x)\,\sigma(-x)

    with :math:`\sigma` the logistic function and :math:`q` the weight of the positive answer. Each term keeps its
    relative accuracy however sure and right the answer is, and a term of weight 0 is 0 at an infinite logit too.

    Parameters
    ----------
    pred : array_like of float
        Logits, of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything else as float64.
    target : array_like
        The probability of "yes", usually 0 or 1, of pred's shape (or a scalar). Not checked to be one.
    pos_weight : float or array_like, optional
        Weight of the positive term: a scalar, or a vector along the last axis. Part of the loss, not of the mean's
        denominator.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If the shapes differ or an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    cross_entropy : for one answer out of several.
    sigmoid, log_sigmoid

    Notes
    -----
    ``torch.nn.functional.binary_cross_entropy_with_logits``, ``optax.sigmoid_binary_cross_entropy``, and scikit-learn's
    ``log_loss`` once logits have been turned into probabilities. They return 0 for sure and right answers, and NaN for
    infinite ones.

    References
    ----------
    .. [1] D. R. Cox, "The regression analysis of binary sequences", *J. R. Stat. Soc. B* 20 (1958) 215-242.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.binary_cross_entropy_with_logits([0.0, 2.0, -40.0], [1.0, 1.0, 0.0], reduction="none")
    array([6.93147181e-01, 1.26928011e-01, 4.24835426e-18])
    """
    no, yes = 1.0 - t, q * t
    value = mul0(no, softplus(x)) + mul0(yes, softplus(-x))
    return value, no * _sigmoid(x) - yes * _sigmoid(-x) + 0.0, (no + yes) * sigmoid_slope(x)


@pointwise_function(ulp=2)
def sigmoid(x, t, q):
    r"""The logistic function.

    .. math:: \sigma(x) = \frac{1}{1 + e^{-x}}, \qquad \sigma' = \sigma(x)\,\sigma(-x), \qquad
        \sigma'' = -\sigma' \tanh(x/2)

    Parameters
    ----------
    x : array_like of float
        Logits, of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything else as float64.

    Returns
    -------
    ndarray
        Probabilities between 0 and 1, of x's shape, relatively accurate at both ends.

    Raises
    ------
    TypeError
        If x is complex, object, masked or not an array.

    See Also
    --------
    log_sigmoid, softmax

    Notes
    -----
    ``scipy.special.expit``, ``torch.sigmoid``, ``jax.nn.sigmoid``. ``sigmoid.vjp(x, v)`` is ``v * sigmoid'(x)``.

    References
    ----------
    .. [1] P.-F. Verhulst, "Recherches mathématiques sur la loi d'accroissement de la population", 1845.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.sigmoid([-700.0, 0.0, 2.0])
    array([9.85967654e-305, 5.00000000e-001, 8.80797078e-001])
    """
    slope = sigmoid_slope(x)
    return _sigmoid(x), slope, mul0(slope, -np.tanh(0.5 * x))


@pointwise_function(ulp=2)
def log_sigmoid(x, t, q):
    r"""Logarithm of the logistic function.

    .. math:: f(x) = \log\sigma(x) = -\log(1 + e^{-x}), \qquad f' = \sigma(-x), \qquad f'' = -\sigma(x)\,\sigma(-x)

    Parameters
    ----------
    x : array_like of float
        Logits, of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything else as float64.

    Returns
    -------
    ndarray
        Log-probabilities, at most 0, of x's shape. Sure answers keep their digits: ``log_sigmoid(40)`` is -4.2e-18.

    Raises
    ------
    TypeError
        If x is complex, object, masked or not an array.

    See Also
    --------
    sigmoid, log_softmax, binary_cross_entropy_with_logits

    Notes
    -----
    ``scipy.special.log_expit``, ``torch.nn.functional.logsigmoid``, ``jax.nn.log_sigmoid``.

    References
    ----------
    .. [1] M. Mächler, "Accurately computing ``log(1 - exp(-|a|))``", vignette of the R package Rmpfr, 2012.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.log_sigmoid([-1000.0, 0.0, 40.0])
    array([-1.00000000e+03, -6.93147181e-01, -4.24835426e-18])
    """
    return 0.0 - softplus(-x), _sigmoid(-x), 0.0 - sigmoid_slope(x)


@pointwise_loss(ulp=2)
def half_squared_error(x, t, q):
    r"""Half the squared error.

    .. math:: \ell = \tfrac{1}{2} (x - t)^2, \qquad \frac{\partial\ell}{\partial x} = x - t, \qquad
        \frac{\partial^2\ell}{\partial x^2} = 1

    The negative log-likelihood of Gaussian noise of variance 1, but for a constant.

    Parameters
    ----------
    pred : array_like of float
        Predictions, of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything else as
        float64.
    target : array_like
        What was to be predicted, of pred's shape (or a scalar).

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape. What is beyond the type's range
        is infinite.

    Raises
    ------
    ValueError
        If the shapes differ or an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    mse_loss : twice this loss.
    huber_loss : this loss near 0, and a line beyond.

    Notes
    -----
    ``optax.l2_loss`` (without the mean), and ``HalfSquaredError`` among scikit-learn's private losses, which its
    gradient boosting and linear models minimise. torch and Keras have only the whole square, `mse_loss`.

    References
    ----------
    .. [1] C. F. Gauss, *Theoria combinationis observationum erroribus minimis obnoxiae*, 1823.

    Examples
    --------
    >>> import lossfast as lf
    >>> loss, grad = lf.half_squared_error.value_and_grad([1.0, 4.0], [1.0, 1.0], reduction="sum")
    >>> loss, grad
    (4.5, array([0., 3.]))
    """
    d = difference(x, t)
    return 0.5 * d * d, d, keep_nan(1.0, d)


@pointwise_loss(parameters={"quantile": Parameter(0.5, "in [0, 1]")}, ulp=2)
def pinball_loss(x, t, q, quantile):
    r"""Absolute error that weighs too low and too high differently: the loss of a quantile.

    .. math:: \ell = \begin{cases} (1 - \tau)\,d & d \ge 0 \\ -\tau\,d & d < 0\end{cases}, \qquad d = x - t

    The gradient is :math:`1 - \tau` where the prediction is too high and :math:`-\tau` where it is too low, with
    :math:`\tau` the quantile; at :math:`x = t` it is 0, an element of the subdifferential. The Hessian is 0. The
    constant that minimises the mean is the :math:`\tau`-quantile of the targets.

    Parameters
    ----------
    pred : array_like of float
        Predictions, of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything else as
        float64.
    target : array_like
        What was to be predicted, of pred's shape (or a scalar).
    quantile : float, default 0.5
        The quantile that is estimated, from 0 to 1. With 0.5 the loss is half of `l1_loss`, and estimates the median.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If quantile is outside [0, 1], if the shapes differ, or if an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    l1_loss : twice this loss, for ``quantile=0.5``.
    expectile_loss : the same with squares.

    Notes
    -----
    ``sklearn.metrics.mean_pinball_loss(alpha=)``, ``PinballLoss(quantile=)`` among scikit-learn's private losses, and
    what ``QuantileRegressor`` and ``HistGradientBoostingRegressor(loss="quantile")`` minimise. At :math:`x = t` the
    gradient of scikit-learn is minus the quantile. torch, Keras and optax have no such loss.

    References
    ----------
    .. [1] R. Koenker and G. Bassett, "Regression quantiles", *Econometrica* 46 (1978) 33-50.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.pinball_loss([1.0, 3.0], [2.0, 2.0], quantile=0.75, reduction="none")
    array([0.75, 0.25])
    """
    d, over = difference(x, t), 1.0 - quantile
    slope = where(d > 0.0, over, quantile)
    value = where(np.abs(d) < np.inf, slope * np.abs(d), 2.0 * slope * np.abs(0.5 * x - 0.5 * t))
    return (
        where(slope == 0.0, keep_nan(0.0, d), value),
        where(d > 0.0, over, where(d < 0.0, 0.0 - quantile, d)),
        keep_nan(0.0, d),
    )


@pointwise_loss(parameters={"expectile": Parameter(0.5, "in (0, 1)")}, ulp=2)
def expectile_loss(x, t, q, expectile):
    r"""Squared error that weighs too low and too high differently: the loss of an expectile.

    .. math:: \ell = w\,d^2, \qquad \frac{\partial\ell}{\partial x} = 2 w\,d, \qquad
        w = \begin{cases} 1 - \tau & d > 0 \\ \tau & d < 0\end{cases}, \qquad d = x - t

    The Hessian is :math:`2 w`; at :math:`d = 0`, where it jumps, it is 1, the mean of both sides.

    Parameters
    ----------
    pred : array_like of float
        Predictions, of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything else as
        float64.
    target : array_like
        What was to be predicted, of pred's shape (or a scalar).
    expectile : float, default 0.5
        The expectile that is estimated, between 0 and 1. With 0.5 the loss is `half_squared_error`, and estimates the
        mean.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If expectile is not between 0 and 1, if the shapes differ, or if an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    pinball_loss : the same without squares.
    half_squared_error : this loss, for ``expectile=0.5``.

    Notes
    -----
    Asymmetric least squares. torch, Keras, optax and scikit-learn have no such loss.

    References
    ----------
    .. [1] W. K. Newey and J. L. Powell, "Asymmetric least squares estimation and testing", *Econometrica* 55 (1987)
           819-847.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.expectile_loss([1.0, 4.0], [2.0, 2.0], expectile=0.75, reduction="none")
    array([0.75, 1.  ])
    """
    d = difference(x, t)
    w = where(d > 0.0, 1.0 - expectile, expectile)
    grad = where(np.abs(d) < np.inf, 2.0 * w * d, 4.0 * w * (0.5 * x - 0.5 * t))
    return w * d * d, grad, where(d == 0.0, 1.0, keep_nan(2.0 * w, d))


@pointwise_loss(parameters={"epsilon": Parameter(0.1, "finite and >= 0")}, ulp=2)
def epsilon_insensitive_loss(x, t, q, epsilon):
    r"""Absolute error, less what is small enough to cost nothing: the loss of support vector regression.

    .. math:: \ell = \max(0, |d| - \varepsilon), \qquad d = x - t

    The gradient is :math:`\operatorname{sign} d` where :math:`|d| > \varepsilon` and 0 elsewhere, also at :math:`|d| =
    \varepsilon`; the Hessian is 0. However near :math:`|d|` and :math:`\varepsilon` are, value and gradient are those
    of the exact difference.

    Parameters
    ----------
    pred : array_like of float
        Predictions, of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything else as
        float64.
    target : array_like
        What was to be predicted, of pred's shape (or a scalar).
    epsilon : float, default 0.1
        Half the width of the tube in which differences cost nothing; at least 0, in the units of pred.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If epsilon is negative, infinite or NaN, if the shapes differ, or if an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    squared_epsilon_insensitive_loss
    l1_loss : this loss, for ``epsilon=0``.

    Notes
    -----
    What scikit-learn's ``LinearSVR(loss="epsilon_insensitive")``, ``SVR`` and ``SGDRegressor`` minimise, beside a
    penalty. torch, Keras and optax have no such loss.

    References
    ----------
    .. [1] V. N. Vapnik, *The Nature of Statistical Learning Theory*, Springer, 1995, chapter 6.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.epsilon_insensitive_loss([1.25, 4.0], [1.0, 1.0], epsilon=0.5, reduction="none")
    array([0. , 2.5])
    """
    r = excess(x, t, epsilon)
    none = keep_nan(0.0, r)
    return where(r > 0.0, r, none), where(r > 0.0, sign(x - t), none), none


@pointwise_loss(parameters={"epsilon": Parameter(0.1, "finite and >= 0")}, ulp=2)
def squared_epsilon_insensitive_loss(x, t, q, epsilon):
    r"""The square of the error's excess over what is small enough to cost nothing.

    .. math:: \ell = r^2, \qquad \frac{\partial\ell}{\partial x} = 2 r \operatorname{sign} d, \qquad
        r = \max(0, |d| - \varepsilon), \qquad d = x - t

    The Hessian is 2 where :math:`|d| > \varepsilon` and 0 elsewhere, also at :math:`|d| = \varepsilon`.

    Parameters
    ----------
    pred : array_like of float
        Predictions, of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything else as
        float64.
    target : array_like
        What was to be predicted, of pred's shape (or a scalar).
    epsilon : float, default 0.1
        Half the width of the tube in which differences cost nothing; at least 0, in the units of pred.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If epsilon is negative, infinite or NaN, if the shapes differ, or if an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    epsilon_insensitive_loss
    mse_loss : this loss, for ``epsilon=0``.

    Notes
    -----
    What scikit-learn's ``LinearSVR(loss="squared_epsilon_insensitive")`` and ``SGDRegressor`` minimise, beside a
    penalty; there is no ½. torch, Keras and optax have no such loss.

    References
    ----------
    .. [1] C.-H. Ho and C.-J. Lin, "Large-scale linear support vector regression", *J. Mach. Learn. Res.* 13 (2012)
           3323-3348.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.squared_epsilon_insensitive_loss([1.25, 4.0], [1.0, 1.0], epsilon=0.5, reduction="none")
    array([0.  , 6.25])
    """
    above = excess(x, t, epsilon)
    none = keep_nan(0.0, above)
    r = where(above > 0.0, above, none)
    return r * r, 2.0 * where(x < t, 0.0 - r, r), where(above > 0.0, 2.0, none)


@pointwise_loss(parameters={"delta": Parameter(1.0, "finite and > 0")}, ulp=2)
def pseudo_huber_loss(x, t, q, delta):
    r"""A smooth curve that is half the squared error near 0 and a line far from it.

    .. math:: \ell = \delta^2 \left(\sqrt{1 + u^2} - 1\right), \qquad \frac{\partial\ell}{\partial x} =
        \frac{d}{\sqrt{1 + u^2}}, \qquad \frac{\partial^2\ell}{\partial x^2} = (1 + u^2)^{-3/2}

    with :math:`d = x - t` and :math:`u = d/\delta`. It is evaluated without the difference, so that small :math:`d`
    keep their digits, and without the square of :math:`u`, which may be beyond the type's range where the loss is not.

    Parameters
    ----------
    pred : array_like of float
        Predictions, of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything else as
        float64.
    target : array_like
        What was to be predicted, of pred's shape (or a scalar).
    delta : float, default 1.0
        Where the curve turns from the parabola to the line, whose slope it is; above 0, in the units of pred.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If delta is not above 0 or infinite, if the shapes differ, or if an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    huber_loss : with a parabola and a line proper.
    log_cosh_loss

    Notes
    -----
    ``scipy.special.pseudo_huber(delta, d)``. torch, Keras, optax and scikit-learn have no such loss. Divided by delta
    it is the Charbonnier loss without its constant.

    References
    ----------
    .. [1] P. Charbonnier, L. Blanc-Féraud, G. Aubert and M. Barlaud, "Deterministic edge-preserving regularization in
           computed imaging", *IEEE Trans. Image Process.* 6 (1997) 298-311.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.pseudo_huber_loss([1e-9, 0.75, 1e300], 0.0, delta=1.0, reduction="none")
    array([5.0e-019, 2.5e-001, 1.0e+300])
    """
    d, rest = difference(x, t), lost(x, t)
    a, a_lo = np.abs(d), where(d < 0.0, -rest, rest)
    outside = a > delta
    least, least_lo = where(outside, delta, a), where(outside, 0.0, a_lo)
    most, most_lo = where(outside, a, delta), where(outside, a_lo, 0.0)
    m = least / most
    m_lo = lost_in_ratio(m, least, least_lo, most, most_lo)
    k, k_lo, square = where(outside, m, 1.0), where(outside, m_lo, 0.0), 1.0 + m * m
    h = np.sqrt(square)
    h_lo = (
        0.5
        * (((square - h * h) - lost_in_product(h, h)) + lost(1.0, -m * m) + lost_in_product(m, m) + 2.0 * m * m_lo)
        / h
    )
    total = h + k
    y, slope, bend = a / total, least / h, k / h
    y_lo = lost_in_ratio(y, a, a_lo, total, lost(h, -k) + (h_lo + k_lo))
    slope_lo, bend_lo = lost_in_ratio(slope, least, least_lo, h, h_lo), lost_in_ratio(bend, k, k_lo, h, h_lo)
    value = where(a == np.inf, 2.0 * delta * np.abs(0.5 * x - 0.5 * t), least * y + (least * y_lo + least_lo * y))
    grad = where(d < 0.0, -1.0, 1.0) * (slope + slope_lo)
    return value, grad, bend * bend * bend + 3.0 * bend * bend * bend_lo


def _terms_of_tukey(x, t, q, c):
    v = (x - t) / c * ((x - t) / c)
    return 0.0, 0.0, where(v < 1.0, (1.0 - v) * (1.0 + 5.0 * v), 0.0)


@pointwise_loss(parameters={"c": Parameter(4.685, "finite and > 0")}, ulp=3, terms=_terms_of_tukey)
def tukey_loss(x, t, q, c):
    r"""Tukey's biweight: about half the squared error near 0, and constant where the difference is an outlier's.

    .. math:: \ell = \begin{cases} \frac{c^2}{6} \left(1 - w^3\right) & |d| < c \\ \frac{c^2}{6} & \text{otherwise}
        \end{cases}, \qquad w = 1 - (d/c)^2, \qquad d = x - t

    The gradient is :math:`d\,w^2` inside and 0 outside, the Hessian :math:`w\,(5 w - 4)` and 0; it is negative where
    :math:`|d| > c/\sqrt5`, so that the loss is not convex.

    Parameters
    ----------
    pred : array_like of float
        Predictions, of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything else as
        float64.
    target : array_like
        What was to be predicted, of pred's shape (or a scalar).
    c : float, default 4.685
        The difference from which on the loss is constant; above 0, in the units of pred. The default makes the location
        of Gaussian data of standard deviation 1 95 % as efficient as the mean does.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If c is not above 0 or infinite, if the shapes differ, or if an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    huber_loss, pseudo_huber_loss
    cauchy_loss : whose gradient falls off, but never to 0.

    Notes
    -----
    Robust regression divides differences by an estimate of their scale first; here that is the caller's. torch, Keras,
    optax and scikit-learn have no such loss.

    References
    ----------
    .. [1] A. E. Beaton and J. W. Tukey, "The fitting of power series, meaning polynomials, illustrated on
           band-spectroscopic data", *Technometrics* 16 (1974) 147-185.

    Examples
    --------
    >>> import lossfast as lf
    >>> value, grad = lf.tukey_loss.value_and_grad([1.0, 9.0], 0.0, c=2.0, reduction="none")
    >>> value, grad
    (array([0.38541667, 0.66666667]), array([0.5625, 0.    ]))
    """
    d, rest = difference(x, t), lost(x, t)
    a, a_lo = np.abs(d), where(d < 0.0, -rest, rest)
    none, start, rest = keep_nan(0.0, a), c - a, lost(c, a) - a_lo
    u, gap = a / c, start + rest
    e, u_lo, v = gap / c, lost_in_ratio(u, a, a_lo, c, 0.0), u * u
    e_lo, v_lo = lost_in_ratio(e, gap, (start - gap) + rest, c, 0.0), lost_in_product(u, u) + 2.0 * u * u_lo
    middle, inside = v < 0.5, gap > 0.0
    w = where(middle, 1.0 - v, where(inside, e * (2.0 - e), none))
    edge_lo = lost_in_product(e, 2.0 - e) + e * lost(2.0, e) + 2.0 * (1.0 - e) * e_lo
    w_lo = where(middle, lost(1.0, v) - v_lo, where(inside, edge_lo, 0.0))
    bend_lo = where(middle, lost(1.0, 5.0 * v) - lost_in_product(5.0, v) - 5.0 * v_lo, 5.0 * w_lo)
    bend = where(middle, 1.0 - 5.0 * v, 5.0 * w - 4.0) + bend_lo
    value = where(middle, a * (0.5 - v * (0.5 - v / 6.0)) * a, c / 6.0 * (1.0 - w * w * w) * c)
    grad = where(inside, d * (w * w) + 2.0 * d * w * w_lo, none)
    return value, grad, where(inside, w * bend + w_lo * bend, none)


@pointwise_loss(ulp=2, domains={"target": "not 0"})
def mape(x, t, q):
    r"""Absolute error as a fraction of the target.

    .. math:: \ell = \frac{|x - t|}{|t|}, \qquad
        \frac{\partial\ell}{\partial x} = \frac{\operatorname{sign}(x - t)}{|t|}, \qquad
        \frac{\partial^2\ell}{\partial x^2} = 0

    At :math:`x = t` the gradient is 0, the middle of the subdifferential. An infinite target is at the distance 1 from
    every finite prediction.

    Parameters
    ----------
    pred : array_like of float
        Predictions, of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything else as
        float64.
    target : array_like
        What was to be predicted, of pred's shape (or a scalar). Not 0.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If an element of target is 0, if the shapes differ, or if an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    l1_loss : the absolute error itself.

    Notes
    -----
    The mean absolute percentage error, as a fraction: 0.5 is 50 %. ``sklearn.metrics.mean_absolute_percentage_error``
    divides by ``max(|t|, 2.2e-16)``, so that targets near 0 give large values and none gives an error;
    ``keras.losses.MeanAbsolutePercentageError`` is 100 times as much, and divides by ``max(|t|, 1e-7)``. torch and
    optax have no such loss.

    References
    ----------
    .. [1] R. J. Hyndman and A. B. Koehler, "Another look at measures of forecast accuracy", *Int. J. Forecast.* 22
           (2006) 679-688.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.mape([90.0, 6.0], [100.0, 4.0], reduction="none")
    array([0.1, 0.5])
    >>> lf.mape([90.0, 6.0], [100.0, 0.0])
    Traceback (most recent call last):
        ...
    ValueError: target must be not 0, got 0 at 1 (1 such elements)
    """
    d, size = difference(x, t), np.abs(t)
    ratio = where(np.abs(d) < np.inf, np.abs(d) / size, 2.0 * (np.abs(0.5 * x - 0.5 * t) / size))
    value = where((size == np.inf) & (np.abs(x) < np.inf), 1.0, ratio)
    return value, sign(d) / size, keep_nan(0.0, d)


@pointwise_loss(ulp=2, group="classification", domains={"target": "-1 or 1"})
def hinge_loss(x, t, q):
    r"""What a margin lacks to 1: the loss of support vector machines.

    .. math:: \ell = \max(0, 1 - m), \qquad m = t\,x

    The gradient is :math:`-t` where :math:`m < 1` and 0 elsewhere, also at the kink :math:`m = 1`; the Hessian is 0.

    Parameters
    ----------
    pred : array_like of float
        Scores, above 0 for the answer 1 and below 0 for -1, of any shape. float64, float32, float16 and bfloat16 are
        taken as they are, everything else as float64.
    target : array_like
        The right answers, -1 or 1, of pred's shape (or a scalar). Labels 0 and 1 become these as ``2 * target - 1``.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If an element of target is neither -1 nor 1, if the shapes differ, or if an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    squared_hinge_loss, modified_huber_loss, logistic_loss, hinge_embedding_loss

    Notes
    -----
    ``sklearn.metrics.hinge_loss`` (for two classes) and ``LinearSVC(loss="hinge")``, ``optax.hinge_loss`` (without the
    mean), and ``keras.losses.Hinge``, which takes labels 0 for -1 where there are no others; here those are an error.
    torch has none for two classes: ``multi_margin_loss`` is that of several.

    References
    ----------
    .. [1] C. Cortes and V. Vapnik, "Support-vector networks", *Mach. Learn.* 20 (1995) 273-297.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.hinge_loss([2.0, 0.25, -3.0], [1, 1, 1], reduction="none")
    array([0.  , 0.75, 4.  ])
    >>> lf.hinge_loss([2.0, 0.25], [1, 0])
    Traceback (most recent call last):
        ...
    ValueError: target must be -1 or 1, got 0 at 1 (1 such elements); labels 0 and 1 become -1 and 1 as 2 * target - 1
    """
    u = 1.0 - t * x
    none = keep_nan(0.0, u)
    return where(u > 0.0, u, none), where(u > 0.0, -t, none), none


@pointwise_loss(ulp=2, group="classification", domains={"target": "-1 or 1"})
def squared_hinge_loss(x, t, q):
    r"""The square of what a margin lacks to 1.

    .. math:: \ell = u^2, \qquad \frac{\partial\ell}{\partial x} = -2 t\,u, \qquad u = \max(0, 1 - t\,x)

    The Hessian is 2 where :math:`t\,x < 1` and 0 elsewhere, also at :math:`t\,x = 1`.

    Parameters
    ----------
    pred : array_like of float
        Scores, above 0 for the answer 1 and below 0 for -1, of any shape. float64, float32, float16 and bfloat16 are
        taken as they are, everything else as float64.
    target : array_like
        The right answers, -1 or 1, of pred's shape (or a scalar). Labels 0 and 1 become these as ``2 * target - 1``.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If an element of target is neither -1 nor 1, if the shapes differ, or if an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    hinge_loss, modified_huber_loss

    Notes
    -----
    ``LinearSVC(loss="squared_hinge")`` and ``SGDClassifier(loss="squared_hinge")`` of scikit-learn, and
    ``keras.losses.SquaredHinge``, which takes labels 0 for -1. There is no ½. torch and optax have no such loss.

    References
    ----------
    .. [1] Y. Lee and O. L. Mangasarian, "SSVM: a smooth support vector machine for classification", *Comput. Optim.
           Appl.* 20 (2001) 5-22.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.squared_hinge_loss([2.0, 0.5, -3.0], [1, 1, 1], reduction="none")
    array([ 0.  ,  0.25, 16.  ])
    """
    u = 1.0 - t * x
    none = keep_nan(0.0, u)
    r = where(u > 0.0, u, none)
    return r * r, -2.0 * t * r + 0.0, where(u > 0.0, 2.0, none)


@pointwise_loss(ulp=2, group="classification", domains={"target": "-1 or 1"})
def modified_huber_loss(x, t, q):
    r"""The squared hinge loss, with a line for answers that are wrong by far.

    .. math:: \ell = \begin{cases} \max(0, 1 - m)^2 & m \ge -1 \\ -4 m & m < -1\end{cases}, \qquad m = t\,x

    The gradient is :math:`-2 t \max(0, 1 - m)` for :math:`m \ge -1` and :math:`-4 t` below, the Hessian 2 for :math:`-1
    \le m < 1` and 0 elsewhere.

    Parameters
    ----------
    pred : array_like of float
        Scores, above 0 for the answer 1 and below 0 for -1, of any shape. float64, float32, float16 and bfloat16 are
        taken as they are, everything else as float64.
    target : array_like
        The right answers, -1 or 1, of pred's shape (or a scalar). Labels 0 and 1 become these as ``2 * target - 1``.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If an element of target is neither -1 nor 1, if the shapes differ, or if an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    squared_hinge_loss, hinge_loss
    huber_loss : of differences.

    Notes
    -----
    ``SGDClassifier(loss="modified_huber")`` of scikit-learn, whose probabilities are :math:`(\operatorname{clip}(x, -1,
    1) + 1)/2`. torch, Keras and optax have no such loss.

    References
    ----------
    .. [1] T. Zhang, "Solving large scale linear prediction problems using stochastic gradient descent algorithms", ICML
           2004.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.modified_huber_loss([2.0, 0.5, -3.0], [1, 1, 1], reduction="none")
    array([ 0.  ,  0.25, 12.  ])
    """
    m = t * x
    none = keep_nan(0.0, m)
    line, r = m < -1.0, where(m < 1.0, 1.0 - m, none)
    return (
        where(line, -4.0 * m, r * r),
        -2.0 * t * where(line, 2.0, r) + 0.0,
        where(line, 0.0, where(m < 1.0, 2.0, none)),
    )


@pointwise_loss(parameters={"margin": Parameter(1.0)}, ulp=2, group="classification", domains={"target": "-1 or 1"})
def hinge_embedding_loss(x, t, q, margin):
    r"""A distance, where things are alike; what it lacks to a margin, where they are not.

    .. math:: \ell = \begin{cases} x & t = 1 \\ \max(0, \mu - x) & t = -1\end{cases}

    with :math:`\mu` the margin. The gradient is 1 for :math:`t = 1`; for :math:`t = -1` it is -1 where :math:`x < \mu`
    and 0 elsewhere, also at the kink. The Hessian is 0. With ``target=1`` the loss of a negative pred is negative.

    Parameters
    ----------
    pred : array_like of float
        Distances, of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything else as
        float64.
    target : array_like
        1 for things that are alike, -1 for others, of pred's shape (or a scalar).
    margin : float, default 1.0
        The distance from which on things that are not alike cost nothing, in the units of pred.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If an element of target is neither -1 nor 1, if margin is infinite or NaN, if the shapes differ, or if an option
        is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    hinge_loss

    Notes
    -----
    ``torch.nn.functional.hinge_embedding_loss``, whose gradient at the kink is -1. scikit-learn, Keras and optax have
    no such loss.

    References
    ----------
    .. [1] R. Hadsell, S. Chopra and Y. LeCun, "Dimensionality reduction by learning an invariant mapping", CVPR 2006
           (with squares).

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.hinge_embedding_loss([0.25, 0.25, 3.0], [1, -1, -1], reduction="none")
    array([0.25, 0.75, 0.  ])
    """
    u = (margin - x) + lost(margin, x)
    none, same = keep_nan(0.0, x + t), t > 0.0
    value = where(same, x, where(u > 0.0, u, 0.0)) + none
    return value, where(same, 1.0, where(u > 0.0, -1.0, 0.0)) + none, none


@pointwise_loss(ulp=2, group="classification", domains={"target": "-1 or 1"})
def zero_one_loss(x, t, q):
    r"""Whether an answer is wrong: 0 or 1.

    .. math:: \ell = \begin{cases} 0 & t\,x > 0 \\ 1 & t\,x \le 0\end{cases}

    A score of 0 decides nothing and is wrong whatever the target, so that the loss is below `hinge_loss` and the other
    losses of a margin everywhere. Gradient and Hessian are 0, the derivatives wherever there are any: this loss
    measures, and cannot be minimised by its slope.

    Parameters
    ----------
    pred : array_like of float
        Scores, above 0 for the answer 1 and below 0 for -1, of any shape. float64, float32, float16 and bfloat16 are
        taken as they are, everything else as float64.
    target : array_like
        The right answers, -1 or 1, of pred's shape (or a scalar). Labels 0 and 1 become these as ``2 * target - 1``.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If an element of target is neither -1 nor 1, if the shapes differ, or if an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    hinge_loss, logistic_loss, exponential_loss

    Notes
    -----
    One minus the accuracy. ``sklearn.metrics.zero_one_loss`` compares labels; the classifiers of scikit-learn decide a
    score of 0 for the first class. torch, Keras and optax have no such loss.

    References
    ----------
    .. [1] T. Hastie, R. Tibshirani and J. Friedman, *The Elements of Statistical Learning*, 2nd edition, Springer,
           2009, section 10.6.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.zero_one_loss([2.0, 0.25, -3.0, 0.0], [1, -1, -1, -1], reduction="none")
    array([0., 1., 0., 1.])
    """
    m = t * x
    none = keep_nan(0.0, m)
    return where(m <= 0.0, 1.0, none), none, none


def _terms_of_quadratic_sigmoid(x, t, q):
    no, yes, slope = np.abs(1.0 - t) * _sigmoid(x), np.abs(t) * _sigmoid(-x), sigmoid_slope(x)
    size = no + yes
    cancelling = where((no == 0.0) | (yes == 0.0), 0.0, size)
    bend = slope * (slope + size * np.abs(np.tanh(0.5 * x)))
    return cancelling * np.abs(no - yes), cancelling * slope, bend


@pointwise_loss(ulp=3, group="classification", terms=_terms_of_quadratic_sigmoid)
def quadratic_sigmoid_loss(x, t, q):
    r"""Half the squared error of a probability given as a logit: the quadratic cost on a sigmoid output.

    .. math:: \ell = \tfrac{1}{2} r^2, \qquad \frac{\partial\ell}{\partial x} = r\,\sigma', \qquad
        \frac{\partial^2\ell}{\partial x^2} = \sigma' \left(\sigma' + r (1 - 2 \sigma)\right), \qquad r = \sigma(x) - t

    with :math:`\sigma` the logistic function and :math:`\sigma' = \sigma(x)\,\sigma(-x)`. The factor :math:`\sigma'`
    makes the gradient vanish where the answer is sure, however wrong it is; that of cross-entropy, :math:`r`, does not.
    The loss is not convex. Right and sure answers keep their digits: :math:`r` is never the difference of two numbers
    near 1.

    Parameters
    ----------
    pred : array_like of float
        Logits, of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything else as float64.
    target : array_like
        The probability of "yes", usually 0 or 1, of pred's shape (or a scalar). Not checked to be one.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If the shapes differ or an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    binary_cross_entropy_with_logits : what it is compared with.
    quadratic_softmax_loss : the same over several classes.
    mse_loss : on probabilities.

    Notes
    -----
    Half the Brier score of ``sigmoid(pred)``: ``sklearn.metrics.brier_score_loss`` is twice the mean. Elsewhere it is
    the squared error of a sigmoid, in two calls, which lose what is below the rounding of 1.

    References
    ----------
    .. [1] M. A. Nielsen, *Neural Networks and Deep Learning*, Determination Press, 2015, chapter 3.
    .. [2] G. W. Brier, "Verification of forecasts expressed in terms of probability", *Mon. Weather Rev.* 78 (1950)
           1-3.

    Examples
    --------
    >>> import lossfast as lf
    >>> loss, grad = lf.quadratic_sigmoid_loss.value_and_grad([0.0, 40.0], [1.0, 1.0], reduction="none")
    >>> loss
    array([1.25000000e-01, 9.02425694e-36])
    >>> grad
    array([-1.25000000e-01, -1.80485139e-35])
    """
    e, up = np.exp(-np.abs(x)), x > 0.0
    far = e / (1.0 + e)  # the smaller of both sides, and the part of the target that goes with it
    far_lo = lost_in_ratio(far, e, 0.0, 1.0 + e, lost(1.0, -e))
    b, b_lo = where(up, 1.0 - t, t), where(up, lost(1.0, t), 0.0)
    r, r_lo = far - b, lost(far, b) + (far_lo - b_lo)
    slope = far - far * far
    slope_lo = lost(far, far * far) - lost_in_product(far, far) + far_lo * (1.0 - 2.0 * far)
    plus, minus = far * (2.0 - 3.0 * far), b * (1.0 - 2.0 * far)
    plus_lo = far * lost(2.0, 3.0 * far) + lost_in_product(far, 2.0 - 3.0 * far) - far * lost_in_product(3.0, far)
    minus_lo = b * lost(1.0, 2.0 * far) + lost_in_product(b, 1.0 - 2.0 * far) + b_lo * (1.0 - 2.0 * far)
    bend_lo = lost(plus, minus) + (plus_lo - minus_lo) + (far_lo * (2.0 - 6.0 * far) + 2.0 * far_lo * b)
    bend, finite = (plus - minus) + bend_lo, np.abs(r) < np.inf
    value = where(finite, 0.5 * r * r + r * r_lo, r * r)
    grad = where(finite, r * slope + (r * slope_lo + r_lo * slope), r * slope)
    return value, where(up, -grad, grad) + 0.0, where(finite, slope * bend + slope_lo * bend, -slope * minus)


@pointwise_loss(
    parameters={"eps": Parameter(None, "in (0, 0.5)")},
    domains={"pred": "in [0, 1]"},
    ulp=2,
    group="classification",
)
def binary_cross_entropy(x, t, q, eps):
    r"""Cross-entropy of a yes-or-no answer given as a probability.

    .. math:: \ell = -t \log p - (1 - t) \log(1 - p), \qquad
        \frac{\partial\ell}{\partial p} = \frac{p - t}{p\,(1 - p)}, \qquad
        \frac{\partial^2\ell}{\partial p^2} = \frac{t}{p^2} + \frac{1 - t}{(1 - p)^2}

    Nothing is clipped unless ``eps`` is given: a sure and right answer costs 0 (and has the gradient 1 or -1, the
    limit), a sure and wrong one infinity. A model that ends in a sigmoid should hand over its logits instead, to
    `binary_cross_entropy_with_logits`: a probability next to 1 has lost what it is short of 1.

    Parameters
    ----------
    pred : array_like of float
        Probabilities in [0, 1], of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything
        else as float64.
    target : array_like
        The probability of "yes", usually 0 or 1, of pred's shape (or a scalar). Not checked to be one.
    eps : float, optional
        Bring pred into [eps, 1 - eps] first; between 0 and 0.5. It is the clipped function that is differentiated:
        outside, the gradient and the Hessian are 0.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If a prediction is outside [0, 1], if the shapes differ, or if an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    binary_cross_entropy_with_logits : on logits, accurate however sure the answer.

    Notes
    -----
    ``torch.nn.functional.binary_cross_entropy`` cuts logarithms off at -100 and divides by at least 1e-12 in its
    gradient. ``keras.losses.binary_crossentropy`` clips pred with 1e-7, and ``sklearn.metrics.log_loss`` with the
    machine epsilon of its dtype: ``eps=`` does the like.

    References
    ----------
    .. [1] I. J. Good, "Rational decisions", *J. R. Stat. Soc. B* 14 (1952) 107-114.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.binary_cross_entropy([0.5, 0.9, 0.0], [1.0, 1.0, 0.0], reduction="none")
    array([0.69314718, 0.10536052, 0.        ])
    >>> lf.binary_cross_entropy([0.0], [1.0]), lf.binary_cross_entropy([0.0], [1.0], eps=1e-7)
    (inf, 16.11809565095832)
    """
    p, no = x + 0.0, 1.0 - t
    rest = 1.0 - p
    low, high = p < eps, rest < eps
    log_yes = where(high, np.log1p(-eps), np.log(where(low, eps, p)))
    log_no = where(low, np.log1p(-eps), where(high, np.log(eps), np.log1p(-p)))
    grad = where(t == 0.0, 1.0 / rest, where(t == 1.0, -1.0 / p, (p - t) / (p * rest)))
    hess = where(t == 0.0, keep_nan(0.0, p), t / p / p) + where(no == 0.0, keep_nan(0.0, p), no / rest / rest)
    grad, hess = where(low, 0.0 * t, grad), where(low, 0.0 * t, hess)
    value = 0.0 - mul0(t, log_yes) - mul0(no, log_no)
    return value, where(high, 0.0 * t, grad), where(high, 0.0 * t, hess)


@pointwise_loss(domains={"target": "-1 or 1"}, ulp=2, group="classification", aliases=("soft_margin_loss",))
def logistic_loss(x, t, q):
    r"""Cross-entropy of a yes-or-no answer given as a logit, with labels -1 and 1.

    .. math:: \ell = \log(1 + e^{-t x}), \qquad \frac{\partial\ell}{\partial x} = -t\,\sigma(-t x), \qquad
        \frac{\partial^2\ell}{\partial x^2} = t^2\,\sigma(x)\,\sigma(-x)

    The smooth companion of the hinge loss: a function of the margin :math:`t x` alone.

    Parameters
    ----------
    pred : array_like of float
        Logits, of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything else as float64.
    target : array_like
        Labels, -1 or 1, of pred's shape (or a scalar).

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If a label is neither -1 nor 1, if the shapes differ, or if an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    binary_cross_entropy_with_logits : the same with labels 0 and 1 (and all between).
    exponential_loss

    Notes
    -----
    ``torch.nn.functional.soft_margin_loss``; this object is ``lossfast.soft_margin_loss`` too.
    ``optax.sigmoid_binary_cross_entropy`` once labels are 0 and 1, and the ``log_loss`` of scikit-learn's
    ``SGDClassifier``.

    References
    ----------
    .. [1] J. Friedman, T. Hastie and R. Tibshirani, "Additive logistic regression: a statistical view of boosting",
       *Ann. Statist.* 28 (2000) 337-407.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.logistic_loss([0.0, 2.0, -40.0], [1, 1, -1], reduction="none")
    array([6.93147181e-01, 1.26928011e-01, 4.24835426e-18])
    """
    m = t * x
    return softplus(-m), 0.0 - t * _sigmoid(-m), t * t * sigmoid_slope(m)


@pointwise_loss(domains={"target": "-1 or 1"}, ulp=2, group="classification")
def exponential_loss(x, t, q):
    r"""Exponential of the negative margin: the loss that AdaBoost minimises.

    .. math:: \ell = e^{-t x}, \qquad \frac{\partial\ell}{\partial x} = -t\,e^{-t x}, \qquad
        \frac{\partial^2\ell}{\partial x^2} = t^2\,e^{-t x}

    Parameters
    ----------
    pred : array_like of float
        Scores, of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything else as float64.
    target : array_like
        Labels, -1 or 1, of pred's shape (or a scalar).

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If a label is neither -1 nor 1, if the shapes differ, or if an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    logistic_loss : which grows like a line where this one explodes.

    Notes
    -----
    The ``exponential`` loss of scikit-learn's ``GradientBoostingClassifier``. Its internal ``ExponentialLoss`` takes
    labels 0 and 1 and half the logit, with the same values.

    References
    ----------
    .. [1] Y. Freund and R. E. Schapire, "A decision-theoretic generalization of on-line learning and an application to
       boosting", *J. Comput. Syst. Sci.* 55 (1997) 119-139.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.exponential_loss([0.0, 2.0, -1.0], [1, 1, 1], reduction="none")
    array([1.        , 0.13533528, 2.71828183])
    """
    value = np.exp(-(t * x))
    return value, 0.0 - t * value, t * t * value


@pointwise_loss(ulp=3)
def log_cosh_loss(x, t, q):
    r"""Logarithm of the hyperbolic cosine: half the squared error near 0, the absolute error less log 2 beyond.

    .. math:: \ell = \log\cosh d, \qquad \frac{\partial\ell}{\partial x} = \tanh d, \qquad
        \frac{\partial^2\ell}{\partial x^2} = \operatorname{sech}^2 d, \qquad d = x - t

    Nothing cancels near 0 and nothing overflows far from it.

    Parameters
    ----------
    pred : array_like of float
        Predictions, of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything else as
        float64.
    target : array_like
        What was to be predicted, of pred's shape (or a scalar).

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If the shapes differ or an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    huber_loss, smooth_l1_loss : of the same shape, with a kink in the gradient.

    Notes
    -----
    ``optax.log_cosh`` and ``keras.losses.LogCosh`` are the same without the accuracy near 0, where they subtract
    log 2 from a rounded sum.

    References
    ----------
    .. [1] R. A. Saleh and A. K. Md. Ehsanes Saleh, "Statistical properties of the log-cosh loss function used in
       machine learning", arXiv:2208.04564, 2022.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.log_cosh_loss([1e-9, 1.0, 1000.0], [0.0, 0.0, 0.0], reduction="none")
    array([5.00000000e-19, 4.33780830e-01, 9.99306853e+02])
    """
    d = difference(x, t)
    rest, e, tanh = lost(x, t), np.exp(-2.0 * np.abs(d)), np.tanh(d)
    slope = 4.0 * e / ((1.0 + e) * (1.0 + e))
    return log_cosh(d) + tanh * rest, tanh + slope * rest, slope * (1.0 - 2.0 * tanh * rest)


@pointwise_loss(parameters={"c": Parameter(1.0, "finite and > 0")}, ulp=3)
def cauchy_loss(x, t, q, c):
    r"""Negative log-likelihood of a Cauchy distribution: half the squared error near 0, and a logarithm beyond.

    .. math:: \ell = \frac{c^2}{2} \log(1 + z), \qquad \frac{\partial\ell}{\partial x} = \frac{d}{1 + z}, \qquad
        \frac{\partial^2\ell}{\partial x^2} = \frac{1 - z}{(1 + z)^2}, \qquad d = x - t, \; z = (d/c)^2

    The gradient returns to 0 for large differences, so that outliers are all but left out; the loss is convex only
    within :math:`|d| \le c`.

    Parameters
    ----------
    pred : array_like of float
        Predictions, of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything else as
        float64.
    target : array_like
        What was to be predicted, of pred's shape (or a scalar).
    c : float, default 1.0
        The difference from which the gradient falls again; above 0, in the units of pred.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If c is not finite and above 0, if the shapes differ, or if an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    huber_loss : whose gradient stays at its largest.

    Notes
    -----
    Also called the Lorentzian loss. ``scipy.optimize.least_squares(loss="cauchy", f_scale=c)`` minimises the sum of
    these.

    References
    ----------
    .. [1] M. J. Black and P. Anandan, "The robust estimation of multiple motions: parametric and piecewise-smooth flow
       fields", *Comput. Vis. Image Underst.* 63 (1996) 75-104.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.cauchy_loss([0.001, 1.0, 100.0], [0.0, 0.0, 0.0], reduction="none")
    array([4.99999750e-07, 3.46573590e-01, 4.60522018e+00])
    """
    d = difference(x, t)
    a, rest = np.abs(d), lost(x, t)
    beside = where(d < 0.0, -rest, rest)
    near = a <= c
    less, more = where(near, a, c), where(near, c, a)
    half = np.abs(0.5 * x - 0.5 * t)  # finite where the difference is not
    share = where(a < np.inf, less / more, 0.5 * c / half)
    w, r, back = share * share, a / c, share * more
    missing = (((less - back) - lost_in_product(share, more)) + where(near, beside, -share * beside)) / more
    missing = where(np.abs(missing) < 1.0, missing, 0.0)
    square, w_lo = w, lost_in_product(share, share) + 2.0 * share * missing
    w = square + w_lo
    w_lo = (square - w) + w_lo
    log = where(r < 1e100, np.log1p(where(near, w, r * r)), 2.0 * (np.log(half) - np.log(0.5 * c)))
    part = where(w < 1e-30, 1.0, log / w)
    value = where(near, 0.5 * a * (a * part), 0.5 * c * (c * log))
    grad = where(near, a, c * share) / (1.0 + w)
    # 1 - w as (1 - share) (1 + share), over 1 + w twice, all in two parts
    left, left_lo = more - less, lost(more, less) - where(near, beside, -beside)
    start, start_lo = left + left_lo, (left - (left + left_lo)) + left_lo
    gap = where(more < np.inf, start / more, keep_nan(1.0, a))
    gap_lo = lost_in_ratio(gap, start, start_lo, more, where(near, 0.0, beside))
    sum_, sum_lo, all_, all_lo = 1.0 + share, lost(1.0, -share) + missing, 1.0 + w, lost(1.0, -w) + w_lo
    top = gap * sum_
    top_lo = lost_in_product(gap, sum_) + gap * sum_lo + gap_lo * sum_
    once = top / all_
    once_lo = lost_in_ratio(once, top, top_lo, all_, all_lo)
    over = once / all_
    over_lo = lost_in_ratio(over, once, once_lo, all_, all_lo)
    hess = where(near, over + over_lo, -(w * over + (w * over_lo + w_lo * over)))
    grad = grad + hess * beside
    return value + grad * beside, where(d < 0.0, -grad, grad) + 0.0, hess


def _terms_of_poisson_nll_loss(x, t, q, log_input, full, eps):
    linear, none, e = log_input == 1.0, t == 0.0, np.exp(x)
    more = where(full == 1.0, log_factorial(t), where(full == 2.0, where(t > 1.0, stirling(t), 0.0), 0.0))
    value = where(linear, np.abs(x) + np.abs(t * np.log(x + eps)), e + np.abs(t * x)) + np.abs(more)
    return where(none, 0.0, value), where(none, 0.0, where(linear, 1.0 + t / np.abs(x + eps), e + t)), 0.0


@pointwise_loss(
    parameters={
        "log_input": Choice(True, (True, False)),
        "full": Choice(False, (False, True, "stirling")),
        "eps": Parameter(1e-8, "finite and >= 0"),
    },
    domains={"target": ">= 0"},
    ulp=2,
    terms=_terms_of_poisson_nll_loss,
)
def poisson_nll_loss(x, t, q, log_input, full, eps):
    r"""Negative log-likelihood of counts with a Poisson distribution.

    .. math:: \ell = e^x - t x \quad\text{or}\quad \ell = x - t \log(x + \varepsilon)

    .. math:: \frac{\partial\ell}{\partial x} = e^x - t \quad\text{or}\quad 1 - \frac{t}{x + \varepsilon}, \qquad
        \frac{\partial^2\ell}{\partial x^2} = e^x \quad\text{or}\quad \frac{t}{(x + \varepsilon)^2}

    for predicted logarithms of rates, or for rates. With ``full=True``, :math:`\log t!` is added to the value, which
    then is the whole of the log-likelihood; it changes no derivative.

    Parameters
    ----------
    pred : array_like of float
        The logarithms of the rates, or the rates, of any shape. float64, float32, float16 and bfloat16 are taken as
        they are, everything else as float64.
    target : array_like
        Counts (not necessarily integers), at least 0, of pred's shape (or a scalar). What a target of 0 would be
        multiplied with is not used.
    log_input : bool, default True
        Whether pred is the logarithm of the rate.
    full : {False, True, "stirling"}, default False
        Whether to add :math:`\log t!`. ``"stirling"`` adds the approximation
        :math:`t \log t - t + \tfrac{1}{2} \log(2\pi t)` instead, where t is above 1, as torch does.
    eps : float, default 1e-8
        Added to rates before the logarithm is taken; without effect on predicted logarithms.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If a target is negative, if the shapes differ, or if an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    half_tweedie_deviance : with ``power=1``, this loss less what it is for a perfect prediction.

    Notes
    -----
    ``torch.nn.functional.poisson_nll_loss``; its ``full=True`` is ``full="stirling"`` here. scikit-learn's
    ``HalfPoissonLoss`` is the same with ``log_input=True``. ``keras.losses.Poisson`` takes rates with eps 1e-7. A
    negative rate gives NaN, as its logarithm does.

    References
    ----------
    .. [1] P. McCullagh and J. A. Nelder, *Generalized Linear Models*, 2nd edition, Chapman & Hall, 1989, chapter 6.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.poisson_nll_loss([0.0, 1.0], [0, 3], reduction="none")
    array([ 1.        , -0.28171817])
    >>> lf.poisson_nll_loss([0.0, 1.0], [0, 3], full=True, reduction="none")
    array([1.       , 1.5100413])
    """
    linear, none = log_input == 1.0, t == 0.0
    e, half = np.exp(x), np.exp(0.5 * x)
    far = where(x < np.inf, half * (half - t / half * x), keep_nan(x, t))
    value = where(none, e, where(e < np.inf, e - t * x, far))
    s = x + eps
    rate = where(x < np.inf, x - mul0(t, np.log(s)), keep_nan(x, t))
    ratio = where(none, keep_nan(0.0, x), t / s)
    bend = where(none, keep_nan(0.0, x), t / s / s)
    more = where(full == 1.0, log_factorial(t), where(full == 2.0, where(t > 1.0, stirling(t), 0.0), 0.0))
    return where(linear, rate, value) + more, where(linear, 1.0 - ratio, e - t), where(linear, bend, keep_nan(e, t))


def _terms_of_half_gamma_deviance(x, t, q, link):
    linear, log, ratio = link == 1.0, np.log(t), t * np.exp(-x)
    size = np.abs(x) + np.abs(log)
    value = where(np.abs(log - x) < 1.0, np.abs(np.expm1(log - x)) * size, ratio + 1.0 + size)
    return where(linear, 0.0, value), where(linear, 0.0, ratio + 1.0), 0.0


@pointwise_loss(
    parameters={"link": Choice("log", ("log", "identity"))},
    domains={"target": "> 0"},
    ulp=2,
    terms=_terms_of_half_gamma_deviance,
)
def half_gamma_deviance(x, t, q, link):
    r"""Half the deviance of a gamma distribution, of positive targets whose spread grows like their mean.

    .. math:: \ell = \frac{t}{\mu} - 1 - \log\frac{t}{\mu} = e^r - 1 - r, \qquad r = \log t - \log \mu

    It is 0 for a perfect prediction, and keeps its digits near one. With :math:`\mu = e^x` the gradient is
    :math:`1 - e^r` and the Hessian :math:`e^r`; with :math:`\mu = x` they are :math:`(x - t) / x^2` and
    :math:`(2 t - x) / x^3`.

    Parameters
    ----------
    pred : array_like of float
        The logarithms of the means, or the means, of any shape. float64, float32, float16 and bfloat16 are taken as
        they are, everything else as float64.
    target : array_like
        What was to be predicted, above 0, of pred's shape (or a scalar).
    link : {"log", "identity"}, default "log"
        Whether pred is the logarithm of the mean, or the mean itself. A negative mean gives NaN.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If a target is not above 0, if the shapes differ, or if an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    half_tweedie_deviance : with ``power=2`` the same.
    poisson_nll_loss

    Notes
    -----
    Half of ``sklearn.metrics.mean_gamma_deviance`` (with ``link="identity"``). scikit-learn's internal
    ``HalfGammaLoss``, :math:`x + t e^{-x}`, leaves out the terms :math:`-\log t - 1`, in which pred does not occur: its
    gradients are those of ``link="log"``. ``torch`` and ``optax`` have no equal.

    References
    ----------
    .. [1] P. McCullagh and J. A. Nelder, *Generalized Linear Models*, 2nd edition, Chapman & Hall, 1989, chapter 8.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.half_gamma_deviance([0.0, 1.0], [1.0, 1.0], reduction="none")
    array([0.        , 0.36787944])
    >>> lf.half_gamma_deviance([2.0], [1.0], link="identity")
    0.1931471805599453
    """
    x = x + 0.0
    e, half = np.exp(-x), np.exp(-0.5 * x)  # two halves where the whole is beyond the range and t times it may not be
    whole, log = np.abs(x) < 700.0, np.log(t)
    ratio, r = where(whole, t * e, t * half * half), log - x
    beside, rest = where(whole, lost_in_product(t, e), 0.0), lost(log, x)
    near = np.abs(r) < 1.0
    s, quotient = log_ratio(t, x), t / x
    close = np.abs(s) < 1.0
    log_value = where(
        near, growth(r), where(ratio < np.inf, ((ratio - 1.0) - r) + (lost(ratio, 1.0) + (beside - rest)), ratio)
    )
    value = where(close, growth(s), where(quotient < np.inf, (quotient - 1.0) - s, quotient))
    grad = where(x < 0.0, np.nan, (x - t) / x / x)
    hess = where(x < 0.0, np.nan, (t - (x - t)) / x / x / x)
    linear = link == 1.0
    log_grad = where(near, -np.expm1(r), (1.0 - ratio) - beside)
    return where(linear, value, log_value), where(linear, grad, log_grad), where(linear, hess, ratio)


def _terms_of_half_tweedie_deviance(x, t, q, power, link):
    linear, none, flat, a, b = link == 1.0, t == 0.0, power == 0.0, 1.0 - power, 2.0 - power
    base, log_t = where(linear, x, np.exp(x)), where(none, 0.0 * t, np.log(t))
    most, rest, own = np.power(base, b), t * np.power(base, a), where(none, 0.0 * t, np.power(t, b))
    log = np.log(base)
    r = log_t - log
    few = where(linear, 1.0, np.abs(x) + np.abs(log_t) + 1.0)
    close = own * np.abs(r) * (few + np.abs(r))
    apart = most / np.abs(b) + rest / np.abs(a) + own / np.abs(a * b)
    apart = where(a == 0.0, most + t * (1.0 + np.abs(r)), where(b == 0.0, rest + 1.0 + np.abs(r), apart))
    value = where(none, 0.0, where(np.abs(r) < 1.0, close, apart))
    bent = (a > 0.0) | (b < 0.0)
    grad = where(linear, 0.0, most + rest)
    bend = where(
        linear, np.power(base, -power) * (np.abs(a) + np.abs(power * t / x)), np.abs(a) * rest + np.abs(b) * most
    )
    gap = np.abs(base - t)
    value = where(flat, where(linear, 0.0, gap * (base + t)), value)
    hess = where(flat, where(linear, 0.0, base * (2.0 * base + t)), where(linear, bend, where(bent, bend, 0.0)))
    return value, where(none, 0.0, grad), where(none, 0.0, hess)


@pointwise_loss(
    parameters={"power": Parameter(1.5), "link": Choice("log", ("log", "identity"))},
    domains={"target": ">= 0"},
    ulp=2,
    terms=_terms_of_half_tweedie_deviance,
)
def half_tweedie_deviance(x, t, q, power, link):
    r"""Half the deviance of a Tweedie distribution, whose variance is a power of its mean.

    .. math:: \ell = \frac{t^b}{a\,b} - \frac{t\,\mu^a}{a} + \frac{\mu^b}{b}, \qquad a = 1 - \text{power}, \;
        b = 2 - \text{power}

    with the limits :math:`t \log(t/\mu) - t + \mu` (Poisson) for power 1 and :math:`t/\mu - 1 - \log(t/\mu)` (gamma)
    for power 2; power 0 gives :math:`(\mu - t)^2 / 2` and power 3 the inverse Gaussian's. It is 0 for a perfect
    prediction, and a continuous function of the power. With :math:`\mu = e^x` the gradient is :math:`\mu^b - t \mu^a`
    and the Hessian :math:`b\,\mu^b - a\,t\,\mu^a`; with :math:`\mu = x` they are :math:`\mu^{-\text{power}} (\mu - t)`
    and :math:`\mu^{-\text{power} - 1} (a\,\mu + \text{power}\;t)`.

    Parameters
    ----------
    pred : array_like of float
        The logarithms of the means, or the means, of any shape. float64, float32, float16 and bfloat16 are taken as
        they are, everything else as float64.
    target : array_like
        What was to be predicted, at least 0, of pred's shape (or a scalar). A target of 0 costs infinity where the
        power is 2 or more.
    power : float, default 1.5
        The exponent of the mean in the variance. Between 1 and 2, targets may be 0 with a probability above 0.
    link : {"log", "identity"}, default "log"
        Whether pred is the logarithm of the mean, or the mean itself. A negative mean gives NaN, unless the power is 0.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If a target is negative, if the shapes differ, or if an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    half_gamma_deviance, poisson_nll_loss, mse_loss

    Notes
    -----
    Half of ``sklearn.metrics.mean_tweedie_deviance`` (with ``link="identity"``). scikit-learn's internal
    ``HalfTweedieLoss`` and ``HalfTweedieLossIdentity`` leave out terms in which pred does not occur for powers 1 and 2
    (and all :math:`t^b` of the former), so that they are not continuous there; gradients and Hessians are the same.
    Negative targets, of which powers up to 0 can make sense, take ``check=False``, and give NaN unless the power is 0.

    References
    ----------
    .. [1] B. Jørgensen, *The Theory of Dispersion Models*, Chapman & Hall, 1997.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.half_tweedie_deviance([0.0, 0.0, 0.0], [0.0, 1.0, 4.0], reduction="none")
    array([2., 0., 2.])
    """
    linear = link == 1.0
    a, b = 1.0 - power, 2.0 - power
    x = x + 0.0
    mean, log_t, base = np.exp(x), np.log(t), x * where(x < 0.0, np.nan, 1.0)
    most = where(linear, np.power(base, b), exp_product(b, x))
    half = where(linear, np.power(base, 0.5 * a), exp_product(0.5 * a, x))
    rest = where(t == 0.0, mul0(t, half), t * half * half)
    own = where(t == 0.0, where(b > 0.0, 0.0, where(b < 0.0, np.inf, 1.0)), np.power(t, b))
    r = where(linear, log_ratio(t, x), log_t - x)
    ar, br = mul0(a, r), mul0(b, r)
    near_a, near_b = np.abs(ar) <= 1.0, np.abs(br) <= 1.0
    some_a, some_b = growth(where(near_a, -ar, 0.0)) / a, growth(where(near_b, -br, 0.0)) / b
    line = where(near_a, mul0(own, r), where(near_b, mul0(own, r), keep_nan(0.0, r)))
    part_a = where(a == 0.0, keep_nan(0.0, r), where(near_a, own * some_a, (rest - own) / a + line))
    part_b = where(b == 0.0, keep_nan(0.0, r), where(near_b, own * some_b, (most - own) / b + line))
    value = where(most == np.inf, most, where(rest == np.inf, rest, where(own == np.inf, own, part_b - part_a)))
    limit = where(b > 0.0, most / b, np.inf)  # of a target of 0
    value = keep_nan(keep_nan(where(t == 0.0, limit, value), x), t)
    slope = where(np.abs(r) < 1.0, -most * np.expm1(r), most - rest)
    half_most = exp_product(0.5 * b, x)  # a share of what is beyond the range may be within it
    bend = where(most < np.inf, mul0(b, most), mul0(b, half_most) * half_most) - mul0(a, rest)
    both = where(most == np.inf, where(rest == np.inf, 1.0, 0.0), 0.0)
    upward = where(r < 0.0, np.inf, where(r > 0.0, -np.inf, where(x > 0.0, np.inf, -np.inf)))
    slope, bend = where(both == 1.0, upward, slope), where(both == 1.0, np.inf, bend)
    factor = np.power(base, -power)
    straight = where(t == 0.0, np.power(base, a), factor * (x - t))
    curve = where(t == 0.0, a * factor, factor * ((a * x + power * t) / x))
    gap = where(linear, difference(x, t), mean - t)
    flat = power == 0.0
    grad = where(flat, where(linear, gap, mean * gap), where(linear, straight, slope))
    hess = where(flat, where(linear, keep_nan(1.0, gap), mean * (mean + gap)), where(linear, curve, bend))
    return where(flat, 0.5 * gap * gap, value), grad, hess


def _terms_of_msle(x, t, q):
    d = np.log1p(x) - np.log1p(t)
    return 0.0, 0.0, where(d > 0.0, 2.0 * (1.0 + d) / ((1.0 + x) * (1.0 + x)), 0.0)


@pointwise_loss(domains={"pred": "> -1", "target": "> -1"}, ulp=3, terms=_terms_of_msle)
def msle(x, t, q):
    r"""Squared difference of logarithms, for targets that are judged by ratios.

    .. math:: \ell = d^2, \qquad \frac{\partial\ell}{\partial x} = \frac{2 d}{1 + x}, \qquad
        \frac{\partial^2\ell}{\partial x^2} = \frac{2 (1 - d)}{(1 + x)^2}, \qquad d = \log\frac{1 + x}{1 + t}

    The loss is not convex beyond :math:`d = 1`. It keeps its digits where pred and target are close.

    Parameters
    ----------
    pred : array_like of float
        Predictions above -1, of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything
        else as float64.
    target : array_like
        What was to be predicted, above -1, of pred's shape (or a scalar).

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If a prediction or a target is not above -1, if the shapes differ, or if an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    mse_loss

    Notes
    -----
    ``sklearn.metrics.mean_squared_log_error`` and ``keras.losses.mean_squared_logarithmic_error`` (mean over the last
    axis only, and with pred and target raised to 1e-7 where they are below). torch has none.

    References
    ----------
    .. [1] C. Tofallis, "A better measure of relative prediction accuracy for model selection and model estimation",
       *J. Oper. Res. Soc.* 66 (2015) 1352-1362.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.msle([1.0, 3.0], [1.0, 1.0], reduction="none")
    array([0.        , 0.48045301])
    """
    s, s_lo, below, below_lo = 1.0 + x, lost(1.0, -x), 1.0 + t, lost(1.0, -t)
    apart, gap, ratio = difference(x, t), difference(x, t) / below, s / below
    gap_lo = lost_in_ratio(gap, apart, lost(x, t), below, below_lo)
    ratio_lo = lost_in_ratio(ratio, s, s_lo, below, below_lo)
    fair, near, logs = (1e-300 < ratio) & (ratio < 1e300), np.abs(gap) <= 0.5, np.log1p(x) - np.log1p(t)
    d = where(near, np.log1p(gap) + gap_lo / (1.0 + gap), where(fair, np.log(ratio) + ratio_lo / ratio, logs))
    far, bend = x == np.inf, (1.0 - d) / s / s
    rest = (lost(1.0, d) / s - 2.0 * bend * s_lo) / s
    hess = 2.0 * (bend + where(np.abs(rest) < np.inf, rest, 0.0))
    return d * d, where(far, keep_nan(0.0, d), 2.0 * (d / s)), where(far, keep_nan(0.0, d), hess)


def _terms_of_sigmoid_focal_loss(x, t, q, gamma, alpha):
    no, s, back = 1.0 - t, _sigmoid(x), _sigmoid(-x)
    w, c = t * back + no * s, mul0(t, softplus(-x)) + mul0(no, softplus(x))
    u = where(no == 0.0, s, where(t == 0.0, back, np.abs(1.0 - 2.0 * t) * s * back / w))
    factor = np.power(w, gamma) * where(alpha == alpha, alpha * t + (1.0 - alpha) * no, 1.0)
    slope, bend = no * s + t * back, np.abs((gamma - 1.0) * u) * c + np.abs(back - s) * c
    grad = where(t * no == 0.0, 0.0, factor * (gamma * u * c + slope))
    return 0.0, grad, factor * (gamma * u * (bend + 2.0 * slope) + s * back)


@pointwise_loss(
    parameters={"gamma": Parameter(2.0, "finite and >= 0"), "alpha": Parameter(None, "in [0, 1]")},
    domains={"target": "in [0, 1]"},
    ulp=2,
    group="classification",
    terms=_terms_of_sigmoid_focal_loss,
)
def sigmoid_focal_loss(x, t, q, gamma, alpha):
    r"""Cross-entropy of a yes-or-no answer given as a logit, in which answers that are right already count little.

    .. math:: \ell = A\,w^\gamma c, \qquad w = t\,\sigma(-x) + (1 - t)\,\sigma(x), \qquad
        c = t \log(1 + e^{-x}) + (1 - t) \log(1 + e^x), \qquad A = \alpha\,t + (1 - \alpha)(1 - t)

    With :math:`w` what the answer is short of being sure and right. The gradient is
    :math:`A\,w^\gamma (\gamma c\,w'/w + c')`, and the Hessian its derivative, which may be negative. With ``gamma=0``
    and without alpha it is `binary_cross_entropy_with_logits`.

    Parameters
    ----------
    pred : array_like of float
        Logits, of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything else as float64.
    target : array_like
        The probability of "yes", in [0, 1] and usually 0 or 1, of pred's shape (or a scalar).
    gamma : float, default 2.0
        How much right answers are played down; at least 0. Where a label is 0 or 1, an error of the logistic function
        counts gamma times: the bound holds up to 2, and grows by a third of a unit with every further 1.
    alpha : float, optional
        Weight of the positive answer, in [0, 1]; that of the negative one is ``1 - alpha``. Both weigh 1 if it is not
        given.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If a target is outside [0, 1], if the shapes differ, or if an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    binary_cross_entropy_with_logits

    Notes
    -----
    ``torchvision.ops.sigmoid_focal_loss``, whose alpha is 0.25 by default (and -1 for none) and whose reduction is
    ``"none"``. ``keras.losses.BinaryFocalCrossentropy`` (with ``from_logits=True``) and ``optax.sigmoid_focal_loss``
    are the same, with alpha ``None`` by default.

    References
    ----------
    .. [1] T.-Y. Lin, P. Goyal, R. Girshick, K. He and P. Dollár, "Focal loss for dense object detection", ICCV 2017.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.sigmoid_focal_loss([0.0, 2.0, 2.0], [1.0, 1.0, 0.0], reduction="none")
    array([0.1732868 , 0.00180356, 1.65007818])
    """
    # in two parts: `far`, the smaller of s(x) and s(-x); `base`, the weight of the less likely answer
    up, a, no, no_lo = x > 0.0, np.abs(x), 1.0 - t, lost(1.0, t)
    e, e_share = exp_in_parts(-a)
    below, base, base_lo = 1.0 + e, where(up, no, t), where(up, no_lo, 0.0)
    near = 1.0 / below
    near_share = lost_in_ratio(near, 1.0, 0.0, below, lost(1.0, -e) + e * e_share) * below
    far = e * near
    far_share = e_share + near_share + small(lost_in_product(e, near), far)
    tilt, tilt_lo = where(up, t - no, no - t), where(up, lost(t, no) - no_lo, lost(no, t) + no_lo)
    part, line, log = tilt * far, mul0(base, a), np.log1p(e)
    w, c = base + part, log + line
    w_lo = lost(base, -part) + (lost_in_product(tilt, far) + part * far_share + (base_lo + tilt_lo * far))
    c_lo = lost(log, -line) + (lost_in_product(base, a) + far * e_share + where(a < np.inf, base_lo * a, 0.0))
    w_share, c_share = small(w_lo, w), small(c_lo, c)
    share = where(alpha == alpha, alpha * t + (1.0 - alpha) * no, 1.0)
    factor, more = share * np.power(w, gamma), gamma * w_share
    value = mul0(factor, c)
    value = value + where(value < np.inf, value * (more + c_share), 0.0)
    slope, lean, lean_lo = far * near, no - t, lost(no, t) + no_lo
    slope_lo = lost_in_product(far, near) + slope * (far_share + near_share)
    rise = lean * slope
    rise_lo = lost_in_product(lean, slope) + (lean * slope_lo + lean_lo * slope)
    u = where(no == 0.0, where(up, -near, -far), where(t == 0.0, where(up, far, near), rise / w))
    own = u * where((no == 0.0) == up, near_share, far_share)
    u_lo = where(t * no == 0.0, own, lost_in_ratio(u, rise, rise_lo, w, w_lo))
    bent, bent_lo = base - far, lost(base, far) + (base_lo - far * far_share)
    bent, bent_lo = where(up, bent, -bent), where(up, bent_lo, -bent_lo)
    gain, gain_lo = gamma * u, lost_in_product(gamma, u) + gamma * u_lo
    pull = mul0(gain, c)
    inner, pull_lo = pull + bent, lost_in_product(gain, c) + (gain * c_lo + gain_lo * c)
    inner_lo = lost(pull, -bent) + (bent_lo + where(np.abs(pull_lo) < np.inf, pull_lo, 0.0))
    grad = factor * inner + factor * (inner_lo + inner * more)
    # gamma u (((gamma - 1) u + s(-x) - s(x)) c + 2 c') + s(x) s(-x)
    rest, rest_lo = 1.0 - 2.0 * far, lost(1.0, 2.0 * far) - 2.0 * far * far_share
    rest, rest_lo, less = where(up, -rest, rest), where(up, -rest_lo, rest_lo), gamma - 1.0
    head = less * u
    mid = head + rest
    mid_lo = lost(head, -rest) + (lost_in_product(less, u) + (rest_lo + less * u_lo + lost(gamma, 1.0) * u))
    bow = mid * c
    sag = bow + 2.0 * bent
    sag_lo = lost(bow, -2.0 * bent) + (lost_in_product(mid, c) + (mid * c_lo + mid_lo * c) + 2.0 * bent_lo)
    turn = mul0(gain, sag)
    turn_lo = lost_in_product(gain, sag) + (gain * sag_lo + gain_lo * sag)
    curve, turn_lo = turn + slope, where(np.abs(turn_lo) < np.inf, turn_lo, 0.0)
    curve_lo = lost(turn, -slope) + (turn_lo + slope_lo)
    # where e^-|x| has few digits, 1 + gamma (1-2t) (2 - |x|) of it is what a wrong answer has
    half, deep = np.exp(-0.5 * a), (a > 700.0) & (a < 1e4) & (base > 0.0)
    many = 1.0 + gamma * -tilt * (2.0 - where(deep, a, 2.0))
    hess = where(deep, (factor * many * half) * half, factor * curve + factor * (curve_lo + curve * more))
    return value, grad + 0.0, hess + 0.0


def _terms_of_gaussian_nll_loss(x, t, q, full, eps):
    d, low = x - t, q < eps
    v = where(low, eps, q)
    square, log = d * d / v, np.abs(np.log(v)) + where(full == 1.0, 1.8378770664093453, 0.0)
    first, second = 0.5 * (1.0 + square) / v, (0.5 + square) / v / v
    return 0.5 * (log + square), 0.0, 0.0, where(low, 0.0, first), where(low, 0.0, second)


@pointwise_loss(
    parameters={"full": Choice(False, (False, True)), "eps": Parameter(1e-6, "finite and > 0")},
    domains={"var": ">= 0"},
    ulp=2,
    operands=("pred", "target", "var"),
    differentiable=("pred", "var"),
    terms=_terms_of_gaussian_nll_loss,
)
def gaussian_nll_loss(x, t, q, full, eps):
    r"""Negative log-likelihood of a normal distribution whose mean and variance are both predicted.

    .. math:: \ell = \frac12 \left(\log V + \frac{d^2}{V}\right), \qquad d = x - t, \; V = \max(v, \varepsilon)

    .. math:: \frac{\partial\ell}{\partial x} = \frac{d}{V}, \qquad \frac{\partial^2\ell}{\partial x^2} = \frac1V,
        \qquad \frac{\partial\ell}{\partial v} = \frac{V - d^2}{2 V^2}, \qquad
        \frac{\partial^2\ell}{\partial v^2} = \frac{d^2/V - 1/2}{V^2}

    Gradient and Hessian are named tuples, ``(pred, var)``; the Hessian's are the second derivatives in either alone.

    Parameters
    ----------
    pred : array_like of float
        Predicted means, of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything else as
        float64.
    target : array_like
        What was to be predicted, of pred's shape (or a scalar).
    var : array_like
        Predicted variances, at least 0, of pred's shape.
    full : bool, default False
        Whether to add the constant :math:`\tfrac{1}{2} \log 2\pi`.
    eps : float, default 1e-6
        Smaller variances are raised to this. It is the raised variance's loss that is differentiated: below, the
        derivatives in var are 0.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of pred's shape.

    Raises
    ------
    ValueError
        If a variance is negative, if the shapes differ, or if an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    mse_loss : what remains, but for a factor, if the variance is the same everywhere.

    Notes
    -----
    ``torch.nn.functional.gaussian_nll_loss``, which hands the gradient in a variance below eps on as if it had not been
    raised, and where a variance may be left out along the last axis; here, ``numpy.broadcast_to`` repeats it.

    References
    ----------
    .. [1] D. A. Nix and A. S. Weigend, "Estimating the mean and variance of the target probability distribution",
       ICNN 1994.

    Examples
    --------
    >>> import lossfast as lf
    >>> value, grad = lf.gaussian_nll_loss.value_and_grad([1.0, 2.0], [1.0, 0.0], [1.0, 2.0], reduction="sum")
    >>> value
    1.3465735902799727
    >>> grad.pred, grad.var
    (array([0., 1.]), array([ 0.5 , -0.25]))
    """
    low, d = q < eps, difference(x, t)
    v, rest = where(low, eps, q), lost(x, t)
    share, none = where(d == 0.0, keep_nan(0.0, v), d / v), keep_nan(0.0, d)
    value = 0.5 * np.log(v) + share * (0.5 * d + rest) + where(full == 1.0, 0.9189385332046727, 0.0)
    square, inverse = share * (0.5 * share + rest / v), 0.5 / v  # halves, since the whole may overflow
    first, second = inverse - square, 2.0 * ((square - 0.5 * inverse) / v)
    wide = v == np.inf
    grad, hess = where(wide, none, share + rest / v), where(wide, none, none + 1.0 / v)
    first, second = where(wide, none, first), where(wide, none, second)
    return value, grad, hess, where(low, none, first), where(low, none, second)


@pointwise_loss(
    parameters={"margin": Parameter(0.0)},
    domains={"target": "-1 or 1"},
    ulp=2,
    group="classification",
    operands=("input1", "input2", "target"),
    differentiable=("input1", "input2"),
)
def margin_ranking_loss(x, t, q, margin):
    r"""What is missing for the first of two scores to be above the second (or below it) by a margin.

    .. math:: \ell = \max(0,\; \text{margin} - y\,(x_1 - x_2)), \qquad y = \pm 1

    The gradient, a named tuple ``(input1, input2)``, is :math:`(-y, y)` where the loss is above 0, and 0 elsewhere and
    at the kink; the Hessian is 0.

    Parameters
    ----------
    input1 : array_like of float
        Scores, of any shape. float64, float32, float16 and bfloat16 are taken as they are, everything else as float64.
    input2 : array_like of float
        The scores to compare them with, of their shape.
    target : array_like
        1 where the first is to be above the second, -1 where below; of their shape (or a scalar).
    margin : float, default 0.0
        By how much, in the units of the scores.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array of the scores' shape.

    Raises
    ------
    ValueError
        If a target is neither -1 nor 1, if the shapes differ, or if an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    logistic_loss : of the difference of two scores, a smooth loss for the same purpose.

    Notes
    -----
    ``torch.nn.functional.margin_ranking_loss``, whose gradient at the kink is that of the slope. Targets 0 and 1 are
    refused.

    References
    ----------
    .. [1] R. Herbrich, T. Graepel and K. Obermayer, "Large margin rank boundaries for ordinal regression", in *Advances
       in Large Margin Classifiers*, MIT Press, 2000.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.margin_ranking_loss([1.0, 3.0], [2.0, 1.0], [1, 1], margin=0.5, reduction="none")
    array([1.5, 0. ])
    """
    d = difference(x, t)
    rest = lost(x, t)
    far = 2.0 * (0.5 * margin - q * (0.5 * x - 0.5 * t))
    v = where(np.abs(d) < np.inf, (margin - q * d) - q * rest, far)
    slope, none = where(v > 0.0, q, keep_nan(0.0, v)), keep_nan(0.0, v)
    return where(v > 0.0, v, none), 0.0 - slope, none, slope, none


@pointwise_function(parameters={"base": Base()}, ulp=2, group="information", takes=("probabilities",))
def self_information(x, t, q, unit):
    r"""Information of what has a probability: how surprising it is when it happens.

    .. math:: f(x) = -\log_b x, \qquad f' = -\frac{1}{x \ln b}, \qquad f'' = \frac{1}{x^2 \ln b}

    Parameters
    ----------
    x : array_like of float
        Probabilities, of any shape, not checked to be such; below 0 the result is NaN. float64, float32, float16 and
        bfloat16 are taken as they are, everything else as float64.
    base : float, optional
        Of the logarithm: above 0, not 1; 2 for bits, 10 for hartleys. e, for nats, unless given.

    Returns
    -------
    ndarray
        Of x's shape: 0 for what is certain, +inf for what cannot be.

    Raises
    ------
    ValueError
        If the base is out of its domain.
    TypeError
        If x is complex, object, masked or not an array.

    See Also
    --------
    entropy : its mean.

    Notes
    -----
    Of a logit x, ``-log_sigmoid(x)`` is the same in nats with more digits; of logits of several classes
    `cross_entropy`.

    References
    ----------
    .. [1] C. E. Shannon, "A mathematical theory of communication", *Bell Syst. Tech. J.* 27 (1948) 379-423.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.self_information([1.0, 0.5, 0.125, 0.0], base=2)
    array([ 0.,  1.,  3., inf])
    """
    p = (x + 0.0) * where(x < 0.0, np.nan, 1.0)
    slope = unit / p
    return 0.0 - unit * np.log(p), 0.0 - slope, slope / p
