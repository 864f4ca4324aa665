// The visitor that turns a config struct into JSON: run manifests, adapters, the recipe as resolved.
#pragma once

#include "molt/base/json.h"

namespace molt {

class JsonWriter {
 public:
  template <class T>
  void field(const char* name, T& value, const char* /*help*/) {
    if constexpr (requires { value.has_value(); }) {
      json_[name] = value ? OrderedJson(*value) : OrderedJson(nullptr);
    } else {
      json_[name] = value;
    }
  }
  template <class Config>
  void group(const char* name, Config& config, const char* /*help*/) {
    JsonWriter inner;
    config.visit(inner);
    json_[name] = inner.json();
  }
  void skip(const char*) {}
  const OrderedJson& json() const { return json_; }

 private:
  OrderedJson json_ = OrderedJson::object();
};

}  // namespace molt
