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

/* log cosh a = z/2 + z^2 P(z), z = a^2, a <= 3/4; relative error
   largest error 2^-27.61, at 0.274008 */
#define LF_LOG_COSH {-0x1.5555200000000p-4f, 0x1.6c01280000000p-6f, -0x1.b73cfe0000000p-8f, 0x1.08d6be0000000p-9f, -0x1.c6fae00000000p-12f}
#define LF_LOG_COSH_TERMS 5

/* log(t!) = t (t - 1) P(t), 0 <= t <= 1; relative error
   largest error 2^-26.36, at 0.772625 */
#define LF_LOG_FACTORIAL {0x1.2788d00000000p-1f, -0x1.f646be0000000p-3f, 0x1.3e5b1c0000000p-3f, -0x1.d7df720000000p-4f, 0x1.78f4620000000p-4f, -0x1.313d820000000p-4f, 0x1.c496ca0000000p-5f, -0x1.081a6a0000000p-5f, 0x1.903cee0000000p-7f, -0x1.1a5eea0000000p-9f}
#define LF_LOG_FACTORIAL_TERMS 10

/* log(t!) = (t + 1/2) log t - t + log(2 pi)/2 + P(1/t^2) / t, t >= 8; absolute error of P
   largest error 2^-25.13, at 0.015623 */
#define LF_STIRLING {0x1.55554e0000000p-4f, -0x1.6a7b6e0000000p-9f}
#define LF_STIRLING_TERMS 2

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

/* log cosh a = z/2 + z^2 P(z), z = a^2, a <= 3/4; relative error
   largest error 2^-58.66, at 0.530648 */
#define LF_LOG_COSH {-0x1.5555555555537p-4, 0x1.6c16c16c13238p-6, -0x1.ba1ba1b7b287bp-8, 0x1.1ea5d33470d6ap-9, -0x1.833d882394f46p-11, 0x1.0d0a0ad0de9f3p-12, -0x1.7d87b05761214p-14, 0x1.122ab6c0f342fp-15, -0x1.88d7889dddaccp-17, 0x1.09a8b977e7e0cp-18, -0x1.24ebe7a0aac76p-20, 0x1.71fb55f7ad482p-23}
#define LF_LOG_COSH_TERMS 12

/* log(t!) = t (t - 1) P(t), 0 <= t <= 1; relative error
   largest error 2^-56.68, at 0.982125 */
#define LF_LOG_FACTORIAL {0x1.2788cfc6fb619p-1, -0x1.f6465978d4791p-3, 0x1.3e5452048863cp-3, -0x1.d7a3e6ac1c60fp-4, 0x1.79cf9cb587092p-4, -0x1.3cb202337ff37p-4, 0x1.1155bc08e0ae5p-4, -0x1.e18ae051c656cp-5, 0x1.aec7989053681p-5, -0x1.86c02d7951c7ap-5, 0x1.68e5929ec48f5p-5, -0x1.5832eb82e9583p-5, 0x1.59f155c1c6474p-5, -0x1.6f3bbb75813f3p-5, 0x1.8ad643500355ap-5, -0x1.8f6151e5fef87p-5, 0x1.6186acbddf39cp-5, -0x1.02b0dd47c6a30p-5, 0x1.2a8e6bcd96c82p-6, -0x1.02ab67c4ecfc6p-7, 0x1.3a926cc0e3d5dp-9, -0x1.dd4fe788b43a9p-12, 0x1.5354d09f99fe3p-15}
#define LF_LOG_FACTORIAL_TERMS 23

/* log(t!) = (t + 1/2) log t - t + log(2 pi)/2 + P(1/t^2) / t, t >= 8; absolute error of P
   largest error 2^-57.58, at 0.00748633 */
#define LF_STIRLING {0x1.5555555555555p-4, -0x1.6c16c16c09cf3p-9, 0x1.a01a00fc4d134p-11, -0x1.3812c05bdf452p-11, 0x1.b8e7282922c04p-11, -0x1.e7c81fbbdf0f0p-10, 0x1.221d411b7946dp-8}
#define LF_STIRLING_TERMS 7

/* ln 2 in two parts: the first has 40 bits, so that k times it is exact for every exponent k */
#define LF_LN2_HEAD 0x1.62e42fefa4000p-1
#define LF_LN2_TAIL -0x1.8432a1b0e2634p-43
#define LF_LOG2E 0x1.71547652b82fep+0
#endif

