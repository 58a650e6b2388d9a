/* The pointwise losses, and the one loop under them.

   EDIT 1 of adding a loss is here: its name in the list, and its body. A body gives value, gradient and Hessian (with
   respect to x) of one element: x the first argument, t the target, q the element-wise parameter (1 unless the loss has
   one), p the scalar parameters in the order that pointwise.py declares. What is not wanted of it is dead code. `plain` is
   said below, at the loop.
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

enum { EVERYTHING = LF_VALUE | LF_GRAD | LF_HESS | LF_SUM, TELLS = 2 * (EVERYTHING + 1) };

typedef struct { real v, g, h; ireal odd; } vgh;
#define BODY(name) INLINE vgh name##_body(real x, real t, real q, decay e, const real *p, const int plain)
/* What e = e^-|x| is made for, and whether `odd` tells of every value that is not finite or is -0 */
#define TRAITS(name, traits) enum { name##_traits = (traits) }; BODY(name)
#define LOSS(name) TRAITS(name, 0)
#define LOSS_OF_DECAY(name) TRAITS(name, EVERYTHING)

/* Of e = e^-|x|: the sigmoids of |x| and of -|x|, near = 1 / (1 + e) and far = e / (1 + e); far near; and log(1 + e), each
   with full relative accuracy */
typedef struct { real near, far, product, log1p; } sides;
INLINE sides both_sides(decay e) {
    const real inverse = K(1) / (K(1) + e.hi), rest = e.lo * inverse;
    const real more = (r_residue(K(1) - inverse, inverse, e.hi) - rest) * inverse;
#ifndef LF_NO_FMA
    const real far = r_fma(e.hi, inverse, r_fma(e.hi, more, rest));
#else
    const real whole = e.hi * inverse, far = whole + (r_product_error(e.hi, inverse, whole) + (e.hi * more + rest));
#endif
    return (sides){inverse + more, far, r_fma(-far, far, far), r_log1p_unit(e.hi, rest)};
}
INLINE real r_sign(real x) { /* NaN for NaN, 0 for 0 */
    return where(lt(K(0), x), K(1), where(lt(x, K(0)), K(-1), x));
}
INLINE real r_clamp(real x, real most) { return r_max(-most, r_min(most, x)); }

/* 1 / (1 + e^-x) for |x| up to MODERATE, the sum in two parts */
INLINE real logistic(real x) {
    const pair e = r_exp_pair(-x);
    const real most = r_max(K(1), e.hi), least = r_min(K(1), e.hi), sum_ = most + least, inverse = K(1) / sum_;
    return r_fma(-inverse, ((least - (sum_ - most)) + e.lo) * inverse, inverse);
}

/* 1/(1 + e^-x), far below as e^x; s(1-s); s(1-s)(1-2s), where 1 - 2s = -tanh(x/2) */
TRAITS(sigmoid, LF_GRAD | LF_HESS | TELLS) {
    const sides s = both_sides(e);
    const mask up = lt(K(0), x);
    const real tanh_half = e.left * s.near, fair = plain ? x : r_clamp(x, K(MODERATE)), y = logistic(fair);
    const real v = plain ? y : where(lt(x, K(-MODERATE)), r_exp(x), y);
    return (vgh){v, s.product, s.product * where(up, -tanh_half, tanh_half), beyond(x, K(MODERATE))};
}

/* -log(1 + e^-x) = min(x, 0) - log1p(e^-|x|); 1 - s; -s(1-s) */
TRAITS(log_sigmoid, EVERYTHING | TELLS) {
    const sides s = both_sides(e);
    return (vgh){r_min(K(0), x) - s.log1p, where(lt(K(0), x), s.far, s.near), -s.product, beyond(x, K(MODERATE))};
}

/* (1-t) softplus(x) + q t softplus(-x), as u |x| + ((1-t) + q t) log1p(e^-|x|), u = 1-t for x > 0 and q t for x <= 0:
   no difference of like terms, and a right label leaves e^-|x| alone. Gradient (1-t) s(x) - q t s(-x). */
LOSS_OF_DECAY(binary_cross_entropy_with_logits) {
    const sides s = both_sides(e);
    const mask up = lt(K(0), x);
    const real no = K(1) - t, yes = q * t, all = r_fma(q, t, no), near = where(up, no, yes), far = where(up, yes, no);
    const real size = plain ? r_abs(x) : where(eq(near, K(0)), K(0), r_abs(x)), g = r_fma(near, s.near, -(far * s.far));
    return (vgh){r_fma(near, size, all * s.log1p), where(up, g, -g), all * s.product,
                 beyond(x, K(MODERATE)) | beyond(yes, K(INFINITY))};
}

/* v, or slope (|x - t| - bit) where the difference a = |x - t| overflows */
INLINE real unless_far(real v, real x, real t, real a, real slope, real bit) {
    const real half = r_abs(K(0.5) * x - K(0.5) * t) - K(0.5) * bit;
    return where(lt(a, K(INFINITY)), v, K(2) * slope * half);
}

/* d^2 / (2 beta) for |d| < beta, |d| - beta/2 beyond: with m = d cut off at +-beta, and g = m / beta, that is g (d - m/2).
   For beta = 0, which is |d|, the knee is at the smallest number there is, and nothing is taken off. */
LOSS(smooth_l1_loss) {
    const real beta = p[0], knee = r_max(K(LEAST), beta), half = where(lt(K(0), beta), K(0.5), K(0));
    const real d = x - t, a = r_abs(d), m = r_clamp(d, knee), g = r_ratio(m, r_divisor(knee)), v = g * r_fma(-half, m, d);
    const real h = where(lt(a, beta), K(1) / beta, where(le(beta, a), K(0), a));
    if (plain) return (vgh){v, g, h};
    return (vgh){unless_far(v, x, t, a, K(1), K(0.5) * beta), where(lt(a, K(INFINITY)), g, r_sign(d)), h};
}

/* d^2 / 2 for |d| <= delta, delta (|d| - delta/2) beyond: m (d - m/2), m = d cut off at +-delta */
LOSS(huber_loss) {
    const real delta = p[0], d = x - t, a = r_abs(d), m = r_clamp(d, delta), v = m * r_fma(K(-0.5), m, d), size = r_abs(m);
    const real h = where(le(a, delta), K(1), where(lt(delta, a), K(0), a));
    return (vgh){plain ? v : unless_far(v, x, t, a, size, K(0.5) * size), m, h};
}

/* d^2; 2 d; 2 */
LOSS(mse_loss) {
    (void)plain;
    const real d = x - t;
    return (vgh){d * d, K(2) * d, where(eq(d, d), K(2), d)};
}

/* |d|; sign d; 0 */
LOSS(l1_loss) {
    (void)plain;
    const real d = x - t;
    return (vgh){r_abs(d), r_sign(d), where(eq(d, d), K(0), d)};
}

/* ---- the loop ----

   What is special happens seldom: a NaN, whose sign must be made one, an infinity, a difference that overflows. So a block
   is first done `plain`, as if nothing of it could occur. It shows if it did: the sum, or a stored number, is not finite
   then, or a body sets the sign of `odd` (it must where value and sum would not tell of a wrong derivative). The block is
   done once more with care then. Where nothing is special, both ways give the same bits. */

enum { SHAPE = 16, PARTS = SHAPE / LF_LANES };

/* g * (hi + lo), never -0: a scale in two parts, so that it costs one rounding and not two; an infinite g stays what it is */
INLINE real scaled(real g, pair s, const int plain) {
    const real y = r_fma(g, s.hi, LF_DTYPE == 32 ? r_fma(g, s.lo, K(0)) : K(0));
    return plain ? y : r_canonical(where(lt(r_abs(g), K(INFINITY)), y, g * s.hi));
}

/* v * w * scale through doubles, 0 where w is 0, or v with a w that is a number */
INLINE real weighted(real v, const double *w, double scale) {
    dreal y[DPARTS];
    UNROLL for (int part = 0; part < DPARTS; part++) y[part] = r_double(v, part) * (d_load(w + part * DLANES) * KD(scale));
    const real weight = r_load_doubles(w);
    const mask none = eq(weight, K(0)), flat = both(eq(v, K(0)), eq(weight, weight));
    return r_canonical(where(none, K(0), where(flat, K(0), r_from_doubles(y))));
}

typedef struct { double hi[SHAPE], lo[SHAPE]; } lanes;
typedef vgh (*lf_body)(real x, real t, real q, decay e, const real *p, const int plain);

/* A parameter; one beyond the dtype's range stays finite */
INLINE real parameter(double x) {
#if LF_DTYPE == 32
    if (fabs(x) < INFINITY) return K(x > FLT_MAX ? FLT_MAX : x < -FLT_MAX ? -FLT_MAX : x);
#endif
    return K(x);
}

/* The first n elements, a multiple of 16, of which `live` in each 16 are summed, with everything else known at compile time. Sums run
   over 16 lanes whatever the vector's width, so that they come out the same everywhere. Exponentials are made in a pass of
   their own: from x to the loss, the chain of operations is longer than a processor looks ahead. Plain sums are new ones,
   those with care go on from what `sums` has. Returns whether nothing was odd. */
INLINE int lf_run(const lf_block *k, ptrdiff_t n, lanes *sums, int live, const int want, const int weigh, const int plain, lf_body body, const int traits) {
    enum { CHUNK = 256 };
    const int decays = want & traits, told = traits & TELLS;
    const ptrdiff_t chunk = decays ? CHUNK : n, step = want & LF_SUM ? SHAPE : LF_LANES;
    const scalar *x = k->x, *t = k->t, *q = k->q;
    scalar *value = k->value, *grad = k->grad, *hess = k->hess, e_hi[CHUNK], e_lo[CHUNK], e_left[CHUNK];
    const double *w = k->w;
    const pair scale = K_split(k->scale, 0);
    ireal odd = r_bits(K(0));
    real p[LF_MAX_PARAMS];
    sum total[PARTS];
    for (int i = 0; i < LF_MAX_PARAMS; i++) p[i] = parameter(k->params[i]);
    UNROLL for (int part = 0; part < PARTS; part++)
        total[part] = plain ? sum_zero() : sum_load(sums->hi + part * LF_LANES, sums->lo + part * LF_LANES);
    for (ptrdiff_t from = 0; from < n; from += chunk) {
        const ptrdiff_t to = from + chunk < n ? from + chunk : n;
        for (ptrdiff_t i = from; decays && i < to; i += LF_LANES) {
            const decay e = r_exp_negative(r_abs(r_load(x + i)), plain);
            r_store(e_hi + i - from, e.hi);
            r_store(e_lo + i - from, e.lo);
            if (want & LF_HESS) r_store(e_left + i - from, e.left);
        }
        for (ptrdiff_t at = from; at < to; at += step) {
            for (int part = 0; part < step / LF_LANES; part++) {
                const ptrdiff_t i = at + part * LF_LANES, j = decays ? i - from : 0;
                decay e = {K(0), K(0), K(0)};
                if (decays) e = (decay){r_load(e_hi + j), r_load(e_lo + j), want & LF_HESS ? r_load(e_left + j) : K(0)};
                const vgh y = body(r_load(x + i), r_load(t + i), r_load(q + i), e, p, plain);
                odd |= y.odd;
                if (want & LF_VALUE) {
                    const real v = weigh ? weighted(y.v, w + i, 1) : plain && told ? y.v : y.v + K(0);
                    r_store(value + i, plain ? v : r_canonical(v));
                    if (!(want & LF_SUM) && (weigh || !told)) odd |= beyond(v, K(INFINITY));
                }
                if (want & LF_GRAD) {
                    const real g = weigh ? weighted(y.g, w + i, k->scale) : scaled(y.g, scale, plain);
                    r_store(grad + i, g);
                    if (!(want & LF_SUM)) odd |= beyond(g, K(INFINITY));
                }
                if (want & LF_HESS) {
                    const real h = weigh ? weighted(y.h, w + i, k->scale) : scaled(y.h, scale, plain);
                    r_store(hess + i, h);
                    if (!(want & LF_SUM)) odd |= beyond(h, K(INFINITY));
                }
                if (want & LF_SUM) {
                    const real v = plain ? y.v : where(lt(K(part * LF_LANES) + r_iota(), K(live)), y.v, K(0));
                    if (weigh) sum_add_weighted(&total[part], v, w + i);
                    else sum_add_one(&total[part], v);
                }
            }
        }
    }
    if (want & LF_SUM)
        UNROLL for (int part = 0; part < PARTS; part++)
            sum_store(&total[part], sums->hi + part * LF_LANES, sums->lo + part * LF_LANES);
    return !any(negative(odd));
}

/* The same with care, and all of it, wanted or not */
INLINE void lf_run_carefully(const lf_block *k, ptrdiff_t n, lanes *sums, int live, lf_body body, const int traits) {
    scalar unwanted[LF_BLOCK];
    lf_block all = *k;
    if (!all.value) all.value = unwanted;
    if (!all.grad) all.grad = unwanted;
    if (!all.hess) all.hess = unwanted;
    if (k->w) lf_run(&all, n, sums, live, EVERYTHING, 1, 0, body, traits);
    else lf_run(&all, n, sums, live, EVERYTHING, 0, 0, body, traits);
}
typedef void (*lf_careful)(const lf_block *k, ptrdiff_t n, lanes *sums, int live);

/* The n < 16 elements from `at` on, in a padded copy */
NOINLINE void lf_run_rest(const lf_block *k, ptrdiff_t at, lanes *sums, int want, lf_careful careful) {
    const scalar *from[] = {k->x, k->t, k->q};
    scalar *to[] = {k->value, k->grad, k->hess}, in[3][SHAPE], out[3][SHAPE];
    double w[SHAPE];
    const ptrdiff_t n = k->n - at;
    lf_block padded = *k;
    for (int j = 0; j < SHAPE; j++) {
        for (int i = 0; i < 3; i++) in[i][j] = j < n ? from[i][at + j] : 1;
        w[j] = k->w && j < n ? k->w[at + j] : 0;
    }
    padded.x = in[0], padded.t = in[1], padded.q = in[2], padded.w = k->w ? w : NULL;
    padded.value = out[0], padded.grad = out[1], padded.hess = out[2];
    careful(&padded, SHAPE, sums, (int)n);
    for (int i = 0; i < 3; i++)
        if (want & (LF_VALUE << i)) memcpy(to[i] + at, out[i], n * sizeof(scalar));
}

/* A block. The combinations that are asked for often are compiled each on its own. */
INLINE void lf_pointwise(lf_block *k, int want, lf_body body, const int traits, lf_careful careful) {
#define CASE(wanted)                                                                         \
    case (wanted):                                                                           \
        fine = k->w ? lf_run(k, n, &sums, SHAPE, (wanted), 1, 1, body, traits)               \
                    : lf_run(k, n, &sums, SHAPE, (wanted), 0, 1, body, traits);              \
        break;
    const ptrdiff_t n = k->n - k->n % SHAPE;
    lanes sums;
    KEEP_ROLLED for (int plain = 1, fine = 0; !fine; plain = 0) {
        memset(&sums, 0, sizeof sums);
        switch (plain ? want : 0) {
            CASE(LF_VALUE)
            CASE(LF_SUM)
            CASE(LF_GRAD)
            CASE(LF_SUM | LF_GRAD)
            CASE(LF_VALUE | LF_GRAD)
            CASE(LF_GRAD | LF_HESS)
        default:
            careful(k, n, &sums, SHAPE);
            fine = 1, plain = 0;
        }
        if (n < k->n) lf_run_rest(k, n, &sums, want, careful);
        if (!(want & LF_SUM)) continue;
        dd_tree(sums.hi, sums.lo, SHAPE);
        k->sum[0] = sums.hi[0];
        k->sum[1] = sums.lo[0];
        fine &= !plain || sums.hi[0] - sums.hi[0] == 0;
    }
#undef CASE
}

#undef LOSS
#define LF_DEFINE(name)                                                                      \
    NOINLINE void name##_careful(const lf_block *k, ptrdiff_t n, lanes *sums, int live) {    \
        lf_run_carefully(k, n, sums, live, name##_body, name##_traits);                    \
    }                                                                                        \
    static void name##_block(lf_block *k, int want) { lf_pointwise(k, want, name##_body, name##_traits, name##_careful); }
LF_POINTWISE(LF_DEFINE)
#define LF_ENTRY(name) name##_block,
static const lf_pointwise_function lf_pointwise_functions[] = {LF_POINTWISE(LF_ENTRY)};

#endif
#endif
