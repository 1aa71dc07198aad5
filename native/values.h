// JavaScript values to structs and back. What does not fit throws invalidInput naming the argument; the ranges are in
// records.h. This file with values.cc, environment.h, making.h and addon.cc are the only ones
// that know Node.
#pragma once
#include <napi.h>

#include <string>
#include <vector>

#include "engine.h"
#include "probe.h"
#include "records.h"

namespace comface {

double numberOf(const Napi::Value& value, const std::string& name, double low = -1e300, double high = 1e300);
int integerOf(const Napi::Value& value, const std::string& name, int low, int high);
std::string stringOf(const Napi::Value& value, const std::string& name);
std::vector<std::string> stringsOf(const Napi::Value& value, const std::string& name);
/** A bigint; only its lowest 64 bits count. */
uint64_t seedOf(const Napi::Value& value);
std::vector<float> floatsOf(const Napi::Value& value, const std::string& name);
std::vector<uint32_t> wordsOf(const Napi::Value& value, const std::string& name);
std::vector<uint8_t> bytesOf(const Napi::Value& value, const std::string& name);

AugmentSettings settingsOf(const Napi::Value& value);
Plan planOf(const Napi::Value& value, const AugmentSettings& settings);
Adam adamOf(const Napi::Value& value);
Slot slotOf(const Napi::Value& value);
/** Layer records to a finished graph; also throws invalidConfig, as Graph::finish does. */
Graph graphOf(const Napi::Value& value);

Shots shotsOf(const Napi::Value& value);
std::vector<ShardSet> shardSetsOf(const Napi::Value& value);
ImageSet imageSetOf(const Napi::Value& value);

Napi::Float32Array toArray(Napi::Env env, const std::vector<float>& values);
/** The same numbers without a copy when they are many: it would hold up JavaScript for milliseconds. They are freed on
 * the reaper's thread. */
Napi::Float32Array handOver(Napi::Env env, std::shared_ptr<std::vector<float>> values, std::shared_ptr<Worker> reaper);
Napi::Uint8Array toBytes(Napi::Env env, const std::vector<uint8_t>& values);
Napi::Array toBroken(Napi::Env env, const std::vector<Broken>& broken);
/** { losses, steps } */
Napi::Object toCollected(Napi::Env env, const CollectedSteps& all);
/** Name and dims of each. */
Napi::Array toTensors(Napi::Env env, const std::vector<Parameter>& list);
Napi::Object toProbe(Napi::Env env, const CudaProbe& probe);

/** Any list of numbers, as a plain array. */
template <class T>
Napi::Array toNumbers(Napi::Env env, const T& values) {
  auto array = Napi::Array::New(env, values.size());
  for (uint32_t i = 0; i < values.size(); ++i) array.Set(i, Napi::Number::New(env, static_cast<double>(values[i])));
  return array;
}

}  // namespace comface
