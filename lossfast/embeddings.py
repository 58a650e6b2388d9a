"""The losses between embeddings, each once: its name, parameters, documentation, error budget and twin.

Those of each row have a twin in NumPy that is the loss itself, in float64; those of a whole batch one that says what is
compared with what. All backends share them.
"""

from __future__ import annotations

import numpy as np

from lossfast._embeddings import batch_loss, row_embedding_loss
from lossfast._loss import Choice, Parameter
from lossfast._similarities import Comparison, LabelComparison, scaled, unit
from lossfast._words import mul0

#: What becomes of embeddings without a positive.
POLICIES = ("skip", "zero", "raise")
#: What an embedding is compared with: all of both views, the other view, or the second.
FORMS = ("nt_xent", "clip", "cpc")


def _distance(v, p):
    """The p-norm of each row, and a function that gives its gradient: 0 where the norm is."""
    if p == 2.0:
        direction, length, size = unit(v)
        return length * size, lambda: direction
    r, size = scaled(v)
    a = np.abs(r)
    if p == np.inf:
        norm = a.max(axis=1)
        largest = (a == norm[:, None]) & (r != 0)
        return norm * size, lambda: np.sign(r) * largest / np.maximum(largest.sum(axis=1), 1)[:, None]
    norm = a.sum(axis=1) if p == 1.0 else (a**p).sum(axis=1) ** (1.0 / p)

    def gradient():
        share = np.divide(a, norm[:, None], out=np.zeros_like(a), where=norm[:, None] != 0)
        return np.sign(r) * share ** (p - 1.0)

    return norm * size, gradient


@row_embedding_loss(
    operands=("anchor", "positive", "negative"),
    differentiable=3,
    parameters={
        "margin": Parameter(1.0, "finite and >= 0"),
        "p": Parameter(2.0, ">= 1"),
        "eps": Parameter(1e-6, "finite and >= 0"),
        "swap": Choice(False, (False, True)),
    },
    ulp=4,
)
def triplet_margin_loss(anchor, positive, negative, margin, p, eps, swap):
    r"""How much farther an anchor should be from its negative than from its positive, and is not.

    .. math:: \ell = \max(0,\, d(a, p) - d(a, n) + m), \qquad d(x, y) = \|x - y + \varepsilon\|_p

    With ``swap``, :math:`d(a, n)` is :math:`\min(d(a, n), d(p, n))`. Where :math:`\ell > 0`, the gradient in the anchor
    is :math:`\nabla d(a, p) - \nabla d(a, n)`, in the positive :math:`-\nabla d(a, p)` and in the negative
    :math:`\nabla d(a, n)`, with :math:`\nabla d = \operatorname{sign}(v)\,(|v| / d)^{p-1}` and :math:`v = x - y +
    \varepsilon`; elsewhere all three are 0, also where :math:`\ell` only just becomes 0.

    Parameters
    ----------
    anchor : array_like of float
        Embeddings, of shape (..., D): rows along the last axis. float64, float32, float16 and bfloat16 are taken as
        they are, everything else as float64; the arithmetic is in float64.
    positive : array_like of float
        What each anchor should be close to, of its shape.
    negative : array_like of float
        What it should be far from, of its shape.
    margin : float, default 1.0
        By how much; at least 0, in the units of the embeddings.
    p : float, default 2.0
        The norm's exponent, at least 1; it may be infinite.
    eps : float, default 1e-6
        Added to every difference, as in torch; at least 0. With 0 distances are exact, and the gradient of a distance
        of 0 is 0. (With torch's default a distance of 0 does not occur between equal rows: it is eps in every
        coordinate.)
    swap : bool, default False
        Use the negative's distance from the positive where that is smaller than its distance from the anchor. Where
        both are equal, each has half of the gradient.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array with a loss for each row.

    Raises
    ------
    ValueError
        If the shapes differ or an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    contrastive_loss, cosine_embedding_loss, supcon_loss

    Notes
    -----
    ``torch.nn.functional.triplet_margin_loss``, value for value. The gradients differ only where the loss is exactly 0
    at the hinge: there torch has that of the other side. The largest coordinates share the gradient of ``p=inf``, as in
    torch. The error bound is in units of the largest of margin and distances.

    References
    ----------
    .. [1] V. Balntas, E. Riba, D. Ponsa and K. Mikolajczyk, "Learning local feature descriptors with triplets and
       shallow convolutional neural networks", BMVC, 2016.
    .. [2] F. Schroff, D. Kalenichenko and J. Philbin, "FaceNet: a unified embedding for face recognition and
       clustering", CVPR, 2015.

    Examples
    --------
    >>> import lossfast as lf
    >>> a, p, n = [[0.0, 0.0]], [[3.0, 4.0]], [[0.0, 5.5]]
    >>> loss, grad = lf.triplet_margin_loss.value_and_grad(a, p, n, eps=0)
    >>> loss
    0.5
    >>> grad.anchor, grad.positive, grad.negative
    (array([[-0.6,  0.2]]), array([[0.6, 0.8]]), array([[ 0., -1.]]))
    """
    near, toward = _distance(anchor - positive + eps, p)
    far, away = _distance(anchor - negative + eps, p)
    share = np.zeros(len(far))
    if swap:
        other, between = _distance(positive - negative + eps, p)
        share = np.where(other < far, 1.0, np.where(other == far, 0.5, 0.0))
        far = np.minimum(far, other)
    value = np.maximum(0.0, near - far + margin)

    def gradients():
        active = np.where(value == 0, 0.0, np.where(value == value, 1.0, value))[:, None]
        g, h = active * toward(), active * (1.0 - share)[:, None] * away()
        if not swap:
            return g - h, 0.0 - g, h
        k = active * share[:, None] * between()
        return g - h, 0.0 - g - k, h + k

    return value, gradients


@row_embedding_loss(
    operands=("x1", "x2", "target"),
    differentiable=2,
    parameters={"margin": Parameter(0.0, "in [-1, 1]")},
    domains={"target": "-1 or 1"},
    ulp=4,
)
def cosine_embedding_loss(x1, x2, target, margin):
    r"""One minus the cosine between rows that belong together, and what others' exceeds a margin by.

    .. math:: \ell = \begin{cases} 1 - c & y = 1 \\ \max(0,\, c - m) & y = -1 \end{cases}, \qquad
        c = \frac{x_1 \cdot x_2}{\|x_1\| \|x_2\|}

    With unit vectors u and v along the rows, the gradient of the cosine in :math:`x_1` is
    :math:`(v - c\,u) / \|x_1\|`; in :math:`x_2` likewise. One minus the cosine is computed as
    :math:`\tfrac{1}{2} \|u - v\|^2`, so that it keeps its digits where the rows are nearly parallel.

    Parameters
    ----------
    x1 : array_like of float
        Embeddings, of shape (..., D): rows along the last axis. float64, float32, float16 and bfloat16 are taken as
        they are, everything else as float64; the arithmetic is in float64.
    x2 : array_like of float
        What each row is compared with, of x1's shape.
    target : array_like
        1 for rows that belong together, -1 for others: of x1's shape without the last axis, or a scalar.
    margin : float, default 0.0
        The cosine up to which others cost nothing, in [-1, 1].

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array with a loss for each row.

    Raises
    ------
    ValueError
        If the shapes differ, an option is out of its domain or a target is not -1 or 1 (with ``check=False`` the loss
        of such a row is 0).
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    contrastive_loss, triplet_margin_loss, info_nce_loss

    Notes
    -----
    ``torch.nn.functional.cosine_embedding_loss``, which adds 1e-12 to the squared lengths; the values differ by about
    that, and where a row is near 0. The cosine with a row of zeros is 0 here as there, and so is its gradient here
    (there it is 1e6 times a unit vector). Where the loss is 0, so is the gradient. The error bound is relative to 1 for
    values, and to a unit vector over the row's length for gradients; float32 rows that are nearly parallel have values
    that are right to the last digits.

    References
    ----------
    .. [1] R. Hadsell, S. Chopra and Y. LeCun, "Dimensionality reduction by learning an invariant mapping", CVPR, 2006,
       for the two cases; the cosine in place of the distance is torch's.

    Examples
    --------
    >>> import lossfast as lf
    >>> x1, x2 = [[1.0, 0.0], [1.0, 0.0]], [[0.0, 2.0], [3.0, 4.0]]
    >>> lf.cosine_embedding_loss(x1, x2, [1, -1], reduction="none")
    array([1. , 0.6])
    >>> lf.cosine_embedding_loss.grad(x1, x2, [1, -1], reduction="sum").x1.round(6)
    array([[ 0. , -1. ],
           [ 0. ,  0.8]])
    """
    u, length_u, size_u = unit(x1)
    v, length_v, size_v = unit(x2)
    flat = (length_u == 0) | (length_v == 0)
    acute = (u * v).sum(axis=1) >= 0
    d = np.where(acute[:, None], v - u, v + u)
    half = np.where(flat, 0.0, 0.5 * (d * d).sum(axis=1))  # 1 - |c|
    cosine = np.where(flat, 0.0, np.where(acute, 1.0 - half, half - 1.0)) + 0.0 * (length_u + length_v)
    alike = np.where(flat, 1.0, np.where(acute, half, 2.0 - half)) + 0.0 * cosine
    excess = np.maximum(0.0, cosine - margin)
    value = np.where(target == 1, alike, np.where(target == -1, excess, 0.0 * target))

    def gradients():
        sign = np.where(target == 1, -1.0, np.where((target == -1) & (excess != 0), 1.0, 0.0 * target))
        sign = np.where(flat, 0.0 * cosine, sign)[:, None]
        # v less its part along u, and u less its part along v, by way of the difference (or sum) of both
        turn = np.where(acute, half, -half)[:, None]
        across = d + turn * u, np.where(acute[:, None], -d, d) + turn * v
        return tuple(
            sign * np.divide(a, length[:, None], out=np.zeros_like(a), where=~flat[:, None]) / size[:, None] + 0.0
            for a, length, size in zip(across, (length_u, length_v), (size_u, size_v), strict=True)
        )

    return value, gradients


@row_embedding_loss(
    operands=("x1", "x2", "target"),
    differentiable=2,
    parameters={"margin": Parameter(1.0, "finite and >= 0")},
    domains={"target": "0 or 1"},
    ulp=4,
)
def contrastive_loss(x1, x2, target, margin):
    r"""Half the squared distance of similar rows; of dissimilar ones, half the square of what it lacks to a margin.

    .. math:: \ell = (1 - y)\, \tfrac{1}{2} d^2 + y\, \tfrac{1}{2} \max(0,\, m - d)^2, \qquad d = \|x_1 - x_2\|_2

    The gradient in :math:`x_1` is :math:`x_1 - x_2` for similar rows, :math:`y = 0`, and
    :math:`-(m - d)\,(x_1 - x_2) / d` for dissimilar ones, :math:`y = 1`, closer than the margin; that in :math:`x_2` is
    the negative. Dissimilar rows that coincide have no direction to go: their gradient is 0.

    Parameters
    ----------
    x1 : array_like of float
        Embeddings, of shape (..., D): rows along the last axis. float64, float32, float16 and bfloat16 are taken as
        they are, everything else as float64; the arithmetic is in float64.
    x2 : array_like of float
        What each row is compared with, of x1's shape.
    target : array_like
        0 for similar rows and 1 for dissimilar ones: of x1's shape without the last axis, or a scalar.
    margin : float, default 1.0
        The distance from which dissimilar rows cost nothing; at least 0, in the units of the embeddings.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array with a loss for each row.

    Raises
    ------
    ValueError
        If the shapes differ, an option is out of its domain or a target is not 0 or 1 (with ``check=False`` one between
        them mixes both cases).
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    triplet_margin_loss, cosine_embedding_loss, supcon_loss

    Notes
    -----
    As in the paper, with its halves, and with 1 for dissimilar rows. Elsewhere 1 often means similar, and there are no
    halves: TensorFlow Addons' ``contrastive_loss`` is twice this one with ``1 - target``.

    References
    ----------
    .. [1] R. Hadsell, S. Chopra and Y. LeCun, "Dimensionality reduction by learning an invariant mapping", CVPR, 2006.

    Examples
    --------
    >>> import lossfast as lf
    >>> x1, x2 = [[3.0, 4.0], [0.3, 0.4]], [[0.0, 0.0], [0.0, 0.0]]
    >>> lf.contrastive_loss(x1, x2, [0, 1], reduction="none")
    array([12.5  ,  0.125])
    >>> lf.contrastive_loss.grad(x1, x2, [0, 1], reduction="sum").x1
    array([[ 3. ,  4. ],
           [-0.3, -0.4]])
    """
    difference = x1 - x2
    direction, length, size = unit(difference)
    d = length * size
    gap = np.maximum(0.0, margin - d)
    value = mul0(1.0 - target, 0.5 * d * d) + mul0(target, 0.5 * gap * gap)

    def gradients():
        y = target[:, None]
        g = mul0(1.0 - y, difference) - mul0(y, gap[:, None] * direction)
        return g, 0.0 - g

    return value, gradients


@batch_loss(
    operands=("features", "labels"),
    differentiable=1,
    parameters={
        "temperature": Parameter(0.1, "finite and > 0"),
        "normalize": Choice(True, (False, True)),
        "no_positive": Choice("skip", POLICIES),
    },
    ulp=8,
)
def supcon_loss(features, labels, temperature, normalize, no_positive):
    r"""Supervised contrastive loss: cross-entropy of each embedding's likeness to those that have its label.

    .. math:: \ell_i = \frac{-1}{|P(i)|} \sum_{p \in P(i)} \log \frac{e^{s_{ip}}}{\sum_{a \ne i} e^{s_{ia}}}, \qquad
        s_{ij} = \frac{z_i \cdot z_j}{\tau}, \qquad P(i) = \{p \ne i : y_p = y_i\}

    This is :math:`L_{out}` of the paper. With the probabilities :math:`q_{ia} = e^{s_{ia}} / \sum_{b \ne i} e^{s_{ib}}`
    the derivative of a loss in :math:`s_{ia}` is :math:`q_{ia} - [a \in P(i)] / |P(i)|`; an embedding's gradient
    collects it from its own loss and from those of all others. With ``normalize`` it goes through the division by the
    length, and is orthogonal to the embedding.

    Parameters
    ----------
    features : array_like of float
        Embeddings of shape (N, D), one a row. Several views of a sample are rows with the same label: of shape
        (N, V, D), give ``features.reshape(-1, D)`` and ``numpy.repeat(labels, V)``. float64 and float32 are computed in
        their own precision, float16 and bfloat16 in float32, everything else in float64.
    labels : array_like of int
        The class of each embedding, of shape (N,): any integers.
    temperature : float, default 0.1
        What the similarities are divided by; above 0.
    normalize : bool, default True
        Divide embeddings by their length first, so that similarities are cosines. An embedding of zeros is similar to
        nothing, and has no gradient. With False they are taken as they are.
    no_positive : {"skip", "zero", "raise"}, default "skip"
        What becomes of an embedding whose label no other has: it has no loss and does not count in the mean; or a loss
        of 0 that counts; or it is a ValueError. The others are compared with it in any case.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array with the N losses (0 without a positive). The
        gradient with ``reduction="none"`` is that of their sum.

    Raises
    ------
    ValueError
        If the shapes do not fit, an option is out of its domain, or an embedding has no positive and
        ``no_positive="raise"``.
    TypeError
        If the labels are not integers, or an argument is complex, object, masked or not an array.

    See Also
    --------
    info_nce_loss, triplet_margin_loss, cross_entropy

    Notes
    -----
    Similarities are computed in tiles of 512 by 512, by NumPy's ``matmul``: memory is O(N D), never O(N²), and the time
    O(N² D). The result does not depend on ``n_threads``; but it is made of products of matrices, whose bits are those
    of the BLAS that NumPy uses: they can differ between machines, and with that library's own threads. All backends
    give the same. With one positive the loss keeps its digits however small it is. Similarities have to be within the
    dtype's range, and embeddings finite: a NaN in one of them reaches all losses.

    The reference implementation of the paper multiplies this by the temperature over a base temperature, 0.07. In
    PyTorch Metric Learning it is ``SupConLoss``, which normalises, and leaves out what has no positive.

    The error bound is relative to 1 plus the largest similarity for a loss, and for an embedding's part of the gradient
    of their sum to 2 / temperature over its length; it holds for similarities up to 15, and grows in proportion beyond.

    References
    ----------
    .. [1] P. Khosla et al., "Supervised contrastive learning", NeurIPS, 2020, equation 2.

    Examples
    --------
    >>> import lossfast as lf
    >>> features = [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.0, 2.0]]
    >>> loss, grad = lf.supcon_loss.value_and_grad(features, [0, 0, 1, 1], temperature=1.0)
    >>> round(loss, 6), grad.shape
    (0.885449, (4, 2))
    """
    comparison = LabelComparison(features, labels, temperature, normalize)
    alone = comparison.size == 1
    policy = POLICIES[int(no_positive)]
    if policy == "raise" and alone.any():
        first = int(alone.argmax())
        raise ValueError(
            f"label {int(labels[first])} at {first} has no positive: no other embedding has it "
            f"({int(np.count_nonzero(alone))} such labels; no_positive='skip' and no_positive='zero' allow it)"
        )
    if policy == "skip" and alone.any():
        comparison.counts = ~alone
    return comparison


@batch_loss(
    operands=("z1", "z2"),
    differentiable=2,
    parameters={
        "temperature": Parameter(0.1, "finite and > 0"),
        "form": Choice("nt_xent", FORMS),
        "normalize": Choice(True, (False, True)),
    },
    ulp=8,
)
def info_nce_loss(z1, z2, temperature, form, normalize):
    r"""Contrastive loss of two views: cross-entropy of finding an embedding's partner among the others.

    .. math:: \ell(u, v; A) = -\log \frac{e^{u \cdot v / \tau}}{\sum_{a \in A} e^{u \cdot a / \tau}}

    for an embedding u and its partner v in the other view, among the embeddings A. The loss of a pair is, by ``form``,

    - ``"nt_xent"``: the mean of :math:`\ell(z_1, z_2; A)` and :math:`\ell(z_2, z_1; A)`, where A is everything in both
      views but u itself (SimCLR);
    - ``"clip"``: the same mean, where A is the other view (CLIP);
    - ``"cpc"``: :math:`\ell(z_1, z_2; A)` alone, where A is the second view (contrastive predictive coding).

    With probabilities q over A, the derivative in :math:`u \cdot a / \tau` is :math:`q_a - [a = v]`; an embedding's
    gradient collects it from all losses that it occurs in. With ``normalize`` it goes through the division by the
    length.

    Parameters
    ----------
    z1 : array_like of float
        Embeddings of the first view, of shape (N, D), one a row. float64 and float32 are computed in their own
        precision, float16 and bfloat16 in float32, everything else in float64.
    z2 : array_like of float
        Those of the second view, of z1's shape, in the same order.
    temperature : float, default 0.1
        What the similarities are divided by; above 0.
    form : {"nt_xent", "clip", "cpc"}, default "nt_xent"
        What each embedding is compared with, as above.
    normalize : bool, default True
        Divide embeddings by their length first, so that similarities are cosines. An embedding of zeros is similar to
        nothing, and has no gradient. With False they are taken as they are.

    Returns
    -------
    float or ndarray
        The reduced loss as a float; with ``reduction="none"`` an array with the losses of the N pairs. The gradient
        with ``reduction="none"`` is that of their sum.

    Raises
    ------
    ValueError
        If the shapes differ or an option is out of its domain.
    TypeError
        If an argument is complex, object, masked or not an array.

    See Also
    --------
    supcon_loss, cosine_embedding_loss, cross_entropy

    Notes
    -----
    Similarities are computed in tiles of 512 by 512, by NumPy's ``matmul``: memory is O(N D), never O(N²), and the time
    O(N² D). The result does not depend on ``n_threads``; but it is made of products of matrices, whose bits are those
    of the BLAS that NumPy uses: they can differ between machines, and with that library's own threads. All backends
    give the same. A loss keeps its digits however small it is: it comes from the sum over the others, not from a
    difference. Similarities have to be within the dtype's range, and embeddings finite: a NaN in one reaches the losses
    of all that are compared with it.

    ``"nt_xent"`` is `supcon_loss` of both views together, with the pair's number as label. In PyTorch Metric Learning
    it is ``NTXentLoss``. ``"clip"`` is the mean of ``cross_entropy`` over the rows and over the columns of ``z1 @ z2.T
    / temperature`` with labels 0 to N - 1, ``"cpc"`` that over the rows.

    The error bound is relative to 1 plus the largest similarity for a loss, and for an embedding's part of the gradient
    of their sum to 2 / temperature over its length; it holds for similarities up to 15, and grows in proportion beyond.

    References
    ----------
    .. [1] A. van den Oord, Y. Li and O. Vinyals, "Representation learning with contrastive predictive coding",
       arXiv:1807.03748, 2018.
    .. [2] T. Chen, S. Kornblith, M. Norouzi and G. Hinton, "A simple framework for contrastive learning of visual
       representations", ICML, 2020.
    .. [3] A. Radford et al., "Learning transferable visual models from natural language supervision", ICML, 2021.

    Examples
    --------
    >>> import lossfast as lf
    >>> z1, z2 = [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]
    >>> lf.info_nce_loss(z1, z2, form="clip", temperature=0.05) == lf.cross_entropy([20.0, 0.0], 0)
    True
    >>> loss, grad = lf.info_nce_loss.value_and_grad(z1, z2)
    >>> grad.z1.shape, grad.z2.shape
    ((2, 2), (2, 2))
    """
    name = FORMS[int(form)]
    return Comparison([z1, z2], temperature, normalize, cross=name != "nt_xent", columns=name != "cpc")
