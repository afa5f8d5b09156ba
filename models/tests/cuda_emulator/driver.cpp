// A CUDA driver and cuBLASLt over the emulator, as a shared library in their place: as much of them as cudarc calls for the
// tests of models/src/vit/cuda, which then run the host's code as a GPU's machine would (`cargo xtask cuda --test`).
//
// It is as late as a driver may be: what is queued on a stream runs when somebody waits for it and no sooner, pinned memory
// is read and written then, and memory that is fresh or given back holds NaN. Products are column-major, as NVIDIA documents
// cuBLASLt; calls of any other form than ours are errors.
#include "kernels.cu"

#include <deque>
#include <mutex>

namespace {
// The emulator has one set of threads.
std::recursive_mutex lock_of_all;
#define LOCKED std::lock_guard<std::recursive_mutex> guard(lock_of_all)

constexpr int INVALID = 1, NOT_FOUND = 500, CAPTURING = 900;

struct Graph {
  std::vector<std::function<void()>> work;
};
struct Stream {
  std::deque<std::function<void()>> work;
  uint64_t queued = 0, done = 0;
  Graph* capture = nullptr;
  void add(std::function<void()> one) {
    if (capture) {
      capture->work.push_back(one);
    } else {
      work.push_back(one);
      queued++;
    }
  }
  void run_until(uint64_t number) {
    while (done < number) {
      auto one = work.front();
      work.pop_front();
      one();
      done++;
    }
  }
};
std::vector<Stream*>& streams() {
  static std::vector<Stream*> all;
  return all;
}
Stream* stream_of(void* handle) {
  static Stream legacy;
  // Never deleted: what is queued outlives the thread.
  thread_local Stream* own = nullptr;
  if ((uintptr_t)handle <= 1) {
    if (std::find(streams().begin(), streams().end(), &legacy) == streams().end()) streams().push_back(&legacy);
    return &legacy;
  }
  if ((uintptr_t)handle == 2) {
    if (!own) streams().push_back(own = new Stream);
    return own;
  }
  return (Stream*)handle;
}
struct Event {
  Stream* stream = nullptr;
  uint64_t number = 0;
};
struct Function {
  const emulator::Kernel* kernel;
  std::string letters;
};
std::map<void*, size_t> lengths;

void* get_memory(size_t bytes) {
  void* at = aligned_alloc(512, (bytes + 1023) / 512 * 512);
  memset(at, 0xff, (bytes + 1023) / 512 * 512);
  lengths[at] = bytes;
  return at;
}
void drop_memory(void* at) {
  memset(at, 0xff, lengths[at]);
  lengths.erase(at);
  free(at);
}
bool is_pinned(const void* at) {
  auto next = lengths.upper_bound((void*)at);
  return next != lengths.begin() && (--next, (char*)next->first + next->second > (char*)at);
}
}  // namespace

extern "C" {
int cuInit(unsigned) { return 0; }
int cuDeviceGet(int* device, int) {
  *device = 0;
  return 0;
}
int cuDeviceGetCount(int* count) {
  *count = 1;
  return 0;
}
int cuDevicePrimaryCtxRetain(void** context, int) {
  *context = (void*)64;
  return 0;
}
int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
int cuDeviceGetAttribute(int* value, int, int) {
  *value = 9;
  return 0;
}
int cuCtxSetCurrent(void*) { return 0; }
int cuCtxGetCurrent(void** context) {
  *context = (void*)64;
  return 0;
}
int cuCtxSynchronize() {
  LOCKED;
  for (Stream* stream : streams()) stream->run_until(stream->queued);
  return 0;
}
int cuGetErrorName(int, const char** text) {
  *text = "error";
  return 0;
}
int cuGetErrorString(int, const char** text) {
  *text = "error";
  return 0;
}
int cuStreamCreate(void** stream, unsigned) {
  LOCKED;
  Stream* made = new Stream;
  streams().push_back(made);
  *stream = made;
  return 0;
}
int cuStreamDestroy_v2(void*) { return 0; }
int cuStreamSynchronize(void* handle) {
  LOCKED;
  Stream* stream = stream_of(handle);
  if (stream->capture) return CAPTURING;
  stream->run_until(stream->queued);
  return 0;
}
int cuEventCreate(void** event, unsigned) {
  *event = new Event;
  return 0;
}
int cuEventDestroy_v2(void* event) { return 0; }
int cuEventRecord(void* event, void* handle) {
  LOCKED;
  Stream* stream = stream_of(handle);
  if (stream->capture) return CAPTURING;
  *(Event*)event = {stream, stream->queued};
  return 0;
}
int cuEventSynchronize(void* event) {
  LOCKED;
  Event* one = (Event*)event;
  if (one->stream) one->stream->run_until(one->number);
  return 0;
}
int cuEventQuery(void*) { return 0; }
int cuStreamWaitEvent(void* handle, void* event, unsigned) {
  LOCKED;
  Event one = *(Event*)event;
  if (one.stream && one.stream != stream_of(handle))
    stream_of(handle)->add([one] { one.stream->run_until(one.number); });
  return 0;
}
int cuStreamIsCapturing(void* handle, int* status) {
  LOCKED;
  *status = stream_of(handle)->capture ? 1 : 0;
  return 0;
}
int cuMemAllocAsync(uint64_t* at, size_t bytes, void*) {
  LOCKED;
  *at = (uint64_t)get_memory(bytes);
  return 0;
}
int cuMemAlloc_v2(uint64_t* at, size_t bytes) {
  LOCKED;
  *at = (uint64_t)get_memory(bytes);
  return 0;
}
int cuMemFreeAsync(uint64_t at, void* handle) {
  LOCKED;
  stream_of(handle)->add([at] { drop_memory((void*)at); });
  return 0;
}
int cuMemHostAlloc(void** at, size_t bytes, unsigned) {
  LOCKED;
  *at = get_memory(bytes);
  return 0;
}
int cuMemFreeHost(void* at) {
  LOCKED;
  drop_memory(at);
  return 0;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void* handle) {
  LOCKED;
  // From pageable memory the driver copies before it returns; pinned memory it reads later.
  if (is_pinned(from)) {
    stream_of(handle)->add([=] { memcpy((void*)to, from, bytes); });
  } else {
    std::string copy((const char*)from, bytes);
    stream_of(handle)->add([=] { memcpy((void*)to, copy.data(), bytes); });
  }
  return 0;
}
int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void* handle) {
  LOCKED;
  stream_of(handle)->add([=] { memcpy(to, (void*)from, bytes); });
  if (!is_pinned(to)) stream_of(handle)->run_until(stream_of(handle)->queued);
  return 0;
}
int cuMemsetD8Async(uint64_t at, unsigned char value, size_t bytes, void* handle) {
  LOCKED;
  stream_of(handle)->add([=] { memset((void*)at, value, bytes); });
  return 0;
}
int cuModuleLoadData(void** module, const void*) {
  *module = (void*)128;
  return 0;
}
int cuModuleUnload(void*) { return 0; }
int cuModuleGetFunction(void** function, void*, const char* name) {
  LOCKED;
  const std::string prefix = std::string(name) + ":";
  for (auto& [key, kernel] : emulator::kernels())
    if (key.compare(0, prefix.size(), prefix) == 0) {
      *function = new Function{&kernel, key.substr(prefix.size())};
      return 0;
    }
  return NOT_FOUND;
}
int cuLaunchKernel(void* handle, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned, unsigned, unsigned,
                   void* stream, void** parameters, void**) {
  LOCKED;
  Function* function = (Function*)handle;
  std::vector<uint64_t> values;
  for (size_t i = 0; i < function->letters.size(); i++) {
    uint64_t value = 0;
    const char letter = function->letters[i];
    memcpy(&value, parameters[i], letter == 'p' || letter == 'l' ? 8 : 4);
    values.push_back(value);
  }
  stream_of(stream)->add([=] { emulator::launch({x, y, z}, threads, [&] { (*function->kernel)(values); }); });
  return 0;
}
int cuStreamBeginCapture_v2(void* handle, int) {
  LOCKED;
  stream_of(handle)->capture = new Graph;
  return 0;
}
int cuStreamEndCapture(void* handle, void** graph) {
  LOCKED;
  *graph = stream_of(handle)->capture;
  stream_of(handle)->capture = nullptr;
  return 0;
}
int cuGraphInstantiateWithFlags(void** out, void* graph, uint64_t) {
  *out = new Graph(*(Graph*)graph);
  return 0;
}
int cuGraphExecDestroy(void*) { return 0; }
int cuGraphDestroy(void*) { return 0; }
int cuGraphLaunch(void* graph, void* handle) {
  LOCKED;
  for (auto& one : ((Graph*)graph)->work) stream_of(handle)->add(one);
  return 0;
}

// cuBLASLt. Types: 0 f32, 2 f16, 14 bf16. Computing in f32 is 68, with tf32 77. Epilogues: 1 none, 4 bias.
struct Description {
  int compute, scale, transa = 0, epilogue = 1;
  uint64_t bias = 0;
};
struct Shape {
  int type;
  uint64_t rows, columns;
  int64_t stride;
};
int cublasLtCreate(void** handle) {
  *handle = (void*)256;
  return 0;
}
int cublasLtMatmulDescCreate(void** out, int compute, int scale) {
  *out = new Description{compute, scale};
  return 0;
}
int cublasLtMatmulDescDestroy(void* one) {
  delete (Description*)one;
  return 0;
}
int cublasLtMatmulDescSetAttribute(void* handle, int attribute, const void* value, size_t bytes) {
  Description* one = (Description*)handle;
  constexpr int TRANSA = 3, EPILOGUE = 7, BIAS_POINTER = 8;
  if (attribute == TRANSA && bytes == 4) return memcpy(&one->transa, value, 4), 0;
  if (attribute == EPILOGUE && bytes == 4) return memcpy(&one->epilogue, value, 4), 0;
  if (attribute == BIAS_POINTER && bytes == 8) return memcpy(&one->bias, value, 8), 0;
  return INVALID;
}
int cublasLtMatrixLayoutCreate(void** out, int type, uint64_t rows, uint64_t columns, int64_t stride) {
  if ((uint64_t)stride < rows) return INVALID;
  *out = new Shape{type, rows, columns, stride};
  return 0;
}
int cublasLtMatrixLayoutDestroy(void* one) {
  delete (Shape*)one;
  return 0;
}
int cublasLtMatmulPreferenceCreate(void** out) {
  *out = (void*)512;
  return 0;
}
int cublasLtMatmulPreferenceSetAttribute(void*, int attribute, const void*, size_t bytes) {
  constexpr int WORKSPACE_BYTES = 1;
  return attribute == WORKSPACE_BYTES && bytes == 8 ? 0 : INVALID;
}
static bool fit(const Description& d, const Shape& a, const Shape& b, const Shape& c, const Shape& out) {
  const bool types = a.type == b.type && a.type == out.type && c.type == out.type && d.scale == 0;
  const bool known = (d.compute == 68 || d.compute == 77) && (d.epilogue == 1 || d.epilogue == 4) && d.transa == 1;
  return types && known && a.rows == b.rows && out.rows == a.columns && out.columns == b.columns && c.rows == out.rows &&
         c.columns == out.columns;
}
int cublasLtMatmulAlgoGetHeuristic(void*, Description* d, Shape* a, Shape* b, Shape* c, Shape* out, void*, int, void* result,
                                   int* found) {
  constexpr size_t RESULT_BYTES = 96;
  *found = 1;
  memset(result, 0, RESULT_BYTES);
  return fit(*d, *a, *b, *c, *out) ? 0 : INVALID;
}
static float load(int type, const void* from, size_t at) {
  if (type == 0) return ((const float*)from)[at];
  return type == 14 ? to_float(((const bf16*)from)[at]) : to_float(((const f16*)from)[at]);
}
static void store(int type, void* to, size_t at, float value) {
  if (type == 0)
    ((float*)to)[at] = value;
  else if (type == 14)
    ((bf16*)to)[at] = from_float<bf16>(value);
  else
    ((f16*)to)[at] = from_float<f16>(value);
}
int cublasLtMatmul(void*, Description* description, const float* alpha, const void* a, Shape* of_a, const void* b, Shape* of_b,
                   const float* beta, const void* c, Shape* of_c, void* out, Shape* of_out, const void*, void* workspace,
                   size_t workspace_bytes, void* stream) {
  LOCKED;
  const Description d = *description;
  const Shape as = *of_a, bs = *of_b, cs = *of_c, os = *of_out;
  const float scale = *alpha, share = *beta;
  if (!fit(d, as, bs, cs, os) || (c == out && cs.stride != os.stride)) return INVALID;
  if (lengths.count(workspace) == 0 || lengths[workspace] < workspace_bytes) return INVALID;
  stream_of(stream)->add([=] {
    std::vector<float> left(as.rows * as.columns), right(bs.rows), sums(os.rows);
    for (uint64_t i = 0; i < left.size(); i++) left[i] = load(as.type, a, i / as.rows * as.stride + i % as.rows);
    for (uint64_t j = 0; j < os.columns; j++) {
      for (uint64_t k = 0; k < bs.rows; k++) right[k] = load(bs.type, b, j * bs.stride + k);
      for (uint64_t i = 0; i < os.rows; i++) {
        float sum = 0.f;
        for (uint64_t k = 0; k < as.rows; k++) sum += left[i * as.rows + k] * right[k];
        sums[i] = scale * sum + (d.epilogue == 4 ? load(os.type, (const void*)d.bias, i) : 0.f);
        if (share != 0.f) sums[i] += share * load(cs.type, c, j * cs.stride + i);
      }
      for (uint64_t i = 0; i < os.rows; i++) store(os.type, out, j * os.stride + i, sums[i]);
    }
  });
  return 0;
}
}
