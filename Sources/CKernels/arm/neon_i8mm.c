// NEON with smmla (ARMv8.6 i8mm), and usdot for single rows; CPUs that have it have dotprod too.
#if defined(__aarch64__)
#pragma clang attribute push(__attribute__((target("dotprod,i8mm"))), apply_to = function)
#define NEON_I8MM
#define NEON_TABLE ebb_neon_i8mm_kernels
#define NEON_NAME "neon_i8mm"
#include "neon.inc"
#pragma clang attribute pop
#endif
