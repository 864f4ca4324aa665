// Looking into what mlx-lm and llama.cpp keep.
#include <filesystem>

#include "molt/app/inspect.h"
#include "molt/base/error.h"
#include "molt/base/format.h"
#include "molt/io/checkpoint.h"
#include "molt/io/gguf.h"
#include "molt/io/safetensors.h"

namespace molt::app {
namespace {

namespace fs = std::filesystem;

/// "backbone.layers.0.mixer.in_proj.lora_a" is the part before the last dot and what stands behind it.
PartTensor split_at_last_dot(const TensorRow& row) {
  const size_t dot = row.name.rfind('.');
  if (dot == std::string::npos) return {row.name, "", row};
  return {row.name.substr(0, dot), row.name.substr(dot + 1), row};
}

std::vector<PartRow> parts_of(const std::vector<TensorRow>& tensors) {
  std::vector<PartTensor> parts;
  for (const TensorRow& row : tensors) parts.push_back(split_at_last_dot(row));
  return part_rows(parts);
}

void add_sizes(Inspection& found, const std::string& path) {
  int64_t numbers = 0;
  for (const TensorRow& t : found.tensors) numbers += t.numbers;
  found.facts.emplace_back("Numbers", str(format_integer(numbers), " stored: ", dtype_summary(found.tensors)));
  found.facts.emplace_back("Size", format_bytes(size_on_disk(path)));
}

const char* const kConvert = "`molt convert` turns it into an adapter that molt opens";

}  // namespace

Inspection inspect_mlx_adapter(const std::string& directory) {
  Inspection found;
  found.kind = "mlx-lm adapter";
  const io::SafetensorsFile file((fs::path(directory) / "adapters.safetensors").string());
  for (const std::string& name : file.names()) found.tensors.push_back(tensor_row(name, file.info(name)));
  const std::string where = (fs::path(directory) / "adapter_config.json").string();
  const Json config = io::read_python_json(where);
  if (!config.is_object()) usage_error(where, ": expected a JSON object, found ", config.type_name());
  const auto word = [](const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); };
  const std::string kind = word(config.value("fine_tune_type", Json("lora")));
  const Json parameters = config.value("lora_parameters", Json::object());
  found.facts.emplace_back("Method",
                           str(kind, " {", options_text(parameters.is_object() ? parameters : Json::object()), "}"));
  if (config.contains("num_layers"))  // -1: mlx-lm's word for every layer
    found.facts.emplace_back("Layers",
                             config["num_layers"] == -1 ? "all" : str("the last ", word(config["num_layers"])));
  found.facts.emplace_back("Base", config.contains("model") ? word(config["model"]) : "not named");
  found.parts = parts_of(found.tensors);
  add_sizes(found, directory);
  if (kind == "lora" || kind == "dora") found.notes.push_back(kConvert);
  return found;
}

Inspection inspect_gguf(const std::string& path) {
  Inspection found;
  const io::GgufFile file(path);
  const auto fact = [&](const char* label, const char* key) {
    const auto at = file.metadata().find(key);
    if (at != file.metadata().end()) found.facts.emplace_back(label, at->second.str());
    return at == file.metadata().end() ? std::string() : at->second.str();
  };
  const bool adapter = file.metadata().count("general.type") && file.metadata().at("general.type").str() == "adapter";
  found.kind = adapter ? "GGUF adapter" : "GGUF model";
  for (const std::string& name : file.names()) {
    found.tensors.push_back(tensor_row(name, file.info(name)));
    found.tensors.back().bytes = static_cast<int64_t>(file.bytes(name));
  }
  fact("Name", "general.name");
  const std::string architecture = fact("Architecture", "general.architecture");
  if (adapter) {
    fact("Method", "adapter.type");
    fact("lora_alpha", "adapter.lora.alpha");
    found.parts = parts_of(found.tensors);
    found.notes.push_back(kConvert);
  } else {
    for (const auto& [key, value] : file.metadata()) {
      if (key.rfind(architecture + ".", 0) == 0)
        found.facts.emplace_back(key.substr(architecture.size() + 1), value.str());
    }
    fact("Tokens", "tokenizer.ggml.tokens");
    fact("Words are cut as", "tokenizer.ggml.pre");
  }
  add_sizes(found, path);
  return found;
}

}  // namespace molt::app
