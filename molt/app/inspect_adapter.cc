// Looking into an adapter directory.
#include <algorithm>
#include <filesystem>

#include "molt/app/adapter.h"
#include "molt/app/inspect.h"
#include "molt/app/methods.h"
#include "molt/app/recipe.h"
#include "molt/base/error.h"
#include "molt/base/format.h"
#include "molt/io/adapter.h"
#include "molt/io/fingerprint.h"

namespace molt::app {
namespace {

namespace fs = std::filesystem;

/// The tensors by their parts; those of the I-th of several methods keep its number.
std::vector<PartTensor> parts_of(const std::vector<TensorRow>& tensors) {
  std::vector<PartTensor> parts;
  for (const TensorRow& t : tensors) {
    const size_t slash = t.name.rfind("method.", 0) == 0 ? t.name.find('/') : std::string::npos;
    const std::string method = slash == std::string::npos ? "" : t.name.substr(0, slash + 1);
    const auto key = io::split_peft_key(t.name.substr(method.size()));
    parts.push_back({method + (key ? key->module : t.name), key ? key->suffix : "", t});
    if (parts.back().module.empty()) parts.back().module = "(before the text)";
  }
  return parts;
}

/// What the base, if it is there, adds: whether it is the right one, what the methods cover and train.
void add_base_facts(Inspection& found, const std::string& directory, const AdapterInfo& info,
                    const std::string& base_at) {
  const Json named = info.config.value("base_model_name_or_path", Json());
  const std::string path = !base_at.empty() ? base_at : named.is_string() ? named.get<std::string>() : "";
  const std::string expected = info.molt.is_object() ? info.molt.value("base_fingerprint", std::string()) : "";
  std::error_code error;
  if (base_at.empty() && !fs::is_directory(path, error)) {
    found.facts.emplace_back("Base", path.empty() ? "not named" : path + " (not there)");
    if (!expected.empty()) found.facts.emplace_back("Base's fingerprint", expected);
    return;
  }
  try {
    models::LoadedModel base = models::open_model(path, precision_from("auto", "auto"));
    const std::string there = io::base_fingerprint(*base.checkpoint);
    const bool same = expected.empty() || there == expected;
    found.facts.emplace_back("Base", str(path, same ? " (there)" : " (another model lies there now)"));
    found.facts.emplace_back("Base's fingerprint", expected.empty() ? "not recorded" : expected);
    if (!same) {
      found.problems.push_back(str(path, " has fingerprint ", there, "; the adapter was trained on ", expected));
      return;
    }
    LoadedAdapter adapter(directory, base, Dtype::kF32);
    int64_t trainable = 0, total = base.model->parameter_count();
    for (nn::Method* method : adapter.methods()) {
      method->attach(base.model->sites());
      const int64_t count = method->trainable_count();
      trainable += count;
      if (method->base_trainables().empty()) total += count;  // else they are the base's own
      found.facts.emplace_back(
          "Covers", str(method->name(), ": ", method->coverage(), ", ", format_integer(count), " trainable"));
    }
    found.facts.emplace_back("Trainable",
                             str(format_integer(trainable), " of ", format_integer(total), " (",
                                 format_percent(static_cast<double>(trainable) / static_cast<double>(total)), ")"));
  } catch (const UsageError& e) {
    found.problems.push_back(e.what());
  }
}

}  // namespace

std::string options_text(const Json& options) {
  std::string text;
  for (const auto& [key, value] : options.items()) {
    if (key == "method" || value.is_null() || (value.is_structured() && value.empty())) continue;
    text += str(text.empty() ? "" : ", ", key, ": ", value.is_string() ? value.get<std::string>() : value.dump());
  }
  return text;
}

Inspection inspect_adapter_directory(const std::string& directory, const std::string& base) {
  Inspection found;
  found.kind = "adapter";
  const io::AdapterFiles files = io::read_adapter(directory);
  int64_t stored = 0;
  for (const auto& [name, tensor] : files.tensors) {
    found.tensors.push_back(tensor_row(name, {&io::file_dtype(tensor.dtype()), tensor.shape()}));
    if (tensor.dtype() != Dtype::kI64) stored += tensor.numel();
  }
  AdapterInfo info;
  info.config = files.config;
  const Json type = files.config.value("peft_type", Json());
  const std::string type_word = type.is_string() ? type.get<std::string>() : "nothing";
  try {
    info = inspect_adapter(directory);
  } catch (const UsageError& e) {
    found.problems.push_back(e.what());
  }
  if (info.molt.is_object()) {
    found.facts.emplace_back("Written by", "molt " + info.molt.value("molt_version", std::string("?")));
    for (const Json& entry : info.molt["methods"])
      found.facts.emplace_back("Method", str(entry.value("method", std::string("?")), " {", options_text(entry), "}"));
  } else {
    const Json version = files.config.value("peft_version", Json());
    found.facts.emplace_back("Written by",
                             version.is_string() ? "peft " + version.get<std::string>() : "not by molt (no molt.json)");
    std::vector<peft::MethodOptions> methods;
    if (found.problems.empty()) methods = entries_from_peft(files.config, directory);
    for (const auto& [name, options] : methods)
      found.facts.emplace_back("Method", str(name, " {", options_text(options), "}"));
    if (methods.empty()) found.facts.emplace_back("Method", "peft_type " + type_word);
  }
  found.parts = part_rows(parts_of(found.tensors));
  if (found.problems.empty()) add_base_facts(found, directory, info, base);
  found.facts.emplace_back("Numbers", str(format_integer(stored), " stored: ", dtype_summary(found.tensors)));
  found.facts.emplace_back("Size", format_bytes(size_on_disk(directory)));
  const std::vector<std::string> peers = peer_notes(files);
  found.facts.emplace_back("peft reads it", type_word.rfind("MOLT", 0) == 0 ? "no"
                                            : peers.empty()                 ? "yes"
                                                                            : "not as it is meant");
  found.notes.insert(found.notes.end(), peers.begin(), peers.end());
  return found;
}

}  // namespace molt::app
