// The cuDNN double's descriptors: attributes with their types, counts and operands checked as cuDNN checks them.
#pragma once
#include <cudnn.h>

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "doubles/graph.h"

namespace comface::cuda::emulation {

struct Body;

/** An attribute as it was set: `count` values of `type` side by side, or descriptors. */
struct Value {
  cudnnBackendAttributeType_t type{};
  int64_t count = 0;
  std::string bytes;
  std::vector<std::shared_ptr<const Body>> parts;
};

/** What stands behind a descriptor. Descriptors that hold it share it, so that the caller may destroy his at once. */
struct Body {
  cudnnBackendDescriptorType_t type{};
  bool isFinalized = false;
  std::map<cudnnBackendAttributeName_t, Value> values;
  std::shared_ptr<const Graph> graph;  // of an operation, and of an operation graph

  bool has(cudnnBackendAttributeName_t name) const { return values.count(name) != 0; }
  const Body& part(cudnnBackendAttributeName_t name) const { return *values.at(name).parts.at(0); }
  template <class T>
  std::vector<T> list(cudnnBackendAttributeName_t name) const {
    const auto found = values.find(name);
    if (found == values.end()) return {};
    std::vector<T> result(found->second.bytes.size() / sizeof(T));
    if (!result.empty()) std::memcpy(result.data(), found->second.bytes.data(), result.size() * sizeof(T));
    return result;
  }
  template <class T>
  T one(cudnnBackendAttributeName_t name) const {
    T result{};
    const auto found = values.find(name);
    if (found != values.end()) std::memcpy(&result, found->second.bytes.data(), sizeof(T));
    return result;
  }
  template <class T>
  void put(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t kind, const std::vector<T>& from) {
    values[name] = {kind,
                    static_cast<int64_t>(from.size()),
                    std::string(reinterpret_cast<const char*>(from.data()), from.size() * sizeof(T)),
                    {}};
  }
  void put(cudnnBackendAttributeName_t name, std::vector<std::shared_ptr<const Body>> parts) {
    const auto count = static_cast<int64_t>(parts.size());
    values[name] = {CUDNN_TYPE_BACKEND_DESCRIPTOR, count, {}, std::move(parts)};
  }
};

/** What cudnnBackendDescriptor_t points to. */
struct Descriptor {
  std::shared_ptr<Body> body;
};

bool isKnown(cudnnBackendDescriptorType_t type);
void setAttribute(Body& body, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                  const void* values);
/** Descriptors are answered into the caller's own. */
void getAttribute(const Body& body, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                  int64_t requested, int64_t* count, void* values);
/** Throws if an attribute that has no default is missing. */
void checkComplete(const Body& body);

/** Tensors, operations and operation graphs; see finalize.cc. */
void finalizeGraphPart(Body& body);

}  // namespace comface::cuda::emulation
