// The element-wise parts of an assignment to prototypes, log softmax(x̂·p̂ᵀ/τ), around its matrix products. All f32; a
// warp for each row.
#pragma once
#include "common.cuh"

// Rows divided by their length, or by 1e-12 if that is larger (the bound is on the square).
constexpr float SMALLEST_SQUARE = 1e-24f;

__device__ inline float row_dot(const float* a, const float* b, int width) {
  float sum = 0.f;
  for (int at = threadIdx.x % WARP; at < width; at += WARP) sum += a[at] * b[at];
  return warp_sum(sum);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    unit_rows_forward(const float* x, float* unit, float* inverse, int rows, int width) {
  const int row = blockIdx.x * WARPS + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (row >= rows) return;
  const float* own = x + (size_t)row * width;
  const float scale = 1.f / sqrtf(fmaxf(row_dot(own, own, width), SMALLEST_SQUARE));
  for (int at = lane; at < width; at += WARP) unit[(size_t)row * width + at] = own[at] * scale;
  if (lane == 0) inverse[row] = scale;
}
EXPORTED(unit_rows_forward)

// dx = (g − x̂·(x̂·g)) / |x|; where the length is bounded it is a constant, and dx = g / 1e-12.
extern "C" __global__ void __launch_bounds__(THREADS)
    unit_rows_backward(const float* unit, const float* inverse, const float* gradient, float* dx, int rows, int width) {
  const int row = blockIdx.x * WARPS + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (row >= rows) return;
  const size_t first = (size_t)row * width;
  const float scale = inverse[row];
  const bool bounded = scale == 1.f / sqrtf(SMALLEST_SQUARE);
  const float along = bounded ? 0.f : row_dot(unit + first, gradient + first, width);
  for (int at = lane; at < width; at += WARP)
    dx[first + at] = scale * (gradient[first + at] - unit[first + at] * along);
}
EXPORTED(unit_rows_backward)

// In place: logits ← log softmax(logits · scale).
extern "C" __global__ void __launch_bounds__(THREADS) log_softmax_forward(float* logits, int rows, int width, float scale) {
  const int row = blockIdx.x * WARPS + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (row >= rows) return;
  float* own = logits + (size_t)row * width;
  float largest = -INFINITY, sum = 0.f;
  for (int at = lane; at < width; at += WARP) largest = fmaxf(largest, own[at] * scale);
  largest = warp_max(largest);
  for (int at = lane; at < width; at += WARP) sum += expf(own[at] * scale - largest);
  const float shift = largest + logf(warp_sum(sum));
  for (int at = lane; at < width; at += WARP) own[at] = own[at] * scale - shift;
}
EXPORTED(log_softmax_forward)

// Gradient of the unscaled logits: scale · (g − p·Σg) with p = exp(out).
extern "C" __global__ void __launch_bounds__(THREADS)
    log_softmax_backward(const float* out, const float* gradient, float* dx, int rows, int width, float scale) {
  const int row = blockIdx.x * WARPS + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (row >= rows) return;
  const size_t first = (size_t)row * width;
  float sum = 0.f;
  for (int at = lane; at < width; at += WARP) sum += gradient[first + at];
  sum = warp_sum(sum);
  for (int at = lane; at < width; at += WARP)
    dx[first + at] = scale * (gradient[first + at] - expf(out[first + at]) * sum);
}
EXPORTED(log_softmax_backward)
