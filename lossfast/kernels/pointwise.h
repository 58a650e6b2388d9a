/* The pointwise losses, and the one loop under them.

   EDIT 1 of adding a loss is here: its name in the list, and its body. A body gives value, gradient and Hessian (with
   respect to x) of one element: x the first argument, t the target, q the element-wise parameter (1 unless the loss has
   one) or third argument, p the scalar parameters in the order that pointwise.py declares; p[REST + i] is what rounding to
   the dtype took from the i-th, and p[LAST + i] what it took from that. What is not wanted of it is dead code. `plain` is said
   below, at the loop.
   Bounds are in ULP of the dtype, tested against mpmath. */
#ifndef LF_POINTWISE_H
#define LF_POINTWISE_H

#define LF_POINTWISE(LOSS) \
    LOSS(sigmoid) \
    LOSS(log_sigmoid) \
    LOSS(self_information) \
    LOSS(binary_cross_entropy_with_logits) \
    LOSS(smooth_l1_loss) \
    LOSS(huber_loss) \
    LOSS(mse_loss) \
    LOSS(l1_loss) \
    LOSS(half_squared_error) \
    LOSS(pinball_loss) \
    LOSS(expectile_loss) \
    LOSS(epsilon_insensitive_loss) \
    LOSS(squared_epsilon_insensitive_loss) \
    LOSS(pseudo_huber_loss) \
    LOSS(tukey_loss) \
    LOSS(mape) \
    LOSS(hinge_loss) \
    LOSS(squared_hinge_loss) \
    LOSS(modified_huber_loss) \
    LOSS(hinge_embedding_loss) \
    LOSS(zero_one_loss) \
    LOSS(quadratic_sigmoid_loss) \
    LOSS(binary_cross_entropy) \
    LOSS(logistic_loss) \
    LOSS(exponential_loss) \
    LOSS(log_cosh_loss) \
    LOSS(cauchy_loss) \
    LOSS(poisson_nll_loss) \
    LOSS(half_gamma_deviance) \
    LOSS(half_tweedie_deviance) \
    LOSS(msle) \
    LOSS(sigmoid_focal_loss) \
    LOSS(gaussian_nll_loss) \
    LOSS(margin_ranking_loss)

#ifdef LF_LANES /* the bodies and the loop; without it, this file is the list alone */

typedef struct { real v, g, h; ireal odd; real g2, h2; } vgh;
enum { REST = LF_MAX_PARAMS, LAST = 2 * LF_MAX_PARAMS };
#define BODY(name) INLINE vgh name##_body(real x, real t, real q, decay e, const real *p, const int plain)
/* What e is made for; whether `odd` tells of every value that is not finite or is -0; what e is, if not e^-|x|: e^-|t x| or
   e^-2|x - t|; whether q is a second argument with derivatives, g2 and h2 */
enum { EVERYTHING = LF_VALUE | LF_GRAD | LF_HESS | LF_SUM, TELLS = 16, OF_MARGIN = 32, OF_GAP = 64, OF_TWO = 128 };
#define TRAITS(name, traits) enum { name##_traits = (traits) }; BODY(name)
#define LOSS(name) TRAITS(name, 0)
#define LOSS_OF_DECAY(name) TRAITS(name, EVERYTHING)
#define LOSS_OF_MARGIN(name) TRAITS(name, EVERYTHING | OF_MARGIN)
#define LOSS_OF_GAP(name) TRAITS(name, EVERYTHING | OF_GAP)
#define LOSS_OF_TWO(name) TRAITS(name, OF_TWO)
INLINE real decayed(const int traits, real x, real t) {
    return traits & OF_MARGIN ? t * x : traits & OF_GAP ? K(2) * (x - t) : x;
}

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

/* -u log x, in a unit u = p[0] of information; -u/x; u/x^2 */
LOSS(self_information) {
    (void)t, (void)q, (void)e, (void)plain;
    const real y = where(lt(x, K(0)), K(NAN), x + K(0)), slope = p[0] / y;
    return (vgh){K(0) - p[0] * r_log(y), K(0) - slope, slope / y};
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

/* a - b, and what rounding it lost: 0 where it is not finite */
INLINE pair difference(real a, real b, const int plain) { return plain ? r_difference(a, b) : two_sum(a, -b); }
/* a / b, a and b in two parts, in two parts */
INLINE pair ratio_of(pair a, pair b) {
    const real y = a.hi / b.hi;
    return (pair){y, ((r_residue(a.hi, y, b.hi) + a.lo) - y * b.lo) / b.hi};
}
/* x^2, x in two parts, in two parts */
INLINE pair square_of(pair x) {
    const real y = x.hi * x.hi;
    return (pair){y, r_fma(x.hi + x.hi, x.lo, r_product_error(x.hi, x.hi, y))};
}
/* x y, both in two parts, rounded about once */
INLINE real product_of(pair x, pair y) { return r_fma(x.hi, y.hi, r_fma(x.hi, y.lo, x.lo * y.hi)); }
/* |d| */
INLINE pair size_of(pair d) {
    const mask down = lt(d.hi, K(0));
    return (pair){r_abs(d.hi), where(down, -d.lo, d.lo)};
}
/* Whichever has the sign of d: above for d > 0, below for d < 0, and for d = 0 or NaN d itself */
INLINE real by_sign(real d, real above, real below) { return where(lt(K(0), d), above, where(lt(d, K(0)), below, d)); }
/* c, or NaN where x is */
INLINE real keep_nan(real c, real x) { return where(eq(x, x), c, x); }

/* d^2 / 2; d; 1 */
LOSS(half_squared_error) {
    (void)plain;
    const real d = x - t;
    return (vgh){K(0.5) * d * d, d, keep_nan(K(1), d)};
}

/* (1 - q) d for d >= 0, -q d below; its slope; 0 */
LOSS(pinball_loss) {
    const pair rest = r_difference(K(1), p[0]);
    const real over = rest.hi + (rest.lo - p[REST]), d = x - t, a = r_abs(d), slope = where(lt(K(0), d), over, p[0]);
    const real v = plain ? slope * a : unless_far(slope * a, x, t, a, slope, K(0));
    return (vgh){plain ? v : where(both(eq(slope, K(0)), eq(d, d)), K(0), v), by_sign(d, over, -p[0]), keep_nan(K(0), d)};
}

/* w d^2, w = 1 - e for d > 0 and e for d < 0; 2 w d; 2 w, whose mean is 1 at 0 */
LOSS(expectile_loss) {
    const pair rest = r_difference(K(1), p[0]), d = difference(x, t, plain);
    const real over = rest.hi + (rest.lo - p[REST]), over_lo = (rest.hi - over) + (rest.lo - p[REST]);
    const pair w = r_choose(lt(K(0), d.hi), (pair){over, over_lo}, (pair){p[0], p[REST]});
    const real wd = w.hi * d.hi, wd_lo = r_fma(w.hi, d.lo, w.lo * d.hi) + r_product_error(w.hi, d.hi, wd);
    const real v = product_of((pair){wd, wd_lo}, d), g = K(2) * (wd + wd_lo), h = where(eq(d.hi, K(0)), K(1), keep_nan(w.hi + w.hi, d.hi));
    if (plain) return (vgh){v, g, h};
    const mask near = lt(r_abs(d.hi), K(INFINITY)), fair = lt(r_abs(v), K(INFINITY));
    return (vgh){where(fair, v, wd * d.hi), where(near, g, K(4) * w.hi * (K(0.5) * x - K(0.5) * t)), h};
}

/* |d| - epsilon, good to its last bits however near the two are; below 0 where it is to count for nothing */
INLINE real beyond_epsilon(real x, real t, const real *p, const int plain) {
    const pair a = size_of(difference(x, t, plain)), over = difference(a.hi, p[0], plain);
    const real v = over.hi + (((over.lo + a.lo) - p[REST]) - p[LAST]);
    return plain ? v : unless_far(v, x, t, a.hi, K(1), p[0]);
}

/* max(0, |d| - epsilon); sign d or 0; 0 */
LOSS(epsilon_insensitive_loss) {
    const real r = beyond_epsilon(x, t, p, plain), none = keep_nan(K(0), r);
    return (vgh){r_max(K(0), r), where(lt(K(0), r), r_sign(x - t), none), none, beyond(r, K(INFINITY))};
}

/* The square of that: r^2; 2 r sign d; 2 or 0 */
LOSS(squared_epsilon_insensitive_loss) {
    const real r = r_max(K(0), beyond_epsilon(x, t, p, plain)), g = K(2) * where(lt(x, t), -r, r);
    return (vgh){r * r, g, where(lt(K(0), r), K(2), keep_nan(K(0), r)), beyond(r, K(INFINITY))};
}

/* delta (sqrt(delta^2 + d^2) - delta), as least a / (h + k): least and most of a = |d| and delta, m = least / most,
   h = sqrt(1 + m^2), and k = 1 for a <= delta, m beyond. No square overflows and nothing cancels. Gradient least / h,
   Hessian (k / h)^3. All in two parts: what is cubed has to be good. */
LOSS(pseudo_huber_loss) {
    const pair d = difference(x, t, plain), a = size_of(d), delta = {r_max(K(LEAST), p[0]), p[REST]};
    const mask outside = lt(delta.hi, a.hi);
    const pair least = r_choose(outside, delta, a), m = ratio_of(least, r_choose(outside, a, delta)), one = one_plus(square_of(m));
    const real root = r_sqrt(one.hi);
    const pair h = {root, K(0.5) * (r_residue(one.hi, root, root) + one.lo) / root}, k = r_choose(outside, m, (pair){K(1), K(0)});
    const real sum = h.hi + k.hi;
    const pair y = ratio_of(a, (pair){sum, ((h.hi - sum) + k.hi) + (h.lo + k.lo)}), slope = ratio_of(least, h), bend = ratio_of(k, h);
    const real v = product_of(least, y), g = slope.hi + slope.lo, hess = product_of(square_of(bend), bend);
    if (plain) return (vgh){v, where(lt(d.hi, K(0)), -g, g), hess, beyond(a.hi, K(INFINITY))};
    const mask near = lt(a.hi, K(INFINITY)), fair = lt(r_abs(v), K(INFINITY));
    const real far = unless_far(where(fair, v, least.hi * y.hi), x, t, a.hi, delta.hi, K(0));
    const real steep = where(near, g, keep_nan(delta.hi, d.hi));
    return (vgh){far, where(lt(d.hi, K(0)), -steep, steep), where(near, hess, keep_nan(K(0), d.hi))};
}

/* 1 - (1 - gap / c)^2 as u (2 - u), u = gap / c, in two parts */
INLINE pair less_square(pair gap, real c) {
    const divisor by = r_divisor(c);
    const real hi = gap.hi * by.level, lo = gap.lo * by.level, u = hi * by.inverse.hi;
    const real u_lo = r_product_error(hi, by.inverse.hi, u) + r_fma(hi, by.inverse.lo, lo * by.inverse.hi);
    const real square = u * u, w = (u + u) - square, lost = ((u + u) - w) - square - r_product_error(u, u, square);
    return (pair){w, r_fma(u_lo + u_lo, K(1) - u, lost)};
}

/* c^2/6 (1 - w^3), w = 1 - (d/c)^2, and c^2/6 beyond c; d w^2; w (5 w - 4). In two parts, w keeps its digits near c, and the
   Hessian near its zero. With v = 1 - w below 1/2 the value is d^2/2 (1 - v + v^2/3), in which little cancels. */
LOSS(tukey_loss) {
    const pair d = difference(x, t, plain), a = size_of(d);
    const real c = r_max(K(LEAST), p[0]), none = keep_nan(K(0), a.hi);
    const pair gap = difference(c, a.hi, plain);
    const real more = ((gap.lo - a.lo) + p[REST]) + p[LAST], sum = gap.hi + more;
    const mask inside = lt(K(0), sum);
    const pair w = r_choose(inside, less_square((pair){sum, more - (sum - gap.hi)}, c), (pair){none, K(0)}), w2 = square_of(w);
    const real v = (K(1) - w.hi) - w.lo, y = r_fma(-v, r_fma(v, K(-1.0 / 3), K(1)), K(1)), half = K(0.5) * a.hi * a.hi;
    const real near = r_fma(half, y, (a.hi * a.lo + r_product_error(K(0.5) * a.hi, a.hi, half)) * y);
    const real far = r_fma(p[REST], K(1.0 / 3), c / K(6)) * r_fma(-w.hi, w2.hi, K(1)) * c;
    const pair bend = {w.hi - K(4) * (K(1) - w.hi), K(5) * w.lo};
    return (vgh){where(lt(v, K(0.5)), near, far), where(inside, product_of(d, w2), none), where(inside, product_of(w, bend), none)};
}

/* |d| / |t|; sign d / |t|; 0. An infinite target is infinitely far from any other number: 1. */
LOSS(mape) {
    const real d = x - t, a = r_abs(d), size = r_abs(t), slope = r_sign(d) / size, h = keep_nan(K(0), d);
    if (plain) return (vgh){a / size, slope, h, beyond(slope, K(INFINITY))};
    const mask far = both(eq(size, K(INFINITY)), lt(r_abs(x), K(INFINITY)));
    const real v = where(lt(a, K(INFINITY)), a / size, K(2) * (r_abs(K(0.5) * x - K(0.5) * t) / size));
    return (vgh){where(far, K(1), v), slope, h};
}

/* max(0, u), u = 1 - t x; -t where u > 0; 0 */
LOSS(hinge_loss) {
    (void)plain;
    const real u = K(1) - t * x, none = keep_nan(K(0), u);
    return (vgh){r_max(K(0), u), where(lt(K(0), u), -t, none), none};
}

/* max(0, u)^2; -2 t max(0, u); 2 where u > 0 */
LOSS(squared_hinge_loss) {
    (void)plain;
    const real u = r_max(K(0), K(1) - t * x);
    return (vgh){u * u, K(-2) * t * u, where(lt(K(0), u), K(2), keep_nan(K(0), u))};
}

/* max(0, 1 - m)^2 for m = t x >= -1, -4 m below; -2 t max(0, 1 - m) or -4 t; 2 for -1 <= m < 1 */
LOSS(modified_huber_loss) {
    (void)plain;
    const real m = t * x, u = r_max(K(0), K(1) - m), none = keep_nan(K(0), m);
    const mask line = lt(m, K(-1));
    return (vgh){where(line, K(-4) * m, u * u), K(-2) * t * where(line, K(2), u), where(line, K(0), where(lt(m, K(1)), K(2), none))};
}

/* x for t = 1; max(0, margin - x) for t = -1; its slope; 0 */
LOSS(hinge_embedding_loss) {
    const pair gap = difference(p[0], x, plain);
    const real u = gap.hi + ((gap.lo + p[REST]) + p[LAST]), none = keep_nan(K(0), x + t);
    const mask same = lt(K(0), t);
    const real g = where(same, K(1), where(lt(K(0), u), K(-1), K(0)));
    return (vgh){where(same, x, r_max(K(0), u)) + none, g + none, none, beyond(gap.hi, K(INFINITY))};
}

/* 1 where t x is not above 0; no slope */
LOSS(zero_one_loss) {
    (void)plain;
    const real m = t * x, none = keep_nan(K(0), m);
    return (vgh){where(le(m, K(0)), K(1), none), none, none};
}

/* r^2 / 2; r s'; s' (s' + r (1 - 2 s)). With `far` the smaller of s and 1 - s, and b the part of the target that goes with it
   (t or 1 - t), r is far - b but for its sign, s' = far - far^2, and the Hessian s' (far (2 - 3 far) - b (1 - 2 far)): no
   error but that of far is multiplied by anything. */
LOSS_OF_DECAY(quadratic_sigmoid_loss) {
    const real far = both_sides(e).far, square = far * far, left = far - square;
    const mask up = lt(K(0), x);
    const pair slope = {left, ((far - left) - square) - r_product_error(far, far, square)};
    const pair b = r_choose(up, difference(K(1), t, plain), (pair){t, K(0)}), gap = difference(far, b.hi, plain);
    const pair r = {gap.hi, gap.lo - b.lo}, near = r_difference(K(1), far + far);
    const real triple = K(3) * far, minus = b.hi * near.hi, plus = far * (K(2) - triple);
    const pair two = r_difference(K(2), triple), bend = difference(far * two.hi, minus, plain);
    const real plus_lo = r_product_error(far, two.hi, plus) + far * (two.lo - r_product_error(K(3), far, triple));
    const real minus_lo = r_product_error(b.hi, near.hi, minus) + r_fma(b.hi, near.lo, b.lo * near.hi);
    const real v = r_fma(K(0.5) * r.hi, r.hi, r.lo * r.hi), g = product_of(r, slope);
    const real h = product_of(slope, (pair){bend.hi, bend.lo + (plus_lo - minus_lo)});
    if (plain) return (vgh){v, where(up, -g, g), h, beyond(x, K(MODERATE)) | beyond(r.hi, K(INFINITY))};
    const mask fair = lt(r_abs(r.hi), K(INFINITY));
    const real g_ = where(fair, g, r.hi * slope.hi);
    return (vgh){where(fair, v, r.hi * r.hi), where(up, -g_, g_), where(fair, h, -slope.hi * minus)};
}

/* ---- losses of which a logarithm or an exponential is a term ----

   What is exact on the way, or good to a second part, is kept as a pair, so that a result is rounded about once. */

INLINE pair r_parameter(const real *p, int i) { return (pair){p[i], p[REST + i]}; }
INLINE mask r_below(real x, pair y) { return either(lt(x, y.hi), both(eq(x, y.hi), lt(K(0), y.lo))); }
INLINE pair r_negative(pair x) { return (pair){-x.hi, -x.lo}; }
INLINE pair r_plus_one(pair x) {
    const pair y = r_total(K(1), x.hi);
    return (pair){y.hi, y.lo + x.lo};
}
INLINE pair r_log1p_of(pair x) { return r_log_pair(r_plus_one(x)); } /* x > -1 */
/* log(x / y) with full relative accuracy */
NOINLINE pair r_log_ratio(real x, real y) {
    const pair below = exactly(y), u = r_divide(r_difference(x, y), below), q = r_divide(exactly(x), below);
    const pair near = r_log_exact(r_choose(le(r_abs(u.hi), K(0.5)), r_plus_one(u), q));
    const pair log_x = r_log_exact(exactly(x)), log_y = r_log_exact(below), far = r_total(log_x.hi, -log_y.hi);
    const mask extreme = either(lt(q.hi, K(0x1p-30)), lt(K(0x1p30), q.hi));
    return r_choose(extreme, (pair){far.hi, far.lo + (log_x.lo - log_y.lo)}, near);
}
/* 0 for a weight of 0, unless x is NaN */
INLINE pair r_weighed(pair weight, pair x) {
    const pair y = r_multiply(weight, x);
    return r_choose(both(eq(weight.hi, K(0)), eq(x.hi, x.hi)), exactly(K(0)), y);
}
INLINE pair r_sum(pair x, pair y) {
    const pair s = r_total(x.hi, y.hi);
    return (pair){s.hi, s.lo + (x.lo + y.lo)};
}
/* x + y + z, rounded about once unless they cancel */
INLINE real r_sum3(pair x, pair y, pair z) {
    const pair s = r_total(x.hi, y.hi), u = r_total(s.hi, z.hi);
    return r_settled((pair){u.hi, u.lo + (s.lo + ((x.lo + y.lo) + z.lo))});
}
INLINE real r_sum2(pair x, pair y) { return r_sum3(x, y, exactly(K(0))); }
INLINE mask endless(real x) { return eq(r_abs(x), K(INFINITY)); }

/* -(t log p + (1-t) log(1-p)), p = x or its nearest in [eps, 1-eps]; (p - t) / (p (1-p)); t / p^2 + (1-t) / (1-p)^2 */
LOSS(binary_cross_entropy) {
    (void)plain;
    const real one = K(1), zero = K(0), at = x + zero;
    const pair eps = r_parameter(p, 0), rest = r_difference(one, x), no = r_difference(one, t);
    pair rim = r_difference(one, eps.hi);
    rim.lo -= eps.lo;
    const mask low = r_below(at, eps), high = r_below(rest.hi, eps), clipped = either(low, high);
    const pair yes_p = r_choose(low, eps, r_choose(high, rim, exactly(at)));
    const pair no_p = r_choose(low, rim, r_choose(high, eps, rest));
    const real v = -r_sum2(r_weighed(exactly(t), r_log_pair(yes_p)), r_weighed(no, r_log_pair(no_p)));
    const mask none = eq(t, zero), all = eq(t, one);
    const real over = where(none, one, where(all, -one, x - t));
#ifndef LF_NO_FMA
    const real spread = r_fma(at, rest.hi, at * rest.lo);
#else
    const real whole = at * rest.hi, spread = whole + (r_product_error(at, rest.hi, whole) + at * rest.lo);
#endif
    const real under = where(none, rest.hi, where(all, at, spread));
    const real bend = where(none, where(eq(x, x), zero, x), t / at / at);
    const pair bend_no = r_divide(r_divide(no, rest), rest);
    const real h = bend + where(all, where(eq(x, x), zero, x), r_settled(bend_no));
    const real g = where(clipped, zero * t, over / under);
    return (vgh){v, g, where(clipped, zero * t, h), beyond(g, K(INFINITY))};
}

/* log(1 + e^-m), m = t x; -t s(-m); t^2 s(m) s(-m) */
LOSS_OF_MARGIN(logistic_loss) {
    const sides s = both_sides(e);
    const real m = t * x;
    (void)plain;
    return (vgh){s.log1p - r_min(K(0), m), -(t * where(lt(K(0), m), s.far, s.near)), t * t * s.product, beyond(m, K(MODERATE))};
}

/* e^-tx */
LOSS(exponential_loss) {
    const real v = r_exp(-(t * x)), g = t * v;
    (void)plain;
    return (vgh){v, -g, t * g};
}

/* log cosh d, by its series near 0, and |d| - log 2 + log(1 + e^-2|d|) beyond; tanh d; sech^2 d. What x - t is beside d, its
   rounded value, is put in afterwards, since sech^2 of a large d depends on every digit. */
LOSS_OF_GAP(log_cosh_loss) {
    static const scalar c[] = LF_LOG_COSH;
    const sides s = both_sides(e);
    const pair d = r_difference(x, t);
    const real a = r_abs(d.hi), z = a * a, rest = plain ? d.lo : where(lt(a, K(INFINITY)), d.lo, K(0));
    const mask down = lt(d.hi, K(0));
    const real lo = where(down, -rest, rest), tanh = e.left * s.near, h = K(4) * s.product;
    const real near = r_fma(z * z, r_horner(z, c, LF_LOG_COSH_TERMS), r_fma(K(0.5) * a, a, tanh * lo));
    const pair one = one_plus((pair){e.hi, e.lo}), far = r_log_parts(one.hi, one.lo, K(-1), a);
    const real v = where(lt(a, K(0.75)), near, far.hi + r_fma(tanh, lo, far.lo)), g = r_fma(e.left, s.near, h * lo);
    return (vgh){v, where(down, -g, g), r_fma(K(-2) * (tanh * lo), h, h), beyond(K(2) * d.hi, K(MODERATE))};
}

/* c^2/2 log(1 + z), z = (d/c)^2; d / (1 + z); (1 - z) / (1 + z)^2. Within c the value is d^2/2 log(1 + z)/z; beyond, the
   derivatives are written in w = 1/z; far beyond, log(1 + z) = 2 log d - 2 log c. So nothing overflows on the way. */
LOSS(cauchy_loss) {
    const real most = K(LF_DTYPE == 32 ? 0x1p30 : 0x1p60), small = K(LF_DTYPE == 32 ? 0x1p-30 : 0x1p-60);
    const pair gap = r_difference(x, t), c = {r_max(K(LEAST), p[0]), p[REST]};
    const mask down = lt(gap.hi, K(0)), fair = lt(r_abs(gap.hi), K(INFINITY));
    const real rest = plain ? gap.lo : where(fair, gap.lo, K(0));
    const pair d = {r_abs(gap.hi), where(down, -rest, rest)}, r = r_divide(d, c), z = r_multiply(r, r);
    const mask near = le(d.hi, c.hi);
    const real half_d = r_abs(K(0.5) * x - K(0.5) * t), half_c = K(0.5) * c.hi; /* finite where the difference is not */
    pair log = r_log1p_of(z);
    if (!plain) {
        const pair log_d = r_log_exact(exactly(half_d)), log_c = r_log_exact(exactly(half_c));
        const pair twice = r_total(K(2) * log_d.hi, K(-2) * log_c.hi);
        const mask finite = lt(half_d, K(INFINITY));
        const pair far = {twice.hi, where(finite, twice.lo + K(2) * (log_d.lo - log_c.lo), K(0))};
        log = r_choose(lt(most, r.hi), far, log);
    }
    const pair bend = r_choose(lt(z.hi, small), exactly(K(1)), r_divide(log, z)), size = r_choose(near, d, c);
    const pair half = {K(0.5) * size.hi, K(0.5) * size.lo}, v = r_multiply(r_multiply(size, r_choose(near, bend, log)), half);
    const pair less = r_choose(near, d, c), more = r_choose(near, c, d), part = r_divide(less, more);
    const pair share = {part.hi, plain ? part.lo : where(fair, part.lo, K(0))}, w = r_multiply(share, share);
    const pair all = r_plus_one(w), sum = r_plus_one(share);
    const pair g = r_divide(r_choose(near, d, r_multiply(c, share)), all);
    const pair left = r_total(more.hi, -less.hi), kept = r_divide((pair){left.hi, left.lo + (more.lo - less.lo)}, more);
    const pair fall = {kept.hi, plain ? kept.lo : where(fair, kept.lo, K(0))};
    const pair over = r_multiply(sum, r_choose(fair, fall, exactly(where(eq(x - t, x - t), K(1), x - t))));
    const real h = r_settled(r_divide(r_divide(r_choose(near, over, r_multiply(r_negative(w), over)), all), all));
    const real slope = plain ? r_settled(g) : where(fair, r_settled(g), c.hi * (half_c / half_d));
    return (vgh){r_settled(v), where(down, -slope, slope), h, beyond(r.hi, most)};
}

/* e^x - t x, or x - t log(x + eps), and what `full` adds: log(t!), or torch's Stirling term where t > 1 */
LOSS(poisson_nll_loss) {
    const real zero = K(0), one = K(1);
    const mask none = eq(t, zero);
    const int linear = any(eq(p[0], one));
    real v, g, h, lead, lean; /* v = lead - t lean */
    if (!linear) {
        const real e_x = r_exp(x), product = t * x;
        v = where(none, e_x, r_fma(-t, x, e_x)), g = e_x - t, h = where(eq(t, t), e_x, t), lead = e_x, lean = x;
        if (!plain) { /* both beyond the range: which is larger, a part of both tells */
            const real down = K(LF_DTYPE == 32 ? 0x1p-64 : 0x1p-512);
            const real part = r_exp(x - K(LF_DTYPE == 32 ? 0x1.62e43p+5 : 0x1.62e42fefa39efp+8)), apart = part - (t * down) * x;
            const mask both_far = both(eq(e_x, K(INFINITY)), eq(product, K(INFINITY))), more = eq(t, K(INFINITY));
            const real sign = where(either(lt(zero, apart), eq(part, K(INFINITY))), K(INFINITY), K(-INFINITY));
            v = where(both_far, where(more, K(-INFINITY), sign), v), g = where(both(both_far, more), K(-INFINITY), g);
            v = where(eq(x, K(INFINITY)), where(eq(t, t), x, t), v), g = where(eq(x, K(INFINITY)), v, g);
        }
    } else {
        const pair eps = r_parameter(p, 2);
        pair s = r_total(x, eps.hi);
        s.lo += eps.lo;
        const pair log = r_log_pair(s);
        v = r_sum2(exactly(x), r_negative(r_choose(none, exactly(zero), r_multiply(exactly(t), log))));
        lead = x, lean = log.hi;
        if (!plain) v = where(eq(x, K(INFINITY)), where(eq(t, t), x, t), v);
        const pair q = r_divide(exactly(t), s);
        g = where(none, where(eq(x, x), one, x), r_sum2(exactly(one), r_negative(q)));
        h = where(none, where(eq(x, x), zero, x), r_settled(r_divide(q, s)));
        const mask far = both(endless(x), lt(r_abs(t), K(INFINITY)));
        if (!plain) g = where(far, one, g), h = where(far, zero, h);
    }
    const real bare = v;
    if (any(eq(p[1], one))) v += r_log_factorial(t);
    if (any(eq(p[1], K(2)))) {
        const real above = r_max(one, t);
        const pair log = r_log_pair(exactly(above)), most = r_multiply(exactly(above), log);
        const real term = r_sum3(most, exactly(-above), exactly(K(0.5) * (log.hi + K(1.8378770664093453))));
        v += where(lt(one, t), term, zero);
    }
    if (!plain && !any(eq(p[1], zero))) /* t log t - t and t lean both beyond the range */
        v = where(both(eq(bare, K(-INFINITY)), lt(t, K(INFINITY))), lead + t * ((r_log(t) - one) - lean), v);
    return (vgh){v, g, h, beyond(g, K(INFINITY))};
}

/* phi(r) = e^r - 1 - r with r = log(t / mu), mu = e^x or x; -(e^r - 1), or (x - t) / x^2; e^r, or (2 t - x) / x^3 */
LOSS(half_gamma_deviance) {
    (void)plain;
    if (!any(eq(p[0], K(1)))) {
        const pair log = r_log_exact(exactly(t)), s = r_total(log.hi, -x), r = {s.hi, s.lo + log.lo};
        return (vgh){r_phi_pair_of(r), -r_expm1_pair_of(r), r_exp_pair_of(r)};
    }
    const pair at = exactly(x), gap = r_difference(x, t), twice = r_total(t, -gap.hi);
    const pair top = {twice.hi, twice.lo - gap.lo};
    const real g = r_settled(r_divide(r_divide(gap, at), at)), h = r_settled(r_divide(r_divide(r_divide(top, at), at), at));
    const mask below = lt(x, K(0));
    return (vgh){r_phi_pair_of(r_log_ratio(t, x)), where(below, K(NAN), g), where(below, K(NAN), h), beyond(g, K(INFINITY))};
}

/* (e - c) / k + c r, where e = c e^-kr: for a small kr as c phi(-kr) / k. `without`: all but c r. */
NOINLINE pair tweedie_part(pair k, real e, real c, pair r, const mask near, const mask without) {
    const pair kr = r_weighed(k, r), small = r_multiply(exactly(c), exactly(r_phi_pair_of(r_negative(kr))));
    const pair slope = r_divide(r_difference(e, c), k), line = r_weighed(exactly(c), r);
    const pair all = r_total(slope.hi, line.hi), far = {all.hi, all.lo + (slope.lo + line.lo)};
    const pair y = r_choose(near, r_divide(small, k), r_choose(without, slope, far));
    return r_choose(eq(k.hi, K(0)), exactly(K(0)), y);
}
/* mu^b / b - t mu^a / a + t^b / (a b), a = 1 - power, b = 2 - power, mu = e^x or x: the difference of two parts, of b and of
   a, that are small where mu is near t; mu^b - t mu^a or mu^-power (mu - t), and the derivatives of these */
LOSS(half_tweedie_deviance) {
    const pair power = r_parameter(p, 0);
    const int linear = any(eq(p[1], K(1)));
    const real one = K(1), zero = K(0);
    if (any(both(eq(power.hi, zero), eq(power.lo, zero)))) {
        if (linear) {
            const real d = x - t;
            return (vgh){K(0.5) * d * d, d, where(eq(d, d), one, d)};
        }
        const real mu = r_exp(x), d = mu - t;
        return (vgh){K(0.5) * d * d, mu * d, mu * (mu + d)};
    }
    pair a = r_difference(one, power.hi), b = r_difference(K(2), power.hi);
    a.lo -= power.lo, b.lo -= power.lo;
    const pair log_t = r_log_exact(exactly(t)), log_mu = linear ? r_log_exact(exactly(x)) : exactly(x);
    pair r = r_total(log_t.hi, -log_mu.hi);
    r.lo += log_t.lo;
    if (linear) r = r_log_ratio(t, x);
    const pair up = r_weighed(a, log_mu), at = r_total(log_t.hi, up.hi);
    const mask none = eq(t, zero);
    const real most = r_exp_pair_of(r_weighed(b, log_mu)), own_rest = r_exp_pair_of((pair){at.hi, at.lo + (log_t.lo + up.lo)});
    const real rest = where(none, zero, own_rest); /* of an infinite x too */
    const real own = r_exp_pair_of(r_weighed(b, log_t));
    const mask near_a = le(r_abs(r_weighed(a, r).hi), one), near_b = le(r_abs(r_weighed(b, r).hi), one);
    const mask without = both(not_(near_a), not_(near_b));
    const pair part_b = tweedie_part(b, most, own, r, near_b, without), part_a = tweedie_part(a, rest, own, r, near_a, without);
    const mask beyond_range = either(eq(own, K(INFINITY)), either(eq(most, K(INFINITY)), eq(rest, K(INFINITY))));
    const mask number = both(eq(log_mu.hi, log_mu.hi), eq(t, t));
    const real cost = r_settled(r_divide(exactly(most), b)), endless_or_not = where(number, K(INFINITY), log_mu.hi);
    const real limit = where(lt(zero, b.hi), cost, endless_or_not); /* of a target of 0 */
    const real whole = where(both(beyond_range, number), K(INFINITY), r_sum2(part_b, r_negative(part_a)));
    const real v = where(none, limit, whole);
    real g, h;
    if (!linear) {
        const mask two = both(eq(most, K(INFINITY)), eq(rest, K(INFINITY)));
        g = where(lt(r_abs(r.hi), one), -most * r_expm1_pair_of(r), most - rest);
        h = r_sum2(r_multiply(b, exactly(most)), r_negative(r_multiply(a, exactly(rest))));
        if (!plain) { /* a share of what is beyond the range may be within it */
            const real up_by = K(LF_DTYPE == 32 ? 0x1p64 : 0x1p128);
            const pair lift = {K(LF_DTYPE == 32 ? -0x1.62e43p+5 : -0x1.62e42fefa39efp+6),
                               K(LF_DTYPE == 32 ? 0x1.05c61p-23 : -0x1.abc9e3b39803fp-49)}; /* minus the log of up_by */
            const real far = where(none, zero, r_exp_pair_of(r_sum((pair){at.hi, at.lo + (log_t.lo + up.lo)}, lift)));
            const real near = r_exp_pair_of(r_sum(r_weighed(b, log_mu), lift));
            const real part = r_sum2(r_multiply(b, exactly(near)), r_negative(r_multiply(a, exactly(far))));
            h = where(either(eq(most, K(INFINITY)), eq(rest, K(INFINITY))), part * up_by, h);
            const mask above = either(lt(r.hi, zero), both(not_(lt(zero, r.hi)), lt(zero, x))); /* mu above t */
            g = where(two, where(above, K(INFINITY), K(-INFINITY)), g), h = where(two, K(INFINITY), h);
        }
    } else {
        /* above 1 by mu^a and what is left over mu, below by mu^-power: neither is beyond the range where the product is not */
        const mask above = lt(one, x);
        const pair at_x = exactly(x), gap = r_difference(x, t);
        const pair both_terms = r_sum(r_multiply(a, at_x), r_multiply(power, exactly(t))), q = r_divide(both_terms, at_x);
        const real size = r_exp_pair_of(up), factor = r_exp_pair_of(r_weighed(r_negative(power), log_mu));
        const pair outer = exactly(where(above, size, factor)), flat = r_choose(above, r_divide(a, at_x), a);
        g = r_settled(r_multiply(outer, r_choose(above, r_divide(gap, at_x), gap)));
        h = r_settled(r_multiply(outer, r_choose(above, r_divide(q, at_x), q)));
        g = where(none, size, g), h = where(none, r_settled(r_multiply(flat, outer)), h);
    }
    return (vgh){v, g, h, beyond(g, K(INFINITY))};
}

/* d^2, d = log((1+x) / (1+t)): 1 + (x-t) / (1+t) where that is near 1; 2 d / (1+x); 2 (1-d) / (1+x)^2 */
LOSS(msle) {
    enum { UP = LF_DTYPE == 32 ? 32 : 64 };
    const real two = K(2), away = K(LF_DTYPE == 32 ? 0x1p32 : 0x1p64), down = K(LF_DTYPE == 32 ? 0x1p-32 : 0x1p-64);
    const pair one_x = r_total(K(1), x), one_t = r_total(K(1), t), u = r_divide(r_difference(x, t), one_t);
    const mask near = le(r_abs(u.hi), K(0.5)), large = lt(K(LF_DTYPE == 32 ? 0x1p40 : 0x1p128), one_x.hi);
    const real level = where(large, down, away);
    const pair whole = r_divide((pair){one_x.hi * level, one_x.lo * level}, one_t), ratio = r_choose(near, r_plus_one(u), whole);
    const mask fair = both(lt(K(0), ratio.hi), lt(ratio.hi, K(INFINITY)));
    const real n = where(near, K(0), where(large, K(UP), K(-UP)));
    const pair log = r_log_parts(where(fair, ratio.hi, K(1)), where(fair, ratio.lo, K(0)), n, K(0));
    const real none = where(lt(one_t.hi, K(0)), K(NAN), K(-INFINITY));
    const real odd = where(eq(ratio.hi, K(0)), none, where(lt(ratio.hi, K(0)), K(NAN), ratio.hi));
    const pair d = {where(fair, log.hi, odd), where(fair, log.lo, K(0))};
    const pair left = r_total(K(1), -d.hi), slope = r_divide(d, one_x);
    const pair bend = r_divide(r_divide((pair){left.hi, left.lo - d.lo}, one_x), one_x);
    real g = two * r_settled(slope), h = two * r_settled(bend);
    if (!plain) {
        const mask far = both(eq(x, K(INFINITY)), lt(r_abs(t), K(INFINITY)));
        g = where(far, K(0), g), h = where(far, K(0), h);
    }
    return (vgh){r_settled(r_multiply(d, d)), g, h};
}

/* log(1 + e), 0 <= e <= 1 in two parts, to both of them */
INLINE pair r_log1p_exact(pair e) {
    const real bend = e.hi * e.hi * r_fma(e.hi, K(-1.0 / 3), K(0.5));
    return r_choose(lt(e.hi, K(LF_DTYPE == 32 ? 0x1p-12 : 0x1p-26)), (pair){e.hi, e.lo - bend}, r_log_exact(r_plus_one(e)));
}

/* A w^gamma c, with w = t s(-x) + (1-t) s(x) what the answer is short of 1, c = t log(1 + e^-x) + (1-t) log(1 + e^x), and
   A = alpha t + (1-alpha) (1-t). With u = w'/w = (1-2t) s(x) s(-x) / w (-s(x) and s(-x) for the labels 1 and 0) and c' =
   (1-t) s(x) - t s(-x): A w^gamma (gamma u c + c'), and A w^gamma (gamma u ((gamma-1) u c + (s(-x) - s(x)) c + 2 c') +
   s(x) s(-x)). */
LOSS_OF_DECAY(sigmoid_focal_loss) {
    const real one = K(1), zero = K(0);
    const pair gamma = r_parameter(p, 0), alpha = r_parameter(p, 1), yes = exactly(t), no = r_difference(one, t);
    const pair near = r_inverse(one + e.hi, (e.hi - ((one + e.hi) - one)) + e.lo), far = r_multiply((pair){e.hi, e.lo}, near);
    const mask up = lt(zero, x), all = eq(t, one), none = eq(t, zero);
    const pair s = r_choose(up, near, far), back = r_choose(up, far, near), log = r_log1p_exact((pair){e.hi, e.lo});
    const pair cost_no = r_sum(log, exactly(where(up, x, zero))), cost_yes = r_sum(log, exactly(where(up, zero, -x)));
    const pair c = r_sum(r_weighed(yes, cost_yes), r_weighed(no, cost_no)), slope = r_multiply(s, back);
    const pair miss_no = r_multiply(no, s), miss_yes = r_multiply(yes, back), w = r_sum(r_multiply(yes, back), miss_no);
    const pair bent = r_sum(miss_no, r_negative(miss_yes)), tilt = r_difference(one, t + t);
    const pair u = r_choose(all, r_negative(s), r_choose(none, back, r_divide(r_multiply(tilt, slope), w)));
    /* a label's log w is minus the other label's cost, in which little is left of the error of e */
    const pair log_w = r_choose(all, r_negative(cost_no), r_choose(none, r_negative(cost_yes), r_log_exact(w)));
    const pair power = r_exp_in_parts(r_weighed(gamma, log_w));
    const pair rest = r_difference(one, alpha.hi);
    const pair share = r_sum(r_multiply(alpha, yes), r_multiply((pair){rest.hi, rest.lo - alpha.lo}, no));
    const pair factor = r_choose(eq(alpha.hi, alpha.hi), r_multiply(share, power), power);
    const pair g = r_sum(r_weighed(u, r_weighed(gamma, c)), bent), less = r_total(gamma.hi, -one);
    const pair inner = r_sum(r_multiply((pair){less.hi, less.lo + gamma.lo}, u), r_sum(back, r_negative(s)));
    const pair twice = {K(2) * bent.hi, K(2) * bent.lo};
    const pair bow = r_multiply(gamma, r_sum(r_weighed(inner, c), twice));
    real h = r_settled(r_multiply(factor, r_sum(r_weighed(u, bow), slope)));
    if (!plain) { /* where e^-|x| has few digits, 1 + gamma (1-2t) (2 - |x|) of it is what a wrong answer has */
        const real a = r_abs(x), up_by = K(LF_DTYPE == 32 ? 0x1p64 : 0x1p128), down_by = one / up_by;
        const pair lift = {K(LF_DTYPE == 32 ? 0x1.62e43p+5 : 0x1.62e42fefa39efp+6),
                           K(LF_DTYPE == 32 ? -0x1.05c61p-23 : 0x1.abc9e3b39803fp-49)}; /* of log up_by */
        const pair top = r_total(lift.hi, -a), part = r_exp_in_parts((pair){top.hi, top.lo + lift.lo});
        const pair lean = r_choose(up, tilt, r_negative(tilt));
        const pair many = r_sum(r_multiply(r_multiply(gamma, lean), r_difference(K(2), a)), exactly(one));
        const mask deep = both(lt(K(LF_DTYPE == 32 ? 87 : 708), a), both(lt(a, K(1e4)), lt(zero, where(up, no.hi, t))));
        h = where(deep, r_settled(r_multiply(r_multiply(factor, many), part)) * down_by, h);
    }
    return (vgh){r_settled(r_weighed(factor, c)), r_settled(r_multiply(factor, g)), h, beyond(x, K(MODERATE))};
}

/* (log V + d s) / 2, s = d / V, V = max(q, eps), and log(2 pi)/2 with `full`; s, 1 / V; (1/V - s^2) / 2 and
   (s^2 - 1/(2 V)) / V, both 0 where q is below eps */
LOSS_OF_TWO(gaussian_nll_loss) {
    const real half = K(0.5), zero = K(0), one = K(1), none = where(eq(x - t, x - t), zero, x - t);
    const pair eps = {r_max(K(LEAST), p[1]), p[REST + 1]}, gap = r_difference(x, t);
    const mask low = r_below(q, eps), same = eq(gap.hi, zero);
    const pair V = r_choose(low, eps, exactly(q)), d = {gap.hi, plain ? gap.lo : where(endless(gap.hi), zero, gap.lo)};
    const pair share = r_choose(same, exactly(where(eq(q, q), zero, q)), r_divide(d, V)), log = r_log_pair(V);
    const pair half_share = {half * share.hi, half * share.lo}, inverse = r_divide(exactly(half), V);
    const pair square = r_multiply(half_share, share), more = r_choose(same, exactly(zero), r_multiply(half_share, d));
    const real constant = any(eq(p[0], one)) ? K(0.91893853320467274) : zero;
    const real v = r_sum3((pair){half * log.hi, half * log.lo}, more, exactly(constant));
    const pair bend = r_sum(square, (pair){-half * inverse.hi, -half * inverse.lo});
    real g = r_settled(share), h = none + r_settled(r_divide(exactly(one), V));
    real g2 = r_sum2(inverse, r_negative(square)), h2 = K(2) * r_settled(r_divide(bend, V));
    if (!plain) {
        const mask wide = eq(V.hi, K(INFINITY));
        g = where(wide, none, g), h = where(wide, none, h), g2 = where(wide, none, g2), h2 = where(wide, none, h2);
    }
    return (vgh){v, g, h, beyond(g, K(INFINITY)), where(low, none, g2), where(low, none, h2)};
}

/* max(0, margin - q (x - t)); -q and q where that is above 0 */
LOSS_OF_TWO(margin_ranking_loss) {
    const real zero = K(0), half = K(0.5);
    const pair d = r_difference(x, t), margin = r_parameter(p, 0);
    real v = r_sum2(margin, (pair){-(q * d.hi), -(q * d.lo)});
    if (!plain) /* the difference of two finite numbers may overflow */
        v = where(endless(d.hi), K(2) * (half * margin.hi - q * (half * x - half * t)), v);
    const mask some = lt(zero, v), none = le(v, zero);
    const real g = where(some, q, where(none, zero, v)), flat = where(eq(v, v), zero, v);
    return (vgh){where(none, zero, v), -g, flat, r_bits(zero), g, flat};
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

/* What rounding it to the dtype took from it; the bits of a double take three floats */
INLINE pair rest_of_parameter(double x) {
#if LF_DTYPE == 32
    if (fabs(x) <= FLT_MAX) return K_split(x - (double)(float)x, 0);
#endif
    (void)x;
    return (pair){K(0), K(0)};
}

/* The first n elements, a multiple of 16, of which `live` in each 16 are summed, with everything else known at compile time. Sums run
   over 16 lanes whatever the vector's width, so that they come out the same everywhere. Exponentials are made in a pass of
   their own: from x to the loss, the chain of operations is longer than a processor looks ahead. Plain sums are new ones,
   those with care go on from what `sums` has. Returns whether nothing
   was odd; with care, whether all of it is finite. */
INLINE int lf_run(const lf_block *k, ptrdiff_t n, lanes *sums, int live, const int want, const int weigh, const int plain, lf_body body, const int traits) {
    enum { CHUNK = 256 };
    const int decays = want & traits, told = traits & TELLS, left = want & LF_HESS || traits & OF_GAP;
    const ptrdiff_t chunk = decays ? CHUNK : n, step = want & LF_SUM ? SHAPE : LF_LANES;
    const scalar *x = k->x, *t = k->t, *q = k->q;
    scalar *value = k->value, *grad = k->grad, *hess = k->hess, *grad_second = k->grad_second, *hess_second = k->hess_second;
    scalar e_hi[CHUNK], e_lo[CHUNK], e_left[CHUNK];
    const double *w = k->w;
    const pair scale = K_split(k->scale, 0);
    ireal odd = r_bits(K(0));
    real p[3 * LF_MAX_PARAMS];
    sum total[PARTS];
    for (int i = 0; i < LF_MAX_PARAMS; i++) {
        const pair rest = rest_of_parameter(k->params[i]);
        p[i] = parameter(k->params[i]), p[REST + i] = rest.hi, p[LAST + i] = rest.lo;
    }
    UNROLL for (int part = 0; part < PARTS; part++)
        total[part] = plain ? sum_zero() : sum_load(sums->hi + part * LF_LANES, sums->lo + part * LF_LANES);
    for (ptrdiff_t from = 0; from < n; from += chunk) {
        const ptrdiff_t to = from + chunk < n ? from + chunk : n;
        for (ptrdiff_t i = from; decays && i < to; i += LF_LANES) {
            const decay e = r_exp_negative(r_abs(decayed(traits, r_load(x + i), r_load(t + i))), plain);
            r_store(e_hi + i - from, e.hi);
            r_store(e_lo + i - from, e.lo);
            if (left) r_store(e_left + i - from, e.left);
        }
        for (ptrdiff_t at = from; at < to; at += step) {
            for (int part = 0; part < step / LF_LANES; part++) {
                const ptrdiff_t i = at + part * LF_LANES, j = decays ? i - from : 0;
                decay e = {K(0), K(0), K(0)};
                if (decays) e = (decay){r_load(e_hi + j), r_load(e_lo + j), left ? r_load(e_left + j) : K(0)};
                const vgh y = body(r_load(x + i), r_load(t + i), r_load(q + i), e, p, plain);
                if (plain) odd |= y.odd;
                if (want & LF_VALUE) {
                    const real v = weigh ? weighted(y.v, w + i, 1) : plain && told ? y.v : y.v + K(0);
                    r_store(value + i, plain ? v : r_canonical(v));
                    if (!plain || (!(want & LF_SUM) && (weigh || !told))) odd |= beyond(v, K(INFINITY));
                }
                if (want & LF_GRAD) {
                    const real g = weigh ? weighted(y.g, w + i, k->scale) : scaled(y.g, scale, plain);
                    r_store(grad + i, g);
                    if (!plain || !(want & LF_SUM)) odd |= beyond(g, K(INFINITY));
                }
                if (want & LF_HESS) {
                    const real h = weigh ? weighted(y.h, w + i, k->scale) : scaled(y.h, scale, plain);
                    r_store(hess + i, h);
                    if (!plain || !(want & LF_SUM)) odd |= beyond(h, K(INFINITY));
                }
                if (traits & OF_TWO && want & LF_GRAD && grad_second) {
                    const real g = weigh ? weighted(y.g2, w + i, k->scale) : scaled(y.g2, scale, plain);
                    r_store(grad_second + i, g);
                    odd |= beyond(g, K(INFINITY));
                }
                if (traits & OF_TWO && want & LF_HESS && hess_second) {
                    const real h = weigh ? weighted(y.h2, w + i, k->scale) : scaled(y.h2, scale, plain);
                    r_store(hess_second + i, h);
                    odd |= beyond(h, K(INFINITY));
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
INLINE int lf_run_carefully(const lf_block *k, ptrdiff_t n, lanes *sums, int live, lf_body body, const int traits) {
    scalar unwanted[LF_BLOCK];
    lf_block all = *k;
    if (!all.value) all.value = unwanted;
    if (!all.grad) all.grad = unwanted;
    if (!all.hess) all.hess = unwanted;
    if (k->w) return lf_run(&all, n, sums, live, EVERYTHING, 1, 0, body, traits);
    return lf_run(&all, n, sums, live, EVERYTHING, 0, 0, body, traits);
}
typedef int (*lf_careful)(const lf_block *k, ptrdiff_t n, lanes *sums, int live);

/* The n < 16 elements from `at` on, in a padded copy */
NOINLINE int lf_run_rest(const lf_block *k, ptrdiff_t at, lanes *sums, int want, lf_careful careful) {
    const scalar *from[] = {k->x, k->t, k->q};
    scalar *to[] = {k->value, k->grad, k->hess, k->grad_second, k->hess_second}, in[3][SHAPE], out[5][SHAPE];
    const int wanted[] = {LF_VALUE, LF_GRAD, LF_HESS, LF_GRAD, LF_HESS};
    double w[SHAPE];
    const ptrdiff_t n = k->n - at;
    lf_block padded = *k;
    for (int j = 0; j < SHAPE; j++) {
        for (int i = 0; i < 3; i++) in[i][j] = j < n ? from[i][at + j] : 1;
        w[j] = k->w && j < n ? k->w[at + j] : 0;
    }
    padded.x = in[0], padded.t = in[1], padded.q = in[2], padded.w = k->w ? w : NULL;
    padded.value = out[0], padded.grad = out[1], padded.hess = out[2];
    padded.grad_second = k->grad_second ? out[3] : NULL, padded.hess_second = k->hess_second ? out[4] : NULL;
    const int finite = careful(&padded, SHAPE, sums, (int)n);
    for (int i = 0; i < 5; i++)
        if (want & wanted[i] && to[i]) memcpy(to[i] + at, out[i], n * sizeof(scalar));
    return finite;
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
        k->odd = 0;
        switch (plain ? want : 0) {
            CASE(LF_VALUE)
            CASE(LF_SUM)
            CASE(LF_GRAD)
            CASE(LF_SUM | LF_GRAD)
            CASE(LF_VALUE | LF_GRAD)
            CASE(LF_GRAD | LF_HESS)
        default:
            k->odd = !careful(k, n, &sums, SHAPE);
            fine = 1, plain = 0;
        }
        if (n < k->n) k->odd |= !lf_run_rest(k, n, &sums, want, careful);
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
    NOINLINE int name##_careful(const lf_block *k, ptrdiff_t n, lanes *sums, int live) {     \
        return lf_run_carefully(k, n, sums, live, name##_body, name##_traits);               \
    }                                                                                        \
    static void name##_block(lf_block *k, int want) { lf_pointwise(k, want, name##_body, name##_traits, name##_careful); }
LF_POINTWISE(LF_DEFINE)
#define LF_ENTRY(name) name##_block,
static const lf_pointwise_function lf_pointwise_functions[] = {LF_POINTWISE(LF_ENTRY)};

#endif
#endif
