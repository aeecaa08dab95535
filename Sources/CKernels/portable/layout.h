// How a record of the tiled layout is read; shared by every instruction set.
#ifndef EBB_LAYOUT_H
#define EBB_LAYOUT_H
#include "ebb_kernels.h"
#include <string.h>

#define ALWAYS static inline __attribute__((always_inline))

// Byte offsets of a record's parts. Planes come first, the widest first; a plane of p bits takes
// 2 * p bytes for each value of k (16 channels).
typedef struct {
    uint32_t plane8, plane4, plane2, plane1; // offsets; meaningful only where the width has the plane
    uint32_t scales, offsets;                // per block (or per record for super-scales: supers)
    uint32_t supers;
} record_parts;

ALWAYS record_parts parts_of(const ebb_matrix *w) {
    record_parts p = {0, 0, 0, 0, 0, 0, 0};
    uint32_t at = 0, span = w->span, blocks = span / w->block;
    if (w->bits == 8) { p.plane8 = at; at += span * 16; }
    else {
        if (w->bits & 4) { p.plane4 = at; at += span * 8; }
        if (w->bits & 2) { p.plane2 = at; at += span * 4; }
        if (w->bits & 1) { p.plane1 = at; at += span * 2; }
    }
    p.scales = at;
    switch (w->scale_kind) {
    case EBB_SCALE_F16: p.offsets = at + blocks * 32; break;
    case EBB_SCALE_F32: p.offsets = at + blocks * 64; break;
    case EBB_SCALE_TWO_LEVEL:
        p.offsets = at + blocks * 16;
        p.supers = w->asymmetric ? p.offsets + blocks * 16 : p.offsets;
        break;
    default: p.offsets = at; p.supers = at + blocks * 16; break;
    }
    return p;
}

ALWAYS float half_to_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = h & 0x7fffu, bits;
    float f;
    if (rest >= 0x7c00u) bits = sign | 0x7f800000u | ((rest & 0x3ffu) << 13);
    else if (rest >= 0x0400u) bits = sign | ((rest << 13) + 0x38000000u);
    else { // subnormal: the mantissa counts units of 2^-24
        f = (float)rest * 0x1p-24f;
        memcpy(&bits, &f, 4);
        bits |= sign;
    }
    memcpy(&f, &bits, 4);
    return f;
}

ALWAYS uint16_t float_to_half(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    uint32_t sign = (bits >> 16) & 0x8000u, rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (rest >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
    if (rest < 0x38800000u) { // subnormal: adding 0.5 leaves the rounded mantissa in the low bits
        float a;
        memcpy(&a, &rest, 4);
        a += 0.5f;
        memcpy(&rest, &a, 4);
        return (uint16_t)(sign | (rest - 0x3f000000u));
    }
    rest += 0xfffu + ((rest >> 13) & 1u);
    return (uint16_t)(sign | ((rest - 0x38000000u) >> 13));
}

ALWAYS float bf16_to_float(uint16_t h) {
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

// To nearest even; no NaN comes here.
ALWAYS uint16_t float_to_bf16(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

ALWAYS uint16_t load_u16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}

ALWAYS float load_float(const uint8_t *p) {
    float v;
    memcpy(&v, p, 4);
    return v;
}

// The unsigned value q of channel c (0...15) at position i (0...span-1) of a record.
// In a plane of p bits one 64-byte line holds 8/p groups of 4 values: group g lies in line g / (8/p),
// shifted left by p * (g mod 8/p).
ALWAYS uint32_t quant_at(const ebb_matrix *w, const record_parts *p, const uint8_t *record, uint32_t c, uint32_t i) {
    uint32_t g = i >> 2, lane = c * 4 + (i & 3), q = 0, shift = 0;
    if (w->bits == 8) return record[p->plane8 + g * 64 + lane];
    if (w->bits & 4) { q = (record[p->plane4 + (g >> 1) * 64 + lane] >> (4 * (g & 1))) & 15u; shift = 4; }
    if (w->bits & 2) { q |= ((record[p->plane2 + (g >> 2) * 64 + lane] >> (2 * (g & 3))) & 3u) << shift; shift += 2; }
    if (w->bits & 1) q |= ((record[p->plane1 + (g >> 3) * 64 + lane] >> (g & 7)) & 1u) << shift;
    return q;
}

// Scale and offset of channel c in block b of a record; offset is 0 for symmetric matrices.
ALWAYS void scale_at(const ebb_matrix *w, const record_parts *p, const uint8_t *record, uint32_t c, uint32_t b,
                     float *scale, float *offset) {
    *offset = 0;
    switch (w->scale_kind) {
    case EBB_SCALE_F16:
        *scale = half_to_float(load_u16(record + p->scales + (b * 16 + c) * 2));
        if (w->asymmetric) *offset = half_to_float(load_u16(record + p->offsets + (b * 16 + c) * 2));
        return;
    case EBB_SCALE_F32:
        *scale = load_float(record + p->scales + (b * 16 + c) * 4);
        if (w->asymmetric) *offset = load_float(record + p->offsets + (b * 16 + c) * 4);
        return;
    case EBB_SCALE_TWO_LEVEL: {
        float d = half_to_float(load_u16(record + p->supers + c * 2));
        if (!w->asymmetric) { *scale = d * (float)(int8_t)record[p->scales + b * 16 + c]; return; }
        float m = half_to_float(load_u16(record + p->supers + 32 + c * 2));
        *scale = d * (float)record[p->scales + b * 16 + c];
        *offset = -(m * (float)record[p->offsets + b * 16 + c]);
        return;
    }
    default: {
        float d = half_to_float(load_u16(record + p->supers + c * 2));
        float m = half_to_float(load_u16(record + p->supers + 32 + c * 2));
        uint8_t both = record[p->scales + b * 16 + c];
        *scale = d * (float)(both & 15u);
        *offset = -(m * (float)(both >> 4));
        return;
    }
    }
}

// A query row's place in q and out, and the positions [begin, end) that it sees.
typedef struct {
    size_t offset;
    uint32_t begin, end;
} query_row;

ALWAYS query_row query_row_at(const ebb_queries *queries, uint32_t row, uint32_t head_dim) {
    uint32_t pair = queries->first + row, token = pair / queries->group, end = queries->position + token + 1;
    query_row found = {
        .offset = token * queries->ld + (size_t)(pair % queries->group) * head_dim,
        .begin = queries->window && end > queries->window ? end - queries->window : 0,
        .end = end,
    };
    return found;
}

ALWAYS uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }

#endif
