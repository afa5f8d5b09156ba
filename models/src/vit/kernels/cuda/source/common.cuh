// What every kernel shares. Activations are f32, bf16 or, embedding only, f16 (T), arithmetic is f32, and every sum has a fixed order: the same
// inputs give the same bits.
//
// The sources are also compiled as C++ by the tests, which run a block's threads as fibres (models/tests/cuda_emulator).
// Keep to what that knows: static shared memory, __syncthreads by all threads of a block, shuffles by whole warps.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

typedef __nv_bfloat16 bf16;
typedef __half f16;

// Marks a kernel that the host launches by name.
#ifndef EXPORTED
#define EXPORTED(name)
#endif

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(bf16 x) { return __bfloat162float(x); }
__device__ inline float to_float(f16 x) { return __half2float(x); }
template <typename T> __device__ inline T from_float(float x);
template <> __device__ inline float from_float<float>(float x) { return x; }
template <> __device__ inline bf16 from_float<bf16>(float x) { return __float2bfloat16(x); }
template <> __device__ inline f16 from_float<f16>(float x) { return __float2half(x); }

// N neighbours, moved by one instruction; the address must be a multiple of their size.
template <typename T, int N> struct alignas(sizeof(T) * N) Pack {
  T values[N];
};
template <int N, typename T> __device__ inline Pack<T, N> load_pack(const T* from) {
  return *reinterpret_cast<const Pack<T, N>*>(from);
}
template <int N, typename T> __device__ inline void store_pack(T* to, const Pack<T, N>& pack) {
  *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

__device__ inline float warp_sum(float value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}
__device__ inline float warp_max(float value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, offset));
  return value;
}

constexpr int WARP = 32;
constexpr int THREADS = 256;
constexpr int WARPS = THREADS / WARP;
