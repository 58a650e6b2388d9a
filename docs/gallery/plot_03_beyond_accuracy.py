r"""
3. Two models that accuracy cannot tell apart
=============================================

**Two models are right equally often. Is one of them better?**

Three pictures, of a pig, a dog and a cat; two models, each of which gives the three classes probabilities. Both get the
first two pictures right and the third one wrong. But the first model only just prefers the right answers, and is sure
of its mistake.
"""

import matplotlib.pyplot as plt
import numpy as np

import lossfast as lf

CLASSES = ("cat", "dog", "pig")
models = {
    "model 1": np.array([[0.3, 0.3, 0.4], [0.3, 0.4, 0.3], [0.1, 0.2, 0.7]]),
    "model 2": np.array([[0.1, 0.2, 0.7], [0.1, 0.7, 0.2], [0.3, 0.4, 0.3]]),
}
truth = np.array([CLASSES.index(name) for name in ("pig", "dog", "cat")])
one_hot = np.eye(3)[truth]

# %%
# Two losses look at the probabilities rather than at the winner. With :math:`p` the model's and :math:`t` the true
# distribution,
#
# .. math::
#     \text{squared error} = \sum_c (p_c - t_c)^2, \qquad \text{cross-entropy} = -\sum_c t_c \,\log\,p_c = -\log\,p_y.
#
# The squared errors are summed over the classes and averaged over the pictures, which is ``reduction="batchmean"``.

accuracy = {name: float((p.argmax(1) == truth).mean()) for name, p in models.items()}
squared = {name: lf.mse_loss(p, one_hot, reduction="none").sum(1) for name, p in models.items()}
mean_squared = {name: lf.mse_loss(p, one_hot, reduction="batchmean") for name, p in models.items()}
entropies = {name: lf.categorical_cross_entropy(p, truth, reduction="none") for name, p in models.items()}
mean_entropy = {name: lf.categorical_cross_entropy(p, truth) for name, p in models.items()}

print(f"{'':<9} {'accuracy':>8}   {'squared errors':<18} {'mean':>5}   {'cross-entropies':<21} {'mean':>5}")
for name in models:
    print(f"{name:<9} {accuracy[name]:>8.3f}   ", end="")
    print("".join(f"{value:<6.2f}" for value in squared[name]), f"{mean_squared[name]:>5.2f}   ", end="")
    print("".join(f"{value:<7.3f}" for value in entropies[name]), f"{mean_entropy[name]:>5.2f}")

# %%
# What the losses look at
# -----------------------
#
# They differ in one thing. Cross-entropy looks at :math:`p_y` alone, the probability of what happened. The squared
# error also minds how the rest is spread over the wrong classes, of which none happened.

pair = np.array([[0.25, 0.25, 0.5], [0.0, 0.5, 0.5]])
same = lf.categorical_cross_entropy(pair, [2, 2], reduction="none")
different = lf.mse_loss(pair, np.eye(3)[[2, 2]], reduction="none").sum(1)
print(f"same p_y: cross-entropies {same.round(4)}, squared errors {different.round(4)}")

# %%
# The true class is blue. Both models win two of three, so accuracy is ⅔ for both; the losses under the bars say by how
# much, and prefer model 2. On the right are two predictions that only the squared error tells apart.

figure, panels = plt.subplots(1, 3, sharey=True, width_ratios=(3, 3, 2.1))


def draw(panel, title, rows, labels, squares, crosses):
    panel.set_title(title)
    panel.grid(False, axis="x")
    panel.tick_params(axis="x", length=0)
    numbers = zip(labels, squares, crosses, strict=True)
    panel.set_xticks(range(len(rows)), [f"{CLASSES[y]}\n{square:.3g}\n{cross:.3f}" for y, square, cross in numbers])
    for row, p in enumerate(rows):
        for c, value in enumerate(p):
            place = row + 0.27 * (c - 1)
            panel.bar(place, value, 0.24, color="C0" if c == labels[row] else "#aab0b8")
            panel.annotate(CLASSES[c], (place, value), ha="center", va="bottom", fontsize=8)


for panel, (name, p) in zip(panels, models.items(), strict=False):
    title = f"{name.capitalize()}: squared error {mean_squared[name]:.2f},\ncross-entropy {mean_entropy[name]:.2f}"
    draw(panel, title, p, truth, squared[name], entropies[name])
draw(panels[2], "One p_y, two\nsquared errors", pair, [2, 2], different, same)
below = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top", "ha": "right"}
panels[0].annotate("truth\nsquared error\ncross-entropy", (0, 0), (4, -3.5), annotation_clip=False, **below)
panels[0].set_ylabel("probability")
plt.show()

# %%
# Checks
# ------

assert accuracy["model 1"] == accuracy["model 2"] == 2 / 3
assert np.allclose(squared["model 1"], [0.54, 0.54, 1.34]) and np.allclose(squared["model 2"], [0.14, 0.14, 0.74])
assert round(mean_squared["model 1"], 2) == 0.81 and round(mean_squared["model 2"], 2) == 0.34
assert np.allclose(entropies["model 1"], [0.916, 0.916, 2.303], atol=5e-4)
assert np.allclose(entropies["model 2"], [0.357, 0.357, 1.204], atol=5e-4)
assert round(mean_entropy["model 1"], 2) == 1.38 and round(mean_entropy["model 2"], 2) == 0.64
assert same[0] == same[1] and different[0] < different[1]
