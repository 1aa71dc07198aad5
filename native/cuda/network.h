// A graph lowered to steps with every buffer placed: everything about a program that needs no device memory. Tests
// build one for a described GPU; a CudaProgram gives it an arena and runs it.
#pragma once
#include "backend.h"
#include "cuda/tensor.h"

namespace comface::cuda {

class Network {
 public:
  /** isFusing: use cuDNN's fused plans where it has them. */
  Network(const Graph& graph, Planner& planner, bool isFusing);
  Network(const Network&) = delete;

  /** Bytes of the one arena. */
  size_t arenaBytes() const { return arenaBytes_; }
  /** Of these, what does not depend on the batch: parameters with their moments and the workspace. */
  size_t fixedBytes() const;
  Context& context() { return context_; }
  const Context& context() const { return context_; }
  /** Where the gradient is put that a graph without losses begins with. */
  int seed() const { return seed_; }

  void bind(char* arena, cudaStream_t stream, cublasLtHandle_t blas);
  /** Enqueue; nothing waits. */
  void forward();
  void backward();
  /** Adam by the numbers in Context::numbers. */
  void update();

 private:
  StepPtr stepOf(int layer);
  void makeSteps();
  void placeParameters();
  void plan();
  bool isOfImages(const Step& step) const;
  void forwardImages(int chunk);
  void addGradients(int chunk);

  const Graph graph_;
  const Lowered lowered_;
  Context context_;
  std::vector<StepPtr> steps_;
  std::vector<Step*> backwardSteps_;
  PartSum inputSum_;
  int seed_ = -1;
  int chunkSums_ = -1;
  size_t imageGradients_ = 0;  // floats of the flat gradients that every chunk writes
  size_t arenaBytes_ = 0;
};

StepNumbers numbersOf(const Adam& adam);

}  // namespace comface::cuda
