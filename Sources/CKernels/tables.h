// The tables that the instruction sets define.
#ifndef EBB_TABLES_H
#define EBB_TABLES_H
#include "ebb_kernels.h"
// What every instruction set has, under the same names; QUANTIZE and QUANTIZE_STATIC where it has faster ones.
#define EBB_KERNELS(NAME, QUANTIZE, QUANTIZE_STATIC) \
    .name = NAME, .quantize = QUANTIZE, .pack = pack, .matmul_q = matmul_q, .matmul_f = matmul_f, .expand = expand, \
    .rms_norm = rms_norm, .rope = rope, .softmax = softmax, .attention = attention, .silu_gate = silu_gate, \
    .gelu_gate = gelu_gate, .clamped_gate = clamped_gate, .add = add, .store_kv = store_kv, .kv_to_int8 = kv_to_int8, \
    .kv_from_int8 = kv_from_int8, .soft_cap = soft_cap, \
    .quantize_static = QUANTIZE_STATIC, .matmul_s = matmul_s, .layer_norm = layer_norm, .gelu = gelu, .range = range, \
    .encode = encode, .block_sums = block_sums, .axpy = axpy, .peak_int8 = peak_int8, .peak_float = peak_float, \
    .read = read_memory

extern const ebb_kernels ebb_plain_kernels;
#if defined(__x86_64__)
extern const ebb_kernels ebb_avx2_kernels;
extern const ebb_kernels ebb_avxvnni_kernels;
extern const ebb_kernels ebb_avx512vnni256_kernels;
extern const ebb_kernels ebb_avx512vnni_kernels;
extern const ebb_kernels ebb_avx512bf16_kernels;
void ebb_attention_bf16(const ebb_kv_view *kv, const ebb_queries *queries);
void ebb_key_tiles_bf16(const float *x, size_t ld, uint32_t tokens, uint32_t dim, uint16_t *out);
void ebb_value_tiles_bf16(const float *x, size_t ld, uint32_t tokens, uint32_t dim, uint16_t *out);
void ebb_pack_bf16(const float *x, size_t ldx, uint32_t row0, uint32_t r, const ebb_activations *a);
void ebb_matmul_bf16(const ebb_matrix *w, const ebb_activations *a, uint32_t tile0, uint32_t tile1, float *out, size_t ldo,
                     void *scratch);
#elif defined(__aarch64__)
extern const ebb_kernels ebb_neon_kernels;
extern const ebb_kernels ebb_neon_dotprod_kernels;
extern const ebb_kernels ebb_neon_i8mm_kernels;
#endif
#endif
