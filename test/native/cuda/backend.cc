// A libcomface_cuda.so without CUDA: interface version ABI, one device of capability CAPABILITY, and no program.
#include <cstring>

#include "abi.h"
#include "probe.h"

extern "C" __attribute__((visibility("default"))) const comface::ComfaceBackend* comfaceBackend() {
  static comface::ComfaceBackend table{};
  table.abi = ABI;
  table.compile = [](const comface::ComfaceGraph*, comface::ComfaceStatus* status) -> void* {
    *status = {static_cast<int32_t>(comface::Code::deviceFailed), "This backend is not a real one."};
    return nullptr;
  };
  return &table;
}

extern "C" __attribute__((visibility("default"))) void comfaceCudaDescribe(comface::ComfaceCudaDescription* out) {
  *out = {};
  out->cudnn = 92400, out->cublasLt = 130101, out->deviceCount = 1;
  std::strcpy(out->cudnnPath, "/somewhere/libcudnn.so.9");
  std::strcpy(out->cublasLtPath, "/somewhere/libcublasLt.so.13");
  std::strcpy(out->devices[0].name, "Imaginary GPU");
  out->devices[0].capability = CAPABILITY;
  out->devices[0].memoryBytes = 1ull << 37;
}
