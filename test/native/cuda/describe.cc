// Opens the CUDA backend named by the first argument without a driver in the way, and prints what it finds, line by
// line: reason, cuDNN's version and path, cuBLASLt's version and path, what the devices said.
#include <dlfcn.h>

#include <cstdio>

#include "probe.h"

int main(int, char** arguments) {
  void* const library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
  if (!library) return std::puts(dlerror()), 1;
  const auto describe = reinterpret_cast<comface::ComfaceCudaDescribe>(dlsym(library, "comfaceCudaDescribe"));
  if (!describe) return std::puts("no comfaceCudaDescribe"), 1;
  static comface::ComfaceCudaDescription found;
  describe(&found);
  std::printf("%s\n%d\n%s\n%d\n%s\n%s\n", found.librariesReason, found.cudnn, found.cudnnPath, found.cublasLt,
              found.cublasLtPath, found.devicesReason);
  return 0;
}
