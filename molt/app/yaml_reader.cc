#include "molt/app/yaml_reader.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <set>

#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/base/near.h"
#include "molt/text/utf8.h"
#include "molt/train/run_directory.h"

namespace molt::app {

struct YamlNode::State {
  /// What was said on the command line: all of it, and what stands behind the =.
  struct Override {
    std::string assignment, value;
  };
  YAML::Node node;
  std::string file;
  std::string path;
  /// What was said on the command line, by path; shared by all places of a document.
  std::shared_ptr<std::map<std::string, Override>> overrides = {};
  /// Where the place is, if the node does not know: the line, from 0.
  int line = -1;

  std::string where() const {
    if (overrides) {
      for (const auto& [at, what] : *overrides) {
        if (path == at || path.compare(0, at.size() + 1, at + ".") == 0)
          return str("override '", what.assignment, "'", path == at ? "" : ": ", path == at ? "" : path);
      }
    }
    return str(file, ":", std::max(0, line >= 0 ? line : node.Mark().line) + 1, path.empty() ? "" : ": ", path);
  }
};

namespace {

std::string kind_of(const YAML::Node& node) {
  if (!node.IsDefined() || node.IsNull()) return "nothing";
  if (node.IsMap()) return "a map";
  if (node.IsSequence()) return "a list";
  return "'" + node.Scalar() + "'";
}

/// What a recipe says is written down as JSON, which holds nothing else.
void check_utf8(const std::string& text, const std::string& where) {
  const size_t at = text::find_invalid_utf8(text);
  if (at < text.size())
    usage_error(text::replace_invalid_utf8(where), ": expected UTF-8 text, found something else at byte ", at);
}

template <class T>
struct Expected;
template <>
struct Expected<std::string> {
  static constexpr const char* text = "text";
};
template <>
struct Expected<int64_t> {
  static constexpr const char* text = "a whole number";
};
template <>
struct Expected<double> {
  static constexpr const char* text = "a number";
};
template <>
struct Expected<bool> {
  static constexpr const char* text = "true or false";
};

/// What stands behind the = of the override that set this very place, if one did.
const std::string* said(const YamlNode::State& at);

template <class T>
T scalar_as(const YamlNode::State& at) {
  if (at.node.IsScalar()) {
    T value;
    const bool read = YAML::convert<T>::decode(at.node, value);
    if constexpr (std::is_same_v<T, double>) {  // no option means anything at .nan or .inf
      if (read && !std::isfinite(value))
        usage_error(at.where(), ": expected a finite number, found ", kind_of(at.node));
    }
    if (read) return value;
  }
  const char* hint = "";
  if constexpr (std::is_same_v<T, std::string>) {
    // {question} is a template to who types it, and a map to YAML.
    if (const std::string* text = at.node.IsNull() ? nullptr : said(at)) return *text;
    if (at.node.IsMap() || at.node.IsSequence()) hint = "; put it in quotes";
  }
  usage_error(at.where(), ": expected ", Expected<T>::text, ", found ", kind_of(at.node), hint);
}

std::shared_ptr<YamlNode::State> below(const YamlNode::State& at, const YAML::Node& node, const std::string& key) {
  return std::make_shared<YamlNode::State>(
      YamlNode::State{node, at.file, at.path.empty() ? key : at.path + "." + key, at.overrides});
}

/// Refuses what no recipe needs and what would surprise: keys that are no words, keys written twice, aliases that make
/// a node part of itself or unfold without end.
void check_nodes(const YAML::Node& node, const std::string& where, int depth, int& count) {
  constexpr int kDeepest = 50, kMost = 100'000;
  const auto at = [&](const YAML::Node& place) { return str(where, ":", place.Mark().line + 1); };
  if (depth > kDeepest) usage_error(at(node), ": nests deeper than ", kDeepest, " levels");
  if (++count > kMost) usage_error(at(node), ": more than ", kMost, " values");
  if (node.IsSequence()) {
    for (const YAML::Node& item : node) check_nodes(item, where, depth + 1, count);
  }
  if (!node.IsMap()) return;
  std::set<std::string> seen;
  for (const auto& item : node) {
    if (!item.first.IsScalar()) usage_error(at(item.first), ": expected a word as key, found ", kind_of(item.first));
    if (!seen.insert(item.first.Scalar()).second)
      usage_error(at(item.first), ": the key '", item.first.Scalar(), "' is written twice");
    check_nodes(item.second, where, depth + 1, count);
  }
}

const std::string* said(const YamlNode::State& at) {
  if (!at.overrides) return nullptr;
  const auto found = at.overrides->find(at.path);
  return found == at.overrides->end() ? nullptr : &found->second.value;
}

template <class T>
void convert(const YamlNode::State& at, T& value) {
  value = scalar_as<T>(at);
}
template <class T>
void convert(const YamlNode::State& at, std::optional<T>& value) {
  if (at.node.IsNull()) {
    value.reset();
  } else {
    value = scalar_as<T>(at);
  }
}
void convert(const YamlNode::State& at, std::vector<std::string>& value) {
  value.clear();
  if (at.node.IsScalar()) {
    value.push_back(at.node.Scalar());
    return;
  }
  if (at.node.IsNull()) return;
  if (!at.node.IsSequence()) usage_error(at.where(), ": expected a list, found ", kind_of(at.node));
  for (const auto& item : at.node) value.push_back(scalar_as<std::string>(*below(at, item, "item")));
}
template <class T>
void convert(const YamlNode::State& at, std::map<std::string, T>& value) {
  value.clear();
  if (at.node.IsNull()) return;
  if (!at.node.IsMap()) usage_error(at.where(), ": expected a map, found ", kind_of(at.node));
  for (const auto& item : at.node)
    value[item.first.Scalar()] = scalar_as<T>(*below(at, item.second, item.first.Scalar()));
}

}  // namespace

YamlNode YamlNode::parse(const std::string& text, const std::string& where) {
  check_utf8(text, where);
  try {
    YAML::Node node = YAML::Load(text);
    int count = 0;
    check_nodes(node, where, 0, count);
    if (!node.IsDefined() || node.IsNull()) node = YAML::Node(YAML::NodeType::Map);
    return YamlNode(std::make_shared<State>(State{node, where, ""}));
  } catch (const YAML::Exception& e) {
    usage_error(where, ":", e.mark.line + 1, ": not valid YAML: ", e.msg);
  }
}

namespace {

/// yaml-cpp reads the first document of a file and passes over the others (and its LoadAll() does not end on "}").
void check_one_document(const std::string& text, const std::string& where) {
  bool content = false;
  int line = 0, second = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view words = std::string_view(text).substr(begin, end - begin);
    begin = end + 1, ++line;
    const size_t first = words.find_first_not_of(" \t\r");
    if (first == std::string_view::npos || words[first] == '#' || words[0] == '%') continue;
    if (second) usage_error(where, ":", second, ": a second document begins (---); expected one");
    const bool mark = words.substr(0, 3) == "---" && (words.size() == 3 || std::strchr(" \t\r", words[3]));
    if (mark && content) second = line;
    content = true;
  }
}

/// The run directory that a recipe's path names, itself or by the recipe in it; empty if it is no run's.
std::string run_of(const std::string& path) {
  namespace fs = std::filesystem;
  fs::path place = path;
  if (place.filename() == "recipe.yaml") place = place.has_parent_path() ? place.parent_path() : ".";
  if (!place.has_filename() && place.has_parent_path()) place = place.parent_path();  // runs/a/
  return train::RunDirectory::begun(place.string()) ? place.string() : "";
}

}  // namespace

YamlNode YamlNode::read_file(const std::string& path) {
  check_utf8(path, "the recipe's name");
  const std::string run = run_of(path);
  const std::string file = run.empty() ? path : run + "/recipe.yaml";
  const std::string text = molt::read_file(file);
  check_one_document(text, file);
  YamlNode root = parse(text, file);
  if (run.empty() || !root.is_map()) return root;
  std::error_code none;
  const bool there = root.has("output_dir") && root.child("output_dir").is_scalar() &&
                     std::filesystem::equivalent(root.child("output_dir").scalar(), run, none);
  if (!there) root.set("output_dir", parse(Json(run).dump(), file));
  return root;
}

namespace {

/// Whether a text begins as a map, a list or a quoted word, and is nothing but one: {a: 1}, and not {a}: {b}.
bool all_structure(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t"), last = text.find_last_not_of(" \t");
  if (first == std::string::npos || std::string_view("{[\"'").find(text[first]) == std::string_view::npos) return false;
  int depth = 0;
  for (size_t i = first; i < last; ++i) {
    depth += text[i] == '{' || text[i] == '[';
    depth -= text[i] == '}' || text[i] == ']';
    if (depth == 0 && (text[i] == '}' || text[i] == ']')) return false;
  }
  return true;
}

/// A value from the command line. What is no YAML is text, such as "Question: {q} Answer: ".
YamlNode parse_override(const std::string& text, const std::string& where) {
  try {
    return YamlNode::parse(text, where);
  } catch (const UsageError&) {
    if (all_structure(text)) throw;
    return YamlNode(std::make_shared<YamlNode::State>(YamlNode::State{YAML::Node(text), where, ""}));
  }
}

}  // namespace

void YamlNode::apply(const std::string& assignment) {
  const size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0)
    usage_error("override '", assignment, "': expected key=value, such as learning_rate=1e-3");
  check_utf8(assignment, "override '" + assignment + "'");
  const std::string key = assignment.substr(0, equals);
  const YamlNode value = parse_override(assignment.substr(equals + 1), "override '" + assignment + "'");
  std::vector<YAML::Node> chain = {state_->node};
  for (size_t begin = 0; begin <= key.size();) {
    const size_t dot = std::min(key.find('.', begin), key.size());
    const std::string part = key.substr(begin, dot - begin);
    const bool last = dot == key.size();
    YAML::Node at = chain.back();
    if (at.IsSequence()) {
      const size_t index = static_cast<size_t>(std::strtoul(part.c_str(), nullptr, 10));
      if (index >= at.size()) usage_error("override '", assignment, "': the list has ", at.size(), " entries");
      if (last) {
        at[index] = value.state_->node;
      } else {
        chain.push_back(at[index]);
      }
    } else {
      if (at.IsScalar()) usage_error("override '", assignment, "': ", part, " lies below a plain value");
      if (last) {
        at[part] = assignment.size() == equals + 1 ? YAML::Node("") : value.state_->node;
      } else {
        if (!at[part].IsDefined() || at[part].IsNull()) at[part] = YAML::Node(YAML::NodeType::Map);
        chain.push_back(at[part]);
      }
    }
    begin = dot + 1;
  }
  if (!state_->overrides) state_->overrides = std::make_shared<std::map<std::string, State::Override>>();
  (*state_->overrides)[key] = {assignment, assignment.substr(equals + 1)};
}

YamlNode YamlNode::copy() const {
  return YamlNode(std::make_shared<State>(
      State{YAML::Clone(state_->node), state_->file, state_->path, state_->overrides, state_->line}));
}
void YamlNode::set(const std::string& key, const YamlNode& value) { state_->node[key] = value.state_->node; }
void YamlNode::erase(const std::string& key) { state_->node.remove(key); }

bool YamlNode::has(const std::string& key) const {
  const YAML::Node& node = state_->node;
  return node.IsMap() && node[key].IsDefined();
}

YamlNode YamlNode::child(const std::string& key) const {
  const YAML::Node& node = state_->node;
  return YamlNode(below(*state_, node[key], key));
}

bool YamlNode::is_map() const { return state_->node.IsMap(); }
bool YamlNode::is_scalar() const { return state_->node.IsScalar(); }
bool YamlNode::is_list() const { return state_->node.IsSequence(); }
std::string YamlNode::scalar() const { return scalar_as<std::string>(*state_); }

std::vector<YamlNode> YamlNode::items() const {
  std::vector<YamlNode> out;
  int i = 0;
  for (const auto& item : state_->node) out.emplace_back(below(*state_, item, std::to_string(i++)));
  return out;
}

std::vector<std::string> YamlNode::keys() const {
  std::vector<std::string> out;
  if (!is_map()) return out;
  for (const auto& item : state_->node) out.push_back(item.first.Scalar());
  return out;
}

YamlNode YamlNode::empty_map() const {
  State state = *state_;
  state.line = state_->line >= 0 ? state_->line : state_->node.Mark().line;
  state.node = YAML::Node(YAML::NodeType::Map);
  return YamlNode(std::make_shared<State>(std::move(state)));
}

std::string YamlNode::where() const { return state_->where(); }

std::string YamlNode::dump() const {
  YAML::Emitter out;
  out << state_->node;
  return std::string(out.c_str()) + "\n";
}

YamlReader::YamlReader(YamlNode node) : node_(std::move(node)) {
  if (!node_.is_map()) usage_error(node_.where(), ": expected keys and values");
}

template <class T>
void YamlReader::read(const char* name, T& value) {
  known_.push_back(name);
  if (node_.has(name)) convert(*node_.child(name).state_, value);
}

void YamlReader::field(const char* name, std::string& value, const char*) { read(name, value); }
void YamlReader::field(const char* name, int64_t& value, const char*) { read(name, value); }
void YamlReader::field(const char* name, double& value, const char*) { read(name, value); }
void YamlReader::field(const char* name, bool& value, const char*) { read(name, value); }
void YamlReader::field(const char* name, std::vector<std::string>& value, const char*) { read(name, value); }
void YamlReader::field(const char* name, std::optional<int64_t>& value, const char*) { read(name, value); }
void YamlReader::field(const char* name, std::optional<double>& value, const char*) { read(name, value); }
void YamlReader::field(const char* name, std::map<std::string, int64_t>& value, const char*) { read(name, value); }
void YamlReader::field(const char* name, std::map<std::string, double>& value, const char*) { read(name, value); }

void YamlReader::finish() const {
  for (const std::string& key : node_.keys()) {
    if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
    usage_error(node_.child(key).where(), ": unknown key; did you mean ", nearest(key, known_, 3), "?");
  }
}

}  // namespace molt::app
