// rank_pattern and alpha_pattern: values for some sites, as PEFT looks them up.
#pragma once

#include <map>
#include <regex>
#include <string>

#include "molt/base/error.h"

namespace molt::peft {

/// A pattern's value for a path: the key is a regular expression for the path's end. Throws UsageError, naming the
/// option, for a key that is none.
template <class T>
T patterned(const std::map<std::string, T>& patterns, const std::string& path, T fallback, const char* option) {
  for (const auto& [key, value] : patterns) {
    try {
      if (std::regex_match(path, std::regex("(.*\\.)?(" + key + ")"))) return value;
    } catch (const std::regex_error&) {
      usage_error(option, ": '", key, "' is not a regular expression");
    }
  }
  return fallback;
}

}  // namespace molt::peft
