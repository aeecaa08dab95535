#define _GNU_SOURCE
#include "ebb_system.h"

#include <linux/futex.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <systemd/sd-daemon.h>
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

const char *ebb_error_text(int code, char *buffer, int size) { return strerror_r(code, buffer, (size_t)size); }
