// Picks the kernels for this machine. oneDNN's choice leads, because its blocked layout (16 or 8 channels) must be
// ours.
#include <oneapi/dnnl/dnnl.hpp>
#include <utility>

#include "cpu/generator.h"
#include "cpu/kernels.h"
#include "cpu/transformer.h"
#include "cpu/winograd.h"

namespace comface::cpu {

namespace avx512bf16 {
extern const Winograd winograd;
}
namespace avx512 {
extern const Kernels table;
extern const Transformer transformer;
extern const EfficientAttention efficientAttention;
extern const Generator generator;
extern const Filtered filtered;
}  // namespace avx512
namespace avx2 {
extern const Kernels table;
extern const Transformer transformer;
extern const EfficientAttention efficientAttention;
extern const Generator generator;
extern const Filtered filtered;
}  // namespace avx2
namespace baseline {
extern const Kernels table;
extern const Transformer transformer;
extern const EfficientAttention efficientAttention;
extern const Generator generator;
extern const Filtered filtered;
}  // namespace baseline

namespace {
bool covers(dnnl::cpu_isa wanted) {  // the values are sets of features
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa()), bits = static_cast<unsigned>(wanted);
  return (isa & bits) == bits;
}
}  // namespace

const Winograd* selectWinograd() { return covers(dnnl::cpu_isa::avx512_core_bf16) ? &avx512bf16::winograd : nullptr; }

const Kernels& select() {
  if (covers(dnnl::cpu_isa::avx512_core)) return avx512::table;
  if (covers(dnnl::cpu_isa::avx2)) return avx2::table;
  return baseline::table;
}

const Transformer& selectTransformer() {
  if (covers(dnnl::cpu_isa::avx512_core)) return avx512::transformer;
  if (covers(dnnl::cpu_isa::avx2)) return avx2::transformer;
  return baseline::transformer;
}

const EfficientAttention& selectEfficientAttention() {
  if (covers(dnnl::cpu_isa::avx512_core)) return avx512::efficientAttention;
  if (covers(dnnl::cpu_isa::avx2)) return avx2::efficientAttention;
  return baseline::efficientAttention;
}

const Generator& selectGenerator() {
  if (covers(dnnl::cpu_isa::avx512_core)) return avx512::generator;
  if (covers(dnnl::cpu_isa::avx2)) return avx2::generator;
  return baseline::generator;
}

const Filtered& selectFiltered() {
  if (covers(dnnl::cpu_isa::avx512_core)) return avx512::filtered;
  if (covers(dnnl::cpu_isa::avx2)) return avx2::filtered;
  return baseline::filtered;
}

const char* isaName() {
  using Isa = dnnl::cpu_isa;
  const Isa isa = dnnl::get_effective_cpu_isa();
  constexpr std::pair<Isa, const char*> kNames[] = {
      {Isa::sse41, "sse41"},
      {Isa::avx, "avx"},
      {Isa::avx2, "avx2"},
      {Isa::avx2_vnni, "avx2_vnni"},
      {Isa::avx512_mic, "avx512_mic"},
      {Isa::avx512_mic_4ops, "avx512_mic_4ops"},
      {Isa::avx512_core, "avx512_core"},
      {Isa::avx512_core_vnni, "avx512_core_vnni"},
      {Isa::avx512_core_bf16, "avx512_core_bf16"},
      {Isa::avx512_core_amx, "avx512_core_amx"},
  };
  for (const auto& [each, name] : kNames) {
    if (each == isa) return name;
  }
  return "all";
}

}  // namespace comface::cpu
