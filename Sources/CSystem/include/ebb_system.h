// Thin shims over system calls that Swift cannot say. No decisions here.
#ifndef EBB_SYSTEM_H
#define EBB_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

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

static inline uint64_t ebb_atomic_load64(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }
static inline void ebb_atomic_store64(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_SEQ_CST); }
// Replaces a value by another; false where it was a third.
static inline bool ebb_atomic_replace64(uint64_t *word, uint64_t from, uint64_t to) {
    return __atomic_compare_exchange_n(word, &from, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

// Monotonic time in seconds, without a system call where the kernel offers that.
static inline double ebb_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

// What SO_PEERCRED returns (struct ucred of <sys/socket.h>, which Swift does not see): who is at the other end of a
// connected Unix socket, from the kernel.
typedef struct {
    int32_t pid;
    uint32_t uid, gid;
} ebb_peer;

// Who is at the other end of a connected Unix socket: SO_PEERCRED. 0, or a negative error number.
int ebb_peer_of(int fd, ebb_peer *peer);
// The other end's supplementary groups, as they were when it connected: SO_PEERGROUPS. Their number, or a negative error
// number (-ERANGE where there are more than `capacity`).
int ebb_peer_groups(int fd, uint32_t *groups, int capacity);
// A listening Unix stream socket at a path, closed on exec, not blocking, born with mode 0660. A descriptor, or a negative
// error number (-ENAMETOOLONG for a path of more than 107 bytes).
int ebb_listen(const char *path, int backlog);
// accept4(2): a connection that is closed on exec and does not block. A descriptor, or a negative error number.
int ebb_accept(int listener);

// prctl(PR_SET_NAME): what ps and top call the calling thread; 15 bytes at most.
void ebb_name_thread(const char *name);

// Has the tasks of Swift's concurrency run on threads that nothing wakes while there is nothing to do. Once, before any
// task but the first begins.
void ebb_tasks_sleep_well(void);

// Sets up malloc so that memory comes back: large blocks are mappings of their own, arenas are few, and free memory at the
// end of the heap is given back. For the whole process.
void ebb_heap_bound(void);
// malloc_trim(3): gives free pages of the heap back to the system.
void ebb_heap_trim(void);
// mallinfo2(3): bytes in use (those in mappings of their own included), and free bytes that the process holds.
void ebb_heap_use(size_t *used, size_t *unused);

// libsystemd: sd_notify(3). Returns > 0 when a message was sent, 0 without a service manager.
int ebb_notify(const char *state);
// libsystemd: sd_watchdog_enabled(3): microseconds, or 0 where no watchdog is wanted.
uint64_t ebb_watchdog_usec(void);
// libsystemd: sd_listen_fds(3): number of sockets handed over, the first of which is 3. Unsets the environment.
int ebb_listen_fds(void);
// libsystemd: sd_is_socket_unix(3): 1 if fd is a listening Unix stream socket.
int ebb_is_listening_unix(int fd);

// libsystemd: sd_journal_sendv(3) of `count` fields `NAME=value`, with their lengths. 0, or a negative error number.
int ebb_journal_send(const char *const *fields, const size_t *lengths, int count);

// eventfd(2), not blocking, closed on exec.
int ebb_eventfd(void);

// Guards of mapped files. A file that is cut short under its mapping makes reads fail by SIGBUS; once
// ebb_guard_install has been called, a guarded mapping reads as zeros from there on instead, and is marked.
// Installs the handler. 0 on success.
int ebb_guard_install(void);
// Guards a mapping; its number, or -1 where there are too many.
int ebb_guard_add(const void *base, size_t size);
// 1 once a read of the mapping has failed.
int ebb_guard_is_damaged(int guard);
// How many reads have failed since the handler was installed.
int ebb_guard_failures(void);
// Ends a guard, before the mapping is removed.
void ebb_guard_remove(int guard);

// madvise(2) with MADV_PAGEOUT: writes back and takes the pages of a range. 0 on success.
int ebb_page_out(void *base, size_t size);

// Formats strerror(code) into buffer; returns buffer.
const char *ebb_error_text(int code, char *buffer, int size);

#endif
