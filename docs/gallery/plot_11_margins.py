r"""
11. Margins
===========

**What do a support vector machine and logistic regression mind differently?**

Labels are :math:`t = \pm 1` and the model scores :math:`z = w \cdot x + b`. Whether it is right, and how clearly, is
the *margin* :math:`m = t z`. What one would like to count is mistakes, :math:`[m \le 0]`, whose slope is 0 nearly
everywhere. So one minimises something that has a slope:

.. math::
    \text{hinge} = \max(0, 1 - m), \quad \text{squared hinge} = \max(0, 1 - m)^2, \quad
    \text{logistic} = \log (1 + e^{-m}), \quad \text{exponential} = e^{-m}.
"""

import matplotlib.pyplot as plt
import numpy as np

import lossfast as lf

LOSSES = {
    "0-1": (lf.zero_one_loss, "#33373d", "-"),
    "hinge": (lf.hinge_loss, "C1", "-"),
    "squared hinge": (lf.squared_hinge_loss, "C3", "--"),
    "logistic": (lf.logistic_loss, "C0", "-"),
    "exponential": (lf.exponential_loss, "C2", ":"),
}
m = np.linspace(-3.2, 3, 497)
values = {name: loss(m, 1.0, reduction="none") for name, (loss, _, _) in LOSSES.items()}
slopes = {name: loss.grad(m, 1.0, reduction="sum") for name, (loss, _, _) in LOSSES.items()}

# %%
# The same points for both
# ------------------------
#
# Two clouds that overlap a little, and a group far on the right side of things. Hinge and logistic loss are minimised
# with the same ridge :math:`\tfrac{\lambda}{2} |w|^2`: the logistic one by Newton's method, the hinge, which has a
# kink, by subgradient steps that shrink, of which the last half is averaged.

RIDGE = 0.01
random = np.random.default_rng(3)
near = random.normal(size=(120, 2)) * (0.9, 0.9) + np.repeat([[-1.1, 0.0], [1.1, 0.0]], 60, axis=0)
far = random.normal(size=(30, 2)) * 0.5 + (7.0, 6.0)
x = np.concatenate([near, far])
t = np.concatenate([np.repeat([-1.0, 1.0], 60), np.ones(30)])


def design(x):
    return np.column_stack([x, np.ones(len(x))])


def objective(loss, w, x, t):
    return loss(design(x) @ w, t) + RIDGE / 2 * (w[:2] @ w[:2])


def logistic_regression(x, t):
    w, ridge, rows = np.zeros(3), np.diag([RIDGE, RIDGE, 0.0]), design(x)
    for _ in range(12):
        grad, hess = lf.logistic_loss.grad_and_hess(rows @ w, t)
        w -= np.linalg.solve((rows.T * hess) @ rows + ridge, rows.T @ grad + ridge @ w)
    return w, float(abs(rows.T @ lf.logistic_loss.grad(rows @ w, t) + ridge @ w).max())


def support_vector_machine(x, t, steps=20_000):
    w, average, ridge, rows = np.zeros(3), np.zeros(3), np.array([RIDGE, RIDGE, 0.0]), design(x)
    for step in range(steps):
        w = w - (rows.T @ lf.hinge_loss.grad(rows @ w, t) + ridge * w) * 2 / np.sqrt(step + 1)
        if step >= steps // 2:
            average += w / (steps - steps // 2)
    return average


fits = {}
for where, rows in (("without", slice(0, 120)), ("with", slice(0, None))):
    logistic, left_over = logistic_regression(x[rows], t[rows])
    fits[where] = {"hinge": support_vector_machine(x[rows], t[rows]), "logistic": logistic}


def angle(a, b):
    """Between the normals of two lines, in degrees."""
    return float(np.degrees(np.arccos(a[:2] @ b[:2] / np.linalg.norm(a[:2]) / np.linalg.norm(b[:2]))))


turned = {name: angle(fits["without"][name], fits["with"][name]) for name in ("hinge", "logistic")}
margins = {name: t * (design(x) @ w) for name, w in fits["with"].items()}
pull = {name: -LOSSES[name][0].grad(margins[name], np.ones(len(t)), reduction="sum") for name in margins}
silent = {name: int((pull[name] == 0).sum()) for name in pull}

print(f"{'':<9} {'errors':>7} {'points without any pull':>24} {'turned by the far group':>24}")
for name in margins:
    errors = int((margins[name] <= 0).sum())
    print(f"{name:<9} {errors:>3}/{len(t)} {silent[name]:>24} {turned[name]:>23.1f}°")

# %%
# Left: all but the 0-1 loss are convex, all fall with the margin. They differ at the ends. On the left, mistakes cost
# the exponential loss most and hinge and logistic loss only in proportion, so one bad label does not rule the fit. On
# the right, the hinge has nothing to say beyond a margin of 1, while logistic loss is never quite content.
#
# That is why the SVM's line hangs on the ringed points alone: take the others away, and it stays. The far group turns
# neither line much, since logistic loss lets go too, only not all at once.

figure, (curves, points) = plt.subplots(1, 2, figsize=(8.6, 4.0), width_ratios=(1, 1.15))
for name, (_, colour, dash) in LOSSES.items():
    curves.plot(m, values[name], dash, color=colour)
curves.set(title="Losses by margin", xlabel="margin m", ylim=(-0.1, 4.5), xlim=(-3.2, 3))
curves.annotate("exponential", (-1.52, 4.22), color="C2", ha="right")
curves.annotate("squared\nhinge", (-0.75, 3.6), color="C3", va="top")
curves.annotate("hinge", (-1.85, 2.95), color="C1")
curves.annotate("logistic", (-3.0, 1.9), color="C0")
curves.annotate("0-1", (-3.0, 1.06), color="#33373d")
for label, marker, colour in ((-1.0, "o", "C4"), (1.0, "s", "C2")):
    points.plot(*x[t == label].T, marker, color=colour, markersize=4, alpha=0.8, linestyle="none")
points.plot(*x[pull["hinge"] > 0].T, "o", color="none", markeredgecolor="#33373d", markersize=8, linestyle="none")
height = np.array([-4.0, 8.0])
for name, colour, dash in (("hinge", "C1", "-"), ("logistic", "C0", "--")):
    w = fits["with"][name]
    points.plot(-(w[1] * height + w[2]) / w[0], height, dash, color=colour)
points.annotate("hinge", (-0.3, 7), color="C1")
points.annotate("logistic", (-1.1, 7), color="C0", ha="right")
points.set(title="Lines of both; ringed: the hinge pulls", xlim=(-4, 9), ylim=(-3.5, 7.8), xlabel="x₁", ylabel="x₂")
plt.show()

# %%
# Checks
# ------

ringed = pull["hinge"] > 0
alone = support_vector_machine(x, t)
assert all((loss >= values["0-1"] - 1e-12).all() for name, loss in values.items() if name != "logistic")
assert (values["logistic"] / np.log(2) >= values["0-1"] - 1e-12).all()
assert (slopes["hinge"][m > 1] == 0).all() and (slopes["logistic"] < 0).all() and (slopes["0-1"] == 0).all()
assert silent["hinge"] > 60 and silent["logistic"] == 0
assert left_over < 1e-12
for name, other in (("hinge", "logistic"), ("logistic", "hinge")):
    loss = LOSSES[name][0]
    assert objective(loss, fits["with"][name], x, t) < objective(loss, fits["with"][other], x, t)
