#include "convert.h"
#include "half.h"

#if defined(__GNUC__)
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#else
#define ALWAYS_INLINE static __inline
#endif

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

/* Inlined where the step is known */
ALWAYS_INLINE void read_any(void *to, int dtype, ptrdiff_t step, const char *from, int type, int swapped, ptrdiff_t stride, ptrdiff_t n) {
    switch (type) { EACH_TYPE(READ) }
}
void lf_read(void *to, int dtype, ptrdiff_t step, const char *from, int type, int swapped, ptrdiff_t stride, ptrdiff_t n) {
    if (type == LF_FLOAT16 && dtype == 32 && !swapped && stride == 2 && step == 1 && lf_has_f16c()) {
        const ptrdiff_t done = lf_from_halves(to, from, n);
        to = (float *)to + done, from += 2 * done, n -= done;
    }
    read_any(to, dtype, step, from, type, swapped, stride, n);
}

#define LABEL(name, size)                                                              \
    case LF_##name:                                                                    \
        if (swapped) for (ptrdiff_t i = 0; i < n; i++) to[i] = (int64_t)read_##name(from + i * stride, 1); \
        else if (stride == (size)) for (ptrdiff_t i = 0; i < n; i++) to[i] = (int64_t)read_##name(from + i * (size), 0); \
        else for (ptrdiff_t i = 0; i < n; i++) to[i] = (int64_t)read_##name(from + i * stride, 0); \
        return;

void lf_read_labels(int64_t *to, const char *from, int type, int swapped, ptrdiff_t stride, ptrdiff_t n) {
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

ALWAYS_INLINE void write_any(char *to, int type, int swapped, ptrdiff_t stride, const void *from, int dtype, ptrdiff_t step, ptrdiff_t n) {
    switch (type) {
        WRITE(FLOAT16, 2)
        WRITE(BFLOAT16, 2)
        WRITE(FLOAT32, 4)
        WRITE(FLOAT64, 8)
        WRITE(BOOL, 1)
        WRITE(INT64, 8)
    }
}
void lf_write(char *to, int type, int swapped, ptrdiff_t stride, const void *from, int dtype, ptrdiff_t step, ptrdiff_t n) {
    if (type == LF_FLOAT16 && dtype == 32 && !swapped && stride == 2 && step == 1 && lf_has_f16c()) {
        const ptrdiff_t done = lf_to_halves(to, from, n);
        to += 2 * done, from = (const float *)from + done, n -= done;
    }
    write_any(to, type, swapped, stride, from, dtype, step, n);
}

/* ---- tiles ----
   The plain case, numbers that lie as the kernels have them, goes by 4 x 4 (2 x 2) transposes; so do rows that lie side by
   side (the class axis first), which are copied. */

enum { ROWS = 16 };

#if defined(__GNUC__)
typedef float float4 __attribute__((vector_size(16)));
typedef int int4 __attribute__((vector_size(16)));
typedef double double2 __attribute__((vector_size(16)));
typedef long long long2 __attribute__((vector_size(16)));
#ifdef __clang__
#define PICK4(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#define PICK2(a, b, i, j) __builtin_shufflevector(a, b, i, j)
#else
#define PICK4(a, b, i, j, k, l) __builtin_shuffle(a, b, (int4){i, j, k, l})
#define PICK2(a, b, i, j) __builtin_shuffle(a, b, (long2){i, j})
#endif

static inline void transpose4(char *const from[4], char *const to[4]) {
    float4 a, b, c, d;
    memcpy(&a, from[0], 16), memcpy(&b, from[1], 16), memcpy(&c, from[2], 16), memcpy(&d, from[3], 16);
    const float4 ab = PICK4(a, b, 0, 4, 1, 5), AB = PICK4(a, b, 2, 6, 3, 7);
    const float4 cd = PICK4(c, d, 0, 4, 1, 5), CD = PICK4(c, d, 2, 6, 3, 7);
    a = PICK4(ab, cd, 0, 1, 4, 5), b = PICK4(ab, cd, 2, 3, 6, 7);
    c = PICK4(AB, CD, 0, 1, 4, 5), d = PICK4(AB, CD, 2, 3, 6, 7);
    memcpy(to[0], &a, 16), memcpy(to[1], &b, 16), memcpy(to[2], &c, 16), memcpy(to[3], &d, 16);
}
static inline void transpose2(char *const from[4], char *const to[4]) {
    double2 a, b;
    memcpy(&a, from[0], 16), memcpy(&b, from[1], 16);
    const double2 c = PICK2(a, b, 0, 2), d = PICK2(a, b, 1, 3);
    memcpy(to[0], &c, 16), memcpy(to[1], &d, 16);
}
#endif

static int side_by_side(char *const *rows, ptrdiff_t size) {
    for (int i = 1; i < ROWS; i++)
        if (rows[i] != rows[0] + i * size) return 0;
    return 1;
}

static int as_kept(int type, int swapped, int dtype) {
    return !swapped && type == (dtype == 32 ? LF_FLOAT32 : LF_FLOAT64);
}

/* n numbers of each of the 16 rows to the tile, or (`back`) from it, as they are */
static void move_tile(char *tile, char **rows, ptrdiff_t skip, ptrdiff_t stride, ptrdiff_t size, ptrdiff_t n, int back) {
    ptrdiff_t done = 0;
    if (side_by_side(rows, size)) {
        for (; done < n; done++) {
            char *const column = tile + done * ROWS * size, *const row = rows[0] + skip + done * stride;
            if (size == 4) memcpy(back ? row : column, back ? column : row, ROWS * 4);
            else memcpy(back ? row : column, back ? column : row, ROWS * 8);
        }
        return;
    }
#if defined(__GNUC__)
    const int side = size == 4 ? 4 : 2;
    for (; stride == size && done + side <= n; done += side)
        for (int i = 0; i < ROWS; i += side) {
            char *row[4], *column[4];
            for (int k = 0; k < side; k++) {
                row[k] = rows[i + k] + skip + done * size;
                column[k] = tile + ((done + k) * ROWS + i) * size;
            }
            if (size == 4) transpose4(back ? column : row, back ? row : column);
            else transpose2(back ? column : row, back ? row : column);
        }
#endif
    for (; done < n; done++)
        for (int i = 0; i < ROWS; i++) {
            char *const cell = tile + (done * ROWS + i) * size, *const at = rows[i] + skip + done * stride;
            if (size == 4) memcpy(back ? at : cell, back ? cell : at, 4);
            else memcpy(back ? at : cell, back ? cell : at, 8);
        }
}

/* What must be converted goes row by row into the tile; side by side, 16 numbers at a time; and float16, of which many are
   converted at once, through stretches of rows, if they are long enough to make up for it. */
enum { STRETCH = 64 };
static int in_stretches(int type, int swapped, ptrdiff_t stride, int dtype, ptrdiff_t n) {
    return type == LF_FLOAT16 && dtype == 32 && !swapped && stride == 2 && n >= 8 && lf_has_f16c();
}
static ptrdiff_t size_of(int type) {
#define SIZE(name, size) [LF_##name] = size,
    static const char sizes[] = {EACH_TYPE(SIZE)};
    return sizes[type];
}

void lf_read_tile(void *to, int dtype, char **rows, ptrdiff_t skip, int type, int swapped, ptrdiff_t stride, ptrdiff_t n) {
    const ptrdiff_t size = dtype / 8;
    float buffer[ROWS][STRETCH];
    char *kept[ROWS];
    if (as_kept(type, swapped, dtype)) move_tile(to, rows, skip, stride, size, n, 0);
    else if (side_by_side(rows, size_of(type)))
        for (ptrdiff_t c = 0; c < n; c++)
            lf_read((char *)to + c * ROWS * size, dtype, 1, rows[0] + skip + c * stride, type, swapped, size_of(type), ROWS);
    else if (in_stretches(type, swapped, stride, dtype, n))
        for (ptrdiff_t done = 0; done < n; done += STRETCH) {
            const ptrdiff_t some = n - done < STRETCH ? n - done : STRETCH;
            for (int i = 0; i < ROWS; i++) {
                kept[i] = (char *)buffer[i];
                lf_read(kept[i], dtype, 1, rows[i] + skip + done * stride, type, swapped, stride, some);
            }
            move_tile((char *)to + done * ROWS * size, kept, 0, size, size, some, 0);
        }
    else
        for (int i = 0; i < ROWS; i++)
            read_any((char *)to + i * size, dtype, ROWS, rows[i] + skip, type, swapped, stride, n);
}

void lf_write_tile(char **rows, int count, int type, int swapped, ptrdiff_t stride, void *tile, int dtype, ptrdiff_t n) {
    const ptrdiff_t size = dtype / 8;
    float buffer[ROWS][STRETCH];
    char *kept[ROWS];
    if (count == ROWS && as_kept(type, swapped, dtype)) move_tile(tile, rows, 0, stride, size, n, 1);
    else if (count == ROWS && side_by_side(rows, size_of(type)))
        for (ptrdiff_t c = 0; c < n; c++)
            lf_write(rows[0] + c * stride, type, swapped, size_of(type), (char *)tile + c * ROWS * size, dtype, 1, ROWS);
    else if (in_stretches(type, swapped, stride, dtype, n))
        for (ptrdiff_t done = 0; done < n; done += STRETCH) {
            const ptrdiff_t some = n - done < STRETCH ? n - done : STRETCH;
            for (int i = 0; i < ROWS; i++) kept[i] = (char *)buffer[i];
            move_tile((char *)tile + done * ROWS * size, kept, 0, size, size, some, 1);
            for (int i = 0; i < count; i++)
                lf_write(rows[i] + done * stride, type, swapped, stride, kept[i], dtype, 1, some);
        }
    else
        for (int i = 0; i < count; i++)
            write_any(rows[i], type, swapped, stride, (char *)tile + i * size, dtype, ROWS, n);
}
