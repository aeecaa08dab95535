#define _GNU_SOURCE
#include "ebb_system.h"

#include <linux/futex.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

void ebb_futex_wait(const uint32_t *word, uint32_t expected) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

void ebb_futex_wake(const uint32_t *word, int count) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

int ebb_notify(const char *state) { return sd_notify(0, state); }

uint64_t ebb_watchdog_usec(void) {
    uint64_t usec = 0;
    return sd_watchdog_enabled(0, &usec) > 0 ? usec : 0;
}

int ebb_listen_fds(void) { return sd_listen_fds(1); }

int ebb_is_listening_unix(int fd) { return sd_is_socket_unix(fd, SOCK_STREAM, 1, NULL, 0) > 0; }

int ebb_journal_send(const char *const *fields, const size_t *lengths, int count) {
    enum { MOST = 32 };
    struct iovec parts[MOST];
    if (count > MOST) count = MOST;
    for (int i = 0; i < count; i++) parts[i] = (struct iovec){(void *)fields[i], lengths[i]};
    return sd_journal_sendv(parts, count);
}

int ebb_eventfd(void) { return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }

int ebb_page_out(void *base, size_t size) { return madvise(base, size, MADV_PAGEOUT); }

const char *ebb_error_text(int code, char *buffer, int size) { return strerror_r(code, buffer, (size_t)size); }
