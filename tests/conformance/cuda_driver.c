/* A CUDA driver on host memory: enough of libcuda.so.1 for the real pycuda to run on a machine
 * without a GPU, and strict where a driver is strict.
 *
 * A stream does nothing until an event behind it is asked, so that a reader who does not wait reads
 * what was there before. A call without a current context on the calling thread fails, as does
 * mapping memory that was not allocated for it, capturing twice, or waiting inside a capture. What
 * is alive is counted. Everything that pycuda links against and this does not define answers
 * CUDA_ERROR_NOT_SUPPORTED (made at test time from pycuda's own list of symbols).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_CONTEXT = 201,
  NOT_READY = 600, LAUNCH_FAILED = 719, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALID = 901,
};

typedef int CUresult;
typedef struct work {
  struct work *next;
  void (*call)(void *);
  void *argument, *to;
  const void *from;
  size_t size;
} work;
typedef struct { work *first, **last; } list;
typedef struct { list todo, recorded; int capturing; } stream;
typedef struct { stream *behind; } event;
typedef struct pinned { struct pinned *next; void *bytes; int mapped; } pinned;

static pinned *pages;
static int live_pinned, live_device, live_streams, live_events, live_contexts, live_graphs;
static int sticky, out_of_memory_after = -1, hang, launches;
static char context_object;
static __thread int depth;

#define IN_CONTEXT if (sticky) return sticky; if (!depth) return INVALID_CONTEXT
#define ALLOCATES if (out_of_memory_after == 0) return OUT_OF_MEMORY; \
  if (out_of_memory_after > 0) out_of_memory_after--

/* For the tests. */
int fake_live(int kind) {
  int counts[] = {live_pinned, live_device, live_streams, live_events, live_contexts, live_graphs};
  return counts[kind];
}
void fake_fail(int code) { sticky = code; }
void fake_out_of_memory_after(int allocations) { out_of_memory_after = allocations; }
void fake_hang(int on) { hang = on; }
int fake_launches(void) { return launches; }

CUresult cuInit(unsigned flags) { return sticky; }
CUresult cuDriverGetVersion(int *version) { *version = 13000; return OK; }
CUresult cuDeviceGetCount(int *count) { *count = 1; return OK; }
CUresult cuDeviceGet(int *device, int ordinal) { *device = 0; return ordinal ? NO_DEVICE : OK; }
CUresult cuDeviceGetName(char *name, int size, int device) {
  strncpy(name, "Host memory", size);
  return OK;
}
CUresult cuDeviceComputeCapability(int *major, int *minor, int device) {
  *major = 8;
  *minor = 7;
  return OK;
}
CUresult cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 16 ? 4 : attribute == 18 ? 1 : attribute == 19 ? 1
         : attribute == 75 ? 8 : attribute == 76 ? 7 : 0;
  return OK;
}
CUresult cuDevicePrimaryCtxRetain(void **context, int device) {
  *context = &context_object;
  live_contexts++;
  return OK;
}
CUresult cuDevicePrimaryCtxRelease_v2(int device) { live_contexts--; return OK; }
CUresult cuCtxPushCurrent_v2(void *context) { depth++; return OK; }
CUresult cuCtxPopCurrent_v2(void **context) {
  if (!depth) return INVALID_CONTEXT;
  depth--;
  *context = &context_object;
  return OK;
}
CUresult cuCtxGetDevice(int *device) { *device = 0; return depth ? OK : INVALID_CONTEXT; }
CUresult cuCtxSynchronize(void) { IN_CONTEXT; return OK; }

CUresult cuMemHostAlloc(void **bytes, size_t size, unsigned flags) {
  IN_CONTEXT; ALLOCATES;
  pinned *page = malloc(sizeof *page);
  *bytes = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
  memset(*bytes, 0xA5, size);
  *page = (pinned){pages, *bytes, flags & 2};
  pages = page;
  live_pinned++;
  return OK;
}
CUresult cuMemHostGetDevicePointer_v2(uint64_t *address, void *bytes, unsigned flags) {
  IN_CONTEXT;
  for (pinned *page = pages; page; page = page->next)
    if (page->bytes == bytes && page->mapped) return *address = (uint64_t)bytes, OK;
  return INVALID_VALUE;
}
CUresult cuMemFreeHost(void *bytes) {
  if (!depth) return INVALID_CONTEXT;
  for (pinned **page = &pages; *page; page = &(*page)->next)
    if ((*page)->bytes == bytes) {
      pinned *gone = *page;
      *page = gone->next;
      free(bytes);
      free(gone);
      live_pinned--;
      return OK;
    }
  return INVALID_VALUE;
}
CUresult cuMemAlloc_v2(uint64_t *address, size_t size) {
  IN_CONTEXT; ALLOCATES;
  void *bytes = malloc(size);
  memset(bytes, 0x5A, size);
  *address = (uint64_t)bytes;
  live_device++;
  return OK;
}
CUresult cuMemFree_v2(uint64_t address) {
  if (!depth) return INVALID_CONTEXT;
  free((void *)address);
  live_device--;
  return OK;
}

static void add(list *to, work item) {
  if (!to->last) to->last = &to->first;
  work *copy = malloc(sizeof *copy);
  *copy = item;
  copy->next = NULL;
  *to->last = copy;
  to->last = &copy->next;
}
static void clear(list *of) {
  for (work *next, *item = of->first; item; item = next) {
    next = item->next;
    free(item);
  }
  *of = (list){NULL, NULL};
}
static void put(stream *into, work item) { add(into->capturing ? &into->recorded : &into->todo, item); }
static void run(stream *of) {
  list taken = of->todo;
  of->todo = (list){NULL, NULL};
  for (work *item = taken.first; item; item = item->next)
    if (item->call) item->call(item->argument);
    else memcpy(item->to, item->from, item->size);
  clear(&taken);
}

CUresult cuStreamCreate(stream **made, unsigned flags) {
  IN_CONTEXT;
  *made = calloc(1, sizeof **made);
  live_streams++;
  return OK;
}
CUresult cuStreamDestroy_v2(stream *of) {
  clear(&of->todo);
  clear(&of->recorded);
  free(of);
  live_streams--;
  return OK;
}
CUresult cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, stream *into) {
  IN_CONTEXT;
  put(into, (work){.to = (void *)to, .from = from, .size = size});
  return OK;
}
CUresult cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, stream *into) {
  IN_CONTEXT;
  put(into, (work){.to = to, .from = (void *)from, .size = size});
  return OK;
}
CUresult cuLaunchHostFunc(stream *into, void (*call)(void *), void *argument) {
  IN_CONTEXT;
  put(into, (work){.call = call, .argument = argument});
  return OK;
}

CUresult cuEventCreate(event **made, unsigned flags) {
  IN_CONTEXT;
  *made = calloc(1, sizeof **made);
  live_events++;
  return OK;
}
CUresult cuEventDestroy_v2(event *gone) { free(gone); live_events--; return OK; }
CUresult cuEventRecord(event *into, stream *behind) {
  IN_CONTEXT;
  if (behind->capturing) return CAPTURE_UNSUPPORTED;
  into->behind = behind;
  return OK;
}
CUresult cuEventQuery(event *of) {
  IN_CONTEXT;
  if (hang) return NOT_READY;
  if (of->behind) run(of->behind);
  return OK;
}

CUresult cuStreamBeginCapture_v2(stream *of, int mode) {
  IN_CONTEXT;
  if (of->capturing) return CAPTURE_INVALID;
  of->capturing = 1;
  return OK;
}
CUresult cuStreamEndCapture(stream *of, list **graph) {
  if (!of->capturing) return CAPTURE_INVALID;
  of->capturing = 0;
  *graph = malloc(sizeof **graph);
  **graph = of->recorded;
  of->recorded = (list){NULL, NULL};
  live_graphs++;
  return OK;
}
CUresult cuGraphInstantiateWithFlags(list **made, list *graph, unsigned long long flags) {
  *made = calloc(1, sizeof **made);
  for (work *item = graph->first; item; item = item->next) add(*made, *item);
  live_graphs++;
  return OK;
}
CUresult cuGraphLaunch(list *graph, stream *into) {
  IN_CONTEXT;
  launches++;
  for (work *item = graph->first; item; item = item->next) add(&into->todo, *item);
  return OK;
}
static CUresult destroy(list *graph) {
  clear(graph);
  free(graph);
  live_graphs--;
  return OK;
}
CUresult cuGraphDestroy(list *graph) { return destroy(graph); }
CUresult cuGraphExecDestroy(list *graph) { return destroy(graph); }

/* How cuda-bindings finds the rest: the newest function of a name. */
CUresult cuGetProcAddress_v2(const char *name, void **found, int version, uint64_t flags, int *how) {
  char newest[128];
  void *self = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
  snprintf(newest, sizeof newest, "%s_v2", name);
  *found = dlsym(self, newest);
  if (!*found) *found = dlsym(self, name);
  return *found ? OK : INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult code, const char **text) {
  *text = code == LAUNCH_FAILED ? "unspecified launch failure"
        : code == OUT_OF_MEMORY ? "out of memory"
        : "another error";
  return OK;
}
