#define _GNU_SOURCE
#include "ebb_system.h"

#include <errno.h>
#include <linux/futex.h>
#include <malloc.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

void ebb_futex_wait(const uint32_t *word, uint32_t expected) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

void ebb_futex_wake(const uint32_t *word, int count) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

int ebb_peer_of(int fd, ebb_peer *peer) {
    socklen_t size = sizeof *peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &size) == 0 ? 0 : -errno;
}

int ebb_peer_groups(int fd, uint32_t *groups, int capacity) {
    socklen_t size = (socklen_t)capacity * sizeof *groups;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) != 0) return -errno;
    return (int)(size / sizeof *groups);
}

int ebb_listen(const char *path, int backlog) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length >= sizeof address.sun_path) return -ENAMETOOLONG;
    memcpy(address.sun_path, path, length);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -errno;
    // A chmod afterwards would leave a moment for others.
    mode_t mask = umask(0117);
    int code = bind(fd, (struct sockaddr *)&address, sizeof address);
    if (code == 0) code = listen(fd, backlog);
    int error = errno;
    umask(mask);
    if (code == 0) return fd;
    close(fd);
    return -error;
}

int ebb_accept(int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    return fd >= 0 ? fd : -errno;
}

void ebb_name_thread(const char *name) { prctl(PR_SET_NAME, name); }

#ifdef __GLIBC__
void ebb_heap_bound(void) {
    mallopt(M_ARENA_MAX, 2);
    // Set by hand, it no longer grows to the largest block that was ever freed.
    mallopt(M_MMAP_THRESHOLD, 256 << 10);
    mallopt(M_TRIM_THRESHOLD, 1 << 20);
}

void ebb_heap_trim(void) { malloc_trim(0); }

void ebb_heap_use(size_t *used, size_t *unused) {
    struct mallinfo2 info = mallinfo2();
    *used = info.uordblks + info.hblkhd;
    *unused = info.fordblks;
}
#else
void ebb_heap_bound(void) {}
void ebb_heap_trim(void) {}
void ebb_heap_use(size_t *used, size_t *unused) { *used = *unused = 0; }
#endif

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
