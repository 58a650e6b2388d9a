r"""
4. Three forms of cross-entropy
===============================

**Softmax, sparse softmax or sigmoid: which cross-entropy is the one for my labels?**

======================================  ================================================  ==========================
the answer is                           call                                              replaces
======================================  ================================================  ==========================
one class of several, as a number       ``lf.cross_entropy(z, labels)``                   ``sparse_softmax_cross_``
                                                                                          ``entropy_with_logits``
one of several, as a distribution       ``lf.cross_entropy(z, t)``                        ``softmax_cross_entropy_``
                                                                                          ``with_logits``
any number of labels at once            ``lf.binary_cross_entropy_with_logits(z, t)``     ``sigmoid_cross_entropy_``
                                                                                          ``with_logits``
yes or no                               the same, with one logit                          the same
======================================  ================================================  ==========================

The three differ in which answers they let happen together. All take logits: no softmax or sigmoid comes before them.
"""

import matplotlib.pyplot as plt
import numpy as np

import lossfast as lf

logits = np.array([[2.0, -1.0, 3.0], [1.0, 0.0, -0.5]])
labels = np.array([2, 0])

# %%
# Exclusive classes
# -----------------
#
# A picture shows a cat or a dog or a pig. The softmax's probabilities share one 1 between them:
#
# .. math:: \ell = -\sum_c t_c \,\log\,p_c = \log \sum_c e^{z_c} - z_y, \qquad p_c = \frac{e^{z_c}}{\sum_j e^{z_j}}.
#
# Labels as numbers or one-hot are the same thing. A distribution may also be a softened label, here 0.98 for the true
# class and 0.01 for the others, which is ``label_smoothing=0.03``: a share of 0.03 spread over all three.

sparse = lf.cross_entropy(logits, labels, reduction="none")
dense = lf.cross_entropy(logits, np.eye(3)[labels], reduction="none")
soft = np.array([[0.01, 0.01, 0.98], [0.98, 0.01, 0.01]])
smoothed = lf.cross_entropy(logits, soft, reduction="none")
by_option = lf.cross_entropy(logits, labels, reduction="none", label_smoothing=0.03)
print("numbers, and one-hot:", *(f"{value:.8f}" for value in (*sparse, *dense)))
print("softened labels:     ", *(f"{value:.8f}" for value in (*smoothed, *by_option)))

# %%
# Several labels at once
# ----------------------
#
# A picture may show a cat *and* a dog. Each class is then a question of its own, answered by its own sigmoid:
#
# .. math:: \ell_c = -t_c \,\log \sigma(z_c) - (1 - t_c) \log (1 - \sigma(z_c)).
#
# The probabilities need not add up to 1, and one class's logit says nothing about another's loss.

several = np.array([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
each = lf.binary_cross_entropy_with_logits(logits, several, reduction="none")
print("one loss for each class:", *(f"{value:.4f}" for value in each.ravel()))

# %%
# Two classes
# -----------
#
# Yes or no can be asked either way, because softmax only sees differences: two logits :math:`z_0, z_1` give class 1 the
# probability :math:`\sigma(z_1 - z_0)`. One logit says it all.

pairs = np.stack([np.full(13, 0.5), np.linspace(-6, 6, 13) + 0.5], axis=1)
two = {y: lf.cross_entropy(pairs, np.full(13, y), reduction="none") for y in (0, 1)}
one = {y: lf.binary_cross_entropy_with_logits(pairs[:, 1] - pairs[:, 0], float(y), reduction="none") for y in (0, 1)}
apart = max(float(np.max(abs(two[y] - one[y]) / one[y])) for y in (0, 1))
print(f"softmax of two and sigmoid of one: relative difference at most {apart:.0e}")

# %%
# The same three logits (2, -1, 3), read in two ways. Softmax's bars fill one whole; each sigmoid's bar has a whole of
# its own. On the right, the crosses of softmax with two logits lie on the lines of the sigmoid with one.

figure, (shared, own, binary) = plt.subplots(1, 3)
names = [f"z = {value:g}" for value in logits[0]]
for panel, p, title in (
    (shared, lf.softmax(logits[0]), "Softmax: one of three"),
    (own, lf.sigmoid(logits[0]), "Sigmoids: each yes or no"),
):
    panel.bar(names, np.ones(3) if panel is own else p, color="none", edgecolor="#aab0b8", linewidth=1)
    panel.bar(names, p, color="C0" if panel is shared else "C2")
    for place, value in enumerate(p):
        panel.annotate(f"{value:.3f}", (place, value), ha="center", va="bottom")
    panel.set_title(f"{title}\nthe bars add up to {p.sum():.2f}")
    panel.set_ylim(0, 1.1)
    panel.grid(False, axis="x")
shared.set_ylabel("probability")
fine = np.linspace(-6, 6, 241)
for y, colour in ((0, "C1"), (1, "C0")):
    binary.plot(fine, lf.binary_cross_entropy_with_logits(fine, float(y), reduction="none"), color=colour)
    binary.plot(pairs[:, 1] - pairs[:, 0], two[y], "x", color=colour)
    binary.annotate(f"y = {y}", (3 if y == 0 else -3, 4.4), color=colour, ha="right" if y == 0 else "left")
binary.set(title="Two classes: softmax\n(crosses) and sigmoid", xlabel="z₁ - z₀", ylabel="loss")
plt.show()

# %%
# Checks
# ------

assert np.allclose(sparse, [0.32656264, 0.46436878], atol=5e-9, rtol=0)
assert np.allclose(dense, [0.32656264, 0.46436878], atol=5e-9, rtol=0)
assert np.allclose(smoothed, [0.37656264, 0.48936878], atol=5e-9, rtol=0)
assert np.allclose(by_option, smoothed, rtol=1e-14)
assert np.allclose(each, -np.log(np.where(several == 1, lf.sigmoid(logits), 1 - lf.sigmoid(logits))))
assert apart < 1e-14
