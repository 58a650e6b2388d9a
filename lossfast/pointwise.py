"""The pointwise losses and functions, each once: its name, parameters, documentation, error budget and Python twin.

A twin gives value, gradient and Hessian of one element, in float64, written in the words of `lossfast._words`: on
arrays it is the NumPy backend, compiled on scalars the Numba one. Its compiled counterpart is a body in
``kernels/pointwise.h``. Squares are taken last and halves of large differences first, so that a result which the type
can hold does not overflow on the way.
"""

from __future__ import annotations

import numpy as np

from lossfast._loss import Parameter, pointwise_function, pointwise_loss
from lossfast._words import difference, keep_nan, mul0, sigmoid_slope, sign, softplus, where
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
