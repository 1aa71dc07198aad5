// Number types in memory, and the nearest number of a type: one rounding from double, ties to even.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <bit>
#include <cmath>
#include <cstdint>

namespace comface::cuda::emulation {

enum class Format { fp32, bf16, fp16 };

inline double read(Format format, const char* at) {
  if (format == Format::fp32) return *reinterpret_cast<const float*>(at);
  if (format == Format::fp16) return __half2float(*reinterpret_cast<const __half*>(at));
  return __bfloat162float(*reinterpret_cast<const __nv_bfloat16*>(at));
}

/** fp32 with its last bit set if anything was lost: rounding that again is rounding once. */
inline float toOdd(double value) {
  const auto near = static_cast<float>(value);
  if (static_cast<double>(near) == value || std::isnan(value)) return near;
  auto bits = std::bit_cast<uint32_t>(near);
  if (std::fabs(static_cast<double>(near)) > std::fabs(value)) --bits;
  return std::bit_cast<float>(bits | 1);
}

inline void write(Format format, double value, char* at) {
  if (format == Format::fp32) *reinterpret_cast<float*>(at) = static_cast<float>(value);
  if (format == Format::fp16) *reinterpret_cast<__half*>(at) = __float2half_rn(toOdd(value));
  if (format == Format::bf16) *reinterpret_cast<__nv_bfloat16*>(at) = __float2bfloat16_rn(toOdd(value));
}

inline double nearest(Format format, double value) {
  char bytes[4];
  write(format, value, bytes);
  return read(format, bytes);
}

/** What a tensor core takes of an fp32 number: ten bits. */
inline double tf32(double value) {
  auto bits = std::bit_cast<uint32_t>(static_cast<float>(value));
  if ((bits & 0x7f800000) == 0x7f800000) return value;
  bits += 0xfff + ((bits >> 13) & 1);
  return std::bit_cast<float>(bits & ~0x1fffu);
}

}  // namespace comface::cuda::emulation
