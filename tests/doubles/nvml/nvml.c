/* libnvidia-ml.so.1 without a card: the state lives in a file that the tests map and change while anything runs on it.
 *
 * Every call reads the map anew, so a test can lose, hang or overheat a card under a live daemon. No lock is held while a
 * call is delayed or hangs. DRIVER is the driver's major * 1000 + minor; what an older driver lacks is not compiled.
 */
#include "call.h"

static int copy(const char *text, char *buffer, unsigned length) {
    if (strlen(text) >= length)
        return INSUFFICIENT_SIZE;
    strcpy(buffer, text);
    return SUCCESS;
}

/* ---- the library itself ---- */

static Map *open_map(void) {
    const char *path = getenv("GPUFAN_NVML_DOUBLE");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return NULL;
    struct stat status;
    Map *map = MAP_FAILED;
    if (!fstat(file, &status) && status.st_size == sizeof(Map))
        map = mmap(NULL, sizeof(Map), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    return map != MAP_FAILED && map->magic == MAGIC && map->size == sizeof(Map) ? map : NULL;
}

static int init(void) {
    int result = SUCCESS;
    pthread_mutex_lock(&users_lock);
    if (!users) {
        Map *map = open_map();
        result = map ? map->init_error : DRIVER_NOT_LOADED;
        if (!result) {
            start = map->starts;
            listed = 0;
            for (int slot = 0; slot < map->card_count; slot++)
                listed |= !map->cards[slot].absent << slot;
            current = map;
        }
    }
    users += !result;
    pthread_mutex_unlock(&users_lock);
    return result;
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    return init();
}

int nvmlInit_v2(void) { return init(); }

int nvmlShutdown(void) {
    pthread_mutex_lock(&users_lock);
    int result = users ? SUCCESS : UNINITIALIZED;
    if (users && !--users)
        current = NULL; /* never unmapped: a hung call may still look at it */
    pthread_mutex_unlock(&users_lock);
    return result;
}

const char *nvmlErrorString(int result) {
    static const char *const texts[] = {
        "Success", "Uninitialized", "Invalid Argument", "Not Supported", "Insufficient Permissions",
        "Already Initialized", "Not Found", "Insufficient Size", "Insufficient External Power", "Driver Not Loaded",
        "Timeout", "Interrupt Request Issue", "NVML Shared Library Not Found", "Function Not Found",
        "Corrupted infoROM", "GPU is lost", "GPU requires reset",
        "The operating system has blocked the request.", "RM has detected an NVML/RM version mismatch."};
    return result >= 0 && result < (int)(sizeof texts / sizeof *texts) ? texts[result] : "Unknown Error";
}

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    int result;
    Map *map = initialised(&result);
    return map ? copy(map->driver, version, length) : result;
}

int nvmlSystemGetNVMLVersion(char *version, unsigned length) {
    int result;
    Map *map = initialised(&result);
    if (!map)
        return result;
    char text[90];
    snprintf(text, sizeof text, "13.%s", map->driver);
    return copy(text, version, length);
}

/* ---- which card ---- */

typedef struct {
    unsigned domain, bus, device;
} Address;

static Address address(const char *text) {
    Address a = {0, ~0u, ~0u};
    if (sscanf(text, "%x:%x:%x", &a.domain, &a.bus, &a.device) < 3) {
        a.domain = 0;
        sscanf(text, "%x:%x", &a.bus, &a.device);
    }
    return a;
}

/* Whether NVML lists the card in `slot`: as it is now, or as it was at nvmlInit. */
static int is_listed(Map *map, int slot) {
    return map->list_at_init ? listed >> slot & 1 : !map->cards[slot].absent;
}

static int handle_of(int slot, Handle *device) {
    Handle handle = (Handle)((uintptr_t)start * SLOTS + slot + 1);
    GIVE(enter(handle, HANDLE), device, handle);
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    int result;
    Map *map = initialised(&result);
    if (!map)
        return result;
    *count = 0;
    for (int slot = 0; slot < map->card_count; slot++)
        *count += is_listed(map, slot);
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Handle *device) {
    int result;
    Map *map = initialised(&result);
    for (int slot = 0; map && slot < map->card_count; slot++)
        if (is_listed(map, slot) && !index--)
            return handle_of(slot, device);
    return map ? INVALID_ARGUMENT : result;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, Handle *device) {
    int result;
    Map *map = initialised(&result);
    for (int slot = 0; map && slot < map->card_count; slot++)
        if (is_listed(map, slot) && !strcmp(map->cards[slot].uuid, uuid))
            return handle_of(slot, device);
    return map ? NOT_FOUND : result;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *pci, Handle *device) {
    int result;
    Map *map = initialised(&result);
    Address wanted = address(pci);
    for (int slot = 0; map && slot < map->card_count; slot++) {
        Address has = address(map->cards[slot].pci);
        if (is_listed(map, slot) && has.domain == wanted.domain && has.bus == wanted.bus && has.device == wanted.device)
            return handle_of(slot, device);
    }
    return map ? NOT_FOUND : result;
}

int nvmlDeviceGetIndex(Handle device, unsigned *index) {
    Call c = enter(device, DESCRIBE);
    if (c.result)
        return c.result;
    *index = 0;
    for (int slot = 0; slot < c.card - c.map->cards; slot++)
        *index += is_listed(c.map, slot);
    return SUCCESS;
}

int nvmlDeviceGetUUID(Handle device, char *buffer, unsigned length) {
    Call c = enter(device, DESCRIBE);
    return c.result ? c.result : copy(c.card->uuid, buffer, length);
}

int nvmlDeviceGetName(Handle device, char *buffer, unsigned length) {
    Call c = enter(device, DESCRIBE);
    return c.result ? c.result : copy(c.card->name, buffer, length);
}

typedef struct {
    char legacy[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char pci[32];
} PciInfo;

int nvmlDeviceGetPciInfo_v3(Handle device, PciInfo *info) {
    Call c = enter(device, DESCRIBE);
    if (c.result)
        return c.result;
    Address a = address(c.card->pci);
    *info = (PciInfo){.domain = a.domain, .bus = a.bus, .device = a.device, .device_id = 0x1b0610de};
    snprintf(info->legacy, sizeof info->legacy, "%04X:%02X:%02X.0", a.domain & 0xffff, a.bus & 0xff, a.device & 0xff);
    return copy(c.card->pci, info->pci, sizeof info->pci);
}

int nvmlDeviceGetPersistenceMode(Handle device, unsigned *on) { GIVE(enter(device, DESCRIBE), on, 0); }

/* ---- temperature and power ---- */

#if DRIVER < 1400000 /* its header says: to be removed in CUDA 14 */
int nvmlDeviceGetTemperature(Handle device, unsigned sensor, unsigned *celsius) {
    if (sensor)
        return INVALID_ARGUMENT;
    GIVE(enter(device, TEMPERATURE), celsius, c.card->temperature);
}
#endif

#if DRIVER >= 565057
typedef struct {
    unsigned version, sensor;
    int celsius;
} TemperatureV1;

int nvmlDeviceGetTemperatureV(Handle device, TemperatureV1 *out) {
    if (out->version != (sizeof *out | 1 << 24))
        return VERSION_MISMATCH;
    if (out->sensor)
        return INVALID_ARGUMENT;
    GIVE(enter(device, TEMPERATURE), &out->celsius, c.card->temperature);
}
#endif

int nvmlDeviceGetTemperatureThreshold(Handle device, unsigned which, unsigned *celsius) {
    Call c = enter(device, THRESHOLD);
    if (c.result)
        return c.result;
    int values[] = {c.card->shutdown, c.card->slowdown, 0, c.card->maximum, c.card->least_acoustic, c.card->acoustic,
                    c.card->most_acoustic};
    int value = which < sizeof values / sizeof *values ? values[which] : 0;
    if (!value)
        return NOT_SUPPORTED;
    *celsius = value;
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(Handle device, unsigned *mw) { GIVE(enter(device, POWER), mw, c.card->power_mw); }

int nvmlDeviceGetEnforcedPowerLimit(Handle device, unsigned *mw) {
    GIVE(enter(device, THRESHOLD), mw, c.card->power_limit_mw);
}

int nvmlDeviceGetPowerManagementLimit(Handle device, unsigned *mw) {
    GIVE(enter(device, GET_LIMIT), mw, c.card->power_limit_mw);
}

int nvmlDeviceGetPowerManagementDefaultLimit(Handle device, unsigned *mw) {
    GIVE(enter(device, GET_LIMIT), mw, c.card->default_power_mw);
}

int nvmlDeviceGetPowerManagementLimitConstraints(Handle device, unsigned *least, unsigned *most) {
    Call c = enter(device, GET_LIMIT);
    if (!c.result && !c.card->most_power_mw)
        c.result = NOT_SUPPORTED;
    if (!c.result) {
        *least = c.card->least_power_mw;
        *most = c.card->most_power_mw;
    }
    return c.result;
}

#if DRIVER < 1400000
int nvmlDeviceGetCurrentClocksThrottleReasons(Handle device, unsigned long long *mask) {
    GIVE(enter(device, THROTTLE), mask, c.card->throttle_reasons);
}
#endif

#if DRIVER >= 535043
int nvmlDeviceGetCurrentClocksEventReasons(Handle device, unsigned long long *mask) {
    GIVE(enter(device, THROTTLE), mask, c.card->throttle_reasons);
}
#endif

/* ---- fans, read ---- */

int nvmlDeviceGetNumFans(Handle device, unsigned *count) { GIVE(enter(device, FAN_COUNT), count, c.card->fan_count); }

int nvmlDeviceGetFanSpeed(Handle device, unsigned *percent) { GIVE(enter_fan(device, GET_FAN, 0), percent, c.fan->speed); }

int nvmlDeviceGetFanSpeed_v2(Handle device, unsigned fan, unsigned *percent) {
    GIVE(enter_fan(device, GET_FAN, fan), percent, c.fan->speed);
}

#if DRIVER >= 565057
typedef struct {
    unsigned version, fan, rpm;
} FanSpeedV1;

int nvmlDeviceGetFanSpeedRPM(Handle device, FanSpeedV1 *out) {
    if (out->version != (sizeof *out | 1 << 24))
        return VERSION_MISMATCH;
    GIVE(enter_fan(device, RPM, out->fan), &out->rpm, c.fan->rpm);
}
#endif

/* ---- fans and limits, set ---- */

/* What the kernel module asks for before a fan or a limit may be set: not user 0, but this. */
static int has_sys_admin(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    return !syscall(SYS_capget, &header, data) && data[0].effective >> CAP_SYS_ADMIN & 1;
}

static Call permitted(Call c) {
    if (!c.result && (c.map->not_permitted || (c.map->asks_capability && !has_sys_admin())))
        c.result = NO_PERMISSION;
    return c;
}

static int write_log(Call c, int kind, int pid, unsigned fan, int value) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t number = ++c.map->log_count;
    Entry *entry = &c.map->log[(number - 1) % LOG];
    entry->time_ns = now.tv_sec * 1000000000LL + now.tv_nsec;
    entry->pid = pid;
    entry->card = c.card - c.map->cards;
    entry->fan = fan;
    entry->operation = kind;
    entry->value = value;
    entry->result = c.result;
    entry->number = number;
    return c.result;
}

static int leave_set(Call c, int kind, unsigned fan, int value) {
    return c.card ? write_log(c, kind, getpid(), fan, value) : c.result;
}

/* Set a limit of the card, within its bounds. `kind` is SET_POWER or SET_ACOUSTIC. */
static int set_limit(Handle device, int kind, unsigned value) {
    Call c = permitted(enter(device, kind));
    if (c.result)
        return leave_set(c, kind, 0, value);
    int is_power = kind == SET_POWER;
    Int *limit = is_power ? &c.card->power_limit_mw : &c.card->acoustic;
    unsigned least = is_power ? c.card->least_power_mw : c.card->least_acoustic;
    unsigned most = is_power ? c.card->most_power_mw : c.card->most_acoustic;
    if (!most)
        c.result = NOT_SUPPORTED;
    else if (value < least || value > most)
        c.result = INVALID_ARGUMENT;
    else if (!c.card->ignores_limits)
        *limit = value;
    return leave_set(c, kind, 0, value);
}

int nvmlDeviceSetPowerManagementLimit(Handle device, unsigned mw) { return set_limit(device, SET_POWER, mw); }

int nvmlDeviceSetTemperatureThreshold(Handle device, unsigned which, int *celsius) {
    return which == 5 ? set_limit(device, SET_ACOUSTIC, *celsius) : INVALID_ARGUMENT;
}

#if DRIVER >= 515043
static Call enter_set(Handle device, int kind, unsigned fan) { return permitted(enter_fan(device, kind, fan)); }

static void move(Fan *fan, int percent) {
    if (fan->stuck == IGNORES)
        return;
    fan->target = percent < fan->floor ? fan->floor : percent;
    fan->policy = MANUAL;
}

/* What another program, `pid`, does: it sets a fan of the card in `slot`. Not NVML; Python calls it with its own map. */
void rival_sets(Map *map, int slot, unsigned fan, int percent, int pid) {
    Call c = {map, &map->cards[slot], &map->cards[slot].fans[fan], SUCCESS};
    move(c.fan, percent);
    write_log(c, SET_FAN, pid, fan, percent);
}

int nvmlDeviceGetMinMaxFanSpeed(Handle device, unsigned *least, unsigned *most) {
    Call c = enter_fan(device, RANGE, 0);
    if (!c.result) {
        *least = c.card->min_duty;
        *most = c.card->max_duty;
    }
    return c.result;
}

int nvmlDeviceSetFanSpeed_v2(Handle device, unsigned fan, unsigned percent) {
    Call c = enter_set(device, SET_FAN, fan);
    if (!c.result && (percent < (unsigned)c.card->min_duty || percent > (unsigned)c.card->max_duty))
        c.result = INVALID_ARGUMENT;
    if (!c.result)
        move(c.fan, percent);
    return leave_set(c, SET_FAN, fan, percent);
}

int nvmlDeviceSetDefaultFanSpeed_v2(Handle device, unsigned fan) {
    Call c = enter_set(device, SET_DEFAULT, fan);
    if (!c.result && c.fan->stuck != IGNORES)
        c.fan->policy = AUTO;
    return leave_set(c, SET_DEFAULT, fan, 0);
}
#endif

#if DRIVER >= 520056
int nvmlDeviceGetTargetFanSpeed(Handle device, unsigned fan, unsigned *percent) {
    GIVE(enter_fan(device, GET_TARGET, fan), percent, c.fan->policy == MANUAL ? c.fan->target : c.fan->driver_target);
}

int nvmlDeviceGetFanControlPolicy_v2(Handle device, unsigned fan, unsigned *policy) {
    GIVE(enter_fan(device, GET_POLICY, fan), policy, c.fan->policy);
}

int nvmlDeviceSetFanControlPolicy(Handle device, unsigned fan, unsigned policy) {
    Call c = enter_set(device, SET_POLICY, fan);
    if (!c.result && policy > MANUAL)
        c.result = INVALID_ARGUMENT;
    if (!c.result && c.fan->stuck != IGNORES) {
        if (policy == MANUAL && c.fan->policy == AUTO)
            c.fan->target = c.fan->driver_target;
        c.fan->policy = policy;
    }
    return leave_set(c, SET_POLICY, fan, policy);
}
#endif
