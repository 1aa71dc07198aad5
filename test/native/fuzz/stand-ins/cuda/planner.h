// Stands for native/cuda/planner.h, which wants NVIDIA's headers: all of it that the reader of choices needs.
#pragma once
#include <map>
#include <string>

namespace comface::cuda {

using Choices = std::map<std::string, std::string>;

}  // namespace comface::cuda
