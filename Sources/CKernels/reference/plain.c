// Plain C: the definition that every other instruction set is tested against.
#include "portable/layout.h"
#include "tables.h"
#include <math.h>

static void quantize(const float *x, size_t ldx, uint32_t row0, uint32_t r, const ebb_activations *a) {
    int8_t *q = a->q + (size_t)row0 * a->kp;
    float *scale = a->scale + (size_t)row0 * (a->kp / a->block), *sum = a->sum + (size_t)row0 * (a->kp / 32);
    int32_t *sum32 = a->sum32 + (size_t)row0 * (a->kp / 32), *sum16 = a->sum16 + (size_t)row0 * (a->kp / 16);
    uint32_t *lanes = a->lanes + (size_t)row0 * (a->kp / 16);
    for (uint32_t j = 0; j < r; j++) {
        const float *row = x + (size_t)(row0 + j) * ldx;
        for (uint32_t b = 0; b < a->kp / a->block; b++) {
            float largest = 0;
            for (uint32_t i = b * a->block; i < (b + 1) * a->block && i < a->k; i++) largest = fmaxf(largest, fabsf(row[i]));
            float s = largest / 127.0f, inverse = largest > 0 ? 127.0f / largest : 0.0f;
            scale[b * r + j] = s;
            for (uint32_t i = b * a->block; i < (b + 1) * a->block; i++)
                q[((size_t)(i / 4) * r + j) * 4 + i % 4] = i < a->k ? (int8_t)nearbyintf(row[i] * inverse) : 0;
        }
        for (uint32_t b = 0; b < a->kp / 16; b++) {
            int32_t halves[2] = {0, 0};
            for (uint32_t i = b * 16; i < b * 16 + 16; i++) halves[i % 4 / 2] += q[((size_t)(i / 4) * r + j) * 4 + i % 4];
            sum16[b * r + j] = halves[0] + halves[1];
            lanes[b * r + j] = ((uint32_t)halves[0] & 0xffff) | (uint32_t)halves[1] << 16;
        }
        for (uint32_t b = 0; b < a->kp / 32; b++) {
            int32_t t = sum16[2 * b * r + j] + sum16[(2 * b + 1) * r + j];
            sum32[b * r + j] = t;
            sum[b * r + j] = a->block == 32 ? scale[b * r + j] * (float)t
                                            : scale[2 * b * r + j] * (float)sum16[2 * b * r + j]
                                                  + scale[(2 * b + 1) * r + j] * (float)sum16[(2 * b + 1) * r + j];
        }
    }
}

static void pack(const float *x, size_t ldx, uint32_t row0, uint32_t r, const ebb_activations *a) {
    float *f = a->f + (size_t)row0 * a->k;
    for (uint32_t j = 0; j < r; j++)
        for (uint32_t i = 0; i < a->k; i++) f[(size_t)i * r + j] = x[(size_t)(row0 + j) * ldx + i];
}

static void matmul_q(const ebb_matrix *w, const ebb_activations *a, uint32_t tile0, uint32_t tile1, float *out,
                     size_t ldo, void *scratch) {
    (void)scratch;
    record_parts p = parts_of(w);
    uint32_t step = min_u32(min_u32(w->block, a->block), 32);
    for (uint32_t row = 0; row < a->rows; row++) {
        uint32_t row0 = row / EBB_ROW_BLOCK * EBB_ROW_BLOCK, j = row - row0, r = min_u32(EBB_ROW_BLOCK, a->rows - row0);
        const int8_t *q = a->q + (size_t)row0 * a->kp;
        const float *ascale = a->scale + (size_t)row0 * (a->kp / a->block);
        for (uint32_t n = tile0 * EBB_TILE; n < tile1 * EBB_TILE && n < w->n; n++) {
            float total = 0;
            for (uint32_t k0 = 0; k0 < a->kp; k0 += step) {
                uint32_t rec = k0 / w->span, inside = k0 % w->span;
                if (rec >= w->records) break;
                const uint8_t *record = w->data + ((size_t)(n / EBB_TILE) * w->records + rec) * w->record_bytes;
                float s, o;
                scale_at(w, &p, record, n % EBB_TILE, inside / w->block, &s, &o);
                int32_t dot = 0, sum = 0;
                for (uint32_t i = 0; i < step; i++) {
                    int32_t v = q[((size_t)((k0 + i) / 4) * r + j) * 4 + (k0 + i) % 4];
                    dot += value_at(w, &p, record, n % EBB_TILE, inside + i) * v;
                    sum += v;
                }
                float as = ascale[(k0 / a->block) * r + j];
                total += (float)dot * (s * as) + o * (as * (float)sum);
            }
            out[(size_t)row * ldo + n] = total;
        }
    }
}

static float float_weight(const ebb_matrix *w, size_t at) {
    if (w->encoding == EBB_ENCODING_F32) return load_float(w->data + at * 4);
    uint16_t h = load_u16(w->data + at * 2);
    return w->encoding == EBB_ENCODING_F16 ? half_to_float(h) : bf16_to_float(h);
}

static void matmul_f(const ebb_matrix *w, const ebb_activations *a, uint32_t tile0, uint32_t tile1, float *out,
                     size_t ldo, void *scratch) {
    (void)scratch;
    for (uint32_t row = 0; row < a->rows; row++) {
        uint32_t row0 = row / EBB_ROW_BLOCK * EBB_ROW_BLOCK, j = row - row0, r = min_u32(EBB_ROW_BLOCK, a->rows - row0);
        const float *f = a->f + (size_t)row0 * a->k;
        for (uint32_t n = tile0 * EBB_TILE; n < tile1 * EBB_TILE && n < w->n; n++) {
            float total = 0;
            size_t start = (size_t)(n / EBB_TILE) * w->k * EBB_TILE + n % EBB_TILE;
            for (uint32_t i = 0; i < w->k; i++)
                total += float_weight(w, start + (size_t)i * EBB_TILE) * f[(size_t)i * r + j];
            out[(size_t)row * ldo + n] = total;
        }
    }
}

static void expand(const ebb_matrix *w, uint32_t tile0, uint32_t tile1, uint32_t encoding, void *out) {
    record_parts p = parts_of(w);
    for (uint32_t t = tile0; t < tile1; t++)
        for (uint32_t i = 0; i < w->k; i++) {
            const uint8_t *record = w->data + ((size_t)t * w->records + i / w->span) * w->record_bytes;
            uint32_t inside = i % w->span;
            for (uint32_t c = 0; c < EBB_TILE; c++) {
                float s, o;
                scale_at(w, &p, record, c, inside / w->block, &s, &o);
                float v = s * (float)value_at(w, &p, record, c, inside) + o;
                size_t at = ((size_t)t * w->k + i) * EBB_TILE + c;
                if (encoding == EBB_ENCODING_F32) ((float *)out)[at] = v;
                else ((uint16_t *)out)[at] = encoding == EBB_ENCODING_BF16 ? float_to_bf16(v) : float_to_half(v);
            }
        }
}

static void rms_norm(const float *x, const float *weight, float *out, uint32_t n, float eps) {
    double squares = 0;
    for (uint32_t i = 0; i < n; i++) squares += (double)x[i] * x[i];
    float factor = (float)(1.0 / sqrt(squares / n + eps));
    for (uint32_t i = 0; i < n; i++) out[i] = x[i] * factor * weight[i];
}

static void rope(float *x, const float *cosine, const float *sine, uint32_t heads, uint32_t head_dim, uint32_t interleaved) {
    uint32_t half = head_dim / 2;
    for (uint32_t h = 0; h < heads; h++, x += head_dim)
        for (uint32_t i = 0; i < half; i++) {
            float *a = interleaved ? x + 2 * i : x + i, *b = interleaved ? a + 1 : a + half;
            float ra = *a * cosine[i] - *b * sine[i], rb = *a * sine[i] + *b * cosine[i];
            *a = ra;
            *b = rb;
        }
}

static void softmax(float *x, uint32_t n) {
    float largest = x[0], sum = 0;
    for (uint32_t i = 1; i < n; i++) largest = fmaxf(largest, x[i]);
    for (uint32_t i = 0; i < n; i++) sum += x[i] = expf(x[i] - largest);
    for (uint32_t i = 0; i < n; i++) x[i] /= sum;
}

static uint32_t kv_block(const ebb_kv_view *kv, uint32_t position) {
    uint32_t b = position / EBB_KV_BLOCK;
    if (kv->ring_blocks) b %= kv->ring_blocks;
    return kv->blocks[b];
}

// Where an int8 block keeps the head's keys, values, and scales.
static const uint8_t *kv_int8(const ebb_kv_view *kv, uint32_t block) {
    return kv->int8_base + (block & ~EBB_KV_INT8) * kv->int8_block_bytes + kv->int8_offset;
}

static float int8_key(const uint8_t *head, uint32_t hd, uint32_t d, uint32_t slot) {
    const float *scales = (const float *)(head + 2 * EBB_KV_BLOCK * hd), *offsets = scales + hd;
    return (float)head[d * EBB_KV_BLOCK + slot] * scales[d] + offsets[d];
}

static float int8_value(const uint8_t *head, uint32_t hd, uint32_t slot, uint32_t d) {
    const float *scales = (const float *)(head + 2 * EBB_KV_BLOCK * hd) + 2 * hd;
    return (float)(int8_t)head[(EBB_KV_BLOCK + slot) * hd + d] * scales[slot];
}

static float kv_key(const ebb_kv_view *kv, uint32_t block, uint32_t d, uint32_t slot) {
    if (block & EBB_KV_INT8) return int8_key(kv_int8(kv, block), kv->head_dim, d, slot);
    return half_to_float(load_u16(kv->base + block * kv->block_bytes + kv->key_offset + ((size_t)d * EBB_KV_BLOCK + slot) * 2));
}

static float kv_value(const ebb_kv_view *kv, uint32_t block, uint32_t slot, uint32_t d) {
    if (block & EBB_KV_INT8) return int8_value(kv_int8(kv, block), kv->head_dim, slot, d);
    return half_to_float(
        load_u16(kv->base + block * kv->block_bytes + kv->value_offset + ((size_t)slot * kv->head_dim + d) * 2));
}

static void kv_to_int8(const uint16_t *keys, const uint16_t *values, uint32_t hd, uint8_t *out) {
    float *scales = (float *)(out + 2 * EBB_KV_BLOCK * hd), *offsets = scales + hd, *value_scales = offsets + hd;
    for (uint32_t d = 0; d < hd; d++) {
        float least = INFINITY, most = -INFINITY;
        for (uint32_t t = 0; t < EBB_KV_BLOCK; t++) {
            float x = half_to_float(keys[d * EBB_KV_BLOCK + t]);
            least = fminf(least, x), most = fmaxf(most, x);
        }
        scales[d] = (most - least) / 255;
        offsets[d] = least;
        float inverse = most > least ? 255 / (most - least) : 0;
        for (uint32_t t = 0; t < EBB_KV_BLOCK; t++) {
            float q = nearbyintf((half_to_float(keys[d * EBB_KV_BLOCK + t]) - least) * inverse);
            out[d * EBB_KV_BLOCK + t] = (uint8_t)fminf(fmaxf(q, 0), 255);
        }
    }
    for (uint32_t t = 0; t < EBB_KV_BLOCK; t++) {
        float most = 0;
        for (uint32_t d = 0; d < hd; d++) most = fmaxf(most, fabsf(half_to_float(values[(size_t)t * hd + d])));
        value_scales[t] = most / 127;
        float inverse = most > 0 ? 127 / most : 0;
        for (uint32_t d = 0; d < hd; d++) {
            float q = nearbyintf(half_to_float(values[(size_t)t * hd + d]) * inverse);
            out[(size_t)(EBB_KV_BLOCK + t) * hd + d] = (uint8_t)(int8_t)fminf(fmaxf(q, -127), 127);
        }
    }
}

static void kv_from_int8(const uint8_t *in, uint32_t hd, uint16_t *keys, uint16_t *values) {
    for (uint32_t t = 0; t < EBB_KV_BLOCK; t++)
        for (uint32_t d = 0; d < hd; d++) {
            keys[d * EBB_KV_BLOCK + t] = float_to_half(fminf(fmaxf(int8_key(in, hd, d, t), -65504.0f), 65504.0f));
            values[(size_t)t * hd + d] = float_to_half(fminf(fmaxf(int8_value(in, hd, t, d), -65504.0f), 65504.0f));
        }
}

static void attention(const ebb_kv_view *kv, const ebb_queries *queries) {
    uint32_t hd = kv->head_dim;
    for (uint32_t r = 0; r < queries->rows; r++) {
        float o[EBB_MAX_HEAD_DIM] = {0}, largest = -1e30f, sum = 0;
        query_row row = query_row_at(queries, r, hd);
        if (queries->sinks) {
            largest = queries->sinks[(queries->first + r) % queries->group];
            sum = 1;
        }
        for (uint32_t t = row.begin; t < row.end; t++) {
            uint32_t block = kv_block(kv, t);
            uint32_t slot = t % EBB_KV_BLOCK;
            float score = 0;
            for (uint32_t d = 0; d < hd; d++)
                score += queries->q[row.offset + d] * queries->scale * kv_key(kv, block, d, slot);
            if (queries->softcap) score = queries->softcap * tanhf(score / queries->softcap);
            float now = fmaxf(largest, score), keep = expf(largest - now), p = expf(score - now);
            sum = sum * keep + p;
            for (uint32_t d = 0; d < hd; d++)
                o[d] = o[d] * keep + p * kv_value(kv, block, slot, d);
            largest = now;
        }
        for (uint32_t d = 0; d < hd; d++) queries->out[row.offset + d] = o[d] / sum;
    }
}

static void quantize_static(const float *x, size_t ldx, uint32_t row0, uint32_t r, const float *multipliers,
                            const ebb_activations *a) {
    int8_t *q = a->q + (size_t)row0 * a->kp;
    for (uint32_t j = 0; j < r; j++) {
        const float *row = x + (size_t)(row0 + j) * ldx;
        int32_t sum = 0;
        for (uint32_t i = 0; i < a->kp; i++) {
            int8_t v = i < a->k ? (int8_t)nearbyintf(fminf(fmaxf(row[i] * multipliers[i], -127.0f), 127.0f)) : 0;
            q[((size_t)(i / 4) * r + j) * 4 + i % 4] = v;
            sum += v;
        }
        a->sum32[row0 + j] = sum;
    }
}

static void matmul_s(const ebb_matrix *w, const ebb_activations *a, float scale, uint32_t tile0, uint32_t tile1,
                     float *out, size_t ldo) {
    for (uint32_t row = 0; row < a->rows; row++) {
        uint32_t row0 = row / EBB_ROW_BLOCK * EBB_ROW_BLOCK, j = row - row0, r = min_u32(EBB_ROW_BLOCK, a->rows - row0);
        const int8_t *q = a->q + (size_t)row0 * a->kp;
        for (uint32_t n = tile0 * EBB_TILE; n < tile1 * EBB_TILE && n < w->n; n++) {
            const uint8_t *record = w->data + (size_t)(n / EBB_TILE) * w->record_bytes;
            int32_t dot = -128 * a->sum32[row];
            for (uint32_t i = 0; i < w->span; i++)
                dot += record[i / 4 * 64 + n % EBB_TILE * 4 + i % 4] * q[((size_t)(i / 4) * r + j) * 4 + i % 4];
            float s = half_to_float(load_u16(record + w->span * 16 + n % EBB_TILE * 2));
            out[(size_t)row * ldo + n] = (float)dot * (scale * s);
        }
    }
}

static void layer_norm(const float *x, const float *weight, const float *bias, float *out, uint32_t n, float eps) {
    double sum = 0, squares = 0;
    for (uint32_t i = 0; i < n; i++) sum += x[i];
    double mean = sum / n;
    for (uint32_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    double factor = 1.0 / sqrt(squares / n + eps);
    for (uint32_t i = 0; i < n; i++) out[i] = (float)((x[i] - mean) * factor) * weight[i] + bias[i];
}

static void gelu(float *x, const float *bias, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        float v = x[i] + bias[i];
        x[i] = 0.5f * v * (1.0f + erff(v * 0.70710678118654752f));
    }
}

static void range(const float *w, uint32_t n, float *low, float *high) {
    *low = *high = w[0];
    for (uint32_t i = 1; i < n; i++) {
        *low = fminf(*low, w[i]);
        *high = fmaxf(*high, w[i]);
    }
}

static float level_of(float w, float inverse, float offset, float top) {
    return fminf(fmaxf(nearbyintf((w - offset) * inverse), 0.0f), top);
}

static void encode(const float *w, uint32_t n, float scale, float offset, uint32_t top, uint8_t *q) {
    float inverse = scale != 0 ? 1.0f / scale : 0.0f;
    for (uint32_t i = 0; i < n; i++) q[i] = (uint8_t)level_of(w[i], inverse, offset, (float)top);
}

static void block_sums(const float *w, const float *h, uint32_t n, float scale, float offset, uint32_t top,
                       ebb_shrinkage shrinkage, ebb_block_sums *sums) {
    float inverse = scale != 0 ? 1.0f / scale : 0.0f;
    ebb_block_sums s = {0};
    for (uint32_t i = 0; i < n; i++) {
        float q = level_of(w[i], inverse, offset, (float)top), e = w[i] - (scale * q + offset), hi = h ? h[i] : 1.0f;
        float size = fabsf(e), kept = 0;
        if (shrinkage.beta > 0 && size > 0) kept = fmaxf(size - powf(size, shrinkage.p - 1.0f) / shrinkage.beta, 0.0f);
        float t = w[i] - copysignf(kept, e);
        s.error += hi * e * e;
        s.h += hi;
        s.q += hi * q;
        s.qq += hi * q * q;
        s.t += hi * t;
        s.tq += hi * t * q;
    }
    *sums = s;
}

static void axpy(float *y, const float *x, float a, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) y[i] += a * x[i];
}

static uint64_t peak_int8(uint64_t rounds, int32_t *sink) {
    int32_t acc[4] = {0};
    for (uint64_t n = 0; n < rounds; n++)
        for (int i = 0; i < 4; i++) acc[i] += (int8_t)(n + (uint64_t)i) * (int8_t)*sink;
    *sink += acc[0] + acc[1] + acc[2] + acc[3];
    return rounds * 8;
}

static uint32_t read_memory(const void *memory, size_t bytes) {
    const uint32_t *words = memory;
    uint32_t sum = 0;
    for (size_t i = 0; i < bytes / 4; i++) sum += words[i];
    return sum;
}

static uint64_t peak_float(uint64_t rounds, float *sink) {
    float acc[4] = {0};
    for (uint64_t n = 0; n < rounds; n++)
        for (int i = 0; i < 4; i++) acc[i] = acc[i] * 0.999f + *sink;
    *sink += acc[0] + acc[1] + acc[2] + acc[3];
    return rounds * 8;
}

static void silu_gate(const float *gate, const float *up, float *out, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) out[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

static void gelu_gate(const float *gate, const float *up, float *out, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        float g = gate[i], inner = 0.7978845608028654f * (g + 0.044715f * g * g * g);
        out[i] = 0.5f * g * (1.0f + tanhf(inner)) * up[i];
    }
}

static void clamped_gate(const float *gate, const float *up, float *out, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        float g = fminf(gate[i], 7.0f), u = fminf(fmaxf(up[i], -7.0f), 7.0f);
        out[i] = g / (1.0f + expf(-1.702f * g)) * (u + 1.0f);
    }
}

static void soft_cap(float *x, float cap, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) x[i] = cap * tanhf(x[i] / cap);
}

static void add(float *x, const float *y, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) x[i] += y[i];
}

static void store_kv(const float *k, const float *v, uint8_t *block, size_t values_offset, uint32_t kv_heads,
                     uint32_t head_dim, uint32_t slot) {
    // Clamped to the largest half: an infinite value would turn a masked product into NaN.
    uint16_t *keys = (uint16_t *)block, *values = (uint16_t *)(block + values_offset);
    for (uint32_t h = 0; h < kv_heads; h++)
        for (uint32_t d = 0; d < head_dim; d++) {
            size_t at = (size_t)h * head_dim + d;
            keys[at * EBB_KV_BLOCK + slot] = float_to_half(fminf(fmaxf(k[at], -65504.0f), 65504.0f));
            values[((size_t)h * EBB_KV_BLOCK + slot) * head_dim + d] = float_to_half(fminf(fmaxf(v[at], -65504.0f), 65504.0f));
        }
}

const ebb_kernels ebb_plain_kernels = {EBB_KERNELS("plain", quantize, quantize_static)};
