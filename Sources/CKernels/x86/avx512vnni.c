// AVX-512 with VNNI: one line of the layout is one operand of vpdpbusd.
#if defined(__x86_64__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c"))), apply_to = function)
#define VL 16
#include "portable/float_kernels.inc"
#include "portable/encoder_kernels.inc"
#include "portable/quantizer_kernels.inc"
#include "tables.h"

#include "avx512vnni_rows.inc"

// ---- weights

// 32 values of k (8 groups) of a tile out of the planes, as unsigned bytes.
ALWAYS void unpack_planes(uint32_t bits, const record_parts *p, const uint8_t *record, uint32_t chunk, __m512i q[8]) {
    if (bits == 8) {
        for (int g = 0; g < 8; g++) q[g] = _mm512_loadu_si512(record + p->plane8 + chunk * 512 + g * 64);
        return;
    }
    uint32_t shift = 0;
    for (int g = 0; g < 8; g++) q[g] = _mm512_setzero_si512();
    if (bits & 4) {
        __m512i mask = _mm512_set1_epi8(15);
        for (int l = 0; l < 4; l++) {
            __m512i v = _mm512_loadu_si512(record + p->plane4 + chunk * 256 + l * 64);
            q[2 * l] = _mm512_and_si512(v, mask);
            q[2 * l + 1] = _mm512_and_si512(_mm512_srli_epi16(v, 4), mask);
        }
        shift = 4;
    }
    if (bits & 2) {
        __m512i mask = _mm512_set1_epi8((char)(3 << shift));
        for (int l = 0; l < 2; l++) {
            __m512i v = _mm512_loadu_si512(record + p->plane2 + chunk * 128 + l * 64);
            for (int u = 0; u < 4; u++) {
                __m512i s = 2 * u > (int)shift ? _mm512_srli_epi16(v, 2 * u - shift) : _mm512_slli_epi16(v, shift - 2 * u);
                q[4 * l + u] = _mm512_or_si512(q[4 * l + u], _mm512_and_si512(s, mask));
            }
        }
        shift += 2;
    }
    if (bits & 1) {
        __m512i one = _mm512_set1_epi8((char)(1 << shift)), v = _mm512_loadu_si512(record + p->plane1 + chunk * 64);
        for (int u = 0; u < 8; u++) {
            __m512i s = u > (int)shift ? _mm512_srli_epi16(v, u - shift) : _mm512_slli_epi16(v, shift - u);
            q[u] = _mm512_or_si512(q[u], _mm512_and_si512(s, one));
        }
    }
}

// The same, or what a table has for them.
ALWAYS void unpack32(uint32_t width, const record_parts *p, const uint8_t *record, uint32_t chunk, __m512i q[8]) {
    unpack_planes(index_bits(width), p, record, chunk, q);
    if (!(width & LOOKS_UP)) return;
    for (int g = 0; g < 8; g++) q[g] = (__m512i)look_up(p->table, (int8_t)(1 << (value_bits(width) - 1)), (vbytes)q[g]);
}

// ---- a row block, straight from the records

enum { DIRECT_ROWS = EBB_ROW_BLOCK };

// As few_rows.inc says; a row block goes through whole.
ALWAYS void row_q(const ebb_matrix *matrix, uint32_t bits, uint32_t kind, uint32_t asymmetric, uint32_t block, uint32_t rows,
                  uint32_t halves, const ebb_activations *a, uint32_t r, uint32_t j0, uint32_t tile0, uint32_t tile1,
                  float *out, size_t ldo) {
    (void)r;
    (void)j0;
    ebb_matrix w = *matrix; // the constants let the compiler drop every other case
    set_format(&w, bits, kind, asymmetric, block);
    const uint32_t chunks_in_block = block ? 1 : w.block / 32;
    const record_parts p = parts_of(&w);
    const int32_t *q = (const int32_t *)a->q;
    const int zero = asymmetric ? 0 : 1 << (value_bits(bits) - 1);
    for (uint32_t t = tile0; t < tile1; t++) {
        const uint8_t *record = w.data + (size_t)t * w.records * w.record_bytes;
        __m512 f[EBB_ROW_BLOCK], f2[EBB_ROW_BLOCK];
        for (uint32_t j = 0; j < rows; j++) f[j] = f2[j] = _mm512_setzero_ps();
        uint32_t b = 0, blocks = a->kp / 32;
        vf s = {0}, o = {0};
        for (uint32_t rec = 0; rec < w.records; rec++, record += w.record_bytes)
            for (uint32_t chunk = 0; chunk < w.span / 32 && b < blocks; chunk++, b++) {
                if (one_level(kind) && block) {
                    for (uint32_t l = 0; l < w.record_bytes; l += 64) _mm_prefetch((const char *)record + 2048 + l, _MM_HINT_T0);
                } else {
                    uint32_t bytes = w.record_bytes / (w.span / 32);
                    for (uint32_t l = 0; l < bytes; l += 64)
                        _mm_prefetch((const char *)record + 3072 + chunk * bytes + l, _MM_HINT_T0);
                }
                __m512i v[8];
                unpack32(bits, &p, record, chunk, v);
                if (block && block >= 32) scales_vf(&w, &p, record, chunk * 32 / block, 0, &s, &o);
                else if (!block && chunk % chunks_in_block == 0) scales_vf(&w, &p, record, chunk / chunks_in_block, 0, &s, &o);
                for (uint32_t j = 0; j < rows; j++) {
                    // Two runs of 16 values: with one scale for both, their sums are added as integers.
                    __m512i acc[2];
                    const int32_t *sum16 = a->sum16 + 2 * b * rows + j;
                    for (uint32_t h = 0; h < 2; h++) {
                        acc[h] = _mm512_set1_epi32(asymmetric ? 0 : -zero * sum16[h * rows]);
                        for (uint32_t g = 4 * h; g < 4 * h + 4; g++)
                            acc[h] = _mm512_dpbusd_epi32(acc[h], v[g], _mm512_set1_epi32(q[(b * 8 + g) * rows + j]));
                    }
                    const float *scale = a->scale + (halves ? 2 * b : b) * rows + j;
                    if (block >= 32 || block == 0) {
                        if (halves) {
                            __m512 dot = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[0]), _mm512_set1_ps(scale[0]));
                            dot = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[1]), _mm512_set1_ps(scale[rows]), dot);
                            f[j] = _mm512_fmadd_ps(dot, (__m512)s, f[j]);
                        } else {
                            __m512 dot = _mm512_cvtepi32_ps(_mm512_add_epi32(acc[0], acc[1]));
                            f[j] = _mm512_fmadd_ps(dot, _mm512_mul_ps((__m512)s, _mm512_set1_ps(scale[0])), f[j]);
                        }
                        if (asymmetric) f2[j] = _mm512_fmadd_ps((__m512)o, _mm512_set1_ps(a->sum[b * rows + j]), f2[j]);
                    } else
                        for (uint32_t h = 0; h < 2; h++) {
                            float as = scale[halves ? h * rows : 0];
                            scales_vf(&w, &p, record, chunk * 2 + h, 0, &s, &o);
                            f[j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[h]), _mm512_mul_ps((__m512)s, _mm512_set1_ps(as)), f[j]);
                            if (asymmetric) f2[j] = _mm512_fmadd_ps((__m512)o, _mm512_set1_ps(as * (float)sum16[h * rows]), f2[j]);
                        }
                }
            }
        for (uint32_t j = 0; j < rows; j++)
            _mm512_mask_storeu_ps(out + j * ldo + t * EBB_TILE, mask_of(w.n - t * EBB_TILE), _mm512_add_ps(f[j], f2[j]));
    }
}

#include "integer/few_rows.inc"
#include "avx512vnni_panels.inc"
#include "integer/products.inc"

// ---- fixed scales: lines straight from the container, one scale at the end

// r rows by `tiles` (1 or 2) tiles of 16 channels.
ALWAYS void micro_s(const uint8_t *const lines[2], uint32_t tiles, uint32_t groups, const int32_t *q, const int32_t *sums,
                    uint32_t r, const __m512 scale[2], float *out, size_t ldo, const __mmask16 mask[2]) {
    __m512i acc[2][EBB_ROW_BLOCK];
    for (uint32_t j = 0; j < r; j++)
        for (uint32_t t = 0; t < tiles; t++) acc[t][j] = _mm512_set1_epi32(-128 * sums[j]);
    for (uint32_t g = 0; g < groups; g++, q += r) {
        __m512i w[2];
        for (uint32_t t = 0; t < tiles; t++) w[t] = _mm512_loadu_si512(lines[t] + (size_t)g * 64);
        for (uint32_t j = 0; j < r; j++) {
            __m512i x = _mm512_set1_epi32(q[j]);
            for (uint32_t t = 0; t < tiles; t++) acc[t][j] = _mm512_dpbusd_epi32(acc[t][j], w[t], x);
        }
    }
    for (uint32_t j = 0; j < r; j++)
        for (uint32_t t = 0; t < tiles; t++)
            _mm512_mask_storeu_ps(out + j * ldo + t * EBB_TILE, mask[t], _mm512_mul_ps(_mm512_cvtepi32_ps(acc[t][j]), scale[t]));
}

#define MICRO_S(R) case R: \
    if (tiles == 2) micro_s(lines, 2, groups, q, sums, R, scale, out, ldo, mask); \
    else micro_s(lines, 1, groups, q, sums, R, scale, out, ldo, mask); \
    break;

static void micro_s_block(const uint8_t *const lines[2], uint32_t tiles, uint32_t groups, const int32_t *q,
                          const int32_t *sums, uint32_t r, const __m512 scale[2], float *out, size_t ldo,
                          const __mmask16 mask[2]) {
    switch (r) { MICRO_S(1) MICRO_S(2) MICRO_S(3) MICRO_S(4) MICRO_S(5) MICRO_S(6) MICRO_S(7) MICRO_S(8) default: break; }
}

static void matmul_s(const ebb_matrix *w, const ebb_activations *a, float scale, uint32_t tile0, uint32_t tile1,
                     float *out, size_t ldo) {
    for (uint32_t t = tile0; t < tile1; t += 2) {
        uint32_t tiles = min_u32(2, tile1 - t);
        const uint8_t *lines[2] = {0};
        __m512 scales[2];
        __mmask16 mask[2] = {0};
        for (uint32_t u = 0; u < tiles; u++) {
            lines[u] = w->data + (size_t)(t + u) * w->record_bytes;
            scales[u] = _mm512_mul_ps((__m512)load_half(lines[u] + (size_t)w->span * 16), _mm512_set1_ps(scale));
            mask[u] = mask_of(w->n - (t + u) * EBB_TILE);
        }
        for (uint32_t row = 0; row < a->rows; row += EBB_ROW_BLOCK)
            micro_s_block(lines, tiles, a->kp / 4, (const int32_t *)(a->q + (size_t)row * a->kp), a->sum32 + row,
                          min_u32(EBB_ROW_BLOCK, a->rows - row), scales, out + (size_t)row * ldo + t * EBB_TILE, ldo, mask);
    }
}

static uint64_t peak_int8(uint64_t rounds, int32_t *sink) {
    __m512i acc[10], w = _mm512_set1_epi8(3), x = _mm512_set1_epi32(*sink);
    for (int i = 0; i < 10; i++) acc[i] = _mm512_setzero_si512();
    for (uint64_t n = 0; n < rounds; n++)
        for (int i = 0; i < 10; i++) acc[i] = _mm512_dpbusd_epi32(acc[i], w, x);
    for (int i = 0; i < 10; i++) *sink += _mm512_reduce_add_epi32(acc[i]);
    return rounds * 10 * 128;
}

const ebb_kernels ebb_avx512vnni_kernels = {EBB_KERNELS("avx512vnni", quantize, quantize_static)};

// What has bf16 products besides.
const ebb_kernels ebb_avx512bf16_kernels = {
    EBB_KERNELS("avx512bf16", quantize, quantize_static), .attention_bf16 = ebb_attention_bf16,
    .key_tiles_bf16 = ebb_key_tiles_bf16, .value_tiles_bf16 = ebb_value_tiles_bf16, .pack_bf16 = ebb_pack_bf16,
    .matmul_bf16 = ebb_matmul_bf16,
};
#pragma clang attribute pop
#endif
