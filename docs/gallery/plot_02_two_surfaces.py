r"""
2. Two surfaces
===============

**What does the ground look like that gradient descent walks on, and has the quadratic cost many local minima?**

The same neuron, :math:`a = \sigma(w x + b)`, now with nine points to fit, so that each cost is a surface over
:math:`(w, b)`. With :math:`h_i` the loss's second derivative at point :math:`i`, the surface's Hessian is

.. math:: H = \frac1n \sum_i h_i \begin{pmatrix} x_i^2 & x_i \\ x_i & 1 \end{pmatrix}.

For cross-entropy :math:`h_i = a_i (1 - a_i)` is positive whatever the label, so :math:`H` is positive definite
everywhere and the surface is a bowl. For :math:`\tfrac{1}{2} (a - y)^2` it is
:math:`\sigma' (\sigma' + (a - y)(1 - 2a))`, which is negative where the neuron is sure and wrong.
"""

import matplotlib.pyplot as plt
import numpy as np

import lossfast as lf

COSTS = {"quadratic": lf.quadratic_sigmoid_loss, "cross-entropy": lf.binary_cross_entropy_with_logits}
x = np.array([-3.0, -2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 3.0, 8.0])
y = np.array([0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0])  # the last one is an outlier
plain = slice(0, -1)


def surface(cost, w, b, x, y):
    """Cost and smallest eigenvalue of its Hessian, for arrays of w and b."""
    z = w[..., None] * x + b[..., None]
    found = cost.evaluate(z, np.broadcast_to(y, z.shape), want=("loss", "hess"), reduction="none")
    moments = [(found.hess * x**power).mean(-1) for power in (0, 1, 2)]
    middle, half = (moments[0] + moments[2]) / 2, (moments[2] - moments[0]) / 2
    return found.loss.mean(-1), middle - np.hypot(half, moments[1])


def descend(cost, w, b, x, y, steps=100):
    """Newton's method, uphill directions turned round: where it ends, gradient and Hessian there."""
    design = np.stack([x, np.ones_like(x)])

    def derivatives(place):
        found = cost.evaluate(place @ design, y, want=("loss", "grad", "hess"), reduction="none")
        return found.loss.mean(), design @ found.grad / len(x), (design * found.hess) @ design.T / len(x)

    place = np.array([w, b])
    for _ in range(steps):
        value, gradient, hessian = derivatives(place)
        curvatures, directions = np.linalg.eigh(hessian)
        step = -directions @ (directions.T @ gradient / np.maximum(abs(curvatures), 1e-3))
        step /= max(1.0, np.linalg.norm(step))
        while np.linalg.norm(step) > 1e-12 and derivatives(place + step)[0] > value:
            step /= 2
        place = place + step
    return place, *derivatives(place)


def minima(cost, x, y):
    """The strict minima reached from a lattice of starts."""
    found = {}
    for w in (-3.0, -1.0, 0.0, 1.0, 3.0):
        for b in (-2.0, 0.0, 2.0):
            place, value, gradient, hessian = descend(cost, w, b, x, y)
            if abs(gradient).max() < 1e-10 and np.linalg.eigvalsh(hessian)[0] > 1e-3:
                found[tuple(place.round(6))] = value
    return found


where = {name: minima(cost, x, y) for name, cost in COSTS.items()}
without = {name: minima(cost, x[plain], y[plain]) for name, cost in COSTS.items()}
count = {name: (len(where[name]), len(without[name])) for name in COSTS}
right = {
    (name, place): int(((place[0] * x + place[1] > 0) == (y == 1)).sum()) for name in where for place in where[name]
}

print("minima with the outlier and without:", ", ".join(f"{name} {found}" for name, found in count.items()))
for data, found in (("nine points", where), ("without the outlier", without)):
    for name in COSTS:
        places = ", ".join(f"({w:.3f}, {b:.3f}) at cost {value:.4f}" for (w, b), value in found[name].items())
        print(f"{data + ',':<21} {name}: {places}")
for (name, (w, b)), points in right.items():
    print(f"{name} minimum ({w:.3f}, {b:.3f}): {points} of {len(x)} points on the right side")

w, b = np.meshgrid(np.linspace(-2, 4, 181), np.linspace(-4, 4, 181))
surfaces = {name: surface(cost, w, b, x, y) for name, cost in COSTS.items()}
concave = {name: float((lowest < 0).mean()) for name, (_, lowest) in surfaces.items()}
for name, share in concave.items():
    print(f"{name}: curved downwards somewhere on {share:.0%} of the map")

# %%
# Hatched is where the surface curves downwards in some direction. That is most of the quadratic cost's map, which has
# wide plateaus and, on these points, **two separate minima** (crosses). Cross-entropy has a single bowl.
#
# The last panel walks along the line through both minima. In the right one the outlier is so wrong that its slope has
# vanished, and it is ignored; in the left one it has won.

figure, panels = plt.subplots(1, 3, figsize=(8.6, 3.5))
for panel, colour, (name, (cost, lowest)) in zip(panels, ("C1", "C0"), surfaces.items(), strict=False):
    levels = np.quantile(cost, np.linspace(0, 1, 11))
    panel.contour(w, b, cost, levels=levels, colors=colour, linewidths=0.9)
    if (lowest < 0).any():
        panel.contourf(w, b, lowest, levels=[-np.inf, 0], colors="none", hatches=["///"])
    for place in where[name]:
        panel.plot(*place, "X", color="#33373d", markersize=9, markeredgecolor="white")
    panel.grid(False)
    panel.set(xlabel="weight w", ylabel="bias b", title=name.capitalize())
(left, bottom), (right_, top) = sorted(where["quadratic"])
along = np.linspace(-1, 2, 301)
line = (left + along * (right_ - left), bottom + along * (top - bottom))
for colour, cost in zip(("C1", "C0"), COSTS.values(), strict=True):
    height = surface(cost, *line, x, y)[0]
    height = (height - height.min()) / np.ptp(height)
    panels[2].plot(line[0], height, color=colour)
panels[2].annotate("cross-\nentropy", (1.15, 0.55), color="C0", ha="right")
panels[2].annotate("quadratic", (2.0, 0.09), color="C1", ha="right")
panels[2].set(title="Through both minima", xlabel="weight w", ylabel="cost, from its least to its most")
plt.show()

# %%
# So is the claim true?
# ---------------------
#
# One often reads that the quadratic cost of a sigmoid *has many local minima*. It need not: without the outlier all
# fifteen starts that arrive anywhere arrive at the same place. It *can*: here it has two. Plateaus and the loss of
# convexity come with the cost; local minima only with the data.
#
# Nor is the bowl better in every way. Where its bottom lies the outlier has won, because cross-entropy never stops
# pulling at a point that is wrong. The quadratic cost's lower minimum puts more points on the right side than
# cross-entropy's only one. Descent is safe on a bowl; a bowl is not robust.

# %%
# Checks
# ------

assert count == {"quadratic": (2, 1), "cross-entropy": (1, 1)}
assert concave["cross-entropy"] == 0 and concave["quadratic"] > 0.5
assert surfaces["cross-entropy"][1].min() > 0
assert min(where["quadratic"], key=where["quadratic"].get)[0] > 1
assert [right[name, max(where[name])] for name in COSTS] == [6, 4]
