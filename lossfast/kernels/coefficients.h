/* Made by coefficients.py: do not edit. */
#if LF_DTYPE == 32
/* e^r - 1 = r + r^2 P(r), |r| <= ln(2)/2; error relative to e^r
   largest error 2^-28.22, at -0.194688 */
#define LF_EXPM1 {0x1.fffffc0000000p-2f, 0x1.55548c0000000p-3f, 0x1.5558580000000p-5f, 0x1.123de00000000p-7f, 0x1.6ac74e0000000p-10f}
#define LF_EXPM1_TERMS 5

/* e^r - 1 - r = r^2/2 + r^3 Q(r), |r| <= 1; error relative to that
   largest error 2^-25.85, at -1 */
#define LF_CUBIC {0x1.5555560000000p-3f, 0x1.5555560000000p-5f, 0x1.1111120000000p-7f, 0x1.6c16c20000000p-10f, 0x1.a01a020000000p-13f, 0x1.a01a020000000p-16f, 0x1.71de3a0000000p-19f, 0x1.27e4fc0000000p-22f, 0x1.ae64560000000p-26f}
#define LF_CUBIC_TERMS 9

/* 2 atanh(s) = 2 s + s z P(z), z = s^2, 1/sqrt(2) <= (1+s)/(1-s) <= sqrt(2); error
   relative to 2 atanh(s), times 2
   largest error 2^-34.23, at 0.0127794 */
#define LF_ATANH {0x1.5555540000000p-1f, 0x1.999c260000000p-2f, 0x1.23d3e00000000p-2f, 0x1.f13b220000000p-3f}
#define LF_ATANH_TERMS 4

/* ln 2 in two parts: the first has 13 bits, so that k times it is exact for every exponent k */
#define LF_LN2_HEAD 0x1.62e0000000000p-1f
#define LF_LN2_TAIL 0x1.0bfbe80000000p-15f
#define LF_LOG2E 0x1.7154760000000p+0f
#endif

#if LF_DTYPE == 64
/* e^r - 1 = r + r^2 P(r), |r| <= ln(2)/2; error relative to e^r
   largest error 2^-56.58, at 0.346487 */
#define LF_EXPM1 {0x1.0000000000000p-1, 0x1.555555555555dp-3, 0x1.555555555556cp-5, 0x1.111111110e54bp-7, 0x1.6c16c16c0a407p-10, 0x1.a01a01b5eea27p-13, 0x1.a01a01e8bc154p-16, 0x1.71ddeaf531b72p-19, 0x1.27e448397b572p-22, 0x1.af6ff9cee515ap-26, 0x1.200cc97dfaa37p-29}
#define LF_EXPM1_TERMS 11

/* e^r - 1 - r = r^2/2 + r^3 Q(r), |r| <= 1; error relative to that
   largest error 2^-55.60, at -1 */
#define LF_CUBIC {0x1.5555555555555p-3, 0x1.5555555555555p-5, 0x1.1111111111111p-7, 0x1.6c16c16c16c17p-10, 0x1.a01a01a01a01ap-13, 0x1.a01a01a01a01ap-16, 0x1.71de3a556c734p-19, 0x1.27e4fb7789f5cp-22, 0x1.ae64567f544e4p-26, 0x1.1eed8eff8d898p-29, 0x1.6124613a86d09p-33, 0x1.93974a8c07c9dp-37, 0x1.ae7f3e733b81fp-41, 0x1.ae7f3e733b81fp-45, 0x1.952c77030ad4ap-49, 0x1.6827863b97d97p-53, 0x1.2f49b46814157p-57}
#define LF_CUBIC_TERMS 17

/* 2 atanh(s) = 2 s + s z P(z), z = s^2, 1/sqrt(2) <= (1+s)/(1-s) <= sqrt(2); error
   relative to 2 atanh(s), times 2
   largest error 2^-65.59, at 0.0118595 */
#define LF_ATANH {0x1.5555555555555p-1, 0x1.9999999999d11p-2, 0x1.24924924397f8p-2, 0x1.c71c724b66ec0p-3, 0x1.745ce1c8c9b8bp-3, 0x1.3b20247f9477ap-3, 0x1.0f67445c2929bp-3, 0x1.0f0dd113d5253p-3}
#define LF_ATANH_TERMS 8

/* ln 2 in two parts: the first has 40 bits, so that k times it is exact for every exponent k */
#define LF_LN2_HEAD 0x1.62e42fefa4000p-1
#define LF_LN2_TAIL -0x1.8432a1b0e2634p-43
#define LF_LOG2E 0x1.71547652b82fep+0
#endif

