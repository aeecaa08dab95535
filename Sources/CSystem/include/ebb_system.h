// Thin shims over system calls that Swift cannot say. No decisions here.
#ifndef EBB_SYSTEM_H
#define EBB_SYSTEM_H

#include <stdint.h>
#include <sys/types.h>

// Sleeps while *word == expected, until ebb_futex_wake. May return early.
void ebb_futex_wait(const uint32_t *word, uint32_t expected);
// Wakes up to `count` threads that sleep on word.
void ebb_futex_wake(const uint32_t *word, int count);

// Sequentially consistent atomics on words that a futex waits on.
static inline uint32_t ebb_atomic_load(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }
static inline void ebb_atomic_store(uint32_t *word, uint32_t value) { __atomic_store_n(word, value, __ATOMIC_SEQ_CST); }
// Adds and returns the value before.
static inline uint32_t ebb_atomic_add(uint32_t *word, uint32_t value) {
    return __atomic_fetch_add(word, value, __ATOMIC_SEQ_CST);
}

// What SO_PEERCRED returns (struct ucred of <sys/socket.h>, which Swift does not see): who is at the other end of a
// connected Unix socket, from the kernel.
typedef struct {
    int32_t pid;
    uint32_t uid, gid;
} ebb_peer;

// libsystemd: sd_notify(3). Returns > 0 when a message was sent, 0 without a service manager.
int ebb_notify(const char *state);
// libsystemd: sd_watchdog_enabled(3): microseconds, or 0 where no watchdog is wanted.
uint64_t ebb_watchdog_usec(void);
// libsystemd: sd_listen_fds(3): number of sockets handed over, the first of which is 3. Unsets the environment.
int ebb_listen_fds(void);
// libsystemd: sd_is_socket_unix(3): 1 if fd is a listening Unix stream socket.
int ebb_is_listening_unix(int fd);

// Formats strerror(code) into buffer; returns buffer.
const char *ebb_error_text(int code, char *buffer, int size);

#endif
