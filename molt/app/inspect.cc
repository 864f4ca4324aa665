#include "molt/app/inspect.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "molt/app/layer_pattern.h"
#include "molt/app/recipe.h"
#include "molt/app/workspace.h"
#include "molt/base/error.h"
#include "molt/base/format.h"
#include "molt/io/fingerprint.h"
#include "molt/models/load.h"
#include "molt/text/chat_template.h"

namespace molt::app {
namespace {

namespace fs = std::filesystem;

std::string shape_text(const nn::LanguageModelPlan& plan) {
  const nn::MambaConfig& m = plan.layers.at(0).mixer;
  return str(plan.layers.size(), " layers, width D ", plan.d_model, ", inner width E ", m.d_inner, ", states N ",
             m.d_state, ", convolution K ", m.d_conv, ", dt rank R ", m.dt_rank);
}

/// The tokenizer beside a model, or why there is none that can be used.
std::string tokenizer_text(const std::string& directory, int64_t vocabulary) {
  if (!fs::is_regular_file(fs::path(directory) / "tokenizer.json") &&
      !fs::is_regular_file(fs::path(directory) / "vocab.json"))
    return "none here; recipes and verbs take one with tokenizer: PATH";
  try {
    const text::Tokenizer tokenizer = open_tokenizer("", directory, vocabulary);
    std::string text = str(format_integer(tokenizer.vocab_size()), " tokens");
    if (tokenizer.eos_id()) text += ", ends with " + tokenizer.id_to_token(*tokenizer.eos_id()).value_or("?");
    return text;
  } catch (const UsageError& e) {
    return std::string("none usable: ") + e.what();
  }
}

std::string chat_template_text(const std::string& directory) {
  try {
    const auto found = text::ChatTemplate::of_checkpoint(directory);
    return found ? found->name() : "none";
  } catch (const UsageError& e) {
    return std::string("not one Molt knows: ") + e.what();
  }
}

/// What config.json says it is, where no family reads it.
std::string unread_family(const Json& config) {
  const Json type = config.value("model_type", Json());
  return type.is_string() ? type.get<std::string>() + " (not one Molt reads)"
                          : "unknown (config.json has no model_type)";
}

void add_model_facts(Inspection& found, const std::string& directory) {
  const models::LoadedModel loaded = models::open_model(directory, precision_from("auto", "auto"));
  const nn::LanguageModelPlan& plan = loaded.model->plan();
  const bool transformers = loaded.config.contains("model_type");
  found.facts.emplace_back("Family", str(plan.family, transformers ? " (transformers' layout)" : " (original layout)"));
  found.facts.emplace_back("Shape", shape_text(plan));
  found.facts.emplace_back("Vocabulary", str(format_integer(plan.vocabulary), " rows, head ",
                                             plan.tied_head ? "tied to the embedding" : "of its own"));
  found.facts.emplace_back("Parameters", format_integer(loaded.model->parameter_count()));
  found.problems = models::weight_problems(loaded);
  found.facts.emplace_back("Tokenizer", tokenizer_text(directory, plan.vocabulary));
}

}  // namespace

TensorRow tensor_row(const std::string& name, const io::TensorInfo& info) {
  return {name, info.dtype->word, info.shape, shape_numel(info.shape),
          static_cast<int64_t>(io::dense_bytes(info.shape, *info.dtype).value_or(0))};
}

std::string dtype_summary(const std::vector<TensorRow>& tensors) {
  std::map<std::string, std::pair<int64_t, int64_t>> by_dtype;  // numbers, bytes
  for (const TensorRow& t : tensors) {
    by_dtype[t.dtype].first += t.numbers;
    by_dtype[t.dtype].second += t.bytes;
  }
  std::string text;
  for (const auto& [dtype, sum] : by_dtype)
    text += str(text.empty() ? "" : ", ", dtype, " ", format_count(static_cast<double>(sum.first)), " (",
                format_bytes(sum.second), ")");
  return text.empty() ? "no tensors" : text;
}

std::vector<PartRow> part_rows(const std::vector<PartTensor>& tensors) {
  std::vector<std::string> modules, holds;
  std::vector<PartRow> single;
  std::map<std::string, size_t> place;
  for (const PartTensor& t : tensors) {
    const auto [at, is_new] = place.emplace(t.module, modules.size());
    if (is_new) {
      modules.push_back(t.module);
      holds.emplace_back();
      single.emplace_back();
    }
    std::string& held = holds[at->second];
    held += str(held.empty() ? "" : ", ", t.suffix, " ", shape_str(t.row.shape));
    single[at->second].numbers += t.row.numbers;
    single[at->second].bytes += t.row.bytes;
  }
  std::vector<PartRow> rows;
  for (const PatternGroup& group : group_by_layer(modules, holds)) {
    PartRow row{group.pattern, holds[group.members[0]], static_cast<int64_t>(group.members.size())};
    for (const size_t i : group.members) row.numbers += single[i].numbers, row.bytes += single[i].bytes;
    rows.push_back(std::move(row));
  }
  return rows;
}

int64_t size_on_disk(const std::string& path) {
  std::error_code error;
  if (fs::is_regular_file(path, error)) return static_cast<int64_t>(fs::file_size(path, error));
  int64_t bytes = 0;
  for (fs::recursive_directory_iterator at(path, error), end; !error && at != end; at.increment(error)) {
    std::error_code gone;
    if (at->is_regular_file(gone)) bytes += static_cast<int64_t>(at->file_size(gone));
  }
  return bytes;
}

Inspection inspect_base(const std::string& directory) {
  Inspection found;
  found.kind = "base model";
  const io::Checkpoint checkpoint(directory);
  for (const std::string& name : checkpoint.names()) found.tensors.push_back(tensor_row(name, checkpoint.info(name)));
  if (!checkpoint.has_config()) {
    found.facts.emplace_back("Family", "unknown");
    found.problems.push_back("there is no config.json");
  } else {
    try {
      add_model_facts(found, directory);
    } catch (const UsageError& e) {
      found.facts.emplace_back("Family", unread_family(checkpoint.config()));
      found.problems.push_back(e.what());
    }
  }
  found.facts.emplace_back("Chat template", chat_template_text(directory));
  found.facts.emplace_back("Numbers", dtype_summary(found.tensors));
  std::string files;
  for (const std::string& file : checkpoint.files())
    files += str(files.empty() ? "" : ", ", fs::path(file).filename().string(), " ", format_bytes(size_on_disk(file)));
  found.facts.emplace_back("Files", files);
  found.facts.emplace_back("Fingerprint", io::base_fingerprint(checkpoint));
  return found;
}

Inspection inspect_tensor_file(const std::string& path) {
  Inspection found;
  found.kind = "tensor file";
  const auto file = io::open_tensor_file(path);
  for (const std::string& name : file->names()) found.tensors.push_back(tensor_row(name, file->info(name)));
  found.facts.emplace_back("Tensors", std::to_string(found.tensors.size()));
  found.facts.emplace_back("Numbers", dtype_summary(found.tensors));
  found.facts.emplace_back("Size", format_bytes(size_on_disk(path)));
  return found;
}

Inspection inspect(const std::string& path, const std::string& base) {
  std::error_code error;
  if (fs::is_directory(path, error)) {
    const auto holds = [&](const char* name) {
      std::error_code e;
      return fs::exists(fs::path(path) / name, e);
    };
    if (holds("run.json")) return inspect_run(path);
    if (holds("adapters.safetensors")) return inspect_mlx_adapter(path);
    if (holds("adapter_config.json") || holds("adapter_model.safetensors"))
      return inspect_adapter_directory(path, base);
    if (holds("config.json") || holds("model.safetensors") || holds("pytorch_model.bin")) return inspect_base(path);
    usage_error(path,
                ": expected a base model (config.json), an adapter (adapter_config.json), a run (run.json) or a file "
                "of tensors");
  }
  if (!fs::exists(path, error)) usage_error(path, ": there is no such file or directory");
  const std::string end = fs::path(path).extension().string();
  if (end == ".gguf") return inspect_gguf(path);
  static const std::set<std::string> kKnown = {".safetensors", ".bin", ".pt", ".pth"};
  if (!kKnown.count(end))
    usage_error(path, ": expected a directory, or a file of tensors (.safetensors, .gguf, .bin, .pt, .pth)");
  return inspect_tensor_file(path);
}

}  // namespace molt::app
