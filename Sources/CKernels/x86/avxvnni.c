// AVX-VNNI: 256-bit dot products on CPUs without AVX-512.
#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avxvnni"))), apply_to = function)
#define DPBUSD _mm256_dpbusd_avx_epi32
#define AVX_TABLE ebb_avxvnni_kernels
#define AVX_NAME "avxvnni"
#include "avx2.inc"
#pragma clang attribute pop
#endif
