// Threads of a block; see block.h. A fiber runs one thread after the other to its end. When a thread has to wait it
// keeps its fiber, and another one takes the next thread; so a kernel without barriers never changes stacks.
#include "block.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <thread>
#include <vector>

#include "fiber.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace comface::cuda::emulation {
namespace {

constexpr int kWarp = 32;

enum class State : uint8_t { fresh, running, inBarrier, inExchange, done };

/** What a waiting thread wants, then what it gets. */
struct Wish {
  int kind;  // a Barrier or an Exchange
  uint32_t mask;
  uint64_t value, result;
  int source;
  Where where;
  Together together;
};

struct Thread {
  State state;
  Fiber* fiber;
  Wish wish;
};

/** Lanes of a warp, bit by bit. */
struct Warp {
  uint32_t waiting, ended;
};

/** splitmix64 (Steele, Lea and Flood, 2014): small, and any seed will do. */
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint32_t below(size_t limit) {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return static_cast<uint32_t>((z ^ (z >> 31)) % limit);
  }

 private:
  uint64_t state_;
};

class Block {
 public:
  Outcome run(const Arguments& arguments, Order order, uint64_t shuffle);
  int barrier(Barrier kind, int value, Where where);
  uint64_t exchange(const Wish& wish);
  [[noreturn]] void stop(std::string words);
  void leave();
  int lane() const { return running_ % kWarp; }
  bool isRunning() const { return running_ >= 0 && hostThread_ == std::this_thread::get_id(); }
  const Fiber* fiber() const { return current_; }
  [[noreturn]] void work();

 private:
  void shape(dim3 block);
  void arrange(Order order);
  void start(int thread);
  void end(int thread);
  void wait(State state);
  Fiber* next();
  Fiber* idleFiber();
  void goTo(Fiber* fiber);
  void release(int thread);
  void releaseBarrier();
  void releaseExchange(int firstThread, uint32_t lanes);
  bool hasFresh() const { return started_ < threads_.size(); }
  std::string whoWaits() const;

  const Arguments* arguments_ = nullptr;
  std::thread::id hostThread_;
  Order order_ = Order::forward;
  Random random_{0};
  dim3 shape_{0, 0, 0};
  std::vector<uint3> indices_;  // threadIdx of each thread
  std::vector<int> sequence_;   // in which threads start
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  size_t started_ = 0, ended_ = 0, inBarrier_ = 0;
  std::vector<int> ready_;  // waited, may go on; taken from readyHead_
  size_t readyHead_ = 0;
  int running_ = -1;

  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;
  Fiber home_, *current_ = nullptr;
  Outcome outcome_;
};

/** The device lock is held wherever this is used. Never destroyed: work may still run while the program ends. */
Block& block() {
  static Block& block = *new Block;
  return block;
}

void enterFiber() {
  entered();
  block().work();
}

std::string lineOf(Where where) {
  const std::string file = where.file;
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(where.line);
}

void Block::shape(dim3 block) {
  if (block.x == shape_.x && block.y == shape_.y && block.z == shape_.z) return;
  shape_ = block;
  indices_.clear();
  for (unsigned z = 0; z < block.z; ++z) {
    for (unsigned y = 0; y < block.y; ++y) {
      for (unsigned x = 0; x < block.x; ++x) indices_.push_back({x, y, z});
    }
  }
  threads_.resize(indices_.size());
  warps_.resize((indices_.size() + kWarp - 1) / kWarp);
  sequence_.clear();
}

void Block::arrange(Order order) {
  if (sequence_.empty() || order_ != order || order == Order::shuffled) {
    sequence_.resize(threads_.size());
    for (size_t i = 0; i < sequence_.size(); ++i) sequence_[i] = static_cast<int>(i);
  } else {
    return;
  }
  order_ = order;
  if (order == Order::backward) std::reverse(sequence_.begin(), sequence_.end());
  if (order != Order::shuffled) return;
  for (size_t i = sequence_.size(); i > 1; --i) std::swap(sequence_[i - 1], sequence_[random_.below(i)]);
}

Outcome Block::run(const Arguments& arguments, Order order, uint64_t shuffle) {
  arguments_ = &arguments;
  hostThread_ = std::this_thread::get_id();
  random_ = Random(shuffle);
  shape(blockDim);
  arrange(order);
  for (Thread& thread : threads_) thread.state = State::fresh;
  for (Warp& warp : warps_) warp = {0, 0};
  if (const size_t rest = threads_.size() % kWarp) warps_.back().ended = ~uint32_t{0} << rest;  // lanes that never were
  started_ = ended_ = inBarrier_ = readyHead_ = 0;
  ready_.clear();
  outcome_ = {};
  current_ = &home_;
  goTo(idleFiber());
  running_ = -1;
  if (outcome_.status == cudaSuccess && ended_ < threads_.size()) outcome_ = {cudaErrorLaunchTimeout, whoWaits()};
  if (ended_ < threads_.size()) {  // the threads that are left will never go on
    idle_.clear();
    for (size_t i = 0; i < fibers_.size(); ++i) {
      prepare(*fibers_[i], static_cast<int>(i), enterFiber);
      idle_.push_back(fibers_[i].get());
    }
  }
  return outcome_;
}

Fiber* Block::idleFiber() {
  if (idle_.empty()) {
    auto fiber = std::make_unique<Fiber>();
    allocate(*fiber);
    prepare(*fiber, static_cast<int>(fibers_.size()), enterFiber);
    idle_.push_back(fiber.get());
    fibers_.push_back(std::move(fiber));
  }
  Fiber* const fiber = idle_.back();
  idle_.pop_back();
  return fiber;
}

/** Whom to go on with: threads that may, before threads that have not begun, so that warps drift as far apart as the
 * barriers let them. Home if there is nobody. */
Fiber* Block::next() {
  const bool hasReady = readyHead_ < ready_.size();
  if (!hasReady) {
    ready_.clear();
    readyHead_ = 0;
    return hasFresh() ? idleFiber() : &home_;
  }
  if (order_ == Order::shuffled) {
    if (hasFresh() && random_.below(4) == 0) return idleFiber();
    std::swap(ready_[readyHead_], ready_[readyHead_ + random_.below(ready_.size() - readyHead_)]);
  }
  return threads_[ready_[readyHead_++]].fiber;
}

void Block::goTo(Fiber* fiber) {
  if (fiber == current_) return;
  Fiber* const self = current_;
  current_ = fiber;
  switchFibers(*self, *fiber);
}

void Block::start(int thread) {
  running_ = thread;
  current_->thread = thread;
  threads_[thread].state = State::running;
  threadIdx = indices_[thread];
  arguments_->call();
  end(thread);
}

/** What every fiber does, block after block: fresh threads while there are any. */
void Block::work() {
  for (;;) {
    while (hasFresh()) start(sequence_[started_++]);
    idle_.push_back(current_);
    goTo(next());
  }
}

/** A thread that has ended counts as one that has come, everywhere. */
void Block::end(int thread) {
  threads_[thread].state = State::done;
  ++ended_;
  Warp& warp = warps_[thread / kWarp];
  warp.ended |= uint32_t{1} << (thread % kWarp);
  if (warp.waiting) {
    for (uint32_t rest = warp.waiting; rest; rest &= rest - 1) {
      const int first = thread - thread % kWarp;
      const uint32_t mask = threads_[first + std::countr_zero(rest)].wish.mask;
      if (((warp.waiting | warp.ended) & mask) == mask) {
        releaseExchange(first, mask & warp.waiting);
        break;
      }
    }
  }
  if (inBarrier_ > 0 && inBarrier_ + ended_ == threads_.size()) releaseBarrier();
}

/** Until release() has been called for the running thread. */
void Block::wait(State state) {
  const int thread = running_;
  if (threads_[thread].state == state) {
    threads_[thread].fiber = current_;
    goTo(next());
  }
  running_ = thread;
  threadIdx = indices_[thread];
}

void Block::release(int thread) {
  threads_[thread].state = State::running;
  if (thread != running_) ready_.push_back(thread);
}

int Block::barrier(Barrier kind, int value, Where where) {
  Thread& self = threads_[running_];
  self.wish = {static_cast<int>(kind), 0, static_cast<uint64_t>(value), 0, 0, where, nullptr};
  self.state = State::inBarrier;
  if (++inBarrier_ + ended_ == threads_.size()) releaseBarrier();
  wait(State::inBarrier);
  return static_cast<int>(self.wish.result);
}

void Block::releaseBarrier() {
  const Thread* first = nullptr;
  int count = 0, all = 0;
  for (const Thread& thread : threads_) {
    if (thread.state != State::inBarrier) continue;
    if (!first) first = &thread;
    ++all;
    count += static_cast<int>(thread.wish.value);
    const Where a = first->wish.where, b = thread.wish.where;
    if (a.line != b.line || thread.wish.kind != first->wish.kind) {
      stop("threads of one block wait at different barriers, " + lineOf(a) + " and " + lineOf(b));
    }
  }
  const Barrier kind = static_cast<Barrier>(first->wish.kind);
  const int result = kind == Barrier::count ? count : kind == Barrier::all ? count == all : count > 0;
  inBarrier_ = 0;
  for (const int thread : sequence_) {
    if (threads_[thread].state != State::inBarrier) continue;
    threads_[thread].wish.result = static_cast<uint64_t>(result);
    release(thread);
  }
}

uint64_t Block::exchange(const Wish& wish) {
  Thread& self = threads_[running_];
  const uint32_t bit = uint32_t{1} << lane();
  if (!(wish.mask & bit)) stop("a lane outside the mask that it gives, " + lineOf(wish.where));
  self.wish = wish;
  self.state = State::inExchange;
  Warp& warp = warps_[running_ / kWarp];
  warp.waiting |= bit;
  if (((warp.waiting | warp.ended) & wish.mask) == wish.mask) {
    releaseExchange(running_ - lane(), wish.mask & warp.waiting);
  }
  wait(State::inExchange);
  return self.wish.result;
}

uint64_t fold(const Thread* threads, uint32_t lanes, Fold fold) {
  int64_t result = static_cast<int64_t>(threads[std::countr_zero(lanes)].wish.value);
  for (uint32_t rest = lanes & (lanes - 1); rest; rest &= rest - 1) {
    const int64_t value = static_cast<int64_t>(threads[std::countr_zero(rest)].wish.value);
    switch (fold) {
      case Fold::add:
        result += value;
        break;
      case Fold::min:
        result = std::min(result, value);
        break;
      case Fold::max:
        result = std::max(result, value);
        break;
      case Fold::bitAnd:
        result &= value;
        break;
      case Fold::bitOr:
        result |= value;
        break;
      case Fold::bitXor:
        result ^= value;
        break;
    }
  }
  return static_cast<uint64_t>(result);
}

/** `lanes` of the warp from `firstThread` on are all there are in their mask. */
void Block::releaseExchange(int firstThread, uint32_t lanes) {
  Thread* const warp = &threads_[firstThread];
  const Wish& first = warp[std::countr_zero(lanes)].wish;
  uint64_t common = 0;
  void* data[kWarp] = {};
  for (uint32_t rest = lanes; rest; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    const Wish& wish = warp[lane].wish;
    if (wish.kind != first.kind || wish.mask != first.mask || wish.together != first.together) {
      stop("lanes of one warp wait for different things or with different masks, " + lineOf(first.where) + " and " +
           lineOf(wish.where));
    }
    if (wish.value) common |= uint64_t{1} << lane;
    data[lane] = reinterpret_cast<void*>(wish.value);
  }
  const Exchange kind = static_cast<Exchange>(first.kind);
  if (kind == Exchange::reduce) common = fold(warp, lanes, static_cast<Fold>(first.source));
  if (kind == Exchange::together) first.together(data);
  const bool isShuffle = kind >= Exchange::shuffle && kind <= Exchange::shuffleXor;
  warps_[firstThread / kWarp].waiting &= ~lanes;
  for (int i = 0; i < kWarp; ++i) {
    const int lane = order_ == Order::backward ? kWarp - 1 - i : i;
    if (!(lanes >> lane & 1)) continue;
    Wish& wish = warp[lane].wish;
    const bool isThere = !isShuffle || (lanes >> wish.source & 1);
    wish.result = !isThere ? 0x0001000100010001u * kGarbage : isShuffle ? warp[wish.source].wish.value : common;
    release(firstThread + lane);
  }
}

void Block::leave() {
  Fiber* const self = current_;
  current_ = &home_;
  running_ = -1;
  switchFibers(*self, home_);
}

void Block::stop(std::string words) {
  outcome_ = {cudaErrorLaunchFailure, std::move(words)};  // the caller's frames are never unwound
  leave();
  __builtin_unreachable();
}

std::string Block::whoWaits() const {
  std::string words = "a deadlock: ";
  size_t listed = 0, more = 0;
  for (size_t i = 0; i < threads_.size(); ++i) {
    const Thread& thread = threads_[i];
    if (thread.state != State::inBarrier && thread.state != State::inExchange) continue;
    const bool isLikeLast = i > 0 && listed > 0 && threads_[i - 1].state == thread.state &&
                            threads_[i - 1].wish.where.line == thread.wish.where.line;
    if (isLikeLast || listed == 4) {
      ++more;
      continue;
    }
    if (listed++ > 0) words += ", ";
    words += "thread " + text(indices_[i]) + " waits for its " + (thread.state == State::inBarrier ? "block" : "warp") +
             " at " + lineOf(thread.wish.where);
  }
  return words + (more > 0 ? ", and " + std::to_string(more) + " more" : "");
}

}  // namespace

Outcome runBlock(const Arguments& arguments, Order order, uint64_t shuffle) {
  return block().run(arguments, order, shuffle);
}

std::string text(const uint3& index) {
  char words[48];
  std::snprintf(words, sizeof words, "(%u, %u, %u)", index.x, index.y, index.z);
  return words;
}

bool isInKernel() { return block().isRunning(); }

void leaveBlock() { block().leave(); }

std::string runningThread() { return "thread " + text(threadIdx) + " of block " + text(blockIdx); }

bool isNearStackEnd(const void* address) {
  const Fiber* const fiber = block().fiber();
  const char* const at = static_cast<const char*>(address);
  return fiber && at < fiber->low && at >= fiber->low - (64 << 10);
}

int laneOf() { return block().lane(); }

uint64_t exchange(Exchange kind, uint32_t mask, uint64_t value, int source, Where where) {
  return block().exchange({static_cast<int>(kind), mask, value, 0, source, where, nullptr});
}
void exchangeTogether(Together compute, void* data, Where where) {
  const uint64_t value = reinterpret_cast<uint64_t>(data);
  block().exchange({static_cast<int>(Exchange::together), ~0u, value, 0, 0, where, compute});
}
int barrier(Barrier kind, int value, Where where) { return block().barrier(kind, value, where); }

void stop(const char* words, Where where) { block().stop(std::string(words) + ", " + lineOf(where)); }

}  // namespace comface::cuda::emulation
