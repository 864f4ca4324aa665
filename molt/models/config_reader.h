// Reads numbers and flags from a checkpoint's config.json, never trusting them.
#pragma once

#include <string>

#include "molt/base/error.h"
#include "molt/base/json.h"

namespace molt::models {

class ConfigReader {
 public:
  ConfigReader(const Json& config, std::string where) : config_(config), where_(std::move(where)) {}

  bool has(const char* key) const { return config_.contains(key) && !config_[key].is_null(); }

  /// No size in any model is larger; products of two cannot overflow.
  static constexpr int64_t kMost = int64_t{1} << 24;

  /// A whole number from `least` to `most`. Throws UsageError if it is absent or something else.
  int64_t integer(const char* key, int64_t least = 1, int64_t most = kMost) const {
    if (!has(key)) usage_error(where_, ": ", key, " is missing");
    return checked(key, least, most);
  }
  int64_t integer_or(const char* key, int64_t fallback, int64_t least = 1, int64_t most = kMost) const {
    return has(key) ? checked(key, least, most) : fallback;
  }
  double number_or(const char* key, double fallback) const {
    if (!has(key)) return fallback;
    if (!config_[key].is_number()) usage_error(where_, ": ", key, " must be a number, is ", config_[key].dump());
    return config_[key].get<double>();
  }
  bool flag_or(const char* key, bool fallback) const {
    if (!has(key)) return fallback;
    if (!config_[key].is_boolean()) usage_error(where_, ": ", key, " must be true or false, is ", config_[key].dump());
    return config_[key].get<bool>();
  }
  std::string text_or(const char* key, const std::string& fallback) const {
    if (!has(key)) return fallback;
    if (!config_[key].is_string()) usage_error(where_, ": ", key, " must be a string, is ", config_[key].dump());
    return config_[key].get<std::string>();
  }
  const Json& raw(const char* key) const { return config_[key]; }
  const std::string& where() const { return where_; }

 private:
  int64_t checked(const char* key, int64_t least, int64_t most) const {
    const Json& value = config_[key];
    if (!value.is_number_integer() || value.get<int64_t>() < least || value.get<int64_t>() > most)
      usage_error(where_, ": ", key, " must be a whole number from ", least, " to ", most, ", is ",
                  value.dump().substr(0, 60));
    return value.get<int64_t>();
  }
  const Json& config_;
  std::string where_;
};

}  // namespace molt::models
