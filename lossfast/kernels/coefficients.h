/* Made by coefficients.py: do not edit. */
#if LF_DTYPE == 32
/* e^r - 1 = r + r^2 P(r), |r| <= ln(2)/2; error relative to e^r
   largest error 2^-28.22, at 0.306458 */
#define LF_EXPM1 {0x1.fffffc0000000p-2f, 0x1.55548c0000000p-3f, 0x1.5558580000000p-5f, 0x1.123de80000000p-7f, 0x1.6ac8220000000p-10f}
#define LF_EXPM1_TERMS 5

/* e^t - 1 - t = t^2 P(t), |t| <= 1; relative error
   largest error 2^-26.58, at 0.91975 */
#define LF_PHI {0x1.0000000000000p-1f, 0x1.5555560000000p-3f, 0x1.55557a0000000p-5f, 0x1.1110e00000000p-7f, 0x1.6bffb00000000p-10f, 0x1.a028ca0000000p-13f, 0x1.a9622a0000000p-16f, 0x1.7416f40000000p-19f}
#define LF_PHI_TERMS 8

/* 2 atanh(s) = 2 s + s z P(z), z = s^2, 1/sqrt(2) <= (1+s)/(1-s) <= sqrt(2); error
   relative to 2 atanh(s), times 2
   largest error 2^-34.23, at 0.0127794 */
#define LF_ATANH {0x1.5555540000000p-1f, 0x1.999c260000000p-2f, 0x1.23d3e00000000p-2f, 0x1.f13b220000000p-3f}
#define LF_ATANH_TERMS 4

/* The same for 3/4 <= (1+s)/(1-s) <= 3/2
   largest error 2^-27.39, at 0.019325 */
#define LF_LOG1P {0x1.5555b40000000p-1f, 0x1.992aa80000000p-2f, 0x1.36ecc00000000p-2f}
#define LF_LOG1P_TERMS 3

/* ln 2 in two parts: the first has 13 bits, so that k times it is exact for every exponent k */
#define LF_LN2_HEAD 0x1.62e0000000000p-1f
#define LF_LN2_TAIL 0x1.0bfbe80000000p-15f
#define LF_LOG2E 0x1.7154760000000p+0f
#endif

#if LF_DTYPE == 64
/* e^r - 1 = r + r^2 P(r), |r| <= ln(2)/2; error relative to e^r
   largest error 2^-62.93, at 0.346487 */
#define LF_EXPM1 {0x1.0000000000000p-1, 0x1.555555555555dp-3, 0x1.555555555556cp-5, 0x1.111111110e54bp-7, 0x1.6c16c16c0a3fcp-10, 0x1.a01a01b5f38b3p-13, 0x1.a01a01e8bbca4p-16, 0x1.71ddeab2458a8p-19, 0x1.27e44a6426055p-22, 0x1.af74348bbe127p-26, 0x1.20502b42f0c49p-29}
#define LF_EXPM1_TERMS 11

/* e^t - 1 - t = t^2 P(t), |t| <= 1; relative error
   largest error 2^-58.98, at -0.97525 */
#define LF_PHI {0x1.0000000000000p-1, 0x1.5555555555555p-3, 0x1.5555555555555p-5, 0x1.1111111111174p-7, 0x1.6c16c16c16c4ep-10, 0x1.a01a01a01340fp-13, 0x1.a01a01a028505p-16, 0x1.71de3a5601879p-19, 0x1.27e4fb5ce26d6p-22, 0x1.ae645bbf16d64p-26, 0x1.1eedafc4595cdp-29, 0x1.611e5794a5ed6p-33, 0x1.93744d716c074p-37, 0x1.b3aec90cd960dp-41, 0x1.bd963dbb2517ap-45}
#define LF_PHI_TERMS 15

/* 2 atanh(s) = 2 s + s z P(z), z = s^2, 1/sqrt(2) <= (1+s)/(1-s) <= sqrt(2); error
   relative to 2 atanh(s), times 2
   largest error 2^-65.59, at 0.0118595 */
#define LF_ATANH {0x1.5555555555555p-1, 0x1.9999999999d11p-2, 0x1.24924924397f8p-2, 0x1.c71c724b66ec0p-3, 0x1.745ce1c8c9b8bp-3, 0x1.3b20247f9477bp-3, 0x1.0f67445c29278p-3, 0x1.0f0dd113d5304p-3}
#define LF_ATANH_TERMS 8

/* The same for 3/4 <= (1+s)/(1-s) <= 3/2
   largest error 2^-61.66, at 0.035365 */
#define LF_LOG1P {0x1.555555555554fp-1, 0x1.999999999c175p-2, 0x1.24924921e4c27p-2, 0x1.c71c748f33685p-3, 0x1.745c4b02b7c05p-3, 0x1.3b35bb36439ecp-3, 0x1.0dcbfb1b812aep-3, 0x1.1b7ebe3db8fc2p-3}
#define LF_LOG1P_TERMS 8

/* ln 2 in two parts: the first has 40 bits, so that k times it is exact for every exponent k */
#define LF_LN2_HEAD 0x1.62e42fefa4000p-1
#define LF_LN2_TAIL -0x1.8432a1b0e2634p-43
#define LF_LOG2E 0x1.71547652b82fep+0
#endif

