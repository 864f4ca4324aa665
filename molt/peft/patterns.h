// rank_pattern and alpha_pattern: values for some sites, as PEFT looks them up.
#pragma once

#include <map>
#include <regex>
#include <string>

#include "molt/base/error.h"

namespace molt::peft {

/// Whether the key, a regular expression, matches the path's end. Throws UsageError, naming the option, for a key that
/// is none.
inline bool pattern_matches(const std::string& key, const std::string& path, const char* option) {
  try {
    return std::regex_match(path, std::regex("(.*\\.)?(" + key + ")"));
  } catch (const std::regex_error&) {
    usage_error(option, ": '", key, "' is not a regular expression");
  }
}

/// The value of the first pattern that matches a path.
template <class T>
T patterned(const std::map<std::string, T>& patterns, const std::string& path, T fallback, const char* option) {
  for (const auto& [key, value] : patterns) {
    if (pattern_matches(key, path, option)) return value;
  }
  return fallback;
}

}  // namespace molt::peft
