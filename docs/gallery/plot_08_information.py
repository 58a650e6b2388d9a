r"""
8. Information
==============

**What has cross-entropy to do with entropy, and what is it the cost of?**

An event of probability :math:`p` tells :math:`-\log_2\,p` bits: the rarer, the more. The mean over a distribution is
its entropy, the fewest bits with which one can write down what happens. Who expects :math:`q` instead of :math:`p`
pays

.. math:: H(p, q) = -\sum_c p_c \,\log_2\,q_c = H(p) + D(p \,\|\, q),

.. math:: H(p) = -\sum_c p_c \,\log_2\,p_c, \qquad D(p \,\|\, q) = \sum_c p_c \,\log_2 \frac{p_c}{q_c} \ge 0.

That is the cross-entropy: the entropy, which nobody can avoid, and the KL divergence, which is the price of being
wrong.
"""

import matplotlib.pyplot as plt
import numpy as np

import lossfast as lf

WORD = "HELLO"
letters = sorted(set(WORD), key=WORD.index)
p = np.array([WORD.count(letter) for letter in letters]) / len(WORD)
bits = lf.self_information(p, base=2)
entropy = float(lf.entropy(p, base=2))

codes = np.zeros(256)
codes[[ord(letter) for letter in letters]] = p
ascii_code = lf.cross_entropy_between(codes, np.full(256, 1 / 256), base=2)
wasted = lf.relative_entropy(codes, np.full(256, 1 / 256), base=2)

for letter, share, information in zip(letters, p, bits, strict=True):
    print(f"{letter}: probability {share:.1f}, {information:.3f} bits")
print(f"{WORD}: {entropy:.3f} bits a letter; in 8-bit ASCII {ascii_code:.3f}, of which {wasted:.3f} are wasted")

# %%
# Minimising one minimises the other, if the truth stays
# ------------------------------------------------------
#
# With a fixed truth :math:`p`, cross-entropy and KL divergence differ by the constant :math:`H(p)`. They have the same
# gradient along :math:`q`, and the same minimum. That is why classifiers can be trained with cross-entropy although
# what one wants is :math:`q = p`.
#
# If the truth moves too, as in distillation with a teacher that learns, or where a policy is pulled towards a
# reference, this fails: cross-entropy can then be lowered by making the truth *simpler* rather than the two alike.
# Here a coin :math:`p = (1 - \theta, \theta)` is to be brought to :math:`q = (0.7, 0.3)` by changing :math:`\theta`.

grid = np.linspace(0.005, 0.995, 199)
coins = np.stack([1 - grid, grid], axis=1)
coin = np.array([0.7, 0.3])


def parts(p, q):
    """Cross-entropy, entropy and KL divergence of all rows, in bits."""
    p, q = np.broadcast_to(p, coins.shape), np.broadcast_to(q, coins.shape)
    options = {"base": 2, "reduction": "none"}
    return lf.cross_entropy_between(p, q, **options), lf.entropy(p, base=2), lf.relative_entropy(p, q, **options)


cross, own, divergence = parts(coin, coins)
moving_cross, moving_own, moving_divergence = parts(coins, coin)
best = {
    "q moves": (float(grid[cross.argmin()]), float(grid[divergence.argmin()])),
    "p moves": (float(grid[moving_cross.argmin()]), float(grid[moving_divergence.argmin()])),
}
for what, (by_cross, by_divergence) in best.items():
    print(f"{what}: cross-entropy is least at {by_cross:.3f}, KL divergence at {by_divergence:.3f}")

# %%
# In both panels on the right the broad line is cross-entropy, entropy and divergence on top of each other. In the
# middle the entropy is a flat floor, and both have their minimum (dots) at 0.3. On the right the floor itself slopes:
# cross-entropy runs away to the coin that always falls on the same side.

figure, (word, fixed, moving) = plt.subplots(1, 3, width_ratios=(0.9, 1, 1))
word.bar(letters, bits, color="C0")
for place, value in enumerate(bits):
    word.annotate(f"{value:.2f}", (place, value), ha="center", va="bottom")
word.axhline(entropy, color="C1", linestyle="--")
word.annotate(f"mean:\n{entropy:.2f}", (2, entropy + 0.04), color="C1", va="bottom", ha="center")
word.set(title=f"{WORD}: information\nof each letter", ylabel="bits", ylim=(0, 2.7))
word.grid(False, axis="x")
for panel, (total, floor, rest), name, title in (
    (fixed, (cross, own, divergence), "q", "The model q moves:\none minimum"),
    (moving, (moving_cross, moving_own, moving_divergence), "p", "The truth p moves:\ntwo minima"),
):
    panel.fill_between(grid, floor, color="C2", alpha=0.25, linewidth=0)
    panel.fill_between(grid, floor, floor + rest, color="C3", alpha=0.25, linewidth=0)
    panel.plot(grid, total, color="C0", linewidth=3)
    panel.plot(grid[total.argmin()], total.min(), "o", color="C0", markersize=8)
    panel.plot(grid, rest, "--", color="C3")
    panel.plot(grid[rest.argmin()], 0, "o", color="C3", markersize=8, clip_on=False)
    panel.set(title=title, xlabel=f"θ of {name}", ylim=(0, 2.7))
fixed.annotate("cross-entropy", (0.62, 1.9), color="C0", ha="right")
fixed.annotate("entropy of p", (0.5, 0.62), color="C2", ha="center")
fixed.annotate("KL divergence", (0.53, 0.04), color="C3")
moving.annotate("cross-entropy", (0.6, 1.5), color="C0", ha="right")
moving.annotate("entropy of p", (0.5, 0.62), color="C2", ha="center")
moving.annotate("KL divergence", (0.53, 0.04), color="C3")
plt.show()

# %%
# Checks
# ------

assert round(entropy, 2) == 1.92 and round(ascii_code, 12) == 8
assert np.isclose(ascii_code, entropy + wasted)
assert np.allclose(cross, own + divergence) and np.allclose(moving_cross, moving_own + moving_divergence)
assert np.allclose(best["q moves"], 0.3)
assert np.allclose(best["p moves"], (grid[0], 0.3))
