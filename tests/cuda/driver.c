/* A driver without a GPU: what cuda.core and Numba ask of libcuda for the package's calls.

   Memory is the host's. A launch is written down, not run, as is all that has an order: the log is
   what the tests read. There are two devices of compute capability 9.0; all memory is the first's.
   While `driver_capturing` is set, what CUDA refuses during the capture of a graph is refused. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uintptr_t word;
enum { OK = 0, INVALID = 1, NO_CONTEXT = 201, UNSUPPORTED = 801, CAPTURE_UNSUPPORTED = 900 };
enum { CONTEXT = 0x1000, STREAM = 0x2000, EVENT = 0x3000, POOL = 0x4000, LIBRARY = 0x5000, KERNEL = 0x6000 };

static char text[1 << 16];
static size_t used;
static _Thread_local word context;
int driver_capturing, driver_parameters;

const char *driver_log(void) { return text; }
void driver_forget(void) { used = 0; text[0] = 0; }
#define SAY(...) (used < sizeof text - 1024 ? (used += sprintf(text + used, __VA_ARGS__)) : 0)
#define OUTSIDE_OF_CAPTURE if (driver_capturing) return CAPTURE_UNSUPPORTED

int cuInit(unsigned flags) { return OK; }
int cuDriverGetVersion(int *version) { *version = 13000; return OK; }
int cuDeviceGetCount(int *count) { *count = 2; return OK; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return OK; }
int cuDeviceGetName(char *name, int length, int device) { snprintf(name, length, "None"); return OK; }
int cuDeviceGetUuid_v2(char *uuid, int device) { memset(uuid, device + 1, 16); return OK; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
    case 75: *value = 9; break;           /* compute capability, major and minor */
    case 76: *value = 0; break;
    case 16: *value = 132; break;         /* multiprocessors */
    case 1: case 2: *value = 1024; break; /* threads of a block */
    case 10: *value = 32; break;          /* threads of a warp */
    default: *value = 1;                  /* whatever there may be, there is */
    }
    return OK;
}

int cuDevicePrimaryCtxRetain(word *c, int device) { *c = CONTEXT + device; return OK; }
int cuDevicePrimaryCtxRelease_v2(int device) { return OK; }
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { *flags = 0; *active = 1; return OK; }
int cuCtxGetCurrent(word *c) { *c = context; return OK; }
int cuCtxSetCurrent(word c) { context = c; return OK; }
int cuCtxPushCurrent_v2(word c) { context = c; return OK; }
int cuCtxPopCurrent_v2(word *c) { *c = context; context = 0; return OK; }
int cuCtxGetDevice(int *device) { *device = context - CONTEXT; return context ? OK : NO_CONTEXT; }
int cuCtxGetDevice_v2(int *device, word c) { *device = c - CONTEXT; return OK; }
int cuCtxGetId(word c, unsigned long long *id) { *id = c ? c : context; return OK; }
int cuCtxGetApiVersion(word c, unsigned *version) { *version = 13000; return OK; }
int cuCtxSynchronize(void) { OUTSIDE_OF_CAPTURE; SAY("synchronize\n"); return OK; }
int cuPointerGetAttribute(void *value, int attribute, word address) {
    switch (attribute) {
    case 9: *(int *)value = 0; return OK;  /* device */
    case 2: *(int *)value = 2; return OK;  /* memory of a device */
    case 8: *(char *)value = 0; return OK; /* managed */
    default: return INVALID;
    }
}

static word current(void) { return context ? context : CONTEXT; }
int cuStreamGetCtx(word stream, word *c) { *c = current(); return OK; }
int cuStreamGetCtx_v2(word stream, word *c, word *green) { *c = current(); *green = 0; return OK; }
int cuStreamGetDevice(word stream, int *device) { *device = current() - CONTEXT; return OK; }
int cuStreamIsCapturing(word stream, int *status) { *status = driver_capturing; return OK; }
int cuStreamCreate(word *stream, unsigned flags) { *stream = STREAM; return OK; }
int cuStreamCreateWithPriority(word *stream, unsigned flags, int priority) { *stream = STREAM; return OK; }
int cuStreamDestroy_v2(word stream) { SAY("destroy stream %lx\n", stream); return OK; }
int cuStreamSynchronize(word stream) { OUTSIDE_OF_CAPTURE; SAY("synchronize %lx\n", stream); return OK; }
int cuStreamWaitEvent(word stream, word event, unsigned flags) { SAY("%lx waits\n", stream); return OK; }
int cuEventCreate(word *event, unsigned flags) { *event = EVENT; return OK; }
int cuEventRecord(word event, word stream) { SAY("event on %lx\n", stream); return OK; }
int cuEventDestroy_v2(word event) { return OK; }
int cuEventSynchronize(word event) { OUTSIDE_OF_CAPTURE; SAY("synchronize\n"); return OK; }

int cuDeviceGetMemPool(word *pool, int device) { *pool = POOL + device; return OK; }
int cuDeviceGetDefaultMemPool(word *pool, int device) { *pool = POOL + device; return OK; }
int cuMemGetMemPool(word *pool, void *location, int kind) { *pool = POOL; return OK; }
int cuMemGetDefaultMemPool(word *pool, void *location, int kind) { *pool = POOL; return OK; }
int cuMemPoolGetAttribute(word pool, int attribute, void *value) { *(uint64_t *)value = 0; return OK; }
int cuMemPoolSetAttribute(word pool, int attribute, void *value) { return OK; }
static word memory(size_t bytes) { return (word)aligned_alloc(256, (bytes + 255) / 256 * 256); }
int cuMemAllocFromPoolAsync(word *at, size_t bytes, word pool, word stream) {
    *at = memory(bytes);
    SAY("allocate %zu on %lx\n", bytes, stream);
    return OK;
}
int cuMemAllocAsync(word *at, size_t bytes, word stream) { return cuMemAllocFromPoolAsync(at, bytes, 0, stream); }
int cuMemFreeAsync(word at, word stream) { SAY("free on %lx\n", stream); free((void *)at); return OK; }
int cuMemAlloc_v2(word *at, size_t bytes) { OUTSIDE_OF_CAPTURE; *at = memory(bytes); SAY("allocate at once\n"); return OK; }
int cuMemFree_v2(word at) { OUTSIDE_OF_CAPTURE; free((void *)at); SAY("free at once\n"); return OK; }
int cuMemGetInfo_v2(size_t *unused, size_t *all) { *unused = *all = (size_t)80 << 30; return OK; }

int cuLibraryLoadData(word *library, const void *code, void *a, void *b, unsigned c, void *d, void *e, unsigned f) {
    *library = LIBRARY;
    SAY("load\n");
    return OK;
}
int cuLibraryUnload(word library) { return OK; }
int cuLibraryGetKernel(word *kernel, word library, const char *name) { *kernel = KERNEL; return OK; }
int cuKernelGetLibrary(word *library, word kernel) { *library = LIBRARY; return OK; }
int cuKernelGetAttribute(int *value, int attribute, word kernel, int device) { *value = 1024; return OK; }
int cuKernelSetAttribute(int attribute, int value, word kernel, int device) {
    SAY("allow %d of %d on %d\n", value, attribute, device);
    return OK;
}
int cuLaunchKernel(word kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, word stream, void **parameters, void **extra) {
    SAY("launch %u %u on %lx", gx, bx, stream);
    if (shared) SAY(" with %u", shared);
    SAY(":");
    for (int i = 0; i < driver_parameters; i++) SAY(" %lx", *(word *)parameters[i]);
    SAY("\n");
    return OK;
}
struct config { unsigned grid[3], block[3], shared; word stream; };
int cuLaunchKernelEx(struct config *c, word kernel, void **parameters, void **extra) {
    return cuLaunchKernel(kernel, c->grid[0], 1, 1, c->block[0], 1, 1, c->shared, c->stream, parameters, extra);
}

int cuGetErrorName(int error, const char **name) { *name = error == CAPTURE_UNSUPPORTED ? "CAPTURE_UNSUPPORTED" : "ERROR"; return OK; }
int cuGetErrorString(int error, const char **words) { *words = "an error of the driver that is none"; return OK; }
static int unsupported(void) { return UNSUPPORTED; }

int cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status) {
    static void *self;
    char name[128];
    Dl_info info;
    if (!self && dladdr((void *)cuInit, &info)) self = dlopen(info.dli_fname, RTLD_NOW);
    *function = dlsym(self, symbol);
    snprintf(name, sizeof name, "%s_v2", symbol);
    if (!*function) *function = dlsym(self, name);
    if (!*function) *function = (void *)unsupported;
    if (status) *status = 0;
    return OK;
}
int cuGetProcAddress(const char *symbol, void **function, int version, uint64_t flags) {
    return cuGetProcAddress_v2(symbol, function, version, flags, 0);
}
