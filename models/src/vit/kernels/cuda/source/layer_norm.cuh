// LayerNorm over rows of `width` elements. The backward pass makes mean and deviation again: cheaper than keeping them.
#pragma once
#include "common.cuh"

// Mean and 1/√(variance + eps) of one row, in every lane of its warp. Two passes: no cancellation.
template <typename T, int N>
__device__ inline void row_statistics(const T* row, int width, float eps, float& mean, float& scale) {
  const int lane = threadIdx.x % WARP;
  float sum = 0.f;
  for (int at = lane * N; at < width; at += WARP * N) {
    const Pack<T, N> x = load_pack<N>(row + at);
#pragma unroll
    for (int i = 0; i < N; i++) sum += to_float(x.values[i]);
  }
  mean = warp_sum(sum) / width;
  float square = 0.f;
  for (int at = lane * N; at < width; at += WARP * N) {
    const Pack<T, N> x = load_pack<N>(row + at);
#pragma unroll
    for (int i = 0; i < N; i++) {
      const float centred = to_float(x.values[i]) - mean;
      square += centred * centred;
    }
  }
  scale = 1.f / sqrtf(warp_sum(square) / width + eps);
}

// A warp for each row.
template <typename T, int N>
__device__ inline void layer_norm_forward(const T* x, const float* weight, const float* bias, T* y, int rows, int width,
                                          float eps) {
  const int row = blockIdx.x * WARPS + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (row >= rows) return;
  const T* x_row = x + (size_t)row * width;
  T* y_row = y + (size_t)row * width;
  float mean, scale;
  row_statistics<T, N>(x_row, width, eps, mean, scale);
  for (int at = lane * N; at < width; at += WARP * N) {
    const Pack<T, N> values = load_pack<N>(x_row + at);
    Pack<T, N> out;
#pragma unroll
    for (int i = 0; i < N; i++)
      out.values[i] = from_float<T>((to_float(values.values[i]) - mean) * scale * weight[at + i] + bias[at + i]);
    store_pack<N>(y_row + at, out);
  }
}

// With x̂ the normalised row and g = dy ⊙ weight: dx = (g − mean(g) − x̂·mean(g ⊙ x̂)) / σ.
template <typename T, int N>
__device__ inline void layer_norm_row_gradient(const T* x, const float* weight, const T* dy, T* dx, int width, float mean,
                                               float scale) {
  const int lane = threadIdx.x % WARP;
  float sum = 0.f, moment = 0.f;
  for (int at = lane * N; at < width; at += WARP * N) {
    const Pack<T, N> xs = load_pack<N>(x + at), dys = load_pack<N>(dy + at);
#pragma unroll
    for (int i = 0; i < N; i++) {
      const float g = to_float(dys.values[i]) * weight[at + i];
      sum += g;
      moment += g * (to_float(xs.values[i]) - mean) * scale;
    }
  }
  sum = warp_sum(sum) / width;
  moment = warp_sum(moment) / width;
  for (int at = lane * N; at < width; at += WARP * N) {
    const Pack<T, N> xs = load_pack<N>(x + at), dys = load_pack<N>(dy + at);
    Pack<T, N> out;
#pragma unroll
    for (int i = 0; i < N; i++) {
      const float normalised = (to_float(xs.values[i]) - mean) * scale;
      out.values[i] = from_float<T>(scale * (to_float(dys.values[i]) * weight[at + i] - sum - normalised * moment));
    }
    store_pack<N>(dx + at, out);
  }
}

// Block b takes rows [b·stripe, (b+1)·stripe): writes their dx, and their part of the gradients of weight and bias to
// partial[b][2·width]. Each thread owns columns, so the sums need no atomics.
template <typename T, int N>
__device__ inline void layer_norm_backward(const T* x, const float* weight, const T* dy, T* dx, float* partial, int rows,
                                           int width, int stripe, float eps) {
  constexpr int ROWS = 32;
  __shared__ float means[ROWS], scales[ROWS];
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  const int begin = blockIdx.x * stripe, end = min(rows, begin + stripe);
  float* sums = partial + (size_t)blockIdx.x * 2 * width;
  for (int first = begin; first < end; first += ROWS) {
    const int count = min(ROWS, end - first);
    for (int row = warp; row < count; row += WARPS) {
      const size_t offset = (size_t)(first + row) * width;
      float mean, scale;
      row_statistics<T, N>(x + offset, width, eps, mean, scale);
      layer_norm_row_gradient<T, N>(x + offset, weight, dy + offset, dx + offset, width, mean, scale);
      if (lane == 0) {
        means[row] = mean;
        scales[row] = scale;
      }
    }
    __syncthreads();
    for (int column = threadIdx.x; column < width; column += THREADS) {
      float of_weight = first == begin ? 0.f : sums[column], of_bias = first == begin ? 0.f : sums[width + column];
      for (int row = 0; row < count; row++) {
        const size_t at = (size_t)(first + row) * width + column;
        const float gradient = to_float(dy[at]);
        of_weight += gradient * (to_float(x[at]) - means[row]) * scales[row];
        of_bias += gradient;
      }
      sums[column] = of_weight;
      sums[width + column] = of_bias;
    }
    __syncthreads();
  }
}

#define LAYER_NORM_FORWARD(T, suffix, N)                                                                                  \
  extern "C" __global__ void __launch_bounds__(THREADS) layer_norm_forward_##suffix(                                      \
      const T* x, const float* weight, const float* bias, T* y, int rows, int width, float eps) {                         \
    layer_norm_forward<T, N>(x, weight, bias, y, rows, width, eps);                                                       \
  }                                                                                                                       \
  EXPORTED(layer_norm_forward_##suffix)
#define LAYER_NORM(T, suffix, N)                                                                                          \
  LAYER_NORM_FORWARD(T, suffix, N)                                                                                        \
  extern "C" __global__ void __launch_bounds__(THREADS) layer_norm_backward_##suffix(                                     \
      const T* x, const float* weight, const T* dy, T* dx, float* partial, int rows, int width, int stripe, float eps) {  \
    layer_norm_backward<T, N>(x, weight, dy, dx, partial, rows, width, stripe, eps);                                      \
  }                                                                                                                       \
  EXPORTED(layer_norm_backward_##suffix)
LAYER_NORM(float, f32_1, 1)
LAYER_NORM(float, f32_4, 4)
LAYER_NORM(bf16, bf16_1, 1)
LAYER_NORM(bf16, bf16_4, 4)
LAYER_NORM_FORWARD(f16, f16_4, 4)
