// NEON, which every 64-bit ARM CPU has.
#if defined(__aarch64__)
#define NEON_PLAIN
#define NEON_TABLE ebb_neon_kernels
#define NEON_NAME "neon"
#include "neon.inc"
#endif
