// Augmented views of 8-bit images: crop, flip, colour, blur, normalise, with the rounding of Pillow. Four launches make any
// number of views.
#pragma once
#include "common.cuh"

// The kinds of an operation on colours.
constexpr int NONE = 0, BRIGHTNESS = 1, CONTRAST = 2, SATURATION = 3, HUE = 4, GREY = 5;
constexpr int OPERATIONS = 5;

// A view of side × side pixels. Images lie one after the other, interleaved RGB.
struct View {
  int64_t image;  // where its image begins, in bytes
  int32_t row;    // the image's width in pixels
  int32_t left, top, width, height;
  int32_t flip;
  int32_t kinds[OPERATIONS];  // in order, then NONE
  float amounts[OPERATIONS];
  float sigma;  // 0 does not blur
  int32_t unused;
};

__device__ inline uint8_t nearest(float value) { return (uint8_t)(value + 0.5f); }

// The weights with which `extent` pixels of a window make one of `side`: a triangle as wide as the pixel, and at least two
// of the window's.
struct Taps {
  float centre, reach, sum;
  int first, last;
  __device__ Taps(int at, int extent, int side) {
    const float scale = (float)extent / side;
    centre = (at + 0.5f) * scale;
    reach = fmaxf(scale, 1.f);
    first = max((int)(centre - reach + 0.5f), 0);
    last = min((int)(centre + reach + 0.5f), extent);
    sum = 0.f;
    for (int tap = first; tap < last; tap++) sum += weight(tap);
  }
  __device__ float weight(int tap) const { return fmaxf(1.f - fabsf(tap + 0.5f - centre) / reach, 0.f); }
};

// Writes interleaved bytes [views, side, side, 3]; a thread for each pixel.
extern "C" __global__ void __launch_bounds__(THREADS)
    view_crop(const View* views, const uint8_t* images, int side, uint8_t* out) {
  const View own = views[blockIdx.y];
  const int at = blockIdx.x * THREADS + threadIdx.x;
  if (at >= side * side) return;
  const int x = at % side, y = at / side;
  const Taps across(x, own.width, side), down(y, own.height, side);
  float sums[3] = {0.f, 0.f, 0.f};
  for (int row = down.first; row < down.last; row++) {
    const uint8_t* from = images + own.image + ((int64_t)(own.top + row) * own.row + own.left) * 3;
    float along[3] = {0.f, 0.f, 0.f};
    for (int column = across.first; column < across.last; column++)
      for (int channel = 0; channel < 3; channel++)
        along[channel] += across.weight(column) * from[3 * column + channel];
    for (int channel = 0; channel < 3; channel++)
      sums[channel] += down.weight(row) * nearest(along[channel] / across.sum);
  }
  uint8_t* to = out + ((int64_t)blockIdx.y * side * side + y * side + (own.flip ? side - 1 - x : x)) * 3;
  for (int channel = 0; channel < 3; channel++) to[channel] = nearest(sums[channel] / down.sum);
}
EXPORTED(view_crop)

// ITU-R 601.
__device__ inline int luma(const uint8_t* pixel) {
  return (pixel[0] * 19595 + pixel[1] * 38470 + pixel[2] * 7471 + 0x8000) >> 16;
}
__device__ inline uint8_t blend(int degenerate, int value, float factor) {
  const float mixed = degenerate + factor * (float)(value - degenerate);
  return (uint8_t)fminf(fmaxf(mixed, 0.f), 255.f);
}

// Turns the hue through 8-bit HSV.
__device__ inline void turn_hue(uint8_t* pixel, uint8_t shift) {
  const int red = pixel[0], green = pixel[1], blue = pixel[2];
  const int largest = max(red, max(green, blue)), smallest = min(red, min(green, blue));
  if (largest == smallest) return;
  const float range = largest - smallest;
  const float from_red = (largest - red) / range, from_green = (largest - green) / range;
  const float from_blue = (largest - blue) / range;
  const float sixths = red == largest     ? from_blue - from_green
                       : green == largest ? 2.f + from_red - from_blue
                                          : 4.f + from_green - from_red;
  double turned = (double)sixths / 6.;
  if (turned < 0.) turned += 1.;
  const uint8_t hue = (uint8_t)((uint8_t)((float)turned * 255.f) + shift);
  const uint8_t saturation = (uint8_t)(range / largest * 255.f);
  if (saturation == 0) {
    pixel[0] = pixel[1] = pixel[2] = largest;
    return;
  }
  const float position = hue * 6.f / 255.f;
  const int sector = (int)position;
  const float fraction = position - sector, strength = saturation / 255.f;
  const uint8_t top = largest, low = nearest(largest * (1.f - strength));
  const uint8_t falling = nearest(largest * (1.f - strength * fraction));
  const uint8_t rising = nearest(largest * (1.f - strength * (1.f - fraction)));
  const uint8_t channels[6][3] = {{top, rising, low}, {falling, top, low}, {low, top, rising},
                                  {low, falling, top}, {rising, low, top}, {top, low, falling}};
  for (int channel = 0; channel < 3; channel++) pixel[channel] = channels[sector % 6][channel];
}

// Changes the colours of `area` pixels a view in place; a block for each view, in which a thread keeps to its own pixels.
extern "C" __global__ void __launch_bounds__(THREADS) view_colours(const View* views, int area, uint8_t* pixels) {
  __shared__ unsigned sums[WARPS];
  const View own = views[blockIdx.x];
  uint8_t* const begin = pixels + (int64_t)blockIdx.x * area * 3;
  uint8_t* const end = begin + (int64_t)area * 3;
  for (int operation = 0; operation < OPERATIONS && own.kinds[operation] != NONE; operation++) {
    const int kind = own.kinds[operation];
    const float amount = own.amounts[operation];
    int mean = 0;
    if (kind == CONTRAST) {
      unsigned sum = 0;
      for (const uint8_t* pixel = begin + threadIdx.x * 3; pixel < end; pixel += THREADS * 3) sum += luma(pixel);
      for (int offset = 16; offset > 0; offset >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
      if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = sum;
      __syncthreads();
      unsigned total = 0;
      for (int warp = 0; warp < WARPS; warp++) total += sums[warp];
      mean = (int)((double)total / area + 0.5);
      __syncthreads();
    }
    const uint8_t shift = kind == HUE ? (uint8_t)(int)(amount * 255.f) : 0;
    for (uint8_t* pixel = begin + threadIdx.x * 3; pixel < end; pixel += THREADS * 3) {
      const int grey = luma(pixel);
      if (kind == HUE) {
        turn_hue(pixel, shift);
        continue;
      }
      for (int channel = 0; channel < 3; channel++) {
        const int value = pixel[channel];
        pixel[channel] = kind == BRIGHTNESS   ? blend(0, value, amount)
                         : kind == CONTRAST   ? blend(mean, value, amount)
                         : kind == SATURATION ? blend(grey, value, amount)
                                              : grey;
      }
    }
  }
}
EXPORTED(view_colours)

// One pass of a separable Gaussian: the weighted mean around `at` in a line of `side` pixels that lie `step` numbers
// apart; the line's ends are repeated.
template <typename T> __device__ inline void blur(const T* line, int at, int side, int step, float sigma, float* out) {
  const int radius = sigma > 0.f ? max((int)ceilf(3.f * sigma), 1) : 0;
  float sum = 0.f;
  for (int channel = 0; channel < 3; channel++) out[channel] = 0.f;
  for (int tap = -radius; tap <= radius; tap++) {
    const float weight = radius ? expf(-(float)(tap * tap) / (2.f * sigma * sigma)) : 1.f;
    const T* from = line + (int64_t)min(max(at + tap, 0), side - 1) * step;
    for (int channel = 0; channel < 3; channel++) out[channel] += weight * from[channel];
    sum += weight;
  }
  for (int channel = 0; channel < 3; channel++) out[channel] /= sum;
}

// Blurs along rows: bytes to floats, interleaved; a thread for each pixel.
extern "C" __global__ void __launch_bounds__(THREADS)
    view_blur_rows(const View* views, const uint8_t* pixels, int side, float* out) {
  const int at = blockIdx.x * THREADS + threadIdx.x;
  if (at >= side * side) return;
  const int64_t view = (int64_t)blockIdx.y * side * side;
  const uint8_t* line = pixels + (view + at / side * side) * 3;
  blur(line, at % side, side, 3, views[blockIdx.y].sigma, out + (view + at) * 3);
}
EXPORTED(view_blur_rows)

// Blurs along columns, rounds to 8 bits, and normalises: value·scale − shift. Planar [views, 3, side, side].
extern "C" __global__ void __launch_bounds__(THREADS)
    view_blur_columns(const View* views, const float* rows, int side, float scale0, float scale1, float scale2,
                      float shift0, float shift1, float shift2, float* out) {
  const int at = blockIdx.x * THREADS + threadIdx.x, area = side * side;
  if (at >= area) return;
  const float scales[3] = {scale0, scale1, scale2}, shifts[3] = {shift0, shift1, shift2};
  const int64_t view = (int64_t)blockIdx.y * area * 3;
  float blurred[3];
  blur(rows + view + at % side * 3, at / side, side, side * 3, views[blockIdx.y].sigma, blurred);
  for (int channel = 0; channel < 3; channel++)
    out[view + channel * area + at] = nearest(blurred[channel]) * scales[channel] - shifts[channel];
}
EXPORTED(view_blur_columns)
