// A config struct's keys as rows, through its visit(): for documentation and messages.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "molt/base/format.h"
#include "molt/base/str.h"

namespace molt::app {

struct Option {
  std::string key;    ///< "limit"
  std::string type;   ///< "int", "float", "bool", "string", "list of strings", "map of floats", "group"
  std::string value;  ///< the default as YAML would write it; empty for a group
  std::string help;
};

/// The visitor that collects rows. A group is one row, and its own rows are in groups().
class OptionList {
 public:
  void field(const char* name, std::string& value, const char* help) { add(name, "string", quoted(value), help); }
  void field(const char* name, int64_t& value, const char* help) { add(name, "int", std::to_string(value), help); }
  void field(const char* name, double& value, const char* help) { add(name, "float", number(value), help); }
  void field(const char* name, bool& value, const char* help) { add(name, "bool", value ? "true" : "false", help); }
  void field(const char* name, std::optional<int64_t>& value, const char* help) {
    add(name, "int", value ? std::to_string(*value) : "none", help);
  }
  void field(const char* name, std::optional<double>& value, const char* help) {
    add(name, "float", value ? number(*value) : "none", help);
  }
  void field(const char* name, std::vector<std::string>& value, const char* help) {
    std::string text;
    for (const std::string& item : value) text += (text.empty() ? "" : ", ") + item;
    add(name, "list of strings", "[" + text + "]", help);
  }
  void field(const char* name, std::map<std::string, int64_t>& value, const char* help) {
    add(name, "map of ints", map_text(value), help);
  }
  void field(const char* name, std::map<std::string, double>& value, const char* help) {
    add(name, "map of floats", map_text(value), help);
  }
  template <class Config>
  void group(const char* name, Config& config, const char* help) {
    add(name, "group", "", help);
    OptionList inner;
    config.visit(inner);
    groups_.emplace_back(name, inner);
  }
  void skip(const char*) {}

  const std::vector<Option>& rows() const { return rows_; }
  const std::vector<std::pair<std::string, OptionList>>& groups() const { return groups_; }

 private:
  void add(const char* name, const char* type, std::string value, const char* help) {
    rows_.push_back({name, type, std::move(value), help});
  }
  template <class T>
  static std::string map_text(const std::map<std::string, T>& value) {
    std::string text;
    for (const auto& [key, item] : value) text += (text.empty() ? "" : ", ") + str(key, ": ", item);
    return "{" + text + "}";
  }
  static std::string quoted(const std::string& text) { return text.empty() ? "\"\"" : text; }
  static std::string number(double value) { return format_significant(value, 6); }

  std::vector<Option> rows_;
  std::vector<std::pair<std::string, OptionList>> groups_;
};

/// The rows of a config with the values it has.
template <class Config>
OptionList options_of(Config config) {
  OptionList list;
  config.visit(list);
  return list;
}

}  // namespace molt::app
