// Products of small matrices held by a warp: D[16×8] += A[16×16]·B[16×8] of `mma.m16n8k16` (PTX ISA, "Matrix fragments for
// mma.m16n8k16"). With g = lane / 4 and t = lane % 4 a lane holds
//   A: pairs (g, 2t), (g+8, 2t), (g, 2t+8), (g+8, 2t+8) of two neighbours in a row,
//   B: pairs (2t, g), (2t+8, g) of two neighbours in a column,
//   D: elements (g, 2t), (g, 2t+1), (g+8, 2t), (g+8, 2t+1).
#pragma once
#include "common.cuh"

template <typename T> struct alignas(2 * sizeof(T)) Pair {
  T low, high;
};
template <typename T> __device__ inline Pair<T> make_pair(float low, float high) {
  return {from_float<T>(low), from_float<T>(high)};
}
template <typename T> __device__ inline Pair<T> load_pair(const T* from) {
  return *reinterpret_cast<const Pair<T>*>(from);
}

// For element types the tensor cores would round: every operand fetched from the lane that holds it.
template <typename T>
__device__ inline void multiply_by_shuffles(float (&d)[4], const Pair<T> (&a)[4], const Pair<T> (&b)[2]) {
  const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int k = 0; k < 16; k++) {
    const int half = k / 8, holder = k % 8 / 2;
    float of_a[2], of_b[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const Pair<T> own_a = a[2 * half + i], own_b = b[half];
      of_a[i] = __shfl_sync(0xffffffffu, to_float(k % 2 ? own_a.high : own_a.low), 4 * g + holder);
      of_b[i] = __shfl_sync(0xffffffffu, to_float(k % 2 ? own_b.high : own_b.low), 4 * (2 * t + i) + holder);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) d[i] += of_a[i / 2] * of_b[i % 2];
  }
}

#ifdef CUDA_EMULATOR
template <typename T> inline void multiply(float (&d)[4], const Pair<T> (&a)[4], const Pair<T> (&b)[2]) {
  emulator::multiply(d, a, b);
}
#else
// A call, not inlined: hundreds of copies of 64 shuffles would take minutes to compile.
static __device__ __noinline__ float4 multiply_called(float4 d, float4 a0, float4 a1, float4 b) {
  float sums[4] = {d.x, d.y, d.z, d.w};
  const Pair<float> of_a[4] = {{a0.x, a0.y}, {a0.z, a0.w}, {a1.x, a1.y}, {a1.z, a1.w}};
  const Pair<float> of_b[2] = {{b.x, b.y}, {b.z, b.w}};
  multiply_by_shuffles(sums, of_a, of_b);
  return make_float4(sums[0], sums[1], sums[2], sums[3]);
}
__device__ inline void multiply(float (&d)[4], const Pair<float> (&a)[4], const Pair<float> (&b)[2]) {
  const float4 out = multiply_called(make_float4(d[0], d[1], d[2], d[3]), make_float4(a[0].low, a[0].high, a[1].low, a[1].high),
                                     make_float4(a[2].low, a[2].high, a[3].low, a[3].high),
                                     make_float4(b[0].low, b[0].high, b[1].low, b[1].high));
  d[0] = out.x, d[1] = out.y, d[2] = out.z, d[3] = out.w;
}
template <typename T> __device__ inline uint32_t bits(const Pair<T>& pair) {
  static_assert(sizeof(pair) == 4);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ inline void multiply(float (&d)[4], const Pair<bf16> (&a)[4], const Pair<bf16> (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(bits(a[0])), "r"(bits(a[1])), "r"(bits(a[2])), "r"(bits(a[3])), "r"(bits(b[0])), "r"(bits(b[1])));
}
__device__ inline void multiply(float (&d)[4], const Pair<f16> (&a)[4], const Pair<f16> (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(bits(a[0])), "r"(bits(a[1])), "r"(bits(a[2])), "r"(bits(a[3])), "r"(bits(b[0])), "r"(bits(b[1])));
}
#endif

// One warp: D[16×8] = A[16×16]·B[16×8] from row-major f32 matrices, rounded to T: the layout above, on its own. The tests
// compare `multiply` and `multiply_by_shuffles` through it.
template <typename T> __device__ inline void product_of_one_warp(const float* a, const float* b, float* d, int shuffles) {
  const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
  Pair<T> of_a[4], of_b[2];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const float* at = a + (g + i % 2 * 8) * 16 + 2 * t + i / 2 * 8;
    of_a[i] = make_pair<T>(at[0], at[1]);
  }
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const float* at = b + (2 * t + i * 8) * 8 + g;
    of_b[i] = make_pair<T>(at[0], at[8]);
  }
  float sums[4] = {0.f, 0.f, 0.f, 0.f};
  if (shuffles)
    multiply_by_shuffles(sums, of_a, of_b);
  else
    multiply(sums, of_a, of_b);
#pragma unroll
  for (int i = 0; i < 4; i++) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sums[i];
}
extern "C" __global__ void product_of_one_warp_f32(const float* a, const float* b, float* d, int shuffles) {
  product_of_one_warp<float>(a, b, d, shuffles);
}
EXPORTED(product_of_one_warp_f32)
extern "C" __global__ void product_of_one_warp_bf16(const float* a, const float* b, float* d, int shuffles) {
  product_of_one_warp<bf16>(a, b, d, shuffles);
}
EXPORTED(product_of_one_warp_bf16)
extern "C" __global__ void product_of_one_warp_f16(const float* a, const float* b, float* d, int shuffles) {
  product_of_one_warp<f16>(a, b, d, shuffles);
}
EXPORTED(product_of_one_warp_f16)
