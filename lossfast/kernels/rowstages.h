/* The loops over a class axis, in one orientation: included by rowwise.h once with ALONG 1 (lanes along a row) and once
   with ALONG 0 (16 rows across the lanes). One text serves both: what differs is where a lane's class and row come from.

   A stage walks its classes with EACH_CLASS; inside, `at` is the place of LF_LANES neighbours, IN(p, fill) reads there,
   OUT(p, y) writes there, CLASS() gives the classes' numbers within the stretch, ROW(name) a row's constant. Sums over
   classes are gathered in `sum` and put away with PUT_SUM: 16 lanes along a row in a fixed tree, whatever the vector's
   width; across rows simply class by class. So the bits depend on the number of classes alone. */

#if ALONG
#define STAGE(name) static void along_##name(const lf_classes *k, lf_rows *r)
enum { SUMS = 16 / LF_LANES };
#define EACH_GROUP
#define ROW(name) K(r->name[0])
#define ROW_SPLIT(name) K_split(r->name[0], r->name##_lo[0])
/* a class's number as a lane: relative to the stretch, so that it is exact in float32 too */
#define ROW_CLASS(name) K(r->name[0] - (double)k->first)
#define CLASS() (K((double)at) + r_iota())
#define LIVE() lt(CLASS(), K((double)n))
#define IN(p, fill) (whole ? r_load((p) + at) : r_load_part((p) + at, n - at, (scalar)(fill)))
#define OUT(p, y) (whole ? r_store((p) + at, (y)) : r_store_part((p) + at, (y), n - at))
#define EACH_CLASS(...)                                                                  \
    do {                                                                                 \
        ptrdiff_t i_ = 0;                                                                \
        for (; i_ + 16 <= n; i_ += 16) {                                                 \
            UNROLL for (int part = 0; part < SUMS; part++) {                             \
                const ptrdiff_t at = i_ + part * LF_LANES;                               \
                enum { whole = 1 };                                                      \
                __VA_ARGS__                                                              \
            }                                                                            \
        }                                                                                \
        if (i_ < n) {                                                                    \
            UNROLL for (int part = 0; part < SUMS; part++) {                             \
                const ptrdiff_t at = i_ + part * LF_LANES;                               \
                enum { whole = 0 };                                                      \
                __VA_ARGS__                                                              \
            }                                                                            \
        }                                                                                \
    } while (0)
/* added to what earlier stretches of the row left there */
#define PUT_SUM(hi, lo, total) sum_gather(total, &(hi)[0], &(lo)[0])
#else
#define STAGE(name) static void across_##name(const lf_classes *k, lf_rows *r)
enum { SUMS_ACROSS = 1 };
#define SUMS SUMS_ACROSS
#define EACH_GROUP for (int lane = 0; lane < LF_ROWS; lane += LF_LANES)
#define ROW(name) r_load_doubles(r->name + lane)
#define ROW_SPLIT(name) r_load_split(r->name + lane, r->name##_lo + lane)
#define ROW_CLASS(name) r_load_doubles(r->name + lane)
#define CLASS() K((double)c_)
#define LIVE() eq(K(0), K(0))
#define IN(p, fill) r_load((p) + at)
#define OUT(p, y) r_store((p) + at, (y))
#define EACH_CLASS(...)                                                                  \
    for (ptrdiff_t c_ = 0; c_ < n; c_++) {                                               \
        const ptrdiff_t at = c_ * LF_ROWS + lane;                                        \
        enum { part = 0 };                                                               \
        __VA_ARGS__                                                                      \
    }
#define PUT_SUM(hi, lo, total) sum_store(&(total)[0], (hi) + lane, (lo) + lane)
#endif

#define CLASSES const ptrdiff_t n = k->n
#define ENTRY(p, y) OUT(p, r_canonical(y))
#define SUM(name) sum name[SUMS]; for (int i_ = 0; i_ < SUMS; i_++) name[i_] = sum_zero()
/* a sum rounded to a double */
#if ALONG
#define PUT(hi, total) do { double spare_[1] = {0}; PUT_SUM(hi, spare_, total); } while (0)
#else
#define PUT(hi, total)                                                                   \
    do {                                                                                 \
        double spare_[LF_LANES];                                                         \
        sum_store(&(total)[0], (hi) + lane, spare_);                                     \
        for (int i_ = 0; i_ < LF_LANES; i_++) (hi)[lane + i_] += spare_[i_];             \
    } while (0)
#endif
#define PROBABILITY() r_quotient(IN(e, 0), IN(lo, 0), inverse)

STAGE(maximum) {
    const scalar *x = k->x;
    CLASSES;
    EACH_GROUP {
#if ALONG
        real m[SUMS];
        for (int i = 0; i < SUMS; i++) m[i] = K(-INFINITY);
        EACH_CLASS(m[part] = r_max(IN(x, -INFINITY), m[part]););
        scalar lanes[16];
        for (int i = 0; i < SUMS; i++) r_store(lanes + i * LF_LANES, m[i]);
        for (int i = 0; i < 16; i++) r->max[0] = lanes[i] > r->max[0] ? lanes[i] : r->max[0];
#else
        real m = K(-INFINITY);
        EACH_CLASS((void)part; m = r_max(IN(x, 0), m););
        double d[LF_LANES];
        for (int p = 0; p < DPARTS; p++) d_store(d + p * DLANES, r_double(m, p));
        memcpy(r->max + lane, d, sizeof d);
#endif
    }
}

/* the first class with the largest logit; kept if an earlier stretch had it */
STAGE(locate) {
    const scalar *x = k->x;
    CLASSES;
#if ALONG
    if (r->argmax[0] >= 0) return;
    const scalar m = (scalar)r->max[0];
    for (ptrdiff_t i = 0; i < n; i++)
        if (r_load_one(x + i) == m) {
            r->argmax[0] = (double)(k->first + i);
            return;
        }
#else
    EACH_GROUP {
        const real m = ROW(max);
        real found = K(-1);
        for (ptrdiff_t c_ = n - 1; c_ >= 0; c_--)
            found = where(eq(r_load(x + c_ * LF_ROWS + lane), m), CLASS(), found);
        for (int p = 0; p < DPARTS; p++) d_store(r->argmax + lane + p * DLANES, r_double(found, p));
    }
#endif
}

/* e^((x - shift)/T) * 2^(lift - scale_exponent), in two parts, times v if asked; PIVOTAL says
   what goes into the sum. */
#define EXPONENTIALS(SCALED_TEMPERATURE, TIMES_V, FINE)                                                                \
    EACH_CLASS(                                                                                                        \
        const pair y = FINE ? lifted_fine(IN(x, -INFINITY) - shift, it, exponent)                                      \
                            : lifted_exponential(IN(x, -INFINITY) - shift, it, SCALED_TEMPERATURE, exponent);          \
        real hi = y.hi;                                                                                                \
        real low = y.lo;                                                                                               \
        if (TIMES_V) {                                                                                                 \
            const real f = IN(v, 0);                                                                                   \
            const real product = hi * f;                                                                               \
            low = where(eq(f, K(0)), K(0), r_fma(low, f, r_product_error(hi, f, product)));                            \
            hi = where(eq(f, K(0)), K(0), product);                                                                    \
        }                                                                                                              \
        OUT(e, hi);                                                                                                    \
        OUT(lo, low);                                                                                                  \
        PIVOTAL)

STAGE(exponentials) {
    const scalar *x = k->x;
    scalar *e = k->e, *lo = k->lo;
    const scalar *v = NULL;
    (void)v;
    CLASSES;
    const pair it = K_split(k->inverse_temperature, k->inverse_temperature_lo);
    EACH_GROUP {
        const real shift = ROW(shift), exponent = ROW(scale_exponent) - K(LIFT), pivot = ROW_CLASS(pivot);
        SUM(others);
#if ALONG
#define PIVOTAL                                                                                                        \
    if ((size_t)(pivot_at - at) < LF_LANES) {                                                                          \
        const mask is = eq(CLASS(), pivot);                                                                            \
        hi = where(is, K(0), hi);                                                                                      \
        low = where(is, K(0), low);                                                                                    \
    }                                                                                                                  \
    sum_add(&others[part], hi, low);
        const double p = r->pivot[0] - (double)k->first;
        const ptrdiff_t pivot_at = p >= 0 && p < (double)n ? (ptrdiff_t)p : -LF_LANES;
        if (k->fine) EXPONENTIALS(1, 0, 1); else if (k->inverse_temperature == 1) EXPONENTIALS(0, 0, 0); else EXPONENTIALS(1, 0, 0);
        if (pivot_at >= 0) {
            r->pivot_e[0] = whole_of(e[pivot_at], lo[pivot_at]);
            r->pivot_lo[0] = rest_of(lo[pivot_at]);
        }
#undef PIVOTAL
#else
#define PIVOTAL                                                                                                        \
    const mask is = eq(CLASS(), pivot);                                                                                \
    pivot_e = where(is, hi, pivot_e);                                                                                  \
    pivot_lo = where(is, low, pivot_lo);                                                                               \
    sum_add(&others[part], where(is, K(0), hi), where(is, K(0), low));
        real pivot_e = K(0), pivot_lo = K(0);
        if (k->fine) EXPONENTIALS(1, 0, 1) else if (k->inverse_temperature == 1) EXPONENTIALS(0, 0, 0) else EXPONENTIALS(1, 0, 0)
        put_parts(r->pivot_e + lane, r->pivot_lo + lane, pivot_e, pivot_lo);
#undef PIVOTAL
#endif
        PUT_SUM(r->others, r->others_lo, others);
    }
}

STAGE(exponentials_times_v) {
    const scalar *x = k->x, *v = k->v;
    scalar *e = k->e, *lo = k->lo;
    CLASSES;
    const pair it = K_split(k->inverse_temperature, k->inverse_temperature_lo);
    EACH_GROUP {
        const real shift = ROW(shift), exponent = ROW(scale_exponent) - K(LIFT);
        SUM(others);
#define PIVOTAL sum_add(&others[part], hi, low);
        EXPONENTIALS(1, 1, 0);
#undef PIVOTAL
        PUT_SUM(r->others, r->others_lo, others);
    }
}

/* terms: how many targets are not 0, their sum, the sum of their classes + 1; the largest target that is not masked, and
   its first class, go to terms 3 and result */
STAGE(one_hot) {
    const scalar *t = k->t, *live = k->live;
    CLASSES;
    EACH_GROUP {
        SUM(count); SUM(whole_sum); SUM(place);
        EACH_CLASS(
            const real y = IN(t, 0);
            const mask none = eq(y, K(0));
            sum_add(&count[part], where(none, K(0), K(1)), K(0));
            sum_add(&whole_sum[part], y, K(0));
            sum_add(&place[part], where(none, K(0), CLASS() + K(1)), K(0));)
        ;
#if ALONG
        double before = r->terms[0][0], number = 0, spare = 0;
        PUT(r->terms[0], count);
        PUT_SUM(&number, &spare, place);
        if (r->terms[0][0] != before) r->terms[2][0] += number + (double)k->first * (r->terms[0][0] - before);
        PUT(r->terms[1], whole_sum);
        for (ptrdiff_t i = 0; i < n; i++)
            if ((double)r_load_one(t + i) > r->terms[3][0] && (!live || live[i] != 0)) {
                r->terms[3][0] = r_load_one(t + i);
                r->result[0] = (double)(k->first + i);
            }
#else
        PUT(r->terms[0], count);
        PUT(r->terms[1], whole_sum);
        PUT(r->terms[2], place);
        real most = K(-INFINITY), which = K(0);
        EACH_CLASS((void)part; const real y = live ? where(eq(IN(live, 0), K(0)), K(-INFINITY), IN(t, 0)) : IN(t, 0);
                   which = where(lt(most, y), CLASS(), which); most = r_max(y, most););
        for (int p = 0; p < DPARTS; p++) {
            d_store(r->terms[3] + lane + p * DLANES, r_double(most, p));
            d_store(r->result + lane + p * DLANES, r_double(which, p));
        }
#endif
    }
}

/* Without soft targets only the sums over cw are wanted. With smoothing (0: what it keeps of a target, 1: the share that it gives
   each class), an infinite gap counts for the smoothed target, whose sign may be another: all of it among those of cw. */
STAGE(target_sums) {
    const scalar *x = k->x, *t = k->t, *cw = k->cw, *live = k->live;
    CLASSES;
    EACH_GROUP {
        const real m = ROW(max), share = ROW(share), keep = ROW(terms[0]), even = ROW(terms[1]);
        SUM(tau); SUM(tau_gap); SUM(cw_sum); SUM(cw_gap);
        EACH_CLASS(
            const real y = IN(x, -INFINITY);
            const real w = cw ? IN(cw, 0) : where(LIVE(), K(1), K(0));
            const real spread_w = live ? w * IN(live, 0) : w;
            real spread_share = spread_w * share;
            if (t) {
                const real target = IN(t, 0);
                const mask endless = both(eq(y, K(-INFINITY)), lt(K(0), even));
                sum_add_product(&tau[part], w, target);
                sum_add_gap(&tau_gap[part], where(endless, K(0), w * target), m, y);
                spread_share = where(endless, r_fma(w * target, keep, spread_w * even), spread_share);
            }
            sum_add(&cw_sum[part], spread_w, K(0));
            sum_add_gap(&cw_gap[part], spread_share, m, y);)
        ;
        PUT(r->tau, tau);
        PUT(r->tau_gap, tau_gap);
        PUT(r->cw_sum, cw_sum);
        PUT(r->cw_gap, cw_gap);
    }
}

STAGE(remainder) {
    const scalar *e = k->e, *lo = k->lo;
    CLASSES;
    EACH_GROUP {
        const real argmax = ROW_CLASS(argmax);
        SUM(rest); SUM(own);
        EACH_CLASS(const mask is = eq(CLASS(), argmax); const real hi = IN(e, 0); const real low = IN(lo, 0);
                   sum_add(&rest[part], where(is, K(0), hi), where(is, K(0), low));
                   sum_add(&own[part], where(is, hi, K(0)), where(is, low, K(0)));)
        ;
        PUT_SUM(r->rest, r->rest_lo, rest);
        PUT_SUM(r->max_e, r->max_e_lo, own);
    }
}

/* 0: sum e (max - x), over the exponentials and not p, which may be subnormal */
STAGE(spread) {
    const scalar *x = k->x, *e = k->e, *lo = k->lo;
    CLASSES;
    EACH_GROUP {
        const real m = ROW(max);
        SUM(gap);
        EACH_CLASS(const real y = IN(x, -INFINITY); sum_add_gap(&gap[part], IN(e, 0), m, y);
                   sum_add_gap(&gap[part], IN(lo, 0), m, y);)
        ;
        PUT(r->terms[0], gap);
    }
}

/* 1: sum e ((max - x - mean) / T)^2, the mean in b */
STAGE(variance) {
    const scalar *x = k->x, *e = k->e, *lo = k->lo;
    CLASSES;
    const double it[2] = {k->inverse_temperature, k->inverse_temperature_lo};
    EACH_GROUP {
        const real m = ROW(max);
        const pair mean = ROW_SPLIT(b);
        SUM(square);
        EACH_CLASS(const real y = IN(x, -INFINITY); sum_add_square(&square[part], IN(e, 0), m, y, mean, it);
                   sum_add_square(&square[part], IN(lo, 0), m, y, mean, it);)
        ;
        PUT(r->terms[1], square);
    }
}

/* 0: sum e v, 1: sum v, over the classes that are not masked */
STAGE(along_v) {
    const scalar *v = k->v, *live = k->live, *e = k->e, *lo = k->lo;
    CLASSES;
    EACH_GROUP {
        SUM(ev); SUM(all);
        EACH_CLASS(const real d = IN(v, 0); const real hi = IN(e, 0); const real seen = where(eq(hi, K(0)), K(0), d);
                   sum_add_product(&ev[part], hi, seen); sum_add_product(&ev[part], IN(lo, 0), seen);
                   sum_add(&all[part], live ? r_silence(IN(live, 0), d) : d, K(0));)
        ;
        PUT(r->terms[0], ev);
        PUT(r->terms[1], all);
    }
}

/* how many logits are above the true class's, the largest of the others, and whether the row is
   undefined (1 or more: NaN counts 1, +inf a half); on the logits as given */
STAGE(ranking) {
    const scalar *x = k->x;
    CLASSES;
    EACH_GROUP {
        const real own = ROW(x_truth), label = ROW_CLASS(truth);
        SUM(above); SUM(undefined);
#if ALONG
        real most[SUMS];
        for (int i = 0; i < SUMS; i++) most[i] = K(-INFINITY);
#else
        real most[1] = {K(-INFINITY)};
#endif
        EACH_CLASS(const real y = IN(x, -INFINITY); sum_add(&above[part], where(lt(own, y), K(1), K(0)), K(0));
                   sum_add(&undefined[part], where(eq(y, y), where(eq(y, K(INFINITY)), K(0.5), K(0)), K(1)), K(0));
                   most[part] = r_max(where(eq(CLASS(), label), K(-INFINITY), y), most[part]);)
        ;
        PUT(r->above, above);
        PUT(r->undefined, undefined);
#if ALONG
        scalar lanes[16];
        for (int i = 0; i < SUMS; i++) r_store(lanes + i * LF_LANES, most[i]);
        for (int i = 0; i < 16; i++) r->runner_up[0] = lanes[i] > r->runner_up[0] ? lanes[i] : r->runner_up[0];
#else
        for (int p = 0; p < DPARTS; p++) d_store(r->runner_up + lane + p * DLANES, r_double(most[0], p));
#endif
    }
}

/* ---- entries: one number for every class, written to `out` ----
   What an entry is made of: p, and for the losses d = p - t without cancellation at the true class. */

/* post (a p) - cw (b t + c), c where not masked; at_mark at the marked class. `a` holds the inverse of the sum already. */
#define AFFINE_ENTRY()                                                                                                 \
    const real spread_c = live ? c * IN(live, 0) : c;                                                                  \
    const real part_c = t ? r_fma(b, IN(t, 0), spread_c) : spread_c;                                                                 \
    const real g = where(eq(CLASS(), mark), at_mark,                                                                 \
                         r_mul0(r_quotient(IN(e, 0), IN(lo, 0), a), post) - (cw ? IN(cw, 0) * part_c : part_c));
#define AFFINE_ROWS                                                                                                    \
    const pair a = ROW_SPLIT(a);                                                                                       \
    const real b = ROW(b), c = ROW(c), post = ROW(post), mark = ROW_CLASS(mark), at_mark = ROW(at_mark);

STAGE(affine) {
    const scalar *t = k->t, *cw = k->cw, *live = k->live, *e = k->e, *lo = k->lo;
    scalar *out = k->out;
    CLASSES;
    int bare = t == NULL; /* and every entry a number, none of them -0 */
    for (int i = 0; i < r->rows; i++) bare &= r->c[i] == 0 && r->a[i] >= 0 && r->post[i] >= 0 && r->post[i] <= 0x1p100 && r->a[i] < INFINITY;
    EACH_GROUP {
        AFFINE_ROWS
        if (bare) {
            (void)b, (void)c;
            EACH_CLASS((void)part; OUT(out, where(eq(CLASS(), mark), at_mark, r_quotient(IN(e, 0), IN(lo, 0), a) * post)););
        } else {
            EACH_CLASS((void)part; AFFINE_ENTRY() ENTRY(out, g););
        }
    }
}

/* at_mark at the marked class, c elsewhere */
STAGE(indicator) {
    scalar *out = k->out;
    CLASSES;
    EACH_GROUP {
        const real mark = ROW_CLASS(mark), at_mark = ROW(at_mark), c = ROW(c);
        EACH_CLASS((void)part; ENTRY(out, where(eq(CLASS(), mark), at_mark, c)););
    }
}

/* 1 - p, from the sum of the others where p is large: for the largest class, and the true one */
#define COMPLEMENT(p) where(eq(CLASS(), pivot), pivot_rest, where(eq(CLASS(), argmax), rest, K(1) - (p)))

/* a p (1-p) + b p^2, `a` holding the inverse of the sum already: p alone may be subnormal */
STAGE(curvature) {
    const scalar *e = k->e, *lo = k->lo;
    scalar *out = k->out;
    CLASSES;
    EACH_GROUP {
        const pair inverse = ROW_SPLIT(inverse), a = ROW_SPLIT(a);
        const real post = ROW(post), b = ROW(b), pivot = ROW_CLASS(pivot), argmax = ROW_CLASS(argmax), rest = ROW(rest),
                   pivot_rest = ROW(pivot_rest);
        /* a p (1-p) is a p - (a p) p, rounded once, while nothing cancels */
        EACH_CLASS((void)part; const real p = PROBABILITY(); const real ap = r_mul0(r_quotient(IN(e, 0), IN(lo, 0), a), post);
                   const real apq = where(lt(p, K(0.5)), r_fma(-ap, p, ap), r_mul0(COMPLEMENT(p), ap));
                   ENTRY(out, r_fma(p, r_mul0(p, b), apq)););
    }
}

/* a p (v - b) + c p, `a` holding the inverse of the sum already */
STAGE(product) {
    const scalar *v = k->v, *e = k->e, *lo = k->lo;
    scalar *out = k->out;
    CLASSES;
    EACH_GROUP {
        const pair inverse = ROW_SPLIT(inverse), a = ROW_SPLIT(a), b = ROW_SPLIT(b);
        const real c = ROW(c), post = ROW(post);
        const mask number = both(eq(a.hi, a.hi), eq(post, post));
        EACH_CLASS((void)part; const real hi = IN(e, 0); const real low = IN(lo, 0);
                   const real ap = r_mul0(r_quotient(hi, low, a), post); const real d = (IN(v, 0) - b.hi) - b.lo;
                   const real p = r_quotient(hi, low, inverse);
                   ENTRY(out, where(both(both(eq(hi, K(0)), eq(p, p)), number), K(0), r_fma(ap, d, p * c))););
    }
}

/* v is 0 where masked */
STAGE(linear) {
    const scalar *v = k->v, *live = k->live, *e = k->e, *lo = k->lo;
    scalar *out = k->out;
    CLASSES;
    EACH_GROUP {
        const pair inverse = ROW_SPLIT(inverse);
        const real a = ROW(a), b = ROW(b), c = ROW(c);
        EACH_CLASS((void)part; const real d = live ? r_silence(IN(live, 0), IN(v, 0)) : IN(v, 0);
                   ENTRY(out, r_fma(b, PROBABILITY(), r_fma(a, d, c))););
    }
}

/* down (lse - x/T), as the sum of what lies above the maximum and what lies below it; `down` is a power of 2 */
#define GAP_ROWS                                                                                                       \
    const pair over = ROW_SPLIT(b);                                                                                    \
    const real down = ROW(c), m = ROW(max) * down;                                                                     \
    const pair top = {over.hi * down, over.lo * down};
#define GAP_ENTRY()                                                                                                    \
    const real y = IN(x, -INFINITY) * down;                                                                            \
    const real below = m - y;                                                                                          \
    const real back = below - m;                                                                                       \
    const real lost = (m - (below - back)) - (y + back);                                                               \
    const real q = below * it.hi;                                                                                      \
    const real tail = r_fma(lost, it.hi, r_fma(below, it.lo, r_product_error(below, it.hi, q)));                       \
    const real s = q + top.hi;                                                                                         \
    const real kept = s - q;                                                                                           \
    const real low = ((q - (s - kept)) + (top.hi - kept)) + (top.lo + tail);                                           \
    const real gap = where(lt(s, K(INFINITY)), s + low, s);

/* x/T - lse */
STAGE(log_shares) {
    const scalar *x = k->x;
    scalar *out = k->out;
    CLASSES;
    const pair it = K_split(k->inverse_temperature, k->inverse_temperature_lo);
    const int plain = k->inverse_temperature == 1 && k->inverse_temperature_lo == 0;
    EACH_GROUP {
        if (plain) {
            const pair lse = ROW_SPLIT(b);
            EACH_CLASS((void)part; ENTRY(out, log_share(IN(x, -INFINITY), lse)););
        } else {
            GAP_ROWS
            EACH_CLASS((void)part; GAP_ENTRY() ENTRY(out, K(0) - gap););
        }
    }
}

/* a (cw down (lse - x/T)): where the gap is beyond the range, its product may not be */
STAGE(weighted_gap) {
    const scalar *x = k->x, *cw = k->cw;
    scalar *out = k->out;
    CLASSES;
    const pair it = K_split(k->inverse_temperature, k->inverse_temperature_lo);
    EACH_GROUP {
        GAP_ROWS
        const pair a = ROW_SPLIT(a);
        EACH_CLASS((void)part; GAP_ENTRY() const real g = cw ? r_mul0(IN(cw, 0), gap) : gap;
                   ENTRY(out, where(lt(r_abs(g), K(INFINITY)), r_fma(a.hi, g, a.lo * g), r_mul0(a.hi, g))););
    }
}

/* g as in `affine`, D = d p + ridge, which is in terms 3; the sums of g/D, p ridge/D (without a ridge p/D), p^2/D. A class
   of which nothing is left of p and ridge does not move. */
#define NEWTON_PARTS()                                                                                                 \
    AFFINE_ENTRY()                                                                                                     \
    const real p = PROBABILITY();                                                                                      \
    const real diagonal = where(eq(r_fma(d, p, ridge), K(0)), K(INFINITY), r_fma(d, p, ridge));
STAGE(newton_sums) {
    const scalar *t = k->t, *cw = k->cw, *live = k->live, *e = k->e, *lo = k->lo;
    CLASSES;
    EACH_GROUP {
        AFFINE_ROWS
        const pair inverse = ROW_SPLIT(inverse);
        const real d = ROW(d), ridge = ROW(terms[3]);
        SUM(gd); SUM(pr); SUM(pp);
        EACH_CLASS(NEWTON_PARTS()
                   const real ratio = p / diagonal;
                   sum_add(&gd[part], where(LIVE(), g / diagonal, K(0)), K(0));
                   sum_add_product(&pr[part], ratio, where(eq(ridge, K(0)), K(1), ridge));
                   sum_add_product(&pp[part], ratio, p);)
        ;
        PUT(r->terms[0], gd);
        PUT(r->terms[1], pr);
        PUT(r->terms[2], pp);
    }
}

/* -(g + w p) / D, w in terms 0 */
STAGE(newton) {
    const scalar *t = k->t, *cw = k->cw, *live = k->live, *e = k->e, *lo = k->lo;
    scalar *out = k->out;
    CLASSES;
    EACH_GROUP {
        AFFINE_ROWS
        const pair inverse = ROW_SPLIT(inverse);
        const real d = ROW(d), ridge = ROW(terms[3]), w = ROW(terms[0]);
        EACH_CLASS((void)part; NEWTON_PARTS() ENTRY(out, K(0) - r_fma(w, p, g) / diagonal);); /* never -0 */
    }
}

/* Quadratic cost on softmax outputs: d = p - t and u = p + d. Its derivatives are made of deviations from the means of d and
   u under p. If one class has most of p, they are taken from that class's own d and u (in `d_lead`, `u_lead`), so that
   nothing cancels as its p goes to 1; the means then are of deviations too. Where all d are tiny they, u, and what is made
   of them, are a power of 2, `up`, times as large. */
#define QUADRATIC_PARTS()                                                                                              \
    const real p = PROBABILITY();                                                                                      \
    const mask lead = eq(CLASS(), leader);                                                                             \
    const real high = p * up;                                                                                          \
    const real d = where(lead, d_lead, where(eq(CLASS(), label), miss, t ? soft_miss(IN(e, 0), IN(lo, 0), inverse, IN(t, 0), up, high) : high)); \
    const real u = where(lead, u_lead, high + d);
#define QUADRATIC_ROWS                                                                                                 \
    const pair inverse = ROW_SPLIT(inverse);                                                                           \
    const real label = ROW_CLASS(label), up = ROW(up), miss = -ROW(pivot_rest) * up, leader = ROW_CLASS(leader), d_lead = ROW(d_lead),        \
               u_lead = ROW(u_lead);

STAGE(quadratic_sums) {
    const scalar *t = k->t, *e = k->e, *lo = k->lo;
    CLASSES;
    EACH_GROUP {
        QUADRATIC_ROWS
        SUM(pd); SUM(dd); SUM(pu);
        EACH_CLASS(QUADRATIC_PARTS()
                   const real seen = where(LIVE(), d, K(0));
                   sum_add_product(&pd[part], p, d - d_lead);
                   sum_add_product(&dd[part], seen, seen);
                   sum_add_product(&pu[part], p, u - u_lead);)
        ;
        PUT(r->terms[0], pd);
        PUT(r->terms[1], dd);
        PUT(r->terms[2], pu);
    }
}

/* 3: sum q (u - mean), q = p (v - pv), pv in d */
STAGE(quadratic_v_sums) {
    const scalar *t = k->t, *v = k->v, *e = k->e, *lo = k->lo;
    CLASSES;
    EACH_GROUP {
        QUADRATIC_ROWS
        const real pv = ROW(d), u_mean = ROW(terms[2]);
        SUM(qu);
        EACH_CLASS(QUADRATIC_PARTS()
                   sum_add_product(&qu[part], where(eq(p, K(0)), K(0), p * (IN(v, 0) - pv)), (u - u_lead) - u_mean);)
        ;
        PUT(r->terms[3], qu);
    }
}

STAGE(quadratic_grad) {
    const scalar *t = k->t, *e = k->e, *lo = k->lo;
    scalar *out = k->out;
    CLASSES;
    EACH_GROUP {
        QUADRATIC_ROWS
        const pair a = ROW_SPLIT(a);
        const real mean = ROW(b);
        EACH_CLASS((void)part; QUADRATIC_PARTS() (void)u;
                   const real y = p * ((d - d_lead) - mean); ENTRY(out, r_fma(a.hi, y, a.lo * y)););
    }
}

STAGE(quadratic_hess) {
    const scalar *t = k->t, *e = k->e, *lo = k->lo;
    scalar *out = k->out;
    CLASSES;
    EACH_GROUP {
        QUADRATIC_ROWS
        const pair a = ROW_SPLIT(a);
        const real mean = ROW(b), u_mean = ROW(c), pivot = ROW_CLASS(pivot), argmax = ROW_CLASS(argmax),
                   rest = ROW(rest), pivot_rest = ROW(pivot_rest);
        /* (1-p)(d - mean + p) - p (u - u_mean); small p have no use for 1-p */
        EACH_CLASS((void)part; QUADRATIC_PARTS() (void)d; const real left = COMPLEMENT(p);
                   const real near = (u - d_lead) - mean; const real far = (u - u_lead) - u_mean;
                   const real bracket = where(lt(p, K(0.5)), r_fma(-p, near + far, near), r_fma(left, near, -(p * far)));
                   const real y = p * bracket; ENTRY(out, r_fma(a.hi, y, a.lo * y)););
    }
}

STAGE(quadratic_hvp) {
    const scalar *t = k->t, *v = k->v, *e = k->e, *lo = k->lo;
    scalar *out = k->out;
    CLASSES;
    EACH_GROUP {
        QUADRATIC_ROWS
        const pair a = ROW_SPLIT(a);
        const real mean = ROW(b), qu = ROW(c), pv = ROW(d);
        EACH_CLASS((void)part; QUADRATIC_PARTS() (void)u;
                   const real q = where(eq(p, K(0)), K(0), p * (IN(v, 0) - pv));
                   const real y = r_fma(q, (d - d_lead) - mean, p * r_fma(q, up, -qu)); ENTRY(out, r_fma(a.hi, y, a.lo * y)););
    }
}

/* Two softmaxes: p of the logits, q of the others, y. Of each class t = log q - log p = ((y - max y) - (x - max x))/T + b, b
   the difference of what lies between the maxima and the normalisers. A class that cannot be in p has a p of 0, whatever
   its t; one that cannot be in q although it can in p has a t of -inf. `pivot` is the t of a class with most of p. */
#define RATIO_ROWS                                                                                                     \
    const pair inverse = ROW_SPLIT(inverse), between = ROW_SPLIT(b);                                                   \
    const real x_max = ROW(max), y_max = ROW(other_max);                                                               \
    const pair it = K_split(k->inverse_temperature, k->inverse_temperature_lo);
#define RATIO_ENTRY()                                                                                                  \
    const real zx = IN(x, -INFINITY);                                                                                  \
    const real zy = IN(y, -INFINITY);                                                                                  \
    const real p = PROBABILITY();                                                                                      \
    const pair t = log_ratio(zx, zy, x_max, y_max, between, it);                                                       \
    const mask impossible = both(eq(p, K(0)), eq(zx, K(-INFINITY)));
#define OTHER_ROWS                                                                                                     \
    const pair other_inverse = ROW_SPLIT(other_inverse);                                                               \
    const real other_shift = ROW(other_shift), other_exponent = ROW(other_exponent) - K(LIFT);
/* Where q is much more than p, or p is nothing, from q itself; else from p: a small difference keeps its digits. */
#define OTHER_ENTRY()                                                                                                  \
    RATIO_ENTRY()                                                                                                      \
    const pair ey = lifted_exponential(zy - other_shift, it, 1, other_exponent);                                       \
    const real q = r_quotient(ey.hi, ey.lo, other_inverse);                                                           \
    const mask far = either(eq(p, K(0)), lt(K(2), t.hi));                                                              \
    const growth g = growth_of(where(far, K(0), t.hi), where(far, K(0), t.lo));
#define DIFFERENCE() where(far, q - p, p * g.expm1.hi)

/* 0: sum q - p, which b makes 0 */
STAGE(divergence_balance) {
    const scalar *x = k->x, *y = k->y, *e = k->e, *lo = k->lo;
    CLASSES;
    EACH_GROUP {
        RATIO_ROWS
        OTHER_ROWS
        SUM(balance);
        EACH_CLASS(OTHER_ENTRY() (void)impossible; sum_add(&balance[part], DIFFERENCE(), K(0));)
        ;
        PUT(r->terms[0], balance);
    }
}

/* 0: sum p (e^t - 1 - t), every term of which is >= 0 */
STAGE(divergence_sum) {
    const scalar *x = k->x, *y = k->y, *e = k->e, *lo = k->lo;
    CLASSES;
    EACH_GROUP {
        RATIO_ROWS
        OTHER_ROWS
        SUM(all);
        EACH_CLASS(OTHER_ENTRY()
                   const real apart = where(both(not_(impossible), eq(zy, K(-INFINITY))), K(INFINITY),
                                            (q - p) - r_silence(p, t.hi));
                   const real near = p * g.phi;
                   const real low = r_fma(p, g.phi_lo, r_product_error(p, g.phi, near));
                   sum_add(&all[part], where(far, apart, near),
                           where(far, K(0), where(lt(near, K(INFINITY)), low, K(0))));)
        ;
        PUT(r->terms[0], all);
    }
}

/* y in two parts, times the probability (in some unit) that `a` makes of the exponentials */
#define SHARE(y) (post * share(IN(e, 0), IN(lo, 0), y, a))
/* t from its mean, `mean` above the pivot; where that is infinite, `wild` where t is, else -wild. */
#define DEVIATION_ROWS                                                                                                 \
    RATIO_ROWS                                                                                                         \
    const pair pivot = ROW_SPLIT(d_lead);                                                                              \
    const real mean = ROW(c), wild = ROW(d);                                                                           \
    const real nothing = where(eq(mean, mean), K(0), mean);
#define DEVIATION_ENTRY()                                                                                              \
    RATIO_ENTRY()                                                                                                      \
    const mask infinite = eq(mean, K(-INFINITY));                                                                      \
    const pair from_pivot = two_sum(t.hi, -pivot.hi), from_mean = two_sum(mean, -from_pivot.hi);                       \
    const real deviation_lo = where(infinite, K(0), from_mean.lo - (from_pivot.lo + (t.lo - pivot.lo)));               \
    const real deviation = where(infinite, where(eq(t.hi, K(-INFINITY)), wild, -wild), from_mean.hi + deviation_lo);

/* 0: sum p (t - pivot), -inf if a class of p cannot be in q; 1: how many classes can be in p */
STAGE(divergence_mean) {
    const scalar *x = k->x, *y = k->y, *e = k->e, *lo = k->lo;
    CLASSES;
    EACH_GROUP {
        RATIO_ROWS
        const pair pivot = ROW_SPLIT(d_lead);
        SUM(mean); SUM(possible);
        EACH_CLASS(RATIO_ENTRY()
                   const real d = where(eq(t.hi, K(-INFINITY)), K(-INFINITY), r_mul0(p, (t.hi - pivot.hi) + (t.lo - pivot.lo)));
                   sum_add(&mean[part], where(impossible, K(0), d), K(0));
                   sum_add(&possible[part], where(eq(zx, K(-INFINITY)), K(0), K(1)), K(0));)
        ;
        PUT(r->terms[0], mean);
        PUT(r->terms[1], possible);
    }
}

/* p deviation, in the unit that a is of */
STAGE(divergence_grad) {
    const scalar *x = k->x, *y = k->y, *e = k->e, *lo = k->lo;
    scalar *out = k->out;
    CLASSES;
    EACH_GROUP {
        DEVIATION_ROWS
        const pair a = ROW_SPLIT(a);
        const real post = ROW(post), unit = ROW(u_lead);
        EACH_CLASS((void)part; DEVIATION_ENTRY()
                   ENTRY(out, where(impossible, nothing, where(infinite, unit * deviation, SHARE(two_sum(from_mean.hi, deviation_lo))))););
    }
}

/* p ((1 - 2p) deviation + 1 - p), likewise */
STAGE(divergence_hess) {
    const scalar *x = k->x, *y = k->y, *e = k->e, *lo = k->lo;
    scalar *out = k->out;
    CLASSES;
    EACH_GROUP {
        DEVIATION_ROWS
        const pair a = ROW_SPLIT(a);
        const real post = ROW(post), pivot_class = ROW_CLASS(pivot), pivot_rest = ROW(pivot_rest);
        EACH_CLASS((void)part; DEVIATION_ENTRY()
                   const real left = where(eq(CLASS(), pivot_class), pivot_rest, K(1) - p);
                   const real bracket = r_fma(left - p, deviation, left);
                   ENTRY(out, where(impossible, nothing, SHARE(((pair){bracket, K(0)})))););
    }
}

/* 3: sum p deviation (v - pv), pv in at_mark */
STAGE(divergence_v_sum) {
    const scalar *x = k->x, *y = k->y, *v = k->v, *e = k->e, *lo = k->lo;
    CLASSES;
    EACH_GROUP {
        DEVIATION_ROWS
        const real pv = ROW(at_mark);
        SUM(dv);
        EACH_CLASS(DEVIATION_ENTRY() (void)infinite;
                   sum_add_product(&dv[part], where(impossible, nothing, p * deviation),
                                   where(impossible, K(0), IN(v, 0) - pv));)
        ;
        PUT(r->terms[3], dv);
    }
}

/* p ((1 + deviation) (v - pv) - the sum above), likewise */
STAGE(divergence_hvp) {
    const scalar *x = k->x, *y = k->y, *v = k->v, *e = k->e, *lo = k->lo;
    scalar *out = k->out;
    CLASSES;
    EACH_GROUP {
        DEVIATION_ROWS
        const pair a = ROW_SPLIT(a);
        const real post = ROW(post), pv = ROW(at_mark), dv = ROW(terms[3]);
        EACH_CLASS((void)part; DEVIATION_ENTRY() (void)p; (void)infinite;
                   const real from = IN(v, 0) - pv;
                   const real bracket = r_fma(deviation, from, from) - dv;
                   ENTRY(out, where(impossible, nothing, SHARE(((pair){bracket, K(0)})))););
    }
}

/* q - p, in the unit that a is of */
STAGE(difference) {
    const scalar *x = k->x, *y = k->y, *e = k->e, *lo = k->lo;
    scalar *out = k->out;
    CLASSES;
    EACH_GROUP {
        RATIO_ROWS
        OTHER_ROWS
        const pair a = ROW_SPLIT(a);
        const real post = ROW(post), unit = ROW(u_lead);
        EACH_CLASS((void)part; OTHER_ENTRY() (void)impossible; ENTRY(out, where(far, unit * (q - p), SHARE(g.expm1))););
    }
}

/* 0: sum p deviation (max x - x) + (q - p) (max y - y) */
STAGE(divergence_temperature) {
    const scalar *x = k->x, *y = k->y, *e = k->e, *lo = k->lo;
    CLASSES;
    EACH_GROUP {
        DEVIATION_ROWS
        OTHER_ROWS
        SUM(slope);
        EACH_CLASS(const mask infinite = eq(mean, K(-INFINITY));
                   OTHER_ENTRY() const real deviation = where(infinite, wild, mean - ((t.hi - pivot.hi) + (t.lo - pivot.lo)));
                   sum_add_gap(&slope[part], where(impossible, nothing, p * deviation), x_max, zx);
                   sum_add_gap(&slope[part], DIFFERENCE(), y_max, zy);)
        ;
        PUT(r->terms[0], slope);
    }
}

/* ---- the losses that are sums over the classes of what each entry adds (entrywise.h) ---- */

#if LF_DTYPE == 64
/* Bodies are long: a row's are walked in a loop that has each but once. */
#if ALONG
#define EACH_ENTRY(...)                                                                  \
    for (ptrdiff_t at = 0; at < n; at += LF_LANES) {                                     \
        const int part = (int)(at / LF_LANES % SUMS), whole = at + LF_LANES <= n;        \
        __VA_ARGS__                                                                      \
    }
#else
#define EACH_ENTRY EACH_CLASS
#endif
#define ENTRY_ROWS                                                                                                     \
    const scalar *x = k->x, *t = k->t, *cw = k->cw, *live = k->live, *v = k->v;                                        \
    scalar *out = k->out;                                                                                              \
    CLASSES;                                                                                                           \
    (void)cw, (void)v, (void)out;
/* `one` is the entry, `gone` says that it is none */
#define ENTRY_OF(name)                                                                                                 \
    const entry one = name##_entry(IN(x, 0), t ? IN(t, 0) : where(eq(CLASS(), label), K(1), K(0)), k->params);         \
    const mask gone = live && !(name##_does & ENTRY_HEARS_MASKED) ? eq(IN(live, 0), K(0)) : not_(LIVE());              \
    (void)part;
#define ENTRY_UNIT() (cw ? times_weight(a, IN(cw, 0)) : a)
#define ENTRY_OUT(y) ENTRY(out, where(gone, K(0), (y)))
#define ENTRY_SUM(name, y)                                                                                             \
    EACH_GROUP {                                                                                                       \
        const real label = ROW_CLASS(label);                                                                           \
        SUM(all); SUM(small);                                                                                          \
        EACH_ENTRY(ENTRY_OF(name) const pair part_of = (y); const real hi = where(gone, K(0), part_of.hi);             \
                   sum_add(&all[part], hi, where(gone, K(0), part_of.lo));                                             \
                   if (name##_does & ENTRY_MEAN) sum_add(&small[part], hi * K(LOWERED), K(0));)                        \
        PUT_SUM(r->terms[0], r->terms[1], all);                                                                        \
        PUT_SUM(r->terms[2], r->terms[3], small); /* where the mean can be held, and the sum cannot */                 \
    }
#define ENTRY_EACH(name, y)                                                                                            \
    EACH_GROUP {                                                                                                       \
        const real label = ROW_CLASS(label);                                                                           \
        const pair a = ROW_SPLIT(a);                                                                                   \
        EACH_ENTRY(ENTRY_OF(name) ENTRY_OUT(y);)                                                                       \
    }
#define ENTRYWISE(name)                                                                                                \
    STAGE(name##_sum) { ENTRY_ROWS ENTRY_SUM(name, cw ? entry_weighed(one.v, IN(cw, 0)) : one.v) }                     \
    STAGE(name##_along) { ENTRY_ROWS ENTRY_SUM(name, entry_weighed(one.g.y, IN(v, 0))) }                               \
    STAGE(name##_grad) { ENTRY_ROWS ENTRY_EACH(name, entry_scaled(ENTRY_UNIT(), one.g)) }                              \
    STAGE(name##_hess) { ENTRY_ROWS ENTRY_EACH(name, entry_scaled(ENTRY_UNIT(), one.h)) }                              \
    STAGE(name##_hvp) { ENTRY_ROWS ENTRY_EACH(name, r_mul0(IN(v, 0), entry_scaled(ENTRY_UNIT(), one.h))) }             \
    STAGE(name##_target) { ENTRY_ROWS ENTRY_EACH(name, entry_scaled(ENTRY_UNIT(), one.u)) }
LF_ENTRYWISE(ENTRYWISE)
#undef EACH_ENTRY
#undef ENTRY_ROWS
#undef ENTRY_OF
#undef ENTRY_UNIT
#undef ENTRY_OUT
#undef ENTRY_SUM
#undef ENTRY_EACH
#undef ENTRYWISE
#endif

/* Losses with a profile (profiles.h), where the targets are soft: that of every class. */
#define PROFILE_ROWS                                                                                                   \
    const pair inverse = ROW_SPLIT(inverse), left = ROW_SPLIT(left), top = ROW_SPLIT(fine_top);                        \
    const pair it = K_split(k->inverse_temperature, k->inverse_temperature_lo);                                        \
    const real m = ROW(max), argmax = ROW_CLASS(argmax);
#define PROFILE_ENTRY()                                                                                                \
    const real logit = IN(x, -INFINITY);                                                                               \
    const pair below = two_sum(m, -logit);                                                                             \
    const real gap = below.hi * it.hi;                                                                                 \
    const pair a = plus(((pair){gap, r_fma(below.lo, it.hi, r_fma(below.hi, it.lo, r_product_error(below.hi, it.hi, gap)))}), top); \
    const pair p_up = times(((pair){IN(e, 0), IN(lo, 0)}), lifted(inverse, UP));                                       \
    const pair rest = plus(exactly(K(1)), lifted(p_up, -1 / UP));                                                      \
    const mask lead = eq(CLASS(), argmax);                                                                             \
    const pair u = {where(lead, left.hi * K(1 / UP), rest.hi), where(lead, left.lo * K(1 / UP), rest.lo)};             \
    const pair w = cw ? times(exactly(IN(cw, 0)), exactly(IN(t, 0))) : exactly(IN(t, 0));                              \
    profile f;                                                                                                         \
    profile_of(k->profile, &a, &p_up, &u, k->params, &f);

/* 0 and 1: c sum w F in two parts, c a power of 2; where F is beyond the range, by way of a part of it */
STAGE(profile_sum) {
    const scalar *x = k->x, *t = k->t, *cw = k->cw, *e = k->e, *lo = k->lo;
    CLASSES;
    EACH_GROUP {
        PROFILE_ROWS
        const real down = ROW(c);
        SUM(all);
        EACH_CLASS(PROFILE_ENTRY()
                   pair v = {f.value.hi * down, f.value.lo * down};
                   const mask beyond_ = both(eq(v.hi, K(INFINITY)), lt(K(-INFINITY), logit));
                   if (any(beyond_)) {
                       const pair part_of_a = exactly((m * down - logit * down) * it.hi);
                       profile_of(k->profile, &part_of_a, &p_up, &u, k->params, &f);
                       v = (pair){where(beyond_, f.value.hi, v.hi), where(beyond_, f.value.lo, v.lo)};
                   }
                   const pair y = times(w, v);
                   sum_add(&all[part], y.hi, y.lo);)
        ;
        PUT_SUM(r->terms[0], r->terms[1], all);
    }
}

/* 0 and 1: sum w F' in two parts; UP w F'', summed over all classes but the largest, in 2; the largest's w u F'' in 3 */
STAGE(profile_slopes) {
    const scalar *x = k->x, *t = k->t, *cw = k->cw, *e = k->e, *lo = k->lo;
    CLASSES;
    EACH_GROUP {
        PROFILE_ROWS
        SUM(slopes); SUM(bends); SUM(own);
        EACH_CLASS(PROFILE_ENTRY()
                   const pair y = times(w, f.slope);
                   const real bend = rounded(times(y, f.bend));
                   sum_add(&slopes[part], y.hi, y.lo);
                   sum_add(&bends[part], where(lead, K(0), bend / u.hi), K(0));
                   sum_add(&own[part], where(lead, bend * K(1 / UP), K(0)), K(0));)
        ;
        PUT_SUM(r->terms[0], r->terms[1], slopes);
        PUT(r->terms[2], bends);
        PUT(r->terms[3], own);
    }
}

/* a p, less (b + b_lo) w F' in rows of soft targets; `a` holds the inverse of the sum already */
STAGE(profile_grad) {
    const scalar *x = k->x, *t = k->t, *cw = k->cw, *e = k->e, *lo = k->lo;
    scalar *out = k->out;
    CLASSES;
    EACH_GROUP {
        PROFILE_ROWS
        const pair scale = ROW_SPLIT(a), unit = ROW_SPLIT(b);
        const real post = ROW(post), mark = ROW_CLASS(mark), at_mark = ROW(at_mark);
        const mask soft = lt(ROW(label), K(0));
        if (t) {
            EACH_CLASS((void)part; PROFILE_ENTRY() const real ap = r_mul0(r_quotient(IN(e, 0), IN(lo, 0), scale), post);
                       const real less = rounded(times(unit, times(w, f.slope)));
                       ENTRY(out, where(eq(CLASS(), mark), at_mark, where(soft, ap - less, ap))););
        } else {
            EACH_CLASS((void)part; const real ap = r_mul0(r_quotient(IN(e, 0), IN(lo, 0), scale), post);
                       ENTRY(out, where(eq(CLASS(), mark), at_mark, ap)););
        }
        (void)unit, (void)soft, (void)it, (void)left, (void)top, (void)m, (void)argmax, (void)inverse, (void)x, (void)cw;
    }
}

/* a p (1 - p + d_lead e/others) and, in rows of soft targets, what they have besides: of classes but the largest
   b ((sum - w F'') p^2 + w F'' (1-p)^2 + p own p/left), of the largest b (sum p^2 + own left) */
STAGE(profile_hess) {
    const scalar *x = k->x, *t = k->t, *cw = k->cw, *e = k->e, *lo = k->lo;
    scalar *out = k->out;
    CLASSES;
    EACH_GROUP {
        PROFILE_ROWS
        const pair scale = ROW_SPLIT(a), unit = ROW_SPLIT(b), bend = ROW_SPLIT(d_lead), inverse_others = ROW_SPLIT(other_inverse);
        const real post = ROW(post), mark = ROW_CLASS(mark), at_mark = ROW(at_mark);
        const real pivot = ROW_CLASS(pivot), pivot_rest = ROW(pivot_rest), all = ROW(terms[2]), own = ROW(terms[3]);
        const real one_less = ROW(rest);
        const mask soft = lt(ROW(label), K(0));
#define HARD_ENTRY()                                                                                                   \
    const real hi = IN(e, 0);                                                                                          \
    const real low = IN(lo, 0);                                                                                        \
    const real ap = r_mul0(r_quotient(hi, low, scale), post);                                                          \
    const real share = r_quotient(hi, low, inverse);                                                                   \
    const real q = where(eq(CLASS(), pivot), pivot_rest, where(eq(CLASS(), argmax), one_less, K(1) - share));          \
    const real part_ = hi * inverse_others.hi;                                                                         \
    const real part_lo = r_product_error(hi, inverse_others.hi, part_) + r_fma(hi, inverse_others.lo, low * inverse_others.hi); \
    const real hard = ap * r_fma(part_, bend.hi, r_fma(part_, bend.lo, r_fma(part_lo, bend.hi, q)));
        if (t) {
            EACH_CLASS((void)part; PROFILE_ENTRY() HARD_ENTRY()
                       const pair own_bend = times(times(w, f.slope), f.bend);
                       const real here = where(lead, K(0), rounded(own_bend) / u.hi);
                       const real shared = p_up.hi * where(eq(left.hi, K(0)), K(0), p_up.hi / left.hi);
                       const real more = where(lead, rounded(times(own_bend, u)), r_fma(here * q, q, shared * own));
                       const real besides = r_fma(share * share, all - here, more);
                       const real soft_ = hard + r_fma(besides, unit.hi, besides * unit.lo) * K(1 / UP);
                       ENTRY(out, where(eq(CLASS(), mark), at_mark, where(soft, soft_, hard))););
        } else {
            EACH_CLASS((void)part; HARD_ENTRY() ENTRY(out, where(eq(CLASS(), mark), at_mark, hard)););
        }
        (void)unit, (void)soft, (void)it, (void)left, (void)top, (void)m, (void)all, (void)own, (void)x, (void)cw;
#undef HARD_ENTRY
    }
}

/* Margins between the true class and the others (nothing of the softmax state is used). h = margin - x_true + x, in two parts,
   all of it `down` times as large, a power of 2; 0 where there is no violation, and for a class that cannot be. */
#define VIOLATION_ROWS                                                                                                 \
    const real down = ROW(up), own_logit = ROW(x_pivot) * down, margin = K(k->params[1]) * down;                       \
    const real label = ROW_CLASS(label);                                                                               \
    const int squared = k->params[2] == 1;
#define VIOLATION(logit)                                                                                               \
    const pair from_own = two_sum((logit) * down, -own_logit), above_0 = two_sum(from_own.hi, margin);                 \
    const pair renewed = two_sum(above_0.hi, above_0.lo + from_own.lo);                                                \
    const mask inside = either(eq(logit, K(-INFINITY)), either(le(renewed.hi, K(0)), eq(CLASS(), label)));             \
    const pair h = {where(inside, K(0), renewed.hi), where(inside, K(0), renewed.lo)};

/* the largest logit but the true class's to runner_up, and its first class to argmax; whether one is NaN to undefined */
STAGE(rival) {
    const scalar *x = k->x;
    CLASSES;
    EACH_GROUP {
        const real label = ROW_CLASS(label);
        real most[SUMS], which[SUMS], odd[SUMS];
        for (int i = 0; i < SUMS; i++) most[i] = K(-INFINITY), which[i] = K(-1), odd[i] = K(0);
        EACH_CLASS(const real y = where(eq(CLASS(), label), K(-INFINITY), IN(x, -INFINITY));
                   which[part] = where(lt(most[part], y), CLASS(), which[part]);
                   odd[part] = where(eq(y, y), odd[part], K(1));
                   most[part] = r_max(y, most[part]););
#if ALONG
        scalar lanes[16], classes[16], odds[16];
        for (int i = 0; i < SUMS; i++) {
            r_store(lanes + i * LF_LANES, most[i]);
            r_store(classes + i * LF_LANES, which[i]);
            r_store(odds + i * LF_LANES, odd[i]);
        }
        for (int i = 0; i < 16; i++) {
            const double class_ = (double)classes[i] + (double)k->first;
            if (odds[i] != 0) r->undefined[0] = 1;
            if (lanes[i] > r->runner_up[0] || (lanes[i] == r->runner_up[0] && classes[i] >= 0 && class_ < r->argmax[0])) {
                r->runner_up[0] = lanes[i];
                r->argmax[0] = class_;
            }
        }
#else
        put_doubles(r->runner_up + lane, most[0]);
        put_doubles(r->argmax + lane, which[0]);
        put_doubles(r->undefined + lane, odd[0]);
#endif
    }
}

/* 0 and 1: sum h^p in two parts; 2 and 3: that of its derivative, or, for c = 2, of its second derivative; without the powers
   of `down` */
STAGE(violations) {
    const scalar *x = k->x;
    CLASSES;
    if (k->params[0] == 0) return;
    EACH_GROUP {
        VIOLATION_ROWS
        const mask second = eq(ROW(c), K(2));
        SUM(value); SUM(slope);
        EACH_CLASS(const real y = IN(x, -INFINITY); VIOLATION(y)
                   const real hit = where(eq(h.hi, K(0)), K(0), where(eq(h.hi, h.hi), K(1), h.hi));
                   const pair square = times(h, h);
                   const real twice = where(second, hit + hit, h.hi + h.hi);
                   sum_add(&value[part], squared ? square.hi : h.hi, squared ? square.lo : h.lo);
                   sum_add(&slope[part], squared ? twice : where(second, K(0), hit), squared ? where(second, K(0), h.lo + h.lo) : K(0));)
        ;
        PUT_SUM(r->terms[0], r->terms[1], value);
        PUT_SUM(r->terms[2], r->terms[3], slope);
    }
}

/* b times the derivative, or, for c = 2, the second derivative, of h^p: of every class, or (d = 1) of the one at argmax alone */
#define VIOLATION_ENTRIES(SECOND)                                                                                      \
    EACH_GROUP {                                                                                                       \
        VIOLATION_ROWS                                                                                                 \
        const real unit = ROW(b), unit_lo = ROW(b_lo), post = ROW(post), at_label = ROW(at_mark);                      \
        const real rival = ROW_CLASS(argmax);                                                                          \
        const int alone = k->params[0] == 0;                                                                           \
        EACH_CLASS((void)part; const real y = IN(x, -INFINITY); VIOLATION(y)                                           \
                   const mask none = either(eq(h.hi, K(0)), alone ? not_(eq(CLASS(), rival)) : lt(K(0), K(0)));        \
                   const real hit = where(eq(h.hi, h.hi), K(1), h.hi);                                                 \
                   const real g = squared ? K(2) * (SECOND ? hit : h.hi) : SECOND ? hit - hit : hit;                   \
                   const real low = squared && !SECOND ? K(2) * h.lo : K(0);                                           \
                   const real entry = where(lt(r_abs(g), K(INFINITY)), r_fma(g, unit, r_fma(g, unit_lo, low * unit)), r_mul0(unit, g)) * post; \
                   ENTRY(out, where(eq(CLASS(), label), at_label, where(none, unit * K(0), entry))););                 \
    }
STAGE(violation_grad) {
    const scalar *x = k->x;
    scalar *out = k->out;
    CLASSES;
    VIOLATION_ENTRIES(0)
}
STAGE(violation_hess) {
    const scalar *x = k->x;
    scalar *out = k->out;
    CLASSES;
    VIOLATION_ENTRIES(1)
}

#undef STAGE
#undef SUMS
#undef EACH_GROUP
#undef ROW
#undef ROW_SPLIT
#undef ROW_CLASS
#undef CLASS
#undef LIVE
#undef IN
#undef OUT
#undef ENTRY
#undef EACH_CLASS
#undef PUT_SUM
#undef CLASSES
#undef SUM
#undef PUT
#undef PROBABILITY
#undef EXPONENTIALS
#undef AFFINE_ENTRY
#undef AFFINE_ROWS
#undef COMPLEMENT
#undef NEWTON_PARTS
#undef GAP_ROWS
#undef GAP_ENTRY
#undef QUADRATIC_PARTS
#undef QUADRATIC_ROWS
#undef RATIO_ROWS
#undef RATIO_ENTRY
#undef OTHER_ROWS
#undef OTHER_ENTRY
#undef DIFFERENCE
#undef SHARE
#undef DEVIATION_ROWS
#undef DEVIATION_ENTRY
#undef PROFILE_ROWS
#undef PROFILE_ENTRY
#undef VIOLATION_ROWS
#undef VIOLATION
#undef VIOLATION_ENTRIES
