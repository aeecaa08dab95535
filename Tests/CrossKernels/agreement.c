// Compares every table of kernels of this CPU with the plain one: for architectures that the Swift tests do not run on.
// Shapes have remainders in channels, in k and in rows. Exits with 1 and names what differs.
#define _GNU_SOURCE
#include "ebb_kernels.h"
#include "portable/layout.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t state = 1;
static uint32_t bits32(void) {
    state += 0x9E3779B97F4A7C15ull;
    uint64_t z = state;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return (uint32_t)(z >> 32);
}
static float uniform(float low, float high) { return low + (high - low) * (float)(bits32() >> 8) * 0x1p-24f; }
static float value(void) { float v = uniform(-1, 1); return bits32() % 16 == 0 ? v * 8 : v; }
static void fill(float *x, size_t n) { for (size_t i = 0; i < n; i++) x[i] = value(); }
static void *memory(size_t bytes) {
    void *p = aligned_alloc(64, (bytes + 127) / 64 * 64);
    if (!p) { fprintf(stderr, "no memory\n"); exit(2); }
    memset(p, 0, (bytes + 127) / 64 * 64);
    return p;
}

// Memory that ends where a page begins that may not be read: what reads behind it crashes.
static size_t guarded_bytes(size_t bytes, size_t page) { return (bytes + page - 1) / page * page + page; }
static void *guarded(size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), all = guarded_bytes(bytes, page);
    uint8_t *p = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p + all - page, page, PROT_NONE)) { fprintf(stderr, "no memory\n"); exit(2); }
    return p + all - page - bytes;
}
static void unguard(const void *p, size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), all = guarded_bytes(bytes, page);
    munmap((uint8_t *)p + bytes + page - all, all);
}

static int failures = 0, comparisons = 0;
static const char *table_name;

// The largest difference as a share of the largest expected value, or of `least` where that is larger.
static void compare_beyond(const char *what, const float *expected, const float *found, size_t n, float tolerance, float least) {
    float worst = 0, largest = fmaxf(least, 1e-20f);
    for (size_t i = 0; i < n; i++) {
        float d = fabsf(expected[i] - found[i]);
        if (!(d <= worst)) worst = d;
        largest = fmaxf(largest, fabsf(expected[i]));
    }
    comparisons++;
    if (worst / largest <= tolerance) return;
    if (failures++ < 20) printf("%s: %s differs by %g of the largest\n", table_name, what, worst / largest);
}
static void compare(const char *what, const float *expected, const float *found, size_t n, float tolerance) {
    compare_beyond(what, expected, found, n, tolerance, 0);
}
static void same(const char *what, const void *expected, const void *found, size_t bytes) {
    comparisons++;
    if (memcmp(expected, found, bytes) == 0) return;
    if (failures++ < 20) printf("%s: %s differs\n", table_name, what);
}

// ---- matrices

// What a matrix' values may be, and their bits.
typedef struct {
    uint32_t values, bits;
} width;
static const width widths[] = {
    {0, 2}, {0, 3}, {0, 4}, {0, 5}, {0, 6}, {0, 7}, {0, 8}, {EBB_VALUES_IQ4NL, 4}, {EBB_VALUES_E2M1, 4}, {EBB_VALUES_IQ1, 3},
    {EBB_VALUES_IQ2, 3}, {EBB_VALUES_IQ3XXS, 4}, {EBB_VALUES_IQ3S, 4},
};
enum { WIDTHS = sizeof widths / sizeof widths[0], KINDS = 5 };

// Whether the layout has such scales; 0 is one scale a channel.
static int possible(width of, uint32_t kind, uint32_t block, uint32_t asymmetric) {
    if (asymmetric && (of.values || kind == EBB_SCALE_E8M0)) return 0;
    if (kind == EBB_SCALE_TWO_LEVEL_PACKED && (!asymmetric || of.values)) return 0;
    return (kind != EBB_SCALE_TWO_LEVEL && kind != EBB_SCALE_TWO_LEVEL_PACKED) || block == 16 || block == 32;
}

static ebb_matrix quantized(uint32_t n, uint32_t k, width of, uint32_t block, uint32_t asymmetric, uint32_t kind) {
    ebb_matrix w = {.n = n, .k = k, .encoding = EBB_ENCODING_QUANTIZED, .bits = of.bits, .values = of.values, .scale_kind = kind,
                    .asymmetric = asymmetric};
    int two = kind == EBB_SCALE_TWO_LEVEL || kind == EBB_SCALE_TWO_LEVEL_PACKED;
    w.span = two ? 256 : block == 0 ? (k + 31) / 32 * 32 : block < 32 ? 32 : block;
    w.block = block == 0 ? w.span : block;
    w.records = (k + w.span - 1) / w.span;
    uint32_t blocks = w.span / w.block, sides = asymmetric ? 2 : 1;
    record_parts p = parts_of(&w);
    switch (kind) {
    case EBB_SCALE_F16: w.record_bytes = p.scales + blocks * 32 * sides; break;
    case EBB_SCALE_F32: w.record_bytes = p.scales + blocks * 64 * sides; break;
    case EBB_SCALE_E8M0: w.record_bytes = p.scales + blocks * 16; break;
    default: w.record_bytes = p.supers + 32 * sides; break;
    }
    size_t records = (size_t)((n + 15) / 16) * w.records;
    uint8_t *data = guarded(records * w.record_bytes);
    for (size_t i = 0; i < records * w.record_bytes; i++) data[i] = (uint8_t)bits32();
    for (size_t r = 0; r < records; r++) {
        uint8_t *record = data + r * w.record_bytes;
        if (two)
            for (uint32_t i = 0; i < 16 * sides; i++) {
                uint16_t h = ebb_f32_to_f16(uniform(-0.01f, 0.01f));
                memcpy(record + p.supers + i * 2, &h, 2);
            }
        else
            for (uint32_t i = 0; i < blocks * 16 * sides; i++) {
                float s = uniform(-0.1f, 0.1f);
                uint16_t h = ebb_f32_to_f16(s);
                if (kind == EBB_SCALE_E8M0) record[p.scales + i] = (uint8_t)(118 + bits32() % 12);
                else if (kind == EBB_SCALE_F16) memcpy(record + p.scales + i * 2, &h, 2);
                else memcpy(record + p.scales + i * 4, &s, 4);
            }
    }
    w.data = data;
    return w;
}

static void release_quantized(const ebb_matrix *w) {
    unguard(w->data, (size_t)((w->n + 15) / 16) * w->records * w->record_bytes);
}

static ebb_matrix floats(uint32_t n, uint32_t k, uint32_t encoding) {
    size_t count = (size_t)((n + 15) / 16) * 16 * k;
    uint8_t *data = memory(count * 4);
    for (size_t i = 0; i < count; i++) {
        float v = value();
        uint32_t b;
        memcpy(&b, &v, 4);
        if (encoding == EBB_ENCODING_F32) memcpy(data + i * 4, &v, 4);
        else {
            uint16_t h = encoding == EBB_ENCODING_F16 ? ebb_f32_to_f16(v) : (uint16_t)(b >> 16);
            memcpy(data + i * 2, &h, 2);
        }
    }
    ebb_matrix w = {.data = data, .n = n, .k = k, .encoding = encoding};
    return w;
}

static ebb_activations activations(uint32_t rows, uint32_t k, uint32_t block) {
    uint32_t kp = (k + 31) / 32 * 32;
    ebb_activations a = {.rows = rows, .k = k, .kp = kp, .block = block};
    a.q = guarded((size_t)rows * kp);
    a.scale = guarded((size_t)rows * kp / block * 4);
    a.sum = guarded((size_t)rows * kp / 32 * 4);
    a.sum32 = guarded((size_t)rows * kp / 32 * 4);
    a.sum16 = guarded((size_t)rows * kp / 16 * 4);
    a.lanes = guarded((size_t)rows * kp / 16 * 4);
    a.f = guarded((size_t)rows * k * 4);
    return a;
}
static void release(const ebb_activations *a) {
    const size_t rows = a->rows, kp = a->kp;
    unguard(a->q, rows * kp);
    unguard(a->scale, rows * kp / a->block * 4);
    unguard(a->sum, rows * kp / 32 * 4);
    unguard(a->sum32, rows * kp / 32 * 4);
    unguard(a->sum16, rows * kp / 16 * 4);
    unguard(a->lanes, rows * kp / 16 * 4);
    unguard(a->f, rows * a->k * 4);
}
static void prepare(const ebb_kernels *t, const float *x, ebb_activations *a) {
    for (uint32_t row = 0; row < a->rows; row += 8) {
        t->quantize(x, a->k, row, min_u32(8, a->rows - row), a);
        t->pack(x, a->k, row, min_u32(8, a->rows - row), a);
    }
}

// What a product of random rows may be expected to be: a quarter of |x| max |w|. Few sums can all happen to be far smaller, and
// then differ in more of their digits.
static float usual(const ebb_matrix *w, const float *x, uint32_t rows) {
    float largest = 0, longest = 0, *channel = memory(w->k * 4);
    for (uint32_t c = 0; c < w->n; c++) {
        ebb_dequantize_channel(w, c, channel);
        for (uint32_t i = 0; i < w->k; i++) largest = fmaxf(largest, fabsf(channel[i]));
    }
    for (uint32_t r = 0; r < rows; r++, x += w->k) {
        float squares = 0;
        for (uint32_t i = 0; i < w->k; i++) squares += x[i] * x[i];
        longest = fmaxf(longest, sqrtf(squares));
    }
    free(channel);
    return 0.25f * longest * largest;
}

// Channels, values of k, rows: every number of rows that few-row kernels take, and row blocks with remainders.
static const uint32_t shapes[][3] = {
    {15, 1, 1}, {1, 31, 1}, {16, 32, 1}, {17, 33, 2}, {31, 100, 3}, {40, 288, 9}, {5, 576, 17}, {16, 1056, 5}, {20, 1056, 1},
    {33, 544, 4}, {18, 288, 6}, {17, 800, 7}, {32, 512, 8}, {16, 1088, 3}, {16, 64, 12},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static void products(const ebb_kernels *plain, const ebb_kernels *table) {
    void *scratch = memory(EBB_SCRATCH_BYTES);
    static const uint32_t blocks[] = {0, 16, 32, 64, 128, 256};
    char what[128];
    for (int s = 0; s < SHAPES; s++) {
        uint32_t n = shapes[s][0], k = shapes[s][1], rows = shapes[s][2], tiles = (n + 15) / 16;
        float *x = memory((size_t)rows * k * 4), *a_out = memory((size_t)rows * n * 4), *b_out = memory((size_t)rows * n * 4);
        fill(x, (size_t)rows * k);
        for (uint32_t block = 16; block <= 32; block += 16) {
            ebb_activations a = activations(rows, k, block), b = activations(rows, k, block);
            prepare(plain, x, &a);
            prepare(table, x, &b);
            same("quantize", a.q, b.q, (size_t)rows * a.kp);
            compare("the scales of quantize", a.scale, b.scale, (size_t)rows * a.kp / block, 1e-6f);
            same("the sums of quantize over 32", a.sum32, b.sum32, (size_t)rows * a.kp / 32 * 4);
            same("the sums of quantize over 16", a.sum16, b.sum16, (size_t)rows * a.kp / 16 * 4);
#if defined(__x86_64__)
            same("the sums of quantize by lanes", a.lanes, b.lanes, (size_t)rows * a.kp / 16 * 4);
#endif
            compare("the scaled sums of quantize", a.sum, b.sum, (size_t)rows * a.kp / 32, 1e-6f);
            same("pack", a.f, b.f, (size_t)rows * k * 4);
            for (int of = 0; of < WIDTHS; of++)
                for (uint32_t kind = 0; kind < KINDS; kind++)
                    for (uint32_t asymmetric = 0; asymmetric < 2; asymmetric++)
                        for (int i = 0; i < 6; i++) {
                            if (!possible(widths[of], kind, blocks[i], asymmetric)) continue;
                            ebb_matrix w = quantized(n, k, widths[of], blocks[i], asymmetric, kind);
                            plain->matmul_q(&w, &a, 0, tiles, a_out, n, scratch);
                            table->matmul_q(&w, &a, 0, tiles / 2, b_out, n, scratch);
                            table->matmul_q(&w, &a, tiles / 2, tiles, b_out, n, scratch);
                            snprintf(what, sizeof what, "matmul_q %u bits (%u), block %u, kind %u, asymmetric %u, n %u k %u rows %u (%u)",
                                     w.bits, w.values, w.block, kind, asymmetric, n, k, rows, block);
                            compare_beyond(what, a_out, b_out, (size_t)rows * n, 2e-5f, usual(&w, x, rows));
                            if (block == 32 && i < 3 && s < 6) {
                                size_t count = (size_t)tiles * 16 * k;
                                float *e = memory(count * 4), *f = memory(count * 4);
                                plain->expand(&w, 0, tiles, EBB_ENCODING_F32, e);
                                table->expand(&w, 0, tiles, EBB_ENCODING_F32, f);
                                compare("expand", e, f, count, 1e-6f);
                                if (w.values) same("expand of a table", e, f, count * 4);
                                free(e);
                                free(f);
                            }
                            release_quantized(&w);
                        }
            for (uint32_t e = EBB_ENCODING_F32; e <= EBB_ENCODING_BF16; e++) {
                ebb_matrix w = floats(n, k, e);
                plain->matmul_f(&w, &a, 0, tiles, a_out, n, scratch);
                table->matmul_f(&w, &a, 0, tiles, b_out, n, scratch);
                compare("matmul_f", a_out, b_out, (size_t)rows * n, 2e-5f);
                free((void *)w.data);
            }
            float *multipliers = memory(k * 4);
            for (uint32_t i = 0; i < k; i++) multipliers[i] = uniform(1, 200);
            for (uint32_t row = 0; row < rows; row += 8) {
                plain->quantize_static(x, k, row, min_u32(8, rows - row), multipliers, &a);
                table->quantize_static(x, k, row, min_u32(8, rows - row), multipliers, &b);
            }
            same("quantize_static", a.q, b.q, (size_t)rows * a.kp);
            same("the sums of quantize_static", a.sum32, b.sum32, rows * 4);
            ebb_matrix w = quantized(n, k, (width){0, 8}, 0, 0, EBB_SCALE_F16);
            plain->matmul_s(&w, &a, 0.01f, 0, tiles, a_out, n);
            table->matmul_s(&w, &a, 0.01f, 0, tiles / 2, b_out, n);
            table->matmul_s(&w, &a, 0.01f, tiles / 2, tiles, b_out, n);
            compare("matmul_s", a_out, b_out, (size_t)rows * n, 1e-6f);
            release_quantized(&w);
            free(multipliers);
            release(&a);
            release(&b);
        }
        free(x); free(a_out); free(b_out);
    }
    free(scratch);
}

// Weights at an end of their range, activations all alike: the sums are as large as they can be.
static void extremes(const ebb_kernels *plain, const ebb_kernels *table) {
    enum { N = 16, K = 512 };
    static const uint32_t row_counts[] = {1, 2, 3, 4, 9};
    void *scratch = memory(EBB_SCRATCH_BYTES);
    float *x = memory(9 * K * 4), *expected = memory(9 * N * 4), *found = memory(9 * N * 4);
    char what[128];
    for (int i = 0; i < 9 * K; i++) x[i] = i / K % 2 ? -1 : 1;
    for (int s = 0; s < 5; s++)
        for (uint32_t block = 16; block <= 32; block += 16) {
            const uint32_t rows = row_counts[s];
            ebb_activations a = activations(rows, K, block);
            prepare(table, x, &a);
            for (int of = 0; of < WIDTHS; of++)
                for (uint32_t kind = 0; kind < KINDS; kind++)
                    for (uint32_t side = 0; side < 8; side++) {
                        const uint32_t asymmetric = side & 1, of_weights = side & 2 ? 0xff : 0;
                        if (kind == EBB_SCALE_F32 || !possible(widths[of], kind, 32, asymmetric)) continue;
                        ebb_matrix w = quantized(N, K, widths[of], side & 4 ? 16 : 32, asymmetric, kind);
                        const record_parts p = parts_of(&w);
                        for (uint32_t r = 0; r < w.records; r++) {
                            uint8_t *record = (uint8_t *)w.data + r * w.record_bytes;
                            memset(record, (int)of_weights, p.scales);
                            if (p.supers) memset(record + p.scales, asymmetric ? 0xff : 0x80, p.supers - p.scales);
                        }
                        plain->matmul_q(&w, &a, 0, 1, expected, N, scratch);
                        table->matmul_q(&w, &a, 0, 1, found, N, scratch);
                        snprintf(what, sizeof what, "matmul_q of extremes: %u bits (%u), block %u, kind %u, side %u, rows %u (%u)",
                                 w.bits, w.values, w.block, kind, side, rows, block);
                        compare(what, expected, found, (size_t)rows * N, 2e-5f);
                        release_quantized(&w);
                    }
            release(&a);
        }
    free(scratch); free(x); free(expected); free(found);
}

static void vectors(const ebb_kernels *plain, const ebb_kernels *table) {
    static const uint32_t lengths[] = {1, 3, 7, 8, 16, 17, 31, 33, 64, 100, 576, 1000};
    for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        uint32_t n = lengths[i];
        float *x = memory(n * 4), *y = memory(n * 4), *a = memory(n * 4), *b = memory(n * 4);
        fill(x, n);
        fill(y, n);
#define BOTH(NAME, TOLERANCE, CALL) \
        do { const ebb_kernels *t = plain; float *out = a; memcpy(out, x, n * 4); CALL; \
             t = table; out = b; memcpy(out, x, n * 4); CALL; compare(NAME, a, b, n, TOLERANCE); } while (0)
        BOTH("rms_norm", 1e-5f, t->rms_norm(x, y, out, n, 1e-5f));
        if (n > 1) BOTH("layer_norm", 1e-4f, t->layer_norm(x, y, x, out, n, 1e-5f));
        BOTH("softmax", 1e-5f, t->softmax(out, n));
        BOTH("silu_gate", 1e-5f, t->silu_gate(x, y, out, n));
        BOTH("gelu_gate", 1e-5f, t->gelu_gate(x, y, out, n));
        BOTH("clamped_gate", 1e-5f, t->clamped_gate(x, y, out, n));
        BOTH("soft_cap", 1e-5f, t->soft_cap(out, 0.7f, n));
        BOTH("gelu", 1e-5f, t->gelu(out, y, n));
        BOTH("add", 1e-6f, t->add(out, y, n));
        BOTH("axpy", 1e-6f, t->axpy(out, y, -0.7f, n));
#undef BOTH
        float low[2], high[2];
        plain->range(x, n, &low[0], &high[0]);
        table->range(x, n, &low[1], &high[1]);
        same("range", &low[0], &low[1], 4);
        same("range", &high[0], &high[1], 4);
        uint8_t *p = memory(n), *q = memory(n);
        plain->encode(x, n, 0.1f, -0.75f, 15, p);
        table->encode(x, n, 0.1f, -0.75f, 15, q);
        same("encode", p, q, n);
        for (int beta = 0; beta < 8; beta += 4) {
            ebb_block_sums s, t;
            ebb_shrinkage shrinkage = {(float)beta, 0.7f};
            for (uint32_t j = 0; j < n; j++) a[j] = fabsf(y[j]) + 0.1f;
            plain->block_sums(x, beta ? a : NULL, n, 0.3f, -0.9f, 7, shrinkage, &s);
            table->block_sums(x, beta ? a : NULL, n, 0.3f, -0.9f, 7, shrinkage, &t);
            compare("block_sums", (float *)&s, (float *)&t, sizeof s / 4, 1e-4f);
        }
        free(p); free(q); free(x); free(y); free(a); free(b);
    }
}

static void attention(const ebb_kernels *plain, const ebb_kernels *table) {
    static const uint32_t dims[] = {16, 32, 64, 128, 256};
    for (unsigned i = 0; i < 5; i++) {
        uint32_t hd = dims[i], heads = 2, group = 3, tokens = 75, blocks = 3;
        size_t values = (size_t)heads * hd * 32 * 2, bytes = values * 2;
        uint8_t *pool_a = memory(bytes * blocks), *pool_b = memory(bytes * blocks);
        float *k = memory((size_t)heads * hd * 4), *v = memory((size_t)heads * hd * 4);
        for (uint32_t t = 0; t < tokens; t++) {
            fill(k, heads * hd);
            fill(v, heads * hd);
            plain->store_kv(k, v, pool_a + t / 32 * bytes, values, heads, hd, t % 32);
            table->store_kv(k, v, pool_b + t / 32 * bytes, values, heads, hd, t % 32);
        }
        same("store_kv", pool_a, pool_b, bytes * blocks);
        uint32_t numbers[] = {0, 1, 2};
        size_t ld = (size_t)group * hd, count = ld * 4;
        float *q = memory(count * 4), *a = memory(count * 4), *b = memory(count * 4);
        fill(q, count);
        for (uint32_t window = 0; window <= 20; window += 20) {
            ebb_kv_view view = {.base = pool_a, .blocks = numbers, .block_bytes = bytes, .key_offset = (size_t)hd * 64,
                                .value_offset = values + (size_t)hd * 64, .head_dim = hd};
            ebb_queries rows = {.rows = 8, .first = 2, .group = group, .position = 60, .window = window, .scale = 0.1f, .q = q, .ld = ld};
            memset(a, 0, count * 4);
            memset(b, 0, count * 4);
            rows.out = a;
            plain->attention(&view, &rows);
            rows.out = b;
            table->attention(&view, &rows);
            compare("attention", a, b, count, 1e-4f);
            const float sinks[] = {0.3f, -2, 1.5f};
            rows.softcap = 0.7f;
            rows.sinks = sinks;
            rows.out = a;
            plain->attention(&view, &rows);
            rows.out = b;
            table->attention(&view, &rows);
            compare("attention with soft cap and sinks", a, b, count, 1e-4f);
        }
        // The same with the second block in int8.
        size_t head_bytes = ebb_kv_int8_bytes(hd);
        uint8_t *small_a = memory(head_bytes * heads), *small_b = memory(head_bytes * heads);
        for (uint32_t h = 0; h < heads; h++) {
            const uint16_t *keys = (const uint16_t *)(pool_a + bytes + (size_t)h * hd * 64);
            const uint16_t *vals = (const uint16_t *)(pool_a + bytes + values + (size_t)h * hd * 64);
            plain->kv_to_int8(keys, vals, hd, small_a + h * head_bytes);
            table->kv_to_int8(keys, vals, hd, small_b + h * head_bytes);
            for (uint32_t j = 0; j < 64 * hd; j++) {
                int d = abs((int)(int8_t)small_a[h * head_bytes + j] - (int)(int8_t)small_b[h * head_bytes + j]);
                if (d > 1 && d != 255) same("kv_to_int8", small_a + h * head_bytes, small_b + h * head_bytes, 64 * hd);
            }
        }
        uint32_t mixed[] = {0, 0 | EBB_KV_INT8, 2};
        ebb_kv_view view = {.base = pool_a, .blocks = mixed, .block_bytes = bytes, .key_offset = (size_t)hd * 64,
                            .value_offset = values + (size_t)hd * 64, .head_dim = hd, .int8_base = small_a,
                            .int8_block_bytes = head_bytes * heads, .int8_offset = head_bytes};
        ebb_queries rows = {.rows = 8, .first = 2, .group = group, .position = 60, .scale = 0.1f, .q = q, .ld = ld};
        memset(a, 0, count * 4);
        memset(b, 0, count * 4);
        rows.out = a;
        plain->attention(&view, &rows);
        rows.out = b;
        table->attention(&view, &rows);
        compare("attention int8", a, b, count, 2e-3f);
        free(small_a); free(small_b);
        float *cosine = memory(hd * 2), *sine = memory(hd * 2);
        for (uint32_t j = 0; j < hd / 2; j++) { cosine[j] = cosf((float)j); sine[j] = sinf((float)j); }
        for (uint32_t pairs = 0; pairs < 2; pairs++) {
            memcpy(a, q, ld * 4);
            memcpy(b, q, ld * 4);
            plain->rope(a, cosine, sine, group, hd, pairs);
            table->rope(b, cosine, sine, group, hd, pairs);
            compare("rope", a, b, ld, 1e-6f);
        }
        free(pool_a); free(pool_b); free(k); free(v); free(q); free(a); free(b); free(cosine); free(sine);
    }
}

// One head's keys and values in a cache of 4 blocks, the second of which is int8 too; keys have a constant part where
// `constant` is not 0, as a bias makes it.
enum { BLOCKS = 4 };
typedef struct {
    uint8_t *pool, *small;
    uint32_t numbers[BLOCKS];
    ebb_kv_view view;
} cache;

static cache filled_cache(const ebb_kernels *plain, uint32_t hd, float constant, int int8) {
    size_t bytes = (size_t)hd * 128;
    cache c = {.pool = memory(bytes * BLOCKS), .small = memory(ebb_kv_int8_bytes(hd)), .numbers = {2, 0, 3, 1}};
    float *k = memory(hd * 4), *v = memory(hd * 4);
    for (uint32_t t = 0; t < 32 * BLOCKS; t++) {
        for (uint32_t d = 0; d < hd; d++) k[d] = uniform(-1, 1) + constant * (float)(d % 7), v[d] = uniform(-1, 1);
        plain->store_kv(k, v, c.pool + c.numbers[t / 32] * bytes, bytes / 2, 1, hd, t % 32);
    }
    const uint16_t *block = (const uint16_t *)(c.pool + c.numbers[1] * bytes);
    plain->kv_to_int8(block, block + hd * 32, hd, c.small);
    if (int8) c.numbers[1] = 0 | EBB_KV_INT8;
    free(k); free(v);
    c.view = (ebb_kv_view){.base = c.pool, .block_bytes = bytes, .value_offset = bytes / 2, .head_dim = hd,
                           .int8_base = c.small, .int8_block_bytes = ebb_kv_int8_bytes(hd)};
    return c;
}

// Attention in bf16, of every head width, every number of rows in its last row block, with windows and a ring.
static void attention_in_bf16(const ebb_kernels *plain, const ebb_kernels *table) {
    if (!table->attention_bf16) return;
    static const uint32_t groups[] = {1, 2, 3, 7, 8};
    uint32_t turn = 0;
    for (uint32_t hd = 16; hd <= EBB_MAX_HEAD_DIM; hd += 16)
        for (uint32_t rows_count = 1; rows_count <= EBB_QUERY_ROWS; rows_count += rows_count < 17 ? 1 : 5, turn++) {
            uint32_t group = groups[turn % 5], window = turn % 3 == 1 ? 40 : 0, ring = turn % 6 == 1 ? 3 : 0;
            uint32_t first = turn % 4, tokens = (first + rows_count + group - 1) / group, int8 = turn % 7 == 3;
            cache c = filled_cache(plain, hd, turn % 2 ? 20 : 0, (int)int8);
            c.view.blocks = c.numbers;
            c.view.ring_blocks = ring;
            size_t ld = (size_t)group * hd, count = ld * tokens;
            float *q = memory(count * 4), *a = memory(count * 4), *b = memory(count * 4);
            // Scores of about 1, but for the constant: a rounded score changes its weight by the factor e^error.
            for (size_t i = 0; i < count; i++) q[i] = uniform(-4, 4) / sqrtf((float)hd);
            ebb_queries rows = {.rows = rows_count, .first = first, .group = group, .position = 128 - tokens,
                                .window = window, .scale = 0.3f, .q = q, .ld = ld};
            memset(a, 0, count * 4);
            memset(b, 0, count * 4);
            rows.out = a;
            plain->attention(&c.view, &rows);
            rows.out = b;
            table->attention_bf16(&c.view, &rows);
            char what[128];
            snprintf(what, sizeof what, "attention in bf16, head %u, %u rows, group %u, window %u, ring %u, int8 %u", hd,
                     rows_count, group, window, ring, int8);
            // 2^-9 of each query, key, value and weight; f16 between an int8 key of 120 and bf16 rounds by 0.03.
            compare(what, a, b, count, int8 ? 0x1p-5f : 0x1p-6f);
            free(q); free(a); free(b); free(c.pool); free(c.small);
        }
}

static int compare_table(const ebb_kernels *plain, const ebb_kernels *table) {
    table_name = table->name;
    products(plain, table);
    extremes(plain, table);
    vectors(plain, table);
    attention(plain, table);
    attention_in_bf16(plain, table);
    printf("%s: %d comparisons with plain C, %d failures\n", table->name, comparisons, failures);
    return failures ? 1 : 0;
}

int main(int count, char **wanted) {
    const ebb_kernels *plain = ebb_kernels_for(EBB_ISA_PLAIN);
    int tables = 0, failed = 0;
    // A process for each, so that they run beside each other.
    for (int isa = EBB_ISA_PLAIN + 1; isa < EBB_ISA_COUNT; isa++) {
        const ebb_kernels *table = ebb_kernels_for((ebb_isa)isa);
        if (!table) continue;
        tables++;
        pid_t child = fork();
        if (child == 0) exit(compare_table(plain, table));
        if (child < 0) { perror("fork"); return 2; }
    }
    for (int status; wait(&status) > 0;) failed += status != 0;
    // The tables that must be there are named by the caller: a CPU that lacks them proves nothing.
    for (int i = 1; i < count; i++) {
        int found = 0;
        for (int isa = 0; isa < EBB_ISA_COUNT; isa++) {
            const ebb_kernels *table = ebb_kernels_for((ebb_isa)isa);
            if (table && strcmp(table->name, wanted[i]) == 0) found = 1;
        }
        if (!found) { printf("%s is not there\n", wanted[i]); failed++; }
    }
    printf("%d tables, %d with failures or missing\n", tables, failed);
    return failed ? 1 : 0;
}
