// AVX-512 with BF16: attention over many rows. A pair of values of k is one 32-bit lane of vdpbf16ps, so keys are paired
// along the head and values along the tokens, once a block for all rows.
#if defined(__x86_64__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,avx2,fma,f16c"))), apply_to = function)
#define VL 16
#include "portable/vectors.inc"
#include "bf16_pairs.inc"
#include "tables.h"

enum { GROUP = EBB_ROW_BLOCK, GROUPS = EBB_QUERY_ROWS / EBB_ROW_BLOCK };

typedef struct {
    uint32_t q[GROUPS][EBB_MAX_HEAD_DIM / 2][GROUP];       // pairs along the head, scaled
    uint32_t keys[EBB_MAX_HEAD_DIM / 2][EBB_KV_BLOCK];     // pairs along the head
    uint32_t values[EBB_KV_BLOCK / 2][EBB_MAX_HEAD_DIM];   // pairs along the tokens, head_dim in a row
    uint32_t weights[GROUP][EBB_KV_BLOCK / 2];             // pairs along the tokens
    float scores[GROUP][EBB_KV_BLOCK];
    float out[EBB_QUERY_ROWS][EBB_MAX_HEAD_DIM];
    _Alignas(64) float sum[EBB_QUERY_ROWS][VL];            // of the weights, in parts
    float largest[EBB_QUERY_ROWS], keep[GROUP];
    float center[EBB_MAX_HEAD_DIM]; // taken off every key
    query_row row[EBB_QUERY_ROWS];
    uint16_t wide[2 * EBB_KV_BLOCK * EBB_MAX_HEAD_DIM];    // an int8 block's keys and values as f16
} state;

// 32 bf16: those of a first.
ALWAYS __m512i to_bf16(__m512 a, __m512 b) { return (__m512i)_mm512_cvtne2ps_pbh(b, a); }

// out[i] = (a[i] - a0, b[i] - b0) in bf16, a multiple of 16 values of f16.
ALWAYS void pair_rows(const uint16_t *a, float a0, const uint16_t *b, float b0, uint32_t n, uint32_t *out) {
    for (uint32_t i = 0; i < n; i += VL) {
        __m512i both = to_bf16((__m512)(load_half(a + i) - a0), (__m512)(load_half(b + i) - b0));
        _mm512_storeu_si512(out + i, woven_pairs(both));
    }
}

ALWAYS __m512 dot_bf16(__m512 acc, const uint32_t *pairs, uint32_t other) {
    return dot_pairs(acc, _mm512_loadu_si512(pairs), other);
}

// 2^x to 4e-6, finer than a weight in bf16: x = n + r, Taylor's polynomial of degree 5 in r, |r| <= 1/2.
ALWAYS __m512 exp2_ps(__m512 x) {
    __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), r = _mm512_sub_ps(x, n);
    __m512 y = _mm512_set1_ps(1.33335581e-3f);
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(9.61812911e-3f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(5.55041087e-2f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(2.40226507e-1f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(6.93147181e-1f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(y, n);
}

// Reads the rows' queries, times the scale and log2 e, so that weights are powers of two.
static void take_queries(state *s, const ebb_queries *queries, uint32_t hd) {
    float scale = queries->scale * 1.44269504088896341f;
    uint32_t rows = queries->rows;
    for (uint32_t r = 0; r < (rows + GROUP - 1) / GROUP * GROUP; r++) {
        s->largest[r] = -1e30f;
        memset(s->sum[r], 0, sizeof s->sum[r]);
        memset(s->out[r], 0, hd * sizeof(float));
        uint32_t(*to)[GROUP] = s->q[r / GROUP];
        if (r >= rows) { // rows that fill the last group up see nothing
            s->row[r] = (query_row){0};
            for (uint32_t d = 0; d < hd / 2; d++) to[d][r % GROUP] = 0;
            continue;
        }
        s->row[r] = query_row_at(queries, r, hd);
        const float *q = queries->q + s->row[r].offset;
        for (uint32_t d = 0; d < hd; d += VL) {
            uint32_t pairs[VL / 2];
            __m256i bytes = (__m256i)_mm512_cvtneps_pbh(_mm512_mul_ps(_mm512_loadu_ps(q + d), _mm512_set1_ps(scale)));
            _mm256_storeu_si256((__m256i *)pairs, bytes);
            for (uint32_t i = 0; i < VL / 2; i++) to[d / 2 + i][r % GROUP] = pairs[i];
        }
    }
}

// Keys have channels with a large constant part (biases above all), which bf16 would drown the rest in. A constant changes
// all scores of a row by the same, and softmax does not see it: the mean of the first block's keys is as good as any.
// `count` of them are there; behind them lies what other sequences left.
static void take_center(state *s, const uint16_t *keys, uint32_t hd, uint32_t count) {
    uint32_t there = (uint32_t)((1ull << count) - 1);
    for (uint32_t d = 0; d < hd; d++, keys += EBB_KV_BLOCK) {
        __m512 a = _mm512_maskz_mov_ps((__mmask16)there, (__m512)load_half(keys));
        __m512 b = _mm512_maskz_mov_ps((__mmask16)(there >> VL), (__m512)load_half(keys + VL));
        s->center[d] = _mm512_reduce_add_ps(_mm512_add_ps(a, b)) / (float)count;
    }
}

// The center is taken of a block's first tokens, where `first` is not 0.
static void take_block(state *s, const ebb_kv_view *kv, uint32_t index, uint32_t first) {
    uint32_t hd = kv->head_dim, block = kv->blocks[kv->ring_blocks ? index % kv->ring_blocks : index];
    const uint16_t *keys = s->wide, *values = s->wide + EBB_KV_BLOCK * hd;
    if (block & EBB_KV_INT8) {
        ebb_avx512vnni_kernels.kv_from_int8(kv->int8_base + (block & ~EBB_KV_INT8) * kv->int8_block_bytes + kv->int8_offset,
                                            hd, s->wide, s->wide + EBB_KV_BLOCK * hd);
    } else {
        keys = (const uint16_t *)(kv->base + block * kv->block_bytes + kv->key_offset);
        values = (const uint16_t *)(kv->base + block * kv->block_bytes + kv->value_offset);
    }
    if (first) take_center(s, keys, hd, first);
    for (uint32_t d = 0; d < hd; d += 2)
        pair_rows(keys + d * EBB_KV_BLOCK, s->center[d], keys + (d + 1) * EBB_KV_BLOCK, s->center[d + 1], EBB_KV_BLOCK, s->keys[d / 2]);
    for (uint32_t t = 0; t < EBB_KV_BLOCK; t += 2)
        pair_rows(values + (size_t)t * hd, 0, values + (size_t)(t + 1) * hd, 0, hd, s->values[t / 2]);
}

static void score(state *s, uint32_t group, uint32_t hd) {
    __m512 acc[GROUP][2];
    for (uint32_t u = 0; u < GROUP; u++) acc[u][0] = acc[u][1] = _mm512_setzero_ps();
    const uint32_t(*q)[GROUP] = s->q[group];
    for (uint32_t d = 0; d < hd / 2; d++)
        for (uint32_t u = 0; u < GROUP; u++)
            for (uint32_t p = 0; p < 2; p++) acc[u][p] = dot_bf16(acc[u][p], s->keys[d] + p * VL, q[d][u]);
    for (uint32_t u = 0; u < GROUP; u++)
        for (uint32_t p = 0; p < 2; p++) _mm512_storeu_ps(s->scores[u] + p * VL, acc[u][p]);
}

// A bit for each of a block's tokens, the first of which is `base`, that a row sees.
ALWAYS uint32_t visible(query_row row, uint32_t base) {
    uint32_t from = row.begin > base ? min_u32(row.begin - base, EBB_KV_BLOCK) : 0;
    uint32_t to = row.end > base ? min_u32(row.end - base, EBB_KV_BLOCK) : 0;
    return (uint32_t)((1ull << to) - 1) & ~(uint32_t)((1ull << from) - 1);
}

// The weights of a block whose first token is `base`, for the rows of a group.
static void weigh(state *s, uint32_t group, uint32_t base) {
    for (uint32_t u = 0; u < GROUP; u++) {
        uint32_t r = group * GROUP + u, seen = visible(s->row[r], base);
        // Finite, so that a row that sees nothing of this block stays free of NaN.
        const __m512 unseen = _mm512_set1_ps(-1e30f);
        __m512 a = _mm512_mask_loadu_ps(unseen, (__mmask16)seen, s->scores[u]);
        __m512 b = _mm512_mask_loadu_ps(unseen, (__mmask16)(seen >> VL), s->scores[u] + VL);
        __m512 most = _mm512_max_ps(a, b);
        s->keep[u] = 1;
        if (_mm512_cmp_ps_mask(most, _mm512_set1_ps(s->largest[r]), _CMP_GT_OQ)) { // seldom, after the first block
            float now = _mm512_reduce_max_ps(most);
            s->keep[u] = _mm512_cvtss_f32(exp2_ps(_mm512_set1_ps(s->largest[r] - now)));
            s->largest[r] = now;
        }
        const __m512 largest = _mm512_set1_ps(s->largest[r]);
        a = exp2_ps(_mm512_sub_ps(a, largest));
        b = exp2_ps(_mm512_sub_ps(b, largest));
        __m512 sum = _mm512_mul_ps(_mm512_load_ps(s->sum[r]), _mm512_set1_ps(s->keep[u]));
        _mm512_store_ps(s->sum[r], _mm512_add_ps(sum, _mm512_add_ps(a, b)));
        _mm512_storeu_si512(s->weights[u], to_bf16(a, b));
    }
}

// Adds the weighted values to `parts` vectors of a group's outputs, from head dimension d.
ALWAYS void add_values(state *s, uint32_t group, uint32_t d, uint32_t parts) {
    float(*out)[EBB_MAX_HEAD_DIM] = s->out + group * GROUP;
    __m512 acc[GROUP][2];
    for (uint32_t u = 0; u < GROUP; u++)
        for (uint32_t p = 0; p < parts; p++)
            acc[u][p] = _mm512_mul_ps(_mm512_loadu_ps(out[u] + d + p * VL), _mm512_set1_ps(s->keep[u]));
    for (uint32_t t = 0; t < EBB_KV_BLOCK / 2; t++)
        for (uint32_t u = 0; u < GROUP; u++)
            for (uint32_t p = 0; p < parts; p++)
                acc[u][p] = dot_bf16(acc[u][p], s->values[t] + d + p * VL, s->weights[u][t]);
    for (uint32_t u = 0; u < GROUP; u++)
        for (uint32_t p = 0; p < parts; p++) _mm512_storeu_ps(out[u] + d + p * VL, acc[u][p]);
}

void ebb_attention_bf16(const ebb_kv_view *kv, const ebb_queries *queries) {
    state s;
    uint32_t hd = kv->head_dim, rows = queries->rows, groups = (rows + GROUP - 1) / GROUP;
    uint32_t first[GROUPS], last[GROUPS], begin = UINT32_MAX, end = 0;
    take_queries(&s, queries, hd);
    for (uint32_t g = 0; g < groups; g++) {
        first[g] = UINT32_MAX;
        last[g] = 0;
        for (uint32_t r = g * GROUP; r < min_u32(rows, (g + 1) * GROUP); r++) {
            first[g] = min_u32(first[g], s.row[r].begin);
            last[g] = s.row[r].end > last[g] ? s.row[r].end : last[g];
        }
        begin = min_u32(begin, first[g]);
        end = last[g] > end ? last[g] : end;
    }
    for (uint32_t base = begin / EBB_KV_BLOCK * EBB_KV_BLOCK; base < end; base += EBB_KV_BLOCK) {
        take_block(&s, kv, base / EBB_KV_BLOCK, base <= begin ? min_u32(end - base, EBB_KV_BLOCK) : 0);
        for (uint32_t g = 0; g < groups; g++) {
            if (base >= last[g] || base + EBB_KV_BLOCK <= first[g]) continue;
            score(&s, g, hd);
            weigh(&s, g, base);
            uint32_t d = 0;
            for (; d + 2 * VL <= hd; d += 2 * VL) add_values(&s, g, d, 2);
            if (d < hd) add_values(&s, g, d, 1);
        }
    }
    for (uint32_t r = 0; r < rows; r++) {
        __m512 factor = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(_mm512_load_ps(s.sum[r])));
        for (uint32_t d = 0; d < hd; d += VL)
            _mm512_storeu_ps(queries->out + s.row[r].offset + d, _mm512_mul_ps(_mm512_loadu_ps(s.out[r] + d), factor));
    }
}
#pragma clang attribute pop
#endif
