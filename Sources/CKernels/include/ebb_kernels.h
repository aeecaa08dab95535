// Ebb's arithmetic on raw pointers: no allocation, no I/O, no state besides the chosen table of functions.
//
// Terms. A matrix W has n output channels and k input channels. It is stored in tiles of 16 output
// channels; a tile is a row of records, each covering `span` values of k (docs/ebb-format.md).
// Activations are rows (tokens) of k values, packed so that a row block (up to 8 rows) is interleaved
// in groups of 4 values of k: one 32-bit broadcast feeds one integer dot product.
#ifndef EBB_KERNELS_H
#define EBB_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define EBB_TILE 16u          // output channels in a tile
#define EBB_ROW_BLOCK 8u      // rows interleaved in packed activations
#define EBB_KV_BLOCK 32u      // tokens in a block of the KV cache
#define EBB_KV_INT8 0x80000000u // set in the number of a block that is int8
#define EBB_QUERY_ROWS 64u    // query rows that attention in bf16 takes at most
#define EBB_PANEL_K 1024u     // values of k unpacked at a time in matrix products
#define EBB_MAX_HEAD_DIM 256u // largest head dimension that attention takes
// Scratch that one thread passes to matmul: a panel of bytes or floats, then scales and offsets (f32,
// one for every 16 values of k at the finest).
enum { EBB_SCRATCH_BYTES = EBB_PANEL_K * EBB_TILE * 4u + 2u * (EBB_PANEL_K / 16u) * EBB_TILE * 4u };

typedef enum {
    EBB_ENCODING_QUANTIZED = 0, // bit planes and scales
    EBB_ENCODING_F32 = 1,       // [tile][k][16] float
    EBB_ENCODING_F16 = 2,       // [tile][k][16] IEEE half
    EBB_ENCODING_BF16 = 3,      // [tile][k][16] bfloat16
} ebb_encoding;

typedef enum {
    EBB_SCALE_F16 = 0,              // scale (and offset) f16, one for each block and channel
    EBB_SCALE_F32 = 1,              // the same in f32
    EBB_SCALE_TWO_LEVEL = 2,        // 8-bit scale (and min) a block under an f16 super-scale a record
    EBB_SCALE_TWO_LEVEL_PACKED = 3, // 4-bit scale and 4-bit min in one byte a block, f16 super-scales
    EBB_SCALE_E8M0 = 4,             // scale 2^(e - 128), one byte e for each block and channel
} ebb_scale_kind;

// What the quantized values stand for. All but the first are tables of signed bytes, for symmetric matrices of 3 or 4 bits;
// the table's unit is multiplied into two-level scales.
typedef enum {
    EBB_VALUES_LINEAR = 0,  // q itself, or q - 2^(bits-1)
    EBB_VALUES_IQ4NL = 1,   // 4 bits: ggml's IQ4_NL and IQ4_XS
    EBB_VALUES_E2M1 = 2,    // 4 bits: twice the floats of 4 bits of the OCP's microscaling formats (MXFP4, NVFP4)
    EBB_VALUES_IQ1 = 3,     // 3 bits: eighths, ggml's IQ1_S and IQ1_M
    EBB_VALUES_IQ2 = 4,     // 3 bits: eighths, ggml's IQ2_XXS, IQ2_XS and IQ2_S
    EBB_VALUES_IQ3XXS = 5,  // 4 bits: quarters, ggml's IQ3_XXS
    EBB_VALUES_IQ3S = 6,    // 4 bits: ggml's IQ3_S
    EBB_VALUES_COUNT = 7,
} ebb_values;

// A weight matrix in the layout of the container, used in place.
typedef struct {
    const uint8_t *data;   // first record of tile 0
    uint32_t n, k;         // output and input channels
    uint32_t encoding;     // ebb_encoding
    uint32_t bits;         // 2...8; 0 for float encodings
    uint32_t scale_kind;   // ebb_scale_kind
    uint32_t asymmetric;   // 1: w = scale * q + offset; 0: w = scale * (q - 2^(bits-1))
    uint32_t values;       // ebb_values; where it is a table, w = scale * table[q]
    uint32_t block;        // values of k that share a scale: a power of two, or `span`
    uint32_t span;         // values of k in a record: a multiple of 32 and of block
    uint32_t records;      // records in a tile: ceil(k / span)
    uint32_t record_bytes; // bytes of a record
} ebb_matrix;

// Rows of activations. Padded length kp = k rounded up to 32. Row block b starts at row 8b and holds
// r = min(8, rows - 8b) rows; its arrays start where the earlier rows' values end.
typedef struct {
    uint32_t rows, k, kp;
    uint32_t block;  // values of k that share an activation scale: 16 or 32
    uint32_t steady; // 1: a row's products have the same bits however many rows there are; 0: few rows may have a faster way
    int8_t *q;       // [row block][kp/4][r][4] quantized values, -127...127
    float *scale;    // [row block][kp/block][r]
    float *sum;      // [row block][kp/32][r]: the sum of scale * q over 32 values
    int32_t *sum32;  // [row block][kp/32][r]: sum of q
    int32_t *sum16;  // [row block][kp/16][r]: sum of q over 16 values
    uint32_t *lanes; // [row block][kp/16][r]: the same in 16 bits each, of places 0 and 1 of each four values (low half), and
                     // of places 2 and 3; what only AVX2's products read, only x86's quantize must write
    float *f;        // [row block][k][r] float values, for float products
    uint32_t *pairs; // [row block][(k+1)/2][r] values 2i (low half) and 2i+1 in bf16, for bf16 products
} ebb_activations;

// Where one head's keys and values lie: blocks of 32 tokens.
// f16: keys [head_dim][32], values [32][head_dim].
// int8, where the block's number has EBB_KV_INT8: keys u8 [head_dim][32], values s8 [32][head_dim], then f32: scales of
// the keys [head_dim], their offsets [head_dim], scales of the values [32]. A key is scale * q + offset, a channel's over
// the block (KIVI: Liu et al. 2024); a value is scale * q, a token's.
typedef struct {
    const uint8_t *base;     // the pool
    const uint32_t *blocks;  // block numbers of a sequence's layer, in order of position
    size_t block_bytes;      // bytes of a block
    size_t key_offset;       // byte offset of this head's keys in a block
    size_t value_offset;     // byte offset of this head's values in a block
    uint32_t head_dim;       // a multiple of 16, at most EBB_MAX_HEAD_DIM
    uint32_t ring_blocks;    // 0, or the number of blocks that are used in a ring
    const uint8_t *int8_base; // the pool of int8 blocks
    size_t int8_block_bytes;  // bytes of one
    size_t int8_offset;       // byte offset of this head in one
} ebb_kv_view;

// Bytes of one head in an int8 block.
static inline size_t ebb_kv_int8_bytes(uint32_t head_dim) {
    return 2 * (size_t)EBB_KV_BLOCK * head_dim + (2 * (size_t)head_dim + EBB_KV_BLOCK) * sizeof(float);
}

// Up to 8 query rows (EBB_QUERY_ROWS in bf16) that share one KV head: rows first...first + rows - 1 of the list
// (token, head) that runs through the `group` query heads of a token, then through the tokens.
typedef struct {
    uint32_t rows, first, group;
    uint32_t position;  // of token 0; a token sees itself and what lies before it
    uint32_t window;    // it sees only the last `window` tokens, itself included; 0: all
    float scale;        // multiplied into the queries, usually head_dim^-1/2
    float softcap;      // scores s become softcap * tanh(s / softcap) (Gemma Team 2024); 0: they stay
    const float *sinks; // [group]: a score that takes part in each softmax with no value (Xiao et al. 2024); NULL: none
    const float *q;     // [token][ld]: the group's heads, head_dim values each
    float *out;         // the same shape
    size_t ld;
} ebb_queries;

// Sums over a block of weights w[0...n) under w' = scale * q + offset, each term times h (1 where there is no h).
typedef struct {
    float error;         // Σ h (w - w')^2
    float h, q, qq;      // Σ h, Σ h q, Σ h q^2
    float t, tq;         // Σ h t, Σ h t q; t is the target: w, or w less the shrunk error
} ebb_block_sums;

// How much of an error the half-quadratic step takes away (Badri & Shaji 2023):
// e' = sign(e) max(|e| - |e|^(p-1) / beta, 0). beta 0: e' = 0, and the target is w.
typedef struct {
    float beta, p;
} ebb_shrinkage;

typedef struct ebb_kernels {
    const char *name;

    // Quantizes rows [row0, row0 + r) (one row block; row0 a multiple of 8) of x [rows][ldx] into a.
    // A scale is max|x| / 127 over the block; values are rounded to nearest even.
    void (*quantize)(const float *x, size_t ldx, uint32_t row0, uint32_t r, const ebb_activations *a);
    // Packs the same rows as floats into a->f.
    void (*pack)(const float *x, size_t ldx, uint32_t row0, uint32_t r, const ebb_activations *a);

    // out[row][channel] = a W^T for tiles [tile0, tile1), integer products. `out` is [rows][ldo] and
    // may be written only at channels of those tiles below n. w must be quantized.
    void (*matmul_q)(const ebb_matrix *w, const ebb_activations *a, uint32_t tile0, uint32_t tile1,
                     float *out, size_t ldo, void *scratch);
    // The same in float on float tiles (EBB_ENCODING_F32, F16 or BF16), reading a->f.
    void (*matmul_f)(const ebb_matrix *w, const ebb_activations *a, uint32_t tile0, uint32_t tile1,
                     float *out, size_t ldo, void *scratch);
    // The same on bf16 tiles with activations rounded to bf16 and sums in float: packs rows into a->pairs, and multiplies
    // them. Keys and values as their weights, as ebb_key_tiles and ebb_value_tiles have them in float. NULL where the CPU
    // has no such products.
    void (*key_tiles_bf16)(const float *x, size_t ld, uint32_t tokens, uint32_t dim, uint16_t *out);
    void (*value_tiles_bf16)(const float *x, size_t ld, uint32_t tokens, uint32_t dim, uint16_t *out);
    void (*pack_bf16)(const float *x, size_t ldx, uint32_t row0, uint32_t r, const ebb_activations *a);
    void (*matmul_bf16)(const ebb_matrix *w, const ebb_activations *a, uint32_t tile0, uint32_t tile1,
                        float *out, size_t ldo, void *scratch);
    // Expands tiles [tile0, tile1) of a quantized matrix into float tiles [tile][k][16], f16, bf16 or f32
    // (by `encoding`). `out` is the start of the whole expanded matrix.
    void (*expand)(const ebb_matrix *w, uint32_t tile0, uint32_t tile1, uint32_t encoding, void *out);

    // out = x / sqrt(mean(x^2) + eps) * weight, n values (Zhang & Sennrich 2019).
    void (*rms_norm)(const float *x, const float *weight, float *out, uint32_t n, float eps);
    // Rotates `heads` heads of head_dim values in place by the angles whose cosine and sine are given
    // (head_dim / 2 each). interleaved: pairs (2i, 2i+1); else (i, i + head_dim/2) (Su et al. 2021).
    void (*rope)(float *x, const float *cosine, const float *sine, uint32_t heads, uint32_t head_dim,
                 uint32_t interleaved);
    // Quantizes rows as `quantize` does, with fixed scales: q = x * multipliers[i], rounded, at most 127 in magnitude.
    // Writes a->q, and the sum of each row's q into a->sum32[row].
    void (*quantize_static)(const float *x, size_t ldx, uint32_t row0, uint32_t r, const float *multipliers,
                            const ebb_activations *a);
    // out = scale * a W^T in integers over the whole of k, for rows from quantize_static and a symmetric 8-bit W with
    // one f16 scale a channel (a single record a tile), straight from the container.
    void (*matmul_s)(const ebb_matrix *w, const ebb_activations *a, float scale, uint32_t tile0, uint32_t tile1,
                     float *out, size_t ldo);
    // out = (x - mean) / sqrt(variance + eps) * weight + bias, n values (Ba et al. 2016); out may be x.
    void (*layer_norm)(const float *x, const float *weight, const float *bias, float *out, uint32_t n, float eps);
    // x = gelu(x + bias) with the exact error function (Hendrycks & Gimpel 2016), n values in place.
    void (*gelu)(float *x, const float *bias, uint32_t n);

    // The quantizer's inner loops. q runs from 0 to `top`, at most 255; a scale of 0 makes every q 0.
    void (*range)(const float *w, uint32_t n, float *low, float *high);
    void (*encode)(const float *w, uint32_t n, float scale, float offset, uint32_t top, uint8_t *q);
    void (*block_sums)(const float *w, const float *h, uint32_t n, float scale, float offset, uint32_t top,
                       ebb_shrinkage shrinkage, ebb_block_sums *sums);
    // What this instruction set can do at most: `rounds` of dependent-free dot products of int8, and of float FMA, in
    // registers. Return the operations done (a multiply-add is two); the sink keeps the compiler from skipping them.
    uint64_t (*peak_int8)(uint64_t rounds, int32_t *sink);
    uint64_t (*peak_float)(uint64_t rounds, float *sink);
    // Reads `bytes` (a multiple of 512) and returns a sum of them: the speed of memory.
    uint32_t (*read)(const void *memory, size_t bytes);
    // y += a x, n values.
    void (*axpy)(float *y, const float *x, float a, uint32_t n);
    // Softmax of n values in place.
    void (*softmax)(float *x, uint32_t n);
    // Attention with online softmax (Milakov & Gimelshein 2018; Dao et al. 2022) over KV blocks.
    void (*attention)(const ebb_kv_view *kv, const ebb_queries *queries);
    // The same for many rows without softcap and sinks, with queries, keys, values and weights rounded to bf16 and sums in
    // float; NULL where the CPU has no such products.
    void (*attention_bf16)(const ebb_kv_view *kv, const ebb_queries *queries);
    // out = silu(gate) * up, and gelu_tanh(gate) * up; n values; out may be gate or up.
    void (*silu_gate)(const float *gate, const float *up, float *out, uint32_t n);
    void (*gelu_gate)(const float *gate, const float *up, float *out, uint32_t n);
    // out = g sigmoid(1.702 g) * (u + 1) with g = min(gate, 7) and u = up clamped to +-7 (gpt-oss; OpenAI 2025).
    void (*clamped_gate)(const float *gate, const float *up, float *out, uint32_t n);
    // x = cap * tanh(x / cap), n values in place.
    void (*soft_cap)(float *x, float cap, uint32_t n);
    // x += y, n values.
    void (*add)(float *x, const float *y, uint32_t n);
    // Writes one token's keys and values (kv_heads heads of head_dim floats each) as f16 into place
    // `slot` (0...31) of a KV block: keys [kv_head][head_dim][32], values [kv_head][32][head_dim].
    void (*store_kv)(const float *k, const float *v, uint8_t *block, size_t values_offset,
                     uint32_t kv_heads, uint32_t head_dim, uint32_t slot);
    // One head of a block from f16 to int8, and back.
    void (*kv_to_int8)(const uint16_t *keys, const uint16_t *values, uint32_t head_dim, uint8_t *out);
    void (*kv_from_int8)(const uint8_t *in, uint32_t head_dim, uint16_t *keys, uint16_t *values);
} ebb_kernels;

typedef enum {
    EBB_ISA_PLAIN = 0,
    EBB_ISA_AVX2 = 1,
    EBB_ISA_AVXVNNI = 2,
    EBB_ISA_AVX512VNNI256 = 3,
    EBB_ISA_AVX512VNNI = 4,
    EBB_ISA_AVX512BF16 = 5,
    EBB_ISA_NEON = 6,
    EBB_ISA_NEON_DOTPROD = 7,
    EBB_ISA_NEON_I8MM = 8,
    EBB_ISA_COUNT = 9, // later ones are better
} ebb_isa;

// The table of an instruction set, or NULL if this CPU (or operating system) lacks it, or is of another architecture.
const ebb_kernels *ebb_kernels_for(ebb_isa isa);
// The name of an instruction set, whether or not this CPU has it: `plain`, `avx2`, …
const char *ebb_isa_name(ebb_isa isa);
// The best table this CPU has.
const ebb_kernels *ebb_kernels_best(void);

// The 16 signed bytes of a table of values (3 bits: 8 of them, and zeros), and what two-level scales are multiplied with. A
// linear one, or an unknown number, has zeros and 1.
const int8_t *ebb_table_of(ebb_values values);
float ebb_unit_of(ebb_values values);

// One output channel of any matrix as floats: out[0...k). For embedding look-up and tests.
void ebb_dequantize_channel(const ebb_matrix *w, uint32_t channel, float *out);

// Attention of encoders runs on the matrix products: these lay one head's keys and values [tokens][ld] out as the
// weights of a product. Keys: n = tokens, k = dim; values: n = dim, k = tokens. dim is a multiple of 16.
void ebb_key_tiles(const float *x, size_t ld, uint32_t tokens, uint32_t dim, float *out);
void ebb_value_tiles(const float *x, size_t ld, uint32_t tokens, uint32_t dim, float *out);
// The same as 8-bit planes with scales of 1: q = x * multiplier + 128, rounded. Bytes as ebb_static_bytes says.
void ebb_key_tiles_8(const float *x, size_t ld, uint32_t tokens, uint32_t dim, float multiplier, uint8_t *out);
void ebb_value_tiles_8(const float *x, size_t ld, uint32_t tokens, uint32_t dim, float multiplier, uint8_t *out);
// The description of such a matrix [n, k], and the bytes it takes.
ebb_matrix ebb_static_matrix(const uint8_t *data, uint32_t n, uint32_t k);
size_t ebb_static_bytes(uint32_t n, uint32_t k);

// Conversions used by readers and tests; round to nearest even.
float ebb_f16_to_f32(uint16_t h);
uint16_t ebb_f32_to_f16(float f);
float ebb_bf16_to_f32(uint16_t h);
uint16_t ebb_f32_to_bf16(float f);

// x^y and ln x of C's library.
float ebb_powf(float x, float y);
double ebb_log(double x);

// A hint to the CPU that the caller spins.
static inline void ebb_cpu_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
