// What went wrong, in CUDA's codes and words; behind CUDA's own words stand ours, which name the kernel and the
// address.
#include <cstdio>

#include "inside.h"

namespace comface::cuda::emulation {
namespace {

struct Text {
  cudaError_t status;
  const char *name, *words;
};
#define COMFACE_STATUS(name, words) \
  { name, #name, words }
constexpr Text kTexts[] = {
    COMFACE_STATUS(cudaSuccess, "no error"),
    COMFACE_STATUS(cudaErrorInvalidValue, "invalid argument"),
    COMFACE_STATUS(cudaErrorMemoryAllocation, "out of memory"),
    COMFACE_STATUS(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    COMFACE_STATUS(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    COMFACE_STATUS(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    COMFACE_STATUS(cudaErrorInvalidDevice, "invalid device ordinal"),
    COMFACE_STATUS(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    COMFACE_STATUS(cudaErrorIllegalState, "the operation cannot be performed in the present state"),
    COMFACE_STATUS(cudaErrorNotReady, "device not ready"),
    COMFACE_STATUS(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    COMFACE_STATUS(cudaErrorLaunchFailure, "unspecified launch failure"),
    COMFACE_STATUS(cudaErrorLaunchTimeout, "the launch timed out and was terminated"),
    COMFACE_STATUS(cudaErrorIllegalInstruction, "an illegal instruction was encountered"),
    COMFACE_STATUS(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"),
    COMFACE_STATUS(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture"),
    COMFACE_STATUS(cudaErrorStreamCaptureUnmatched, "capture was not ended in the same stream as it began"),
    COMFACE_STATUS(cudaErrorStreamCaptureMerge, "operation would result in a merge of separate capture sequences"),
    COMFACE_STATUS(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work"),
    COMFACE_STATUS(cudaErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream"),
    COMFACE_STATUS(cudaErrorStreamCaptureImplicit,
                   "operation would make the legacy stream depend on a capturing "
                   "blocking stream"),
    COMFACE_STATUS(cudaErrorCapturedEvent, "operation not permitted on an event last recorded in a capturing stream"),
    COMFACE_STATUS(cudaErrorStreamCaptureWrongThread,
                   "attempt to terminate a thread-local capture sequence from "
                   "another thread"),
};
#undef COMFACE_STATUS

const Text* textOf(cudaError_t status) {
  for (const Text& text : kTexts) {
    if (text.status == status) return &text;
  }
  return nullptr;
}

/** The device's, not a thread's: a lost device is lost for all. */
cudaError_t lostStatus = cudaSuccess;
std::string& lostWords = *new std::string;

struct Last {
  cudaError_t status = cudaSuccess;  // until cudaGetLastError takes it
  cudaError_t told = cudaSuccess;    // the one that `words` belong to
  std::string words, answer;
};
Last& last() {
  thread_local Last last;
  return last;
}

}  // namespace

std::recursive_mutex& deviceLock() {
  static auto& lock = *new std::recursive_mutex;
  return lock;
}

cudaError_t report(cudaError_t status, const std::string& words) {
  if (status == cudaSuccess) return status;
  Last& mine = last();
  mine.status = mine.told = status;
  mine.words = words;
  return status;
}

void fail(cudaError_t status, const std::string& words) {
  const Lock lock(deviceLock());
  if (lostStatus != cudaSuccess) return;  // what came first explains the rest
  lostStatus = status;
  lostWords = words;
}

cudaError_t lost() { return lostStatus == cudaSuccess ? cudaSuccess : report(lostStatus, lostWords); }

cudaError_t misuse(cudaError_t status, const std::string& words) {
  // Also on the terminal: destructors drop what cudaFree returns.
  std::fprintf(stderr, "CUDA emulation: %s\n", words.c_str());
  fail(status, words);
  return report(status, words);
}

void forgetErrors() {
  lostStatus = cudaSuccess;
  lostWords.clear();
  last() = {};
}

}  // namespace comface::cuda::emulation

using namespace comface::cuda::emulation;

cudaError_t cudaGetLastError() {
  const Lock lock(deviceLock());
  const cudaError_t status = cudaPeekAtLastError();
  last().status = cudaSuccess;
  return status;
}

cudaError_t cudaPeekAtLastError() {
  const Lock lock(deviceLock());
  const cudaError_t own = last().status;
  return own != cudaSuccess ? own : lost();
}

const char* cudaGetErrorName(cudaError_t status) {
  const Text* text = textOf(status);
  return text ? text->name : "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t status) {
  const Text* text = textOf(status);
  if (!text) return "unrecognized error code";
  Last& mine = last();
  if (mine.told != status || mine.words.empty()) return text->words;
  mine.answer = std::string(text->words) + ": " + mine.words;
  return mine.answer.c_str();
}
