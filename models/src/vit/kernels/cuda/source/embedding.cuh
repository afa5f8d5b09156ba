// What embedding images needs beside LayerNorm and attention: no backward pass follows (models/src/vit/cuda).
#pragma once
#include "attention.cuh"
#include "linear.cuh"

// Operands of the patch embedding: a warp for each token. `table` [images, tokens] has, for each image, the number of its
// crop and then those of its patches; crops are square, `line` pixels wide, their bytes interleaved. A patch's row of
// `patches` [images·tokens, inputs] is its bytes less the middle of their channel: small whole numbers, which every type
// holds exactly. CLS has a row of zeros. Rows of `x` [images·tokens, width] begin as CLS or as the patch's offset, onto
// which the product is added.
template <typename T>
__device__ inline void embed_patches(const unsigned char* crops, const unsigned int* table, const T* cls, const T* offsets,
                                     T* patches, T* x, int rows, int tokens, int width, int inputs, int side, int grid,
                                     int line, int middle0, int middle1, int middle2) {
  constexpr int N = 4;
  const int row = blockIdx.x * WARPS + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (row >= rows) return;
  const int token = row % tokens;
  const unsigned int* of_image = table + (size_t)(row / tokens) * tokens;
  T* patch_row = patches + (size_t)row * inputs;
  T* x_row = x + (size_t)row * width;
  const T* begin = cls;
  const unsigned char* corner = nullptr;
  if (token > 0) {
    const unsigned int patch = of_image[token];
    begin = offsets + (size_t)patch * width;
    corner = crops + ((size_t)of_image[0] * line * line + (size_t)(patch / grid * side) * line + patch % grid * side) * 3;
  }
  for (int at = lane * N; at < width; at += WARP * N) store_pack<N>(x_row + at, load_pack<N>(begin + at));
  const int bytes_of_line = 3 * side, bytes = bytes_of_line * side;
  for (int at = lane * N; at < inputs; at += WARP * N) {
    Pack<T, N> out;
#pragma unroll
    for (int i = 0; i < N; i++) {
      const int number = at + i, channel = number % 3;
      const int middle = channel == 0 ? middle0 : channel == 1 ? middle1 : middle2;
      float value = 0.f;
      if (corner != nullptr && number < bytes)
        value = (float)((int)corner[(size_t)(number / bytes_of_line) * line * 3 + number % bytes_of_line] - middle);
      out.values[i] = from_float<T>(value);
    }
    store_pack<N>(patch_row + at, out);
  }
}

// h ← gelu(h + bias), in place over `elements` = rows·width; the width is a multiple of 8.
template <typename T> __device__ inline void bias_gelu(T* h, const float* bias, int elements, int width) {
  constexpr int N = 16 / sizeof(T);
  const int step = gridDim.x * THREADS * N;
  for (int64_t at = (int64_t)(blockIdx.x * THREADS + threadIdx.x) * N; at < elements; at += step) {
    const int column = (int)at % width;
    Pack<T, N> values = load_pack<N>(h + at);
#pragma unroll
    for (int i = 0; i < N; i++) values.values[i] = from_float<T>(gelu(to_float(values.values[i]) + bias[column + i]));
    store_pack<N>(h + at, values);
  }
}

// Attention of one query a head, CLS's: `queries` [B, D], `answers` [B, T, 2·D] of [k | v], `out` [B, D]. Each warp carries
// the softmax along over a quarter of the keys. Grid: (heads, B).
template <typename T, int H>
__device__ inline void attention_first(const T* queries, const T* answers, T* out, int tokens, int width) {
  constexpr int N = H / WARP, PARTS = ATTENTION_THREADS / WARP;
  __shared__ float part_largest[PARTS], part_totals[PARTS], part_sums[PARTS][H];
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  const size_t image = blockIdx.y, row = image * width + blockIdx.x * H;
  const float scale = LOG2_E / sqrtf((float)H);
  const Pack<T, N> query = load_pack<N>(queries + row + lane * N);
  float largest = -INFINITY, total = 0.f, sums[N];
#pragma unroll
  for (int i = 0; i < N; i++) sums[i] = 0.f;
  for (int token = warp; token < tokens; token += PARTS) {
    const T* at = answers + (image * tokens + token) * 2 * width + blockIdx.x * H + lane * N;
    const Pack<T, N> key = load_pack<N>(at), value = load_pack<N>(at + width);
    float score = 0.f;
#pragma unroll
    for (int i = 0; i < N; i++) score += to_float(query.values[i]) * to_float(key.values[i]);
    score = warp_sum(score) * scale;
    const float larger = fmaxf(largest, score), correction = exp2f(largest - larger), share = exp2f(score - larger);
    total = total * correction + share;
#pragma unroll
    for (int i = 0; i < N; i++) sums[i] = sums[i] * correction + share * to_float(value.values[i]);
    largest = larger;
  }
#pragma unroll
  for (int i = 0; i < N; i++) part_sums[warp][lane * N + i] = sums[i];
  if (lane == 0) part_largest[warp] = largest, part_totals[warp] = total;
  __syncthreads();
  // Where there are fewer keys than warps some have seen none: their largest is −∞ and their factor 0.
  float of_all = part_largest[0], whole = 0.f, factors[PARTS];
#pragma unroll
  for (int part = 1; part < PARTS; part++) of_all = fmaxf(of_all, part_largest[part]);
#pragma unroll
  for (int part = 0; part < PARTS; part++) {
    factors[part] = exp2f(part_largest[part] - of_all);
    whole += factors[part] * part_totals[part];
  }
  for (int column = threadIdx.x; column < H; column += ATTENTION_THREADS) {
    float sum = 0.f;
#pragma unroll
    for (int part = 0; part < PARTS; part++) sum += factors[part] * part_sums[part][column];
    out[row + column] = from_float<T>(sum / whole);
  }
}

// f32 means of the rows of each image but the `skipped` first. Grid: (⌈width/256⌉, B).
template <typename T> __device__ inline void mean_of_rows(const T* x, float* out, int rows, int skipped, int width) {
  const int column = blockIdx.x * THREADS + threadIdx.x;
  if (column >= width) return;
  const size_t image = blockIdx.y;
  float sum = 0.f;
  for (int row = skipped; row < rows; row++) sum += to_float(x[(image * rows + row) * width + column]);
  out[image * width + column] = sum / (rows - skipped);
}

#define ATTENTION_FIRST(T, type, H)                                                                                       \
  extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS) attention_first_##type##_##H(                           \
      const T* queries, const T* answers, T* out, int tokens, int width) {                                                \
    attention_first<T, H>(queries, answers, out, tokens, width);                                                          \
  }                                                                                                                       \
  EXPORTED(attention_first_##type##_##H)
#define EMBEDDING(T, type)                                                                                                \
  extern "C" __global__ void __launch_bounds__(THREADS) embed_patches_##type(                                             \
      const unsigned char* crops, const unsigned int* table, const T* cls, const T* offsets, T* patches, T* x, int rows,  \
      int tokens, int width, int inputs, int side, int grid, int line, int middle0, int middle1, int middle2) {           \
    embed_patches<T>(crops, table, cls, offsets, patches, x, rows, tokens, width, inputs, side, grid, line, middle0,      \
                     middle1, middle2);                                                                                   \
  }                                                                                                                       \
  EXPORTED(embed_patches_##type)                                                                                          \
  extern "C" __global__ void __launch_bounds__(THREADS) bias_gelu_##type(T* h, const float* bias, int elements,           \
                                                                         int width) {                                     \
    bias_gelu<T>(h, bias, elements, width);                                                                               \
  }                                                                                                                       \
  EXPORTED(bias_gelu_##type)                                                                                              \
  extern "C" __global__ void __launch_bounds__(THREADS) mean_of_rows_##type(const T* x, float* out, int rows,             \
                                                                            int skipped, int width) {                     \
    mean_of_rows<T>(x, out, rows, skipped, width);                                                                        \
  }                                                                                                                       \
  EXPORTED(mean_of_rows_##type)                                                                                           \
  ATTENTION_FIRST(T, type, 32)                                                                                            \
  ATTENTION_FIRST(T, type, 64)
EMBEDDING(float, f32)
EMBEDDING(bf16, bf16)
EMBEDDING(f16, f16)
