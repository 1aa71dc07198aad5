// Takes the place of the C library's allocation in a test program: each call first asks `bool refuses(const void*
// caller)`, which stands before this is included, once. Where that says true there is no memory.
#pragma once
#include <cerrno>
#include <cstddef>

extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

#define EXPORTED __attribute__((visibility("default")))
#define REFUSED refuses(__builtin_return_address(0))

EXPORTED void* malloc(size_t size) { return REFUSED ? nullptr : __libc_malloc(size); }
EXPORTED void* calloc(size_t count, size_t size) { return REFUSED ? nullptr : __libc_calloc(count, size); }
EXPORTED void* realloc(void* old, size_t size) { return REFUSED ? nullptr : __libc_realloc(old, size); }
EXPORTED void* memalign(size_t alignment, size_t size) { return REFUSED ? nullptr : __libc_memalign(alignment, size); }
EXPORTED void* aligned_alloc(size_t alignment, size_t size) {
  return REFUSED ? nullptr : __libc_memalign(alignment, size);
}
EXPORTED int posix_memalign(void** result, size_t alignment, size_t size) {
  *result = REFUSED ? nullptr : __libc_memalign(alignment, size);
  return *result ? 0 : ENOMEM;
}
}
