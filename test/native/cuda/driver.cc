// A libcuda.so.1 that answers what the environment tells it to: for machines without a GPU, or with a broken driver.
// DRIVER_NAMES lists the driver's other functions, one X(name) each; they all answer "no device", and then so does
// cuInit.
#include <dlfcn.h>

#include <cstdint>
#include <cstdlib>

namespace {

constexpr int kNoDevice = 100, kNotFound = 500;
#ifdef DRIVER_NAMES
constexpr int kInit = kNoDevice, kCount = 0;
#else
constexpr int kInit = 0, kCount = 1;
#endif

int number(const char* name, int otherwise) {
  const char* const text = std::getenv(name);
  return text ? std::atoi(text) : otherwise;
}

}  // namespace

extern "C" {

int refuse() { return kNoDevice; }
#ifdef DRIVER_NAMES
#define X(name) int name() __attribute__((alias("refuse")));
#include DRIVER_NAMES
#undef X
#endif

int cuInit(unsigned) { return number("DRIVER_INIT", kInit); }
int cuDriverGetVersion(int* version) {
  *version = number("DRIVER_VERSION", 13000);
  return 0;
}
int cuDeviceGetCount(int* count) {
  *count = number("DRIVER_COUNT", kCount);
  return 0;
}
int cuGetErrorString(int status, const char** text) {
  *text = status == 999 ? "unknown error" : nullptr;
  return *text ? 0 : kNotFound;
}
int cuGetProcAddress_v2(const char* name, void** function, int, uint64_t, int* status) {
  *function = dlsym(RTLD_DEFAULT, name);
  if (!*function) *function = reinterpret_cast<void*>(&refuse);
  if (status) *status = 0;
  return 0;
}

}  // extern "C"
