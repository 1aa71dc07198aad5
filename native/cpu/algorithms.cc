// One thread is timed, by the processor's time and not the clock's: who trains on a busy machine would otherwise choose
// by its neighbours and keep that.
#include "cpu/algorithms.h"

#include <omp.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <limits>

#include "cpu/kernels.h"

namespace comface::cpu {
namespace {

constexpr const char *kDirect = "direct", *kWinograd = "winograd";
constexpr int kRounds = 3;
/** Winograd's algorithm takes more memory, so it has to be worth it. */
constexpr double kLead = 0.95;

std::string processorName() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

std::string targetName() {
  static const std::string processor = processorName();
  const dnnl_version_t* v = dnnl_version();
  return "oneDNN " + std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch) + " " +
         isaName() + " " + processor;
}

/** A cache or a manifest may hold anything. */
bool isAlgorithm(const std::string& name) { return name == kDirect || name == kWinograd; }

double threadSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double secondsOf(const Algorithms::Run& run) {
  const double begin = threadSeconds();
  run();
  return threadSeconds() - begin;
}

}  // namespace

Algorithms::Algorithms(const Graph& graph)
    : target_(targetName()), threads_(graph.threads), known_(knownChoices(graph.choices, target_)) {}

dnnl::algorithm Algorithms::choose(const std::string& key, const std::function<Run(dnnl::algorithm)>& prepare) {
  std::string& known = known_[key];
  if (!isAlgorithm(known)) {
    const std::string timed = isWinogradFaster(prepare) ? kWinograd : kDirect;
    const std::string stored = saveChoices(target_, {{key, timed}}).at(key);
    known = isAlgorithm(stored) ? stored : timed;
  }
  choices_[key] = known;
  return known == kWinograd ? dnnl::algorithm::convolution_winograd : dnnl::algorithm::convolution_direct;
}

bool Algorithms::isWinogradFaster(const std::function<Run(dnnl::algorithm)>& prepare) const {
  omp_set_num_threads(1);
  const std::array<Run, 2> runs = {prepare(dnnl::algorithm::convolution_direct),
                                   prepare(dnnl::algorithm::convolution_winograd)};
  std::array<double, 2> best;
  best.fill(std::numeric_limits<double>::infinity());
  for (const Run& run : runs) run();
  for (int round = 0; round < kRounds; ++round) {
    for (size_t i = 0; i < runs.size(); ++i) best[i] = std::min(best[i], secondsOf(runs[i]));
  }
  omp_set_num_threads(threads_);
  return best[1] < kLead * best[0];
}

}  // namespace comface::cpu
