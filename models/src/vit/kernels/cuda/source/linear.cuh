// What surrounds the matrix product of a linear layer: bias, exact GELU, and their gradients.
#pragma once
#include "common.cuh"

__device__ inline float gelu(float x) { return 0.5f * x * (1.f + erff(x * 0.70710678118654752f)); }
__device__ inline float gelu_slope(float x) {
  const float gate = 0.5f * (1.f + erff(x * 0.70710678118654752f));
  return gate + x * 0.39894228040143268f * expf(-0.5f * x * x);
}

// y ← y + bias, in place over `elements` = rows·width.
template <typename T, int N> __device__ inline void add_bias(T* y, const float* bias, int64_t elements, int width) {
  const int64_t step = (int64_t)gridDim.x * THREADS * N;
  for (int64_t at = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * N; at < elements; at += step) {
    const int column = (int)(at % width);
    Pack<T, N> values = load_pack<N>(y + at);
#pragma unroll
    for (int i = 0; i < N; i++) values.values[i] = from_float<T>(to_float(values.values[i]) + bias[column + i]);
    store_pack<N>(y + at, values);
  }
}

// h ← h + bias in place (kept for the backward pass), and y = gelu(h).
template <typename T, int N>
__device__ inline void add_bias_gelu(T* h, const float* bias, T* y, int64_t elements, int width) {
  const int64_t step = (int64_t)gridDim.x * THREADS * N;
  for (int64_t at = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * N; at < elements; at += step) {
    const int column = (int)(at % width);
    Pack<T, N> values = load_pack<N>(h + at), out;
#pragma unroll
    for (int i = 0; i < N; i++) {
      values.values[i] = from_float<T>(to_float(values.values[i]) + bias[column + i]);
      out.values[i] = from_float<T>(gelu(to_float(values.values[i])));
    }
    store_pack<N>(h + at, values);
    store_pack<N>(y + at, out);
  }
}

template <typename T, int N> __device__ inline void gelu_forward(const T* x, T* y, int64_t elements) {
  const int64_t step = (int64_t)gridDim.x * THREADS * N;
  for (int64_t at = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * N; at < elements; at += step) {
    Pack<T, N> values = load_pack<N>(x + at);
#pragma unroll
    for (int i = 0; i < N; i++) values.values[i] = from_float<T>(gelu(to_float(values.values[i])));
    store_pack<N>(y + at, values);
  }
}

template <typename T, int N> __device__ inline void gelu_backward(const T* x, const T* dy, T* dx, int64_t elements) {
  const int64_t step = (int64_t)gridDim.x * THREADS * N;
  for (int64_t at = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * N; at < elements; at += step) {
    const Pack<T, N> values = load_pack<N>(x + at), gradients = load_pack<N>(dy + at);
    Pack<T, N> out;
#pragma unroll
    for (int i = 0; i < N; i++)
      out.values[i] = from_float<T>(to_float(gradients.values[i]) * gelu_slope(to_float(values.values[i])));
    store_pack<N>(dx + at, out);
  }
}

// Sums of columns, first stage: block (c, b) adds rows [b·stripe, (b+1)·stripe) of 32·N columns into partial[b]. With
// GELU the summands are dh = dy ⊙ gelu'(h), which is written as well.
template <typename T, int N, bool GELU>
__device__ inline void column_sums(const T* dy, const T* h, T* dh, float* partial, int rows, int width, int stripe) {
  __shared__ float sums[WARPS][WARP * N];
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  const int column = (blockIdx.x * WARP + lane) * N;
  const int begin = blockIdx.y * stripe, end = min(rows, begin + stripe);
  float own[N];
#pragma unroll
  for (int i = 0; i < N; i++) own[i] = 0.f;
  if (column < width) {
    for (int row = begin + warp; row < end; row += WARPS) {
      const size_t at = (size_t)row * width + column;
      Pack<T, N> values = load_pack<N>(dy + at);
      if (GELU) {
        const Pack<T, N> inputs = load_pack<N>(h + at);
#pragma unroll
        for (int i = 0; i < N; i++)
          values.values[i] = from_float<T>(to_float(values.values[i]) * gelu_slope(to_float(inputs.values[i])));
        store_pack<N>(dh + at, values);
      }
#pragma unroll
      for (int i = 0; i < N; i++) own[i] += to_float(values.values[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < N; i++) sums[warp][lane * N + i] = own[i];
  __syncthreads();
  for (int at = threadIdx.x; at < WARP * N; at += THREADS) {
    const int of_block = blockIdx.x * WARP * N + at;
    if (of_block >= width) continue;
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < WARPS; i++) sum += sums[i][at];
    partial[(size_t)blockIdx.y * width + of_block] = sum;
  }
}

// Second stage, for any partial sums [stripes, width]: 32 columns a block.
extern "C" __global__ void __launch_bounds__(THREADS)
    sum_stripes(const float* partial, float* out, int stripes, int width) {
  __shared__ float sums[WARPS][WARP];
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, column = blockIdx.x * WARP + lane;
  float sum = 0.f;
  if (column < width)
    for (int stripe = warp; stripe < stripes; stripe += WARPS) sum += partial[(size_t)stripe * width + column];
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp == 0 && column < width) {
    float total = 0.f;
#pragma unroll
    for (int i = 0; i < WARPS; i++) total += sums[i][lane];
    out[column] = total;
  }
}
EXPORTED(sum_stripes)

#define LINEAR(T, suffix, N)                                                                                          \
  extern "C" __global__ void __launch_bounds__(THREADS) add_bias_##suffix(T* y, const float* bias, int64_t elements,  \
                                                                          int width) {                                \
    add_bias<T, N>(y, bias, elements, width);                                                                         \
  }                                                                                                                   \
  EXPORTED(add_bias_##suffix)                                                                                         \
  extern "C" __global__ void __launch_bounds__(THREADS) add_bias_gelu_##suffix(T* h, const float* bias, T* y,         \
                                                                               int64_t elements, int width) {         \
    add_bias_gelu<T, N>(h, bias, y, elements, width);                                                                 \
  }                                                                                                                   \
  EXPORTED(add_bias_gelu_##suffix)                                                                                    \
  extern "C" __global__ void __launch_bounds__(THREADS) gelu_forward_##suffix(const T* x, T* y, int64_t elements) {   \
    gelu_forward<T, N>(x, y, elements);                                                                               \
  }                                                                                                                   \
  EXPORTED(gelu_forward_##suffix)                                                                                     \
  extern "C" __global__ void __launch_bounds__(THREADS) gelu_backward_##suffix(const T* x, const T* dy, T* dx,        \
                                                                               int64_t elements) {                    \
    gelu_backward<T, N>(x, dy, dx, elements);                                                                         \
  }                                                                                                                   \
  EXPORTED(gelu_backward_##suffix)                                                                                    \
  extern "C" __global__ void __launch_bounds__(THREADS) column_sums_##suffix(const T* dy, float* partial, int rows,   \
                                                                             int width, int stripe) {                 \
    column_sums<T, N, false>(dy, nullptr, nullptr, partial, rows, width, stripe);                                     \
  }                                                                                                                   \
  EXPORTED(column_sums_##suffix)                                                                                      \
  extern "C" __global__ void __launch_bounds__(THREADS) gelu_column_sums_##suffix(                                    \
      const T* dy, const T* h, T* dh, float* partial, int rows, int width, int stripe) {                              \
    column_sums<T, N, true>(dy, h, dh, partial, rows, width, stripe);                                                 \
  }                                                                                                                   \
  EXPORTED(gelu_column_sums_##suffix)
LINEAR(float, f32_1, 1)
LINEAR(float, f32_4, 4)
LINEAR(bf16, bf16_1, 1)
LINEAR(bf16, bf16_4, 4)
