// Picks the kernels for this machine. oneDNN's choice leads, because its blocked layout (16 or 8 channels) must be
// ours.
#include <oneapi/dnnl/dnnl.hpp>

#include "cpu/kernels.h"

namespace comface::cpu {

namespace avx512 {
extern const Kernels table;
}
namespace avx2 {
extern const Kernels table;
}
namespace baseline {
extern const Kernels table;
}

const Kernels& select() {
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto covers = [isa](dnnl::cpu_isa wanted) {  // the values are sets of features
    const auto bits = static_cast<unsigned>(wanted);
    return (isa & bits) == bits;
  };
  if (covers(dnnl::cpu_isa::avx512_core)) return avx512::table;
  if (covers(dnnl::cpu_isa::avx2)) return avx2::table;
  return baseline::table;
}

}  // namespace comface::cpu
