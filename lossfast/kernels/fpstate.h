/* The floating-point state that the kernels are written for (round to nearest, subnormals kept, no traps), set for the
   length of a call, and the caller's own put back afterwards. */
#ifndef LF_FPSTATE_H
#define LF_FPSTATE_H

#include <stdint.h>

#if defined(__SSE2__) || defined(_M_X64)
#include <xmmintrin.h>
static inline uint64_t lf_fp_set(void) {
    const unsigned before = _mm_getcsr();
    _mm_setcsr(0x1f80);
    return before;
}
static inline void lf_fp_restore(uint64_t before) { _mm_setcsr((unsigned)before); }
#elif defined(__aarch64__) && defined(__GNUC__)
static inline uint64_t lf_fp_set(void) {
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
    return before;
}
static inline void lf_fp_restore(uint64_t before) { __asm__ volatile("msr fpcr, %0" : : "r"(before)); }
#else
#include <fenv.h>
static inline uint64_t lf_fp_set(void) {
    const int before = fegetround();
    fesetround(FE_TONEAREST);
    return (uint64_t)before;
}
static inline void lf_fp_restore(uint64_t before) { fesetround((int)before); }
#endif

#endif
