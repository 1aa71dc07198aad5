// Packed 8-bit pictures -> viewCount x S x S x 8 normalized views. One block makes one view, tile by tile: rows of the
// tile are summed into shared memory, columns into registers, and the pixel goes through its adjustments to its place.
// Contrast wants the mean gray of the whole view first, so all up to it is done twice: a float view of 224 (600 KB)
// fits no shared memory, a byte or half one costs more digits than bf16 has, and the second time the picture is in L2.
// Roof: the writes. Three views of a pair at 224 are 3 x 803 KB (16-bit) and 2 x 197 KB read, 0.65 us at 4.3 TB/s: one
// cycle of an H200's SM a pixel, or 128 instructions. By its PTX a view with all adjustments takes about 220 (30 FLOP
// to resize, 50 to adjust, twice up to contrast): half the roof. Not measured.
#include "cuda/augment.h"
#include "cuda/launch.h"
#include "cuda/number.h"
#include "formulas.h"

namespace comface::cuda {
namespace {

constexpr int kColumns = 32, kWarps = 8, kPixels = 4;  // a tile is 32 columns x 32 rows; a thread has 4 pixels of one
constexpr int kRows = kWarps * kPixels, kThreads = kColumns * kWarps;
constexpr int kLoads = 16;          // of eight bytes: how much of a row of the picture a tile sees at once
constexpr int kPitch = kLoads * 8;  // floats of a row in shared memory
constexpr size_t kTileBytes = sizeof(float) * kRows * kPitch;

/** The triangle filter of one row or column: input pixel first + k weighs gain max(0, 1 - |offset + k| / support). */
struct Taps {
  int first, count;
  float offset, gain;
};

/** What the threads of a block share. */
struct Scene {
  const uint8_t* corner;  // the crop's first row, at the picture's first pixel
  int left, pitchBytes;   // of the crop, in pixels; of the picture
  int size;
  float inverseX, inverseY;    // 1 / support
  const Taps *columns, *rows;  // size each, in shared memory
  float* tile;                 // kRows x kPitch: rows of interleaved pixels, shared memory
};

__device__ inline int threadOfBlock() { return static_cast<int>(threadIdx.y * kColumns + threadIdx.x); }

/** Of an input pixel at this distance from the center. */
__device__ inline float weightOf(const Taps& taps, float distance, float inverseSupport) {
  return taps.gain * fmaxf(1 - fabsf(distance) * inverseSupport, 0);
}

/** taps: of `to` output pixels, weights of each adding up to `gain`. In double, as on the CPU: a filter must not begin
 * one pixel later. */
__device__ void prepareTaps(int from, int to, double gain, Taps* taps) {
  const double scale = static_cast<double>(from) / to;
  for (int i = threadOfBlock(); i < to; i += kThreads) {
    const formulas::Triangle filter(i, from, scale);
    taps[i] = {filter.first, filter.count, static_cast<float>(filter.distance(0)),
               static_cast<float>(gain / filter.total())};
  }
}

__device__ inline void addBytes(uint32_t four, float weight, float* sums) {
  sums[0] += weight * static_cast<float>(four & 255);
  sums[1] += weight * static_cast<float>(four >> 8 & 255);
  sums[2] += weight * static_cast<float>(four >> 16 & 255);
  sums[3] += weight * static_cast<float>(four >> 24);
}

/** tile[row][i] = sum over the row's taps of byte i, for `rows` rows from y0 and `loads` x 8 bytes from `firstByte`. */
__device__ void sumRows(const Scene& scene, int y0, int rows, int firstByte, int loads) {
  int lanesLog = 4;  // of a row; a narrow crop has more rows in a warp
  while (lanesLog > 1 && loads <= 1 << (lanesLog - 1)) --lanesLog;
  const int lane = threadOfBlock() & ((1 << lanesLog) - 1);
  if (lane >= loads) return;
  for (int row = threadOfBlock() >> lanesLog; row < rows; row += kThreads >> lanesLog) {
    const Taps taps = scene.rows[y0 + row];
    const uint8_t* from = scene.corner + static_cast<size_t>(taps.first) * scene.pitchBytes + firstByte + 8 * lane;
    float sums[8] = {}, distance = taps.offset;
#pragma unroll 2  // most filters see two pixels
    for (int k = 0; k < taps.count; ++k, distance += 1, from += scene.pitchBytes) {
      const uint2 eight = *reinterpret_cast<const uint2*>(from);
      const float weight = weightOf(taps, distance, scene.inverseY);
      addBytes(eight.x, weight, sums), addBytes(eight.y, weight, sums + 4);
    }
    float4* const to = reinterpret_cast<float4*>(scene.tile + row * kPitch + 8 * lane);
    to[0] = make_float4(sums[0], sums[1], sums[2], sums[3]);
    to[1] = make_float4(sums[4], sums[5], sums[6], sums[7]);
  }
}

/** The thread's pixels of the tile at (x0, y0), resized: column threadIdx.x, rows threadIdx.y + kWarps p. Those outside
 * the view hold anything. The columns of the crop come in chunks, so that any picture will do. */
__device__ void resizeTile(const Scene& scene, int x0, int y0, float (&pixels)[kPixels][3]) {
  const int lastColumn = min(x0 + kColumns, scene.size) - 1, rows = min(kRows, scene.size - y0);
  const int end = scene.columns[lastColumn].first + scene.columns[lastColumn].count;
  const Taps taps = scene.columns[min(x0 + static_cast<int>(threadIdx.x), lastColumn)];
#pragma unroll
  for (int p = 0; p < kPixels; ++p) pixels[p][0] = pixels[p][1] = pixels[p][2] = 0;
  for (int from = scene.columns[x0].first, to; from < end; from = to) {
    const int byte = 3 * (scene.left + from), shift = byte & 7;  // loads begin at a multiple of eight
    to = min(end, from + (kPitch - shift) / 3);
    __syncthreads();  // the chunk before has been read
    sumRows(scene, y0, rows, byte - shift, (shift + 3 * (to - from) + 7) / 8);
    __syncthreads();
    const int last = min(taps.count, to - taps.first);
    int k = max(0, from - taps.first);
    float distance = taps.offset + static_cast<float>(k);
    const float* column = scene.tile + threadIdx.y * kPitch + shift + 3 * (taps.first + k - from);
#pragma unroll 2
    for (; k < last; ++k, distance += 1, column += 3) {
      const float weight = weightOf(taps, distance, scene.inverseX);
      const float* pixel = column;
#pragma unroll
      for (int p = 0; p < kPixels; ++p, pixel += kWarps * kPitch) {
        pixels[p][0] += weight * pixel[0];
        pixels[p][1] += weight * pixel[1];
        pixels[p][2] += weight * pixel[2];
      }
    }
  }
}

template <class F>
__device__ void forEach(float (&pixels)[kPixels][3], const F& change) {
#pragma unroll
  for (int p = 0; p < kPixels; ++p) change(pixels[p][0], pixels[p][1], pixels[p][2]);
}

/** mean: of the gray view, for contrast. */
__device__ void adjust(Adjustment adjustment, float factor, float mean, float (&pixels)[kPixels][3]) {
  const auto blend = [&](float& r, float& g, float& b, float base) {
    r = formulas::blended(r, factor, base), g = formulas::blended(g, factor, base);
    b = formulas::blended(b, factor, base);
  };
  switch (adjustment) {
    case Adjustment::brightness:
      return forEach(pixels, [&](float& r, float& g, float& b) {
        r = formulas::brightened(r, factor), g = formulas::brightened(g, factor), b = formulas::brightened(b, factor);
      });
    case Adjustment::contrast:
      return forEach(pixels, [&](float& r, float& g, float& b) { blend(r, g, b, (1 - factor) * mean); });
    case Adjustment::saturation:
      return forEach(pixels,
                     [&](float& r, float& g, float& b) { blend(r, g, b, (1 - factor) * formulas::luma(r, g, b)); });
    case Adjustment::hue:
      return forEach(pixels, [&](float& r, float& g, float& b) { formulas::shiftHue(r, g, b, 6 * factor); });
  }
}

/** Calls use(x, y, pixel) for each of the thread's pixels after the first `adjustments` adjustments. */
template <class F>
__device__ void forPixels(const Scene& scene, const View& view, int adjustments, float mean, const F& use) {
  for (int y0 = 0; y0 < scene.size; y0 += kRows) {
    for (int x0 = 0; x0 < scene.size; x0 += kColumns) {
      float pixels[kPixels][3];
      resizeTile(scene, x0, y0, pixels);
      for (int i = 0; i < adjustments; ++i) adjust(view.adjustments[i], view.factors[i], mean, pixels);
      const int x = x0 + static_cast<int>(threadIdx.x);
#pragma unroll
      for (int p = 0; p < kPixels; ++p) {
        const int y = y0 + static_cast<int>(threadIdx.y) + kWarps * p;
        if (x < scene.size && y < scene.size) use(x, y, pixels[p]);
      }
    }
  }
}

/** Mean of the gray view after the first `adjustments` adjustments; always added up in the same order. */
__device__ float grayMean(const Scene& scene, const View& view, int adjustments) {
  double total = 0;
  forPixels(scene, view, adjustments, 0,
            [&](int, int, const float(&p)[3]) { total += formulas::luma(p[0], p[1], p[2]); });
  __syncthreads();
  double* const sums = reinterpret_cast<double*>(scene.tile);
  const int thread = threadOfBlock();
  sums[thread] = total;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half) sums[thread] += sums[thread + half];
  }
  __syncthreads();
  return static_cast<float>(sums[0] / (static_cast<double>(scene.size) * scene.size));
}

template <class T>
__global__ void __launch_bounds__(kThreads, 4) augmentKernel(AugmentArgs args, int copies) {
  COMFACE_DYNAMIC_SHARED(float, shared);  // the tile, then the taps of columns and rows
  // Views of one pair side by side: the second finds its picture in L2.
  const int block = static_cast<int>(blockIdx.x), pairs = args.viewCount / copies;
  const int index = block % copies * pairs + block / copies, size = args.size;
  const View& view = args.views[index];
  const PackedPicture picture = args.pictures[view.picture];
  Taps* const taps = reinterpret_cast<Taps*>(shared + kRows * kPitch);
  const float scaleX = static_cast<float>(view.width) / size, scaleY = static_cast<float>(view.height) / size;
  const Scene scene = {args.pixels + picture.offset + static_cast<size_t>(view.top) * picture.pitchBytes,
                       view.left,
                       picture.pitchBytes,
                       size,
                       1 / fmaxf(scaleX, 1),
                       1 / fmaxf(scaleY, 1),
                       taps,
                       taps + size,
                       shared};
  prepareTaps(view.width, size, 1, taps);
  prepareTaps(view.height, size, 1.0 / 255, taps + size);
  __syncthreads();
  int contrastAt = 0;
  while (contrastAt < view.adjustmentCount && view.adjustments[contrastAt] != Adjustment::contrast) ++contrastAt;
  const float mean = contrastAt < view.adjustmentCount ? grayMean(scene, view, contrastAt) : 0;
  const bool isFlipped = view.isFlipped, isGray = view.isGray;
  const Normalization n = args.normalization;
  T* const image = static_cast<T*>(args.images) + static_cast<size_t>(index) * size * size * kChannelStep;
  forPixels(scene, view, view.adjustmentCount, mean, [&](int x, int y, const float(&p)[3]) {
    float r = p[0], g = p[1], b = p[2];
    if (isGray) r = g = b = formulas::luma(r, g, b);
    const int column = isFlipped ? size - 1 - x : x;
    const Eight channels = {{formulas::normalized(r, n.scale[0], n.offset[0]),
                             formulas::normalized(g, n.scale[1], n.offset[1]),
                             formulas::normalized(b, n.scale[2], n.offset[2])}};
    store(image + (static_cast<size_t>(y) * size + column) * kChannelStep, Rounding<T>::of(channels));
  });
}

}  // namespace

void augment(Number number, const AugmentArgs& args, int copies, cudaStream_t stream) {
  if (args.size < 1 || args.size > kLargestView) {
    throw Error(Code::invalidConfig, "Expected 1 to " + std::to_string(kLargestView) + " for `size` but received " +
                                         std::to_string(args.size));
  }
  withNumber(number, [&](auto zero) {
    launch(augmentKernel<decltype(zero)>, dim3(args.viewCount), dim3(kColumns, kWarps),
           kTileBytes + 2 * sizeof(Taps) * args.size, stream, args, copies);
  });
}

}  // namespace comface::cuda
