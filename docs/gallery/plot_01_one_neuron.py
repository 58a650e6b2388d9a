r"""
1. One neuron, two costs
========================

**Why does a neuron that is badly wrong learn slowly from the squared error, and not from cross-entropy?**

One input :math:`x = 1`, one weight and one bias, and a sigmoid output that ought to be :math:`y = 0`:

.. math:: a = \sigma(z), \qquad z = w x + b.

The slopes of the two costs along :math:`z` differ by one factor:

.. math::
    \frac{\partial}{\partial z} \, \tfrac{1}{2} (a - y)^2 = (a - y) \, \sigma'(z), \qquad
    \frac{\partial}{\partial z} \bigl[-y \,\log\,a - (1 - y) \log (1 - a)\bigr] = a - y.

Where the neuron is sure, :math:`\sigma'(z) = a (1 - a)` is nearly 0, *whether it is right or wrong*. The squared error
then hardly tells it to move. Plain gradient descent from two starts, one wrong and one very wrong, shows it.
"""

import matplotlib.pyplot as plt
import numpy as np

import lossfast as lf

COSTS = {"quadratic": lf.quadratic_sigmoid_loss, "cross-entropy": lf.binary_cross_entropy_with_logits}
STARTS = {"wrong": (0.6, 0.9), "very wrong": (2.0, 2.0)}
INPUT, WANTED, RATE, STEPS = 1.0, 0.0, 0.15, 300


def learn(cost, w, b):
    """Logits and costs before each step and after the last."""
    logits, costs = [], []
    for _ in range(STEPS + 1):
        z = w * INPUT + b
        value, slope = cost.value_and_grad(z, WANTED)
        logits.append(z)
        costs.append(value)
        w, b = w - RATE * slope * INPUT, b - RATE * slope
    return np.array(logits), np.array(costs)


runs = {(name, start): learn(cost, *STARTS[start]) for name, cost in COSTS.items() for start in STARTS}
first = {run: float(lf.sigmoid(logits[0])) for run, (logits, _) in runs.items()}
last = {run: float(lf.sigmoid(logits[-1])) for run, (logits, _) in runs.items()}

print(f"{'cost':<15} {'start':<11} {'output at first':>15} {'after 300 steps':>16}")
for name, start in runs:
    print(f"{name:<15} {start:<11} {first[name, start]:>15.4f} {last[name, start]:>16.4f}")

# %%
# Solid lines start wrong, dashed ones very wrong. Under the quadratic cost the worse start stays put for 150 steps;
# under cross-entropy both outputs are below 0.1 within 60. The last panel says why: far on the right, where the output
# is 1 and should be 0, the quadratic cost's slope dies and that of cross-entropy is at its steepest.

figure, (outputs, costs, slopes) = plt.subplots(1, 3)
for colour, name in zip(("C1", "C0"), COSTS, strict=True):
    for dash, start in zip(("-", "--"), STARTS, strict=True):
        logits, values = runs[name, start]
        outputs.plot(lf.sigmoid(logits), dash, color=colour)
        costs.plot(values, dash, color=colour)
outputs.annotate("quadratic", (90, 0.5), color="C1")
arrow = {"arrowstyle": "-", "color": "C0", "linewidth": 0.8}
outputs.annotate("cross-entropy", (52, 0.085), (120, 0.3), color="C0", arrowprops=arrow)
outputs.set(title="Output (0 is right)", xlabel="step", ylim=(-0.02, 1.02))
costs.annotate("cross-entropy,\nvery wrong", (12, 3.3), color="C0")
costs.annotate("quadratic", (190, 0.42), color="C1")
costs.set(title="Cost", xlabel="step")

z = np.linspace(-7, 7, 281)
for colour, cost in zip(("C1", "C0"), COSTS.values(), strict=True):
    slopes.plot(z, cost.grad(z, WANTED, reduction="sum"), color=colour)
slopes.annotate("cross-entropy:\na - y", (-7, 0.7), color="C0")
slopes.annotate("quadratic:\n(a - y) σ'(z)", (7.2, 0.12), color="C1", ha="right")
slopes.set(title="Slope along z", xlabel="z")
plt.show()

# %%
# The other way round
# -------------------
#
# Suppose that we did not know cross-entropy, and asked for a cost :math:`C(a)` whose slope along :math:`z` is the error
# itself. That is :math:`C'(a)\,\sigma'(z) = a - y`, and as :math:`\sigma'(z) = a(1 - a)`,
#
# .. math:: C'(a) = \frac{a - y}{a (1 - a)}
#     \quad\Longrightarrow\quad C(a) = -y \,\log\,a - (1 - y) \log(1 - a) + \text{const}.
#
# Integrating the left-hand side numerically gives what `lossfast.binary_cross_entropy` computes.

a = np.linspace(0.001, 0.999, 20_001)
integrals = {}
for y in (0.0, 1.0):
    slope = (a - y) / (a * (1 - a))
    middle = (a[1:] + a[:-1]) / 2
    simpson = (slope[1:] + 4 * (middle - y) / (middle * (1 - middle)) + slope[:-1]) / 6
    integrals[y] = np.concatenate([[0], np.cumsum(simpson * np.diff(a))])
known = {y: lf.binary_cross_entropy(a, y, reduction="none") for y in integrals}
difference = max(np.ptp(integrals[y] - known[y]) for y in integrals)
print(f"integral and cross-entropy differ by a constant, but for {difference:.1e}")

# %%
# And if the output is linear?
# ----------------------------
#
# With :math:`a = z` there is no :math:`\sigma'` to get rid of: the slope of :math:`\tfrac{1}{2} (a - y)^2` is already
# :math:`a - y`, and the quadratic cost is the right one. However wrong the start, the error shrinks at one rate.

figure, (derived, linear) = plt.subplots(1, 2, figsize=(8.6, 3.1))
for y, colour in zip(integrals, ("C0", "C2"), strict=True):
    offset = known[y][0] - integrals[y][0]
    derived.plot(a, known[y], color=colour, alpha=0.35, linewidth=6)
    derived.plot(a, integrals[y] + offset, color=colour, linestyle="--")
derived.annotate("y = 1", (0.13, 2.6), color="C2")
derived.annotate("y = 0", (0.87, 2.6), color="C0", ha="right")
derived.set(title="∫ (a - y) / (a (1 - a)) da, dashed,\non cross-entropy, broad", xlabel="output a", ylim=(0, 5))

errors = {}
for start, (w, b) in STARTS.items():
    w_and_b, errors[start] = np.array([w, b]), []
    for _ in range(31):
        output = w_and_b.sum() * INPUT
        errors[start].append(output - WANTED)
        w_and_b -= RATE * lf.half_squared_error.grad(output, WANTED) * np.array([INPUT, 1.0])
    linear.semilogy(errors[start], "-" if start == "wrong" else "--", color="C1", label=start)
linear.legend()
linear.set(title="Linear output, quadratic cost:\nboth starts learn at one rate", xlabel="step", ylabel="error")
plt.show()

# %%
# Checks
# ------

shrinking = {start: np.array(error[1:]) / error[:-1] for start, error in errors.items()}
assert round(first["quadratic", "wrong"], 2) == 0.82 and round(last["quadratic", "wrong"], 2) == 0.09
assert round(first["quadratic", "very wrong"], 2) == 0.98 and round(last["quadratic", "very wrong"], 2) == 0.20
assert all(abs(last["cross-entropy", start] - 0.012) < 0.001 for start in STARTS)
assert difference < 1e-7
assert all(np.allclose(shrink, 1 - 2 * RATE) for shrink in shrinking.values())
