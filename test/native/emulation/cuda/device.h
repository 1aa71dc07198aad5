// The language of kernels for a host compiler: what nvcc knows by itself and the toolkit's headers leave out elsewhere.
// Barriers and exchanges within a warp stop the thread's fiber until the others have come; block.cc sees to it.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>  // before __noinline__ is a macro
#include <type_traits>

// The tag is how the emulation finds these arrays among a library's symbols and fills them before each block.
#undef __shared__
#define __shared__ static __attribute__((abi_tag("comface_shared")))
#ifndef __launch_bounds__
#define __launch_bounds__(...)
#endif
#ifndef __noinline__
#define __noinline__ __attribute__((noinline))
#endif

/** Of the thread that runs now. */
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;

namespace comface::cuda::emulation {

/** What a warp's lanes do together; all of them must do the same. */
enum class Exchange : int32_t { sync, shuffle, shuffleUp, shuffleDown, shuffleXor, vote, reduce, together };
/** What a block's threads do together. */
enum class Barrier : int32_t { sync, count, all, any };
enum class Fold : int32_t { add, min, max, bitAnd, bitOr, bitXor };

/** A source line, so that a message can say which barrier. */
struct Where {
  const char* file;
  int line;
};

int laneOf();
/** shuffle*: the value of lane `source`. vote: the mask of lanes whose value is not 0. reduce: `source` is the Fold. */
uint64_t exchange(Exchange kind, uint32_t mask, uint64_t value, int source, Where where);
/** For what hardware does with a warp's registers at once, such as a matrix product: when all lanes have come with
 * their `data`, `compute` runs once with the 32 addresses (null for a lane that has ended) and may change all of it. */
using Together = void (*)(void* const* lanes);
void exchangeTogether(Together compute, void* data, Where where);
int barrier(Barrier kind, int value, Where where);
/** Ends the launch with an error. */
[[noreturn]] void stop(const char* words, Where where);

template <class T>
T shuffle(Exchange kind, uint32_t mask, T value, int source, Where where) {
  static_assert(std::is_trivially_copyable_v<T> && (sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = exchange(kind, mask, bits, source, where);
  std::memcpy(static_cast<void*>(&value), &bits, sizeof(T));
  return value;
}

/** First lane of the group of `width` lanes that this lane is in. */
inline int groupOf(int width, Where where) {
  if (width < 1 || width > 32 || !std::has_single_bit(static_cast<unsigned>(width))) {
    stop("the width of a shuffle must be a power of two up to 32", where);
  }
  return laneOf() & ~(width - 1);
}

}  // namespace comface::cuda::emulation

// Every one notes the line it is called from.
#define COMFACE_WHERE const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define COMFACE_HERE \
  ::comface::cuda::emulation::Where { file, line }

// ---- barriers ----

inline void __syncthreads(COMFACE_WHERE) {
  comface::cuda::emulation::barrier(comface::cuda::emulation::Barrier::sync, 0, COMFACE_HERE);
}
inline int __syncthreads_count(int predicate, COMFACE_WHERE) {
  return comface::cuda::emulation::barrier(comface::cuda::emulation::Barrier::count, predicate != 0, COMFACE_HERE);
}
inline int __syncthreads_and(int predicate, COMFACE_WHERE) {
  return comface::cuda::emulation::barrier(comface::cuda::emulation::Barrier::all, predicate != 0, COMFACE_HERE);
}
inline int __syncthreads_or(int predicate, COMFACE_WHERE) {
  return comface::cuda::emulation::barrier(comface::cuda::emulation::Barrier::any, predicate != 0, COMFACE_HERE);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, COMFACE_WHERE) {
  comface::cuda::emulation::exchange(comface::cuda::emulation::Exchange::sync, mask, 0, 0, COMFACE_HERE);
}
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

// ---- exchanges within a warp ----

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, COMFACE_WHERE) {
  const int first = comface::cuda::emulation::groupOf(width, COMFACE_HERE);
  return comface::cuda::emulation::shuffle(comface::cuda::emulation::Exchange::shuffle, mask, value,
                                           first + (source & (width - 1)), COMFACE_HERE);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, COMFACE_WHERE) {
  const int lane = comface::cuda::emulation::laneOf(), source = lane - static_cast<int>(delta);
  const bool isInside = source >= comface::cuda::emulation::groupOf(width, COMFACE_HERE);
  return comface::cuda::emulation::shuffle(comface::cuda::emulation::Exchange::shuffleUp, mask, value,
                                           isInside ? source : lane, COMFACE_HERE);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, COMFACE_WHERE) {
  const int lane = comface::cuda::emulation::laneOf(), source = lane + static_cast<int>(delta);
  const bool isInside = source < comface::cuda::emulation::groupOf(width, COMFACE_HERE) + width;
  return comface::cuda::emulation::shuffle(comface::cuda::emulation::Exchange::shuffleDown, mask, value,
                                           isInside ? source : lane, COMFACE_HERE);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, COMFACE_WHERE) {
  const int lane = comface::cuda::emulation::laneOf(), source = lane ^ bits;
  const bool isInside = source >= 0 && source < comface::cuda::emulation::groupOf(width, COMFACE_HERE) + width;
  return comface::cuda::emulation::shuffle(comface::cuda::emulation::Exchange::shuffleXor, mask, value,
                                           isInside ? source : lane, COMFACE_HERE);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, COMFACE_WHERE) {
  return static_cast<unsigned>(comface::cuda::emulation::exchange(comface::cuda::emulation::Exchange::vote, mask,
                                                                  predicate != 0, 0, COMFACE_HERE));
}
inline int __any_sync(unsigned mask, int predicate, COMFACE_WHERE) {
  return __ballot_sync(mask, predicate, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, COMFACE_WHERE) {
  return __ballot_sync(mask, predicate == 0, file, line) == 0;
}

#define COMFACE_REDUCE(name, type, fold)                                                                           \
  inline type name(unsigned mask, type value, COMFACE_WHERE) {                                                     \
    const uint64_t bits = static_cast<uint64_t>(static_cast<int64_t>(value));                                      \
    return static_cast<type>(                                                                                      \
        comface::cuda::emulation::exchange(comface::cuda::emulation::Exchange::reduce, mask, bits,                 \
                                           static_cast<int>(comface::cuda::emulation::Fold::fold), COMFACE_HERE)); \
  }
COMFACE_REDUCE(__reduce_add_sync, unsigned, add)
COMFACE_REDUCE(__reduce_add_sync, int, add)
COMFACE_REDUCE(__reduce_min_sync, unsigned, min)
COMFACE_REDUCE(__reduce_min_sync, int, min)
COMFACE_REDUCE(__reduce_max_sync, unsigned, max)
COMFACE_REDUCE(__reduce_max_sync, int, max)
COMFACE_REDUCE(__reduce_and_sync, unsigned, bitAnd)
COMFACE_REDUCE(__reduce_or_sync, unsigned, bitOr)
COMFACE_REDUCE(__reduce_xor_sync, unsigned, bitXor)
#undef COMFACE_REDUCE
#undef COMFACE_WHERE
#undef COMFACE_HERE

// ---- memory ----

template <class T>
T __ldg(const T* from) {
  return *from;
}
template <class T>
T __ldcs(const T* from) {
  return *from;
}
template <class T>
T __ldcg(const T* from) {
  return *from;
}
template <class T>
T __ldca(const T* from) {
  return *from;
}
template <class T>
T __ldlu(const T* from) {
  return *from;
}
template <class T>
void __stcs(T* to, T value) {
  *to = value;
}
template <class T>
void __stcg(T* to, T value) {
  *to = value;
}
template <class T>
void __stwb(T* to, T value) {
  *to = value;
}
template <class T>
void __stwt(T* to, T value) {
  *to = value;
}

// Threads change at barriers only: nothing else is needed to be atomic.
template <class T>
T atomicExch(T* to, std::type_identity_t<T> value) {
  const T old = *to;
  *to = value;
  return old;
}
template <class T>
T atomicAdd(T* to, std::type_identity_t<T> value) {
  return atomicExch(to, static_cast<T>(*to + value));
}
template <class T>
T atomicSub(T* to, std::type_identity_t<T> value) {
  return atomicExch(to, static_cast<T>(*to - value));
}
template <class T>
T atomicMin(T* to, std::type_identity_t<T> value) {
  return atomicExch(to, std::min(*to, value));
}
template <class T>
T atomicMax(T* to, std::type_identity_t<T> value) {
  return atomicExch(to, std::max(*to, value));
}
template <class T>
T atomicAnd(T* to, std::type_identity_t<T> value) {
  return atomicExch(to, *to & value);
}
template <class T>
T atomicOr(T* to, std::type_identity_t<T> value) {
  return atomicExch(to, *to | value);
}
template <class T>
T atomicCAS(T* to, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return *to == expected ? atomicExch(to, value) : *to;
}
inline unsigned atomicInc(unsigned* to, unsigned limit) { return atomicExch(to, *to >= limit ? 0 : *to + 1); }

// ---- bits ----

inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline int __ffsll(long long x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned long long>(x)) + 1; }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((uint64_t{a} * b) >> 32); }
inline int __mulhi(int a, int b) { return static_cast<int>((int64_t{a} * b) >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>((static_cast<unsigned __int128>(a) * b) >> 64);
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((((uint64_t{high} << 32) | low) << (shift & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>(((uint64_t{high} << 32) | low) >> (shift & 31));
}

// ---- arithmetic. Where a device is only nearly exact, this is exact: tests leave room for the difference. ----

inline float rsqrtf(float x) { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(x))); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __exp10f(float x) { return std::pow(10.0f, x); }
inline float __logf(float x) { return std::log(x); }
inline float __log2f(float x) { return std::log2(x); }
inline float __log10f(float x) { return std::log10(x); }
inline float __sinf(float x) { return std::sin(x); }
inline float __cosf(float x) { return std::cos(x); }
inline float __tanf(float x) { return std::tan(x); }
inline float __powf(float x, float y) { return std::pow(x, y); }
inline void __sincosf(float x, float* sine, float* cosine) { *sine = std::sin(x), *cosine = std::cos(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __frsqrt_rn(float a) { return rsqrtf(a); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
inline float __saturatef(float x) { return x > 0.0f ? std::fmin(x, 1.0f) : 0.0f; }
inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }
inline int __float2int_rd(float x) { return static_cast<int>(std::floor(x)); }
inline int __float2int_ru(float x) { return static_cast<int>(std::ceil(x)); }
inline int __float2int_rz(float x) { return static_cast<int>(x); }
inline unsigned __float2uint_rn(float x) { return x > 0 ? static_cast<unsigned>(std::nearbyint(x)) : 0; }
inline unsigned __float2uint_rz(float x) { return x > 0 ? static_cast<unsigned>(x) : 0; }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline float __double2float_rn(double x) { return static_cast<float>(x); }

// CUDA's min and max are global and take mixed types, like arithmetic.
template <class A, class B>
requires(std::is_arithmetic_v<A>&& std::is_arithmetic_v<B>) auto min(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>)
    return std::fmin(static_cast<T>(a), static_cast<T>(b));
  else
    return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(a) : static_cast<T>(b);
}
template <class A, class B>
requires(std::is_arithmetic_v<A>&& std::is_arithmetic_v<B>) auto max(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>)
    return std::fmax(static_cast<T>(a), static_cast<T>(b));
  else
    return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a);
}
