/* The vocabulary of one dtype and one instruction set.

   `real` is a vector of LF_LANES floats or doubles (a plain float or double when LF_LANES is 1), `mask` what a comparison
   of two of them gives, and `dreal` a vector of doubles that holds LF_LANES / DPARTS of a `real`'s lanes. Everything above
   this file is written in these words, so that one text serves every build. An intrinsic stands inside one word, and only
   where the compiler's own vectors do worse.

   Contraction is off (the build says so, and this file checks what it can): a fused multiply-add is written r_fma.
   The baseline build of x86-64 has no such instruction. There r_fma rounds twice; nothing below relies on its single
   rounding for more than the last bit, and products that must be exact go through r_product_error. */
#ifndef LF_REAL_H
#define LF_REAL_H

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "doubledouble.h"

#ifdef __FAST_MATH__
#error "lossfast must not be compiled with -ffast-math: NaN, infinities and the order of operations are part of its results"
#endif

#if !(LF_DTYPE == 32 || LF_DTYPE == 64)
#error "LF_DTYPE is 32 or 64"
#endif

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline, unused))
#define UNROLL _Pragma("GCC unroll 16")
#define KEEP_ROLLED _Pragma("GCC unroll 1")
#else
#define INLINE static __inline
#define NOINLINE static
#define UNROLL
#define KEEP_ROLLED
#if LF_LANES != 1
#error "vectors need GCC or Clang; build with LF_LANES=1"
#endif
#endif

#if LF_DTYPE == 32
typedef float scalar;
typedef int32_t integer;
#define DPARTS (LF_LANES == 1 ? 1 : 2)
#define DLANES (LF_LANES == 1 ? 1 : LF_LANES / 2)
#define MAGIC 12582912.0f /* 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits */
#define MANTISSA_BITS 23
#define EXPONENT_BIAS 127
#define LEAST FLT_TRUE_MIN
#else
typedef double scalar;
typedef int64_t integer;
#define DPARTS 1
#define DLANES LF_LANES
#define MAGIC 6755399441055744.0 /* 1.5 * 2^52 */
#define MANTISSA_BITS 52
#define EXPONENT_BIAS 1023
#define LEAST DBL_TRUE_MIN
#endif

#if LF_LANES == 1
typedef scalar real;
typedef integer ireal;
typedef double dreal;
#else
typedef scalar real __attribute__((vector_size(LF_LANES * sizeof(scalar))));
typedef integer ireal __attribute__((vector_size(LF_LANES * sizeof(scalar))));
typedef double dreal __attribute__((vector_size(DLANES * sizeof(double))));
#if LF_DTYPE == 32
typedef float hreal __attribute__((vector_size(DLANES * sizeof(float)))); /* the lanes of one dreal, as floats */
#endif
#endif

#if defined(__AVX512F__) && LF_LANES * LF_DTYPE == 512
#include <immintrin.h>
#define LF_MASKS 1
#if LF_DTYPE == 32
typedef __mmask16 mask;
#define I512(name) _mm512_##name##_ps
#define M512(name) _mm512_##name##_ps_mask
#else
typedef __mmask8 mask;
#define I512(name) _mm512_##name##_pd
#define M512(name) _mm512_##name##_pd_mask
#endif
#else
#if defined(__AVX2__) || defined(__SSE2__)
#include <immintrin.h>
#endif
#define LF_MASKS 0
typedef ireal mask; /* a lane is 0 or -1 */
#endif

/* At the end of what is called from outside: legacy instructions are slow while upper halves of registers are in use, and
   gcc 12 does not see all that are. */
INLINE void leave_vectors(void) {
#ifdef __AVX__
    _mm256_zeroupper();
#endif
}

/* ---- constants, memory ---- */

#if LF_LANES == 1
INLINE real K(double c) { return (real)c; }
INLINE dreal KD(double c) { return c; }
#else
INLINE real K(double c) { return (scalar)c - (real){0}; } /* c - 0, not c + 0: keeps the sign of -0 */
INLINE dreal KD(double c) { return c - (dreal){0}; }
#endif

INLINE real r_load(const scalar *p) { real x; memcpy(&x, p, sizeof x); return x; }
INLINE void r_store(scalar *p, real x) { memcpy(p, &x, sizeof x); }
INLINE scalar r_load_one(const scalar *p) { scalar x; memcpy(&x, p, sizeof x); return x; } /* at any address */

/* The first n (< LF_LANES, may be <= 0) lanes from memory, the rest `fill`: never reads past the n-th. */
INLINE real r_load_part(const scalar *p, ptrdiff_t n, scalar fill) {
#if LF_MASKS
    const mask live = (mask)(n <= 0 ? 0 : (1u << (n < LF_LANES ? n : LF_LANES)) - 1u);
    return (real)I512(mask_loadu)(K(fill), live, p);
#else
    scalar lanes[LF_LANES];
    for (int i = 0; i < LF_LANES; i++) lanes[i] = i < n ? r_load_one(p + i) : fill;
    return r_load(lanes);
#endif
}
INLINE void r_store_part(scalar *p, real x, ptrdiff_t n) {
#if LF_MASKS
    const mask live = (mask)(n <= 0 ? 0 : (1u << (n < LF_LANES ? n : LF_LANES)) - 1u);
    I512(mask_storeu)(p, live, x);
#else
    scalar lanes[LF_LANES];
    r_store(lanes, x);
    if (n > 0) memcpy(p, lanes, sizeof(scalar) * (n < LF_LANES ? n : LF_LANES));
#endif
}

/* 0, 1, 2, ... */
INLINE real r_iota(void) {
    static const scalar lanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return r_load(lanes);
}

/* ---- bits ---- */

#if LF_LANES == 1
INLINE ireal r_bits(real x) { ireal i; memcpy(&i, &x, sizeof i); return i; }
INLINE real r_from_bits(ireal i) { real x; memcpy(&x, &i, sizeof x); return x; }
#else
INLINE ireal r_bits(real x) { return (ireal)x; }
INLINE real r_from_bits(ireal i) { return (real)i; }
#endif
INLINE real r_abs(real x) { return r_from_bits(r_bits(x) & ~r_bits(K(-0.0))); }

/* The sign bit is set where |x| is not below the limit: beyond it, infinite, or NaN. (The other bits mean nothing.) */
INLINE ireal beyond(real x, real limit) { return r_bits(limit) - 1 - r_bits(r_abs(x)); }

/* ---- comparison and choice (a comparison with NaN is false) ---- */

#if LF_MASKS
INLINE mask lt(real a, real b) { return M512(cmp)(a, b, _CMP_LT_OQ); }
INLINE mask le(real a, real b) { return M512(cmp)(a, b, _CMP_LE_OQ); }
INLINE mask eq(real a, real b) { return M512(cmp)(a, b, _CMP_EQ_OQ); }
INLINE real where(mask m, real a, real b) { return (real)I512(mask_blend)(m, b, a); }
INLINE mask ne(real a, real b) { return M512(cmp)(a, b, _CMP_NEQ_UQ); }
INLINE mask not_(mask m) { return (mask)~m; }
#elif LF_LANES == 1
INLINE mask lt(real a, real b) { return -(integer)(a < b); }
INLINE mask le(real a, real b) { return -(integer)(a <= b); }
INLINE mask eq(real a, real b) { return -(integer)(a == b); }
INLINE real where(mask m, real a, real b) { return m ? a : b; }
INLINE mask not_(mask m) { return ~m; }
#else
#if defined(__SSE2__) && LF_LANES * LF_DTYPE == 128 /* gcc 12 fails on its own vectors' comparisons here */
#if LF_DTYPE == 32
INLINE mask lt(real a, real b) { return (mask)_mm_cmplt_ps(a, b); }
INLINE mask le(real a, real b) { return (mask)_mm_cmple_ps(a, b); }
INLINE mask eq(real a, real b) { return (mask)_mm_cmpeq_ps(a, b); }
#else
INLINE mask lt(real a, real b) { return (mask)_mm_cmplt_pd(a, b); }
INLINE mask le(real a, real b) { return (mask)_mm_cmple_pd(a, b); }
INLINE mask eq(real a, real b) { return (mask)_mm_cmpeq_pd(a, b); }
#endif
#else
INLINE mask lt(real a, real b) { return a < b; }
INLINE mask le(real a, real b) { return a <= b; }
INLINE mask eq(real a, real b) { return a == b; }
#endif
#if defined(__AVX2__) && LF_LANES * LF_DTYPE == 256
#if LF_DTYPE == 32
INLINE real where(mask m, real a, real b) { return (real)_mm256_blendv_ps(b, a, (real)m); }
#else
INLINE real where(mask m, real a, real b) { return (real)_mm256_blendv_pd(b, a, (real)m); }
#endif
#else
INLINE real where(mask m, real a, real b) { return r_from_bits((m & r_bits(a)) | (~m & r_bits(b))); }
#endif
INLINE mask not_(mask m) { return ~m; }
#endif
INLINE mask negative(ireal i) {
#if LF_MASKS
    const real sign = r_from_bits(i >> (LF_DTYPE - 1)); /* 0 or a NaN */
    return not_(eq(sign, sign));
#else
    return i >> (LF_DTYPE - 1);
#endif
}
/* NaN of one sign, whichever the processor makes (x86: negative, ARM: positive) */
INLINE real r_canonical(real x) { return where(eq(x, x), x, K(NAN)); }
#if !LF_MASKS
INLINE mask ne(real a, real b) { return not_(eq(a, b)); }
#endif
INLINE mask both(mask a, mask b) { return (mask)(a & b); }
INLINE mask either(mask a, mask b) { return (mask)(a | b); }
INLINE int any(mask m) {
#if LF_MASKS || LF_LANES == 1
    return m != 0;
#elif defined(__AVX2__)
    return !_mm256_testz_si256((__m256i)m, (__m256i)m);
#else
    integer lanes[LF_LANES], found = 0;
    memcpy(lanes, &m, sizeof lanes);
    for (int i = 0; i < LF_LANES; i++) found |= lanes[i];
    return found != 0;
#endif
}

/* a > b ? a : b and a < b ? a : b: a NaN in b stays, a NaN in a is dropped. */
#if LF_MASKS
INLINE real r_max(real a, real b) { return (real)I512(max)(a, b); }
INLINE real r_min(real a, real b) { return (real)I512(min)(a, b); }
#elif defined(__AVX2__) && LF_LANES * LF_DTYPE == 256 && LF_DTYPE == 32
INLINE real r_max(real a, real b) { return (real)_mm256_max_ps(a, b); }
INLINE real r_min(real a, real b) { return (real)_mm256_min_ps(a, b); }
#elif defined(__AVX2__) && LF_LANES * LF_DTYPE == 256
INLINE real r_max(real a, real b) { return (real)_mm256_max_pd(a, b); }
INLINE real r_min(real a, real b) { return (real)_mm256_min_pd(a, b); }
#elif defined(__SSE2__) && LF_LANES * LF_DTYPE == 128 && LF_DTYPE == 32
INLINE real r_max(real a, real b) { return (real)_mm_max_ps(a, b); }
INLINE real r_min(real a, real b) { return (real)_mm_min_ps(a, b); }
#elif defined(__SSE2__) && LF_LANES * LF_DTYPE == 128
INLINE real r_max(real a, real b) { return (real)_mm_max_pd(a, b); }
INLINE real r_min(real a, real b) { return (real)_mm_min_pd(a, b); }
#else
INLINE real r_max(real a, real b) { return where(lt(b, a), a, b); }
INLINE real r_min(real a, real b) { return where(lt(a, b), a, b); }
#endif

/* the larger of most and |x|, for a most >= 0; a NaN may be dropped */
#if LF_MASKS
INLINE real r_most(real most, real x) { return (real)I512(range)(most, x, 0xb); }
#else
INLINE real r_most(real most, real x) { return r_max(most, r_abs(x)); }
#endif

/* ---- arithmetic ---- */

#if LF_MASKS
INLINE real r_fma(real a, real b, real c) { return (real)I512(fmadd)(a, b, c); }
#elif defined(__FMA__) && LF_LANES * LF_DTYPE == 256 && LF_DTYPE == 32
INLINE real r_fma(real a, real b, real c) { return (real)_mm256_fmadd_ps(a, b, c); }
#elif defined(__FMA__) && LF_LANES * LF_DTYPE == 256
INLINE real r_fma(real a, real b, real c) { return (real)_mm256_fmadd_pd(a, b, c); }
#elif defined(__ARM_NEON) && LF_LANES * LF_DTYPE == 128
#include <arm_neon.h>
#if LF_DTYPE == 32
INLINE real r_fma(real a, real b, real c) { return (real)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
#else
INLINE real r_fma(real a, real b, real c) { return (real)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b); }
#endif
#else
#define LF_NO_FMA 1
INLINE real r_fma(real a, real b, real c) { return a * b + c; }
#endif

/* Rounded once, by the processor's own instruction */
INLINE real r_sqrt(real x) {
#if LF_MASKS
    return (real)I512(sqrt)(x);
#elif LF_LANES == 1
    return LF_DTYPE == 32 ? (real)sqrtf((float)x) : (real)sqrt((double)x);
#elif defined(__AVX2__) && LF_LANES * LF_DTYPE == 256 && LF_DTYPE == 32
    return (real)_mm256_sqrt_ps(x);
#elif defined(__AVX2__) && LF_LANES * LF_DTYPE == 256
    return (real)_mm256_sqrt_pd(x);
#elif defined(__SSE2__) && LF_LANES * LF_DTYPE == 128 && LF_DTYPE == 32
    return (real)_mm_sqrt_ps(x);
#elif defined(__SSE2__) && LF_LANES * LF_DTYPE == 128
    return (real)_mm_sqrt_pd(x);
#elif defined(__ARM_NEON) && LF_LANES * LF_DTYPE == 128 && LF_DTYPE == 32
    return (real)vsqrtq_f32((float32x4_t)x);
#elif defined(__ARM_NEON) && LF_LANES * LF_DTYPE == 128
    return (real)vsqrtq_f64((float64x2_t)x);
#else
    scalar lanes[LF_LANES];
    r_store(lanes, x);
    for (int i = 0; i < LF_LANES; i++) lanes[i] = LF_DTYPE == 32 ? (scalar)sqrtf((float)lanes[i]) : (scalar)sqrt((double)lanes[i]);
    return r_load(lanes);
#endif
}

/* a * b - p, exactly, where p = a * b rounded (and p does not overflow) */
#ifndef LF_NO_FMA
INLINE real r_product_error(real a, real b, real p) { return r_fma(a, b, -p); }
#elif LF_DTYPE == 32 /* a product of two floats is exact in double */
INLINE dreal r_double(real x, int part);
INLINE real r_from_doubles(const dreal *d);
INLINE real r_product_error(real a, real b, real p) {
    dreal d[DPARTS];
    for (int part = 0; part < DPARTS; part++) d[part] = r_double(a, part) * r_double(b, part) - r_double(p, part);
    return r_from_doubles(d);
}
#else /* Dekker's: each factor cut into two halves whose products are exact; huge ones are brought down first */
INLINE real r_cut(real a) {
    const real c = K(134217729.0) * a;
    return c - (c - a);
}
INLINE real r_product_error(real a, real b, real p) {
    const real down_a = where(lt(K(0x1p900), r_abs(a)), K(0x1p-128), K(1));
    const real down_b = where(lt(K(0x1p900), r_abs(b)), K(0x1p-128), K(1));
    const real x = a * down_a, y = b * down_b, xh = r_cut(x), yh = r_cut(y), xl = x - xh, yl = y - yh;
    const real error = ((xh * yh - p * down_a * down_b) + xh * yl + xl * yh) + xl * yl;
    return error / down_a / down_b;
}
#endif

/* c - a * b, good to the last bits of a * b where the two all but cancel */
#ifndef LF_NO_FMA
INLINE real r_residue(real c, real a, real b) { return r_fma(-a, b, c); }
#else
INLINE real r_residue(real c, real a, real b) {
    const real p = a * b;
    return (c - p) - r_product_error(a, b, p);
}
#endif

/* The nearest integer, ties to even; |x| < 2^(MANTISSA_BITS - 2). */
INLINE real r_round(real x) { return (x + K(MAGIC)) - K(MAGIC); }

/* 2^(k + up), of the sum of an integral k and MAGIC; exactly 0 for k + up = -EXPONENT_BIAS (what is below must be clamped to
   it first). */
INLINE real r_pow2_of(real rounded, int up) {
    return r_from_bits((r_bits(rounded) + (EXPONENT_BIAS + up)) << MANTISSA_BITS);
}
INLINE real r_pow2(real k) { return r_pow2_of(k + K(MAGIC), 0); }

/* A power of 2 that brings y > 0 to [1, 4); a subnormal y only to a normal number */
INLINE real r_leveller(real y) {
    const ireal exponent = r_bits(r_min(K(LF_DTYPE == 32 ? 0x1p126 : 0x1p1022), y)) >> MANTISSA_BITS;
    return r_from_bits((2 * EXPONENT_BIAS - exponent) << MANTISSA_BITS);
}

/* 0 times infinity is 0; a NaN stays. */
INLINE real r_mul0(real weight, real x) { return where(both(eq(weight, K(0)), eq(x, x)), K(0), weight * x); }
/* 0 times anything is 0, NaN too: for what must not be heard. */
INLINE real r_silence(real weight, real x) { return where(eq(weight, K(0)), K(0), weight * x); }

/* P(x) of the coefficients, lowest order first */
INLINE real r_horner(real x, const scalar *c, int terms) {
    real y = K(c[terms - 1]);
    UNROLL for (int i = terms - 2; i >= 0; i--) y = r_fma(y, x, K(c[i]));
    return y;
}

/* ---- columns ----
   LF_QUAD neighbours each of LF_LANES rows, `pitch` numbers apart, as LF_QUAD columns, and back, by 128-bit loads and
   transposes within them. Of the last row only `n` of them are there. */

#if (defined(__AVX2__) || defined(__SSE2__)) && LF_LANES > 1
#define LF_QUAD (128 / LF_DTYPE)
#if LF_LANES * LF_DTYPE == 512
typedef __m512d wide;
#define WIDE(name) _mm512_##name
#elif LF_LANES * LF_DTYPE == 256
typedef __m256d wide;
#define WIDE(name) _mm256_##name
#else
typedef __m128d wide;
#define WIDE(name) _mm_##name
#endif
enum { QUADS = LF_LANES / LF_QUAD };
INLINE __m128d quad_load(const scalar *p, int n) {
    __m128d x;
    if (n == LF_QUAD) memcpy(&x, p, sizeof x);
#if LF_DTYPE == 64
    else x = _mm_load_sd(p);
#else
    else if (n == 1) x = _mm_castps_pd(_mm_load_ss(p));
    else {
        x = _mm_loadl_pd(_mm_setzero_pd(), (const double *)p);
        if (n == 3) x = _mm_castps_pd(_mm_movelh_ps(_mm_castpd_ps(x), _mm_load_ss(p + 2)));
    }
#endif
    return x;
}
INLINE void quad_store(scalar *p, __m128d x, int n) {
    if (n == LF_QUAD) memcpy(p, &x, sizeof x);
#if LF_DTYPE == 64
    else _mm_store_sd(p, x);
#else
    else if (n == 1) _mm_store_ss(p, _mm_castpd_ps(x));
    else {
        _mm_storel_pd((double *)p, x);
        if (n == 3) _mm_store_ss(p + 2, _mm_movehl_ps(_mm_castpd_ps(x), _mm_castpd_ps(x)));
    }
#endif
}
/* 128 bits each of the rows i, LF_QUAD + i, 2 LF_QUAD + i ... */
INLINE wide quads_load(const scalar *x, ptrdiff_t pitch, int i, int n) {
#define AT(b) quad_load(x + ((b) * LF_QUAD + i) * pitch, (b) == QUADS - 1 && i == LF_QUAD - 1 ? n : LF_QUAD)
#if LF_LANES * LF_DTYPE == 512
    return _mm512_insertf64x2(_mm512_insertf64x2(_mm512_insertf64x2(_mm512_castpd128_pd512(AT(0)), AT(1), 1), AT(2), 2), AT(3), 3);
#elif LF_LANES * LF_DTYPE == 256
    return _mm256_insertf128_pd(_mm256_castpd128_pd256(AT(0)), AT(1), 1);
#else
    return AT(0);
#endif
#undef AT
}
#if LF_LANES * LF_DTYPE == 512
#define QUAD_OF(y, b) ((b) == 0 ? _mm512_castpd512_pd128(y) : (b) == 1 ? _mm512_extractf64x2_pd(y, 1) : (b) == 2 ? _mm512_extractf64x2_pd(y, 2) : _mm512_extractf64x2_pd(y, 3))
#elif LF_LANES * LF_DTYPE == 256
#define QUAD_OF(y, b) ((b) == 0 ? _mm256_castpd256_pd128(y) : _mm256_extractf128_pd(y, 1))
#else
#define QUAD_OF(y, b) (y)
#endif
#if LF_DTYPE == 64
INLINE void quads_transpose(wide z[2]) {
    const wide a = z[0], b = z[1];
    z[0] = WIDE(unpacklo_pd)(a, b), z[1] = WIDE(unpackhi_pd)(a, b);
}
#else
#if LF_LANES == 16
#define SINGLES(x) _mm512_castpd_ps(x)
#define DOUBLES(x) _mm512_castps_pd(x)
#elif LF_LANES == 8
#define SINGLES(x) _mm256_castpd_ps(x)
#define DOUBLES(x) _mm256_castps_pd(x)
#else
#define SINGLES(x) _mm_castpd_ps(x)
#define DOUBLES(x) _mm_castps_pd(x)
#endif
INLINE void quads_transpose(wide z[4]) {
    const wide ab = DOUBLES(WIDE(unpacklo_ps)(SINGLES(z[0]), SINGLES(z[1]))), AB = DOUBLES(WIDE(unpackhi_ps)(SINGLES(z[0]), SINGLES(z[1])));
    const wide cd = DOUBLES(WIDE(unpacklo_ps)(SINGLES(z[2]), SINGLES(z[3]))), CD = DOUBLES(WIDE(unpackhi_ps)(SINGLES(z[2]), SINGLES(z[3])));
    z[0] = WIDE(unpacklo_pd)(ab, cd), z[1] = WIDE(unpackhi_pd)(ab, cd);
    z[2] = WIDE(unpacklo_pd)(AB, CD), z[3] = WIDE(unpackhi_pd)(AB, CD);
}
#endif
INLINE void r_load_columns(real *column, const scalar *x, ptrdiff_t pitch, int n) {
    wide z[LF_QUAD];
    UNROLL for (int i = 0; i < LF_QUAD; i++) z[i] = quads_load(x, pitch, i, n);
    quads_transpose(z);
    memcpy(column, z, sizeof z);
}
/* Row by row: what one writes beyond its end, the next one overwrites. */
INLINE void r_store_columns(scalar *x, ptrdiff_t pitch, const real *column, int n) {
    wide z[LF_QUAD];
    memcpy(z, column, sizeof z);
    quads_transpose(z);
    UNROLL for (int b = 0; b < QUADS; b++)
        UNROLL for (int i = 0; i < LF_QUAD; i++)
            quad_store(x + (b * LF_QUAD + i) * pitch, QUAD_OF(z[i], b), b * LF_QUAD + i == LF_LANES - 1 ? n : LF_QUAD);
}
#else
#define LF_QUAD 1
#endif

/* ---- a real as doubles ---- */

#if LF_DTYPE == 64 || LF_LANES == 1
INLINE dreal r_double(real x, int part) { (void)part; return (dreal)x; }
INLINE real r_from_doubles(const dreal *d) { return (real)d[0]; }
#else
/* gcc 12 takes a vector's halves, and puts it together again, through memory, or number by number */
INLINE dreal r_double(real x, int part) {
#if LF_MASKS
    return (dreal)_mm512_cvtps_pd(part ? _mm512_extractf32x8_ps(x, 1) : _mm512_castps512_ps256(x));
#elif defined(__AVX2__) && LF_LANES == 8 /* gcc 12 converts its own vectors by halves */
    return (dreal)_mm256_cvtps_pd(part ? _mm256_extractf128_ps(x, 1) : _mm256_castps256_ps128(x));
#elif defined(__SSE2__) && LF_LANES == 4
    return (dreal)_mm_cvtps_pd(part ? _mm_movehl_ps((__m128)x, (__m128)x) : (__m128)x);
#else
    hreal half;
    memcpy(&half, (const char *)&x + (part ? sizeof half : 0), sizeof half);
    return __builtin_convertvector(half, dreal);
#endif
}
INLINE real r_from_doubles(const dreal *d) {
#if LF_MASKS
    return (real)_mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(d[0])), _mm512_cvtpd_ps(d[1]), 1);
#elif defined(__AVX2__) && LF_LANES == 8
    return (real)_mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(d[0])), _mm256_cvtpd_ps(d[1]), 1);
#elif defined(__SSE2__) && LF_LANES == 4
    return (real)_mm_movelh_ps(_mm_cvtpd_ps(d[0]), _mm_cvtpd_ps(d[1]));
#else
    real x;
    for (int part = 0; part < DPARTS; part++) {
        const hreal half = __builtin_convertvector(d[part], hreal);
        memcpy((char *)&x + part * sizeof half, &half, sizeof half);
    }
    return x;
#endif
}
#endif
INLINE dreal d_load(const double *p) { dreal x; memcpy(&x, p, sizeof x); return x; }
INLINE void d_store(double *p, dreal x) { memcpy(p, &x, sizeof x); }
/* LF_LANES doubles from memory, rounded */
INLINE real r_load_doubles(const double *p) {
    dreal d[DPARTS];
    for (int part = 0; part < DPARTS; part++) d[part] = d_load(p + part * DLANES);
    return r_from_doubles(d);
}

typedef struct { real hi, lo; } pair;

/* ---- numbers in two parts ----
   a + b, a - b (exact), x * y, x / y, each good to some units in the last place of the second part. Where the first part is
   not finite, the second may be NaN; r_settled leaves it out. */
INLINE pair r_total(real a, real b) {
    const real s = a + b, back = s - a;
    return (pair){s, (a - (s - back)) + (b - back)};
}
INLINE pair r_difference(real a, real b) { return r_total(a, -b); }
/* a + b, with nothing in the second part where the first is not finite */
INLINE pair two_sum(real a, real b) {
    const pair s = r_total(a, b);
    return (pair){s.hi, where(lt(r_abs(s.hi), K(INFINITY)), s.lo, K(0))};
}
INLINE pair r_multiply(pair x, pair y) {
    const real p = x.hi * y.hi;
    return (pair){p, r_product_error(x.hi, y.hi, p) + (x.hi * y.lo + x.lo * y.hi)};
}
INLINE pair r_divide(pair x, pair y) {
    const real q = x.hi / y.hi;
    return (pair){q, (r_residue(x.hi, q, y.hi) + (x.lo - q * y.lo)) / y.hi};
}
INLINE real r_settled(pair x) { return where(lt(r_abs(x.hi), K(INFINITY)), x.hi + x.lo, x.hi); }
INLINE pair exactly(real x) { return (pair){x, K(0)}; }
INLINE pair r_choose(mask m, pair a, pair b) { return (pair){where(m, a.hi, b.hi), where(m, a.lo, b.lo)}; }

INLINE void put_doubles(double *to, real x) {
    for (int part = 0; part < DPARTS; part++) d_store(to + part * DLANES, r_double(x, part));
}

/* A number in two parts as doubles: of floats one double holds both parts. */
INLINE double whole_of(scalar hi, scalar lo) { return LF_DTYPE == 32 ? (double)hi + (double)lo : (double)hi; }
INLINE double rest_of(scalar lo) { return LF_DTYPE == 32 ? 0 : (double)lo; }
INLINE void put_parts(double *hi, double *lo, real x, real x_lo) {
    for (int part = 0; part < DPARTS; part++) {
#if LF_DTYPE == 64
        d_store(hi + part * DLANES, r_double(x, part));
        d_store(lo + part * DLANES, r_double(x_lo, part));
#else
        d_store(hi + part * DLANES, r_double(x, part) + r_double(x_lo, part));
        d_store(lo + part * DLANES, KD(0));
#endif
    }
}

/* hi + lo (doubles, one for each lane) in two reals */
INLINE pair r_load_split(const double *hi, const double *lo) {
    const real h = r_load_doubles(hi);
#if LF_DTYPE == 64
    return (pair){h, r_load_doubles(lo)};
#else
    dreal left[DPARTS];
    for (int part = 0; part < DPARTS; part++)
        left[part] = (d_load(hi + part * DLANES) - r_double(h, part)) + d_load(lo + part * DLANES);
    return (pair){h, r_from_doubles(left)};
#endif
}
/* the same for one number in all lanes */
INLINE pair K_split(double hi, double lo) {
    const scalar h = (scalar)hi;
    return (pair){K(h), K((hi - (double)h) + lo)};
}

/* ---- sums ----

   A `sum` keeps LF_LANES running sums to well beyond the dtype's precision. For float32 that is plain doubles (a sum of
   2^20 terms is still good to 2^-33), and floats for what rounding took from the terms; for float64, doubles with the
   rounding errors kept beside them (two_sum). */

typedef struct {
    dreal s[DPARTS];
#if LF_DTYPE == 64
    dreal c[DPARTS];
#else
    real c;
#endif
} sum;

INLINE sum sum_zero(void) {
    sum a;
    for (int part = 0; part < DPARTS; part++) {
        a.s[part] = KD(0);
#if LF_DTYPE == 64
        a.c[part] = KD(0);
#else
        a.c = K(0);
#endif
    }
    return a;
}

INLINE void sum_add_double(sum *a, int part, dreal x, dreal error) {
#if LF_DTYPE == 64
    const dreal s = a->s[part], t = s + x, b = t - s;
    a->c[part] += ((s - (t - b)) + (x - b)) + error;
    a->s[part] = t;
#else
    (void)error;
    a->s[part] += x;
#endif
}

/* a += x */
INLINE void sum_add_one(sum *a, real x) {
#if LF_DTYPE == 64
    const dreal s = a->s[0], t = s + x, b = t - s;
    a->c[0] += (s - (t - b)) + (x - b);
    a->s[0] = t;
#else
    UNROLL for (int part = 0; part < DPARTS; part++) a->s[part] += r_double(x, part);
#endif
}

/* a += x + lo, where lo is what rounding x lost */
INLINE void sum_add(sum *a, real x, real lo) {
    UNROLL for (int part = 0; part < DPARTS; part++) {
#if LF_DTYPE == 64
        sum_add_double(a, part, x, lo);
#else
        a->s[part] += r_double(x, part);
#endif
    }
#if LF_DTYPE == 32
    a->c += lo;
#endif
}

/* a += x + lo in the lanes of m */
INLINE void sum_add_where(sum *a, mask m, real x, real lo) {
#if LF_MASKS && LF_DTYPE == 32
    a->s[0] = (dreal)_mm512_mask_add_pd(a->s[0], (__mmask8)m, a->s[0], r_double(x, 0));
    a->s[1] = (dreal)_mm512_mask_add_pd(a->s[1], (__mmask8)(m >> 8), a->s[1], r_double(x, 1));
    a->c = (real)_mm512_mask_add_ps(a->c, m, a->c, lo);
#else
    sum_add(a, where(m, x, K(0)), where(m, lo, K(0)));
#endif
}

/* a += x * y, the product exact */
INLINE void sum_add_product(sum *a, real x, real y) {
#if LF_DTYPE == 64
    const real p = x * y;
    sum_add_double(a, 0, p, r_product_error(x, y, p));
#else
    UNROLL for (int part = 0; part < DPARTS; part++) a->s[part] += r_double(x, part) * r_double(y, part);
#endif
}

/* a += w * (m - x), all of it beyond the dtype's precision, and m - x beyond its range; a weight of 0 silences an infinite x */
INLINE void sum_add_gap(sum *a, real w, real m, real x) {
    const real seen = where(eq(w, K(0)), m, x);
#if LF_DTYPE == 64
    const mask far = both(lt(K(0x1p1022), r_max(r_abs(m), r_abs(seen))), lt(K(-INFINITY), seen));
    const real down = where(far, K(0.5), K(1)), up = where(far, K(2) * w, w), top = m * down, low = seen * down;
    const real g = top - low, b = g - top, error = (top - (g - b)) - (low + b), p = up * g;
    sum_add_double(a, 0, p, r_fma(up, error, r_product_error(up, g, p)));
#else
    UNROLL for (int part = 0; part < DPARTS; part++)
        a->s[part] += r_double(w, part) * (r_double(m, part) - r_double(seen, part));
#endif
}

/* a += w * (((m - x) - mean) / T)^2, likewise */
INLINE void sum_add_square(sum *a, real w, real m, real x, pair mean, const double *it) {
    const real seen = where(eq(w, K(0)), m, x);
#if LF_DTYPE == 64
    const real g = m - seen, b = g - m, error = (m - (g - b)) - (seen + b), d = g - mean.hi, back = d - g;
    const real low = ((g - (d - back)) - (mean.hi + back)) + (error - mean.lo);
    const real q = d * K(it[0]), q_lo = r_fma(low, K(it[0]), r_fma(d, K(it[1]), r_product_error(d, K(it[0]), q)));
    const real y = q * q, y_lo = r_fma(K(2) * q, q_lo, r_product_error(q, q, y)), p = r_mul0(w, y);
    sum_add_double(a, 0, p, where(lt(p, K(INFINITY)), r_mul0(w, y_lo) + r_product_error(w, y, p), K(0)));
#else
    UNROLL for (int part = 0; part < DPARTS; part++) {
        const dreal d = (r_double(m, part) - r_double(seen, part)) - (r_double(mean.hi, part) + r_double(mean.lo, part));
        const dreal q = d * it[0];
        a->s[part] += r_double(w, part) * q * q;
    }
#endif
}

/* A sum as sum_store left it */
INLINE sum sum_load(const double *hi, const double *lo) {
    sum a = sum_zero();
    UNROLL for (int part = 0; part < DPARTS; part++) {
        a.s[part] = d_load(hi + part * DLANES);
#if LF_DTYPE == 64
        a.c[part] = d_load(lo + part * DLANES);
#endif
    }
    (void)lo;
    return a;
}

/* The lanes: hi[i] + lo[i] */
INLINE void sum_store(const sum *a, double *hi, double *lo) {
    UNROLL for (int part = 0; part < DPARTS; part++) {
#if LF_DTYPE == 64
        d_store(hi + part * DLANES, a->s[part]);
        d_store(lo + part * DLANES, where(eq(a->s[part] - a->s[part], K(0)), a->c[part], K(0)));
#else
        d_store(hi + part * DLANES, a->s[part] + r_double(a->c, part));
        d_store(lo + part * DLANES, KD(0));
#endif
    }
}

/* The sum of all 16 lanes, by a fixed tree whatever the vector's width, added to hi + lo. (float32: lo stays as it is.) */
INLINE void sum_gather(const sum *parts, double *hi, double *lo) {
    double h[16], l[16];
    for (int part = 0; part < 16 / LF_LANES; part++) sum_store(&parts[part], h + part * LF_LANES, l + part * LF_LANES);
#if LF_DTYPE == 64
    dd_tree(h, l, 16);
    dd_add(hi, lo, h[0], l[0]);
#else
    (void)lo;
    for (int half = 8; half > 0; half /= 2)
        for (int i = 0; i < half; i++) h[i] += h[i + half];
    *hi += h[0];
#endif
}

/* a += v * w in doubles; a weight of 0 silences anything */
INLINE void sum_add_weighted(sum *a, real v, const double *w) {
    const real heard = where(eq(r_load_doubles(w), K(0)), K(0), v);
#if LF_DTYPE == 64
    sum_add_product(a, heard, r_load(w));
#else
    UNROLL for (int part = 0; part < DPARTS; part++) a->s[part] += r_double(heard, part) * d_load(w + part * DLANES);
#endif
}

#endif
