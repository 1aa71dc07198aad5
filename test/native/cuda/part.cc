// A library with the functions in NAMES, one X(name) each, that do nothing. As libcudnn.so.9 it also does what the real
// one does when a part of it is not there: it ends the process.
#include <dlfcn.h>

#include <cstdlib>
#include <initializer_list>

extern "C" {
#define X(name) \
  long name() { return 0; }
#include NAMES
#undef X
#ifdef IS_CUDNN
long cudnnGetVersion() {
  for (const char* part : {"libcudnn_graph.so.9", "libcudnn_ops.so.9", "libcudnn_engines_precompiled.so.9",
                           "libcudnn_engines_runtime_compiled.so.9", "libcudnn_heuristic.so.9"}) {
    if (!dlopen(part, RTLD_NOW | RTLD_NOLOAD)) std::abort();
  }
  return IS_CUDNN;
}
#endif
}
