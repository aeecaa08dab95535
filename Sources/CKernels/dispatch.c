// Chooses a table of kernels by what CPUID and the operating system offer.
#include "portable/layout.h"
#include "tables.h"
#include <math.h>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

float ebb_f16_to_f32(uint16_t h) { return half_to_float(h); }
uint16_t ebb_f32_to_f16(float f) { return float_to_half(f); }
float ebb_bf16_to_f32(uint16_t h) { return bf16_to_float(h); }
uint16_t ebb_f32_to_bf16(float f) { return float_to_bf16(f); }
float ebb_powf(float x, float y) { return powf(x, y); }
double ebb_log(double x) { return log(x); }

static ebb_values known(ebb_values values) { return (uint32_t)values < EBB_VALUES_COUNT ? values : EBB_VALUES_LINEAR; }
const int8_t *ebb_table_of(ebb_values values) { return value_tables[known(values)].values; }
float ebb_unit_of(ebb_values values) { return value_tables[known(values)].unit; }

void ebb_dequantize_channel(const ebb_matrix *w, uint32_t channel, float *out) {
    uint32_t tile = channel / EBB_TILE, c = channel % EBB_TILE;
    if (w->encoding != EBB_ENCODING_QUANTIZED) {
        size_t start = (size_t)tile * w->k * EBB_TILE + c;
        for (uint32_t i = 0; i < w->k; i++) {
            size_t at = start + (size_t)i * EBB_TILE;
            if (w->encoding == EBB_ENCODING_F32) out[i] = load_float(w->data + at * 4);
            else if (w->encoding == EBB_ENCODING_F16) out[i] = half_to_float(load_u16(w->data + at * 2));
            else out[i] = bf16_to_float(load_u16(w->data + at * 2));
        }
        return;
    }
    record_parts p = parts_of(w);
    for (uint32_t r = 0; r < w->records; r++) {
        const uint8_t *record = w->data + ((size_t)tile * w->records + r) * w->record_bytes;
        uint32_t here = min_u32(w->span, w->k - r * w->span);
        for (uint32_t i = 0; i < here; i += w->block) {
            float scale, offset;
            scale_at(w, &p, record, c, i / w->block, &scale, &offset);
            for (uint32_t j = i; j < i + w->block && j < here; j++)
                out[r * w->span + j] = scale * (float)value_at(w, &p, record, c, j) + offset;
        }
    }
}

#if defined(__x86_64__)
static uint64_t enabled_state(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return ((uint64_t)high << 32) | low;
}

static int cpu_has(ebb_isa isa) {
    unsigned a, b, c, d, b7, c7, d7;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    unsigned c1 = c;
    if (!(c1 & (1u << 27))) return 0; // OSXSAVE
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return 0;
    uint64_t state = enabled_state();
    int avx2 = (state & 0x6) == 0x6 && (c1 & (1u << 12)) && (c1 & (1u << 29)) && (b7 & (1u << 5)); // FMA, F16C, AVX2
    if (isa == EBB_ISA_AVX2) return avx2;
    if (isa == EBB_ISA_AVXVNNI) {
        unsigned a1, b1, c1x, d1;
        return avx2 && a >= 1 && __get_cpuid_count(7, 1, &a1, &b1, &c1x, &d1) && (a1 & (1u << 4));
    }
    // AVX-512 F, DQ, BW, VL and VNNI, with the ZMM state enabled by the operating system.
    unsigned need = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31);
    int vnni = avx2 && (state & 0xe6) == 0xe6 && (b7 & need) == need && (c7 & (1u << 11));
    if (isa != EBB_ISA_AVX512BF16) return vnni;
    unsigned a1, b1, c1x, d1;
    return vnni && a >= 1 && __get_cpuid_count(7, 1, &a1, &b1, &c1x, &d1) && (a1 & (1u << 5));
}
#endif

const ebb_kernels *ebb_kernels_for(ebb_isa isa) {
    switch (isa) {
    case EBB_ISA_PLAIN: return &ebb_plain_kernels;
#if defined(__x86_64__)
    case EBB_ISA_AVX2: return cpu_has(isa) ? &ebb_avx2_kernels : NULL;
    case EBB_ISA_AVXVNNI: return cpu_has(isa) ? &ebb_avxvnni_kernels : NULL;
    case EBB_ISA_AVX512VNNI256: return cpu_has(isa) ? &ebb_avx512vnni256_kernels : NULL;
    case EBB_ISA_AVX512VNNI: return cpu_has(isa) ? &ebb_avx512vnni_kernels : NULL;
    case EBB_ISA_AVX512BF16: return cpu_has(isa) ? &ebb_avx512bf16_kernels : NULL;
#elif defined(__aarch64__)
    // Bits of the Linux ABI (arch/arm64/include/uapi/asm/hwcap.h): ASIMDDP and I8MM.
    case EBB_ISA_NEON: return &ebb_neon_kernels;
    case EBB_ISA_NEON_DOTPROD: return getauxval(AT_HWCAP) & (1ul << 20) ? &ebb_neon_dotprod_kernels : NULL;
    case EBB_ISA_NEON_I8MM:
        return getauxval(AT_HWCAP) & (1ul << 20) && getauxval(AT_HWCAP2) & (1ul << 13) ? &ebb_neon_i8mm_kernels : NULL;
#endif
    default: return NULL;
    }
}

const char *ebb_isa_name(ebb_isa isa) {
    static const char *const names[EBB_ISA_COUNT] = {
        "plain", "avx2", "avxvnni", "avx512vnni256", "avx512vnni", "avx512bf16", "neon", "neon_dotprod", "neon_i8mm",
    };
    return isa < EBB_ISA_COUNT ? names[isa] : "unknown";
}

const ebb_kernels *ebb_kernels_best(void) {
    for (int isa = EBB_ISA_COUNT - 1; isa > EBB_ISA_PLAIN; isa--) {
        const ebb_kernels *k = ebb_kernels_for((ebb_isa)isa);
        if (k) return k;
    }
    return &ebb_plain_kernels;
}
