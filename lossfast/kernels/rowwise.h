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

/* (e + lo) * (hi + lo of the inverse), rounded about once */
INLINE real probability(real e, real lo, pair inverse) {
    return r_fma(e, inverse.hi, r_fma(e, inverse.lo, lo * inverse.hi));
}

/* e^(d/T) * 2^-exponent, in two parts */
INLINE pair lifted_exponential(real d, pair it, int scaled, real exponent) {
    real q = d, tail = K(0);
    if (scaled) {
        q = d * it.hi;
        tail = where(lt(K(FLOOR), q), r_fma(d, it.lo, r_product_error(d, it.hi, q)), K(0));
    }
    const exponential y = r_exp_parts(r_max(K(FLOOR), q), tail);
    const real s = r_pow2(r_max(y.k - exponent, K(-EXPONENT_BIAS)));
    const real hi = r_fma(y.w, s, s);
    return (pair){hi, r_fma(y.w, s, s - hi)};
}

/* a + b, and what its rounding lost */
INLINE pair two_sum(real a, real b) {
    const real s = a + b, back = s - a;
    return (pair){s, where(lt(r_abs(s), K(INFINITY)), (a - (s - back)) + (b - back), K(0))};
}

/* ((y - y_max) - (x - x_max))/T + between, in two parts */
INLINE pair log_ratio(real x, real y, real x_max, real y_max, pair between, pair it) {
    const pair gx = two_sum(x, -x_max), gy = two_sum(y, -y_max), d = two_sum(gy.hi, -gx.hi);
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
    return probability(product, low, inverse) * where(fair, K(1), y.hi);
}

/* e^t - 1, and e^t - 1 - t, in two parts each, for t + lo <= 2. Near 0 from the series: t^2/2 exactly, and t^3 Q(t). */
typedef struct { pair expm1; real phi, phi_lo; } growth;
INLINE growth growth_of(real t, real lo) {
    static const scalar c[] = LF_CUBIC;
    const mask near = le(r_abs(t), K(1));
    const real r = where(near, t, K(0)), half = K(0.5) * r, square = half * r;
    const real cube = r_fma(square * (r + r), r_horner(r, c, LF_CUBIC_TERMS), r_fma(r, lo, r_product_error(half, r, square)));
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

#define ALONG 1
#include "rowstages.h"
#undef ALONG
#define ALONG 0
#include "rowstages.h"
#undef ALONG

#define LF_ACROSS(name) across_##name,
#define LF_ALONG(name) along_##name,
static const lf_stage lf_across[] = {LF_STAGES(LF_ACROSS)};
static const lf_stage lf_along[] = {LF_STAGES(LF_ALONG)};

#if LF_DTYPE == 64
/* ---- rows ---- */

#define STEP(name) static void name(lf_rows *r, const lf_options *o)
#define EACH_ROW for (int i = 0; i < r->rows; i += LF_LANES)
#define V(name) r_load(r->name + i)
#define SET(name, y) r_store(r->name + i, (y))
#define POSITIVE(x) r_max((x), K(0))

static void zero(double *p) { memset(p, 0, LF_ROWS * sizeof *p); }

STEP(prepare) {
    const real inverse_t = K(1 / o->temperature), far = K(o->dtype == 32 ? 256 : 2048);
    EACH_ROW {
        const real m = V(max), shift = where(lt(far, r_abs(m * inverse_t)), m, K(0));
        SET(shift, shift);
        SET(scale_exponent, r_round((m - shift) * inverse_t * K(LF_LOG2E)));
    }
    zero(r->others), zero(r->others_lo), zero(r->pivot_e), zero(r->pivot_lo), zero(r->rest), zero(r->rest_lo), zero(r->max_e);
    zero(r->tau), zero(r->tau_gap), zero(r->cw_sum), zero(r->cw_gap);
}

STEP(finish) {
    const real t = K(o->temperature), lift = K(o->dtype == 32 ? 64 : 128);
    /* below this the pivot's exponential has lost digits (or is 0), and the logits themselves are far enough apart */
    const real enough = K(o->dtype == 32 ? FLT_MIN * 0x1p24 : DBL_MIN * 0x1p53);
    EACH_ROW {
        const real others = V(others), others_lo = V(others_lo), e = V(pivot_e), e_lo = V(pivot_lo), x = V(x_pivot);
        const real sum_ = others + e, back = sum_ - others;
        const real sum_lo = ((others - (sum_ - back)) + (e - back)) + (others_lo + e_lo);
        const real inverse = K(1) / sum_;
        const real inverse_lo = (-r_product_error(inverse, sum_, K(1)) - inverse * sum_lo) * inverse;
        const real rest = r_fma(others, inverse, r_fma(others, inverse_lo, others_lo * inverse));
        /* -log p of the pivot */
        const mask direct = le(enough, e);
        const real safe_e = where(direct, e, K(1));
        const real ratio = others / safe_e;
        const real ratio_lo = ((others_lo - ratio * e_lo) - r_product_error(ratio, safe_e, others)) / safe_e;
        const real one_more = K(1) + ratio;
        const real one_lo = where(lt(ratio, K(1)), ratio - (one_more - K(1)), K(1) - (one_more - ratio)) + ratio_lo;
        const real size = r_abs(sum_), size_lo = where(lt(sum_, K(0)), -sum_lo, sum_lo);
        const real n = V(scale_exponent) - lift, shift = V(shift);
        real nlp = r_log(where(direct, one_more, size), where(direct, one_lo, size_lo), where(direct, K(0), n),
                         where(direct, K(0), (shift - x) / t));
        nlp = where(eq(sum_, K(0)), K(-INFINITY), where(eq(sum_, sum_), nlp, sum_));
        const real m = V(max);
        SET(inverse, inverse);
        SET(inverse_lo, where(lt(r_abs(inverse_lo), K(INFINITY)), inverse_lo, K(0)));
        SET(pivot_rest, rest);
        SET(pivot_nlp, nlp);
        SET(lse, nlp + x / t);
        SET(sign, where(lt(K(0), sum_), K(1), where(lt(sum_, K(0)), K(-1), sum_)));
        SET(top, where(eq(x, m), nlp, r_max(K(0), nlp - (m - x) / t)));
    }
}

/* The largest class as `finish` has the pivot: what is left beside it, and the log-sum-exp from there. (By way of a pivot
   far below, or masked, it would lose digits, or all.) */
STEP(remainders) {
    EACH_ROW {
        const real own = V(max_e), more = V(rest) / own;
        const mask known = both(eq(V(pivot), V(argmax)), eq(V(x_pivot), V(max)));
        const real top = where(known, V(top), r_log1p(more, K(0)));
        SET(top, top);
        SET(lse, top + V(max) / K(o->temperature));
        SET(rest, r_fma(V(rest), V(inverse), r_fma(V(rest), V(inverse_lo), V(rest_lo) * V(inverse))));
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

/* The sum of the smoothed, weighted targets, and of those times (max - x). */
INLINE real smoothed(real tau, real spread, real classes, const lf_options *o) {
    const double eps = o->label_smoothing;
    return eps == 0 ? tau : r_fma(K(eps) / classes, spread, r_mul0(K(1 - eps), tau));
}
#define TAU() smoothed(V(tau), V(cw_sum), V(classes), o)
#define TAU_GAP() smoothed(V(tau_gap), V(cw_gap), V(classes), o)
#define UNIT(power) (V(weight) * K(o->scale) / K(power))
/* a sum over the exponentials as one over the probabilities */
#define MEAN(which) (V(terms[which]) * V(inverse))
#define Z2() K(2 * o->z_loss)
/* the factor of p in the gradient: the targets' sum, and what the squared lse adds (nothing, though lse be infinite) */
#define PULL() (o->z_loss == 0 ? TAU() : r_fma(Z2(), V(lse), TAU()))

/* a = y / (the sum of the exponentials), in two parts; if that is tiny or infinite, 1 / the sum, and y in `post` */
INLINE void set_scaled_inverse(lf_rows *r, int i, real y, const lf_options *o) {
    const real inverse = V(inverse), tiny = K(o->dtype == 32 ? 0x1p-100 : 0x1p-900), a = y * inverse;
    const mask fair = both(le(tiny, r_abs(a)), lt(r_abs(a), K(INFINITY))), aside = both(not_(fair), not_(eq(y, K(0))));
    const real factor = where(aside, K(1), y), hi = factor * inverse;
    SET(a, hi);
    SET(a_lo, r_fma(factor, V(inverse_lo), r_product_error(factor, inverse, hi)));
    SET(post, where(aside, y, K(1)));
}

STEP(loss_value) {
    const real t = K(o->temperature), keep = K(1 - o->label_smoothing);
    EACH_ROW {
        const real tau = V(tau), top = V(top), label = V(label);
        const real hard = r_mul0(tau, V(pivot_nlp)), soft = r_mul0(tau, top) + V(tau_gap) / t;
        real l = r_mul0(keep, where(lt(label, K(0)), soft, hard));
        if (o->label_smoothing != 0)
            l = r_fma(K(o->label_smoothing) / V(classes), r_fma(V(cw_sum), top, V(cw_gap) / t), l);
        if (o->z_loss != 0) l = r_fma(K(o->z_loss) * V(lse), V(lse), l);
        SET(result, V(weight) * l);
    }
}

/* post a p - cw (b t + c), and the true class's entry from the others */
STEP(loss_grad) {
    EACH_ROW {
        const real unit = UNIT(o->temperature), keep = K(1 - o->label_smoothing), spread = K(o->label_smoothing) / V(classes);
        const real whole = unit * PULL();
        const real hard = unit * (keep * V(tau)); /* what of `whole` belongs to the true class alone */
        real at_mark = K(0) - hard * V(pivot_rest);
        if (o->label_smoothing != 0 || o->z_loss != 0) {
            const real p = V(pivot_e) * V(inverse);
            at_mark = at_mark + (r_mul0(p, whole - hard) - unit * spread * (V(label_weight) * V(label_live)));
        }
        set_scaled_inverse(r, i, whole, o);
        SET(b, unit * keep);
        SET(c, unit * spread);
        SET(mark, V(label));
        SET(at_mark, at_mark);
    }
}

/* H = a diag(p) + (z2 - a) p p^T, z2 the part of the squared lse. Where that is infinite, p (1-p) lse is 0 in the limit. */
#define CURVATURE() (UNIT(o->temperature * o->temperature) * where(eq(V(lse), K(INFINITY)), TAU(), PULL()))
#define CURVATURE_Z() (UNIT(o->temperature * o->temperature) * Z2())

STEP(loss_hess) {
    EACH_ROW {
        set_scaled_inverse(r, i, CURVATURE(), o);
        SET(b, CURVATURE_Z());
    }
}
STEP(loss_hvp) {
    EACH_ROW {
        SET(a, CURVATURE());
        SET(b, MEAN(0));
        SET(c, CURVATURE_Z() * MEAN(0));
    }
}
STEP(newton_prepare) {
    loss_grad(r, o);
    EACH_ROW {
        SET(d, CURVATURE());
        SET(terms[3], K(o->ridge));
    }
}
/* By Sherman and Morrison, H = a diag(p) + (z2 - a) p p^T and D = a p + ridge:
       (H + ridge)^-1 g = (g + w p) / D,  w = (a - z2) sum(p g/D) / (1 - (a - z2) sum(p^2/D)).
   Both sums nearly cancel. With a p/D = 1 - ridge/D, sum p = 1 and the gradient's sum known (only the squared lse has one):
       w = (1 - z2/a) (sum g - ridge sum(g/D)) / (sum(p ridge/D) + z2 sum(p^2/D)). */
STEP(newton_finish) {
    EACH_ROW {
        const real z2 = CURVATURE_Z(), a = V(d), sum_g = o->z_loss == 0 ? K(0) : UNIT(o->temperature) * Z2() * V(lse);
        const real share = where(eq(a, K(0)), K(1), K(1) - z2 / a);
        SET(terms[0], share * (sum_g - K(o->ridge) * V(terms[0])) / r_fma(z2, V(terms[2]), V(terms[1])));
    }
}
STEP(loss_grad_target) {
    EACH_ROW {
        SET(a, UNIT(1) * K(1 - o->label_smoothing));
        SET(b, V(top));
    }
    zero(r->b_lo);
}
STEP(loss_grad_temperature) {
    EACH_ROW {
        const real spread = MEAN(0), mean_x = where(eq(V(lse), K(INFINITY)), V(lse), V(max) - spread); /* sum p (max - x), p x */
        real g = r_fma(TAU(), spread, -TAU_GAP());
        if (o->z_loss != 0) g = g - Z2() * V(lse) * mean_x;
        SET(result, UNIT(o->temperature * o->temperature) * g);
    }
}

STEP(value_lse) { (void)o; EACH_ROW SET(result, V(lse)); }
STEP(value_sign) { (void)o; EACH_ROW SET(result, V(sign)); }
STEP(value_entropy) { EACH_ROW SET(result, V(top) + MEAN(0) / K(o->temperature)); }
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
    (void)o;
    EACH_ROW {
        SET(a, K(-1));
        SET(b, V(top));
    }
    zero(r->b_lo);
}
STEP(softmax_product) {
    EACH_ROW {
        SET(a, K(1 / o->temperature));
        SET(b, MEAN(0));
    }
    zero(r->c);
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
    EACH_ROW set_scaled_inverse(r, i, V(factor), o);
}

#define QUADRATIC_UNIT(power) (UNIT(power) * V(tau))
STEP(quadratic_value) { (void)o; EACH_ROW SET(result, V(weight) * V(tau) * (K(0.5) * V(terms[1]))); }
STEP(quadratic_lead) {
    (void)o;
    EACH_ROW {
        const real p = r_fma(V(max_e), V(inverse), V(max_e) * V(inverse_lo)), label = V(label);
        const real d = where(eq(label, V(argmax)), -V(pivot_rest), where(lt(label, K(0)), p - V(lead_target), p));
        const mask leads = lt(K(0.5), p);
        SET(leader, where(leads, V(argmax), K(-1)));
        SET(d_lead, where(leads, d, K(0)));
        SET(u_lead, where(leads, p + d, K(0)));
    }
}
STEP(quadratic_slope) {
    EACH_ROW {
        SET(a, QUADRATIC_UNIT(o->temperature));
        SET(b, V(terms[0]));
    }
}
STEP(quadratic_curvature) {
    EACH_ROW {
        SET(a, QUADRATIC_UNIT(o->temperature * o->temperature));
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
        SET(a, QUADRATIC_UNIT(o->temperature * o->temperature));
        SET(b, V(terms[0]));
        SET(c, V(terms[3]));
    }
}

/* The divergence of two softmaxes (see the stages). b, the difference of the normalisers, has their rounding errors; the
   first order of those vanishes in the sum of q - p, whose value takes the rest of them out of b. */
STEP(divergence_start) {
    (void)o;
    EACH_ROW {
        const pair b = two_sum(V(top), -V(other_top));
        SET(b, b.hi);
        SET(b_lo, b.lo);
    }
}
STEP(divergence_balanced) {
    (void)o;
    EACH_ROW {
        const real balance = V(terms[0]); /* tiny: its logarithm is two terms long */
        const pair b = two_sum(V(b), r_fma(K(0.5) * balance, balance, -balance));
        SET(b, b.hi);
        SET(b_lo, b.lo + V(b_lo));
    }
    zero(r->terms[0]);
}
STEP(divergence_value) { (void)o; EACH_ROW SET(result, V(weight) * V(terms[0])); }
/* the derivatives are made of deviations from the mean of t, taken from a class with most of p as for the quadratic cost */
STEP(divergence_lead) {
    const pair it = K_split(1 / o->temperature, fma(-(1 / o->temperature), o->temperature, 1) / o->temperature);
    EACH_ROW {
        const real p = r_fma(V(pivot_e), V(inverse), V(pivot_e) * V(inverse_lo));
        const real t = log_ratio(V(max), V(lead_other), V(max), V(other_max), (pair){V(b), V(b_lo)}, it).hi;
        SET(d_lead, where(both(lt(K(0.5), p), lt(r_abs(t), K(INFINITY))), t, K(0)));
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
static void divergence_slopes(lf_rows *r, const lf_options *o, double power, double wild) {
    EACH_ROW {
        set_scaled_inverse(r, i, UNIT(power), o);
        SET(u_lead, UNIT(power));
        SET(c, V(terms[0]));
        SET(d, where(eq(V(terms[1]), K(1)), K(0), K(wild)));
    }
    zero(r->terms[0]), zero(r->terms[3]);
}
STEP(divergence_slope) { divergence_slopes(r, o, o->temperature, INFINITY); }
STEP(divergence_curvature) { divergence_slopes(r, o, o->temperature * o->temperature, NAN); }
STEP(divergence_difference) {
    divergence_balanced(r, o);
    EACH_ROW {
        set_scaled_inverse(r, i, UNIT(o->temperature), o);
        SET(u_lead, UNIT(o->temperature));
    }
}
STEP(divergence_grad_temperature) {
    EACH_ROW SET(result, where(eq(V(c), K(-INFINITY)), K(NAN), UNIT(o->temperature * o->temperature) * V(terms[0])));
}

/* input: log-probabilities; nothing of the softmax state is used */
STEP(nll_value) { (void)o; EACH_ROW SET(result, V(weight) * r_silence(V(label_weight), K(0) - V(x_pivot))); }
STEP(nll_grad) {
    EACH_ROW {
        SET(mark, V(label));
        SET(at_mark, K(0) - UNIT(1) * V(label_weight));
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

/* ---- programs ---- */

#define NONE {NULL, -1}
static const lf_program lf_programs[] = {
    /* of every row loss and function */
    {"", "proba", {{probabilities, LF_STAGE_affine}, NONE}},
    {"", "log_proba", {{log_probabilities, LF_STAGE_gap}, NONE}},
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
