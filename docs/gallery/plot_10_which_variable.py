r"""
10. Which variable matters
==========================

**Of thirty measurements, which ones tell the two classes apart?**

If a variable says something about the class, its distribution is another one in each class. How different two
distributions are, the KL divergence measures in bits: what one wastes a sample by taking one class for the other,

.. math:: D(p \,\|\, q) = \sum_k p_k \,\log_2 \frac{p_k}{q_k} = H(p, q) - H(p).

The data are scikit-learn's 569 breast tumours, benign or malignant, with thirty measurements of their cells. Each
measurement is cut into ten bins with equally many tumours, and one is added to each count so that no bin is empty.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer

import lossfast as lf

BINS = 10
data = load_breast_cancer()
benign = data.target == 1


def histograms(values):
    """The shares of each class's tumours in each of the bins."""
    edges = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])
    bins = np.searchsorted(edges, values, side="right")
    counts = np.stack([np.bincount(bins[rows], minlength=BINS) + 1 for rows in (~benign, benign)])
    return counts / counts.sum(1, keepdims=True)


def separation(values):
    """The chance that a malignant tumour has a larger value than a benign one, or a smaller, whichever is larger."""
    above = (values[~benign][:, None] > values[benign]).mean()
    equal = (values[~benign][:, None] == values[benign]).mean()
    return max(above + equal / 2, 1 - above - equal / 2)


shares = np.stack([histograms(column) for column in data.data.T])
malignant_shares, benign_shares = shares[:, 0], shares[:, 1]
divergence = lf.relative_entropy(malignant_shares, benign_shares, base=2, reduction="none")
cross = lf.cross_entropy_between(malignant_shares, benign_shares, base=2, reduction="none")
own = lf.entropy(malignant_shares, base=2)
symmetric = lf.js_div(malignant_shares, benign_shares, reduction="none") / np.log(2)
auc = np.array([separation(column) for column in data.data.T])

# %%
# Two ways to check the ranking: the Jensen-Shannon divergence, which treats the classes alike, and how well the
# variable alone puts the tumours in order (the area under the ROC curve), which has nothing to do with bins.
#
# Cross-entropy is the divergence plus the entropy :math:`H(p)`, which here is another one for each variable, and so it
# need not rank them alike (experiment 8 has the reason). On these data it nearly does, because the entropies differ
# less than the divergences. But only the divergence is 0 for a variable that says nothing.


def ranks(values):
    return np.argsort(np.argsort(values))


agreement = {
    "Jensen-Shannon divergence": float(np.corrcoef(ranks(divergence), ranks(symmetric))[0, 1]),
    "area under the ROC curve": float(np.corrcoef(ranks(divergence), ranks(auc))[0, 1]),
    "cross-entropy": float(np.corrcoef(ranks(divergence), ranks(cross))[0, 1]),
}
order = np.argsort(divergence)[::-1]
print(f"{'':<24} {'KL (bits)':>9} {'cross-entropy':>14} {'entropy':>8} {'AUC':>6}")
for number in (*order[:5], *order[-3:]):
    name = str(data.feature_names[number])
    print(f"{name:<24} {divergence[number]:>9.3f} {cross[number]:>14.3f} {own[number]:>8.3f} {auc[number]:>6.3f}")
for name, correlation in agreement.items():
    print(f"rank correlation with {name}: {correlation:.3f}")

# %%
# Left, all thirty variables by the bits they give away. Right, what the best, a middling and the worst of them look
# like: where the two classes' histograms part, there is something to learn.

figure = plt.figure(figsize=(8.6, 5.2))
grid = figure.add_gridspec(3, 2, width_ratios=(1.25, 1))
ranking = figure.add_subplot(grid[:, 0])
shown = {order[0]: "C0", order[len(order) // 2]: "C0", order[-1]: "C0"}
ranking.barh(range(len(order)), divergence[order], color=[shown.get(number, "#aab0b8") for number in order])
ranking.set_yticks(range(len(order)), data.feature_names[order], fontsize=8)
ranking.tick_params(axis="y", length=0)
ranking.invert_yaxis()
ranking.margins(y=0.01)
ranking.grid(False, axis="y")
ranking.set(title="KL divergence, malignant from benign", xlabel="bits")
for row, number in enumerate(shown):
    panel = figure.add_subplot(grid[row, 1])
    panel.stairs(malignant_shares[number], range(BINS + 1), color="C1", fill=True, alpha=0.55)
    panel.stairs(benign_shares[number], range(BINS + 1), color="C0", linewidth=1.8)
    panel.set_title(f"{data.feature_names[number]}: {divergence[number]:.2f} bits")
    panel.set_xticks([])
    panel.grid(False)
    if row == 0:
        panel.annotate("benign", (0.2, 0.175), color="C0")
        panel.annotate("malignant", (6.8, 0.22), color="C1", ha="right")
panel.set_xlabel("bins, from low to high values")
plt.show()

# %%
# Checks
# ------

assert np.allclose(cross, own + divergence, rtol=1e-12) and (divergence > 0).all()
assert data.feature_names[order[0]] in ("worst perimeter", "worst area", "worst radius", "worst concave points")
assert agreement["Jensen-Shannon divergence"] > 0.95 and agreement["area under the ROC curve"] > 0.9
assert 0.95 < agreement["cross-entropy"] < 1 and np.ptp(own) < np.ptp(divergence) / 3
assert auc[order[0]] > 0.95 and auc[order[-1]] < 0.6
