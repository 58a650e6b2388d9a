"""The losses over a class axis that need no softmax, each once: a sum over the classes of what every entry adds.

A loss's twin makes of one entry ``x`` of the first argument and ``t`` of the target (with integer labels 1 or 0) its
part in the value, the first and second derivative of that in ``x``, and the derivative in ``t``. Elementwise, in
float64, in the words of `lossfast._words`. Backends weigh the entries and sum them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lossfast._loss import Base, Choice, Parameter, entry_function, entry_loss
from lossfast._words import keep_nan, log_ratio, lost, mul0, sigmoid_slope, softplus, where
from lossfast.rowwise import cross_entropy

_INF, _NAN = math.inf, math.nan
_BASE = {"base": Base()}
_DISTRIBUTIONS = ("probabilities", "probabilities")


@entry_loss(
    operands=("p", "targets"),
    takes=_DISTRIBUTIONS,
    labelled=True,
    parameters={"eps": Parameter(None, "in (0, 1)")},
    ulp=2,
)
def categorical_cross_entropy(x, t, eps):
    r"""Cross-entropy of probabilities with integer or soft labels.

    .. math:: \ell = -s \sum_c w_c t_c \log p_c, \qquad
        \frac{\partial\ell}{\partial p_c} = -s\,\frac{w_c t_c}{p_c}, \qquad
        \frac{\partial^2\ell}{\partial p_c^2} = s\,\frac{w_c t_c}{p_c^2}

    with :math:`s` the row's sample weight, :math:`w` the class weights and :math:`t` the targets (1 at an integer
    label). It is for what ends in a softmax already; of logits `cross_entropy` has more digits.

    Nothing is clipped unless ``eps`` is given: the loss of a class that was given no probability is infinite. A class
    whose target is 0 adds nothing, whatever its probability. With integer labels no other entry is read for the loss.
    ``evaluate`` has the derivative in the targets, :math:`-s\,w_c \log p_c`, as ``grad_target``.

    Parameters
    ----------
    p : array_like of float, shape (..., C)
        Probabilities, not checked to be such unless ``check="distribution"``; below 0 the result is NaN. float64,
        float32, float16 and bfloat16 are taken as they are, everything else as float64.
    targets : array_like
        Either integer labels in [0, C), of p's shape without the class axis, or soft labels: floating weights of the
        classes, of p's shape, which are not normalised.
    eps : float, optional
        Probabilities below it, in (0, 1), count as it; their gradient is 0 then.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` one loss a row.

    Raises
    ------
    IndexError
        If a label is neither in [0, C) nor ``ignore_index``.
    ValueError
        If shapes do not fit, there are no classes, or a parameter is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array, or labels are floating.

    See Also
    --------
    cross_entropy, nll_loss, cross_entropy_between

    Notes
    -----
    ``keras.losses.categorical_crossentropy`` and ``sparse_categorical_crossentropy`` divide p by its sum first and
    clip it to [1e-7, 1 - 1e-7]; ``sklearn.metrics.log_loss`` clips to a rounding unit from 0 and 1. Clipping at the
    upper end too, as they do, keeps the loss of a right answer above 0.

    References
    ----------
    .. [1] I. J. Good, "Rational decisions", *J. R. Stat. Soc. B* 14 (1952) 107-114.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.categorical_cross_entropy([[0.5, 0.5], [0.125, 0.875]], [0, 0])
    1.3862943611198906
    >>> lf.categorical_cross_entropy.grad([[0.5, 0.5]], [[0.25, 0.75]])
    array([[-0.5, -1.5]])
    >>> lf.categorical_cross_entropy([[0.0, 1.0]], [0]), lf.categorical_cross_entropy([[0.0, 1.0]], [0], eps=1e-10)
    (inf, 23.025850929940457)
    """
    given = where(x == -_INF, 0.0, where(x < 0.0, _NAN, x + 0.0))
    cut = given < eps
    p = where(cut, eps, given)
    flat = (t == 0.0) | cut
    nlp = 0.0 - np.log(p)
    slope = t / p
    return mul0(t, nlp), where(flat, 0.0, 0.0 - slope), where(flat, 0.0, slope / p), nlp


def _kl_terms(x, t, log_target):
    logs = log_target == 1.0
    q = where(logs, np.exp(t), t)
    size = np.abs(where(logs, t, np.log(q))) + np.abs(x)
    return mul0(q, size), 0.0, 0.0, where(logs, q, 1.0) * (size + 1.0)


@entry_loss(
    operands=("input", "target"),
    takes=("log-probabilities", "probabilities"),
    parameters={"log_target": Choice(False, (False, True))},
    ulp=2,
    terms=_kl_terms,
    group="information",
)
def kl_div(x, t, log_target):
    r"""Kullback-Leibler divergence of log-probabilities from a target distribution.

    .. math:: \ell = s \sum_c t_c\,(\log t_c - x_c), \qquad \frac{\partial\ell}{\partial x_c} = -s\,t_c, \qquad
        \frac{\partial^2\ell}{\partial x_c^2} = 0

    with :math:`s` the row's sample weight. With ``log_target`` the target is given as its logarithm.

    Everything is computed in double and summed beyond that. When the two distributions are near each other the terms
    cancel, so that the divergence is good to :math:`2^{-52} \sum_c t_c (|\log t_c| + |x_c|)` or 2 ULP. What the
    arguments themselves lost when they were rounded is not in that: of float32 log-probabilities, a divergence below
    1e-7 is mostly rounding. From the logits, `kl_div_from_logits` has all digits.

    A class with a target of 0 adds nothing. Where :math:`x_c` is -inf and the target is not 0 the divergence is +inf.
    ``evaluate`` has the derivative in the target as ``grad_target``: :math:`s\,(\log t_c - x_c + 1)`, with
    ``log_target`` that times :math:`t_c`.

    Parameters
    ----------
    input : array_like of float, shape (..., C)
        Log-probabilities. float64, float32, float16 and bfloat16 are taken as they are, everything else as float64.
    target : array_like, shape (..., C)
        Probabilities, or with ``log_target`` their logarithms. A negative probability gives NaN.
    log_target : bool, default False
        Whether the target is given as logarithms.

    Returns
    -------
    float or ndarray
        The reduced divergence as a float; with ``reduction="none"`` one divergence a row.

    Raises
    ------
    ValueError
        If shapes do not fit, there are no classes, or an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    kl_div_from_logits, relative_entropy, js_div

    Notes
    -----
    ``torch.nn.functional.kl_div(input, target, reduction="batchmean", log_target=log_target)``, whose ``"mean"``
    divides by the number of entries and whose ``"none"`` gives the terms. ``keras.losses.kl_divergence`` takes
    probabilities, clipped, in the order of `relative_entropy`.

    References
    ----------
    .. [1] S. Kullback and R. A. Leibler, "On information and sufficiency", *Ann. Math. Statist.* 22 (1951) 79-86.

    Examples
    --------
    >>> import lossfast as lf
    >>> q = [[0.5, 0.25, 0.25]]
    >>> loss, grad = lf.kl_div.value_and_grad(lf.log_softmax([[0.0, 0.0, 0.0]]), q)
    >>> round(loss, 15)
    0.058891517828191
    >>> grad
    array([[-0.5 , -0.25, -0.25]])
    """
    logs = log_target == 1.0
    q = where(logs, np.exp(t), where(t < 0.0, _NAN, t))
    apart = where(logs, t, np.log(q)) - x
    known, cannot = (x == x) & (q == q), x == -_INF
    none = known & where(logs, t == -_INF, t == 0.0)
    value = where(none, 0.0, where(known & cannot, _INF, q * apart))
    slope = where(known & cannot, _INF, q * (apart + 1.0))
    slope = where(logs, where(none, 0.0, slope), where(none & cannot, 0.0, apart + 1.0))
    return value, where(known, 0.0 - q, _NAN), where(known, 0.0, _NAN), slope


#: (1+s) log(1+s) + (1-s) log(1-s) is the sum of s^2k over these, of which |s| up to 0.7 needs so many for 70 bits.
_CURVES = tuple(float(k * (2 * k - 1)) for k in range(1, 63))


@entry_loss(operands=("p", "q"), takes=_DISTRIBUTIONS, parameters=_BASE, ulp=2, group="information")
def js_div(x, t, unit):
    r"""Jensen-Shannon divergence of two distributions: the mean of their divergences from their mean.

    .. math:: \ell = \frac{s}{2} \sum_c \Bigl(p_c \log_b \frac{p_c}{m_c} + q_c \log_b \frac{q_c}{m_c}\Bigr), \qquad
        m = \frac{p + q}{2}

    .. math:: \frac{\partial\ell}{\partial p_c} = \frac{s}{2} \log_b \frac{p_c}{m_c}, \qquad
        \frac{\partial^2\ell}{\partial p_c^2} = \frac{s}{4 \ln b}\,\frac{q_c}{p_c m_c}

    with :math:`s` the row's sample weight and :math:`b` the base. Between 0 and :math:`\log_b 2` for probabilities.
    What a class adds is never negative, and taken from the difference :math:`p_c - q_c`: so the divergence keeps its
    digits however small it is. ``evaluate`` has the derivative in q as ``grad_target``.

    A class that is in neither adds nothing, and its derivatives are 0; of one in q alone the derivative in p is -inf.

    Parameters
    ----------
    p : array_like of float, shape (..., C)
        Probabilities, not checked to be such unless ``check="distribution"``; below 0 the result is NaN. float64,
        float32, float16 and bfloat16 are taken as they are, everything else as float64.
    q : array_like, shape (..., C)
        Probabilities, likewise.
    base : float, optional
        Of the logarithms: above 0, not 1; 2 for bits. e unless given.

    Returns
    -------
    float or ndarray
        The reduced divergence as a float; with ``reduction="none"`` one divergence a row.

    Raises
    ------
    ValueError
        If shapes do not fit, there are no classes, or a parameter is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    relative_entropy, kl_div

    Notes
    -----
    ``scipy.spatial.distance.jensenshannon`` is the square root of this, after dividing p and q by their sums.

    References
    ----------
    .. [1] J. Lin, "Divergence measures based on the Shannon entropy", *IEEE Trans. Inf. Theory* 37 (1991) 145-151.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.js_div([[1.0, 0.0]], [[0.0, 1.0]], base=2)
    1.0
    >>> lf.js_div([[0.5, 0.5]], [[0.5 + 2e-9, 0.5 - 2e-9]])
    2.0000000534057286e-18
    """
    x, t = x + 0.0, t + 0.0
    none, outside = (x == 0.0) & (t == 0.0), (x < 0.0) | (t < 0.0)
    whole = x + t
    back = whole - x
    lost = (x - (whole - back)) + (t - back)
    d = x - t
    s = d / whole
    near, close = np.abs(s) < 0.7, np.abs(s) < 0.5
    r = where(near, s, 0.0)
    series, one = 0.0 * r, 0.0 * r + 1.0
    for divisor in _CURVES[::-1]:
        series = series * (r * r) + one / divisor
    log_x = where(close, np.log1p(s), log_ratio(2.0 * x, whole))
    log_t = where(close, np.log1p(0.0 - s), log_ratio(2.0 * t, whole))
    apart = where(near, 0.25 * (d * r) * series, 0.5 * ((mul0(x, log_x) + mul0(t, log_t)) - lost))
    value = where(none, 0.0, where(outside, _NAN, apart))
    slope_x, slope_t = where(outside, _NAN, 0.5 * log_x), where(outside, _NAN, 0.5 * log_t)
    bend = where(outside, _NAN, 0.5 * (t / whole) / x)
    return (
        unit * value,
        where(none, 0.0, unit * slope_x),
        where(none, 0.0, unit * bend),
        where(none, 0.0, unit * slope_t),
    )


def _entropy_terms(x, t, unit):
    return 0.0, np.abs(unit * np.log(x)) + np.abs(unit), 0.0, 0.0


@entry_function(operand="p", takes="probabilities", parameters=_BASE, ulp=2, terms=_entropy_terms, group="information")
def entropy(x, t, unit):
    r"""Shannon entropy of distributions: the mean information of what is drawn from them.

    .. math:: f = -\sum_c p_c \log_b p_c, \qquad \frac{\partial f}{\partial p_c} = -\log_b p_c - \frac{1}{\ln b}

    with :math:`b` the base and :math:`0 \log 0 = 0`.

    Parameters
    ----------
    p : array_like of float, shape (..., C)
        Probabilities, not checked to be such; below 0 the result is NaN. float64, float32, float16 and bfloat16 are
        taken as they are, everything else as float64.
    base : float, optional
        Of the logarithm: above 0, not 1; 2 for bits. e unless given.

    Returns
    -------
    ndarray
        One entropy a row.

    Raises
    ------
    ValueError
        If an option is out of its domain.
    TypeError
        If p is complex, object, masked or not an array.

    See Also
    --------
    self_information, cross_entropy_between, cross_entropy : ``evaluate`` there has the entropy of the softmax.

    Notes
    -----
    ``scipy.stats.entropy``, which divides p by its sum first and takes axis 0; ``torch.distributions.Categorical`` has
    it as a method; ``scipy.special.entr`` is one class's part.

    References
    ----------
    .. [1] C. E. Shannon, "A mathematical theory of communication", *Bell Syst. Tech. J.* 27 (1948) 379-423.

    Examples
    --------
    >>> import lossfast as lf
    >>> letters = [0.2, 0.2, 0.4, 0.2]  # of the word HELLO
    >>> round(float(lf.entropy(letters, base=2)), 4)
    1.9219
    """
    nlp = 0.0 - np.log(where(x < 0.0, _NAN, x))
    return unit * mul0(x, nlp), unit * (nlp - 1.0), unit * (-1.0 / where(x < 0.0, _NAN, x + 0.0)), 0.0 * x


@entry_loss(operands=("p", "q"), takes=_DISTRIBUTIONS, parameters=_BASE, ulp=2, group="information")
def cross_entropy_between(x, t, unit):
    r"""Cross-entropy of two distributions: the mean length of a code made for q when p is what is drawn from.

    .. math:: \ell = -s \sum_c p_c \log_b q_c, \qquad \frac{\partial\ell}{\partial p_c} = -s \log_b q_c, \qquad
        \frac{\partial\ell}{\partial q_c} = -\frac{s}{\ln b}\,\frac{p_c}{q_c}

    with :math:`s` the row's sample weight and :math:`b` the base. The last is ``evaluate``'s ``grad_target``. It is the
    entropy of p and its relative entropy to q: where p is fixed, the q that makes one least makes the other so.

    A class that is not in p adds nothing; where :math:`q_c = 0 < p_c` the cross-entropy is +inf.

    Parameters
    ----------
    p : array_like of float, shape (..., C)
        Probabilities, not checked to be such unless ``check="distribution"``. float64, float32, float16 and bfloat16
        are taken as they are, everything else as float64.
    q : array_like, shape (..., C)
        Probabilities, likewise; below 0 the result is NaN.
    base : float, optional
        Of the logarithm: above 0, not 1; 2 for bits. e unless given.

    Returns
    -------
    float or ndarray
        The reduced cross-entropy as a float; with ``reduction="none"`` one a row.

    Raises
    ------
    ValueError
        If shapes do not fit, there are no classes, or a parameter is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    entropy, relative_entropy, categorical_cross_entropy : the same with the arguments exchanged, and labels.

    Notes
    -----
    For logits and labels, as in ``torch.nn.functional.cross_entropy``, see `cross_entropy`.

    References
    ----------
    .. [1] C. E. Shannon, "A mathematical theory of communication", *Bell Syst. Tech. J.* 27 (1948) 379-423.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.cross_entropy_between([[0.5, 0.5, 0.0, 0.0]], [[0.25, 0.25, 0.25, 0.25]], base=2)
    2.0
    """
    nlq = 0.0 - np.log(where(t < 0.0, _NAN, t))
    known = (x == x) & (nlq == nlq)
    absent = known & (x == 0.0)
    value, slope = where(absent, 0.0, x * nlq), where(absent, 0.0, 0.0 - x / (t + 0.0))
    return unit * value, where(known, unit * nlq, _NAN), where(known, 0.0, _NAN), where(known, unit * slope, _NAN)


def _relative_terms(x, t, unit):
    return 0.0, np.abs(unit * log_ratio(x, t)) + np.abs(unit), 0.0, 0.0


@entry_loss(
    operands=("p", "q"), takes=_DISTRIBUTIONS, parameters=_BASE, ulp=2, terms=_relative_terms, group="information"
)
def relative_entropy(x, t, unit):
    r"""Relative entropy (Kullback-Leibler divergence) of one distribution to another.

    .. math:: \ell = s \sum_c p_c \log_b \frac{p_c}{q_c}, \qquad
        \frac{\partial\ell}{\partial p_c} = s\,\Bigl(\log_b \frac{p_c}{q_c} + \frac{1}{\ln b}\Bigr), \qquad
        \frac{\partial^2\ell}{\partial p_c^2} = \frac{s}{p_c \ln b}, \qquad
        \frac{\partial\ell}{\partial q_c} = -\frac{s}{\ln b}\,\frac{p_c}{q_c}

    with :math:`s` the row's sample weight and :math:`b` the base. The last is ``evaluate``'s ``grad_target``.

    Each term is taken from the difference :math:`p_c - q_c` where the two are near each other, in double, and has all
    its digits. Terms of both signs cancel then: the sum is good to 2 ULP or :math:`2^{-52} \sum_c |p_c \log(p_c /
    q_c)|`. As that is of the size of the differences, and the divergence of that of their squares, it is far better
    than from logarithms of p and q; but the divergence of rounded distributions has what :math:`\sum_c (p_c - q_c)`
    is not 0 by. `kl_div_from_logits` has neither.

    A class that is in neither adds nothing, and its derivatives are 0. Of one in q alone the derivative in p is -inf.
    Where :math:`q_c = 0 < p_c` the relative entropy is +inf.

    Parameters
    ----------
    p : array_like of float, shape (..., C)
        Probabilities, not checked to be such unless ``check="distribution"``; below 0 the result is NaN. float64,
        float32, float16 and bfloat16 are taken as they are, everything else as float64.
    q : array_like, shape (..., C)
        Probabilities, likewise.
    base : float, optional
        Of the logarithm: above 0, not 1; 2 for bits. e unless given.

    Returns
    -------
    float or ndarray
        The reduced relative entropy as a float; with ``reduction="none"`` one a row.

    Raises
    ------
    ValueError
        If shapes do not fit, there are no classes, or a parameter is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    kl_div : of log-probabilities, in the other order; kl_div_from_logits, js_div, cross_entropy_between

    Notes
    -----
    ``scipy.special.rel_entr(p, q).sum(-1)``; ``scipy.stats.entropy(p, q, axis=-1)`` divides p and q by their sums
    first. ``keras.losses.kl_divergence(p, q)`` clips both.

    References
    ----------
    .. [1] S. Kullback and R. A. Leibler, "On information and sufficiency", *Ann. Math. Statist.* 22 (1951) 79-86.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.relative_entropy([[0.5, 0.5, 0.0, 0.0]], [[0.25, 0.25, 0.25, 0.25]], base=2)
    1.0
    """
    none, absent = (x == 0.0) & (t == 0.0), (x == 0.0) & (t >= 0.0)
    outside = (x < 0.0) | (t < 0.0)
    apart = where(outside, _NAN, log_ratio(where(outside, 1.0, x + 0.0), where(outside, 1.0, t + 0.0)))
    known = apart == apart
    bend, slope = where(known, 1.0 / (x + 0.0), _NAN), where(absent, 0.0, where(known, 0.0 - x / (t + 0.0), _NAN))
    grad = where(none, 0.0, unit * (apart + 1.0))
    return where(absent, 0.0, unit * (x * apart)), grad, where(none, 0.0, unit * bend), unit * slope


@entry_loss(
    operands=("logits", "targets"), takes=("logits", "0 or 1"), class_weight=True, average=True, ulp=2, group="rows"
)
def multilabel_soft_margin_loss(x, t):
    r"""Mean over the classes of binary cross-entropy: any number of labels a row, each decided by itself.

    .. math:: \ell = \frac{s}{n} \sum_c w_c \bigl[t_c \log(1 + e^{-x_c}) + (1 - t_c) \log(1 + e^{x_c})\bigr]

    .. math:: \frac{\partial\ell}{\partial x_c} = \frac{s\,w_c}{n}\,(\sigma(x_c) - t_c), \qquad
        \frac{\partial^2\ell}{\partial x_c^2} = \frac{s\,w_c}{n}\,\sigma(x_c)\,\sigma(-x_c)

    with :math:`s` the row's sample weight, :math:`w` the class weights and :math:`n` the number of unmasked classes.

    Parameters
    ----------
    logits : array_like of float, shape (..., C)
        The log-odds of each class. float64, float32, float16 and bfloat16 are taken as they are, everything else as
        float64.
    targets : array_like, shape (..., C)
        1 for the classes that the row has and 0 for the others, or between the two how likely it has them.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` one loss a row.

    Raises
    ------
    ValueError
        If shapes do not fit, there are no classes, or an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    binary_cross_entropy_with_logits : the same element by element, with ``pos_weight``.

    Notes
    -----
    ``torch.nn.functional.multilabel_soft_margin_loss``, whose ``weight`` is ``class_weight``: part of the loss there
    and here, and of no denominator.

    References
    ----------
    .. [1] D. R. Cox, "The regression analysis of binary sequences", *J. R. Stat. Soc. B* 20 (1958) 215-242.

    Examples
    --------
    >>> import lossfast as lf
    >>> loss, grad = lf.multilabel_soft_margin_loss.value_and_grad([[0.0, 20.0]], [[1, 1]])
    >>> loss
    0.34657359131054943
    >>> grad
    array([[-2.50000000e-01, -1.03057681e-09]])
    """
    e = np.exp(-np.abs(x))
    inverse = 1.0 / (1.0 + e)
    up = x > 0.0
    near, far = where(up, 1.0 - t, t), where(up, t, 1.0 - t)
    slope = (0.5 * near - 0.5 * far * e) * (2.0 * inverse)  # halves: both may be near the end of the range
    value = mul0(1.0 - t, softplus(x)) + mul0(t, softplus(0.0 - x))
    return value, where(up, slope, 0.0 - slope), keep_nan(sigmoid_slope(x), t), 0.0 - x


@entry_loss(
    operands=("logits", "targets"),
    takes=("logits", "0 or 1"),
    parameters={"margin": Parameter(1.0)},
    outputs=("hess",),
    average=True,
    of="pairs",
    ulp=2,
    group="rows",
)
def multilabel_margin_loss(x, t, margin):
    r"""Hinge loss of several labels a row: by how much each of its classes fails to beat each of the others.

    .. math:: \ell = \frac{s}{n} \sum_{j:\,t_j \ne 0}\ \sum_{i:\,t_i = 0} h_{ij}, \qquad
        h_{ij} = \max(0,\, m - x_j + x_i)

    .. math:: \frac{\partial\ell}{\partial x_i} = \frac{s}{n} \sum_{j:\,t_j \ne 0} [h_{ij} > 0] \quad (t_i = 0), \qquad
        \frac{\partial\ell}{\partial x_j} = -\frac{s}{n} \sum_{i:\,t_i = 0} [h_{ij} > 0] \quad (t_j \ne 0)

    with :math:`m` the margin, :math:`s` the row's sample weight and :math:`n` the number of unmasked classes. The
    second derivatives are 0. At the kink, where :math:`m - x_j + x_i` is 0, the derivatives are those of the side
    without a violation. A row that has no classes, or all, loses nothing.

    The classes that a row has are sorted; the others are then found among them. Memory goes by how many the former are.

    Parameters
    ----------
    logits : array_like of float, shape (..., C)
        Scores. float64, float32, float16 and bfloat16 are taken as they are, everything else as float64. -inf is a
        class that cannot be.
    targets : array_like, shape (..., C)
        1 for the classes that the row has and 0 for the others; any number but 0 is as 1.
    margin : float, default 1.0
        By how much the score of a class that the row has must be above that of one that it has not.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` one loss a row.

    Raises
    ------
    ValueError
        If shapes do not fit, there are no classes, or a parameter is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    multiclass_hinge_loss : one label a row; with ``variant="weston_watkins"`` this one where a single target is 1.
    multilabel_soft_margin_loss : each class decided by itself.

    Notes
    -----
    ``torch.nn.functional.multilabel_margin_loss``, which takes the labels of a row as a list of C integers that ends at
    the first -1. Of such lists ``labels`` this makes the targets here::

        valid = np.cumprod(labels >= 0, axis=-1, dtype=bool)
        targets = (np.arange(labels.shape[-1]) == np.where(valid, labels, -1)[..., None]).any(-2)

    A label that stands twice in a list counts twice there, and once here.

    References
    ----------
    .. [1] J. Weston and C. Watkins, "Support vector machines for multi-class pattern recognition", ESANN 1999, 219-224.
    .. [2] K. Crammer and Y. Singer, "A family of additive online algorithms for category ranking", *J. Mach. Learn.
       Res.* 3 (2003) 1025-1058.

    Examples
    --------
    >>> import lossfast as lf
    >>> scores = [[0.25, 0.5, 1.0, 2.0]]
    >>> value, grad = lf.multilabel_margin_loss.value_and_grad(scores, [[1, 0, 0, 1]])
    >>> value
    0.75
    >>> grad
    array([[-0.5 ,  0.25,  0.25,  0.  ]])
    """
    own = t != 0.0
    others = where(own, -_INF, x)
    scores = where(own, x, -_INF)
    odd = ((x != x) | (t != t)).any(-1) | ((scores == _INF).any(-1) & (others == _INF).any(-1))
    value, rest, slope = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    places = np.argsort(~own, axis=-1, kind="stable")
    for k in range(int(own.sum(-1).max(initial=0))):
        place = places[..., k : k + 1]
        there, score = np.take_along_axis(own, place, -1), np.take_along_axis(x, place, -1)
        gap = others - score
        above = gap + margin
        low = lost(others, score) + lost(gap, -margin)
        h = above + low
        hit = there & (others != -_INF) & (h > 0.0)
        h, low = where(hit, h, 0.0), where(hit, lost(above, -low), 0.0)
        rest = rest + (lost(value, -h) + low)
        value = value + h
        slope = slope + where(hit, 1.0, 0.0)
        mine = where(there, -hit.sum(-1, keepdims=True), np.take_along_axis(slope, place, -1))
        np.put_along_axis(slope, place, mine, -1)
    odd = odd[..., None]
    return where(odd, _NAN, value + rest), where(odd, _NAN, slope), where(odd, _NAN, 0.0 * slope), 0.0 * slope


def perplexity(logits: Any, targets: Any, /, **options: Any) -> float:
    r"""Perplexity of a language model: e to the power of the mean cross-entropy.

    .. math:: \mathrm{PPL} = \exp\Bigl(-\frac{1}{N} \sum_{i=1}^N \log p_{i, y_i}\Bigr)

    The number of equally likely choices that would leave as much in doubt; the same in whatever base the cross-entropy
    is taken. It is no loss of its own: its gradient is the perplexity times that of `cross_entropy`, and it is lowest
    where that is. Of shards, merge what ``cross_entropy.reduce`` gives for each, and take the whole's ``perplexity``.
    Of the log-probabilities of the tokens that were there, it is ``math.exp(-logp.mean())``; of all classes' it is
    ``nll_loss.reduce(logp, targets).perplexity``.

    Parameters
    ----------
    logits : array_like of float, shape (..., C)
        Unnormalised log-probabilities, as `cross_entropy` takes them.
    targets : array_like
        Integer labels in [0, C), of logits' shape without the class axis, or soft labels of logits' shape.
    **options
        Those of `cross_entropy` but for ``reduction``: ``ignore_index``, ``sample_weight``, ``temperature`` ...

    Returns
    -------
    float
        At least 1 for labels without smoothing and weights of at least 0; ``C`` for even logits.

    Raises
    ------
    IndexError, ValueError, TypeError
        As `cross_entropy` does.

    See Also
    --------
    cross_entropy, nll_loss, Reduction

    Notes
    -----
    ``torcheval.metrics.text.Perplexity`` and ``torchmetrics.text.Perplexity``. A relative error of the mean m is one m
    times as large of the perplexity.

    References
    ----------
    .. [1] F. Jelinek, R. L. Mercer, L. R. Bahl and J. K. Baker, "Perplexity: a measure of the difficulty of speech
       recognition tasks", *J. Acoust. Soc. Am.* 62 (1977) S63.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.perplexity([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], [1, 3])
    4.0
    >>> whole = lf.cross_entropy.reduce([[0.0, 0.0]], [0]) + lf.cross_entropy.reduce([[0.0, 0.0]], [1])
    >>> whole.perplexity
    2.0
    """
    return cross_entropy.reduce(logits, targets, **options).perplexity
