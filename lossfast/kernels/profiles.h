/* Losses that are a function F(-log p) of the true class's probability p: their profiles.

   EDIT 1 of adding such a loss is here: its name in the list, and its profile. A profile gives F, F' and UP u F''/F', each in
   two parts, of one class: a = -log p, p and p_up = UP p (which has its digits where p is subnormal), u = 1 - p, all with their
   digits however small they are, o the parameters in the order that rowwise.py declares (temperature is none of them). Where
   p is 0, a is infinite: F and F' are the limits there, and an infinite F is about proportional to a. u F''/F' is to be
   finite everywhere.

   The rest follows by the chain rule, with g = p - [c = true]: the gradient is F' g, the Hessian F'' g g^T + F' (diag p - p p^T),
   whose diagonal is F' p_c (1 - p_c + (u F''/F') p_c/u), at the true class F' u (p + u F''/F'). */
#ifndef LF_PROFILES_H
#define LF_PROFILES_H

#define LF_PROFILES(PROFILE) \
    PROFILE(focal_loss) \
    PROFILE(poly_loss) \
    PROFILE(generalized_cross_entropy)

#define LF_PROFILE_ENUM(name) LF_PROFILE_##name,
enum { LF_PROFILES(LF_PROFILE_ENUM) LF_PROFILE_COUNT };

#ifdef LF_LANES /* the profiles; without it, this file is the list alone */

typedef struct { pair value, slope, bend; } profile;
#define UP 0x1p100
#define PROFILE(name) INLINE profile name##_profile(pair a, pair p, pair p_up, pair u, const double *o)
INLINE pair lifted(pair x, double by) { return (pair){x.hi * K(by), x.lo * K(by)}; }

/* e^(t + tail) = (hi + lo) 2^k, hi + lo to about 2^-58 of itself (float64): r keeps what its rounding lost, and r^2/2 too */
typedef struct { pair e; real k; } fine_exponential;
INLINE pair quick_sum(real a, real b) { /* |a| >= |b| */
    const real s = a + b;
    return (pair){s, b - (s - a)};
}
INLINE fine_exponential r_exp_fine(real t, real tail) {
    static const scalar c[] = LF_EXPM1;
    const real k = r_over_ln2(t) - K(MAGIC), head = r_fma(k, K(-LF_LN2_HEAD), t), r = r_fma(k, K(-LF_LN2_TAIL), head);
    const real lost = r_fma(k, K(-LF_LN2_TAIL), head - r) + tail;
    const real half = K(0.5) * r, square = half * r, square_lo = r_product_error(half, r, square);
    const real cube = (square + square) * r_fma(r, r_horner(r, c + 1, LF_EXPM1_TERMS - 1), K(c[0] - (scalar)0.5));
    const pair w = quick_sum(r, square), v = quick_sum(w.hi, cube), one = quick_sum(K(1), v.hi);
    return (fine_exponential){quick_sum(one.hi, one.lo + (((v.lo + w.lo) + square_lo) + r_fma(lost, v.hi, lost))), k};
}
/* e^(t + tail), for any t <= 0 */
INLINE pair fine_exp(real t, real tail) {
    const fine_exponential y = r_exp_fine(r_max(K(FLOOR), t), where(lt(K(FLOOR), t), tail, K(0)));
    const real k = r_max(K(-2 * EXPONENT_BIAS), y.k), half = r_round(K(0.5) * k), s = r_pow2(half), rest = r_pow2(k - half);
    return (pair){y.e.hi * s * rest, y.e.lo * s * rest};
}
/* lifted_exponential with more digits */
INLINE pair lifted_fine(real d, pair it, real exponent) {
    const real q = where(eq(d, K(-INFINITY)), d, d * it.hi);
    const real tail = where(lt(K(FLOOR), q), r_fma(d, it.lo, r_product_error(d, it.hi, q)), K(0));
    const fine_exponential y = r_exp_fine(r_max(K(FLOOR), q), tail);
    const real s = r_pow2(r_max(y.k - exponent, K(-EXPONENT_BIAS)));
    return (pair){y.e.hi * s, y.e.lo * s};
}
/* log(1 + x) for x >= 0, with its digits however small x is */
INLINE pair fine_log1p(pair x) {
    const real h = K(1) + x.hi;
    const pair rest = two_sum(where(lt(x.hi, K(1)), x.hi - (h - K(1)), K(1) - (h - x.hi)), x.lo);
    const pair y = r_log_sum(h, rest.hi, K(0), K(0), 1);
    const mask fair = lt(x.hi, K(INFINITY));
    return (pair){where(fair, y.hi, x.hi), where(fair, where(lt(x.hi, K(1)), y.lo + rest.lo, y.lo), K(0))};
}

/* x^y of 0 <= x <= 1, y >= 0: the whole part of y by products, whose errors are those of x alone */
INLINE pair to_power(pair x, double y) {
    const int whole = (int)(y < 0x1p30 ? y : 0x1p30);
    const double part = y - whole;
    pair z = exactly(K(1)), square = x;
    for (int n = whole; n > 0; n >>= 1) {
        if (n & 1) z = times(z, square);
        if (n > 1) square = times(square, square);
    }
    if (part != 0) {
        const mask tiny = lt(x.hi, K(LF_DTYPE == 32 ? 0x1p-80 : 0x1p-900)), none = eq(x.hi, K(0));
        const real up = where(tiny, K(LF_DTYPE == 32 ? 0x1p80 : 0x1p200), K(1)), h = where(none, K(1), x.hi * up);
        const pair l = r_log_sum(h, where(none, K(0), x.lo * up), where(tiny, K(LF_DTYPE == 32 ? -80 : -200), K(0)), K(0), 1);
        const pair t = times(exactly(K(part)), l), e = fine_exp(r_min(K(0), t.hi), t.lo);
        z = times(z, ((pair){where(none, K(0), e.hi), where(none, K(0), e.lo)}));
    }
    return (pair){where(eq(x.hi, x.hi), z.hi, x.hi), z.lo};
}

/* alpha u^gamma a; F' = alpha u^gamma (1 + gamma s), s = p a/u, all terms of one sign;
   u F''/F' = gamma p (2 - a + (gamma - 1) s) / (1 + gamma s) */
PROFILE(focal_loss) {
    const double gamma = o[0], alpha = o[1] == o[1] ? o[1] : 1;
    const pair pa = times(p, a), limit = exactly(K(1)), quotient = ratio(pa.hi, pa.lo, u.hi, u.lo);
    const mask sure = eq(u.hi, K(0));
    const pair s = {where(sure, limit.hi, quotient.hi), where(sure, limit.lo, quotient.lo)};
    const pair slope = plus(exactly(K(1)), times(exactly(K(gamma)), s)), power = times(exactly(K(alpha)), to_power(u, gamma));
    const pair bend = times(times(exactly(K(gamma)), p_up), plus(plus(exactly(K(2)), minus(a)), times(plus(exactly(K(gamma)), exactly(K(-1))), s)));
    return (profile){times(power, a), times(power, slope), ratio(bend.hi, bend.lo, slope.hi, slope.lo)};
}

/* a + e u; 1 + e p; -e p u / (1 + e p). For e < 0 (-1 at the least) as (1 + e) a - e (a - u) and (1 + e) - e u, so that nothing
   cancels: a - u = e^-a - 1 + a. */
PROFILE(poly_loss) {
    const double e = o[0];
    const pair keep = plus(exactly(K(1)), exactly(K(e))), by = exactly(K(e < 0 ? -e : e)), less = plus(a, exactly(K(-1)));
    const mask far = lt(K(-FLOOR), a.hi);
    const growth g = growth_of(where(far, K(0), -a.hi), where(far, K(0), -a.lo));
    const pair phi = {where(far, less.hi, g.phi), where(far, less.lo, g.phi_lo)};
    const pair value = e < 0 ? plus(times(keep, a), times(by, phi)) : plus(a, times(by, u));
    const pair slope = e < 0 ? plus(keep, times(by, u)) : plus(exactly(K(1)), times(by, p)), pu = times(exactly(K(-e)), times(p_up, u));
    return (profile){value, slope, e == -1 ? p_up : ratio(pu.hi, pu.lo, slope.hi, slope.lo)};
}

/* (1 - p^q)/q = -expm1(-q a)/q; e^(-q a); -q u. For q = 0 a, and where a is next to nothing, and q a perhaps subnormal. */
PROFILE(generalized_cross_entropy) {
    const double q = o[0];
    const pair t = times(exactly(K(-q)), a);
    const growth g = growth_of(r_max(K(FLOOR), t.hi), where(lt(K(FLOOR), t.hi), t.lo, K(0)));
    (void)p, (void)p_up;
    if (q == 0) return (profile){a, exactly(where(eq(a.hi, a.hi), K(1), a.hi)), exactly(K(0))};
    const pair value = ratio(-g.expm1.hi, -g.expm1.lo, K(q), K(0));
    const mask least = lt(a.hi, K(LF_DTYPE == 32 ? 0x1p-60 : 0x1p-200));
    return (profile){{where(least, a.hi, value.hi), where(least, a.lo, value.lo)}, fine_exp(t.hi, t.lo), lifted(times(exactly(K(-q)), u), UP)};
}

/* The profile of that number. Not inlined: a stage has it in many places. */
NOINLINE void profile_of(int which, const pair *a, const pair *p_up, const pair *u, const double *o, profile *y) {
#define CASE(name) case LF_PROFILE_##name: *y = name##_profile(*a, p, *p_up, *u, o); return;
    const pair p = lifted(*p_up, 1 / UP);
    switch (which) { LF_PROFILES(CASE) }
#undef CASE
}

#undef PROFILE
#endif
#endif
