// Trainable tokens: rows of their own for some tokens in the embedding, and in the head where that is the same matrix.
#pragma once

#include "molt/peft/edit_method.h"

namespace molt::peft {

struct TrainableTokensConfig {
  static constexpr const char* kName = "trainable_tokens";
  static constexpr const char* kSummary = "embeddings of chosen tokens, in a tied head too (PEFT)";
  std::vector<std::string> token_indices = {"0"};
  std::vector<std::string> target_modules = {"embeddings"};

  template <class V>
  void visit(V& v) {
    v.field("token_indices", token_indices, "ids of the tokens that train");
    v.field("target_modules", target_modules, "embeddings");
  }
};

/// The rows of the chosen tokens train; they start as the base's. Count: tokens · D.
class TrainableTokens final : public EditMethod<TrainableTokensConfig> {
 public:
  TrainableTokens(Config config, uint64_t seed, Dtype dtype);
  void attach(const nn::SiteTable& sites) override;
  void bind(nn::EditSet& edits) const override;
  /// With the tied head's rows once more, as PEFT writes them.
  std::vector<std::pair<std::string, Tensor>> adapter_state() const override;
  static constexpr const char* kPeftType = "TRAINABLE_TOKENS";
  static std::vector<MethodOptions> from_peft(const Json& config, const std::string& where);
  Json peft_config() const override;

 private:
  std::vector<int64_t> ids_;
  std::vector<std::pair<const nn::Site*, std::shared_ptr<nn::Edit>>> heads_;
};

}  // namespace molt::peft
