// Runs the tasks of Swift's concurrency on threads that nothing wakes while there is nothing to do: by the hooks of its
// runtime (swift/Runtime/Concurrency.h), which others (JavaScriptKit, FoundationDB) use for their own loops.
//
// The runtime's own queue targets one of libdispatch's global queues, and the first thread of these starts a timer of a
// second that never ends: it looks whether threads are blocked and more are needed (_dispatch_workq_monitor_pools in
// src/event/workqueue.c of swift-corelibs-libdispatch). Queues that take what threads they need, as all serial ones do,
// are not watched. So is this one, and its width bounds it to what the runtime's is bounded to: a thread for each core.
#include "ebb_system.h"

#define SWIFT_CC __attribute__((swiftcall))

typedef struct {
    void *identity;
    uintptr_t implementation;
} executor_ref;

typedef SWIFT_CC void (*enqueue_hook)(void *job, void *original);
typedef SWIFT_CC void (*delay_hook)(unsigned long long nanoseconds, void *job, void *original);
typedef SWIFT_CC void (*deadline_hook)(
    long long seconds, long long nanoseconds, long long, long long, int clock, void *job, void *original);

extern SWIFT_CC void swift_job_run(void *job, executor_ref executor);
extern void *swift_task_enqueueGlobal_hook;
extern void *swift_task_enqueueGlobalWithDelay_hook;
extern void *swift_task_enqueueGlobalWithDeadline_hook;

// Of libdispatch, whose headers C does not find here.
typedef struct dispatch_object *dispatch_queue_t;
extern struct dispatch_attr { int opaque; } _dispatch_queue_attr_concurrent;
extern dispatch_queue_t dispatch_queue_create(const char *label, struct dispatch_attr *attributes);
extern dispatch_queue_t dispatch_get_global_queue(intptr_t priority, uintptr_t flags);
extern void dispatch_set_target_queue(dispatch_queue_t queue, dispatch_queue_t target);
extern void dispatch_async_f(dispatch_queue_t queue, void *context, void (*work)(void *));
extern void dispatch_after_f(uint64_t when, dispatch_queue_t queue, void *context, void (*work)(void *));
extern uint64_t dispatch_time(uint64_t base, int64_t nanoseconds);
static const uint64_t uptime_now = 0, monotonic_now = 1ull << 63;
// Not in its headers either: what the runtime sets the width of its queues with, and the flag of queues that take what
// threads they need.
extern void dispatch_queue_set_width(dispatch_queue_t queue, long width);
enum { DEFAULT_PRIORITY = 0, OVERCOMMIT = 2, WIDTH_OF_LOGICAL_CORES = -3 };

// The runtime's numbers of clocks (swift_clock_id).
enum { CONTINUOUS = 1, SUSPENDING = 2 };

static dispatch_queue_t tasks;

static void run(void *job) {
    // No executor in particular.
    swift_job_run(job, (executor_ref){0, 0});
}

static SWIFT_CC void enqueue(void *job, void *original) {
    (void)original;
    dispatch_async_f(tasks, job, run);
}

static SWIFT_CC void enqueue_later(unsigned long long nanoseconds, void *job, void *original) {
    (void)original;
    dispatch_after_f(dispatch_time(uptime_now, (int64_t)nanoseconds), tasks, job, run);
}

// A moment of a clock; how late it may be is not made use of.
static SWIFT_CC void enqueue_at(
    long long seconds, long long nanoseconds, long long tolerance_seconds, long long tolerance_nanoseconds, int clock,
    void *job, void *original) {
    (void)tolerance_seconds, (void)tolerance_nanoseconds, (void)original;
    bool is_continuous = clock == CONTINUOUS;
    struct timespec now;
    clock_gettime(is_continuous ? CLOCK_BOOTTIME : clock == SUSPENDING ? CLOCK_MONOTONIC : CLOCK_REALTIME, &now);
    __int128 rest = (__int128)(seconds - now.tv_sec) * 1000000000 + (nanoseconds - now.tv_nsec);
    int64_t delay = rest < 0 ? 0 : rest > INT64_MAX / 4 ? INT64_MAX / 4 : (int64_t)rest;
    // libdispatch's monotonic time goes on while the machine is suspended.
    dispatch_after_f(dispatch_time(is_continuous ? monotonic_now : uptime_now, delay), tasks, job, run);
}

void ebb_tasks_sleep_well(void) {
    tasks = dispatch_queue_create("ebb.tasks", &_dispatch_queue_attr_concurrent);
    dispatch_set_target_queue(tasks, dispatch_get_global_queue(DEFAULT_PRIORITY, OVERCOMMIT));
    dispatch_queue_set_width(tasks, WIDTH_OF_LOGICAL_CORES);
    enqueue_hook hook = enqueue;
    delay_hook later = enqueue_later;
    deadline_hook at = enqueue_at;
    swift_task_enqueueGlobal_hook = (void *)hook;
    swift_task_enqueueGlobalWithDelay_hook = (void *)later;
    swift_task_enqueueGlobalWithDeadline_hook = (void *)at;
}
