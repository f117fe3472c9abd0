/* A stand-in for the driver's libnvidia-ml.so.1. The file named by FAKE_NVML_STATE is read at every
 * call, and says line by line how the cards fare from which look on:
 *
 *     <first look> <card or *> <figure> <value>
 *
 * The last line that concerns a figure holds; "any" stands for every figure of a card. A look at a
 * card begins when its utilisation is asked for; the first is look 0. Where no line speaks, two
 * healthy cards answer. Instead of a number a value may be a refusal: unsupported, forbidden, lost,
 * gone, missing, or hang: the call returns when the file says something else.
 *
 * Built with -DOLD_DRIVER it lacks the functions that came with driver 535.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6,
       INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15, UNKNOWN = 999 };

enum { CARDS = 8, PROCESSES = 4, INSTANCES = 7 };

typedef unsigned long long u64;
typedef struct { unsigned gpu, memory; } utilization_t;
typedef struct { u64 total, free, used; } memory_t;
typedef struct { unsigned pid; u64 used; unsigned gpu_instance, compute_instance; } process_t;
typedef struct { unsigned pid; u64 at; unsigned sm, memory, encoder, decoder; } process_use_t;
typedef struct { u64 reference, violation; } violation_t;
typedef struct {
    char legacy[16];
    unsigned domain, bus, device, vendor, subsystem;
    char bus_id[32];
} pci_t;
typedef struct { int card, instance; } gpu_t;

static gpu_t cards[CARDS], instances[CARDS][INSTANCES];
static int look[CARDS] = {-1, -1, -1, -1, -1, -1, -1, -1};

void fake_nvml_restart(void) { memset(look, 0xff, sizeof look); }

static const char *refusals[] = {"unsupported", "forbidden", "lost", "gone", "missing"};
static const int refusal_codes[] = {NOT_SUPPORTED, NO_PERMISSION, GPU_IS_LOST, UNKNOWN, DRIVER_NOT_LOADED};

/* What the file says of a figure of a card (-1: of the driver); untouched where it says nothing. */
static void look_up(int card, const char *figure, char *value)
{
    const char *path = getenv("FAKE_NVML_STATE");
    FILE *file = path ? fopen(path, "r") : NULL;
    int now = card < 0 || look[card] < 0 ? 0 : look[card], first;
    char line[256], which[16], named[64], said[64];
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "%d %15s %63s %63s", &first, which, named, said) != 4 || first > now)
            continue;
        if (strcmp(which, "*") && (card < 0 || atoi(which) != card))
            continue;
        if (!strcmp(named, figure) || (card >= 0 && !strcmp(named, "any")))
            strcpy(value, said);
    }
    if (file)
        fclose(file);
}

static int ask(int card, const char *figure, double otherwise, double *answer)
{
    char value[64];
    do {
        snprintf(value, sizeof value, "%.17g", otherwise);
        look_up(card, figure, value);
    } while (!strcmp(value, "hang") && !usleep(5000));
    for (unsigned i = 0; i < sizeof refusals / sizeof *refusals; i++)
        if (!strcmp(value, refusals[i]))
            return refusal_codes[i];
    *answer = strtod(value, NULL);
    return SUCCESS;
}

#define ANSWER(gpu, figure, otherwise, place) \
    do { \
        double answer; \
        int no = ask((gpu)->card, figure, otherwise, &answer); \
        if (!no) \
            *(place) = answer; \
        return no; \
    } while (0)

int nvmlInitWithFlags(unsigned flags)
{
    double answer;
    return ask(-1, "driver", flags, &answer);
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
    double answer = 0;
    int no = ask(-1, "count", 2, &answer);
    *count = answer;
    return no;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, gpu_t **gpu)
{
    unsigned count;
    nvmlDeviceGetCount_v2(&count);
    if (index >= count || index >= CARDS)
        return INVALID_ARGUMENT;
    cards[index] = (gpu_t){index, -1};
    *gpu = &cards[index];
    double answer;
    return ask(index, "handle", 0, &answer);
}

int nvmlDeviceGetName(gpu_t *gpu, char *name, unsigned length)
{
    double answer;
    snprintf(name, length, "Fake GPU %d", gpu->card);
    return ask(gpu->card, "name", 0, &answer);
}

int nvmlDeviceGetUUID(gpu_t *gpu, char *uuid, unsigned length)
{
    double answer;
    if (gpu->instance < 0)
        snprintf(uuid, length, "GPU-fake-%d", gpu->card);
    else
        snprintf(uuid, length, "MIG-fake-%d-%d", gpu->card, gpu->instance);
    return ask(gpu->card, "uuid", 0, &answer);
}

int nvmlDeviceGetUtilizationRates(gpu_t *gpu, utilization_t *rates)
{
    look[gpu->card]++;
    rates->memory = 30;
    ANSWER(gpu, "utilization", 80 + gpu->card, &rates->gpu);
}

int nvmlDeviceGetMemoryInfo(gpu_t *gpu, memory_t *memory)
{
    memory->total = 80000000000ull;
    memory->free = 60000000000ull;
    ANSWER(gpu, "memory_used", 20000000000., &memory->used);
}

int nvmlDeviceGetPowerUsage(gpu_t *gpu, unsigned *mw) { ANSWER(gpu, "power", 250500, mw); }
int nvmlDeviceGetEnforcedPowerLimit(gpu_t *gpu, unsigned *mw) { ANSWER(gpu, "power_limit", 400000, mw); }
int nvmlDeviceGetTotalEnergyConsumption(gpu_t *gpu, u64 *mj) { ANSWER(gpu, "energy", 7123456, mj); }
int nvmlDeviceGetPerformanceState(gpu_t *gpu, int *state) { ANSWER(gpu, "state", 0, state); }
int nvmlDeviceGetNumGpuCores(gpu_t *gpu, unsigned *n) { ANSWER(gpu, "cores", 16896, n); }
int nvmlDeviceGetPcieReplayCounter(gpu_t *gpu, unsigned *n) { ANSWER(gpu, "replays", 7, n); }

int nvmlDeviceGetTemperature(gpu_t *gpu, int sensor, unsigned *degrees)
{
    if (sensor != 0)
        return INVALID_ARGUMENT;
    ANSWER(gpu, "temperature", 61, degrees);
}

int nvmlDeviceGetTemperatureThreshold(gpu_t *gpu, int threshold, unsigned *degrees)
{
    if (threshold != 1)
        return INVALID_ARGUMENT;
    ANSWER(gpu, "temperature_slowdown", 92, degrees);
}

int nvmlDeviceGetClockInfo(gpu_t *gpu, int clock, unsigned *mhz)
{
    if (clock == 2)
        ANSWER(gpu, "memory_clock", 2619, mhz);
    ANSWER(gpu, "sm_clock", 1980, mhz);
}

int nvmlDeviceGetMaxClockInfo(gpu_t *gpu, int clock, unsigned *mhz)
{
    if (clock != 1)
        return INVALID_ARGUMENT;
    ANSWER(gpu, "sm_clock_max", 1981, mhz);
}

static int clock_reasons(gpu_t *gpu, u64 *mask) { ANSWER(gpu, "reasons", 0, mask); }

#ifndef OLD_DRIVER
int nvmlDeviceGetCurrentClocksEventReasons(gpu_t *gpu, u64 *mask) { return clock_reasons(gpu, mask); }
#endif
int nvmlDeviceGetCurrentClocksThrottleReasons(gpu_t *gpu, u64 *mask) { return clock_reasons(gpu, mask); }

int nvmlDeviceGetViolationStatus(gpu_t *gpu, int policy, violation_t *time)
{
    time->reference = 1;
    if (policy == 0)
        ANSWER(gpu, "power_violation", 5000, &time->violation);
    if (policy == 1)
        ANSWER(gpu, "thermal_violation", 0, &time->violation);
    return INVALID_ARGUMENT;
}

int nvmlDeviceGetCurrPcieLinkGeneration(gpu_t *gpu, unsigned *n) { ANSWER(gpu, "generation", 5, n); }
int nvmlDeviceGetMaxPcieLinkGeneration(gpu_t *gpu, unsigned *n) { ANSWER(gpu, "generation_max", 5, n); }
int nvmlDeviceGetCurrPcieLinkWidth(gpu_t *gpu, unsigned *n) { ANSWER(gpu, "width", 16, n); }
int nvmlDeviceGetMaxPcieLinkWidth(gpu_t *gpu, unsigned *n) { ANSWER(gpu, "width_max", 16, n); }

int nvmlDeviceGetPcieThroughput(gpu_t *gpu, int counter, unsigned *kilobytes)
{
    if (counter == 1)
        ANSWER(gpu, "received", 1500000, kilobytes);
    ANSWER(gpu, "sent", 40000, kilobytes);
}

int nvmlDeviceGetPciInfo_v3(gpu_t *gpu, pci_t *pci)
{
    double answer;
    memset(pci, 0, sizeof *pci);
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", 0x1A + gpu->card);
    return ask(gpu->card, "pci", 0, &answer);
}

int nvmlDeviceGetNvLinkState(gpu_t *gpu, unsigned link, unsigned *active)
{
    if (link > 3)
        return INVALID_ARGUMENT;
    ANSWER(gpu, "nvlink", link < 3, active);
}

int nvmlDeviceGetTotalEccErrors(gpu_t *gpu, int kind, int since, u64 *count)
{
    if (since != 0)
        return INVALID_ARGUMENT;
    if (kind == 0)
        ANSWER(gpu, "ecc_corrected", 3, count);
    ANSWER(gpu, "ecc_uncorrected", 0, count);
}

int nvmlDeviceGetRemappedRows(gpu_t *gpu, unsigned *corrected, unsigned *uncorrected, unsigned *pending,
                              unsigned *failed)
{
    double answers[4];
    const char *figures[] = {"rows_corrected", "rows_uncorrected", "rows_pending", "rows_failed"};
    for (int i = 0; i < 4; i++) {
        int no = ask(gpu->card, figures[i], i == 0, &answers[i]);
        if (no)
            return no;
    }
    *corrected = answers[0], *uncorrected = answers[1], *pending = answers[2], *failed = answers[3];
    return SUCCESS;
}

/* Processes are the figures pid0 to pid3 (below 0: there is none), pid0_memory, pid0_use ... */
static int process_figure(gpu_t *gpu, int place, const char *of, double otherwise, double *answer)
{
    char figure[32];
    snprintf(figure, sizeof figure, "pid%d%s", place, of);
    return ask(gpu->card, figure, otherwise, answer);
}

static int running(gpu_t *gpu, process_t *found, unsigned *count)
{
    double pid, bytes;
    int no = ask(gpu->card, "processes", 0, &pid);
    *count = 0;
    for (int i = 0; !no && i < PROCESSES; i++) {
        no = process_figure(gpu, i, "", i < 2 ? 100 * (i + 1) + gpu->card : -1, &pid);
        if (no || pid < 0)
            continue;
        if (process_figure(gpu, i, "_memory", 10000000000. - i * 1000000000., &bytes))
            bytes = -1;
        found[*count] = (process_t){pid, bytes < 0 ? ULLONG_MAX : bytes, UINT_MAX, UINT_MAX};
        ++*count;
    }
    return no;
}

int nvmlDeviceGetComputeRunningProcesses_v3(gpu_t *gpu, unsigned *count, process_t *processes)
{
    process_t found[PROCESSES];
    unsigned room = *count;
    int no = running(gpu, found, count);
    if (no || *count == 0)
        return no;
    if (room < *count)
        return INSUFFICIENT_SIZE;
    memcpy(processes, found, *count * sizeof *found);
    return SUCCESS;
}

int nvmlDeviceGetProcessUtilization(gpu_t *gpu, process_use_t *uses, unsigned *count, u64 since)
{
    process_t found[PROCESSES];
    unsigned room = *count, used = 0;
    double answer;
    int no = ask(gpu->card, "process_use", 0, &answer);
    if (no || (no = running(gpu, found, count)))
        return no;
    if (*count == 0)
        return NOT_FOUND;
    if (!uses || room < *count)
        return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < *count; i++)
        if (!process_figure(gpu, i, "_use", 40, &answer))
            uses[used++] = (process_use_t){found[i].pid, since + 1000, answer, 10, 0, 0};
    *count = used;
    return SUCCESS;
}

int nvmlDeviceGetMigMode(gpu_t *gpu, unsigned *current, unsigned *pending)
{
    *pending = 0;
    ANSWER(gpu, "mig", 0, current);
}

int nvmlDeviceGetMaxMigDeviceCount(gpu_t *gpu, unsigned *count) { ANSWER(gpu, "instances_max", 7, count); }

int nvmlDeviceGetMigDeviceHandleByIndex(gpu_t *gpu, unsigned index, gpu_t **instance)
{
    double answer = 0;
    int no = ask(gpu->card, "instances", 2, &answer);
    if (no)
        return no;
    if (index >= answer || index >= INSTANCES)
        return NOT_FOUND;
    instances[gpu->card][index] = (gpu_t){gpu->card, index};
    *instance = &instances[gpu->card][index];
    return SUCCESS;
}
