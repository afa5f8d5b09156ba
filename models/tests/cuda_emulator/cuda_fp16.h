// As much of CUDA's half precision as the kernels use. Found in place of CUDA's header.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

struct __half {
  uint16_t bits;
};
inline float __half2float(__half value) {
  const int exponent = value.bits >> 10 & 31, fraction = value.bits & 1023;
  const float sign = value.bits >> 15 ? -1.f : 1.f;
  if (exponent == 31) return fraction ? NAN : sign * INFINITY;
  return sign * (exponent ? ldexpf(1024 + fraction, exponent - 25) : ldexpf(fraction, -24));
}
// To the nearest, ties to even; NaN stays NaN.
inline __half __float2half(float value) {
  const uint16_t sign = signbit(value) ? 0x8000 : 0;
  const float size = fabsf(value);
  if (value != value) return {0x7e00};
  if (size >= 65520.f) return {(uint16_t)(sign | 0x7c00)};
  int exponent;
  frexpf(size, &exponent);
  // A step is 2⁻¹⁰ of the leading power of two, and never below the smallest number.
  const int step = exponent - 11 < -24 ? -24 : exponent - 11;
  const uint32_t steps = (uint32_t)rintf(ldexpf(size, -step));
  // Numbers of full precision count from the bits of their power of two; a carry moves into the exponent by itself.
  return {(uint16_t)(sign | (steps < 1024 ? steps : ((uint32_t)(step + 24) << 10) + steps))};
}
