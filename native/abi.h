// backend.h across a shared-library border in plain C: structs of numbers and strings, function pointers, a status.
// A backend library exports one symbol, comfaceBackend(); COMFACE_EXPORT_BACKEND makes it from a Compile function.
#pragma once
#include <cstdint>

#include "backend.h"

namespace comface {

inline constexpr int32_t kAbiVersion = 8;

extern "C" {
struct ComfaceStatus {
  int32_t code;  // -1: all went well, else a comface::Code
  char message[1024];
};
struct ComfaceLayer {
  int32_t op;
  const char* name;
  int32_t inputs[2], shape[4];
  int32_t out, kernel, stride, pad, from, to, of, heads, position, bias, ceil, classToken, positions, quick;
  int32_t height, width, up, down, upTaps, downTaps, padLow, padHigh, demodulate, radial, half;
  float slope, eps, momentum, temperature, weight, gain, clamp, rate, bandwidth;
};
struct ComfaceGraph {
  const ComfaceLayer* layers;
  int32_t layerCount, training, precision, threads, chunks, parts, deterministic;
  const char* choices;
};
struct ComfaceAdam {
  double learningRate, beta1, beta2, epsilon, weightDecay;
  int64_t step;
};
struct ComfacePictureStep {
  const PackedPicture* pictures;
  uint64_t pictureCount;
  const View* views;
  uint64_t viewCount;
  const float* targets;
  uint64_t targetCount;
  Normalization normalization;
};
struct ComfaceBackend {
  int32_t abi;
  void* (*compile)(const ComfaceGraph* graph, ComfaceStatus* status);
  void (*destroy)(void* program);
  void (*read)(void* program, int32_t slot, const char* name, float* out, uint64_t count, ComfaceStatus* status);
  void (*write)(void* program, int32_t slot, const char* name, const float* in, uint64_t count, ComfaceStatus* status);
  void (*forward)(void* program, const float* input, uint64_t inputCount, const float* targets, uint64_t targetCount,
                  double* losses, uint64_t lossCount, ComfaceStatus* status);
  void (*backward)(void* program, ComfaceStatus* status);
  void (*update)(void* program, const ComfaceAdam* adam, ComfaceStatus* status);
  uint64_t (*sizeBytes)(void* program);
  void (*describe)(void* program, char* text, uint64_t capacity);
  // The three of PictureSteps; makesViews tells whether a program has them.
  int32_t (*makesViews)(void* program);
  uint8_t* (*reserve)(void* program, int32_t slot, uint64_t sizeBytes, uint64_t* reserved, ComfaceStatus* status);
  void (*step)(void* program, int32_t slot, const ComfacePictureStep* step, const ComfaceAdam* adam,
               ComfaceStatus* status);
  // Losses of at most `capacity` numbers; how many there are, steps and the first step that was not finite.
  uint64_t (*collect)(void* program, double* losses, uint64_t capacity, int32_t* steps, int64_t* notFinite,
                      ComfaceStatus* status);
  uint64_t (*choices)(void* program, char* text, uint64_t capacity);  // returns the length of all, without the 0
  // Plans for a described device and tells its choices to `say`, with `context`. Null where a backend needs no device.
  uint64_t (*planFor)(const ComfaceGraph* graph, const char* device, void (*say)(void* context, const char* choices),
                      void* context, ComfaceStatus* status);
};
}

/** The table for a Compile function; used inside a backend library. */
ComfaceBackend exportBackend(Compile compile, PlanFor planFor = nullptr);
extern Compile exportedCompile;
extern PlanFor exportedPlanFor;

/** Opens a backend library and compiles a graph with it. Throws deviceUnavailable with the loader's reason. */
std::unique_ptr<Program> compileWith(const std::string& libraryPath, const Graph& graph);
/** Plans a graph for a device by its description, a text in the backend's own form. Throws invalidInput where the
 * backend cannot. */
PlannedProgram planWith(const std::string& libraryPath, const Graph& graph, const std::string& device);

/** COMFACE_EXPORT_BACKEND(compile) or (compile, planFor) */
#define COMFACE_EXPORT_BACKEND(...)                                                                   \
  extern "C" __attribute__((visibility("default"))) const comface::ComfaceBackend* comfaceBackend() { \
    static const comface::ComfaceBackend table = comface::exportBackend(__VA_ARGS__);                 \
    return &table;                                                                                    \
  }

}  // namespace comface
