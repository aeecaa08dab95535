#define _GNU_SOURCE
#include "ebb_system.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { GUARDS = 256 };

// Read by the signal handler while other threads add and remove: `size` is 0 while a guard is not in use, and is
// written last when it is added, first when it is removed.
static struct {
    _Atomic int taken;
    _Atomic uintptr_t base;
    _Atomic size_t size;
    _Atomic int damaged;
} guards[GUARDS];

static uintptr_t page_size = 4096;
static _Atomic int failures;

static void on_bus_error(int signal, siginfo_t *info, void *context) {
    (void)context;
    uintptr_t address = (uintptr_t)info->si_addr;
    for (int i = 0; i < GUARDS; i++) {
        size_t size = atomic_load(&guards[i].size);
        uintptr_t base = atomic_load(&guards[i].base);
        if (size == 0 || address < base || address - base >= size) continue;
        // From the page that cannot be read to the end: zeros. The read that failed is then done again.
        uintptr_t page = address & ~(page_size - 1);
        atomic_store(&guards[i].damaged, 1);
        atomic_fetch_add(&failures, 1);
        void *zeros = mmap((void *)page, base + size - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (zeros != MAP_FAILED) return;
    }
    // Not ours: the fault comes again, and ends the process as it would have.
    struct sigaction standard;
    memset(&standard, 0, sizeof standard);
    standard.sa_handler = SIG_DFL;
    sigaction(signal, &standard, NULL);
}

int ebb_guard_install(void) {
    long page = sysconf(_SC_PAGESIZE);
    if (page > 0) page_size = (uintptr_t)page;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    return sigaction(SIGBUS, &action, NULL);
}

int ebb_guard_add(const void *base, size_t size) {
    for (int i = 0; i < GUARDS; i++) {
        int no = 0;
        if (!atomic_compare_exchange_strong(&guards[i].taken, &no, 1)) continue;
        atomic_store(&guards[i].damaged, 0);
        atomic_store(&guards[i].base, (uintptr_t)base);
        atomic_store(&guards[i].size, size);
        return i;
    }
    return -1;
}

int ebb_guard_is_damaged(int guard) {
    return guard >= 0 && guard < GUARDS ? atomic_load(&guards[guard].damaged) : 0;
}

int ebb_guard_failures(void) { return atomic_load(&failures); }

void ebb_guard_remove(int guard) {
    if (guard < 0 || guard >= GUARDS) return;
    atomic_store(&guards[guard].size, 0);
    atomic_store(&guards[guard].taken, 0);
}
