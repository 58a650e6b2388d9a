"""What is exactly right: pointwise losses and rows in arbitrary precision, and errors in units in the last place."""

from __future__ import annotations

import functools
import itertools
import math
from types import FunctionType

import mpmath
import numpy as np

mp = mpmath.mp.clone()
mp.prec = 1500  # a gap of 745 between logits takes 1075 bits


def exact(x):
    return mp.mpf(float(x))


def ulp(value, dtype):
    """The spacing of the dtype at an exact number."""
    info = np.finfo(dtype)
    if value == 0:
        return mp.mpf(float(info.smallest_subnormal))
    exponent = max(mp.frexp(mp.mpf(value))[1] - 1, info.minexp)
    return mp.ldexp(1, exponent - info.nmant)


def off_by(got, true, scale, dtype):
    """The error in ULP of the result, or of the terms whose difference it is (``scale``, 0 where nothing cancels)."""
    got = float(got)
    if mp.isnan(true):
        return 0.0 if math.isnan(got) else math.inf
    if abs(true) > np.finfo(dtype).max:
        true = mp.inf if true > 0 else -mp.inf
    if mp.isinf(true):
        return 0.0 if got == float(true) else math.inf
    if not math.isfinite(got):
        return math.inf
    return float(abs(exact(got) - true) / max(ulp(true, dtype), ulp(scale, dtype)))


# ------------------------------------------------------------------------------------------------ exact results


def exact_pointwise(loss, x, t, q, parameters):
    """(value, gradient, Hessian) and the sums of absolute terms where they cancel."""
    x, t, q = exact(x), exact(t), exact(q)
    d, zero = x - t, mp.mpf(0)
    a, sign = abs(d), mp.sign(d)
    if loss == "l1_loss":
        return (a, sign, zero), (0, 0, 0)
    if loss == "mse_loss":
        return (d * d, 2 * d, mp.mpf(2)), (0, 0, 0)
    if loss == "smooth_l1_loss":
        beta = exact(parameters[0])
        if a < beta:
            return (a * a / beta / 2, d / beta, 1 / beta), (0, 0, 0)
        return (a - beta / 2, sign, zero), (0, 0, 0)
    if loss == "huber_loss":
        delta = exact(parameters[0])
        if a <= delta:
            return (a * a / 2, d, mp.mpf(1)), (0, 0, 0)
        return (delta * (a - delta / 2), delta * sign, zero), (0, 0, 0)
    if loss == "self_information":
        unit = exact(parameters[0])
        if x < 0:
            return (mp.nan, mp.nan, mp.nan), (0, 0, 0)
        if x == 0:  # the limits from above
            return (mp.sign(unit) * mp.inf, -mp.sign(unit) * mp.inf, mp.sign(unit) * mp.inf), (0, 0, 0)
        return (-unit * mp.log(x), -unit / x, unit / x**2), (0, 0, 0)
    if loss in DIFFERENCES:
        with mp.workprec(4000):  # 1 and the square of a subnormal number
            return DIFFERENCES[loss](d, t, *map(exact, parameters))
    if loss in MARGINS:
        return MARGINS[loss](x, t, *map(exact, parameters)), (0, 0, 0)
    if loss not in ("sigmoid", "log_sigmoid", "binary_cross_entropy_with_logits", "quadratic_sigmoid_loss"):
        raise NotImplementedError(f"no second formula is written down for {loss}")
    yes, no = 1 / (1 + mp.exp(-x)), 1 / (1 + mp.exp(x))
    if loss == "sigmoid":
        return (yes, yes * no, yes * no * (no - yes)), (0, 0, 0)
    if loss == "quadratic_sigmoid_loss":
        r, slope, bend = yes - t, yes * no, no - yes
        terms = 0 if 0 in (t, 1 - t) else abs((1 - t) * yes) + abs(t * no)
        sizes = terms * abs(r), terms * slope, slope * (slope + (abs((1 - t) * yes) + abs(t * no)) * abs(bend))
        if t == 1:
            r = -no
        return (r**2 / 2, r * slope, slope * (slope + r * bend)), sizes
    if loss == "log_sigmoid":
        return (-mp.log1p(mp.exp(-x)), no, -yes * no), (0, 0, 0)
    terms = (1 - t) * yes, q * t * no
    value = (1 - t) * mp.log1p(mp.exp(x)) + q * t * mp.log1p(mp.exp(-x))
    grad_scale = 0 if 0 in terms else abs(terms[0]) + abs(terms[1])
    return (value, terms[0] - terms[1], (1 - t + q * t) * yes * no), (0, grad_scale, 0)


NONE = 0, 0, 0


def pinball(d, t, quantile):
    slope = max(-quantile, 1 - quantile, key=lambda slope: slope * d)
    return (slope * d, slope if d else 0, 0), NONE


def expectile(d, t, level):
    weight = abs(level - (1 if d > 0 else mp.mpf(1) / 2 if d == 0 else 0))
    return (weight * d**2, 2 * weight * d, 2 * weight if d else mp.mpf(1)), NONE


def tube(power):
    def loss(d, t, epsilon):
        r = max(abs(d) - epsilon, 0)
        if power == 1:
            return (r, mp.sign(d) if r else 0, 0), NONE
        return (r**2, 2 * r * mp.sign(d), 2 if r else 0), NONE

    return loss


def pseudo_huber(d, t, delta):
    root = mp.sqrt(1 + (d / delta) ** 2)
    return (delta**2 * (root - 1), d / root, root**-3), NONE


def tukey(d, t, c):
    v = (d / c) ** 2
    if v >= 1:
        return (c**2 / 6, 0, 0), NONE
    return (c**2 / 6 * (1 - (1 - v) ** 3), d * (1 - v) ** 2, (1 - v) * (1 - 5 * v)), (0, 0, (1 - v) * (1 + 5 * v))


#: Losses of the difference (and the target): results, and the sizes of the terms that cancel.
DIFFERENCES = {
    "half_squared_error": lambda d, t: ((d**2 / 2, d, 1), NONE),
    "pinball_loss": pinball,
    "expectile_loss": expectile,
    "epsilon_insensitive_loss": tube(1),
    "squared_epsilon_insensitive_loss": tube(2),
    "pseudo_huber_loss": pseudo_huber,
    "tukey_loss": tukey,
    "mape": lambda d, t: ((abs(d / t), mp.sign(d) / abs(t), 0), NONE),
}


def modified_huber(x, t):
    m = t * x
    if m < -1:
        return -4 * m, -4 * t, 0
    return max(1 - m, 0) ** 2, -2 * t * max(1 - m, 0), 2 if m < 1 else 0


#: Losses of a score and an answer of -1 or 1.
MARGINS = {
    "hinge_loss": lambda x, t: (max(1 - t * x, 0), -t if t * x < 1 else 0, 0),
    "squared_hinge_loss": lambda x, t: (max(1 - t * x, 0) ** 2, -2 * t * max(1 - t * x, 0), 2 if t * x < 1 else 0),
    "modified_huber_loss": modified_huber,
    "hinge_embedding_loss": lambda x, t, margin: (
        (x, 1, 0) if t == 1 else (max(margin - x, 0), -1 if x < margin else 0, 0)
    ),
    "zero_one_loss": lambda x, t: (int(mp.sign(x) != t), 0, 0),
}


def exact_row(job, row):
    """Every output of one row, as {name: (value or list, scale or list)}."""
    x = [exact(v) for v in job.logits[row]]
    C = len(x)
    there = [True] * C if job.where is None else [bool(v) for v in job.where[row]]
    b = [mp.mpf(1)] * C if job.b is None else [exact(v) for v in job.b[row]]
    T, s = exact(job.temperature), exact(job.scale)
    sw = mp.mpf(1) if job.sample_weight is None else exact(job.sample_weight[row])
    cw = [mp.mpf(1)] * C if job.class_weight is None else [exact(v) for v in job.class_weight]
    eps, zl, ridge = exact(job.label_smoothing), exact(job.z_loss), exact(job.ridge)
    classes = [c for c in range(C) if there[c]]
    top = max(x[c] for c in classes)
    m = top / T
    e = [b[c] * mp.exp((x[c] - top) / T) if there[c] else mp.mpf(0) for c in range(C)]
    S = mp.fsum(e)
    p = [v / S for v in e]
    q = [(S - u) / S for u in e]
    lse = m + mp.log(abs(S))
    a = [lse - x[c] / T if there[c] else mp.inf for c in range(C)]
    v = None if job.v is None else [exact(u) for u in np.atleast_1d(job.v[row])]
    if v and job.v.ndim == 2:
        v = [u if inside else mp.mpf(0) for u, inside in zip(v, there, strict=True)]
    out = {
        "lse": (lse, abs(m) if abs(lse) < abs(m) or job.b is not None else 0),
        "sign": (mp.sign(S), 0),
        "proba": (p, [0] * C),
        "log_proba": ([-u for u in a], [0] * C),
        "entropy": (mp.fsum(p[c] * a[c] for c in classes), 0),
        "pred": (next(c for c in classes if x[c] == top), 0),
    }
    if job.b is not None:
        size = mp.fsum(abs(u) for u in e) / abs(S)
        out["lse"] = (lse, max(abs(m), 1, size))
        out["proba"] = (p, [abs(u) * size for u in p] if size > 1 else [0] * C)
    if job.loss == "logsumexp":
        if v and job.v.ndim == 1:
            out["vjp"] = ([u * v[0] for u in p], out["proba"][1])
        elif v:
            terms = [p[c] * v[c] for c in range(C)]
            size = mp.fsum(abs(u) for u in e) / abs(S)
            out["row_jvp"] = (mp.fsum(terms), size * mp.fsum(abs(u) for u in terms))
        return out
    pv = mp.fsum(p[c] * v[c] for c in range(C)) if v else None
    size_v = [abs(v[c]) + mp.fsum(p[j] * abs(v[j]) for j in range(C)) for c in range(C)] if v else None
    if job.loss == "softmax" and v:
        out["vjp"] = out["jvp"] = ([p[c] * (v[c] - pv) / T for c in range(C)], [p[c] * size_v[c] / T for c in range(C)])
    if job.loss == "log_softmax" and v:
        all_v, size = mp.fsum(v), mp.fsum(abs(u) for u in v)
        out["vjp"] = ([(v[c] - p[c] * all_v) / T for c in range(C)], [(abs(v[c]) + p[c] * size) / T for c in range(C)])
        out["jvp"] = ([(v[c] - pv) / T for c in range(C)], [size_v[c] / T for c in range(C)])
    if job.logits_q is not None:
        del out["pred"]  # nothing to compare it with
        return {**out, **compared_rows(job, row, classes, p, a, v, pv, size_v)}
    if job.labels is None and job.target is None:
        return out
    if job.loss == "multiclass_hinge_loss":
        return hinge_row(job, row, x, classes, cw, s, sw)
    hard = job.labels is not None
    y = int(job.labels[row]) if hard else int(np.argmax(job.target[row]))
    t = [mp.mpf(c == y) for c in range(C)] if hard else [exact(u) for u in job.target[row]]
    if eps:
        t = [(1 - eps) * t[c] + (eps / len(classes) if there[c] else 0) for c in range(C)]
    w = [cw[c] * t[c] for c in range(C)]
    W = mp.fsum(w)
    f, f2 = s * sw / T, s * sw / T**2
    others = [x[c] for c in classes if c != y]
    out["correct"] = (int(out["pred"][0] == y), 0)
    out["rank"] = (sum(u > x[y] for u in others), 0)
    out["margin"] = (x[y] - max(others) if others else mp.inf, 0)
    if job.loss in PROFILES:
        return {**out, **profiled_row(job, p, q, a, w, f, f2, sw)}
    if job.loss == "quadratic_softmax_loss":
        d = [-q[c] if t[c] == 1 else p[c] - t[c] for c in range(C)]
        u = [2 * p[c] - t[c] for c in range(C)]
        D, U = mp.fsum(p[c] * d[c] for c in range(C)), mp.fsum(p[c] * u[c] for c in range(C))
        # a soft target's p - t may cancel as well
        abs_d = [abs(d[c]) if hard else p[c] + abs(t[c]) for c in range(C)]
        abs_u = [abs(u[c]) if hard else 2 * p[c] + abs(t[c]) for c in range(C)]
        size_d, size_u = (mp.fsum(p[c] * g[c] for c in range(C)) for g in (abs_d, abs_u))
        k = s * sw * W
        out["loss"] = (sw * W * mp.fsum(d[c] ** 2 for c in range(C)) / 2, 0 if hard else sw * W)
        out["grad"] = (
            [k / T * p[c] * (d[c] - D) for c in range(C)],
            [abs(k / T * p[c]) * (abs_d[c] + size_d) for c in range(C)],
        )
        parts = [q[c] * (d[c] - D) + p[c] * q[c] - p[c] * (u[c] - U) for c in range(C)]
        out["hess"] = (
            [k / T**2 * p[c] * parts[c] for c in range(C)],
            [abs(k / T**2) * p[c] * (q[c] * (abs_d[c] + size_d + p[c]) + p[c] * (abs_u[c] + size_u)) for c in range(C)],
        )
        if v:
            g = [p[c] * (v[c] - pv) for c in range(C)]
            gu = mp.fsum(g[c] * u[c] for c in range(C))
            size = mp.fsum(p[c] * size_v[c] * (abs_u[c] + size_u) for c in range(C))
            out["hvp"] = (
                [k / T**2 * (g[c] * (d[c] - D) + p[c] * (g[c] - gu)) for c in range(C)],
                [abs(k / T**2) * p[c] * (size_v[c] * (abs_d[c] + size_d + p[c]) + size) for c in range(C)],
            )
        return out
    soft = not hard or eps > 0
    A = W + 2 * zl * lse
    a_w = [w[c] * a[c] if w[c] else mp.mpf(0) for c in range(C)]
    signs = any(u < 0 for u in w)
    out["loss"] = (sw * (mp.fsum(a_w) + zl * lse**2), sw * mp.fsum(abs(u) for u in a_w) if signs else 0)
    grad = [f * (2 * zl * lse * p[c] + (-W * q[c] if w[c] == W else W * p[c] - w[c])) for c in range(C)]
    loose = soft or zl
    grad_size = [abs(f) * (abs(p[c] * W) + abs(w[c]) + abs(2 * zl * lse * p[c])) if loose else 0 for c in range(C)]
    out["grad"] = (grad, grad_size)
    hess = [f2 * (p[c] * q[c] * A + 2 * zl * p[c] ** 2) for c in range(C)]
    out["hess"] = (
        hess,
        [abs(f2) * (p[c] * q[c] * (abs(W) + abs(A - W)) + 2 * zl * p[c] ** 2) if zl else 0 for c in range(C)],
    )
    raw = [x[c] - top for c in range(C)]
    terms = [w[c] * raw[c] if w[c] else 0 for c in range(C)] + [-W * p[c] * raw[c] for c in classes]
    terms += [-2 * zl * lse * p[c] * x[c] for c in classes]
    out["grad_temperature"] = (f2 * mp.fsum(terms), abs(f2) * mp.fsum(abs(u) for u in terms))
    mean = mp.fsum(p[c] * x[c] for c in classes)
    bends = [f2 / T**2 * A * mp.fsum(p[c] * (x[c] - mean) ** 2 for c in classes), f2 / T**2 * 2 * zl * mean**2]
    bends += [-2 / T * f2 * u for u in terms]
    out["hess_temperature"] = (mp.fsum(bends), mp.fsum(abs(u) for u in bends))
    out["grad_target"] = ([s * sw * cw[c] * (1 - eps) * a[c] for c in range(C)], [0] * C)
    if v:
        A2, z2 = f2 * A, f2 * 2 * zl
        out["hvp"] = (
            [A2 * p[c] * (v[c] - pv) + z2 * p[c] * pv for c in range(C)],
            [abs(A2) * p[c] * size_v[c] + z2 * p[c] * abs(pv) for c in range(C)],
        )
    if ridge:
        a2 = f2 * A
        D = [a2 * p[c] + ridge for c in range(C)]
        G = mp.fsum(p[c] * grad[c] / D[c] for c in range(C))
        z2 = f2 * 2 * zl
        den = ridge * mp.fsum(p[c] / D[c] for c in range(C)) + z2 * mp.fsum(p[c] ** 2 / D[c] for c in range(C))
        pull = (z2 - a2) * G / den
        size = [(max(abs(grad[c]), grad_size[c]) + abs(pull * p[c])) / abs(D[c]) for c in range(C)]
        out["newton_step"] = ([-(grad[c] - pull * p[c]) / D[c] for c in range(C)], [2 * max(size)] * C)
    return out


def focal(a, p, u, gamma, alpha):
    """F, F', F'' and the size of the terms of F''."""
    by = 1 if math.isnan(alpha) else alpha
    if u == 0:  # p is 1
        return mp.mpf(0), by * mp.mpf(gamma == 0), mp.mpf(0), mp.mpf(0)
    first = by * (u**gamma + gamma * u ** (gamma - 1) * p * a)
    terms = (2 * gamma * u ** (gamma - 1) * p, -gamma * u ** (gamma - 1) * p * a)
    terms += (gamma * (gamma - 1) * u ** (gamma - 2) * p**2 * a,)
    return by * u**gamma * a, first, by * mp.fsum(terms), by * mp.fsum(map(abs, terms))


def poly(a, p, u, epsilon):
    return a + epsilon * u, 1 + epsilon * p, -epsilon * p, abs(epsilon) * p


def generalized(a, p, u, q):
    return (1 - p**q) / q if q else a, p**q, -q * p**q, q * p**q


#: The losses that are a function of the true class's probability.
PROFILES = {"focal_loss": focal, "poly_loss": poly, "generalized_cross_entropy": generalized}


def profiled_row(job, p, q, a, w, f, f2, sw):
    """Value, gradient and Hessian as sums over the classes, each with a loss of its own."""
    C, own = len(p), tuple(map(exact, job.params))
    each = [PROFILES[job.loss](a[c], p[c], q[c], *own) if w[c] else (mp.mpf(0),) * 4 for c in range(C)]
    alone = sum(u != 0 for u in w) == 1
    off = [[p[c] if c != j else -q[c] for c in range(C)] for j in range(C)]  # p - one_hot(j)
    grad = [mp.fsum(w[j] * each[j][1] * off[j][c] for j in range(C)) for c in range(C)]
    hess, size = [], []
    for c in range(C):
        terms = [(w[j] * each[j][2] * off[j][c] ** 2, w[j] * each[j][1] * p[c] * q[c]) for j in range(C)]
        hess.append(f2 * mp.fsum(u + v for u, v in terms))
        size.append(abs(f2) * mp.fsum(abs(w[j]) * each[j][3] * off[j][c] ** 2 + abs(terms[j][1]) for j in range(C)))
    slopes = [abs(w[j] * each[j][1]) for j in range(C)]
    sizes = [p[c] * mp.fsum(slopes) + slopes[c] for c in range(C)]
    return {
        "loss": (sw * mp.fsum(w[c] * each[c][0] for c in range(C)), 0),
        "grad": ([f * g for g in grad], [0 if alone else abs(f) * g for g in sizes]),
        "hess": (hess, size),
    }


def hinge_row(job, row, x, classes, cw, s, sw):
    """Of multiclass_hinge_loss, all of it; nothing cancels but in the margins, which are taken without rounding."""
    worst, margin, p = job.params[0] == 0, exact(job.params[1]), 2 if job.params[2] else 1
    y, C = int(job.labels[row]), len(x)
    h = [max(mp.mpf(0), margin - x[y] + x[c]) if c in classes and c != y else mp.mpf(0) for c in range(C)]
    if worst:
        h = [u if c == h.index(max(h)) else mp.mpf(0) for c, u in enumerate(h)]
    unit = sw * cw[y] / (1 if worst else len(classes))
    grad = [unit * p * u ** (p - 1) if u > 0 else mp.mpf(0) for u in h]
    hess = [unit * p * (p - 1) if u > 0 else mp.mpf(0) for u in h]
    grad[y], hess[y] = -mp.fsum(grad), mp.fsum(hess)
    out = {"loss": unit * mp.fsum(u**p for u in h), "grad": [s * u for u in grad], "hess": [s * u for u in hess]}
    return {name: (true, [0] * C if name != "loss" else 0) for name, true in out.items()}


def compared_rows(job, row, classes, p, a, v, pv, size_v):
    """What `exact_row` says of the outputs that take two softmaxes, p with ``a = -log p``, and that of ``logits_q``."""
    C, T = len(p), exact(job.temperature)
    s, sw = exact(job.scale), mp.mpf(1) if job.sample_weight is None else exact(job.sample_weight[row])
    x, y = ([exact(u) for u in array[row]] for array in (job.logits, job.logits_q))
    most_x, most_y = (max(z[c] for c in classes) for z in (x, y))
    e = [mp.exp((y[c] - most_y) / T) if c in classes else mp.mpf(0) for c in range(C)]
    total = mp.fsum(e)
    q = [u / total for u in e]
    b = [mp.log(total) + (most_y - y[c]) / T if c in classes else mp.mpf(0) for c in range(C)]
    r = [b[c] - a[c] if c in classes else mp.mpf(0) for c in range(C)]  # log p - log q
    D, size = mp.fsum(p[c] * r[c] for c in classes), mp.fsum(p[c] * abs(r[c]) for c in classes)
    f, f2 = s * sw / T, s * sw / T**2
    d, abs_d = [u - D for u in r], [abs(u) + size for u in r]
    out = {
        "loss": (sw * D, 0),
        "grad": ([f * p[c] * d[c] for c in range(C)], [abs(f) * p[c] * abs_d[c] for c in range(C)]),
        "grad_target": ([f * (q[c] - p[c]) for c in range(C)], [abs(f) * max(p[c], q[c]) * size for c in range(C)]),
        "hess": (
            [f2 * p[c] * ((1 - 2 * p[c]) * d[c] + 1 - p[c]) for c in range(C)],
            [abs(f2) * p[c] * (abs_d[c] + 1 - p[c]) for c in range(C)],
        ),
    }
    terms = [p[c] * d[c] * (most_x - x[c]) for c in classes] + [(q[c] - p[c]) * (most_y - y[c]) for c in classes]
    sizes = [p[c] * abs_d[c] * (most_x - x[c]) for c in classes] + [abs(u) for u in terms[len(classes) :]]
    out["grad_temperature"] = (f2 * mp.fsum(terms), abs(f2) * mp.fsum(sizes))
    if v:
        w = [v[c] - pv for c in range(C)]
        along, size = (mp.fsum(p[c] * u[c] * g[c] for c in range(C)) for u, g in ((d, w), (abs_d, size_v)))
        out["hvp"] = (
            [f2 * p[c] * (w[c] * (1 + d[c]) - along) for c in range(C)],
            [abs(f2) * p[c] * (size_v[c] * (1 + abs_d[c]) + size) for c in range(C)],
        )
    return out


def exact_entries(loss, x, t=None, options=None):
    """Every output of a row of a sum over entries, as {name: (list, scales)}: ``t`` is a label, a list, or None."""
    options, C = options or {}, len(x)
    t = [mp.mpf(c == t) for c in range(C)] if isinstance(t, int) else [mp.mpf(0)] * C if t is None else t
    if loss.of == "pairs":
        return exact_pairs(x, t, exact(options.get("margin", 1)))
    w = [exact(u) for u in options.get("class_weight", np.ones(C))]
    unit = 1 / mp.log(exact(options["base"])) if options.get("base") else mp.mpf(1)
    unit /= C if loss.average else 1
    rows = [exact_entry(loss, a, b, options) for a, b in zip(x, t, strict=True)]
    values, sizes = zip(*((value, max(abs(value), size)) for (value, size), *_ in rows), strict=True)
    weighed = [mp.fsum(u * v for u, v in zip(w, terms, strict=True)) * unit for terms in (values, sizes)]
    out = {"value": ([weighed[0]], [abs(weighed[1])])}
    for place, name in enumerate(("grad", "hess", "grad_target"), 1):
        pairs = [(u * unit * row[place][0], abs(u * unit) * row[place][1]) for u, row in zip(w, rows, strict=True)]
        out[name] = tuple(map(list, zip(*pairs, strict=True)))
    return out


def exact_pairs(x, t, margin):
    """The same of `multilabel_margin_loss`: each class that the row has with each that it has not."""
    C = len(x)
    value, grad, count = mp.mpf(0), [mp.mpf(0)] * C, mp.mpf(C)
    for j, i in itertools.product(range(C), repeat=2):
        if t[j] != 0 and t[i] == 0 and margin - x[j] + x[i] > 0:
            value += margin - x[j] + x[i]
            grad[i] += 1 / count
            grad[j] -= 1 / count
    return {"value": ([value / C], [0]), "grad": (grad, [0] * C), "hess": ([mp.mpf(0)] * C, [0] * C)}


def exact_entry(kind, x, t, options):
    """(value, size), the same of the derivatives: first and second in x, first in t; sizes where terms cancel."""
    one, zero, loss = mp.mpf(1), mp.mpf(0), kind.name
    if loss == "categorical_cross_entropy":
        eps = options.get("eps")
        cut = eps is not None and x < exact(eps)
        p, flat = exact(eps) if cut else x, cut or t == 0
        return (-t * mp.log(p), 0), (zero if flat else -t / p, 0), (zero if flat else t / p**2, 0), (-mp.log(p), 0)
    if loss == "kl_div":
        q, log_q = (mp.exp(t), t) if options.get("log_target") else (t, mp.log(t))
        d, size, by = log_q - x, abs(log_q) + abs(x), q if options.get("log_target") else one
        return (q * d, q * size), (-q, 0), (zero, 0), (by * (d + 1), by * (size + 1))
    if loss == "js_div":
        m = (x + t) / 2
        value = (x * mp.log(x / m) + t * mp.log(t / m)) / 2
        return (value, 0), (mp.log(x / m) / 2, 0), (t / (4 * x * m), 0), (mp.log(t / m) / 2, 0)
    if loss == "entropy":
        return (-x * mp.log(x), 0), (-mp.log(x) - 1, abs(mp.log(x)) + 1), (-1 / x, 0), (zero, 0)
    if loss == "cross_entropy_between":
        return (-x * mp.log(t), 0), (-mp.log(t), 0), (zero, 0), (-x / t, 0)
    if loss == "relative_entropy":
        d = mp.log(x / t)
        return (x * d, x * abs(d)), (d + 1, abs(d) + 1), (1 / x, 0), (-x / t, 0)
    if loss != "multilabel_soft_margin_loss":  # no second formula is written down
        plain = {name: value for name, value in options.items() if name in kind.parameters and name != "base"}
        return tuple(zip(twin_entry(kind, x, t, plain), terms_entry(kind, x, t, plain), strict=True))
    yes, no = 1 / (1 + mp.exp(-x)), 1 / (1 + mp.exp(x))
    value = (1 - t) * mp.log1p(mp.exp(x)) + t * mp.log1p(mp.exp(-x))
    return (value, 0), ((1 - t) * yes - t * no, 0 if t in (0, 1) else (1 - t) * yes + t * no), (yes * no, 0), (-x, 0)


# ---------------------------------------------------------------------------------- a twin's formula without rounding


def _number(value):
    """An exact number as mpmath has it."""
    if isinstance(value, np.ndarray):  # np.where gives arrays
        value = value.item()
    if isinstance(value, mp.mpc):  # what real arithmetic has no answer to
        return mp.nan
    return value.m if isinstance(value, Number) else value if isinstance(value, mp.mpf) else mp.mpf(value)


class Number:
    """An exact number that NumPy's functions accept, so that a Python twin can be run on it as it stands."""

    __slots__ = ("m",)
    __hash__ = None

    def __init__(self, value):
        self.m = _number(value)

    def __add__(self, other):
        return Number(self.m + _number(other))

    def __sub__(self, other):
        return Number(self.m - _number(other))

    def __rsub__(self, other):
        return Number(_number(other) - self.m)

    def __mul__(self, other):
        return Number(self.m * _number(other))

    def __truediv__(self, other):
        other = _number(other)
        if other == 0:
            return Number(self.m * mp.inf)
        return Number(self.m / other)

    def __rtruediv__(self, other):
        return Number(_number(other)) / self

    def __pow__(self, other):
        other = _number(other)
        return Number(mp.inf if self.m == 0 and other < 0 else self.m**other)

    def __neg__(self):
        return Number(-self.m)

    def __abs__(self):
        return Number(abs(self.m))

    def __lt__(self, other):
        return self.m < _number(other)

    def __le__(self, other):
        return self.m <= _number(other)

    def __gt__(self, other):
        return self.m > _number(other)

    def __ge__(self, other):
        return self.m >= _number(other)

    def __eq__(self, other):
        return self.m == _number(other)

    def __ne__(self, other):
        return self.m != _number(other)

    __radd__, __rmul__ = __add__, __mul__

    def __getattr__(self, name):
        """``exp``, ``log1p``, ``tanh`` ...: what NumPy's function of that name calls on an object."""
        function = getattr(mp, name)
        return lambda: Number(function(self.m))


@functools.cache
def _log_factorial(t):
    return mp.loggamma(t + 1)


def _stirling(t):
    t = _number(t)
    return Number(t * mp.log(t) - t + mp.log(2 * mp.pi * t) / 2 if t > 0 else mp.nan)


#: What words mean that are approximations for floats.
EXACT_WORDS = {
    "growth": lambda t: Number(mp.expm1(_number(t)) - _number(t)),
    "exp_in_parts": lambda t: (Number(mp.exp(_number(t))), Number(0)),
    "log_cosh": lambda d: Number(mp.log(mp.cosh(_number(d)))),
    "log_factorial": lambda t: Number(_log_factorial(_number(t))),
    "stirling": _stirling,
}


@functools.cache
def _exact_twin(twin):
    return FunctionType(twin.__code__, {**twin.__globals__, **EXACT_WORDS})


def twin_pointwise(loss, x, t, q, parameters):
    """The twin's (value, gradient, Hessian) of one element."""
    return tuple(_number(y) for y in _exact_twin(loss.twin)(*map(Number, (x, t, q, *parameters))))


def terms_pointwise(loss, x, t, q, parameters):
    """The sizes of the terms that cancel in them; 0 where none do."""
    if loss.terms is None:
        return (0,) * 5 if loss.differentiable else (0,) * 3
    return tuple(map(_number, _exact_twin(loss.terms)(*map(Number, (x, t, q, *parameters)))))


def twin_row(loss, x, targets=None, parameters=(), class_weight=None):
    """The value of a row by the loss's twin (of a function over rows: all its values), from exact logits.

    ``targets``: the label, or a list of exact soft labels or of other logits. The derivatives in the twin are not used.
    """
    options = dict(parameters)
    T = exact(options.get("temperature", 1))
    z = [u / T for u in x]
    m = max(z)
    e = [mp.exp(u - m) for u in z]
    S = mp.fsum(e)
    lse, p = m + mp.log(S), [u / S for u in e]
    q = [mp.fsum(e[:c] + e[c + 1 :]) / S for c in range(len(z))]
    rest = mp.fsum(u for c, u in enumerate(e) if c != z.index(m))
    a = [mp.log1p(rest) + (m - u) for u in z]
    if targets is None:
        if loss.outputs[0] == "lse":
            return [lse]
        return [_number(loss.twin(Number(p[c]), Number(a[c]))) for c in range(len(z))]
    if loss.of == "violations":
        return [violation_row(loss, x, targets, options, class_weight)]
    if "proba" not in loss.outputs:  # it is given log-probabilities
        a = [-u for u in x]
    n = len(z)
    if not loss.labelled:
        y = [u / T for u in targets]
        f = [mp.exp(u - max(y)) for u in y]
        t, one, zero = [u / mp.fsum(f) for u in f], Number(1), Number(0)
        ratio = [mp.log(p[c]) - mp.log(t[c]) for c in range(n)]
        parts = (
            loss.twin(*map(Number, (p[c], q[c], t[c])), one, one, Number(ratio[c]), zero, zero, zero, zero)
            for c in range(n)
        )
        return [mp.fsum(_number(part[0]) for part in parts)]
    t = [mp.mpf(c == targets) for c in range(n)] if isinstance(targets, int) else targets
    eps, zl = exact(options.get("label_smoothing", 0)), exact(options.get("z_loss", 0))
    t = [(1 - eps) * u + eps / n for u in t]
    w = t if class_weight is None else [exact(cw) * u for cw, u in zip(class_weight, t, strict=True)]
    if loss.of == "truth":
        own = tuple(map(Number, loss.own_numbers(options)))
        state = [tuple(map(Number, (a[c], 0, p[c], q[c], 0, 1))) for c in range(n)]
        return [mp.fsum(w[c] * _number(loss.twin(*state[c], *own)[0]) for c in range(n) if w[c])]
    total, k, kk, zero = Number(mp.fsum(w)), Number(2 * zl * lse), Number(2 * zl), Number(0)
    parts = (
        loss.twin(*map(Number, (p[c], q[c], t[c], w[c])), total, Number(a[c]), k, kk, zero, zero) for c in range(n)
    )
    return [mp.fsum(_number(part[0]) for part in parts) + zl * lse**2]


def twin_entry(loss, x, t, options):
    """The twin's results for one entry of a sum over entries: value, its derivatives in x, and the one in t."""
    parameters = map(Number, loss.own_numbers(options))
    return tuple(_number(y) for y in loss.twin(Number(x), Number(t), *parameters))


def terms_entry(loss, x, t, options):
    """The sizes of the terms that cancel in them; 0 where none do."""
    parameters = map(Number, loss.own_numbers(options))
    return tuple(map(_number, loss.terms(Number(x), Number(t), *parameters))) if loss.terms else (0, 0, 0, 0)


def violation_row(loss, x, label, options, class_weight=None):
    """The value of a loss of margins, by its twin."""
    own = tuple(map(Number, loss.own_numbers(options)))
    gaps = (Number(u - x[label]) for c, u in enumerate(x) if c != label)
    each = [_number(loss.twin(gap, Number(0), *own)[0]) for gap in gaps]
    value = max(each, default=mp.mpf(0)) if own[0] == 0 else mp.fsum(each) / len(x)
    return value if class_weight is None else exact(class_weight[label]) * value


def slope(f, x):
    """The derivative of ``f`` at ``x`` by finite differences, and what rounding may make of it; None at a kink."""
    h = mp.ldexp(min(mp.mpf(1), abs(x) or mp.mpf(1)), -160)
    below, here, above = f(x - h), f(x), f(x + h)
    left, right = (here - below) / h, (above - here) / h
    noise = mp.ldexp((abs(here) + 1) / h, 20 - mp.prec)
    kink = abs(right - left) > mp.ldexp(max(abs(left), abs(right)), -60) + noise
    return None if kink else ((left + right) / 2, noise)
