/* float16 and bfloat16 to float32 and back: bits in, bits out, rounded to nearest even. NaN stays NaN. */
#ifndef LF_HALF_H
#define LF_HALF_H

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
