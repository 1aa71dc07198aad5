// What cuDNN's backend API refuses, and with which status.
#pragma once
#include <functional>

#include "checks/builder.h"

namespace comface::cuda::emulation {

struct RefusalCase {
  const char* name;
  std::function<cudnnStatus_t()> act;
  cudnnStatus_t expected;  // cuDNN 9.24's, unless
  bool isStricter = false;
};

/** None of them needs a device. */
const std::vector<RefusalCase>& refusalCases();

}  // namespace comface::cuda::emulation
