// A plugin of qemu-user that counts the instructions that an AArch64 program executes between two marks: system calls that
// do not exist. Prints, at the second mark, how many there were, and how many of them went to memory and to the vector unit.
//
// Declares what it needs of QEMU's plugin API, version 1 (QEMU 4.2 to 8.2); Debian has no package with its header.
// https://www.qemu.org/docs/master/devel/tcg-plugins.html
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef uint64_t plugin_id;
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), int, void *);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id, void (*)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t,
                                                              uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

typedef struct { uint64_t all, memory, vector; } counts;
static counts now;

static void executed(unsigned cpu, void *block) {
    (void)cpu;
    const counts *of = block;
    now.all += of->all;
    now.memory += of->memory;
    now.vector += of->vector;
}

// Bits 25...28 tell loads and stores (x1x0) and vector and floating-point instructions (x111): Arm ARM, C4.1.
static void translated(plugin_id id, struct qemu_plugin_tb *block) {
    (void)id;
    counts *of = calloc(1, sizeof *of); // lives as long as the program
    if (!of) abort();
    of->all = qemu_plugin_tb_n_insns(block);
    for (size_t i = 0; i < of->all; i++) {
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(block, i)), 4);
        of->memory += (word >> 25 & 5) == 4;
        of->vector += (word >> 25 & 7) == 7;
    }
    qemu_plugin_register_vcpu_tb_exec_cb(block, executed, 0, of);
}

static void called(plugin_id id, unsigned cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5,
                   uint64_t a6, uint64_t a7, uint64_t a8) {
    (void)id; (void)cpu; (void)a1; (void)a2; (void)a3; (void)a4; (void)a5; (void)a6; (void)a7; (void)a8;
    if (number == 9000) memset(&now, 0, sizeof now);
    if (number != 9001) return;
    printf("%llu %llu %llu\n", (unsigned long long)now.all, (unsigned long long)now.memory, (unsigned long long)now.vector);
    fflush(stdout);
}

struct info;
__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const struct info *info, int count, char **arguments) {
    (void)info; (void)count; (void)arguments;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
