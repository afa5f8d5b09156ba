// As much of CUDA's language and of its bfloat16 as the kernels use, for a C++ compiler. Found in place of CUDA's header.
//
// A block's threads are fibres on one thread of the CPU: each runs until it reaches a barrier, then the next one does. In
// which order they take turns is a choice (`backwards`): a result that depends on it is a race.
#pragma once
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "cuda_fp16.h"

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <vector>

#define CUDA_EMULATOR
#define __global__
#define __device__
#define __noinline__
#define __launch_bounds__(threads)
// Blocks run one after the other, so one copy will do.
#define __shared__ static

struct Dim3 {
  unsigned x, y, z;
};
inline Dim3 gridDim, blockDim, blockIdx, threadIdx;
using std::max;
using std::min;

struct __nv_bfloat16 {
  uint16_t bits;
};
inline float __bfloat162float(__nv_bfloat16 value) {
  const uint32_t bits = (uint32_t)value.bits << 16;
  float out;
  memcpy(&out, &bits, 4);
  return out;
}
// To the nearest, ties to even; NaN stays NaN.
inline __nv_bfloat16 __float2bfloat16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  if (value != value) return {(uint16_t)(bits >> 16 | 0x40)};
  return {(uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

namespace emulator {
constexpr int LANES = 32;
constexpr size_t STACK = 128 << 10;

struct Fibre {
  ucontext_t context;
  jmp_buf state;
  char* stack;
  bool started, done;
};
// Threads of one barrier: how many have arrived, and how often it has opened.
struct Barrier {
  unsigned arrived, opened;
};
struct Message {
  unsigned char bytes[64];
};

inline std::vector<Fibre> fibres;
inline unsigned running, count;
inline bool backwards;
inline jmp_buf scheduler;
inline Barrier of_block, of_warp[32];
inline Message messages[1024];
inline std::function<void()> body;

[[noreturn]] inline void fail(const char* reason) {
  fprintf(stderr, "emulator: %s\n", reason);
  exit(1);
}

inline void yield() {
  if (_setjmp(fibres[running].state) == 0) _longjmp(scheduler, 1);
}

inline void wait(Barrier& barrier, unsigned members) {
  const unsigned opened = barrier.opened;
  if (++barrier.arrived == members) {
    barrier.arrived = 0;
    barrier.opened++;
  }
  while (barrier.opened == opened) yield();
}
inline void wait_for_warp() { wait(of_warp[running / LANES], std::min<unsigned>(LANES, count - running / LANES * LANES)); }

// Hands `own` to the warp; the answers are valid until the lane calls `release`.
template <typename T> inline const Message* exchange(const T& own) {
  static_assert(sizeof(T) <= sizeof(Message));
  memcpy(messages[running].bytes, &own, sizeof(T));
  wait_for_warp();
  return messages + running / LANES * LANES;
}
inline void release() { wait_for_warp(); }

inline void enter() {
  body();
  fibres[running].done = true;
  _longjmp(scheduler, 1);
}

// Lets fibre `index` run to its next barrier.
inline void resume(unsigned index) {
  Fibre& fibre = fibres[index];
  running = index;
  threadIdx = {index, 0, 0};
  if (_setjmp(scheduler) != 0) return;
  if (fibre.started) _longjmp(fibre.state, 1);
  fibre.started = true;
  getcontext(&fibre.context);
  fibre.context.uc_stack.ss_sp = fibre.stack;
  fibre.context.uc_stack.ss_size = STACK;
  fibre.context.uc_link = nullptr;
  makecontext(&fibre.context, (void (*)())enter, 0);
  setcontext(&fibre.context);
}

inline void run_block(unsigned threads) {
  while (fibres.size() < threads) fibres.push_back({{}, {}, (char*)malloc(STACK), false, false});
  count = threads;
  of_block = {0, 0};
  for (Barrier& barrier : of_warp) barrier = {0, 0};
  for (unsigned i = 0; i < threads; i++) fibres[i].started = fibres[i].done = false;
  for (unsigned left = threads, rounds = 0; left > 0; rounds++) {
    if (rounds > 10000000) fail("threads of a block wait for each other in vain");
    left = 0;
    for (unsigned i = 0; i < threads; i++) {
      const unsigned index = backwards ? threads - 1 - i : i;
      if (!fibres[index].done) resume(index);
      left += !fibres[index].done;
    }
  }
  if (of_block.arrived) fail("a thread of a block left while others wait at __syncthreads");
}

inline void launch(Dim3 grid, unsigned threads, std::function<void()> kernel) {
  if (threads > 1024) fail("a block has at most 1024 threads");
  gridDim = grid;
  blockDim = {threads, 1, 1};
  body = kernel;
  const size_t blocks = (size_t)grid.x * grid.y * grid.z;
  for (size_t i = 0; i < blocks; i++) {
    const size_t at = backwards ? blocks - 1 - i : i;
    blockIdx = {(unsigned)(at % grid.x), (unsigned)(at / grid.x % grid.y), (unsigned)(at / grid.x / grid.y)};
    run_block(threads);
  }
}

// What mma.m16n8k16 does, from whole matrices put together out of the lanes' registers (see mma.cuh for the layout).
template <typename P> inline void multiply(float (&d)[4], const P (&a)[4], const P (&b)[2]) {
  struct Operands {
    P a[4], b[2];
  } own;
  memcpy(own.a, a, sizeof(a));
  memcpy(own.b, b, sizeof(b));
  const Message* all = exchange(own);
  const int lane = running % LANES, g = lane / 4, t = lane % 4;
  auto float_of = [](auto value) {
    if constexpr (sizeof(value) == 4)
      return (float)value;
    else if constexpr (std::is_same_v<decltype(value), __half>)
      return __half2float(value);
    else
      return __bfloat162float(value);
  };
  auto held = [&](int holder) { return (const Operands*)all[holder].bytes; };
  for (int i = 0; i < 4; i++) {
    const int row = g + i / 2 * 8, column = 2 * t + i % 2;
    for (int k = 0; k < 16; k++) {
      const P& of_a = held(row % 8 * 4 + k % 8 / 2)->a[k / 8 * 2 + row / 8];
      const P& of_b = held(column * 4 + k % 8 / 2)->b[k / 8];
      d[i] += float_of(k % 2 ? of_a.high : of_a.low) * float_of(k % 2 ? of_b.high : of_b.low);
    }
  }
  release();
}

// Kernels by name; arguments arrive as eight bytes each.
using Kernel = std::function<void(const std::vector<uint64_t>&)>;
inline std::map<std::string, Kernel>& kernels() {
  static std::map<std::string, Kernel> all;
  return all;
}
template <typename T> inline T argument(uint64_t bits) {
  T out;
  memcpy(&out, &bits, sizeof(T));
  return out;
}
template <typename... A, size_t... I>
inline void call(void (*kernel)(A...), const std::vector<uint64_t>& values, std::index_sequence<I...>) {
  kernel(argument<A>(values[I])...);
}
// One letter for each parameter: p(ointer), f(loat), i(nteger of 4 bytes), l(ong).
template <typename T> constexpr char letter() {
  if constexpr (std::is_pointer_v<T>) return 'p';
  if constexpr (std::is_floating_point_v<T>) return 'f';
  return sizeof(T) == 8 ? 'l' : 'i';
}
struct Registration {
  template <typename... A> Registration(const char* name, void (*kernel)(A...)) {
    kernels()[std::string(name) + ":" + std::string({letter<A>()...})] = [kernel](const std::vector<uint64_t>& values) {
      call(kernel, values, std::index_sequence_for<A...>());
    };
  }
};
}  // namespace emulator
#define EXPORTED(name) static emulator::Registration registration_of_##name(#name, name);

inline void __syncthreads() { emulator::wait(emulator::of_block, emulator::count); }
template <typename T> inline T __shfl_sync(unsigned, T value, int lane) {
  T out;
  memcpy(&out, emulator::exchange(value)[lane % emulator::LANES].bytes, sizeof(T));
  emulator::release();
  return out;
}
template <typename T> inline T __shfl_xor_sync(unsigned mask, T value, int offset) {
  return __shfl_sync(mask, value, (int)(emulator::running % emulator::LANES) ^ offset);
}
