// Multi-head self-attention over packed rows [q | k | v] of [B, T, 3·D], heads contiguous inside each, head width H. Scores
// never reach global memory: the softmax is carried along over tiles of keys (arXiv 1805.02867), the forward pass keeps the
// logarithm of each row's sum, and the backward pass makes the probabilities again from it (arXiv 2205.14135).
//
// A block has 4 warps; each owns 16 rows, whose operands stay in registers, and all walk over tiles of 64 other rows in
// shared memory. Keys' and queries' gradients are two kernels, so that each sum has one owner and a fixed order.
// Logarithms are to base 2; T may be anything, rows and columns beyond it count as zero.
#pragma once
#include "mma.cuh"

constexpr int ATTENTION_THREADS = 128;
constexpr int OWN = 64;   // rows of a block
constexpr int TILE = 64;  // rows of a tile
constexpr float LOG2_E = 1.4426950408889634f;

// One head of one image: rows of q, k, v, and of matrices shaped like the output.
template <typename T> struct Head {
  const T *q, *k, *v;
  int packed, width, tokens;  // row strides of qkv and of the output, number of rows
  size_t output, row;         // offsets of this head in the output and in per-row vectors

  __device__ inline Head(const T* qkv, int tokens, int width, int head_width) : packed(3 * width), width(width), tokens(tokens) {
    const size_t image = blockIdx.z, head = blockIdx.y;
    q = qkv + image * tokens * packed + head * head_width;
    k = q + width;
    v = k + width;
    output = image * tokens * width + head * head_width;
    row = (image * gridDim.y + head) * tokens;
  }
};

// Rows of tiles in shared memory are 8 elements apart from H: no two lanes of a fragment meet in a bank.
template <int H> constexpr int ROW = H + 8;

template <typename T, int H> struct Rows {
  Pair<T> pairs[H / 16][4];

  // Rows first + 0..16 as the operand A.
  __device__ inline void load(const T* matrix, int stride, int first, int tokens) {
    const int g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int k = 0; k < H / 16; k++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int row = first + g + i % 2 * 8, column = k * 16 + 2 * t + i / 2 * 8;
        pairs[k][i] = row < tokens ? load_pair(matrix + (size_t)row * stride + column) : make_pair<T>(0.f, 0.f);
      }
  }
};

// Rows first + 0..64 into shared memory, by all threads.
template <typename T, int H>
__device__ inline void load_tile(T* tile, const T* matrix, int stride, int first, int tokens) {
  constexpr int N = 16 / sizeof(T);
  for (int at = threadIdx.x * N; at < TILE * H; at += ATTENTION_THREADS * N) {
    const int row = at / H, column = at % H;
    Pack<T, N> values;
    if (first + row < tokens) {
      values = load_pack<N>(matrix + (size_t)(first + row) * stride + column);
    } else {
#pragma unroll
      for (int i = 0; i < N; i++) values.values[i] = from_float<T>(0.f);
    }
    store_pack<N>(tile + row * ROW<H> + column, values);
  }
}

// 16 rows by the rows of a tile, in the layout of D: element i of part n is column n·8 + 2t + i % 2 of row g + i / 2 · 8.
struct Products {
  float parts[TILE / 8][4];
};

// rows · tileᵀ
template <typename T, int H> __device__ inline Products multiply_transposed(const Rows<T, H>& rows, const T* tile) {
  const int g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
  Products out;
#pragma unroll
  for (int n = 0; n < TILE / 8; n++) {
#pragma unroll
    for (int i = 0; i < 4; i++) out.parts[n][i] = 0.f;
#pragma unroll
    for (int k = 0; k < H / 16; k++) {
      const T* at = tile + (n * 8 + g) * ROW<H> + k * 16 + 2 * t;
      const Pair<T> b[2] = {load_pair(at), load_pair(at + 8)};
      multiply(out.parts[n], rows.pairs[k], b);
    }
  }
  return out;
}

// 16 rows of H columns, in the layout of D.
template <int H> struct Sums {
  float parts[H / 8][4];

  __device__ inline void clear() {
#pragma unroll
    for (int n = 0; n < H / 8; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) parts[n][i] = 0.f;
  }

  // += factors · tile. Two neighbouring parts of D are one operand A, lane by lane.
  template <typename T> __device__ inline void add(const Products& factors, const T* tile) {
    const int g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int k = 0; k < TILE / 16; k++) {
      Pair<T> a[4];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float* from = factors.parts[2 * k + i / 2] + i % 2 * 2;
        a[i] = make_pair<T>(from[0], from[1]);
      }
#pragma unroll
      for (int n = 0; n < H / 8; n++) {
        const T* at = tile + (k * 16 + 2 * t) * ROW<H> + n * 8 + g;
        const Pair<T> b[2] = {{at[0], at[ROW<H>]}, {at[8 * ROW<H>], at[9 * ROW<H>]}};
        multiply(parts[n], a, b);
      }
    }
  }

  // Rows first + 0..16, each times its factor.
  template <typename T>
  __device__ inline void store(T* matrix, int stride, int first, int tokens, const float (&factors)[2]) const {
    const int g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < H / 8; n++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int row = first + g + half * 8;
        if (row < tokens)
          *reinterpret_cast<Pair<T>*>(matrix + (size_t)row * stride + n * 8 + 2 * t) =
              make_pair<T>(parts[n][2 * half] * factors[half], parts[n][2 * half + 1] * factors[half]);
      }
  }
};

// Over the four lanes that hold one row.
__device__ inline float row_max(float value) {
  value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 1));
  return fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 2));
}
__device__ inline float row_sum(float value) {
  value += __shfl_xor_sync(0xffffffffu, value, 1);
  return value + __shfl_xor_sync(0xffffffffu, value, 2);
}

// Grid: (⌈T/64⌉, heads, B). `logsums` [B, heads, T], or null where no backward pass follows.
template <typename T, int H>
__device__ inline void attention_forward(const T* qkv, T* out, float* logsums, int tokens, int width) {
  alignas(16) __shared__ T keys[TILE * ROW<H>];
  alignas(16) __shared__ T values[TILE * ROW<H>];
  const Head<T> head(qkv, tokens, width, H);
  const int own = blockIdx.x * OWN + threadIdx.x / WARP * 16, g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
  const float scale = LOG2_E / sqrtf((float)H);
  Rows<T, H> queries;
  queries.load(head.q, head.packed, own, tokens);
  Sums<H> sums;
  sums.clear();
  float largest[2] = {-INFINITY, -INFINITY}, total[2] = {0.f, 0.f};
  for (int first = 0; first < tokens; first += TILE) {
    __syncthreads();
    load_tile<T, H>(keys, head.k, head.packed, first, tokens);
    load_tile<T, H>(values, head.v, head.packed, first, tokens);
    __syncthreads();
    Products scores = multiply_transposed<T, H>(queries, keys);
    float tile_largest[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int n = 0; n < TILE / 8; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const bool inside = first + n * 8 + 2 * t + i % 2 < tokens;
        scores.parts[n][i] = inside ? scores.parts[n][i] * scale : -INFINITY;
        tile_largest[i / 2] = fmaxf(tile_largest[i / 2], scores.parts[n][i]);
      }
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const float larger = fmaxf(largest[half], row_max(tile_largest[half]));
      const float correction = exp2f(largest[half] - larger);
      largest[half] = larger;
      total[half] *= correction;
#pragma unroll
      for (int n = 0; n < H / 8; n++) {
        sums.parts[n][2 * half] *= correction;
        sums.parts[n][2 * half + 1] *= correction;
      }
    }
#pragma unroll
    for (int n = 0; n < TILE / 8; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        scores.parts[n][i] = exp2f(scores.parts[n][i] - largest[i / 2]);
        total[i / 2] += scores.parts[n][i];
      }
    sums.add(scores, values);
  }
  float factors[2];
#pragma unroll
  for (int half = 0; half < 2; half++) {
    total[half] = row_sum(total[half]);
    factors[half] = 1.f / total[half];
    const int row = own + g + half * 8;
    if (logsums != nullptr && t == 0 && row < tokens) logsums[head.row + row] = largest[half] + log2f(total[half]);
  }
  sums.store(out + head.output, width, own, tokens, factors);
}

// Σ dy ⊙ y for each row of each head, [B, heads, T]: a warp each. Grid: (⌈T/4⌉, heads, B).
template <typename T, int H>
__device__ inline void attention_delta(const T* out, const T* gradient, float* deltas, int tokens, int width) {
  const int row = blockIdx.x * (ATTENTION_THREADS / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (row >= tokens) return;
  const size_t image = blockIdx.z, head = blockIdx.y;
  const size_t at = (image * tokens + row) * width + head * H;
  float sum = 0.f;
  for (int column = lane; column < H; column += WARP) sum += to_float(out[at + column]) * to_float(gradient[at + column]);
  sum = warp_sum(sum);
  if (lane == 0) deltas[(image * gridDim.y + head) * tokens + row] = sum;
}

// Gradients of k and v; a block owns 64 keys and walks over the queries. Grid: (⌈T/64⌉, heads, B).
template <typename T, int H>
__device__ inline void attention_backward_keys(const T* qkv, const T* gradient, const float* logsums, const float* deltas,
                                               T* qkv_gradient, int tokens, int width) {
  alignas(16) __shared__ T queries[TILE * ROW<H>];
  alignas(16) __shared__ T gradients[TILE * ROW<H>];
  __shared__ float tile_logsums[TILE], tile_deltas[TILE];
  const Head<T> head(qkv, tokens, width, H);
  const int own = blockIdx.x * OWN + threadIdx.x / WARP * 16, t = threadIdx.x % 4;
  const float scale = 1.f / sqrtf((float)H);
  Rows<T, H> keys, values;
  keys.load(head.k, head.packed, own, tokens);
  values.load(head.v, head.packed, own, tokens);
  Sums<H> of_keys, of_values;
  of_keys.clear();
  of_values.clear();
  for (int first = 0; first < tokens; first += TILE) {
    __syncthreads();
    load_tile<T, H>(queries, head.q, head.packed, first, tokens);
    load_tile<T, H>(gradients, gradient + head.output, width, first, tokens);
    for (int at = threadIdx.x; at < TILE; at += ATTENTION_THREADS) {
      const bool inside = first + at < tokens;
      tile_logsums[at] = inside ? logsums[head.row + first + at] : 0.f;
      tile_deltas[at] = inside ? deltas[head.row + first + at] : 0.f;
    }
    __syncthreads();
    Products probabilities = multiply_transposed<T, H>(keys, queries);
    Products of_scores = multiply_transposed<T, H>(values, gradients);
#pragma unroll
    for (int n = 0; n < TILE / 8; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int column = n * 8 + 2 * t + i % 2;
        const float exponent = probabilities.parts[n][i] * scale * LOG2_E - tile_logsums[column];
        const float probability = first + column < tokens ? exp2f(exponent) : 0.f;
        probabilities.parts[n][i] = probability;
        of_scores.parts[n][i] = probability * (of_scores.parts[n][i] - tile_deltas[column]);
      }
    of_values.add(probabilities, gradients);
    of_keys.add(of_scores, queries);
  }
  T* of_head = qkv_gradient + (head.q - qkv);
  of_keys.store(of_head + width, head.packed, own, tokens, {scale, scale});
  of_values.store(of_head + 2 * width, head.packed, own, tokens, {1.f, 1.f});
}

// Gradient of q; a block owns 64 queries and walks over the keys. Grid: (⌈T/64⌉, heads, B).
template <typename T, int H>
__device__ inline void attention_backward_queries(const T* qkv, const T* gradient, const float* logsums,
                                                  const float* deltas, T* qkv_gradient, int tokens, int width) {
  alignas(16) __shared__ T keys[TILE * ROW<H>];
  alignas(16) __shared__ T values[TILE * ROW<H>];
  const Head<T> head(qkv, tokens, width, H);
  const int own = blockIdx.x * OWN + threadIdx.x / WARP * 16, g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
  const float scale = 1.f / sqrtf((float)H);
  Rows<T, H> queries, gradients;
  queries.load(head.q, head.packed, own, tokens);
  gradients.load(gradient + head.output, width, own, tokens);
  float own_logsums[2], own_deltas[2];
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int row = own + g + half * 8;
    own_logsums[half] = row < tokens ? logsums[head.row + row] : 0.f;
    own_deltas[half] = row < tokens ? deltas[head.row + row] : 0.f;
  }
  Sums<H> of_queries;
  of_queries.clear();
  for (int first = 0; first < tokens; first += TILE) {
    __syncthreads();
    load_tile<T, H>(keys, head.k, head.packed, first, tokens);
    load_tile<T, H>(values, head.v, head.packed, first, tokens);
    __syncthreads();
    const Products scores = multiply_transposed<T, H>(queries, keys);
    Products of_scores = multiply_transposed<T, H>(gradients, values);
#pragma unroll
    for (int n = 0; n < TILE / 8; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float exponent = scores.parts[n][i] * scale * LOG2_E - own_logsums[i / 2];
        const float probability = first + n * 8 + 2 * t + i % 2 < tokens ? exp2f(exponent) : 0.f;
        of_scores.parts[n][i] = probability * (of_scores.parts[n][i] - own_deltas[i / 2]);
      }
    of_queries.add(of_scores, keys);
  }
  of_queries.store(qkv_gradient + (head.q - qkv), head.packed, own, tokens, {scale, scale});
}

#define ATTENTION_FORWARD(T, type, H)                                                                                  \
  extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS) attention_forward_##type##_##H(                      \
      const T* qkv, T* out, float* logsums, int tokens, int width) {                                                   \
    attention_forward<T, H>(qkv, out, logsums, tokens, width);                                                         \
  }                                                                                                                    \
  EXPORTED(attention_forward_##type##_##H)
#define ATTENTION(T, type, H)                                                                                          \
  ATTENTION_FORWARD(T, type, H)                                                                                        \
  extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS) attention_delta_##type##_##H(                        \
      const T* out, const T* gradient, float* deltas, int tokens, int width) {                                         \
    attention_delta<T, H>(out, gradient, deltas, tokens, width);                                                       \
  }                                                                                                                    \
  EXPORTED(attention_delta_##type##_##H)                                                                               \
  extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS) attention_backward_keys_##type##_##H(                \
      const T* qkv, const T* gradient, const float* logsums, const float* deltas, T* qkv_gradient, int tokens,         \
      int width) {                                                                                                     \
    attention_backward_keys<T, H>(qkv, gradient, logsums, deltas, qkv_gradient, tokens, width);                        \
  }                                                                                                                    \
  EXPORTED(attention_backward_keys_##type##_##H)                                                                       \
  extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS) attention_backward_queries_##type##_##H(             \
      const T* qkv, const T* gradient, const float* logsums, const float* deltas, T* qkv_gradient, int tokens,         \
      int width) {                                                                                                     \
    attention_backward_queries<T, H>(qkv, gradient, logsums, deltas, qkv_gradient, tokens, width);                     \
  }                                                                                                                    \
  EXPORTED(attention_backward_queries_##type##_##H)
ATTENTION(float, f32, 32)
ATTENTION(float, f32, 64)
ATTENTION(bf16, bf16, 32)
ATTENTION(bf16, bf16, 64)
ATTENTION_FORWARD(f16, f16, 32)
ATTENTION_FORWARD(f16, f16, 64)
