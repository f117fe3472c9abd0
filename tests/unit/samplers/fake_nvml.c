/* A stand-in for the driver's libnvidia-ml.so.1: two GPUs that do as the file named by
 * FAKE_NVML_STATE says. The file holds words, read at every call:
 *   driver-missing  gpus-none  gpu-1-locked         at the start
 *   unsupported     forbidden                       some figures are refused
 *   gpu-1-lost      driver-gone                     from now on
 *   throttled       narrow                          what the cards report
 * Built with -DOLD_DRIVER it lacks the functions that came with driver 535.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SUCCESS = 0,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NO_PERMISSION = 4,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    GPU_IS_LOST = 15,
    UNKNOWN = 999
};

typedef unsigned long long u64;
typedef struct { unsigned gpu, memory; } utilization_t;
typedef struct { u64 total, free, used; } memory_t;
typedef struct { unsigned pid; u64 used; unsigned gpu_instance, compute_instance; } process_t;

static int handles[2] = {0, 1};

static int says(const char *word)
{
    char text[512] = " ";
    const char *path = getenv("FAKE_NVML_STATE");
    FILE *file = path ? fopen(path, "r") : NULL;
    size_t length = file ? fread(text + 1, 1, sizeof text - 3, file) : 0;
    if (file)
        fclose(file);
    strcpy(text + 1 + length, " ");
    char padded[64];
    snprintf(padded, sizeof padded, " %s ", word);
    return strstr(text, padded) != NULL;
}

static int refusal(const int *gpu)
{
    if (says("driver-gone"))
        return UNKNOWN;
    return *gpu == 1 && says("gpu-1-lost") ? GPU_IS_LOST : SUCCESS;
}

#define ANSWER(gpu, place, value) \
    do { int no = refusal(gpu); if (no) return no; *(place) = (value); return SUCCESS; } while (0)
#define REFUSE(word, code) do { if (says(word)) return code; } while (0)

int nvmlInitWithFlags(unsigned flags) { return says("driver-missing") ? DRIVER_NOT_LOADED : flags; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = says("gpus-none") ? 0 : 2; return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, int **gpu)
{
    if (index > 1)
        return INVALID_ARGUMENT;
    if (index == 1)
        REFUSE("gpu-1-locked", NO_PERMISSION);
    *gpu = &handles[index];
    return SUCCESS;
}

int nvmlDeviceGetName(int *gpu, char *name, unsigned length)
{
    snprintf(name, length, "Fake GPU %d", *gpu);
    return refusal(gpu);
}

int nvmlDeviceGetUUID(int *gpu, char *uuid, unsigned length)
{
    snprintf(uuid, length, "GPU-fake-%d", *gpu);
    return refusal(gpu);
}

int nvmlDeviceGetUtilizationRates(int *gpu, utilization_t *rates)
{
    rates->memory = 30;
    ANSWER(gpu, &rates->gpu, 80 + *gpu);
}

int nvmlDeviceGetMemoryInfo(int *gpu, memory_t *memory)
{
    memory->total = 80000000000ull;
    memory->free = 60000000000ull;
    ANSWER(gpu, &memory->used, 20000000000ull);
}

int nvmlDeviceGetPowerUsage(int *gpu, unsigned *mw) { ANSWER(gpu, mw, 250500); }
int nvmlDeviceGetEnforcedPowerLimit(int *gpu, unsigned *mw) { ANSWER(gpu, mw, 400000); }

int nvmlDeviceGetTotalEnergyConsumption(int *gpu, u64 *mj)
{
    REFUSE("unsupported", NOT_SUPPORTED);
    ANSWER(gpu, mj, 7123456);
}

int nvmlDeviceGetTemperature(int *gpu, int sensor, unsigned *degrees)
{
    if (sensor != 0)
        return INVALID_ARGUMENT;
    ANSWER(gpu, degrees, says("throttled") ? 91 : 61);
}

int nvmlDeviceGetClockInfo(int *gpu, int clock, unsigned *mhz)
{
    if (clock == 2)
        ANSWER(gpu, mhz, 2619);
    ANSWER(gpu, mhz, says("throttled") ? 600 : 1980);
}

int nvmlDeviceGetMaxClockInfo(int *gpu, int clock, unsigned *mhz)
{
    if (clock != 1)
        return INVALID_ARGUMENT;
    ANSWER(gpu, mhz, 1981);
}

static int clock_reasons(int *gpu, u64 *mask)
{
    REFUSE("forbidden", NO_PERMISSION);
    ANSWER(gpu, mask, says("throttled") ? 0x40 | 0x20 : 0);
}

#ifndef OLD_DRIVER
int nvmlDeviceGetCurrentClocksEventReasons(int *gpu, u64 *mask) { return clock_reasons(gpu, mask); }
#endif
int nvmlDeviceGetCurrentClocksThrottleReasons(int *gpu, u64 *mask) { return clock_reasons(gpu, mask); }

int nvmlDeviceGetCurrPcieLinkGeneration(int *gpu, unsigned *n) { ANSWER(gpu, n, says("narrow") ? 1 : 5); }
int nvmlDeviceGetMaxPcieLinkGeneration(int *gpu, unsigned *n) { ANSWER(gpu, n, 5); }
int nvmlDeviceGetCurrPcieLinkWidth(int *gpu, unsigned *n) { ANSWER(gpu, n, says("narrow") ? 4 : 16); }
int nvmlDeviceGetMaxPcieLinkWidth(int *gpu, unsigned *n) { ANSWER(gpu, n, 16); }

int nvmlDeviceGetPcieThroughput(int *gpu, int counter, unsigned *kilobytes)
{
    ANSWER(gpu, kilobytes, counter == 1 ? 1500000 : 40000);
}

int nvmlDeviceGetNvLinkState(int *gpu, unsigned link, unsigned *active)
{
    REFUSE("unsupported", NOT_SUPPORTED);
    if (link > 3)
        return INVALID_ARGUMENT;
    ANSWER(gpu, active, link < 3);
}

int nvmlDeviceGetTotalEccErrors(int *gpu, int kind, int since, u64 *count)
{
    REFUSE("unsupported", NOT_SUPPORTED);
    if (since != 0)
        return INVALID_ARGUMENT;
    ANSWER(gpu, count, kind == 0 ? 3 : 0);
}

int nvmlDeviceGetComputeRunningProcesses_v3(int *gpu, unsigned *count, process_t *processes)
{
    REFUSE("forbidden", NO_PERMISSION);
    unsigned room = *count;
    *count = 2;
    if (room < 2)
        return refusal(gpu) ? refusal(gpu) : INSUFFICIENT_SIZE;
    memset(processes, 0, 2 * sizeof *processes);
    processes[0].pid = 100 + *gpu;
    processes[1].pid = 200 + *gpu;
    return refusal(gpu);
}
