/* Sums kept as hi + lo, to about 106 bits; and totals that may leave the range of a double on their way to a mean. */
#ifndef LF_DOUBLEDOUBLE_H
#define LF_DOUBLEDOUBLE_H

/* (hi, lo) += x + y; an infinite or NaN sum has a lo of 0 */
static inline void dd_add(double *hi, double *lo, double x, double y) {
    const double s = *hi + x, b = s - *hi, e = ((*hi - (s - b)) + (x - b)) + (*lo + y);
    const double kept = s - s == 0 ? e : 0, t = s + kept;
    *lo = s - s == 0 ? kept - (t - s) : 0;
    *hi = t;
}

/* n (a power of 2, up to 16) pairs summed by a fixed tree, into the first */
#if defined(__GNUC__)
__attribute__((noinline, unused))
#endif
static void dd_tree(double *hi, double *lo, int n) {
#define LEVEL(half)                                                                          \
    if (n > (half))                                                                          \
        for (int i = 0; i < (half); i++) dd_add(&hi[i], &lo[i], hi[i + (half)], lo[i + (half)]);
    LEVEL(8) LEVEL(4) LEVEL(2) LEVEL(1)
#undef LEVEL
}

/* (hi + lo) 2^exponent. The exponent is 0 until finite numbers have an infinite sum, and LF_AWAY from there on: what is
   lost then is far below the whole's precision. */
enum { LF_AWAY = 100 };
typedef struct { double hi, lo; int exponent; } lf_total;

static inline void total_add(lf_total *a, double x, double y) {
    const double down = a->exponent ? 0x1p-100 : 1, hi = a->hi, lo = a->lo;
    dd_add(&a->hi, &a->lo, x * down, y * down);
    if (a->exponent || a->hi - a->hi == 0 || !(hi - hi == 0 && x - x == 0)) return;
    a->hi = hi * 0x1p-100;
    a->lo = lo * 0x1p-100;
    a->exponent = LF_AWAY;
    dd_add(&a->hi, &a->lo, x * 0x1p-100, y * 0x1p-100);
}

#endif
