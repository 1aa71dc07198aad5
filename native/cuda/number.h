// Numbers of an image, eight channels at a time: 16 bytes of bf16 or fp16, 32 of fp32. They stay as they came (Raw) for
// as long as loads are under way, since that takes half the registers, and are floats (Eight) only to compute.
#pragma once
#include <cstring>

#include "cuda/kernels.h"
#include "cuda/launch.h"

namespace comface::cuda {

/** Eight numbers as they are in memory, at an address that is a multiple of 16. */
template <class E>
struct Raw {
  uint4 bits;
};
template <>
struct Raw<float> {
  float4 low, high;
};

struct Eight {
  float v[kChannelStep];
  __device__ float& operator[](int k) { return v[k]; }
  __device__ float operator[](int k) const { return v[k]; }
};

template <class E>
__device__ inline Raw<E> load(const E* p) {
  return {*reinterpret_cast<const uint4*>(p)};
}
template <>
__device__ inline Raw<float> load(const float* p) {
  return {reinterpret_cast<const float4*>(p)[0], reinterpret_cast<const float4*>(p)[1]};
}

template <class E>
__device__ inline void store(E* p, const Raw<E>& raw) {
  *reinterpret_cast<uint4*>(p) = raw.bits;
}
template <>
__device__ inline void store(float* p, const Raw<float>& raw) {
  reinterpret_cast<float4*>(p)[0] = raw.low;
  reinterpret_cast<float4*>(p)[1] = raw.high;
}

__device__ inline float2 widen(const __nv_bfloat162& pair) { return __bfloat1622float2(pair); }
__device__ inline float2 widen(const __half2& pair) { return __half22float2(pair); }
__device__ inline void narrow(float2 pair, __nv_bfloat162& result) { result = __float22bfloat162_rn(pair); }
__device__ inline void narrow(float2 pair, __half2& result) { result = __float22half2_rn(pair); }

template <class E>
struct PairOf;
template <>
struct PairOf<__nv_bfloat16> {
  using Type = __nv_bfloat162;
};
template <>
struct PairOf<__half> {
  using Type = __half2;
};

template <class E>
__device__ inline Eight toFloats(const Raw<E>& raw) {
  typename PairOf<E>::Type pairs[4];
  memcpy(static_cast<void*>(pairs), &raw.bits, sizeof pairs);
  Eight result;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const float2 pair = widen(pairs[k]);
    result[2 * k] = pair.x, result[2 * k + 1] = pair.y;
  }
  return result;
}
template <>
__device__ inline Eight toFloats(const Raw<float>& raw) {
  return {{raw.low.x, raw.low.y, raw.low.z, raw.low.w, raw.high.x, raw.high.y, raw.high.z, raw.high.w}};
}

template <class E>
struct Rounding {
  /** To nearest, ties to even. */
  static __device__ Raw<E> of(const Eight& x) {
    typename PairOf<E>::Type pairs[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) narrow(make_float2(x[2 * k], x[2 * k + 1]), pairs[k]);
    Raw<E> raw;
    memcpy(&raw.bits, pairs, sizeof pairs);
    return raw;
  }
};
template <>
struct Rounding<float> {
  static __device__ Raw<float> of(const Eight& x) {
    return {make_float4(x[0], x[1], x[2], x[3]), make_float4(x[4], x[5], x[6], x[7])};
  }
};

__device__ inline Eight loadFloats(const float* p) { return toFloats(load(p)); }
__device__ inline Eight splat(float x) { return {{x, x, x, x, x, x, x, x}}; }

/** A positive float that is at most this is 0 once rounded: half of the smallest number of the type. */
template <class E>
constexpr float kVanishes = 0;
template <>
constexpr float kVanishes<__nv_bfloat16> = 0x1p-134f;
template <>
constexpr float kVanishes<__half> = 0x1p-25f;

/** max(x, 0) that lets a NaN through, so that a lost run is noticed. */
__device__ inline float rectified(float x) { return x < 0 ? 0 : x; }

/** Sum over the warp's lanes, in all of them. */
__device__ inline float warpSum(float value) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  return value;
}

/** Calls body with a zero of the number type. */
template <class F>
void withNumber(Number number, const F& body) {
  if (number == Number::fp32) {
    body(float{});
  } else if (number == Number::bf16) {
    body(__nv_bfloat16{});
  } else {
    body(__half{});
  }
}

}  // namespace comface::cuda
