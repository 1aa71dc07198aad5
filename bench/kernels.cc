// Times our own CUDA kernels on the device, by its events, beside what their bytes and FLOP would take at best.
//   kernels CASE SIZE [fp32|bf16|fp16] [--seconds S]
// CASE and SIZE: infonce ROWS (forward and backward, 128 wide), augment PICTURES (256 x 256 to three views of 224),
// adam NUMBERS, norm ROWS (batch normalization with relu, 256 channels, forward and backward), layerNorm TOKENS (768
// channels, forward and backward), attention PICTURES (197 tokens, 12 heads of 64, forward and backward), efficient
// PICTURES (50 x 50 positions, one head of 64, forward and backward), filtered and radial CHANNELS (84 x 84 to 148 x
// 148, as in a layer of StyleGAN3-T or -R; fp32 or fp16), copy BYTES (the memory's own rate: the roof of the others).
// Prints one line of JSON. bench/gpu.mjs runs it.
#include "cuda/kernels.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cuda/augment.h"
#include "cuda/generator.h"
#include "cuda/runtime.h"

namespace comface::cuda {
namespace {

constexpr int kSamples = 7;     // at least
constexpr float kSampleMs = 5;  // of launches one after the other: far more than an event's resolution
constexpr int kWidth = 128;     // of InfoNCE
constexpr int kChannels = 256;  // of the normalization
constexpr int kEdge = 256, kView = 224;
constexpr int kTokens = 197, kHeads = 12, kHeadWidth = 64;  // of ViT-B/16
constexpr int kPositions = 50 * 50, kFaceCycleWidth = 64;   // of PCL's network at its 100 pixels

/** What is timed; bytes and FLOP of one run that cannot be avoided. */
struct Work {
  std::function<void(cudaStream_t)> run;
  double bytes = 0, flop = 0;
  size_t memoryBytes = 0;  // buffers, results of backward included
  std::vector<std::unique_ptr<DeviceMemory>> buffers;

  template <class T = float>
  T* buffer(size_t count) {
    buffers.push_back(std::make_unique<DeviceMemory>(count * sizeof(T)));
    memoryBytes += count * sizeof(T);
    return reinterpret_cast<T*>(buffers.back()->data());
  }
  template <class T>
  T* filled(const std::vector<T>& values) {
    T* const data = buffer<T>(values.size());
    check(cudaMemcpy(data, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "an upload");
    return data;
  }
};

std::vector<float> drawn(size_t count) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(random);
  return values;
}

Work infoNceWork(int rows) {
  Work work;
  const size_t count = static_cast<size_t>(rows) * kWidth;
  float *z = work.filled(drawn(count)), *lengths = work.buffer(rows),
        *saved = work.buffer(2 * static_cast<size_t>(rows));
  float* dz = work.buffer(count);
  const float* factor = work.filled(std::vector<float>{1});
  double* loss = work.buffer<double>(1);
  char* scratch = work.buffer<char>(infoNceScratch(rows, kWidth));
  l2Normalize(z, rows, kWidth, z, lengths, nullptr);
  const InfoNce args{z, rows, kWidth, 0.1f, true, saved, scratch};
  work.run = [=](cudaStream_t stream) {
    infoNce(args, loss, stream);
    infoNceBackward(args, factor, dz, stream);
  };
  work.bytes = 8.0 * count;
  work.flop =
      5.0 * rows * rows * kWidth;  // the half of the similarities; in backward all of them, and their product with z
  return work;
}

Work augmentWork(int pictures, Number number) {
  Work work;
  const int copies = 3, views = copies * pictures;
  std::vector<uint8_t> pixels(packedBytes(kEdge, kEdge) * pictures);
  std::mt19937 random(1);
  for (uint8_t& pixel : pixels) pixel = static_cast<uint8_t>(random());
  std::vector<PackedPicture> places;
  for (int i = 0; i < pictures; ++i)
    places.push_back({packedBytes(kEdge, kEdge) * i, kEdge, kEdge, packedPitch(kEdge)});
  const AugmentSettings settings;
  std::vector<View> draws;
  for (int i = 0; i < views; ++i) {
    const auto key = ViewKey{1, 1, static_cast<uint32_t>(i % pictures), static_cast<uint32_t>(i / pictures)};
    draws.push_back(drawView(kEdge, kEdge, settings, key));
    draws.back().picture = i % pictures;
  }
  const size_t out = static_cast<size_t>(views) * kView * kView * paddedChannels(3) * sizeOf(number);
  const AugmentArgs args{
      work.filled(pixels),      work.filled(places), work.filled(draws), work.buffer<char>(out), views, kView,
      normalizationOf(settings)};
  work.run = [=](cudaStream_t stream) { augment(number, args, copies, stream); };
  work.bytes = static_cast<double>(pixels.size() + out);
  return work;
}

Work adamWork(size_t count, Number number) {
  Work work;
  count = (count + 3) / 4 * 4;
  AdamArgs args{};
  args.values = work.filled(drawn(count)), args.gradients = work.filled(drawn(count));
  args.firstMoments = work.buffer(count), args.secondMoments = work.buffer(count), args.count = count;
  if (number != Number::fp32) args.copy = work.buffer<char>(count * sizeOf(number));
  args.numbers = work.filled(std::vector<StepNumbers>{{4e-4f, 0.9f, 0.999f, 1e-8f, 0, 0.1f, 0.001f, 0.1f, 0.001f}});
  args.flags = work.filled(std::vector<StepFlags>{{0, 1, 1, 0, 0}});
  args.scale = work.filled(std::vector<LossScale>{{1, 0}});
  void* const scratch = work.buffer<char>(adamScratch(count));
  work.run = [=](cudaStream_t stream) { adam(number, args, scratch, stream); };
  work.bytes = (32.0 + (args.copy ? 2 : 0)) * count;
  return work;
}

Work normWork(size_t rows, Number number) {
  Work work;
  const size_t count = rows * kChannels;
  const float* values = work.filled(drawn(count));
  char *x = work.buffer<char>(count * sizeOf(number)), *y = work.buffer<char>(count * sizeOf(number));
  char* gradient = work.buffer<char>(count * sizeOf(number));
  convert(number, values, count, x, nullptr);
  convert(number, values, count, gradient, nullptr);
  Norm norm{};
  const std::vector<float> ones(kChannels, 1);
  norm.gamma = work.filled(ones), norm.beta = work.filled(ones);
  norm.dGamma = work.buffer(kChannels), norm.dBeta = work.buffer(kChannels);
  norm.runningMean = work.buffer(kChannels), norm.runningVar = work.buffer(kChannels);
  norm.mean = work.buffer(kChannels), norm.inverse = work.buffer(kChannels);
  norm.scale = work.buffer(kChannels), norm.shift = work.buffer(kChannels);
  norm.eps = 1e-5f, norm.momentum = 0.1f;
  float* const scratch = work.buffer(normScratch(rows, kChannels));
  work.run = [=](cudaStream_t stream) {
    normStatistics(number, x, rows, kChannels, norm, scratch, stream);
    normApply(number, {rows, kChannels, x, nullptr, y, norm.scale, norm.shift, nullptr, nullptr, Residual::none, true},
              stream);
    NormBackward backward{};
    backward.m = rows, backward.c = kChannels, backward.x = x, backward.y = y;
    backward.gradient = gradient, backward.dx = gradient, backward.norm = norm, backward.relu = true;
    normBackward(number, backward, scratch, stream);
  };
  // Statistics read x; apply reads x and writes y; the sums of backward read x and d, its apply reads both and writes.
  work.bytes = (1.0 + 2 + 2 + 3) * count * sizeOf(number);
  return work;
}

/** Numbers in an image's type. */
char* converted(Work& work, Number number, size_t count) {
  char* const data = work.buffer<char>(count * sizeOf(number));
  convert(number, work.filled(drawn(count)), count, data, nullptr);
  return data;
}

Work layerNormWork(size_t rows, Number number) {
  Work work;
  constexpr int kWide = kHeads * kHeadWidth;
  const size_t count = rows * kWide;
  char *x = converted(work, number, count), *gradient = converted(work, number, count);
  const std::vector<float> ones(kWide, 1);
  const LayerNorm norm{rows,
                       kWide,
                       x,
                       work.buffer<char>(count * sizeOf(number)),
                       work.filled(ones),
                       work.filled(ones),
                       work.buffer(kWide),
                       work.buffer(kWide),
                       work.buffer(rows),
                       work.buffer(rows),
                       1e-6f};
  float* const scratch = work.buffer(layerNormScratch(rows, kWide));
  work.run = [=](cudaStream_t stream) {
    layerNorm(number, norm, stream);
    layerNormBackward(number, norm, gradient, scratch, stream);
  };
  // x and y; in backward x and dy for the parameters' gradients, then both again and dx.
  work.bytes = (2.0 + 2 + 3) * count * sizeOf(number);
  return work;
}

Work attentionWork(int pictures, Number number) {
  Work work;
  const size_t rows = static_cast<size_t>(pictures) * kTokens, channels = kHeads * kHeadWidth;
  const size_t queries = rows * kHeads;
  char *x = converted(work, number, 3 * rows * channels), *dy = converted(work, number, rows * channels);
  char *y = work.buffer<char>(rows * channels * sizeOf(number)),
       *dx = work.buffer<char>(3 * rows * channels * sizeOf(number));
  const Attention args{pictures, kTokens, kHeads, kHeadWidth, x, y, work.buffer(queries)};
  float* const slopes = work.buffer(queries);
  work.run = [=](cudaStream_t stream) {
    attention(number, args, stream);
    attentionBackward(number, args, dy, dx, slopes, stream);
  };
  // Forward reads x and writes y; backward reads x, y and dy and writes dx.
  work.bytes = (4.0 + 8) * rows * channels * sizeOf(number);
  // Two products forward; five backward, of which scores and their slopes cannot be kept and are made once at least.
  work.flop = (2.0 + 5) * 2 * kTokens * rows * channels;
  return work;
}

Work efficientWork(int pictures, Number number) {
  Work work;
  const size_t count = static_cast<size_t>(pictures) * kPositions * kFaceCycleWidth;
  char *x = converted(work, number, 3 * count), *dy = converted(work, number, count);
  char *y = work.buffer<char>(count * sizeOf(number)), *dx = work.buffer<char>(3 * count * sizeOf(number));
  EfficientAttention args{pictures, kPositions, 1, kFaceCycleWidth, x, y, nullptr, nullptr};
  args.saved = work.buffer(efficientSaved(args)), args.scratch = work.buffer(efficientScratch(args));
  work.run = [=](cudaStream_t stream) {
    efficientAttention(number, args, stream);
    efficientAttentionBackward(number, args, dy, dx, stream);
  };
  // Forward reads x and writes y; backward reads x, y and dy and writes dx.
  work.bytes = (4.0 + 8) * count * sizeOf(number);
  work.flop = (2.0 + 4) * 2 * kFaceCycleWidth * count;
  return work;
}

Work filteredWork(int channels, Number number, bool isRadial) {
  Work work;
  constexpr int kIn = 84, kOut = 148, kUp = 4, kDown = 2, kUpTaps = 24, kDownTaps = 12;
  const int c = paddedChannels(channels);
  // By how much padding the result is as wide as StyleGAN3's; more before than behind.
  constexpr int kTotal = (kOut - 1) * kDown + 1 - kIn * kUp + kUpTaps + kDownTaps - 2, kPadLow = (kTotal + kUp) / 2;
  const size_t in = size_t{kIn} * kIn * c, out = size_t{kOut} * kOut * c;
  const FilteredRelu args{1,
                          c,
                          kIn,
                          kIn,
                          kOut,
                          kOut,
                          kUp,
                          kDown,
                          kUpTaps,
                          kDownTaps,
                          kPadLow,
                          isRadial,
                          0.2f,
                          1.41f,
                          256,
                          number,
                          converted(work, number, in),
                          work.filled(drawn(c)),
                          work.filled(drawn(kUpTaps)),
                          work.filled(drawn(isRadial ? kDownTaps * kDownTaps : kDownTaps)),
                          work.buffer<char>(out * sizeOf(number))};
  work.run = [=](cudaStream_t stream) { filteredRelu(args, stream); };
  work.bytes = static_cast<double>(sizeOf(number) * (in + out));
  // Of each number of the result, kDown * kDown between the filters: up along rows (of every kUp-th), then columns;
  // down.
  const double between = kDown * kDown, up = between * (kUpTaps / kUp) * (1 + 1.0 / kUp);
  const double down = isRadial ? kDownTaps * kDownTaps : kDownTaps * (1 + kDown);
  work.flop = 2 * (up + down) * static_cast<double>(out);
  return work;
}

Work copyWork(size_t bytes) {
  Work work;
  char *from = work.buffer<char>(bytes), *to = work.buffer<char>(bytes);
  work.run = [=](cudaStream_t stream) {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream), "a copy");
  };
  work.bytes = 2.0 * bytes;
  return work;
}

/** Milliseconds of `launches` runs. */
float timed(const Work& work, int launches, cudaStream_t stream, cudaEvent_t begin, cudaEvent_t end) {
  check(cudaEventRecord(begin, stream), "an event");
  for (int i = 0; i < launches; ++i) work.run(stream);
  check(cudaEventRecord(end, stream), "an event");
  check(cudaEventSynchronize(end), "the kernels");
  float ms = 0;
  check(cudaEventElapsedTime(&ms, begin, end), "the time");
  return ms;
}

void measure(const std::string& name, size_t size, const char* type, const Work& work, double seconds) {
  const Stream stream;
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin), "an event"), check(cudaEventCreate(&end), "an event");
  check(cudaDeviceSynchronize(), "the preparation");
  timed(work, 3, stream, begin, end);
  const float once = std::max(timed(work, 1, stream, begin, end), 1e-3f);
  const int launches = std::clamp(static_cast<int>(kSampleMs / once), 1, 1000);
  std::vector<float> samples;
  for (double spent = 0; spent < 1000 * seconds || samples.size() < kSamples;) {
    const float ms = timed(work, launches, stream, begin, end);
    samples.push_back(ms / launches), spent += ms;
  }
  std::sort(samples.begin(), samples.end());
  const auto at = [&](double share) { return samples[static_cast<size_t>(share * (samples.size() - 1))]; };
  printf(
      "{\"case\":\"%s\",\"size\":%zu,\"precision\":\"%s\",\"medianMs\":%.6g,\"p25Ms\":%.6g,\"p75Ms\":%.6g,"
      "\"samples\":%zu,\"launches\":%d,\"bytes\":%.0f,\"flop\":%.0f,\"memoryBytes\":%zu}\n",
      name.c_str(), size, type, at(0.5), at(0.25), at(0.75), samples.size(), launches, work.bytes, work.flop,
      work.memoryBytes);
  cudaEventDestroy(begin), cudaEventDestroy(end);
}

int benchmark(int argc, char** argv) {
  double seconds = 0.5;
  std::vector<std::string> words;
  for (int i = 1; i < argc; ++i) {
    if (!std::strcmp(argv[i], "--seconds") && i + 1 < argc)
      seconds = std::atof(argv[++i]);
    else
      words.push_back(argv[i]);
  }
  const std::string name = words.empty() ? "" : words[0], type = words.size() > 2 ? words[2] : "bf16";
  const size_t size = words.size() > 1 ? std::strtoull(words[1].c_str(), nullptr, 10) : 0;
  const Number number = type == "fp32" ? Number::fp32 : type == "fp16" ? Number::fp16 : Number::bf16;
  try {
    if (size == 0)
      throw Error(
          Code::invalidInput,
          "kernels infonce|augment|adam|norm|layerNorm|attention|efficient|filtered|radial|copy SIZE [fp32|bf16|fp16]");
    // What takes and gives nothing else; of the filters, in no third type.
    const bool isFilter = name == "filtered" || name == "radial";
    const char* const shown = name == "infonce" || (isFilter && number != Number::fp16) ? "fp32" : type.c_str();
    const Number filtered = number == Number::fp16 ? number : Number::fp32;
    const Work work = name == "infonce"     ? infoNceWork(static_cast<int>(size))
                      : name == "augment"   ? augmentWork(static_cast<int>(size), number)
                      : name == "adam"      ? adamWork(size, number)
                      : name == "norm"      ? normWork(size, number)
                      : name == "layerNorm" ? layerNormWork(size, number)
                      : name == "attention" ? attentionWork(static_cast<int>(size), number)
                      : name == "efficient" ? efficientWork(static_cast<int>(size), number)
                      : name == "filtered"  ? filteredWork(static_cast<int>(size), filtered, false)
                      : name == "radial"    ? filteredWork(static_cast<int>(size), filtered, true)
                      : name == "copy"      ? copyWork(size)
                                            : throw Error(Code::invalidInput, "There is no case " + name);
    measure(name, size, shown, work, seconds);
  } catch (const std::exception& e) {
    fprintf(stderr, "kernels: %s\n", e.what());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace comface::cuda

int main(int argc, char** argv) { return comface::cuda::benchmark(argc, argv); }
