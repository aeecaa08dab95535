// The same with the instructions of AVX-512 VL and VNNI, at 256 bits: for CPUs that slow down at 512 bits (EBB_ISA).
#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512vl,avx512vnni"))), apply_to = function)
#define DPBUSD _mm256_dpbusd_epi32
#define AVX_TABLE ebb_avx512vnni256_kernels
#define AVX_NAME "avx512vnni256"
#include "avx2.inc"
#pragma clang attribute pop
#endif
