// Finding, checking and opening cuDNN and cuBLASLt; see libraries.h. The order matters: cuBLASLt first, for cuDNN opens
// it by its bare name and then gets this one; then cuDNN's parts by full path, so that none of another version is
// taken.
#include "cuda/libraries.h"

#include <dlfcn.h>
#include <link.h>
#include <unistd.h>

#include <cstdlib>

namespace comface::cuda {
namespace {

#define COMFACE_TEXT_OF(number) #number
#define COMFACE_TEXT(number) COMFACE_TEXT_OF(number)
constexpr const char* kCudnn = "libcudnn.so." COMFACE_TEXT(CUDNN_MAJOR);
constexpr const char* kCublasLt = "libcublasLt.so." COMFACE_TEXT(CUBLAS_VER_MAJOR);

/** What cuDNN opens by itself for the graph API; without one of them it ends the process. */
constexpr const char* kParts[] = {"graph", "ops", "engines_precompiled", "engines_runtime_compiled", "heuristic"};
/** Only newer versions have it. Opened here too, or one of another version elsewhere would be taken. */
constexpr const char* kOptionalPart = "engines_tensor_ir";

Error unavailable(const std::string& message) { return Error(Code::deviceUnavailable, message); }

std::string pathOf(void* library) {
  link_map* map = nullptr;
  return dlinfo(library, RTLD_DI_LINKMAP, &map) == 0 ? map->l_name : "";
}

std::string folderOf(const std::string& path) { return path.substr(0, path.rfind('/') + 1); }

/** The folder of this library, with a slash at the end. */
std::string ownFolder() {
  Dl_info info{};
  return dladdr(reinterpret_cast<void*>(&ownFolder), &info) != 0 ? folderOf(info.dli_fname) : "";
}

bool isThere(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

void* open(const std::string& path) { return dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL); }

std::string loaderReason() {
  const char* const reason = dlerror();
  return reason ? reason : "no reason given";
}

/** Where to look for `name`: `inWheels` is its folder below site-packages/nvidia. */
std::vector<std::string> candidates(const char* name, const char* inWheels) {
  std::vector<std::string> paths;
  if (const char* chosen = std::getenv("COMFACE_CUDA_LIBRARIES"); chosen && *chosen) {
    const std::string folder = std::string(chosen) + "/";
    paths = {folder + name, folder + inWheels + name};
  }
  paths.push_back(ownFolder() + name);
  paths.push_back(name);  // RPATH, LD_LIBRARY_PATH, the system's cache
  return paths;
}

/** The first that opens. One that is there and does not open ends the search: another would hide what is wrong. */
void* openFirst(const char* what, const char* name, const char* inWheels) {
  std::string tried;
  for (const std::string& path : candidates(name, inWheels)) {
    if (void* library = open(path)) return library;
    const std::string reason = loaderReason();
    const bool isBare = path == name;
    if (!isBare && isThere(path)) throw unavailable(std::string(what) + " does not load: " + reason);
    tried += (tried.empty() ? "" : ", ") + path;
    if (isBare) tried += " (where the system's loader looks: " + reason + ")";
  }
  throw unavailable(std::string(what) + " was not found. Tried " + tried + ".");
}

/** Opens every part that the shim will open, from the shim's own folder. */
void openParts(const std::string& shim) {
  const auto openPart = [&](const char* part) {
    return open(folderOf(shim) + "libcudnn_" + part + ".so." COMFACE_TEXT(CUDNN_MAJOR));
  };
  for (const char* part : kParts) {
    if (!openPart(part)) throw unavailable("cuDNN at " + shim + " is not whole: " + loaderReason());
  }
  openPart(kOptionalPart);
}

template <class F>
void resolve(F*& function, void* library, const char* name, const std::string& path) {
  function = reinterpret_cast<F*>(dlsym(library, name));
  if (!function) throw unavailable(path + " has no function " + name + ".");
}

/** "9.24.0" for 92400. */
std::string cudnnVersion(size_t version) {
  return std::to_string(version / 10000) + "." + std::to_string(version % 10000 / 100) + "." +
         std::to_string(version % 100);
}

Libraries openLibraries() {
  Libraries all;
  void* const cublasLt = openFirst("cuBLASLt", kCublasLt, "cu13/lib/");
  all.cublasLtPath = pathOf(cublasLt);
  void* const cudnn = openFirst("cuDNN", kCudnn, "cudnn/lib/");
  all.cudnnPath = pathOf(cudnn);
#define COMFACE_RESOLVE_CUDNN(name) resolve(all.name, cudnn, #name, all.cudnnPath);
#define COMFACE_RESOLVE_CUBLASLT(name) resolve(all.name, cublasLt, #name, all.cublasLtPath);
  COMFACE_CUDNN_FUNCTIONS(COMFACE_RESOLVE_CUDNN)
  COMFACE_CUBLASLT_FUNCTIONS(COMFACE_RESOLVE_CUBLASLT)
  openParts(all.cudnnPath);
  if (const size_t version = all.cudnnGetVersion(); version < kOldestCudnn) {
    throw unavailable("cuDNN at " + all.cudnnPath + " is version " + cudnnVersion(version) + "; " +
                      cudnnVersion(kOldestCudnn) + " or newer is needed.");
  }
  return all;
}

}  // namespace

const Libraries& libraries() {
  static const Libraries all = openLibraries();
  return all;
}

}  // namespace comface::cuda
