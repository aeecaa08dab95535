// NEON with sdot (ARMv8.2 dotprod).
#if defined(__aarch64__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#define NEON_DOTPROD
#define NEON_TABLE ebb_neon_dotprod_kernels
#define NEON_NAME "neon_dotprod"
#include "neon.inc"
#pragma clang attribute pop
#endif
