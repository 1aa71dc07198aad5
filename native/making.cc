// Pictures for JavaScript; each function answers with a promise and works on the utility thread and a pool of its own.
#include "making.h"

#include <functional>
#include <vector>

#include "average.h"
#include "crc.h"
#include "environment.h"
#include "jpeg.h"
#include "pool.h"
#include "values.h"

namespace comface {
namespace {

/** Calls job(i) for each picture on threads of their own; a thread that is being terminated does not wait for all. */
void forEach(size_t count, int threads, const std::atomic<bool>& stopping, const std::function<void(int)>& job) {
  Pool(threads).run(static_cast<int>(count), [&](int i, int) {
    if (stopping) throw Error(Code::disposed, "This thread is ending.");
    job(i);
  });
}

Napi::Value drawFaces(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    Environment& environment = Environment::of(info.Env());
    const int threads = integerOf(info[1], "threads", 1, 64);
    return environment.run(info.Env(), environment.utility(), info.Env().Undefined(),
                           [shots = shotsOf(info[0]), threads, &stopping = environment.utility().stopping()] {
                             const size_t bytes = static_cast<size_t>(shots.size) * shots.size * 3;
                             auto pixels = std::make_shared<std::vector<uint8_t>>(bytes * shots.list.size());
                             forEach(shots.list.size(), threads, stopping, [&](int i) {
                               faces::render(shots.list[i], shots.size, pixels->data() + bytes * i);
                             });
                             return [pixels](Napi::Env env) -> Napi::Value { return toBytes(env, *pixels); };
                           });
  });
}

/** Where the 70 points of faces/face.h lie in each picture: count x 70 x 2. */
Napi::Value faceLandmarks(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    Environment& environment = Environment::of(info.Env());
    const auto work = [shots = shotsOf(info[0]), &stopping = environment.utility().stopping()] {
      constexpr size_t kNumbers = size_t{2} * faces::kLandmarkCount;
      auto points = std::make_shared<std::vector<float>>(kNumbers * shots.list.size());
      forEach(shots.list.size(), 1, stopping,
              [&](int i) { faces::locate(shots.list[i], shots.size, points->data() + kNumbers * i); });
      return [points](Napi::Env env) -> Napi::Value { return handOver(env, points, Environment::of(env).reaper()); };
    };
    return environment.run(info.Env(), environment.utility(), info.Env().Undefined(), work);
  });
}

/** Draws and encodes picture i: JPEG, or with quality 0 its pixels. */
std::vector<uint8_t> encoded(const Shots& shots, int i, int quality) {
  Picture picture{shots.size, shots.size, std::vector<uint8_t>(static_cast<size_t>(shots.size) * shots.size * 3)};
  faces::render(shots.list[i], shots.size, picture.rgb.data());
  return quality > 0 ? encodeJpeg(picture, quality) : std::move(picture.rgb);
}

Napi::Value writeFaces(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    Environment& environment = Environment::of(info.Env());
    Shots shots = shotsOf(info[0]);
    std::vector<std::string> paths = stringsOf(info[1], "paths");
    if (paths.size() != shots.list.size()) refuse("paths", "one path per shot");
    const int quality = integerOf(info[2], "quality", 1, 100), threads = integerOf(info[3], "threads", 1, 64);
    return environment.run(info.Env(), environment.utility(), info.Env().Undefined(),
                           [shots, paths, quality, threads, &stopping = environment.utility().stopping()]() -> Convert {
                             forEach(paths.size(), threads, stopping,
                                     [&](int i) { writeFile(paths[i], encoded(shots, i, quality)); });
                             return [](Napi::Env env) { return env.Undefined(); };
                           });
  });
}

/**
 * Pictures one after the other, as they lie in a shard, with the size and the CRC-32C of each.
 * @param encode gives the bytes of picture i; shared by the threads.
 */
Napi::Value encodeAll(const Napi::CallbackInfo& info, size_t count, int threads,
                      std::function<std::vector<uint8_t>(int)> encode) {
  Environment& environment = Environment::of(info.Env());
  auto work = [count, threads, encode = std::move(encode), &stopping = environment.utility().stopping()]() -> Convert {
    std::vector<std::vector<uint8_t>> pictures(count);
    forEach(count, threads, stopping, [&](int i) { pictures[i] = encode(i); });
    std::vector<uint8_t> bytes;
    std::vector<uint32_t> sizes, crcs;
    for (const auto& picture : pictures) {
      sizes.push_back(static_cast<uint32_t>(picture.size())), crcs.push_back(crc32c(picture));
      bytes.insert(bytes.end(), picture.begin(), picture.end());
    }
    return [bytes = std::make_shared<std::vector<uint8_t>>(std::move(bytes)), sizes,
            crcs](Napi::Env env) -> Napi::Value {
      auto o = Napi::Object::New(env);
      o.Set("bytes", toBytes(env, *bytes)), o.Set("sizes", toNumbers(env, sizes)), o.Set("crcs", toNumbers(env, crcs));
      return o;
    };
  };
  return environment.run(info.Env(), environment.utility(), info.Env().Undefined(), std::move(work));
}

Napi::Value encodeFaces(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const int quality = integerOf(info[1], "quality", 0, 100), threads = integerOf(info[2], "threads", 1, 64);
    const auto shots = std::make_shared<Shots>(shotsOf(info[0]));
    return encodeAll(info, shots->list.size(), threads, [=](int i) { return encoded(*shots, i, quality); });
  });
}

Napi::Value encodeImages(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const ImageSet set = imageSetOf(info[1]);
    const int threads = integerOf(info[2], "threads", 1, 64);
    const auto values = std::make_shared<std::vector<float>>(floatsOf(info[0], "values"));
    const size_t each = size_t{3} * set.edge * set.edge;
    if (values->size() != each * set.count) refuse("values", "count x 3 x edge x edge numbers");
    return encodeAll(info, set.count, threads, [=](int i) {
      Picture picture = averaged({values->data() + each * i, each}, set.edge, set.size, "picture " + std::to_string(i));
      return set.quality > 0 ? encodeJpeg(picture, set.quality) : std::move(picture.rgb);
    });
  });
}

Napi::Value decode(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    Environment& environment = Environment::of(info.Env());
    auto file = bytesOf(info[0], "file");
    return environment.run(info.Env(), environment.utility(), info.Env().Undefined(), [file = std::move(file)] {
      auto picture = std::make_shared<Picture>();
      decodeJpeg(file, "picture", *picture);
      return [picture](Napi::Env env) -> Napi::Value {
        auto o = Napi::Object::New(env);
        o.Set("width", picture->width), o.Set("height", picture->height), o.Set("rgb", toBytes(env, picture->rgb));
        return o;
      };
    });
  });
}

Napi::Value encode(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    Environment& environment = Environment::of(info.Env());
    Picture picture{integerOf(info[1], "width", 1, 65500), integerOf(info[2], "height", 1, 65500),
                    bytesOf(info[0], "rgb")};
    const int quality = integerOf(info[3], "quality", 1, 100);
    if (picture.rgb.size() != static_cast<size_t>(picture.width) * picture.height * 3)
      refuse("rgb", "width x height x 3 bytes");
    return environment.run(info.Env(), environment.utility(), info.Env().Undefined(),
                           [picture = std::move(picture), quality] {
                             auto bytes = std::make_shared<std::vector<uint8_t>>(encodeJpeg(picture, quality));
                             return [bytes](Napi::Env env) -> Napi::Value { return toBytes(env, *bytes); };
                           });
  });
}

}  // namespace

void exportPictures(Napi::Env env, Napi::Object exports) {
  const auto method = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  method("drawFaces", drawFaces), method("faceLandmarks", faceLandmarks), method("writeFaces", writeFaces);
  method("encodeFaces", encodeFaces), method("encodeImages", encodeImages);
  method("decodeJpeg", decode), method("encodeJpeg", encode);
}

}  // namespace comface
