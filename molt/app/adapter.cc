#include "molt/app/adapter.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "molt/app/methods.h"
#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/io/fingerprint.h"
#include "molt/io/finite.h"

namespace molt::app {

using peft::text_in;

namespace {

constexpr int kFormat = 1;

MethodEntry entry_of(const std::string& name, Json options, const std::string& where) {
  options.erase("method");
  return {name, YamlNode::parse(options.dump(), where)};
}

}  // namespace

// As peft 0.21 and transformers 5.23 do.
std::vector<std::string> peer_notes(const io::AdapterFiles& files) {
  const Json type = files.config.value("peft_type", Json());
  const std::string word = type.is_string() ? type.get<std::string>() : type.dump();
  if (word.rfind("MOLT", 0) == 0)
    return {"peft has no method '" + word + "'; for other tools try `molt merge`, which says if it cannot be merged"};
  const std::vector<std::string> known = peft_types();
  if (std::find(known.begin(), known.end(), word) == known.end()) return {};
  std::set<std::string> leaves;
  for (const auto& [name, tensor] : files.tensors) {
    if (const auto key = io::split_peft_key(name)) leaves.insert(key->module.substr(key->module.rfind('.') + 1));
  }
  std::vector<std::string> notes;
  for (const char* refused : {"out_proj", "conv1d"}) {
    if (leaves.count(refused) && (word == "LORA" || word == "ADALORA"))
      notes.push_back(str("peft refuses adapters on ", refused,
                          " of Mamba (its fused kernel would bypass them); for other tools run `molt merge`"));
  }
  if (leaves.count("dt_proj"))
    notes.push_back(
        "transformers' Mamba reads dt_proj.weight directly, so peft loads this adapter but dt_proj's part has no "
        "effect there; for other tools run `molt merge`");
  return notes;
}

namespace {

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

/// Where methods of one adapter have tensors of the same name, those of the I-th stand under "method.I/".
std::vector<bool> clashing(const std::vector<io::NamedTensors>& states) {
  std::set<std::string> names;
  std::vector<bool> clashes;
  for (const io::NamedTensors& state : states) {
    bool clash = false;
    for (const auto& [name, tensor] : state) clash = clash || names.count(name) > 0;
    for (const auto& [name, tensor] : state) names.insert(name);
    clashes.push_back(clash);
  }
  return clashes;
}

std::string own_prefix(size_t method) { return str("method.", method, "/"); }

}  // namespace

std::vector<std::string> save_adapter(const std::string& directory, const std::vector<nn::Method*>& methods,
                                      const models::LoadedModel& base, const std::string& base_path) {
  io::AdapterFiles files;
  std::vector<std::string> notes;
  Json entries = Json::array();
  std::vector<io::NamedTensors> states;
  for (const nn::Method* method : methods) {
    entries.push_back(method->config_json());
    states.push_back(method->adapter_state());
  }
  const std::vector<bool> clashes = clashing(states);
  for (size_t m = 0; m < methods.size(); ++m) {
    for (const auto& [name, tensor] : states[m])
      files.tensors.emplace_back(clashes[m] ? own_prefix(m) + name : name, tensor);
  }
  if (methods.size() == 1) {
    try {
      files.config = methods[0]->peft_config();
    } catch (const UsageError& error) {  // what was trained must not be lost for want of a form
      notes.push_back(str("written in Molt's own form, because ", error.what()));
      files.config = nullptr;
    }
  } else {
    files.config = nullptr;
  }
  if (files.config.is_null()) {
    std::string type = "MOLT";
    for (const nn::Method* method : methods) type += str("_", upper(method->name()));
    files.config = peft::peft_base(type.c_str());
  }
  files.config["base_model_name_or_path"] = base_path;
  const Json molt = {{"format", kFormat},
                     {"molt_version", MOLT_VERSION},
                     {"base_fingerprint", base.checkpoint ? io::base_fingerprint(*base.checkpoint) : ""},
                     {"family", base.family->name},
                     {"methods", entries}};
  make_directories(directory);
  write_file_atomic((std::filesystem::path(directory) / "molt.json").string(), molt.dump(2) + "\n");
  io::write_adapter(directory, files);
  for (const std::string& note : peer_notes(files)) notes.push_back(note);
  return notes;
}

AdapterInfo inspect_adapter(const std::string& directory) {
  AdapterInfo info;
  info.config = io::read_adapter(directory).config;
  info.base = text_in(info.config, "base_model_name_or_path", directory + "/adapter_config.json");
  const auto path = std::filesystem::path(directory) / "molt.json";
  if (std::filesystem::exists(path)) {
    info.molt = read_json_file(path.string());
    if (!info.molt.is_object() || info.molt.value("format", Json()) != kFormat)
      usage_error(path.string(), ": expected format ", kFormat, ", found ",
                  info.molt.is_object() ? info.molt.value("format", Json()).dump() : info.molt.type_name());
    if (!info.molt.contains("methods") || !info.molt["methods"].is_array())
      usage_error(path.string(), ": methods is missing");
    for (const Json& entry : info.molt["methods"]) {
      if (!entry.is_object()) usage_error(path.string(), ": methods: expected objects, found ", entry.type_name());
      info.method_names.push_back(text_in(entry, "method", path.string()));
    }
  } else {
    for (const auto& [name, options] : entries_from_peft(info.config, directory + "/adapter_config.json"))
      info.method_names.push_back(name);
  }
  return info;
}

void check_earlier_adapters(const std::vector<MethodEntry>& methods, const models::LoadedModel& base) {
  if (!base.checkpoint) return;
  std::string found;
  for (const MethodEntry& entry : methods) {
    const OrderedJson options = resolved_options(entry);
    if (!options.contains("from") || !options["from"].is_array()) continue;
    for (const OrderedJson& path : options["from"]) {
      const auto directory = path.get<std::string>();
      const AdapterInfo info = inspect_adapter(directory);
      if (info.molt.is_null()) continue;  // a peer's says nothing of its base's weights
      const std::string expected = text_in(info.molt, "base_fingerprint", directory + "/molt.json");
      if (found.empty()) found = io::base_fingerprint(*base.checkpoint);
      if (!expected.empty() && expected != found)
        usage_error(entry.name, ": from: ", directory, " was trained on another base (fingerprint ", expected,
                    ", this model has ", found, ")");
    }
  }
}

LoadedAdapter::LoadedAdapter(const std::string& directory, models::LoadedModel& base, Dtype trainable_dtype)
    : directory_(directory), base_(base), info_(inspect_adapter(directory)) {
  const std::string where = directory + "/adapter_config.json";
  if (info_.molt.is_null()) {
    for (const auto& [name, options] : entries_from_peft(info_.config, where))
      methods_.push_back(make_method(entry_of(name, options, where), 0, trainable_dtype));
  } else {
    const std::string expected = text_in(info_.molt, "base_fingerprint", directory + "/molt.json");
    if (!expected.empty() && base.checkpoint) {
      const std::string found = io::base_fingerprint(*base.checkpoint);
      if (found != expected)
        usage_error(directory, ": was trained on another base (fingerprint ", expected, ", this model has ", found,
                    "); it was ", info_.base.empty() ? "not named" : info_.base);
    }
    for (size_t i = 0; i < info_.method_names.size(); ++i)
      methods_.push_back(make_method(
          entry_of(info_.method_names[i], info_.molt["methods"][i], directory + "/molt.json"), 0, trainable_dtype));
  }
  for (const auto& method : methods_) method->declare(base.model->sites(), base.model->parameters());
}

void LoadedAdapter::finish() {
  const io::AdapterFiles files = io::read_adapter(directory_);
  for (const auto& [name, tensor] : files.tensors) {
    if (!io::all_finite(tensor))
      usage_error(directory_, ": tensor ", name, " holds values that are not finite (NaN or infinity)");
  }
  std::set<std::string> used;
  for (size_t m = 0; m < methods_.size(); ++m) {
    nn::Method& method = *methods_[m];
    method.attach(base_.model->sites());
    const std::string prefix = own_prefix(m);
    io::NamedTensors own;
    for (const auto& [name, tensor] : files.tensors) {
      if (name.rfind(prefix, 0) == 0) own.emplace_back(name.substr(prefix.size()), tensor);
    }
    const bool apart = !own.empty();
    try {
      method.load_state(apart ? own : files.tensors);
    } catch (const UsageError& error) {
      usage_error(directory_, ": ", error.what());
    }
    for (const auto& [name, tensor] : method.adapter_state()) used.insert(apart ? prefix + name : name);
  }
  for (const auto& [name, tensor] : files.tensors) {
    if (!used.count(name))
      usage_error(directory_, ": tensor ", name, " belongs to no target of its config; nothing was loaded");
  }
}

std::vector<nn::Method*> LoadedAdapter::methods() const {
  std::vector<nn::Method*> out;
  for (const auto& method : methods_) out.push_back(method.get());
  return out;
}

void LoadedAdapter::bind(nn::EditSet& edits) const {
  for (const auto& method : methods_) method->bind(edits);
}

}  // namespace molt::app
