#include "molt/app/workspace.h"

#include <filesystem>

#include "molt/app/recipe.h"
#include "molt/base/error.h"
#include "molt/data/encoder.h"
#include "molt/text/chat_template.h"

namespace molt::app {
namespace {

namespace fs = std::filesystem;

Workspace::Options checked(Workspace::Options options) {
  check_threads(options.threads);
  if (!options.adapter.empty()) options.adapters.insert(options.adapters.begin(), options.adapter);
  if (options.model.empty() && options.adapters.empty())
    usage_error("model: is missing: the directory of a checkpoint (--model)");
  if (options.model.empty()) options.model = base_of(options.adapters[0]);
  use_threads(options.threads);
  return options;
}

}  // namespace

std::string base_of(const std::string& adapter) {
  const std::string directory = read_adapter_spec(adapter).parts[0].directory;
  const std::string named = inspect_adapter(directory).base;
  if (!fs::is_directory(named))
    usage_error(directory, ": names '", named, "' as its base, which is no directory here; give it with --model");
  return named;
}

text::Tokenizer open_tokenizer(const std::string& path, const std::string& model_directory, int64_t vocabulary) {
  const std::string from = path.empty() ? model_directory : path;
  if (path.empty() && !fs::exists(fs::path(from) / "tokenizer.json") && !fs::exists(fs::path(from) / "vocab.json"))
    usage_error(from,
                ": holds no tokenizer.json; copy the model's there or name one with tokenizer (state-spaces/mamba "
                "checkpoints use EleutherAI/gpt-neox-20b's)");
  text::Tokenizer tokenizer = text::Tokenizer::load(from);
  if (tokenizer.vocab_size() > vocabulary)
    usage_error(from, ": has ", tokenizer.vocab_size(), " tokens, the model ", vocabulary,
                " rows; it belongs to another model");
  return tokenizer;
}

Workspace::Workspace(Options options)
    : options_(checked(std::move(options))),
      loaded_(models::open_model(options_.model, precision_from(options_.base_dtype, options_.compute))) {
  const Dtype dtype = loaded_.model->precision().activation();
  std::vector<AdapterSpec> specs;
  for (const std::string& text : options_.adapters) specs.push_back(read_adapter_spec(text));
  if (!specs.empty()) adapters_ = std::make_unique<AdapterSet>(std::move(specs), loaded_, dtype);
}

const nn::EditSet& Workspace::edits() {
  if (!ready_) {
    models::load_weights(loaded_);
    if (adapters_) adapters_->finish();
    ready_ = true;
  }
  return adapters_ ? adapters_->edits(0) : no_edits_;
}

std::vector<eval::ModelView> Workspace::views() {
  edits();
  std::vector<eval::ModelView> all;
  for (size_t i = 0; adapters_ && i < adapters_->size(); ++i) all.push_back({*loaded_.model, &adapters_->edits(i)});
  all.push_back({*loaded_.model, &no_edits_});
  return all;
}

std::vector<std::string> Workspace::adapter_names() const {
  std::vector<std::string> names;
  for (size_t i = 0; adapters_ && i < adapters_->size(); ++i) names.push_back(adapters_->name(i));
  return names;
}

size_t Workspace::view_named(const std::string& name, const std::string& where) const {
  const size_t count = adapters_ ? adapters_->size() : 0;
  if (name.empty()) return 0;
  if (name == "none") return count;
  if (!adapters_) usage_error(where, ": asks for adapter '", name, "', but none was given (--adapter ", name, "=DIR)");
  return adapters_->find(name, where);
}

data::Encoder Workspace::encoder() const {
  return data::load_encoder(options_.tokenizer.empty() ? options_.model : options_.tokenizer);
}

std::string Workspace::end_of_turn() const {
  const fs::path from = options_.tokenizer.empty() ? options_.model : options_.tokenizer;
  const fs::path directory = fs::is_directory(from) ? from : from.parent_path();
  const auto found = text::ChatTemplate::of_checkpoint(directory.empty() ? "." : directory.string());
  return (found ? *found : text::ChatTemplate::named("chatml", "")).end_of_turn();
}

const text::Tokenizer& Workspace::tokenizer() {
  if (!tokenizer_) tokenizer_ = open_tokenizer(options_.tokenizer, options_.model, model().plan().vocabulary);
  return *tokenizer_;
}

}  // namespace molt::app
