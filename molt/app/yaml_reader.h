// Recipes are YAML. This reads a node into config structs through their visit(), strictly: an unknown key or a value of
// the wrong kind is one line with file, line number, key and what was expected. yaml-cpp stays behind this file.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "molt/base/json_writer.h"

namespace molt::app {

/// A YAML document, or one place in it.
class YamlNode {
 public:
  /// Parses a document. `where` names it in messages.
  static YamlNode parse(const std::string& text, const std::string& where);
  /// Reads a file. A run's directory, or the recipe in it, stands for the recipe it was begun with, and its output_dir
  /// is where it lies now.
  static YamlNode read_file(const std::string& path);

  /// Applies "data.limit=100" or "method.lora.r=4" (the value is YAML; a number picks an element of a list).
  void apply(const std::string& assignment);

  /// A deep copy; sets or removes a key of a map.
  YamlNode copy() const;
  void set(const std::string& key, const YamlNode& value);
  void erase(const std::string& key);

  bool has(const std::string& key) const;
  YamlNode child(const std::string& key) const;
  bool is_map() const;
  bool is_scalar() const;
  bool is_list() const;
  std::string scalar() const;
  std::vector<YamlNode> items() const;
  /// Keys of a map in the order they were written.
  std::vector<std::string> keys() const;
  /// An empty map in this place's stead.
  YamlNode empty_map() const;
  /// "recipe.yaml:12: data.limit", or "override 'data.limit=x'"
  std::string where() const;
  /// The whole below this place, as YAML text.
  std::string dump() const;

  struct State;
  explicit YamlNode(std::shared_ptr<State> state) : state_(std::move(state)) {}

 private:
  friend class YamlReader;
  std::shared_ptr<State> state_;
};

/// The visitor that fills a config struct. finish() refuses keys nobody asked for, naming the nearest known one.
class YamlReader {
 public:
  explicit YamlReader(YamlNode node);
  void field(const char* name, std::string& value, const char* help);
  void field(const char* name, int64_t& value, const char* help);
  void field(const char* name, double& value, const char* help);
  void field(const char* name, bool& value, const char* help);
  void field(const char* name, std::vector<std::string>& value, const char* help);
  void field(const char* name, std::optional<int64_t>& value, const char* help);
  void field(const char* name, std::optional<double>& value, const char* help);
  void field(const char* name, std::map<std::string, int64_t>& value, const char* help);
  void field(const char* name, std::map<std::string, double>& value, const char* help);
  /// A nested struct with a visit() of its own.
  template <class Config>
  void group(const char* name, Config& config, const char* /*help*/) {
    known_.push_back(name);
    if (!node_.has(name)) return;
    YamlReader inner(node_.child(name));
    config.visit(inner);
    inner.finish();
  }
  /// A key somebody else reads.
  void skip(const char* name) { known_.push_back(name); }
  void finish() const;

 private:
  template <class T>
  void read(const char* name, T& value);
  YamlNode node_;
  std::vector<std::string> known_;
};

}  // namespace molt::app
