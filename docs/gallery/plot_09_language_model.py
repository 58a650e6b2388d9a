r"""
9. A language model's score
===========================

**How is a model of text scored, and how much does it help to know one letter back?**

A language model gives each next letter a probability. Its score on a text is the mean cross-entropy of what was there,
and its *perplexity* is

.. math:: \mathrm{PPL} = \exp\Bigl(-\frac1N \sum_{i=1}^N \log\,p(x_i \mid x_1, \ldots, x_{i-1}) \Bigr),

the number of equally likely letters that would leave one in as much doubt. Three models are trained on the first four
fifths of :download:`a short story about guessing letters <guesses.txt>`, and scored on the last fifth: one that knows
nothing, one that knows how frequent letters are, and one that also sees the letter before.
"""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import lossfast as lf

ALPHABET = " abcdefghijklmnopqrstuvwxyz"
here = Path(__file__).parent if "__file__" in globals() else Path()
story = re.sub("[^a-z]+", " ", (here / "guesses.txt").read_text(encoding="utf-8").lower())
letters = np.array([ALPHABET.index(letter) for letter in story])
cut = len(letters) * 4 // 5
train, test = letters[:cut], letters[cut:]

# %%
# Training is gradient descent on cross-entropy
# ---------------------------------------------
#
# The bigram model is a table of logits, a row for each letter before. Rather than feed it one pair of letters at a
# time, all pairs with the same first letter are one row with a *soft label*, the shares of the letters that followed,
# and a ``sample_weight``, their number. ``label_smoothing`` leaves a grain of rice on every letter.

SMOOTHING = 0.02
size = len(ALPHABET)
pairs = np.zeros((size, size))
np.add.at(pairs, (train[:-1], train[1:]), 1)
weight = pairs.sum(1)
shares = pairs / np.maximum(weight, 1)[:, None]

table = np.zeros((size, size))
scores = []
for _ in range(3000):
    loss, gradient = lf.cross_entropy.value_and_grad(table, shares, sample_weight=weight, label_smoothing=SMOOTHING)
    scores.append(loss)
    table -= 4 * gradient * (weight.sum() / np.maximum(weight, 1))[:, None]  # rare letters learn as fast

# %%
# The minimum is known: probabilities in proportion to the (smoothed) counts. Its cross-entropy is how far gradient
# descent could have got.

exact = (1 - SMOOTHING) * shares + SMOOTHING / size
gap = lf.kl_div(lf.log_softmax(table), exact, sample_weight=weight)
print(f"{len(train)} letters to learn from, {len(test)} to be scored on")
print(f"gradient descent is {gap:.1e} above the least cross-entropy there is\n")

counts = np.bincount(train, minlength=size)
single = np.log((1 - SMOOTHING) * counts + SMOOTHING * counts.sum() / size)
models = {
    "knows nothing": np.zeros((size, size)),
    "frequencies": np.broadcast_to(single, (size, size)),
    "letter before": table,
}
report = {
    name: {part: lf.perplexity(logits[text[:-1]], text[1:]) for part, text in (("train", train), ("test", test))}
    for name, logits in models.items()
}
print(f"{'':<14} {'perplexity: seen':>17} {'unseen':>7} {'bits a letter, unseen':>22}")
for name, found in report.items():
    print(f"{name:<14} {found['train']:>17.2f} {found['test']:>7.2f} {np.log2(found['test']):>22.3f}")

# %%
# A text in pieces
# ----------------
#
# Perplexities of pieces cannot be averaged. What ``reduce`` gives for each can be added, and the sum has the whole's.

before, after = test[:-1], test[1:]
pieces = [lf.cross_entropy.reduce(table[before[part]], after[part]) for part in (slice(0, 300), slice(300, None))]
whole = pieces[0] + pieces[1]
print(f"two pieces: {pieces[0].perplexity:.4f} and {pieces[1].perplexity:.4f}; together {whole.perplexity:.4f}")

# %%
# Left, what the bigram model has learnt: a row for each letter, the darker the likelier what follows. Right: on letters
# it has not seen, it is in doubt between about as many as the last bar says. The gap between pale and full bars is what
# it knows by heart only, and grows with what a model can remember.

figure, (learnt, bars) = plt.subplots(1, 2, figsize=(8.6, 4.2), width_ratios=(1.05, 1))
learnt.imshow(lf.softmax(table), cmap="Blues", vmin=0, vmax=0.6)
names = ["␣", *ALPHABET[1:]]
learnt.set_xticks(range(size), names, fontsize=7.5)
learnt.set_yticks(range(size), names, fontsize=7.5)
learnt.tick_params(length=0)
learnt.grid(False)
learnt.spines[:].set_visible(False)
learnt.set(title="Probability of the next letter", ylabel="letter before", xlabel="next letter")
for place, found in enumerate(report.values()):
    bars.barh(place - 0.19, found["train"], 0.34, color="C0", alpha=0.4)
    bars.barh(place + 0.19, found["test"], 0.34, color="C0")
    bars.annotate(f" {found['train']:.1f}  seen", (found["train"], place - 0.19), va="center")
    bars.annotate(f" {found['test']:.1f}  unseen", (found["test"], place + 0.19), va="center")
bars.set_yticks(range(3), report)
bars.invert_yaxis()
bars.set(title="Perplexity", xlim=(0, 36))
bars.grid(False, axis="y")
bars.tick_params(axis="y", length=0)
plt.show()

# %%
# Checks
# ------

unseen = [found["test"] for found in report.values()]
assert np.isclose(unseen[0], size)
assert unseen[0] > unseen[1] > unseen[2]
assert report["letter before"]["train"] < report["letter before"]["test"]
assert np.isclose(report["frequencies"]["train"], np.exp(lf.entropy(counts / counts.sum())), rtol=0.02)
assert 0 <= gap < 1e-3
assert np.isclose(whole.perplexity, report["letter before"]["test"], rtol=1e-12)
assert (np.diff(scores) < 1e-12).all()
