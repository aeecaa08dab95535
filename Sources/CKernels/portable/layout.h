// How a record of the tiled layout is read; shared by every instruction set.
#ifndef EBB_LAYOUT_H
#define EBB_LAYOUT_H
#include "ebb_kernels.h"
#include <string.h>

#define ALWAYS static inline __attribute__((always_inline))

// The tables of ebb_values.
typedef struct {
    int8_t values[16];
    float unit;
} value_table;

static const value_table value_tables[EBB_VALUES_COUNT] = {
    [EBB_VALUES_LINEAR] = {{0}, 1},
    [EBB_VALUES_IQ4NL] = {{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}, 1},
    [EBB_VALUES_E2M1] = {{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}, 1},
    [EBB_VALUES_IQ1] = {{-9, -7, -1, 1, 7, 9}, 0.125f},
    [EBB_VALUES_IQ2] = {{-43, -25, -8, 8, 25, 43}, 0.125f},
    [EBB_VALUES_IQ3XXS] = {{-62, -52, -44, -36, -28, -20, -12, -4, 4, 12, 20, 28, 36, 44, 52, 62}, 0.25f},
    [EBB_VALUES_IQ3S] = {{-15, -13, -11, -9, -7, -5, -3, -1, 1, 3, 5, 7, 9, 11, 13, 15}, 1},
};

// Widths that kernels are compiled for: a matrix' bits, and, where its values are looked up in a table, the bits of an index
// with one of these. What is looked up is what a symmetric matrix of 8 or of 5 bits (values from -15 to 15) would have there.
enum { LOOK_UP_8 = 16, LOOK_UP_5 = 32, LOOKS_UP = LOOK_UP_8 | LOOK_UP_5 };
ALWAYS uint32_t index_bits(uint32_t width) { return width & 15; }
ALWAYS uint32_t value_bits(uint32_t width) { return width & LOOK_UP_8 ? 8 : width & LOOK_UP_5 ? 5 : width; }
ALWAYS uint32_t width_of(const ebb_matrix *w) {
    return w->values == EBB_VALUES_LINEAR ? w->bits : w->bits | (w->values == EBB_VALUES_E2M1 ? LOOK_UP_5 : LOOK_UP_8);
}

// Makes what a compiled kernel has as constants a matrix' format; `block` 0: as the matrix has it.
ALWAYS int one_level(uint32_t kind) { return kind == EBB_SCALE_F16 || kind == EBB_SCALE_E8M0; }
ALWAYS void set_format(ebb_matrix *w, uint32_t width, uint32_t kind, uint32_t asymmetric, uint32_t block) {
    w->bits = index_bits(width); w->scale_kind = kind; w->asymmetric = asymmetric;
    if (!(width & LOOKS_UP)) w->values = EBB_VALUES_LINEAR;
    if (block) w->block = block;
    if (block && one_level(kind)) w->span = block < 32 ? 32 : block;
}

// Byte offsets of a record's parts. Planes come first, the widest first; a plane of p bits takes
// 2 * p bytes for each value of k (16 channels).
typedef struct {
    uint32_t plane8, plane4, plane2, plane1; // offsets; meaningful only where the width has the plane
    uint32_t scales, offsets;                // per block (or per record for super-scales: supers)
    uint32_t supers;
    const value_table *table;                // of the matrix' values
} record_parts;

ALWAYS record_parts parts_of(const ebb_matrix *w) {
    record_parts p = {.table = &value_tables[w->values]};
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
    case EBB_SCALE_E8M0: p.offsets = at + blocks * 16; break;
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

// What the value at a place is multiplied with its scale: signed where the matrix is symmetric.
ALWAYS int32_t value_at(const ebb_matrix *w, const record_parts *p, const uint8_t *record, uint32_t c, uint32_t i) {
    const uint32_t q = quant_at(w, p, record, c, i);
    if (w->values != EBB_VALUES_LINEAR) return p->table->values[q & 15];
    return (int32_t)q - (w->asymmetric ? 0 : 1 << (w->bits - 1));
}

// 2^(e - 128).
ALWAYS float e8m0_to_float(uint8_t e) {
    const uint32_t bits = e < 2 ? (e + 1u) << 21 : (e - 1u) << 23;
    float f;
    memcpy(&f, &bits, 4);
    return f;
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
    case EBB_SCALE_E8M0: *scale = e8m0_to_float(record[p->scales + b * 16 + c]); return;
    case EBB_SCALE_TWO_LEVEL: {
        float d = half_to_float(load_u16(record + p->supers + c * 2));
        if (!w->asymmetric) { *scale = d * p->table->unit * (float)(int8_t)record[p->scales + b * 16 + c]; return; }
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
