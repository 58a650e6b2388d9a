/* Sums kept as hi + lo, to about 106 bits. */
#ifndef LF_DOUBLEDOUBLE_H
#define LF_DOUBLEDOUBLE_H

/* (hi, lo) += x + y; an infinite or NaN sum has a lo of 0 */
static inline void dd_add(double *hi, double *lo, double x, double y) {
    const double s = *hi + x, b = s - *hi, e = ((*hi - (s - b)) + (x - b)) + (*lo + y);
    const double kept = s - s == 0 ? e : 0, t = s + kept;
    *lo = s - s == 0 ? kept - (t - s) : 0;
    *hi = t;
}

/* n (a power of 2) pairs summed by a fixed tree, into the first */
#if defined(__GNUC__)
__attribute__((noinline, unused))
#endif
static void dd_tree(double *hi, double *lo, int n) {
    for (int half = n / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) dd_add(&hi[i], &lo[i], hi[i + half], lo[i + half]);
}

#endif
