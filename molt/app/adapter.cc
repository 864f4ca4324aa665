#include "molt/app/adapter.h"

#include <filesystem>
#include <set>

#include "molt/app/methods.h"
#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/io/fingerprint.h"
#include "molt/peft/lora.h"

namespace molt::app {
namespace {

constexpr int kFormat = 1;

/// A text that a file may say; anything else in its place is refused.
std::string text_in(const Json& object, const char* key, const std::string& where, const std::string& absent = "") {
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return absent;
  if (!it->is_string()) usage_error(where, ": ", key, ": expected text, found ", it->dump().substr(0, 60));
  return it->get<std::string>();
}

/// PEFT's LoRA config as ours. Refuses what would change the meaning if it were ignored.
Json lora_options(const Json& config, const std::string& where) {
  auto refuse = [&](const char* key, const char* why) { usage_error(where, ": ", key, " ", why); };
  auto set = [&](const char* key) {
    return config.contains(key) && !config[key].is_null() && config[key] != false && !config[key].empty();
  };
  if (set("use_dora")) refuse("use_dora", "is set; DoRA adapters are not supported yet");
  if (text_in(config, "bias", where, "none") != "none")
    refuse("bias", "is not \"none\"; trained biases are not supported yet");
  for (const char* key : {"modules_to_save", "target_parameters", "trainable_token_indices", "layer_replication",
                          "layers_to_transform", "exclude_modules", "lora_bias", "use_qalora", "use_bdlora",
                          "alora_invocation_tokens", "kasa_config", "velora_config", "monteclora_config"}) {
    if (set(key)) refuse(key, "is set, which this version cannot honour");
  }
  if (!config.contains("target_modules")) refuse("target_modules", "is missing");
  Json options = Json::object();
  for (const char* key :
       {"r", "lora_alpha", "lora_dropout", "use_rslora", "target_modules", "rank_pattern", "alpha_pattern"}) {
    if (config.contains(key) && !config[key].is_null()) options[key] = config[key];
  }
  return options;
}

MethodEntry entry_of(const std::string& name, Json options, const std::string& where) {
  options.erase("method");
  return {name, YamlNode::parse(options.dump(), where)};
}

}  // namespace

// As peft 0.21 and transformers 5.23 do.
std::vector<std::string> peer_notes(const io::AdapterFiles& files) {
  const Json type = files.config.value("peft_type", Json());
  if (type != "LORA") {
    const std::string word = type.is_string() ? type.get<std::string>() : type.dump();
    if (word.rfind("MOLT", 0) != 0) return {};
    return {"peft has no method '" + word + "'; for other tools run `molt merge`"};
  }
  std::set<std::string> leaves;
  for (const auto& [name, tensor] : files.tensors) {
    if (const auto key = io::split_peft_key(name)) leaves.insert(key->module.substr(key->module.rfind('.') + 1));
  }
  std::vector<std::string> notes;
  for (const char* refused : {"out_proj", "conv1d"}) {
    if (leaves.count(refused))
      notes.push_back(str("peft refuses adapters on ", refused,
                          " of Mamba (its fused kernel would bypass them); for other tools run `molt merge`"));
  }
  if (leaves.count("dt_proj"))
    notes.push_back(
        "transformers' Mamba reads dt_proj.weight directly, so peft loads this adapter but dt_proj's part has no "
        "effect there; for other tools run `molt merge`");
  return notes;
}

std::vector<std::string> save_adapter(const std::string& directory, const std::vector<nn::Method*>& methods,
                                      const models::LoadedModel& base, const std::string& base_path) {
  io::AdapterFiles files;
  Json entries = Json::array();
  for (const nn::Method* method : methods) {
    entries.push_back(method->config_json());
    for (const auto& tensor : method->state()) files.tensors.push_back(tensor);
  }
  const auto* lora = methods.size() == 1 ? dynamic_cast<const peft::Lora*>(methods[0]) : nullptr;
  if (lora) {
    files.config = lora->peft_config();
  } else {
    std::string type = "MOLT";
    for (const nn::Method* method : methods) type += "_" + method->name();
    for (char& c : type) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    files.config = {{"peft_type", type}, {"task_type", "CAUSAL_LM"}, {"inference_mode", true}};
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
  return peer_notes(files);
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
    const std::string type = text_in(info.config, "peft_type", directory + "/adapter_config.json", "nothing");
    if (type != "LORA")
      usage_error(directory, "/adapter_config.json: peft_type is ", type, "; without molt.json only LORA can be read");
    lora_options(info.config, directory + "/adapter_config.json");  // for what it refuses
    info.method_names = {"lora"};
  }
  return info;
}

LoadedAdapter::LoadedAdapter(const std::string& directory, models::LoadedModel& base, Dtype trainable_dtype)
    : directory_(directory), base_(base), info_(inspect_adapter(directory)) {
  const std::string where = directory + "/adapter_config.json";
  if (info_.molt.is_null()) {
    methods_.push_back(make_method(entry_of("lora", lora_options(info_.config, where), where), 0, trainable_dtype));
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
  std::set<std::string> used;
  for (const auto& method : methods_) {
    method->attach(base_.model->sites());
    try {
      method->load_state(files.tensors);
    } catch (const UsageError& error) {
      usage_error(directory_, ": ", error.what());
    }
    for (const auto& [name, tensor] : method->state()) used.insert(name);
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
