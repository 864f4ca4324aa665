#include "molt/app/workspace.h"

#include <filesystem>

#include "molt/app/recipe.h"
#include "molt/base/error.h"
#include "molt/data/encoder.h"

namespace molt::app {
namespace {

namespace fs = std::filesystem;

}  // namespace

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

Workspace::Workspace(const Options& options)
    : options_(options),
      loaded_(models::open_model(options.model, precision_from(options.base_dtype, options.compute))) {
  const Dtype dtype = loaded_.model->precision().activation();
  if (!options.adapter.empty()) adapter_ = std::make_unique<LoadedAdapter>(options.adapter, loaded_, dtype);
  models::load_weights(loaded_);
  if (adapter_) {
    adapter_->finish();
    adapter_->bind(edits_);
  }
}

data::Encoder Workspace::encoder() const {
  return data::load_encoder(options_.tokenizer.empty() ? options_.model : options_.tokenizer);
}

const text::Tokenizer& Workspace::tokenizer() {
  if (!tokenizer_) tokenizer_ = open_tokenizer(options_.tokenizer, options_.model, model().plan().vocabulary);
  return *tokenizer_;
}

}  // namespace molt::app
