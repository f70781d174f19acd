/* The state that the tests and the library share, and the way into every call. Included by nvml.c only. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef DRIVER
#define DRIVER 580095
#endif

enum { SUCCESS, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
       DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15, VERSION_MISMATCH = 25 };
enum { AUTO, MANUAL };

/* From here to the end of Map: mirrored field by field in __init__.py. */
enum { CARDS = 16, FANS = 4, LOG = 65536 };
enum { HANDLE, DESCRIBE, FAN_COUNT, RANGE, THRESHOLD, TEMPERATURE, POWER, THROTTLE, GET_FAN, GET_TARGET, GET_POLICY, RPM,
       SET_FAN, SET_DEFAULT, SET_POLICY, GET_LIMIT, SET_POWER, SET_ACOUSTIC, KINDS };
enum { MOVES, IGNORES, JAMS }; /* stuck; that a jammed fan stands still is up to the plant */

typedef _Atomic int32_t Int;
typedef _Atomic uint64_t Count;

typedef struct {
    Int speed, target, driver_target, policy, rpm, stuck;
    Int floor; /* the driver raises lower targets to this */
    Int cap, ramp, rpm_percent; /* for the plant only */
} Fan;

typedef struct {
    char uuid[96], pci[32], name[96];
    Int fan_count, min_duty, max_duty, slowdown, shutdown, maximum;
    Int temperature, power_mw, power_limit_mw, lost, by_hand, absent;
    Int least_power_mw, most_power_mw, default_power_mw; /* what the power limit may be; 0: it cannot be set */
    Int acoustic, least_acoustic, most_acoustic;         /* the driver's target temperature; 0: it has none */
    Int ignores_limits;                                  /* setting a limit succeeds, and changes nothing */
    Count throttle_reasons;
    Fan fans[FANS];
    Int error[KINDS], delay_us[KINDS], hang[KINDS];
    Int odd_calls[KINDS], odd_error[KINDS]; /* the next calls, as many as odd_calls, return odd_error */
    Count calls[KINDS];
} Card;

typedef struct {
    Count number; /* from 1; written last, so that a reader knows that the entry is complete */
    int64_t time_ns;
    int32_t pid, card, fan, operation, value, result;
} Entry;

typedef struct {
    uint32_t magic, size;
    char driver[80];
    Int card_count, init_error, not_permitted, asks_capability, list_at_init;
    Int starts, stale_error; /* starts of the driver; what a process gets that initialised before the last one */
    Count log_count;
    Card cards[CARDS];
    Entry log[LOG];
} Map;

#define MAGIC 0x314d564e /* NVM1 */

typedef void *Handle; /* the start of the driver and the card's slot + 1: no pointer, so a stale one is harmless */
enum { SLOTS = 256 };

typedef struct {
    Map *map;
    Card *card;
    Fan *fan;
    int result;
} Call;

static Map *_Atomic current; /* NULL before nvmlInit */
static Int start, listed; /* the driver's start at nvmlInit, and the cards that were present then, a bit for each */
static unsigned users;
static pthread_mutex_t users_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- the way into every call ---- */

static void nap(int64_t microseconds) {
    struct timespec left = {microseconds / 1000000, microseconds % 1000000 * 1000};
    while (nanosleep(&left, &left)) {
    }
}

/* NULL, with the reason in *result, before nvmlInit and after a start of the driver. */
static Map *initialised(int *result) {
    Map *map = current;
    *result = !map ? UNINITIALIZED : map->starts != start ? map->stale_error : SUCCESS;
    return *result ? NULL : map;
}

/* Whether one more of the odd calls is used up. */
static int odd(Card *card, int kind) {
    int32_t left = card->odd_calls[kind];
    while (left > 0)
        if (atomic_compare_exchange_weak(&card->odd_calls[kind], &left, left - 1))
            return 1;
    return 0;
}

static Call enter(Handle device, int kind) {
    int result;
    Map *map = initialised(&result);
    if (!map)
        return (Call){.result = result};
    uintptr_t slot = (uintptr_t)device % SLOTS - 1;
    if (slot >= (uintptr_t)map->card_count || (uintptr_t)device / SLOTS != (uintptr_t)start)
        return (Call){.result = INVALID_ARGUMENT};
    Card *card = &map->cards[slot];
    card->calls[kind]++;
    while (card->hang[kind])
        nap(1000);
    if (card->delay_us[kind] > 0)
        nap(card->delay_us[kind]);
    if (!initialised(&result)) /* restarted meanwhile */
        return (Call){.result = result};
    if (odd(card, kind))
        result = card->odd_error[kind];
    else
        result = card->lost || card->absent ? GPU_IS_LOST : card->error[kind];
    return (Call){map, card, NULL, result};
}

static Call enter_fan(Handle device, int kind, unsigned fan) {
    Call c = enter(device, kind);
    if (c.result)
        return c;
    unsigned count = c.card->fan_count;
    if (fan < count && fan < FANS)
        c.fan = &c.card->fans[fan];
    else
        c.result = count ? INVALID_ARGUMENT : NOT_SUPPORTED;
    return c;
}

#define GIVE(entered, out, expression) \
    do { \
        Call c = entered; \
        if (!c.result) \
            *(out) = (expression); \
        return c.result; \
    } while (0)
