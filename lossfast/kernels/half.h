/* float16 and bfloat16 to float32 and back: bits in, bits out, rounded to nearest even. NaN stays NaN. */
#ifndef LF_HALF_H
#define LF_HALF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t lf_float_bits(float x) { uint32_t b; memcpy(&b, &x, 4); return b; }
static inline float lf_bits_float(uint32_t b) { float x; memcpy(&x, &b, 4); return x; }

static inline float lf_from_half(uint16_t h) {
    const uint32_t body = (uint32_t)(h & 0x7fff) << 13, sign = (uint32_t)(h & 0x8000) << 16;
    /* 2^112 moves the exponent's bias from 15 to 127 and normalises subnormals; infinities and NaN get theirs set */
    const uint32_t finite = lf_float_bits(lf_bits_float(body) * 0x1p112f);
    return lf_bits_float((body >= 0x0f800000u ? body | 0x7f800000u : finite) | sign);
}

static inline uint16_t lf_to_half(float x) {
    const uint32_t bits = lf_float_bits(x), a = bits & 0x7fffffffu, sign = (bits >> 16) & 0x8000u;
    /* below 2^-14 the sum with 1/2 puts the subnormal, rounded, into the last bits */
    const uint32_t small = lf_float_bits(lf_bits_float(a) + 0.5f) - 0x3f000000u;
    const uint32_t normal = (a - 0x38000000u + 0xfffu + ((a >> 13) & 1u)) >> 13;
    const uint32_t large = a > 0x7f800000u ? 0x7e00u : 0x7c00u;
    const uint32_t half = a < 0x38800000u ? small : a < 0x47800000u ? normal : large;
    return (uint16_t)(half | sign);
}

static inline float lf_from_bfloat(uint16_t h) { return lf_bits_float((uint32_t)h << 16); }

static inline uint16_t lf_to_bfloat(float x) {
    const uint32_t bits = lf_float_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/* Many at once, side by side, where the processor has it: how many were done. The bits are those of the functions above; a
   NaN takes their way. */
#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#include <immintrin.h>
#define LF_F16C __attribute__((target("avx,f16c")))
static int lf_f16c;
__attribute__((constructor)) static void lf_look_for_f16c(void) { /* clang 14's __builtin_cpu_supports does not know it */
    unsigned a, b, c = 0, d;
    __builtin_cpu_init();
    lf_f16c = __builtin_cpu_supports("avx") && __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C;
}
static inline int lf_has_f16c(void) { return lf_f16c; }

LF_F16C static ptrdiff_t lf_from_halves(float *to, const char *from, ptrdiff_t n) {
    ptrdiff_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m128i half = _mm_loadu_si128((const __m128i *)(from + 2 * i));
        const __m256 x = _mm256_cvtph_ps(half);
        if (_mm256_movemask_ps(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)))
            for (int j = 0; j < 8; j++) {
                uint16_t one;
                memcpy(&one, from + 2 * (i + j), sizeof one);
                to[i + j] = lf_from_half(one);
            }
        else _mm256_storeu_ps(to + i, x);
    }
    return i;
}

LF_F16C static ptrdiff_t lf_to_halves(char *to, const float *from, ptrdiff_t n) {
    ptrdiff_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 x = _mm256_loadu_ps(from + i);
        if (_mm256_movemask_ps(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)))
            for (int j = 0; j < 8; j++) {
                const uint16_t one = lf_to_half(from[i + j]);
                memcpy(to + 2 * (i + j), &one, sizeof one);
            }
        else _mm_storeu_si128((__m128i *)(to + 2 * i), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
    return i;
}
#else
static inline int lf_has_f16c(void) { return 0; }
static inline ptrdiff_t lf_from_halves(float *to, const char *from, ptrdiff_t n) { (void)to, (void)from, (void)n; return 0; }
static inline ptrdiff_t lf_to_halves(char *to, const float *from, ptrdiff_t n) { (void)to, (void)from, (void)n; return 0; }
#endif

/* A double rounded to float "to odd", so that rounding the float once more gives what rounding the double would have. */
static inline float lf_to_odd(double x) {
    float f = (float)x;
    uint32_t bits = lf_float_bits(f);
    if ((double)f != x && x == x && (bits & 0x7f800000u) != 0x7f800000u) {
        const double size = x < 0 ? -x : x, rounded = f < 0 ? -(double)f : (double)f;
        if (rounded > size) bits -= 1;
        bits |= 1;
    } else if ((bits & 0x7fffffffu) == 0x7f800000u && x - x == 0) {
        bits -= 1; /* a finite double beyond float's range */
    }
    return lf_bits_float(bits);
}

#endif
