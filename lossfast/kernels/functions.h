/* Elementary functions of the vocabulary: exponentials and logarithms, with their intervals, measured errors and worst
   inputs (`tests/test_vocabulary.py` measures them again). Polynomials are our own, made by coefficients.py.

   Division is the processor's, rounded once; where many numbers are divided by one, its inverse in two parts serves. */
#ifndef LF_FUNCTIONS_H
#define LF_FUNCTIONS_H

#include "coefficients.h"

/* 1 / (hi + lo), |lo| below a unit in the last place of hi, in two parts: within 2^-46 (float64: 2^-104) of it. */
INLINE pair r_inverse(real hi, real lo) {
    const real y = K(1) / hi;
    return (pair){y, (-r_product_error(y, hi, K(1)) - y * lo) * y};
}

/* (e + lo) times an inverse in two parts, rounded about once; never above 1 where it is a share of a sum */
INLINE real r_quotient(real e, real lo, pair inverse) {
#ifndef LF_NO_FMA
    return r_fma(e, inverse.hi, r_fma(e, inverse.lo, lo * inverse.hi));
#elif LF_DTYPE == 32
    dreal y[DPARTS];
    UNROLL for (int part = 0; part < DPARTS; part++)
        y[part] = (r_double(e, part) + r_double(lo, part)) * (r_double(inverse.hi, part) + r_double(inverse.lo, part));
    return r_from_doubles(y);
#else
    const real y = e * inverse.hi;
    return y + (r_product_error(e, inverse.hi, y) + (e * inverse.lo + lo * inverse.hi));
#endif
}

/* What dividing by one y > 0 takes: its inverse where that is exact, y being a power of 2; else a power of 2 that brings y
   near 1, and the inverse of that in two parts. */
typedef struct { int exact; real level; pair inverse; } divisor;
INLINE divisor r_divisor(real y) {
    const real level = r_leveller(y), near = y * level;
    const pair inverse = r_inverse(near, K(0)); /* of an infinite y the second part is NaN */
    const real lo = where(lt(near, K(INFINITY)), inverse.lo, K(0));
    return (divisor){!any(not_(eq(near, K(1)))), level, {inverse.hi, lo}};
}
/* x / y, |x| <= y */
INLINE real r_ratio(real x, divisor by) {
    return by.exact ? x * by.level : r_quotient(x * by.level, K(0), by.inverse);
}

/* e^t, t = k ln 2 + r: `w` = e^r - 1 and k. For |t| up to 577 ln 2 (float64: 4112 ln 2) k * head is exact, and so is
   t minus it. `tail` is added to r: what t itself lost to rounding. Measured error of 1 + w, relative to e^r, on
   [-400, 177] (float64: [-700, 700]): 2^-24.52 at -59.92188, float64 2^-53.59 at 315.738; without fma 2^-24.42 at
   113.356, 2^-53.52 at -34.3107. */
typedef struct { real w, k; } exponential;
/* e^r - 1, |r| <= ln(2)/2 */
INLINE real r_expm1_reduced(real r) {
    static const scalar c[] = LF_EXPM1;
    return r_fma(r * r, r_horner(r, c, LF_EXPM1_TERMS), r);
}
/* t less k ln 2 */
INLINE real r_less_ln2(real t, real k) { return r_fma(k, K(-LF_LN2_TAIL), r_fma(k, K(-LF_LN2_HEAD), t)); }
/* t / ln 2 + MAGIC: its nearest integer k stands in the low bits, and gives 2^k at once */
INLINE real r_over_ln2(real t) { return r_fma(t, K(LF_LOG2E), K(MAGIC)); }
INLINE exponential r_exp_parts(real t, real tail) {
    const real k = r_over_ln2(t) - K(MAGIC);
    return (exponential){r_expm1_reduced(r_less_ln2(t, k) + tail), k};
}

/* e^t in two parts, bit for bit what r_exp_parts makes of it, where it and its second part are normal: |t| up to 60
   (float64: 600). */
INLINE pair r_exp_pair(real t) {
    const real rounded = r_over_ln2(t), w = r_expm1_reduced(r_less_ln2(t, rounded - K(MAGIC)));
    const real s = r_pow2_of(rounded, 0), e = r_fma(w, s, s);
    return (pair){e, r_fma(w, s, s - e)};
}

/* r_exp_parts of a t in two parts, the first brought between low and high; a second part that is NaN, or of what was not between
   them, counts for nothing */
INLINE exponential r_exp_parts_of(pair t, real low, real high) {
    const mask fair = both(lt(r_abs(t.lo), K(1)), both(le(low, t.hi), le(t.hi, high)));
    return r_exp_parts(r_min(high, r_max(low, t.hi)), where(fair, t.lo, K(0)));
}

/* e^t for any t: subnormals kept, 0 far below, infinity far above. 1.02 ULP, at -5.8571; float64 0.98, at -4.4629. */
INLINE real r_exp_pair_of(pair t) {
    const exponential x = r_exp_parts_of(t, K(LF_DTYPE == 32 ? -104.0 : -746.0), K(LF_DTYPE == 32 ? 89.0 : 710.0));
    const real half = r_round(K(0.5) * x.k), s = r_pow2(half);
    return r_fma(x.w, s, s) * r_pow2(x.k - half);
}
INLINE pair r_exp_in_parts(pair t) {
    const exponential x = r_exp_parts_of(t, K(LF_DTYPE == 32 ? -104.0 : -746.0), K(LF_DTYPE == 32 ? 89.0 : 710.0));
    const real half = r_round(K(0.5) * x.k), s = r_pow2(half), rest = r_pow2(x.k - half), e = r_fma(x.w, s, s);
    return (pair){e * rest, r_fma(x.w, s, s - e) * rest};
}
INLINE real r_exp(real t) { return r_exp_pair_of(exactly(t)); }

/* e^t - 1 with full relative accuracy, for any t: 1.47 ULP, at 0.38437; float64 1.83, at 0.36937 (without fma 1.59, 1.96). */
INLINE real r_expm1_pair_of(pair t) {
    const exponential x = r_exp_parts_of(t, K(-60), K(LF_DTYPE == 32 ? 89.0 : 710.0));
    const real s = r_pow2(x.k - K(1)); /* half of 2^k, which itself may be beyond the range */
    const real y = K(2) * r_fma(x.w, s, s - K(0.5));
    return where(eq(x.k, K(0)), x.w, y);
}
INLINE real r_expm1(real t) { return r_expm1_pair_of(exactly(t)); }

/* e^t - 1 - t >= 0 with full relative accuracy, for any t: t^2 P(t) for |t| <= 1, whose P(0) is 1/2 exactly, and beyond from
   e^t in two parts. 1.95 ULP, at 16.983; float64 1.78, at -0.79833 (without fma 2.00, 2.07). */
INLINE real r_phi(real t) {
    static const scalar c[] = LF_PHI;
    const real low = K(-60), high = K(LF_DTYPE == 32 ? 89.0 : 710.0);
    const exponential x = r_exp_parts(r_min(high, r_max(low, t)), K(0));
    const real s = r_pow2(x.k - K(1)), e = r_fma(x.w, s, s), lo = r_fma(x.w, s, s - e);
    const real above = where(lt(high, t), K(INFINITY), K(2) * (((e - K(0.5)) - K(0.5) * t) + lo));
    const real far = where(lt(t, low), K(-1) - t, above);
    const real square = t * t, near = r_fma(square * t, r_horner(t, c + 1, LF_PHI_TERMS - 1), K(0.5) * square);
    return where(le(r_abs(t), K(1)), near, far);
}

/* e^-a in two parts, for a >= 0 (lo is not normalised where e^-a is subnormal), and 1 - e^-a with full relative accuracy.
   The first part alone is within 1.02 ULP, at a = 5.8571; float64 0.98, at 4.4611; the rest of 1 within 0.95, at 0.38277;
   float64 1.13, at 0.35364. It is r_exp_parts, whose k + MAGIC gives the power of 2 at once. Below MODERATE the simpler way
   of `moderate` gives the same bits. */
typedef struct { real hi, lo, left; } decay;
#define MODERATE (LF_DTYPE == 32 ? 60.0 : 600.0)
INLINE decay r_exp_negative(real a, const int moderate) {
    enum { LIFT = LF_DTYPE == 32 ? 64 : 128 };
    const real t = moderate ? -a : r_max(K(LF_DTYPE == 32 ? -104.0 : -746.0), -a);
    const real rounded = r_over_ln2(t), k = rounded - K(MAGIC), w = r_expm1_reduced(r_less_ln2(t, k));
    const real near = K(1) + w, lost = w - (near - K(1)); /* exact */
    const real s = r_pow2_of(rounded, moderate ? 0 : LIFT), unlift = K(LF_DTYPE == 32 ? 0x1p-64 : 0x1p-128);
    const real hi = moderate ? r_from_bits(r_bits(near) + (r_bits(rounded) << MANTISSA_BITS)) : near * s * unlift;
    const real lo = moderate ? lost * s : lost * s * unlift;
    return (decay){hi, lo, where(eq(k, K(0)), -w, (K(1) - hi) - lo)};
}

/* A normal h > 0 as 2^k (1 + f), 1/sqrt(2) < 1 + f <= sqrt(2) */
typedef struct { real f, k; } reduced;
INLINE reduced r_reduced(real h) {
    const ireal bits = r_bits(h);
    const ireal exponent = (bits - r_bits(K(0.70710678118654752))) >> MANTISSA_BITS;
    const real f = r_from_bits(bits - (exponent << MANTISSA_BITS)) - K(1);
#if LF_LANES == 1
    return (reduced){f, (real)exponent};
#else
    return (reduced){f, r_from_bits(exponent + r_bits(K(MAGIC))) - K(MAGIC)};
#endif
}

/* log((h + rest) * 2^n) + add for normal h > 0, |rest| below a unit in the last place of h, n integral.
   h = 2^k (1 + f); log(1 + f) = f - (f^2/2 - s (f^2/2 + s^2 P(s^2))), s = f / (2 + f);
   (k + n) ln 2 and `add` are summed first, without error. In two parts, the second of which has few digits; `fine`: for k = 0
   it has what rounding took from f too. */
INLINE pair r_log_sum(real h, real rest, real n, real add, const int fine) {
    static const scalar c[] = LF_ATANH;
    const reduced x = r_reduced(h);
    const real f = x.f, k = x.k + n;
    const real s = f / (K(2) + f), z = s * s, half = K(0.5) * f * f;
    const real low = r_fma(s, half + z * r_horner(z, c, LF_ATANH_TERMS), r_fma(k, K(LF_LN2_TAIL), rest / h));
    const real head = k * K(LF_LN2_HEAD), whole = head + add, back = whole - head;
    const real lost = where(lt(r_abs(whole), K(INFINITY)), (head - (whole - back)) + (add - back), K(0));
    const real below = half - (low + lost), rest_ = f - below, y = whole + rest_, kept = rest_ - (y - whole);
    return (pair){y, where(lt(r_abs(y), K(INFINITY)), fine ? kept + ((f - rest_) - below) : kept, K(0))};
}
INLINE pair r_log_parts(real h, real rest, real n, real add) { return r_log_sum(h, rest, n, add, 0); }

/* 1 + x, for x >= 0 */
INLINE pair one_plus(pair x) {
    const real y = K(1) + x.hi;
    return (pair){y, where(lt(x.hi, K(1)), x.hi - (y - K(1)), K(1) - (y - x.hi)) + x.lo};
}

/* log(1 + x + lo) for x >= 0 (an infinite x gives infinity, a NaN NaN), |lo| below a unit in the last place of x. Measured
   with lo = 0: 0.84 ULP, at x = 0.41332; float64 0.85, at 0.41079 (without fma 0.87, 0.86). */
INLINE pair r_log1p_parts(pair x) {
    const pair h = one_plus(x), y = r_log_parts(h.hi, h.lo, K(0), K(0));
    const mask fair = lt(x.hi, K(INFINITY));
    return (pair){where(fair, y.hi, x.hi), where(fair, y.lo, K(0))};
}
INLINE real r_log1p(real x, real lo) { return r_log1p_parts((pair){x, lo}).hi; }

/* log(1 + e + rest) for 0 <= e <= 1, where rest is e's second part over 1 + e: 2^k (1 + f) with k = 0 and f = e below 1/2, and
   with k = 1 and f = (e - 1) / 2 from there on; as r_log_parts, with s = f / (2 + f). Measured with rest = 0: 0.92 ULP, at
   0.49604; float64 0.90, at 0.49807 (without fma 0.93, 0.90). */
INLINE real r_log1p_unit(real e, real rest) {
    static const scalar c[] = LF_LOG1P;
    const mask up = le(K(0.5), e);
    const real part = where(up, e - K(1), e), s = part / (e + where(up, K(3), K(2))), z = s * s;
    const real half_f = part * where(up, K(0.25), K(0.5)), f = where(up, half_f + half_f, e), half = half_f * f;
    const real low = rest + where(up, K(LF_LN2_TAIL), K(0));
    const real y = f - (half - r_fma(s, r_fma(z, r_horner(z, c, LF_LOG1P_TERMS), half), low));
    return where(up, K(LF_LN2_HEAD), K(0)) + y;
}

/* log x for any x: of 0 -infinity, of what is below 0 NaN. In two parts, the first of which is within 0.85 ULP, at 1.41332;
   float64 0.85, at 1.41389. r_log_pair is for x.lo below a unit in the last place of x.hi, r_log_exact too. */
typedef struct { pair x; mask fair, zero, below; real n; } argument;
INLINE argument r_log_argument(pair x) { /* as a normal number times 2^n; 1 where there is no logarithm */
    const mask tiny = lt(x.hi, K(LF_DTYPE == 32 ? FLT_MIN : DBL_MIN)), fair = both(lt(K(0), x.hi), lt(x.hi, K(INFINITY)));
    const real up = where(tiny, K(LF_DTYPE == 32 ? 0x1p24 : 0x1p53), K(1));
    return (argument){{where(fair, x.hi * up, K(1)), where(fair, x.lo * up, K(0))}, fair, eq(x.hi, K(0)), lt(x.hi, K(0)),
                      where(tiny, K(-(MANTISSA_BITS + 1)), K(0))};
}
INLINE pair r_log_result(argument a, pair x, pair y) {
    const real odd = where(a.zero, K(-INFINITY), where(a.below, K(NAN), x.hi));
    return (pair){where(a.fair, y.hi, odd), where(a.fair, y.lo, K(0))};
}
INLINE pair r_log_pair(pair x) {
    const argument a = r_log_argument(x);
    return r_log_result(a, x, r_log_parts(a.x.hi, a.x.lo, a.n, K(0)));
}
INLINE real r_log(real x) { return r_log_pair(exactly(x)).hi; }

/* ---- words for losses that need them in several places: functions of their own, lest each loss become many times as long ---- */

/* r_log_pair to at least 9 bits more than the dtype has: with s = f / (2 + f) and its cube in two parts, 2 atanh(s) =
   2 s + s^3 (c + s^2 P(s^2)). e^(2.5 log x) made with it is within 1.17 ULP, at 8.00007; float64 1.14, at 4.62905. */
NOINLINE pair r_log_exact(pair x) {
    static const scalar c[] = LF_ATANH;
    const argument a = r_log_argument(x);
    const reduced h = r_reduced(a.x.hi);
    const real k = h.k + a.n, more = r_fma(k, K(LF_LN2_TAIL), a.x.lo / a.x.hi);
    const pair s = r_divide(exactly(h.f), r_total(K(2), h.f)), z = r_multiply(s, s);
    const real bend = z.hi * r_horner(z.hi, c + 1, LF_ATANH_TERMS - 1), factor = K(c[0]) + bend;
    const pair cube = r_multiply(r_multiply(s, z), (pair){factor, (K(c[0]) - factor) + bend});
    const pair line = r_total(k * K(LF_LN2_HEAD), K(2) * s.hi), y = r_total(line.hi, cube.hi);
    const real lo = line.lo + y.lo + (cube.lo + r_fma(K(2), s.lo, more)), hi = y.hi + lo;
    return r_log_result(a, x, (pair){hi, (y.hi - hi) + lo});
}

/* r_phi of a t in two parts, with an error of about 1.2 ULP */
NOINLINE real r_phi_pair_of(pair t) {
    static const scalar c[] = LF_PHI;
    const real low = K(-60), high = K(LF_DTYPE == 32 ? 89.0 : 710.0), lo = where(lt(r_abs(t.lo), K(1)), t.lo, K(0));
    const exponential x = r_exp_parts_of(t, low, high);
    const real s = r_pow2(x.k - K(1)), e = r_fma(x.w, s, s), e_lo = r_fma(x.w, s, s - e);
    const pair less = r_total(e, K(-0.5)), rest = r_total(less.hi, K(-0.5) * t.hi);
    const real above = where(lt(high, t.hi), K(INFINITY), K(2) * (rest.hi + (rest.lo + (less.lo + r_fma(K(-0.5), lo, e_lo)))));
    const real far = where(lt(t.hi, low), K(-1) - t.hi, above), square = t.hi * t.hi, bend = where(eq(x.k, K(0)), x.w, K(2) * less.hi);
    const real line = r_fma(K(0.5) * t.hi, t.hi, bend * lo), near = r_fma(square * t.hi, r_horner(t.hi, c + 1, LF_PHI_TERMS - 1), line);
    return where(le(r_abs(t.hi), K(1)), near, far);
}

/* log(t!) = log Gamma(t + 1) for t >= 0, with full relative accuracy at its zeros 0 and 1 too: t (t - 1) P(t) up to 1, from
   there on by the logarithm of t (t - 1) ..., and by Stirling's series from 8 on. Below 0 it is NaN. 4.95 ULP, at 1.03555, where log t and the
   rest cancel; float64 4.90, at 1.03335. */
NOINLINE real r_log_factorial(real t) {
    static const scalar c[] = LF_LOG_FACTORIAL, d[] = LF_STIRLING;
    const mask large = le(K(8), t), endless = eq(t, K(INFINITY)), below = lt(t, K(0));
    real u = where(large, K(0), t);
    pair product = exactly(K(1));
    UNROLL for (int i = 0; i < 7; i++) {
        const mask more = le(K(1), u);
        product = r_choose(more, r_multiply(product, exactly(u)), product);
        u = where(more, u - K(1), u);
    }
    const pair log = r_log_pair(r_choose(large, exactly(t), product));
    const real near = u * (u - K(1)) * r_horner(u, c, LF_LOG_FACTORIAL_TERMS), inverse = K(1) / t;
    const pair most = r_multiply(exactly(t), log), line = r_total(most.hi, -t);
    const real rest = r_fma(inverse, r_horner(inverse * inverse, d, LF_STIRLING_TERMS), K(0.91893853320467274));
    const real far = r_settled((pair){line.hi, line.lo + (most.lo + r_fma(K(0.5), log.hi, rest))});
    const real y = where(large, far, log.hi + (log.lo + near));
    return where(endless, t, where(below, K(NAN), where(eq(t, t), y, t)));
}

/* ---- probes: each function of the vocabulary over an array, for the tests ---- */

#define LF_WORDS(WORD)                                                \
    WORD(exp, r_exp(x))                                               \
    WORD(expm1, r_expm1(x))                                           \
    WORD(phi, r_phi(x))                                               \
    WORD(exp_negative, r_exp_negative(x, 0).hi)                       \
    WORD(one_minus_exp_negative, r_exp_negative(x, 0).left)           \
    WORD(log, r_log(x))                                               \
    WORD(log1p, r_log1p(x, K(0)))                                     \
    WORD(log1p_unit, r_log1p_unit(x, K(0)))                           \
    WORD(pow, r_exp_pair_of(r_multiply(exactly(K(2.5)), r_log_exact(exactly(x))))) \
    WORD(log_factorial, r_log_factorial(x))                           \
    WORD(quotient, r_quotient(x, K(0), r_inverse(K(3), K(0))))

#ifdef LF_LANES
#define LF_PROBE(name, expression)                                                                             \
    static void name##_probe(const void *from, void *to, ptrdiff_t n) {                                        \
        for (ptrdiff_t i = 0; i < n; i += LF_LANES) {                                                          \
            const real x = r_load_part((const scalar *)from + i, n - i, 1);                                    \
            r_store_part((scalar *)to + i, r_canonical(expression), n - i);                                    \
        }                                                                                                      \
    }
LF_WORDS(LF_PROBE)
#define LF_PROBE_ENTRY(name, expression) {#name, name##_probe},
static const lf_word lf_words[] = {LF_WORDS(LF_PROBE_ENTRY) {NULL, NULL}};
#endif

#endif
