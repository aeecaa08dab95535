// ebb TABLE N K: products of a matrix [N, K] with rows of activations, for count.c. Prints a line `FORMAT ROWS` before each;
// FORMAT/16 has a scale of the activations for every 16 values, as the input of a decoder's last product of a layer has.
// Counts quantizing the rows too, as ggml's product does. No instruction depends on the weights' bits.
#include "ebb_kernels.h"
#include "layout.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static void *memory(size_t bytes) {
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!p) exit(2);
    return memset(p, 0, (bytes + 63) / 64 * 64);
}

static ebb_matrix filled(ebb_matrix w) {
    const record_parts p = parts_of(&w);
    const uint32_t sides = w.asymmetric ? 2 : 1;
    w.encoding = EBB_ENCODING_QUANTIZED;
    w.records = (w.k + w.span - 1) / w.span;
    w.record_bytes = (w.scale_kind == EBB_SCALE_F16 ? p.scales + w.span / w.block * 32 * sides : p.supers + 32 * sides);
    size_t bytes = (size_t)((w.n + 15) / 16) * w.records * w.record_bytes;
    uint8_t *data = memory(bytes);
    for (size_t i = 0; i < bytes; i++) data[i] = (uint8_t)(i % 251);
    w.data = data;
    return w;
}

static void product(const ebb_kernels *table, const char *format, const ebb_matrix *w, uint32_t block, uint32_t rows) {
    const uint32_t k = w->k, n = w->n;
    ebb_activations a = {.rows = rows, .k = k, .kp = (k + 31) / 32 * 32, .block = block};
    a.q = memory((size_t)rows * a.kp);
    a.scale = memory((size_t)rows * a.kp / block * 4);
    a.sum = memory((size_t)rows * a.kp / 32 * 4);
    a.sum32 = memory((size_t)rows * a.kp / 32 * 4);
    a.sum16 = memory((size_t)rows * a.kp / 16 * 4);
    float *x = memory((size_t)rows * k * 4), *out = memory((size_t)rows * n * 4);
    void *scratch = memory(EBB_SCRATCH_BYTES);
    for (size_t i = 0; i < (size_t)rows * k; i++) x[i] = (float)(i % 61) - 30;
    printf("%s %u\n", format, rows);
    fflush(stdout);
    syscall(9000);
    for (uint32_t row = 0; row < rows; row += EBB_ROW_BLOCK) table->quantize(x, k, row, min_u32(EBB_ROW_BLOCK, rows - row), &a);
    table->matmul_q(w, &a, 0, (n + 15) / 16, out, n, scratch);
    syscall(9001);
    free(a.q); free(a.scale); free(a.sum); free(a.sum32); free(a.sum16); free(x); free(out); free(scratch);
}

int main(int count, char **arguments) {
    if (count != 4) return 2;
    const uint32_t n = (uint32_t)atoi(arguments[2]), k = (uint32_t)atoi(arguments[3]);
    const ebb_kernels *table = NULL;
    for (int isa = 0; isa < EBB_ISA_COUNT; isa++)
        if (strcmp(ebb_isa_name((ebb_isa)isa), arguments[1]) == 0) table = ebb_kernels_for((ebb_isa)isa);
    if (!table) { fprintf(stderr, "no %s\n", arguments[1]); return 1; }
    // As the importer stores them.
    const ebb_matrix shape = {.n = n, .k = k, .block = 32, .span = 32}, two = {.n = n, .k = k, .scale_kind = EBB_SCALE_TWO_LEVEL, .span = 256};
    ebb_matrix q4_0 = shape, q8_0 = shape, q4_k = two, q6_k = two;
    q4_0.bits = 4; q8_0.bits = 8;
    q4_k.bits = 4; q4_k.asymmetric = 1; q4_k.block = 32;
    q6_k.bits = 6; q6_k.block = 16;
    q4_0 = filled(q4_0); q8_0 = filled(q8_0); q4_k = filled(q4_k); q6_k = filled(q6_k);
    static const uint32_t rows[] = {1, 4, 8, 512};
    for (int i = 0; i < 4; i++) {
        product(table, "Q4_0", &q4_0, 32, rows[i]);
        product(table, "Q4_0/16", &q4_0, 16, rows[i]);
        product(table, "Q4_K", &q4_k, 32, rows[i]);
        product(table, "Q6_K", &q6_k, 32, rows[i]);
        product(table, "Q8_0", &q8_0, 32, rows[i]);
    }
    return 0;
}
