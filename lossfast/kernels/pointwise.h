/* The pointwise losses, and the one loop under them.

   EDIT 1 of adding a loss is here: its name in the list, and its body. A body gives value, gradient and Hessian (with
   respect to x) of one element: x the first argument, t the target, q the element-wise parameter (1 unless the loss has
   one), p the scalar parameters in the order that pointwise.py declares. What is not wanted of it is dead code.
   Bounds are in ULP of the dtype, tested against mpmath. */
#ifndef LF_POINTWISE_H
#define LF_POINTWISE_H

#define LF_POINTWISE(LOSS) \
    LOSS(sigmoid) \
    LOSS(log_sigmoid) \
    LOSS(binary_cross_entropy_with_logits) \
    LOSS(smooth_l1_loss) \
    LOSS(huber_loss) \
    LOSS(mse_loss) \
    LOSS(l1_loss)

#ifdef LF_LANES /* the bodies and the loop; without it, this file is the list alone */

typedef struct { real v, g, h; } vgh;
#define LOSS(name) INLINE vgh name##_body(real x, real t, real q, const real *p)

/* sigmoid of |x| and of -|x|, each with full relative accuracy: e = e^-|x|, far = e / (1 + e), near = 1 / (1 + e); their
   product far - far^2, and their difference, tanh(|x|/2) */
typedef struct { real near, far, product, difference; decay e; } sides;
INLINE sides both_sides(real x) {
    const decay e = r_exp_negative(r_abs(x));
    const real d = K(1) + e.hi, d_lo = (K(1) - d) + e.hi + e.lo, inverse = K(1) / d;
    const real near = r_fma(-r_product_error(inverse, d, K(1)) - inverse * d_lo, inverse, inverse);
    const real f = e.hi * inverse;
    const real far = r_fma((e.lo - f * d_lo) - r_product_error(f, d, e.hi), inverse, f);
    return (sides){near, far, r_fma(-far, far, far), e.left * near, e};
}
INLINE real r_difference(real x, real t) { return (x - t) + K(0); } /* never -0 */
INLINE real r_sign(real x) { /* NaN for NaN, 0 for 0 */
    return where(lt(K(0), x), K(1), where(lt(x, K(0)), K(-1), x));
}

/* 1/(1 + e^-x); s(1-s); s(1-s)(1-2s) */
LOSS(sigmoid) {
    const sides s = both_sides(x);
    const mask up = lt(K(0), x);
    const real g = s.product, v = where(up, s.near, s.far);
    return (vgh){v, g, g * where(up, -s.difference, s.difference)};
}

/* -log(1 + e^-x) = min(x, 0) - log1p(e^-|x|); 1 - s; -s(1-s) */
LOSS(log_sigmoid) {
    const sides s = both_sides(x);
    return (vgh){r_min(K(0), x) - r_log1p(s.e.hi, s.e.lo), where(lt(K(0), x), s.far, s.near), -s.product};
}

/* (1-t) softplus(x) + q t softplus(-x), as u |x| + ((1-t) + q t) log1p(e^-|x|), u = 1-t for x > 0 and q t for x <= 0:
   no difference of like terms, and a right label leaves e^-|x| alone. Gradient (1-t) s(x) - q t s(-x). */
LOSS(binary_cross_entropy_with_logits) {
    const sides s = both_sides(x);
    const mask up = lt(K(0), x);
    const real no = K(1) - t, yes = q * t, all = r_fma(q, t, no), u = where(up, no, yes);
    const real near = where(up, no, yes), far = where(up, yes, no), log1p_e = r_log1p(s.e.hi, s.e.lo);
    const real v = where(eq(u, K(0)), all * log1p_e, r_fma(u, r_abs(x), all * log1p_e));
    const real g = r_fma(near, s.near, -(far * s.far));
    return (vgh){v, where(up, g, -g), all * s.product};
}

/* slope (|x - t| - bit), where x - t itself may overflow */
INLINE real less_a_bit(real x, real t, real a, real slope, real bit) {
    const real half = r_abs(K(0.5) * x - K(0.5) * t) - K(0.5) * bit;
    return where(lt(a, K(INFINITY)), slope * (a - bit), K(2) * slope * half);
}

/* d^2 / (2 beta) for |d| < beta, |d| - beta/2 beyond; beta = 0 is |d| */
LOSS(smooth_l1_loss) {
    const real beta = p[0], d = r_difference(x, t), a = r_abs(d), ratio = d / beta;
    const mask inside = lt(a, beta);
    return (vgh){where(inside, K(0.5) * d * ratio, less_a_bit(x, t, a, K(1), K(0.5) * beta)), where(inside, ratio, r_sign(d)),
                 where(inside, K(1) / beta, where(le(beta, a), K(0), a))};
}

/* d^2 / 2 for |d| <= delta, delta (|d| - delta/2) beyond: one expression with m = min(|d|, delta) */
LOSS(huber_loss) {
    const real delta = p[0], d = r_difference(x, t), a = r_abs(d), m = r_min(delta, a);
    return (vgh){less_a_bit(x, t, a, m, K(0.5) * m), r_max(-delta, r_min(delta, d)), where(le(a, delta), K(1), where(lt(delta, a), K(0), a))};
}

/* d^2; 2 d; 2 */
LOSS(mse_loss) {
    const real d = r_difference(x, t);
    return (vgh){d * d, K(2) * d, where(eq(d, d), K(2), d)};
}

/* |d|; sign d; 0 */
LOSS(l1_loss) {
    const real d = r_difference(x, t);
    return (vgh){r_abs(d), r_sign(d), where(eq(d, d), K(0), d)};
}

/* ---- the loop ---- */

/* g * (hi + lo): a scale in two parts, so that it costs one rounding and not two; an infinite g stays what it is */
INLINE real scaled(real g, pair s) {
    const real y = r_fma(g, s.hi, g * s.lo);
    return where(lt(r_abs(g), K(INFINITY)), y, g * s.hi);
}

/* v * w * scale through doubles, 0 where w is 0, or v with a w that is a number */
INLINE real weighted(real v, const double *w, double scale) {
    dreal y[DPARTS];
    UNROLL for (int part = 0; part < DPARTS; part++) y[part] = r_double(v, part) * (d_load(w + part * DLANES) * KD(scale));
    const real weight = r_load_doubles(w);
    const mask none = eq(weight, K(0)), flat = both(eq(v, K(0)), eq(weight, weight));
    return where(none, K(0), where(flat, K(0), r_from_doubles(y)));
}

typedef vgh (*lf_body)(real x, real t, real q, const real *p);

/* n < 16 elements of the inputs, padded */
NOINLINE void pad(scalar to[][16], double *w_to, const scalar *x, const scalar *t, const scalar *q, const double *w, ptrdiff_t n) {
    for (int j = 0; j < 16; j++) {
        to[0][j] = j < n ? x[j] : 1;
        to[1][j] = j < n ? t[j] : 1;
        to[2][j] = j < n ? q[j] : 1;
        w_to[j] = w && j < n ? w[j] : 0;
    }
}

/* A parameter; one beyond the dtype's range stays finite */
INLINE real parameter(double x) {
#if LF_DTYPE == 32
    if (fabs(x) < INFINITY) return K(x > FLT_MAX ? FLT_MAX : x < -FLT_MAX ? -FLT_MAX : x);
#endif
    return K(x);
}

/* A block, with `want` and `weigh` known at compile time. Sums run over 16 lanes whatever the vector's width, so that they
   come out the same everywhere. What is left over at the end goes once more through the same loop, in padded copies. */
INLINE void lf_loop(lf_block *k, const int want, const int weigh, lf_body body) {
    enum { SHAPE = 16, PARTS = SHAPE / LF_LANES };
    const scalar *x = k->x, *t = k->t, *q = k->q;
    scalar *value = k->value, *grad = k->grad, *hess = k->hess;
    const double *w = k->w;
    const pair scale = K_split(k->scale, 0);
    const ptrdiff_t left = k->n % SHAPE;
    ptrdiff_t n = k->n - left;
    scalar copies[6][16];
    double w_copy[16];
    real p[LF_MAX_PARAMS];
    sum total[PARTS];
    ireal live[PARTS]; /* all ones, but for the padding's lanes */
    for (int i = 0; i < LF_MAX_PARAMS; i++) p[i] = parameter(k->params[i]);
    for (int part = 0; part < PARTS; part++) {
        total[part] = sum_zero();
        live[part] = ~r_bits(K(0));
    }
    KEEP_ROLLED for (int padded = 0; padded < 2; padded++) {
        for (ptrdiff_t at = 0; at < n; at += want & LF_SUM ? SHAPE : LF_LANES) {
            for (int part = 0; part < (want & LF_SUM ? PARTS : 1); part++) {
                const ptrdiff_t i = at + part * LF_LANES;
                const vgh y = body(r_load(x + i), r_load(t + i), r_load(q + i), p);
                if (want & LF_VALUE) r_store(value + i, r_canonical(weigh ? weighted(y.v, w + i, 1) : y.v));
                if (want & LF_GRAD) r_store(grad + i, r_canonical(weigh ? weighted(y.g, w + i, k->scale) : scaled(y.g, scale)));
                if (want & LF_HESS) r_store(hess + i, r_canonical(weigh ? weighted(y.h, w + i, k->scale) : scaled(y.h, scale)));
                if (want & LF_SUM) {
                    const real v = r_from_bits(r_bits(y.v) & live[part]);
                    if (weigh) sum_add_weighted(&total[part], v, w + i);
                    else sum_add(&total[part], v, K(0));
                }
            }
        }
        if (padded || !left) break;
        pad(copies, w_copy, x + n, t + n, q + n, weigh ? w + n : NULL, left);
        for (int part = 0; part < PARTS; part++)
            live[part] = r_bits(where(lt(K(part * LF_LANES) + r_iota(), K((double)left)), r_from_bits(live[part]), K(0)));
        x = copies[0], t = copies[1], q = copies[2], w = w_copy;
        value = copies[3], grad = copies[4], hess = copies[5];
        n = SHAPE;
    }
    if (left) {
        const ptrdiff_t end = k->n - left;
        if (want & LF_VALUE) memcpy((scalar *)k->value + end, value, left * sizeof *value);
        if (want & LF_GRAD) memcpy((scalar *)k->grad + end, grad, left * sizeof *grad);
        if (want & LF_HESS) memcpy((scalar *)k->hess + end, hess, left * sizeof *hess);
    }
    if (want & LF_SUM) {
        double hi[SHAPE], lo[SHAPE];
        for (int part = 0; part < PARTS; part++) sum_store(&total[part], hi + part * LF_LANES, lo + part * LF_LANES);
        dd_tree(hi, lo, SHAPE);
        k->sum[0] = hi[0];
        k->sum[1] = lo[0];
    }
}

/* The combinations that are asked for often are compiled each on its own; the rest computes everything, into scratch. */
INLINE void lf_pointwise(lf_block *k, int want, lf_body body) {
#define CASE(wanted)                                            \
    case (wanted):                                              \
        if (k->w) lf_loop(k, (wanted), 1, body);                \
        else lf_loop(k, (wanted), 0, body);                     \
        return;
    switch (want) {
        CASE(LF_VALUE)
        CASE(LF_SUM)
        CASE(LF_GRAD)
        CASE(LF_SUM | LF_GRAD)
        CASE(LF_VALUE | LF_GRAD)
        CASE(LF_GRAD | LF_HESS)
    default: break;
    }
#undef CASE
    scalar scratch[3][LF_BLOCK];
    lf_block all = *k;
    if (!(want & LF_VALUE)) all.value = scratch[0];
    if (!(want & LF_GRAD)) all.grad = scratch[1];
    if (!(want & LF_HESS)) all.hess = scratch[2];
    if (k->w) lf_loop(&all, LF_VALUE | LF_GRAD | LF_HESS | LF_SUM, 1, body);
    else lf_loop(&all, LF_VALUE | LF_GRAD | LF_HESS | LF_SUM, 0, body);
    k->sum[0] = all.sum[0];
    k->sum[1] = all.sum[1];
}

#undef LOSS
#define LF_DEFINE(name) \
    static void name##_block(lf_block *k, int want) { lf_pointwise(k, want, name##_body); }
LF_POINTWISE(LF_DEFINE)
#define LF_ENTRY(name) name##_block,
static const lf_pointwise_function lf_pointwise_functions[] = {LF_POINTWISE(LF_ENTRY)};

#endif
#endif
