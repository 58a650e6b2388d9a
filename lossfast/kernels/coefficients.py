"""Make ``coefficients.h``: the minimax polynomials of ``functions.h``, by Remez exchange in mpmath.

Each polynomial is fitted to a smooth function divided by its leading terms, with the weight that makes the error of the
*whole* function (not of the quotient) level out. Coefficients are then rounded to the dtype from the lowest order up,
fitting the rest anew after each rounding, and the error of what is printed is measured on a fine grid.

    python -m lossfast.kernels.coefficients > lossfast/kernels/coefficients.h
"""

from __future__ import annotations

from collections.abc import Callable

from mpmath import matrix, mp, mpf

mp.prec = 240


def exchange(f: Callable, weight: Callable, lo: mpf, hi: mpf, fixed: list, free: int, rounds: int = 12) -> list:
    """The ``free`` coefficients after the ``fixed`` ones that minimise max |weight * (f - polynomial)| on [lo, hi]."""

    def rest(x):
        return f(x) - sum(c * x**i for i, c in enumerate(fixed))

    first, count = len(fixed), free + 1
    points = [(lo + hi) / 2 + (hi - lo) / 2 * mp.cos(mp.pi * (i + mpf(1) / 2) / count) for i in range(count)]
    points = [x if abs(x) > (hi - lo) / 100 else (hi - lo) / 50 for x in points]  # not where the weight vanishes
    grid = [(lo + hi) / 2 + (hi - lo) / 2 * mp.cos(mp.pi * i / 2000) for i in range(2001)]
    grid = [x for x in grid if abs(weight(x)) > 0]
    values = [(x, rest(x), weight(x)) for x in grid]
    for _ in range(rounds):
        system, right = matrix(count, count), matrix(count, 1)
        for i, x in enumerate(points):
            for j in range(free):
                system[i, j] = x ** (first + j)
            system[i, free] = (-1) ** i / weight(x)
            right[i] = rest(x)
        solution = mp.lu_solve(system, right)
        found = [solution[j] for j in range(free)]
        errors = [(x, w * (r - sum(c * x ** (first + j) for j, c in enumerate(found)))) for x, r, w in values]
        runs: list = []
        for x, e in errors:  # the largest error of every run of one sign
            if runs and (e > 0) == (runs[-1][1] > 0):
                if abs(e) > abs(runs[-1][1]):
                    runs[-1] = (x, e)
            else:
                runs.append((x, e))
        while len(runs) > count:
            runs.pop(0 if abs(runs[0][1]) < abs(runs[-1][1]) else -1)
        if len(runs) < count:
            break
        points = [x for x, _ in runs]
    return found


def rounded(c: mpf, bits: int) -> mpf:
    with mp.workprec(bits):
        return +c


def fit(f: Callable, weight: Callable, lo: mpf, hi: mpf, degree: int, bits: int) -> tuple[list, mpf, mpf]:
    """Coefficients in ``bits`` bits, the largest weighted error, and where it is."""
    grid = [lo + (hi - lo) * (i + mpf(1) / 2) / 4000 for i in range(4000)]
    values = [(x, f(x), weight(x)) for x in grid if abs(weight(x)) > 0]

    def worst(coefficients: list, step: int = 1) -> tuple[mpf, mpf]:
        return max((abs(w * (y - mp.polyval(coefficients[::-1], x))), x) for x, y, w in values[::step])

    fixed: list = []
    rest: list = []
    for i in range(degree + 1):
        tails = [tail for tail in (exchange(f, weight, lo, hi, fixed, degree + 1 - i), rest) if tail]
        best = min(tails, key=lambda tail: worst(fixed + tail, 20))
        fixed.append(rounded(best[0], bits))
        rest = best[1:]
    return fixed, *worst(fixed)


def expm1_tail(r: mpf) -> mpf:
    """(e^r - 1 - r) / r^2"""
    if abs(r) < mpf(10) ** -20:
        return mpf(1) / 2
    return (mp.expm1(r) - r) / r**2


def phi_quotient(t: mpf) -> mpf:
    """(e^t - 1 - t) / t^2"""
    if abs(t) < mpf(10) ** -12:
        return mpf(1) / 2 + t / 6 + t**2 / 24 + t**3 / 120
    return (mp.expm1(t) - t) / t**2


def atanh_tail(z: mpf) -> mpf:
    """(2 atanh(s) - 2 s) / s^3 with z = s^2"""
    if z < mpf(10) ** -30:
        return mpf(2) / 3
    s = mp.sqrt(z)
    return (2 * mp.atanh(s) - 2 * s) / s**3


def log_cosh_tail(z: mpf) -> mpf:
    """(log cosh a - a^2/2) / a^4 with z = a^2"""
    if z < mpf(10) ** -20:
        return -mpf(1) / 12 + z / 45
    return (mp.log(mp.cosh(mp.sqrt(z))) - z / 2) / z**2


def log_cosh_weight(z: mpf) -> mpf:
    """1 / log cosh a, times a^4"""
    return z / mpf("0.5") if z < mpf(10) ** -20 else z**2 / mp.log(mp.cosh(mp.sqrt(z)))


def log_factorial_quotient(t: mpf) -> mpf:
    """log(t!) / (t (t - 1))"""
    for end, limit in ((0, mp.euler), (1, 1 - mp.euler)):
        if abs(t - end) < mpf(10) ** -30:
            return +limit
    return mp.loggamma(1 + t) / (t * (t - 1))


def stirling_rest(y: mpf) -> mpf:
    """t (log(t!) - ((t + 1/2) log t - t + log(2 pi)/2)) with y = 1/t^2"""
    if y < mpf(10) ** -10:
        return mpf(1) / 12 - y / 360 + y**2 / 1260 - y**3 / 1680
    t = 1 / mp.sqrt(y)
    return t * (mp.loggamma(1 + t) - ((t + mpf(1) / 2) * mp.log(t) - t + mp.log(2 * mp.pi) / 2))


def literal(c: mpf, dtype: int) -> str:
    return float(c).hex() + ("f" if dtype == 32 else "")


def table(name: str, comment: str, dtype: int, coefficients: list, error: mpf, where: mpf) -> str:
    body = ", ".join(literal(c, dtype) for c in coefficients)
    return (
        f"/* {comment}\n   largest error 2^{float(mp.log(error, 2)):.2f}, at {float(where):.6g} */\n"
        f"#define {name} {{{body}}}\n#define {name}_TERMS {len(coefficients)}\n"
    )


def main() -> None:
    half_ln2 = mp.log(2) / 2 * (1 + mpf(2) ** -20)
    top = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2
    print("/* Made by coefficients.py: do not edit. */")
    degrees = {32: (4, 7, 3, 2, 4, 9, 1), 64: (10, 14, 7, 7, 11, 22, 6)}
    for dtype, bits, head_bits in ((32, 24, 13), (64, 53, 40)):
        exp_degree, phi_degree, log_degree, log1p_degree, *rest = degrees[dtype]
        cosh_degree, factorial_degree, stirling_degree = rest
        print(f"#if LF_DTYPE == {dtype}")
        found = fit(expm1_tail, lambda r: r**2 / mp.exp(r), -half_ln2, half_ln2, exp_degree, bits)
        print(table("LF_EXPM1", "e^r - 1 = r + r^2 P(r), |r| <= ln(2)/2; error relative to e^r", dtype, *found))
        found = fit(phi_quotient, lambda t: 1 / phi_quotient(t), mpf(-1), mpf(1), phi_degree, bits)
        print(table("LF_PHI", "e^t - 1 - t = t^2 P(t), |t| <= 1; relative error", dtype, *found))
        found = fit(atanh_tail, lambda z: z, mpf(0), top, log_degree, bits)
        print(
            table(
                "LF_ATANH",
                "2 atanh(s) = 2 s + s z P(z), z = s^2, 1/sqrt(2) <= (1+s)/(1-s) <= sqrt(2); error\n"
                "   relative to 2 atanh(s), times 2",
                dtype,
                *found,
            )
        )
        found = fit(atanh_tail, lambda z: z, mpf(0), mpf(1) / 25, log1p_degree, bits)
        print(table("LF_LOG1P", "The same for 3/4 <= (1+s)/(1-s) <= 3/2", dtype, *found))
        found = fit(log_cosh_tail, log_cosh_weight, mpf(0), mpf(9) / 16, cosh_degree, bits)
        print(table("LF_LOG_COSH", "log cosh a = z/2 + z^2 P(z), z = a^2, a <= 3/4; relative error", dtype, *found))
        found = fit(
            log_factorial_quotient, lambda t: 1 / log_factorial_quotient(t), mpf(0), mpf(1), factorial_degree, bits
        )
        print(table("LF_LOG_FACTORIAL", "log(t!) = t (t - 1) P(t), 0 <= t <= 1; relative error", dtype, *found))
        found = fit(stirling_rest, lambda y: mpf(1), mpf(0), mpf(1) / 64, stirling_degree, bits)
        print(
            table(
                "LF_STIRLING",
                "log(t!) = (t + 1/2) log t - t + log(2 pi)/2 + P(1/t^2) / t, t >= 8; absolute error of P",
                dtype,
                *found,
            )
        )
        head = rounded(mp.log(2), head_bits)
        print(
            f"/* ln 2 in two parts: the first has {head_bits} bits, so that k times it is exact for every exponent k */"
        )
        print(f"#define LF_LN2_HEAD {literal(head, dtype)}")
        print(f"#define LF_LN2_TAIL {literal(rounded(mp.log(2) - head, bits), dtype)}")
        print(f"#define LF_LOG2E {literal(rounded(1 / mp.log(2), bits), dtype)}")
        print("#endif\n")


if __name__ == "__main__":
    main()
