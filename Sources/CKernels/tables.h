// The tables that the instruction sets define.
#ifndef EBB_TABLES_H
#define EBB_TABLES_H
#include "ebb_kernels.h"
extern const ebb_kernels ebb_plain_kernels;
#if defined(__x86_64__)
extern const ebb_kernels ebb_avx2_kernels;
extern const ebb_kernels ebb_avxvnni_kernels;
extern const ebb_kernels ebb_avx512vnni256_kernels;
extern const ebb_kernels ebb_avx512vnni_kernels;
extern const ebb_kernels ebb_avx512bf16_kernels;
void ebb_attention_bf16(const ebb_kv_view *kv, const ebb_queries *queries);
#elif defined(__aarch64__)
extern const ebb_kernels ebb_neon_kernels;
extern const ebb_kernels ebb_neon_dotprod_kernels;
extern const ebb_kernels ebb_neon_i8mm_kernels;
#endif
#endif
