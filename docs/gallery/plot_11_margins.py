r"""
11. Margins
===========

**What does a support vector machine mind, what logistic regression, and why not the squared error?**

Labels are :math:`t = \pm 1` and the model scores :math:`z = w \cdot x + b`. Whether it is right, and how clearly, is
the *margin* :math:`m = t z`. What one would like to count is mistakes, :math:`[m \le 0]`, whose slope is 0 nearly
everywhere. So one minimises something that has a slope:

.. math:: \text{hinge} = \max(0, 1 - m), \qquad \text{squared hinge} = \max(0, 1 - m)^2,

.. math:: \text{logistic} = \log (1 + e^{-m}), \qquad \text{exponential} = e^{-m}.
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
# The same points for all
# -----------------------
#
# Two clouds that overlap a little, and a group that is far on the right side of things, where nobody doubts its label.
# Three models are fitted with the same ridge :math:`\tfrac{\lambda}{2} |w|^2`: with the logistic loss and with half the
# squared error of the score by Newton's method; with the hinge, which has a kink, by subgradient steps that shrink, of
# which the last half is averaged.

RIDGE = np.array([0.01, 0.01, 0.0])  # the bias is free
random = np.random.default_rng(3)
near = random.normal(size=(120, 2)) * 0.9 + np.repeat([[-1.1, 0.0], [1.1, 0.0]], 60, axis=0)
far = random.normal(size=(30, 2)) * 0.5 + (7.0, 6.0)
x = np.column_stack([np.concatenate([near, far]), np.ones(150)])
t = np.concatenate([np.repeat([-1.0, 1.0], 60), np.ones(30)])
FITTED = {"hinge": lf.hinge_loss, "logistic": lf.logistic_loss, "squared error": lf.half_squared_error}


def objective(loss, w, rows):
    return loss(x[rows] @ w, t[rows]) + RIDGE @ w**2 / 2


def newton(loss, rows):
    w = np.zeros(3)
    for _ in range(12):
        grad, hess = loss.grad_and_hess(x[rows] @ w, t[rows])
        w -= np.linalg.solve((x[rows].T * hess) @ x[rows] + np.diag(RIDGE), x[rows].T @ grad + RIDGE * w)
    return w


def subgradient(loss, rows, steps=6_000, denominator=None):
    w, average, x_rows, t_rows = np.zeros(3), np.zeros(3), x[rows], t[rows]
    for step in range(steps):
        slope = x_rows.T @ loss.grad(x_rows @ w, t_rows, denominator=denominator) + RIDGE * w
        w = w - slope * 2 / np.sqrt(step + 1)
        if step >= steps // 2:
            average += w / (steps - steps // 2)
    return average


near_only, everything = np.arange(150) < 120, np.full(150, True)
fits = {
    name: [(subgradient if name == "hinge" else newton)(loss, rows) for rows in (near_only, everything)]
    for name, loss in FITTED.items()
}


def angle(a, b):
    """Between two lines, given by their weights, in degrees."""
    return float(np.degrees(np.arccos(a[:2] @ b[:2] / np.linalg.norm(a[:2]) / np.linalg.norm(b[:2]))))


turned = {name: angle(*both) for name, both in fits.items()}
wrong = {name: int((t * (x @ w) <= 0).sum()) for name, (_, w) in fits.items()}
pull = {name: abs(loss.grad(x @ fits[name][1], t, reduction="none")) for name, loss in FITTED.items()}
silent = {name: int((slopes == 0).sum()) for name, slopes in pull.items()}

# The support vectors: points within the margin of 1, or on it as well as the average of the steps can tell.
support = t * (x @ fits["hinge"][1]) < 1.05
alone = subgradient(lf.hinge_loss, support, denominator=150)

print(f"{'':<14} {'errors':>7} {'points that do not pull':>24} {'turned by the far group':>24}")
for name in fits:
    print(f"{name:<14} {wrong[name]:>3}/{len(t)} {silent[name]:>24} {turned[name]:>23.1f}°")
print(f"hinge on its {support.sum()} support vectors alone: turned by {angle(alone, fits['hinge'][1]):.1f}°")

# %%
# Left: all but the 0-1 loss are convex, all fall with the margin. They differ at the ends. On the left, mistakes cost
# the exponential loss most and hinge and logistic loss only in proportion, so one bad label does not rule the fit. On
# the right, the hinge has nothing to say beyond a margin of 1, while logistic loss is never quite content.
#
# That is why the support vector machine's line hangs on the ringed points alone: take the others away, and it stays.
# The far group turns neither it nor logistic regression, which lets go of sure answers too, only not all at once. The
# squared error minds a margin above 1 as much as one below, and turns its line towards points that were never in doubt.

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
    points.plot(*x[t == label, :2].T, marker, color=colour, markersize=4, alpha=0.8, linestyle="none")
points.plot(*x[support, :2].T, "o", color="none", markeredgecolor="#33373d", markersize=8, linestyle="none")
height = np.array([-4.0, 8.0])
for name, colour, dash in (("hinge", "C1", "-"), ("logistic", "C0", "--"), ("squared error", "C3", "-.")):
    w = fits[name][1]
    points.plot(-(w[1] * height + w[2]) / w[0], height, dash, color=colour)
points.annotate("hinge", (-0.3, 7), color="C1")
points.annotate("logistic", (-1.0, 4.5), color="C0", ha="right")
points.annotate("squared error", (3.5, 5.6), color="C3", ha="right")
points.set(title="Three fits; ringed: support vectors", xlim=(-4, 9), ylim=(-3.5, 7.8), xlabel="x₁", ylabel="x₂")
plt.show()

# %%
# Checks
# ------

assert all((loss >= values["0-1"] - 1e-12).all() for name, loss in values.items() if name != "logistic")
assert (values["logistic"] / np.log(2) >= values["0-1"] - 1e-12).all()
assert (slopes["hinge"][m > 1] == 0).all() and (slopes["logistic"] < 0).all() and (slopes["0-1"] == 0).all()
assert silent["hinge"] > 60 and silent["logistic"] == silent["squared error"] == 0
assert turned["hinge"] < 3 and turned["logistic"] < 3 and turned["squared error"] > 10
assert angle(alone, fits["hinge"][1]) < 1
for name, loss in FITTED.items():
    own = objective(loss, fits[name][1], everything)
    assert all(own < objective(loss, fits[other][1], everything) for other in FITTED if other != name)
