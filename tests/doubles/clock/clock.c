/* A clock that only the test advances, for a real process: preloaded, it answers for the C library's clocks and waits.
 *
 * A wait with a time limit ends when the clock of the test has passed the limit, or for its own reason; meanwhile its
 * limit stands in the shared file, so that the test sees who still waits. Clocks of processor time stay real.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { WAITS = 128 };
#define LOOK_NS 500000 /* a waiting thread looks at the clock so often, in real time */

/* Mirrored in __init__.py. */
typedef struct {
    _Atomic int64_t elapsed_ns, monotonic_ns, realtime_ns; /* since the start; both clocks at the start */
    struct {
        _Atomic int64_t thread, until_ns;
    } waits[WAITS];
} Clock;

static Clock *shared;

__attribute__((constructor)) static void map_clock(void) {
    const char *path = getenv("GPUFAN_CLOCK_DOUBLE");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    Clock *map = mmap(NULL, sizeof(Clock), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (map != MAP_FAILED)
        shared = map;
}

static int64_t ns(const struct timespec *t) { return t->tv_sec * 1000000000LL + t->tv_nsec; }

static struct timespec spec(int64_t nanoseconds) {
    return (struct timespec){nanoseconds / 1000000000, nanoseconds % 1000000000};
}

static int64_t real_ns(clockid_t clock) {
    struct timespec now;
    syscall(SYS_clock_gettime, clock, &now);
    return ns(&now);
}

static int64_t base_ns(clockid_t clock) {
    int is_wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    return is_wall ? shared->realtime_ns : shared->monotonic_ns;
}

static int is_ours(clockid_t clock) {
    return shared && clock >= 0 && clock != CLOCK_PROCESS_CPUTIME_ID && clock != CLOCK_THREAD_CPUTIME_ID;
}

int clock_gettime(clockid_t clock, struct timespec *out) {
    if (!is_ours(clock))
        return syscall(SYS_clock_gettime, clock, out);
    *out = spec(base_ns(clock) + shared->elapsed_ns);
    return 0;
}

/* ---- waits ---- */

static int begin(int64_t until_ns) {
    int64_t thread = syscall(SYS_gettid);
    for (int i = 0; i < WAITS; i++) {
        int64_t nobody = 0;
        if (!shared->waits[i].thread && atomic_compare_exchange_strong(&shared->waits[i].thread, &nobody, -1)) {
            shared->waits[i].until_ns = until_ns;
            shared->waits[i].thread = thread;
            return i;
        }
    }
    abort();
}

static void end(int wait) {
    int error = errno;
    shared->waits[wait].thread = 0;
    errno = error;
}

static int over(int64_t until_ns) { return shared->elapsed_ns >= until_ns; }

static int nap(void) {
    struct timespec look = spec(LOOK_NS);
    return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &look, NULL) ? -1 : 0;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *left) {
    if (!is_ours(clock))
        return syscall(SYS_clock_nanosleep, clock, flags, time, left) ? errno : 0;
    int64_t until_ns = ns(time) + (flags & TIMER_ABSTIME ? -base_ns(clock) : shared->elapsed_ns);
    int wait = begin(until_ns), interrupted = 0;
    while (!over(until_ns) && !(interrupted = nap())) {
    }
    if (interrupted && left && !(flags & TIMER_ABSTIME))
        *left = spec(until_ns > shared->elapsed_ns ? until_ns - shared->elapsed_ns : 0);
    end(wait);
    return interrupted ? EINTR : 0;
}

int nanosleep(const struct timespec *time, struct timespec *left) {
    int error = clock_nanosleep(CLOCK_MONOTONIC, 0, time, left);
    if (error)
        errno = error;
    return error ? -1 : 0;
}

int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *limit) {
    static int (*next)(sem_t *, clockid_t, const struct timespec *);
    if (!next)
        next = dlsym(RTLD_NEXT, "sem_clockwait");
    if (!is_ours(clock))
        return next(semaphore, clock, limit);
    int64_t until_ns = ns(limit) - base_ns(clock);
    int wait = begin(until_ns), result;
    do {
        struct timespec look = spec(real_ns(CLOCK_MONOTONIC) + LOOK_NS);
        result = next(semaphore, CLOCK_MONOTONIC, &look);
    } while (result && errno == ETIMEDOUT && !over(until_ns));
    end(wait);
    return result;
}

int sem_timedwait(sem_t *semaphore, const struct timespec *limit) {
    return sem_clockwait(semaphore, CLOCK_REALTIME, limit);
}

/* Python waits so for its interpreter lock, a few ms: these stay real. Which clock `limit` is of, its size says. */
int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *limit) {
    static int (*next)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!next)
        next = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    if (!shared)
        return next(condition, mutex, limit);
    clockid_t clock = limit->tv_sec > 1000000000 ? CLOCK_REALTIME : CLOCK_MONOTONIC;
    int64_t left_ns = ns(limit) - base_ns(clock) - shared->elapsed_ns;
    struct timespec real = spec(real_ns(clock) + (left_ns > 0 ? left_ns : 0));
    return next(condition, mutex, &real);
}

int poll(struct pollfd *files, nfds_t count, int timeout_ms) {
    if (!shared || timeout_ms <= 0) {
        struct timespec real = spec(timeout_ms > 0 ? timeout_ms * 1000000LL : 0);
        return syscall(SYS_ppoll, files, count, timeout_ms < 0 ? NULL : &real, NULL, 0);
    }
    int64_t until_ns = shared->elapsed_ns + timeout_ms * 1000000LL;
    int wait = begin(until_ns), result;
    do {
        struct timespec look = spec(LOOK_NS);
        result = syscall(SYS_ppoll, files, count, &look, NULL, 0);
    } while (!result && !over(until_ns));
    end(wait);
    return result;
}

int select(int count, fd_set *in, fd_set *out, fd_set *odd, struct timeval *timeout) {
    int64_t limit_ns = timeout ? timeout->tv_sec * 1000000000LL + timeout->tv_usec * 1000LL : -1;
    if (!shared || limit_ns <= 0) {
        struct timespec real = spec(limit_ns > 0 ? limit_ns : 0);
        return syscall(SYS_pselect6, count, in, out, odd, limit_ns < 0 ? NULL : &real, NULL);
    }
    fd_set before[3];
    fd_set *sets[3] = {in, out, odd};
    for (int i = 0; i < 3; i++)
        if (sets[i])
            before[i] = *sets[i];
    int64_t until_ns = shared->elapsed_ns + limit_ns;
    int wait = begin(until_ns), result;
    for (;;) {
        struct timespec look = spec(LOOK_NS);
        result = syscall(SYS_pselect6, count, in, out, odd, &look, NULL);
        if (result || over(until_ns))
            break;
        for (int i = 0; i < 3; i++)
            if (sets[i])
                *sets[i] = before[i];
    }
    end(wait);
    return result;
}
