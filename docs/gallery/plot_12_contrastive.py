r"""
12. Contrastive against cross-entropy
=====================================

**What does a network learn that is trained to compare, and never told a class by name?**

Cross-entropy pulls each picture towards its class's place among the logits. Supervised contrastive learning has no
logits. It looks at the pictures of a batch in pairs, and asks of picture :math:`i` that those with its label,
:math:`P(i)`, be more like it than the rest. With embeddings :math:`e` of length 1 and a temperature :math:`\tau`,

.. math::
    \ell_i = \frac{-1}{|P(i)|} \sum_{p \in P(i)} \,\log \frac{e^{s_{ip}}}{\sum_{a \ne i} e^{s_{ia}}}, \qquad
    s_{ij} = \frac{e_i \cdot e_j}{\tau}.

So it is cross-entropy again, over the other pictures instead of over classes. One network is trained both ways. The
contrastive one is then frozen, and a linear classifier learns to read its embeddings. In the first round an embedding
is only two numbers, so that it can be drawn as it is; in the second it is sixteen.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import lossfast as lf

HIDDEN, EPOCHS, BATCH, TEMPERATURE, WIDTHS = (128, 64), 60, 128, 0.2, (2, 16)
digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.target))
x, y = (digits.data[order] / 16).astype(np.float32), digits.target[order]
x, y, x_test, y_test = x[:-500], y[:-500], x[-500:], y[-500:]


def layers(random, *sizes):
    """Weights and biases of each layer, one after the other."""
    weights = []
    for size, width in zip(sizes, sizes[1:], strict=False):
        weights += [random.normal(0, np.sqrt(2 / size), (size, width)), np.zeros(width)]
    return [w.astype(np.float32) for w in weights]


def encode(x, encoder):
    """What each layer hands on; the last is the embedding."""
    found = [x]
    for w, b in zip(encoder[::2], encoder[1::2], strict=True):
        found.append(np.maximum(found[-1], 0) @ w + b)
    return found


def backward(found, along, encoder):
    """The gradient along each of the encoder's weights, given that along the embedding."""
    gradients = []
    for number in reversed(range(len(encoder) // 2)):
        gradients[:0] = [np.maximum(found[number], 0).T @ along, along.sum(0)]
        along = (along @ encoder[2 * number].T) * (found[number] > 0)
    return gradients


class Adam:
    """Gradient descent with a step of its own for each weight, by Kingma and Ba."""

    def __init__(self, weights, rate):
        self.weights, self.rate, self.step = weights, rate, 0
        self.mean, self.square = ([np.zeros_like(w) for w in weights] for _ in range(2))

    def __call__(self, gradients):
        self.step += 1
        for w, g, mean, square in zip(self.weights, gradients, self.mean, self.square, strict=True):
            mean += 0.1 * (g - mean)
            square += 0.001 * (g * g - square)
            w -= self.rate * mean / (1 - 0.9**self.step) / (np.sqrt(square / (1 - 0.999**self.step)) + 1e-8)


def batches(random):
    for _ in range(EPOCHS):
        order = random.permutation(len(x))
        for start in range(0, len(x), BATCH):
            yield order[start : start + BATCH]


def by_cross_entropy(width):
    """Embeddings of the unseen digits, and whether each is recognised."""
    random = np.random.default_rng(1)
    encoder, head = layers(random, x.shape[1], *HIDDEN, width), layers(random, width, 10)
    update = Adam(encoder + head, 0.003)
    for rows in batches(random):
        found = encode(x[rows], encoder)
        error = lf.cross_entropy.grad(found[-1] @ head[0] + head[1], y[rows])
        update([*backward(found, error @ head[0].T, encoder), found[-1].T @ error, error.sum(0)])
    embedding = encode(x_test, encoder)[-1]
    return embedding, (embedding @ head[0] + head[1]).argmax(1) == y_test


def by_comparison(width):
    """The same; and the contrastive loss of each batch."""
    random = np.random.default_rng(1)
    encoder, losses = layers(random, x.shape[1], *HIDDEN, width), []
    update = Adam(encoder, 0.003)
    for rows in batches(random):
        found = encode(x[rows], encoder)
        loss, along = lf.supcon_loss.value_and_grad(found[-1], y[rows], temperature=TEMPERATURE)
        update(backward(found, along, encoder))
        losses.append(loss)
    frozen, head = unit(encode(x, encoder)[-1]), layers(random, width, 10)
    update = Adam(head, 0.1)
    for _ in range(500):
        error = lf.cross_entropy.grad(frozen @ head[0] + head[1], y)
        update([frozen.T @ error, error.sum(0)])
    embedding = unit(encode(x_test, encoder)[-1])
    return embedding, (embedding @ head[0] + head[1]).argmax(1) == y_test, losses


def unit(embedding):
    return embedding / np.linalg.norm(embedding, axis=1, keepdims=True)


def likeness(embedding):
    """Mean cosine of two digits of one class, and of two classes."""
    cosines, same = unit(embedding) @ unit(embedding).T, y_test[:, None] == y_test
    return float(cosines[same & ~np.eye(len(same), dtype=bool)].mean()), float(cosines[~same].mean())


maps, accuracy, alike = {}, {}, {}
print(f"{'':<14} {'numbers':>7} {'accuracy':>9} {'cosine within a class':>22} {'between':>8}")
for width in WIDTHS:
    maps["cross-entropy", width], right = by_cross_entropy(width)
    maps["contrastive", width], also_right, losses = by_comparison(width)
    accuracy["cross-entropy", width], accuracy["contrastive", width] = float(right.mean()), float(also_right.mean())
    for name in ("cross-entropy", "contrastive"):
        alike[name, width] = likeness(maps[name, width])
        print(f"{name:<14} {width:>7} {accuracy[name, width]:>9.3f} {alike[name, width][0]:>22.3f} ", end="")
        print(f"{alike[name, width][1]:>8.3f}")

# %%
# Each unseen digit is drawn as itself, where its two numbers put it. **Cross-entropy** makes a star: each class has
# its ray, and the further out, the surer. **The contrastive loss** only sees directions, and puts each class into a
# clump on the circle, as far from the others as there is room.
#
# The accuracies are within a few pictures of each other, with two numbers as with sixteen: to compare teaches as well
# as to name, and no better. What differs, where there is room, is the geometry. Of sixteen numbers, two digits of one
# class are more alike (the cosines above) if the network was trained to compare. That is what one wants of an
# embedding for search or clustering.

figure, (star, circle, bars) = plt.subplots(1, 3, figsize=(8.6, 3.7), width_ratios=(1, 1, 0.62))
for panel, name in ((star, "cross-entropy"), (circle, "contrastive")):
    for digit in range(10):
        place = maps[name, 2][y_test == digit]
        panel.plot(
            *place.T, linestyle="none", marker=f"${digit}$", color=f"C{digit % 5}", markersize=5, markeredgewidth=0.3
        )
    panel.set(xticks=[], yticks=[])
    panel.set_aspect("equal", adjustable="datalim")
    panel.spines[:].set_visible(False)
for digit in range(10):
    (middle,) = unit(maps["contrastive", 2][y_test == digit].mean(0, keepdims=True))
    circle.annotate(str(digit), 1.17 * middle, color=f"C{digit % 5}", fontsize=12, ha="center", va="center")
circle.margins(0.12)
star.set_title("Cross-entropy")
circle.set_title("Contrastive")
for row, width in enumerate(WIDTHS):
    for shift, name, colour in ((-0.2, "cross-entropy", "C0"), (0.2, "contrastive", "C2")):
        value = accuracy[name, width]
        bars.bar(row + shift, value, 0.36, color=colour)
        bars.annotate(f"{value:.3f}", (row + shift, value), ha="center", va="bottom", fontsize=8)
        if row == 0:
            bars.annotate(name, (row + shift, 0.805), rotation=90, ha="center", va="bottom", color="white")
bars.set_xticks(range(2), [f"{width} numbers" for width in WIDTHS])
bars.set(title="Accuracy", ylim=(0.8, 1))
bars.grid(False, axis="x")
plt.show()

# %%
# Checks
# ------

assert losses[-1] < losses[0] / 2
assert all(accuracy[name, 2] > 0.9 and accuracy[name, 16] > 0.96 for name in ("cross-entropy", "contrastive"))
assert all(abs(accuracy["cross-entropy", width] - accuracy["contrastive", width]) < 0.02 for width in WIDTHS)
assert all(within > between + 0.5 for within, between in alike.values())
assert alike["contrastive", 16][0] > alike["cross-entropy", 16][0] + 0.05
