r"""
7. L1, L2 and smooth L1
=======================

**Which of them survives an outlier, and what does each assume about the noise?**

With the residual :math:`d = \text{prediction} - \text{target}`,

.. math::
    L_1 = |d|, \qquad L_2 = d^2, \qquad
    \text{smooth } L_1 = \begin{cases} d^2 / 2\beta & |d| < \beta \\ |d| - \beta / 2 & \text{otherwise.} \end{cases}

The gradient of L1 has one size however near the goal is; that of L2 grows with the residual without bound. Smooth L1
takes from each what the other lacks: it is L2 near 0, and L1 further out.
"""

import matplotlib.pyplot as plt
import numpy as np

import lossfast as lf

LOSSES = {"L1": lf.l1_loss, "L2": lf.mse_loss, "smooth L1": lf.smooth_l1_loss.bind(beta=1.0)}
COLOURS = {"L1": "C2", "L2": "C1", "smooth L1": "C0"}
SLOPE, RATE, STEPS = 1.0, 0.5, 60

# %%
# One fixed step for all
# ----------------------
#
# Fifty points lie near the line :math:`y = x`; one more, at :math:`x = 10`, lies far below it. The model
# :math:`y = w x` is fitted from :math:`w = 3` by gradient descent with a fixed step of 0.5.

random = np.random.default_rng(0)
x = np.append(np.linspace(0.02, 2, 50), 10.0)
y = np.append(SLOPE * x[:-1] + random.normal(0, 0.1, 50), -60.0)


def fit(loss, x, y):
    """w before each step and after the last."""
    w = [3.0]
    for _ in range(STEPS):
        w.append(w[-1] - RATE * float(loss.grad(w[-1] * x, y) @ x))
    return np.array(w)


clean = {name: fit(loss, x[:-1], y[:-1]) for name, loss in LOSSES.items()}
outlier = {name: fit(loss, x, y) for name, loss in LOSSES.items()}
upwards = np.append(x[:-1], 1.0), np.append(y[:-1], -60.0)  # an outlier where x is small: no leverage
pulled = {name: fit(loss, *upwards) for name, loss in LOSSES.items()}

print(f"{'':<10} {'without outlier':>20} {'outlier at x = 10':>20} {'outlier at x = 1':>20}     (w, and last step)")
for name in LOSSES:
    ends = ((run[-1], abs(run[-1] - run[-2])) for run in (clean[name], outlier[name], pulled[name]))
    print(f"{name:<10} " + " ".join(f"{f'{w:.3g} ± {step:.1e}':>20}" for w, step in ends))

# %%
# In the third panel **L1** never comes to rest: its gradient has no memory of how near it is, so with a fixed step it
# jumps to and fro. **L2** explodes: the outlier's :math:`x^2 = 100` is in its curvature, which then is too much for the
# step, and each step overshoots by more than the last. For **smooth L1** the outlier is out on the linear part, where
# there is no curvature and its pull is bounded. It settles, a little off.

figure, (values, gradients, fits) = plt.subplots(1, 3)
d = np.linspace(-3, 3, 301)
for name, loss in LOSSES.items():
    values.plot(d, loss(d, 0.0, reduction="none"), color=COLOURS[name])
    gradients.plot(d, loss.grad(d, 0.0, reduction="sum"), color=COLOURS[name])
    fits.semilogy(np.minimum(abs(outlier[name] - SLOPE), 1e9), color=COLOURS[name])
values.set(title="Value", xlabel="residual d", ylim=(0, 4))
gradients.set(title="Gradient", xlabel="residual d", ylim=(-4, 4))
gradients.legend(gradients.lines, LOSSES, loc="upper left")
fits.annotate("L2", (14, 1e4), color="C1")
fits.annotate("L1", (30, 0.75), color="C2")
fits.annotate("smooth L1", (22, 0.01), color="C0")
fits.set(title="Distance from the true slope", xlabel="step", ylim=(5e-3, 1e6))
plt.show()

# %%
# It is the place of the outlier that makes L2 explode, not its size. At :math:`x = 1` the same outlier leaves the
# curvature alone: L2 then settles, but far from the slope of the other fifty points.
#
# Each loss is a noise
# --------------------
#
# A loss is the negative logarithm of a density, but for a constant: who minimises it fits by maximum likelihood under
# that noise.
#
# .. math::
#     -\log \frac{e^{-d^2/2}}{\sqrt{2\pi}} = \tfrac{1}{2} d^2 + \tfrac{1}{2} \,\log\,2\pi, \qquad
#     -\log \tfrac{1}{2} e^{-|d|} = |d| + \log\,2,
#
# .. math::
#     -\log\,p^t (1 - p)^{1 - t} = -t \,\log\,p - (1 - t) \log (1 - p), \qquad -\log \prod_c p_c^{t_c} = -\log\,p_y.
#
# These are Gauss, Laplace, Bernoulli and the multinoulli; the last two are the two forms of cross-entropy.

gauss, laplace = np.exp(-(d**2) / 2) / np.sqrt(2 * np.pi), np.exp(-abs(d)) / 2
p, t = np.linspace(0.02, 0.98, 25), np.tile([0.0, 1.0], 13)[:25]
classes = lf.softmax(random.normal(size=(25, 4)))
labels = random.integers(4, size=25)
recovered = {
    "Gauss, L2": (-np.log(gauss), lf.half_squared_error(d, 0.0, reduction="none") + np.log(2 * np.pi) / 2),
    "Laplace, L1": (-np.log(laplace), lf.l1_loss(d, 0.0, reduction="none") + np.log(2)),
    "Bernoulli": (-np.log(p**t * (1 - p) ** (1 - t)), lf.binary_cross_entropy(p, t, reduction="none")),
    "multinoulli": (
        -np.log((classes ** np.eye(4)[labels]).prod(1)),
        lf.categorical_cross_entropy(classes, labels, reduction="none"),
    ),
}
for name, (likelihood, loss) in recovered.items():
    print(f"{name:<12} -log density and loss differ by at most {abs(likelihood - loss).max():.0e}")

figure, panels = plt.subplots(1, 2, figsize=(8.6, 2.9))
for name, density in (("L2", gauss), ("L1", laplace)):
    panels[0].plot(d, density, color=COLOURS[name])
    panels[1].semilogy(d, density, color=COLOURS[name])
panels[0].annotate("Laplace: L1", (0.25, 0.44), color="C2")
panels[0].annotate("Gauss: L2", (1.1, 0.25), color="C1")
panels[1].annotate("Gauss: L2", (1.75, 0.11), color="C1")
panels[1].annotate("Laplace: L1", (0.2, 0.45), color="C2")
panels[0].set(title="The noise each loss expects", xlabel="residual d", ylabel="density")
panels[1].set(title="Its logarithm is the loss, upside down", xlabel="residual d")
plt.show()

# %%
# Checks
# ------

resting = {name: abs(run[-1] - run[-2]) for name, run in outlier.items()}
assert resting["smooth L1"] < 1e-3 and abs(outlier["smooth L1"][-1] - SLOPE) < 0.2
assert resting["L1"] > 0.1 and abs(outlier["L1"] - SLOPE)[20:].max() < 1
assert abs(outlier["L2"][-1]) > 1e6 and abs(clean["L2"][-1] - SLOPE) < 0.05
assert abs(pulled["L2"][-1] - pulled["L2"][-2]) < 1e-3 and abs(pulled["L2"][-1] - SLOPE) > 0.5
assert all(np.allclose(likelihood, loss, rtol=1e-13, atol=1e-13) for likelihood, loss in recovered.values())
