// AVX-512 with BF16: products of float tiles. A pair of values of k is one 32-bit lane of vdpbf16ps.
#if defined(__x86_64__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,avx2,fma,f16c"))), apply_to = function)
#include "portable/layout.h"
#include "bf16_pairs.inc"
#include "row_groups.inc"
#include "tables.h"

enum { PANEL_PAIRS = 128 }; // of two tiles: 16 KiB stay in the first-level cache

// 16 values, or the `left` that there are, as bf16.
ALWAYS __m256i eight_pairs(const float *x, uint32_t left) {
    return (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps((__mmask16)((1u << min_u32(16, left)) - 1), x));
}

void ebb_pack_bf16(const float *x, size_t ldx, uint32_t row0, uint32_t r, const ebb_activations *a) {
    uint32_t count = (a->k + 1) / 2;
    uint32_t *to = a->pairs + (size_t)row0 * count;
    for (uint32_t i = 0; i < count; i += 8, to += 8 * r) {
        __m256i rows[8] = {0}, pairs[8];
        for (uint32_t j = 0; j < r; j++) rows[j] = eight_pairs(x + (size_t)(row0 + j) * ldx + 2 * i, a->k - 2 * i);
        transpose_8x8(rows, pairs);
        for (uint32_t u = 0; u < min_u32(8, count - i); u++)
            _mm256_mask_storeu_epi32(to + u * r, (__mmask8)((1u << r) - 1), pairs[u]);
    }
}

void ebb_key_tiles_bf16(const float *x, size_t ld, uint32_t tokens, uint32_t dim, uint16_t *out) {
    for (uint32_t t = 0; t < tokens; t += EBB_TILE)
        for (uint32_t d = 0; d < dim; d += 16, out += 16 * EBB_TILE) {
            __m256i rows[2][8] = {0}, pairs[2][8];
            for (uint32_t c = 0; c < min_u32(EBB_TILE, tokens - t); c++)
                rows[c / 8][c % 8] = eight_pairs(x + (size_t)(t + c) * ld + d, dim - d);
            for (uint32_t half = 0; half < 2; half++) transpose_8x8(rows[half], pairs[half]);
            for (uint32_t u = 0; u < 8; u++)
                _mm512_storeu_si512(out + u * 2 * EBB_TILE, two_lines(_mm512_inserti64x4(_mm512_castsi256_si512(pairs[0][u]), pairs[1][u], 1)));
        }
}

void ebb_value_tiles_bf16(const float *x, size_t ld, uint32_t tokens, uint32_t dim, uint16_t *out) {
    for (uint32_t d = 0; d < dim; d += EBB_TILE)
        for (uint32_t t = 0; t < tokens; t++, out += EBB_TILE)
            _mm256_storeu_si256((__m256i *)out, eight_pairs(x + (size_t)t * ld + d, EBB_TILE));
}

// Two lines of a tile, of k and k + 1, as pairs; the second is zero where there is none.
ALWAYS __m512i pair_lines(const uint16_t *lines, int both) {
    return woven_pairs(_mm512_maskz_loadu_epi16(both ? 0xffffffffu : 0xffffu, lines));
}

ALWAYS __mmask16 channels_of(const ebb_matrix *w, uint32_t t) {
    return (__mmask16)((1u << min_u32(16, w->n - t * EBB_TILE)) - 1);
}

static void one_row(const ebb_matrix *w, const uint32_t *pairs, uint32_t tile0, uint32_t tile1, float *out) {
    for (uint32_t t = tile0; t < tile1; t++) {
        const uint16_t *lines = (const uint16_t *)w->data + (size_t)t * w->k * EBB_TILE;
        __m512 acc[4];
        for (int u = 0; u < 4; u++) acc[u] = _mm512_setzero_ps();
        uint32_t i = 0, whole = w->k / 2;
        for (; i + 4 <= whole; i += 4, lines += 8 * EBB_TILE)
            for (uint32_t u = 0; u < 4; u++) {
                _mm_prefetch((const char *)(lines + u * 2 * EBB_TILE) + 2048, _MM_HINT_T0);
                acc[u] = dot_pairs(acc[u], pair_lines(lines + u * 2 * EBB_TILE, 1), pairs[i + u]);
            }
        for (; i < (w->k + 1) / 2; i++, lines += 2 * EBB_TILE) acc[0] = dot_pairs(acc[0], pair_lines(lines, i < whole), pairs[i]);
        __m512 sum = _mm512_add_ps(_mm512_add_ps(acc[0], acc[1]), _mm512_add_ps(acc[2], acc[3]));
        _mm512_mask_storeu_ps(out + t * EBB_TILE, channels_of(w, t), sum);
    }
}

// r rows by `tiles` (1 or 2) tiles over `count` pairs of k.
ALWAYS void micro(const __m512i *panel, uint32_t tiles, uint32_t count, const uint32_t *pairs, uint32_t r, float *out,
                  size_t ldo, const __mmask16 mask[2], int first) {
    __m512 acc[2][EBB_ROW_BLOCK];
    for (uint32_t j = 0; j < r; j++)
        for (uint32_t t = 0; t < tiles; t++)
            acc[t][j] = first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask[t], out + j * ldo + t * EBB_TILE);
    for (uint32_t i = 0; i < count; i++, panel += tiles, pairs += r)
        for (uint32_t j = 0; j < r; j++)
            for (uint32_t t = 0; t < tiles; t++) acc[t][j] = dot_pairs(acc[t][j], panel[t], pairs[j]);
    for (uint32_t j = 0; j < r; j++)
        for (uint32_t t = 0; t < tiles; t++) _mm512_mask_storeu_ps(out + j * ldo + t * EBB_TILE, mask[t], acc[t][j]);
}

#define MICRO(R) case R: \
    if (tiles == 2) micro(panel, 2, count, pairs, R, out, ldo, mask, first); \
    else micro(panel, 1, count, pairs, R, out, ldo, mask, first); \
    break;

static void micro_block(const __m512i *panel, uint32_t tiles, uint32_t count, const uint32_t *pairs, uint32_t r, float *out,
                        size_t ldo, const __mmask16 mask[2], int first) {
    switch (r) { MICRO(1) MICRO(2) MICRO(3) MICRO(4) MICRO(5) MICRO(6) MICRO(7) MICRO(8) default: break; }
}

void ebb_matmul_bf16(const ebb_matrix *w, const ebb_activations *a, uint32_t tile0, uint32_t tile1, float *out, size_t ldo,
                     void *scratch) {
    if (a->rows == 1 && !a->steady) { one_row(w, a->pairs, tile0, tile1, out); return; }
    const uint32_t all = (w->k + 1) / 2;
    __m512i *panel = scratch; // [pair][tile]
    for (uint32_t t = tile0; t < tile1; t += 2) {
        uint32_t tiles = min_u32(2, tile1 - t);
        __mmask16 mask[2] = {channels_of(w, t), tiles == 2 ? channels_of(w, t + 1) : 0};
        for (uint32_t i0 = 0; i0 < all; i0 += PANEL_PAIRS) {
            uint32_t count = min_u32(PANEL_PAIRS, all - i0);
            for (uint32_t u = 0; u < tiles; u++) {
                const uint16_t *lines = (const uint16_t *)w->data + ((size_t)(t + u) * w->k + i0 * 2) * EBB_TILE;
                for (uint32_t i = 0; i < count; i++)
                    panel[i * tiles + u] = pair_lines(lines + (size_t)i * 2 * EBB_TILE, (i0 + i) * 2 + 1 < w->k);
            }
            for (uint32_t row = 0; row < a->rows; row += EBB_ROW_BLOCK) {
                uint32_t r = min_u32(EBB_ROW_BLOCK, a->rows - row);
                micro_block(panel, tiles, count, a->pairs + (size_t)row * all + (size_t)i0 * r, r,
                            out + (size_t)row * ldo + t * EBB_TILE, ldo, mask, i0 == 0);
            }
        }
    }
}
#pragma clang attribute pop
#endif
