#include "molt/peft/prompt.h"

#include <algorithm>

#include "molt/base/error.h"
#include "molt/base/rng.h"
#include "molt/nn/parameter.h"
#include "molt/peft/sizes.h"
#include "molt/tensor/matrix_view.h"

namespace molt::peft {
namespace {

constexpr const char* kKey = "prompt_embeddings";

class LearnedPrompt final : public TargetEdit {
 public:
  LearnedPrompt(const nn::Target& target, const PromptConfig& config, uint64_t seed, Dtype dtype)
      : TargetEdit(target),
        sampled_(config.prompt_tuning_init == "SAMPLE_VOCAB"),
        rng_(seed, name_of("prompt")),
        rows_(Var::leaf(Tensor::zeros({config.num_virtual_tokens, target.site->shape[1]}, dtype))) {
    reset();
  }
  void reset() override {
    Tensor rows = rows_.value();
    if (sampled_) {
      const nn::Parameter* table = target_.site->parameter;
      if (!table || (!table->var.defined() && !table->packed)) return;  // nothing is loaded: somebody only counts
      const auto vocabulary = static_cast<uint32_t>(table->shape[0]);
      for (int64_t m = 0; m < rows.rows(); ++m) {
        Tensor row = rows.row_range(m, 1);
        const int64_t id = rng_.below(static_cast<uint64_t>(m), vocabulary);
        if (table->var.defined()) {
          row.copy_from(table->var.value().row_range(id, 1));
        } else {
          table->packed->read_rows(id, matrix_view(row));  // a tied table lives in the head's packed copy only
        }
      }
      return;
    }
    std::vector<double> values(static_cast<size_t>(rows.numel()));
    for (size_t i = 0; i < values.size(); ++i) values[i] = rng_.normal(i);
    rows.copy_from(Tensor::from(values, rows.shape()));
  }
  Var rows_before(const nn::EditContext&) const override { return rows_; }
  void merge(const nn::Site& site, const Tensor&) const override {
    usage_error(site.path,
                ": learned embeddings before the tokens are no weight of a checkpoint; they stay an adapter");
  }
  bool covers_shared_weight() const override { return true; }  // it changes none; merge() says what it is
  std::vector<nn::Trainable> trainables() const override { return {{name_of("prompt"), rows_, true}}; }

 private:
  bool sampled_;
  Rng rng_;
  Var rows_;
};

}  // namespace

PromptTuning::PromptTuning(PromptConfig config, uint64_t seed, Dtype dtype)
    : EditMethod(std::move(config), seed, dtype) {
  check_size("prompt_tuning: num_virtual_tokens", config_.num_virtual_tokens);
  if (config_.prompt_tuning_init != "RANDOM" && config_.prompt_tuning_init != "SAMPLE_VOCAB")
    usage_error("prompt_tuning: prompt_tuning_init must be RANDOM or SAMPLE_VOCAB, is '", config_.prompt_tuning_init,
                "'");
}

void PromptTuning::attach(const nn::SiteTable& sites) {
  for (const nn::Site& site : sites.all()) {
    layers_ = std::max<int64_t>(layers_, site.layer + 1);
    if (site.kind != nn::SiteKind::kEmbedding) continue;
    if (!edits_.empty())
      usage_error("prompt_tuning: the model has several embeddings; it is not clear which to prompt");
    edits_.push_back(std::make_shared<LearnedPrompt>(nn::Target{&site, nullptr}, config_, seed_, dtype_));
    width_ = site.shape[1];
  }
  if (edits_.empty()) usage_error("prompt_tuning: the model has no embedding");
  coverage_ = str(config_.num_virtual_tokens, " rows before the first layer");
}

std::vector<std::pair<std::string, Tensor>> PromptTuning::state() const {
  return {{kKey, edits_.at(0)->tensors().at(0).second}};
}

void PromptTuning::load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) {
  Tensor to = edits_.at(0)->tensors().at(0).second;
  to.copy_from(stored_tensor(tensors, kKey, to.shape()));
}

// peft asks for a number of attention heads whatever the model; nothing reads it for prompts.
Json PromptTuning::peft_config() const {
  Json json = peft_base(kPeftType);
  json["num_virtual_tokens"] = config_.num_virtual_tokens;
  json["token_dim"] = width_;
  json["num_transformer_submodules"] = 1;
  json["num_attention_heads"] = 1;
  json["num_layers"] = layers_;
  json["prompt_tuning_init"] = "RANDOM";
  json["prompt_tuning_init_text"] = nullptr;
  json["tokenizer_name_or_path"] = nullptr;
  return json;
}

std::vector<MethodOptions> PromptTuning::from_peft(const Json& config, const std::string& where) {
  refuse_set(config, {"modules_to_save"}, where);
  if (config.contains("num_transformer_submodules") && !config["num_transformer_submodules"].is_null() &&
      config["num_transformer_submodules"] != 1)
    usage_error(where, ": num_transformer_submodules must be 1, is ", config["num_transformer_submodules"].dump());
  return {{PromptConfig::kName, taken(config, {"num_virtual_tokens"})}};
}

}  // namespace molt::peft
