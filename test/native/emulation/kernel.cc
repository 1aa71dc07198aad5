// A kernel's launch: what a device would refuse, the blocks in their order with fresh garbage in shared memory, and
// what the system's signals say about addresses that do not exist.
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>

#include "block.h"
#include "inside.h"
#include "symbols.h"

namespace comface::cuda::emulation {
namespace {

constexpr size_t kMostShared = 227 << 10;
constexpr uint64_t kOthersEvery = 16;  // blocks
constexpr uint8_t kEdge = 0x5a;
constexpr size_t kEdgeBytes = 256;  // in front of the dynamic shared memory

/** The dynamic shared memory: its end lies before a page that nobody may touch. */
class SharedMemory {
 public:
  SharedMemory() {
    page_ = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    size_ = (kMostShared + kEdgeBytes + page_ - 1) / page_ * page_;
    void* const mapped = mmap(nullptr, size_ + page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED || mprotect(static_cast<char*>(mapped) + size_, page_, PROT_NONE) != 0) {
      throw std::bad_alloc();
    }
    end_ = static_cast<char*>(mapped) + size_;
  }

  void prepare(size_t bytes) {
    bytes_ = bytes;
    data_ = end_ - (bytes + 15) / 16 * 16;
    std::memset(data_ - kEdgeBytes, kEdge, kEdgeBytes);
    std::fill_n(reinterpret_cast<uint16_t*>(data_), bytes / 2, kGarbage);
    std::memset(data_ + bytes, kEdge, end_ - data_ - bytes);
  }
  bool isWhole() const { return isFilled(data_ - kEdgeBytes, data_, kEdge) && isFilled(data_ + bytes_, end_, kEdge); }
  char* data() const { return data_; }
  /** "4 bytes behind the block's 1024 bytes of shared memory", or nothing. */
  std::string describe(const void* address) const {
    const char* const at = static_cast<const char*>(address);
    if (at < end_ || at >= end_ + page_) return "";
    return std::to_string(at - data_ - bytes_) + " bytes behind the " + std::to_string(bytes_) +
           " bytes of dynamic shared memory";
  }

 private:
  size_t page_, size_, bytes_ = 0;
  char *end_, *data_ = nullptr;
};
SharedMemory& sharedMemory() {
  static SharedMemory& memory = *new SharedMemory;
  return memory;
}

#if defined(__SANITIZE_ADDRESS__)
__attribute__((no_sanitize_address))
#endif
void fillStaticShared(const std::vector<SharedArray>& arrays) {
  for (const SharedArray& array : arrays) {
    for (size_t i = 0; i < array.size; ++i) array.data[i] = static_cast<char>(i % 2 ? kGarbage >> 8 : kGarbage & 0xff);
  }
}

// ---- signals ----

struct sigaction previous[NSIG];
constexpr size_t kSignalStack = 64 << 10;

/** What the handler found. */
struct Fault {
  int signal = 0;  // 0: nothing
  void* address = nullptr;
  bool isOverflow = false;  // of the thread's stack
};
Fault fault;

/** Words for the fault that ended a block. */
Outcome outcomeOf(const Fault& fault) {
  const std::string where = ", " + runningThread();
  if (fault.signal == SIGFPE) return {cudaErrorLaunchFailure, "a division of integers by zero" + where};
  if (fault.signal == SIGILL) return {cudaErrorIllegalInstruction, "an instruction that does not exist" + where};
  if (fault.isOverflow) return {cudaErrorLaunchFailure, "the stack overflows" + where};
  const std::string words = sharedMemory().describe(fault.address);
  return {cudaErrorIllegalAddress, (words.empty() ? describeAddress(fault.address) : words) + where};
}

alignas(16) char stackAfterFault[64 << 10];

/** A kernel's fault ends its block, from a stack of its own; others are whoever's they were before. */
void onSignal(int signal, siginfo_t* info, void* context) {
  if (isInKernel()) {
    fault = {signal, info->si_addr, isNearStackEnd(info->si_addr)};
    auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    registers[REG_RIP] = reinterpret_cast<greg_t>(&leaveBlock);
    registers[REG_RSP] = reinterpret_cast<greg_t>(stackAfterFault + sizeof stackAfterFault - 8);  // as after a call
    return;
  }
  if (signal == SIGSEGV || signal == SIGBUS) {
    if (placeOf(info->si_addr, 0) == Place::device) {
      constexpr char kWords[] = "CUDA emulation: the host touches device memory\n";
      if (write(STDERR_FILENO, kWords, sizeof kWords - 1) < 0) _exit(1);
    }
  }
  sigaction(signal, &previous[signal], nullptr);  // returning repeats the instruction, now under the old handler
}

/** Gives the thread a stack to handle an overflow of its own on, while a kernel runs. */
class SignalStack {
 public:
  SignalStack() {
    stack_t stack{};
    stack.ss_sp = stack_;
    stack.ss_size = sizeof stack_;
    sigaltstack(&stack, &old_);
  }
  ~SignalStack() { sigaltstack(&old_, nullptr); }
  SignalStack(const SignalStack&) = delete;

 private:
  static inline char stack_[kSignalStack];
  stack_t old_{};
};

// ---- launches ----

/** Blocks by number in the order that the settings ask for; shuffled: a walk by a stride without common factor. */
class BlockOrder {
 public:
  BlockOrder(uint64_t count, Order order, uint64_t seed) : count_(count), order_(order) {
    if (order != Order::shuffled || count < 2) return;
    offset_ = seed % count;
    stride_ = seed / count % count | 1;
    while (common(stride_, count) != 1) ++stride_;
  }
  uint64_t at(uint64_t i) const {
    if (order_ == Order::shuffled)
      return static_cast<uint64_t>((static_cast<unsigned __int128>(i) * stride_ + offset_) % count_);
    return order_ == Order::backward ? count_ - 1 - i : i;
  }

 private:
  static uint64_t common(uint64_t a, uint64_t b) { return b == 0 ? a : common(b, a % b); }
  uint64_t count_, offset_ = 0, stride_ = 1;
  Order order_;
};

void runKernel(const Launch& launch, const Arguments& arguments) {
  static uint64_t launches = 0;
  const KernelFacts& facts = factsOf(launch.kernel);
  if (!arguments.areReadable(facts.name.c_str())) return;
  const Settings now = settings();
  const uint64_t seed = (now.seed + ++launches) * 0x9e3779b97f4a7c15u;
  const uint64_t count = uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  const BlockOrder order(count, now.order, seed);
  gridDim = launch.grid;
  blockDim = launch.block;
  watchSignals();
  const SignalStack stack;
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t number = order.at(i);
    blockIdx = {static_cast<unsigned>(number % launch.grid.x),
                static_cast<unsigned>(number / launch.grid.x % launch.grid.y),
                static_cast<unsigned>(number / launch.grid.x / launch.grid.y)};
    sharedMemory().prepare(launch.sharedBytes);
    fillStaticShared(facts.own);
    // Most of the others are other kernels', and there are many of them.
    if (i % kOthersEvery == 0) fillStaticShared(facts.others);
    fault = {};
    Outcome outcome = runBlock(arguments, now.order, seed + number);
    if (fault.signal != 0) outcome = outcomeOf(fault);
    if (outcome.status == cudaSuccess && !sharedMemory().isWhole()) {
      outcome = {cudaErrorIllegalAddress, "it writes outside its " + std::to_string(launch.sharedBytes) +
                                              " bytes of dynamic shared memory, block " + text(blockIdx)};
    }
    if (outcome.status == cudaSuccess) continue;
    fail(outcome.status, facts.name + ": " + outcome.words);
    return;
  }
}

/** What makes CUDA refuse a launch at once. */
cudaError_t checkLaunch(const Launch& launch) {
  const dim3 grid = launch.grid, block = launch.block;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  const bool isGridGood =
      grid.x > 0 && grid.x <= 0x7fffffff && grid.y > 0 && grid.y <= 65535 && grid.z > 0 && grid.z <= 65535;
  const bool isBlockGood = threads > 0 && threads <= 1024 && block.x <= 1024 && block.y <= 1024 && block.z <= 64;
  if (!isGridGood || !isBlockGood) {
    return report(cudaErrorInvalidConfiguration,
                  factsOf(launch.kernel).name + ": a grid of " + text(grid) + " blocks of " + text(block) + " threads");
  }
  if (launch.sharedBytes > sharedLimit(launch.kernel)) {
    return report(cudaErrorInvalidValue, factsOf(launch.kernel).name + ": " + std::to_string(launch.sharedBytes) +
                                             " bytes of shared memory, allowed are " +
                                             std::to_string(sharedLimit(launch.kernel)));
  }
  return cudaSuccess;
}

/** Mapped, but not by CUDA: an address of the host's. */
bool isMappedByHost(const void* address) {
  static const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  unsigned char resident;
  return mincore(reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(address) / page * page), 1, &resident) == 0;
}

}  // namespace

cudaError_t launchKernel(const Launch& launch, cudaStream_t stream, std::shared_ptr<const Arguments> arguments) {
  const Lock lock(deviceLock());
  if (const cudaError_t status = lost()) return status;
  if (const cudaError_t status = checkLaunch(launch)) return status;
  return enqueue(stream, [launch, arguments = std::move(arguments)] { runKernel(launch, *arguments); });
}

bool isReadable(const void* pointer, const char* kernel) {
  if (!pointer) return true;
  std::string words;
  const Place place = placeOf(pointer, 0, &words);
  if (words.empty() && place == Place::host) words = describeAddress(pointer);
  if (words.empty()) return true;
  fail(cudaErrorIllegalAddress, std::string(kernel) + ": an argument is " + words);
  return false;
}

bool areReadable(const void* words, size_t bytes, const char* kernel) {
  if (!settings().guard) return true;
  // Where Linux maps a program and its heap. A number in front of padding that nobody set may look like an address of
  // there, but hardly one that ends in a small number.
  constexpr uintptr_t kLowest = uintptr_t{0x50} << 40, kHighest = uintptr_t{1} << 47, kLeastEnd = 1 << 24;
  for (size_t i = 0; i + sizeof(uintptr_t) <= bytes; i += sizeof(uintptr_t)) {
    uintptr_t word;
    std::memcpy(&word, static_cast<const char*>(words) + i, sizeof word);
    if (word < kLowest || word >= kHighest || (word & 0xffffffff) < kLeastEnd) continue;
    const void* const address = reinterpret_cast<const void*>(word);
    const Place place = placeOf(address, 0);
    if (place == Place::device || place == Place::pinned) continue;
    if (place == Place::host && !isMappedByHost(address)) continue;
    fail(cudaErrorIllegalAddress, std::string(kernel) + ": byte " + std::to_string(i) + " of a struct argument is " +
                                      (place == Place::host ? "the host's address" : describeAddress(address)));
    return false;
  }
  return true;
}

void watchSignals() {
  static const bool isInPlace = [] {
    struct sigaction action {};
    action.sa_sigaction = &onSignal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigaction(signal, &action, &previous[signal]);
    return true;
  }();
  (void)isInPlace;
}

char* dynamicShared() { return sharedMemory().data(); }

}  // namespace comface::cuda::emulation
