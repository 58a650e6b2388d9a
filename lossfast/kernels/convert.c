#include "convert.h"
#include "half.h"

/* Loads through memcpy: any alignment will do. `swap` is a constant in every use, so that each loop has one form. */
#define SWAP(bits) static inline uint##bits##_t swap##bits(uint##bits##_t x, int swap)
SWAP(8) { (void)swap; return x; }
SWAP(16) { return swap ? (uint16_t)(x >> 8 | x << 8) : x; }
SWAP(32) { return swap ? ((uint32_t)swap16((uint16_t)x, 1) << 16 | swap16((uint16_t)(x >> 16), 1)) : x; }
SWAP(64) { return swap ? ((uint64_t)swap32((uint32_t)x, 1) << 32 | swap32((uint32_t)(x >> 32), 1)) : x; }

#define READER(name, bits, type, value)                                                \
    static inline type read_##name(const char *p, int swap) {                          \
        uint##bits##_t raw;                                                            \
        memcpy(&raw, p, sizeof raw);                                                   \
        raw = swap##bits(raw, swap);                                                   \
        value                                                                          \
    }
#define AS_IT_IS(type) { type x; memcpy(&x, &raw, sizeof x); return x; }
READER(FLOAT16, 16, float, return lf_from_half(raw);)
READER(BFLOAT16, 16, float, return lf_from_bfloat(raw);)
READER(FLOAT32, 32, float, AS_IT_IS(float))
READER(FLOAT64, 64, double, AS_IT_IS(double))
READER(BOOL, 8, uint8_t, return raw != 0;)
READER(INT8, 8, int8_t, AS_IT_IS(int8_t))
READER(INT16, 16, int16_t, AS_IT_IS(int16_t))
READER(INT32, 32, int32_t, AS_IT_IS(int32_t))
READER(INT64, 64, int64_t, AS_IT_IS(int64_t))
READER(UINT8, 8, uint8_t, return raw;)
READER(UINT16, 16, uint16_t, return raw;)
READER(UINT32, 32, uint32_t, return raw;)
READER(UINT64, 64, uint64_t, return raw;)

#define EACH_TYPE(X) \
    X(FLOAT16, 2) X(BFLOAT16, 2) X(FLOAT32, 4) X(FLOAT64, 8) X(BOOL, 1) X(INT8, 1) X(INT16, 2) X(INT32, 4) X(INT64, 8) \
    X(UINT8, 1) X(UINT16, 2) X(UINT32, 4) X(UINT64, 8)

#define LOOP(T, name, size, swap, pitch, step)                                         \
    for (ptrdiff_t i = 0; i < n; i++) ((T *)to)[i * (step)] = (T)read_##name(from + i * (pitch), swap)
#define READ(name, size)                                                               \
    case LF_##name:                                                                    \
        if (dtype == 32) {                                                             \
            if (!swapped && stride == (size) && step == 1) LOOP(float, name, size, 0, size, 1); \
            else if (!swapped) LOOP(float, name, size, 0, stride, step);               \
            else LOOP(float, name, size, 1, stride, step);                             \
        } else {                                                                       \
            if (!swapped && stride == (size) && step == 1) LOOP(double, name, size, 0, size, 1); \
            else if (!swapped) LOOP(double, name, size, 0, stride, step);              \
            else LOOP(double, name, size, 1, stride, step);                            \
        }                                                                              \
        return;

void lf_read(void *to, int dtype, ptrdiff_t step, const char *from, int type, int swapped, ptrdiff_t stride, ptrdiff_t n) {
    switch (type) { EACH_TYPE(READ) }
}

static inline int64_t label_of_uint64(uint64_t x) { return x > INT64_MAX ? INT64_MAX : (int64_t)x; }
#define LABEL(name, size)                                                              \
    case LF_##name:                                                                    \
        if (swapped) for (ptrdiff_t i = 0; i < n; i++) to[i] = (int64_t)read_##name(from + i * stride, 1); \
        else if (stride == (size)) for (ptrdiff_t i = 0; i < n; i++) to[i] = (int64_t)read_##name(from + i * (size), 0); \
        else for (ptrdiff_t i = 0; i < n; i++) to[i] = (int64_t)read_##name(from + i * stride, 0); \
        return;

void lf_read_labels(int64_t *to, const char *from, int type, int swapped, ptrdiff_t stride, ptrdiff_t n) {
    if (type == LF_UINT64) {
        for (ptrdiff_t i = 0; i < n; i++) to[i] = label_of_uint64(read_UINT64(from + i * stride, swapped));
        return;
    }
    switch (type) { EACH_TYPE(LABEL) }
}

#define WRITER(name, bits, convert)                                                    \
    static inline void write_##name(char *p, double x, int from_double, int swap) {    \
        uint##bits##_t raw;                                                            \
        convert                                                                        \
        raw = swap##bits(raw, swap);                                                   \
        memcpy(p, &raw, sizeof raw);                                                   \
    }
WRITER(FLOAT16, 16, raw = lf_to_half(from_double ? lf_to_odd(x) : (float)x);)
WRITER(BFLOAT16, 16, raw = lf_to_bfloat(from_double ? lf_to_odd(x) : (float)x);)
WRITER(FLOAT32, 32, (void)from_double; const float f = (float)x; memcpy(&raw, &f, 4);)
WRITER(FLOAT64, 64, (void)from_double; memcpy(&raw, &x, 8);)
WRITER(BOOL, 8, (void)from_double; raw = x != 0;)
WRITER(INT64, 64, (void)from_double; const int64_t k = (int64_t)x; memcpy(&raw, &k, 8);)

#define STORE(name, T, wide, swap, pitch, step_)                                       \
    for (ptrdiff_t i = 0; i < n; i++) write_##name(to + i * (pitch), ((const T *)from)[i * (step_)], wide, swap)
#define WRITE(name, size)                                                              \
    case LF_##name:                                                                    \
        if (dtype == 32) {                                                             \
            if (!swapped && stride == (size) && step == 1) STORE(name, float, 0, 0, size, 1); \
            else if (!swapped) STORE(name, float, 0, 0, stride, step);                 \
            else STORE(name, float, 0, 1, stride, step);                               \
        } else {                                                                       \
            if (!swapped && stride == (size) && step == 1) STORE(name, double, 1, 0, size, 1); \
            else if (!swapped) STORE(name, double, 1, 0, stride, step);                \
            else STORE(name, double, 1, 1, stride, step);                              \
        }                                                                              \
        return;

void lf_write(char *to, int type, int swapped, ptrdiff_t stride, const void *from, int dtype, ptrdiff_t step, ptrdiff_t n) {
    switch (type) {
        WRITE(FLOAT16, 2)
        WRITE(BFLOAT16, 2)
        WRITE(FLOAT32, 4)
        WRITE(FLOAT64, 8)
        WRITE(BOOL, 1)
        WRITE(INT64, 8)
    }
}
