// StyleGAN's upsampling, blur and style epilogue (Karras et al., 2019) and StyleGAN3's Fourier features (Karras et al.,
// 2021) for one instruction set; compiled as kernels.cc is. Sums over an image are of chunks of a fixed size, put
// together in order, so that the number of threads changes no bit.
#include "cpu/generator.h"

#include <omp.h>

#include "cpu/vectors.h"

namespace comface::cpu::COMFACE_ISA {
namespace {

size_t areaOf(const Size& s) { return static_cast<size_t>(s.height) * s.width; }
int64_t planesOf(const Size& s) { return static_cast<int64_t>(s.n) * s.blocks; }

/** Runs body(plane, row) for each row of each block of channels. */
template <class Body>
void forRows(int64_t planes, int height, const Body& body) {
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < planes * height; ++i) body(static_cast<size_t>(i / height), static_cast<int>(i % height));
}

void upsample(const float* x, Size in, int up, float* y) {
  const size_t row = static_cast<size_t>(in.width) * up * B;
  forRows(planesOf(in), in.height, [&](size_t plane, int i) {
    const float* from = x + (plane * in.height + i) * in.width * B;
    float* to = y + (plane * in.height + i) * up * row;
    for (int j = 0; j < in.width; ++j) {
      const Vec v = load(from + static_cast<size_t>(j) * B);
      for (int k = 0; k < up; ++k) store(to + (static_cast<size_t>(j) * up + k) * B, v);
    }
    for (int k = 1; k < up; ++k) std::memcpy(to + k * row, to, row * sizeof(float));
  });
}

void blur(const float* x, Size size, float* y) {
  const size_t row = static_cast<size_t>(size.width) * B;
  const Vec sixteenth = splat(1.0f / 16);
  forRows(planesOf(size), size.height, [&](size_t plane, int i) {
    const float* middle = x + (plane * size.height + i) * row;
    const bool isFirst = i == 0, isLast = i + 1 == size.height;
    const auto down = [&](int j) {
      if (j >= size.width) return Vec{};
      const float* p = middle + static_cast<size_t>(j) * B;
      const Vec v = load(p);
      return (isFirst ? Vec{} : load(p - row)) + (v + v) + (isLast ? Vec{} : load(p + row));
    };
    float* to = y + (plane * size.height + i) * row;
    Vec before{}, here = down(0);
    for (int j = 0; j < size.width; ++j) {
      const Vec after = down(j + 1);
      store(to + static_cast<size_t>(j) * B, (before + (here + here) + after) * sixteenth);
      before = here, here = after;
    }
  });
}

// ---- style epilogue ----

/** Positions whose sums are put together. */
constexpr size_t kChunk = 1024;

size_t chunksOf(const Size& s) { return (areaOf(s) + kChunk - 1) / kChunk; }

/** Of each chunk the sum and the squares; of each plane scale and shift. */
size_t epilogueScratch(Size s) { return static_cast<size_t>(planesOf(s)) * (chunksOf(s) + 1) * 2 * B; }

/** u: what is normalized. */
struct Bent {
  Vec noiseWeight, bias, slope;
  const float* noise;

  Bent(const EpilogueArgs& a, size_t block)
      : noiseWeight(load(a.noiseWeight + block * B)),
        bias(load(a.bias + block * B)),
        slope(splat(a.slope)),
        noise(a.noise) {}
  Vec at(const float* x, size_t p) const {
    const Vec v = load(x + p * B) + splat(noise[p]) * noiseWeight + bias;
    return v > 0 ? v : slope * v;
  }
};

/** Sums of u - pivot, pivot being the first u of the plane: a large mean costs no digits. */
void sumChunk(const EpilogueArgs& a, size_t plane, size_t chunk, float* sums) {
  const Bent u(a, plane % a.size.blocks);
  const float* x = a.x + plane * areaOf(a.size) * B;
  const Vec pivot = u.at(x, 0);
  Vec sum{}, squares{};
  const size_t end = std::min(areaOf(a.size), (chunk + 1) * kChunk);
  for (size_t p = chunk * kChunk; p < end; ++p) {
    const Vec v = u.at(x, p) - pivot;
    sum += v, squares += v * v;
  }
  store(sums, sum), store(sums + B, squares);
}

/** y = scale u + shift by the moments of a plane and its style. Padding channels stay 0. */
void combine(const EpilogueArgs& a, size_t plane, const float* sums, float* to) {
  const size_t n = plane / a.size.blocks, block = plane % a.size.blocks, chunks = chunksOf(a.size);
  const Vec pivot = Bent(a, block).at(a.x + plane * areaOf(a.size) * B, 0);
  Wide sum{}, squares{};
  for (size_t i = 0; i < chunks; ++i) {
    sum += __builtin_convertvector(load(sums + 2 * i * B), Wide);
    squares += __builtin_convertvector(load(sums + (2 * i + 1) * B), Wide);
  }
  const float* style = a.style + n * 2 * a.channels;
  const double count = static_cast<double>(areaOf(a.size));
  for (int j = 0; j < B; ++j) {
    const int c = static_cast<int>(block) * B + j;
    const double shifted = sum[j] / count, rest = squares[j] / count - shifted * shifted;
    const double variance = rest < 0 ? 0 : rest;  // a NaN stays one
    const bool isChannel = c < a.channels;
    const double scale = isChannel ? (style[c] + 1.0) / std::sqrt(variance + a.eps) : 0;
    to[j] = static_cast<float>(scale);
    to[B + j] = isChannel ? static_cast<float>(style[a.channels + c] - scale * (shifted + pivot[j])) : 0;
  }
}

void epilogue(const EpilogueArgs& a) {
  const int64_t planes = planesOf(a.size), chunks = static_cast<int64_t>(chunksOf(a.size));
  const auto sumsOf = [&](int64_t plane) { return a.sums + static_cast<size_t>(plane) * (chunks + 1) * 2 * B; };
#pragma omp parallel
  {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < planes * chunks; ++i) {
      sumChunk(a, i / chunks, i % chunks, sumsOf(i / chunks) + (i % chunks) * 2 * B);
    }
#pragma omp for schedule(static)
    for (int64_t plane = 0; plane < planes; ++plane) {
      combine(a, plane, sumsOf(plane), sumsOf(plane) + chunks * 2 * B);
    }
#pragma omp for schedule(static)
    for (int64_t i = 0; i < planes * chunks; ++i) {
      const size_t plane = i / chunks, first = (i % chunks) * kChunk, at = plane * areaOf(a.size) * B;
      const Bent u(a, plane % a.size.blocks);
      const float* moments = sumsOf(plane) + chunks * 2 * B;
      const Vec scale = load(moments), shift = load(moments + B);
      const size_t end = std::min(areaOf(a.size), first + kChunk);
      for (size_t p = first; p < end; ++p) store(a.y + at + p * B, scale * u.at(a.x + at, p) + shift);
    }
  }
}

// ---- Fourier features ----

constexpr double kPi = 3.14159265358979323846;

/** Sine and cosine at each row, then at each column. */
size_t fourierScratch(Size s) { return (static_cast<size_t>(s.height) + s.width) * 2 * B; }

/** A channel's frequency and phase after the transform of the plane, in turns, and its amplitude. */
struct Wave {
  double x = 0, y = 0, phase = 0, amplitude = 0;

  Wave() = default;
  Wave(const FourierArgs& a, size_t n, int channel) {
    const float *t = a.t + n * 4, *m = a.transform;
    const double length = std::sqrt(double{t[0]} * t[0] + double{t[1]} * t[1]);
    const double cosine = t[0] / length, sine = t[1] / length, right = t[2] / length, below = t[3] / length;
    double moved[2][3], turned[2][3];
    for (int i = 0; i < 3; ++i) {
      moved[0][i] = m[i] - right * m[6 + i], moved[1][i] = m[3 + i] - below * m[6 + i];
      turned[0][i] = cosine * moved[0][i] - sine * moved[1][i];
      turned[1][i] = sine * moved[0][i] + cosine * moved[1][i];
    }
    const double u = a.freqs[2 * channel], v = a.freqs[2 * channel + 1];
    x = u * turned[0][0] + v * turned[1][0], y = u * turned[0][1] + v * turned[1][1];
    phase = a.phases[channel] + u * turned[0][2] + v * turned[1][2];
    const double fading = 1 - (std::sqrt(x * x + y * y) - a.bandwidth) / (a.rate / 2.0 - a.bandwidth);
    amplitude = fading < 0 ? 0 : fading > 1 ? 1 : fading;
  }
};

/** By sin(a + b) = sin a cos b + cos a sin b, a of the row with the phase, b of the column. */
void fourierPlane(const FourierArgs& a, size_t n, size_t block, float* memory) {
  const auto [samples, blocks, height, width] = a.size;
  float *rows = memory, *columns = memory + static_cast<size_t>(height) * 2 * B;
  for (int j = 0; j < B; ++j) {
    const int channel = static_cast<int>(block) * B + j;
    const Wave wave = channel < a.channels ? Wave(a, n, channel) : Wave();
    for (int i = 0; i < height; ++i) {
      const double turns = wave.y * ((i + 0.5 - height / 2.0) / a.rate) + wave.phase;
      rows[(2 * i) * B + j] = static_cast<float>(wave.amplitude * std::sin(2 * kPi * turns));
      rows[(2 * i + 1) * B + j] = static_cast<float>(wave.amplitude * std::cos(2 * kPi * turns));
    }
    for (int i = 0; i < width; ++i) {
      const double turns = wave.x * ((i + 0.5 - width / 2.0) / a.rate);
      columns[(2 * i) * B + j] = static_cast<float>(std::sin(2 * kPi * turns));
      columns[(2 * i + 1) * B + j] = static_cast<float>(std::cos(2 * kPi * turns));
    }
  }
  float* y = a.y + (n * blocks + block) * areaOf(a.size) * B;
  for (int i = 0; i < height; ++i) {
    const float* row = rows + static_cast<size_t>(i) * 2 * B;
    const Vec sine = load(row), cosine = load(row + B);
    for (int k = 0; k < width; ++k, y += B) {
      const float* column = columns + static_cast<size_t>(k) * 2 * B;
      store(y, sine * load(column + B) + cosine * load(column));
    }
  }
}

void fourier(const FourierArgs& a) {
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < planesOf(a.size); ++i) {
    float* memory = a.scratch + omp_get_thread_num() * fourierScratch(a.size);
    fourierPlane(a, i / a.size.blocks, i % a.size.blocks, memory);
  }
}

}  // namespace

extern const Generator generator;
const Generator generator = {upsample, blur, epilogue, epilogueScratch, fourier, fourierScratch};

}  // namespace comface::cpu::COMFACE_ISA
