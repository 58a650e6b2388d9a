"""The losses and functions over a class axis, each once: name, parameters, documentation, error budget and Python twin.

A backend brings each row to its softmax state: the largest logit, the sum of the other exponentials, and from them

- ``p``, the probability of a class, and ``q = 1 - p`` (from the sum of the others, so that it keeps its digits as p
  goes to 1);
- ``a = lse - z >= 0``, minus the log-probability.

Where a second softmax stands in the targets' place, ``t`` is its probability and ``a`` the logarithm of ``p / t``.

A loss's twin makes of these the part that one class has in the loss and, in that class's logit, the gradient and the
Hessian's diagonal. The row's loss is the sum of the parts. Elementwise, in float64, in the words of `lossfast._words`.

Two kinds of losses have shorter twins. One that is a function F of ``-log p`` of the true class (``of="truth"``) gives,
of that class's ``a`` in two parts (``a + low``), ``up p`` (with ``up`` a power of 2, so that it is not subnormal),
``q`` in two parts, ``up`` and its own parameters, ``F``, ``F'`` and ``up q F''/F'``; the rest follows by the chain
rule, and soft labels are a sum over classes. One that is a function of margins
(``of="violations"``) gives, of the difference of another class's logit and the true one's, in two parts too, and its
own parameters, its value for that class and the first and second derivative in that difference.
"""

from __future__ import annotations

import numpy as np

from lossfast._loss import Choice, Parameter, row_comparison, row_function, row_loss
from lossfast._words import exp_times, growth, keep_nan, mul0, where

_LOSS_OUTPUTS = ("hess", "proba", "log_proba", "lse", "pred", "correct", "entropy", "margin", "rank")
_TEMPERATURE = Parameter(1.0, "finite and > 0")


@row_loss(
    parameters={
        "label_smoothing": Parameter(0.0, "in [0, 1]"),
        "temperature": _TEMPERATURE,
        "z_loss": Parameter(0.0, "finite and >= 0"),
    },
    ulp=2,
    outputs=(*_LOSS_OUTPUTS, "grad_temperature", "hess_temperature", "grad_target", "hvp", "newton_step"),
)
def cross_entropy(p, q, t, w, total, a, k, kk, d, u):
    r"""Cross-entropy of the softmax of logits with integer or soft labels.

    .. math:: \ell = s\Bigl[\sum_c w_c t'_c\,(\mathrm{lse} - z_c) + \zeta\,\mathrm{lse}^2\Bigr]

    .. math:: z = x / T, \qquad \mathrm{lse} = \log\sum_c e^{z_c}, \qquad
        t'_c = (1 - \varepsilon)\,t_c + \varepsilon / n

    with :math:`s` the row's sample weight, :math:`w` the class weights, :math:`t` the targets (1 at an integer label),
    :math:`\varepsilon` the label smoothing, :math:`n` the number of unmasked classes, :math:`T` the temperature and
    :math:`\zeta` the ``z_loss``. With :math:`p` the softmax of :math:`z`, :math:`W = \sum_c w_c t'_c` and
    :math:`A = W + 2\zeta\,\mathrm{lse}`,

    .. math:: \frac{\partial\ell}{\partial x_c} = \frac{s}{T}\,(A\,p_c - w_c t'_c), \qquad
        \frac{\partial^2\ell}{\partial x_c^2} = \frac{s}{T^2}\,\bigl(A\,p_c (1 - p_c) + 2\zeta\,p_c^2\bigr).

    In the temperature, with :math:`\mathrm{E}` and :math:`\mathrm{Var}` under :math:`p`,

    .. math:: \frac{\partial\ell}{\partial T} = \frac{s}{T}\Bigl[\sum_c w_c t'_c z_c - A\,\mathrm{E} z\Bigr], \qquad
        \frac{\partial^2\ell}{\partial T^2} = \frac{s}{T^2}\bigl[A\,\mathrm{Var} z + 2\zeta\,(\mathrm{E} z)^2\bigr] -
        \frac{2}{T}\frac{\partial\ell}{\partial T}.

    For an integer label the loss and the true class's gradient are taken from the sum of the other classes, so that
    they keep their digits when the model is right: logits ``[20, 0]`` with label 0 give 2.06e-9 and -2.06e-9.

    Parameters
    ----------
    logits : array_like of float, shape (..., C)
        Unnormalised log-probabilities. float64, float32, float16 and bfloat16 are taken as they are, everything else as
        float64. -inf is a class that cannot be.
    targets : array_like
        Either integer labels in [0, C), of logits' shape without the class axis, or soft labels: floating weights of
        the classes, of logits' shape, which are not normalised. Soft labels may be sparse: a `TopK`, or one of SciPy's
        sparse matrices with a row for each row of logits; they are never made dense.
    label_smoothing : float, default 0.0
        The share of the target, in [0, 1], that is spread evenly over the unmasked classes.
    temperature : float, default 1.0
        Divides the logits; above 0.
    z_loss : float, default 0.0
        Factor, at least 0, of the squared log-normaliser.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` one loss a row.

    Raises
    ------
    IndexError
        If a label is neither in [0, C) nor ``ignore_index``; the message has the first such row, its label and their
        number. Nothing has been written then.
    ValueError
        If shapes do not fit, there are no classes, or a parameter is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array, or labels are floating.

    See Also
    --------
    quadratic_softmax_loss, nll_loss, log_softmax, binary_cross_entropy_with_logits

    Notes
    -----
    ``torch.nn.functional.cross_entropy`` (class axis 1; its mean over soft labels is ``reduction="batchmean"`` here),
    ``optax.softmax_cross_entropy_with_integer_labels``, ``tf.nn.softmax_cross_entropy_with_logits``. scikit-learn's
    ``log_loss`` takes probabilities, clipped. These compute ``lse - x_y`` and ``p - 1``, which round to 0 for right
    answers.

    References
    ----------
    .. [1] I. J. Good, "Rational decisions", *J. R. Stat. Soc. B* 14 (1952) 107-114.
    .. [2] C. Szegedy et al., "Rethinking the Inception architecture for computer vision", CVPR 2016 (smoothing).
    .. [3] B. Zoph et al., "ST-MoE: Designing stable and transferable sparse expert models", 2022 (z-loss).

    Examples
    --------
    >>> import lossfast as lf
    >>> logits = [[20.0, 0.0], [0.0, 1.0]]
    >>> lf.cross_entropy(logits, [0, 1], reduction="none")
    array([2.06115362e-09, 3.13261688e-01])
    >>> lf.cross_entropy.grad(logits, [0, 1], reduction="sum")
    array([[-2.06115362e-09,  2.06115362e-09],
           [ 2.68941421e-01, -2.68941421e-01]])

    Fitting the temperature on held-out logits takes a few steps of Newton's method in :math:`1 / T`, in which the loss
    is convex: with :math:`f` the loss, its derivatives there are :math:`-T^2 f'` and :math:`T^4 f'' + 2 T^3 f'`. It
    starts hot, where a step falls short of the minimum rather than beyond it.

    >>> logits, labels = [[2.0, 0.0], [0.0, 1.5], [1.0, 0.5], [0.5, 2.5]], [0, 1, 0, 0]
    >>> T = 10.0
    >>> for _ in range(5):
    ...     first, second = lf.cross_entropy.evaluate(
    ...         logits, labels, temperature=T, want=("grad_temperature", "hess_temperature")
    ...     )
    ...     T = 1 / (1 / T + first / (T**2 * second + 2 * T * first))
    >>> round(T, 12), round(lf.cross_entropy(logits, labels, temperature=T), 12)
    (2.50904129264, 0.644456443382)
    """
    # p W - w, written p (W - w) - w (1 - p): nothing cancels at a class that has all the weight
    return mul0(w, a), mul0(p, (total - w) + k) - mul0(w, q), mul0(p, mul0(q, total + k) + kk * p)


@row_loss(ulp=2, soft=False)
def nll_loss(p, q, t, w, total, a, k, kk, d, u):
    r"""Negative log-likelihood: minus the true class's log-probability, which is the input.

    .. math:: \ell = -s\,w_y\,x_y, \qquad \frac{\partial\ell}{\partial x_c} = -s\,w_y\,[c = y], \qquad
        \frac{\partial^2\ell}{\partial x_c^2} = 0

    with :math:`y` the label, :math:`s` the row's sample weight and :math:`w` the class weights.

    Parameters
    ----------
    logits : array_like of float, shape (..., C)
        Log-probabilities, as `log_softmax` gives them; not checked to be. float64, float32, float16 and bfloat16 are
        taken as they are, everything else as float64.
    targets : array_like of int
        Labels in [0, C), of logits' shape without the class axis.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` one loss a row.

    Raises
    ------
    IndexError
        If a label is neither in [0, C) nor ``ignore_index``.
    ValueError
        If shapes do not fit or an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array, or labels are floating.

    See Also
    --------
    cross_entropy : takes logits, in one pass and with more digits than `log_softmax` followed by this.

    Notes
    -----
    ``torch.nn.functional.nll_loss`` (class axis 1). scikit-learn's ``log_loss`` takes probabilities instead.

    References
    ----------
    .. [1] R. A. Fisher, "On the mathematical foundations of theoretical statistics", *Phil. Trans. A* 222 (1922).

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.nll_loss([[-0.5, -1.0], [-2.0, -0.25]], [0, 0])
    1.25
    """
    return mul0(w, a), -w, 0.0 * w


@row_loss(parameters={"temperature": _TEMPERATURE}, ulp=4, outputs=(*_LOSS_OUTPUTS, "hvp"))
def quadratic_softmax_loss(p, q, t, w, total, a, k, kk, d, u):
    r"""Half the squared distance of the softmax of logits to the target: a quadratic cost on softmax outputs.

    .. math:: \ell = \frac{s W}{2} \sum_c (p_c - t_c)^2, \qquad W = \sum_c w_c t_c, \qquad
        \frac{\partial\ell}{\partial x_c} = \frac{s W}{T}\,p_c\,(d_c - D)

    with :math:`p` the softmax of :math:`x / T`, :math:`d = p - t`, :math:`D = \sum_j p_j d_j`, :math:`s` the row's
    sample weight and :math:`w` the class weights. With :math:`u = 2 p - t` and :math:`U = \sum_j p_j u_j`,

    .. math:: \frac{\partial^2\ell}{\partial x_c^2} = \frac{s W}{T^2}\,p_c\,
        \bigl[(1 - p_c)(d_c - D) + p_c (1 - p_c) - p_c (u_c - U)\bigr].

    Bounded, so that a mislabelled row cannot dominate; but its gradient vanishes where the model is sure and wrong, and
    it is not convex in the logits. Deviations from the mean are taken relative to the likeliest class, so that the
    gradient keeps its digits when the model is right.

    Parameters
    ----------
    logits : array_like of float, shape (..., C)
        Unnormalised log-probabilities. float64, float32, float16 and bfloat16 are taken as they are, everything else as
        float64.
    targets : array_like
        Integer labels in [0, C), of logits' shape without the class axis, or soft labels of logits' shape.
    temperature : float, default 1.0
        Divides the logits; above 0.

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
    cross_entropy

    Notes
    -----
    Half of the Brier score of the softmax probabilities in its original, multi-class form;
    ``sklearn.metrics.brier_score_loss`` takes probabilities and for two classes counts one of them only.

    References
    ----------
    .. [1] G. W. Brier, "Verification of forecasts expressed in terms of probability", *Mon. Weather Rev.* 78 (1950)
       1-3.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.quadratic_softmax_loss([[0.0, 0.0], [0.0, 0.0]], [0, 1])
    0.25
    """
    miss = _miss(p, q, t)
    value = 0.5 * total * (miss * miss)
    near = d + p
    return value, total * mul0(p, d), total * mul0(p, where(p < 0.5, d + p * ((1.0 - near) - u), q * near - p * u))


@row_comparison(
    parameters={"temperature": _TEMPERATURE},
    ulp=2,
    outputs=("hess", "proba", "log_proba", "lse", "entropy", "grad_temperature", "grad_target", "hvp"),
)
def kl_div_from_logits(p, q, t, w, total, a, k, kk, d, u):
    r"""Kullback-Leibler divergence of the softmax of one array of logits from that of another.

    .. math:: \ell = s \sum_c p_c\,(\log p_c - \log q_c), \qquad p = \mathrm{softmax}(z_p / T), \quad
        q = \mathrm{softmax}(z_q / T)

    with :math:`s` the row's sample weight and :math:`T` the temperature. With :math:`D` the divergence and
    :math:`a_c = \log p_c - \log q_c`,

    .. math:: \frac{\partial\ell}{\partial z_{p,c}} = \frac{s}{T}\,p_c\,(a_c - D), \qquad
        \frac{\partial^2\ell}{\partial z_{p,c}^2} =
        \frac{s}{T^2}\,p_c\,\bigl[(1 - 2 p_c)(a_c - D) + 1 - p_c\bigr], \qquad
        \frac{\partial\ell}{\partial z_{q,c}} = \frac{s}{T}\,(q_c - p_c).

    The last is ``evaluate``'s ``grad_target``: what moves a student :math:`z_q` towards a teacher :math:`z_p`. The sum
    is taken as that of :math:`p_c\,\varphi(-a_c)`, :math:`\varphi(x) = e^x - 1 - x`, whose terms are all at least 0: so
    the divergence is never negative, 0 for equal arguments, and keeps its digits however small it is, where the terms
    of the definition would cancel. Everything is computed in double.

    Where :math:`p_c = 0` a class adds 0, whatever :math:`q_c`. Where :math:`q_c = 0 < p_c` (:math:`z_{q,c}` is -inf and
    :math:`z_{p,c}` is not) the divergence is +inf; its gradient is then the limit: +inf at such classes, -inf at the
    others that can be in p, 0 at the rest, and 0 everywhere if p has one class alone. Second derivatives and the
    derivative in the temperature are NaN there. An infinite logit makes its softmax one-hot.

    Parameters
    ----------
    z_p : array_like of float, shape (..., C)
        Unnormalised log-probabilities. float64, float32, float16 and bfloat16 are taken as they are, everything else as
        float64. -inf is a class that cannot be.
    z_q : array_like of float, shape (..., C)
        Unnormalised log-probabilities of z_p's shape, of any floating dtype.
    temperature : float, default 1.0
        Divides both logits; above 0. For distillation the loss is often multiplied by its square.

    Returns
    -------
    float or ndarray
        The reduced divergence as a float; with ``reduction="none"`` one divergence a row.

    Raises
    ------
    ValueError
        If shapes do not fit, there are no classes, or a parameter is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array, or z_q is of integers: labels are no logits.

    See Also
    --------
    cross_entropy : with soft labels, the same less the labels' own entropy.

    Notes
    -----
    ``torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="batchmean")`` with ``log_p`` and ``log_q``
    from ``log_softmax``, ``optax.losses.kl_divergence(log_q, p)``, ``scipy.special.rel_entr(p, q).sum(-1)``. These add
    terms of both signs: at a divergence of 5e-7 no digit is left in float32.

    References
    ----------
    .. [1] S. Kullback and R. A. Leibler, "On information and sufficiency", *Ann. Math. Statist.* 22 (1951) 79-86.
    .. [2] G. Hinton, O. Vinyals and J. Dean, "Distilling the knowledge in a neural network", 2015 (temperature).

    Examples
    --------
    >>> import lossfast as lf
    >>> teacher, student = [[2.0, 0.0], [0.0, 0.0]], [[2.0, 1e-9], [0.0, 1.0]]
    >>> lf.kl_div_from_logits(teacher, student, reduction="none")
    array([5.24967927e-20, 1.20114507e-01])
    >>> lf.kl_div_from_logits.evaluate(teacher, student, want="grad_target", reduction="sum").grad_target
    array([[-1.04993585e-10,  1.04993585e-10],
           [-2.31058579e-01,  2.31058579e-01]])
    """
    # p (e^-a - 1 + a); from t itself where that is much the greater, or p nothing
    far = where(p == 0.0, 1.0, where(a < -2.0, 1.0, 0.0)) == 1.0
    value = where(far, (t - p) + mul0(p, a), p * growth(where(far, 0.0 * p, 0.0 - a)))
    return value, mul0(p, d), mul0(p, (q - p) * d + q)


@row_loss(
    parameters={
        "gamma": Parameter(2.0, "finite and >= 0"),
        "alpha": Parameter(None, "finite and >= 0"),
        "temperature": _TEMPERATURE,
    },
    ulp=2,
    of="truth",
    outputs=_LOSS_OUTPUTS,
)
def focal_loss(a, low, p, q, q_low, up, gamma, alpha):
    r"""Focal loss of the softmax of logits: cross-entropy in which rows that are right already count for little.

    .. math:: \ell = s\,\alpha \sum_c w_c t_c\,F(a_c), \qquad F(a) = (1 - p)^\gamma\,a, \qquad a_c = -\log p_c

    with :math:`p` the softmax of :math:`x / T`, :math:`s` the row's sample weight, :math:`w` the class weights and
    :math:`t` the targets (1 at an integer label). With :math:`F'(a) = (1 - p)^\gamma\,(1 + \gamma p a / (1 - p))`,
    :math:`F''(a) = \gamma (1 - p)^{\gamma - 1} p\,(2 - a + (\gamma - 1) p a / (1 - p))` and a label :math:`y`,

    .. math:: \frac{\partial\ell}{\partial x_c} = \frac{s \alpha w_y}{T}\,F'(a_y)\,(p_c - t_c), \qquad
        \frac{\partial^2\ell}{\partial x_c^2} =
        \frac{s \alpha w_y}{T^2}\,\bigl[F'(a_y)\,p_c (1 - p_c) + F''(a_y)\,(p_c - t_c)^2\bigr];

    of soft labels each class has its own :math:`a_c`, and derivatives are sums over the classes.

    :math:`1 - p` and :math:`a` are taken from the other classes' exponentials, so that the loss keeps its digits where
    it is next to nothing. It is not convex.

    Parameters
    ----------
    logits : array_like of float, shape (..., C)
        Unnormalised log-probabilities. float64, float32, float16 and bfloat16 are taken as they are, everything else as
        float64. -inf is a class that cannot be.
    targets : array_like
        Either integer labels in [0, C), of logits' shape without the class axis, or soft labels: floating weights of
        the classes, of logits' shape, which are not normalised.
    gamma : float, default 2.0
        How little rows count that are right: at least 0, which is cross-entropy.
    alpha : float, optional
        Multiplies the loss, of all classes alike and not in the mean's denominator; at least 0. Weights that differ
        from class to class are ``class_weight``.
    temperature : float, default 1.0
        Divides the logits; above 0.

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
    cross_entropy, poly_loss, generalized_cross_entropy

    Notes
    -----
    ``keras.losses.CategoricalFocalCrossentropy(from_logits=True)``, whose ``alpha`` is 0.25 unless given and whose
    probabilities are clipped. ``torchvision.ops.sigmoid_focal_loss`` is the loss of independent yes-or-no questions.
    The error bound holds for gamma up to about 10 (5 on the Python backends); beyond, that of 1 - p, gamma times over,
    adds to it.

    References
    ----------
    .. [1] T.-Y. Lin, P. Goyal, R. Girshick, K. He and P. Dollár, "Focal loss for dense object detection", ICCV 2017.

    Examples
    --------
    >>> import lossfast as lf
    >>> logits = [[4.0, 0.0], [0.0, 1.0]]
    >>> lf.focal_loss(logits, [0, 0], reduction="none")
    array([5.87156972e-06, 7.01868303e-01])
    >>> lf.focal_loss(logits, [0, 0], gamma=0) == lf.cross_entropy(logits, [0, 0])
    True
    """
    by = where(alpha == alpha, alpha, 1.0)
    near = a < 700.0  # p a / (1 - p), which beyond is nothing beside 1
    s = where(q == 0.0, 1.0, where(near, a / np.expm1(a), keep_nan(0.0, a)))
    more = where(q == 0.0, 0.0, gamma * (q_low / q))  # what the power of q, rounded, is short of
    power, slope = q**gamma, 1.0 + (gamma * s + more * (1.0 + gamma * s))
    bend = gamma * mul0(p, (2.0 - a) + (gamma - 1.0) * s) / slope
    return by * (power * (a + mul0(more, a))), by * (power * slope), bend


@row_loss(
    parameters={"epsilon": Parameter(1.0, "finite and >= -1"), "temperature": _TEMPERATURE},
    ulp=2,
    of="truth",
    outputs=_LOSS_OUTPUTS,
)
def poly_loss(a, low, p, q, q_low, up, epsilon):
    r"""Poly-1 loss of the softmax of logits: cross-entropy with another weight for its leading term.

    .. math:: \ell = s \sum_c w_c t_c\,F(a_c), \qquad F(a) = a + \epsilon\,(1 - p), \qquad a_c = -\log p_c

    with :math:`p` the softmax of :math:`x / T`, :math:`s` the row's sample weight, :math:`w` the class weights and
    :math:`t` the targets (1 at an integer label). With a label :math:`y`,

    .. math:: \frac{\partial\ell}{\partial x_c} = \frac{s w_y}{T}\,(1 + \epsilon p_y)\,(p_c - t_c), \qquad
        \frac{\partial^2\ell}{\partial x_c^2} =
        \frac{s w_y}{T^2}\,\bigl[(1 + \epsilon p_y)\,p_c (1 - p_c) - \epsilon p_y\,(p_c - t_c)^2\bigr];

    of soft labels each class has its own :math:`a_c`, and derivatives are sums over the classes.

    As a series cross-entropy is :math:`\sum_j (1 - p)^j / j`; :math:`\epsilon` is added to the first coefficient. With
    :math:`\epsilon = -1` that term is gone, and the loss of a row that is right is about :math:`a^2 / 2`; it keeps its
    digits there.

    Parameters
    ----------
    logits : array_like of float, shape (..., C)
        Unnormalised log-probabilities. float64, float32, float16 and bfloat16 are taken as they are, everything else as
        float64. -inf is a class that cannot be.
    targets : array_like
        Either integer labels in [0, C), of logits' shape without the class axis, or soft labels: floating weights of
        the classes, of logits' shape, which are not normalised.
    epsilon : float, default 1.0
        What is added to the first coefficient; at least -1, and 0 is cross-entropy.
    temperature : float, default 1.0
        Divides the logits; above 0.

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
    cross_entropy, focal_loss, generalized_cross_entropy

    Notes
    -----
    ``optax.losses.poly_loss_cross_entropy``, whose epsilon is 2 unless given.

    References
    ----------
    .. [1] Z. Leng, M. Tan, C. Liu, E. D. Cubuk, X. Shi, S. Cheng and D. Anguelov, "PolyLoss: A polynomial expansion
       perspective of classification loss functions", ICLR 2022.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.poly_loss([[0.0, 0.0]], [0])
    1.1931471805599454
    >>> lf.poly_loss([[20.0, 0.0]], [0], epsilon=-1)
    2.1241771218081205e-18
    """
    pole = where(epsilon < 0.0, -epsilon, 0.0)  # nothing cancels: a - q, in the second form, is e^-a - 1 + a
    value = where(epsilon < 0.0, mul0(1.0 + epsilon, a) + pole * growth(0.0 - a), a + epsilon * q)
    slope = where(epsilon < 0.0, (1.0 + epsilon) + pole * q, 1.0 + epsilon * (p / up))
    return value, slope, where(epsilon == -1.0, p, -epsilon * p * (q / where(slope == 0.0, 1.0, slope)))


@row_loss(
    parameters={"q": Parameter(0.7, "in [0, 1]"), "temperature": _TEMPERATURE},
    ulp=2,
    of="truth",
    outputs=_LOSS_OUTPUTS,
)
def generalized_cross_entropy(a, low, p, left, left_low, up, q):
    r"""Generalized cross-entropy of the softmax of logits: between cross-entropy and the absolute error.

    .. math:: \ell = s \sum_c w_c t_c\,F(a_c), \qquad F(a) = \frac{1 - p^q}{q} = \frac{1 - e^{-q a}}{q}, \qquad
        a_c = -\log p_c

    with :math:`p` the softmax of :math:`x / T`, :math:`s` the row's sample weight, :math:`w` the class weights and
    :math:`t` the targets (1 at an integer label). With a label :math:`y`,

    .. math:: \frac{\partial\ell}{\partial x_c} = \frac{s w_y}{T}\,p_y^q\,(p_c - t_c), \qquad
        \frac{\partial^2\ell}{\partial x_c^2} =
        \frac{s w_y}{T^2}\,p_y^q\,\bigl[p_c (1 - p_c) - q\,(p_c - t_c)^2\bigr];

    of soft labels each class has its own :math:`a_c`, and derivatives are sums over the classes.

    For :math:`q \to 0` it is cross-entropy, for :math:`q = 1` the probability of all but the true class, which is half
    the absolute error of the softmax. In between it is bounded by :math:`1 / q`, and rows whose label is hardly likely,
    wrong labels among them, have little weight. It is not convex.

    Parameters
    ----------
    logits : array_like of float, shape (..., C)
        Unnormalised log-probabilities. float64, float32, float16 and bfloat16 are taken as they are, everything else as
        float64. -inf is a class that cannot be.
    targets : array_like
        Either integer labels in [0, C), of logits' shape without the class axis, or soft labels: floating weights of
        the classes, of logits' shape, which are not normalised.
    q : float, default 0.7
        In [0, 1].
    temperature : float, default 1.0
        Divides the logits; above 0.

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
    cross_entropy, focal_loss, poly_loss

    Notes
    -----
    Neither PyTorch nor Keras, optax or scikit-learn has it. From probabilities, ``(1 - p**q) / q`` rounds to 0 where p
    is near 1.

    References
    ----------
    .. [1] Z. Zhang and M. R. Sabuncu, "Generalized cross entropy loss for training deep neural networks with noisy
       labels", NeurIPS 2018.

    Examples
    --------
    >>> import lossfast as lf
    >>> logits = [[20.0, 0.0], [0.0, 20.0]]
    >>> lf.generalized_cross_entropy(logits, [0, 0], reduction="none")
    array([2.06115362e-09, 1.42857024e+00])
    >>> lf.generalized_cross_entropy(logits, [0, 0], q=1, reduction="none")
    array([2.06115362e-09, 9.99999998e-01])
    """
    even = q == 0.0
    value = where(even, a, where(a < 1e-60, a, 0.0 - np.expm1(0.0 - q * a) / where(even, 1.0, q)))
    # the power has less error while p has its digits
    slope = where(p / up > 1e-290, (p / up) ** q, exp_times(0.0 - q, a, low))
    return value, where(even, keep_nan(1.0, a), slope), 0.0 - up * (q * left)


@row_loss(
    parameters={
        "variant": Choice("crammer_singer", ("crammer_singer", "weston_watkins")),
        "margin": Parameter(1.0, "finite"),
        "p": Choice(1, (1, 2)),
    },
    ulp=2,
    soft=False,
    of="violations",
    outputs=("hess",),
)
def multiclass_hinge_loss(gap, low, variant, margin, p):
    r"""Hinge loss of several classes: by how much the true class's score fails to beat the others' by a margin.

    .. math:: \ell_\mathrm{CS} = s\,w_y\,\max_{c \ne y}\,h_c^p, \qquad
        \ell_\mathrm{WW} = \frac{s\,w_y}{n} \sum_{c \ne y} h_c^p, \qquad h_c = \max(0,\, m - x_y + x_c)

    with :math:`y` the label, :math:`m` the margin, :math:`n` the number of unmasked classes, :math:`s` the row's sample
    weight and :math:`w` the class weights. The first is Crammer and Singer's, the second Weston and Watkins's. With
    :math:`f = s w_y` for the largest :math:`h_c` (of several, the first class's) and 0 for the others, or
    :math:`f = s w_y / n` for every class,

    .. math:: \frac{\partial\ell}{\partial x_c} = f\,p\,h_c^{p-1}\,[h_c > 0], \qquad
        \frac{\partial^2\ell}{\partial x_c^2} = f\,p (p - 1)\,[h_c > 0] \qquad (c \ne y);

    at the true class they are minus the sum, and the sum, of the others'.

    Where :math:`m - x_y + x_c` is 0, at the kink, the derivatives are those of the side without a violation, 0; where
    several classes are the largest, Crammer and Singer's loss has those of the first of them.

    Parameters
    ----------
    logits : array_like of float, shape (..., C)
        Scores. float64, float32, float16 and bfloat16 are taken as they are, everything else as float64. -inf is a
        class that cannot be.
    targets : array_like of int
        Labels in [0, C), of logits' shape without the class axis.
    variant : {"crammer_singer", "weston_watkins"}, default "crammer_singer"
        Whether the worst of the other classes counts, or all of them divided by the number of classes.
    margin : float, default 1.0
        By how much the true class's score has to be above the others'.
    p : {1, 2}, default 1
        The power of a violation.

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
    cross_entropy

    Notes
    -----
    ``torch.nn.functional.multi_margin_loss`` is ``variant="weston_watkins"`` (its mean over rows is
    ``reduction="batchmean"`` where there are class weights). ``sklearn.metrics.hinge_loss`` of more than two classes is
    the mean of Crammer and Singer's with p = 1, ``sklearn.svm.LinearSVC(multi_class="crammer_singer")`` trains with
    that.

    References
    ----------
    .. [1] K. Crammer and Y. Singer, "On the algorithmic implementation of multiclass kernel-based vector machines",
       *J. Mach. Learn. Res.* 2 (2001) 265-292.
    .. [2] J. Weston and C. Watkins, "Support vector machines for multi-class pattern recognition", ESANN 1999, 219-224.

    Examples
    --------
    >>> import lossfast as lf
    >>> scores = [[2.0, 1.5, 1.75], [3.0, 0.0, 0.0]]
    >>> lf.multiclass_hinge_loss(scores, [0, 0], reduction="none")
    array([0.75, 0.  ])
    >>> lf.multiclass_hinge_loss.grad(scores, [0, 0], reduction="sum")
    array([[-1.,  0.,  1.],
           [ 0.,  0.,  0.]])
    >>> lf.multiclass_hinge_loss(scores, [0, 0], variant="weston_watkins", p=2, reduction="sum")
    0.2708333333333333
    """
    above = gap + margin
    back = above - gap
    rest = ((gap - (above - back)) + (margin - back)) + low
    h = above + where(rest == rest, rest, 0.0)  # beyond the range there is no rest
    hit = where(h > 0.0, 1.0, keep_nan(0.0, h))
    h, squared = where(h > 0.0, h, hit), p == 1.0  # the second of its choices
    return where(squared, h * h, h), where(squared, 2.0 * h, hit), where(squared, 2.0 * hit, 0.0 * hit)


def _miss(p, q, t):
    """``p - t``, from q where that has the digits."""
    return where(p < 0.5, p - t, (1.0 - t) - q)


def spread(p, q, t):
    """What the quadratic cost's derivatives need as deviations from the mean under p: ``p - t`` and ``2 p - t``."""
    miss = _miss(p, q, t)
    return miss, p + miss


def cross_entropy_along(p, total, v, pv, k, kk, d, u, uv):
    """One entry of cross-entropy's Hessian times v, handed over as its deviation from its mean ``pv`` under p."""
    return mul0(p, mul0(v, total + k) + kk * pv)


def quadratic_along(p, total, v, pv, k, kk, d, u, uv):
    """One entry of the quadratic cost's Hessian times v; ``uv`` is the covariance of ``u`` and ``v`` under p."""
    return total * mul0(p, v * d + p * v - uv)


def divergence_along(p, total, v, pv, k, kk, d, u, uv):
    """One entry of the divergence's Hessian times v; ``uv`` is the covariance of ``u`` and ``v`` under p."""
    return mul0(p, v * d + v - uv)


#: The Hessian times a vector, for the losses that offer it.
ALONG = {
    "cross_entropy": cross_entropy_along,
    "quadratic_softmax_loss": quadratic_along,
    "kl_div_from_logits": divergence_along,
}


@row_function(parameters={"temperature": _TEMPERATURE}, ulp=2, outputs=("proba", "vjp", "jvp"))
def softmax(p, a):
    r"""Probabilities in proportion to the exponentials of logits.

    .. math:: p_c = \frac{e^{x_c / T}}{\sum_j e^{x_j / T}}, \qquad
        J_{ij} = \frac{\partial p_i}{\partial x_j} = \frac1T\,p_i\,(\delta_{ij} - p_j), \qquad
        J^\top v = J v = \frac1T\,p \odot (v - p \cdot v)

    with :math:`T` the temperature. ``jacobian`` gives J itself; ``vjp`` and ``jvp``, its products with a direction,
    need no array of its size.

    Parameters
    ----------
    x : array_like of float, shape (..., C)
        Unnormalised log-probabilities. float64, float32, float16 and bfloat16 are taken as they are, everything else as
        float64. -inf gives exactly 0.

    temperature : float, default 1.0
        Divides the logits; above 0.

    Returns
    -------
    ndarray
        Of x's shape, between 0 and 1; a row masked out whole is 0.

    Raises
    ------
    ValueError
        If an option does not fit.
    TypeError
        If x is complex, object, masked or not an array.

    See Also
    --------
    log_softmax, logsumexp, cross_entropy

    Notes
    -----
    ``scipy.special.softmax`` (all axes by default), ``torch.softmax``, ``jax.nn.softmax``. They give NaN for an
    infinite logit; here a row with one takes the limit, which is one-hot.

    References
    ----------
    .. [1] J. S. Bridle, "Probabilistic interpretation of feedforward classification network outputs", *Neurocomputing*,
       Springer, 1990, 227-236.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.softmax([[0.0, 0.0], [-800.0, 0.0]])
    array([[0.5, 0.5],
           [0. , 1. ]])
    >>> lf.softmax.jacobian([0.0, 0.0])
    array([[ 0.25, -0.25],
           [-0.25,  0.25]])
    """
    return p


@row_function(parameters={"temperature": _TEMPERATURE}, ulp=2, outputs=("log_proba", "vjp", "jvp"))
def log_softmax(p, a):
    r"""Logarithm of `softmax`.

    .. math:: f_c = \frac{x_c}{T} - \log\sum_j e^{x_j / T}, \qquad
        J^\top v = \frac1T\Bigl(v - p \sum_j v_j\Bigr), \qquad J v = \frac1T\,(v - p \cdot v)

    with :math:`T` the temperature and :math:`p` the `softmax`.

    Parameters
    ----------
    x : array_like of float, shape (..., C)
        Unnormalised log-probabilities. float64, float32, float16 and bfloat16 are taken as they are, everything else as
        float64.

    temperature : float, default 1.0
        Divides the logits; above 0.

    Returns
    -------
    ndarray
        Of x's shape, at most 0; -inf for masked classes. The likeliest class keeps its digits near 0.

    Raises
    ------
    ValueError
        If an option does not fit.
    TypeError
        If x is complex, object, masked or not an array.

    See Also
    --------
    softmax, logsumexp, nll_loss

    Notes
    -----
    ``scipy.special.log_softmax`` (all axes by default), ``torch.log_softmax``, ``jax.nn.log_softmax``.

    References
    ----------
    .. [1] P. Blanchard, D. J. Higham and N. J. Higham, "Accurately computing the log-sum-exp and softmax functions",
       *IMA J. Numer. Anal.* 41 (2021) 2311-2330.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.log_softmax([40.0, 0.0])
    array([-4.24835426e-18, -4.00000000e+01])
    """
    return 0.0 - a


@row_function(ulp=2, outputs=("lse", "sign", "proba", "vjp", "row_jvp"))
def logsumexp(p, a):
    r"""Logarithm of the sum of exponentials.

    .. math:: f = \log\Bigl|\sum_c b_c e^{x_c}\Bigr|, \qquad \frac{\partial f}{\partial x_c} =
        \frac{b_c e^{x_c}}{\sum_j b_j e^{x_j}}

    Parameters
    ----------
    x : array_like of float, shape (..., C)
        Exponents. float64, float32, float16 and bfloat16 are taken as they are, everything else as float64.
    b : array_like, optional
        Factors of the exponentials, broadcastable to x's shape; negative ones are accepted, and where a factor is 0
        the exponent is not looked at. ``with_sign`` gives the sign of the sum beside its logarithm.

    Returns
    -------
    ndarray
        One value a row; -inf for a row without entries.

    Raises
    ------
    ValueError
        If an option does not fit.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    log_softmax, softmax

    Notes
    -----
    ``scipy.special.logsumexp`` (all axes by default; ``return_sign`` there is the method ``with_sign`` here),
    ``torch.logsumexp``, ``jax.nn.logsumexp``. A result near 0 is the difference of larger numbers, and as exact as
    those.

    References
    ----------
    .. [1] P. Blanchard, D. J. Higham and N. J. Higham, "Accurately computing the log-sum-exp and softmax functions",
       *IMA J. Numer. Anal.* 41 (2021) 2311-2330.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.logsumexp([[0.0, 0.0], [1000.0, 0.0]])
    array([6.93147181e-01, 1.00000000e+03])
    """
    return p
