// AVX2 without VNNI.
#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#define AVX_TABLE ebb_avx2_kernels
#define AVX_NAME "avx2"
#include "avx2.inc"
#pragma clang attribute pop
#endif
