/* The losses and functions over a class axis: their stages in both orientations, the arithmetic on rows between stages, and
   the programs that put the two together.

   How a row is worked out. c = shift is 0, or the largest logit when that is far from 0: either way x - c is exact wherever
   it matters. e = e^((x - c)/T) * 2^(lift - N), N the row's largest exponent, in two parts e + lo; the lift keeps small terms
   normal. They are summed over all classes but one, the pivot: the true class where there is one, else the largest. So
   1 - p and -log p of the pivot come from the others and lose nothing as p -> 1:
       -log p = log1p(others / e_pivot),  1 - p = others / (others + e_pivot). */
#ifndef LF_ROWWISE_H
#define LF_ROWWISE_H

#if LF_DTYPE == 32
#define FLOOR (-400.0)
#define LIFT 64.0
#else
#define FLOOR (-2850.0)
#define LIFT 128.0
#endif

/* up (p - t), rounded once, of the share p = (e + lo) inverse; `high`, which is up p, where t is 0 */
INLINE real soft_miss(real e, real lo, pair inverse, real t, real up, real high) {
    const real p = e * inverse.hi, p_lo = r_product_error(e, inverse.hi, p) + r_fma(e, inverse.lo, lo * inverse.hi);
    const real d = p - t, back = d - p, lost = (p - (d - back)) - (t + back);
    return where(eq(t, K(0)), high, (d + (lost + p_lo)) * up);
}

/* e^(d/T) * 2^-exponent, in two parts */
INLINE pair lifted_exponential(real d, pair it, int scaled, real exponent) {
    real q = d, tail = K(0);
    if (scaled) {
        q = where(eq(d, K(-INFINITY)), d, d * it.hi);
        tail = where(lt(K(FLOOR), q), r_fma(d, it.lo, r_product_error(d, it.hi, q)), K(0));
    }
    const exponential y = r_exp_parts(r_max(K(FLOOR), q), tail);
    const real s = r_pow2(r_max(y.k - exponent, K(-EXPONENT_BIAS)));
    const real hi = r_fma(y.w, s, s);
    return (pair){hi, r_fma(y.w, s, s - hi)};
}

/* ((y - y_max) - (x - x_max))/T + between, in two parts */
INLINE pair log_ratio(real x, real y, real x_max, real y_max, pair between, pair it) {
    const pair gx = two_sum(x, -x_max), gy = two_sum(y, -y_max);
    const mask gone = both(lt(K(-INFINITY), x), eq(gx.hi, K(-INFINITY))); /* beyond the range: p is 0 long before */
    const pair d = two_sum(where(gone, K(0), gy.hi), where(gone, K(0), -gx.hi));
    const real q = d.hi * it.hi;
    const real tail = r_fma(d.lo + (gy.lo - gx.lo), it.hi, r_fma(d.hi, it.lo, r_product_error(d.hi, it.hi, q)));
    const pair s = two_sum(q, between.hi);
    const real low = where(lt(r_abs(s.hi), K(INFINITY)), s.lo + (between.lo + tail), K(0));
    return two_sum(s.hi, low);
}

/* (e + lo) * y * (hi + lo of the inverse): y first, as the quotient may be subnormal, unless that overflows */
INLINE real share(real e, real lo, pair y, pair inverse) {
    const mask fair = lt(r_abs(y.hi), K(0x1p60));
    const real f = where(fair, y.hi, K(1)), product = e * f;
    const real low = r_fma(e, where(fair, y.lo, K(0)), r_fma(lo, f, r_product_error(e, f, product)));
    return r_mul0(r_quotient(product, low, inverse), where(fair, K(1), y.hi));
}

/* e^t - 1, and e^t - 1 - t, in two parts each, for t + lo <= 2. Near 0 from the series: t^2/2 exactly, and t^3 Q(t). */
typedef struct { pair expm1; real phi, phi_lo; } growth;
INLINE growth growth_of(real t, real lo) {
    static const scalar c[] = LF_PHI; /* 1/2, and Q */
    const mask near = le(r_abs(t), K(1));
    const real r = where(near, t, K(0)), half = K(0.5) * r, square = half * r;
    const real cube = r_fma(square * (r + r), r_horner(r, c + 1, LF_PHI_TERMS - 1), r_fma(r, lo, r_product_error(half, r, square)));
    const real small = square + cube;
    const exponential y = r_exp_parts(r_max(K(FLOOR), t), lo);
    const real s = r_pow2(r_max(y.k, K(-EXPONENT_BIAS))), e = r_fma(y.w, s, s);
    const pair less = two_sum(e, K(-1)), large = two_sum(less.hi, -t);
    const real less_lo = less.lo + r_fma(y.w, s, s - e), small_lo = (square - small) + cube;
    const pair whole = two_sum(r, small);
    return (growth){{where(near, whole.hi, less.hi), where(near, whole.lo + (small_lo + lo), less_lo)},
                    where(near, small, large.hi),
                    where(near, small_lo, where(lt(large.hi, K(INFINITY)), large.lo + (less_lo - lo), K(0)))};
}

/* Numbers in two parts, so that a row's constants (weight, scale, temperature) cost its entries one rounding in all;
   without a second part where there can be none: of 0, of what is infinite */
INLINE pair normal(real hi, real lo) {
    return (pair){hi, where(both(lt(r_abs(hi), K(INFINITY)), not_(eq(hi, K(0)))), lo, K(0))};
}
INLINE pair times(pair x, pair y) {
    const real hi = r_mul0(x.hi, y.hi);
    return normal(hi, r_product_error(x.hi, y.hi, hi) + r_fma(x.hi, y.lo, x.lo * y.hi));
}
INLINE pair plus(pair x, pair y) {
    const pair s = two_sum(x.hi, y.hi);
    return normal(s.hi, s.lo + (x.lo + y.lo));
}
INLINE pair divided(real x, real y) {
    const real q = x / y;
    return normal(q, -r_product_error(q, y, x) / y);
}
INLINE pair minus(pair x) { return (pair){-x.hi, -x.lo}; }
INLINE real rounded(pair x) { return x.hi + x.lo; }
/* (x + x_lo) / (y + y_lo) */
INLINE pair ratio(real x, real x_lo, real y, real y_lo) {
    const real q = x / y;
    return (pair){q, ((x_lo - q * y_lo) - r_product_error(q, y, x)) / y};
}

/* The log-sum-exp as a sum of the maximum and what is above it. */
INLINE pair above(real max, pair top) { return plus(exactly(max), top); }
/* x - lse. In float32 lse is as good as exact: two roundings, at most 1.5 ULP off (1 but where the second leaves the binade).
   In float64 its logarithm has an error of its own, which leaves room for one. */
INLINE real log_share(real x, pair lse) {
    const real d = x - lse.hi;
#if LF_DTYPE == 32
    return d - lse.lo;
#else
    const real back = d - x, lost = (x - (d - back)) - (lse.hi + back);
    return where(lt(K(-INFINITY), d), d + (lost - lse.lo), d);
#endif
}

#include "profiles.h"
#define LF_BODIES 1
#include "entrywise.h"

#define ALONG 1
#include "rowstages.h"
#undef ALONG
#define ALONG 0
#include "rowstages.h"
#undef ALONG

#define LF_ACROSS(name) across_##name,
#define LF_ALONG(name) along_##name,
#if LF_DTYPE == 64
#define LF_ENTRY_ACROSS(name) LF_ENTRY_STAGES(LF_ACROSS, name)
#define LF_ENTRY_ALONG(name) LF_ENTRY_STAGES(LF_ALONG, name)
static const lf_stage lf_across[] = {LF_STAGES(LF_ACROSS) LF_ENTRYWISE(LF_ENTRY_ACROSS)};
static const lf_stage lf_along[] = {LF_STAGES(LF_ALONG) LF_ENTRYWISE(LF_ENTRY_ALONG)};
#else
static const lf_stage lf_across[] = {LF_STAGES(LF_ACROSS)};
static const lf_stage lf_along[] = {LF_STAGES(LF_ALONG)};
#endif

#include "plain.h"

#if LF_DTYPE == 64
/* ---- rows ---- */

#define STEP(name) static void name(lf_rows *r, const lf_options *o)
#define EACH_ROW for (int i = 0; i < r->rows; i += LF_LANES)
#define V(name) r_load(r->name + i)
#define SET(name, y) r_store(r->name + i, (y))
#define POSITIVE(x) r_max((x), K(0))

#define PAIR(name) ((pair){V(name), V(name##_lo)})
#define SET_PAIR(name, y) do { const pair y_ = (y); SET(name, y_.hi); SET(name##_lo, y_.lo); } while (0)
static void zero(double *p) { memset(p, 0, LF_ROWS * sizeof *p); }

STEP(prepare) {
    const real inverse_t = K(1 / o->temperature), far = K(o->dtype == 32 ? 256 : 2048);
    EACH_ROW {
        const real m = V(max), shift = where(lt(far, r_abs(m * inverse_t)), m, K(0));
        SET(shift, shift);
        SET(scale_exponent, r_round((m - shift) * inverse_t * K(LF_LOG2E)));
        SET(share, o->label_smoothing == 0 ? K(1) : r_from_bits(r_bits(K(1) / r_max(K(1), V(classes))) & r_bits(K(INFINITY))));
    }
    zero(r->others), zero(r->others_lo), zero(r->pivot_e), zero(r->pivot_lo), zero(r->rest), zero(r->rest_lo), zero(r->max_e), zero(r->max_e_lo);
    zero(r->tau), zero(r->tau_gap), zero(r->cw_sum), zero(r->cw_gap);
}

/* x / T */
INLINE pair over_t(real x, const lf_options *o) {
    return o->temperature == 1 ? exactly(x) : divided(x, K(o->temperature));
}
/* log((others + e) / e) for a normal e > 0 and others >= 0, to about 2^-50 of itself, by one division: 2 atanh(s) of
   s = (S - e) / (S + e), S = others + e brought near e by a power of 2, so that |s| <= 0.2004; k ln 2 besides. */
INLINE real log_of_share(real others, real e) {
    static const scalar c[] = LF_ATANH;
    const real sum_ = others + e;
    /* the bits of a number are its logarithm to about 0.086: their difference, rounded, is k >= 0 */
    const ireal k = (r_bits(sum_) - r_bits(e) + ((ireal)r_bits(K(0)) + (1LL << 51))) >> 52;
    const real n = r_from_bits(k + r_bits(K(MAGIC))) - K(MAGIC), near = r_from_bits(r_bits(sum_) - (k << 52));
    const real s = where(eq(n, K(0)), others, near - e) / (near + e), z = s * s;
    return r_fma(n, K(LF_LN2_HEAD + LF_LN2_TAIL), r_fma(s * z, r_horner(z, c, LF_ATANH_TERMS), s + s));
}

/* Of a sum over the others and the pivot's own e: 1 / the sum, the others' share in it, and whether e has kept its digits
   (or the others are too many times as large: then the logits themselves are far enough apart). */
typedef struct { real sum_, sum_lo; pair inverse; real rest; mask direct; } parted;
INLINE parted part(real others, real others_lo, real e, real e_lo, int dtype) {
    parted y;
    y.direct = le(K(dtype == 32 ? FLT_MIN * 0x1p24 : 0x1p-800), e);
    y.sum_ = others + e;
    if (dtype == 32) { /* a double in one part has digits to spare */
        y.sum_lo = K(0);
        y.inverse = (pair){K(1) / y.sum_, K(0)};
        y.rest = others * y.inverse.hi;
    } else {
        const real back = y.sum_ - others;
        y.sum_lo = ((others - (y.sum_ - back)) + (e - back)) + (others_lo + e_lo);
        y.inverse = r_inverse(y.sum_, y.sum_lo);
        y.rest = r_quotient(others, others_lo, y.inverse);
    }
    return y;
}
/* -log of the pivot's share in the sum, where `direct` */
INLINE pair pivot_log(real others, real others_lo, real e, real e_lo, int dtype) {
    if (dtype == 32) return exactly(log_of_share(others, e));
    const pair one_more = one_plus(ratio(others, others_lo, e, e_lo));
    return r_log_parts(one_more.hi, one_more.lo, K(0), K(0));
}

STEP(finish) {
    const real lift = K(o->dtype == 32 ? 64 : 128);
    EACH_ROW {
        const real others = V(others), others_lo = V(others_lo), e = V(pivot_e), e_lo = V(pivot_lo), x = V(x_pivot);
        const parted y = part(others, others_lo, e, e_lo, o->dtype);
        const real safe_e = where(y.direct, e, K(1));
        const pair direct = pivot_log(others, others_lo, safe_e, e_lo, o->dtype);
        pair log_ = direct;
        if (any(not_(y.direct))) {
            const real size = r_abs(y.sum_), size_lo = where(lt(y.sum_, K(0)), -y.sum_lo, y.sum_lo);
            const real n = V(scale_exponent) - lift, shift = V(shift);
            const pair far = r_log_parts(size, size_lo, n, over_t(shift - x, o).hi);
            log_ = (pair){where(y.direct, direct.hi, far.hi), where(y.direct, direct.lo, far.lo)};
        }
        const real nlp = where(eq(y.sum_, K(0)), K(-INFINITY), where(eq(y.sum_, y.sum_), log_.hi, y.sum_));
        const real nlp_lo = where(lt(r_abs(nlp), K(INFINITY)), log_.lo, K(0));
        const real m = V(max);
        SET(inverse, y.inverse.hi);
        SET(inverse_lo, where(lt(r_abs(y.inverse.lo), K(INFINITY)), y.inverse.lo, K(0)));
        SET(pivot_rest, y.rest);
        SET(pivot_nlp, nlp);
        SET(pivot_nlp_lo, nlp_lo);
        SET(lse, rounded(plus((pair){nlp, nlp_lo}, over_t(x, o))));
        SET(sign, where(lt(K(0), y.sum_), K(1), where(lt(y.sum_, K(0)), K(-1), y.sum_)));
        const pair gap = over_t(m - x, o), left = plus((pair){nlp, nlp_lo}, minus(gap));
        const mask own = eq(x, m), above = lt(K(0), left.hi);
        SET(top, where(own, nlp, where(le(left.hi, K(0)), K(0), left.hi)));
        SET(top_lo, where(own, nlp_lo, where(above, left.lo, K(0))));
    }
}

/* The largest class as `finish` has the pivot: what is left beside it, and the log-sum-exp from there. (By way of a pivot
   far below, or masked, it would lose digits, or all.) */
STEP(remainders) {
    EACH_ROW {
        const pair more = ratio(V(rest), V(rest_lo), V(max_e), V(max_e_lo)), log_ = r_log1p_parts(more);
        const mask known = both(eq(V(pivot), V(argmax)), eq(V(x_pivot), V(max)));
        const real top = where(known, V(top), log_.hi), top_lo = where(known, V(top_lo), log_.lo);
        SET(top, top);
        SET(top_lo, top_lo);
        SET(lse, rounded(plus((pair){top, top_lo}, over_t(V(max), o))));
        if (o->profile >= 0) {
            const pair fine = fine_log1p(more);
            SET_PAIR(left, times(PAIR(rest), lifted(PAIR(inverse), UP)));
            SET_PAIR(fine_top, fine);
        }
        SET(rest, r_quotient(V(rest), V(rest_lo), PAIR(inverse)));
    }
}

/* With a true class the sums over the targets are its own alone, and its weight a double still. */
STEP(targets) {
    EACH_ROW {
        const mask soft = o->soft ? lt(V(label), K(0)) : lt(K(0), K(0));
        SET(tau, where(soft, V(tau), V(label_weight)));
        SET(tau_gap, where(soft, V(tau_gap), r_mul0(V(label_weight), V(max) - V(x_pivot))));
    }
}

/* 1 - label_smoothing, and label_smoothing / classes */
#define KEEP() plus(exactly(K(1)), exactly(K(-o->label_smoothing)))
#define KEPT(y) (o->label_smoothing == 0 ? (y) : times(KEEP(), (y)))
#define SPREAD() times(exactly(K(o->label_smoothing)), r_inverse(V(classes), K(0)))
/* The sum of the smoothed, weighted targets, and of those times (max - x). */
INLINE pair spread_gap(const lf_rows *r, int i, const lf_options *o) {
    const pair by = SPREAD();
    const real up = K(1) / V(share);
    return times((pair){by.hi * up, by.lo * up}, exactly(V(cw_gap)));
}
#define SMOOTHED(y, even) \
    (o->label_smoothing == 0 ? exactly(V(y)) : plus(even, times(KEEP(), exactly(V(y)))))
#define TAU() SMOOTHED(tau, times(SPREAD(), exactly(V(cw_sum))))
#define TAU_GAP() SMOOTHED(tau_gap, spread_gap(r, i, o))
#define INVERSE_T() r_inverse(K(o->temperature), K(0))
/* weight * scale / T^power */
#define WEIGHT() times(exactly(V(weight)), exactly(K(o->scale)))
#define UNIT() (o->temperature == 1 ? WEIGHT() : times(WEIGHT(), INVERSE_T()))
#define UNIT_2() (o->temperature == 1 ? WEIGHT() : times(times(WEIGHT(), INVERSE_T()), INVERSE_T()))
/* a sum over the exponentials as one over the probabilities */
#define MEAN(which) r_quotient(V(terms[which]), K(0), PAIR(inverse))
#define Z2() exactly(K(2 * o->z_loss))
/* the factor of p in the gradient: the targets' sum, and what the squared lse adds (nothing, though lse be infinite) */
#define PULL() (o->z_loss == 0 ? TAU() : plus(times(Z2(), exactly(V(lse))), TAU()))

/* Is an entry's factor y / (the sum of the exponentials) well above the subnormals? That is a question of y and the number of
   classes, not of how the exponentials were scaled: sums are at most 2^65, in float64 2^129, a class. */
INLINE mask is_fair(real y, real classes, int dtype) {
    return either(eq(y, K(0)), le(K(dtype == 32 ? 0x1p-31 : 0x1p-800) * classes, r_abs(y)));
}
/* a = y / sum, and 1 in `post`; where that is not fair, or out of range (factors may scale the exponentials too),
   a = y' / sum, and 2^n in `post`, y = y' 2^n. */
INLINE void scaled_inverse(pair y, pair inverse, real classes, int dtype, pair *a, real *post) {
    const real quotient = r_abs(y.hi * inverse.hi), size = r_abs(y.hi);
    const real least = K(dtype == 32 ? 0x1p-96 : 0x1p-950), most = K(dtype == 32 ? 0x1p120 : 0x1p1000);
    const mask moderate = either(eq(y.hi, K(0)), both(le(least, quotient), le(quotient, most)));
    const mask fair = both(is_fair(y.hi, classes, dtype), moderate);
    *a = times(y, inverse);
    *post = K(1);
    if (!any(not_(fair))) return;
    const mask normal_ = both(le(K(DBL_MIN), size), lt(size, K(INFINITY)));
    const real power = where(normal_, r_from_bits(r_bits(size) & r_bits(K(INFINITY))), y.hi);
    const pair left = {where(normal_, y.hi / power, K(1)), where(normal_, y.lo / power, K(0))}, b = times(left, inverse);
    *a = (pair){where(fair, a->hi, b.hi), where(fair, a->lo, b.lo)};
    *post = where(fair, K(1), power);
}
INLINE void set_scaled_inverse(lf_rows *r, int i, pair y, const lf_options *o) {
    pair a;
    real post;
    scaled_inverse(y, PAIR(inverse), V(all_classes), o->dtype, &a, &post);
    SET_PAIR(a, a);
    SET(post, post);
}

STEP(loss_value) {
    const real plain = K(o->label_smoothing == 0 && o->z_loss == 0 ? 0 : INFINITY);
    EACH_ROW {
        const pair top = PAIR(top), tau = exactly(V(tau));
        /* a gap beyond the range, whose product with the weights may not be: an eighth of it */
        const mask far = both(le(plain, V(label)), both(eq(V(pivot_nlp), K(INFINITY)), lt(K(-INFINITY), V(x_pivot))));
        const real eighth = (K(0.125) * V(max) - K(0.125) * V(x_pivot)) / K(o->temperature);
        pair l = times(tau, ((pair){where(far, eighth, V(pivot_nlp)), where(far, K(0), V(pivot_nlp_lo))}));
        if (o->soft) {
            const pair soft = plus(times(tau, top), times(exactly(V(tau_gap)), INVERSE_T()));
            const mask is_soft = lt(V(label), K(0));
            l = (pair){where(is_soft, soft.hi, l.hi), where(is_soft, soft.lo, l.lo)};
        }
        l = KEPT(l);
        if (o->label_smoothing != 0)
            l = plus(l, plus(times(SPREAD(), times(exactly(V(cw_sum)), top)), times(spread_gap(r, i, o), INVERSE_T())));
        if (o->z_loss != 0) l = plus(l, times(exactly(K(o->z_loss)), times(exactly(V(lse)), exactly(V(lse)))));
        SET(result, rounded(times(exactly(V(weight)), l)) * where(far, K(8), K(1)));
    }
}

/* post a p - cw (b t + c), and the true class's entry from the others */
STEP(loss_grad) {
    EACH_ROW {
        const int plain = o->label_smoothing == 0 && o->z_loss == 0;
        const pair unit = UNIT(), own = KEPT(unit), even = plain ? exactly(K(0)) : times(unit, SPREAD());
        const pair hard = times(own, exactly(V(tau))); /* what of `whole` belongs to the true class alone */
        const pair whole = plain ? hard : times(unit, PULL());
        pair at_mark = minus(times(hard, exactly(V(pivot_rest))));
        if (!plain) {
            const pair p = times(exactly(V(pivot_e)), PAIR(inverse));
            at_mark = plus(at_mark, times(p, plus(whole, minus(hard))));
            at_mark = plus(at_mark, minus(times(even, exactly(V(label_weight) * V(label_live)))));
        }
        set_scaled_inverse(r, i, whole, o);
        SET(b, rounded(own));
        SET(c, rounded(even));
        SET(mark, V(label));
        SET(at_mark, rounded(at_mark));
    }
}

/* Plain rows: as finish, loss_value and loss_grad have them. Where a row is not for plain rows, `inverse` is NaN. `even`: all
   weights are 1, and the scale is a fair one. */
INLINE void plain_rows_of(lf_batch *r, int from, int to, const lf_options *o, const int dtype, const int want, const int even, double classes) {
    for (int i = from; i < to; i += LF_LANES) {
        const real others = V(others), others_lo = V(others_lo), e = V(pivot_e), e_lo = V(pivot_lo);
        const parted y = part(others, others_lo, e, e_lo, dtype);
        const mask direct = want & LF_PLAIN_LSE ? lt(K(0), K(0)) : either(y.direct, lt(V(label), K(0)));
        mask fair = both(both(lt(K(0), y.sum_), lt(y.sum_, K(INFINITY))), le(V(weight) * V(label_weight) * K(fabs(o->scale)), K(dtype == 32 ? 0x1p60 : 0x1p600)));
        pair far = exactly(K(0));
        if (any(not_(direct))) {
            far = r_log_parts(where(fair, y.sum_, K(1)), where(fair, y.sum_lo, K(0)), V(exponent), want & LF_PLAIN_LSE ? V(shift) : V(shift) - V(x_pivot));
            fair = both(fair, either(direct, lt(r_abs(far.hi), K(INFINITY))));
        }
        SET(inverse, where(fair, y.inverse.hi, K(NAN)));
        if (want & LF_PLAIN_ENTRIES) {
            const pair unit = even ? exactly(K(o->scale)) : times(times(exactly(V(weight)), exactly(K(o->scale))), exactly(V(label_weight)));
            pair a;
            real post = K(1);
            if (even) a = dtype == 32 ? exactly(unit.hi * y.inverse.hi) : times(unit, y.inverse);
            else scaled_inverse(unit, y.inverse, K(classes), dtype, &a, &post);
            SET_PAIR(a, a);
            SET(post, post);
            r->whole &= !any(ne(post, K(1)));
            SET(at_mark, even && dtype == 32 ? -(unit.hi * y.rest) : where(eq(V(weight), K(0)), K(0), rounded(minus(times(unit, exactly(y.rest))))));
        }
        if (want & LF_PLAIN_LSE) SET(loss, rounded(far));
        if (want & (LF_PLAIN_LOSS | LF_PLAIN_LOGS)) {
            const pair near = pivot_log(others, others_lo, where(y.direct, e, K(1)), e_lo, dtype);
            const pair l = {where(direct, near.hi, far.hi), where(direct, near.lo, far.lo)};
            if (want & LF_PLAIN_LOGS) SET_PAIR(loss, above(V(max), l));
            else SET(loss, even ? rounded(l) : rounded(times(exactly(V(weight)), times(exactly(V(label_weight)), l))));
        }
    }
}
static void plain_rows(lf_batch *r, int from, int to, const lf_options *o, int want, double classes) {
    const int even = r->even && !any(not_(is_fair(K(o->scale), K(classes), o->dtype)));
    r->whole = 1;
#define CASE(type, wanted)                                                                      \
    if (o->dtype == (type) && want == (wanted)) {                                                \
        if (even) plain_rows_of(r, from, to, o, type, wanted, 1, classes);                     \
        else plain_rows_of(r, from, to, o, type, wanted, 0, classes);                          \
    }
    CASE(32, LF_PLAIN_LOSS) CASE(32, LF_PLAIN_ENTRIES) CASE(32, LF_PLAIN_LOSS | LF_PLAIN_ENTRIES)
    CASE(32, LF_PLAIN_LSE) CASE(32, LF_PLAIN_LOGS) CASE(64, LF_PLAIN_LSE) CASE(64, LF_PLAIN_LOGS)
    CASE(64, LF_PLAIN_LOSS) CASE(64, LF_PLAIN_ENTRIES) CASE(64, LF_PLAIN_LOSS | LF_PLAIN_ENTRIES)
#undef CASE
}

static int take_labels(lf_batch *b, const int64_t *labels, int n, ptrdiff_t classes) {
    uint64_t wrong = 0; /* its sign */
    for (int i = 0; i < n; i++) {
        wrong |= (uint64_t)labels[i] | ((uint64_t)classes - 1 - (uint64_t)labels[i]);
        b->label[i] = (double)labels[i];
    }
    return !(wrong >> 63);
}

/* The running sums and all that was put away, as one total: by a tree, or one by one where that overflows. */
static void end_sum(lf_running *sum_) {
    double hi[LF_ROWS], lo[LF_ROWS];
    int finite = 1;
    for (int i = 0; i < LF_ROWS; i++) finite &= sum_->hi[i] - sum_->hi[i] == 0;
    memcpy(hi, sum_->hi, sizeof hi);
    memcpy(lo, sum_->lo, sizeof lo);
    dd_tree(hi, lo, LF_ROWS);
    if (hi[0] - hi[0] == 0 || !finite) total_add(&sum_->total, hi[0], hi[0] - hi[0] == 0 ? lo[0] : 0);
    else for (int i = 0; i < LF_ROWS; i++) total_add(&sum_->total, sum_->hi[i], sum_->lo[i]);
    memset(sum_->hi, 0, sizeof sum_->hi);
    memset(sum_->lo, 0, sizeof sum_->lo);
    leave_vectors();
}

/* The n losses of a batch, row i to the running sum i % 16. Where those would overflow they are put away before, and the
   losses one by one. */
static void add_batch(lf_running *sum_, const double *x, int n) {
    double hi[LF_ROWS], lo[LF_ROWS];
    int finite = 1, fits = 1;
    for (int lane = 0; lane < LF_ROWS; lane += LF_LANES) {
        real s = r_load(sum_->hi + lane), c = r_load(sum_->lo + lane);
        for (int i = lane; i < n; i += LF_ROWS) {
            const real y = i + LF_LANES <= n ? r_load(x + i) : r_load_part(x + i, n - i, 0), t = s + y, back = t - s;
            c += (s - (t - back)) + (y - back);
            s = t;
            finite &= !any(not_(lt(r_abs(y), K(INFINITY))));
        }
        fits &= !any(not_(lt(r_abs(s), K(INFINITY))));
        r_store(hi + lane, s);
        r_store(lo + lane, c);
    }
    if (fits || !finite) {
        memcpy(sum_->hi, hi, sizeof hi);
        memcpy(sum_->lo, lo, sizeof lo);
        return;
    }
    end_sum(sum_);
    for (int i = 0; i < n; i++) total_add(&sum_->total, x[i], 0);
}

/* H = a diag(p) + (z2 - a) p p^T, z2 the part of the squared lse. Where that is infinite, p (1-p) lse is 0 in the limit. */
INLINE pair curvature_of(const lf_rows *r, int i, const lf_options *o) {
    const mask limit = eq(V(lse), K(INFINITY));
    const pair pull = PULL(), tau = TAU();
    return times(UNIT_2(), ((pair){where(limit, tau.hi, pull.hi), where(limit, tau.lo, pull.lo)}));
}
#define CURVATURE() curvature_of(r, i, o)
#define CURVATURE_Z() times(UNIT_2(), Z2())

STEP(loss_hess) {
    EACH_ROW {
        set_scaled_inverse(r, i, CURVATURE(), o);
        SET(b, rounded(CURVATURE_Z()));
    }
}
STEP(loss_hvp) {
    EACH_ROW {
        set_scaled_inverse(r, i, CURVATURE(), o);
        SET(b, MEAN(0));
        SET(c, rounded(times(CURVATURE_Z(), exactly(MEAN(0)))));
    }
    zero(r->b_lo);
}
STEP(newton_prepare) {
    loss_grad(r, o);
    EACH_ROW {
        SET(d, rounded(CURVATURE()));
        SET(terms[3], K(o->ridge));
    }
}
/* By Sherman and Morrison, H = a diag(p) + (z2 - a) p p^T and D = a p + ridge:
       (H + ridge)^-1 g = (g + w p) / D,  w = (a - z2) sum(p g/D) / (1 - (a - z2) sum(p^2/D)).
   Both sums nearly cancel. With a p/D = 1 - ridge/D, sum p = 1 and the gradient's sum known (only the squared lse has one):
       w = (1 - z2/a) (sum g - ridge sum(g/D)) / (sum(p ridge/D) + z2 sum(p^2/D)). */
STEP(newton_finish) {
    EACH_ROW {
        const real z2 = rounded(CURVATURE_Z()), a = V(d);
        const real sum_g = o->z_loss == 0 ? K(0) : rounded(times(times(UNIT(), Z2()), exactly(V(lse))));
        const real share = where(eq(a, K(0)), K(1), K(1) - z2 / a);
        /* without a ridge, and without the squared lse, both sides have it as a factor: the limit of small ones */
        const int limit = o->ridge == 0 && o->z_loss == 0;
        const real over = sum_g - (limit ? V(terms[0]) : K(o->ridge) * V(terms[0]));
        const real under = r_fma(z2, V(terms[2]), o->ridge == 0 && !limit ? K(0) : V(terms[1]));
        SET(terms[0], share * over / under);
    }
}
STEP(loss_grad_target) {
    EACH_ROW {
        const mask far = lt(K(o->dtype == 32 ? 0x1p125 : 0x1p1021), r_abs(V(max)));
        const real down = where(far, K(0x1p-3), K(1));
        const pair unit = times(WEIGHT(), KEEP());
        SET_PAIR(a, ((pair){unit.hi / down, unit.lo / down}));
        SET_PAIR(b, PAIR(top));
        SET(c, down);
    }
}
/* T^2 times the derivative in the temperature; and sum p (max - x), p x */
INLINE pair cooling(const lf_rows *r, int i, real *spread, real *mean_x, const lf_options *o) {
    *spread = MEAN(0), *mean_x = where(eq(V(lse), K(INFINITY)), V(lse), V(max) - *spread);
    const pair g = plus(times(TAU(), exactly(*spread)), minus(TAU_GAP()));
    return o->z_loss == 0 ? g : plus(g, minus(times(times(Z2(), exactly(V(lse))), exactly(*mean_x))));
}
STEP(loss_grad_temperature) {
    EACH_ROW {
        real spread, mean_x;
        SET(result, rounded(times(UNIT_2(), cooling(r, i, &spread, &mean_x, o))));
    }
}
STEP(temperature_mean) {
    (void)o;
    EACH_ROW SET(b, MEAN(0));
    zero(r->b_lo);
}
/* (A var z + 2 zeta (E z)^2) / T^2 - (2/T) of the first derivative, z = x / T */
STEP(loss_hess_temperature) {
    EACH_ROW {
        real spread, mean_x;
        const pair g = cooling(r, i, &spread, &mean_x, o), down = times(INVERSE_T(), exactly(K(-2)));
        pair h = plus(times(PULL(), exactly(MEAN(1))), o->temperature == 1 ? times(g, exactly(K(-2))) : times(g, down));
        if (o->z_loss != 0) {
            const pair mean_z = times(exactly(mean_x), INVERSE_T());
            h = plus(h, times(Z2(), times(mean_z, mean_z)));
        }
        SET(result, rounded(times(UNIT_2(), h)));
    }
}

STEP(value_lse) { (void)o; EACH_ROW SET(result, V(lse)); }
STEP(value_sign) { (void)o; EACH_ROW SET(result, V(sign)); }
STEP(value_entropy) { EACH_ROW SET(result, rounded(plus(PAIR(top), times(exactly(MEAN(0)), INVERSE_T())))); }
STEP(value_margin) {
    (void)o;
    EACH_ROW SET(result, where(lt(V(undefined), K(1)), V(x_truth) - V(runner_up), K(NAN)));
}
STEP(value_rank) { (void)o; EACH_ROW SET(result, V(above)); }
STEP(value_along) { (void)o; EACH_ROW SET(result, MEAN(0)); }

STEP(probabilities) {
    (void)o;
    EACH_ROW {
        SET(a, V(inverse));
        SET(a_lo, V(inverse_lo));
        SET(post, K(1));
        SET(mark, K(-1));
        SET(at_mark, K(0));
    }
    zero(r->b), zero(r->c);
}
STEP(log_probabilities) {
    EACH_ROW {
        SET_PAIR(b, o->temperature == 1 ? above(V(max), PAIR(top)) : PAIR(top));
        SET(c, K(1));
    }
}
STEP(softmax_product) {
    EACH_ROW {
        set_scaled_inverse(r, i, INVERSE_T(), o);
        SET(b, MEAN(0));
    }
    zero(r->b_lo), zero(r->c);
}
STEP(log_softmax_vjp) {
    EACH_ROW {
        SET(a, K(1 / o->temperature));
        SET(b, -(V(terms[1]) / K(o->temperature)));
    }
    zero(r->c);
}
STEP(log_softmax_jvp) {
    EACH_ROW {
        SET(a, K(1 / o->temperature));
        SET(c, -(MEAN(0) / K(o->temperature)));
    }
    zero(r->b);
}
STEP(logsumexp_vjp) {
    probabilities(r, o);
    EACH_ROW set_scaled_inverse(r, i, exactly(V(factor)), o);
}

STEP(quadratic_value) {
    (void)o;
    EACH_ROW {
        const real scaled = rounded(times(times(exactly(V(weight)), exactly(V(tau))), exactly(K(0.5) * V(terms[1]))));
        SET(result, scaled / V(up) / V(up));
    }
}
STEP(quadratic_lead) {
    (void)o;
    EACH_ROW {
        const real p = r_quotient(V(max_e), V(max_e_lo), PAIR(inverse)), label = V(label);
        const real d = where(eq(label, V(argmax)), -V(pivot_rest), where(lt(label, K(0)), p - V(lead_target), p));
        const mask leads = lt(K(0.5), p);
        const mask tiny = both(both(leads, eq(label, V(argmax))), lt(V(pivot_rest), K(0x1p-300)));
        const real up = where(tiny, K(0x1p300), K(1));
        SET(leader, where(leads, V(argmax), K(-1)));
        SET(d_lead, where(leads, d * up, K(0)));
        SET(u_lead, where(leads, (p + d) * up, K(0)));
        SET(up, up);
    }
}
STEP(quadratic_slope) {
    EACH_ROW {
        SET_PAIR(a, times(times(UNIT(), exactly(V(tau))), exactly(K(1) / V(up))));
        SET(b, V(terms[0]));
    }
}
STEP(quadratic_curvature) {
    EACH_ROW {
        SET_PAIR(a, times(times(UNIT_2(), exactly(V(tau))), exactly(K(1) / V(up))));
        SET(b, V(terms[0]));
        SET(c, V(terms[2]));
    }
}
STEP(quadratic_direction) {
    quadratic_lead(r, o);
    EACH_ROW SET(d, MEAN(0));
    zero(r->terms[0]), zero(r->terms[1]);
}
STEP(quadratic_product) {
    EACH_ROW {
        SET_PAIR(a, times(times(UNIT_2(), exactly(V(tau))), exactly(K(1) / V(up))));
        SET(b, V(terms[0]));
        SET(c, V(terms[3]));
    }
}

/* The divergence of two softmaxes (see the stages). b, the difference of the normalisers, has their rounding errors; the
   first order of those vanishes in the sum of q - p, whose value takes the rest of them out of b. */
STEP(divergence_start) {
    (void)o;
    EACH_ROW SET_PAIR(b, plus(PAIR(top), minus(PAIR(other_top))));
}
STEP(divergence_balanced) {
    (void)o;
    EACH_ROW {
        const real balance = V(terms[0]); /* tiny: its logarithm is two terms long */
        SET_PAIR(b, plus(PAIR(b), exactly(r_fma(K(0.5) * balance, balance, -balance))));
    }
    zero(r->terms[0]);
}
STEP(divergence_value) { (void)o; EACH_ROW SET(result, r_mul0(V(weight), V(terms[0]))); }
/* the derivatives are made of deviations from the mean of t, taken from a class with most of p as for the quadratic cost */
STEP(divergence_lead) {
    EACH_ROW {
        const real p = r_quotient(V(pivot_e), V(pivot_lo), PAIR(inverse));
        const pair t = log_ratio(V(max), V(lead_other), V(max), V(other_max), PAIR(b), INVERSE_T());
        const mask leads = both(lt(K(0.5), p), lt(r_abs(t.hi), K(INFINITY)));
        SET(d_lead, where(leads, t.hi, K(0)));
        SET(d_lead_lo, where(leads, t.lo, K(0)));
    }
    zero(r->terms[0]), zero(r->terms[1]);
}
STEP(divergence_begin) {
    divergence_start(r, o);
    divergence_lead(r, o);
}
STEP(divergence_balanced_lead) {
    divergence_balanced(r, o);
    divergence_lead(r, o);
}
STEP(divergence_direction) {
    EACH_ROW SET(at_mark, MEAN(0));
    divergence_begin(r, o);
}
/* c, the mean; a p with one class alone has no slope, not where its divergence is infinite either */
static void divergence_slopes(lf_rows *r, int i, pair unit, double wild, const lf_options *o) {
    set_scaled_inverse(r, i, unit, o);
    SET(u_lead, unit.hi);
    SET(c, V(terms[0]));
    SET(d, where(eq(V(terms[1]), K(1)), K(0), K(wild)));
}
STEP(divergence_slope) { EACH_ROW divergence_slopes(r, i, UNIT(), INFINITY, o); }
STEP(divergence_curvature) {
    EACH_ROW divergence_slopes(r, i, UNIT_2(), NAN, o);
    zero(r->terms[0]);
}
STEP(divergence_difference) {
    divergence_balanced(r, o);
    EACH_ROW divergence_slopes(r, i, UNIT(), NAN, o);
}
STEP(divergence_grad_temperature) {
    EACH_ROW SET(result, where(eq(V(c), K(-INFINITY)), K(NAN), rounded(times(UNIT_2(), exactly(V(terms[0]))))));
}

/* Losses with a profile (profiles.h). Of the true class, with all their digits, -log p, UP p and 1 - p; and its profile. */
typedef struct { pair a, p_up, u; profile f; } truth;
INLINE truth truth_of(const lf_rows *r, int i, const lf_options *o) {
    truth y = {.p_up = times(((pair){V(pivot_e), V(pivot_lo)}), lifted(PAIR(inverse), UP)), .u = times(PAIR(others), PAIR(inverse))};
    const parted whole = part(V(others), V(others_lo), V(pivot_e), V(pivot_lo), 64);
    y.a = fine_log1p(ratio(V(others), V(others_lo), where(whole.direct, V(pivot_e), K(1)), V(pivot_lo)));
    if (any(not_(whole.direct))) {
        const pair gap = over_t(V(shift) - V(x_pivot), o), far = r_log_sum(whole.sum_, whole.sum_lo, V(scale_exponent) - K(128), gap.hi, 1);
        const mask known = eq(whole.sum_, whole.sum_);
        y.a.hi = where(whole.direct, y.a.hi, where(known, far.hi, whole.sum_));
        y.a.lo = where(whole.direct, y.a.lo, where(both(known, lt(r_abs(far.hi), K(INFINITY))), far.lo + gap.lo, K(0)));
    }
    profile_of(o->profile, &y.a, &y.p_up, &y.u, o->params, &y.f);
    return y;
}
INLINE mask is_soft(const lf_rows *r, int i, const lf_options *o) { return o->soft ? lt(V(label), K(0)) : lt(K(0), K(0)); }
INLINE pair either_of(mask m, pair x, pair y) { return (pair){where(m, x.hi, y.hi), where(m, x.lo, y.lo)}; }
STEP(profile_start) {
    (void)o;
    EACH_ROW SET(c, where(lt(K(0x1p1020), r_abs(V(max))), K(0x1p-3), K(1)));
}
STEP(profile_value) {
    EACH_ROW {
        const truth y = truth_of(r, i, o);
        const mask soft = is_soft(r, i, o);
        /* a gap beyond the range, whose product with the weights may not be: an eighth of it */
        const mask far = both(both(le(K(0), V(label)), eq(y.f.value.hi, K(INFINITY))), lt(K(-INFINITY), V(x_pivot)));
        pair value = y.f.value;
        if (any(far)) {
            const pair eighth = exactly((K(0.125) * V(max) - K(0.125) * V(x_pivot)) / K(o->temperature));
            profile f;
            profile_of(o->profile, &eighth, &y.p_up, &y.u, o->params, &f);
            value = either_of(far, f.value, value);
        }
        value = either_of(soft, ((pair){V(terms[0]), V(terms[1])}), times(exactly(V(label_weight)), value));
        const real up = where(soft, K(1) / V(c), where(far, K(8), K(1)));
        SET(result, rounded(times(exactly(V(weight)), value)) * up);
    }
}
STEP(profile_slope) {
    EACH_ROW {
        const truth y = truth_of(r, i, o);
        const pair unit = UNIT(), hard = times(times(unit, exactly(V(label_weight))), y.f.slope);
        const pair whole = either_of(is_soft(r, i, o), times(unit, ((pair){V(terms[0]), V(terms[1])})), hard);
        set_scaled_inverse(r, i, whole, o);
        SET_PAIR(b, unit);
        SET(mark, V(label));
        SET(at_mark, K(0) - rounded(times(hard, y.u)));
    }
}
STEP(profile_bend) {
    EACH_ROW {
        const truth y = truth_of(r, i, o);
        const mask soft = is_soft(r, i, o);
        const pair unit = UNIT_2(), hard = times(times(unit, exactly(V(label_weight))), y.f.slope);
        const pair whole = either_of(soft, times(unit, ((pair){V(terms[0]), V(terms[1])})), hard);
        set_scaled_inverse(r, i, whole, o);
        SET_PAIR(b, unit);
        SET_PAIR(d_lead, either_of(soft, exactly(K(0)), lifted(y.f.bend, 1 / UP)));
        SET_PAIR(other_inverse, either_of(either(soft, lt(V(others), K(0x1p-1000))), exactly(K(0)), r_inverse(V(others), V(others_lo)))); /* p is 0 then */
        SET(mark, V(label));
        SET(at_mark, rounded(times(times(hard, y.u), plus(y.p_up, y.f.bend))) * K(1 / UP));
    }
}

/* Margins: the largest of the other classes says how large violations are. */
STEP(margin_start) {
    (void)o;
    EACH_ROW {
        SET(runner_up, K(-INFINITY));
        SET(argmax, K(-1));
    }
    zero(r->undefined);
}
static void scale_violations(lf_rows *r, const lf_options *o, double order) {
    const int squared = o->params[2] == 1;
    EACH_ROW {
        const real eighth = (K(0.125) * V(runner_up) - K(0.125) * V(x_pivot)) + K(0.125 * o->params[1]);
        SET(up, where(lt(K(squared ? 0x1p400 : 0x1p1000), eighth), K(squared ? 0x1p-540 : 0x1p-60), K(1)));
        SET(c, K(order));
    }
}
STEP(margin_first) { scale_violations(r, o, 1); }
STEP(margin_second) { scale_violations(r, o, 2); }
/* of the largest violation, `up` times as large: h, and the sums over all classes that there are then of h^p and its derivative */
INLINE void rival_alone(const lf_rows *r, int i, const lf_options *o, pair *value, pair *slope) {
    const int squared = o->params[2] == 1;
    const real up = V(up), hit = K(1);
    const pair d = two_sum(V(runner_up) * up, -(V(x_pivot) * up)), above = two_sum(d.hi, K(o->params[1]) * up);
    const pair h = two_sum(above.hi, above.lo + d.lo);
    const mask none = either(eq(V(runner_up), K(-INFINITY)), le(h.hi, K(0))), second = eq(V(c), K(2)), number = eq(h.hi, h.hi);
    const pair square = times(h, h), is = exactly(where(number, hit, h.hi));
    const pair first = squared ? (pair){h.hi + h.hi, h.lo + h.lo} : is, bend = squared ? exactly(is.hi + is.hi) : exactly(is.hi - is.hi);
    *value = either_of(none, exactly(K(0)), squared ? square : h);
    *slope = either_of(none, exactly(K(0)), either_of(second, bend, first));
}
INLINE pair margin_unit(const lf_rows *r, int i, const lf_options *o, pair weight) {
    const mask infinite = both(eq(V(runner_up), K(INFINITY)), eq(V(x_pivot), K(INFINITY)));
    const mask odd = either(either(lt(K(0), V(undefined)), infinite), not_(eq(V(x_pivot), V(x_pivot))));
    const pair of_class = times(weight, exactly(V(label_weight)));
    const pair y = o->params[0] == 0 ? of_class : times(of_class, r_inverse(V(classes), K(0)));
    return (pair){where(odd, K(NAN), y.hi), y.lo};
}
STEP(margin_value) {
    EACH_ROW {
        pair value, slope;
        rival_alone(r, i, o, &value, &slope);
        if (o->params[0] != 0) value = (pair){V(terms[0]), V(terms[1])};
        const real y = rounded(times(margin_unit(r, i, o, exactly(V(weight))), value)) / V(up);
        SET(result, (o->params[2] == 1 ? y / V(up) : y) + K(0));
    }
}
static void margin_entries(lf_rows *r, const lf_options *o, double sign) {
    EACH_ROW {
        pair value, slope;
        rival_alone(r, i, o, &value, &slope);
        if (o->params[0] != 0) slope = (pair){V(terms[2]), V(terms[3])};
        const pair unit = margin_unit(r, i, o, WEIGHT());
        const real post = o->params[2] == 1 && sign < 0 ? K(1) / V(up) : K(1);
        SET_PAIR(b, unit);
        SET(post, post);
        SET(at_mark, K(0) + K(sign) * rounded(times(unit, slope)) * post);
    }
}
STEP(margin_slope) { margin_entries(r, o, -1); }
STEP(margin_bend) { margin_entries(r, o, 1); }

/* input: log-probabilities; nothing of the softmax state is used */
STEP(nll_value) { (void)o; EACH_ROW SET(result, V(weight) * r_silence(V(label_weight), K(0) - V(x_pivot))); }
STEP(nll_grad) {
    EACH_ROW {
        SET(mark, V(label));
        SET(at_mark, K(0) - rounded(times(WEIGHT(), exactly(V(label_weight)))));
        SET(c, V(weight) * K(0)); /* NaN where the label is out of range */
    }
}
STEP(nll_flat) {
    (void)o;
    EACH_ROW {
        SET(mark, K(-1));
        SET(c, V(weight) * K(0));
    }
}

/* The losses that are sums over their entries. Of an integer label its own entry is all there is, and what the stages make of
   it is made here. */
INLINE pair entry_factor(const lf_rows *r, int i, int does, const lf_options *o) {
    if (does & ENTRY_MEAN) return r_inverse(V(classes), K(0));
    return exactly(does & ENTRY_IN_BASE ? K(o->params[0]) : K(1));
}
INLINE void entry_result(lf_rows *r, int i, pair sum_, real small, int does, const lf_options *o) {
    const pair factor = entry_factor(r, i, does, o);
    real y = rounded(times(two_sum(sum_.hi, sum_.lo), factor));
    if (does & ENTRY_IN_BASE) y *= K(1 / RAISED);
    if (does & ENTRY_MEAN) y = where(eq(r_abs(y), K(INFINITY)), small * factor.hi * K(1 / LOWERED), y);
    SET(result, r_mul0(V(weight), y));
}
#define ENTRY_STEPS(name)                                                                                              \
    STEP(name##_value) { EACH_ROW entry_result(r, i, (pair){V(terms[0]), V(terms[1])}, V(terms[2]), name##_does, o); } \
    STEP(name##_slope) {                                                                                               \
        EACH_ROW SET(result, rounded(times((pair){V(terms[0]), V(terms[1])}, entry_factor(r, i, name##_does, o))));    \
    }                                                                                                                  \
    STEP(name##_unit) { EACH_ROW SET_PAIR(a, times(WEIGHT(), entry_factor(r, i, name##_does, o))); }                   \
    STEP(name##_pull) { EACH_ROW SET_PAIR(a, times(exactly(V(factor)), entry_factor(r, i, name##_does, o))); }         \
    STEP(name##_label_value) {                                                                                         \
        EACH_ROW {                                                                                                     \
            const entry one = name##_entry(V(x_pivot), K(1), o->params);                                               \
            const pair v = entry_weighed(one.v, V(label_weight));                                                      \
            entry_result(r, i, v, v.hi * K(LOWERED), name##_does, o);                                                  \
        }                                                                                                              \
    }                                                                                                                  \
    INLINE void name##_label_slope(lf_rows *r, const lf_options *o, const int second) {                                \
        EACH_ROW {                                                                                                     \
            const entry one = name##_entry(V(x_pivot), K(1), o->params);                                               \
            const pair unit = times(WEIGHT(), entry_factor(r, i, name##_does, o));                                     \
            SET(mark, V(label));                                                                                       \
            SET(at_mark, entry_scaled(times_weight(unit, V(label_weight)), second ? one.h : one.g));                   \
            SET(c, V(weight) * K(0)); /* NaN where the label is out of range */                                        \
        }                                                                                                              \
    }                                                                                                                  \
    STEP(name##_label_grad) { name##_label_slope(r, o, 0); }                                                           \
    STEP(name##_label_hess) { name##_label_slope(r, o, 1); }
LF_ENTRYWISE(ENTRY_STEPS)

/* ---- programs ---- */

#define NONE {NULL, -1}
/* Where "label:" precedes an output, it is that of integer labels. A function's value has its own name. */
#define ENTRY_PROGRAMS(name)                                                                                           \
    {#name, "loss", {{NULL, LF_STAGE_##name##_sum}, {name##_value, -1}, NONE}},                                        \
    {#name, #name, {{NULL, LF_STAGE_##name##_sum}, {name##_value, -1}, NONE}},                                         \
    {#name, "grad", {{name##_unit, LF_STAGE_##name##_grad}, NONE}},                                                    \
    {#name, "hess", {{name##_unit, LF_STAGE_##name##_hess}, NONE}},                                                    \
    {#name, "hvp", {{name##_unit, LF_STAGE_##name##_hvp}, NONE}},                                                      \
    {#name, "grad_target", {{name##_unit, LF_STAGE_##name##_target}, NONE}},                                           \
    {#name, "vjp", {{name##_pull, LF_STAGE_##name##_grad}, NONE}},                                                     \
    {#name, "row_jvp", {{NULL, LF_STAGE_##name##_along}, {name##_slope, -1}, NONE}},                                   \
    {#name, "label:loss", {{name##_label_value, -1}, NONE}},                                                           \
    {#name, "label:grad", {{name##_label_grad, LF_STAGE_indicator}, NONE}},                                            \
    {#name, "label:hess", {{name##_label_hess, LF_STAGE_indicator}, NONE}},
static const lf_program lf_programs[] = {
    LF_ENTRYWISE(ENTRY_PROGRAMS)
    /* of every row loss and function */
    {"", "proba", {{probabilities, LF_STAGE_affine}, NONE}},
    {"", "log_proba", {{log_probabilities, LF_STAGE_log_shares}, NONE}},
    {"", "lse", {{value_lse, -1}, NONE}},
    {"", "sign", {{value_sign, -1}, NONE}},
    {"", "entropy", {{NULL, LF_STAGE_spread}, {value_entropy, -1}, NONE}},
    {"", "margin", {{value_margin, -1}, NONE}},
    {"", "rank", {{value_rank, -1}, NONE}},

    {"cross_entropy", "loss", {{loss_value, -1}, NONE}},
    {"cross_entropy", "grad", {{loss_grad, LF_STAGE_affine}, NONE}},
    {"cross_entropy", "hess", {{loss_hess, LF_STAGE_curvature}, NONE}},
    {"cross_entropy", "hvp", {{NULL, LF_STAGE_along_v}, {loss_hvp, LF_STAGE_product}, NONE}},
    {"cross_entropy", "newton_step", {{newton_prepare, LF_STAGE_newton_sums}, {newton_finish, LF_STAGE_newton}, NONE}},
    {"cross_entropy", "grad_target", {{loss_grad_target, LF_STAGE_weighted_gap}, NONE}},
    {"cross_entropy", "grad_temperature", {{NULL, LF_STAGE_spread}, {loss_grad_temperature, -1}, NONE}},
    {"cross_entropy", "hess_temperature",
     {{NULL, LF_STAGE_spread}, {temperature_mean, LF_STAGE_variance}, {loss_hess_temperature, -1}, NONE}},

    {"nll_loss", "loss", {{nll_value, -1}, NONE}},
    {"nll_loss", "grad", {{nll_grad, LF_STAGE_indicator}, NONE}},
    {"nll_loss", "hess", {{nll_flat, LF_STAGE_indicator}, NONE}},
    {"nll_loss", "hvp", {{nll_flat, LF_STAGE_indicator}, NONE}},

    {"quadratic_softmax_loss", "loss", {{quadratic_lead, LF_STAGE_quadratic_sums}, {quadratic_value, -1}, NONE}},
    {"quadratic_softmax_loss", "grad",
     {{quadratic_lead, LF_STAGE_quadratic_sums}, {quadratic_slope, LF_STAGE_quadratic_grad}, NONE}},
    {"quadratic_softmax_loss", "hess",
     {{quadratic_lead, LF_STAGE_quadratic_sums}, {quadratic_curvature, LF_STAGE_quadratic_hess}, NONE}},
    {"quadratic_softmax_loss", "hvp",
     {{NULL, LF_STAGE_along_v},
      {quadratic_direction, LF_STAGE_quadratic_sums},
      {NULL, LF_STAGE_quadratic_v_sums},
      {quadratic_product, LF_STAGE_quadratic_hvp}}},

    {"kl_div_from_logits", "loss",
     {{divergence_start, LF_STAGE_divergence_balance}, {divergence_balanced, LF_STAGE_divergence_sum}, {divergence_value, -1}, NONE}},
    {"kl_div_from_logits", "grad",
     {{divergence_begin, LF_STAGE_divergence_mean}, {divergence_slope, LF_STAGE_divergence_grad}, NONE}},
    {"kl_div_from_logits", "hess",
     {{divergence_begin, LF_STAGE_divergence_mean}, {divergence_curvature, LF_STAGE_divergence_hess}, NONE}},
    {"kl_div_from_logits", "hvp",
     {{NULL, LF_STAGE_along_v},
      {divergence_direction, LF_STAGE_divergence_mean},
      {divergence_curvature, LF_STAGE_divergence_v_sum},
      {NULL, LF_STAGE_divergence_hvp}}},
    {"kl_div_from_logits", "grad_target",
     {{divergence_start, LF_STAGE_divergence_balance}, {divergence_difference, LF_STAGE_difference}, NONE}},
    {"kl_div_from_logits", "grad_temperature",
     {{divergence_start, LF_STAGE_divergence_balance},
      {divergence_balanced_lead, LF_STAGE_divergence_mean},
      {divergence_curvature, LF_STAGE_divergence_temperature},
      {divergence_grad_temperature, -1}}},

#define LF_PROFILE_PROGRAMS(name)                                                                                    \
    {#name, "loss", {{profile_start, LF_STAGE_profile_sum}, {profile_value, -1}, NONE}},                             \
    {#name, "grad", {{NULL, LF_STAGE_profile_slopes}, {profile_slope, LF_STAGE_profile_grad}, NONE}},                \
    {#name, "hess", {{NULL, LF_STAGE_profile_slopes}, {profile_bend, LF_STAGE_profile_hess}, NONE}},
    LF_PROFILES(LF_PROFILE_PROGRAMS)

    {"multiclass_hinge_loss", "loss", {{margin_start, LF_STAGE_rival}, {margin_first, LF_STAGE_violations}, {margin_value, -1}, NONE}},
    {"multiclass_hinge_loss", "grad",
     {{margin_start, LF_STAGE_rival}, {margin_first, LF_STAGE_violations}, {margin_slope, LF_STAGE_violation_grad}, NONE}},
    {"multiclass_hinge_loss", "hess",
     {{margin_start, LF_STAGE_rival}, {margin_second, LF_STAGE_violations}, {margin_bend, LF_STAGE_violation_hess}, NONE}},

    /* worked out by the driver, pair by pair */
    {"multilabel_margin_loss", "loss", {NONE}},
    {"multilabel_margin_loss", "grad", {NONE}},
    {"multilabel_margin_loss", "hess", {NONE}},

    {"softmax", "vjp", {{NULL, LF_STAGE_along_v}, {softmax_product, LF_STAGE_product}, NONE}},
    {"softmax", "jvp", {{NULL, LF_STAGE_along_v}, {softmax_product, LF_STAGE_product}, NONE}},
    {"log_softmax", "vjp", {{NULL, LF_STAGE_along_v}, {log_softmax_vjp, LF_STAGE_linear}, NONE}},
    {"log_softmax", "jvp", {{NULL, LF_STAGE_along_v}, {log_softmax_jvp, LF_STAGE_linear}, NONE}},
    {"logsumexp", "vjp", {{logsumexp_vjp, LF_STAGE_affine}, NONE}},
    {"logsumexp", "row_jvp", {{NULL, LF_STAGE_along_v}, {value_along, -1}, NONE}},
    {NULL, NULL, {NONE}},
};
#endif
#endif
