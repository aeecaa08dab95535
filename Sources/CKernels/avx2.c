// AVX2 without VNNI: products of unsigned weights and signed activations in 16 bits (vpmaddubsw),
// widened to 32 bits before they can overflow.
#if defined(__x86_64__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#define VL 8
#include "float_kernels.inc"
#include "encoder_kernels.inc"
#include "quantizer_kernels.inc"
#include "tables.h"

// Groups of 4 values whose pair sums fit 16 bits together: 2 * (2^bits - 1) * 127 * groups < 32768.
ALWAYS uint32_t groups_in_16_bits(uint32_t bits) { return bits <= 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1; }

// 32 values of k (8 groups) of a tile: q[2g] channels 0-7, q[2g + 1] channels 8-15. Unsigned bytes,
// but for 8 bits q - 128 (signed), since unsigned ones would overflow vpmaddubsw.
ALWAYS void unpack32(uint32_t bits, const record_parts *p, const uint8_t *record, uint32_t chunk, __m256i q[16]) {
    if (bits == 8) {
        __m256i flip = _mm256_set1_epi8((char)0x80);
        for (int g = 0; g < 16; g++)
            q[g] = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(record + p->plane8 + chunk * 512 + g * 32)), flip);
        return;
    }
    uint32_t shift = 0;
    for (int g = 0; g < 16; g++) q[g] = _mm256_setzero_si256();
    if (bits & 4) {
        __m256i mask = _mm256_set1_epi8(15);
        for (int l = 0; l < 8; l++) {
            __m256i v = _mm256_loadu_si256((const __m256i *)(record + p->plane4 + chunk * 256 + l * 32));
            q[(l / 2) * 4 + l % 2] = _mm256_and_si256(v, mask);
            q[(l / 2) * 4 + 2 + l % 2] = _mm256_and_si256(_mm256_srli_epi16(v, 4), mask);
        }
        shift = 4;
    }
    if (bits & 2) {
        __m256i mask = _mm256_set1_epi8((char)(3 << shift));
        for (int l = 0; l < 4; l++) {
            __m256i v = _mm256_loadu_si256((const __m256i *)(record + p->plane2 + chunk * 128 + l * 32));
            for (int u = 0; u < 4; u++) {
                __m256i s = 2 * u > (int)shift ? _mm256_srli_epi16(v, 2 * u - (int)shift) : _mm256_slli_epi16(v, (int)shift - 2 * u);
                __m256i *to = &q[((l / 2) * 4 + u) * 2 + l % 2];
                *to = _mm256_or_si256(*to, _mm256_and_si256(s, mask));
            }
        }
        shift += 2;
    }
    if (bits & 1) {
        __m256i one = _mm256_set1_epi8((char)(1 << shift));
        for (int l = 0; l < 2; l++) {
            __m256i v = _mm256_loadu_si256((const __m256i *)(record + p->plane1 + chunk * 64 + l * 32));
            for (int u = 0; u < 8; u++) {
                __m256i s = u > (int)shift ? _mm256_srli_epi16(v, u - (int)shift) : _mm256_slli_epi16(v, (int)shift - u);
                q[u * 2 + l] = _mm256_or_si256(q[u * 2 + l], _mm256_and_si256(s, one));
            }
        }
    }
}

// Unpacks kc values of k from k0 of a tile: bytes [kc/4][64], scales and offsets [kc/step][16].
ALWAYS void unpack_panel_bits(const ebb_matrix *w, uint32_t bits, uint32_t t, uint32_t k0, uint32_t kc, uint32_t step,
                              uint8_t *panel, float *scales, float *offsets) {
    const record_parts p = parts_of(w);
    for (uint32_t k = k0; k < k0 + kc; k += 32) {
        const uint8_t *record = w->data + ((size_t)t * w->records + k / w->span) * w->record_bytes;
        uint32_t inside = k % w->span;
        __m256i v[16];
        unpack32(bits, &p, record, inside / 32, v);
        for (int g = 0; g < 16; g++) _mm256_store_si256((__m256i *)(panel + (size_t)(k - k0) * 16 + g * 32), v[g]);
        for (uint32_t h = 0; h < 32; h += step)
            for (uint32_t c = 0; c < 16; c += VL) {
                vf s, o;
                scales_vf(w, &p, record, (inside + h) / w->block, c, &s, &o);
                store_vf(scales + (k - k0 + h) / step * 16 + c, s);
                store_vf(offsets + (k - k0 + h) / step * 16 + c, o);
            }
    }
}

static void unpack_panel(const ebb_matrix *w, uint32_t t, uint32_t k0, uint32_t kc, uint32_t step, uint8_t *panel,
                         float *scales, float *offsets) {
#define BITS(B) case B: unpack_panel_bits(w, B, t, k0, kc, step, panel, scales, offsets); break;
    switch (w->bits) { BITS(2) BITS(3) BITS(4) BITS(5) BITS(6) BITS(7) BITS(8) default: break; }
#undef BITS
}

typedef struct { // one row block's part of a panel
    const int32_t *q;
    const float *scale;
    const int32_t *isum;
    uint32_t scale_shift; // 1 where the activation scale covers two steps of the panel
    int32_t zero;         // subtracted from every weight: dot - zero * sum of q
    uint32_t r;           // rows interleaved in the block
} rows_view;

// `count` (1 or 2) rows from row j of the block, all 16 channels.
ALWAYS void micro_q(const uint8_t *panel, const float *scales, const float *offsets, uint32_t kc, uint32_t step,
                    uint32_t wide, uint32_t is_signed, const rows_view *v, uint32_t j, uint32_t count, int asymmetric,
                    float *out, size_t ldo, uint32_t channels, int first) {
    const uint32_t r = v->r;
    const __m256i ones = _mm256_set1_epi16(1);
    __m256 f[2][2];
    for (uint32_t u = 0; u < count; u++) f[u][0] = f[u][1] = _mm256_setzero_ps();
    const int32_t *q = v->q + j;
    for (uint32_t b = 0; b < kc / step; b++) {
        __m256i acc[2][2];
        for (uint32_t u = 0; u < count; u++)
            acc[u][0] = acc[u][1] = _mm256_set1_epi32(v->zero ? -v->zero * v->isum[b * r + j + u] : 0);
        for (uint32_t g0 = 0; g0 < step / 4; g0 += wide) {
            __m256i pairs[2][2];
            for (uint32_t g = 0; g < wide && g0 + g < step / 4; g++, panel += 64, q += r)
                for (uint32_t half = 0; half < 2; half++) {
                    __m256i w = _mm256_load_si256((const __m256i *)(panel + 32 * half));
                    __m256i magnitude = is_signed ? _mm256_abs_epi8(w) : w;
                    for (uint32_t u = 0; u < count; u++) {
                        __m256i x = _mm256_set1_epi32(q[u]);
                        __m256i product = _mm256_maddubs_epi16(magnitude, is_signed ? _mm256_sign_epi8(x, w) : x);
                        pairs[u][half] = g == 0 ? product : _mm256_add_epi16(pairs[u][half], product);
                    }
                }
            for (uint32_t u = 0; u < count; u++)
                for (uint32_t half = 0; half < 2; half++)
                    acc[u][half] = _mm256_add_epi32(acc[u][half], _mm256_madd_epi16(pairs[u][half], ones));
        }
        for (uint32_t u = 0; u < count; u++) {
            float as = v->scale[(b >> v->scale_shift) * r + j + u], sum = as * (float)v->isum[b * r + j + u];
            for (uint32_t half = 0; half < 2; half++) {
                __m256 s = _mm256_mul_ps(_mm256_load_ps(scales + b * 16 + half * 8), _mm256_set1_ps(as));
                f[u][half] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc[u][half]), s, f[u][half]);
                if (asymmetric)
                    f[u][half] = _mm256_fmadd_ps(_mm256_load_ps(offsets + b * 16 + half * 8), _mm256_set1_ps(sum), f[u][half]);
            }
        }
    }
    for (uint32_t u = 0; u < count; u++) {
        float *row = out + (size_t)(j + u) * ldo, tile[EBB_TILE] = {0};
        if (!first) memcpy(tile, row, channels * sizeof(float));
        for (uint32_t half = 0; half < 2; half++)
            _mm256_storeu_ps(tile + 8 * half, _mm256_add_ps(f[u][half], _mm256_loadu_ps(tile + 8 * half)));
        store_row(row, tile, channels);
    }
}

// All rows of a block, for one width of weights.
ALWAYS void micro_q_rows(const uint8_t *panel, const float *scales, const float *offsets, uint32_t kc, uint32_t step,
                         uint32_t bits, const rows_view *v, int asymmetric, float *out, size_t ldo, uint32_t channels, int first) {
    uint32_t wide = groups_in_16_bits(bits), j = 0;
    if (wide > step / 4) wide = step / 4;
    for (; j + 2 <= v->r; j += 2)
        micro_q(panel, scales, offsets, kc, step, wide, bits == 8, v, j, 2, asymmetric, out, ldo, channels, first);
    if (j < v->r) micro_q(panel, scales, offsets, kc, step, wide, bits == 8, v, j, 1, asymmetric, out, ldo, channels, first);
}

#define MICRO(NAME, BITS) \
    static void NAME(const uint8_t *panel, const float *scales, const float *offsets, uint32_t kc, uint32_t step, \
                     const rows_view *v, int asymmetric, float *out, size_t ldo, uint32_t channels, int first) { \
        if (step == 32) micro_q_rows(panel, scales, offsets, kc, 32, BITS, v, asymmetric, out, ldo, channels, first); \
        else micro_q_rows(panel, scales, offsets, kc, 16, BITS, v, asymmetric, out, ldo, channels, first); \
    }
MICRO(micro_q4, 4)
MICRO(micro_q5, 5)
MICRO(micro_q6, 6)
MICRO(micro_q7, 7)
MICRO(micro_q8, 8)

static void matmul_q(const ebb_matrix *w, const ebb_activations *a, uint32_t tile0, uint32_t tile1, float *out,
                     size_t ldo, void *scratch) {
    uint32_t step = w->block >= 32 && a->block == 32 ? 32 : 16;
    // The panel holds q, or q - 128 for 8 bits; `zero` is what is left to subtract.
    int32_t zero = (w->asymmetric ? 0 : 1 << (w->bits - 1)) - (w->bits == 8 ? 128 : 0);
    uint8_t *panel = scratch;
    float *scales = (float *)(panel + EBB_PANEL_K * EBB_TILE), *offsets = scales + EBB_PANEL_K / 16 * EBB_TILE;
    for (uint32_t t = tile0; t < tile1; t++) {
        uint32_t channels = min_u32(EBB_TILE, w->n - t * EBB_TILE);
        for (uint32_t k0 = 0; k0 < a->kp; k0 += EBB_PANEL_K) {
            uint32_t kc = min_u32(EBB_PANEL_K, a->kp - k0);
            unpack_panel(w, t, k0, kc, step, panel, scales, offsets);
            for (uint32_t row = 0; row < a->rows; row += EBB_ROW_BLOCK) {
                uint32_t r = min_u32(EBB_ROW_BLOCK, a->rows - row);
                rows_view v = {
                    .q = (const int32_t *)(a->q + (size_t)row * a->kp) + (size_t)k0 / 4 * r,
                    .scale = a->scale + (size_t)row * (a->kp / a->block) + (size_t)k0 / a->block * r,
                    .isum = step == 32 ? a->sum32 + (size_t)row * (a->kp / 32) + (size_t)k0 / 32 * r
                                       : a->sum16 + (size_t)row * (a->kp / 16) + (size_t)k0 / 16 * r,
                    .scale_shift = step < a->block,
                    .zero = zero,
                    .r = r,
                };
                float *o = out + (size_t)row * ldo + t * EBB_TILE;
                int first = k0 == 0, asym = w->asymmetric != 0;
                switch (w->bits) {
                case 5: micro_q5(panel, scales, offsets, kc, step, &v, asym, o, ldo, channels, first); break;
                case 6: micro_q6(panel, scales, offsets, kc, step, &v, asym, o, ldo, channels, first); break;
                case 7: micro_q7(panel, scales, offsets, kc, step, &v, asym, o, ldo, channels, first); break;
                case 8: micro_q8(panel, scales, offsets, kc, step, &v, asym, o, ldo, channels, first); break;
                default: micro_q4(panel, scales, offsets, kc, step, &v, asym, o, ldo, channels, first); break;
                }
            }
        }
    }
}

// ---- fixed scales: lines straight from the container, one scale at the end

// `count` (1 or 2) rows from row j of a block of r, all 16 channels. Weights as q - 128, signed (see unpack32).
ALWAYS void micro_s(const uint8_t *lines, uint32_t groups, const int32_t *q, uint32_t r, uint32_t j, uint32_t count,
                    const float scale[16], float *out, size_t ldo, uint32_t channels) {
    const __m256i ones = _mm256_set1_epi16(1), flip = _mm256_set1_epi8((char)0x80);
    __m256i acc[2][2];
    for (uint32_t u = 0; u < count; u++) acc[u][0] = acc[u][1] = _mm256_setzero_si256();
    for (uint32_t g = 0; g < groups; g++)
        for (uint32_t half = 0; half < 2; half++) {
            __m256i v = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(lines + (size_t)g * 64 + 32 * half)), flip);
            __m256i magnitude = _mm256_abs_epi8(v);
            for (uint32_t u = 0; u < count; u++) {
                __m256i x = _mm256_set1_epi32(q[(size_t)g * r + j + u]);
                __m256i pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(x, v));
                acc[u][half] = _mm256_add_epi32(acc[u][half], _mm256_madd_epi16(pairs, ones));
            }
        }
    for (uint32_t u = 0; u < count; u++) {
        float tile[EBB_TILE];
        for (uint32_t half = 0; half < 2; half++)
            _mm256_storeu_ps(tile + 8 * half, _mm256_mul_ps(_mm256_cvtepi32_ps(acc[u][half]), _mm256_loadu_ps(scale + 8 * half)));
        store_row(out + (size_t)(j + u) * ldo, tile, channels);
    }
}

static void matmul_s(const ebb_matrix *w, const ebb_activations *a, float scale, uint32_t tile0, uint32_t tile1,
                     float *out, size_t ldo) {
    for (uint32_t t = tile0; t < tile1; t++) {
        const uint8_t *lines = w->data + (size_t)t * w->record_bytes;
        uint32_t channels = min_u32(EBB_TILE, w->n - t * EBB_TILE);
        float scales[EBB_TILE];
        for (uint32_t c = 0; c < EBB_TILE; c += VL) store_vf(scales + c, load_half(lines + (size_t)w->span * 16 + c * 2) * scale);
        for (uint32_t row = 0; row < a->rows; row += EBB_ROW_BLOCK) {
            uint32_t r = min_u32(EBB_ROW_BLOCK, a->rows - row), j = 0;
            const int32_t *q = (const int32_t *)(a->q + (size_t)row * a->kp);
            float *o = out + (size_t)row * ldo + t * EBB_TILE;
            for (; j + 2 <= r; j += 2) micro_s(lines, a->kp / 4, q, r, j, 2, scales, o, ldo, channels);
            if (j < r) micro_s(lines, a->kp / 4, q, r, j, 1, scales, o, ldo, channels);
        }
    }
}

const ebb_kernels ebb_avx2_kernels = {
    .name = "avx2", .quantize = quantize, .pack = pack, .matmul_q = matmul_q, .matmul_f = matmul_f, .expand = expand,
    .rms_norm = rms_norm, .rope = rope, .softmax = softmax, .attention = attention, .silu_gate = silu_gate,
    .gelu_gate = gelu_gate, .add = add, .store_kv = store_kv, .quantize_static = quantize_static, .matmul_s = matmul_s,
    .layer_norm = layer_norm, .gelu = gelu, .range = range, .encode = encode, .block_sums = block_sums, .axpy = axpy,
};
#pragma clang attribute pop
#endif
