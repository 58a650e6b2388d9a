"""What other libraries call the losses: for each a call of theirs, and the call here that gives the same.

`CALLS` is what the page of equivalents is made of. Both calls are expressions, which `compare` evaluates
on the inputs of `names` and compares, value and gradient: what is shown is what was run. Of libraries that are not
installed (Keras, TensorFlow, XGBoost and LightGBM need not be) the formula that they document is evaluated in place of
their call. Rows of losses that the registry does not have are left out.

`benchmarks.equivalents` has the same libraries' functions as callables, for measurements; `benchmarks.samples` runs
what torch tests its own losses with.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

import lossfast as lf

#: The packages that a library's calls are made with, by the names that they have there; none where a formula stands in.
LIBRARIES = {
    "torch": {"torch": "torch", "F": "torch.nn.functional"},
    "optax": {"jax": "jax", "jnp": "jax.numpy", "optax": "optax"},
    "JAX": {"jax": "jax", "jnp": "jax.numpy"},
    "SciPy": {"scipy": "scipy", "special": "scipy.special", "spatial": "scipy.spatial", "stats": "scipy.stats"},
    "scikit-learn": {"metrics": "sklearn.metrics", "sklearn": "sklearn.utils.extmath"},
    "Keras": {},
    "TensorFlow": {},
    "XGBoost": {},
    "LightGBM": {},
}


@dataclass(frozen=True)
class Call:
    """One row: a library's call and ours."""

    loss: str
    library: str
    theirs: str
    ours: str
    note: str = ""  #: where values differ on purpose, beyond these inputs
    formula: str = ""  #: what is evaluated in place of their call, in NumPy
    grad: bool = True  #: whether theirs is to be differentiated with respect to our first argument


class NotInstalledError(Exception):
    """A library that is needed is not there."""


#: What is said of libraries rather than of calls.
DIGITS = "rounds to 0 for right answers (float32: a gap of 17 between logits, float64: of 37)"
CLIPS = "clips probabilities to within 1e-7 of 0 and 1"
SUMS = "adds terms of both signs: near 0 no digit is left"
HALF = "leaves out terms without pred"


def _calls() -> list[Call]:
    found: list[Call] = []

    def of(loss: str, *rows: tuple[Any, ...]) -> None:
        for library, theirs, ours, *rest in rows:
            options = rest.pop() if rest and isinstance(rest[-1], dict) else {}
            note = rest[0] if rest else ""
            shown = f"lf.{loss}({ours})" if not ours.startswith(("=", "lf.")) else ours.lstrip("=")
            found.append(Call(loss, library, theirs, shown, note, **options))

    def by(formula: str, **options: Any) -> dict[str, Any]:
        return {"formula": formula, **options}

    lse = "np.log(np.sum(np.exp(logits), -1))"
    log_p = f"(logits - {lse}[:, None])"
    soft_p = "(np.exp(logits) / np.sum(np.exp(logits), -1, keepdims=True))"
    nll = f"({lse} - logits[np.arange(4), labels])"
    bce = "(np.maximum(x, 0) - x * y + np.log1p(np.exp(-np.abs(x))))"
    no_grad = {"grad": False}

    of(
        "cross_entropy",
        ("torch", "F.cross_entropy(logits, labels)", "logits, labels", DIGITS),
        (
            "torch",
            "F.cross_entropy(logits, labels, weight=w, label_smoothing=0.1)",
            "logits, labels, class_weight=w, label_smoothing=0.1",
        ),
        (
            "torch",
            "F.cross_entropy(logits, soft)",
            'logits, soft, reduction="batchmean"',
            "its mean over soft labels divides by the number of rows; `mean` here by the weights, so that one-hot and "
            "integer labels agree",
        ),
        ("torch", "F.cross_entropy(maps, pixels)", "maps, pixels, axis=1", "the class axis is always the second"),
        ("torch", "F.cross_entropy(logits / 2, labels)", "logits, labels, temperature=2"),
        (
            "optax",
            "optax.softmax_cross_entropy_with_integer_labels(logits, labels)",
            'logits, labels, reduction="none"',
            f"wraps label -1 to the last class; {DIGITS}",
        ),
        ("optax", "optax.softmax_cross_entropy(logits, soft)", 'logits, soft, reduction="none"'),
        (
            "optax",
            "optax.softmax_cross_entropy(logits, optax.smooth_labels(one_hot, 0.1))",
            'logits, labels, label_smoothing=0.1, reduction="none"',
        ),
        (
            "Keras",
            "keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)",
            "logits, labels",
            by(f"np.mean({nll})"),
        ),
        (
            "Keras",
            "keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)(one_hot, logits)",
            "logits, labels, label_smoothing=0.1",
            by(f"np.mean(-np.sum((0.9 * one_hot + 0.1 / 3) * {log_p}, -1))"),
        ),
        (
            "TensorFlow",
            "tf.nn.softmax_cross_entropy_with_logits(soft, logits)",
            'logits, soft, reduction="none"',
            "its gradient, p - t, takes it that the labels sum to 1; here it is (sum t) p - t",
            by(f"-np.sum(soft * {log_p}, -1)"),
        ),
        (
            "TensorFlow",
            "tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)",
            'logits, labels, reduction="none"',
            by(nll),
        ),
        (
            "XGBoost",
            'objective="multi:softprob": gradient',
            '=lf.cross_entropy.grad(logits, labels, reduction="sum")',
            "weights multiply both",
            by(f"{soft_p} - one_hot", **no_grad),
        ),
        (
            "XGBoost",
            'objective="multi:softprob": Hessian',
            '=2 * lf.cross_entropy.grad_and_hess(logits, labels, reduction="sum")[1]',
            "twice the Hessian's diagonal, and at least 1e-16",
            by(f"2 * {soft_p} * (1 - {soft_p})", **no_grad),
        ),
        (
            "LightGBM",
            'objective="multiclass": Hessian of C classes',
            '=1.5 * lf.cross_entropy.grad_and_hess(logits, labels, reduction="sum")[1]',
            "C / (C - 1) times the Hessian's diagonal",
            by(f"3 / 2 * {soft_p} * (1 - {soft_p})", **no_grad),
        ),
    )
    of(
        "nll_loss",
        ("torch", "F.nll_loss(log_p, labels, weight=w)", "log_p, labels, class_weight=w"),
        (
            "scikit-learn",
            "metrics.log_loss(labels, p)",
            "np.log(p), labels",
            "clips probabilities to the smallest that their dtype has",
            no_grad,
        ),
    )
    of(
        "quadratic_softmax_loss",
        (
            "scikit-learn",
            "metrics.brier_score_loss(labels, sklearn.softmax(logits), labels=[0, 1, 2], scale_by_half=True)",
            "logits, labels",
            no_grad,
        ),
        (
            "Keras",
            "keras.losses.MeanSquaredError()(one_hot, keras.ops.softmax(logits))",
            "=2 / 3 * lf.quadratic_softmax_loss(logits, labels)",
            "the mean is over the classes too, and there is no ½",
            by(f"np.mean(({soft_p} - one_hot) ** 2)"),
        ),
    )
    of(
        "kl_div_from_logits",
        (
            "torch",
            'F.kl_div(F.log_softmax(others, -1), F.log_softmax(logits, -1), log_target=True, reduction="batchmean")',
            "logits, others",
            SUMS,
        ),
        (
            "optax",
            "optax.losses.kl_divergence_with_log_targets(jax.nn.log_softmax(others), jax.nn.log_softmax(logits))",
            'logits, others, reduction="none"',
            SUMS,
        ),
        (
            "SciPy",
            "special.rel_entr(special.softmax(logits, -1), special.softmax(others, -1)).sum(-1)",
            'logits, others, reduction="none"',
            SUMS,
            no_grad,
        ),
        (
            "Keras",
            "keras.losses.KLDivergence()(keras.ops.softmax(logits), keras.ops.softmax(others))",
            "logits, others",
            f"{CLIPS}; {SUMS}",
            by(
                f"np.mean(np.sum({soft_p} * ({log_p} - (others - np.log(np.sum(np.exp(others), -1))[:, None])), -1))",
            ),
        ),
    )
    of(
        "softmax",
        ("torch", "torch.softmax(logits, -1)", "logits", "NaN for an infinite logit, whose limit is one-hot"),
        ("torch", "torch.softmax(logits / 2, -1)", "logits, temperature=2"),
        ("JAX", "jax.nn.softmax(logits)", "logits"),
        ("JAX", "jax.nn.softmax(logits, where=mask)", "logits, where=mask", no_grad),
        ("SciPy", "special.softmax(logits, axis=-1)", "logits", "all axes by default", no_grad),
        ("scikit-learn", "sklearn.softmax(logits)", "logits", "private: `sklearn.utils.extmath`", no_grad),
        ("Keras", "keras.ops.softmax(logits)", "logits", by(soft_p)),
        ("TensorFlow", "tf.nn.softmax(logits)", "logits", by(soft_p)),
    )
    of(
        "log_softmax",
        ("torch", "torch.log_softmax(logits, -1)", "logits", DIGITS),
        ("JAX", "jax.nn.log_softmax(logits)", "logits", DIGITS),
        ("SciPy", "special.log_softmax(logits, axis=-1)", "logits", "all axes by default", no_grad),
        ("Keras", "keras.ops.log_softmax(logits)", "logits", by(log_p)),
        ("TensorFlow", "tf.nn.log_softmax(logits)", "logits", by(log_p)),
    )
    of(
        "logsumexp",
        ("torch", "torch.logsumexp(logits, -1, keepdim=True)", "logits, keepdims=True"),
        ("JAX", "jax.nn.logsumexp(logits, -1, b=soft)", "logits, b=soft"),
        ("JAX", "jax.nn.logsumexp(logits, -1, where=mask)", "logits, where=mask"),
        ("SciPy", "special.logsumexp(logits, axis=-1)", "logits", "all axes by default", no_grad),
        (
            "SciPy",
            "special.logsumexp(logits, axis=-1, b=others, return_sign=True)[0]",
            "=lf.logsumexp.with_sign(logits, b=others)[0]",
            no_grad,
        ),
        ("Keras", "keras.ops.logsumexp(logits, -1)", "logits", by(lse)),
        ("TensorFlow", "tf.math.reduce_logsumexp(logits, -1)", "logits", "all axes by default", by(lse)),
    )
    of(
        "categorical_cross_entropy",
        (
            "Keras",
            "keras.losses.CategoricalCrossentropy()(soft, p)",
            "p, soft",
            f"{CLIPS}, after dividing them by their sum (so that its gradient is another); here only with `eps=`",
            by("np.mean(-np.sum(soft * np.log(p), -1))", **no_grad),
        ),
        ("scikit-learn", "metrics.log_loss(labels, p)", "p, one_hot", no_grad),
    )
    of(
        "kl_div",
        (
            "torch",
            'F.kl_div(log_q, p, reduction="batchmean")',
            "log_q, p",
            "its `mean` divides by all elements; `none` gives one value for each class",
        ),
        ("torch", 'F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)', "log_q, log_p, log_target=True"),
        ("optax", "optax.losses.kl_divergence(log_q, p)", 'log_q, p, reduction="none"', SUMS),
        (
            "Keras",
            "keras.losses.KLDivergence()(p, q)",
            "np.log(q), p",
            CLIPS,
            by("np.mean(np.sum(p * np.log(p / q), -1))", **no_grad),
        ),
    )
    of(
        "js_div",
        (
            "SciPy",
            "spatial.distance.jensenshannon(p, q, axis=-1) ** 2",
            'p, q, reduction="none"',
            "divides both by their sums; gives the square root",
            no_grad,
        ),
    )
    of(
        "entropy",
        ("SciPy", "stats.entropy(p, axis=-1)", "p", "divides by the sum first; axis 0 by default", no_grad),
        ("SciPy", "stats.entropy(p, axis=-1, base=2)", "p, base=2", no_grad),
        ("SciPy", "special.entr(p).sum(-1)", "p", no_grad),
    )
    of(
        "relative_entropy",
        ("SciPy", "special.rel_entr(p, q).sum(-1)", 'p, q, reduction="none"', SUMS, no_grad),
        ("SciPy", "stats.entropy(p, q, axis=-1, base=2)", 'p, q, base=2, reduction="none"', no_grad),
    )
    of(
        "cross_entropy_between",
        ("SciPy", "(special.entr(p) + special.rel_entr(p, q)).sum(-1)", 'p, q, reduction="none"', no_grad),
    )
    of(
        "focal_loss",
        (
            "Keras",
            "keras.losses.CategoricalFocalCrossentropy(alpha=1, gamma=2, from_logits=True)(one_hot, logits)",
            "logits, labels, gamma=2",
            f"alpha is a number or one for each class, 0.25 by default; {CLIPS}",
            by(f"np.mean((1 - np.exp(-{nll})) ** 2 * {nll})"),
        ),
    )
    of(
        "poly_loss",
        (
            "optax",
            "optax.losses.poly_loss_cross_entropy(logits, one_hot, epsilon=2.0)",
            'logits, labels, epsilon=2, reduction="none"',
            "epsilon is 2 by default",
        ),
    )
    of(
        "multiclass_hinge_loss",
        (
            "torch",
            "F.multi_margin_loss(logits, labels)",
            'logits, labels, variant="weston_watkins"',
            "the sum is divided by the number of classes",
        ),
        (
            "torch",
            "F.multi_margin_loss(logits, labels, p=2, margin=0.5)",
            'logits, labels, variant="weston_watkins", p=2, margin=0.5',
        ),
        ("optax", "optax.losses.multiclass_hinge_loss(logits, labels)", 'logits, labels, reduction="none"'),
        ("scikit-learn", "metrics.hinge_loss(labels, logits)", "logits, labels", no_grad),
    )
    of(
        "multilabel_margin_loss",
        (
            "torch",
            "F.multilabel_margin_loss(logits, listed)",
            "logits, many",
            "labels are a list that ends at -1; here 0 or 1 for each class",
        ),
    )
    of(
        "multilabel_soft_margin_loss",
        ("torch", "F.multilabel_soft_margin_loss(logits, many)", "logits, many", "the mean over classes of each row"),
    )
    of(
        "triplet_margin_loss",
        ("torch", "F.triplet_margin_loss(a, b, c)", "a, b, c", "eps is added to differences, as here"),
        ("torch", "F.triplet_margin_loss(a, b, c, margin=2.0, p=1, swap=True)", "a, b, c, margin=2.0, p=1, swap=True"),
    )
    of(
        "cosine_embedding_loss",
        (
            "torch",
            "F.cosine_embedding_loss(a, b, pair, margin=0.2)",
            "a, b, pair, margin=0.2",
            "adds about 1e-12 to squared norms; here the angle is exact",
        ),
    )
    of(
        "info_nce_loss",
        (
            "Keras",
            "the loss of the SimCLR example: `sparse_categorical_crossentropy(range(n), a @ b.T / T)` of unit rows",
            'a, b, temperature=0.5, form="clip"',
            "the mean of both directions",
            by(
                "0.5 * (np.mean(np.log(np.sum(np.exp(U @ V.T / 0.5), 1)) - np.diag(U @ V.T / 0.5))"
                " + np.mean(np.log(np.sum(np.exp(V @ U.T / 0.5), 1)) - np.diag(U @ V.T / 0.5)))",
                **no_grad,
            ),
        ),
    )
    of(
        "sigmoid",
        ("torch", "torch.sigmoid(x)", "x"),
        ("JAX", "jax.nn.sigmoid(x)", "x"),
        ("SciPy", "special.expit(x)", "x", no_grad),
        ("Keras", "keras.ops.sigmoid(x)", "x", by("1 / (1 + np.exp(-x))")),
    )
    of(
        "log_sigmoid",
        ("torch", "F.logsigmoid(x)", "x"),
        ("JAX", "jax.nn.log_sigmoid(x)", "x"),
        ("SciPy", "special.log_expit(x)", "x", no_grad),
        ("Keras", "keras.ops.log_sigmoid(x)", "x", by("-np.log1p(np.exp(-x))")),
    )
    of(
        "binary_cross_entropy_with_logits",
        (
            "torch",
            "F.binary_cross_entropy_with_logits(x, y, pos_weight=torch.tensor(2.0))",
            "x, y, pos_weight=2.0",
            "NaN for an infinite logit; the gradient of a right answer rounds to 0",
        ),
        (
            "torch",
            "F.binary_cross_entropy_with_logits(x, y, weight=sw)",
            '=lf.binary_cross_entropy_with_logits(x, y, sample_weight=sw, reduction="sum") / 5',
            "a weighted mean there divides by the number of elements, here by the weights",
        ),
        ("optax", "optax.sigmoid_binary_cross_entropy(x, y)", 'x, y, reduction="none"'),
        ("Keras", "keras.losses.BinaryCrossentropy(from_logits=True)(y, x)", "x, y", by(f"np.mean({bce})")),
        (
            "TensorFlow",
            "tf.nn.weighted_cross_entropy_with_logits(y, x, 2.0)",
            'x, y, pos_weight=2.0, reduction="none"',
            by("(1 - y) * x + (1 + y) * np.log1p(np.exp(-x))"),
        ),
        ("scikit-learn", "metrics.log_loss(y, 1 / (1 + np.exp(-x)))", "x, y", no_grad),
        (
            "XGBoost",
            'objective="binary:logistic": gradient',
            '=lf.binary_cross_entropy_with_logits.grad(x, y, pos_weight=2.0, reduction="sum")',
            "`scale_pos_weight` is `pos_weight`",
            by("(1 + y) / (1 + np.exp(-x)) - 2 * y", **no_grad),
        ),
        (
            "LightGBM",
            'objective="binary": Hessian',
            '=lf.binary_cross_entropy_with_logits.grad_and_hess(x, y, reduction="sum")[1]',
            by("np.exp(-x) / (1 + np.exp(-x)) ** 2", **no_grad),
        ),
    )
    of(
        "binary_cross_entropy",
        ("torch", "F.binary_cross_entropy(r, y)", "r, y", "logarithms are at least -100"),
        (
            "Keras",
            "keras.losses.BinaryCrossentropy()(y, r)",
            "r, y",
            f"{CLIPS}, here only with `eps=`",
            by("np.mean(-y * np.log(r) - (1 - y) * np.log(1 - r))"),
        ),
        ("scikit-learn", "metrics.log_loss(y, r)", "r, y", no_grad),
    )
    of(
        "sigmoid_focal_loss",
        (
            "optax",
            "optax.sigmoid_focal_loss(x, y, alpha=0.25, gamma=2.0)",
            'x, y, alpha=0.25, gamma=2, reduction="none"',
        ),
        (
            "Keras",
            "keras.losses.BinaryFocalCrossentropy(gamma=2, from_logits=True)(y, x)",
            "x, y, gamma=2",
            CLIPS,
            by(f"np.mean((1 - np.exp(-{bce})) ** 2 * {bce})"),
        ),
    )
    of(
        "logistic_loss",
        ("torch", "F.soft_margin_loss(x, s)", "x, s", "overflows from a margin of -89 (float32)"),
        ("optax", "optax.sigmoid_binary_cross_entropy(x, (s + 1) / 2)", 'x, s, reduction="none"'),
    )
    of(
        "hinge_loss",
        ("optax", "optax.hinge_loss(x, s)", 'x, s, reduction="none"'),
        ("scikit-learn", "metrics.hinge_loss(s, x)", "x, s", "takes any two labels", no_grad),
        (
            "Keras",
            "keras.losses.Hinge()(s, x)",
            "x, s",
            "targets 0 and 1 are taken for -1 and 1; here that is an error",
            by("np.mean(np.maximum(1 - s * x, 0))"),
        ),
    )
    of(
        "squared_hinge_loss",
        ("Keras", "keras.losses.SquaredHinge()(s, x)", "x, s", by("np.mean(np.maximum(1 - s * x, 0) ** 2)")),
    )
    of(
        "modified_huber_loss",
        (
            "scikit-learn",
            'SGDClassifier(loss="modified_huber")',
            'x, s, reduction="none"',
            by("np.where(s * x < -1, -4 * s * x, np.maximum(1 - s * x, 0) ** 2)"),
        ),
    )
    of(
        "exponential_loss",
        (
            "scikit-learn",
            'GradientBoostingClassifier(loss="exponential")',
            'x, s, reduction="none"',
            "of half the decision function: exp(-s x / 2) there has s in 0 and 1",
            by("np.exp(-s * x)"),
        ),
    )
    of("hinge_embedding_loss", ("torch", "F.hinge_embedding_loss(x, s, margin=0.5)", "x, s, margin=0.5"))
    of("margin_ranking_loss", ("torch", "F.margin_ranking_loss(x, z, s, margin=0.5)", "x, z, s, margin=0.5"))
    of("zero_one_loss", ("scikit-learn", "metrics.zero_one_loss(s, np.where(x > 0, 1, -1))", "x, s", no_grad))
    of(
        "huber_loss",
        ("torch", "F.huber_loss(pred, target, delta=0.5)", "pred, target, delta=0.5"),
        (
            "optax",
            "optax.huber_loss(pred, target, delta=0.5)",
            'pred, target, delta=0.5, reduction="none"',
            "its gradient is 0 for differences below 1e-18",
        ),
        ("SciPy", "special.huber(0.5, pred - target)", 'pred, target, delta=0.5, reduction="none"', no_grad),
        (
            "Keras",
            "keras.losses.Huber(delta=0.5)(target, pred)",
            "pred, target, delta=0.5",
            by(
                "np.mean(np.where(abs(pred - target) <= 0.5, (pred - target) ** 2 / 2, abs(pred - target) / 2 - 0.125))"
            ),
        ),
    )
    of(
        "smooth_l1_loss",
        ("torch", "F.smooth_l1_loss(pred, target, beta=0.5)", "pred, target, beta=0.5"),
        ("optax", "optax.huber_loss(pred, target, delta=0.5) / 0.5", 'pred, target, beta=0.5, reduction="none"'),
    )
    of(
        "mse_loss",
        ("torch", "F.mse_loss(pred, target)", "pred, target"),
        ("optax", "optax.squared_error(pred, target)", 'pred, target, reduction="none"'),
        ("scikit-learn", "metrics.mean_squared_error(target, pred)", "pred, target", no_grad),
        ("Keras", "keras.losses.MeanSquaredError()(target, pred)", "pred, target", by("np.mean((pred - target) ** 2)")),
        (
            "LightGBM",
            'objective="regression": gradient',
            '=lf.mse_loss.grad(pred, target, reduction="sum") / 2',
            "of half the square",
            by("pred - target", **no_grad),
        ),
    )
    of(
        "half_squared_error",
        ("optax", "optax.l2_loss(pred, target)", 'pred, target, reduction="none"'),
        (
            "XGBoost",
            'objective="reg:squarederror": gradient',
            '=lf.half_squared_error.grad(pred, target, reduction="sum")',
            by("pred - target", **no_grad),
        ),
    )
    of(
        "l1_loss",
        ("torch", "F.l1_loss(pred, target)", "pred, target"),
        ("scikit-learn", "metrics.mean_absolute_error(target, pred)", "pred, target", no_grad),
        (
            "Keras",
            "keras.losses.MeanAbsoluteError()(target, pred)",
            "pred, target",
            by("np.mean(np.abs(pred - target))"),
        ),
    )
    of(
        "pseudo_huber_loss",
        ("SciPy", "special.pseudo_huber(0.5, pred - target)", 'pred, target, delta=0.5, reduction="none"', no_grad),
        (
            "XGBoost",
            'objective="reg:pseudohubererror", huber_slope=0.5: gradient',
            '=lf.pseudo_huber_loss.grad(pred, target, delta=0.5, reduction="sum")',
            by("(pred - target) / np.sqrt(1 + ((pred - target) / 0.5) ** 2)", **no_grad),
        ),
    )
    of(
        "log_cosh_loss",
        ("optax", "optax.log_cosh(pred, target)", 'pred, target, reduction="none"', SUMS),
        (
            "Keras",
            "keras.losses.LogCosh()(target, pred)",
            "pred, target",
            SUMS,
            by("np.mean(np.log(np.cosh(pred - target)))"),
        ),
    )
    of(
        "pinball_loss",
        (
            "scikit-learn",
            "metrics.mean_pinball_loss(target, pred, alpha=0.3)",
            "pred, target, quantile=0.3",
            no_grad,
        ),
        (
            "LightGBM",
            'objective="quantile", alpha=0.3: gradient',
            '=lf.pinball_loss.grad(pred, target, quantile=0.3, reduction="sum")',
            by("np.where(pred > target, 0.7, -0.3)", **no_grad),
        ),
    )
    of(
        "epsilon_insensitive_loss",
        (
            "scikit-learn",
            'SGDRegressor(loss="epsilon_insensitive", epsilon=0.2)',
            'pred, target, epsilon=0.2, reduction="none"',
            by("np.maximum(np.abs(pred - target) - 0.2, 0)"),
        ),
    )
    of(
        "squared_epsilon_insensitive_loss",
        (
            "scikit-learn",
            'SGDRegressor(loss="squared_epsilon_insensitive", epsilon=0.2)',
            'pred, target, epsilon=0.2, reduction="none"',
            by("np.maximum(np.abs(pred - target) - 0.2, 0) ** 2"),
        ),
    )
    of(
        "poisson_nll_loss",
        ("torch", "F.poisson_nll_loss(pred, count)", "pred, count"),
        (
            "torch",
            "F.poisson_nll_loss(rate, count, log_input=False, full=True)",
            'rate, count, log_input=False, full="stirling"',
            "Stirling's formula for the factorial, and 0 for counts up to 1; `full=True` here has it exactly",
        ),
        (
            "Keras",
            "keras.losses.Poisson()(count, rate)",
            "rate, count, log_input=False, eps=1e-7",
            by("np.mean(rate - count * np.log(rate + 1e-7))"),
        ),
        (
            "XGBoost",
            'objective="count:poisson": gradient',
            '=lf.poisson_nll_loss.grad(pred, count, reduction="sum")',
            "its Hessian is exp(pred + max_delta_step)",
            by("np.exp(pred) - count", **no_grad),
        ),
    )
    of(
        "gaussian_nll_loss",
        (
            "torch",
            "F.gaussian_nll_loss(pred, target, rate)",
            "pred, target, rate",
            "the variance is clamped without a gradient",
        ),
        ("torch", "F.gaussian_nll_loss(pred, target, rate, full=True)", "pred, target, rate, full=True"),
    )
    of(
        "half_gamma_deviance",
        (
            "scikit-learn",
            "metrics.mean_gamma_deviance(positive, rate)",
            '=2 * lf.half_gamma_deviance(rate, positive, link="identity")',
            no_grad,
        ),
        (
            "XGBoost",
            'objective="reg:gamma": gradient',
            '=lf.half_gamma_deviance.grad(pred, positive, reduction="sum")',
            by("1 - positive * np.exp(-pred)", **no_grad),
        ),
    )
    of(
        "half_tweedie_deviance",
        (
            "scikit-learn",
            "metrics.mean_tweedie_deviance(count, rate, power=1.5)",
            '=2 * lf.half_tweedie_deviance(rate, count, power=1.5, link="identity")',
            no_grad,
        ),
        (
            "XGBoost",
            'objective="reg:tweedie", tweedie_variance_power=1.5: gradient',
            '=lf.half_tweedie_deviance.grad(pred, count, power=1.5, reduction="sum")',
            by("np.exp(pred / 2) - count * np.exp(-pred / 2)", **no_grad),
        ),
    )
    of(
        "cauchy_loss",
        (
            "SciPy",
            'least_squares(loss="cauchy", f_scale=0.5)',
            'pred, target, c=0.5, reduction="none"',
            by("0.5 * 0.25 * np.log1p(((pred - target) / 0.5) ** 2)"),
        ),
    )
    of(
        "msle",
        ("scikit-learn", "metrics.mean_squared_log_error(positive, rate)", "rate, positive", no_grad),
        (
            "Keras",
            "keras.losses.MeanSquaredLogarithmicError()(positive, rate)",
            "rate, positive",
            "raises both to at least 1e-7",
            by("np.mean((np.log1p(rate) - np.log1p(positive)) ** 2)"),
        ),
    )
    of(
        "mape",
        (
            "scikit-learn",
            "metrics.mean_absolute_percentage_error(positive, pred)",
            "pred, positive",
            "a target of 0 is taken for 2e-16; here it is an error",
            no_grad,
        ),
        (
            "Keras",
            "keras.losses.MeanAbsolutePercentageError()(positive, pred)",
            "=100 * lf.mape(pred, positive)",
            "in percent; a target below 1e-7 is taken for that",
            by("np.mean(100 * np.abs((positive - pred) / positive))"),
        ),
    )
    return found


CALLS = _calls()


def active() -> list[Call]:
    """Those of losses that are there."""
    return [call for call in CALLS if call.loss in lf.losses()]


# --------------------------------------------------------------------------------------------------- comparisons


@functools.cache
def names() -> dict[str, Any]:
    """The inputs that the calls are made with, by the names that they have in them."""
    random = np.random.default_rng(12)
    logits, others = random.normal(size=(2, 4, 3)) * 2
    p, q = random.dirichlet(np.ones(3), (2, 4))
    labels = np.array([0, 2, 1, 2])
    a, b, c = random.normal(size=(3, 5, 6))
    return {
        "x": np.array([-1.5, 0.3, 2.2, -0.2, 0.9]),
        "z": np.array([0.4, -0.6, 1.2, 0.1, 2.0]),
        "y": np.array([0.0, 1.0, 1.0, 0.0, 1.0]),
        "s": np.array([-1.0, 1.0, 1.0, -1.0, -1.0]),
        "r": np.array([0.1, 0.6, 0.95, 0.3, 0.7]),
        "sw": np.array([1.0, 2.0, 0.5, 1.0, 3.0]),
        "pred": np.array([0.3, -1.2, 2.0, 0.9, -0.1]),
        "target": np.array([0.1, 0.4, 1.8, -1.1, 0.35]),
        "rate": np.array([0.3, 1.2, 2.0, 0.9, 4.1]),
        "positive": np.array([0.5, 1.0, 1.7, 2.9, 3.3]),
        "count": np.array([0.0, 1.0, 3.0, 2.0, 5.0]),
        "logits": logits,
        "others": others,
        "maps": random.normal(size=(2, 3, 4)),
        "pixels": random.integers(3, size=(2, 4)),
        "labels": labels,
        "one_hot": np.eye(3)[labels],
        "many": np.array([[1.0, 0, 1], [0, 0, 1], [1, 1, 1], [0, 0, 0]]),
        "listed": np.array([[0, 2, -1], [2, -1, -1], [1, 0, 2], [-1, -1, -1]]),
        "soft": random.dirichlet(np.ones(3), 4),
        "w": np.array([0.5, 1.0, 2.0]),
        "mask": np.array([[True, True, False], [True, True, True], [False, True, True], [True, False, True]]),
        "p": p,
        "q": q,
        "log_p": np.log(p),
        "log_q": np.log(q),
        "a": a,
        "b": b,
        "c": c,
        "pair": np.array([1.0, -1.0, 1.0, -1.0, -1.0]),
        "U": a / np.linalg.norm(a, axis=1, keepdims=True),
        "V": b / np.linalg.norm(b, axis=1, keepdims=True),
    }


def here(call: Call) -> bool:
    """Whether a row can be run: its library is installed, or stood in for."""
    packages = ("jax",) if call.formula and call.grad else () if call.formula else LIBRARIES[call.library].values()
    return all(importlib.util.find_spec(package.partition(".")[0]) for package in packages)


def compare(call: Call) -> dict[str, float]:
    """How far ours is from theirs in float64, relative to the largest entry: of the value and of the gradient."""
    if not here(call):
        raise NotInstalledError(call.library)
    given = names()
    ours = eval(call.ours, {"lf": lf, "np": np}, dict(given))
    leaf = _leaf(call)
    direction = np.asarray(np.cos(np.arange(np.size(ours))).reshape(np.shape(ours)) + 2)
    if call.formula:
        theirs, slope = _by_jax(call.formula, leaf, direction, {}) if call.grad else _plain(call.formula, {})
    elif call.library == "torch":
        theirs, slope = _by_torch(call.theirs, leaf, direction)
    elif call.library in ("optax", "JAX"):
        theirs, slope = _by_jax(call.theirs, leaf, direction, LIBRARIES[call.library])
    else:
        theirs, slope = _plain(call.theirs, LIBRARIES[call.library])
    found = {"value": _apart(ours, theirs)}
    if call.grad:
        assert slope is not None, f"{call.library} gives no gradient"
        found["gradient"] = _apart(_gradient(call, leaf, direction), slope)
    return found


def _leaf(call: Call) -> str:
    match = re.search(rf"lf\.{call.loss}[.\w]*\((?:np\.log\()?(\w+)", call.ours)
    assert match, f"{call.ours} is no call of {call.loss}"
    return match[1]


def _gradient(call: Call, leaf: str, direction: np.ndarray) -> Any:
    """Ours, with respect to the first argument, of the value times the direction."""
    given = {**names(), "lf": lf, "np": np, "direction": direction}
    if "function" in lf.get_loss(call.loss).kind:
        return eval(call.ours.replace(f"lf.{call.loss}({leaf}", f"lf.{call.loss}.vjp({leaf}, direction", 1), given)
    grad = eval(call.ours.replace(f"lf.{call.loss}(", f"lf.{call.loss}.grad(", 1), given)
    grad = grad[0] if isinstance(grad, tuple) else grad
    return grad * (direction.reshape(direction.shape + (1,) * (grad.ndim - direction.ndim)))


def _packages(packages: dict[str, str]) -> dict[str, Any]:
    return {name: importlib.import_module(package) for name, package in packages.items()}


def _plain(text: str, packages: dict[str, str]) -> tuple[Any, None]:
    return eval(text, {"np": np, **_packages(packages)}, dict(names())), None


def _by_torch(text: str, leaf: str, direction: np.ndarray) -> tuple[Any, Any]:
    import torch

    given = {name: torch.from_numpy(np.array(array)) for name, array in names().items()}
    given[leaf].requires_grad_()
    value = eval(text, _packages(LIBRARIES["torch"]), given)
    (slope,) = torch.autograd.grad((value * torch.from_numpy(direction)).sum(), given[leaf])
    return value.detach().numpy(), slope.numpy()


def _by_jax(text: str, leaf: str, direction: np.ndarray, packages: dict[str, str]) -> tuple[Any, Any]:
    import jax

    jax.config.update("jax_enable_x64", True)
    given = {name: jax.numpy.asarray(array) for name, array in names().items()}

    def value(at: Any) -> Any:
        return eval(text, {"np": jax.numpy, **_packages(packages)}, {**given, leaf: at})

    return np.asarray(value(given[leaf])), np.asarray(jax.grad(lambda at: (value(at) * direction).sum())(given[leaf]))


def _apart(ours: Any, theirs: Any) -> float:
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    assert ours.shape == theirs.shape, f"shapes differ: {ours.shape} and {theirs.shape}"
    scale = np.abs(theirs).max(initial=0)
    return float(np.abs(ours - theirs).max(initial=0) / scale) if scale else float(np.abs(ours).max(initial=0))


if __name__ == "__main__":
    for row in active():
        apart = (
            ", ".join(f"{what} {error:.1e}" for what, error in compare(row).items()) if here(row) else "not installed"
        )
        print(f"{row.loss}, {row.library}: {apart}")
