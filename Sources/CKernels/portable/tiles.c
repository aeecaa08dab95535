// Keys and values of an encoder's head as the weights of matrix products.
#include "layout.h"

static int32_t clamp_i32(int32_t v, int32_t low, int32_t high) { return v < low ? low : v > high ? high : v; }

// Nearest even; |x| must be below 2^22.
static int32_t nearest(float x) {
    float shifted = x + 12582912.0f;
    int32_t bits;
    memcpy(&bits, &shifted, 4);
    return bits - 0x4b400000;
}

static uint8_t code_8(float x, float multiplier) {
    float v = x * multiplier;
    v = v < -127.0f ? -127.0f : v > 127.0f ? 127.0f : v;
    return (uint8_t)(clamp_i32(nearest(v), -127, 127) + 128);
}

void ebb_key_tiles(const float *x, size_t ld, uint32_t tokens, uint32_t dim, float *out) {
    for (uint32_t t = 0; t < tokens; t += EBB_TILE, out += (size_t)dim * EBB_TILE)
        for (uint32_t c = 0; c < EBB_TILE; c++)
            for (uint32_t d = 0; d < dim; d++)
                out[(size_t)d * EBB_TILE + c] = t + c < tokens ? x[(size_t)(t + c) * ld + d] : 0.0f;
}

void ebb_value_tiles(const float *x, size_t ld, uint32_t tokens, uint32_t dim, float *out) {
    for (uint32_t d = 0; d < dim; d += EBB_TILE)
        for (uint32_t t = 0; t < tokens; t++, out += EBB_TILE)
            memcpy(out, x + (size_t)t * ld + d, EBB_TILE * sizeof(float));
}

ebb_matrix ebb_static_matrix(const uint8_t *data, uint32_t n, uint32_t k) {
    uint32_t span = (k + 31) / 32 * 32;
    ebb_matrix m = {
        .data = data, .n = n, .k = k, .encoding = EBB_ENCODING_QUANTIZED, .bits = 8, .scale_kind = EBB_SCALE_F16,
        .block = span, .span = span, .records = 1, .record_bytes = span * 16 + 32,
    };
    return m;
}

size_t ebb_static_bytes(uint32_t n, uint32_t k) {
    return (size_t)((n + 15) / 16) * (((size_t)k + 31) / 32 * 32 * 16 + 32);
}

static void ones(uint8_t *scales) {
    uint16_t one[16];
    for (int c = 0; c < 16; c++) one[c] = 0x3c00;
    memcpy(scales, one, sizeof one);
}

void ebb_key_tiles_8(const float *x, size_t ld, uint32_t tokens, uint32_t dim, float multiplier, uint8_t *out) {
    uint32_t span = (dim + 31) / 32 * 32;
    for (uint32_t t = 0; t < tokens; t += EBB_TILE, out += span * 16 + 32) {
        memset(out, 128, span * 16);
        ones(out + span * 16);
        for (uint32_t c = 0; c < EBB_TILE && t + c < tokens; c++) {
            const float *row = x + (size_t)(t + c) * ld;
            for (uint32_t g = 0; g < dim / 4; g++)
                for (uint32_t i = 0; i < 4; i++) out[g * 64 + c * 4 + i] = code_8(row[g * 4 + i], multiplier);
        }
    }
}

void ebb_value_tiles_8(const float *x, size_t ld, uint32_t tokens, uint32_t dim, float multiplier, uint8_t *out) {
    uint32_t span = (tokens + 31) / 32 * 32;
    for (uint32_t d = 0; d < dim; d += EBB_TILE, out += span * 16 + 32) {
        memset(out, 128, span * 16);
        ones(out + span * 16);
        for (uint32_t t = 0; t < tokens; t++) {
            const float *row = x + (size_t)t * ld + d;
            uint8_t *line = out + t / 4 * 64 + t % 4;
            for (uint32_t c = 0; c < EBB_TILE; c++) line[c * 4] = code_8(row[c], multiplier);
        }
    }
}
