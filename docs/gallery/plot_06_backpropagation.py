r"""
6. Backpropagation through the loss
===================================

**What does a network need of its loss, and how does it travel back to the first weights?**

A network with one hidden layer reads the digits:

.. math:: h = \sigma(x W_1 + b_1), \qquad z = h W_2 + b_2, \qquad p = \mathrm{softmax}(z), \qquad
    \ell = -\log\,p_y.

Everything that backpropagation needs of the loss is its gradient along the logits, and for softmax with cross-entropy
that is as simple as it can be, :math:`p - t` with :math:`t` the one-hot label. The rest is the chain rule:

.. math:: \delta_2 = \frac{p - t}{n}, \qquad \delta_1 = (\delta_2 W_2^\top) \odot \sigma'(x W_1 + b_1),

.. math::
    \frac{\partial \ell}{\partial W_2} = h^\top \delta_2, \qquad \frac{\partial \ell}{\partial W_1} = x^\top \delta_1.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import lossfast as lf

HIDDEN, EPOCHS, BATCH, RATE = 32, 30, 50, 1.0
random = np.random.default_rng(0)
digits = load_digits()
order = random.permutation(len(digits.target))
x, y = digits.data[order] / 16, digits.target[order]
x, y, x_test, y_test = x[:-500], y[:-500], x[-500:], y[-500:]


def start():
    """W1, b1, W2 and b2, in float64."""
    random = np.random.default_rng(1)
    return [
        random.normal(0, 1 / 8, (x.shape[1], HIDDEN)),
        np.zeros(HIDDEN),
        random.normal(0, 1 / np.sqrt(HIDDEN), (HIDDEN, 10)),
        np.zeros(10),
    ]


def logits_of(x, weights):
    w1, b1, w2, b2 = weights
    return lf.sigmoid(x @ w1 + b1) @ w2 + b2


def backpropagate(x, y, weights):
    """The mean loss and its gradient along each of the weights."""
    w1, b1, w2, b2 = weights
    before = x @ w1 + b1
    hidden = lf.sigmoid(before)
    loss, output_error = lf.cross_entropy.value_and_grad(hidden @ w2 + b2, y)  # (p - t) / n
    hidden_error = lf.sigmoid.vjp(before, output_error @ w2.T)
    return loss, [x.T @ hidden_error, hidden_error.sum(0), hidden.T @ output_error, output_error.sum(0)]


# %%
# Is p - t right?
# ---------------
#
# The softmax Jacobian has two cases, :math:`\partial p_i / \partial z_j = p_i (1 - p_i)` where :math:`i = j` and
# :math:`-p_i p_j` elsewhere. The loss's slope along :math:`p` is :math:`-t_i / p_i`. Multiplied out, the probabilities
# cancel:
#
# .. math:: \sum_i -\frac{t_i}{p_i} \frac{\partial p_i}{\partial z_j} = -t_j (1 - p_j) + \sum_{i \ne j} t_i p_j
#     = p_j - t_j.

z = np.array([2.0, -1.0, 3.0])
p, t = lf.softmax(z), np.array([1.0, 0.0, 0.0])
jacobian = lf.softmax.jacobian(z)
by_cases = np.where(np.eye(3, dtype=bool), p * (1 - p), -np.outer(p, p))
multiplied = (-t / p) @ jacobian
for name, slope in (("p - t", p - t), ("multiplied out", multiplied), ("lossfast", lf.cross_entropy.grad(z, 0))):
    print(f"{name + ':':<15} {slope.round(6)}")

# %%
# Is the rest right?
# ------------------
#
# Finite differences tell. The slope along a weight is nearly :math:`(\ell(w + \epsilon) - \ell(w - \epsilon)) / 2
# \epsilon`. That is wrong by a multiple of :math:`\epsilon^2`, and by rounding errors divided by :math:`\epsilon`; in
# between there is a best step. If the two do not meet there, the backpropagation is wrong.

weights = start()
_, gradients = backpropagate(x[:200], y[:200], weights)
steps = 10.0 ** np.arange(-10, 0)
picked = [(layer, tuple(random.integers(w.shape))) for layer, w in enumerate(weights) for _ in range(10)]
disagreement = np.zeros((len(picked), len(steps)))
for row, (layer, place) in enumerate(picked):
    for column, step in enumerate(steps):
        moved = []
        for sign in (1, -1):
            other = [w.copy() for w in weights]
            other[layer][place] += sign * step
            moved.append(lf.cross_entropy(logits_of(x[:200], other), y[:200]))
        disagreement[row, column] = abs((moved[0] - moved[1]) / (2 * step) - gradients[layer][place])
scale = max(abs(gradient).max() for gradient in gradients)
worst = disagreement.max(0) / scale
print(f"finite differences of {len(picked)} weights: off by at most {worst.min():.1e} of the largest slope")

# %%
# Training
# --------

losses, accuracies = [], []
for _ in range(EPOCHS):
    order = random.permutation(len(x))
    for begin in range(0, len(x), BATCH):
        rows = order[begin : begin + BATCH]
        for w, gradient in zip(weights, backpropagate(x[rows], y[rows], weights)[1], strict=True):
            w -= RATE * gradient
    found = lf.cross_entropy.evaluate(logits_of(x_test, weights), y_test, want=("loss", "correct"))
    losses.append(found.loss)
    accuracies.append(float(found.correct.mean()))
print(f"test set: cross-entropy {losses[-1]:.4f}, accuracy {accuracies[-1]:.3f} after {EPOCHS} epochs")

# %%
# Left: the slopes of the loss along p, the Jacobian, and their product. Middle: finite differences agree with
# backpropagation to ten digits at the best step, and the V around it is theirs, not ours. Right: it learns.

figure, (product, differences, training) = plt.subplots(1, 3, figsize=(8.6, 3.3), width_ratios=(1.2, 1, 1))
table = np.vstack([jacobian, np.full(3, np.nan), multiplied])
product.imshow(np.ma.masked_invalid(table), cmap="PuOr_r", vmin=-1, vmax=1)
for (row, column), value in np.ndenumerate(table):
    if np.isfinite(value):
        ink = "white" if abs(value) > 0.6 else "#33373d"
        product.annotate(f"{value:.3f}", (column, row), ha="center", va="center", fontsize=8.5, color=ink)
product.annotate("times -t / p is", (1, 3), ha="center", va="center")
product.set_yticks([0, 1, 2, 4], ["∂p₁", "∂p₂", "∂p₃", "p - t"])
product.set_xticks([0, 1, 2], ["∂z₁", "∂z₂", "∂z₃"])
product.tick_params(length=0)
product.spines[:].set_visible(False)
product.grid(False)
product.set_title("Softmax's Jacobian")
differences.loglog(steps, worst, "o-", color="C0")
differences.annotate("rounding", (2e-10, 2e-4), color="#33373d")
differences.annotate("ε²", (2e-2, 2e-6), color="#33373d")
differences.set(title="Finite differences against\nbackpropagation", xlabel="step ε", ylabel="worst disagreement")
training.plot(np.arange(1, EPOCHS + 1), accuracies, color="C0")
training.annotate(f"{accuracies[-1]:.3f}", (EPOCHS, accuracies[-1] - 0.03), ha="right", va="top", color="C0")
training.set(title="Accuracy on unseen digits", xlabel="epoch", ylim=(min(accuracies) - 0.02, 1))
plt.show()

# %%
# Checks
# ------

assert np.allclose(jacobian, by_cases, rtol=1e-13)
assert np.allclose(multiplied, p - t, rtol=1e-13, atol=1e-16)
assert np.allclose(lf.cross_entropy.grad(z, 0), p - t, rtol=1e-13)
assert worst.min() < 1e-8
assert accuracies[-1] > 0.95 and losses[-1] < 0.2
