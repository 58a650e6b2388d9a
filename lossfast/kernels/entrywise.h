/* The losses over a class axis that need no softmax: sums over the classes of what each entry adds.

   EDIT 1 of adding such a loss is here: its name in the list, and its body. A body gives of one entry its part in the value;
   its derivatives in x, the first argument (g, and h, the second one), and in t, the target (u); t is the entry's target,
   with integer labels 1 or 0, and 0 where there is none; p are the scalar parameters in the order that the twin in
   entrywise.py declares. What is not wanted of it is dead code. The stages at the end of rowstages.h walk the entries,
   weigh and sum them. They compute in double whatever the input's dtype.

   Bounds are in ULP of the dtype, tested against mpmath. */
#ifndef LF_ENTRYWISE

#define LF_ENTRYWISE(LOSS) \
    LOSS(categorical_cross_entropy) \
    LOSS(kl_div) \
    LOSS(js_div) \
    LOSS(entropy) \
    LOSS(cross_entropy_between) \
    LOSS(relative_entropy) \
    LOSS(multilabel_soft_margin_loss)

/* The stages of each, by name. */
#define LF_ENTRY_STAGES(S, name) S(name##_sum) S(name##_grad) S(name##_hess) S(name##_hvp) S(name##_target) S(name##_along)
#endif

#if defined(LF_BODIES) && LF_DTYPE == 64 /* the bodies; without them, this file is the list alone */

/* A derivative in two parts, and what is left to multiply it by once it has been weighed: a quotient may overflow only on the
   way. */
typedef struct { pair y; real up; } slope;
typedef struct { pair v; slope g, h, u; } entry;
#define ENTRY_BODY(name) INLINE entry name##_entry(real x, real t, const double *p)
/* What a loss does beside adding its entries up. */
enum { ENTRY_IN_BASE = 1, ENTRY_MEAN = 2, ENTRY_HEARS_MASKED = 4 };
#define LOSS(name) enum { name##_does = 0 }; ENTRY_BODY(name)
/* times p[0], a unit of information; v is RAISED, so that parts of tiny probabilities are normal numbers */
#define LOSS_IN_BASE(name) enum { name##_does = ENTRY_IN_BASE }; ENTRY_BODY(name)
#define RAISED 0x1p64
#define LOSS_OF_MEAN(name) enum { name##_does = ENTRY_MEAN }; ENTRY_BODY(name) /* over the number of classes */
#define LOWERED 0x1p-100
/* of a masked class the x is -infinity; others have none such */
#define LOSS_OF_MASKED(name) enum { name##_does = ENTRY_HEARS_MASKED }; ENTRY_BODY(name)

/* hi + lo, with nothing in the second part where the first says all */
INLINE pair in_parts(real hi, real lo) { return (pair){hi, where(lt(r_abs(hi), K(INFINITY)), lo, K(0))}; }
INLINE pair pair_sum(real a, pair b) {
    const pair s = two_sum(a, b.hi);
    return in_parts(s.hi, s.lo + b.lo);
}
INLINE pair pair_times(real a, pair b) {
    const real y = a * b.hi;
    return in_parts(y, r_fma(a, b.lo, r_product_error(a, b.hi, y)));
}
INLINE pair pair_minus(pair a) { return (pair){K(0) - a.hi, -a.lo}; }

/* log(a / (b + b_lo)), |b_lo| below a unit in the last place of b, within 2^-56 of itself, for any a and b: of 0 and of
   infinity the limit, of 0 / 0 and of what is below 0 NaN. Of m = 2^-k a / b between 1/sqrt(2) and sqrt(2) it is 2 atanh(s),
   s = (m - 1) / (m + 1), whose numerator is exact: a small logarithm keeps its digits. */
INLINE pair log_quotient(real a, real b, real b_lo) {
    static const scalar c[] = LF_ATANH;
    const mask tiny_a = lt(a, K(DBL_MIN)), tiny_b = lt(b, K(DBL_MIN));
    const mask fair = both(both(lt(K(0), a), lt(a, K(INFINITY))), both(lt(K(0), b), lt(b, K(INFINITY))));
    const real up_a = where(tiny_a, K(0x1p54), K(1)), up_b = where(tiny_b, K(0x1p54), K(1));
    const real normal_a = where(fair, a * up_a, K(1)), normal_b = where(fair, b * up_b, K(1));
    const ireal bits_a = r_bits(normal_a), bits_b = r_bits(normal_b), root = r_bits(K(0.70710678118654752));
    const ireal power_a = (bits_a - root) >> MANTISSA_BITS, power_b = (bits_b - root) >> MANTISSA_BITS;
    const real near_b = r_from_bits(bits_b - (power_b << MANTISSA_BITS)), m = r_from_bits(bits_a - (power_a << MANTISSA_BITS));
    const mask above = lt(K(1.4142135623730951) * near_b, m), below = lt(K(1.4142135623730951) * m, near_b);
    const real near_a = m * where(above, K(0.5), where(below, K(2), K(1)));
#if LF_LANES == 1
    const real powers = (real)(power_a - power_b);
#else
    const real powers = r_from_bits((power_a - power_b) + r_bits(K(MAGIC))) - K(MAGIC);
#endif
    const real k = ((powers + where(above, K(1), where(below, K(-1), K(0)))) - where(tiny_a, K(54), K(0))) + where(tiny_b, K(54), K(0));
    const real part = where(fair, b_lo, K(0)) * up_b * (near_b / normal_b);
    const real top = near_a - near_b;
    const pair whole = two_sum(near_a, near_b);
    const real s = top / whole.hi, z = s * s;
    const real s_lo = ((-part - s * (whole.lo + part)) - r_product_error(s, whole.hi, top)) / whole.hi;
    const real low = r_fma(s * z, r_horner(z, c, LF_ATANH_TERMS), r_fma(K(2), s_lo, k * K(LF_LN2_TAIL)));
    const pair head = two_sum(k * K(LF_LN2_HEAD), K(2) * s), y = two_sum(head.hi, head.lo + low);
    const mask minus = both(both(le(K(0), a), lt(a, b)), either(eq(a, K(0)), eq(b, K(INFINITY))));
    const mask plus = both(both(le(K(0), b), lt(b, a)), either(eq(b, K(0)), eq(a, K(INFINITY))));
    const real limit = where(minus, K(-INFINITY), where(plus, K(INFINITY), K(NAN)));
    return (pair){where(fair, y.hi, limit), where(fair, y.lo, K(0))};
}
INLINE pair log_pair(real x) { return log_quotient(x, K(1), K(0)); }

INLINE slope slope_of(pair y) { return (slope){y, K(1)}; }
INLINE slope number(real y) { return slope_of(exactly(y)); }
INLINE slope slope_where(mask m, real y, slope s) { return (slope){r_choose(m, exactly(y), s.y), s.up}; }
/* a / b, b >= 0 */
INLINE slope quotient(real a, real b) {
    const real up = where(lt(b, K(0x1p-1000)), K(0x1p100), K(1));
    return (slope){exactly(a / (b * up + K(0))), up};
}

/* -t log y, y = x, or p[0] where x is below that; -t / y; t / y^2. Nothing where t is 0, whatever x. */
LOSS_OF_MASKED(categorical_cross_entropy) {
    const real given = where(eq(x, K(-INFINITY)), K(0), where(lt(x, K(0)), K(NAN), x)), least = K(p[0]);
    const mask cut = lt(given, least), none = eq(t, K(0)), flat = either(none, cut);
    const real y = where(cut, least, given);
    const pair minus_log = pair_minus(log_pair(y));
    const slope g = quotient(t, y);
    const slope h = {exactly(g.y.hi / (y * g.up + K(0))), g.up * g.up};
    return (entry){r_choose(none, exactly(K(0)), pair_times(t, minus_log)),
                   slope_where(flat, K(0), (slope){pair_minus(g.y), g.up}), slope_where(flat, K(0), h), slope_of(minus_log)};
}

/* t (log t - x), or with p[0] e^t (t - x), x a log-probability; -t; 0; in t, log t - x + 1, or e^t (t - x + 1). A class that
   has no probability in the target adds nothing. */
LOSS(kl_div) {
    const int logs = p[0] != 0;
    const real q = logs ? r_exp(t) : where(lt(t, K(0)), K(NAN), t);
    const pair apart = pair_sum(-x, logs ? exactly(t) : log_pair(t)), more = pair_sum(K(1), apart);
    const mask known = both(eq(x, x), eq(q, q)), none = both(known, eq(t, logs ? K(-INFINITY) : K(0)));
    const mask cannot = both(known, eq(x, K(-INFINITY))), never = both(not_(none), cannot);
    const pair v = r_choose(never, exactly(K(INFINITY)), pair_times(q, apart));
    const pair u = logs ? r_choose(never, exactly(K(INFINITY)), pair_times(q, more)) : more;
    return (entry){r_choose(none, exactly(K(0)), v), number(where(known, K(0) - q, K(NAN))), number(where(known, K(0), K(NAN))),
                   slope_where(logs ? none : both(none, cannot), K(0), slope_of(u))};
}

/* (x log(x/m) + t log(t/m)) / 2, m = (x + t)/2. With s = (x - t)/(x + t) that is m/2 times
   (1+s) log(1+s) + (1-s) log(1-s) = s^2 (1 + s^2/6 + s^4/15 + ... + s^(2k-2)/(k (2k-1)) + ...), which serves near 0, where
   the two terms cancel. log(x/m) / 2; t / (2 x (x + t)); log(t/m) / 2. Nothing of a class that is in neither. */
LOSS_IN_BASE(js_div) {
    static const scalar c[] = {1. / 6, 1. / 15, 1. / 28, 1. / 45, 1. / 66, 1. / 91, 1. / 120, 1. / 153, 1. / 190, 1. / 231, 1. / 276, 1. / 325};
    const pair whole = two_sum(x, t);
    const mask none = both(eq(x, K(0)), eq(t, K(0))), outside = either(lt(x, K(0)), lt(t, K(0)));
    const pair log_x = log_quotient(K(2) * x, whole.hi, whole.lo), log_t = log_quotient(K(2) * t, whole.hi, whole.lo);
    const real d = x - t, s = d / whole.hi, z = s * s, raised = K(0.25 * RAISED) * d, square = raised * s;
    const real s_lo = (-r_product_error(s, whole.hi, d) - s * whole.lo) / whole.hi;
    const real tail = r_fma(raised, s_lo, r_product_error(raised, s, square));
    const pair near = in_parts(square, r_fma(square * z, r_horner(z, c, 12), tail));
    const pair of_x = r_choose(eq(x, K(0)), exactly(K(0)), pair_times(K(0.5 * RAISED) * x, log_x));
    const pair of_t = r_choose(eq(t, K(0)), exactly(K(0)), pair_times(K(0.5 * RAISED) * t, log_t));
    const pair sum_ = two_sum(of_x.hi, of_t.hi), far = in_parts(sum_.hi, sum_.lo + (of_x.lo + of_t.lo));
    const pair v = r_choose(lt(K(4) * r_abs(d), whole.hi), near, far);
    const slope h = quotient(K(0.5) * (t / whole.hi), x);
    return (entry){r_choose(none, exactly(K(0)), r_choose(outside, exactly(K(NAN)), v)),
                   slope_where(none, K(0), slope_where(outside, K(NAN), slope_of(pair_times(K(0.5), log_x)))),
                   slope_where(none, K(0), slope_where(outside, K(NAN), h)),
                   slope_where(none, K(0), slope_where(outside, K(NAN), slope_of(pair_times(K(0.5), log_t))))};
}

/* -x log x; -(log x + 1); -1/x */
LOSS_IN_BASE(entropy) {
    (void)t, (void)p;
    const pair log_x = log_pair(x);
    return (entry){r_choose(eq(x, K(0)), exactly(K(0)), pair_minus(pair_times(K(RAISED) * x, log_x))),
                   slope_of(pair_minus(pair_sum(K(1), log_x))), slope_where(lt(x, K(0)), K(NAN), quotient(K(-1), x)), number(K(0))};
}

/* -x log t; -log t; 0; -x/t. A class that is not in x adds nothing, and does not pull at t. */
LOSS_IN_BASE(cross_entropy_between) {
    (void)p;
    const pair minus_log = pair_minus(log_pair(t));
    const mask known = both(eq(x, x), eq(minus_log.hi, minus_log.hi)), absent = both(eq(x, K(0)), known);
    return (entry){r_choose(absent, exactly(K(0)), pair_times(K(RAISED) * x, minus_log)),
                   slope_of(r_choose(known, minus_log, exactly(K(NAN)))), number(where(known, K(0), K(NAN))),
                   slope_where(not_(known), K(NAN), slope_where(absent, K(0), quotient(-x, t)))};
}

/* x log(x/t); log(x/t) + 1; 1/x; -x/t. Nothing of a class that is in neither. */
LOSS_IN_BASE(relative_entropy) {
    (void)p;
    const pair log_ratio_ = log_quotient(x, t, K(0));
    const mask none = both(eq(x, K(0)), eq(t, K(0))), absent = both(eq(x, K(0)), le(K(0), t));
    const mask unknown = both(not_(none), ne(log_ratio_.hi, log_ratio_.hi));
    return (entry){r_choose(absent, exactly(K(0)), pair_times(K(RAISED) * x, log_ratio_)),
                   slope_where(none, K(0), slope_of(pair_sum(K(1), log_ratio_))),
                   slope_where(unknown, K(NAN), slope_where(none, K(0), quotient(K(1), x))),
                   slope_where(unknown, K(NAN), slope_where(absent, K(0), quotient(-x, t)))};
}

/* Binary cross-entropy with logits, of each class by itself */
LOSS_OF_MEAN(multilabel_soft_margin_loss) {
    (void)p;
    const decay e = r_exp_negative(r_abs(x), 0);
    const vgh y = binary_cross_entropy_with_logits_body(x, t, K(1), e, NULL, 0);
    const real bend = where(eq(t, t), both_sides(e).product, K(NAN)); /* without t and 1 - t, whose sum may not be 1 */
    return (entry){exactly(y.v), number(y.g), number(bend), number(K(0) - x)};
}

#undef LOSS
#undef LOSS_IN_BASE
#undef LOSS_OF_MEAN
#undef LOSS_OF_MASKED

/* (hi + lo) w: nothing where w is 0, whatever it meets */
INLINE pair entry_weighed(pair y, real w) {
    return r_choose(eq(w, K(0)), exactly(K(0)), pair_times(w, y));
}
/* a weight by a class's */
INLINE pair times_weight(pair by, real w) {
    const real y = w * by.hi;
    return (pair){y, where(both(lt(r_abs(y), K(INFINITY)), not_(eq(y, K(0)))), r_fma(w, by.lo, r_product_error(w, by.hi, y)), K(0))};
}
/* s times a weight, rounded about once, and never -0; nothing where that is 0, whatever it meets */
INLINE real entry_scaled(pair by, slope s) {
    const mask fair = both(lt(r_abs(s.y.hi), K(INFINITY)), lt(r_abs(by.hi), K(INFINITY)));
    const real fine = r_fma(by.hi, s.y.hi, r_fma(by.hi, s.y.lo, by.lo * s.y.hi));
    return where(fair, fine, r_silence(by.hi, s.y.hi)) * s.up + K(0);
}

#endif
