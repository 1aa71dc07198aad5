// Tensor cores of sm_80 and newer in the one form that we use, 16-bit numbers added up in fp32, and what feeds them.
// Only .cu files include this. test/native/emulation has a twin that does the same for warps played by the CPU.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>

namespace comface::cuda {

/** Processors of an H200, to share work out by. Not asked of the device: no sum's order should depend on it. */
inline constexpr int kProcessors = 132;

/**
 * The warp's c (16 x 8) += a (16 x 16) b (16 x 8). A lane with g = lane / 4, q = lane % 4 holds, two halves to a word:
 * a: row g columns 2q and 2q + 1; row g + 8 of these; row g columns 2q + 8 and 2q + 9; row g + 8 of these.
 * b: column g rows 2q and 2q + 1; rows 2q + 8 and 2q + 9 of it. c: row g columns 2q, 2q + 1; row g + 8 of these.
 */
__device__ __forceinline__ void multiplyAdd(const uint32_t (&a)[4], uint32_t b0, uint32_t b1, float (&c)[4]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/** The same of bf16 (true) or fp16. */
template <bool kBf16>
__device__ __forceinline__ void multiplyAddOf(const uint32_t (&a)[4], uint32_t b0, uint32_t b1, float (&c)[4]) {
  if constexpr (kBf16) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, "
        "%2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    multiplyAdd(a, b0, b1, c);
  }
}

/**
 * Four matrices of 8 x 8 16-bit numbers from shared memory: lane l passes the address of row l % 8 (16 bytes) of matrix
 * l / 8; out[m] gets row g columns 2q and 2q + 1 of matrix m.
 */
__device__ __forceinline__ void loadMatrices(const void* row, uint32_t (&out)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}

/** The same of the matrices' transposes: out[m] gets column g rows 2q and 2q + 1. */
__device__ __forceinline__ void loadTransposed(const void* row, uint32_t (&out)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}

/** Copies 16 bytes, or one float, to shared memory in the background. */
__device__ __forceinline__ void copyAsync(__half* shared, const __half* global) {
  asm volatile(
      "cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
      "l"(global)
      : "memory");
}
__device__ __forceinline__ void copyAsync(float* shared, const float* global) {
  asm volatile(
      "cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
      "l"(global)
      : "memory");
}
/** Waits for this thread's copies; a barrier has to follow before other threads read them. */
__device__ __forceinline__ void waitForCopies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

/** 2^x by the special function unit, relative error below 2^-22; results below 2^-126 are 0. */
__device__ __forceinline__ float exponential2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/** Two numbers as halves in a word, `low` getting what is lost in `high`: together 22 bits of each. */
__device__ __forceinline__ void splitHalves(float x, float y, uint32_t& high, uint32_t& low) {
  const __half2 rounded = __floats2half2_rn(x, y);
  const float2 back = __half22float2(rounded);
  const __half2 rest = __floats2half2_rn(x - back.x, y - back.y);
  memcpy(&high, &rounded, sizeof high);
  memcpy(&low, &rest, sizeof low);
}

}  // namespace comface::cuda
