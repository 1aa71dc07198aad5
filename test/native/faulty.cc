// A backend that fails on demand: the plain loops, and before each call the faults that the graph's layer names ask
// for. A layer named `fault <call> <n> <what>` makes the n-th such call (counted from 1; `n+`: that and every later
// one) do `what`. Calls: compile read write forward backward update describe sizeBytes; `any` counts all but the last
// two. What: the name of a comface::Code, or exception, badAlloc, int (throws an int), sleep<ms> (waits, then goes
// on), crowded (outOfMemory if another program of this backend is there).
//   { op: 'relu', name: 'fault forward 2 deviceFailed', input: 'features' }
#include <atomic>
#include <chrono>
#include <map>
#include <new>
#include <sstream>
#include <stdexcept>
#include <thread>
#include <vector>

#include "abi.h"
#include "reference/backend.h"

namespace comface {
namespace {

struct Fault {
  std::string call, what;
  int64_t first = 1;
  bool forGood = false;
};

const std::map<std::string, Code> kCodes = {
    {"invalidConfig", Code::invalidConfig}, {"invalidInput", Code::invalidInput},
    {"corruptFile", Code::corruptFile},     {"deviceUnavailable", Code::deviceUnavailable},
    {"deviceFailed", Code::deviceFailed},   {"outOfMemory", Code::outOfMemory},
    {"notFinite", Code::notFinite},         {"io", Code::io}};

std::vector<Fault> faultsOf(const Graph& graph) {
  std::vector<Fault> faults;
  for (const Layer& layer : graph.layers) {
    if (!layer.name.starts_with("fault ")) continue;
    std::istringstream words(layer.name);
    Fault fault;
    std::string word, count;
    words >> word >> fault.call >> count >> fault.what;
    fault.forGood = count.ends_with("+");
    fault.first = std::atoll(count.c_str());
    if (fault.first < 1 || fault.what.empty()) {
      throw Error(Code::invalidConfig, "Expected `fault <call> <n> <what>` but received `" + layer.name + "`.");
    }
    faults.push_back(fault);
  }
  return faults;
}

std::atomic<int> programs = 0;

void act(const Fault& fault) {
  if (const auto code = kCodes.find(fault.what); code != kCodes.end()) {
    throw Error(code->second, "A fault on demand in " + fault.call + ".");
  }
  if (fault.what == "exception") throw std::runtime_error("A fault on demand in " + fault.call + ".");
  if (fault.what == "badAlloc") throw std::bad_alloc();
  if (fault.what == "int") throw 42;
  if (fault.what.starts_with("sleep")) {
    std::this_thread::sleep_for(std::chrono::milliseconds(std::atoll(fault.what.c_str() + 5)));
    return;
  }
  if (fault.what == "crowded") {
    if (programs > 1) throw Error(Code::outOfMemory, "There is another program.");
    return;
  }
  throw Error(Code::invalidConfig, "Expected a known fault but received `" + fault.what + "`.");
}

class Faulty final : public Program {
 public:
  explicit Faulty(const Graph& graph) : faults_(faultsOf(graph)) {
    on("compile");
    program_ = compileReference(graph);
  }
  void read(Slot slot, const std::string& name, std::span<float> out) override {
    on("read");
    program_->read(slot, name, out);
  }
  void write(Slot slot, const std::string& name, std::span<const float> in) override {
    on("write");
    program_->write(slot, name, in);
  }
  void forward(std::span<const float> input, std::span<const float> targets, std::span<double> losses) override {
    on("forward");
    program_->forward(input, targets, losses);
  }
  void backward() override {
    on("backward");
    program_->backward();
  }
  void update(const Adam& adam) override {
    on("update");
    program_->update(adam);
  }
  size_t sizeBytes() const override {
    on("sizeBytes", false);
    return program_->sizeBytes();
  }
  std::string describe() const override {
    on("describe", false);
    return "faults on demand over " + program_->describe();
  }

 private:
  void on(const std::string& call, bool counted = true) const {
    const int64_t nth = ++calls_[call], any = counted ? ++calls_["any"] : 0;
    for (const Fault& fault : faults_) {
      const int64_t now = fault.call == call ? nth : fault.call == "any" ? any : 0;
      if (now == fault.first || (fault.forGood && now > fault.first)) act(fault);
    }
  }

  const struct Here {
    Here() { ++programs; }
    ~Here() { --programs; }
  } here_;
  std::vector<Fault> faults_;
  mutable std::map<std::string, int64_t> calls_;
  std::unique_ptr<Program> program_;
};

std::unique_ptr<Program> compileFaulty(const Graph& graph) { return std::make_unique<Faulty>(graph); }

}  // namespace
}  // namespace comface

COMFACE_EXPORT_BACKEND(comface::compileFaulty)
