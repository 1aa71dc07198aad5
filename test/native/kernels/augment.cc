// augment.cu against augmentView() over pictures, sizes, settings, number types and orders of threads and blocks, all
// of which must give the same bits; then a source's pictures() against its fill(), which must be the same batch.
//   augment [<part>]   0 if all numbers are within their tolerance.
#include "cuda/augment.h"

#include <unistd.h>

#include <filesystem>

#include "formulas.h"
#include "images.h"
#include "jpeg.h"
#include "source.h"

namespace comface::cuda {
namespace {

/** What fp32 views may be off, in normalized units: sums in another order and fused multiply-adds. */
constexpr double kTolerance = 1e-4;

void fail(const std::string& what) {
  if (++failures <= 20) printf("%s\n", what.c_str());
}

std::mt19937 random32(1);
int upTo(int n) { return static_cast<int>(random32() % n); }

/** Noise, and flat areas of one gray: where hue is undefined and clamping begins. */
Picture pictureOf(int width, int height) {
  Picture picture{width, height, std::vector<uint8_t>(static_cast<size_t>(width) * height * 3)};
  const int flat = upTo(256);
  for (size_t i = 0; i < picture.rgb.size(); ++i) {
    picture.rgb[i] = static_cast<uint8_t>(i % 300 < 120 ? flat : upTo(256));
  }
  return picture;
}

/** Pictures, packed as a source packs them. */
struct Packed {
  std::vector<uint8_t> pixels;
  std::vector<PackedPicture> places;

  void add(const Picture& picture) {
    const size_t offset = pixels.size(), pitch = packedPitch(picture.width), row = 3 * size_t(picture.width);
    pixels.resize(offset + packedBytes(picture.width, picture.height), 0xff);
    for (int y = 0; y < picture.height; ++y) {
      std::memcpy(&pixels[offset + y * pitch], &picture.rgb[y * row], row);
    }
    places.push_back({offset, picture.width, picture.height, packedPitch(picture.width)});
  }
};

template <class T>
class OnDevice {
 public:
  explicit OnDevice(const std::vector<T>& values) : memory_(values.size() * sizeof(T)) {
    check(cudaMemcpy(memory_.data(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  const T* data() const { return reinterpret_cast<const T*>(memory_.data()); }

 private:
  DeviceMemory memory_;
};

/** The images of the views, as they lie in memory. */
std::vector<char> imagesOf(Number number, const Packed& packed, const std::vector<View>& views, int size, int copies,
                           const Normalization& normalization) {
  const OnDevice pixels(packed.pixels);
  const OnDevice places(packed.places);
  const OnDevice draws(views);
  std::vector<char> bytes(views.size() * size * size * paddedChannels(3) * sizeOf(number));
  const DeviceMemory images(bytes.size());
  const AugmentArgs args = {pixels.data(), places.data(), draws.data(), images.data(), static_cast<int>(views.size()),
                            size,          normalization};
  augment(number, args, copies, nullptr);
  check(cudaMemcpy(bytes.data(), images.data(), bytes.size(), cudaMemcpyDeviceToHost), "cudaMemcpy");
  return bytes;
}

/** got: viewCount x size x size x 8. want: viewCount x 3 x size x size. */
void compare(const std::string& what, Number number, const std::vector<char>& got, const std::vector<float>& want,
             int size) {
  const size_t pixels = static_cast<size_t>(size) * size, channels = paddedChannels(3);
  const double unit = number == Number::fp32 ? 0 : std::ldexp(1, number == Number::bf16 ? -8 : -11);
  for (size_t i = 0; i < want.size() / 3; ++i) {
    for (size_t c = 0; c < channels; ++c) {
      const double value = decode(number, &got[(i * channels + c) * sizeOf(number)]);
      const double expected = c < 3 ? want[(i / pixels * 3 + c) * pixels + i % pixels] : 0;
      const double error = std::abs(value - expected) - unit * std::abs(expected);
      ++compared;
      if (!(error <= (c < 3 ? kTolerance : 0))) {
        fail(what + ": pixel " + std::to_string(i) + ", channel " + std::to_string(c) + ": " + std::to_string(value) +
             ", expected " + std::to_string(expected));
      }
      worst = std::max(worst, error);
    }
  }
}

AugmentSettings only(float AugmentSettings::*strength, float value) {
  AugmentSettings s;
  s.flipProbability = s.grayscaleProbability = 0;
  s.jitterProbability = 1;
  s.brightness = s.contrast = s.saturation = s.hue = 0;
  s.*strength = value;
  return s;
}

struct Case {
  std::string name;
  AugmentSettings settings;
  bool isPlain = false;
};

std::vector<Case> cases() {
  AugmentSettings strong;
  strong.cropAreaMin = 0.01f, strong.cropAspectMax = 3;
  strong.jitterProbability = 1;
  strong.brightness = strong.contrast = strong.saturation = 2, strong.hue = 0.5f;
  AugmentSettings unnormalized = strong;
  for (int c = 0; c < 3; ++c) unnormalized.mean[c] = 0, unnormalized.deviation[c] = 1;
  return {{"default", {}},
          {"plain", {}, true},
          {"brightness", only(&AugmentSettings::brightness, 1.5f)},
          {"contrast", only(&AugmentSettings::contrast, 1.5f)},
          {"saturation", only(&AugmentSettings::saturation, 1.5f)},
          {"hue", only(&AugmentSettings::hue, 0.5f)},
          {"gray", only(&AugmentSettings::grayscaleProbability, 1)},
          {"flip", only(&AugmentSettings::flipProbability, 1)},
          {"strong", strong},
          {"unnormalized", unnormalized}};
}

/** Three views of each picture in the order of Batch::images. */
void testViews(const std::string& name, const Case& c, const std::vector<Picture>& pictures, int size, bool inOrders) {
  const int pairs = static_cast<int>(pictures.size());
  const size_t count = static_cast<size_t>(3) * size * size;
  Packed packed;
  for (const Picture& picture : pictures) packed.add(picture);
  std::vector<View> views(3 * static_cast<size_t>(pairs));
  std::vector<float> expected(views.size() * count);
  AugmentScratch scratch;
  for (size_t i = 0; i < views.size(); ++i) {
    const int pair = static_cast<int>(i) % pairs;
    const Picture& picture = pictures[pair];
    const ViewKey key = {7, static_cast<uint32_t>(size), static_cast<uint32_t>(pair), static_cast<uint32_t>(i) / pairs};
    const std::span<float> out(&expected[i * count], count);
    if (c.isPlain) {
      plainView(picture, size, c.settings, scratch, out);
      views[i] = wholeView(picture.width, picture.height);
    } else {
      augmentView(picture, size, c.settings, key, scratch, out);
      views[i] = drawView(picture.width, picture.height, c.settings, key);
    }
    views[i].picture = pair;
  }
  for (const Number number : {Number::fp32, Number::bf16, Number::fp16}) {
    const std::string what = name + " " + c.name + " at " + std::to_string(size) + ", " + nameOf(number);
    const Normalization normalization = normalizationOf(c.settings);
    const auto run = [&](bool checks) {
      const std::vector<char> images = imagesOf(number, packed, views, size, c.isPlain ? 1 : 3, normalization);
      if (checks) compare(what, number, images, expected, size);
      return images;
    };
    inOrders ? inAllOrders(what, run) : void(run(true));
  }
}

void testKernel() {
  struct Edge {
    int width, height;
  };
  std::vector<Picture> small, odd;
  for (const auto [w, h] : {Edge{8, 8}, {9, 33}, {64, 64}, {50, 31}, {101, 100}}) small.push_back(pictureOf(w, h));
  for (const auto [w, h] : {Edge{2000, 17}, {17, 2000}, {255, 257}, {640, 480}, {1, 1}}) odd.push_back(pictureOf(w, h));
  for (const Case& c : cases()) {
    for (const int size : {8, 32, 45}) testViews("small", c, small, size, size == 45);
    for (const int size : {8, 65}) testViews("odd", c, odd, size, false);
  }
  const std::vector<Picture> usual = {pictureOf(256, 256), pictureOf(256, 256)};
  testViews("usual", cases()[0], usual, 224, true);
  testViews("usual", cases()[8], usual, 224, false);
  testViews("usual", cases()[0], usual, 512, false);
}

/** One formula for a float and for a vector of them: the CPU's lanes must give the GPU's bits but for rounding. */
void testHue() {
  using Lanes = float __attribute__((vector_size(16)));
  for (int i = 0; i < 200000; ++i) {
    const int kind = upTo(4);
    const auto value = [&] { return kind == 0 ? upTo(4) / 3.0f : static_cast<float>(upTo(256)) / 255; };
    float r = value(), g = kind == 1 ? r : value(), b = kind == 2 ? g : value();
    const float turn = static_cast<float>(upTo(2001) - 1000) * 0.003f;
    Lanes lanes[3] = {{r, g, b, r}, {g, b, r, r}, {b, r, g, r}};
    formulas::shiftHue(lanes[0], lanes[1], lanes[2], turn);
    formulas::shiftHue(r, g, b, turn);
    ++compared;
    if (r != lanes[0][0] || g != lanes[1][0] || b != lanes[2][0]) fail("hue: lanes and numbers differ");
  }
}

/** A folder of JPEGs, some of them broken, that goes with its owner. */
class Files {
 public:
  explicit Files(int count)
      : folder_(std::filesystem::temp_directory_path() / ("augment-" + std::to_string(getpid()))) {
    std::filesystem::create_directories(folder_);
    for (int i = 0; i < count; ++i) {
      paths.push_back(folder_ / (std::to_string(i) + ".jpg"));
      std::vector<uint8_t> file = encodeJpeg(pictureOf(20 + 7 * i, 61 - 3 * i), 90);
      if (i % 5 == 3) file.resize(file.size() / 2);
      if (i != 7) writeFile(paths.back(), file);
    }
  }
  ~Files() { std::filesystem::remove_all(folder_); }
  Files(const Files&) = delete;
  std::vector<std::string> paths;

 private:
  std::filesystem::path folder_;
};

/** What call() throws, in words. */
template <class F>
std::string errorOf(const F& call) {
  try {
    call();
  } catch (const Error& error) {
    return std::to_string(static_cast<int>(error.code)) + " " + error.message;
  }
  return "";
}

void testSource(Source& source, const Plan& plan, const std::string& what) {
  Batch batch;
  PictureBatch decoded;
  const std::string expected = errorOf([&] { source.fill(plan, batch); });
  const std::string got = errorOf([&] { source.pictures(plan, decoded); });
  if (got != expected) return fail(what + ": \"" + got + "\", expected \"" + expected + "\"");
  if (!expected.empty()) return;
  std::vector<uint8_t> memory(decoded.sizeBytes - 1);  // too little, by one byte
  decoded.memory = memory;
  source.pictures(plan, decoded);
  if (decoded.pictures.size() > mostPictures(plan)) fail(what + ": more pictures than planned for");
  if (decoded.sizeBytes != memory.size() + 1) fail(what + ": another size the second time");
  memory.assign(decoded.sizeBytes, 0xff);
  decoded.memory = memory;
  source.pictures(plan, decoded);
  if (decoded.targets != batch.targets) fail(what + ": other targets");
  const auto isSame = [](const Broken& a, const Broken& b) { return a.sample == b.sample && a.reason == b.reason; };
  if (!std::equal(decoded.broken.begin(), decoded.broken.end(), batch.broken.begin(), batch.broken.end(), isSame)) {
    fail(what + ": other broken pictures");
  }
  const Packed packed = {memory, decoded.pictures};
  compare(what, Number::fp32,
          imagesOf(Number::fp32, packed, decoded.views, source.size(), viewsOf(plan), normalizationOf(plan.settings)),
          batch.images, source.size());
}

void testSources() {
  const Files files(12);
  for (const int threads : {1, 2, 5}) {
    const auto source = openPictures(picturesInFiles(files.paths, 0), 24, threads);
    Plan plan;
    plan.seed = 5, plan.step = 9, plan.pairs = 4;
    plan.x = {0, 3, 2, 7, 8, 1, 6, 9}, plan.y = {1, 2, 2, 4, 4, 0, 6, 3};  // 3, 7 and 8 are broken
    plan.target = {0, 1, 2, 3, 4, 5, 6, 7};
    testSource(*source, plan, "spares");
    plan.x.resize(5), plan.y.resize(5), plan.target.resize(5);
    testSource(*source, plan, "too few spares");
    plan.x[1] = plan.x[3] = 5;
    testSource(*source, plan, "nothing broken");
    for (plan.views = 2; plan.views > 0; --plan.views) testSource(*source, plan, "fewer views");
    plan.augment = false, plan.y.clear(), plan.target.clear();
    testSource(*source, plan, "plain");
    plan.x[2] = 8;
    testSource(*source, plan, "plain, broken");
    plan.x[2] = 99;
    testSource(*source, plan, "no such sample");
  }
}

int run(const std::string& wanted) {
  using Part = std::pair<const char*, void (*)()>;
  int failedParts = 0;
  for (const auto& [name, part] : {Part{"hue", testHue}, {"kernel", testKernel}, {"sources", testSources}}) {
    if (!wanted.empty() && wanted != name) continue;
    failures = 0, compared = 0, worst = 0;
    part();
    if (emulation::living().allocations > 0) fail("memory is left over");
    printf("%s: %zu numbers, %d failures, worst error %.2g beyond rounding\n", name, compared, failures, worst);
    failedParts += failures > 0;
  }
  return failedParts > 0;
}

}  // namespace
}  // namespace comface::cuda

int main(int argc, char** argv) { return comface::cuda::runPart(argc, argv, comface::cuda::run); }
