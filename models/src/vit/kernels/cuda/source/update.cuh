// Gradient norms, clipping, AdamW and the target's moving average over all parameters at once: three launches a step, and
// nothing the host waits for.
#pragma once
#include "common.cuh"

// One trained tensor; `average` is null where there is no moving average of it.
struct Parameter {
  float* value;
  float* first_moment;
  float* second_moment;
  float* average;
  const float* gradient;
  int64_t length;
  int32_t first_chunk;  // of CHUNK elements, counted over all tensors
  int32_t flags;
};
constexpr int CHUNK = 4096;
constexpr int DECAYED = 1, CLIPPED = 2;

// What the step found out, for the update and for the host to read when it likes.
struct Control {
  float norm;     // of the clipped parameters' gradient
  float clip;     // what it is multiplied by
  float healthy;  // 0 from the first step on whose loss or gradient was not finite
};

__device__ inline int parameter_of_chunk(const Parameter* table, int count, int chunk) {
  int low = 0, high = count;  // first_chunk[low] <= chunk < first_chunk[high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (table[middle].first_chunk <= chunk)
      low = middle;
    else
      high = middle;
  }
  return low;
}

// The sum of squares of each chunk's gradients; a block for each chunk.
extern "C" __global__ void __launch_bounds__(THREADS)
    gradient_squares(const Parameter* table, int count, float* squares) {
  __shared__ float sums[WARPS];
  const Parameter own = table[parameter_of_chunk(table, count, blockIdx.x)];
  const int64_t begin = (int64_t)(blockIdx.x - own.first_chunk) * CHUNK;
  const int64_t end = begin + CHUNK < own.length ? begin + CHUNK : own.length;
  float sum = 0.f;
  for (int64_t at = begin + threadIdx.x; at < end; at += THREADS) sum += own.gradient[at] * own.gradient[at];
  sum = warp_sum(sum);
  if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    float total = 0.f;
    for (int warp = 0; warp < WARPS; warp++) total += sums[warp];
    squares[blockIdx.x] = total;
  }
}
EXPORTED(gradient_squares)

// One block: the norm of each tensor's gradient, and `control`.
extern "C" __global__ void __launch_bounds__(THREADS)
    gradient_control(const Parameter* table, int count, const float* squares, int chunks, const float* loss, float limit,
                     float* norms, Control* control) {
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  for (int index = warp; index < count; index += WARPS) {
    const int end = index + 1 < count ? table[index + 1].first_chunk : chunks;
    float sum = 0.f;
    for (int chunk = table[index].first_chunk + lane; chunk < end; chunk += WARP) sum += squares[chunk];
    sum = warp_sum(sum);
    if (lane == 0) norms[index] = sqrtf(sum);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    double sum = 0.;
    bool finite = isfinite(*loss);
    for (int index = 0; index < count; index++) {
      finite = finite && isfinite(norms[index]);
      if (table[index].flags & CLIPPED) sum += (double)norms[index] * norms[index];
    }
    const float norm = (float)sqrt(sum);
    control->norm = norm;
    control->clip = limit > 0.f ? fminf(1.f, limit / (norm + 1e-6f)) : 1.f;
    if (!finite) control->healthy = 0.f;
  }
}
EXPORTED(gradient_control)

// AdamW (decoupled decay), then average ← momentum·average + (1 − momentum)·value. Changes nothing once the run is not
// healthy. `rate` is the learning rate over the first moment's bias correction, `root` the square root of the second's;
// `rest…` are complements to 1, which f32 could not make from their counterparts without loss.
extern "C" __global__ void __launch_bounds__(THREADS)
    adamw(const Parameter* table, int count, const Control* control, float beta1, float rest1, float beta2, float rest2,
          float eps, float keep, float rate, float root, float momentum, float rest_momentum) {
  if (control->healthy == 0.f) return;
  const Parameter own = table[parameter_of_chunk(table, count, blockIdx.x)];
  const float clip = own.flags & CLIPPED ? control->clip : 1.f;
  const float kept = own.flags & DECAYED ? keep : 1.f;
  const int64_t begin = (int64_t)(blockIdx.x - own.first_chunk) * CHUNK;
  const int64_t end = begin + CHUNK < own.length ? begin + CHUNK : own.length;
  for (int64_t at = begin + threadIdx.x; at < end; at += THREADS) {
    const float gradient = own.gradient[at] * clip;
    const float first = beta1 * own.first_moment[at] + rest1 * gradient;
    const float second = beta2 * own.second_moment[at] + rest2 * gradient * gradient;
    const float value = kept * own.value[at] - rate * first / (sqrtf(second) / root + eps);
    own.first_moment[at] = first;
    own.second_moment[at] = second;
    own.value[at] = value;
    if (own.average) own.average[at] = momentum * own.average[at] + rest_momentum * value;
  }
}
EXPORTED(adamw)
